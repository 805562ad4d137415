/* What the tests of the ring share: a ring in a block of its exact size, and frames that can be
 * told apart by every byte. */
#ifndef RING_SUPPORT_H
#define RING_SUPPORT_H

#include "unit.h"

/* A ring whose positions and counts have come to `position`, and which is empty there. */
static void ring_open(dnstap__ring *r, size_t size, size_t position, size_t limit)
{
    memset(r, 0, sizeof *r);
    r->data = (uint8_t *)malloc(size);
    assert_non_null(r->data);
    r->size = size;
    r->limit = limit;
    r->published = r->tail = r->floor = position;
    r->recorded = r->out = r->bytes = r->seen_bytes = position;
}

static void ring_close(dnstap__ring *r) { free(r->data); }

static uint8_t ring_byte(size_t number, size_t i) { return (uint8_t)(number * 31 + i * 7 + 1); }

/* Frame number `number`, of size bytes with its header. */
static void ring_write(uint8_t *p, size_t size, size_t number)
{
    size_t i;

    dnstap__put32(p, (uint32_t)size - DNSTAP_FRAME_HEADER);
    for (i = DNSTAP_FRAME_HEADER; i < size; i++) p[i] = ring_byte(number, i);
}

static bool ring_is(const uint8_t *p, size_t size, size_t number)
{
    size_t i;

    if (dnstap__get32(p) != size - DNSTAP_FRAME_HEADER) return false;
    for (i = DNSTAP_FRAME_HEADER; i < size; i++)
        if (p[i] != ring_byte(number, i)) return false;
    return true;
}

#endif
