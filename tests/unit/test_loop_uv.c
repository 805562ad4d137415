/* A tap in libuv's loop: uv_poll for its descriptors, uv_timer for its time, uv_async for its
 * wake-ups. */
#define _GNU_SOURCE
#include <uv.h>
#define DNSTAP_IMPLEMENTATION
#include "dnstap.h"
#include "tap_support.h"
#include "tap_peer.h"

enum { FIRST = 100, SECOND = 200 };

static struct {
    dnstap_tap *tap;
    uv_loop_t loop;
    uv_async_t async;
    uv_timer_t timer, ticks, end;
    uv_poll_t *watched[256];
    collector c;
    unsigned services, polls;
    bool patience_ended;
} app;

static void serve(void)
{
    app.services++;
    assert_int_equal(dnstap_service(app.tap), DNSTAP_OK);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    (void)poll, (void)status, (void)events;
    app.polls++;
    serve();
}

static void on_timer(uv_timer_t *timer)
{
    (void)timer;
    serve();
}

static void on_async(uv_async_t *async)
{
    (void)async;
    serve();
}

/* -- the hooks -- */

static void free_handle(uv_handle_t *handle) { free(handle); }

static void uv_watch(void *user, int fd, short events)
{
    uv_poll_t **p = &app.watched[fd];
    int wanted = (events & DNSTAP_POLLIN ? UV_READABLE : 0) |
                 (events & DNSTAP_POLLOUT ? UV_WRITABLE : 0);

    (void)user;
    if (!events) {
        assert_non_null(*p);
        uv_poll_stop(*p);
        uv_close((uv_handle_t *)*p, free_handle);
        *p = NULL;
        return;
    }
    if (!*p) {
        *p = (uv_poll_t *)malloc(sizeof **p);
        assert_int_equal(uv_poll_init(&app.loop, *p, fd), 0);
    }
    assert_int_equal(uv_poll_start(*p, wanted, on_poll), 0);
}

static void uv_time(void *user, int ms)
{
    (void)user;
    if (ms < 0)
        uv_timer_stop(&app.timer);
    else
        uv_timer_start(&app.timer, on_timer, (uint64_t)ms, 0);
}

static void uv_wake(void *user)
{
    (void)user;
    uv_async_send(&app.async);
}

/* -- the application -- */

/* The collector lives in the same loop, on a tick of its own. */
static void on_tick(uv_timer_t *timer)
{
    (void)timer;
    if (app.c.fd < 0 && readable(app.c.listener, 0)) collector_accept(&app.c);
    if (app.c.fd >= 0 && collector_read(&app.c, 0) == 0) collector_hang_up(&app.c);
    if (seen.frames >= FIRST + SECOND) uv_stop(&app.loop);
    if (seen.frames == FIRST && app.c.fd >= 0 && app.c.connections == 1) {
        collector_hang_up(&app.c); /* the tap comes again */
        log_many(app.tap, SECOND);
    }
}

static void on_end(uv_timer_t *timer)
{
    (void)timer;
    app.patience_ended = true;
    uv_stop(&app.loop);
}

static void *log_from_a_thread(void *argument)
{
    log_many(app.tap, FIRST);
    return argument;
}

static void test_libuv_loop(void **state)
{
    dnstap_options o;
    pthread_t thread;
    unsigned i;

    (void)state;
    assert_int_equal(uv_loop_init(&app.loop), 0);
    uv_async_init(&app.loop, &app.async, on_async);
    uv_timer_init(&app.loop, &app.timer);
    uv_timer_init(&app.loop, &app.ticks);
    uv_timer_init(&app.loop, &app.end);
    uv_timer_start(&app.ticks, on_tick, 1, 1);
    uv_timer_start(&app.end, on_end, PATIENCE, 0);
    collector_open(&app.c, "uv");
    peer_options(&o, app.c.endpoint);
    o.watch = uv_watch;
    o.timer = uv_time;
    o.wake = uv_wake;
    app.tap = open_afresh(&o);
    serve();
    assert_int_equal(pthread_create(&thread, NULL, log_from_a_thread, NULL), 0);
    pthread_join(thread, NULL);
    uv_run(&app.loop, UV_RUN_DEFAULT);
    assert_false(app.patience_ended);
    assert_int_equal(seen.frames, FIRST + SECOND);
    assert_in_range(app.services, 4, 200);
    assert_true(app.polls > 0);
    close_in_order(&app.c, app.tap);
    for (i = 0; i < 256; i++) assert_null(app.watched[i]);
    uv_close((uv_handle_t *)&app.async, NULL);
    uv_close((uv_handle_t *)&app.timer, NULL);
    uv_close((uv_handle_t *)&app.ticks, NULL);
    uv_close((uv_handle_t *)&app.end, NULL);
    uv_run(&app.loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&app.loop), 0);
    collector_close(&app.c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_libuv_loop)};

    return RUN_TESTS(tests, make_folder, drop_folder);
}
