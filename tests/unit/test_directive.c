/* The directive: words as CoreDNS's lexer cuts them, the plugin's own cases, what is refused with
 * line, column and a way out, what leniency makes of it, and what goes beyond CoreDNS. */
#include "directive_support.h"

static reading r;

static void forget(void) { free(r.memory); }

#define COUNT(a) (sizeof(a) / sizeof *(a))

/* -- words: CoreDNS's lexer's own cases, and more -- */

static const struct {
    const char *text;
    const char *words[6]; /* each with its line in front */
} lexed[] = {
    {"host:123", {"1host:123"}},
    {"host:123\n\n\t\tdirective", {"1host:123", "3directive"}},
    {"host:123 {\n directive\n }", {"1host:123", "1{", "2directive", "3}"}},
    {"host:123 { directive }", {"1host:123", "1{", "1directive", "1}"}},
    {"host:123 {\n#comment\ndirective\n# comment\nfoobar # another\n}",
     {"1host:123", "1{", "3directive", "5foobar", "6}"}},
    {"a \"quoted value\" b\n\t\tfoobar", {"1a", "1quoted value", "1b", "2foobar"}},
    {"A \"quoted \\\"value\\\" inside\" B", {"1A", "1quoted \"value\" inside", "1B"}},
    {"\"don't\\escape\"", {"1don't\\escape"}},
    {"\"don't\\\\escape\"", {"1don't\\\\escape"}},
    {"A \"quoted value with line\n\t\tbreak inside\" {\n foobar\n}",
     {"1A", "1quoted value with line\n\t\tbreak inside", "2{", "3foobar", "4}"}},
    {"\"C:\\php\\php-cgi.exe\"", {"1C:\\php\\php-cgi.exe"}},
    {"empty \"\" string", {"1empty", "1", "1string"}},
    {"skip those\r\nCR characters", {"1skip", "1those", "2CR", "2characters"}},
    {"a\rb \"c\r\nd\" e", {"1ab", "1c\r\nd", "2e"}}, /* outside of quotes only */
    {"a\"b \"a\"b", {"1a\"b", "1a", "1b"}},
    {"a#b\nc#d e", {"1a", "2c", "2e"}}, /* a glued comment ends with the next blank */
    {"a\xc2\xa0"
     "b\xe3\x80\x80"
     "c\xe2\x80\x8b"
     "d",
     {"1a", "1b",
      "1c\xe2\x80\x8b"
      "d"}},
    {"'a' `b` \\", {"1'a'", "1`b`", "1\\"}},
    {"\"\\\\\\\"\" x", {"1\\\\\"", "1x"}},
    {"{foo} {} }{", {"1{foo}", "1{}", "1}{"}},
    {"\xf0\x9f\x98\x80 \xc3\xa4", {"1\xf0\x9f\x98\x80", "1\xc3\xa4"}},
    {"a\xff\xc3(", {"1a\xef\xbf\xbd\xef\xbf\xbd("}}, /* what is not UTF-8, when lenient */
    {"{$A}{%A%}{$NONE}.", {"1aa."}},
    {"x{$}{$A} {$ {%} {%%}", {"1x{$}{$A}", "1{$", "1{%}", "1{%%}"}},
    {"{$B} \"{$A} b\"", {"1a{%A%}", "1a b"}}, /* of {%…%} first, so what comes later stays */
    {"{$A:def}x {$LINES} y", {"1x", "1one\ntwo", "1y"}},
    {"{$OPEN}A}", {"1a"}}, /* looked at again from the beginning */
    {"# only\n  # comments", {NULL}},
    {"", {NULL}},
};

static void test_words_are_cut_as_coredns_does(void **state)
{
    char memory[256], word[256];
    dnstap__words w;
    size_t i, n;

    (void)state;
    for (i = 0; i < COUNT(lexed); i++) {
        memset(&w, 0, sizeof w);
        w.text = w.at = lexed[i].text;
        w.at_line = w.at_column = 1;
        w.memory = memory;
        w.size = sizeof memory;
        w.how.lenient = true;
        w.how.user = &r;
        w.how.variable = test_variable;
        for (n = 0; n < 6 && lexed[i].words[n]; n++) {
            assert_int_equal(dnstap__read_word(&w), 1);
            snprintf(word, sizeof word, "%d%s", w.line, w.word);
            assert_string_equal(word, lexed[i].words[n]);
        }
        assert_int_equal(dnstap__read_word(&w), 0);
    }
}

