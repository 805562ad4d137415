/* Whom TLS trusts: what a CA's certificate says of itself counts, names are subjectAltName's, and
 * what is said of a refusal is true and can be shown, whatever the certificate holds. */
#define _DEFAULT_SOURCE
#include "tls_support.h"

/* More certificates: CAs of the key and the name of `ca`, each with something of its own, and
 * leaves and chains that `ca` signed. */
static int make_more(void **state)
{
    static const char script[] =
        "export OPENSSL_CONF=cnf;"
        "self() { name=$1 constraints=$2; shift 2; options=; for e; do options=\"$options -addext "
        "$e\";"
        "  done; openssl req -x509 -days 30 -key ca.key -out $name.pem -subj /CN=ca"
        "  -addext basicConstraints=$constraints $options; };"
        "leaf() { openssl req -x509 -CA ca.pem -CAkey ca.key -key server.key -days 30 -out $1.pem"
        "  -subj \"$2\" ${3:+-addext} $3; };"
        "dated() { : >index; echo 0$1 >serial; openssl ca -batch -notext -config ca.cnf -selfsign"
        "  -keyfile ca.key -in ca.csr -startdate $2 -enddate $3 -out $4.pem; };"
        "printf '[ca]\\ndefault_ca = d\\n[d]\\ndatabase = index\\nserial = serial\\n"
        "new_certs_dir = .\\npolicy = p\\ndefault_md = sha256\\nx509_extensions = e\\n"
        "unique_subject = no\\n[p]\\ncommonName = supplied\\n"
        "[e]\\nbasicConstraints = critical,CA:TRUE\\n' >ca.cnf;"
        "openssl req -new -key ca.key -subj /CN=ca -out ca.csr &&"
        "dated 1 20200101000000Z 20210101000000Z past &&"
        "dated 2 20400101000000Z 20610101000000Z future &&"
        "openssl x509 -req -in ca.csr -signkey ca.key -days 30 -out v1.pem &&"
        "yes=critical,CA:TRUE;"
        "self no critical,CA:FALSE &&"
        "self usage $yes keyUsage=critical,cRLSign,digitalSignature &&"
        "self signs $yes keyUsage=critical,keyCertSign &&"
        "self narrow $yes nameConstraints=critical,permitted\\;DNS:.other &&"
        "self hint $yes nameConstraints=permitted\\;DNS:.other &&"
        "self purpose $yes extendedKeyUsage=critical,serverAuth &&"
        "self unknown $yes 1.2.3.4=critical,ASN1:NULL &&"
        "self known $yes crlDistributionPoints=critical,URI:http://a.test/ &&"
        "self flat $yes,pathlen:0 && self one $yes,pathlen:1 &&"
        "sed 's/.req./&\\nstring_mask = nombstr/' cnf >printable.cnf &&"
        "sed 's/.req./&\\nstring_mask = MASK:2048/' cnf >wide.cnf &&"
        "OPENSSL_CONF=printable.cnf self printable $yes &&"
        "OPENSSL_CONF=wide.cnf self wide $yes &&"
        "openssl req -x509 -newkey rsa:1024 -nodes -days 30 -keyout weak.key -out weak.pem"
        "  -subj /CN=ca -addext basicConstraints=$yes &&"
        "openssl req -x509 -newkey ed25519 -nodes -days 30 -keyout edwards.key -out edwards.pem"
        "  -subj /CN=ca -addext basicConstraints=$yes &&"
        "openssl ecparam -name prime256v1 -genkey -noout -out twin.key &&"
        "openssl req -x509 -key twin.key -days 30 -out twin.pem -subj /CN=ca"
        "  -addext basicConstraints=$yes &&"
        "openssl req -x509 -CA ca.pem -CAkey ca.key -key twin.key -days 30 -out middle.pem"
        "  -subj /CN=middle -addext basicConstraints=$yes &&"
        "openssl req -x509 -CA middle.pem -CAkey twin.key -key server.key -days 30 -out deep.pem"
        "  -subj /CN=server.test -addext subjectAltName=DNS:server.test && cat middle.pem "
        ">>deep.pem &&"
        "cat server.pem printable.pem >withroot.pem &&"
        "leaf cn /CN=server.test && leaf cn127 /CN=127.1 &&"
        "leaf onlyip /CN=server.test subjectAltName=IP:127.0.0.1 &&"
        "leaf mail /CN=server.test subjectAltName=email:a@server.test &&"
        "leaf mapped /CN=x subjectAltName=IP:::ffff:192.0.2.1 &&"
        "leaf plain /CN=x subjectAltName=IP:192.0.2.1,DNS:127.1 &&"
        "leaf six /CN=x subjectAltName=IP:2001:db8::1";
    char file[64];
    FILE *out;

    if (make_certificates(state) != 0) return -1;
    snprintf(file, sizeof file, "%s", in_dir("more"));
    out = fopen(file, "w");
    if (!out) return -1;
    fputs(script, out);
    fclose(out);
    return shell("sh ./more");
}

