/* The directive beyond CoreDNS, its limits, the way back to text, and what dnstap_open says of
 * options that came from text. */
#include "directive_support.h"

/* What malloc has not is to be NULL, as without AddressSanitizer. */
const char *__asan_default_options(void);
const char *__asan_default_options(void) { return "allocator_may_return_null=1"; }

static reading r;

#define COUNT(a) (sizeof(a) / sizeof *(a))

/* The one tap of text. */
static const dnstap_options *tap_of(const char *text)
{
    if (read_text(&r, text, STRICT) != 1) fail_msg("%s: %s", text, r.error.text);
    return &r.taps[0];
}

static void must_refuse(const char *text, const char *says)
{
    assert_int_equal(read_text(&r, text, STRICT), DNSTAP_BAD_OPTION);
    if (!strstr(r.error.text, says)) fail_msg("%s: \"%s\" lacks \"%s\"", text, r.error.text, says);
}

/* -- beyond CoreDNS -- */

static void test_what_connecting_taps_have_more(void **state)
{
    const dnstap_options *o = tap_of("dnstap tls://h:1 {\n tls_ca a\n tls_cert c k\n tls_name n\n"
                                     " flush 250ms\n timeout 1m30s\n unidirectional\n"
                                     " drop_when_disconnected\n queue 7\n writebuffer 8\n}");

    (void)state;
    assert_string_equal(o->ca_file, "a");
    assert_string_equal(o->cert_file, "c");
    assert_string_equal(o->key_file, "k");
    assert_string_equal(o->server_name, "n");
    assert_int_equal(o->flush_ms, 250);
    assert_int_equal(o->timeout_ms, 90000);
    assert_true(o->unidirectional);
    assert_true(o->drop_when_disconnected);
    assert_int_equal(o->queue, 7);
    assert_int_equal(o->writebuffer, 8);
    assert_false(o->coredns);
}

static void test_what_listening_taps_have_more(void **state)
{
    const dnstap_options *o = tap_of("dnstap listen /s {\n socket_mode 0660\n max_sinks 3\n}");

    (void)state;
    assert_int_equal(o->socket_mode, 0660);
    assert_int_equal(o->max_sinks, 3);
    assert_int_equal(tap_of("dnstap /s {\n flush now\n}")->flush_ms, DNSTAP_FLUSH_NOW);
    assert_string_equal(tap_of("dnstap file:///x full")->endpoint, "file:///x");
    assert_false(r.taps[0].coredns);
}

static void test_filters_are_words(void **state)
{
    const dnstap_options *o = tap_of("dnstap /s full {\n types CLIENT_QUERY cr 20 31\n"
                                     " rcode NXDOMAIN badvers 0 62 63 4095\n"
                                     " zone example.org \"b\\032.c\" .\n sample 4294967295\n"
                                     " anonymize 24 0\n identity i\n}");

    (void)state;
    assert_int_equal(o->types, 1u << 5 | 1u << 6 | 1u << 20 | 1u << 31);
    assert_true(o->rcodes == (1 | 8 | 1 << 16 | (uint64_t)3 << 62));
    assert_string_equal(o->zones[0], "example.org");
    assert_string_equal(o->zones[1], "b\\032.c");
    assert_string_equal(o->zones[2], ".");
    assert_null(o->zones[3]);
    assert_true(o->sample == UINT32_MAX);
    assert_int_equal(o->anonymize_v4, 24);
    assert_int_equal(o->anonymize_v6, DNSTAP_KEEP_NONE);
    assert_string_equal(o->identity, "i");
    assert_false(o->coredns);
    o = tap_of("dnstap listen /s {\n zone a\n zone b c\n types CQ\n types CR\n}");
    assert_int_equal(r.warnings, 2); /* the last counts */
    assert_string_equal(o->zones[0], "b");
    assert_string_equal(o->zones[1], "c");
    assert_null(o->zones[2]);
    assert_int_equal(o->types, 1u << 6);
}

