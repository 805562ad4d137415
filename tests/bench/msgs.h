/* The workload of every benchmark, and how each side makes a message of it.
 *
 * An event is what a server has in its hands when it logs: the DNS message, the addresses as the
 * socket calls gave them, the times as the clock did. Four of them repeat: CLIENT_QUERY (40 bytes
 * of DNS), CLIENT_RESPONSE (120), CLIENT_QUERY, CLIENT_RESPONSE (500). Port and nanoseconds differ
 * from message to message; ports are so large that each event always has the same size. */
#ifndef BENCH_MSGS_H
#define BENCH_MSGS_H

#include "dnstap.h"
#include "dnstap.pb-c.h"
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define IDENTITY "resolver01.example.net"
#define VERSION "demo-1.0"
enum { MIX = 4, FRAME_MAX = 2048, DNS_MAX = 500 };

typedef struct event {
    uint32_t type;
    struct sockaddr_in client, server;
    struct timespec asked, answered;
    uint8_t query[DNS_MAX], response[DNS_MAX];
    size_t query_size, response_size;
} event;

/* A header, one question, and in responses as many A records as fit. */
static inline size_t make_dns(uint8_t *out, size_t size, bool response)
{
    static const uint8_t question[] = "\003www\016resolverbench1\003abc\000\000\001\000\001";
    static const uint8_t record[] = {0xc0, 12, 0, 1, 0, 1, 0, 0, 1, 44, 0, 4, 192, 0, 2, 1};
    size_t at = 12 + sizeof question - 1;

    memset(out, 0, size);
    out[0] = 0x12;
    out[2] = response ? 0x81 : 0x01;
    out[3] = response ? 0x80 : 0;
    out[5] = 1;
    memcpy(out + 12, question, sizeof question - 1);
    for (; response && at + sizeof record <= size; at += sizeof record) {
        memcpy(out + at, record, sizeof record);
        out[at + sizeof record - 1] = out[7]++;
    }
    return size;
}

static inline void make_events(event events[MIX])
{
    static const size_t sizes[MIX] = {40, 120, 40, 500};
    size_t i;

    memset(events, 0, MIX * sizeof *events);
    for (i = 0; i < MIX; i++) {
        event *e = &events[i];

        e->type = i % 2 ? DNSTAP_MSG_CLIENT_RESPONSE : DNSTAP_MSG_CLIENT_QUERY;
        e->client.sin_family = e->server.sin_family = AF_INET;
        e->client.sin_addr.s_addr = htonl(0xc000024d); /* 192.0.2.77 */
        e->client.sin_port = htons(53124);
        e->server.sin_addr.s_addr = htonl(0xc0000235);
        e->server.sin_port = htons(53);
        e->asked.tv_sec = e->answered.tv_sec = 1753900000;
        e->query_size = make_dns(e->query, 40, false);
        if (i % 2) e->response_size = make_dns(e->response, sizes[i], true);
    }
}

/* Message i of the stream. */
static inline event *next_event(event events[MIX], uint64_t i)
{
    event *e = &events[i % MIX];

    e->client.sin_port = htons((uint16_t)(32768 + i % 32768));
    e->asked.tv_nsec = (long)(i * 997 & 0x1fffffff);
    e->answered.tv_nsec = e->asked.tv_nsec / 2;
    return e;
}

static const uint8_t zone[] = "\007example\003net";

/* -- ours -- */

static inline void fill_ours(dnstap_message *m, const event *e)
{
    dnstap_message_start(m, e->type);
    dnstap_set_query_address(m, (const struct sockaddr *)&e->client, DNSTAP_PROTOCOL_UDP);
    dnstap_set_query_time(m, &e->asked);
    if (e->type == DNSTAP_MSG_CLIENT_QUERY) {
        m->query_message = dnstap_bytes_of(e->query, e->query_size);
    } else {
        dnstap_set_response_time(m, &e->answered);
        m->response_message = dnstap_bytes_of(e->response, e->response_size);
    }
}

/* All that a recursive server fills in for what an authoritative one answered. */
static inline void fill_ours_full(dnstap_message *m, const event *e)
{
    dnstap_message_start(m, DNSTAP_MSG_RESOLVER_RESPONSE);
    dnstap_set_query_address(m, (const struct sockaddr *)&e->client, DNSTAP_PROTOCOL_UDP);
    dnstap_set_response_address(m, (const struct sockaddr *)&e->server, DNSTAP_PROTOCOL_UDP);
    dnstap_set_query_time(m, &e->asked);
    dnstap_set_response_time(m, &e->answered);
    m->query_zone = dnstap_bytes_of(zone, sizeof zone);
    m->query_message = dnstap_bytes_of(e->query, e->query_size);
    m->response_message = dnstap_bytes_of(e->response, e->response_size);
}

