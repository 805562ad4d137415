/* writer.c: standard output, a file, a device or a pipe, written by a thread of its own, so that
 * one that stalls stalls nobody else. In come messages, which are put together in chunks of whole
 * lines or frames; a queue of chunks lies between the loop and the thread. Always: the loop waits
 * for no write; what it holds is bounded: beyond QUEUE_ENOUGH files are not read on, and beyond
 * QUEUE_MOST what comes from sockets is lost, which is counted. */
#include "tool.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    CHUNK_FULL = 64 * 1024,
    QUEUE_ENOUGH = 1024 * 1024,
    QUEUE_MOST = 16 * 1024 * 1024,
    PATIENCE_MS = 1000 /* for a reader that takes nothing, once the program is to end */
};

typedef enum order { WRITE, REOPEN, END } order;

typedef struct chunk {
    struct chunk *next;
    order order;
    text bytes, ends; /* ends: where each message ends, uint32_t; only where it may be cut there */
    uint64_t messages;
} chunk;

struct writer {
    const char *name;    /* for people */
    text_format *format; /* NULL: Frame Streams */
    text_style style;
    losses losses;  /* the loop's: what found no room */
    chunk *filling; /* the loop's */
    pthread_t thread;
    pthread_mutex_t lock; /* over these: */
    pthread_cond_t more, less;
    chunk *first, *last, *spare;
    size_t queued;      /* bytes; those that are being written among them */
    uint64_t progress;  /* grows while anything is written */
    uint64_t unwritten; /* messages that it had and lost */
    bool failed, ended, awaited;
    /* the thread's, but while it is opened */
    kept_file *file; /* a regular file */
    int fd;          /* anything else; both NULL and -1: not open */
    naming naming;
    size_t empty; /* size of a file that holds no message */
};

/* ---- opening, closing ---------------------------------------------------------------------- */

/* Says what went wrong, once, and takes nothing any more. */
static bool give_up(writer *w, const char *why)
{
    complain("%s: %s", w->name, why);
    pthread_mutex_lock(&w->lock);
    w->failed = true;
    pthread_mutex_unlock(&w->lock);
    wake_loop();
    return false;
}

/* 0, or errno's value. The last of a file is its STOP; where there is no room for it, it is whole
 * without. */
static int shut(writer *w)
{
    const int problem = w->file ? file_close(w->file) : w->fd < 0 ? 0 : close(w->fd) ? errno : 0;
    w->file = NULL;
    w->fd = -1;
    return problem;
}

static bool end_file(writer *w)
{
    const int problem = shut(w);
    return problem == 0 || give_up(w, strerror(problem));
}

/* Waits for whoever reads it. */
static bool write_fd(writer *w, const char *data, size_t size)
{
    for (size_t done = 0; done < size;) {
        const ssize_t n = write(w->fd, data + done, size - done);
        struct pollfd until = {w->fd, POLLOUT, 0};
        if (n >= 0)
            done += (size_t)n;
        else if (errno == EAGAIN)
            poll(&until, 1, -1);
        else if (errno != EINTR)
            return give_up(w, strerror(errno));
    }
    return true;
}

static bool write_control(writer *w, bool start)
{
    dnstap_frame_writer control;
    dnstap_frame_writer_init(&control, false);
    if (!start) {
        dnstap_frame_writer_sent(&control, dnstap_frame_writer_next(&control).size);
        dnstap_frame_writer_stop(&control);
    }
    const dnstap_bytes bytes = dnstap_frame_writer_next(&control);
    return write_fd(w, (const char *)bytes.data, bytes.size);
}

/* A device or a pipe has nothing in it to lose. A pipe is opened when somebody reads it. */
static bool open_device(writer *w)
{
    w->fd = open(w->naming.path, O_WRONLY | O_NOCTTY | O_CLOEXEC);
    return w->fd >= 0 || give_up(w, strerror(errno));
}

