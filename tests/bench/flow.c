/* End to end: producers, the library's own thread, a socket and a sink; ours and the peer's in
 * turn. The peer is what servers use today: libfstrm's I/O thread with its default options,
 * payloads by protobuf-c in buffers of malloc.
 * usage: flow MODE REPETITIONS AMOUNT [RATE]; modes, and what AMOUNT is:
 *   unix, tcp   messages of the peer (we send four times as many): nothing is lost, what does not
 *               fit is tried again
 *   capture     the same into fstrm_capture, which counts
 *   check       a file: what fstrm_capture wrote there is compared
 *   threads     messages of one thread, and of two; ours only
 *   drop        milliseconds at full speed: what does not fit is dropped
 *   paced       milliseconds at RATE messages a second, in bursts of 32; the lowest of three
 *               runs; CPU is what that adds to the same program without a tap
 *   first       milliseconds of silence before each of REPETITIONS messages
 *   idle        seconds of silence between two marks, for strace; REPETITIONS is a side
 *   produce     messages at RATE a second, for callgrind; REPETITIONS is a side
 * CPU is this whole process's: the producer, and the thread that sends. */
#include "sides.h"
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>

enum { THREADS = 2, BURST = 32 };
static const char *program;

/* -- the sides -- */

typedef struct job {
    event events[MIX];
    struct fstrm_iothr_queue *queue; /* the peer's */
    uint64_t count, accepted, retries, dropped, bytes;
    double rate; /* messages a second */
} job;

static inline bool submit_ours(job *j, const event *e)
{
    (void)j;
    return log_ours(e);
}

static inline bool submit_peer(job *j, const event *e) { return log_peer(j->queue, e); }

/* The same program without a tap. */
static inline bool submit_none(job *j, const event *e)
{
    (void)j;
    __asm__ volatile("" : : "r"(e) : "memory");
    return true;
}

/* -- producers; each exists once per side, so that the compiler sees what it calls -- */

#define ALWAYS static inline __attribute__((always_inline))
typedef bool submit(job *j, const event *e);

/* Nothing is lost: what does not fit is tried again when others have run. */
ALWAYS void produce_all(job *j, submit *f)
{
    uint64_t i;

    for (i = 0; i < j->count; i++) {
        const event *e = next_event(j->events, i);

        for (; !f(j, e); j->retries++) sched_yield();
    }
    j->accepted = j->count;
}

/* What does not fit is dropped. now: the time stamp, or NULL. */
ALWAYS void produce_burst(job *j, submit *f, uint64_t first, const struct timespec *now)
{
    uint64_t i;

    for (i = first; i < first + BURST; i++) {
        event *e = next_event(j->events, i);

        if (now) e->asked = *now;
        if (f(j, e))
            j->accepted++;
        else
            j->dropped++;
    }
}

__attribute__((noinline)) static void burst_ours(job *j, uint64_t first, const struct timespec *now)
{
    produce_burst(j, submit_ours, first, now);
}
__attribute__((noinline)) static void burst_peer(job *j, uint64_t first, const struct timespec *now)
{
    produce_burst(j, submit_peer, first, now);
}
__attribute__((noinline)) static void burst_none(job *j, uint64_t first, const struct timespec *now)
{
    produce_burst(j, submit_none, first, now);
}
static void all_ours(job *j) { produce_all(j, submit_ours); }
static void all_peer(job *j) { produce_all(j, submit_peer); }

typedef struct side {
    const char *name;
    void (*open)(const sink *s, unsigned threads);
    void (*close)(void);
    void (*all)(job *j);
    void (*burst)(job *j, uint64_t first, const struct timespec *now);
} side;
static const side sides[2] = {{"ours", open_ours, close_ours, all_ours, burst_ours},
                              {"peer", open_peer, close_peer, all_peer, burst_peer}};
static const side bare = {"none", NULL, NULL, NULL, burst_none};

/* At full speed for count nanoseconds. */
static void produce_drop(const side *s, job *j)
{
    uint64_t end = clock_ns(CLOCK_MONOTONIC) + j->count, i;

    for (i = 0; clock_ns(CLOCK_MONOTONIC) < end; i += BURST) s->burst(j, i, NULL);
}

static void sleep_until(uint64_t ns)
{
    struct timespec t;

    t.tv_sec = (time_t)(ns / 1000000000u);
    t.tv_nsec = (long)(ns % 1000000000u);
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
}

