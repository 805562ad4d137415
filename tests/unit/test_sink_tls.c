/* Sinks with TLS, against taps of ours in the same process: those that dial, those that listen, who
 * trusts whom, what is told when not, and what a handshake costs the others. */
#define _GNU_SOURCE
#include <malloc.h>
#include <stdlib.h>
static void free_watched(void *memory);
#define DNSTAP_MALLOC(size) malloc(size)
#define DNSTAP_FREE(memory) free_watched(memory)
#include "tls_support.h"
#include "dial_support.h"

/* What must not be in memory that is freed; size 0: nothing is looked for. */
static struct {
    uint8_t bytes[32];
    size_t size;
    unsigned found;
} secret;

static void free_watched(void *memory)
{
    size_t size = malloc_usable_size(memory);

    if (secret.size && memmem(memory, size, secret.bytes, secret.size)) secret.found++;
    free(memory);
}

static char endpoint[80];

static const char *at_port(const char *host_name, uint16_t port)
{
    snprintf(endpoint, sizeof endpoint, "tls://%s:%u", host_name, (unsigned)port);
    return endpoint;
}

/* A tap that listens with server's certificate; ca: what its sinks' must be of, NULL: none. */
static void listening_tap(const char *ca)
{
    dnstap_options o = tap_options("tls://127.0.0.1:0");

    o.listen = true;
    o.cert_file = in_dir("server.pem");
    o.key_file = in_dir("server.key");
    o.ca_file = ca;
    start_tap(&o);
}

/* A sink that trusts ca, to connect to that tap. */
static dnstap_sink_options dialling(void)
{
    dnstap_sink_options o = dial_options(at_port("127.0.0.1", tap_status().port));

    o.ca_file = in_dir("ca.pem");
    return o;
}

static void receive_numbers(void)
{
    uint32_t from = got.number;

    UNTIL(dnstap_wants(tap, DNSTAP_MSG_CLIENT_QUERY));
    log_numbers(from, 2000);
    UNTIL(got.number == from + 2000);
}

/* Without a turn of the sink. */
static void wait_for_no_sink(void)
{
    uint64_t end = real_ms() + PATIENCE;

    while (tap_status().sinks) {
        if (real_ms() > end) fail_msg("the tap has a sink still");
        poll(NULL, 0, 1);
    }
}

/* ---- sinks that dial ---- */

static void test_messages_of_a_listening_tap_come_over_tls(void **state)
{
    dnstap_sink_options o;

    (void)state;
    listening_tap(NULL);
    o = dialling();
    open_sink(&o);
    assert_true(w.sink->sources->tls->input_size >= BR_SSL_BUFSIZE_INPUT); /* any record fits */
    receive_numbers();
    assert_string_equal(got.subject, "server.test");
    close_tap();
    assert_int_equal(status().failed, 0);
}

static void test_messages_come_when_both_show_certificates(void **state)
{
    dnstap_sink_options o;
    dnstap_peer peer;

    (void)state;
    listening_tap(in_dir("ca.pem"));
    o = dialling();
    o.cert_file = in_dir("client.pem");
    o.key_file = in_dir("client.key");
    open_sink(&o);
    receive_numbers();
    assert_int_equal(dnstap_get_peers(tap, &peer, 1), 1);
    assert_string_equal(peer.subject, "client");
    close_tap();
}

/* Says later to every so-manieth; it may call dnstap_sink_resume. */
static int note_later(void *user, const dnstap_received *r)
{
    static unsigned offers;

    if (r->kind != DNSTAP_SINK_MESSAGE || ++offers % 37) return note_more(user, r);
    dnstap_sink_resume(w.sink);
    return DNSTAP_AGAIN;
}

/* A record holds many messages, of which poll does not tell once it was read. */
static void test_what_a_record_holds_waits_for_what_is_put_off(void **state)
{
    dnstap_sink_options o;

    (void)state;
    listening_tap(NULL);
    o = dialling();
    o.receive = note_later;
    open_sink(&o);
    receive_numbers();
    assert_int_equal(status().frames, 2000);
    close_tap();
}

