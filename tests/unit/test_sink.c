/* A sink on real sockets, with a clock and an accept that the tests govern: places and refusals,
 * silence, steps of the handshake, failures of accept, what is left in the poll set, addresses. */
#define _GNU_SOURCE
#include <sys/socket.h>

/* Fails so many times with this, then is the real one. */
static struct {
    int times, with;
} accept_fails;
static int test_accept(int fd, struct sockaddr *from, socklen_t *size);
#define accept(fd, from, size) test_accept(fd, from, size)
#define DNSTAP_IMPLEMENTATION
#include "dnstap.h"
#undef accept

#include "unit.h"

static int test_accept(int fd, struct sockaddr *from, socklen_t *size)
{
    if (accept_fails.times <= 0) return accept(fd, from, size);
    accept_fails.times--;
    errno = accept_fails.with;
    return -1;
}

/* ---- a world: one sink, the clock, and what it has handed out ---- */

enum { PATIENCE = 20000, KINDS = DNSTAP_SINK_REFUSED + 1 };

static struct {
    dnstap_sink *sink;
    uint64_t now, began; /* ms; `began` of the real clock */
    unsigned told[KINDS];
    int result; /* of the last event, its text and peer */
    char text[128], peer[128];
    char folder[48], endpoint[128];
    struct sockaddr_un local;
} w;

static uint64_t test_clock(void *user)
{
    (void)user;
    return w.now;
}

static void note(void *user, const dnstap_received *r)
{
    (void)user;
    w.told[r->kind]++;
    w.result = r->result;
    snprintf(w.text, sizeof w.text, "%s", r->text);
    snprintf(w.peer, sizeof w.peer, "%s", r->peer);
}

static int setup(void **state)
{
    (void)state;
    memset(&w, 0, sizeof w);
    memset(&accept_fails, 0, sizeof accept_fails);
    strcpy(w.folder, "/tmp/dnstap-sink.XXXXXX");
    if (!mkdtemp(w.folder)) return -1;
    w.local.sun_family = AF_UNIX;
    snprintf(w.local.sun_path, sizeof w.local.sun_path, "%s/s", w.folder);
    snprintf(w.endpoint, sizeof w.endpoint, "unix://%s", w.local.sun_path);
    w.now = 1000000;
    w.began = real_ms();
    return 0;
}

static int teardown(void **state)
{
    char file[64];

    (void)state;
    dnstap_sink_close(w.sink);
    snprintf(file, sizeof file, "%s/f", w.folder);
    unlink(file);
    return rmdir(w.folder);
}

static dnstap_sink_options options(void)
{
    dnstap_sink_options o;

    memset(&o, 0, sizeof o);
    o.endpoint = w.endpoint;
    o.receive = note;
    o.monotonic_ms = test_clock;
    return o;
}

static void open_sink(const dnstap_sink_options *o)
{
    dnstap_error error;

    w.sink = dnstap_sink_open(o, &error);
    if (!w.sink) fail_msg("%s", error.text);
}

/* ---- a producer, byte by byte ---- */

static int producer(void)
{
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&w.local, sizeof w.local), 0);
    return fd;
}

static void say(int fd, dnstap_control type)
{
    dnstap_bytes frame = dnstap__control_frame(type);

    assert_int_equal(send(fd, frame.data, frame.size, MSG_NOSIGNAL), frame.size);
}

static void say_message(int fd)
{
    static const uint8_t frame[] = {0, 0, 0, 6, 0x72, 2, 8, 5, 0x78, 1};

    assert_int_equal(send(fd, frame, sizeof frame, MSG_NOSIGNAL), sizeof frame);
}

/* The other side has closed, whatever it said before. */
static void expect_closed(int fd)
{
    struct timeval patience = {PATIENCE / 1000, 0};
    char any[512];
    ssize_t n;

    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    while ((n = recv(fd, any, sizeof any, 0)) > 0) {
    }
    assert_true(n == 0 || errno == ECONNRESET);
    close(fd);
}

/* ---- the loop that everyone copies; the set is empty once it has ended, and only then ---- */

static int turn(int *timeout)
{
    struct pollfd fds[80];
    int n = dnstap_sink_pollfds(w.sink, fds, 80, timeout);

    assert_true(n > 0);
    assert_true(poll(fds, (nfds_t)n, 5) >= 0);
    return dnstap_sink_service(w.sink);
}

