/* A listening tap over TLS: which clients it lets in, what it says of others, that certificates are
 * read again, and that those who are silent, or many, keep nobody out. */
#define _GNU_SOURCE
#include <stddef.h>
#include <stdlib.h>

static size_t live_blocks; /* of memory that are in use */
static void *counted_malloc(size_t size) { return live_blocks++, malloc(size); }
static void counted_free(void *memory) { live_blocks--, free(memory); }
#define DNSTAP_MALLOC(size) counted_malloc(size)
#define DNSTAP_FREE(memory) counted_free(memory)

#include "tls_support.h"
#include "tap_support.h"
#include "tap_peer.h"
#include "listen_support.h"
#include <sys/resource.h>

/* ---- a sink over TLS ---- */

typedef struct caller {
    side side;
    dnstap__socket socket;
    guest g; /* its descriptor is the socket's */
    int result;
} caller;

static void caller_init(caller *c, const char *certificate)
{
    static char files[2][128];

    memset(c, 0, sizeof *c);
    c->side.options.ca_file = in_dir("ca.pem");
    c->side.options.tls_input = BR_SSL_BUFSIZE_INPUT; /* a sink is sent whole records */
    c->result = DNSTAP_AGAIN;
    if (!certificate) return;
    snprintf(files[0], sizeof files[0], "%s/%s.pem", tls_dir, certificate);
    snprintf(files[1], sizeof files[1], "%s/%s.key", tls_dir, certificate);
    c->side.options.cert_file = files[0];
    c->side.options.key_file = files[1];
}

/* Connects; certificate NULL: shows none. */
static void caller_connect(caller *c, dnstap_tap *tap, const char *certificate)
{
    dnstap_transport lower;

    caller_init(c, certificate);
    assert_int_equal(side_load(&c->side, false), DNSTAP_OK);
    c->g.fd = knock(tap);
    oracle_init(&c->g.stream, true);
    lower = dnstap__socket_adopt(&c->socket, c->g.fd, AF_INET, 0);
    dnstap__tls_init(c->side.tls, c->side.config, &lower);
}

static void caller_control(caller *c, uint8_t type)
{
    uint8_t frame[64];
    size_t size = control_frame(frame, type);

    assert_int_equal(side_send(&c->side, frame, size), size);
}

/* Goes on as far as can be; result: DNSTAP_OK while it is open, then how it ended. */
static void caller_go_on(caller *c)
{
    uint8_t block[4096];
    oracle_phase before = c->g.stream.phase;
    struct sightings others = seen;
    long n;

    if (c->result == DNSTAP_AGAIN) c->result = side_start(&c->side);
    if (c->result != DNSTAP_OK) return;
    n = side_recv(&c->side, block, sizeof block);
    if (n == DNSTAP_AGAIN) return;
    if (n <= 0) {
        c->result = (int)n;
        return;
    }
    seen = c->g.seen;
    oracle_feed(&c->g.stream, block, (size_t)n);
    c->g.seen = seen;
    seen = others;
    if (before == AT_READY && c->g.stream.phase != AT_READY)
        caller_control(c, DNSTAP_CONTROL_ACCEPT);
    if (before != AT_END && c->g.stream.phase == AT_END) caller_control(c, DNSTAP_CONTROL_FINISH);
}

static void caller_close(caller *c)
{
    side_close(&c->side);
    free(c->side.memory);
}

