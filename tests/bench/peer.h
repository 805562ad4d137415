/* The peer: libfstrm's I/O thread with its default options, and its receiver, fstrm_capture. */
#ifndef BENCH_PEER_H
#define BENCH_PEER_H

#include "sink.h"
#include <fstrm.h>
#include <signal.h>

static struct fstrm_writer *peer_writer(const char *path, const char *port)
{
    struct fstrm_writer_options *options = fstrm_writer_options_init();
    struct fstrm_unix_writer_options *local = fstrm_unix_writer_options_init();
    struct fstrm_tcp_writer_options *net = fstrm_tcp_writer_options_init();
    struct fstrm_writer *w;

    if (fstrm_writer_options_add_content_type(options, DNSTAP_FRAME_CONTENT_TYPE,
                                              sizeof DNSTAP_FRAME_CONTENT_TYPE - 1) !=
        fstrm_res_success)
        abort();
    fstrm_unix_writer_options_set_socket_path(local, path);
    fstrm_tcp_writer_options_set_socket_address(net, "127.0.0.1");
    fstrm_tcp_writer_options_set_socket_port(net, port);
    w = path ? fstrm_unix_writer_init(local, options) : fstrm_tcp_writer_init(net, options);
    fstrm_writer_options_destroy(&options);
    fstrm_unix_writer_options_destroy(&local);
    fstrm_tcp_writer_options_destroy(&net);
    return w;
}

/* One queue for each thread, as fstrm's manual recommends. path NULL: TCP. */
static struct fstrm_iothr *peer_open(const char *path, const char *port, unsigned threads)
{
    struct fstrm_iothr_options *options = fstrm_iothr_options_init();
    struct fstrm_writer *w = peer_writer(path, port);
    struct fstrm_iothr *io = NULL;

    if (w && fstrm_iothr_options_set_num_input_queues(options, threads) == fstrm_res_success)
        io = fstrm_iothr_init(options, &w);
    fstrm_iothr_options_destroy(&options);
    return io;
}

/* -- fstrm_capture, which writes what it gets to file -- */

/* Whether somebody listens on a unix socket: its flags say so. */
static bool capture_listens(const char *path)
{
    FILE *f = fopen("/proc/net/unix", "r");
    char line[512];
    unsigned flags;
    bool found = false;

    while (f && fgets(line, sizeof line, f))
        if (strstr(line, path) && sscanf(line, "%*s %*x %*x %x", &flags) == 1 && flags & 0x10000)
            found = true;
    if (f) fclose(f);
    return found;
}

static inline void capture_start(sink *s, const char *file)
{
    int tries, out[2];

    memset(s, 0, sizeof *s);
    sink_path(s);
    snprintf(s->endpoint, sizeof s->endpoint, "unix://%s", s->path);
    unlink(s->path);
    if (pipe(out)) die("capture: pipe");
    s->report = out[0];
    s->pid = fork();
    if (s->pid < 0) die("capture: fork");
    if (s->pid == 0) {
        dup2(out[1], STDERR_FILENO);
        execlp("fstrm_capture", "fstrm_capture", "-t", DNSTAP_FRAME_CONTENT_TYPE, "-u", s->path,
               "-w", file, (char *)NULL);
        die("fstrm_capture");
    }
    close(out[1]);
    for (tries = 0; !capture_listens(s->path); tries++) {
        if (tries == 500 || waitpid(s->pid, NULL, WNOHANG)) die("fstrm_capture does not listen");
        usleep(10000);
    }
}

/* At its end it says how many frames it wrote: ours, START and STOP. */
static inline sink_report capture_end(sink *s)
{
    char text[2048], *wrote;
    sink_report r;
    size_t have = 0;
    ssize_t n;

    memset(&r, 0, sizeof r);
    kill(s->pid, SIGTERM);
    while ((n = read(s->report, text + have, sizeof text - 1 - have)) > 0) have += (size_t)n;
    text[have] = '\0';
    close(s->report);
    waitpid(s->pid, NULL, 0);
    unlink(s->path);
    wrote = strstr(text, "(wrote ");
    if (!wrote) {
        fputs(text, stderr);
        die("fstrm_capture does not say what it wrote");
    }
    r.frames = strtoull(wrote + 7, NULL, 10) - 2;
    return r;
}

#endif
