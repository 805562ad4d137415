/* The tap against a transport that fails wherever it can: at every byte of handshake, stream and
 * end, and at random. An oracle reads what arrives: no frame twice or torn on one connection, order
 * kept, nothing lost that was not counted, and the books balance after every step. */
#include "tap_fake.h"

/* What arrived is what the tap says it sent. */
static void check_sent(dnstap_tap *tap)
{
    dnstap_status s;
    uint64_t recorded = 0;
    unsigned i;

    dnstap_get_status(tap, &s);
    for (i = 0; i < PRODUCERS; i++) recorded += logged[i];
    assert_int_equal(s.recorded, recorded);
    assert_int_equal(s.sent, seen.frames);
    assert_int_equal(s.bytes, seen.bytes);
}

static void turns(dnstap_tap *tap, unsigned count)
{
    while (count--) {
        fake_turn(tap);
        check_sent(tap);
    }
}

static void turns_until_sent(dnstap_tap *tap, unsigned most)
{
    dnstap_status s;

    do {
        turns(tap, 1);
        dnstap_get_status(tap, &s);
    } while (s.queued && most--);
    assert_int_equal(s.queued, 0);
}

/* All that was recorded came, but for what the close gave up. */
static void check_all_came(void)
{
    uint64_t recorded = 0;
    unsigned i;

    for (i = 0; i < PRODUCERS; i++) recorded += logged[i];
    assert_int_equal(recorded, seen.frames + said.left);
}

static void close_within(dnstap_tap *tap, int timeout_ms, int expected)
{
    uint64_t start = now_ms;

    assert_int_equal(dnstap_close(tap, timeout_ms), expected);
    assert_true(now_ms <= start + (uint64_t)timeout_ms);
    check_all_came();
}

/* Two batches of messages, the second after the first was sent, then the end. Returns the bytes of
 * the last connection. */
static size_t run_script(const script *first, bool unidirectional)
{
    script scripts[2];
    dnstap_options o;
    dnstap_tap *tap;
    unsigned i;

    scripts[0] = *first;
    scripts[1] = faultless;
    fake_options(&o);
    o.unidirectional = unidirectional;
    tap = fake_open(&o, scripts, 2);
    for (i = 0; i < 5; i++) assert_int_equal(log_next(tap, i % 3), 1);
    turns_until_sent(tap, 20000);
    for (i = 0; i < 7; i++) assert_int_equal(log_next(tap, i % 2), 1);
    turns(tap, 3);
    close_within(tap, 60000, DNSTAP_OK);
    return wire.taken;
}

static void test_without_faults_everything_arrives_on_one_connection(void **state)
{
    (void)state;
    run_script(&faultless, false);
    assert_int_equal(wire.connections, 1);
    assert_int_equal(wire.finished, 1);
    assert_int_equal(said.lines, 0);
}

/* p: 0, 1, 2 … to the end of the stream, with pieces of each size. */
static void cut_everywhere(script s, bool unidirectional)
{
    size_t size = run_script(&faultless, unidirectional);

    for (s.cut = 0; s.cut <= size; s.cut++) {
        run_script(&s, unidirectional);
        assert_int_equal(wire.connections, s.cut + 12 < size || s.cut == 0 ? 2 : wire.connections);
    }
}

static void test_connection_cut_after_every_byte_sent(void **state)
{
    script s = faultless;

    (void)state;
    cut_everywhere(s, false);
    cut_everywhere(s, true);
    s.chunk = 7;
    cut_everywhere(s, false);
}

static void test_connection_cut_between_single_bytes_and_waits(void **state)
{
    script s = faultless;

    (void)state;
    s.chunk = 1;
    s.reply_chunk = 1;
    s.send_again = s.recv_again = s.start_again = 2;
    run_script(&s, false);
    assert_int_equal(wire.connections, 1);
    if (test_long()) cut_everywhere(s, false);
}

static void test_connection_cut_at_every_byte_of_records(void **state)
{
    script s = faultless;

    (void)state;
    for (s.record = 1; s.record <= 512; s.record = s.record * 3 + 1) {
        s.send_again = (unsigned)(s.record % 4);
        if (s.record > 4 || test_long())
            cut_everywhere(s, false);
        else
            run_script(&s, false);
    }
}

