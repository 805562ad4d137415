/* What the TLS tests share: certificates made by openssl, and two connections of ours joined by
 * two wires in memory, which can be made slow, narrow and faulty. */
#ifndef TLS_SUPPORT_H_INCLUDED
#define TLS_SUPPORT_H_INCLUDED

#define DNSTAP_IMPLEMENTATION
#include "dnstap.h"
#include "unit.h"

static char tls_dir[] = "/tmp/dnstap-tls-XXXXXX";

/* FILE in the folder of the certificates; good for a handful of calls. */
static inline const char *in_dir(const char *file)
{
    static char paths[8][128];
    static unsigned next;
    char *path = paths[next++ % 8];

    snprintf(path, sizeof paths[0], "%s/%s", tls_dir, file);
    return path;
}

static inline int shell(const char *command)
{
    char line[2048];

    snprintf(line, sizeof line, "cd %s && { %s; } >>log 2>&1", tls_dir, command);
    return system(line);
}

/* ca, other-ca; server, client (P-256), rsa (2048) signed by ca: .pem and .key */
static int make_certificates(void **state)
{
    static const char script[] =
        "printf '[req]\\ndistinguished_name = dn\\n[dn]\\n' >cnf; export OPENSSL_CONF=cnf; "
        "ec='-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30'; "
        "for ca in ca other-ca; do "
        "  openssl req -x509 $ec -keyout $ca.key -out $ca.pem -subj /CN=$ca"
        "    -addext basicConstraints=critical,CA:TRUE || exit 1; done; "
        "by='-CA ca.pem -CAkey ca.key'; "
        "openssl req -x509 $ec $by -keyout server.key -out server.pem -subj /CN=server.test"
        "  -addext subjectAltName=DNS:server.test,IP:127.0.0.1 && "
        "openssl req -x509 $ec $by -keyout client.key -out client.pem -subj /CN=client && "
        "openssl req -x509 -newkey rsa:2048 -nodes -days 30 $by -keyout rsa.key -out rsa.pem"
        "  -subj /CN=server.test -addext subjectAltName=DNS:server.test";

    (void)state;
    if (!mkdtemp(tls_dir)) return -1;
    return shell(script);
}

static int remove_certificates(void **state)
{
    char line[128];

    (void)state;
    snprintf(line, sizeof line, "rm -rf %s", tls_dir);
    return system(line);
}

/* ---- wires ---- */

typedef struct wire {
    uint8_t data[1 << 17];
    size_t used, total;
    bool ended;
} wire;

typedef struct wires {
    wire *in, *out;
    size_t most;  /* bytes that pass in one call; 0: all there is room for */
    bool stutter; /* every second call of its kind has nothing to do */
    unsigned sends, recvs;
    bool blocked; /* takes nothing */
    int broken;   /* send fails with this */
    int closes, shuts;
} wires;

static inline long wire_send(void *self, const void *data, size_t size, short *wants)
{
    wires *w = (wires *)self;
    size_t room = sizeof w->out->data - w->out->used;

    if (w->broken) return w->broken;
    if (w->most && room > w->most) room = w->most;
    if (room > size) room = size;
    if ((w->stutter && ++w->sends % 2) || w->blocked || !room) {
        *wants = POLLOUT;
        return DNSTAP_AGAIN;
    }
    memcpy(w->out->data + w->out->used, data, room);
    w->out->used += room;
    w->out->total += room;
    return (long)room;
}

static inline long wire_recv(void *self, void *data, size_t size, short *wants)
{
    wires *w = (wires *)self;
    size_t n = w->in->used;

    if (!n && w->in->ended) return DNSTAP_END;
    if (w->most && n > w->most) n = w->most;
    if (n > size) n = size;
    if ((w->stutter && ++w->recvs % 2) || !n) {
        *wants = POLLIN;
        return DNSTAP_AGAIN;
    }
    memcpy(data, w->in->data, n);
    memmove(w->in->data, w->in->data + n, w->in->used -= n);
    return (long)n;
}

static inline int wire_shut(void *self, short *wants)
{
    (void)wants;
    ((wires *)self)->shuts++;
    ((wires *)self)->out->ended = true;
    return DNSTAP_OK;
}

static inline void wire_close(void *self) { ((wires *)self)->closes++; }
static inline int wire_fd(void *self) { return self ? 7 : -1; }

static inline const char *wire_error(void *self)
{
    (void)self;
    return "the wire is cut";
}

/* ---- one side ---- */

typedef struct side {
    dnstap_options options;
    dnstap__tls_config *config;
    dnstap__tls *tls;
    dnstap_transport transport;
    wires wires;
    void *memory;
    dnstap_error error;
    short wants;
} side;

typedef struct pair {
    side client, server;
    wire to_server, to_client;
} pair;

