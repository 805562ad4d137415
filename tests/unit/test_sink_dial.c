/* A sink that dials: to taps of ours that listen, and to listeners that say one thing after the
 * other; its attempts, its names, its ends. The clock is the test's. */
#define _GNU_SOURCE
#include <sys/types.h>
#include <sys/socket.h>
#include <netdb.h>

static int test_getaddrinfo(const char *host, const char *service, const struct addrinfo *hints,
                            struct addrinfo **out);
#define getaddrinfo(host, service, hints, out) test_getaddrinfo(host, service, hints, out)
#define DNSTAP_IMPLEMENTATION
#include "dnstap.h"
#undef getaddrinfo
#include "dial_support.h"

/* What the name collector.test has: numeric addresses, one behind the other. */
static const char *addresses[4];

static int test_getaddrinfo(const char *name, const char *service, const struct addrinfo *hints,
                            struct addrinfo **out)
{
    struct addrinfo **end = out;
    int result = strcmp(name, "collector.test") ? EAI_NONAME : 0;
    unsigned i;

    *out = NULL;
    for (i = 0; !result && addresses[i]; i++) {
        result = getaddrinfo(addresses[i], service, hints, end);
        while (!result && *end) end = &(*end)->ai_next;
    }
    return result;
}

static void dial(const char *endpoint)
{
    dnstap_sink_options o = dial_options(endpoint);

    open_sink(&o);
}

static int close_host(void **state)
{
    host_close();
    return teardown(state);
}

static const char *on_port(const char *name, uint16_t port)
{
    static char endpoint[80];

    snprintf(endpoint, sizeof endpoint, "tcp://%s:%u", name, (unsigned)port);
    return endpoint;
}

/* ---- a tap of ours ---- */

static void receive_all_of(const char *listens, const char *dials)
{
    dnstap_options t = tap_options(listens);
    dnstap_sink_options o;

    t.listen = true;
    start_tap(&t);
    o = dial_options(dials ? dials : on_port("127.0.0.1", tap_status().port));
    open_sink(&o);
    UNTIL(dnstap_wants(tap, DNSTAP_MSG_CLIENT_QUERY));
    log_numbers(0, 5000);
    UNTIL(got.number == 5000);
    assert_int_equal(status().state, DNSTAP_STARTED);
    assert_int_equal(status().open, 1);
    assert_string_equal(w.peer, o.endpoint);
    close_tap();
    assert_int_equal(status().open, 0);
    assert_int_equal(status().frames, 5000);
    assert_int_equal(w.told[DNSTAP_SINK_OPENED], 1);
}

static void test_messages_of_a_listening_tap_come_over_a_unix_socket(void **state)
{
    (void)state;
    receive_all_of(w.endpoint, w.endpoint);
}

static void test_messages_of_a_listening_tap_come_over_tcp(void **state)
{
    (void)state;
    receive_all_of("tcp://127.0.0.1:0", NULL);
}

static void test_two_sinks_dial_one_tap_side_by_side(void **state)
{
    dnstap_options t = tap_options(w.endpoint);
    dnstap_sink *first;

    (void)state;
    t.listen = true;
    start_tap(&t);
    dial(w.endpoint);
    until(DNSTAP_SINK_OPENED, 1);
    first = w.sink;
    dial(w.endpoint);
    until(DNSTAP_SINK_OPENED, 2);
    UNTIL(tap_status().sinks == 2);
    log_numbers(0, 100);
    UNTIL(got.number == 100);
    dnstap_sink_close(w.sink);
    w.sink = first; /* what it is sent waits in its socket */
    got.number = 0;
    UNTIL(got.number == 100);
    close_tap();
}

static void test_a_tap_that_comes_back_is_found_again(void **state)
{
    dnstap_options t = tap_options(w.endpoint);
    unsigned i;

    (void)state;
    t.listen = true;
    dial(w.endpoint);
    until(DNSTAP_SINK_CLOSED, 1); /* nobody is there yet, which is told once */
    assert_int_equal(got.connection, 0);
    assert_string_equal(w.text, "connect: No such file or directory");
    assert_string_equal(w.peer, w.endpoint);
    for (i = 0; i < 5; i++) pass(10000);
    assert_int_equal(w.told[DNSTAP_SINK_CLOSED], 1);
    assert_int_equal(status().failed, 6);
    assert_int_equal(status().error.sys_errno, ENOENT);
    assert_non_null(strstr(status().error.text, "/s: connect: No such file or directory"));
    for (i = 1; i <= 3; i++) {
        start_tap(&t);
        w.now += 10000;
        until(DNSTAP_SINK_OPENED, i);
        if (i == 1) assert_string_equal(w.text, "connected after 6 failed attempts");
        assert_int_equal(got.connection, i);
        UNTIL(dnstap_wants(tap, DNSTAP_MSG_CLIENT_QUERY));
        log_numbers((i - 1) * 10, 10);
        UNTIL(got.number == i * 10);
        close_tap();
    }
    assert_int_equal(status().connections, 3);
}

