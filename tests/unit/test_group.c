/* A group of taps: what is logged goes to all of them, and a reload changes what it has to change
 * and nothing else. Real sockets, sinks of our own in the same loop. */
#define _GNU_SOURCE
#define DNSTAP_IMPLEMENTATION
#include "dnstap.h"

#include "group_support.h"
#include "metrics_support.h"

/* -- logging -- */

static void test_what_is_logged_goes_to_all_taps(void **state)
{
    house *a = settle("a"), *b = settle("b");
    dnstap_group *g = group_of(config(a->endpoint, b->endpoint, NULL));

    (void)state;
    assert_true(dnstap_group_wants(g, DNSTAP_MSG_CLIENT_QUERY));
    say_many(g, 1000);
    UNTIL(g, has_all(a) && has_all(b));
    assert_int_equal(tap_status(g, 0).status.connects, 1);
    assert_int_equal(close_all(g, PATIENCE), DNSTAP_OK);
    assert_int_equal(a->stopped, 1);
    assert_int_equal(b->stopped, 1);
}

static void test_no_tap_wants_nothing_and_loses_nothing(void **state)
{
    dnstap_group *g = group_of("# nothing yet");
    int timeout = 0;
    struct pollfd fds[4];

    (void)state;
    assert_false(dnstap_group_wants(g, DNSTAP_MSG_CLIENT_QUERY));
    assert_int_equal(say(g, 0), 0);
    assert_int_equal(dnstap_group_pollfds(g, fds, 4, &timeout), 1);
    assert_int_equal(timeout, -1);
    assert_int_equal(dnstap_group_flush(g, 1000), DNSTAP_OK);
    assert_int_equal(dnstap_group_log(NULL, NULL), 0);
    assert_int_equal(dnstap_group_log_raw(NULL, NULL), 0);
    assert_int_equal(dnstap_group_log_as(NULL, 0, NULL), 0);
    assert_false(dnstap_group_wants(NULL, 1));
    assert_int_equal(dnstap_group_close(NULL, 0), DNSTAP_OK);
    assert_int_equal(dnstap_group_close(g, 0), DNSTAP_OK);
}

/* One that recorded it is enough; what another dropped is in its books. */
static void test_the_result_is_that_of_the_best_tap(void **state)
{
    house *a = settle("a");
    dnstap_group *g;
    dnstap_message m;

    (void)state;
    common.max_message = 500;
    g = group_of(config("/nobody {\ndrop_when_disconnected\n}", a->endpoint, NULL));
    write_message(&m, 0, written[0]++);
    turn(g);
    assert_int_equal(dnstap_group_log(g, &m), 1);
    UNTIL(g, has_all(a));
    m.extra = dnstap_bytes_of(heard, 1000);
    assert_int_equal(dnstap_group_log(g, &m), DNSTAP_DISCONNECTED);
    assert_int_equal(tap_status(g, 0).status.dropped_disconnected, 2);
    assert_int_equal(tap_status(g, 1).status.dropped_large, 1);
    close_all(g, 0);
}

static long tell(void *user, const dnstap_message *m, const char *label, char *out, size_t size)
{
    (void)user;
    assert_string_equal(label, "who");
    return (long)snprintf(out, size, "%s", (const char *)m->user);
}

static void test_metadata_is_asked_for_and_left_out_at_will(void **state)
{
    char who[] = "somebody";
    dnstap_message m;
    dnstap_group *g;
    house *a, *b;

    (void)state;
    a = settle("a");
    b = settle("b");
    common.metadata = tell;
    g = group_of(config(path_of("unix://", "a {\nextra \"{/who} {type}\"\n}"), b->endpoint, NULL));
    write_message(&m, 0, written[0]++);
    m.user = who;
    assert_int_equal(dnstap_group_log(g, &m), 1);
    UNTIL(g, has_all(a) && has_all(b));
    assert_string_equal(a->extra, "somebody -");
    assert_string_equal(b->extra, "");
    write_message(&m, 0, written[0]++);
    assert_int_equal(dnstap_group_log_raw(g, &m), 1);
    UNTIL(g, has_all(a) && has_all(b));
    assert_string_equal(a->extra, "{/who} {type}");
    assert_string_equal(b->extra, "");
    write_message(&m, 0, written[0]++);
    m.extra = dnstap_bytes_of("mine", 4);
    assert_int_equal(dnstap_group_log_raw(g, &m), 1);
    UNTIL(g, has_all(a) && has_all(b));
    assert_string_equal(a->extra, "mine");
    assert_string_equal(b->extra, "mine");
    assert_int_equal(close_all(g, PATIENCE), DNSTAP_OK);
}

