/* A tap in processes: forked before and after its start, daemonised, behind chroot and setuid, with
 * signals. The collector sees each frame once. A child tells by its exit status what it saw. */
#define _GNU_SOURCE
#define DNSTAP_IMPLEMENTATION
#include "dnstap.h"
#include "tap_support.h"
#include "tap_file.h"
#include <sys/mman.h>
#include <sys/syscall.h>

static void child_logs(dnstap_tap *tap, uint32_t producer, unsigned count)
{
    while (count--) CHILD_ASSERT(log_next(tap, producer) == 1);
}

static void child_start_log_close(dnstap_tap *tap, uint32_t producer, unsigned count)
{
    CHILD_ASSERT(dnstap_start(tap) == DNSTAP_OK);
    child_logs(tap, producer, count);
    CHILD_ASSERT(dnstap_close(tap, PATIENCE) == DNSTAP_OK);
    _exit(0);
}

static void test_each_process_may_start_what_was_opened_before_the_fork(void **state)
{
    collector c;
    dnstap_options o;
    dnstap_tap *tap;
    pid_t child;

    (void)state;
    options_for(&c, "before", &o);
    tap = open_afresh(&o);
    child = fork();
    if (!child) child_start_log_close(tap, 1, 20);
    collector_read_to_stop(&c);
    child_ended_well(child);
    collector_hang_up(&c);
    assert_int_equal(dnstap_start(tap), DNSTAP_OK);
    logged[0] = 0;
    assert_int_equal(log_next(tap, 0), 1);
    close_in_order(&c, tap);
    assert_int_equal(seen.frames, 21);
    assert_int_equal(c.connections, 2);
    collector_close(&c);
}

static void test_daemonised_tap_delivers_what_was_logged_before_too(void **state)
{
    collector c;
    dnstap_options o;
    dnstap_tap *tap;
    pid_t parent;

    (void)state;
    options_for(&c, "daemon", &o);
    forget_all();
    parent = fork();
    if (!parent) {
        tap = dnstap_open(&o, NULL);
        CHILD_ASSERT(tap);
        child_logs(tap, 0, 5);
        if (fork()) _exit(0);
        setsid();
        child_start_log_close(tap, 0, 5);
    }
    child_ended_well(parent);
    collector_read_to_stop(&c);
    assert_int_equal(seen.frames, 10);
    assert_int_equal(c.connections, 1);
    collector_close(&c);
}

static void test_child_of_a_connected_tap_has_a_connection_of_its_own(void **state)
{
    collector c, own;
    dnstap_status s;
    dnstap_tap *tap;
    pid_t child;

    (void)state;
    tap = start_both(&c, "connected");
    log_many(tap, 30);
    collector_read_until(&c, 30);
    assert_int_equal(dnstap_flush(tap, PATIENCE), DNSTAP_OK); /* what came is counted, too */
    child = fork();
    if (!child) {
        CHILD_ASSERT(log_next(tap, 2) == 0); /* not the child's to send yet */
        CHILD_ASSERT(dnstap_after_fork(tap) == DNSTAP_OK);
        dnstap_get_status(tap, &s);
        CHILD_ASSERT(s.recorded == s.sent + s.queued + s.discarded && s.queued == 0);
        CHILD_ASSERT(s.discarded == 0 && s.unwanted == 1);
        logged[1] = 10;
        child_start_log_close(tap, 1, 10);
    }
    own = c;
    own.fd = -1;
    own.ends = 0;
    collector_read_to_stop(&own);
    collector_hang_up(&own);
    child_ended_well(child);
    assert_int_equal(seen.frames, 40);
    logged[1] = 20;
    log_many(tap, 30); /* the parent's connection is as it was */
    close_in_order(&c, tap);
    assert_int_equal(seen.frames, 70);
    collector_close(&c);
}

/* Wherever the parent's service is at that moment. */
static void test_books_of_a_child_balance_whenever_it_was_forked(void **state)
{
    dnstap_options o;
    dnstap_status s;
    dnstap_tap *tap;
    pid_t child;
    unsigned i, k, unbalanced = 0;
    int status;

    (void)state;
    peer_options(&o, in_folder("busy"));
    o.flush_ms = DNSTAP_FLUSH_NOW;
    tap = peer_start(&o);
    for (i = 0; i < 150; i++) {
        for (k = 0; k < 20; k++) log_next(tap, k % 3);
        child = fork();
        if (!child) {
            dnstap_after_fork(tap);
            dnstap_get_status(tap, &s);
            _exit(s.recorded == s.sent + s.queued + s.discarded ? 0 : 1);
        }
        assert_int_equal(waitpid(child, &status, 0), child);
        unbalanced += status != 0;
    }
    assert_int_equal(unbalanced, 0);
    assert_int_equal(dnstap_close(tap, PATIENCE), DNSTAP_OK);
}

