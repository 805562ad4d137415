/* A tap whose collector has a name: several addresses, the system's resolver, the user's, and a
 * resolver that hangs and must not be in the way of anything. */
#define _GNU_SOURCE
#include <sys/types.h>
#include <sys/socket.h>
#include <netdb.h>

static int test_getaddrinfo(const char *host, const char *service, const struct addrinfo *hints,
                            struct addrinfo **out);
#define getaddrinfo(host, service, hints, out) test_getaddrinfo(host, service, hints, out)
#define DNSTAP_IMPLEMENTATION
#include "dnstap.h"
#include "tap_support.h"
#include "tap_peer.h"
#undef getaddrinfo
#include <sys/epoll.h>
#include <sys/wait.h>

/* What the name has: numeric addresses, one behind the other. */
static const char *addresses[12];
static volatile bool hanging;
static volatile unsigned asked;

static int test_getaddrinfo(const char *host, const char *service, const struct addrinfo *hints,
                            struct addrinfo **out)
{
    struct addrinfo **end = out;
    unsigned i;
    int result;

    __atomic_add_fetch(&asked, 1, __ATOMIC_SEQ_CST);
    while (hanging) poll(NULL, 0, 1);
    *out = NULL;
    if (!addresses[0])
        result = getaddrinfo(host, service, hints, out);
    else
        result = strcmp(host, "collector.test") ? EAI_NONAME : 0;
    for (i = 0; addresses[0] && !result && addresses[i]; i++) {
        result = getaddrinfo(addresses[i], service, hints, end);
        while (!result && *end) end = &(*end)->ai_next;
    }
    return result;
}

/* The descriptors, when none of a look-up is among them any more: it ends behind a tap's back. */
static unsigned descriptors_at_rest(void)
{
    static unsigned fewest;
    uint64_t end = real_ms() + PATIENCE;

    if (!fewest) fewest = descriptors();
    while (descriptors() > fewest && real_ms() < end) poll(NULL, 0, 1);
    assert_int_equal(descriptors(), fewest);
    return fewest;
}

static int first_look(void **state)
{
    (void)state;
    descriptors_at_rest();
    return 0;
}

/* A collector, and options for it by a name of its host. */
static void options_named(collector *c, const char *host, dnstap_options *o)
{
    static char endpoint[80];

    collector_open(c, NULL);
    snprintf(endpoint, sizeof endpoint, "tcp://%s:%u", host, (unsigned)c->port);
    peer_options(o, endpoint);
}

static void deliver(const char *host)
{
    collector c;
    dnstap_options o;
    dnstap_tap *tap;

    options_named(&c, host, &o);
    tap = peer_start(&o);
    log_many(tap, 50);
    collector_read_until(&c, 50);
    collector_leave(&c, tap); /* and once more */
    log_many(tap, 50);
    collector_read_until(&c, 100);
    end_both(&c, tap);
}

static void test_localhost_is_found(void **state)
{
    (void)state;
    addresses[0] = NULL;
    deliver("localhost");
    assert_int_equal(said.lost, 1); /* the one we hung up */
}

static void test_every_address_of_a_name_is_tried(void **state)
{
    (void)state;
    addresses[0] = "127.0.0.2"; /* refuses */
    addresses[1] = "::1";
    addresses[2] = "127.0.0.3";
    addresses[3] = "127.0.0.1";
    addresses[4] = NULL;
    deliver("collector.test");
    assert_int_equal(said.lost, 1);
}

static void test_more_addresses_than_are_kept_do_no_harm(void **state)
{
    unsigned i;

    (void)state;
    for (i = 0; i < 11; i++) addresses[i] = i == 7 ? "127.0.0.1" : "127.0.0.2";
    addresses[11] = NULL;
    deliver("collector.test");
}

