/* Encoding: nanopb's descriptors, the ring's encoder and protobuf-c agree on every byte. */
#define DNSTAP_IMPLEMENTATION
#include "dnstap.h"

#include "unit.h"

#include "codec_random.h"

static uint8_t by_us[PAYLOAD_MAX], by_reference[PAYLOAD_MAX];

/* A tap's part of each message, as dnstap_open makes it. */
typedef struct part {
    dnstap__fixed fixed;
    uint8_t prefix[2048];
} part;

static void make_part(part *p, dnstap_bytes identity, dnstap_bytes version, bool full)
{
    long n = dnstap__encode_prefix(identity, version, NULL, 0);
    assert_in_range(n, 0, sizeof p->prefix);
    assert_int_equal(dnstap__encode_prefix(identity, version, p->prefix, sizeof p->prefix), n);
    p->fixed.identity = identity;
    p->fixed.version = version;
    p->fixed.prefix = p->prefix;
    p->fixed.prefix_size = (size_t)n;
    p->fixed.full = full;
}

/* What the ring gets of m must be what protobuf-c makes of expected; returns whether it went the
 * slow way. */
static bool check_ring(const dnstap__fixed *fixed, const dnstap_message *m,
                       const dnstap_message *expected)
{
    size_t size = reference_encode(expected, by_reference);
    uint8_t *room;
    dnstap__plan plan;
    assert_int_equal(dnstap__plan_message(fixed, m, &plan), DNSTAP_OK);
    assert_true(plan.slow ? plan.size == size : plan.size >= size);
    room = (uint8_t *)malloc(plan.size);
    assert_int_equal(dnstap__write_message(fixed, m, &plan, room), size);
    assert_memory_equal(room, by_reference, size);
    free(room);
    return plan.slow;
}

static void test_encode_equals_protobuf_c_for_random_messages(void **state)
{
    dnstap_message m;
    dnstap_policy policy;
    int i;
    (void)state;
    for (i = 0; i < 20000; i++) {
        long size;
        random_message(&m, &policy);
        size = (long)reference_encode(&m, by_reference);
        assert_int_equal(dnstap_encode(&m, NULL, 0), size);
        assert_int_equal(dnstap_encode(&m, by_us, (size_t)size), size);
        assert_memory_equal(by_us, by_reference, (size_t)size);
    }
}

static void test_ring_encoder_equals_protobuf_c_for_random_messages(void **state)
{
    dnstap_message m, whole;
    dnstap_policy policy;
    part p;
    int i, slow = 0;
    (void)state;
    for (i = 0; i < 40000; i++) {
        dnstap_bytes identity = random_bytes(), version = random_bytes();
        if (identity.size > 512) identity.size = 512;
        if (version.size > 512) version.size = 512;
        make_part(&p, identity, version, rnd(2) != 0);
        random_message(&m, &policy);
        if (rnd(2)) m.policy = NULL;
        if (rnd(2)) m.identity = m.version = dnstap_bytes_of(NULL, 0);
        whole = m;
        if (!m.identity.data) whole.identity = identity;
        if (!m.version.data) whole.version = version;
        if (!p.fixed.full) whole.query_message.data = whole.response_message.data = NULL;
        slow += check_ring(&p.fixed, &m, &whole);
    }
    assert_in_range(slow, 10000, 35000); /* both ways were gone */
}

static long describe(void *user, const dnstap_message *m, const char *label, char *out, size_t size)
{
    (void)user, (void)label;
    if (m->type % 4 == 0) return -1;
    memset(out, 'm', size);
    return (long)(m->query_zone.size % size);
}

/* A template of a few labels and texts, which may be long; memory is where it is compiled to. */
static void random_extra(dnstap__extra *e, void *memory, size_t size)
{
    static const char *const parts[] = {"{type}",  "{name}", "{remote}", "{size}", "{duration}",
                                        "{local}", "{/x}",   "{rcode}",  " text ", "{>bufsize}"};
    static char text[2048];
    dnstap_options o;
    dnstap__arena a;
    unsigned n = rnd(8);
    memset(&o, 0, sizeof o);
    memset(&a, 0, sizeof a);
    memset(text, 'x', sizeof text);
    text[rnd(4) ? 0 : rnd(sizeof text / 2)] = '\0';
    for (; n; n--) strcat(text, parts[rnd(sizeof parts / sizeof *parts)]);
    o.extra = text;
    o.metadata = describe;
    a.base = (uint8_t *)memory;
    a.size = size;
    dnstap__compile_template(e, &a, &o);
    assert_false(a.overflow);
}

