/* Anonymizing: no trace of a whole address leaves the process, in the address fields, in extra, in
 * client subnets of DNS messages, and in payloads that were encoded elsewhere; what else is in the
 * messages stays; what can't be walked goes without its DNS bytes, and is counted. */
#include "filter_support.h"

/* -- how an address is cut -- */

static const struct {
    uint8_t v4, v6;
    const char *address;
    size_t size;
    uint32_t family;
    const char *left; /* NULL: nothing; as long as the address */
} cuts[] = {
    {24, 48, BYTES("\xc0\0\2\x21"), 1, "\xc0\0\2\0"},
    {24, 48, BYTES("\xc0\0\2\x21"), 0, "\xc0\0\2\0"},
    {32, 48, BYTES("\xc0\0\2\x21"), 1, "\xc0\0\2\x21"},
    {0, 48, BYTES("\xc0\0\2\x21"), 1, "\xc0\0\2\x21"},
    {1, 0, BYTES("\xc0\xff\2\x21"), 1, "\x80\0\0\0"},
    {31, 0, BYTES("\xc0\xff\2\x21"), 1, "\xc0\xff\2\x20"},
    {13, 0, BYTES("\xff\xff\xff\xff"), 1, "\xff\xf8\0\0"},
    {DNSTAP_KEEP_NONE, 0, BYTES("\xc0\0\2\x21"), 1, "\0\0\0\0"},
    {24, 48, BYTES("\x20\1\xd\xb8\1\2\3\4\5\6\7\x8\x9\xa\xb\xc"), 2,
     "\x20\1\xd\xb8\1\2\0\0\0\0\0\0\0\0\0"},
    {24, 33, BYTES("\x20\1\xd\xb8\xff\2\3\4\5\6\7\x8\x9\xa\xb\xc"), 2,
     "\x20\1\xd\xb8\x80\0\0\0\0\0\0\0\0\0\0"},
    {24, DNSTAP_KEEP_NONE, BYTES("\x20\1\xd\xb8\1\2\3\4\5\6\7\x8\x9\xa\xb\xc"), 2,
     "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"},
    {24, 0, BYTES("\x20\1\xd\xb8\1\2\3\4\5\6\7\x8\x9\xa\xb\xc"), 2,
     "\x20\1\xd\xb8\1\2\3\4\5\6\7\x8\x9\xa\xb\xc"},
    /* IPv4 in it */
    {24, 48, BYTES("\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\0\2\x21"), 2,
     "\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\0\2\0"},
    {24, 48, BYTES("\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\0\2\x21"), 1,
     "\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\0\2\0"},
    {24, 0, BYTES("\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\0\2\x21"), 2,
     "\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\0\2\0"},
    {0, 48, BYTES("\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\0\2\x21"), 2,
     "\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\0\2\x21"},
    {24, 120, BYTES("\0\x64\xff\x9b\0\0\0\0\0\0\0\0\xc0\xff\2\x21"), 2,
     "\0\x64\xff\x9b\0\0\0\0\0\0\0\0\xc0\xff\2\0"},
    {8, 120, BYTES("\0\x64\xff\x9b\0\0\0\0\0\0\0\0\xc0\xff\2\x21"), 2,
     "\0\x64\xff\x9b\0\0\0\0\0\0\0\0\xc0\0\0\0"},
    {16, 48, BYTES("\x20\2\xc0\xa8\2\x21\0\0\0\0\0\0\0\0\0\1"), 2,
     "\x20\2\xc0\xa8\0\0\0\0\0\0\0\0\0\0\0"},
    /* of no right length */
    {24, 48, BYTES("\xc0\0\2"), 1, NULL},
    {24, 48, BYTES("\xc0\0\2\x21\0"), 1, NULL},
    {24, 48, BYTES("\x20\1\xd\xb8\1\2\3\4\5\6\7\x8\x9\xa\xb"), 2, NULL},
    {24, 48, BYTES("\x20\1\xd\xb8\1\2\3\4\5\6\7\x8\x9\xa\xb\xc"), 1, NULL},
    {24, 48, "\xc0\0\2\x21\x20\1\xd\xb8\1\2\3\4\5\6\7\x8\x9\xa\xb\xc\xd\xe\xf", 18, 0, NULL},
    {24, 48, BYTES(""), 0, NULL},
};

static bool is_left(dnstap_bytes b, const char *left, size_t size)
{
    if (!left) return !b.data;
    return b.data && b.size == size && memcmp(b.data, left, size) == 0;
}

