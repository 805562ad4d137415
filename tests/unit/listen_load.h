/* Four threads that log, and eight sinks in threads of their own at one listening tap: four healthy
 * ones, which must get every message of each thread in order and byte for byte, one that reads
 * slowly, one that stops, one that sends garbage, one that vanishes. Include it after dnstap.h. */
#ifndef LISTEN_LOAD_H
#define LISTEN_LOAD_H

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "unit.h"

enum { THREADS = 4, HEALTHY = 4, ROUND = 50, LETTER = 100, WAIT_MS = 60000 };

typedef enum manner { READS, SLOW, STOPS, GARBAGE, VANISHES, MANNERS } manner;

/* ---- messages: all alike but for the thread, in query_port, and the number, in the nanoseconds */

static uint8_t letter[256];
static size_t letter_size, number_at, thread_at;

static void write_letter(dnstap_message *m, uint32_t thread, uint32_t number)
{
    static const uint8_t query[LETTER] = {1, 2, 3};

    dnstap_message_start(m, DNSTAP_MSG_CLIENT_QUERY);
    m->query_port = 1 + thread;
    m->query_time_sec = 1700000000;
    m->query_time_nsec = number;
    m->present |= (uint32_t)1 << 9;
    m->query_message = dnstap_bytes_of(query, sizeof query);
}

static size_t encode_letter(uint8_t *out, uint32_t thread, uint32_t number)
{
    dnstap_message m;
    long n;

    write_letter(&m, thread, number);
    m.identity = m.version = dnstap_bytes_of("load", 4);
    n = dnstap_encode(&m, out, sizeof letter);
    assert_true(n > 0);
    return (size_t)n;
}

/* What all have in common, and where they differ. */
static void find_out_about_letters(void)
{
    uint8_t other[sizeof letter];
    size_t i;

    letter_size = encode_letter(letter, 0, 0);
    assert_int_equal(encode_letter(other, 1, 0), letter_size);
    for (thread_at = 0; letter[thread_at] == other[thread_at]; thread_at++) continue;
    assert_int_equal(encode_letter(other, 0, 0xffffffu), letter_size);
    for (number_at = 0; letter[number_at] == other[number_at]; number_at++) continue;
    for (i = 0; i < letter_size; i++) assert_true(letter[i] == other[i] || i - number_at < 4);
}

/* ---- sinks ---- */

typedef struct visitor {
    manner manner;
    struct sockaddr_un at;
    pthread_t thread;
    int fd;
    uint32_t next[THREADS]; /* numbers that must come */
    uint64_t frames;
    bool stopped; /* STOP came */
    const char *fault;
    dnstap_frame_reader reader;
    uint8_t buffer[8 + DNSTAP_FRAME_CONTROL_MAX];
} visitor;

static const char *judge(visitor *v, const uint8_t *p, size_t size)
{
    uint32_t thread, number;

    if (size != letter_size) return "not as long as it was logged";
    thread = (uint32_t)(p[thread_at] - letter[thread_at]);
    if (thread >= THREADS) return "of no thread";
    number = (uint32_t)p[number_at] | (uint32_t)p[number_at + 1] << 8 |
             (uint32_t)p[number_at + 2] << 16 | (uint32_t)p[number_at + 3] << 24;
    if (number != v->next[thread]++) return "not the next one";
    if (memcmp(p, letter, thread_at) != 0) return "not what was logged";
    p += thread_at + 1;
    if (memcmp(p, letter + thread_at + 1, number_at - thread_at - 1) != 0)
        return "not what was logged";
    p += number_at - thread_at + 3;
    if (memcmp(p, letter + number_at + 4, letter_size - number_at - 4) != 0)
        return "not what was logged";
    v->frames++;
    return NULL;
}

static bool answer(visitor *v)
{
    dnstap_bytes due;

    while ((due = dnstap_frame_reader_next(&v->reader)).size) {
        if (send(v->fd, due.data, due.size, MSG_NOSIGNAL) != (ssize_t)due.size) return false;
        dnstap_frame_reader_sent(&v->reader, due.size);
    }
    return true;
}

