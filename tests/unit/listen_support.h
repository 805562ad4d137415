/* Sinks that connect to a listening tap, played step by step, for the tests of taps that listen.
 * Include it after tap_peer.h. Each guest has an oracle of its own: what it must be sent begins
 * with the first message after its START. */
#ifndef LISTEN_SUPPORT_H
#define LISTEN_SUPPORT_H

enum { GUESTS = 32 };

typedef struct guest {
    int fd;    /* -1: none */
    bool deaf; /* reads only when the test says so */
    bool mute; /* says no FINISH */
    bool ended;
    unsigned replies;
    oracle stream;
    struct sightings seen;
} guest;

static guest guests[GUESTS];

/* -- time, and what the tap says -- */

static uint64_t pretended_ms;

HELPER uint64_t pretend(void *user)
{
    (void)user;
    return pretended_ms;
}

static char lines[1 << 16];
static size_t lines_size;

HELPER void note_line(void *user, int level, const char *text)
{
    hear(user, level, text);
    if (lines_size + strlen(text) + 2 > sizeof lines) return;
    lines_size += (size_t)sprintf(lines + lines_size, "%s\n", text);
}

/* How often the tap has said it. */
HELPER unsigned times_said(const char *text)
{
    const char *at = lines;
    unsigned n = 0;

    while ((at = strstr(at, text)) != NULL) n++, at++;
    return n;
}

/* -- a tap that listens -- */

/* On a unix socket of this name in the folder. */
HELPER const char *socket_at(const char *name)
{
    static char endpoint[128];

    snprintf(endpoint, sizeof endpoint, "unix://%s/%s", folder, name);
    return endpoint;
}

HELPER void host_options(dnstap_options *o, const char *endpoint)
{
    peer_options(o, endpoint);
    o->timeout_ms = 2000;
    o->listen = true;
    o->log = note_line;
}

HELPER dnstap_tap *host_open(const dnstap_options *o)
{
    unsigned i;

    memset(guests, 0, sizeof guests);
    for (i = 0; i < GUESTS; i++) guests[i].fd = -1;
    lines[lines_size = 0] = '\0';
    pretended_ms = 1000000;
    return open_afresh(o);
}

HELPER dnstap_status status_of(dnstap_tap *tap)
{
    static dnstap_status s;

    dnstap_get_status(tap, &s);
    return s;
}

/* What the status and the sinks' own counters say must agree. */
HELPER void check_host_books(dnstap_tap *tap)
{
    static dnstap_peer peers[GUESTS];
    dnstap_status s = status_of(tap);
    int n = dnstap_get_peers(tap, peers, GUESTS), i;
    uint64_t behind = 0, sinks = 0;

    assert_int_equal(s.logged, s.recorded + s.unwanted + s.dropped);
    assert_int_equal(s.offered, s.sent + s.lost + s.behind);
    assert_true(s.no_sink <= s.unwanted);
    assert_true(s.discarded + s.queued <= s.recorded);
    for (i = 0; i < n; i++) {
        assert_int_equal(peers[i].offered, peers[i].sent + peers[i].lost + peers[i].behind);
        behind += peers[i].behind;
        sinks += peers[i].state == DNSTAP_STARTED;
    }
    assert_int_equal(behind, s.behind);
    assert_int_equal(sinks, s.sinks);
    assert_int_equal(n, s.sinks + s.pending);
}

HELPER unsigned stuck_links(const dnstap_tap *tap)
{
    unsigned n = 0;
    uint32_t i;

    for (i = 0; i < tap->link_count; i++) n += tap->links[i].stuck != 0;
    return n;
}

/* -- guests -- */

HELPER int knock(dnstap_tap *tap)
{
    const char *endpoint = tap->options.endpoint;
    struct sockaddr_un local;
    struct sockaddr_in ip;
    int fd;

    memset(&local, 0, sizeof local);
    memset(&ip, 0, sizeof ip);
    ip.sin_family = AF_INET;
    ip.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ip.sin_port = htons(status_of(tap).port);
    local.sun_family = AF_UNIX;
    if (!ip.sin_port) strcpy(local.sun_path, endpoint + strlen("unix://"));
    fd = socket(ip.sin_port ? AF_INET : AF_UNIX, SOCK_STREAM, 0);
    assert_true(fd >= 0);
    if (ip.sin_port)
        assert_int_equal(connect(fd, (struct sockaddr *)&ip, sizeof ip), 0);
    else
        assert_int_equal(connect(fd, (struct sockaddr *)&local, sizeof local), 0);
    never_block(fd);
    return fd;
}

