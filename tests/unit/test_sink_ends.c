/* How a connection or a file ended is told by an enum and a text, and counted by cause; who greets
 * and who does not are told apart; files that grow, and bytes that come from elsewhere. */
#define _GNU_SOURCE
#define DNSTAP_IMPLEMENTATION
#include "dnstap.h"
#include "sink_support.h"
#include <sys/wait.h>

#define OF(bytes) bytes, sizeof bytes - 1
#define CONTROL(length, type) "\0\0\0\0\0\0" length "\0\0\0" type
#define OURS "\0\0\0\1\0\0\0\26protobuf:dnstap.Dnstap"
#define READY CONTROL("\0\42", "\4") OURS
#define START CONTROL("\0\42", "\2") OURS
#define BARE_START CONTROL("\0\4", "\2")
#define STOP CONTROL("\0\4", "\3")
#define MESSAGE "\0\0\0\6\x72\2\10\5\x78\1"
#define HTTP "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"

enum { CLOSES, FALLS_SILENT };

/* What a producer says, and then does. */
static const struct {
    const char *bytes;
    size_t size;
    int then;
    unsigned messages;
    int result;
    dnstap_sink_end end;
    const char *text;
} producers[] = {
    {OF(READY START MESSAGE STOP), CLOSES, 1, DNSTAP_OK, DNSTAP_SINK_ENDED_STOP, "ended with STOP"},
    {OF(START MESSAGE STOP), CLOSES, 1, DNSTAP_OK, DNSTAP_SINK_ENDED_STOP, "ended with STOP"},
    {OF(BARE_START MESSAGE STOP), CLOSES, 1, DNSTAP_OK, DNSTAP_SINK_ENDED_STOP, "ended with STOP"},
    {OF(READY START MESSAGE), CLOSES, 1, DNSTAP_END, DNSTAP_SINK_ENDED_EOF, "ends without STOP"},
    {OF(START MESSAGE), CLOSES, 1, DNSTAP_END, DNSTAP_SINK_ENDED_EOF, "ends without STOP"},
    {OF(READY START MESSAGE "\0\0\0\6\x72"), CLOSES, 1, DNSTAP_CUT, DNSTAP_SINK_ENDED_CUT,
     "stream ends inside a frame"},
    {OF(START "\377\377\377\377abc"), CLOSES, 0, DNSTAP_BAD_FRAME, DNSTAP_SINK_ENDED_CUT,
     "ends inside a frame that is larger than max_frame"},
    {OF(""), CLOSES, 0, DNSTAP_BAD_FRAME, DNSTAP_SINK_ENDED_EARLY, "is empty"},
    {OF(READY), CLOSES, 0, DNSTAP_BAD_FRAME, DNSTAP_SINK_ENDED_EARLY, "ends before START"},
    {OF("\0\0\0"), CLOSES, 0, DNSTAP_BAD_FRAME, DNSTAP_SINK_ENDED_EARLY, "ends before START"},
    {OF(HTTP), FALLS_SILENT, 0, DNSTAP_BAD_FRAME, DNSTAP_SINK_ENDED_PROTOCOL,
     "not Frame Streams, or against its rules"},
    {OF(START MESSAGE CONTROL("\2\1", "\3")), FALLS_SILENT, 1, DNSTAP_BAD_FRAME,
     DNSTAP_SINK_ENDED_PROTOCOL, "not Frame Streams, or against its rules"},
    {OF(READY START MESSAGE), FALLS_SILENT, 1, DNSTAP_TIMEOUT, DNSTAP_SINK_ENDED_IDLE,
     "silent for longer than idle_ms"},
    {OF(READY), FALLS_SILENT, 0, DNSTAP_TIMEOUT, DNSTAP_SINK_ENDED_TIMEOUT,
     "no progress in 4000 ms while greeting"},
};
enum { PRODUCERS = sizeof producers / sizeof *producers };

