/* The receiving end of the benchmarks: a process of its own that does as little as it can, so that
 * it is the producer who is measured. It shakes hands, then walks the frames: each must have the
 * size of one of the workload's, and in order where order was asked for; one in 16 is compared with
 * what protobuf-c makes of the event. With `latency` it decodes each, and takes the time from the
 * query's time stamp to here.
 *
 * The program starts itself again with "sink" and two descriptors: so that the producer's process
 * shares no memory with it, and tools that watch the producer don't slow the sink down. */
#ifndef BENCH_SINK_H
#define BENCH_SINK_H

#include "msgs.h"
#include <arpa/inet.h>
#include <errno.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SINK_BUFFER = 1 << 19, LATENCY_MAX = 2000000 }; /* us */

typedef struct sink_report {
    uint64_t frames, bytes, wrong;
    double p50, p99, max; /* us */
} sink_report;

typedef struct sink {
    pid_t pid;
    int report; /* read end: a byte at START, a sink_report at the end */
    bool tcp;
    char path[100];
    char endpoint[128];
    char port[8];
} sink;

/* -- in the sink's process -- */

static uint8_t sink_buffer[SINK_BUFFER];
static size_t sink_have;
static uint32_t sink_latencies[LATENCY_MAX + 1];

static inline uint32_t be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static bool sink_fill(int fd)
{
    ssize_t n = read(fd, sink_buffer + sink_have, sizeof sink_buffer - sink_have);

    if (n > 0) sink_have += (size_t)n;
    return n > 0;
}

static void sink_drop(size_t n)
{
    sink_have -= n;
    memmove(sink_buffer, sink_buffer + n, sink_have);
}

/* Takes a control frame; its type, 0: there is none. */
static uint32_t sink_control(int fd)
{
    uint32_t type;

    while (sink_have < 12 || sink_have < 8 + be32(sink_buffer + 4))
        if (!sink_fill(fd)) return 0;
    if (be32(sink_buffer)) return 0;
    type = be32(sink_buffer + 8);
    sink_drop(8 + be32(sink_buffer + 4));
    return type;
}

static void sink_send(int fd, uint8_t type, bool content_type)
{
    uint8_t frame[42] = {0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, type, 0, 0, 0, 1, 0, 0, 0, 22};

    memcpy(frame + 20, DNSTAP_FRAME_CONTENT_TYPE, 22);
    if (content_type) frame[7] = 34;
    if (write(fd, frame, content_type ? 42 : 12) < 0) die("sink: write");
}

static void sink_latency(sink_report *r, const uint8_t *payload, size_t size)
{
    dnstap_message m;
    dnstap_policy policy;
    int64_t sent, us;

    if (dnstap_decode(&m, &policy, payload, size) < 0) {
        r->wrong++;
        return;
    }
    sent = (int64_t)(m.query_time_sec * 1000000000u + m.query_time_nsec);
    us = ((int64_t)clock_ns(CLOCK_REALTIME) - sent) / 1000;
    if (us < 0) us = 0;
    sink_latencies[us > LATENCY_MAX ? LATENCY_MAX : us]++;
}

static double sink_quantile(uint64_t frames, double part)
{
    uint64_t sum = 0, us;

    for (us = 0; us < LATENCY_MAX; us++)
        if ((double)(sum += sink_latencies[us]) >= part * (double)frames) break;
    return (double)us;
}

/* What frames must look like. Port and times stand in the middle: the first bytes, and from the DNS
 * message on the last ones, are the same in each. */
typedef struct sink_expected {
    uint8_t payload[MIX][FRAME_MAX];
    size_t size[MIX], dns[MIX];
    bool ordered, latency;
} sink_expected;

static bool sink_same(const sink_expected *x, size_t i, const uint8_t *payload)
{
    size_t head = sizeof IDENTITY + sizeof VERSION, end = x->size[i], tail = x->dns[i] + 2;

    return !memcmp(x->payload[i], payload, head) &&
           !memcmp(x->payload[i] + end - tail, payload + end - tail, tail);
}

static void sink_check(const sink_expected *x, sink_report *r, const uint8_t *payload, size_t size)
{
    size_t i = r->frames % MIX;

    if (size != x->size[i] && !x->ordered)
        for (i = 0; i + 1 < MIX && size != x->size[i];) i++;
    if (size != x->size[i] || (r->frames % 64 == i && !sink_same(x, i, payload))) r->wrong++;
    if (x->latency) sink_latency(r, payload, size);
}

