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

static const char usage[] =
    "usage: dnstap [-r FILE | -u PATH | -l WHERE | -c WHERE]... [-w FILE] [FORMAT]\n"
    "       dnstap --check-config FILE [--lenient]\n"
    "Receives DNS events as dnstap, and prints or stores them.\n"
    "inputs, as many as you like:\n"
    "  -r FILE       read a Frame Streams file (-: standard input)\n"
    "  -u PATH       listen on a unix socket (@NAME: no file; --mode 0660 --group G)\n"
    "  -l WHERE      listen on HOST:PORT, :PORT (all addresses), tls://HOST:PORT\n"
    "  -c WHERE      connect to a tap that listens there, or on unix://PATH\n"
    "  --tls-ca FILE, --tls-cert FILE --tls-key FILE   tls://: the peer's CAs; ours\n"
    "                (needed by -l); --tls-name NAME: in the peer's; --tls-insecure\n"
    "output:\n"
    "  -w FILE       add to it; without a format: Frame Streams, ready for -r;\n"
    "                --overwrite: begin it anew. - or no -w: standard output, as -q\n"
    "formats:\n"
    "  -q            quiet text, a line a message, as golang-dnstap prints it; but a\n"
    "                question is shown even when records behind it are malformed\n"
    "  --exact       JSON with every field as it came, bytes in hex\n"
    "other: -h, --help: this; --version: the version\n"
    "  --check-config FILE   read configuration text and print its taps, an object a\n"
    "                line; --lenient: what CoreDNS takes, and with its meaning\n"
    "It runs until files are read, with a socket until SIGINT or SIGTERM. SIGHUP: it\n"
    "goes on in what is at the file's path then. Exit status: 0 all well, 1 an input\n"
    "or output failed, if only in part (a cut file does, a silent connection does\n"
    "not), 2 usage, or configuration refused.\n";

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

/* ---- flags --------------------------------------------------------------------------------- */

enum { EXIT_USAGE = 2, GO_ON = -1 };

static const struct flag {
    const char *name;
    char id;
    bool takes; /* a value */
} flags[] = {
    {"r", 'r', true},        {"u", 'u', true},          {"l", 'l', true},
    {"w", 'w', true},        {"overwrite", 'o', false}, {"q", 'q', false},
    {"exact", 'x', false},   {"h", 'h', false},         {"help", 'h', false},
    {"version", 'v', false}, {"lenient", 'n', false},   {"check-config", 'k', true},
    {"c", 'c', true},        {"tls-ca", 'A', true},     {"tls-cert", 'C', true},
    {"tls-key", 'K', true},  {"tls-name", 'N', true},   {"tls-insecure", 'I', false},
    {"mode", 'm', true},     {"group", 'g', true},
};

typedef struct source {
    char flag;
    const char *name;
} source;

typedef struct settings {
    source *sources; /* room for as many as there are arguments */
    int count;
    const char *write;
    dnstap_sink_options how; /* its fields of TLS and unix sockets, for all inputs of theirs */
    const char *tls_flag;    /* the last that was given; NULL: none */
    const char *config;      /* to check; NULL: none */
    bool lenient;
    bool overwrite;
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

/* False: it is no flag of TLS. */
static bool apply_tls(settings *s, char id, const char *argument, const char *value)
{
    switch (id) {
    case 'A':
        s->how.ca_file = value;
        break;
    case 'C':
        s->how.cert_file = value;
        break;
    case 'K':
        s->how.key_file = value;
        break;
    case 'N':
        s->how.server_name = value;
        break;
    case 'I':
        s->how.skipverify = true;
        break;
    default:
        return false;
    }
    s->tls_flag = argument;
    return true;
}

static int apply_mode(settings *s, const char *argument, const char *value)
{
    char *end;
    unsigned long mode = strtoul(value, &end, 8);
    if (*end || mode < 1 || mode > 0777) return wrong(argument, "give it in octal, such as 0660");
    s->how.socket_mode = (uint32_t)mode;
    return GO_ON;
}

static int apply(settings *s, char id, const char *argument, const char *value)
{
    if (apply_tls(s, id, argument, value)) return GO_ON;
    switch (id) {
    case 'w':
        if (s->write) return wrong(argument, "there can be one output only");
        s->write = value;
        return GO_ON;
    case 'o':
        s->overwrite = true;
        return GO_ON;
    case 'q':
        return choose_format(s, argument, quiet_print);
    case 'x':
        return choose_format(s, argument, exact_print);
    case 'm':
        return apply_mode(s, argument, value);
    case 'g':
        s->how.socket_group = value;
        return GO_ON;
    case 'k':
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

static bool any_tls(const settings *s)
{
    for (int i = 0; i < s->count; i++)
        if (!strncmp(s->sources[i].name, "tls://", 6)) return true;
    return false;
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
    if (s->config && (s->count || s->write || s->overwrite || s->format || s->tls_flag))
        return wrong("--check-config", "goes with --lenient only");
    if (s->lenient && !s->config) return wrong("--lenient", "goes with --check-config");
    if (s->config) return check_config(s->config, s->lenient) ? EXIT_SUCCESS : EXIT_USAGE;
    if (s->count == 0) return wrong("no input", "give -r, -u, -l or -c");
    if (s->tls_flag && !any_tls(s)) return wrong(s->tls_flag, "no input is tls://");
    return GO_ON;
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
    for (input *in = t->inputs; in < t->inputs + t->settings.count; in++) {
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
    for (input *in = t->inputs; in < t->inputs + t->settings.count; in++)
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
    for (int i = 0; i < s->count; i++) {
        const char *name = s->sources[i].name;
        if (s->sources[i].flag == 'r' &&
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
    for (int i = 0; i < s->count; i++) {
        t->inputs[i].out = &t->out;
        if (!input_open(&t->inputs[i], s->sources[i].flag, s->sources[i].name, &s->how))
            return false;
    }
    if (is_input(s, s->write)) {
        complain("%s: is an input, too", s->write);
        return false;
    }
    if (!output_open(&t->out, s->write, s->format, s->overwrite)) return false;
    for (int i = 0; i < s->count; i++)
        if (!t->inputs[i].file)
            complain("%s: %s", t->inputs[i].name,
                     t->inputs[i].connects ? "connecting" : "listening");
    return true;
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
