/* Which taps the forwarder has, as configuration text: a file of directives, and one for each --tap
 * of the command line. */
#ifndef FORWARDER_CONFIG_H
#define FORWARDER_CONFIG_H

static char config[1 << 16], strings[1 << 18]; /* the taps, as text */

static void read_config(const char *path)
{
    FILE *file = *config ? NULL : fopen(path, "r");
    if (*config) die(path, "one --config is enough");
    if (!file) die(path, strerror(errno));
    size_t size = fread(config, 1, sizeof config - 1, file);
    if (!feof(file) || strlen(config) != size) die(path, "unreadable, too long, or not text");
    fclose(file);
}

/* A directive for each --tap; `full` and `identity` are empty, or words of it. */
static void add_directives(const char *const *sockets, const char *full, const char *identity)
{
    for (; *sockets; sockets++) {
        size_t used = strlen(config), room = sizeof config - used;
        int n = snprintf(config + used, room, "\ndnstap %s%s {%s%s%s }\n", *sockets, full,
                         *identity ? " identity \"" : "", identity, *identity ? "\"" : "");
        if (n < 0 || (size_t)n >= room) die(*sockets, "there is no room for it");
    }
}

#endif
