/* The ring: every offset with every size, its bounds to the byte, and long random runs against a
 * model that knows nothing of positions. */
#define DNSTAP_IMPLEMENTATION
#include "dnstap.h"
#include "ring_support.h"

enum { SIZE = 4096, HALF = SIZE / 2, SMALLEST = DNSTAP_FRAME_HEADER + 1, MANY = 1 << 20 };

/* A frame's place, or NULL; published with its length only. */
static uint8_t *reserve(dnstap__ring *r, size_t size)
{
    size_t end;
    uint8_t *p = dnstap__ring_reserve(r, size, &end);

    if (p) {
        assert_true(p >= r->data && p + size <= r->data + r->size);
        dnstap__put32(p, (uint32_t)size - DNSTAP_FRAME_HEADER);
        dnstap__ring_publish(r, size, end);
    }
    return p;
}

/* As reserve, with its bytes. */
static bool add(dnstap__ring *r, size_t size, size_t number)
{
    size_t end;
    uint8_t *p = dnstap__ring_reserve(r, size, &end);

    if (!p) return false;
    ring_write(p, size, number);
    dnstap__ring_publish(r, size, end);
    return true;
}

/* Sends n bytes at most of what lies in one piece, `done` of which are out already. */
static size_t send_some(dnstap__ring *r, size_t *done, size_t n, size_t *frames)
{
    const uint8_t *data = NULL;
    size_t at = r->tail, span = dnstap__ring_span(r, &at, r->published, &data), whole;

    *frames = 0;
    if (!span) return 0;
    assert_true(*done < span);
    n = dnstap__min(n, span - *done);
    whole = dnstap__whole_frames(data, *done + n, frames);
    *done += n - whole;
    dnstap__ring_release(r, at + whole, *frames);
    return n;
}

static void send_all(dnstap__ring *r)
{
    size_t done = 0, frames;

    while (send_some(r, &done, SIZE_MAX, &frames)) {
    }
    assert_int_equal(done, 0);
    assert_true(r->tail == r->published && r->out == r->recorded);
}

static void test_every_offset_of_an_empty_ring_takes_every_size_up_to_half(void **state)
{
    const uint8_t *data;
    size_t offset, size, at;
    dnstap__ring r;

    (void)state;
    ring_open(&r, SIZE, 0, MANY);
    for (offset = 0; offset < SIZE; offset++) {
        for (size = SMALLEST; size <= HALF; size++) {
            r.published = r.tail = r.floor = SIZE * 5 + offset;
            if (reserve(&r, size) != r.data) fail_msg("offset %zu, size %zu", offset, size);
            at = r.tail;
            assert_true(dnstap__ring_span(&r, &at, r.published, &data) == size && data == r.data);
            assert_true(r.published == at + size);
        }
        r.out = r.recorded;
    }
    ring_close(&r);
}

static void test_rings_of_every_size_take_half_of_it_at_every_offset(void **state)
{
    size_t size, offset, step;
    dnstap__ring r;

    (void)state;
    for (size = 16; size <= 1 << 20; size *= 2) {
        ring_open(&r, size, 0, MANY);
        step = size > SIZE ? size / SIZE + 1 : 1;
        for (offset = 0; offset < size; offset += step) {
            r.published = r.tail = r.floor = offset;
            r.out = r.recorded;
            assert_non_null(reserve(&r, size / 2));
        }
        ring_close(&r);
    }
}

/* Frames of n bytes in all; false: no frames have so many. */
static bool add_run(dnstap__ring *r, size_t n)
{
    for (; n > HALF; n -= HALF / 2) assert_non_null(reserve(r, HALF / 2));
    return n == 0 || (n >= SMALLEST && reserve(r, n));
}

/* Sends n bytes, which are whole frames in one piece. */
static void release_run(dnstap__ring *r, size_t n)
{
    size_t done = 0, frames;

    assert_int_equal(send_some(r, &done, n, &frames), n);
    assert_int_equal(done, 0);
}

