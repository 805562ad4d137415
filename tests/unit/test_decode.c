/* Decoding: what real servers sent, what broken ones might, and what nobody should. */
#define DNSTAP_IMPLEMENTATION
#include "dnstap.h"

#include "unit.h"

#include "codec_frames.h"
#include "codec_support.h"
#include "dnstap.pb-c.h"

enum { MUTATIONS = 200000, RECORDED_MAX = 80000 };

static const char *const recordings[] = {
    "bind-9.18.49-auth.fstrm",    "bind-9.18.49-fileout.fstrm",    "dnsdist-1.7.3.fstrm",
    "kdig-3.2.6-tool-tls.fstrm",  "kdig-3.2.6-tool.fstrm",         "knot-3.2.6-auth.fstrm",
    "unbound-1.17.1-large.fstrm", "unbound-1.17.1-resolver.fstrm", "unbound-1.17.1-tcp-sink.fstrm",
    "golang-dnstap/policy.tap",   "golang-dnstap/types.tap"};

/* A span is absent or lies inside the payload. */
static bool inside(dnstap_bytes span, dnstap_bytes payload)
{
    const char *from = (const char *)span.data, *start = (const char *)payload.data;
    if (!span.data) return true;
    return from >= start && span.size <= payload.size &&
           (size_t)(from - start) <= payload.size - span.size;
}

static void assert_spans_inside(const dnstap_message *m, dnstap_bytes payload)
{
    const dnstap_bytes spans[] = {m->identity,      m->version,          m->extra,
                                  m->query_address, m->response_address, m->query_message,
                                  m->query_zone,    m->response_message};
    size_t i;
    for (i = 0; i < sizeof spans / sizeof *spans; i++) assert_true(inside(spans[i], payload));
    if (!m->policy) return;
    assert_true(inside(m->policy->type, payload));
    assert_true(inside(m->policy->rule, payload));
    assert_true(inside(m->policy->value, payload));
}

/* protobuf-c's bytes for what protobuf-c read; not every server writes fields in order. */
static size_t reencode_by_reference(dnstap_bytes payload, uint8_t *out)
{
    Dnstap__Dnstap *read = dnstap__dnstap__unpack(NULL, payload.size,
                                                  (const uint8_t *)payload.data);
    size_t size;
    assert_non_null(read);
    size = dnstap__dnstap__pack(read, out);
    dnstap__dnstap__free_unpacked(read, NULL);
    return size;
}

static void test_recorded_frames_encode_again_as_protobuf_c_has_them(void **state)
{
    static uint8_t ours[RECORDED_MAX], theirs[RECORDED_MAX];
    dnstap_message m;
    dnstap_policy policy;
    size_t i;
    (void)state;
    for (i = 0; i < sizeof recordings / sizeof *recordings; i++) {
        dnstap_bytes payload;
        int count = 0;
        frames f;
        frames_open(&f, recordings[i]);
        for (; frames_next(&f, &payload); count++) {
            size_t size = reencode_by_reference(payload, theirs);
            assert_int_equal(dnstap_decode(&m, &policy, payload.data, payload.size), DNSTAP_OK);
            assert_spans_inside(&m, payload);
            assert_int_equal(dnstap_encode(&m, ours, sizeof ours), size);
            assert_memory_equal(ours, theirs, size);
        }
        assert_true(count > 0);
        frames_close(&f);
    }
}

/* The second of each file's three frames is the unusual one; CASES.md has the reasons. */
typedef struct verdict {
    const char *file;
    int result;
} verdict;

