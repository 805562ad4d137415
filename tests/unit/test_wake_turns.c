/* Idle to busy and back, many thousand times with the real thread: a message that finds the service
 * asleep, or on its way to sleep, must arrive at once. The transport has a descriptor that never
 * becomes ready, so that nothing but the wake-up call ends a long sleep. All turns with
 * TEST_LONG=1, else as many as go into ten seconds. */
#define DNSTAP_IMPLEMENTATION
#include "dnstap.h"
#include "wake_support.h"

enum { TURNS = 100000, SECONDS = 5, LOST_MS = 3000, AT_ONCE_US = 5000, START_SIZE = 42 };

static size_t arrived; /* bytes; the service's thread writes, the producer reads */
static int silence[2]; /* a pipe nobody writes to */

static long take_bytes(void *self, const void *data, size_t size, short *wants)
{
    (void)self, (void)data, (void)wants;
    __atomic_add_fetch(&arrived, size, __ATOMIC_RELEASE);
    return (long)size;
}

static int have_descriptor(void *self)
{
    (void)self;
    return silence[0];
}

/* How long until so many bytes are there; UINT64_MAX: they don't come. */
static uint64_t wait_for(size_t bytes)
{
    uint64_t begin = real_us(), now = begin;

    while (__atomic_load_n(&arrived, __ATOMIC_ACQUIRE) < bytes) {
        sched_yield();
        now = real_us();
        if (now - begin > LOST_MS * 1000u) return UINT64_MAX;
    }
    return now - begin;
}

/* The beginning by dnstap_pollfds and dnstap_service, in this thread. */
static void begin_by_hand(dnstap_tap *tap)
{
    struct pollfd fds[DNSTAP_POLLFDS];
    int timeout;

    while (arrived < START_SIZE || timeout == 0) {
        dnstap_service(tap);
        dnstap_pollfds(tap, fds, DNSTAP_POLLFDS, &timeout);
    }
}

static dnstap_tap *open_tap(int flush_ms, bool by_hand)
{
    dnstap_options options;
    dnstap_error error;
    dnstap_tap *tap;

    wake_options(&options, take_bytes, have_descriptor);
    arrived = 0;
    assert_int_equal(pipe(silence), 0);
    options.flush_ms = flush_ms;
    tap = dnstap_open(&options, &error);
    if (!tap) fail_msg("%s", error.text);
    if (by_hand) begin_by_hand(tap);
    assert_int_equal(dnstap_start(tap), DNSTAP_OK);
    assert_true(wait_for(START_SIZE) != UINT64_MAX);
    return tap;
}

static void close_tap(dnstap_tap *tap)
{
    assert_int_equal(dnstap_close(tap, 1000), DNSTAP_OK);
    close(silence[0]);
    close(silence[1]);
}

static void idle_us(uint64_t us)
{
    uint64_t end = real_us() + us;

    while (real_us() < end) {
    }
}

/* One message in each turn, after a pause of 0 … pause_us. */
static void take_turns(int flush_ms, unsigned pause_us, size_t turns)
{
    dnstap_tap *tap = open_tap(flush_ms, false);
    uint64_t end = real_us() + SECONDS * 1000000u, took, longest = 0;
    size_t turn, each = 0, expected = START_SIZE, late = 0;
    dnstap_message m;

    for (turn = 0; turn < turns && (real_us() < end || test_long()); turn++) {
        idle_us(rnd(pause_us + 1));
        dnstap_message_start(&m, DNSTAP_MSG_CLIENT_QUERY);
        assert_int_equal(dnstap_log(tap, &m), 1);
        took = wait_for(expected + (each ? each : 1));
        if (took == UINT64_MAX) fail_msg("turn %zu: no wake-up in %d ms", turn, LOST_MS);
        if (!each) each = __atomic_load_n(&arrived, __ATOMIC_ACQUIRE) - expected;
        expected += each;
        late += took > AT_ONCE_US;
        if (took > longest) longest = took;
    }
    print_message("# flush_ms %d: %zu turns, %zu over %d us, the longest %lu us\n", flush_ms, turn,
                  late, AT_ONCE_US, (unsigned long)longest);
    assert_true(turn > 100 && late < turn / 2);
    close_tap(tap);
}

/* A thread that polls needs no call; one that polled once does. */
static void test_thread_that_polled_before_the_start_still_calls_the_service(void **state)
{
    dnstap_tap *tap = open_tap(DNSTAP_FLUSH_NOW, true);
    dnstap_message m;

    (void)state;
    dnstap_message_start(&m, DNSTAP_MSG_CLIENT_QUERY);
    idle_us(50000);
    assert_int_equal(dnstap_log(tap, &m), 1);
    assert_true(wait_for(START_SIZE + 1) != UINT64_MAX);
    close_tap(tap);
}

static void test_no_wake_up_is_lost_when_each_message_is_sent_at_once(void **state)
{
    (void)state;
    take_turns(DNSTAP_FLUSH_NOW, 40, TURNS);
}

/* Naps of a millisecond: messages come before, at and after their end. */
static void test_no_wake_up_is_lost_at_the_end_of_naps(void **state)
{
    (void)state;
    take_turns(1, 2500, TURNS / 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_wake_up_is_lost_when_each_message_is_sent_at_once),
        cmocka_unit_test(test_no_wake_up_is_lost_at_the_end_of_naps),
        cmocka_unit_test(test_thread_that_polled_before_the_start_still_calls_the_service),
    };

    return RUN_TESTS(tests, NULL, NULL);
}
