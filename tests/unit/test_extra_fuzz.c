/* `extra` of hostile queries and odd templates: 100,000 of each, with TEST_LONG a million. All is
 * read from and written to memory of exactly its size, under AddressSanitizer. What comes out is
 * compared with slower ways to the same: a name's with a second reader of names, a template's with
 * the replacer's loop as CoreDNS has it. */
#define _POSIX_C_SOURCE 200809L
#define DNSTAP_IMPLEMENTATION
#include "dnstap.h"

#include "extra_support.h"

static int inputs(void) { return test_long() ? 1000000 : 100000; }

/* ---- a template of its own, without a tap ---- */

typedef struct compiled {
    dnstap__extra extra;
    void *memory;
} compiled;

static void compile(compiled *c, const dnstap_options *o)
{
    dnstap__arena a;
    memset(&a, 0, sizeof a);
    a.size = SIZE_MAX;
    dnstap__compile_template(&c->extra, &a, o);
    assert_null(c->extra.pieces);
    c->memory = malloc(a.used);
    a.base = (uint8_t *)c->memory;
    a.size = a.used;
    a.used = 0;
    dnstap__compile_template(&c->extra, &a, o);
    assert_false(a.overflow);
}

/* The field's text, cut out of what was written; room was made for no more than was planned. */
static char *expand(const compiled *c, const dnstap_message *m, size_t *size)
{
    dnstap__view view;
    uint8_t *room, *end;
    size_t most, length;
    char *text;
    dnstap__view_message(&view, m);
    most = dnstap__plan_extra(&c->extra, &view);
    room = (uint8_t *)malloc(most);
    end = dnstap__put_extra(room, &c->extra, &view);
    assert_true(end <= room + most);
    if (c->extra.metadata)
        assert_true(dnstap__measure_extra(&c->extra, &view) >= (size_t)(end - room));
    else
        assert_int_equal(dnstap__measure_extra(&c->extra, &view), end - room);
    for (length = 1; room[length] & 0x80;) length++;
    *size = (size_t)(end - room) - 1 - length;
    text = (char *)calloc(1, *size + 1);
    memcpy(text, room + 1 + length, *size);
    free(room);
    return text;
}

/* ---- queries ---- */

static const struct {
    const char *bytes;
    size_t size;
} seeds[] = {
#define SEED(bytes)              \
    {                            \
        bytes, sizeof(bytes) - 1 \
    }
    SEED(ONE_QUESTION QUESTION),
    SEED(HEADER "\0\1\0\0\0\0\0\1" QUESTION "\0\0\x29\4\xd0\0\0\x80\0\0\4\0\3\0\0"),
    SEED(HEADER "\0\1\0\1\0\1\0\1" QUESTION "\xc0\x0c\0\1\0\1\0\0\0\0\0\4\1\2\3\4"
                "\xc0\x0c\0\6\0\1\0\0\0\0\0\x18\xc0\x0c\xc0\x14"
                "AAAABBBBCCCCDDDDEEEE\0\0\x29\4\xd0\0\0\x80\0\0\0"),
    SEED(ONE_QUESTION "\1a\xc0\x14\0\1\0\1\2bc\xc0\x1a\1.\0"),
    SEED(HEADER "\0\2\0\0\0\0\0\0" QUESTION "\xc0\x14\0\1\0\1"),
    SEED(ONE_QUESTION "\0\0\2\0\1"),
#undef SEED
};

static void change(uint8_t *p, size_t *size)
{
    static const uint8_t odd[] = {0, 1, 12, 0x29, 0x3f, 0x40, 0x80, 0xc0, 0xff};
    size_t at = *size ? rnd((uint32_t)*size) : 0;
    switch (rnd(6)) {
    case 0:
        *size = at;
        break;
    case 1:
        if (*size) p[at] = odd[rnd(sizeof odd)];
        break;
    case 2:
        if (*size) p[at] = (uint8_t)rnd(256);
        break;
    case 3: /* counts */
        if (*size > 11) p[4 + rnd(8)] = (uint8_t)(rnd(4) ? rnd(4) : rnd(256));
        break;
    case 4: /* a pointer, to somewhere */
        if (*size > at + 1) {
            p[at] = (uint8_t)(0xc0 | (rnd(16) ? 0 : rnd(64)));
            p[at + 1] = (uint8_t)rnd((uint32_t)*size + 2);
        }
        break;
    default:
        if (*size > at && *size < 300) {
            memmove(p + at + 1, p + at, *size - at);
            ++*size;
        }
        break;
    }
}

