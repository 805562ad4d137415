/* Options: what is refused and how it is said, defaults, bounds, memory, and the file a tap finds
 * when it opens. */
#include <stddef.h>

static void *counting_malloc(size_t size);
static void counting_free(void *memory);
#define DNSTAP_MALLOC(size) counting_malloc(size)
#define DNSTAP_FREE(memory) counting_free(memory)
#include "tap_fake.h"

/* of the sanitizer's runtime: calls for every allocation of the process */
int __sanitizer_install_malloc_and_free_hooks(void (*)(const volatile void *, size_t),
                                              void (*)(const volatile void *));

static unsigned taken, given_back;

static void *counting_malloc(size_t size)
{
    taken++;
    return malloc(size);
}

static void counting_free(void *memory)
{
    given_back++;
    free(memory);
}

/* -- what is refused -- */

#define LONG_NAME                                                                                  \
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" \
    "aaaa"                                                                                         \
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" \
    "aaaa"                                                                                         \
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" \
    "aaaa"

static const struct {
    const char *endpoint, *fault, *way_out;
} bad_endpoints[] = {
    {NULL, "no endpoint", "set options.endpoint"},
    {"", "no endpoint", "unix:///"},
    {"unix://", "path is empty", "unix://"},
    {"file://", "path is empty", "file://"},
    {"unix:///" LONG_NAME, "unix socket's at most 107", "shorten it"},
    {"/" LONG_NAME, "unix socket's at most 107", "shorten it"},
    {"http://127.0.0.1:6000", "http://127.0.0.1:6000: unknown scheme", "use unix://, tcp://"},
    {"TCP://127.0.0.1:6000", "unknown scheme", "use unix://, tcp://"},
    {"localhost:6000", "localhost:6000: unknown scheme", "tcp://"},
    {"dnstap.sock", "unknown scheme", "begins with /"},
    {"tcp://127.0.0.1", "no port", "write host:port"},
    {"tcp://", "no port", "write host:port"},
    {"tcp://127.0.0.1:", "port \"\"", "1 to 65535"},
    {"tcp://127.0.0.1:0", "port \"0\"", "1 to 65535"},
    {"tcp://127.0.0.1:70000", "port \"70000\"", "1 to 65535"},
    {"tcp://127.0.0.1:65536", "port \"65536\"", "1 to 65535"},
    {"tcp://127.0.0.1:99999999999999999999", "port \"99999999999999999999\"", "1 to 65535"},
    {"tcp://127.0.0.1:-1", "port \"-1\"", "1 to 65535"},
    {"tcp://127.0.0.1:60x", "port \"60x\"", "1 to 65535"},
    {"tcp://127.0.0.1: 6000", "port \" 6000\"", "1 to 65535"},
    {"tcp://:6000", "host is empty", "host"},
    {"tcp://[]:6000", "host is empty", "host"},
    {"tcp://" LONG_NAME ":6000", "longer than 253", "host"},
    {"tcp://::1:6000", "IPv6 address in brackets", "[::1]:6000"},
    {"tcp://[::1:6000", "no ]", "[::1]:6000"},
    {"tcp://[::1]", "no port", "host:port"},
    {"tcp://[::1]6000", "no port", "host:port"},
};

static void must_refuse(const dnstap_options *o, const char *fault, const char *way_out)
{
    dnstap_error error;

    memset(&error, 0xaa, sizeof error);
    assert_null(dnstap_open(o, &error));
    assert_int_equal(error.code, DNSTAP_BAD_OPTION);
    if (!strstr(error.text, fault) || !strstr(error.text, way_out))
        fail_msg("\"%s\" lacks \"%s\" or \"%s\"", error.text, fault, way_out);
    assert_null(dnstap_open(o, NULL));
}

static void test_bad_endpoints_are_refused_by_fault_and_way_out(void **state)
{
    unsigned before = descriptors();
    dnstap_options o;
    size_t i;

    (void)state;
    fake_options(&o);
    o.transport = NULL;
    for (i = 0; i < sizeof bad_endpoints / sizeof *bad_endpoints; i++) {
        o.endpoint = bad_endpoints[i].endpoint;
        must_refuse(&o, bad_endpoints[i].fault, bad_endpoints[i].way_out);
    }
    assert_int_equal(descriptors(), before);
    assert_int_equal(taken, given_back);
}

