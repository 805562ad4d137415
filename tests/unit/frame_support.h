/* What the tests of the frame machines share: streams written as text, and a reader that is fed
 * piece by piece. Every piece is a heap block of its exact size, so that AddressSanitizer sees
 * a machine that looks beyond it.
 *
 * A stream as text, its parts divided by blanks; d stands for our content type:
 *   R[d] A[d] S[d] P F     READY, ACCEPT, START, STOP, FINISH; types in brackets, none without
 *   U99                    control frame of unknown type 99; U99[d] with a field
 *   D5                     data frame of 5 bytes
 *   L513                   control frame of so many bytes, which begin with 4 (READY)
 *   X2                     control frame of type 2 with a field of unknown number 7
 *   H00ff                  just these bytes */
#ifndef FRAME_SUPPORT_H
#define FRAME_SUPPORT_H

#include "unit.h"

enum { STREAM_ROOM = 1 << 17 };

typedef struct stream {
    size_t size;
    uint8_t data[STREAM_ROOM];
} stream;

static uint32_t big_endian(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void put(stream *s, const void *data, size_t size)
{
    assert_true(size <= sizeof s->data - s->size);
    if (size) memcpy(s->data + s->size, data, size);
    s->size += size;
}

static void put_number(stream *s, uint32_t v)
{
    uint8_t bytes[4] = {(uint8_t)(v >> 24), (uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v};

    put(s, bytes, sizeof bytes);
}

static void put_data(stream *s, uint32_t size)
{
    uint32_t i;

    put_number(s, size);
    for (i = 0; i < size; i++) {
        uint8_t byte = (uint8_t)(i * 7 + size);
        put(s, &byte, 1);
    }
}

/* A content type, which ends at a comma or bracket. */
static void put_field(stream *s, const char *type)
{
    static const char ours[] = "protobuf:dnstap.Dnstap";
    size_t size = strcspn(type, ",]");

    if (size == 1 && *type == 'd') {
        type = ours;
        size = sizeof ours - 1;
    }
    put_number(s, 1);
    put_number(s, (uint32_t)size);
    put(s, type, size);
}

/* A control frame with the types in "[x,y]", if text begins so. */
static void put_control(stream *s, uint32_t type, const char *text)
{
    size_t length_at, size;

    put_number(s, 0);
    length_at = s->size;
    put_number(s, 0);
    put_number(s, type);
    while (*text == '[' || *text == ',') {
        put_field(s, ++text);
        text += strcspn(text, ",]");
    }
    size = s->size - length_at - 4;
    s->data[length_at + 2] = (uint8_t)(size >> 8);
    s->data[length_at + 3] = (uint8_t)size;
}

static void put_control_of_length(stream *s, uint32_t length)
{
    static const uint8_t start[4] = {0, 0, 0, DNSTAP_CONTROL_READY};
    uint32_t i;

    put_number(s, 0);
    put_number(s, length);
    for (i = 0; i < length; i++) put(s, i < 4 ? start + i : start, 1);
}

static void put_control_with_unknown_field(stream *s, uint32_t type)
{
    put_number(s, 0);
    put_number(s, 13);
    put_number(s, type);
    put_number(s, 7);
    put_number(s, 1);
    put(s, "?", 1);
}

static void put_hex(stream *s, const char *text)
{
    unsigned byte;

    for (; sscanf(text, "%2x", &byte) == 1; text += 2) {
        uint8_t b = (uint8_t)byte;
        put(s, &b, 1);
    }
}

static void put_part(stream *s, const char *text)
{
    uint32_t number = (uint32_t)strtoul(text + 1, NULL, 10);

    switch (*text) {
    case 'A':
        put_control(s, DNSTAP_CONTROL_ACCEPT, text + 1);
        break;
    case 'S':
        put_control(s, DNSTAP_CONTROL_START, text + 1);
        break;
    case 'P':
        put_control(s, DNSTAP_CONTROL_STOP, text + 1);
        break;
    case 'R':
        put_control(s, DNSTAP_CONTROL_READY, text + 1);
        break;
    case 'F':
        put_control(s, DNSTAP_CONTROL_FINISH, text + 1);
        break;
    case 'U':
        put_control(s, number, text + strcspn(text, "[ "));
        break;
    case 'D':
        put_data(s, number);
        break;
    case 'L':
        put_control_of_length(s, number);
        break;
    case 'X':
        put_control_with_unknown_field(s, number);
        break;
    case 'H':
        put_hex(s, text + 1);
        break;
    default:
        fail_msg("no such part of a stream: %s", text);
    }
}

static void stream_from_text(stream *s, const char *text)
{
    s->size = 0;
    for (; *text; text += strcspn(text, " "), text += strspn(text, " ")) put_part(s, text);
}

/* A block of size bytes and none more. */
static uint8_t *exact_copy(const void *data, size_t size)
{
    uint8_t *copy = (uint8_t *)malloc(size ? size : 1);

    assert_non_null(copy);
    if (size) memcpy(copy, data, size);
    return copy;
}

/* ---- a reader, and what it said ---- */

typedef struct listener {
    dnstap_frame_reader reader;
    uint8_t *buffer;
    unsigned data, skipped, control;
    uint64_t hash; /* of all that it reported, in order */
    char sent[8];  /* the control frames it sent, as letters */
    int verdict;   /* DNSTAP_OK while it goes on; DNSTAP_END once it does not read more */
} listener;

static void listener_open(listener *l, size_t buffer_size, bool bidirectional)
{
    memset(l, 0, sizeof *l);
    l->buffer = (uint8_t *)malloc(buffer_size);
    l->hash = 14695981039346656037u;
    dnstap_frame_reader_init(&l->reader, l->buffer, buffer_size, bidirectional);
}

static void listener_close(listener *l) { free(l->buffer); }

static void listener_hash(listener *l, const void *data, size_t size)
{
    const uint8_t *p = (const uint8_t *)data;

    while (size--) l->hash = (l->hash ^ *p++) * 1099511628211u;
}

/* Takes down a frame, and reads every byte of its payload. */
static void listener_note(listener *l, const dnstap_frame *frame)
{
    uint32_t words[3] = {(uint32_t)frame->kind, frame->control, (uint32_t)frame->payload.size};

    if (frame->kind == DNSTAP_FRAME_NONE) return;
    listener_hash(l, words, sizeof words);
    if (frame->payload.data) listener_hash(l, frame->payload.data, frame->payload.size);
    if (frame->kind == DNSTAP_FRAME_DATA)
        l->data++;
    else if (frame->kind == DNSTAP_FRAME_SKIPPED)
        l->skipped++;
    else
        l->control++;
}

static char letter_of_control(const uint8_t *frame, size_t size)
{
    const char letters[] = "?ASPRF";

    assert_int_equal(big_endian(frame), 0);
    assert_int_equal(big_endian(frame + 4), size - 8);
    assert_in_range(big_endian(frame + 8), 1, 5);
    return letters[big_endian(frame + 8)];
}

/* Sends what the reader owes, `step` bytes at a time. */
static void listener_send(listener *l, size_t step)
{
    dnstap_bytes due;
    uint8_t frame[64];
    size_t have = 0, n;

    while ((due = dnstap_frame_reader_next(&l->reader)).size) {
        n = due.size < step ? due.size : step;
        assert_true(have + n <= sizeof frame);
        memcpy(frame + have, due.data, n);
        have += n;
        dnstap_frame_reader_sent(&l->reader, n);
        if (n < due.size) continue;
        assert_true(strlen(l->sent) + 1 < sizeof l->sent);
        l->sent[strlen(l->sent)] = letter_of_control(frame, have);
        have = 0;
    }
}

static void listener_feed(listener *l, const uint8_t *data, size_t size)
{
    uint8_t *piece = exact_copy(data, size);
    dnstap_frame frame;
    size_t at = 0;
    long used;

    while (l->verdict == DNSTAP_OK && at < size) {
        used = dnstap_frame_reader_feed(&l->reader, piece + at, size - at, &frame);
        if (used < 0) {
            l->verdict = (int)used;
            break;
        }
        assert_true(used > 0 && (size_t)used <= size - at);
        at += (size_t)used;
        listener_note(l, &frame);
        if (frame.kind == DNSTAP_FRAME_CONTROL) listener_send(l, 1 + rnd(40));
    }
    free(piece);
}

/* The whole stream in pieces of 1 … longest bytes (all of the same length: 1), to its end. */
static void listener_hear(listener *l, const uint8_t *data, size_t size, uint32_t longest)
{
    size_t at = 0, n;

    while (at < size && l->verdict == DNSTAP_OK) {
        n = 1 + rnd(longest);
        if (n > size - at) n = size - at;
        listener_feed(l, data + at, n);
        at += n;
    }
    if (l->verdict == DNSTAP_OK || l->verdict == DNSTAP_END)
        l->verdict = dnstap_frame_reader_eof(&l->reader);
}

#endif
