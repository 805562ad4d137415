/* The sleep protocol on a weakly ordered machine (weak_support.h): what test_wake_model.c walks
 * through with store buffers, here with C11's memory, for ARM, POWER and whatever a compiler does.
 * The steps are the same; their orders are taken from the texts in wake_support.h, to which
 * test_wake_order.c holds the code.
 *
 * membarrier(2) is a fence in every thread: all see all that was stored before it. A call through
 * the kernel orders, like a release store and an acquire load. Without membarrier time must do: no
 * access is put off for longer than a round. So when one is over, all see what was stored before it
 * began, and the service sees what was stored in it before a load that did not. */
#define DNSTAP_IMPLEMENTATION
#include "dnstap.h"
#include "wake_support.h"
#include "weak_support.h"

enum { PRODUCERS = 2, SERVICE = PRODUCERS, THREADS, HISTORY = 20, MARK = 3 };
enum { PUBLISHED, BYTES, WAKE_AT, SLEEP, WORDS = SLEEP * PRODUCERS + 1 };

/* What may be done differently; 0 is what dnstap.h does on a system with membarrier. */
enum {
    NO_BARRIER = 1,        /* the system has none: an armed round instead */
    NO_ROUND = 2,          /* wrong: and no round either */
    REARM = 4,             /* wrong: disarmed and armed again before the long sleep */
    LOOK_FIRST = 8,        /* wrong: a producer looks at the mark before it publishes */
    NOT_AGAIN = 16,        /* wrong: no look between arming and waiting */
    BARRIER_BEFORE = 32,   /* wrong: the barrier before the arming */
    RELAXED_STORE = 64,    /* wrong: bytes are stored without release */
    RELAXED_LOAD = 128,    /* wrong: bytes are loaded without acquire */
    PUBLISHED_FIRST = 256, /* wrong: the service looks at published, then at bytes */
    BYTES_FIRST = 512      /* wrong: the producer stores bytes, then published */
};

typedef enum { NEXT, SECOND, MARKED, STATE, TRADE, CALL } producer_step;
typedef enum {
    LOOK_FIRST_WORD,
    LOOK_SECOND_WORD,
    STORE,
    ARM,
    BARRIER,
    AGAIN,
    WAIT,
    DUE
} service_step;
enum { AWAKE, NAP, ROUND, LONG };

typedef struct view {
    uint8_t at[WORDS];
} view;

typedef struct message {
    uint8_t value, traded; /* traded: an exchange has put it right behind the one before */
    view view;
} message;

/* Everything is a byte, so that equal states have equal bytes. */
static struct machine {
    message history[WORDS][HISTORY];
    uint8_t count[WORDS];
    view view[THREADS];
    view round, call; /* what the end of the round, or a call, shows */
    uint8_t calls;
    struct {
        uint8_t step, logged;
    } producer[PRODUCERS];
    struct {
        uint8_t step, ring, empty, sent, rest, expired, round;
        uint8_t seen[PRODUCERS], tail[PRODUCERS], published[PRODUCERS];
    } service;
    uint8_t rest[8]; /* to whole words, below */
} m;

static unsigned producers, messages, variant;
static size_t sleeps, lost;

/* ---- the memory ---- */

static unsigned word(unsigned kind, unsigned ring)
{
    return kind == SLEEP ? WORDS - 1 : kind * PRODUCERS + ring;
}

static void join(view *to, const view *from)
{
    unsigned w;

    for (w = 0; w < WORDS; w++)
        if (from->at[w] > to->at[w]) to->at[w] = from->at[w];
}

static void join_all(const view *from)
{
    unsigned t;

    for (t = 0; t < THREADS; t++) join(&m.view[t], from);
}

/* Does to each view what an insertion or a removal in w's history asks for. */
static void renumber_one(view *v, unsigned w, unsigned from, int by)
{
    if (v->at[w] >= from) v->at[w] = (uint8_t)(v->at[w] + by);
}

static void renumber(unsigned w, unsigned from, int by)
{
    unsigned i, k;

    for (i = 0; i < THREADS; i++) renumber_one(&m.view[i], w, from, by);
    renumber_one(&m.round, w, from, by);
    renumber_one(&m.call, w, from, by);
    for (i = 0; i < WORDS; i++)
        for (k = 0; k < m.count[i]; k++) renumber_one(&m.history[i][k].view, w, from, by);
}

/* Armed for a round, which a call without news does not begin anew. */
static bool in_round(void) { return m.service.step >= WAIT && m.service.rest == ROUND; }

