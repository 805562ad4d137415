/* The DNS that forwarder.c needs: a query's facts, answers of our own, and a hosts file. Nothing in
 * here concerns dnstap. */
#ifndef FORWARDER_DNS_H_INCLUDED
#define FORWARDER_DNS_H_INCLUDED

#include <arpa/inet.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    MESSAGE_MAX = 65535,
    UDP_SIZE = 1232, /* offered in our own EDNS answers */
    UDP_MAX = 4096,  /* the largest answer over UDP, whatever the client takes */
    TTL = 60         /* of the hosts file's records, in seconds */
};

/* ---- messages ------------------------------------------------------------------------------ */

enum { HEADER = 12, QUESTION_TAIL = 4, RECORD_HEADER = 10, OPT_SIZE = 11 };
enum { QR = 0x80, OPCODE = 0x78, AA = 0x04, TC = 0x02, RD = 0x01, RA = 0x80, CD = 0x10 };
enum { NOERROR = 0, FORMERR = 1, SERVFAIL = 2, NOTIMP = 4, REFUSED = 5, BADVERS = 16 };
enum { TYPE_A = 1, TYPE_AAAA = 28, TYPE_OPT = 41, TYPE_ANY = 255, CLASS_IN = 1 };

/* What a query's bytes say; nothing else reads them. */
typedef struct facts {
    size_t name_size;    /* of the question's name, at HEADER */
    size_t question_end; /* 0: there is not exactly one sound question */
    uint16_t type, class;
    bool edns;
    uint8_t version, edns_flags;
    size_t udp_size; /* the largest answer the client takes over UDP */
} facts;

static unsigned get16(const uint8_t *p) { return (unsigned)p[0] << 8 | p[1]; }

static void put16(uint8_t *p, size_t value)
{
    p[0] = (uint8_t)(value >> 8);
    p[1] = (uint8_t)value;
}

static uint8_t lower(uint8_t c) { return c >= 'A' && c <= 'Z' ? (uint8_t)(c + 32) : c; }

/* Where the labels from `at` on end: at the root, a pointer, a bad length, or at or past size. */
static size_t skip_labels(const uint8_t *wire, size_t size, size_t at)
{
    while (at < size && wire[at] > 0 && wire[at] < 64) at += 1u + wire[at];
    return at;
}

/* The offset after a name that may end in a pointer; 0: it is not sound. */
static size_t skip_name(const uint8_t *wire, size_t size, size_t at)
{
    at = skip_labels(wire, size, at);
    if (at >= size) return 0;
    if (wire[at] == 0) return at + 1;
    return wire[at] >= 0xC0 && at + 2 <= size ? at + 2 : 0;
}

/* The offset of the OPT record's type; 0: none. */
static size_t find_opt(const uint8_t *wire, size_t size, size_t at)
{
    unsigned records = get16(wire + 6) + get16(wire + 8) + get16(wire + 10);
    while (records-- > 0) {
        at = skip_name(wire, size, at);
        if (at == 0 || at + RECORD_HEADER > size) return 0;
        if (get16(wire + at) == TYPE_OPT) return at;
        at += RECORD_HEADER + get16(wire + at + 8);
    }
    return 0;
}

static facts read_query(const uint8_t *wire, size_t size)
{
    facts f = {.udp_size = 512};
    size_t root = skip_labels(wire, size, HEADER), opt;
    if (get16(wire + 4) != 1 || root + 1 + QUESTION_TAIL > size) return f;
    if (wire[root] != 0 || root + 1 - HEADER > 255) return f;
    f.name_size = root + 1 - HEADER;
    f.question_end = root + 1 + QUESTION_TAIL;
    f.type = (uint16_t)get16(wire + root + 1);
    f.class = (uint16_t)get16(wire + root + 3);
    opt = find_opt(wire, size, f.question_end);
    if (opt == 0) return f;
    f.edns = true;
    f.version = wire[opt + 5];
    f.edns_flags = wire[opt + 6] & 0x80; /* DO */
    if (get16(wire + opt + 2) > f.udp_size) f.udp_size = get16(wire + opt + 2);
    if (f.udp_size > UDP_MAX) f.udp_size = UDP_MAX;
    return f;
}

/* Whether an answer's question is that of the query; names by letters, not by case. */
static bool same_question(const uint8_t *query, const facts *f, const uint8_t *wire, size_t size)
{
    size_t tail = HEADER + f->name_size;
    if (size < f->question_end || get16(wire + 4) != 1) return false;
    for (size_t i = HEADER; i < tail; i++) {
        if (lower(query[i]) != lower(wire[i])) return false;
    }
    return memcmp(query + tail, wire + tail, QUESTION_TAIL) == 0;
}

/* Begins an answer to query with its question; the records are to follow. */
static size_t begin_answer(uint8_t *out, const uint8_t *query, const facts *f, unsigned rcode,
                           bool recursive)
{
    size_t size = f->question_end ? f->question_end : HEADER;
    memcpy(out, query, size);
    memset(out + 4, 0, HEADER - 4);
    put16(out + 4, f->question_end ? 1 : 0);
    out[2] = (uint8_t)(QR | (query[2] & (OPCODE | RD)));
    out[3] = (uint8_t)((recursive ? RA : 0) | (query[3] & CD) | (rcode & 15));
    return size;
}

