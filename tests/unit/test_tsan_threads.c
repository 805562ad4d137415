/* A tap among threads, for ThreadSanitizer: more threads than rings, ending and starting, while one
 * services, one reads what the tap shows and one switches it on and off. What arrives at a real
 * unix socket is in order for each thread and byte for byte what was logged, and the books of the
 * tap, of the threads and of the sink agree. */
#define DNSTAP_IMPLEMENTATION
#include "dnstap.h"
#include "unit.h"

enum { SLOTS = 8, LIVES = 6, EACH = 1500, THREADS = SLOTS * LIVES, RINGS = 3, BUFFER = 1 << 16 };
enum { LARGEST_QUERY = 700, MAX_MESSAGE = 600 };

/* ---- messages that tell who logged them, and when ---- */

typedef struct letter {
    dnstap_message message;
    uint8_t query[LARGEST_QUERY];
} letter;

/* Message number `number` of a thread; some are larger than the tap allows. */
static void write_letter(letter *l, uint32_t thread, uint32_t number)
{
    uint32_t mix = thread * 2654435761u + number * 40503u, size = mix >> 7 & 255, i;

    if (number % 97 == 13) size = LARGEST_QUERY;
    for (i = 0; i < size; i++) l->query[i] = (uint8_t)(mix + i * 5);
    dnstap_message_start(&l->message, DNSTAP_MSG_CLIENT_QUERY);
    l->message.query_time_sec = thread + 1;
    l->message.query_time_nsec = number;
    l->message.present |= (uint32_t)1 << 8 | (uint32_t)1 << 9;
    l->message.query_message = dnstap_bytes_of(l->query, size);
    l->message.identity = dnstap_bytes_of("threads", 7);
    l->message.version = dnstap_bytes_of("1", 1);
}

/* ---- the sink ---- */

typedef struct collector {
    int listener;
    char path[100];
    uint32_t next[THREADS]; /* the least number that may come from each */
    uint64_t received;
    const char *fault;
    dnstap_frame_reader reader;
    uint8_t buffer[BUFFER];
} collector;

static const char *judge_frame(collector *c, dnstap_bytes payload)
{
    static letter expected;
    static uint8_t bytes[2000];
    dnstap_message m;
    dnstap_policy policy;
    uint64_t thread;
    long size;

    if (dnstap_decode(&m, &policy, payload.data, payload.size) < 0) return "not decodable";
    thread = m.query_time_sec - 1;
    if (thread >= THREADS) return "from no thread";
    if (m.query_time_nsec < c->next[thread]) return "out of order";
    c->next[thread] = m.query_time_nsec + 1;
    write_letter(&expected, (uint32_t)thread, m.query_time_nsec);
    size = dnstap_encode(&expected.message, bytes, sizeof bytes);
    if (size < 0 || (size_t)size != payload.size || memcmp(bytes, payload.data, payload.size))
        return "not what was logged";
    c->received++;
    return NULL;
}

static void answer_producer(collector *c, int connection)
{
    dnstap_bytes due;
    ssize_t n;

    while ((due = dnstap_frame_reader_next(&c->reader)).size) {
        n = write(connection, due.data, due.size);
        if (n < 0) return;
        dnstap_frame_reader_sent(&c->reader, (size_t)n);
    }
}

static void take_bytes(collector *c, int connection, const uint8_t *data, size_t size)
{
    dnstap_frame frame;
    long used;

    for (; size && !c->fault; data += used, size -= (size_t)used) {
        used = dnstap_frame_reader_feed(&c->reader, data, size, &frame);
        if (used < 0) {
            c->fault = "not Frame Streams";
            return;
        }
        if (frame.kind == DNSTAP_FRAME_DATA) c->fault = judge_frame(c, frame.payload);
        answer_producer(c, connection);
    }
}

static void *collect(void *argument)
{
    collector *c = (collector *)argument;
    static uint8_t bytes[BUFFER];
    int connection = accept(c->listener, NULL, NULL);
    ssize_t n;

    dnstap_frame_reader_init(&c->reader, c->buffer, sizeof c->buffer, true);
    while (!c->fault && c->reader.state != DNSTAP_READER_END) {
        n = read(connection, bytes, 1 + c->received % 5000);
        if (n <= 0)
            c->fault = "closed before STOP";
        else
            take_bytes(c, connection, bytes, (size_t)n);
    }
    close(connection);
    return NULL;
}

