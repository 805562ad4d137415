/* The sleep protocol: an explorer walks through every interleaving of producers and the service on
 * a machine with store buffers (x86's order, TSO: a thread's stores wait in a queue, which its own
 * loads look into and others' don't) and looks for a sleep without end that leaves a message
 * behind. test_wake_order.c holds the code to these steps:
 *
 *   producer                                    the service
 *     publish   dnstap__ring_publish              look       dnstap__pump: bytes, then published
 *     mark      dnstap__record: wake_at           store      dnstap__arm: wake_at of each ring
 *     state     dnstap__wake: sleep               exchange   dnstap__arm: sleep
 *     exchange  dnstap__wake: sleep to AWAKE      barrier    dnstap__barrier
 *     call      dnstap__call_service              again      dnstap__ready, still armed
 *                                                 wait       poll
 *                                                 due        dnstap__due
 *
 * One assumption on time: when a round is over, the stores that were made before it began are
 * visible. Not assumed: that those made during it are. */
#include "unit.h"

/* ---- the model ---- */

enum { PRODUCERS = 2, BUFFER = 8, MARK = 3 };

/* What may be done differently; 0 is what dnstap.h does on a system with membarrier. */
enum {
    NO_BARRIER = 1,      /* the system has none: an armed round instead */
    NO_ROUND = 2,        /* wrong: and no round either */
    REARM = 4,           /* wrong: disarmed and armed again before the long sleep */
    LOOK_FIRST = 8,      /* wrong: a producer looks at the mark before it publishes */
    NOT_AGAIN = 16,      /* wrong: no look between arming and waiting */
    BARRIER_BEFORE = 32, /* wrong: the barrier before the arming */
    ONE_STORE = 64       /* published and bytes in one, to save states */
};

typedef enum { NEXT, PUBLISH, MARKED, STATE, EXCHANGE, CALL } producer_step;
typedef enum { LOOK_BYTES, LOOK_PUBLISHED, STORE, ARM, BARRIER, AGAIN, WAIT, DUE } service_step;
enum { AWAKE, NAP, ROUND, LONG };
enum { PUBLISHED, BYTES, WAKE_AT, SLEEP }; /* kinds of words in store buffers */

typedef struct store {
    uint8_t word, value; /* word: kind and ring, kind * 2 + ring */
} store;

/* Everything is a byte, so that equal states have equal bytes. */
typedef struct machine {
    uint8_t memory[8]; /* as store.word */
    uint8_t calls;
    struct {
        uint8_t step, logged, mark, stores, before; /* before: stores made before the wait */
        store buffer[BUFFER];
    } producer[PRODUCERS];
    struct {
        uint8_t step, ring, empty, sent, rest, expired, round, stores;
        uint8_t seen[PRODUCERS], tail[PRODUCERS];
        store buffer[BUFFER];
    } service;
} machine;

typedef struct explorer {
    unsigned producers, messages, variant;
    machine *states;
    uint32_t *table; /* hash: index + 1 of a state */
    size_t count, room, size;
    size_t sleeps, lost;
} explorer;

static size_t hash_of(const machine *m)
{
    const uint8_t *p = (const uint8_t *)m;
    uint64_t hash = 14695981039346656037u;
    size_t i;

    for (i = 0; i < sizeof *m; i++) hash = (hash ^ p[i]) * 1099511628211u;
    return (size_t)(hash ^ hash >> 29);
}

static void grow(explorer *e)
{
    size_t i, at;

    e->room = e->room ? e->room * 2 : 1 << 14;
    e->size = e->room * 2;
    e->states = (machine *)realloc(e->states, e->room * sizeof *e->states);
    free(e->table);
    e->table = (uint32_t *)calloc(e->size, sizeof *e->table);
    assert_true(e->states && e->table);
    for (i = 0; i < e->count; i++) {
        for (at = hash_of(&e->states[i]); e->table[at % e->size]; at++) {
        }
        e->table[at % e->size] = (uint32_t)i + 1;
    }
}

