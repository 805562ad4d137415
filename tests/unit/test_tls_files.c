/* What a TLS connection is configured with: blocks and files, keys and anchors, files that change,
 * bounded memory; and the small readers of certificates, dates and addresses. */
#define _DEFAULT_SOURCE
#include "tls_support.h"

static char *file_text(const char *path, size_t *size)
{
    FILE *file = fopen(path, "rb");
    char *text = (char *)malloc(1 << 16);

    assert_non_null(file);
    assert_non_null(text);
    *size = fread(text, 1, 1 << 16, file);
    fclose(file);
    return text;
}

static dnstap_bytes block_of(const char *file)
{
    size_t size;
    char *text = file_text(in_dir(file), &size);

    return dnstap_bytes_of(text, size);
}

static void free_block(dnstap_bytes *block) { free((void *)(uintptr_t)block->data); }

static void connect_with_blocks(const char *ca, const char *cert, const char *key)
{
    pair *p = pair_new();
    dnstap_options *c = &p->client.options, *s = &p->server.options;

    c->ca_file = s->cert_file = s->key_file = NULL;
    c->ca = block_of(ca);
    s->cert = block_of(cert);
    s->key = block_of(key);
    pair_load(p);
    assert_int_equal(pair_handshake(p, NULL), DNSTAP_OK);
    assert_null(p->client.config->memory[1]); /* nothing can change: one store is enough */
    free_block(&c->ca);
    free_block(&s->cert);
    free_block(&s->key);
    pair_free(p);
}

static void test_blocks_serve_as_files_do(void **state)
{
    (void)state;
    assert_int_equal(shell("openssl x509 -in ca.pem -outform DER -out ca.der && "
                           "openssl x509 -in server.pem -outform DER -out server.der && "
                           "openssl pkey -in server.key -outform DER -out key.der"),
                     0);
    connect_with_blocks("ca.pem", "server.pem", "server.key");
    connect_with_blocks("ca.der", "server.der", "key.der");
}

static void test_ready_made_anchors_are_used_where_they_are(void **state)
{
    pair *p = pair_new();
    side *by_file = &p->client, by_anchor;

    (void)state;
    assert_int_equal(side_load(by_file, false), DNSTAP_OK);
    memset(&by_anchor, 0, sizeof by_anchor);
    by_anchor.options.anchors = by_file->config->store[0].anchors;
    by_anchor.options.anchor_count = by_file->config->store[0].anchor_count;
    by_anchor.wires = by_file->wires;
    assert_int_equal(side_load(&by_anchor, false), DNSTAP_OK);
    assert_ptr_equal(by_anchor.config->store[0].anchors, by_anchor.options.anchors);
    assert_int_equal(side_load(&p->server, true), DNSTAP_OK);
    while (side_start(&by_anchor) == DNSTAP_AGAIN) (void)side_start(&p->server);
    assert_int_equal(by_anchor.tls->state, DNSTAP__TLS_OPEN);
    free(by_anchor.memory);
    pair_free(p);
}

static void test_changed_files_are_read_again(void **state)
{
    pair *p = pair_new();

    (void)state;
    assert_int_equal(shell("cp other-ca.pem changing.pem"), 0);
    p->client.options.ca_file = in_dir("changing.pem");
    pair_load(p);
    assert_int_equal(shell("cp ca.pem changing.pem"), 0);
    dnstap__tls_reload(p->client.config);
    assert_string_equal(p->client.config->note, "");
    assert_int_equal(p->client.config->current, 1);
    assert_int_equal(pair_handshake(p, NULL), DNSTAP_OK);
    dnstap__tls_reload(p->client.config); /* nothing has changed */
    assert_int_equal(p->client.config->current, 1);
    pair_free(p);
}

/* The command breaks changing.pem, which was a good CA file: it must stay in use. */
static void check_keeps_what_was_loaded(const char *command, const char *text)
{
    pair *p = pair_new();

    assert_int_equal(shell("cp ca.pem changing.pem"), 0);
    p->client.options.ca_file = in_dir("changing.pem");
    pair_load(p);
    assert_int_equal(shell(command), 0);
    dnstap__tls_reload(p->client.config);
    assert_non_null(strstr(p->client.config->note, text));
    assert_non_null(strstr(p->client.config->note, "changing.pem"));
    assert_non_null(strstr(p->client.config->note, "stays in use"));
    dnstap__tls_reload(p->client.config);
    assert_string_equal(p->client.config->note, ""); /* it has been said */
    assert_int_equal(pair_handshake(p, NULL), DNSTAP_OK);
    pair_free(p);
}

