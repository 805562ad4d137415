/* library.c: the implementation of dnstap.h, compiled once for the whole tool, with the one thing
 * that the tool takes from its private parts: a file as a tap writes it. It is locked, what is in
 * it stays, and a write that fails half way is taken back. */
#define DNSTAP_IMPLEMENTATION
#include "dnstap.h"
#include "tool.h"

#include <stdlib.h>

struct kept_file {
    dnstap__file file;
    bool frames;
};

/* Text goes behind what is there, if that is text. */
static int open_text(dnstap__file *f, const char *path, bool overwrite)
{
    off_t edge;
    f->path = path;
    f->regular = true;
    f->fd = open(path, O_RDWR | O_CREAT | O_NOCTTY | O_CLOEXEC, 0644);
    if (f->fd < 0) return dnstap__file_failed(f, "open");
    if (!dnstap__file_claim(f))
        return dnstap__fail(&f->problem, DNSTAP_SYSTEM, EWOULDBLOCK, "another process writes it");
    if (!overwrite && dnstap__file_walk(f, lseek(f->fd, 0, SEEK_END), &edge) == DNSTAP_OK)
        return dnstap__fail(&f->problem, DNSTAP_BAD_OPTION, 0, "holds dnstap, not text");
    if ((overwrite && ftruncate(f->fd, 0) < 0) || lseek(f->fd, 0, SEEK_END) < 0)
        return dnstap__file_failed(f, "truncate");
    return DNSTAP_OK;
}

kept_file *file_open(const char *path, bool frames, bool overwrite)
{
    kept_file *f = (kept_file *)calloc(1, sizeof *f);
    short wants;
    int result;
    if (!f) {
        complain("%s: %s", path, strerror(errno));
        return NULL;
    }
    f->frames = frames;
    dnstap__file_transport(&f->file, path, overwrite);
    result = frames ? dnstap__file_start(&f->file, &wants) : open_text(&f->file, path, overwrite);
    if (result == DNSTAP_OK) return f;
    complain("%s: %s%s", path, f->file.problem.text,
             result == DNSTAP_SYSTEM ? "" : "; give another path, or move it away");
    dnstap__file_close(&f->file);
    free(f);
    return NULL;
}

bool file_write(kept_file *f, const void *data, size_t size)
{
    short wants;
    return size == 0 || dnstap__file_send(&f->file, data, size, &wants) == (long)size;
}

const char *file_problem(const kept_file *f) { return f->file.problem.text; }

int file_close(kept_file *f)
{
    const dnstap_bytes stop = dnstap__control_frame(DNSTAP_CONTROL_STOP);
    const bool ended = !f->frames || file_write(f, stop.data, stop.size);
    const bool closed = close(f->file.fd) == 0;
    const int result = !closed ? errno : ended ? 0 : f->file.problem.sys_errno;
    free(f);
    return result;
}