static void produce_paced(const side *s, job *j)
{
    uint64_t start = clock_ns(CLOCK_MONOTONIC), i;
    struct timespec now;

    for (i = 0; i < j->count; i += BURST) {
        sleep_until(start + (uint64_t)((double)i * 1e9 / j->rate));
        clock_gettime(CLOCK_REALTIME, &now);
        s->burst(j, i, &now);
    }
}

/* -- one run -- */

typedef enum mode { LOSSLESS, DROP, PACED } mode;

typedef struct run {
    const side *side;
    mode mode;
    bool tcp;
    const char *file; /* fstrm_capture writes to it; NULL: our sink */
    unsigned threads;
    uint64_t count;
    double rate;
    /* what came of it */
    uint64_t cpu;              /* ns in all */
    double cpu_ns, per_second; /* for each message that arrived */
    uint64_t arrived, dropped, retries;
    sink_report report;
} run;

static job jobs[THREADS];
static const run *current;
static pthread_barrier_t barrier;

static void *produce(void *argument)
{
    job *j = argument;

    pthread_barrier_wait(&barrier);
    if (current->mode == LOSSLESS)
        current->side->all(j);
    else if (current->mode == DROP)
        produce_drop(current->side, j);
    else
        produce_paced(current->side, j);
    return NULL;
}

static void start_producers(const run *r, pthread_t threads[THREADS])
{
    unsigned i;

    current = r;
    pthread_barrier_init(&barrier, NULL, r->threads + 1);
    for (i = 0; i < r->threads; i++) {
        memset(&jobs[i], 0, sizeof jobs[i]);
        make_events(jobs[i].events);
        jobs[i].count = r->mode == DROP ? r->count : r->count / r->threads;
        jobs[i].rate = r->rate;
        if (io_thread) jobs[i].queue = fstrm_iothr_get_input_queue_idx(io_thread, i);
        if (pthread_create(&threads[i], NULL, produce, &jobs[i])) die("flow: thread");
    }
}

/* What was accepted must have arrived, each frame as expected. */
static void check(run *r)
{
    uint64_t accepted = 0;
    unsigned i;

    for (i = 0; i < r->threads; i++) {
        accepted += jobs[i].accepted;
        r->dropped += jobs[i].dropped;
        r->retries += jobs[i].retries;
    }
    r->arrived = r->side == &bare ? accepted : r->report.frames;
    if (r->arrived == accepted && !r->report.wrong) return;
    fprintf(stderr, "flow: %s: %lu accepted, %lu arrived, %lu of them wrong\n", r->side->name,
            (unsigned long)accepted, (unsigned long)r->arrived, (unsigned long)r->report.wrong);
    exit(1);
}

/* Starts the sink, and connects to it. */
static void begin(const run *r, sink *s)
{
    if (r->file)
        capture_start(s, r->file);
    else
        sink_start(s, program, r->tcp, r->mode == LOSSLESS && r->threads == 1, r->mode == PACED);
    r->side->open(s, r->threads);
    if (r->file)
        usleep(200000); /* fstrm discards until it is connected, and can't be asked */
    else
        sink_wait(s);
}

static void go(run *r)
{
    pthread_t threads[THREADS];
    uint64_t cpu, wall;
    unsigned i;
    sink s;

    if (r->side != &bare) begin(r, &s);
    start_producers(r, threads);
    cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    wall = clock_ns(CLOCK_MONOTONIC);
    pthread_barrier_wait(&barrier);
    for (i = 0; i < r->threads; i++) pthread_join(threads[i], NULL);
    if (r->side != &bare) r->side->close(); /* all is delivered after it */
    r->cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    wall = clock_ns(CLOCK_MONOTONIC) - wall;
    if (r->side != &bare) r->report = r->file ? capture_end(&s) : sink_end(&s);
    check(r);
    r->cpu_ns = (double)r->cpu / (double)r->arrived;
    r->per_second = (double)r->arrived * 1e9 / (double)wall;
}