static void test_files_that_broke_leave_what_was_loaded(void **state)
{
    (void)state;
    check_keeps_what_was_loaded("rm changing.pem", "can't open");
    check_keeps_what_was_loaded(": >changing.pem", "no certificate");
    check_keeps_what_was_loaded("echo rubbish >changing.pem", "no certificate");
    check_keeps_what_was_loaded("for i in $(seq 1000); do cat ca.pem; done >changing.pem",
                                "options.ca_memory");
}

static void test_a_renewed_certificate_needs_its_key(void **state)
{
    pair *p = pair_new();

    (void)state;
    assert_int_equal(shell("cp server.pem new.pem; cp server.key new.key"), 0);
    p->server.options.cert_file = in_dir("new.pem");
    p->server.options.key_file = in_dir("new.key");
    pair_load(p);
    assert_int_equal(shell("cp rsa.pem new.pem"), 0); /* its key is not there yet */
    dnstap__tls_reload(p->server.config);
    assert_non_null(strstr(p->server.config->note, "not that of the first certificate"));
    assert_int_equal(p->server.config->store[p->server.config->current].key_type, BR_KEYTYPE_EC);
    assert_int_equal(shell("cp rsa.key new.key"), 0);
    dnstap__tls_reload(p->server.config);
    assert_string_equal(p->server.config->note, "");
    assert_int_equal(p->server.config->store[p->server.config->current].key_type, BR_KEYTYPE_RSA);
    assert_int_equal(pair_handshake(p, NULL), DNSTAP_OK);
    pair_free(p);
}

static void test_too_little_memory_is_told(void **state)
{
    pair *p = pair_new();
    size_t size;

    (void)state;
    for (size = 16; size < 1024; size += 16) {
        p->server.options.ca_memory = size;
        if (side_load(&p->server, true) == DNSTAP_OK) break;
        assert_int_equal(p->server.error.code, DNSTAP_NO_MEMORY);
        assert_non_null(strstr(p->server.error.text, "options.ca_memory"));
    }
    assert_in_range(size, 256, 1008); /* certificate and key need some, and not more */
    for (size = 16; size < 1024; size += 16) {
        p->client.options.ca_memory = size;
        if (side_load(&p->client, false) == DNSTAP_OK) break;
        assert_int_equal(p->client.error.code, DNSTAP_NO_MEMORY);
    }
    assert_in_range(size, 128, 1008);
    assert_int_equal(pair_handshake(p, NULL), DNSTAP_OK);
    pair_free(p);
}

static void test_keys_above_4096_bits_are_refused(void **state)
{
    pair *p = pair_new();

    (void)state;
    assert_int_equal(
        shell("openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:8192"
              " -pkeyopt rsa_keygen_primes:5 -out huge.key &&"
              " openssl req -config cnf -x509 -key huge.key -subj /CN=x -out huge.pem"),
        0);
    p->server.options.key_file = in_dir("huge.key");
    assert_int_equal(side_load(&p->server, true), DNSTAP_TLS);
    assert_non_null(strstr(p->server.error.text, "RSA up to 4096"));
    p->server.options.key_file = in_dir("server.key");
    p->server.options.cert_file = in_dir("huge.pem");
    assert_int_equal(side_load(&p->server, true), DNSTAP_TLS);
    assert_non_null(strstr(p->server.error.text, "RSA up to 4096"));
    pair_free(p);
}

static void test_buffers_that_are_too_small_are_refused(void **state)
{
    pair *p = pair_new();

    (void)state;
    p->client.options.tls_input = 836;
    assert_int_equal(side_load(&p->client, false), DNSTAP_BAD_OPTION);
    assert_non_null(strstr(p->client.error.text, "tls_input"));
    p->client.options.tls_input = 837;
    p->client.options.tls_output = 596;
    assert_int_equal(side_load(&p->client, false), DNSTAP_BAD_OPTION);
    assert_non_null(strstr(p->client.error.text, "tls_output"));
    pair_free(p);
}

