/* The sleep protocol in the real code: its loads and stores are recorded and compared with the
 * steps of test_wake_model.c and test_weak_model.c, which show that in this order, and with these
 * memory orders, no message is left behind; and messages are logged between any two steps of the
 * service. */
#ifndef _DEFAULT_SOURCE
#define _DEFAULT_SOURCE 1
#endif
#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200809L
#endif
#include <unistd.h>
#include <sys/syscall.h>
#undef SYS_accept4 /* syscall is the barrier only */

static void trace(char operation, const volatile void *word);
static long traced_syscall(long number, ...);

/* clang-format off */
#define DNSTAP_LOAD(p) (trace('l', p), __atomic_load_n(p, __ATOMIC_RELAXED))
#define DNSTAP_STORE(p, v) (trace('s', p), __atomic_store_n(p, v, __ATOMIC_RELAXED))
#define DNSTAP_LOAD_ACQUIRE(p) (trace('a', p), __atomic_load_n(p, __ATOMIC_ACQUIRE))
#define DNSTAP_STORE_RELEASE(p, v) (trace('r', p), __atomic_store_n(p, v, __ATOMIC_RELEASE))
#define DNSTAP_EXCHANGE(p, v) (trace('x', p), __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST))
#define DNSTAP_COMPARE_EXCHANGE(p, e, v) \
    (trace('x', p), __atomic_compare_exchange_n(p, e, v, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
#define DNSTAP_COMPILER_FENCE() trace('|', NULL)
#define syscall traced_syscall
/* clang-format on */

#define DNSTAP_IMPLEMENTATION
#include "dnstap.h"
#include <linux/membarrier.h>
#include "wake_support.h"

/* What the code did with the words of the protocol, as text: see wake_support.h. */
static struct {
    dnstap_tap *tap; /* NULL: not recorded */
    char text[400];
    size_t size;
    bool barrier_fails;
    int log_at; /* a message is logged right before so many more steps; negative: none */
    uint64_t now;
    int timeout;
} seen;

static void log_one(dnstap_tap *tap)
{
    dnstap_message m;

    dnstap_message_start(&m, DNSTAP_MSG_CLIENT_QUERY);
    assert_int_equal(dnstap_log_as(tap, 0, &m), 1);
}

/* A load that is only repeated is left out. */
static void note(char operation, char what)
{
    dnstap_tap *tap = seen.tap;
    char step[4] = {operation, ' ', '\0', '\0'};

    if (what) step[2] = ' ';
    if (seen.log_at >= 0 && seen.log_at-- == 0) {
        seen.tap = NULL; /* as another thread, unrecorded but for its call */
        log_one(tap);
        seen.tap = tap;
    }
    if (what) step[1] = what;
    assert_true(seen.size + 4 < sizeof seen.text);
    if (strchr("la", operation) && seen.size >= 3 && !strcmp(seen.text + seen.size - 3, step))
        return;
    strcpy(seen.text + seen.size, step);
    seen.size += strlen(step);
}

static void trace(char operation, const volatile void *word_at)
{
    const dnstap__ring *r;

    if (!seen.tap) return;
    r = seen.tap->rings;
    if (word_at == &seen.tap->sleep)
        note(operation, 'S');
    else if (word_at == &r->published)
        note(operation, 'P');
    else if (word_at == &r->bytes)
        note(operation, 'B');
    else if (word_at == &r->wake_at)
        note(operation, 'W');
}

static long traced_syscall(long number, ...)
{
    va_list arguments;
    int command;

    va_start(arguments, number);
    command = va_arg(arguments, int);
    va_end(arguments);
    if (number != SYS_membarrier || command != DNSTAP__MEMBARRIER) return 0;
    if (seen.tap) note('b', '\0');
    return seen.barrier_fails ? -1 : 0;
}

static void hear_call(void *user)
{
    (void)user;
    note('c', '\0');
}

static uint64_t tell_time(void *user)
{
    (void)user;
    return seen.now;
}

static void take_timeout(void *user, int ms)
{
    (void)user;
    seen.timeout = ms;
}

static long take_bytes(void *self, const void *data, size_t size, short *wants)
{
    (void)self, (void)data, (void)wants;
    return (long)size;
}

static int have_descriptor(void *self) { return self ? 1 : 0; }

/* A tap that is connected, has sent nothing yet, and sleeps. */
static dnstap_tap *open_tap(bool barrier_fails)
{
    dnstap_options options;
    dnstap_error error;
    dnstap_tap *tap;

    wake_options(&options, take_bytes, have_descriptor);
    memset(&seen, 0, sizeof seen);
    seen.now = 1000;
    seen.log_at = -1;
    seen.barrier_fails = barrier_fails;
    options.producers = 1;
    options.identity = options.version = "";
    options.monotonic_ms = tell_time;
    options.wake = hear_call;
    options.timer = take_timeout;
    tap = dnstap_open(&options, &error);
    assert_non_null(tap);
    dnstap_service(tap);
    assert_int_equal(tap->links[0].state, DNSTAP_STARTED);
    return tap;
}

static void record_from_here(dnstap_tap *tap)
{
    seen.size = 0;
    seen.text[0] = '\0';
    seen.tap = tap;
}

static const char *steps_of_log(dnstap_tap *tap)
{
    record_from_here(tap);
    log_one(tap);
    seen.tap = NULL;
    return seen.text;
}

static const char *steps_of_service(dnstap_tap *tap, uint64_t later_ms)
{
    seen.now += later_ms;
    record_from_here(tap);
    dnstap_service(tap);
    seen.tap = NULL;
    return seen.text;
}

static void test_producer_publishes_then_looks_at_the_mark_then_at_the_state(void **state)
{
    dnstap_tap *tap = open_tap(false);

    (void)state;
    assert_int_equal(tap->rest, DNSTAP__LONG);
    assert_string_equal(steps_of_log(tap), WAKE_PRODUCER_STEPS);
    /* awake: no exchange, no call */
    assert_string_equal(steps_of_log(tap), "rP rB lW lS ");
    steps_of_service(tap, 0);
    /* a nap, and before its mark: not even a look at the state */
    assert_int_equal(tap->rest, DNSTAP__NAP);
    assert_string_equal(steps_of_log(tap), "rP rB lW ");
    dnstap_close(tap, 0);
}

static void test_service_marks_then_says_so_then_orders_then_looks_again(void **state)
{
    dnstap_tap *tap = open_tap(false);

    (void)state;
    log_one(tap);
    /* due, disarm, look until empty, arm for a nap; then the loop's timeout looks, too */
    assert_string_equal(steps_of_service(tap, 0), "lS sS aB aP sW xS aB ");
    assert_int_equal(seen.timeout, 100);
    assert_non_null(strstr(steps_of_service(tap, 100), WAKE_SERVICE_STEPS));
    assert_int_equal(tap->rest, DNSTAP__LONG);
    assert_int_equal(seen.timeout, DNSTAP__REPORT_MS);
    dnstap_close(tap, 0);
}

static void test_service_without_barrier_looks_again_after_a_round_and_stays_armed(void **state)
{
    dnstap_tap *tap = open_tap(true);
    const char *steps;
    int i;

    (void)state;
    log_one(tap);
    steps_of_service(tap, 0);
    assert_non_null(strstr(steps_of_service(tap, 100), WAKE_SERVICE_STEPS));
    assert_in_range(seen.timeout, 1, 100);
    for (i = 0; i < 5; i++) {
        steps = steps_of_service(tap, (uint64_t)seen.timeout);
        assert_string_equal(steps, "lS aB ");
        assert_in_range(seen.timeout, 100, 1000);
    }
    assert_string_equal(steps_of_log(tap), WAKE_PRODUCER_STEPS);
    dnstap_close(tap, 0);
}

/* One message between any two steps of the service; then it is sent, or called for, or waits for a
 * time that is set. */
static bool interrupt_service(bool barrier_fails, int at, uint64_t later_ms)
{
    dnstap_tap *tap = open_tap(barrier_fails);
    dnstap__ring *r;
    bool interrupted;

    log_one(tap);
    dnstap_service(tap);
    seen.log_at = at;
    steps_of_service(tap, later_ms);
    interrupted = seen.log_at < 0;
    r = tap->rings;
    if (interrupted && r->tail != r->published && !strchr(seen.text, 'c'))
        assert_in_range(seen.timeout, 0, 100);
    dnstap_close(tap, 0);
    return interrupted;
}

static void test_message_between_any_two_steps_of_the_service_is_not_left_behind(void **state)
{
    int at;

    (void)state;
    for (at = 0; interrupt_service(false, at, 100); at++) {
    }
    assert_in_range(at, 6, 40);
    for (at = 0; interrupt_service(true, at, 100); at++) {
    }
    for (at = 0; interrupt_service(false, at, 50); at++) {
    }
}

/* ---- two sinks at a tap that listens ---- */

static int join(dnstap_tap *tap)
{
    static const char accept_frame[] = "\0\0\0\0\0\0\0\4\0\0\0\1";
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    uint32_t before = tap->shown.sinks;
    dnstap__address at;

    assert_int_equal(dnstap__unix_address(&at, "", tap->target.path, NULL), DNSTAP_OK);
    assert_int_equal(connect(fd, &at.any, dnstap__address_size(&at)), 0);
    assert_int_equal(send(fd, accept_frame, 12, 0), 12);
    while (tap->shown.sinks == before) dnstap_service(tap);
    return fd;
}

/* Fills the last sink's socket, while the others read. */
static void fill(dnstap_tap *tap, int reader)
{
    char block[4096];
    int small = 1;
    dnstap__link *l = tap->links;

    while (l->state != DNSTAP_STARTED) l++;
    assert_int_equal(setsockopt(dnstap__link_fd(l), SOL_SOCKET, SO_SNDBUF, &small, sizeof small),
                     0);
    while (!l->stuck) {
        log_one(tap);
        dnstap_service(tap);
        while (recv(reader, block, sizeof block, MSG_DONTWAIT) > 0) continue;
    }
}

/* One message between any two steps of a service that looks for both sinks in turn, of which one is
 * stuck. */
static bool interrupt_listener(int at, uint64_t later_ms)
{
    char endpoint[64];
    dnstap_options options;
    const dnstap__link *l;
    dnstap_tap *tap;
    int sinks[2];
    bool interrupted;

    snprintf(endpoint, sizeof endpoint, "unix://@dnstap-wake-order-%d", (int)getpid());
    memset(&options, 0, sizeof options);
    memset(&seen, 0, sizeof seen);
    seen.now = 1000;
    seen.log_at = -1;
    options.endpoint = endpoint;
    options.listen = true;
    options.producers = 1;
    options.monotonic_ms = tell_time;
    options.wake = hear_call;
    options.timer = take_timeout;
    tap = dnstap_open(&options, NULL);
    assert_non_null(tap);
    sinks[0] = join(tap);
    sinks[1] = join(tap);
    fill(tap, sinks[0]);
    dnstap_service(tap);
    l = tap->links;
    while (l->state != DNSTAP_STARTED || l->stuck) l++;
    tap->desk.turn = (uint32_t)(l - tap->links); /* the stuck one is looked at last */
    seen.log_at = at;
    steps_of_service(tap, later_ms);
    interrupted = seen.log_at < 0;
    if (interrupted && l->cursors[0].at != tap->rings[0].published && !strchr(seen.text, 'c'))
        assert_in_range(seen.timeout, 0, 100);
    close(sinks[0]);
    close(sinks[1]);
    dnstap_close(tap, 0);
    return interrupted;
}

static void test_message_between_the_looks_for_two_sinks_is_not_left_behind(void **state)
{
    int at;

    (void)state;
    for (at = 0; interrupt_listener(at, 100); at++) {
    }
    assert_in_range(at, 8, 60);
    for (at = 0; interrupt_listener(at, 50); at++) {
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_producer_publishes_then_looks_at_the_mark_then_at_the_state),
        cmocka_unit_test(test_service_marks_then_says_so_then_orders_then_looks_again),
        cmocka_unit_test(test_service_without_barrier_looks_again_after_a_round_and_stays_armed),
        cmocka_unit_test(test_message_between_any_two_steps_of_the_service_is_not_left_behind),
        cmocka_unit_test(test_message_between_the_looks_for_two_sinks_is_not_left_behind),
    };

    return RUN_TESTS(tests, NULL, NULL);
}
