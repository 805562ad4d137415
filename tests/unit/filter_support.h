/* What the tests of filters share: DNS messages made by hand, and a tap whose messages a real sink
 * reads on a unix socket, with all the bytes of their payloads. Include it instead of dnstap.h. */
#ifndef FILTER_SUPPORT_H
#define FILTER_SUPPORT_H

#define _GNU_SOURCE
#define DNSTAP_IMPLEMENTATION
#include "dnstap.h"

#include "tap_support.h"
#include "tap_peer.h"

#define COUNT(a) (sizeof(a) / sizeof *(a))
#define BYTES(literal) literal, sizeof(literal) - 1

/* -- DNS -- */

typedef struct wire {
    uint8_t data[1024];
    size_t size;
} wire;

HELPER void wire_bytes(wire *w, const void *data, size_t size)
{
    assert_true(w->size + size <= sizeof w->data);
    if (size) memcpy(w->data + w->size, data, size);
    w->size += size;
}

HELPER void wire_16(wire *w, uint32_t v)
{
    uint8_t bytes[2];

    bytes[0] = (uint8_t)(v >> 8);
    bytes[1] = (uint8_t)v;
    wire_bytes(w, bytes, 2);
}

/* One more of questions (0), answers (1), authorities (2), additional ones (3). */
HELPER void wire_count(wire *w, int section) { w->data[5 + 2 * section]++; }

HELPER void wire_begin(wire *w, uint32_t rcode)
{
    memset(w, 0, sizeof *w);
    wire_16(w, 0x1234);
    wire_16(w, 0x8180 | rcode);
    w->size = 12;
}

/* Labels of text between dots; no escapes. */
HELPER void wire_name(wire *w, const char *text)
{
    size_t n;

    for (; *text; text += n + (text[n] == '.')) {
        n = strcspn(text, ".");
        w->data[w->size] = (uint8_t)n;
        w->size++;
        wire_bytes(w, text, n);
    }
    wire_bytes(w, "", 1);
}

HELPER void wire_question(wire *w, const char *name)
{
    wire_count(w, 0);
    wire_name(w, name);
    wire_bytes(w, "\0\1\0\1", 4);
}

HELPER void wire_record(wire *w, int section, uint32_t type, uint32_t ttl, const void *data,
                        size_t size)
{
    wire_count(w, section);
    wire_bytes(w, "", 1);
    wire_16(w, type);
    wire_16(w, 1232);
    wire_16(w, ttl >> 16);
    wire_16(w, ttl);
    wire_16(w, (uint32_t)size);
    wire_bytes(w, data, size);
}

HELPER void wire_opt(wire *w, const void *options, size_t size)
{
    wire_record(w, 3, 41, 0, options, size);
}

HELPER dnstap_bytes bytes_of_wire(const wire *w) { return dnstap_bytes_of(w->data, w->size); }

/* A message of this type with these DNS bytes, as it is its own: the query's or the response's. */
HELPER void message_of(dnstap_message *m, uint32_t type, const wire *w)
{
    dnstap_message_start(m, type);
    *(type % 2 ? &m->query_message : &m->response_message) = bytes_of_wire(w);
}

/* -- a sink -- */

enum { ARRIVALS = 4096 };

static struct {
    dnstap_sink *sink;
    dnstap_tap *tap;
    uint64_t count;
    uint64_t numbers[ARRIVALS]; /* query_time_sec of each */
    uint8_t raw[1 << 22];       /* all payloads */
    size_t raw_size;
    dnstap_message last; /* borrows from raw */
    dnstap_policy policy;
} world;

static int arrive(void *user, const dnstap_received *r)
{
    uint8_t *copy = world.raw + world.raw_size;

    (void)user;
    if (r->kind != DNSTAP_SINK_MESSAGE) return DNSTAP_OK;
    assert_true(world.raw_size + r->frame.size <= sizeof world.raw);
    memcpy(copy, r->frame.data, r->frame.size);
    world.raw_size += r->frame.size;
    assert_int_equal(dnstap_decode(&world.last, &world.policy, copy, r->frame.size), DNSTAP_OK);
    world.numbers[world.count++ % ARRIVALS] = world.last.query_time_sec;
    return DNSTAP_OK;
}

/* Options of a tap that goes to the sink. */
HELPER void world_options(dnstap_options *o)
{
    static char endpoint[64];

    snprintf(endpoint, sizeof endpoint, "unix://%s/sink", folder);
    peer_options(o, endpoint);
    o->ring_size = 1 << 22;
    o->max_message = 1 << 12;
}

HELPER dnstap_tap *world_open(const dnstap_options *o)
{
    dnstap_sink_options sink;
    dnstap_error error;

    memset(&world, 0, sizeof world);
    memset(&sink, 0, sizeof sink);
    sink.endpoint = o->endpoint;
    sink.receive = arrive;
    sink.max_connections = 1;
    world.sink = dnstap_sink_open(&sink, &error);
    if (!world.sink) fail_msg("%s", error.text);
    return world.tap = peer_start(o);
}

/* Reads until all that was recorded has come, and no more; the books add up. */
HELPER dnstap_status world_read(void)
{
    uint64_t end = real_ms() + PATIENCE;
    struct pollfd fds[80];
    dnstap_status s;
    int n, timeout;

    do {
        n = dnstap_sink_pollfds(world.sink, fds, 80, &timeout);
        assert_true(poll(fds, (nfds_t)n, 5) >= 0);
        assert_int_equal(dnstap_sink_service(world.sink), DNSTAP_OK);
        dnstap_get_status(world.tap, &s);
        assert_true(world.count <= s.recorded);
        if (real_ms() > end) fail_msg("%lu came", (unsigned long)world.count);
    } while (world.count < s.recorded || s.sent < s.recorded);
    check_books(world.tap);
    return s;
}

HELPER void world_close(void)
{
    dnstap_close(world.tap, 0);
    dnstap_sink_close(world.sink);
    memset(&world, 0, sizeof world);
}

/* Whether these bytes are anywhere in what came. */
HELPER bool came(const void *bytes, size_t size)
{
    return memmem(world.raw, world.raw_size, bytes, size) != NULL;
}

/* Logs m, which must come if it is wanted, and be kept back if not. */
HELPER void must_come(const dnstap_message *m, bool wanted, const char *what)
{
    uint64_t before = world.count;
    int result = dnstap_log(world.tap, m);

    if (result != wanted) fail_msg("%s: dnstap_log returns %d", what, result);
    world_read();
    if (world.count != before + wanted) fail_msg("%s: it came %d times", what, (int)!wanted);
}

#endif
