/* The TLS transport, client and server of ours joined in memory: the contract of a transport under
 * every way a wire may behave, ends of all kinds, hooks, and reconnecting. */
#define _DEFAULT_SOURCE
#include "tls_support.h"

static void test_data_arrives_over_a_wire_of_single_bytes(void **state)
{
    pair *p = pair_new();
    int server;

    (void)state;
    pair_load(p);
    p->client.wires.most = p->server.wires.most = 1;
    p->client.wires.stutter = p->server.wires.stutter = true;
    assert_int_equal(pair_handshake(p, &server), DNSTAP_OK);
    assert_int_equal(server, DNSTAP_OK);
    pair_transfer(&p->client, &p->server, 3000);
    pair_transfer(&p->server, &p->client, 3000);
    pair_close(p);
    pair_free(p);
}

static void test_a_full_wire_is_waited_for(void **state)
{
    pair *p = pair_connected();

    (void)state;
    pair_transfer(&p->client, &p->server, 5000000);
    pair_close(p);
    pair_free(p);
}

static void test_send_counts_bytes_only_when_their_ciphertext_is_out(void **state)
{
    pair *p = pair_connected();
    uint8_t data[1000], back[1000];
    size_t before, after;
    int i;

    (void)state;
    memset(data, 'x', sizeof data);
    before = p->to_server.total;
    p->client.wires.most = 100;
    p->client.wires.stutter = true;
    for (i = 0; side_send(&p->client, data, sizeof data) == DNSTAP_AGAIN; i++) {
        assert_int_equal(p->client.wants, POLLOUT);
        assert_int_not_equal(p->client.tls->sealed, 0);
    }
    after = p->to_server.total - before;
    assert_true(i >= 10);
    assert_true(after > sizeof data && after < sizeof data + 64); /* one record, sent once */
    assert_int_equal(p->client.tls->sealed, 0);
    assert_int_equal(side_recv(&p->server, back, sizeof back), sizeof back);
    assert_memory_equal(back, data, sizeof data);
    pair_free(p);
}

static void test_send_may_be_given_more_bytes_after_again(void **state)
{
    pair *p = pair_connected();
    uint8_t data[600], back[600];

    (void)state;
    memset(data, 'x', 300);
    memset(data + 300, 'y', 300);
    p->client.wires.blocked = true;
    assert_int_equal(side_send(&p->client, data, 300), DNSTAP_AGAIN);
    p->client.wires.blocked = false;
    assert_int_equal(side_send(&p->client, data, 600), 300);
    assert_int_equal(side_send(&p->client, data + 300, 300), 300);
    assert_int_equal(side_recv(&p->server, back, 600), 300);
    assert_int_equal(side_recv(&p->server, back + 300, 300), 300);
    assert_memory_equal(back, data, 600);
    pair_free(p);
}

static void test_records_are_full_although_input_is_small(void **state)
{
    pair *p = pair_connected();
    static uint8_t data[20000];

    (void)state;
    assert_int_equal(p->client.tls->input_size, 4096);
    assert_int_equal(side_send(&p->client, data, sizeof data), 16384);
    pair_free(p);
}

static void test_small_buffers_ask_the_peer_for_small_records(void **state)
{
    pair *p = pair_new();
    static uint8_t data[2000];

    (void)state;
    p->client.options.tls_input = 837;
    p->client.options.tls_output = 597;
    pair_load(p);
    assert_int_equal(pair_handshake(p, NULL), DNSTAP_OK);
    assert_int_equal(side_send(&p->client, data, sizeof data), 512);
    assert_int_equal(side_send(&p->server, data, sizeof data), 512);
    assert_int_equal(side_recv(&p->client, data, sizeof data), 512);
    pair_transfer(&p->server, &p->client, 100000);
    pair_free(p);
}

static void test_one_shared_buffer_serves_both_directions(void **state)
{
    pair *p = pair_new();

    (void)state;
    p->client.options.tls_input = 837;
    p->client.options.tls_output = DNSTAP__TLS_SHARED;
    p->server.options.tls_output = DNSTAP__TLS_SHARED;
    pair_load(p);
    assert_int_equal(pair_handshake(p, NULL), DNSTAP_OK);
    pair_transfer(&p->server, &p->client, 10000);
    pair_transfer(&p->client, &p->server, 10000);
    pair_close(p);
    pair_free(p);
}

static void test_an_end_without_close_notify_is_an_error(void **state)
{
    pair *p = pair_connected();
    uint8_t byte;

    (void)state;
    p->to_server.ended = true;
    assert_int_equal(side_recv(&p->server, &byte, 1), DNSTAP_TLS);
    assert_int_equal(p->server.tls->error.sys_errno, DNSTAP__TLS_EOF);
    assert_non_null(strstr(side_error(&p->server), "close_notify"));
    assert_int_equal(p->server.tls->state, DNSTAP__TLS_CUT);
    assert_int_equal(side_recv(&p->server, &byte, 1), DNSTAP_TLS);
    pair_free(p);
}

