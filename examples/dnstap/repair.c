/* repair.c: --repair IN OUT, keeps every whole frame of a damaged file. In step, a frame is one
 * whose length and payload agree. Out of step the next one is looked for: where the payload and
 * then where the length of what is damaged would end, so that nothing inside a message is taken
 * for a frame; else byte by byte, and what follows has to look like a frame, too, or the payload to
 * say much. In: any bytes; out: a file of Frame Streams. Always: the memory is one window, and the
 * work is bounded by the size, whatever is in it: see credit. */
#include "tool.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    FRAME_MOST = 1024 * 1024, /* of a payload, as for every input of the tool */
    WINDOW = 4 * 1024 * 1024, /* two frames, and as much again, so that moving it costs little */
    OUT_FULL = 64 * 1024,
    CANDIDATE_STEPS = 64, /* fields that a frame out of step may have: it has 26 at most */
    CREDIT = 1 << 20,     /* fields that one in step may have, at first */
    EARNED = 16,          /* more of them for each byte that is passed */
    SOME_LEAST = 12,      /* bytes of a frame without a message */
    REGIONS_TOLD = 20
};

typedef struct repair {
    const char *name, *out_name;
    dnstap_transport source;
    kept_file *out;
    text pending;
    uint8_t *window;
    size_t at, have; /* of window: what is looked at next; what is in it */
    uint64_t before; /* bytes of the file before the window */
    uint64_t credit; /* fields that may still be looked at; grows with each byte that is passed */
    bool ended, failed; /* the input; either of both */
    uint64_t frames, regions, skipped;
} repair;

/* ---- the window ---------------------------------------------------------------------------- */

/* How many of `want` bytes from `from` behind the place that is looked at there are. */
static size_t available(repair *r, size_t from, size_t want)
{
    short wants;
    if (r->at + from + want > WINDOW) {
        r->have -= r->at;
        memmove(r->window, r->window + r->at, r->have);
        r->before += r->at;
        r->at = 0;
    }
    while (!r->ended && r->have < r->at + from + want) {
        const long n = (r->source.recv)(r->source.self, r->window + r->have, WINDOW - r->have,
                                        &wants);
        if (n > 0) r->have += (size_t)n;
        r->ended = n < 0 && n != DNSTAP_AGAIN;
        if (!r->ended || n == DNSTAP_END) continue;
        complain("%s: %s", r->name, (r->source.error)(r->source.self));
        r->failed = true;
    }
    const size_t there = r->have - r->at;
    return there <= from ? 0 : there - from < want ? there - from : want;
}

static uint8_t *look(const repair *r, size_t from) { return r->window + r->at + from; }

static void pass(repair *r, size_t size)
{
    r->at += size;
    r->credit += size * EARNED;
}

