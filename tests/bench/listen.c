/* A tap that listens, with 1, 4 and 16 sinks at it over a unix socket: CPU of the process that
 * logs, for each message and sink, and what dnstap_log costs with the most and with the fewest.
 * usage: listen REPETITIONS MESSAGES
 * All is divided by the number of sinks: so logging, once for a message, is all in listen_1.
 * All sinks are in one process of their own, which this program starts again as "readers". They are
 * there before the first message, so each must get all of them, in order. */
#include "sink.h"
#include <poll.h>
#include <signal.h>

enum { SINKS_MAX = 16, BATCH = 4096, LISTEN_FRAME_MAX = 4096 };
static const char *program;

/* -- the sinks' process -- */

typedef struct reader {
    dnstap_frame_reader frames;
    uint8_t buffer[LISTEN_FRAME_MAX];
    sink_report report;
} reader;

static reader readers[SINKS_MAX];
static struct pollfd reader_fds[SINKS_MAX];
static sink_expected reader_expected;

static int reader_connect(const char *path)
{
    struct sockaddr_un local = {0};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    local.sun_family = AF_UNIX;
    memcpy(local.sun_path, path, strlen(path) + 1);
    if (connect(fd, (struct sockaddr *)&local, sizeof local)) die("listen: connect");
    return fd;
}

static void reader_reply(reader *r, int fd)
{
    dnstap_bytes reply;

    while ((reply = dnstap_frame_reader_next(&r->frames)).size) {
        ssize_t n = write(fd, reply.data, reply.size);

        if (n < 0) die("listen: write");
        dnstap_frame_reader_sent(&r->frames, (size_t)n);
    }
}

/* Each sink tells by a byte that it is sent to. */
static void reader_take(reader *r, const dnstap_frame *frame, int report)
{
    if (frame->kind == DNSTAP_FRAME_DATA) {
        sink_check(&reader_expected, &r->report, frame->payload.data, frame->payload.size);
        r->report.frames++;
        r->report.bytes += frame->payload.size;
    } else if (frame->control == DNSTAP_CONTROL_START && write(report, "", 1) != 1) {
        die("listen: report");
    }
}

/* Reads once; false: it is over. */
static bool reader_read(reader *r, int fd, int report)
{
    ssize_t n = read(fd, sink_buffer, sizeof sink_buffer);
    dnstap_frame frame;
    size_t at = 0;
    long taken;

    if (n <= 0) die("listen: the tap closed without STOP");
    while (at < (size_t)n && r->frames.state != DNSTAP_READER_END) {
        taken = dnstap_frame_reader_feed(&r->frames, sink_buffer + at, (size_t)n - at, &frame);
        if (taken < 0) die("listen: not Frame Streams");
        at += (size_t)taken;
        if (frame.kind != DNSTAP_FRAME_NONE) reader_take(r, &frame, report);
    }
    reader_reply(r, fd);
    return r->frames.state != DNSTAP_READER_END;
}

static int readers_main(const char *path, unsigned count, int report)
{
    unsigned i, open = count;

    sink_expect(&reader_expected, true, false);
    for (i = 0; i < count; i++) {
        dnstap_frame_reader_init(&readers[i].frames, readers[i].buffer, LISTEN_FRAME_MAX, true);
        reader_fds[i].fd = reader_connect(path);
        reader_fds[i].events = POLLIN;
    }
    while (open) {
        if (poll(reader_fds, count, -1) < 0) die("listen: poll");
        for (i = 0; i < count; i++) {
            if (!reader_fds[i].revents || reader_read(&readers[i], reader_fds[i].fd, report))
                continue;
            reader_fds[i].fd = -1;
            open--;
        }
    }
    for (i = 0; i < count; i++)
        if (write(report, &readers[i].report, sizeof(sink_report)) < 0) die("listen: report");
    return 0;
}

/* -- the tap's -- */

static dnstap_tap *open_listening(const sink *s)
{
    dnstap_options options = {0};
    dnstap_error error;
    dnstap_tap *tap;

    options.endpoint = s->endpoint;
    options.listen = true;
    options.max_sinks = options.max_pending = SINKS_MAX;
    options.full = true;
    options.identity = IDENTITY;
    options.version = VERSION;
    tap = dnstap_open(&options, &error);
    if (tap && dnstap_start(tap) == DNSTAP_OK) return tap;
    fprintf(stderr, "listen: %s\n", error.text);
    exit(1);
}

