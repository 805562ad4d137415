/* What a running CoreDNS made of 111 configurations, row by row: leniently the same is accepted and
 * means the same; strictly what it swallows is refused, and all else means the same too. */
#include "directive_support.h"

#include "directive_corpus.h"

static reading r;
static corpus_row row;

/* Rows that CoreDNS takes and strict reading does not, with what it says. */
static const char *const swallowed[][2] = {
    {"empty socket", "line 1, column 8: the socket's path is empty"},
    {"listen full", "line 1, column 15: expected a socket, not \"full\""},
    {"5th arg", "line 1, column 36: \"extra\" is a word too many"},
    {"no full, one number", "line 1, column 27: expected \"full\" or nothing, not \"1024\""},
    {"FULL", "line 1, column 27: expected \"full\" or nothing, not \"FULL\""},
    {"typo ful", "line 1, column 27: expected \"full\" or nothing, not \"ful\""},
    {"skipverify on unix", "line 2, column 2: \"skipverify\" is for tls:// only"},
    {"tls 4 args", "line 2, column 89: \"more\" is one file too many"},
    {"tls on unix listener", "line 2, column 2: \"tls\" is for tls:// only"},
    {"tls relative with root", "line 1, column 1: \"root\" belongs to the host's file"},
    {"tcp userinfo", "only host and port are looked at; leave the rest out"},
    {"TCP upper", "line 1, column 8: \"TCP://127.0.0.1:6000\" has none of the schemes"},
    {"bare host:port", "\"127.0.0.1:6000\" has none of the schemes"},
    {"udp://", "\"udp://127.0.0.1:6000\" has none of the schemes"},
    {"unix:/path", "\"unix:/run/dnstap/s.sock\" has none of the schemes"},
    {"UNIX://", "has none of the schemes"},
    {"env spaces value", "expected \"full\" or nothing, not \"full 4 4\""},
};

/* NULL: the row is not among them. */
static const char *swallowed_says(const char *name)
{
    size_t i;

    for (i = 0; i < sizeof swallowed / sizeof *swallowed; i++)
        if (strcmp(swallowed[i][0], name) == 0) return swallowed[i][1];
    return NULL;
}

/* The recorded string, or NULL: that is CoreDNS's default, or nothing. The first 40 bytes of an
 * identity are recorded. */
static const char *recorded(const char *s, const char *key, char *out)
{
    size_t size;

    s = json_value(s, key);
    assert_non_null(s);
    if (*s != '"') return NULL;
    json_string(s, out, &size);
    return strcmp(out, "vm") && strcmp(out, "CoreDNS-1.14.7") ? out : NULL;
}

static bool begins_same(const char *a, const char *b)
{
    return a == b || (a && b && strncmp(a, b, 40) == 0);
}

/* The taps that connect are the recorded sinks, in order. Of `extra` what was rendered is recorded,
 * so that only its being there can be compared. */
static void compare_taps(void)
{
    const char *sink = row.line;
    static char value[CORPUS_LINE];
    int n, connecting = 0, listening = 0;

    for (n = 0; n < r.count; n++) {
        const dnstap_options *o = &r.taps[n];
        listening += o->listen;
        if (o->listen) continue;
        connecting++;
        sink = strstr(sink + 1, "\"sink\": ");
        if (!sink) break; /* nothing listened there */
        if (o->full != json_true(sink, "full")) fail_msg("%s: full", row.name);
        if (!begins_same(o->identity, recorded(sink, "identity", value)))
            fail_msg("%s: identity %s", row.name, o->identity);
        if (!begins_same(o->version, recorded(sink, "version", value)))
            fail_msg("%s: version %s", row.name, o->version);
        if (!o->extra != !recorded(sink, "extra", value)) fail_msg("%s: extra", row.name);
    }
    if (sink && strstr(sink + 1, "\"sink\": ")) fail_msg("%s: more than %d taps", row.name, n);
    if (row.listening && !listening) fail_msg("%s: should listen", row.name);
    assert_true(connecting + listening > 0);
}

/* No text of ours has a NUL in it; and a quoted brace is a value. */
static bool differs(void)
{
    return strlen(row.config) != row.size || strcmp(row.name, "quoted brace value") == 0;
}

static void test_leniently_every_row_is_as_in_coredns(void **state)
{
    FILE *file = corpus_open();
    int rows = 0;

    (void)state;
    for (; corpus_next(file, &row); rows++) {
        if (differs()) continue;
        read_text(&r, row.config, LENIENT);
        if ((r.count > 0) != row.accepted)
            fail_msg("%s: %s", row.name, r.count > 0 ? "accepted" : r.error.text);
        if (row.accepted) compare_taps();
        if (row.accepted && swallowed_says(row.name)) assert_true(r.warnings > 0);
    }
    fclose(file);
    assert_int_equal(rows, CORPUS_ROWS);
}

static void test_strictly_what_is_swallowed_is_refused_and_the_rest_is_the_same(void **state)
{
    FILE *file = corpus_open();
    size_t refused = 0;
    const char *says;

    (void)state;
    while (corpus_next(file, &row)) {
        if (differs()) continue;
        says = swallowed_says(row.name);
        read_text(&r, row.config, STRICT);
        if ((r.count > 0) != (row.accepted && !says))
            fail_msg("%s: %s", row.name, r.count > 0 ? "accepted" : r.error.text);
        if (r.count > 0) compare_taps();
        if (!says) continue;
        if (!strstr(r.error.text, says)) fail_msg("%s: %s", row.name, r.error.text);
        refused++;
    }
    fclose(file);
    assert_int_equal(refused, sizeof swallowed / sizeof *swallowed);
}

static void test_an_error_is_on_the_line_where_coredns_sees_it(void **state)
{
    FILE *file = corpus_open();
    const char *theirs;
    int compared = 0;

    (void)state;
    while (corpus_next(file, &row)) {
        theirs = strstr(row.line, "plugin/dnstap: $R/Corefile:"); /* line 3 there is our first */
        if (row.accepted || !theirs || strcmp(row.name, "unclosed") == 0 || differs()) continue;
        read_text(&r, row.config, LENIENT);
        if (r.error.line != atoi(theirs + 27) - 2) fail_msg("%s: %s", row.name, r.error.text);
        compared++;
    }
    fclose(file);
    assert_true(compared > 20);
}

static void test_the_two_rows_that_differ(void **state)
{
    int lenient;

    (void)state;
    for (lenient = STRICT; lenient <= LENIENT; lenient++) {
        assert_int_equal(read_text(&r, "dnstap s full {\n identity \"{\"\n}", lenient), 1);
        assert_string_equal(r.taps[0].identity, "{");
        /* to a C string the text ends before the NUL, and so inside of the block */
        assert_int_equal(read_text(&r, "dnstap s full {\n identity a\0b\n}", lenient),
                         DNSTAP_BAD_OPTION);
        assert_int_equal(r.error.line, 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_leniently_every_row_is_as_in_coredns),
        cmocka_unit_test(test_strictly_what_is_swallowed_is_refused_and_the_rest_is_the_same),
        cmocka_unit_test(test_an_error_is_on_the_line_where_coredns_sees_it),
        cmocka_unit_test(test_the_two_rows_that_differ),
    };
    int failed = RUN_TESTS(tests, NULL, NULL);

    free(r.memory);
    return failed;
}
