/* Hostile and random text: recorded configurations, mutated and spliced, in blocks of their exact
 * size, with enough memory and with too little. And round trips: random options are written, and
 * come back when they are read; what was read is written, and comes back. 100,000 texts and 20,000
 * options; with TEST_LONG=1 ten times as many. */
#include "directive_support.h"

#include "directive_corpus.h"

enum { TEXTS = 100000, OPTIONS = 20000, MOST = 8192 };

static reading strict, lenient, again;

static int times(int n) { return test_long() ? 10 * n : n; }

/* -- texts -- */

static char rows[CORPUS_ROWS][CORPUS_LINE / 4];

static void load_rows(void)
{
    static corpus_row row;
    FILE *file = corpus_open();
    size_t n = 0;

    for (; corpus_next(file, &row); n++) {
        assert_true(row.size < sizeof rows[n]);
        memcpy(rows[n], row.config, row.size + 1);
    }
    fclose(file);
    assert_int_equal(n, CORPUS_ROWS);
}

static const char *const pieces[] = {"{",
                                     "}",
                                     " {\n",
                                     "\n}\n",
                                     "\"",
                                     "\\",
                                     "\\\"",
                                     "#",
                                     " # ",
                                     "\n",
                                     "\r",
                                     "\r\n",
                                     " ",
                                     "\t",
                                     "{$A}",
                                     "{%A%}",
                                     "{$B}",
                                     "{%B%}",
                                     "{$SELF}",
                                     "{$TWICE}",
                                     "{$LINES}",
                                     "{$OPEN}",
                                     "{$BRACE}",
                                     "{$CLOSE}",
                                     "{$NONE}",
                                     "{$}",
                                     "{$",
                                     "{%",
                                     "%}",
                                     "$}",
                                     "dnstap ",
                                     "\ndnstap ",
                                     "listen ",
                                     "full ",
                                     "identity ",
                                     "version x",
                                     "extra \"{/a}\"",
                                     "tls ",
                                     "skipverify ",
                                     "import ",
                                     "(x)",
                                     "forward . ",
                                     "tls_ca a",
                                     "tls_cert a b ",
                                     "tls_name ",
                                     "queue 3 ",
                                     "writebuffer 4 ",
                                     "flush 1m2s ",
                                     "flush now",
                                     "timeout 5ms ",
                                     "unidirectional ",
                                     "drop_when_disconnected ",
                                     "socket_mode 0660 ",
                                     "max_sinks 9 ",
                                     "types CQ client_response 15 ",
                                     "types ",
                                     "rcode NXDOMAIN 3 4095 ",
                                     "rcode ",
                                     "zone . a\nzone a.b ",
                                     "zone ",
                                     "zone a. b. c. d. e. f. g. h. ",
                                     "\\046.",
                                     "sample 10 ",
                                     "anonymize 24 0 ",
                                     "anonymize 32\n",
                                     "tcp://h:1 ",
                                     "tls://[::1]:1 ",
                                     "unix://",
                                     "file:///x ",
                                     "/s ",
                                     "a@",
                                     "/p?q",
                                     "%25",
                                     "%zz",
                                     ":",
                                     "1",
                                     "1024 ",
                                     "-",
                                     "+",
                                     "99999999999999999999",
                                     "\xef\xbb\xbf",
                                     "\xc2\xa0",
                                     "\xe3\x80\x80",
                                     "\xff",
                                     "\xe2\x80",
                                     "\xf0\x9f\x98\x80",
                                     "'",
                                     "iiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiii"};

static void insert(char *text, size_t at, const char *s, size_t n)
{
    size_t size = strlen(text) + 1;

    if (size + n > MOST) return;
    memmove(text + at + n, text + at, size - at);
    memcpy(text + at, s, n);
}

static void change(char *text)
{
    size_t size = strlen(text), at = rnd((uint32_t)size + 1), n;
    const char *other = rows[rnd(CORPUS_ROWS)], *piece;

    switch (rnd(8)) {
    case 0: /* another byte; a NUL is the end */
        if (at < size) text[at] = (char)rnd(256);
        break;
    case 1: /* bytes go */
        n = rnd(20);
        if (n > size - at) n = size - at;
        memmove(text + at, text + at + n, size - at - n + 1);
        break;
    case 2: /* part of another text */
        n = strlen(other);
        other += rnd((uint32_t)n + 1);
        n = rnd((uint32_t)strlen(other) + 1);
        insert(text, at, other, n);
        break;
    case 3: /* one more directive */
        insert(text, size, "\n", 1);
        insert(text, strlen(text), other, strlen(other));
        break;
    default:
        piece = pieces[rnd(sizeof pieces / sizeof *pieces)];
        insert(text, at, piece, strlen(piece));
    }
}

