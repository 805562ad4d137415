/* A listening tap in loops and processes: one poll loop with other taps, an epoll loop by watch and
 * timer, an array that is too small, a fork; and what is shown of the sinks. */
#define _GNU_SOURCE
#define DNSTAP_IMPLEMENTATION
#include "dnstap.h"

#include "tap_support.h"
#include "tap_peer.h"
#include "listen_support.h"
#include <sys/epoll.h>
#include <sys/wait.h>

static dnstap_tap *open_on(const char *name)
{
    dnstap_options o;

    host_options(&o, socket_at(name));
    return host_open(&o);
}

/* ---- poll ---- */

/* One poll for both taps, as the specification's last example has them. */
static void turn_both(dnstap_tap *dials, dnstap_tap *listens)
{
    struct pollfd fds[64];
    int ms, other_ms, n = dnstap_pollfds(dials, fds, 64, &ms);

    n += dnstap_pollfds(listens, fds + n, 64 - n, &other_ms);
    if (ms < 0 || (other_ms >= 0 && other_ms < ms)) ms = other_ms;
    poll(fds, (nfds_t)n, ms < 0 || ms > 2 ? 2 : ms);
    assert_int_equal(dnstap_service(dials), DNSTAP_OK);
    assert_int_equal(dnstap_service(listens), DNSTAP_OK);
}

static void test_a_tap_that_connects_and_one_that_listens_in_one_loop(void **state)
{
    uint64_t end = real_ms() + PATIENCE;
    dnstap_options o;
    dnstap_tap *dials, *listens;
    collector remote;
    guest *g;
    int i;

    (void)state;
    collector_open(&remote, NULL);
    listens = open_on("both");
    peer_options(&o, remote.endpoint);
    dials = open_afresh(&o);
    g = guest_connect(listens);
    while (remote.fd < 0 || remote.stream.phase != AT_DATA || g->stream.phase != AT_DATA) {
        turn_both(dials, listens);
        if (remote.fd < 0 && readable(remote.listener, 0)) collector_accept(&remote);
        if (remote.fd >= 0) collector_read(&remote, 0);
        guest_read(g, SIZE_MAX);
        assert_true(real_ms() < end);
    }
    forget_all();
    for (i = 0; i < 3000; i++) { /* both are told the same */
        assert_int_equal(log_next(dials, 1), 1);
        logged[1]--;
        assert_int_equal(log_next(listens, 1), 1);
        if (i % 50) continue;
        turn_both(dials, listens);
        collector_read(&remote, 0);
        guest_read(g, SIZE_MAX);
    }
    while (seen.frames < 3000 || g->stream.frames < 3000) {
        turn_both(dials, listens);
        collector_read(&remote, 0);
        guest_read(g, SIZE_MAX);
        assert_true(real_ms() < end);
    }
    assert_true(has_all(g));
    dnstap_close(dials, 0);
    dnstap_close(listens, 0);
    collector_close(&remote);
}

static void test_an_idle_tap_leaves_the_loop_alone(void **state)
{
    struct pollfd fds[64];
    dnstap_tap *tap = open_on("idle");
    int timeout, sinks;

    (void)state;
    for (sinks = 0; sinks < 4; sinks++) {
        turns(tap, 5);
        poll(NULL, 0, 15); /* the nap's end */
        turns(tap, 5);
        assert_int_equal(dnstap_pollfds(tap, fds, 64, &timeout), 2 + sinks);
        if (sinks == 0) assert_int_equal(timeout, -1);
        if (sinks != 0) assert_in_range(timeout, 500, DNSTAP__REPORT_MS);
        assert_int_equal(poll(fds, (nfds_t)(2 + sinks), 50), 0);
        guest_start(tap);
    }
    guest_connect(tap)->replies = 1;
    turns(tap, 5);
    dnstap_pollfds(tap, fds, 64, &timeout);
    assert_in_range(timeout, 1000, 2000); /* its deadline */
    dnstap_close(tap, 0);
}

static void test_what_finds_no_room_in_the_array_is_looked_at_by_time(void **state)
{
    dnstap_tap *tap = open_on("small");
    uint64_t end = real_ms() + PATIENCE;
    struct pollfd fds[1];
    int timeout, n;
    guest *g;

    (void)state;
    dnstap_service(tap);
    g = guest_connect(tap);
    while (g->stream.phase != AT_DATA) {
        n = dnstap_pollfds(tap, fds, 1, &timeout);
        assert_int_equal(n, 1);
        assert_in_range(timeout, 0, 5);
        poll(fds, 1, timeout);
        dnstap_service(tap);
        guest_read(g, SIZE_MAX);
        assert_true(real_ms() < end);
    }
    dnstap_close(tap, 0);
}

/* ---- epoll, by hooks ---- */