static void test_it_is_switched_off_and_on_with_those_that_come(void **state)
{
    house *a = settle("a"), *b = settle("b");
    dnstap_group *g = group_of(config(a->endpoint, NULL, NULL));

    (void)state;
    dnstap_group_set_enabled(g, false);
    assert_false(dnstap_group_wants(g, DNSTAP_MSG_CLIENT_QUERY));
    reload(g, config(a->endpoint, b->endpoint, NULL));
    assert_false(dnstap_group_wants(g, DNSTAP_MSG_CLIENT_QUERY));
    assert_int_equal(say(g, 0), 0);
    written[0] = 0;
    dnstap_group_set_enabled(g, true);
    assert_true(dnstap_group_wants(g, DNSTAP_MSG_CLIENT_QUERY));
    say_many(g, 10);
    UNTIL(g, has_all(a) && has_all(b));
    assert_int_equal(close_all(g, PATIENCE), DNSTAP_OK);
}

static void test_a_flush_delivers_what_can_be_delivered(void **state)
{
    char path[100];
    dnstap_group *g;
    struct stat st;

    (void)state;
    snprintf(path, sizeof path, "%s", path_of("", "flushed.fstrm"));
    g = group_of(config("/nobody", path_of("file://", "flushed.fstrm"), NULL));
    say_many(g, 100);
    assert_int_equal(dnstap_group_flush(g, 200), DNSTAP_TIMEOUT);
    assert_int_equal(tap_status(g, 0).status.queued, 100);
    assert_int_equal(tap_status(g, 1).status.sent, 100);
    assert_int_equal(stat(path, &st), 0);
    assert_true(st.st_size > 1000);
    assert_int_equal(dnstap_group_reopen(g), DNSTAP_OK);
    reload(g, config(path_of("file://", "flushed.fstrm"), NULL, NULL));
    assert_int_equal(dnstap_group_flush(g, PATIENCE), DNSTAP_OK);
    assert_int_equal(dnstap_group_close(g, PATIENCE), DNSTAP_TIMEOUT); /* of /nobody's */
}

/* -- reload -- */

static void test_unchanged_taps_go_on_and_others_come_and_go(void **state)
{
    house *a = settle("a"), *b = settle("b"), *c;
    dnstap_group *g = group_of(config(a->endpoint, b->endpoint, NULL));
    const dnstap_tap *kept = g->rosters[1].taps[0];

    (void)state;
    say_many(g, 500);
    UNTIL(g, has_all(a) && has_all(b));
    say_many(g, 300); /* are in the rings */
    c = settle("c");
    reload(g, config(c->endpoint, a->endpoint, NULL));
    assert_ptr_equal(dnstap__roster_of(g)->taps[1], kept);
    say_many(g, 500);
    UNTIL(g, has_all(a) && has_all(c) && is_settled(g));
    assert_int_equal(a->opened, 1);
    assert_int_equal(a->messages, 1300);
    assert_int_equal(tap_status(g, 1).status.recorded, 1300);
    assert_int_equal(tap_status(g, 1).status.connects, 1);
    assert_int_equal(b->messages, 800);
    assert_int_equal(b->stopped, 1);
    assert_int_equal(c->messages, 500);
    assert_int_equal(close_all(g, PATIENCE), DNSTAP_OK);
}

/* What is not said of a text is where in it a tap stands. */
static void test_a_text_that_says_the_same_changes_nothing(void **state)
{
    house *a = settle("a"), *b = settle("b");
    dnstap_group *g = group_of(config(a->endpoint, b->endpoint, NULL));
    const dnstap__roster before = *dnstap__roster_of(g);
    char text[500];

    (void)state;
    sprintf(text, "# moved\n\n%s", config(b->endpoint, path_of("unix://", "a { \n}"), NULL));
    reload(g, text);
    assert_ptr_equal(dnstap__roster_of(g)->taps[0], before.taps[1]);
    assert_ptr_equal(dnstap__roster_of(g)->taps[1], before.taps[0]);
    assert_true(is_settled(g));
    close_all(g, PATIENCE);
}

