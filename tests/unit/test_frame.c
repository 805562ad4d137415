/* The Frame Streams machines: what they send, and what they make of every way in which peers are
 * known to differ. */
#define DNSTAP_IMPLEMENTATION
#include "dnstap.h"
#include "frame_support.h"

enum { SMALLEST = 8 + DNSTAP_FRAME_CONTROL_MAX };

/* ---- the reader ---- */

typedef struct reader_case {
    const char *stream;
    int verdict; /* at the end of file, or before */
    unsigned data;
    const char *sent;
} reader_case;

/* clang-format off */
static const reader_case bidirectional[] = {
    {"R[d] S[d] D5 P", DNSTAP_OK, 1, "AF"},
    {"R[d] S[d] P", DNSTAP_OK, 0, "AF"},
    {"R S[d] D5 P", DNSTAP_OK, 1, "AF"},
    {"R[d] S D5 P", DNSTAP_OK, 1, "AF"},
    {"R S D5 P", DNSTAP_OK, 1, "AF"},
    {"R[x,d] S[d] D5 P", DNSTAP_OK, 1, "AF"},
    {"R[d,x,y,z] S[d] D5 P", DNSTAP_OK, 1, "AF"},
    {"R[d,d] S[d] D5 P", DNSTAP_OK, 1, "AF"},
    {"R[,d] S[d] D5 P", DNSTAP_OK, 1, "AF"},
    /* nobody's type, or nearly ours */
    {"R[x] S[d] D5 P", DNSTAP_BAD_FRAME, 0, ""},
    {"R[x,y] S[d] D5 P", DNSTAP_BAD_FRAME, 0, ""},
    {"R[] S[d] D5 P", DNSTAP_BAD_FRAME, 0, ""},
    {"R[protobuf:dnstap.Dnsta] S[d] P", DNSTAP_BAD_FRAME, 0, ""},
    {"R[protobuf:dnstap.Dnstap2] S[d] P", DNSTAP_BAD_FRAME, 0, ""},
    {"R[protobuf:dnstap.dnstap] S[d] P", DNSTAP_BAD_FRAME, 0, ""},
    {"R[d] S[x] D5 P", DNSTAP_BAD_FRAME, 0, "A"},
    {"R[d] S[] D5 P", DNSTAP_BAD_FRAME, 0, "A"},
    {"R[d] S[d,d] D5 P", DNSTAP_BAD_FRAME, 0, "A"},
    {"R[d] S[x,d] D5 P", DNSTAP_BAD_FRAME, 0, "A"},
    /* out of turn */
    {"S[d] D5 P", DNSTAP_BAD_FRAME, 0, ""},
    {"A[d] R[d]", DNSTAP_BAD_FRAME, 0, ""},
    {"P", DNSTAP_BAD_FRAME, 0, ""},
    {"F", DNSTAP_BAD_FRAME, 0, ""},
    {"U99 R[d]", DNSTAP_BAD_FRAME, 0, ""},
    {"D5", DNSTAP_BAD_FRAME, 0, ""},
    {"R[d] R[d]", DNSTAP_BAD_FRAME, 0, "A"},
    {"R[d] A[d]", DNSTAP_BAD_FRAME, 0, "A"},
    {"R[d] P", DNSTAP_BAD_FRAME, 0, "A"},
    {"R[d] F", DNSTAP_BAD_FRAME, 0, "A"},
    {"R[d] U99 S[d]", DNSTAP_BAD_FRAME, 0, "A"},
    {"R[d] D5", DNSTAP_BAD_FRAME, 0, "A"},
    /* lengths and fields */
    {"L513", DNSTAP_BAD_FRAME, 0, ""},
    {"L512", DNSTAP_BAD_FRAME, 0, ""},
    {"L4 S[d] D5 P", DNSTAP_OK, 1, "AF"},
    {"L3", DNSTAP_BAD_FRAME, 0, ""},
    {"L0", DNSTAP_BAD_FRAME, 0, ""},
    {"L5", DNSTAP_BAD_FRAME, 0, ""},
    {"L11", DNSTAP_BAD_FRAME, 0, ""},
    {"X4", DNSTAP_BAD_FRAME, 0, ""},
    {"R[d] L513", DNSTAP_BAD_FRAME, 0, "A"},
    {"R[d] X2", DNSTAP_BAD_FRAME, 0, "A"},
    {"H00000000 H7fffffff", DNSTAP_BAD_FRAME, 0, ""},
    {"H00000000 Hffffffff", DNSTAP_BAD_FRAME, 0, ""},
    /* a field that claims more than the frame holds: by one, by 4 GiB */
    {"H00000000 H0000000d H00000004 H00000001 H00000002 H64", DNSTAP_BAD_FRAME, 0, ""},
    {"H00000000 H0000000d H00000004 H00000001 Hffffffff H64", DNSTAP_BAD_FRAME, 0, ""},
    /* in mid-stream only STOP means something, whatever it carries */
    {"R[d] S[d] D5 U99 D6 P", DNSTAP_OK, 2, "AF"},
    {"R[d] S[d] D5 U99[x] D6 P", DNSTAP_OK, 2, "AF"},
    {"R[d] S[d] D5 U0 U4294967295 D6 P", DNSTAP_OK, 2, "AF"},
    {"R[d] S[d] D5 S[d] D6 P", DNSTAP_OK, 2, "AF"},
    {"R[d] S[d] D5 S[x] D6 P", DNSTAP_OK, 2, "AF"},
    {"R[d] S[d] D5 S[d,d] D6 P", DNSTAP_OK, 2, "AF"},
    {"R[d] S[d] D5 R[d] D6 P", DNSTAP_OK, 2, "AF"},
    {"R[d] S[d] D5 A[d] D6 P", DNSTAP_OK, 2, "AF"},
    {"R[d] S[d] D5 F D6 P", DNSTAP_OK, 2, "AF"},
    {"R[d] S[d] D5 X2 D6 P", DNSTAP_OK, 2, "AF"},
    {"R[d] S[d] D5 L512 D6 P", DNSTAP_OK, 2, "AF"},
    {"R[d] S[d] D5 P[d]", DNSTAP_OK, 1, "AF"},
    {"R[d] S[d] D5 X3", DNSTAP_OK, 1, "AF"},
    {"R[d] S[d] D5 L513 D6 P", DNSTAP_BAD_FRAME, 1, "A"},
    {"R[d] S[d] D5 L3 D6 P", DNSTAP_BAD_FRAME, 1, "A"},
    {"R[d] S[d] D5 L0 D6 P", DNSTAP_BAD_FRAME, 1, "A"},
    /* what follows STOP is not read */
    {"R[d] S[d] D5 P D6", DNSTAP_OK, 1, "AF"},
    {"R[d] S[d] D5 P P", DNSTAP_OK, 1, "AF"},
    {"R[d] S[d] D5 P L513", DNSTAP_OK, 1, "AF"},
    /* the end of file */
    {"", DNSTAP_BAD_FRAME, 0, ""},
    {"H0000", DNSTAP_BAD_FRAME, 0, ""},
    {"R[d]", DNSTAP_BAD_FRAME, 0, "A"},
    {"R[d] H000000000000", DNSTAP_BAD_FRAME, 0, "A"},
    {"R[d] S[d]", DNSTAP_END, 0, "A"},
    {"R[d] S[d] D5 D1 D400", DNSTAP_END, 3, "A"},
    {"R[d] S[d] D5 H00", DNSTAP_CUT, 1, "A"},
    {"R[d] S[d] D5 H00000008", DNSTAP_CUT, 1, "A"},
    {"R[d] S[d] D5 H00000008 H01020304050607", DNSTAP_CUT, 1, "A"},
    {"R[d] S[d] D5 H00000000", DNSTAP_CUT, 1, "A"},
    {"R[d] S[d] D5 H00000000 H00000004 H000000", DNSTAP_CUT, 1, "A"},
};

