/* The ring on a weakly ordered machine (weak_support.h): dnstap__ring_reserve, _publish, _span and
 * _release themselves, with a memory below them in which a load may take any message that its
 * thread is not yet past. A producer's turn loads before it stores, and so does the service's: what
 * turns that overlap could see is what one after the other sees, with old messages.
 *
 * Bytes are no atomic words: whoever reads or overwrites them must be ordered behind who wrote or
 * read them, or that is a race. */
#ifndef _DEFAULT_SOURCE
#define _DEFAULT_SOURCE 1
#endif
#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200809L
#endif
#include <stddef.h>
#include <stdint.h>

static size_t load(const size_t *at, char order);
static void store(size_t *at, size_t value, char order);

/* clang-format off */
#define DNSTAP_LOAD(p) load(p, 'l')
#define DNSTAP_STORE(p, v) store(p, v, 's')
#define DNSTAP_LOAD_ACQUIRE(p) load(p, 'a')
#define DNSTAP_STORE_RELEASE(p, v) store(p, v, 'r')
#define DNSTAP_EXCHANGE(p, v) __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST)
#define DNSTAP_COMPARE_EXCHANGE(p, e, v) \
    __atomic_compare_exchange_n(p, e, v, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)
#define DNSTAP_COMPILER_FENCE() ((void)0)
#undef DNSTAP_ASSERT
#define DNSTAP_ASSERT(x) ((void)sizeof(x)) /* what it loads, a build without it does not */
/* clang-format on */

#define DNSTAP_IMPLEMENTATION
#include "dnstap.h"
#include "weak_support.h"

enum { RING = 32, UNIT = 4, CELLS = RING / UNIT, FRAMES_MAX = 6, HISTORY = FRAMES_MAX * 2 + 1 };
enum { PRODUCER, SERVICE, THREADS };

/* What may be done differently. */
enum {
    RELAXED_PUBLISH = 1, /* wrong: each of these stored or loaded without order */
    RELAXED_LOOK = 2,
    RELAXED_RELEASE = 4,
    RELAXED_TAIL = 8,
    WRITE_LATE = 16,   /* wrong: bytes are written after they are published */
    RELEASE_EARLY = 32 /* wrong: given back before they are read */
};

/* The words of the ring that both use, and then the clocks of the threads: how often each has
 * stored with release, which orders what it did to bytes before. */
enum { PUBLISHED, WRAP, BYTES, RECORDED, TAIL, OUT, WORDS, CLOCKS = WORDS, VIEW = WORDS + THREADS };
static const size_t offsets[WORDS] = {
    offsetof(dnstap__ring, published), offsetof(dnstap__ring, wrap), offsetof(dnstap__ring, bytes),
    offsetof(dnstap__ring, recorded),  offsetof(dnstap__ring, tail), offsetof(dnstap__ring, out)};

typedef struct view {
    uint8_t at[VIEW];
} view;

static struct machine {
    dnstap__ring ring;
    uint8_t data[RING];
    struct {
        size_t value;
        view view;
    } history[WORDS][HISTORY];
    view view[THREADS];
    uint8_t count[WORDS];
    uint8_t written[CELLS], read[CELLS]; /* at which of the writer's, the reader's clock */
    uint8_t logged, taken;
    size_t whole;
} m;

static unsigned frames, variant, thread;
static bool threads_run;
static size_t ends, races, disorders, restarts, laps;

/* ---- the memory ---- */

static unsigned word_of(const size_t *at)
{
    unsigned w = 0;

    while (w < WORDS && (const uint8_t *)at != (const uint8_t *)&m.ring + offsets[w]) w++;
    assert_true(w < WORDS);
    return w;
}

static void join(view *to, const view *from)
{
    unsigned i;

    for (i = 0; i < VIEW; i++)
        if (from->at[i] > to->at[i]) to->at[i] = from->at[i];
}

static bool weakened(unsigned w, char order)
{
    if (order == 'r') return variant & (w == TAIL ? RELAXED_RELEASE : RELAXED_PUBLISH);
    return variant & (w == TAIL ? RELAXED_TAIL : RELAXED_LOOK);
}

static size_t load(const size_t *at, char order)
{
    unsigned w, low;
    view *v = &m.view[thread];

    if (!threads_run) return *at;
    w = word_of(at);
    low = v->at[w];
    v->at[w] = (uint8_t)(low + choose(m.count[w] - low));
    at = &m.history[w][v->at[w]].value;
    if (order == 'a' && !weakened(w, order)) join(v, &m.history[w][v->at[w]].view);
    return *at;
}

static void store(size_t *at, size_t value, char order)
{
    unsigned w;
    view *v = &m.view[thread];

    *at = value;
    if (!threads_run) return;
    w = word_of(at);
    assert_true(m.count[w] < HISTORY);
    v->at[w] = m.count[w]++;
    m.history[w][v->at[w]].value = value;
    m.history[w][v->at[w]].view.at[w] = v->at[w];
    if (order != 'r' || weakened(w, order)) return;
    v->at[CLOCKS + thread]++;
    m.history[w][v->at[w]].view = *v;
}

