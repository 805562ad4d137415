/* The random numbers of all tests: the same in each run, unless a test seeds them. */
#ifndef RANDOM_H
#define RANDOM_H

#include <stdint.h>

/* One of 0 … below - 1, from a state that is not 0 (xorshift). */
static inline uint32_t random_of(uint64_t *state, uint32_t below)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return (uint32_t)(*state >> 20) % below;
}

static uint64_t random_state = 0x9e3779b97f4a7c15u;

static inline void random_seed(uint64_t seed) { random_state = seed * 0x9e3779b97f4a7c15u | 1; }

static inline uint32_t rnd(uint32_t below) { return random_of(&random_state, below); }

#endif