static void test_an_end_inside_a_record_is_an_error(void **state)
{
    pair *p = pair_connected();
    uint8_t byte;

    (void)state;
    assert_int_equal(side_send(&p->client, "hello", 5), 5);
    p->to_server.used -= 3;
    p->to_server.ended = true;
    assert_int_equal(side_recv(&p->server, &byte, 1), DNSTAP_TLS);
    assert_int_equal(p->server.tls->error.sys_errno, DNSTAP__TLS_EOF);
    pair_free(p);
}

static void test_unread_data_does_not_keep_a_close_waiting(void **state)
{
    pair *p = pair_connected();
    static uint8_t data[4000];
    uint8_t byte;

    (void)state;
    assert_int_equal(side_send(&p->server, data, sizeof data), sizeof data);
    assert_int_equal(side_recv(&p->client, &byte, 1), 1); /* the rest of it stays unread */
    assert_int_equal(side_send(&p->server, data, 100), 100);
    pair_close(p);
    pair_free(p);
}

static void test_a_close_sends_the_record_that_is_half_out(void **state)
{
    pair *p = pair_connected();
    uint8_t data[500], back[500];

    (void)state;
    memset(data, 'z', sizeof data);
    p->client.wires.most = 100;
    p->client.wires.stutter = true;
    assert_int_equal(side_send(&p->client, data, sizeof data), DNSTAP_AGAIN);
    while (side_shut(&p->client) == DNSTAP_AGAIN && p->client.wants & POLLOUT) {
    }
    assert_int_equal(side_recv(&p->server, back, sizeof back), sizeof back);
    assert_memory_equal(data, back, sizeof data);
    assert_int_equal(side_recv(&p->server, back, 1), DNSTAP_END);
    while (side_shut(&p->client) == DNSTAP_AGAIN) {
    }
    assert_int_equal(p->client.tls->state, DNSTAP__TLS_CLOSED);
    pair_free(p);
}

static void test_a_peer_that_just_ends_after_our_close_is_no_error(void **state)
{
    pair *p = pair_connected();

    (void)state;
    p->to_client.ended = true;
    assert_int_equal(side_shut(&p->client), DNSTAP_OK);
    assert_int_equal(p->client.tls->state, DNSTAP__TLS_CUT);
    pair_free(p);
}

static void test_a_goodbye_is_an_end_even_if_our_answer_fails(void **state)
{
    pair *p = pair_connected();
    uint8_t byte;

    (void)state;
    (void)side_shut(&p->client);
    p->server.wires.broken = DNSTAP_SYSTEM;
    assert_int_equal(side_recv(&p->server, &byte, 1), DNSTAP_END);
    assert_int_equal(side_send(&p->server, &byte, 1), DNSTAP_END);
    pair_free(p);
}

static void test_a_changed_byte_is_noticed(void **state)
{
    pair *p = pair_connected();
    uint8_t data[100];

    (void)state;
    assert_int_equal(side_send(&p->client, "hello", 5), 5);
    p->to_server.data[p->to_server.used - 1] ^= 1;
    assert_int_equal(side_recv(&p->server, data, sizeof data), DNSTAP_TLS);
    assert_int_equal(p->server.tls->error.sys_errno, BR_ERR_BAD_MAC);
    pair_free(p);
}

static void test_a_failure_below_keeps_its_text(void **state)
{
    pair *p = pair_connected();

    (void)state;
    p->client.wires.broken = DNSTAP_SYSTEM;
    assert_int_equal(side_send(&p->client, "x", 1), DNSTAP_SYSTEM);
    assert_string_equal(side_error(&p->client), "the wire is cut");
    assert_int_equal(side_send(&p->client, "x", 1), DNSTAP_SYSTEM);
    pair_free(p);
}

static void test_a_connection_can_be_made_again(void **state)
{
    pair *p = pair_connected();
    int i;

    (void)state;
    for (i = 0; i < 3; i++) {
        assert_int_equal(side_send(&p->client, "half a record that is lost", 26), 26);
        p->client.wires.blocked = true;
        (void)side_send(&p->client, "x", 1);
        side_close(&p->client);
        side_close(&p->server);
        p->client.wires.blocked = false;
        p->to_client.used = p->to_server.used = 0;
        assert_int_equal(pair_handshake(p, NULL), DNSTAP_OK);
        pair_transfer(&p->client, &p->server, 1000);
    }
    assert_int_equal(p->client.wires.closes, 3);
    pair_free(p);
}

