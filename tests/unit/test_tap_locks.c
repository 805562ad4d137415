/* Who may write a file: one tap in one process, whatever was forked and from where, and the next
 * one as soon as that lets go. A child tells by its exit status what it saw. */
#define _GNU_SOURCE
#define DNSTAP_IMPLEMENTATION
#include "dnstap.h"
#include "tap_support.h"
#include "tap_file.h"

static dnstap_tap *start_on(const char *name)
{
    static char own[80]; /* outlives the next in_folder */
    dnstap_options o;
    dnstap_error error;
    dnstap_tap *tap;

    peer_options(&o, in_folder(name));
    strcpy(own, endpoint);
    o.endpoint = own;
    tap = dnstap_open(&o, &error);
    if (!tap) fail_msg("%s", error.text);
    assert_int_equal(dnstap_start(tap), DNSTAP_OK);
    return tap;
}

static dnstap_tap *writer_of(const char *name)
{
    dnstap_tap *tap = start_on(name);

    log_many(tap, 20);
    assert_int_equal(dnstap_flush(tap, PATIENCE), DNSTAP_OK);
    return tap;
}

/* The tap waits for another, and says so. */
static void waits_for(dnstap_tap *tap, const char *text)
{
    dnstap_status s;

    wait_for_state(tap, DNSTAP_BROKEN, &s);
    assert_int_equal(s.error.sys_errno, EWOULDBLOCK);
    if (!strstr(s.error.text, text)) fail_msg("%s", s.error.text);
    assert_non_null(strstr(s.error.text, "must let go first"));
}

static void close_well(dnstap_tap *tap)
{
    assert_int_equal(dnstap_close(tap, PATIENCE), DNSTAP_OK);
}

/* Two processes that speak in turn: a byte each. */
static int to_child[2], to_parent[2];

static pid_t fork_talking(void)
{
    assert_int_equal(pipe(to_child), 0);
    assert_int_equal(pipe(to_parent), 0);
    return fork();
}

static void say_over(const int fds[2])
{
    if (write(fds[1], "", 1) != 1) abort();
}

static void hear_from(const int fds[2])
{
    char byte;

    if (!readable(fds[0], PATIENCE) || read(fds[0], &byte, 1) != 1) abort();
}

static void end_of(pid_t child)
{
    child_ended_well(child);
    close(to_child[0]), close(to_child[1]), close(to_parent[0]), close(to_parent[1]);
}

/* A child that does nothing but live on with what it inherited. */
static pid_t fork_idler(void)
{
    pid_t child = fork_talking();

    if (child) return child;
    hear_from(to_child);
    _exit(0);
}

static void release(pid_t idler)
{
    say_over(to_child);
    end_of(idler);
}

static void test_second_tap_on_a_file_waits_until_the_first_lets_go(void **state)
{
    dnstap_tap *first, *second;

    (void)state;
    forget_all();
    forget_log();
    first = writer_of("shared");
    second = start_on("shared");
    waits_for(second, "another tap has it");
    log_many(first, 20);
    log_many(second, 20);
    close_well(first);
    assert_int_equal(dnstap_flush(second, PATIENCE), DNSTAP_OK);
    close_well(second);
    assert_int_equal(check_file(path), 60);
    assert_int_equal(said.lost, 1);
    assert_int_equal(said.back, 1);
}

static void test_second_process_waits_and_names_the_first(void **state)
{
    dnstap_tap *tap;
    char text[64];
    pid_t child;

    (void)state;
    forget_all();
    child = fork_talking();
    if (!child) {
        tap = writer_of("handed-over");
        say_over(to_parent);
        hear_from(to_child);
        close_well(tap);
        _exit(0);
    }
    hear_from(to_parent);
    memcpy(logged, (uint64_t[]){7, 7, 6}, 3 * sizeof *logged); /* as the child has logged */
    tap = start_on("handed-over");
    snprintf(text, sizeof text, "process %d writes it", (int)child);
    waits_for(tap, text);
    log_many(tap, 20);
    say_over(to_child);
    assert_int_equal(dnstap_flush(tap, PATIENCE), DNSTAP_OK);
    close_well(tap);
    end_of(child);
    assert_int_equal(check_file(path), 40);
}

