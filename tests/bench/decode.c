/* Decoding one message, all fields reachable after it: ours against protobuf-c's unpack and free.
 * Built twice: with the installed nanopb, and with its runtime in one unit with the library.
 * usage: decode ROW REPETITIONS MESSAGES */
#include "msgs.h"

static uint8_t payloads[MIX][FRAME_MAX];
static size_t sizes[MIX];

__attribute__((noinline)) static uint64_t decode_ours(uint64_t messages)
{
    dnstap_message m;
    dnstap_policy policy;
    uint64_t i, sum = 0;

    for (i = 0; i < messages; i++) {
        if (dnstap_decode(&m, &policy, payloads[i % MIX], sizes[i % MIX]) < 0) continue;
        sum += m.type + m.query_port + m.query_time_sec + m.query_time_nsec + m.identity.size +
               (m.response_message.data ? m.response_message.size : m.query_message.size);
    }
    return sum;
}

__attribute__((noinline)) static uint64_t decode_peer(uint64_t messages)
{
    uint64_t i, sum = 0;

    for (i = 0; i < messages; i++) {
        Dnstap__Dnstap *d = dnstap__dnstap__unpack(NULL, sizes[i % MIX], payloads[i % MIX]);
        const Dnstap__Message *m;

        if (!d) continue;
        m = d->message;
        sum += m->type + m->query_port + m->query_time_sec + m->query_time_nsec + d->identity.len +
               (m->has_response_message ? m->response_message.len : m->query_message.len);
        dnstap__dnstap__free_unpacked(d, NULL);
    }
    return sum;
}

static double measure(uint64_t (*decode)(uint64_t), uint64_t messages, uint64_t *sum)
{
    uint64_t start = clock_ns(CLOCK_THREAD_CPUTIME_ID);

    *sum = decode(messages);
    return (double)(clock_ns(CLOCK_THREAD_CPUTIME_ID) - start) / (double)messages;
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "decode";
    int repetitions = argc > 2 ? atoi(argv[2]) : 7, r;
    uint64_t messages = argc > 3 ? strtoull(argv[3], NULL, 10) : 400000, sums[2];
    event events[MIX];
    size_t i;

    make_events(events);
    for (i = 0; i < MIX; i++) sizes[i] = reference(next_event(events, i), false, payloads[i]);
    for (r = -1; r < repetitions; r++) {
        double peer = measure(decode_peer, messages, &sums[0]);
        double ours = measure(decode_ours, messages, &sums[1]);

        if (sums[0] != sums[1] || !sums[0]) {
            fprintf(stderr, "decode: ours and the peer's differ\n");
            return 1;
        }
        if (r < 0) continue; /* warming up */
        row(name, "ns", "peer", peer);
        row(name, "ns", "ours", ours);
    }
    return 0;
}
