/* What the tests of sinks that dial, or have TLS, share: a listener that says one thing after the
 * other, taps of ours in the same process, and what came of their numbers. Include it after
 * dnstap.h. */
#ifndef DIAL_SUPPORT_H
#define DIAL_SUPPORT_H

#include "sink_support.h"
#include <dirent.h>
#include <pthread.h>

/* ---- what the sink has handed out ---- */

static struct {
    uint32_t number;     /* what the next message must hold */
    size_t size;         /* of the frames, as they travel */
    uint8_t data[65536]; /* these */
    char subject[72], note[256];
    uint32_t connection; /* of the last event */
} got;

static void note_number(dnstap_bytes query)
{
    uint32_t number;

    if (query.size != sizeof number) return;
    memcpy(&number, query.data, sizeof number);
    assert_int_equal(number, got.number++);
}

static int note_more(void *user, const dnstap_received *r)
{
    note(user, r);
    got.connection = r->connection;
    if (r->kind == DNSTAP_SINK_NOTE) snprintf(got.note, sizeof got.note, "%s", r->text);
    if (r->kind != DNSTAP_SINK_MESSAGE) return DNSTAP_OK;
    snprintf(got.subject, sizeof got.subject, "%s", r->subject);
    if (r->message) note_number(r->message->query_message);
    if (got.size + 4 + r->frame.size > sizeof got.data) return DNSTAP_OK;
    dnstap__put32(got.data + got.size, (uint32_t)r->frame.size);
    memcpy(got.data + got.size + 4, r->frame.data, r->frame.size);
    got.size += 4 + r->frame.size;
    return DNSTAP_OK;
}

static dnstap_sink_options dial_options(const char *endpoint)
{
    dnstap_sink_options o = options();

    memset(&got, 0, sizeof got);
    o.endpoint = endpoint;
    o.connect = true;
    o.receive = note_more;
    return o;
}

#define UNTIL(condition)                                                                  \
    for (uint64_t until_ = real_ms() + PATIENCE; !(condition);) {                         \
        int ms_;                                                                          \
        if (real_ms() > until_)                                                           \
            fail_msg("never came: %s (%s; %u messages)", #condition, w.text, got.number); \
        assert_int_equal(turn(&ms_), DNSTAP_OK);                                          \
    }

HELPER unsigned open_descriptors(void)
{
    DIR *all = opendir("/proc/self/fd");
    unsigned n = 0;

    assert_non_null(all);
    while (readdir(all)) n++;
    closedir(all);
    return n;
}

/* ---- a listener, step by step ---- */

static struct {
    int listener, fd; /* -1: none */
    unsigned accepted;
    char endpoint[80];
} host;

HELPER void never_block(int fd) { assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0); }

HELPER void host_leave(void)
{
    if (host.fd >= 0) close(host.fd);
    host.fd = -1;
}

HELPER void host_close(void)
{
    host_leave();
    if (host.listener >= 0) close(host.listener);
    host.listener = -1;
    unlink(w.local.sun_path);
}

/* On the unix socket, or on a port of this address; port 0: any. */
HELPER uint16_t host_open(const char *ip, uint16_t port)
{
    struct sockaddr_in at;
    socklen_t size = sizeof at;
    int on = 1, result;

    memset(&at, 0, sizeof at);
    at.sin_family = AF_INET;
    at.sin_port = htons(port);
    host.fd = -1;
    host.accepted = 0;
    host.listener = socket(ip ? AF_INET : AF_UNIX, SOCK_STREAM, 0);
    assert_true(host.listener >= 0);
    never_block(host.listener);
    setsockopt(host.listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (ip) assert_int_equal(inet_pton(AF_INET, ip, &at.sin_addr), 1);
    result = ip ? bind(host.listener, (struct sockaddr *)&at, sizeof at)
                : bind(host.listener, (struct sockaddr *)&w.local, sizeof w.local);
    assert_int_equal(result, 0);
    assert_int_equal(listen(host.listener, 16), 0);
    if (ip) assert_int_equal(getsockname(host.listener, (struct sockaddr *)&at, &size), 0);
    return ntohs(at.sin_port);
}

/* Whether a connection has come, which it takes. */
HELPER bool host_took(void)
{
    int fd = accept(host.listener, NULL, NULL);

    if (fd < 0) return false;
    host_leave();
    never_block(fd);
    host.fd = fd;
    host.accepted++;
    return true;
}

HELPER void host_send(const void *bytes, size_t size)
{
    assert_int_equal(send(host.fd, bytes, size, MSG_NOSIGNAL), size);
}

HELPER void host_say(dnstap_control type)
{
    dnstap_bytes frame = dnstap__control_frame(type);

    host_send(frame.data, frame.size);
}

/* The sink has sent this control frame, and nothing else. */
HELPER void host_hears(dnstap_control type)
{
    dnstap_bytes frame = dnstap__control_frame(type);
    uint8_t heard[64];
    ssize_t n = -1;

    UNTIL((n = recv(host.fd, heard, sizeof heard, 0)) != -1);
    assert_int_equal(n, frame.size);
    assert_memory_equal(heard, frame.data, frame.size);
}

/* The sink has closed. */
HELPER bool host_left_alone(void)
{
    char byte;

    return recv(host.fd, &byte, 1, 0) == 0;
}

HELPER void host_begins(void)
{
    UNTIL(host_took());
    host_say(DNSTAP_CONTROL_READY);
    host_hears(DNSTAP_CONTROL_ACCEPT);
    host_say(DNSTAP_CONTROL_START);
}

/* ---- taps of ours ---- */

static __attribute__((unused)) dnstap_tap *tap;

HELPER dnstap_options tap_options(const char *endpoint)
{
    dnstap_options o;

    memset(&o, 0, sizeof o);
    o.endpoint = endpoint;
    o.full = true;
    o.ring_size = 1 << 21;
    o.producers = 1;
    return o;
}

HELPER void start_tap(const dnstap_options *o)
{
    dnstap_error error;

    tap = dnstap_open(o, &error);
    if (!tap) fail_msg("%s", error.text);
    assert_int_equal(dnstap_start(tap), DNSTAP_OK);
}

HELPER dnstap_status tap_status(void)
{
    dnstap_status s;

    dnstap_get_status(tap, &s);
    return s;
}

/* Logs the numbers from `from` on. */
HELPER void log_numbers(uint32_t from, uint32_t count)
{
    dnstap_message m;
    uint32_t i;

    for (i = from; i < from + count; i++) {
        dnstap_message_start(&m, DNSTAP_MSG_CLIENT_QUERY);
        m.query_message = dnstap_bytes_of(&i, sizeof i);
        assert_int_equal(dnstap_log(tap, &m), 1);
    }
}

static void *close_thread(void *result)
{
    *(int *)result = dnstap_close(tap, PATIENCE);
    return NULL;
}

/* Closes the tap while the sink goes on. */
HELPER void close_tap(void)
{
    unsigned before = w.told[DNSTAP_SINK_CLOSED];
    pthread_t thread;
    int result;

    assert_int_equal(pthread_create(&thread, NULL, close_thread, &result), 0);
    UNTIL(w.told[DNSTAP_SINK_CLOSED] > before);
    assert_int_equal(w.result, DNSTAP_OK); /* STOP came */
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(result, DNSTAP_OK);
}

#endif