static void test_answers_cut_after_every_byte(void **state)
{
    script s = faultless;

    (void)state;
    for (s.reply_cut = 0; s.reply_cut <= 54; s.reply_cut++) {
        for (s.reply_chunk = 1; s.reply_chunk <= 8; s.reply_chunk += 7) run_script(&s, false);
    }
}

static void test_answers_corrupted_at_every_byte(void **state)
{
    script s = faultless;
    unsigned bit;

    (void)state;
    for (s.corrupt = 0; s.corrupt <= 54; s.corrupt++) {
        for (bit = 0; bit < 8; bit++) {
            s.corruption = (uint8_t)(1u << bit);
            run_script(&s, false);
        }
        s.corruption = 0xff;
        run_script(&s, false);
    }
}

static void test_garbage_or_finish_comes_in_after_every_byte(void **state)
{
    script s = faultless;
    size_t size = run_script(&faultless, false);

    (void)state;
    for (s.noise = 84; s.noise <= size; s.noise++) {
        s.early_finish = false;
        run_script(&s, false);
        s.early_finish = true;
        s.chunk = 50;
        run_script(&s, false);
        s.chunk = NEVER;
    }
}

static void test_sink_that_never_answers_is_left_after_the_deadline(void **state)
{
    script s = faultless;
    uint64_t start = now_ms;

    (void)state;
    s.mute = true;
    run_script(&s, false);
    assert_int_equal(wire.connections, 2);
    assert_true(now_ms >= start + 4000);
    s.mute = false;
    s.start_again = NEVER;
    run_script(&s, false);
    assert_int_equal(wire.connections, 2);
}

/* -- at random -- */

static size_t one_of(size_t usual, size_t below) { return rnd(3) ? usual : rnd((uint32_t)below); }

static script random_script(void)
{
    script s = faultless;

    s.refused = rnd(8) == 0;
    s.start_again = rnd(3);
    s.cut = one_of(NEVER, rnd(2) ? 200 : 5000);
    s.chunk = 1 + one_of(NEVER - 1, 300);
    s.send_again = rnd(3) ? 0 : rnd(5);
    s.record = rnd(3) ? 0 : 1 + rnd(512);
    s.mute = rnd(16) == 0;
    s.reply_chunk = 1 + one_of(NEVER - 1, 20);
    s.reply_cut = one_of(NEVER, 60);
    s.corrupt = one_of(NEVER, 60);
    s.corruption = (uint8_t)(1 + rnd(255));
    s.noise = one_of(NEVER, 3000);
    s.early_finish = rnd(2);
    s.recv_again = rnd(4);
    s.silent = rnd(8) == 0;
    return s;
}

/* Near the end of the positions, so that they run through it. */
static void move_positions(dnstap_tap *tap)
{
    uint32_t i;

    for (i = 0; i < tap->ring_count; i++) {
        dnstap__ring *r = &tap->rings[i];

        r->published = r->tail = r->floor = SIZE_MAX - rnd(9000);
        r->bytes = r->seen_bytes = r->wake_at = SIZE_MAX - rnd(9000);
    }
}

static void random_steps(dnstap_tap *tap, unsigned steps)
{
    dnstap_status s;
    unsigned kind;

    while (steps--) {
        kind = rnd(16);
        if (kind < 9)
            log_next(tap, rnd(3));
        else if (kind < 14)
            turns(tap, 1);
        else if (kind == 14)
            now_ms += rnd(rnd(4) ? 50 : 3000);
        else if (rnd(3))
            dnstap_flush(tap, (int)rnd(200));
        else
            dnstap_set_enabled(tap, rnd(4) != 0);
        check_sent(tap);
    }
    dnstap_set_enabled(tap, true);
    dnstap_get_status(tap, &s);
    assert_true(s.state < DNSTAP_STATE_COUNT);
}

