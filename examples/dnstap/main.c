/* dnstap: receives dnstap over Frame Streams, from files and sockets, and prints or stores it.
 * Build: make build/dnstap. main.c: what it says. */
#include "tool.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] = /* fits a screen, 24 lines of 80; the rest is dnstap(1)'s */
    "usage: dnstap INPUT... [OUTPUT]... [FORMAT]    or: dnstap --check-config FILE\n"
    "Receives DNS events as dnstap, and prints or stores them.\n"
    "inputs: -r FILE    read a Frame Streams file (-: standard input; --follow it)\n"
    "        -u PATH    listen on a unix socket (--socket-mode 0660 --socket-group G)\n"
    "        -l WHERE   listen on HOST:PORT, :PORT (all addresses), tls://HOST:PORT\n"
    "        -c WHERE   connect to a tap that listens there, or on unix://PATH\n"
    "  -t TIME for each step of a handshake (4s), --idle TIME, --max-connections 64\n"
    "output: -w FILE    add to it (--overwrite: begin anew); without a format: Frame\n"
    "                   Streams. - or no output: standard output, as quiet text\n"
    "        -U PATH, -T WHERE   pass on to a collector there, as -u and -l have them\n"
    "  --rotate-size 100M, --rotate-time 1h: FILE is a strftime pattern\n"
    "TLS:    --tls-ca FILE --tls-cert FILE --tls-key FILE: the peer's CAs; our own\n"
    "        certificate; --tls-name NAME: in the peer's; --tls-insecure\n"
    "format: -q quiet text, -y YAML, -j JSON, --exact JSON of every field, in hex\n"
    "        --date: quiet lines with the day; --color auto (or always, never)\n"
    "choose: --type CQ,CR --name SUFFIX --client 192.0.2.0/24 --rcode NXDOMAIN: one\n"
    "        of these each, and all together; -n COUNT: the first ones\n"
    "--repair FILE OUT: put every whole frame of a damaged file into another\n"
    "--check-config FILE: read configuration text and print its taps, an object a\n"
    "  line; --lenient: what CoreDNS takes, and with its meaning. -h, --version\n"
    "It runs until files are read, with a socket until SIGINT or SIGTERM. SIGHUP: it\n"
    "goes on in what is at the file's path then. Exit status: 0 all well, 1 an input\n"
    "or output failed, if only in part, 2 usage or configuration. See dnstap(1).\n";

text_format *const formats[] = {NULL, quiet_print, yaml_print, json_print, exact_print};

void complain(const char *format, ...)
{
    char line[PATH_MAX + 512], out[4 * sizeof line];
    size_t n = 0;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    for (const char *c = line; *c; c++)
        n += (size_t)sprintf(out + n, *c >= ' ' && *c <= '~' ? "%c" : "\\x%02x", (unsigned char)*c);
    out[n] = '\0';
    show_line(out);
}

static int answer_with(const settings *s)
{
    if (s->answer == ANSWER_HELP)
        fputs(usage, stdout);
    else if (s->answer == ANSWER_VERSION)
        puts("dnstap " DNSTAP_VERSION);
    else if (s->config)
        return check_config(s->config, s->lenient) ? EXIT_SUCCESS : EXIT_USAGE;
    else if (s->damaged)
        return repair_file(s->damaged, s->repaired, s->overwrite) ? EXIT_SUCCESS : EXIT_FAILURE;
    else
        return GO_ON;
    return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    settings s;
    int status = EXIT_FAILURE;
    memset(&s, 0, sizeof s);
    s.inputs = (given *)calloc((size_t)argc, sizeof *s.inputs); /* as if every argument were one */
    s.outputs = (given *)calloc((size_t)argc, sizeof *s.outputs);
    if (!s.inputs || !s.outputs)
        complain("start: out of memory");
    else if (!catch_signals())
        complain("start: %s", strerror(errno));
    else if ((status = parse_flags(&s, argv + 1)) == GO_ON && (status = answer_with(&s)) == GO_ON)
        status = receive_all(&s);
    free(s.outputs);
    free(s.inputs);
    return status;
}