/* Each zone takes a pointer, too. */
static void test_zones_have_room_in_memory(void **state)
{
    char text[4096] = "dnstap s {\n zone";
    const size_t enough = 5 * (strlen(text) + 2 * DNSTAP_ZONES_MAX + 4) + 64;
    size_t i, size;

    (void)state;
    for (i = 0; i < DNSTAP_ZONES_MAX; i++) strcat(text, " .");
    strcat(text, "\n}");
    assert_int_equal(read_within(&r, text, STRICT, enough), 1);
    for (i = 0; r.taps[0].zones[i]; i++) assert_string_equal(r.taps[0].zones[i], ".");
    assert_int_equal(i, DNSTAP_ZONES_MAX);
    for (size = 0; size < 200; size++)
        if (read_within(&r, "dnstap s {\n zone a b\n zone c\n}", STRICT, size) != 1)
            assert_int_equal(r.count, DNSTAP_NO_MEMORY);
    strcpy(strstr(text, "\n}"), " .\n}");
    must_refuse(text, "more than 1024 zones");
}

static void test_defaults_are_the_specifications(void **state)
{
    const dnstap_options *o = tap_of("dnstap /s");
    dnstap_options zero;

    (void)state;
    memset(&zero, 0, sizeof zero);
    zero.endpoint = "/s";
    zero.writebuffer = zero.queue = 1;
    assert_true(same_options(o, &zero));
    assert_true(o->coredns);
    assert_int_equal(o->line, 1);
    assert_null(o->log);
}

static const struct {
    const char *text, *says;
} misplaced[] = {
    {"dnstap tcp://h:1 {\n tls_ca a\n}", "line 2, column 2: \"tls_ca\" is for tls:// only"},
    {"dnstap listen tls://h:1 {\n tls_ca a\n}", "\"tls_ca\" is for taps that connect"},
    {"dnstap tls://h:1 {\n tls_cert c\n}", "\"tls_cert\" needs two files on its line"},
    {"dnstap tls://h:1 {\n tls_cert c k a\n}", "\"a\" is one file too many"},
    {"dnstap /s {\n socket_mode 0660\n}", "\"socket_mode\" is for taps that listen"},
    {"dnstap listen tcp://h:1 {\n socket_mode 0660\n}", "\"socket_mode\" is for unix sockets only"},
    {"dnstap listen /s {\n socket_mode 0888\n}", "socket_mode is \"0888\"; expected it in octal"},
    {"dnstap listen /s {\n socket_mode 01000\n}", "expected it in octal, such as 0660"},
    {"dnstap listen /s {\n socket_mode 0\n}", "expected it in octal, such as 0660"},
    {"dnstap listen /s {\n max_sinks 0\n}", "max_sinks is \"0\"; expected a number from 1 to 1024"},
    {"dnstap listen /s {\n drop_when_disconnected\n}", "is for taps that connect"},
    {"dnstap /s {\n flush 5\n}",
     "flush is \"5\"; expected a duration such as 250ms, 2s or 1m30s, "},
    {"dnstap /s {\n flush 0s\n}", "or now"},
    {"dnstap /s {\n flush s\n}", "expected a duration"},
    {"dnstap /s {\n timeout now\n}", "timeout is \"now\"; expected a duration"},
    {"dnstap /s {\n timeout 1s2\n}", "expected a duration"},
    {"dnstap /s {\n timeout -1s\n}", "expected a duration"},
    {"dnstap /s {\n timeout 597h\n}", "expected a duration"},
    {"dnstap /s {\n timeout 99999999999999999999ms\n}", "expected a duration"},
    {"dnstap /s {\n timeout \"\"\n}", "expected a duration"},
    {"dnstap /s {\n types\n}", "\"types\" needs values on its line"},
    {"dnstap /s {\n types CQ CLIENT_QERY\n}",
     "line 2, column 11: types has \"CLIENT_QERY\"; expected CLIENT_QUERY, CQ and the like"},
    {"dnstap /s {\n types 32\n}", "types is \"32\"; expected a number from 0 to 31"},
    {"dnstap /s {\n rcode NXDOMAN\n}", "rcode has \"NXDOMAN\"; expected NOERROR, NXDOMAIN"},
    {"dnstap /s {\n rcode 4096\n}", "expected a number from 0 to 4095"},
    {"dnstap /s {\n zone\n}", "\"zone\" needs values on its line"},
    {"dnstap /s {\n zone a b..c\n}",
     "line 2, column 9: zone \"b..c\" is no domain name: a label is empty"},
    {"dnstap /s {\n zone \"\"\n}", "zone \"\" is no domain name: it is empty"},
    {"dnstap /s {\n sample 0\n}", "sample is \"0\"; expected a number from 1 to 4294967295"},
    {"dnstap /s {\n sample 4294967296\n}", "expected a number from 1 to 4294967295"},
    {"dnstap /s {\n anonymize 24\n}", "\"anonymize\" needs two numbers on its line"},
    {"dnstap /s {\n anonymize 33 48\n}", "anonymize is \"33\"; expected a number from 0 to 32"},
    {"dnstap /s {\n anonymize 24 129\n}", "expected a number from 0 to 128"},
    {"dnstap /s {\n anonymize 24 48 64\n}", "\"64\" is one number too many"},
    {"dnstap /s {\n anonimize 24 48\n}", "did you mean \"anonymize\"?"},
    {"dnstap listen file:///x", "has none of the schemes"},
    {"dnstap /s {\n tsl_name n\n}", "did you mean \"tls_name\"?"},
    {"dnstap /s {\n drop_when_disconected\n}", "did you mean \"drop_when_disconnected\"?"},
};