/* -- the peer: protobuf-c -- */

static inline void set_bytes(ProtobufCBinaryData *to, const void *data, size_t size)
{
    to->data = (uint8_t *)(uintptr_t)data;
    to->len = size;
}

#define SET(m, field, value) ((m)->has_##field = 1, (m)->field = (value))
#define SET_BYTES(m, field, p, len) ((m)->has_##field = 1, set_bytes(&(m)->field, p, len))

static inline void fill_peer_common(Dnstap__Dnstap *d, Dnstap__Message *m, const event *e)
{
    dnstap__dnstap__init(d);
    dnstap__message__init(m);
    SET_BYTES(d, identity, IDENTITY, sizeof IDENTITY - 1);
    SET_BYTES(d, version, VERSION, sizeof VERSION - 1);
    d->type = DNSTAP__DNSTAP__TYPE__MESSAGE;
    d->message = m;
    m->type = (Dnstap__Message__Type)e->type;
    SET(m, socket_family, DNSTAP__SOCKET_FAMILY__INET);
    SET(m, socket_protocol, DNSTAP__SOCKET_PROTOCOL__UDP);
    SET_BYTES(m, query_address, &e->client.sin_addr, 4);
    SET(m, query_port, ntohs(e->client.sin_port));
    SET(m, query_time_sec, (uint64_t)e->asked.tv_sec);
    SET(m, query_time_nsec, (uint32_t)e->asked.tv_nsec);
}

static inline void fill_peer_answer(Dnstap__Message *m, const event *e)
{
    SET(m, response_time_sec, (uint64_t)e->answered.tv_sec);
    SET(m, response_time_nsec, (uint32_t)e->answered.tv_nsec);
    SET_BYTES(m, response_message, e->response, e->response_size);
}

static inline void fill_peer(Dnstap__Dnstap *d, Dnstap__Message *m, const event *e)
{
    fill_peer_common(d, m, e);
    if (e->type == DNSTAP_MSG_CLIENT_QUERY)
        SET_BYTES(m, query_message, e->query, e->query_size);
    else
        fill_peer_answer(m, e);
}

static inline void fill_peer_full(Dnstap__Dnstap *d, Dnstap__Message *m, const event *e)
{
    fill_peer_common(d, m, e);
    fill_peer_answer(m, e);
    m->type = DNSTAP__MESSAGE__TYPE__RESOLVER_RESPONSE;
    SET_BYTES(m, response_address, &e->server.sin_addr, 4);
    SET(m, response_port, ntohs(e->server.sin_port));
    SET_BYTES(m, query_zone, zone, sizeof zone);
    SET_BYTES(m, query_message, e->query, e->query_size);
}

/* Packs as Unbound and Knot do: into a buffer of malloc that grows from 256 bytes. */
static inline uint8_t *pack_peer(const Dnstap__Dnstap *d, size_t *size)
{
    ProtobufCBufferSimple b = PROTOBUF_C_BUFFER_SIMPLE_INIT(NULL);

    b.alloced = 256;
    b.data = malloc(b.alloced);
    b.must_free_data = 1;
    if (!b.data) abort();
    *size = dnstap__dnstap__pack_to_buffer(d, &b.base);
    return b.data;
}

/* -- both -- */

static inline uint64_t clock_ns(clockid_t clock)
{
    struct timespec t;

    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* The payload of an event, as protobuf-c has it: what everything else is checked against. */
static inline size_t reference(const event *e, bool full, uint8_t out[FRAME_MAX])
{
    Dnstap__Dnstap d;
    Dnstap__Message m;

    if (full)
        fill_peer_full(&d, &m, e);
    else
        fill_peer(&d, &m, e);
    return dnstap__dnstap__pack(&d, out);
}

/* One measurement, for the report: name, unit, side (ours or peer), value. */
static inline void row(const char *name, const char *unit, const char *side, double value)
{
    printf("%s\t%s\t%s\t%.6g\n", name, unit, side, value);
    fflush(stdout);
}

static inline void die(const char *what)
{
    perror(what);
    exit(1);
}

#endif