/* Returns when all are there. */
static void start_readers(sink *s, unsigned count)
{
    char number[12], fd[12];
    int report[2];
    unsigned i;

    if (pipe(report)) die("listen: pipe");
    s->report = report[0];
    snprintf(number, sizeof number, "%u", count);
    snprintf(fd, sizeof fd, "%d", report[1]);
    s->pid = fork();
    if (s->pid < 0) die("listen: fork");
    if (s->pid == 0) {
        execl(program, program, "readers", s->path, number, fd, (char *)NULL);
        die(program);
    }
    close(report[1]);
    for (i = 0; i < count; i++) sink_wait(s);
}

static void end_readers(sink *s, unsigned count, uint64_t messages)
{
    sink_report r;
    unsigned i;

    for (i = 0; i < count; i++) {
        sink_read(s, &r, sizeof r);
        if (r.frames == messages && !r.wrong) continue;
        fprintf(stderr, "listen: sink %u of %u: %lu of %lu messages arrived, %lu of them wrong\n",
                i + 1, count, (unsigned long)r.frames, (unsigned long)messages,
                (unsigned long)r.wrong);
        exit(1);
    }
    close(s->report);
    waitpid(s->pid, NULL, 0);
    unlink(s->path);
}

/* The tap counts a sink right after it has sent START to it. */
static void await_sinks(dnstap_tap *tap, unsigned count)
{
    dnstap_status status;
    unsigned tries;

    for (tries = 0; tries < 1000; tries++) {
        dnstap_get_status(tap, &status);
        if (status.sinks == count) return;
        usleep(10000);
    }
    die("listen: the tap does not know its sinks");
}

/* CPU of this thread in ns. */
static uint64_t log_batch(dnstap_tap *tap, event events[MIX], uint64_t first)
{
    uint64_t start = clock_ns(CLOCK_THREAD_CPUTIME_ID), i;
    dnstap_message m;

    for (i = first; i < first + BATCH; i++) {
        fill_ours(&m, next_event(events, i));
        if (dnstap_log(tap, &m) != 1) die("listen: dropped");
    }
    return clock_ns(CLOCK_THREAD_CPUTIME_ID) - start;
}

/* Returns ns of dnstap_log for each message, and writes the row of all. Between batches it waits
 * until they are out, so that no sink falls behind. */
static double run(unsigned count, uint64_t messages)
{
    event events[MIX];
    uint64_t cpu, logging = 0, n;
    dnstap_tap *tap;
    char name[32];
    sink s = {0};

    sink_path(&s);
    snprintf(s.endpoint, sizeof s.endpoint, "unix://%s", s.path);
    tap = open_listening(&s);
    start_readers(&s, count);
    await_sinks(tap, count);
    make_events(events);
    cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    for (n = 0; n < messages; n += BATCH) {
        logging += log_batch(tap, events, n);
        if (dnstap_flush(tap, 10000) < 0) die("listen: dnstap_flush");
    }
    if (dnstap_close(tap, 10000) != DNSTAP_OK) die("listen: dnstap_close left messages behind");
    cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    end_readers(&s, count, n);
    snprintf(name, sizeof name, "listen_%u", count);
    row(name, "ns", "ours", (double)cpu / (double)n / count);
    return (double)logging / (double)n;
}

int main(int argc, char **argv)
{
    static const unsigned counts[3] = {1, 4, SINKS_MAX};
    double cost[3];
    int i, n;

    program = argv[0];
    signal(SIGPIPE, SIG_IGN);
    if (argc == 5 && !strcmp(argv[1], "readers"))
        return readers_main(argv[2], (unsigned)atoi(argv[3]), atoi(argv[4]));
    if (argc != 3) return 2;
    for (i = 0; i < atoi(argv[1]); i++) {
        for (n = 0; n < 3; n++) cost[n] = run(counts[n], strtoull(argv[2], NULL, 10));
        row("listen_log", "ns", "peer", cost[0]);
        row("listen_log", "ns", "ours", cost[2]);
    }
    return 0;
}
