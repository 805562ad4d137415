/* Filters: what arrives at a sink for each, alone and combined, with hostile DNS bytes; what is
 * counted of the rest; samples within their bounds. */
#include "filter_support.h"

/* Opens the world with options of the test's. */
#define OPEN(field, value)         \
    dnstap_options o;              \
    dnstap_status s;               \
    dnstap_message m;              \
    wire w;                        \
    (void)state, (void)s, (void)w; \
    world_options(&o);             \
    o.field = value;               \
    world_open(&o)

/* -- types -- */

static void test_only_types_that_are_asked_for_come(void **state)
{
    uint32_t type;
    OPEN(types, 1u << DNSTAP_MSG_CLIENT_QUERY | 1u << DNSTAP_MSG_TOOL_RESPONSE);

    wire_begin(&w, 0);
    for (type = 1; type < 40; type++) {
        bool wanted = type == DNSTAP_MSG_CLIENT_QUERY || type == DNSTAP_MSG_TOOL_RESPONSE;

        message_of(&m, type, &w);
        assert_int_equal(dnstap_wants(world.tap, type), wanted);
        must_come(&m, wanted, "type");
    }
    s = world_read();
    assert_int_equal(s.filtered_type, 37);
    assert_int_equal(s.unwanted, 37);
    world_close();
}

static void test_bit_31_is_of_all_types_above(void **state)
{
    OPEN(types, 1u << 31);

    wire_begin(&w, 0);
    message_of(&m, 30, &w);
    must_come(&m, false, "30");
    message_of(&m, 31, &w);
    must_come(&m, true, "31");
    message_of(&m, 7777, &w);
    must_come(&m, true, "7777");
    message_of(&m, INT32_MAX, &w);
    must_come(&m, true, "INT32_MAX");
    s = world_read();
    assert_int_equal(s.filtered_type, 1);
    world_close();
}

/* What a disabled tap does not log is no filter's doing, nor is what a filter keeps back lost. */
static void test_causes_are_told_apart(void **state)
{
    dnstap_options o;
    dnstap_status s;
    dnstap_message m;
    dnstap_tap *tap;

    (void)state;
    peer_options(&o, "/nobody");
    o.types = 1u << DNSTAP_MSG_CLIENT_QUERY;
    o.drop_when_disconnected = true;
    o.timeout_ms = 100;
    tap = peer_start(&o);
    WAIT_FOR(tap, &s, s.state == DNSTAP_BROKEN);
    dnstap_message_start(&m, DNSTAP_MSG_CLIENT_QUERY);
    assert_int_equal(dnstap_log(tap, &m), DNSTAP_DISCONNECTED);
    m.type = DNSTAP_MSG_CLIENT_RESPONSE;
    assert_int_equal(dnstap_log(tap, &m), 0);
    dnstap_set_enabled(tap, false);
    assert_int_equal(dnstap_log(tap, &m), 0);
    dnstap_get_status(tap, &s);
    assert_int_equal(s.dropped_disconnected, 1);
    assert_int_equal(s.filtered_type, 1);
    assert_int_equal(s.unwanted, 2);
    check_books(tap);
    dnstap_close(tap, 0);
}

/* -- rcodes -- */

#define BIT(rcode) ((uint64_t)1 << (rcode))

static const struct {
    uint64_t rcodes;
    uint32_t header, extended; /* with OPT, unless that is 0 */
    bool wanted;
} rcodes[] = {
    {BIT(0), 0, 0, true},           {BIT(0), 3, 0, false},
    {BIT(3), 3, 0, true},           {BIT(3), 3, 0x100, true}, /* OPT, and nothing in it */
    {BIT(3), 3, 1, false},                                    /* BADMODE */
    {BIT(9), 9, 0, true},           {BIT(9), 1, 0, false},
    {BIT(19), 3, 1, true},          {BIT(19), 3, 0, false},
    {BIT(0) | BIT(16), 0, 1, true}, {BIT(0) | BIT(16), 0, 2, false},
    {BIT(63), 15, 3, true},         {BIT(63), 14, 3, false},
    {BIT(63), 0, 4, true}, /* 64, whose bit 0 would be */
    {BIT(0), 0, 4, false},          {BIT(63), 15, 255, true},
    {UINT64_MAX, 5, 77, true},
};

