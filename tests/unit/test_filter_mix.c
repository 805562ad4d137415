/* Filters combined: what comes, and what each counts, of random messages with hostile DNS bytes,
 * compared with a slower reading of the rules; and payloads that were encoded elsewhere. */
#include "filter_support.h"

/* -- the rules once more, without the filter's code -- */

/* A name from `at` on, in lower case with its labels' lengths, without pointers; 0: it is not
 * sound. *behind: where it ends. */
static size_t read_name(const uint8_t *dns, size_t size, size_t at, uint8_t *out, size_t *behind)
{
    size_t n = 0, jumps = 0, i;

    for (*behind = 0;;) {
        if (at >= size) return 0;
        if (dns[at] >= 0xc0) {
            if (at + 2 > size || ++jumps > 126) return 0;
            if (!*behind) *behind = at + 2;
            at = (dns[at] & 0x3fu) << 8 | dns[at + 1];
            continue;
        }
        if (dns[at] >= 0x40 || n + dns[at] + 1u > 255) return 0;
        if (at + 1 + dns[at] > size) return 0;
        for (i = 0; i <= dns[at]; i++)
            out[n + i] = (uint8_t)(dns[at + i] >= 'A' && dns[at + i] <= 'Z' ? dns[at + i] + 32
                                                                            : dns[at + i]);
        n += dns[at] + 1u;
        if (!dns[at]) break;
        at += dns[at] + 1u;
    }
    if (!*behind) *behind = at + 1;
    return n;
}

/* A sound question's name. */
static size_t question_of(dnstap_bytes b, uint8_t *out)
{
    const uint8_t *dns = (const uint8_t *)b.data;
    size_t behind, n;

    if (!dns || b.size < 12 || !(dns[4] | dns[5])) return 0;
    n = read_name(dns, b.size, 12, out, &behind);
    return n && behind + 4 <= b.size ? n : 0;
}

/* Compares with the tail at each label. */
static bool is_in(const uint8_t *name, size_t size, const char *zone, size_t zone_size)
{
    size_t at;

    for (at = 0; at < size; at += name[at] + 1u)
        if (size - at == zone_size && memcmp(name + at, zone, zone_size) == 0) return true;
    return false;
}

enum verdict { COMES, TYPE, RCODE, ZONE, HOOK, VERDICTS };

#define MIX_TYPES (~(1u << DNSTAP_MSG_STUB_QUERY | 1u << DNSTAP_MSG_TOOL_RESPONSE))
#define MIX_RCODES ((uint64_t)1 << 0 | (uint64_t)1 << 3 | (uint64_t)1 << 16)
static const char *const mix_zones[] = {"bb.a", "c", NULL};

static uint32_t rcode_in(const dnstap_bytes *b)
{
    const uint8_t *dns = (const uint8_t *)b->data, *opt = dnstap__find_opt(dns, b->size);

    return (dns[3] & 15u) | (opt ? (uint32_t)opt[4] << 4 : 0);
}

static enum verdict verdict_of(const dnstap_message *m)
{
    bool response = m->type % 2 == 0;
    uint32_t rcode;
    uint8_t name[255];
    size_t n;

    if (m->type == DNSTAP_MSG_STUB_QUERY || m->type == DNSTAP_MSG_TOOL_RESPONSE) return TYPE;
    if (response) {
        if (!m->response_message.data || m->response_message.size < 12) return RCODE;
        rcode = rcode_in(&m->response_message);
        if (rcode != 0 && rcode != 3 && rcode != 16) return RCODE;
    }
    n = question_of(response ? m->response_message : m->query_message, name);
    if (!n) n = question_of(response ? m->query_message : m->response_message, name);
    if (!n) n = question_of(m->request, name);
    if (!is_in(name, n, BYTES("\2bb\1a\0")) && !is_in(name, n, BYTES("\1c\0"))) return ZONE;
    return m->query_port % 3 ? COMES : HOOK;
}

static bool by_port(void *user, const dnstap_message *m)
{
    (void)user;
    return m->query_port % 3 != 0;
}

