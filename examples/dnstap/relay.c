/* relay.c: an output that passes messages on to a collector: a tap of the library, which connects,
 * and connects again; the bytes go on as they came. What a file brings waits for it while it takes
 * anything; what comes from sockets never does. */
#include "tool.h"

#include <stdlib.h>
#include <string.h>

enum {
    RINGS = 2,                      /* one of each producer, and the shared one */
    QUEUE = 16,                     /* times 10,000 messages */
    RING_SIZE = 16 * 1024 * 1024,   /* memory is touched as it is used */
    MESSAGE_MOST = 2 * 1024 * 1024, /* what an input takes, and its length */
    PATIENCE_MS = 10 * 1000,        /* so long a file waits for one that takes nothing */
    CLOSE_MS = 1000                 /* for what is left, STOP and FINISH */
};

struct relay {
    const char *name;
    dnstap_tap *tap;
    losses losses;
    uint64_t sent;     /* when it was looked at last */
    uint64_t moved_at; /* it has sent something */
};

static void tell(void *user, int level, const char *line)
{
    (void)user, (void)level;
    complain("%s", line);
}

relay *relay_open(char flag, const char *name, const settings *s)
{
    relay *r = (relay *)calloc(1, sizeof *r);
    dnstap_options o;
    text endpoint = {0};
    dnstap_error error = {0};
    memset(&o, 0, sizeof o);
    endpoint_text(&endpoint, flag, name);
    o.endpoint = endpoint.data;
    o.full = true;
    o.identity = o.version = "";
    o.producers = 1;
    o.queue = QUEUE;
    o.ring_size = RING_SIZE;
    o.max_message = MESSAGE_MOST;
    o.ca_file = s->how.ca_file;
    o.cert_file = s->how.cert_file;
    o.key_file = s->how.key_file;
    o.server_name = s->how.server_name;
    o.skipverify = s->how.skipverify;
    o.log = tell;
    if (r) r->tap = dnstap_open(&o, &error);
    const bool well = r && r->tap && dnstap_start(r->tap) == DNSTAP_OK;
    free(endpoint.data);
    if (!well) {
        complain("%s", r && !r->tap ? error.text : "relay: no thread or memory for it");
        if (r && r->tap) dnstap_close(r->tap, 0);
        free(r);
        return NULL;
    }
    r->name = r->losses.name = name;
    r->moved_at = now_ms();
    return r;
}

void relay_put(relay *r, const dnstap_received *received)
{
    if (dnstap_log_payload(r->tap, received->frame.data, received->frame.size) < 0)
        losses_add(&r->losses, 1);
}

/* How much is queued; notes when that moved last. */
static uint64_t look(relay *r)
{
    dnstap_status status;
    dnstap_get_status(r->tap, &status);
    if (status.sent != r->sent || status.queued == 0) r->moved_at = now_ms();
    r->sent = status.sent;
    return status.queued;
}

static bool is_stuck(const relay *r) { return now_ms() - r->moved_at >= PATIENCE_MS; }

/* One that takes nothing is not waited for: it loses then. */
bool relay_ready(relay *r)
{
    size_t most = 0, most_messages = 0;
    for (uint32_t ring = 0; ring < RINGS; ring++) {
        size_t bytes, messages;
        dnstap_get_ring(r->tap, ring, &bytes, &messages);
        if (bytes > most) most = bytes;
        if (messages > most_messages) most_messages = messages;
    }
    if (most < RING_SIZE / 2 && most_messages < QUEUE * 10000 / 2) return true;
    look(r);
    return is_stuck(r);
}

static void drain(relay *r)
{
    while (look(r) > 0 && !is_stuck(r) && !is_stopping()) dnstap_flush(r->tap, 50);
    if (is_stopping()) dnstap_flush(r->tap, CLOSE_MS);
}

bool relay_close(relay *r)
{
    drain(r);
    const uint64_t left = look(r);
    dnstap_close(r->tap, left ? 0 : CLOSE_MS);
    r->losses.count += left;
    const bool well = losses_total(&r->losses);
    free(r);
    return well;
}