static void check_books(void)
{
    dnstap_sink_status s = status();
    uint64_t ended = 0;
    unsigned i;

    for (i = 0; i < DNSTAP_SINK_ENDS; i++) ended += s.ended[i];
    assert_int_equal(s.connections + s.refused, s.open + ended);
    assert_int_equal(s.refused, s.ended[DNSTAP_SINK_ENDED_REFUSED]);
    assert_int_equal(s.ended[DNSTAP_SINK_NOT_ENDED], 0);
}

static void test_each_end_is_told_and_counted_as_what_it_is(void **state)
{
    uint64_t counts[DNSTAP_SINK_ENDS] = {0};
    dnstap_sink_options o = options();
    unsigned i, k, before;
    int fd;

    (void)state;
    o.idle_ms = 5000;
    open_sink(&o);
    for (i = 0; i < PRODUCERS; i++) {
        before = w.told[DNSTAP_SINK_MESSAGE];
        fd = producer();
        until(DNSTAP_SINK_OPENED, i + 1);
        send(fd, producers[i].bytes, producers[i].size, MSG_NOSIGNAL);
        pass(0);
        if (producers[i].then == CLOSES) shutdown(fd, SHUT_WR);
        if (producers[i].then == FALLS_SILENT && w.told[DNSTAP_SINK_CLOSED] == i) pass(5000);
        until(DNSTAP_SINK_CLOSED, i + 1);
        if (w.result != producers[i].result || w.end != producers[i].end ||
            strcmp(w.text, producers[i].text))
            fail_msg("producer %u: %d, %s, %s", i, w.result, dnstap_sink_end_name(w.end), w.text);
        assert_int_equal(w.told[DNSTAP_SINK_MESSAGE], before + producers[i].messages);
        expect_closed(fd);
        counts[w.end]++;
        for (k = 0; k < DNSTAP_SINK_ENDS; k++) assert_int_equal(status().ended[k], counts[k]);
        check_books();
    }
    assert_int_equal(status().skipped, 1);
}

static void test_refused_connection_is_an_end_of_its_own(void **state)
{
    dnstap_sink_options o = options();
    int first, fd;

    (void)state;
    o.max_connections = 1;
    open_sink(&o);
    first = begun();
    fd = producer();
    until(DNSTAP_SINK_REFUSED, 1);
    assert_int_equal(w.end, DNSTAP_SINK_ENDED_REFUSED);
    assert_string_equal(w.text, dnstap_strerror(DNSTAP_NO_PLACE));
    check_books();
    expect_closed(fd);
    close(first);
}

/* A producer that does not wait for ACCEPT and has gone when it comes. */
static void test_what_was_sent_before_a_peer_left_is_not_lost(void **state)
{
    enum { MANY = 15000 };
    static uint8_t messages[MANY][10];
    dnstap_sink_options o = options();
    int fd, room = 1 << 20;
    unsigned i;

    (void)state;
    for (i = 0; i < MANY; i++) memcpy(messages[i], MESSAGE, sizeof messages[i]);
    open_sink(&o);
    fd = producer();
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
    say(fd, DNSTAP_CONTROL_READY);
    say(fd, DNSTAP_CONTROL_START);
    assert_int_equal(send(fd, messages, sizeof messages, MSG_NOSIGNAL | MSG_DONTWAIT),
                     sizeof messages);
    close(fd);
    until(DNSTAP_SINK_CLOSED, 1);
    assert_int_equal(w.told[DNSTAP_SINK_MESSAGE], MANY);
    assert_int_equal(w.end, DNSTAP_SINK_ENDED_EOF);
}

static void test_every_end_has_a_name_of_its_own(void **state)
{
    unsigned i, k;

    (void)state;
    for (i = 0; i < DNSTAP_SINK_ENDS; i++)
        for (k = 0; k < i; k++)
            assert_string_not_equal(dnstap_sink_end_name((dnstap_sink_end)i),
                                    dnstap_sink_end_name((dnstap_sink_end)k));
    assert_string_equal(dnstap_sink_end_name(DNSTAP_SINK_ENDED_IDLE), "idle");
    assert_string_equal(dnstap_sink_end_name(DNSTAP_SINK_ENDS), "unknown");
}