static void test_addresses_are_cut_to_so_many_bits(void **state)
{
    dnstap_options o;
    dnstap_message m;
    size_t i;

    (void)state;
    for (i = 0; i < COUNT(cuts); i++) {
        world_options(&o);
        o.anonymize_v4 = cuts[i].v4;
        o.anonymize_v6 = cuts[i].v6;
        world_open(&o);
        dnstap_message_start(&m, DNSTAP_MSG_FORWARDER_RESPONSE);
        m.socket_family = cuts[i].family;
        m.query_address = m.response_address = dnstap_bytes_of(cuts[i].address, cuts[i].size);
        must_come(&m, true, "address");
        if (!is_left(world.last.query_address, cuts[i].left, cuts[i].size) ||
            !is_left(world.last.response_address, cuts[i].left, cuts[i].size))
            fail_msg("row %u is cut wrongly", (unsigned)i);
        assert_ptr_equal(m.query_address.data, cuts[i].address);
        world_close();
    }
}

static void test_bits_that_no_address_has_are_refused(void **state)
{
    dnstap_options o;
    dnstap_error error;

    (void)state;
    peer_options(&o, "/nobody");
    o.anonymize_v4 = 33;
    assert_null(dnstap_open(&o, &error));
    assert_non_null(strstr(error.text, "anonymize_v4 is 33"));
    assert_int_equal(dnstap_memory_size(&o), 0);
    o.anonymize_v4 = 0;
    o.anonymize_v6 = 129;
    assert_null(dnstap_open(&o, &error));
    assert_non_null(strstr(error.text, "anonymize_v6 129"));
}

/* -- no trace -- */

#define V4 "\xc6\x33\x64\x21" /* 198.51.100.33 */
#define V6 "\x20\x01\x0d\xb8\xde\xad\xbe\xef\x12\x34\x56\x78\x9a\xbc\xde\xf1"
#define MAPPED "\0\0\0\0\0\0\0\0\0\0\xff\xff" V4

/* The whole addresses, and parts of them that are not to leave, in each form. */
static const struct {
    const char *bytes;
    size_t size;
} traces[] = {
    {BYTES(V4)},
    {BYTES(V6)},
    {BYTES("\xbe\xef\x12\x34\x56\x78")},
    {BYTES("\x9a\xbc\xde\xf1")},
    {BYTES("198.51.100.33")},
    {BYTES("c633:6421")},
    {BYTES("c6336421")},
    {BYTES("2001:db8:dead:beef:1234:5678:9abc:def1")},
    {BYTES("1234:5678")},
    {BYTES("9abc:def1")},
};

static unsigned traces_found(void)
{
    unsigned found = 0;
    size_t i;

    for (i = 0; i < COUNT(traces); i++) found += came(traces[i].bytes, traces[i].size);
    return found;
}

#define SUBNET_4 "\0\x8\0\x8\0\1\x20\0" V4
#define SUBNET_6 "\0\x8\0\x14\0\2\x80\0" V6

/* Every place that an address can be in. */
static void fill_everything(dnstap_message *m, uint32_t type, const wire *w, const void *address,
                            size_t size)
{
    dnstap_message_start(m, type);
    m->query_address = m->response_address = dnstap_bytes_of(address, size);
    m->client_address = m->local_address = m->query_address;
    m->socket_family = size == 4 ? DNSTAP_FAMILY_INET : DNSTAP_FAMILY_INET6;
    m->query_message = m->response_message = m->request = bytes_of_wire(w);
}

static void log_everything(const wire *w)
{
    static const struct {
        const char *bytes;
        size_t size;
    } addresses[] = {{BYTES(V4)}, {BYTES(V6)}, {BYTES(MAPPED)}, {BYTES(V6 "\7\0\0\0")}};
    static const dnstap_policy policy = {DNSTAP_ACTION_DROP, 0, {"RPZ", 3}, {NULL, 0}, {NULL, 0}};
    dnstap_message m;
    uint32_t type;
    size_t i;

    for (type = 1; type <= 15; type++) {
        for (i = 0; i < COUNT(addresses); i++) {
            fill_everything(&m, type, w, addresses[i].bytes, addresses[i].size);
            assert_int_equal(dnstap_log(world.tap, &m), 1);
            m.policy = &policy; /* which goes through nanopb */
            assert_int_equal(dnstap_log(world.tap, &m), 1);
            m.client_address = m.local_address = dnstap_bytes_of(NULL, 0);
            assert_int_equal(dnstap_log(world.tap, &m), 1);
        }
    }
}

