/* show.c: what is only for people: colors, the day, the time of a diagnostic, progress. */
#include "tool.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { COLOR_AUTO, COLOR_ALWAYS, COLOR_NEVER };
static int color;
static bool date, stamps;

/* ---- style ---------------------------------------------------------------------------------- */

const char *show_color(const char *when)
{
    static const char *const words[] = {"auto", "always", "never"};
    for (int i = 0; i < 3; i++) {
        if (strcmp(words[i], when) != 0) continue;
        color = i;
        return NULL;
    }
    return "give auto, always or never";
}

void show_date(void) { date = true; }

/* https://no-color.org */
static bool wants_color(void)
{
    const char *no = getenv("NO_COLOR"), *term = getenv("TERM");
    return !(no && *no) && term && *term && strcmp(term, "dumb") != 0;
}

text_style style_of(int fd)
{
    text_style s;
    s.terminal = fd >= 0 && isatty(fd);
    s.color = color == COLOR_ALWAYS || (color == COLOR_AUTO && s.terminal && wants_color());
    s.date = date;
    return s;
}

/* ---- diagnostics ---------------------------------------------------------------------------- */

void show_stamps(void) { stamps = true; }

/* What stands before a diagnostic, in buffer, which has room for 32 bytes. */
static const char *stamp_now(char *buffer)
{
    const time_t now = time(NULL);
    struct tm local;
    *buffer = '\0';
    if (stamps && localtime_r(&now, &local)) strftime(buffer, 32, "%Y-%m-%d %H:%M:%S ", &local);
    return buffer;
}

/* ---- progress ------------------------------------------------------------------------------- */

enum { FIRST_MS = 700, EVERY_MS = 200, NAME_MOST = 40 };

static bool progressing, progress_shown;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* over what stands on the last line */

void show_progress(void) { progressing = isatty(STDERR_FILENO); }

void show_line(const char *line)
{
    char stamp[32];
    pthread_mutex_lock(&lock);
    if (progress_shown) fputs("\r\033[K", stderr);
    progress_shown = false;
    if (line) fprintf(stderr, "%sdnstap: %s\n", stamp_now(stamp), line);
    pthread_mutex_unlock(&lock);
}

/* Of a regular file that is read as it is. */
static uint64_t size_of(const input *in)
{
    struct stat status;
    const bool named = strcmp(in->name, "standard input") != 0;
    const bool known = (named ? stat(in->name, &status) : fstat(STDIN_FILENO, &status)) == 0;
    return known && !gz_is(in->name) && S_ISREG(status.st_mode) ? (uint64_t)status.st_size : 0;
}

/* The end of a long name, without what a terminal obeys. */
static void put_name(const char *name)
{
    const size_t size = strlen(name);
    for (name += size > NAME_MOST ? size - NAME_MOST : 0; *name; name++)
        fputc(*name >= ' ' && *name <= '~' ? *name : '?', stderr);
}

void show_reading(const input *in)
{
    static uint64_t next;
    const uint64_t now = progressing ? now_ms() : 0;
    dnstap_sink_status status;
    if (!progressing || now < next) return;
    if (next) {
        const uint64_t size = size_of(in);
        dnstap_sink_get_status(in->sink, &status);
        const uint64_t read = status.bytes + 4 * status.frames; /* its header */
        pthread_mutex_lock(&lock);
        fputs("\r\033[Kdnstap: ", stderr);
        put_name(in->name);
        if (size) fprintf(stderr, ": %" PRIu64 "%%", read < size ? read * 100 / size : 100);
        fprintf(stderr, ": %" PRIu64 " messages", status.frames);
        progress_shown = true;
        pthread_mutex_unlock(&lock);
    }
    next = now + (next ? EVERY_MS : FIRST_MS);
}
