/* A collector on a real socket, which a test drives step by step, for the tests of the tap. Include
 * it after tap_support.h. */
#ifndef TAP_PEER_H
#define TAP_PEER_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { PATIENCE = 20000 }; /* ms; nothing a test waits for may take longer */

typedef struct collector {
    int listener, fd; /* -1: none */
    bool unidirectional;
    unsigned connections, reads, ends; /* ends: connections that said STOP */
    uint16_t port;
    char path[64], endpoint[80];
    oracle stream;
} collector;

/* A folder for the test, removed with what is in it at the end of the process. */
static char folder[48];

static void remove_folder(void)
{
    char path[400];
    DIR *all = opendir(folder);
    struct dirent *e;

    snprintf(path, sizeof path, "%s/small", folder);
    umount(path); /* of a test that failed */
    rmdir(path);
    while (all && (e = readdir(all)) != NULL) {
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        unlink(path);
    }
    if (all) closedir(all);
    rmdir(folder);
}

HELPER int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/dnstap-unit.XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

HELPER int drop_folder(void **state)
{
    (void)state;
    remove_folder();
    return 0;
}

static void never_block(int fd)
{
    assert_true(fd >= 0);
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    assert_int_equal(fcntl(fd, F_SETFD, FD_CLOEXEC), 0);
}