static void test_columns_count_characters_and_lines_count_breaks(void **state)
{
    (void)state;
    assert_int_equal(read_text(&r, "\xef\xbb\xbf# \xc3\xa4\r\ndnstap \"\xc3\xa4\n\xc3\xa4\" x", 0),
                     DNSTAP_BAD_OPTION);
    assert_int_equal(r.error.line, 3);
    assert_int_equal(r.error.column, 4);
}

/* -- the plugin's own cases -- */

#define NONE NULL, NULL, NULL, NULL, NULL, NULL, false

typedef struct plugin_tap {
    const char *endpoint;
    bool full, listen;
    uint32_t writebuffer, queue;
    const char *identity, *version, *extra, *cert, *key, *ca;
    bool skipverify;
} plugin_tap;

static const struct {
    const char *text;
    plugin_tap taps[2]; /* none: it must be refused */
} plugin[] = {
    {"dnstap dnstap.sock full", {{"unix://dnstap.sock", true, false, 1, 1, NONE}}},
    {"dnstap unix://dnstap.sock", {{"unix://dnstap.sock", false, false, 1, 1, NONE}}},
    {"dnstap tcp://127.0.0.1:6000", {{"tcp://127.0.0.1:6000", false, false, 1, 1, NONE}}},
    {"dnstap tcp://[::1]:6000", {{"tcp://[::1]:6000", false, false, 1, 1, NONE}}},
    {"dnstap tcp://example.com:6000", {{"tcp://example.com:6000", false, false, 1, 1, NONE}}},
    {"dnstap", {{0}}},
    {"dnstap dnstap.sock full {\nidentity NAME\nversion VER\n}\n",
     {{"unix://dnstap.sock", true, false, 1, 1, "NAME", "VER", NULL, NULL, NULL, NULL, false}}},
    {"dnstap dnstap.sock full {\nidentity NAME\nversion VER\nextra EXTRA\n}\n",
     {{"unix://dnstap.sock", true, false, 1, 1, "NAME", "VER", "EXTRA", NULL, NULL, NULL, false}}},
    {"dnstap dnstap.sock {\nidentity NAME\nversion VER\nextra EXTRA\n}\n",
     {{"unix://dnstap.sock", false, false, 1, 1, "NAME", "VER", "EXTRA", NULL, NULL, NULL, false}}},
    {"dnstap {\nidentity NAME\nversion VER\nextra EXTRA\n}\n", {{0}}},
    {"dnstap dnstap.sock full {\n identity NAME\n version VER\n extra EXTRA\n }\n"
     "dnstap tcp://127.0.0.1:6000 {\n identity NAME2\n version VER2\n extra EXTRA2\n }",
     {{"unix://dnstap.sock", true, false, 1, 1, "NAME", "VER", "EXTRA", NULL, NULL, NULL, false},
      {"tcp://127.0.0.1:6000", false, false, 1, 1, "NAME2", "VER2", "EXTRA2", NULL, NULL, NULL,
       false}}},
    {"dnstap tls://127.0.0.1:6000", {{"tls://127.0.0.1:6000", false, false, 1, 1, NONE}}},
    {"dnstap dnstap.sock {\nidentity\n}\n", {{0}}},
    {"dnstap dnstap.sock {\nversion\n}\n", {{0}}},
    {"dnstap dnstap.sock {\nextra\n}\n", {{0}}},
    {"dnstap dnstap.sock {\nidentitiy NAME\n}\n", {{0}}},
    {"dnstap dnstap.sock full 1024 2048", {{"unix://dnstap.sock", true, false, 1024, 2048, NONE}}},
    {"dnstap dnstap.sock full 1025 1", {{0}}},
    {"dnstap dnstap.sock full 1 4097", {{0}}},
    {"dnstap dnstap.sock full 0 10", {{0}}},
    {"dnstap dnstap.sock full 10 0", {{0}}},
    {"dnstap dnstap.sock full x 10", {{0}}},
    {"dnstap dnstap.sock full 10 y", {{0}}},
    {"dnstap listen tcp://127.0.0.1:6000", {{"tcp://127.0.0.1:6000", false, true, 1, 1, NONE}}},
    {"dnstap listen tcp://127.0.0.1:6000 full", {{"tcp://127.0.0.1:6000", true, true, 1, 1, NONE}}},
    {"dnstap listen unix:///tmp/dnstap.sock",
     {{"unix:///tmp/dnstap.sock", false, true, 1, 1, NONE}}},
    {"dnstap listen /tmp/dnstap.sock full", {{"/tmp/dnstap.sock", true, true, 1, 1, NONE}}},
    {"dnstap listen tls://127.0.0.1:6000 full {\ntls /path/to/cert.pem /path/to/key.pem\n}\n",
     {{"tls://127.0.0.1:6000", true, true, 1, 1, NULL, NULL, NULL, "/path/to/cert.pem",
       "/path/to/key.pem", NULL, false}}},
    {"dnstap listen tls://127.0.0.1:6000 {\ntls /path/to/cert.pem /path/to/key.pem /to/ca.pem\n}\n",
     {{"tls://127.0.0.1:6000", false, true, 1, 1, NULL, NULL, NULL, "/path/to/cert.pem",
       "/path/to/key.pem", "/to/ca.pem", false}}},
    {"dnstap listen tls://127.0.0.1:6000 {\ntls /path/to/cert.pem /path/to/key.pem\nskipverify\n}",
     {{"tls://127.0.0.1:6000", false, true, 1, 1, NULL, NULL, NULL, "/path/to/cert.pem",
       "/path/to/key.pem", NULL, true}}},
    {"dnstap listen", {{0}}},
    {"dnstap listen tcp://127.0.0.1:6000 {\ntls /path/to/cert.pem\n}\n", {{0}}},
    {"dnstap tcp://remote.example.com:6000 full\n dnstap listen tcp://127.0.0.1:6001",
     {{"tcp://remote.example.com:6000", true, false, 1, 1, NONE},
      {"tcp://127.0.0.1:6001", false, true, 1, 1, NONE}}},
};

