/* Drives the library's TLS transport alone, without Frame Streams, to hold it against openssl.
 *   tls_peer client --connect IP:PORT [--name HOST | --ip ADDR] [--ca FILE | --skipverify]
 *            [--cert F --key F] [--io mono|bidi|N|Nm] [--bytes N] [--noflush] [--timeout MS]
 *   tls_peer server --listen PORT --cert F --key F [--ca FILE] [--skipverify] [--io …]
 *            [--timeout MS]
 * The client sends N bytes (2000: a…z repeating, the last a newline), waits for as many back, and
 * closes; with --noflush it closes at once, while they may still be on their way out. The server
 * echoes one connection. --io: the default buffers, or N bytes for both directions; m, mono: one
 * buffer shared by both. FAKE_TIME in the environment is the clock. A step without progress may
 * take --timeout (10 s). The last line is RESULT …; the exit status is 0 for status=OK only. */
#define DNSTAP_IMPLEMENTATION
#include "dnstap.h"

#include <stdio.h>
#include <stdlib.h>

enum { LOCAL_TIMEOUT = 1020, LOCAL_SYSTEM, LOCAL_EARLY_END };

typedef struct peer {
    bool server, noflush;
    const char *connect, *listen, *ip;
    size_t bytes;
    int timeout_ms;
    dnstap_options options;
    int fd;
    dnstap__tls_config *config;
    dnstap__tls *tls;
    dnstap_transport transport;
    short wants;
    size_t sent, received;
    int code;
    const char *text;
} peer;

/* ---- the transport below: a non-blocking socket ---- */

static char socket_error[128];

static int socket_failed(const char *what)
{
    snprintf(socket_error, sizeof socket_error, "%s: %s", what, strerror(errno));
    return DNSTAP_SYSTEM;
}

static long socket_send(void *self, const void *data, size_t size, short *wants)
{
    ssize_t n = send(*(int *)self, data, size, MSG_NOSIGNAL);

    if (n >= 0) return (long)n;
    *wants = POLLOUT;
    return errno == EAGAIN || errno == EINTR ? DNSTAP_AGAIN : socket_failed("send");
}

static long socket_recv(void *self, void *data, size_t size, short *wants)
{
    ssize_t n = recv(*(int *)self, data, size, 0);

    if (n > 0) return (long)n;
    if (n == 0) return DNSTAP_END;
    *wants = POLLIN;
    return errno == EAGAIN || errno == EINTR ? DNSTAP_AGAIN : socket_failed("recv");
}

static int socket_shut(void *self, short *wants)
{
    (void)wants;
    return shutdown(*(int *)self, SHUT_WR) == 0 ? DNSTAP_OK : socket_failed("shutdown");
}

static void socket_close(void *self) { close(*(int *)self); }
static int socket_fd(void *self) { return *(int *)self; }

static const char *socket_text(void *self)
{
    (void)self;
    return socket_error;
}

static dnstap_transport socket_transport(int *fd)
{
    dnstap_transport t;

    t.self = fd;
    t.start = NULL;
    t.send = socket_send;
    t.recv = socket_recv;
    t.shut = socket_shut;
    t.close = socket_close;
    t.fd = socket_fd;
    t.error = socket_text;
    return t;
}

/* ---- the result ---- */

static const char *const bear_names[] = {"OK",
                                         "BAD_PARAM",
                                         "BAD_STATE",
                                         "UNSUPPORTED_VERSION",
                                         "BAD_VERSION",
                                         "BAD_LENGTH",
                                         "TOO_LARGE",
                                         "BAD_MAC",
                                         "NO_RANDOM",
                                         "UNKNOWN_TYPE",
                                         "UNEXPECTED",
                                         NULL,
                                         "BAD_CCS",
                                         "BAD_ALERT",
                                         "BAD_HANDSHAKE",
                                         "OVERSIZED_ID",
                                         "BAD_CIPHER_SUITE",
                                         "BAD_COMPRESSION",
                                         "BAD_FRAGLEN",
                                         "BAD_SECRENEG",
                                         "EXTRA_EXTENSION",
                                         "BAD_SNI",
                                         "BAD_HELLO_DONE",
                                         "LIMIT_EXCEEDED",
                                         "BAD_FINISHED",
                                         "RESUME_MISMATCH",
                                         "INVALID_ALGORITHM",
                                         "BAD_SIGNATURE",
                                         "WRONG_KEY_USAGE",
                                         "NO_CLIENT_AUTH",
                                         NULL,
                                         "IO",
                                         "X509_OK",
                                         "X509_INVALID_VALUE",
                                         "X509_TRUNCATED",
                                         "X509_EMPTY_CHAIN",
                                         "X509_INNER_TRUNC",
                                         "X509_BAD_TAG_CLASS",
                                         "X509_BAD_TAG_VALUE",
                                         "X509_INDEFINITE_LENGTH",
                                         "X509_EXTRA_ELEMENT",
                                         "X509_UNEXPECTED",
                                         "X509_NOT_CONSTRUCTED",
                                         "X509_NOT_PRIMITIVE",
                                         "X509_PARTIAL_BYTE",
                                         "X509_BAD_BOOLEAN",
                                         "X509_OVERFLOW",
                                         "X509_BAD_DN",
                                         "X509_BAD_TIME",
                                         "X509_UNSUPPORTED",
                                         "X509_LIMIT_EXCEEDED",
                                         "X509_WRONG_KEY_TYPE",
                                         "X509_BAD_SIGNATURE",
                                         "X509_TIME_UNKNOWN",
                                         "X509_EXPIRED",
                                         "X509_DN_MISMATCH",
                                         "X509_BAD_SERVER_NAME",
                                         "X509_CRITICAL_EXTENSION",
                                         "X509_NOT_CA",
                                         "X509_FORBIDDEN_KEY_USAGE",
                                         "X509_WEAK_PUBLIC_KEY",
                                         NULL,
                                         "X509_NOT_TRUSTED"};