static void make_subnets(wire *w)
{
    wire_begin(w, 0);
    wire_question(w, "www.example.org");
    wire_record(w, 1, 1, 60, "\1\1\1\1", 4);
    wire_opt(w, BYTES(SUBNET_4 "\0\3\0\2id" SUBNET_6));
    wire_opt(w, BYTES("\0\xa\0\4abcd" SUBNET_6 "\x50\xfa\0\x8\0\1\x20\0" V4));
    wire_record(w, 1, 41, 0, BYTES(SUBNET_4)); /* OPT where none belongs */
    w->data[7]--;
    w->data[11]++;
}

static void test_no_trace_of_an_address_is_in_the_stream(void **state)
{
    dnstap_options o;
    wire w, before;
    unsigned cut;

    (void)state;
    for (cut = 0; cut < 2; cut++) {
        make_subnets(&w);
        before = w;
        world_options(&o);
        o.extra = "{remote} {port} {local} {name} {rcode} {size} {duration}";
        o.anonymize_v4 = cut ? 24 : 0;
        o.anonymize_v6 = cut ? 48 : 0;
        world_open(&o);
        log_everything(&w);
        assert_int_equal(world_read().stripped, 0);
        assert_int_equal(world.count, 180);
        if (!cut) assert_true(traces_found() > 6); /* the search finds what there is */
        if (cut) assert_int_equal(traces_found(), 0);
        if (cut) assert_true(came(BYTES("198.51.100.0 ")) && came(BYTES("[2001:db8:dead::] ")));
        assert_true(came(BYTES("www.example.org.")));
        assert_memory_equal(&w, &before, sizeof w);
        world_close();
    }
}

/* Of a relay, or a forked child: fields that come twice, and such as nobody knows, too. */
static void test_no_trace_is_in_payloads_from_elsewhere(void **state)
{
    static const uint8_t hidden[] = {0xa2, 0x06, 4, 0xc6, 0x33, 0x64, 0x21}; /* field 100 */
    uint8_t payload[2048];
    dnstap_options o;
    dnstap_message m;
    unsigned cut;
    long n;
    wire w;

    (void)state;
    make_subnets(&w);
    for (cut = 0; cut < 2; cut++) {
        world_options(&o);
        o.anonymize_v4 = cut ? 24 : 0;
        o.anonymize_v6 = cut ? 48 : 0;
        world_open(&o);
        fill_everything(&m, DNSTAP_MSG_CLIENT_QUERY, &w, V6, 16);
        m.response_address = dnstap_bytes_of(V4, 4);
        m.version = dnstap_bytes_of("theirs", 6);
        n = dnstap_encode(&m, payload, sizeof payload);
        memcpy(payload + n, hidden, sizeof hidden);
        assert_int_equal(dnstap_log_payload(world.tap, payload, (size_t)n + sizeof hidden), 1);
        world_read();
        assert_int_equal(traces_found() != 0, !cut);
        assert_int_equal(world.last.version.size, 6);
        assert_int_equal(world.last.query_message.size, w.size);
        world_close();
    }
}

/* -- client subnets -- */

