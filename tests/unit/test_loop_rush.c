/* What a loop costs that is busy: how often poll is given something to look at, how much is packed
 * together, and how a producer in the loop's own thread makes the service look. The clock is the
 * test's. */
#define DNSTAP_IMPLEMENTATION
#include "dnstap.h"
#include "wake_support.h"

enum { MANY = 3 * DNSTAP__TURNS };

static uint64_t now_ms;
static size_t sent; /* bytes */
static int pipe_ends[2];
static int timer_ms;     /* what the hook was told last */
static unsigned timed;   /* how often */
static bool broken_pipe; /* the transport fails */
static unsigned received;

static uint64_t clock_now(void *user)
{
    (void)user;
    return now_ms;
}

static long take_bytes(void *self, const void *data, size_t size, short *wants)
{
    (void)self, (void)data, (void)wants;
    sent += size;
    return (long)size;
}

static long hear(void *self, void *data, size_t size, short *wants)
{
    (void)self, (void)data, (void)size;
    received++;
    *wants = DNSTAP_POLLIN;
    return broken_pipe ? DNSTAP_END : DNSTAP_AGAIN;
}

static int have_descriptor(void *self) { return self ? -1 : pipe_ends[0]; }

static void take_timeout(void *user, int ms)
{
    (void)user;
    timer_ms = ms;
    timed++;
}

static void ignore_watch(void *user, int fd, short events) { (void)user, (void)fd, (void)events; }

static dnstap_tap *open_tap(bool hooks)
{
    dnstap_transport transport;
    dnstap_options options;
    dnstap_error error;
    dnstap_tap *tap;

    wake_options(&options, take_bytes, have_descriptor);
    transport = *options.transport;
    transport.recv = hear;
    options.transport = &transport;
    options.monotonic_ms = clock_now;
    options.timer = hooks ? take_timeout : NULL;
    options.watch = hooks ? ignore_watch : NULL;
    now_ms = 1000;
    sent = timed = received = 0;
    broken_pipe = false;
    assert_int_equal(pipe(pipe_ends), 0);
    tap = dnstap_open(&options, &error);
    if (!tap) fail_msg("%s", error.text);
    return tap;
}

static void close_tap(dnstap_tap *tap)
{
    dnstap_close(tap, 100);
    close(pipe_ends[0]);
    close(pipe_ends[1]);
}

static void log_one(dnstap_tap *tap)
{
    dnstap_message m;

    dnstap_message_start(&m, DNSTAP_MSG_CLIENT_QUERY);
    assert_int_equal(dnstap_log(tap, &m), 1);
}

static void *log_in_thread(void *tap)
{
    log_one((dnstap_tap *)tap);
    return NULL;
}

static void log_from_another_thread(dnstap_tap *tap)
{
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, log_in_thread, tap), 0);
    pthread_join(thread, NULL);
}

/* One turn of a loop that polls; returns how many descriptors poll was given. */
static int turn(dnstap_tap *tap, int *timeout)
{
    struct pollfd fds[DNSTAP_POLLFDS];
    int n = dnstap_pollfds(tap, fds, DNSTAP_POLLFDS, timeout);

    assert_true(poll(fds, (nfds_t)n, 0) >= 0);
    assert_int_equal(dnstap_service_fds(tap, fds, n), DNSTAP_OK);
    return n;
}

/* Until it sleeps for long; a message then starts a nap. */
static void settle(dnstap_tap *tap)
{
    int timeout = 0, i;

    for (i = 0; i < 10 && (timeout >= 0 && timeout < 1000); i++) {
        turn(tap, &timeout);
        now_ms += 200;
    }
    assert_true(i < 10);
    log_one(tap);
    turn(tap, &timeout);
    assert_int_equal(tap->rest, DNSTAP__NAP);
}

/* Turns within a millisecond that all log; how many of them poll was given nothing. */
static unsigned rush(dnstap_tap *tap, unsigned turns)
{
    unsigned i, spared = 0;
    int timeout, n;

    for (i = 0; i < turns; i++) {
        log_one(tap);
        n = turn(tap, &timeout);
        if (!n) assert_int_equal(timeout, 0);
        spared += n == 0;
    }
    return spared;
}

static void test_busy_loop_polls_for_its_own_and_looks_every_millisecond(void **state)
{
    dnstap_tap *tap = open_tap(false);
    int timeout;

    (void)state;
    settle(tap);
    assert_in_range(rush(tap, 20), 10, 19);
    now_ms++; /* seen by the turn that ends now, after which all is looked at */
    log_one(tap);
    turn(tap, &timeout);
    log_one(tap);
    assert_int_equal(turn(tap, &timeout), 2);
    assert_in_range(timeout, 1, 100);
    close_tap(tap);
}

