/* A listening tap and slow sinks: who lags is cut with exact books, who is stuck is given up, the
 * others get all; and how it ends. Scripted sinks over unix sockets. */
#define _GNU_SOURCE
#define DNSTAP_IMPLEMENTATION
#include "dnstap.h"

#include "tap_support.h"
#include "tap_peer.h"
#include "listen_support.h"

static dnstap_tap *open_on(const char *name, bool pretends)
{
    dnstap_options o;

    host_options(&o, socket_at(name));
    if (pretends) o.monotonic_ms = pretend;
    return host_open(&o);
}

static uint64_t all_logged(void) { return logged[0] + logged[1] + logged[2]; }

/* Logs until n links are stuck, while the others read on. */
static void log_until_stuck(dnstap_tap *tap, unsigned n)
{
    while (stuck_links(tap) < n) {
        log_many(tap, 30);
        go_on(tap);
    }
}

static uint64_t sum_of(const guest *g)
{
    return g->seen.next[0] + g->seen.next[1] + g->seen.next[2];
}

static void test_a_laggard_is_cut_and_its_loss_is_exact(void **state)
{
    dnstap_tap *tap = open_on("laggard", true);
    guest *good = guest_start(tap), *lags = guest_start(tap), *also = guest_start(tap);
    dnstap_peer peers[4];
    dnstap_status s;

    (void)state;
    lags->deaf = true;
    log_until_stuck(tap, 1);
    assert_int_equal(dnstap_get_peers(tap, peers, 4), 3);
    while (status_of(tap).sinks == 3) {
        check_host_books(tap);
        log_many(tap, 30);
        go_on(tap);
    }
    UNTIL(tap, has_all(good) && has_all(also));
    s = status_of(tap);
    assert_int_equal(s.dropped, 0); /* before a ring was full */
    while (!lags->ended) guest_read(lags, SIZE_MAX);
    /* what the kernel had taken of it came; all else it was offered until then is lost */
    assert_true(lags->stream.frames > 0);
    assert_int_equal(s.sent, good->stream.frames + also->stream.frames + lags->stream.frames);
    assert_int_equal(s.lost + lags->stream.frames, all_logged());
    assert_int_equal(s.failures, 1);
    assert_int_equal(times_said("too slow: it is behind by more than options.max_lag"), 1);
    assert_non_null(strstr(lines, "; it lost "));
    assert_int_equal(strtoul(strstr(lines, "; it lost ") + 10, NULL, 10), s.lost);
    check_host_books(tap);
    log_many(tap, 300);
    UNTIL(tap, has_all(good) && has_all(also));
    assert_int_equal(host_close(tap, PATIENCE), DNSTAP_OK);
}

/* Of small messages a ring may hold so many that it is full of them before its bytes are. */
static void test_a_laggard_is_cut_before_a_ring_is_full_of_messages(void **state)
{
    dnstap_options o;
    dnstap_tap *tap;
    guest *good, *lags;

    (void)state;
    host_options(&o, socket_at("messages"));
    o.monotonic_ms = pretend;
    o.ring_size = 1 << 23;
    tap = host_open(&o);
    good = guest_start(tap);
    lags = guest_start(tap);
    lags->deaf = true;
    while (logged[0] < 20000) {
        assert_int_equal(log_next(tap, 0), 1);
        if (logged[0] % 100 == 0) go_on(tap);
    }
    UNTIL(tap, has_all(good));
    assert_int_equal(status_of(tap).dropped, 0);
    assert_int_equal(status_of(tap).sinks, 1);
    dnstap_close(tap, 0);
}

static void test_the_only_sink_is_not_cut_for_its_lag_but_the_ring_drops(void **state)
{
    dnstap_tap *tap = open_on("alone", true);
    guest *g = guest_start(tap);
    uint64_t dropped = 0;

    (void)state;
    g->deaf = true;
    while (dropped < 50) {
        dropped += log_next(tap, 1) == DNSTAP_RING_FULL;
        if (dropped % 8 == 0) turn(tap);
    }
    assert_int_equal(status_of(tap).sinks, 1);
    assert_int_equal(status_of(tap).dropped_full, dropped);
    g->deaf = false;
    UNTIL(tap, has_all(g));
    check_host_books(tap);
    assert_int_equal(host_close(tap, PATIENCE), DNSTAP_OK);
}