static void collector_open(collector *c)
{
    struct sockaddr_un address;

    memset(c, 0, sizeof *c);
    memset(&address, 0, sizeof address);
    address.sun_family = AF_UNIX;
    snprintf(c->path, sizeof c->path, "/tmp/dnstap-threads-%ld.sock", (long)getpid());
    memcpy(address.sun_path, c->path, strlen(c->path));
    unlink(c->path);
    c->listener = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(c->listener, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(c->listener, 1), 0);
}

static void collector_close(collector *c)
{
    close(c->listener);
    unlink(c->path);
}

/* ---- the threads ---- */

typedef struct scene {
    dnstap_tap *tap;
    bool explicit_producers, own_loop;
    size_t stop;                           /* shared: the loop, the reader and the switch end */
    size_t counts[3 - DNSTAP_RESULT_LAST]; /* of each result of dnstap_log, from 1 down */
    const char *fault;
} scene;

typedef struct author {
    scene *scene;
    uint32_t thread;
    pthread_t handle;
    size_t counts[3 - DNSTAP_RESULT_LAST];
} author;

static void *write_letters(void *argument)
{
    author *a = (author *)argument;
    dnstap_tap *tap = a->scene->tap;
    letter l;
    uint32_t i;
    int result;

    for (i = 0; i < EACH; i++) {
        write_letter(&l, a->thread, i);
        l.message.identity = l.message.version = dnstap_bytes_of(NULL, 0); /* the tap's */
        if (a->scene->explicit_producers)
            result = dnstap_log_as(tap, a->thread % SLOTS, &l.message);
        else
            result = dnstap_log(tap, &l.message);
        a->counts[1 - result]++;
        if (i % 50 == 0) sched_yield();
    }
    return NULL;
}

static void *service_loop(void *argument)
{
    scene *s = (scene *)argument;
    struct pollfd fds[DNSTAP_POLLFDS];
    int n, timeout;

    while (!__atomic_load_n(&s->stop, __ATOMIC_ACQUIRE)) {
        n = dnstap_pollfds(s->tap, fds, DNSTAP_POLLFDS, &timeout);
        poll(fds, (nfds_t)n, timeout < 0 || timeout > 20 ? 20 : timeout);
        dnstap_service(s->tap);
    }
    return NULL;
}

/* What may be said of a status at any time. */
static const char *judge_status(const dnstap_status *before, const dnstap_status *now)
{
    if (now->state_ms > 600000 || now->error_ms > 600000) return "a time in the future";
    if (now->logged < before->logged || now->sent < before->sent) return "a counter went back";
    if (now->dropped_disconnected) return "dropped as disconnected, which was not asked for";
    if (now->rings != before->rings || !now->ring_size) return "a constant that changed";
    return NULL;
}

static void *read_status(void *argument)
{
    scene *s = (scene *)argument;
    dnstap_status before, now;
    size_t bytes, messages;
    uint32_t i;

    dnstap_get_status(s->tap, &before);
    while (!__atomic_load_n(&s->stop, __ATOMIC_ACQUIRE) && !s->fault) {
        dnstap_get_status(s->tap, &now);
        s->fault = judge_status(&before, &now);
        before = now;
        for (i = 0; i < now.rings; i++) {
            dnstap_get_ring(s->tap, i, &bytes, &messages);
            if (bytes > now.ring_size) s->fault = "more bytes in a ring than it has";
        }
        sched_yield();
    }
    return NULL;
}

static void *switch_on_and_off(void *argument)
{
    scene *s = (scene *)argument;
    struct timespec moment = {0, 200000};
    unsigned turn;

    for (turn = 0; !__atomic_load_n(&s->stop, __ATOMIC_ACQUIRE); turn++) {
        dnstap_set_enabled(s->tap, turn % 4 != 0);
        (void)dnstap_wants(s->tap, DNSTAP_MSG_CLIENT_QUERY);
        nanosleep(&moment, NULL);
    }
    return NULL;
}

static dnstap_tap *open_tap(const scene *s, const collector *c)
{
    dnstap_options options;
    dnstap_error error;
    dnstap_tap *tap;

    memset(&options, 0, sizeof options);
    options.endpoint = c->path;
    options.identity = "threads";
    options.version = "1";
    options.full = true;
    options.producers = s->explicit_producers ? SLOTS : RINGS;
    options.ring_size = 1 << 14;
    options.max_message = MAX_MESSAGE;
    options.flush_ms = 5;
    tap = dnstap_open(&options, &error);
    if (!tap) fail_msg("%s", error.text);
    return tap;
}

static void start(pthread_t *thread, void *(*run)(void *), void *argument)
{
    assert_int_equal(pthread_create(thread, NULL, run, argument), 0);
}