/* What a ring takes is decided for each size near `room`, and for some of all others. */
static size_t probe(const dnstap__ring *r, size_t room, const char *how)
{
    size_t size, end, tried = 0;

    for (size = SMALLEST; size <= HALF; size += size + 3 < room || size > room + 3 ? 29 : 1) {
        dnstap__ring copy = *r;
        bool taken = dnstap__ring_reserve(&copy, size, &end) != NULL;

        if (taken != (size <= room))
            fail_msg("%s: room %zu, size %zu, tail at %zu, head at %zu", how, room, size,
                     r->tail & (SIZE - 1), r->published & (SIZE - 1));
        tried++;
        if (size + 3 < room && size + 29 > room - 3) size = room - 3 - 29;
    }
    return tried;
}

/* Content from the tail to the end but for a hole, and from the beginning up to `room` bytes before
 * the tail. */
static size_t probe_wrapped(size_t tail, size_t hole, size_t room)
{
    dnstap__ring r;
    size_t tried = 0, end_run = SIZE - tail - hole;

    if (tail + hole > SIZE || room > tail || (hole && tail - room <= hole)) return 0;
    ring_open(&r, SIZE, SIZE * 3, MANY);
    if (add_run(&r, tail) && add_run(&r, end_run)) {
        if (tail) release_run(&r, tail);
        if (end_run && add_run(&r, tail - room)) tried = probe(&r, room, "wrapped");
    }
    ring_close(&r);
    return tried;
}

/* Content from the tail up to `room` bytes before the end. */
static size_t probe_straight(size_t tail, size_t room)
{
    dnstap__ring r;
    size_t tried = 0;

    if (tail + room >= SIZE) return 0;
    ring_open(&r, SIZE, SIZE * 3, MANY);
    if (add_run(&r, tail) && add_run(&r, SIZE - room - tail)) {
        if (tail) release_run(&r, tail);
        tried = probe(&r, room > tail ? room : tail, "straight");
    }
    ring_close(&r);
    return tried;
}

static void test_ring_in_use_takes_what_fits_behind_its_head_and_no_byte_more(void **state)
{
    static const size_t rooms[] = {0, 1, 4, 5, 6, 7, 63, 64, 500, 2047, 2048};
    static const size_t holes[] = {0, 1, 4, 5, 100};
    size_t tail, i, j, tried = 0;

    (void)state;
    for (tail = 0; tail < SIZE; tail++) {
        for (i = 0; i < sizeof rooms / sizeof *rooms; i++) {
            tried += probe_straight(tail, rooms[i]);
            for (j = 0; j < sizeof holes / sizeof *holes; j++)
                tried += probe_wrapped(tail, holes[j], rooms[i]);
        }
    }
    assert_true(tried > 5000000);
}

static void test_frame_may_end_exactly_at_the_end(void **state)
{
    size_t start = (size_t)0 - 2 * SIZE, done = 0, frames; /* the third lap passes SIZE_MAX */
    dnstap__ring r;
    int lap;

    (void)state;
    ring_open(&r, SIZE, start, MANY);
    for (lap = 0; lap < 4; lap++) {
        assert_true(add(&r, 1000, 0) && add(&r, 1000, 1));
        release_run(&r, 1000);
        assert_true(add(&r, 1048, 2) && add(&r, 1048, 3));
        assert_int_equal(r.published & (SIZE - 1), 0);
        assert_int_equal(send_some(&r, &done, SIZE_MAX, &frames), 3096);
        assert_int_equal(frames, 3);
        assert_int_equal(r.tail, r.published);
    }
    ring_close(&r);
}

static void test_full_ring_holds_every_byte_of_its_size(void **state)
{
    dnstap__ring r;
    int i;

    (void)state;
    ring_open(&r, SIZE, 0, MANY);
    for (i = 0; i < 64; i++) assert_non_null(reserve(&r, 64));
    assert_null(reserve(&r, SMALLEST));
    release_run(&r, 64);
    assert_null(reserve(&r, 65));
    assert_non_null(reserve(&r, 64));
    assert_null(reserve(&r, SMALLEST));
    ring_close(&r);
}

