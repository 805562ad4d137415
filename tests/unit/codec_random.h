/* Random messages, and the same message through protobuf-c, whose bytes are the reference. */
#ifndef CODEC_RANDOM_H
#define CODEC_RANDOM_H

#include "codec_support.h"
#include "dnstap.pb-c.h"

enum { POOL_SIZE = 70000, PAYLOAD_MAX = 700000 };

static uint8_t pool[POOL_SIZE];
static char policy_text[64];

/* Of any width up to bits. */
static uint64_t random_number(unsigned bits)
{
    unsigned width = 1 + rnd(bits);
    uint64_t v = (uint64_t)rnd(1u << 31) << 33 ^ (uint64_t)rnd(1u << 31) << 11 ^ rnd(1u << 11);
    return width == 64 ? v : v & (((uint64_t)1 << width) - 1);
}

/* Often absent, sometimes empty, mostly short, at times at the edges where lengths grow a byte. */
static dnstap_bytes random_bytes(void)
{
    static const size_t sizes[] = {0, 1, 4, 16, 127, 128, 129, 255, 512, 16383, 16384, 65535};
    size_t size = rnd(8) ? rnd(60) : sizes[rnd(rnd(8) ? 9 : 12)];
    if (rnd(2)) return dnstap_bytes_of(NULL, rnd(2) ? size : 0);
    return dnstap_bytes_of(pool + rnd((uint32_t)(POOL_SIZE - size)), size);
}

/* A number of any width, absent, or 0 and yet present. */
static uint32_t random_field(dnstap_message *m, unsigned number, uint64_t most)
{
    uint64_t v = random_number(31);
    if (rnd(3) == 0) return 0;
    if (rnd(8) == 0) v = 0;
    if (rnd(2)) v %= 8;
    if (v == 0 || rnd(2)) m->present |= 1u << number;
    return (uint32_t)(v > most ? most : v);
}

static uint64_t random_seconds(dnstap_message *m, unsigned number)
{
    uint64_t v = rnd(2) ? 1700000000u : random_number(64);
    if (rnd(3) == 0) return 0;
    if (rnd(4) == 0) m->present |= 1u << number;
    return v;
}

static void random_policy(dnstap_policy *p)
{
    memset(p, 0, sizeof *p);
    p->action = rnd(2) ? rnd(8) : (uint32_t)random_number(31);
    p->match = rnd(2) ? rnd(8) : (uint32_t)random_number(31);
    p->rule = random_bytes();
    p->value = random_bytes();
    memset(policy_text, 0, sizeof policy_text);
    memset(policy_text, 'R', rnd(40));
    if (rnd(2)) p->type = dnstap_bytes_of(policy_text, strlen(policy_text));
}

/* Every field present or absent; policy is where m->policy may point. */
static void random_message(dnstap_message *m, dnstap_policy *policy)
{
    uint32_t most = INT32_MAX;
    dnstap_message_start(m, 0);
    m->type = rnd(4) ? 1 + rnd(14) : random_field(m, 1, most);
    if (m->type == 0) m->present |= 1u << 1;
    m->socket_family = random_field(m, 2, most);
    m->socket_protocol = random_field(m, 3, most);
    m->query_address = random_bytes();
    m->response_address = random_bytes();
    m->query_port = random_field(m, 6, 65535);
    m->response_port = random_field(m, 7, 65535);
    m->query_time_sec = random_seconds(m, 8);
    m->query_time_nsec = random_field(m, 9, 999999999);
    m->query_message = random_bytes();
    m->query_zone = random_bytes();
    m->response_time_sec = random_seconds(m, 12);
    m->response_time_nsec = random_field(m, 13, 999999999);
    m->response_message = random_bytes();
    m->http_protocol = random_field(m, 16, most);
    m->identity = random_bytes();
    m->version = random_bytes();
    m->extra = random_bytes();
    random_policy(policy);
    if (rnd(3) == 0) m->policy = policy;
}

/* ---- protobuf-c, whose bytes are the reference -------------------------------------------- */

typedef struct reference {
    Dnstap__Dnstap envelope;
    Dnstap__Message message;
    Dnstap__Policy policy;
    char text[64];
} reference;

static protobuf_c_boolean reference_bytes(ProtobufCBinaryData *to, dnstap_bytes from)
{
    to->len = from.data ? from.size : 0;
    memcpy(&to->data, &from.data, sizeof to->data);
    return from.data != NULL;
}

static void reference_policy(reference *r, const dnstap_policy *p)
{
    Dnstap__Policy *to = &r->policy;
    if (p->type.data) {
        memcpy(r->text, p->type.data, p->type.size);
        r->text[p->type.size] = 0;
        to->type = r->text;
    }
    to->has_rule = reference_bytes(&to->rule, p->rule);
    to->has_value = reference_bytes(&to->value, p->value);
    to->action = (Dnstap__Policy__Action)p->action;
    to->has_action = p->action != 0;
    to->match = (Dnstap__Policy__Match)p->match;
    to->has_match = p->match != 0;
    r->message.policy = to;
}

static void reference_message(Dnstap__Message *to, const dnstap_message *m)
{
    to->type = (Dnstap__Message__Type)m->type;
    to->has_socket_family = has(m, m->socket_family, 2);
    to->socket_family = (Dnstap__SocketFamily)m->socket_family;
    to->has_socket_protocol = has(m, m->socket_protocol, 3);
    to->socket_protocol = (Dnstap__SocketProtocol)m->socket_protocol;
    to->has_query_address = reference_bytes(&to->query_address, m->query_address);
    to->has_response_address = reference_bytes(&to->response_address, m->response_address);
    to->has_query_port = has(m, m->query_port, 6);
    to->query_port = m->query_port;
    to->has_response_port = has(m, m->response_port, 7);
    to->response_port = m->response_port;
    to->has_query_time_sec = has(m, m->query_time_sec, 8);
    to->query_time_sec = m->query_time_sec;
    to->has_query_time_nsec = has(m, m->query_time_nsec, 9);
    to->query_time_nsec = m->query_time_nsec;
    to->has_query_message = reference_bytes(&to->query_message, m->query_message);
    to->has_query_zone = reference_bytes(&to->query_zone, m->query_zone);
    to->has_response_time_sec = has(m, m->response_time_sec, 12);
    to->response_time_sec = m->response_time_sec;
    to->has_response_time_nsec = has(m, m->response_time_nsec, 13);
    to->response_time_nsec = m->response_time_nsec;
    to->has_response_message = reference_bytes(&to->response_message, m->response_message);
    to->has_http_protocol = has(m, m->http_protocol, 16);
    to->http_protocol = (Dnstap__HttpProtocol)m->http_protocol;
}

/* m as protobuf-c packs it; out has PAYLOAD_MAX bytes. */
static size_t reference_encode(const dnstap_message *m, uint8_t *out)
{
    reference r;
    dnstap__dnstap__init(&r.envelope);
    dnstap__message__init(&r.message);
    dnstap__policy__init(&r.policy);
    r.envelope.type = DNSTAP__DNSTAP__TYPE__MESSAGE;
    r.envelope.message = &r.message;
    r.envelope.has_identity = reference_bytes(&r.envelope.identity, m->identity);
    r.envelope.has_version = reference_bytes(&r.envelope.version, m->version);
    r.envelope.has_extra = reference_bytes(&r.envelope.extra, m->extra);
    reference_message(&r.message, m);
    if (m->policy) reference_policy(&r, m->policy);
    assert_true(dnstap__dnstap__get_packed_size(&r.envelope) <= PAYLOAD_MAX);
    return dnstap__dnstap__pack(&r.envelope, out);
}

#endif