/* Three children that do not call dnstap_after_fork: one only ends, one closes, one logs. */
/* What a child logs that has not called dnstap_after_fork is refused, and that is seen. */
static void child_logs_in_vain(dnstap_tap *tap, unsigned count)
{
    dnstap_status s;
    unsigned i;

    CHILD_ASSERT(!dnstap_wants(tap, DNSTAP_MSG_CLIENT_QUERY));
    for (i = 0; i < count; i++) CHILD_ASSERT(log_next(tap, 0) == 0);
    dnstap_set_enabled(tap, true);
    CHILD_ASSERT(!dnstap_wants(tap, DNSTAP_MSG_CLIENT_QUERY));
    dnstap_get_status(tap, &s);
    CHILD_ASSERT(s.unwanted == count);
}

static void test_child_that_is_not_told_disturbs_nothing(void **state)
{
    collector c;
    dnstap_tap *tap;
    unsigned kind;
    uint64_t cpu;
    pid_t child;

    (void)state;
    tap = start_both(&c, "untouched");
    for (kind = 0; kind < 3; kind++) {
        log_many(tap, 30);
        collector_read_until(&c, 30 * (kind + 1));
        collector_read(&c, 100); /* idle by now */
        child = fork();
        if (!child) {
            if (kind == 1) CHILD_ASSERT(dnstap_close(tap, 1000) == DNSTAP_OK);
            if (kind == 2) child_logs_in_vain(tap, 100);
            _exit(0);
        }
        child_ended_well(child);
        cpu = cpu_ms();
        assert_int_equal(collector_read(&c, 300), -1); /* no STOP, no end, no message */
        assert_in_range(cpu_ms() - cpu, 0, 60);
    }
    close_in_order(&c, tap);
    assert_int_equal(c.connections, 1);
    assert_int_equal(seen.frames, 90);
    collector_close(&c);
}

static int watched;
static void watch_hook(void *user, int fd, short events)
{
    (void)user, (void)fd, (void)events;
    watched++;
}

/* An epoll's descriptor is one for parent and child: what the child takes, the parent misses. */
static void test_child_says_nothing_to_the_loop_of_its_parent(void **state)
{
    collector c;
    dnstap_options o;
    dnstap_tap *tap;
    bool told;
    pid_t child;

    (void)state;
    for (told = false;; told = true) {
        options_for(&c, "loop", &o);
        o.watch = watch_hook;
        tap = open_afresh(&o);
        watched = 0;
        dnstap_service(tap);
        assert_true(watched > 0);
        child = fork();
        if (!child) {
            watched = 0;
            if (told) dnstap_after_fork(tap);
            dnstap_close(tap, 0);
            CHILD_ASSERT(watched == 0);
            _exit(0);
        }
        child_ended_well(child);
        dnstap_close(tap, 0);
        collector_close(&c);
        if (told) break;
    }
}

/* -- privileges -- */

static void in_jail(const char *where)
{
    dnstap_options o;
    dnstap_tap *tap;

    peer_options(&o, where);
    forget_all();
    tap = dnstap_open(&o, NULL);
    CHILD_ASSERT(tap);
    CHILD_ASSERT(chroot(folder) == 0 && chdir("/") == 0 && setuid(65534) == 0);
    child_start_log_close(tap, 0, 25);
}

static void test_tap_starts_behind_chroot_and_setuid(void **state)
{
    char name[64];
    static uint8_t all[1 << 16];
    oracle file;
    collector c;
    FILE *f;
    pid_t child;

    (void)state;
    if (geteuid()) skip();
    forget_all();
    assert_int_equal(chmod(folder, 0755), 0);
    collector_open(&c, "jail");
    child = fork();
    if (!child) in_jail("unix:///jail");
    collector_read_to_stop(&c);
    child_ended_well(child);
    assert_int_equal(seen.frames, 25);
    collector_close(&c);
    forget_all();
    snprintf(name, sizeof name, "%s/jail.fstrm", folder);
    snprintf(endpoint, sizeof endpoint, "file://%s", name);
    child = fork();
    if (!child) in_jail(endpoint);
    child_ended_well(child);
    f = fopen(name, "rb");
    assert_non_null(f);
    oracle_init(&file, false);
    oracle_feed(&file, all, fread(all, 1, sizeof all, f));
    fclose(f);
    assert_int_equal(file.frames, 25);
    assert_int_equal(file.phase, AT_END);
}

/* -- signals -- */

static volatile pthread_t tap_thread;
static volatile int handled, in_tap_thread, pipes;

static void on_signal(int number)
{
    if (number == SIGPIPE)
        pipes++;
    else
        handled++;
    if (pthread_equal(pthread_self(), tap_thread)) in_tap_thread++;
}

