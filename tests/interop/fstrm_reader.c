/* A sink by libfstrm that connects: its reader over a socket of ours writes what it gets to a file
 * of its own. It ends with the stream's STOP.
 * Usage: fstrm_reader PATH|PORT OUT
 * Build: make build/fstrm_reader */
#include <fstrm.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

typedef struct link_to {
    const char *to; /* a path, or a port on loopback */
    int fd;
} link_to;

static fstrm_res link_open(void *object)
{
    link_to *l = (link_to *)object;
    struct sockaddr_un local;
    struct sockaddr_in ip;
    memset(&local, 0, sizeof local);
    memset(&ip, 0, sizeof ip);
    local.sun_family = AF_UNIX;
    ip.sin_family = AF_INET;
    ip.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ip.sin_port = htons((uint16_t)atoi(l->to));
    l->fd = socket(ip.sin_port ? AF_INET : AF_UNIX, SOCK_STREAM, 0);
    snprintf(local.sun_path, sizeof local.sun_path, "%s", l->to);
    if (ip.sin_port ? connect(l->fd, (const struct sockaddr *)&ip, sizeof ip)
                    : connect(l->fd, (const struct sockaddr *)&local, sizeof local))
        return fstrm_res_failure;
    return fstrm_res_success;
}

static fstrm_res link_read(void *object, void *data, size_t size)
{
    uint8_t *p = (uint8_t *)data;
    while (size) {
        ssize_t n = read(((link_to *)object)->fd, p, size);
        if (n <= 0) return fstrm_res_failure;
        p += n;
        size -= (size_t)n;
    }
    return fstrm_res_success;
}

static fstrm_res link_write(void *object, const struct iovec *parts, int count)
{
    for (; count--; parts++)
        if (write(((link_to *)object)->fd, parts->iov_base, parts->iov_len) !=
            (ssize_t)parts->iov_len)
            return fstrm_res_failure;
    return fstrm_res_success;
}

static fstrm_res link_close(void *object)
{
    return close(((link_to *)object)->fd) ? fstrm_res_failure : fstrm_res_success;
}

static struct fstrm_reader *open_reader(link_to *l)
{
    static const char type[] = "protobuf:dnstap.Dnstap";
    struct fstrm_reader_options *options = fstrm_reader_options_init();
    struct fstrm_rdwr *io = fstrm_rdwr_init(l);
    struct fstrm_reader *reader;
    fstrm_rdwr_set_open(io, link_open);
    fstrm_rdwr_set_read(io, link_read);
    fstrm_rdwr_set_write(io, link_write);
    fstrm_rdwr_set_close(io, link_close);
    fstrm_reader_options_add_content_type(options, type, sizeof type - 1);
    reader = fstrm_reader_init(options, &io);
    fstrm_reader_options_destroy(&options);
    return reader;
}

static struct fstrm_writer *open_writer(const char *path)
{
    static const char type[] = "protobuf:dnstap.Dnstap";
    struct fstrm_file_options *file = fstrm_file_options_init();
    struct fstrm_writer_options *options = fstrm_writer_options_init();
    struct fstrm_writer *writer;
    fstrm_file_options_set_file_path(file, path);
    fstrm_writer_options_add_content_type(options, type, sizeof type - 1);
    writer = fstrm_file_writer_init(file, options);
    fstrm_file_options_destroy(&file);
    fstrm_writer_options_destroy(&options);
    return writer;
}

int main(int argc, char **argv)
{
    struct fstrm_reader *reader;
    struct fstrm_writer *writer;
    const uint8_t *data;
    size_t size;
    link_to l;
    fstrm_res result;
    if (argc != 3) return fprintf(stderr, "usage: fstrm_reader PATH|PORT OUT\n"), 2;
    l.to = argv[1];
    reader = open_reader(&l);
    writer = open_writer(argv[2]);
    if (fstrm_reader_open(reader) != fstrm_res_success)
        return fprintf(stderr, "fstrm_reader: no stream from %s\n", argv[1]), 1;
    while ((result = fstrm_reader_read(reader, &data, &size)) == fstrm_res_success)
        if (fstrm_writer_write(writer, data, size) != fstrm_res_success) return 1;
    fstrm_reader_destroy(&reader);
    fstrm_writer_destroy(&writer);
    return result == fstrm_res_stop ? 0 : 1;
}