/* A state that can be reached; kept once. */
static void reach(explorer *e, const machine *m)
{
    size_t at;
    uint32_t index;

    for (at = hash_of(m); (index = e->table[at % e->size]) != 0; at++)
        if (!memcmp(&e->states[index - 1], m, sizeof *m)) return;
    if (e->count == e->room) {
        machine copy = *m;

        grow(e);
        reach(e, &copy);
        return;
    }
    e->states[e->count++] = *m;
    e->table[at % e->size] = (uint32_t)e->count;
}

static uint8_t word(unsigned kind, unsigned ring) { return (uint8_t)(kind * 2 + ring); }

static void put(store *buffer, uint8_t *stores, uint8_t at, unsigned value)
{
    assert_true(*stores < BUFFER);
    buffer[*stores].word = at;
    buffer[(*stores)++].value = (uint8_t)value;
}

/* The oldest store becomes visible. */
static void drain(machine *m, store *buffer, uint8_t *stores)
{
    m->memory[buffer[0].word] = buffer[0].value;
    memmove(buffer, buffer + 1, (BUFFER - 1) * sizeof *buffer);
    memset(buffer + BUFFER - 1, 0, sizeof *buffer);
    --*stores;
}

static void drain_producer(machine *m, unsigned i)
{
    drain(m, m->producer[i].buffer, &m->producer[i].stores);
    if (m->producer[i].before) m->producer[i].before--;
}

/* What a thread loads: its own last store, or memory. */
static uint8_t load(const machine *m, const store *buffer, uint8_t stores, uint8_t at)
{
    while (stores--)
        if (buffer[stores].word == at) return buffer[stores].value;
    return m->memory[at];
}

static void publish(const explorer *e, machine *m, unsigned i)
{
    store *buffer = m->producer[i].buffer;

    m->producer[i].logged++;
    if (!(e->variant & ONE_STORE))
        put(buffer, &m->producer[i].stores, word(PUBLISHED, i), m->producer[i].logged);
    put(buffer, &m->producer[i].stores, word(BYTES, i), m->producer[i].logged);
}

static uint8_t load_mark(const machine *m, unsigned i)
{
    return load(m, m->producer[i].buffer, m->producer[i].stores, word(WAKE_AT, i));
}

/* One step of a producer, which may have to wait for its store buffer. */
static bool produce(const explorer *e, machine *m, unsigned i)
{
    uint8_t *step = &m->producer[i].step, before;
    bool look_first = (e->variant & LOOK_FIRST) != 0;

    switch (*step) {
    case NEXT:
        if (m->producer[i].logged == e->messages) return false;
        if (look_first)
            m->producer[i].mark = load_mark(m, i);
        else
            publish(e, m, i);
        *step = PUBLISH;
        return true;
    case PUBLISH:
        if (look_first)
            publish(e, m, i);
        else
            m->producer[i].mark = load_mark(m, i);
        *step = MARKED;
        return true;
    case MARKED:
        *step = m->producer[i].logged > m->producer[i].mark ? STATE : NEXT;
        m->producer[i].mark = 0;
        return true;
    case STATE:
        *step = m->memory[word(SLEEP, 0)] == AWAKE ? NEXT : EXCHANGE;
        return true;
    case EXCHANGE:
        if (m->producer[i].stores) return false;
        before = m->memory[word(SLEEP, 0)];
        m->memory[word(SLEEP, 0)] = AWAKE;
        *step = before == AWAKE ? NEXT : CALL;
        return true;
    default:
        m->calls = 1;
        *step = NEXT;
        return true;
    }
}

static uint8_t service_load(const machine *m, unsigned kind, unsigned ring)
{
    return load(m, m->service.buffer, m->service.stores, word(kind, ring));
}

