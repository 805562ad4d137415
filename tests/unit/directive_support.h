/* What the tests of the directive share: a parse whose text and memory are heap blocks of their
 * exact size, so that AddressSanitizer sees who looks beyond; variables of the tests' own; and the
 * warnings. Include it instead of dnstap.h. */
#ifndef DIRECTIVE_SUPPORT_H
#define DIRECTIVE_SUPPORT_H

#define DNSTAP_IMPLEMENTATION
#include "dnstap.h"

#include "unit.h"

enum { TAPS = 8, STRICT = 0, LENIENT = 1 };

/* A text as it was read; zeroed before the first. */
typedef struct reading {
    int count; /* or the error */
    dnstap_options taps[TAPS];
    dnstap_error error;
    char *memory;
    int warnings, asked; /* variables asked for */
    char warning[256];   /* the last */
} reading;

static const char *const variables[][2] = {{"LABVAR", "lab value"},
                                           {"LABSOCK", "/run/dnstap/s.sock"},
                                           {"LABSP", "full 4 4"},
                                           {"A", "a"},
                                           {"B", "{$A}{%A%}"},
                                           {"SELF", "{$SELF}"},
                                           {"TWICE", "{$TWICE}{$TWICE}"},
                                           {"BRACE", "{"},
                                           {"CLOSE", "}"},
                                           {"LINES", "one\ntwo"},
                                           {"OPEN", "{$"},
                                           {"DIRECTIVE", "dnstap"}};

HELPER const char *test_variable(void *user, const char *name)
{
    size_t i;

    ((reading *)user)->asked++;
    for (i = 0; i < sizeof variables / sizeof *variables; i++)
        if (strcmp(variables[i][0], name) == 0) return variables[i][1];
    return NULL;
}

HELPER void test_warning(void *user, const dnstap_error *warning)
{
    reading *r = (reading *)user;

    assert_int_equal(warning->code, DNSTAP_BAD_OPTION);
    assert_true(warning->line > 0 && warning->column > 0);
    r->warnings++;
    memcpy(r->warning, warning->text, sizeof r->warning);
}

/* Reads text with so many bytes of memory; what r held goes. */
HELPER int read_within(reading *r, const char *text, int lenient, size_t size)
{
    size_t length = strlen(text) + 1;
    char *copy = (char *)malloc(length);
    dnstap_parse_options how;

    free(r->memory);
    memset(r, 0, sizeof *r);
    memset(r->taps, 0xaa, sizeof r->taps);
    memset(&how, 0, sizeof how);
    how.lenient = lenient == LENIENT;
    how.user = r;
    how.variable = test_variable;
    how.warning = test_warning;
    r->memory = (char *)malloc(size);
    memcpy(copy, text, length);
    r->count = dnstap_parse(copy, r->memory, size, r->taps, TAPS, &how, &r->error);
    free(copy); /* nothing may point into it */
    return r->count;
}

HELPER int read_text(reading *r, const char *text, int lenient)
{
    return read_within(r, text, lenient, 5 * strlen(text) + 64 + 4096);
}

HELPER bool same_string(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

HELPER bool same_zones(const char *const *a, const char *const *b)
{
    while (a && b && *a && *b && strcmp(*a, *b) == 0) a++, b++;
    return (a ? *a : NULL) == (b ? *b : NULL);
}

/* How many bits are kept is the same. */
HELPER bool same_bits(uint8_t a, uint8_t b, uint8_t most)
{
    return (a ? a : most) == (b ? b : most);
}

/* All that a directive can say is the same. */
HELPER bool same_options(const dnstap_options *a, const dnstap_options *b)
{
    return same_string(a->endpoint, b->endpoint) && same_string(a->identity, b->identity) &&
           same_string(a->version, b->version) && same_string(a->extra, b->extra) &&
           same_string(a->ca_file, b->ca_file) && same_string(a->cert_file, b->cert_file) &&
           same_string(a->key_file, b->key_file) && same_string(a->server_name, b->server_name) &&
           a->full == b->full && a->listen == b->listen && a->skipverify == b->skipverify &&
           a->unidirectional == b->unidirectional && a->writebuffer == b->writebuffer &&
           a->drop_when_disconnected == b->drop_when_disconnected && a->queue == b->queue &&
           a->flush_ms == b->flush_ms && a->timeout_ms == b->timeout_ms &&
           a->socket_mode == b->socket_mode && a->max_sinks == b->max_sinks &&
           a->types == b->types && a->rcodes == b->rcodes && same_zones(a->zones, b->zones) &&
           a->sample == b->sample && same_bits(a->anonymize_v4, b->anonymize_v4, 32) &&
           same_bits(a->anonymize_v6, b->anonymize_v6, 128);
}

#endif