static const reader_case unidirectional[] = {
    {"S[d] D5 P", DNSTAP_OK, 1, ""},
    {"S[d] P", DNSTAP_OK, 0, ""},
    {"S D5 P", DNSTAP_OK, 1, ""},
    {"S[d] D1 D2 D3 D511 D512 P", DNSTAP_OK, 5, ""},
    {"S[d] D5 U99 D6 P", DNSTAP_OK, 2, ""},
    {"S[d] D5 S[d] D6 P", DNSTAP_OK, 2, ""},
    {"S[d] D5 P D6", DNSTAP_OK, 1, ""},
    {"S[d,d] D5 P", DNSTAP_BAD_FRAME, 0, ""},
    {"S[x] D5 P", DNSTAP_BAD_FRAME, 0, ""},
    {"S[] D5 P", DNSTAP_BAD_FRAME, 0, ""},
    {"R[d] S[d] D5 P", DNSTAP_BAD_FRAME, 0, ""},
    {"A[d]", DNSTAP_BAD_FRAME, 0, ""},
    {"P", DNSTAP_BAD_FRAME, 0, ""},
    {"D5", DNSTAP_BAD_FRAME, 0, ""},
    {"U99", DNSTAP_BAD_FRAME, 0, ""},
    {"X2", DNSTAP_BAD_FRAME, 0, ""},
    {"L513", DNSTAP_BAD_FRAME, 0, ""},
    {"S[d]", DNSTAP_END, 0, ""},
    {"S[d] D5", DNSTAP_END, 1, ""},
    {"S[d] D5 H00", DNSTAP_CUT, 1, ""},
    {"H00", DNSTAP_BAD_FRAME, 0, ""},
    {"", DNSTAP_BAD_FRAME, 0, ""},
};
/* clang-format on */

