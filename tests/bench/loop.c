/* What a tap costs a server that answers UDP: CPU that it adds, for each of two full messages a
 * query. Three servers run at once in processes of their own, ours, the peer's and one without a
 * tap (server.h); this process asks them in turn, a slice of queries each, with a bounded number
 * in flight, so that what else the machine does weighs on all alike.
 * usage: loop LOOP REPETITIONS SLICES           LOOP: poll, epoll, threads
 *        loop calls LOOP SIDE QUERIES STRACE    system calls: strace writes into the file STRACE
 * Queries come in batches: a server sleeps before each of them, and within none. What it does after
 * its slice, such as a delayed flush, counts for that slice. A server without a tap waits without a
 * time-out; one with a tap has one while something is queued, which costs it in the kernel. */
#define _GNU_SOURCE
#include "server.h"
#include <fcntl.h>
#include <netinet/udp.h>
#include <signal.h>

enum {
    WINDOW = 32,         /* queries in flight, for each worker */
    SLICE = 10 * WINDOW, /* queries asked of one server in turn */
    SERVERS = 3,
    SLICES_MAX = 1000,
    REPETITIONS_MAX = 100
};
static const char *const sides[SERVERS] = {"ours", "peer", "none"};
static const char *program;

typedef struct server {
    const char *side;
    pid_t pid;
    int report;
    server_hello hello;
    clockid_t clock; /* CPU of its process */
    uint64_t queries;
    uint64_t spent, paid; /* CPU in ns, and queries, when its last slice began */
} server;

static int client = -1;

/* -- questions -- */

static event questions[MIX];

/* A batch is one system call, which the system cuts into datagrams: so they lie in the server's
 * queue before it has answered the first, and it never sleeps for want of the next. */
static void client_open(void)
{
    int size;

    make_events(questions);
    size = (int)questions[0].query_size;
    client = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (client < 0 || setsockopt(client, SOL_UDP, UDP_SEGMENT, &size, sizeof size))
        die("loop: UDP_SEGMENT");
}

static void send_to_all(server *s, const void *data, size_t size)
{
    unsigned i;

    for (i = 0; i < s->hello.workers; i++)
        if (sendto(client, data, size, 0, (struct sockaddr *)&s->hello.address[i],
                   sizeof s->hello.address[i]) != (ssize_t)size)
            die("loop: sendto");
}

static void server_order(server *s, char order) { send_to_all(s, &order, 1); }

/* A batch of queries for each worker. */
static void ask(server *s)
{
    uint8_t batch[WINDOW * DNS_MAX];
    size_t size = questions[0].query_size, i;

    for (i = 0; i < WINDOW; i++) memcpy(batch + i * size, questions[0].query, size);
    send_to_all(s, batch, WINDOW * size);
}

/* Takes n answers. It looks for them from time to time: if it slept in recv, each answer would wake
 * it, on the server's account. */
static void hear(unsigned n)
{
    uint64_t begin = clock_ns(CLOCK_MONOTONIC);
    uint8_t answer[DNS_MAX];

    while (n) {
        if (recv(client, answer, sizeof answer, MSG_DONTWAIT) > 0)
            n--;
        else if (errno != EAGAIN || clock_ns(CLOCK_MONOTONIC) - begin > 10000000000u)
            die("loop: the server does not answer");
        else
            usleep(20);
    }
}

/* In batches: when one is answered the next one is asked. */
static void drive(server *s, uint64_t count)
{
    uint64_t done, batch = WINDOW * s->hello.workers;

    for (done = 0; done < count; done += batch) {
        ask(s);
        hear((unsigned)batch);
    }
    s->queries += done;
}

/* -- servers -- */

static void server_exec(const char *loop, const char *side, const char *trace)
{
    if (trace)
        execlp("strace", "strace", "-f", "-o", trace, program, "server", loop, side, "1",
               (char *)NULL);
    else
        execl(program, program, "server", loop, side, "0", (char *)NULL);
    die(trace ? "strace" : program);
}

static void server_read(const server *s, void *out, size_t size)
{
    if (read(s->report, out, size) == (ssize_t)size) return;
    fprintf(stderr, "loop: the server %s ended badly\n", s->side);
    exit(1);
}

/* trace: strace's file; NULL: not watched. */
static void server_start(server *s, const char *loop, const char *side, const char *trace)
{
    int report[2];

    memset(s, 0, sizeof *s);
    s->side = side;
    if (pipe2(report, O_CLOEXEC)) die("loop: pipe");
    s->report = report[0];
    s->pid = fork();
    if (s->pid < 0) die("loop: fork");
    if (s->pid == 0) {
        dup2(report[1], SERVER_REPORT);
        server_exec(loop, side, trace);
    }
    close(report[1]);
    server_read(s, &s->hello, sizeof s->hello);
    if (clock_getcpuclockid(s->pid, &s->clock)) die("loop: clock_getcpuclockid");
}

