/* What one message costs the thread that logs it, without any sink: filling a message and
 * dnstap_log against filling and packing with protobuf-c, and against memcpy of the finished bytes;
 * what an extra of four labels adds; a message that is not wanted, or that a filter keeps back; the
 * memory of a tap.
 * usage: cost REPETITIONS MESSAGES
 *
 * The tap's transport takes everything at once. It is serviced between batches, outside of the part
 * that is timed, so that every call is accepted; where the library makes a wake-up call, it counts.
 * The peer frees each buffer at once, which keeps malloc at its fastest. */
#include "msgs.h"

enum { BATCH = 1024 };
static event events[MIX];
static uint64_t taken_bytes;
static volatile unsigned keep;

static int null_start(void *self, short *wants)
{
    (void)self, (void)wants;
    return DNSTAP_OK;
}
static long null_send(void *self, const void *data, size_t size, short *wants)
{
    (void)self, (void)data, (void)wants;
    taken_bytes += size;
    return (long)size;
}
static long null_recv(void *self, void *data, size_t size, short *wants)
{
    (void)self, (void)data, (void)size, (void)wants;
    return DNSTAP_AGAIN;
}
static void null_close(void *self) { (void)self; }

/* Whatever else the options ask for. */
static dnstap_tap *open_null(dnstap_options options)
{
    dnstap_transport null_transport = {NULL, null_start, null_send, null_recv,
                                       NULL, null_close, NULL,      NULL};
    dnstap_error error;
    dnstap_tap *tap;

    options.transport = &null_transport;
    options.unidirectional = true;
    options.full = true;
    options.identity = IDENTITY;
    options.version = VERSION;
    tap = dnstap_open(&options, &error);
    if (!tap) {
        fprintf(stderr, "cost: %s\n", error.text);
        exit(1);
    }
    return tap;
}

/* Each timed function logs a batch and returns how many messages were taken. */

__attribute__((noinline)) static unsigned log_batch(dnstap_tap *tap, uint64_t first)
{
    dnstap_message m;
    unsigned n, accepted = 0;

    for (n = 0; n < BATCH; n++) {
        fill_ours(&m, next_event(events, first + n));
        accepted += dnstap_log(tap, &m) == 1;
    }
    return accepted;
}

/* The same with the query at hand, for a tap that makes an extra of it. */
__attribute__((noinline)) static unsigned log_batch_extra(dnstap_tap *tap, uint64_t first)
{
    dnstap_message m;
    unsigned n, accepted = 0;

    for (n = 0; n < BATCH; n++) {
        const event *e = next_event(events, first + n);

        fill_ours(&m, e);
        m.request = dnstap_bytes_of(e->query, e->query_size);
        accepted += dnstap_log(tap, &m) == 1;
    }
    return accepted;
}

__attribute__((noinline)) static unsigned log_batch_full(dnstap_tap *tap, uint64_t first)
{
    dnstap_message m;
    unsigned n, accepted = 0;

    for (n = 0; n < BATCH; n++) {
        fill_ours_full(&m, next_event(events, (first + n) * 2 + 1));
        accepted += dnstap_log(tap, &m) == 1;
    }
    return accepted;
}

__attribute__((noinline)) static unsigned pack_batch(uint64_t first)
{
    Dnstap__Dnstap d;
    Dnstap__Message m;
    size_t size;
    uint8_t *p;
    unsigned n;

    for (n = 0; n < BATCH; n++) {
        fill_peer(&d, &m, next_event(events, first + n));
        p = pack_peer(&d, &size);
        keep += p[size - 1];
        free(p);
    }
    return BATCH;
}

__attribute__((noinline)) static unsigned pack_batch_full(uint64_t first)
{
    Dnstap__Dnstap d;
    Dnstap__Message m;
    size_t size;
    uint8_t *p;
    unsigned n;

    for (n = 0; n < BATCH; n++) {
        fill_peer_full(&d, &m, next_event(events, (first + n) * 2 + 1));
        p = pack_peer(&d, &size);
        keep += p[size - 1];
        free(p);
    }
    return BATCH;
}

