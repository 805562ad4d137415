/* exact.c: --exact, one JSON object for each message, with every field it has under its name in
 * the schema and in the schema's order: bytes in hex, enumerations by name, or by number when they
 * have none, a policy's type as text. frame is the frame's index in its stream. */
#include "dns.h"

/* A field's beginning, in one piece; the first one's without what is between two. */
#define KEY(name) ", \"" name "\": "

static inline void begin_field(text *t, const char *key)
{
    const size_t between = t->data[t->size - 1] == '{' ? 2 : 0;
    text_bytes(t, key + between, strlen(key) - between);
}

static inline void add_number(text *t, const char *key, uint64_t number)
{
    begin_field(t, key);
    text_number(t, number);
}

static inline void add_enum(text *t, const char *key, uint32_t value, const char *value_name)
{
    if (!value_name) {
        add_number(t, key, value);
        return;
    }
    begin_field(t, key);
    text_string(t, "\"");
    text_string(t, value_name);
    text_string(t, "\"");
}

static inline void add_bytes(text *t, const char *key, dnstap_bytes bytes)
{
    if (!bytes.data) return;
    begin_field(t, key);
    text_string(t, "\"");
    text_hex(t, bytes);
    text_string(t, "\"");
}

static void add_policy(text *t, const dnstap_policy *p)
{
    begin_field(t, KEY("policy"));
    text_string(t, "{");
    if (p->type.data) {
        begin_field(t, KEY("type"));
        text_json(t, p->type);
    }
    add_bytes(t, KEY("rule"), p->rule);
    if (p->action) add_enum(t, KEY("action"), p->action, dnstap_policy_action_name(p->action));
    if (p->match) add_enum(t, KEY("match"), p->match, dnstap_policy_match_name(p->match));
    add_bytes(t, KEY("value"), p->value);
    text_string(t, "}");
}

static void add_message(text *t, const dnstap_message *m)
{
    begin_field(t, KEY("message"));
    text_string(t, "{");
    add_enum(t, KEY("type"), m->type, dnstap_message_type_name(m->type));
    if (has_field(m, 2))
        add_enum(t, KEY("socket_family"), m->socket_family,
                 dnstap_socket_family_name(m->socket_family));
    if (has_field(m, 3))
        add_enum(t, KEY("socket_protocol"), m->socket_protocol,
                 dnstap_socket_protocol_name(m->socket_protocol));
    add_bytes(t, KEY("query_address"), m->query_address);
    add_bytes(t, KEY("response_address"), m->response_address);
    if (has_field(m, 6)) add_number(t, KEY("query_port"), m->query_port);
    if (has_field(m, 7)) add_number(t, KEY("response_port"), m->response_port);
    if (has_field(m, 8)) add_number(t, KEY("query_time_sec"), m->query_time_sec);
    if (has_field(m, 9)) add_number(t, KEY("query_time_nsec"), m->query_time_nsec);
    add_bytes(t, KEY("query_message"), m->query_message);
    add_bytes(t, KEY("query_zone"), m->query_zone);
    if (has_field(m, 12)) add_number(t, KEY("response_time_sec"), m->response_time_sec);
    if (has_field(m, 13)) add_number(t, KEY("response_time_nsec"), m->response_time_nsec);
    add_bytes(t, KEY("response_message"), m->response_message);
    if (m->policy) add_policy(t, m->policy);
    if (has_field(m, 16))
        add_enum(t, KEY("http_protocol"), m->http_protocol,
                 dnstap_http_protocol_name(m->http_protocol));
    text_string(t, "}");
}

void exact_print(text *t, const dnstap_received *received, const text_style *style)
{
    const dnstap_message *m = received->message;
    (void)style;
    text_string(t, "{");
    add_number(t, KEY("frame"), received->index);
    add_number(t, KEY("frame_len"), received->frame.size);
    add_bytes(t, KEY("identity"), m->identity);
    add_bytes(t, KEY("version"), m->version);
    add_bytes(t, KEY("extra"), m->extra);
    if (has_field(m, 1)) add_message(t, m);
    begin_field(t, KEY("type"));
    text_string(t, "\"MESSAGE\"}\n"); /* what has another type is not decoded */
}
