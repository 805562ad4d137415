/* The dresses in which CAs and keys come: every way a file may look and still be good, what is
 * damaged beside what is good, and files that are no files. */
#define _DEFAULT_SOURCE
#include "tls_support.h"

/* What cannot be used is skipped, and what can be used is used, in the file that a command writes
 * from ca.pem (self-signed), ca.key and server.pem. */
typedef struct dress {
    const char *name, *command;
    size_t anchors, skipped;
} dress;

/* clang-format off */
static const dress dresses[] = {
    {"plain", "cat ca.pem", 1, 0},
    {"CR LF", "sed 's/$/\\r/' ca.pem", 1, 0},
    {"CR", "tr '\\n' '\\r' <ca.pem", 1, 0},
    {"no final newline", "printf %s \"$(cat ca.pem)\"", 1, 0},
    {"blanks at the lines' ends", "sed 's/$/ \\t/' ca.pem", 1, 0},
    {"indented", "sed 's/^/  \\t/' ca.pem", 1, 0},
    {"empty lines between", "sed 's/$/\\n/' ca.pem", 1, 0},
    {"all in one line", "sed -n 1p ca.pem; grep -v -e - ca.pem | tr -d '\\n'; echo;"
                        " sed -n '$p' ca.pem", 1, 0},
    {"lines of 76", "sed -n 1p ca.pem; grep -v -e - ca.pem | tr -d '\\n' | fold -w 76; echo;"
                    " sed -n '$p' ca.pem", 1, 0},
    {"lines of 75", "sed -n 1p ca.pem; grep -v -e - ca.pem | tr -d '\\n' | fold -w 75; echo;"
                    " sed -n '$p' ca.pem", 1, 0},
    {"lines of 3", "sed -n 1p ca.pem; grep -v -e - ca.pem | tr -d '\\n' | fold -w 3; echo;"
                   " sed -n '$p' ca.pem", 1, 0},
    {"text around", "openssl x509 -in ca.pem -text; echo trailing text", 1, 0},
    {"comments", "echo '# ours'; cat ca.pem; echo '# that was ours'", 1, 0},
    {"bag attributes", "printf 'Bag Attributes\\n    friendlyName: x\\nsubject=CN = ca\\n';"
                       " cat ca.pem", 1, 0},
    {"DER", "openssl x509 -in ca.pem -outform DER", 1, 0},
    {"X509 CERTIFICATE", "sed 's/CERT/X509 CERT/' ca.pem", 1, 0},
    {"behind its key", "cat ca.key ca.pem", 1, 0},
    {"behind other objects", "openssl ecparam -name prime256v1; openssl pkey -in ca.key -pubout;"
                             " cat ca.pem", 1, 0},
    {"twice", "cat ca.pem ca.pem", 2, 0},
    {"behind a BOM", "printf '\\357\\273\\277'; cat ca.pem", 1, 0},
    {"behind text that begins with 0", "echo '0x1 is ours'; cat ca.pem", 1, 0},
    {"behind 0 and UTF-8", "printf '0\\303\\251\\n'; cat ca.pem", 1, 0},
    {"behind a short line", "echo 0; cat ca.pem", 1, 0},
    {"behind text in Latin-1", "printf 'gr\\374n\\n'; cat ca.pem", 1, 0},
    {"behind NULs and a long line", "head -c 100000 /dev/zero; echo; cat ca.pem", 1, 0},
    {"behind dashes", "echo -----; echo -----BEGINNING-----; cat ca.pem; echo -----END", 1, 0},

    {"behind a line of !!!!", "sed 3s/.*/!!!!/ other-ca.pem; cat ca.pem", 1, 1},
    {"behind one letter that is none", "sed '3s/./!/' other-ca.pem; cat ca.pem", 1, 1},
    {"behind a missing END", "sed '$d' other-ca.pem; cat ca.pem", 1, 1},
    {"behind half a line", "head -c 300 other-ca.pem; echo; cat ca.pem", 1, 1},
    {"behind BEGIN alone", "sed -n 1p ca.pem; cat ca.pem", 1, 1},
    {"behind BEGIN twice", "sed -n 1p ca.pem; cat ca.pem; sed -n 1p ca.pem; cat ca.pem", 2, 2},
    {"behind END alone", "sed -n '$p' ca.pem; cat ca.pem", 1, 0},
    {"behind a BEGIN without end", "printf -- '-----BEGIN '; head -c 500 /dev/zero; echo;"
                                   " cat ca.pem", 1, 0},
    {"behind = in the middle", "sed '3s/./=/' other-ca.pem; cat ca.pem", 1, 1},
    {"behind lost letters", "sed '3s/..../ /' other-ca.pem; cat ca.pem", 1, 1},
    {"behind rubbish in base64", "sed -n 1p ca.pem; head -c 90 /dev/urandom | openssl base64;"
                                 " sed -n '$p' ca.pem; cat ca.pem", 1, 1},
    {"behind nothing in base64", "sed -n '1p;$p' ca.pem; cat ca.pem", 1, 1},
    {"behind headers", "sed '1s/$/\\nProc-Type: 4,ENCRYPTED\\n/' ca.pem; cat ca.pem", 1, 1},
    {"before a missing END", "cat ca.pem; sed '$d' other-ca.pem", 1, 1},
    {"behind a damaged key", "sed 3s/.*/!!!!/ ca.key; cat ca.pem", 1, 0},
    {"behind a TRUSTED CERTIFICATE", "openssl x509 -in other-ca.pem -trustout -addreject"
                                     " serverAuth; cat ca.pem", 1, 1},
};
/* clang-format on */

