/* Files that change while a tap runs: every way from good to bad and back; and keys, of which
 * nothing may stay in memory that is not in use. */
#define _DEFAULT_SOURCE
#include "tls_support.h"

#include <sys/resource.h>

static pair *changing(const char *command)
{
    pair *p = pair_new();

    assert_int_equal(shell(command), 0);
    p->client.options.ca_file = in_dir("changing.pem");
    pair_load(p);
    return p;
}

static const char *note_after(pair *p, const char *command)
{
    assert_int_equal(shell(command), 0);
    dnstap__tls_reload(p->client.config);
    return p->client.config->note;
}

/* Whether the CA in use is that of the server; the other pair of buffers is for the next. */
static bool connects(pair *p)
{
    bool connected = pair_handshake(p, NULL) == DNSTAP_OK;

    side_close(&p->client);
    side_close(&p->server);
    p->to_client.used = p->to_server.used = 0;
    p->to_client.ended = p->to_server.ended = false;
    return connected;
}

static void test_files_that_come_back_are_read_again(void **state)
{
    static const char *const ways[][3] = {
        {"ln -sf ca.pem changing.pem", "ln -sf other-ca.pem changing.pem",
         "ln -sf ca.pem changing.pem"},
        {"rm -f changing.pem; cp ca.pem changing.pem",
         "mv changing.pem away; cp other-ca.pem changing.pem", "mv away changing.pem"},
        {"rm -f changing.pem; cp ca.pem changing.pem", "cp -p other-ca.pem changing.pem",
         "cp -p ca.pem changing.pem"},
    };
    pair *p;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        p = changing(ways[i][0]);
        assert_true(connects(p));
        assert_string_equal(note_after(p, ways[i][1]), "");
        assert_false(connects(p));
        assert_string_equal(note_after(p, ways[i][2]), "");
        assert_true(connects(p));
        assert_string_equal(note_after(p, ways[i][1]), "");
        assert_false(connects(p));
        pair_free(p);
    }
}

/* Same size, same time of modification, same inode: what was written shows all the same. */
static void test_a_change_that_hides_its_time_is_seen(void **state)
{
    pair *p = changing("rm -f changing.pem; cp other-ca.pem changing.pem;"
                       "touch -d 2020-01-01 changing.pem; sleep 0.05");

    (void)state;
    assert_string_equal(note_after(p, "dd if=ca.pem of=changing.pem conv=notrunc;"
                                      "touch -d 2020-01-01 changing.pem"),
                        "");
    assert_true(connects(p));
    pair_free(p);
}

static void test_a_file_half_written_is_read_when_it_is_whole(void **state)
{
    pair *p = changing("rm -f changing.pem; cp other-ca.pem changing.pem");

    (void)state;
    assert_non_null(strstr(note_after(p, "head -n 4 ca.pem >changing.pem"), "stays in use"));
    assert_string_equal(note_after(p, ":"), ""); /* it was said */
    assert_string_equal(note_after(p, "tail -n +5 ca.pem >>changing.pem"), "");
    assert_true(connects(p));
    pair_free(p);
}

static void test_a_file_that_is_missing_for_a_while_is_read_when_it_is_back(void **state)
{
    pair *p = changing("rm -f changing.pem; cp other-ca.pem changing.pem");

    (void)state;
    assert_non_null(strstr(note_after(p, "rm changing.pem"), "No such file"));
    assert_string_equal(note_after(p, ":"), "");
    assert_string_equal(note_after(p, "cp ca.pem changing.pem"), "");
    assert_true(connects(p));
    assert_non_null(strstr(note_after(p, "rm changing.pem"), "No such file")); /* anew, so said */
    pair_free(p);
}

