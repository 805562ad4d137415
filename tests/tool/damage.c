/* damage make FILE SEED DAMAGED: overwrites FILE in random places, cuts it at random, and prints
 * the places: `FROM TO` each, the last one what is left of it.
 * damage check FILE DAMAGED REPAIRED <PLACES: every frame of FILE that no place touches is in
 * REPAIRED, in order, and each frame of REPAIRED is one of these, or lies where there was damage.
 * Build: cc -I. -o damage damage.c */
#include "tests/random.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PLACES_MOST = 256 };

typedef struct bytes {
    uint8_t *data;
    size_t size;
} bytes;

typedef struct place {
    size_t from, to;
} place;

static place places[PLACES_MOST];
static size_t place_count;

static bytes load(const char *path)
{
    FILE *file = fopen(path, "rb");
    bytes b = {NULL, 0};
    if (!file || fseek(file, 0, SEEK_END) != 0) exit(2);
    b.size = (size_t)ftell(file);
    b.data = (uint8_t *)malloc(b.size + 1);
    rewind(file);
    if (!b.data || fread(b.data, 1, b.size, file) != b.size) exit(2);
    fclose(file);
    return b;
}

static uint32_t number_at(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* The next data frame from *at on, its header too; control frames are passed. size 0: none. */
static bytes next_frame(bytes b, size_t *at)
{
    bytes frame = {NULL, 0};
    while (*at + 8 <= b.size && number_at(b.data + *at) == 0)
        *at += 8 + number_at(b.data + *at + 4);
    if (*at + 4 > b.size) return frame;
    const size_t size = 4 + number_at(b.data + *at);
    if (*at + size > b.size) return frame;
    frame.data = b.data + *at;
    frame.size = size;
    *at += size;
    return frame;
}

/* ---- make ---------------------------------------------------------------------------------- */

static void spoil(uint8_t *p, size_t size, uint64_t *seed)
{
    const unsigned how = (unsigned)random_of(seed, 4);
    for (size_t i = 0; i < size; i++)
        p[i] = how == 0 ? 0 : how == 1 ? 0xff : how == 2 ? 'A' : (uint8_t)random_of(seed, 256);
}

static int make(const char *path, uint64_t number, const char *damaged)
{
    static const size_t counts[] = {0, 1, 1, 3, 10, 200}, widths[] = {1, 1, 4, 16, 300, 5000};
    uint64_t seed = number * 0x9e3779b97f4a7c15u | 1;
    bytes b = load(path);
    const size_t count = counts[random_of(&seed, 6)];
    for (size_t i = 0; i < count; i++) {
        const size_t from = random_of(&seed, (uint32_t)b.size);
        const size_t left = b.size - from, width = widths[random_of(&seed, 6)];
        spoil(b.data + from, width < left ? width : left, &seed);
        printf("%zu %zu\n", from, from + (width < left ? width : left));
    }
    const size_t head = random_of(&seed, 3) == 0 ? random_of(&seed, 100) : 0;
    const size_t end = random_of(&seed, 2) ? b.size - random_of(&seed, (uint32_t)b.size / 4)
                                           : b.size;
    printf("%zu %zu\n", head, end);
    FILE *out = fopen(damaged, "wb");
    if (!out || fwrite(b.data + head, 1, end - head, out) != end - head) return 2;
    free(b.data);
    return fclose(out) ? 2 : 0;
}

/* ---- check --------------------------------------------------------------------------------- */

/* The last place is what is left: beyond it all is damaged. */
static int is_touched(size_t from, size_t to)
{
    const place *left = &places[place_count - 1];
    if (from < left->from || to > left->to) return 1;
    for (const place *p = places; p < left; p++)
        if (p->from < to && p->to > from) return 1;
    return 0;
}

static int is_same(bytes a, bytes b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

static bytes next_wanted(bytes whole, size_t *at)
{
    bytes frame;
    do frame = next_frame(whole, at);
    while (frame.size > 0 && is_touched((size_t)(frame.data - whole.data),
                                        (size_t)(frame.data - whole.data) + frame.size));
    return frame;
}

/* Where b's next bytes like these are, from *at on; else it is none of its. */
static int find(bytes b, bytes wanted, size_t *at)
{
    for (; *at + wanted.size <= b.size; ++*at)
        if (memcmp(b.data + *at, wanted.data, wanted.size) == 0) return 1;
    return 0;
}

static int check(const char *path, const char *damaged, const char *repaired)
{
    const bytes whole = load(path), spoilt = load(damaged), got = load(repaired);
    size_t whole_at = 0, spoilt_at = 0, got_at = 0, kept = 0;
    while (place_count < PLACES_MOST &&
           scanf("%zu %zu", &places[place_count].from, &places[place_count].to) == 2)
        place_count++;
    if (place_count == 0) return 2;
    bytes wanted = next_wanted(whole, &whole_at);
    for (bytes f = next_frame(got, &got_at); f.size > 0; f = next_frame(got, &got_at), kept++) {
        const int found = find(spoilt, f, &spoilt_at);
        const size_t from = spoilt_at + places[place_count - 1].from;
        if (!found) return printf("frame %zu is invented\n", kept), 1;
        spoilt_at += f.size;
        if (is_same(f, wanted))
            wanted = next_wanted(whole, &whole_at);
        else if (!is_touched(from, from + f.size))
            return printf("frame %zu, of byte %zu, is none\n", kept, from), 1;
    }
    if (wanted.size > 0)
        return printf("the frame of byte %zu is lost\n", (size_t)(wanted.data - whole.data)), 1;
    printf("%zu kept\n", kept);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 5 && !strcmp(argv[1], "make"))
        return make(argv[2], strtoull(argv[3], NULL, 10), argv[4]);
    if (argc == 5 && !strcmp(argv[1], "check")) return check(argv[2], argv[3], argv[4]);
    fprintf(stderr, "usage: damage make FILE SEED DAMAGED, damage check FILE DAMAGED REPAIRED\n");
    return 2;
}