/* Whether the sink's attempt fails with this text, and only with it. */
static void fails(const dnstap_sink_options *o, const char *text)
{
    memset(w.told, 0, sizeof w.told);
    open_sink(o);
    until(DNSTAP_SINK_CLOSED, 1);
    assert_int_equal(w.result, DNSTAP_TLS);
    if (!strstr(w.text, text)) fail_msg("%s", w.text);
    assert_non_null(strstr(status().error.text, w.text));
    assert_int_equal(w.told[DNSTAP_SINK_OPENED], 0);
    dnstap_sink_close(w.sink);
    w.sink = NULL;
}

static void test_a_sink_without_the_right_certificate_is_sent_away(void **state)
{
    dnstap_sink_options o;

    (void)state;
    listening_tap(in_dir("other-ca.pem"));
    o = dialling();
    fails(&o, "certificate");
    o.cert_file = in_dir("client.pem");
    o.key_file = in_dir("client.key");
    fails(&o, "peer does not know our certificate's CA");
    assert_int_equal(tap_status().sinks, 0);
    dnstap_close(tap, 0);
}

static uint64_t far_future(void *user)
{
    (void)user;
    return 4000000000u;
}

static bool no_entropy(void *user, void *out, size_t size)
{
    (void)user, (void)out;
    return size == 0;
}

static void test_a_tap_that_is_not_verified_gets_nothing(void **state)
{
    dnstap_sink_options right, o;

    (void)state;
    listening_tap(NULL);
    o = right = dialling();
    o.ca_file = in_dir("other-ca.pem");
    fails(&o, "certificate is of no CA in");
    o = right;
    o.server_name = "other.test";
    fails(&o, "not \"other.test\"; set options.server_name");
    o = right;
    o.unix_time = far_future;
    fails(&o, "and the clock says 2096-10-02");
    o = right;
    o.entropy = no_entropy;
    fails(&o, "no entropy");
    o = right;
    o.server_name = "server.test";
    o.skipverify = false;
    open_sink(&o);
    receive_numbers();
    dnstap_sink_close(w.sink);
    wait_for_no_sink();
    o.ca_file = NULL;
    o.server_name = NULL;
    o.skipverify = true;
    open_sink(&o);
    receive_numbers();
    assert_string_equal(got.subject, ""); /* nobody vouches for it */
    close_tap();
}

static void test_a_port_without_tls_is_told(void **state)
{
    dnstap_sink_options o;
    uint16_t port = host_open("127.0.0.1", 0);

    (void)state;
    o = dial_options(at_port("127.0.0.1", port));
    o.ca_file = in_dir("ca.pem");
    open_sink(&o);
    UNTIL(host_took());
    UNTIL(status().state == DNSTAP_SECURING);
    pass(4000);
    until(DNSTAP_SINK_CLOSED, 1);
    assert_int_equal(w.result, DNSTAP_TIMEOUT);
    assert_string_equal(w.text, "no answer to the TLS handshake; is that a TLS port?");
    dnstap_sink_close(w.sink);
    host_leave();
    memset(w.told, 0, sizeof w.told);
    open_sink(&o);
    UNTIL(host_took());
    host_say(DNSTAP_CONTROL_READY);
    shutdown(host.fd, SHUT_WR); /* else the sink waits for its alert to be read */
    until(DNSTAP_SINK_CLOSED, 1);
    assert_int_equal(w.result, DNSTAP_TLS);
    assert_non_null(strstr(w.text, "is that a TLS port?"));
    host_close();
}

static void test_a_sink_that_closes_says_goodbye(void **state)
{
    dnstap_sink_options o;

    (void)state;
    listening_tap(NULL);
    o = dialling();
    open_sink(&o);
    receive_numbers();
    dnstap_sink_close(w.sink);
    w.sink = NULL;
    wait_for_no_sink();
    assert_int_equal(tap_status().failures, 0);
    dnstap_close(tap, 0);
}

/* ---- a listener with TLS, step by step ---- */

static side speaker;