static struct {
    int epoll;
    uint64_t due;
    short events[1024]; /* by descriptor; 0: not watched */
    unsigned watched;
} hooks;

static void watch(void *user, int fd, short events)
{
    struct epoll_event e;
    int operation = hooks.events[fd] ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;

    (void)user;
    memset(&e, 0, sizeof e);
    e.events = (events & POLLIN ? EPOLLIN : 0u) | (events & POLLOUT ? EPOLLOUT : 0u);
    e.data.fd = fd;
    if (!events) operation = EPOLL_CTL_DEL;
    assert_true(events || hooks.events[fd]);
    assert_int_equal(epoll_ctl(hooks.epoll, operation, fd, &e), 0); /* it is open still */
    hooks.watched += !hooks.events[fd] && events;
    hooks.watched -= hooks.events[fd] && !events;
    hooks.events[fd] = events;
}

static void set_timer(void *user, int ms)
{
    (void)user;
    hooks.due = ms < 0 ? UINT64_MAX : real_ms() + (uint64_t)ms;
}

static void epoll_turn(dnstap_tap *tap)
{
    struct epoll_event events[16];
    int n = epoll_wait(hooks.epoll, events, 16, real_ms() >= hooks.due ? 0 : 2);

    if (n > 0 || real_ms() >= hooks.due) assert_int_equal(dnstap_service(tap), DNSTAP_OK);
}

#define EPOLL_UNTIL(tap, condition)                                           \
    do {                                                                      \
        uint64_t end_ = real_ms() + PATIENCE;                                 \
        while (!(condition)) {                                                \
            epoll_turn(tap);                                                  \
            for (i = 0; i < 6; i++)                                           \
                if (g[i]->fd >= 0 && !g[i]->deaf) guest_read(g[i], SIZE_MAX); \
            assert_true(real_ms() < end_);                                    \
        }                                                                     \
    } while (0)

static void test_an_epoll_loop_is_told_of_every_descriptor_and_of_its_end(void **state)
{
    dnstap_options o;
    dnstap_tap *tap;
    guest *g[6];
    unsigned i, k;

    (void)state;
    memset(&hooks, 0, sizeof hooks);
    hooks.epoll = epoll_create1(EPOLL_CLOEXEC);
    host_options(&o, socket_at("epoll"));
    o.watch = watch;
    o.timer = set_timer;
    tap = host_open(&o);
    assert_int_equal(dnstap_service(tap), DNSTAP_OK);
    assert_int_equal(hooks.watched, 2);
    for (i = 0; i < 6; i++) g[i] = guest_connect(tap);
    EPOLL_UNTIL(tap, status_of(tap).sinks == 6 && g[5]->stream.phase == AT_DATA);
    assert_int_equal(hooks.watched, 8);
    for (k = 0; k < 50; k++) {
        log_many(tap, 30);
        if (k == 20) g[0]->deaf = g[1]->deaf = true;
        if (k == 30) guest_leave(g[1]);
        EPOLL_UNTIL(tap, has_all(g[2]) && has_all(g[5]));
    }
    g[0]->deaf = false;
    EPOLL_UNTIL(tap, has_all(g[0]) && has_all(g[3]) && has_all(g[4]));
    EPOLL_UNTIL(tap, status_of(tap).sinks == 5);
    assert_int_equal(hooks.watched, 7);
    guest_leave(g[2]);
    EPOLL_UNTIL(tap, status_of(tap).sinks == 4);
    check_host_books(tap);
    dnstap_close(tap, 100);
    assert_int_equal(hooks.watched, 0);
    close(hooks.epoll);
}

/* ---- processes ---- */