static void test_what_does_not_go_together_is_refused(void **state)
{
    size_t i;

    (void)state;
    for (i = 0; i < COUNT(misplaced); i++) must_refuse(misplaced[i].text, misplaced[i].says);
    assert_int_equal(tap_of("dnstap /s {\n timeout 596h\n}")->timeout_ms, 596 * 3600000);
}

static void test_lenient_knows_only_what_coredns_knows(void **state)
{
    static const char *const more[] = {"tls_ca a", "flush 1s", "unidirectional",
                                       "queue 3",  "types CQ", "zone a",
                                       "rcode 0",  "sample 2", "anonymize 1 1"};
    char text[80];
    size_t i;

    (void)state;
    for (i = 0; i < COUNT(more); i++) {
        snprintf(text, sizeof text, "dnstap tls://h:1 {\n %s\n}", more[i]);
        assert_int_equal(read_text(&r, text, LENIENT), DNSTAP_BAD_OPTION);
        assert_non_null(strstr(r.error.text, "CoreDNS has identity, version, extra"));
        assert_int_equal(read_text(&r, text, STRICT), 1);
    }
    assert_int_equal(read_text(&r, "dnstap file:///x", LENIENT), 1);
    assert_string_equal(r.taps[0].endpoint, "unix://file:///x");
}

/* -- limits -- */

static void test_memory_too_small_says_how_much_is_enough(void **state)
{
    static const char text[] = "dnstap s full {\n identity one\n version \"\"\n}\ndnstap /t\n"
                               "dnstap listen tls://h:1 {\n tls a b c\n}";
    size_t size;
    unsigned long says;

    (void)state;
    for (size = 0; read_within(&r, text, STRICT, size) != 3; size++) {
        assert_int_equal(r.count, DNSTAP_NO_MEMORY);
        assert_int_equal(r.error.code, DNSTAP_NO_MEMORY);
        assert_non_null(strstr(r.error.text, "is too small; give "));
        says = strtoul(strstr(r.error.text, "give ") + 5, NULL, 10);
        assert_true(says > size && says == 5 * strlen(text) + 64);
    }
    assert_in_range(size, sizeof "unix://s" + 4 + 1 + 3 + 10 + 6, strlen(text));
}