/* In memory of its own. */
static dnstap_bytes hostile(void)
{
    uint8_t bytes[512];
    size_t i = rnd(sizeof seeds / sizeof *seeds), size = seeds[i].size, n;
    void *copy;
    if (rnd(16) == 0) return dnstap_bytes_of(NULL, 0);
    memcpy(bytes, seeds[i].bytes, size);
    for (n = rnd(6); n; n--) change(bytes, &size);
    copy = malloc(size ? size : 1);
    memcpy(copy, bytes, size);
    return dnstap_bytes_of(copy, size);
}

/* The name of a message's first question, read again, label by label; NULL: not sound, or its type
 * or class is cut. */
static const char *name_again(const uint8_t *p, size_t size)
{
    static char out[2048];
    size_t at = 12, used = 0, whole = 1, pointers = 0, behind = 0, i;
    for (out[0] = '\0'; at < size && p[at];) {
        if (p[at] >= 192) {
            if (at + 1 == size || ++pointers > 126) return NULL;
            if (pointers == 1) behind = at + 2;
            at = (p[at] & 63u) * 256u + p[at + 1];
            continue;
        }
        whole += p[at] + 1u;
        if (p[at] > 63 || whole > 255 || at + p[at] >= size) return NULL;
        for (i = at + 1; i <= at + p[at]; i++) {
            bool special = p[i] && strchr(" \"'().;@\\", p[i]);
            bool upper = p[i] >= 'A' && p[i] <= 'Z';
            const char *form = special ? "\\%c" : p[i] < 32 || p[i] > 126 ? "\\%03d" : "%c";
            used += (size_t)snprintf(out + used, 8, form, upper ? p[i] + 32 : p[i]);
        }
        used += (size_t)snprintf(out + used, 2, ".");
        at += p[at] + 1u;
    }
    if (at >= size) return NULL;
    if (!behind) behind = at + 1;
    if (size - behind == 1 || size - behind == 3) return NULL;
    return used ? out : ".";
}

static unsigned sound, unsound;

static void check_name(const compiled *c, const dnstap_message *m)
{
    const dnstap_bytes query = m->request.data ? m->request : m->query_message;
    const uint8_t *p = (const uint8_t *)query.data;
    const char *expected = NULL;
    size_t size;
    char *made = expand(c, m, &size);
    if (p && query.size >= 12 && (p[4] || p[5])) expected = name_again(p, query.size);
    *(expected ? &sound : &unsound) += 1;
    if (!expected) expected = !p || query.size < 12 ? "-" : ".";
    assert_string_equal(made, expected);
    free(made);
}

static void test_hostile_queries_are_never_read_beyond_their_end(void **state)
{
    const char *const all = "{type} {name} {class} {proto} {size} {remote} {port} {local} {>id} "
                            "{>opcode} {>do} {>bufsize} {rcode} {rsize} {duration}";
    compiled every, name;
    dnstap_options o;
    dnstap_message m;
    size_t size;
    int i;
    (void)state;
    extra_options(&o, all);
    compile(&every, &o);
    o.extra = "{name}";
    compile(&name, &o);
    for (i = 0; i < inputs(); i++) {
        dnstap_message_start(&m, 1 + rnd(14));
        m.query_message = hostile();
        m.response_message = hostile();
        m.request = hostile();
        m.query_time_sec = rnd(3);
        m.response_time_sec = rnd(3);
        free(expand(&every, &m, &size));
        check_name(&name, &m);
        free((void *)(uintptr_t)m.query_message.data);
        free((void *)(uintptr_t)m.response_message.data);
        free((void *)(uintptr_t)m.request.data);
    }
    free(every.memory);
    free(name.memory);
    assert_true(sound > unsound / 4 && unsound > sound / 16); /* there were enough of both */
}

/* ---- templates ---- */

