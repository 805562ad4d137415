/* feed PATH FILE [COUNT]: connects to a unix socket (@NAME: an abstract one), sends FILE, or its
 * first COUNT bytes, says `sent` on standard error, and prints what is answered in hex, then
 * ` closed`, or ` open` when the other side has not closed after three seconds.
 * Build: cc -o feed feed.c */
#define _POSIX_C_SOURCE 200809L
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { DEADLINE_MS = 3000 };

static long now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (long)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int connect_to(const char *path)
{
    struct sockaddr_un address;
    const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    memset(&address, 0, sizeof address);
    address.sun_family = AF_UNIX;
    if (fd < 0 || strlen(path) >= sizeof address.sun_path) return -1;
    socklen_t size = sizeof address;
    strcpy(address.sun_path, path);
    if (*path == '@') {
        address.sun_path[0] = '\0';
        size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));
    }
    return connect(fd, (struct sockaddr *)&address, size) < 0 ? -1 : fd;
}

/* The other side may close before all is sent; its answer counts then. */
static void send_file(int fd, FILE *file, long count)
{
    char buffer[4096];
    size_t size = 1;
    while (count > 0 && size > 0) {
        size = fread(buffer, 1, count < 4096 ? (size_t)count : sizeof buffer, file);
        count -= (long)size;
        for (size_t done = 0; done < size;) {
            const ssize_t n = write(fd, buffer + done, size - done);
            if (n < 0) return;
            done += (size_t)n;
        }
    }
}

static const char *print_answer(int fd)
{
    const long deadline = now_ms() + DEADLINE_MS;
    struct pollfd in = {fd, POLLIN, 0};
    unsigned char buffer[4096];
    for (;;) {
        const long left = deadline - now_ms();
        if (left <= 0 || poll(&in, 1, (int)left) <= 0) return "open";
        const ssize_t size = read(fd, buffer, sizeof buffer);
        if (size <= 0) return "closed";
        for (ssize_t i = 0; i < size; i++) printf("%02x", buffer[i]);
    }
}

int main(int argc, char **argv)
{
    FILE *file = argc > 2 ? fopen(argv[2], "rb") : NULL;
    const int fd = argc > 2 ? connect_to(argv[1]) : -1;
    if (!file || fd < 0) {
        perror("feed");
        return 1;
    }
    signal(SIGPIPE, SIG_IGN);
    send_file(fd, file, argc > 3 ? atol(argv[3]) : 1L << 30);
    fputs("sent\n", stderr);
    printf(" %s\n", print_answer(fd));
    fclose(file);
    close(fd);
    return 0;
}
