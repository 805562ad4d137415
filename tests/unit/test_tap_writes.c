/* What a tap's writes may do to the program around it: no signal, no processor burnt, no loop held
 * up; on a full disk, behind a file-size limit, into what is no file. */
#define _GNU_SOURCE
#define DNSTAP_IMPLEMENTATION
#include "dnstap.h"
#include "tap_support.h"
#include "tap_file.h"
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/sysmacros.h>
#include <termios.h>

/* -- signals -- */

static void limit_files(rlim_t bytes)
{
    struct rlimit limit;

    getrlimit(RLIMIT_FSIZE, &limit);
    limit.rlim_cur = bytes == RLIM_INFINITY ? limit.rlim_max : bytes;
    CHILD_ASSERT(setrlimit(RLIMIT_FSIZE, &limit) == 0);
}

/* Turns of an own loop, or the time the tap's thread needs for as many. */
static void turns(dnstap_tap *tap, bool thread, unsigned count)
{
    while (count--) {
        if (!thread) dnstap_service(tap);
        poll(NULL, 0, 1);
    }
}

static void none_is_pending(void)
{
    sigset_t pending;

    sigpending(&pending);
    CHILD_ASSERT(!sigismember(&pending, SIGXFSZ) && !sigismember(&pending, SIGPIPE));
}

/* Before the tap is opened, or while it writes; SIGXFSZ as it is by default, or held back. */
static void write_beyond_the_limit(bool thread, rlim_t limit, bool held)
{
    dnstap_options o;
    dnstap_status s;
    dnstap_tap *tap;
    sigset_t set, mask;

    signal(SIGXFSZ, SIG_DFL);
    sigemptyset(&set);
    sigaddset(&set, SIGXFSZ);
    sigprocmask(held ? SIG_BLOCK : SIG_UNBLOCK, &set, NULL);
    limit_files(limit);
    peer_options(&o, in_folder("limited"));
    unlink(path);
    tap = open_afresh(&o);
    if (thread) CHILD_ASSERT(dnstap_start(tap) == DNSTAP_OK);
    log_many(tap, 200);
    do {
        turns(tap, thread, 5);
        dnstap_get_status(tap, &s);
    } while (s.failures < 2);
    CHILD_ASSERT(s.error.sys_errno == EFBIG && s.queued > 0);
    none_is_pending();
    sigprocmask(SIG_BLOCK, NULL, &mask);
    CHILD_ASSERT(sigismember(&mask, SIGXFSZ) == (int)held && !sigismember(&mask, SIGPIPE));
    limit_files(RLIM_INFINITY);
    CHILD_ASSERT(dnstap_close(tap, PATIENCE) == DNSTAP_OK);
    CHILD_ASSERT(check_file(path) == 200);
    _exit(0);
}

static void test_file_size_limit_raises_no_signal(void **state)
{
    static const rlim_t limits[] = {0, 20, 4096};
    unsigned i;
    pid_t child;

    (void)state;
    for (i = 0; i < 12; i++) {
        child = fork();
        if (!child) write_beyond_the_limit(i & 1, limits[i / 4], i & 2);
        child_ended_well(child);
    }
}

/* A process in the background of a terminal that stops such ones when they write. */
static void write_in_the_background(const char *terminal)
{
    dnstap_options o;
    dnstap_tap *tap;
    char name[80];

    snprintf(name, sizeof name, "file://%s", terminal);
    setpgid(0, 0);
    peer_options(&o, name);
    tap = open_afresh(&o);
    log_many(tap, 3);
    turns(tap, false, 5);
    CHILD_ASSERT(dnstap_close(tap, PATIENCE) == DNSTAP_OK);
    _exit(0);
}

static void session_of(const char *terminal)
{
    struct termios mode;
    int fd, status;
    pid_t child;

    setsid();
    fd = open(terminal, O_RDWR);
    CHILD_ASSERT(fd >= 0 && ioctl(fd, TIOCSCTTY, 0) == 0 && tcgetattr(fd, &mode) == 0);
    mode.c_lflag |= TOSTOP;
    CHILD_ASSERT(tcsetattr(fd, TCSANOW, &mode) == 0);
    child = fork();
    if (!child) write_in_the_background(terminal);
    CHILD_ASSERT(waitpid(child, &status, WUNTRACED) == child);
    if (WIFSTOPPED(status)) kill(child, SIGKILL);
    CHILD_ASSERT(status == 0);
    _exit(0);
}

