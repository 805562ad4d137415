/* A sink on real sockets, with a clock and an accept that the tests govern: places and refusals,
 * silence, steps of the handshake, failures of accept. */
#define _GNU_SOURCE
#include <sys/socket.h>
#include <sys/syscall.h>
#undef SYS_accept4 /* what the tests govern is accept(2) */

/* Fails so many times with this, then is the real one. */
static struct {
    int times, with;
} accept_fails;
static int test_accept(int fd, struct sockaddr *from, socklen_t *size);
#define accept(fd, from, size) test_accept(fd, from, size)
#define DNSTAP_IMPLEMENTATION
#include "dnstap.h"
#undef accept
#include "sink_support.h"

static int test_accept(int fd, struct sockaddr *from, socklen_t *size)
{
    if (accept_fails.times <= 0) return accept(fd, from, size);
    accept_fails.times--;
    errno = accept_fails.with;
    return -1;
}

/* ---- accept fails ---- */

static void test_failing_accept_pauses_and_ends_nothing(void **state)
{
    static const int lasting[] = {EMFILE, ENFILE, ENOBUFS, ENOMEM, EBADF, EINVAL};
    dnstap_sink_options o = options();
    unsigned i, turns;
    int fd, timeout;

    (void)state;
    open_sink(&o);
    for (i = 0; i < sizeof lasting / sizeof *lasting; i++) {
        fd = producer();
        accept_fails.with = lasting[i];
        accept_fails.times = 1000;
        until(DNSTAP_SINK_REFUSED, i + 1);
        assert_int_equal(w.result, DNSTAP_SYSTEM);
        assert_string_equal(w.peer, w.endpoint);
        assert_non_null(strstr(w.text, strerror(lasting[i])));
        for (turns = 0; turns < 20; turns++) { /* nobody is connected, and it goes on */
            assert_int_equal(turn(&timeout), DNSTAP_OK);
            assert_in_range(timeout, 1, 100);
            w.now += 10;
        }
        assert_int_equal(w.told[DNSTAP_SINK_REFUSED], i + 1); /* told once */
        accept_fails.times = 0;
        w.now += 100;
        until(DNSTAP_SINK_OPENED, i + 1);
        close(fd);
        until(DNSTAP_SINK_CLOSED, i + 1);
    }
    assert_int_equal(status().refused, 0);
}

static void test_connection_lost_before_accept_costs_no_other(void **state)
{
    static const int lost[] = {ECONNABORTED, ECONNRESET,  EPROTO,       EPERM,    ENOPROTOOPT,
                               ENETDOWN,     ENETUNREACH, EHOSTUNREACH, ETIMEDOUT};
    dnstap_sink_options o = options();
    unsigned i;
    int fd, timeout;

    (void)state;
    open_sink(&o);
    for (i = 0; i < sizeof lost / sizeof *lost; i++) {
        fd = producer();
        accept_fails.with = lost[i];
        accept_fails.times = 3;
        assert_int_equal(turn(&timeout), DNSTAP_OK);
        assert_int_equal(accept_fails.times, 0);
        assert_int_equal(w.told[DNSTAP_SINK_OPENED], i + 1); /* at once, without a pause */
        close(fd);
        until(DNSTAP_SINK_CLOSED, i + 1);
    }
    assert_int_equal(w.told[DNSTAP_SINK_REFUSED], 0);
}

/* ---- places ---- */

static void test_connection_without_place_is_refused_told_and_counted(void **state)
{
    dnstap_sink_options o = options();
    int first, fd;
    unsigned i;

    (void)state;
    o.max_connections = 1;
    open_sink(&o);
    first = begun();
    for (i = 1; i <= 3; i++) {
        fd = producer();
        until(DNSTAP_SINK_REFUSED, i);
        assert_int_equal(w.result, DNSTAP_NO_PLACE);
        assert_string_equal(w.text, dnstap_strerror(DNSTAP_NO_PLACE));
        assert_string_equal(w.peer, w.endpoint);
        expect_closed(fd);
    }
    assert_int_equal(status().refused, 3);
    assert_int_equal(status().connections, 1);
    assert_int_equal(status().open, 1);
    close(first);
    until(DNSTAP_SINK_CLOSED, 1);
    close(begun()); /* there is a place again */
}

