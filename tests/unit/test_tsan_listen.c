/* A listening tap among threads, for ThreadSanitizer: four that log, eight sinks that come and go,
 * while one reads what is shown and one switches the tap on and off. */
#define _GNU_SOURCE
#define DNSTAP_IMPLEMENTATION
#include "dnstap.h"
#include "listen_load.h"

static char path[64];

static void test_eight_sinks_and_four_threads(void **state)
{
    (void)state;
    eight_sinks(path, test_long() ? 200000 : 20000, 0, 100);
}

/* ---- what is shown, while all changes ---- */

static struct {
    dnstap_tap *tap;
    size_t over;
} watched;

static void *look_on(void *argument)
{
    dnstap_peer peers[16];
    dnstap_status s;
    int n, i;

    (void)argument;
    while (!__atomic_load_n(&watched.over, __ATOMIC_RELAXED)) {
        load_books(watched.tap, &s);
        n = dnstap_get_peers(watched.tap, peers, 16);
        for (i = 0; i < n; i++)
            if (peers[i].offered != peers[i].sent + peers[i].lost + peers[i].behind) abort();
    }
    return NULL;
}

static void *switch_on_and_off(void *argument)
{
    (void)argument;
    while (!__atomic_load_n(&watched.over, __ATOMIC_RELAXED)) {
        dnstap_set_enabled(watched.tap, false);
        dnstap_set_enabled(watched.tap, true);
        poll(NULL, 0, 1);
    }
    return NULL;
}

/* Sinks that vanish, again and again, so that now and then there is none. */
static void *come_and_go(void *argument)
{
    visitor *v = (visitor *)malloc(sizeof *v);

    (void)argument;
    while (!__atomic_load_n(&watched.over, __ATOMIC_RELAXED)) {
        if (visitor_open(v, VANISHES, path)) visitor_join(v);
    }
    free(v);
    return NULL;
}

static void test_sinks_come_and_go_while_all_is_looked_at_and_switched(void **state)
{
    static void *(*const others[])(void *) = {look_on, switch_on_and_off, come_and_go, come_and_go};
    pthread_t threads[4];
    uint64_t end = real_ms() + (test_long() ? 20000 : 3000);
    dnstap_status s;
    size_t i;

    (void)state;
    watched.tap = load_open(path, 1);
    watched.over = 0;
    for (i = 0; i < 4; i++) assert_int_equal(pthread_create(&threads[i], NULL, others[i], NULL), 0);
    while (real_ms() < end) write_letters(watched.tap, 2000, 0);
    __atomic_store_n(&watched.over, 1, __ATOMIC_RELAXED);
    for (i = 0; i < 2; i++) assert_int_equal(pthread_join(threads[i], NULL), 0);
    load_books(watched.tap, &s);
    assert_true(s.connects > 3 && s.no_sink > 0 && s.sent > 0);
    dnstap_close(watched.tap, 0); /* whoever still waits is sent away */
    for (i = 2; i < 4; i++) assert_int_equal(pthread_join(threads[i], NULL), 0);
}

static int choose_path(void **state)
{
    (void)state;
    snprintf(path, sizeof path, "/tmp/dnstap-tsan.%d", (int)getpid());
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_eight_sinks_and_four_threads),
        cmocka_unit_test(test_sinks_come_and_go_while_all_is_looked_at_and_switched),
    };

    return RUN_TESTS(tests, choose_path, NULL);
}
