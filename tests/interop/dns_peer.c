/* The awkward clients and upstreams that forwarder_test.sh needs, on 127.0.0.1. Each command ends
 * with 0 when the forwarder did what it should, else with 1 and a line that says what it did.
 * usage: dns_peer pieces|pipeline|glut|crowd|load|flood|fuzz PORT [COUNT]   clients of a forwarder
 *        dns_peer liar|silent|hostile PORT                           an upstream, until killed */
#define _POSIX_C_SOURCE 200809L
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "../random.h"

enum { HEADER = 12, WAIT_MS = 10000, ROOM = 65535 };

static unsigned port;
static bool same_name; /* for glut: all queries are for x00000.test, and we read slowly */

static int fail(const char *what)
{
    printf("dns_peer: %s (%s)\n", what, strerror(errno));
    exit(1);
}

static struct sockaddr_in address(unsigned to)
{
    struct sockaddr_in a;
    memset(&a, 0, sizeof a);
    a.sin_family = AF_INET;
    a.sin_port = htons((uint16_t)to);
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return a;
}

static int dial(int type)
{
    struct sockaddr_in a = address(port);
    int fd = socket(AF_INET, type, 0), small = 32768;
    if (same_name) setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof a) < 0) fail("can't connect");
    return fd;
}

/* A query for x<id>.test A; after a two-byte length when framed. Returns its size. */
static size_t make_query(uint8_t *out, unsigned id, bool framed)
{
    static const uint8_t fixed[] = {1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 6};
    static const uint8_t tail[] = {4, 'T', 'e', 's', 't', 0, 0, 1, 0, 1};
    size_t size = 2 + sizeof fixed + 6 + sizeof tail;
    uint8_t *p = framed ? out + 2 : out;
    char label[8];
    snprintf(label, sizeof label, "x%05u", same_name ? 0 : id % 100000);
    out[0] = 0;
    out[1] = (uint8_t)size;
    p[0] = (uint8_t)(id >> 8);
    p[1] = (uint8_t)id;
    memcpy(p + 2, fixed, sizeof fixed);
    memcpy(p + 2 + sizeof fixed, label, 6);
    memcpy(p + 2 + sizeof fixed + 6, tail, sizeof tail);
    return framed ? 2 + size : size;
}

static bool readable(int fd, int ms)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, ms) > 0;
}

static void send_all(int fd, const uint8_t *data, size_t size)
{
    while (size > 0) {
        ssize_t n = send(fd, data, size, MSG_NOSIGNAL);
        if (n < 0) fail("can't send");
        data += n;
        size -= (size_t)n;
    }
}

/* False: the stream ended, or nothing came in time. */
static bool recv_all(int fd, uint8_t *data, size_t size)
{
    while (size > 0) {
        ssize_t n = readable(fd, WAIT_MS) ? recv(fd, data, size, 0) : -1;
        if (n <= 0) return false;
        data += n;
        size -= (size_t)n;
    }
    return true;
}

static bool recv_frame(int fd, uint8_t *wire, size_t *size)
{
    uint8_t length[2];
    if (!recv_all(fd, length, 2)) return false;
    *size = (size_t)(length[0] << 8 | length[1]);
    return recv_all(fd, wire, *size);
}

/* An answer has its query's question, letter by letter. */
static unsigned check_answer(const uint8_t *wire, size_t size)
{
    uint8_t query[64];
    if (size < HEADER || !(wire[2] & 0x80)) fail("not an answer");
    unsigned id = (unsigned)(wire[0] << 8 | wire[1]);
    size_t end = make_query(query, id, false);
    if (size < end || memcmp(query + HEADER, wire + HEADER, end - HEADER) != 0) {
        fail("an answer to another question");
    }
    return id;
}

/* Takes one answer for each id from 1 to count, in any order. */
static void expect_answers(int fd, unsigned count)
{
    static uint8_t wire[ROOM];
    static bool seen[65536];
    size_t size;
    for (unsigned i = 0; i < count; i++) {
        if (!recv_frame(fd, wire, &size)) fail("an answer is missing");
        unsigned id = check_answer(wire, size);
        if (id < 1 || id > count || seen[id]) fail("an answer twice, or one not asked for");
        seen[id] = true;
    }
    if (recv_all(fd, wire, 1)) fail("more than the answers");
}

/* Three queries in pieces of one byte, then our end of the stream. */
static void pieces(unsigned count)
{
    (void)count;
    uint8_t wire[64];
    int fd = dial(SOCK_STREAM);
    for (unsigned id = 1; id <= 3; id++) {
        size_t size = make_query(wire, id, true);
        for (size_t i = 0; i < size; i++) send_all(fd, wire + i, 1);
    }
    shutdown(fd, SHUT_WR);
    expect_answers(fd, 3);
}