static void test_terminal_in_the_background_does_not_stop_the_program(void **state)
{
    int master = posix_openpt(O_RDWR | O_NOCTTY);
    pid_t child;

    (void)state;
    if (master < 0 || grantpt(master) < 0 || unlockpt(master) < 0) skip();
    child = fork();
    if (!child) session_of(ptsname(master));
    child_ended_well(child);
    close(master);
}

/* -- what is no file -- */

static unsigned wake_ups(dnstap_tap *tap, uint64_t ms)
{
    struct pollfd fds[DNSTAP_POLLFDS];
    uint64_t end = real_ms() + ms;
    unsigned count = 0;
    int timeout, n;

    while (real_ms() < end) {
        n = dnstap_pollfds(tap, fds, DNSTAP_POLLFDS, &timeout);
        if (timeout < 0 || timeout > 50) timeout = 50;
        count += poll(fds, (nfds_t)n, timeout) > 0;
        dnstap_service(tap);
    }
    return count;
}

static void costs_nothing(const char *where)
{
    dnstap_options o;
    dnstap_status s;
    dnstap_tap *tap;
    uint64_t cpu;

    peer_options(&o, where);
    tap = open_afresh(&o);
    log_many(tap, 3);
    assert_int_equal(dnstap_flush(tap, PATIENCE), DNSTAP_OK);
    assert_in_range(wake_ups(tap, 300), 0, 10);
    assert_int_equal(dnstap_start(tap), DNSTAP_OK);
    log_many(tap, 3);
    assert_int_equal(dnstap_flush(tap, PATIENCE), DNSTAP_OK);
    cpu = cpu_ms();
    poll(NULL, 0, 300);
    assert_in_range(cpu_ms() - cpu, 0, 60);
    dnstap_get_status(tap, &s);
    assert_int_equal(s.sent, 6);
    assert_int_equal(dnstap_close(tap, PATIENCE), DNSTAP_OK);
}

/* Their descriptors are always readable: the pipe's holds what was written. */
static void test_pipe_and_device_cost_no_processor(void **state)
{
    (void)state;
    costs_nothing("file:///dev/null");
    assert_int_equal(mkfifo(in_folder("lazy") + 7, 0600), 0);
    costs_nothing(endpoint);
}

static void test_full_pipe_is_no_error_and_is_waited_for(void **state)
{
    static uint8_t block[1 << 16];
    oracle stream;
    dnstap_options o;
    dnstap_status s;
    dnstap_tap *tap;
    closing it;
    ssize_t n;
    int fd;

    (void)state;
    assert_int_equal(mkfifo(in_folder("full") + 7, 0600), 0);
    fd = open(path, O_RDWR | O_NONBLOCK);
    while (write(fd, block, 4096) > 0) {
    }
    peer_options(&o, endpoint);
    o.timeout_ms = 200;
    tap = peer_start(&o);
    log_many(tap, 3);
    wait_for_state(tap, DNSTAP_BROKEN, &s);
    assert_non_null(strstr(s.error.text, "no progress in 200 ms while connecting"));
    while (read(fd, block, sizeof block) > 0) {
    }
    oracle_init(&stream, false);
    close_begin(&it, tap, PATIENCE);
    while (stream.phase != AT_END) {
        assert_true(readable(fd, PATIENCE));
        n = read(fd, block, sizeof block);
        if (n > 0) oracle_feed(&stream, block, (size_t)n);
    }
    close_end(&it);
    assert_int_equal(stream.frames, 3);
    close(fd);
}

static void refused_with(const char *where, int sys_errno, const char *text)
{
    dnstap_options o;
    dnstap_error error;

    peer_options(&o, where);
    assert_null(dnstap_open(&o, &error));
    assert_int_equal(error.sys_errno, sys_errno);
    if (!strstr(error.text, text)) fail_msg("%s", error.text);
}

static void test_socket_is_no_file(void **state)
{
    collector c;

    (void)state;
    collector_open(&c, "socket");
    refused_with(in_folder("socket"), ENXIO, "is no file; for a socket use unix://");
    collector_close(&c);
}

/* The first loop device, whether or not it is bound to something. */
static void test_disk_is_refused(void **state)
{
    int fd;

    (void)state;
    if (mknod(in_folder("disk") + 7, S_IFBLK | 0600, makedev(7, 0))) skip();
    fd = open(path, O_RDONLY);
    if (fd < 0) skip();
    close(fd);
    refused_with(endpoint, 0, "is a disk; give the path of a file");
}