static uint8_t load(unsigned thread, unsigned w, char order)
{
    view *v = &m.view[thread];
    unsigned low = v->at[w], i;

    assert_non_null(strchr("la", order));
    v->at[w] = (uint8_t)(low + choose(m.count[w] - low));
    i = v->at[w];
    if (order == 'a') join(v, &m.history[w][i].view);
    if (in_round() && thread != SERVICE && i < m.round.at[w]) join(&m.round, v);
    return m.history[w][i].value;
}

/* At any place behind what the thread has seen, where no exchange is in between. */
static void put(unsigned thread, unsigned w, unsigned at, unsigned value, const view *with)
{
    message *history = m.history[w];

    assert_true(m.count[w] < HISTORY);
    memmove(history + at + 1, history + at, (m.count[w] - at) * sizeof *history);
    memset(history + at, 0, sizeof *history);
    m.count[w]++;
    renumber(w, at, 1);
    history[at].value = (uint8_t)value;
    if (with) history[at].view = *with;
    m.view[thread].at[w] = history[at].view.at[w] = (uint8_t)at;
}

static void store(unsigned thread, unsigned w, unsigned value, char order)
{
    unsigned at = m.view[thread].at[w] + 1u;
    view with = m.view[thread];

    assert_non_null(strchr("sr", order));
    at += choose(m.count[w] - at + 1);
    while (at < m.count[w] && m.history[w][at].traded) at++; /* the same as a later one */
    put(thread, w, at, value, order == 'r' ? &with : NULL);
}

static uint8_t trade(unsigned thread, unsigned w, unsigned value)
{
    unsigned at = m.view[thread].at[w];
    view with;

    at += choose(m.count[w] - at);
    while (at + 1u < m.count[w] && m.history[w][at + 1].traded) at++;
    join(&m.view[thread], &m.history[w][at].view);
    m.view[thread].at[w] = (uint8_t)at;
    with = m.view[thread];
    put(thread, w, at + 1, value, &with);
    m.history[w][at + 1].traded = 1;
    return m.history[w][at].value;
}

static view all_there_is(void)
{
    view all;
    unsigned w;

    for (w = 0; w < WORDS; w++) all.at[w] = (uint8_t)(m.count[w] - 1);
    return all;
}

/* What nobody can load any more is forgotten. */
static void forget_old(void)
{
    unsigned w, t, old;

    for (t = 0; t < PRODUCERS; t++)
        if (m.producer[t].step == NEXT && m.producer[t].logged == messages)
            m.view[t] = all_there_is();
    for (w = 0; w < WORDS; w++) {
        for (old = m.view[0].at[w], t = 1; t < THREADS; t++)
            if (m.view[t].at[w] < old) old = m.view[t].at[w];
        for (; old; old--) {
            memmove(m.history[w], m.history[w] + 1, (HISTORY - 1u) * sizeof **m.history);
            memset(&m.history[w][--m.count[w]], 0, sizeof **m.history);
            renumber(w, 1, -1);
        }
        m.history[w][0].traded = 0;
        if (!in_round()) memset(&m.round, 0, sizeof m.round);
        if (!m.calls) memset(&m.call, 0, sizeof m.call);
    }
}

/* ---- the steps ---- */

/* The order of a word's access, from the text of the code's steps: "rB " is a release store. */
static char order_of(const char *steps, char name)
{
    const char *at = strchr(steps, name);

    assert_non_null(at);
    return at[-1];
}

static void publish(unsigned i, bool bytes)
{
    char order = order_of(WAKE_PRODUCER_STEPS, bytes ? 'B' : 'P');

    if (bytes && variant & RELAXED_STORE) order = 's';
    store(i, word(bytes ? BYTES : PUBLISHED, i), m.producer[i].logged, order);
}

static uint8_t load_bytes(unsigned ring)
{
    char order = order_of(WAKE_SERVICE_STEPS, 'B');

    return load(SERVICE, word(BYTES, ring), variant & RELAXED_LOAD ? 'l' : order);
}

static bool behind_mark(unsigned i)
{
    return m.producer[i].logged > load(i, word(WAKE_AT, i), order_of(WAKE_PRODUCER_STEPS, 'W'));
}