static void test_good_endpoints_are_taken(void **state)
{
    static const char *const good[] = {
        "unix:///tmp/x",     "/tmp/x",          "unix://relative", "tcp://127.0.0.1:1",
        "tcp://[::1]:65535", "tcp://name:6000", "tcp://a.b-c:6000"};
    dnstap_options o;
    dnstap_error error;
    dnstap_tap *tap;
    size_t i;

    (void)state;
    fake_options(&o);
    o.transport = NULL;
    for (i = 0; i < sizeof good / sizeof *good; i++) {
        o.endpoint = good[i];
        tap = dnstap_open(&o, &error);
        if (!tap) fail_msg("%s: %s", good[i], error.text);
        assert_int_equal(dnstap_close(tap, 0), DNSTAP_OK);
    }
}

static void test_bad_numbers_are_refused_by_fault_and_way_out(void **state)
{
    dnstap_options base, o;

    (void)state;
    fake_options(&base);
    o = base, o.queue = 4097;
    must_refuse(&o, "queue is 4097", "give 1 to 4096");
    o = base, o.writebuffer = 1025;
    must_refuse(&o, "writebuffer is 1025", "give 1 to 1024");
    o = base, o.producers = 1025;
    must_refuse(&o, "producers is 1025", "give 1 to 1024");
    o = base, o.timeout_ms = -1;
    must_refuse(&o, "timeout_ms is negative", "give milliseconds");
    o = base, o.ring_size = 5000;
    must_refuse(&o, "ring_size 5000", "power of two");
    o = base, o.ring_size = SIZE_MAX / 2 + 1;
    must_refuse(&o, "ring_size ", "below ");
    o = base, o.ring_size = SIZE_MAX;
    must_refuse(&o, "ring_size ", "power of two");
    o = base, o.max_message = 2049;
    must_refuse(&o, "max_message 2049", "raise ring_size or lower max_message");
    o = base, o.max_message = SIZE_MAX;
    must_refuse(&o, "max_message ", "raise ring_size");
    o = base, o.max_message = 63;
    must_refuse(&o, "max_message 63", "between 64 and");
    o = base, o.ring_size = 1;
    must_refuse(&o, "ring_size 1;", "raise ring_size");
    o = base, o.identity = LONG_NAME LONG_NAME LONG_NAME LONG_NAME;
    must_refuse(&o, "identity and version have", "max_message");
}

static void test_bounds_themselves_are_taken(void **state)
{
    dnstap_options o;

    (void)state;
    fake_options(&o);
    o.writebuffer = 1024;
    o.timeout_ms = INT32_MAX;
    assert_true(dnstap_memory_size(&o) > 0);
    o.max_message = o.ring_size / 2;
    assert_true(dnstap_memory_size(&o) > 0);
    o.max_message = 64;
    assert_true(dnstap_memory_size(&o) > 0);
    o.producers = 1024;
    assert_true(dnstap_memory_size(&o) > 1024 * o.ring_size);
    o.producers = 1;
    o.queue = 4096;
    o.ring_size = o.max_message = 0;
    assert_true(dnstap_memory_size(&o) > (size_t)4096 * 10000 * 512);
    o.ring_size = SIZE_MAX / 4 + 1; /* no room for two of them and a tap in size_t */
    o.producers = 8;
    assert_int_equal(dnstap_memory_size(&o), 0);
    assert_null(dnstap_open(&o, NULL));
}

/* -- memory -- */

