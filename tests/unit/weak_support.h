/* What the explorers of weak memory share: choices that are tried one after the other, and a walk
 * through all states that can be reached.
 *
 * The memory is that of C11's relaxed, acquire and release accesses, and so no stronger than
 * ARM's: each word has its history; a thread has a view, how far in each history it has surely
 * come; a load takes any message not older than that; a release store leaves the thread's view
 * in its message, and an acquire load that takes it joins the view. Not here is a load put off
 * behind a later store of its thread: neither acquire loads nor release stores allow it, and of
 * others only the service has such a pair, while it takes two threads for one to take what the
 * other stores because of it. */
#ifndef WEAK_SUPPORT_H
#define WEAK_SUPPORT_H

#include "unit.h"

/* ---- choices: a step is done again and again, until each of its choices had each value ---- */

enum { CHOICES = 16 };
static struct {
    unsigned at, count;
    unsigned taken[CHOICES], among[CHOICES];
} choices;

static unsigned choose(unsigned among)
{
    unsigned at = choices.at++;

    assert_true(at < CHOICES && among > 0);
    if (at == choices.count) {
        choices.taken[choices.count++] = 0;
        choices.among[at] = among;
    }
    assert_int_equal(choices.among[at], among);
    return choices.taken[at];
}

static bool next_choice(void)
{
    choices.at = 0;
    while (choices.count) {
        unsigned last = choices.count - 1;

        if (++choices.taken[last] < choices.among[last]) return true;
        choices.count--;
    }
    return false;
}

/* ---- the walk ---- */

typedef struct fingerprint {
    uint64_t a, b; /* both 0: free */
} fingerprint;

typedef struct walk {
    void *now; /* the state that step works on */
    size_t size;
    unsigned actions;
    bool (*step)(unsigned action); /* false: it can't be done now */
    void (*judge)(void);           /* nothing can be done any more */
    uint8_t *waiting;              /* states to go on from */
    size_t waiting_count, waiting_room;
    fingerprint *known;
    size_t count, room;
} walk;

static fingerprint print_of(const void *state, size_t size)
{
    const uint8_t *p = (const uint8_t *)state;
    fingerprint f = {14695981039346656037u, 88172645463325252u};
    uint64_t word;

    for (; size >= sizeof word; size -= sizeof word, p += sizeof word) {
        memcpy(&word, p, sizeof word);
        f.a = (f.a ^ word) * 1099511628211u;
        f.a ^= f.a >> 31;
        f.b = (f.b + word) * 6364136223846793005u;
        f.b ^= f.b >> 29;
    }
    assert_int_equal(size, 0);
    f.b |= 1;
    return f;
}

/* Whether it was not known yet. */
static bool is_new(walk *w, fingerprint f)
{
    size_t at = (size_t)f.a, i;

    for (; w->room && w->known[at % w->room].b; at++)
        if (w->known[at % w->room].a == f.a && w->known[at % w->room].b == f.b) return false;
    if (w->count * 2 >= w->room) {
        fingerprint *old = w->known;
        size_t old_room = w->room;

        w->room = old_room ? old_room * 2 : 1 << 12;
        w->known = (fingerprint *)calloc(w->room, sizeof *w->known);
        assert_non_null(w->known);
        w->count = 0;
        for (i = 0; i < old_room; i++)
            if (old[i].b) is_new(w, old[i]);
        free(old);
        return is_new(w, f);
    }
    w->known[at % w->room] = f;
    w->count++;
    return true;
}

static void reach(walk *w)
{
    if (!is_new(w, print_of(w->now, w->size))) return;
    if (w->waiting_count == w->waiting_room) {
        w->waiting_room = w->waiting_room ? w->waiting_room * 2 : 256;
        w->waiting = (uint8_t *)realloc(w->waiting, w->waiting_room * w->size);
        assert_non_null(w->waiting);
    }
    memcpy(w->waiting + w->waiting_count++ * w->size, w->now, w->size);
}

/* From the state that is in w->now. Returns how many there are. */
static size_t walk_all(walk *w)
{
    uint8_t *here = (uint8_t *)malloc(w->size);
    unsigned action;

    assert_non_null(here);
    reach(w);
    while (w->waiting_count) {
        bool moved = false;

        memcpy(here, w->waiting + --w->waiting_count * w->size, w->size);
        for (action = 0; action < w->actions; action++) {
            choices.count = choices.at = 0;
            do {
                memcpy(w->now, here, w->size);
                if (w->step(action)) reach(w), moved = true;
            } while (next_choice());
        }
        memcpy(w->now, here, w->size);
        if (!moved) w->judge();
    }
    free(here);
    free(w->waiting);
    free(w->known);
    return w->count;
}

#endif
