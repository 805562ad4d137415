/* A world without a kernel for the tests of the tap: a clock that only moves when somebody waits,
 * poll(2) and nanosleep(2) that move it, and a transport that follows a script of faults. Include
 * it instead of dnstap.h. */
#ifndef TAP_FAKE_H
#define TAP_FAKE_H

#define _GNU_SOURCE
#include <poll.h>
#include <sys/syscall.h>
#include <stdbool.h>
#include <time.h>
#include <unistd.h>

static int fake_poll(struct pollfd *fds, nfds_t n, int timeout);
static int fake_sleep(const struct timespec *t, struct timespec *left);
#define poll(fds, n, timeout) fake_poll(fds, n, timeout)
#define nanosleep(t, left) fake_sleep(t, left)
#define syscall fake_syscall

/* membarrier(2): whether the system has it */
static bool barrier = true;
static long fake_syscall(long number, ...) { return number == SYS_membarrier && barrier ? 0 : -1; }

#define DNSTAP_IMPLEMENTATION
#include "dnstap.h"
#include "tap_support.h"
#undef poll
#undef nanosleep
#undef syscall

enum { FAKE_FD = 1000, NEVER = 0x7fffffff };

static uint64_t now_ms = 1000;
static uint64_t clock_now(void *user)
{
    (void)user;
    return now_ms;
}

/* What happens on one connection; bytes are counted from its beginning. Zeroed: nothing works. */
typedef struct script {
    bool refused;         /* start fails */
    unsigned start_again; /* AGAINs before start succeeds */
    size_t cut;           /* so many bytes are taken, then send fails */
    size_t chunk;         /* at most so many are taken at once */
    unsigned send_again;  /* AGAINs before each send */
    size_t record;        /* like TLS: seals so many, AGAIN until they are out; 0: not like it */
    bool mute;            /* never answers */
    size_t reply_chunk;   /* bytes of the answers at once */
    size_t reply_cut;     /* END after so many bytes of the answers */
    size_t corrupt;       /* this byte of the answers is another */
    uint8_t corruption;   /* XORed to it */
    size_t noise;         /* after so many bytes of the stream garbage comes in */
    bool early_finish;    /* after so many (noise) FINISH comes in instead */
    unsigned recv_again;  /* AGAINs before each answer */
    bool zero;            /* send returns 0 where AGAIN would be right */
    bool silent;          /* AGAIN without saying what for */
} script;

static const script faultless = {false, 0,     NEVER, NEVER, 0,     0, false, NEVER,
                                 NEVER, NEVER, 1,     NEVER, false, 0, false, false};

static struct {
    script scripts[8]; /* of the first connections; the last goes on */
    unsigned count, connections;
    script now;
    bool open, broken, bidirectional, noised;
    unsigned waits, calls;
    size_t taken, answered, answers;
    uint8_t answer[128];
    size_t sealed;
    uint8_t record[512];
    oracle stream;
    unsigned finished; /* connections that ended with STOP */
} wire;

static int wire_start(void *self, short *wants)
{
    (void)self;
    wire.calls++;
    if (!wire.open) {
        wire.now = wire.scripts[wire.connections < wire.count ? wire.connections : wire.count - 1];
        wire.connections++;
        wire.open = true;
        wire.broken = wire.noised = false;
        wire.taken = wire.answered = wire.answers = wire.sealed = 0;
        wire.waits = wire.now.start_again;
        oracle_init(&wire.stream, wire.bidirectional);
    }
    if (wire.now.refused) return DNSTAP_SYSTEM;
    if (!wire.waits) return DNSTAP_OK;
    wire.waits--;
    *wants = DNSTAP_POLLOUT;
    return DNSTAP_AGAIN;
}

static void answer_with(uint8_t type)
{
    wire.answers += control_frame(wire.answer + wire.answers, type);
    wire.waits = wire.now.recv_again;
}

static void wire_take(const void *data, size_t size)
{
    oracle_phase before = wire.stream.phase;
    uint8_t garbage[20] = {0, 0, 0, 0, 0, 0, 255, 255};

    oracle_feed(&wire.stream, data, size);
    wire.taken += size;
    if (!wire.bidirectional) return;
    if (before == AT_READY && wire.stream.phase != AT_READY) answer_with(DNSTAP_CONTROL_ACCEPT);
    if (before != AT_END && wire.stream.phase == AT_END) answer_with(DNSTAP_CONTROL_FINISH);
    if (wire.taken < wire.now.noise || wire.noised || wire.stream.phase != AT_DATA) return;
    wire.noised = true;
    if (wire.now.early_finish) control_frame(garbage, DNSTAP_CONTROL_FINISH);
    memcpy(wire.answer + wire.answers, garbage, 12);
    wire.answers += 12;
}

static long wire_again(short *wants, short events)
{
    if (wire.now.silent) return DNSTAP_AGAIN;
    *wants = events;
    return DNSTAP_AGAIN;
}

/* At most one record; the same bytes must come until it is out. */
static long wire_seal(const void *data, size_t size, short *wants)
{
    size_t n = wire.sealed;

    if (!n) {
        wire.sealed = dnstap__min(size, wire.now.record);
        memcpy(wire.record, data, wire.sealed);
        wire.waits = 1 + wire.now.send_again;
    }
    assert_true(size >= wire.sealed);
    assert_memory_equal(data, wire.record, wire.sealed);
    if (wire.waits) {
        wire.waits--;
        return wire_again(wants, DNSTAP_POLLOUT);
    }
    wire.sealed = 0;
    wire.broken = n > wire.now.cut - wire.taken;
    if (wire.broken) return DNSTAP_SYSTEM;
    wire_take(data, n);
    return (long)n;
}

