/* loop.c: inputs to outputs, until there is no more to do. Sockets are served at once; files, in
 * the order they were given in, no faster than every output takes what they bring. */
#include "tool.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- signals ------------------------------------------------------------------------------- */

static volatile sig_atomic_t stopping, reopening;
static int wake[2]; /* a pipe, so that a signal right before poll ends it too */

void wake_loop(void)
{
    const int saved = errno;
    if (write(wake[1], "", 1) < 0) errno = saved; /* a full pipe wakes, too */
    errno = saved;
}

bool is_stopping(void) { return stopping != 0; }

/* The first SIGINT or SIGTERM ends the program in order, a second one at once. */
static void handle(int number)
{
    if (number == SIGHUP) {
        reopening = 1;
    } else {
        stopping = 1;
        signal(SIGINT, SIG_DFL);
        signal(SIGTERM, SIG_DFL);
    }
    wake_loop();
}

static bool on_signal(int number, void (*handler)(int))
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    sigemptyset(&action.sa_mask);
    action.sa_handler = handler;
    return sigaction(number, &action, NULL) == 0;
}

/* What a write can raise is an error of the write. */
bool catch_signals(void)
{
    return pipe(wake) == 0 && fcntl(wake[0], F_SETFL, O_NONBLOCK) == 0 &&
           fcntl(wake[1], F_SETFL, O_NONBLOCK) == 0 && fcntl(wake[0], F_SETFD, FD_CLOEXEC) == 0 &&
           fcntl(wake[1], F_SETFD, FD_CLOEXEC) == 0 && on_signal(SIGPIPE, SIG_IGN) &&
           on_signal(SIGXFSZ, SIG_IGN) && on_signal(SIGHUP, handle) && on_signal(SIGINT, handle) &&
           on_signal(SIGTERM, handle);
}

uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* ---- turns --------------------------------------------------------------------------------- */

enum { LAST_MS = 1000, CONNECTIONS = 64 };

typedef struct loop {
    const settings *settings;
    input *inputs;
    outputs outputs;
    struct pollfd *fds;
    int fds_each;      /* descriptors of an input */
    uint64_t until_ms; /* the time for what reached the sockets before the end; 0: none yet */
} loop;

static input *inputs_end(const loop *l) { return l->inputs + l->settings->input_count; }

static void sooner(int *timeout_ms, int ms)
{
    if (ms >= 0 && (*timeout_ms < 0 || ms < *timeout_ms)) *timeout_ms = ms;
}

/* Sockets always have a turn, of the files the first that has not ended, if the outputs are ready.
 * False: nobody will ever have one, all is done. Collects what to wait for in n descriptors, the
 * signals' own among them. */
static bool take_turns(loop *l, nfds_t *descriptors, int *timeout_ms)
{
    bool reading = is_stopping(), any = false;
    nfds_t n = 1;
    *timeout_ms = reading ? 0 : -1;
    for (input *in = l->inputs; in < inputs_end(l); in++) {
        int ms = -1;
        in->turn = 0;
        if (in->ended || (in->file && reading)) continue;
        any = true;
        reading = reading || (in->file && !in->follows);
        if (in->file && !outputs_ready(&l->outputs, timeout_ms)) continue;
        in->turn = n;
        n += (nfds_t)dnstap_sink_pollfds(in->sink, l->fds + n, l->fds_each, &ms);
        sooner(timeout_ms, ms);
    }
    *descriptors = n;
    return any;
}

/* Sockets are served whatever poll said, for their deadlines; a file that is a pipe would block,
 * unless what it brings is in memory already: -1. */
static bool is_due(const loop *l, const input *in)
{
    const struct pollfd *fd = &l->fds[in->turn];
    return in->turn > 0 && (!in->file || fd->fd < 0 || fd->revents);
}

static void serve(loop *l)
{
    for (input *in = l->inputs; in < inputs_end(l); in++) {
        if (!is_due(l, in)) continue;
        in->ended = dnstap_sink_service(in->sink) == DNSTAP_END;
        if (in->file) show_reading(in);
    }
}

static void drain_wake(void)
{
    char any[64];
    while (read(wake[0], any, sizeof any) > 0) {
    }
}

/* Until the files are read, all outputs have failed, or a signal comes; then sockets still have a
 * moment to deliver what has reached them. What is put together is handed over before each wait. */
static void run(loop *l)
{
    nfds_t n;
    int timeout_ms;
    l->fds[0].fd = wake[0];
    l->fds[0].events = POLLIN;
    while (outputs_flush(&l->outputs) && !choose_done() && take_turns(l, &n, &timeout_ms)) {
        const bool last = is_stopping();
        const int ready = poll(l->fds, n, timeout_ms);
        if (last && !l->until_ms) l->until_ms = now_ms() + LAST_MS;
        if (last && (ready == 0 || now_ms() > l->until_ms)) return;
        drain_wake();
        if (ready >= 0) serve(l);
        if (!reopening) continue;
        reopening = 0;
        outputs_reopen(&l->outputs);
    }
}

/* ---- from beginning to end ------------------------------------------------------------------ */

/* A file that is read must not be emptied by writing it. */
static bool is_input(const settings *s, const given *g)
{
    struct stat in, out;
    if (g->flag != 'w' || stat(g->name, &out) < 0 || !S_ISREG(out.st_mode)) return false;
    for (size_t i = 0; i < s->input_count; i++) {
        const char *name = s->inputs[i].name;
        if (s->inputs[i].flag == 'r' &&
            (strcmp(name, "-") ? stat(name, &in) : fstat(STDIN_FILENO, &in)) == 0 &&
            in.st_dev == out.st_dev && in.st_ino == out.st_ino)
            return true;
    }
    return false;
}

/* Inputs first: what is in the output's file stays when one of them does not open. */
static bool open_all(loop *l)
{
    const settings *s = l->settings;
    for (size_t i = 0; i < s->input_count; i++) {
        l->inputs[i].outputs = &l->outputs;
        if (!input_open(&l->inputs[i], s->inputs[i].flag, s->inputs[i].name, &s->how)) return false;
    }
    for (size_t i = 0; i < s->output_count; i++) {
        if (!is_input(s, &s->outputs[i])) continue;
        complain("%s: is an input, too", s->outputs[i].name);
        return false;
    }
    if (!outputs_open(&l->outputs, s)) return false;
    for (input *in = l->inputs; in < inputs_end(l); in++)
        if (!in->file) complain("%s: %s", in->name, in->connects ? "connecting" : "listening");
    return true;
}

static bool run_all(loop *l)
{
    bool well = open_all(l);
    if (well) run(l);
    show_line(NULL);
    for (input *in = l->inputs; in < inputs_end(l); in++) well = input_close(in) && well;
    return outputs_close(&l->outputs) && well;
}

int receive_all(const settings *s)
{
    const uint32_t connections = s->how.max_connections ? s->how.max_connections : CONNECTIONS;
    loop l;
    bool well = false;
    memset(&l, 0, sizeof l);
    l.settings = s;
    l.fds_each = (int)connections + 1;
    l.inputs = (input *)calloc(s->input_count, sizeof *l.inputs);
    l.fds = (struct pollfd *)calloc(s->input_count * ((size_t)connections + 1) + 1, sizeof *l.fds);
    if (!l.inputs || !l.fds)
        complain("start: %s", strerror(errno));
    else
        well = run_all(&l);
    free(l.fds);
    free(l.inputs);
    return well ? EXIT_SUCCESS : EXIT_FAILURE;
}