static inline int side_load(side *s, bool server)
{
    dnstap__arena arena = {NULL, 0, SIZE_MAX, false};
    dnstap__tls_settings set = dnstap__tls_settings_of(&s->options, "server.test");
    dnstap_transport lower;
    int code;

    set.endpoint = "tls://server.test:6000";
    set.server = server;
    (void)dnstap__tls_carve_config(&arena, &set);
    (void)dnstap__tls_carve(&arena, &set);
    free(s->memory);
    s->memory = malloc(arena.used);
    assert_non_null(s->memory);
    arena.base = (uint8_t *)s->memory;
    arena.size = arena.used;
    arena.used = 0;
    s->config = dnstap__tls_carve_config(&arena, &set);
    s->tls = dnstap__tls_carve(&arena, &set);
    assert_false(arena.overflow);
    assert_int_equal(arena.used, arena.size);
    code = dnstap__tls_load(s->config, &set, &s->error);
    if (code < 0) return code;
    lower.self = &s->wires;
    lower.start = NULL;
    lower.send = wire_send;
    lower.recv = wire_recv;
    lower.shut = wire_shut;
    lower.close = wire_close;
    lower.fd = wire_fd;
    lower.error = wire_error;
    dnstap__tls_init(s->tls, s->config, &lower);
    s->transport = dnstap__tls_transport(s->tls);
    return DNSTAP_OK;
}

static inline int side_start(side *s) { return s->transport.start(s->transport.self, &s->wants); }

static inline long side_send(side *s, const void *data, size_t size)
{
    return s->transport.send(s->transport.self, data, size, &s->wants);
}

static inline long side_recv(side *s, void *data, size_t size)
{
    return s->transport.recv(s->transport.self, data, size, &s->wants);
}

static inline int side_shut(side *s) { return s->transport.shut(s->transport.self, &s->wants); }
static inline const char *side_error(side *s) { return s->transport.error(s->transport.self); }
static inline void side_close(side *s) { s->transport.close(s->transport.self); }

/* ---- a pair ---- */

static inline pair *pair_new(void)
{
    pair *p = (pair *)calloc(1, sizeof *p);

    assert_non_null(p);
    p->client.options.ca_file = in_dir("ca.pem");
    p->server.options.cert_file = in_dir("server.pem");
    p->server.options.key_file = in_dir("server.key");
    p->client.wires.in = p->server.wires.out = &p->to_client;
    p->client.wires.out = p->server.wires.in = &p->to_server;
    return p;
}

static inline void pair_load(pair *p)
{
    assert_int_equal(side_load(&p->client, false), DNSTAP_OK);
    assert_int_equal(side_load(&p->server, true), DNSTAP_OK);
}

static inline void pair_free(pair *p)
{
    free(p->client.memory);
    free(p->server.memory);
    free(p);
}

/* Both sides in turn until neither goes on. Returns the client's result. */
static inline int pair_handshake(pair *p, int *server)
{
    int c = DNSTAP_AGAIN, s = DNSTAP_AGAIN, rounds;

    for (rounds = 0; rounds < 100000 && (c == DNSTAP_AGAIN || s == DNSTAP_AGAIN); rounds++) {
        if (c == DNSTAP_AGAIN) c = side_start(&p->client);
        if (c == DNSTAP_AGAIN) assert_int_not_equal(p->client.wants, 0);
        if (s == DNSTAP_AGAIN) s = side_start(&p->server);
        if (s == DNSTAP_AGAIN) assert_int_not_equal(p->server.wants, 0);
    }
    if (server) *server = s;
    return c;
}

static inline pair *pair_connected(void)
{
    pair *p = pair_new();
    int server;

    pair_load(p);
    assert_int_equal(pair_handshake(p, &server), DNSTAP_OK);
    assert_int_equal(server, DNSTAP_OK);
    return p;
}

/* Sends all, receives all, compares. */
static inline void pair_transfer(side *from, side *to, size_t size)
{
    uint8_t *out = (uint8_t *)malloc(size), *in = (uint8_t *)malloc(size);
    size_t sent = 0, got = 0, i;
    unsigned rounds;
    long n;

    for (i = 0; i < size; i++) out[i] = (uint8_t)(i * 7 + i / 251);
    for (rounds = 0; got < size && rounds < 10000000; rounds++) {
        n = sent < size ? side_send(from, out + sent, size - sent) : DNSTAP_AGAIN;
        assert_true(n > 0 || n == DNSTAP_AGAIN);
        if (n > 0) sent += (size_t)n;
        n = side_recv(to, in + got, size - got);
        assert_true(n > 0 || n == DNSTAP_AGAIN);
        if (n > 0) got += (size_t)n;
    }
    assert_int_equal(sent, size);
    assert_int_equal(got, size);
    assert_memory_equal(out, in, size);
    free(out);
    free(in);
}

/* Both close, in turn, until both are through. */
static inline void pair_close(pair *p)
{
    uint8_t byte;
    int c = DNSTAP_AGAIN, rounds;
    long s = DNSTAP_AGAIN;

    for (rounds = 0; rounds < 100000 && (c == DNSTAP_AGAIN || s == DNSTAP_AGAIN); rounds++) {
        if (c == DNSTAP_AGAIN) c = side_shut(&p->client);
        if (s == DNSTAP_AGAIN) s = side_recv(&p->server, &byte, 1);
    }
    assert_int_equal(c, DNSTAP_OK);
    assert_int_equal(s, DNSTAP_END);
    assert_int_equal(p->client.tls->state, DNSTAP__TLS_CLOSED);
    assert_int_equal(p->server.tls->state, DNSTAP__TLS_CLOSED);
}

#endif