static void test_variables_without_end_are_stopped(void **state)
{
    (void)state;
    must_refuse("dnstap {$SELF}", "more than 100 variables in a word; does one name itself?");
    assert_int_equal(read_within(&r, "dnstap {$TWICE}", STRICT, 100000), DNSTAP_NO_MEMORY);
    assert_non_null(strstr(r.error.text, "and more for the values of variables"));
}

static void test_more_taps_than_there_is_room_for_are_refused(void **state)
{
    char text[TAPS * 10 + 20] = "";
    dnstap_error error;
    char memory[64];
    int i;

    (void)state;
    for (i = 0; i < TAPS; i++) strcat(text, "dnstap /s\n");
    assert_int_equal(read_text(&r, text, STRICT), TAPS);
    strcat(text, "dnstap /s");
    must_refuse(text, "line 9, column 1: more than 8 taps; there is no room");
    assert_int_equal(dnstap_parse("dnstap s", memory, 64, NULL, 0, NULL, &error),
                     DNSTAP_BAD_OPTION);
    assert_int_equal(dnstap_parse("# none", NULL, 0, NULL, 0, NULL, &error), 0);
    assert_int_equal(error.code, DNSTAP_OK);
    assert_int_equal(dnstap_parse("dnstap s", NULL, 9, NULL, 0, NULL, NULL), DNSTAP_NO_MEMORY);
}

static void test_long_words_are_taken_whole_and_shown_cut(void **state)
{
    enum { LONG = 100000 };
    char *text = (char *)malloc(2 * LONG);

    (void)state;
    strcpy(text, "dnstap /s {\n identity ");
    memset(text + strlen(text), 'i', LONG);
    strcpy(text + 22 + LONG, "\n}");
    assert_int_equal(strlen(tap_of(text)->identity), LONG);
    memset(text + 22, ' ', 1);
    memcpy(text + 13, "ä", 2);
    memset(text + 15, 'x', LONG);
    assert_int_equal(read_text(&r, text, STRICT), DNSTAP_BAD_OPTION);
    assert_true(strlen(r.error.text) < 160);
    assert_non_null(strstr(r.error.text, "xxx...\"; expected identity"));
    free(text);
}

/* -- back to text -- */

static void must_format(const dnstap_options *o, const char *want)
{
    char out[600];

    assert_int_equal(dnstap_format(o, NULL, 0), strlen(want));
    assert_int_equal(dnstap_format(o, out, sizeof out), strlen(want));
    assert_string_equal(out, want);
    assert_int_equal(dnstap_format(o, out, strlen(want) + 1), strlen(want));
    assert_int_equal(dnstap_format(o, out, strlen(want)), DNSTAP_NO_MEMORY);
    assert_int_equal(dnstap_format(o, out, 0), DNSTAP_NO_MEMORY);
}

static void test_options_are_written_as_a_directive(void **state)
{
    dnstap_options o;

    (void)state;
    memset(&o, 0, sizeof o);
    o.endpoint = "/tmp/dnstap.sock";
    must_format(&o, "dnstap /tmp/dnstap.sock\n");
    o.full = true;
    must_format(&o, "dnstap /tmp/dnstap.sock full\n");
    o.queue = 4;
    must_format(&o, "dnstap /tmp/dnstap.sock full 1 4\n");
    o.full = false;
    o.identity = "my \"dns\"";
    o.version = "";
    o.flush_ms = DNSTAP_FLUSH_NOW;
    o.timeout_ms = 1500;
    must_format(&o, "dnstap /tmp/dnstap.sock {\n    identity \"my \\\"dns\\\"\"\n    version \"\"\n"
                    "    queue 4\n    flush now\n    timeout 1500ms\n}\n");
    memset(&o, 0, sizeof o);
    o.endpoint = "tls://h:1";
    o.listen = o.full = true;
    o.cert_file = "c";
    o.key_file = "k";
    o.writebuffer = 2;
    o.max_sinks = 3;
    must_format(&o, "dnstap listen tls://h:1 full {\n    tls c k\n    writebuffer 2\n"
                    "    max_sinks 3\n}\n");
    o.listen = false;
    o.max_sinks = 0;
    o.ca_file = "a";
    o.server_name = "n";
    must_format(&o, "dnstap tls://h:1 full 2 1 {\n    tls_ca a\n    tls_cert c k\n"
                    "    tls_name n\n}\n");
    o.listen = true;
    o.server_name = NULL;
    o.endpoint = "unix:///s";
    o.cert_file = o.key_file = o.ca_file = NULL;
    o.socket_mode = 0600;
    must_format(&o, "dnstap listen unix:///s full {\n    writebuffer 2\n    socket_mode 0600\n}\n");
}

