/* What a sink reads from, and when it has ended: files, a transport of the application's, the
 * addresses it listens on. */
#define _GNU_SOURCE
#define DNSTAP_IMPLEMENTATION
#include "dnstap.h"
#include "sink_support.h"

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
    const struct CMUnitTest tests[] = {
        SINK_TEST(test_poll_set_of_a_file_is_empty_only_after_its_end),
        SINK_TEST(test_empty_file_is_said_to_be_empty),
        SINK_TEST(test_bytes_may_come_from_a_transport_without_descriptor),
        SINK_TEST(test_accepted_tcp_connections_are_kept_alive),
        SINK_TEST(test_port_without_host_listens_on_all_addresses),
        SINK_TEST(test_port_without_host_is_nowhere_to_send_to),
        SINK_TEST(test_abstract_socket_takes_a_tap),
    };

    return RUN_TESTS(tests, NULL, NULL);
}