static const verdict verdicts[] = {{"p00-one-byte-frame", DNSTAP_BAD_PAYLOAD},
                                   {"p02-missing-message-type", DNSTAP_BAD_PAYLOAD},
                                   {"p04-dnstap-type-2", DNSTAP_BAD_PAYLOAD},
                                   {"p06-message-type-0", DNSTAP_OK},
                                   {"p08-socket-family-9", DNSTAP_OK},
                                   {"p10-unknown-fields", DNSTAP_OK},
                                   {"p12-unterminated-group", DNSTAP_BAD_PAYLOAD},
                                   {"p14-mismatched-group", DNSTAP_BAD_PAYLOAD},
                                   {"p16-wire-type-7", DNSTAP_BAD_PAYLOAD},
                                   {"p18-message-as-varint", DNSTAP_OK},
                                   {"p20-identity-as-varint", DNSTAP_OK},
                                   {"p22-time-as-fixed64", DNSTAP_OK},
                                   {"p24-varint-11-bytes", DNSTAP_BAD_PAYLOAD},
                                   {"p26-varint-noncanonical", DNSTAP_OK},
                                   {"p28-tag-varint-over-32bit", DNSTAP_BAD_PAYLOAD},
                                   {"p30-message-len-overrun", DNSTAP_BAD_PAYLOAD},
                                   {"p32-message-len-2^64-1", DNSTAP_BAD_PAYLOAD},
                                   {"p34-fixed32-truncated", DNSTAP_BAD_PAYLOAD},
                                   {"p36-duplicate-scalar-last-wins", DNSTAP_OK},
                                   {"p38-duplicate-message-merge", DNSTAP_OK},
                                   {"p40-address-5-bytes", DNSTAP_OK},
                                   {"p42-inet6-with-4-bytes", DNSTAP_OK},
                                   {"p44-no-family-with-address", DNSTAP_OK},
                                   {"p46-port-2^32+53", DNSTAP_OK},
                                   {"p48-time-2^64-1", DNSTAP_OK},
                                   {"p50-short-dns-header", DNSTAP_OK},
                                   {"p52-dns-pointer-beyond", DNSTAP_OK},
                                   {"p54-dns-65535", DNSTAP_OK},
                                   {"p56-query-zone-bad", DNSTAP_OK},
                                   {"p58-policy-unknown-values", DNSTAP_OK},
                                   {"p60-policy-len-overrun", DNSTAP_BAD_PAYLOAD},
                                   {"p62-http-protocol-2", DNSTAP_OK},
                                   {"p64-doq-protocol", DNSTAP_OK},
                                   {"p66-extra-64k", DNSTAP_OK}};

/* The frame is copied to memory of its own size, so that reading past it is seen. */
static int decode_exact(dnstap_message *m, dnstap_policy *policy, dnstap_bytes *payload)
{
    void *copy = malloc(payload->size);
    if (payload->size) memcpy(copy, payload->data, payload->size);
    payload->data = copy;
    return dnstap_decode(m, policy, copy, payload->size);
}

static void second_frame(frames *f, const char *file, dnstap_bytes *payload)
{
    char name[128];
    snprintf(name, sizeof name, "malformed/%s.fstrm", file);
    frames_open(f, name);
    assert_true(frames_next(f, payload) && frames_next(f, payload));
}

static void test_unusual_payloads_get_the_verdict_of_their_case(void **state)
{
    size_t i;
    (void)state;
    for (i = 0; i < sizeof verdicts / sizeof *verdicts; i++) {
        dnstap_message m;
        dnstap_policy policy;
        dnstap_bytes payload;
        frames f;
        int n;
        second_frame(&f, verdicts[i].file, &payload);
        n = decode_exact(&m, &policy, &payload);
        if (n != verdicts[i].result) fail_msg("%s: %d", verdicts[i].file, n);
        if (n == DNSTAP_OK) assert_spans_inside(&m, payload);
        free((void *)(uintptr_t)payload.data);
        frames_close(&f);
    }
}

static void decode_case(const char *file, dnstap_message *m, dnstap_policy *policy, frames *f)
{
    dnstap_bytes payload;
    second_frame(f, file, &payload);
    assert_int_equal(dnstap_decode(m, policy, payload.data, payload.size), DNSTAP_OK);
}

static void test_duplicate_fields_replace_and_duplicate_messages_merge(void **state)
{
    dnstap_message m;
    dnstap_policy policy;
    frames f;
    (void)state;
    decode_case("p36-duplicate-scalar-last-wins", &m, &policy, &f);
    assert_int_equal(m.query_port, 41234);
    frames_close(&f);
    decode_case("p38-duplicate-message-merge", &m, &policy, &f);
    assert_int_equal(m.type, DNSTAP_MSG_CLIENT_RESPONSE);
    assert_int_equal(m.response_port, 5353);
    assert_non_null(m.query_address.data);
    frames_close(&f);
}

static void test_odd_numbers_are_read_as_protobuf_reads_them(void **state)
{
    dnstap_message m;
    dnstap_policy policy;
    frames f;
    (void)state;
    decode_case("p06-message-type-0", &m, &policy, &f);
    assert_true(m.type == 0 && (m.present & 1u << 1) != 0);
    frames_close(&f);
    decode_case("p08-socket-family-9", &m, &policy, &f);
    assert_int_equal(m.socket_family, 9);
    frames_close(&f);
    decode_case("p26-varint-noncanonical", &m, &policy, &f);
    assert_int_equal(m.query_time_sec, 1700000000);
    frames_close(&f);
    decode_case("p46-port-2^32+53", &m, &policy, &f);
    assert_int_equal(m.response_port, 53);
    frames_close(&f);
    decode_case("p48-time-2^64-1", &m, &policy, &f);
    assert_true(m.query_time_sec == UINT64_MAX);
    frames_close(&f);
    decode_case("p22-time-as-fixed64", &m, &policy, &f);
    assert_int_equal(m.present & 1u << 8, 0);
    frames_close(&f);
}

