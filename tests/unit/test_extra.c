/* `extra`: each label, where its facts come from, and what can't be parsed. What CoreDNS makes of
 * its own is in test_extra_corpus.c. */
#define _POSIX_C_SOURCE 200809L
#define _DEFAULT_SOURCE
#define DNSTAP_IMPLEMENTATION
#include "dnstap.h"

#include "extra_support.h"

/* ---- the query ---- */

static void test_labels_of_the_query(void **state)
{
    (void)state;
    start_query();
    check("{type} {name} {class} {>id} {>opcode} {size}", "AAAA example.test. IN 4660 0 30");
    check("{>do} {>bufsize} {>rflags}", "false 512 -");
    QUERY("\xff\xff\x20\x00\0\1\0\0\0\0\0\0"
          "\0\xff\x00\x01\x01");
    check("{type} {name} {class} {>id} {>opcode} {size}", "TYPE65280 . CLASS257 65535 4 17");
}

static void test_a_query_is_read_though_it_is_not_logged(void **state)
{
    dnstap_options o;
    dnstap_tap *tap;
    dnstap_message back;
    dnstap_policy policy;
    (void)state;
    start_query();
    extra_options(&o, "{name}");
    tap = extra_open(&o);
    assert_true(is_text(extra_of(tap, &message), "example.test."));
    assert_int_equal(
        dnstap_decode(&back, &policy, tap->rings[0].data + 4, dnstap__get32(tap->rings[0].data)),
        DNSTAP_OK);
    assert_null(back.query_message.data);
    dnstap_close(tap, 0);
}

static void test_the_request_counts_more_than_the_query_message(void **state)
{
    (void)state;
    start(DNSTAP_MSG_FORWARDER_RESPONSE);
    RESPONSE(ONE_QUESTION QUESTION);
    check("{name} {>id} {size}", "- - -");
    QUERY("\0\1\1\0\0\1\0\0\0\0\0\0\3abc\0\0\1\0\1");
    check("{name} {>id}", "abc. 1");
    REQUEST(ONE_QUESTION QUESTION);
    check("{name} {>id}", "example.test. 4660");
}

/* Whatever is said of a question that is not there, or is no good. */
#define NO_QUESTION "[] . [] 4660 0 false 512"
#define ALL_OF_QUERY "[{type}] {name} [{class}] {>id} {>opcode} {>do} {>bufsize}"

static const struct {
    const char *bytes;
    size_t size;
    const char *expected;
} broken[] = {
#define BROKEN(bytes, expected)            \
    {                                      \
        bytes, sizeof(bytes) - 1, expected \
    }
    BROKEN("", "[-] - [-] - - - -"),
    BROKEN("\x12\x34\1\0\0\1\0\0\0\0\0", "[-] - [-] - - - -"),
    BROKEN(HEADER "\0\0\0\0\0\0\0\0", NO_QUESTION),
    BROKEN(ONE_QUESTION, NO_QUESTION),
    BROKEN(ONE_QUESTION "\1", NO_QUESTION),
    BROKEN(ONE_QUESTION "\7exam", NO_QUESTION),
    BROKEN(ONE_QUESTION "\7example", NO_QUESTION),
    BROKEN(ONE_QUESTION "\7example\0\0", NO_QUESTION),
    BROKEN(ONE_QUESTION "\7example\0\0\1\0", NO_QUESTION),
    BROKEN(ONE_QUESTION "\x40", NO_QUESTION),
    BROKEN(ONE_QUESTION "\xc0", NO_QUESTION),
    BROKEN(ONE_QUESTION "\xc0\x0c\0\1\0\1", NO_QUESTION), /* to itself */
    BROKEN(ONE_QUESTION "\1a\xc0\x0c\0\1\0\1", NO_QUESTION),
    BROKEN(ONE_QUESTION "\xc0\x12\0\1\0\1", NO_QUESTION), /* to the end */
    BROKEN(ONE_QUESTION "\xff\xff\0\1\0\1", NO_QUESTION),
    BROKEN(ONE_QUESTION "\7example\0", "[None] example. [CLASS0] 4660 0 false 512"),
    BROKEN(ONE_QUESTION "\7example\0\0\1", "[A] example. [CLASS0] 4660 0 false 512"),
    BROKEN(ONE_QUESTION "\xc0\x12\0\1\0\1\1a\1.\0", "[A] a.\\.. [IN] 4660 0 false 512"),
    BROKEN(ONE_QUESTION "\1b\xc0\x04\0\1\0\1", "[A] b. [IN] 4660 0 false 512"),
#undef BROKEN
};