static void make_text(char *text)
{
    uint32_t changes = rnd(6);

    strcpy(text, rows[rnd(CORPUS_ROWS)]);
    while (changes--) change(text);
}

static bool is_utf8(const char *s)
{
    unsigned n;
    uint32_t c;

    for (; *s; s += n)
        if ((n = dnstap__character(s, &c)) == 0) return false;
    return true;
}

/* Every error has a text, and a place that is in the text. */
static void check_error(const reading *r, const char *text)
{
    int lines = 1;

    for (; *text; text++) lines += *text == '\n';
    assert_true(r->count == DNSTAP_BAD_OPTION || r->count == DNSTAP_NO_MEMORY);
    assert_int_equal(r->error.code, r->count);
    assert_in_range(r->error.line, 1, lines);
    assert_in_range(r->error.column, 1, MOST);
    assert_true(strlen(r->error.text) > 20);
    for (text = r->error.text; *text; text++)
        assert_true((unsigned char)*text >= 0x20 && *text != 0x7f);
}

/* Written and read again it is the same. Without variables all that was read can be written. */
static void check_round_trip(const reading *r)
{
    char *out;
    long size;
    int n;

    for (n = 0; n < r->count; n++) {
        size = dnstap_format(&r->taps[n], NULL, 0);
        if (size < 0 && r->asked) continue;
        assert_true(size > 0);
        out = (char *)malloc((size_t)size + 1);
        assert_int_equal(dnstap_format(&r->taps[n], out, (size_t)size + 1), size);
        if (read_text(&again, out, STRICT) != 1) fail_msg("%s%s", out, again.error.text);
        if (!same_options(&again.taps[0], &r->taps[n])) fail_msg("%s", out);
        assert_int_equal(again.taps[0].coredns || r->taps[n].queue > 1 ||
                             r->taps[n].writebuffer > 1,
                         r->taps[n].coredns || r->taps[n].queue > 1 || r->taps[n].writebuffer > 1);
        free(out);
    }
}

/* What is taken strictly and CoreDNS has too means the same leniently. */
static void check_parity(const char *text)
{
    int n;

    for (n = 0; n < strict.count; n++)
        if (!strict.taps[n].coredns) return;
    if (strict.count < 0 || !is_utf8(text)) return;
    if (lenient.count != strict.count) fail_msg("%s: %s", text, lenient.error.text);
    for (n = 0; n < strict.count; n++)
        if (!same_options(&strict.taps[n], &lenient.taps[n])) fail_msg("%s", text);
}

static unsigned taken, refused, starved;

static void check_text(const char *text)
{
    size_t enough = 5 * strlen(text) + 64;

    read_text(&strict, text, STRICT);
    read_text(&lenient, text, LENIENT);
    if (strict.count < 0) check_error(&strict, text);
    if (lenient.count < 0) check_error(&lenient, text);
    strict.count >= 0 ? taken++ : refused++;
    check_parity(text);
    check_round_trip(&strict);
    if (!strict.asked)
        assert_int_not_equal(read_within(&again, text, STRICT, enough), DNSTAP_NO_MEMORY);
    if (!lenient.asked)
        assert_int_not_equal(read_within(&again, text, LENIENT, enough), DNSTAP_NO_MEMORY);
    read_within(&again, text, (int)rnd(2), rnd((uint32_t)enough));
    if (again.count < 0) check_error(&again, text);
    starved += again.count == DNSTAP_NO_MEMORY;
}

static void test_hostile_text_is_read_or_refused_and_nothing_else(void **state)
{
    char text[MOST];
    int i, n = times(TEXTS);

    (void)state;
    load_rows();
    for (i = 0; i < n; i++) {
        make_text(text);
        check_text(text);
    }
    /* all three happened, and often */
    assert_true(taken > (unsigned)n / 20 && refused > (unsigned)n / 20);
    assert_true(starved > (unsigned)n / 20);
}

/* -- options -- */

static char strings[8][64];

