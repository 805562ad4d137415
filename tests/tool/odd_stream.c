/* odd_stream KIND: prints a Frame Streams file of many odd messages, the same each time, for two
 * tools to be compared on. KIND: types, classes, names, addresses or messages.
 * Build: cc -I../.. -o odd_stream odd_stream.c -lprotobuf-nanopb -lbearssl -lpthread */
#define DNSTAP_IMPLEMENTATION
#include "dnstap.h"
#include "../random.h"
#include <stdio.h>
#include <string.h>

static void put_control(dnstap_frame_writer *w)
{
    const dnstap_bytes control = dnstap_frame_writer_next(w);
    fwrite(control.data, 1, control.size, stdout);
    dnstap_frame_writer_sent(w, control.size);
}

static void put(dnstap_message *m)
{
    uint8_t frame[4096] = {0};
    const long size = dnstap_encode(m, frame + 4, sizeof frame - 4);
    if (size < 0) return;
    frame[2] = (uint8_t)(size >> 8);
    frame[3] = (uint8_t)size;
    fwrite(frame, 1, 4 + (size_t)size, stdout);
}

static void put_query(const uint8_t *dns, size_t size)
{
    dnstap_message m;
    dnstap_message_start(&m, DNSTAP_MSG_CLIENT_QUERY);
    m.query_message = dnstap_bytes_of(dns, size);
    put(&m);
}

/* A query with one question; its size. */
static size_t make_query(uint8_t *dns, const uint8_t *name, size_t size, unsigned type,
                         unsigned class_)
{
    const uint8_t tail[4] = {(uint8_t)(type >> 8), (uint8_t)type, (uint8_t)(class_ >> 8),
                             (uint8_t)class_};
    memset(dns, 0, 12);
    dns[5] = 1;
    memcpy(dns + 12, name, size);
    memcpy(dns + 12 + size, tail, 4);
    return 12 + size + 4;
}

static void put_numbers(bool of_classes)
{
    uint8_t dns[32];
    for (unsigned i = 0; i < 65536; i++)
        put_query(dns, make_query(dns, (const uint8_t *)"\1a", 3, of_classes ? 1 : i,
                                  of_classes ? i : 1));
}

/* Every byte, and labels of any length, in names that may be too long. */
static void put_names(void)
{
    static const uint8_t lengths[] = {1, 2, 3, 4, 5, 6, 7, 10, 20, 62, 63, 64};
    static const char often[] = "ab.\\0321@' \"();-";
    uint8_t dns[1024], name[800];
    for (unsigned i = 0; i < 8000; i++) {
        size_t size = 0;
        for (uint32_t labels = rnd(8); labels > 0; labels--) {
            const uint8_t length = lengths[rnd(sizeof lengths)];
            name[size++] = length;
            for (unsigned c = 0; c < length; c++)
                name[size++] = (uint8_t)(rnd(2) ? often[rnd(16)] : (char)rnd(256));
        }
        name[size++] = 0;
        put_query(dns, make_query(dns, name, size, 1, 1));
    }
}

/* Around the longest name, which has 255 bytes. */
static void put_long_names(void)
{
    uint8_t dns[300], name[260];
    for (uint8_t last = 55; last < 64; last++) {
        memset(name, 'a', sizeof name);
        name[0] = name[64] = name[128] = 63;
        name[192] = last;
        name[193 + last] = 0;
        put_query(dns, make_query(dns, name, 194u + last, 1, 1));
    }
}

/* Addresses of all sizes and patterns of zeros, times, protocols, message types. */
static void put_addresses(void)
{
    static const uint8_t sizes[] = {0, 4, 5, 16, 16, 16}, bytes[] = {0, 0, 0, 0, 1, 255};
    uint8_t address[16];
    for (unsigned i = 0; i < 8000; i++) {
        dnstap_message m;
        dnstap_message_start(&m, 1 + rnd(15));
        for (unsigned b = 0; b < 16; b++)
            address[b] = (uint8_t)(rnd(4) ? bytes[rnd(sizeof bytes)] : rnd(256));
        if (rnd(4) == 0) memcpy(address, "\0\0\0\0\0\0\0\0\0\0\377\377", 12);
        if (rnd(4) == 0) memset(address, 0, 10 + rnd(6));
        m.query_address = m.response_address = dnstap_bytes_of(address, sizes[rnd(sizeof sizes)]);
        m.socket_protocol = rnd(9);
        m.query_time_sec = m.response_time_sec = (uint64_t)rnd(1u << 24) << rnd(16);
        m.query_time_nsec = m.response_time_nsec = rnd(1u << 24) * 59;
        m.present = (uint32_t)(rnd(2) << 8 | rnd(2) << 9 | rnd(2) << 12 | rnd(2) << 13);
        put(&m);
    }
}

/* What is not as it should be in a message: counts, labels, pointers, lengths, its end. The record
 * is of a type nobody knows, for only the frame around its data is of interest. */
static void put_messages(void)
{
    static const uint8_t record[] = "\300\14\376\376\376\376\1\1\1\1\0\4\377\377\377\377";
    static const uint8_t spots[] = {4, 6, 7, 9, 11, 12, 16, 24, 28, 33, 34, 43, 44};
    static const uint8_t values[] = {0, 1, 2, 3, 12, 63, 64, 128, 192, 193, 255};
    uint8_t dns[512];
    for (unsigned i = 0; i < 8000; i++) {
        size_t size = make_query(dns, (const uint8_t *)"\3www\7example\3com", 17, 255, 1);
        memcpy(dns + size, record, 16);
        dns[7] = 1;
        size += 16;
        for (uint32_t faults = rnd(3); faults > 0; faults--)
            dns[spots[rnd(sizeof spots)]] = values[rnd(sizeof values)];
        if (i % 4 == 0) size -= rnd(17);
        put_query(dns, size);
    }
    for (unsigned pointers = 1; pointers < 140; pointers++) { /* each to the next, then the root */
        const uint8_t question[] = {0xc0, 18};
        make_query(dns, question, 2, 1, 1);
        for (unsigned p = 0; p < pointers; p++) {
            const unsigned next = 18 + 2 * p + 2;
            dns[18 + 2 * p] = (uint8_t)(0xc0 | next >> 8);
            dns[19 + 2 * p] = (uint8_t)next;
        }
        dns[18 + 2 * pointers] = 0;
        put_query(dns, 19 + 2 * (size_t)pointers);
    }
}

int main(int argc, char **argv)
{
    const char *kind = argc > 1 ? argv[1] : "";
    dnstap_frame_writer w;
    dnstap_frame_writer_init(&w, false);
    put_control(&w);
    if (!strcmp(kind, "types")) put_numbers(false);
    if (!strcmp(kind, "classes")) put_numbers(true);
    if (!strcmp(kind, "names")) put_names();
    if (!strcmp(kind, "names")) put_long_names();
    if (!strcmp(kind, "addresses")) put_addresses();
    if (!strcmp(kind, "messages")) put_messages();
    dnstap_frame_writer_stop(&w);
    put_control(&w);
    return 0;
}
