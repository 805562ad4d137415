/* A tap that listens: who is let in, who is sent away and why, and what is heard from sinks.
 * Scripted sinks over real sockets, a clock that the test moves. */
#define _GNU_SOURCE
#define DNSTAP_IMPLEMENTATION
#include "dnstap.h"

#include "tap_support.h"
#include "tap_peer.h"
#include "listen_support.h"

static dnstap_tap *open_on(const char *name)
{
    dnstap_options o;

    host_options(&o, socket_at(name));
    o.monotonic_ms = pretend;
    return host_open(&o);
}

static void test_a_sink_gets_every_message_from_its_start_on(void **state)
{
    dnstap_tap *tap = open_on("first");
    guest *g;

    (void)state;
    assert_int_equal(status_of(tap).state, DNSTAP_LISTENING);
    log_next(tap, 0);
    g = guest_start(tap);
    log_many(tap, 500);
    UNTIL(tap, has_all(g));
    assert_int_equal(g->stream.frames, 500);
    assert_int_equal(status_of(tap).state, DNSTAP_STARTED);
    check_host_books(tap);
    assert_int_equal(host_close(tap, PATIENCE), DNSTAP_OK);
    assert_int_equal(g->stream.phase, AT_END);
}

static void test_without_a_sink_nothing_is_encoded(void **state)
{
    dnstap_tap *tap = open_on("nobody");
    size_t bytes, messages;
    dnstap_status s;
    int i;

    (void)state;
    for (i = 0; i < 1000; i++) {
        assert_false(dnstap_wants(tap, DNSTAP_MSG_CLIENT_QUERY));
        assert_int_equal(log_next(tap, 0), 0);
    }
    dnstap_get_ring(tap, 0, &bytes, &messages);
    assert_int_equal(bytes + messages, 0);
    assert_int_equal(tap->rings[0].bytes, 0);
    s = status_of(tap);
    assert_int_equal(s.logged, 1000);
    assert_int_equal(s.unwanted, 1000);
    assert_int_equal(s.no_sink, 1000);
    dnstap_set_enabled(tap, false);
    assert_int_equal(log_next(tap, 0), 0);
    assert_int_equal(status_of(tap).no_sink, 1000);
    assert_int_equal(status_of(tap).unwanted, 1001);
    dnstap_set_enabled(tap, true);
    guest_leave(guest_start(tap));
    assert_true(dnstap_wants(tap, DNSTAP_MSG_CLIENT_QUERY));
    UNTIL(tap, !dnstap_wants(tap, DNSTAP_MSG_CLIENT_QUERY));
    assert_int_equal(status_of(tap).state, DNSTAP_LISTENING);
    check_host_books(tap);
    dnstap_close(tap, 0);
}

static void test_a_new_sink_begins_with_the_next_message_while_another_is_behind(void **state)
{
    dnstap_tap *tap = open_on("later");
    guest *behind = guest_start(tap), *g;

    (void)state;
    behind->deaf = true;
    while (!stuck_links(tap)) {
        log_many(tap, 30);
        turn(tap);
    }
    log_many(tap, 30);
    g = guest_start(tap);
    assert_int_not_equal(memcmp(&behind->seen, &g->seen, sizeof g->seen), 0);
    log_many(tap, 30);
    UNTIL(tap, has_all(g));
    assert_int_equal(g->stream.frames, 30);
    check_host_books(tap);
    behind->deaf = false;
    UNTIL(tap, has_all(behind));
    assert_int_equal(host_close(tap, PATIENCE), DNSTAP_OK);
}

/* ---- what a sink answers to READY ---- */

#define OF(bytes) bytes, sizeof bytes - 1
#define OURS "\0\0\0\1\0\0\0\26protobuf:dnstap.Dnstap"
#define OTHER "\0\0\0\1\0\0\0\5other"
#define CONTROL(length, type) "\0\0\0\0\0\0" length "\0\0\0" type

static bool answered(dnstap_tap *tap, const void *bytes, size_t size)
{
    guest *g = guest_connect(tap);
    uint64_t before = status_of(tap).refused;
    bool served;

    g->replies = 1; /* only what is given here */
    UNTIL(tap, g->stream.phase == AT_START);
    guest_say(g, bytes, size);
    if (!size) shutdown(g->fd, SHUT_WR);
    turns(tap, 3);
    pretended_ms += 10000; /* what is cut is waited for */
    UNTIL(tap, g->stream.phase == AT_DATA || g->ended);
    served = g->stream.phase == AT_DATA;
    assert_int_equal(status_of(tap).refused - before, !served);
    if (served) {
        memcpy(g->seen.next, logged, sizeof logged);
        log_many(tap, 3);
        UNTIL(tap, has_all(g));
    }
    guest_leave(g);
    UNTIL(tap, status_of(tap).sinks == 0);
    return served;
}