static void must_be(const dnstap_options *o, const plugin_tap *want)
{
    dnstap_options w;

    memset(&w, 0, sizeof w);
    w.endpoint = want->endpoint;
    w.full = want->full;
    w.listen = want->listen;
    w.writebuffer = want->writebuffer;
    w.queue = want->queue;
    w.identity = want->identity;
    w.version = want->version;
    w.extra = want->extra;
    w.cert_file = want->cert;
    w.key_file = want->key;
    w.ca_file = want->ca;
    w.skipverify = want->skipverify;
    assert_true(same_options(o, &w));
    assert_true(o->coredns);
}

static void test_the_plugins_cases_come_out_as_there(void **state)
{
    size_t i;
    int lenient, n;

    (void)state;
    for (i = 0; i < COUNT(plugin); i++) {
        for (lenient = STRICT; lenient <= LENIENT; lenient++) {
            read_text(&r, plugin[i].text, lenient);
            if (!plugin[i].taps[0].endpoint) {
                assert_int_equal(r.count, DNSTAP_BAD_OPTION);
                continue;
            }
            if (r.count < 0) fail_msg("%s: %s", plugin[i].text, r.error.text);
            assert_int_equal(r.count, plugin[i].taps[1].endpoint ? 2 : 1);
            for (n = 0; n < r.count; n++) must_be(&r.taps[n], &plugin[i].taps[n]);
        }
    }
}

static void test_three_directives_are_three_taps_in_order(void **state)
{
    (void)state;
    assert_int_equal(
        read_text(&r, "\n dnstap dnstap1.sock\n dnstap dnstap2.sock\n dnstap dnstap3.sock\n", 0),
        3);
    assert_string_equal(r.taps[0].endpoint, "unix://dnstap1.sock");
    assert_string_equal(r.taps[1].endpoint, "unix://dnstap2.sock");
    assert_string_equal(r.taps[2].endpoint, "unix://dnstap3.sock");
    assert_int_equal(r.taps[2].line, 4);
}