static void test_silent_connection_gives_its_place_up(void **state)
{
    dnstap_sink_options o = options();
    int silent, talking, timeout;
    unsigned i;

    (void)state;
    o.max_connections = 2;
    o.idle_ms = 1000;
    open_sink(&o);
    silent = begun();
    talking = begun();
    for (i = 0; i < 9; i++) {
        pass(100);
        say_message(talking);
        until(DNSTAP_SINK_MESSAGE, 3 + i);
    }
    assert_int_equal(turn(&timeout), DNSTAP_OK);
    assert_int_equal(timeout, 100);
    pass(99);
    assert_int_equal(w.told[DNSTAP_SINK_CLOSED], 0);
    pass(1);
    assert_int_equal(w.told[DNSTAP_SINK_CLOSED], 1);
    assert_int_equal(w.result, DNSTAP_TIMEOUT);
    assert_non_null(strstr(w.text, "silent"));
    expect_closed(silent);
    close(begun());
    close(talking);
}

static void test_silence_is_no_end_by_default(void **state)
{
    dnstap_sink_options o = options();
    int fd, timeout;

    (void)state;
    open_sink(&o);
    fd = begun();
    assert_int_equal(turn(&timeout), DNSTAP_OK);
    assert_int_equal(timeout, -1);
    pass(1000u * 86400 * 365);
    assert_int_equal(w.told[DNSTAP_SINK_CLOSED], 0);
    say_message(fd);
    until(DNSTAP_SINK_MESSAGE, 2);
    close(fd);
}

/* ---- the handshake's time ---- */

static void test_each_step_of_a_handshake_has_its_time(void **state)
{
    dnstap_sink_options o = options();
    int fd, timeout;

    (void)state;
    open_sink(&o);
    fd = producer();
    until(DNSTAP_SINK_OPENED, 1);
    pass(3900);
    say(fd, DNSTAP_CONTROL_READY);
    while (dnstap__source_end(w.sink, w.sink->sources) == w.now + 100) {
        if (real_ms() - w.began > PATIENCE) fail_msg("READY was not taken");
        assert_int_equal(turn(&timeout), DNSTAP_OK);
    }
    pass(3900);
    assert_int_equal(w.told[DNSTAP_SINK_CLOSED], 0);
    pass(100);
    assert_int_equal(w.told[DNSTAP_SINK_CLOSED], 1);
    assert_int_equal(w.result, DNSTAP_TIMEOUT);
    expect_closed(fd);
}

static void test_handshake_that_trickles_ends_all_the_same(void **state)
{
    dnstap_sink_options o = options();
    dnstap_bytes ready = dnstap__control_frame(DNSTAP_CONTROL_READY);
    unsigned i;
    int fd;

    (void)state;
    open_sink(&o);
    fd = producer();
    until(DNSTAP_SINK_OPENED, 1);
    for (i = 0; i < 8 && !w.told[DNSTAP_SINK_CLOSED]; i++) {
        assert_int_equal(send(fd, (const uint8_t *)ready.data + i, 1, MSG_NOSIGNAL), 1);
        pass(1000);
    }
    assert_int_equal(i, 4);
    assert_int_equal(w.result, DNSTAP_TIMEOUT);
    expect_closed(fd);
}

static void test_clock_that_goes_back_closes_nobody(void **state)
{
    dnstap_sink_options o = options();
    int fd;

    (void)state;
    o.idle_ms = 1000;
    open_sink(&o);
    fd = begun();
    pass((uint64_t)0 - 900000);
    pass(999);
    assert_int_equal(w.told[DNSTAP_SINK_CLOSED], 0);
    pass(1);
    assert_int_equal(w.told[DNSTAP_SINK_CLOSED], 1);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SINK_TEST(test_failing_accept_pauses_and_ends_nothing),
        SINK_TEST(test_connection_lost_before_accept_costs_no_other),
        SINK_TEST(test_connection_without_place_is_refused_told_and_counted),
        SINK_TEST(test_silent_connection_gives_its_place_up),
        SINK_TEST(test_silence_is_no_end_by_default),
        SINK_TEST(test_each_step_of_a_handshake_has_its_time),
        SINK_TEST(test_handshake_that_trickles_ends_all_the_same),
        SINK_TEST(test_clock_that_goes_back_closes_nobody),
    };

    return RUN_TESTS(tests, NULL, NULL);
}