static void test_memory_must_be_as_large_as_told_and_may_begin_anywhere(void **state)
{
    dnstap_options o;
    dnstap_error error;
    dnstap_tap *tap;
    size_t size, shift;
    uint8_t *memory;

    (void)state;
    fake_options(&o);
    size = dnstap_memory_size(&o);
    assert_true(size > 4 * o.ring_size && size < 4 * o.ring_size + 8192);
    for (shift = 0; shift < 65; shift += shift < 3 ? 1 : 31) {
        memory = (uint8_t *)malloc(size + shift);
        assert_null(dnstap_open_in(memory + shift, size - 1, &o, &error));
        assert_int_equal(error.code, DNSTAP_NO_MEMORY);
        assert_non_null(strstr(error.text, "they need "));
        memset(&wire, 0, sizeof wire);
        wire.scripts[0] = faultless;
        wire.count = wire.bidirectional = 1;
        forget_all();
        tap = dnstap_open_in(memory + shift, size, &o, &error);
        assert_non_null(tap);
        while (log_next(tap, 2) == 1) {
        }
        fake_turn(tap);
        assert_int_equal(dnstap_close(tap, 1000), DNSTAP_OK);
        assert_int_equal(seen.frames, logged[2]);
        free(memory);
    }
    assert_null(dnstap_open_in(NULL, 0, &o, &error));
    assert_int_equal(error.code, DNSTAP_NO_MEMORY);
    assert_null(dnstap_open_in(&o, 0, &o, &error));
    o.queue = 4097;
    assert_int_equal(dnstap_memory_size(&o), 0);
}

static volatile unsigned allocations; /* malloc, thinks the compiler, does not touch them */
static volatile bool counting;
static void saw_malloc(const volatile void *p, size_t size)
{
    (void)p, (void)size;
    if (counting) allocations++;
}
static void saw_free(const volatile void *p) { (void)p; }

static void test_nothing_allocates_after_open(void **state)
{
    script s[2];
    dnstap_options o;
    dnstap_status status;
    dnstap_tap *tap;
    void *volatile one; /* or the compiler leaves it out */
    unsigned i;

    (void)state;
    assert_true(__sanitizer_install_malloc_and_free_hooks(saw_malloc, saw_free) > 0);
    s[0] = s[1] = faultless;
    s[0].cut = 3000;
    fake_options(&o);
    tap = fake_open(&o, s, 2);
    log_own(tap); /* the C library may allocate for a thread's first key */
    allocations = 0;
    counting = true;
    one = malloc(1);
    free(one);
    assert_int_equal(allocations, 1);
    for (i = 0; i < 500; i++) {
        log_own(tap);
        log_own(tap);
        dnstap_set_enabled(tap, i % 50 != 0);
        fake_turn(tap);
        dnstap_get_status(tap, &status);
    }
    dnstap_flush(tap, 1000);
    counting = false;
    assert_int_equal(allocations, 1);
    assert_int_equal(dnstap_close(tap, 1000), DNSTAP_OK);
    assert_true(wire.connections == 2 && seen.frames > 300);
}

static void test_a_tap_is_one_allocation(void **state)
{
    dnstap_options o;
    dnstap_tap *tap;
    script s = faultless;
    unsigned before = taken;

    (void)state;
    assert_int_equal(taken, given_back);
    fake_options(&o);
    tap = fake_open(&o, &s, 1);
    assert_int_equal(taken, before + 1);
    dnstap_close(tap, 100);
    assert_int_equal(given_back, before + 1);
    dnstap_close(NULL, 100);
}

/* -- what a message carries, and bounds -- */

/* Logs a message and decodes what is in the ring. */
static void logged_message(const dnstap_options *o, dnstap_message *out)
{
    static uint8_t copy[1024];
    dnstap_policy policy;
    dnstap_message m;
    script s = faultless;
    dnstap_tap *tap = fake_open(o, &s, 1);
    size_t size;

    dnstap_message_start(&m, DNSTAP_MSG_CLIENT_QUERY);
    assert_int_equal(dnstap_log_as(tap, 0, &m), 1);
    size = get32(tap->rings[0].data);
    memcpy(copy, tap->rings[0].data + 4, size);
    assert_int_equal(dnstap_decode(out, &policy, copy, size), DNSTAP_OK);
    dnstap_close(tap, 0);
}