static const struct {
    const char *label, *value;
} values[] = {
    {"{type}", "AAAA"},  {"{name}", "example.test."},
    {"{class}", "IN"},   {"{proto}", "tcp"},
    {"{size}", "30"},    {"{remote}", "192.0.2.1"},
    {"{port}", "1024"},  {"{local}", "192.0.2.2"},
    {"{>id}", "4660"},   {"{>opcode}", "0"},
    {"{>do}", "false"},  {"{>bufsize}", "65535"},
    {"{rcode}", "-"},    {"{rsize}", "-"},
    {"{duration}", "-"}, {"{>rflags}", "-"},
};

static long echo(void *user, const dnstap_message *m, const char *label, char *out, size_t size)
{
    size_t n = strlen(label);
    (void)user, (void)m;
    if (n + 2 > size) return -1;
    out[0] = '<';
    memcpy(out + 1, label, n);
    out[n + 1] = '>';
    return (long)n + 2;
}

static void append(char *out, const char *from, size_t n)
{
    size_t used = strlen(out);
    memcpy(out + used, from, n);
    out[used + n] = '\0';
}

/* What stands for the label, from brace to brace; false: it is none. */
static bool replace(char *out, const char *label, size_t size)
{
    size_t i;
    if (size > 2 && label[1] == '/') {
        append(out, size - 1 > DNSTAP_METADATA_MAX ? "-" : "<", 1);
        if (size - 1 > DNSTAP_METADATA_MAX) return true;
        append(out, label + 2, size - 3);
        append(out, ">", 1);
        return true;
    }
    for (i = 0; i < sizeof values / sizeof *values; i++) {
        if (strlen(values[i].label) != size || memcmp(values[i].label, label, size)) continue;
        append(out, values[i].value, strlen(values[i].value));
        return true;
    }
    return false;
}

/* CoreDNS's loop. */
static void replace_all(char *out, const char *s)
{
    const char *i, *j;
    out[0] = '\0';
    for (; (j = strchr(s, '}')) != NULL; s = j + 1) {
        for (i = j; i >= s && *i != '{';) i--;
        if (i < s) {
            append(out, s, (size_t)(j + 1 - s));
            continue;
        }
        char value[4096] = "";
        if (replace(value, i, (size_t)(j + 1 - i))) {
            append(out, s, (size_t)(i - s));
            append(out, value, strlen(value));
        } else {
            append(out, s, (size_t)(j + 1 - s));
        }
    }
    append(out, s, strlen(s));
}

static void random_template(char *out)
{
    static const char *const words[] = {"{", "}",  "/",  ">",  "{/", "type",    "x",
                                        " ", "id", "}}", "{{", "\\", "\xc3\xa9"};
    size_t n = 1 + rnd(12), i;
    out[0] = '\0';
    for (; n; n--) {
        i = rnd(sizeof words / sizeof *words + 6);
        if (i < sizeof words / sizeof *words)
            strcat(out, words[i]);
        else
            strcat(out, values[rnd(sizeof values / sizeof *values)].label);
        if (rnd(400) == 0) memset(out + strlen(out), 'y', 250 + rnd(8));
    }
}

static void test_templates_are_replaced_as_in_coredns(void **state)
{
    static char template[8192], expected[65536];
    dnstap_options o;
    compiled c;
    size_t size;
    char *made;
    int i;
    (void)state;
    start_query();
    ip(&message.query_address, "\300\0\2\1", 4);
    ip(&message.response_address, "\300\0\2\2", 4);
    message.query_port = 1024;
    message.socket_protocol = DNSTAP_PROTOCOL_TCP;
    extra_options(&o, template);
    o.metadata = echo;
    for (i = 0; i < inputs(); i++) {
        memset(template, 0, sizeof template);
        random_template(template);
        compile(&c, &o);
        made = expand(&c, &message, &size);
        replace_all(expected, template);
        if (strcmp(made, expected) != 0)
            fail_msg("%s becomes %s, not %s", template, made, expected);
        free(made);
        free(c.memory);
    }
}

static int choose_seed(void **state)
{
    const char *given = getenv("SEED");
    uint64_t seed = given ? strtoull(given, NULL, 10) : (uint64_t)time(NULL);
    (void)state;
    print_message("seed %llu\n", (unsigned long long)seed);
    random_seed(seed);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hostile_queries_are_never_read_beyond_their_end),
        cmocka_unit_test(test_templates_are_replaced_as_in_coredns),
    };
    return RUN_TESTS(tests, choose_seed, NULL);
}