static void test_number_of_messages_is_bounded_exactly(void **state)
{
    size_t limit, i, done, frames;
    dnstap__ring r;

    (void)state;
    for (limit = 1; limit < 40; limit++) {
        ring_open(&r, SIZE, (size_t)0 - 20, limit); /* the counts pass SIZE_MAX too */
        for (i = 0; i < limit; i++) assert_non_null(reserve(&r, 10));
        assert_null(reserve(&r, 10));
        done = 0;
        send_some(&r, &done, 9, &frames);
        assert_null(reserve(&r, 10));
        send_some(&r, &done, 1, &frames);
        assert_non_null(reserve(&r, 10));
        assert_null(reserve(&r, 10));
        ring_close(&r);
    }
}

/* The service has not looked yet since the ring was empty. */
static void test_ring_started_anew_has_its_whole_room_at_once(void **state)
{
    size_t offset, size, n, i;
    dnstap__ring r;

    (void)state;
    for (offset = SMALLEST; offset < HALF; offset += 3) {
        for (size = SMALLEST; size <= HALF; size += 1 + size / 3) {
            ring_open(&r, SIZE, (size_t)0 - SIZE * 2, MANY);
            assert_true(add(&r, offset, 7));
            send_all(&r);
            for (n = 0; add(&r, size, n); n++) {
            }
            if (n < (SIZE - 1) / size) fail_msg("offset %zu: %zu of %zu bytes", offset, n, size);
            for (i = 0; i < n; i++) assert_true(ring_is(r.data + i * size, size, i));
            send_all(&r);
            assert_int_equal(r.out, (size_t)0 - SIZE * 2 + n + 1);
            ring_close(&r);
        }
    }
}

static void test_partial_sends_count_whole_frames_and_keep_what_is_inside_one(void **state)
{
    static const size_t sizes[] = {5, 300, 7, 64, 5, 1000};
    static const size_t ends[] = {5, 305, 312, 376, 381, 1381};
    size_t n, i, done, frames, whole;
    dnstap__ring r;

    (void)state;
    for (n = 1; n <= 1381; n++) {
        ring_open(&r, SIZE, 0, MANY);
        for (i = 0; i < 6; i++) assert_true(add(&r, sizes[i], i));
        done = 0;
        assert_int_equal(send_some(&r, &done, n, &frames), n);
        for (whole = 0; whole < 6 && ends[whole] <= n; whole++) {
        }
        assert_int_equal(frames, whole);
        assert_int_equal(r.out, whole);
        assert_int_equal(r.tail, whole ? ends[whole - 1] : 0);
        assert_int_equal(done, n - r.tail);
        ring_close(&r);
    }
}

/* ---- random runs against a model: a queue of frames, and where the ring put them ---- */

enum { MODEL = 4096 };

typedef struct model {
    size_t first, count; /* frames first … first + count - 1 are in the ring */
    size_t start[MODEL], size[MODEL];
    size_t sent; /* bytes of the first frame that are out */
} model;

static bool model_fits(const model *m, size_t ring_size, size_t size)
{
    size_t last = (m->first + m->count - 1) % MODEL, tail = m->start[m->first % MODEL];
    size_t head = m->start[last] + m->size[last];

    if (!m->count) return size <= ring_size / 2;
    if (m->start[last] < tail) return head + size <= tail;
    return head + size <= ring_size || size <= tail;
}

/* The new frame must lie beside all others; a look before it makes room exact. */
static void model_add(model *m, dnstap__ring *r, size_t size, bool looked)
{
    size_t end, i, j, number = (m->first + m->count) % MODEL;
    bool fits = m->count < r->limit && model_fits(m, r->size, size);
    uint8_t *p = dnstap__ring_reserve(r, size, &end);

    if (p && !fits) fail_msg("a frame of %zu bytes was taken, though it does not fit", size);
    if (!p && fits && looked) fail_msg("a frame of %zu bytes was refused, though it fits", size);
    if (!p) return;
    m->start[number] = (size_t)(p - r->data);
    m->size[number] = size;
    for (i = 0; i < m->count; i++) {
        j = (m->first + i) % MODEL;
        assert_true(m->start[number] >= m->start[j] + m->size[j] ||
                    m->start[number] + size <= m->start[j]);
    }
    ring_write(p, size, m->first + m->count++);
    dnstap__ring_publish(r, size, end);
}