static void note(const char *name, const run *r)
{
    fprintf(stderr, "flow: %s %s: %lu arrived, %lu dropped, %lu tried again; %.0f/s, %.1f ns", name,
            r->side->name, (unsigned long)r->arrived, (unsigned long)r->dropped,
            (unsigned long)r->retries, r->per_second, r->cpu_ns);
    if (r->mode == PACED)
        fprintf(stderr, "; p50 %.0f, p99 %.0f, max %.0f us", r->report.p50, r->report.p99,
                r->report.max);
    fputs("\n", stderr);
}

static double dropped(const run *r)
{
    return 100.0 * (double)r->dropped / (double)(r->dropped + r->arrived);
}

static run make_run(const side *s, mode m, uint64_t count)
{
    run r;

    memset(&r, 0, sizeof r);
    r.side = s;
    r.mode = m;
    r.threads = 1;
    r.count = count;
    return r;
}

/* -- modes -- */

static void row_of(const char *name, const char *what, const char *unit, const char *side_name,
                   double value)
{
    char full[64];

    snprintf(full, sizeof full, "%s_%s", name, what);
    row(full, unit, side_name, value);
}

/* unix, tcp and capture */
static void lossless(const char *name, uint64_t count)
{
    size_t i;

    for (i = 2; i-- > 0;) {
        run r = make_run(&sides[i], LOSSLESS, i ? count : 4 * count);

        r.tcp = !strcmp(name, "tcp");
        if (!strcmp(name, "capture")) r.file = "/dev/null";
        go(&r);
        note(name, &r);
        row_of(name, "rate", "messages/s", r.side->name, r.per_second);
        if (!r.file) row_of(name, "cpu", "ns", r.side->name, r.cpu_ns);
    }
}

/* What fstrm_capture has written must be what was accepted. */
static void check_capture(const char *file)
{
    static sink_expected expected;
    sink_report report;
    size_t i;
    int fd;

    sink_expect(&expected, true, false);
    for (i = 0; i < 2; i++) {
        run r = make_run(&sides[i], LOSSLESS, 20000);

        r.file = file;
        go(&r);
        fd = open(file, O_RDONLY);
        memset(&report, 0, sizeof report);
        sink_have = 0;
        if (fd < 0 || sink_control(fd) != DNSTAP_CONTROL_START) die("flow: fstrm_capture's file");
        while (!sink_walk(&expected, &report))
            if (!sink_fill(fd)) die("flow: fstrm_capture's file ends without STOP");
        close(fd);
        unlink(file);
        if (report.frames != r.arrived || report.wrong) die("flow: fstrm_capture's file is wrong");
    }
}

static void threads(uint64_t count)
{
    unsigned n;

    for (n = 1; n <= THREADS; n++) {
        run r = make_run(sides, LOSSLESS, count);

        r.threads = n;
        go(&r);
        note(n == 1 ? "one thread" : "two threads", &r);
        row("threads_2", "ns", n == 1 ? "peer" : "ours", r.cpu_ns);
    }
}

static void drop(uint64_t ms)
{
    size_t i;

    for (i = 2; i-- > 0;) {
        run r = make_run(&sides[i], DROP, ms * 1000000);

        go(&r);
        note("drop", &r);
        row("drop_delivered", "messages/s", r.side->name, r.per_second);
        row("drop_dropped", "%", r.side->name, dropped(&r));
    }
}

/* Runs each side in turn, and keeps of each run what was lowest: what else the machine does only
 * adds. */
static void lowest_of_three(run lowest[3], double rate, uint64_t count)
{
    const side *all[3] = {&sides[0], &sides[1], &bare};
    int i;

    for (i = 0; i < 9; i++) {
        run r = make_run(all[i % 3], PACED, count), *low = &lowest[i % 3];
        double p99;

        r.rate = rate;
        go(&r);
        note("paced", &r);
        p99 = i < 3 || r.report.p99 < low->report.p99 ? r.report.p99 : low->report.p99;
        if (i < 3 || r.cpu_ns < low->cpu_ns) *low = r;
        low->report.p99 = p99;
    }
}

/* What the same program costs without a tap is taken off both sides. */
static void paced(double rate, uint64_t ms)
{
    char cpu[32], p99[32], lost[32];
    run runs[3];
    size_t i;

    snprintf(cpu, sizeof cpu, "paced_cpu_%.0fk", rate / 1000);
    snprintf(p99, sizeof p99, "paced_p99_%.0fk", rate / 1000);
    snprintf(lost, sizeof lost, "paced_dropped_%.0fk", rate / 1000);
    lowest_of_three(runs, rate, (uint64_t)(rate * (double)ms / 1000));
    for (i = 0; i < 2; i++) {
        double added = (double)runs[i].cpu - (double)runs[2].cpu;

        row(cpu, "ns", sides[i].name, added / (double)runs[i].arrived);
        row(p99, "us", sides[i].name, runs[i].report.p99);
        row(lost, "%", sides[i].name, dropped(&runs[i]));
    }
}