/* What the template makes of m, put together piece by piece. */
static dnstap_bytes expansion(const dnstap__extra *e, const dnstap__view *v)
{
    static uint8_t out[16384];
    uint8_t *p = out;
    size_t i;
    for (i = 0; i < e->count; i++) {
        memcpy(p, e->pieces[i].text, e->pieces[i].size);
        p = dnstap__put_expanded(p + e->pieces[i].size, e, &e->pieces[i], v);
    }
    return dnstap_bytes_of(out, (size_t)(p - out));
}

/* The same of a message in a tap with a template; exactly: as when the room for it is scarce. */
static bool check_expanded(const dnstap__fixed *fixed, const dnstap__extra *e,
                           const dnstap_message *m, const dnstap_message *expected, bool exactly)
{
    size_t size = reference_encode(expected, by_reference);
    uint8_t *room;
    dnstap__plan plan;
    dnstap__view view;
    dnstap__view_message(&view, m);
    assert_int_equal(dnstap__plan_message(fixed, m, &plan), DNSTAP_OK);
    if (exactly) assert_int_equal(dnstap__plan_slow(fixed, m, &plan), DNSTAP_OK);
    plan.size += exactly ? dnstap__measure_extra(e, &view) : dnstap__plan_extra(e, &view);
    assert_true(plan.size >= size);
    room = (uint8_t *)malloc(plan.size);
    assert_int_equal(dnstap__write_with_extra(fixed, e, &view, &plan, room), size);
    assert_memory_equal(room, by_reference, size);
    free(room);
    return plan.slow;
}

static void test_ring_encoder_with_a_template_equals_protobuf_c_for_random_messages(void **state)
{
    static uint64_t memory[1024];
    dnstap_message m, whole;
    dnstap_policy policy;
    dnstap__extra extra;
    dnstap__view view;
    part p;
    int i, slow = 0;
    (void)state;
    for (i = 0; i < 40000; i++) {
        make_part(&p, dnstap_bytes_of("ns1", rnd(4)), dnstap_bytes_of("version", rnd(8)), rnd(2));
        random_extra(&extra, memory, sizeof memory);
        random_message(&m, &policy);
        m.request = random_bytes();
        if (rnd(4)) m.extra.data = NULL;
        if (rnd(2)) m.policy = NULL;
        if (rnd(2)) m.identity = m.version = dnstap_bytes_of(NULL, 0);
        dnstap__complete(&p.fixed, &m, &whole);
        dnstap__view_message(&view, &m);
        if (!extra.count) continue; /* the tap has no template then */
        if (!m.extra.data) whole.extra = expansion(&extra, &view);
        slow += check_expanded(&p.fixed, &extra, &m, &whole, rnd(2) != 0);
    }
    assert_in_range(slow, 10000, 39000); /* both ways were gone */
}

static void test_prefixes_of_every_size_are_copied_whole(void **state)
{
    dnstap_message m, whole;
    part p;
    size_t size;
    (void)state;
    dnstap_message_start(&m, DNSTAP_MSG_AUTH_QUERY);
    for (size = 0; size < 140; size++) {
        whole = m;
        whole.identity = dnstap_bytes_of(size ? pool : NULL, size);
        make_part(&p, whole.identity, whole.version, true);
        assert_false(check_ring(&p.fixed, &m, &whole));
    }
}

/* Each width of each number, alone: the edges where a varint grows. */
static void test_every_width_of_number_equals_protobuf_c(void **state)
{
    dnstap_message m;
    unsigned bits;
    part p;
    (void)state;
    make_part(&p, dnstap_bytes_of(NULL, 0), dnstap_bytes_of(NULL, 0), true);
    for (bits = 0; bits < 128; bits++) {
        uint64_t v = ((uint64_t)1 << bits / 2) - (bits & 1);
        dnstap_message_start(&m, DNSTAP_MSG_AUTH_QUERY);
        m.query_time_sec = v;
        check_ring(&p.fixed, &m, &m);
        m.response_time_sec = v;
        if (v <= INT32_MAX)
            m.type = m.socket_family = m.socket_protocol = m.http_protocol = (uint32_t)v;
        if (m.type == 0) m.present |= 1u << 1;
        if (v <= 65535) m.query_port = m.response_port = (uint32_t)v;
        if (v <= 999999999) m.query_time_nsec = m.response_time_nsec = (uint32_t)v;
        check_ring(&p.fixed, &m, &m);
    }
}

