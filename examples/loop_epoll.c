/* Shows a tap in an epoll loop: a hook that registers descriptors, one that keeps the time. Build:
 * make build/loop_epoll
 *   cc -I. -o build/loop_epoll examples/loop_epoll.c -lprotobuf-nanopb -lbearssl -lpthread
 *
 *   build/loop_epoll unix:///tmp/dnstap.sock 5300     as loop_poll */
#define DNSTAP_IMPLEMENTATION
#include "dnstap.h"

#include <sys/epoll.h>

#include "loop_server.h"

static int loop = -1;
static int timeout = -1; /* ms from `since` on; -1: none */
static struct timespec since;

/* The tap's descriptors come and go with its connection. */
static void watch(void *user, int fd, short events)
{
    struct epoll_event e = {0};
    (void)user;
    e.events = (uint32_t)events; /* poll's numbers are epoll's */
    e.data.fd = fd;
    if (!events)
        epoll_ctl(loop, EPOLL_CTL_DEL, fd, NULL);
    else if (epoll_ctl(loop, EPOLL_CTL_MOD, fd, &e) < 0)
        epoll_ctl(loop, EPOLL_CTL_ADD, fd, &e);
}

/* Comes in each service call: the next one is due in so many ms. */
static void timer(void *user, int ms)
{
    (void)user;
    timeout = ms;
    clock_gettime(CLOCK_MONOTONIC, &since);
}

static int time_left(void)
{
    struct timespec now;
    long gone;
    if (timeout < 0) return -1;
    clock_gettime(CLOCK_MONOTONIC, &now);
    gone = (now.tv_sec - since.tv_sec) * 1000 + (now.tv_nsec - since.tv_nsec) / 1000000;
    return gone < timeout ? timeout - (int)gone : 0;
}

int main(int argc, char **argv)
{
    static server s;
    static dnstap_options options;
    options.watch = watch;
    options.timer = timer;
    loop = epoll_create1(EPOLL_CLOEXEC);
    if (loop < 0) server_die("epoll_create1");
    server_open(&s, &options, argc, argv);
    server_catch_signals();
    watch(NULL, s.fd, EPOLLIN);
    dnstap_service(s.tap); /* to begin */
    while (!s.ended && !server_stopped) {
        struct epoll_event found[8];
        int n = epoll_wait(loop, found, 8, time_left()), i;
        bool due = n == 0;
        for (i = 0; i < n; i++) {
            if (found[i].data.fd == s.fd)
                server_readable(&s);
            else
                due = true;
        }
        if (due || time_left() == 0) dnstap_service(s.tap);
    }
    return server_close(&s);
}