static void test_filters_are_written(void **state)
{
    static const char *const zones[] = {"example.org", "a#b", NULL};
    dnstap_options o;

    (void)state;
    memset(&o, 0, sizeof o);
    o.endpoint = "/s";
    o.full = true;
    o.zones = zones + 2; /* none */
    must_format(&o, "dnstap /s full\n");
    o.zones = zones;
    o.types = 1u << 5 | 1u << 30 | 1u << 31;
    o.rcodes = (uint64_t)1 << 3 | (uint64_t)1 << 63;
    o.sample = UINT32_MAX;
    o.anonymize_v4 = DNSTAP_KEEP_NONE;
    must_format(&o, "dnstap /s full {\n    types CLIENT_QUERY 30 31\n    rcode NXDOMAIN 63\n"
                    "    zone example.org \"a#b\"\n    sample 4294967295\n"
                    "    anonymize 0 128\n}\n");
}

static void must_not_format(const dnstap_options *o)
{
    char out[600];

    assert_int_equal(dnstap_format(o, out, sizeof out), DNSTAP_BAD_OPTION);
    assert_int_equal(dnstap_format(o, NULL, 0), DNSTAP_BAD_OPTION);
}

static void test_what_can_not_be_written_is_refused(void **state)
{
    static const char *const endpoints[] = {
        NULL,          "",           "s.sock",       "unix://", "udp://h:1",  "tcp://h:x",
        "tcp://u@h:1", "tls://h:1/", "tcp://h:1%20", "full",    "tcp://[x]:1"};
    static const char *const values[] = {"a{$B}c", "{%B%}", "a \\", "# \\\""};
    static const char *const zones[] = {"a", "b..c", NULL};
    dnstap_options base, o;
    size_t i;

    (void)state;
    memset(&base, 0, sizeof base);
    base.endpoint = "/s";
    for (i = 0; i < COUNT(endpoints); i++) o = base, o.endpoint = endpoints[i], must_not_format(&o);
    for (i = 0; i < COUNT(values); i++) o = base, o.identity = values[i], must_not_format(&o);
    o = base, o.queue = 4097, must_not_format(&o);
    o = base, o.writebuffer = 1025, must_not_format(&o);
    o = base, o.flush_ms = -2, must_not_format(&o);
    o = base, o.timeout_ms = -1, must_not_format(&o);
    o = base, o.skipverify = true, must_not_format(&o);
    o = base, o.max_sinks = 1, must_not_format(&o);
    o = base, o.ca_file = "a", must_not_format(&o);
    o = base, o.zones = zones, must_not_format(&o);
    o = base, o.anonymize_v4 = 33, must_not_format(&o);
    o = base, o.anonymize_v6 = 129, must_not_format(&o);
    o = base, o.listen = true, o.socket_mode = 01000, must_not_format(&o);
    base.endpoint = "tls://h:1";
    o = base, o.cert_file = "c", must_not_format(&o);
    o = base, o.listen = true, o.ca_file = "a", must_not_format(&o);
    o = base, o.listen = true, o.endpoint = "file:///x", must_not_format(&o);
}

/* -- what dnstap_open says -- */

