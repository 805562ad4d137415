/* The walk that finds client subnets, over hostile DNS bytes: 200,000 messages, with TEST_LONG two
 * million, each in a heap block of its size, under AddressSanitizer. What it finds and cuts is
 * compared with a second reader of the format, which shares no code with it. */
#define DNSTAP_IMPLEMENTATION
#include "dnstap.h"

#include "unit.h"

enum { MOST = 400, V4_BITS = 20, V6_BITS = 44 };

static dnstap__filter filter;

/* -- the second reader: cuts in place; -1: it can't be read, and then it is left half cut -- */

static size_t u16(const uint8_t *p) { return (size_t)p[0] << 8 | p[1]; }

/* Behind the name at `at`; 0: there is none. */
static size_t after_name(const uint8_t *dns, size_t size, size_t at)
{
    size_t bytes = 1;

    while (at < size && dns[at] && dns[at] < 64) {
        bytes += dns[at] + 1u;
        at += dns[at] + 1u;
        if (bytes > 255) return 0;
    }
    if (at >= size || (dns[at] && dns[at] < 192)) return 0;
    at += dns[at] ? 2 : 1;
    return at <= size ? at : 0;
}

static void zero_bits_from(uint8_t *p, size_t size, size_t bit)
{
    for (; bit < size * 8; bit++) p[bit / 8] &= (uint8_t) ~(0x80 >> bit % 8);
}

static size_t bits_of(const uint8_t *p, size_t size)
{
    static const uint8_t prefixes[2][12] = {{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255},
                                            {0, 100, 255, 155}};
    uint8_t ip[16] = {0};

    memcpy(ip, p, size < 16 ? size : 16);
    if (!memcmp(ip, prefixes[0], 12)) return 96 + V4_BITS;
    if (!memcmp(ip, prefixes[1], 12)) return V6_BITS;
    return ip[0] == 0x20 && ip[1] == 2 ? 16 + V4_BITS : V6_BITS;
}

static int read_options(uint8_t *p, size_t size)
{
    size_t at = 0, code, n, family;
    int found = 0;

    while (at < size) {
        if (size - at < 4) return -1;
        code = u16(p + at);
        n = u16(p + at + 2);
        at += 4;
        if (n > size - at) return -1;
        if ((code == 8 || code == 20730) && n > 4) {
            family = u16(p + at);
            zero_bits_from(p + at + 4, n - 4,
                           family == 1   ? V4_BITS
                           : family == 2 ? bits_of(p + at + 4, n - 4)
                                         : 0);
            found++;
        }
        at += n;
    }
    return found;
}

static int read_message(uint8_t *dns, size_t size)
{
    size_t at = 12, i, count;
    int found = 0, more;

    if (!size) return 0;
    if (size < 12) return -1;
    for (i = u16(dns + 4); i; i--) {
        at = after_name(dns, size, at);
        if (!at || size - at < 4) return -1;
        at += 4;
    }
    count = u16(dns + 6) + u16(dns + 8) + u16(dns + 10);
    for (i = 0; i < count; i++) {
        at = after_name(dns, size, at);
        if (!at || size - at < 10 || u16(dns + at + 8) > size - at - 10) return -1;
        more = u16(dns + at) == 41 ? read_options(dns + at + 10, u16(dns + at + 8)) : 0;
        if (more < 0) return -1;
        found += more;
        at += 10 + u16(dns + at + 8);
    }
    return at == size ? found : -1;
}

/* -- messages -- */

static size_t put(uint8_t *to, size_t at, const void *from, size_t n)
{
    if (at + n > MOST) return at;
    memcpy(to + at, from, n);
    return at + n;
}

static size_t put_options(uint8_t *dns, size_t at)
{
    static const uint8_t families[] = {1, 1, 2, 2, 0, 3};
    uint8_t option[48];
    size_t n, i, count = rnd(3);

    for (; count; count--) {
        n = rnd(4) ? 4 + (rnd(2) ? 4 : 16) : rnd(28);
        for (i = 4; i < sizeof option; i++) option[i] = rnd(5) ? (uint8_t)rnd(256) : 0xff;
        option[0] = 0;
        option[1] = rnd(3) ? 8 : 3;
        if (rnd(8) == 0) memcpy(option, "\x50\xfa", 2);
        option[2] = 0;
        option[3] = (uint8_t)n;
        option[4] = 0;
        option[5] = families[rnd(sizeof families)];
        if (rnd(6) == 0) memcpy(option + 8, "\0\0\0\0\0\0\0\0\0\0\xff\xff", 12);
        if (rnd(6) == 0) memcpy(option + 8, "\x20\2", 2);
        if (rnd(6) == 0) memcpy(option + 8, "\0\x64\xff\x9b\0\0\0\0\0\0\0\0", 12);
        at = put(dns, at, option, 4 + n);
    }
    return at;
}