/* Nothing about the file changes when the reason goes: it must be tried, not looked at. */
static void test_a_reason_outside_the_file_is_tried_again(void **state)
{
    struct rlimit files, none = {3, 0};
    pair *p = changing("rm -f changing.pem; cp other-ca.pem changing.pem");

    (void)state;
    assert_int_equal(shell("cp ca.pem changing.pem"), 0);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &files), 0);
    none.rlim_max = files.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    dnstap__tls_reload(p->client.config);
    assert_non_null(strstr(p->client.config->note, "Too many open files"));
    dnstap__tls_reload(p->client.config);
    assert_string_equal(p->client.config->note, ""); /* said once */
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &files), 0);
    dnstap__tls_reload(p->client.config);
    assert_string_equal(p->client.config->note, "");
    assert_true(connects(p));
    pair_free(p);
}

/* As root, who may read all, a parent that is a file stands for a right that is missing. */
static void test_a_path_that_is_barred_for_a_while_is_tried_again(void **state)
{
    pair *p;

    (void)state;
    assert_int_equal(shell("mkdir folder && cp other-ca.pem folder/changing.pem"), 0);
    p = pair_new();
    p->client.options.ca_file = in_dir("folder/changing.pem");
    pair_load(p);
    assert_int_equal(shell("cp ca.pem folder/changing.pem; mv folder moved; : >folder"), 0);
    dnstap__tls_reload(p->client.config);
    assert_non_null(strstr(p->client.config->note, "Not a directory"));
    assert_int_equal(shell("rm folder; mv moved folder"), 0);
    dnstap__tls_reload(p->client.config);
    assert_string_equal(p->client.config->note, "");
    assert_true(connects(p));
    pair_free(p);
}

static void test_a_pipe_is_not_waited_for_in_a_running_tap(void **state)
{
    pair *p = changing("rm -f changing.pem; cp ca.pem changing.pem");

    (void)state;
    assert_non_null(
        strstr(note_after(p, "rm changing.pem; mkfifo changing.pem"), "no regular file"));
    assert_string_equal(note_after(p, ":"), "");
    assert_true(connects(p));
    pair_free(p);
}

/* -- keys -- */

enum { MEMORY = 1 << 21 };

typedef struct secret {
    uint8_t bytes[64];
    size_t size;
} secret;

/* The number that is a P-256 key. */
static secret secret_of(const char *key)
{
    char line[256];
    secret s;
    FILE *file;

    snprintf(line, sizeof line, "openssl ec -in %s -outform DER -out secret.der", key);
    assert_int_equal(shell(line), 0);
    file = fopen(in_dir("secret.der"), "rb");
    assert_non_null(file);
    assert_int_equal(fread(s.bytes, 1, 39, file), 39);
    fclose(file);
    memmove(s.bytes, s.bytes + 7, s.size = 32);
    return s;
}

static bool holds(const uint8_t *memory, const void *bytes, size_t size)
{
    size_t i;

    for (i = 0; i + size <= MEMORY; i++)
        if (memory[i] == *(const uint8_t *)bytes && memcmp(memory + i, bytes, size) == 0)
            return true;
    return false;
}

static dnstap_options tap_options(void)
{
    dnstap_options o;

    memset(&o, 0, sizeof o);
    o.endpoint = "tls://127.0.0.1:1";
    o.ring_size = 4096;
    o.max_message = 1024;
    o.ca_file = in_dir("ca.pem");
    o.cert_file = in_dir("mine.pem");
    return o;
}

static dnstap_bytes text_of(const char *file)
{
    static char text[4096];
    FILE *f = fopen(in_dir(file), "rb");
    size_t n;

    assert_non_null(f);
    n = fread(text, 1, sizeof text, f);
    fclose(f);
    return dnstap_bytes_of(text, n);
}

