/* odd_stream KIND [FILE...]: prints a Frame Streams file of many odd messages, the same each time,
 * for two tools to be compared on. KIND: types, classes, names, addresses, messages, records,
 * texts, fields, sizes (fields with addresses of any size), clients (192.0.2.0/24, the same mapped
 * into IPv6, 2001:db8::/120, and one message without an address), or mutants, which are the DNS
 * messages of the files with faults put in.
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

static void put(const dnstap_message *m)
{
    static uint8_t frame[65536];
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

/* Data for a record of any type: small numbers, and pointers, so that much of it is in order. */
static size_t make_data(uint8_t *data)
{
    static const uint8_t often[] = {0, 0, 0, 1, 1, 2, 3, 4, 8};
    size_t size = 0;
    for (uint32_t left = rnd(24); left > 0; left--) {
        const uint32_t kind = rnd(10);
        if (kind == 0) data[size++] = 0xc0;
        data[size++] = kind == 0 ? 12 : kind == 1 ? (uint8_t)rnd(256) : often[rnd(sizeof often)];
    }
    return size;
}

static void put_record(unsigned type)
{
    uint8_t dns[256] = {0}, data[64];
    const size_t size = make_data(data);
    const uint8_t header[] = {0xc0, 12, (uint8_t)(type >> 8), (uint8_t)type, 0, 1, 0, 0, 1,
                              44,   0,  (uint8_t)size};
    size_t n = make_query(dns, (const uint8_t *)"\3www\7example\3com", 17, type, 1);
    dns[7 + 2 * rnd(3)] = 1;
    memcpy(dns + n, header, sizeof header);
    memcpy(dns + n + sizeof header, data, size);
    put_query(dns, n + sizeof header + size);
}

static void put_records(void)
{
    for (unsigned type = 0; type < 270; type++)
        for (unsigned i = 0; i < 60; i++) put_record(type);
    for (unsigned i = 0; i < 200; i++) put_record(32768 + rnd(3));
}

/* One fault: a byte, a bit, a count of the header, a pointer, more bytes, or the end. */
static size_t spoil(uint8_t *dns, size_t size, size_t room)
{
    static const uint8_t values[] = {0, 1, 2, 11, 12, 63, 64, 128, 192, 255};
    const size_t reach = rnd(2) && size > 48 ? 48 : size; /* half of all in the question's place */
    const size_t at = rnd((uint32_t)reach), more = 1 + rnd(4);
    switch (rnd(7)) {
    case 0:
        return at;
    case 1:
        dns[at] ^= (uint8_t)(1u << rnd(8));
        break;
    case 2:
        dns[4 + rnd(8)] = values[rnd(4)];
        break;
    case 3:
        dns[at] = 192;
        break;
    case 4:
        if (size + more > room) break;
        memmove(dns + at + more, dns + at, size - at);
        return size + more;
    case 5:
        dns[at] = (uint8_t)rnd(256);
        break;
    default:
        dns[at] = values[rnd(sizeof values)];
    }
    return size;
}

static void put_mutants_of(dnstap_bytes original)
{
    uint8_t dns[4096];
    for (unsigned i = 0; i < 80 && original.size >= 16 && original.size < sizeof dns; i++) {
        size_t size = original.size;
        memcpy(dns, original.data, size);
        for (uint32_t faults = 1 + rnd(3); faults > 0 && size >= 16; faults--)
            size = spoil(dns, size, sizeof dns);
        put_query(dns, size);
    }
}

static bool put_mutants(const char *file)
{
    char endpoint[256];
    dnstap_sink_options options;
    dnstap_received r;
    memset(&options, 0, sizeof options);
    snprintf(endpoint, sizeof endpoint, "file://%s", file);
    options.endpoint = endpoint;
    dnstap_sink *sink = dnstap_sink_open(&options, NULL);
    while (sink && dnstap_sink_next(sink, &r) == DNSTAP_OK) {
        if (!r.message) continue;
        put_mutants_of(r.message->query_message);
        put_mutants_of(r.message->response_message);
    }
    dnstap_sink_close(sink);
    return sink != NULL;
}

static size_t put_utf8(uint8_t *out, unsigned code)
{
    const unsigned more = code < 0x80 ? 0 : code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    static const uint8_t first[] = {0, 0xc0, 0xe0, 0xf0};
    out[0] = (uint8_t)(first[more] | code >> 6 * more);
    for (unsigned i = 1; i <= more; i++) out[i] = (uint8_t)(0x80 | (code >> 6 * (more - i) & 0x3f));
    return more + 1;
}

/* Every character there is, and every byte that is none, in the one text that a message has, and in
 * a name. */
static void put_texts(void)
{
    uint8_t text[256], dns[512];
    dnstap_policy policy;
    dnstap_message m;
    memset(&policy, 0, sizeof policy);
    for (unsigned code = 0; code < 0x110000 + 256; code += 32) {
        size_t size = 0;
        for (unsigned c = code; c < code + 32; c++) {
            if (c < 0x110000)
                size += put_utf8(text + 1 + size, c);
            else
                text[1 + size++] = (uint8_t)c;
        }
        dnstap_message_start(&m, DNSTAP_MSG_CLIENT_QUERY);
        policy.type = dnstap_bytes_of(text + 1, size);
        m.policy = &policy;
        text[0] = (uint8_t)(size < 63 ? size : 63);
        text[1 + text[0]] = 0;
        m.query_message = dnstap_bytes_of(dns, make_query(dns, text, text[0] + 2u, 1, 1));
        m.identity = m.version = m.extra = policy.type;
        put(&m);
    }
}

