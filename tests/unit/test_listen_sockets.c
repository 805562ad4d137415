/* Where a tap listens: files of unix sockets, their rights and ends, addresses and ports, and what
 * accept(2) may fail with. */
#define _GNU_SOURCE
#include <sys/socket.h>
#include <sys/syscall.h>
#undef SYS_accept4 /* accept(2) it is, which can be made to fail */

static int accept_or_fail(int fd, struct sockaddr *from, socklen_t *size);
#define accept(fd, from, size) accept_or_fail(fd, from, size)
#define DNSTAP_IMPLEMENTATION
#include "dnstap.h"
#undef accept

#include "tap_support.h"
#include "tap_peer.h"
#include "listen_support.h"
#include <sys/resource.h>

static int fail_with[8]; /* what accept fails with, one after the other; 0: it does not */
static unsigned failures, accepts;

static int accept_or_fail(int fd, struct sockaddr *from, socklen_t *size)
{
    int code = failures < 8 ? fail_with[failures] : 0;

    accepts++;
    if (!code) return accept(fd, from, size);
    if (code == ECONNABORTED) close(accept(fd, NULL, NULL)); /* it is gone from the queue */
    failures++;
    errno = code;
    return -1;
}

static const char *path_of(const char *name) { return socket_at(name) + strlen("unix://"); }

static dnstap_tap *open_on(const char *name)
{
    dnstap_options o;

    host_options(&o, socket_at(name));
    o.monotonic_ms = pretend;
    memset(fail_with, 0, sizeof fail_with);
    failures = accepts = 0;
    return host_open(&o);
}

/* The text of an open that must fail. */
static const char *refusal(const dnstap_options *o)
{
    static dnstap_error error;

    assert_null(dnstap_open(o, &error));
    return error.text;
}

static struct stat look_at(const char *path)
{
    struct stat st;

    assert_int_equal(lstat(path, &st), 0);
    return st;
}

static void make_file(const char *path)
{
    int fd = open(path, O_CREAT | O_WRONLY | O_TRUNC, 0600);

    assert_true(fd >= 0);
    close(fd);
}

/* ---- files of unix sockets ---- */

/* As a process leaves it that was killed. */
static void leave_a_stale_socket(const char *name)
{
    collector c;

    collector_open(&c, name);
    collector_close(&c);
    assert_true(S_ISSOCK(look_at(path_of(name)).st_mode));
}

static void test_a_stale_socket_is_replaced_and_removed_in_the_end(void **state)
{
    dnstap_tap *tap;
    guest *g;

    (void)state;
    leave_a_stale_socket("stale");
    tap = open_on("stale");
    g = guest_start(tap);
    log_many(tap, 3);
    UNTIL(tap, has_all(g));
    dnstap_close(tap, 0);
    assert_int_equal(access(path_of("stale"), F_OK), -1);
}

static void test_a_socket_in_use_is_an_error(void **state)
{
    dnstap_tap *tap = open_on("used");
    dnstap_options o;

    (void)state;
    host_options(&o, socket_at("used"));
    assert_non_null(strstr(refusal(&o), "another process listens there; stop it"));
    guest_start(tap); /* it was not disturbed */
    dnstap_close(tap, 0);
}

static void test_a_socket_with_a_full_queue_is_in_use_too(void **state)
{
    collector c;
    dnstap_options o;
    struct sockaddr_un at;
    int fds[64], n = 0, result;

    (void)state;
    collector_open(&c, "busy");
    memset(&at, 0, sizeof at);
    at.sun_family = AF_UNIX;
    strcpy(at.sun_path, c.path);
    do {
        fds[n] = socket(AF_UNIX, SOCK_STREAM, 0);
        never_block(fds[n]);
        result = connect(fds[n], (struct sockaddr *)&at, sizeof at);
    } while (++n < 64 && result == 0);
    assert_int_equal(result, -1);
    host_options(&o, c.endpoint);
    assert_non_null(strstr(refusal(&o), "another process listens there"));
    while (n--) close(fds[n]);
    collector_close(&c);
}

