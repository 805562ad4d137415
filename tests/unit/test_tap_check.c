/* dnstap_check: it says what dnstap_open says, of whatever that refuses, and leaves no trace. All
 * paths are relative to a folder of the test's. */
#define _GNU_SOURCE
#include <stddef.h>
#include <stdlib.h>

static size_t live_blocks; /* of memory that are in use */
static void *counted_malloc(size_t size)
{
    if (size >> 40) return NULL; /* a sanitizer would end the program */
    return live_blocks++, malloc(size);
}
static void counted_free(void *memory) { live_blocks--, free(memory); }
#define DNSTAP_MALLOC(size) counted_malloc(size)
#define DNSTAP_FREE(memory) counted_free(memory)

#include "tls_support.h"
#include "tap_support.h"
#include "tap_peer.h"
#include "listen_support.h"
#include "tap_file.h"
#include <sys/sysmacros.h>

/* ---- what a check could leave ---- */

typedef struct traces {
    char files[1 << 14]; /* names, what they are, sums of what is in them */
    unsigned descriptors, threads;
    size_t blocks;
} traces;

static unsigned threads(void)
{
    DIR *all = opendir("/proc/self/task");
    unsigned n = 0;

    assert_non_null(all);
    while (readdir(all)) n++;
    closedir(all);
    return n;
}

static void take_traces(traces *t)
{
    FILE *f = popen("find . ! -name log -printf '%p %i %M %u %g %s %T@ %C@ %l\\n' | sort; "
                    "find . -type f ! -name log -size -1M | sort | xargs cksum",
                    "r");
    size_t n;

    memset(t, 0, sizeof *t);
    assert_non_null(f);
    n = fread(t->files, 1, sizeof t->files, f);
    assert_int_equal(pclose(f), 0);
    assert_true(n > 1000 && n < sizeof t->files);
    t->descriptors = descriptors();
    t->threads = threads();
    t->blocks = live_blocks;
}

/* The rights of user and group 0, which are needed to take others', and are given back. */
static bool lesser;

static void become_nobody(void)
{
    if (!lesser) return;
    assert_int_equal(setegid(65534), 0);
    assert_int_equal(seteuid(65534), 0);
}

static void become_root(void)
{
    if (!lesser) return;
    assert_int_equal(seteuid(0), 0);
    assert_int_equal(setegid(0), 0);
}

/* Checks; and there is no trace. */
static int check_quietly(const dnstap_options *o, dnstap_error *error)
{
    static traces before, after;
    int result;

    take_traces(&before);
    become_nobody();
    memset(error, 0xaa, sizeof *error);
    result = dnstap_check(o, error);
    assert_int_equal(dnstap_check(o, NULL), result);
    become_root();
    take_traces(&after);
    assert_string_equal(before.files, after.files);
    assert_memory_equal(&before, &after, sizeof before);
    assert_int_equal(error->code, result);
    return result;
}

static void must_be_refused(const dnstap_options *o, const char *fault)
{
    dnstap_error checked, opened;
    dnstap_tap *tap;
    int result = check_quietly(o, &checked);

    if (result == DNSTAP_OK) fail_msg("%s: not refused: %s", o->endpoint, fault);
    become_nobody();
    tap = dnstap_open(o, &opened);
    become_root();
    assert_null(tap);
    if (!strstr(opened.text, fault)) fail_msg("\"%s\" lacks \"%s\"", opened.text, fault);
    assert_string_equal(checked.text, opened.text);
    assert_int_equal(checked.code, opened.code);
    assert_int_equal(checked.sys_errno, opened.sys_errno);
    assert_int_equal(checked.line, opened.line);
}

static void must_be_taken(const dnstap_options *o)
{
    dnstap_error error;
    dnstap_tap *tap;

    if (check_quietly(o, &error) != DNSTAP_OK) fail_msg("%s", error.text);
    assert_string_equal(error.text, "");
    tap = dnstap_open(o, &error);
    if (!tap) fail_msg("%s", error.text);
    dnstap_close(tap, 0);
}

typedef struct row {
    const char *fault; /* in the text */
    dnstap_options o;
} row;

static void refuse_all(const row *rows, size_t count)
{
    for (; count--; rows++) must_be_refused(&rows->o, rows->fault);
}
#define REFUSE_ALL(rows) refuse_all(rows, sizeof rows / sizeof *rows)

/* ---- options alone ---- */

#define X50 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
#define X300 X50 X50 X50 X50 X50 X50
#define U .endpoint = "unix://s"