static bool produce(unsigned i)
{
    uint8_t *step = &m.producer[i].step;
    bool bytes_first = (variant & BYTES_FIRST) != 0;
    const char *sleep_steps = strstr(WAKE_PRODUCER_STEPS, "W ");

    switch (*step) {
    case NEXT:
        if (i >= producers || m.producer[i].logged == messages) return false;
        m.producer[i].logged++;
        /* a mark that is not passed before the bytes are published: that was the look */
        *step = variant & LOOK_FIRST && !behind_mark(i) ? CALL + 1 : SECOND;
        if (*step == SECOND) publish(i, bytes_first);
        return true;
    case SECOND:
        publish(i, !bytes_first);
        *step = variant & LOOK_FIRST ? STATE : MARKED;
        return true;
    case MARKED:
        *step = behind_mark(i) ? STATE : NEXT;
        return true;
    case STATE:
        *step = load(i, word(SLEEP, 0), order_of(sleep_steps, 'S')) == AWAKE ? NEXT : TRADE;
        return true;
    case TRADE:
        *step = trade(i, word(SLEEP, 0), AWAKE) == AWAKE ? NEXT : CALL;
        return true;
    case CALL:
        m.calls = 1;
        join(&m.call, &m.view[i]);
        *step = NEXT;
        return true;
    default: /* LOOK_FIRST, and no need to call */
        publish(i, false);
        publish(i, true);
        *step = NEXT;
        return true;
    }
}

/* Disarmed and awake: the rings are looked at from the first on. */
static void wake_up(void)
{
    store(SERVICE, word(SLEEP, 0), AWAKE, order_of(WAKE_SERVICE_STEPS, 'S'));
    m.service.rest = AWAKE;
    m.service.step = LOOK_FIRST_WORD;
    m.service.ring = m.service.empty = m.service.sent = m.service.expired = 0;
}

/* How the service rests once all rings were empty. */
static uint8_t next_rest(void)
{
    if (m.service.sent) return NAP;
    if (variant & NO_ROUND) return LONG;
    return variant & REARM && m.service.round ? LONG : ROUND;
}

static void look_at(unsigned ring, bool bytes)
{
    if (bytes)
        m.service.seen[ring] = load_bytes(ring);
    else
        m.service.published[ring] = load(SERVICE, word(PUBLISHED, ring),
                                         order_of(WAKE_SERVICE_STEPS, 'P'));
}

static void look(void)
{
    unsigned ring = m.service.ring;
    bool first = m.service.step == LOOK_FIRST_WORD;

    look_at(ring, first == !(variant & PUBLISHED_FIRST));
    m.service.step = first ? LOOK_SECOND_WORD : LOOK_FIRST_WORD;
    if (first) return;
    m.service.empty = m.service.published[ring] == m.service.tail[ring]
                          ? (uint8_t)(m.service.empty + 1)
                          : 0;
    if (!m.service.empty) m.service.sent = 1;
    m.service.tail[ring] = m.service.published[ring];
    m.service.ring = (uint8_t)((ring + 1) % producers);
    if (m.service.empty < producers) return;
    m.service.rest = next_rest();
    m.service.ring = m.service.empty = m.service.sent = m.service.round = 0;
    m.service.step = STORE;
}

static void barrier(void)
{
    view all = all_there_is();

    join_all(&all);
}

static void wait_now(void)
{
    m.service.step = WAIT;
    m.service.ring = 0;
    if (in_round()) m.round = all_there_is();
}

static bool is_behind(unsigned ring)
{
    const message *own = &m.history[word(WAKE_AT, ring)][m.count[word(WAKE_AT, ring)] - 1];

    return load_bytes(ring) > own->value;
}

/* A look while armed, ring by ring; a message behind the mark ends the rest. */
static void look_again(void)
{
    if (variant & NOT_AGAIN)
        wait_now();
    else if (is_behind(m.service.ring))
        wake_up();
    else if (++m.service.ring == producers)
        wait_now();
}

static void arm_marks(void)
{
    unsigned ring = m.service.ring, mark = m.service.rest == NAP ? MARK : 0;

    if (ring == 0 && variant & BARRIER_BEFORE) barrier();
    store(SERVICE, word(WAKE_AT, ring), m.service.seen[ring] + mark,
          order_of(WAKE_SERVICE_STEPS, 'W'));
    if (++m.service.ring == producers) m.service.step = ARM;
}

static void arm(void)
{
    bool barriers = !(variant & (NO_BARRIER | NO_ROUND | REARM));

    trade(SERVICE, word(SLEEP, 0), m.service.rest);
    m.service.ring = 0;
    m.service.step = m.service.rest == ROUND && barriers ? BARRIER : AGAIN;
}