/* -- what is refused always, where, and what it says -- */

static const struct {
    const char *text, *says;
} refused[] = {
    {"dnstap s {\n\n identitiy x\n}",
     "line 3, column 2: unknown property \"identitiy\"; did you mean \"identity\"?"},
    {"dnstap s {\n IDENTITY x\n}",
     "line 2, column 2: unknown property \"IDENTITY\"; did you mean \"id"},
    {"dnstap s {\n frobnicate\n}", "unknown property \"frobnicate\"; expected identity, version,"},
    {"dnstap s {\n extra a b\n}", "line 2, column 10: unknown property \"b\"; a value with blanks"},
    {"dnstap s {\n identity x {\n a\n }\n}", "line 2, column 13: a block inside the block"},
    {"dnstap s {\n identity\n version x\n}", "line 2, column 2: \"identity\" needs a value on its"},
    {"dnstap", "line 1, column 1: expected a socket on this line"},
    {"dnstap listen", "line 1, column 1: expected a socket on this line, behind listen"},
    {"dnstap s full\n{\n}", "line 2, column 1: \"{\" must stand on the directive's line"},
    {"dnstap s full{\n identity x\n}", "line 1, column 10: expected \"full\" or nothing, not"},
    {"dnstap s{\n identity x\n}", "line 2, column 2: unknown directive \"identity\"; expected "
                                  "\"dnstap\"; a block opens on its directive's line"},
    {"dnstap s {\n identity x\n", "line 1, column 10: the \"{\" here has no \"}\""},
    {"dnstap s {\n identity \"x\n}\n", "line 2, column 11: the quote that opens here never ends"},
    {"dnstap s {\n identity \"x\\", "line 2, column 11: the quote that opens here never ends"},
    {"dnstap s\n}", "line 2, column 1: \"}\" without its \"{\""},
    {"dnstap s }", "line 1, column 10: \"}\" without its \"{\""},
    {"}", "line 1, column 1: \"}\" without its \"{\""},
    {"{\n}", "line 1, column 1: unknown directive \"{\"; expected \"dnstap\""},
    {"DNSTAP s", "line 1, column 1: unknown directive \"DNSTAP\"; expected \"dnstap\""},
    {"dnstap s \\\n full", "expected \"full\" or nothing, not \"\\\""},
    {"import x", "line 1, column 1: import and snippets belong to the host's file"},
    {"dnstap s {\n import x\n}", "line 2, column 2: import and snippets belong to the host's file"},
    {"(taps) {\n dnstap s\n}", "line 1, column 1: import and snippets belong to the host's file"},
    {"dnstap s full 1.5", "line 1, column 15: writebuffer is \"1.5\"; expected a number from 1 to"},
    {"dnstap s full 1 -1", "queue is \"-1\"; expected a number from 1 to 4096"},
    {"dnstap s full +", "writebuffer is \"+\""},
    {"dnstap s full 18446744073709551617", "expected a number from 1 to 1024"},
    {"dnstap tls://h:1 {\n tls c k\n}", "line 2, column 2: \"tls\" is for taps that listen"},
    {"dnstap listen tls://h:1 {\n tls c\n}", "\"tls\" needs two files on its line, CERT and KEY"},
    {"dnstap listen tls://h:1 {\n tls c\n k\n}", "line 2, column 2: \"tls\" needs two files on"},
    {"dnstap tcp://h:port", "line 1, column 8: \"tcp://h:port\" is no address; write tcp://HOST"},
    {"dnstap tcp://h:60%zz", "is no address"},
    {"dnstap \"tcp://a b:1\"", "is no address"},
    {"dnstap tcp://[::1", "is no address"},
    {"dnstap tcp://[::1]x", "is no address"},
    {"dnstap tcp://[host]:1", "is no address"},
    {"dnstap tcp://h%41:1", "is no address"},
    {"dnstap tls://us^er@h:1", "is no address"},
    {"dnstap \"tls://h:1/%x\"", "is no address"},
    {"dnstap \"tls://h:1\n\"", "is no address"},
    {"dnstap s {\n identity {$SELF}\n}", "line 2, column 11: more than 100 variables in a word"},
};