/* Its flock would be the child's, too, until that ends. */
static void test_forked_child_that_lives_on_keeps_no_file_from_its_parent(void **state)
{
    dnstap_status s;
    dnstap_tap *tap;
    pid_t idler;

    (void)state;
    forget_all();
    tap = writer_of("inherited");
    idler = fork_idler();
    assert_int_equal(dnstap_reopen(tap), DNSTAP_OK); /* the same file is at its path */
    log_many(tap, 20);
    assert_int_equal(dnstap_flush(tap, PATIENCE), DNSTAP_OK);
    dnstap_get_status(tap, &s);
    assert_int_equal(s.failures, 0);
    close_well(tap);
    tap = writer_of("inherited");
    dnstap_get_status(tap, &s);
    assert_int_equal(s.failures, 0);
    close_well(tap);
    release(idler);
    assert_int_equal(check_file(path), 60);
}

static void test_tap_that_was_never_started_leaves_no_lock_to_a_child(void **state)
{
    dnstap_options o;
    dnstap_status s;
    dnstap_tap *tap;
    pid_t idler;

    (void)state;
    peer_options(&o, in_folder("unstarted"));
    tap = open_afresh(&o);
    idler = fork_idler();
    close_well(tap);
    tap = writer_of("unstarted");
    dnstap_get_status(tap, &s);
    assert_int_equal(s.failures, 0);
    close_well(tap);
    release(idler);
}

/* The parent goes on; a third party stays out. */
static void test_child_that_closes_its_copy_unlocks_nothing(void **state)
{
    dnstap_tap *tap, *other;
    pid_t child;
    int told;

    (void)state;
    forget_all();
    tap = writer_of("mine");
    for (told = 0; told < 2; told++) {
        child = fork();
        if (!child) {
            if (told) CHILD_ASSERT(dnstap_after_fork(tap) == DNSTAP_OK);
            CHILD_ASSERT(dnstap_close(tap, 0) == DNSTAP_OK);
            _exit(0);
        }
        child_ended_well(child);
        other = start_on("mine");
        waits_for(other, "another tap has it");
        dnstap_close(other, 0);
    }
    log_many(tap, 5);
    close_well(tap);
    assert_int_equal(check_file(path), 25);
}

/* -- opened once, started in several workers -- */

static void worker(dnstap_tap *tap, bool first, bool killed)
{
    dnstap_status s;

    if (!first) hear_from(to_child);
    CHILD_ASSERT(dnstap_start(tap) == DNSTAP_OK);
    log_many(tap, 30);
    if (first) {
        CHILD_ASSERT(dnstap_flush(tap, PATIENCE) == DNSTAP_OK);
        say_over(to_child);
        hear_from(to_parent);
        if (killed) _exit(0);
    } else {
        wait_for_state(tap, DNSTAP_BROKEN, &s);
        CHILD_ASSERT(strstr(s.error.text, "writes it, and must let go first"));
        CHILD_ASSERT(s.sent == 0);
        say_over(to_parent);
    }
    CHILD_ASSERT(dnstap_close(tap, PATIENCE) == DNSTAP_OK);
    _exit(0);
}

static void pre_fork(const char *name, bool killed)
{
    dnstap_options o;
    dnstap_tap *tap;
    pid_t first, second;

    peer_options(&o, in_folder(name));
    tap = open_afresh(&o);
    assert_int_equal(pipe(to_child), 0);
    assert_int_equal(pipe(to_parent), 0);
    first = fork();
    if (!first) worker(tap, true, killed);
    memcpy(logged, (uint64_t[]){10, 10, 10}, 3 * sizeof *logged);
    second = fork();
    if (!second) worker(tap, false, false);
    child_ended_well(first);
    end_of(second);
    close_well(tap);
    assert_int_equal(check_file(path), 60);
}