static void test_a_sink_that_takes_nothing_for_the_deadline_is_closed(void **state)
{
    dnstap_tap *tap = open_on("stuck", true);
    guest *g = guest_start(tap);
    uint64_t sent;
    int i;

    (void)state;
    g->deaf = true;
    log_until_stuck(tap, 1);
    log_many(tap, 600);
    for (i = 0; i < 10; i++) { /* a little, now and then, is progress */
        pretended_ms += 1500;
        for (sent = status_of(tap).sent; status_of(tap).sent == sent; turn(tap)) {
            assert_int_equal(status_of(tap).sinks, 1);
            guest_read(g, 20000);
        }
        log_many(tap, 150);
        assert_int_equal(stuck_links(tap), 1);
    }
    pretended_ms += 1500;
    turns(tap, 3);
    assert_int_equal(status_of(tap).sinks, 1);
    pretended_ms += 500;
    turns(tap, 3);
    assert_int_equal(status_of(tap).sinks, 0);
    assert_int_equal(times_said("no progress in 2000 ms while started"), 1);
    while (!g->ended) guest_read(g, SIZE_MAX);
    assert_int_equal(status_of(tap).lost + g->stream.frames, all_logged());
    assert_int_equal(log_next(tap, 0), 0);
    check_host_books(tap);
    g = guest_start(tap); /* of what the other lost it gets nothing */
    log_many(tap, 30);
    UNTIL(tap, has_all(g));
    assert_int_equal(g->stream.frames, 30);
    dnstap_close(tap, 0);
}

/* An empty ring starts again at its beginning: what is skipped then is no lag. */
static void test_a_ring_that_starts_again_makes_no_laggard(void **state)
{
    dnstap_tap *tap = open_on("lap", true);
    guest *fast = guest_start(tap), *full = guest_start(tap);
    unsigned lap;

    (void)state;
    full->deaf = true;
    for (lap = 0; lap < 2000 && !stuck_links(tap); lap++) {
        log_next(tap, 0); /* one at a time: the ring is empty between them */
        turns(tap, 1);
        pretended_ms += 100;
        UNTIL(tap, has_all(fast));
    }
    assert_int_equal(stuck_links(tap), 1);
    assert_true(status_of(tap).behind < 4);
    assert_int_equal(status_of(tap).sinks, 2);
    full->deaf = false;
    UNTIL(tap, has_all(full));
    dnstap_close(tap, 0);
}

/* ---- rings without sinks ---- */

static void test_what_is_logged_while_the_last_sink_goes_is_given_up(void **state)
{
    dnstap_tap *tap = open_on("last", false);
    dnstap_status s;

    (void)state;
    guest_leave(guest_start(tap));
    log_many(tap, 10);
    UNTIL(tap, status_of(tap).sinks == 0);
    tap->wants = SIZE_MAX; /* a producer that saw the sink still */
    log_many(tap, 5);
    tap->wants = 0;
    assert_int_equal(dnstap_flush(tap, 2000), DNSTAP_OK);
    s = status_of(tap);
    assert_int_equal(s.queued, 0);
    assert_int_equal(s.recorded, 15);
    assert_int_equal(s.discarded, 15 - s.sent);
    assert_int_equal(s.lost, 10 - s.sent);
    check_host_books(tap);
    assert_int_equal(dnstap_close(tap, 0), DNSTAP_OK);
}

static void test_flush_waits_for_all_sinks(void **state)
{
    dnstap_tap *tap = open_on("flush", false);
    guest *good = guest_start(tap), *slow = guest_start(tap);

    (void)state;
    log_many(tap, 30);
    assert_int_equal(dnstap_flush(tap, 2000), DNSTAP_OK);
    assert_int_equal(status_of(tap).behind, 0);
    assert_int_equal(status_of(tap).sent, 60);
    slow->deaf = true;
    log_until_stuck(tap, 1);
    UNTIL(tap, has_all(good));
    assert_int_equal(dnstap_flush(tap, 50), DNSTAP_TIMEOUT);
    slow->deaf = false;
    UNTIL(tap, has_all(slow));
    assert_int_equal(dnstap_flush(tap, 2000), DNSTAP_OK);
    dnstap_close(tap, 0);
}