/* Payloads too small for a file. */
typedef struct tiny {
    const char *bytes;
    size_t size;
    int result;
    uint32_t present;
} tiny;

#define TINY(bytes, result, present)              \
    {                                             \
        bytes, sizeof(bytes) - 1, result, present \
    }
static const tiny tinies[] = {
    TINY("", DNSTAP_BAD_PAYLOAD, 0), TINY("\x78\x01", DNSTAP_OK, 0), /* a payload without message */
    TINY("\x78\x02", DNSTAP_BAD_PAYLOAD, 0),                         /* another type */
    TINY("\x78\x02\x78\x01", DNSTAP_OK, 0),                          /* the last one counts */
    TINY("\x78", DNSTAP_BAD_PAYLOAD, 0),                             /* no value */
    TINY("\x7a\x01\x01", DNSTAP_BAD_PAYLOAD, 0),     /* type of the wrong wire type: absent */
    TINY("\x72\x02\x08\x05", DNSTAP_BAD_PAYLOAD, 0), /* no type of payload */
    TINY("\x72\x00\x78\x01", DNSTAP_BAD_PAYLOAD, 0), /* no type of message */
    TINY("\x72\x02\x08\x05\x78\x01", DNSTAP_OK, 1 << 1),
    TINY("\x72\x00\x72\x02\x08\x05\x78\x01", DNSTAP_OK, 1 << 1),
    TINY("\x72\x04\x08\x05\x30\x00\x78\x01", DNSTAP_OK, 1 << 1 | 1 << 6),
    TINY("\x72\x04\x08\x05\x52\x00\x78\x01", DNSTAP_OK, 1 << 1 | 1 << 10),
    TINY("\x72\x04\x08\x05\x7a\x00\x78\x01", DNSTAP_OK, 1 << 1 | 1 << 15),
    TINY("\x72\x05\x08\x05\x80\x01\x02\x78\x01", DNSTAP_OK, 1 << 1 | 1 << 16),
    /* a negative enumerated value is none: family, then the required type */
    TINY("\x72\x08\x08\x05\x10\xff\xff\xff\xff\x0f\x78\x01", DNSTAP_OK, 1 << 1),
    TINY("\x72\x06\x08\xff\xff\xff\xff\x0f\x78\x01", DNSTAP_BAD_PAYLOAD, 0),
    TINY("\x00\x00\x78\x01", DNSTAP_BAD_PAYLOAD, 0),         /* field number 0 */
    TINY("\x1b\x1c\x78\x01", DNSTAP_OK, 0),                  /* an empty group of number 3 */
    TINY("\x1b\x23\x24\x1c\x78\x01", DNSTAP_OK, 0),          /* a group in a group */
    TINY("\x1b\x23\x1c\x24\x78\x01", DNSTAP_BAD_PAYLOAD, 0), /* crossed */
    TINY("\x1c\x78\x01", DNSTAP_BAD_PAYLOAD, 0),             /* an end without begin */
    TINY("\x1b\x1b\x1b\x1b\x1b\x1b\x1b\x1b\x1b\x1b\x1b\x1b\x1b\x1b\x1b\x1b\x1b\x1b\x1b\x1b\x1b\x1b"
         "\x1b\x1b\x1b\x1b\x1b\x1b\x1b\x1b\x1b\x1b\x1b\x1b\x1b",
         DNSTAP_BAD_PAYLOAD, 0) /* too deep */
};

static void test_smallest_payloads_by_the_rules(void **state)
{
    size_t i;
    (void)state;
    for (i = 0; i < sizeof tinies / sizeof *tinies; i++) {
        dnstap_bytes payload = dnstap_bytes_of(tinies[i].bytes, tinies[i].size);
        dnstap_message m;
        dnstap_policy policy;
        int n = decode_exact(&m, &policy, &payload);
        if (n != tinies[i].result) fail_msg("payload %d: %d", (int)i, n);
        if (n == DNSTAP_OK && m.present != tinies[i].present)
            fail_msg("payload %d: present %x", (int)i, (unsigned)m.present);
        free((void *)(uintptr_t)payload.data);
    }
}

