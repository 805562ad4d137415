/* Every malformed stream through every way in: files, by callback and one by one, sockets, with and
 * without handshake, accepted and dialled, in one piece and byte by byte. What comes out is what
 * cases.json says, and the same each way. Then what malformed sinks answer to our taps. */
#define _GNU_SOURCE
#define DNSTAP_IMPLEMENTATION
#include "dnstap.h"
#include "sink_support.h"
#include <dirent.h>

#define FOLDER "tests/data/malformed"
enum { ROOM = 1 << 18, EVENTS = 16, CASES = 200 };

typedef struct corpus_case {
    char file[80], expect[24];
    unsigned frames;
} corpus_case;

static struct {
    corpus_case list[CASES];
    unsigned count;
    uint8_t data[ROOM];
    size_t size;
} corpus;

/* What has come out of one way in. */
typedef struct trace {
    unsigned frames, skipped, opened, closed;
    int results[EVENTS]; /* of decoding each frame */
    int result;
    dnstap_sink_end end;
    uint64_t hash;
    char replies[8]; /* what the peer got: A, F */
} trace;

static trace seen;
static bool hesitates; /* puts each frame off, once */

static int watch(void *user, const dnstap_received *r)
{
    const uint8_t *p = (const uint8_t *)r->frame.data;
    bool frame = r->kind == DNSTAP_SINK_MESSAGE || r->kind == DNSTAP_SINK_SKIPPED;
    static unsigned offers;
    size_t i;

    (void)user;
    if (hesitates && frame && ++offers % 2) {
        dnstap_sink_resume(w.sink);
        return DNSTAP_AGAIN;
    }
    assert_non_null(r->text);
    seen.opened += r->kind == DNSTAP_SINK_OPENED;
    seen.skipped += r->kind == DNSTAP_SINK_SKIPPED;
    if (r->kind == DNSTAP_SINK_MESSAGE) {
        assert_true(seen.frames < EVENTS);
        assert_int_equal(r->message == NULL, r->result != DNSTAP_OK);
        seen.results[seen.frames++] = r->result;
        for (i = 0; i < r->frame.size; i++) seen.hash = seen.hash * 31 + p[i] + 1;
    } else if (r->kind == DNSTAP_SINK_CLOSED) {
        assert_true(*r->text);
        seen.closed++;
        seen.result = r->result;
        seen.end = r->end;
    }
    return DNSTAP_OK;
}

/* ---- the cases ---- */

static void value_of(const char *from, const char *key, char *out, size_t size)
{
    const char *at = strstr(from, key);
    size_t n;

    assert_non_null(at);
    at += strlen(key);
    n = strcspn(at, "\",\n");
    assert_true(n < size);
    memcpy(out, at, n);
    out[n] = '\0';
}

static int load_cases(void **state)
{
    static char text[1 << 16];
    FILE *f = fopen(FOLDER "/cases.json", "rb");
    const char *at = text;
    char number[16];

    (void)state;
    if (!f) return -1;
    text[fread(text, 1, sizeof text - 1, f)] = '\0';
    fclose(f);
    while ((at = strstr(at, "\"file\": ")) != NULL) {
        corpus_case *c = &corpus.list[corpus.count];

        value_of(at, "\"file\": \"", c->file, sizeof c->file);
        at += 8;
        if (!strstr(c->file, ".fstrm")) continue;
        value_of(at, "\"expect\": \"", c->expect, sizeof c->expect);
        value_of(at, "\"frames_before\": ", number, sizeof number);
        c->frames = (unsigned)atoi(number);
        corpus.count++;
    }
    return corpus.count > 50 ? 0 : -1;
}

static void load(const char *name)
{
    char path[160];
    FILE *f;

    snprintf(path, sizeof path, FOLDER "/%s", name);
    f = fopen(path, "rb");
    if (!f) fail_msg("%s", path);
    corpus.size = fread(corpus.data, 1, sizeof corpus.data, f);
    assert_true(corpus.size < sizeof corpus.data);
    fclose(f);
    memset(&seen, 0, sizeof seen);
}

