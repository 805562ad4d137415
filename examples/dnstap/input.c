/* input.c: a file to read, or a socket to listen on: each is one of the library's sinks. Messages
 * go to the output, what is wrong with them to standard error. */
#include "tool.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Says something about the stream that r belongs to. */
static void tell(const input *in, const dnstap_received *r, const char *what)
{
    if (in->file)
        complain("%s: %s", in->name, what);
    else
        complain("%s: connection %" PRIu32 ": %s", in->name, r->connection, what);
}

static void lose_frame(input *in, const dnstap_received *r, const char *why)
{
    char what[128];
    snprintf(what, sizeof what, "frame %" PRIu64 ": %s (%zu bytes)", r->index, why, r->frame.size);
    tell(in, r, what);
    in->failed = true;
}

/* Producers die, files are copied while they grow: a stream without its STOP is no failure. */
static void end_stream(input *in, const dnstap_received *r)
{
    in->ended = in->file;
    if (r->result == DNSTAP_OK && in->file) return;
    if (r->result == DNSTAP_OK)
        tell(in, r, "closed");
    else if (r->result == DNSTAP_END)
        tell(in, r, "ends without STOP");
    else if (r->result == DNSTAP_CUT)
        tell(in, r, "ends inside a frame");
    else {
        tell(in, r, r->text && *r->text ? r->text : dnstap_strerror(r->result));
        in->failed = true;
    }
}

static void receive(void *user, const dnstap_received *r)
{
    input *in = (input *)user;
    if (r->kind == DNSTAP_SINK_OPENED && !in->file) {
        tell(in, r, "opened");
    } else if (r->kind == DNSTAP_SINK_MESSAGE) {
        if (!r->message) lose_frame(in, r, dnstap_strerror(r->result));
        output_put(in->out, r);
    } else if (r->kind == DNSTAP_SINK_SKIPPED) {
        lose_frame(in, r, "too large, skipped");
    } else if (r->kind == DNSTAP_SINK_CLOSED) {
        end_stream(in, r);
    }
}

bool input_open(input *in, char flag, const char *name, output *out)
{
    const char *scheme = flag == 'r' ? "file://" : flag == 'u' ? "unix://" : "tcp://";
    text endpoint = {0};
    dnstap_sink_options options = {0};
    dnstap_error error;
    in->name = name;
    in->out = out;
    in->file = flag == 'r';
    text_string(&endpoint, scheme);
    text_bytes(&endpoint, name, strlen(name) + 1);
    options.endpoint = endpoint.data;
    options.user = in;
    options.receive = receive;
    in->sink = dnstap_sink_open(&options, &error);
    free(endpoint.data);
    in->failed = !in->sink;
    if (in->failed)
        complain("%s", error.text);
    else if (!in->file)
        complain("%s: listening", name);
    return !in->failed;
}

bool input_close(input *in)
{
    if (in->sink) dnstap_sink_close(in->sink);
    return !in->failed;
}