/* A string of characters that mean something; sometimes none at all. */
static const char *any_string(int place)
{
    static const char some[] = "ab/.:\"\\#{}$% \t\n\r'=*\xc3\xa4\xff";
    char *s = strings[place];
    size_t n = rnd(12), i;

    if (rnd(3) == 0) return NULL;
    for (i = 0; i < n; i++) s[i] = some[rnd(sizeof some - 1)];
    s[n] = '\0';
    return s;
}

static bool dull(const char *s) { return !s || !strpbrk(s, "\\$%"); }

static void random_options(dnstap_options *o)
{
    static const char *const endpoints[] = {
        "/s",        "/a b\"#c",        "unix://x.sock",  "unix:///t\\", "tcp://127.0.0.1:1",
        "tls://h:1", "tls://[::1]:853", "file:///x.fstrm"};
    static const char *const zones[] = {"a.b", ".", "\\000\\\".c.", "#x", NULL};
    bool secure;

    memset(o, 0, sizeof *o);
    o->listen = rnd(3) == 0;
    o->endpoint = endpoints[rnd(o->listen ? 7 : 8)];
    o->full = rnd(2);
    o->writebuffer = rnd(2) ? 1 : 1 + rnd(1024);
    o->queue = rnd(2) ? 1 : 1 + rnd(4096);
    o->identity = any_string(0);
    o->version = any_string(1);
    o->extra = any_string(2);
    o->unidirectional = rnd(2);
    o->flush_ms = rnd(3) ? 0 : rnd(2) ? DNSTAP_FLUSH_NOW : 1 + (int)rnd(INT32_MAX);
    o->timeout_ms = rnd(2) ? 0 : 1 + (int)rnd(INT32_MAX);
    if (o->listen) o->max_sinks = rnd(2) ? 0 : 1 + rnd(1024);
    if (o->listen && (*o->endpoint == '/' || *o->endpoint == 'u'))
        o->socket_mode = rnd(2) ? 0 : 1 + rnd(0777);
    if (!o->listen) o->drop_when_disconnected = rnd(2);
    if (rnd(3) == 0) o->types = 1u << rnd(32) | 1u << rnd(32);
    if (rnd(3) == 0) o->rcodes = (uint64_t)1 << rnd(64) | (uint64_t)1 << rnd(24);
    if (rnd(3) == 0) o->sample = rnd(2) ? UINT32_MAX : 1 + rnd(9);
    if (rnd(3) == 0) o->anonymize_v4 = rnd(4) ? (uint8_t)rnd(33) : (uint8_t)DNSTAP_KEEP_NONE;
    if (rnd(3) == 0) o->anonymize_v6 = rnd(4) ? (uint8_t)rnd(129) : (uint8_t)DNSTAP_KEEP_NONE;
    if (rnd(3) == 0) o->zones = zones + rnd(5);
    secure = strncmp(o->endpoint, "tls", 3) == 0;
    if (secure) o->skipverify = rnd(2);
    if (secure && (o->cert_file = any_string(3)) != NULL)
        while ((o->key_file = any_string(4)) == NULL) continue;
    if (secure && (!o->listen || o->cert_file)) o->ca_file = any_string(5);
    if (secure && !o->listen) o->server_name = any_string(6);
}

static void test_random_options_come_back(void **state)
{
    dnstap_options o;
    char out[2048];
    int i, n = times(OPTIONS), written = 0;
    bool plain;

    (void)state;
    for (i = 0; i < n; i++) {
        random_options(&o);
        plain = dull(o.identity) && dull(o.version) && dull(o.extra) && dull(o.cert_file) &&
                dull(o.key_file) && dull(o.ca_file) && dull(o.server_name);
        if (dnstap_format(&o, out, sizeof out) < 0) {
            assert_false(plain);
            continue;
        }
        written++;
        if (read_text(&again, out, STRICT) != 1) fail_msg("%s%s", out, again.error.text);
        if (!same_options(&again.taps[0], &o)) fail_msg("%s", out);
        assert_int_equal(again.asked, 0);
    }
    assert_true(written > n / 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hostile_text_is_read_or_refused_and_nothing_else),
        cmocka_unit_test(test_random_options_come_back),
    };
    int failed = RUN_TESTS(tests, NULL, NULL);

    free(strict.memory);
    free(lenient.memory);
    free(again.memory);
    return failed;
}