static void test_identity_and_version_have_defaults_and_may_be_empty(void **state)
{
    char host[256], identity[] = "changes", version[] = "later";
    dnstap_options o;
    dnstap_message m;

    (void)state;
    fake_options(&o);
    o.identity = o.version = NULL;
    logged_message(&o, &m);
    gethostname(host, sizeof host);
    assert_int_equal(m.identity.size, strlen(host));
    assert_memory_equal(m.identity.data, host, strlen(host));
    assert_int_equal(m.version.size, strlen("dnstap.h-" DNSTAP_VERSION));
    assert_memory_equal(m.version.data, "dnstap.h-" DNSTAP_VERSION, m.version.size);
    o.identity = o.version = "";
    logged_message(&o, &m);
    assert_true(m.identity.data && !m.identity.size);
    assert_true(m.version.data && !m.version.size);
    o.identity = identity;
    o.version = version;
    logged_message(&o, &m);
    memset(identity, 'x', 3);
    assert_memory_equal(m.identity.data, "changes", 7);
    assert_memory_equal(m.version.data, "later", 5);
}

static void test_queue_bounds_a_ring_in_messages_exactly(void **state)
{
    script s = faultless;
    dnstap_options o;
    dnstap_message m;
    dnstap_status status;
    dnstap_tap *tap;
    uint32_t queue, i;
    size_t bytes, messages;

    (void)state;
    for (queue = 1; queue <= 2; queue++) {
        fake_options(&o);
        o.queue = queue;
        o.ring_size = 1 << 22;
        s.refused = true;
        tap = fake_open(&o, &s, 1);
        fake_turn(tap);
        dnstap_message_start(&m, DNSTAP_MSG_TOOL_QUERY);
        for (i = 0; i < queue * 10000; i++) assert_int_equal(dnstap_log_as(tap, 1, &m), 1);
        for (i = 0; i < 7; i++) assert_int_equal(dnstap_log_as(tap, 1, &m), DNSTAP_RING_FULL);
        assert_int_equal(dnstap_log_as(tap, 0, &m), 1);
        dnstap_get_ring(tap, 1, &bytes, &messages);
        assert_int_equal(messages, queue * 10000);
        assert_true(bytes > messages && bytes < o.ring_size);
        dnstap_get_status(tap, &status);
        assert_int_equal(status.dropped_full, 7);
        assert_int_equal(status.queued, queue * 10000 + 1);
        check_books(tap);
        dnstap_close(tap, 0);
        assert_int_equal(said.left, queue * 10000 + 1);
        assert_int_equal(said.dropped, 1);
        assert_non_null(strstr(said.last, queue == 1 ? ": 10001" : ": 20001"));
    }
}

static void test_max_message_bounds_a_frame_exactly(void **state)
{
    static uint8_t bytes[3000];
    script s = faultless;
    dnstap_options o;
    dnstap_message m;
    dnstap_tap *tap;
    size_t used, messages;
    int result;

    (void)state;
    fake_options(&o);
    o.max_message = 500;
    tap = fake_open(&o, &s, 1);
    dnstap_message_start(&m, DNSTAP_MSG_CLIENT_QUERY);
    m.query_message = dnstap_bytes_of(bytes, 400);
    do {
        result = dnstap_log_as(tap, 0, &m);
        dnstap_get_ring(tap, 0, &used, &messages);
        assert_true(result == DNSTAP_TOO_LARGE || used <= 500);
        if (result == 1) seen.bytes = used;
        dnstap__discard(tap);
        m.query_message.size++;
    } while (result == 1);
    assert_int_equal(result, DNSTAP_TOO_LARGE);
    assert_int_equal(seen.bytes, 500);
    dnstap_close(tap, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_endpoints_are_refused_by_fault_and_way_out),
        cmocka_unit_test(test_good_endpoints_are_taken),
        cmocka_unit_test(test_bad_numbers_are_refused_by_fault_and_way_out),
        cmocka_unit_test(test_bounds_themselves_are_taken),
        cmocka_unit_test(test_memory_must_be_as_large_as_told_and_may_begin_anywhere),
        cmocka_unit_test(test_nothing_allocates_after_open),
        cmocka_unit_test(test_a_tap_is_one_allocation),
        cmocka_unit_test(test_identity_and_version_have_defaults_and_may_be_empty),
        cmocka_unit_test(test_queue_bounds_a_ring_in_messages_exactly),
        cmocka_unit_test(test_max_message_bounds_a_frame_exactly),
    };

    return RUN_TESTS(tests, NULL, NULL);
}