/* Disarmed and awake: the rings are looked at from the first on. */
static void wake_up(machine *m)
{
    unsigned i;

    for (i = 0; i < PRODUCERS; i++) m->producer[i].before = 0;
    put(m->service.buffer, &m->service.stores, word(SLEEP, 0), AWAKE);
    m->service.rest = AWAKE;
    m->service.step = LOOK_BYTES;
    m->service.ring = m->service.empty = m->service.sent = m->service.expired = 0;
}

/* How the service rests once all rings were empty. `round`: an armed round went by before. */
static uint8_t next_rest(const explorer *e, const machine *m)
{
    if (m->service.sent) return NAP;
    if (e->variant & NO_ROUND) return LONG;
    if (e->variant & REARM && m->service.round) return LONG;
    return ROUND;
}

static void look(const explorer *e, machine *m)
{
    unsigned ring = m->service.ring;
    bool one = (e->variant & ONE_STORE) != 0;
    uint8_t published = service_load(m, one ? BYTES : PUBLISHED, ring);

    if (m->service.step == LOOK_BYTES) {
        m->service.seen[ring] = service_load(m, BYTES, ring);
        m->service.step = LOOK_PUBLISHED;
        return;
    }
    m->service.step = LOOK_BYTES;
    m->service.empty = published == m->service.tail[ring] ? (uint8_t)(m->service.empty + 1) : 0;
    if (!m->service.empty) m->service.sent = 1;
    m->service.tail[ring] = published;
    m->service.ring = (uint8_t)((ring + 1) % e->producers);
    if (m->service.empty < e->producers) return;
    m->service.rest = next_rest(e, m);
    m->service.ring = m->service.empty = m->service.sent = m->service.round = 0;
    m->service.step = STORE;
}

/* Every store of the producers is visible, and the service's own. */
static void barrier(const explorer *e, machine *m)
{
    unsigned i;

    for (i = 0; i < e->producers; i++)
        while (m->producer[i].stores) drain_producer(m, i);
    while (m->service.stores) drain(m, m->service.buffer, &m->service.stores);
}

static void wait_now(const explorer *e, machine *m)
{
    unsigned i;

    m->service.step = WAIT;
    m->service.ring = 0;
    for (i = 0; i < e->producers; i++)
        m->producer[i].before = m->service.rest == ROUND ? m->producer[i].stores : 0;
}

static bool behind_mark(const machine *m, unsigned ring)
{
    return service_load(m, BYTES, ring) > service_load(m, WAKE_AT, ring);
}

/* A look while armed, ring by ring; a message behind the mark ends the rest. */
static void look_again(const explorer *e, machine *m)
{
    if (e->variant & NOT_AGAIN)
        wait_now(e, m);
    else if (behind_mark(m, m->service.ring))
        wake_up(m);
    else if (++m->service.ring == e->producers)
        wait_now(e, m);
}

static void arm_marks(const explorer *e, machine *m)
{
    unsigned ring = m->service.ring, mark = m->service.rest == NAP ? MARK : 0;

    if (ring == 0 && e->variant & BARRIER_BEFORE) barrier(e, m);
    put(m->service.buffer, &m->service.stores, word(WAKE_AT, ring), m->service.seen[ring] + mark);
    if (++m->service.ring == e->producers) m->service.step = ARM;
}

/* The wait is over. A call without news is no reason to look, nor is a round: it becomes the long
 * sleep, still armed. */
static void look_whether_due(const explorer *e, machine *m)
{
    bool awake = m->service.ring == 0 && service_load(m, SLEEP, 0) == AWAKE;

    if (awake || behind_mark(m, m->service.ring)) {
        wake_up(m);
    } else if (++m->service.ring == e->producers) {
        m->service.ring = 0;
        m->service.step = WAIT;
        if (m->service.expired && (m->service.rest == NAP || e->variant & REARM)) {
            m->service.round = m->service.rest == ROUND;
            wake_up(m);
        } else if (m->service.expired)
            m->service.rest = LONG;
        m->service.expired = 0;
    }
}

