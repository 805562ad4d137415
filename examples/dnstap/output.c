/* output.c: standard output or a file, as text or as Frame Streams. What is put together lies in
 * memory and leaves in large writes. */
#include "tool.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { OUTPUT_FULL = 64 * 1024 };

/* Says what went wrong, and gives the output up. */
static bool give_up(output *out, const char *why)
{
    complain("%s: %s", out->name, why);
    if (out->fd >= 0) close(out->fd);
    out->fd = -1;
    return false;
}

/* Whether what is open there begins as a stream of ours does. */
static bool is_frame_streams(int fd)
{
    uint8_t begin[8 + DNSTAP_FRAME_CONTROL_MAX], buffer[sizeof begin];
    dnstap_frame_reader reader;
    dnstap_frame frame;
    const ssize_t size = pread(fd, begin, sizeof begin, 0);
    dnstap_frame_reader_init(&reader, buffer, sizeof buffer, false);
    return size > 0 && dnstap_frame_reader_feed(&reader, begin, (size_t)size, &frame) > 0 &&
           frame.kind == DNSTAP_FRAME_CONTROL && frame.control == DNSTAP_CONTROL_START;
}

static bool open_file(output *out)
{
    struct stat status;
    out->fd = open(out->name, O_WRONLY | O_CREAT | O_NOCTTY | O_CLOEXEC, 0666);
    if (out->fd < 0 || fstat(out->fd, &status) < 0) return give_up(out, strerror(errno));
    if (!S_ISREG(status.st_mode)) return true; /* nothing in it to lose */
    if (!out->format && status.st_size > 0) {
        const int fd = open(out->name, O_RDONLY | O_CLOEXEC);
        const bool ours = fd >= 0 && is_frame_streams(fd);
        if (fd >= 0) close(fd);
        if (!ours) return give_up(out, "holds something else than dnstap; remove it first");
    }
    return ftruncate(out->fd, 0) == 0 || give_up(out, strerror(errno));
}

static void put_control(output *out)
{
    const dnstap_bytes control = dnstap_frame_writer_next(&out->writer);
    text_bytes(&out->pending, control.data, control.size);
    dnstap_frame_writer_sent(&out->writer, control.size);
}

bool output_open(output *out, const char *path, text_format *format)
{
    const bool standard = !path || !*path || !strcmp(path, "-");
    memset(out, 0, sizeof *out);
    out->name = standard ? "standard output" : path;
    out->fd = STDOUT_FILENO;
    out->format = standard && !format ? quiet_print : format;
    if (!standard && !open_file(out)) return false;
    if (out->format) return true;
    dnstap_frame_writer_init(&out->writer, false);
    put_control(out);
    return output_flush(out);
}

bool output_put(output *out, const dnstap_received *received)
{
    const size_t size = received->frame.size;
    const uint8_t header[4] = {(uint8_t)(size >> 24), (uint8_t)(size >> 16), (uint8_t)(size >> 8),
                               (uint8_t)size};
    if (out->format) {
        if (received->message) out->format(&out->pending, received);
    } else {
        text_bytes(&out->pending, header, sizeof header);
        text_bytes(&out->pending, received->frame.data, size);
    }
    return out->pending.size < OUTPUT_FULL || output_flush(out);
}

bool output_flush(output *out)
{
    size_t done = 0;
    while (out->fd >= 0 && done < out->pending.size) {
        const ssize_t n = write(out->fd, out->pending.data + done, out->pending.size - done);
        struct pollfd until = {out->fd, POLLOUT, 0};
        if (n > 0)
            done += (size_t)n;
        else if (n < 0 && errno == EAGAIN)
            poll(&until, 1, -1);
        else if (n < 0 && errno != EINTR)
            give_up(out, strerror(errno));
    }
    out->pending.size = 0;
    return out->fd >= 0;
}

bool output_close(output *out)
{
    if (!out->format && out->fd >= 0) {
        dnstap_frame_writer_stop(&out->writer);
        put_control(out);
    }
    const bool well = output_flush(out) && (close(out->fd) == 0 || give_up(out, strerror(errno)));
    out->fd = -1;
    free(out->pending.data);
    return well;
}
