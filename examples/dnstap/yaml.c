/* yaml.c: -y, a YAML document for each message, as golang-dnstap's tool prints it, and extra,
 * policy and http_protocol besides. Whatever a message holds, it can be parsed: an address that
 * YAML would take for something else is quoted, and so are times whose year it does not know. */
#include "dns.h"

#include <string.h>

/* Begins a line: indent, key and colon. */
static void begin_key(text *t, const char *indent, const char *key, const text_style *style)
{
    text_string(t, indent);
    if (style->color) text_string(t, "\033[36m");
    text_string(t, key);
    if (style->color) text_string(t, "\033[0m");
    text_string(t, ": ");
}

static void add_quoted(text *t, const char *indent, const char *key, dnstap_bytes value,
                       const text_style *style)
{
    if (!value.data) return;
    begin_key(t, indent, key, style);
    text_quoted(t, value);
    text_string(t, "\n");
}

static void add_enum(text *t, const char *indent, const char *key, uint32_t value, const char *name,
                     const text_style *style)
{
    begin_key(t, indent, key, style);
    text_enum(t, value, name);
    text_string(t, "\n");
}

static void add_number(text *t, const char *key, uint32_t value, const text_style *style)
{
    begin_key(t, "  ", key, style);
    text_number(t, value);
    text_string(t, "\n");
}

/* The fields' numbers: seconds, nanoseconds behind them. */
static void add_time(text *t, const dnstap_message *m, int field, const text_style *style)
{
    const bool query = field == 8;
    if (!has_field(m, field) || !has_field(m, field + 1)) return;
    const civil_time c = query ? civil_time_of(m->query_time_sec, m->query_time_nsec)
                               : civil_time_of(m->response_time_sec, m->response_time_nsec);
    const bool known = c.year >= 1 && c.year <= 9999;
    begin_key(t, "  ", query ? "query_time" : "response_time", style);
    text_string(t, known ? "!!timestamp " : "\"");
    text_civil_time(t, &c, " ");
    text_string(t, known ? "\n" : "\"\n");
}

/* In YAML 1.1, 1:20:30 is a number of base 60, and what ends in a colon is a key. */
static bool is_plain(const char *s)
{
    static const char digits[] = "0123456789";
    size_t size = strlen(s);
    if (s[size - 1] == ':') return false;
    for (s += strspn(s, digits); *s == ':'; s += size) {
        s++;
        size = strspn(s, digits);
        if (size == 0 || size > 2 || (size == 2 && *s > '5')) return true;
    }
    return *s != '\0';
}

static void add_address(text *t, const char *key, dnstap_bytes address, const text_style *style)
{
    if (!address.data) return;
    begin_key(t, "  ", key, style);
    const size_t at = t->size;
    text_address(t, address);
    text_bytes(t, "", 1);
    t->size--;
    if (!is_plain(t->data + at)) {
        t->size = at;
        text_string(t, "\"");
        text_address(t, address);
        text_string(t, "\"");
    }
    text_string(t, "\n");
}

static void add_failure(text *t, const char *key, const char *why)
{
    text_string(t, "  # ");
    text_string(t, key);
    text_string(t, ": parse failed: ");
    text_string(t, why);
    text_string(t, "\n");
}

static void add_zone(text *t, dnstap_bytes zone, const text_style *style)
{
    dns_reader r = {(const uint8_t *)zone.data, zone.size, 0};
    dns_question q;
    static text name;
    if (!zone.data) return;
    const char *why = dns_read_name(&r, &q);
    if (why) {
        add_failure(t, "query_zone", why);
        return;
    }
    name.size = 0;
    text_dns_name(&name, &q);
    add_quoted(t, "  ", "query_zone", dnstap_bytes_of(name.data, name.size), style);
}

/* A block of lines. */
static void add_dns(text *t, const char *key, dnstap_bytes message, const text_style *style)
{
    static text printed;
    dns_message m;
    if (!message.data) return;
    const char *why = dns_read(&m, message);
    if (why) {
        add_failure(t, key, why);
        return;
    }
    printed.size = 0;
    text_dns_message(&printed, &m);
    while (printed.size > 0 && strchr(" \t\n", printed.data[printed.size - 1])) printed.size--;
    begin_key(t, "  ", key, style);
    text_string(t, "|\n");
    for (size_t at = 0; at < printed.size;) {
        const char *line = printed.data + at;
        const char *end = (const char *)memchr(line, '\n', printed.size - at);
        const size_t size = end ? (size_t)(end - line) : printed.size - at;
        text_string(t, "    ");
        text_bytes(t, line, size);
        text_string(t, "\n");
        at += size + 1;
    }
}

static void add_policy(text *t, const dnstap_policy *p, const text_style *style)
{
    static text s;
    const char *indent = "    ";
    text_string(t, "  policy:\n");
    add_quoted(t, indent, "type", p->type, style);
    if (p->rule.data) {
        s.size = 0;
        text_policy_rule(&s, p);
        add_quoted(t, indent, "rule", dnstap_bytes_of(s.data, s.size), style);
    }
    if (p->action)
        add_enum(t, indent, "action", p->action, dnstap_policy_action_name(p->action), style);
    if (p->match) add_enum(t, indent, "match", p->match, dnstap_policy_match_name(p->match), style);
    if (p->value.data) {
        s.size = 0;
        text_policy_value(&s, p);
        add_quoted(t, indent, "value", dnstap_bytes_of(s.data, s.size), style);
    }
}

static void add_message(text *t, const dnstap_message *m, const text_style *style)
{
    text_string(t, "message:\n");
    add_enum(t, "  ", "type", m->type, dnstap_message_type_name(m->type), style);
    add_time(t, m, 8, style);
    add_time(t, m, 12, style);
    if (has_field(m, 2))
        add_enum(t, "  ", "socket_family", m->socket_family,
                 dnstap_socket_family_name(m->socket_family), style);
    if (has_field(m, 3))
        add_enum(t, "  ", "socket_protocol", m->socket_protocol,
                 dnstap_socket_protocol_name(m->socket_protocol), style);
    add_address(t, "query_address", m->query_address, style);
    add_address(t, "response_address", m->response_address, style);
    if (has_field(m, 6)) add_number(t, "query_port", m->query_port, style);
    if (has_field(m, 7)) add_number(t, "response_port", m->response_port, style);
    add_zone(t, m->query_zone, style);
    add_dns(t, "query_message", m->query_message, style);
    add_dns(t, "response_message", m->response_message, style);
    if (m->policy) add_policy(t, m->policy, style);
    if (has_field(m, 16))
        add_enum(t, "  ", "http_protocol", m->http_protocol,
                 dnstap_http_protocol_name(m->http_protocol), style);
}

void yaml_print(text *t, const dnstap_received *received, const text_style *style)
{
    const dnstap_message *m = received->message;
    begin_key(t, "", "type", style);
    text_string(t, "MESSAGE\n"); /* what has another type is not decoded */
    add_quoted(t, "", "identity", m->identity, style);
    add_quoted(t, "", "version", m->version, style);
    add_quoted(t, "", "extra", m->extra, style);
    if (has_field(m, 1)) add_message(t, m, style);
    text_string(t, "---\n");
}