static void name_of(int code, char *out, size_t size)
{
    if (code > 1000)
        snprintf(out, size, "LOCAL_%d", code - 1000);
    else if (code >= 512)
        snprintf(out, size, "SENT_ALERT_%d", code - 512);
    else if (code >= 256)
        snprintf(out, size, "PEER_ALERT_%d", code - 256);
    else if (code >= 0 && code <= 62 && bear_names[code])
        snprintf(out, size, "BR_ERR_%s", bear_names[code]);
    else
        snprintf(out, size, "BR_ERR_%d", code);
}

static int result(const peer *p, const char *status)
{
    const char *closed = "no";
    unsigned suite = 0;
    char name[40];

    if (p->tls && p->tls->engine) {
        suite = p->tls->engine->session.cipher_suite;
        if (p->tls->state == DNSTAP__TLS_CLOSED) closed = "clean";
        if (p->tls->state == DNSTAP__TLS_CUT) closed = "eof";
    }
    name_of(p->code, name, sizeof name);
    if (p->text && *p->text) fprintf(stderr, "%s\n", p->text);
    printf("RESULT status=%s err=%d name=%s suite=%04X closed=%s\n", status, p->code, name, suite,
           closed);
    return strcmp(status, "OK") != 0;
}

static int fail(peer *p, int code, const char *text)
{
    p->code = code;
    p->text = text;
    return -1;
}

/* The transport failed: it knows why. */
static int fail_tls(peer *p)
{
    const char *text = p->transport.error(p->transport.self);

    return fail(p, p->tls->error.sys_errno, text);
}

/* ---- the connection ---- */

static int wait_for(peer *p, short events)
{
    struct pollfd poll_fd;
    int n;

    poll_fd.fd = p->fd;
    poll_fd.events = events;
    do n = poll(&poll_fd, 1, p->timeout_ms);
    while (n < 0 && errno == EINTR);
    if (n > 0) return 0;
    return fail(p, LOCAL_TIMEOUT,
                p->tls->state == DNSTAP__TLS_OPEN ? "no progress before the deadline"
                                                  : p->transport.error(p->transport.self));
}

static int handshake(peer *p)
{
    int n;

    while ((n = p->transport.start(p->transport.self, &p->wants)) == DNSTAP_AGAIN)
        if (wait_for(p, p->wants) < 0) return -1;
    return n < 0 ? fail_tls(p) : 0;
}

static int goodbye(peer *p)
{
    int n;

    while ((n = p->transport.shut(p->transport.self, &p->wants)) == DNSTAP_AGAIN)
        if (wait_for(p, p->wants) < 0) return -1;
    return n < 0 ? fail_tls(p) : 0;
}

/* The bytes at position `at` of what the client sends. */
static void fill(const peer *p, size_t at, uint8_t *out, size_t size)
{
    size_t i;

    for (i = 0; i < size; i++) out[i] = (uint8_t)('a' + (at + i) % 26);
    if (at + size == p->bytes) out[size - 1] = '\n';
}

/* 1: something moved, 0: nothing, -1: the end */
static int send_some(peer *p, short *wants)
{
    uint8_t data[16384];
    size_t size = dnstap__min(sizeof data, p->bytes - p->sent);
    long n;

    if (!size) return 0;
    fill(p, p->sent, data, size);
    n = p->transport.send(p->transport.self, data, size, wants);
    if (n == DNSTAP_AGAIN) return 0;
    if (n < 0) return fail_tls(p);
    p->sent += (size_t)n;
    return 1;
}

