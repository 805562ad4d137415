/* flags.c: what the command line says. A flag is a row in the table: its name, whether it takes a
 * value, and what that does to the settings. */
#include "tool.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- what a row does ----------------------------------------------------------------------- */

typedef struct flag flag;

/* NULL, or why the value is refused. */
typedef const char *flag_apply(settings *s, const flag *f, const char *value);

struct flag {
    const char *name;
    int takes; /* values: 0, 1 or 2 */
    flag_apply *apply;
    size_t at; /* in settings, or what else apply makes of it */
};

static const char *set_string(settings *s, const flag *f, const char *value)
{
    *(const char **)(void *)((char *)s + f->at) = value;
    return NULL;
}

static const char *set_true(settings *s, const flag *f, const char *value)
{
    (void)value;
    *(bool *)((char *)s + f->at) = true;
    return NULL;
}

/* The damaged file comes first. */
static const char *set_repair(settings *s, const flag *f, const char *value)
{
    (void)f;
    if (s->damaged)
        s->repaired = value;
    else
        s->damaged = value;
    return NULL;
}

/* Of no use without a tls:// to use it for. */
static const char *set_tls(settings *s, const flag *f, const char *value)
{
    s->tls_given = true;
    return set_string(s, f, value);
}

static const char *set_insecure(settings *s, const flag *f, const char *value)
{
    s->tls_given = true;
    return set_true(s, f, value);
}

static const char *set_format(settings *s, const flag *f, const char *value)
{
    (void)value;
    if (s->format && s->format != (format_id)f->at) s->formats_differ = true;
    s->format = (format_id)f->at;
    return NULL;
}

static const char *set_answer(settings *s, const flag *f, const char *value)
{
    (void)value;
    s->answer = (answer)f->at;
    return NULL;
}

static const char *set_mode(settings *s, const flag *f, const char *value)
{
    char *end;
    const unsigned long mode = strtoul(value, &end, 8);
    (void)f;
    if (*end || mode < 1 || mode > 0777) return "give it in octal, such as 0660";
    s->how.socket_mode = (uint32_t)mode;
    return NULL;
}

/* Digits only: strtoul takes signs and spaces, too. */
static bool read_number(const char **from, uint64_t most, uint64_t *n)
{
    const char *c = *from;
    for (*n = 0; *c >= '0' && *c <= '9' && *n <= most / 10; c++)
        *n = *n * 10 + (uint64_t)(*c - '0');
    const bool well = c > *from && !(*c >= '0' && *c <= '9') && *n <= most;
    *from = c;
    return well;
}

enum { CONNECTIONS_MOST = 65535 };

static const char *set_connections(settings *s, const flag *f, const char *value)
{
    uint64_t n;
    (void)f;
    if (!read_number(&value, CONNECTIONS_MOST, &n) || *value || n == 0)
        return "give a number, 1 to 65535";
    s->how.max_connections = (uint32_t)n;
    return NULL;
}

/* A part of a duration as Go has it, such as 1.5h, in milliseconds; days are ours. -1: it is none,
 * or too long. */
static double read_duration_part(const char **from)
{
    static const struct unit {
        const char *name;
        double ms;
    } units[] = {{"ms", 1},  {"ns", 1e-6}, {"us", 1e-3}, {"\302\265s", 1e-3}, {"\316\274s", 1e-3},
                 {"s", 1e3}, {"m", 6e4},   {"h", 36e5},  {"d", 864e5}};
    const char *c = *from;
    double n = 0, place = 1;
    bool digits = false;
    for (; *c >= '0' && *c <= '9'; c++, digits = true) n = n * 10 + (*c - '0');
    if (*c == '.')
        for (c++; *c >= '0' && *c <= '9'; c++, digits = true) n += (*c - '0') * (place /= 10);
    for (size_t i = 0; digits && i < sizeof units / sizeof *units; i++) {
        const size_t size = strlen(units[i].name);
        if (strncmp(c, units[i].name, size) != 0) continue;
        *from = c + size;
        return n * units[i].ms;
    }
    return -1;
}

/* Into an int of milliseconds, rounded up. */
static const char *set_duration(settings *s, const flag *f, const char *value)
{
    double ms = 0, part = 0;
    const char *c = *value == '+' ? value + 1 : value;
    if (!strcmp(c, "0"))
        c++;
    else if (!*c)
        part = -1;
    while (*c && part >= 0 && ms < INT_MAX) ms += part = read_duration_part(&c);
    if (part < 0) return "give a duration, such as 5s, 300ms or 1h30m";
    if (ms >= INT_MAX) return "is too long; 24 days are the most";
    *(int *)(void *)((char *)s + f->at) = (int)(ms + 0.999999);
    return NULL;
}

