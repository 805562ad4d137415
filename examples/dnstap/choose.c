/* choose.c: which messages are put out: what --type, --name, --client and --rcode say, each of them
 * one of the values it was given, and all of them together; and the first COUNT of -n. */
#include "dns.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <ldns/ldns.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

typedef struct prefix {
    uint8_t address[16]; /* IPv4 as IPv4-mapped */
    unsigned bits;
    bool ipv4;
} prefix;

typedef struct suffix {
    uint8_t name[DNS_NAME_MAX]; /* in wire format */
    size_t size;
} suffix;

/* Each a growing array; empty: whatever there is. */
static text types, names, clients, rcodes;
static uint64_t most, taken; /* most 0: all */
static bool copying;         /* what can't be decoded is put out, too */

static bool any_filter(void) { return types.size || names.size || clients.size || rcodes.size; }

bool choose_any(void) { return any_filter() || most; }
bool choose_done(void) { return most && taken >= most; }

/* ---- what the flags say --------------------------------------------------------------------- */

/* A name of the schema or its two letters, in either case, or a number. */
static const char *add_type(const char *s)
{
    char upper[32];
    char *end;
    size_t i = 0;
    for (; s[i] && i < sizeof upper - 1; i++) upper[i] = (char)toupper((unsigned char)s[i]);
    upper[i] = '\0';
    uint32_t type = dnstap_message_type_from(upper);
    if (!type && isdigit((unsigned char)*s)) {
        type = (uint32_t)strtoul(s, &end, 10);
        if (*end) type = 0;
    }
    if (!type || s[i]) return "no such type; give CLIENT_QUERY, CQ, or a number";
    text_bytes(&types, &type, sizeof type);
    return NULL;
}

static const char *add_name(const char *s)
{
    suffix wanted;
    ldns_rdf *name = NULL;
    const bool well = *s &&
                      ldns_str2rdf_dname(&name, *s == '.' && s[1] ? s + 1 : s) == LDNS_STATUS_OK;
    memset(&wanted, 0, sizeof wanted);
    wanted.size = well ? ldns_rdf_size(name) : 0;
    if (wanted.size > 0 && wanted.size <= sizeof wanted.name)
        memcpy(wanted.name, ldns_rdf_data(name), wanted.size);
    ldns_rdf_deep_free(name);
    if (wanted.size == 0 || wanted.size > sizeof wanted.name)
        return "not a name; give one such as example.org";
    text_bytes(&names, &wanted, sizeof wanted);
    return NULL;
}

/* ::ffff:192.0.2.1, which is 192.0.2.1. */
static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255};

static bool read_bits(const char *s, unsigned bits, unsigned *out)
{
    *out = bits;
    if (!s) return true;
    char *end;
    const unsigned long n = strtoul(s, &end, 10);
    *out = (unsigned)n;
    return isdigit((unsigned char)*s) && !*end && n <= bits;
}

static const char *add_client(const char *s)
{
    static const char why[] = "not a prefix; give one such as 192.0.2.0/24 or 2001:db8::/32";
    char address[INET6_ADDRSTRLEN];
    const char *slash = strchr(s, '/');
    const size_t size = slash ? (size_t)(slash - s) : strlen(s);
    prefix p;
    if (size >= sizeof address) return why;
    memcpy(address, s, size);
    address[size] = '\0';
    memcpy(p.address, mapped, sizeof mapped);
    p.ipv4 = inet_pton(AF_INET, address, p.address + 12) == 1;
    if (!p.ipv4 && inet_pton(AF_INET6, address, p.address) != 1) return why;
    if (!read_bits(slash ? slash + 1 : NULL, p.ipv4 ? 32 : 128, &p.bits)) return why;
    if (p.ipv4) p.bits += 96;
    p.ipv4 = p.bits >= 96 && !memcmp(p.address, mapped, sizeof mapped);
    text_bytes(&clients, &p, sizeof p);
    return NULL;
}

static const char *add_rcode(const char *s)
{
    unsigned rcode;
    if (!*s || !dns_rcode_from(s, &rcode)) return "no such code; give NXDOMAIN, or a number";
    text_bytes(&rcodes, &rcode, sizeof rcode);
    return NULL;
}