static void write_dress(const char *command)
{
    char line[1024];

    snprintf(line, sizeof line, "{ %s; } >dress.pem", command);
    assert_int_equal(shell(line), 0);
}

static void test_cas_come_in_many_dresses(void **state)
{
    const dnstap__tls_store *store;
    pair *p = pair_new();
    size_t i, bad = 0;

    (void)state;
    p->client.options.ca_file = in_dir("dress.pem");
    for (i = 0; i < sizeof dresses / sizeof dresses[0]; i++) {
        write_dress(dresses[i].command);
        memset(&p->client.error, 0, sizeof p->client.error);
        (void)side_load(&p->client, false);
        store = &p->client.config->store[0];
        if (store->anchor_count == dresses[i].anchors && store->skipped == dresses[i].skipped)
            continue;
        print_error("%s: %u anchors, %u skipped; %s\n", dresses[i].name,
                    (unsigned)store->anchor_count, (unsigned)store->skipped, p->client.error.text);
        bad++;
    }
    assert_int_equal(bad, 0);
    pair_free(p);
}

static void test_a_dressed_ca_is_the_ca(void **state)
{
    static const char *const some[] = {"CR",
                                       "indented",
                                       "all in one line",
                                       "behind a BOM",
                                       "behind a missing END",
                                       "behind a line of !!!!"};
    size_t i, k, found = 0;
    pair *p;

    (void)state;
    for (i = 0; i < sizeof dresses / sizeof dresses[0]; i++)
        for (k = 0; k < sizeof some / sizeof some[0]; k++) {
            if (strcmp(dresses[i].name, some[k]) != 0) continue;
            write_dress(dresses[i].command);
            p = pair_new();
            p->client.options.ca_file = in_dir("dress.pem");
            pair_load(p);
            assert_int_equal(pair_handshake(p, NULL), DNSTAP_OK);
            pair_free(p);
            found++;
        }
    assert_int_equal(found, sizeof some / sizeof some[0]);
}

/* All pieces a source may come in end in the same anchors. */
static void test_a_source_may_come_in_pieces_of_any_size(void **state)
{
    static const char *const heads[] = {"", "\xef\xbb\xbf", "0 text\n", "-----BEG\n",
                                        "-----BEGIN x"};
    char *text = (char *)malloc(8192);
    uint8_t memory[4096];
    dnstap__tls_loader l;
    dnstap__tls_store store;
    size_t i, piece, size, at, n;
    FILE *file;

    (void)state;
    for (i = 0; i < sizeof heads / sizeof heads[0]; i++) {
        file = fopen(in_dir("ca.pem"), "rb");
        assert_non_null(file);
        strcpy(text, heads[i]);
        if (heads[i][0] && heads[i][strlen(heads[i]) - 1] == 'x') strcat(text, "-----\nAAAA\n");
        size = strlen(text);
        size += fread(text + size, 1, 8000, file);
        fclose(file);
        for (piece = 1; piece < 64; piece++) {
            memset(&store, 0, sizeof store);
            memset(&l, 0, sizeof l);
            store.arena.base = memory;
            store.arena.size = sizeof memory;
            l.store = &store;
            l.kind = DNSTAP__TLS_CA;
            for (at = 0; at < size; at += n) {
                n = piece < size - at ? piece : size - at;
                assert_int_equal(dnstap__tls_feed(&l, text + at, n), DNSTAP_OK);
            }
            assert_int_equal(dnstap__tls_feed_end(&l), DNSTAP_OK);
            assert_int_equal(store.anchor_count, 1);
        }
    }
    free(text);
}

