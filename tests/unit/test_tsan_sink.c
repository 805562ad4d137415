/* A sink's own thread, for ThreadSanitizer: producers in threads of their own while others look at
 * its status, resume what its receive puts off, and close it at any moment. */
#define _GNU_SOURCE
#define DNSTAP_IMPLEMENTATION
#include "dnstap.h"
#include "sink_support.h"
#include <pthread.h>

enum { TAPS = 8, EACH = 3000 };

/* What the callback, in the sink's thread, shares with the test's. */
static struct {
    pthread_mutex_t lock;
    uint32_t next[TAPS];
    uint64_t messages, later, wrong, opened, closed;
    uint64_t most_put_off;
    unsigned room; /* messages that may still be taken; UINT_MAX: any number */
    dnstap_sink_end end;
    pthread_t thread;
} shop;

static bool take_message(const dnstap_received *r)
{
    uint32_t at[2];

    if (shop.room == 0) return shop.later++, false;
    if (shop.room != UINT_MAX) shop.room--;
    shop.messages++;
    if (!r->message || r->message->query_message.size != sizeof at) return shop.wrong++, true;
    memcpy(at, r->message->query_message.data, sizeof at);
    if (at[0] >= TAPS || at[1] != shop.next[at[0]]++) shop.wrong++;
    return true;
}

static int serve(void *user, const dnstap_received *r)
{
    dnstap_sink_status s;
    bool taken = true;

    (void)user;
    dnstap_sink_get_status(w.sink, &s); /* which it may ask for */
    pthread_mutex_lock(&shop.lock);
    shop.thread = pthread_self();
    if (s.put_off > shop.most_put_off) shop.most_put_off = s.put_off;
    if (r->kind == DNSTAP_SINK_MESSAGE) taken = take_message(r);
    if (r->kind == DNSTAP_SINK_OPENED && s.connections != shop.opened + 1) shop.wrong++;
    shop.opened += r->kind == DNSTAP_SINK_OPENED;
    shop.closed += r->kind == DNSTAP_SINK_CLOSED;
    if (r->kind == DNSTAP_SINK_CLOSED) shop.end = r->end;
    pthread_mutex_unlock(&shop.lock);
    return taken ? DNSTAP_OK : DNSTAP_AGAIN;
}

#define LOCKED(statement)                 \
    do {                                  \
        pthread_mutex_lock(&shop.lock);   \
        statement;                        \
        pthread_mutex_unlock(&shop.lock); \
    } while (0)

static uint64_t locked(const uint64_t *number)
{
    uint64_t n;

    LOCKED(n = *number);
    return n;
}