/* A path alone is a socket's, whatever its name says. */
static void hints(const char *where, const char *text, bool there)
{
    dnstap_options o;
    dnstap_status s;
    dnstap_tap *tap;

    peer_options(&o, where);
    tap = peer_start(&o);
    wait_for_state(tap, DNSTAP_BROKEN, &s);
    if (!strstr(s.error.text, text) != !there) fail_msg("%s", s.error.text);
    dnstap_close(tap, 0);
}

static void test_path_that_was_meant_as_a_file_gets_a_hint(void **state)
{
    (void)state;
    in_folder("log.fstrm");
    hints(path, "No such file or directory; for a file write file:// before its path", true);
    hints(endpoint + 7, "write file://", true);
    write_file(path, "x", 1);
    hints(path, "it is no socket; a file is written with file:// before its path", true);
    hints("unix:///dev/null", "it is no socket", true);
    hints("/dev/null", "it is no socket", true);
    hints("unix:///nowhere/to/be/found", "file://", false);
}

/* -- a turn -- */

enum { BUDGET = 262144, LARGEST = 4096, A_LOT = 3000 };

/* Each turn sends no more than the budget, the next is due at once, and in the end all is sent. */
static unsigned turns_within_the_budget(dnstap_tap *tap)
{
    struct pollfd fds[DNSTAP_POLLFDS];
    dnstap_status s;
    uint64_t before = 0;
    unsigned count = 0;
    int timeout;

    dnstap_get_status(tap, &s);
    for (count = 0; s.queued; count++) {
        before = s.bytes;
        dnstap_service(tap);
        dnstap_get_status(tap, &s);
        assert_in_range(s.bytes - before, 0, BUDGET + LARGEST);
        dnstap_pollfds(tap, fds, DNSTAP_POLLFDS, &timeout);
        if (s.queued && s.bytes != before) assert_int_equal(timeout, 0);
        assert_true(count < 10000);
    }
    return count;
}

static void log_a_lot(dnstap_tap *tap)
{
    uint8_t large[1000];
    dnstap_message m;
    unsigned i;

    memset(large, 7, sizeof large);
    dnstap_message_start(&m, DNSTAP_MSG_CLIENT_QUERY);
    m.query_message = dnstap_bytes_of(large, sizeof large);
    for (i = 0; i < A_LOT; i++) assert_int_equal(dnstap_log_as(tap, 0, &m), 1);
}

static void test_one_turn_holds_no_loop_up(void **state)
{
    dnstap_options o;
    dnstap_tap *tap;

    (void)state;
    peer_options(&o, in_folder("large"));
    o.ring_size = 1 << 22;
    tap = open_afresh(&o);
    log_a_lot(tap);
    assert_in_range(turns_within_the_budget(tap), 12, 100);
    assert_int_equal(dnstap_close(tap, PATIENCE), DNSTAP_OK);
}

/* A reader that takes all there is, in a process of its own. */
static void swallow(collector *c)
{
    static uint8_t block[1 << 16];

    collector_accept(c);
    fcntl(c->fd, F_SETFL, 0);
    if (read(c->fd, block, sizeof block) <= 0) _exit(1);
    collector_send(c, DNSTAP_CONTROL_ACCEPT);
    while (read(c->fd, block, sizeof block) > 0) {
    }
    _exit(0);
}

static void test_one_turn_to_a_socket_holds_no_loop_up(void **state)
{
    dnstap_options o;
    dnstap_tap *tap;
    collector c;
    pid_t child;

    (void)state;
    collector_open(&c, NULL); /* a socket with a large buffer */
    child = fork();
    if (!child) swallow(&c);
    peer_options(&o, c.endpoint);
    o.ring_size = 1 << 22;
    o.writebuffer = 8;
    tap = open_afresh(&o);
    log_a_lot(tap);
    turns_within_the_budget(tap);
    dnstap_close(tap, 0);
    child_ended_well(child);
    collector_close(&c);
}

/* Takes what has come to each. */
static void drain(const int fds[3], size_t taken[3])
{
    static uint8_t block[1 << 16];
    unsigned i;
    ssize_t n;

    for (i = 0; i < 3; i++)
        while ((n = recv(fds[i], block, sizeof block, MSG_DONTWAIT)) > 0) taken[i] += (size_t)n;
}