static long wire_send(void *self, const void *data, size_t size, short *wants)
{
    size_t n = dnstap__min(dnstap__min(size, wire.now.chunk), wire.now.cut - wire.taken);

    (void)self;
    wire.calls++;
    assert_true(wire.open && !wire.broken && size);
    if (!n) {
        wire.broken = true;
        return DNSTAP_SYSTEM;
    }
    if (wire.now.record) return wire_seal(data, size, wants);
    if (wire.waits) {
        wire.waits--;
        return wire.now.zero ? 0 : wire_again(wants, DNSTAP_POLLOUT);
    }
    wire.waits = wire.now.send_again;
    wire_take(data, n);
    return (long)n;
}

static long wire_recv(void *self, void *data, size_t size, short *wants)
{
    size_t n = dnstap__min(size, wire.answers - wire.answered), i;

    (void)self;
    wire.calls++;
    assert_true(wire.open && !wire.broken);
    if (wire.answered >= wire.now.reply_cut) {
        wire.broken = true;
        return DNSTAP_END;
    }
    n = dnstap__min(n, dnstap__min(wire.now.reply_chunk, wire.now.reply_cut - wire.answered));
    if (wire.now.mute || !n) return wire_again(wants, DNSTAP_POLLIN);
    if (wire.waits && wire.stream.phase != AT_DATA) {
        wire.waits--;
        return wire_again(wants, DNSTAP_POLLIN);
    }
    for (i = 0; i < n; i++, wire.answered++) {
        ((uint8_t *)data)[i] = wire.answer[wire.answered];
        if (wire.answered == wire.now.corrupt) ((uint8_t *)data)[i] ^= wire.now.corruption;
    }
    return (long)n;
}

static void wire_close(void *self)
{
    (void)self;
    if (wire.open && wire.stream.phase == AT_END) wire.finished++;
    wire.open = false;
}

static int wire_fd(void *self)
{
    (void)self;
    return wire.open ? FAKE_FD : -1;
}

static const char *wire_error(void *self)
{
    (void)self;
    return "the script says so";
}

static const dnstap_transport wire_transport = {NULL, wire_start, wire_send, wire_recv,
                                                NULL, wire_close, wire_fd,   wire_error};

/* The fake descriptor is writable always and readable when an answer waits; a wait without an end
 * and without an event would be for ever. */
static int fake_poll(struct pollfd *fds, nfds_t n, int timeout)
{
    int ready = 0;
    nfds_t i;

    for (i = 0; i < n; i++) {
        fds[i].revents = 0;
        if (fds[i].fd != FAKE_FD)
            ready += poll(&fds[i], 1, 0);
        else {
            fds[i].revents = fds[i].events & DNSTAP_POLLOUT;
            if (wire.answers > wire.answered || wire.answered >= wire.now.reply_cut)
                fds[i].revents |= fds[i].events & DNSTAP_POLLIN;
            if (wire.now.mute) fds[i].revents &= DNSTAP_POLLOUT;
            if (wire.waits > 100000) fds[i].revents = 0;
            ready += fds[i].revents != 0;
        }
    }
    if (ready || !timeout) return ready;
    if (timeout < 0) fail_msg("waits without end");
    now_ms += (uint64_t)timeout;
    return 0;
}

static int fake_sleep(const struct timespec *t, struct timespec *left)
{
    (void)left;
    now_ms += (uint64_t)t->tv_sec * 1000 + (uint64_t)t->tv_nsec / 1000000;
    return 0;
}

static void fake_options(dnstap_options *o)
{
    memset(o, 0, sizeof *o);
    o->transport = &wire_transport;
    o->monotonic_ms = clock_now;
    o->log = hear;
    o->identity = IDENTITY;
    o->version = VERSION;
    o->full = true;
    o->producers = 3;
    o->ring_size = 4096;
    o->max_message = 2048;
}

/* Forgets all and opens a tap with the scripts' connections before it. */
static dnstap_tap *fake_open(const dnstap_options *o, const script *scripts, unsigned count)
{
    memset(&wire, 0, sizeof wire);
    memcpy(wire.scripts, scripts, count * sizeof *scripts);
    wire.count = count;
    wire.bidirectional = !o->unidirectional;
    return open_afresh(o);
}

/* One turn of an own loop. No call may take more than a bounded number of steps, nor any time. */
static void fake_turn(dnstap_tap *tap)
{
    struct pollfd fds[DNSTAP_POLLFDS];
    uint64_t before;
    int timeout, n;

    n = dnstap_pollfds(tap, fds, DNSTAP_POLLFDS, &timeout);
    if (timeout < 0) timeout = 1000;
    fake_poll(fds, (nfds_t)n, timeout);
    before = now_ms;
    wire.calls = 0;
    assert_int_equal(dnstap_service(tap), DNSTAP_OK);
    assert_int_equal(now_ms, before);
    assert_true(wire.calls < 5000);
    check_books(tap);
}

#endif