/* Ends an answer with an OPT record if the query had one. */
static size_t end_answer(uint8_t *out, size_t size, const facts *f, unsigned rcode)
{
    if (!f->edns) return size;
    memset(out + size, 0, OPT_SIZE);
    put16(out + size + 1, TYPE_OPT);
    put16(out + size + 3, UDP_SIZE);
    out[size + 5] = (uint8_t)(rcode >> 4);
    out[size + 7] = f->edns_flags;
    put16(out + 10, 1);
    return size + OPT_SIZE;
}

/* Cuts an answer down to its question, so that the client asks again over TCP. */
static size_t truncate_answer(uint8_t *out, const facts *f)
{
    out[2] |= TC;
    memset(out + 6, 0, 6);
    return end_answer(out, f->question_end, f, NOERROR);
}

/* ---- hosts: names we answer ourselves, sorted ---------------------------------------------- */

typedef struct host {
    uint8_t name[256]; /* wire format, lower case */
    size_t name_size;
    uint8_t data[16];
    uint16_t type, data_size; /* A and 4, or AAAA and 16 */
} host;

static host *hosts;
static size_t host_count;

static int compare_hosts(const void *a, const void *b)
{
    const host *x = (const host *)a, *y = (const host *)b;
    if (x->name_size != y->name_size) return x->name_size < y->name_size ? -1 : 1;
    return memcmp(x->name, y->name, x->name_size);
}

static bool host_address(host *h, const char *text)
{
    bool v4 = inet_pton(AF_INET, text, h->data) == 1;
    h->type = v4 ? TYPE_A : TYPE_AAAA;
    h->data_size = v4 ? 4 : 16;
    return v4 || inet_pton(AF_INET6, text, h->data) == 1;
}

static bool host_name(host *h, const char *text)
{
    h->name_size = 0;
    while (*text) {
        size_t label = strcspn(text, ".");
        if (label == 0 || label > 63 || h->name_size + 1 + label + 1 > 255) return false;
        h->name[h->name_size++] = (uint8_t)label;
        while (label-- > 0) h->name[h->name_size++] = lower((uint8_t)*text++);
        if (*text == '.') text++;
    }
    h->name[h->name_size++] = 0;
    return true;
}

static void add_host(const host *h)
{
    if ((host_count & (host_count + 1)) == 0) { /* full at 2^n - 1: twice as much */
        hosts = (host *)realloc(hosts, (host_count + 1) * 2 * sizeof *hosts);
        if (!hosts) {
            fprintf(stderr, "forwarder: out of memory for hosts\n");
            exit(1);
        }
    }
    hosts[host_count++] = *h;
}

static void read_hosts_line(const char *path, unsigned number, char *line)
{
    char *state, *word;
    host h;
    line[strcspn(line, "#\r\n")] = 0;
    word = strtok_r(line, " \t", &state);
    bool good = !word || host_address(&h, word);
    while (good && word && (word = strtok_r(NULL, " \t", &state)) != NULL) {
        good = host_name(&h, word);
        if (good) add_host(&h);
    }
    if (good) return;
    fprintf(stderr, "forwarder: %s:%u: %s is no address or name; rest of the line left\n", path,
            number, word);
}

/* False, with errno: the file can't be opened. */
static bool read_hosts(const char *path)
{
    char *line = NULL;
    size_t room = 0;
    FILE *f = fopen(path, "r");
    if (!f) return false;
    for (unsigned number = 1; getline(&line, &room, f) >= 0; number++) {
        read_hosts_line(path, number, line);
    }
    free(line);
    fclose(f);
    if (host_count) qsort(hosts, host_count, sizeof *hosts, compare_hosts);
    return true;
}

/* The first of the name's hosts; NULL: not ours. */
static const host *find_host(const uint8_t *name, size_t size)
{
    host key = {.name_size = size};
    const host *h;
    for (size_t i = 0; i < size; i++) key.name[i] = lower(name[i]);
    if (host_count == 0) return NULL;
    h = (const host *)bsearch(&key, hosts, host_count, sizeof *hosts, compare_hosts);
    while (h && h > hosts && compare_hosts(h - 1, h) == 0) h--;
    return h;
}

/* Adds the name's records of the type, possibly none. */
static size_t add_records(uint8_t *out, size_t size, const host *h, unsigned type)
{
    const uint8_t fixed[] = {0xC0, HEADER, 0, 0, 0, CLASS_IN, 0, 0, 0, TTL, 0, 0};
    for (const host *first = h; h < hosts + host_count && compare_hosts(h, first) == 0; h++) {
        if (type != h->type && type != TYPE_ANY) continue;
        if (size + sizeof fixed + h->data_size + OPT_SIZE > MESSAGE_MAX) break;
        memcpy(out + size, fixed, sizeof fixed);
        put16(out + size + 2, h->type);
        put16(out + size + 10, h->data_size);
        memcpy(out + size + sizeof fixed, h->data, h->data_size);
        size += sizeof fixed + h->data_size;
        put16(out + 6, get16(out + 6) + 1);
    }
    return size;
}

#endif