static void digest(visitor *v, const uint8_t *data, size_t size)
{
    dnstap_frame frame;
    size_t at = 0;
    long used;

    while (at < size && !v->fault) {
        used = dnstap_frame_reader_feed(&v->reader, data + at, size - at, &frame);
        if (used < 0) v->fault = "no frame";
        if (used < 0) return;
        at += (size_t)used;
        if (frame.kind == DNSTAP_FRAME_DATA)
            v->fault = judge(v, (const uint8_t *)frame.payload.data, frame.payload.size);
        if (frame.kind == DNSTAP_FRAME_CONTROL && !answer(v)) v->fault = "can't answer";
        v->stopped = v->reader.state == DNSTAP_READER_END;
    }
}

static size_t hurry; /* nobody is slow any more */

/* What it does beside reading; false: it is through. */
static bool behave(const visitor *v)
{
    static const char noise[512] = {1};

    if (v->reader.state != DNSTAP_READER_DATA) return true;
    if (v->manner == SLOW && !__atomic_load_n(&hurry, __ATOMIC_RELAXED)) poll(NULL, 0, 20);
    if (v->manner == STOPS) {
        poll(NULL, 0, 100);
        return false;
    }
    if (v->manner == GARBAGE && v->frames) (void)!send(v->fd, noise, sizeof noise, MSG_NOSIGNAL);
    return v->manner != VANISHES || v->frames < 1000;
}

static void *visit(void *argument)
{
    visitor *v = (visitor *)argument;
    size_t room = v->manner == SLOW ? 4096 : 1 << 16;
    uint8_t *block = (uint8_t *)malloc(room);
    ssize_t n = 1;

    dnstap_frame_reader_init(&v->reader, v->buffer, sizeof v->buffer, true);
    while (!v->stopped && !v->fault && n > 0 && behave(v)) {
        n = recv(v->fd, block, room, 0);
        if (n > 0) digest(v, block, (size_t)n);
    }
    free(block);
    if (v->manner != STOPS) close(v->fd);
    return NULL;
}

/* false: nobody listens. */
static bool visitor_open(visitor *v, manner how, const char *path)
{
    memset(v, 0, sizeof *v);
    v->manner = how;
    v->at.sun_family = AF_UNIX;
    strcpy(v->at.sun_path, path);
    v->fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (connect(v->fd, (struct sockaddr *)&v->at, sizeof v->at) < 0) return close(v->fd), false;
    assert_int_equal(pthread_create(&v->thread, NULL, visit, v), 0);
    return true;
}

static void visitor_join(visitor *v)
{
    assert_int_equal(pthread_join(v->thread, NULL), 0);
    if (v->manner == STOPS) close(v->fd);
}

/* ---- threads that log ---- */

typedef struct writer {
    dnstap_tap *tap;
    uint32_t thread, count, rate; /* a second; 0: as fast as can be */
    uint32_t *took;               /* ns of each call; NULL: not measured */
    uint64_t refused;
    pthread_t id;
} writer;

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void *write_all(void *argument)
{
    writer *w = (writer *)argument;
    uint64_t start = now_ns(), before = 0, due;
    dnstap_message m;
    uint32_t i;

    for (i = 0; i < w->count; i++) {
        due = w->rate ? start + (uint64_t)i * 1000000000u / w->rate : 0;
        if (i % ROUND == 0 && due > now_ns()) poll(NULL, 0, 1);
        write_letter(&m, w->thread, i);
        if (w->took) before = now_ns();
        w->refused += dnstap_log_as(w->tap, w->thread, &m) != 1;
        if (w->took) w->took[i] = (uint32_t)(now_ns() - before);
    }
    return NULL;
}

/* ---- the tap ---- */

static void keep_quiet(void *user, int level, const char *text)
{
    (void)user, (void)level, (void)text;
}