static void test_of_forked_workers_one_writes_and_the_others_follow(void **state)
{
    (void)state;
    pre_fork("workers", false);
    pre_fork("killed-worker", true);
}

/* -- waiting -- */

static void test_tap_that_waits_follows_a_rotation(void **state)
{
    dnstap_tap *first, *second;
    dnstap_status s;
    char old[96];

    (void)state;
    forget_all();
    first = writer_of("turned");
    second = start_on("turned");
    waits_for(second, "another tap has it");
    snprintf(old, sizeof old, "%s.0", path);
    assert_int_equal(rename(path, old), 0);
    assert_int_equal(dnstap_reopen(first), DNSTAP_OK);
    assert_int_equal(dnstap_flush(first, PATIENCE), DNSTAP_OK);
    log_many(first, 20);
    log_many(second, 20);
    assert_int_equal(dnstap_flush(second, 1000), DNSTAP_TIMEOUT); /* the old one has no lock now */
    dnstap_get_status(second, &s);
    assert_int_equal(s.sent, 0);
    close_well(first);
    close_well(second);
    assert_int_equal(check_file(old), 20);
    assert_int_equal(check_file(path), 40);
}

/* What it opened with the tap it has, though it could not open it any more. */
static void test_tap_that_waits_needs_its_path_no_more(void **state)
{
    dnstap_tap *first, *second;
    dnstap_options o;
    pid_t child;

    (void)state;
    if (geteuid()) skip();
    assert_int_equal(mkdir(in_folder("jail") + 7, 0755), 0);
    forget_all();
    first = writer_of("waited-for");
    child = fork_talking();
    if (!child) {
        peer_options(&o, in_folder("waited-for"));
        second = dnstap_open(&o, NULL);
        CHILD_ASSERT(second);
        in_folder("jail");
        CHILD_ASSERT(chroot(path) == 0 && chdir("/") == 0 && setuid(65534) == 0);
        CHILD_ASSERT(dnstap_start(second) == DNSTAP_OK);
        waits_for(second, "writes it");
        log_many(second, 20);
        say_over(to_parent);
        CHILD_ASSERT(dnstap_close(second, PATIENCE) == DNSTAP_OK);
        _exit(0);
    }
    hear_from(to_parent);
    close_well(first);
    end_of(child);
    in_folder("jail");
    rmdir(path);
    in_folder("waited-for");
    assert_int_equal(check_file(path), 40);
}

/* A file that another writes is not begun anew. */
static void test_overwrite_spares_what_another_writes(void **state)
{
    dnstap_options o;
    dnstap_tap *first, *second;

    (void)state;
    forget_all();
    first = writer_of("spared");
    peer_options(&o, endpoint);
    o.overwrite = true;
    second = dnstap_open(&o, NULL);
    assert_non_null(second);
    dnstap_start(second);
    waits_for(second, "another tap has it");
    log_many(second, 20);
    close_well(first);
    close_well(second);
    assert_int_equal(check_file(path), 40);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_second_tap_on_a_file_waits_until_the_first_lets_go),
        cmocka_unit_test(test_second_process_waits_and_names_the_first),
        cmocka_unit_test(test_forked_child_that_lives_on_keeps_no_file_from_its_parent),
        cmocka_unit_test(test_tap_that_was_never_started_leaves_no_lock_to_a_child),
        cmocka_unit_test(test_child_that_closes_its_copy_unlocks_nothing),
        cmocka_unit_test(test_of_forked_workers_one_writes_and_the_others_follow),
        cmocka_unit_test(test_tap_that_waits_follows_a_rotation),
        cmocka_unit_test(test_tap_that_waits_needs_its_path_no_more),
        cmocka_unit_test(test_overwrite_spares_what_another_writes),
    };

    return RUN_TESTS(tests, make_folder, drop_folder);
}