/* The wait is over. A call without news is no reason to look, nor is a round: it becomes the long
 * sleep, still armed. */
static void look_whether_due(void)
{
    if ((m.service.ring == 0 && load(SERVICE, word(SLEEP, 0), 'l') == AWAKE) ||
        is_behind(m.service.ring)) {
        wake_up();
    } else if (++m.service.ring == producers) {
        m.service.ring = 0;
        m.service.step = WAIT;
        if (m.service.expired && (m.service.rest == NAP || variant & REARM)) {
            m.service.round = m.service.rest == ROUND;
            wake_up();
        } else if (m.service.expired)
            m.service.rest = LONG;
        m.service.expired = 0;
    }
}

/* A wait ends by a call, or by time. */
static bool end_wait(bool by_call)
{
    if (by_call) {
        if (!m.calls) return false;
        join(&m.view[SERVICE], &m.call);
        m.calls = 0;
    } else {
        if (m.service.rest == LONG) return false;
        if (m.service.rest == ROUND) join_all(&m.round);
        m.service.expired = 1;
    }
    m.service.step = DUE;
    return true;
}

static bool serve(bool by_call)
{
    if (m.service.step == WAIT) return end_wait(by_call);
    if (by_call) return false;
    switch (m.service.step) {
    case LOOK_FIRST_WORD:
    case LOOK_SECOND_WORD:
        look();
        break;
    case STORE:
        arm_marks();
        break;
    case ARM:
        arm();
        break;
    case BARRIER:
        if (!(variant & BARRIER_BEFORE)) barrier();
        m.service.rest = LONG;
        m.service.step = AGAIN;
        break;
    case AGAIN:
        look_again();
        break;
    default:
        look_whether_due();
    }
    return true;
}

static bool step(unsigned action)
{
    bool moved = action < PRODUCERS ? produce(action) : serve(action > PRODUCERS);

    if (moved) forget_old();
    return moved;
}

/* Nothing can happen any more: is a message left behind? */
static void judge(void)
{
    unsigned i;

    sleeps++;
    for (i = 0; i < producers; i++)
        if (m.service.tail[i] != messages) {
            lost++;
            return;
        }
}

static size_t count_lost(unsigned with_producers, unsigned with_messages, unsigned with_variant)
{
    walk w;
    size_t states;

    producers = with_producers;
    messages = with_messages;
    variant = with_variant;
    sleeps = lost = 0;
    memset(&m, 0, sizeof m);
    memset(m.count, 1, sizeof m.count);
    memset(&w, 0, sizeof w);
    w.now = &m;
    w.size = sizeof m / 8 * 8;
    w.actions = PRODUCERS + 2;
    w.step = step;
    w.judge = judge;
    states = walk_all(&w);
    print_message(
        "# %u producers, %u messages each, variant %u: %zu states, %zu sleeps, %zu lost\n",
        producers, messages, variant, states, sleeps, lost);
    assert_true(sleeps > 0);
    return lost;
}

static void test_no_message_is_left_behind_with_a_barrier(void **state)
{
    unsigned n;

    (void)state;
    for (n = 1; n <= 2; n++) assert_int_equal(count_lost(1, n, 0), 0);
    assert_int_equal(count_lost(2, 1, 0), 0);
}

static void test_no_message_is_left_behind_with_an_armed_round(void **state)
{
    unsigned n;

    (void)state;
    for (n = 1; n <= 2; n++) assert_int_equal(count_lost(1, n, NO_BARRIER), 0);
    if (test_long()) assert_int_equal(count_lost(2, 1, NO_BARRIER), 0); /* a million states */
}

/* The explorer finds what is wrong with simpler protocols. */
static void test_simpler_protocols_leave_messages_behind(void **state)
{
    static const unsigned wrong[] = {
        NO_ROUND,       REARM,         LOOK_FIRST,   LOOK_FIRST | NO_BARRIER, NOT_AGAIN,
        BARRIER_BEFORE, RELAXED_STORE, RELAXED_LOAD, PUBLISHED_FIRST,         BYTES_FIRST};
    size_t i;

    (void)state;
    for (i = 0; i < sizeof wrong / sizeof *wrong; i++) assert_true(count_lost(1, 2, wrong[i]) > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_message_is_left_behind_with_a_barrier),
        cmocka_unit_test(test_no_message_is_left_behind_with_an_armed_round),
        cmocka_unit_test(test_simpler_protocols_leave_messages_behind),
    };

    return RUN_TESTS(tests, NULL, NULL);
}