static void test_accept_is_served_and_all_else_is_sent_away_with_a_reason(void **state)
{
    static const char producer[] = "it sends dnstap, too; connect a producer to a sink";
    static const char no_frames[] = "the sink does not speak Frame Streams with dnstap";
    static const char cut[] = "no progress in 2000 ms while greeting";
    static const struct {
        const char *bytes;
        size_t size;
        const char *text;
    } cases[] = {
        {OF(CONTROL("\0\42", "\1") OURS), NULL},
        {OF(CONTROL("\0\4", "\1")), NULL},
        {OF(CONTROL("\0\57", "\1") OTHER OURS), NULL},
        {OF(CONTROL("\0\57", "\1") OURS OTHER), NULL},
        {OF(CONTROL("\0\21", "\1") OTHER), no_frames},
        {OF(CONTROL("\0\42", "\4") OURS), producer}, /* READY */
        {OF(CONTROL("\0\4", "\4")), producer},
        {OF(CONTROL("\0\42", "\2") OURS), producer}, /* START, of a unidirectional one */
        {OF(CONTROL("\0\4", "\3")), no_frames},      /* STOP */
        {OF(CONTROL("\0\4", "\5")), no_frames},      /* FINISH */
        {OF(CONTROL("\0\4", "\6")), no_frames},      /* unknown */
        {OF(CONTROL("\2\1", "\1")), no_frames},      /* longer than it may be */
        {OF(CONTROL("\0\3", "\1")), no_frames},
        {OF("\0\0\0\4abcd"), no_frames},
        {OF("GET / HTTP/1.1\r\n\r\n"), no_frames},
        {OF(CONTROL("\0\42", "\1") "\0\0\0\1\0\0\0\26proto"), cut},
        {OF("\0"), cut},
        {OF(""), "closed by the sink before it accepted"},
    };
    dnstap_tap *tap = open_on("answers");
    size_t i;

    (void)state;
    for (i = 0; i < sizeof cases / sizeof *cases; i++) {
        unsigned before = cases[i].text ? times_said(cases[i].text) : 0;

        if (answered(tap, cases[i].bytes, cases[i].size) != !cases[i].text)
            fail_msg("case %lu", (unsigned long)i);
        if (!cases[i].text) continue;
        if (times_said(cases[i].text) != before + 1)
            fail_msg("case %lu: %s", (unsigned long)i, lines);
        assert_non_null(strstr(status_of(tap).error.text, cases[i].text));
    }
    check_host_books(tap);
    dnstap_close(tap, 0);
}

static size_t read_stream_file(const char *name, uint8_t *out, size_t room)
{
    char path[128];
    FILE *file;
    size_t n;

    snprintf(path, sizeof path, "tests/data/coredns/streams/listen-%s.raw", name);
    file = fopen(path, "rb");
    if (!file) fail_msg("%s: %s", path, strerror(errno));
    n = fread(out, 1, room, file);
    assert_true(n < room);
    fclose(file);
    return n;
}

/* CoreDNS served whom it sent more than READY. */
static void test_what_coredns_was_sent_gets_the_same_verdicts(void **state)
{
    static const char *const names[] = {"bad-ACCEPT_cut",
                                        "bad-ACCEPT_no_type",
                                        "bad-ACCEPT_other_type",
                                        "bad-ACCEPT_two_types",
                                        "bad-FINISH",
                                        "bad-READY",
                                        "bad-START",
                                        "bad-STOP",
                                        "bad-close_at_once",
                                        "bad-data_frame",
                                        "bad-garbage",
                                        "bad-oversize_control",
                                        "mtls-sink0",
                                        "unix-sink0",
                                        "unix-sink1",
                                        "unix-sink2",
                                        "reload",
                                        "term-1"};
    dnstap_tap *tap = open_on("verdicts");
    uint8_t sent[4096], answer[4096];
    char file[64];
    size_t i, size, served = 0;

    (void)state;
    for (i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(file, sizeof file, "%s.to-coredns", names[i]);
        size = read_stream_file(file, sent, sizeof sent);
        snprintf(file, sizeof file, "%s.from-coredns", names[i]);
        served += read_stream_file(file, answer, sizeof answer) > 42;
        if (answered(tap, sent, size) != (read_stream_file(file, answer, sizeof answer) > 42))
            fail_msg("%s", names[i]);
    }
    assert_int_equal(served, 8);
    dnstap_close(tap, 0);
}

/* ---- after START ---- */