static void test_what_can_not_be_parsed(void **state)
{
    size_t i;
    (void)state;
    start(DNSTAP_MSG_CLIENT_QUERY);
    check(ALL_OF_QUERY " {size}", "[-] - [-] - - - - -");
    for (i = 0; i < sizeof broken / sizeof *broken; i++) {
        void *exact = malloc(broken[i].size + !broken[i].size); /* nothing may be read behind it */
        memcpy(exact, broken[i].bytes, broken[i].size);
        message.query_message = dnstap_bytes_of(exact, broken[i].size);
        check(ALL_OF_QUERY, broken[i].expected);
        free(exact);
    }
}

static void test_a_name_has_at_most_255_bytes(void **state)
{
    static const size_t labels[] = {1, 2, 20, 63};
    char expected[1100];
    uint8_t dns[512];
    size_t i, at, n;
    (void)state;
    start(DNSTAP_MSG_CLIENT_QUERY);
    for (i = 0; i < 4; i++) {
        message.query_message = dnstap_bytes_of(dns, long_query(dns, labels[i], 255));
        for (n = 0, at = 12; dns[at]; at += dns[at] + 1u) {
            size_t byte;
            for (byte = 0; byte < dns[at]; byte++, n += 4) memcpy(expected + n, "\\200", 4);
            expected[n++] = '.';
        }
        expected[n] = '\0';
        assert_true(n > 600 || labels[i] == 1);
        check("{name}", expected);
        message.query_message.size = long_query(dns, labels[i], labels[i] == 1 ? 257 : 256);
        check("{name}", ".");
    }
}

static void test_a_name_has_at_most_126_pointers(void **state)
{
    uint8_t dns[12 + 2 * 200 + 8];
    size_t i, chain;
    (void)state;
    start(DNSTAP_MSG_CLIENT_QUERY);
    for (chain = 125; chain < 129; chain++) {
        memset(dns, 0, sizeof dns);
        memcpy(dns, ONE_QUESTION, 12);
        for (i = 0; i < chain; i++) { /* the first is the question's, type and class in between */
            size_t at = i ? 16 + 2 * i : 12, to = 18 + 2 * i;
            dns[at] = (uint8_t)(0xc0 | to >> 8);
            dns[at + 1] = (uint8_t)to;
        }
        memcpy(dns + 16 + 2 * chain, "\1z", 3);
        message.query_message = dnstap_bytes_of(dns, sizeof dns);
        check("{name}", chain <= 126 ? "z." : ".");
    }
}

/* ---- EDNS, and sizes without compression ---- */

#define OPT(size, flags, length) "\0\0\x29" size "\0\0" flags "\0" length
#define ADDITIONAL(n) HEADER "\0\1\0\0\0\0\0" n QUESTION

static void test_edns(void **state)
{
    (void)state;
    start(DNSTAP_MSG_CLIENT_QUERY);
    QUERY(ADDITIONAL("\1") OPT("\x04\xd0", "\x80", "\0\0"));
    check("{>do} {>bufsize} {size}", "true 1232 41");
    QUERY(ADDITIONAL("\1") OPT("\x01\xff", "\0", "\0\4") "\0\3\0\0");
    check("{>do} {>bufsize} {size}", "false 512 45");
    QUERY(ADDITIONAL("\1") OPT("\xff\xff", "\x7f", "\0\0"));
    check("{>do} {>bufsize}", "false 65535");
    QUERY(ADDITIONAL("\2") OPT("\x04\x00", "\x80", "\0\0") OPT("\x08\x00", "\0", "\0\0"));
    check("{>do} {>bufsize} {size}", "false 2048 52"); /* the last */
    /* an answer is none */
    QUERY(HEADER "\0\1\0\1\0\0\0\0" QUESTION OPT("\x04\xd0", "\x80", "\0\0"));
    check("{>do} {>bufsize} {size}", "false 512 41");
    QUERY(HEADER
          "\0\1\0\1\0\0\0\1" QUESTION OPT("\x04\xd0", "\x80", "\0\0") "\0\0\1\0\1\0\0\0\0\0\0");
    check("{>do} {>bufsize} {size}", "false 512 52");
    QUERY(ADDITIONAL("\1") "\0\0\x29\x04\xd0\0\0\x80\0\0\1");
    check("{>do} {>bufsize} {size}", "false 512 30"); /* cut short */
    QUERY(HEADER "\0\0\0\0\0\0\0\1" OPT("\x04\xd0", "\x80", "\0\0"));
    check("{>do} {>bufsize} {size} {name}", "true 1232 23 .");
    message.client_protocol = DNSTAP_PROTOCOL_TCP;
    check("{>bufsize}", "65535");
}