const char *choose_add(choice which, const char *values)
{
    static const char *(*const add[])(const char *) = {add_type, add_name, add_client, add_rcode};
    char value[1024];
    const char *why = NULL;
    for (bool more = true; more && !why;) {
        const size_t size = strcspn(values, ",");
        if (size >= sizeof value) return "is too long";
        memcpy(value, values, size);
        value[size] = '\0';
        why = add[which](value);
        more = values[size] == ',';
        values += size + 1;
    }
    return why;
}

void choose_first(uint64_t count) { most = count; }
void choose_copies(void) { copying = true; }

/* ---- messages ------------------------------------------------------------------------------- */

static bool type_fits(const dnstap_message *m)
{
    const uint32_t *type = (const uint32_t *)(const void *)types.data;
    for (size_t n = types.size / sizeof *type; n > 0; n--, type++)
        if (*type == m->type) return true;
    return types.size == 0;
}

/* The last bytes of a name in wire format are those of a suffix, if they begin with a label. */
static bool is_under(const dns_question *q, const suffix *s)
{
    const uint8_t *label = q->name;
    size_t left = q->size;
    for (; left > s->size; label += 1 + *label) left -= 1u + *label;
    for (size_t i = 0; left == s->size && i < left; i++)
        if (tolower(label[i]) != tolower(s->name[i]))
            return false; /* sizes of labels are below A */
    return left == s->size;
}

static bool name_fits(const dns_message *dns)
{
    const suffix *s = (const suffix *)(const void *)names.data;
    for (size_t n = names.size / sizeof *s; n > 0 && dns->questions > 0; n--, s++)
        if (is_under(&dns->question, s)) return true;
    return names.size == 0;
}

static bool same_bits(const uint8_t *a, const uint8_t *b, unsigned bits)
{
    const unsigned bytes = bits / 8, rest = bits % 8;
    return !memcmp(a, b, bytes) && (!rest || (a[bytes] ^ b[bytes]) >> (8 - rest) == 0);
}

/* An IPv4 address is none of ::/0. */
static bool client_fits(dnstap_bytes client)
{
    const prefix *p = (const prefix *)(const void *)clients.data;
    uint8_t address[16];
    if (clients.size == 0) return true;
    if (client.size != 4 && client.size != 16) return false;
    memcpy(address, mapped, sizeof mapped);
    memcpy(address + 16 - client.size, client.data, client.size);
    const bool ipv4 = !memcmp(address, mapped, sizeof mapped);
    for (size_t n = clients.size / sizeof *p; n > 0; n--, p++)
        if (p->ipv4 == ipv4 && same_bits(address, p->address, p->bits)) return true;
    return false;
}

static bool rcode_fits(const dnstap_message *m, const dns_message *dns)
{
    const unsigned *code = (const unsigned *)(const void *)rcodes.data;
    if (rcodes.size == 0) return true;
    if (!m->response_message.data || dns->reader.size < DNS_HEADER) return false;
    const unsigned rcode = dns_rcode(dns);
    for (size_t n = rcodes.size / sizeof *code; n > 0; n--, code++)
        if (*code == rcode) return true;
    return false;
}

/* The DNS message that the event is about, if it has it, else the other one. */
static dnstap_bytes dns_of(const dnstap_message *m)
{
    const bool response = rcodes.size || dnstap_is_response(m->type);
    const dnstap_bytes first = response ? m->response_message : m->query_message;
    return first.data ? first : response ? m->query_message : m->response_message;
}

static bool fits(const dnstap_message *m)
{
    dns_message dns;
    if (!has_field(m, 1) || !type_fits(m) || !client_fits(m->query_address)) return false;
    if (!names.size && !rcodes.size) return true;
    const char *why = dns_read(&dns, dns_of(m));
    (void)why; /* a question may be read all the same */
    return name_fits(&dns) && rcode_fits(m, &dns);
}

bool choose_takes(const dnstap_received *r)
{
    if (choose_done()) return false;
    if (r->message ? any_filter() && !fits(r->message) : any_filter() || !copying) return false;
    taken++;
    return true;
}
