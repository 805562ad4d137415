/* naming.c: what the files of an output that rotates are called, and when the next one begins. The
 * name is a pattern of strftime, in local time; a name that is taken gets a number behind it. */
#include "tool.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static bool is_there(const char *path, uint64_t *size)
{
    struct stat status;
    const bool there = stat(path, &status) == 0;
    *size = there && S_ISREG(status.st_mode) ? (uint64_t)status.st_size : 0;
    return there;
}

/* Seconds that local time is ahead of the clock. */
static long ahead(time_t now)
{
    struct tm here, there;
    localtime_r(&now, &here);
    gmtime_r(&now, &there);
    const int days = here.tm_year != there.tm_year ? here.tm_year - there.tm_year
                                                   : here.tm_yday - there.tm_yday;
    return days * 86400L + (here.tm_hour - there.tm_hour) * 3600L +
           (here.tm_min - there.tm_min) * 60L;
}

/* The next multiple of the interval in local time: each hour on the hour, each day at midnight. */
static time_t next_time(time_t now, long seconds)
{
    return seconds ? now + seconds - (now + ahead(now)) % seconds : 0;
}

/* Sets the name for now, and when it changes. False: it is too long. */
static bool expand(naming *n, bool *same)
{
    char name[sizeof n->base];
    struct tm local;
    const time_t now = time(NULL);
    size_t size = strlen(n->pattern);
    localtime_r(&now, &local);
    n->next = next_time(now, n->seconds);
    if (n->rotates)
        size = strftime(name, sizeof name, n->pattern, &local);
    else if (size < sizeof name)
        memcpy(name, n->pattern, size + 1);
    if (size == 0 || size >= sizeof name) return false;
    *same = !strcmp(name, n->base);
    memcpy(n->base, name, size + 1);
    return true;
}

static void make_path(naming *n)
{
    if (n->number == 0)
        memcpy(n->path, n->base, strlen(n->base) + 1);
    else
        snprintf(n->path, sizeof n->path, "%s.%lu", n->base, n->number);
}

bool naming_next(naming *n)
{
    bool same;
    uint64_t size;
    if (!expand(n, &same)) return false;
    if (!same) n->number = 0;
    for (make_path(n); is_there(n->path, &size); make_path(n)) n->number++;
    return true;
}

bool naming_again(naming *n)
{
    bool same;
    if (!expand(n, &same)) return false;
    if (!same) n->number = 0;
    make_path(n);
    return true;
}

bool naming_first(naming *n, const char *pattern, const settings *s)
{
    uint64_t size;
    memset(n, 0, sizeof *n);
    n->pattern = pattern;
    n->most = s->rotate_size;
    n->seconds = (s->rotate_ms + 999) / 1000;
    n->rotates = n->most || n->seconds;
    if (!naming_again(n)) {
        complain("%s: the name that it makes is empty or too long", pattern);
        return false;
    }
    const bool full = n->most && is_there(n->path, &size) && size >= n->most;
    return !full || s->overwrite || naming_next(n);
}