static void close_sink(void)
{
    dnstap_sink_status s;
    uint64_t ended = 0;
    unsigned i;

    dnstap_sink_get_status(w.sink, &s);
    for (i = 0; i < DNSTAP_SINK_ENDS; i++) ended += s.ended[i];
    assert_int_equal(s.connections + s.refused, s.open + ended);
    assert_int_equal(s.frames, seen.frames);
    assert_int_equal(s.skipped, seen.skipped);
    dnstap_sink_close(w.sink);
    w.sink = NULL;
}

/* ---- ways in ---- */

static void open_file(const char *name)
{
    dnstap_sink_options o = options();
    char endpoint[160];

    snprintf(endpoint, sizeof endpoint, "file://" FOLDER "/%s", name);
    o.endpoint = endpoint;
    o.receive = watch;
    o.max_frame = 1 << 17;
    open_sink(&o);
}

static void by_service(const char *name)
{
    open_file(name);
    seen.opened++; /* files are not told of */
    while (dnstap_sink_service(w.sink) == DNSTAP_OK) {
    }
    close_sink();
}

static void by_next(const char *name)
{
    dnstap_received r;
    int result;

    open_file(name);
    seen.opened++;
    while ((result = dnstap_sink_next(w.sink, &r)) == DNSTAP_OK) watch(NULL, &r);
    watch(NULL, &r);
    assert_int_equal(result, seen.result == DNSTAP_OK ? (int)DNSTAP_END : seen.result);
    assert_int_equal(dnstap_sink_next(w.sink, &r), result); /* and so for ever */
    assert_int_equal(r.end, seen.end);
    close_sink();
}

typedef struct way {
    bool dials, greets; /* greets: READY goes before the stream */
    bool unidirectional, bidirectional;
    size_t piece; /* 0: all at once */
    bool hesitates;
} way;

static void serve_twice(void)
{
    assert_int_equal(dnstap_sink_service(w.sink), DNSTAP_OK);
    assert_int_equal(dnstap_sink_service(w.sink), DNSTAP_OK);
}

/* The test's end of a new connection. */
static int meet(const way *how)
{
    dnstap_sink_options o = options();
    int listener = -1, fd;

    o.receive = watch;
    o.max_connections = 2;
    o.max_frame = 1 << 17;
    o.connect = how->dials;
    o.unidirectional = how->unidirectional;
    o.bidirectional = how->bidirectional;
    if (how->dials) {
        unlink(w.local.sun_path);
        listener = socket(AF_UNIX, SOCK_STREAM, 0);
        assert_int_equal(bind(listener, (struct sockaddr *)&w.local, sizeof w.local), 0);
        assert_int_equal(listen(listener, 4), 0);
    }
    open_sink(&o);
    if (!how->dials) fd = producer();
    serve_twice();
    if (how->dials) {
        fd = accept(listener, NULL, NULL);
        close(listener);
        unlink(w.local.sun_path);
    }
    assert_true(fd >= 0);
    return fd;
}

static void give(int fd, const uint8_t *p, size_t size, size_t piece)
{
    size_t n;

    for (; size; p += n, size -= n) {
        n = piece && piece < size ? piece : size;
        if (send(fd, p, n, MSG_NOSIGNAL) < 0) return; /* the sink has closed */
        assert_int_equal(dnstap_sink_service(w.sink), DNSTAP_OK);
    }
}

static void hear_replies(int fd)
{
    uint8_t data[256];
    ssize_t n = recv(fd, data, sizeof data, MSG_DONTWAIT), at;
    size_t k = 0;

    for (at = 0; at + 12 <= n; at += 8 + (ssize_t)dnstap__get32(data + at + 4)) {
        assert_int_equal(dnstap__get32(data + at), 0);
        assert_true(k < sizeof seen.replies - 1);
        seen.replies[k++] = "?ASPRF"[dnstap__get32(data + at + 8) % 6];
    }
}