/* The physical limit: finished frames copied into a ring of the same size, which like ours begins
 * anew when it was drained. */
static uint8_t frames[MIX][FRAME_MAX], *copy_ring;
static size_t frame_sizes[MIX];

__attribute__((noinline)) static unsigned copy_batch(uint64_t first)
{
    size_t at = 0;
    unsigned n;

    for (n = 0; n < BATCH; n++) {
        size_t i = (first + n) % MIX;

        memcpy(copy_ring + at, frames[i], frame_sizes[i]);
        __asm__ volatile("" : : "r"(copy_ring) : "memory");
        at += frame_sizes[i];
    }
    return BATCH;
}

__attribute__((noinline)) static unsigned unwanted_batch(dnstap_tap *tap, uint64_t first)
{
    dnstap_message m;
    unsigned n, refused = 0;

    for (n = 0; n < BATCH; n++) {
        if (dnstap_wants(tap, n % 2 ? DNSTAP_MSG_CLIENT_RESPONSE : DNSTAP_MSG_CLIENT_QUERY)) {
            fill_ours(&m, next_event(events, first + n));
            dnstap_log(tap, &m);
        } else {
            refused++;
        }
    }
    return refused;
}

/* Filled in before: only the filter is measured. */
static dnstap_message filled[MIX];

__attribute__((noinline)) static unsigned filtered_batch(dnstap_tap *tap, uint64_t first)
{
    unsigned n, refused = 0;

    for (n = 0; n < BATCH; n++) refused += dnstap_log(tap, &filled[(first + n) % MIX]) == 0;
    return refused;
}

/* Taps of which each keeps back all responses, for a reason of its own. */
static const char *const nowhere[] = {"nowhere.example", NULL};
static const struct {
    const char *name;
    dnstap_options options;
} filters[] = {
    {"filtered", {.types = 1u << DNSTAP_MSG_AUTH_QUERY}},
    {"filtered_rcode", {.rcodes = (uint64_t)1 << 5}},
    {"filtered_zone", {.zones = nowhere}},
    {"filtered_sample", {.sample = UINT32_MAX}},
};
enum { FILTERS = sizeof filters / sizeof *filters };

static void fill_all(void)
{
    size_t i;

    for (i = 0; i < MIX; i++) fill_ours_full(&filled[i], next_event(events, i | 1)); /* responses */
}

typedef enum what {
    LOG,
    LOG_FULL,
    LOG_EXTRA,
    PACK,
    PACK_FULL,
    COPY,
    UNWANTED,
    WHATS,
    FILTERED
} what;

static unsigned batch(what w, dnstap_tap *tap, uint64_t first)
{
    switch (w) {
    case LOG:
        return log_batch(tap, first);
    case LOG_FULL:
        return log_batch_full(tap, first);
    case LOG_EXTRA:
        return log_batch_extra(tap, first);
    case PACK:
        return pack_batch(first);
    case PACK_FULL:
        return pack_batch_full(first);
    case COPY:
        return copy_batch(first);
    case FILTERED:
        return filtered_batch(tap, first);
    default:
        return unwanted_batch(tap, first);
    }
}

/* The clock's own cost, which is in each batch once. */
static double clock_cost(void)
{
    uint64_t start = clock_ns(CLOCK_THREAD_CPUTIME_ID), n;

    for (n = 0; n < 1000; n++) clock_ns(CLOCK_THREAD_CPUTIME_ID);
    return (double)(clock_ns(CLOCK_THREAD_CPUTIME_ID) - start) / 1000;
}

/* CPU nanoseconds of this thread for each message, less what the clock itself costs. */
static double measure(what w, dnstap_tap *tap, uint64_t messages)
{
    double clock = clock_cost();
    uint64_t spent = 0, start, done, n = 0;

    for (done = 0; done < messages; done += BATCH) {
        start = clock_ns(CLOCK_THREAD_CPUTIME_ID);
        n += batch(w, tap, done);
        spent += clock_ns(CLOCK_THREAD_CPUTIME_ID) - start;
        if (w == LOG || w == LOG_FULL || w == LOG_EXTRA)
            if (dnstap_flush(tap, 1000) < 0) die("dnstap_flush");
    }
    if (n != done) {
        fprintf(stderr, "cost: %lu of %lu messages were accepted\n", (unsigned long)n,
                (unsigned long)done);
        exit(1);
    }
    return ((double)spent - clock * (double)(done / BATCH)) / (double)n;
}

