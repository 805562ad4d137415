/* edns.c: EDNS options as lines, in golang-dnstap's words, and options it doesn't know in those it
 * has for such. They have been checked by dns_read. */
#include "dns.h"

#include <ldns/ldns.h>
#include <string.h>

/* Printable ASCII as it is. */
static void add_text(text *t, const uint8_t *p, size_t size)
{
    for (const uint8_t *end = p + size; p < end; p++) {
        if (*p >= ' ' && *p <= '~') {
            text_bytes(t, p, 1);
        } else {
            text_string(t, "\\");
            text_digits(t, *p, 3);
        }
    }
}

/* RFC 5001: each character on its own, too. */
static void add_nsid(text *t, const uint8_t *p, size_t size)
{
    text_hex(t, dnstap_bytes_of(p, size));
    text_string(t, "  ");
    for (size_t i = 0; i < size; i++) {
        text_string(t, "(");
        add_text(t, p + i, 1);
        text_string(t, ")");
    }
}

/* RFC 7871, 6. */
static void add_subnet(text *t, const uint8_t *p, size_t size)
{
    uint8_t address[16] = {0};
    const size_t room = dns_get16(p) == 2 ? 16 : 4;
    memcpy(address, p + 4, size - 4 < room ? size - 4 : room);
    text_string(t, room == 16 ? "[" : "");
    text_address(t, dnstap_bytes_of(address, room));
    text_string(t, room == 16 ? "]/" : "/");
    text_number(t, p[2]);
    text_string(t, "/");
    text_number(t, p[3]);
}

/* RFC 7828, in units of 100 ms. */
static void add_keepalive(text *t, const uint8_t *p, size_t size)
{
    text_string(t, "use tcp keep-alive, timeout ");
    if (size == 2) {
        text_number(t, dns_get16(p) * 100u);
        text_string(t, "ms");
    } else {
        text_string(t, "omitted");
    }
}

/* RFC 8914, 4. */
static void add_error(text *t, const uint8_t *p, size_t size)
{
    static const char *const names[] = {
        "Other",
        "Unsupported DNSKEY Algorithm",
        "Unsupported DS Digest Type",
        "Stale Answer",
        "Forged Answer",
        "DNSSEC Indeterminate",
        "DNSSEC Bogus",
        "Signature Expired",
        "Signature Not Yet Valid",
        "DNSKEY Missing",
        "RRSIGs Missing",
        "No Zone Key Bit Set",
        "NSEC Missing",
        "Cached Error",
        "Not Ready",
        "Blocked",
        "Censored",
        "Filtered",
        "Prohibited",
        "Stale NXDOMAIN Answer",
        "Not Authoritative",
        "Not Supported",
        "No Reachable Authority",
        "Network Error",
        "Invalid Data",
    };
    const unsigned code = dns_get16(p);
    text_number(t, code);
    if (code < sizeof names / sizeof *names) {
        text_string(t, " (");
        text_string(t, names[code]);
        text_string(t, ")");
    }
    text_string(t, ": (");
    add_text(t, p + 2, size - 2);
    text_string(t, ")");
}

/* RFC 6975: algorithms, or hashes, a byte each. */
static void add_understood(text *t, const uint8_t *p, size_t size, bool hashes)
{
    static const char *const names[] = {"0", "SHA1", "SHA256", "GOST94", "SHA384"};
    for (const uint8_t *end = p + size; p < end; p++) {
        const ldns_lookup_table *algorithm = ldns_lookup_by_id(ldns_algorithms, *p);
        text_string(t, " ");
        if (hashes && *p < sizeof names / sizeof *names)
            text_string(t, names[*p]);
        else if (!hashes && algorithm)
            text_string(t, algorithm->name);
        else
            text_number(t, *p);
    }
}

/* Numbers of so many bytes, in a row. */
static void add_numbers(text *t, const uint8_t *p, const char *sizes)
{
    for (const char *size = sizes; *size; size++) {
        uint64_t n = 0;
        for (int left = *size - '0'; left > 0; left--) n = n << 8 | *p++;
        text_string(t, size > sizes ? " " : "");
        text_number(t, n);
    }
}

static void add_unknown(text *t, unsigned code, const uint8_t *p, size_t size)
{
    text_number(t, code);
    text_string(t, ":0x");
    text_hex(t, dnstap_bytes_of(p, size));
}

static void add_value(text *t, unsigned code, const uint8_t *p, size_t size)
{
    switch (code) {
    case DNS_OPTION_LLQ:
        add_numbers(t, p, "22284");
        break;
    case DNS_OPTION_LEASE:
        add_numbers(t, p, size == 8 ? "44" : "4");
        if (size < 8) text_string(t, " 0");
        break;
    case DNS_OPTION_NSID:
        add_nsid(t, p, size);
        break;
    case DNS_OPTION_ESU:
        add_text(t, p, size);
        break;
    case DNS_OPTION_DAU:
    case DNS_OPTION_DHU:
    case DNS_OPTION_N3U:
        add_understood(t, p, size, code != DNS_OPTION_DAU);
        break;
    case DNS_OPTION_SUBNET:
        add_subnet(t, p, size);
        break;
    case DNS_OPTION_EXPIRE:
        add_numbers(t, p, size >= 4 ? "4" : "");
        break;
    case DNS_OPTION_KEEPALIVE:
        add_keepalive(t, p, size);
        break;
    case DNS_OPTION_ERROR:
        add_error(t, p, size);
        break;
    case DNS_OPTION_COOKIE:
    case DNS_OPTION_PADDING:
        text_hex(t, dnstap_bytes_of(p, size));
        break;
    default:
        add_unknown(t, code, p, size);
    }
}

void text_dns_option(text *t, unsigned code, const uint8_t *p, size_t size)
{
    static const char *const names[] = {
        [DNS_OPTION_LLQ] = "LONG LIVED QUERIES",
        [DNS_OPTION_LEASE] = "UPDATE LEASE",
        [DNS_OPTION_NSID] = "NSID",
        [DNS_OPTION_ESU] = "ESU",
        [DNS_OPTION_DAU] = "DNSSEC ALGORITHM UNDERSTOOD",
        [DNS_OPTION_DHU] = "DS HASH UNDERSTOOD",
        [DNS_OPTION_N3U] = "NSEC3 HASH UNDERSTOOD",
        [DNS_OPTION_SUBNET] = "SUBNET",
        [DNS_OPTION_EXPIRE] = "EXPIRE",
        [DNS_OPTION_COOKIE] = "COOKIE",
        [DNS_OPTION_KEEPALIVE] = "KEEPALIVE",
        [DNS_OPTION_PADDING] = "PADDING",
        [DNS_OPTION_ERROR] = "EDE",
    };
    const char *name = code < sizeof names / sizeof *names ? names[code] : NULL;
    text_string(t, "; ");
    text_string(t, name ? name : "LOCAL OPT");
    text_string(t, ": ");
    add_value(t, code, p, size);
    text_string(t, "\n");
}
