/* A group and sinks of our own, serviced in one loop, for the tests of groups. Each message has a
 * number of its thread's; a sink knows which one must come next from each. */
#ifndef GROUP_SUPPORT_H
#define GROUP_SUPPORT_H

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "unit.h"

enum { PATIENCE = 20000, AUTHORS = 16, SINKS = 8, NUMBERS = 1 << 18 };

/* -- messages -- */

HELPER void write_message(dnstap_message *m, uint32_t author, uint64_t number)
{
    dnstap_message_start(m, DNSTAP_MSG_CLIENT_QUERY);
    m->query_port = 1 + author;
    m->query_time_sec = number;
    m->query_zone = dnstap_bytes_of("\7example", 9);
}

static uint64_t written[AUTHORS]; /* the next number of each */

/* Logs the author's next message. */
HELPER int say(dnstap_group *g, uint32_t author)
{
    dnstap_message m;

    write_message(&m, author, written[author]++);
    return dnstap_group_log(g, &m);
}

HELPER void say_many(dnstap_group *g, unsigned count)
{
    while (count--) assert_int_equal(say(g, 0), 1);
}

/* -- sinks -- */

typedef struct house {
    dnstap_sink *sink;
    char endpoint[100];
    uint64_t next[AUTHORS]; /* that must come from each */
    uint64_t messages, opened, stopped, broken;
    uint8_t (*once)[AUTHORS]; /* instead: for each number, who has sent it, at most once */
    char extra[200];
} house;

static char folder[48];
static house houses[SINKS];

static void remove_folder(void)
{
    char path[400];
    DIR *all = opendir(folder);
    struct dirent *e;

    while (all && (e = readdir(all)) != NULL) {
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        unlink(path);
    }
    if (all) closedir(all);
    rmdir(folder);
}

HELPER const char *path_of(const char *scheme, const char *name)
{
    static char paths[4][100];
    static unsigned turn;
    char *path = paths[turn++ % 4];

    snprintf(path, sizeof paths[0], "%s%s/%s", scheme, folder, name);
    return path;
}

static void judge(house *h, const dnstap_message *m)
{
    uint32_t author = m->query_port - 1;

    assert_true(author < AUTHORS);
    if (h->once) {
        assert_true(m->query_time_sec < NUMBERS);
        assert_int_equal(h->once[m->query_time_sec][author]++, 0);
    } else {
        assert_int_equal(m->query_time_sec, h->next[author]);
    }
    h->next[author]++;
    h->messages++;
    assert_true(m->extra.size < sizeof h->extra);
    memcpy(h->extra, m->extra.size ? m->extra.data : "", m->extra.size);
    h->extra[m->extra.size] = '\0';
}

static int take(void *user, const dnstap_received *r)
{
    house *h = (house *)user;

    if (r->kind == DNSTAP_SINK_OPENED) h->opened++;
    if (r->kind == DNSTAP_SINK_CLOSED && r->result == DNSTAP_OK) h->stopped++;
    if (r->kind == DNSTAP_SINK_CLOSED && r->result != DNSTAP_OK) h->broken++;
    if (r->kind == DNSTAP_SINK_MESSAGE) judge(h, r->message);
    return DNSTAP_OK;
}

/* A sink that listens on a unix socket of this name, and expects the messages from now on. */
HELPER house *settle_at(const char *endpoint, bool connect)
{
    dnstap_sink_options o;
    dnstap_error error;
    house *h = houses;

    while (h->sink) h++;
    memset(h, 0, sizeof *h);
    memset(&o, 0, sizeof o);
    snprintf(h->endpoint, sizeof h->endpoint, "%s", endpoint);
    o.endpoint = h->endpoint;
    o.receive = take;
    o.user = h;
    o.connect = connect;
    o.max_connections = 4;
    h->sink = dnstap_sink_open(&o, &error);
    if (!h->sink) fail_msg("%s", error.text);
    memcpy(h->next, written, sizeof written);
    return h;
}

HELPER house *settle(const char *name) { return settle_at(path_of("unix://", name), false); }

HELPER void leave_house(house *h)
{
    dnstap_sink_close(h->sink);
    h->sink = NULL;
}

/* Whether all that was written has come. */
HELPER bool has_all(const house *h) { return !memcmp(h->next, written, sizeof written); }

/* -- the group -- */

static char heard[1 << 14]; /* what the taps have said, line by line */

HELPER void hear(void *user, int level, const char *text)
{
    size_t used = strlen(heard);

    (void)user;
    (void)level;
    if (used + strlen(text) + 2 < sizeof heard) sprintf(heard + used, "%s\n", text);
}

static dnstap_parse_options reading;
static dnstap_options common;

