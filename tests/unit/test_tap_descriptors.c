/* A tap's descriptors: closed in programs that are executed, forgotten before they are closed,
 * never shared by forked workers, and opened anew when the program has closed them. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <netdb.h>
#include <stdarg.h>
#include <stdbool.h>
#include <unistd.h>

static int counted_fcntl(int fd, int command, ...);
static int watched_close(int fd);
static int slow_getaddrinfo(const char *host, const char *service, const struct addrinfo *hints,
                            struct addrinfo **out);
#define fcntl counted_fcntl
#define close watched_close
#define getaddrinfo slow_getaddrinfo

#define DNSTAP_IMPLEMENTATION
#include "dnstap.h"
#undef fcntl
#undef close
#undef getaddrinfo
#include "tap_support.h"
#include "tap_file.h"

/* -- what the library does -- */

static size_t made_late; /* descriptors that became close-on-exec by a second call */
static int counted_fcntl(int fd, int command, ...)
{
    va_list arguments;
    void *lock;
    int flags;

    va_start(arguments, command);
    flags = command == F_SETFD || command == F_SETFL ? va_arg(arguments, int) : 0;
    lock = command == F_SETLK || command == F_GETLK ? va_arg(arguments, void *) : NULL;
    va_end(arguments);
    made_late += command == F_SETFD;
    return lock ? fcntl(fd, command, lock) : fcntl(fd, command, flags);
}

static dnstap_tap *watched_tap;
static size_t closes, stale; /* stale: the tap still had the number */
static int watched_close(int fd)
{
    const dnstap_tap *tap = watched_tap;
    uint32_t i;

    for (i = 0; tap && i < tap->link_count; i++) stale += tap->links[i].medium.socket.fd == fd;
    if (tap) {
        stale += tap->waker.out == fd || (int)tap->waker.in == fd;
        stale += tap->dial.names.fd == fd || tap->desk.listener.fd == fd;
    }
    closes++;
    return close(fd);
}

static size_t hanging; /* look-ups wait */
static int slow_getaddrinfo(const char *host, const char *service, const struct addrinfo *hints,
                            struct addrinfo **out)
{
    while (DNSTAP_LOAD(&hanging)) poll(NULL, 0, 1);
    return getaddrinfo(host, service, hints, out);
}

/* -- in programs that are executed -- */

/* All but the standard ones and those of before. */
static void new_ones_are_closed_on_exec(const bool before[256])
{
    int fd, flags, found = 0;

    for (fd = 3; fd < 256; fd++) {
        flags = before[fd] ? -1 : fcntl(fd, F_GETFD);
        if (flags < 0) continue;
        found++;
        if (!(flags & FD_CLOEXEC)) fail_msg("descriptor %d would be inherited", fd);
    }
    assert_true(found > 0);
}

static void note_descriptors(bool open[256])
{
    int fd;

    for (fd = 0; fd < 256; fd++) open[fd] = fcntl(fd, F_GETFD) >= 0;
}

static void test_sockets_are_closed_on_exec_from_their_first_moment(void **state)
{
    collector c;
    dnstap_options o;
    dnstap_tap *tap;
    bool before[256];
    char named[64];
    size_t late = made_late;

    (void)state;
    collector_open(&c, NULL);
    snprintf(named, sizeof named, "tcp://localhost:%u", (unsigned)c.port);
    note_descriptors(before);
    DNSTAP_STORE(&hanging, 1);
    peer_options(&o, named);
    tap = peer_start(&o);
    while (DNSTAP_LOAD(&tap->dial.names.fd) < 0) poll(NULL, 0, 1);
    new_ones_are_closed_on_exec(before); /* the look-up's, too */
    DNSTAP_STORE(&hanging, 0);
    log_many(tap, 3);
    assert_true(readable(c.listener, PATIENCE));
    new_ones_are_closed_on_exec(before);
    collector_read_until(&c, 3);
    close_in_order(&c, tap);
    collector_close(&c);
    assert_int_equal(made_late, late);
}

