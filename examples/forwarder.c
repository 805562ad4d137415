/* Shows how a DNS server logs to dnstap: a small real forwarder. Build: make build/forwarder
 *   cc -I. -o build/forwarder examples/forwarder.c -lprotobuf-nanopb -lbearssl -lpthread
 *
 * UDP, TCP and the taps share one poll loop; there are no threads. A query over TCP goes to the
 * upstream over TCP; an answer too large for UDP sends the client there. Which taps there are is
 * text, as CoreDNS has it: forwarder --help.
 *
 * All that concerns dnstap is marked: single lines end in "dnstap", blocks stand between >>dnstap
 * and <<dnstap. What a server adds is that, and nothing else. What is marked "extra" likewise is
 * for --extra alone: a template as CoreDNS has them, {/forward/upstream} among its labels. */
/* For struct in6_pktinfo: */
#define _GNU_SOURCE
#define DNSTAP_IMPLEMENTATION /* dnstap */
#include "dnstap.h"           /* dnstap */

#include "forwarder_net.h"

#include <inttypes.h>

enum {
    LISTENERS_MAX = 8,
    CLIENTS_MAX = 64,  /* TCP connections; a new one replaces the one idle longest */
    QUERIES_MAX = 512, /* on their way to the upstream; a new one replaces the oldest */
    TAPS_MAX = 8,
    TRY_MS = 2000, /* for an answer, TRIES times; then SERVFAIL */
    TRIES = 2,
    IDLE_MS = 10000 /* a connection that for so long neither asks nor takes an answer is closed */
};

/* Who asked whom and when: what the tap logs beside the message. */
typedef struct exchange {
    address from, to; /* the asking side's and the answering side's */
    uint32_t protocol;
    struct timespec asked, answered;
} exchange;

/* The one way this program speaks of itself; also the taps' log. */
static void note(void *user, int level, const char *text)
{
    (void)user;
    (void)level;
    fprintf(stderr, "forwarder: %s\n", text);
}

/* problem: errno's value; 0: it was used wrongly. */
static void die(int problem, const char *what, const char *why)
{
    fprintf(stderr, "forwarder: %s: %s\n", what, why);
    exit(problem ? 1 : 2);
}

#include "forwarder_config.h"

/* >>dnstap */
enum { UDP = DNSTAP_PROTOCOL_UDP, TCP = DNSTAP_PROTOCOL_TCP };
static dnstap_options tap_options[TAPS_MAX];
static dnstap_tap *taps[TAPS_MAX + 1];               /* ends in NULL */
static int tap_slots[TAPS_MAX], tap_sizes[TAPS_MAX]; /* in the poll array */
/* <<dnstap */

/* ---- queries ------------------------------------------------------------------------------ */

typedef struct client { /* a TCP connection to us */
    stream *stream;     /* NULL: free */
    address peer, local;
    uint64_t deadline;
    unsigned waiting; /* its queries on their way to the upstream */
    bool ended;       /* it will ask no more */
    int slot;         /* in the poll array; -1: not in it this time */
} client;

typedef struct query {
    uint8_t *wire; /* NULL: free; ours once it is forwarded, and then with our id */
    size_t size;
    const uint8_t *request; /* as the client wrote it */ /* extra */
    unsigned id;                                         /* the client's */
    facts facts;
    client *client; /* NULL: asked over UDP, and these say how to answer: */
    int udp;
    route route;
    exchange asked;    /* the client asks us */
    exchange upstream; /* we ask the upstream, from here on: */
    int fd;            /* connected, so that only the upstream's packets come in; -1: none */
    stream *stream;    /* of fd, when over TCP */
    int tries, slot;
    uint64_t begun, deadline;
} query;

static client clients[CLIENTS_MAX];
static query queries[QUERIES_MAX];
static address upstream;
static bool have_upstream;

/* >>dnstap */
static void tap_message(uint32_t type, query *q, const exchange *x, const uint8_t *dns, size_t size)
{
    for (int i = 0; taps[i]; i++) {
        dnstap_message m;
        if (!dnstap_wants(taps[i], type)) continue;
        dnstap_fill(&m, type, &x->from.sa, &x->to.sa, x->protocol, &x->asked, &x->answered, dns,
                    size);
        m.request = dnstap_bytes_of(q->request, q->size);                    /* extra */
        dnstap_set_client_address(&m, &q->asked.from.sa, q->asked.protocol); /* extra */
        dnstap_set_local_address(&m, &q->asked.to.sa);                       /* extra */
        m.user = q;                                                          /* extra */
        dnstap_log(taps[i], &m);
    }
}
/* <<dnstap */