static void test_what_is_refused_gets_one_alert_and_no_data(void **state)
{
    static const uint8_t alert[] = {0x15, 3, 3, 0, 2, 2, 48};
    pair *p = pair_new();
    int server;
    uint8_t *end;

    (void)state;
    p->client.options.ca_file = in_dir("other-ca.pem");
    pair_load(p);
    p->client.wires.most = 3;
    (void)side_start(&p->client);
    while (p->to_client.total < 600) {
        (void)side_start(&p->client);
        (void)side_start(&p->server);
    }
    while (!p->client.tls->error.code) (void)side_start(&p->client);
    while (p->client.tls->state == DNSTAP__TLS_REFUSING) (void)side_start(&p->client);
    end = p->to_server.data + p->to_server.used;
    assert_memory_equal(end - sizeof alert, alert, sizeof alert);
    assert_true(p->to_server.ended);
    assert_int_equal(p->client.wires.shuts, 1);
    p->to_client.ended = true;
    assert_int_equal(pair_handshake(p, &server), DNSTAP_TLS);
    assert_int_equal(server, DNSTAP_TLS);
    assert_int_equal(p->client.tls->error.sys_errno, BR_ERR_X509_NOT_TRUSTED);
    assert_int_equal(p->server.tls->error.sys_errno, BR_ERR_RECV_FATAL_ALERT + 48);
    assert_int_equal(side_send(&p->client, "data", 4), DNSTAP_TLS);
    pair_free(p);
}

static bool no_entropy(void *user, void *out, size_t size)
{
    (void)user;
    memset(out, 0, size);
    return false;
}

static uint64_t no_clock(void *user)
{
    (void)user;
    return 0;
}

static void test_without_entropy_nothing_starts(void **state)
{
    pair *p = pair_new();

    (void)state;
    p->client.options.entropy = no_entropy;
    pair_load(p);
    assert_int_equal(side_start(&p->client), DNSTAP_TLS);
    assert_int_equal(p->client.tls->error.sys_errno, BR_ERR_NO_RANDOM);
    assert_non_null(strstr(side_error(&p->client), "options.entropy"));
    assert_int_equal(p->to_server.total, 0);
    pair_free(p);
}

static void test_without_clock_nothing_starts(void **state)
{
    pair *p = pair_new();

    (void)state;
    p->client.options.unix_time = no_clock;
    pair_load(p);
    assert_int_equal(side_start(&p->client), DNSTAP_TLS);
    assert_int_equal(p->client.tls->error.sys_errno, BR_ERR_X509_TIME_UNKNOWN);
    assert_non_null(strstr(side_error(&p->client), "options.unix_time"));
    assert_int_equal(p->to_server.total, 0);
    pair_free(p);
}

static void test_a_deadline_finds_a_text(void **state)
{
    pair *p = pair_new();

    (void)state;
    pair_load(p);
    assert_int_equal(side_start(&p->client), DNSTAP_AGAIN);
    assert_non_null(strstr(side_error(&p->client), "no answer"));
    pair_free(p);
    p = pair_connected();
    assert_int_equal(side_shut(&p->client), DNSTAP_AGAIN);
    assert_non_null(strstr(side_error(&p->client), "in time"));
    pair_free(p);
}

static void test_the_descriptor_is_that_of_the_transport_below(void **state)
{
    pair *p = pair_connected();

    (void)state;
    assert_int_equal(p->client.transport.fd(p->client.transport.self), 7);
    p->client.tls->lower.fd = NULL;
    assert_int_equal(p->client.transport.fd(p->client.transport.self), -1);
    pair_free(p);
}

static void test_every_error_has_a_text(void **state)
{
    int code;

    (void)state;
    for (code = 1; code < 1100; code++) {
        assert_true(strlen(dnstap__tls_text_of(code)) > 10);
        assert_true(strlen(dnstap__tls_text_of(code)) < 160);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_data_arrives_over_a_wire_of_single_bytes),
        cmocka_unit_test(test_a_full_wire_is_waited_for),
        cmocka_unit_test(test_send_counts_bytes_only_when_their_ciphertext_is_out),
        cmocka_unit_test(test_send_may_be_given_more_bytes_after_again),
        cmocka_unit_test(test_records_are_full_although_input_is_small),
        cmocka_unit_test(test_small_buffers_ask_the_peer_for_small_records),
        cmocka_unit_test(test_one_shared_buffer_serves_both_directions),
        cmocka_unit_test(test_an_end_without_close_notify_is_an_error),
        cmocka_unit_test(test_an_end_inside_a_record_is_an_error),
        cmocka_unit_test(test_unread_data_does_not_keep_a_close_waiting),
        cmocka_unit_test(test_a_close_sends_the_record_that_is_half_out),
        cmocka_unit_test(test_a_peer_that_just_ends_after_our_close_is_no_error),
        cmocka_unit_test(test_a_goodbye_is_an_end_even_if_our_answer_fails),
        cmocka_unit_test(test_a_changed_byte_is_noticed),
        cmocka_unit_test(test_a_failure_below_keeps_its_text),
        cmocka_unit_test(test_a_connection_can_be_made_again),
        cmocka_unit_test(test_what_is_refused_gets_one_alert_and_no_data),
        cmocka_unit_test(test_without_entropy_nothing_starts),
        cmocka_unit_test(test_without_clock_nothing_starts),
        cmocka_unit_test(test_a_deadline_finds_a_text),
        cmocka_unit_test(test_the_descriptor_is_that_of_the_transport_below),
        cmocka_unit_test(test_every_error_has_a_text),
    };

    return RUN_TESTS(tests, make_certificates, remove_certificates);
}