#define RECORD(type, length) "\xc0\x0c\0" type "\0\1\0\0\0\0\0" length
#define AUTHORITY HEADER "\0\1\0\0\0\1\0\0" QUESTION

static void test_sizes_are_those_without_compression(void **state)
{
    (void)state;
    start(DNSTAP_MSG_CLIENT_QUERY);
    QUERY(HEADER "\0\1\0\1\0\0\0\0" QUESTION RECORD("\1", "\4") "\300\0\2\1");
    check("{size}", "58");
    QUERY(AUTHORITY RECORD("\6", "\x18") "\xc0\x0c\xc0\x14" /* SOA, of two names */
                                         "AAAABBBBCCCCDDDDEEEE");
    check("{size}", "94");
    QUERY(AUTHORITY RECORD("\x21", "\x08") "\0\1\0\2\0\3\xc0\x0c"); /* SRV */
    check("{size}", "74");
    QUERY(AUTHORITY RECORD("\x0f", "\x06") "\0\1\1a\xc0\x0c"); /* MX */
    check("{size}", "72");
    QUERY(AUTHORITY RECORD("\x2e", "\x14") "123456789012345678\xc0\x14"); /* RRSIG */
    check("{size}", "78");
    QUERY(AUTHORITY RECORD("\2", "\1") "\xc0\x0c"); /* a name beyond its data */
    check("{size}", "55");
    QUERY(AUTHORITY RECORD("\2", "\2") "\xc0\x2a"); /* to itself */
    check("{size}", "56");
    QUERY(AUTHORITY RECORD("\x10", "\2") "\1"); /* cut short */
    check("{size}", "30");
    QUERY(HEADER "\0\2\0\0\0\0\0\0" QUESTION "\xc0\x0c\0\1\0\1");
    check("{size}", "48");
    QUERY(ONE_QUESTION QUESTION "trailing");
    check("{size}", "30");
}

/* A hostile message's walk ends, and what was sound before still counts. */
static void test_a_walk_is_bounded(void **state)
{
    uint8_t *dns = (uint8_t *)calloc(1, 65535);
    size_t at;
    (void)state;
    memcpy(dns, HEADER "\0\1\xff\xff\xff\xff\xff\xff" QUESTION, 30);
    for (at = 30; at + 12 < 65535; at += 12) memcpy(dns + at, "\xc0\x0c\0\2\0\1\0\0\0\0\0\0", 12);
    start(DNSTAP_MSG_CLIENT_QUERY);
    message.query_message = dnstap_bytes_of(dns, 65535);
    check("{name} {>do} {>bufsize}", "example.test. false 512");
    check("{size}", "32766"); /* 1,364 records of 24 bytes and three steps */
    free(dns);
}

/* ---- addresses ---- */

static void test_in_messages_with_clients_their_own_addresses_do(void **state)
{
    uint32_t type;
    (void)state;
    for (type = 1; type <= 14; type++) {
        const char *name = dnstap_message_type_name(type);
        bool own = !strncmp(name, "AUTH", 4) || !strncmp(name, "CLI", 3) ||
                   !strncmp(name, "UPD", 3);
        start(type);
        ip(&message.query_address, "\300\0\2\1", 4);
        ip(&message.response_address, "\300\0\2\2", 4);
        message.query_port = 1024;
        message.socket_protocol = DNSTAP_PROTOCOL_TCP;
        check("{remote} {port} {local} {proto}", own ? "192.0.2.1 1024 192.0.2.2 tcp" : "- - - -");
        ip(&message.client_address, "\0\144\11\377", 4);
        ip(&message.local_address, "\177\0\0\1", 4);
        message.client_port = 65535;
        message.client_protocol = DNSTAP_PROTOCOL_DOQ;
        check("{remote} {port} {local} {proto}", "0.100.9.255 65535 127.0.0.1 udp");
    }
}