static bool is_pipe(const char *path, bool *regular)
{
    struct stat status;
    const bool there = stat(path, &status) == 0;
    *regular = !there || S_ISREG(status.st_mode);
    return there && S_ISFIFO(status.st_mode);
}

static bool open_path(writer *w, bool overwrite)
{
    bool regular;
    if (is_pipe(w->naming.path, &regular)) return true; /* the thread's first step */
    if (!regular) return open_device(w);
    w->file = file_open(w->naming.path, !w->format, overwrite);
    if (!w->file) {
        pthread_mutex_lock(&w->lock);
        w->failed = true;
        pthread_mutex_unlock(&w->lock);
    }
    return w->file != NULL;
}

/* Ends the file and goes on in the next, or in what is at its path by now. */
static bool change_file(writer *w, bool next)
{
    if (!w->file) return true;
    if (!end_file(w)) return false;
    if (next ? !naming_next(&w->naming) : !naming_again(&w->naming))
        return give_up(w, "the name that it makes is too long");
    return open_path(w, false);
}

/* ---- the thread ---------------------------------------------------------------------------- */

static bool write_all(writer *w, const char *data, size_t size)
{
    const bool well = !w->file
                          ? write_fd(w, data, size)
                          : file_write(w->file, data, size) || give_up(w, file_problem(w->file));
    pthread_mutex_lock(&w->lock);
    w->progress += well;
    pthread_mutex_unlock(&w->lock);
    return well;
}

/* How many of the messages from `from` on, of n, fit into the file: one at least in a file of its
 * own. */
static size_t fitting(const writer *w, const uint32_t *ends, size_t from, size_t n)
{
    const uint64_t size = file_size(w->file), begin = from ? ends[from - 1] : 0;
    size_t i = from;
    while (i < n && size + (ends[i] - begin) <= w->naming.most) i++;
    return i == from && size <= w->empty ? from + 1 : i;
}

static bool write_in_sizes(writer *w, const chunk *c)
{
    const uint32_t *ends = (const uint32_t *)(const void *)c->ends.data;
    const size_t n = c->ends.size / sizeof *ends;
    for (size_t from = 0; from < n;) {
        const size_t to = fitting(w, ends, from, n), begin = from ? ends[from - 1] : 0;
        if (to > from && !write_all(w, c->bytes.data + begin, ends[to - 1] - begin)) return false;
        if (to < n && !change_file(w, true)) return false;
        from = to;
    }
    return true;
}

static bool carry_out(writer *w, chunk *c)
{
    if (c->order == REOPEN) return change_file(w, false);
    if (w->file && w->naming.most) return write_in_sizes(w, c);
    return c->bytes.size == 0 || write_all(w, c->bytes.data, c->bytes.size);
}

/* Keeps one for the next time. Under the lock. */
static void recycle(writer *w, chunk *c)
{
    chunk *old = w->spare;
    c->bytes.size = c->ends.size = 0;
    c->messages = 0;
    c->order = WRITE;
    w->spare = c;
    if (!old) return;
    free(old->bytes.data);
    free(old->ends.data);
    free(old);
}

/* The next chunk, under the lock; meanwhile files are changed when their time has come. NULL: the
 * time has. */
static chunk *await_chunk(writer *w)
{
    struct timespec until = {w->naming.next, 0};
    int late = 0;
    while (!w->first && !late)
        late = w->file && until.tv_sec ? pthread_cond_timedwait(&w->more, &w->lock, &until)
                                       : pthread_cond_wait(&w->more, &w->lock);
    if (w->file && until.tv_sec && time(NULL) >= until.tv_sec) return NULL;
    chunk *c = w->first;
    if (!c) return NULL;
    w->first = c->next;
    if (!w->first) w->last = NULL;
    return c;
}

/* Puts down what has become of c. */
static void account(writer *w, chunk *c, bool well)
{
    w->queued -= c->bytes.size;
    if (!well) w->unwritten += c->messages;
    if (w->awaited && w->queued < QUEUE_ENOUGH) {
        w->awaited = false;
        wake_loop();
    }
}

