/* json.c: -j, a JSON object a line for each message, as golang-dnstap's tool prints it: empty text
 * and port 0 are left out, but not a family or protocol that is absent; and extra, policy and
 * http_protocol besides. */
#include "dns.h"

#include <string.h>

static void begin_key(text *t, const char *key, const text_style *style)
{
    if (t->data[t->size - 1] != '{') text_string(t, ",");
    if (style->color) text_string(t, "\033[36m");
    text_string(t, "\"");
    text_string(t, key);
    text_string(t, "\"");
    if (style->color) text_string(t, "\033[0m");
    text_string(t, ":");
}

static void add_string(text *t, const char *key, dnstap_bytes value, const text_style *style)
{
    if (value.size == 0) return;
    begin_key(t, key, style);
    text_json_utf8(t, value, style->terminal);
}

static void begin_object(text *t, const char *key, const text_style *style)
{
    begin_key(t, key, style);
    text_string(t, "{");
}

static void add_enum(text *t, const char *key, uint32_t value, const char *name,
                     const text_style *style)
{
    begin_key(t, key, style);
    text_string(t, "\"");
    text_enum(t, value, name);
    text_string(t, "\"");
}

/* As Go prints a pointer that is nil, and what of that means something in HTML. */
static void add_absent(text *t, const char *key, const text_style *style)
{
    begin_key(t, key, style);
    text_string(t, "\"\\u003cnil\\u003e\"");
}

/* The fields' numbers: seconds, nanoseconds behind them. */
static void add_time(text *t, const dnstap_message *m, int field, const text_style *style)
{
    const bool query = field == 8;
    if (!has_field(m, field) || !has_field(m, field + 1)) return;
    const civil_time c = query ? civil_time_of(m->query_time_sec, m->query_time_nsec)
                               : civil_time_of(m->response_time_sec, m->response_time_nsec);
    begin_key(t, query ? "query_time" : "response_time", style);
    text_string(t, "\"");
    text_civil_time(t, &c, "T");
    text_string(t, "Z\"");
}

static void add_address(text *t, const char *key, dnstap_bytes address, const text_style *style)
{
    if (!address.data) return;
    begin_key(t, key, style);
    text_string(t, "\"");
    if (address.size > 0) text_address(t, address);
    text_string(t, "\"");
}

static void add_port(text *t, const char *key, uint32_t port, const text_style *style)
{
    if (port == 0) return;
    begin_key(t, key, style);
    text_number(t, port);
}

/* What was read, or why it could not be. */
static void add_read(text *t, const char *key, text *value, const char *why,
                     const text_style *style)
{
    if (why) {
        text_string(value, "parse failed: ");
        text_string(value, why);
    }
    add_string(t, key, dnstap_bytes_of(value->data, value->size), style);
    value->size = 0;
}

static text scratch;

static void add_zone(text *t, dnstap_bytes zone, const text_style *style)
{
    dns_reader r = {(const uint8_t *)zone.data, zone.size, 0};
    dns_question q;
    if (!zone.data) return;
    const char *why = dns_read_name(&r, &q);
    if (!why) text_dns_name(&scratch, &q);
    add_read(t, "query_zone", &scratch, why, style);
}

static void add_dns(text *t, const char *key, dnstap_bytes message, const text_style *style)
{
    dns_message m;
    if (!message.data) return;
    const char *why = dns_read(&m, message);
    if (!why) text_dns_message(&scratch, &m);
    add_read(t, key, &scratch, why, style);
}

static void add_policy(text *t, const dnstap_policy *p, const text_style *style)
{
    begin_object(t, "policy", style);
    add_string(t, "type", p->type, style);
    if (p->rule.data) text_policy_rule(&scratch, p);
    add_read(t, "rule", &scratch, NULL, style);
    if (p->action) add_enum(t, "action", p->action, dnstap_policy_action_name(p->action), style);
    if (p->match) add_enum(t, "match", p->match, dnstap_policy_match_name(p->match), style);
    if (p->value.data) text_policy_value(&scratch, p);
    add_read(t, "value", &scratch, NULL, style);
    text_string(t, "}");
}

static void add_socket(text *t, const dnstap_message *m, const text_style *style)
{
    if (has_field(m, 2))
        add_enum(t, "socket_family", m->socket_family, dnstap_socket_family_name(m->socket_family),
                 style);
    else
        add_absent(t, "socket_family", style);
    if (has_field(m, 3))
        add_enum(t, "socket_protocol", m->socket_protocol,
                 dnstap_socket_protocol_name(m->socket_protocol), style);
    else
        add_absent(t, "socket_protocol", style);
}

static void add_message(text *t, const dnstap_message *m, const text_style *style)
{
    begin_object(t, "message", style);
    add_enum(t, "type", m->type, dnstap_message_type_name(m->type), style);
    add_time(t, m, 8, style);
    add_time(t, m, 12, style);
    add_socket(t, m, style);
    add_address(t, "query_address", m->query_address, style);
    add_address(t, "response_address", m->response_address, style);
    add_port(t, "query_port", m->query_port, style);
    add_port(t, "response_port", m->response_port, style);
    add_zone(t, m->query_zone, style);
    add_dns(t, "query_message", m->query_message, style);
    add_dns(t, "response_message", m->response_message, style);
    if (m->policy) add_policy(t, m->policy, style);
    if (has_field(m, 16))
        add_enum(t, "http_protocol", m->http_protocol, dnstap_http_protocol_name(m->http_protocol),
                 style);
    text_string(t, "}");
}

void json_print(text *t, const dnstap_received *received, const text_style *style)
{
    const dnstap_message *m = received->message;
    text_string(t, "{");
    begin_key(t, "type", style);
    text_string(t, "\"MESSAGE\""); /* what has another type is not decoded */
    add_string(t, "identity", m->identity, style);
    add_string(t, "version", m->version, style);
    add_string(t, "extra", m->extra, style);
    if (has_field(m, 1)) add_message(t, m, style);
    text_string(t, "}\n");
}
