/* A tap at the edges of its machine: sizes beyond memory, counters that wrap, clocks that jump or
 * stand still, real-time and cancelled threads. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <sys/wait.h>
#include "tap_fake.h"

enum { DAY_MS = 86400000 };

/* -- memory, and no tap at all -- */

static void open_refuses(const dnstap_options *o, const char *text)
{
    static uint8_t memory[4096];
    dnstap_error error;

    assert_int_equal(dnstap_memory_size(o), 0);
    assert_null(dnstap_open(o, &error));
    assert_int_equal(error.code, DNSTAP_NO_MEMORY);
    assert_non_null(strstr(error.text, text));
    assert_null(dnstap_open_in(memory, sizeof memory, o, &error));
    assert_int_equal(error.code, DNSTAP_NO_MEMORY);
    assert_non_null(strstr(error.text, text));
    assert_null(dnstap_open_in(memory, SIZE_MAX, o, NULL));
}

static void test_sizes_that_overflow_are_refused_with_the_way_out(void **state)
{
    dnstap_options o;

    (void)state;
    fake_options(&o);
    o.producers = 8;
    o.ring_size = SIZE_MAX / 8 + 1;
    open_refuses(&o, "more memory than this machine can address; lower ring_size");
    fake_options(&o);
    o.endpoint = "tls://collector:6000";
    o.ca_memory = SIZE_MAX;
    open_refuses(&o, "ca_memory");
    o.ca_memory = 0;
    o.tls_input = SIZE_MAX - 1;
    open_refuses(&o, "record buffers");
}

static void test_no_tap_wants_nothing_and_logs_nothing(void **state)
{
    dnstap_message m;

    (void)state;
    dnstap_message_start(&m, DNSTAP_MSG_CLIENT_QUERY);
    assert_false(dnstap_wants(NULL, DNSTAP_MSG_CLIENT_QUERY));
    assert_int_equal(dnstap_log(NULL, &m), 0);
    assert_int_equal(dnstap_log_as(NULL, 0, &m), 0);
    assert_int_equal(dnstap_close(NULL, 0), DNSTAP_OK);
}

/* -- times and counters -- */

static void test_time_before_1970_is_absent(void **state)
{
    struct timespec t = {0, 5};
    dnstap_message m;

    (void)state;
    dnstap_message_start(&m, DNSTAP_MSG_CLIENT_QUERY);
    dnstap_set_query_time(&m, &t);
    assert_int_equal(m.query_time_nsec, 5);
    assert_true(m.present & 1u << 8);
    t.tv_sec = -1;
    dnstap_set_query_time(&m, &t);
    if (sizeof t.tv_sec == 4) { /* 2106 */
        assert_int_equal(m.query_time_sec, UINT32_MAX);
        return;
    }
    assert_int_equal(m.query_time_sec, 0);
    assert_int_equal(m.query_time_nsec, 0);
    assert_false(m.present & (1u << 8 | 1u << 9));
}

static void test_message_start_clears_all_and_nothing_else(void **state)
{
    struct {
        dnstap_message m;
        uint8_t behind[64];
    } box;
    const uint8_t *p = (const uint8_t *)&box.m;
    size_t i;

    (void)state;
    memset(&box, 0xa5, sizeof box);
    dnstap_message_start(&box.m, 0);
    for (i = 0; i < sizeof box.m; i++) assert_int_equal(p[i], 0);
    for (i = 0; i < sizeof box.behind; i++) assert_int_equal(box.behind[i], 0xa5);
}

/* As if the machine had logged almost as much as its words can count. */
static void near_the_wrap(dnstap_tap *tap)
{
    size_t sums[DNSTAP__COUNTERS];
    uint32_t i;

    for (i = 0; i < tap->ring_count; i++) {
        dnstap__ring *r = &tap->rings[i];

        r->recorded = r->out = r->unwanted = r->lost_full = r->lost_large = SIZE_MAX - i * 7;
        r->lost_bad = r->lost_busy = r->lost_disconnected = SIZE_MAX - i;
    }
    dnstap__sum(tap, sums);
    memcpy(tap->books.seen, sums, sizeof sums);
}

static void test_books_balance_when_words_wrap(void **state)
{
    dnstap_options o;
    dnstap_status s;
    dnstap_tap *tap;
    unsigned i, k;

    (void)state;
    fake_options(&o);
    tap = fake_open(&o, &faultless, 1);
    near_the_wrap(tap);
    for (k = 0; k < 40; k++) {
        for (i = 0; i < 10; i++) log_next(tap, i % 3);
        check_books(tap);
        fake_turn(tap);
    }
    dnstap_get_status(tap, &s);
    assert_int_equal(s.logged, 400);
    assert_true(s.recorded > 0 && s.recorded <= 400);
    assert_true(s.sent > 0 && s.sent <= s.recorded);
    assert_int_equal(dnstap_close(tap, 1000), DNSTAP_OK);
}

/* -- clocks -- */

static void test_clock_that_goes_back_delays_no_retry(void **state)
{
    script scripts[2];
    dnstap_options o;
    dnstap_status s;
    dnstap_tap *tap;
    unsigned i;

    (void)state;
    fake_options(&o);
    now_ms = 10 * (uint64_t)DAY_MS;
    scripts[0] = scripts[1] = faultless;
    scripts[0].refused = true;
    tap = fake_open(&o, scripts, 2);
    do fake_turn(tap), dnstap_get_status(tap, &s);
    while (s.state != DNSTAP_BROKEN);
    now_ms -= DAY_MS;
    dnstap_get_status(tap, &s);
    assert_in_range(s.state_ms, 0, 1000);
    assert_in_range(s.error_ms, 0, 1000);
    for (i = 0; i < 100 && s.state != DNSTAP_STARTED; i++) {
        fake_turn(tap);
        dnstap_get_status(tap, &s);
        assert_in_range(s.state_ms, 0, 5000);
    }
    assert_int_equal(s.state, DNSTAP_STARTED);
    now_ms -= DAY_MS;
    assert_int_equal(log_next(tap, 0), 1);
    assert_int_equal(dnstap_flush(tap, 1000), DNSTAP_OK);
    now_ms -= DAY_MS;
    assert_int_equal(dnstap_close(tap, 1000), DNSTAP_OK);
    now_ms = 1000;
}

