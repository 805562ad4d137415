/* input.c: a file to read, or a socket to listen on: each is one of the library's sinks. Messages
 * go to the output, what is wrong with them to standard error. */
#include "tool.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Says something about the stream that r belongs to. */
static void tell(const input *in, const dnstap_received *r, const char *what)
{
    if (in->file || r->connection == 0)
        complain("%s: %s", in->name, what);
    else
        complain("%s: connection %" PRIu32 ": %s", in->name, r->connection, what);
}

/* Standard input as it is: half read, or a socket, which no path leads to. */
static long stdin_recv(void *self, void *data, size_t size, short *wants)
{
    const ssize_t n = read(STDIN_FILENO, data, size);
    (void)self;
    *wants = DNSTAP_POLLIN;
    if (n > 0) return (long)n;
    if (n == 0) return DNSTAP_END;
    return errno == EAGAIN || errno == EINTR ? DNSTAP_AGAIN : DNSTAP_SYSTEM;
}

static int stdin_fd(void *self)
{
    (void)self;
    return STDIN_FILENO;
}

static void leave_open(void *self) { (void)self; }

static const dnstap_transport standard_input = {
    .recv = stdin_recv, .fd = stdin_fd, .close = leave_open};

static void tell_fault(input *in, const dnstap_received *r, const char *fault)
{
    char what[128];
    snprintf(what, sizeof what, "frame %" PRIu64 ": %s (%zu bytes)", r->index, fault,
             r->frame.size);
    tell(in, r, what);
}

/* What can't be put out is a failure, a fault alone is none. */
static void take(input *in, const dnstap_received *r)
{
    if (choose_done()) return;
    const char *fault = faults_note(&in->faults, r);
    if (fault) tell_fault(in, r, fault);
    if (!r->message) in->failed = true;
    if (r->kind == DNSTAP_SINK_MESSAGE && choose_takes(r)) outputs_put(in->outputs, r, in->file);
}

/* All of its stream was there; a compressed file's checksum comes behind. */
static void end_file(input *in, const dnstap_received *r)
{
    const char *problem = in->gz ? gz_rest(in->gz) : NULL;
    if (!problem) return;
    tell(in, r, problem);
    in->failed = true;
}

/* Producers die, files are copied while they grow: a stream without its STOP is no failure, but a
 * file that is cut is. What connects and brings no frame was a stray: a port scan, a probe. */
static void end_stream(input *in, const dnstap_received *r)
{
    const bool broken = r->result == DNSTAP_BAD_FRAME && r->index > 0;
    if (r->result == DNSTAP_OK && in->file) {
        end_file(in, r);
        return;
    }
    if (r->result == DNSTAP_OK)
        tell(in, r, "closed");
    else if (r->result == DNSTAP_END)
        tell(in, r, "ends without STOP");
    else if (r->result == DNSTAP_CUT && !in->follows)
        tell(in, r, "ends inside a frame");
    else
        tell(in, r, r->text && *r->text ? r->text : dnstap_strerror(r->result));
    if (in->file ? r->result != DNSTAP_END : broken) in->failed = true;
}

/* Who finds no place may come again every second: that is said at most so often. */
enum { REFUSED_SECONDS = 10 };

static void refuse(input *in, const dnstap_received *r)
{
    const time_t now = time(NULL);
    if (r->result != DNSTAP_NO_PLACE) {
        complain("%s: %s; who connects has to wait", in->name, r->text);
        return;
    }
    in->refused++;
    if (in->refused > 1 && now >= in->refused_at && now - in->refused_at < REFUSED_SECONDS) return;
    in->refused_at = now;
    complain("%s: all places are taken; refused so far: %" PRIu64, in->name, in->refused);
}

/* Who it is, where the certificate says so; and how long it was away. */
static void begin_stream(input *in, const dnstap_received *r)
{
    char what[192];
    snprintf(what, sizeof what, "opened%s%s%s%s", *r->subject ? " by " : "", r->subject,
             *r->text ? ", " : "", r->text);
    tell(in, r, what);
}

static int receive(void *user, const dnstap_received *r)
{
    input *in = (input *)user;
    if (r->kind == DNSTAP_SINK_OPENED && !in->file) {
        begin_stream(in, r);
    } else if (r->kind == DNSTAP_SINK_MESSAGE || r->kind == DNSTAP_SINK_SKIPPED) {
        take(in, r);
    } else if (r->kind == DNSTAP_SINK_REFUSED) {
        refuse(in, r);
    } else if (r->kind == DNSTAP_SINK_CLOSED) {
        end_stream(in, r);
    } else if (r->kind == DNSTAP_SINK_NOTE) {
        complain("%s: %s", in->name, r->text);
    }
    return DNSTAP_OK;
}

void endpoint_text(text *t, char flag, const char *name)
{
    const bool whole = strchr("lcT", flag) && (*name == '/' || strstr(name, "://"));
    const char *scheme = flag == 'r' ? "file://" : strchr("uU", flag) ? "unix://" : "tcp://";
    if (!whole) text_string(t, scheme);
    text_bytes(t, name, strlen(name) + 1);
}

bool input_open(input *in, char flag, const char *name, const dnstap_sink_options *tls)
{
    dnstap_sink_options options = *tls;
    text endpoint = {0};
    dnstap_error error;
    in->file = flag == 'r';
    in->connects = options.connect = flag == 'c';
    if (in->file && !strcmp(name, "-")) {
        name = "standard input";
        options.transport = &standard_input;
    } else if (in->file && gz_is(name)) {
        in->gz = gz_new(name, &in->transport);
        options.transport = &in->transport;
    }
    in->follows = options.follow = in->file && options.follow && !options.transport;
    in->name = name;
    endpoint_text(&endpoint, flag, name);
    options.endpoint = endpoint.data;
    options.user = in;
    options.receive = receive;
    in->sink = dnstap_sink_open(&options, &error);
    free(endpoint.data);
    in->failed = !in->sink;
    if (in->failed) complain("%s", error.text);
    return !in->failed;
}

bool input_close(input *in)
{
    if (in->sink) dnstap_sink_close(in->sink);
    faults_total(&in->faults, in->name);
    gz_free(in->gz);
    return !in->failed;
}
