/* Logs COUNT messages of all types to ENDPOINT, and ends when they are delivered. With EXPECT, a
 * file of that name becomes the Frame Streams file that a faithful collector writes of it. With
 * --listen it waits for a sink there, and logs to that.
 * Usage: tap_source [--listen] [--ca FILE] [--cert FILE] [--key FILE] ENDPOINT COUNT [EXPECT]
 * Build: make build/tap_source */
#define DNSTAP_IMPLEMENTATION
#include "dnstap.h"
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define IDENTITY "tap_source"
#define VERSION "1"
enum { DEADLINE_MS = 20000, TYPES = 14, QUEUE = 10000 };

/* A query for nNUMBER.example.test, A; a response is the same with QR set and no answer. */
static size_t make_dns(uint8_t *out, unsigned number, bool response)
{
    static const uint8_t header[12] = {0x12, 0x34, 0x01, 0, 0, 1};
    static const uint8_t tail[] = "\7example\4test\0\0\1\0\1";
    char label[16];
    size_t length = (size_t)snprintf(label, sizeof label, "n%u", number);
    memcpy(out, header, sizeof header);
    if (response) out[2] |= 0x80;
    out[12] = (uint8_t)length;
    memcpy(out + 13, label, length);
    memcpy(out + 13 + length, tail, sizeof tail - 1);
    return 13 + length + sizeof tail - 1;
}

typedef struct event {
    dnstap_message m;
    struct sockaddr_in6 client, server;
    uint8_t dns[64];
} event;

static void make_address(struct sockaddr_in6 *out, bool ip6, unsigned host, uint16_t port)
{
    struct sockaddr_in ip4;
    char text[INET6_ADDRSTRLEN];
    memset(out, 0, sizeof *out);
    memset(&ip4, 0, sizeof ip4);
    out->sin6_family = AF_INET6;
    ip4.sin_family = AF_INET;
    out->sin6_port = ip4.sin_port = htons(port);
    snprintf(text, sizeof text, "2001:db8::%x", host);
    inet_pton(AF_INET6, text, &out->sin6_addr);
    ip4.sin_addr.s_addr = htonl(0xc0000200u + host);
    if (!ip6) memcpy(out, &ip4, sizeof ip4);
}

static void make_event(event *e, unsigned number)
{
    uint32_t type = 1 + number % TYPES;
    uint32_t protocol = number % 3 == 0 ? DNSTAP_PROTOCOL_TCP : DNSTAP_PROTOCOL_UDP;
    bool ip6 = number % 2 == 1, response = type % 2 == 0;
    struct timespec time;
    time.tv_sec = 1700000000 + (time_t)number;
    time.tv_nsec = (long)(number % 1000) * 1000000;
    dnstap_message_start(&e->m, type);
    make_address(&e->client, ip6, 1 + number % 200, (uint16_t)(1024 + number % 60000));
    make_address(&e->server, ip6, 201, 53);
    dnstap_set_query_address(&e->m, (const struct sockaddr *)&e->client, protocol);
    dnstap_set_response_address(&e->m, (const struct sockaddr *)&e->server, protocol);
    dnstap_set_query_time(&e->m, &time);
    if (response) dnstap_set_response_time(&e->m, &time);
    if (response) e->m.response_message = dnstap_bytes_of(e->dns, make_dns(e->dns, number, true));
    if (!response) e->m.query_message = dnstap_bytes_of(e->dns, make_dns(e->dns, number, false));
}

static void put(FILE *file, const void *data, size_t size)
{
    if (size > 0 && fwrite(data, size, 1, file) != 1) exit(2);
}

static void put_frame(FILE *file, event *e)
{
    uint8_t payload[1024], length[4] = {0};
    long size;
    e->m.identity = dnstap_bytes_of(IDENTITY, strlen(IDENTITY));
    e->m.version = dnstap_bytes_of(VERSION, strlen(VERSION));
    size = dnstap_encode(&e->m, payload, sizeof payload);
    if (size < 0) exit(2);
    length[2] = (uint8_t)(size >> 8);
    length[3] = (uint8_t)size;
    put(file, length, sizeof length);
    put(file, payload, (size_t)size);
}

