/* A receive that says later: of that connection nothing more is read, of the others all; nothing is
 * lost, nothing comes twice, no time of it runs, and no loop spins. */
#define _GNU_SOURCE
#define DNSTAP_IMPLEMENTATION
#include "dnstap.h"
#include "sink_support.h"

/* ---- a receive that puts off what it is told to ---- */

enum { CONNECTIONS = 4, FRAMES = 4000 };

static struct {
    bool full[CONNECTIONS + 1]; /* says later to this connection */
    unsigned offers[CONNECTIONS + 1];
    uint64_t taken[CONNECTIONS + 1];
    uint64_t every; /* not 0: says later to every so-manieth offer */
    uint64_t offered, skipped, wrong;
} desk;

/* Frame number n of a connection: its size and bytes say which it is. */
static size_t frame_size(uint64_t n) { return n % 97 == 96 ? 90000 : 40 + n % 300; }

static void write_frame(uint8_t *p, uint64_t n)
{
    memset(p, (int)(n % 251), frame_size(n));
    dnstap__put32(p, (uint32_t)n);
}

static bool is_frame(dnstap_bytes frame, uint64_t n)
{
    const uint8_t *p = (const uint8_t *)frame.data;

    return frame.size == frame_size(n) && dnstap__get32(p) == n && p[4] == n % 251 &&
           !memcmp(p + 4, p + 5, frame.size - 5);
}

static int take(void *user, const dnstap_received *r)
{
    note(user, r);
    if (r->kind != DNSTAP_SINK_MESSAGE && r->kind != DNSTAP_SINK_SKIPPED) return DNSTAP_OK;
    desk.offers[r->connection]++;
    if (r->index != desk.taken[r->connection]) desk.wrong++;
    if (r->kind == DNSTAP_SINK_MESSAGE && !is_frame(r->frame, r->index)) desk.wrong++;
    if (desk.full[r->connection]) return DNSTAP_AGAIN;
    if (desk.every && ++desk.offered % desk.every == 0) return DNSTAP_AGAIN;
    desk.skipped += r->kind == DNSTAP_SINK_SKIPPED;
    desk.taken[r->connection]++;
    return DNSTAP_OK;
}

static dnstap_sink_options desk_options(void)
{
    dnstap_sink_options o = options();

    memset(&desk, 0, sizeof desk);
    o.receive = take;
    return o;
}

/* ---- producers whose next bytes go as far as the kernel takes them ---- */

typedef struct sender {
    int fd;
    uint64_t frames;
    size_t sent, size;
    uint8_t bytes[4 + 90000];
} sender;

static void sender_open(sender *s)
{
    memset(s, 0, sizeof *s);
    s->fd = producer();
    assert_int_equal(fcntl(s->fd, F_SETFL, O_NONBLOCK), 0);
    say(s->fd, DNSTAP_CONTROL_READY);
    say(s->fd, DNSTAP_CONTROL_START);
}

/* False: the kernel takes no more. */
static bool sender_push(sender *s)
{
    ssize_t n;

    if (s->sent == s->size) {
        s->size = 4 + frame_size(s->frames);
        s->sent = 0;
        dnstap__put32(s->bytes, (uint32_t)s->size - 4);
        write_frame(s->bytes + 4, s->frames++);
    }
    n = send(s->fd, s->bytes + s->sent, s->size - s->sent, MSG_NOSIGNAL);
    if (n > 0) s->sent += (size_t)n;
    return n > 0;
}

static void sender_push_until_full(sender *s)
{
    while (s->frames < FRAMES && sender_push(s)) {
    }
}