static void test_addresses_of_every_size_equal_protobuf_c(void **state)
{
    dnstap_message m;
    size_t size;
    part p;
    (void)state;
    make_part(&p, dnstap_bytes_of("ns1", 3), dnstap_bytes_of("", 0), true);
    for (size = 0; size < 140; size++) {
        dnstap_message whole;
        dnstap_message_start(&m, DNSTAP_MSG_AUTH_QUERY);
        m.query_address = dnstap_bytes_of(pool + 7, size);
        m.response_address = dnstap_bytes_of(pool + 900, 139 - size);
        whole = m;
        whole.identity = p.fixed.identity;
        whole.version = p.fixed.version;
        assert_int_equal(check_ring(&p.fixed, &m, &whole), size >= 128 || 139 - size >= 128);
    }
}

static void test_decode_of_encode_is_the_message(void **state)
{
    dnstap_message m, back;
    dnstap_policy policy, back_policy;
    int i;
    (void)state;
    for (i = 0; i < 20000; i++) {
        long size;
        random_message(&m, &policy);
        size = dnstap_encode(&m, by_us, sizeof by_us);
        assert_true(size > 0);
        assert_int_equal(dnstap_decode(&back, &back_policy, by_us, (size_t)size), DNSTAP_OK);
        assert_true(same_message(&m, &back));
        assert_true(!back.policy || back.policy == &back_policy);
    }
}

/* What no message may hold: a number, or bytes without end, at a place in message or policy. */
typedef struct spoiler {
    bool in_policy;
    size_t at;
    uint32_t number; /* 0: bytes of 2^31 */
} spoiler;

#define BAD_NUMBER(field, number)                      \
    {                                                  \
        false, offsetof(dnstap_message, field), number \
    }
#define BAD_BYTES(field)                          \
    {                                             \
        false, offsetof(dnstap_message, field), 0 \
    }
#define BAD_POLICY(field, number)                    \
    {                                                \
        true, offsetof(dnstap_policy, field), number \
    }
static const spoiler spoilers[] = {BAD_NUMBER(type, 1u << 31),
                                   BAD_NUMBER(socket_family, UINT32_MAX),
                                   BAD_NUMBER(socket_protocol, 1u << 31),
                                   BAD_NUMBER(http_protocol, 1u << 31),
                                   BAD_NUMBER(query_port, 65536),
                                   BAD_NUMBER(response_port, UINT32_MAX),
                                   BAD_NUMBER(query_time_nsec, 1000000000),
                                   BAD_NUMBER(query_time_nsec, 3200000000u),
                                   BAD_NUMBER(response_time_nsec, 1000000000),
                                   BAD_NUMBER(response_time_nsec, UINT32_MAX),
                                   BAD_BYTES(query_address),
                                   BAD_BYTES(response_address),
                                   BAD_BYTES(query_message),
                                   BAD_BYTES(response_message),
                                   BAD_BYTES(query_zone),
                                   BAD_BYTES(extra),
                                   BAD_BYTES(identity),
                                   BAD_BYTES(version),
                                   BAD_POLICY(action, UINT32_MAX),
                                   BAD_POLICY(match, 1u << 31),
                                   BAD_POLICY(type, 0),
                                   BAD_POLICY(rule, 0),
                                   BAD_POLICY(value, 0)};

static void spoil(dnstap_message *m, dnstap_policy *policy, const spoiler *s)
{
    const dnstap_bytes endless = dnstap_bytes_of(pool, (size_t)1 << 31);
    char *at = (s->in_policy ? (char *)policy : (char *)m) + s->at;
    if (s->number)
        memcpy(at, &s->number, sizeof s->number);
    else
        memcpy(at, &endless, sizeof endless);
}

static void assert_both_return(const dnstap_message *m, int expected)
{
    dnstap__plan plan;
    long size = dnstap_encode(m, NULL, 0);
    part p;
    make_part(&p, dnstap_bytes_of("ns1", 3), dnstap_bytes_of(NULL, 0), true);
    assert_int_equal(size < 0 ? size : DNSTAP_OK, expected);
    assert_int_equal(dnstap__plan_message(&p.fixed, m, &plan), expected);
}

/* Where the size of the Message's length changes, and can't be told before. */
static void test_ring_encoder_puts_a_length_of_any_size(void **state)
{
    static const size_t around[] = {100, 16340};
    dnstap_message m, whole;
    size_t i, size;
    part p;
    (void)state;
    make_part(&p, dnstap_bytes_of("ns1", 3), dnstap_bytes_of(NULL, 0), true);
    for (i = 0; i < 2; i++)
        for (size = around[i] - 100; size < around[i] + 100; size++) {
            dnstap_message_start(&m, DNSTAP_MSG_CLIENT_RESPONSE);
            m.query_time_sec = size % 3 ? 1700000000 : 0;
            m.response_time_sec = size % 2 ? UINT64_MAX : 0;
            m.response_port = size % 5 ? 0 : 65535;
            m.response_message = dnstap_bytes_of(pool, size);
            dnstap__complete(&p.fixed, &m, &whole);
            assert_false(check_ring(&p.fixed, &m, &whole));
        }
}