static void random_run(bool lasting_fault)
{
    script scripts[8];
    dnstap_options o;
    dnstap_tap *tap;
    unsigned i, count = 1 + rnd(8);
    int timeout = (int)rnd(10000);
    dnstap_transport blind = wire_transport;

    blind.fd = NULL;
    for (i = 0; i < count; i++) scripts[i] = random_script();
    if (!lasting_fault) scripts[count - 1] = faultless;
    fake_options(&o);
    o.unidirectional = rnd(4) == 0;
    o.drop_when_disconnected = rnd(4) == 0;
    o.flush_ms = rnd(3) ? 0 : DNSTAP_FLUSH_NOW;
    if (rnd(8) == 0) o.transport = &blind; /* no descriptor: served by time */
    tap = fake_open(&o, scripts, count);
    if (rnd(2)) move_positions(tap);
    random_steps(tap, 20 + rnd(200));
    if (!lasting_fault)
        close_within(tap, 200000, DNSTAP_OK);
    else {
        uint64_t start = now_ms;
        int result = dnstap_close(tap, timeout);

        assert_true(now_ms <= start + (uint64_t)timeout);
        assert_int_equal(result, said.left ? DNSTAP_TIMEOUT : DNSTAP_OK);
        check_all_came();
    }
}

static void test_random_faults_lose_nothing(void **state)
{
    unsigned runs = test_long() ? 100000 : 3000;

    (void)state;
    while (runs--) random_run(false);
}

static void test_random_lasting_faults_lose_only_what_close_says(void **state)
{
    unsigned runs = test_long() ? 100000 : 3000;

    (void)state;
    while (runs--) random_run(true);
}

/* -- single cases -- */

static void test_send_that_takes_nothing_counts_as_again(void **state)
{
    script s = faultless;

    (void)state;
    s.zero = true;
    s.send_again = 5;
    run_script(&s, false);
    assert_int_equal(wire.connections, 1);
}

static void test_again_without_a_reason_does_not_spin(void **state)
{
    script s = faultless;
    dnstap_options o;
    dnstap_tap *tap;
    unsigned i;
    uint64_t start = now_ms;

    (void)state;
    s.silent = true;
    s.send_again = 300;
    s.chunk = 100;
    fake_options(&o);
    tap = fake_open(&o, &s, 1);
    for (i = 0; i < 10; i++) log_next(tap, 0);
    turns(tap, 100);
    assert_true(now_ms - start >= 450);
    dnstap_close(tap, 0);
}

static void test_sink_that_dies_after_each_message_is_not_flooded(void **state)
{
    script s = faultless;
    dnstap_options o;
    dnstap_tap *tap;
    uint64_t start = now_ms;

    (void)state;
    s.cut = 84 + 1000;
    fake_options(&o);
    tap = fake_open(&o, &s, 1);
    while (now_ms < start + 5000) {
        while (log_next(tap, 0) == 1) {
        }
        turns(tap, 1);
        now_ms++;
    }
    assert_in_range(wire.connections, 3, 40);
    assert_in_range(said.lines, 3, 80);
    dnstap_close(tap, 0);
}

static uint64_t racing_clock(void *user)
{
    (void)user;
    return now_ms += 2;
}

static void test_flush_ends_when_time_passes_while_it_looks(void **state)
{
    script s = faultless;
    dnstap_options o;
    dnstap_tap *tap;
    uint64_t start;
    int i;

    (void)state;
    s.mute = true;
    fake_options(&o);
    o.monotonic_ms = racing_clock;
    tap = fake_open(&o, &s, 1);
    log_next(tap, 0);
    for (i = 0; i < 20; i++) {
        start = now_ms;
        assert_int_equal(dnstap_flush(tap, 3), DNSTAP_TIMEOUT);
        assert_in_range(now_ms, start, start + 100);
    }
    assert_int_equal(dnstap_close(tap, 1), DNSTAP_TIMEOUT);
}

static dnstap_tap *served;

/* Another thread serves the tap while this one reads the clock. */
static uint64_t serving_clock(void *user)
{
    dnstap_tap *tap = served;

    (void)user;
    served = NULL;
    if (tap) {
        now_ms += 50;
        dnstap_service(tap);
        return now_ms - 50;
    }
    return now_ms;
}