/* ---- the end ---- */

static void test_close_says_stop_to_all_and_waits_for_all_at_once(void **state)
{
    dnstap_tap *tap = open_on("stop", false);
    guest *g[3], *pending = guest_connect(tap);
    int i;

    (void)state;
    pending->replies = 1;
    for (i = 0; i < 3; i++) g[i] = guest_start(tap);
    assert_int_equal(dnstap_start(tap), DNSTAP_OK);
    log_many(tap, 3000);
    assert_int_equal(host_close(tap, PATIENCE), DNSTAP_OK);
    for (i = 0; i < 3; i++) {
        assert_int_equal(g[i]->stream.phase, AT_END);
        assert_true(has_all(g[i]));
    }
}

static void test_close_with_three_sinks_that_never_finish_takes_its_time_once(void **state)
{
    dnstap_tap *tap = open_on("never", false);
    guest *g[3];
    uint64_t start;
    int i;

    (void)state;
    for (i = 0; i < 3; i++) {
        g[i] = guest_start(tap);
        g[i]->mute = true;
    }
    assert_int_equal(dnstap_start(tap), DNSTAP_OK);
    log_many(tap, 300);
    start = real_ms();
    assert_int_equal(host_close(tap, 2000), DNSTAP_OK);
    assert_in_range(real_ms() - start, 1900, 3500);
    for (i = 0; i < 3; i++) {
        assert_int_equal(g[i]->stream.phase, AT_END);
        assert_true(has_all(g[i]));
    }
}

static void test_close_gives_up_who_does_not_read_and_says_so(void **state)
{
    dnstap_tap *tap = open_on("deaf", false);
    guest *good = guest_start(tap), *deaf = guest_start(tap);
    uint64_t start = real_ms();

    (void)state;
    deaf->deaf = true;
    log_until_stuck(tap, 1);
    log_many(tap, 30);
    assert_int_equal(dnstap_start(tap), DNSTAP_OK);
    assert_int_equal(host_close(tap, 300), DNSTAP_TIMEOUT);
    assert_true(real_ms() - start < 10000);
    assert_true(has_all(good));
    assert_int_equal(good->stream.phase, AT_END);
    assert_int_equal(times_said("did not take all before the close; it lost "), 1);
    assert_true(sum_of(deaf) < all_logged());
}

static void test_a_sink_that_goes_during_the_close_costs_no_time(void **state)
{
    dnstap_tap *tap = open_on("gone", false);
    guest *g = guest_start(tap);
    closing it;

    (void)state;
    g->mute = true;
    assert_int_equal(dnstap_start(tap), DNSTAP_OK);
    log_many(tap, 30);
    close_begin(&it, tap, PATIENCE);
    while (g->stream.phase != AT_END) {
        readable(g->fd, 100);
        guest_read(g, SIZE_MAX);
    }
    guest_leave(g);
    close_end(&it);
    assert_int_equal(it.result, DNSTAP_OK);
    assert_true(it.took < PATIENCE / 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_laggard_is_cut_and_its_loss_is_exact),
        cmocka_unit_test(test_a_laggard_is_cut_before_a_ring_is_full_of_messages),
        cmocka_unit_test(test_the_only_sink_is_not_cut_for_its_lag_but_the_ring_drops),
        cmocka_unit_test(test_a_sink_that_takes_nothing_for_the_deadline_is_closed),
        cmocka_unit_test(test_a_ring_that_starts_again_makes_no_laggard),
        cmocka_unit_test(test_what_is_logged_while_the_last_sink_goes_is_given_up),
        cmocka_unit_test(test_flush_waits_for_all_sinks),
        cmocka_unit_test(test_close_says_stop_to_all_and_waits_for_all_at_once),
        cmocka_unit_test(test_close_with_three_sinks_that_never_finish_takes_its_time_once),
        cmocka_unit_test(test_close_gives_up_who_does_not_read_and_says_so),
        cmocka_unit_test(test_a_sink_that_goes_during_the_close_costs_no_time),
    };

    return RUN_TESTS(tests, make_folder, drop_folder);
}