static void refuse(dnstap_group *g, const char *text, int code, const char *why)
{
    dnstap__roster before = *dnstap__roster_of(g);
    size_t serial = g->serial;
    dnstap_error error;

    assert_int_equal(dnstap_group_reload_text(g, text, &reading, &error), code);
    assert_int_equal(error.code, code);
    if (!strstr(error.text, why)) fail_msg("%s", error.text);
    assert_memory_equal(&before, dnstap__roster_of(g), sizeof before);
    assert_true(is_settled(g));
    assert_true(g->serial == serial || code == DNSTAP_SYSTEM);
}

static void test_a_text_with_an_error_changes_nothing(void **state)
{
    house *a = settle("a"), *b = settle("b");
    dnstap_group *g = group_of(config(a->endpoint, "listen tcp://127.0.0.1:0", NULL));
    char text[600], taken[64];
    struct stat st;
    unsigned i;

    (void)state;
    say_many(g, 10);
    UNTIL(g, has_all(a));
    refuse(g, config(b->endpoint, "{", NULL), DNSTAP_BAD_OPTION, "line 2");
    refuse(g, config(path_of("file://", "new.fstrm"), "tcp://no-port", NULL), DNSTAP_BAD_OPTION,
           "port");
    refuse(g, config(path_of("file://", "new.fstrm"), "file:///no/such/path", NULL), DNSTAP_SYSTEM,
           "/no/such/path");
    sprintf(taken, "listen tcp://127.0.0.1:%d", tap_status(g, 1).status.port);
    refuse(g, config(path_of("file://", "new.fstrm"), taken, NULL), DNSTAP_SYSTEM, "in use");
    sprintf(text, "dnstap %s\n", b->endpoint);
    for (i = 0; i < 16; i++) strcat(text, "dnstap /x\n");
    refuse(g, text, DNSTAP_BAD_OPTION, "more than 16");
    assert_int_equal(stat(path_of("", "new.fstrm"), &st), -1);
    say_many(g, 10);
    UNTIL(g, has_all(a));
    assert_int_equal(a->opened, 1);
    assert_int_equal(b->opened, 0);
    assert_int_equal(close_all(g, PATIENCE), DNSTAP_OK);
}

/* Where in a text it stands, and the size of a block that is absent. */
static bool makes_no_difference(size_t at)
{
    size_t i;

    for (i = 0; i < DNSTAP__BLOCKS_GIVEN; i++)
        if (at - dnstap__blocks_given[i] - offsetof(dnstap_bytes, size) < sizeof(size_t))
            return true;
    return at >= offsetof(dnstap_options, line) && at <= offsetof(dnstap_options, coredns);
}

/* No field is forgotten, whoever adds one. */
static void test_every_byte_of_the_options_makes_a_difference(void **state)
{
    static dnstap_options a, b;
    static const dnstap_transport nothing;
    size_t i;

    (void)state;
    for (i = 0; i < offsetof(dnstap_options, transport); i++) {
        memset(&b, 0, sizeof b);
        assert_true(dnstap__same_options(&a, &b));
        ((unsigned char *)&b)[i] = 1;
        assert_int_equal(dnstap__same_options(&a, &b), makes_no_difference(i));
    }
    memset(&b, 0, sizeof b);
    b.transport = &nothing;
    assert_false(dnstap__same_options(&a, &b));
    assert_int_equal(sizeof a, offsetof(dnstap_options, transport) + sizeof a.transport);
}