static void test_the_calendar_agrees_with_the_system(void **state)
{
    uint64_t now = 0;
    char ours[DNSTAP__STAMP], day[11], theirs[32];
    time_t t;
    int i;

    (void)state;
    for (i = 0; i < 20000; i++, now += 86400u * 3 + 12345u) { /* to the year 2135 */
        t = (time_t)now;
        dnstap__unix_stamp(now, ours);
        strftime(theirs, sizeof theirs, "%Y%m%d%H%M%S", gmtime(&t));
        assert_string_equal(ours, theirs);
    }
    dnstap__stamp_day("20261123154752", day);
    assert_string_equal(day, "2026-11-23");
}

static void test_both_forms_of_a_certificates_time_are_read(void **state)
{
    static const uint8_t times[] = "\x17\x0d"
                                   "491231235959Z"
                                   "\x17\x0d"
                                   "500101000000Z"
                                   "\x18\x0f"
                                   "20501231235959Z"
                                   "\x17\x03"
                                   "491";
    char out[DNSTAP__STAMP];
    dnstap__der r;

    (void)state;
    r.at = times;
    r.end = times + sizeof times - 1;
    dnstap__x509_time(&r, out);
    assert_string_equal(out, "20491231235959");
    dnstap__x509_time(&r, out);
    assert_string_equal(out, "19500101000000");
    dnstap__x509_time(&r, out);
    assert_string_equal(out, "20501231235959");
    dnstap__x509_time(&r, out);
    assert_string_equal(out, "");
    dnstap__x509_time(&r, out);
    assert_string_equal(out, "");
}

static void test_addresses_are_told_from_names(void **state)
{
    uint8_t address[16];

    (void)state;
    assert_int_equal(dnstap__parse_ip("192.0.2.1", address), 4);
    assert_memory_equal(address, "\xc0\0\x02\x01", 4);
    assert_int_equal(dnstap__parse_ip("2001:db8::1", address), 16);
    assert_int_equal(dnstap__parse_ip("fe80::1%lo", address), 16);
    assert_int_equal(dnstap__parse_ip("192.0.513", address), 4); /* as the system connects to it */
    assert_memory_equal(address, "\xc0\0\x02\x01", 4);
    assert_int_equal(dnstap__parse_ip("0x7f.1", address), 4);
    assert_memory_equal(address, "\x7f\0\0\x01", 4);
    assert_int_equal(dnstap__parse_ip("192.0.2.1 example", address), 0);
    assert_int_equal(dnstap__parse_ip("192.0.2.1.example", address), 0);
    assert_int_equal(dnstap__parse_ip("server.test", address), 0);
}

/* Every prefix of a certificate, and every byte of it changed: read within its memory. */
static void test_a_certificate_that_is_cut_or_changed_is_read_within_its_bounds(void **state)
{
    char who[72];
    dnstap_bytes pem;
    uint8_t *der;
    size_t size, i;

    (void)state;
    assert_int_equal(shell("openssl x509 -in server.pem -outform DER -out server.der"), 0);
    pem = block_of("server.der");
    size = pem.size;
    for (i = 0; i <= size; i++) {
        der = (uint8_t *)malloc(i ? i : 1);
        memcpy(der, pem.data, i);
        dnstap__x509_who(der, i, who, sizeof who);
        free(der);
    }
    der = (uint8_t *)malloc(size);
    for (i = 0; i < size * 256; i++) {
        memcpy(der, pem.data, size);
        der[i / 256] = (uint8_t)i;
        dnstap__x509_who(der, size, who, sizeof who);
    }
    memcpy(der, pem.data, size);
    dnstap__x509_who(der, size, who, sizeof who);
    assert_string_equal(who, "server.test");
    free(der);
    free_block(&pem);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_blocks_serve_as_files_do),
        cmocka_unit_test(test_ready_made_anchors_are_used_where_they_are),
        cmocka_unit_test(test_changed_files_are_read_again),
        cmocka_unit_test(test_files_that_broke_leave_what_was_loaded),
        cmocka_unit_test(test_a_renewed_certificate_needs_its_key),
        cmocka_unit_test(test_too_little_memory_is_told),
        cmocka_unit_test(test_keys_above_4096_bits_are_refused),
        cmocka_unit_test(test_buffers_that_are_too_small_are_refused),
        cmocka_unit_test(test_the_calendar_agrees_with_the_system),
        cmocka_unit_test(test_both_forms_of_a_certificates_time_are_read),
        cmocka_unit_test(test_addresses_are_told_from_names),
        cmocka_unit_test(test_a_certificate_that_is_cut_or_changed_is_read_within_its_bounds),
    };

    return RUN_TESTS(tests, make_certificates, remove_certificates);
}