static dnstap_transport untouched; /* all NULL: who uses it, ends the program */

static void test_options_are_refused_alike(void **state)
{
    static char extra[65537];
    static const row rows[] = {
        {"no endpoint", {0}},
        {"unknown scheme", {.endpoint = "http://x"}},
        {"path is empty", {.endpoint = "unix://"}},
        {"path is empty", {.endpoint = "file://"}},
        {"no ]", {.endpoint = "tcp://[::1:6000"}},
        {"in brackets", {.endpoint = "tcp://::1:6000"}},
        {"no port", {.endpoint = "tcp://name"}},
        {"host is empty", {.endpoint = "tcp://:6000"}},
        {"longer than 253", {.endpoint = "tls://" X300 ":6000"}},
        {"not a number", {.endpoint = "tcp://name:0"}},
        {"at most 107", {.endpoint = "unix://" X300}},
        {"at most 107", {.endpoint = "unix://" X300, .listen = true}},
        {"queue is 4097", {U, .queue = 4097}},
        {"writebuffer is 1025", {U, .writebuffer = 1025}},
        {"producers is 1025", {U, .producers = 1025}},
        {"timeout_ms is negative", {U, .timeout_ms = -1}},
        {"not a power of two", {U, .ring_size = 5000}},
        {"max_message 63", {U, .max_message = 63}},
        {"half of ring_size", {U, .ring_size = 4096, .max_message = 2049}},
        {"extra has 65536 bytes", {U, .extra = extra}},
        {"too little room", {U, .extra = X300, .max_message = 500}},
        {"identity and version", {U, .identity = X300, .max_message = 500}},
        {"than this machine can address", {U, .ring_size = SIZE_MAX / 8 + 1}},
        {"bytes of memory", {U, .ring_size = (size_t)1 << 50}},
        {"max_sinks is 1025", {U, .listen = true, .max_sinks = 1025}},
        {"max_pending 1025", {U, .listen = true, .max_pending = 1025}},
        {"more than ring_size", {U, .listen = true, .max_lag = SIZE_MAX}},
        {"nobody can connect", {.endpoint = "file://new", .listen = true}},
        {"options.transport: nobody can", {.transport = &untouched, .listen = true}},
        {"line 7: ", {.endpoint = "unix://", .line = 7}},
        {"; CoreDNS would have started", {.endpoint = "unix://", .line = 7, .coredns = true}},
    };

    (void)state;
    memset(extra, 'x', sizeof extra - 1);
    REFUSE_ALL(rows);
}

static void test_a_working_directory_that_is_gone_is_refused_alike(void **state)
{
    dnstap_options o = {U};
    dnstap_error checked, opened;

    (void)state;
    assert_int_equal(mkdir("gone", 0700), 0);
    assert_int_equal(chdir("gone"), 0);
    assert_int_equal(rmdir("../gone"), 0);
    assert_int_equal(dnstap_check(&o, &checked), DNSTAP_SYSTEM);
    assert_null(dnstap_open(&o, &opened));
    assert_string_equal(checked.text, opened.text);
    assert_int_equal(chdir(tls_dir), 0);
}

/* ---- files ---- */

static void test_files_are_refused_alike(void **state)
{
    static const row rows[] = {
        {"is not dnstap", {.endpoint = "file://text"}},
        {"is not dnstap", {.endpoint = "file://text", .overwrite = true}},
        {"goes on behind its STOP", {.endpoint = "file://behind.fstrm"}},
        {"Is a directory", {.endpoint = "file://folder"}},
        {"Is a directory", {.endpoint = "file://folder/"}},
        {"Is a directory", {.endpoint = "file://new/"}},
        {"No such file", {.endpoint = "file://nowhere/new"}},
        {"Not a directory", {.endpoint = "file://text/new"}},
        {"levels of symbolic links", {.endpoint = "file://round"}},
        {"No such file", {.endpoint = "file://to-nowhere"}},
        {"File name too long", {.endpoint = "file://" X300}},
        {"is no file", {.endpoint = "file://stale"}},
    };
    const dnstap_options disk = {.endpoint = "file://disk"};

    (void)state;
    REFUSE_ALL(rows);
    if (mknod("disk", S_IFBLK | 0600, makedev(7, 0)) == 0) {
        dnstap_error error;

        if (dnstap_check(&disk, &error) && strstr(error.text, "is a disk"))
            must_be_refused(&disk, "is a disk"); /* there is one */
        unlink("disk");
    }
}

