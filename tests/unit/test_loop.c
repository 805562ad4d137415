/* A tap in the application's own loop: poll with dnstap_pollfds, epoll with the hooks watch, timer
 * and wake. The first message after a pause leaves at once, a stream is packed, and the loop's
 * other events don't keep messages back. test_loop_uv.c does the same with libuv. */
#define _GNU_SOURCE
#define DNSTAP_IMPLEMENTATION
#include "dnstap.h"
#include "tap_support.h"
#include "tap_peer.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>

/* The collector of these tests reads in a thread of its own, and notes when what came. */
static struct {
    collector c;
    pthread_t thread;
    size_t frames, reads; /* whole data frames, and reads that brought some */
    size_t came_us;       /* of the last frame */
    size_t pause_ms;      /* before each read */
} far;

static void *far_thread(void *argument)
{
    collector *c = &far.c;
    uint64_t frames, end = real_ms() + 3 * PATIENCE;

    (void)argument;
    collector_accept(c);
    while (c->stream.phase != AT_END && real_ms() < end) {
        frames = c->stream.frames;
        if (collector_read(c, 100) == 0) break;
        if (c->stream.frames == frames) continue;
        DNSTAP_STORE(&far.came_us, (size_t)real_us());
        DNSTAP_STORE(&far.reads, far.reads + 1);
        DNSTAP_STORE_RELEASE(&far.frames, far.frames + c->stream.frames - frames);
    }
    return NULL;
}

static void far_open(const char *name)
{
    memset(&far, 0, sizeof far);
    collector_open(&far.c, name);
    assert_int_equal(pthread_create(&far.thread, NULL, far_thread, NULL), 0);
}

static void far_close(void)
{
    pthread_join(far.thread, NULL);
    assert_int_equal(far.c.stream.phase, AT_END);
    collector_close(&far.c);
}

/* -- three loops with one face -- */

typedef struct loop {
    const char *name;
    dnstap_tap *tap;
    int foreign; /* an eventfd that is always readable while noise is on; -1: none */
    int epoll, wake, timer_ms;
    uint64_t timer_at;
    bool known[256];
    void (*turn)(struct loop *l, int most_ms);
} loop;

static void poll_turn(loop *l, int most_ms)
{
    struct pollfd fds[DNSTAP_POLLFDS + 1];
    int timeout, n = dnstap_pollfds(l->tap, fds, DNSTAP_POLLFDS, &timeout);

    if (l->foreign >= 0) {
        fds[n].fd = l->foreign;
        fds[n++].events = POLLIN;
    }
    if (timeout < 0 || timeout > most_ms) timeout = most_ms;
    poll(fds, (nfds_t)n, timeout);
    assert_int_equal(dnstap_service(l->tap), DNSTAP_OK);
}

static void loop_watch(void *user, int fd, short events)
{
    loop *l = (loop *)user;
    struct epoll_event e;
    int what = !events ? EPOLL_CTL_DEL : l->known[fd] ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;

    memset(&e, 0, sizeof e);
    e.events = (uint32_t)events;
    assert_in_range(fd, 0, 255);
    assert_int_equal(epoll_ctl(l->epoll, what, fd, &e), 0);
    l->known[fd] = events != 0;
}

static void loop_timer(void *user, int ms)
{
    loop *l = (loop *)user;

    l->timer_ms = ms;
    l->timer_at = real_ms() + (uint64_t)(ms < 0 ? 0 : ms);
}

static void loop_wake(void *user)
{
    uint64_t one = 1;

    assert_int_equal(write(((loop *)user)->wake, &one, sizeof one), sizeof one);
}

/* Services only when the tap asked for it: by descriptor, timer or wake. */
static void epoll_turn(loop *l, int most_ms)
{
    struct epoll_event e[8];
    uint64_t now = real_ms(), tokens;
    int timeout = most_ms, n;

    if (l->timer_ms >= 0 && l->timer_at <= now)
        timeout = 0;
    else if (l->timer_ms >= 0 && l->timer_at - now < (uint64_t)most_ms)
        timeout = (int)(l->timer_at - now);
    n = epoll_wait(l->epoll, e, 8, timeout);
    if (l->wake >= 0 && read(l->wake, &tokens, sizeof tokens) > 0)
        n = 1;
    else if (l->wake >= 0 && n == 1 && e[0].data.u32 == 1)
        n = 0;
    if (n > 0 || (l->timer_ms >= 0 && l->timer_at <= real_ms())) {
        assert_int_equal(dnstap_service(l->tap), DNSTAP_OK);
    }
}