static size_t make_message(uint8_t *dns)
{
    static const char *const names[] = {"\0", "\3www\7example\3org\0", "\xc0\x0c", "\1a\xc0\x0c"};
    static const size_t sizes[] = {1, 17, 2, 4};
    size_t at = 12, from, k;
    uint32_t section, count;

    memset(dns, 0, MOST);
    for (section = 0; section < 4; section++) {
        count = rnd(3);
        dns[5 + 2 * section] = (uint8_t)count;
        for (; count; count--) {
            k = rnd(4);
            at = put(dns, at, names[k], sizes[k]);
            at = put(dns, at, rnd(3) && section == 3 ? "\0\x29\4\xd0" : "\0\1\0\1", 4);
            if (!section) continue;
            at = put(dns, at, "\0\0\0\0\0\0", 6);
            from = at;
            at = put_options(dns, at);
            dns[from - 1] = (uint8_t)(at - from);
            if (at - from > 255) dns[from - 2] = 1;
        }
    }
    for (k = rnd(3) ? 0 : rnd(4); k; k--) dns[rnd((uint32_t)at)] = (uint8_t)rnd(256);
    if (rnd(8) == 0) at = rnd((uint32_t)at + 1);
    if (rnd(16) == 0) at = put(dns, at, "junk", 1 + rnd(4));
    return at;
}

static unsigned walked, refused, cut;

static void check_message(const uint8_t *made, size_t size)
{
    uint8_t *given = (uint8_t *)malloc(size + !size), *copy = (uint8_t *)malloc(size + !size);
    uint8_t expected[MOST];
    int found, again;

    memcpy(given, made, size);
    memcpy(copy, made, size);
    memcpy(expected, made, size);
    found = dnstap__cut_dns(&filter, given, size, NULL);
    assert_int_equal(found, read_message(expected, size));
    assert_memory_equal(given, made, size);
    if (found < 0) {
        refused++;
    } else {
        walked++;
        assert_int_equal(dnstap__cut_dns(&filter, copy, size, copy), found);
        assert_memory_equal(copy, expected, size);
        cut += memcmp(copy, made, size) != 0;
        again = dnstap__cut_dns(&filter, copy, size, copy);
        assert_int_equal(again, found);
        assert_memory_equal(copy, expected, size);
    }
    free(given);
    free(copy);
}

static void test_hostile_messages_are_cut_right_or_refused(void **state)
{
    uint8_t dns[MOST];
    unsigned i, n = test_long() ? 2000000 : 200000;

    (void)state;
    filter.v4 = V4_BITS;
    filter.v6 = V6_BITS;
    for (i = 0; i < n; i++) check_message(dns, make_message(dns));
    assert_true(walked > n / 5 && refused > n / 5 && cut > n / 10);
}

/* As many names, records and options as 64 KiB hold: the walk goes once over them. */
static void test_large_messages_are_walked_to_their_end(void **state)
{
    static uint8_t dns[65535];
    size_t at = 12, records = 0;

    (void)state;
    filter.v4 = V4_BITS;
    filter.v6 = V6_BITS;
    for (; at + 30 < sizeof dns; at += 21, records++) /* owners of 5 labels each */
        memcpy(dns + at, "\1a\1b\1c\1d\1e\0\0\1\0\1\0\0\0\0\0\0", 21);
    memcpy(dns + at, "\0\0\x29\4\xd0\0\0\0\0\0\0", 11);
    at += 11;
    dns[6] = (uint8_t)(records >> 8);
    dns[7] = (uint8_t)records;
    dns[11] = 1;
    assert_int_equal(dnstap__cut_dns(&filter, dns, at, NULL), 0);
    dns[11] = 2;
    assert_int_equal(dnstap__cut_dns(&filter, dns, at, NULL), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hostile_messages_are_cut_right_or_refused),
        cmocka_unit_test(test_large_messages_are_walked_to_their_end),
    };

    return RUN_TESTS(tests, NULL, NULL);
}