static void must_say(const char *text, const char *says)
{
    char where[40];

    assert_int_equal(r.count, DNSTAP_BAD_OPTION);
    assert_int_equal(r.error.code, DNSTAP_BAD_OPTION);
    if (!strstr(r.error.text, says)) fail_msg("%s: \"%s\" lacks \"%s\"", text, r.error.text, says);
    snprintf(where, sizeof where, "line %d, column %d: ", r.error.line, r.error.column);
    assert_int_equal(strncmp(r.error.text, where, strlen(where)), 0);
}

static void test_what_is_wrong_is_said_with_its_place_and_a_way_out(void **state)
{
    size_t i;

    (void)state;
    for (i = 0; i < COUNT(refused); i++) {
        read_text(&r, refused[i].text, STRICT);
        must_say(refused[i].text, refused[i].says);
        if (read_text(&r, refused[i].text, LENIENT) >= 0)
            fail_msg("lenient takes %s", refused[i].text);
    }
}

/* -- what CoreDNS swallows: refused, or when lenient done as there, with a warning -- */

static const struct {
    const char *text, *says, *same; /* what it means, as a text that is beyond doubt; "": no tap */
} swallowed[] = {
    {"dnstap s ful", "line 1, column 10: expected \"full\" or nothing, not \"ful\"", "dnstap s"},
    {"dnstap s x\033[2J", "not \"x\\x1b[2J\"", "dnstap s"}, /* nothing for terminals */
    {"dnstap s FULL", "expected \"full\"", "dnstap s"},
    {"dnstap s 4 4", "numbers stand behind full, or as queue N in the block",
     "dnstap s {\n writebuffer 4\n}"},
    {"dnstap s 1024", "numbers stand behind full", "dnstap s"},
    {"dnstap s full 1 1 more words", "line 1, column 19: \"more\" is a word too many",
     "dnstap s full"},
    {"dnstap listen s full 4 4", "a tap that listens has queue N in its block",
     "dnstap listen s full"},
    {"dnstap listen /s {\n tls c k\n}", "line 2, column 2: \"tls\" is for tls:// only",
     "dnstap listen /s"},
    {"dnstap listen tls://h:1 {\n tls c k a more\n}", "\"more\" is one file too many",
     "dnstap listen tls://h:1 {\n tls c k a\n}"},
    {"dnstap s {\n skipverify\n}", "line 2, column 2: \"skipverify\" is for tls:// only",
     "dnstap s"},
    {"dnstap udp://h:1", "line 1, column 8: \"udp://h:1\" has none of the schemes",
     "dnstap unix://udp://h:1"},
    {"dnstap TCP://h:1", "has none of the schemes tcp://", "dnstap unix://TCP://h:1"},
    {"dnstap 127.0.0.1:6000", "has none of the schemes", "dnstap unix://127.0.0.1:6000"},
    {"dnstap unix:/s", "has none of the schemes", "dnstap unix://unix:/s"},
    {"dnstap full s", "expected a socket, not \"full\"; one of that name is ./full",
     "dnstap unix://full"},
    {"dnstap listen full", "line 1, column 15: expected a socket, not \"full\"",
     "dnstap listen unix://full"},
    {"dnstap tcp://u:p@h:1/p?q full", "only host and port are looked at", "dnstap tcp://h:1 full"},
    {"dnstap \"tls://h:1#x\"", "only host and port are looked at", "dnstap tls://h:1"},
    {"dnstap tcp://[fe80::1%25eth0]:1", "only host and port are looked at", ""},
    {"dnstap s {\n identity a#b version c\n}", "line 2, column 11: the # in this word hides",
     "dnstap s {\n identity a\n version c\n}"},
    {"dnstap s {\n} dnstap t full", "line 2, column 3: \"dnstap\" behind a block begins another",
     "dnstap s\ndnstap t full"},
    {"dnstap s { } any t", "line 1, column 14: \"any\" behind a block", "dnstap s\ndnstap t"},
    {"dnstap listen tls://h:1 { tls c k }", "CoreDNS takes this \"}\" for one more word",
     "dnstap listen tls://h:1 {\n tls c k \"}\"\n}"},
    {"forward . 8.8.8.8\nmetadata\nhosts f {\n a b\n}\ndnstap s",
     "line 1, column 1: \"forward\" belongs to the host's file", "dnstap s"},
    {"dnstap \"\"", "line 1, column 8: the socket's path is empty", ""},
    {"dnstap {$UNSET}", "the socket's path is empty", ""},
};