/* -- random messages, sound or not -- */

/* Bytes of a heap block of their size. */
static dnstap_bytes random_dns(uint8_t **block)
{
    static const char *const some[] = {"a",    "bb.a", "x.bb.a", "xbb.a", "c",
                                       "BB.A", "d.C",  "C.d",    ""};
    wire w;
    size_t n;

    *block = NULL;
    if (rnd(4) == 0) return dnstap_bytes_of(NULL, 0);
    wire_begin(&w, rnd(3) ? 0 : rnd(16));
    if (rnd(8)) wire_question(&w, some[rnd(COUNT(some))]);
    if (rnd(3) == 0) wire_record(&w, 1 + (int)rnd(2), 1, 60, "\1\2\3\4", 4);
    if (rnd(3) == 0) wire_record(&w, 3, 41, rnd(4) ? 0 : rnd(5) << 24, NULL, 0);
    for (n = rnd(3) ? 0 : rnd(4); n; n--) w.data[rnd((uint32_t)w.size)] = (uint8_t)rnd(256);
    for (n = rnd(6) ? 0 : rnd(3); n; n--) { /* a pointer, to somewhere near */
        uint32_t at = 12 + rnd((uint32_t)w.size - 12 + 1);

        w.data[at] = 0xc0;
        w.data[at + 1] = (uint8_t)rnd(64);
    }
    n = rnd(6) ? w.size : rnd((uint32_t)w.size + 1);
    *block = (uint8_t *)malloc(n + !n);
    memcpy(*block, w.data, n);
    return dnstap_bytes_of(*block, n);
}

static void random_message(dnstap_message *m, uint8_t *blocks[3])
{
    dnstap_message_start(m, 1 + rnd(14));
    m->query_message = random_dns(&blocks[0]);
    m->response_message = random_dns(&blocks[1]);
    m->request = random_dns(&blocks[2]);
    m->query_port = 1 + rnd(1000);
}

static void test_what_comes_is_what_the_rules_say(void **state)
{
    uint64_t counts[VERDICTS] = {0}, numbers = 0;
    uint8_t *blocks[3];
    dnstap_options o;
    dnstap_status s;
    dnstap_message m;
    int i, n = test_long() ? 300000 : 30000;

    (void)state;
    world_options(&o);
    o.full = false;
    o.types = MIX_TYPES;
    o.rcodes = MIX_RCODES;
    o.zones = mix_zones;
    o.filter = by_port;
    world_open(&o);
    for (i = 0; i < n; i++) {
        enum verdict verdict;

        random_message(&m, blocks);
        verdict = verdict_of(&m);
        counts[verdict]++;
        if (verdict == COMES) m.query_time_sec = ++numbers;
        if (dnstap_log(world.tap, &m) != (verdict == COMES))
            fail_msg("message %d, of type %u, was to be %d", i, m.type, (int)verdict);
        free(blocks[0]);
        free(blocks[1]);
        free(blocks[2]);
        if (i % 1000 == 0) world_read();
    }
    s = world_read();
    assert_int_equal(world.count, counts[COMES]);
    assert_int_equal(world.last.query_time_sec, numbers);
    assert_int_equal(s.filtered_type, counts[TYPE]);
    assert_int_equal(s.filtered_rcode, counts[RCODE]);
    assert_int_equal(s.filtered_zone, counts[ZONE]);
    assert_int_equal(s.filtered_hook, counts[HOOK]);
    assert_int_equal(s.unwanted, (uint64_t)n - counts[COMES]);
    for (i = 0; i < VERDICTS; i++) assert_true(counts[i] > (uint64_t)n / 100); /* none is rare */
    world_close();
}

/* -- payloads -- */

/* m as another process encodes it. */
static dnstap_bytes payload_of(const dnstap_message *m)
{
    static uint8_t payload[2048];
    long n = dnstap_encode(m, payload, sizeof payload);

    assert_true(n > 0);
    return dnstap_bytes_of(payload, (size_t)n);
}

static int log_bytes(dnstap_bytes b) { return dnstap_log_payload(world.tap, b.data, b.size); }