static void test_files_are_taken_alike(void **state)
{
    static const char *const names[] = {"file://new", "file://text.fstrm", "file://empty",
                                        "file://to-new", "file:///dev/null"};
    dnstap_options o = {.endpoint = "file://fifo"};
    size_t i;

    (void)state;
    must_be_taken(&o);
    for (i = 0; i < sizeof names / sizeof *names; i++) {
        o.endpoint = names[i];
        must_be_taken(&o);
        o.overwrite = true; /* it is there by now */
        must_be_taken(&o);
        o.overwrite = false;
    }
    assert_int_equal(unlink("new"), 0);
    assert_int_equal(unlink("folder/made"), 0);
}

/* Who waits to read from a named pipe is not disturbed by a writer that comes and goes. */
static void test_a_named_pipe_is_not_opened(void **state)
{
    dnstap_options o = {.endpoint = "file://fifo"};
    int reader = open("fifo", O_RDONLY | O_NONBLOCK);
    struct pollfd p;

    (void)state;
    assert_int_equal(dnstap_check(&o, NULL), DNSTAP_OK);
    p.fd = reader;
    p.events = POLLIN;
    assert_int_equal(poll(&p, 1, 0), 0); /* not even POLLHUP */
    close(reader);
}

static void test_a_file_that_a_tap_writes_can_be_checked(void **state)
{
    dnstap_options o;
    dnstap_error error;
    dnstap_tap *tap;
    int again;
    pid_t child;

    (void)state;
    peer_options(&o, "file://new");
    tap = peer_start(&o);
    log_many(tap, 30);
    assert_int_equal(dnstap_flush(tap, PATIENCE), DNSTAP_OK);
    if (dnstap_check(&o, &error) != DNSTAP_OK) fail_msg("%s", error.text);
    child = fork(); /* both locks are still held */
    if (!child) {
        struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

        again = open("new", O_RDWR);
        CHILD_ASSERT(flock(again, LOCK_EX | LOCK_NB) < 0);
        CHILD_ASSERT(fcntl(again, F_SETLK, &lock) < 0);
        CHILD_ASSERT(dnstap_check(&o, NULL) == DNSTAP_OK); /* nor does it matter there */
        _exit(0);
    }
    child_ended_well(child);
    assert_int_equal(dnstap_close(tap, PATIENCE), DNSTAP_OK);
    assert_int_equal(check_file("new"), 30);
    unlink("new");
}

/* ---- sockets that are listened on ---- */

static void test_sockets_are_refused_alike(void **state)
{
    static const row rows[] = {
        {"is a file, not a socket", {.endpoint = "unix://text", .listen = true}},
        {"is a file, not a socket", {.endpoint = "unix://to-nowhere", .listen = true}},
        {"is a file, not a socket", {.endpoint = "unix://folder", .listen = true}},
        {"another process listens", {.endpoint = "unix://used", .listen = true}},
        {"another process listens", {.endpoint = "unix://bound", .listen = true}},
        {"listen: No such file", {.endpoint = "unix://nowhere/s", .listen = true}},
        {"listen: No such file", {.endpoint = "unix://nowhere/", .listen = true}},
        {"listen: Not a directory", {.endpoint = "unix://text/s", .listen = true}},
        {"nine bits", {.endpoint = "unix://stale", .listen = true, .socket_mode = 01000}},
        {"no group", {.endpoint = "unix://stale", .listen = true, .socket_group = "!"}},
        {"listen: Address already in use", {.endpoint = "unix://@dnstap-check", .listen = true}},
        {"give a numeric address", {.endpoint = "tcp://no..name:6000", .listen = true}},
    };
    dnstap_options o = {.endpoint = "unix://@dnstap-check", .listen = true};
    collector used;
    dnstap_tap *abstract;
    struct sockaddr_un at = {.sun_family = AF_UNIX, .sun_path = "bound"};
    int bound = socket(AF_UNIX, SOCK_STREAM, 0);

    (void)state;
    abstract = dnstap_open(&o, NULL);
    assert_non_null(abstract);
    assert_int_equal(bind(bound, (struct sockaddr *)&at, sizeof at), 0);
    memset(&used, 0, sizeof used);
    used.fd = -1;
    strcpy(used.path, "used");
    collector_listen(&used);
    REFUSE_ALL(rows);
    assert_false(readable(used.listener, 0)); /* nobody came */
    collector_close(&used);
    dnstap_close(abstract, 0);
    close(bound);
    unlink("used");
    unlink("bound");
}