static dnstap_group *group_of(const char *text)
{
    dnstap_error error;
    dnstap_group *g;

    reading.defaults = &common;
    common.log = hear;
    common.flush_ms = 5;
    if (!common.ring_size) common.ring_size = 1 << 18;
    if (!common.producers) common.producers = 3;
    common.identity = "group";
    heard[0] = '\0';
    g = dnstap_group_open_text(text, &reading, &error);
    if (!g) fail_msg("%s", error.text);
    return g;
}

static void reload(dnstap_group *g, const char *text)
{
    dnstap_error error;

    if (dnstap_group_reload_text(g, text, &reading, &error) != DNSTAP_OK)
        fail_msg("%s", error.text);
}

/* dnstap with such an endpoint, one of each in turn. */
HELPER const char *config(const char *first, const char *second, const char *third)
{
    static char texts[4][500];
    static unsigned turn;
    char *text = texts[turn++ % 4];
    const char *all[3];
    int i;

    all[0] = first;
    all[1] = second;
    all[2] = third;
    *text = '\0';
    for (i = 0; i < 3 && all[i]; i++) sprintf(text + strlen(text), "dnstap %s\n", all[i]);
    return text;
}

/* One turn of the loop that has them all; g may be NULL. */
HELPER void turn(dnstap_group *g)
{
    struct pollfd fds[256];
    int n = 0, mine = 0, timeout = 2, wait;
    house *h;

    if (g) n = mine = dnstap_group_pollfds(g, fds, 100, &wait);
    if (g && wait >= 0 && wait < timeout) timeout = wait;
    for (h = houses; h < houses + SINKS; h++)
        if (h->sink) n += dnstap_sink_pollfds(h->sink, fds + n, 256 - n, &wait);
    poll(fds, (nfds_t)n, timeout);
    if (g) assert_int_equal(dnstap_group_service_fds(g, fds, mine), DNSTAP_OK);
    for (h = houses; h < houses + SINKS; h++)
        if (h->sink) dnstap_sink_service(h->sink);
}

#define UNTIL(g, condition)                                               \
    do {                                                                  \
        uint64_t end_ = real_ms() + PATIENCE;                             \
        while (!(condition)) {                                            \
            if (real_ms() > end_) fail_msg("never came: %s", #condition); \
            turn(g);                                                      \
        }                                                                 \
    } while (0)

/* The group's tap number i, as far as there is one. */
HELPER dnstap_group_tap tap_status(dnstap_group *g, int i)
{
    static dnstap_group_tap taps[DNSTAP_GROUP_MAX];

    assert_true(dnstap_group_get_status(g, taps, DNSTAP_GROUP_MAX) > i);
    return taps[i];
}

/* How many members are in this state. */
HELPER int in_stay(const dnstap_group *g, dnstap__stay stay)
{
    int i, n = 0;

    for (i = 0; i < DNSTAP__PLACES; i++) n += g->members[i].stay == stay;
    return n;
}

/* Whether only those in the roster are there. */
HELPER bool is_settled(const dnstap_group *g)
{
    return in_stay(g, DNSTAP__VACANT) + in_stay(g, DNSTAP__STAYING) == DNSTAP__PLACES;
}

typedef struct closing {
    dnstap_group *group;
    int timeout, result;
    size_t done;
    pthread_t thread;
} closing;

static void *close_thread(void *argument)
{
    closing *c = (closing *)argument;

    c->result = dnstap_group_close(c->group, c->timeout);
    DNSTAP_STORE_RELEASE(&c->done, 1);
    return NULL;
}

/* Closes while the sinks read on; then these close, too. */
HELPER int close_all(dnstap_group *g, int timeout)
{
    closing c;
    house *h;

    memset(&c, 0, sizeof c);
    c.group = g;
    c.timeout = timeout;
    assert_int_equal(pthread_create(&c.thread, NULL, close_thread, &c), 0);
    UNTIL(NULL, DNSTAP_LOAD_ACQUIRE(&c.done));
    assert_int_equal(pthread_join(c.thread, NULL), 0);
    for (h = houses; h < houses + SINKS; h++) {
        if (!h->sink) continue;
        dnstap_sink_service(h->sink);
        leave_house(h);
    }
    return c.result;
}

HELPER int enter_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/dnstap-group.XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

HELPER int leave_folder(void **state)
{
    (void)state;
    remove_folder();
    return 0;
}

/* What the options have in common is forgotten before each test. */
HELPER int forget(void **state)
{
    (void)state;
    memset(&common, 0, sizeof common);
    memset(&reading, 0, sizeof reading);
    memset(houses, 0, sizeof houses);
    memset(written, 0, sizeof written);
    return 0;
}

#endif
