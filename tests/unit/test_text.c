/* Texts that are put together: what comes from outside, a file's name or a peer's words, is shown
 * and never obeyed by a terminal; what people can read stays as it is. */
#define _DEFAULT_SOURCE
#define DNSTAP_IMPLEMENTATION
#include "dnstap.h"
#include "unit.h"

static void check(const char *given, const char *shown)
{
    char text[64];

    dnstap__format(text, sizeof text, "%s!", given);
    assert_string_equal(text[strlen(text) - 1] == '!' ? "!" : "", "!");
    text[strlen(text) - 1] = '\0';
    assert_string_equal(text, shown);
    dnstap__format(text, sizeof text, "%s", shown); /* what was shown is shown alike again */
    assert_string_equal(text, shown);
}

static void test_what_can_be_read_stays_as_it_is(void **state)
{
    (void)state;
    check("", "");
    check("/var/log/dns tap~.fstrm \\ \"%s\"", "/var/log/dns tap~.fstrm \\ \"%s\"");
    check("/srv/Protokoll/größe", "/srv/Protokoll/größe");
    check("日本語.example", "日本語.example");
    check("\xf0\x9f\x90\x99", "\xf0\x9f\x90\x99"); /* four bytes */
    check("\xc2\xa0\xef\xbf\xaf", "\xc2\xa0\xef\xbf\xaf");
}

static void test_controls_are_shown_and_not_obeyed(void **state)
{
    (void)state;
    check("a\x1b[2J\nb\r\tc", "a\\x1b[2J\\x0ab\\x0d\\x09c");
    check("\x7f\x01", "\\x7f\\x01");
    check("\xc2\x9b"
          "31m",
          "\\xc2\\x9b31m"); /* C1: the same as ESC [ */
    check("\xc2\x80\xc2\x9f", "\\xc2\\x80\\xc2\\x9f");
    check("\xe2\x80\xae"
          "cod",
          "\\xe2\\x80\\xaecod"); /* U+202E turns the line round */
    check("\xe2\x81\xa6\xe2\x80\x8f\xd8\x9c", "\\xe2\\x81\\xa6\\xe2\\x80\\x8f\\xd8\\x9c");
    check("\xe2\x80\xa8", "\\xe2\\x80\\xa8"); /* U+2028 ends a line */
    check("\xe2\x80\x8b\xef\xbb\xbf", "\\xe2\\x80\\x8b\\xef\\xbb\\xbf");
    check("\xf3\xa0\x81\x81", "\\xf3\\xa0\\x81\\x81"); /* a tag: invisible */
}

static void test_what_is_no_utf_8_is_shown_byte_by_byte(void **state)
{
    (void)state;
    check("caf\xe9", "caf\\xe9");
    check("\x80\xbf\xff", "\\x80\\xbf\\xff");
    check("\xc0\xaf", "\\xc0\\xaf");                   /* overlong */
    check("\xe0\x80\x9b", "\\xe0\\x80\\x9b");          /* overlong C1 */
    check("\xf0\x80\x80\x9b", "\\xf0\\x80\\x80\\x9b"); /* overlong */
    check("\xed\xa0\x80", "\\xed\\xa0\\x80");          /* a surrogate */
    check("\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80"); /* beyond Unicode */
    check("\xf8\x88\x80\x80\x80", "\\xf8\\x88\\x80\\x80\\x80");
    check("\xe2\x80", "\\xe2\\x80"); /* cut off: the end is not read over */
    check("\xf0\x9f\x90", "\\xf0\\x9f\\x90");
}

/* No prefix of a text, cut at any size, ends inside a character. */
static void test_a_text_is_never_cut_inside_of_a_character(void **state)
{
    static const char given[] = "a\xe2\x82\xac\xf0\x9f\x90\x99\xc3\xa9\x1bz";
    char text[64];
    size_t size, n, i;
    uint32_t c;

    (void)state;
    for (size = 1; size < sizeof text; size++) {
        memset(text, 'x', sizeof text);
        dnstap__format(text, size, "%s and more", given);
        n = strlen(text);
        assert_true(n < size);
        for (i = size; i < sizeof text; i++) assert_int_equal(text[i], 'x');
        for (i = 0; i < n; i += dnstap__character(text + i, &c))
            assert_int_not_equal(dnstap__character(text + i, &c), 0);
        assert_int_equal(i, n);
    }
}

static void test_long_ones_are_cut_with_dots_between_characters(void **state)
{
    char given[400], text[400];
    size_t i;

    (void)state;
    memset(given, 0, sizeof given);
    for (i = 0; i < 300; i += 3) memcpy(given + i, "\xe2\x82\xac", 3);
    dnstap__format(text, sizeof text, "<%s>", given);
    assert_int_equal(strlen(text), 1 + 156 + 3 + 1);
    assert_string_equal(text + 154, "\xe2\x82\xac...>");
    given[159] = '\0'; /* 53 of them fit */
    dnstap__format(text, sizeof text, "<%s>", given);
    assert_int_equal(strlen(text), 161);
    memset(given, '\x1b', 50);
    given[50] = '\0';
    dnstap__format(text, sizeof text, "<%s>", given);
    assert_int_equal(strlen(text), 1 + 156 + 3 + 1);
    assert_string_equal(text + 153, "\\x1b...>");
}

static void test_an_error_names_a_path_that_can_be_shown(void **state)
{
    dnstap_options options;
    dnstap_error error;

    (void)state;
    memset(&options, 0, sizeof options);
    options.endpoint = "file:///nowhere/\x1b[31mcaf\xc3\xa9\n";
    assert_null(dnstap_open(&options, &error));
    assert_non_null(strstr(error.text, "/nowhere/\\x1b[31mcaf\xc3\xa9\\x0a"));
    options.endpoint = "no\xe2\x80\xaescheme://x";
    assert_null(dnstap_open(&options, &error));
    assert_non_null(strstr(error.text, "no\\xe2\\x80\\xaescheme"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_can_be_read_stays_as_it_is),
        cmocka_unit_test(test_controls_are_shown_and_not_obeyed),
        cmocka_unit_test(test_what_is_no_utf_8_is_shown_byte_by_byte),
        cmocka_unit_test(test_a_text_is_never_cut_inside_of_a_character),
        cmocka_unit_test(test_long_ones_are_cut_with_dots_between_characters),
        cmocka_unit_test(test_an_error_names_a_path_that_can_be_shown),
    };

    return RUN_TESTS(tests, NULL, NULL);
}