/* The sink dials it, and both have shaken hands. */
static void speak_tls(void)
{
    static dnstap__socket at;
    dnstap_sink_options o;
    dnstap_transport lower;
    int result = DNSTAP_AGAIN;

    memset(&speaker, 0, sizeof speaker);
    speaker.options.cert_file = in_dir("server.pem");
    speaker.options.key_file = in_dir("server.key");
    assert_int_equal(side_load(&speaker, true), DNSTAP_OK);
    o = dial_options(at_port("127.0.0.1", host_open("127.0.0.1", 0)));
    o.ca_file = in_dir("ca.pem");
    open_sink(&o);
    UNTIL(host_took());
    lower = dnstap__socket_adopt(&at, host.fd, AF_INET, 0);
    dnstap__tls_init(speaker.tls, speaker.config, &lower);
    UNTIL((result = side_start(&speaker)) != DNSTAP_AGAIN);
    assert_int_equal(result, DNSTAP_OK);
}

static void speak(const char *bytes, size_t size)
{
    assert_int_equal(side_send(&speaker, bytes, size), size);
}

static void speak_control(dnstap_control type)
{
    dnstap_bytes frame = dnstap__control_frame(type);

    speak((const char *)frame.data, frame.size);
}

static void begin_speech(void)
{
    speak_tls();
    speak_control(DNSTAP_CONTROL_READY);
    speak_control(DNSTAP_CONTROL_START);
    speak("\0\0\0\6\x72\2\10\5\x78\1", 10);
    until(DNSTAP_SINK_MESSAGE, 1);
}

static void end_speech(void)
{
    free(speaker.memory);
    host_close();
}

static void test_stop_is_enough_when_the_end_of_tls_does_not_come(void **state)
{
    (void)state;
    begin_speech();
    speak_control(DNSTAP_CONTROL_STOP);
    UNTIL(status().state == DNSTAP_SHUTTING);
    pass(3999);
    assert_int_equal(w.told[DNSTAP_SINK_CLOSED], 0);
    pass(1);
    assert_int_equal(w.told[DNSTAP_SINK_CLOSED], 1);
    assert_int_equal(w.result, DNSTAP_OK);
    assert_int_equal(status().failed, 0);
    end_speech();
}

static void test_a_stream_that_ends_without_tls_s_goodbye_may_be_cut(void **state)
{
    (void)state;
    begin_speech();
    shutdown(host.fd, SHUT_WR);
    until(DNSTAP_SINK_CLOSED, 1);
    assert_int_equal(w.result, DNSTAP_TLS);
    assert_non_null(strstr(w.text, "peer ended without TLS's close_notify"));
    assert_int_equal(status().failed, 1);
    end_speech();
}

static void test_a_stream_that_ends_with_tls_s_goodbye_ended_without_stop(void **state)
{
    (void)state;
    begin_speech();
    (void)side_shut(&speaker);
    until(DNSTAP_SINK_CLOSED, 1);
    assert_int_equal(w.result, DNSTAP_END);
    assert_int_equal(status().failed, 0);
    end_speech();
}

/* ---- sinks that listen ---- */

static dnstap_sink_options listening(const char *ca)
{
    dnstap_sink_options o = dial_options("tls://127.0.0.1:0");

    o.connect = false;
    o.cert_file = in_dir("server.pem");
    o.key_file = in_dir("server.key");
    o.ca_file = ca;
    return o;
}

/* A tap that connects to it, with client's certificate or NULL. */
static dnstap_options connecting(const char *name)
{
    static char cert[128], key[128];
    dnstap_options o = tap_options(at_port("127.0.0.1", status().port));

    o.ca_file = in_dir("ca.pem");
    if (!name) return o;
    snprintf(cert, sizeof cert, "%s/%s.pem", tls_dir, name);
    snprintf(key, sizeof key, "%s/%s.key", tls_dir, name);
    o.cert_file = cert;
    o.key_file = key;
    return o;
}

static void deliver(const char *name, const char *subject)
{
    dnstap_options o = connecting(name);

    start_tap(&o);
    receive_numbers();
    assert_string_equal(got.subject, subject);
    close_tap();
}