static void test_accepted_ones_are_closed_on_exec_from_their_first_moment(void **state)
{
    dnstap_sink_options so;
    dnstap_options o, p;
    dnstap_sink *sink;
    dnstap_tap *listening, *tap;
    dnstap_sink_status s;
    bool before[256];
    size_t late = made_late;
    char where[80], there[80];

    (void)state;
    snprintf(where, sizeof where, "unix://%s/sink", folder);
    snprintf(there, sizeof there, "unix://%s/tap", folder);
    note_descriptors(before);
    memset(&so, 0, sizeof so);
    so.endpoint = where;
    sink = dnstap_sink_open(&so, NULL);
    assert_non_null(sink);
    peer_options(&p, there);
    p.listen = true;
    listening = dnstap_open(&p, NULL);
    assert_non_null(listening);
    peer_options(&o, where);
    tap = peer_start(&o);
    do {
        poll(NULL, 0, 1);
        dnstap_sink_service(sink);
        dnstap_service(listening);
        dnstap_sink_get_status(sink, &s);
    } while (!s.open);
    new_ones_are_closed_on_exec(before);
    dnstap_close(tap, 0);
    dnstap_close(listening, 0);
    dnstap_sink_close(sink);
    assert_int_equal(made_late, late);
}

/* -- another thread may fork at any moment -- */

static void watch_closing(const dnstap_options *o, collector *c, unsigned rounds)
{
    dnstap_tap *tap = peer_start(o);

    watched_tap = tap;
    while (rounds--) {
        if (c) collector_read_until_data(c);
        if (c) collector_hang_up(c);
        if (c) continue;
        dnstap_reopen(tap);
        assert_int_equal(dnstap_flush(tap, PATIENCE), DNSTAP_OK);
    }
    dnstap_close(tap, 0);
    watched_tap = NULL;
}

static void test_number_is_forgotten_before_it_is_closed(void **state)
{
    dnstap_options o;
    collector c;
    char named[64];

    (void)state;
    closes = stale = 0;
    collector_open(&c, NULL);
    snprintf(named, sizeof named, "tcp://localhost:%u", (unsigned)c.port);
    peer_options(&o, named);
    watch_closing(&o, &c, 2);
    collector_close(&c);
    peer_options(&o, in_folder("file"));
    watch_closing(&o, NULL, 5);
    snprintf(named, sizeof named, "unix://%s/tap", folder);
    peer_options(&o, named);
    o.listen = true;
    watch_closing(&o, NULL, 0);
    assert_true(closes > 10);
    assert_int_equal(stale, 0);
}

/* -- opened once, started in several workers -- */

static void call_oneself(dnstap_tap *tap)
{
    CHILD_ASSERT(dnstap_service(tap) == DNSTAP_OK);
    dnstap__nudge(tap);
    CHILD_ASSERT(readable(tap->waker.out, 0));
    _exit(0);
}

/* A call that another process takes leaves a message where it is, for seconds. */
static void test_workers_do_not_take_each_others_wake_ups(void **state)
{
    dnstap_options o;
    dnstap_tap *tap;
    unsigned i, before = descriptors();
    pid_t child;

    (void)state;
    peer_options(&o, in_folder("workers"));
    tap = open_afresh(&o);
    for (i = 0; i < 2; i++) {
        child = fork();
        if (!child) call_oneself(tap);
        child_ended_well(child);
        assert_false(readable(tap->waker.out, 0));
    }
    dnstap_close(tap, 0);
    assert_int_equal(descriptors(), before);
}

/* -- closed by the program -- */

static unsigned complaints;
static void hear_complaints(void *user, int level, const char *text)
{
    hear(user, level, text);
    complaints += strstr(text, "the program closed") != NULL;
}

/* As code does that makes a daemon, which then opens what gets the same numbers. */
static void take_over(int fd, int ours)
{
    assert_true(fd >= 0);
    close(fd);
    if (ours >= 0) assert_int_equal(dup2(ours, fd), fd);
}

static void nothing_happened_to(int fd, int other)
{
    assert_true(fcntl(fd, F_GETFD) >= 0);
    assert_false(readable(other, 0));
}

