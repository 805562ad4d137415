/* Servers that replace themselves: two processes with one listening socket for a moment, a new one
 * beside the old, or workers of one parent. A sink of ours is there all the time. */
#define _GNU_SOURCE
#define DNSTAP_IMPLEMENTATION
#include "dnstap.h"

#include "tap_support.h"
#include "tap_peer.h"
#include "listen_support.h"
#include "tap_file.h"

/* ---- a sink that dials, and counts by producer ---- */

static struct {
    dnstap_sink *sink;
    unsigned opened, closed, frames[PRODUCERS];
    int result; /* of the last end */
} collecting;

static int collect(void *user, const dnstap_received *r)
{
    (void)user;
    if (r->kind == DNSTAP_SINK_OPENED) collecting.opened++;
    if (r->kind == DNSTAP_SINK_CLOSED && r->connection) {
        collecting.closed++;
        collecting.result = r->result;
    }
    if (r->kind != DNSTAP_SINK_MESSAGE) return DNSTAP_OK;
    assert_true(r->message->query_port < PRODUCERS);
    collecting.frames[r->message->query_port]++;
    return DNSTAP_OK;
}

static void sink_begin(const char *name)
{
    dnstap_sink_options o;
    dnstap_error error;

    memset(&o, 0, sizeof o);
    memset(&collecting, 0, sizeof collecting);
    o.endpoint = name;
    o.connect = true;
    o.receive = collect;
    collecting.sink = dnstap_sink_open(&o, &error);
    if (!collecting.sink) fail_msg("%s", error.text);
}

static void sink_turn(void)
{
    struct pollfd fds[4];
    int timeout, n = dnstap_sink_pollfds(collecting.sink, fds, 4, &timeout);

    poll(fds, (nfds_t)n, timeout < 0 || timeout > 5 ? 5 : timeout);
    assert_int_equal(dnstap_sink_service(collecting.sink), DNSTAP_OK);
}