static void test_protocols(void **state)
{
    static const char *const names[] = {"-", "udp", "tcp", "tcp", "tcp", "udp", "tcp", "udp", "-"};
    uint32_t protocol;
    (void)state;
    for (protocol = 0; protocol < 9; protocol++) {
        start_query();
        message.socket_protocol = protocol;
        check("{proto}", names[protocol]);
        check("{>bufsize}", strcmp(names[protocol], "tcp") == 0 ? "65535" : "512");
    }
}

static void test_addresses_of_odd_sizes_and_none(void **state)
{
    size_t size;
    (void)state;
    start(DNSTAP_MSG_CLIENT_QUERY);
    check("{remote} {port} {local}", "- - -");
    for (size = 0; size < 32; size++) {
        if (size == 4 || size == 16 || size == 20) continue;
        ip(&message.client_address, "0123456789abcdefghijklmnopqrstuv", size);
        check("{remote} {port}", "- 0");
    }
}

static void test_ipv6_is_spelled_as_inet_ntop_does(void **state)
{
    char expected[64] = "[";
    uint8_t bytes[16];
    int i, j;
    (void)state;
    start(DNSTAP_MSG_CLIENT_QUERY);
    for (i = 0; i < 3000; i++) {
        for (j = 0; j < 16; j++) bytes[j] = (uint8_t)(rnd(3) ? 0 : rnd(5) ? rnd(256) : 1);
        if (i % 5 == 0) memset(bytes + rnd(8), 0, 8);
        bytes[0] |= 0x20; /* ::1.2.3.4 it spells differently */
        inet_ntop(AF_INET6, bytes, expected + 1, sizeof expected - 2);
        strcat(expected, "]");
        ip(&message.client_address, (const char *)bytes, 16);
        check("{remote}", expected);
    }
    memset(bytes, 0, sizeof bytes);
    check("{remote}", "[::]");
    bytes[15] = 1;
    check("{remote}", "[::1]");
    memset(bytes, 0xff, 16);
    check("{remote}", "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]");
    memset(bytes, 0, 10);
    check("{remote}", "255.255.255.255");
}

static void test_addresses_are_set_from_sockaddrs(void **state)
{
    struct sockaddr_in6 six;
    struct sockaddr_in four;
    struct sockaddr other;
    (void)state;
    memset(&six, 0, sizeof six);
    memset(&four, 0, sizeof four);
    memset(&other, 0, sizeof other);
    start(DNSTAP_MSG_FORWARDER_QUERY);
    six.sin6_family = AF_INET6;
    six.sin6_port = htons(4000);
    inet_pton(AF_INET6, "fe80::1", &six.sin6_addr);
    four.sin_family = AF_INET;
    inet_pton(AF_INET, "127.0.0.53", &four.sin_addr);
    assert_int_equal(
        dnstap_set_client_address(&message, (struct sockaddr *)&six, DNSTAP_PROTOCOL_DOH),
        DNSTAP_OK);
    assert_int_equal(dnstap_set_local_address(&message, (struct sockaddr *)&four), DNSTAP_OK);
    check("{remote} {port} {proto} {local}", "[fe80::1] 4000 tcp 127.0.0.53");
    six.sin6_scope_id = UINT32_MAX;
    dnstap_set_client_address(&message, (struct sockaddr *)&six, DNSTAP_PROTOCOL_UDP);
    dnstap_set_local_address(&message, (struct sockaddr *)&six);
    check("{remote} {proto} {local}", "[fe80::1%4294967295] udp [fe80::1%4294967295]");
    other.sa_family = AF_UNIX;
    assert_int_equal(dnstap_set_client_address(&message, &other, 1), DNSTAP_BAD_MESSAGE);
    assert_int_equal(dnstap_set_local_address(&message, &other), DNSTAP_BAD_MESSAGE);
    inet_pton(AF_INET6, "::ffff:192.0.2.7", &six.sin6_addr);
    dnstap_set_client_address(&message, (struct sockaddr *)&six, DNSTAP_PROTOCOL_UDP);
    check("{remote} {proto} {local}", "192.0.2.7 udp 192.0.2.7");
}

/* ---- the response ---- */