static void test_payloads_are_filtered_and_logged_as_they_are(void **state)
{
    static const uint8_t unknown[] = {0xa2, 0x06, 3, 'x', 'y', 'z'}; /* field 100 */
    uint8_t more[512];
    dnstap_bytes payload;
    dnstap_options o;
    dnstap_status s;
    dnstap_message m;
    wire w;

    (void)state;
    world_options(&o);
    o.types = 1u << DNSTAP_MSG_CLIENT_QUERY;
    o.zones = mix_zones;
    world_open(&o);
    wire_begin(&w, 0);
    wire_question(&w, "x.c");
    message_of(&m, DNSTAP_MSG_CLIENT_QUERY, &w);
    payload = payload_of(&m);
    memcpy(more, payload.data, payload.size);
    memcpy(more + payload.size, unknown, sizeof unknown);
    assert_int_equal(log_bytes(dnstap_bytes_of(more, payload.size + sizeof unknown)), 1);
    m.type = DNSTAP_MSG_CLIENT_RESPONSE;
    assert_int_equal(log_bytes(payload_of(&m)), 0);
    m.type = DNSTAP_MSG_CLIENT_QUERY;
    m.query_message.size--;
    assert_int_equal(log_bytes(payload_of(&m)), 0);
    assert_int_equal(log_bytes(dnstap_bytes_of(BYTES("\x78\1"))), DNSTAP_BAD_MESSAGE);
    assert_int_equal(log_bytes(dnstap_bytes_of(BYTES("\xff"))), DNSTAP_BAD_MESSAGE);
    assert_int_equal(log_bytes(dnstap_bytes_of(NULL, 0)), DNSTAP_BAD_MESSAGE);
    s = world_read();
    assert_int_equal(world.count, 1);
    assert_int_equal(world.raw_size, payload.size + sizeof unknown);
    assert_memory_equal(world.raw, more, world.raw_size);
    assert_int_equal(s.filtered_type, 1);
    assert_int_equal(s.filtered_zone, 1);
    assert_int_equal(s.dropped_bad, 3);
    world_close();
}

static void test_without_filters_payloads_are_not_looked_into(void **state)
{
    dnstap_options o;

    (void)state;
    peer_options(&o, "/nobody");
    world.tap = open_afresh(&o);
    assert_int_equal(log_bytes(dnstap_bytes_of(BYTES("\xff"))), 1);
    dnstap_close(world.tap, 0);
}

/* -- all in one -- */

static void test_a_sample_is_of_what_the_others_let_through(void **state)
{
    uint64_t passed = 0;
    dnstap_options o;
    dnstap_status s;
    dnstap_message m;
    unsigned i;
    wire w[2];

    (void)state;
    world_options(&o);
    o.types = 1u << DNSTAP_MSG_CLIENT_QUERY;
    o.zones = mix_zones;
    o.sample = 2;
    world_open(&o);
    wire_begin(&w[0], 0);
    wire_question(&w[0], "x.c");
    wire_begin(&w[1], 0);
    wire_question(&w[1], "x.d");
    for (i = 0; i < 8000; i++) {
        message_of(&m, DNSTAP_MSG_CLIENT_QUERY + i % 2, &w[i / 2 % 2]);
        passed += (uint64_t)dnstap_log(world.tap, &m);
        if (i % 1000 == 0) world_read();
    }
    s = world_read();
    assert_int_equal(s.filtered_type, 4000);
    assert_int_equal(s.filtered_zone, 2000);
    assert_int_equal(s.filtered_sample + passed, 2000);
    assert_in_range(passed, 1000 - 112, 1000 + 112); /* five standard deviations */
    world_close();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_comes_is_what_the_rules_say),
        cmocka_unit_test(test_payloads_are_filtered_and_logged_as_they_are),
        cmocka_unit_test(test_without_filters_payloads_are_not_looked_into),
        cmocka_unit_test(test_a_sample_is_of_what_the_others_let_through),
    };

    return RUN_TESTS(tests, make_folder, drop_folder);
}
