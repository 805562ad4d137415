/* Relative paths: they lead where they led when the tap or the sink was opened, whatever the
 * working directory is later. */
#define _GNU_SOURCE
#define DNSTAP_IMPLEMENTATION
#include "dnstap.h"

#include "tap_support.h"
#include "tap_peer.h"
#include "listen_support.h"
#include "tap_file.h"

/* ---- the working directory ---- */

static void enter(const char *where) { assert_int_equal(chdir(where), 0); }
static void enter_folder(void) { enter(folder); }

/* As a daemon leaves where it was started. */
static void leave(void) { enter("/"); }

static bool is_there(const char *name) { return access(in_folder(name) + 7, F_OK) == 0; }

/* ---- taps ---- */

static void test_a_socket_is_found_after_chdir(void **state)
{
    collector c;
    dnstap_options o;
    dnstap_tap *tap;
    dnstap_status s;

    (void)state;
    options_for(&c, "c.sock", &o);
    o.endpoint = "unix://c.sock";
    enter_folder();
    tap = open_afresh(&o);
    leave();
    assert_int_equal(dnstap_start(tap), DNSTAP_OK);
    collector_read_until_data(&c);
    log_many(tap, 3);
    collector_read_until(&c, 3);
    collector_leave(&c, tap);
    dnstap_get_status(tap, &s);
    assert_non_null(strstr(s.error.text, c.endpoint)); /* told as it is now */
    log_many(tap, 3);
    collector_read_until(&c, 6);
    end_both(&c, tap);
}

static void test_a_file_is_reopened_after_chdir(void **state)
{
    dnstap_options o;
    dnstap_tap *tap;

    (void)state;
    peer_options(&o, "file://here.fstrm");
    enter_folder();
    tap = open_afresh(&o);
    leave();
    assert_int_equal(dnstap_start(tap), DNSTAP_OK);
    log_many(tap, 3);
    assert_int_equal(dnstap_flush(tap, PATIENCE), DNSTAP_OK);
    enter_folder();
    assert_int_equal(rename("here.fstrm", "old.fstrm"), 0);
    leave();
    assert_int_equal(dnstap_reopen(tap), DNSTAP_OK);
    assert_int_equal(dnstap_flush(tap, PATIENCE), DNSTAP_OK);
    log_many(tap, 3);
    assert_int_equal(dnstap_close(tap, PATIENCE), DNSTAP_OK);
    in_folder("old.fstrm");
    assert_int_equal(check_file(path), 3);
    in_folder("here.fstrm");
    assert_int_equal(check_file(path), 3);
    assert_int_equal(access("/here.fstrm", F_OK), -1);
}

static void test_a_socket_that_was_listened_on_is_removed_after_chdir(void **state)
{
    dnstap_options o;
    dnstap_tap *tap;
    dnstap_peer peer;

    (void)state;
    host_options(&o, "unix://l.sock");
    enter_folder();
    tap = host_open(&o);
    leave();
    assert_true(is_there("l.sock"));
    guest_start(tap);
    assert_int_equal(dnstap_get_peers(tap, &peer, 1), 1);
    assert_string_equal(peer.address + strlen("unix://"), in_folder("l.sock") + 7);
    assert_int_equal(dnstap_close(tap, 0), DNSTAP_OK);
    assert_false(is_there("l.sock"));
}

static void test_abstract_and_absolute_names_stay(void **state)
{
    static const char *const names[] = {"unix://@dnstap-paths", "unix:///tmp/x", "/tmp/x",
                                        "tcp://127.0.0.1:9"};
    dnstap_options o;
    dnstap_tap *tap;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof names / sizeof *names; i++) {
        peer_options(&o, names[i]);
        tap = open_afresh(&o);
        assert_string_equal(tap->options.endpoint, names[i]);
        dnstap_close(tap, 0);
    }
}

static void test_from_the_root_on_there_is_one_slash(void **state)
{
    dnstap_options o;
    dnstap_tap *tap;

    (void)state;
    peer_options(&o, "unix://x.sock");
    leave();
    tap = open_afresh(&o);
    assert_string_equal(tap->options.endpoint, "unix:///x.sock");
    assert_string_equal(tap->target.path, "/x.sock");
    dnstap_close(tap, 0);
}

/* ---- memory and limits ---- */

/* Longer than what a block's size is rounded to. */
#define DEEP "deeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeep"

static void test_memory_counts_what_the_path_grows_by(void **state)
{
    dnstap_options o;
    dnstap_error error;
    dnstap_tap *tap;
    size_t near, far;
    void *memory;

    (void)state;
    peer_options(&o, "unix://x.sock");
    leave();
    near = dnstap_memory_size(&o);
    enter_folder();
    assert_int_equal(mkdir(DEEP, 0700), 0);
    assert_int_equal(chdir(DEEP), 0);
    far = dnstap_memory_size(&o);
    assert_true(far > near);
    memory = malloc(far);
    tap = dnstap_open_in(memory, far, &o, &error);
    assert_non_null(tap);
    dnstap_close(tap, 0);
    assert_null(dnstap_open_in(memory, far - 1, &o, &error));
    assert_int_equal(error.code, DNSTAP_NO_MEMORY);
    free(memory);
    enter_folder();
    assert_int_equal(rmdir(DEEP), 0);
    leave();
}

