/* Shows a transport of your own: a serial line. Build: make build/transport_serial
 *   cc -I. -o build/transport_serial examples/transport_serial.c -lprotobuf-nanopb -lbearssl \
 *       -lpthread
 *
 *   build/transport_serial DEVICE [COUNT]     logs COUNT (1) messages over it, at 115,200 baud
 *
 * At the other end of the line:
 *   build/dnstap -u /tmp/dnstap.sock &
 *   socat /dev/ttyUSB0,raw,echo=0,b115200 unix-connect:/tmp/dnstap.sock
 *
 * The line must not lose bytes: use flow control where the far end may be slow. */
#define _DEFAULT_SOURCE
#define DNSTAP_IMPLEMENTATION
#include "dnstap.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

typedef struct line {
    const char *device;
    int fd;         /* -1: closed */
    int last_errno; /* of the last failure */
} line;

/* What has failed, or has to wait for `event`. */
static int again_or_failed(line *l, short event, short *wants)
{
    l->last_errno = errno;
    *wants = event;
    return errno == EAGAIN || errno == EINTR ? DNSTAP_AGAIN : DNSTAP_SYSTEM;
}

static int line_start(void *self, short *wants)
{
    line *l = (line *)self;
    struct termios t;
    *wants = 0;
    l->fd = open(l->device, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    if (l->fd < 0 || tcgetattr(l->fd, &t) < 0) return again_or_failed(l, 0, wants);
    cfmakeraw(&t); /* bytes as they are */
    cfsetispeed(&t, B115200);
    cfsetospeed(&t, B115200);
    if (tcsetattr(l->fd, TCSANOW, &t) < 0) return again_or_failed(l, 0, wants);
    return DNSTAP_OK;
}

static long line_send(void *self, const void *data, size_t size, short *wants)
{
    line *l = (line *)self;
    ssize_t n = write(l->fd, data, size);
    return n > 0 ? (long)n : again_or_failed(l, DNSTAP_POLLOUT, wants);
}

static long line_recv(void *self, void *data, size_t size, short *wants)
{
    line *l = (line *)self;
    ssize_t n = read(l->fd, data, size);
    if (n == 0) return DNSTAP_END; /* hung up */
    return n > 0 ? (long)n : again_or_failed(l, DNSTAP_POLLIN, wants);
}

/* Until the last byte has left the machine. */
static int line_shut(void *self, short *wants)
{
    line *l = (line *)self;
    int waiting = 0;
    *wants = 0;
    return ioctl(l->fd, TIOCOUTQ, &waiting) == 0 && waiting > 0 ? DNSTAP_AGAIN : DNSTAP_OK;
}

static void line_close(void *self)
{
    line *l = (line *)self;
    if (l->fd >= 0) close(l->fd);
    l->fd = -1;
}

static int line_fd(void *self) { return ((line *)self)->fd; }

static const char *line_error(void *self) { return strerror(((line *)self)->last_errno); }

static void note(void *user, int level, const char *text)
{
    (void)user, (void)level;
    fprintf(stderr, "%s\n", text);
}

int main(int argc, char **argv)
{
    static line l = {NULL, -1, 0};
    dnstap_transport transport = {&l,        line_start, line_send, line_recv,
                                  line_shut, line_close, line_fd,   line_error};
    dnstap_options options = {0};
    dnstap_error error;
    dnstap_message m;
    long count = argc > 2 ? atol(argv[2]) : 1, i;
    if (argc < 2) {
        fprintf(stderr, "usage: %s DEVICE [COUNT]\n", argv[0]);
        return 2;
    }
    l.device = argv[1];
    options.transport = &transport;
    options.identity = "meter-7";
    options.full = true;
    options.log = note;
    dnstap_tap *tap = dnstap_open(&options, &error);
    if (!tap) return fprintf(stderr, "%s\n", error.text), 1;
    dnstap_start(tap);
    for (i = 0; i < count; i++) {
        dnstap_message_start(&m, DNSTAP_MSG_STUB_QUERY);
        m.query_message = dnstap_bytes_of("\x12\x34\1\0\0\1\0\0\0\0\0\0\0\0\2\0\1", 17);
        dnstap_log(tap, &m);
    }
    return dnstap_close(tap, 60000) < 0;
}
