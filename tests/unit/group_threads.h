/* A group among threads, for the sanitizers: threads log, some without a number of their own, some
 * ending and beginning, while the group is reloaded again and again. A tap that stays must lose and
 * double nothing; one that comes and goes gets no message twice. */
#ifndef GROUP_THREADS_H
#define GROUP_THREADS_H

#define _GNU_SOURCE
#define DNSTAP_IMPLEMENTATION
#include "dnstap.h"

#include "group_support.h"

enum { THREADS = 4, STRAYS = 3, RELOADS = 1000, AHEAD = 100 };

static uint8_t once[2][NUMBERS][AUTHORS];
static size_t arrived[AUTHORS]; /* at the sink of the tap that stays */

typedef struct scene {
    dnstap_group *group;
    size_t stop;
    bool numbered; /* dnstap_group_log_as */
    bool short_lived;
} scene;

typedef struct author {
    scene *scene;
    uint32_t number;
    pthread_t thread;
} author;

/* No ring of the tap that stays is ever full: its sink gets every message, but where threads
 * without a ring of their own had to wait for each other. */
static void log_surely(author *a)
{
    dnstap_group *g = a->scene->group;
    uint32_t number = a->number;
    dnstap_message m;

    if (written[number] - DNSTAP_LOAD_ACQUIRE(&arrived[number]) > AHEAD) {
        poll(NULL, 0, 1);
        return;
    }
    write_message(&m, number, written[number]++);
    if (a->scene->numbered)
        dnstap_group_log_as(g, number, &m);
    else
        dnstap_group_log(g, &m);
}

static void *write_on(void *argument)
{
    author *a = (author *)argument;
    unsigned n;

    for (n = 0; !DNSTAP_LOAD(&a->scene->stop) && (n < 200 || !a->scene->short_lived); n++) {
        log_surely(a);
        if (n % 64 == 0) poll(NULL, 0, 1); /* others want the processor, too */
    }
    return NULL;
}

/* One thread after another in the same author's name. */
static void *write_lives(void *argument)
{
    author *a = (author *)argument;
    pthread_t life;

    while (!DNSTAP_LOAD(&a->scene->stop)) {
        assert_int_equal(pthread_create(&life, NULL, write_on, a), 0);
        assert_int_equal(pthread_join(life, NULL), 0);
    }
    return NULL;
}

static void begin(scene *s, author *authors, int count)
{
    int i;

    memset(authors, 0, (size_t)count * sizeof *authors);
    for (i = 0; i < count; i++) {
        authors[i].scene = s;
        authors[i].number = (uint32_t)i;
        assert_int_equal(pthread_create(&authors[i].thread, NULL,
                                        s->short_lived ? write_lives : write_on, &authors[i]),
                         0);
    }
}

static void end(scene *s, author *authors, int count)
{
    DNSTAP_STORE(&s->stop, 1);
    while (count--) assert_int_equal(pthread_join(authors[count].thread, NULL), 0);
}

static void go_on(scene *s, bool own_thread, const house *kept)
{
    uint64_t lost = tap_status(s->group, 0).status.dropped;
    int i;

    turn(own_thread ? NULL : s->group);
    for (i = 0; i < AUTHORS; i++) DNSTAP_STORE_RELEASE(&arrived[i], (size_t)(kept->next[i] + lost));
}

/* Whether the tap that stays has delivered all that was written but what it says it has not. */
static bool is_complete(dnstap_group *g, const house *kept)
{
    dnstap_status s = tap_status(g, 0).status;
    uint64_t all = 0;
    int i;

    for (i = 0; i < AUTHORS; i++) all += written[i];
    assert_true(kept->once || !s.dropped);
    return kept->messages + s.dropped == all && s.sent == kept->messages;
}

/* Reloads between two configurations that both have the first tap. */
static void reload_while_they_write(scene *s, int count, unsigned reloads, bool own_thread)
{
    house *kept = settle("kept"), *other = settle("other");
    char with[300], without[300];
    author authors[AUTHORS];
    unsigned i;

    memset(once, 0, sizeof once);
    memset(arrived, 0, sizeof arrived);
    other->once = once[0];
    if (count > THREADS) kept->once = once[1]; /* rings are shared, and handed on */
    snprintf(with, sizeof with, "%s", config(kept->endpoint, other->endpoint, "file:///dev/null"));
    snprintf(without, sizeof without, "%s", config(kept->endpoint, "/nobody", NULL));
    common.timeout_ms = 100; /* /nobody is given up then */
    common.ring_size = 1 << 16;
    common.producers = THREADS;
    s->group = group_of(config(kept->endpoint, NULL, NULL));
    UNTIL(s->group, tap_status(s->group, 0).status.state == DNSTAP_STARTED);
    if (own_thread) assert_int_equal(dnstap_group_start(s->group), DNSTAP_OK);
    begin(s, authors, count);
    for (i = 0; i < reloads; i++) {
        reload(s->group, i % 2 ? without : with);
        go_on(s, own_thread, kept);
    }
    end(s, authors, count);
    UNTIL(own_thread ? NULL : s->group, is_complete(s->group, kept));
    assert_int_equal(kept->opened, 1);
    assert_true(kept->messages > reloads / 2 && other->messages > 0);
    close_all(s->group, 500);
    assert_int_equal(kept->stopped, 1);
}

static void test_threads_log_through_reloads_in_a_foreign_loop(void **state)
{
    scene s;

    (void)state;
    memset(&s, 0, sizeof s);
    reload_while_they_write(&s, THREADS, RELOADS, false);
}

static void test_threads_log_through_reloads_of_a_group_with_a_thread(void **state)
{
    scene s;

    (void)state;
    memset(&s, 0, sizeof s);
    reload_while_they_write(&s, THREADS, test_long() ? RELOADS : RELOADS / 4, true);
}

static void test_threads_with_numbers_and_without(void **state)
{
    scene s;

    (void)state;
    memset(&s, 0, sizeof s);
    s.numbered = true; /* the last ones beyond options.producers */
    reload_while_they_write(&s, THREADS + STRAYS, RELOADS / 8, true);
}

static void test_threads_that_end_and_begin(void **state)
{
    scene s;

    (void)state;
    memset(&s, 0, sizeof s);
    s.short_lived = true;
    reload_while_they_write(&s, THREADS + STRAYS, RELOADS / 8, false);
}

static int test_all(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_threads_log_through_reloads_in_a_foreign_loop, forget),
        cmocka_unit_test_setup(test_threads_log_through_reloads_of_a_group_with_a_thread, forget),
        cmocka_unit_test_setup(test_threads_with_numbers_and_without, forget),
        cmocka_unit_test_setup(test_threads_that_end_and_begin, forget),
    };

    return RUN_TESTS(tests, enter_folder, leave_folder);
}

#endif