/* ---- who greets, and who does not ---- */

static void expect_of(const dnstap_sink_options *o, const char *bytes, size_t size,
                      dnstap_sink_end end)
{
    uint8_t reply[128];
    bool greets = bytes[11] == DNSTAP_CONTROL_READY;
    ssize_t n;
    int fd;

    memset(w.told, 0, sizeof w.told);
    open_sink(o);
    fd = producer();
    until(DNSTAP_SINK_OPENED, 1);
    assert_int_equal(send(fd, bytes, size, MSG_NOSIGNAL), size);
    until(DNSTAP_SINK_CLOSED, 1);
    assert_int_equal(w.end, end);
    assert_int_equal(w.told[DNSTAP_SINK_MESSAGE], end == DNSTAP_SINK_ENDED_STOP);
    n = recv(fd, reply, sizeof reply, MSG_DONTWAIT);
    /* ACCEPT and FINISH are for who greets; nobody else hears a byte */
    assert_int_equal(n > 0 ? n : 0, greets && end == DNSTAP_SINK_ENDED_STOP ? 42 + 12 : 0);
    close(fd);
    dnstap_sink_close(w.sink);
    w.sink = NULL;
}

static void test_first_frame_tells_who_greets_unless_an_option_does(void **state)
{
    dnstap_sink_options o = options();
    dnstap_error error;

    (void)state;
    expect_of(&o, OF(READY START MESSAGE STOP), DNSTAP_SINK_ENDED_STOP);
    expect_of(&o, OF(START MESSAGE STOP), DNSTAP_SINK_ENDED_STOP);
    expect_of(&o, OF(START START MESSAGE STOP), DNSTAP_SINK_ENDED_STOP); /* ignored, as in files */
    o.unidirectional = true;
    expect_of(&o, OF(START MESSAGE STOP), DNSTAP_SINK_ENDED_STOP);
    expect_of(&o, OF(READY START MESSAGE STOP), DNSTAP_SINK_ENDED_PROTOCOL);
    o.unidirectional = false;
    o.bidirectional = true;
    expect_of(&o, OF(READY START MESSAGE STOP), DNSTAP_SINK_ENDED_STOP);
    expect_of(&o, OF(START MESSAGE STOP), DNSTAP_SINK_ENDED_PROTOCOL);
    o.unidirectional = true;
    assert_null(dnstap_sink_open(&o, &error));
    assert_int_equal(error.code, DNSTAP_BAD_OPTION);
    assert_non_null(strstr(error.text, "bidirectional"));
}

/* ---- files that grow ---- */

static FILE *file_at_path(void)
{
    char name[64];
    FILE *f;

    snprintf(name, sizeof name, "%s/f", w.folder);
    snprintf(w.endpoint, sizeof w.endpoint, "file://%s", name);
    f = fopen(name, "wb");
    assert_non_null(f);
    setbuf(f, NULL);
    return f;
}

static void write_bytes(FILE *f, const char *bytes, size_t size)
{
    assert_int_equal(fwrite(bytes, 1, size, f), size);
}

static void test_follow_goes_on_where_a_file_grows_and_ends_at_stop(void **state)
{
    FILE *f = file_at_path();
    dnstap_sink_options o = options();
    struct pollfd fds[2];
    int timeout;

    (void)state;
    o.follow = true;
    open_sink(&o);
    pass(0);
    assert_int_equal(dnstap_sink_pollfds(w.sink, fds, 2, &timeout), 1);
    assert_int_equal(fds[0].fd, -1); /* poll would say at once that there is something */
    assert_int_equal(timeout, 200);
    write_bytes(f, OF(START MESSAGE "\0\0\0\6\x72"));
    pass(199);
    assert_int_equal(w.told[DNSTAP_SINK_MESSAGE], 0);
    pass(1);
    assert_int_equal(w.told[DNSTAP_SINK_MESSAGE], 1);
    write_bytes(f, OF("\2\10\5\x78\1"));
    pass(1);
    pass(200);
    assert_int_equal(w.told[DNSTAP_SINK_MESSAGE], 2);
    pass(1000000);
    assert_int_equal(w.told[DNSTAP_SINK_CLOSED], 0);
    write_bytes(f, OF(STOP));
    w.now += 200;
    assert_int_equal(turn(&timeout), DNSTAP_END);
    assert_int_equal(w.end, DNSTAP_SINK_ENDED_STOP);
    assert_int_equal(dnstap_sink_pollfds(w.sink, fds, 2, &timeout), 0);
    fclose(f);
}

