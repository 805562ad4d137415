/* dns.c: a walk over a DNS message (RFC 1035, 4), which takes and refuses what golang-dnstap's tool
 * does, for the same reasons: a name's size and pointers, a record's frame, and the form of its
 * data, for each type that it knows. In: bytes, from anybody; out: where things are, or why not. */
#include "dns.h"

#include <stdio.h>
#include <string.h>

enum { POINTERS_MAX = 126, NAME_BYTES = 255, TYPE_TA = 32768, TYPE_DLV = 32769 };

unsigned dns_get16(const uint8_t *p) { return (unsigned)p[0] << 8 | p[1]; }
uint32_t dns_get32(const uint8_t *p) { return (uint32_t)dns_get16(p) << 16 | dns_get16(p + 2); }

static size_t left(const dns_reader *r) { return r->size - r->at; }

/* ---- names --------------------------------------------------------------------------------- */

static const char too_small[] = "dns: buffer size too small";

/* to: room for DNS_NAME_MAX bytes, or NULL; size: of the name without compression. */
static const char *walk_name(dns_reader *r, uint8_t *to, size_t *size)
{
    size_t at = r->at, n = 0;
    int pointers = 0;
    for (;;) {
        if (at >= r->size) return too_small;
        const size_t label = r->data[at];
        if (label >= 192) {
            if (r->size - at < 2) return too_small;
            if (pointers == 0) r->at = at + 2;
            if (++pointers > POINTERS_MAX) return "dns: too many compression pointers";
            at = dns_get16(r->data + at) & 0x3fff;
            continue;
        }
        if (label >= 64) return "dns: bad rdata";
        if (label >= r->size - at) return too_small;
        if (label > 0 && n + 1 + label >= NAME_BYTES)
            return "dns: domain name exceeded 255 wire-format octets";
        if (to) memcpy(to + n, r->data + at, 1 + label);
        n += 1 + label;
        at += 1 + label;
        if (label > 0) continue;
        if (pointers == 0) r->at = at;
        *size = n;
        return NULL;
    }
}

const char *dns_read_name(dns_reader *r, dns_question *q)
{
    return walk_name(r, q->name, &q->size);
}

static const char *skip_name(dns_reader *r)
{
    size_t size;
    return walk_name(r, NULL, &size);
}

/* ---- what lies in options and parameters ---------------------------------------------------- */

static const char *check_subnet(const uint8_t *p, size_t size)
{
    if (size < 4) return too_small;
    const unsigned family = dns_get16(p), most = family == 2 ? 128 : 32;
    if (family > 2 || (family == 0 && p[2] != 0)) return "dns: bad address family";
    return family > 0 && (p[2] > most || p[3] > most) ? "dns: bad netmask" : NULL;
}

static const char *check_keepalive(size_t size)
{
    static char why[64];
    if (size == 0 || size == 2) return NULL;
    snprintf(why, sizeof why, "dns: length mismatch, want 0/2 but got %zu", size);
    return why;
}

static const char *check_option(unsigned code, const uint8_t *p, size_t size)
{
    switch (code) {
    case DNS_OPTION_LLQ:
        return size < 18 ? too_small : NULL;
    case DNS_OPTION_LEASE:
        return size != 4 && size != 8 ? too_small : NULL;
    case DNS_OPTION_SUBNET:
        return check_subnet(p, size);
    case DNS_OPTION_EXPIRE:
        return size > 0 && size < 4 ? too_small : NULL;
    case DNS_OPTION_KEEPALIVE:
        return check_keepalive(size);
    case DNS_OPTION_ERROR:
        return size < 2 ? too_small : NULL;
    default:
        return NULL;
    }
}

/* RFC 6891, 6.1.2. */
static const char *read_options(dns_reader *r)
{
    do {
        if (left(r) < 4) return "dns: overflow unpacking opt";
        const unsigned code = dns_get16(r->data + r->at);
        const size_t size = dns_get16(r->data + r->at + 2);
        r->at += 4;
        if (left(r) < size) return "dns: overflow unpacking opt";
        const char *why = check_option(code, r->data + r->at, size);
        if (why) return why;
        r->at += size;
    } while (left(r) > 0);
    return NULL;
}

enum { MANDATORY, ALPN, NO_DEFAULT_ALPN, PORT, IPV4HINT, ECH, IPV6HINT, NO_KEY = 65535 };