static void test_texts_and_blocks_are_compared_by_what_is_in_them(void **state)
{
    static dnstap_options a, b;
    char one[] = "text", two[] = "text", other[] = "texts";
    const char *const zones[] = {one, NULL}, *const same[] = {two, NULL};
    const char *const longer[] = {two, other, NULL};
    size_t i;

    (void)state;
    for (i = 0; i < DNSTAP__TEXTS_GIVEN; i++) {
        *dnstap__text_given(&a, i) = one;
        assert_false(dnstap__same_options(&a, &b));
        *dnstap__text_given(&b, i) = other;
        assert_false(dnstap__same_options(&a, &b));
        *dnstap__text_given(&b, i) = two;
        assert_true(dnstap__same_options(&a, &b));
    }
    a.zones = zones;
    assert_false(dnstap__same_options(&a, &b));
    b.zones = longer;
    assert_false(dnstap__same_options(&a, &b));
    b.zones = same;
    assert_true(dnstap__same_options(&a, &b));
    for (i = 0; i < DNSTAP__BLOCKS_GIVEN; i++) {
        *dnstap__block_given(&a, i) = dnstap_bytes_of(one, 4);
        assert_false(dnstap__same_options(&a, &b));
        *dnstap__block_given(&b, i) = dnstap_bytes_of(other, 5);
        assert_false(dnstap__same_options(&a, &b));
        *dnstap__block_given(&b, i) = dnstap_bytes_of(two, 4);
        assert_true(dnstap__same_options(&a, &b));
    }
}

/* -- where only one can be -- */

/* Whether somebody can connect there now. */
static bool answers(const char *name)
{
    struct sockaddr_un a;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    bool good;

    memset(&a, 0, sizeof a);
    a.sun_family = AF_UNIX;
    snprintf(a.sun_path, sizeof a.sun_path, "%s/%s", folder, name);
    good = connect(fd, (struct sockaddr *)&a, sizeof a) == 0;
    close(fd);
    return good;
}

