/* show.c: what is only for people: colors, the day, the time of a diagnostic, progress. */
#include "tool.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static enum { COLOR_AUTO, COLOR_ALWAYS, COLOR_NEVER } color;
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

const char *stamp_now(char *buffer)
{
    const time_t now = time(NULL);
    struct tm local;
    *buffer = '\0';
    if (stamps && localtime_r(&now, &local)) strftime(buffer, 32, "%Y-%m-%d %H:%M:%S ", &local);
    return buffer;
}