/* -- what a CA's certificate says of itself -- */

typedef struct claim {
    const char *cas, *server; /* files: the CAs, and what the server shows */
    int code;                 /* 0: accepted */
    const char *text, *note;
} claim;

/* clang-format off */
static const claim claims[] = {
    {"ca", "server", 0, "", ""},
    {"past other-ca", "server", BR_ERR_X509_EXPIRED,
     "the CA's certificate is valid from 2020-01-01 to 2021-01-01, and the clock says", ""},
    {"future other-ca", "server", BR_ERR_X509_EXPIRED, "from 2040-01-01 to 2061-01-01", ""},
    {"past", "server", BR_ERR_X509_EXPIRED, "2021-01-01", ""},
    {"past ca", "server", 0, "", ""},
    {"future past ca", "server", 0, "", ""},
    {"ca past future", "server", 0, "", ""},
    {"v1 other-ca", "server", BR_ERR_X509_NOT_TRUSTED, "is not marked as a CA's", "no CA's"},
    {"no other-ca", "server", BR_ERR_X509_NOT_TRUSTED, "is not marked as a CA's", "no CA's"},
    {"usage other-ca", "server", BR_ERR_X509_NOT_TRUSTED, "keyCertSign", "keyCertSign"},
    {"signs", "server", 0, "", ""},
    {"narrow other-ca", "server", BR_ERR_X509_NOT_TRUSTED, "critical extension", "critical"},
    {"hint", "server", 0, "", ""},
    {"purpose other-ca", "server", BR_ERR_X509_NOT_TRUSTED, "critical extension", "critical"},
    {"unknown other-ca", "server", BR_ERR_X509_NOT_TRUSTED, "critical extension", "critical"},
    {"known", "server", 0, "", ""},
    {"weak other-ca", "server", BR_ERR_X509_NOT_TRUSTED, "2048", "2048"},
    {"edwards other-ca", "server", BR_ERR_X509_NOT_TRUSTED, "P-256", "P-256"},
    {"flat", "server", 0, "", ""},
    {"flat", "deep", DNSTAP__TLS_TOO_DEEP, "longer than its CA allows", ""},
    {"one", "deep", 0, "", ""},
    {"ca", "deep", 0, "", ""},
    {"twin flat other-ca", "deep", DNSTAP__TLS_TOO_DEEP, "longer than its CA allows", ""},
    {"twin", "server", BR_ERR_X509_NOT_TRUSTED, "with another key", ""},
    {"twin ca", "server", 0, "", ""},
    {"printable", "server", BR_ERR_X509_NOT_TRUSTED, "another type of string", ""},
    {"wide", "server", BR_ERR_X509_NOT_TRUSTED, "another type of string", ""},
    {"printable", "withroot", BR_ERR_X509_NOT_TRUSTED, "another type of string", ""},
    {"other-ca", "withroot", BR_ERR_X509_DN_MISMATCH, "out of order", ""},
    {"other-ca", "server", BR_ERR_X509_NOT_TRUSTED, "is of no CA in", ""},
    {"other-ca", "deep", BR_ERR_X509_NOT_TRUSTED, "is of no CA in", ""},
    {"server", "server", 0, "", "no CA's, and trusted for themselves only: 1"},
    {"usage v1 narrow other-ca", "server", BR_ERR_X509_NOT_TRUSTED, "", "skipped: 2; the first"},
};
/* clang-format on */