static void loop_open(loop *l, const char *name, bool hooks, bool wake)
{
    struct epoll_event e;
    dnstap_options o;

    memset(l, 0, sizeof *l);
    l->name = name;
    l->foreign = l->epoll = l->wake = -1;
    l->turn = hooks ? epoll_turn : poll_turn;
    far_open(name);
    peer_options(&o, far.c.endpoint);
    o.ring_size = 1 << 21;
    o.flush_ms = 100;
    o.user = l;
    o.log = NULL;
    if (hooks) {
        l->epoll = epoll_create1(0);
        o.watch = loop_watch;
        o.timer = loop_timer;
    }
    if (wake) {
        l->wake = eventfd(0, EFD_NONBLOCK);
        o.wake = loop_wake;
        memset(&e, 0, sizeof e);
        e.events = EPOLLIN;
        e.data.u32 = 1;
        assert_int_equal(epoll_ctl(l->epoll, EPOLL_CTL_ADD, l->wake, &e), 0);
    }
    l->tap = open_afresh(&o);
    dnstap_service(l->tap);
}

static void loop_until_sent(loop *l)
{
    uint64_t end = real_ms() + PATIENCE;
    dnstap_status s;

    do {
        l->turn(l, 50);
        dnstap_get_status(l->tap, &s);
        assert_true(real_ms() < end);
    } while (s.queued || s.state != DNSTAP_STARTED);
}

static void loop_close(loop *l)
{
    assert_int_equal(dnstap_close(l->tap, PATIENCE), DNSTAP_OK);
    far_close();
    if (l->epoll >= 0) close(l->epoll);
    if (l->wake >= 0) close(l->wake);
    if (l->foreign >= 0) close(l->foreign);
}

static void loop_for(loop *l, int ms)
{
    uint64_t now, end = real_ms() + (uint64_t)ms;

    while ((now = real_ms()) < end) l->turn(l, (int)(end - now));
}

/* Logs one message after a pause of 250 ms, from the loop's thread or another; how long it took. */
static void *log_elsewhere(void *argument)
{
    loop *l = (loop *)argument;

    poll(NULL, 0, 250);
    DNSTAP_STORE(&far.pause_ms, (size_t)real_us());
    log_next(l->tap, 1);
    return NULL;
}

static void first_message(loop *l, bool elsewhere)
{
    size_t frames, start, took, best = SIZE_MAX;
    pthread_t thread;
    uint64_t end = real_ms() + PATIENCE;
    int i;

    for (i = 0; i < 3; i++) {
        frames = DNSTAP_LOAD_ACQUIRE(&far.frames);
        if (elsewhere)
            pthread_create(&thread, NULL, log_elsewhere, l);
        else {
            loop_for(l, 250);
            start = (size_t)real_us();
            log_next(l->tap, 0);
        }
        while (DNSTAP_LOAD_ACQUIRE(&far.frames) == frames) {
            l->turn(l, 2000);
            assert_true(real_ms() < end);
            poll(NULL, 0, 1);
        }
        if (elsewhere) {
            pthread_join(thread, NULL);
            start = DNSTAP_LOAD(&far.pause_ms);
        }
        took = DNSTAP_LOAD(&far.came_us) - start;
        if (took < best) best = took;
    }
    print_message("# %s: first message after a pause from %s thread: %lu us\n", l->name,
                  elsewhere ? "another" : "the loop's", (unsigned long)best);
    assert_in_range(best, 0, 50000);
}

