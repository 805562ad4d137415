/* The sockets that forwarder.c needs: addresses, datagrams that know which of our addresses they
 * came to, and frames over TCP. Nothing in here concerns dnstap. */
#ifndef FORWARDER_NET_H_INCLUDED
#define FORWARDER_NET_H_INCLUDED

#include "forwarder_dns.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    FRAME_MAX = 2 + MESSAGE_MAX, /* over TCP: its length, and the message */
    PIPELINE_MAX = 16,           /* queries of one connection at a time */
    POLL_MAX = 1024              /* descriptors: more than all limits together */
};

/* ---- addresses ---------------------------------------------------------------------------- */

typedef union address {
    struct sockaddr sa;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
} address;

static socklen_t address_size(const address *a)
{
    return a->sa.sa_family == AF_INET6 ? sizeof a->in6 : sizeof a->in;
}

/* ADDR:PORT or [ADDR]:PORT, numbers only. False: it is neither. */
static bool parse_address(address *a, const char *text)
{
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV}, *found;
    const char *colon = strrchr(text, ':');
    bool bracket = *text == '[' && colon && colon > text + 1 && colon[-1] == ']';
    char number[64];
    if (!colon || !colon[1] || colon == text) return false;
    snprintf(number, sizeof number, "%.*s", (int)(colon - text) - 2 * bracket, text + bracket);
    hints.ai_socktype = SOCK_DGRAM;
    if (getaddrinfo(number, colon + 1, &hints, &found) != 0) return false;
    memcpy(a, found->ai_addr, found->ai_addrlen);
    freeaddrinfo(found);
    return true;
}

static void format_address(char *out, size_t size, const address *a)
{
    char name[64] = "?", port[8] = "?";
    bool v6 = a->sa.sa_family == AF_INET6;
    getnameinfo(&a->sa, address_size(a), name, sizeof name, port, sizeof port,
                NI_NUMERICHOST | NI_NUMERICSERV);
    snprintf(out, size, "%s%s%s:%s", v6 ? "[" : "", name, v6 ? "]" : "", port);
}

/* ---- listening ---------------------------------------------------------------------------- */

typedef struct listener {
    address at;
    int udp, tcp;
} listener;

/* Makes a descriptor as all of ours are; passes -1 on. */
static int tame(int fd)
{
    if (fd >= 0) fcntl(fd, F_SETFL, O_NONBLOCK);
    if (fd >= 0) fcntl(fd, F_SETFD, FD_CLOEXEC);
    return fd;
}

/* One address's socket; an IPv6 wildcard takes IPv4 too. */
static int listening_socket(address *at, int type)
{
    int on = 1, off = 0, v6 = at->sa.sa_family == AF_INET6;
    int fd = tame(socket(at->sa.sa_family, type, 0));
    socklen_t size = sizeof *at;
    if (fd < 0) return -1;
    if (v6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    if (type == SOCK_STREAM) {
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    } else if (v6) {
        setsockopt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &on, sizeof on);
    } else {
        setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof on);
    }
    if (bind(fd, &at->sa, address_size(at)) == 0 && getsockname(fd, &at->sa, &size) == 0 &&
        (type == SOCK_DGRAM || listen(fd, 128) == 0)) {
        return fd;
    }
    close(fd);
    return -1;
}

/* Binds UDP and TCP to one port; a port 0 that is free for one only is chosen anew. False, with
 * errno: it can't be had. */
static bool open_listener(listener *l)
{
    const address wanted = l->at;
    for (int tries = wanted.in.sin_port == 0 ? 20 : 1; tries > 0; tries--) {
        l->at = wanted;
        l->udp = listening_socket(&l->at, SOCK_DGRAM);
        if (l->udp < 0) return false;
        l->tcp = listening_socket(&l->at, SOCK_STREAM);
        if (l->tcp >= 0) return true;
        close(l->udp);
    }
    return false;
}

/* ---- datagrams ---------------------------------------------------------------------------- */

/* The control bytes of a datagram, which name our address it came to. Sent back with the answer
 * they make it leave from there; on a socket bound to a wildcard nothing else does. */
typedef struct route {
    size_t size;
    uint64_t control[(CMSG_SPACE(sizeof(struct in6_pktinfo)) + 7) / 8]; /* aligned */
} route;

