/* Shows a tap in libevent's loop. Build (libevent-dev): make build/loop_event
 *   cc -I. -o build/loop_event examples/loop_event.c -lprotobuf-nanopb -lbearssl -lpthread -levent
 *
 *   build/loop_event unix:///tmp/dnstap.sock 5300     as loop_poll */
#define DNSTAP_IMPLEMENTATION
#include "dnstap.h"

#include <event2/event.h>

#include "loop_server.h"

static server served;
static struct event_base *loop;
static struct event *watched[DNSTAP_POLLFDS]; /* no tap that connects has more at a time */
static struct event *due;

static void serve(evutil_socket_t fd, short what, void *user)
{
    (void)fd, (void)what, (void)user;
    dnstap_service(served.tap);
}

/* An event for each descriptor: what was there of it goes, what is wanted comes. */
static void watch(void *user, int fd, short events)
{
    short wanted = (short)((events & DNSTAP_POLLIN ? EV_READ : 0) |
                           (events & DNSTAP_POLLOUT ? EV_WRITE : 0));
    int i = 0, place = 0;
    (void)user;
    for (; i < DNSTAP_POLLFDS; i++) {
        if (watched[i] && event_get_fd(watched[i]) == fd) {
            event_free(watched[i]);
            watched[i] = NULL;
        }
        if (!watched[i]) place = i;
    }
    if (!wanted) return;
    watched[place] = event_new(loop, fd, (short)(wanted | EV_PERSIST), serve, NULL);
    event_add(watched[place], NULL);
}

static void timer(void *user, int ms)
{
    struct timeval in = {ms / 1000, ms % 1000 * 1000};
    (void)user;
    if (ms < 0)
        event_del(due);
    else
        event_add(due, &in);
}

static void on_query(evutil_socket_t fd, short what, void *user)
{
    (void)fd, (void)what, (void)user;
    server_readable(&served);
    if (served.ended) event_base_loopbreak(loop);
}

static void on_signal(evutil_socket_t number, short what, void *user)
{
    (void)number, (void)what, (void)user;
    event_base_loopbreak(loop);
}

int main(int argc, char **argv)
{
    static dnstap_options options;
    struct event *ours[3];
    int i, result;
    loop = event_base_new();
    due = event_new(loop, -1, 0, serve, NULL);
    options.watch = watch;
    options.timer = timer;
    server_open(&served, &options, argc, argv);
    ours[0] = event_new(loop, served.fd, EV_READ | EV_PERSIST, on_query, NULL);
    ours[1] = evsignal_new(loop, SIGINT, on_signal, NULL);
    ours[2] = evsignal_new(loop, SIGTERM, on_signal, NULL);
    for (i = 0; i < 3; i++) event_add(ours[i], NULL);
    dnstap_service(served.tap); /* to begin */
    event_base_dispatch(loop);
    result = server_close(&served); /* calls both hooks once more */
    for (i = 0; i < 3; i++) event_free(ours[i]);
    event_free(due);
    event_base_free(loop);
    return result;
}