static void test_a_close_leaves_no_key(void **state)
{
    dnstap_options o = tap_options();
    secret s = secret_of("client.key");
    uint8_t *memory = (uint8_t *)calloc(1, MEMORY);
    dnstap_error error;
    dnstap_tap *tap;

    (void)state;
    assert_int_equal(shell("cp client.pem mine.pem"), 0);
    o.key = text_of("client.key");
    tap = dnstap_open_in(memory, MEMORY, &o, &error);
    assert_non_null(tap);
    assert_true(holds(memory, s.bytes, s.size));
    assert_true(holds(memory, (const char *)o.key.data + 40, 60)); /* the copy of the option */
    dnstap_close(tap, 0);
    assert_false(holds(memory, s.bytes, 8));
    assert_false(holds(memory, s.bytes + 16, 8));
    assert_false(holds(memory, (const char *)o.key.data + 40, 16));
    free(memory);
}

/* With a certificate of another key, a CA file that is not there, a key cut off, and no room. */
static void test_a_failed_open_leaves_no_key(void **state)
{
    dnstap_options o[4];
    secret s = secret_of("client.key");
    uint8_t *memory = (uint8_t *)calloc(1, MEMORY);
    dnstap_error error;
    dnstap_bytes key;
    size_t i;

    (void)state;
    assert_int_equal(shell("cp client.pem mine.pem; sed '$d' client.key >cut.key"), 0);
    key = text_of("client.key");
    for (i = 0; i < 4; i++) {
        o[i] = tap_options();
        o[i].key = key;
    }
    o[0].cert_file = in_dir("server.pem");
    o[1].ca_file = in_dir("nosuch.pem");
    o[2].key_file = in_dir("cut.key");
    o[3].ca_memory = 512;
    for (i = 0; i < 4; i++) {
        memset(memory, 0, MEMORY);
        assert_null(dnstap_open_in(memory, MEMORY, &o[i], &error));
        assert_true(holds(memory, "tls://127.0.0.1:1", 17)); /* it did get that far */
        assert_false(holds(memory, s.bytes, 8));
        assert_false(holds(memory, s.bytes + 16, 8));
        assert_false(holds(memory, (const char *)key.data + 40, 16));
    }
    free(memory);
}

static void test_a_renewed_key_replaces_the_old_one(void **state)
{
    dnstap_options o = tap_options();
    secret old = secret_of("client.key"), new_one = secret_of("server.key");
    uint8_t *memory = (uint8_t *)calloc(1, MEMORY);
    dnstap_error error;
    dnstap_tap *tap;

    (void)state;
    assert_int_equal(shell("cp client.pem mine.pem; cp client.key mine.key"), 0);
    o.key_file = in_dir("mine.key");
    tap = dnstap_open_in(memory, MEMORY, &o, &error);
    assert_non_null(tap);
    assert_true(holds(memory, old.bytes, old.size));
    assert_int_equal(shell("cp server.key mine.key"), 0); /* of another certificate: refused */
    dnstap__renew_tls(tap);
    assert_true(holds(memory, old.bytes, old.size));
    assert_false(holds(memory, new_one.bytes, 8));
    assert_int_equal(shell("cp server.pem mine.pem"), 0);
    dnstap__renew_tls(tap);
    assert_true(holds(memory, new_one.bytes, new_one.size));
    assert_false(holds(memory, old.bytes, 8));
    dnstap_close(tap, 0);
    assert_false(holds(memory, new_one.bytes, 8));
    free(memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_files_that_come_back_are_read_again),
        cmocka_unit_test(test_a_change_that_hides_its_time_is_seen),
        cmocka_unit_test(test_a_file_half_written_is_read_when_it_is_whole),
        cmocka_unit_test(test_a_file_that_is_missing_for_a_while_is_read_when_it_is_back),
        cmocka_unit_test(test_a_reason_outside_the_file_is_tried_again),
        cmocka_unit_test(test_a_path_that_is_barred_for_a_while_is_tried_again),
        cmocka_unit_test(test_a_pipe_is_not_waited_for_in_a_running_tap),
        cmocka_unit_test(test_a_close_leaves_no_key),
        cmocka_unit_test(test_a_failed_open_leaves_no_key),
        cmocka_unit_test(test_a_renewed_key_replaces_the_old_one),
    };

    return RUN_TESTS(tests, make_certificates, remove_certificates);
}
