/* `extra` beside what a running CoreDNS made of 9,296 messages, and its spelling of types, classes
 * and names: see tests/data/README.md. */
#define _POSIX_C_SOURCE 200809L
#define DNSTAP_IMPLEMENTATION
#include "dnstap.h"

#include "extra_support.h"

enum { ROWS_MAX = 40000, LINE_MAX_SIZE = 32768, QUERY_MAX = 512 };

typedef struct row {
    char *server, *query, *message, *template, *extra; /* extra NULL: there was none */
    uint32_t port;
    uint8_t dns[QUERY_MAX];
    size_t size;
} row;

static row rows[ROWS_MAX];
static size_t row_count;

/* ---- JSON: strings and numbers of one flat object a line ---- */

static size_t put_utf8(char *out, unsigned c)
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (char)(0xc0 | c >> 6);
        out[1] = (char)(0x80 | (c & 63));
        return 2;
    }
    out[0] = (char)(0xe0 | c >> 12);
    out[1] = (char)(0x80 | (c >> 6 & 63));
    out[2] = (char)(0x80 | (c & 63));
    return 3;
}

/* The string at p, behind its quote, of its own memory. */
static char *json_string(const char *p)
{
    static const char names[] = "ntrbf", meant[] = "\n\t\r\b\f";
    char *out = (char *)malloc(strlen(p) + 1), *to = out;
    const char *name;
    unsigned c;
    assert_non_null(out);
    for (; *p && *p != '"'; p++) {
        if (*p != '\\') {
            *to++ = *p;
        } else if (*++p == 'u') {
            assert_int_equal(sscanf(p + 1, "%4x", &c), 1);
            to += put_utf8(to, c);
            p += 4;
        } else {
            name = strchr(names, *p);
            *to++ = name ? meant[name - names] : *p;
        }
    }
    assert_int_equal(*p, '"');
    *to = '\0';
    return out;
}

static const char *json_value(const char *line, const char *key)
{
    char quoted[64];
    const char *p;
    snprintf(quoted, sizeof quoted, "\"%s\": ", key);
    p = strstr(line, quoted);
    if (!p) fail_msg("no %s in %s", key, line);
    return p + strlen(quoted);
}

/* NULL: null. */
static char *json_text(const char *line, const char *key)
{
    const char *p = json_value(line, key);
    return *p == '"' ? json_string(p + 1) : NULL;
}

static size_t from_hex(uint8_t *out, const char *hex)
{
    size_t n;
    unsigned byte;
    for (n = 0; n < QUERY_MAX && sscanf(hex + 2 * n, "%2x", &byte) == 1; n++)
        out[n] = (uint8_t)byte;
    return n;
}

/* In the configuration a quote inside quotes has a backslash before it. */
static void unquote(char *text)
{
    char *to = text;
    for (; *text; text++)
        if (text[0] != '\\' || text[1] != '"') *to++ = *text;
    *to = '\0';
}

static void read_row(const char *line)
{
    row *r = &rows[row_count++];
    char *hex = json_text(line, "query_hex");
    assert_true(row_count < ROWS_MAX);
    r->server = json_text(line, "server");
    r->query = json_text(line, "query");
    r->message = json_text(line, "message");
    r->template = json_text(line, "template");
    r->extra = json_text(line, "extra");
    r->port = (uint32_t)strtoul(json_value(line, "client_port"), NULL, 10);
    r->size = from_hex(r->dns, hex);
    unquote(r->template);
    free(hex);
}

static int read_rows(void **state)
{
    static char line[LINE_MAX_SIZE];
    FILE *file = popen("gzip -dc tests/data/coredns/extra.jsonl.gz", "r");
    (void)state;
    assert_non_null(file);
    while (fgets(line, sizeof line, file)) read_row(line);
    return pclose(file);
}

