/* quiet.c: -q, a line for each message, byte for byte as golang-dnstap's tool prints it:
 *
 *     12:26:40.123456 CQ 10.240.0.1 UDP 40b "example.com." IN A
 *
 * local time, type, the other side's address, protocol, size of the DNS message, and its question.
 * What is absent shows as such: `??:??:??.??????`, MISSING_ADDRESS, nothing for the protocol, and
 * `X ` for a DNS message without a question or against the rules. Names, types and classes come
 * from ldns and are brought into the other tool's spelling. */
#include "tool.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <ldns/ldns.h>
#include <time.h>

/* ---- the question -------------------------------------------------------------------------- */

enum { DNS_HEADER = 12, DNS_NAME_MAX = 255, DNS_POINTERS_MAX = 126 };

/* A DNS message and the place reached in it. */
typedef struct reader {
    const uint8_t *data;
    size_t size, at;
} reader;

typedef struct question {
    uint8_t name[DNS_NAME_MAX]; /* without compression */
    size_t size;
    unsigned type, class_;
} question;

static unsigned get16(const uint8_t *p) { return (unsigned)p[0] << 8 | p[1]; }

/* Where a pointer (RFC 1035, 4.1.4) leads; size when it is none, or one too many. */
static size_t follow(reader *r, size_t at, int pointers)
{
    if (r->data[at] < 192 || r->size - at < 2 || pointers > DNS_POINTERS_MAX) return r->size;
    if (pointers == 1) r->at = at + 2;
    return get16(r->data + at) & 0x3fff;
}

static bool read_name(reader *r, question *q)
{
    size_t at = r->at, label = 1;
    int pointers = 0;
    for (q->size = 0; label > 0 && at < r->size;) {
        label = r->data[at];
        if (label >= 64) {
            at = follow(r, at, ++pointers);
            continue;
        }
        if (label >= r->size - at || q->size + 1 + label > DNS_NAME_MAX) return false;
        memcpy(q->name + q->size, r->data + at, 1 + label);
        q->size += 1 + label;
        at += 1 + label;
    }
    if (pointers == 0) r->at = at;
    return label == 0;
}

/* As the other tool reads it: the message may end behind the name, or inside the class; what is
 * missing is 0. */
static bool read_question(reader *r, question *q)
{
    q->type = q->class_ = 0;
    if (!read_name(r, q)) return false;
    if (r->at == r->size) return true;
    if (r->size - r->at < 2) return false;
    q->type = get16(r->data + r->at);
    r->at += 2;
    if (r->size - r->at >= 2) q->class_ = get16(r->data + r->at);
    r->at = r->size - r->at >= 2 ? r->at + 2 : r->size;
    return true;
}

/* Only a record's frame: what is in its data does not matter to a line that doesn't show it. */
static bool skip_record(reader *r)
{
    question owner;
    if (!read_name(r, &owner) || r->size - r->at < 10) return false;
    r->at += 10;
    const size_t length = get16(r->data + r->at - 2);
    if (r->size - r->at < length) return false;
    r->at += length;
    return true;
}

/* The first question of a message whose other parts are whole too. Fewer records than the header
 * promises are no fault when the message ends at a record's edge: truncated responses do. */
static bool find_question(dnstap_bytes message, question *q)
{
    reader r = {(const uint8_t *)message.data, message.size, DNS_HEADER};
    question more;
    if (r.size < DNS_HEADER || get16(r.data + 4) == 0 || !read_question(&r, q)) return false;
    for (unsigned n = get16(r.data + 4); n > 1; n--)
        if (!read_question(&r, &more)) return false;
    unsigned records = get16(r.data + 6) + get16(r.data + 8) + get16(r.data + 10);
    for (; records > 0 && r.at < r.size; records--)
        if (!skip_record(&r)) return false;
    return true;
}

/* ---- names --------------------------------------------------------------------------------- */