static void test_what_coredns_swallows_is_refused_or_done_as_there(void **state)
{
    reading want;
    size_t i;
    int n;

    (void)state;
    memset(&want, 0, sizeof want);
    for (i = 0; i < COUNT(swallowed); i++) {
        read_text(&r, swallowed[i].text, STRICT);
        must_say(swallowed[i].text, swallowed[i].says);
        read_text(&r, swallowed[i].text, LENIENT);
        if (r.count < 1) fail_msg("%s: %s", swallowed[i].text, r.error.text);
        assert_true(r.warnings > 0);
        if (!*swallowed[i].same) continue;
        assert_int_equal(read_text(&want, swallowed[i].same, STRICT), r.count);
        for (n = 0; n < r.count; n++)
            if (!same_options(&r.taps[n], &want.taps[n])) fail_msg("%s", swallowed[i].text);
    }
    free(want.memory);
}

static void test_a_zone_in_an_address_is_unescaped(void **state)
{
    (void)state;
    assert_int_equal(read_text(&r, "dnstap tcp://[fe80::1%25eth0]:1", LENIENT), 1);
    assert_string_equal(r.taps[0].endpoint, "tcp://[fe80::1%eth0]:1");
}

/* In CoreDNS a brace without quotes may be a value; and then the block is over. */
static void test_a_lone_brace_is_a_value_to_coredns_only(void **state)
{
    (void)state;
    assert_int_equal(read_text(&r, "dnstap s { identity }", LENIENT), 1);
    assert_string_equal(r.taps[0].identity, "}");
    assert_true(r.warnings > 0);
    assert_int_equal(read_text(&r, "dnstap s { identity { } } t u", LENIENT), 2);
    assert_string_equal(r.taps[0].identity, "{");
    assert_string_equal(r.taps[1].endpoint, "unix://t");
    assert_int_equal(read_text(&r, "dnstap s { identity }", STRICT), DNSTAP_BAD_OPTION);
    assert_int_equal(read_text(&r, "dnstap s { identity }\ndnstap t", LENIENT), DNSTAP_BAD_OPTION);
}

static void test_a_quoted_brace_is_a_value(void **state)
{
    int lenient;

    (void)state;
    for (lenient = STRICT; lenient <= LENIENT; lenient++) {
        assert_int_equal(read_text(&r, "dnstap s {\n identity \"{\"\n version \"}\"\n}", lenient),
                         1);
        assert_string_equal(r.taps[0].identity, "{");
        assert_string_equal(r.taps[0].version, "}");
        assert_int_equal(read_text(&r, "dnstap s {\n identity {$BRACE}\n}", lenient), 1);
        assert_string_equal(r.taps[0].identity, "{");
    }
}

static void test_what_is_only_doubtful_is_a_warning(void **state)
{
    (void)state;
    assert_int_equal(read_text(&r, "dnstap s {\n identity a\n identity b\n}", STRICT), 1);
    assert_string_equal(r.taps[0].identity, "b");
    assert_int_equal(r.warnings, 1);
    assert_string_equal(r.warning,
                        "line 3, column 2: \"identity\" is given twice; the last counts");
    assert_int_equal(read_text(&r, "dnstap s {\n identity x{$UNSET}\n}", STRICT), 1);
    assert_string_equal(r.taps[0].identity, "x");
    assert_string_equal(r.warning, "line 2, column 11: variable \"UNSET\" is not set");
}