/* As Go has it for -t: 0 waits without end. */
static const char *set_timeout(settings *s, const flag *f, const char *value)
{
    const char *why = set_duration(s, f, value);
    if (!why && s->how.timeout_ms == 0) s->how.timeout_ms = INT_MAX;
    return why;
}

/* Below a second there is no name for it. */
static const char *set_interval(settings *s, const flag *f, const char *value)
{
    const char *why = set_duration(s, f, value);
    return !why && s->rotate_ms < 1000 ? "give a second at least" : why;
}

enum { SIZE_LEAST = 1024 };

static const char *set_size(settings *s, const flag *f, const char *value)
{
    static const char units[] = "kMGT";
    uint64_t n;
    bool well = read_number(&value, UINT64_MAX >> 41, &n);
    const char *unit = *value ? strchr(units, *value == 'K' ? 'k' : *value) : NULL;
    if (unit) n <<= 10 * (unit - units + 1);
    if (!well || (*value && (!unit || value[1])) || n < SIZE_LEAST)
        return "give a number of bytes, such as 100M, 1k at least";
    *(uint64_t *)(void *)((char *)s + f->at) = n;
    return NULL;
}

static const char *add_input(settings *s, const flag *f, const char *value)
{
    s->inputs[s->input_count].flag = *f->name;
    s->inputs[s->input_count++].name = value;
    return NULL;
}

static const char *add_output(settings *s, const flag *f, const char *value)
{
    s->outputs[s->output_count].flag = *f->name;
    s->outputs[s->output_count++].name = value;
    return NULL;
}

static const char *set_choice(settings *s, const flag *f, const char *value)
{
    (void)s;
    return choose_add((choice)f->at, value);
}

static const char *set_count(settings *s, const flag *f, const char *value)
{
    uint64_t n;
    (void)s, (void)f;
    if (!read_number(&value, UINT64_MAX, &n) || *value || n == 0) return "give a number, 1 or more";
    choose_first(n);
    return NULL;
}

static const char *set_color(settings *s, const flag *f, const char *value)
{
    (void)s, (void)f;
    return show_color(value);
}

static const char *set_date(settings *s, const flag *f, const char *value)
{
    (void)s, (void)f, (void)value;
    show_date();
    return NULL;
}

#define AT(field) offsetof(settings, field)

static const flag flags[] = {
    /* inputs */
    {"r", 1, add_input, 0},
    {"u", 1, add_input, 0},
    {"l", 1, add_input, 0},
    {"c", 1, add_input, 0},
    {"follow", 0, set_true, AT(how.follow)},
    {"t", 1, set_timeout, AT(how.timeout_ms)},
    {"idle", 1, set_duration, AT(how.idle_ms)},
    {"max-connections", 1, set_connections, 0},
    {"socket-mode", 1, set_mode, 0},
    {"socket-group", 1, set_string, AT(how.socket_group)},
    /* TLS, of inputs and outputs */
    {"tls-ca", 1, set_tls, AT(how.ca_file)},
    {"tls-cert", 1, set_tls, AT(how.cert_file)},
    {"tls-key", 1, set_tls, AT(how.key_file)},
    {"tls-name", 1, set_tls, AT(how.server_name)},
    {"tls-insecure", 0, set_insecure, AT(how.skipverify)},
    /* outputs */
    {"w", 1, add_output, 0},
    {"U", 1, add_output, 0},
    {"T", 1, add_output, 0},
    {"a", 0, set_true, AT(append)},
    {"overwrite", 0, set_true, AT(overwrite)},
    {"rotate-size", 1, set_size, AT(rotate_size)},
    {"rotate-time", 1, set_interval, AT(rotate_ms)},
    /* formats */
    {"q", 0, set_format, FORMAT_QUIET},
    {"y", 0, set_format, FORMAT_YAML},
    {"j", 0, set_format, FORMAT_JSON},
    {"exact", 0, set_format, FORMAT_EXACT},
    {"date", 0, set_date, 0},
    {"color", 1, set_color, 0},
    /* which messages */
    {"type", 1, set_choice, CHOOSE_TYPE},
    {"name", 1, set_choice, CHOOSE_NAME},
    {"client", 1, set_choice, CHOOSE_CLIENT},
    {"rcode", 1, set_choice, CHOOSE_RCODE},
    {"n", 1, set_count, 0},
    /* instead of all that */
    {"repair", 2, set_repair, 0},
    {"check-config", 1, set_string, AT(config)},
    {"lenient", 0, set_true, AT(lenient)},
    {"h", 0, set_answer, ANSWER_HELP},
    {"help", 0, set_answer, ANSWER_HELP},
    {"version", 0, set_answer, ANSWER_VERSION},
};

/* ---- the command line ---------------------------------------------------------------------- */

static int wrong(const char *what, const char *why)
{
    complain("%s: %s; see dnstap --help", what, why);
    return EXIT_USAGE;
}