static void test_what_a_sink_sends_after_start_is_read_and_ignored(void **state)
{
    static const char *const chatter[] = {"\0\0\0\0\0\0\0\4\0\0\0\11", "\0\0\0\0\0\0\0\4\0\0\0\4",
                                          "\0\0\0\2ab\0\0\0\0\0\0", "what a nice stream"};
    dnstap_tap *tap = open_on("chatter");
    guest *g = guest_start(tap);
    size_t i;

    (void)state;
    for (i = 0; i < sizeof chatter / sizeof *chatter; i++) {
        guest_say(g, chatter[i], 12);
        log_many(tap, 30);
        UNTIL(tap, has_all(g));
    }
    check_host_books(tap);
    assert_int_equal(host_close(tap, PATIENCE), DNSTAP_OK);
    assert_int_equal(g->stream.phase, AT_END);
}

static void test_a_sink_that_sends_and_sends_is_sent_away(void **state)
{
    static const char noise[4096] = {1};
    dnstap_tap *tap = open_on("noise");
    guest *noisy = guest_start(tap), *quiet = guest_start(tap);
    size_t sent = 0;
    ssize_t n;

    (void)state;
    while (!noisy->ended) {
        n = send(noisy->fd, noise, sizeof noise, MSG_NOSIGNAL);
        if (n > 0) sent += (size_t)n;
        log_many(tap, 3);
        go_on(tap);
        assert_true(sent < (1 << 20));
    }
    assert_true(sent > 60000);
    assert_int_equal(times_said("it sends and sends; a sink only receives"), 1);
    log_many(tap, 3);
    UNTIL(tap, has_all(quiet));
    check_host_books(tap);
    dnstap_close(tap, 0);
}

static void test_finish_ends_a_sink_at_any_time(void **state)
{
    dnstap_tap *tap = open_on("finish");
    guest *g = guest_start(tap);

    (void)state;
    log_many(tap, 3);
    UNTIL(tap, has_all(g));
    guest_control(g, DNSTAP_CONTROL_FINISH);
    UNTIL(tap, g->ended);
    assert_int_equal(status_of(tap).sinks, 0);
    assert_int_equal(status_of(tap).failures, 0);
    assert_int_equal(status_of(tap).lost, 0);
    check_host_books(tap);
    dnstap_close(tap, 0);
}

static void test_a_sink_that_vanishes_is_noticed_without_a_message(void **state)
{
    static const char *const names[] = {"vanish", NULL};
    dnstap_options o;
    dnstap_tap *tap;
    guest *one;
    size_t i;

    (void)state;
    for (i = 0; i < 2; i++) {
        host_options(&o, names[i] ? socket_at(names[i]) : "tcp://127.0.0.1:0");
        tap = host_open(&o);
        assert_int_equal(dnstap_start(tap), DNSTAP_OK);
        one = guest_start(tap);
        UNTIL(tap, status_of(tap).sinks == 1); /* its thread shows it a moment later */
        guest_leave(one);
        UNTIL(tap, status_of(tap).sinks == 0);
        dnstap_close(tap, 0); /* what its thread says is said by now */
        assert_int_equal(times_said(": closed by the sink"), 1);
    }
}

/* ---- limits ---- */

static void test_each_handshake_has_its_own_deadline(void **state)
{
    dnstap_tap *tap = open_on("deadlines");
    guest *early = guest_connect(tap), *late, *good;

    (void)state;
    early->replies = 1;
    turns(tap, 3);
    pretended_ms += 1500;
    late = guest_connect(tap);
    late->replies = 1;
    turns(tap, 3);
    good = guest_start(tap); /* beside two that are silent */
    pretended_ms += 600;
    turns(tap, 3);
    UNTIL(tap, early->ended);
    assert_false(late->ended);
    assert_int_equal(status_of(tap).pending, 1);
    pretended_ms += 1500;
    UNTIL(tap, late->ended);
    assert_int_equal(status_of(tap).pending, 0);
    assert_int_equal(times_said("no progress in 2000 ms while greeting"), 2);
    log_many(tap, 3);
    UNTIL(tap, has_all(good));
    dnstap_close(tap, 0);
}

static void test_bytes_that_drip_don_t_extend_the_deadline(void **state)
{
    dnstap_tap *tap = open_on("drip");
    guest *g = guest_connect(tap);
    uint8_t frame[64];
    size_t size = control_frame(frame, DNSTAP_CONTROL_ACCEPT), i;

    (void)state;
    g->replies = 1;
    turns(tap, 3);
    for (i = 0; i < size && !g->ended; i++) {
        guest_say(g, frame + i, 1);
        turns(tap, 2);
        pretended_ms += 100;
        go_on(tap);
    }
    assert_in_range(i, 18, 21);
    dnstap_close(tap, 0);
}