static bool check_claim(const claim *c)
{
    char line[256], server[64];
    pair *p = pair_new();
    bool good;

    snprintf(line, sizeof line, "for c in %s; do cat $c.pem; done >cas.pem", c->cas);
    assert_int_equal(shell(line), 0);
    snprintf(server, sizeof server, "%s.pem", c->server);
    p->client.options.ca_file = in_dir("cas.pem");
    p->server.options.cert_file = in_dir(server);
    if (side_load(&p->client, false) < 0) print_error("%s\n", p->client.error.text);
    assert_int_equal(side_load(&p->server, true), DNSTAP_OK);
    p->to_client.ended = false;
    while (side_start(&p->client) == DNSTAP_AGAIN && !p->client.tls->error.code)
        (void)side_start(&p->server);
    good = p->client.tls->error.sys_errno == c->code &&
           (c->code != 0) == (p->client.tls->state != DNSTAP__TLS_OPEN) &&
           strstr(p->client.tls->error.text, c->text) &&
           (c->note[0] ? strstr(p->client.config->note, c->note) != NULL
                       : !p->client.config->note[0]);
    if (!good)
        print_error("%s, %s: %d %s; note %s\n", c->cas, c->server, p->client.tls->error.sys_errno,
                    p->client.tls->error.text, p->client.config->note);
    pair_free(p);
    return good;
}

static void test_what_a_ca_says_of_itself_counts(void **state)
{
    size_t i, bad = 0;

    (void)state;
    for (i = 0; i < sizeof claims / sizeof claims[0]; i++) bad += !check_claim(&claims[i]);
    assert_int_equal(bad, 0);
}

static void test_a_file_with_no_use_says_why(void **state)
{
    static const char *const files[][2] = {{"usage.pem", "keyCertSign"},
                                           {"narrow.pem", "critical extension"},
                                           {"edwards.pem", "P-256"},
                                           {"weak.pem", "2048"}};
    pair *p = pair_new();
    size_t i;

    (void)state;
    for (i = 0; i < sizeof files / sizeof files[0]; i++) {
        p->client.options.ca_file = in_dir(files[i][0]);
        assert_int_equal(side_load(&p->client, false), DNSTAP_TLS);
        assert_non_null(strstr(p->client.error.text, "no certificate in it that can be used"));
        assert_non_null(strstr(p->client.error.text, files[i][1]));
    }
    pair_free(p);
}

static uint64_t clock_now;
static uint64_t hand_clock(void *user)
{
    (void)user;
    return clock_now;
}

