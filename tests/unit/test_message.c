/* The message: its setters, and the names of its enumerations. */
#define DNSTAP_IMPLEMENTATION
#include "dnstap.h"

#include <arpa/inet.h>
#include "unit.h"

typedef union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
} address;

static address v4(const char *text, uint16_t port)
{
    address a;
    memset(&a, 0, sizeof a);
    a.v4.sin_family = AF_INET;
    a.v4.sin_port = htons(port);
    assert_int_equal(inet_pton(AF_INET, text, &a.v4.sin_addr), 1);
    return a;
}

static address v6(const char *text, uint16_t port)
{
    address a;
    memset(&a, 0, sizeof a);
    a.v6.sin6_family = AF_INET6;
    a.v6.sin6_port = htons(port);
    assert_int_equal(inet_pton(AF_INET6, text, &a.v6.sin6_addr), 1);
    return a;
}

static void test_start_clears_every_byte_but_the_type(void **state)
{
    dnstap_message m, zero;
    (void)state;
    memset(&m, 0xa5, sizeof m);
    memset(&zero, 0, sizeof zero);
    dnstap_message_start(&m, DNSTAP_MSG_TOOL_QUERY);
    zero.type = DNSTAP_MSG_TOOL_QUERY;
    assert_memory_equal(&m, &zero, sizeof m);
}

static void test_ipv4_address_sets_family_protocol_port_and_borrows_four_bytes(void **state)
{
    address a = v4("192.0.2.77", 53124);
    dnstap_message m;
    (void)state;
    dnstap_message_start(&m, DNSTAP_MSG_CLIENT_QUERY);
    assert_int_equal(dnstap_set_query_address(&m, &a.any, DNSTAP_PROTOCOL_TCP), DNSTAP_OK);
    assert_int_equal(m.socket_family, DNSTAP_FAMILY_INET);
    assert_int_equal(m.socket_protocol, DNSTAP_PROTOCOL_TCP);
    assert_int_equal(m.query_port, 53124);
    assert_int_equal(m.query_address.size, 4);
    assert_ptr_equal(m.query_address.data, &a.v4.sin_addr);
    assert_null(m.response_address.data);
    assert_int_equal(m.response_port, 0);
}

static void test_ipv6_address_borrows_sixteen_bytes(void **state)
{
    address a = v6("2001:db8::53", 853);
    dnstap_message m;
    (void)state;
    dnstap_message_start(&m, DNSTAP_MSG_RESOLVER_QUERY);
    assert_int_equal(dnstap_set_response_address(&m, &a.any, DNSTAP_PROTOCOL_DOT), DNSTAP_OK);
    assert_int_equal(m.socket_family, DNSTAP_FAMILY_INET6);
    assert_int_equal(m.response_port, 853);
    assert_int_equal(m.response_address.size, 16);
    assert_ptr_equal(m.response_address.data, &a.v6.sin6_addr);
    assert_null(m.query_address.data);
}

static void test_ipv4_mapped_address_becomes_ipv4(void **state)
{
    static const uint8_t expected[4] = {192, 0, 2, 1};
    address mapped = v6("::ffff:192.0.2.1", 4242), plain = v4("192.0.2.2", 53);
    dnstap_message m;
    (void)state;
    dnstap_message_start(&m, DNSTAP_MSG_CLIENT_QUERY);
    assert_int_equal(dnstap_set_query_address(&m, &mapped.any, DNSTAP_PROTOCOL_UDP), DNSTAP_OK);
    assert_int_equal(m.socket_family, DNSTAP_FAMILY_INET);
    assert_int_equal(m.query_address.size, 4);
    assert_memory_equal(m.query_address.data, expected, 4);
    assert_int_equal(dnstap_set_response_address(&m, &plain.any, DNSTAP_PROTOCOL_UDP), DNSTAP_OK);
}

static void test_refused_address_leaves_the_message_as_it_was(void **state)
{
    address first = v4("192.0.2.1", 1000), second = v6("2001:db8::1", 53), local;
    dnstap_message m, before;
    (void)state;
    memset(&local, 0, sizeof local);
    local.any.sa_family = AF_UNIX;
    dnstap_message_start(&m, DNSTAP_MSG_CLIENT_QUERY);
    dnstap_set_query_address(&m, &first.any, DNSTAP_PROTOCOL_UDP);
    before = m;
    assert_int_equal(dnstap_set_response_address(&m, &second.any, DNSTAP_PROTOCOL_DOQ),
                     DNSTAP_BAD_MESSAGE);
    assert_int_equal(dnstap_set_response_address(&m, &local.any, DNSTAP_PROTOCOL_DOQ),
                     DNSTAP_BAD_MESSAGE);
    assert_memory_equal(&m, &before, sizeof m);
    assert_int_equal(dnstap_set_query_address(&m, &second.any, DNSTAP_PROTOCOL_UDP), DNSTAP_OK);
    before = m;
    assert_int_equal(dnstap_set_response_address(&m, &first.any, DNSTAP_PROTOCOL_UDP),
                     DNSTAP_BAD_MESSAGE);
    assert_memory_equal(&m, &before, sizeof m);
}