static void test_producers_deliver_over_tls(void **state)
{
    dnstap_sink_options o = listening(NULL);

    (void)state;
    open_sink(&o);
    deliver(NULL, "");
    deliver("client", ""); /* it is not asked for one */
    assert_int_equal(status().failed, 0);
}

static void test_a_producer_s_verified_name_comes_with_its_messages(void **state)
{
    dnstap_sink_options o = listening(in_dir("ca.pem"));

    (void)state;
    open_sink(&o);
    deliver("client", "client");
}

static void is_refused(const char *name, const char *text)
{
    dnstap_options o = connecting(name);

    memset(w.told, 0, sizeof w.told);
    start_tap(&o);
    until(DNSTAP_SINK_CLOSED, 1);
    assert_int_equal(w.result, DNSTAP_TLS);
    if (!strstr(w.text, text)) fail_msg("%s", w.text);
    dnstap_close(tap, 0);
    UNTIL(status().open == 0);
    assert_int_equal(status().frames, 0);
}

static void test_a_producer_without_the_right_certificate_is_sent_away(void **state)
{
    dnstap_sink_options o = listening(in_dir("other-ca.pem"));

    (void)state;
    open_sink(&o);
    is_refused(NULL, "client showed no certificate");
    is_refused("client", "client's certificate is of no CA in");
}

/* What comes by plain TCP to the sink, and says nothing of TLS. */
static int stranger(void)
{
    struct sockaddr_in at;
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    memset(&at, 0, sizeof at);
    at.sin_family = AF_INET;
    at.sin_port = htons(status().port);
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(connect(fd, (struct sockaddr *)&at, sizeof at), 0);
    return fd;
}

static void test_silent_strangers_keep_nobody_waiting_and_go_in_time(void **state)
{
    dnstap_sink_options o = listening(NULL);
    int fds[20], i;

    (void)state;
    open_sink(&o);
    for (i = 0; i < 20; i++) fds[i] = stranger();
    UNTIL(status().open == 20);
    deliver(NULL, "");
    pass(3999);
    assert_int_equal(status().open, 20);
    pass(1);
    assert_int_equal(status().open, 0);
    assert_int_equal(status().failed, 20);
    assert_string_equal(w.text, "no answer to the TLS handshake; is that a TLS port?");
    for (i = 0; i < 20; i++) close(fds[i]);
}

static unsigned shaken(void)
{
    unsigned n = 0, i;

    for (i = 0; i < 8; i++) n += w.sink->sources[i].state > DNSTAP_SECURING;
    return n;
}

static size_t handshake_bytes(size_t before[8])
{
    size_t changed = 0;
    unsigned i;

    for (i = 0; i < 8; i++) {
        changed += before[i] != w.sink->sources[i].tls->taken;
        before[i] = w.sink->sources[i].tls->taken;
    }
    return changed;
}

static void test_one_call_takes_one_step_of_one_handshake(void **state)
{
    dnstap_sink_options o = listening(in_dir("ca.pem"));
    size_t before[8] = {0};
    dnstap_tap *taps[8];
    unsigned i, calls = 0;
    int timeout;

    (void)state;
    o.max_connections = 8;
    open_sink(&o);
    for (i = 0; i < 8; i++) {
        dnstap_options t = connecting("client");

        start_tap(&t);
        taps[i] = tap;
    }
    while (shaken() < 8) {
        if (real_ms() - w.began > PATIENCE) fail_msg("no handshakes");
        assert_int_equal(turn(&timeout), DNSTAP_OK);
        assert_in_range(handshake_bytes(before), 0, 1);
        calls++;
    }
    assert_true(calls >= 16);
    for (i = 0; i < 8; i++) dnstap_close(taps[i], 0);
}