/* ldns escapes . ; ( ) \ and what is not printable; the other tool also ' @ " and space. */
static void add_escaped(text *t, const char *name)
{
    for (; *name; name++) {
        if (!strncmp(name, "\\032", 4)) {
            text_string(t, "\\ ");
            name += 3;
            continue;
        }
        if (*name == '\'' || *name == '@' || *name == '"') text_string(t, "\\");
        text_bytes(t, name, 1);
        if (*name == '\\') text_bytes(t, ++name, 1); /* lest `\\032` be taken for a space */
    }
}

/* Names of nothing but letters, digits, - and _ are printed as they are, for ldns takes a printf
 * for each character. False: there is more in it, or it is the root. */
static bool add_plain_name(text *t, const question *q)
{
    const size_t before = t->size;
    const uint8_t *c = q->name;
    for (size_t label = *c++; label > 0; label = *c++) {
        text_bytes(t, c, label);
        text_string(t, ".");
        for (const uint8_t *end = c + label; c < end; c++) {
            if (isalnum(*c) || *c == '-' || *c == '_') continue;
            t->size = before;
            return false;
        }
    }
    return t->size > before;
}

static void add_name(text *t, question *q, ldns_buffer *scratch)
{
    if (add_plain_name(t, q)) return;
    ldns_rdf *name = ldns_rdf_new(LDNS_RDF_TYPE_DNAME, q->size, q->name);
    ldns_buffer_clear(scratch);
    if (name) ldns_rdf2buffer_str_dname(scratch, name);
    ldns_rdf_free(name);
    add_escaped(t, (const char *)ldns_buffer_begin(scratch));
}

typedef struct number_name {
    unsigned number;
    const char *name;
} number_name;

/* Where the other tool's names differ from those of ldns. */
static const number_name classes[] = {{2, "CS"}, {255, "CLASS255"}};
static const number_name types[] = {
    {0, "None"},    {11, "TYPE11"},  {22, "TYPE22"}, {38, "TYPE38"}, {40, "TYPE40"},
    {45, "TYPE45"}, {56, "NINFO"},   {57, "RKEY"},   {100, "UINFO"}, {101, "UID"},
    {102, "GID"},   {103, "UNSPEC"}, {258, "AVC"},   {32768, "TA"},  {65535, "Reserved"},
};

static const char *find_name(const number_name *names, size_t count, unsigned number)
{
    for (size_t i = 0; i < count; i++)
        if (names[i].number == number) return names[i].name;
    return NULL;
}

static void add_class_and_type(text *t, const question *q, ldns_buffer *scratch)
{
    const char *class_ = find_name(classes, sizeof classes / sizeof *classes, q->class_);
    const char *type = find_name(types, sizeof types / sizeof *types, q->type);
    ldns_buffer_clear(scratch);
    if (class_)
        ldns_buffer_printf(scratch, "%s", class_);
    else
        ldns_rr_class2buffer_str(scratch, (ldns_rr_class)q->class_);
    ldns_buffer_printf(scratch, " ");
    if (type)
        ldns_buffer_printf(scratch, "%s", type);
    else
        ldns_rr_type2buffer_str(scratch, (ldns_rr_type)q->type);
    text_string(t, (const char *)ldns_buffer_begin(scratch));
}

/* ---- the line ------------------------------------------------------------------------------ */

/* Seconds are asked for many times over before they change. */
static void add_clock(text *t, uint64_t seconds)
{
    static uint64_t last;
    static char clock[9];
    const time_t when = (time_t)seconds;
    struct tm local;
    if (seconds != last || !clock[0]) {
        if (!localtime_r(&when, &local))
            strcpy(clock, "??:??:??"); /* a year beyond int */
        else
            strftime(clock, sizeof clock, "%H:%M:%S", &local);
        last = seconds;
    }
    text_string(t, clock);
}