static void test_next_says_again_at_the_end_of_what_it_follows(void **state)
{
    FILE *f = file_at_path();
    dnstap_sink_options o = options();
    dnstap_received r;
    int timeout;
    struct pollfd fds[2];

    (void)state;
    o.follow = true;
    open_sink(&o);
    assert_int_equal(dnstap_sink_next(w.sink, &r), DNSTAP_AGAIN);
    write_bytes(f, OF(START MESSAGE));
    assert_int_equal(dnstap_sink_next(w.sink, &r), DNSTAP_OK);
    assert_non_null(r.message);
    assert_int_equal(dnstap_sink_next(w.sink, &r), DNSTAP_AGAIN);
    assert_int_equal(dnstap_sink_pollfds(w.sink, fds, 2, &timeout), 1);
    assert_int_equal(timeout, 200);
    write_bytes(f, OF(STOP));
    assert_int_equal(dnstap_sink_next(w.sink, &r), DNSTAP_END);
    assert_int_equal(r.kind, DNSTAP_SINK_CLOSED);
    assert_int_equal(r.end, DNSTAP_SINK_ENDED_STOP);
    fclose(f);
}

static void test_followed_file_that_is_cut_ends(void **state)
{
    FILE *f = file_at_path();
    dnstap_sink_options o = options();
    int timeout;

    (void)state;
    write_bytes(f, OF(START MESSAGE MESSAGE));
    o.follow = true;
    open_sink(&o);
    pass(0);
    pass(0);
    assert_int_equal(w.told[DNSTAP_SINK_MESSAGE], 2);
    assert_int_equal(ftruncate(fileno(f), 20), 0);
    w.now += 200;
    assert_int_equal(turn(&timeout), DNSTAP_END);
    assert_int_equal(w.result, DNSTAP_CUT);
    assert_string_equal(w.text, "was cut off before where it has been read to");
    fclose(f);
}

/* ---- bytes that the program has read itself ---- */

static struct {
    const char *bytes;
    size_t left;
    int then; /* what comes when nothing is left */
} hose;

static long hose_recv(void *self, void *data, size_t size, short *wants)
{
    size_t n = dnstap__min(size, hose.left);

    (void)self;
    *wants = DNSTAP_POLLIN;
    if (!n) return hose.then;
    memcpy(data, hose.bytes, n);
    hose.bytes += n;
    hose.left -= n;
    return (long)n;
}

static void hose_close(void *self) { (void)self; }

static void push(const char *bytes, size_t size)
{
    hose.bytes = bytes;
    hose.left = size;
}

static void open_hose(void)
{
    dnstap_sink_options o = options();
    dnstap_transport t;

    memset(&t, 0, sizeof t);
    t.recv = hose_recv;
    t.close = hose_close;
    hose.left = 0;
    hose.then = DNSTAP_AGAIN;
    snprintf(w.endpoint, sizeof w.endpoint, "file://hose");
    o.transport = &t;
    open_sink(&o);
}