/* Between open and start, with and without another descriptor in its place. */
static void close_before_the_start(bool reused, bool file)
{
    dnstap_options o;
    dnstap_tap *tap;
    collector c;
    int ours[2], waker, log = -1;

    assert_int_equal(pipe(ours), 0);
    collector_open(&c, "late");
    peer_options(&o, file ? in_folder("late.fstrm") : c.endpoint);
    o.log = hear_complaints;
    tap = open_afresh(&o);
    complaints = 0;
    waker = tap->waker.out;
    if (file) log = tap->links[0].medium.file.fd;
    take_over(waker, reused ? ours[1] : -1);
    if (file) take_over(log, reused ? ours[1] : -1);
    assert_int_equal(dnstap_start(tap), DNSTAP_OK);
    log_many(tap, 30);
    if (file)
        assert_int_equal(dnstap_close(tap, PATIENCE), DNSTAP_OK);
    else
        close_in_order(&c, tap);
    assert_int_equal(file ? check_file(path) : seen.frames, 30);
    assert_int_equal(complaints, 1);
    if (reused) nothing_happened_to(waker, ours[0]);
    if (reused && file) nothing_happened_to(log, ours[0]);
    if (reused) close(waker);
    if (reused && file) close(log);
    if (file) unlink(path);
    close(ours[0]), close(ours[1]);
    collector_close(&c);
}

static void test_descriptors_closed_before_the_start_are_opened_anew(void **state)
{
    unsigned i;

    (void)state;
    for (i = 0; i < 4; i++) close_before_the_start(i & 1, i & 2);
}

/* Turns of an own loop, or time for the tap's thread, until so many frames came. */
static void until_frames(dnstap_tap *tap, collector *c, bool thread, uint64_t frames)
{
    struct pollfd fds[DNSTAP_POLLFDS];
    uint64_t end = real_ms() + PATIENCE;
    int timeout, n;

    while (seen.frames < frames) {
        n = thread ? 0 : dnstap_pollfds(tap, fds, DNSTAP_POLLFDS, &timeout);
        poll(fds, (nfds_t)n, 1);
        if (!thread) dnstap_service(tap);
        if (c->fd < 0 && readable(c->listener, 0)) collector_accept(c);
        if (c->fd >= 0 && collector_read(c, 0) == 0) collector_hang_up(c);
        assert_true(real_ms() < end);
    }
}

static unsigned turns_in(dnstap_tap *tap, uint64_t ms)
{
    struct pollfd fds[DNSTAP_POLLFDS];
    uint64_t end = real_ms() + ms;
    unsigned turns = 0;
    int timeout, n;

    for (; real_ms() < end; turns++) {
        n = dnstap_pollfds(tap, fds, DNSTAP_POLLFDS, &timeout);
        poll(fds, (nfds_t)n, timeout < 0 || timeout > 50 ? 50 : timeout);
        dnstap_service(tap);
    }
    return turns;
}

static void close_while_it_runs(bool thread)
{
    dnstap_options o;
    dnstap_tap *tap;
    collector c;
    uint64_t cpu;

    collector_open(&c, "running");
    peer_options(&o, c.endpoint);
    o.log = hear_complaints;
    tap = open_afresh(&o);
    complaints = 0;
    if (thread) assert_int_equal(dnstap_start(tap), DNSTAP_OK);
    log_many(tap, 30);
    until_frames(tap, &c, thread, 30);
    close(tap->waker.out);
    close(tap->links[0].medium.socket.fd);
    log_many(tap, 30); /* this wakes nobody */
    until_frames(tap, &c, thread, 60);
    if (!thread) turns_in(tap, 150);
    cpu = cpu_ms();
    if (!thread) assert_in_range(turns_in(tap, 300), 1, 60);
    if (thread) poll(NULL, 0, 300);
    assert_in_range(cpu_ms() - cpu, 0, 60);
    log_many(tap, 30);
    until_frames(tap, &c, thread, 90);
    close_in_order(&c, tap);
    assert_int_equal(complaints, 2); /* the socket, the wake-up descriptor */
    collector_close(&c);
}