HELPER void guest_say(guest *g, const void *bytes, size_t size)
{
    assert_int_equal(send(g->fd, bytes, size, MSG_NOSIGNAL), size);
}

HELPER void guest_control(guest *g, uint8_t type)
{
    uint8_t frame[64];

    guest_say(g, frame, control_frame(frame, type));
}

HELPER void guest_leave(guest *g)
{
    if (g->fd >= 0) close(g->fd);
    g->fd = -1;
}

HELPER guest *guest_connect(dnstap_tap *tap)
{
    guest *g = guests;

    while (g->fd >= 0) g++;
    assert_true(g < guests + GUESTS);
    memset(g, 0, sizeof *g);
    g->fd = knock(tap);
    oracle_init(&g->stream, !tap->options.unidirectional);
    return g;
}

static void guest_take(guest *g, const uint8_t *data, size_t size)
{
    oracle_phase before = g->stream.phase;
    struct sightings others = seen;

    seen = g->seen;
    oracle_feed(&g->stream, data, size);
    g->seen = seen;
    seen = others;
    if (before == AT_READY && g->stream.phase == AT_START && g->replies++ == 0)
        guest_control(g, DNSTAP_CONTROL_ACCEPT);
    if (before != AT_END && g->stream.phase == AT_END && !g->mute)
        guest_control(g, DNSTAP_CONTROL_FINISH);
}

/* Reads at most `most` bytes; false: there was nothing, or it has ended. */
HELPER bool guest_read(guest *g, size_t most)
{
    static uint8_t block[1 << 17];
    ssize_t n = recv(g->fd, block, most < sizeof block ? most : sizeof block, 0);

    if (n < 0 && errno == EAGAIN) return false;
    if (n <= 0) g->ended = true;
    if (n > 0) guest_take(g, block, (size_t)n);
    return n > 0;
}

/* -- both in turns -- */

/* One turn of the loop that services the tap; nothing when it has a thread. */
HELPER void turn(dnstap_tap *tap)
{
    struct pollfd fds[64];
    int timeout, n;

    pretended_ms++;
    if (tap->thread.running) {
        poll(NULL, 0, 1);
        return;
    }
    n = dnstap_pollfds(tap, fds, 64, &timeout);
    poll(fds, (nfds_t)n, timeout < 0 || timeout > 2 ? 2 : timeout);
    assert_int_equal(dnstap_service_fds(tap, fds, n), DNSTAP_OK);
}

HELPER void turns(dnstap_tap *tap, int n)
{
    while (n--) turn(tap);
}

HELPER void go_on(dnstap_tap *tap)
{
    guest *g;

    turn(tap);
    for (g = guests; g < guests + GUESTS; g++)
        if (g->fd >= 0 && !g->deaf && !g->ended) guest_read(g, SIZE_MAX);
}

#define UNTIL(tap, condition)                                             \
    do {                                                                  \
        uint64_t end_ = real_ms() + PATIENCE;                             \
        while (!(condition)) {                                            \
            if (real_ms() > end_) fail_msg("never came: %s", #condition); \
            go_on(tap);                                                   \
        }                                                                 \
    } while (0)

/* Connects, and shakes hands. What is logged from now on must come. */
HELPER guest *guest_start(dnstap_tap *tap)
{
    guest *g = guest_connect(tap);

    UNTIL(tap, g->stream.phase == AT_DATA);
    memcpy(g->seen.next, logged, sizeof logged);
    return g;
}

/* Whether the guest has all that was logged. */
HELPER bool has_all(const guest *g) { return memcmp(g->seen.next, logged, sizeof logged) == 0; }

/* Closes the tap, with guests that read on. */
HELPER int host_close(dnstap_tap *tap, int timeout)
{
    closing it;
    guest *g;

    close_begin(&it, tap, timeout);
    while (pthread_tryjoin_np(it.thread, NULL) != 0) {
        for (g = guests; g < guests + GUESTS; g++)
            if (g->fd >= 0 && !g->deaf && !g->ended) guest_read(g, SIZE_MAX);
        poll(NULL, 0, 1);
    }
    for (g = guests; g < guests + GUESTS; g++) {
        while (g->fd >= 0 && !g->deaf && !g->ended && guest_read(g, SIZE_MAX)) continue;
        guest_leave(g);
    }
    return it.result;
}

#endif