static void until(dnstap_sink_kind kind, unsigned times)
{
    int timeout;

    while (w.told[kind] < times) {
        if (real_ms() - w.began > PATIENCE) fail_msg("event %d did not come", (int)kind);
        assert_int_equal(turn(&timeout), DNSTAP_OK);
    }
    assert_int_equal(w.told[kind], times);
}

/* Lets time pass by the sink's own clock. */
static void pass(uint64_t ms)
{
    int timeout;

    w.now += ms;
    assert_int_equal(turn(&timeout), DNSTAP_OK);
}

static dnstap_sink_status status(void)
{
    dnstap_sink_status s;

    dnstap_sink_get_status(w.sink, &s);
    return s;
}

/* A producer that has begun its stream. */
static int begun(void)
{
    unsigned before = w.told[DNSTAP_SINK_MESSAGE];
    int fd = producer();

    say(fd, DNSTAP_CONTROL_READY);
    say(fd, DNSTAP_CONTROL_START);
    say_message(fd);
    until(DNSTAP_SINK_MESSAGE, before + 1);
    return fd;
}

/* ---- accept fails ---- */

static void test_failing_accept_pauses_and_ends_nothing(void **state)
{
    static const int lasting[] = {EMFILE, ENFILE, ENOBUFS, ENOMEM, EBADF, EINVAL};
    dnstap_sink_options o = options();
    unsigned i, turns;
    int fd, timeout;

    (void)state;
    open_sink(&o);
    for (i = 0; i < sizeof lasting / sizeof *lasting; i++) {
        fd = producer();
        accept_fails.with = lasting[i];
        accept_fails.times = 1000;
        until(DNSTAP_SINK_REFUSED, i + 1);
        assert_int_equal(w.result, DNSTAP_SYSTEM);
        assert_string_equal(w.peer, w.endpoint);
        assert_non_null(strstr(w.text, strerror(lasting[i])));
        for (turns = 0; turns < 20; turns++) { /* nobody is connected, and it goes on */
            assert_int_equal(turn(&timeout), DNSTAP_OK);
            assert_in_range(timeout, 1, 100);
            w.now += 10;
        }
        assert_int_equal(w.told[DNSTAP_SINK_REFUSED], i + 1); /* told once */
        accept_fails.times = 0;
        w.now += 100;
        until(DNSTAP_SINK_OPENED, i + 1);
        close(fd);
        until(DNSTAP_SINK_CLOSED, i + 1);
    }
    assert_int_equal(status().refused, 0);
}

static void test_connection_lost_before_accept_costs_no_other(void **state)
{
    static const int lost[] = {ECONNABORTED, ECONNRESET,  EPROTO,       EPERM,    ENOPROTOOPT,
                               ENETDOWN,     ENETUNREACH, EHOSTUNREACH, ETIMEDOUT};
    dnstap_sink_options o = options();
    unsigned i;
    int fd, timeout;

    (void)state;
    open_sink(&o);
    for (i = 0; i < sizeof lost / sizeof *lost; i++) {
        fd = producer();
        accept_fails.with = lost[i];
        accept_fails.times = 3;
        assert_int_equal(turn(&timeout), DNSTAP_OK);
        assert_int_equal(w.told[DNSTAP_SINK_OPENED], i + 1); /* at once, without a pause */
        close(fd);
        until(DNSTAP_SINK_CLOSED, i + 1);
    }
    assert_int_equal(w.told[DNSTAP_SINK_REFUSED], 0);
}

/* ---- the end ---- */

static void write_stream(const char *name, bool with_stop)
{
    static const uint8_t frame[] = {0, 0, 0, 6, 0x72, 2, 8, 5, 0x78, 1};
    dnstap_bytes start = dnstap__control_frame(DNSTAP_CONTROL_START);
    dnstap_bytes stop = dnstap__control_frame(DNSTAP_CONTROL_STOP);
    FILE *f = fopen(name, "wb");

    assert_non_null(f);
    fwrite(start.data, 1, start.size, f);
    fwrite(frame, 1, sizeof frame, f);
    if (with_stop) fwrite(stop.data, 1, stop.size, f);
    fclose(f);
}