static void test_a_new_listening_tap_gets_the_old_ones_socket(void **state)
{
    house *before, *after;
    dnstap_group *g;
    struct stat st;

    (void)state;
    g = group_of(config(path_of("listen unix://", "l {\nmax_sinks 2\n}"), NULL, NULL));
    before = settle_at(path_of("unix://", "l"), true);
    UNTIL(g, dnstap_group_wants(g, DNSTAP_MSG_CLIENT_QUERY));
    say_many(g, 100);
    reload(g,
           config(path_of("listen unix://", "l {\nmax_sinks 3\nsocket_mode 0600\n}"), NULL, NULL));
    assert_true(answers("l"));
    assert_int_equal(stat(path_of("", "l"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    UNTIL(g, before->stopped == 1);
    assert_int_equal(before->messages, 100);
    after = settle_at(path_of("unix://", "l"), true);
    UNTIL(g, tap_status(g, 0).status.sinks == 2 && is_settled(g)); /* the first came back, too */
    assert_true(answers("l"));
    memcpy(before->next, written, sizeof written);
    memcpy(after->next, written, sizeof written);
    say_many(g, 100);
    UNTIL(g, has_all(before) && has_all(after));
    assert_int_equal(close_all(g, PATIENCE), DNSTAP_OK);
    assert_int_equal(stat(path_of("", "l"), &st), -1);
}

static void test_a_port_that_the_system_chose_stays(void **state)
{
    dnstap_group *g = group_of("dnstap listen tcp://127.0.0.1:0");
    uint16_t port = tap_status(g, 0).status.port;

    (void)state;
    turn(g);
    reload(g, "dnstap listen tcp://127.0.0.1:0 full");
    assert_int_equal(tap_status(g, 0).status.port, port);
    UNTIL(g, is_settled(g));
    close_all(g, 0);
}

static uint64_t messages_in(const char *name)
{
    dnstap_sink_options o;
    dnstap_received r;
    dnstap_sink *sink;
    dnstap_error error;
    uint64_t n = 0;

    memset(&o, 0, sizeof o);
    o.endpoint = path_of("file://", name);
    sink = dnstap_sink_open(&o, &error);
    assert_non_null(sink);
    while (dnstap_sink_next(sink, &r) == DNSTAP_OK) {
        if (r.kind != DNSTAP_SINK_MESSAGE) continue;
        assert_int_equal(r.message->query_time_sec, n);
        n++;
    }
    dnstap_sink_close(sink);
    return n;
}

static void test_a_new_tap_goes_on_in_an_old_ones_file(void **state)
{
    dnstap_group *g = group_of(config(path_of("file://", "f"), NULL, NULL));
    unsigned i;

    (void)state;
    turn(g);
    for (i = 0; i < 20; i++) {
        say_many(g, 50);
        reload(g, config(path_of("file://", i % 2 ? "f" : "f full"), NULL, NULL));
        if (i % 3) turn(g);
    }
    UNTIL(g, is_settled(g));
    assert_int_equal(dnstap_group_flush(g, PATIENCE), DNSTAP_OK);
    assert_int_equal(tap_status(g, 0).status.failures, 0);
    assert_int_equal(dnstap_group_close(g, PATIENCE), DNSTAP_OK);
    assert_int_equal(messages_in("f"), 1000);
}

/* A transport that knows whether it is used by two. */
static struct wire {
    bool up, stopping;
    unsigned starts;
    uint64_t bytes;
} wire;

static int wire_start(void *self, short *wants)
{
    struct wire *w = (struct wire *)self;

    (void)wants;
    assert_false(w->up);
    w->up = true;
    w->starts++;
    return DNSTAP_OK;
}

static long wire_send(void *self, const void *data, size_t size, short *wants)
{
    struct wire *w = (struct wire *)self;

    (void)data;
    (void)wants;
    assert_true(w->up);
    w->bytes += size;
    return (long)size;
}

static long wire_recv(void *self, void *data, size_t size, short *wants)
{
    (void)self, (void)data, (void)size;
    *wants = 0;
    return DNSTAP_AGAIN;
}

static void wire_close(void *self) { ((struct wire *)self)->up = false; }

static void test_a_transport_has_one_tap_at_a_time(void **state)
{
    dnstap_transport t = {&wire, wire_start, wire_send, wire_recv, NULL, wire_close, NULL, NULL};
    dnstap_error error;
    dnstap_options o;
    dnstap_group *g;
    unsigned i;

    (void)state;
    memset(&o, 0, sizeof o);
    o.transport = &t;
    o.unidirectional = true;
    g = dnstap_group_open(&o, 1, &error);
    assert_non_null(g);
    turn(g);
    for (i = 1; i <= 10; i++) {
        say_many(g, 10);
        o.queue = 1 + i;
        assert_int_equal(dnstap_group_reload(g, &o, 1, &error), DNSTAP_OK);
        if (i % 2) UNTIL(g, is_settled(g));
    }
    UNTIL(g, is_settled(g));
    say_many(g, 10);
    assert_int_equal(dnstap_group_flush(g, PATIENCE), DNSTAP_OK);
    assert_int_equal(wire.starts, 11);
    assert_int_equal(tap_status(g, 0).status.sent, 10);
    assert_int_equal(dnstap_group_close(g, 1000), DNSTAP_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_what_is_logged_goes_to_all_taps, forget),
        cmocka_unit_test_setup(test_no_tap_wants_nothing_and_loses_nothing, forget),
        cmocka_unit_test_setup(test_the_result_is_that_of_the_best_tap, forget),
        cmocka_unit_test_setup(test_metadata_is_asked_for_and_left_out_at_will, forget),
        cmocka_unit_test_setup(test_it_is_switched_off_and_on_with_those_that_come, forget),
        cmocka_unit_test_setup(test_a_flush_delivers_what_can_be_delivered, forget),
        cmocka_unit_test_setup(test_unchanged_taps_go_on_and_others_come_and_go, forget),
        cmocka_unit_test_setup(test_a_text_that_says_the_same_changes_nothing, forget),
        cmocka_unit_test_setup(test_a_text_with_an_error_changes_nothing, forget),
        cmocka_unit_test(test_every_byte_of_the_options_makes_a_difference),
        cmocka_unit_test(test_texts_and_blocks_are_compared_by_what_is_in_them),
        cmocka_unit_test_setup(test_a_new_listening_tap_gets_the_old_ones_socket, forget),
        cmocka_unit_test_setup(test_a_port_that_the_system_chose_stays, forget),
        cmocka_unit_test_setup(test_a_new_tap_goes_on_in_an_old_ones_file, forget),
        cmocka_unit_test_setup(test_a_transport_has_one_tap_at_a_time, forget),
    };

    return RUN_TESTS(tests, enter_folder, leave_folder);
}