/* >>extra: what {/label} says of a query; as long as it was not forwarded, nothing */
static long tell(void *user, const dnstap_message *m, const char *label, char *out, size_t size)
{
    const query *q = (const query *)m->user;
    (void)user;
    if (strcmp(label, "forward/upstream") != 0 || !q->upstream.to.sa.sa_family) return -1;
    format_address(out, size, &q->upstream.to);
    return (long)strlen(out);
}
/* <<extra */

/* Gives the client its answer. There is room for it: see may_ask. */
static void answer(query *q, uint8_t *wire, size_t size)
{
    put16(wire, q->id);
    if (!q->client && size > q->facts.udp_size) size = truncate_answer(wire, &q->facts);
    clock_gettime(CLOCK_REALTIME, &q->asked.answered);
    if (q->client) {
        put_frame(q->client->stream, wire, size);
        q->client->deadline = now + IDLE_MS;
    } else {
        return_datagram(q->udp, &q->asked.from, &q->route, wire, size);
    }
    tap_message(DNSTAP_MSG_CLIENT_RESPONSE, q, &q->asked, wire, size); /* dnstap */
}

/* Answers by ourselves: with the host's records, or with an error. */
static void answer_alone(query *q, const host *h, unsigned rcode)
{
    static uint8_t out[MESSAGE_MAX];
    size_t size = begin_answer(out, q->wire, &q->facts, rcode, have_upstream);
    if (h) {
        out[2] |= AA;
        size = add_records(out, size, h, q->facts.type);
    }
    answer(q, out, end_answer(out, size, &q->facts, rcode));
}

static void hang_up(query *q)
{
    if (q->fd >= 0) close(q->fd);
    free(q->stream);
    q->stream = NULL;
    q->fd = -1;
}

static void forget(query *q)
{
    hang_up(q);
    free(q->wire);
    q->wire = NULL;
    if (q->client) q->client->waiting--;
}

/* The query has gone out. */
static void note_forwarded(query *q)
{
    clock_gettime(CLOCK_REALTIME, &q->upstream.asked);
    tap_message(DNSTAP_MSG_FORWARDER_QUERY, q, &q->upstream, q->wire, q->size); /* dnstap */
}

/* Each query has its own socket and with it a port that can't be foreseen, like the id. */
static bool dial(query *q)
{
    socklen_t size = sizeof q->upstream.from;
    q->upstream.to = upstream;
    q->upstream.protocol = q->asked.protocol;
    q->fd = tame(socket(upstream.sa.sa_family, q->client ? SOCK_STREAM : SOCK_DGRAM, 0));
    if (q->fd < 0 || getentropy(q->wire, 2) < 0) return false;
    if (connect(q->fd, &upstream.sa, address_size(&upstream)) < 0 && errno != EINPROGRESS) {
        return false;
    }
    if (getsockname(q->fd, &q->upstream.from.sa, &size) < 0) return false;
    if (!q->client) return true;
    q->stream = new_stream(q->fd);
    if (q->stream) put_frame(q->stream, q->wire, q->size);
    return q->stream != NULL;
}

/* Over UDP the same bytes go out again, so that a late answer to the first still counts; a TCP
 * connection that is merely slow goes on. */
static void try_again(query *q)
{
    bool dialled = q->fd >= 0;
    q->deadline = now + TRY_MS;
    if (q->tries++ == TRIES || (!dialled && !dial(q))) {
        answer_alone(q, NULL, SERVFAIL);
        forget(q);
    } else if (!q->client && send(q->fd, q->wire, q->size, MSG_NOSIGNAL) >= 0) {
        note_forwarded(q);
    }
}

/* A free place, if need be that of the oldest query. */
static query *query_place(void)
{
    query *oldest = queries;
    for (query *q = queries; q < queries + QUERIES_MAX; q++) {
        if (!q->wire) return q;
        if (q->begun < oldest->begun) oldest = q;
    }
    answer_alone(oldest, NULL, SERVFAIL);
    forget(oldest);
    return oldest;
}

static void forward(const query *asked)
{
    query *q = query_place();
    uint8_t *wire = (uint8_t *)malloc(2 * asked->size);
    if (!wire) return;
    *q = *asked;
    q->wire = (uint8_t *)memcpy(wire, asked->wire, asked->size);
    q->request = (uint8_t *)memcpy(wire + asked->size, asked->wire, asked->size); /* extra */
    q->begun = now;
    q->fd = q->slot = -1;
    if (q->client) q->client->waiting++;
    try_again(q);
}