static void test_descriptors_closed_under_a_running_tap_are_opened_anew(void **state)
{
    (void)state;
    close_while_it_runs(true);
    close_while_it_runs(false);
}

static void test_file_closed_under_a_running_tap_is_opened_anew(void **state)
{
    dnstap_options o;
    dnstap_tap *tap;

    (void)state;
    peer_options(&o, in_folder("closed.fstrm"));
    o.log = hear_complaints;
    tap = peer_start(&o);
    complaints = 0;
    log_many(tap, 30);
    assert_int_equal(dnstap_flush(tap, PATIENCE), DNSTAP_OK);
    close(tap->links[0].medium.file.fd);
    log_many(tap, 30);
    assert_int_equal(dnstap_close(tap, PATIENCE), DNSTAP_OK);
    assert_int_equal(check_file(path), 60);
    assert_int_equal(complaints, 1);
}

static void test_closed_look_up_is_tried_again_without_spinning(void **state)
{
    dnstap_options o;
    dnstap_status s;
    dnstap_tap *tap;
    uint64_t cpu;
    int fd;

    (void)state;
    DNSTAP_STORE(&hanging, 1);
    peer_options(&o, "tcp://localhost:9");
    tap = peer_start(&o);
    while ((fd = DNSTAP_LOAD(&tap->dial.names.fd)) < 0) poll(NULL, 0, 1);
    cpu = cpu_ms();
    close(fd);
    dnstap__nudge(tap);
    wait_for_state(tap, DNSTAP_BROKEN, &s);
    assert_non_null(strstr(s.error.text, "the program closed"));
    assert_in_range(cpu_ms() - cpu, 0, 200);
    DNSTAP_STORE(&hanging, 0);
    dnstap_close(tap, 0);
}

static void test_listening_socket_closed_by_the_program_is_opened_anew(void **state)
{
    dnstap_options o;
    dnstap_status s;
    dnstap_tap *tap;
    struct sockaddr_un to;
    uint64_t cpu;
    unsigned before;
    int fd, early;

    (void)state;
    snprintf(endpoint, sizeof endpoint, "unix://%s/tap", folder);
    memset(&to, 0, sizeof to);
    to.sun_family = AF_UNIX;
    strcpy(to.sun_path, endpoint + 7);
    for (early = 0; early < 2; early++) {
        peer_options(&o, endpoint);
        o.listen = true;
        o.log = hear_complaints;
        tap = open_afresh(&o);
        complaints = 0;
        if (early) close(tap->desk.listener.fd);
        assert_int_equal(dnstap_start(tap), DNSTAP_OK);
        if (!early) close(tap->desk.listener.fd);
        before = descriptors();
        dnstap__nudge(tap);
        cpu = cpu_ms();
        poll(NULL, 0, 300);
        assert_in_range(cpu_ms() - cpu, 0, 100);
        fd = socket(AF_UNIX, SOCK_STREAM, 0);
        assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
        do dnstap_get_status(tap, &s);
        while (!s.accepted);
        assert_int_equal(complaints, 1);
        assert_true(descriptors() <= before + 3);
        close(fd);
        dnstap_close(tap, 0);
        assert_int_equal(access(to.sun_path, F_OK), -1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sockets_are_closed_on_exec_from_their_first_moment),
        cmocka_unit_test(test_accepted_ones_are_closed_on_exec_from_their_first_moment),
        cmocka_unit_test(test_number_is_forgotten_before_it_is_closed),
        cmocka_unit_test(test_workers_do_not_take_each_others_wake_ups),
        cmocka_unit_test(test_descriptors_closed_before_the_start_are_opened_anew),
        cmocka_unit_test(test_descriptors_closed_under_a_running_tap_are_opened_anew),
        cmocka_unit_test(test_file_closed_under_a_running_tap_is_opened_anew),
        cmocka_unit_test(test_closed_look_up_is_tried_again_without_spinning),
        cmocka_unit_test(test_listening_socket_closed_by_the_program_is_opened_anew),
    };

    return RUN_TESTS(tests, make_folder, drop_folder);
}