/* ---- listeners that say something else ---- */

#define OF(bytes) bytes, sizeof bytes - 1
#define CONTROL(length, type) "\0\0\0\0\0\0" length "\0\0\0" type
#define OURS "\0\0\0\1\0\0\0\26protobuf:dnstap.Dnstap"
#define READY CONTROL("\0\42", "\4") OURS
#define START CONTROL("\0\42", "\2") OURS
#define STOP CONTROL("\0\4", "\3")
#define MESSAGE "\0\0\0\6\x72\2\10\5\x78\1"
#define NO_FRAMES "not Frame Streams, or against its rules"
#define NO_TAP "; does a tap listen there, and has it a place for one more sink?"

/* What a listener says before it closes, or falls silent (ends false), and how that is told. */
static const struct {
    const char *bytes;
    size_t size;
    bool ends;
    unsigned opened, messages;
    int result;
    const char *text;
} hosts[] = {
    {OF(""), true, 0, 0, DNSTAP_BAD_FRAME, "closed before START" NO_TAP},
    {OF("\0\0\0\0\0"), true, 0, 0, DNSTAP_BAD_FRAME, "closed before START" NO_TAP},
    {OF(READY), true, 0, 0, DNSTAP_BAD_FRAME, "closed before START" NO_TAP},
    {OF(READY START), true, 1, 0, DNSTAP_END, "ends without STOP"},
    {OF(READY START MESSAGE), true, 1, 1, DNSTAP_END, "ends without STOP"},
    {OF(READY START MESSAGE "\0\0\0\6\x72"), true, 1, 1, DNSTAP_CUT, "stream ends inside a frame"},
    {OF(READY START MESSAGE STOP), true, 1, 1, DNSTAP_OK, "ended with STOP"},
    {OF(""), false, 0, 0, DNSTAP_TIMEOUT, "no progress in 4000 ms while greeting" NO_TAP},
    {OF(READY), false, 0, 0, DNSTAP_TIMEOUT, "no progress in 4000 ms while greeting" NO_TAP},
    {OF(READY START MESSAGE STOP), false, 1, 1, DNSTAP_OK, "ended with STOP"},
    {OF("HTTP/1.1 400 Bad Request\r\n\r\n"), false, 0, 0, DNSTAP_BAD_FRAME, NO_FRAMES},
    {OF(CONTROL("\0\21", "\4") "\0\0\0\1\0\0\0\5other"), false, 0, 0, DNSTAP_BAD_FRAME, NO_FRAMES},
    {OF(CONTROL("\0\42", "\1") OURS), false, 0, 0, DNSTAP_BAD_FRAME, NO_FRAMES}, /* ACCEPT */
    {OF(START MESSAGE STOP), false, 1, 1, DNSTAP_OK, "ended with STOP"}, /* does not greet */
    {OF(READY READY), false, 0, 0, DNSTAP_BAD_FRAME, NO_FRAMES},
    {OF(READY MESSAGE), false, 0, 0, DNSTAP_BAD_FRAME, NO_FRAMES},
    {OF(READY START MESSAGE CONTROL("\2\1", "\3")), false, 1, 1, DNSTAP_BAD_FRAME, NO_FRAMES},
};

