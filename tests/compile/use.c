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

/* The peer: a sink's half of the protocol, in memory. */
static dnstap_frame_reader reader;
static uint8_t reader_buffer[2048];
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
    dnstap_frame_reader_init(&reader, reader_buffer, sizeof reader_buffer, true);
    return DNSTAP_OK;
}

static void look_at(const dnstap_frame *frame)
{
    dnstap_message m;
    dnstap_policy policy;
    if (frame->kind != DNSTAP_FRAME_DATA) return;
    if (dnstap_decode(&m, &policy, frame->payload.data, frame->payload.size) != DNSTAP_OK) return;
    if (m.type == DNSTAP_MSG_CLIENT_QUERY && m.query_port == 53 && m.query_time_sec == 1700000000 &&
        m.query_message.size == 4 && memcmp(m.query_message.data, "wire", 4) == 0)
        received++;
}

static long peer_send(void *self, const void *data, size_t size, short *wants)
{
    dnstap_frame frame;
    size_t done = 0;
    (void)self;
    (void)wants;
    while (done < size) {
        long n = dnstap_frame_reader_feed(&reader, (const uint8_t *)data + done, size - done,
                                          &frame);
        if (n == DNSTAP_END) break;
        if (n < 0) return n;
        look_at(&frame);
        done += (size_t)n;
    }
    return (long)size;
}

static long peer_recv(void *self, void *data, size_t size, short *wants)
{
    dnstap_bytes reply = dnstap_frame_reader_next(&reader);
    size_t n = reply.size < size ? reply.size : size;
    (void)self;
    *wants = 0;
    if (n == 0) return DNSTAP_AGAIN;
    memcpy(data, reply.data, n);
    dnstap_frame_reader_sent(&reader, n);
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
