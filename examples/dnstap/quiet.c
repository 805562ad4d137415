/* quiet.c: -q, a line for each message, byte for byte as golang-dnstap's tool prints it:
 *
 *     12:26:40.123456 CQ 10.240.0.1 UDP 40b "example.com." IN A
 *
 * local time, type, the other side's address, protocol, size of the DNS message, and its question.
 * What is absent shows as such: `??:??:??.??????`, MISSING_ADDRESS, nothing for the protocol, and
 * `X ` for a DNS message without a question or against the rules. */
#include "dns.h"

/* ---- the line ------------------------------------------------------------------------------ */

/* Seconds are asked for many times over before they change. */
static void add_clock(text *t, uint64_t seconds, const text_style *style)
{
    static uint64_t last;
    static text day, clock;
    if (seconds != last || clock.size == 0) {
        const civil_time local = local_time_of(seconds);
        day.size = clock.size = 0;
        text_day(&day, &local);
        text_clock(&clock, &local);
        last = seconds;
    }
    if (style->date) {
        text_bytes(t, day.data, day.size);
        text_string(t, " ");
    }
    text_bytes(t, clock.data, clock.size);
}

static void add_time(text *t, const dnstap_message *m, bool query, const text_style *style)
{
    const int field = query ? 8 : 12; /* the seconds' number; behind it are the nanoseconds */
    if (has_field(m, field))
        add_clock(t, query ? m->query_time_sec : m->response_time_sec, style);
    else
        text_string(t, style->date ? "????"
                                     "-??"
                                     "-?? ??:??:??"
                                   : "??:??:??");
    text_string(t, ".");
    if (has_field(m, field + 1))
        text_digits(t, (query ? m->query_time_nsec : m->response_time_nsec) / 1000, 6);
    else
        text_string(t, "??????");
}

static void add_address(text *t, dnstap_bytes address)
{
    if (address.data)
        text_address(t, address);
    else
        text_string(t, "MISSING_ADDRESS");
}

static void add_protocol(text *t, const dnstap_message *m)
{
    const bool known = m->socket_protocol <= DNSTAP_PROTOCOL_DOH; /* to the other tool */
    if (has_field(m, 3))
        text_enum(t, m->socket_protocol,
                  known ? dnstap_socket_protocol_name(m->socket_protocol) : NULL);
}

static const char plain[] = "\033[0m", bold[] = "\033[1m", red[] = "\033[31m", green[] = "\033[32m",
                  cyan[] = "\033[36m";

static void add_color(text *t, const char *code, const text_style *style)
{
    if (style->color) text_string(t, code);
}

static void add_dns(text *t, dnstap_bytes bytes, const text_style *style)
{
    dns_message m;
    text_number(t, bytes.size);
    text_string(t, "b ");
    if (dns_read(&m, bytes) || m.questions == 0) {
        add_color(t, red, style);
        text_string(t, "X ");
        add_color(t, plain, style);
        return;
    }
    add_color(t, bold, style);
    text_string(t, "\"");
    text_dns_name(t, &m.question);
    text_string(t, "\"");
    add_color(t, plain, style);
    text_string(t, " ");
    text_dns_class(t, m.question.class_);
    text_string(t, " ");
    text_dns_type(t, m.question.type);
}

/* Two letters; NULL where the other tool has none, which includes STUB_QUERY and STUB_RESPONSE. */
static const char *letters(uint32_t type)
{
#define BRIEF(constant, value, name, brief) brief,
    static const char *const briefs[] = {DNSTAP_MESSAGE_TYPES(BRIEF)};
#undef BRIEF
    if (type == DNSTAP_MSG_STUB_QUERY || type == DNSTAP_MSG_STUB_RESPONSE) return NULL;
    return type >= 1 && type <= sizeof briefs / sizeof *briefs ? briefs[type - 1] : NULL;
}

static void add_letters(text *t, uint32_t type, bool query, const text_style *style)
{
    text_string(t, " ");
    add_color(t, query ? cyan : green, style);
    text_string(t, letters(type));
    add_color(t, plain, style);
    text_string(t, " ");
}

void quiet_print(text *t, const dnstap_received *received, const text_style *style)
{
    const dnstap_message *m = received->message;
    const bool query = m->type % 2 == 1, of_server = m->type <= DNSTAP_MSG_AUTH_RESPONSE ||
                                                     m->type == DNSTAP_MSG_CLIENT_QUERY ||
                                                     m->type == DNSTAP_MSG_CLIENT_RESPONSE;
    if (!has_field(m, 1)) {
        text_string(t, "[no Message]\n");
        return;
    }
    if (!letters(m->type)) {
        text_string(t, "[unhandled Message.Type]\n");
        return;
    }
    add_time(t, m, query, style);
    add_letters(t, m->type, query, style);
    add_address(t, of_server ? m->query_address : m->response_address);
    text_string(t, " ");
    add_protocol(t, m);
    text_string(t, " ");
    add_dns(t, query ? m->query_message : m->response_message, style);
    text_string(t, "\n");
}
