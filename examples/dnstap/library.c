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

static int look(dnstap__file *f, off_t *size)
{
    int result;
    do result = dnstap__file_check(f, size);
    while (result == DNSTAP_AGAIN);
    return result;
}

/* Text goes behind what is there, if that is text. */
static int open_text(dnstap__file *f, bool overwrite)
{
    off_t size;
    const int result = dnstap__file_open(f);
    if (result < 0) return result;
    if (!dnstap__file_lock(f) || !dnstap__file_claim(f)) return dnstap__file_in_use(f);
    if (look(f, &size) == DNSTAP_OK && size > 0 && !overwrite)
        return dnstap__fail(&f->problem, DNSTAP_BAD_OPTION, 0, "holds dnstap, not text");
    f->at = overwrite ? 0 : size;
    return overwrite && ftruncate(f->fd, 0) < 0 ? dnstap__file_failed(f, "truncate") : DNSTAP_OK;
}

/* As a tap does when it opens and when it starts, but what is in the way is not waited for. */
static int open_frames(dnstap__file *f, bool overwrite)
{
    short wants;
    int result = dnstap__file_prepare(f, overwrite);
    while (result == DNSTAP_OK && (result = dnstap__file_start(f, &wants)) == DNSTAP_AGAIN)
        result = DNSTAP_OK;
    return result;
}

kept_file *file_open(const char *path, bool frames, bool overwrite)
{
    kept_file *f = (kept_file *)calloc(1, sizeof *f);
    int result;
    if (!f) {
        complain("%s: %s", path, strerror(errno));
        return NULL;
    }
    f->frames = frames;
    dnstap__file_transport(&f->file, path);
    result = (frames ? open_frames : open_text)(&f->file, overwrite);
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

uint64_t file_size(const kept_file *f) { return (uint64_t)f->file.at; }
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
