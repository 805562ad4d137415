/* What the forwarder's command line says, above all which taps there are: as configuration text, a
 * file of directives, and one for each --tap. */
#ifndef FORWARDER_CONFIG_H
#define FORWARDER_CONFIG_H

static const char usage[] =
    "usage: forwarder --dns ADDR:PORT [--hosts FILE] [--upstream ADDR:PORT]\n"
    "                 [--config FILE] [--tap SOCKET | --listen SOCKET]... [--full]\n"
    "                 [--identity NAME] [--extra TEMPLATE]\n"
    "                 [--cert FILE --key FILE] [--ca FILE] [--skipverify]\n"
    "Answers A and AAAA of the hosts file's names itself, and forwards the rest.\n"
    "\n"
    "  --dns ADDR:PORT       listen there, as often as given: 127.0.0.1:53, [::1]:53,\n"
    "                        [::]:53 (both families); port 0: any free one\n"
    "  --hosts FILE          names and addresses, as in /etc/hosts\n"
    "  --upstream ADDR:PORT  whom to ask for the rest; without it that is REFUSED\n"
    "  --config FILE         dnstap directives, as CoreDNS has them: the taps\n"
    "  --tap SOCKET          one more tap: a path, unix://, tcp:// or tls:// ENDPOINT\n"
    "  --listen SOCKET       the same, but it waits there for sinks that connect\n"
    "  --full                of these: log the DNS messages, too\n"
    "  --identity NAME       of these: who logs; default: the host's name\n"
    "  --extra TEMPLATE      of all taps: what goes with each message\n"
    "  --cert FILE --key FILE    of tls:// ones: what they show; --listen needs it\n"
    "  --ca FILE             whom they trust; --listen: sinks must show a certificate\n"
    "  --skipverify          they trust anybody; --listen: no certificate is asked for\n"
    "  -h, --help            this\n"
    "\n"
    "SIGTERM and SIGINT end it. Exit status: 0 all well, 1 it could not begin, 2 usage.\n";

static char config[1 << 16], strings[5 * sizeof config + 64]; /* the taps, as text */
static struct wish {                                          /* of --tap and --listen */
    const char *socket;
    bool listens;
} wishes[TAPS_MAX];
static int wish_count;
static const char *full = "", *identity = ""; /* empty, or words of their directives */
static const char *cert, *key, *ca;           /* files, or NULL */
static bool skipverify;

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

static void ask_for(const char *socket, bool listens)
{
    if (wish_count == TAPS_MAX) die(0, socket, "too many");
    wishes[wish_count].socket = socket;
    wishes[wish_count++].listens = listens;
}

static void add_tap(const char *socket) { ask_for(socket, false); }
static void add_listen(const char *socket) { ask_for(socket, true); }
static void set_identity(const char *name) { identity = name; }
static void set_cert(const char *path) { cert = path; }
static void set_key(const char *path) { key = path; }
static void set_ca(const char *path) { ca = path; }

/* Adds to the configuration: text, and a word in quotes if there is one. */
static void put(const char *text, const char *word)
{
    size_t used = strlen(config), room = sizeof config - used;
    int n = snprintf(config + used, room, word ? "%s\"%s\"" : "%s", text, word);
    if (n < 0 || (size_t)n >= room) die(0, text, "there is no room for it");
}

static void put_tls(bool listens)
{
    if (!cert != !key) die(0, "--cert and --key", "one is not enough");
    if (cert) put(listens ? "\ntls " : "\ntls_cert ", cert);
    if (cert) put(" ", key);
    if (ca && (cert || !listens)) put(listens ? " " : "\ntls_ca ", ca);
    if (skipverify) put("\nskipverify", NULL);
}

/* A directive for each --tap and --listen. */
static void add_directives(void)
{
    for (const struct wish *w = wishes; w < wishes + wish_count; w++) {
        put(w->listens ? "\ndnstap listen " : "\ndnstap ", NULL);
        put(w->socket, NULL);
        put(full, NULL);
        put(" {\n", NULL);
        if (*identity) put("identity ", identity);
        if (strncmp(w->socket, "tls://", 6) == 0) put_tls(w->listens);
        put("\n}\n", NULL);
    }
}

#endif