/* More queries at once than the forwarder takes at a time. */
static void pipeline(unsigned count)
{
    static uint8_t wire[65536 * 32];
    int fd = dial(SOCK_STREAM);
    size_t size = 0;
    if (count * 29 > sizeof wire) fail("too many");
    for (unsigned id = 1; id <= count; id++) size += make_query(wire + size, id, true);
    send_all(fd, wire, size);
    shutdown(fd, SHUT_WR);
    expect_answers(fd, count);
}

/* The same, and what comes back is more than the forwarder may keep for us. */
static void glut(unsigned count)
{
    same_name = true;
    pipeline(count);
}

/* Idle connections beyond the forwarder's limit: the first is closed, the last is served. */
static void crowd(unsigned count)
{
    uint8_t wire[64], byte;
    int first = dial(SOCK_STREAM), last = first;
    for (unsigned i = 1; i < count; i++) last = dial(SOCK_STREAM);
    size_t size = make_query(wire, 1, true);
    send_all(last, wire, size);
    shutdown(last, SHUT_WR);
    expect_answers(last, 1);
    if (!readable(first, WAIT_MS) || recv(first, &byte, 1, 0) > 0) fail("the first is still open");
}

/* Many queries over UDP, no more than 64 unanswered at a time: every one is answered. */
static void load(unsigned count)
{
    static uint8_t wire[ROOM];
    int fd = dial(SOCK_DGRAM);
    for (unsigned asked = 0, answers = 0; answers < count;) {
        while (asked < count && asked < answers + 64) {
            asked++;
            send_all(fd, wire, make_query(wire, asked, false));
        }
        ssize_t n = readable(fd, WAIT_MS) ? recv(fd, wire, sizeof wire, 0) : -1;
        if (n < 0) fail("no answer");
        check_answer(wire, (size_t)n);
        answers++;
    }
}

static unsigned take_refusals(int fd, int ms, unsigned wanted, bool *answered)
{
    static uint8_t wire[ROOM];
    unsigned taken = 0;
    while (taken < wanted && readable(fd, ms)) {
        ssize_t n = recv(fd, wire, sizeof wire, 0);
        unsigned id = check_answer(wire, n < 0 ? 0 : (size_t)n);
        if ((wire[3] & 15) != 2) fail("no SERVFAIL");
        taken += !answered[id];
        answered[id] = true;
    }
    return taken;
}

/* More queries than may be on their way, upstream silent: every one gets its SERVFAIL. What UDP
 * loses on a busy machine is asked once more. */
static void flood(unsigned count)
{
    static bool answered[65536];
    uint8_t wire[64];
    unsigned answers = 0;
    int fd = dial(SOCK_DGRAM);
    for (int round = 0; round < 2 && answers < count; round++) {
        for (unsigned id = 1; id <= count; id++) {
            if (answered[id]) continue;
            send_all(fd, wire, make_query(wire, id, false));
            answers += take_refusals(fd, id % 8 == 0, count, answered);
        }
        answers += take_refusals(fd, 5000, count - answers, answered);
    }
    printf("dns_peer: %u of %u answered\n", answers, count);
    if (answers < count) exit(1);
}

/* Bytes of a query or answer with some of them changed, cut, or added. */
static size_t spoil(uint8_t *wire, size_t size)
{
    for (uint32_t i = rnd(6); i > 0; i--) wire[rnd((uint32_t)size)] = (uint8_t)rnd(256);
    if (rnd(3) == 0) size = rnd((uint32_t)size + 1);
    for (uint32_t i = rnd(4) ? 0 : rnd(300); i > 0; i--) wire[size++] = (uint8_t)rnd(256);
    return size;
}

static void fuzz_stream(void)
{
    uint8_t wire[512];
    int fd = dial(SOCK_STREAM);
    for (uint32_t i = rnd(5); i > 0; i--) {
        size_t size = spoil(wire, make_query(wire, rnd(99999), true));
        if (send(fd, wire, size, MSG_NOSIGNAL) < 0) break;
    }
    if (rnd(2)) shutdown(fd, SHUT_WR);
    if (rnd(2)) readable(fd, 1);
    close(fd);
}

static void fuzz(unsigned count)
{
    static uint8_t wire[ROOM];
    int fd = dial(SOCK_DGRAM);
    for (unsigned i = 0; i < count; i++) {
        size_t size = spoil(wire, make_query(wire, rnd(99999), false));
        if (rnd(16) == 0) { /* nothing but noise */
            size = rnd(80);
            for (size_t k = 0; k < size; k++) wire[k] = (uint8_t)rnd(256);
        }
        send(fd, wire, size, MSG_NOSIGNAL);
        while (readable(fd, i % 64 == 63) && recv(fd, wire, sizeof wire, 0) >= 0) continue;
        if (i % 20 == 0) fuzz_stream();
    }
}