static dnstap_tap *load_open(const char *path, uint32_t queue)
{
    static char endpoint[128];
    dnstap_options o;
    dnstap_error error;
    dnstap_tap *tap;

    snprintf(endpoint, sizeof endpoint, "unix://%s", path);
    memset(&o, 0, sizeof o);
    o.endpoint = endpoint;
    o.identity = o.version = "load";
    o.listen = o.full = true;
    o.producers = THREADS;
    o.queue = queue;
    o.timeout_ms = 2000;
    o.log = keep_quiet;
    tap = dnstap_open(&o, &error);
    if (!tap) fail_msg("%s", error.text);
    find_out_about_letters();
    assert_int_equal(dnstap_start(tap), DNSTAP_OK);
    return tap;
}

/* Waits until at least and at most so many are started. */
static void wait_for_sinks(dnstap_tap *tap, uint32_t least, uint32_t most)
{
    uint64_t end = real_ms() + WAIT_MS;
    dnstap_status s;

    for (dnstap_get_status(tap, &s); s.sinks < least || s.sinks > most; poll(NULL, 0, 1)) {
        if (real_ms() > end) fail_msg("%u sinks; %s", s.sinks, s.error.text);
        dnstap_get_status(tap, &s);
    }
}

static void load_books(dnstap_tap *tap, dnstap_status *s)
{
    dnstap_get_status(tap, s);
    assert_int_equal(s->logged, s->recorded + s->unwanted + s->dropped);
    assert_int_equal(s->offered, s->sent + s->lost + s->behind);
}

/* Each thread logs so many at this rate; true: none was refused. */
static bool write_letters(dnstap_tap *tap, uint32_t each, uint32_t rate)
{
    writer writers[THREADS];
    uint64_t refused = 0;
    uint32_t i;

    memset(writers, 0, sizeof writers);
    for (i = 0; i < THREADS; i++) {
        writers[i].tap = tap;
        writers[i].thread = i;
        writers[i].count = each;
        writers[i].rate = rate / THREADS;
        assert_int_equal(pthread_create(&writers[i].id, NULL, write_all, &writers[i]), 0);
    }
    for (i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(writers[i].id, NULL), 0);
        refused += writers[i].refused;
    }
    return refused == 0;
}

/* All eight; each thread logs so many, at this rate in all. Whether the slow one got all. */
static bool eight_sinks(const char *path, uint32_t each, uint32_t rate, uint32_t queue)
{
    static visitor v[HEALTHY + MANNERS - 1];
    dnstap_tap *tap = load_open(path, queue);
    uint32_t i, k, count = sizeof v / sizeof *v;
    const visitor *slow = &v[HEALTHY + SLOW - 1];
    uint64_t start, sent = 0;
    dnstap_status s;

    hurry = 0;

    for (i = 0; i < count; i++) {
        assert_true(visitor_open(&v[i], i < HEALTHY ? READS : (manner)(i - HEALTHY + 1), path));
        wait_for_sinks(tap, i + 1, i + 1);
    }
    start = real_ms();
    assert_true(write_letters(tap, each, rate));
    print_message("%u messages in %u ms\n", each * THREADS, (unsigned)(real_ms() - start));
    __atomic_store_n(&hurry, 1, __ATOMIC_RELAXED);
    wait_for_sinks(tap, HEALTHY, HEALTHY + 1);
    load_books(tap, &s);
    assert_int_equal(s.dropped, 0);
    assert_int_equal(s.recorded, (uint64_t)each * THREADS);
    assert_int_equal(dnstap_close(tap, WAIT_MS), DNSTAP_OK);
    for (i = 0; i < count; i++) visitor_join(&v[i]);
    for (i = 0; i < count; i++) {
        if (v[i].fault) fail_msg("sink %u: %s", i, v[i].fault);
        sent += v[i].frames;
        assert_true(v[i].stopped == (i < HEALTHY) || &v[i] == slow);
        for (k = 0; k < THREADS && v[i].stopped; k++) assert_int_equal(v[i].next[k], each);
    }
    assert_true(s.sent + s.behind >= sent && s.lost > 0);
    return slow->stopped;
}

#endif
