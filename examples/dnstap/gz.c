/* gz.c: a file whose name ends in .gz, as a transport that a sink reads: gzip's members, one behind
 * the other, through zlib. What is in there uncompressed in spite of its name is read as it is. */
#include "tool.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

typedef enum place {
    HEAD,    /* nothing was read yet */
    PLAIN,   /* it is not compressed */
    MEMBER,  /* inside a member */
    BETWEEN, /* behind one */
} place;

struct gz {
    const char *path;
    const char *problem;
    int fd;
    place place;
    bool more; /* zlib may have output left */
    z_stream stream;
    uint8_t input[64 * 1024];
};

enum { GZIP_ONLY = 16 + MAX_WBITS };

static int start(void *self, short *wants)
{
    gz *g = (gz *)self;
    *wants = 0;
    g->fd = open(g->path, O_RDONLY | O_NOCTTY | O_CLOEXEC);
    if (g->fd >= 0) return DNSTAP_OK;
    g->problem = strerror(errno);
    return DNSTAP_SYSTEM;
}

static long fail(gz *g, const char *why)
{
    g->problem = why;
    return DNSTAP_SYSTEM;
}

/* What it was before the first two bytes, gzip's magic number (RFC 1952, section 2.3.1). */
static bool is_compressed(const gz *g)
{
    return g->stream.avail_in > 0 && g->input[0] == 0x1f &&
           (g->stream.avail_in == 1 || g->input[1] == 0x8b);
}

/* More input, where there is none left. DNSTAP_OK; DNSTAP_END; DNSTAP_AGAIN; DNSTAP_SYSTEM. */
static long fill(gz *g)
{
    if (g->stream.avail_in > 0) return DNSTAP_OK;
    const ssize_t n = read(g->fd, g->input, sizeof g->input);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return DNSTAP_AGAIN;
    if (n < 0) return fail(g, strerror(errno));
    if (n == 0) return DNSTAP_END;
    g->stream.next_in = g->input;
    g->stream.avail_in = (uInt)n;
    if (g->place == HEAD) g->place = is_compressed(g) ? BETWEEN : PLAIN;
    return DNSTAP_OK;
}

static long copy(gz *g, void *data, size_t size)
{
    const size_t n = g->stream.avail_in < size ? g->stream.avail_in : size;
    memcpy(data, g->stream.next_in, n);
    g->stream.next_in += n;
    g->stream.avail_in -= (uInt)n;
    return (long)n;
}

/* Zeros behind a member are a tape's; gzip passes over them, too. False: there is no next member
 * yet. */
static bool next_member(gz *g)
{
    while (g->stream.avail_in > 0 && *g->stream.next_in == 0) {
        g->stream.next_in++;
        g->stream.avail_in--;
    }
    if (g->stream.avail_in == 0) return false;
    inflateReset(&g->stream);
    g->place = MEMBER;
    return true;
}

/* How many bytes came out of what there is, if any. */
static long expand(gz *g, void *data, size_t size)
{
    if (g->place == BETWEEN && !next_member(g)) return 0;
    g->stream.next_out = (Bytef *)data;
    g->stream.avail_out = (uInt)size;
    const int result = inflate(&g->stream, Z_NO_FLUSH);
    const size_t n = size - g->stream.avail_out;
    g->more = result == Z_OK && g->stream.avail_out == 0;
    if (result == Z_STREAM_END) g->place = BETWEEN;
    if (result == Z_MEM_ERROR) return fail(g, "out of memory");
    if (result == Z_OK || result == Z_STREAM_END || result == Z_BUF_ERROR || n > 0) return (long)n;
    return fail(g, "its compressed data are damaged, or something else is behind them");
}

static long receive(void *self, void *data, size_t size, short *wants)
{
    gz *g = (gz *)self;
    *wants = DNSTAP_POLLIN;
    for (;;) {
        long n = g->more ? DNSTAP_OK : fill(g);
        if (n == DNSTAP_END && g->place == MEMBER)
            return fail(g, "ends inside its compressed data");
        if (n < 0) return n;
        if (g->place == PLAIN) return copy(g, data, size);
        n = expand(g, data, size);
        if (n != 0) return n;
        g->more = false;
    }
}

/* What was read already needs no waiting for. */
static int descriptor(void *self)
{
    const gz *g = (const gz *)self;
    return g->more || g->stream.avail_in > 0 ? -1 : g->fd;
}

/* The descriptor stays: what is behind the stream is still to be looked at. */
static void leave(void *self) { (void)self; }

static const char *problem(void *self) { return ((gz *)self)->problem; }

const char *gz_rest(gz *g)
{
    struct pollfd ready = {g->fd, POLLIN, 0};
    uint8_t any;
    short wants;
    long n;
    do n = poll(&ready, 1, 0) == 1 ? receive(g, &any, 1, &wants) : DNSTAP_END;
    while (n == DNSTAP_AGAIN);
    return n == DNSTAP_SYSTEM ? g->problem : NULL;
}

bool gz_is(const char *path)
{
    const size_t size = strlen(path);
    return size > 3 && !strcmp(path + size - 3, ".gz");
}

gz *gz_new(const char *path, dnstap_transport *t)
{
    gz *g = (gz *)calloc(1, sizeof *g);
    if (!g || inflateInit2(&g->stream, GZIP_ONLY) != Z_OK) {
        complain("%s: out of memory", path);
        exit(EXIT_FAILURE);
    }
    g->path = path;
    g->problem = "";
    g->fd = -1;
    memset(t, 0, sizeof *t);
    t->self = g;
    t->start = start;
    t->recv = receive;
    t->close = leave;
    t->fd = descriptor;
    t->error = problem;
    return g;
}

void gz_free(gz *g)
{
    if (!g) return;
    if (g->fd >= 0) close(g->fd);
    inflateEnd(&g->stream);
    free(g);
}
