/* What the tool's files share: text being put together, the formats, inputs and outputs. */
#ifndef DNSTAP_TOOL_H
#define DNSTAP_TOOL_H

#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200809L
#endif

#include "dnstap.h"

#include <time.h>

/* Prints `dnstap: ` and the line on standard error, as ASCII: names of files and peers may hold
 * what a terminal obeys. */
void complain(const char *format, ...)
#if defined(__GNUC__)
    __attribute__((format(printf, 1, 2)))
#endif
    ;

/* Whether a second has passed since the program was asked to end. */
bool overdue(void);

/* ---- text.c: bytes that grow; the program ends where memory does --------------------------- */

typedef struct text {
    char *data;
    size_t size, room;
} text;

void text_bytes(text *t, const void *data, size_t size);
void text_string(text *t, const char *s);
void text_number(text *t, uint64_t n);
void text_digits(text *t, uint64_t n, int digits); /* with leading zeros to so many */
void text_hex(text *t, dnstap_bytes bytes);
void text_json(text *t, dnstap_bytes bytes); /* a JSON string in ASCII, quotes and all */

/* ---- formats: append one decoded message --------------------------------------------------- */

typedef void text_format(text *t, const dnstap_received *received);
text_format exact_print, quiet_print;

typedef enum format_id { FORMAT_NONE, FORMAT_QUIET, FORMAT_EXACT } format_id;
extern text_format *const formats[]; /* by format; FORMAT_NONE: NULL */

/* ---- flags.c: what the command line says ---------------------------------------------------- */

enum { EXIT_USAGE = 2, GO_ON = -1 };

typedef enum answer { ANSWER_NONE, ANSWER_HELP, ANSWER_VERSION } answer;

/* An input or output: its flag's letter, and what was behind it. */
typedef struct given {
    char flag;
    const char *name;
} given;

typedef struct settings {
    given *inputs, *outputs; /* room for as many as there are arguments */
    size_t input_count, output_count;
    dnstap_sink_options how; /* TLS for all; limits and a unix socket's rights for inputs */
    bool tls_given;
    format_id format;
    bool formats_differ, append, overwrite;
    answer answer;
    const char *config; /* to check; NULL: none */
    bool lenient;
} settings;

/* GO_ON, or the status to exit with, and it has said why. */
int parse_flags(settings *s, char **arguments);

/* ---- config.c: false: the text is refused or can't be read, which has been said ------------- */

bool check_config(const char *path, bool lenient);
/* ---- library.c: a regular file as a tap writes it ------------------------------------------- */

typedef struct kept_file kept_file;

/* Takes the lock that taps take, and goes on behind what is there: frames behind frames, text
 * behind text; anything else is refused. overwrite: begins anew. NULL: it has said why. */
kept_file *file_open(const char *path, bool frames, bool overwrite);
/* Writes all, or false, and the file is as it was. */
bool file_write(kept_file *f, const void *data, size_t size);
const char *file_problem(const kept_file *f);
/* Ends it, with STOP behind frames. 0, or errno's value; it is closed all the same. */
int file_close(kept_file *f);

/* ---- output.c ------------------------------------------------------------------------------ */

typedef struct output {
    const char *name;    /* for people */
    kept_file *file;     /* a regular file */
    int fd;              /* standard output, a device, a pipe; both NULL and -1: failed or closed */
    text_format *format; /* NULL: Frame Streams */
    text pending;
} output;

/* path NULL, "" or "-": standard output. format NULL: quiet there, Frame Streams in a file. All
 * return false when the output fails, or had failed, and have said why, once. */
bool output_open(output *out, const char *path, text_format *format, bool overwrite);
bool output_reopen(output *out); /* a file: ends it, and goes on in what is at its path now */
bool output_put(output *out, const dnstap_received *received);
bool output_flush(output *out);
bool output_close(output *out);

/* ---- input.c ------------------------------------------------------------------------------- */

/* A file, a socket and all its connections, or a connection that is made again and again. */
typedef struct input {
    const char *name;  /* as it was given */
    dnstap_sink *sink; /* NULL: not open */
    output *out;
    bool file, connects;
    size_t turn; /* its first descriptor in this round of the loop; 0: it waits */
    bool ended;  /* the file was read to its end */
    bool failed; /* in part at least, which has been said */
    uint64_t refused;
    time_t refused_at; /* when that was said last */
} input;

/* flag says what name is: r: a file, u: a unix socket, l: an endpoint, or host and port, c: the
 * same of a tap. tls: its fields of TLS. Both return false when the input failed: a file when part
 * of it could not be read, a socket when it could not listen, or when of what a producer has sent a
 * part could not be read. */
bool input_open(input *in, char flag, const char *name, const dnstap_sink_options *tls);
bool input_close(input *in);

#endif