/* Our own address, out of a datagram's control bytes. */
static void take_local_address(struct msghdr *h, address *local)
{
    struct cmsghdr *c = CMSG_FIRSTHDR(h);
    struct in_pktinfo v4;
    struct in6_pktinfo v6;
    if (c && c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
        memcpy(&v4, CMSG_DATA(c), sizeof v4);
        local->in.sin_addr = v4.ipi_spec_dst;
    } else if (c && c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
        memcpy(&v6, CMSG_DATA(c), sizeof v6);
        local->in6.sin6_addr = v6.ipi6_addr;
    }
}

/* to is what the socket is bound to, and becomes more exact. Negative: there is none. */
static ssize_t receive_datagram(int fd, address *from, address *to, route *r, uint8_t *wire,
                                size_t room)
{
    struct iovec part = {wire, room};
    struct msghdr h = {.msg_name = from, .msg_namelen = sizeof *from, .msg_iov = &part};
    h.msg_iovlen = 1;
    h.msg_control = r->control;
    h.msg_controllen = sizeof r->control;
    ssize_t n = recvmsg(fd, &h, 0);
    if (n < 0) return n;
    r->size = h.msg_controllen;
    take_local_address(&h, to);
    return n;
}

static void return_datagram(int fd, address *to, route *r, uint8_t *wire, size_t size)
{
    struct iovec part = {wire, size};
    struct msghdr h = {.msg_name = to, .msg_namelen = address_size(to), .msg_iov = &part};
    h.msg_iovlen = 1;
    h.msg_control = r->size ? r->control : NULL;
    h.msg_controllen = r->size;
    sendmsg(fd, &h, MSG_NOSIGNAL);
}

/* ---- streams ------------------------------------------------------------------------------ */

/* A TCP connection of either side: frames in, frames out. */
typedef struct stream {
    int fd;
    size_t in_size, out_size;
    uint8_t in[FRAME_MAX], out[PIPELINE_MAX * FRAME_MAX];
} stream;

static stream *new_stream(int fd)
{
    stream *s = (stream *)malloc(sizeof *s);
    if (!s) return NULL;
    s->fd = fd;
    s->in_size = s->out_size = 0;
    return s;
}

static void put_frame(stream *s, const uint8_t *wire, size_t size)
{
    put16(s->out + s->out_size, size);
    memcpy(s->out + s->out_size + 2, wire, size);
    s->out_size += 2 + size;
}

/* Sends what it can. False: the connection is gone. */
static bool write_stream(stream *s)
{
    ssize_t n = s->out_size ? send(s->fd, s->out, s->out_size, MSG_NOSIGNAL) : 0;
    if (n < 0) return errno == EAGAIN || errno == EINTR;
    s->out_size -= (size_t)n;
    memmove(s->out, s->out + n, s->out_size);
    return true;
}

/* Reads what fits; 0 at the end, negative: nothing yet (errno EAGAIN), or gone. */
static ssize_t read_stream(stream *s)
{
    ssize_t n = recv(s->fd, s->in + s->in_size, sizeof s->in - s->in_size, 0);
    if (n > 0) s->in_size += (size_t)n;
    return n;
}

/* The size of the frame at the beginning of `in`; 0: it is not all there. */
static size_t whole_frame(const uint8_t *in, size_t size)
{
    return size >= 2 && size >= 2 + get16(in) ? 2 + get16(in) : 0;
}

/* ---- clock, signals, poll ------------------------------------------------------------------ */

static uint64_t now; /* monotonic, ms; the loop's */

static void read_clock(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    now = (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* What the loop waits for, in the order of watch() calls. */
static struct pollfd polled[POLL_MAX];
static int polled_count;
static int signals[2]; /* a pipe: the handler writes, the loop reads */

static void on_signal(int number)
{
    int saved = errno;
    uint8_t byte = (uint8_t)number;
    if (write(signals[1], &byte, 1) < 0) { /* full: it will be read anyway */
    }
    errno = saved;
}

static int watch(int fd, short events)
{
    polled[polled_count].fd = fd;
    polled[polled_count].events = events;
    polled[polled_count].revents = 0;
    return polled_count++;
}

static short ready(int slot) { return slot < 0 ? 0 : polled[slot].revents; }

static int sooner(int a, int b) { return a < 0 || (b >= 0 && b < a) ? b : a; }

static int until(uint64_t deadline) { return deadline > now ? (int)(deadline - now) : 0; }

/* SIGTERM and SIGINT make signals[0] readable. */
static bool catch_signals(void)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    if (pipe(signals) < 0) return false;
    tame(signals[0]);
    tame(signals[1]);
    return sigaction(SIGTERM, &action, NULL) == 0 && sigaction(SIGINT, &action, NULL) == 0;
}

#endif
