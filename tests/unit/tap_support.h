/* What the tests of the tap share: messages that can be told apart, an oracle that reads a stream
 * byte by byte and knows what may come next, the books, and the log. Include it after dnstap.h.
 * The oracle shares no code with the frame machines that it checks. */
#ifndef TAP_SUPPORT_H
#define TAP_SUPPORT_H

#include <dirent.h>
#include "unit.h"

enum { PRODUCERS = 16, BODY = 900, FRAME_ROOM = 2048 };

#define IDENTITY "ns1"
#define VERSION "tap test"

/* -- messages: the producer is the query's port, the number its time -- */

static uint8_t body[BODY];

static void make_message(dnstap_message *m, uint32_t producer, uint64_t number)
{
    size_t i;

    if (!body[1]) {
        for (i = 0; i < BODY; i++) body[i] = (uint8_t)(i * 7 + i / 256);
    }
    dnstap_message_start(m, DNSTAP_MSG_CLIENT_QUERY);
    m->query_port = 1 + producer;
    m->query_time_sec = 1 + number;
    m->query_message = dnstap_bytes_of(body, (size_t)(number * 37 + producer) % 120);
    if (number % 16 == 5) m->query_message.size = BODY - producer;
}

/* The payload that make_message must become. */
static size_t expected_payload(uint32_t producer, uint64_t number, uint8_t *out, size_t size)
{
    dnstap_message m;
    long n;

    make_message(&m, producer, number);
    m.identity = dnstap_bytes_of(IDENTITY, sizeof IDENTITY - 1);
    m.version = dnstap_bytes_of(VERSION, sizeof VERSION - 1);
    n = dnstap_encode(&m, out, size);
    assert_true(n > 0);
    return (size_t)n;
}

static uint64_t logged[PRODUCERS]; /* messages recorded so far: numbers have no gaps */

static int log_next(dnstap_tap *tap, uint32_t producer)
{
    dnstap_message m;
    int result;

    make_message(&m, producer, logged[producer]);
    result = dnstap_log_as(tap, producer, &m);
    if (result == 1) logged[producer]++;
    return result;
}

/* The same through the thread's own ring. */
HELPER int log_own(dnstap_tap *tap)
{
    dnstap_message m;
    int result;

    make_message(&m, 0, logged[0]);
    result = dnstap_log(tap, &m);
    if (result == 1) logged[0]++;
    return result;
}

/* -- the oracle: one per stream; what it has seen of messages is common to all streams -- */

typedef enum oracle_phase { AT_READY, AT_START, AT_DATA, AT_END } oracle_phase;

typedef struct oracle {
    oracle_phase phase;
    size_t have;     /* of a frame that is not whole yet */
    uint64_t frames; /* whole data frames on this stream */
    uint8_t buffer[FRAME_ROOM];
} oracle;

static struct sightings {
    uint64_t
        next[PRODUCERS]; /* number that must come next; later ones too when losses are allowed */
    uint64_t frames, bytes, lost;
    bool losses, repeats; /* repeats: from the beginning of a new stream only */
} seen;

static uint32_t get32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static size_t control_frame(uint8_t *out, uint8_t type)
{
    static const char content[] = "protobuf:dnstap.Dnstap";
    bool bare = type == DNSTAP_CONTROL_STOP || type == DNSTAP_CONTROL_FINISH;

    memset(out, 0, 20);
    out[11] = type;
    out[7] = bare ? 4 : 34;
    if (bare) return 12;
    out[15] = 1;
    out[19] = 22;
    memcpy(out + 20, content, 22);
    return 42;
}

static void oracle_init(oracle *o, bool bidirectional)
{
    o->phase = bidirectional ? AT_READY : AT_START;
    o->have = 0;
    o->frames = 0;
}

static void oracle_message(const uint8_t *payload, size_t size)
{
    uint8_t expected[FRAME_ROOM];
    dnstap_message m;
    dnstap_policy policy;
    uint32_t producer;

    assert_int_equal(dnstap_decode(&m, &policy, payload, size), DNSTAP_OK);
    producer = m.query_port - 1;
    assert_true(producer < PRODUCERS);
    if (seen.losses && m.query_time_sec - 1 > seen.next[producer]) {
        seen.lost += m.query_time_sec - 1 - seen.next[producer];
        seen.next[producer] = m.query_time_sec - 1;
    }
    assert_int_equal(m.query_time_sec - 1, seen.next[producer]);
    assert_int_equal(expected_payload(producer, seen.next[producer], expected, sizeof expected),
                     size);
    assert_memory_equal(payload, expected, size);
    seen.next[producer]++;
    seen.frames++;
    seen.bytes += size + 4;
}

