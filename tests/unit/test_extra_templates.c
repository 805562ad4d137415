/* `extra`: templates, what hooks and messages put in their place, and the bounds. */
#define _POSIX_C_SOURCE 200809L
#define DNSTAP_IMPLEMENTATION
#include "dnstap.h"

#include "extra_support.h"

/* ---- metadata ---- */

static char asked_for[512];

/* The label's first letter says what comes. */
static long provide(void *user, const dnstap_message *m, const char *label, char *out, size_t size)
{
    assert_ptr_equal(user, asked_for);
    assert_ptr_equal(m, &message);
    assert_int_equal(size, DNSTAP_METADATA_MAX);
    snprintf(asked_for, sizeof asked_for, "%s", label);
    memset(out, 'm', size);
    return *label == 'l' ? (long)size : *label == 't' ? (long)size + 1 : *label == 'n' ? -1 : 0;
}

static void check_metadata(const char *template, const char *label, const char *expected)
{
    dnstap_options o;
    extra_options(&o, template);
    o.metadata = provide;
    o.user = asked_for;
    check_with(&o, expected);
    assert_string_equal(asked_for, label);
}

static void test_metadata(void **state)
{
    char longest[DNSTAP_METADATA_MAX + 3] = {0};
    (void)state;
    start_query();
    check_metadata("[{/empty}]", "empty", "[]");
    check_metadata("[{/none}]", "none", "[-]");
    check_metadata("[{/too long}]", "too long", "[-]");
    check_metadata("[{/}]", "", "[]");
    check_metadata("{/ a{b/{/none}}", "none", "{/ a{b/-}");
    check_metadata("{name}{//x /y }", "/x /y ", "example.test.");
    memset(longest, 'm', DNSTAP_METADATA_MAX);
    check_metadata("{/long}", "long", longest);
    strcat(longest, "A");
    RESPONSE("\0\0\x81\x83\0\0\0\0\0\0\0\0");
    QUERY(ONE_QUESTION "\0\0\1\0\1");
    check_metadata("{/long}{type}", "long", longest);
    check("[{/without a hook}]", "[-]");
}

/* ---- templates ---- */

static void test_raw_templates_stay_as_they_are(void **state)
{
    dnstap_options o;
    (void)state;
    start_query();
    extra_options(&o, "{type} {/x} }{");
    o.extra_raw = true;
    check_with(&o, "{type} {/x} }{");
}

static void test_without_template_there_is_no_extra(void **state)
{
    (void)state;
    start_query();
    check(NULL, NULL);
    check("", NULL);
    QUERY(HEADER "\0\0\0\0\0\0\0\0");
    check("{type}{class}", ""); /* present, and empty */
}

static void test_a_messages_own_extra_counts_more(void **state)
{
    dnstap_policy policy;
    (void)state;
    memset(&policy, 0, sizeof policy);
    start_query();
    message.extra = dnstap_bytes_of("its own", 7);
    check("{type}", "its own");
    message.policy = &policy; /* encoded by the descriptors */
    check("{type}", "its own");
    message.extra = dnstap_bytes_of("", 0);
    check("{type}", "");
}

static void test_the_template_is_copied_when_the_tap_opens(void **state)
{
    char template[] = "<{type}>{name}";
    dnstap_options o;
    dnstap_tap *tap;
    (void)state;
    start_query();
    extra_options(&o, template);
    tap = extra_open(&o);
    memset(template, 'x', sizeof template - 1);
    assert_true(is_text(extra_of(tap, &message), "<AAAA>example.test."));
    dnstap_close(tap, 0);
}

static void test_extra_of_every_size_goes_in(void **state)
{
    static char template[20000];
    dnstap_policy policy;
    size_t size;
    (void)state;
    memset(&policy, 0, sizeof policy);
    start_query();
    for (size = 0; size<16400; size += size> 150 && size < 16300 ? 1615 : 1) {
        memset(template, 'x', size);
        template[size] = '\0';
        message.policy = size % 3 ? NULL : &policy;
        check(template, size ? template : NULL);
    }
    for (size = 0; size < 150; size++) { /* where the length's size is guessed wrong */
        char expected[200];
        memset(template, 'x', size);
        strcpy(template + size, "{remote}{>rflags}");
        memset(expected, 'x', size);
        strcpy(expected + size, "[2001:db8:ffff:ffff:ffff:ffff:ffff:1]-");
        ip(&message.client_address, "\x20\1\x0d\xb8\377\377\377\377\377\377\377\377\377\377\0\1",
           16);
        check(template, expected);
        message.client_address.data = NULL;
        strcpy(expected + size, "--");
        check(template, expected);
    }
}

