/* The Frame Streams machines on what real producers and sinks sent, on broken streams, and on
 * random mutations of both. */
#define DNSTAP_IMPLEMENTATION
#include "dnstap.h"
#include "frame_support.h"
#include <dirent.h>

#define DATA "tests/data"
enum { LARGEST = 70000, SMALLEST = 8 + DNSTAP_FRAME_CONTROL_MAX };

/* A connection to a listening sink, and the file of the same frames. */
typedef struct recording {
    const char *raw, *file;
    int verdict;
    const char *sent; /* what our reader answers */
} recording;

static const recording recordings[] = {
    {"bind-9.18.49-auth.0", "bind-9.18.49-auth", DNSTAP_OK, "AF"},
    {"dnsdist-1.7.3.0", "dnsdist-1.7.3", DNSTAP_END, "A"},
    {"fstrm_replay-unix.0", "bind-9.18.49-auth", DNSTAP_OK, "AF"},
    {"godnstap-tcp.0", "bind-9.18.49-auth", DNSTAP_OK, "AF"},
    {"knot-3.2.6-auth.0", "knot-3.2.6-auth", DNSTAP_OK, "AF"},
    {"unbound-1.17.1-resolver.0", "unbound-1.17.1-resolver", DNSTAP_OK, "AF"},
    {"unbound-tcp-sink.0", "unbound-1.17.1-tcp-sink", DNSTAP_OK, "AF"},
};
enum { RECORDINGS = sizeof recordings / sizeof *recordings };

static void stream_from_file(stream *s, const char *folder, const char *name)
{
    char path[300];
    FILE *file;

    snprintf(path, sizeof path, "%s/%s", folder, name);
    file = fopen(path, "rb");
    if (!file) fail_msg("%s: can't be opened", path);
    s->size = fread(s->data, 1, sizeof s->data, file);
    assert_true(s->size < sizeof s->data);
    fclose(file);
}

static void load_raw(stream *s, const recording *r, const char *direction)
{
    char name[100];

    snprintf(name, sizeof name, "%s.%s.raw", r->raw, direction);
    stream_from_file(s, DATA "/raw", name);
}

static size_t control_size(const uint8_t *p) { return 8 + big_endian(p + 4); }

/* Where the data frames of a well-formed stream begin and end. */
static void find_data(const stream *s, size_t *begin, size_t *end)
{
    *begin = 0;
    while (*begin < s->size && big_endian(s->data + *begin) == 0)
        *begin += control_size(s->data + *begin);
    *end = *begin;
    while (*end + 4 <= s->size && big_endian(s->data + *end) != 0)
        *end += 4 + big_endian(s->data + *end);
}

static void expect_recorded(const listener *l, const recording *r, uint64_t hash, unsigned frames)
{
    assert_int_equal(l->verdict, r->verdict);
    assert_string_equal(l->sent, r->sent);
    assert_int_equal(l->data, frames);
    assert_int_equal(l->skipped, 0);
    assert_true(hash == 0 || l->hash == hash);
}

static void test_recordings_hold_the_frames_of_their_files(void **state)
{
    static stream raw, file;
    size_t i, from, to, file_from, file_to;

    (void)state;
    for (i = 0; i < RECORDINGS; i++) {
        char name[100];

        load_raw(&raw, &recordings[i], "c2s");
        snprintf(name, sizeof name, "%s.fstrm", recordings[i].file);
        stream_from_file(&file, DATA, name);
        find_data(&raw, &from, &to);
        find_data(&file, &file_from, &file_to);
        assert_true(to > from);
        assert_int_equal(to - from, file_to - file_from);
        assert_memory_equal(raw.data + from, file.data + file_from, to - from);
    }
}