static void test_what_is_no_socket_is_never_removed(void **state)
{
    char path[128];
    dnstap_options o;

    (void)state;
    snprintf(path, sizeof path, "%s", path_of("plain"));
    make_file(path);
    host_options(&o, socket_at("plain"));
    assert_non_null(strstr(refusal(&o), "is a file, not a socket; give another path"));
    assert_true(S_ISREG(look_at(path).st_mode));
    unlink(path);
    assert_int_equal(symlink("nowhere", path), 0); /* dangling */
    host_options(&o, socket_at("plain"));
    assert_non_null(strstr(refusal(&o), "is a file, not a socket"));
    assert_true(S_ISLNK(look_at(path).st_mode));
    host_options(&o, "unix:///nosuch/folder/s.sock");
    assert_non_null(strstr(refusal(&o), "No such file or directory"));
}

static void test_only_our_own_socket_is_removed(void **state)
{
    dnstap_tap *tap = open_on("ours");
    char path[128];

    (void)state;
    snprintf(path, sizeof path, "%s", path_of("ours"));
    unlink(path);
    make_file(path);
    dnstap_close(tap, 0);
    assert_true(S_ISREG(look_at(path).st_mode));
    unlink(path);
    tap = open_on("ours");
    unlink(path);
    leave_a_stale_socket("ours"); /* another's */
    dnstap_close(tap, 0);
    assert_true(S_ISSOCK(look_at(path).st_mode));
}

static void test_mode_and_group_are_set(void **state)
{
    mode_t before = umask(0);
    dnstap_options o;
    dnstap_tap *tap;
    struct stat st;

    (void)state;
    host_options(&o, socket_at("rights"));
    o.socket_mode = 0620;
    o.socket_group = "daemon";
    if (geteuid()) o.socket_group = NULL;
    tap = host_open(&o);
    st = look_at(path_of("rights"));
    assert_int_equal(st.st_mode & 0777, 0620);
    if (!geteuid()) assert_int_equal(st.st_gid, getgrnam("daemon")->gr_gid);
    dnstap_close(tap, 0);
    host_options(&o, socket_at("rights"));
    o.socket_group = geteuid() ? NULL : "123456";
    umask(027);
    tap = host_open(&o);
    st = look_at(path_of("rights"));
    assert_int_equal(st.st_mode & 0777, 0750);
    if (!geteuid()) assert_int_equal(st.st_gid, 123456);
    dnstap_close(tap, 0);
    umask(before);
}

static void test_rights_that_can_t_be_are_errors_that_leave_nothing(void **state)
{
    unsigned before = descriptors();
    dnstap_options o;

    (void)state;
    host_options(&o, socket_at("wrong"));
    o.socket_group = "no-such-group";
    assert_non_null(strstr(refusal(&o), "there is no group \"no-such-group\""));
    host_options(&o, socket_at("wrong"));
    o.socket_mode = 01777;
    assert_non_null(strstr(refusal(&o), "give it in octal, such as 0660"));
    assert_int_equal(access(path_of("wrong"), F_OK), -1);
    assert_int_equal(descriptors(), before);
}

static void test_an_abstract_socket_has_no_file(void **state)
{
    char endpoint[64];
    struct sockaddr_un at;
    dnstap_options o;
    dnstap_tap *tap;
    int fd;

    (void)state;
    snprintf(endpoint, sizeof endpoint, "unix://@dnstap-test-%d", (int)getpid());
    host_options(&o, endpoint);
    tap = host_open(&o);
    assert_int_equal(access(strchr(endpoint, '@'), F_OK), -1);
    assert_non_null(strstr(refusal(&o), "Address already in use"));
    memset(&at, 0, sizeof at);
    at.sun_family = AF_UNIX;
    strcpy(at.sun_path + 1, strchr(endpoint, '@') + 1);
    fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(
        connect(fd, (struct sockaddr *)&at,
                (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(at.sun_path + 1))),
        0);
    turns(tap, 3);
    assert_int_equal(status_of(tap).pending, 1);
    close(fd);
    dnstap_close(tap, 0);
}

/* ---- addresses and ports ---- */

static dnstap_tap *open_tcp(const char *endpoint)
{
    dnstap_options o;

    host_options(&o, endpoint);
    return host_open(&o);
}

static void test_port_0_is_chosen_by_the_system_and_shown(void **state)
{
    dnstap_tap *tap = open_tcp("tcp://127.0.0.1:0");
    dnstap_peer peer;
    guest *g;

    (void)state;
    assert_int_not_equal(status_of(tap).port, 0);
    g = guest_start(tap);
    assert_int_equal(dnstap_get_peers(tap, &peer, 1), 1);
    assert_memory_equal(peer.address, "127.0.0.1:", 10);
    log_many(tap, 3);
    UNTIL(tap, has_all(g));
    dnstap_close(tap, 0);
}