static void open_must_say(const char *text, int lenient, int code, const char *says)
{
    dnstap_error error;

    assert_int_equal(read_text(&r, text, lenient), 1);
    assert_null(dnstap_open(&r.taps[0], &error));
    assert_int_equal(error.code, code);
    if (!strstr(error.text, says)) fail_msg("%s: \"%s\" lacks \"%s\"", text, error.text, says);
    assert_int_equal(error.line, r.taps[0].line);
}

static void test_what_coredns_finds_out_at_run_time_is_an_error_of_open(void **state)
{
    (void)state;
    open_must_say("\ndnstap tcp://h:99999", STRICT, DNSTAP_BAD_OPTION,
                  "line 2: tcp://h:99999: port \"99999\" is not a number from 1 to 65535; CoreDNS "
                  "would have started");
    open_must_say("dnstap tcp://h", STRICT, DNSTAP_BAD_OPTION, "CoreDNS would have started");
    open_must_say("dnstap \"\"", LENIENT, DNSTAP_BAD_OPTION,
                  "line 1: unix://: path is empty; CoreDNS would have started");
    open_must_say("dnstap tls://127.0.0.1:1 {\n tls_ca /nonexistent.pem\n}", STRICT, DNSTAP_SYSTEM,
                  "line 1: /nonexistent.pem: can't open it");
    open_must_say("dnstap tcp://h:0 {\n timeout 1s\n}", STRICT, DNSTAP_BAD_OPTION,
                  "line 1: tcp://");
}

static void test_only_what_coredns_has_is_compared_with_it(void **state)
{
    dnstap_error error;

    (void)state;
    assert_int_equal(read_text(&r, "dnstap tcp://h:0 {\n timeout 1s\n}", STRICT), 1);
    assert_null(dnstap_open(&r.taps[0], &error));
    assert_null(strstr(error.text, "CoreDNS"));
    r.taps[0].line = 0;
    assert_null(dnstap_open(&r.taps[0], &error));
    assert_int_equal(strncmp(error.text, "tcp://h:0", 9), 0);
    assert_int_equal(error.line, 0);
}

static void test_a_long_identity_gets_the_room_it_needs(void **state)
{
    char text[6000] = "dnstap /s {\n identity ";
    dnstap_error error;
    dnstap_tap *tap;

    (void)state;
    memset(text + strlen(text), 'i', 5000);
    strcat(text, "\n}");
    tap = dnstap_open(tap_of(text), &error);
    if (!tap) fail_msg("%s", error.text);
    free(r.memory); /* open has copied what it needs */
    r.memory = NULL;
    assert_int_equal(dnstap_close(tap, 0), DNSTAP_OK);
}

/* One of the specification's examples: 10 GB a ring, which nobody has, and which is not needed. */
static void test_a_long_queue_needs_no_memory_until_it_is_used(void **state)
{
    dnstap_error error;
    dnstap_tap *tap = dnstap_open(tap_of("dnstap /tmp/dnstap.sock full 1024 2048"), &error);
    dnstap_status status;

    (void)state;
    if (!tap) fail_msg("%s", error.text);
    dnstap_get_status(tap, &status);
    assert_true(status.ring_size >= (size_t)20480000 * 512);
    assert_int_equal(dnstap_close(tap, 0), DNSTAP_OK);
}

/* A listening socket that nobody serves, which is all it takes to be connected to. */
static int listener(uint16_t *port)
{
    struct sockaddr_in at;
    socklen_t size = sizeof at;
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    memset(&at, 0, sizeof at);
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, size), 0);
    assert_int_equal(listen(fd, 8), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &size), 0);
    *port = ntohs(at.sin_port);
    return fd;
}

/* SO_SNDBUF of a tap with such a text, as the system has it once it is connected. */
static int send_buffer(const char *scheme, uint16_t port, const char *rest)
{
    char text[100];
    dnstap_tap *tap;
    dnstap_error error;
    int i, size = 0;

    snprintf(text, sizeof text, "dnstap %s://127.0.0.1:%u %s", scheme, (unsigned)port, rest);
    tap = dnstap_open(tap_of(text), &error);
    if (!tap) fail_msg("%s", error.text);
    for (i = 0; i < 1000 && !size; i++) {
        assert_int_equal(dnstap_service(tap), DNSTAP_OK);
        size = dnstap__send_buffer(&tap->links[0].lower);
        dnstap__pause();
    }
    dnstap_close(tap, 0);
    return size;
}

