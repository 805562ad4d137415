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

enum { CALLS = 50000, RUNS = 5 };

/* Until the first has got all: the one that stalls is not waited for. */
static void wait_for_the_reader(dnstap_tap *tap)
{
    uint64_t end = real_ms() + WAIT_MS;
    dnstap_peer peers[2];
    int n;

    do {
        assert_true(real_ms() < end);
        poll(NULL, 0, 1);
        n = dnstap_get_peers(tap, peers, 2);
        if (n == 2 && peers[1].number == 1) peers[0] = peers[1];
    } while (n > 0 && peers[0].number == 1 && peers[0].sent < CALLS);
}

/* ns within which 999 of 1,000 calls return, with a reader and, if wanted, one that stops. */
static uint32_t p999(bool stalled)
{
    static uint32_t took[CALLS];
    static visitor v[2];
    dnstap_tap *tap = load_open(path, 8); /* nobody lags by more than 3/4 of it */
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
    wait_for_the_reader(tap);
    assert_int_equal(dnstap_close(tap, stalled ? 50 : WAIT_MS), stalled ? DNSTAP_TIMEOUT : 0);
    visitor_join(&v[0]);
    if (stalled) visitor_join(&v[1]);
    assert_int_equal(v[0].frames, CALLS);
    qsort(took, CALLS, sizeof *took, by_size);
    return took[CALLS / 1000 * 999];
}

/* In turn, so that what else the machine does hits both; the median of each. */
static bool equal_but_for_noise(void)
{
    uint32_t without[RUNS], with[RUNS], a, b;
    int i;

    for (i = 0; i < RUNS; i++) {
        without[i] = p999(false);
        with[i] = p999(true);
    }
    qsort(without, RUNS, sizeof *without, by_size);
    qsort(with, RUNS, sizeof *with, by_size);
    a = without[RUNS / 2];
    b = with[RUNS / 2];
    print_message("p99.9, median of %d: %u ns without, %u ns with a stalled sink\n", RUNS, a, b);
    return b <= 2 * a + 2000;
}

/* On a busy machine either may be preempted more often. */
static void test_a_stalled_sink_does_not_delay_who_logs(void **state)
{
    int tries = 3;

    (void)state;
    while (!equal_but_for_noise()) assert_true(--tries > 0);
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
