/* A tap and its file: refused, continued, begun anew, rotated under load, on a full disk. */
#define _GNU_SOURCE
#define DNSTAP_IMPLEMENTATION
#include "dnstap.h"
#include "tap_support.h"
#include "tap_file.h"

/* Logs so many more, through a tap of their own, which goes on with the numbers. */
static void append(const char *name, unsigned count, bool overwrite)
{
    dnstap_options o;
    dnstap_error error;
    dnstap_tap *tap;

    peer_options(&o, in_folder(name));
    o.overwrite = overwrite;
    tap = dnstap_open(&o, &error);
    if (!tap) fail_msg("%s", error.text);
    assert_int_equal(dnstap_start(tap), DNSTAP_OK);
    log_many(tap, count);
    assert_int_equal(dnstap_close(tap, PATIENCE), DNSTAP_OK);
}

static void test_file_closed_without_messages_has_start_and_stop(void **state)
{
    uint64_t start = real_ms();

    (void)state;
    forget_all();
    append("empty", 0, false);
    assert_int_equal(check_file(path), 0);
    append("empty", 0, false);
    assert_int_equal(check_file(path), 0);
    assert_in_range(real_ms() - start, 0, 1000);
}

static void test_file_is_continued_behind_its_last_message(void **state)
{
    (void)state;
    forget_all();
    append("longer", 100, false);
    append("longer", 100, false);
    append("longer", 0, false);
    append("longer", 1, false);
    assert_int_equal(check_file(path), 201);
}

/* Cut anywhere behind START, as by a crash, a file is continued with what it has whole. */
static void test_torn_file_is_continued_behind_its_last_whole_message(void **state)
{
    static uint8_t all[1 << 16];
    oracle torn;
    size_t size, cut;

    (void)state;
    forget_all();
    append("torn", 12, false);
    size = read_file(path, all, sizeof all);
    for (cut = 42; cut <= size; cut += 1 + cut % 7) {
        forget_all();
        oracle_init(&torn, false);
        oracle_feed(&torn, all, cut);
        memcpy(logged, seen.next, sizeof logged);
        memset(&seen, 0, sizeof seen);
        write_file(path, all, cut);
        append("torn", 3, false);
        assert_int_equal(check_file(path), torn.frames + 3);
    }
}

static void test_file_is_begun_anew_when_asked(void **state)
{
    (void)state;
    forget_all();
    append("anew", 50, false);
    forget_all();
    append("anew", 7, true);
    assert_int_equal(check_file(path), 7);
}

static void test_file_that_is_not_dnstap_is_refused_and_stays(void **state)
{
    static const char *const strange[] = {"; zone file\n@ SOA . . 1 2 3 4 5\n", "\0\0\0", "x",
                                          "\0\0\0\0\0\0\0\4\0\0\0\3"};
    static const size_t sizes[] = {33, 3, 1, 12};
    uint8_t after[64];
    dnstap_options o;
    dnstap_error error;
    unsigned i, before = descriptors();

    (void)state;
    for (i = 0; i < 8; i++) {
        peer_options(&o, in_folder("strange"));
        o.overwrite = i >= 4;
        write_file(path, strange[i % 4], sizes[i % 4]);
        assert_null(dnstap_open(&o, &error));
        assert_int_equal(error.code, DNSTAP_BAD_FRAME);
        assert_non_null(strstr(error.text, path));
        assert_non_null(strstr(error.text, "is not dnstap; give another path, or move it away"));
        assert_int_equal(read_file(path, after, sizeof after), sizes[i % 4]);
        assert_memory_equal(after, strange[i % 4], sizes[i % 4]);
    }
    assert_int_equal(descriptors(), before);
}

static void test_file_that_cannot_be_opened_says_why(void **state)
{
    dnstap_options o;
    dnstap_error error;

    (void)state;
    peer_options(&o, "file:///nowhere/at/all");
    assert_null(dnstap_open(&o, &error));
    assert_int_equal(error.sys_errno, ENOENT);
    assert_non_null(strstr(error.text, "file:///nowhere/at/all: open: No such file"));
    o.endpoint = "file:///tmp";
    assert_null(dnstap_open(&o, &error));
    assert_int_equal(error.sys_errno, EISDIR);
}

/* -- rotation -- */

static volatile bool rotating;

static void *log_on(void *argument)
{
    dnstap_tap *tap = (dnstap_tap *)argument;
    unsigned i;

    while (rotating) {
        for (i = 0; i < 20; i++) log_next(tap, 0);
        poll(NULL, 0, rnd(50) == 0);
    }
    return NULL;
}

