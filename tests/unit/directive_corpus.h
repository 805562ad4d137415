/* The recorded configurations of tests/data/coredns/grammar.jsonl, a row at a time. Include it
 * after directive_support.h. */
#ifndef DIRECTIVE_CORPUS_H
#define DIRECTIVE_CORPUS_H

enum { CORPUS_ROWS = 111, CORPUS_LINE = 1 << 15 };

typedef struct corpus_row {
    char line[CORPUS_LINE]; /* as it is in the file */
    char name[64];
    char config[CORPUS_LINE];
    size_t size; /* of the configuration, which may have a NUL in it */
    bool accepted, listening;
} corpus_row;

/* A JSON string, whose opening quote is at s, into out; where it ends, behind its quote. */
static const char *json_string(const char *s, char *out, size_t *size)
{
    unsigned code;

    *size = 0;
    for (s++; *s != '"'; s++) {
        if (*s != '\\') {
            out[(*size)++] = *s;
            continue;
        }
        s++;
        if (*s != 'u') {
            out[(*size)++] = *s == 'n' ? '\n' : *s == 'r' ? '\r' : *s == 't' ? '\t' : *s;
            continue;
        }
        assert_int_equal(sscanf(s + 1, "%4x", &code), 1);
        assert_true(code < 0x80); /* nothing else is in there */
        out[(*size)++] = (char)code;
        s += 4;
    }
    out[*size] = '\0';
    return s + 1;
}

/* What follows "key": in the row, or in what is left of it; NULL: it is not there. */
static const char *json_value(const char *s, const char *key)
{
    char quoted[32];

    snprintf(quoted, sizeof quoted, "\"%s\": ", key);
    s = strstr(s, quoted);
    return s ? s + strlen(quoted) : NULL;
}

static bool json_true(const char *s, const char *key)
{
    s = json_value(s, key);
    return s && *s == 't';
}

/* The next row; false: that was all. */
static bool corpus_next(FILE *file, corpus_row *row)
{
    size_t size;

    if (!fgets(row->line, sizeof row->line, file)) return false;
    assert_non_null(strchr(row->line, '\n'));
    json_string(json_value(row->line, "name"), row->name, &size);
    json_string(json_value(row->line, "config"), row->config, &row->size);
    row->accepted = json_true(row->line, "accepted");
    row->listening = json_true(row->line, "listening");
    return true;
}

static FILE *corpus_open(void)
{
    FILE *file = fopen("tests/data/coredns/grammar.jsonl", "r");

    if (!file) fail_msg("run it where tests/ is");
    return file;
}

#endif