#define WAIT_FOR(condition)                                                       \
    for (uint64_t until_ = real_ms() + PATIENCE; !(condition); dnstap__pause()) { \
        if (real_ms() > until_) fail_msg("never came: %s", #condition);           \
    }

/* ---- taps, each in its thread ---- */

static void *produce(void *argument)
{
    static const dnstap_options zero;
    dnstap_options o = zero;
    uint32_t at[2], thread = *(uint32_t *)argument;
    dnstap_error error;
    dnstap_message m;
    dnstap_tap *tap;

    o.endpoint = w.endpoint;
    o.full = true;
    tap = dnstap_open(&o, &error);
    if (!tap || dnstap_start(tap) < 0) return NULL;
    at[0] = thread;
    for (at[1] = 0; at[1] < EACH;) {
        dnstap_message_start(&m, DNSTAP_MSG_CLIENT_QUERY);
        m.query_message = dnstap_bytes_of(at, sizeof at);
        if (dnstap_log(tap, &m) == 1)
            at[1]++;
        else
            dnstap__pause();
    }
    return dnstap_close(tap, PATIENCE) == DNSTAP_OK ? argument : NULL;
}

static pthread_t threads[TAPS];
static uint32_t numbers[TAPS];

static void start_taps(void)
{
    uint32_t i;

    for (i = 0; i < TAPS; i++) {
        numbers[i] = i;
        assert_int_equal(pthread_create(&threads[i], NULL, produce, &numbers[i]), 0);
    }
}

static void join_taps(void)
{
    void *well;
    unsigned i;

    for (i = 0; i < TAPS; i++) {
        pthread_join(threads[i], &well);
        assert_non_null(well);
    }
}

static dnstap_sink_options shop_options(unsigned room)
{
    dnstap_sink_options o = options();

    memset(&shop, 0, sizeof shop);
    pthread_mutex_init(&shop.lock, NULL);
    shop.room = room;
    o.receive = serve;
    o.monotonic_ms = NULL;
    return o;
}

static void start_shop(const dnstap_sink_options *o)
{
    open_sink(o);
    assert_int_equal(dnstap_sink_start(w.sink), DNSTAP_OK);
}

/* ---- tests ---- */

static void test_thread_takes_all_while_others_look(void **state)
{
    dnstap_sink_options o;
    dnstap_sink_status s;
    struct pollfd fds[2];
    dnstap_received r;
    uint64_t before = 0;
    int timeout;

    (void)state;
    o = shop_options(UINT_MAX);
    start_shop(&o);
    assert_int_equal(dnstap_sink_start(w.sink), DNSTAP_UNSUPPORTED);
    assert_int_equal(dnstap_sink_service(w.sink), DNSTAP_UNSUPPORTED);
    assert_int_equal(dnstap_sink_next(w.sink, &r), DNSTAP_UNSUPPORTED);
    assert_int_equal(dnstap_sink_pollfds(w.sink, fds, 2, &timeout), 0);
    start_taps();
    do {
        dnstap_sink_get_status(w.sink, &s);
        assert_true(s.frames >= before);
        assert_true(s.open <= TAPS);
        before = s.frames;
    } while (s.ended[DNSTAP_SINK_ENDED_STOP] < TAPS && real_ms() - w.began < PATIENCE);
    join_taps();
    assert_int_equal(locked(&shop.messages), TAPS * EACH);
    assert_int_equal(locked(&shop.wrong), 0);
    assert_int_equal(s.frames, TAPS * EACH);
    assert_int_equal(s.open, 0);
    assert_int_equal(s.state, DNSTAP_LISTENING);
    assert_false(pthread_equal(shop.thread, pthread_self()));
}

static void test_what_is_put_off_is_taken_after_resume_from_any_thread(void **state)
{
    dnstap_sink_options o;

    (void)state;
    o = shop_options(0);
    start_shop(&o);
    start_taps();
    while (locked(&shop.messages) < TAPS * EACH) {
        LOCKED(shop.room = shop.room < 500 ? 500 : shop.room);
        dnstap_sink_resume(w.sink);
        sched_yield();
    }
    join_taps();
    WAIT_FOR(locked(&shop.closed) == TAPS);
    assert_true(locked(&shop.later) > 0);
    assert_int_equal(locked(&shop.wrong), 0);
    assert_true(locked(&shop.most_put_off) > 0);
}

/* It does not spin: in 20 ms one connection is offered once, whatever its peer sends. */
static void test_thread_that_waits_does_not_spin(void **state)
{
    dnstap_sink_options o;
    uint64_t began, offers;
    int fd, i;

    (void)state;
    o = shop_options(0);
    start_shop(&o);
    fd = producer();
    say(fd, DNSTAP_CONTROL_READY);
    say(fd, DNSTAP_CONTROL_START);
    began = real_ms();
    for (i = 0; i < 100; i++) say_message(fd);
    WAIT_FOR(locked(&shop.later) >= 5);
    offers = locked(&shop.later);
    assert_true(offers <= (real_ms() - began) / DNSTAP__LATER_MS + 2);
    close(fd);
}

static void test_close_ends_the_thread_at_any_moment(void **state)
{
    static const unsigned rooms[] = {0, 1, 1000, UINT_MAX};
    unsigned i;

    (void)state;
    for (i = 0; i < 4 * sizeof rooms / sizeof *rooms; i++) {
        dnstap_sink_options o = shop_options(rooms[i % 4]);
        int fd;

        start_shop(&o);
        fd = producer();
        say(fd, DNSTAP_CONTROL_READY);
        say(fd, DNSTAP_CONTROL_START);
        say_message(fd);
        say_message(fd);
        if (i >= 4) WAIT_FOR(locked(&shop.messages) + locked(&shop.later));
        dnstap_sink_close(w.sink);
        w.sink = NULL;
        close(fd);
    }
}

/* -- files -- */

static void put_control(FILE *f, dnstap_control type)
{
    dnstap_bytes frame = dnstap__control_frame(type);

    fwrite(frame.data, 1, frame.size, f);
    fflush(f);
}

static void put_numbered(FILE *f, uint32_t number)
{
    uint8_t frame[64];
    uint32_t at[2];
    dnstap_message m;
    long size;

    at[0] = 0;
    at[1] = number;
    dnstap_message_start(&m, DNSTAP_MSG_CLIENT_QUERY);
    m.query_message = dnstap_bytes_of(at, sizeof at);
    size = dnstap_encode(&m, frame + 4, sizeof frame - 4);
    assert_true(size > 0);
    dnstap__put32(frame, (uint32_t)size);
    fwrite(frame, 1, 4 + (size_t)size, f);
    fflush(f);
}

static FILE *file_at(char *endpoint, size_t size)
{
    char name[64];
    FILE *f;

    snprintf(name, sizeof name, "%s/f", w.folder);
    snprintf(endpoint, size, "file://%s", name);
    f = fopen(name, "wb");
    assert_non_null(f);
    return f;
}

static void test_thread_reads_a_file_to_its_end(void **state)
{
    dnstap_sink_options o;
    char endpoint[80];
    FILE *f = file_at(endpoint, sizeof endpoint);
    dnstap_sink_status s;
    uint32_t i;

    (void)state;
    put_control(f, DNSTAP_CONTROL_START);
    for (i = 0; i < 5000; i++) put_numbered(f, i);
    put_control(f, DNSTAP_CONTROL_STOP);
    fclose(f);
    o = shop_options(UINT_MAX);
    o.endpoint = endpoint;
    start_shop(&o);
    WAIT_FOR((dnstap_sink_get_status(w.sink, &s), s.state == DNSTAP_FINISHED));
    assert_int_equal(s.frames, 5000);
    assert_int_equal(s.ended[DNSTAP_SINK_ENDED_STOP], 1);
    assert_int_equal(locked(&shop.wrong), 0);
    assert_int_equal(locked(&shop.closed), 1);
}

static void test_thread_follows_a_file_that_grows(void **state)
{
    char endpoint[80];
    FILE *f = file_at(endpoint, sizeof endpoint);
    dnstap_sink_options o = shop_options(UINT_MAX);
    uint32_t i;

    (void)state;
    o.endpoint = endpoint;
    o.follow = true;
    start_shop(&o);
    put_control(f, DNSTAP_CONTROL_START);
    for (i = 0; i < 3; i++) {
        put_numbered(f, i);
        WAIT_FOR(locked(&shop.messages) == i + 1);
    }
    assert_int_equal(locked(&shop.closed), 0);
    put_control(f, DNSTAP_CONTROL_STOP);
    WAIT_FOR(locked(&shop.closed) == 1);
    LOCKED(assert_int_equal(shop.end, DNSTAP_SINK_ENDED_STOP));
    fclose(f);
}

/* A pipe whose other side says nothing holds nobody up. */
static void test_close_does_not_wait_for_a_pipe(void **state)
{
    static const uint8_t frame[] = {0, 0, 0, 6, 0x72, 2, 8, 5, 0x78, 1};
    dnstap_bytes start = dnstap__control_frame(DNSTAP_CONTROL_START);
    dnstap_sink_options o;
    char name[64], endpoint[80];
    uint64_t began;
    int fd;

    (void)state;
    snprintf(name, sizeof name, "%s/f", w.folder);
    snprintf(endpoint, sizeof endpoint, "file://%s", name);
    assert_int_equal(mkfifo(name, 0600), 0);
    fd = open(name, O_RDWR);
    assert_int_equal(write(fd, start.data, start.size), start.size);
    assert_int_equal(write(fd, frame, sizeof frame), sizeof frame);
    o = shop_options(UINT_MAX);
    o.endpoint = endpoint;
    start_shop(&o);
    WAIT_FOR(locked(&shop.messages) == 1);
    began = real_ms();
    dnstap_sink_close(w.sink);
    w.sink = NULL;
    assert_true(real_ms() - began < PATIENCE / 2);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SINK_TEST(test_thread_takes_all_while_others_look),
        SINK_TEST(test_what_is_put_off_is_taken_after_resume_from_any_thread),
        SINK_TEST(test_thread_that_waits_does_not_spin),
        SINK_TEST(test_close_ends_the_thread_at_any_moment),
        SINK_TEST(test_thread_reads_a_file_to_its_end),
        SINK_TEST(test_thread_follows_a_file_that_grows),
        SINK_TEST(test_close_does_not_wait_for_a_pipe),
    };

    return RUN_TESTS(tests, NULL, NULL);
}