/* Frame by frame against the bytes themselves, all in one piece. */
static void test_reader_hands_out_exactly_the_frames_that_came(void **state)
{
    static stream raw;
    size_t i, from, to, at;
    long used;
    dnstap_frame frame;
    listener l;

    (void)state;
    for (i = 0; i < RECORDINGS; i++) {
        load_raw(&raw, &recordings[i], "c2s");
        find_data(&raw, &from, &to);
        listener_open(&l, LARGEST, true);
        listener_feed(&l, raw.data, from);
        assert_int_equal(l.reader.state, DNSTAP_READER_DATA);
        for (at = from; at < to; at += (size_t)used) {
            used = dnstap_frame_reader_feed(&l.reader, raw.data + at, raw.size - at, &frame);
            assert_int_equal(frame.kind, DNSTAP_FRAME_DATA);
            assert_int_equal(frame.payload.size, big_endian(raw.data + at));
            assert_int_equal(used, frame.payload.size + 4);
            assert_ptr_equal(frame.payload.data, raw.data + at + 4);
        }
        listener_close(&l);
    }
}

static void test_recordings_read_the_same_in_pieces_of_any_length(void **state)
{
    static const uint32_t lengths[] = {STREAM_ROOM, 1, 2, 3, 5, 9, 100, 1000, 5000};
    static stream raw;
    size_t i, j, from, to, at;
    unsigned frames;
    uint64_t hash;

    (void)state;
    for (i = 0; i < RECORDINGS; i++) {
        load_raw(&raw, &recordings[i], "c2s");
        find_data(&raw, &from, &to);
        for (frames = 0, at = from; at < to; frames++) at += 4 + big_endian(raw.data + at);
        for (hash = 0, j = 0; j < sizeof lengths / sizeof *lengths; j++) {
            listener l;

            listener_open(&l, LARGEST, true);
            listener_hear(&l, raw.data, raw.size, lengths[j]);
            expect_recorded(&l, &recordings[i], hash, frames);
            hash = l.hash;
            listener_close(&l);
        }
    }
}

/* Whole streams in two pieces at each position. */
static void test_recording_reads_the_same_split_at_every_byte(void **state)
{
    const recording *r = &recordings[RECORDINGS - 1];
    static stream raw;
    uint64_t hash = 0;
    unsigned frames = 0;
    size_t split;
    listener l;

    (void)state;
    load_raw(&raw, r, "c2s");
    for (split = 0; split <= raw.size; split++) {
        listener_open(&l, LARGEST, true);
        listener_feed(&l, raw.data, split);
        listener_hear(&l, raw.data + split, raw.size - split, STREAM_ROOM);
        if (!hash) frames = l.data;
        expect_recorded(&l, r, hash, frames);
        hash = l.hash;
        listener_close(&l);
    }
    assert_true(frames > 10);
}

/* One frame in two pieces at each of its bytes. Between frames the reader keeps nothing, so this
 * stands for every split of the stream. */
static void split_frame(listener *l, const uint8_t *data, size_t size)
{
    dnstap_frame_reader before = l->reader;
    listener whole = *l;
    size_t split;

    assert_int_equal(before.have, 0);
    assert_true(before.skip == 0);
    listener_feed(&whole, data, size);
    for (split = 1; split < size; split++) {
        listener pieces = *l;

        listener_feed(&pieces, data, split);
        assert_true(pieces.hash == l->hash);
        listener_feed(&pieces, data + split, size - split);
        assert_true(pieces.hash == whole.hash);
        assert_int_equal(pieces.reader.state, whole.reader.state);
        assert_int_equal(pieces.reader.have, 0);
    }
    *l = whole;
}

static void test_every_frame_of_every_recording_split_at_every_byte(void **state)
{
    static stream raw;
    size_t i, at, size, frames = 0;
    listener l;

    (void)state;
    for (i = 0; i < RECORDINGS; i++) {
        load_raw(&raw, &recordings[i], "c2s");
        listener_open(&l, LARGEST, true);
        for (at = 0; at < raw.size; at += size) {
            size = big_endian(raw.data + at);
            size = size ? size + 4 : control_size(raw.data + at);
            split_frame(&l, raw.data + at, size);
            frames++;
        }
        assert_int_equal(dnstap_frame_reader_eof(&l.reader), recordings[i].verdict);
        assert_string_equal(l.sent, recordings[i].sent);
        listener_close(&l);
    }
    assert_in_range(frames, 500, 5000);
}

/* ---- sinks' answers ---- */

static void writer_sends(dnstap_frame_writer *w)
{
    dnstap_bytes due = dnstap_frame_writer_next(w);

    if (due.size) dnstap_frame_writer_sent(w, due.size);
}

