/* What the forwarder's command line says, above all which taps there are: as configuration text, a
 * file of directives, and one for each --tap. */
#ifndef FORWARDER_CONFIG_H
#define FORWARDER_CONFIG_H

static const char usage[] =
    "usage: forwarder --dns ADDR:PORT [--hosts FILE] [--upstream ADDR:PORT]\n"
    "                 [--config FILE] [--tap SOCKET]... [--full] [--identity NAME]\n"
    "                 [--extra TEMPLATE]\n"
    "Answers A and AAAA of the hosts file's names itself, and forwards the rest.\n"
    "\n"
    "  --dns ADDR:PORT       listen there, as often as given: 127.0.0.1:53, [::1]:53,\n"
    "                        [::]:53 (both families); port 0: any free one\n"
    "  --hosts FILE          names and addresses, as in /etc/hosts\n"
    "  --upstream ADDR:PORT  whom to ask for the rest; without it that is REFUSED\n"
    "  --config FILE         dnstap directives, as CoreDNS has them: the taps\n"
    "  --tap SOCKET          one more tap: a path, unix://, tcp:// or tls:// ENDPOINT\n"
    "  --full                of these: log the DNS messages, too\n"
    "  --identity NAME       of these: who logs; default: the host's name\n"
    "  --extra TEMPLATE      of all taps: what goes with each message\n"
    "  -h, --help            this\n"
    "\n"
    "SIGTERM and SIGINT end it. Exit status: 0 all well, 1 it could not begin, 2 usage.\n";

static char config[1 << 16], strings[1 << 18]; /* the taps, as text */
static const char *sockets[TAPS_MAX + 1];      /* of --tap; ends in NULL */
static const char *full = "", *identity = "";  /* empty, or words of their directives */

static void read_config(const char *path)
{
    FILE *file = *config ? NULL : fopen(path, "r");
    if (*config) die(0, path, "one --config is enough");
    if (!file) die(errno, path, strerror(errno));
    size_t size = fread(config, 1, sizeof config - 1, file);
    if (ferror(file)) die(errno, path, strerror(errno));
    if (!feof(file) || strlen(config) != size) die(0, path, "too long, or not text");
    fclose(file);
}

static void add_tap(const char *socket)
{
    int count = 0;
    while (sockets[count]) count++;
    if (count == TAPS_MAX) die(0, socket, "too many");
    sockets[count] = socket;
}

static void set_identity(const char *name) { identity = name; }

/* A directive for each --tap. */
static void add_directives(void)
{
    for (const char **s = sockets; *s; s++) {
        size_t used = strlen(config), room = sizeof config - used;
        int n = snprintf(config + used, room, "\ndnstap %s%s {%s%s%s }\n", *s, full,
                         *identity ? " identity \"" : "", identity, *identity ? "\"" : "");
        if (n < 0 || (size_t)n >= room) die(0, *s, "there is no room for it");
    }
}

#endif