/* A client's query, with all that is known of where it came from. */
static void ask(query *q)
{
    const host *h = NULL;
    if (q->size < HEADER || (q->wire[2] & QR)) return;
    q->request = q->wire; /* extra */
    clock_gettime(CLOCK_REALTIME, &q->asked.asked);
    tap_message(DNSTAP_MSG_CLIENT_QUERY, q, &q->asked, q->wire, q->size); /* dnstap */
    q->id = get16(q->wire);
    q->facts = read_query(q->wire, q->size);
    if (q->facts.class == CLASS_IN) h = find_host(q->wire + HEADER, q->facts.name_size);
    if (q->wire[2] & OPCODE) {
        answer_alone(q, NULL, NOTIMP);
    } else if (!q->facts.question_end) {
        answer_alone(q, NULL, FORMERR);
    } else if (q->facts.version > 0) {
        answer_alone(q, NULL, BADVERS);
    } else if (h || !have_upstream) {
        answer_alone(q, h, h ? NOERROR : REFUSED);
    } else {
        forward(q);
    }
}

/* The upstream's answer goes to the client under its own id and in its own spelling. False: it is
 * not the answer to this query. */
static bool take_answer(query *q, uint8_t *wire, size_t size)
{
    if (!same_question(q->wire, &q->facts, wire, size)) return false;
    if (get16(wire) != get16(q->wire) || !(wire[2] & QR)) return false;
    clock_gettime(CLOCK_REALTIME, &q->upstream.answered);
    tap_message(DNSTAP_MSG_FORWARDER_RESPONSE, q, &q->upstream, wire, size); /* dnstap */
    memcpy(wire + HEADER, q->wire + HEADER, q->facts.name_size);
    answer(q, wire, size);
    forget(q);
    return true;
}

static void redial(query *q)
{
    hang_up(q);
    try_again(q);
}

static void read_datagrams(query *q)
{
    static uint8_t wire[MESSAGE_MAX];
    ssize_t n;
    while ((n = recv(q->fd, wire, sizeof wire, 0)) >= 0) {
        if (take_answer(q, wire, (size_t)n)) return;
    }
    if (errno != EAGAIN && errno != EINTR) redial(q); /* such as: nobody listens there */
}

static void serve_upstream_stream(query *q)
{
    stream *s = q->stream;
    bool sending = s->out_size > 0, alive = write_stream(s);
    if (sending && alive && s->out_size == 0) note_forwarded(q);
    ssize_t n = read_stream(s);
    size_t frame = whole_frame(s->in, s->in_size);
    if (frame && take_answer(q, s->in + 2, frame - 2)) return;
    if (!alive || frame || n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) redial(q);
}

static void serve_query(query *q, short events)
{
    if (events && q->stream) {
        serve_upstream_stream(q);
    } else if (events) {
        read_datagrams(q);
    }
    if (q->wire && now >= q->deadline) try_again(q);
}

/* ---- clients ------------------------------------------------------------------------------ */

static listener listeners[LISTENERS_MAX];
static int listener_count;

/* False: there is none. */
static bool serve_datagram(const listener *l)
{
    static uint8_t wire[MESSAGE_MAX];
    query q = {.wire = wire, .udp = l->udp};
    q.asked.to = l->at;
    ssize_t n = receive_datagram(l->udp, &q.asked.from, &q.asked.to, &q.route, wire, sizeof wire);
    if (n < 0) return false;
    q.size = (size_t)n;
    q.asked.protocol = UDP;
    ask(&q);
    return true;
}

static void close_client(client *c)
{
    for (query *q = queries; q < queries + QUERIES_MAX; q++) {
        if (q->wire && q->client == c) forget(q);
    }
    close(c->stream->fd);
    free(c->stream);
    c->stream = NULL;
}

/* A free place, if need be that of the client silent longest. */
static client *client_place(void)
{
    client *oldest = clients;
    for (client *c = clients; c < clients + CLIENTS_MAX; c++) {
        if (!c->stream) return c;
        if (c->deadline < oldest->deadline) oldest = c;
    }
    close_client(oldest);
    return oldest;
}

static void accept_client(const listener *l)
{
    client c = {.deadline = now + IDLE_MS, .slot = -1};
    socklen_t peer_size = sizeof c.peer, local_size = sizeof c.local;
    client *place = client_place();
    int fd = tame(accept(l->tcp, &c.peer.sa, &peer_size));
    if (fd < 0) return;
    getsockname(fd, &c.local.sa, &local_size);
    c.stream = new_stream(fd);
    if (!c.stream) close(fd);
    *place = c;
}