/* Says all that a producer says to a sink, whose answers come in pieces of 1 … longest bytes. */
static int converse(dnstap_frame_writer *w, const stream *s, uint32_t longest)
{
    size_t at, n;
    int result = DNSTAP_OK;

    dnstap_frame_writer_init(w, true);
    writer_sends(w);
    for (at = 0; at < s->size && result == DNSTAP_OK; at += n) {
        uint8_t *piece;

        n = 1 + rnd(longest);
        if (n > s->size - at) n = s->size - at;
        piece = exact_copy(s->data + at, n);
        result = dnstap_frame_writer_receive(w, piece, n);
        free(piece);
        if (w->state == DNSTAP_WRITER_START) writer_sends(w);
        if (w->state == DNSTAP_WRITER_DATA) dnstap_frame_writer_stop(w);
        if (w->state == DNSTAP_WRITER_STOP) writer_sends(w);
    }
    return result;
}

/* A CoreDNS that listens sends READY on its own connection, and may end without STOP. */
static void test_a_listening_coredns_reads_the_same_split_at_every_byte(void **state)
{
    static const struct {
        const char *name;
        unsigned frames;
        int verdict;
    } sides[] = {{"bad-ACCEPT_no_type", 2, DNSTAP_END},
                 {"bad-ACCEPT_two_types", 2, DNSTAP_END},
                 {"bad-garbage", 0, DNSTAP_BAD_FRAME},
                 {"mtls-sink0", 8, DNSTAP_OK},
                 {"reload-tcp", 0, DNSTAP_OK},
                 {"reload", 2, DNSTAP_OK},
                 {"term-0", 2, DNSTAP_OK},
                 {"term-1", 2, DNSTAP_OK},
                 {"unix-sink0", 8, DNSTAP_END},
                 {"unix-sink1", 6, DNSTAP_OK},
                 {"unix-sink2", 4, DNSTAP_OK}};
    static stream raw;
    char name[100];
    uint64_t hash;
    size_t i, split;
    listener l;

    (void)state;
    for (i = 0; i < sizeof sides / sizeof *sides; i++) {
        snprintf(name, sizeof name, "listen-%s.from-coredns.raw", sides[i].name);
        stream_from_file(&raw, DATA "/coredns/streams", name);
        for (hash = 0, split = 0; split <= raw.size; split++, hash = l.hash) {
            listener_open(&l, LARGEST, true);
            listener_feed(&l, raw.data, split);
            listener_hear(&l, raw.data + split, raw.size - split, STREAM_ROOM);
            assert_int_equal(l.verdict, sides[i].verdict);
            assert_int_equal(l.data, sides[i].frames);
            assert_string_equal(l.sent, sides[i].verdict == DNSTAP_OK ? "AF" : "A");
            assert_true(split == 0 || l.hash == hash);
            listener_close(&l);
        }
    }
}

static void test_writer_understands_every_recorded_sink(void **state)
{
    static stream raw;
    dnstap_frame_writer w;
    size_t i;

    (void)state;
    for (i = 0; i < RECORDINGS; i++) {
        bool finished = recordings[i].verdict == DNSTAP_OK;

        load_raw(&raw, &recordings[i], "s2c");
        assert_int_equal(converse(&w, &raw, 1 + (uint32_t)i * 10),
                         finished ? DNSTAP_END : DNSTAP_OK);
        assert_int_equal(w.state, finished ? DNSTAP_WRITER_END : DNSTAP_WRITER_FINISH);
    }
}

/* ---- broken streams ---- */

static void check_verdict(const char *name, const char *verdict, unsigned frames)
{
    static stream s;
    listener l;
    bool kept;

    stream_from_file(&s, DATA "/malformed", name);
    listener_open(&l, 1 << 17, false);
    listener_hear(&l, s.data, s.size, 1 + rnd(60));
    if (!strcmp(verdict, "ok"))
        kept = l.verdict == DNSTAP_OK && l.data == frames;
    else if (!strcmp(verdict, "eof"))
        kept = (l.verdict == DNSTAP_END || l.verdict == DNSTAP_CUT) && l.data == frames;
    else if (!strcmp(verdict, "error"))
        kept = l.verdict == DNSTAP_BAD_FRAME && l.data == frames;
    else /* either: control frames in mid-stream, which we ignore */
        kept = !strcmp(verdict, "either") && l.verdict == DNSTAP_OK && l.data == frames + 1;
    if (!kept) fail_msg("%s: %d after %u frames, not %s", name, l.verdict, l.data, verdict);
    listener_close(&l);
}