static void test_bytes_that_are_pushed_come_out_one_by_one(void **state)
{
    dnstap_received r;

    (void)state;
    open_hose();
    assert_int_equal(dnstap_sink_next(w.sink, &r), DNSTAP_AGAIN);
    push(OF(START MESSAGE "\0\0"));
    assert_int_equal(dnstap_sink_next(w.sink, &r), DNSTAP_OK);
    assert_non_null(r.message);
    assert_string_equal(r.peer, "hose");
    assert_int_equal(dnstap_sink_next(w.sink, &r), DNSTAP_AGAIN);
    push(OF("\0\6\x72\2\10\5\x78\1\0\0\0\1!"));
    assert_int_equal(dnstap_sink_next(w.sink, &r), DNSTAP_OK);
    assert_int_equal(r.index, 1);
    assert_int_equal(dnstap_sink_next(w.sink, &r), DNSTAP_OK);
    assert_null(r.message);
    assert_int_equal(r.result, DNSTAP_BAD_PAYLOAD);
    hose.then = DNSTAP_END;
    assert_int_equal(dnstap_sink_next(w.sink, &r), DNSTAP_END);
    assert_int_equal(r.end, DNSTAP_SINK_ENDED_EOF);
    assert_int_equal(status().undecodable, 1);
}

static void test_bytes_that_nobody_tells_of_are_looked_for_without_spinning(void **state)
{
    struct pollfd fds[2];
    int timeout;

    (void)state;
    open_hose();
    pass(0);
    assert_int_equal(dnstap_sink_pollfds(w.sink, fds, 2, &timeout), 1);
    assert_int_equal(fds[0].fd, -1);
    assert_int_equal(timeout, 5);
    push(OF(START MESSAGE));
    pass(5);
    assert_int_equal(w.told[DNSTAP_SINK_MESSAGE], 1);
}

static void test_pipe_does_not_hold_up_service(void **state)
{
    dnstap_sink_options o = options();
    char name[64];
    int fd, i;

    (void)state;
    snprintf(name, sizeof name, "%s/f", w.folder);
    snprintf(w.endpoint, sizeof w.endpoint, "file://%s", name);
    assert_int_equal(mkfifo(name, 0600), 0);
    fd = open(name, O_RDWR);
    open_sink(&o);
    for (i = 0; i < 3; i++) assert_int_equal(dnstap_sink_service(w.sink), DNSTAP_OK);
    assert_int_equal(write(fd, START MESSAGE, sizeof START MESSAGE - 1), sizeof START MESSAGE - 1);
    for (i = 0; i < 3; i++) assert_int_equal(dnstap_sink_service(w.sink), DNSTAP_OK);
    assert_int_equal(w.told[DNSTAP_SINK_MESSAGE], 1);
    close(fd);
}

/* ---- processes ---- */

static void test_forked_child_closes_its_copy_without_harm(void **state)
{
    dnstap_sink_options o = options();
    int fd, result = -1;
    pid_t child;

    (void)state;
    open_sink(&o);
    fd = begun();
    child = fork();
    if (child == 0) {
        dnstap_sink_close(w.sink);
        _exit(access(w.local.sun_path, F_OK) ? 1 : 0);
    }
    assert_int_equal(waitpid(child, &result, 0), child);
    assert_int_equal(result, 0);
    say_message(fd);
    until(DNSTAP_SINK_MESSAGE, 2);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SINK_TEST(test_each_end_is_told_and_counted_as_what_it_is),
        SINK_TEST(test_refused_connection_is_an_end_of_its_own),
        SINK_TEST(test_what_was_sent_before_a_peer_left_is_not_lost),
        SINK_TEST(test_every_end_has_a_name_of_its_own),
        SINK_TEST(test_first_frame_tells_who_greets_unless_an_option_does),
        SINK_TEST(test_follow_goes_on_where_a_file_grows_and_ends_at_stop),
        SINK_TEST(test_next_says_again_at_the_end_of_what_it_follows),
        SINK_TEST(test_followed_file_that_is_cut_ends),
        SINK_TEST(test_bytes_that_are_pushed_come_out_one_by_one),
        SINK_TEST(test_bytes_that_nobody_tells_of_are_looked_for_without_spinning),
        SINK_TEST(test_pipe_does_not_hold_up_service),
        SINK_TEST(test_forked_child_closes_its_copy_without_harm),
    };

    return RUN_TESTS(tests, NULL, NULL);
}
