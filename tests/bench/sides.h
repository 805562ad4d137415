/* The two sides that are compared, as a server holds them: our tap, and the peer's I/O thread. */
#ifndef BENCH_SIDES_H
#define BENCH_SIDES_H

#include "peer.h"

static dnstap_tap *tap;
static struct fstrm_iothr *io_thread;

static inline bool log_ours(const event *e)
{
    dnstap_message m;

    fill_ours(&m, e);
    return dnstap_log(tap, &m) == 1;
}

static inline bool log_peer(struct fstrm_iothr_queue *queue, const event *e)
{
    Dnstap__Dnstap d;
    Dnstap__Message m;
    size_t size;
    uint8_t *p;

    fill_peer(&d, &m, e);
    p = pack_peer(&d, &size);
    if (fstrm_iothr_submit(io_thread, queue, p, size, fstrm_free_wrapper, NULL) ==
        fstrm_res_success)
        return true;
    free(p);
    return false;
}

static inline dnstap_options tap_options(const sink *s)
{
    dnstap_options options = {0};

    options.endpoint = s->endpoint;
    options.full = true;
    options.identity = IDENTITY;
    options.version = VERSION;
    return options;
}

static inline void open_tap(const dnstap_options *options)
{
    dnstap_error error;

    tap = dnstap_open(options, &error);
    if (tap) return;
    fprintf(stderr, "bench: %s\n", error.text);
    exit(1);
}

/* With a thread of its own. */
static inline void open_ours(const sink *s, unsigned threads)
{
    dnstap_options options = tap_options(s);

    (void)threads;
    open_tap(&options);
    if (dnstap_start(tap) < 0) die("bench: dnstap_start");
}

/* Ends in order, and checks the books. */
static inline void close_ours(void)
{
    if (dnstap_close(tap, 10000) != DNSTAP_OK) die("bench: dnstap_close left messages behind");
    tap = NULL;
}

static inline void open_peer(const sink *s, unsigned threads)
{
    io_thread = peer_open(s->tcp ? NULL : s->path, s->port, threads);
    if (!io_thread) die("bench: fstrm_iothr_init");
}

static inline void close_peer(void) { fstrm_iothr_destroy(&io_thread); }

#endif