static void collector_listen(collector *c)
{
    struct sockaddr_un local;
    struct sockaddr_in ip;
    socklen_t size = sizeof ip;
    int on = 1;

    c->listener = socket(c->path[0] ? AF_UNIX : AF_INET, SOCK_STREAM, 0);
    never_block(c->listener);
    if (c->path[0]) {
        memset(&local, 0, sizeof local);
        local.sun_family = AF_UNIX;
        strcpy(local.sun_path, c->path);
        unlink(c->path);
        assert_int_equal(bind(c->listener, (struct sockaddr *)&local, sizeof local), 0);
        assert_int_equal(chmod(c->path, 0777), 0);
        snprintf(c->endpoint, sizeof c->endpoint, "unix://%s", c->path);
    } else {
        memset(&ip, 0, sizeof ip);
        ip.sin_family = AF_INET;
        ip.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        ip.sin_port = htons(c->port);
        setsockopt(c->listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        assert_int_equal(bind(c->listener, (struct sockaddr *)&ip, sizeof ip), 0);
        assert_int_equal(getsockname(c->listener, (struct sockaddr *)&ip, &size), 0);
        c->port = ntohs(ip.sin_port);
        snprintf(c->endpoint, sizeof c->endpoint, "tcp://127.0.0.1:%u", (unsigned)c->port);
    }
    assert_int_equal(listen(c->listener, 16), 0);
}

/* On a unix socket of this name in the folder, or (NULL) on a free port. */
HELPER void collector_open(collector *c, const char *name)
{
    memset(c, 0, sizeof *c);
    c->fd = -1;
    if (name) snprintf(c->path, sizeof c->path, "%s/%s", folder, name);
    collector_listen(c);
}

HELPER void collector_hang_up(collector *c)
{
    if (c->fd >= 0) close(c->fd);
    c->fd = -1;
}

/* As a process that is killed. */
HELPER void collector_close(collector *c)
{
    collector_hang_up(c);
    if (c->listener >= 0) close(c->listener);
    c->listener = -1;
}

static bool readable(int fd, int ms)
{
    struct pollfd p;

    p.fd = fd;
    p.events = POLLIN;
    return poll(&p, 1, ms) > 0;
}

/* Takes the next connection. */
HELPER void collector_accept(collector *c)
{
    assert_true(readable(c->listener, PATIENCE));
    collector_hang_up(c);
    c->fd = accept(c->listener, NULL, NULL);
    never_block(c->fd);
    c->connections++;
    oracle_init(&c->stream, !c->unidirectional);
}

HELPER void collector_send(collector *c, uint8_t type)
{
    uint8_t frame[64];
    size_t size = control_frame(frame, type);

    assert_int_equal(send(c->fd, frame, size, MSG_NOSIGNAL), size);
}

/* Reads once, within ms, and answers as is due. 0: the tap hung up; negative: nothing came. */
static long collector_read(collector *c, int ms)
{
    static uint8_t block[65536];
    oracle_phase before = c->stream.phase;
    ssize_t n;

    if (!readable(c->fd, ms)) return -1;
    n = recv(c->fd, block, sizeof block, 0);
    c->reads++;
    if (n <= 0) return n < 0 && errno == EAGAIN ? -1 : 0;
    oracle_feed(&c->stream, block, (size_t)n);
    if (before != AT_END && c->stream.phase == AT_END) c->ends++;
    if (c->unidirectional) return (long)n;
    if (before == AT_READY && c->stream.phase != AT_READY) collector_send(c, DNSTAP_CONTROL_ACCEPT);
    if (before != AT_END && c->stream.phase == AT_END) collector_send(c, DNSTAP_CONTROL_FINISH);
    return (long)n;
}

/* Accepts when needed, and reads until so many messages were seen. */
HELPER void collector_read_until(collector *c, uint64_t frames)
{
    uint64_t end = real_ms() + PATIENCE;

    while (seen.frames < frames) {
        if (c->fd < 0) collector_accept(c);
        if (collector_read(c, 50) == 0) collector_hang_up(c);
        if (real_ms() > end) fail_msg("%lu frames came", (unsigned long)seen.frames);
    }
}

/* Takes the next connection, and shakes hands. */
HELPER void collector_read_until_data(collector *c)
{
    collector_accept(c);
    while (c->stream.phase < AT_DATA) assert_true(collector_read(c, PATIENCE) > 0);
}

/* Accepts when needed, and reads until STOP. */
HELPER void collector_read_to_stop(collector *c)
{
    uint64_t end = real_ms() + PATIENCE;

    if (c->fd < 0) collector_accept(c);
    while (c->stream.phase != AT_END) {
        if (collector_read(c, 50) == 0) fail_msg("the tap hung up without STOP");
        assert_true(real_ms() < end);
    }
}

/* Reads until the tap hangs up. */
HELPER void collector_read_to_end(collector *c)
{
    long n;

    while ((n = collector_read(c, PATIENCE)) != 0) assert_true(n > 0);
}

/* dnstap_close blocks: another thread makes it. */
typedef struct closing {
    dnstap_tap *tap;
    int timeout, result;
    uint64_t took;
    pthread_t thread;
} closing;

static void *close_thread(void *argument)
{
    closing *c = (closing *)argument;
    uint64_t start = real_ms();

    c->result = dnstap_close(c->tap, c->timeout);
    c->took = real_ms() - start;
    return NULL;
}

HELPER void close_begin(closing *c, dnstap_tap *tap, int timeout)
{
    c->tap = tap;
    c->timeout = timeout;
    assert_int_equal(pthread_create(&c->thread, NULL, close_thread, c), 0);
}

HELPER void close_end(closing *c) { assert_int_equal(pthread_join(c->thread, NULL), 0); }

/* Closes while the collector reads on to STOP. */
HELPER void close_in_order(collector *c, dnstap_tap *tap)
{
    closing it;

    close_begin(&it, tap, PATIENCE);
    collector_read_to_stop(c);
    close_end(&it);
    assert_int_equal(it.result, DNSTAP_OK);
}

HELPER void peer_options(dnstap_options *o, const char *endpoint)
{
    memset(o, 0, sizeof *o);
    o->endpoint = endpoint;
    o->identity = IDENTITY;
    o->version = VERSION;
    o->full = true;
    o->ring_size = 1 << 18;
    o->producers = 3;
    o->log = hear;
    o->timeout_ms = PATIENCE / 2; /* a busy machine is no fault */
    o->flush_ms = 10;
}

HELPER dnstap_tap *peer_start(const dnstap_options *o)
{
    dnstap_tap *tap = open_afresh(o);

    assert_int_equal(dnstap_start(tap), DNSTAP_OK);
    return tap;
}

/* -- a collector and its tap -- */

/* The collector listens (on `name`, as collector_open says), and the options are for it. */
HELPER void options_for(collector *c, const char *name, dnstap_options *o)
{
    collector_open(c, name);
    peer_options(o, c->endpoint);
}

/* The same, and a tap with these options is started. */
HELPER dnstap_tap *start_both(collector *c, const char *name)
{
    dnstap_options o;

    options_for(c, name, &o);
    return peer_start(&o);
}

/* Both end in order. */
HELPER void end_both(collector *c, dnstap_tap *tap)
{
    close_in_order(c, tap);
    collector_close(c);
}

HELPER void log_many(dnstap_tap *tap, unsigned count)
{
    while (count--) assert_int_equal(log_next(tap, count % 3), 1);
}

static void rest_until(uint64_t end, const char *wanted, const dnstap_status *s)
{
    if (real_ms() > end)
        fail_msg("not %s; %s: %s", wanted, dnstap_state_name(s->state), s->error.text);
    poll(NULL, 0, 1);
}

/* Waits until the tap shows in *s what is wanted. What its thread does is shown a moment later: a
 * test reads no counter of it but by waiting. */
#define WAIT_FOR(tap, s, wanted)                                                          \
    for (uint64_t wait_end = real_ms() + PATIENCE; dnstap_get_status(tap, s), !(wanted);) \
    rest_until(wait_end, #wanted, s)

/* Waits until the tap is in this state, which must be one that lasts. */
HELPER void wait_for_state(dnstap_tap *tap, dnstap_state state, dnstap_status *s)
{
    WAIT_FOR(tap, s, s->state == state);
}

/* Hangs up, and waits until the tap knows: what it sends before that is lost. */
HELPER void collector_leave(collector *c, dnstap_tap *tap)
{
    dnstap_status s;
    uint64_t failures;

    dnstap_get_status(tap, &s);
    failures = s.failures;
    collector_hang_up(c);
    WAIT_FOR(tap, &s, s.failures > failures);
}

#endif