/* One step of the service that does not wait for time or calls. */
static bool serve(const explorer *e, machine *m)
{
    bool barriers = !(e->variant & (NO_BARRIER | NO_ROUND | REARM));

    switch (m->service.step) {
    case LOOK_BYTES:
    case LOOK_PUBLISHED:
        look(e, m);
        return true;
    case STORE:
        arm_marks(e, m);
        return true;
    case ARM:
        if (m->service.stores) return false;
        m->memory[word(SLEEP, 0)] = m->service.rest;
        m->service.ring = 0;
        m->service.step = m->service.rest == ROUND && barriers ? BARRIER : AGAIN;
        return true;
    case BARRIER:
        if (!(e->variant & BARRIER_BEFORE)) barrier(e, m);
        m->service.rest = LONG;
        m->service.step = AGAIN;
        return true;
    case AGAIN:
        look_again(e, m);
        return true;
    case DUE:
        look_whether_due(e, m);
        return true;
    default:
        return false;
    }
}

/* A wait ends by a call, or by time, when stores made before it are visible. */
static bool end_wait(const explorer *e, machine *m)
{
    unsigned i;

    if (m->service.step != WAIT) return false;
    if (m->calls) {
        m->calls = 0;
    } else {
        if (m->service.rest == LONG) return false;
        for (i = 0; i < e->producers; i++)
            if (m->producer[i].before) return false;
        m->service.expired = 1;
    }
    m->service.step = DUE;
    return true;
}

/* Nothing can happen any more: is a message left behind? */
static void judge(explorer *e, const machine *m)
{
    unsigned i;

    e->sleeps++;
    for (i = 0; i < e->producers; i++)
        if (m->service.tail[i] != e->messages) {
            e->lost++;
            return;
        }
}

static void explore(explorer *e)
{
    machine now, next;
    size_t done;
    unsigned i;

    memset(&now, 0, sizeof now);
    grow(e);
    reach(e, &now);
    for (done = 0; done < e->count; done++) {
        bool moved = false;

        now = e->states[done];
        for (i = 0; i < e->producers; i++) {
            next = now;
            if (produce(e, &next, i)) reach(e, &next), moved = true;
            next = now;
            if (next.producer[i].stores) drain_producer(&next, i), reach(e, &next), moved = true;
        }
        next = now;
        if (serve(e, &next) || end_wait(e, &next)) reach(e, &next), moved = true;
        next = now;
        if (next.service.stores)
            drain(&next, next.service.buffer, &next.service.stores), reach(e, &next), moved = true;
        if (!moved) judge(e, &now);
    }
}

static size_t count_lost(unsigned producers, unsigned messages, unsigned variant)
{
    explorer e;

    memset(&e, 0, sizeof e);
    e.producers = producers;
    e.messages = messages;
    e.variant = variant;
    explore(&e);
    print_message(
        "# %u producers, %u messages each, variant %u: %zu states, %zu sleeps, %zu lost\n",
        producers, messages, variant, e.count, e.sleeps, e.lost);
    assert_true(e.sleeps > 0);
    free(e.states);
    free(e.table);
    return e.lost;
}

static void test_no_message_is_left_behind_with_a_barrier(void **state)
{
    unsigned messages;

    (void)state;
    for (messages = 1; messages <= 4; messages++) assert_int_equal(count_lost(1, messages, 0), 0);
    assert_int_equal(count_lost(2, 2, ONE_STORE), 0);
}

static void test_no_message_is_left_behind_with_an_armed_round(void **state)
{
    unsigned messages;

    (void)state;
    for (messages = 1; messages <= 4; messages++)
        assert_int_equal(count_lost(1, messages, NO_BARRIER), 0);
    assert_int_equal(count_lost(2, 2, NO_BARRIER | ONE_STORE), 0);
}

/* The explorer finds what is wrong with simpler protocols. */
static void test_simpler_protocols_leave_messages_behind(void **state)
{
    static const unsigned wrong[] = {NO_ROUND,  REARM,         LOOK_FIRST, LOOK_FIRST | NO_BARRIER,
                                     NOT_AGAIN, BARRIER_BEFORE};
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