static void test_rotation_loses_nothing_and_cuts_nothing(void **state)
{
    enum { ROTATIONS = 100 };
    char old[96];
    dnstap_options o;
    dnstap_tap *tap;
    pthread_t thread;
    uint64_t frames = 0;
    unsigned i;

    (void)state;
    peer_options(&o, in_folder("rotated"));
    tap = peer_start(&o);
    rotating = true;
    assert_int_equal(pthread_create(&thread, NULL, log_on, tap), 0);
    for (i = 0; i < ROTATIONS; i++) {
        snprintf(old, sizeof old, "%s.%u", path, i);
        assert_int_equal(rename(path, old), 0);
        assert_int_equal(dnstap_reopen(tap), DNSTAP_OK);
        wait_for_file(path, 1);
    }
    rotating = false;
    pthread_join(thread, NULL);
    assert_int_equal(dnstap_close(tap, PATIENCE), DNSTAP_OK);
    for (i = 0; i < ROTATIONS; i++) {
        snprintf(old, sizeof old, "%s.%u", path, i);
        frames += check_file(old);
    }
    frames += check_file(path);
    assert_int_equal(frames, logged[0]);
    assert_true(frames > ROTATIONS);
    assert_int_equal(said.lost, 0);
}

/* What is logged between a reopen and the close is in the new file. */
static void test_close_right_after_reopen_delivers_all(void **state)
{
    dnstap_options o;
    dnstap_tap *tap;
    char old[96];
    uint64_t frames;
    unsigned i;

    (void)state;
    for (i = 0; i < 200; i++) {
        peer_options(&o, in_folder("twice"));
        unlink(path);
        tap = peer_start(&o);
        log_many(tap, 5);
        snprintf(old, sizeof old, "%s.0", path);
        assert_int_equal(rename(path, old), 0);
        dnstap_reopen(tap);
        log_many(tap, 5);
        assert_int_equal(dnstap_close(tap, PATIENCE), DNSTAP_OK);
        frames = check_file(old);
        if (!access(path, F_OK)) frames += check_file(path);
        assert_int_equal(frames, 10);
    }
}

static void test_reopen_where_no_file_can_be_waits_until_it_can(void **state)
{
    char room[64], away[64], old[96], name[96], end[128];
    dnstap_options o;
    dnstap_status s;
    dnstap_tap *tap;

    (void)state;
    snprintf(room, sizeof room, "%s/room", folder);
    snprintf(away, sizeof away, "%s/away", folder);
    snprintf(name, sizeof name, "%s/tap", room);
    snprintf(old, sizeof old, "%s/tap", away);
    snprintf(end, sizeof end, "file://%s", name);
    mkdir(room, 0700);
    peer_options(&o, end);
    tap = peer_start(&o);
    log_many(tap, 50);
    assert_int_equal(dnstap_flush(tap, PATIENCE), DNSTAP_OK);
    assert_int_equal(rename(room, away), 0);
    assert_int_equal(dnstap_reopen(tap), DNSTAP_OK);
    wait_for_state(tap, DNSTAP_BROKEN, &s);
    assert_int_equal(s.error.sys_errno, ENOENT);
    log_many(tap, 50);
    assert_int_equal(mkdir(room, 0700), 0);
    assert_int_equal(dnstap_flush(tap, PATIENCE), DNSTAP_OK);
    assert_int_equal(dnstap_close(tap, PATIENCE), DNSTAP_OK);
    assert_int_equal(check_file(old), 50);
    assert_int_equal(check_file(name), 50);
    unlink(old);
    unlink(name);
    rmdir(room);
    rmdir(away);
}

/* -- a full disk -- */

static void until_failures(dnstap_tap *tap, uint64_t failures)
{
    dnstap_status s;

    WAIT_FOR(tap, &s, s.failures >= failures);
    assert_int_equal(s.error.sys_errno, ENOSPC);
    assert_non_null(strstr(s.error.text, "write: No space left"));
    assert_true(s.queued > 0);
}

/* What is on the small disk: the tap's file, the same moved, and what fills the rest. */
static char name[80], filler[80], moved[80];

static void options_on_disk(const char *where, dnstap_options *o)
{
    static char end[96];

    snprintf(name, sizeof name, "%s/tap", where);
    snprintf(moved, sizeof moved, "%s/moved", where);
    snprintf(filler, sizeof filler, "%s/filler", where);
    snprintf(end, sizeof end, "file://%s", name);
    peer_options(o, end);
}

