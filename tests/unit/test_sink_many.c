/* Many connections at one sink: all places taken, slow ones beside fast ones, memory that does not
 * grow, and what its metrics say of it. */
#define _GNU_SOURCE
#include <stdlib.h>
static unsigned allocations;
static void *counted_malloc(size_t size) { return allocations++, malloc(size); }
#define DNSTAP_MALLOC(size) counted_malloc(size)
#define DNSTAP_FREE(memory) free(memory)
#define DNSTAP_IMPLEMENTATION
#include "dnstap.h"
#include "sink_support.h"

#include "metrics_support.h"

enum { PLACES = 64, EACH = 50, FAST = 1, SLOW = 2 };

static struct {
    uint64_t taken[2 * PLACES];
    uint64_t wrong;
} crowd;

/* Frame number n of a connection: both stand in it. */
static void put_number(int fd, uint32_t who, uint32_t n)
{
    uint8_t frame[12];

    dnstap__put32(frame, 8);
    dnstap__put32(frame + 4, who);
    dnstap__put32(frame + 8, n);
    assert_int_equal(send(fd, frame, sizeof frame, MSG_NOSIGNAL), sizeof frame);
}

static int take(void *user, const dnstap_received *r)
{
    const uint8_t *p = (const uint8_t *)r->frame.data;

    note(user, r);
    if (r->kind != DNSTAP_SINK_MESSAGE) return DNSTAP_OK;
    if (r->frame.size != 8 || dnstap__get32(p) != r->connection || dnstap__get32(p + 4) != r->index)
        crowd.wrong++;
    crowd.taken[r->connection]++;
    return DNSTAP_OK;
}

static dnstap_sink_options crowd_options(void)
{
    dnstap_sink_options o = options();

    memset(&crowd, 0, sizeof crowd);
    o.receive = take;
    return o;
}

static int newcomer(unsigned number)
{
    int fd = producer();

    say(fd, DNSTAP_CONTROL_READY);
    say(fd, DNSTAP_CONTROL_START);
    until(DNSTAP_SINK_OPENED, number);
    return fd;
}

static double number_of(const metrics *m, const char *sample)
{
    char name[300];

    snprintf(name, sizeof name, sample, w.endpoint);
    return metric(m, name);
}

static void check_metrics(void)
{
    static char out[65536];
    static metrics m;
    dnstap_sink_status s = status();
    size_t size = (size_t)dnstap_sink_metrics(w.sink, out, sizeof out);

    assert_int_equal(size, strlen(out));
    assert_int_equal(size, dnstap_sink_metrics(w.sink, NULL, 0));
    read_metrics(&m, out);
    assert_true(metric_sum(&m, "dnstap_sink_connections_total") + (double)s.refused ==
                metric_sum(&m, "dnstap_sink_open") + metric_sum(&m, "dnstap_sink_ended_total"));
    assert_true(number_of(&m, "dnstap_sink_ended_total{sink=\"%s\",cause=\"refused\"}") ==
                (double)s.refused);
    assert_true(number_of(&m, "dnstap_sink_ended_total{sink=\"%s\",cause=\"stop\"}") ==
                (double)s.ended[DNSTAP_SINK_ENDED_STOP]);
    assert_true(number_of(&m, "dnstap_sink_frames_total{sink=\"%s\"}") == (double)s.frames);
    assert_true(number_of(&m, "dnstap_sink_frame_bytes_total{sink=\"%s\"}") == (double)s.bytes);
    assert_true(number_of(&m, "dnstap_sink_state{sink=\"%s\",state=\"listening\"}") == 1);
    assert_true(metric_sum(&m, "dnstap_sink_state{") == 1);
}

static void test_64_connections_at_once_are_all_taken_in_order(void **state)
{
    dnstap_sink_options o = crowd_options();
    int fds[PLACES], extra;
    unsigned i, before;
    uint32_t n;

    (void)state;
    open_sink(&o);
    before = allocations;
    for (i = 0; i < PLACES; i++) fds[i] = newcomer(i + 1);
    extra = producer();
    until(DNSTAP_SINK_REFUSED, 1);
    expect_closed(extra);
    for (n = 0; n < EACH; n++)
        for (i = 0; i < PLACES; i++) put_number(fds[i], i + 1, n);
    until(DNSTAP_SINK_MESSAGE, PLACES * EACH);
    assert_int_equal(crowd.wrong, 0);
    assert_int_equal(status().open, PLACES);
    check_metrics();
    for (i = 0; i < PLACES; i++) say(fds[i], i % 2 ? DNSTAP_CONTROL_STOP : DNSTAP_CONTROL_START);
    for (i = 0; i < PLACES; i++) shutdown(fds[i], SHUT_WR);
    until(DNSTAP_SINK_CLOSED, PLACES);
    assert_int_equal(status().ended[DNSTAP_SINK_ENDED_STOP], PLACES / 2);
    assert_int_equal(status().ended[DNSTAP_SINK_ENDED_EOF], PLACES / 2);
    for (i = 0; i < PLACES; i++) assert_int_equal(crowd.taken[i + 1], EACH);
    check_metrics();
    assert_int_equal(allocations, before);
    for (i = 0; i < PLACES; i++) close(fds[i]);
}

/* A byte a second is slow, but not silent; a frame that takes minutes is a frame. */
static void test_byte_each_second_costs_a_fast_sender_nothing(void **state)
{
    dnstap_sink_options o = crowd_options();
    uint8_t frame[12] = {0, 0, 0, 8, 0, 0, 0, SLOW, 0, 0, 0, 0};
    unsigned i, before;
    uint32_t n = 0;
    int fast, slow, k;

    (void)state;
    o.idle_ms = 2000;
    open_sink(&o);
    before = allocations;
    fast = newcomer(1);
    slow = newcomer(2);
    for (i = 0; i < 10 * sizeof frame; i++) {
        frame[11] = (uint8_t)(i / sizeof frame);
        assert_int_equal(send(slow, frame + i % sizeof frame, 1, MSG_NOSIGNAL), 1);
        for (k = 0; k < 100; k++) put_number(fast, FAST, n++);
        pass(1000);
        assert_int_equal(crowd.taken[FAST], n); /* all that was there, in this turn */
        assert_int_equal(crowd.taken[SLOW], (i + 1) / sizeof frame);
    }
    assert_int_equal(crowd.wrong, 0);
    assert_int_equal(status().open, 2);
    assert_int_equal(allocations, before);
    close(fast);
    close(slow);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SINK_TEST(test_64_connections_at_once_are_all_taken_in_order),
        SINK_TEST(test_byte_each_second_costs_a_fast_sender_nothing),
    };

    return RUN_TESTS(tests, NULL, NULL);
}