/* As Go has them: -x v, -x=v, and both with two dashes. value is set to what is behind the =. */
static const flag *find_flag(const char *argument, const char **value)
{
    const char *name = argument + (argument[1] == '-' ? 2 : 1);
    const size_t size = strcspn(name, "=");
    *value = name[size] ? name + size + 1 : NULL;
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
        if (strlen(flags[i].name) == size && !strncmp(flags[i].name, name, size)) return &flags[i];
    return NULL;
}

/* What Go takes for a boolean; -1: none. */
static int boolean(const char *s)
{
    static const char *const words[] = {"0", "f", "F", "false", "FALSE", "False",
                                        "1", "t", "T", "true",  "TRUE",  "True"};
    for (int i = 0; i < 12; i++)
        if (!strcmp(s, words[i])) return i >= 6;
    return -1;
}

static bool any_tls(const given *list, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!strncmp(list[i].name, "tls://", 6)) return true;
    return false;
}

static bool is_standard(const given *g)
{
    return g->flag == 'w' && (!*g->name || !strcmp(g->name, "-"));
}

static int check_outputs(const settings *s)
{
    size_t standard = 0, files = 0;
    for (size_t i = 0; i < s->output_count; i++) {
        if (is_standard(&s->outputs[i]))
            standard++;
        else
            files += s->outputs[i].flag == 'w';
    }
    if (standard > 1) return wrong("-w", "standard output is given twice");
    if (s->append && (standard || !s->output_count))
        return wrong("-a", "cannot append to standard output");
    if (s->append && s->overwrite)
        return wrong("-a", "adds to the file, and --overwrite begins it anew");
    if ((s->rotate_size || s->rotate_ms) && !files) return wrong("rotating", "needs -w FILE");
    return GO_ON;
}

/* What is done instead of receiving goes with little else. */
static int check_other(const settings *s)
{
    const bool runs = s->input_count || s->output_count || s->format || s->tls_given || s->append ||
                      choose_any();
    if (s->lenient && !s->config) return wrong("--lenient", "goes with --check-config");
    if (s->config && (runs || s->damaged || s->overwrite))
        return wrong("--check-config", "goes with --lenient only");
    if (s->damaged && runs) return wrong("--repair", "goes with --overwrite only");
    return GO_ON;
}

/* What no flag alone can say. */
static int check_settings(const settings *s)
{
    const int status = check_other(s);
    if (status != GO_ON || s->config || s->damaged) return status;
    if (!s->input_count) return wrong("no inputs specified", "give -r, -u, -l or -c");
    if (s->formats_differ) return wrong("formats", "specify at most one of -q, -y, -j and --exact");
    if (s->tls_given && !any_tls(s->inputs, s->input_count) &&
        !any_tls(s->outputs, s->output_count))
        return wrong("TLS", "no input or output is tls://");
    return check_outputs(s);
}

/* Its value is behind the =, or the next arguments are; *last is the last that is taken. */
static int apply_flag(settings *s, const flag *f, const char *value, char ***last)
{
    const char *argument = **last;
    if (!f->takes && value && boolean(value) < 0) return wrong(argument, "neither true nor false");
    if (!f->takes && value && !boolean(value)) return GO_ON;
    for (int i = 0; i == 0 || i < f->takes; i++, value = NULL) {
        if (f->takes && !value && !(value = *++*last))
            return wrong(argument, f->takes == 1 ? "needs a value" : "needs two values");
        const char *why = f->apply(s, f, value);
        if (why) return wrong(argument, why);
    }
    return GO_ON;
}

/* Whether text goes to standard output. */
static bool prints(const settings *s)
{
    for (size_t i = 0; i < s->output_count; i++)
        if (is_standard(&s->outputs[i])) return true;
    return s->output_count == 0;
}

/* What of it others have to know. Progress would lie across what is printed. */
static int pass_on(const settings *s)
{
    for (size_t i = 0; i < s->input_count; i++)
        if (s->inputs[i].flag != 'r' || s->how.follow) show_stamps();
    for (size_t i = 0; i < s->output_count; i++)
        if (!is_standard(&s->outputs[i]) && (s->outputs[i].flag != 'w' || !s->format))
            choose_copies();
    if (!prints(s) || !isatty(STDOUT_FILENO)) show_progress();
    return GO_ON;
}

int parse_flags(settings *s, char **arguments)
{
    for (char **a = arguments; *a; a++) {
        const char *argument = *a, *value = NULL;
        const flag *f = *argument == '-' ? find_flag(argument, &value) : NULL;
        if (!f) return wrong(argument, *argument == '-' ? "no such flag" : "not a flag");
        const int status = apply_flag(s, f, value, &a);
        if (status != GO_ON || s->answer) return status;
    }
    const int status = check_settings(s);
    return status == GO_ON ? pass_on(s) : status;
}