static void meet(unsigned i, const dnstap_sink_options *o)
{
    memset(w.told, 0, sizeof w.told);
    open_sink(o);
    UNTIL(host_took());
    if (hosts[i].size) host_send(hosts[i].bytes, hosts[i].size);
    if (hosts[i].ends) shutdown(host.fd, SHUT_WR);
    pass(0);
    if (!hosts[i].ends && !w.told[DNSTAP_SINK_CLOSED]) w.now += 4000;
    until(DNSTAP_SINK_CLOSED, 1);
    if (w.result != hosts[i].result || strcmp(w.text, hosts[i].text))
        fail_msg("host %u: %d, %s", i, w.result, w.text);
    assert_int_equal(w.told[DNSTAP_SINK_OPENED], hosts[i].opened);
    assert_int_equal(w.told[DNSTAP_SINK_MESSAGE], hosts[i].messages);
    assert_int_equal(got.connection, hosts[i].opened);
    assert_int_equal(status().open, 0);
    assert_int_equal(status().failed, w.result != DNSTAP_OK && w.result != DNSTAP_END);
    if (status().failed) assert_non_null(strstr(status().error.text, w.text));
    assert_int_equal(status().state, DNSTAP_BROKEN);
    UNTIL(host_left_alone() || errno == ECONNRESET || host.fd < 0);
    dnstap_sink_close(w.sink);
    w.sink = NULL;
}

static void test_every_other_end_of_a_listener_is_told_as_what_it_is(void **state)
{
    unsigned i;

    (void)state;
    host_open(NULL, 0);
    for (i = 0; i < sizeof hosts / sizeof *hosts; i++) {
        dnstap_sink_options o = dial_options(w.endpoint);

        meet(i, &o);
    }
    host_close();
}

static void test_accept_and_finish_are_answered_and_nothing_else(void **state)
{
    (void)state;
    host_open(NULL, 0);
    dial(w.endpoint);
    host_begins();
    until(DNSTAP_SINK_OPENED, 1);
    host_say(DNSTAP_CONTROL_STOP);
    host_hears(DNSTAP_CONTROL_FINISH);
    until(DNSTAP_SINK_CLOSED, 1);
    assert_int_equal(w.result, DNSTAP_OK);
    assert_true(host_left_alone());
}

static void test_without_handshake_start_is_waited_for_and_nothing_is_sent(void **state)
{
    dnstap_sink_options o = dial_options(w.endpoint);

    (void)state;
    o.unidirectional = true;
    host_open(NULL, 0);
    open_sink(&o);
    UNTIL(host_took());
    host_send(OF(START MESSAGE STOP));
    until(DNSTAP_SINK_CLOSED, 1);
    assert_int_equal(w.result, DNSTAP_OK);
    assert_int_equal(w.told[DNSTAP_SINK_MESSAGE], 1);
    assert_true(host_left_alone());
}

static void test_a_tap_that_is_silent_for_too_long_is_dialled_anew(void **state)
{
    dnstap_sink_options o = dial_options(w.endpoint);

    (void)state;
    o.idle_ms = 500;
    host_open(NULL, 0);
    open_sink(&o);
    host_begins();
    until(DNSTAP_SINK_OPENED, 1);
    pass(499);
    assert_int_equal(w.told[DNSTAP_SINK_CLOSED], 0);
    pass(1);
    assert_int_equal(w.told[DNSTAP_SINK_CLOSED], 1);
    assert_int_equal(w.result, DNSTAP_TIMEOUT);
    w.now += 100;
    host_begins();
    until(DNSTAP_SINK_OPENED, 2);
}

/* ---- when it tries again ---- */

static void test_attempts_come_as_seldom_as_the_back_off_says(void **state)
{
    uint64_t wait, last;
    unsigned n = 1, i;
    struct pollfd p;
    int timeout;

    (void)state;
    dial(w.endpoint);
    for (wait = 100; wait <= 40000; wait *= 2, n++) {
        UNTIL(status().failed == n);
        last = w.now;
        assert_int_equal(dnstap_sink_pollfds(w.sink, &p, 1, &timeout), 1);
        assert_int_equal(p.fd, -1);
        assert_in_range(timeout, (wait < 10000 ? wait : 10000) * 3 / 4,
                        wait < 10000 ? wait : 10000);
        w.now = last + (uint64_t)timeout - 1;
        for (i = 0; i < 3; i++) assert_int_equal(dnstap_sink_service(w.sink), DNSTAP_OK);
        assert_int_equal(status().failed, n);
        w.now++;
    }
    assert_int_equal(w.told[DNSTAP_SINK_CLOSED], 1);
}