static void test_rcodes_are_of_responses(void **state)
{
    size_t i;

    for (i = 0; i < COUNT(rcodes); i++) {
        OPEN(rcodes, rcodes[i].rcodes);
        wire_begin(&w, rcodes[i].header);
        wire_question(&w, "example.org");
        if (rcodes[i].extended) wire_record(&w, 3, 41, (rcodes[i].extended & 255) << 24, NULL, 0);
        message_of(&m, DNSTAP_MSG_AUTH_RESPONSE, &w);
        must_come(&m, rcodes[i].wanted, "response");
        message_of(&m, DNSTAP_MSG_AUTH_QUERY, &w);
        must_come(&m, true, "query");
        s = world_read();
        assert_int_equal(s.filtered_rcode, !rcodes[i].wanted);
        world_close();
    }
}

static void test_a_response_without_an_rcode_is_not_logged(void **state)
{
    OPEN(rcodes, UINT64_MAX);

    wire_begin(&w, 0);
    dnstap_message_start(&m, DNSTAP_MSG_CLIENT_RESPONSE);
    must_come(&m, false, "no bytes");
    m.query_message = bytes_of_wire(&w);
    must_come(&m, false, "a query only");
    m.response_message = dnstap_bytes_of(w.data, 11);
    must_come(&m, false, "no whole header");
    m.response_message = dnstap_bytes_of(w.data, 12);
    must_come(&m, true, "a header");
    s = world_read();
    assert_int_equal(s.filtered_rcode, 3);
    world_close();
}

/* What can't be walked up to its OPT has the header's rcode. */
static void test_an_rcode_is_the_headers_when_opt_is_out_of_reach(void **state)
{
    OPEN(rcodes, BIT(3));

    wire_begin(&w, 3);
    wire_record(&w, 3, 41, 1u << 24, NULL, 0);
    message_of(&m, DNSTAP_MSG_CLIENT_RESPONSE, &w);
    must_come(&m, false, "BADMODE");
    m.response_message.size--;
    must_come(&m, true, "cut");
    w.data[7] = 1; /* one more record, which is not there */
    m.response_message.size++;
    must_come(&m, true, "out of reach");
    s = world_read();
    assert_int_equal(s.filtered_rcode, 1);
    world_close();
}

/* -- zones -- */

static const char *const zones[] = {"Example.ORG", "net.", "a\\.b.test", "\\000\\255.x", NULL};

static const struct {
    const char *name; /* labels of text, or */
    const char *raw;  /* from the name on, and its size */
    size_t size;
    bool wanted;
} names[] = {
    {"example.org", NULL, 0, true},
    {"eXAMPLE.oRG", NULL, 0, true},
    {"www.example.org", NULL, 0, true},
    {"a.b.c.d.e.f.g.example.org", NULL, 0, true},
    {"xexample.org", NULL, 0, false}, /* the same bytes at its end */
    {"org", NULL, 0, false},
    {"example.org.com", NULL, 0, false},
    {"example.com", NULL, 0, false},
    {"net", NULL, 0, true},
    {"x.NET", NULL, 0, true},
    {"", NULL, 0, false},
    {"b.test", NULL, 0, false},
    {"a.b.test", NULL, 0, false},
    {NULL, BYTES("\3a.B\4test\0\0\1\0\1"), true},
    {NULL, BYTES("\2\0\xff\1X\0\0\1\0\1"), true},
    {NULL, BYTES("\14\7example\3org\3com\0\0\1\0\1"), false}, /* a label that looks like it */
    {NULL, BYTES("\13\7example\3org\0\0\1\0\1"), false},
    {NULL, BYTES("\14\7example\3org\0\0\1\0\1"), false}, /* the zone inside a label */
    {NULL, BYTES("\1w\xc0\x14\0\1\0\1\3net\0"), true},   /* pointers, onwards as well */
    {NULL, BYTES("\xc0\x14xxxx\0\1\3net\0"), true},
    {NULL, BYTES("\3net\0\0\1\0"), false}, /* cut */
    {NULL, BYTES("\3net\0\0\1\0\1"), true},
    {NULL, BYTES("\3net"), false},
    {NULL, BYTES("\3ne"), false},
    {NULL, BYTES("\xc0\x0c\0\1\0\1"), false}, /* points to itself */
    {NULL, BYTES("\1a\xc0\x0c\0\1\0\1"), false},
    {NULL, BYTES("\xc0"), false},
    {NULL, BYTES("\xff\xff\0\1\0\1"), false},
    {NULL, BYTES("\3net\x80\0\0\1\0\1"), false}, /* a label of no kind */
    {NULL, BYTES("\x43net\0\0\1\0\1"), false},
    {NULL, BYTES(""), false},
};

