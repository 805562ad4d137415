/* A UDP server that echoes, as one adds a tap to it: it answers each query, and logs both as full
 * messages. LOOP: it polls, or waits in an epoll, and the tap lives in the same loop; or it is
 * threads that wait in recvfrom, and the tap has one of its own. SIDE: ours; peer; none, without a
 * tap. The socket of worker i is descriptor SERVER_SOCKET + i, which strace shows. */
#ifndef BENCH_SERVER_H
#define BENCH_SERVER_H

#include "sides.h"
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>

enum { WORKERS = 2, SERVER_SOCKET = 100, SERVER_REPORT = 110 };

/* Orders are datagrams of one byte. */
enum { ORDER_END = 'e', ORDER_MARK = 'm', ORDER_QUIET = 'q' };

typedef struct server_hello {
    unsigned workers;
    struct sockaddr_in address[WORKERS];
} server_hello;

typedef struct server_report {
    uint64_t accepted, dropped;
    uint64_t turns, clocks; /* since the first mark: of the loop; the tap's looks at the time */
    sink_report sink;
} server_report;

typedef struct worker {
    int fd;
    bool quiet; /* answers, and logs nothing */
    uint64_t answered, accepted, dropped;
    event events[MIX];
    struct fstrm_iothr_queue *queue; /* the peer's */
} worker;

static worker workers[WORKERS];
static uint64_t server_turns, server_clocks;
static bool server_marked;

/* -- logging -- */

static bool server_log_ours(worker *w, const event *e)
{
    (void)w;
    return log_ours(e);
}
static bool server_log_peer(worker *w, const event *e) { return log_peer(w->queue, e); }
static bool (*server_log)(worker *w, const event *e); /* NULL: no tap */

static void log_one(worker *w, const event *e)
{
    if (server_log(w, e))
        w->accepted++;
    else
        w->dropped++;
}

/* -- answering -- */

/* false: to end. A mark is a system call that strace shows; turns count from the first one on. */
static bool obey(worker *w, uint8_t order)
{
    if (order == ORDER_QUIET) w->quiet = true;
    if (order == ORDER_MARK && !server_marked) server_turns = server_clocks = 0;
    server_marked = server_marked || order == ORDER_MARK;
    return order != ORDER_END && !(order == ORDER_MARK && write(-1, "mark", 4) == 4);
}

/* Takes one datagram, and answers it; false: to end. What is logged is what came and what went, and
 * the times are taken for the tap alone. */
static bool answer(worker *w)
{
    event *q = &w->events[2 * w->answered % MIX], *r = q + 1;
    socklen_t size = sizeof q->client;
    bool logs = server_log && !w->quiet;
    ssize_t n = recvfrom(w->fd, q->query, sizeof q->query, 0, (struct sockaddr *)&q->client, &size);

    if (n <= 1) return n < 1 || obey(w, q->query[0]);
    if (logs) {
        clock_gettime(CLOCK_REALTIME, &q->asked);
        q->query_size = (size_t)n;
        log_one(w, q);
    }
    if (sendto(w->fd, r->response, r->response_size, 0, (struct sockaddr *)&q->client, size) < 0)
        die("server: sendto");
    if (logs) {
        clock_gettime(CLOCK_REALTIME, &r->answered);
        r->client = q->client;
        r->asked = q->asked;
        log_one(w, r);
    }
    w->answered++;
    return true;
}

/* -- the loops -- */

static void run_poll(void)
{
    struct pollfd fds[1 + DNSTAP_POLLFDS] = {{workers[0].fd, POLLIN, 0}};
    int timeout = -1, n = 0;

    do {
        if (tap) n = dnstap_pollfds(tap, fds + 1, DNSTAP_POLLFDS, &timeout);
        poll(fds, (nfds_t)(n + 1), timeout);
        server_turns++;
        if (tap) dnstap_service_fds(tap, fds + 1, n);
    } while (!fds[0].revents || answer(&workers[0]));
}

/* As an event library does it: the tap says what to wait for, and is called when that is due; the
 * time is taken once a turn, without a tap too. */
static int epoll;
static uint64_t loop_now, tap_due = UINT64_MAX; /* ms */

static uint64_t loop_clock(void) { return clock_ns(CLOCK_MONOTONIC) / 1000000; }

static void on_watch(void *user, int fd, short events)
{
    struct epoll_event e;

    (void)user;
    memset(&e, 0, sizeof e);
    e.events = (uint32_t)events;
    e.data.fd = fd;
    if (epoll_ctl(epoll, events ? EPOLL_CTL_MOD : EPOLL_CTL_DEL, fd, &e) < 0 &&
        epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e) < 0)
        die("server: epoll_ctl");
}

static void on_timer(void *user, int ms)
{
    (void)user;
    tap_due = ms < 0 ? UINT64_MAX : loop_now + (uint64_t)ms;
}

