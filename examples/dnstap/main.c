/* dnstap: receives dnstap over Frame Streams, from files and sockets, and prints or stores it.
 * Build: make build/dnstap. main.c: the flags and the loop. */
#include "tool.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const char usage[] =
    "usage: dnstap [-r FILE]... [-u PATH]... [-l HOST:PORT]... [-w FILE] [FORMAT]\n"
    "       dnstap --check-config FILE [--lenient]\n"
    "Receives DNS events as dnstap, and prints or stores them.\n"
    "\n"
    "inputs, as many as you like:\n"
    "  -r FILE       read a Frame Streams file (/dev/stdin: standard input)\n"
    "  -u PATH       listen on a unix socket\n"
    "  -l HOST:PORT  listen on a TCP port\n"
    "output:\n"
    "  -w FILE       write there; without a format: Frame Streams, ready for -r\n"
    "                - or no -w: standard output; without a format: quiet text\n"
    "formats:\n"
    "  -q            quiet text: a line for each message\n"
    "  --exact       JSON with every field as it came, bytes in hex\n"
    "other:\n"
    "  --check-config FILE [--lenient]\n"
    "                read configuration text and print its taps, an object a line;\n"
    "                lenient: what CoreDNS takes, and with its meaning\n"
    "  -h, --help    this\n"
    "  --version     the version\n"
    "\n"
    "It runs until its files are read, with a socket until SIGINT or SIGTERM.\n"
    "Exit status: 0 all well, 1 an input or output failed, if only in part, 2 usage,\n"
    "or configuration that is refused.\n";

void complain(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("dnstap: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
}

/* ---- flags --------------------------------------------------------------------------------- */

enum { EXIT_USAGE = 2, GO_ON = -1 };

static const struct flag {
    const char *name;
    char id;
    bool takes; /* a value */
} flags[] = {
    {"r", 'r', true},        {"u", 'u', true},
    {"l", 'l', true},        {"w", 'w', true},
    {"q", 'q', false},       {"exact", 'x', false},
    {"h", 'h', false},       {"help", 'h', false},
    {"version", 'v', false}, {"check-config", 'c', true},
    {"lenient", 'n', false},
};

typedef struct source {
    char flag;
    const char *name;
} source;

typedef struct settings {
    source *sources; /* room for as many as there are arguments */
    int count;
    const char *write;
    const char *config; /* to check; NULL: none */
    bool lenient;
    text_format *format; /* NULL: as the output asks for */
} settings;

static int wrong(const char *what, const char *why)
{
    complain("%s: %s; see dnstap --help", what, why);
    return EXIT_USAGE;
}

/* As Go has them: -x v, -x=v, and both with two dashes. value is set to what is behind the =. */
static const struct flag *find_flag(const char *argument, const char **value)
{
    const char *name = argument + (argument[1] == '-' ? 2 : 1);
    const size_t size = strcspn(name, "=");
    *value = name[size] ? name + size + 1 : NULL;
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
        if (strlen(flags[i].name) == size && !strncmp(flags[i].name, name, size)) return &flags[i];
    return NULL;
}

static int choose_format(settings *s, const char *flag, text_format *format)
{
    if (s->format && s->format != format) return wrong(flag, "one format is enough");
    s->format = format;
    return GO_ON;
}

static int apply(settings *s, char id, const char *argument, const char *value)
{
    switch (id) {
    case 'w':
        if (s->write) return wrong(argument, "there can be one output only");
        s->write = value;
        return GO_ON;
    case 'q':
        return choose_format(s, argument, quiet_print);
    case 'x':
        return choose_format(s, argument, exact_print);
    case 'c':
        s->config = value;
        return GO_ON;
    case 'n':
        s->lenient = true;
        return GO_ON;
    case 'h':
        fputs(usage, stdout);
        return EXIT_SUCCESS;
    case 'v':
        puts("dnstap " DNSTAP_VERSION);
        return EXIT_SUCCESS;
    default:
        s->sources[s->count].flag = id;
        s->sources[s->count++].name = value;
        return GO_ON;
    }
}

/* What Go takes for a boolean; -1: none. */
static int boolean(const char *s)
{
    static const char *const words[] = {"0", "f", "F", "false", "FALSE", "False",
                                        "1", "t", "T", "true",  "TRUE",  "True"};
    for (int i = 0; i < 12; i++)
        if (!strcmp(s, words[i])) return i >= 6;
    return -1;
}

/* GO_ON, or the status to exit with. */
static int parse_flags(settings *s, char **arguments)
{
    for (char **a = arguments; *a; a++) {
        const char *given = *a, *value = NULL;
        const struct flag *f = *given == '-' ? find_flag(given, &value) : NULL;
        if (!f) return wrong(given, *given == '-' ? "no such flag" : "not a flag");
        if (f->takes && !value && !(value = *++a)) return wrong(given, "needs a value");
        if (!f->takes && value && boolean(value) < 0) return wrong(given, "neither true nor false");
        if (!f->takes && value && !boolean(value)) continue;
        const int status = apply(s, f->id, given, value);
        if (status != GO_ON) return status;
    }
    if (s->config && (s->count || s->write || s->format))
        return wrong("--check-config", "goes with --lenient only");
    if (s->lenient && !s->config) return wrong("--lenient", "goes with --check-config");
    if (s->config) return check_config(s->config, s->lenient) ? EXIT_SUCCESS : EXIT_USAGE;
    return s->count > 0 ? GO_ON : wrong("no input", "give -r, -u or -l");
}

/* ---- signals ------------------------------------------------------------------------------- */

static volatile sig_atomic_t stopping;
static int wake[2]; /* a pipe, so that a signal right before poll ends it too */

static void stop(int number)
{
    const int saved = errno;
    (void)number;
    stopping = 1;
    if (write(wake[1], "", 1) < 0) stopping = 1;
    errno = saved;
}

/* The first SIGINT or SIGTERM ends the program in order, a second one at once. */
static bool catch_signals(void)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    sigemptyset(&action.sa_mask);
    action.sa_handler = SIG_IGN;
    if (pipe(wake) < 0 || sigaction(SIGPIPE, &action, NULL) < 0) return false;
    action.sa_handler = stop;
    action.sa_flags = (int)SA_RESETHAND;
    return sigaction(SIGINT, &action, NULL) == 0 && sigaction(SIGTERM, &action, NULL) == 0;
}

