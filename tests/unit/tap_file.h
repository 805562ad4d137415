/* Files and processes for the tests of the tap. Include it after tap_support.h. */
#ifndef TAP_FILE_H
#define TAP_FILE_H

#include "tap_peer.h"
#include <signal.h>
#include <sys/wait.h>

static char path[64], endpoint[80];

HELPER const char *in_folder(const char *name)
{
    snprintf(path, sizeof path, "%s/%s", folder, name);
    snprintf(endpoint, sizeof endpoint, "file://%s", path);
    return endpoint;
}

HELPER size_t read_file(const char *name, uint8_t *out, size_t room)
{
    FILE *f = fopen(name, "rb");
    size_t n;

    if (!f) fail_msg("%s: %s", name, strerror(errno));
    n = fread(out, 1, room, f);
    fclose(f);
    return n;
}

HELPER void write_file(const char *name, const void *data, size_t size)
{
    FILE *f = fopen(name, "wb");

    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, size, f), size);
    fclose(f);
}

/* Feeds the file to the oracle; it must have START and STOP. */
HELPER uint64_t check_file(const char *name)
{
    static uint8_t all[1 << 24];
    static oracle o;
    size_t size = read_file(name, all, sizeof all);

    oracle_init(&o, false);
    oracle_feed(&o, all, size);
    assert_int_equal(o.have, 0);
    if (o.phase != AT_END) fail_msg("%s lacks its STOP", name);
    return o.frames;
}

/* Until there is a file of at least so many bytes. One that is empty may not be the tap's yet. */
HELPER void wait_for_file(const char *name, off_t size)
{
    uint64_t end = real_ms() + PATIENCE;
    struct stat now;

    while (stat(name, &now) || now.st_size < size) {
        assert_true(real_ms() < end);
        poll(NULL, 0, 1);
    }
}

HELPER void fill(const char *name)
{
    static uint8_t block[512];
    int fd = open(name, O_WRONLY | O_CREAT | O_APPEND, 0600);

    assert_true(fd >= 0);
    while (write(fd, block, sizeof block) > 0) {
    }
    close(fd);
}

HELPER bool mount_small(char *where, size_t room)
{
    snprintf(where, room, "%s/small", folder);
    mkdir(where, 0700);
    return mount("dnstap-unit", where, "tmpfs", 0, "size=128k") == 0;
}

/* In a child a failed assertion must not run the other tests. */
#define CHILD_ASSERT(what)                                                    \
    do {                                                                      \
        if (!(what)) {                                                        \
            fprintf(stderr, "child: %s:%d: %s\n", __FILE__, __LINE__, #what); \
            _exit(1);                                                         \
        }                                                                     \
    } while (0)

HELPER void child_ended_well(pid_t child)
{
    int status = -1;

    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

HELPER uint64_t cpu_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

#endif