static const char *check_alpn(const uint8_t *p, size_t size)
{
    size_t at = 0;
    while (at < size) at += 1u + p[at];
    return at > size ? "dns: svcbalpn: alpn array overflowing" : NULL;
}

static const char *check_ipv6hint(const uint8_t *p, size_t size)
{
    static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255};
    if (size == 0 || size % 16)
        return "dns: svcbipv6hint: ipv6 address byte array length not a multiple of 16";
    for (size_t at = 0; at < size; at += 16)
        if (!memcmp(p + at, mapped, 12)) return "dns: svcbipv6hint: expected ipv6, got ipv4";
    return NULL;
}

static const char *check_parameter(unsigned key, const uint8_t *p, size_t size)
{
    switch (key) {
    case MANDATORY:
        return size % 2 ? "dns: svcbmandatory: value length is not a multiple of 2" : NULL;
    case ALPN:
        return check_alpn(p, size);
    case NO_DEFAULT_ALPN:
        return size ? "dns: svcbnodefaultalpn: no-default-alpn must have no value" : NULL;
    case PORT:
        return size != 2 ? "dns: svcbport: port length is not exactly 2 octets" : NULL;
    case IPV4HINT:
        return size == 0 || size % 4 ? "dns: svcbipv4hint: ipv4 address byte array length is not "
                                       "a multiple of 4"
                                     : NULL;
    case IPV6HINT:
        return check_ipv6hint(p, size);
    case NO_KEY:
        return "dns: bad SVCB key";
    default:
        return NULL;
    }
}

/* RFC 9460, 2.2. */
static const char *read_parameters(dns_reader *r)
{
    long before = -1;
    while (left(r) > 0) {
        if (left(r) < 4) return "dns: overflow unpacking SVCB";
        const unsigned key = dns_get16(r->data + r->at);
        const size_t size = dns_get16(r->data + r->at + 2);
        r->at += 4;
        if (left(r) < size) return "dns: overflow unpacking SVCB";
        const char *why = check_parameter(key, r->data + r->at, size);
        if (why) return why;
        if ((long)key <= before) return "dns: SVCB keys not in strictly increasing order";
        before = (long)key;
        r->at += size;
    }
    return NULL;
}

/* RFC 4034, 4.1.2. */
static const char *read_bitmap(dns_reader *r)
{
    int before = -1;
    while (left(r) > 0) {
        if (left(r) < 2) return "dns: overflow unpacking NSEC(3)";
        const int window = r->data[r->at];
        const size_t size = r->data[r->at + 1];
        r->at += 2;
        if (window <= before) return "dns: out of order NSEC(3) block in type bitmap";
        if (size == 0) return "dns: empty NSEC(3) block in type bitmap";
        if (size > 32) return "dns: NSEC(3) block too long in type bitmap";
        if (left(r) < size) return "dns: overflowing NSEC(3) block in type bitmap";
        before = window;
        r->at += size;
    }
    return NULL;
}

/* RFC 3123, 4. */
static const char *read_prefixes(dns_reader *r)
{
    while (left(r) > 0) {
        const uint8_t *p = r->data + r->at;
        if (left(r) < 4) return "dns: overflow unpacking APL prefix";
        const unsigned family = dns_get16(p);
        const size_t most = family == 1 ? 4 : 16, size = p[3] & 0x7fu;
        if (family != 1 && family != 2) return "dns: unrecognized APL address family";
        if (p[2] > 8 * most) return "dns: APL prefix too long";
        if (size > most) return "dns: APL length too long";
        r->at += 4;
        if (left(r) < size) return "dns: overflow unpacking APL address";
        if (size > 0 && p[4 + size - 1] == 0) return "dns: extra APL address bits";
        r->at += size;
    }
    return NULL;
}

/* ---- a record's data ------------------------------------------------------------------------ */

/* How the data of each type is made up. Digits: a number of so many bytes; a, q: an IPv4, an IPv6
 * address; n: a name; s: a string with its length, S: strings to the end; x, X: as many bytes as
 * the byte before says, y: the two bytes before; h: what HIP has; m: a bitmap of types; o: EDNS
 * options; v: parameters; p: prefixes; r: the rest, whatever it is. A type that has none is "r",
 * too, and ANY, which is no type of data, is "". */