/* What each filter costs; its tap is opened the first time. */
static void measure_filters(dnstap_tap *taps[FILTERS], uint64_t messages)
{
    size_t i;

    for (i = 0; i < FILTERS; i++) {
        if (!taps[i]) measure(FILTERED, taps[i] = open_null(filters[i].options), messages);
        row(filters[i].name, "ns", "ours", measure(FILTERED, taps[i], messages));
    }
}

static void make_frames(void)
{
    size_t i;

    for (i = 0; i < MIX; i++) {
        size_t size = reference(next_event(events, i), false, frames[i] + DNSTAP_FRAME_HEADER);

        frames[i][2] = (uint8_t)(size >> 8);
        frames[i][3] = (uint8_t)size;
        frame_sizes[i] = DNSTAP_FRAME_HEADER + size;
    }
}

static void memory(void)
{
    dnstap_options options = {0};

    options.endpoint = "tcp://127.0.0.1:6000";
    options.full = true;
    options.producers = 1;
    options.ring_size = 1 << 20;
    /* one ring for the producer, one for all others */
    row("memory", "bytes", "ours", (double)(dnstap_memory_size(&options) - 2 * options.ring_size));
}

int main(int argc, char **argv)
{
    static const struct {
        what ours, peer;
        const char *name;
    } pairs[] = {{LOG, PACK, "log"}, {LOG_FULL, PACK_FULL, "log_full"}, {LOG, COPY, "log_memcpy"}};
    int repetitions = argc > 1 ? atoi(argv[1]) : 7, r;
    uint64_t messages = argc > 2 ? strtoull(argv[2], NULL, 10) : 400000;
    dnstap_options plain = {0}, labels = {.extra = "{type} {name} {class} {remote}"};
    dnstap_tap *tap = open_null(plain), *off = open_null(plain), *extra = open_null(labels);
    dnstap_tap *filtering[FILTERS] = {0};
    dnstap_status status;
    size_t i;

    make_events(events);
    make_frames();
    fill_all();
    copy_ring = calloc(1, 1 << 23);
    if (!copy_ring) abort();
    dnstap_set_enabled(off, false);
    for (i = 0; i < WHATS; i++)
        measure((what)i, i == UNWANTED ? off : i == LOG_EXTRA ? extra : tap, messages / 4);
    for (r = 0; r < repetitions; r++) {
        for (i = 0; i < sizeof pairs / sizeof *pairs; i++) {
            row(pairs[i].name, "ns", "peer", measure(pairs[i].peer, tap, messages));
            row(pairs[i].name, "ns", "ours", measure(pairs[i].ours, tap, messages));
        }
        row("extra", "ns", "ours",
            measure(LOG_EXTRA, extra, messages) - measure(LOG, tap, messages));
        row("disabled", "ns", "ours", measure(UNWANTED, off, messages * 4));
        measure_filters(filtering, messages * 4);
    }
    memory();
    dnstap_get_status(tap, &status);
    row("ring_size", "bytes", "ours", (double)status.ring_size);
    fprintf(stderr,
            "cost: ring of %lu bytes, %lu messages recorded, %lu sent, %lu dropped; "
            "the clock's %.0f ns for each batch of %d are taken off\n",
            (unsigned long)status.ring_size, (unsigned long)status.recorded,
            (unsigned long)status.sent, (unsigned long)status.dropped, clock_cost(), BATCH);
    dnstap_close(tap, 1000);
    dnstap_close(extra, 1000);
    dnstap_close(off, 1000);
    for (i = 0; i < FILTERS; i++) dnstap_close(filtering[i], 1000);
    return 0;
}