/* Walks whole frames; true at STOP. */
static bool sink_walk(const sink_expected *x, sink_report *r)
{
    size_t at = 0;
    bool stop = false;

    while (sink_have - at >= 12) {
        size_t size = be32(sink_buffer + at);

        stop = !size;
        if (stop || size + 4 > sink_have - at) break;
        sink_check(x, r, sink_buffer + at + 4, size);
        r->frames++;
        at += 4 + size;
    }
    r->bytes += at;
    sink_drop(at);
    return stop;
}

static void sink_expect(sink_expected *x, bool ordered, bool latency)
{
    event events[MIX];
    size_t i;

    make_events(events);
    for (i = 0; i < MIX; i++) {
        x->size[i] = reference(next_event(events, i), false, x->payload[i]);
        x->dns[i] = i % 2 ? events[i].response_size : events[i].query_size;
    }
    x->ordered = ordered;
    x->latency = latency;
}

static inline int sink_main(int listener, int report, bool ordered, bool latency)
{
    static sink_expected expected;
    sink_report r;
    int fd = accept(listener, NULL, NULL);

    memset(&r, 0, sizeof r);
    sink_expect(&expected, ordered, latency);
    if (fd < 0 || sink_control(fd) != DNSTAP_CONTROL_READY) die("sink: no READY");
    sink_send(fd, DNSTAP_CONTROL_ACCEPT, true);
    if (sink_control(fd) != DNSTAP_CONTROL_START) die("sink: no START");
    if (write(report, "", 1) != 1) die("sink: report");
    while (!sink_walk(&expected, &r))
        if (!sink_fill(fd)) die("sink: closed without STOP");
    sink_send(fd, DNSTAP_CONTROL_FINISH, false);
    if (latency) {
        r.p50 = sink_quantile(r.frames, 0.5);
        r.p99 = sink_quantile(r.frames, 0.99);
        r.max = sink_quantile(r.frames, 1);
    }
    return write(report, &r, sizeof r) == (ssize_t)sizeof r ? 0 : 1;
}

/* -- in the producer's -- */

static void sink_path(sink *s)
{
    static unsigned number;

    snprintf(s->path, sizeof s->path, "/tmp/dnstap-bench.%ld.%u", (long)getpid(), number++);
}

static int sink_listen(sink *s)
{
    struct sockaddr_un local = {0};
    struct sockaddr_in net = {0};
    socklen_t size = sizeof net;
    int fd = socket(s->tcp ? AF_INET : AF_UNIX, SOCK_STREAM, 0);

    sink_path(s);
    local.sun_family = AF_UNIX;
    memcpy(local.sun_path, s->path, strlen(s->path) + 1);
    net.sin_family = AF_INET;
    net.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    unlink(s->path);
    if (s->tcp ? bind(fd, (struct sockaddr *)&net, sizeof net)
               : bind(fd, (struct sockaddr *)&local, sizeof local))
        die("sink: bind");
    if (listen(fd, 1)) die("sink: listen");
    if (s->tcp && getsockname(fd, (struct sockaddr *)&net, &size)) die("sink: getsockname");
    snprintf(s->port, sizeof s->port, "%u", ntohs(net.sin_port));
    if (s->tcp)
        snprintf(s->endpoint, sizeof s->endpoint, "tcp://127.0.0.1:%s", s->port);
    else
        snprintf(s->endpoint, sizeof s->endpoint, "unix://%s", s->path);
    return fd;
}

static inline void sink_start(sink *s, const char *program, bool tcp, bool ordered, bool latency)
{
    int report[2], listener;
    char in[12], out[12];

    s->tcp = tcp;
    listener = sink_listen(s);
    if (pipe(report)) die("sink: pipe");
    s->report = report[0];
    snprintf(in, sizeof in, "%d", listener);
    snprintf(out, sizeof out, "%d", report[1]);
    s->pid = fork();
    if (s->pid < 0) die("sink: fork");
    if (s->pid == 0) {
        close(report[0]);
        execl(program, program, "sink", in, out, ordered ? "1" : "0", latency ? "1" : "0",
              (char *)NULL);
        die(program);
    }
    close(listener);
    close(report[1]);
}

static void sink_read(sink *s, void *out, size_t size)
{
    if (read(s->report, out, size) != (ssize_t)size) die("sink: it ended badly");
}

/* Waits until the producer is connected. */
static void sink_wait(sink *s)
{
    char byte;

    sink_read(s, &byte, 1);
}

static inline sink_report sink_end(sink *s)
{
    sink_report r;

    sink_read(s, &r, sizeof r);
    close(s->report);
    waitpid(s->pid, NULL, 0);
    unlink(s->path);
    return r;
}

#endif