static void test_times_are_present_even_when_zero(void **state)
{
    struct timespec zero = {0, 0}, later = {1753900000, 999999999};
    dnstap_message m;
    (void)state;
    dnstap_message_start(&m, DNSTAP_MSG_CLIENT_RESPONSE);
    dnstap_set_query_time(&m, &zero);
    assert_int_equal(m.present, 1u << 8 | 1u << 9);
    dnstap_set_response_time(&m, &later);
    assert_int_equal(m.present, 1u << 8 | 1u << 9 | 1u << 12 | 1u << 13);
    assert_int_equal(m.query_time_sec, 0);
    assert_int_equal(m.response_time_sec, 1753900000);
    assert_int_equal(m.response_time_nsec, 999999999);
}

static bool ends_with(const char *text, const char *end)
{
    size_t size = strlen(text), most = strlen(end);
    return size > most && strcmp(text + size - most, end) == 0;
}

/* Every number of every enumeration: its constant, its name, and back. */
static void test_every_name_leads_to_its_number_and_back(void **state)
{
    (void)state;
#define CHECK(what, constant, value, name)                  \
    assert_true(ends_with(#constant, "_" name));            \
    assert_int_equal(constant, value);                      \
    assert_string_equal(dnstap_##what##_name(value), name); \
    assert_int_equal(dnstap_##what##_from(name), value)
#define TYPE(constant, value, name, brief) CHECK(message_type, constant, value, name);
#define FAMILY(constant, value, name, brief) CHECK(socket_family, constant, value, name);
#define PROTOCOL(constant, value, name, brief) CHECK(socket_protocol, constant, value, name);
#define HTTP(constant, value, name, brief) CHECK(http_protocol, constant, value, name);
#define ACTION(constant, value, name, brief) CHECK(policy_action, constant, value, name);
#define MATCH(constant, value, name, brief) CHECK(policy_match, constant, value, name);
    DNSTAP_MESSAGE_TYPES(TYPE)
    DNSTAP_SOCKET_FAMILIES(FAMILY)
    DNSTAP_SOCKET_PROTOCOLS(PROTOCOL)
    DNSTAP_HTTP_PROTOCOLS(HTTP)
    DNSTAP_POLICY_ACTIONS(ACTION)
    DNSTAP_POLICY_MATCHES(MATCH)
}

static void test_numbers_and_names_that_do_not_exist_have_none(void **state)
{
    (void)state;
    assert_null(dnstap_message_type_name(0));
    assert_null(dnstap_message_type_name(15));
    assert_null(dnstap_socket_protocol_name(8));
    assert_null(dnstap_policy_match_name(UINT32_MAX));
    assert_int_equal(dnstap_message_type_from("client_query"), 0);
    assert_int_equal(dnstap_message_type_from("CLIENT_QUERYX"), 0);
    assert_int_equal(dnstap_socket_family_from(""), 0);
    assert_int_equal(dnstap_socket_family_from(NULL), 0);
    assert_int_equal(dnstap_policy_action_from("QNAME"), 0);
}

static void test_message_types_have_short_names(void **state)
{
    (void)state;
    assert_int_equal(dnstap_message_type_from("AQ"), DNSTAP_MSG_AUTH_QUERY);
    assert_int_equal(dnstap_message_type_from("CQ"), DNSTAP_MSG_CLIENT_QUERY);
    assert_int_equal(dnstap_message_type_from("CR"), DNSTAP_MSG_CLIENT_RESPONSE);
    assert_int_equal(dnstap_message_type_from("UR"), DNSTAP_MSG_UPDATE_RESPONSE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_start_clears_every_byte_but_the_type),
        cmocka_unit_test(test_ipv4_address_sets_family_protocol_port_and_borrows_four_bytes),
        cmocka_unit_test(test_ipv6_address_borrows_sixteen_bytes),
        cmocka_unit_test(test_ipv4_mapped_address_becomes_ipv4),
        cmocka_unit_test(test_refused_address_leaves_the_message_as_it_was),
        cmocka_unit_test(test_times_are_present_even_when_zero),
        cmocka_unit_test(test_every_name_leads_to_its_number_and_back),
        cmocka_unit_test(test_numbers_and_names_that_do_not_exist_have_none),
        cmocka_unit_test(test_message_types_have_short_names),
    };
    return RUN_TESTS(tests, NULL, NULL);
}
