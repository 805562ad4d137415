/* A reader of OpenMetrics text, as strict as its grammar, for the tests that look at metrics. */
#ifndef METRICS_SUPPORT_H
#define METRICS_SUPPORT_H

enum { METRIC_FAMILIES = 64, METRIC_SAMPLES = 1024 };

typedef struct metrics {
    char text[65536]; /* each line ends in NUL */
    const char *families[METRIC_FAMILIES];
    char *samples[METRIC_SAMPLES]; /* name{labels}, and behind its NUL the value */
    unsigned family_count, sample_count;
    char type[16];
} metrics;

static const char *after_prefix(const char *line, const char *prefix)
{
    return strncmp(line, prefix, strlen(prefix)) ? NULL : line + strlen(prefix);
}

/* The value begins behind the last blank, for labels may hold some. */
static void read_sample(metrics *m, char *line)
{
    const char *family = m->families[m->family_count - 1], *rest = after_prefix(line, family);
    char *value = strrchr(line, ' '), *end;
    unsigned i;

    assert_non_null(rest);
    if (!strcmp(m->type, "counter")) rest = after_prefix(rest, "_total");
    assert_non_null(rest);
    assert_int_equal(*rest, '{');
    assert_int_equal(value[-1], '}');
    *value++ = '\0';
    strtod(value, &end);
    assert_true(*value && !*end && *value != '-');
    for (i = 0; i < m->sample_count; i++) assert_string_not_equal(m->samples[i], line);
    assert_true(m->sample_count < METRIC_SAMPLES);
    m->samples[m->sample_count++] = line;
}

/* A family begins with its TYPE, and there is none of that name yet. */
static void read_head(metrics *m, char *line)
{
    char *name = line + strlen("# TYPE "), *rest = strchr(name, ' ');
    const char *unit;
    unsigned i;

    assert_non_null(rest);
    *rest++ = '\0';
    if (after_prefix(line, "# TYPE ")) {
        assert_true(!strcmp(rest, "counter") || !strcmp(rest, "gauge"));
        for (i = 0; i < m->family_count; i++) assert_string_not_equal(m->families[i], name);
        assert_true(m->family_count < METRIC_FAMILIES);
        m->families[m->family_count++] = name;
        strcpy(m->type, rest);
        return;
    }
    assert_string_equal(m->families[m->family_count - 1], name);
    unit = name + strlen(name) - strlen(rest);
    if (after_prefix(line, "# UNIT "))
        assert_true(!strcmp(unit, rest) && unit[-1] == '_');
    else
        assert_non_null(after_prefix(line, "# HELP "));
}

/* Reads all of it, which must be right. */
HELPER void read_metrics(metrics *m, const char *text)
{
    char *line = m->text, *end;

    assert_true(strlen(text) < sizeof m->text);
    strcpy(m->text, text);
    m->family_count = m->sample_count = 0;
    for (; strcmp(line, "# EOF\n"); line = end + 1) {
        end = strchr(line, '\n');
        assert_non_null(end);
        *end = '\0';
        if (*line == '#')
            read_head(m, line);
        else
            read_sample(m, line);
    }
}

/* The value of the sample, such as dnstap_sent_total{tap="unix:///x"}. */
HELPER double metric(const metrics *m, const char *sample)
{
    unsigned i;

    for (i = 0; i < m->sample_count; i++)
        if (!strcmp(m->samples[i], sample)) return atof(strchr(m->samples[i], '\0') + 1);
    fail_msg("there is no %s", sample);
    return -1;
}

/* What the samples whose name and labels begin so add up to. */
HELPER double metric_sum(const metrics *m, const char *prefix)
{
    double sum = 0;
    unsigned i, n = 0;

    for (i = 0; i < m->sample_count; i++) {
        if (!after_prefix(m->samples[i], prefix)) continue;
        sum += atof(strchr(m->samples[i], '\0') + 1);
        n++;
    }
    assert_true(n > 0);
    return sum;
}

#endif