static int receive_some(peer *p, short *wants)
{
    uint8_t data[16384];
    long n = p->transport.recv(p->transport.self, data, sizeof data, wants);

    if (n == DNSTAP_AGAIN) return 0;
    if (n == DNSTAP_END) return fail(p, LOCAL_EARLY_END, "closed before all came back");
    if (n < 0) return fail_tls(p);
    p->received += (size_t)n;
    return 1;
}

static int exchange(peer *p)
{
    short out, in;
    int sent, got;

    while (p->noflush ? p->sent < p->bytes : p->received < p->bytes) {
        out = in = 0;
        sent = send_some(p, &out);
        if (sent < 0) return -1;
        if (p->noflush && !sent) return 0; /* a record is half out: close now */
        got = receive_some(p, &in);
        if (got < 0) return -1;
        if (!sent && !got && wait_for(p, (short)(out | in)) < 0) return -1;
    }
    return 0;
}

/* Echoes until the peer closes. What came is sent before more is read, but for a shared buffer:
 * there a record that is half in must come in before anything can go out. */
static int echo(peer *p)
{
    static uint8_t data[1 << 17];
    size_t have = 0;
    short out, in;
    long sent, got = 0;

    for (;;) {
        out = in = 0;
        sent = have ? p->transport.send(p->transport.self, data, have, &out) : DNSTAP_AGAIN;
        if (sent < 0 && sent != DNSTAP_AGAIN) return fail_tls(p);
        if (sent > 0) memmove(data, data + sent, have -= (size_t)sent);
        got = sizeof data - have >= 16384 && (have < 65536 || out == POLLIN)
                  ? p->transport.recv(p->transport.self, data + have, sizeof data - have, &in)
                  : DNSTAP_AGAIN;
        if (got == DNSTAP_END) return 0;
        if (got < 0 && got != DNSTAP_AGAIN) return fail_tls(p);
        if (got > 0) have += (size_t)got;
        p->received += got > 0 ? (size_t)got : 0;
        if (got < 0 && sent < 0 && wait_for(p, (short)(out | in)) < 0) return -1;
    }
}

static int run(peer *p)
{
    if (handshake(p) < 0) return -1;
    if (p->server) return echo(p);
    if (exchange(p) < 0) return -1;
    return goodbye(p);
}

/* ---- sockets ---- */

static int finish_connect(peer *p)
{
    struct pollfd poll_fd;
    int problem = 0;
    socklen_t size = sizeof problem;

    poll_fd.fd = p->fd;
    poll_fd.events = POLLOUT;
    if (poll(&poll_fd, 1, p->timeout_ms) != 1) return -1;
    if (getsockopt(p->fd, SOL_SOCKET, SO_ERROR, &problem, &size) == 0 && problem == 0) return 0;
    errno = problem;
    return -1;
}