static void test_loop_that_logs_nothing_in_a_turn_may_sleep(void **state)
{
    dnstap_tap *tap = open_tap(false);
    int timeout;

    (void)state;
    settle(tap);
    rush(tap, 20);
    assert_int_equal(turn(tap, &timeout), 2);
    assert_in_range(timeout, 1, 100);
    close_tap(tap);
}

static void test_clock_that_stands_still_does_not_keep_a_busy_loop_from_looking(void **state)
{
    dnstap_tap *tap = open_tap(false);
    unsigned spared;

    (void)state;
    settle(tap);
    spared = rush(tap, MANY);
    assert_in_range(spared, MANY / 2, MANY - 2 * DNSTAP__RUSH);
    close_tap(tap);
}

static void test_busy_loop_sends_at_the_mark_and_at_the_end_of_the_flush_time(void **state)
{
    dnstap_tap *tap = open_tap(false);
    size_t before, logged;
    int timeout;

    (void)state;
    settle(tap);
    before = sent;
    logged = tap->rings[0].bytes;
    while (sent == before) rush(tap, 1);
    assert_in_range(tap->rings[0].bytes - logged, DNSTAP__MARK, DNSTAP__MARK + 1000);
    rush(tap, 20);
    before = sent;
    now_ms += 100;
    turn(tap, &timeout);
    assert_true(sent > before);
    close_tap(tap);
}

/* Logs so many bytes a millisecond for some time; how many bytes the last pack had. */
static size_t stream(dnstap_tap *tap, size_t bytes_per_ms, unsigned ms)
{
    uint64_t end = now_ms + ms;
    size_t begin = tap->rings[0].bytes, before, pack = 0;

    while (now_ms < end) {
        before = sent;
        rush(tap, 1);
        if (sent != before) pack = sent - before;
        if (tap->rings[0].bytes - begin < bytes_per_ms) continue;
        begin += bytes_per_ms;
        now_ms++;
    }
    return pack;
}

static void test_stream_that_is_not_dense_is_packed_further(void **state)
{
    dnstap_tap *tap = open_tap(false);

    (void)state;
    settle(tap);
    assert_in_range(stream(tap, 10000, 90), DNSTAP__MARK_MAX, DNSTAP__MARK_MAX + 20000);
    assert_in_range(stream(tap, 70000, 90), DNSTAP__MARK_MAX, DNSTAP__MARK_MAX + 20000);
    close_tap(tap);
}

static void test_dense_stream_leaves_every_32_KiB(void **state)
{
    dnstap_tap *tap = open_tap(false);

    (void)state;
    settle(tap);
    assert_in_range(stream(tap, 120000, 2), DNSTAP__MARK, DNSTAP__MARK + 1000);
    assert_in_range(stream(tap, 120000, 50), DNSTAP__MARK, DNSTAP__MARK + 1000);
    close_tap(tap);
}

static void test_stream_after_a_pause_leaves_every_32_KiB_at_first(void **state)
{
    dnstap_tap *tap = open_tap(false);
    int timeout, i;

    (void)state;
    settle(tap);
    stream(tap, 10000, 90);
    for (i = 0; i < 5; i++, now_ms += 200) turn(tap, &timeout);
    log_one(tap);
    turn(tap, &timeout);
    assert_in_range(stream(tap, 40000, 4), DNSTAP__MARK, DNSTAP__MARK + 20000);
    close_tap(tap);
}

static void test_sink_that_vanishes_under_a_busy_loop_is_noticed_in_the_next_millisecond(
    void **state)
{
    dnstap_tap *tap = open_tap(false);

    (void)state;
    settle(tap);
    rush(tap, 20);
    broken_pipe = true;
    assert_int_equal(write(pipe_ends[1], "x", 1), 1);
    rush(tap, 20);
    assert_int_equal(tap->links[0].state, DNSTAP_STARTED);
    now_ms++;
    rush(tap, 2);
    assert_int_not_equal(tap->links[0].state, DNSTAP_STARTED);
    close_tap(tap);
}

