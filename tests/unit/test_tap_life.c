/* A tap and its collector on real sockets: missing, appearing, killed, stopped, refusing, talking
 * nonsense, silent. What may be lost is lost, and nothing else; nobody waits for long. */
#define _GNU_SOURCE
#define DNSTAP_IMPLEMENTATION
#include "dnstap.h"
#include "tap_support.h"
#include "tap_peer.h"

static void test_messages_wait_for_a_collector_that_appears_later(void **state)
{
    collector c;
    dnstap_options o;
    dnstap_status s;
    dnstap_tap *tap;

    (void)state;
    collector_open(&c, "late");
    collector_close(&c);
    unlink(c.path);
    peer_options(&o, c.endpoint);
    tap = peer_start(&o);
    log_many(tap, 500);
    wait_for_state(tap, DNSTAP_BROKEN, &s);
    assert_non_null(strstr(s.error.text, "connect: No such file"));
    collector_listen(&c);
    log_many(tap, 500);
    collector_read_until(&c, 1000);
    close_in_order(&c, tap);
    assert_int_equal(c.connections, 1);
    assert_int_equal(said.lost, 1);
    assert_int_equal(said.back, 1);
    assert_int_equal(said.lines, 2);
    collector_close(&c);
}

static void killed_and_back(const char *name)
{
    collector c;
    dnstap_status s;
    dnstap_tap *tap;
    unsigned i;

    tap = start_both(&c, name);
    seen.losses = true; /* what the kernel held when the collector died */
    log_many(tap, 300);
    collector_read_until(&c, 300);
    for (i = 0; i < 3; i++) {
        collector_close(&c);
        wait_for_state(tap, DNSTAP_BROKEN, &s);
        log_many(tap, 100);
        check_books(tap);
        collector_listen(&c);
        collector_read_until(&c, 300 + (i + 1) * 100);
    }
    close_in_order(&c, tap);
    assert_int_equal(seen.lost, 0); /* nothing was in the kernel */
    assert_int_equal(c.connections, 4);
    assert_int_equal(said.lost, 3);
    assert_int_equal(said.back, 3);
    collector_close(&c);
}

static void test_killed_unix_collector_gets_the_rest_when_it_is_back(void **state)
{
    (void)state;
    killed_and_back("killed");
}

static void test_killed_tcp_collector_gets_the_rest_when_it_is_back(void **state)
{
    (void)state;
    killed_and_back(NULL);
}

/* Killed while messages flow: no frame twice or torn, order kept, and what was lost was sent. */
static void test_collector_killed_in_mid_stream_costs_only_what_the_kernel_had(void **state)
{
    collector c;
    dnstap_status s;
    dnstap_tap *tap;
    unsigned round, i;

    (void)state;
    tap = start_both(&c, "flow");
    seen.losses = true;
    for (round = 0; round < 4; round++) {
        for (i = 0; i < 2000; i++) log_next(tap, i % 3);
        collector_accept(&c);
        while (c.stream.frames < 50 + round * 137) {
            collector_read(&c, 50);
            for (i = 0; i < 20; i++) log_next(tap, i % 3);
        }
        WAIT_FOR(tap, &s, s.sent > seen.frames + seen.lost); /* the kernel has some */
        collector_hang_up(&c);
    }
    collector_accept(&c);
    close_in_order(&c, tap);
    assert_int_equal(seen.frames + seen.lost, logged[0] + logged[1] + logged[2]);
    assert_true(seen.lost > 0);
    collector_close(&c);
}

static void test_stopped_collector_blocks_nobody_and_close_keeps_its_time(void **state)
{
    collector c;
    dnstap_status s;
    dnstap_tap *tap;
    closing it;
    uint64_t start;
    unsigned i;

    (void)state;
    tap = start_both(&c, "stopped");
    log_many(tap, 10);
    collector_read_until(&c, 10);
    start = real_ms();
    for (i = 0; i < 20000; i++) log_next(tap, i % 3);
    assert_in_range(real_ms() - start, 0, 2000);
    dnstap_get_status(tap, &s);
    assert_true(s.dropped_full > 0);
    assert_int_equal(s.state, DNSTAP_STARTED);
    assert_int_equal(dnstap_flush(tap, 100), DNSTAP_TIMEOUT);
    close_begin(&it, tap, 300);
    close_end(&it);
    assert_int_equal(it.result, DNSTAP_TIMEOUT);
    assert_in_range(it.took, 290, 1500);
    while (collector_read(&c, 100) > 0) {
    }
    assert_int_not_equal(c.stream.phase, AT_END);
    assert_int_equal(seen.frames + said.left, logged[0] + logged[1] + logged[2]);
    collector_close(&c);
}