/* ---- upstreams ----------------------------------------------------------------------------- */

static int bound(int type, unsigned to)
{
    struct sockaddr_in a = address(to);
    int on = 1, fd = socket(AF_INET, type, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof a) < 0) fail("can't bind");
    if (type == SOCK_STREAM && listen(fd, 128) < 0) fail("can't listen");
    return fd;
}

/* Turns a query into an answer with the address 192.0.2.last, its question in upper case. */
static size_t make_answer(uint8_t *wire, size_t size, uint8_t last)
{
    const uint8_t record[] = {0xC0, HEADER, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 192, 0, 2, last};
    if (size > 200) size = 200;
    wire[2] |= 0x80;
    wire[7] = 1;
    for (size_t i = HEADER; i + 4 < size; i++) {
        if (wire[i] >= 'a' && wire[i] <= 'z') wire[i] = (uint8_t)(wire[i] - 32);
    }
    memcpy(wire + size, record, sizeof record);
    return size + sizeof record;
}

/* Before the true answer, .9, come three that must not be taken: .1 under another id, .2 to another
 * question, .3 from another port. */
static void liar(unsigned count)
{
    (void)count;
    static uint8_t query[ROOM], wire[ROOM];
    int fd = bound(SOCK_DGRAM, port), other = bound(SOCK_DGRAM, 0);
    for (;;) {
        struct sockaddr_in from;
        socklen_t from_size = sizeof from;
        ssize_t n = recvfrom(fd, query, sizeof query, 0, (struct sockaddr *)&from, &from_size);
        for (uint8_t kind = 1; n >= HEADER && kind <= 4; kind++) {
            memcpy(wire, query, (size_t)n);
            size_t size = make_answer(wire, (size_t)n, kind < 4 ? kind : 9);
            if (kind == 1) wire[1] ^= 1;
            if (kind == 2) wire[HEADER + 1] ^= 1;
            sendto(kind == 3 ? other : fd, wire, size, 0, (struct sockaddr *)&from, from_size);
        }
    }
}

static void silent(unsigned count)
{
    (void)count;
    bound(SOCK_DGRAM, port);
    bound(SOCK_STREAM, port);
    for (;;) pause();
}

static void hostile_stream(int listener)
{
    static uint8_t wire[ROOM + 2];
    int fd = accept(listener, NULL, NULL);
    ssize_t n = readable(fd, 100) ? recv(fd, wire, 300, 0) : 0;
    if (n > 2 + HEADER && rnd(8)) {
        size_t size = make_answer(wire + 2, (size_t)n - 2, 7);
        size = rnd(2) ? spoil(wire + 2, size) : size;
        wire[0] = (uint8_t)(size >> 8);
        wire[1] = (uint8_t)size;
        send(fd, wire, spoil(wire, size + 2), MSG_NOSIGNAL);
    }
    close(fd);
}

/* Answers that were spoiled on the way, over UDP and TCP. */
static void hostile(unsigned count)
{
    (void)count;
    static uint8_t wire[ROOM];
    int udp = bound(SOCK_DGRAM, port), tcp = bound(SOCK_STREAM, port);
    for (;;) {
        struct pollfd fds[] = {{.fd = udp, .events = POLLIN}, {.fd = tcp, .events = POLLIN}};
        struct sockaddr_in from;
        socklen_t from_size = sizeof from;
        if (poll(fds, 2, -1) < 0) fail("poll");
        if (fds[1].revents) hostile_stream(tcp);
        if (!fds[0].revents) continue;
        ssize_t n = recvfrom(udp, wire, sizeof wire, 0, (struct sockaddr *)&from, &from_size);
        if (n < HEADER) continue;
        size_t size = spoil(wire, make_answer(wire, (size_t)n, 7));
        sendto(udp, wire, size, 0, (struct sockaddr *)&from, from_size);
    }
}

static const struct command {
    const char *name;
    void (*run)(unsigned count);
} commands[] = {
    {"pieces", pieces}, {"pipeline", pipeline}, {"glut", glut}, {"crowd", crowd},
    {"load", load},     {"flood", flood},       {"fuzz", fuzz}, {"liar", liar},
    {"silent", silent}, {"hostile", hostile},
};

int main(int argc, char **argv)
{
    for (size_t i = 0; argc > 2 && i < sizeof commands / sizeof *commands; i++) {
        if (strcmp(argv[1], commands[i].name) != 0) continue;
        port = (unsigned)atoi(argv[2]);
        commands[i].run(argc > 3 ? (unsigned)atoi(argv[3]) : 0);
        return 0;
    }
    printf("dns_peer: wrong usage; see the head of dns_peer.c\n");
    return 2;
}