static const char *file_name(void)
{
    static char name[64];

    snprintf(name, sizeof name, "%s/f", w.folder);
    snprintf(w.endpoint, sizeof w.endpoint, "file://%s", name);
    return name;
}

static void test_poll_set_of_a_file_is_empty_only_after_its_end(void **state)
{
    dnstap_sink_options o;
    struct pollfd fds[2];
    int timeout;

    (void)state;
    write_stream(file_name(), true);
    o = options();
    open_sink(&o);
    while (turn(&timeout) == DNSTAP_OK) {
    }
    assert_int_equal(w.told[DNSTAP_SINK_MESSAGE], 1);
    assert_int_equal(w.told[DNSTAP_SINK_CLOSED], 1);
    assert_int_equal(dnstap_sink_pollfds(w.sink, fds, 2, &timeout), 0);
    assert_int_equal(dnstap_sink_service(w.sink), DNSTAP_END);
}

static void test_empty_file_is_said_to_be_empty(void **state)
{
    dnstap_sink_options o;
    dnstap_received r;
    FILE *f = fopen(file_name(), "wb");

    (void)state;
    assert_non_null(f);
    fclose(f);
    o = options();
    open_sink(&o);
    assert_int_equal(dnstap_sink_next(w.sink, &r), DNSTAP_BAD_FRAME);
    assert_string_equal(r.text, "is empty");
}

/* A transport of the application's: a stream in memory, which comes in pieces of seven bytes. */
static struct {
    uint8_t data[256];
    size_t size, used;
    unsigned closed;
} memory;

static long memory_recv(void *self, void *data, size_t size, short *wants)
{
    size_t n = dnstap__min(dnstap__min(size, 7), memory.size - memory.used);

    (void)self, (void)wants;
    if (!n) return DNSTAP_END;
    memcpy(data, memory.data + memory.used, n);
    memory.used += n;
    return (long)n;
}

static void memory_close(void *self)
{
    (void)self;
    memory.closed++;
}

static void test_bytes_may_come_from_a_transport_without_descriptor(void **state)
{
    dnstap_transport t;
    dnstap_sink_options o;
    struct pollfd fds[2];
    int timeout;
    FILE *f;

    (void)state;
    write_stream(file_name(), true);
    f = fopen(file_name(), "rb");
    assert_non_null(f);
    memory.size = fread(memory.data, 1, sizeof memory.data, f);
    fclose(f);
    memset(&t, 0, sizeof t);
    t.recv = memory_recv;
    t.close = memory_close;
    snprintf(w.endpoint, sizeof w.endpoint, "file://memory");
    o = options();
    o.transport = &t;
    open_sink(&o);
    assert_int_equal(dnstap_sink_pollfds(w.sink, fds, 2, &timeout), 1);
    assert_int_equal(fds[0].fd, -1);
    assert_int_equal(timeout, 0);
    while (turn(&timeout) == DNSTAP_OK) {
    }
    assert_int_equal(w.told[DNSTAP_SINK_MESSAGE], 1);
    assert_int_equal(w.result, DNSTAP_OK);
    assert_string_equal(w.peer, "memory");
    assert_int_equal(memory.closed, 1);
}

/* ---- places ---- */

static void test_connection_without_place_is_refused_told_and_counted(void **state)
{
    dnstap_sink_options o = options();
    int first, fd;
    unsigned i;

    (void)state;
    o.max_connections = 1;
    open_sink(&o);
    first = begun();
    for (i = 1; i <= 3; i++) {
        fd = producer();
        until(DNSTAP_SINK_REFUSED, i);
        assert_int_equal(w.result, DNSTAP_NO_PLACE);
        assert_string_equal(w.text, dnstap_strerror(DNSTAP_NO_PLACE));
        assert_string_equal(w.peer, w.endpoint);
        expect_closed(fd);
    }
    assert_int_equal(status().refused, 3);
    assert_int_equal(status().connections, 1);
    assert_int_equal(status().open, 1);
    close(first);
    until(DNSTAP_SINK_CLOSED, 1);
    close(begun()); /* there is a place again */
}