static dnstap_bytes make_text(uint8_t *text)
{
    static const unsigned codes[] = {'a',    '"',    '\\',   '<',    '>',     '&',     7,
                                     10,     27,     127,    0x9b,   0xe9,    0x300,   0x202e,
                                     0x2028, 0x4e00, 0xfeff, 0xfffd, 0x1f600, 0x10ffff};
    size_t size = 0;
    for (uint32_t left = rnd(8); left > 0; left--)
        if (rnd(8))
            size += put_utf8(text + size, codes[rnd(sizeof codes / sizeof *codes)]);
        else
            text[size++] = (uint8_t)rnd(256);
    return dnstap_bytes_of(text, size);
}

static uint64_t make_time(void)
{
    static const uint64_t odd[] = {0,        1, 951782400, 1u << 31, 253402300799, 253402300800,
                                   INT64_MAX};
    return rnd(2) ? odd[rnd(sizeof odd / sizeof *odd)] : (uint64_t)rnd(1u << 31) << rnd(4);
}

static uint32_t make_nanoseconds(void) { return rnd(2) ? rnd(1000) * 1000000 : rnd(1000000000); }

static dnstap_bytes make_address(uint8_t *address, bool any_size)
{
    static const uint8_t sizes[] = {4, 16, 0, 1, 3, 5, 15, 17};
    const size_t size = sizes[rnd(any_size ? sizeof sizes : 2)];
    for (size_t i = 0; i < size; i++) address[i] = (uint8_t)(rnd(2) ? 0 : rnd(256));
    if (rnd(8) == 0) memcpy(address, "\0\1\0\2\0\3\0\4\0\5\0\6\0\7\0\x10", 16);
    return dnstap_bytes_of(address, size);
}

static void set_fields(dnstap_message *m, bool any_size)
{
    static uint8_t addresses[2][17], zone[8] = "\1a\0", dns[64];
    m->socket_family = rnd(4);
    m->socket_protocol = rnd(9);
    m->query_port = rnd(2) * rnd(65536);
    m->response_port = rnd(2) * 53;
    m->query_time_sec = make_time();
    m->response_time_sec = make_time();
    m->query_time_nsec = make_nanoseconds();
    m->response_time_nsec = make_nanoseconds();
    m->present = rnd(1u << 17); /* numbers that are 0, too */
    if (rnd(4)) m->query_address = make_address(addresses[0], any_size);
    if (rnd(4)) m->response_address = make_address(addresses[1], any_size);
    zone[0] = (uint8_t)rnd(3);
    if (rnd(2)) m->query_zone = dnstap_bytes_of(zone, rnd(4));
    if (rnd(2))
        m->query_message = dnstap_bytes_of(
            dns, make_query(dns, (const uint8_t *)"\1a", 3, rnd(300), 1) - rnd(3));
    if (rnd(2)) m->response_message = dnstap_bytes_of(dns, rnd(24));
}

/* Each field there, absent, empty or odd. */
static void put_fields(bool any_size)
{
    static uint8_t texts[4][64];
    for (unsigned i = 0; i < 3000; i++) {
        dnstap_policy policy;
        dnstap_message m;
        memset(&policy, 0, sizeof policy);
        dnstap_message_start(&m, 1 + rnd(16));
        set_fields(&m, any_size);
        if (rnd(2)) m.identity = make_text(texts[0]);
        if (rnd(2)) m.version = make_text(texts[1]);
        if (rnd(2)) m.extra = make_text(texts[2]);
        policy.type = policy.rule = policy.value = make_text(texts[3]);
        policy.action = rnd(8);
        policy.match = rnd(7);
        if (rnd(2)) m.policy = &policy;
        if (rnd(2)) m.http_protocol = rnd(5);
        put(&m);
    }
}

static void put_client(uint8_t *address, size_t size)
{
    dnstap_message m;
    dnstap_message_start(&m, DNSTAP_MSG_CLIENT_QUERY);
    m.query_address = dnstap_bytes_of(address, size);
    put(&m);
}

static void put_clients(void)
{
    uint8_t ipv4[4] = {192, 0, 2}, ipv6[16] = {0x20, 1, 0xd, 0xb8};
    uint8_t mapped[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 192, 0, 2};
    for (unsigned i = 0; i < 256; i++) {
        ipv4[3] = mapped[15] = ipv6[15] = (uint8_t)i;
        put_client(ipv4, sizeof ipv4);
        put_client(mapped, sizeof mapped);
        put_client(ipv6, sizeof ipv6);
    }
    put_client(NULL, 0);
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
    if (!strcmp(kind, "records")) put_records();
    if (!strcmp(kind, "texts")) put_texts();
    if (!strcmp(kind, "fields")) put_fields(false);
    if (!strcmp(kind, "sizes")) put_fields(true);
    if (!strcmp(kind, "clients")) put_clients();
    for (int i = 2; i < argc; i++)
        if (!put_mutants(argv[i])) return 1;
    dnstap_frame_writer_stop(&w);
    put_control(&w);
    return 0;
}