static void test_signals_are_handled_anywhere_but_in_the_taps_thread(void **state)
{
    struct sigaction action, before;
    sigset_t one, old;
    collector c;
    dnstap_tap *tap;
    uint64_t end;
    int i;

    (void)state;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    sigaction(SIGUSR1, &action, &before);
    tap = start_both(&c, "signals");
    tap_thread = tap->thread.id;
    sigemptyset(&one);
    sigaddset(&one, SIGUSR1);
    handled = in_tap_thread = 0;
    for (i = 0; i < 20; i++) { /* blocked here, it would have to run in the tap's thread */
        pthread_sigmask(SIG_BLOCK, &one, &old);
        kill(getpid(), SIGUSR1);
        log_many(tap, 1);
        collector_read_until(&c, (uint64_t)i + 1);
        pthread_sigmask(SIG_SETMASK, &old, NULL);
    }
    for (end = real_ms() + PATIENCE; handled < 20 && real_ms() < end;) poll(NULL, 0, 1);
    assert_int_equal(handled, 20);
    assert_int_equal(in_tap_thread, 0);
    end_both(&c, tap);
    sigaction(SIGUSR1, &before, NULL);
}

static void no_pipe_signal(const char *name)
{
    collector c;
    dnstap_options o;
    dnstap_tap *tap;
    uint64_t end = real_ms() + PATIENCE;
    dnstap_status s;

    options_for(&c, name, &o);
    tap = open_afresh(&o);
    do {
        dnstap_service(tap);
        if (c.fd < 0 && readable(c.listener, 0)) collector_accept(&c);
        if (c.fd >= 0) collector_read(&c, 0);
        dnstap_get_status(tap, &s);
        assert_true(real_ms() < end);
    } while (s.state != DNSTAP_STARTED);
    log_many(tap, 300);
    collector_close(&c);
    dnstap_service(tap);
    log_many(tap, 300);
    dnstap_service(tap);
    assert_int_equal(pipes, 0);
    dnstap_close(tap, 0);
}

static void test_writing_to_a_dead_collector_raises_no_signal(void **state)
{
    struct sigaction action, before;

    (void)state;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    sigaction(SIGPIPE, &action, &before);
    pipes = 0;
    no_pipe_signal("dead");
    no_pipe_signal(NULL);
    sigaction(SIGPIPE, &before, NULL);
}

/* ---- locked memory ---- */

/* How many bytes of a block are resident, when a tap of these options has been opened in it. */
static size_t resident(const dnstap_options *o)
{
    static unsigned char pages[1 << 16];
    size_t page = (size_t)sysconf(_SC_PAGESIZE), size = dnstap_memory_size(o), n = 0, i;
    void *block = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    dnstap_tap *tap;

    assert_true(block != MAP_FAILED);
    tap = dnstap_open_in(block, size, o, NULL);
    assert_non_null(tap);
    assert_true(size / page + 1 < sizeof pages);
    assert_int_equal(mincore(block, size, pages), 0);
    for (i = 0; i < (size + page - 1) / page; i++) n += pages[i] & 1;
    dnstap_close(tap, 0);
    munmap(block, size);
    return n * page;
}

/* The sanitizer has an mlockall of its own, which does nothing. */
static bool lock_memory(int how) { return syscall(SYS_mlockall, how) == 0; }

static void test_locked_rings_are_resident_to_their_end(void **state)
{
    enum { SMALL = 1 << 18, ON_FAULT = 4 };
    dnstap_options o, few;

    (void)state;
    memset(&o, 0, sizeof o);
    o.endpoint = "/tmp/x";
    o.full = true;
    few = o;
    few.producers = 1;
    few.ring_size = SMALL;
    assert_true(resident(&o) < 1 << 20);
    if (!lock_memory(MCL_FUTURE)) skip();
    assert_true(resident(&o) >= 72u << 20 && resident(&o) < 73u << 20);
    assert_true(resident(&few) >= 2 * SMALL && resident(&few) < 3 * SMALL);
    if (lock_memory(MCL_FUTURE | ON_FAULT)) assert_true(resident(&o) < 1 << 20);
    assert_int_equal(syscall(SYS_munlockall), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_process_may_start_what_was_opened_before_the_fork),
        cmocka_unit_test(test_daemonised_tap_delivers_what_was_logged_before_too),
        cmocka_unit_test(test_child_of_a_connected_tap_has_a_connection_of_its_own),
        cmocka_unit_test(test_books_of_a_child_balance_whenever_it_was_forked),
        cmocka_unit_test(test_child_that_is_not_told_disturbs_nothing),
        cmocka_unit_test(test_child_says_nothing_to_the_loop_of_its_parent),
        cmocka_unit_test(test_tap_starts_behind_chroot_and_setuid),
        cmocka_unit_test(test_signals_are_handled_anywhere_but_in_the_taps_thread),
        cmocka_unit_test(test_writing_to_a_dead_collector_raises_no_signal),
        cmocka_unit_test(test_locked_rings_are_resident_to_their_end),
    };

    return RUN_TESTS(tests, make_folder, drop_folder);
}