static void test_a_newcomer_replaces_the_oldest_that_is_silent(void **state)
{
    dnstap_options o;
    dnstap_tap *tap;
    guest *g[12];
    int i;

    (void)state;
    host_options(&o, socket_at("crowd"));
    o.max_pending = 4;
    tap = host_open(&o);
    for (i = 0; i < 12; i++) {
        g[i] = guest_connect(tap);
        g[i]->replies = 1;
    }
    UNTIL(tap, g[7]->ended);
    for (i = 0; i < 12; i++) assert_int_equal(g[i]->ended, i < 8);
    assert_int_equal(times_said("raise options.max_pending"), 8);
    assert_int_equal(status_of(tap).accepted, 12);
    assert_int_equal(status_of(tap).pending, 4);
    check_host_books(tap);
    log_next(tap, 0);
    guest_start(tap);
    assert_int_equal(status_of(tap).refused, 9);
    dnstap_close(tap, 0);
}

static void test_silent_sinks_keep_no_good_one_out(void **state)
{
    dnstap_tap *tap = open_on("silence");
    int silent[60], i;

    (void)state;
    for (i = 0; i < 60; i++) {
        silent[i] = knock(tap);
        if (i % 10 == 5) guest_start(tap);
        if (i % 10 == 5) assert_int_equal(status_of(tap).sinks, i / 10 + 1);
        assert_true(status_of(tap).pending <= 8);
    }
    for (i = 0; i < 60; i++) close(silent[i]);
    dnstap_close(tap, 0);
}

static void test_max_sinks_are_started_and_one_more_is_told_before_start(void **state)
{
    dnstap_options o;
    dnstap_tap *tap;
    guest *g[3], *more;

    (void)state;
    host_options(&o, socket_at("full"));
    o.max_sinks = 3;
    tap = host_open(&o);
    g[0] = guest_start(tap);
    g[1] = guest_start(tap);
    g[2] = guest_start(tap);
    more = guest_connect(tap);
    UNTIL(tap, more->ended);
    assert_int_equal(more->stream.phase, AT_START);
    assert_int_equal(times_said("all places are taken; raise options.max_sinks"), 1);
    guest_leave(g[1]);
    UNTIL(tap, status_of(tap).sinks == 2);
    guest_start(tap);
    log_many(tap, 3);
    UNTIL(tap, has_all(g[0]) && has_all(g[2]));
    check_host_books(tap);
    dnstap_close(tap, 0);
}

static void test_lines_about_sinks_are_bounded(void **state)
{
    dnstap_tap *tap = open_on("lines");
    int i;

    (void)state;
    for (i = 0; i < 100; i++) {
        guest_leave(guest_start(tap));
        UNTIL(tap, status_of(tap).sinks == 0);
    }
    assert_int_equal(times_said(": sink "), 20);
    assert_int_equal(times_said("(no more such lines for some time)"), 1);
    pretended_ms += 10000;
    guest_leave(guest_start(tap));
    assert_int_equal(times_said(": sink "), 21);
    dnstap_close(tap, 0);
}

static void test_unidirectional_sinks_are_started_at_once(void **state)
{
    dnstap_options o;
    dnstap_tap *tap;
    guest *g;

    (void)state;
    host_options(&o, socket_at("one-way"));
    o.unidirectional = true;
    tap = host_open(&o);
    g = guest_start(tap);
    g->mute = true;
    guest_say(g, "hello", 5);
    log_many(tap, 30);
    UNTIL(tap, has_all(g));
    assert_int_equal(host_close(tap, PATIENCE), DNSTAP_OK);
    assert_int_equal(g->stream.phase, AT_END);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_sink_gets_every_message_from_its_start_on),
        cmocka_unit_test(test_without_a_sink_nothing_is_encoded),
        cmocka_unit_test(test_a_new_sink_begins_with_the_next_message_while_another_is_behind),
        cmocka_unit_test(test_accept_is_served_and_all_else_is_sent_away_with_a_reason),
        cmocka_unit_test(test_what_coredns_was_sent_gets_the_same_verdicts),
        cmocka_unit_test(test_what_a_sink_sends_after_start_is_read_and_ignored),
        cmocka_unit_test(test_a_sink_that_sends_and_sends_is_sent_away),
        cmocka_unit_test(test_finish_ends_a_sink_at_any_time),
        cmocka_unit_test(test_a_sink_that_vanishes_is_noticed_without_a_message),
        cmocka_unit_test(test_each_handshake_has_its_own_deadline),
        cmocka_unit_test(test_bytes_that_drip_don_t_extend_the_deadline),
        cmocka_unit_test(test_a_newcomer_replaces_the_oldest_that_is_silent),
        cmocka_unit_test(test_silent_sinks_keep_no_good_one_out),
        cmocka_unit_test(test_max_sinks_are_started_and_one_more_is_told_before_start),
        cmocka_unit_test(test_lines_about_sinks_are_bounded),
        cmocka_unit_test(test_unidirectional_sinks_are_started_at_once),
    };

    return RUN_TESTS(tests, make_folder, drop_folder);
}