static int free_rows(void **state)
{
    size_t i;
    (void)state;
    for (i = 0; i < row_count; i++) {
        free(rows[i].server);
        free(rows[i].query);
        free(rows[i].message);
        free(rows[i].template);
        free(rows[i].extra);
    }
    return 0;
}

/* ---- a row's message ---- */

static bool same_exchange(const row *a, const row *b)
{
    return a->port == b->port && strcmp(a->server, b->server) == 0 &&
           strcmp(a->message, b->message) == 0;
}

/* What the recorded server's plugins said of a label: the rows that have it alone tell. */
static long recorded_metadata(void *user, const dnstap_message *m, const char *label, char *out,
                              size_t size)
{
    const row *asked = (const row *)m->user;
    char alone[64];
    size_t i;
    (void)user;
    snprintf(alone, sizeof alone, "{/%s}", label);
    for (i = 0; i < row_count; i++) {
        if (strcmp(rows[i].template, alone) != 0 || !same_exchange(&rows[i], asked)) continue;
        if (strcmp(rows[i].extra, "-") == 0) return -1;
        return snprintf(out, size, "%s", rows[i].extra);
    }
    return -1;
}

static const uint8_t v4[4] = {127, 0, 0, 1},
                     v6[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
static const uint8_t upstream[4] = {192, 0, 2, 53};

/* A forwarder's message is of its upstream socket, and says apart who the client is. */
static void make_message(dnstap_message *m, const row *r)
{
    bool six = strstr(r->query, "udp6") || strstr(r->query, "tcp6");
    bool forwarder = strncmp(r->message, "FORWARDER", 9) == 0;
    dnstap_bytes loopback = six ? dnstap_bytes_of(v6, 16) : dnstap_bytes_of(v4, 4);
    dnstap_bytes query = dnstap_bytes_of(r->dns, r->size);
    uint32_t protocol = strstr(r->query, "tcp") ? DNSTAP_PROTOCOL_TCP : DNSTAP_PROTOCOL_UDP;
    dnstap_message_start(m, dnstap_message_type_from(r->message));
    m->query_address = m->response_address = forwarder ? dnstap_bytes_of(upstream, 4) : loopback;
    m->query_port = forwarder ? 5353 : r->port;
    m->socket_protocol = forwarder ? DNSTAP_PROTOCOL_DOT : protocol;
    if (forwarder) {
        m->client_address = m->local_address = loopback;
        m->client_port = r->port;
        m->client_protocol = protocol;
    }
    *(m->type % 2 ? &m->query_message : &m->request) = query;
    m->response_message = dnstap_bytes_of("\x12\x34\x81\x83\0\0\0\0\0\0\0\0", 12);
    m->user = (void *)(uintptr_t)r;
}

static void check_row(dnstap_tap *tap, const row *r)
{
    dnstap_message m;
    dnstap_bytes made;
    make_message(&m, r);
    made = extra_of(tap, &m);
    if (is_text(made, r->extra)) return;
    fail_msg("%s, %s, %s: %s becomes %.*s, not %s", r->server, r->query, r->message, r->template,
             (int)made.size, made.data ? (const char *)made.data : "",
             r->extra ? r->extra : "nothing");
}

/* A tap for each template, with and without metadata, and full or not in turn. */
static void test_every_recorded_extra_is_made_again(void **state)
{
    static bool done[ROWS_MAX];
    size_t i, j, checked = 0, taps = 0;
    (void)state;
    for (i = 0; i < row_count; i++) {
        bool silent = strncmp(rows[i].server, "nometa", 6) == 0;
        dnstap_options o;
        dnstap_tap *tap;
        if (done[i]) continue;
        extra_options(&o, rows[i].template);
        o.coredns_extra = true;
        o.full = taps++ % 2;
        if (!silent) o.metadata = recorded_metadata;
        tap = extra_open(&o);
        for (j = i; j < row_count; j++) {
            if (strcmp(rows[j].template, rows[i].template) != 0) continue;
            if ((strncmp(rows[j].server, "nometa", 6) == 0) != silent) continue;
            check_row(tap, &rows[j]);
            done[j] = true;
            checked++;
        }
        dnstap_close(tap, 0);
    }
    assert_int_equal(checked, row_count);
    assert_true(row_count >= 9296 && taps > 100);
}

/* ---- spelling ---- */

static void put16(uint8_t *p, unsigned v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

/* A query for a label of two bytes, of which the first is given. */
static void make_query(dnstap_message *m, unsigned byte, unsigned type, unsigned class)
{
    static uint8_t dns[] = {0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 2, 0, 'X', 0, 0, 0, 0, 0};
    dns[13] = (uint8_t)byte;
    put16(dns + 16, type);
    put16(dns + 18, class);
    dnstap_message_start(m, DNSTAP_MSG_CLIENT_QUERY);
    m->query_message = dnstap_bytes_of(dns, sizeof dns);
}

/* What the table has for a number: its own copy; NULL: nothing. */
static char *spelled(const char *table, const char *part, unsigned number)
{
    const char *begin = strstr(json_value(table, part), "{"), *p;
    char key[16], *end;
    snprintf(key, sizeof key, "\"%u\": \"", number);
    p = strstr(begin, key);
    end = strchr(begin, '}');
    if (strcmp(part, "name_byte_then_X") == 0) end = strrchr(begin, '}');
    return p && p < end ? json_string(p + strlen(key)) : NULL;
}

static char *read_table(void)
{
    static char table[LINE_MAX_SIZE];
    FILE *file = fopen("tests/data/coredns/type-class-name.json", "r");
    assert_non_null(file);
    table[fread(table, 1, sizeof table - 1, file)] = '\0';
    fclose(file);
    return table;
}

static void check_spelling(dnstap_tap *tap, const dnstap_message *m, char *known,
                           const char *prefix, unsigned number)
{
    char numbered[32];
    dnstap_bytes made = extra_of(tap, m);
    snprintf(numbered, sizeof numbered, "%s%u", prefix, number);
    if (!is_text(made, known ? known : numbered))
        fail_msg("%s%u is %.*s, not %s", prefix, number, (int)made.size, (const char *)made.data,
                 known ? known : numbered);
    free(known);
}

static void check_numbers(const char *part, const char *template, const char *prefix)
{
    const char *table = read_table();
    dnstap_options o;
    dnstap_message m;
    dnstap_tap *tap;
    unsigned i;
    extra_options(&o, template);
    tap = extra_open(&o);
    for (i = 0; i < 65536; i++) {
        make_query(&m, 'a', i, i);
        check_spelling(tap, &m, spelled(table, part, i), prefix, i);
    }
    dnstap_close(tap, 0);
}

static void test_types_are_spelled_as_recorded(void **state)
{
    (void)state;
    check_numbers("types", "{type}", "TYPE");
}

static void test_classes_are_spelled_as_recorded(void **state)
{
    (void)state;
    check_numbers("classes", "{class}", "CLASS");
}

static void test_names_are_spelled_as_recorded(void **state)
{
    const char *table = read_table();
    dnstap_options o;
    dnstap_message m;
    dnstap_tap *tap;
    unsigned i;
    (void)state;
    extra_options(&o, "{name}");
    tap = extra_open(&o);
    for (i = 0; i < 256; i++) {
        char *known = spelled(table, "name_byte_then_X", i);
        assert_non_null(known);
        make_query(&m, i, 1, 1);
        check_spelling(tap, &m, known, "byte ", i);
    }
    dnstap_close(tap, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_recorded_extra_is_made_again),
        cmocka_unit_test(test_types_are_spelled_as_recorded),
        cmocka_unit_test(test_classes_are_spelled_as_recorded),
        cmocka_unit_test(test_names_are_spelled_as_recorded),
    };
    return RUN_TESTS(tests, read_rows, free_rows);
}
