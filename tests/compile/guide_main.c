/* Runs the program of examples/README.md, which guide_test.sh has put into guide.h: a server with
 * two workers that answer a hundred queries each.
 *     guide_main [-t] CONFIG [JAIL] */
#include "guide.h"

#include <stdlib.h>
#include <sys/wait.h>

static const uint8_t query[] = "\x12\x34\1\0\0\1\0\0\0\0\0\0\7example\3com\0\0\1\0"; /* A · IN */
static const uint8_t answer_head[] = {0x12, 0x34, 0x81, 0x80};

static struct sockaddr_in address(uint32_t ip, uint16_t port)
{
    struct sockaddr_in a;
    memset(&a, 0, sizeof a);
    a.sin_family = AF_INET;
    a.sin_port = htons(port);
    a.sin_addr.s_addr = htonl(ip);
    return a;
}

static void serve(void)
{
    struct sockaddr_in client = address(0xc0000201, 40000), us = address(0xc0000202, 53),
                       own = address(0xc0000202, 50000), authority = address(0xc0000203, 53);
    exchange down, up;
    uint8_t answer[sizeof query];
    int i;
    memcpy(answer, query, sizeof query);
    memcpy(answer, answer_head, sizeof answer_head);
    memset(&down, 0, sizeof down);
    down.from = (struct sockaddr *)&client;
    down.to = (struct sockaddr *)&us;
    down.protocol = DNSTAP_PROTOCOL_UDP;
    up = down;
    up.from = (struct sockaddr *)&own;
    up.to = (struct sockaddr *)&authority;
    up.zone = dnstap_bytes_of("\3com", 5);
    for (i = 0; i < 100; i++) resolve(&down, &up, query, answer, sizeof query);
}

int main(int argc, char **argv)
{
    static char text[CONFIG_MAX];
    bool test = argc > 1 && strcmp(argv[1], "-t") == 0;
    FILE *file = argc > 1 + test ? fopen(argv[1 + test], "r") : NULL;
    int i, status, failed = 0;

    if (!file) return fputs("usage: guide_main [-t] CONFIG [JAIL]\n", stderr), 2;
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    if (!read_taps(text, test)) return 1;
    if (test) return 0;
    if (!open_taps()) return 1;
    if (argc > 2 && !drop_privileges(argv[2], 65534)) return perror("guide_main"), 1;
    for (i = 0; i < 2; i++)
        if (fork() == 0) _exit(work(serve) && close_taps() ? 0 : 1);
    while (wait(&status) > 0) failed += status != 0;
    for (i = 0; taps[i]; i++) failed += dnstap_close(taps[i], 0) != DNSTAP_OK;
    return failed != 0;
}