static void oracle_control(oracle *o, size_t size, uint8_t type, oracle_phase next)
{
    uint8_t expected[64];

    assert_int_equal(size, control_frame(expected, type));
    assert_memory_equal(o->buffer, expected, size);
    o->phase = next;
}

static void oracle_frame(oracle *o, size_t size)
{
    if (o->phase == AT_READY)
        oracle_control(o, size, DNSTAP_CONTROL_READY, AT_START);
    else if (o->phase == AT_START)
        oracle_control(o, size, DNSTAP_CONTROL_START, AT_DATA);
    else if (!get32(o->buffer))
        oracle_control(o, size, DNSTAP_CONTROL_STOP, AT_END);
    else {
        o->frames++;
        oracle_message(o->buffer + 4, size - 4);
    }
}

/* How long the frame in the buffer is, as far as it is known. */
static size_t oracle_extent(const oracle *o)
{
    if (o->have < 4) return 4;
    if (get32(o->buffer)) return 4 + (size_t)get32(o->buffer);
    return o->have < 8 ? 8 : 8 + (size_t)get32(o->buffer + 4);
}

static void oracle_feed(oracle *o, const void *data, size_t size)
{
    const uint8_t *p = (const uint8_t *)data;
    size_t n;

    while (size) {
        assert_int_not_equal(o->phase, AT_END); /* nothing may follow STOP */
        assert_true(oracle_extent(o) <= sizeof o->buffer);
        n = oracle_extent(o) - o->have;
        if (n > size) n = size;
        memcpy(o->buffer + o->have, p, n);
        o->have += n;
        p += n;
        size -= n;
        if (o->have < oracle_extent(o)) continue;
        oracle_frame(o, o->have);
        o->have = 0;
    }
}

static void forget_all(void)
{
    memset(logged, 0, sizeof logged);
    memset(&seen, 0, sizeof seen);
}

/* -- books and log -- */

HELPER void check_books(dnstap_tap *tap)
{
    dnstap_status s;

    dnstap_get_status(tap, &s);
    assert_int_equal(s.logged, s.recorded + s.unwanted + s.dropped);
    assert_int_equal(s.dropped, s.dropped_full + s.dropped_large + s.dropped_busy + s.dropped_bad +
                                    s.dropped_disconnected);
    assert_int_equal(s.recorded, s.sent + s.queued + s.discarded);
    assert_true(s.unwanted >= s.no_sink + s.filtered_type + s.filtered_rcode + s.filtered_zone +
                                  s.filtered_sample + s.filtered_hook);
    assert_true(s.recorded >= s.stripped);
}

static struct {
    unsigned lines, lost, back, dropped, other;
    unsigned long left; /* messages the close gave up */
    char last[400];
} said;

HELPER unsigned descriptors(void)
{
    DIR *all = opendir("/proc/self/fd");
    unsigned n = 0;

    assert_non_null(all);
    while (readdir(all)) n++;
    closedir(all);
    return n;
}

static void hear(void *user, int level, const char *text)
{
    const char *number;

    (void)user;
    said.lines++;
    snprintf(said.last, sizeof said.last, "%d %s", level, text);
    if (strstr(text, ": dropped "))
        said.dropped++;
    else if (strstr(text, ": connected after "))
        said.back++;
    else if (strstr(text, ": messages not sent before the close: ")) {
        number = strstr(text, ": ");
        while (strstr(number + 1, ": ")) number = strstr(number + 1, ": ");
        said.left += strtoul(number + 2, NULL, 10);
    } else if (level == DNSTAP_LOG_WARNING)
        said.lost++;
    else
        said.other++;
}

static void forget_log(void) { memset(&said, 0, sizeof said); }

/* Forgets what was seen, and opens. */
HELPER dnstap_tap *open_afresh(const dnstap_options *o)
{
    dnstap_error error;
    dnstap_tap *tap;

    forget_all();
    forget_log();
    tap = dnstap_open(o, &error);
    if (!tap) fail_msg("%s", error.text);
    return tap;
}

#endif
