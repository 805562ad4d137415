/* config.c: --check-config, reads configuration text as a DNS server with dnstap.h would, and
 * prints each tap as one JSON object whose keys are the names of the options. Opens nothing. */
#include "tool.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TEXT_MOST = 1 << 20, MEMORY_MOST = 1 << 26, TAPS_MOST = 256 };

static const char *config_name;

/* The file's text, to free, without NUL bytes; NULL: why not has been said. */
static char *read_config(const char *path)
{
    FILE *file = fopen(path, "rb");
    char *data = (char *)malloc(TEXT_MOST + 1);
    const size_t size = file && data ? fread(data, 1, TEXT_MOST + 1, file) : 0;
    bool well = file && data && !ferror(file);
    if (!well) complain("%s: %s", path, strerror(errno));
    if (file) fclose(file);
    if (well && size > TEXT_MOST) {
        complain("%s: larger than %d bytes", path, (int)TEXT_MOST);
        well = false;
    } else if (well) {
        data[size] = '\0';
        well = strlen(data) == size;
        if (!well) complain("%s: byte %zu is NUL, which no option can hold", path, strlen(data));
    }
    if (well) return data;
    free(data);
    return NULL;
}

static void add_key(text *t, const char *name)
{
    text_string(t, t->data[t->size - 1] == '{' ? "\"" : ", \"");
    text_string(t, name);
    text_string(t, "\": ");
}

static void add_string(text *t, const char *name, const char *value)
{
    add_key(t, name);
    if (value)
        text_json(t, dnstap_bytes_of(value, strlen(value)));
    else
        text_string(t, "null");
}

static void add_flag(text *t, const char *name, bool value)
{
    add_key(t, name);
    text_string(t, value ? "true" : "false");
}

/* 0 is the default, whatever it is. */
static void add_number(text *t, const char *name, long value)
{
    char digits[24];
    add_key(t, name);
    snprintf(digits, sizeof digits, "%ld", value);
    text_string(t, value ? digits : "null");
}

/* A list as it grows: what comes before its next value. */
static void add_comma(text *t) { text_string(t, t->data[t->size - 1] == '[' ? "" : ", "); }

static void add_value(text *t, const char *value)
{
    add_comma(t);
    text_json(t, dnstap_bytes_of(value, strlen(value)));
}

static void add_digits(text *t, unsigned n)
{
    char digits[16];
    add_comma(t);
    snprintf(digits, sizeof digits, "%u", n);
    text_string(t, digits);
}

/* Types by their names, where they have one, and rcodes by their numbers. */
static void add_sets(text *t, const dnstap_options *o)
{
    if (o->types) {
        add_key(t, "types");
        text_string(t, "[");
        for (unsigned i = 0; i < 32; i++) {
            const char *name = dnstap_message_type_name(i);
            if (!(o->types >> i & 1)) continue;
            if (name)
                add_value(t, name);
            else
                add_digits(t, i);
        }
        text_string(t, "]");
    }
    if (o->rcodes) {
        add_key(t, "rcodes");
        text_string(t, "[");
        for (unsigned i = 0; i < 64; i++)
            if (o->rcodes >> i & 1) add_digits(t, i);
        text_string(t, "]");
    }
}

/* Bits that are kept. */
static void add_bits(text *t, const char *name, uint8_t bits)
{
    char digits[8];
    if (!bits) return;
    add_key(t, name);
    snprintf(digits, sizeof digits, "%d", bits == DNSTAP_KEEP_NONE ? 0 : bits);
    text_string(t, digits);
}

/* Only those there are. */
static void add_filters(text *t, const dnstap_options *o)
{
    add_sets(t, o);
    if (o->zones) {
        add_key(t, "zones");
        text_string(t, "[");
        for (size_t i = 0; o->zones[i]; i++) add_value(t, o->zones[i]);
        text_string(t, "]");
    }
    if (o->sample) add_number(t, "sample", (long)o->sample);
    add_bits(t, "anonymize_v4", o->anonymize_v4);
    add_bits(t, "anonymize_v6", o->anonymize_v6);
}

static void print_options(text *t, const dnstap_options *o)
{
    text_string(t, "{");
    add_flag(t, "listen", o->listen);
    add_string(t, "endpoint", o->endpoint);
    add_flag(t, "full", o->full);
    add_number(t, "writebuffer", (long)o->writebuffer);
    add_number(t, "queue", (long)o->queue);
    if (o->identity) add_string(t, "identity", o->identity);
    if (o->version) add_string(t, "version", o->version);
    add_string(t, "extra", o->extra);
    add_flag(t, "skipverify", o->skipverify);
    add_string(t, "cert_file", o->cert_file);
    add_string(t, "key_file", o->key_file);
    add_string(t, "ca_file", o->ca_file);
    add_string(t, "server_name", o->server_name);
    add_flag(t, "unidirectional", o->unidirectional);
    add_number(t, "flush_ms", o->flush_ms);
    add_number(t, "timeout_ms", o->timeout_ms);
    add_flag(t, "drop_when_disconnected", o->drop_when_disconnected);
    add_number(t, "socket_mode", (long)o->socket_mode);
    add_number(t, "max_sinks", (long)o->max_sinks);
    add_filters(t, o);
    text_string(t, "}\n");
}

/* What dnstap_open would object to, here and now. */
static void try_options(const dnstap_options *o)
{
    dnstap_error error;
    if (dnstap_check(o, &error) < 0) complain("%s: warning: %s", config_name, error.text);
}

/* Kept until the text has been read: it may be read again with more memory. */
static void note_warning(void *user, const dnstap_error *warning)
{
    text *warnings = (text *)user;
    text_string(warnings, warning->text);
    text_bytes(warnings, "", 1);
}

/* The taps of data; memory, to free, holds their strings. It grows with the values of variables. */
static int parse(const char *data, char **memory, dnstap_options *taps, bool lenient,
                 dnstap_error *error)
{
    text warnings = {NULL, 0, 0};
    dnstap_parse_options how;
    int count = DNSTAP_NO_MEMORY;
    memset(&how, 0, sizeof how);
    how.lenient = lenient;
    how.warning = note_warning;
    how.user = &warnings;
    for (size_t size = 5 * strlen(data) + 64; size <= MEMORY_MOST; size *= 4) {
        warnings.size = 0;
        free(*memory);
        *memory = (char *)malloc(size);
        count = dnstap_parse(data, *memory, *memory ? size : 0, taps, TAPS_MOST, &how, error);
        if (count != DNSTAP_NO_MEMORY) break;
    }
    for (size_t at = 0; at < warnings.size; at += strlen(warnings.data + at) + 1)
        complain("%s: warning: %s", config_name, warnings.data + at);
    free(warnings.data);
    return count;
}

bool check_config(const char *path, bool lenient)
{
    dnstap_options *taps = (dnstap_options *)calloc(TAPS_MOST, sizeof *taps);
    char *data = read_config(path), *memory = NULL;
    text out = {NULL, 0, 0};
    dnstap_error error;
    int count = DNSTAP_NO_MEMORY;
    config_name = path;
    if (data && taps) {
        count = parse(data, &memory, taps, lenient, &error);
        if (count < 0) complain("%s: %s", path, error.text);
        if (count == 0) complain("%s: warning: no tap in it", path);
    }
    for (int i = 0; i < count; i++) {
        try_options(&taps[i]);
        print_options(&out, &taps[i]);
    }
    if (out.size) fwrite(out.data, 1, out.size, stdout);
    free(out.data);
    free(memory);
    free(data);
    free(taps);
    return count >= 0;
}
