/* What CoreDNS 1.14.7 sent as a listener, to a sink that dials, in two pieces for every place where
 * it can be cut, and byte by byte: the messages are those that lie in the recording. */
#define _GNU_SOURCE
#define DNSTAP_IMPLEMENTATION
#include "dnstap.h"
#include "dial_support.h"
#include <sys/ioctl.h>

enum { STOP = 12 };

typedef struct recording {
    uint8_t bytes[4096];
    size_t size, frames, frames_end; /* equal: there is no START */
    unsigned messages;
    bool stops;
} recording;

static const char *const names[] = {
    "unix-sink0",  "unix-sink1", "unix-sink2",
    "mtls-sink0",  "reload",     "reload-tcp",
    "term-0",      "term-1",     "bad-ACCEPT_two_types",
    "bad-garbage", "bad-READY",  "bad-ACCEPT_no_type",
};

static void load(recording *r, const char *name)
{
    char path[128];
    FILE *file;
    size_t at;

    memset(r, 0, sizeof *r);
    snprintf(path, sizeof path, "tests/data/coredns/streams/listen-%s.from-coredns.raw", name);
    file = fopen(path, "rb");
    if (!file) fail_msg("%s: %s", path, strerror(errno));
    r->size = fread(r->bytes, 1, sizeof r->bytes, file);
    fclose(file);
    at = 8 + dnstap__get32(r->bytes + 4);                         /* READY */
    if (at < r->size) at += 8 + dnstap__get32(r->bytes + at + 4); /* START, once without a type */
    for (r->frames = at; at < r->size && dnstap__get32(r->bytes + at); r->messages++)
        at += 4 + dnstap__get32(r->bytes + at);
    r->frames_end = at;
    r->stops = at < r->size;
    assert_int_equal(r->size - at, r->stops ? STOP : 0);
}

static void serve(void) { assert_int_equal(dnstap_sink_service(w.sink), DNSTAP_OK); }

/* The sink has read all that it was sent. */
static void send_piece(const uint8_t *bytes, size_t size)
{
    int left = 1;

    host_send(bytes, size);
    serve();
    if (status().state > DNSTAP_STARTED) return; /* it heard STOP */
    assert_int_equal(ioctl(dnstap__source_fd(w.sink->sources), FIONREAD, &left), 0);
    assert_int_equal(left, 0);
}

static void play(const recording *r, size_t first, size_t piece)
{
    size_t at = 0, n = first;
    unsigned before = w.told[DNSTAP_SINK_CLOSED];

    memset(&got, 0, sizeof got);
    w.told[DNSTAP_SINK_MESSAGE] = 0;
    w.now += 20000;
    while (!host_took()) serve();
    while (status().state != DNSTAP_GREETING) serve();
    for (; at < r->size; at += n, n = piece) {
        n = dnstap__min(n, r->size - at);
        send_piece(r->bytes + at, n);
    }
    shutdown(host.fd, SHUT_WR);
    while (status().state != DNSTAP_BROKEN) serve();
    if (r->frames == r->size) return; /* an attempt that failed, as told of once */
    assert_int_equal(w.told[DNSTAP_SINK_CLOSED], before + 1);
    assert_int_equal(w.result, r->stops ? DNSTAP_OK : DNSTAP_END);
    assert_int_equal(w.told[DNSTAP_SINK_MESSAGE], r->messages);
    assert_int_equal(got.size, r->frames_end - r->frames);
    assert_memory_equal(got.data, r->bytes + r->frames, got.size);
}

static void test_what_coredns_sends_arrives_wherever_it_is_cut(void **state)
{
    dnstap_sink_options o = dial_options(w.endpoint);
    recording r;
    unsigned i, messages = 0, started = 0;
    size_t cut;

    (void)state;
    host_open(NULL, 0);
    open_sink(&o);
    for (i = 0; i < sizeof names / sizeof *names; i++) {
        load(&r, names[i]);
        messages += r.messages;
        started += r.frames < r.size;
        for (cut = 1; cut <= r.size; cut++) play(&r, cut, SIZE_MAX);
        play(&r, 1, 1);
    }
    assert_int_equal(started, 10);
    assert_in_range(messages, 25, 100);
    assert_int_equal(status().undecodable, 0);
    host_close();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SINK_TEST(test_what_coredns_sends_arrives_wherever_it_is_cut),
    };

    return RUN_TESTS(tests, NULL, NULL);
}
