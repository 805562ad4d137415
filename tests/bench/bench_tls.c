/* What TLS costs, memory to memory: our transport against BearSSL's own simplified I/O, which does
 * the least one can do around its engine. Both send 16 KB records of the same suite into a wire
 * that forgets them. And the longest single step of a handshake, client and server, of start.
 *   bench_tls REPETITIONS MEGABYTES CA.pem CERT.pem KEY.pem
 * Rows: name TAB unit TAB ours|peer TAB value. */
#define _DEFAULT_SOURCE
#define DNSTAP_IMPLEMENTATION
#include "dnstap.h"

#include <stdio.h>
#include <stdlib.h>

static void die(const char *what)
{
    fprintf(stderr, "bench_tls: %s\n", what);
    exit(1);
}

static double cpu_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

/* ---- two wires in memory ---- */

typedef struct wire {
    uint8_t data[1 << 17];
    size_t used;
} wire;

typedef struct wires {
    wire *in, *out;
    bool forget; /* what is sent goes nowhere */
} wires;

static long wire_send(void *self, const void *data, size_t size, short *wants)
{
    wires *w = (wires *)self;
    size_t n = dnstap__min(size, sizeof w->out->data - w->out->used);

    if (w->forget) return (long)size;
    *wants = POLLOUT;
    if (!n) return DNSTAP_AGAIN;
    memcpy(w->out->data + w->out->used, data, n);
    w->out->used += n;
    return (long)n;
}

static long wire_recv(void *self, void *data, size_t size, short *wants)
{
    wires *w = (wires *)self;
    size_t n = dnstap__min(size, w->in->used);

    *wants = POLLIN;
    if (!n) return DNSTAP_AGAIN;
    memcpy(data, w->in->data, n);
    memmove(w->in->data, w->in->data + n, w->in->used -= n);
    return (long)n;
}

static void wire_close(void *self) { ((wires *)self)->in->used = 0; }

/* ---- our side ---- */

typedef struct side {
    dnstap__tls_config *config;
    dnstap__tls *tls;
    dnstap_transport transport;
    wires wires;
    double longest; /* step of the last handshake */
} side;

static void side_open(side *s, const dnstap_options *o, bool server)
{
    dnstap__arena arena = {NULL, 0, SIZE_MAX, false};
    dnstap_transport lower;
    dnstap__tls_settings set = dnstap__tls_settings_of(o, "server.test");
    dnstap_error error;

    set.endpoint = "tls";
    set.server = server;
    (void)dnstap__tls_carve_config(&arena, &set);
    (void)dnstap__tls_carve(&arena, &set);
    arena.size = arena.used;
    arena.used = 0;
    arena.base = (uint8_t *)malloc(arena.size);
    if (!arena.base) die("no memory");
    s->config = dnstap__tls_carve_config(&arena, &set);
    s->tls = dnstap__tls_carve(&arena, &set);
    if (dnstap__tls_load(s->config, &set, &error) < 0) die(error.text);
    memset(&lower, 0, sizeof lower);
    lower.self = &s->wires;
    lower.send = wire_send;
    lower.recv = wire_recv;
    lower.close = wire_close;
    dnstap__tls_init(s->tls, s->config, &lower);
    s->transport = dnstap__tls_transport(s->tls);
}

static int side_step(side *s)
{
    double before = cpu_us(), took;
    short wants;
    int result = s->transport.start(s->transport.self, &wants);

    took = cpu_us() - before;
    if (took > s->longest) s->longest = took;
    if (result < 0 && result != DNSTAP_AGAIN) die(s->transport.error(s->transport.self));
    return result;
}

static void handshake(side *client, side *server)
{
    int c = DNSTAP_AGAIN, s = DNSTAP_AGAIN;

    client->longest = server->longest = 0;
    client->wires.forget = false;
    while (c == DNSTAP_AGAIN || s == DNSTAP_AGAIN) {
        if (c == DNSTAP_AGAIN) c = side_step(client);
        if (s == DNSTAP_AGAIN) s = side_step(server);
    }
}

static double send_ours(side *client, const uint8_t *data, size_t size, unsigned megabytes)
{
    double before;
    size_t at;
    short wants;
    long n;

    client->wires.forget = true;
    for (before = cpu_us(); megabytes; megabytes--)
        for (at = 0; at < size; at += (size_t)n) {
            n = client->transport.send(client->transport.self, data + at, size - at, &wants);
            if (n < 0) die(client->transport.error(client->transport.self));
        }
    return cpu_us() - before;
}

/* ---- BearSSL's way, in the connection that we have opened ---- */

static int forget_write(void *context, const unsigned char *data, size_t size)
{
    (void)context;
    (void)data;
    return (int)size;
}

static int no_read(void *context, unsigned char *data, size_t size)
{
    (void)context;
    (void)data;
    (void)size;
    return -1;
}

static double send_peer(side *client, const uint8_t *data, size_t size, unsigned megabytes)
{
    br_sslio_context io;
    double before;

    br_sslio_init(&io, client->tls->engine, no_read, NULL, forget_write, NULL);
    for (before = cpu_us(); megabytes; megabytes--)
        if (br_sslio_write_all(&io, data, size) < 0 || br_sslio_flush(&io) < 0) die("sslio");
    return cpu_us() - before;
}

static void row(const char *name, const char *unit, const char *side_name, double value)
{
    printf("%s\t%s\t%s\t%.3f\n", name, unit, side_name, value);
}

int main(int argc, char **argv)
{
    static uint8_t data[1 << 20];
    static wire to_server, to_client;
    static side client, server;
    static dnstap_options ours, theirs;
    unsigned repetitions, megabytes, i;

    if (argc != 6) die("usage: bench_tls REPETITIONS MEGABYTES CA.pem CERT.pem KEY.pem");
    repetitions = (unsigned)atoi(argv[1]);
    megabytes = (unsigned)atoi(argv[2]);
    ours.ca_file = argv[3];
    theirs.cert_file = argv[4];
    theirs.key_file = argv[5];
    client.wires.in = server.wires.out = &to_client;
    client.wires.out = server.wires.in = &to_server;
    side_open(&client, &ours, false);
    side_open(&server, &theirs, true);
    for (i = 0; i < repetitions; i++) {
        handshake(&client, &server);
        row("tls_step_client", "us", "ours", client.longest);
        row("tls_step_server", "us", "ours", server.longest);
        row("tls_cpu", "us/MB", "ours",
            send_ours(&client, data, sizeof data, megabytes) / megabytes);
        row("tls_cpu", "us/MB", "peer",
            send_peer(&client, data, sizeof data, megabytes) / megabytes);
        client.transport.close(client.transport.self);
        server.transport.close(server.transport.self);
    }
    return 0;
}