static void test_after_a_connection_that_stood_the_first_attempt_is_at_once(void **state)
{
    uint64_t before;

    (void)state;
    host_open(NULL, 0);
    dial(w.endpoint);
    host_begins();
    until(DNSTAP_SINK_OPENED, 1);
    pass(1000);
    before = w.now;
    host_leave();
    until(DNSTAP_SINK_CLOSED, 1);
    assert_int_equal(w.result, DNSTAP_END);
    UNTIL(host_took());
    assert_int_equal(w.now, before);
    host_leave(); /* this one did not stand, and the attempt has failed */
    until(DNSTAP_SINK_CLOSED, 2);
    assert_int_equal(w.result, DNSTAP_BAD_FRAME);
    pass(70);
    assert_false(host_took());
    pass(30);
    UNTIL(host_took());
}

static void test_each_end_of_a_connection_is_told_but_one_failure_between_them(void **state)
{
    unsigned i, n;

    (void)state;
    host_open(NULL, 0);
    dial(w.endpoint);
    for (i = 1; i <= 3; i++) {
        host_begins();
        until(DNSTAP_SINK_OPENED, i);
        assert_int_equal(got.connection, i);
        host_leave();
        until(DNSTAP_SINK_CLOSED, 2 * i - 1);
        assert_int_equal(got.connection, i);
        for (n = 0; n < 4; n++) {
            w.now += 10000;
            UNTIL(host_took());
            host_leave();
            UNTIL(status().failed == (i - 1) * 4 + n + 1);
            assert_int_equal(w.told[DNSTAP_SINK_CLOSED], 2 * i);
        }
        assert_int_equal(got.connection, 0);
        w.now += 10000;
    }
}

/* ---- names ---- */

static void test_every_address_of_a_name_is_tried(void **state)
{
    uint16_t port = host_open("127.0.0.1", 0);

    (void)state;
    addresses[0] = "127.0.0.2"; /* refuses */
    addresses[1] = "127.0.0.3";
    addresses[2] = "127.0.0.1";
    addresses[3] = NULL;
    dial(on_port("collector.test", port));
    host_begins();
    until(DNSTAP_SINK_OPENED, 1);
    assert_string_equal(w.text, "");
    assert_string_equal(w.peer, on_port("collector.test", port));
    assert_int_equal(status().failed, 0);
}

static void test_an_address_that_does_not_shake_hands_is_left_for_the_next(void **state)
{
    uint16_t port = host_open("127.0.0.1", 0);
    int other;

    (void)state;
    other = host.listener;
    assert_int_equal(host_open("127.0.0.2", port), port);
    addresses[0] = "127.0.0.2"; /* silent */
    addresses[1] = "127.0.0.1";
    addresses[2] = NULL;
    dial(on_port("collector.test", port));
    UNTIL(host_took());
    UNTIL(status().state == DNSTAP_GREETING);
    pass(4000);
    UNTIL(host_left_alone());
    close(host.listener);
    host.listener = other;
    host_begins();
    until(DNSTAP_SINK_OPENED, 1);
    assert_int_equal(w.told[DNSTAP_SINK_CLOSED], 0);
}

static void test_a_name_that_is_unknown_is_told_and_asked_for_again(void **state)
{
    unsigned i;

    (void)state;
    dial("tcp://unknown.test:6000");
    for (i = 1; i <= 3; i++) {
        UNTIL(status().failed == i);
        w.now += 10000;
    }
    assert_int_equal(w.told[DNSTAP_SINK_CLOSED], 1);
    assert_string_equal(w.text, gai_strerror(EAI_NONAME));
}

static unsigned hook_asked;
static uint16_t hook_port;

static int hook(void *user, const char *name, uint16_t port, struct sockaddr *out, size_t room)
{
    struct sockaddr_in at;

    (void)user;
    assert_string_equal(name, "hooked.test");
    assert_int_equal(port, 6000);
    if (++hook_asked % 4) return DNSTAP_AGAIN;
    if (hook_asked == 4) return DNSTAP_SYSTEM;
    memset(&at, 0, sizeof at);
    at.sin_family = AF_INET;
    at.sin_port = htons(hook_port);
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_true(room >= sizeof at);
    memcpy(out, &at, sizeof at);
    return DNSTAP_OK;
}