static void expect_heard(const listener *l, const reader_case *c, const char *how)
{
    if (l->verdict == c->verdict && l->data == c->data && !strcmp(l->sent, c->sent)) return;
    fail_msg("%s (%s): verdict %d, not %d; %u frames, not %u; sent %s, not %s", c->stream, how,
             l->verdict, c->verdict, l->data, c->data, l->sent, c->sent);
}

static uint64_t hear_two_pieces(const stream *s, size_t split, bool both_ways, const reader_case *c)
{
    listener l;

    listener_open(&l, SMALLEST, both_ways);
    listener_feed(&l, s->data, split);
    listener_hear(&l, s->data + split, s->size - split, STREAM_ROOM);
    expect_heard(&l, c, "in two pieces");
    listener_close(&l);
    return l.hash;
}

static void check_reader_case(const reader_case *c, bool both_ways)
{
    static stream s;
    listener l;
    size_t split;

    stream_from_text(&s, c->stream);
    listener_open(&l, SMALLEST, both_ways);
    listener_hear(&l, s.data, s.size, 1);
    expect_heard(&l, c, "byte by byte");
    listener_close(&l);
    for (split = 0; split <= s.size; split++)
        assert_true(hear_two_pieces(&s, split, both_ways, c) == l.hash);
}

static void test_reader_takes_each_known_way_to_greet_and_end_bidirectionally(void **state)
{
    size_t i;

    (void)state;
    for (i = 0; i < sizeof bidirectional / sizeof *bidirectional; i++)
        check_reader_case(&bidirectional[i], true);
}

static void test_reader_takes_each_known_way_to_begin_and_end_unidirectionally(void **state)
{
    size_t i;

    (void)state;
    for (i = 0; i < sizeof unidirectional / sizeof *unidirectional; i++)
        check_reader_case(&unidirectional[i], false);
}

static void test_content_type_of_256_bytes_is_legal_and_257_is_not(void **state)
{
    char text[400];
    reader_case legal = {text, DNSTAP_END, 0, "A"}, illegal = {text, DNSTAP_BAD_FRAME, 0, ""};

    (void)state;
    snprintf(text, sizeof text, "R[%0256d,d] S[d]", 0);
    check_reader_case(&legal, true);
    snprintf(text, sizeof text, "R[%0257d,d] S[d]", 0);
    check_reader_case(&illegal, true);
}