static void test_one_turn_to_many_sinks_holds_no_loop_up(void **state)
{
    struct sockaddr_un to;
    dnstap_options o;
    dnstap_status s;
    dnstap_tap *tap;
    size_t taken[3] = {0, 0, 0};
    uint64_t before;
    unsigned i, turns;
    int fds[3];

    (void)state;
    memset(&to, 0, sizeof to);
    to.sun_family = AF_UNIX;
    snprintf(to.sun_path, sizeof to.sun_path, "%s/many", folder);
    peer_options(&o, to.sun_path);
    o.ring_size = 1 << 22;
    o.listen = o.unidirectional = true;
    tap = open_afresh(&o);
    for (i = 0; i < 3; i++) {
        fds[i] = socket(AF_UNIX, SOCK_STREAM, 0);
        assert_int_equal(connect(fds[i], (struct sockaddr *)&to, sizeof to), 0);
    }
    do {
        dnstap_service(tap);
        dnstap_get_status(tap, &s);
    } while (s.sinks < 3);
    log_a_lot(tap);
    dnstap_get_status(tap, &s);
    for (turns = 0; s.behind || !turns; turns++) {
        before = s.bytes;
        dnstap_service(tap);
        dnstap_get_status(tap, &s);
        assert_in_range(s.bytes - before, 0, BUDGET + LARGEST);
        assert_int_equal(s.sinks, 3);
        drain(fds, taken);
        if (turns == 10)
            for (i = 0; i < 3; i++) assert_true(taken[i] > 42); /* all had their turns */
        assert_true(turns < 1000);
    }
    assert_true(turns > 10);
    for (i = 0; i < 3; i++) {
        assert_int_equal(taken[i], taken[0]);
        close(fds[i]);
    }
    assert_int_equal(taken[0], 42 + s.bytes / 3);
    dnstap_close(tap, 0);
}

static void test_long_file_is_looked_through_in_many_turns(void **state)
{
    dnstap_options o;
    dnstap_status s;
    dnstap_tap *tap;
    char old[96];
    unsigned count = 0;

    (void)state;
    peer_options(&o, in_folder("long"));
    o.ring_size = 1 << 22;
    tap = open_afresh(&o);
    for (count = 0; count < 3; count++) {
        log_a_lot(tap);
        assert_int_equal(dnstap_flush(tap, PATIENCE), DNSTAP_OK);
    }
    snprintf(old, sizeof old, "%s.old", path);
    assert_int_equal(rename(path, old), 0);
    assert_int_equal(dnstap_reopen(tap), DNSTAP_OK);
    assert_int_equal(dnstap_flush(tap, PATIENCE), DNSTAP_OK);
    assert_int_equal(rename(old, path), 0);
    assert_int_equal(dnstap_reopen(tap), DNSTAP_OK);
    for (count = 0, s.connects = 0; s.connects < 3; count++) {
        dnstap_service(tap);
        dnstap_get_status(tap, &s);
        assert_int_equal(s.failures, 0);
        assert_true(count < 1000);
    }
    assert_in_range(count, 5, 50); /* 9 MB */
    log_a_lot(tap);
    assert_int_equal(dnstap_close(tap, PATIENCE), DNSTAP_OK);
    unlink(path);
}

/* -- a full disk from the start -- */

static void test_tap_opens_on_a_full_disk_and_begins_when_there_is_room(void **state)
{
    char where[64], name[80], filler[80], end[96];
    dnstap_options o;
    dnstap_status s;
    dnstap_tap *tap;

    (void)state;
    if (!mount_small(where, sizeof where)) skip();
    snprintf(name, sizeof name, "%s/tap", where);
    snprintf(filler, sizeof filler, "%s/filler", where);
    snprintf(end, sizeof end, "file://%s", name);
    fill(filler);
    peer_options(&o, end);
    tap = peer_start(&o);
    log_many(tap, 30);
    wait_for_state(tap, DNSTAP_BROKEN, &s);
    assert_int_equal(s.error.sys_errno, ENOSPC);
    assert_non_null(strstr(s.error.text, "write: No space left"));
    unlink(filler);
    assert_int_equal(dnstap_flush(tap, PATIENCE), DNSTAP_OK);
    assert_int_equal(dnstap_close(tap, PATIENCE), DNSTAP_OK);
    assert_int_equal(check_file(name), 30);
    assert_int_equal(said.lost, 1);
    assert_int_equal(said.back, 1);
    unlink(name);
    umount(where);
    rmdir(where);
}