static void test_collector_that_goes_on_after_a_stop_gets_all(void **state)
{
    collector c;
    dnstap_tap *tap;
    unsigned i;

    (void)state;
    tap = start_both(&c, NULL);
    for (i = 0; i < 60000; i++) log_next(tap, i % 3);
    assert_int_equal(dnstap_flush(tap, 50), DNSTAP_TIMEOUT);
    check_books(tap);
    collector_accept(&c);
    close_in_order(&c, tap);
    assert_int_equal(seen.frames, logged[0] + logged[1] + logged[2]);
    assert_int_equal(c.connections, 1);
    collector_close(&c);
}

static void test_refused_attempts_come_as_seldom_as_the_back_off_says(void **state)
{
    collector c;
    dnstap_options o;
    dnstap_status s;
    dnstap_tap *tap;
    uint64_t end = real_ms() + 1000;

    (void)state;
    collector_open(&c, NULL);
    collector_close(&c);
    peer_options(&o, c.endpoint);
    tap = peer_start(&o);
    log_many(tap, 10);
    while (real_ms() < end) {
        dnstap_get_status(tap, &s);
        assert_in_range(s.failures, 0, 5); /* at 0, 75…100, 225…300, 525…700 ms */
        poll(NULL, 0, 5);
    }
    WAIT_FOR(tap, &s, s.failures >= 3);
    assert_non_null(strstr(s.error.text, "Connection refused"));
    assert_int_equal(s.error.code, DNSTAP_SYSTEM);
    assert_int_equal(s.error.sys_errno, ECONNREFUSED);
    assert_int_equal(dnstap_close(tap, 200), DNSTAP_TIMEOUT);
    assert_int_equal(said.lost, 1);
    assert_int_equal(said.left, 10);
}

static void test_garbage_finish_and_silence_are_left_for_a_better_collector(void **state)
{
    static const char garbage[] = "HTTP/1.0 400 Bad Request\r\n\r\n";
    collector c;
    dnstap_options o;
    dnstap_status s;
    dnstap_tap *tap;
    uint64_t start;

    (void)state;
    options_for(&c, NULL, &o);
    o.timeout_ms = 150;
    tap = peer_start(&o);
    log_many(tap, 30);
    collector_accept(&c);
    assert_true(send(c.fd, garbage, sizeof garbage, MSG_NOSIGNAL) > 0);
    WAIT_FOR(tap, &s, s.failures == 1);
    assert_int_equal(s.error.code, DNSTAP_BAD_FRAME);
    assert_non_null(strstr(s.error.text, "does not speak Frame Streams"));
    collector_accept(&c);
    start = real_ms(); /* before the next attempt */
    collector_send(&c, DNSTAP_CONTROL_FINISH);
    WAIT_FOR(tap, &s, s.failures >= 2);
    collector_accept(&c);
    WAIT_FOR(tap, &s, s.error.code == DNSTAP_TIMEOUT);
    assert_non_null(strstr(s.error.text, "no progress in 150 ms while greeting"));
    assert_in_range(real_ms() - start, 100, 3000);
    collector_accept(&c);
    collector_read_until(&c, 20);
    collector_send(&c, DNSTAP_CONTROL_FINISH); /* too early: the tap comes again */
    collector_read_to_end(&c);
    collector_read_until_data(&c);
    wait_for_state(tap, DNSTAP_STARTED, &s);
    close_in_order(&c, tap);
    assert_int_equal(seen.frames, 30);
    collector_close(&c);
}

static void test_unidirectional_tap_asks_for_nothing(void **state)
{
    collector c;
    dnstap_options o;
    dnstap_tap *tap;

    (void)state;
    collector_open(&c, "one-way");
    c.unidirectional = true;
    peer_options(&o, c.endpoint);
    o.unidirectional = true;
    tap = peer_start(&o);
    log_many(tap, 100);
    collector_read_until(&c, 100);
    end_both(&c, tap);
}

