/* dnstap: receives dnstap over Frame Streams, from files and sockets, and prints or stores it.
 * Build: make build/dnstap. main.c: the flags and the loop. */
#include "tool.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const char usage[] = /* fits a screen, 24 lines of 80; the rest is dnstap(1)'s */
    "usage: dnstap INPUT... [OUTPUT]... [FORMAT]    or: dnstap --check-config FILE\n"
    "Receives DNS events as dnstap, and prints or stores them.\n"
    "inputs: -r FILE    read a Frame Streams file (-: standard input)\n"
    "        -u PATH    listen on a unix socket (--socket-mode 0660 --socket-group G)\n"
    "        -l WHERE   listen on HOST:PORT, :PORT (all addresses), tls://HOST:PORT\n"
    "        -c WHERE   connect to a tap that listens there, or on unix://PATH\n"
    "  -t TIME for each step of a handshake (4s), --idle TIME, --max-connections 64\n"
    "output: -w FILE    add to it (--overwrite: begin anew); without a format: Frame\n"
    "                   Streams. - or no output: standard output, as quiet text\n"
    "TLS:    --tls-ca FILE --tls-cert FILE --tls-key FILE: the peer's CAs; our own\n"
    "        certificate; --tls-name NAME: in the peer's; --tls-insecure\n"
    "format: -q quiet text, a line a message   --exact JSON of every field, in hex\n"
    "--check-config FILE: read configuration text and print its taps, an object a\n"
    "  line; --lenient: what CoreDNS takes, and with its meaning. -h, --version\n"
    "It runs until files are read, with a socket until SIGINT or SIGTERM. SIGHUP: it\n"
    "goes on in what is at the file's path then. Exit status: 0 all well, 1 an input\n"
    "or output failed, if only in part, 2 usage or configuration. See dnstap(1).\n";

text_format *const formats[] = {NULL, quiet_print, exact_print};

void complain(const char *format, ...)
{
    char line[PATH_MAX + 512], out[4 * sizeof line];
    size_t n = 0;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    for (const char *c = line; *c; c++)
        n += (size_t)sprintf(out + n, *c >= ' ' && *c <= '~' ? "%c" : "\\x%02x", (unsigned char)*c);
    out[n] = '\0';
    fprintf(stderr, "dnstap: %s\n", out);
}

/* ---- signals ------------------------------------------------------------------------------- */

static volatile sig_atomic_t stopping, late, rotating;
static int wake[2]; /* a pipe, so that a signal right before poll ends it too */

/* A write that waits for a reader ends by each SIGALRM. */
static void handle(int number)
{
    const int saved = errno;
    if (number == SIGHUP)
        rotating = 1;
    else if (number == SIGALRM)
        late = 1;
    else
        stopping = 1;
    if (stopping) alarm(1);
    if (write(wake[1], "", 1) < 0) errno = saved; /* a full pipe wakes, too */
    errno = saved;
}

bool overdue(void) { return late != 0; }

static bool on_signal(int number, void (*handler)(int), unsigned how)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    sigemptyset(&action.sa_mask);
    action.sa_handler = handler;
    action.sa_flags = (int)how;
    return sigaction(number, &action, NULL) == 0;
}

/* The first SIGINT or SIGTERM ends the program in order, a second one at once. What a write can
 * raise is an error of the write. */
static bool catch_signals(void)
{
    return pipe(wake) == 0 && fcntl(wake[0], F_SETFL, O_NONBLOCK) == 0 &&
           fcntl(wake[1], F_SETFL, O_NONBLOCK) == 0 && on_signal(SIGPIPE, SIG_IGN, 0) &&
           on_signal(SIGXFSZ, SIG_IGN, 0) && on_signal(SIGALRM, handle, 0) &&
           on_signal(SIGHUP, handle, 0) && on_signal(SIGINT, handle, (unsigned)SA_RESETHAND) &&
           on_signal(SIGTERM, handle, (unsigned)SA_RESETHAND);
}

/* ---- the loop ------------------------------------------------------------------------------ */

enum { SINK_POLLFDS = 64 + 1 };

typedef struct tool {
    settings settings;
    input *inputs;
    output out;
    struct pollfd *fds;
} tool;

/* Gives out turns: sockets always have one, of the files the first that has not ended, so that they
 * come out in the order they were given in. False: nobody has one, all is done. Collects what to
 * wait for in n descriptors, the signals' own among them. */