static void test_a_damaged_key_costs_none_behind_it(void **state)
{
    pair *p = pair_new();

    (void)state;
    p->server.options.key_file = in_dir("dress.pem");
    write_dress("sed 2s/.*/!!!!/ server.key; cat server.key");
    assert_int_equal(side_load(&p->server, true), DNSTAP_OK);
    write_dress("sed '$d' server.key; cat server.key");
    assert_int_equal(side_load(&p->server, true), DNSTAP_OK);
    write_dress("sed 2s/.*/!!!!/ server.key");
    assert_int_equal(side_load(&p->server, true), DNSTAP_TLS);
    assert_non_null(strstr(p->server.error.text, "private key is malformed or cut off"));
    pair_free(p);
}

static void test_a_chain_with_a_hole_is_refused(void **state)
{
    pair *p = pair_new();

    (void)state;
    p->server.options.cert_file = in_dir("dress.pem");
    write_dress("cat server.pem; sed 2s/.*/!!!!/ ca.pem");
    assert_int_equal(side_load(&p->server, true), DNSTAP_TLS);
    assert_non_null(strstr(p->server.error.text, "certificate is malformed or cut off"));
    write_dress("cat server.pem; sed '$d' ca.pem; cat ca.pem");
    assert_int_equal(side_load(&p->server, true), DNSTAP_TLS);
    pair_free(p);
}

/* -- no files -- */

static void check_ends(const char *path, const char *text)
{
    uint64_t before = real_ms();
    pair *p = pair_new();

    p->client.options.ca_file = path;
    assert_true(side_load(&p->client, false) < 0);
    if (!strstr(p->client.error.text, text)) print_error("%s\n", p->client.error.text);
    assert_non_null(strstr(p->client.error.text, text));
    assert_true(real_ms() - before < 10000);
    pair_free(p);
}

static void test_what_has_no_end_ends(void **state)
{
    (void)state;
    check_ends("/dev/zero", "more than 16777216 bytes");
    assert_int_equal(shell("cat ca.pem >huge.pem; truncate -s 100G huge.pem"), 0);
    check_ends(in_dir("huge.pem"), "more than 16777216 bytes");
    check_ends("/dev/null", "no certificate");
    check_ends("/", "Is a directory");
    assert_int_equal(shell("mkfifo endless; { yes >endless & }"), 0);
    check_ends(in_dir("endless"), "more than 16777216 bytes");
}

static void test_a_pipe_nobody_writes_to_is_waited_for_and_given_up(void **state)
{
    (void)state;
    assert_int_equal(shell("mkfifo silent"), 0);
    check_ends(in_dir("silent"), "what writes to it did not end in 4000 ms");
}

static void test_a_pipe_with_a_writer_serves_as_a_file(void **state)
{
    pair *p = pair_new();

    (void)state;
    assert_int_equal(shell("mkfifo pipe; "
                           "{ { head -n 3 ca.pem; sleep 0.3; tail -n +4 ca.pem; } >pipe & }"),
                     0);
    p->client.options.ca_file = in_dir("pipe");
    pair_load(p);
    assert_int_equal(pair_handshake(p, NULL), DNSTAP_OK);
    pair_free(p);
}

/* As a shell's <(command) is given. */
static void test_a_process_substitution_serves_as_a_file(void **state)
{
    FILE *file = fopen(in_dir("ca.pem"), "rb");
    char text[4096], path[32];
    pair *p = pair_new();
    int ends[2];
    size_t n;

    (void)state;
    assert_non_null(file);
    assert_int_equal(pipe(ends), 0);
    n = fread(text, 1, sizeof text, file);
    assert_int_equal(write(ends[1], text, n), n);
    close(ends[1]);
    snprintf(path, sizeof path, "/dev/fd/%d", ends[0]);
    p->client.options.ca_file = path;
    pair_load(p);
    close(ends[0]); /* as daemons do */
    dnstap__tls_reload(p->client.config);
    assert_string_equal(p->client.config->note, "");
    assert_int_equal(pair_handshake(p, NULL), DNSTAP_OK);
    fclose(file);
    pair_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cas_come_in_many_dresses),
        cmocka_unit_test(test_a_dressed_ca_is_the_ca),
        cmocka_unit_test(test_a_source_may_come_in_pieces_of_any_size),
        cmocka_unit_test(test_a_damaged_key_costs_none_behind_it),
        cmocka_unit_test(test_a_chain_with_a_hole_is_refused),
        cmocka_unit_test(test_what_has_no_end_ends),
        cmocka_unit_test(test_a_pipe_nobody_writes_to_is_waited_for_and_given_up),
        cmocka_unit_test(test_a_pipe_with_a_writer_serves_as_a_file),
        cmocka_unit_test(test_a_process_substitution_serves_as_a_file),
    };

    return RUN_TESTS(tests, make_certificates, remove_certificates);
}
