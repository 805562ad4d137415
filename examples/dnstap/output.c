/* output.c: all outputs, each a writer or a relay; and what outputs lose. */
#include "tool.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- losses -------------------------------------------------------------------------------- */

enum { SAY_MS = 10 * 1000 };

void losses_add(losses *l, uint64_t count)
{
    const uint64_t now = now_ms();
    l->count += count;
    if (l->said && now - l->said_at < SAY_MS) return;
    l->said = l->count;
    l->said_at = now;
    complain("%s: it takes too little; messages lost so far: %" PRIu64, l->name, l->count);
}

bool losses_total(const losses *l)
{
    if (l->count) complain("%s: messages lost in all: %" PRIu64, l->name, l->count);
    return l->count == 0;
}

/* ---- outputs ------------------------------------------------------------------------------- */

static bool open_output(output *out, const given *g, const settings *s)
{
    if (g->flag == 'w')
        out->writer = writer_open(g->name, formats[s->format], s);
    else
        out->relay = relay_open(g->flag, g->name, s);
    return out->writer || out->relay;
}

bool outputs_open(outputs *all, const settings *s)
{
    static const given standard = {'w', ""};
    const size_t count = s->output_count ? s->output_count : 1;
    all->list = (output *)calloc(count, sizeof *all->list);
    if (!all->list) {
        complain("outputs: out of memory");
        return false;
    }
    for (size_t i = 0; i < count; i++, all->count++)
        if (!open_output(&all->list[i], s->output_count ? &s->outputs[i] : &standard, s))
            return false;
    return true;
}

void outputs_put(outputs *all, const dnstap_received *r, bool waits)
{
    for (output *out = all->list; out < all->list + all->count; out++)
        if (out->writer)
            writer_put(out->writer, r, waits);
        else
            relay_put(out->relay, r);
}

bool outputs_flush(outputs *all)
{
    bool any = false;
    for (output *out = all->list; out < all->list + all->count; out++) {
        if (out->writer) writer_flush(out->writer);
        any = any || out->relay || !writer_failed(out->writer);
    }
    return any;
}

bool outputs_ready(outputs *all, int *timeout_ms)
{
    enum { LOOK_AGAIN_MS = 5 };
    bool ready = true;
    for (output *out = all->list; out < all->list + all->count; out++) {
        if (out->writer) {
            ready = writer_ready(out->writer) && ready;
        } else if (!relay_ready(out->relay)) {
            ready = false;
            *timeout_ms = LOOK_AGAIN_MS;
        }
    }
    return ready;
}

void outputs_reopen(outputs *all)
{
    for (output *out = all->list; out < all->list + all->count; out++)
        if (out->writer) writer_reopen(out->writer);
}

bool outputs_close(outputs *all)
{
    bool well = true;
    for (output *out = all->list; out < all->list + all->count; out++)
        well = (out->writer ? writer_close(out->writer) : relay_close(out->relay)) && well;
    free(all->list);
    return well;
}