/* Whether there is room for one more answer beside those that are on their way. */
static bool may_ask(const client *c)
{
    return c->stream->out_size + (c->waiting + 1) * FRAME_MAX <= sizeof c->stream->out;
}

/* Asks what the client has sent in whole, as far as it may. */
static void ask_stream(client *c)
{
    stream *s = c->stream;
    size_t done = 0, frame;
    while (may_ask(c) && (frame = whole_frame(s->in + done, s->in_size - done)) > 0) {
        query q = {.wire = s->in + done + 2, .size = frame - 2, .client = c};
        q.asked.from = c->peer;
        q.asked.to = c->local;
        q.asked.protocol = TCP;
        c->deadline = now + IDLE_MS;
        ask(&q);
        done += frame;
    }
    s->in_size -= done;
    memmove(s->in, s->in + done, s->in_size);
}

/* Asks and answers until one of both has to wait. False: the connection is gone. */
static bool converse(client *c)
{
    stream *s = c->stream;
    do {
        ask_stream(c);
        size_t unsent = s->out_size;
        if (!write_stream(s)) return false;
        if (s->out_size < unsent) c->deadline = now + IDLE_MS;
    } while (may_ask(c) && whole_frame(s->in, s->in_size) > 0);
    return true;
}

static void serve_client(client *c, short events)
{
    bool alive = !(events & (POLLERR | POLLHUP | POLLNVAL)) && now < c->deadline;
    if (alive && (events & POLLIN)) {
        ssize_t n = read_stream(c->stream);
        if (n == 0) c->ended = true;
        alive = n >= 0 || errno == EAGAIN || errno == EINTR;
    }
    alive = alive && converse(c);
    if (c->ended && c->waiting == 0 && c->stream->out_size == 0) alive = false;
    if (!alive) close_client(c);
}

static short client_wants(const client *c)
{
    bool read = !c->ended && may_ask(c) && c->stream->in_size < sizeof c->stream->in;
    return (short)((read ? POLLIN : 0) | (c->stream->out_size ? POLLOUT : 0));
}

/* ---- the loop ----------------------------------------------------------------------------- */

/* Fills the poll array: signals, listeners, queries, clients, taps. Returns the timeout. */
static int watch_all(void)
{
    int timeout = -1, ms;
    polled_count = 0;
    watch(signals[0], POLLIN);
    for (int i = 0; i < listener_count; i++) {
        watch(listeners[i].udp, POLLIN);
        watch(listeners[i].tcp, POLLIN);
    }
    for (query *q = queries; q < queries + QUERIES_MAX; q++) {
        if (!q->wire) continue;
        q->slot = watch(q->fd, q->stream && q->stream->out_size ? POLLIN | POLLOUT : POLLIN);
        timeout = sooner(timeout, until(q->deadline));
    }
    for (client *c = clients; c < clients + CLIENTS_MAX; c++) {
        if (!c->stream) continue;
        c->slot = watch(c->stream->fd, client_wants(c));
        timeout = sooner(timeout, until(c->deadline));
    }
    /* >>dnstap */
    for (int i = 0; taps[i]; i++, timeout = sooner(timeout, ms)) {
        struct pollfd *fds = polled + (tap_slots[i] = polled_count);
        polled_count += tap_sizes[i] = dnstap_pollfds(taps[i], fds, POLL_MAX - polled_count, &ms);
    }
    /* <<dnstap */
    return timeout;
}

/* Who comes into being or ends meanwhile is no trouble: slots are looked at once, and a newcomer
 * has none. */
static void serve_all(void)
{
    for (int i = 0; i < listener_count; i++) {
        for (int n = 64; n > 0 && ready(1 + 2 * i) && serve_datagram(&listeners[i]);) n--;
        if (ready(2 + 2 * i)) accept_client(&listeners[i]);
    }
    for (query *q = queries; q < queries + QUERIES_MAX; q++) {
        if (q->wire) serve_query(q, ready(q->slot));
    }
    for (client *c = clients; c < clients + CLIENTS_MAX; c++) {
        if (c->stream) serve_client(c, ready(c->slot));
    }
    for (int i = 0; taps[i]; i++)                                         /* dnstap */
        dnstap_service_fds(taps[i], polled + tap_slots[i], tap_sizes[i]); /* dnstap */
}