/* An option's data, and what is left of it with 20 bits of IPv4 and 28 of IPv6. */
static const struct {
    const char *data;
    size_t size;
    const char *left;
} subnets[] = {
    {BYTES("\0\1\x20\0\xff\xff\xff\xff"), "\0\1\x20\0\xff\xff\xf0\0"},
    {BYTES("\0\1\x18\x18\xff\xff\xff"), "\0\1\x18\x18\xff\xff\xf0"},
    {BYTES("\0\1\x14\0\xff\xff\xf0"), "\0\1\x14\0\xff\xff\xf0"},
    {BYTES("\0\1\x10\0\xff\xff"), "\0\1\x10\0\xff\xff"},
    {BYTES("\0\1\0\0"), "\0\1\0\0"},
    {BYTES("\0\1\0\0\xff\xff\xff\xff"), "\0\1\0\0\xff\xff\xf0\0"}, /* the prefix lies */
    {BYTES("\0\1\xff\xff\xff\xff\xff\xff\xff\xff"), "\0\1\xff\xff\xff\xff\xf0\0\0\0"},
    {BYTES("\0\2\x80\x40\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
     "\0\2\x80\x40\xff\xff\xff\xf0\0\0\0\0\0\0\0\0\0\0\0"},
    {BYTES("\0\2\x38\0\x20\1\xd\xb8\1\2\3"), "\0\2\x38\0\x20\1\xd\xb0\0\0"},
    {BYTES("\0\2\x60\0\0\0\0\0\0\0\0\0\0\0\xff\xff\xff\xff\xff\xff"),
     "\0\2\x60\0\0\0\0\0\0\0\0\0\0\0\xff\xff\xff\xff\xf0\0"},
    {BYTES("\0\2\x30\0\x20\2\xff\xff\xff\xff"), "\0\2\x30\0\x20\2\xff\xf0\0\0"},
    {BYTES("\0\0\0\0\xff\xff\xff\xff"), "\0\0\0\0\0\0\0"}, /* a family of which nothing is known */
    {BYTES("\0\3\x20\0\xff\xff\xff\xff"), "\0\3\x20\0\0\0\0"},
    {BYTES("\0\1\x20"), "\0\1\x20"}, /* no room for an address */
    {BYTES(""), ""},
};

static void test_client_subnets_are_cut_and_nothing_else(void **state)
{
    uint8_t option[64];
    size_t i, at;
    dnstap_options o;
    dnstap_message m;
    wire w, left;

    (void)state;
    world_options(&o);
    o.anonymize_v4 = 20;
    o.anonymize_v6 = 28;
    world_open(&o);
    for (i = 0; i < COUNT(subnets); i++) {
        wire_begin(&w, 0);
        wire_question(&w, "example.org");
        wire_record(&w, 2, 2, 60, BYTES("\2ns\xc0\x0c"));
        memcpy(option, "\0\x8\0", 3);
        option[3] = (uint8_t)subnets[i].size;
        memcpy(option + 4, subnets[i].data, subnets[i].size);
        wire_opt(&w, option, 4 + subnets[i].size);
        at = w.size - subnets[i].size;
        wire_record(&w, 3, 250, 0, BYTES("\xff\xff\xff\xff\xff\xff")); /* as a TSIG behind it */
        left = w;
        memcpy(left.data + at, subnets[i].left, subnets[i].size);
        message_of(&m, DNSTAP_MSG_CLIENT_QUERY, &w);
        m.response_message = m.query_message;
        must_come(&m, true, "subnet");
        assert_int_equal(world.last.query_message.size, w.size);
        if (memcmp(world.last.query_message.data, left.data, w.size) != 0 ||
            memcmp(world.last.response_message.data, left.data, w.size) != 0)
            fail_msg("row %u is cut wrongly", (unsigned)i);
    }
    assert_int_equal(world_read().stripped, 0);
    world_close();
}

/* What is behind a header and its counts, and whether all of it can be walked. */
static const struct {
    uint8_t questions, answers, additional;
    const char *rest;
    size_t size;
    bool walks;
} shapes[] = {
    {0, 0, 0, BYTES(""), true},
    {1, 0, 0, BYTES("\0\0\1\0\1"), true},
    {1, 0, 1, BYTES("\0\0\1\0\1\0\0\x29\4\xd0\0\0\0\0\0\0"), true},
    {1, 1, 0, BYTES("\1a\0\0\1\0\1\xc0\x0c\0\1\0\1\0\0\0\0\0\1x"), true},
    {1, 0, 0, BYTES("\0\0\1\0"), false},
    {1, 0, 0, BYTES("\1a"), false},
    {1, 0, 0,
     BYTES("\x41"
           "a\0\0\1\0\1"),
     false},
    {1, 0, 0, BYTES("\0\0\1\0\1" SUBNET_4), false}, /* more than the counts say */
    {0, 0, 0, BYTES("\0\0\x29\4\xd0\0\0\0\0\0\x0c" SUBNET_4), false},
    {0, 0, 1, BYTES("\0\0\x29\4\xd0\0\0\0\0\0\x0d" SUBNET_4), false}, /* ends outside */
    {0, 0, 1, BYTES("\0\0\x29\4\xd0\0\0\0\0\0\x0b" SUBNET_4), false}, /* … its last option does */
    {0, 0, 1, BYTES("\0\0\x29\4\xd0\0\0\0\0\0\3\0\x8\0"), false},
    {0, 0, 2, BYTES("\0\0\x29\4\xd0\0\0\0\0\0\x0c" SUBNET_4), false},
    {0, 0, 1, BYTES(""), false},
    {0, 0, 1, BYTES("\xc0\x0c\0\x29\4\xd0\0\0\0\0\0\0"), true}, /* OPT of any owner */
    {0, 0, 1, BYTES("\xc0"), false},
    {0, 255, 0, BYTES("\0\0\1\0\1\0\0\0\0\0\0"), false},
};

static void test_what_can_not_be_walked_goes_without_its_bytes(void **state)
{
    uint64_t stripped = 0;
    dnstap_options o;
    dnstap_message m;
    size_t i;
    wire w, sound;

    (void)state;
    world_options(&o);
    o.anonymize_v4 = 24;
    o.anonymize_v6 = 48;
    o.extra = "{name}";
    world_open(&o);
    wire_begin(&sound, 0);
    wire_question(&sound, "example.org");
    for (i = 0; i < COUNT(shapes); i++) {
        char what[32];

        snprintf(what, sizeof what, "shape %u", (unsigned)i);
        wire_begin(&w, 0);
        w.data[5] = shapes[i].questions;
        w.data[7] = shapes[i].answers;
        w.data[11] = shapes[i].additional;
        wire_bytes(&w, shapes[i].rest, shapes[i].size);
        message_of(&m, DNSTAP_MSG_CLIENT_RESPONSE, &w);
        m.query_message = bytes_of_wire(&sound);
        must_come(&m, true, what);
        if ((world.last.response_message.data != NULL) != shapes[i].walks) fail_msg("%s", what);
        assert_non_null(world.last.query_message.data); /* which is well */
        assert_int_equal(world.last.extra.size, 12);    /* read of what was given */
        stripped += !shapes[i].walks;
        assert_int_equal(world_read().stripped, stripped);
    }
    assert_false(came(BYTES(V4)));
    message_of(&m, DNSTAP_MSG_CLIENT_QUERY, &w);
    m.response_message = m.query_message = dnstap_bytes_of("short", 5);
    must_come(&m, true, "short");
    assert_null(world.last.query_message.data);
    assert_null(world.last.response_message.data);
    assert_int_equal(world_read().stripped, stripped + 1); /* a message */
    m.response_message = m.query_message = dnstap_bytes_of("", 0);
    must_come(&m, true, "empty");
    assert_non_null(world.last.query_message.data);
    assert_int_equal(world_read().stripped, stripped + 1);
    world_close();
}

static void test_nothing_is_stripped_where_nothing_is_sent_or_cut(void **state)
{
    dnstap_options o;
    dnstap_message m;
    unsigned full;
    wire w;

    (void)state;
    wire_begin(&w, 0);
    wire_bytes(&w, "x", 1);
    for (full = 0; full < 2; full++) {
        world_options(&o);
        o.full = full;
        o.anonymize_v4 = full ? 32 : 8;
        o.anonymize_v6 = full ? 128 : 0;
        world_open(&o);
        message_of(&m, DNSTAP_MSG_CLIENT_QUERY, &w);
        must_come(&m, true, "not sent");
        assert_int_equal(world_read().stripped, 0);
        assert_int_equal(world.last.query_message.data != NULL, full);
        world_close();
    }
}

/* -- hooks -- */

static long whole_address(void *user, const dnstap_message *m, const char *label, char *out,
                          size_t size)
{
    (void)user, (void)label;
    assert_true(size >= 4 && m->query_address.size == 4);
    memcpy(out, m->query_address.data, 4);
    return 4;
}

/* A country is looked up by the whole address, and what it is told is the hook's own to say. */
static void test_hooks_see_the_message_as_it_came(void **state)
{
    dnstap_options o;
    dnstap_message m;

    (void)state;
    world_options(&o);
    o.anonymize_v4 = 8;
    o.extra = "{/country}{remote}";
    o.metadata = whole_address;
    world_open(&o);
    dnstap_message_start(&m, DNSTAP_MSG_CLIENT_QUERY);
    m.query_address = dnstap_bytes_of("abcd", 4);
    must_come(&m, true, "hook");
    assert_int_equal(world.last.extra.size, 12);
    assert_memory_equal(world.last.extra.data, "abcd97.0.0.0", 12);
    world_close();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_addresses_are_cut_to_so_many_bits),
        cmocka_unit_test(test_bits_that_no_address_has_are_refused),
        cmocka_unit_test(test_no_trace_of_an_address_is_in_the_stream),
        cmocka_unit_test(test_no_trace_is_in_payloads_from_elsewhere),
        cmocka_unit_test(test_client_subnets_are_cut_and_nothing_else),
        cmocka_unit_test(test_what_can_not_be_walked_goes_without_its_bytes),
        cmocka_unit_test(test_nothing_is_stripped_where_nothing_is_sent_or_cut),
        cmocka_unit_test(test_hooks_see_the_message_as_it_came),
    };

    return RUN_TESTS(tests, make_folder, drop_folder);
}