/* The same anchors, loaded once, at different times. */
static void test_dates_of_a_ca_are_looked_at_in_each_handshake(void **state)
{
    static const char *const order[] = {"past ca future", "future ca past", "ca future past"};
    char line[128];
    size_t i;
    int k;
    pair *p;

    (void)state;
    for (i = 0; i < 3; i++) {
        snprintf(line, sizeof line, "for c in %s; do cat $c.pem; done >cas.pem", order[i]);
        assert_int_equal(shell(line), 0);
        p = pair_new();
        p->client.options.ca_file = in_dir("cas.pem");
        p->client.options.unix_time = hand_clock;
        pair_load(p);
        for (k = 0; k < 4; k++) {
            clock_now = k % 2 ? dnstap__unix_time(NULL)
                              : 1600000000u; /* 2020: the leaf is not yet */
            assert_int_equal(dnstap__tls_begin(p->client.tls), DNSTAP_OK);
            assert_int_equal(p->client.tls->verifier.as.minimal.trust_anchors_num, 1);
        }
        clock_now = 2400000000u; /* 2046: only the future's */
        assert_int_equal(dnstap__tls_begin(p->client.tls), DNSTAP_OK);
        assert_int_equal(p->client.tls->verifier.as.minimal.trust_anchors_num, 1);
        clock_now = 1800000000u; /* 2027: none */
        assert_int_equal(dnstap__tls_begin(p->client.tls), DNSTAP_OK);
        assert_int_equal(p->client.tls->verifier.as.minimal.trust_anchors_num, 0);
        pair_free(p);
    }
}

/* Not a single CA can be used: nobody comes in, with a certificate or without. */
static void test_a_server_whose_cas_are_expired_lets_nobody_in(void **state)
{
    static const char *const clients[] = {NULL, "client"};
    char cert[64], key[64];
    size_t i;
    int server;
    pair *p;

    (void)state;
    for (i = 0; i < 2; i++) {
        p = pair_new();
        p->server.options.ca_file = in_dir("past.pem");
        snprintf(cert, sizeof cert, "%s", in_dir("client.pem"));
        snprintf(key, sizeof key, "%s", in_dir("client.key"));
        p->client.options.cert_file = clients[i] ? cert : NULL;
        p->client.options.key_file = clients[i] ? key : NULL;
        pair_load(p);
        while (!p->server.tls->error.code) {
            (void)side_start(&p->client);
            server = side_start(&p->server);
            assert_int_not_equal(server, DNSTAP_OK);
        }
        assert_int_equal(p->server.tls->error.sys_errno,
                         clients[i] ? BR_ERR_X509_EXPIRED : BR_ERR_NO_CLIENT_AUTH);
        pair_free(p);
    }
}

/* -- names -- */

static void test_names_are_those_in_subject_alt_name(void **state)
{
    static const struct {
        const char *server, *name;
        bool match;
        const char *text;
    } names[] = {
        {"server", "server.test", true, ""},
        {"server", "SERVER.test.", true, ""},
        {"server", "127.0.0.1", true, ""},
        {"server", "127.0.0.1.", true, ""},
        {"server", "127.1", true, ""},
        {"server", "0x7f000001", true, ""},
        {"server", "::ffff:127.0.0.1", true, ""},
        {"server", "::ffff:127.0.0.2", false, "not for the address \"0000:0000:"},
        {"cn", "server.test", false, "has no subjectAltName, and its common name \"server.test\""},
        {"cn", "other.test", false, "issue it with DNS:other.test"},
        {"cn127", "127.1", false, "issue it with IP:127.0.0.1"},
        {"cn127", "127.0.0.1", false, "issue it with IP:127.0.0.1"},
        {"plain", "127.1", false, "not for the address \"127.0.0.1\""},
        {"onlyip", "server.test", false, "certificate is for \"127.0.0.1\", not \"server.test\""},
        {"mail", "server.test", false, "not \"server.test\""},
        {"mapped", "192.0.2.1", true, ""},
        {"mapped", "::ffff:c000:201", true, ""},
        {"mapped", "::192.0.2.1", false, ""},
        {"plain", "::ffff:192.0.2.1", true, ""},
        {"plain", "192.0.2.2", false, "not for the address \"192.0.2.2\""},
        {"six", "2001:DB8::1", true, ""},
        {"six", "2001:db8::2", false, ""},
        {"six", "1.2.3.4", false, ""},
    };
    char file[64];
    size_t i, bad = 0;
    pair *p;
    bool match;

    (void)state;
    for (i = 0; i < sizeof names / sizeof names[0]; i++) {
        p = pair_new();
        snprintf(file, sizeof file, "%s.pem", names[i].server);
        p->server.options.cert_file = in_dir(file);
        p->client.options.server_name = names[i].name;
        pair_load(p);
        while (side_start(&p->client) == DNSTAP_AGAIN && !p->client.tls->error.code)
            (void)side_start(&p->server);
        match = p->client.tls->state == DNSTAP__TLS_OPEN;
        if (match != names[i].match || !strstr(p->client.tls->error.text, names[i].text) ||
            (!match && p->client.tls->error.sys_errno != BR_ERR_X509_BAD_SERVER_NAME)) {
            print_error("%s, %s: %s\n", names[i].server, names[i].name, p->client.tls->error.text);
            bad++;
        }
        pair_free(p);
    }
    assert_int_equal(bad, 0);
}