static void test_a_port_can_be_had_again_at_once(void **state)
{
    char endpoint[64];
    dnstap_tap *tap = open_tcp("tcp://127.0.0.1:0");

    (void)state;
    snprintf(endpoint, sizeof endpoint, "tcp://127.0.0.1:%u", status_of(tap).port);
    guest_start(tap);
    dnstap_close(tap, 0); /* we close first: the connection lingers on our side */
    tap = open_tcp(endpoint);
    guest_start(tap);
    dnstap_close(tap, 0);
}

static int connect_to(int family, uint16_t port)
{
    struct sockaddr_in6 v6;
    struct sockaddr_in v4;
    int fd = socket(family, SOCK_STREAM, 0);

    memset(&v6, 0, sizeof v6);
    memset(&v4, 0, sizeof v4);
    v4.sin_family = AF_INET;
    v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    v6.sin6_family = AF_INET6;
    v6.sin6_addr = in6addr_loopback;
    v4.sin_port = v6.sin6_port = htons(port);
    if (family == AF_INET)
        assert_int_equal(connect(fd, (struct sockaddr *)&v4, sizeof v4), 0);
    else
        assert_int_equal(connect(fd, (struct sockaddr *)&v6, sizeof v6), 0);
    return fd;
}

static void test_the_ipv6_wildcard_takes_both_families(void **state)
{
    dnstap_tap *tap = open_tcp("tcp://[::]:0");
    int v4 = connect_to(AF_INET, status_of(tap).port);
    int v6 = connect_to(AF_INET6, status_of(tap).port);
    dnstap_peer peers[3];

    (void)state;
    turns(tap, 5);
    assert_int_equal(dnstap_get_peers(tap, peers, 3), 2);
    assert_true(strstr(peers[0].address, "[::1]:") || strstr(peers[1].address, "[::1]:"));
    assert_true(strstr(peers[0].address, "127.0.0.1") || strstr(peers[1].address, "127.0.0.1"));
    close(v4);
    close(v6);
    dnstap_close(tap, 0);
}

static void test_a_port_in_use_is_an_error(void **state)
{
    dnstap_tap *tap = open_tcp("tcp://127.0.0.1:0");
    dnstap_options o;
    char endpoint[64];

    (void)state;
    snprintf(endpoint, sizeof endpoint, "tcp://127.0.0.1:%u", status_of(tap).port);
    host_options(&o, endpoint);
    assert_non_null(strstr(refusal(&o), "Address already in use"));
    assert_non_null(strstr(refusal(&o), endpoint));
    dnstap_close(tap, 0);
}

static void test_only_sockets_can_be_listened_on(void **state)
{
    static const dnstap_transport transport;
    dnstap_options o;

    (void)state;
    host_options(&o, "file:///tmp/x");
    assert_non_null(strstr(refusal(&o), "listen on unix://, tcp:// or tls://"));
    host_options(&o, NULL);
    o.transport = &transport;
    assert_non_null(strstr(refusal(&o), "nobody can connect to it"));
    host_options(&o, socket_at("numbers"));
    o.max_sinks = 1025;
    assert_non_null(strstr(refusal(&o), "give 1 to 1024"));
    o.max_sinks = 0;
    o.max_pending = 1025;
    assert_non_null(strstr(refusal(&o), "give 1 to 1024"));
    o.max_pending = 0;
    o.max_lag = o.ring_size + 1;
    assert_non_null(strstr(refusal(&o), "max_lag"));
}

static void test_sockets_of_sinks_are_kept_alive_and_have_their_buffer(void **state)
{
    dnstap_tap *tap = open_tcp("tcp://127.0.0.1:0");
    int on = 0, fd = -1;
    socklen_t size = sizeof on;
    uint32_t i;

    (void)state;
    guest_start(tap);
    for (i = 0; i < tap->link_count; i++)
        if (tap->links[i].state == DNSTAP_STARTED) fd = dnstap__link_fd(&tap->links[i]);
    assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, &size), 0);
    assert_int_not_equal(on, 0);
    assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &on, &size), 0);
    assert_int_equal(on, 60); /* seconds; the system's are two hours */
    assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, &size), 0);
    assert_int_not_equal(on, 0);
    assert_int_not_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, 0);
    assert_true(status_of(tap).send_buffer > 0);
    dnstap_close(tap, 0);
}

