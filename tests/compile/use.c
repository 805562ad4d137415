/* Uses the library as a program without any system would: its own memory, transport and clock.
 * Compiled in many ways by compile_test.sh: alone, as one of two files, and with the headers FIRST
 * and THEN around dnstap.h. Prints nothing and returns 0 when what was logged came out. */
#ifdef FIRST
#include FIRST
#endif
#include "dnstap.h"
#ifdef THEN
#include THEN
#endif
#include <string.h>

#define MEMORY_SIZE 131072
enum { ROUNDS = 3, MESSAGES = 60 }; /* they fill less than half of the ring */

/* The peer: a sink's half of the protocol, in memory, and without the library, which may have been
 * built without what reads. Its frames come whole or in pieces. */
/* The end of each message: 53, 1700000000 s, "wire"; type MESSAGE. */
static const uint8_t wanted[] = {0x30, 53, 0x40, 0x80, 0xe2, 0xcf, 0xaa, 6,
                                 0x52, 4,  'w',  'i',  'r',  'e',  0x78, 1};
static uint8_t frame[2048], reply[64];
static size_t frame_size, reply_size;
static int received;
static uint64_t now_ms;
static uint64_t memory[MEMORY_SIZE / sizeof(uint64_t)];

static uint64_t clock_ms(void *user)
{
    (void)user;
    return now_ms++;
}

static int peer_start(void *self, short *wants)
{
    (void)self;
    (void)wants;
    frame_size = reply_size = 0;
    return DNSTAP_OK;
}

/* READY is answered as it came, but as ACCEPT; STOP by FINISH. */
static void look_at_control(void)
{
    uint8_t type = frame[11];
    if (type != 4 && type != 3) return;
    memcpy(reply, frame, frame_size);
    reply[11] = (uint8_t)(type == 4 ? 1 : 5);
    reply_size = frame_size;
}

static void look_at_frame(void)
{
    if (!frame[0] && !frame[1] && !frame[2] && !frame[3])
        look_at_control();
    else if (frame_size > sizeof wanted &&
             memcmp(frame + frame_size - sizeof wanted, wanted, sizeof wanted) == 0)
        received++;
    frame_size = 0;
}

/* How many bytes the frame has, as far as it is there. */
static size_t extent(void)
{
    size_t at = frame_size >= 4 && !frame[2] && !frame[3] ? 4 : 0;
    if (frame_size < at + 4) return at + 4;
    return at + 4 + ((size_t)frame[at + 2] << 8 | frame[at + 3]);
}

static long peer_send(void *self, const void *data, size_t size, short *wants)
{
    const uint8_t *p = (const uint8_t *)data;
    size_t i;
    (void)self;
    (void)wants;
    for (i = 0; i < size; i++) {
        frame[frame_size++] = p[i];
        if (frame_size == extent()) look_at_frame();
    }
    return (long)size;
}

static long peer_recv(void *self, void *data, size_t size, short *wants)
{
    size_t n = reply_size < size ? reply_size : size;
    (void)self;
    *wants = 0;
    if (n == 0) return DNSTAP_AGAIN;
    memcpy(data, reply, n);
    reply_size -= n;
    memmove(reply, reply + n, reply_size);
    return (long)n;
}

static void peer_close(void *self) { (void)self; }

static dnstap_tap *open_tap(dnstap_transport *transport)
{
    dnstap_options options;
    memset(&options, 0, sizeof options);
    transport->start = peer_start;
    transport->send = peer_send;
    transport->recv = peer_recv;
    transport->close = peer_close;
    options.identity = "use";
    options.full = true;
    options.producers = 1;
    options.ring_size = 8192;
    options.max_message = 1024;
    options.monotonic_ms = clock_ms;
    options.transport = transport;
    if (dnstap_memory_size(&options) > sizeof memory) return NULL;
    return dnstap_open_in(memory, sizeof memory, &options, NULL);
}

int main(void)
{
    dnstap_transport transport;
    dnstap_message m;
    dnstap_tap *tap;
    int i;
    memset(&transport, 0, sizeof transport);
    tap = open_tap(&transport);
    if (!tap) return 1;
    for (i = 0; i < ROUNDS * MESSAGES; i++) {
        dnstap_message_start(&m, DNSTAP_MSG_CLIENT_QUERY);
        m.query_port = 53;
        m.query_time_sec = 1700000000;
        m.query_message = dnstap_bytes_of("wire", 4);
        if (dnstap_log(tap, &m) != 1) return 2;
        if (i % MESSAGES == 0 && dnstap_flush(tap, 2000) != DNSTAP_OK) return 3;
    }
    if (dnstap_close(tap, 2000) != DNSTAP_OK) return 4;
    return received == ROUNDS * MESSAGES ? 0 : 5;
}