static void test_broken_files_get_the_verdict_of_their_table(void **state)
{
    FILE *cases = fopen(DATA "/malformed/CASES.md", "r");
    char line[500], name[100], verdict[20];
    unsigned frames, known = 0, there = 0;
    struct dirent *entry;
    DIR *folder = opendir(DATA "/malformed");

    (void)state;
    assert_non_null(cases);
    assert_non_null(folder);
    while (fgets(line, sizeof line, cases)) {
        if (sscanf(line, "| %99s | %19s | %u |", name, verdict, &frames) != 3) continue;
        if (*name == 'f') check_verdict(name, verdict, frames), known++;
    }
    while ((entry = readdir(folder)) != NULL) there += *entry->d_name == 'f';
    closedir(folder);
    fclose(cases);
    assert_int_equal(known, there);
    assert_true(known > 20);
}

/* What CASES.md says in words. */
static void test_broken_greetings_of_producers_get_their_verdict(void **state)
{
    static const struct {
        const char *name;
        int verdict;
        unsigned frames;
        const char *sent;
    } cases[] = {
        {"h00-good.c2s", DNSTAP_OK, 1, "AF"},
        {"h02-ready-wrong-ctype.c2s", DNSTAP_BAD_FRAME, 0, ""},
        {"h04-ready-many-ctypes.c2s", DNSTAP_OK, 1, "AF"},
        {"h06-stop-first.c2s", DNSTAP_BAD_FRAME, 0, ""},
        {"h08-ready-twice.c2s", DNSTAP_BAD_FRAME, 0, "A"},
        {"h10-accept-from-producer.c2s", DNSTAP_BAD_FRAME, 0, ""},
        {"h12-ready-start-stop-only.c2s", DNSTAP_OK, 0, "AF"},
        {"h14-data-after-stop.c2s", DNSTAP_OK, 1, "AF"},
    };
    static stream s;
    size_t i, longest;
    listener l;

    (void)state;
    for (i = 0; i < sizeof cases / sizeof *cases; i++) {
        for (longest = 1; longest < 300; longest += 23) {
            stream_from_file(&s, DATA "/malformed", cases[i].name);
            listener_open(&l, SMALLEST, true);
            listener_hear(&l, s.data, s.size, (uint32_t)longest);
            assert_int_equal(l.verdict, cases[i].verdict);
            assert_int_equal(l.data, cases[i].frames);
            assert_string_equal(l.sent, cases[i].sent);
            listener_close(&l);
        }
    }
}

static void test_broken_answers_of_sinks_get_their_verdict(void **state)
{
    static const struct {
        const char *name;
        int result;
        dnstap_writer_state state;
    } cases[] = {
        {"s00-good.s2c", DNSTAP_OK, DNSTAP_WRITER_FINISH},
        {"s02-accept-wrong-ctype.s2c", DNSTAP_BAD_FRAME, DNSTAP_WRITER_FAILED},
        {"s04-finish-first.s2c", DNSTAP_BAD_FRAME, DNSTAP_WRITER_FAILED},
        {"s06-start-reply.s2c", DNSTAP_BAD_FRAME, DNSTAP_WRITER_FAILED},
        {"s08-eof.s2c", DNSTAP_OK, DNSTAP_WRITER_ACCEPT},
        {"s10-oversize.s2c", DNSTAP_BAD_FRAME, DNSTAP_WRITER_FAILED},
        {"s12-accept-then-early-finish.s2c", DNSTAP_END, DNSTAP_WRITER_END},
    };
    static stream s;
    dnstap_frame_writer w;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof cases / sizeof *cases; i++) {
        stream_from_file(&s, DATA "/malformed", cases[i].name);
        assert_int_equal(converse(&w, &s, 1 + (uint32_t)i * 10), cases[i].result);
        assert_int_equal(w.state, cases[i].state);
    }
}