static void *write_out(void *argument)
{
    writer *w = (writer *)argument;
    bool well = w->fd >= 0 || w->file || open_device(w), going = true;
    if (well && !w->file && !w->format) well = write_control(w, true);
    pthread_mutex_lock(&w->lock);
    while (going) {
        chunk *c = await_chunk(w);
        pthread_mutex_unlock(&w->lock);
        if (!c && well) well = change_file(w, true);
        const bool done = c && well && (well = carry_out(w, c));
        pthread_mutex_lock(&w->lock);
        if (!c) continue;
        going = c->order != END;
        account(w, c, done);
        recycle(w, c);
    }
    pthread_mutex_unlock(&w->lock);
    if (well && !w->file && !w->format) well = write_control(w, false);
    if (well)
        end_file(w);
    else
        shut(w);
    pthread_mutex_lock(&w->lock);
    w->ended = true;
    pthread_cond_signal(&w->less);
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

/* Signals are for the loop. */
static bool start_thread(writer *w)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int problem = pthread_create(&w->thread, NULL, write_out, w);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return problem == 0 || give_up(w, strerror(problem));
}

/* ---- the loop's side ----------------------------------------------------------------------- */

static chunk *new_chunk(writer *w)
{
    pthread_mutex_lock(&w->lock);
    chunk *c = w->spare;
    w->spare = NULL;
    pthread_mutex_unlock(&w->lock);
    if (!c) c = (chunk *)calloc(1, sizeof *c);
    if (c) return c;
    complain("out of memory");
    exit(EXIT_FAILURE);
}

writer *writer_open(const char *path, text_format *format, const settings *s)
{
    writer *w = (writer *)calloc(1, sizeof *w);
    const bool standard = !*path || !strcmp(path, "-");
    if (!w) {
        complain("%s: %s", path, strerror(errno));
        return NULL;
    }
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->more, NULL);
    pthread_cond_init(&w->less, NULL);
    w->name = standard ? "standard output" : path;
    w->losses.name = w->name;
    w->fd = standard ? STDOUT_FILENO : -1;
    w->format = standard && !format ? quiet_print : format;
    w->empty = w->format ? 0 : START_SIZE;
    const bool well = standard || (naming_first(&w->naming, path, s) && open_path(w, s->overwrite));
    w->style = style_of(w->fd);
    if (well && w->naming.most) w->naming.most -= w->format ? 0 : STOP_SIZE;
    if (well && start_thread(w)) return w;
    shut(w);
    free(w);
    return NULL;
}

/* Short ones come together in one. Under the lock. */
static bool append_chunk(chunk *to, const chunk *c)
{
    const uint32_t *ends = (const uint32_t *)(const void *)c->ends.data;
    const uint32_t before = to ? (uint32_t)to->bytes.size : 0;
    if (!to || to->order != WRITE || c->order != WRITE || before + c->bytes.size > CHUNK_FULL)
        return false;
    for (size_t i = 0; i < c->ends.size / sizeof *ends; i++) {
        const uint32_t end = ends[i] + before;
        text_bytes(&to->ends, &end, sizeof end);
    }
    text_bytes(&to->bytes, c->bytes.data, c->bytes.size);
    to->messages += c->messages;
    return true;
}

static void hand_over(writer *w, chunk *c)
{
    pthread_mutex_lock(&w->lock);
    w->queued += c->bytes.size;
    if (append_chunk(w->last, c)) {
        recycle(w, c);
    } else {
        c->next = NULL;
        if (w->last)
            w->last->next = c;
        else
            w->first = c;
        w->last = c;
    }
    pthread_cond_signal(&w->more);
    pthread_mutex_unlock(&w->lock);
}

static void hand_over_order(writer *w, order what)
{
    writer_flush(w);
    chunk *c = new_chunk(w);
    c->order = what;
    hand_over(w, c);
}