static const char *const forms[] = {
    [1] = "a",       [2] = "n",           [3] = "n",           [4] = "n",      [5] = "n",
    [6] = "nn44444", [7] = "n",           [8] = "n",           [9] = "n",      [12] = "n",
    [13] = "ss",     [14] = "nn",         [15] = "2n",         [16] = "S",     [17] = "nn",
    [18] = "2n",     [19] = "s",          [21] = "2n",         [23] = "n",     [24] = "2114442nr",
    [25] = "211r",   [26] = "2nn",        [27] = "sss",        [28] = "q",     [29] = "1111444",
    [33] = "222n",   [35] = "22sssn",     [36] = "2n",         [37] = "221r",  [39] = "n",
    [41] = "o",      [42] = "p",          [43] = "211r",       [44] = "11r",   [46] = "2114442nr",
    [47] = "nm",     [48] = "211r",       [50] = "1121x1Xm",   [51] = "1121x", [52] = "111r",
    [53] = "111r",   [55] = "h",          [56] = "S",          [57] = "211r",  [58] = "nn",
    [59] = "211r",   [60] = "211r",       [62] = "42m",        [63] = "411r",  [64] = "2nv",
    [65] = "2nv",    [99] = "S",          [100] = "s",         [101] = "4",    [102] = "4",
    [104] = "28",    [105] = "2a",        [106] = "28",        [107] = "2n",   [108] = "6",
    [109] = "8",     [249] = "n44222y2y", [250] = "n622y222y", [255] = "",     [256] = "22r",
    [257] = "1sr",   [258] = "S",
};

static const char *form_of(unsigned type)
{
    if (type == TYPE_TA || type == TYPE_DLV) return "211r";
    return type < sizeof forms / sizeof *forms && forms[type] ? forms[type] : "r";
}

static const char *skip(dns_reader *r, size_t size, const char *why)
{
    if (left(r) < size) return why;
    r->at += size;
    return NULL;
}

static const char *read_string(dns_reader *r)
{
    static const char overflow[] = "dns: overflow unpacking txt";
    return left(r) == 0 ? overflow : skip(r, 1u + r->data[r->at], overflow);
}

static const char *read_strings(dns_reader *r)
{
    const char *why = NULL;
    while (left(r) > 0 && !why) why = read_string(r);
    return why;
}

static const char *read_names(dns_reader *r)
{
    const char *why = NULL;
    while (left(r) > 0 && !why) why = skip_name(r);
    return why;
}

static const char *read_number(dns_reader *r, size_t size)
{
    switch (size) {
    case 1:
        return skip(r, 1, "dns: overflow unpacking uint8");
    case 2:
        return skip(r, 2, "dns: overflow unpacking uint16");
    case 4:
        return skip(r, 4, "dns: overflow unpacking uint32");
    case 6:
        return skip(r, 6, "dns: overflow unpacking uint64 as uint48");
    default:
        return skip(r, 8, "dns: overflow unpacking uint64");
    }
}

/* RFC 8005, 5: the sizes of tag and key, an algorithm between them, tag, key, names. */
static const char *read_hip(dns_reader *r)
{
    const uint8_t *p = r->data + r->at;
    const char *why = NULL;
    for (const char *field = "112"; *field; field++)
        if ((why = read_number(r, (size_t)(*field - '0'))) || left(r) == 0) return why;
    why = skip(r, p[0], "dns: overflow unpacking hex");
    if (!why) why = skip(r, dns_get16(p + 2), "dns: overflow unpacking base64");
    return why ? why : read_names(r);
}

static const char *read_field(dns_reader *r, char form)
{
    const uint8_t *behind = r->data + r->at;
    switch (form) {
    case 'a':
        return skip(r, 4, "dns: overflow unpacking a");
    case 'q':
        return skip(r, 16, "dns: overflow unpacking aaaa");
    case 'n':
        return skip_name(r);
    case 's':
        return read_string(r);
    case 'S':
        return read_strings(r);
    case 'x':
        return skip(r, behind[-1], "dns: overflow unpacking hex");
    case 'X':
        return skip(r, behind[-1], "dns: overflow unpacking base32");
    case 'y':
        return skip(r, dns_get16(behind - 2), "dns: overflow unpacking hex");
    case 'h':
        return read_hip(r);
    case 'm':
        return read_bitmap(r);
    case 'o':
        return read_options(r);
    case 'v':
        return read_parameters(r);
    case 'p':
        return read_prefixes(r);
    case 'r':
        return skip(r, left(r), NULL);
    default:
        return read_number(r, (size_t)(form - '0'));
    }
}

