/* Shows how forked children log: to their parent, or each on its own. Build: make build/children
 *   cc -I. -o build/children examples/children.c -lprotobuf-nanopb -lbearssl -lpthread
 *
 *   build/children relay unix:///tmp/dnstap.sock <NAMES     over a socket to the parent, who logs
 *   build/children own unix:///tmp/dnstap.sock <NAMES       with a connection for each child
 *
 * A server that forks for each TCP connection, in little: a name on a line is a query. The parent
 * logs it, and a child of its own answers and logs that. What a child must not do is to go on with
 * its parent's tap as if nothing had happened: dnstap_wants is false there, and nothing is logged.
 *
 * Which way? The relay has one connection, keeps all in one ring, and so loses nothing in an outage
 * that the ring outlasts; it serves files, too, and taps that listen. On its own a child needs no
 * parent, but waits at its end, for a while, until its messages are out. */
#define DNSTAP_IMPLEMENTATION
#include "dnstap.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

enum {
    CHILDREN_MAX = 20,   /* at once; then the next name waits */
    PATIENCE_MS = 10000, /* how long a message may wait for the sink when nothing else is to do */
    STOP_MS = 1000,      /* and the sink for FINISH */
    PAYLOAD_MAX = 65535 + 1024
};

static dnstap_tap *tap;
static bool relays;
static int relay[2]; /* from the children, to the parent; each payload in one piece */
static int children;

static void die(const char *what, const char *why)
{
    fprintf(stderr, "children: %s: %s\n", what, why);
    exit(1);
}

/* ---- DNS ---- */

/* A query for the name's address, or the answer to it: that there is none. Returns its size. */
static size_t make_message(uint8_t wire[300], const char *name, bool answer)
{
    static const uint8_t head[] = {0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0};
    size_t size = sizeof head, n;

    memcpy(wire, head, sizeof head);
    if (answer) wire[2] |= 0x80;
    for (; *name; name += n + (name[n] == '.')) {
        n = strcspn(name, ".");
        if (n == 0 || n > 63 || size + n > 260) break;
        wire[size++] = (uint8_t)n;
        memcpy(wire + size, name, n);
        size += n;
    }
    memcpy(wire + size, "\0\0\1\0\1", 5); /* the root · A · IN */
    return size + 5;
}

static void fill(dnstap_message *m, uint32_t type, const struct timespec *now, const uint8_t *wire,
                 size_t size)
{
    dnstap_fill(m, type, NULL, NULL, DNSTAP_PROTOCOL_TCP, now, now, wire, size);
}

/* ---- the children ---- */

/* The parent's tap knows who we are, a payload says it itself. The socket takes it whole, and makes
 * us wait while the parent is behind. */
static bool log_to_parent(dnstap_message *m)
{
    static uint8_t payload[PAYLOAD_MAX];
    long size;

    m->identity = dnstap_bytes_of("children", strlen("children"));
    m->version = dnstap_bytes_of("1", 1);
    size = dnstap_encode(m, payload, sizeof payload);
    return size > 0 && send(relay[1], payload, (size_t)size, MSG_NOSIGNAL) == size;
}

/* A connection of our own, which dnstap_flush makes and makes again until all is sent. A child that
 * lives longer calls dnstap_start, or dnstap_service now and then, and flushes at its end only. */
static bool log_alone(const dnstap_message *m)
{
    bool sent = dnstap_after_fork(tap) == DNSTAP_OK && dnstap_log(tap, m) == 1 &&
                dnstap_flush(tap, PATIENCE_MS) == DNSTAP_OK;

    return dnstap_close(tap, sent ? STOP_MS : 0) == DNSTAP_OK && sent;
}

static bool answer(const char *name)
{
    uint8_t wire[300];
    struct timespec now;
    dnstap_message m;

    clock_gettime(CLOCK_REALTIME, &now);
    fill(&m, DNSTAP_MSG_CLIENT_RESPONSE, &now, wire, make_message(wire, name, true));
    return relays ? log_to_parent(&m) : log_alone(&m);
}

/* ---- the parent ---- */