static void test_drop_when_disconnected_drops_and_counts(void **state)
{
    collector c;
    dnstap_options o;
    dnstap_status s;
    dnstap_tap *tap;

    (void)state;
    options_for(&c, "drop", &o);
    o.drop_when_disconnected = true;
    tap = peer_start(&o);
    assert_int_equal(log_next(tap, 0), DNSTAP_DISCONNECTED);
    assert_false(dnstap_wants(tap, DNSTAP_MSG_CLIENT_QUERY));
    collector_read_until_data(&c);
    wait_for_state(tap, DNSTAP_STARTED, &s);
    assert_true(dnstap_wants(tap, DNSTAP_MSG_CLIENT_QUERY));
    log_many(tap, 10);
    collector_read_until(&c, 10);
    collector_close(&c);
    wait_for_state(tap, DNSTAP_BROKEN, &s);
    assert_int_equal(log_next(tap, 0), DNSTAP_DISCONNECTED);
    dnstap_set_enabled(tap, false);
    assert_int_equal(log_next(tap, 0), 0);
    dnstap_get_status(tap, &s);
    assert_int_equal(s.dropped_disconnected, 2);
    assert_int_equal(s.unwanted, 1);
    check_books(tap);
    assert_int_equal(dnstap_close(tap, 100), DNSTAP_OK);
}

/* -- ten thousand reconnects, with a clock that a second passes on at each -- */

static uint64_t fast_ms;
static uint64_t fast_clock(void *user)
{
    (void)user;
    return fast_ms;
}

static long resident_pages(void)
{
    long all, resident = 0;
    FILE *f = fopen("/proc/self/statm", "r");

    assert_non_null(f);
    assert_int_equal(fscanf(f, "%ld %ld", &all, &resident), 2);
    fclose(f);
    return resident;
}

static void reconnect(dnstap_tap *tap, collector *c)
{
    uint64_t frames = seen.frames, end = real_ms() + PATIENCE;

    log_many(tap, 1);
    while (seen.frames == frames) {
        fast_ms += 20;
        assert_int_equal(dnstap_service(tap), DNSTAP_OK);
        if (c->fd < 0 && readable(c->listener, 0)) collector_accept(c);
        if (c->fd >= 0 && collector_read(c, 0) == 0) collector_hang_up(c);
        assert_true(real_ms() < end);
    }
    fast_ms += 1100;
    collector_hang_up(c);
    assert_int_equal(dnstap_service(tap), DNSTAP_OK);
}

static void test_ten_thousand_reconnects_leave_nothing_behind(void **state)
{
    collector c;
    dnstap_options o;
    dnstap_status s;
    dnstap_tap *tap;
    unsigned i, open = 0;
    long pages = 0;

    (void)state;
    options_for(&c, "again", &o);
    o.monotonic_ms = fast_clock;
    tap = open_afresh(&o);
    for (i = 0; i < 10000; i++) {
        if (i == 1000) {
            pages = resident_pages();
            open = descriptors();
        }
        reconnect(tap, &c);
    }
    assert_int_equal(descriptors(), open);
    assert_in_range(resident_pages(), 0, pages + 256);
    dnstap_get_status(tap, &s);
    assert_true(s.connects >= 10000);
    assert_int_equal(seen.frames, 10000);
    check_books(tap);
    dnstap_close(tap, 0);
    collector_close(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_messages_wait_for_a_collector_that_appears_later),
        cmocka_unit_test(test_killed_unix_collector_gets_the_rest_when_it_is_back),
        cmocka_unit_test(test_killed_tcp_collector_gets_the_rest_when_it_is_back),
        cmocka_unit_test(test_collector_killed_in_mid_stream_costs_only_what_the_kernel_had),
        cmocka_unit_test(test_stopped_collector_blocks_nobody_and_close_keeps_its_time),
        cmocka_unit_test(test_collector_that_goes_on_after_a_stop_gets_all),
        cmocka_unit_test(test_refused_attempts_come_as_seldom_as_the_back_off_says),
        cmocka_unit_test(test_garbage_finish_and_silence_are_left_for_a_better_collector),
        cmocka_unit_test(test_unidirectional_tap_asks_for_nothing),
        cmocka_unit_test(test_drop_when_disconnected_drops_and_counts),
        cmocka_unit_test(test_ten_thousand_reconnects_leave_nothing_behind),
    };

    return RUN_TESTS(tests, make_folder, drop_folder);
}