static bool take_turns(tool *t, nfds_t *descriptors, int *timeout_ms)
{
    bool reading = stopping, any = false;
    nfds_t n = 1;
    t->fds[0].fd = wake[0];
    t->fds[0].events = POLLIN;
    *timeout_ms = stopping ? 0 : -1;
    for (input *in = t->inputs; in < t->inputs + t->settings.input_count; in++) {
        int ms = -1;
        in->turn = in->ended || (in->file && reading) ? 0 : n;
        if (in->turn == 0) continue;
        reading = reading || in->file;
        any = true;
        n += (nfds_t)dnstap_sink_pollfds(in->sink, t->fds + n, SINK_POLLFDS, &ms);
        if (ms >= 0 && (*timeout_ms < 0 || ms < *timeout_ms)) *timeout_ms = ms;
    }
    *descriptors = n;
    return any;
}

/* Sockets are served whatever poll said, for their deadlines; a file that is a pipe would block. */
static void serve(tool *t)
{
    for (input *in = t->inputs; in < t->inputs + t->settings.input_count; in++)
        if (in->turn > 0 && (!in->file || t->fds[in->turn].revents))
            in->ended = dnstap_sink_service(in->sink) == DNSTAP_END;
}

static void drain_wake(void)
{
    char any[64];
    while (read(wake[0], any, sizeof any) > 0) {
    }
}

/* Until the files are read, the output fails, or a signal comes; then sockets still have a moment
 * to deliver what has reached them. What is put together is flushed before each wait. */
static void run(tool *t)
{
    nfds_t n;
    int timeout_ms;
    while (take_turns(t, &n, &timeout_ms) && output_flush(&t->out)) {
        const bool last = stopping;
        const int ready = poll(t->fds, n, timeout_ms);
        if (last && (ready == 0 || late)) return;
        drain_wake();
        if (ready >= 0) serve(t);
        if (rotating) {
            rotating = 0;
            if (!output_reopen(&t->out)) return;
        }
    }
}

/* A file that is read must not be emptied by writing it. */
static bool is_input(const settings *s, const char *path)
{
    struct stat in, out;
    if (!path || stat(path, &out) < 0 || !S_ISREG(out.st_mode)) return false;
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
static bool open_all(tool *t)
{
    const settings *s = &t->settings;
    const char *path = s->output_count ? s->outputs[0].name : NULL;
    for (size_t i = 0; i < s->input_count; i++) {
        t->inputs[i].out = &t->out;
        if (!input_open(&t->inputs[i], s->inputs[i].flag, s->inputs[i].name, &s->how)) return false;
    }
    if (is_input(s, path)) {
        complain("%s: is an input, too", path);
        return false;
    }
    if (!output_open(&t->out, path, formats[s->format], s->overwrite)) return false;
    for (size_t i = 0; i < s->input_count; i++)
        if (!t->inputs[i].file)
            complain("%s: %s", t->inputs[i].name,
                     t->inputs[i].connects ? "connecting" : "listening");
    return true;
}

static int receive_all(tool *t)
{
    bool well = open_all(t);
    if (well) run(t);
    for (size_t i = 0; i < t->settings.input_count; i++) well = input_close(&t->inputs[i]) && well;
    if (t->out.name) well = output_close(&t->out) && well;
    return well ? EXIT_SUCCESS : EXIT_FAILURE;
}

static int answer_with(const settings *s)
{
    if (s->answer == ANSWER_HELP)
        fputs(usage, stdout);
    else if (s->answer == ANSWER_VERSION)
        puts("dnstap " DNSTAP_VERSION);
    else if (s->config)
        return check_config(s->config, s->lenient) ? EXIT_SUCCESS : EXIT_USAGE;
    else
        return GO_ON;
    return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    const size_t most = (size_t)argc; /* inputs, even if every argument were one */
    tool t;
    memset(&t, 0, sizeof t);
    t.settings.inputs = (given *)calloc(most, sizeof *t.settings.inputs);
    t.settings.outputs = (given *)calloc(most, sizeof *t.settings.outputs);
    t.inputs = (input *)calloc(most, sizeof *t.inputs);
    t.fds = (struct pollfd *)calloc(most, SINK_POLLFDS * sizeof *t.fds);
    int status = EXIT_FAILURE;
    if (!t.settings.inputs || !t.settings.outputs || !t.inputs || !t.fds || !catch_signals())
        complain("start: %s", strerror(errno));
    else if ((status = parse_flags(&t.settings, argv + 1)) == GO_ON &&
             (status = answer_with(&t.settings)) == GO_ON)
        status = receive_all(&t);
    free(t.fds);
    free(t.inputs);
    free(t.settings.outputs);
    free(t.settings.inputs);
    return status;
}
