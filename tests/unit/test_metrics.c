/* Metrics: OpenMetrics text that is right by its grammar, and adds up. */
#define _GNU_SOURCE
#define DNSTAP_IMPLEMENTATION
#include "dnstap.h"

#include "tap_support.h"
#include "tap_peer.h"
#include "listen_support.h"
#include "metrics_support.h"

static metrics seen_metrics;

/* The tap's metrics, read. */
static const metrics *metrics_of(dnstap_tap *tap)
{
    static char out[65536];
    long size = dnstap_metrics(tap, out, sizeof out), again = dnstap_metrics(tap, NULL, 0);

    assert_int_equal(size, strlen(out));
    assert_in_range(again, size - 8, size + 8); /* a clock's digits; else see the test of lines */
    read_metrics(&seen_metrics, out);
    return &seen_metrics;
}

/* As long as nothing is under way. */
static void check_sums(const metrics *m)
{
    double recorded = metric_sum(m, "dnstap_recorded_total");

    assert_true(metric_sum(m, "dnstap_logged_total") == recorded +
                                                            metric_sum(m, "dnstap_unwanted_total") +
                                                            metric_sum(m, "dnstap_dropped_total"));
    assert_true(recorded == metric_sum(m, "dnstap_sent_total") +
                                metric_sum(m, "dnstap_discarded_total") +
                                metric_sum(m, "dnstap_queued{"));
    assert_true(metric_sum(m, "dnstap_state{") == 1);
}

static void test_what_was_logged_is_told_by_cause_and_adds_up(void **state)
{
    dnstap_message bad, large;
    const metrics *m;
    dnstap_options o;
    dnstap_tap *tap;
    unsigned i;

    (void)state;
    peer_options(&o, "/nobody");
    o.max_message = 2000;
    o.ring_size = 4096;
    o.monotonic_ms = pretend;
    pretended_ms = 1000;
    tap = open_afresh(&o);
    dnstap_message_start(&bad, 0);
    assert_int_equal(dnstap_log_as(tap, 0, &bad), DNSTAP_BAD_MESSAGE);
    dnstap_message_start(&large, DNSTAP_MSG_AUTH_QUERY);
    large.extra = dnstap_bytes_of(lines, 3000);
    for (i = 0; i < 2; i++) assert_int_equal(dnstap_log_as(tap, 0, &large), DNSTAP_TOO_LARGE);
    log_many(tap, 3);
    while (log_next(tap, 0) == 1) {
    }
    dnstap_set_enabled(tap, false);
    for (i = 0; i < 4; i++) assert_int_equal(log_next(tap, 0), 0);
    pretended_ms = 13034;
    m = metrics_of(tap);
    check_sums(m);
    assert_true(metric(m, "dnstap_dropped_total{tap=\"/nobody\",cause=\"bad\"}") == 1);
    assert_true(metric(m, "dnstap_dropped_total{tap=\"/nobody\",cause=\"large\"}") == 2);
    assert_true(metric(m, "dnstap_dropped_total{tap=\"/nobody\",cause=\"full\"}") == 1);
    assert_true(metric(m, "dnstap_unwanted_total{tap=\"/nobody\",cause=\"disabled\"}") == 4);
    assert_true(metric(m, "dnstap_state{tap=\"/nobody\",state=\"idle\"}") == 1);
    assert_true(metric(m, "dnstap_state_seconds{tap=\"/nobody\"}") == 12.034);
    assert_true(metric(m, "dnstap_queue_fill_ratio{tap=\"/nobody\"}") > .7);
    assert_true(metric(m, "dnstap_queue_fill_ratio{tap=\"/nobody\"}") <= 1);
    assert_true(metric(m, "dnstap_queued_bytes{tap=\"/nobody\"}") > 3000);
    assert_true(metric(m, "dnstap_ring_size_bytes{tap=\"/nobody\"}") == 4096);
    dnstap_close(tap, 0);
}

static bool never(void *user, const dnstap_message *m)
{
    (void)user, (void)m;
    return false;
}