/* The most that numbers and lengths may take fits into the room. */
static void test_ring_encoder_has_room_for_the_largest_numbers(void **state)
{
    dnstap_message m, whole;
    part p;
    (void)state;
    make_part(&p, dnstap_bytes_of("ns1", 3), dnstap_bytes_of("1", 1), true);
    dnstap_message_start(&m, 127);
    m.socket_family = m.socket_protocol = m.http_protocol = 127;
    m.query_port = m.response_port = 65535;
    m.query_time_sec = m.response_time_sec = UINT64_MAX;
    m.query_time_nsec = m.response_time_nsec = 999999999;
    m.query_address = m.response_address = dnstap_bytes_of(pool, 127);
    m.query_message = m.response_message = m.query_zone = m.extra = dnstap_bytes_of(pool, 60000);
    dnstap__complete(&p.fixed, &m, &whole);
    assert_false(check_ring(&p.fixed, &m, &whole));
}

static void test_both_encoders_refuse_the_same_messages(void **state)
{
    dnstap_message m;
    dnstap_policy policy;
    size_t i;
    (void)state;
    for (i = 0; i < 2 * sizeof spoilers / sizeof *spoilers; i++) {
        memset(&policy, 0, sizeof policy);
        dnstap_message_start(&m, DNSTAP_MSG_AUTH_QUERY);
        m.query_port = m.response_port = 65535;
        m.query_time_nsec = m.response_time_nsec = 999999999;
        m.http_protocol = m.socket_family = m.socket_protocol = INT32_MAX;
        if (i % 2 || spoilers[i / 2].in_policy) m.policy = &policy; /* fast, and slow */
        assert_both_return(&m, DNSTAP_OK);
        spoil(&m, &policy, &spoilers[i / 2]);
        assert_both_return(&m, DNSTAP_BAD_MESSAGE);
    }
}

static void test_type_is_required_though_it_may_be_zero(void **state)
{
    dnstap_message m;
    (void)state;
    dnstap_message_start(&m, 0);
    assert_both_return(&m, DNSTAP_BAD_MESSAGE);
    m.present = 1u << 1;
    assert_both_return(&m, DNSTAP_OK);
}

static void test_encode_into_too_little_room_says_so_and_keeps_to_it(void **state)
{
    dnstap_message m;
    size_t room, size;
    (void)state;
    dnstap_message_start(&m, DNSTAP_MSG_CLIENT_QUERY);
    m.query_message = dnstap_bytes_of(pool, 300);
    m.identity = dnstap_bytes_of("ns1", 3);
    size = (size_t)dnstap_encode(&m, NULL, 0);
    for (room = 1; room < size; room++) {
        uint8_t *out = (uint8_t *)malloc(room);
        assert_int_equal(dnstap_encode(&m, out, room), DNSTAP_NO_MEMORY);
        free(out);
    }
    assert_int_equal(dnstap_encode(&m, by_us, size), size);
}

static void test_prefix_into_too_little_room_says_so(void **state)
{
    uint8_t out[8];
    (void)state;
    assert_int_equal(
        dnstap__encode_prefix(dnstap_bytes_of("ns1", 3), dnstap_bytes_of("v", 1), out, 7),
        DNSTAP_NO_MEMORY);
    assert_int_equal(
        dnstap__encode_prefix(dnstap_bytes_of("ns1", 3), dnstap_bytes_of("v", 1), out, 8), 8);
    assert_memory_equal(out, "\x0a\x03ns1\x12\x01v", 8);
    assert_int_equal(dnstap__encode_prefix(dnstap_bytes_of(pool, (size_t)1 << 31),
                                           dnstap_bytes_of(NULL, 0), NULL, 0),
                     DNSTAP_BAD_MESSAGE);
}