/* ---- what accept fails with ---- */

static void test_a_connection_that_is_gone_is_no_reason_to_pause(void **state)
{
    static const int gone[] = {ECONNABORTED, EINTR, ECONNABORTED, EPROTO, EINTR, EPERM};
    dnstap_tap *tap = open_on("gone");
    int aborted[2];

    (void)state;
    memcpy(fail_with, gone, sizeof gone);
    aborted[0] = knock(tap);
    aborted[1] = knock(tap);
    guest_start(tap);
    assert_int_equal(failures, sizeof gone / sizeof *gone);
    assert_int_equal(times_said("can't accept"), 0);
    assert_int_equal(status_of(tap).accepted, 1);
    close(aborted[0]);
    close(aborted[1]);
    dnstap_close(tap, 0);
}

static void test_without_descriptors_accepting_pauses_says_so_once_and_goes_on(void **state)
{
    dnstap_tap *tap = open_on("none");
    struct rlimit before, none;
    guest *early, *g;
    unsigned tries;
    int i;

    (void)state;
    early = guest_start(tap);
    g = guest_connect(tap);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = before;
    none.rlim_cur = 0; /* nothing that is open is closed by it */
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    tries = accepts;
    for (i = 0; i < 50; i++) {
        pretended_ms += 20; /* 1 s in all */
        dnstap_service(tap);
    }
    tries = accepts - tries;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_in_range(tries, 8, 12);
    assert_int_equal(times_said("can't accept: Too many open files; tries again"), 1);
    log_many(tap, 3);
    UNTIL(tap, has_all(early));
    UNTIL(tap, g->stream.phase == AT_DATA);
    g = guest_connect(tap);
    setrlimit(RLIMIT_NOFILE, &none); /* a second time is said again */
    dnstap_service(tap);
    setrlimit(RLIMIT_NOFILE, &before);
    assert_int_equal(times_said("can't accept: Too many open files; tries again"), 2);
    UNTIL(tap, g->stream.phase == AT_DATA);
    dnstap_close(tap, 0);
}

static void test_a_thread_that_can_t_accept_sleeps_between_its_tries(void **state)
{
    dnstap_options o;
    dnstap_tap *tap;
    uint64_t start = real_ms();
    guest *g;
    int i;

    (void)state;
    host_options(&o, socket_at("sleeps"));
    tap = host_open(&o);
    failures = accepts = 0;
    for (i = 0; i < 8; i++) fail_with[i] = i ? EMFILE : ENFILE;
    assert_int_equal(dnstap_start(tap), DNSTAP_OK);
    g = guest_connect(tap);
    UNTIL(tap, g->stream.phase == AT_DATA);
    assert_true(real_ms() - start >= 800);
    assert_int_equal(times_said("can't accept: "), 1);
    dnstap_close(tap, 0);
    assert_in_range(accepts, 9, 11);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_stale_socket_is_replaced_and_removed_in_the_end),
        cmocka_unit_test(test_a_socket_in_use_is_an_error),
        cmocka_unit_test(test_a_socket_with_a_full_queue_is_in_use_too),
        cmocka_unit_test(test_what_is_no_socket_is_never_removed),
        cmocka_unit_test(test_only_our_own_socket_is_removed),
        cmocka_unit_test(test_mode_and_group_are_set),
        cmocka_unit_test(test_rights_that_can_t_be_are_errors_that_leave_nothing),
        cmocka_unit_test(test_an_abstract_socket_has_no_file),
        cmocka_unit_test(test_port_0_is_chosen_by_the_system_and_shown),
        cmocka_unit_test(test_a_port_can_be_had_again_at_once),
        cmocka_unit_test(test_the_ipv6_wildcard_takes_both_families),
        cmocka_unit_test(test_a_port_in_use_is_an_error),
        cmocka_unit_test(test_only_sockets_can_be_listened_on),
        cmocka_unit_test(test_sockets_of_sinks_are_kept_alive_and_have_their_buffer),
        cmocka_unit_test(test_a_connection_that_is_gone_is_no_reason_to_pause),
        cmocka_unit_test(test_without_descriptors_accepting_pauses_says_so_once_and_goes_on),
        cmocka_unit_test(test_a_thread_that_can_t_accept_sleeps_between_its_tries),
    };

    return RUN_TESTS(tests, make_folder, drop_folder);
}