static void serve(const char *name)
{
    uint8_t wire[300];
    struct timespec now;
    dnstap_message m;
    bool wanted = dnstap_wants(tap, DNSTAP_MSG_CLIENT_RESPONSE); /* false in a relaying child */
    pid_t child;

    clock_gettime(CLOCK_REALTIME, &now);
    fill(&m, DNSTAP_MSG_CLIENT_QUERY, &now, wire, make_message(wire, name, false));
    dnstap_log(tap, &m);
    child = fork();
    if (child < 0) die("fork", strerror(errno));
    if (child == 0)
        _exit(!wanted || answer(name) ? 0 : 1); /* not exit: standard output is the parent's */
    children++;
}

/* What children have sent so far. */
static void take_relayed(void)
{
    static uint8_t payload[PAYLOAD_MAX];
    ssize_t size;

    while (relays && (size = recv(relay[0], payload, sizeof payload, MSG_DONTWAIT)) > 0)
        dnstap_log_payload(tap, payload, (size_t)size);
}

static void bury(void)
{
    int status;

    while (children && waitpid(-1, &status, WNOHANG) > 0) {
        children--;
        if (status) fprintf(stderr, "children: one could not log\n");
    }
}

static char names[4096];
static size_t names_size;

static void serve_names(void)
{
    char *end;

    while (children < CHILDREN_MAX && (end = (char *)memchr(names, '\n', names_size)) != NULL) {
        *end++ = '\0';
        serve(names);
        names_size -= (size_t)(end - names);
        memmove(names, end, names_size);
    }
}

/* false: there are no more. */
static bool read_names(void)
{
    ssize_t n = read(0, names + names_size, sizeof names - names_size);

    if (n < 0) die("standard input", strerror(errno));
    names_size += (size_t)n;
    if (n == 0 && names_size) names[names_size++] = '\n';
    if (names_size == sizeof names && !memchr(names, '\n', sizeof names))
        die("standard input", "a line is too long");
    return n > 0;
}

static void run(void)
{
    struct pollfd fds[2 + DNSTAP_POLLFDS];
    bool more = true;
    int n, timeout;

    while (more || children || names_size) {
        memset(fds, 0, sizeof fds);
        fds[0].fd = more && children < CHILDREN_MAX ? 0 : -1;
        fds[1].fd = relays ? relay[0] : -1;
        fds[0].events = fds[1].events = POLLIN;
        n = dnstap_pollfds(tap, fds + 2, DNSTAP_POLLFDS, &timeout);
        if (children && (timeout < 0 || timeout > 10)) timeout = 10; /* to bury them */
        poll(fds, (nfds_t)(2 + n), timeout);
        dnstap_service_fds(tap, fds + 2, n);
        bury();
        take_relayed(); /* after bury: what they have sent before they ended is there */
        if (fds[0].revents) more = read_names();
        serve_names();
    }
}

static void note(void *user, int level, const char *text)
{
    (void)user, (void)level;
    fprintf(stderr, "children: %s\n", text);
}

static void open_tap(const char *endpoint)
{
    static dnstap_options options;
    dnstap_error error;

    options.endpoint = endpoint;
    options.identity = "children";
    options.version = "1";
    options.full = true;
    options.log = note;
    if (!relays) { /* for a short life: one thread, and a sink that hangs is given up soon */
        options.producers = 1;
        options.timeout_ms = 1000;
    }
    tap = dnstap_open(&options, &error);
    if (!tap) die("dnstap", error.text);
}

int main(int argc, char **argv)
{
    static dnstap_status status;

    relays = argc == 3 && strcmp(argv[1], "relay") == 0;
    if (!relays && (argc != 3 || strcmp(argv[1], "own") != 0)) {
        fputs("usage: children relay|own ENDPOINT <NAMES\n", stderr);
        return 2;
    }
    open_tap(argv[2]);
    if (relays && socketpair(AF_UNIX, SOCK_SEQPACKET, 0, relay) < 0) die("socket", strerror(errno));
    run();
    dnstap_flush(tap, PATIENCE_MS);
    dnstap_get_status(tap, &status);
    printf("logged %lu, sent %lu, dropped %lu\n", (unsigned long)status.logged,
           (unsigned long)status.sent, (unsigned long)status.dropped);
    return dnstap_close(tap, STOP_MS) < 0;
}