static void test_zones_are_of_whole_labels_in_either_case(void **state)
{
    uint64_t kept_back = 0;
    size_t i;
    OPEN(zones, zones);

    for (i = 0; i < COUNT(names); i++) {
        char what[32];

        snprintf(what, sizeof what, "name %u", (unsigned)i);
        wire_begin(&w, 0);
        wire_count(&w, 0);
        if (names[i].name) wire_name(&w, names[i].name);
        if (names[i].name) wire_bytes(&w, "\0\1\0\1", 4);
        wire_bytes(&w, names[i].raw, names[i].size);
        message_of(&m, DNSTAP_MSG_CLIENT_QUERY, &w);
        must_come(&m, names[i].wanted, what);
        message_of(&m, DNSTAP_MSG_CLIENT_RESPONSE, &w);
        must_come(&m, names[i].wanted, what);
        kept_back += names[i].wanted ? 0 : 2;
    }
    s = world_read();
    assert_int_equal(s.filtered_zone, kept_back);
    assert_int_equal(s.unwanted, kept_back);
    world_close();
}

static void test_the_root_has_every_sound_question(void **state)
{
    static const char *const root[] = {".", NULL};
    OPEN(zones, root);

    wire_begin(&w, 0);
    message_of(&m, DNSTAP_MSG_CLIENT_QUERY, &w);
    must_come(&m, false, "no question");
    wire_question(&w, "");
    message_of(&m, DNSTAP_MSG_CLIENT_QUERY, &w);
    must_come(&m, true, "the root");
    wire_begin(&w, 0);
    wire_question(&w, "a.b");
    message_of(&m, DNSTAP_MSG_CLIENT_QUERY, &w);
    must_come(&m, true, "a.b");
    s = world_read();
    assert_int_equal(s.filtered_zone, 1);
    world_close();
}

static void test_the_question_is_looked_for_where_it_may_be(void **state)
{
    wire in, out, none;
    OPEN(zones, zones);

    wire_begin(&in, 0);
    wire_question(&in, "in.net");
    wire_begin(&out, 0);
    wire_question(&out, "out.com");
    wire_begin(&none, 0);
    dnstap_message_start(&m, DNSTAP_MSG_RESOLVER_RESPONSE);
    must_come(&m, false, "nothing");
    m.request = bytes_of_wire(&in);
    must_come(&m, true, "the request");
    m.query_message = bytes_of_wire(&out);
    must_come(&m, false, "the query before the request");
    m.response_message = bytes_of_wire(&none);
    must_come(&m, false, "a response without a question does not count");
    m.response_message = bytes_of_wire(&in);
    must_come(&m, true, "the response before the query");
    m.type = DNSTAP_MSG_RESOLVER_QUERY;
    must_come(&m, false, "in a query the query before the response");
    m.query_message = dnstap_bytes_of(NULL, 0);
    must_come(&m, true, "in a query without bytes the response");
    world_close();
}

static void test_long_names_are_compared_whole(void **state)
{
    static char zone[256], name[256];
    const char *one[] = {zone, NULL};
    size_t i;
    dnstap_options o;
    dnstap_message m;
    wire w;

    (void)state;
    for (i = 0; i < 253; i++) zone[i] = i % 2 ? '.' : 'a'; /* 127 labels: 255 bytes */
    world_options(&o);
    o.zones = one;
    world_open(&o);
    memcpy(name, zone, sizeof name);
    wire_begin(&w, 0);
    wire_question(&w, name);
    message_of(&m, DNSTAP_MSG_CLIENT_QUERY, &w);
    must_come(&m, true, "255 bytes");
    name[0] = 'b';
    wire_begin(&w, 0);
    wire_question(&w, name);
    message_of(&m, DNSTAP_MSG_CLIENT_QUERY, &w);
    must_come(&m, false, "another");
    world_close();
}