/* ---- the loop ------------------------------------------------------------------------------ */

enum { SINK_POLLFDS = 64 + 1, LAST_SECONDS = 1 };

typedef struct tool {
    settings settings;
    input *inputs;
    output out;
    struct pollfd *fds;
} tool;

/* Collects what to wait for. Sockets always have a turn, of the files the first that has not
 * ended: so they come out in the order they were given in. Returns the number of descriptors; 1,
 * which is the signals' own, when nobody has a turn. */
static nfds_t take_turns(tool *t, int *timeout_ms)
{
    bool reading = stopping;
    nfds_t n = 1;
    t->fds[0].fd = stopping ? -1 : wake[0];
    t->fds[0].events = POLLIN;
    *timeout_ms = -1;
    for (input *in = t->inputs; in < t->inputs + t->settings.count; in++) {
        int ms = -1;
        in->turn = in->ended || (in->file && reading) ? 0 : n;
        if (in->turn == 0) continue;
        reading = reading || in->file;
        n += (nfds_t)dnstap_sink_pollfds(in->sink, t->fds + n, SINK_POLLFDS, &ms);
        if (ms >= 0 && (*timeout_ms < 0 || ms < *timeout_ms)) *timeout_ms = ms;
    }
    return n;
}

/* Sockets are served whatever poll said, for their deadlines; a file that is a pipe would block. */
static void serve(tool *t)
{
    for (input *in = t->inputs; in < t->inputs + t->settings.count; in++)
        if (in->turn > 0 && (!in->file || t->fds[in->turn].revents)) dnstap_sink_service(in->sink);
}

/* Until the files are read, the output fails, or a signal comes; then sockets still have a moment
 * to deliver what has reached them. What is put together is flushed before each wait. */
static void run(tool *t)
{
    time_t last = 0;
    int timeout_ms;
    for (;;) {
        if (stopping && last == 0) last = time(NULL) + LAST_SECONDS;
        const nfds_t n = take_turns(t, &timeout_ms);
        if (n == 1 || !output_flush(&t->out)) return;
        const int ready = poll(t->fds, n, last ? 0 : timeout_ms);
        if (last && (ready <= 0 || time(NULL) > last)) return;
        if (ready >= 0) serve(t);
    }
}

/* A file that is read must not be emptied by writing it. */
static bool is_input(const settings *s, const char *path)
{
    struct stat in, out;
    if (!path || stat(path, &out) < 0 || !S_ISREG(out.st_mode)) return false;
    for (int i = 0; i < s->count; i++)
        if (s->sources[i].flag == 'r' && stat(s->sources[i].name, &in) == 0 &&
            in.st_dev == out.st_dev && in.st_ino == out.st_ino)
            return true;
    return false;
}

/* Inputs first: what is in the output's file stays when one of them does not open. */
static bool open_all(tool *t)
{
    const settings *s = &t->settings;
    for (int i = 0; i < s->count; i++)
        if (!input_open(&t->inputs[i], s->sources[i].flag, s->sources[i].name, &t->out))
            return false;
    if (!is_input(s, s->write)) return output_open(&t->out, s->write, s->format);
    complain("%s: is an input, too", s->write);
    return false;
}

static int receive_all(tool *t)
{
    bool well = open_all(t);
    if (well) run(t);
    for (int i = 0; i < t->settings.count; i++) well = input_close(&t->inputs[i]) && well;
    if (t->out.name) well = output_close(&t->out) && well;
    return well ? EXIT_SUCCESS : EXIT_FAILURE;
}

int main(int argc, char **argv)
{
    const size_t most = (size_t)argc; /* inputs, even if every argument were one */
    tool t;
    memset(&t, 0, sizeof t);
    t.settings.sources = (source *)calloc(most, sizeof *t.settings.sources);
    t.inputs = (input *)calloc(most, sizeof *t.inputs);
    t.fds = (struct pollfd *)calloc(most, SINK_POLLFDS * sizeof *t.fds);
    int status = EXIT_FAILURE;
    if (!t.settings.sources || !t.inputs || !t.fds || !catch_signals())
        complain("start: %s", strerror(errno));
    else if ((status = parse_flags(&t.settings, argv + 1)) == GO_ON)
        status = receive_all(&t);
    free(t.fds);
    free(t.inputs);
    free(t.settings.sources);
    return status;
}