static int open_client(peer *p)
{
    struct sockaddr_in address;
    char host[64];
    const char *colon = strrchr(p->connect, ':');
    int on = 1;

    memset(&address, 0, sizeof address);
    if (!colon || (size_t)(colon - p->connect) >= sizeof host) return -1;
    memcpy(host, p->connect, (size_t)(colon - p->connect));
    host[colon - p->connect] = '\0';
    address.sin_family = AF_INET;
    address.sin_port = htons((uint16_t)atoi(colon + 1));
    if (inet_pton(AF_INET, host, &address.sin_addr) != 1) return -1;
    p->fd = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(p->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (fcntl(p->fd, F_SETFL, O_NONBLOCK) < 0) return -1;
    if (connect(p->fd, (struct sockaddr *)&address, sizeof address) == 0) return 0;
    return errno == EINPROGRESS ? finish_connect(p) : -1;
}

static int open_server(peer *p)
{
    struct sockaddr_in address;
    int on = 1, listener = socket(AF_INET, SOCK_STREAM, 0);

    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_port = htons((uint16_t)atoi(p->listen));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(listener, 1) < 0)
        return -1;
    fprintf(stderr, "LISTENING\n");
    p->fd = accept(listener, NULL, NULL);
    close(listener);
    if (p->fd < 0) return -1;
    setsockopt(p->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fcntl(p->fd, F_SETFL, O_NONBLOCK);
}

/* ---- options ---- */

static uint64_t fake_time(void *user)
{
    (void)user;
    return strtoull(getenv("FAKE_TIME"), NULL, 10);
}

/* mono, bidi, N (split as BearSSL does, most for input) or Nm */
static bool parse_io(dnstap_options *o, const char *text)
{
    char *end;
    unsigned long n;

    o->tls_input = BR_SSL_BUFSIZE_INPUT;
    o->tls_output = strcmp(text, "mono") == 0 ? DNSTAP__TLS_SHARED : 0;
    if (strcmp(text, "mono") == 0 || strcmp(text, "bidi") == 0) return true;
    n = strtoul(text, &end, 10);
    o->tls_input = n;
    o->tls_output = DNSTAP__TLS_SHARED;
    if (strcmp(end, "m") == 0) return true;
    o->tls_output = n > BR_SSL_BUFSIZE_INPUT + 597 ? n - BR_SSL_BUFSIZE_INPUT : 597;
    o->tls_input = n > o->tls_output ? n - o->tls_output : 0;
    return *end == '\0' && o->tls_input != 0;
}

static bool parse_flag(peer *p, const char *flag)
{
    if (strcmp(flag, "--skipverify") == 0) return p->options.skipverify = true;
    if (strcmp(flag, "--noflush") == 0) return p->noflush = true;
    return false;
}

static bool parse_value(peer *p, const char *flag, const char *value)
{
    dnstap_options *o = &p->options;

    if (strcmp(flag, "--connect") == 0)
        p->connect = value;
    else if (strcmp(flag, "--listen") == 0)
        p->listen = value;
    else if (strcmp(flag, "--name") == 0)
        o->server_name = value;
    else if (strcmp(flag, "--ip") == 0)
        p->ip = value;
    else if (strcmp(flag, "--ca") == 0)
        o->ca_file = value;
    else if (strcmp(flag, "--cert") == 0)
        o->cert_file = value;
    else if (strcmp(flag, "--key") == 0)
        o->key_file = value;
    else if (strcmp(flag, "--bytes") == 0)
        p->bytes = strtoul(value, NULL, 10);
    else if (strcmp(flag, "--timeout") == 0)
        p->timeout_ms = atoi(value);
    else if (strcmp(flag, "--io") == 0)
        return parse_io(o, value);
    else
        return false;
    return true;
}

static bool parse(peer *p, int argc, char **argv)
{
    int i;

    memset(p, 0, sizeof *p);
    p->fd = -1;
    p->bytes = 2000;
    p->timeout_ms = 10000;
    if (argc < 2) return false;
    p->server = strcmp(argv[1], "server") == 0;
    for (i = 2; i < argc; i++) {
        if (parse_flag(p, argv[i])) continue;
        if (i + 1 >= argc || !parse_value(p, argv[i], argv[i + 1])) return false;
        i++;
    }
    if (getenv("FAKE_TIME")) p->options.unix_time = fake_time;
    return p->server ? p->listen != NULL : p->connect != NULL;
}

static int load(peer *p, dnstap_error *error)
{
    dnstap__arena arena = {NULL, 0, SIZE_MAX, false};
    dnstap__tls_settings set;
    dnstap_transport lower;
    int code;

    if (!p->server) p->options.ca_file = dnstap__default_ca(&p->options);
    set = dnstap__tls_settings_of(&p->options, p->ip);
    set.endpoint = "tls_peer";
    set.server = p->server;
    (void)dnstap__tls_carve_config(&arena, &set);
    (void)dnstap__tls_carve(&arena, &set);
    arena.size = arena.used;
    arena.used = 0;
    arena.base = (uint8_t *)malloc(arena.size);
    if (!arena.base) return DNSTAP_NO_MEMORY;
    p->config = dnstap__tls_carve_config(&arena, &set);
    p->tls = dnstap__tls_carve(&arena, &set);
    code = dnstap__tls_load(p->config, &set, error);
    if (p->config->note[0]) fprintf(stderr, "%s\n", p->config->note);
    if (code < 0) return code;
    dnstap__tls_reload(p->config); /* nothing has changed: it must change nothing */
    lower = socket_transport(&p->fd);
    dnstap__tls_init(p->tls, p->config, &lower);
    p->transport = dnstap__tls_transport(p->tls);
    return DNSTAP_OK;
}

static int connect_and_run(peer *p)
{
    int bad;

    if ((p->server ? open_server(p) : open_client(p)) < 0) {
        (void)fail(p, LOCAL_SYSTEM, strerror(errno));
        return result(p, "FAIL");
    }
    bad = result(p, run(p) < 0 ? "FAIL" : "OK");
    p->transport.close(p->transport.self);
    return bad;
}

int main(int argc, char **argv)
{
    dnstap_error error;
    peer p;
    int bad;

    setvbuf(stdout, NULL, _IOLBF, 0);
    if (!parse(&p, argc, argv)) {
        fprintf(stderr, "tls_peer: unknown or missing option; the head of tls_peer.c lists them\n");
        return 2;
    }
    memset(&error, 0, sizeof error);
    bad = load(&p, &error);
    if (bad < 0) {
        (void)fail(&p, error.code == DNSTAP_TLS ? error.sys_errno : 1000 - error.code, error.text);
        bad = result(&p, "CONFIG");
    } else {
        bad = connect_and_run(&p);
    }
    free(p.config);
    return bad;
}