/* A folder, so deep that no unix socket's address holds a path in it; and it is entered. */
static void enter_the_deep(void)
{
    char deep[200];

    memset(deep, 'd', sizeof deep);
    deep[120] = '\0';
    enter_folder();
    mkdir(deep, 0700);
    enter(deep);
}

static void refuse(const dnstap_options *o, int code, const char *text)
{
    dnstap_error error;

    assert_null(dnstap_open(o, &error));
    if (!strstr(error.text, text)) fail_msg("\"%s\" lacks \"%s\"", error.text, text);
    assert_int_equal(error.code, code);
}

static void test_a_path_that_gets_too_long_is_refused_with_its_length(void **state)
{
    dnstap_options o;

    (void)state;
    enter_the_deep();
    peer_options(&o, "unix://short.sock");
    refuse(&o, DNSTAP_BAD_OPTION, "a unix socket's at most 107; shorten it");
    o.listen = true;
    refuse(&o, DNSTAP_BAD_OPTION, "a unix socket's at most 107; shorten it");
    assert_int_equal(access("short.sock", F_OK), -1);
    enter_folder();
    assert_int_equal(system("rm -rf ddd*"), 0);
    leave();
}

static void test_a_working_directory_that_is_gone_is_told(void **state)
{
    dnstap_options o;
    dnstap_error error;
    dnstap_sink_options so;

    (void)state;
    enter_folder();
    assert_int_equal(mkdir("gone", 0700), 0);
    enter("gone");
    assert_int_equal(rmdir("../gone"), 0);
    peer_options(&o, "unix://x.sock");
    refuse(&o, DNSTAP_SYSTEM, "unix://x.sock: the working directory, which it is relative to");
    assert_int_equal(dnstap_memory_size(&o), 0);
    peer_options(&o, "tls://127.0.0.1:9");
    o.ca_file = "ca.pem";
    refuse(&o, DNSTAP_SYSTEM, "ca.pem: the working directory");
    memset(&so, 0, sizeof so);
    so.endpoint = "unix://x.sock";
    assert_null(dnstap_sink_open(&so, &error));
    assert_non_null(strstr(error.text, "unix://x.sock: the working directory"));
    peer_options(&o, "unix:///tmp/x.sock"); /* nothing depends on it */
    o.ca_file = "ca.pem";
    dnstap_close(open_afresh(&o), 0);
    leave();
}

/* ---- sinks ---- */

static unsigned opened;

static int count_opened(void *user, const dnstap_received *r)
{
    (void)user;
    opened += r->kind == DNSTAP_SINK_OPENED;
    return DNSTAP_OK;
}

static dnstap_sink *sink_at(const char *name, bool connects)
{
    dnstap_sink_options o;
    dnstap_error error;
    dnstap_sink *sink;

    memset(&o, 0, sizeof o);
    o.endpoint = name;
    o.connect = connects;
    o.receive = count_opened;
    opened = 0;
    sink = dnstap_sink_open(&o, &error);
    if (!sink) fail_msg("%s", error.text);
    return sink;
}

static void test_a_sink_that_listened_removes_its_socket_after_chdir(void **state)
{
    dnstap_sink *sink;

    (void)state;
    enter_folder();
    sink = sink_at("unix://s.sock", false);
    leave();
    assert_true(is_there("s.sock"));
    dnstap_sink_close(sink);
    assert_false(is_there("s.sock"));
}

static void test_a_sink_dials_after_chdir(void **state)
{
    dnstap_options o;
    dnstap_tap *tap;
    dnstap_sink *sink;
    uint64_t end = real_ms() + PATIENCE;

    (void)state;
    host_options(&o, socket_at("t.sock"));
    tap = host_open(&o);
    enter_folder();
    sink = sink_at("unix://t.sock", true);
    leave();
    for (; !opened; turn(tap)) {
        assert_true(real_ms() < end);
        assert_int_equal(dnstap_sink_service(sink), DNSTAP_OK);
    }
    dnstap_sink_close(sink);
    dnstap_close(tap, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_socket_is_found_after_chdir),
        cmocka_unit_test(test_a_file_is_reopened_after_chdir),
        cmocka_unit_test(test_a_socket_that_was_listened_on_is_removed_after_chdir),
        cmocka_unit_test(test_abstract_and_absolute_names_stay),
        cmocka_unit_test(test_from_the_root_on_there_is_one_slash),
        cmocka_unit_test(test_memory_counts_what_the_path_grows_by),
        cmocka_unit_test(test_a_path_that_gets_too_long_is_refused_with_its_length),
        cmocka_unit_test(test_a_working_directory_that_is_gone_is_told),
        cmocka_unit_test(test_a_sink_that_listened_removes_its_socket_after_chdir),
        cmocka_unit_test(test_a_sink_dials_after_chdir),
    };

    return RUN_TESTS(tests, make_folder, drop_folder);
}
