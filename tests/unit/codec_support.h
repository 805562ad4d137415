/* What the tests of the codec share: when messages are the same. */
#ifndef CODEC_SUPPORT_H
#define CODEC_SUPPORT_H

#include "unit.h"

static bool has(const dnstap_message *m, uint64_t value, unsigned number)
{
    return value != 0 || (m->present >> number & 1) != 0;
}

static bool same_bytes(dnstap_bytes a, dnstap_bytes b)
{
    if (!a.data || !b.data) return a.data == b.data;
    return a.size == b.size && memcmp(a.data, b.data, a.size) == 0;
}

static bool same_policy(const dnstap_policy *a, const dnstap_policy *b)
{
    if (!a || !b) return a == b;
    return a->action == b->action && a->match == b->match && same_bytes(a->type, b->type) &&
           same_bytes(a->rule, b->rule) && same_bytes(a->value, b->value);
}

/* The bit of each number that counts as present. */
static uint32_t present_numbers(const dnstap_message *m)
{
    uint32_t bits = 0;
    const uint64_t values[][2] = {{1, m->type},
                                  {2, m->socket_family},
                                  {3, m->socket_protocol},
                                  {6, m->query_port},
                                  {7, m->response_port},
                                  {8, m->query_time_sec},
                                  {9, m->query_time_nsec},
                                  {12, m->response_time_sec},
                                  {13, m->response_time_nsec},
                                  {16, m->http_protocol}};
    size_t i;
    for (i = 0; i < sizeof values / sizeof *values; i++)
        if (has(m, values[i][1], (unsigned)values[i][0])) bits |= 1u << values[i][0];
    return bits;
}

static bool same_message(const dnstap_message *a, const dnstap_message *b)
{
    return present_numbers(a) == present_numbers(b) && a->type == b->type &&
           a->socket_family == b->socket_family && a->socket_protocol == b->socket_protocol &&
           a->query_port == b->query_port && a->response_port == b->response_port &&
           a->query_time_sec == b->query_time_sec && a->query_time_nsec == b->query_time_nsec &&
           a->response_time_sec == b->response_time_sec &&
           a->response_time_nsec == b->response_time_nsec && a->http_protocol == b->http_protocol &&
           same_bytes(a->query_address, b->query_address) &&
           same_bytes(a->response_address, b->response_address) &&
           same_bytes(a->query_message, b->query_message) &&
           same_bytes(a->response_message, b->response_message) &&
           same_bytes(a->query_zone, b->query_zone) && same_bytes(a->identity, b->identity) &&
           same_bytes(a->version, b->version) && same_bytes(a->extra, b->extra) &&
           same_policy(a->policy, b->policy);
}

#endif
