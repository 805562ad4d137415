/* What the tests of the sink share: one sink on a clock that the test governs, what it has handed
 * out, a producer that says one thing after the other, and the loop. Include it after dnstap.h. */
#ifndef SINK_SUPPORT_H
#define SINK_SUPPORT_H

#include "unit.h"

/* ---- a world: one sink, the clock, and what it has handed out ---- */

enum { PATIENCE = 20000, KINDS = DNSTAP_SINK_NOTE + 1 };

static struct {
    dnstap_sink *sink;
    uint64_t now, began; /* ms; `began` of the real clock */
    unsigned told[KINDS];
    int result; /* of the last event, its end, text and peer */
    dnstap_sink_end end;
    char text[128], peer[128];
    char folder[48], endpoint[128];
    struct sockaddr_un local;
} w;

static uint64_t test_clock(void *user)
{
    (void)user;
    return w.now;
}

static int note(void *user, const dnstap_received *r)
{
    (void)user;
    w.told[r->kind]++;
    w.result = r->result;
    w.end = r->end;
    snprintf(w.text, sizeof w.text, "%s", r->text);
    snprintf(w.peer, sizeof w.peer, "%s", r->peer);
    return DNSTAP_OK;
}

static int setup(void **state)
{
    (void)state;
    memset(&w, 0, sizeof w);
    strcpy(w.folder, "/tmp/dnstap-sink.XXXXXX");
    if (!mkdtemp(w.folder)) return -1;
    w.local.sun_family = AF_UNIX;
    snprintf(w.local.sun_path, sizeof w.local.sun_path, "%s/s", w.folder);
    snprintf(w.endpoint, sizeof w.endpoint, "unix://%s", w.local.sun_path);
    w.now = 1000000;
    w.began = real_ms();
    return 0;
}

static int teardown(void **state)
{
    char file[64];

    (void)state;
    dnstap_sink_close(w.sink);
    snprintf(file, sizeof file, "%s/f", w.folder);
    unlink(file);
    return rmdir(w.folder);
}

static dnstap_sink_options options(void)
{
    dnstap_sink_options o;

    memset(&o, 0, sizeof o);
    o.endpoint = w.endpoint;
    o.receive = note;
    o.monotonic_ms = test_clock;
    return o;
}

static void open_sink(const dnstap_sink_options *o)
{
    dnstap_error error;

    w.sink = dnstap_sink_open(o, &error);
    if (!w.sink) fail_msg("%s", error.text);
}

/* ---- a producer, byte by byte ---- */

HELPER int producer(void)
{
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&w.local, sizeof w.local), 0);
    return fd;
}

HELPER void say(int fd, dnstap_control type)
{
    dnstap_bytes frame = dnstap__control_frame(type);

    assert_int_equal(send(fd, frame.data, frame.size, MSG_NOSIGNAL), frame.size);
}

HELPER void say_message(int fd)
{
    static const uint8_t frame[] = {0, 0, 0, 6, 0x72, 2, 8, 5, 0x78, 1};

    assert_int_equal(send(fd, frame, sizeof frame, MSG_NOSIGNAL), sizeof frame);
}

/* The other side has closed, whatever it said before. */
HELPER void expect_closed(int fd)
{
    struct timeval patience = {PATIENCE / 1000, 0};
    char any[512];
    ssize_t n;

    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    while ((n = recv(fd, any, sizeof any, 0)) > 0) {
    }
    assert_true(n == 0 || errno == ECONNRESET);
    close(fd);
}

/* ---- the loop that everyone copies; the set is empty once it has ended, and only then ---- */

static int turn(int *timeout)
{
    struct pollfd fds[80];
    int n = dnstap_sink_pollfds(w.sink, fds, 80, timeout);

    assert_true(n > 0);
    assert_true(poll(fds, (nfds_t)n, 5) >= 0);
    return dnstap_sink_service(w.sink);
}

HELPER void until(dnstap_sink_kind kind, unsigned times)
{
    int timeout;

    while (w.told[kind] < times) {
        if (real_ms() - w.began > PATIENCE) fail_msg("event %d did not come", (int)kind);
        assert_int_equal(turn(&timeout), DNSTAP_OK);
    }
    assert_int_equal(w.told[kind], times);
}

/* Lets time pass by the sink's own clock. */
HELPER void pass(uint64_t ms)
{
    int timeout;

    w.now += ms;
    assert_int_equal(turn(&timeout), DNSTAP_OK);
}

HELPER dnstap_sink_status status(void)
{
    dnstap_sink_status s;

    dnstap_sink_get_status(w.sink, &s);
    return s;
}

/* A producer that has begun its stream. */
HELPER int begun(void)
{
    unsigned before = w.told[DNSTAP_SINK_MESSAGE];
    int fd = producer();

    say(fd, DNSTAP_CONTROL_READY);
    say(fd, DNSTAP_CONTROL_START);
    say_message(fd);
    until(DNSTAP_SINK_MESSAGE, before + 1);
    return fd;
}

#define SINK_TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

#endif
