/* Two threads at a bare ring, for ThreadSanitizer: one writes, one reads, both as fast as they can
 * and in small rings, so that every edge is met. */
#define DNSTAP_IMPLEMENTATION
#include "dnstap.h"
#include "ring_support.h"

enum { FRAMES = 60000 };

typedef struct pair {
    dnstap__ring ring;
    size_t refused;
} pair;

static size_t frame_size(const dnstap__ring *r, size_t number)
{
    uint64_t seed = (number + 1) * 0x9e3779b97f4a7c15u;
    size_t most = number % 16 ? r->size / 8 : r->size / 2;

    return DNSTAP_FRAME_HEADER + 1 + random_of(&seed, (uint32_t)most - DNSTAP_FRAME_HEADER);
}

static void *produce(void *argument)
{
    pair *p = (pair *)argument;
    size_t number, size, end;
    uint8_t *out;

    for (number = 0; number < FRAMES; number++) {
        size = frame_size(&p->ring, number);
        while (!(out = dnstap__ring_reserve(&p->ring, size, &end))) {
            p->refused++;
            sched_yield();
        }
        ring_write(out, size, number);
        dnstap__ring_publish(&p->ring, size, end);
    }
    return NULL;
}

/* Compares the whole frames in the n bytes at data; the number of the next one. */
static size_t check_frames(const dnstap__ring *r, const uint8_t *data, size_t n, size_t number)
{
    size_t size;

    for (; n >= (size = frame_size(r, number)); data += size, n -= size, number++)
        if (!ring_is(data, size, number)) fail_msg("frame %zu is not what was written", number);
    return number;
}

static void consume(pair *p)
{
    dnstap__ring *r = &p->ring;
    size_t number = 0, done = 0, at, span, frames;
    const uint8_t *data;

    while (number < FRAMES) {
        at = r->tail;
        span = dnstap__ring_span(r, &at, DNSTAP_LOAD_ACQUIRE(&r->published), &data);
        if (!span) {
            sched_yield();
            continue;
        }
        if (span - done > 1 && rnd(4)) /* a transport that takes a part */
            span = done + 1 + rnd((uint32_t)(span - done));
        number = check_frames(r, data, span, number);
        done = span - dnstap__whole_frames(data, span, &frames);
        dnstap__ring_release(r, at + span - done, frames);
        assert_int_equal(r->out, number);
    }
    assert_int_equal(done, 0);
}

static void run(size_t size, size_t limit)
{
    static pair p;
    pthread_t producer;

    ring_open(&p.ring, size, 0, limit);
    p.refused = 0;
    assert_int_equal(pthread_create(&producer, NULL, produce, &p), 0);
    consume(&p);
    assert_int_equal(pthread_join(producer, NULL), 0);
    assert_int_equal(p.ring.recorded, FRAMES);
    assert_int_equal(p.ring.tail, p.ring.published);
    ring_close(&p.ring);
}

static void test_two_threads_share_a_small_ring(void **state)
{
    (void)state;
    run(256, FRAMES);
    run(1024, FRAMES);
}

static void test_two_threads_share_a_ring_of_few_messages(void **state)
{
    (void)state;
    run(4096, 1);
    run(4096, 3);
}

static void test_two_threads_share_a_large_ring(void **state)
{
    (void)state;
    run(1 << 16, FRAMES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_two_threads_share_a_small_ring),
        cmocka_unit_test(test_two_threads_share_a_ring_of_few_messages),
        cmocka_unit_test(test_two_threads_share_a_large_ring),
    };

    return RUN_TESTS(tests, NULL, NULL);
}
