/* What TLS adds to firmware.c: keys, the date, random numbers. keys.h is made by build.sh: the
 * texts ca, cert and key, and the macros BUILD_TIME (seconds since 1970) and SEED (bytes). A
 * product takes the date from where it learns it, and random numbers from its hardware: without
 * good ones there is no secret. */
#ifndef FIRMWARE_TLS_H_INCLUDED
#define FIRMWARE_TLS_H_INCLUDED

#include <bearssl.h>

#include "keys.h"

enum { MEMORY = RING + 22 * 1024 };

static uint64_t unix_time(void *user)
{
    (void)user;
    return BUILD_TIME + board_ms() / 1000;
}

static bool entropy(void *user, void *out, size_t size)
{
    static const uint8_t seed[] = {SEED};
    static br_hmac_drbg_context random;
    static bool seeded;

    (void)user;
    if (!seeded) br_hmac_drbg_init(&random, &br_sha256_vtable, seed, sizeof seed);
    seeded = true;
    br_hmac_drbg_generate(&random, out, size);
    return true;
}

/* The collector's name is verified. */
#define SECURITY                                                                       \
    .endpoint = "tls://collector:6000", .ca = {ca, sizeof ca - 1},                     \
    .cert = {cert, sizeof cert - 1}, .key = {key, sizeof key - 1}, .ca_memory = 4096,  \
    .tls_input = 1024, .tls_output = 837, .timeout_ms = 60000, .unix_time = unix_time, \
    .entropy = entropy

#endif
