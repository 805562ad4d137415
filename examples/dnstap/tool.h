/* What the tool's files share: text being put together, the formats, inputs and outputs. */
#ifndef DNSTAP_TOOL_H
#define DNSTAP_TOOL_H

#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200809L
#endif

#include "dnstap.h"

#include <string.h>
#include <time.h>

/* Prints `dnstap: ` and the line on standard error, as ASCII: names of files and peers may hold
 * what a terminal obeys. */
void complain(const char *format, ...)
#if defined(__GNUC__)
    __attribute__((format(printf, 1, 2)))
#endif
    ;

/* ---- text.c: bytes that grow; the program ends where memory does --------------------------- */

void out_of_memory(void)
#if defined(__GNUC__)
    __attribute__((noreturn))
#endif
    ;

typedef struct text {
    char *data;
    size_t size, room;
} text;

void text_grow(text *t, size_t more); /* so that there is room for more bytes */

/* Here, for both are called some thirty times for each message. */
static inline void text_bytes(text *t, const void *data, size_t size)
{
    if (t->room - t->size < size + 1) text_grow(t, size + 1);
    if (size > 0) memcpy(t->data + t->size, data, size);
    t->size += size;
}

static inline void text_string(text *t, const char *s) { text_bytes(t, s, strlen(s)); }

void text_number(text *t, uint64_t n);
void text_digits(text *t, uint64_t n, int digits); /* with leading zeros to so many */
void text_hex(text *t, dnstap_bytes bytes);
void text_json(text *t, dnstap_bytes bytes); /* a JSON string in ASCII, quotes and all */
/* As Go quotes: what is printable is as it is, in UTF-8; what is not UTF-8 is \xff in the first,
 * and U+FFFD in the second. Nothing in the first, and nothing for a terminal, is what one obeys. */
void text_quoted(text *t, dnstap_bytes bytes);
void text_json_utf8(text *t, dnstap_bytes bytes, bool terminal);

/* ---- formats: append one decoded message --------------------------------------------------- */

/* How, besides what the format itself says. */
typedef struct text_style {
    bool terminal; /* whoever reads obeys control characters */
    bool color;
    bool date; /* quiet lines begin with the day */
} text_style;

typedef void text_format(text *t, const dnstap_received *received, const text_style *style);
text_format quiet_print, yaml_print, json_print, exact_print;

typedef enum format_id {
    FORMAT_NONE,
    FORMAT_QUIET,
    FORMAT_YAML,
    FORMAT_JSON,
    FORMAT_EXACT
} format_id;
extern text_format *const formats[]; /* by format; FORMAT_NONE: NULL */

/* ---- show.c: what is only for people --------------------------------------------------------- */

const char *show_color(const char *when); /* auto, always, never; NULL, or why not */
void show_date(void);                     /* quiet lines begin with the day */
void show_stamps(void);                   /* diagnostics begin with day and time */
text_style style_of(int fd);              /* of what is written there; -1: a file */
void show_progress(void);                 /* of files, if standard error is a terminal */
/* A diagnostic, in place of the progress; NULL: nothing. Any thread. */
void show_line(const char *line);

/* ---- choose.c: which messages are put out ---------------------------------------------------- */

typedef enum choice { CHOOSE_TYPE, CHOOSE_NAME, CHOOSE_CLIENT, CHOOSE_RCODE } choice;

/* Values with commas between them, besides those it has. NULL, or why not. */
const char *choose_add(choice which, const char *values);
void choose_first(uint64_t count); /* so many and no more */
void choose_copies(void);          /* also what can't be decoded, unless a choice was added */
bool choose_any(void);
/* Whether to put it out; it counts what it takes. */
bool choose_takes(const dnstap_received *received);
bool choose_done(void); /* so many were taken */

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
    const char *config;             /* to check; NULL: none */
    const char *damaged, *repaired; /* files; NULL: none */
    bool lenient;
    uint64_t rotate_size; /* bytes; 0: not by size */
    int rotate_ms;        /* 0: not by time */
} settings;

/* GO_ON, or the status to exit with, and it has said why. */
int parse_flags(settings *s, char **arguments);

/* ---- config.c: false: the text is refused or can't be read, which has been said ------------- */

bool check_config(const char *path, bool lenient);
/* ---- repair.c ------------------------------------------------------------------------------- */

/* Puts every whole frame of a damaged file into another, and says what came of it. */
bool repair_file(const char *in, const char *out, bool overwrite);

/* ---- library.c: a regular file as a tap writes it ------------------------------------------- */

enum { START_SIZE = 42, STOP_SIZE = 12 }; /* around the frames */

typedef struct kept_file kept_file;

/* Takes the lock that taps take, and goes on behind what is there: frames behind frames, text
 * behind text; anything else is refused. overwrite: begins anew. NULL: it has said why. */
kept_file *file_open(const char *path, bool frames, bool overwrite);
/* Writes all, or false, and the file is as it was. */
bool file_write(kept_file *f, const void *data, size_t size);
uint64_t file_size(const kept_file *f); /* so far, without STOP */
const char *file_problem(const kept_file *f);
/* Ends it, with STOP behind frames. 0, or errno's value; it is closed all the same. */
int file_close(kept_file *f);

