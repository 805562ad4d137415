/* Shows a tap in a poll loop: two calls around poll, no thread. Build: make build/loop_poll
 *   cc -I. -o build/loop_poll examples/loop_poll.c -lprotobuf-nanopb -lbearssl -lpthread
 *
 *   build/dnstap -u /tmp/dnstap.sock &
 *   build/loop_poll unix:///tmp/dnstap.sock 5300 &
 *   kdig @127.0.0.1 -p 5300 example.com */
#define DNSTAP_IMPLEMENTATION
#include "dnstap.h"

#include "loop_server.h"

int main(int argc, char **argv)
{
    static server s;
    static dnstap_options options;
    server_open(&s, &options, argc, argv);
    server_catch_signals();
    while (!s.ended && !server_stopped) {
        struct pollfd fds[1 + DNSTAP_POLLFDS] = {{s.fd, POLLIN, 0}};
        int timeout; /* of the tap; a loop with timers of its own takes the smallest */
        int n = dnstap_pollfds(s.tap, fds + 1, DNSTAP_POLLFDS, &timeout);
        if (poll(fds, 1 + (nfds_t)n, timeout) < 0) continue; /* a signal */
        if (fds[0].revents) server_readable(&s);
        dnstap_service_fds(s.tap, fds + 1, n);
    }
    return server_close(&s);
}