/* A message each millisecond for half a second: they go in a few packs, none after flush_ms. */
static void packed_stream(loop *l)
{
    uint64_t end;
    size_t frames, reads, count = 0;

    loop_until_sent(l);
    loop_for(l, 250);
    frames = DNSTAP_LOAD_ACQUIRE(&far.frames);
    reads = DNSTAP_LOAD(&far.reads);
    for (end = real_ms() + 500; real_ms() < end;) {
        assert_int_equal(log_next(l->tap, 0), 1);
        count++;
        l->turn(l, 1);
        poll(NULL, 0, 1);
    }
    while (DNSTAP_LOAD_ACQUIRE(&far.frames) < frames + count) {
        l->turn(l, 10);
        assert_true(real_ms() < end + PATIENCE);
    }
    reads = DNSTAP_LOAD(&far.reads) - reads;
    print_message("# %s: %lu messages in %lu packs\n", l->name, (unsigned long)count,
                  (unsigned long)reads);
    assert_true(count > 50);
    assert_in_range(reads, 2, 15);
}

/* The application's own descriptor is always ready, so no wait ever times out. */
static void noisy_loop(loop *l)
{
    struct epoll_event e;
    uint64_t one = 1, start, end;
    size_t frames;

    l->foreign = eventfd(0, EFD_NONBLOCK);
    assert_int_equal(write(l->foreign, &one, sizeof one), sizeof one);
    memset(&e, 0, sizeof e);
    e.events = EPOLLIN;
    e.data.u32 = 1;
    if (l->epoll >= 0) epoll_ctl(l->epoll, EPOLL_CTL_ADD, l->foreign, &e);
    loop_for(l, 20);
    for (start = real_ms(); real_ms() < start + 300;) {
        log_next(l->tap, 0);
        l->turn(l, 100);
        poll(NULL, 0, 1);
    }
    frames = logged[0] + logged[1];
    end = real_ms() + PATIENCE;
    while (DNSTAP_LOAD_ACQUIRE(&far.frames) < frames && real_ms() < end) l->turn(l, 100);
    assert_int_equal(DNSTAP_LOAD_ACQUIRE(&far.frames), frames);
}

static void all_of(const char *name, bool hooks, bool wake)
{
    loop l;

    loop_open(&l, name, hooks, wake);
    loop_until_sent(&l);
    first_message(&l, false);
    first_message(&l, true);
    packed_stream(&l);
    noisy_loop(&l);
    check_books(l.tap);
    loop_close(&l);
    assert_int_equal(seen.frames, logged[0] + logged[1]);
}

static void test_poll_loop(void **state)
{
    (void)state;
    all_of("poll", false, false);
}

static void test_epoll_loop_with_watch_and_timer(void **state)
{
    (void)state;
    all_of("epoll", true, false);
}

static void test_epoll_loop_with_watch_timer_and_wake(void **state)
{
    (void)state;
    all_of("epoll and wake", true, true);
}

/* The own loop's close and flush wait for nothing but the collector. */
static void test_flush_and_close_from_the_loop_are_prompt(void **state)
{
    uint64_t start, best = PATIENCE;
    unsigned i;
    loop l;

    (void)state;
    loop_open(&l, "prompt", false, false);
    loop_until_sent(&l);
    log_next(l.tap, 0);
    loop_until_sent(&l);
    for (i = 0; i < 5; i++) {
        log_next(l.tap, 0); /* within the nap */
        start = real_ms();
        assert_int_equal(dnstap_flush(l.tap, 2000), DNSTAP_OK);
        if (real_ms() - start < best) best = real_ms() - start;
    }
    assert_in_range(best, 0, 20);
    loop_for(&l, 250);
    start = real_ms();
    loop_close(&l);
    assert_in_range(real_ms() - start, 0, 1000);
}

static void test_start_is_refused_where_the_users_wake_replaces_the_descriptor(void **state)
{
    dnstap_options o;
    dnstap_tap *tap;

    (void)state;
    peer_options(&o, "unix:///tmp/none");
    o.wake = loop_wake;
    tap = open_afresh(&o);
    assert_int_equal(dnstap_start(tap), DNSTAP_UNSUPPORTED);
    assert_int_equal(dnstap_close(tap, 100), DNSTAP_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_poll_loop),
        cmocka_unit_test(test_epoll_loop_with_watch_and_timer),
        cmocka_unit_test(test_epoll_loop_with_watch_timer_and_wake),
        cmocka_unit_test(test_flush_and_close_from_the_loop_are_prompt),
        cmocka_unit_test(test_start_is_refused_where_the_users_wake_replaces_the_descriptor),
    };

    return RUN_TESTS(tests, make_folder, drop_folder);
}