/* What is sent must be the oldest frames' bytes, from where the last send ended. */
static void model_send(model *m, dnstap__ring *r, size_t most)
{
    const uint8_t *data = NULL;
    size_t at = r->tail, span = dnstap__ring_span(r, &at, r->published, &data), frames, n, i, left;

    assert_true((span == 0) == (m->count == 0));
    if (!span) return;
    assert_true(span > m->sent);
    n = dnstap__min(span - m->sent, most) + m->sent;
    for (i = 0, left = n; i < m->count && left >= m->size[m->first % MODEL]; i++) {
        assert_true(ring_is(data, m->size[m->first % MODEL], m->first));
        data += m->size[m->first % MODEL];
        left -= m->size[m->first++ % MODEL];
    }
    m->count -= i;
    m->sent = n - dnstap__whole_frames(data - (n - left), n, &frames);
    dnstap__ring_release(r, at + n - left, frames);
    assert_int_equal(m->sent, left);
    assert_int_equal(frames, i);
}

static void run_model(size_t ring_size, size_t position, size_t limit, unsigned turns)
{
    static model m;
    dnstap__ring r;
    bool looked;

    memset(&m, 0, sizeof m);
    ring_open(&r, ring_size, position, limit);
    while (turns--) {
        unsigned burst = rnd(6), mood = rnd(8);

        looked = m.count && rnd(2) == 0;
        if (looked) model_send(&m, &r, 0);
        while (burst-- && m.count < MODEL)
            model_add(&m, &r, SMALLEST + rnd((uint32_t)(mood ? ring_size / 16 : ring_size / 2 - 4)),
                      looked);
        if (rnd(3)) model_send(&m, &r, 1 + rnd((uint32_t)ring_size / 4));
        if (!rnd(40))
            while (m.count) model_send(&m, &r, SIZE_MAX - ring_size);
        assert_int_equal(r.recorded - r.out, m.count);
    }
    while (m.count) model_send(&m, &r, SIZE_MAX - ring_size);
    assert_true(r.tail == r.published && r.out == r.recorded);
    ring_close(&r);
}

static void test_random_runs_keep_every_byte_in_order(void **state)
{
    static const size_t positions[] = {0, 1, 77, SIZE - 1, (size_t)0 - 1, (size_t)0 - 3 * SIZE - 9};
    size_t i;

    (void)state;
    for (i = 0; i < sizeof positions / sizeof *positions; i++) {
        run_model(SIZE, positions[i], MANY, 30000);
        run_model(SIZE, positions[i], 7, 10000);
        run_model(256, positions[i], MANY, 30000);
        run_model(64, positions[i], MANY, 30000);
        run_model(1 << 16, positions[i], 1000, 1000);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_offset_of_an_empty_ring_takes_every_size_up_to_half),
        cmocka_unit_test(test_rings_of_every_size_take_half_of_it_at_every_offset),
        cmocka_unit_test(test_ring_in_use_takes_what_fits_behind_its_head_and_no_byte_more),
        cmocka_unit_test(test_frame_may_end_exactly_at_the_end),
        cmocka_unit_test(test_full_ring_holds_every_byte_of_its_size),
        cmocka_unit_test(test_number_of_messages_is_bounded_exactly),
        cmocka_unit_test(test_ring_started_anew_has_its_whole_room_at_once),
        cmocka_unit_test(test_partial_sends_count_whole_frames_and_keep_what_is_inside_one),
        cmocka_unit_test(test_random_runs_keep_every_byte_in_order),
    };

    return RUN_TESTS(tests, NULL, NULL);
}