static void test_status_taken_while_the_state_changes_has_no_negative_age(void **state)
{
    script s = faultless;
    dnstap_options o;
    dnstap_status status;
    dnstap_tap *tap;

    (void)state;
    fake_options(&o);
    o.monotonic_ms = serving_clock;
    tap = fake_open(&o, &s, 1);
    served = tap;
    dnstap_get_status(tap, &status);
    assert_in_range(status.state_ms, 0, 100);
    dnstap_close(tap, 1000);
}

/* Time only passes when the tap waits, and it waits as long as it says. */
static unsigned waits_in(dnstap_tap *tap, uint64_t ms)
{
    uint64_t end = now_ms + ms;
    unsigned waits = 0;

    for (; now_ms < end; waits++) fake_turn(tap);
    return waits;
}

static void test_idle_tap_wakes_hardly_ever_with_a_barrier_or_without(void **state)
{
    dnstap_options o;
    dnstap_tap *tap;
    struct pollfd fds[DNSTAP_POLLFDS];
    int timeout;

    (void)state;
    for (barrier = true;; barrier = false) {
        fake_options(&o);
        tap = fake_open(&o, &faultless, 1);
        log_next(tap, 0);
        turns_until_sent(tap, 20);
        waits_in(tap, 500);
        assert_in_range(waits_in(tap, 10000), barrier ? 1 : 10, barrier ? 2 : 12);
        dnstap_pollfds(tap, fds, DNSTAP_POLLFDS, &timeout);
        assert_in_range(timeout, barrier ? 9000 : 900, barrier ? 10000 : 1000);
        close_within(tap, 1000, DNSTAP_OK);
        if (!barrier) break;
    }
    barrier = true;
}

static void test_drops_are_reported_every_ten_seconds_at_most(void **state)
{
    script s = faultless;
    dnstap_options o;
    dnstap_status status;
    dnstap_tap *tap;
    uint64_t end = now_ms + 35000;
    unsigned i;

    (void)state;
    s.mute = true;
    fake_options(&o);
    tap = fake_open(&o, &s, 1);
    while (now_ms < end) {
        for (i = 0; i < 20; i++) log_next(tap, 0);
        dnstap_service(tap);
        now_ms += 7;
    }
    assert_in_range(said.dropped, 3, 4); /* the first as soon as something is dropped */
    dnstap_get_status(tap, &status);
    assert_true(status.dropped_full > 10000);
    assert_int_equal(said.lost, 1);
    dnstap_close(tap, 1);
    assert_int_equal(said.dropped, 5); /* and the rest in the end */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_without_faults_everything_arrives_on_one_connection),
        cmocka_unit_test(test_connection_cut_after_every_byte_sent),
        cmocka_unit_test(test_connection_cut_between_single_bytes_and_waits),
        cmocka_unit_test(test_connection_cut_at_every_byte_of_records),
        cmocka_unit_test(test_answers_cut_after_every_byte),
        cmocka_unit_test(test_answers_corrupted_at_every_byte),
        cmocka_unit_test(test_garbage_or_finish_comes_in_after_every_byte),
        cmocka_unit_test(test_sink_that_never_answers_is_left_after_the_deadline),
        cmocka_unit_test(test_random_faults_lose_nothing),
        cmocka_unit_test(test_random_lasting_faults_lose_only_what_close_says),
        cmocka_unit_test(test_idle_tap_wakes_hardly_ever_with_a_barrier_or_without),
        cmocka_unit_test(test_drops_are_reported_every_ten_seconds_at_most),
        cmocka_unit_test(test_send_that_takes_nothing_counts_as_again),
        cmocka_unit_test(test_again_without_a_reason_does_not_spin),
        cmocka_unit_test(test_sink_that_dies_after_each_message_is_not_flooded),
        cmocka_unit_test(test_flush_ends_when_time_passes_while_it_looks),
        cmocka_unit_test(test_status_taken_while_the_state_changes_has_no_negative_age),
    };

    return RUN_TESTS(tests, NULL, NULL);
}