static const struct {
    const char *zone, *says;
} no_names[] = {
    {"", "zone \"\" is no domain name: it is empty"},
    {"a..b", "zone \"a..b\" is no domain name: a label is empty"},
    {".a", "a label is empty"},
    {"..", "a label is empty"},
    {"a b", "write \\DDD"},
    {"b\xc3\xbc"
     "cher.example",
     "xn--"},
    {"a\\", "write \\DDD"},
    {"a\\25", "write \\DDD"},
    {"a\\256", "write \\DDD"},
    {"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.b", "more than 63"},
};

static void test_what_is_no_name_is_refused_by_name(void **state)
{
    static const char *many[DNSTAP_ZONES_MAX + 2];
    const char *two[] = {"example.org", NULL, NULL};
    static char longest[300];
    dnstap_options o;
    dnstap_error error;
    dnstap_tap *tap;
    size_t i;

    (void)state;
    peer_options(&o, "/nobody");
    o.zones = two;
    for (i = 0; i < COUNT(no_names); i++) {
        two[1] = no_names[i].zone;
        assert_null(dnstap_open(&o, &error));
        assert_int_equal(error.code, DNSTAP_BAD_OPTION);
        if (!strstr(error.text, no_names[i].says)) fail_msg("%s", error.text);
        assert_int_equal(dnstap_memory_size(&o), 0);
        assert_int_equal(dnstap_check(&o, &error), DNSTAP_BAD_OPTION);
    }
    for (i = 0; i < 254; i++) longest[i] = i % 2 ? '.' : 'a';
    longest[254] = 'a'; /* 128 labels */
    two[1] = longest;
    assert_null(dnstap_open(&o, &error));
    assert_non_null(strstr(error.text, "more than 255 bytes"));
    for (i = 0; i < DNSTAP_ZONES_MAX; i++) many[i] = "a";
    o.zones = many;
    tap = dnstap_open(&o, &error);
    assert_non_null(tap);
    dnstap_close(tap, 0);
    many[i] = "a";
    assert_null(dnstap_open(&o, &error));
    assert_non_null(strstr(error.text, "zones are more than 1024"));
}

/* -- samples -- */

/* A tap that nobody reads, with small rings, which are emptied in between. */
static dnstap_tap *sampling(uint32_t sample, uint32_t producers)
{
    dnstap_options o;

    peer_options(&o, "/nobody");
    o.sample = sample;
    o.producers = producers;
    o.ring_size = 4096;
    o.max_message = 1024;
    return open_afresh(&o);
}

/* Five standard deviations. */
static void must_be_about(uint64_t chosen, uint64_t of, uint32_t sample)
{
    double expected = (double)of / sample, variance = expected * (1 - 1.0 / sample);
    double off = (double)chosen - expected;

    if (off * off > 25 * variance)
        fail_msg("%lu of %lu are not one in %u", (unsigned long)chosen, (unsigned long)of, sample);
}

static void test_one_in_so_many_is_logged(void **state)
{
    static const uint32_t samples[] = {1, 2, 3, 10, 1000, 100000};
    uint64_t chosen[2];
    dnstap_message m;
    dnstap_status s;
    dnstap_tap *tap;
    uint32_t n;
    size_t i;

    (void)state;
    for (i = 0; i < COUNT(samples); i++) {
        tap = sampling(samples[i], 1);
        memset(chosen, 0, sizeof chosen);
        for (n = 0; n < 400000; n++) { /* in turn, as queries and responses come */
            dnstap_message_start(&m, DNSTAP_MSG_CLIENT_QUERY + n % 2);
            chosen[n % 2] += (uint64_t)dnstap_log_as(tap, 0, &m);
            dnstap__discard(tap);
        }
        must_be_about(chosen[0], 200000, samples[i]);
        must_be_about(chosen[1], 200000, samples[i]);
        dnstap_get_status(tap, &s);
        assert_int_equal(s.recorded, chosen[0] + chosen[1]);
        assert_int_equal(s.filtered_sample, 400000 - s.recorded);
        assert_int_equal(s.unwanted, s.filtered_sample);
        dnstap_close(tap, 0);
    }
}