static void test_the_resolve_hook_is_asked_until_it_answers(void **state)
{
    dnstap_sink_options o = dial_options("tcp://hooked.test:6000");
    int timeout;

    (void)state;
    hook_asked = 0;
    hook_port = host_open("127.0.0.1", 0);
    o.resolve = hook;
    open_sink(&o);
    assert_int_equal(turn(&timeout), DNSTAP_OK);
    assert_int_equal(turn(&timeout), DNSTAP_OK);
    assert_in_range(timeout, 1, 5); /* no descriptor tells */
    until(DNSTAP_SINK_CLOSED, 1);
    assert_string_equal(w.text, "options.resolve found no address");
    w.now += 100;
    host_begins();
    until(DNSTAP_SINK_OPENED, 1);
    assert_int_equal(hook_asked, 8);
}

/* ---- the rest ---- */

static void test_closing_in_any_state_leaves_no_descriptor(void **state)
{
    unsigned before = open_descriptors(), i;
    uint64_t end = real_ms() + PATIENCE;

    (void)state;
    addresses[0] = NULL;
    host_open(NULL, 0);
    for (i = 0; i < 6; i++) {
        dial(i == 5 ? "tcp://unknown.test:6000" : w.endpoint);
        if (i > 0 && i < 5) UNTIL(host_took());
        if (i == 5) pass(0);
        if (i > 1 && i < 5) host_send(OF(READY));
        if (i > 2 && i < 5) host_send(OF(START MESSAGE));
        if (i > 3 && i < 5) host_send(OF(STOP));
        if (i > 2 && i < 5) UNTIL(w.told[DNSTAP_SINK_MESSAGE] == i - 2);
        dnstap_sink_close(w.sink);
        w.sink = NULL;
        host_leave();
    }
    host_close();
    while (open_descriptors() > before && real_ms() < end) poll(NULL, 0, 1); /* a look-up's */
    assert_int_equal(open_descriptors(), before);
}

static void refused(const dnstap_sink_options *o, int code, const char *text)
{
    dnstap_error error;

    assert_null(dnstap_sink_open(o, &error));
    assert_int_equal(error.code, code);
    if (!strstr(error.text, text)) fail_msg("%s", error.text);
}

static void test_what_can_t_be_dialled_is_refused(void **state)
{
    static const struct {
        const char *endpoint, *text;
    } cases[] = {
        {"file:///tmp/f", "a file is read; connect to"},
        {"tcp://127.0.0.1:0", "not a number from 1"},
        {"tcp://:6000", "host is empty"},
        {"udp://127.0.0.1:1", "unknown scheme"},
        {"", "no endpoint"},
        {NULL, "no endpoint"},
        {"tcp://127.0.0.1", "no port"},
    };
    unsigned i;

    (void)state;
    for (i = 0; i < sizeof cases / sizeof *cases; i++) {
        dnstap_sink_options o = dial_options(cases[i].endpoint);

        refused(&o, DNSTAP_BAD_OPTION, cases[i].text);
    }
}

#define DIAL_TEST(function) cmocka_unit_test_setup_teardown(function, setup, close_host)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SINK_TEST(test_messages_of_a_listening_tap_come_over_a_unix_socket),
        SINK_TEST(test_messages_of_a_listening_tap_come_over_tcp),
        SINK_TEST(test_two_sinks_dial_one_tap_side_by_side),
        SINK_TEST(test_a_tap_that_comes_back_is_found_again),
        DIAL_TEST(test_every_other_end_of_a_listener_is_told_as_what_it_is),
        DIAL_TEST(test_accept_and_finish_are_answered_and_nothing_else),
        DIAL_TEST(test_without_handshake_start_is_waited_for_and_nothing_is_sent),
        DIAL_TEST(test_a_tap_that_is_silent_for_too_long_is_dialled_anew),
        SINK_TEST(test_attempts_come_as_seldom_as_the_back_off_says),
        DIAL_TEST(test_after_a_connection_that_stood_the_first_attempt_is_at_once),
        DIAL_TEST(test_each_end_of_a_connection_is_told_but_one_failure_between_them),
        DIAL_TEST(test_every_address_of_a_name_is_tried),
        DIAL_TEST(test_an_address_that_does_not_shake_hands_is_left_for_the_next),
        SINK_TEST(test_a_name_that_is_unknown_is_told_and_asked_for_again),
        DIAL_TEST(test_the_resolve_hook_is_asked_until_it_answers),
        DIAL_TEST(test_closing_in_any_state_leaves_no_descriptor),
        SINK_TEST(test_what_can_t_be_dialled_is_refused),
    };

    return RUN_TESTS(tests, NULL, NULL);
}