static void by_socket(const char *name, const way *how)
{
    dnstap_bytes ready = dnstap__control_frame(DNSTAP_CONTROL_READY);
    int fd, turns;

    load(name);
    hesitates = how->hesitates;
    fd = meet(how);
    if (how->greets) give(fd, (const uint8_t *)ready.data, ready.size, how->piece);
    give(fd, corpus.data, corpus.size, corpus.size > 4096 ? 1000 : how->piece);
    shutdown(fd, SHUT_WR);
    for (turns = 0; turns < 8; turns++) serve_twice();
    hear_replies(fd);
    close(fd);
    serve_twice();
    hesitates = false;
    if (seen.closed != 1) fail_msg("%s: closed %u times", name, seen.closed);
    close_sink();
}

/* ---- what is to come out ---- */

static bool is(const corpus_case *c, const char *expect) { return !strcmp(c->expect, expect); }

static void expect_stream(const corpus_case *c)
{
    bool over = is(c, "ok") || is(c, "either");

    if (is(c, "either") ? seen.frames < c->frames : seen.frames != c->frames)
        fail_msg("%s: %u frames", c->file, seen.frames);
    if (over && (seen.result != DNSTAP_OK || seen.end != DNSTAP_SINK_ENDED_STOP))
        fail_msg("%s: %d, %s", c->file, seen.result, dnstap_sink_end_name(seen.end));
    if (is(c, "eof") && seen.end != DNSTAP_SINK_ENDED_EOF && seen.end != DNSTAP_SINK_ENDED_CUT)
        fail_msg("%s: %s", c->file, dnstap_sink_end_name(seen.end));
    if (is(c, "error") &&
        (seen.result == DNSTAP_OK || seen.result == DNSTAP_END ||
         seen.end < DNSTAP_SINK_ENDED_CUT || seen.end > DNSTAP_SINK_ENDED_PROTOCOL))
        fail_msg("%s: %d, %s", c->file, seen.result, dnstap_sink_end_name(seen.end));
}

/* A bad message between two good ones costs only itself. */
static void expect_message(const corpus_case *c)
{
    static const char *const taken[] = {"accept", "accept-unknown", "merge", "semantic"};
    unsigned i;

    assert_int_equal(seen.frames, 3);
    assert_int_equal(seen.results[0], DNSTAP_OK);
    assert_int_equal(seen.results[2], DNSTAP_OK);
    assert_int_equal(seen.end, DNSTAP_SINK_ENDED_STOP);
    for (i = 0; i < sizeof taken / sizeof *taken; i++)
        if (is(c, taken[i]) && seen.results[1] != DNSTAP_OK) fail_msg("%s: refused", c->file);
    if (is(c, "reject") && seen.results[1] != DNSTAP_BAD_PAYLOAD) fail_msg("%s: taken", c->file);
}

static void test_every_case_comes_out_of_a_file_as_it_is_told(void **state)
{
    unsigned i;
    trace first;

    (void)state;
    for (i = 0; i < corpus.count; i++) {
        const corpus_case *c = &corpus.list[i];

        load(c->file);
        by_service(c->file);
        assert_int_equal(seen.closed, 1);
        if (c->file[0] == 'p')
            expect_message(c);
        else
            expect_stream(c);
        first = seen;
        memset(&seen, 0, sizeof seen);
        by_next(c->file);
        if (memcmp(&first, &seen, sizeof seen)) fail_msg("%s: one by one", c->file);
    }
}

/* Which a stream that begins with READY does on a socket only. */
static bool differs(const corpus_case *c, const way *how)
{
    return !how->greets && !how->unidirectional && strstr(c->file, "ready-instead-of-start");
}