/* ---- the steps ---- */

static void touch(const uint8_t *data, size_t size, uint8_t *mine, const uint8_t *theirs)
{
    const view *v = &m.view[thread];
    size_t cell = (size_t)(data - m.data) / UNIT, end = cell + size / UNIT;

    for (; cell < end; cell++) {
        if (theirs[cell] > v->at[CLOCKS + !thread]) races++;
        mine[cell] = (uint8_t)(v->at[CLOCKS + thread] + 1);
    }
}

static void write_frame(uint8_t *out, size_t size)
{
    touch(out, size, m.written, m.read);
    memset(out, 0, size);
    dnstap__put32(out, (uint32_t)size - DNSTAP_FRAME_HEADER);
    out[DNSTAP_FRAME_HEADER] = ++m.logged;
}

static bool produce(void)
{
    static const uint8_t sizes[] = {8, 12, 16};
    size_t size, end, before = m.ring.published;
    uint8_t *out;

    if (m.logged == frames) return false;
    size = sizes[choose(sizeof sizes)];
    out = dnstap__ring_reserve(&m.ring, size, &end);
    if (!out) return true; /* it has looked */
    if (out == m.data && before) *(before % RING + size > RING ? &laps : &restarts) += 1;
    if (!(variant & WRITE_LATE)) write_frame(out, size);
    dnstap__ring_publish(&m.ring, size, end);
    if (variant & WRITE_LATE) write_frame(out, size);
    return true;
}

static size_t frame_size(const uint8_t *data)
{
    return DNSTAP_FRAME_HEADER + (size_t)dnstap__get32(data);
}

/* Sends one frame, or all that lies in one piece. */
static bool serve(void)
{
    size_t at = m.ring.tail, whole, count, i, span;
    const uint8_t *data;

    span = dnstap__ring_span(&m.ring, &at, DNSTAP_LOAD_ACQUIRE(&m.ring.published), &data);
    if (!span) return true;
    if (races) return false; /* what is read now means nothing */
    whole = dnstap__whole_frames(data, span, &count);
    if (whole != span || !count) return disorders++, false;
    if (choose(2)) {
        count = 1;
        whole = frame_size(data);
    }
    if (variant & RELEASE_EARLY) dnstap__ring_release(&m.ring, at + whole, count);
    touch(data, whole, m.read, m.written);
    for (i = 0; i < whole; i += frame_size(data + i))
        if (data[i + DNSTAP_FRAME_HEADER] != ++m.taken) disorders++;
    if (!(variant & RELEASE_EARLY)) dnstap__ring_release(&m.ring, at + whole, count);
    return true;
}

static bool step(unsigned action)
{
    bool moved;

    if (races || disorders) return false; /* that is enough */
    threads_run = true;
    thread = action;
    moved = action == PRODUCER ? produce() : serve();
    threads_run = false;
    if (m.taken == frames && moved) ends++;
    return moved;
}

static void judge(void) {}

/* How many races and frames out of order there are before the first is found. */
static size_t count_faults(unsigned with_frames, unsigned with_variant)
{
    walk w;
    size_t states;
    unsigned i;

    frames = with_frames;
    variant = with_variant;
    ends = races = disorders = restarts = laps = 0;
    memset(&m, 0, sizeof m);
    m.ring.data = m.data;
    m.ring.size = RING;
    m.ring.limit = frames;
    for (i = 0; i < WORDS; i++) m.count[i] = 1;
    memset(&w, 0, sizeof w);
    w.now = &m;
    w.size = sizeof m;
    w.actions = THREADS;
    w.step = step;
    w.judge = judge;
    states = walk_all(&w);
    print_message("# %u frames, variant %u: %zu states, %zu ends, %zu laps, %zu restarts, "
                  "%zu races, %zu out of order\n",
                  frames, variant, states, ends, laps, restarts, races, disorders);
    return races + disorders;
}

static void test_each_frame_is_read_whole_in_order_and_before_it_is_overwritten(void **state)
{
    (void)state;
    assert_int_equal(count_faults(test_long() ? 6 : 5, 0), 0);
    assert_true(ends > 0 && laps > 0 && restarts > 0);
}

static void test_without_one_of_its_orders_bytes_are_read_or_overwritten_too_early(void **state)
{
    unsigned wrong;

    (void)state;
    for (wrong = RELAXED_PUBLISH; wrong <= RELEASE_EARLY; wrong *= 2)
        assert_true(count_faults(5, wrong) > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_frame_is_read_whole_in_order_and_before_it_is_overwritten),
        cmocka_unit_test(test_without_one_of_its_orders_bytes_are_read_or_overwritten_too_early),
    };

    return RUN_TESTS(tests, NULL, NULL);
}