static void test_failed_reader_stays_failed_and_ended_reader_ended(void **state)
{
    static stream s;
    dnstap_frame frame;
    listener l;

    (void)state;
    listener_open(&l, SMALLEST, false);
    stream_from_text(&s, "D5");
    listener_feed(&l, s.data, s.size);
    assert_int_equal(l.reader.state, DNSTAP_READER_FAILED);
    stream_from_text(&s, "S[d] P");
    assert_int_equal(dnstap_frame_reader_feed(&l.reader, s.data, s.size, &frame), DNSTAP_BAD_FRAME);
    listener_close(&l);

    listener_open(&l, SMALLEST, false);
    listener_feed(&l, s.data, s.size);
    assert_int_equal(l.reader.state, DNSTAP_READER_END);
    assert_int_equal(dnstap_frame_reader_feed(&l.reader, s.data, s.size, &frame), DNSTAP_END);
    assert_int_equal(frame.kind, DNSTAP_FRAME_NONE);
    listener_close(&l);
}

/* ---- frames larger than the buffer ---- */

static void check_limit(const stream *s, size_t buffer_size, unsigned data, unsigned skipped)
{
    static const uint32_t lengths[] = {1, 7, 600, STREAM_ROOM};
    uint64_t hash = 0;
    listener l;
    size_t i;

    for (i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        listener_open(&l, buffer_size, false);
        listener_hear(&l, s->data, s->size, lengths[i]);
        assert_int_equal(l.verdict, DNSTAP_OK);
        assert_int_equal(l.data, data);
        assert_int_equal(l.skipped, skipped);
        assert_int_equal(l.reader.skipped, skipped);
        assert_true(i == 0 || hash == l.hash);
        hash = l.hash;
        listener_close(&l);
    }
}

static void test_frames_larger_than_the_limit_are_skipped_and_counted(void **state)
{
    static stream s;

    (void)state;
    stream_from_text(&s, "S[d] D516 D517 D5 D1000 D1001 D4096 D65535 D1 P");
    check_limit(&s, SMALLEST, 3, 5);
    check_limit(&s, SMALLEST + 1, 4, 4);
    check_limit(&s, 1003, 4, 4);
    check_limit(&s, 1004, 5, 3);
    check_limit(&s, 4100, 7, 1);
    check_limit(&s, 65538, 7, 1);
    check_limit(&s, 65539, 8, 0);
}

static void test_skipped_frame_is_reported_once_with_its_length(void **state)
{
    static const uint8_t huge[4] = {0xff, 0xff, 0xff, 0xff};
    static stream s;
    dnstap_frame frame;
    listener l;

    (void)state;
    stream_from_text(&s, "S[d]");
    listener_open(&l, SMALLEST, false);
    listener_feed(&l, s.data, s.size);
    assert_int_equal(dnstap_frame_reader_feed(&l.reader, huge, 4, &frame), 4);
    assert_int_equal(frame.kind, DNSTAP_FRAME_SKIPPED);
    assert_true(frame.payload.size == 0xffffffffu);
    assert_null(frame.payload.data);
    assert_int_equal(dnstap_frame_reader_feed(&l.reader, huge, 4, &frame), 4);
    assert_int_equal(frame.kind, DNSTAP_FRAME_NONE);
    assert_int_equal(dnstap_frame_reader_eof(&l.reader), DNSTAP_BAD_FRAME);
    assert_true(l.reader.skip == 0xfffffffbu);
    listener_close(&l);
}

static void test_end_of_file_inside_a_skipped_frame_is_an_error(void **state)
{
    static stream s;
    listener l;
    size_t cut;

    (void)state;
    stream_from_text(&s, "S[d] D600");
    for (cut = 1; cut <= 600; cut++) {
        listener_open(&l, SMALLEST, false);
        listener_hear(&l, s.data, s.size - cut, 100);
        assert_int_equal(l.verdict, DNSTAP_BAD_FRAME);
        assert_int_equal(l.skipped, 1);
        listener_close(&l);
    }
}

/* ---- the writer ---- */

typedef struct writer_case {
    const char *sink; /* what it says after READY | after START | after STOP */
    const char *sent;
    dnstap_writer_state state;
    int result;
} writer_case;