#define SINK_UNTIL(condition)                                             \
    do {                                                                  \
        uint64_t end_ = real_ms() + PATIENCE;                             \
        while (!(condition)) {                                            \
            if (real_ms() > end_) fail_msg("never came: %s", #condition); \
            sink_turn();                                                  \
        }                                                                 \
    } while (0)

/* ---- a process with a tap ---- */

typedef struct server {
    pid_t pid;
    int orders; /* a byte: log so many; when it is closed: end */
} server;

static void child_log(dnstap_tap *tap, unsigned producer)
{
    dnstap_message m;

    dnstap_message_start(&m, DNSTAP_MSG_CLIENT_QUERY);
    m.query_port = producer;
    CHILD_ASSERT(dnstap_log(tap, &m) == 1);
}

static void child_serve(dnstap_tap *tap, int orders, unsigned producer)
{
    uint64_t end = real_ms() + PATIENCE;
    uint8_t count;

    CHILD_ASSERT(tap && dnstap_start(tap) == DNSTAP_OK);
    while (read(orders, &count, 1) == 1) {
        while (!dnstap_wants(tap, DNSTAP_MSG_CLIENT_QUERY)) {
            CHILD_ASSERT(real_ms() < end);
            poll(NULL, 0, 1);
        }
        while (count--) child_log(tap, producer);
    }
    _exit(dnstap_close(tap, PATIENCE) == DNSTAP_OK ? 0 : 1);
}

static int last_orders = -1; /* a worker that is forked later must not hold them open */

/* With a tap that was opened before, or else opens one with these options. */
static server server_begin(dnstap_tap *tap, const dnstap_options *o, unsigned producer)
{
    server s;
    int fds[2];

    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    s.orders = fds[1];
    s.pid = fork();
    assert_true(s.pid >= 0);
    if (s.pid == 0) {
        close(fds[1]);
        close(last_orders);
        child_serve(tap ? tap : dnstap_open(o, NULL), fds[0], producer);
    }
    close(fds[0]);
    last_orders = fds[1];
    return s;
}

static void server_log(const server *s, uint8_t count)
{
    assert_int_equal(write(s->orders, &count, 1), 1);
}

static void stop_orders(const server *s)
{
    if (last_orders == s->orders) last_orders = -1;
    close(s->orders);
}

/* While the sink reads on. */
static void server_end(server *s)
{
    int status;

    stop_orders(s);
    SINK_UNTIL(waitpid(s->pid, &status, WNOHANG) == s->pid);
    assert_int_equal(status, 0);
}

/* ---- where ---- */

static char where[128];

static dnstap_options listen_at(const char *name)
{
    dnstap_options o;

    memset(&o, 0, sizeof o);
    snprintf(where, sizeof where, "%s", name);
    o.endpoint = where;
    o.listen = true;
    return o;
}

static dnstap_options listen_on_unix(void) { return listen_at(socket_at("handover")); }

static dnstap_options listen_on_tcp(void)
{
    char name[64];
    collector free_port;

    collector_open(&free_port, NULL);
    collector_close(&free_port);
    snprintf(name, sizeof name, "tcp://127.0.0.1:%u", (unsigned)free_port.port);
    return listen_at(name);
}

/* ---- a new process beside the old ---- */

static void hand_over(dnstap_options o, const char *refusal)
{
    dnstap_error error;
    server old, new;

    old = server_begin(NULL, &o, 1);
    sink_begin(where);
    server_log(&old, 30);
    SINK_UNTIL(collecting.frames[1] == 30);
    assert_null(dnstap_open(&o, &error));
    if (!strstr(error.text, refusal)) fail_msg("\"%s\" lacks \"%s\"", error.text, refusal);
    server_log(&old, 30); /* it is not disturbed */
    server_end(&old);
    assert_int_equal(collecting.frames[1], 60);
    assert_int_equal(collecting.result, DNSTAP_OK); /* with STOP */
    new = server_begin(NULL, &o, 2);                /* at once */
    server_log(&new, 30);
    SINK_UNTIL(collecting.frames[2] == 30);
    server_end(&new);
    assert_int_equal(collecting.opened, 2);
    dnstap_sink_close(collecting.sink);
}

static void test_a_new_process_listens_when_the_old_has_closed(void **state)
{
    (void)state;
    hand_over(listen_on_unix(), "another process listens there; stop it");
    hand_over(listen_on_tcp(), "listen: Address already in use");
}

/* As after exec(2): the socket is closed, and its file still there. */
static void test_a_process_listens_anew_where_it_was_killed(void **state)
{
    dnstap_options o = listen_on_unix();
    server old = server_begin(NULL, &o, 1), new;

    (void)state;
    sink_begin(where);
    server_log(&old, 30);
    SINK_UNTIL(collecting.frames[1] == 30);
    assert_int_equal(kill(old.pid, SIGKILL), 0);
    assert_int_equal(waitpid(old.pid, NULL, 0), old.pid);
    stop_orders(&old);
    assert_int_equal(access(where + strlen("unix://"), F_OK), 0);
    new = server_begin(NULL, &o, 2);
    server_log(&new, 30);
    SINK_UNTIL(collecting.frames[2] == 30);
    server_end(&new);
    dnstap_sink_close(collecting.sink);
}

/* ---- workers of one parent, who has opened the tap ---- */

static void replace_worker(dnstap_options o)
{
    dnstap_error error;
    dnstap_tap *tap = dnstap_open(&o, &error);
    server old, new;

    if (!tap) fail_msg("%s", error.text);
    old = server_begin(tap, NULL, 1);
    sink_begin(where);
    server_log(&old, 30);
    SINK_UNTIL(collecting.frames[1] == 30);
    new = server_begin(tap, NULL, 2); /* both serve */
    server_end(&old);
    server_log(&new, 30); /* the sink has come to the other */
    SINK_UNTIL(collecting.frames[2] == 30);
    server_end(&new);
    new = server_begin(tap, NULL, 3); /* none did for a moment */
    server_log(&new, 30);
    SINK_UNTIL(collecting.frames[3] == 30);
    server_end(&new);
    assert_int_equal(collecting.opened, 3);
    dnstap_close(tap, 0);
    dnstap_sink_close(collecting.sink);
}

static void test_a_worker_follows_another_without_a_gap(void **state)
{
    (void)state;
    replace_worker(listen_on_unix());
    assert_int_equal(access(where + strlen("unix://"), F_OK), -1); /* removed by the parent */
    replace_worker(listen_on_tcp());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_new_process_listens_when_the_old_has_closed),
        cmocka_unit_test(test_a_process_listens_anew_where_it_was_killed),
        cmocka_unit_test(test_a_worker_follows_another_without_a_gap),
    };

    return RUN_TESTS(tests, make_folder, drop_folder);
}