/* -- texts -- */

enum { DER = 2048 };

static size_t server_der(uint8_t der[DER])
{
    FILE *file;
    size_t n;

    assert_int_equal(shell("openssl x509 -in server.pem -outform DER -out server.der"), 0);
    file = fopen(in_dir("server.der"), "rb");
    assert_non_null(file);
    n = fread(der, 1, DER, file);
    fclose(file);
    return n;
}

static uint8_t *find(uint8_t *der, size_t size, const char *bytes, size_t n)
{
    size_t i;

    for (i = 0; i + n <= size; i++)
        if (memcmp(der + i, bytes, n) == 0) return der + i;
    fail_msg("not there");
    return NULL;
}

/* What a client says of a server that shows this certificate, and has no key at all. */
static const char *said_of(pair *p, const uint8_t *der, size_t size, unsigned *code)
{
    dnstap__tls *t = p->client.tls;
    const br_x509_class **class_ = &t->verifier.vtable;

    assert_int_equal(dnstap__tls_begin(t), DNSTAP_OK);
    (*class_)->start_chain(class_, t->config->name);
    (*class_)->start_cert(class_, (uint32_t)size);
    (*class_)->append(class_, der, size);
    (*class_)->end_cert(class_);
    *code = (*class_)->end_chain(class_);
    (void)dnstap__tls_refuse(t, (int)*code);
    return t->error.text;
}

static void check_shown(const char *text)
{
    const char *p;

    for (p = text; *p; p++)
        if (*p < ' ' || *p > '~') fail_msg("%02x in a text", (unsigned char)*p);
}

static void test_a_hostile_date_is_parsed_and_not_printed(void **state)
{
    uint8_t der[DER], *from, *to;
    size_t size = server_der(der);
    pair *p = pair_new();
    const char *text;
    unsigned code;

    (void)state;
    pair_load(p);
    from = find(der, size, "\x17\x0d", 2);
    memcpy(from + 2, "49", 2); /* in the future: BearSSL looks no further */
    to = from + 15;
    assert_memory_equal(to, "\x17\x0d", 2);
    memcpy(to + 2,
           "\x1b[2J\n\r\x9b"
           "31mZ",
           11);
    text = said_of(p, der, size, &code);
    assert_int_equal(code, BR_ERR_X509_EXPIRED);
    check_shown(text);
    assert_non_null(strstr(text, "valid from 2049-"));
    assert_non_null(strstr(text, "to unreadable, and"));
    pair_free(p);
}

static void test_a_hostile_name_is_shown_and_not_obeyed(void **state)
{
    uint8_t der[DER];
    size_t size = server_der(der);
    pair *p = pair_new();
    char subject[DNSTAP__WHO];
    const char *text;
    unsigned code;

    (void)state;
    pair_load(p);
    memcpy(find(der, size, "\x82\x0bserver", 8) + 2, "a\x1b]0;b\x07\n\xc2\x9b", 10);
    memcpy(find(der, size, "\x0c\x0bserver", 8) + 2,
           "gr\xc3\xbc"
           "n\x1b[2J\n",
           10);
    text = said_of(p, der, size, &code);
    assert_int_equal(code, BR_ERR_X509_BAD_SERVER_NAME);
    check_shown(text);
    assert_non_null(strstr(text, "for \"a\\x1b]0;b\\x07\\x0a\\xc2\\x9bt\", not"));
    dnstap__tls_subject(p->client.tls, subject, sizeof subject); /* as a listening tap shows it */
    assert_string_equal(subject, "gr\xc3\xbc"
                                 "n\\x1b[2J\\x0at");
    pair_free(p);
}