static void expect(const char *path, unsigned count)
{
    static const uint8_t stop[12] = {0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, DNSTAP_CONTROL_STOP};
    static const uint8_t start[20] = {0, 0, 0, 0, 0, 0, 0, 34, 0, 0, 0, DNSTAP_CONTROL_START,
                                      0, 0, 0, 1, 0, 0, 0, 22};
    FILE *file = fopen(path, "wb");
    event e;
    unsigned i;
    if (!file) exit(2);
    put(file, start, sizeof start);
    put(file, DNSTAP_FRAME_CONTENT_TYPE, strlen(DNSTAP_FRAME_CONTENT_TYPE));
    for (i = 0; i < count; i++) {
        make_event(&e, i);
        put_frame(file, &e);
    }
    put(file, stop, sizeof stop);
    if (fclose(file) != 0) exit(2);
}

static void print_log(void *user, int level, const char *text)
{
    (void)user;
    (void)level;
    fprintf(stderr, "%s\n", text);
}

/* Where the ring may be full, this waits for the collector; a server would go on. */
static int log_event(dnstap_tap *tap, const event *e, unsigned number)
{
    if (number > 0 && number % QUEUE == 0 && dnstap_flush(tap, DEADLINE_MS) != DNSTAP_OK)
        return DNSTAP_TIMEOUT;
    return dnstap_log(tap, &e->m);
}

/* The flags at the beginning; how many arguments they are, or -1. */
static int take_flags(dnstap_options *o, int argc, char **argv)
{
    int i = 1;
    for (; i < argc && !strncmp(argv[i], "--", 2); i++) {
        if (!strcmp(argv[i], "--listen"))
            o->listen = true;
        else if (!strcmp(argv[i], "--ca") && i + 1 < argc)
            o->ca_file = argv[++i];
        else if (!strcmp(argv[i], "--cert") && i + 1 < argc)
            o->cert_file = argv[++i];
        else if (!strcmp(argv[i], "--key") && i + 1 < argc)
            o->key_file = argv[++i];
        else
            return -1;
    }
    return argc - i < 2 ? -1 : i - 1;
}

/* A listening tap logs nothing while nobody listens to it. */
static bool heard(dnstap_tap *tap)
{
    const struct timespec ms = {0, 1000000};
    int waited = 0;
    while (!dnstap_wants(tap, DNSTAP_MSG_CLIENT_QUERY) && waited++ < DEADLINE_MS)
        nanosleep(&ms, NULL);
    return dnstap_wants(tap, DNSTAP_MSG_CLIENT_QUERY);
}

int main(int argc, char **argv)
{
    dnstap_options options;
    dnstap_error error;
    dnstap_tap *tap;
    event e;
    unsigned i, count;
    int result, flags;
    memset(&options, 0, sizeof options);
    flags = take_flags(&options, argc, argv);
    if (flags < 0) return fprintf(stderr, "usage: tap_source [FLAGS] ENDPOINT COUNT [EXPECT]\n"), 2;
    argc -= flags;
    argv += flags;
    count = (unsigned)strtoul(argv[2], NULL, 10);
    options.endpoint = argv[1];
    options.identity = IDENTITY;
    options.version = VERSION;
    options.full = true;
    options.log = print_log;
    tap = dnstap_open(&options, &error);
    if (!tap) return fprintf(stderr, "%s\n", error.text), 1;
    if (argc > 3) expect(argv[3], count);
    if (dnstap_start(tap) != DNSTAP_OK) return 1;
    if (!heard(tap)) return fprintf(stderr, "no sink came\n"), 1;
    for (i = 0; i < count; i++) {
        make_event(&e, i);
        result = log_event(tap, &e, i);
        if (result != 1) return fprintf(stderr, "log: %s\n", dnstap_strerror(result)), 1;
    }
    result = dnstap_close(tap, DEADLINE_MS);
    if (result != DNSTAP_OK) return fprintf(stderr, "close: %s\n", dnstap_strerror(result)), 1;
    return 0;
}
