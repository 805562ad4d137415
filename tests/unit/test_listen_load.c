/* A listening tap under load: eight sinks of all manners at 200,000 messages a second from four
 * threads; and what a stalled sink costs those who log. */
#define _GNU_SOURCE
#define DNSTAP_IMPLEMENTATION
#include "dnstap.h"
#include "listen_load.h"

static char path[64];

static void test_healthy_sinks_get_all_beside_slow_dead_and_mad_ones(void **state)
{
    (void)state;
    assert_false(eight_sinks(path, test_long() ? 1000000 : 150000, 200000, 4));
}

static int by_size(const void *a, const void *b)
{
    uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;

    return left < right ? -1 : left > right;
}

enum { CALLS = 200000 };

/* ns within which 999 of 1,000 calls return, with a reader and, if wanted, one that stops. */
static uint32_t p999(bool stalled)
{
    static uint32_t took[CALLS];
    static visitor v[2];
    dnstap_tap *tap = load_open(path, 40);
    writer w;

    assert_true(visitor_open(&v[0], READS, path));
    wait_for_sinks(tap, 1, 1);
    if (stalled) assert_true(visitor_open(&v[1], STOPS, path));
    wait_for_sinks(tap, stalled ? 2 : 1, 2);
    memset(&w, 0, sizeof w);
    w.tap = tap;
    w.count = CALLS;
    w.rate = 200000;
    w.took = took;
    write_all(&w);
    assert_int_equal(w.refused, 0);
    assert_int_equal(dnstap_close(tap, WAIT_MS), stalled ? DNSTAP_TIMEOUT : DNSTAP_OK);
    visitor_join(&v[0]);
    if (stalled) visitor_join(&v[1]);
    assert_int_equal(v[0].frames, CALLS);
    qsort(took, CALLS, sizeof *took, by_size);
    return took[CALLS / 1000 * 999];
}

/* On a busy machine both are preempted now and then: the best of some tries counts. */
static void test_a_stalled_sink_does_not_delay_who_logs(void **state)
{
    uint32_t without, with;
    int tries = 5;

    (void)state;
    do {
        without = p999(false);
        with = p999(true);
        print_message("p99.9: %u ns without, %u ns with a stalled sink\n", without, with);
    } while (with > without + without / 2 + 2000 && --tries);
    assert_true(tries > 0);
}

static int choose_path(void **state)
{
    (void)state;
    snprintf(path, sizeof path, "/tmp/dnstap-load.%d", (int)getpid());
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_healthy_sinks_get_all_beside_slow_dead_and_mad_ones),
        cmocka_unit_test(test_a_stalled_sink_does_not_delay_who_logs),
    };

    return RUN_TESTS(tests, choose_path, NULL);
}