static void test_a_forked_child_can_t_listen_and_disturbs_nobody(void **state)
{
    dnstap_tap *tap = open_on("fork");
    guest *g = guest_start(tap);
    pid_t child;
    int status;

    (void)state;
    assert_int_equal(dnstap_start(tap), DNSTAP_OK);
    log_many(tap, 30);
    child = fork();
    if (!child) {
        bool good = dnstap_after_fork(tap) == DNSTAP_UNSUPPORTED;

        good = good && !dnstap_wants(tap, DNSTAP_MSG_CLIENT_QUERY) && log_next(tap, 0) == 0;
        good = good && dnstap_start(tap) == DNSTAP_UNSUPPORTED;
        good = good && dnstap_service(tap) == DNSTAP_UNSUPPORTED;
        good = good && dnstap_flush(tap, 10) == DNSTAP_UNSUPPORTED;
        dnstap_close(tap, 2000);
        _exit(good ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    log_many(tap, 30);
    UNTIL(tap, has_all(g));
    guest_start(tap); /* its file is there still */
    assert_int_equal(host_close(tap, PATIENCE), DNSTAP_OK);
}

static void test_a_daemon_listens_where_its_parent_opened(void **state)
{
    dnstap_tap *tap = open_on("daemon");
    uint64_t end = real_ms() + PATIENCE;
    guest *g;
    pid_t child = fork();
    int status;

    (void)state;
    if (!child) {
        dnstap_status s;

        if (dnstap_start(tap) != DNSTAP_OK) _exit(2);
        do {
            dnstap_get_status(tap, &s);
            poll(NULL, 0, 1);
        } while (!s.sinks && real_ms() < end);
        logged[0] = 0;
        while (logged[0] < 30) log_next(tap, 0);
        _exit(dnstap_close(tap, PATIENCE) == DNSTAP_OK ? 0 : 1);
    }
    g = guest_connect(tap);
    while (g->stream.phase != AT_END) {
        assert_true(readable(g->fd, PATIENCE));
        guest_read(g, SIZE_MAX);
        assert_true(!g->ended);
    }
    assert_int_equal(g->stream.frames, 30);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    dnstap_close(tap, 0);
}

/* ---- what is shown ---- */

static const dnstap_peer *peer_number(const dnstap_peer *peers, int n, uint32_t number)
{
    for (; n--; peers++)
        if (peers->number == number) return peers;
    fail_msg("there is no %u", number);
    return NULL;
}

static void test_status_lists_the_sinks(void **state)
{
    dnstap_peer peers[8];
    const dnstap_peer *p;
    dnstap_options o;
    dnstap_tap *tap;
    guest *good, *behind;
    int n;

    (void)state;
    host_options(&o, socket_at("list"));
    o.monotonic_ms = pretend;
    tap = host_open(&o);
    assert_int_equal(dnstap_get_peers(tap, peers, 8), 0);
    good = guest_start(tap);
    behind = guest_start(tap);
    guest_connect(tap)->replies = 1;
    behind->deaf = true;
    turns(tap, 3);
    pretended_ms += 1000;
    while (!stuck_links(tap)) log_many(tap, 30), go_on(tap);
    log_many(tap, 6);
    UNTIL(tap, has_all(good));
    n = dnstap_get_peers(tap, peers, 8);
    assert_int_equal(n, 3);
    assert_int_equal(dnstap_get_peers(tap, peers + 4, 2), 2);
    p = peer_number(peers, n, 1);
    assert_int_equal(p->state, DNSTAP_STARTED);
    assert_true(p->state_ms >= 1000);
    assert_int_equal(p->sent, good->stream.frames);
    assert_int_equal(p->bytes, good->seen.bytes);
    assert_int_equal(p->behind + p->lost, 0);
    assert_string_equal(p->address, tap->options.endpoint);
    assert_string_equal(p->subject, "");
    p = peer_number(peers, n, 2);
    assert_int_equal(p->offered, good->stream.frames);
    assert_true(p->behind >= 6 && p->behind < p->offered);
    p = peer_number(peers, n, 3);
    assert_int_equal(p->state, DNSTAP_GREETING);
    assert_int_equal(p->offered, 0);
    check_host_books(tap);
    dnstap_close(tap, 0);
}

/* On a machine of 32 bits, or after as long a time: words wrap, sums do not. */
static void test_counters_of_sinks_go_on_where_words_wrap(void **state)
{
    dnstap_tap *tap = open_on("wrap");
    dnstap_peer peer;
    guest *g;
    uint32_t i;

    (void)state;
    for (i = 0; i < tap->ring_count; i++) {
        tap->rings[i].recorded = tap->rings[i].out = SIZE_MAX - 10 * i;
        tap->books.seen[DNSTAP__RECORDED] += tap->rings[i].recorded;
        tap->books.seen[DNSTAP__OUT] += tap->rings[i].out;
    }
    g = guest_start(tap);
    log_many(tap, 300);
    UNTIL(tap, has_all(g));
    dnstap_get_peers(tap, &peer, 1);
    assert_int_equal(peer.offered, 300);
    assert_int_equal(peer.sent, 300);
    check_host_books(tap);
    dnstap_close(tap, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_tap_that_connects_and_one_that_listens_in_one_loop),
        cmocka_unit_test(test_an_idle_tap_leaves_the_loop_alone),
        cmocka_unit_test(test_what_finds_no_room_in_the_array_is_looked_at_by_time),
        cmocka_unit_test(test_an_epoll_loop_is_told_of_every_descriptor_and_of_its_end),
        cmocka_unit_test(test_a_forked_child_can_t_listen_and_disturbs_nobody),
        cmocka_unit_test(test_a_daemon_listens_where_its_parent_opened),
        cmocka_unit_test(test_status_lists_the_sinks),
        cmocka_unit_test(test_counters_of_sinks_go_on_where_words_wrap),
    };

    return RUN_TESTS(tests, make_folder, drop_folder);
}