/* of the sanitizer's runtime: calls for every allocation of the process */
int __sanitizer_install_malloc_and_free_hooks(void (*)(const volatile void *, size_t),
                                              void (*)(const volatile void *));

static volatile unsigned allocations;
static void saw_malloc(const volatile void *p, size_t size)
{
    (void)p, (void)size;
    allocations++;
}
static void saw_free(const volatile void *p) { (void)p; }

static void test_nothing_is_allocated_for_a_message(void **state)
{
    dnstap_options o;
    dnstap_policy policy;
    dnstap_tap *tap;
    unsigned i;
    (void)state;
    memset(&policy, 0, sizeof policy);
    start_query();
    extra_options(&o, "{type}{name}{size}{remote}{/label}");
    o.metadata = provide;
    o.user = asked_for;
    tap = extra_open(&o);
    assert_true(__sanitizer_install_malloc_and_free_hooks(saw_malloc, saw_free) > 0);
    free(malloc(allocations + 1));
    assert_int_equal(allocations, 1);
    for (i = 0; i < 100; i++) {
        message.policy = i % 2 ? &policy : NULL;
        assert_int_equal(dnstap_log_as(tap, 0, &message), 1);
    }
    assert_int_equal(allocations, 1);
    dnstap_close(tap, 0);
}

/* ---- bounds ---- */

static void must_refuse(const dnstap_options *o, const char *what)
{
    dnstap_error error;
    assert_null(dnstap_open(o, &error));
    assert_int_equal(error.code, DNSTAP_BAD_OPTION);
    if (!strstr(error.text, what)) fail_msg("\"%s\" lacks \"%s\"", error.text, what);
}

static void test_templates_that_are_too_long_are_refused(void **state)
{
    static char template[DNSTAP_TEMPLATE_MAX + 2];
    dnstap_options o;
    (void)state;
    start_query();
    memset(template, 'x', DNSTAP_TEMPLATE_MAX + 1);
    extra_options(&o, template);
    must_refuse(&o, "extra has 65536 bytes; give at most 65535");
    template[DNSTAP_TEMPLATE_MAX] = '\0';
    check(template, template);
    o.max_message = 1024;
    must_refuse(&o, "extra makes 65535 bytes, and max_message 1024 has too little room");
    template[512] = '\0';
    check_with(&o, template);
    template[512] = 'x';
    template[513] = '\0';
    must_refuse(&o, "extra makes 513 bytes");
}

/* With the default of max_message no template makes a message too large. */
static void test_the_longest_expansion_is_not_too_large(void **state)
{
    char template[256] = "", expected[12000] = "", name[1100];
    uint8_t dns[512];
    size_t i;
    (void)state;
    start(DNSTAP_MSG_CLIENT_QUERY);
    message.query_message = dnstap_bytes_of(dns, long_query(dns, 63, 255));
    for (i = 0; i < 250; i++) memcpy(name + 4 * i + i / 63, "\\200.", 5);
    name[1004] = '\0';
    for (i = 0; i < 10; i++) {
        strcat(template, "{name}");
        strcat(expected, name);
    }
    check(template, expected);
}

/* What is recorded has at most max_message bytes, what is not would have more. */
static void test_max_message_bounds_a_frame_exactly(void **state)
{
    static uint8_t padding[1000];
    size_t largest = 0, used, messages;
    dnstap_options o;
    dnstap_tap *tap;
    int result;
    (void)state;
    extra_options(&o, "{name} {type} {rcode}");
    o.full = true;
    o.max_message = 500;
    tap = extra_open(&o);
    start_query();
    for (message.response_message = dnstap_bytes_of(padding, 12);;
         message.response_message.size++) {
        dnstap__discard(tap);
        result = dnstap_log_as(tap, 0, &message);
        dnstap_get_ring(tap, 0, &used, &messages);
        if (result != 1) break;
        largest = used;
        assert_true(used <= 500);
    }
    assert_int_equal(result, DNSTAP_TOO_LARGE);
    assert_int_equal(largest, 500);
    dnstap_close(tap, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_metadata),
        cmocka_unit_test(test_raw_templates_stay_as_they_are),
        cmocka_unit_test(test_without_template_there_is_no_extra),
        cmocka_unit_test(test_a_messages_own_extra_counts_more),
        cmocka_unit_test(test_the_template_is_copied_when_the_tap_opens),
        cmocka_unit_test(test_extra_of_every_size_goes_in),
        cmocka_unit_test(test_nothing_is_allocated_for_a_message),
        cmocka_unit_test(test_templates_that_are_too_long_are_refused),
        cmocka_unit_test(test_the_longest_expansion_is_not_too_large),
        cmocka_unit_test(test_max_message_bounds_a_frame_exactly),
    };
    return RUN_TESTS(tests, NULL, NULL);
}