static void add_time(text *t, const dnstap_message *m, bool query)
{
    const uint32_t present = query ? m->present >> 8 : m->present >> 12; /* the fields' numbers */
    if (present & 1u)
        add_clock(t, query ? m->query_time_sec : m->response_time_sec);
    else
        text_string(t, "??:??:??");
    text_string(t, ".");
    if (present & 2u)
        text_digits(t, (query ? m->query_time_nsec : m->response_time_nsec) / 1000, 6);
    else
        text_string(t, "??????");
}

/* As RFC 5952 says: unlike inet_ntop it has dotted quads only for IPv4-mapped addresses. */
static void add_inet6(text *t, const uint8_t *a)
{
    static const uint8_t zero[12];
    char s[INET6_ADDRSTRLEN];
    if (!memcmp(a, zero, 12) && get16(a + 12))
        snprintf(s, sizeof s, "::%x:%x", get16(a + 12), get16(a + 14));
    else
        inet_ntop(AF_INET6, a, s, sizeof s);
    text_string(t, strncmp(s, "::ffff:", 7) || !strchr(s, '.') ? s : s + 7);
}

static void add_address(text *t, dnstap_bytes address)
{
    const uint8_t *a = (const uint8_t *)address.data;
    char s[INET_ADDRSTRLEN];
    if (!a)
        text_string(t, "MISSING_ADDRESS");
    else if (address.size == 0)
        text_string(t, "<nil>");
    else if (address.size == 4)
        text_string(t, inet_ntop(AF_INET, a, s, sizeof s));
    else if (address.size == 16)
        add_inet6(t, a);
    else {
        text_string(t, "?");
        text_hex(t, address);
    }
}

static void add_protocol(text *t, const dnstap_message *m)
{
    if (m->socket_protocol >= DNSTAP_PROTOCOL_UDP && m->socket_protocol <= DNSTAP_PROTOCOL_DOH)
        text_string(t, dnstap_socket_protocol_name(m->socket_protocol));
    else if (m->present & 1u << 3)
        text_number(t, m->socket_protocol); /* the other tool knows no more names */
}

static void add_dns(text *t, dnstap_bytes message)
{
    static ldns_buffer *scratch;
    question q;
    text_number(t, message.size);
    text_string(t, "b ");
    if (!scratch) scratch = ldns_buffer_new(LDNS_MIN_BUFLEN);
    if (!find_question(message, &q)) {
        text_string(t, "X ");
        return;
    }
    text_string(t, "\"");
    add_name(t, &q, scratch);
    text_string(t, "\" ");
    add_class_and_type(t, &q, scratch);
}

/* Two letters; NULL where the other tool has none, which includes STUB_QUERY and STUB_RESPONSE. */
static const char *letters(uint32_t type)
{
#define BRIEF(constant, value, name, brief) brief,
    static const char *const briefs[] = {DNSTAP_MESSAGE_TYPES(BRIEF)};
#undef BRIEF
    if (type == DNSTAP_MSG_STUB_QUERY || type == DNSTAP_MSG_STUB_RESPONSE) return NULL;
    return type >= 1 && type <= sizeof briefs / sizeof *briefs ? briefs[type - 1] : NULL;
}

void quiet_print(text *t, const dnstap_received *received)
{
    const dnstap_message *m = received->message;
    const bool query = m->type % 2 == 1, of_server = m->type <= DNSTAP_MSG_AUTH_RESPONSE ||
                                                     m->type == DNSTAP_MSG_CLIENT_QUERY ||
                                                     m->type == DNSTAP_MSG_CLIENT_RESPONSE;
    if (!(m->present & 1u << 1)) {
        text_string(t, "[no Message]\n");
        return;
    }
    if (!letters(m->type)) {
        text_string(t, "[unhandled Message.Type]\n");
        return;
    }
    add_time(t, m, query);
    text_string(t, " ");
    text_string(t, letters(m->type));
    text_string(t, " ");
    add_address(t, of_server ? m->query_address : m->response_address);
    text_string(t, " ");
    add_protocol(t, m);
    text_string(t, " ");
    add_dns(t, query ? m->query_message : m->response_message);
    text_string(t, "\n");
}