/* Both are connected at once, and log a message in turn: each has twice the pause between. */
static void first(int repetitions, uint64_t ms)
{
    static job j;
    sink s[2];
    size_t i;
    uint64_t due = clock_ns(CLOCK_MONOTONIC);
    int n;

    make_events(j.events);
    for (i = 0; i < 2; i++) {
        sink_start(&s[i], program, false, false, true);
        sides[i].open(&s[i], 1);
        sink_wait(&s[i]);
    }
    j.queue = fstrm_iothr_get_input_queue_idx(io_thread, 0);
    for (n = 0; n < 2 * repetitions; n++) {
        event *e = next_event(j.events, (uint64_t)n);

        sleep_until(due += ms * 500000);
        clock_gettime(CLOCK_REALTIME, &e->asked);
        if (!(n % 2 ? submit_ours(&j, e) : submit_peer(&j, e))) die("flow: dropped");
    }
    for (i = 0; i < 2; i++) {
        sink_report r;

        sides[i].close();
        r = sink_end(&s[i]);
        if (r.frames != (uint64_t)repetitions || r.wrong) die("flow: first: not all arrived");
        fprintf(stderr, "flow: first %s: p50 %.0f, p99 %.0f, max %.0f us of %lu\n", sides[i].name,
                r.p50, r.p99, r.max, (unsigned long)r.frames);
        row("first_after_idle", "us", sides[i].name, r.p99);
    }
}

/* Connected, some messages sent, then nothing. The marks are system calls that strace shows. */
static void idle(const side *s, unsigned seconds)
{
    static job j;
    sink k;
    int i;

    make_events(j.events);
    sink_start(&k, program, false, false, false);
    s->open(&k, 1);
    sink_wait(&k);
    if (io_thread) j.queue = fstrm_iothr_get_input_queue_idx(io_thread, 0);
    s->burst(&j, 0, NULL);
    sleep_until(clock_ns(CLOCK_MONOTONIC) + 1500000000u);
    for (i = 0; i < 2; i++) {
        if (write(-1, "mark", 4) == 4) return;
        if (!i) sleep_until(clock_ns(CLOCK_MONOTONIC) + seconds * 1000000000ull);
    }
    s->close();
    if (sink_end(&k).frames != BURST) die("flow: idle: not all arrived");
}

/* Slow enough that nothing is refused, under callgrind too. */
static void produce_slowly(const side *s, uint64_t count, double rate)
{
    run r = make_run(s, PACED, count);

    r.rate = rate;
    go(&r);
    note("produce", &r);
    if (r.dropped) die("flow: dropped");
}

static const side *side_of(const char *name) { return &sides[strcmp(name, "ours") != 0]; }

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";
    uint64_t amount = argc > 3 ? strtoull(argv[3], NULL, 10) : 0;
    int repetitions = argc > 3 ? atoi(argv[2]) : 0, i;

    program = argv[0];
    signal(SIGPIPE, SIG_IGN);
    if (!strcmp(name, "sink") && argc == 6)
        return sink_main(atoi(argv[2]), atoi(argv[3]), argv[4][0] == '1', argv[5][0] == '1');
    if (argc < 4) return 2;
    if (!strcmp(name, "first"))
        first(repetitions, amount);
    else if (!strcmp(name, "idle"))
        idle(side_of(argv[2]), (unsigned)amount);
    else if (!strcmp(name, "produce") && argc > 4)
        produce_slowly(side_of(argv[2]), amount, atof(argv[4]));
    else if (!strcmp(name, "check"))
        check_capture(argv[3]);
    else
        for (i = 0; i < repetitions; i++) {
            if (!strcmp(name, "threads"))
                threads(amount);
            else if (!strcmp(name, "drop"))
                drop(amount);
            else if (!strcmp(name, "paced") && argc > 4)
                paced(atof(argv[4]), amount);
            else
                lossless(name, amount);
        }
    return 0;
}
