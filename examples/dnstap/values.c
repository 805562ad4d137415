/* values.c: what the formats share: addresses and times in golang-dnstap's spelling, and what of a
 * message is meant. */
#include "dns.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

/* A decoded message has a bit in `present` for each number it came with. */
bool has_field(const dnstap_message *m, int field) { return (m->present >> field & 1u) != 0; }

void text_enum(text *t, uint32_t value, const char *name)
{
    if (name)
        text_string(t, name);
    else
        text_number(t, value);
}

/* ---- addresses ------------------------------------------------------------------------------ */

/* As RFC 5952 says: unlike inet_ntop it has dotted quads only for IPv4-mapped addresses. */
static void add_inet6(text *t, const uint8_t *a)
{
    static const uint8_t zero[12];
    char s[INET6_ADDRSTRLEN];
    if (!memcmp(a, zero, 12) && dns_get16(a + 12))
        snprintf(s, sizeof s, "::%x:%x", dns_get16(a + 12), dns_get16(a + 14));
    else
        inet_ntop(AF_INET6, a, s, sizeof s);
    text_string(t, strncmp(s, "::ffff:", 7) || !strchr(s, '.') ? s : s + 7);
}

static void add_inet(text *t, const uint8_t *a)
{
    for (int i = 0; i < 4; i++) {
        if (i) text_string(t, ".");
        text_number(t, a[i]);
    }
}

void text_address(text *t, dnstap_bytes address)
{
    const uint8_t *a = (const uint8_t *)address.data;
    if (address.size == 0)
        text_string(t, "<nil>");
    else if (address.size == 4)
        add_inet(t, a);
    else if (address.size == 16)
        add_inet6(t, a);
    else {
        text_string(t, "?");
        text_hex(t, address);
    }
}

/* ---- times ---------------------------------------------------------------------------------- */

enum { DAY = 86400, DAYS_OF_400_YEARS = 146097 };

/* The day `days` after March 1st of the year 0, which is one of a cycle of 400 years. */
static void split_days(uint32_t days, uint32_t *year, unsigned *month, unsigned *day)
{
    const uint32_t century = days / 36524 < 4 ? days / 36524 : 3;
    const uint32_t of_century = days - century * 36524, four = of_century / 1461;
    const uint32_t of_four = of_century - four * 1461;
    const uint32_t single = of_four / 365 < 4 ? of_four / 365 : 3;
    const uint32_t of_year = of_four - single * 365, from_march = (5 * of_year + 2) / 153;
    *day = of_year - (153 * from_march + 2) / 5 + 1;
    *month = from_march < 10 ? from_march + 3 : from_march - 9;
    *year = century * 100 + four * 4 + single + (from_march < 10 ? 0 : 1);
}

/* Go counts seconds in 64 bits from the year -292277022399 on, and around. That is the second year
 * of a cycle of 400 years, after which the calendar repeats itself. */
static const uint64_t origin = 9223372028715321600u; /* 1970, counted from there */
static const int64_t first = -292277022400;

civil_time civil_time_of(uint64_t sec, uint32_t nsec)
{
    const uint64_t all = sec + nsec / 1000000000u + origin, days = all / DAY + 306;
    const unsigned clock = (unsigned)(all % DAY);
    civil_time c;
    uint32_t year;
    split_days((uint32_t)(days % DAYS_OF_400_YEARS), &year, &c.month, &c.day);
    c.year = first + (int64_t)(days / DAYS_OF_400_YEARS * 400 + year);
    c.hour = clock / 3600;
    c.minute = clock / 60 % 60;
    c.second = clock % 60;
    c.nsec = nsec % 1000000000u;
    return c;
}

/* A year beyond int is none to localtime: the same day of another cycle is. */
civil_time local_time_of(uint64_t sec)
{
    static const uint64_t cycle = (uint64_t)DAYS_OF_400_YEARS * DAY, year_2001 = 978307200;
    const uint64_t all = sec + origin;
    const time_t when = (time_t)sec, like = (time_t)(all % cycle + year_2001);
    civil_time c;
    struct tm local;
    const bool known = localtime_r(&when, &local) != NULL;
    if (!known) localtime_r(&like, &local);
    c.year = local.tm_year + 1900;
    if (!known) c.year += first + 1 - 2001 + (int64_t)(all / cycle * 400);
    c.month = (unsigned)local.tm_mon + 1;
    c.day = (unsigned)local.tm_mday;
    c.hour = (unsigned)local.tm_hour;
    c.minute = (unsigned)local.tm_min;
    c.second = (unsigned)local.tm_sec;
    c.nsec = 0;
    return c;
}

/* Without zeros at its end. */
static void add_fraction(text *t, uint32_t nsec)
{
    int digits = 9;
    if (nsec == 0) return;
    for (; nsec % 10 == 0; nsec /= 10) digits--;
    text_string(t, ".");
    text_digits(t, nsec, digits);
}

void text_day(text *t, const civil_time *c)
{
    if (c->year < 0) text_string(t, "-");
    text_digits(t, (uint64_t)(c->year < 0 ? -c->year : c->year), 4);
    text_string(t, "-");
    text_digits(t, c->month, 2);
    text_string(t, "-");
    text_digits(t, c->day, 2);
}

void text_clock(text *t, const civil_time *c)
{
    text_digits(t, c->hour, 2);
    text_string(t, ":");
    text_digits(t, c->minute, 2);
    text_string(t, ":");
    text_digits(t, c->second, 2);
}

void text_civil_time(text *t, const civil_time *c, const char *between)
{
    text_day(t, c);
    text_string(t, between);
    text_clock(t, c);
    add_fraction(t, c->nsec);
}

/* ---- policies ------------------------------------------------------------------------------- */

static bool add_whole_name(text *t, dnstap_bytes bytes)
{
    dns_reader r = {(const uint8_t *)bytes.data, bytes.size, 0};
    dns_question q;
    if (dns_read_name(&r, &q) || r.at < r.size) return false;
    text_dns_name(t, &q);
    return true;
}

void text_policy_rule(text *t, const dnstap_policy *p)
{
    if (!add_whole_name(t, p->rule)) text_bytes(t, p->rule.data, p->rule.size);
}

void text_policy_value(text *t, const dnstap_policy *p)
{
    const bool address = p->match == DNSTAP_MATCH_CLIENT_IP ||
                         p->match == DNSTAP_MATCH_RESPONSE_IP || p->match == DNSTAP_MATCH_NS_IP;
    if (address && (p->value.size == 4 || p->value.size == 16))
        text_address(t, p->value);
    else if (address || !add_whole_name(t, p->value))
        text_bytes(t, p->value.data, p->value.size);
}