static void check_rcode(unsigned rcode, const char *expected)
{
    uint8_t dns[] = HEADER "\0\0\0\0\0\0\0\1" OPT("\x04\xd0", "\0", "\0\0");
    dns[3] = (uint8_t)(0x80 | (rcode & 15));
    dns[17] = (uint8_t)(rcode >> 4);
    message.response_message = dnstap_bytes_of(dns, sizeof dns - 1);
    check("{rcode} {rsize}", expected);
}

static void test_the_response(void **state)
{
    dnstap_options o;
    (void)state;
    start(DNSTAP_MSG_CLIENT_RESPONSE);
    check("{rcode} {rsize}", "- -");
    RESPONSE("12345678901");
    check("{rcode} {rsize}", "- 11");
    RESPONSE("\0\0\x81\x83\0\0\0\0\0\0\0\0");
    check("{rcode} {rsize}", "NXDOMAIN 12");
    check_rcode(0, "NOERROR 23");
    check_rcode(11, "DSOTYPENI 23");
    check_rcode(12, "12 23");
    check_rcode(16, "BADVERS 23");
    check_rcode(23, "BADCOOKIE 23");
    check_rcode(24, "24 23");
    check_rcode(4095, "4095 23");
    message.query_time_sec = message.response_time_sec = 5;
    extra_options(&o, "{rcode}{rsize}{duration}{>rflags}");
    o.coredns_extra = true;
    check_with(&o, "----");
}

static void test_durations(void **state)
{
    static const struct {
        uint64_t asked;
        uint32_t asked_nsec;
        uint64_t answered;
        uint32_t answered_nsec;
        const char *expected;
    } cases[] = {
        {5, 0, 5, 0, "0s"},
        {5, 0, 5, 1, "0.000000001s"},
        {5, 0, 5, 12500000, "0.0125s"},
        {5, 999999999, 6, 0, "0.000000001s"},
        {5, 500000000, 17, 100000000, "11.6s"},
        {6, 0, 5, 999999999, "-0.000000001s"},
        {7, 100000000, 5, 200000000, "-1.9s"},
        {5, 3, 5, 1, "-0.000000002s"},
        {0, 0, UINT32_MAX, 999999999, "4294967295.999999999s"},
        {UINT32_MAX, 999999999, 0, 0, "-4294967295.999999999s"},
        {0, 0, (uint64_t)1 << 32, 0, "-"},
        {0, 0, UINT64_MAX, 0, "-"},
        {UINT64_MAX, 0, 0, 0, "-"},
    };
    struct timespec at = {0, 0};
    size_t i;
    (void)state;
    for (i = 0; i < sizeof cases / sizeof *cases; i++) {
        start(DNSTAP_MSG_CLIENT_RESPONSE);
        message.response_time_nsec = 1;
        check("{duration}", "-");
        dnstap_set_query_time(&message, &at);
        check("{duration}", "-");
        dnstap_set_response_time(&message, &at);
        message.query_time_sec = cases[i].asked;
        message.query_time_nsec = cases[i].asked_nsec;
        message.response_time_sec = cases[i].answered;
        message.response_time_nsec = cases[i].answered_nsec;
        check("{duration}", cases[i].expected);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_labels_of_the_query),
        cmocka_unit_test(test_a_query_is_read_though_it_is_not_logged),
        cmocka_unit_test(test_the_request_counts_more_than_the_query_message),
        cmocka_unit_test(test_what_can_not_be_parsed),
        cmocka_unit_test(test_a_name_has_at_most_255_bytes),
        cmocka_unit_test(test_a_name_has_at_most_126_pointers),
        cmocka_unit_test(test_edns),
        cmocka_unit_test(test_sizes_are_those_without_compression),
        cmocka_unit_test(test_a_walk_is_bounded),
        cmocka_unit_test(test_in_messages_with_clients_their_own_addresses_do),
        cmocka_unit_test(test_protocols),
        cmocka_unit_test(test_addresses_of_odd_sizes_and_none),
        cmocka_unit_test(test_ipv6_is_spelled_as_inet_ntop_does),
        cmocka_unit_test(test_addresses_are_set_from_sockaddrs),
        cmocka_unit_test(test_the_response),
        cmocka_unit_test(test_durations),
    };
    return RUN_TESTS(tests, NULL, NULL);
}
