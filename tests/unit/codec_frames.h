/* The data frames of a recorded file. */
#ifndef CODEC_FRAMES_H
#define CODEC_FRAMES_H

#include "unit.h"

#ifndef TEST_DATA
#define TEST_DATA "tests/data"
#endif

typedef struct frames {
    uint8_t *file;
    size_t size, at;
} frames;

static void frames_open(frames *f, const char *name)
{
    char path[512];
    FILE *in;
    long size;
    snprintf(path, sizeof path, "%s/%s", TEST_DATA, name);
    in = fopen(path, "rb");
    if (!in) fail_msg("can't open %s; run from the project's top, or set TEST_DATA", path);
    fseek(in, 0, SEEK_END);
    size = ftell(in);
    rewind(in);
    f->file = (uint8_t *)malloc((size_t)size + 1);
    f->size = fread(f->file, 1, (size_t)size, in);
    f->at = 0;
    fclose(in);
}

static void frames_close(frames *f) { free(f->file); }

static size_t frames_length(const frames *f, size_t at)
{
    const uint8_t *p = f->file + at;
    return (size_t)p[0] << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3];
}

/* The next data frame's payload; false at the end. */
static bool frames_next(frames *f, dnstap_bytes *payload)
{
    while (f->size - f->at >= 4) {
        size_t length = frames_length(f, f->at);
        if (length == 0) {
            f->at += 8 + frames_length(f, f->at + 4);
            continue;
        }
        *payload = dnstap_bytes_of(f->file + f->at + 4, length);
        f->at += 4 + length;
        return true;
    }
    return false;
}

#endif