static uint64_t stopped_clock(void *user) { return user ? 1 : 77; }

/* The transport answers to nothing; poll moves a clock that nobody asks. */
static void test_clock_that_stands_still_ends_flush_and_close(void **state)
{
    script mute = faultless;
    dnstap_options o;
    dnstap_tap *tap;
    uint64_t before;

    (void)state;
    fake_options(&o);
    o.monotonic_ms = stopped_clock;
    mute.mute = true;
    tap = fake_open(&o, &mute, 1);
    assert_int_equal(log_next(tap, 0), 1);
    before = now_ms;
    assert_int_equal(dnstap_flush(tap, 300), DNSTAP_TIMEOUT);
    assert_in_range(now_ms - before, 300, 400);
    assert_int_equal(dnstap_close(tap, 300), DNSTAP_TIMEOUT);
    assert_in_range(now_ms - before, 600, 800);
}

/* -- threads -- */

/* Logs through the shared ring while a cancellation is pending: the wake-up ends the thread. */
static void *log_cancelled(void *tap)
{
    dnstap_message m;

    make_message(&m, 0, 0);
    pthread_cancel(pthread_self());
    dnstap_log((dnstap_tap *)tap, &m);
    pthread_testcancel();
    return NULL;
}

static void *log_shared(void *tap)
{
    dnstap_message m;

    make_message(&m, 0, 1);
    return (void *)(intptr_t)dnstap_log((dnstap_tap *)tap, &m);
}

static void test_cancelled_thread_leaves_the_shared_ring_unlocked(void **state)
{
    pthread_t thread;
    dnstap_options o;
    dnstap_status s;
    dnstap_tap *tap;
    void *result;

    (void)state;
    fake_options(&o);
    o.producers = 1;
    tap = fake_open(&o, &faultless, 1);
    assert_int_equal(log_own(tap), 1); /* this thread has the only ring */
    do fake_turn(tap), dnstap_get_status(tap, &s);
    while (tap->rest != DNSTAP__LONG);
    assert_int_equal(pthread_create(&thread, NULL, log_cancelled, tap), 0);
    assert_int_equal(pthread_join(thread, &result), 0);
    assert_ptr_equal(result, PTHREAD_CANCELED);
    assert_int_equal(tap->calls, 1); /* it was the wake-up that ended it, or came before that */
    assert_int_equal(pthread_create(&thread, NULL, log_shared, tap), 0);
    assert_int_equal(pthread_join(thread, &result), 0);
    assert_int_equal((intptr_t)result, 1);
    dnstap_close(tap, 0);
}

static void stay_on_one_processor(void)
{
    cpu_set_t one;

    CPU_ZERO(&one);
    CPU_SET(0, &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
}

static volatile bool show_on;

/* What the service does while messages flow: changes what is shown. */
static void *show_always(void *argument)
{
    dnstap_tap *tap = (dnstap_tap *)argument;

    while (show_on) dnstap__count_sent(&tap->links[0], 1, 1);
    return NULL;
}

/* A real-time thread preempts the one that holds the lock, on the same processor, again and again:
 * it must wait for it, not spin in its way. */
static void ask_in_real_time(dnstap_tap *tap)
{
    struct sched_param first = {1};
    struct timespec pause = {0, 20000};
    dnstap_status s;
    pthread_t thread;
    unsigned i;

    alarm(20);
    stay_on_one_processor();
    show_on = true;
    if (pthread_create(&thread, NULL, show_always, tap)) _exit(2);
    if (pthread_setschedparam(pthread_self(), SCHED_FIFO, &first)) _exit(77);
    for (i = 0; i < 20000; i++) {
        dnstap_get_status(tap, &s);
        nanosleep(&pause, NULL);
    }
    show_on = false;
    pthread_join(thread, NULL);
    _exit(0);
}

static void test_status_is_had_by_a_real_time_thread_on_the_same_processor(void **state)
{
    dnstap_options o;
    dnstap_tap *tap;
    int status;
    pid_t child;

    (void)state;
    fake_options(&o);
    tap = fake_open(&o, &faultless, 1);
    child = fork();
    if (child == 0) ask_in_real_time(tap);
    assert_true(child > 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    dnstap_close(tap, 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
        print_message("# no real-time scheduling here\n");
        skip();
    }
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes_that_overflow_are_refused_with_the_way_out),
        cmocka_unit_test(test_no_tap_wants_nothing_and_logs_nothing),
        cmocka_unit_test(test_time_before_1970_is_absent),
        cmocka_unit_test(test_message_start_clears_all_and_nothing_else),
        cmocka_unit_test(test_books_balance_when_words_wrap),
        cmocka_unit_test(test_clock_that_goes_back_delays_no_retry),
        cmocka_unit_test(test_clock_that_stands_still_ends_flush_and_close),
        cmocka_unit_test(test_cancelled_thread_leaves_the_shared_ring_unlocked),
        cmocka_unit_test(test_status_is_had_by_a_real_time_thread_on_the_same_processor),
    };

    return RUN_TESTS(tests, NULL, NULL);
}