/* Producers with fewer messages than one in so many. */
static void test_many_producers_of_few_messages_are_no_bias(void **state)
{
    uint64_t first = 0, later = 0;
    dnstap_message m;
    dnstap_tap *tap;
    uint32_t taps, p, n;

    (void)state;
    dnstap_message_start(&m, DNSTAP_MSG_CLIENT_QUERY);
    for (taps = 0; taps < 200; taps++) {
        tap = sampling(8, 64);
        for (p = 0; p < 64; p++)
            for (n = 0; n < 3; n++) *(n ? &later : &first) += (uint64_t)dnstap_log_as(tap, p, &m);
        dnstap_close(tap, 0);
    }
    must_be_about(first, 200 * 64, 8);
    must_be_about(later, 200 * 64 * 2, 8);
}

static void test_a_transaction_is_logged_whole_or_not_at_all(void **state)
{
    dnstap_tap *one = sampling(5, 2), *other = sampling(5, 2);
    uint64_t chosen = 0, strides[] = {1, 65536, 0x100000001};
    dnstap_message m;
    uint32_t n, i;

    (void)state;
    for (i = 0; i < COUNT(strides); i++, chosen = 0) {
        for (n = 1; n <= 50000; n++) {
            int query, response;

            dnstap_message_start(&m, DNSTAP_MSG_CLIENT_QUERY);
            m.transaction = n * strides[i];
            query = dnstap_log_as(one, 0, &m);
            m.type = DNSTAP_MSG_CLIENT_RESPONSE;
            response = dnstap_log_as(one, 1, &m);
            assert_int_equal(query, response);
            assert_int_equal(dnstap_log_as(other, 0, &m), query);
            dnstap__discard(one);
            dnstap__discard(other);
            chosen += (uint64_t)query;
        }
        must_be_about(chosen, 50000, 5);
    }
    check_books(one);
    dnstap_close(one, 0);
    dnstap_close(other, 0);
}

/* -- the hook -- */

static const dnstap_message *hooked;
static unsigned asked;

static bool odd_ports(void *user, const dnstap_message *m)
{
    assert_int_equal(*(int *)user, 77);
    hooked = m;
    asked++;
    return m->query_port % 2;
}

static void test_the_hook_has_the_last_word(void **state)
{
    int user = 77;
    dnstap_options o;
    dnstap_message m;
    dnstap_status s;

    (void)state;
    world_options(&o);
    o.log = NULL;
    o.user = &user;
    o.filter = odd_ports;
    o.types = 1u << DNSTAP_MSG_CLIENT_QUERY;
    asked = 0;
    world_open(&o);
    dnstap_message_start(&m, DNSTAP_MSG_CLIENT_QUERY);
    m.query_port = 1;
    must_come(&m, true, "odd");
    assert_ptr_equal(hooked, &m);
    m.query_port = 2;
    must_come(&m, false, "even");
    m.type = DNSTAP_MSG_CLIENT_RESPONSE;
    must_come(&m, false, "the type");
    assert_int_equal(asked, 2); /* not of what is kept back before */
    s = world_read();
    assert_int_equal(s.filtered_hook, 1);
    assert_int_equal(s.filtered_type, 1);
    world_close();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_only_types_that_are_asked_for_come),
        cmocka_unit_test(test_bit_31_is_of_all_types_above),
        cmocka_unit_test(test_causes_are_told_apart),
        cmocka_unit_test(test_rcodes_are_of_responses),
        cmocka_unit_test(test_a_response_without_an_rcode_is_not_logged),
        cmocka_unit_test(test_an_rcode_is_the_headers_when_opt_is_out_of_reach),
        cmocka_unit_test(test_zones_are_of_whole_labels_in_either_case),
        cmocka_unit_test(test_the_root_has_every_sound_question),
        cmocka_unit_test(test_the_question_is_looked_for_where_it_may_be),
        cmocka_unit_test(test_long_names_are_compared_whole),
        cmocka_unit_test(test_what_is_no_name_is_refused_by_name),
        cmocka_unit_test(test_one_in_so_many_is_logged),
        cmocka_unit_test(test_many_producers_of_few_messages_are_no_bias),
        cmocka_unit_test(test_a_transaction_is_logged_whole_or_not_at_all),
        cmocka_unit_test(test_the_hook_has_the_last_word),
    };

    return RUN_TESTS(tests, make_folder, drop_folder);
}