static size_t queue_size(writer *w)
{
    pthread_mutex_lock(&w->lock);
    const size_t size = w->queued;
    pthread_mutex_unlock(&w->lock);
    return size;
}

bool writer_ready(writer *w)
{
    pthread_mutex_lock(&w->lock);
    const bool ready = w->failed || w->queued < QUEUE_ENOUGH;
    w->awaited = !ready;
    pthread_mutex_unlock(&w->lock);
    return ready;
}

bool writer_failed(writer *w)
{
    pthread_mutex_lock(&w->lock);
    const bool failed = w->failed;
    pthread_mutex_unlock(&w->lock);
    return failed;
}

/* Looked at once for each chunk; else the message is lost. */
static bool has_room(writer *w, bool waits)
{
    if (w->filling) return true;
    if (writer_failed(w)) {
        w->losses.count++;
    } else if (!waits && queue_size(w) >= QUEUE_MOST) {
        losses_add(&w->losses, 1);
    } else {
        w->filling = new_chunk(w);
    }
    return w->filling != NULL;
}

void writer_put(writer *w, const dnstap_received *r, bool waits)
{
    const size_t size = r->frame.size;
    const uint8_t header[4] = {(uint8_t)(size >> 24), (uint8_t)(size >> 16), (uint8_t)(size >> 8),
                               (uint8_t)size};
    if (w->format && !r->message) return;
    if (!has_room(w, waits)) return;
    text *out = &w->filling->bytes;
    if (w->format) {
        w->format(out, r, &w->style);
    } else {
        text_bytes(out, header, sizeof header);
        text_bytes(out, r->frame.data, size);
    }
    w->filling->messages++;
    const uint32_t end = (uint32_t)out->size;
    if (w->naming.most) text_bytes(&w->filling->ends, &end, sizeof end);
    if (out->size >= CHUNK_FULL) writer_flush(w);
}

void writer_flush(writer *w)
{
    chunk *c = w->filling;
    w->filling = NULL;
    if (c) hand_over(w, c);
}

void writer_reopen(writer *w) { hand_over_order(w, REOPEN); }

/* Until all is written; once the program is to end, only while anything is. */
static bool await_end(writer *w)
{
    uint64_t progress = 0;
    int idle_ms = 0;
    pthread_mutex_lock(&w->lock);
    while (!w->ended && idle_ms < PATIENCE_MS) {
        struct timespec until;
        enum { STEP_MS = 50 };
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += STEP_MS * 1000000L;
        until.tv_sec += until.tv_nsec / 1000000000L;
        until.tv_nsec %= 1000000000L;
        pthread_cond_timedwait(&w->less, &w->lock, &until);
        idle_ms = w->progress != progress || !is_stopping() ? 0 : idle_ms + STEP_MS;
        progress = w->progress;
    }
    const bool ended = w->ended;
    pthread_mutex_unlock(&w->lock);
    return ended;
}

/* What is still queued. */
static uint64_t count_queued(writer *w)
{
    uint64_t n = 0;
    pthread_mutex_lock(&w->lock);
    for (const chunk *c = w->first; c; c = c->next) n += c->messages;
    pthread_mutex_unlock(&w->lock);
    return n;
}

static void free_chunk(chunk *c)
{
    if (!c) return;
    free(c->bytes.data);
    free(c->ends.data);
    free(c);
}

/* A thread that is stuck in a write keeps what is its own. */
bool writer_close(writer *w)
{
    hand_over_order(w, END);
    const bool ended = await_end(w);
    if (!ended) complain("%s: nobody reads it; what was left is lost", w->name);
    pthread_mutex_lock(&w->lock);
    w->losses.count += w->unwritten;
    pthread_mutex_unlock(&w->lock);
    if (!ended) w->losses.count += count_queued(w);
    const bool well = losses_total(&w->losses) && ended && !writer_failed(w);
    if (!ended) return false;
    pthread_join(w->thread, NULL);
    free_chunk(w->spare);
    free(w);
    return well;
}