static void test_sockets_are_taken_alike(void **state)
{
    static const char *const names[] = {"unix://new", "unix://stale", "unix://@dnstap-check",
                                        "tcp://127.0.0.1:0", "tcp://:0"};
    dnstap_options o = {.listen = true, .socket_mode = 0600, .socket_group = "0"};
    size_t i;

    (void)state;
    for (i = 0; i < sizeof names / sizeof *names; i++) {
        o.endpoint = names[i];
        must_be_taken(&o);
        assert_int_equal(access("new", F_OK), -1);
    }
    assert_int_equal(shell("cp -a stale-too stale"), 0);
}

/* ---- rights ---- */

static void test_rights_are_refused_alike(void **state)
{
    static const row rows[] = {
        {"open: Permission denied", {.endpoint = "file://secret"}},
        {"open: Permission denied", {.endpoint = "file://text.fstrm"}},
        {"open: Permission denied", {.endpoint = "file://folder/new"}},
        {"open: Permission denied", {.endpoint = "file://fifo"}},
        {"open: Permission denied", {.endpoint = "file://private/new"}},
        {"listen: Permission denied", {.endpoint = "unix://folder/s", .listen = true}},
        {"listen: Permission denied", {.endpoint = "unix://private/s", .listen = true}},
        {"stale socket: Permission denied", {.endpoint = "unix://stale", .listen = true}},
        {"stale socket: Operation not", {.endpoint = "unix://sticky/stale", .listen = true}},
        {"socket_group: Operation not",
         {.endpoint = "unix://sticky/s", .listen = true, .socket_group = "0"}},
        {"can't open it: Permission denied",
         {.endpoint = "tls://127.0.0.1:9", .ca_file = "secret"}},
    };
    dnstap_options mine = {.endpoint = "unix://sticky/s", .listen = true, .socket_group = "65534"};

    (void)state;
    if (geteuid() || chmod(".", 0755)) skip();
    lesser = true;
    REFUSE_ALL(rows);
    become_nobody();
    assert_int_equal(dnstap_check(&mine, NULL), DNSTAP_OK);
    become_root();
    lesser = false;
}

/* ---- TLS ---- */

#define T .endpoint = "tls://127.0.0.1:9", .ca_file = "ca.pem"
#define TL .endpoint = "tls://127.0.0.1:0", .listen = true
#define MINE .cert_file = "server.pem", .key_file = "server.key"

static void test_tls_is_refused_alike(void **state)
{
    static unsigned char name[40000];
    static br_x509_trust_anchor anchors[2];
    static const row rows[] = {
        {"tls_input is below", {T, .tls_input = 1}},
        {"tls_output is below", {T, .tls_output = 1}},
        {"certificate without key", {T, .cert_file = "server.pem"}},
        {"key without certificate", {T, .key_file = "server.key"}},
        {"a server needs a certificate", {TL}},
        {"without anchor_count", {.endpoint = "tls://127.0.0.1:9", .anchors = anchors}},
        {"no name to verify", {T, .server_name = ""}},
        {"no name to verify", {T, .server_name = X300}},
        {"can't open it: No such file", {T, .cert_file = "nowhere", .key_file = "server.key"}},
        {"can't open it: No such file", {TL, .cert_file = "server.pem", .key_file = "nowhere"}},
        {"can't open it: No such file", {.endpoint = "tls://127.0.0.1:9", .ca_file = "nowhere"}},
        {"can't read it: Is a dir", {.endpoint = "tls://127.0.0.1:9", .ca_file = "folder"}},
        {"can't open it: No such dev", {.endpoint = "tls://127.0.0.1:9", .ca_file = "stale"}},
        {"no certificate in it", {.endpoint = "tls://127.0.0.1:9", .ca_file = "text"}},
        {"no certificate in it", {.endpoint = "tls://127.0.0.1:9", .ca_file = "empty"}},
        {"is that a file of", {.endpoint = "tls://127.0.0.1:9", .ca_file = "large"}},
        {"fit in options.ca_memory", {T, .ca_memory = 64}},
        {"malformed or cut off", {TL, .cert_file = "cut", .key_file = "server.key"}},
        {"no private key in it", {TL, .cert_file = "server.pem", .key_file = "text"}},
        {"remove the passphrase", {TL, .cert_file = "server.pem", .key_file = "locked.key"}},
        {"private key can't be used", {TL, .cert_file = "server.pem", .key_file = "ed.key"}},
        {"first certificate can't", {TL, .cert_file = "ed.pem", .key_file = "server.key"}},
        {"is not that of the first", {TL, .cert_file = "server.pem", .key_file = "rsa.key"}},
        {"more than 8 certificates", {TL, .cert_file = "long", .key_file = "server.key"}},
        {"too many CAs", {TL, MINE, .anchors = anchors, .anchor_count = 2}},
        {"options.ca: no certificate", {.endpoint = "tls://127.0.0.1:9", .ca = {"x", 1}}},
    };

    (void)state;
    anchors[0].dn.data = anchors[1].dn.data = name;
    anchors[0].dn.len = anchors[1].dn.len = sizeof name;
    REFUSE_ALL(rows);
}

