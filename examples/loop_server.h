/* The smallest DNS server, for the loop_*.c programs: it refuses every query that comes over UDP,
 * and logs both messages to dnstap. They differ only in who waits, and so show what a tap needs of
 * a loop. Each takes
 *   ENDPOINT [PORT [COUNT]]
 * the sink, where to listen on 127.0.0.1 (5300), and after how many queries to end (0: never);
 * SIGINT and SIGTERM end it, too. */
#ifndef LOOP_SERVER_H_INCLUDED
#define LOOP_SERVER_H_INCLUDED

#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

typedef struct server {
    dnstap_tap *tap;
    int fd;
    struct sockaddr_in at;
    unsigned long left; /* queries to answer; 0: any number */
    bool ended;
} server;

static void server_note(void *user, int level, const char *text)
{
    (void)user, (void)level;
    fprintf(stderr, "%s\n", text);
}

static void server_die(const char *what)
{
    perror(what);
    exit(1);
}

/* The options are the loop's: with its hooks, if it has some. */
static void server_open(server *s, dnstap_options *options, int argc, char **argv)
{
    dnstap_error error;
    if (argc < 2) {
        fprintf(stderr, "usage: %s ENDPOINT [PORT [COUNT]]\n", argv[0]);
        exit(2);
    }
    s->at.sin_family = AF_INET;
    s->at.sin_port = htons((uint16_t)(argc > 2 ? atoi(argv[2]) : 5300));
    s->at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    s->left = argc > 3 ? strtoul(argv[3], NULL, 10) : 0;
    s->fd = socket(AF_INET, SOCK_DGRAM, 0);
    if (s->fd < 0 || fcntl(s->fd, F_SETFL, O_NONBLOCK) < 0) server_die("socket");
    if (bind(s->fd, (struct sockaddr *)&s->at, sizeof s->at) < 0) server_die("bind");
    options->endpoint = argv[1];
    options->full = true;
    options->log = server_note;
    s->tap = dnstap_open(options, &error);
    if (!s->tap) {
        fprintf(stderr, "%s\n", error.text);
        exit(1);
    }
}

static void server_log(server *s, uint32_t type, const struct sockaddr_in *from,
                       const struct timespec *asked, const uint8_t *wire, size_t size)
{
    dnstap_message m;
    struct timespec now;
    if (!dnstap_wants(s->tap, type)) return;
    clock_gettime(CLOCK_REALTIME, &now);
    dnstap_fill(&m, type, (const struct sockaddr *)from, (const struct sockaddr *)&s->at,
                DNSTAP_PROTOCOL_UDP, asked, &now, wire, size);
    dnstap_log(s->tap, &m);
}

/* When its socket can be read: answers all that waits there. */
static void server_readable(server *s)
{
    struct sockaddr_in from;
    socklen_t length = sizeof from;
    struct timespec asked;
    uint8_t wire[512];
    ssize_t size;
    while (!s->ended &&
           (size = recvfrom(s->fd, wire, sizeof wire, 0, (struct sockaddr *)&from, &length)) >= 0) {
        if (size < 12 || wire[2] & 0x80) continue; /* no query */
        clock_gettime(CLOCK_REALTIME, &asked);
        server_log(s, DNSTAP_MSG_CLIENT_QUERY, &from, &asked, wire, (size_t)size);
        wire[2] |= 0x80;                   /* a response */
        wire[3] = (wire[3] & 0x70) | 0x05; /* REFUSED */
        sendto(s->fd, wire, (size_t)size, 0, (struct sockaddr *)&from, length);
        server_log(s, DNSTAP_MSG_CLIENT_RESPONSE, &from, &asked, wire, (size_t)size);
        s->ended = s->left && --s->left == 0;
    }
}

/* Sends what is queued; then all is freed. What main returns. */
static int server_close(server *s)
{
    int result = dnstap_close(s->tap, 2000);
    close(s->fd);
    if (result < 0) fprintf(stderr, "%s\n", dnstap_strerror(result));
    return result < 0;
}

/* For loops that a signal interrupts. */
static volatile sig_atomic_t server_stopped;

static void server_on_signal(int number)
{
    (void)number;
    server_stopped = 1;
}

static inline void server_catch_signals(void)
{
    signal(SIGINT, server_on_signal);
    signal(SIGTERM, server_on_signal);
}

#endif