/* clang-format off */
static const writer_case writer_cases[] = {
    {"A[d] | | F", "RSP", DNSTAP_WRITER_END, DNSTAP_END},
    {"A | | F", "RSP", DNSTAP_WRITER_END, DNSTAP_END},
    {"A[x,d] | | F", "RSP", DNSTAP_WRITER_END, DNSTAP_END},
    {"A[d,x,y] | | F", "RSP", DNSTAP_WRITER_END, DNSTAP_END},
    {"A[d] | |", "RSP", DNSTAP_WRITER_FINISH, DNSTAP_OK},
    {" | |", "R", DNSTAP_WRITER_ACCEPT, DNSTAP_OK},
    /* no common type */
    {"A[x] | |", "R", DNSTAP_WRITER_FAILED, DNSTAP_BAD_FRAME},
    {"A[x,y] | |", "R", DNSTAP_WRITER_FAILED, DNSTAP_BAD_FRAME},
    {"A[] | |", "R", DNSTAP_WRITER_FAILED, DNSTAP_BAD_FRAME},
    /* not ACCEPT */
    {"F | |", "R", DNSTAP_WRITER_FAILED, DNSTAP_BAD_FRAME},
    {"S[d] | |", "R", DNSTAP_WRITER_FAILED, DNSTAP_BAD_FRAME},
    {"R[d] | |", "R", DNSTAP_WRITER_FAILED, DNSTAP_BAD_FRAME},
    {"P | |", "R", DNSTAP_WRITER_FAILED, DNSTAP_BAD_FRAME},
    {"U99 A[d] | |", "R", DNSTAP_WRITER_FAILED, DNSTAP_BAD_FRAME},
    {"D5 | |", "R", DNSTAP_WRITER_FAILED, DNSTAP_BAD_FRAME},
    {"X1 | |", "R", DNSTAP_WRITER_FAILED, DNSTAP_BAD_FRAME},
    {"L513 | |", "R", DNSTAP_WRITER_FAILED, DNSTAP_BAD_FRAME},
    {"L512 | |", "R", DNSTAP_WRITER_FAILED, DNSTAP_BAD_FRAME},
    {"L3 | |", "R", DNSTAP_WRITER_FAILED, DNSTAP_BAD_FRAME},
    {"L0 | |", "R", DNSTAP_WRITER_FAILED, DNSTAP_BAD_FRAME},
    {"H00000000ffffffff | |", "R", DNSTAP_WRITER_FAILED, DNSTAP_BAD_FRAME},
    /* FINISH before it is due: the sink closes */
    {"A[d] F | |", "R", DNSTAP_WRITER_END, DNSTAP_END},
    {"A[d] | F |", "RS", DNSTAP_WRITER_END, DNSTAP_END},
    {"A[d] | F[d] |", "RS", DNSTAP_WRITER_END, DNSTAP_END},
    {"A[d] | | F D5", "RSP", DNSTAP_WRITER_END, DNSTAP_END},
    {"A[d] | | X5", "RSP", DNSTAP_WRITER_END, DNSTAP_END},
    /* other control frames after ACCEPT mean nothing, whatever they carry */
    {"A[d] A[d] | | F", "RSP", DNSTAP_WRITER_END, DNSTAP_END},
    {"A[d] | U99 | F", "RSP", DNSTAP_WRITER_END, DNSTAP_END},
    {"A[d] | U99[x] R[d] A[x] S[d,d] P | F", "RSP", DNSTAP_WRITER_END, DNSTAP_END},
    {"A[d] | L512 X4 | F", "RSP", DNSTAP_WRITER_END, DNSTAP_END},
    {"A[d] | | U99 F", "RSP", DNSTAP_WRITER_END, DNSTAP_END},
    /* but a sink has no data, and lengths have limits */
    {"A[d] D5 | |", "R", DNSTAP_WRITER_FAILED, DNSTAP_BAD_FRAME},
    {"A[d] | D5 |", "RS", DNSTAP_WRITER_FAILED, DNSTAP_BAD_FRAME},
    {"A[d] | | D5 F", "RSP", DNSTAP_WRITER_FAILED, DNSTAP_BAD_FRAME},
    {"A[d] | L513 |", "RS", DNSTAP_WRITER_FAILED, DNSTAP_BAD_FRAME},
    {"A[d] | L3 |", "RS", DNSTAP_WRITER_FAILED, DNSTAP_BAD_FRAME},
    {"A[d] | L0 |", "RS", DNSTAP_WRITER_FAILED, DNSTAP_BAD_FRAME},
};
/* clang-format on */