/* Each filter keeps back what those before let through. */
static void test_what_filters_keep_back_is_told_by_cause(void **state)
{
    static const char *const zones[] = {"a", NULL};
    static const char *const causes[] = {"type", "rcode", "zone", "sample", "filter"};
    char sample[80];
    dnstap_message m;
    dnstap_options o;
    dnstap_tap *tap;
    const metrics *told;
    unsigned i;

    (void)state;
    for (i = 0; i < 5; i++) {
        peer_options(&o, "/nobody");
        if (i == 0) o.types = 1u << DNSTAP_MSG_AUTH_QUERY;
        if (i == 1) o.rcodes = 1;
        if (i == 2) o.zones = zones;
        if (i == 3) o.sample = UINT32_MAX;
        if (i == 4) o.filter = never;
        tap = open_afresh(&o);
        dnstap_message_start(&m, DNSTAP_MSG_CLIENT_RESPONSE);
        m.transaction = 2;
        assert_int_equal(dnstap_log_as(tap, 0, &m), 0);
        told = metrics_of(tap);
        check_sums(told);
        snprintf(sample, sizeof sample, "dnstap_unwanted_total{tap=\"/nobody\",cause=\"%s\"}",
                 causes[i]);
        assert_true(metric(told, sample) == 1);
        assert_true(metric_sum(told, "dnstap_unwanted_total") == 1);
        dnstap_close(tap, 0);
    }
    peer_options(&o, "/nobody");
    o.anonymize_v4 = 8;
    tap = open_afresh(&o);
    m.query_message = dnstap_bytes_of("?", 1);
    assert_int_equal(dnstap_log_as(tap, 0, &m), 1);
    assert_true(metric_sum(metrics_of(tap), "dnstap_stripped_total") == 1);
    dnstap_close(tap, 0);
}

static void test_a_connection_and_its_bytes_are_told(void **state)
{
    dnstap_status s;
    const metrics *m;
    dnstap_tap *tap;
    collector c;

    (void)state;
    tap = start_both(&c, NULL);
    log_many(tap, 30);
    collector_read_until(&c, 30);
    WAIT_FOR(tap, &s, s.sent == 30);
    m = metrics_of(tap);
    check_sums(m);
    assert_true(metric_sum(m, "dnstap_sent_total") == 30);
    assert_true(metric_sum(m, "dnstap_sent_bytes_total") == (double)s.bytes);
    assert_true(metric_sum(m, "dnstap_connects_total") == 1);
    assert_true(metric_sum(m, "dnstap_failures_total") == 0);
    end_both(&c, tap);
}

static void test_a_listening_tap_tells_of_its_sinks(void **state)
{
    dnstap_options o;
    dnstap_tap *tap;
    const metrics *m;

    (void)state;
    host_options(&o, socket_at("sinks"));
    o.monotonic_ms = pretend;
    tap = host_open(&o);
    log_next(tap, 0);
    dnstap_set_enabled(tap, false);
    log_next(tap, 0);
    dnstap_set_enabled(tap, true);
    assert_non_null(guest_start(tap));
    m = metrics_of(tap);
    assert_true(metric_sum(m, "dnstap_sinks{") == 1);
    assert_true(metric_sum(m, "dnstap_accepted_total") == 1);
    assert_true(metric_sum(m, "dnstap_unwanted_total") == 2);
    assert_non_null(strstr(m->samples[2], "cause=\"no_sink\""));
    assert_int_equal(atoi(strchr(m->samples[2], '\0') + 1), 1);
    assert_true(metric_sum(m, "dnstap_offered_total") == 0);
    host_close(tap, PATIENCE);
}

/* A path may hold anything. */
static void test_an_endpoint_is_escaped(void **state)
{
    dnstap_options o;
    dnstap_tap *tap;

    (void)state;
    peer_options(&o, "/a\"b\\c\nd\xff\xc3\xa9 } 7");
    tap = open_afresh(&o);
    metric(metrics_of(tap), "dnstap_sent_total{tap=\"/a\\\"b\\\\c\\\\x0ad\\\\xff\xc3\xa9 } 7\"}");
    dnstap_close(tap, 0);
}

/* Whatever the room, lines are whole, the text ends within it, and the length is that of all. */
static void test_no_line_is_cut(void **state)
{
    static char all[65536], out[65536];
    size_t need, size, line = 0;
    dnstap_options o;
    dnstap_tap *tap;

    (void)state;
    peer_options(&o, "/nobody");
    o.monotonic_ms = pretend;
    tap = open_afresh(&o);
    need = (size_t)dnstap_metrics(tap, all, sizeof all);
    for (size = 0; size <= need + 1; size++) {
        memset(out, 'x', sizeof out);
        assert_int_equal(dnstap_metrics(tap, out, size), need);
        assert_int_equal(out[size], 'x');
        if (!size) continue;
        if (size > 1 && all[size - 2] == '\n') line = size - 1;
        assert_int_equal(strlen(out), line);
        assert_memory_equal(out, all, line);
    }
    assert_int_equal(line, need);
    dnstap_close(tap, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_was_logged_is_told_by_cause_and_adds_up),
        cmocka_unit_test(test_what_filters_keep_back_is_told_by_cause),
        cmocka_unit_test(test_a_connection_and_its_bytes_are_told),
        cmocka_unit_test(test_a_listening_tap_tells_of_its_sinks),
        cmocka_unit_test(test_an_endpoint_is_escaped),
        cmocka_unit_test(test_no_line_is_cut),
    };

    return RUN_TESTS(tests, make_folder, drop_folder);
}
