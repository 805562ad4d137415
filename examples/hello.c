/* Shows the smallest program: one message into a file. Build: make build/hello
 *   cc -I. -o build/hello examples/hello.c -lprotobuf-nanopb -lbearssl -lpthread
 *
 *   build/hello [file:///PATH]     writes /tmp/hello.fstrm unless told otherwise
 *   build/dnstap -r /tmp/hello.fstrm     reads it */
#define DNSTAP_IMPLEMENTATION
#include "dnstap.h"

#include <stdio.h>
#include <time.h>

/* id and flags · one question · example.com. · A IN */
static const char query[] = "\x12\x34\1\0"
                            "\0\1\0\0\0\0\0\0"
                            "\7example\3com\0"
                            "\0\1\0\1";

int main(int argc, char **argv)
{
    dnstap_options options = {0};
    dnstap_error error;
    options.endpoint = argc > 1 ? argv[1] : "file:///tmp/hello.fstrm";
    options.full = true; /* the DNS bytes too */
    options.overwrite = true;
    dnstap_tap *tap = dnstap_open(&options, &error);
    if (!tap) {
        fprintf(stderr, "hello: %s\n", error.text);
        return 1;
    }
    dnstap_start(tap); /* its own thread */

    if (dnstap_wants(tap, DNSTAP_MSG_CLIENT_QUERY)) {
        struct timespec now;
        dnstap_message m;
        clock_gettime(CLOCK_REALTIME, &now);
        dnstap_message_start(&m, DNSTAP_MSG_CLIENT_QUERY);
        dnstap_set_query_time(&m, &now);
        m.query_message = dnstap_bytes_of(query, sizeof query - 1);
        dnstap_log(tap, &m);
    }

    if (dnstap_flush(tap, 2000) < 0) { /* until it is written */
        dnstap_status status;
        dnstap_get_status(tap, &status);
        fprintf(stderr, "hello: %s: %s\n", dnstap_state_name(status.state), status.error.text);
        dnstap_close(tap, 0);
        return 1;
    }
    return dnstap_close(tap, 2000) < 0; /* ends the stream, and frees all */
}