/* What was logged must have arrived, two messages for each of `logged` queries. */
static server_report server_end(server *s, uint64_t logged)
{
    server_report r;
    bool all;

    server_order(s, ORDER_END);
    server_read(s, &r, sizeof r);
    close(s->report);
    waitpid(s->pid, NULL, 0);
    all = r.sink.frames == r.accepted && !r.sink.wrong &&
          r.accepted + r.dropped == (strcmp(s->side, "none") ? 2 * logged : 0) &&
          !(r.dropped && !strcmp(s->side, "ours"));
    fprintf(stderr,
            "loop: %s: %lu queries logged, %lu messages accepted, %lu dropped, %lu arrived, "
            "%lu of them wrong\n",
            s->side, (unsigned long)logged, (unsigned long)r.accepted, (unsigned long)r.dropped,
            (unsigned long)r.sink.frames, (unsigned long)r.sink.wrong);
    if (!all) exit(1);
    return r;
}

/* -- modes -- */

/* CPU since its last slice began, for each query. */
static double lap(server *s)
{
    uint64_t now = clock_ns(s->clock), spent = now - s->spent, n = s->queries - s->paid;

    s->spent = now;
    s->paid = s->queries;
    return n ? (double)spent / (double)n : 0;
}

/* A slice is paid for when the server's next one begins. costs: SLICES_MAX for each server. */
static void measure(server servers[SERVERS], double (*costs)[SLICES_MAX], unsigned slices)
{
    unsigned n, i;

    for (n = 0; n <= slices; n++) {
        for (i = 0; i < SERVERS; i++) {
            double cost = lap(&servers[i]);

            if (n) costs[i][n - 1] = cost;
            drive(&servers[i], SLICE);
        }
    }
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* What else the machine does makes some slices dearer, none cheaper: the lower quartile. */
static double quartile(double *costs, unsigned n)
{
    qsort(costs, n, sizeof *costs, compare_doubles);
    return costs[n / 4];
}

/* Added for each query, once for ours and once for the peer's. */
static void repeat(server servers[SERVERS], unsigned slices, double added[2])
{
    static double costs[SERVERS][SLICES_MAX];
    double cost[SERVERS];
    unsigned i;

    measure(servers, costs, slices);
    for (i = 0; i < SERVERS; i++) cost[i] = quartile(costs[i], slices);
    for (i = 0; i < 2; i++) added[i] = cost[i] - cost[2];
    fprintf(stderr, "loop: a query takes: ours %.0f, peer %.0f, none %.0f ns\n", cost[0], cost[1],
            cost[2]);
}

/* For each message that was accepted: the peer drops some when its thread does not keep up. The
 * warm-up connects, and touches each page of the rings: a server that runs for long has that behind
 * it. */
static int compare(const char *loop, unsigned repetitions, unsigned slices)
{
    double added[REPETITIONS_MAX][2], accepted[SERVERS];
    server servers[SERVERS];
    char name[32];
    unsigned i, n;

    for (i = 0; i < SERVERS; i++) server_start(&servers[i], loop, sides[i], NULL);
    for (i = 0; i < SERVERS; i++) drive(&servers[i], repetitions * slices * SLICE / 3);
    for (n = 0; n < repetitions; n++) repeat(servers, slices, added[n]);
    for (i = 0; i < SERVERS; i++) {
        server_report r = server_end(&servers[i], servers[i].queries);

        accepted[i] = (double)r.accepted / (double)servers[i].queries;
    }
    snprintf(name, sizeof name, "loop_%s", loop);
    for (n = 0; n < repetitions; n++)
        for (i = 0; i < 2; i++) row(name, "ns", sides[i], added[n][i] / accepted[i]);
    return 0;
}

/* Marks stand around turns that log, and around turns that log nothing. */
static int calls(const char *loop, const char *side, uint64_t count, const char *trace)
{
    server s;
    server_report r;
    uint64_t logged;

    server_start(&s, loop, side, trace);
    drive(&s, SLICE);
    server_order(&s, ORDER_MARK);
    drive(&s, count);
    server_order(&s, ORDER_MARK);
    logged = s.queries;
    server_order(&s, ORDER_QUIET);
    usleep(300000); /* what is queued is flushed meanwhile */
    server_order(&s, ORDER_MARK);
    drive(&s, count);
    server_order(&s, ORDER_MARK);
    r = server_end(&s, logged);
    if (!strcmp(side, "ours") && !strcmp(loop, "poll"))
        row("loop_clocks", "calls/turn", "ours", (double)r.clocks / (double)r.turns);
    return 0;
}

int main(int argc, char **argv)
{
    unsigned repetitions, slices;

    program = argv[0];
    signal(SIGPIPE, SIG_IGN);
    if (argc == 6 && !strcmp(argv[1], "sink"))
        return sink_main(atoi(argv[2]), atoi(argv[3]), argv[4][0] == '1', argv[5][0] == '1');
    if (argc == 5 && !strcmp(argv[1], "server"))
        return server_main(program, argv[2], argv[3], argv[4][0] == '1');
    client_open();
    if (argc == 6 && !strcmp(argv[1], "calls"))
        return calls(argv[2], argv[3], strtoull(argv[4], NULL, 10), argv[5]);
    repetitions = argc == 4 ? (unsigned)atoi(argv[2]) : 0;
    slices = argc == 4 ? (unsigned)atoi(argv[3]) : 0;
    if (!repetitions || repetitions > REPETITIONS_MAX || !slices || slices > SLICES_MAX) return 2;
    return compare(argv[1], repetitions, slices);
}