static void test_name_that_is_unknown_is_an_error_and_tried_again(void **state)
{
    collector c;
    dnstap_options o;
    dnstap_status s;
    dnstap_tap *tap;

    (void)state;
    addresses[0] = "127.0.0.1";
    addresses[1] = NULL;
    options_named(&c, "unknown.test", &o);
    asked = 0;
    tap = peer_start(&o);
    do wait_for_state(tap, DNSTAP_BROKEN, &s);
    while (asked < 2);
    assert_int_equal(s.error.code, DNSTAP_SYSTEM);
    assert_non_null(strstr(s.error.text, "Name or service not known"));
    assert_int_equal(dnstap_close(tap, 1000), DNSTAP_OK);
    collector_close(&c);
}

static void test_hanging_resolver_is_in_nobodys_way(void **state)
{
    collector c;
    dnstap_options o;
    dnstap_status s;
    dnstap_tap *tap;
    uint64_t start;
    unsigned before = descriptors_at_rest();

    (void)state;
    addresses[0] = "127.0.0.1";
    addresses[1] = NULL;
    options_named(&c, "collector.test", &o);
    o.timeout_ms = 100;
    asked = 0;
    hanging = true;
    tap = peer_start(&o);
    start = real_ms();
    log_many(tap, 100);
    assert_in_range(real_ms() - start, 0, 1000);
    wait_for_state(tap, DNSTAP_BROKEN, &s);
    assert_int_equal(s.error.code, DNSTAP_TIMEOUT);
    assert_non_null(strstr(s.error.text, "while resolving"));
    wait_for_state(tap, DNSTAP_RESOLVING, &s);
    start = real_ms();
    assert_int_equal(dnstap_close(tap, 150), DNSTAP_TIMEOUT);
    assert_in_range(real_ms() - start, 100, 1500);
    hanging = false; /* the look-ups end behind the tap's back, and leave nothing */
    collector_close(&c);
    assert_int_equal(descriptors_at_rest(), before);
}

