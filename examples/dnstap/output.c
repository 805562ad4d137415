/* output.c: standard output or a file, as text or as Frame Streams. What is put together lies in
 * memory and leaves in large writes, of whole lines or frames. */
#include "tool.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { OUTPUT_FULL = 64 * 1024 };

static bool is_open(const output *out) { return out->file || out->fd >= 0; }

/* The last of a file is its STOP; where there is no room for it, it is whole without. 0, or errno's
 * value. */
static int shut(output *out)
{
    const int problem = out->file ? file_close(out->file) : close(out->fd) < 0 ? errno : 0;
    out->file = NULL;
    out->fd = -1;
    return problem;
}

/* Says what went wrong, and gives the output up. */
static bool give_up(output *out, const char *why)
{
    complain("%s: %s", out->name, why);
    if (is_open(out)) shut(out);
    return false;
}

static bool end(output *out)
{
    const int problem = shut(out);
    return problem == 0 || give_up(out, strerror(problem));
}

static void put_control(output *out, bool start)
{
    dnstap_frame_writer w;
    dnstap_frame_writer_init(&w, false);
    if (!start) {
        dnstap_frame_writer_sent(&w, dnstap_frame_writer_next(&w).size);
        dnstap_frame_writer_stop(&w);
    }
    const dnstap_bytes control = dnstap_frame_writer_next(&w);
    text_bytes(&out->pending, control.data, control.size);
}

/* A device or a pipe has nothing in it to lose. */
static bool open_device(output *out)
{
    out->fd = open(out->name, O_WRONLY | O_NOCTTY | O_CLOEXEC);
    if (out->fd < 0) return give_up(out, strerror(errno));
    if (!out->format) put_control(out, true);
    return output_flush(out);
}

static bool open_path(output *out, bool overwrite)
{
    struct stat status;
    if (stat(out->name, &status) == 0 && !S_ISREG(status.st_mode)) return open_device(out);
    out->file = file_open(out->name, !out->format, overwrite);
    return out->file != NULL;
}

bool output_open(output *out, const char *path, text_format *format, bool overwrite)
{
    const bool standard = !path || !*path || !strcmp(path, "-");
    memset(out, 0, sizeof *out);
    out->name = standard ? "standard output" : path;
    out->fd = standard ? STDOUT_FILENO : -1;
    out->format = standard && !format ? quiet_print : format;
    return standard || open_path(out, overwrite);
}

bool output_reopen(output *out)
{
    if (!output_flush(out) || !out->file) return is_open(out);
    return end(out) && open_path(out, false);
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

/* Waits for whoever reads it, but not for ever when the program is to end. */
static void write_pending(output *out)
{
    size_t done = 0;
    while (out->fd >= 0 && done < out->pending.size) {
        const ssize_t n = write(out->fd, out->pending.data + done, out->pending.size - done);
        struct pollfd until = {out->fd, POLLOUT, 0};
        if (n > 0)
            done += (size_t)n;
        else if (n < 0 && errno != EAGAIN && errno != EINTR)
            give_up(out, strerror(errno));
        else if (overdue())
            give_up(out, "nobody reads it; what was left is lost");
        else if (n < 0 && errno == EAGAIN)
            poll(&until, 1, -1);
    }
}

bool output_flush(output *out)
{
    if (!out->file)
        write_pending(out);
    else if (!file_write(out->file, out->pending.data, out->pending.size))
        give_up(out, file_problem(out->file));
    out->pending.size = 0;
    return is_open(out);
}

bool output_close(output *out)
{
    if (!out->format && out->fd >= 0) put_control(out, false);
    const bool well = output_flush(out) && end(out);
    free(out->pending.data);
    return well;
}