/* Sends what is due, a few bytes at a time; takes down its letter. */
static void writer_send(dnstap_frame_writer *w, char *sent)
{
    uint8_t frame[64];
    size_t have = 0, n;
    dnstap_bytes due = dnstap_frame_writer_next(w);
    dnstap_writer_state before = w->state;

    while (w->state == before && (due = dnstap_frame_writer_next(w)).size) {
        n = 1 + rnd((uint32_t)due.size);
        memcpy(frame + have, due.data, n);
        have += n;
        dnstap_frame_writer_sent(w, n);
    }
    if (have) sent[strlen(sent)] = letter_of_control(frame, have);
}

static int writer_hear(dnstap_frame_writer *w, const stream *s, size_t split)
{
    uint8_t *first = exact_copy(s->data, split),
            *rest = exact_copy(s->data + split, s->size - split);
    int result = dnstap_frame_writer_receive(w, first, split);

    if (result == DNSTAP_OK) result = dnstap_frame_writer_receive(w, rest, s->size - split);
    free(first);
    free(rest);
    return result;
}

static void stream_from_phase(stream *s, const char *text)
{
    char phase[100];
    size_t size;

    text += strspn(text, " ");
    size = strcspn(text, "|");
    memcpy(phase, text, size);
    phase[size] = '\0';
    stream_from_text(s, phase);
}

/* Everything the sink says in a phase comes in two pieces; false: there is no such split. */
static bool check_writer_case(const writer_case *c, size_t split)
{
    static stream s;
    dnstap_frame_writer w;
    const char *text = c->sink;
    char sent[8] = "";
    int result = DNSTAP_OK, phase;
    bool split_somewhere = false;

    dnstap_frame_writer_init(&w, true);
    for (phase = 0; phase < 3 && result == DNSTAP_OK; phase++) {
        if (phase == 2) dnstap_frame_writer_stop(&w);
        writer_send(&w, sent);
        stream_from_phase(&s, text);
        split_somewhere |= split < s.size;
        result = writer_hear(&w, &s, split < s.size ? split : s.size);
        text += strcspn(text, "|") + 1;
    }
    if (result != c->result || w.state != c->state || strcmp(sent, c->sent))
        fail_msg("%s: result %d, not %d; state %d, not %d; sent %s, not %s (split at %zu)", c->sink,
                 result, c->result, (int)w.state, (int)c->state, sent, c->sent, split);
    return split_somewhere;
}

static void test_writer_takes_each_known_way_to_answer(void **state)
{
    size_t i, split;

    (void)state;
    for (i = 0; i < sizeof writer_cases / sizeof *writer_cases; i++)
        for (split = 0; check_writer_case(&writer_cases[i], split); split++) {
        }
}

static void test_writer_refuses_what_comes_before_ready_is_out(void **state)
{
    static stream s;
    dnstap_frame_writer w;

    (void)state;
    stream_from_text(&s, "A[d]");
    dnstap_frame_writer_init(&w, true);
    dnstap_frame_writer_sent(&w, 41);
    assert_int_equal(dnstap_frame_writer_next(&w).size, 1);
    assert_int_equal(dnstap_frame_writer_receive(&w, s.data, s.size), DNSTAP_BAD_FRAME);
    assert_int_equal(w.state, DNSTAP_WRITER_FAILED);
    assert_int_equal(dnstap_frame_writer_next(&w).size, 0);
}

static void test_unidirectional_writer_says_start_and_stop_and_hears_nothing(void **state)
{
    dnstap_frame_writer w;
    char sent[8] = "";

    (void)state;
    dnstap_frame_writer_init(&w, false);
    writer_send(&w, sent);
    assert_int_equal(w.state, DNSTAP_WRITER_DATA);
    assert_int_equal(dnstap_frame_writer_next(&w).size, 0);
    dnstap_frame_writer_stop(&w);
    writer_send(&w, sent);
    assert_string_equal(sent, "SP");
    assert_int_equal(w.state, DNSTAP_WRITER_END);

    dnstap_frame_writer_init(&w, false);
    assert_int_equal(dnstap_frame_writer_receive(&w, "", 1), DNSTAP_BAD_FRAME);
}