static void expect_same(const corpus_case *c, const way *how, const trace *file)
{
    bool same = seen.frames == file->frames && seen.hash == file->hash &&
                seen.skipped == file->skipped && seen.result == file->result &&
                seen.end == file->end && !memcmp(seen.results, file->results, sizeof seen.results);

    if (how->greets && seen.end == DNSTAP_SINK_ENDED_STOP)
        same = same && !strcmp(seen.replies, "AF");
    if (!how->greets) same = same && !*seen.replies;
    if (!same)
        fail_msg("%s by %s%s%s, %zu bytes each: %u frames, %d, %s, replies %s", c->file,
                 how->dials ? "dialling" : "accepting", how->greets ? ", greeted" : "",
                 how->unidirectional ? ", unidirectional" : "", how->piece, seen.frames,
                 seen.result, dnstap_sink_end_name(seen.end), seen.replies);
}

static void test_every_case_comes_out_of_a_socket_as_of_a_file(void **state)
{
    static const way ways[] = {
        {false, false, true, false, 0, false},  {false, false, true, false, 1, false},
        {false, false, false, false, 0, false}, {false, false, false, false, 1, false},
        {false, true, false, false, 0, false},  {false, true, false, true, 1, false},
        {true, false, true, false, 0, false},   {true, false, false, false, 1, false},
        {true, true, false, true, 0, false},    {true, true, false, false, 1, false},
        {false, false, true, false, 0, true},   {false, true, false, false, 1, true},
        {true, true, false, true, 0, true},
    };
    unsigned i, k;
    trace file;

    (void)state;
    for (i = 0; i < corpus.count; i++) {
        load(corpus.list[i].file);
        by_service(corpus.list[i].file);
        file = seen;
        for (k = 0; k < sizeof ways / sizeof *ways; k++) {
            by_socket(corpus.list[i].file, &ways[k]);
            if (!differs(&corpus.list[i], &ways[k])) expect_same(&corpus.list[i], &ways[k], &file);
        }
    }
}

/* ---- handshakes ---- */

static const struct {
    const char *file, *replies;
    unsigned frames;
    dnstap_sink_end end;
} greetings[] = {
    {"h00-good.c2s", "AF", 1, DNSTAP_SINK_ENDED_STOP},
    {"h02-ready-wrong-ctype.c2s", "", 0, DNSTAP_SINK_ENDED_PROTOCOL},
    {"h04-ready-many-ctypes.c2s", "AF", 1, DNSTAP_SINK_ENDED_STOP},
    {"h06-stop-first.c2s", "", 0, DNSTAP_SINK_ENDED_PROTOCOL},
    {"h08-ready-twice.c2s", "", 0, DNSTAP_SINK_ENDED_PROTOCOL},
    {"h10-accept-from-producer.c2s", "", 0, DNSTAP_SINK_ENDED_PROTOCOL},
    {"h12-ready-start-stop-only.c2s", "AF", 0, DNSTAP_SINK_ENDED_STOP},
    {"h14-data-after-stop.c2s", "AF", 1, DNSTAP_SINK_ENDED_STOP},
};

static void test_every_handshake_is_answered_as_it_deserves(void **state)
{
    unsigned i, k;

    (void)state;
    for (i = 0; i < sizeof greetings / sizeof *greetings; i++)
        for (k = 0; k < 8; k++) {
            way how = {(k & 1) != 0, false, false, (k & 2) != 0, k & 4 ? 1 : 0, false};
            /* byte by byte the first READY is answered before the second comes */
            bool twice = strstr(greetings[i].file, "twice") && how.piece;

            by_socket(greetings[i].file, &how);
            if (seen.frames != greetings[i].frames || seen.end != greetings[i].end ||
                strcmp(seen.replies, twice ? "A" : greetings[i].replies))
                fail_msg("%s, way %u: %u frames, %s, replies %s", greetings[i].file, k, seen.frames,
                         dnstap_sink_end_name(seen.end), seen.replies);
        }
}

/* ---- what sinks answer to our taps ---- */

