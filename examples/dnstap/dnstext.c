/* dnstext.c: what is in a DNS message, as text, in the layout of golang-dnstap's tool. ldns knows
 * the types and their data; names of questions, types and classes are brought
 * into the other tool's spelling. What ldns cannot print is printed as RFC 3597 says. */
#include "dns.h"

#include <ctype.h>
#include <ldns/ldns.h>
#include <string.h>
#include <strings.h>

/* Emptied for each use. */
static ldns_buffer *scratch(void)
{
    static ldns_buffer *buffer;
    if (!buffer) buffer = ldns_buffer_new(LDNS_MIN_BUFLEN);
    if (!buffer) out_of_memory();
    ldns_buffer_clear(buffer);
    return buffer;
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
static bool add_plain_name(text *t, const dns_question *q)
{
    char plain[DNS_NAME_MAX];
    const uint8_t *c = q->name;
    size_t n = 0;
    for (size_t label = *c++; label > 0; label = *c++) {
        for (const uint8_t *end = c + label; c < end; c++) {
            if (!isalnum(*c) && *c != '-' && *c != '_') return false;
            plain[n++] = (char)*c;
        }
        plain[n++] = '.';
    }
    if (n == 0) return false;
    text_bytes(t, plain, n);
    return true;
}

void text_dns_name(text *t, const dns_question *q)
{
    if (add_plain_name(t, q)) return;
    ldns_buffer *out = scratch();
    ldns_rdf *name = ldns_rdf_new_frm_data(LDNS_RDF_TYPE_DNAME, q->size, q->name);
    if (name) ldns_rdf2buffer_str_dname(out, name);
    ldns_rdf_deep_free(name);
    add_escaped(t, (const char *)ldns_buffer_begin(out));
}

/* ---- types, classes ------------------------------------------------------------------------- */

typedef struct number_name {
    unsigned number;
    const char *name;
} number_name;

/* Where the other tool's names differ from those of ldns; and the most frequent. */
static const number_name classes[] = {{1, "IN"}, {2, "CS"}, {255, "CLASS255"}, {0, NULL}};
static const number_name types[] = {
    {1, "A"},        {28, "AAAA"},   {11, "TYPE11"}, {22, "TYPE22"},
    {38, "TYPE38"},  {40, "TYPE40"}, {45, "TYPE45"}, {56, "NINFO"},
    {57, "RKEY"},    {100, "UINFO"}, {101, "UID"},   {102, "GID"},
    {103, "UNSPEC"}, {258, "AVC"},   {32768, "TA"},  {65535, "Reserved"},
    {0, "None"},     {0, NULL},
};

static const char *find_name(const number_name *names, unsigned number)
{
    while (names->name && names->number != number) names++;
    return names->name;
}

void text_dns_class(text *t, unsigned class_)
{
    const char *name = find_name(classes, class_);
    if (!name) {
        ldns_buffer *out = scratch();
        ldns_rr_class2buffer_str(out, (ldns_rr_class)class_);
        name = (const char *)ldns_buffer_begin(out);
    }
    text_string(t, name);
}

void text_dns_type(text *t, unsigned type)
{
    const char *name = find_name(types, type);
    if (!name) {
        ldns_buffer *out = scratch();
        ldns_rr_type2buffer_str(out, (ldns_rr_type)type);
        name = (const char *)ldns_buffer_begin(out);
    }
    text_string(t, name);
}

/* As the other tool names them, which differs from ldns, and what it has no name for. */
static const number_name rcodes[] = {
    {0, "NOERROR"},  {1, "FORMERR"},  {2, "SERVFAIL"},  {3, "NXDOMAIN"},   {4, "NOTIMP"},
    {5, "REFUSED"},  {6, "YXDOMAIN"}, {7, "YXRRSET"},   {8, "NXRRSET"},    {9, "NOTAUTH"},
    {10, "NOTZONE"}, {16, "BADSIG"},  {17, "BADKEY"},   {18, "BADTIME"},   {19, "BADMODE"},
    {20, "BADNAME"}, {21, "BADALG"},  {22, "BADTRUNC"}, {23, "BADCOOKIE"}, {16, "BADVERS"},
    {4, "NOTIMPL"},  {0, NULL},
};

void text_dns_rcode(text *t, unsigned rcode)
{
    const char *name = find_name(rcodes, rcode);
    if (name)
        text_string(t, name);
    else
        text_number(t, rcode);
}

bool dns_rcode_from(const char *s, unsigned *rcode)
{
    for (const number_name *known = rcodes; known->name; known++) {
        if (strcasecmp(known->name, s) != 0) continue;
        *rcode = known->number;
        return true;
    }
    for (*rcode = 0; *s >= '0' && *s <= '9' && *rcode < 4096; s++)
        *rcode = *rcode * 10 + (unsigned)(*s - '0');
    return !*s && *rcode < 4096;
}

/* ---- records -------------------------------------------------------------------------------- */

/* What ldns has printed, with nothing in it that a terminal obeys. */
static void add_printed(text *t, const ldns_buffer *printed)
{
    const uint8_t *c = ldns_buffer_begin(printed), *end = c + ldns_buffer_position(printed);
    for (; c < end; c++) {
        if (*c == '\n' || *c == '\t' || (*c >= ' ' && *c <= '~')) {
            text_bytes(t, c, 1);
        } else {
            text_string(t, "\\");
            text_digits(t, *c, 3);
        }
    }
}

static void add_tab(text *t) { text_string(t, "\t"); }

/* RFC 3597, 5. */
static void add_unknown(text *t, const dns_reader *all, const dns_record *record)
{
    dns_reader r = {all->data, all->size, record->begin};
    dns_question owner;
    if (dns_read_name(&r, &owner)) return; /* which has been read before */
    text_dns_name(t, &owner);
    add_tab(t);
    text_number(t, record->ttl);
    add_tab(t);
    text_dns_class(t, record->class_);
    add_tab(t);
    text_dns_type(t, record->type);
    text_string(t, "\t\\# ");
    text_number(t, record->end - record->data);
    text_string(t, " ");
    text_hex(t, dnstap_bytes_of(all->data + record->data, record->end - record->data));
    text_string(t, "\n");
}

/* Pointers may lead anywhere before the record's end, and no further. */
static void add_record(text *t, const dns_reader *all, const dns_record *record)
{
    ldns_rr *rr = NULL;
    ldns_buffer *out = scratch();
    size_t at = record->begin;
    const bool well = ldns_wire2rr(&rr, all->data, record->end, &at, LDNS_SECTION_ANSWER) ==
                          LDNS_STATUS_OK &&
                      at == record->end && ldns_rr2buffer_str(out, rr) == LDNS_STATUS_OK;
    ldns_rr_free(rr);
    if (well)
        add_printed(t, out);
    else
        add_unknown(t, all, record);
}

/* ---- EDNS ----------------------------------------------------------------------------------- */

static void add_opt(text *t, const dns_reader *all, const dns_record *opt)
{
    text_string(t, "\n;; OPT PSEUDOSECTION:\n; EDNS: version ");
    text_number(t, opt->ttl >> 16 & 255);
    text_string(t, opt->ttl & 0x8000 ? "; flags: do; udp: " : "; flags: ; udp: ");
    text_number(t, opt->class_);
    text_string(t, "\n");
    for (size_t at = opt->data; at < opt->end;) {
        const size_t size = dns_get16(all->data + at + 2);
        text_dns_option(t, dns_get16(all->data + at), all->data + at + 4, size);
        at += 4 + size;
    }
}

/* ---- the message ---------------------------------------------------------------------------- */

static void add_count(text *t, const char *name, unsigned count)
{
    text_string(t, name);
    text_number(t, count);
}

static void add_flags(text *t, unsigned bits)
{
    static const struct flag {
        unsigned bit;
        const char *name;
    } flags[] = {{0x8000, " qr"}, {0x400, " aa"}, {0x200, " tc"}, {0x100, " rd"},
                 {0x80, " ra"},   {0x40, " z"},   {0x20, " ad"},  {0x10, " cd"}};
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
        if (bits & flags[i].bit) text_string(t, flags[i].name);
}

static void add_header(text *t, const dns_message *m)
{
    const uint8_t *data = m->reader.data;
    const unsigned bits = dns_get16(data + 2), opcode = bits >> 11 & 15;
    const ldns_lookup_table *known = ldns_lookup_by_id(ldns_opcodes, (int)opcode);
    text_string(t, ";; opcode: ");
    if (known)
        text_string(t, known->name);
    else
        text_number(t, opcode);
    text_string(t, ", status: ");
    text_dns_rcode(t, dns_rcode(m));
    add_count(t, ", id: ", dns_get16(data));
    text_string(t, "\n;; flags:");
    add_flags(t, bits);
    add_count(t, "; QUERY: ", m->questions);
    add_count(t, ", ANSWER: ", m->records[0]);
    add_count(t, ", AUTHORITY: ", m->records[1]);
    add_count(t, ", ADDITIONAL: ", m->records[2]);
    text_string(t, "\n");
}

static void add_questions(text *t, dns_reader *r, unsigned count)
{
    dns_question q;
    if (count) text_string(t, "\n;; QUESTION SECTION:\n");
    for (; count > 0; count--) {
        dns_read_question(r, &q);
        text_string(t, ";");
        text_dns_name(t, &q);
        add_tab(t);
        text_dns_class(t, q.class_);
        text_string(t, "\t ");
        text_dns_type(t, q.type);
        text_string(t, "\n");
    }
}

static void add_section(text *t, dns_reader *r, const dns_message *m, int section)
{
    static const char *const titles[] = {"\n;; ANSWER SECTION:\n", "\n;; AUTHORITY SECTION:\n",
                                         "\n;; ADDITIONAL SECTION:\n"};
    bool begun = false;
    for (unsigned n = m->records[section]; n > 0; n--) {
        dns_record record;
        dns_read_record(r, &record);
        if (section == 2 && record.type == LDNS_RR_TYPE_OPT) continue; /* has a section above */
        if (!begun) text_string(t, titles[section]);
        begun = true;
        add_record(t, r, &record);
    }
}

void text_dns_message(text *t, const dns_message *m)
{
    dns_reader r = m->reader;
    dns_record opt;
    add_header(t, m);
    if (dns_find_opt(m, &opt)) add_opt(t, &r, &opt);
    add_questions(t, &r, m->questions);
    for (int section = 0; section < DNS_RECORD_SECTIONS; section++) add_section(t, &r, m, section);
}