static void test_no_bytes_at_all_are_not_dnstap(void **state)
{
    dnstap_message m;
    dnstap_policy policy;
    (void)state;
    assert_int_equal(dnstap_decode(&m, &policy, NULL, 0), DNSTAP_BAD_PAYLOAD);
}

/* ---- hostile input ------------------------------------------------------------------------ */

enum { SEEDS = 512, SEED_MAX = 4096 };
static dnstap_bytes seeds[SEEDS];
static size_t seed_count;

static void add_seeds(const char *name, size_t most)
{
    dnstap_bytes payload;
    frames f;
    frames_open(&f, name);
    while (most-- && seed_count < SEEDS && frames_next(&f, &payload)) {
        void *copy;
        if (payload.size > SEED_MAX) continue;
        copy = malloc(payload.size);
        if (payload.size) memcpy(copy, payload.data, payload.size);
        seeds[seed_count++] = dnstap_bytes_of(copy, payload.size);
    }
    frames_close(&f);
}

/* Changes some bytes of a seed, cuts it, repeats a piece of it, or puts one of another inside. */
static size_t mutate(uint8_t *out)
{
    dnstap_bytes from = seeds[rnd((uint32_t)seed_count)], other = seeds[rnd((uint32_t)seed_count)];
    size_t size = from.size, times = 1 + rnd(4);
    memcpy(out, from.data, size);
    for (; times && size; times--) {
        size_t at = rnd((uint32_t)size), n = 1 + rnd(32);
        switch (rnd(6)) {
        case 0:
            out[at] = (uint8_t)rnd(256);
            break;
        case 1:
            out[at] ^= (uint8_t)(1u << rnd(8));
            break;
        case 2:
            out[at] = (uint8_t)(rnd(2) ? 0xff : 0x80);
            break;
        case 3:
            size = at;
            break;
        case 4:
            memmove(out + at + n, out + at, size - at);
            size += n;
            break;
        default:
            if (n > other.size) n = other.size;
            if (at + n > size) n = size - at;
            if (n) memcpy(out + at, (const uint8_t *)other.data + other.size - n, n);
            break;
        }
    }
    return size;
}

static void test_mutated_frames_never_lead_outside_the_payload(void **state)
{
    static uint8_t buffer[SEED_MAX + 256], again[SEED_MAX + 1024];
    int i, decoded = 0, encoded = 0;
    (void)state;
    for (i = 0; i < MUTATIONS; i++) {
        dnstap_bytes payload = dnstap_bytes_of(buffer, mutate(buffer));
        dnstap_message m, back;
        dnstap_policy policy, back_policy;
        long size = DNSTAP_BAD_MESSAGE;
        if (decode_exact(&m, &policy, &payload) == DNSTAP_OK) {
            decoded++;
            assert_spans_inside(&m, payload);
            size = dnstap_encode(&m, again, sizeof again);
        }
        if (size > 0) {
            encoded++;
            assert_int_equal(dnstap_decode(&back, &back_policy, again, (size_t)size), DNSTAP_OK);
            assert_true(same_message(&m, &back));
        }
        free((void *)(uintptr_t)payload.data);
    }
    assert_in_range(decoded, MUTATIONS / 10, MUTATIONS * 9 / 10); /* neither all nor none */
    assert_true(encoded > decoded / 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_recorded_frames_encode_again_as_protobuf_c_has_them),
        cmocka_unit_test(test_unusual_payloads_get_the_verdict_of_their_case),
        cmocka_unit_test(test_duplicate_fields_replace_and_duplicate_messages_merge),
        cmocka_unit_test(test_odd_numbers_are_read_as_protobuf_reads_them),
        cmocka_unit_test(test_smallest_payloads_by_the_rules),
        cmocka_unit_test(test_no_bytes_at_all_are_not_dnstap),
        cmocka_unit_test(test_mutated_frames_never_lead_outside_the_payload),
    };
    char name[128];
    size_t i;
    for (i = 0; i < sizeof recordings / sizeof *recordings; i++) add_seeds(recordings[i], 30);
    for (i = 0; i < sizeof verdicts / sizeof *verdicts; i++) {
        snprintf(name, sizeof name, "malformed/%s.fstrm", verdicts[i].file);
        add_seeds(name, 3);
    }
    return RUN_TESTS(tests, NULL, NULL);
}