static const struct {
    const char *file;
    bool begins; /* START goes out */
} answers[] = {
    {"s00-good.s2c", true},
    {"s02-accept-wrong-ctype.s2c", false},
    {"s04-finish-first.s2c", false},
    {"s06-start-reply.s2c", false},
    {"s08-eof.s2c", false},
    {"s10-oversize.s2c", false},
    {"s12-accept-then-early-finish.s2c", true},
};

/* Our tap's connection: it dials, or was dialled. */
static int meet_tap(dnstap_tap **tap, bool listens)
{
    static dnstap_options o;
    dnstap_error error;
    int listener = -1, fd, i;

    memset(&o, 0, sizeof o);
    o.endpoint = w.endpoint;
    o.listen = listens;
    if (!listens) {
        listener = socket(AF_UNIX, SOCK_STREAM, 0);
        assert_int_equal(bind(listener, (struct sockaddr *)&w.local, sizeof w.local), 0);
        assert_int_equal(listen(listener, 4), 0);
    }
    *tap = dnstap_open(&o, &error);
    if (!*tap) fail_msg("%s", error.text);
    if (listens) fd = producer();
    for (i = 0; i < 4; i++) dnstap_service(*tap);
    if (!listens) {
        fd = accept(listener, NULL, NULL);
        close(listener);
        unlink(w.local.sun_path);
    }
    assert_true(fd >= 0);
    return fd;
}

static void test_every_answer_of_a_sink_is_taken_as_it_deserves(void **state)
{
    uint8_t said[512];
    unsigned i, k;
    dnstap_tap *tap;
    size_t have, n;
    ssize_t more;
    bool begun;
    int fd;

    (void)state;
    for (i = 0; i < sizeof answers / sizeof *answers; i++)
        for (k = 0; k < 4; k++) {
            fd = meet_tap(&tap, k & 1);
            load(answers[i].file);
            for (n = 0; n < corpus.size; n += k & 2 ? 1 : corpus.size) {
                if (send(fd, corpus.data + n, k & 2 ? 1 : corpus.size, MSG_NOSIGNAL) < 0) break;
                dnstap_service(tap);
            }
            if (!corpus.size) shutdown(fd, SHUT_WR);
            for (n = 0; n < 4; n++) dnstap_service(tap);
            for (have = 0; (more = recv(fd, said + have, sizeof said - have, MSG_DONTWAIT)) > 0;)
                have += (size_t)more;
            assert_true(have >= 42);
            assert_int_equal(said[11], DNSTAP_CONTROL_READY);
            /* what says FINISH in the same breath as ACCEPT gets no START */
            begun = have >= 84 && said[42 + 11] == DNSTAP_CONTROL_START;
            if (begun != (answers[i].begins && (k & 2 || !strstr(answers[i].file, "early"))))
                fail_msg("%s, way %u: %zu bytes", answers[i].file, k, have);
            close(fd);
            dnstap_close(tap, 0);
        }
}

/* ---- all of it is there ---- */

static void test_no_file_of_the_corpus_was_left_out(void **state)
{
    DIR *all = opendir(FOLDER);
    struct dirent *entry;
    unsigned n = 0;

    (void)state;
    assert_non_null(all);
    while ((entry = readdir(all)) != NULL) {
        const char *dot = strrchr(entry->d_name, '.');

        n += dot && (!strcmp(dot, ".fstrm") || !strcmp(dot, ".c2s") || !strcmp(dot, ".s2c"));
    }
    closedir(all);
    assert_int_equal(n, corpus.count + sizeof greetings / sizeof *greetings +
                            sizeof answers / sizeof *answers);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SINK_TEST(test_every_case_comes_out_of_a_file_as_it_is_told),
        SINK_TEST(test_every_case_comes_out_of_a_socket_as_of_a_file),
        SINK_TEST(test_every_handshake_is_answered_as_it_deserves),
        SINK_TEST(test_every_answer_of_a_sink_is_taken_as_it_deserves),
        SINK_TEST(test_no_file_of_the_corpus_was_left_out),
    };

    return RUN_TESTS(tests, load_cases, NULL);
}