static uint32_t number_at(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* ---- what it may be ------------------------------------------------------------------------ */

/* Size of the control frame there; 0: it is none. Its fields: type, length, bytes. */
static size_t control_size(repair *r, size_t from)
{
    enum { HEAD = 12, FIELD = 8 };
    if (available(r, from, HEAD) < HEAD) return 0;
    const size_t size = number_at(look(r, from + 4)), all = 8 + size;
    const uint32_t type = number_at(look(r, from + 8));
    if (number_at(look(r, from)) != 0 || size < 4 || size > DNSTAP_FRAME_CONTROL_MAX || type < 1 ||
        type > DNSTAP_CONTROL_FINISH || available(r, from, all) < all)
        return 0;
    size_t at = HEAD;
    while (at + FIELD <= all && number_at(look(r, from + at)) == 1) {
        const size_t length = number_at(look(r, from + at + 4));
        if (length > all - at - FIELD) return 0;
        at += FIELD + length;
    }
    return at == all ? all : 0;
}

/* 0: there is none of at most ten bytes. */
static size_t varint(const uint8_t *p, size_t size, uint64_t *value)
{
    *value = 0;
    for (size_t i = 0; i < size && i < 10; i++) {
        *value |= (uint64_t)(p[i] & 0x7f) << (7 * i);
        if (p[i] < 0x80) return i + 1;
    }
    return 0;
}

enum {
    TYPE_FIELD = 15,
    MESSAGE_FIELD = 14,
    POLICY_FIELD = 15
}; /* of the payload; of its message */

/* What is behind the tag of a field. 0: nothing that could be. */
static size_t field_size(const uint8_t *p, size_t size, unsigned wire, size_t *head)
{
    uint64_t value;
    *head = wire == 0 || wire == 2 ? varint(p, size, &value) : 0;
    if (wire == 1) return size < 8 ? 0 : 8;
    if (wire == 5) return size < 4 ? 0 : 4;
    if (wire == 0 || *head == 0) return *head;
    return wire == 2 && value <= size - *head ? *head + (size_t)value : 0;
}

/* Walks protobuf's fields, down to policies. Where it ended: at `size`, or, of a payload whose size
 * is not known, behind its type. 0: they are none, or more than steps. */
static size_t walk(const uint8_t *p, size_t size, int level, bool to_type, uint64_t *steps)
{
    static const uint64_t nested[] = {MESSAGE_FIELD, POLICY_FIELD, 0};
    size_t at = 0, head;
    while (at < size) {
        uint64_t tag;
        const size_t begin = varint(p + at, size - at, &tag);
        if (begin == 0 || tag >> 3 == 0 || tag >> 32 != 0 || *steps == 0) return 0;
        (*steps)--;
        at += begin;
        const size_t n = field_size(p + at, size - at, tag & 7, &head);
        if (n == 0) return 0;
        if ((tag & 7) == 2 && tag >> 3 == nested[level] && n > head &&
            walk(p + at + head, n - head, level + 1, false, steps) == 0)
            return 0;
        at += n;
        if (to_type && tag >> 3 == TYPE_FIELD) return at;
    }
    return to_type ? 0 : at;
}

typedef enum trust { NONE, SOME, MUCH } trust; /* in a frame: MUCH: it has a message */

/* Size of the data frame there; 0: it is none. It may use so many steps. */
static size_t frame_size(repair *r, size_t from, uint64_t *steps, trust *trusted)
{
    dnstap_message m;
    dnstap_policy policy;
    *trusted = NONE;
    if (available(r, from, 4) < 4) return 0;
    const size_t size = number_at(look(r, from));
    if (size == 0 || size > FRAME_MOST || available(r, from + 4, size) < size) return 0;
    const uint8_t *payload = look(r, from + 4);
    if (walk(payload, size, 0, false, steps) == 0) return 0;
    if (dnstap_decode(&m, &policy, payload, size) != DNSTAP_OK) return 0;
    *trusted = (m.present >> 1 & 1) != 0 ? MUCH : SOME;
    return 4 + size;
}

/* Whether what is there may follow a frame: the end, a control frame, a frame's header and tag. */
static bool may_follow(repair *r, size_t from)
{
    const size_t have = available(r, from, 5);
    if (have < 5) return have == 0;
    const uint32_t size = number_at(look(r, from));
    const unsigned tag = *look(r, from + 4), wire = tag & 7;
    if (size == 0) return control_size(r, from) > 0;
    return size <= FRAME_MOST && tag >> 3 != 0 && (wire < 3 || wire == 5);
}

/* Whether a frame, out of step, begins there. Zeros before the end of a payload that was
 * overwritten would look like a tiny one. */
static bool begins(repair *r, size_t from)
{
    uint64_t steps = CANDIDATE_STEPS;
    trust trusted;
    if (control_size(r, from) > 0) return true;
    const size_t size = frame_size(r, from, &steps, &trusted);
    return trusted == MUCH || (size >= SOME_LEAST && may_follow(r, from + size));
}

/* ---- what is kept and skipped -------------------------------------------------------------- */

static bool flush(repair *r)
{
    if (!file_write(r->out, r->pending.data, r->pending.size)) {
        complain("%s: %s", r->out_name, file_problem(r->out));
        r->failed = true;
    }
    r->pending.size = 0;
    return !r->failed;
}

static void keep(repair *r, size_t size)
{
    text_bytes(&r->pending, look(r, 0), size);
    r->frames++;
    pass(r, size);
    if (r->pending.size >= OUT_FULL) flush(r);
}

/* Where whole frames from `from` on end, no later than at `to` but for the last. */
static size_t follow(repair *r, size_t from, size_t to)
{
    uint64_t steps = CANDIDATE_STEPS;
    trust any;
    for (size_t size = 1; from < to && size > 0; steps = CANDIDATE_STEPS) {
        size = control_size(r, from);
        if (size == 0) size = frame_size(r, from, &steps, &any);
        from += size;
    }
    return from;
}

/* Of a damaged frame that seems to end at `end`: whether what says so is what is damaged, as whole
 * frames inside of it lead there, too; else they are a message's bytes. Without credit it is. */
static bool hides_frames(repair *r, size_t end)
{
    enum { PLACE = 8, FRAME = CANDIDATE_STEPS }; /* what a look at them costs */
    for (size_t at = 1; at < end; at++) {
        if (r->credit < FRAME) return true;
        r->credit -= PLACE;
        if (!begins(r, at)) continue;
        r->credit -= FRAME - PLACE;
        at = follow(r, at, end);
        if (at == end) return true;
    }
    return false;
}

static bool ends_at(repair *r, size_t end)
{
    return end > 4 && end <= 4 + FRAME_MOST && begins(r, end) && !hides_frames(r, end);
}

/* Passes what is damaged: a frame whose payload, or whose length, says where it ends; or bytes. */
static void find_step(repair *r)
{
    uint64_t steps = CANDIDATE_STEPS;
    const size_t have = available(r, 0, 4 + FRAME_MOST);
    const size_t by_length = have > 4 ? 4 + (size_t)number_at(look(r, 0)) : 0;
    const size_t payload = have > 4 ? walk(look(r, 4), have - 4, 0, true, &steps) : 0;
    if (ends_at(r, 4 + payload)) {
        pass(r, 4 + payload);
    } else if (by_length <= have && ends_at(r, by_length)) {
        pass(r, by_length);
    } else {
        do pass(r, 1);
        while (available(r, 0, 1) > 0 && !begins(r, 0));
    }
}

static void skip(repair *r)
{
    const uint64_t from = r->before + r->at;
    find_step(r);
    const uint64_t to = r->before + r->at;
    r->skipped += to - from;
    if (++r->regions <= REGIONS_TOLD)
        complain("%s: bytes %" PRIu64 " to %" PRIu64 ": skipped, they are no whole frame", r->name,
                 from, to - 1);
    else if (r->regions == REGIONS_TOLD + 1)
        complain("%s: further places: skipped without a line for each", r->name);
}

static void work(repair *r)
{
    trust any;
    while (!is_stopping() && available(r, 0, 1) > 0 && (r->ended || !r->failed)) {
        const size_t control = control_size(r, 0);
        const size_t frame = control ? 0 : frame_size(r, 0, &r->credit, &any);
        if (control)
            pass(r, control);
        else if (frame)
            keep(r, frame);
        else
            skip(r);
    }
}

/* ---- from beginning to end ----------------------------------------------------------------- */

/* The file that is to be made: nothing is put behind what another one was. */
static kept_file *open_out(const char *in, const char *out, bool overwrite)
{
    struct stat from, to;
    const bool there = stat(out, &to) == 0;
    if (there && stat(in, &from) == 0 && from.st_dev == to.st_dev && from.st_ino == to.st_ino) {
        complain("%s: is the damaged file; give another", out);
        return NULL;
    }
    if (there && (!S_ISREG(to.st_mode) || (to.st_size > 0 && !overwrite))) {
        complain("%s: is there already; give another, or --overwrite", out);
        return NULL;
    }
    return file_open(out, true, overwrite);
}

static bool end(repair *r)
{
    flush(r);
    const int problem = file_close(r->out);
    if (problem) complain("%s: %s", r->out_name, strerror(problem));
    if (is_stopping()) complain("%s: not read to its end: a signal came", r->name);
    complain("%s: frames kept: %" PRIu64 "; bytes skipped: %" PRIu64 ", in places: %" PRIu64,
             r->name, r->frames, r->skipped, r->regions);
    return !r->failed && !problem && !is_stopping() && (r->frames > 0 || r->skipped == 0);
}

bool repair_file(const char *in, const char *out, bool overwrite)
{
    repair r;
    short wants;
    bool well = false;
    memset(&r, 0, sizeof r);
    r.name = in;
    r.out_name = out;
    r.credit = CREDIT;
    r.window = (uint8_t *)malloc(WINDOW);
    gz *source = gz_new(strcmp(in, "-") ? in : "/dev/stdin", &r.source);
    if (!r.window)
        complain("%s: out of memory", in);
    else if ((r.source.start)(r.source.self, &wants) < 0)
        complain("%s: %s", in, (r.source.error)(r.source.self));
    else if ((r.out = open_out(in, out, overwrite)) != NULL) {
        work(&r);
        well = end(&r);
    }
    gz_free(source);
    free(r.pending.data);
    free(r.window);
    return well;
}