static void test_turn_in_which_nothing_is_due_does_not_look_at_the_transport(void **state)
{
    dnstap_tap *tap = open_tap(false);
    int timeout, i;

    (void)state;
    settle(tap);
    received = 0;
    for (i = 0; i < 50; i++, now_ms++) turn(tap, &timeout);
    assert_int_equal(received, 0);
    assert_int_equal(write(pipe_ends[1], "x", 1), 1);
    turn(tap, &timeout);
    assert_int_equal(received, 1);
    close_tap(tap);
}

/* Until the last thing it was told is to come back late. */
static void settle_hooks(dnstap_tap *tap)
{
    int i;

    for (i = 0; i < 10 && (timer_ms < 1000 || !timed); i++, now_ms += 200) dnstap_service(tap);
    assert_in_range(timer_ms, 1000, 100000);
    timed = 0;
}

static void test_producer_in_the_loops_thread_sets_the_timer_instead_of_a_call(void **state)
{
    dnstap_tap *tap = open_tap(true);
    size_t before, calls;

    (void)state;
    settle_hooks(tap);
    calls = tap->calls;
    log_one(tap);
    assert_int_equal(timed, 1);
    assert_int_equal(timer_ms, 0);
    log_one(tap);
    assert_int_equal(timed, 1); /* once is enough */
    before = sent;
    dnstap_service(tap);
    assert_true(sent > before);
    assert_in_range(timer_ms, 1, 100);
    timed = 0;
    while (!timed) log_one(tap);
    assert_in_range(tap->rings[0].bytes - tap->rings[0].seen_bytes, DNSTAP__MARK,
                    DNSTAP__MARK + 1000);
    assert_int_equal(timer_ms, 0);
    assert_int_equal(tap->calls, calls);
    close_tap(tap);
}

static void test_service_that_was_called_for_the_rings_does_not_look_at_the_transport(void **state)
{
    dnstap_tap *tap = open_tap(true);

    (void)state;
    settle_hooks(tap);
    dnstap_service(tap); /* looks, as the time has come */
    log_one(tap);
    received = 0;
    dnstap_service(tap);
    assert_int_equal(received, 0);
    dnstap_service(tap); /* nothing is due: so it was for a descriptor */
    assert_int_equal(received, 1);
    close_tap(tap);
}

static void test_other_threads_use_the_descriptor_and_never_the_timer(void **state)
{
    dnstap_tap *tap = open_tap(true);

    (void)state;
    settle_hooks(tap);
    log_from_another_thread(tap);
    assert_int_equal(timed, 0);
    assert_int_equal(tap->calls, 1);
    close_tap(tap);
}

static void *service_in_thread(void *tap)
{
    dnstap_service((dnstap_tap *)tap);
    return NULL;
}

static void test_timer_is_no_threads_any_more_when_a_second_one_services(void **state)
{
    dnstap_tap *tap = open_tap(true);
    pthread_t thread;

    (void)state;
    settle_hooks(tap);
    assert_int_equal(pthread_create(&thread, NULL, service_in_thread, tap), 0);
    pthread_join(thread, NULL);
    dnstap_service(tap);
    timed = 0;
    settle_hooks(tap);
    log_one(tap);
    assert_int_equal(timed, 0);
    assert_int_equal(tap->calls, 1);
    close_tap(tap);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_busy_loop_polls_for_its_own_and_looks_every_millisecond),
        cmocka_unit_test(test_loop_that_logs_nothing_in_a_turn_may_sleep),
        cmocka_unit_test(test_clock_that_stands_still_does_not_keep_a_busy_loop_from_looking),
        cmocka_unit_test(test_busy_loop_sends_at_the_mark_and_at_the_end_of_the_flush_time),
        cmocka_unit_test(test_stream_that_is_not_dense_is_packed_further),
        cmocka_unit_test(test_dense_stream_leaves_every_32_KiB),
        cmocka_unit_test(test_stream_after_a_pause_leaves_every_32_KiB_at_first),
        cmocka_unit_test(
            test_sink_that_vanishes_under_a_busy_loop_is_noticed_in_the_next_millisecond),
        cmocka_unit_test(test_turn_in_which_nothing_is_due_does_not_look_at_the_transport),
        cmocka_unit_test(test_producer_in_the_loops_thread_sets_the_timer_instead_of_a_call),
        cmocka_unit_test(test_service_that_was_called_for_the_rings_does_not_look_at_the_transport),
        cmocka_unit_test(test_other_threads_use_the_descriptor_and_never_the_timer),
        cmocka_unit_test(test_timer_is_no_threads_any_more_when_a_second_one_services),
    };

    return RUN_TESTS(tests, NULL, NULL);
}