/* Data may end behind any field but counted bytes, and no later. r ends with the data, and so do
 * names in it. */
static const char *read_data(dns_reader *r, unsigned type)
{
    bool goes_on = false;
    for (const char *form = form_of(type); *form && (left(r) > 0 || goes_on); form++) {
        const char *why = read_field(r, *form);
        if (why) return why;
        goes_on = strchr("xXy", *form) != NULL;
    }
    return left(r) > 0 ? "dns: bad rdlength" : NULL;
}

/* ---- the message ---------------------------------------------------------------------------- */

/* The message may end behind the name, or inside the class; what is missing is 0. */
const char *dns_read_question(dns_reader *r, dns_question *q)
{
    q->type = q->class_ = 0;
    const char *why = dns_read_name(r, q);
    if (why || left(r) == 0) return why;
    why = read_number(r, 2);
    if (why) return why;
    q->type = dns_get16(r->data + r->at - 2);
    if (left(r) >= 2) q->class_ = dns_get16(r->data + r->at);
    r->at += left(r) >= 2 ? 2 : left(r);
    return NULL;
}

const char *dns_read_record(dns_reader *r, dns_record *record)
{
    memset(record, 0, sizeof *record);
    record->begin = record->end = r->at;
    if (left(r) == 0) return NULL;
    const char *why = skip_name(r);
    for (const char *field = "2242"; *field && !why; field++)
        why = read_number(r, (size_t)(*field - '0'));
    if (why) return why;
    const uint8_t *behind = r->data + r->at;
    const size_t length = dns_get16(behind - 2);
    if (left(r) < length) return "dns: overflowing header size";
    record->type = dns_get16(behind - 10);
    record->class_ = dns_get16(behind - 8);
    record->ttl = dns_get32(behind - 6);
    record->data = r->at;
    record->end = r->at + length;
    dns_reader data = {r->data, record->end, r->at};
    r->at = record->end;
    return length > 0 ? read_data(&data, record->type) : NULL;
}

static const char *read_records(dns_reader *r, unsigned promised, unsigned *count)
{
    for (*count = 0; *count < promised && left(r) > 0; ++*count) {
        dns_record record;
        const char *why = dns_read_record(r, &record);
        if (why) return why;
    }
    return NULL;
}

const char *dns_read(dns_message *m, dnstap_bytes bytes)
{
    dns_reader r = {(const uint8_t *)bytes.data, bytes.size, DNS_HEADER};
    dns_question more;
    const char *why = NULL;
    m->questions = 0;
    m->reader = r;
    memset(m->records, 0, sizeof m->records);
    if (r.size < DNS_HEADER) return "dns: overflow unpacking uint16";
    if (r.size == DNS_HEADER) return NULL;
    for (unsigned n = dns_get16(r.data + 4); m->questions < n && !why;) {
        why = dns_read_question(&r, m->questions ? &more : &m->question);
        if (!why) m->questions++;
    }
    for (int s = 0; s < DNS_RECORD_SECTIONS && !why; s++)
        why = read_records(&r, dns_get16(r.data + 6 + 2 * s), &m->records[s]);
    return why;
}

bool dns_find_opt(const dns_message *m, dns_record *opt)
{
    enum { TYPE_OPT = 41 };
    dns_reader r = m->reader;
    dns_record record;
    dns_question q;
    bool found = false;
    for (unsigned n = m->questions; n > 0; n--) dns_read_question(&r, &q);
    for (unsigned n = m->records[0] + m->records[1]; n > 0; n--) dns_read_record(&r, &record);
    for (unsigned n = m->records[2]; n > 0; n--) {
        dns_read_record(&r, &record);
        if (record.type != TYPE_OPT) continue;
        *opt = record;
        found = true;
    }
    return found;
}

unsigned dns_rcode(const dns_message *m)
{
    dns_record opt;
    const unsigned rcode = m->reader.data[3] & 15u;
    return dns_find_opt(m, &opt) ? rcode | (opt.ttl >> 24) << 4 : rcode;
}