#define CALL_UNTIL(tap, c, condition)                                     \
    do {                                                                  \
        uint64_t end_ = real_ms() + PATIENCE;                             \
        while (!(condition)) {                                            \
            turn(tap);                                                    \
            caller_go_on(c);                                              \
            if (real_ms() > end_) fail_msg("never came: %s", #condition); \
        }                                                                 \
    } while (0)

static bool has_failed(const caller *c) { return c->result < 0 && c->result != DNSTAP_AGAIN; }

/* Connects, and shakes hands. */
static void caller_start(caller *c, dnstap_tap *tap, const char *certificate)
{
    caller_connect(c, tap, certificate);
    CALL_UNTIL(tap, c, c->g.stream.phase == AT_DATA || has_failed(c));
    if (has_failed(c)) fail_msg("%s\n%s", side_error(&c->side), lines);
    memcpy(c->g.seen.next, logged, sizeof logged);
}

/* ---- the tap ---- */

static void tls_host_options(dnstap_options *o)
{
    host_options(o, "tls://127.0.0.1:0");
    o->cert_file = in_dir("server.pem");
    o->key_file = in_dir("server.key");
}

static uint64_t real_clock_offset;

static uint64_t shifted_clock(void *user)
{
    (void)user;
    return (uint64_t)time(NULL) + real_clock_offset;
}

static dnstap_tap *open_mutual(void)
{
    dnstap_options o;

    tls_host_options(&o);
    o.ca_file = in_dir("ca.pem");
    o.unix_time = shifted_clock;
    real_clock_offset = 0;
    return host_open(&o);
}

static int make_more_certificates(void **state)
{
    static const char script[] =
        "export OPENSSL_CONF=cnf; "
        "ec='-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30'; "
        "by='-CA ca.pem -CAkey ca.key'; "
        "for use in clientAuth serverAuth anyExtendedKeyUsage serverAuth,clientAuth codeSigning; do"
        "  openssl req -x509 $ec $by -keyout $use.key -out $use.pem -subj /CN=$use"
        "    -addext extendedKeyUsage=$use || exit 1; done; "
        "openssl req -x509 $ec -CA other-ca.pem -CAkey other-ca.key -keyout stranger.key"
        "  -out stranger.pem -subj /CN=stranger";

    if (make_certificates(state) || make_folder(state)) return -1;
    return shell(script);
}

static int remove_all(void **state)
{
    drop_folder(state);
    return remove_certificates(state);
}

/* ---- who is let in ---- */

static void test_clients_are_verified_by_ca_dates_and_purpose(void **state)
{
    static const struct {
        const char *certificate;
        uint64_t later;
        const char *text; /* NULL: it is served */
    } cases[] = {
        {"client", 0, NULL},
        {"clientAuth", 0, NULL},
        {"serverAuth,clientAuth", 0, NULL},
        {"anyExtendedKeyUsage", 0, NULL},
        {"rsa", 0, NULL},
        {"serverAuth", 0, "the certificate is not for clients; issue one with clientAuth"},
        {"codeSigning", 0, "the certificate is not for clients"},
        {"stranger", 0, "client's certificate is of no CA in "},
        {NULL, 0, "client showed no certificate; give it one of options.ca_file's"},
        {"client", 31 * 86400, "certificate is valid from "},
    };
    dnstap_tap *tap = open_mutual();
    size_t i;

    (void)state;
    for (i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint64_t refused = status_of(tap).refused;
        caller c;

        real_clock_offset = cases[i].later;
        caller_connect(&c, tap, cases[i].certificate);
        CALL_UNTIL(tap, &c, c.g.stream.phase == AT_DATA || has_failed(&c));
        if (c.result == DNSTAP_OK) {
            if (cases[i].text) fail_msg("case %lu is served", (unsigned long)i);
            memcpy(c.g.seen.next, logged, sizeof logged);
            log_many(tap, 30);
            CALL_UNTIL(tap, &c, has_all(&c.g));
        } else {
            if (!cases[i].text) fail_msg("case %lu: %s", (unsigned long)i, side_error(&c.side));
            assert_int_equal(c.g.stream.phase, AT_READY); /* not a byte of ours came */
            CALL_UNTIL(tap, &c, status_of(tap).refused == refused + 1);
            assert_non_null(strstr(status_of(tap).error.text, cases[i].text));
            assert_int_equal(times_said(cases[i].text) > 0, 1);
            assert_non_null(strstr(side_error(&c.side), "alert"));
        }
        caller_close(&c);
        UNTIL(tap, status_of(tap).sinks + status_of(tap).pending == 0);
    }
    check_host_books(tap);
    dnstap_close(tap, 0);
}

static void test_the_subject_is_in_the_log_and_in_the_status(void **state)
{
    dnstap_tap *tap = open_mutual();
    dnstap_peer peer;
    caller c;

    (void)state;
    caller_start(&c, tap, "clientAuth");
    assert_int_equal(dnstap_get_peers(tap, &peer, 1), 1);
    assert_string_equal(peer.subject, "clientAuth");
    assert_int_equal(times_said(", clientAuth: connected"), 1);
    caller_close(&c);
    UNTIL(tap, status_of(tap).sinks == 0);
    assert_int_equal(times_said(", clientAuth: "), 2);
    caller_start(&c, tap, "client"); /* in the same place */
    assert_int_equal(dnstap_get_peers(tap, &peer, 1), 1);
    assert_string_equal(peer.subject, "client");
    caller_close(&c);
    dnstap_close(tap, 0);
}

static void let_all_in(bool skipverify, const char *ca_file)
{
    static const char *const shown[] = {NULL, "client", "stranger", "serverAuth"};
    dnstap_options o;
    dnstap_tap *tap;
    dnstap_peer peer;
    size_t i;

    tls_host_options(&o);
    o.skipverify = skipverify;
    if (ca_file) o.ca_file = in_dir(ca_file);
    tap = host_open(&o);

    for (i = 0; i < sizeof shown / sizeof *shown; i++) {
        caller c;

        caller_start(&c, tap, shown[i]);
        assert_int_equal(dnstap_get_peers(tap, &peer, 1), 1);
        assert_string_equal(peer.subject, "");
        log_many(tap, 3);
        CALL_UNTIL(tap, &c, has_all(&c.g));
        caller_close(&c);
        UNTIL(tap, status_of(tap).sinks == 0);
    }
    dnstap_close(tap, 0);
}

static void test_without_ca_or_with_skipverify_no_certificate_is_asked_for(void **state)
{
    (void)state;
    let_all_in(false, NULL);
    let_all_in(true, NULL);
    let_all_in(true, "ca.pem");
}

/* ---- options ---- */

static const char *refusal(const dnstap_options *o)
{
    static dnstap_error error;

    assert_null(dnstap_open(o, &error));
    return error.text;
}

static void test_what_can_t_work_is_an_error_at_once(void **state)
{
    dnstap_options o;

    (void)state;
    tls_host_options(&o);
    o.cert_file = NULL;
    o.key_file = NULL;
    assert_non_null(strstr(refusal(&o), "a server needs a certificate; set options.cert_file"));
    tls_host_options(&o);
    o.key_file = NULL;
    assert_non_null(strstr(refusal(&o), "a certificate without key; set options.key_file"));
    tls_host_options(&o);
    o.key_file = in_dir("client.key");
    assert_non_null(strstr(refusal(&o), "is not that of the first certificate in"));
    tls_host_options(&o);
    o.ca_file = in_dir("server.key"); /* no certificate is in it */
    assert_non_null(strstr(refusal(&o), "server.key: no certificate"));
    o.ca_file = in_dir("nosuch.pem");
    assert_non_null(strstr(refusal(&o), "nosuch.pem: can't open"));
    assert_int_equal(live_blocks, 0);
}

/* ---- certificates are read again ---- */

static size_t served_leaf(dnstap_tap *tap)
{
    uint32_t sinks = status_of(tap).sinks;
    size_t size;
    caller c;

    caller_start(&c, tap, NULL);
    size = c.side.tls->verifier.leaf_size;
    caller_close(&c);
    UNTIL(tap, status_of(tap).sinks == sinks);
    return size;
}

static void test_certificates_that_changed_are_read_again(void **state)
{
    dnstap_options o;
    dnstap_tap *tap;
    size_t first, second;
    caller early;

    (void)state;
    assert_int_equal(shell("cp server.pem now.pem; cp server.key now.key"), 0);
    tls_host_options(&o);
    o.cert_file = in_dir("now.pem");
    o.key_file = in_dir("now.key");
    tap = host_open(&o);
    first = served_leaf(tap);
    caller_start(&early, tap, NULL);
    assert_int_equal(shell("cp rsa.pem now.pem; cp rsa.key now.key"), 0);
    second = served_leaf(tap);
    assert_int_not_equal(first, second);
    assert_int_equal(shell("echo nonsense >now.pem"), 0);
    assert_int_equal(served_leaf(tap), second);
    assert_int_equal(served_leaf(tap), second);
    assert_int_equal(times_said("what was loaded before stays in use"), 1);
    log_many(tap, 3); /* who was there before has noticed nothing */
    CALL_UNTIL(tap, &early, has_all(&early.g));
    caller_close(&early);
    dnstap_close(tap, 0);
}

/* Relative names lead where they did when the tap was opened. */
static void test_certificates_are_renewed_after_chdir(void **state)
{
    dnstap_options o;
    dnstap_tap *tap;
    size_t first;

    (void)state;
    assert_int_equal(shell("cp server.pem now.pem; cp server.key now.key"), 0);
    tls_host_options(&o);
    o.cert_file = "now.pem";
    o.key_file = "now.key";
    assert_int_equal(chdir(tls_dir), 0);
    tap = host_open(&o);
    assert_int_equal(chdir("/"), 0);
    first = served_leaf(tap);
    assert_int_equal(shell("cp rsa.pem now.pem; cp rsa.key now.key"), 0);
    assert_int_not_equal(served_leaf(tap), first);
    dnstap_close(tap, 0);
}

/* So does the environment's, which may change, too. */
static void test_the_environments_ca_is_kept_at_open(void **state)
{
    dnstap_options o;
    dnstap_tap *tap;

    (void)state;
    peer_options(&o, "tls://127.0.0.1:9");
    assert_int_equal(chdir(tls_dir), 0);
    assert_int_equal(setenv("SSL_CERT_FILE", "ca.pem", 1), 0);
    tap = open_afresh(&o);
    assert_int_equal(setenv("SSL_CERT_FILE", "nowhere", 1), 0);
    assert_int_equal(chdir("/"), 0);
    assert_string_equal(tap->tls_config->set.ca_file, in_dir("ca.pem"));
    dnstap__tls_reload(tap->tls_config);
    assert_string_equal(tap->tls_config->note, "");
    assert_int_equal(unsetenv("SSL_CERT_FILE"), 0);
    dnstap_close(tap, 0);
}

/* ---- many at once ---- */

enum { CALLERS = 6 };

static void test_handshakes_run_side_by_side_one_costly_step_in_a_call(void **state)
{
    static caller c[CALLERS];
    dnstap_tap *tap = open_mutual();
    size_t before[64], i, moved, most = 0;
    uint64_t end = real_ms() + PATIENCE;
    int open = 0;

    (void)state;
    for (i = 0; i < CALLERS; i++) caller_connect(&c[i], tap, "client");
    while (open < CALLERS) {
        for (i = 0; i < tap->link_count; i++) before[i] = tap->links[i].tls->taken;
        assert_int_equal(dnstap_service(tap), DNSTAP_OK);
        for (i = moved = 0; i < tap->link_count; i++) moved += tap->links[i].tls->taken > before[i];
        assert_true(moved <= 1);
        if (status_of(tap).pending > most) most = status_of(tap).pending;
        for (i = 0, open = 0; i < CALLERS; i++) {
            caller_go_on(&c[i]);
            open += c[i].g.stream.phase == AT_DATA;
        }
        assert_true(real_ms() < end);
    }
    assert_int_equal(most, CALLERS);
    for (i = 0; i < CALLERS; i++) caller_close(&c[i]);
    dnstap_close(tap, 0);
}

static void test_a_silent_client_is_closed_at_its_deadline(void **state)
{
    dnstap_options o;
    dnstap_tap *tap;
    guest *g;

    (void)state;
    tls_host_options(&o);
    o.monotonic_ms = pretend;
    tap = host_open(&o);
    g = guest_connect(tap);
    turns(tap, 3);
    pretended_ms += 1900;
    turns(tap, 3);
    assert_int_equal(status_of(tap).pending, 1);
    pretended_ms += 100;
    UNTIL(tap, g->ended);
    assert_int_equal(times_said("no answer to the TLS handshake"), 1);
    dnstap_close(tap, 0);
}

/* A silent one with every turn; some have begun to speak. */
static void test_a_thousand_silent_clients_keep_no_good_sink_out(void **state)
{
    enum { AT_A_TIME = 1000 };
    static int silent[AT_A_TIME];
    dnstap_options o;
    dnstap_tap *tap;
    unsigned before = descriptors(), came = 0, good = 0, i;
    size_t blocks_before = live_blocks;
    struct rlimit limit;

    (void)state;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = AT_A_TIME + 200;
    if (limit.rlim_max < limit.rlim_cur || setrlimit(RLIMIT_NOFILE, &limit)) skip();
    for (i = 0; i < AT_A_TIME; i++) silent[i] = -1;
    tls_host_options(&o);
    tap = host_open(&o);
    while (came < AT_A_TIME + 200) {
        caller c;

        caller_connect(&c, tap, NULL);
        while (c.g.stream.phase != AT_DATA) {
            int *fd = &silent[came++ % AT_A_TIME];

            if (*fd >= 0) close(*fd);
            *fd = knock(tap);
            if (came % 10 == 0) assert_int_equal(send(*fd, "\26\3", 2, MSG_NOSIGNAL), 2);
            turns(tap, 2); /* each takes one in the place of another */
            caller_go_on(&c);
            if (has_failed(&c)) fail_msg("%u %u %s", came, good, side_error(&c.side));
            assert_true(came < 20000);
        }
        memcpy(c.g.seen.next, logged, sizeof logged);
        log_many(tap, 30);
        CALL_UNTIL(tap, &c, has_all(&c.g));
        caller_close(&c);
        UNTIL(tap, status_of(tap).sinks == 0);
        good++;
    }
    assert_true(good > 10);
    assert_true(status_of(tap).pending <= 8);
    assert_int_equal(live_blocks, blocks_before + 1);
    check_host_books(tap);
    for (i = 0; i < AT_A_TIME; i++)
        if (silent[i] >= 0) close(silent[i]);
    UNTIL(tap, status_of(tap).pending == 0);
    assert_int_equal(descriptors(), before + 2); /* the listener's, and the wake-up's */
    dnstap_close(tap, 0);
    assert_int_equal(descriptors(), before);
    assert_int_equal(live_blocks, blocks_before);
}

static void test_close_ends_frame_streams_and_tls_in_order(void **state)
{
    dnstap_tap *tap = open_mutual();
    closing it;
    caller c;

    (void)state;
    caller_start(&c, tap, "client");
    assert_int_equal(dnstap_start(tap), DNSTAP_OK);
    log_many(tap, 300);
    close_begin(&it, tap, PATIENCE);
    while (c.result == DNSTAP_OK) {
        readable(c.g.fd, 100);
        caller_go_on(&c);
    }
    if (c.result != DNSTAP_END) fail_msg("%s", side_error(&c.side));
    assert_int_equal(c.g.stream.phase, AT_END);
    assert_true(has_all(&c.g));
    while (side_shut(&c.side) == DNSTAP_AGAIN) readable(c.g.fd, 10);
    close_end(&it);
    assert_int_equal(it.result, DNSTAP_OK);
    assert_true(it.took < PATIENCE / 2);
    caller_close(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_clients_are_verified_by_ca_dates_and_purpose),
        cmocka_unit_test(test_the_subject_is_in_the_log_and_in_the_status),
        cmocka_unit_test(test_without_ca_or_with_skipverify_no_certificate_is_asked_for),
        cmocka_unit_test(test_what_can_t_work_is_an_error_at_once),
        cmocka_unit_test(test_certificates_that_changed_are_read_again),
        cmocka_unit_test(test_certificates_are_renewed_after_chdir),
        cmocka_unit_test(test_the_environments_ca_is_kept_at_open),
        cmocka_unit_test(test_handshakes_run_side_by_side_one_costly_step_in_a_call),
        cmocka_unit_test(test_a_silent_client_is_closed_at_its_deadline),
        cmocka_unit_test(test_a_thousand_silent_clients_keep_no_good_sink_out),
        cmocka_unit_test(test_close_ends_frame_streams_and_tls_in_order),
    };

    return RUN_TESTS(tests, make_more_certificates, remove_all);
}
