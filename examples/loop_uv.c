/* Shows a tap in libuv's loop. Build (libuv1-dev): make build/loop_uv
 *   cc -I. -o build/loop_uv examples/loop_uv.c -lprotobuf-nanopb -lbearssl -lpthread -luv
 *
 *   build/loop_uv unix:///tmp/dnstap.sock 5300     as loop_poll
 *
 * Other threads that log (a pool's) wake the service by a descriptor that `watch` is told of;
 * uv_async_send in options.wake would do, too. */
#define DNSTAP_IMPLEMENTATION
#include "dnstap.h"

#include <uv.h>

#include "loop_server.h"

static server served;
static uv_loop_t loop;
static uv_timer_t due;
static uv_poll_t *watched[DNSTAP_POLLFDS]; /* no tap that connects has more at a time */

static void free_handle(uv_handle_t *handle) { free(handle); }

static void on_descriptor(uv_poll_t *poll, int status, int events)
{
    (void)poll, (void)status, (void)events;
    dnstap_service(served.tap);
}

static void on_timer(uv_timer_t *timer_)
{
    (void)timer_;
    dnstap_service(served.tap);
}

/* The place of a descriptor, or one that is free. */
static uv_poll_t **place_of(int fd)
{
    uv_poll_t **place = &watched[0];
    uv_os_fd_t its;
    int i;
    for (i = 0; i < DNSTAP_POLLFDS; i++) {
        if (!watched[i])
            place = &watched[i];
        else if (uv_fileno((uv_handle_t *)watched[i], &its) == 0 && its == fd)
            return &watched[i];
    }
    return place;
}

static void watch(void *user, int fd, short events)
{
    uv_poll_t **place = place_of(fd);
    int wanted = (events & DNSTAP_POLLIN ? UV_READABLE : 0) |
                 (events & DNSTAP_POLLOUT ? UV_WRITABLE : 0);
    (void)user;
    if (wanted && !*place) {
        *place = (uv_poll_t *)malloc(sizeof **place);
        if (!*place || uv_poll_init(&loop, *place, fd) != 0) server_die("uv_poll_init");
    }
    if (wanted) {
        uv_poll_start(*place, wanted, on_descriptor);
    } else if (*place) {
        uv_close((uv_handle_t *)*place, free_handle); /* stops at once, is freed later */
        *place = NULL;
    }
}

static void timer(void *user, int ms)
{
    (void)user;
    if (ms < 0)
        uv_timer_stop(&due);
    else
        uv_timer_start(&due, on_timer, (uint64_t)ms, 0);
}

static void on_query(uv_poll_t *poll, int status, int events)
{
    (void)poll, (void)status, (void)events;
    server_readable(&served);
    if (served.ended) uv_stop(&loop);
}

static void on_signal(uv_signal_t *signal_, int number)
{
    (void)signal_, (void)number;
    uv_stop(&loop);
}

int main(int argc, char **argv)
{
    static dnstap_options options;
    static uv_poll_t queries;
    static uv_signal_t signals[2];
    int result;
    uv_loop_init(&loop);
    uv_timer_init(&loop, &due);
    options.watch = watch;
    options.timer = timer;
    server_open(&served, &options, argc, argv);
    uv_poll_init(&loop, &queries, served.fd);
    uv_poll_start(&queries, UV_READABLE, on_query);
    uv_signal_init(&loop, &signals[0]);
    uv_signal_init(&loop, &signals[1]);
    uv_signal_start(&signals[0], on_signal, SIGINT);
    uv_signal_start(&signals[1], on_signal, SIGTERM);
    dnstap_service(served.tap); /* to begin */
    uv_run(&loop, UV_RUN_DEFAULT);
    uv_poll_stop(&queries);
    result = server_close(&served); /* calls both hooks once more */
    uv_close((uv_handle_t *)&queries, NULL);
    uv_close((uv_handle_t *)&signals[0], NULL);
    uv_close((uv_handle_t *)&signals[1], NULL);
    uv_close((uv_handle_t *)&due, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    uv_loop_close(&loop);
    return result;
}