static int until_due(void)
{
    if (tap_due == UINT64_MAX) return -1;
    return tap_due > loop_now ? (int)(tap_due - loop_now) : 0;
}

static void run_epoll(void)
{
    struct epoll_event ready[1 + DNSTAP_POLLFDS];
    bool go_on = true;
    int i, n;

    on_watch(NULL, workers[0].fd, EPOLLIN);
    if (tap) dnstap_service(tap);
    while (go_on) {
        n = epoll_wait(epoll, ready, 1 + DNSTAP_POLLFDS, until_due());
        server_turns++;
        loop_now = loop_clock();
        for (i = 0; i < n; i++) {
            if (ready[i].data.fd == workers[0].fd)
                go_on = answer(&workers[0]);
            else
                tap_due = 0;
        }
        if (loop_now >= tap_due) dnstap_service(tap);
    }
}

static void *run_worker(void *argument)
{
    while (answer(argument)) {
    }
    return NULL;
}

/* Each worker stays on a processor: else it is by chance whether they share one. */
static void run_threads(void)
{
    pthread_t threads[WORKERS];
    unsigned i;
    cpu_set_t set;

    for (i = 0; i < WORKERS; i++) {
        if (pthread_create(&threads[i], NULL, run_worker, &workers[i])) die("server: thread");
        CPU_ZERO(&set);
        CPU_SET(i, &set);
        pthread_setaffinity_np(threads[i], sizeof set, &set);
    }
    for (i = 0; i < WORKERS; i++) pthread_join(threads[i], NULL);
}

/* -- the process -- */

static uint64_t counted_clock(void *user)
{
    (void)user;
    server_clocks++;
    return clock_ns(CLOCK_MONOTONIC) / 1000000;
}

static void server_open_ours(const sink *s, const char *loop, bool counts)
{
    dnstap_options options = tap_options(s);

    if (counts) options.monotonic_ms = counted_clock;
    if (!strcmp(loop, "epoll")) {
        options.watch = on_watch;
        options.timer = on_timer;
    }
    open_tap(&options);
    if (!strcmp(loop, "threads") && dnstap_start(tap) < 0) die("server: dnstap_start");
    server_log = server_log_ours;
}

static void server_open_peer(const sink *s, unsigned threads)
{
    unsigned i;

    open_peer(s, threads);
    for (i = 0; i < threads; i++) workers[i].queue = fstrm_iothr_get_input_queue_idx(io_thread, i);
    server_log = server_log_peer;
}

static server_hello server_bind(unsigned count)
{
    server_hello hello;
    socklen_t size = sizeof hello.address[0];
    unsigned i;

    memset(&hello, 0, sizeof hello);
    hello.workers = count;
    for (i = 0; i < count; i++) {
        struct sockaddr_in *address = &hello.address[i];
        int fd = socket(AF_INET, SOCK_DGRAM, 0);

        address->sin_family = AF_INET;
        address->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        make_events(workers[i].events);
        workers[i].fd = dup2(fd, SERVER_SOCKET + (int)i);
        close(fd);
        if (bind(workers[i].fd, (struct sockaddr *)address, sizeof *address) ||
            getsockname(workers[i].fd, (struct sockaddr *)address, &size))
            die("server: bind");
    }
    return hello;
}

static void server_run(const char *loop)
{
    if (!strcmp(loop, "poll"))
        run_poll();
    else if (!strcmp(loop, "epoll"))
        run_epoll();
    else
        run_threads();
}

static void server_write(const void *data, size_t size)
{
    if (write(SERVER_REPORT, data, size) != (ssize_t)size) die("server: report");
}

/* All that was accepted is delivered after it. */
static void server_close(sink *s, server_report *r)
{
    unsigned i;

    if (server_log) {
        if (tap) sink_wait(s);
        if (tap)
            close_ours();
        else
            close_peer();
        r->sink = sink_end(s);
    }
    for (i = 0; i < WORKERS; i++) {
        r->accepted += workers[i].accepted;
        r->dropped += workers[i].dropped;
    }
}

/* With counts, the tap's looks at the clock are counted. */
static int server_main(const char *program, const char *loop, const char *side, bool counts)
{
    unsigned count = !strcmp(loop, "threads") ? WORKERS : 1;
    bool ours = !strcmp(side, "ours"), bare = !strcmp(side, "none");
    server_hello hello = server_bind(count);
    server_report report;
    sink s;

    memset(&report, 0, sizeof report);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    if (!bare) sink_start(&s, program, false, ours && count == 1, false);
    if (ours) server_open_ours(&s, loop, counts);
    if (!ours && !bare) {
        server_open_peer(&s, count);
        sink_wait(&s); /* fstrm discards until it is connected */
    }
    server_write(&hello, sizeof hello);
    server_run(loop);
    report.turns = server_turns;
    report.clocks = server_clocks;
    server_close(&s, &report);
    server_write(&report, sizeof report);
    return 0;
}

#endif