static void test_silent_connection_gives_its_place_up(void **state)
{
    dnstap_sink_options o = options();
    int silent, talking, timeout;
    unsigned i;

    (void)state;
    o.max_connections = 2;
    o.idle_ms = 1000;
    open_sink(&o);
    silent = begun();
    talking = begun();
    for (i = 0; i < 9; i++) {
        pass(100);
        say_message(talking);
        until(DNSTAP_SINK_MESSAGE, 3 + i);
    }
    assert_int_equal(turn(&timeout), DNSTAP_OK);
    assert_int_equal(timeout, 100);
    pass(99);
    assert_int_equal(w.told[DNSTAP_SINK_CLOSED], 0);
    pass(1);
    assert_int_equal(w.told[DNSTAP_SINK_CLOSED], 1);
    assert_int_equal(w.result, DNSTAP_TIMEOUT);
    assert_non_null(strstr(w.text, "silent"));
    expect_closed(silent);
    close(begun());
    close(talking);
}

static void test_silence_is_no_end_by_default(void **state)
{
    dnstap_sink_options o = options();
    int fd, timeout;

    (void)state;
    open_sink(&o);
    fd = begun();
    assert_int_equal(turn(&timeout), DNSTAP_OK);
    assert_int_equal(timeout, -1);
    pass(1000u * 86400 * 365);
    assert_int_equal(w.told[DNSTAP_SINK_CLOSED], 0);
    say_message(fd);
    until(DNSTAP_SINK_MESSAGE, 2);
    close(fd);
}

/* ---- the handshake's time ---- */

static void test_each_step_of_a_handshake_has_its_time(void **state)
{
    dnstap_sink_options o = options();
    int fd, timeout;

    (void)state;
    open_sink(&o);
    fd = producer();
    until(DNSTAP_SINK_OPENED, 1);
    pass(3900);
    say(fd, DNSTAP_CONTROL_READY);
    while (dnstap__source_end(w.sink, w.sink->sources) == w.now + 100) {
        if (real_ms() - w.began > PATIENCE) fail_msg("READY was not taken");
        assert_int_equal(turn(&timeout), DNSTAP_OK);
    }
    pass(3900);
    assert_int_equal(w.told[DNSTAP_SINK_CLOSED], 0);
    pass(100);
    assert_int_equal(w.told[DNSTAP_SINK_CLOSED], 1);
    assert_int_equal(w.result, DNSTAP_TIMEOUT);
    expect_closed(fd);
}

static void test_handshake_that_trickles_ends_all_the_same(void **state)
{
    dnstap_sink_options o = options();
    dnstap_bytes ready = dnstap__control_frame(DNSTAP_CONTROL_READY);
    unsigned i;
    int fd;

    (void)state;
    open_sink(&o);
    fd = producer();
    until(DNSTAP_SINK_OPENED, 1);
    for (i = 0; i < 8 && !w.told[DNSTAP_SINK_CLOSED]; i++) {
        assert_int_equal(send(fd, (const uint8_t *)ready.data + i, 1, MSG_NOSIGNAL), 1);
        pass(1000);
    }
    assert_int_equal(i, 4);
    assert_int_equal(w.result, DNSTAP_TIMEOUT);
    expect_closed(fd);
}

static void test_clock_that_goes_back_closes_nobody(void **state)
{
    dnstap_sink_options o = options();
    int fd;

    (void)state;
    o.idle_ms = 1000;
    open_sink(&o);
    fd = begun();
    pass((uint64_t)0 - 900000);
    pass(999);
    assert_int_equal(w.told[DNSTAP_SINK_CLOSED], 0);
    pass(1);
    assert_int_equal(w.told[DNSTAP_SINK_CLOSED], 1);
    close(fd);
}

/* ---- addresses ---- */

static int option_of(int fd, int level, int name)
{
    int value = -1;
    socklen_t size = sizeof value;

    assert_int_equal(getsockopt(fd, level, name, &value, &size), 0);
    return value;
}

static int connect_tcp(const char *host)
{
    struct sockaddr_storage at;
    socklen_t size = sizeof at;
    dnstap__address to;
    dnstap__host_port h;
    int fd;

    assert_int_equal(getsockname(w.sink->listener.fd, (struct sockaddr *)&at, &size), 0);
    assert_int_equal(dnstap__from_sockaddr((struct sockaddr *)&at, &h), DNSTAP_OK);
    memset(&to, 0, sizeof to);
    assert_true(dnstap__numeric_address(&to.ip, host, (uint16_t)h.port));
    fd = socket(to.any.sa_family, SOCK_STREAM, 0);
    assert_true(fd >= 0);
    if (connect(fd, &to.any, dnstap__address_size(&to)) < 0) fail_msg("%s", strerror(errno));
    return fd;
}