/* Both sides are here: there is nothing to wait for. */
#define UNTIL(condition)                                                             \
    for (uint64_t until_ = real_ms() + PATIENCE; !(condition);) {                    \
        if (real_ms() > until_) fail_msg("never came: %s (%s)", #condition, w.text); \
        w.now += 20;                                                                 \
        assert_int_equal(dnstap_sink_service(w.sink), DNSTAP_OK);                    \
    }

/* All that was pushed is taken; then STOP, and the end in order. */
static void finish(sender *s, uint32_t connection)
{
    unsigned closed = w.told[DNSTAP_SINK_CLOSED];

    UNTIL(s->sent == s->size || (sender_push(s), s->sent == s->size));
    UNTIL(desk.taken[connection] == s->frames);
    say(s->fd, DNSTAP_CONTROL_STOP);
    UNTIL(w.told[DNSTAP_SINK_CLOSED] == closed + 1);
    assert_int_equal(w.result, DNSTAP_OK);
    assert_int_equal(desk.wrong, 0);
    close(s->fd);
}

/* ---- sockets ---- */

static void test_connection_put_off_is_not_read_and_all_others_are(void **state)
{
    static sender slow, fast;
    dnstap_sink_options o = desk_options();
    uint64_t before;

    (void)state;
    open_sink(&o);
    desk.full[1] = true;
    sender_open(&slow);
    UNTIL(w.told[DNSTAP_SINK_OPENED] == 1);
    sender_open(&fast);
    sender_push_until_full(&slow);
    UNTIL(desk.offers[1] > 0);
    sender_push_until_full(&slow);
    before = slow.frames;
    while (fast.frames < 1000) {
        UNTIL(sender_push(&fast));
    }
    UNTIL(desk.taken[2] + 1 >= fast.frames);
    assert_int_equal(desk.taken[1], 0);
    sender_push_until_full(&slow); /* the kernel has taken no more of it: it feels it */
    assert_int_equal(slow.frames, before);
    assert_int_equal(status().put_off, 1);
    assert_int_equal(status().open, 2);
    desk.full[1] = false;
    finish(&slow, 1);
    finish(&fast, 2);
    assert_int_equal(status().put_off, 0);
    assert_int_equal(status().frames, slow.frames + fast.frames);
    assert_int_equal(status().undecodable, slow.frames + fast.frames);
}

/* Wherever it says so: in a block, at its end, in a frame collected from several. */
static void test_nothing_is_lost_or_repeated_wherever_it_is_put_off(void **state)
{
    static const uint64_t every[] = {2, 3, 7, 50};
    static sender s;
    unsigned i;

    (void)state;
    for (i = 0; i < sizeof every / sizeof *every; i++) {
        dnstap_sink_options o = desk_options();

        memset(w.told, 0, sizeof w.told);
        desk.every = every[i];
        open_sink(&o);
        sender_open(&s);
        while (s.frames < 600) {
            UNTIL(sender_push(&s));
        }
        finish(&s, 1);
        assert_true(desk.offers[1] >= s.frames + s.frames / every[i]);
        assert_int_equal(status().frames, s.frames);
        dnstap_sink_close(w.sink);
        w.sink = NULL;
    }
}

static void test_skipped_frame_may_be_put_off_too(void **state)
{
    static sender s;
    dnstap_sink_options o = desk_options();

    (void)state;
    o.max_frame = 4096;
    open_sink(&o);
    desk.every = 2;
    sender_open(&s);
    while (s.frames < 400) {
        UNTIL(sender_push(&s));
    }
    finish(&s, 1);
    assert_int_equal(desk.skipped, 4);
    assert_int_equal(status().skipped, 4);
    assert_int_equal(status().frames, s.frames - 4);
}

static void test_poll_set_shows_no_interest_in_who_waits_and_its_time_is_bounded(void **state)
{
    static sender s;
    dnstap_sink_options o = desk_options();
    struct pollfd fds[80];
    int n, timeout;

    (void)state;
    open_sink(&o);
    desk.full[1] = true;
    sender_open(&s);
    sender_push_until_full(&s);
    UNTIL(desk.offers[1] == 1);
    close(s.fd); /* which poll would tell of whatever it was asked */
    n = dnstap_sink_pollfds(w.sink, fds, 80, &timeout);
    assert_int_equal(n, 1); /* the listener */
    assert_int_equal(timeout, 20);
    assert_int_equal(poll(fds, (nfds_t)n, 0), 0);
    for (n = 0; n < 19; n++) pass(1);
    assert_int_equal(desk.offers[1], 1);
    pass(1);
    assert_int_equal(desk.offers[1], 2);
    dnstap_sink_resume(w.sink);
    dnstap_sink_pollfds(w.sink, fds, 80, &timeout);
    assert_int_equal(timeout, 0);
    pass(0);
    assert_int_equal(desk.offers[1], 3);
    dnstap_sink_pollfds(w.sink, fds, 80, &timeout);
    assert_int_equal(timeout, 20);
    desk.full[1] = false;
    UNTIL(w.told[DNSTAP_SINK_CLOSED] == 1);
    assert_int_equal(desk.wrong, 0);
    assert_true(desk.taken[1] >= s.frames - 1); /* what was on its way when it died, too */
}

static void test_times_of_who_waits_stand_still(void **state)
{
    static sender s;
    dnstap_sink_options o = desk_options();
    unsigned i;

    (void)state;
    o.idle_ms = 10;
    open_sink(&o);
    desk.full[1] = true;
    sender_open(&s);
    sender_push(&s);
    UNTIL(desk.offers[1] == 1);
    for (i = 0; i < 20; i++) pass(19);
    assert_int_equal(w.told[DNSTAP_SINK_CLOSED], 0);
    desk.full[1] = false;
    pass(20);
    assert_int_equal(desk.taken[1], 1);
    pass(9);
    assert_int_equal(w.told[DNSTAP_SINK_CLOSED], 0);
    pass(1);
    assert_int_equal(w.told[DNSTAP_SINK_CLOSED], 1);
    assert_int_equal(w.end, DNSTAP_SINK_ENDED_IDLE);
    close(s.fd);
}

/* Its clock stands at 0, as a hook's may. */
static void test_resume_needs_no_clock(void **state)
{
    static sender s;
    dnstap_sink_options o = desk_options();
    int timeout;

    (void)state;
    w.now = 0;
    open_sink(&o);
    desk.full[1] = true;
    sender_open(&s);
    sender_push(&s);
    while (!desk.offers[1]) assert_int_equal(turn(&timeout), DNSTAP_OK);
    desk.full[1] = false;
    dnstap_sink_resume(w.sink);
    assert_int_equal(turn(&timeout), DNSTAP_OK);
    assert_int_equal(desk.taken[1], 1);
    close(s.fd);
}

static void test_sink_closed_meanwhile_leaves_nothing(void **state)
{
    static sender s;
    dnstap_sink_options o = desk_options();

    (void)state;
    open_sink(&o);
    desk.full[1] = true;
    sender_open(&s);
    sender_push_until_full(&s);
    UNTIL(desk.offers[1] == 1);
    close(s.fd); /* the sanitizers and teardown see the rest */
}

/* ---- files ---- */

static void test_file_is_read_on_when_its_message_is_taken(void **state)
{
    dnstap_sink_options o;
    dnstap_bytes start = dnstap__control_frame(DNSTAP_CONTROL_START);
    dnstap_bytes stop = dnstap__control_frame(DNSTAP_CONTROL_STOP);
    static uint8_t frame[4 + 90000];
    struct pollfd fds[2];
    char name[64];
    int timeout, result;
    uint64_t n;
    FILE *f;

    (void)state;
    snprintf(name, sizeof name, "%s/f", w.folder);
    snprintf(w.endpoint, sizeof w.endpoint, "file://%s", name);
    f = fopen(name, "wb");
    assert_non_null(f);
    fwrite(start.data, 1, start.size, f);
    for (n = 0; n < 1000; n++) {
        dnstap__put32(frame, (uint32_t)frame_size(n));
        write_frame(frame + 4, n);
        fwrite(frame, 1, 4 + frame_size(n), f);
    }
    fwrite(stop.data, 1, stop.size, f);
    fclose(f);
    o = desk_options();
    open_sink(&o);
    desk.full[1] = true;
    assert_int_equal(turn(&timeout), DNSTAP_OK);
    assert_int_equal(desk.offers[1], 1);
    assert_int_equal(dnstap_sink_pollfds(w.sink, fds, 2, &timeout), 1);
    assert_int_equal(fds[0].fd, -1);
    assert_int_equal(timeout, 20);
    assert_int_equal(turn(&timeout), DNSTAP_OK);
    assert_int_equal(desk.offers[1], 1);
    desk.full[1] = false;
    desk.every = 3;
    do {
        w.now += 20;
        result = dnstap_sink_service(w.sink);
    } while (result == DNSTAP_OK);
    assert_int_equal(result, DNSTAP_END);
    assert_int_equal(desk.taken[1], 1000);
    assert_int_equal(desk.wrong, 0);
    assert_int_equal(w.end, DNSTAP_SINK_ENDED_STOP);
    assert_int_equal(status().put_off, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SINK_TEST(test_connection_put_off_is_not_read_and_all_others_are),
        SINK_TEST(test_nothing_is_lost_or_repeated_wherever_it_is_put_off),
        SINK_TEST(test_skipped_frame_may_be_put_off_too),
        SINK_TEST(test_poll_set_shows_no_interest_in_who_waits_and_its_time_is_bounded),
        SINK_TEST(test_times_of_who_waits_stand_still),
        SINK_TEST(test_resume_needs_no_clock),
        SINK_TEST(test_sink_closed_meanwhile_leaves_nothing),
        SINK_TEST(test_file_is_read_on_when_its_message_is_taken),
    };

    return RUN_TESTS(tests, NULL, NULL);
}