static void test_tls_is_taken_alike(void **state)
{
    dnstap_options out = {T, MINE}, in = {TL, MINE, .ca_file = "ca.pem"};

    (void)state;
    must_be_taken(&out);
    must_be_taken(&in);
    out.transport = &untouched; /* it is not called: its functions are NULL */
    assert_int_equal(dnstap_check(&out, NULL), DNSTAP_OK);
}

/* What comes from a pipe comes once: it is for the tap. */
static void test_a_pipe_with_a_key_is_left_to_who_opens(void **state)
{
    static char key[8192], from[32];
    dnstap_options o = {TL, .cert_file = "server.pem", .key_file = from};
    dnstap_error error;
    dnstap_tap *tap;
    size_t size = read_file("server.key", (uint8_t *)key, sizeof key);
    int fds[2];

    (void)state;
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(write(fds[1], key, size), size);
    close(fds[1]);
    snprintf(from, sizeof from, "/dev/fd/%d", fds[0]);
    if (check_quietly(&o, &error) != DNSTAP_OK) fail_msg("%s", error.text);
    tap = dnstap_open(&o, &error);
    if (!tap) fail_msg("%s", error.text);
    dnstap_close(tap, 0);
    close(fds[0]);
}

/* ---- the folder ---- */

static int furnish(void **state)
{
    static const char script[] =
        "export OPENSSL_CONF=cnf; echo hello, hello, hello >text; : >empty; mkfifo fifo; "
        "mkdir -m 0755 folder && mkdir -m 01777 sticky && mkdir -m 0700 private && "
        "ln -s round round; ln -s nowhere/new to-nowhere; ln -s folder/made to-new; "
        "cp text secret && chmod 0600 secret && chmod 0755 . && truncate -s 17M large && "
        "head -c 300 server.pem >cut && "
        "openssl genpkey -algorithm ed25519 -out ed.key && "
        "openssl req -x509 -key ed.key -out ed.pem -subj /CN=ed && "
        "openssl pkcs8 -topk8 -in server.key -out locked.key -passout pass:x && "
        "for i in 1 2 3 4 5 6 7 8 9 0 1; do cat server.pem; done >long";
    dnstap_options o = {.endpoint = "file://text.fstrm"};
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    static const char *const stale[] = {"stale", "stale-too", "sticky/stale"};
    uint8_t stream[128];
    size_t i;
    int fd;

    if (make_certificates(state) || shell(script) || chdir(tls_dir)) return -1;
    for (i = 0; i < 3; i++) {
        strcpy(at.sun_path, stale[i]);
        fd = socket(AF_UNIX, SOCK_STREAM, 0);
        if (bind(fd, (struct sockaddr *)&at, sizeof at) || chmod(stale[i], 0777)) return -1;
        close(fd);
    }
    dnstap_close(peer_start(&o), PATIENCE);
    i = read_file("text.fstrm", stream, sizeof stream / 2);
    memset(stream + i, 0, 8);
    write_file("behind.fstrm", stream, i + 8);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_options_are_refused_alike),
        cmocka_unit_test(test_a_working_directory_that_is_gone_is_refused_alike),
        cmocka_unit_test(test_files_are_refused_alike),
        cmocka_unit_test(test_files_are_taken_alike),
        cmocka_unit_test(test_a_named_pipe_is_not_opened),
        cmocka_unit_test(test_a_file_that_a_tap_writes_can_be_checked),
        cmocka_unit_test(test_sockets_are_refused_alike),
        cmocka_unit_test(test_sockets_are_taken_alike),
        cmocka_unit_test(test_rights_are_refused_alike),
        cmocka_unit_test(test_tls_is_refused_alike),
        cmocka_unit_test(test_tls_is_taken_alike),
        cmocka_unit_test(test_a_pipe_with_a_key_is_left_to_who_opens),
    };

    return RUN_TESTS(tests, furnish, remove_certificates);
}