static void test_accepted_tcp_connections_are_kept_alive(void **state)
{
    dnstap_sink_options o = options();
    int fd;

    (void)state;
    o.endpoint = "tcp://127.0.0.1:0";
    open_sink(&o);
    fd = connect_tcp("127.0.0.1");
    until(DNSTAP_SINK_OPENED, 1);
    assert_int_equal(option_of(dnstap__source_fd(w.sink->sources), SOL_SOCKET, SO_KEEPALIVE), 1);
    close(fd);
}

static void test_port_without_host_listens_on_all_addresses(void **state)
{
    dnstap_sink_options o = options();
    int fd, other = -1;

    (void)state;
    o.endpoint = "tcp://:0";
    open_sink(&o);
    fd = connect_tcp("127.0.0.1");
    until(DNSTAP_SINK_OPENED, 1);
    assert_memory_equal(w.peer, "127.0.0.1:", 10); /* and not [::ffff:127.0.0.1] */
    if (option_of(w.sink->listener.fd, SOL_SOCKET, SO_DOMAIN) == AF_INET6) {
        other = connect_tcp("::1");
        until(DNSTAP_SINK_OPENED, 2);
        assert_memory_equal(w.peer, "[::1]:", 6);
    }
    close(fd);
    if (other >= 0) close(other);
}

static void test_port_without_host_is_nowhere_to_send_to(void **state)
{
    dnstap_options o;
    dnstap_error error;

    (void)state;
    memset(&o, 0, sizeof o);
    o.endpoint = "tcp://:6000";
    assert_null(dnstap_open(&o, &error));
    assert_int_equal(error.code, DNSTAP_BAD_OPTION);
}

static void test_abstract_socket_takes_a_tap(void **state)
{
    dnstap_sink_options o = options();
    dnstap_options t;
    dnstap_error error;
    dnstap_message m;
    dnstap_tap *tap;
    struct stat st;
    int timeout;

    (void)state;
    snprintf(w.endpoint, sizeof w.endpoint, "unix://@dnstap-test-%ld", (long)getpid());
    open_sink(&o);
    assert_int_not_equal(stat(w.endpoint + 7, &st), 0); /* no file in the working directory */
    memset(&t, 0, sizeof t);
    t.endpoint = w.endpoint;
    tap = dnstap_open(&t, &error);
    if (!tap) fail_msg("%s", error.text);
    dnstap_message_start(&m, DNSTAP_MSG_CLIENT_QUERY);
    assert_int_equal(dnstap_log(tap, &m), 1);
    while (!w.told[DNSTAP_SINK_MESSAGE]) {
        if (real_ms() - w.began > PATIENCE) fail_msg("no message came");
        dnstap_service(tap);
        assert_int_equal(turn(&timeout), DNSTAP_OK);
    }
    dnstap_close(tap, 0);
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_failing_accept_pauses_and_ends_nothing),
        TEST(test_connection_lost_before_accept_costs_no_other),
        TEST(test_poll_set_of_a_file_is_empty_only_after_its_end),
        TEST(test_empty_file_is_said_to_be_empty),
        TEST(test_bytes_may_come_from_a_transport_without_descriptor),
        TEST(test_connection_without_place_is_refused_told_and_counted),
        TEST(test_silent_connection_gives_its_place_up),
        TEST(test_silence_is_no_end_by_default),
        TEST(test_each_step_of_a_handshake_has_its_time),
        TEST(test_handshake_that_trickles_ends_all_the_same),
        TEST(test_clock_that_goes_back_closes_nobody),
        TEST(test_accepted_tcp_connections_are_kept_alive),
        TEST(test_port_without_host_listens_on_all_addresses),
        TEST(test_port_without_host_is_nowhere_to_send_to),
        TEST(test_abstract_socket_takes_a_tap),
    };

    return RUN_TESTS(tests, NULL, NULL);
}