static void run(void)
{
    do {
        read_clock();
        int timeout = watch_all();
        if (poll(polled, (nfds_t)polled_count, timeout) < 0) continue; /* EINTR */
        read_clock();
        serve_all();
    } while (ready(0) == 0);
}

/* ---- beginning and end -------------------------------------------------------------------- */

static void add_listener(const char *text)
{
    listener *l = &listeners[listener_count++];
    if (listener_count > LISTENERS_MAX) die(0, text, "too many");
    if (!parse_address(&l->at, text)) die(0, text, "expected ADDR:PORT or [ADDR]:PORT");
    if (!open_listener(l)) die(errno, text, strerror(errno));
}

static void set_upstream(const char *text)
{
    have_upstream = parse_address(&upstream, text);
    if (!have_upstream) die(0, text, "expected ADDR:PORT or [ADDR]:PORT");
}

static const char *template; /* extra */

static void set_template(const char *text) { template = text; } /* extra */

static void load_hosts(const char *file)
{
    if (!read_hosts(file)) die(errno, file, strerror(errno));
}

static void set_option(const char *name, const char *value)
{
    static const struct {
        const char *name;
        void (*set)(const char *value);
    } all[] = {{"--dns", add_listener},      {"--hosts", load_hosts},  {"--upstream", set_upstream},
               {"--config", read_config},    {"--tap", add_tap},       {"--listen", add_listen},
               {"--cert", set_cert},         {"--key", set_key},       {"--ca", set_ca},
               {"--identity", set_identity}, {"--extra", set_template}}; /* extra */
    size_t i = 0;
    while (i < sizeof all / sizeof *all && strcmp(name, all[i].name) != 0) i++;
    if (i == sizeof all / sizeof *all) die(0, name, "no such option; see forwarder --help");
    if (!value) die(0, name, "needs a value; see forwarder --help");
    all[i].set(value);
}

static void say_listening(void)
{
    char line[128] = "listening on ";
    for (int i = 0; i < listener_count; i++) {
        format_address(line + 13, sizeof line - 13, &listeners[i].at);
        note(NULL, 0, line);
    }
}

/* Ends everything but the taps. */
static void close_sockets(void)
{
    for (client *c = clients; c < clients + CLIENTS_MAX; c++) {
        if (c->stream) close_client(c);
    }
    for (query *q = queries; q < queries + QUERIES_MAX; q++) {
        if (q->wire) forget(q);
    }
    for (int i = 0; i < listener_count; i++) {
        close(listeners[i].udp);
        close(listeners[i].tcp);
    }
    free(hosts);
}

static void report(const char *endpoint, const char *state, uint64_t logged, uint64_t sent,
                   uint64_t dropped)
{
    fprintf(stderr,
            "forwarder: %s: %s, logged %" PRIu64 ", sent %" PRIu64 ", dropped %" PRIu64 "\n",
            endpoint, state, logged, sent, dropped);
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--full") == 0) {
            full = " full";
        } else if (strcmp(argv[i], "--skipverify") == 0) {
            skipverify = true;
        } else if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            return fputs(usage, stdout) < 0;
        } else {
            set_option(argv[i], argv[i + 1]);
            i++;
        }
    }
    if (listener_count == 0) die(0, "--dns", "is missing; see forwarder --help");
    add_directives();
    /* >>dnstap */
    dnstap_error why;
    int count = dnstap_parse(config, strings, sizeof strings, tap_options, TAPS_MAX, NULL, &why);
    if (count < 0) die(0, "taps", why.text);
    for (int i = 0; i < count; i++) {
        tap_options[i].log = note;
        if (template) tap_options[i].extra = template; /* extra */
        tap_options[i].metadata = tell;                /* extra */
        if (!(taps[i] = dnstap_open(&tap_options[i], &why))) die(why.sys_errno, "taps", why.text);
    }
    /* <<dnstap */
    if (!catch_signals()) die(errno, "signals", strerror(errno));
    say_listening();
    run();
    close_sockets();
    /* >>dnstap: flush delivers what is queued, so that the counters are final */
    for (int i = 0; taps[i]; i++) {
        dnstap_status s;
        int flushed = dnstap_flush(taps[i], 2000);
        dnstap_get_status(taps[i], &s);
        report(tap_options[i].endpoint, dnstap_state_name(s.state), s.logged, s.sent, s.dropped);
        dnstap_close(taps[i], flushed == DNSTAP_OK ? 2000 : 0);
    }
    /* <<dnstap */
    return 0;
}
