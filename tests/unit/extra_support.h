/* What the tests of `extra` share: a tap whose messages are read out of its ring. Include it after
 * dnstap.h. */
#ifndef EXTRA_SUPPORT_H
#define EXTRA_SUPPORT_H

#include "unit.h"

/* Nothing is sent: the messages stay in the ring. */
static int idle_start(void *self, short *wants)
{
    (void)self, (void)wants;
    return DNSTAP_AGAIN;
}
static long idle_send(void *self, const void *data, size_t size, short *wants)
{
    (void)self, (void)data, (void)size, (void)wants;
    return DNSTAP_AGAIN;
}
static long idle_recv(void *self, void *data, size_t size, short *wants)
{
    (void)self, (void)data, (void)size, (void)wants;
    return DNSTAP_AGAIN;
}
static void idle_close(void *self) { (void)self; }
static const dnstap_transport idle_transport = {NULL, idle_start, idle_send, idle_recv,
                                                NULL, idle_close, NULL,      NULL};

HELPER void extra_options(dnstap_options *o, const char *template)
{
    memset(o, 0, sizeof *o);
    o->transport = &idle_transport;
    o->identity = "ns1";
    o->version = "1";
    o->producers = 1;
    o->extra = template;
}

HELPER dnstap_tap *extra_open(const dnstap_options *o)
{
    dnstap_error error;
    dnstap_tap *tap = dnstap_open(o, &error);
    if (!tap) fail_msg("%s", error.text);
    return tap;
}

/* Logs m into the empty ring; its extra as the payload has it, valid until the next. */
HELPER dnstap_bytes extra_of(dnstap_tap *tap, const dnstap_message *m)
{
    const uint8_t *frame = tap->rings[0].data;
    static dnstap_message out;
    static dnstap_policy policy;
    dnstap__discard(tap);
    assert_int_equal(dnstap_log_as(tap, 0, m), 1);
    assert_int_equal(dnstap_decode(&out, &policy, frame + 4, dnstap__get32(frame)), DNSTAP_OK);
    assert_int_equal(out.type, m->type);
    assert_int_equal(out.identity.size, 3);
    return out.extra;
}

/* expected NULL: there must be none. */
HELPER bool is_text(dnstap_bytes bytes, const char *expected)
{
    if (!expected || !bytes.data) return !expected && !bytes.data;
    return bytes.size == strlen(expected) && memcmp(bytes.data, expected, bytes.size) == 0;
}

/* ---- messages ---- */

#define HEADER "\x12\x34\x01\x00"
#define ONE_QUESTION HEADER "\0\1\0\0\0\0\0\0"
#define QUESTION "\7eXample\4test\0\0\x1c\0\1" /* example.test. AAAA IN, at 12 */

HELPER dnstap_message message; /* what the checks below expand */

HELPER void start(uint32_t type) { dnstap_message_start(&message, type); }

#define QUERY(literal) (message.query_message = dnstap_bytes_of(literal, sizeof(literal) - 1))
#define REQUEST(literal) (message.request = dnstap_bytes_of(literal, sizeof(literal) - 1))
#define RESPONSE(literal) (message.response_message = dnstap_bytes_of(literal, sizeof(literal) - 1))

HELPER void start_query(void)
{
    start(DNSTAP_MSG_CLIENT_QUERY);
    QUERY(ONE_QUESTION QUESTION);
}

HELPER void ip(dnstap_bytes *to, const char *bytes, size_t size)
{
    *to = dnstap_bytes_of(bytes, size);
}

/* ---- checks ---- */

HELPER void check_with(const dnstap_options *o, const char *expected)
{
    dnstap_tap *tap = extra_open(o);
    dnstap_bytes made = extra_of(tap, &message);
    if (!is_text(made, expected))
        fail_msg("%s becomes %.*s, not %s", o->extra, (int)made.size, (const char *)made.data,
                 expected);
    dnstap_close(tap, 0);
}

HELPER void check(const char *template, const char *expected)
{
    dnstap_options o;
    extra_options(&o, template);
    check_with(&o, expected);
}

/* Of labels of a size, so many as a name may have. */
HELPER size_t long_query(uint8_t *dns, size_t label, size_t bytes)
{
    size_t at = 12, n;
    memset(dns, 0, 512);
    memcpy(dns, ONE_QUESTION, 12);
    while (bytes > 1) {
        n = label < bytes - 2 ? label : bytes - 2;
        dns[at] = (uint8_t)n;
        memset(dns + at + 1, 200, n);
        at += n + 1;
        bytes -= n + 1;
    }
    return at + 5;
}

#endif