/* Once data flows, an alert is about this data. */
static void test_an_alert_on_a_running_connection_is_not_about_suites(void **state)
{
    static const int handshakes[] = {40, 42, 46, 48, 51, 70, 112, 116};
    pair *p = pair_connected();
    dnstap__tls *t = p->client.tls;
    size_t i;
    int code;

    (void)state;
    (void)dnstap__tls_fail(t, BR_ERR_RECV_FATAL_ALERT + 40);
    assert_non_null(strstr(t->error.text, "ended the running connection"));
    assert_non_null(strstr(t->error.text, "(alert 40)"));
    for (i = 0; i < sizeof handshakes / sizeof handshakes[0]; i++) {
        t->state = DNSTAP__TLS_OPEN;
        (void)dnstap__tls_fail(t, BR_ERR_RECV_FATAL_ALERT + handshakes[i]);
        assert_non_null(strstr(t->error.text, "ended the running connection"));
        (void)dnstap__tls_fail(t, BR_ERR_RECV_FATAL_ALERT + handshakes[i]); /* not open any more */
        assert_null(strstr(t->error.text, "ended the running connection"));
    }
    for (code = 1; code < 1100; code++) {
        assert_null(strstr(dnstap__tls_late_text_of(code), "is that a TLS port"));
        assert_null(strstr(dnstap__tls_late_text_of(code), "suite"));
    }
    pair_free(p);
}

/* -- memory -- */

static void test_skipverify_takes_no_memory_for_cas(void **state)
{
    dnstap_options o;
    pair *p = pair_new();
    size_t with_cas, without, with_key;

    (void)state;
    memset(&o, 0, sizeof o);
    o.endpoint = "tls://192.0.2.1:6000";
    with_cas = dnstap_memory_size(&o);
    o.skipverify = true;
    without = dnstap_memory_size(&o);
    assert_true(without + 2 * (128 << 10) <= with_cas);
    o.ca_file = in_dir("ca.pem"); /* which is not even read */
    o.ca_memory = 1 << 20;
    assert_in_range(dnstap_memory_size(&o), without, without + 256);
    o.ca_memory = 0;
    o.cert_file = in_dir("client.pem");
    o.key_file = in_dir("client.key");
    with_key = dnstap_memory_size(&o);
    assert_true(with_key > without && with_key <= without + (65 << 10));
    p->client.options = o;
    p->server.options.ca_file = in_dir("ca.pem");
    pair_load(p);
    assert_int_equal(pair_handshake(p, NULL), DNSTAP_OK);
    pair_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_a_ca_says_of_itself_counts),
        cmocka_unit_test(test_a_file_with_no_use_says_why),
        cmocka_unit_test(test_dates_of_a_ca_are_looked_at_in_each_handshake),
        cmocka_unit_test(test_a_server_whose_cas_are_expired_lets_nobody_in),
        cmocka_unit_test(test_names_are_those_in_subject_alt_name),
        cmocka_unit_test(test_a_hostile_date_is_parsed_and_not_printed),
        cmocka_unit_test(test_a_hostile_name_is_shown_and_not_obeyed),
        cmocka_unit_test(test_an_alert_on_a_running_connection_is_not_about_suites),
        cmocka_unit_test(test_skipverify_takes_no_memory_for_cas),
    };

    return RUN_TESTS(tests, make_more, remove_certificates);
}
