/* text.c: bytes that grow, and the ways to write a value into them. */
#include "tool.h"

#include "printable.h"

#include <stdlib.h>
#include <string.h>

void out_of_memory(void)
{
    complain("out of memory");
    exit(1);
}

void text_grow(text *t, size_t more)
{
    t->room = (t->size + more) * 2;
    t->data = (char *)realloc(t->data, t->room);
    if (!t->data) out_of_memory();
}

void text_digits(text *t, uint64_t n, int digits)
{
    char s[20]; /* 2^64 has as many digits */
    size_t at = sizeof s;
    do {
        s[--at] = (char)('0' + n % 10);
        n /= 10;
        digits--;
    } while (n > 0 || digits > 0);
    text_bytes(t, s + at, sizeof s - at);
}

void text_number(text *t, uint64_t n) { text_digits(t, n, 1); }

void text_hex(text *t, dnstap_bytes bytes)
{
    static char pairs[512]; /* a byte's digits */
    const uint8_t *from = (const uint8_t *)bytes.data, *end = from + bytes.size;
    const size_t size = 2 * bytes.size;
    for (size_t i = 0; !pairs[511] && i < 512; i++)
        pairs[i] = "0123456789abcdef"[i % 2 ? i / 2 % 16 : i / 32];
    if (t->room - t->size < size + 1) text_grow(t, size + 1);
    for (char *to = t->data + t->size; from < end; from++, to += 2)
        memcpy(to, pairs + 2 * *from, 2);
    t->size += size;
}

/* Bytes of the UTF-8 sequence at s, 0 when it is none: RFC 3629, section 4. */
static size_t utf8_length(const uint8_t *s, size_t size)
{
    size_t n = s[0] < 0x80 ? 1 : s[0] < 0xc2 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
    if (s[0] > 0xf4 || n > size) return 0;
    for (size_t i = 1; i < n; i++)
        if ((s[i] & 0xc0) != 0x80) return 0;
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f)) return 0;
    if ((s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f)) return 0;
    return n;
}

static unsigned utf8_code(const uint8_t *s, size_t length)
{
    unsigned code = length == 1 ? s[0] : s[0] & (0xffu >> (length + 1));
    for (size_t i = 1; i < length; i++) code = code << 6 | (s[i] & 0x3fu);
    return code;
}

/* Whether Go's strconv prints it as it is. */
static bool is_printable(unsigned code)
{
    enum { RUNS = sizeof printable_runs / sizeof *printable_runs };
    static unsigned ends[RUNS]; /* of the runs */
    size_t low = 0, high = RUNS;
    if (code < 0x80) return code >= 0x20 && code < 0x7f;
    for (size_t i = 0; !ends[RUNS - 1] && i < RUNS; i++)
        ends[i] = (i ? ends[i - 1] : 0x80) + printable_runs[i];
    while (low < high) { /* the first that ends behind it */
        const size_t middle = (low + high) / 2;
        if (ends[middle] <= code)
            low = middle + 1;
        else
            high = middle;
    }
    return low % 2 == 1;
}

/* The number in hex, behind the letter that says how many digits it has. */
static void text_code(text *t, const char *letter, unsigned code)
{
    const uint8_t bytes[4] = {(uint8_t)(code >> 24), (uint8_t)(code >> 16), (uint8_t)(code >> 8),
                              (uint8_t)code};
    const size_t size = *letter == 'x' ? 1 : *letter == 'u' ? 2 : 4;
    text_string(t, "\\");
    text_string(t, letter);
    text_hex(t, dnstap_bytes_of(bytes + 4 - size, size));
}

static void text_unicode(text *t, unsigned code)
{
    if (code > 0xffff) { /* RFC 8259, section 7: as UTF-16 has it */
        text_code(t, "u", 0xd7c0 + (code >> 10));
        code = 0xdc00 + (code & 0x3ff);
    }
    text_code(t, "u", code);
}

/* A character that has an escape of its own: its place in from gives the letter in to. */
static bool text_letter(text *t, uint8_t c, const char *from, const char *to)
{
    const char *at = c ? strchr(from, c) : NULL;
    if (!at) return false;
    text_string(t, "\\");
    text_bytes(t, to + (at - from), 1);
    return true;
}

/* Printable ASCII only: whatever else there is, some of it a terminal obeys. A byte that is not
 * UTF-8 becomes the lone surrogate U+DC80 … U+DCFF, so that nothing is lost. */
void text_json(text *t, dnstap_bytes bytes)
{
    const uint8_t *s = (const uint8_t *)bytes.data, *end = s + bytes.size;
    text_string(t, "\"");
    while (s < end) {
        size_t n = utf8_length(s, (size_t)(end - s));
        if (n == 0)
            text_unicode(t, 0xdc00u + *s);
        else if (*s < 0x20 || *s > 0x7e)
            text_unicode(t, utf8_code(s, n));
        else if (!text_letter(t, *s, "\"\\", "\"\\"))
            text_bytes(t, s, n);
        s += n > 0 ? n : 1;
    }
    text_string(t, "\"");
}

static void quote_character(text *t, const uint8_t *s, size_t n)
{
    const unsigned code = n > 0 ? utf8_code(s, n) : *s;
    if (text_letter(t, *s, "\a\b\f\n\r\t\v\"\\", "abfnrtv\"\\")) return;
    if (n > 0 && is_printable(code))
        text_bytes(t, s, n);
    else
        text_code(t, n == 0 || code < 0x80 ? "x" : code < 0x10000 ? "u" : "U", code);
}

void text_quoted(text *t, dnstap_bytes bytes)
{
    const uint8_t *s = (const uint8_t *)bytes.data, *end = s + bytes.size;
    text_string(t, "\"");
    while (s < end) {
        const size_t n = utf8_length(s, (size_t)(end - s));
        quote_character(t, s, n);
        s += n > 0 ? n : 1;
    }
    text_string(t, "\"");
}

/* Go's encoding/json also escapes what HTML and JavaScript give a meaning. */
static void json_character(text *t, const uint8_t *s, size_t n, bool terminal)
{
    const unsigned code = n > 0 ? utf8_code(s, n) : 0xfffd;
    if (text_letter(t, *s, "\"\\\n\r\t", "\"\\nrt")) return;
    if (n == 0 || code < 0x20 || code == '<' || code == '>' || code == '&' || code == 0x2028 ||
        code == 0x2029 || (terminal && !is_printable(code)))
        text_unicode(t, code);
    else
        text_bytes(t, s, n);
}

void text_json_utf8(text *t, dnstap_bytes bytes, bool terminal)
{
    const uint8_t *s = (const uint8_t *)bytes.data, *end = s + bytes.size;
    text_string(t, "\"");
    while (s < end) {
        const size_t n = utf8_length(s, (size_t)(end - s));
        json_character(t, s, n, terminal);
        s += n > 0 ? n : 1;
    }
    text_string(t, "\"");
}