static void full_disk(const char *where, bool rotate, bool overwrite)
{
    dnstap_options o;
    dnstap_tap *tap;

    options_on_disk(where, &o);
    o.overwrite = overwrite;
    tap = peer_start(&o);
    log_many(tap, 60);
    assert_int_equal(dnstap_flush(tap, PATIENCE), DNSTAP_OK);
    fill(filler);
    log_many(tap, 60);
    until_failures(tap, 3);
    if (rotate)
        assert_int_equal(rename(name, moved), 0); /* the path is another's; nobody reopens */
    unlink(filler);
    assert_int_equal(dnstap_flush(tap, PATIENCE), DNSTAP_OK);
    log_many(tap, 5);
    assert_int_equal(dnstap_close(tap, PATIENCE), DNSTAP_OK);
    assert_int_equal(check_file(rotate ? moved : name), 125);
    assert_int_equal(said.lost, 1);
    assert_int_equal(said.back, 1);
    assert_int_equal(said.lines, 2);
    unlink(rotate ? moved : name);
}

static void test_full_disk_is_reported_and_survived(void **state)
{
    char where[64];

    (void)state;
    if (!mount_small(where, sizeof where)) skip();
    full_disk(where, false, false);
    full_disk(where, false, true);
    full_disk(where, true, false);
    umount(where);
    rmdir(where);
}

/* A reopen while the disk is full turns to the new file; where the old one has no room for STOP, it
 * ends without. */
static void test_reopen_on_a_full_disk_goes_on_in_the_new_file(void **state)
{
    static uint8_t all[1 << 17];
    char where[64];
    dnstap_options o;
    dnstap_status s;
    dnstap_tap *tap;
    oracle first;
    uint64_t kept;

    (void)state;
    if (!mount_small(where, sizeof where)) skip();
    options_on_disk(where, &o);
    tap = peer_start(&o);
    log_many(tap, 60);
    assert_int_equal(dnstap_flush(tap, PATIENCE), DNSTAP_OK);
    fill(filler);
    log_many(tap, 60);
    until_failures(tap, 2);
    dnstap_get_status(tap, &s);
    kept = s.sent; /* 60, or more: what came first may have had room in the file's last page */
    assert_int_equal(rename(name, moved), 0);
    dnstap_reopen(tap);
    wait_for_file(name, 0);
    unlink(filler);
    assert_int_equal(dnstap_flush(tap, PATIENCE), DNSTAP_OK);
    assert_int_equal(dnstap_close(tap, PATIENCE), DNSTAP_OK);
    oracle_init(&first, false);
    oracle_feed(&first, all, read_file(moved, all, sizeof all));
    assert_int_equal(first.frames, kept);
    assert_int_equal(check_file(name), 120 - kept);
    unlink(name);
    unlink(moved);
    umount(where);
    rmdir(where);
}

/* -- a pipe -- */

static void test_named_pipe_takes_pieces_and_raises_no_signal(void **state)
{
    static uint8_t block[777];
    oracle stream;
    dnstap_options o;
    dnstap_tap *tap;
    closing it;
    ssize_t n;
    int fd;

    (void)state;
    peer_options(&o, in_folder("pipe"));
    assert_int_equal(mkfifo(path, 0600), 0);
    o.ring_size = 1 << 20;
    tap = peer_start(&o);
    fd = open(path, O_RDONLY | O_NONBLOCK);
    close(fd); /* a reader that goes */
    fd = open(path, O_RDONLY | O_NONBLOCK);
    oracle_init(&stream, false);
    log_many(tap, 3000);
    close_begin(&it, tap, PATIENCE);
    while (stream.phase != AT_END) {
        assert_true(readable(fd, PATIENCE));
        n = read(fd, block, sizeof block);
        if (n > 0) oracle_feed(&stream, block, (size_t)n);
    }
    close_end(&it);
    assert_int_equal(it.result, DNSTAP_OK);
    assert_int_equal(stream.frames, 3000);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_file_closed_without_messages_has_start_and_stop),
        cmocka_unit_test(test_file_is_continued_behind_its_last_message),
        cmocka_unit_test(test_torn_file_is_continued_behind_its_last_whole_message),
        cmocka_unit_test(test_file_is_begun_anew_when_asked),
        cmocka_unit_test(test_file_that_is_not_dnstap_is_refused_and_stays),
        cmocka_unit_test(test_file_that_cannot_be_opened_says_why),
        cmocka_unit_test(test_rotation_loses_nothing_and_cuts_nothing),
        cmocka_unit_test(test_close_right_after_reopen_delivers_all),
        cmocka_unit_test(test_reopen_where_no_file_can_be_waits_until_it_can),
        cmocka_unit_test(test_full_disk_is_reported_and_survived),
        cmocka_unit_test(test_reopen_on_a_full_disk_goes_on_in_the_new_file),
        cmocka_unit_test(test_named_pipe_takes_pieces_and_raises_no_signal),
    };

    return RUN_TESTS(tests, make_folder, drop_folder);
}