/* -- in between: lines and variables -- */

static void test_lines_and_blocks_are_taken_in_all_forms(void **state)
{
    static const char *const same[] = {
        "dnstap /s full {\n identity x\n}",
        "dnstap /s full { identity x }",
        "dnstap /s full {\n identity x }",
        "dnstap /s full {\r\n\tidentity x\r\n}\r\n",
        "\xef\xbb\xbf\tdnstap /s full { # c\n# d\nidentity \"x\"# e\n}",
        "\tdnstap\t/s\tfull\t{\n\t\tidentity\tx\n\t}",
        "{$DIRECTIVE} /s full { identity x\n}\n\n",
        "dnstap \"/s\" \"full\" +1 01 { identity x }"};
    size_t i;

    (void)state;
    for (i = 0; i < COUNT(same); i++) {
        if (read_text(&r, same[i], STRICT) != 1) fail_msg("%s: %s", same[i], r.error.text);
        assert_string_equal(r.taps[0].endpoint, "/s");
        assert_string_equal(r.taps[0].identity, "x");
        assert_true(r.taps[0].full);
    }
}

/* A word ends on the line where it would end if the variable's value stood there. */
static void test_line_breaks_of_a_variable_count(void **state)
{
    (void)state;
    assert_int_equal(read_text(&r, "dnstap {$LINES}\nfull", LENIENT), 1);
    assert_string_equal(r.taps[0].endpoint, "unix://one\ntwo");
    assert_true(r.taps[0].full);
    assert_int_equal(read_text(&r, "dnstap {$LINES} full", LENIENT), DNSTAP_BAD_OPTION);
    assert_int_equal(read_text(&r, "dnstap \"one\ntwo\" full", LENIENT), 1);
    assert_true(r.taps[0].full);
}

static void test_messages_show_no_half_characters(void **state)
{
    (void)state;
    read_text(&r, "dnstap /s {\n xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\xc3\xa4yyy\n}",
              STRICT);
    assert_non_null(strstr(r.error.text, "property \"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
                                         "...\""));
}

static void test_several_properties_may_share_a_line(void **state)
{
    (void)state;
    assert_int_equal(read_text(&r, "dnstap tls://h:1 {\n skipverify identity zed\n}", STRICT), 1);
    assert_true(r.taps[0].skipverify);
    assert_string_equal(r.taps[0].identity, "zed");
}

static void test_variables_come_from_the_environment_by_default(void **state)
{
    char memory[100];
    dnstap_options o;
    dnstap_error error;

    (void)state;
    setenv("DNSTAP_TEST_VARIABLE", "/from/environment", 1);
    assert_int_equal(
        dnstap_parse("dnstap {$DNSTAP_TEST_VARIABLE}", memory, sizeof memory, &o, 1, NULL, &error),
        1);
    assert_string_equal(o.endpoint, "/from/environment");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words_are_cut_as_coredns_does),
        cmocka_unit_test(test_columns_count_characters_and_lines_count_breaks),
        cmocka_unit_test(test_the_plugins_cases_come_out_as_there),
        cmocka_unit_test(test_three_directives_are_three_taps_in_order),
        cmocka_unit_test(test_what_is_wrong_is_said_with_its_place_and_a_way_out),
        cmocka_unit_test(test_what_coredns_swallows_is_refused_or_done_as_there),
        cmocka_unit_test(test_a_zone_in_an_address_is_unescaped),
        cmocka_unit_test(test_a_lone_brace_is_a_value_to_coredns_only),
        cmocka_unit_test(test_a_quoted_brace_is_a_value),
        cmocka_unit_test(test_what_is_only_doubtful_is_a_warning),
        cmocka_unit_test(test_lines_and_blocks_are_taken_in_all_forms),
        cmocka_unit_test(test_line_breaks_of_a_variable_count),
        cmocka_unit_test(test_messages_show_no_half_characters),
        cmocka_unit_test(test_several_properties_may_share_a_line),
        cmocka_unit_test(test_variables_come_from_the_environment_by_default),
    };
    int failed = RUN_TESTS(tests, NULL, NULL);

    forget();
    return failed;
}
