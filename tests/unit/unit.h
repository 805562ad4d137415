/* What every unit test includes, after dnstap.h: cmocka and what it needs, the clock, random
 * numbers, and RUN_TESTS, which main returns. */
#ifndef UNIT_H
#define UNIT_H

#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200809L /* of a test without dnstap.h */
#endif
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>
#include "../random.h"

/* not every test uses them */
#define HELPER static __attribute__((unused))

/* Whether the full counts of repetition are wanted. */
HELPER bool test_long(void) { return getenv("TEST_LONG") != NULL; }

HELPER uint64_t real_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

HELPER uint64_t real_ms(void) { return real_us() / 1000; }

/* Of the program's tests only those are run that have TEST_ONLY in their name. */
static void choose_tests(void)
{
    static char pattern[256];
    const char *only = getenv("TEST_ONLY");

    if (!only) return;
    snprintf(pattern, sizeof pattern, "*%s*", only);
    cmocka_set_test_filter(pattern);
}

#define RUN_TESTS(tests, setup, teardown) \
    (choose_tests(), cmocka_run_group_tests(tests, setup, teardown))

#endif