/* What protoc reads in a payload with all fields. */
static const char *const all_fields = "identity: \"ns1\"\n"
                                      "version: \"\"\n"
                                      "extra: \"x\\000y\"\n"
                                      "message {\n"
                                      "  type: CLIENT_RESPONSE\n"
                                      "  socket_family: INET6\n"
                                      "  socket_protocol: DOH\n"
                                      "  query_address: \"ABCDEFGHIJKLMNOP\"\n"
                                      "  response_address: \"abcdefghijklmnop\"\n"
                                      "  query_port: 65535\n"
                                      "  response_port: 443\n"
                                      "  query_time_sec: 1753900000\n"
                                      "  query_time_nsec: 0\n"
                                      "  query_message: \"query\"\n"
                                      "  query_zone: \"\\003abc\\000\"\n"
                                      "  response_time_sec: 1753900001\n"
                                      "  response_time_nsec: 999999999\n"
                                      "  response_message: \"response\"\n"
                                      "  policy {\n"
                                      "    type: \"RPZ\"\n"
                                      "    rule: \"rule\"\n"
                                      "    action: LOCAL_DATA\n"
                                      "    match: NS_IP\n"
                                      "    value: \"value\"\n"
                                      "  }\n"
                                      "  http_protocol: HTTP2\n"
                                      "}\n"
                                      "type: MESSAGE\n";

static void fill_all_fields(dnstap_message *m, dnstap_policy *policy)
{
    struct timespec asked = {1753900000, 0}, answered = {1753900001, 999999999};
    dnstap_message_start(m, DNSTAP_MSG_CLIENT_RESPONSE);
    m->identity = dnstap_bytes_of("ns1", 3);
    m->version = dnstap_bytes_of("", 0);
    m->extra = dnstap_bytes_of("x\0y", 3);
    m->socket_family = DNSTAP_FAMILY_INET6;
    m->socket_protocol = DNSTAP_PROTOCOL_DOH;
    m->query_address = dnstap_bytes_of("ABCDEFGHIJKLMNOP", 16);
    m->response_address = dnstap_bytes_of("abcdefghijklmnop", 16);
    m->query_port = 65535;
    m->response_port = 443;
    dnstap_set_query_time(m, &asked);
    dnstap_set_response_time(m, &answered);
    m->query_message = dnstap_bytes_of("query", 5);
    m->query_zone = dnstap_bytes_of("\3abc", 5);
    m->response_message = dnstap_bytes_of("response", 8);
    m->http_protocol = DNSTAP_HTTP_HTTP2;
    policy->type = dnstap_bytes_of("RPZ", 3);
    policy->rule = dnstap_bytes_of("rule", 4);
    policy->action = DNSTAP_ACTION_LOCAL_DATA;
    policy->match = DNSTAP_MATCH_NS_IP;
    policy->value = dnstap_bytes_of("value", 5);
    m->policy = policy;
}

static void test_protoc_reads_every_field_by_its_name(void **state)
{
    static const char *const command =
        "protoc --decode=dnstap.Dnstap -Iproto proto/dnstap.proto <build/all-fields.payload";
    char text[4096];
    dnstap_message m;
    dnstap_policy policy;
    FILE *file;
    size_t size;
    (void)state;
    if (system("command -v protoc >/dev/null") != 0) {
        print_message("protoc is missing (Debian package protobuf-compiler)\n");
        skip();
    }
    fill_all_fields(&m, &policy);
    size = (size_t)dnstap_encode(&m, by_us, sizeof by_us);
    file = fopen("build/all-fields.payload", "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(by_us, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
    file = popen(command, "r");
    assert_non_null(file);
    text[fread(text, 1, sizeof text - 1, file)] = 0;
    assert_int_equal(pclose(file), 0);
    assert_string_equal(text, all_fields);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_encode_equals_protobuf_c_for_random_messages),
        cmocka_unit_test(test_ring_encoder_equals_protobuf_c_for_random_messages),
        cmocka_unit_test(test_ring_encoder_with_a_template_equals_protobuf_c_for_random_messages),
        cmocka_unit_test(test_prefixes_of_every_size_are_copied_whole),
        cmocka_unit_test(test_every_width_of_number_equals_protobuf_c),
        cmocka_unit_test(test_addresses_of_every_size_equal_protobuf_c),
        cmocka_unit_test(test_decode_of_encode_is_the_message),
        cmocka_unit_test(test_ring_encoder_puts_a_length_of_any_size),
        cmocka_unit_test(test_ring_encoder_has_room_for_the_largest_numbers),
        cmocka_unit_test(test_both_encoders_refuse_the_same_messages),
        cmocka_unit_test(test_type_is_required_though_it_may_be_zero),
        cmocka_unit_test(test_encode_into_too_little_room_says_so_and_keeps_to_it),
        cmocka_unit_test(test_prefix_into_too_little_room_says_so),
        cmocka_unit_test(test_protoc_reads_every_field_by_its_name),
    };
    size_t i;
    for (i = 0; i < sizeof pool; i++) pool[i] = (uint8_t)rnd(256);
    return RUN_TESTS(tests, NULL, NULL);
}