/* CoreDNS does so for tcp only. */
static void test_writebuffer_is_for_tls_as_for_tcp(void **state)
{
    uint16_t port;
    int fd = listener(&port), one, four;

    (void)state;
    one = send_buffer("tcp", port, "full");
    four = send_buffer("tcp", port, "full 4");
    assert_true(one > 0 && four > 0);
    assert_int_equal(send_buffer("tls", port, "full {\n skipverify\n}"), one);
    assert_int_equal(send_buffer("tls", port, "full 4 {\n skipverify\n}"), four);
    if (four == one) print_message("net.core.wmem_max can't tell 1 from 4 MiB\n");
    close(fd);
}

/* There it is a line in the log, and a listener that is not there. */
static void test_what_keeps_a_tap_from_listening_is_an_error_of_open(void **state)
{
    char text[80];
    uint16_t port;
    int fd = listener(&port);

    (void)state;
    snprintf(text, sizeof text, "\ndnstap listen tcp://127.0.0.1:%u", (unsigned)port);
    open_must_say(text, STRICT, DNSTAP_SYSTEM,
                  "Address already in use; CoreDNS would have started");
    open_must_say("dnstap listen tcp://127.0.0.1:99999", LENIENT, DNSTAP_BAD_OPTION,
                  "port \"99999\" is not a number from 1 to 65535; CoreDNS would have started");
    open_must_say("dnstap listen /nonexistent/s", LENIENT, DNSTAP_SYSTEM,
                  "No such file or directory; CoreDNS would have started");
    open_must_say("dnstap listen tls://127.0.0.1:0", STRICT, DNSTAP_BAD_OPTION,
                  "needs a certificate; set options.cert_file; CoreDNS would have started");
    open_must_say("dnstap listen tls://127.0.0.1:0 {\n tls /none.pem /none.key\n}", STRICT,
                  DNSTAP_SYSTEM,
                  "/none.pem: can't open it: No such file or directory; CoreDNS "
                  "would have started");
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_connecting_taps_have_more),
        cmocka_unit_test(test_what_listening_taps_have_more),
        cmocka_unit_test(test_filters_are_words),
        cmocka_unit_test(test_zones_have_room_in_memory),
        cmocka_unit_test(test_defaults_are_the_specifications),
        cmocka_unit_test(test_what_does_not_go_together_is_refused),
        cmocka_unit_test(test_lenient_knows_only_what_coredns_knows),
        cmocka_unit_test(test_memory_too_small_says_how_much_is_enough),
        cmocka_unit_test(test_variables_without_end_are_stopped),
        cmocka_unit_test(test_more_taps_than_there_is_room_for_are_refused),
        cmocka_unit_test(test_long_words_are_taken_whole_and_shown_cut),
        cmocka_unit_test(test_options_are_written_as_a_directive),
        cmocka_unit_test(test_filters_are_written),
        cmocka_unit_test(test_what_can_not_be_written_is_refused),
        cmocka_unit_test(test_what_coredns_finds_out_at_run_time_is_an_error_of_open),
        cmocka_unit_test(test_only_what_coredns_has_is_compared_with_it),
        cmocka_unit_test(test_a_long_identity_gets_the_room_it_needs),
        cmocka_unit_test(test_a_long_queue_needs_no_memory_until_it_is_used),
        cmocka_unit_test(test_writebuffer_is_for_tls_as_for_tcp),
        cmocka_unit_test(test_what_keeps_a_tap_from_listening_is_an_error_of_open),
    };
    int failed = RUN_TESTS(tests, NULL, NULL);

    free(r.memory);
    return failed;
}