/* ---- mutations ---- */

static void mutate_once(stream *s)
{
    static const uint32_t edges[] = {0,   1,   3,   4,          5,          11,        512,
                                     513, 516, 517, 0x7fffffff, 0xfffffffc, 0xffffffff};
    size_t at = rnd((uint32_t)s->size), n = 1 + rnd(12);
    uint8_t *p = s->data + at;

    if (n > s->size - at) n = s->size - at;
    switch (rnd(6)) {
    case 0:
        *p = (uint8_t)rnd(256);
        break;
    case 1:
        *p = (uint8_t)(*p ^ 1u << rnd(8));
        break;
    case 2: /* twice */
        memmove(p + n, p, s->size - at);
        s->size += n;
        break;
    case 3: /* gone */
        memmove(p, p + n, s->size - at - n);
        s->size -= n;
        break;
    case 4:
        s->size = at;
        break;
    default: /* a length, or a type */
        if (s->size - at >= 4) {
            size_t size = s->size;

            s->size = at;
            put_number(s, edges[rnd(sizeof edges / sizeof *edges)]);
            s->size = size;
        }
    }
}

static void mutate(stream *out, const stream *in)
{
    uint32_t n = 1 + rnd(4);

    out->size = 0;
    put(out, in->data, in->size);
    while (n-- && out->size) mutate_once(out);
}

/* The same stream in one piece and in many ends alike. */
static void hear_twice(const stream *s, bool both_ways, size_t buffer_size)
{
    listener one, many;

    listener_open(&one, buffer_size, both_ways);
    listener_hear(&one, s->data, s->size, STREAM_ROOM);
    listener_open(&many, buffer_size, both_ways);
    listener_hear(&many, s->data, s->size, 1 + rnd(30));
    assert_int_equal(one.verdict, many.verdict);
    assert_string_equal(one.sent, many.sent);
    assert_true(one.hash == many.hash);
    listener_close(&one);
    listener_close(&many);
}

static void test_mutated_streams_are_read_alike_in_one_piece_and_in_many(void **state)
{
    static const char *const texts[] = {"R[d] S[d] D5 D40 U99 D600 P",
                                        "S[d] D1 D30 D516 D517 S[d] P",
                                        "R[x,d,y] S D3 F D4 P D5",
                                        "A[d] U99 F",
                                        "A[x,d] A[d] F",
                                        "A F D5"};
    enum { READERS = 3, TEXTS = sizeof texts / sizeof *texts };
    static stream original[TEXTS], s;
    dnstap_frame_writer one, many;
    uint32_t i, which;

    (void)state;
    for (i = 0; i < TEXTS; i++) stream_from_text(&original[i], texts[i]);
    for (i = 0; i < 200000; i++) {
        which = rnd(TEXTS);
        mutate(&s, &original[which]);
        if (which < READERS) {
            hear_twice(&s, which != 1, SMALLEST + rnd(3) * 64);
            continue;
        }
        assert_int_equal(converse(&one, &s, STREAM_ROOM), converse(&many, &s, 1));
        assert_int_equal(one.state, many.state);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_recordings_hold_the_frames_of_their_files),
        cmocka_unit_test(test_reader_hands_out_exactly_the_frames_that_came),
        cmocka_unit_test(test_recordings_read_the_same_in_pieces_of_any_length),
        cmocka_unit_test(test_recording_reads_the_same_split_at_every_byte),
        cmocka_unit_test(test_every_frame_of_every_recording_split_at_every_byte),
        cmocka_unit_test(test_a_listening_coredns_reads_the_same_split_at_every_byte),
        cmocka_unit_test(test_writer_understands_every_recorded_sink),
        cmocka_unit_test(test_broken_files_get_the_verdict_of_their_table),
        cmocka_unit_test(test_broken_greetings_of_producers_get_their_verdict),
        cmocka_unit_test(test_broken_answers_of_sinks_get_their_verdict),
        cmocka_unit_test(test_mutated_streams_are_read_alike_in_one_piece_and_in_many),
    };

    return RUN_TESTS(tests, NULL, NULL);
}