/* Without room for a name there is not even a descriptor. */
static void test_tap_opens_where_no_file_can_be_made_for_want_of_room(void **state)
{
    char where[64], name[80], filler[80], end[96];
    dnstap_options o;
    dnstap_status s;
    dnstap_tap *tap;

    (void)state;
    snprintf(where, sizeof where, "%s/small", folder);
    mkdir(where, 0700);
    if (mount("dnstap-unit", where, "tmpfs", 0, "nr_inodes=2")) skip();
    snprintf(name, sizeof name, "%s/tap", where);
    snprintf(filler, sizeof filler, "%s/filler", where);
    snprintf(end, sizeof end, "file://%s", name);
    write_file(filler, "", 0);
    peer_options(&o, end);
    tap = peer_start(&o);
    log_many(tap, 30);
    wait_for_state(tap, DNSTAP_BROKEN, &s);
    assert_non_null(strstr(s.error.text, "open: No space left"));
    unlink(filler);
    assert_int_equal(dnstap_close(tap, PATIENCE), DNSTAP_OK);
    assert_int_equal(check_file(name), 30);
    unlink(name);
    umount(where);
    rmdir(where);
}

static void test_device_that_is_full_is_reported_and_tried_again(void **state)
{
    dnstap_options o;
    dnstap_status s;
    dnstap_tap *tap;

    (void)state;
    peer_options(&o, "file:///dev/full");
    tap = peer_start(&o);
    do dnstap_get_status(tap, &s);
    while (s.failures < 2);
    assert_int_equal(s.error.sys_errno, ENOSPC);
    assert_int_equal(said.lines, 1);
    dnstap_close(tap, 0);
}

/* -- reopen -- */

static void rotate(dnstap_tap *tap, unsigned number)
{
    char old[96];

    snprintf(old, sizeof old, "%s.%u", path, number);
    log_many(tap, 20);
    assert_int_equal(rename(path, old), 0);
    assert_int_equal(dnstap_reopen(tap), DNSTAP_OK);
    assert_int_equal(dnstap_flush(tap, PATIENCE), DNSTAP_OK);
    assert_int_equal(check_file(old), 20); /* and it has its STOP */
    assert_int_equal(access(path, F_OK), 0);
}

static void test_flush_after_reopen_waits_until_the_old_file_is_final(void **state)
{
    dnstap_options o;
    dnstap_tap *tap;
    unsigned i;

    (void)state;
    peer_options(&o, in_folder("rotated"));
    tap = open_afresh(&o);
    dnstap_service(tap);
    for (i = 0; i < 20; i++) rotate(tap, i);
    assert_int_equal(dnstap_start(tap), DNSTAP_OK);
    for (; i < 100; i++) rotate(tap, i);
    assert_int_equal(dnstap_flush(tap, 0), DNSTAP_OK); /* nothing is asked for any more */
    assert_int_equal(dnstap_close(tap, PATIENCE), DNSTAP_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_file_size_limit_raises_no_signal),
        cmocka_unit_test(test_terminal_in_the_background_does_not_stop_the_program),
        cmocka_unit_test(test_pipe_and_device_cost_no_processor),
        cmocka_unit_test(test_full_pipe_is_no_error_and_is_waited_for),
        cmocka_unit_test(test_socket_is_no_file),
        cmocka_unit_test(test_disk_is_refused),
        cmocka_unit_test(test_path_that_was_meant_as_a_file_gets_a_hint),
        cmocka_unit_test(test_one_turn_holds_no_loop_up),
        cmocka_unit_test(test_one_turn_to_a_socket_holds_no_loop_up),
        cmocka_unit_test(test_one_turn_to_many_sinks_holds_no_loop_up),
        cmocka_unit_test(test_long_file_is_looked_through_in_many_turns),
        cmocka_unit_test(test_tap_opens_on_a_full_disk_and_begins_when_there_is_room),
        cmocka_unit_test(test_tap_opens_where_no_file_can_be_made_for_want_of_room),
        cmocka_unit_test(test_device_that_is_full_is_reported_and_tried_again),
        cmocka_unit_test(test_flush_after_reopen_waits_until_the_old_file_is_final),
    };

    return RUN_TESTS(tests, make_folder, drop_folder);
}
