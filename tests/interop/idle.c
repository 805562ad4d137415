/* A tap that has nothing to do: logs a few messages to ENDPOINT, waits until they are sent and the
 * tap has come to rest, says "idle", and "over" after so many SECONDS. idle_test.sh counts the
 * system calls between. With "loop" the tap has no thread, but a loop of poll.
 * Usage: idle ENDPOINT thread|loop SECONDS   Build: make build/idle */
#define DNSTAP_IMPLEMENTATION
#include "dnstap.h"
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { DEADLINE_MS = 20000, REST_MS = 1000, MESSAGES = 10 };

static long long now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (long long)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void serve(dnstap_tap *tap, long long end)
{
    struct pollfd fds[DNSTAP_POLLFDS];
    int timeout, n;
    long long left;
    while ((left = end - now_ms()) > 0) {
        n = dnstap_pollfds(tap, fds, DNSTAP_POLLFDS, &timeout);
        if (timeout < 0 || timeout > left) timeout = (int)left;
        poll(fds, (nfds_t)n, timeout);
        dnstap_service(tap);
    }
}

static void spend(dnstap_tap *tap, bool loop, int ms)
{
    if (loop)
        serve(tap, now_ms() + ms);
    else
        poll(NULL, 0, ms);
}

static void say(const char *text)
{
    if (write(1, text, strlen(text)) < 0) exit(1);
}

int main(int argc, char **argv)
{
    dnstap_options options;
    dnstap_error error;
    dnstap_message m;
    dnstap_status s;
    dnstap_tap *tap;
    bool loop;
    int i;
    if (argc < 4) return fprintf(stderr, "usage: idle ENDPOINT thread|loop SECONDS\n"), 2;
    loop = strcmp(argv[2], "loop") == 0;
    memset(&options, 0, sizeof options);
    options.endpoint = argv[1];
    tap = dnstap_open(&options, &error);
    if (!tap) return fprintf(stderr, "%s\n", error.text), 1;
    if (!loop && dnstap_start(tap) != DNSTAP_OK) return 1;
    dnstap_message_start(&m, DNSTAP_MSG_TOOL_QUERY);
    for (i = 0; i < MESSAGES; i++) {
        if (dnstap_log(tap, &m) != 1) return 1;
    }
    if (dnstap_flush(tap, DEADLINE_MS) != DNSTAP_OK) return 1;
    spend(tap, loop, REST_MS);
    dnstap_get_status(tap, &s);
    if (s.state != DNSTAP_STARTED || s.sent != MESSAGES) return 1;
    say("idle\n");
    spend(tap, loop, atoi(argv[3]) * 1000);
    say("over\n");
    return dnstap_close(tap, DEADLINE_MS) != DNSTAP_OK;
}