/* In a child the look-up's thread is missing. */
static void test_fork_during_a_look_up_leaves_nothing_in_the_child(void **state)
{
    collector c;
    dnstap_options o;
    dnstap_status s;
    dnstap_tap *tap;
    unsigned before = descriptors_at_rest() + 1; /* with the collector's */
    int status = -1;
    pid_t child;

    (void)state;
    addresses[0] = "127.0.0.1";
    addresses[1] = NULL;
    options_named(&c, "collector.test", &o);
    hanging = true;
    asked = 0;
    tap = peer_start(&o);
    log_many(tap, 10);
    wait_for_state(tap, DNSTAP_RESOLVING, &s);
    while (!asked) poll(NULL, 0, 1);
    child = fork();
    if (!child) {
        dnstap_after_fork(tap);
        dnstap_close(tap, 0);
        _exit(descriptors() == before ? 0 : 1); /* before: without eventfd and pipe */
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    hanging = false;
    end_both(&c, tap);
}

/* A look-up that ends late, on a tap that waited for it. */
static void test_slow_resolver_is_waited_for(void **state)
{
    collector c;
    dnstap_options o;
    dnstap_status s;
    dnstap_tap *tap;
    uint64_t end;

    (void)state;
    addresses[0] = "127.0.0.1";
    addresses[1] = NULL;
    options_named(&c, "collector.test", &o);
    hanging = true;
    tap = peer_start(&o);
    log_many(tap, 10);
    for (end = real_ms() + 50; real_ms() < end;) wait_for_state(tap, DNSTAP_RESOLVING, &s);
    hanging = false;
    close_in_order(&c, tap);
    assert_int_equal(seen.frames, 10);
    assert_int_equal(said.lines, 0);
    collector_close(&c);
}

/* -- options.resolve -- */

static int hook_calls;
static int resolve_hook(void *user, const char *host, uint16_t port, struct sockaddr *out,
                        size_t room)
{
    struct sockaddr_in ip;

    (void)user;
    if (strcmp(host, "by.hook")) return DNSTAP_SYSTEM;
    if (++hook_calls < 3) return DNSTAP_AGAIN;
    memset(&ip, 0, sizeof ip);
    ip.sin_family = AF_INET;
    ip.sin_port = htons(port);
    ip.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_true(room >= sizeof ip);
    memcpy(out, &ip, sizeof ip);
    return DNSTAP_OK;
}

static void test_resolve_hook_replaces_the_system(void **state)
{
    collector c;
    dnstap_options o;
    dnstap_tap *tap;

    (void)state;
    asked = 0;
    hook_calls = 0;
    options_named(&c, "by.hook", &o);
    o.resolve = resolve_hook;
    tap = peer_start(&o);
    log_many(tap, 10);
    close_in_order(&c, tap);
    assert_int_equal(hook_calls, 3);
    assert_int_equal(asked, 0);
    collector_close(&c);
}

static void test_numeric_addresses_are_never_looked_up(void **state)
{
    (void)state;
    asked = 0;
    deliver("127.0.0.1");
    assert_int_equal(asked, 0);
}

/* -- a loop that hears of each descriptor: closed ones are forgotten before -- */

static int epoll = -1;
static bool known[256];

static void watch_hook(void *user, int fd, short events)
{
    struct epoll_event e;

    (void)user;
    assert_in_range(fd, 0, 255);
    assert_true(fcntl(fd, F_GETFD) >= 0); /* not closed yet */
    memset(&e, 0, sizeof e);
    e.events = (uint32_t)events;
    if (!events) assert_true(known[fd]);
    assert_int_equal(epoll_ctl(epoll,
                               !events     ? EPOLL_CTL_DEL
                               : known[fd] ? EPOLL_CTL_MOD
                                           : EPOLL_CTL_ADD,
                               fd, &e),
                     0);
    known[fd] = events != 0;
}

static int timer_ms;
static void timer_hook(void *user, int ms)
{
    (void)user;
    timer_ms = ms;
}

static void test_loop_is_told_of_every_addresss_descriptor(void **state)
{
    collector c;
    dnstap_options o;
    dnstap_tap *tap;
    struct epoll_event e;
    uint64_t start = real_ms();
    unsigned i;

    (void)state;
    addresses[0] = addresses[1] = addresses[2] = "127.0.0.2";
    addresses[3] = "127.0.0.1";
    addresses[4] = NULL;
    epoll = epoll_create1(0);
    memset(known, 0, sizeof known);
    options_named(&c, "collector.test", &o);
    o.watch = watch_hook;
    o.timer = timer_hook;
    tap = open_afresh(&o);
    log_many(tap, 30);
    dnstap_service(tap);
    while (seen.frames < 30) {
        if (c.fd < 0 && readable(c.listener, 0)) collector_accept(&c);
        if (c.fd >= 0) collector_read(&c, 0);
        epoll_wait(epoll, &e, 1, timer_ms < 0 || timer_ms > 20 ? 20 : timer_ms);
        dnstap_service(tap);
        assert_true(real_ms() < start + PATIENCE);
    }
    assert_in_range(real_ms() - start, 0, 1500); /* and not by a deadline */
    close_in_order(&c, tap);
    for (i = 0; i < 256; i++) assert_false(known[i]);
    close(epoll);
    collector_close(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_localhost_is_found),
        cmocka_unit_test(test_every_address_of_a_name_is_tried),
        cmocka_unit_test(test_more_addresses_than_are_kept_do_no_harm),
        cmocka_unit_test(test_name_that_is_unknown_is_an_error_and_tried_again),
        cmocka_unit_test(test_hanging_resolver_is_in_nobodys_way),
        cmocka_unit_test(test_fork_during_a_look_up_leaves_nothing_in_the_child),
        cmocka_unit_test(test_slow_resolver_is_waited_for),
        cmocka_unit_test(test_resolve_hook_replaces_the_system),
        cmocka_unit_test(test_numeric_addresses_are_never_looked_up),
        cmocka_unit_test(test_loop_is_told_of_every_addresss_descriptor),
    };

    return RUN_TESTS(tests, first_look, NULL);
}