static void test_certificates_that_changed_are_read_for_the_next_connection(void **state)
{
    char file[128] = "";
    dnstap_sink_options o = listening(file);

    (void)state;
    strcpy(file, in_dir("changing.pem"));
    assert_int_equal(shell("cp other-ca.pem changing.pem"), 0);
    open_sink(&o);
    memset(file, 'x', sizeof file - 1); /* the sink has its own */
    is_refused("client", "client's certificate is of no CA in");
    assert_int_equal(shell("cp ca.pem new && mv new changing.pem"), 0);
    deliver("client", "client");
    assert_string_equal(got.note, "");
    assert_int_equal(shell("echo nothing >new && mv new changing.pem"), 0);
    deliver("client", "client"); /* with what was loaded before */
    assert_non_null(strstr(got.note, "changing.pem"));
    assert_non_null(strstr(got.note, "what was loaded before stays in use"));
    assert_int_equal(w.told[DNSTAP_SINK_NOTE], 1);
}

static void test_a_key_is_wiped_from_memory_when_the_sink_closes(void **state)
{
    dnstap_sink_options o = listening(NULL);
    const br_ec_private_key *key;

    (void)state;
    open_sink(&o);
    key = &w.sink->tls->store[w.sink->tls->current].key.ec;
    memset(&secret, 0, sizeof secret);
    secret.size = dnstap__min(key->xlen, sizeof secret.bytes);
    assert_int_equal(secret.size, 32);
    memcpy(secret.bytes, key->x, secret.size);
    dnstap_sink_close(w.sink);
    w.sink = NULL;
    secret.size = 0;
    assert_int_equal(secret.found, 0);
}

static void refused(const dnstap_sink_options *o, const char *text)
{
    dnstap_error error;

    assert_null(dnstap_sink_open(o, &error));
    if (!strstr(error.text, text)) fail_msg("%s", error.text);
}

static void test_certificates_that_can_t_be_used_are_an_error_at_once(void **state)
{
    dnstap_sink_options o = listening(NULL);
    unsigned before = open_descriptors();

    (void)state;
    o.cert_file = o.key_file = NULL;
    refused(&o, "a server needs a certificate; set options.cert_file");
    o = listening(in_dir("server.key"));
    refused(&o, "server.key");
    o = listening(NULL);
    o.key_file = in_dir("client.key");
    refused(&o, "server.pem");
    o = dial_options("tls://127.0.0.1:6000");
    o.ca_file = in_dir("none.pem");
    refused(&o, "none.pem");
    o.ca_file = in_dir("ca.pem");
    o.cert_file = in_dir("client.pem");
    refused(&o, "a certificate without key");
    assert_int_equal(open_descriptors(), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SINK_TEST(test_messages_of_a_listening_tap_come_over_tls),
        SINK_TEST(test_messages_come_when_both_show_certificates),
        SINK_TEST(test_what_a_record_holds_waits_for_what_is_put_off),
        SINK_TEST(test_a_sink_without_the_right_certificate_is_sent_away),
        SINK_TEST(test_a_tap_that_is_not_verified_gets_nothing),
        SINK_TEST(test_a_port_without_tls_is_told),
        SINK_TEST(test_a_sink_that_closes_says_goodbye),
        SINK_TEST(test_stop_is_enough_when_the_end_of_tls_does_not_come),
        SINK_TEST(test_a_stream_that_ends_without_tls_s_goodbye_may_be_cut),
        SINK_TEST(test_a_stream_that_ends_with_tls_s_goodbye_ended_without_stop),
        SINK_TEST(test_producers_deliver_over_tls),
        SINK_TEST(test_a_producer_s_verified_name_comes_with_its_messages),
        SINK_TEST(test_a_producer_without_the_right_certificate_is_sent_away),
        SINK_TEST(test_silent_strangers_keep_nobody_waiting_and_go_in_time),
        SINK_TEST(test_one_call_takes_one_step_of_one_handshake),
        SINK_TEST(test_certificates_that_changed_are_read_for_the_next_connection),
        SINK_TEST(test_a_key_is_wiped_from_memory_when_the_sink_closes),
        SINK_TEST(test_certificates_that_can_t_be_used_are_an_error_at_once),
    };

    return RUN_TESTS(tests, make_certificates, remove_certificates);
}