static void test_stop_asked_for_outside_data_changes_nothing(void **state)
{
    dnstap_frame_writer w;

    (void)state;
    dnstap_frame_writer_init(&w, true);
    dnstap_frame_writer_stop(&w);
    assert_int_equal(w.state, DNSTAP_WRITER_READY);
}

/* ---- both machines together ---- */

/* What the reader owes, back to the writer. */
static void answer(dnstap_frame_writer *w, dnstap_frame_reader *r, size_t n)
{
    dnstap_bytes due = dnstap_frame_reader_next(r);

    if (due.size > n) due.size = n;
    dnstap_frame_writer_receive(w, due.data, due.size);
    if (due.size) dnstap_frame_reader_sent(r, due.size);
}

static void feed_silently(dnstap_frame_reader *r, dnstap_bytes bytes, size_t n, size_t *frames)
{
    dnstap_frame frame;
    uint8_t *piece = exact_copy(bytes.data, n);
    size_t at = 0;

    while (at < n) {
        at += (size_t)dnstap_frame_reader_feed(r, piece + at, n - at, &frame);
        if (frame.kind == DNSTAP_FRAME_DATA) ++*frames;
    }
    free(piece);
}

/* Up to n bytes there, then up to n back. */
static void exchange(dnstap_frame_writer *w, dnstap_frame_reader *r, size_t n)
{
    size_t none = 0, size;
    dnstap_bytes due = dnstap_frame_writer_next(w);

    size = due.size < n ? due.size : n;
    feed_silently(r, due, size, &none);
    if (size) dnstap_frame_writer_sent(w, size);
    answer(w, r, n);
}

static void test_writer_and_reader_understand_each_other_in_pieces_of_any_size(void **state)
{
    static stream s;
    dnstap_frame_writer w;
    listener l;
    size_t n, frames, turns;

    (void)state;
    stream_from_text(&s, "D5 D100");
    for (n = 1; n <= 50; n++) {
        frames = 0;
        listener_open(&l, SMALLEST, true);
        dnstap_frame_writer_init(&w, true);
        for (turns = 0; w.state != DNSTAP_WRITER_DATA && turns < 500; turns++)
            exchange(&w, &l.reader, n);
        assert_int_equal(l.reader.state, DNSTAP_READER_DATA);
        feed_silently(&l.reader, dnstap_bytes_of(s.data, s.size), s.size, &frames);
        dnstap_frame_writer_stop(&w);
        for (turns = 0; w.state != DNSTAP_WRITER_END && turns < 500; turns++)
            exchange(&w, &l.reader, n);
        assert_int_equal(w.state, DNSTAP_WRITER_END);
        assert_int_equal(l.reader.state, DNSTAP_READER_END);
        assert_int_equal(dnstap_frame_reader_next(&l.reader).size, 0);
        assert_int_equal(frames, 2);
        listener_close(&l);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reader_takes_each_known_way_to_greet_and_end_bidirectionally),
        cmocka_unit_test(test_reader_takes_each_known_way_to_begin_and_end_unidirectionally),
        cmocka_unit_test(test_content_type_of_256_bytes_is_legal_and_257_is_not),
        cmocka_unit_test(test_failed_reader_stays_failed_and_ended_reader_ended),
        cmocka_unit_test(test_frames_larger_than_the_limit_are_skipped_and_counted),
        cmocka_unit_test(test_skipped_frame_is_reported_once_with_its_length),
        cmocka_unit_test(test_end_of_file_inside_a_skipped_frame_is_an_error),
        cmocka_unit_test(test_writer_takes_each_known_way_to_answer),
        cmocka_unit_test(test_writer_refuses_what_comes_before_ready_is_out),
        cmocka_unit_test(test_unidirectional_writer_says_start_and_stop_and_hears_nothing),
        cmocka_unit_test(test_stop_asked_for_outside_data_changes_nothing),
        cmocka_unit_test(test_writer_and_reader_understand_each_other_in_pieces_of_any_size),
    };

    return RUN_TESTS(tests, NULL, NULL);
}