/* All authors, SLOTS at a time: where one ends the next one starts. */
static void run_authors(scene *s)
{
    static author authors[THREADS];
    uint32_t i;
    size_t j;

    memset(authors, 0, sizeof authors);
    for (i = 0; i < THREADS; i++) {
        authors[i].scene = s;
        authors[i].thread = i;
        if (i >= SLOTS) pthread_join(authors[i - SLOTS].handle, NULL);
        start(&authors[i].handle, write_letters, &authors[i]);
    }
    for (i = THREADS - SLOTS; i < THREADS; i++) pthread_join(authors[i].handle, NULL);
    for (i = 0; i < THREADS; i++)
        for (j = 0; j < sizeof s->counts / sizeof *s->counts; j++)
            s->counts[j] += authors[i].counts[j];
}

/* The tap's counters against each other, and against what dnstap_log returned. */
static void check_books(const scene *s, const dnstap_status *now)
{
    assert_int_equal(now->logged, THREADS * EACH);
    assert_int_equal(now->logged, now->recorded + now->unwanted + now->dropped);
    assert_int_equal(now->dropped, now->dropped_full + now->dropped_large + now->dropped_busy +
                                       now->dropped_bad + now->dropped_disconnected);
    assert_int_equal(now->recorded, now->sent + now->queued + now->discarded);
    assert_int_equal(now->recorded, s->counts[0]);
    assert_int_equal(now->unwanted, s->counts[1]);
    assert_int_equal(now->dropped_full, s->counts[1 - DNSTAP_RING_FULL]);
    assert_int_equal(now->dropped_large, s->counts[1 - DNSTAP_TOO_LARGE]);
    assert_int_equal(now->dropped_busy, s->counts[1 - DNSTAP_BUSY]);
    assert_int_equal(now->dropped_bad, 0);
    assert_int_equal(s->counts[1 - DNSTAP_DISCONNECTED], 0);
    assert_true(now->recorded > 0 && now->dropped_large > 0);
}

static void play(scene *s)
{
    static collector c;
    pthread_t sink, loop, reader, toggler;
    dnstap_status now;

    collector_open(&c);
    start(&sink, collect, &c);
    s->tap = open_tap(s, &c);
    if (s->own_loop)
        start(&loop, service_loop, s);
    else
        assert_int_equal(dnstap_start(s->tap), DNSTAP_OK);
    start(&reader, read_status, s);
    start(&toggler, switch_on_and_off, s);
    run_authors(s);
    __atomic_store_n(&s->stop, 1, __ATOMIC_RELEASE);
    pthread_join(reader, NULL);
    pthread_join(toggler, NULL);
    if (s->own_loop) pthread_join(loop, NULL);
    if (s->fault) fail_msg("status: %s", s->fault);
    assert_int_equal(dnstap_flush(s->tap, 10000), DNSTAP_OK);
    dnstap_get_status(s->tap, &now);
    check_books(s, &now);
    assert_int_equal(now.queued, 0);
    assert_int_equal(dnstap_close(s->tap, 10000), DNSTAP_OK);
    pthread_join(sink, NULL);
    if (c.fault) fail_msg("frame %lu: %s", (unsigned long)c.received, c.fault);
    assert_int_equal(c.received, now.sent);
    print_message("# %lu logged: %lu sent, %lu unwanted, %lu full, %lu busy, %lu too large\n",
                  (unsigned long)now.logged, (unsigned long)now.sent, (unsigned long)now.unwanted,
                  (unsigned long)now.dropped_full, (unsigned long)now.dropped_busy,
                  (unsigned long)now.dropped_large);
    collector_close(&c);
}

static void test_threads_that_come_and_go_beside_the_taps_own_thread(void **state)
{
    scene s;

    (void)state;
    memset(&s, 0, sizeof s);
    play(&s);
}

static void test_threads_that_come_and_go_beside_a_loop(void **state)
{
    scene s;

    (void)state;
    memset(&s, 0, sizeof s);
    s.own_loop = true;
    play(&s);
}

static void test_numbered_producers_beside_the_taps_own_thread(void **state)
{
    scene s;

    (void)state;
    memset(&s, 0, sizeof s);
    s.explicit_producers = true;
    play(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_threads_that_come_and_go_beside_the_taps_own_thread),
        cmocka_unit_test(test_threads_that_come_and_go_beside_a_loop),
        cmocka_unit_test(test_numbered_producers_beside_the_taps_own_thread),
    };

    return RUN_TESTS(tests, NULL, NULL);
}