/* ---- naming.c: what a file is called, and when it is another one's turn --------------------- */

typedef struct naming {
    const char *pattern;
    bool rotates;  /* else the pattern is the name */
    uint64_t most; /* bytes of a file; 0: any number */
    long seconds;  /* 0: for ever */
    time_t next;   /* 0: never */
    unsigned long number;
    char base[3072], path[3104]; /* of the file now, without its number and with it */
} naming;

/* The name to begin with; it may be a file's that is to be continued. False: it has said why. */
bool naming_first(naming *n, const char *pattern, const settings *s);
/* One that no file has; or the same again, if it is still its time. False: it is too long. */
bool naming_next(naming *n);
bool naming_again(naming *n);

/* ---- loop.c -------------------------------------------------------------------------------- */

bool catch_signals(void);
int receive_all(const settings *s); /* the status to exit with */
void wake_loop(void);               /* any thread, signal handlers too */
bool is_stopping(void);             /* the program was asked to end */
uint64_t now_ms(void);

/* ---- output.c ------------------------------------------------------------------------------ */

/* What one output has lost. It is told of at most every 10 s, and at the end. */
typedef struct losses {
    const char *name;
    uint64_t count, said, said_at;
} losses;

void losses_add(losses *l, uint64_t count);
bool losses_total(const losses *l); /* false: there are any */

/* writer.c: standard output or a file. relay.c: a collector. They fail and lose each on its own;
 * `waits`: the message's input waits until they are ready, so that it is kept however full it is;
 * close returns false when anything was lost. */
typedef struct writer writer;
typedef struct relay relay;

/* path "" or "-": standard output. format NULL: quiet there, Frame Streams in a file. NULL: it has
 * said why. */
writer *writer_open(const char *path, text_format *format, const settings *s);
bool writer_ready(writer *w); /* false: the loop is woken when it is */
bool writer_failed(writer *w);
void writer_put(writer *w, const dnstap_received *r, bool waits);
void writer_flush(writer *w);
void writer_reopen(writer *w); /* a file: ends it, and goes on in what is at its path by then */
bool writer_close(writer *w);

relay *relay_open(char flag, const char *name, const settings *s);
bool relay_ready(relay *r);
void relay_put(relay *r, const dnstap_received *received);
bool relay_close(relay *r);

typedef struct output {
    writer *writer; /* or: */
    relay *relay;
} output;

typedef struct outputs {
    output *list;
    size_t count;
} outputs;

bool outputs_open(outputs *all, const settings *s);
void outputs_put(outputs *all, const dnstap_received *r, bool waits);
bool outputs_flush(outputs *all); /* false: all have failed */
/* Whether a file may be read on; else in *timeout_ms when to ask again, if nothing wakes. */
bool outputs_ready(outputs *all, int *timeout_ms);
void outputs_reopen(outputs *all);
bool outputs_close(outputs *all);

/* ---- gz.c: a compressed file as a transport -------------------------------------------------- */

typedef struct gz gz;

bool gz_is(const char *path);                      /* its name ends so */
gz *gz_new(const char *path, dnstap_transport *t); /* freed when the sink that has t is closed */
const char *gz_rest(gz *g); /* what is wrong behind the stream that it held; NULL: nothing */
void gz_free(gz *g);

/* ---- faults.c: what is odd in what an input brings ------------------------------------------- */

enum { FAULT_KINDS = 4 };

typedef struct faults {
    uint64_t count[FAULT_KINDS];
} faults;

/* Counts it. Returns what to say of a message or skipped frame; NULL: nothing, or not again. */
const char *faults_note(faults *f, const dnstap_received *r);
void faults_total(const faults *f, const char *name); /* says it, if there were any */

/* ---- input.c ------------------------------------------------------------------------------- */

/* A file, a socket and all its connections, or a connection that is made again and again. */
typedef struct input {
    const char *name;  /* as it was given */
    dnstap_sink *sink; /* NULL: not open */
    outputs *outputs;
    gz *gz; /* NULL: not compressed */
    dnstap_transport transport;
    bool file, connects;
    bool follows; /* a file that may grow: it holds nobody up */
    size_t turn;  /* its first descriptor in this round of the loop; 0: it waits */
    bool ended;   /* the file was read to its end */
    bool failed;  /* in part at least, which has been said */
    faults faults;
    uint64_t refused;
    time_t refused_at; /* when that was said last */
} input;

/* flag says what name is: r: a file, u: a unix socket, l: an endpoint, or host and port, c: the
 * same of a tap. tls: its fields of TLS. Both return false when the input failed: a file when part
 * of it could not be read, a socket when it could not listen, or when of what a producer has sent a
 * part could not be read. */
bool input_open(input *in, char flag, const char *name, const dnstap_sink_options *tls);
bool input_close(input *in);
void show_reading(const input *in); /* show.c: the progress of a file */
/* What the library calls it, with its NUL. flag: also U and T, of relays. */
void endpoint_text(text *t, char flag, const char *name);

#endif
