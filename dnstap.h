/* SPDX-License-Identifier: MIT-0
 *
 * dnstap.h 0.1.0 - log DNS events with dnstap, from one file, for software that must stay small
 *
 * DO THIS
 *   In one C or C++ file:            #define DNSTAP_IMPLEMENTATION
 *                                    #include "dnstap.h"
 *   In all others that need it:      #include "dnstap.h"
 *   Link with -lprotobuf-nanopb -lbearssl -lpthread; with -DDNSTAP_NO_TLS BearSSL is not needed.
 *   Include it before system headers in that one file, or compile with _POSIX_C_SOURCE=200809L.
 *
 * CONTENTS (search for >>word; those with a star are in the API, too, which comes first)
 *   >>platform      what this build has, and all it includes
 *   >>system        what differs by system: clocks, threads, entropy, wake-up descriptor
 *   >>util          numbers, texts, memory from one block
 *   >>results *     what functions return, and texts for it
 *   >>generated     made by nanopb from proto/
 *   >>message *     what happened: a struct of borrowed bytes, its setters, the schema's names
 *   >>codec *       message to payload, by nanopb's descriptors
 *   >>encoder       the same in straight-line code, for the ring
 *   >>decoder       payload to message
 *   >>dns           what DNS bytes say
 *   >>extra *       templates for what goes along with each message
 *   >>filter *      what is logged, and what of it leaves the process
 *   >>frame *       Frame Streams as two state machines
 *   >>ring          bytes from a producer to the service
 *   >>transport *   how bytes travel; bring your own; sockets
 *   >>file          a file as a transport
 *   >>endpoint      texts to transports, and what each kind is like
 *   >>names         a host's name to addresses
 *   >>listen        a socket that accepts
 *   >>x509          what a certificate says
 *   >>certificates  PEM and DER to anchors, chains, keys
 *   >>credentials   files, when they change, and what they give
 *   >>verify        whom TLS trusts, and what is said when it does not
 *   >>tls           records over another transport
 *   >>tap *         a producer of dnstap: open, log, service, status, close; its states
 *   >>wake          how the service sleeps and is woken
 *   >>producer      what a thread that logs does
 *   >>cursors       where the links are in the rings
 *   >>connection    from look-up to FINISH, and round again
 *   >>flow          from the rings to the links
 *   >>accept        the links of a listening tap
 *   >>service       turns, and the books
 *   >>loops         poll, hooks, threads, forks: in whose loop the turns come
 *   >>open          options, memory, open
 *   >>close         drain, stop, close
 *   >>metrics *     the books as OpenMetrics text
 *   >>sink *        a consumer: its frames, files
 *   >>sources       its connections, accepted or dialled
 *   >>serve         its turns, options, open, close
 *   >>words         configuration text to words, as CoreDNS cuts it
 *   >>values        what stands behind the name of an option in it
 *   >>directive *   options from and to configuration text
 *   >>group *       taps of one configuration: what their producers do, and who is inside
 *   >>members       a group's memory, and its taps' options, coming and going
 *   >>reload        from one configuration to the next
 *   >>together      a group's turns, status, open, close
 *   >>changes and >>license are at the end; how it all works stands before >>platform.
 *
 * QUICK START
 *   #define DNSTAP_IMPLEMENTATION
 *   #include "dnstap.h"
 *   #include <stdio.h>
 *   #include <time.h>
 *
 *   int main(void)
 *   {
 *       static dnstap_options options;
 *       dnstap_error error;
 *       options.endpoint = "unix:///tmp/dnstap.sock";
 *       options.full = true;
 *       dnstap_tap *tap = dnstap_open(&options, &error);
 *       if (!tap) return fprintf(stderr, "%s\n", error.text), 1;
 *       dnstap_start(tap);
 *
 *       if (dnstap_wants(tap, DNSTAP_MSG_CLIENT_QUERY)) {
 *           struct timespec now;
 *           dnstap_message m;
 *           clock_gettime(CLOCK_REALTIME, &now);
 *           dnstap_message_start(&m, DNSTAP_MSG_CLIENT_QUERY);
 *           dnstap_set_query_time(&m, &now);
 *           m.query_message = dnstap_bytes_of("\x12\x34\1\0\0\1\0\0\0\0\0\0\0\0\2\0\1", 17);
 *           dnstap_log(tap, &m);
 *       }
 *       if (dnstap_flush(tap, 2000) < 0) {
 *           static dnstap_status status;
 *           dnstap_get_status(tap, &status);
 *           fprintf(stderr, "%s: %s\n", dnstap_state_name(status.state), status.error.text);
 *           return dnstap_close(tap, 0), 1;
 *       }
 *       return dnstap_close(tap, 2000) < 0;
 *   }
 *
 * ALL FUNCTIONS, in the order of use; the API says the rest of each
 *   a tap: from open to close
 *     dnstap_open(options, error)           checks, does what needs privileges; connects nothing
 *     dnstap_check(options, error)          would it? without a trace, for a test of configuration
 *     dnstap_open_in(memory, size, ...)     the same in your memory, of dnstap_memory_size(options)
 *     dnstap_start(tap)                     its own thread connects, sends, connects again; or:
 *     dnstap_pollfds(tap, fds, max, &ms)    from your loop: what to wait for, before each poll,
 *     dnstap_service_fds(tap, fds, n)       and after it: all that can be done now; or
 *     dnstap_service(tap)                   the same, for loops that don't have it from poll
 *     dnstap_wants(tap, type)               would it be logged? one load, before you fill it in
 *     dnstap_log(tap, message)              any thread; 1, 0 not wanted, negative: dropped, counted
 *     dnstap_log_as(tap, producer, message) the same with your own number of the thread
 *     dnstap_log_payload(tap, data, size)   what was encoded elsewhere
 *     dnstap_set_enabled(tap, on)           any thread: logs, or does not
 *     dnstap_get_status(tap, status)        any thread: state, counters, the last error
 *     dnstap_get_ring(tap, ring, &bytes, &messages)     how full a ring is
 *     dnstap_get_peers(tap, peers, max)     the sinks of a tap that listens
 *     dnstap_metrics(tap, out, size)        all of that as OpenMetrics text
 *     dnstap_state_name(state)              its text, as dnstap_strerror(result) for results
 *     dnstap_reopen(tap)                    file: go on in a new one (log rotation)
 *     dnstap_flush(tap, ms)                 wait until all is sent
 *     dnstap_after_fork(tap)                in a child that goes on with a started tap
 *     dnstap_close(tap, ms)                 send what is queued, say STOP, free all
 *   a message: a plain struct that borrows; fill in what you know
 *     dnstap_fill(m, type, ...)             all that a server knows of a query or response; or:
 *     dnstap_message_start(m, type)         clears it
 *     dnstap_set_query_address(m, sockaddr, protocol), dnstap_set_response_address; or
 *     dnstap_set_query_ip(m, ip, size, port, protocol), dnstap_set_response_ip
 *     dnstap_set_client_address, dnstap_set_local_address(m, sockaddr): for options.extra
 *     dnstap_set_query_time(m, timespec), dnstap_set_response_time
 *     dnstap_bytes_of(data, size)           for messages, zone, extra
 *     dnstap_is_response(type)              or a query
 *     dnstap_message_type_name(number), dnstap_message_type_from(text): and so for
 *     dnstap_socket_family_, dnstap_socket_protocol_, dnstap_http_protocol_, dnstap_policy_action_,
 *     dnstap_policy_match_
 *   a sink
 *     dnstap_sink_open(options, error)      listens, or opens a file; connects nothing yet
 *     dnstap_sink_start(sink)               its own thread, which calls options.receive; or:
 *     dnstap_sink_pollfds(sink, fds, max, &ms), dnstap_sink_service(sink): as a tap's
 *     dnstap_sink_next(sink, received)      file: instead of these, one frame after the other
 *     dnstap_sink_resume(sink)              any thread: what receive put off is offered again
 *     dnstap_sink_get_status(sink, status), dnstap_sink_close(sink)
 *     dnstap_sink_metrics(sink, out, size)  what its status says, as OpenMetrics text
 *     dnstap_sink_end_name(end)             how a connection ended, as text
 *   options as configuration text
 *     dnstap_parse(text, memory, size, options, max, how, error), dnstap_format(options, out, size)
 *   a group: the taps of one configuration; what is not told is as a tap's
 *     dnstap_group_open(options, count, error)
 *     dnstap_group_open_text(text, how, error)      the same of configuration text
 *     dnstap_group_open_in(memory, size, options, count, error), in your memory, of
 *     dnstap_group_memory_size(options, count)
 *     dnstap_group_reload(group, options, count, error), or
 *     dnstap_group_reload_text(group, text, how, error)     replaces its taps by others
 *     dnstap_group_start(group); or dnstap_group_pollfds(group, fds, max, &ms) and
 *     dnstap_group_service_fds(group, fds, n); or dnstap_group_service(group)
 *     dnstap_group_wants(group, type)       would any tap log it?
 *     dnstap_group_log(group, message), dnstap_group_log_as(group, producer, message)     to all
 *     dnstap_group_log_raw(group, message)  the same without metadata
 *     dnstap_group_set_enabled(group, on), dnstap_group_reopen(group)
 *     dnstap_group_get_status(group, taps, max), dnstap_group_metrics(group, out, size)
 *     dnstap_group_flush(group, ms), dnstap_group_after_fork(group), dnstap_group_close(group, ms)
 *   the parts alone, without memory, input or output of their own
 *     dnstap_encode(m, out, size), dnstap_decode(m, policy, payload, size)
 *     dnstap_frame_writer_init, _next, _sent, _receive, _stop    the side that sends
 *     dnstap_frame_reader_init, _feed, _next, _sent, _eof        the side that receives
 *
 * THE NOUNS
 *   message    What happened: a plain struct, borrowed bytes. Zeroed means: everything absent.
 *   tap        Sends messages to one endpoint, or, listening, to all sinks that connect to it.
 *              Opened with options; a zeroed field is its default.
 *   producer   A thread that logs. Each has a ring of its own.
 *   ring       Fixed memory between a producer and the service; holds frames as they will travel.
 *   service    What connects, sends, reconnects: the tap's own thread (dnstap_start), or calls of
 *              dnstap_service from your loop.
 *   endpoint   unix:///path, /path, tcp://host:port, tls://host:port, file:///path.
 *   sink       Receives. dnstap_sink is ours; fstrm_capture and golang-dnstap are others.
 *
 * WHAT TRAVELS
 *   Frame Streams (farsightsec.github.io/fstrm) with content type protobuf:dnstap.Dnstap. Each
 *   frame is a length, 32 bits big endian, and a payload; length 0 announces a control frame.
 *
 *     we                          the sink
 *     READY (content type)   →
 *                            ←    ACCEPT (content type)
 *     START (content type)   →
 *     ┌────────┬──────────────────────────────┐
 *     │ length │ protobuf: identity, version, │  →   any number of these
 *     │   4    │ extra, message, type         │
 *     └────────┴──────────────────────────────┘
 *     STOP                   →
 *                            ←    FINISH
 *
 *   Files, and sockets with options.unidirectional, have START, frames and STOP only.
 *
 * YOUR OWN LOOP
 *   Instead of dnstap_start, around each poll:
 *       n = dnstap_pollfds(tap, fds + own, max - own, &timeout);    (use the smallest timeout)
 *       poll(fds, own + n, timeout);
 *       dnstap_service_fds(tap, fds + own, n);
 *   With epoll, libevent, libuv: set options.watch and options.timer, and register what they ask
 *   for; options.wake replaces the wake-up descriptor. Call dnstap_service once to begin.
 *
 * A SINK
 *       static int receive(void *user, const dnstap_received *r)
 *       {
 *           if (r->message) ...                        (borrowed until it returns)
 *           return DNSTAP_OK;                          (or DNSTAP_AGAIN: later)
 *       }
 *       ...
 *       options.endpoint = "unix:///tmp/dnstap.sock";  (or tcp://host:port; file:///path is read)
 *       options.receive = receive;
 *       sink = dnstap_sink_open(&options, &error);
 *       for (; dnstap_sink_service(sink) == DNSTAP_OK; poll(fds, n, timeout))
 *           n = dnstap_sink_pollfds(sink, fds, max, &timeout);
 *       dnstap_sink_close(sink);
 *   max is options.max_connections + 1. Or dnstap_sink_start does that in a thread of its own. A
 *   file needs neither poll nor receive: dnstap_sink_next; with options.follow it may grow.
 *   A receive that has no room says DNSTAP_AGAIN: of that connection nothing more is read, so that
 *   its producer feels it, until the same message has been taken; all others go on. Producers that
 *   greet (READY) and those that don't (START) are told apart, unless an option says which ones.
 *   How a connection ended is in its last event, and counted by cause: connections + refused = open
 *   + the sum of ended. One that is opened but never begins, is silent (options.idle_ms), or breaks
 *   the rules is closed; a frame that is too large or can't be decoded costs only itself.
 *   With options.connect it goes to a tap that listens, again and again (100 ms to 10 s) until
 *   there is one, and whenever the connection has ended.
 *
 * LISTENING
 *   With options.listen sinks connect to the tap: unix, tcp (port 0: status.port tells which), tls.
 *   Each gets every message from its START on; it is still us who says READY. While there is none,
 *   nothing is encoded, and dnstap_wants is false. The rings serve all: no memory grows with sinks.
 *   One that is behind by more than options.max_lag while another is not, or takes nothing for
 *   options.timeout_ms, is closed, and what it loses counted; nobody else notices. One that lags
 *   alone fills the ring, which then drops. dnstap_close says STOP to all at once and waits for all
 *   FINISHes together. options.max_sinks are served; options.max_pending may shake hands meanwhile,
 *   and one more takes the place of the oldest. dnstap_get_peers lists them.
 *   A unix socket nobody answers on is replaced, one in use is an error, no other file is touched;
 *   at close it is removed if it is still ours. options.socket_mode and socket_group say who may
 *   connect; @name is an abstract one (Linux), open to all.
 *   TLS needs cert_file and key_file. With ca_file a sink must show a certificate of such a CA that
 *   is not for servers only (extendedKeyUsage); log and dnstap_peer name its subject. Without, or
 *   with skipverify, none is asked for; CoreDNS, given both, asks, and refuses a bad one. A place
 *   takes 1.5 KiB, with TLS 47 KB, or 18 KB with tls_input 837 and tls_output 4,096.
 *   A forked child can't go on with a started one: dnstap_after_fork says DNSTAP_UNSUPPORTED, and
 *   its messages are unwanted. Workers that start one opened before share its sinks among them.
 *
 * THREADS
 *   Any thread may call dnstap_log, dnstap_wants, dnstap_set_enabled, dnstap_get_status,
 *   dnstap_get_peers, dnstap_get_ring and dnstap_reopen at any time. The first options.producers
 *   threads have a ring each; further ones share one more ring, under a short spin: correct, only
 *   slower. A thread that ends hands its ring on. dnstap_log_as takes the caller's own thread
 *   number instead and needs no look-up. dnstap_service, dnstap_pollfds, and dnstap_flush of a tap
 *   without a thread: one thread at a time; with options.timer, a thread that takes over does so
 *   when the one before is in no call of the tap. dnstap_close: when no other thread is in the
 *   tap, and those that have logged and ended are joined. One thread's messages are delivered in
 *   order; those of several threads may overtake each other.
 *   None of them may be called from a signal handler: it may have interrupted another one, whose
 *   ring is half written. A thread may be cancelled: no lock is held where it can end. What unloads
 *   the library (dlclose) does so after dnstap_close and when no name is looked up: that thread may
 *   outlive the tap.
 *   dnstap_log waits for nobody, allocates nothing, and makes no system call but this: when the
 *   service sleeps and a message (in a busy stream, the 32nd to 128th KiB) comes, one wake-up:
 *   getpid, so that a forked child never wakes its parent, and a write to an eventfd, or
 *   options.wake. The thread that polls makes none, one whose loop has options.timer calls that.
 *
 * PROCESSES
 *   open → daemonise, chroot, setuid → start. Opening starts no thread and connects nothing.
 *   Relative paths are made absolute then, so that a daemon's chdir("/") does not lose them. The
 *   process that first starts or services a tap owns it: elsewhere, close sends nothing. A tap that
 *   was opened once may be started in each of several workers that were forked then: each connects
 *   on its own; of a file's, one writes, and the others wait.
 *   Descriptors that the program closes, as code does that makes a daemon, are missed and opened
 *   anew, with a line in the log; but a number that is another's by then, under a tap that runs,
 *   can't be told from our own: close all before the tap is opened.
 *   No signal that our writing raises reaches the program (SIGPIPE, SIGXFSZ, SIGTTOU).
 *
 * FORKED CHILDREN
 *   In a child that was forked under a started tap dnstap_wants is false, and nothing is logged. It
 *   logs in one of two ways (examples/children.c has both):
 *   - Through its parent, which gets the payloads from a pipe of the child's own, or from a socket
 *     that keeps them whole (SOCK_SEQPACKET), and calls dnstap_log_payload. The child asks
 *     dnstap_wants before the fork, sets the message's identity and version, calls dnstap_encode,
 *     and waits while the pipe is full. One connection, one ring: what that holds no outage costs.
 *     It is the only way for files, which have one writer, and for taps that listen.
 *   - On its own: dnstap_after_fork, the messages, and at its end dnstap_flush and dnstap_close.
 *     For a short life set options.producers to 1 and timeout_ms to a second, that a sink that
 *     hangs be given up soon, and let dnstap_flush outlast the outages that are to cost nothing:
 *     what is unsent when it gives up goes with the child. If that does not suit the parent, it
 *     opens a second tap with such options and never starts it; a child that logs to that needs no
 *     dnstap_after_fork.
 *   A tap in memory that processes share does not work: the first that logs takes the wake-up that
 *   was the service's, which sleeps on.
 *
 * A SERVER THAT REPLACES ITSELF
 *   Taps that connect: old and new each have a connection. A file: the new tap opens, keeps its
 *   messages, and writes when the old one has closed. A socket that is listened on: dnstap_open
 *   fails as long as the old process listens, be it unix or tcp; let the old one dnstap_close
 *   first, or call dnstap_open again until it works. Nothing is in its way then: sinks that dial
 *   come back (ours after 100 ms, at first). What exec(2) or a crash leaves is replaced at once.
 *   Without a gap: a parent opens the tap, and workers start it. A new one may while the old still
 *   serves; sinks of the old come to the new, and the socket stays until the parent closes.
 *
 * MEMORY
 *   All of it in one block when the tap opens: malloc'ed by dnstap_open, yours with dnstap_open_in.
 *   After that only a name's look-up allocates, in its own thread. A ring is options.ring_size
 *   bytes for each producer and one shared; pages of it are touched only as far as they are needed.
 *   So where malloc refuses what a long queue may take, address space is reserved for it instead.
 *   Under mlockall(MCL_FUTURE) all of it is resident: (producers + 1) × ring_size, by default 18
 *   MiB, with full 72. Lower options.producers to the threads that log, and ring_size or queue;
 *   or, on Linux, lock only what is touched, with MCL_ONFAULT besides.
 *
 * FILTERS
 *   options.types, rcodes, zones, sample and filter say what is logged, and anonymize_v4 and v6 how
 *   much of addresses leaves the process: see >>filter for what each means. All is asked before
 *   anything is encoded, and dnstap_wants knows the types, so that you need not fill a message in.
 *       static const char *const zones[] = {"example.org", "example.net", NULL};
 *       options.types = 1u << DNSTAP_MSG_CLIENT_QUERY | 1u << DNSTAP_MSG_CLIENT_RESPONSE;
 *       options.zones = zones;
 *       options.sample = 100;                          (set m.transaction: both or none)
 *       options.anonymize_v4 = 24, options.anonymize_v6 = 48;
 *   As configuration text: types CQ CR, zone example.org example.net, sample 100, anonymize 24 48.
 *
 * WHAT IS DROPPED WHEN
 *   Nothing is dropped while rings have room, connected or not: after an outage the ring's
 *   messages go first, in order. A full ring drops the new message. Each cause has its counter:
 *   full, too large, busy (the shared ring's lock), bad (can't be encoded), disconnected (only with
 *   drop_when_disconnected). dnstap_status always adds up:
 *       logged = recorded + unwanted + dropped      recorded = sent + discarded + queued
 *   where unwanted is what was disabled, found no sink (listening), or was kept back by a filter,
 *   each of which has its counter; and of a listening tap, in all and for each sink:
 *       offered = sent + lost + behind
 *   `sent` means handed to the kernel whole. What the kernel still held when a sink died is lost,
 *   and nobody can count it. A connection that breaks inside a frame: the next one begins with that
 *   frame again; no frame is cut or repeated on one connection.
 *
 * FILES
 *   A new file begins with START; an old one that holds dnstap is continued behind its last whole
 *   frame (options.overwrite: begun anew); anything else is refused. dnstap_reopen ends the file
 *   with STOP and goes on in what is at its path then; the old one is final when a dnstap_flush
 *   after it has returned DNSTAP_OK. A full disk and a file-size limit are reported, and tried
 *   again, from dnstap_open on: nothing half-written stays. Files are written in the service's
 *   thread; a file system that hangs hangs it, and dnstap_close with it, but never a producer.
 *   One tap writes a file. Another one, in this process or the next, opens all the same and waits
 *   until the first has closed, so that a server may start before the one that it replaces has
 *   ended. The lock is flock's, and fcntl's for the process: a forked child that lives on holds up
 *   nobody once its parent has closed or reopened; after a crash of the parent it does, until it
 *   ends or calls dnstap_close. On file systems without locks two writers spoil the file.
 *
 * TLS
 *   TLS 1.2 with ECDHE and AES-GCM or ChaCha20-Poly1305, by BearSSL; 1.3 it does not have. Verified
 *   by default: the chain up to a CA (options.ca_file, else the system's), the dates, the name (or
 *   the address: iPAddress) in the certificate's subjectAltName; a common name is none. What a CA's
 *   own certificate says counts in each handshake: its dates and its path length. One that may not
 *   sign (keyCertSign), has a critical extension that is not understood, a key that can't be used,
 *   or is a TRUSTED CERTIFICATE, is skipped, and one that is no CA's trusted for itself only; the
 *   log tells. Not looked at: revocation (CRL, OCSP), extended key usage (but of sinks that come to
 *   us) and name constraints (a certificate where they are critical is refused). Not supported:
 *   RSA-PSS and Ed25519 certificates. skipverify turns all of that off.
 *   Files that changed are read again at the next connection; what can't be used then leaves in
 *   use what was loaded before. A file has at most 16 MiB. A pipe is read once, in at most 4 s,
 *   when the tap opens. Keys are wiped from memory when the tap closes or does not open.
 *
 * ERRORS AND LOG
 *   What fails for outside reasons fills in a dnstap_error: its text names the thing, the failure
 *   and the way out. What comes from outside (a path, a certificate) is shown as UTF-8; what is
 *   none, or what a terminal would obey, byte by byte, as \x1b. options.log gets a line when a
 *   connection is lost and one when it is back, and at most every 10 s one for dropped messages; it
 *   is called from service only, and from dnstap_flush and dnstap_close where they do the service's
 *   work.
 *
 * LIMITS
 *   A frame is at most options.max_message bytes, which is at most half a ring. A name's look-up by
 *   getaddrinfo may need the very resolver that logs: use a numeric address there. At most 8
 *   addresses of a name are tried. On Linux the number of taps in a process is bounded by its 1,024
 *   thread-specific keys.
 *
 * MACROS (define them before the implementation)
 *   DNSTAP_STATIC       all functions static: for one file, the implementation's
 *   DNSTAP_API          linkage of your own           DNSTAP_ASSERT(x) default nothing
 *   DNSTAP_NO_X         leaves X out, and what needs it; the same in all files
 *   DNSTAP_MINIMAL      leaves out all of these, but with DNSTAP_WITH_X not X
 *     X           what is missing then
 *     TEXT        texts: of errors, for the log, the schema's names; METRICS
 *     ENDPOINT    endpoints; SOCKETS, FILES, TLS, DIRECTIVE
 *     SOCKETS     unix, tcp, tls; LISTEN
 *     FILES       file://
 *     LISTEN      taps and sinks that listen, the server half of TLS
 *     THREADS     dnstap_start; names are looked up when the tap opens
 *     MALLOC      dnstap_open; SINK; names are looked up as above
 *     TLS         tls://, BearSSL; RSA, CURVES
 *     RSA         of TLS: RSA certificates and keys
 *     CURVES      of TLS: all but P-256 and SHA-256
 *     READER      dnstap_decode, dnstap_frame_reader; FILES, SINK, FILTER
 *     SINK        dnstap_sink
 *     DIRECTIVE   configuration text
 *     METRICS     dnstap_metrics
 *     EXTRA       templates
 *     FILTER      options.types and what is like it: what is logged, anonymizing
 *     DESCRIPTORS nanopb's encoder; code of ours makes the same bytes
 *     RARE        dnstap_log of policies, own identities, longer addresses
 *     LOOP        options.watch and timer
 *   DNSTAP_POSIX        this system is like POSIX, though the compiler does not say so (NuttX,
 *                       Zephyr, ESP-IDF); leave out what it lacks. DNSTAP_NO_POSIX: it is not
 *   DNSTAP_MALLOC(size), DNSTAP_FREE(memory)          default malloc and free
 *   DNSTAP_CACHE_LINE   default 64; the word's size without threads
 *   DNSTAP_LOAD, DNSTAP_STORE, DNSTAP_LOAD_ACQUIRE, DNSTAP_STORE_RELEASE, DNSTAP_EXCHANGE,
 *   DNSTAP_COMPARE_EXCHANGE, DNSTAP_COMPILER_FENCE
 *                       default __atomic builtins on size_t; define all or none
 *   Without POSIX (newlib) there are no sockets, files and threads, and no malloc unless you define
 *   DNSTAP_MALLOC: set options.transport, options.monotonic_ms and, for TLS, which is there when
 *   <bearssl.h> is or with DNSTAP_WITH_TLS, entropy and unix_time.
 */
#if defined(DNSTAP_IMPLEMENTATION) && !defined(_POSIX_C_SOURCE) && !defined(_GNU_SOURCE) && \
    !defined(_DEFAULT_SOURCE)
#define _POSIX_C_SOURCE 200809L
#define _DEFAULT_SOURCE 1
#endif
#if defined(DNSTAP_IMPLEMENTATION) && !defined(_FILE_OFFSET_BITS)
#define _FILE_OFFSET_BITS 64 /* files beyond 2 GiB on 32-bit machines */
#endif

#ifndef DNSTAP_H_INCLUDED
#define DNSTAP_H_INCLUDED

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DNSTAP_VERSION "0.1.0"

struct sockaddr;
struct timespec;
struct pollfd;

/* What this build has, decided once, as 0 or 1; all else asks DNSTAP__HAS_X. DNSTAP_NO_X leaves X
 * out, DNSTAP_MINIMAL all that no DNSTAP_WITH_X asks for, and nothing is there without what it
 * needs. */
#if (defined(__unix__) || defined(__APPLE__) || defined(DNSTAP_POSIX)) && !defined(DNSTAP_NO_POSIX)
#define DNSTAP__POSIX 1
#else
#define DNSTAP__POSIX 0
#endif
#ifdef DNSTAP_MINIMAL
#define DNSTAP__ALL 0
#else
#define DNSTAP__ALL 1
#endif
#if !defined(DNSTAP_NO_TEXT) && (DNSTAP__ALL || defined(DNSTAP_WITH_TEXT))
#define DNSTAP__HAS_TEXT 1
#else
#define DNSTAP__HAS_TEXT 0
#endif
#if !defined(DNSTAP_NO_THREADS) && (DNSTAP__ALL || defined(DNSTAP_WITH_THREADS)) && DNSTAP__POSIX
#define DNSTAP__HAS_THREADS 1
#else
#define DNSTAP__HAS_THREADS 0
#endif
#if !defined(DNSTAP_NO_MALLOC) && (DNSTAP__ALL || defined(DNSTAP_WITH_MALLOC)) && \
    (DNSTAP__POSIX || defined(DNSTAP_MALLOC))
#define DNSTAP__HAS_MALLOC 1
#else
#define DNSTAP__HAS_MALLOC 0
#endif
#if !defined(DNSTAP_NO_ENDPOINT) &&                                                  \
    (DNSTAP__ALL || defined(DNSTAP_WITH_ENDPOINT) || defined(DNSTAP_WITH_SOCKETS) || \
     defined(DNSTAP_WITH_FILES) || defined(DNSTAP_WITH_TLS))
#define DNSTAP__HAS_ENDPOINT 1
#else
#define DNSTAP__HAS_ENDPOINT 0
#endif
#if !defined(DNSTAP_NO_READER) && (DNSTAP__ALL || defined(DNSTAP_WITH_READER) || \
                                   defined(DNSTAP_WITH_FILES) || defined(DNSTAP_WITH_SINK))
#define DNSTAP__HAS_READER 1
#else
#define DNSTAP__HAS_READER 0
#endif
#if !defined(DNSTAP_NO_DESCRIPTORS) && (DNSTAP__ALL || defined(DNSTAP_WITH_DESCRIPTORS))
#define DNSTAP__HAS_DESCRIPTORS 1
#else
#define DNSTAP__HAS_DESCRIPTORS 0
#endif
#if !defined(DNSTAP_NO_RARE) && \
    (DNSTAP__ALL || defined(DNSTAP_WITH_RARE) || defined(DNSTAP_WITH_DESCRIPTORS))
#define DNSTAP__HAS_RARE 1
#else
#define DNSTAP__HAS_RARE 0
#endif
#if !defined(DNSTAP_NO_LOOP) && (DNSTAP__ALL || defined(DNSTAP_WITH_LOOP))
#define DNSTAP__HAS_LOOP 1
#else
#define DNSTAP__HAS_LOOP 0
#endif
#if !defined(DNSTAP_NO_EXTRA) && (DNSTAP__ALL || defined(DNSTAP_WITH_EXTRA))
#define DNSTAP__HAS_EXTRA 1
#else
#define DNSTAP__HAS_EXTRA 0
#endif
#if !defined(DNSTAP_NO_FILTER) && (DNSTAP__ALL || defined(DNSTAP_WITH_FILTER)) && DNSTAP__HAS_READER
#define DNSTAP__HAS_FILTER 1
#else
#define DNSTAP__HAS_FILTER 0
#endif
#if !defined(DNSTAP_NO_SOCKETS) && (DNSTAP__ALL || defined(DNSTAP_WITH_SOCKETS)) && \
    DNSTAP__POSIX && DNSTAP__HAS_ENDPOINT
#define DNSTAP__HAS_SOCKETS 1
#else
#define DNSTAP__HAS_SOCKETS 0
#endif
#if !defined(DNSTAP_NO_FILES) && (DNSTAP__ALL || defined(DNSTAP_WITH_FILES)) && DNSTAP__POSIX && \
    DNSTAP__HAS_ENDPOINT && DNSTAP__HAS_READER
#define DNSTAP__HAS_FILES 1
#else
#define DNSTAP__HAS_FILES 0
#endif
#if !defined(DNSTAP_NO_LISTEN) && (DNSTAP__ALL || defined(DNSTAP_WITH_LISTEN)) && \
    DNSTAP__HAS_SOCKETS
#define DNSTAP__HAS_LISTEN 1
#else
#define DNSTAP__HAS_LISTEN 0
#endif
#if !defined(DNSTAP_NO_SINK) && (DNSTAP__ALL || defined(DNSTAP_WITH_SINK)) && \
    DNSTAP__HAS_MALLOC && DNSTAP__HAS_READER && (DNSTAP__HAS_SOCKETS || DNSTAP__HAS_FILES)
#define DNSTAP__HAS_SINK 1
#else
#define DNSTAP__HAS_SINK 0
#endif
#if !defined(DNSTAP_NO_METRICS) && (DNSTAP__ALL || defined(DNSTAP_WITH_METRICS)) && DNSTAP__HAS_TEXT
#define DNSTAP__HAS_METRICS 1
#else
#define DNSTAP__HAS_METRICS 0
#endif
#if !defined(DNSTAP_NO_DIRECTIVE) && (DNSTAP__ALL || defined(DNSTAP_WITH_DIRECTIVE)) && \
    DNSTAP__HAS_ENDPOINT
#define DNSTAP__HAS_DIRECTIVE 1
#else
#define DNSTAP__HAS_DIRECTIVE 0
#endif
#if DNSTAP__POSIX
#define DNSTAP__FINDS_TLS 1
#elif defined(__has_include)
#if __has_include(<bearssl.h>)
#define DNSTAP__FINDS_TLS 1
#endif
#endif
#ifndef DNSTAP__FINDS_TLS
#define DNSTAP__FINDS_TLS 0
#endif
#if !defined(DNSTAP_NO_TLS) && DNSTAP__HAS_ENDPOINT && \
    (defined(DNSTAP_WITH_TLS) || (DNSTAP__ALL && DNSTAP__FINDS_TLS))
#define DNSTAP__HAS_TLS 1
#else
#define DNSTAP__HAS_TLS 0
#endif
#if !defined(DNSTAP_NO_RSA) && (DNSTAP__ALL || defined(DNSTAP_WITH_RSA)) && DNSTAP__HAS_TLS
#define DNSTAP__HAS_RSA 1
#else
#define DNSTAP__HAS_RSA 0
#endif

#if defined(DNSTAP_STATIC) && !defined(DNSTAP_IMPLEMENTATION)
#error "dnstap.h: DNSTAP_STATIC is for the one file that defines DNSTAP_IMPLEMENTATION too"
#undef DNSTAP_STATIC /* one error is enough */
#endif
#ifndef DNSTAP_API
#ifdef DNSTAP_STATIC
#if defined(__GNUC__)
#define DNSTAP_API static __attribute__((unused))
#else
#define DNSTAP_API static
#endif
#else
#define DNSTAP_API extern
#endif
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---- >>results ---------------------------------------------------------------------------- */

/* Every function that can fail returns one of these; sizes and counts are positive. */
#define DNSTAP_RESULTS(X)                                                                      \
    X(DNSTAP_OK, 0, "success")                                                                 \
    X(DNSTAP_AGAIN, -1, "would block; call again when it is ready")                            \
    X(DNSTAP_END, -2, "end of stream")                                                         \
    X(DNSTAP_RING_FULL, -3, "ring full; raise options.queue or options.ring_size")             \
    X(DNSTAP_TOO_LARGE, -4, "message larger than options.max_message; raise it")               \
    X(DNSTAP_BUSY, -5, "threads beyond options.producers wait for one ring; raise producers")  \
    X(DNSTAP_BAD_OPTION, -6, "option refused")                                                 \
    X(DNSTAP_BAD_MESSAGE, -7, "message can't be encoded; its type, a port or a time is wrong") \
    X(DNSTAP_BAD_PAYLOAD, -8, "payload is not dnstap")                                         \
    X(DNSTAP_BAD_FRAME, -9, "not Frame Streams, or against its rules")                         \
    X(DNSTAP_NO_MEMORY, -10, "memory given or allocated is too small")                         \
    X(DNSTAP_SYSTEM, -11, "a system call failed")                                              \
    X(DNSTAP_TLS, -12, "TLS failed")                                                           \
    X(DNSTAP_TIMEOUT, -13, "no progress before the deadline")                                  \
    X(DNSTAP_UNSUPPORTED, -14, "not for this tap or process, or left out of this build")       \
    X(DNSTAP_DISCONNECTED, -15, "not connected, and options.drop_when_disconnected is set")    \
    X(DNSTAP_CUT, -16, "stream ends inside a frame")                                           \
    X(DNSTAP_NO_PLACE, -17, "all places are taken; raise max_connections or max_sinks")

/* clang-format off */
typedef enum dnstap_result {
#define DNSTAP__X(name, value, text) name = value,
    DNSTAP_RESULTS(DNSTAP__X)
#undef DNSTAP__X
    DNSTAP_RESULT_LAST = -17
} dnstap_result;
/* clang-format on */

enum { DNSTAP_ERROR_TEXT = DNSTAP__HAS_TEXT ? 256 : 1 };

/* What went wrong, on what, and what to do. */
typedef struct dnstap_error {
    int code;         /* a dnstap_result */
    int sys_errno;    /* errno; with DNSTAP_TLS BearSSL's error; else 0 */
    int line, column; /* in configuration text, from 1; else 0 */
    char text[DNSTAP_ERROR_TEXT];
} dnstap_error;

/* The result's text, never NULL. Any thread. */
DNSTAP_API const char *dnstap_strerror(int result);

/* ---- >>message ---------------------------------------------------------------------------- */

/* Borrowed bytes. data NULL: absent; DNSTAP_EMPTY: present and empty. */
typedef struct dnstap_bytes {
    const void *data;
    size_t size;
} dnstap_bytes;
/* clang-format off */
#define DNSTAP_EMPTY {"", 0}
/* clang-format on */

/* The schema's enumerations: X(constant, number, the schema's name, short name). The names are only
 * texts: DROP, TCP or NXDOMAIN are macros in many a server. Numbers a newer schema adds may be
 * used as they are, up to INT32_MAX. */
/* clang-format off */
#define DNSTAP_MESSAGE_TYPES(X) \
    X(DNSTAP_MSG_AUTH_QUERY, 1, "AUTH_QUERY", "AQ") \
    X(DNSTAP_MSG_AUTH_RESPONSE, 2, "AUTH_RESPONSE", "AR") \
    X(DNSTAP_MSG_RESOLVER_QUERY, 3, "RESOLVER_QUERY", "RQ") \
    X(DNSTAP_MSG_RESOLVER_RESPONSE, 4, "RESOLVER_RESPONSE", "RR") \
    X(DNSTAP_MSG_CLIENT_QUERY, 5, "CLIENT_QUERY", "CQ") \
    X(DNSTAP_MSG_CLIENT_RESPONSE, 6, "CLIENT_RESPONSE", "CR") \
    X(DNSTAP_MSG_FORWARDER_QUERY, 7, "FORWARDER_QUERY", "FQ") \
    X(DNSTAP_MSG_FORWARDER_RESPONSE, 8, "FORWARDER_RESPONSE", "FR") \
    X(DNSTAP_MSG_STUB_QUERY, 9, "STUB_QUERY", "SQ") \
    X(DNSTAP_MSG_STUB_RESPONSE, 10, "STUB_RESPONSE", "SR") \
    X(DNSTAP_MSG_TOOL_QUERY, 11, "TOOL_QUERY", "TQ") \
    X(DNSTAP_MSG_TOOL_RESPONSE, 12, "TOOL_RESPONSE", "TR") \
    X(DNSTAP_MSG_UPDATE_QUERY, 13, "UPDATE_QUERY", "UQ") \
    X(DNSTAP_MSG_UPDATE_RESPONSE, 14, "UPDATE_RESPONSE", "UR")
#define DNSTAP_SOCKET_FAMILIES(X) \
    X(DNSTAP_FAMILY_INET, 1, "INET", "") \
    X(DNSTAP_FAMILY_INET6, 2, "INET6", "")
#define DNSTAP_SOCKET_PROTOCOLS(X) \
    X(DNSTAP_PROTOCOL_UDP, 1, "UDP", "") \
    X(DNSTAP_PROTOCOL_TCP, 2, "TCP", "") \
    X(DNSTAP_PROTOCOL_DOT, 3, "DOT", "") \
    X(DNSTAP_PROTOCOL_DOH, 4, "DOH", "") \
    X(DNSTAP_PROTOCOL_DNSCryptUDP, 5, "DNSCryptUDP", "") \
    X(DNSTAP_PROTOCOL_DNSCryptTCP, 6, "DNSCryptTCP", "") \
    X(DNSTAP_PROTOCOL_DOQ, 7, "DOQ", "")
#define DNSTAP_HTTP_PROTOCOLS(X) \
    X(DNSTAP_HTTP_HTTP1, 1, "HTTP1", "") \
    X(DNSTAP_HTTP_HTTP2, 2, "HTTP2", "") \
    X(DNSTAP_HTTP_HTTP3, 3, "HTTP3", "")
#define DNSTAP_POLICY_ACTIONS(X) \
    X(DNSTAP_ACTION_NXDOMAIN, 1, "NXDOMAIN", "") \
    X(DNSTAP_ACTION_NODATA, 2, "NODATA", "") \
    X(DNSTAP_ACTION_PASS, 3, "PASS", "") \
    X(DNSTAP_ACTION_DROP, 4, "DROP", "") \
    X(DNSTAP_ACTION_TRUNCATE, 5, "TRUNCATE", "") \
    X(DNSTAP_ACTION_LOCAL_DATA, 6, "LOCAL_DATA", "")
#define DNSTAP_POLICY_MATCHES(X) \
    X(DNSTAP_MATCH_QNAME, 1, "QNAME", "") \
    X(DNSTAP_MATCH_CLIENT_IP, 2, "CLIENT_IP", "") \
    X(DNSTAP_MATCH_RESPONSE_IP, 3, "RESPONSE_IP", "") \
    X(DNSTAP_MATCH_NS_NAME, 4, "NS_NAME", "") \
    X(DNSTAP_MATCH_NS_IP, 5, "NS_IP", "")
enum {
#define DNSTAP__X(constant, value, name, brief) constant = value,
    DNSTAP_MESSAGE_TYPES(DNSTAP__X)
    DNSTAP_SOCKET_FAMILIES(DNSTAP__X)
    DNSTAP_SOCKET_PROTOCOLS(DNSTAP__X)
    DNSTAP_HTTP_PROTOCOLS(DNSTAP__X)
    DNSTAP_POLICY_ACTIONS(DNSTAP__X)
    DNSTAP_POLICY_MATCHES(DNSTAP__X)
#undef DNSTAP__X
    DNSTAP_ENUMS_LAST = 0
};
/* clang-format on */

/* What a response policy did to the message. */
typedef struct dnstap_policy {
    uint32_t action, match;   /* DNSTAP_ACTION_…, DNSTAP_MATCH_…; 0: absent */
    dnstap_bytes type;        /* text, such as RPZ */
    dnstap_bytes rule, value; /* for RPZ, rule is the owner name in wire format */
} dnstap_policy;

/* What happened. Zeroed: all absent. A number is present when it is non-zero or when its bit,
 * 1u << field number of the schema, is set in `present`. All pointers are borrowed until
 * dnstap_log or dnstap_encode returns. The query address is the initiator's, the response address
 * the responder's, in responses too. */
typedef struct dnstap_message {
    uint32_t type;                                /* DNSTAP_MSG_…, required */
    uint32_t present;                             /* see above */
    uint32_t socket_family;                       /* DNSTAP_FAMILY_… */
    uint32_t socket_protocol;                     /* DNSTAP_PROTOCOL_… */
    uint32_t http_protocol;                       /* DNSTAP_HTTP_…, with DOH only */
    uint32_t query_port, response_port;           /* at most 65,535 */
    uint32_t query_time_nsec, response_time_nsec; /* below 1e9 */
    uint64_t query_time_sec, response_time_sec;   /* since 1970, UTC */
    dnstap_bytes query_address, response_address; /* 4 or 16 bytes, by family */
    dnstap_bytes query_message, response_message; /* DNS wire format */
    dnstap_bytes query_zone;                      /* name in wire format */
    const dnstap_policy *policy;                  /* NULL: absent */
    dnstap_bytes identity, version;               /* absent: the tap's */
    dnstap_bytes extra;                           /* anything; absent: what options.extra makes */
    /* never encoded, for options.extra, filters and hooks */
    dnstap_bytes request;                       /* the client's query; absent: query_message */
    dnstap_bytes client_address, local_address; /* the client's, ours: 4 or 16 bytes; 20: IPv6 and
                                                   its scope's number as in a sockaddr_in6 */
    uint32_t client_port, client_protocol;
    uint64_t transaction; /* the same of a query and its response, for options.sample; 0: none */
    void *user;           /* the hooks' */
} dnstap_message;

/* Clears m and sets its type; faster than `= {0}` with gcc. */
DNSTAP_API void dnstap_message_start(dnstap_message *m, uint32_t type);

#if DNSTAP__POSIX
/* Set address, port, family and protocol from an AF_INET or AF_INET6 address, which must live as
 * long as m. An IPv4-mapped address becomes INET with 4 bytes. DNSTAP_BAD_MESSAGE, and m as it
 * was: another family, or not that of the other address. */
DNSTAP_API int dnstap_set_query_address(dnstap_message *m, const struct sockaddr *address,
                                        uint32_t protocol);
DNSTAP_API int dnstap_set_response_address(dnstap_message *m, const struct sockaddr *address,
                                           uint32_t protocol);
/* Set who asked us, and our address, for options.extra: the message's own two may be those of a
 * server that is asked in turn, and do for themselves where they are not. As above. */
DNSTAP_API int dnstap_set_client_address(dnstap_message *m, const struct sockaddr *address,
                                         uint32_t protocol);
DNSTAP_API int dnstap_set_local_address(dnstap_message *m, const struct sockaddr *address);
/* Starts m and sets all that a server knows when a query or a response comes in or goes out: who
 * asks and who answers, when it was asked and (responses) answered, and the DNS message, which is
 * the query or the response as type says. NULL: not known. All must live as long as m. What is
 * wrong in it (an address of another family) dnstap_log refuses as DNSTAP_BAD_MESSAGE. */
DNSTAP_API void dnstap_fill(dnstap_message *m, uint32_t type, const struct sockaddr *query_address,
                            const struct sockaddr *response_address, uint32_t protocol,
                            const struct timespec *asked, const struct timespec *answered,
                            const void *wire, size_t size);
#endif
/* The same without sockaddr: ip has 4 or 16 bytes, in network order. */
DNSTAP_API int dnstap_set_query_ip(dnstap_message *m, const void *ip, size_t size, uint16_t port,
                                   uint32_t protocol);
DNSTAP_API int dnstap_set_response_ip(dnstap_message *m, const void *ip, size_t size, uint16_t port,
                                      uint32_t protocol);
/* Whether a message of this type is a response. */
DNSTAP_API bool dnstap_is_response(uint32_t type);

/* Set seconds and nanoseconds, as present even where they are 0; times before 1970 are absent, and
 * a clock of 32 bits is taken to go on to 2106. */
DNSTAP_API void dnstap_set_query_time(dnstap_message *m, const struct timespec *time);
DNSTAP_API void dnstap_set_response_time(dnstap_message *m, const struct timespec *time);

/* {data, size}; data NULL: absent. */
DNSTAP_API dnstap_bytes dnstap_bytes_of(const void *data, size_t size);

#if DNSTAP__HAS_TEXT
/* Names as in the schema: NULL for a number without a name, 0 for an unknown name. Any thread.
 * dnstap_message_type_from also takes the short form, CQ for CLIENT_QUERY. */
DNSTAP_API const char *dnstap_message_type_name(uint32_t value);
DNSTAP_API const char *dnstap_socket_family_name(uint32_t value);
DNSTAP_API const char *dnstap_socket_protocol_name(uint32_t value);
DNSTAP_API const char *dnstap_http_protocol_name(uint32_t value);
DNSTAP_API const char *dnstap_policy_action_name(uint32_t value);
DNSTAP_API const char *dnstap_policy_match_name(uint32_t value);
DNSTAP_API uint32_t dnstap_message_type_from(const char *name);
DNSTAP_API uint32_t dnstap_socket_family_from(const char *name);
DNSTAP_API uint32_t dnstap_socket_protocol_from(const char *name);
DNSTAP_API uint32_t dnstap_http_protocol_from(const char *name);
DNSTAP_API uint32_t dnstap_policy_action_from(const char *name);
DNSTAP_API uint32_t dnstap_policy_match_from(const char *name);
#endif

/* ---- >>codec ------------------------------------------------------------------------------ */

/* Encodes m as a dnstap payload, without frame. Returns its size; out NULL: the size it would
 * have. DNSTAP_BAD_MESSAGE: no type, an enumerated value above INT32_MAX, a port above 65,535,
 * nanoseconds above 999,999,999. DNSTAP_NO_MEMORY: size is too small. Any thread. */
DNSTAP_API long dnstap_encode(const dnstap_message *m, void *out, size_t size);

#if DNSTAP__HAS_READER
/* Decodes a payload; m borrows from it, and m->policy points to policy when there is one. Unknown
 * fields are skipped, of duplicates the last counts, bit 1 of m->present is clear when the payload
 * holds no message. DNSTAP_BAD_PAYLOAD: not protobuf, a required field is missing, or not of type
 * MESSAGE. Any thread. */
DNSTAP_API int dnstap_decode(dnstap_message *m, dnstap_policy *policy, const void *payload,
                             size_t size);
#endif

/* ---- >>extra ------------------------------------------------------------------------------ */

/* options.extra is a template in the language of CoreDNS's plugin, of which each message's `extra`
 * is made: text, with labels in it that become what they stand for:
 *   {type} {name} {class}   of the question: AAAA, example.org. and IN, or TYPE65280, CLASS255
 *   {>id} {>opcode} {>do}   of the query: numbers; true or false
 *   {size} {>bufsize}       the query's bytes, were its names not compressed; what the client
 *                           takes, at least 512, over TCP 65535
 *   {remote} {port}         the client's: 192.0.2.1 or [2001:db8::1]
 *   {proto} {local}         udp or tcp; our address
 *   {rcode} {rsize}         of the response: NXDOMAIN; how many bytes it has
 *   {duration}              from query time to response time: 0.0125s
 *   {>rflags}               always -, as there
 *   {/label}                what options.metadata says of it
 * The query is m.request, else m.query_message, whether it is logged or not. The client is told by
 * m.client_address and its like; where there is none, in AUTH, CLIENT and UPDATE messages by the
 * query's address, and ours by the response's. What is not known becomes -; in a query without a
 * sound question, type and class are empty and the name is a dot. Names are in lower case; what is
 * not printable in them is \DDD, and a \ stands before space and any of "'().;@\. What is not
 * exactly a label stays as it is. */
enum { DNSTAP_METADATA_MAX = 255, DNSTAP_TEMPLATE_MAX = 65535 };

/* ---- >>filter ----------------------------------------------------------------------------- */

/* What a tap logs is asked of each message before anything of it is encoded, in this order; what
 * keeps it back is counted in the status, and a tap without filters pays nothing:
 *   types     a bit for each type, 31 for it and all above; dnstap_wants knows them
 *   rcodes    a bit for each rcode, with EDNS's part of it, 63 for it and all above; of responses
 *             only. One without DNS bytes has none and is not logged
 *   zones     the question's name is in one of them: the whole name, or whole labels at its end, in
 *             either case. The question is that of the query's message, or of the response's in
 *             responses; where there is none, of the other, or of m.request. Without a sound
 *             question a message is in no zone, not even in the root, which has all others. A zone
 *             is text: example.org, with or without the dot at its end, \. and \046 for what is
 *             special; xn--… for what is not ASCII. Each costs a nanosecond or two
 *   sample    one in so many by chance, of what came so far: of messages with the same
 *             m.transaction all or none, and alike in each tap and process; of others each by
 *             itself
 *   filter    a function, which has the last word
 *
 * anonymize_v4 and anonymize_v6 are how many bits of an address leave the process; the rest is 0:
 * in query_address and response_address, whoever's they are (a resolver's own tell who asked, too),
 * in {remote} and {local} of extra, and in client subnets (RFC 7871) of DNS messages, whose prefix
 * lengths stay. IPv4 in IPv6 is cut as IPv4 (mapped), or to the shorter of both (NAT64, 6to4). An
 * address of a wrong length is left out. A message whose records can't all be walked to their end,
 * so that a subnet might be hidden there, goes without its DNS bytes, and is counted as stripped.
 * What you hand over is not changed, filter and metadata see it whole, and what they and you put
 * into extra, identity, policy and names is yours; so are addresses in names and records.
 *
 * A payload (dnstap_log_payload) is decoded when the tap filters, refused as DNSTAP_BAD_MESSAGE
 * when it can't be, and logged as it is if it passes. When addresses are cut, it is logged as
 * dnstap_log would what it says, and nothing else that is in it. */
enum { DNSTAP_ZONES_MAX = 1024, DNSTAP_KEEP_NONE = 255 };

/* ---- >>frame ------------------------------------------------------------------------------ */

/* Frame Streams as two state machines without input or output. A data frame is its length, 32 bits
 * big endian, and its bytes; length 0 announces a control frame. */
#define DNSTAP_FRAME_CONTENT_TYPE "protobuf:dnstap.Dnstap"
enum { DNSTAP_FRAME_HEADER = 4, DNSTAP_FRAME_CONTROL_MAX = 512 };

typedef enum dnstap_control {
    DNSTAP_CONTROL_ACCEPT = 1,
    DNSTAP_CONTROL_START = 2,
    DNSTAP_CONTROL_STOP = 3,
    DNSTAP_CONTROL_READY = 4,
    DNSTAP_CONTROL_FINISH = 5
} dnstap_control;

/* The side that sends data. Each state says whose turn it is. */
typedef enum dnstap_writer_state {
    DNSTAP_WRITER_READY,  /* we send READY (bidirectional) */
    DNSTAP_WRITER_ACCEPT, /* the peer sends ACCEPT (bidirectional) */
    DNSTAP_WRITER_START,  /* we send START */
    DNSTAP_WRITER_DATA,   /* we send data frames, until dnstap_frame_writer_stop */
    DNSTAP_WRITER_STOP,   /* we send STOP */
    DNSTAP_WRITER_FINISH, /* the peer sends FINISH (bidirectional) */
    DNSTAP_WRITER_END,    /* the stream is over */
    DNSTAP_WRITER_FAILED  /* the peer broke the rules: close */
} dnstap_writer_state;

/* A control frame, as far as it came: nothing of it is kept but what counts. */
typedef struct dnstap_control_frame {
    uint32_t word, type;    /* the last four bytes */
    uint16_t have, size;    /* bytes of it that came; of it, once that is known */
    uint16_t field, length; /* bytes of a field that came; of its content type */
    uint8_t content_types;  /* none, one, or more */
    bool same, matches;     /* this one is ours so far; ours is among them, or there is none */
} dnstap_control_frame;

typedef struct dnstap_frame_writer {
    dnstap_writer_state state;
    bool bidirectional;
    uint16_t sent;                 /* bytes of the control frame that is going out */
    dnstap_control_frame received; /* the one that comes in */
} dnstap_frame_writer;

/* Begins a stream; bidirectional on sockets, else without READY, ACCEPT and FINISH. */
DNSTAP_API void dnstap_frame_writer_init(dnstap_frame_writer *w, bool bidirectional);
/* Asks for the end: STOP is next. Call it at a frame's edge, in state DATA. */
DNSTAP_API void dnstap_frame_writer_stop(dnstap_frame_writer *w);
/* The control bytes to send now, static; size 0: none. Then tell how many of them went out. */
DNSTAP_API dnstap_bytes dnstap_frame_writer_next(const dnstap_frame_writer *w);
DNSTAP_API void dnstap_frame_writer_sent(dnstap_frame_writer *w, size_t size);
/* Takes any number of received bytes. DNSTAP_OK; DNSTAP_END: FINISH came, even when it was not yet
 * due; DNSTAP_BAD_FRAME. */
DNSTAP_API int dnstap_frame_writer_receive(dnstap_frame_writer *w, const void *data, size_t size);

#if DNSTAP__HAS_READER
/* The side that receives data. */
typedef enum dnstap_reader_state {
    DNSTAP_READER_READY, /* the peer sends READY (bidirectional) */
    DNSTAP_READER_START, /* the peer sends START */
    DNSTAP_READER_DATA,  /* the peer sends data frames, then STOP */
    DNSTAP_READER_END,   /* STOP came; what follows is not read */
    DNSTAP_READER_FAILED /* the peer broke the rules: close */
} dnstap_reader_state;

typedef struct dnstap_frame_reader {
    dnstap_reader_state state;
    bool bidirectional, owes_accept, owes_finish;
    bool either;       /* the caller's: in READY, START is taken, too, and bidirectional is over */
    uint16_t sent;     /* bytes of the control frame that is going out */
    uint8_t *buffer;   /* the caller's, for frames that come in pieces */
    size_t size, have; /* of buffer */
    uint64_t skip;     /* bytes of an oversize frame still to come */
    uint64_t skipped;  /* oversize frames so far */
} dnstap_frame_reader;

typedef enum dnstap_frame_kind {
    DNSTAP_FRAME_NONE,    /* more bytes are needed */
    DNSTAP_FRAME_CONTROL, /* a control frame: its type is in `control` */
    DNSTAP_FRAME_DATA,    /* a data frame: payload, until the next call */
    DNSTAP_FRAME_SKIPPED  /* a frame larger than the buffer: payload.size is its length */
} dnstap_frame_kind;

typedef struct dnstap_frame {
    dnstap_frame_kind kind;
    uint32_t control; /* dnstap_control, or an unknown type that was ignored */
    dnstap_bytes payload;
} dnstap_frame;

/* buffer belongs to the reader until its end; data frames larger than size - 4 are skipped and
 * counted. size is at least 8 + DNSTAP_FRAME_CONTROL_MAX. */
DNSTAP_API void dnstap_frame_reader_init(dnstap_frame_reader *r, void *buffer, size_t size,
                                         bool bidirectional);
/* Takes bytes up to the next frame's end. Returns how many were taken, and in frame what they
 * ended; call again with the rest. DNSTAP_END: the stream is over; DNSTAP_BAD_FRAME. */
DNSTAP_API long dnstap_frame_reader_feed(dnstap_frame_reader *r, const void *data, size_t size,
                                         dnstap_frame *frame);
/* As for the writer: what to send. */
DNSTAP_API dnstap_bytes dnstap_frame_reader_next(const dnstap_frame_reader *r);
DNSTAP_API void dnstap_frame_reader_sent(dnstap_frame_reader *r, size_t size);
/* What the peer's end of file means: DNSTAP_OK: after STOP; DNSTAP_END: between frames, without
 * STOP; DNSTAP_CUT: inside a frame; DNSTAP_BAD_FRAME: before START, or inside a skipped frame. */
DNSTAP_API int dnstap_frame_reader_eof(const dnstap_frame_reader *r);
#endif

/* ---- >>transport -------------------------------------------------------------------------- */

/* Events of poll(2), for machines without it too. */
enum { DNSTAP_POLLIN = 1, DNSTAP_POLLOUT = 4 };

/* How bytes travel. Nothing in it blocks or raises a signal. start brings the connection up, step
 * by step; send returns how many bytes reached the kernel, or the next transport, entirely (1 …
 * size); recv how many came. All may return DNSTAP_AGAIN, with what to wait for in *wants (0:
 * nothing that is known), or an error; send is called again with the same bytes after AGAIN; recv
 * returns DNSTAP_END at the peer's end. close may be called in any state, and start again after it.
 * self must outlive the tap. A tap greets over it unless options.unidirectional is set; with an
 * endpoint tls://host:port it speaks TLS over it. */
typedef struct dnstap_transport {
    void *self;
    int (*start)(void *self, short *wants); /* may be NULL: always up */
    long (*send)(void *self, const void *data, size_t size, short *wants);
    long (*recv)(void *self, void *data, size_t size, short *wants);
    int (*shut)(void *self, short *wants); /* orderly end, before close; may be NULL */
    void (*close)(void *self);
    int (*fd)(void *self);            /* -1 or NULL: none, service by time */
    const char *(*error)(void *self); /* text of the last failure, never NULL; may be NULL */
} dnstap_transport;

/* ---- >>tap -------------------------------------------------------------------------------- */

#define DNSTAP_FLUSH_NOW (-1)
#define DNSTAP_LOG_ERROR 1
#define DNSTAP_LOG_WARNING 2
#define DNSTAP_LOG_INFO 3

/* Zeroed is the default. Strings and blocks are copied when the tap opens. */
typedef struct dnstap_options {
    /* unix:///path, /path, tcp://host:port, tls://host:port, file:///path; with two slashes the
     * path is relative to the working directory, as it is when the tap opens, and so are the
     * paths of certificates; unix://@name: an abstract socket (Linux) */
    const char *endpoint;
    const char *identity;        /* NULL: host name; "": present and empty */
    const char *version;         /* NULL: dnstap.h-<version>; "": present and empty */
    bool full;                   /* log the DNS messages too */
    bool unidirectional;         /* no handshake, as in files */
    bool drop_when_disconnected; /* drop while there is no connection; default: keep in the ring */
    bool overwrite;              /* file: begin anew; default: append */
    bool listen;                 /* wait for sinks instead of connecting to one */
    uint32_t line; /* set by dnstap_parse: the directive's line, which errors name; 0: no text */
    bool coredns;  /* set by dnstap_parse: CoreDNS takes the directive too; errors say so */
    /* What these cost and buy, by make bench and the same programs with other values: rings above
     * 1 MiB cost nothing and last longer in an outage, 256 KiB cost a third more CPU at full speed.
     * A busy stream leaves every 128 KiB, or 32 above 80 MB/s of a thread, whatever flush_ms is,
     * which bounds how long a quiet one waits; DNSTAP_FLUSH_NOW wakes the service for each message:
     * at 20,000 a second six times the CPU and a p99 latency of 0.2 instead of 26 ms. A writebuffer
     * of 4 MiB was slower than 1 over loopback; raise it for links with a long delay. */
    uint32_t producers;   /* threads with a ring of their own; default 8, 1 without threads */
    uint32_t queue;       /* messages a ring may hold, in units of 10,000, to 4096; default 1 */
    size_t ring_size;     /* bytes of a ring, a power of two; default 512 a message, 128 if !full */
    size_t max_message;   /* largest frame; default 66,559 with full, else 1,024; more if names of
                             half that size need it */
    uint32_t writebuffer; /* SO_SNDBUF of tcp and tls, in MiB, to 1024; default 1 */
    int flush_ms;         /* a busy stream is packed so long; default 100; DNSTAP_FLUSH_NOW */
    int timeout_ms;       /* for each waiting step of a connection; default 4,000 */
    /* listening */
    uint32_t max_sinks;       /* that are sent to at once, to 1024; default 16 */
    uint32_t max_pending;     /* whose handshake is under way, to 1024; default 8; one more replaces
                                 the oldest */
    size_t max_lag;           /* bytes of a ring by which a sink may be behind, or the same share of
                                 its messages; default 3/4 of it */
    uint32_t socket_mode;     /* of a unix socket, such as 0660; 0: umask's */
    const char *socket_group; /* its group, by name or number; NULL: the process's */
    /* tls */
    bool skipverify;            /* don't verify the peer; listening: ask for no certificate */
    const char *ca_file;        /* PEM; default: SSL_CERT_FILE (not in set-uid programs), or the
                                   system's bundle; listening: sinks must show a certificate of one
                                   of these; default: none */
    const char *cert_file;      /* PEM chain, leaf first: shown to the peer; listening: needed */
    const char *key_file;       /* PEM key of cert_file */
    const char *server_name;    /* verified instead of the endpoint's host */
    dnstap_bytes ca, cert, key; /* the same in memory, PEM or DER */
    const void *anchors;        /* or br_x509_trust_anchor[], which must outlive the tap; trusted
                                   whatever their certificates said */
    size_t anchor_count;
    size_t ca_memory;  /* bytes for decoded CAs and certificates, twice if they are files; default
                          128 KiB; without CAs 32 KiB, or none if there is nothing to show */
    size_t tls_input;  /* record buffer for what is received; default 4,096, at least 837 */
    size_t tls_output; /* for what is sent; default 16,469 (full records), at least 597; a small
                          record costs more: 256 bytes three times the CPU of 16 KB a byte;
                          SIZE_MAX: shared with tls_input */
    /* hooks; user is theirs. From service and its thread, flush and close only, but for wake and
     * metadata (any thread), monotonic_ms (also open, status), and what TLS asks when it opens */
    void *user;
    void (*log)(void *user, int level, const char *text); /* DNSTAP_LOG_…; default: nowhere */
    uint64_t (*monotonic_ms)(void *user);                 /* default: CLOCK_MONOTONIC */
    uint64_t (*unix_time)(void *user);                    /* seconds, 0: unknown; default: time */
    bool (*entropy)(void *user, void *out, size_t size);  /* default: the system's */
    /* instead of getaddrinfo: an address of at most `room` bytes into out. DNSTAP_OK; DNSTAP_AGAIN:
     * called again soon, for timeout_ms; or an error. Must not block */
    int (*resolve)(void *user, const char *host, uint16_t port, struct sockaddr *out, size_t room);
    void (*watch)(void *user, int fd, short events); /* poll's; 0: forget it, before its close */
    /* call dnstap_service in so many ms; -1: no need. Without options.wake also from dnstap_log, in
     * the thread that alone services the tap: then there is something to send at once */
    void (*timer)(void *user, int ms);
    void (*wake)(void *user); /* any thread: service soon; default: a descriptor */
    /* extra. Where max_message has its default, the most that a template can make is added to it */
    const char *extra; /* a template, see >>extra; NULL or "": none */
    /* for {/label}: writes at most `size` (DNSTAP_METADATA_MAX) bytes to out. How many; negative:
     * there is none. In dnstap_log, from any thread: quick, and without a call of the tap */
    long (*metadata)(void *user, const dnstap_message *m, const char *label, char *out,
                     size_t size);
    bool extra_raw;     /* send its text as it stands */
    bool coredns_extra; /* {rcode}, {rsize} and {duration} are - as in CoreDNS */
    /* filters, see >>filter; they cost nothing where there are none */
    uint8_t anonymize_v4;     /* bits of an address that are kept, to 32; 0: all */
    uint8_t anonymize_v6;     /* the same, to 128; DNSTAP_KEEP_NONE: none */
    uint32_t types;           /* 1u << DNSTAP_MSG_…, 31 for all above; 0: all */
    uint64_t rcodes;          /* (uint64_t)1 << rcode, 63 for all above; 0: all */
    const char *const *zones; /* names, at most DNSTAP_ZONES_MAX, and NULL; NULL: all */
    uint32_t sample;          /* one in so many; 0: all */
    /* whether m is logged. In dnstap_log, from any thread: quick, and without a call of the tap */
    bool (*filter)(void *user, const dnstap_message *m);
    const dnstap_transport *transport; /* instead of endpoint's */
} dnstap_options;

typedef struct dnstap_tap dnstap_tap;

/* Checks the options and does all that needs privileges: binds, opens files, reads keys. Connects
 * nothing, starts no thread; an unreachable sink, a full disk, a file that another tap still writes
 * are no errors. NULL on error. */
DNSTAP_API dnstap_tap *dnstap_open(const dnstap_options *options, dnstap_error *error);
/* The same in the caller's memory, of dnstap_memory_size(options) bytes (0: options are bad) at any
 * alignment, which must live until dnstap_close. */
DNSTAP_API dnstap_tap *dnstap_open_in(void *memory, size_t size, const dnstap_options *options,
                                      dnstap_error *error);
DNSTAP_API size_t dnstap_memory_size(const dnstap_options *options);
/* Whether dnstap_open would take the options, for a server that only tests its configuration:
 * DNSTAP_OK, or its result with its text. It leaves no trace: binds, makes, truncates, locks,
 * removes and connects nothing. So it can't know what only bind(2) tells: whether a TCP port is in
 * use, or this machine's at all. What can be read but once (a pipe with a key) is not read. A
 * name that is listened on is looked up. Any thread. */
DNSTAP_API int dnstap_check(const dnstap_options *options, dnstap_error *error);
/* Starts a thread that services the tap, all signals blocked in it. DNSTAP_SYSTEM: there is none;
 * DNSTAP_UNSUPPORTED: it runs, options.watch, timer or wake is set, or the tap is another
 * process's. */
DNSTAP_API int dnstap_start(dnstap_tap *tap);
/* Delivers what is queued, says STOP, waits for FINISH, and frees all, in at most timeout_ms.
 * DNSTAP_OK; DNSTAP_TIMEOUT: some messages were discarded. No other thread may be in the tap. In a
 * process that does not own the tap (neither started nor serviced it) nothing is sent. */
DNSTAP_API int dnstap_close(dnstap_tap *tap, int timeout_ms);
/* Waits until all that was logged so far is sent, and each dnstap_reopen so far done; or
 * DNSTAP_TIMEOUT. Not from a producer that must not wait. It services a tap without a thread of its
 * own: from where that is serviced only. */
DNSTAP_API int dnstap_flush(dnstap_tap *tap, int timeout_ms);
/* In the child, after a fork with a started tap: drops inherited connections and queued messages,
 * so that the child may start and log on its own. options.watch is not called there any more.
 * DNSTAP_OK; DNSTAP_SYSTEM: no descriptor is left to wake the service with. */
DNSTAP_API int dnstap_after_fork(dnstap_tap *tap);
/* File: asks the service to end it, and to go on in what is at its path then (log rotation). The
 * old file may grow until a dnstap_flush after this has returned DNSTAP_OK: then it is closed, with
 * its STOP where there was room, and the new one is there. Any thread. */
DNSTAP_API int dnstap_reopen(dnstap_tap *tap);

/* Logs m. Any thread; never blocks, never allocates. 1: recorded; 0: not wanted; negative: why it
 * was dropped, which is counted and may be ignored. */
DNSTAP_API int dnstap_log(dnstap_tap *tap, const dnstap_message *m);
/* The same for a caller who numbers his threads 0 … producers - 1. One form for a tap, not both. */
DNSTAP_API int dnstap_log_as(dnstap_tap *tap, uint32_t producer, const dnstap_message *m);
/* Logs a payload that was encoded elsewhere (by a forked child, by whom a relay has it from) as it
 * is, without looking into it unless the tap filters, see >>filter; otherwise as dnstap_log.
 * DNSTAP_BAD_MESSAGE: it is empty, or can't be decoded by a tap that filters. */
DNSTAP_API int dnstap_log_payload(dnstap_tap *tap, const void *payload, size_t size);
/* Whether a message of this type would be logged: one load. False without a tap (NULL), and
 * dnstap_log returns 0 then. */
DNSTAP_API bool dnstap_wants(const dnstap_tap *tap, uint32_t type);
/* Whether the tap logs at all; it does when it opens. Any thread. */
DNSTAP_API void dnstap_set_enabled(dnstap_tap *tap, bool enabled);

/* In your own loop, one thread at a time: fills at most max descriptors, returns how many (at most
 * DNSTAP_POLLFDS, and of a listening tap max_sinks + max_pending more), and the timeout for poll in
 * ms. Call it right before each poll, and dnstap_service_fds after. What finds no room is looked
 * at every 5 ms. While a loop takes several turns a millisecond and logs in each, it has no
 * descriptors and no wait in most of them, which makes poll cheaper. */
enum { DNSTAP_POLLFDS = 4 };
#if DNSTAP__POSIX
DNSTAP_API int dnstap_pollfds(dnstap_tap *tap, struct pollfd *fds, int max, int *timeout_ms);
#endif
#if DNSTAP__POSIX
/* After poll, which has filled in revents: does what can be done now. fds and n are what
 * dnstap_pollfds has filled. A turn in which nothing is due makes no system call. Not for a tap
 * with a thread of its own. DNSTAP_UNSUPPORTED: the tap is another process's. */
DNSTAP_API int dnstap_service_fds(dnstap_tap *tap, const struct pollfd *fds, int n);
#endif
/* The same without word of what poll has found: for what the sink may say, a connection that is up
 * is looked at every 100 ms; with options.watch or timer whenever nothing else was due. */
DNSTAP_API int dnstap_service(dnstap_tap *tap);

#define DNSTAP_STATES(X)                                                   \
    X(DNSTAP_IDLE, "idle")             /* nothing to do yet */             \
    X(DNSTAP_RESOLVING, "resolving")   /* looking the host's name up */    \
    X(DNSTAP_CONNECTING, "connecting") /* the transport starts */          \
    X(DNSTAP_SECURING, "securing")     /* the TLS handshake */             \
    X(DNSTAP_GREETING, "greeting")     /* READY sent, ACCEPT awaited */    \
    X(DNSTAP_STARTED, "started")       /* messages flow */                 \
    X(DNSTAP_STOPPING, "stopping")     /* STOP sent, FINISH awaited */     \
    X(DNSTAP_SHUTTING, "shutting")     /* the transport's orderly end */   \
    X(DNSTAP_FINISHED, "finished")     /* ended in order */                \
    X(DNSTAP_BROKEN, "broken")         /* waits before the next attempt */ \
    X(DNSTAP_LISTENING, "listening")   /* a tap that no sink is at */
typedef enum dnstap_state {
#define DNSTAP__X(name, text) name,
    DNSTAP_STATES(DNSTAP__X)
#undef DNSTAP__X
        DNSTAP_STATE_COUNT
} dnstap_state;
DNSTAP_API const char *dnstap_state_name(dnstap_state state);

/* Counters since open, of 64 bits on every machine. While no thread is in log or service,
 * logged = recorded + unwanted + dropped, dropped is the sum of its causes, and
 * recorded = sent + discarded + queued. */
typedef struct dnstap_status {
    dnstap_state state;
    uint64_t state_ms; /* for so long */
    uint64_t logged, recorded, unwanted, dropped, queued;
    uint64_t sent, discarded; /* handed to the kernel whole; given up by close or after a fork */
    uint64_t dropped_full, dropped_large, dropped_busy, dropped_bad, dropped_disconnected;
    /* of unwanted: kept back by options.types, rcodes, zones, sample, filter */
    uint64_t filtered_type, filtered_rcode, filtered_zone, filtered_sample, filtered_hook;
    uint64_t stripped;  /* of recorded: went without DNS bytes that anonymizing can't read */
    uint64_t bytes;     /* of frames sent */
    uint64_t connects;  /* connections that reached STARTED */
    uint64_t failures;  /* attempts and connections that failed */
    uint64_t error_ms;  /* since the last error */
    dnstap_error error; /* the last error; code 0: none yet */
    size_t ring_size;   /* bytes of each ring */
    uint32_t rings;     /* producers', and the shared one */
    int send_buffer;    /* SO_SNDBUF as the system has it; 0: no socket */
    /* Listening: sent counts a message for each sink that got it, offered = sent + lost + behind,
     * and recorded = what left the rings + queued. */
    uint64_t offered, lost, behind; /* to sinks; by those that left; still to be sent to them */
    uint64_t no_sink;               /* of unwanted: nobody was there */
    uint64_t accepted, refused;     /* connections; of these, closed before they were sent to */
    uint32_t sinks, pending;        /* that are sent to; in their handshakes */
    uint16_t port;                  /* that is listened on */
} dnstap_status;
/* Any thread. */
DNSTAP_API void dnstap_get_status(dnstap_tap *tap, dnstap_status *status);

/* A sink at a listening tap. offered = sent + lost + behind: a sink is offered what was recorded
 * since it started. What it has lost when it goes is in the tap's status. */
typedef struct dnstap_peer {
    uint32_t number; /* of the connection, from 1 */
    dnstap_state state;
    uint64_t state_ms; /* for so long */
    uint64_t offered, sent, lost, behind;
    uint64_t bytes;    /* of frames sent */
    char address[128]; /* 192.0.2.1:50000, [2001:db8::1]:50000, or the socket's path */
    char subject[72];  /* of its verified certificate; "": none */
} dnstap_peer;
/* The sinks of a listening tap, pending ones too, at most max; returns how many. Any thread. */
DNSTAP_API int dnstap_get_peers(dnstap_tap *tap, dnstap_peer *peers, int max);
/* Fill of ring 0 … status.rings - 1: bytes used, and messages. Any thread. */
DNSTAP_API void dnstap_get_ring(dnstap_tap *tap, uint32_t ring, size_t *bytes, size_t *messages);

/* ---- >>metrics ---------------------------------------------------------------------------- */

#if DNSTAP__HAS_METRICS
/* Writes what status and rings say as OpenMetrics text, for Prometheus and its like, up to # EOF;
 * the label `tap` is the endpoint. Returns its length without the NUL at its end, which needs one
 * byte more; where size is too small, only whole lines stand in out, and no # EOF. out NULL: the
 * length it would have. It grows with its numbers: take some hundred bytes more, or call again
 * until it fits. Any thread. */
DNSTAP_API long dnstap_metrics(dnstap_tap *tap, char *out, size_t size);
#endif

/* ---- >>sink ------------------------------------------------------------------------------- */

#if DNSTAP__HAS_SINK
typedef enum dnstap_sink_kind {
    DNSTAP_SINK_OPENED,  /* a connection was accepted; with connect: its stream has begun, and text
                          * says after how many failures */
    DNSTAP_SINK_MESSAGE, /* a frame; message is NULL when it can't be decoded: result says why */
    DNSTAP_SINK_SKIPPED, /* a frame larger than max_frame; frame.size is its length */
    DNSTAP_SINK_CLOSED,  /* result: DNSTAP_OK after STOP, DNSTAP_END without, DNSTAP_CUT,
                          * DNSTAP_TIMEOUT, …; end and text say more. With connect, also an attempt
                          * that failed, which has no number (0): the first of an outage */
    DNSTAP_SINK_REFUSED, /* a connection, which has no number. DNSTAP_NO_PLACE: closed at once;
                          * DNSTAP_SYSTEM: can't be accepted, and waits; told once, until one can */
    DNSTAP_SINK_NOTE     /* text for a log: certificates that can't be used */
} dnstap_sink_kind;

/* How a connection ended, or a file. */
#define DNSTAP_SINK_CAUSES(X)                                                                    \
    X(DNSTAP_SINK_ENDED_STOP, "stop")         /* in order, with STOP */                          \
    X(DNSTAP_SINK_ENDED_EOF, "eof")           /* between two frames, as of a peer that died */   \
    X(DNSTAP_SINK_ENDED_CUT, "cut")           /* inside a frame */                               \
    X(DNSTAP_SINK_ENDED_EARLY, "early")       /* before its stream began, as of a port scan */   \
    X(DNSTAP_SINK_ENDED_PROTOCOL, "protocol") /* by us: against the rules of Frame Streams */    \
    X(DNSTAP_SINK_ENDED_REFUSED, "refused")   /* by us: all places were taken */                 \
    X(DNSTAP_SINK_ENDED_IDLE, "idle")         /* by us: silent for longer than idle_ms */        \
    X(DNSTAP_SINK_ENDED_TIMEOUT, "timeout")   /* by us: a step of the handshake took too long */ \
    X(DNSTAP_SINK_ENDED_ERROR, "error")       /* the network, TLS, or reading failed */

/* clang-format off */
typedef enum dnstap_sink_end {
    DNSTAP_SINK_NOT_ENDED,
#define DNSTAP__X(name, text) name,
    DNSTAP_SINK_CAUSES(DNSTAP__X)
#undef DNSTAP__X
    DNSTAP_SINK_ENDS
} dnstap_sink_end;
/* clang-format on */
/* "stop", "eof", "cut", …, never NULL. Any thread. */
DNSTAP_API const char *dnstap_sink_end_name(dnstap_sink_end end);

/* What a sink hands out; all of it is borrowed until the callback returns, or until the next
 * dnstap_sink_next. */
typedef struct dnstap_received {
    dnstap_sink_kind kind;
    int result;
    dnstap_sink_end end; /* CLOSED, and REFUSED for want of a place: how */
    const dnstap_message *message;
    dnstap_bytes frame;  /* the payload as it came */
    uint64_t index;      /* of the frame in its stream, from 0 */
    uint32_t connection; /* number of the connection, from 1 */
    const char *peer;    /* the connection's other end, as far as it has a name */
    const char *subject; /* of the peer's verified certificate; "": none */
    const char *text;    /* REFUSED, NOTE, CLOSED: what happened; never NULL */
} dnstap_received;

/* Zeroed is the default. Strings are copied when the sink opens. */
typedef struct dnstap_sink_options {
    /* unix:///path, /path, tcp://host:port, tls://host:port listen, or with connect are connected
     * to; file:///path is read. unix://@name: an abstract socket (Linux); tcp://:port: listens on
     * all addresses */
    const char *endpoint;
    bool connect;             /* to a tap that listens, instead of waiting for producers */
    uint32_t max_connections; /* more are refused; default 64 */
    size_t max_frame; /* larger frames are skipped and counted; default 1 MiB. That, and 64 KiB, is
                         the memory of a connection; used as far as it is needed */
    int timeout_ms;   /* for each step of a handshake; default 4,000 */
    int idle_ms;      /* a connection that is silent for so long is closed; default 0: never */
    /* sockets: whether producers greet. Default: told apart by their first frame: READY, which is
     * answered, or START, as of unidirectional ones, which hear nothing from us */
    bool unidirectional; /* only those that don't, and begin with START */
    bool bidirectional;  /* only those that do, and begin with READY */
    bool follow; /* file: its end is not the end, but looked at again every 200 ms; STOP is */
    /* file:///NAME: what NAME stands for comes from its recv (a pipe, standard input, what is
     * decompressed on the way); fd, where it has one, says when; send is not needed */
    const dnstap_transport *transport;
    uint32_t socket_mode;     /* listening: of a unix socket, such as 0660; 0: umask's */
    const char *socket_group; /* its group, by name or number; NULL: the process's */
    /* tls, as a tap's that listens; with connect, as one's that connects */
    bool skipverify;         /* don't verify the peer; listening: ask for no certificate */
    const char *ca_file;     /* PEM; listening: producers must show a certificate of one of these */
    const char *cert_file;   /* PEM chain: shown to the peer; listening: needed */
    const char *key_file;    /* PEM key of cert_file */
    const char *server_name; /* verified instead of the endpoint's host */
    void *user;              /* of the hooks, which dnstap_options has, too */
    /* What comes, in the thread that services, where of the sink's functions it may call
     * dnstap_sink_get_status and dnstap_sink_resume only. Returns DNSTAP_OK; or, of a MESSAGE or
     * SKIPPED, DNSTAP_AGAIN: later. Then nothing more is read of this connection, whose times stand
     * still, nor anything lost, until the same has been taken: it is offered again when
     * dnstap_sink_resume is called, and at least every 20 ms */
    int (*receive)(void *user, const dnstap_received *received);
    uint64_t (*monotonic_ms)(void *user);
    uint64_t (*unix_time)(void *user);
    bool (*entropy)(void *user, void *out, size_t size);
    int (*resolve)(void *user, const char *host, uint16_t port, struct sockaddr *out, size_t room);
} dnstap_sink_options;

typedef struct dnstap_sink dnstap_sink;

typedef struct dnstap_sink_status {
    dnstap_state state;            /* connect: of the connection; else LISTENING, or a file's */
    uint64_t connections, open;    /* accepted or begun so far; of those still there */
    uint64_t frames, bytes;        /* data frames */
    uint64_t skipped, undecodable; /* frames too large; payloads that are not dnstap */
    uint64_t failed;               /* connections, and attempts, that ended with an error */
    uint64_t refused;              /* connections that found no place */
    uint64_t put_off;              /* connections that wait until receive takes what it put off */
    /* by cause: connections + refused = open + the sum of these */
    uint64_t ended[DNSTAP_SINK_ENDS];
    dnstap_error error; /* the last error; code 0: none yet */
    uint16_t port;      /* that is listened on */
} dnstap_sink_status;

/* Listens or opens the file; with connect, nothing but the certificates. A unix socket nobody
 * answers on is replaced; one in use, or another kind of file, is an error. NULL on error. */
DNSTAP_API dnstap_sink *dnstap_sink_open(const dnstap_sink_options *options, dnstap_error *error);
/* Its own thread, until dnstap_sink_close or a file's end; it calls receive and the other hooks,
 * with all signals blocked. Then nobody else services the sink: the three functions below return
 * DNSTAP_UNSUPPORTED, or no descriptor. DNSTAP_OK; DNSTAP_NO_MEMORY; DNSTAP_SYSTEM;
 * DNSTAP_UNSUPPORTED: it has one, or the build has no threads. */
DNSTAP_API int dnstap_sink_start(dnstap_sink *sink);
/* In a poll loop, one thread at a time: fills at most max descriptors (max_connections + 1 are
 * enough) and the timeout for poll in ms. Returns how many: never 0 before the end, which only a
 * file has; where nothing but time is to be waited for, the one is -1, which poll passes over. */
DNSTAP_API int dnstap_sink_pollfds(dnstap_sink *sink, struct pollfd *fds, int max, int *timeout_ms);
/* Does what can be done now, and waits for nothing. DNSTAP_OK; DNSTAP_END: a file, and it has
 * ended. */
DNSTAP_API int dnstap_sink_service(dnstap_sink *sink);
/* File: the next frame, without receive; waits for a pipe. DNSTAP_OK with received filled in;
 * DNSTAP_END, DNSTAP_CUT or an error after the last, with received->end and text, and so for ever;
 * DNSTAP_AGAIN: nothing now (a signal came; the transport has none; at the end with follow): poll
 * by dnstap_sink_pollfds, or come back later. */
DNSTAP_API int dnstap_sink_next(dnstap_sink *sink, dnstap_received *received);
/* What receive has put off is offered again, soon. Any thread. */
DNSTAP_API void dnstap_sink_resume(dnstap_sink *sink);
/* Any thread once dnstap_sink_start has been called; else the one that services, or receive. */
DNSTAP_API void dnstap_sink_get_status(dnstap_sink *sink, dnstap_sink_status *status);
#if DNSTAP__HAS_METRICS
/* All that as OpenMetrics text; returns as dnstap_metrics, threads as dnstap_sink_get_status. The
 * label `sink` is the endpoint. */
DNSTAP_API long dnstap_sink_metrics(dnstap_sink *sink, char *out, size_t size);
#endif
/* Ends its thread, closes all connections, without events, and frees it. When no other thread is in
 * the sink. In a process forked from the one that services it, it does the other no harm. */
DNSTAP_API void dnstap_sink_close(dnstap_sink *sink);
#endif

/* ---- >>directive -------------------------------------------------------------------------- */

#if DNSTAP__HAS_DIRECTIVE
/* Configuration as CoreDNS's plugin has it; what is in [] may be left out, and so may the block.
 *
 *   dnstap SOCKET [full [WRITEBUFFER [QUEUE]]] {     dnstap listen SOCKET [full] {
 *       [identity NAME]                                  [identity NAME]
 *       [version TEXT]                                   [version TEXT]
 *       [extra TEMPLATE]                                 [extra TEMPLATE]
 *       [skipverify]                                     [tls CERT KEY [CA]]
 *   and beyond CoreDNS:                                  [skipverify]
 *       [tls_ca FILE]                                and beyond CoreDNS:
 *       [tls_cert CERT KEY]                              [max_sinks N]
 *       [tls_name NAME]                                  [socket_mode MODE]
 *       [drop_when_disconnected]                         [writebuffer N]
 *       [writebuffer N]                                  [queue N]
 *       [queue N]                                        [flush DURATION|now]
 *       [flush DURATION|now]                             [timeout DURATION]
 *       [timeout DURATION]                               [unidirectional]
 *       [unidirectional]                                 and what filters, as at the left
 *       [types TYPE ...]                             }
 *       [rcode RCODE ...]
 *       [zone NAME ...]
 *       [sample N]
 *       [anonymize V4BITS V6BITS]
 *   }
 *
 * TYPE: CLIENT_QUERY, CQ, or its number; RCODE: NXDOMAIN, or its number; V4BITS and V6BITS: so many
 * are kept. See >>filter for these.
 * SOCKET is an endpoint, or a path relative to the working directory. DURATION: 250ms, 2s, 1m30s.
 * Blanks and line breaks separate words; # begins a comment; "…" holds anything, with \" for a
 * quote; {$NAME} and {%NAME%} stand for variables. A "{" or "}" in quotes is a value. */

/* How text is read; zeroed is the default: strictly. */
typedef struct dnstap_parse_options {
    /* Take what CoreDNS takes, nothing else, and as it does: what it swallows without effect is a
     * warning instead of an error; of its other directives only their names are looked at. */
    bool lenient;
    /* What the options of each tap are before its directive is read: hooks, and what text has no
     * word for; their strings are borrowed. NULL: zeroed. */
    const dnstap_options *defaults;
    void *user;
    /* The value of a variable, good until the next call; NULL: unset. Default: getenv. */
    const char *(*variable)(void *user, const char *name);
    /* What is likely a mistake, with line, column and text. Default: nowhere. */
    void (*warning)(void *user, const dnstap_error *warning);
} dnstap_parse_options;

/* Reads the directives in text (a C string: what would stand behind a NUL byte is not seen) into
 * options, at most max, each zeroed before; their strings are in memory, for which five times the
 * text's length and 64 bytes are enough without variables. how may be NULL. How many there are, or
 * a negative result, with line and column in error: DNSTAP_BAD_OPTION: the text is wrong;
 * DNSTAP_NO_MEMORY. Any thread. */
DNSTAP_API int dnstap_parse(const char *text, void *memory, size_t size, dnstap_options *options,
                            int max, const dnstap_parse_options *how, dnstap_error *error);
/* Writes options as a directive that dnstap_parse, being strict, makes the same of. What a
 * directive has no word for (hooks, blocks in memory, sizes of rings and records, producers,
 * overwrite, max_pending, max_lag, socket_group, extra_raw, coredns_extra) is left out. Returns its
 * length without the NUL at its end; out NULL: the length it would have. DNSTAP_NO_MEMORY: size is
 * too small. DNSTAP_BAD_OPTION: a field that does not go with the endpoint, is out of range, or
 * holds what can't be written (a variable, say). Any thread. */
DNSTAP_API long dnstap_format(const dnstap_options *options, char *out, size_t size);
#endif

/* ---- >>group ------------------------------------------------------------------------------ */

/* The taps of one configuration, at most DNSTAP_GROUP_MAX: what is logged goes to all of them, one
 * loop or thread services them, and a new configuration takes the old one's place while threads
 * log. No thread that logs ever waits for any of it. */
enum { DNSTAP_GROUP_MAX = 16 };
typedef struct dnstap_group dnstap_group;

/* Opens a tap for each of the count options, as dnstap_open; no tap is a group, too. As many
 * threads as the largest options.producers have rings of their own in all of them. NULL on error,
 * and nothing is open. */
DNSTAP_API dnstap_group *dnstap_group_open(const dnstap_options *options, int count,
                                           dnstap_error *error);
/* The same in the caller's memory, of dnstap_group_memory_size (0: options are bad) at any
 * alignment, which must live until dnstap_group_close. Reloads take from it, too: for taps that
 * change there must be room for what they were and what they become. */
DNSTAP_API dnstap_group *dnstap_group_open_in(void *memory, size_t size,
                                              const dnstap_options *options, int count,
                                              dnstap_error *error);
DNSTAP_API size_t dnstap_group_memory_size(const dnstap_options *options, int count);
/* Replaces the taps by those of the options. All open before one is closed, and what fails changes
 * nothing. A tap whose options are what they were, field by field and text by text, goes on: its
 * connection, its rings, its counters. Options of which it was opened must have been zeroed before
 * they were filled in. What was removed gets no more messages, delivers what it has, says STOP and
 * closes, in its options.timeout_ms at most; its memory is used again when no thread can be inside
 * it any more. Where a new tap listens at an old one's place, it gets its socket, and nobody is
 * refused meanwhile; one that writes an old one's file, or through its transport, keeps its
 * messages until that has ended. DNSTAP_OK; why not: as dnstap_open; DNSTAP_AGAIN: a thread has not
 * returned from dnstap_group_log since the reload before. It opens files, looks names up that are
 * listened on, and may allocate; any thread, but not from a hook. */
DNSTAP_API int dnstap_group_reload(dnstap_group *group, const dnstap_options *options, int count,
                                   dnstap_error *error);
#if DNSTAP__HAS_DIRECTIVE && DNSTAP__HAS_MALLOC
/* The same from configuration text, as dnstap_parse reads it; how->defaults has the hooks. An
 * error has the line and column. */
DNSTAP_API dnstap_group *dnstap_group_open_text(const char *text, const dnstap_parse_options *how,
                                                dnstap_error *error);
DNSTAP_API int dnstap_group_reload_text(dnstap_group *group, const char *text,
                                        const dnstap_parse_options *how, dnstap_error *error);
#endif
/* As dnstap_start: one thread for all of them. Not with options.watch, timer or wake. */
DNSTAP_API int dnstap_group_start(dnstap_group *group);
/* As dnstap_close, of all at once, in at most timeout_ms together. */
DNSTAP_API int dnstap_group_close(dnstap_group *group, int timeout_ms);
/* As dnstap_flush, of all of them. Meanwhile nothing else is serviced. */
DNSTAP_API int dnstap_group_flush(dnstap_group *group, int timeout_ms);
/* As dnstap_after_fork, of all of them; the first result that is not DNSTAP_OK. */
DNSTAP_API int dnstap_group_after_fork(dnstap_group *group);
/* As dnstap_reopen, of those that are files. DNSTAP_UNSUPPORTED: none is. Any thread. */
DNSTAP_API int dnstap_group_reopen(dnstap_group *group);

/* Logs m to all taps, each as its options say. 1: at least one recorded it; 0: none wanted it;
 * negative: why a tap dropped it. Any thread. It is as dnstap_log: a template (options.extra) is
 * expanded, options.metadata is asked, and m->user is for it. */
DNSTAP_API int dnstap_group_log(dnstap_group *group, const dnstap_message *m);
/* The same without metadata, for what belongs to no query: no hook is asked, and a template goes
 * out as its text stands, as CoreDNS does it for plugins that have none. */
DNSTAP_API int dnstap_group_log_raw(dnstap_group *group, const dnstap_message *m);
/* dnstap_group_log for a caller who numbers his threads, as dnstap_log_as. */
DNSTAP_API int dnstap_group_log_as(dnstap_group *group, uint32_t producer, const dnstap_message *m);
/* Whether any tap would log a message of this type: one load for each. */
DNSTAP_API bool dnstap_group_wants(const dnstap_group *group, uint32_t type);
/* As dnstap_set_enabled, of all of them, and of those that a reload brings. Any thread. */
DNSTAP_API void dnstap_group_set_enabled(dnstap_group *group, bool enabled);

/* As a tap's, of all of them in one call. There are at most one descriptor and those of each tap,
 * and after a reload those of removed taps for a while. */
#if DNSTAP__POSIX
DNSTAP_API int dnstap_group_pollfds(dnstap_group *group, struct pollfd *fds, int max,
                                    int *timeout_ms);
DNSTAP_API int dnstap_group_service_fds(dnstap_group *group, const struct pollfd *fds, int n);
#endif
/* With options.watch and timer: after each reload, too. options.timer is called for all of them
 * together, that of the first tap that has one. */
DNSTAP_API int dnstap_group_service(dnstap_group *group);

typedef struct dnstap_group_tap {
    char name[192]; /* its endpoint; of several with the same one, the later ones have " #2" … */
    dnstap_status status;
} dnstap_group_tap;
/* The taps in the order of the configuration, at most max; returns how many. Any thread. */
DNSTAP_API int dnstap_group_get_status(dnstap_group *group, dnstap_group_tap *taps, int max);
#if DNSTAP__HAS_METRICS
/* As dnstap_metrics, of all of them: the label `tap` is dnstap_group_tap's name. Any thread. */
DNSTAP_API long dnstap_group_metrics(dnstap_group *group, char *out, size_t size);
#endif

#ifdef __cplusplus
}
#endif
#endif /* DNSTAP_H_INCLUDED */

/* ==== Stop here if you only want the API. =================================================== */

/* What the implementation can't do without; one error is enough, so nothing else is looked at then.
 * The two constants are there when the system's headers offer POSIX.1-2008. */
#if defined(DNSTAP_IMPLEMENTATION) && !defined(DNSTAP_IMPLEMENTATION_INCLUDED)
#if DNSTAP__POSIX
#include <fcntl.h>
#include <time.h>
#endif
#ifdef __cplusplus
#define DNSTAP__OLD (__cplusplus < 201103L)
#elif defined(__STDC_VERSION__)
#define DNSTAP__OLD (__STDC_VERSION__ < 199901L)
#elif defined(__STRICT_ANSI__)
#define DNSTAP__OLD 1
#else
#define DNSTAP__OLD 0
#endif
#if DNSTAP__OLD
#error "dnstap.h: the implementation needs C99 or C++11; other files may be older"
#undef DNSTAP_IMPLEMENTATION
#elif !defined(__cplusplus) && defined(_Bool)
#error "dnstap.h: _Bool is a macro here (of <ldns/ldns.h>?); include <stdbool.h> before that"
#undef DNSTAP_IMPLEMENTATION
#elif !defined(DNSTAP_LOAD) && !defined(__ATOMIC_RELAXED)
#error "dnstap.h: no __atomic builtins; define DNSTAP_LOAD and what the manual names beside it"
#undef DNSTAP_IMPLEMENTATION
#elif DNSTAP__POSIX && !(defined(CLOCK_MONOTONIC) && defined(O_CLOEXEC))
#error "dnstap.h needs POSIX.1-2008: include it first, or define _POSIX_C_SOURCE=200809L"
#undef DNSTAP_IMPLEMENTATION
#endif
#endif

#if defined(DNSTAP_IMPLEMENTATION) && !defined(DNSTAP_IMPLEMENTATION_INCLUDED)
#define DNSTAP_IMPLEMENTATION_INCLUDED

/* HOW IT WORKS, in the order of time. Each step is the function named; the rooms say the rest.
 *
 * A message, from dnstap_log to the kernel
 *
 *   a producer, any thread                      the service, one thread at a time
 *   ──────────────────────                      ─────────────────────────────────
 *   dnstap_log          finds the thread's      dnstap_start's thread is in dnstap__run, a foreign
 *   │ dnstap__claim     ring, the first time    loop calls dnstap_service: dnstap__turn, and then
 *   dnstap__record      wanted? one load        dnstap__step, step after step
 *   │ dnstap__plan_message   room it may take   │ dnstap__in_started
 *   │ dnstap__ring_reserve   or it is dropped   │   dnstap__due     asleep, nothing new: waits
 *   │ dnstap__write_message  its bytes, once    │   dnstap__disarm  awake: producers don't call
 *   │ dnstap__ring_publish ──── ring ─────────► │   dnstap__pump    ring after ring
 *   │ behind wake_at?                           │   │ dnstap__send_span  what lies in one piece
 *   │ dnstap__wake      if it sleeps: one call  │   │   dnstap__send     to the transport
 *   1, or a cause                    │          │   │   dnstap__whole_frames  how many are out
 *                                    ▼          │   │   dnstap__ring_release  their room is free
 *                           poll returns, turn  │   dnstap__rest    all sent: dnstap__arm, sleep
 *
 * What a sink receives, and what a tap hears
 *
 *   dnstap_sink_service    dnstap__accept_one: a place for a new connection; or, with connect,
 *   │                      dnstap__source_dial: names, addresses, and again when it ended
 *   │ dnstap__serve        for each source
 *   │ │ dnstap__read_source     its transport's recv, into the block that all share
 *   │ │ dnstap__digest          dnstap_frame_reader_feed: up to the end of a frame, copied only
 *   │ │                         when it came in pieces
 *   │ │   dnstap__offer         dnstap_decode: a message that borrows from the frame;
 *   │ │                         options.receive, which takes it, or says later:
 *   │ │ dnstap__keep_rest       what of the block is not taken; offered again in a later call
 *   │ │ dnstap__reply           ACCEPT, FINISH
 *   │ dnstap__drop         a source that ended: how, counted
 *   A tap hears ACCEPT and FINISH only: dnstap__receive, dnstap_frame_writer_receive.
 *
 * A connection that breaks
 *
 *   send or recv fails, or dnstap__give_up at a deadline
 *   dnstap__break           the text: what failed, on what, why; dnstap__show_failure counts, and
 *   │                       logs the first of an outage
 *   │ dnstap__back_off      when to try again
 *   │ dnstap__disconnect    closed; `done` = 0: a frame that was half out is whole in its ring
 *   BROKEN ··· IDLE         dnstap__in_broken, at that time; meanwhile producers fill their rings,
 *   │                       and what finds no room is dropped and counted: dnstap__refuse
 *   dnstap__in_idle         names (a thread looks them up), certificates that changed
 *   dnstap__in_connecting, in_securing, in_greeting     READY, ACCEPT, START
 *   dnstap__begin           STARTED: dnstap__recover logs the end of the outage; the rings go on at
 *                           their tails, with the oldest message first */

/* A callback is called as (t->send)(…): send, close and log are macros with arguments here and
 * there, in <tgmath.h> for one. */

/* ---- >>platform --------------------------------------------------------------------------- */

/* All that is included, and what the system has, as 0 or 1; what the build has stands before the
 * API. Without POSIX (a bare machine) the transport, the clock and the wake-up are the user's. */
#if DNSTAP__POSIX && defined(__linux__)
#define DNSTAP__LINUX 1
#else
#define DNSTAP__LINUX 0
#endif
#if DNSTAP__HAS_SOCKETS && DNSTAP__HAS_THREADS && DNSTAP__HAS_MALLOC
#define DNSTAP__HAS_LOOKUP 1
#else
#define DNSTAP__HAS_LOOKUP 0
#endif

#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>
#if DNSTAP__HAS_READER
#include <pb_decode.h>
#endif
#if DNSTAP__HAS_DESCRIPTORS
#include <pb_encode.h>
#endif
#if DNSTAP__POSIX
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>
#include <arpa/inet.h>
#include <netdb.h>
#include <grp.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#ifndef TCP_NODELAY /* <linux/tcp.h> has it too, and does not go with the other */
#include <netinet/tcp.h>
#endif
#endif
#if DNSTAP__HAS_THREADS
#include <pthread.h>
#endif
#if DNSTAP__HAS_MALLOC && !defined(DNSTAP_MALLOC)
#include <stdlib.h>
#define DNSTAP_MALLOC(size) malloc(size)
#define DNSTAP_FREE(memory) free(memory)
#if DNSTAP__POSIX
#include <sys/mman.h>
#endif
#endif
/* beyond POSIX; and not where an allocator of the user's is to decide */
#if defined(MAP_ANONYMOUS) && defined(MAP_NORESERVE)
#define DNSTAP__HAS_RESERVE 1
#else
#define DNSTAP__HAS_RESERVE 0
#endif
#if DNSTAP__LINUX
#include <sys/eventfd.h>
#include <sys/syscall.h>
#endif
#if DNSTAP__HAS_TLS
#include <bearssl.h>
#endif
/* syscall(2) is declared for more than plain POSIX only, which glibc says by __USE_MISC, and musl
 * by _BSD_SOURCE unless _GNU_SOURCE was asked for; membarrier(2) has no wrapper, pipe2 and accept4
 * are declared with _GNU_SOURCE only */
#if DNSTAP__LINUX && (defined(__USE_MISC) || \
                      (!defined(__GLIBC__) && (defined(_GNU_SOURCE) || defined(_BSD_SOURCE))))
#define DNSTAP__HAS_SYSCALL 1
#else
#define DNSTAP__HAS_SYSCALL 0
#endif
#if DNSTAP__HAS_SYSCALL && defined(SYS_pipe2) && defined(SYS_accept4)
#define DNSTAP__HAS_PIPE2 1
#else
#define DNSTAP__HAS_PIPE2 0
#endif
#if DNSTAP__HAS_SYSCALL && DNSTAP__HAS_THREADS && defined(SYS_membarrier)
#define DNSTAP__HAS_MEMBARRIER 1
/* as in <linux/membarrier.h>, which musl goes without */
enum { DNSTAP__MEMBARRIER = 1 << 3, DNSTAP__MEMBARRIER_REGISTER = 1 << 4 };
#else
#define DNSTAP__HAS_MEMBARRIER 0
#endif
#if DNSTAP__POSIX && DNSTAP__HAS_TLS && defined(__has_include)
#if __has_include(<sys/random.h>)
#include <sys/random.h>
#define DNSTAP__HAS_RANDOM 1
#endif
#endif
#ifndef DNSTAP__HAS_RANDOM
#define DNSTAP__HAS_RANDOM 0
#endif
/* set-uid, or with capabilities of its own: the kernel tells, where it does */
#if DNSTAP__LINUX && DNSTAP__HAS_TLS && defined(__has_include)
#if __has_include(<sys/auxv.h>)
#include <sys/auxv.h>
#define DNSTAP__SECURE_EXECUTION (getauxval(AT_SECURE) != 0)
#endif
#endif
#ifndef DNSTAP__SECURE_EXECUTION
#define DNSTAP__SECURE_EXECUTION false
#endif

/* Shared words are size_t and go through these; a machine without the builtins defines its own. */
#ifndef DNSTAP_LOAD
#define DNSTAP_LOAD(p) __atomic_load_n(p, __ATOMIC_RELAXED)
#define DNSTAP_STORE(p, v) __atomic_store_n(p, v, __ATOMIC_RELAXED)
#define DNSTAP_LOAD_ACQUIRE(p) __atomic_load_n(p, __ATOMIC_ACQUIRE)
#define DNSTAP_STORE_RELEASE(p, v) __atomic_store_n(p, v, __ATOMIC_RELEASE)
#define DNSTAP_EXCHANGE(p, v) __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST)
#define DNSTAP_COMPARE_EXCHANGE(p, expected, v) \
    __atomic_compare_exchange_n(p, expected, v, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)
#define DNSTAP_COMPILER_FENCE() __atomic_signal_fence(__ATOMIC_SEQ_CST)
#endif
/* What always holds, said where it must: nothing in a user's build, abort in the tests'. */
#ifndef DNSTAP_ASSERT
#define DNSTAP_ASSERT(x) ((void)sizeof(!(x))) /* not evaluated */
#endif
/* The hot path is worth its size, but not where size is what counts; what it has but once, there
 * too. */
#if defined(__OPTIMIZE_SIZE__)
#define DNSTAP__SMALL 1
#else
#define DNSTAP__SMALL 0
#endif
#if defined(__GNUC__) && !DNSTAP__SMALL
#define DNSTAP__INLINE static inline __attribute__((always_inline))
#else
#define DNSTAP__INLINE static inline
#endif
#if defined(__GNUC__)
#define DNSTAP__ONCE static inline __attribute__((always_inline))
#define DNSTAP__LIKELY(x) __builtin_expect(!!(x), 1)
#define DNSTAP__UNLIKELY(x) __builtin_expect(!!(x), 0)
#define DNSTAP__APART static __attribute__((noinline))
#define DNSTAP__COLD static __attribute__((noinline, cold))
#define DNSTAP__PRINTF(text, first) __attribute__((format(printf, text, first)))
#else
#define DNSTAP__ONCE static inline
#define DNSTAP__LIKELY(x) (x)
#define DNSTAP__UNLIKELY(x) (x)
#define DNSTAP__APART static
#define DNSTAP__COLD static
#define DNSTAP__PRINTF(text, first)
#endif
#ifndef DNSTAP_CACHE_LINE
#define DNSTAP_CACHE_LINE (DNSTAP__HAS_THREADS ? 64 : (int)sizeof(size_t))
#endif
#if DNSTAP__HAS_SOCKETS && defined(MSG_NOSIGNAL)
#define DNSTAP__NOSIGNAL MSG_NOSIGNAL
#else
#define DNSTAP__NOSIGNAL 0
#endif
#if DNSTAP__HAS_SOCKETS && !defined(MSG_NOSIGNAL) && !defined(SO_NOSIGPIPE)
#define DNSTAP__HUSHES_SEND 1 /* sockets can't do without SIGPIPE by themselves */
#else
#define DNSTAP__HUSHES_SEND 0
#endif
#define DNSTAP__HUSHES (DNSTAP__HAS_FILES || DNSTAP__HUSHES_SEND)
#if DNSTAP__POSIX
#define DNSTAP__POLLFD_SIZE sizeof(struct pollfd)
#else
#define DNSTAP__POLLFD_SIZE 0
#endif
#if DNSTAP__LINUX
#define DNSTAP__HAS_ABSTRACT 1 /* unix sockets without a file */
#else
#define DNSTAP__HAS_ABSTRACT 0
#endif
#if defined(__APPLE__)
#define DNSTAP__CTIME st_ctimespec
#else
#define DNSTAP__CTIME st_ctim
#endif
#ifdef __cplusplus
extern "C" {
#endif

/* ---- >>system ----------------------------------------------------------------------------- */

/* What differs from system to system, as functions of the same names: clocks, process, entropy,
 * wake-up descriptor, threads. First for POSIX, then for a bare machine, where a function that can
 * do nothing answers as if there were nothing to do. Nothing here waits but dnstap__pause; what is
 * opened is closed in programs that are executed, from its first moment where the system can. */
enum { DNSTAP__PATH_SIZE = DNSTAP__POSIX ? 4096 : 1 }; /* Linux's PATH_MAX */

#if DNSTAP__POSIX
/* Where a descriptor leads: its number is another file's when the program closed it. */
typedef struct dnstap__identity {
    dev_t device;
    ino_t inode;
} dnstap__identity;

static void dnstap__identify(dnstap__identity *id, int fd)
{
    struct stat st;

    memset(id, 0, sizeof *id);
    if (fstat(fd, &st) < 0) return;
    id->device = st.st_dev;
    id->inode = st.st_ino;
}

static bool dnstap__leads_to(int fd, const dnstap__identity *id)
{
    struct stat st;

    return fd >= 0 && !fstat(fd, &st) && st.st_dev == id->device && st.st_ino == id->inode;
}

/* Closes what is at *fd, if any. Its number is forgotten first: a child that another thread forks
 * in between must not close whatever has that number by then. */
static void dnstap__close_fd(int *fd)
{
    int old = *fd;

    *fd = -1;
    if (old >= 0) close(old);
}

/* Wakes the service from any thread: an eventfd, or a pipe. */
typedef struct dnstap__waker {
    int out;   /* read end; -1: none */
    size_t in; /* write end, shared; SIZE_MAX: none */
    dnstap__identity is;
} dnstap__waker;

static uint64_t dnstap__clock_ms(void *user)
{
    struct timespec t;

    (void)user;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000u + (uint64_t)t.tv_nsec / 1000000u;
}

static void dnstap__pause(void)
{
    struct timespec ms = {0, 1000000};

    nanosleep(&ms, NULL);
}

#if DNSTAP__HAS_SOCKETS || DNSTAP__HAS_FILES
/* What this process may do with a file (access(2)'s R_OK …): 0, or errno. */
static int dnstap__may(const char *path, int what)
{
    return faccessat(AT_FDCWD, path, what, AT_EACCESS) < 0 ? errno : 0;
}

/* The folder that a path is in; "" if it is too long. */
static void dnstap__folder_of(const char *path, char out[DNSTAP__PATH_SIZE])
{
    const char *slash = strrchr(path, '/');
    size_t n = slash ? (size_t)(slash - path) : 0;

    memcpy(out, slash ? "/" : ".", 2);
    if (!n) return;
    if (n >= DNSTAP__PATH_SIZE) n = 0;
    memcpy(out, path, n);
    out[n] = '\0';
}

/* Whether a file could be made where there is none: 0, or errno. */
DNSTAP__COLD int dnstap__may_make(const char *path)
{
    char folder[DNSTAP__PATH_SIZE];

    dnstap__folder_of(path, folder);
    return dnstap__may(folder, W_OK | X_OK);
}
#endif

static size_t dnstap__parent(void) { return (size_t)getppid(); }

/* false, with errno: it can't be told. */
static bool dnstap__working_directory(char *out, size_t size)
{
    if (!getcwd(out, size)) return false;
    errno = ENOENT; /* out of a chroot's reach it does not begin with / */
    return *out == '/';
}

static void dnstap__host_name(char *out, size_t size)
{
    if (gethostname(out, size) < 0) out[0] = '\0';
    out[size - 1] = '\0';
}

static void dnstap__waker_none(dnstap__waker *w)
{
    w->out = -1;
    DNSTAP_STORE(&w->in, SIZE_MAX);
}

/* There is none, or the program closed it. */
static bool dnstap__waker_lost(const dnstap__waker *w) { return !dnstap__leads_to(w->out, &w->is); }

static void dnstap__waker_close(dnstap__waker *w)
{
    int out = dnstap__waker_lost(w) ? -1 : w->out, in = (int)DNSTAP_LOAD(&w->in);

    if (in == w->out || !dnstap__leads_to(in, &w->is)) in = -1;
    dnstap__waker_none(w);
    dnstap__close_fd(&in);
    dnstap__close_fd(&out);
}

/* A full pipe wakes anyway. */
static void dnstap__waker_call(const dnstap__waker *w)
{
    uint64_t one = 1;

    if (write((int)DNSTAP_LOAD(&w->in), &one, sizeof one) < 0) return;
}

/* Takes what was written; how many calls it was. */
static size_t dnstap__waker_take(const dnstap__waker *w)
{
    uint64_t calls[16];
    ssize_t n = read(w->out, calls, sizeof calls);

    if (n == (ssize_t)sizeof calls[0]) return (size_t)calls[0];
    return n > 0 ? (size_t)n / sizeof calls[0] : 0;
}
#else
typedef struct dnstap__waker {
    int out;
    size_t in;
} dnstap__waker;

static uint64_t dnstap__clock_ms(void *user) { return user ? 0 : 1; }
static void dnstap__pause(void) {}
static size_t dnstap__process(void) { return 1; }
static size_t dnstap__parent(void) { return 0; }
static void dnstap__host_name(char *out, size_t size) { memset(out, 0, size); }
static void dnstap__waker_none(dnstap__waker *w)
{
    w->out = -1;
    w->in = SIZE_MAX;
}
static bool dnstap__waker_lost(const dnstap__waker *w) { return w && false; }
static void dnstap__waker_close(dnstap__waker *w) { dnstap__waker_none(w); }
static void dnstap__waker_call(const dnstap__waker *w) { (void)w; }
static size_t dnstap__waker_take(const dnstap__waker *w) { return w ? 0 : 1; }
#endif

#if DNSTAP__HAS_SOCKETS || (DNSTAP__POSIX && !DNSTAP__LINUX)
/* Makes a new descriptor never wait, and closed in programs that are executed. -1: there is none,
 * or it can't be so. */
static int dnstap__prepare(int fd)
{
    int flags = fd < 0 ? -1 : fcntl(fd, F_GETFL);

    if (flags >= 0 && fcntl(fd, F_SETFL, flags | O_NONBLOCK) >= 0 &&
        fcntl(fd, F_SETFD, FD_CLOEXEC) >= 0)
        return fd;
    dnstap__close_fd(&fd);
    return -1;
}
#endif

#if DNSTAP__HAS_PIPE2 && DNSTAP__HAS_LOOKUP
static int dnstap__pipe(int fds[2]) { return (int)syscall(SYS_pipe2, fds, O_NONBLOCK | O_CLOEXEC); }
#elif DNSTAP__HAS_LOOKUP || (DNSTAP__POSIX && !DNSTAP__LINUX)
static int dnstap__pipe(int fds[2])
{
    if (pipe(fds) < 0) return -1;
    fds[0] = dnstap__prepare(fds[0]);
    fds[1] = dnstap__prepare(fds[1]);
    if (fds[0] >= 0 && fds[1] >= 0) return 0;
    dnstap__close_fd(&fds[0]);
    dnstap__close_fd(&fds[1]);
    return -1;
}
#endif

#if DNSTAP__HAS_SOCKETS && defined(SOCK_NONBLOCK) && defined(SOCK_CLOEXEC)
static int dnstap__socket_of(int family, int type)
{
    return socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}
#elif DNSTAP__HAS_SOCKETS
static int dnstap__socket_of(int family, int type)
{
    return dnstap__prepare(socket(family, type, 0));
}
#endif

#if DNSTAP__HAS_PIPE2 && DNSTAP__HAS_SOCKETS
static int dnstap__accept(int listener, struct sockaddr *from, socklen_t *size)
{
    int fd = (int)syscall(SYS_accept4, listener, from, size, SOCK_NONBLOCK | SOCK_CLOEXEC);

    return fd < 0 && errno == ENOSYS ? dnstap__prepare(accept(listener, from, size)) : fd;
}
#elif DNSTAP__HAS_SOCKETS
static int dnstap__accept(int listener, struct sockaddr *from, socklen_t *size)
{
    return dnstap__prepare(accept(listener, from, size));
}
#endif

#if DNSTAP__LINUX
static int dnstap__waker_open(dnstap__waker *w)
{
    w->out = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    dnstap__identify(&w->is, w->out);
    DNSTAP_STORE(&w->in, (size_t)w->out);
    return w->out < 0 ? DNSTAP_SYSTEM : DNSTAP_OK;
}
#elif DNSTAP__POSIX
static int dnstap__waker_open(dnstap__waker *w)
{
    int fds[2] = {-1, -1};
    int result = dnstap__pipe(fds);

    w->out = fds[0];
    dnstap__identify(&w->is, w->out);
    DNSTAP_STORE(&w->in, (size_t)fds[1]);
    return result < 0 ? DNSTAP_SYSTEM : DNSTAP_OK;
}
#else
static int dnstap__waker_open(dnstap__waker *w)
{
    dnstap__waker_none(w);
    return DNSTAP_OK;
}
#endif

#if DNSTAP__HAS_THREADS
/* Which process this is, without a system call: 0 is not known, and the kernel is asked. */
static size_t dnstap__known_process;

static size_t dnstap__process(void)
{
    size_t process = DNSTAP_LOAD(&dnstap__known_process);

    return process ? process : (size_t)getpid();
}

/* Has a function called before each fork, and after it in the parent and in the child. */
static bool dnstap__at_fork(void (*before)(void), void (*parent)(void), void (*child)(void))
{
    return pthread_atfork(before, parent, child) == 0;
}

static void dnstap__know_process(bool known)
{
    DNSTAP_STORE(&dnstap__known_process, known ? (size_t)getpid() : 0);
}
#elif DNSTAP__POSIX
static size_t dnstap__process(void) { return (size_t)getpid(); }
#endif

#if DNSTAP__HAS_THREADS
typedef struct dnstap__thread {
    pthread_t id;
    bool running;
} dnstap__thread;
typedef pthread_key_t dnstap__key;
typedef pthread_mutex_t dnstap__mutex;

static size_t dnstap__self(void) { return (size_t)pthread_self(); }

/* Starts a thread with all signals blocked in it. 0, or errno's value. */
static int dnstap__thread_start(dnstap__thread *t, void *(*run)(void *), void *argument)
{
    sigset_t all, before;
    int result;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    result = pthread_create(&t->id, NULL, run, argument);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    t->running = !result;
    return result;
}

static void dnstap__thread_join(dnstap__thread *t)
{
    pthread_join(t->id, NULL);
    t->running = false;
}

static int dnstap__key_open(dnstap__key *key, void (*leave)(void *))
{
    return pthread_key_create(key, leave);
}
static void dnstap__key_close(dnstap__key key) { pthread_key_delete(key); }
static void dnstap__mutex_open(dnstap__mutex *m) { pthread_mutex_init(m, NULL); }
static void dnstap__mutex_lock(dnstap__mutex *m) { pthread_mutex_lock(m); }
static void dnstap__mutex_unlock(dnstap__mutex *m) { pthread_mutex_unlock(m); }
static void dnstap__mutex_close(dnstap__mutex *m) { pthread_mutex_destroy(m); }
#else
typedef struct dnstap__thread {
    bool running;
} dnstap__thread;
typedef char dnstap__key;
typedef char dnstap__mutex;

static size_t dnstap__self(void) { return 1; }
static int dnstap__thread_start(dnstap__thread *t, void *(*run)(void *), void *argument)
{
    return t && run && argument ? 1 : 2;
}
static void dnstap__thread_join(dnstap__thread *t) { t->running = false; }
static int dnstap__key_open(dnstap__key *key, void (*leave)(void *))
{
    return key && leave ? 0 : 1;
}
static void dnstap__key_close(dnstap__key key) { (void)key; }
static void dnstap__mutex_open(dnstap__mutex *m) { (void)m; }
static void dnstap__mutex_lock(dnstap__mutex *m) { (void)m; }
static void dnstap__mutex_unlock(dnstap__mutex *m) { (void)m; }
static void dnstap__mutex_close(dnstap__mutex *m) { (void)m; }
#endif

#if DNSTAP__HUSHES && DNSTAP__HAS_THREADS
static void dnstap__sigmask(int how, const sigset_t *set, sigset_t *before)
{
    pthread_sigmask(how, set, before);
}
#elif DNSTAP__HUSHES
static void dnstap__sigmask(int how, const sigset_t *set, sigset_t *before)
{
    sigprocmask(how, set, before);
}
#endif

#if DNSTAP__HUSHES && defined(_POSIX_REALTIME_SIGNALS) && _POSIX_REALTIME_SIGNALS > 0
static void dnstap__take_signals(const sigset_t *set)
{
    struct timespec none = {0, 0};

    while (sigtimedwait(set, NULL, &none) > 0) {
    }
}
#elif DNSTAP__HUSHES
static void dnstap__take_signals(const sigset_t *set)
{
    sigset_t pending;
    int number;

    sigpending(&pending);
    if (sigismember(set, SIGPIPE) && sigismember(&pending, SIGPIPE)) sigwait(set, &number);
    sigpending(&pending);
    if (sigismember(set, SIGXFSZ) && sigismember(&pending, SIGXFSZ)) sigwait(set, &number);
}
#endif

#if DNSTAP__HUSHES
/* The signals that write(2) and send(2) raise in their thread: none may reach the program, which
 * might die of it. They are held back while we write, and taken when that failed. (SIGTTOU, of a
 * terminal in the background, does not even come while it is held back.) */
static void dnstap__hush(sigset_t *before)
{
    sigset_t raised;

    sigemptyset(&raised);
    sigaddset(&raised, SIGPIPE);
    sigaddset(&raised, SIGXFSZ);
    sigaddset(&raised, SIGTTOU);
    dnstap__sigmask(SIG_BLOCK, &raised, before);
}

/* In the tap's own thread, where all are blocked anyway, that was one system call. */
static void dnstap__unhush(const sigset_t *before, bool failed)
{
    int saved = errno;
    sigset_t raised;

    sigemptyset(&raised);
    sigaddset(&raised, SIGPIPE);
    sigaddset(&raised, SIGXFSZ);
    if (failed) dnstap__take_signals(&raised);
    if (!sigismember(before, SIGPIPE) || !sigismember(before, SIGXFSZ) ||
        !sigismember(before, SIGTTOU))
        dnstap__sigmask(SIG_SETMASK, before, NULL);
    errno = saved;
}
#endif

#if DNSTAP__HUSHES_SEND
static ssize_t dnstap__send_quietly(int fd, const void *data, size_t size)
{
    sigset_t before;
    ssize_t n;

    dnstap__hush(&before);
    n = send(fd, data, size, 0);
    dnstap__unhush(&before, n < 0);
    return n;
}
#elif DNSTAP__HAS_SOCKETS
static ssize_t dnstap__send_quietly(int fd, const void *data, size_t size)
{
    return send(fd, data, size, DNSTAP__NOSIGNAL);
}
#endif

/* Orders every thread's stores before our later loads; false: the system has no such call. */
#if DNSTAP__HAS_MEMBARRIER
static bool dnstap__membarrier(int command) { return syscall(SYS_membarrier, command, 0, 0) == 0; }
static bool dnstap__barrier(void) { return dnstap__membarrier(DNSTAP__MEMBARRIER); }
static void dnstap__barrier_open(void) { (void)dnstap__membarrier(DNSTAP__MEMBARRIER_REGISTER); }
#else
static bool dnstap__barrier(void) { return !DNSTAP__HAS_THREADS; }
static void dnstap__barrier_open(void) {}
#endif

/* A tap's block of memory. Where there is no malloc for so much, address space will do: pages of it
 * are memory when they are touched, and a ring is touched only as far as it is needed. */
typedef struct dnstap__block {
    void *data;    /* NULL: none, or the caller's */
    size_t mapped; /* bytes, when it is not malloc's */
} dnstap__block;

#if DNSTAP__HAS_RESERVE
static void *dnstap__map(size_t size)
{
    void *data = mmap(NULL, size, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    return data == MAP_FAILED ? NULL : data;
}
static void dnstap__unmap(void *data, size_t size) { munmap(data, size); }
#elif DNSTAP__HAS_MALLOC
static void *dnstap__map(size_t size) { return (void)size, (void *)NULL; }
static void dnstap__unmap(void *data, size_t size) { (void)data, (void)size; }
#endif

#if DNSTAP__HAS_MALLOC
static void dnstap__block_open(dnstap__block *b, size_t size)
{
    b->mapped = 0;
    b->data = size ? DNSTAP_MALLOC(size) : NULL;
    if (!size || b->data) return;
    b->data = dnstap__map(size);
    if (b->data) b->mapped = size;
}

static void dnstap__block_close(const dnstap__block *b)
{
    if (b->mapped)
        dnstap__unmap(b->data, b->mapped);
    else if (b->data)
        DNSTAP_FREE(b->data);
}
#else
static void dnstap__block_close(const dnstap__block *b) { (void)b; }
#endif

/* A variable of the environment; NULL: it is not set. */
#if DNSTAP__HAS_DIRECTIVE && DNSTAP__POSIX
static const char *dnstap__environment(const char *name) { return getenv(name); }
#elif DNSTAP__HAS_DIRECTIVE
static const char *dnstap__environment(const char *name) { return *name ? NULL : name; }
#endif

#if DNSTAP__HAS_TLS && DNSTAP__HAS_FILES
/* Whether this program runs with more rights than who started it: then his environment counts for
 * nothing. */
static bool dnstap__privileged(void)
{
    return DNSTAP__SECURE_EXECUTION || getuid() != geteuid() || getgid() != getegid();
}
#endif

#if DNSTAP__HAS_TLS && DNSTAP__POSIX
static uint64_t dnstap__unix_time(void *user)
{
    time_t now = time(NULL);

    (void)user;
    if (sizeof now == 4) return (uint32_t)now; /* goes on after 2038 */
    return now < 0 ? 0 : (uint64_t)now;
}

static bool dnstap__urandom(void *out, size_t size)
{
    int fd = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
    bool all = fd >= 0 && read(fd, out, size) == (ssize_t)size;

    if (fd >= 0) close(fd);
    return all;
}

/* The bytes of a numeric address, without its zone, 4 or 16; 0: a name. What the system takes for
 * an IPv4 address is one (127.1, 0x7f000001): a certificate for that name is not meant. */
static size_t dnstap__parse_ip(const char *host, uint8_t out[16])
{
    char text[64];
    size_t n = strcspn(host, "%");
    struct in_addr odd;

    if (n >= sizeof text) return 0;
    memcpy(text, host, n);
    text[n] = '\0';
    if (inet_pton(AF_INET, text, out) == 1) return 4;
    if (inet_pton(AF_INET6, text, out) == 1) return 16;
    odd.s_addr = inet_addr(text);
    if (odd.s_addr == (in_addr_t)-1 || text[strspn(text, "0123456789abcdefABCDEFxX.")]) return 0;
    memcpy(out, &odd.s_addr, 4);
    return 4;
}

#elif DNSTAP__HAS_TLS
static uint64_t dnstap__unix_time(void *user) { return user ? 0 : 0; }
static bool dnstap__urandom(void *out, size_t size) { return out && size && false; }

/* The bytes of a numeric IPv4 address, 4; 0: a name. */
static size_t dnstap__parse_ip(const char *host, uint8_t out[16])
{
    unsigned part, i;

    for (i = 0; i < 4; i++) {
        if (*host < '0' || *host > '9') return 0;
        for (part = 0; *host >= '0' && *host <= '9' && part < 256; host++)
            part = part * 10 + (unsigned)(*host - '0');
        if (part > 255 || *host != (i < 3 ? '.' : '\0')) return 0;
        out[i] = (uint8_t)part;
        if (i < 3) host++;
    }
    return 4;
}
#endif

#if DNSTAP__HAS_RANDOM && DNSTAP__LINUX
/* Early after boot there may be none yet: an error of this attempt, not a reason to wait. */
static bool dnstap__entropy(void *user, void *out, size_t size)
{
    ssize_t n = getrandom(out, size, GRND_NONBLOCK);

    (void)user;
    if (n < 0 && errno == ENOSYS) return dnstap__urandom(out, size);
    return n == (ssize_t)size;
}
#elif DNSTAP__HAS_RANDOM
static bool dnstap__entropy(void *user, void *out, size_t size)
{
    (void)user;
    return getentropy(out, size) == 0 || dnstap__urandom(out, size);
}
#elif DNSTAP__HAS_TLS
static bool dnstap__entropy(void *user, void *out, size_t size)
{
    (void)user;
    return dnstap__urandom(out, size);
}
#endif

/* ---- >>util ------------------------------------------------------------------------------- */

/* Small things everything uses: bytes to numbers, text without stdio (a firmware has no room for
 * it), memory carved from one block. Always: what goes into a text as %s can be shown, whoever made
 * it: a file's name, a certificate, a peer. */
static uint32_t dnstap__get32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void dnstap__put32(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 24);
    p[1] = (uint8_t)(v >> 16);
    p[2] = (uint8_t)(v >> 8);
    p[3] = (uint8_t)v;
}

static size_t dnstap__min(size_t a, size_t b) { return a < b ? a : b; }

/* Of ASCII. */
static inline unsigned char dnstap__lower(char c)
{
    return (unsigned char)(c >= 'A' && c <= 'Z' ? c + 32 : c);
}

/* Clears what nobody may find, even if it is never read again. */
static void dnstap__wipe(void *data, size_t size)
{
    volatile uint8_t *p = (volatile uint8_t *)data;

    while (size--) *p++ = 0;
}

#if DNSTAP__HAS_TEXT || DNSTAP__HAS_SOCKETS || DNSTAP__HAS_FILES || DNSTAP__HAS_TLS || \
    DNSTAP__HAS_DIRECTIVE
typedef struct dnstap__text {
    char *out;
    size_t used, size;
} dnstap__text;

/* Adds all of the bytes; without room for them the text ends there. */
static void dnstap__text_bytes(dnstap__text *t, const char *s, size_t n)
{
    if (t->size < n || t->used >= t->size - n) {
        t->size = t->used + 1;
        return;
    }
    memcpy(t->out + t->used, s, n);
    t->used += n;
}

static void dnstap__text_char(dnstap__text *t, char c) { dnstap__text_bytes(t, &c, 1); }

static void dnstap__text_string(dnstap__text *t, const char *s)
{
    while (*s) dnstap__text_char(t, *s++);
}

static void dnstap__text_number(dnstap__text *t, unsigned long v)
{
    char digits[24];
    size_t n = sizeof digits;

    digits[--n] = '\0';
    do digits[--n] = (char)('0' + v % 10);
    while (v /= 10);
    dnstap__text_string(t, digits + n);
}

/* Whether a character neither commands a terminal nor changes the order or the end of what is read:
 * no control, mark of direction, line or paragraph, nothing invisible. */
static bool dnstap__is_shown(uint32_t c)
{
    static const uint32_t not_shown[][2] = {{0, 0x1f},        {0x7f, 0x9f},     {0xad, 0xad},
                                            {0x61c, 0x61c},   {0x180e, 0x180e}, {0x200b, 0x200f},
                                            {0x2028, 0x202e}, {0x2060, 0x206f}, {0xfeff, 0xfeff},
                                            {0xfff0, 0xfffb}, {0xfffe, 0xffff}, {0xe0000, 0xe0fff}};
    size_t i;

    for (i = 0; i < sizeof not_shown / sizeof not_shown[0]; i++)
        if (c >= not_shown[i][0] && c <= not_shown[i][1]) return false;
    return true;
}

/* The character at s, and how many bytes it has; 0: they are not UTF-8 (RFC 3629 §4). */
static unsigned dnstap__character(const char *at, uint32_t *c)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    const uint8_t *s = (const uint8_t *)at;
    unsigned n = s[0] < 0x80 ? 1 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4, i;
    uint32_t v = n == 1 ? s[0] : s[0] & (0x7fu >> n);

    for (i = 1; i < n && (s[i] & 0xc0) == 0x80; i++) v = v << 6 | (s[i] & 0x3fu);
    if (i == n && (n == 1 || s[0] >= 0xc0) && s[0] < 0xf8 && v >= least[n] && v <= 0x10ffff &&
        (v < 0xd800 || v > 0xdfff)) {
        *c = v;
        return n;
    }
    *c = 0xfffd;
    return 0;
}

/* Takes the next character of s, as what stands for it in a text; a byte that can't be shown is as
 * C would write it: \x1b. Returns the size of out, at most 4. */
static size_t dnstap__take_shown(const char **s, char out[4])
{
    static const char hex[] = "0123456789abcdef";
    uint8_t byte = (uint8_t)(*s)[0];
    uint32_t c;
    size_t n = dnstap__character(*s, &c);

    if (n && dnstap__is_shown(c)) {
        memcpy(out, *s, n);
        *s += n;
        return n;
    }
    ++*s;
    out[0] = '\\';
    out[1] = 'x';
    out[2] = hex[byte >> 4];
    out[3] = hex[byte & 15];
    return 4;
}

/* A name or a text from outside; of one longer than `most` bytes the beginning, so that what
 * follows has room. */
static void dnstap__text_cut(dnstap__text *t, const char *s, size_t most)
{
    const char *p = s;
    size_t n, size = 0;
    char out[4];

    while (*p) size += dnstap__take_shown(&p, out);
    for (p = s, size = size > most ? most - 3 : most; *p; size -= n) {
        n = dnstap__take_shown(&p, out);
        if (n > size) {
            dnstap__text_string(t, "...");
            return;
        }
        dnstap__text_bytes(t, out, n);
    }
}

/* printf's %s (160 bytes of it, all shown), %d, %u and %lu; cut at size, always terminated. */
static void dnstap__vformat(char *out, size_t size, const char *format, va_list args)
{
    dnstap__text t = {NULL, 0, 0};
    int v;

    t.out = out;
    t.size = size;
    for (; *format; format++) {
        if (*format != '%') {
            dnstap__text_char(&t, *format);
            continue;
        }
        if (*++format == 's') dnstap__text_cut(&t, va_arg(args, const char *), 160);
        if (*format == 'u') dnstap__text_number(&t, va_arg(args, unsigned));
        if (*format == 'd') {
            v = va_arg(args, int);
            if (v < 0) dnstap__text_char(&t, '-');
            dnstap__text_number(&t, v < 0 ? 0ul - (unsigned long)v : (unsigned long)v);
        }
        if (*format == 'l') {
            dnstap__text_number(&t, va_arg(args, unsigned long));
            format++;
        }
    }
    if (size) out[t.used] = '\0';
}

/* What is no text for users, but an address or a number. */
DNSTAP__PRINTF(3, 4)
static void dnstap__print(char *out, size_t size, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    dnstap__vformat(out, size, format, args);
    va_end(args);
}
#endif

/* Texts: of errors, and for the log. Where a build has none, what would be in them is looked at by
 * the compiler, and then left out with all that makes it. */
#if DNSTAP__HAS_TEXT
#define DNSTAP__TEXT(text) text
#define dnstap__format dnstap__print

/* Fills in error, which may be NULL, and returns code. */
DNSTAP__PRINTF(4, 5)
static int dnstap__fail(dnstap_error *error, int code, int sys_errno, const char *format, ...)
{
    va_list args;

    if (!error) return code;
    memset(error, 0, sizeof *error);
    error->code = code;
    error->sys_errno = sys_errno;
    va_start(args, format);
    dnstap__vformat(error->text, sizeof error->text, format, args);
    va_end(args);
    return code;
}
#else
#define DNSTAP__TEXT(text) ""
DNSTAP__PRINTF(1, 2)
void dnstap__unsaid(const char *format, ...); /* is nowhere, and never called */
#define DNSTAP__UNSAID(...) (0 ? dnstap__unsaid(__VA_ARGS__) : (void)0)
#define dnstap__format(out, size, ...) \
    (DNSTAP__UNSAID(__VA_ARGS__), (void)(size), (void)((out)[0] = '\0'))
#define dnstap__fail(error, code, sys_errno, ...) \
    (DNSTAP__UNSAID(__VA_ARGS__), dnstap__fail_code(error, code, sys_errno))

static int dnstap__fail_code(dnstap_error *error, int code, int sys_errno)
{
    if (!error) return code;
    memset(error, 0, sizeof *error);
    error->code = code;
    error->sys_errno = sys_errno;
    return code;
}
#endif

#if DNSTAP__HAS_METRICS || DNSTAP__HAS_DIRECTIVE
/* A text that may find less room than it needs: what is written then, and how long it all is. */
typedef struct dnstap__page {
    char *out; /* NULL: only counts */
    size_t used, size;
    size_t whole; /* up to the end of the last whole line that has room */
    bool block;   /* is open */
    bool bad;     /* something could not be written */
} dnstap__page;

static void dnstap__write(dnstap__page *p, const char *s, size_t n)
{
    if (p->out && p->size > p->used) memcpy(p->out + p->used, s, dnstap__min(n, p->size - p->used));
    p->used += n;
}

static void dnstap__write_string(dnstap__page *p, const char *s) { dnstap__write(p, s, strlen(s)); }
#endif

/* The smallest power of two that is no less than n; 0: there is none. */
static size_t dnstap__power_of_two(size_t n)
{
    size_t power = 1;

    while (power && power < n) power <<= 1;
    return power;
}

/* Carves aligned pieces from a block; to more than 8 from one that is aligned for it, which what
 * malloc gives need not be. Without a block (base NULL) it only adds up what they take,
 * so that the same code tells the size and uses it. */
typedef struct dnstap__arena {
    uint8_t *base;
    size_t used, size; /* size SIZE_MAX while adding up */
    bool overflow;
} dnstap__arena;

static void *dnstap__take(dnstap__arena *a, size_t size, size_t align)
{
    size_t at = (a->used + align - 1) & ~(align - 1);

    DNSTAP_ASSERT(align && !(align & (align - 1)));
    DNSTAP_ASSERT(!((size_t)a->base & (align - 1)));
    if (at < a->used || at > a->size || size > a->size - at) {
        a->overflow = true;
        return NULL;
    }
    a->used = at + size;
    return a->base ? a->base + at : NULL;
}

static const char *dnstap__take_string(dnstap__arena *a, const char *s)
{
    size_t size = s ? strlen(s) + 1 : 0;
    char *copy = (char *)(s ? dnstap__take(a, size, 1) : NULL);

    if (copy) memcpy(copy, s, size);
    return copy;
}

static dnstap_bytes dnstap__take_bytes(dnstap__arena *a, dnstap_bytes b)
{
    void *copy = b.data ? dnstap__take(a, b.size, 1) : NULL;

    if (copy && b.size) memcpy(copy, b.data, b.size);
    b.data = copy;
    return b;
}

static bool dnstap__is_relative(const char *path) { return path && *path && *path != '/'; }

/* The same of a text that is a path from s + at on: behind base, unless that is "". */
static const char *dnstap__take_path(dnstap__arena *a, const char *s, size_t at, const char *base)
{
    size_t between = *base && s && dnstap__is_relative(s + at) ? strlen(base) : 0, rest;
    bool slash = between && base[between - 1] != '/';
    char *copy;

    if (!between) return dnstap__take_string(a, s);
    rest = strlen(s + at) + 1;
    copy = (char *)dnstap__take(a, at + between + slash + rest, 1);
    if (!copy) return NULL;
    memcpy(copy, s, at);
    memcpy(copy + at, base, between);
    if (slash) copy[at + between] = '/';
    memcpy(copy + at + between + slash, s + at, rest);
    return copy;
}

/* ---- >>results ---------------------------------------------------------------------------- */

#if DNSTAP__HAS_TEXT
DNSTAP_API const char *dnstap_strerror(int result)
{
#define DNSTAP__X(name, value, text) \
    if (result == (value)) return text;
    DNSTAP_RESULTS(DNSTAP__X)
#undef DNSTAP__X
    return "unknown result";
}
#else
DNSTAP_API const char *dnstap_strerror(int result) { return result ? "" : ""; }
#endif

/* ---- >>generated -------------------------------------------------------------------------- */

/* What nanopb's generator makes of proto/dnstap.proto: field numbers, enumerations, and for each
 * message a struct and its descriptor. Everything in it is private and static. The descriptors
 * hand each bytes field to dnstap__bytes_field. */
#if DNSTAP__HAS_DESCRIPTORS
static bool dnstap__bytes_field(pb_istream_t *in, pb_ostream_t *out, const pb_field_t *field);
#endif

/* BEGIN generated: made from proto/ by nanopb-0.4.7; `make proto` renews it, don't edit. */
/* clang-format off */
typedef enum dnstap__SocketFamily {
    dnstap__DNSTAP_FAMILY_INET = 1,
    dnstap__DNSTAP_FAMILY_INET6 = 2
} dnstap__SocketFamily;

typedef enum dnstap__SocketProtocol {
    dnstap__DNSTAP_PROTOCOL_UDP = 1,
    dnstap__DNSTAP_PROTOCOL_TCP = 2,
    dnstap__DNSTAP_PROTOCOL_DOT = 3,
    dnstap__DNSTAP_PROTOCOL_DOH = 4,
    dnstap__DNSTAP_PROTOCOL_DNSCryptUDP = 5,
    dnstap__DNSTAP_PROTOCOL_DNSCryptTCP = 6,
    dnstap__DNSTAP_PROTOCOL_DOQ = 7
} dnstap__SocketProtocol;

typedef enum dnstap__HttpProtocol {
    dnstap__DNSTAP_HTTP_HTTP1 = 1,
    dnstap__DNSTAP_HTTP_HTTP2 = 2,
    dnstap__DNSTAP_HTTP_HTTP3 = 3
} dnstap__HttpProtocol;

typedef enum dnstap__Dnstap_Type {
    dnstap__Dnstap_Type_MESSAGE = 1
} dnstap__Dnstap_Type;

typedef enum dnstap__Policy_Match {
    dnstap__DNSTAP_MATCH_QNAME = 1,
    dnstap__DNSTAP_MATCH_CLIENT_IP = 2,
    dnstap__DNSTAP_MATCH_RESPONSE_IP = 3,
    dnstap__DNSTAP_MATCH_NS_NAME = 4,
    dnstap__DNSTAP_MATCH_NS_IP = 5
} dnstap__Policy_Match;

typedef enum dnstap__Policy_Action {
    dnstap__DNSTAP_ACTION_NXDOMAIN = 1,
    dnstap__DNSTAP_ACTION_NODATA = 2,
    dnstap__DNSTAP_ACTION_PASS = 3,
    dnstap__DNSTAP_ACTION_DROP = 4,
    dnstap__DNSTAP_ACTION_TRUNCATE = 5,
    dnstap__DNSTAP_ACTION_LOCAL_DATA = 6
} dnstap__Policy_Action;

typedef enum dnstap__Message_Type {
    dnstap__DNSTAP_MSG_AUTH_QUERY = 1,
    dnstap__DNSTAP_MSG_AUTH_RESPONSE = 2,
    dnstap__DNSTAP_MSG_RESOLVER_QUERY = 3,
    dnstap__DNSTAP_MSG_RESOLVER_RESPONSE = 4,
    dnstap__DNSTAP_MSG_CLIENT_QUERY = 5,
    dnstap__DNSTAP_MSG_CLIENT_RESPONSE = 6,
    dnstap__DNSTAP_MSG_FORWARDER_QUERY = 7,
    dnstap__DNSTAP_MSG_FORWARDER_RESPONSE = 8,
    dnstap__DNSTAP_MSG_STUB_QUERY = 9,
    dnstap__DNSTAP_MSG_STUB_RESPONSE = 10,
    dnstap__DNSTAP_MSG_TOOL_QUERY = 11,
    dnstap__DNSTAP_MSG_TOOL_RESPONSE = 12,
    dnstap__DNSTAP_MSG_UPDATE_QUERY = 13,
    dnstap__DNSTAP_MSG_UPDATE_RESPONSE = 14
} dnstap__Message_Type;

#define dnstap__Policy_type_tag                  1
#define dnstap__Policy_rule_tag                  2
#define dnstap__Policy_action_tag                3
#define dnstap__Policy_match_tag                 4
#define dnstap__Policy_value_tag                 5
#define dnstap__Message_type_tag                 1
#define dnstap__Message_socket_family_tag        2
#define dnstap__Message_socket_protocol_tag      3
#define dnstap__Message_query_address_tag        4
#define dnstap__Message_response_address_tag     5
#define dnstap__Message_query_port_tag           6
#define dnstap__Message_response_port_tag        7
#define dnstap__Message_query_time_sec_tag       8
#define dnstap__Message_query_time_nsec_tag      9
#define dnstap__Message_query_message_tag        10
#define dnstap__Message_query_zone_tag           11
#define dnstap__Message_response_time_sec_tag    12
#define dnstap__Message_response_time_nsec_tag   13
#define dnstap__Message_response_message_tag     14
#define dnstap__Message_policy_tag               15
#define dnstap__Message_http_protocol_tag        16
#define dnstap__Dnstap_identity_tag              1
#define dnstap__Dnstap_version_tag               2
#define dnstap__Dnstap_extra_tag                 3
#define dnstap__Dnstap_message_tag               14
#define dnstap__Dnstap_type_tag                  15

#if DNSTAP__HAS_DESCRIPTORS
#if PB_PROTO_HEADER_VERSION != 40
#error Regenerate this file with the current version of nanopb generator.
#endif

typedef struct dnstap__Policy {
    dnstap_bytes f_type;
    dnstap_bytes f_rule;
    bool has_f_action;
    uint32_t f_action;
    bool has_f_match;
    uint32_t f_match;
    dnstap_bytes f_value;
} dnstap__Policy;

typedef struct dnstap__Message {
    uint32_t f_type;
    bool has_f_socket_family;
    uint32_t f_socket_family;
    bool has_f_socket_protocol;
    uint32_t f_socket_protocol;

    dnstap_bytes f_query_address;
    dnstap_bytes f_response_address;
    bool has_f_query_port;
    uint32_t f_query_port;
    bool has_f_response_port;
    uint32_t f_response_port;
    bool has_f_query_time_sec;
    uint64_t f_query_time_sec;
    bool has_f_query_time_nsec;
    uint32_t f_query_time_nsec;
    dnstap_bytes f_query_message;
    dnstap_bytes f_query_zone;
    bool has_f_response_time_sec;
    uint64_t f_response_time_sec;
    bool has_f_response_time_nsec;
    uint32_t f_response_time_nsec;
    dnstap_bytes f_response_message;
    bool has_f_policy;
    dnstap__Policy f_policy;
    bool has_f_http_protocol;
    uint32_t f_http_protocol;
} dnstap__Message;

typedef struct dnstap__Dnstap {
    dnstap_bytes f_identity;
    dnstap_bytes f_version;
    dnstap_bytes f_extra;
    bool has_f_message;
    dnstap__Message f_message;
    uint32_t f_type;
} dnstap__Dnstap;

#define dnstap__Dnstap_FIELDLIST(X, a) \
X(a, CALLBACK, OPTIONAL, BYTES,    f_identity,          1) \
X(a, CALLBACK, OPTIONAL, BYTES,    f_version,           2) \
X(a, CALLBACK, OPTIONAL, BYTES,    f_extra,             3) \
X(a, STATIC,   OPTIONAL, MESSAGE,  f_message,          14) \
X(a, STATIC,   REQUIRED, UINT32,   f_type,             15)
#define dnstap__Dnstap_CALLBACK dnstap__bytes_field
#define dnstap__Dnstap_DEFAULT NULL
#define dnstap__Dnstap_f_message_MSGTYPE dnstap__Message

#define dnstap__Policy_FIELDLIST(X, a) \
X(a, CALLBACK, OPTIONAL, STRING,   f_type,              1) \
X(a, CALLBACK, OPTIONAL, BYTES,    f_rule,              2) \
X(a, STATIC,   OPTIONAL, UINT32,   f_action,            3) \
X(a, STATIC,   OPTIONAL, UINT32,   f_match,             4) \
X(a, CALLBACK, OPTIONAL, BYTES,    f_value,             5)
#define dnstap__Policy_CALLBACK dnstap__bytes_field
#define dnstap__Policy_DEFAULT NULL

#define dnstap__Message_FIELDLIST(X, a) \
X(a, STATIC,   REQUIRED, UINT32,   f_type,              1) \
X(a, STATIC,   OPTIONAL, UINT32,   f_socket_family,     2) \
X(a, STATIC,   OPTIONAL, UINT32,   f_socket_protocol,   3) \
X(a, CALLBACK, OPTIONAL, BYTES,    f_query_address,     4) \
X(a, CALLBACK, OPTIONAL, BYTES,    f_response_address,   5) \
X(a, STATIC,   OPTIONAL, UINT32,   f_query_port,        6) \
X(a, STATIC,   OPTIONAL, UINT32,   f_response_port,     7) \
X(a, STATIC,   OPTIONAL, UINT64,   f_query_time_sec,    8) \
X(a, STATIC,   OPTIONAL, FIXED32,  f_query_time_nsec,   9) \
X(a, CALLBACK, OPTIONAL, BYTES,    f_query_message,    10) \
X(a, CALLBACK, OPTIONAL, BYTES,    f_query_zone,       11) \
X(a, STATIC,   OPTIONAL, UINT64,   f_response_time_sec,  12) \
X(a, STATIC,   OPTIONAL, FIXED32,  f_response_time_nsec,  13) \
X(a, CALLBACK, OPTIONAL, BYTES,    f_response_message,  14) \
X(a, STATIC,   OPTIONAL, MESSAGE,  f_policy,           15) \
X(a, STATIC,   OPTIONAL, UINT32,   f_http_protocol,    16)
#define dnstap__Message_CALLBACK dnstap__bytes_field
#define dnstap__Message_DEFAULT NULL
#define dnstap__Message_f_policy_MSGTYPE dnstap__Policy

/* PB_BIND of nanopb 0.4, but static. */
#define DNSTAP__BIND(name, width)                             \
    static const uint32_t name##_field_info[] PB_PROGMEM = {  \
        name##_FIELDLIST(PB_GEN_FIELD_INFO_##width, name) 0}; \
    static const pb_msgdesc_t *const name##_submsg_info[] = { \
        name##_FIELDLIST(PB_GEN_SUBMSG_INFO, name) NULL};     \
    static const pb_msgdesc_t name##_msg = {                  \
        name##_field_info,                                    \
        name##_submsg_info,                                   \
        name##_DEFAULT,                                       \
        name##_CALLBACK,                                      \
        0 name##_FIELDLIST(PB_GEN_FIELD_COUNT, name),         \
        0 name##_FIELDLIST(PB_GEN_REQ_FIELD_COUNT, name),     \
        0 name##_FIELDLIST(PB_GEN_LARGEST_TAG, name)};        \
    name##_FIELDLIST(PB_GEN_FIELD_INFO_ASSERT_##width, name)

DNSTAP__BIND(dnstap__Policy, AUTO)
DNSTAP__BIND(dnstap__Message, 2)
DNSTAP__BIND(dnstap__Dnstap, 2)
#endif
/* clang-format on */
/* END generated */

/* The numbers of the API are those of the schema. */
#define DNSTAP__X(constant, value, name, brief) \
    typedef char dnstap__same_##constant[(int)dnstap__##constant == (value) ? 1 : -1];
DNSTAP_MESSAGE_TYPES(DNSTAP__X)
DNSTAP_SOCKET_FAMILIES(DNSTAP__X)
DNSTAP_SOCKET_PROTOCOLS(DNSTAP__X)
DNSTAP_HTTP_PROTOCOLS(DNSTAP__X)
DNSTAP_POLICY_ACTIONS(DNSTAP__X)
DNSTAP_POLICY_MATCHES(DNSTAP__X)
#undef DNSTAP__X

/* ---- >>message ---------------------------------------------------------------------------- */

/* The struct's setters and the names of its enumerations. A setter writes all of its fields or
 * none. Addresses stay where they are, inside the caller's sockaddr. What reads a sockaddr goes
 * by bytes: it may be any of its kinds, at any alignment. */

#define DNSTAP__PRESENT(field) (1u << dnstap__Message_##field##_tag)

/* Whether an IPv6 address holds an IPv4 address, in its last four bytes (RFC 4291, 2.5.5.2). */
static inline bool dnstap__is_mapped(const uint8_t *ip)
{
    static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    return memcmp(ip, mapped, sizeof mapped) == 0;
}

/* In pieces: gcc clears as much in one with `rep stos`, which takes 10 ns longer. */
DNSTAP_API void dnstap_message_start(dnstap_message *m, uint32_t type)
{
    enum { DNSTAP__QUARTER = DNSTAP__SMALL ? 0 : sizeof *m / 4 & ~15u };
    char *p = (char *)m;
    if (!DNSTAP__SMALL) {
        memset(p, 0, DNSTAP__QUARTER);
        memset(p + DNSTAP__QUARTER, 0, DNSTAP__QUARTER);
        memset(p + 2 * DNSTAP__QUARTER, 0, DNSTAP__QUARTER);
    }
    memset(p + 3 * DNSTAP__QUARTER, 0, sizeof *m - 3 * DNSTAP__QUARTER);
    m->type = type;
}

DNSTAP_API dnstap_bytes dnstap_bytes_of(const void *data, size_t size)
{
    dnstap_bytes bytes;
    bytes.data = data;
    bytes.size = size;
    return bytes;
}

/* An address as the schema has it. */
typedef struct dnstap__host_port {
    uint32_t family, port;
    dnstap_bytes address;
} dnstap__host_port;

/* Both addresses of a message share one family: other is the one that this must go with. */
static int dnstap__set_host_port(dnstap_message *m, const dnstap__host_port *h, uint32_t protocol,
                                 dnstap_bytes other)
{
    if (other.data && other.size != h->address.size) return DNSTAP_BAD_MESSAGE;
    m->socket_family = h->family;
    m->socket_protocol = protocol;
    return DNSTAP_OK;
}

static int dnstap__set_query(dnstap_message *m, const dnstap__host_port *h, uint32_t protocol)
{
    int n = dnstap__set_host_port(m, h, protocol, m->response_address);
    if (n < 0) return n;
    m->query_address = h->address;
    m->query_port = h->port;
    return DNSTAP_OK;
}

static int dnstap__set_response(dnstap_message *m, const dnstap__host_port *h, uint32_t protocol)
{
    int n = dnstap__set_host_port(m, h, protocol, m->query_address);
    if (n < 0) return n;
    m->response_address = h->address;
    m->response_port = h->port;
    return DNSTAP_OK;
}

static int dnstap__from_ip(const void *ip, size_t size, uint16_t port, dnstap__host_port *h)
{
    if (size != 4 && size != 16) return DNSTAP_BAD_MESSAGE;
    h->family = size == 4 ? DNSTAP_FAMILY_INET : DNSTAP_FAMILY_INET6;
    h->port = port;
    h->address = dnstap_bytes_of(ip, size);
    return DNSTAP_OK;
}

DNSTAP_API int dnstap_set_query_ip(dnstap_message *m, const void *ip, size_t size, uint16_t port,
                                   uint32_t protocol)
{
    dnstap__host_port h;
    int n = dnstap__from_ip(ip, size, port, &h);
    return n < 0 ? n : dnstap__set_query(m, &h, protocol);
}

DNSTAP_API int dnstap_set_response_ip(dnstap_message *m, const void *ip, size_t size, uint16_t port,
                                      uint32_t protocol)
{
    dnstap__host_port h;
    int n = dnstap__from_ip(ip, size, port, &h);
    return n < 0 ? n : dnstap__set_response(m, &h, protocol);
}

/* The schema numbers queries odd, and the responses to them one more. */
DNSTAP_API bool dnstap_is_response(uint32_t type) { return type && type % 2 == 0; }

#if DNSTAP__POSIX
/* Takes a socket address apart; an IPv4-mapped one is IPv4. h borrows from it. DNSTAP_BAD_MESSAGE:
 * of another family. */
static int dnstap__from_sockaddr(const struct sockaddr *address, dnstap__host_port *h)
{
    const uint8_t *bytes = (const uint8_t *)address, *ip, *port;
    if (address->sa_family == AF_INET) {
        ip = bytes + offsetof(struct sockaddr_in, sin_addr);
        port = bytes + offsetof(struct sockaddr_in, sin_port);
        h->family = DNSTAP_FAMILY_INET;
    } else if (address->sa_family == AF_INET6) {
        ip = bytes + offsetof(struct sockaddr_in6, sin6_addr);
        port = bytes + offsetof(struct sockaddr_in6, sin6_port);
        h->family = DNSTAP_FAMILY_INET6;
        if (dnstap__is_mapped(ip)) {
            ip += 12;
            h->family = DNSTAP_FAMILY_INET;
        }
    } else {
        return DNSTAP_BAD_MESSAGE;
    }
    h->port = (uint32_t)port[0] << 8 | port[1];
    h->address = dnstap_bytes_of(ip, h->family == DNSTAP_FAMILY_INET ? 4 : 16);
    return DNSTAP_OK;
}

DNSTAP_API int dnstap_set_query_address(dnstap_message *m, const struct sockaddr *address,
                                        uint32_t protocol)
{
    dnstap__host_port h;
    int n = dnstap__from_sockaddr(address, &h);
    return n < 0 ? n : dnstap__set_query(m, &h, protocol);
}

DNSTAP_API int dnstap_set_response_address(dnstap_message *m, const struct sockaddr *address,
                                           uint32_t protocol)
{
    dnstap__host_port h;
    int n = dnstap__from_sockaddr(address, &h);
    return n < 0 ? n : dnstap__set_response(m, &h, protocol);
}

/* With the scope, which follows the address on all systems known, where it has one. */
static int dnstap__with_scope(const struct sockaddr *address, dnstap__host_port *h)
{
    const size_t at = offsetof(struct sockaddr_in6, sin6_scope_id);
    uint32_t scope = 0;
    int n = dnstap__from_sockaddr(address, h);
    if (n < 0 || h->family != DNSTAP_FAMILY_INET6) return n;
    if (at != offsetof(struct sockaddr_in6, sin6_addr) + 16) return n;
    memcpy(&scope, (const uint8_t *)address + at, sizeof scope);
    if (scope) h->address.size = 20;
    return n;
}

DNSTAP_API int dnstap_set_client_address(dnstap_message *m, const struct sockaddr *address,
                                         uint32_t protocol)
{
    dnstap__host_port h;
    int n = dnstap__with_scope(address, &h);
    if (n < 0) return n;
    m->client_address = h.address;
    m->client_port = h.port;
    m->client_protocol = protocol;
    return DNSTAP_OK;
}

DNSTAP_API int dnstap_set_local_address(dnstap_message *m, const struct sockaddr *address)
{
    dnstap__host_port h;
    int n = dnstap__with_scope(address, &h);
    if (n < 0) return n;
    m->local_address = h.address;
    return DNSTAP_OK;
}
#endif

/* The seconds of a clock: one of 32 bits goes on after 2038 as if it had no sign; of 64 bits, what
 * is before 1970 can't be told. */
static bool dnstap__seconds(const struct timespec *time, uint64_t *seconds)
{
    if (sizeof time->tv_sec == 4)
        *seconds = (uint32_t)time->tv_sec;
    else
        *seconds = (uint64_t)time->tv_sec;
    return *seconds >> 63 == 0;
}

/* Sets a time, or leaves it absent: bits are those of its two fields in m->present. */
static void dnstap__set_time(dnstap_message *m, uint64_t *sec, uint32_t *nsec, uint32_t bits,
                             const struct timespec *time)
{
    bool known = dnstap__seconds(time, sec);

    m->present = known ? m->present | bits : m->present & ~bits;
    *sec = known ? *sec : 0;
    *nsec = known ? (uint32_t)time->tv_nsec : 0;
}

DNSTAP_API void dnstap_set_query_time(dnstap_message *m, const struct timespec *time)
{
    dnstap__set_time(m, &m->query_time_sec, &m->query_time_nsec,
                     DNSTAP__PRESENT(query_time_sec) | DNSTAP__PRESENT(query_time_nsec), time);
}

DNSTAP_API void dnstap_set_response_time(dnstap_message *m, const struct timespec *time)
{
    dnstap__set_time(m, &m->response_time_sec, &m->response_time_nsec,
                     DNSTAP__PRESENT(response_time_sec) | DNSTAP__PRESENT(response_time_nsec),
                     time);
}

#if DNSTAP__POSIX
DNSTAP_API void dnstap_fill(dnstap_message *m, uint32_t type, const struct sockaddr *query_address,
                            const struct sockaddr *response_address, uint32_t protocol,
                            const struct timespec *asked, const struct timespec *answered,
                            const void *wire, size_t size)
{
    bool response = dnstap_is_response(type);
    int n = DNSTAP_OK;
    dnstap_message_start(m, type);
    m->socket_protocol = protocol;
    if (query_address) n = dnstap_set_query_address(m, query_address, protocol);
    if (response_address) n |= dnstap_set_response_address(m, response_address, protocol);
    if (n < 0) m->query_port = UINT32_MAX; /* dnstap_log refuses it, and counts it as bad */
    if (asked) dnstap_set_query_time(m, asked);
    if (answered && response) dnstap_set_response_time(m, answered);
    *(response ? &m->response_message : &m->query_message) = dnstap_bytes_of(wire, size);
}
#endif

#if DNSTAP__HAS_TEXT
typedef struct dnstap__name {
    uint32_t value;
    const char *name, *brief; /* brief is "" where there is no short form */
} dnstap__name;

#define DNSTAP__X(constant, value, name, brief) {value, name, brief},
static const dnstap__name dnstap__types[] = {DNSTAP_MESSAGE_TYPES(DNSTAP__X){0, NULL, NULL}};
static const dnstap__name dnstap__families[] = {DNSTAP_SOCKET_FAMILIES(DNSTAP__X){0, NULL, NULL}};
static const dnstap__name dnstap__protocols[] = {DNSTAP_SOCKET_PROTOCOLS(DNSTAP__X){0, NULL, NULL}};
static const dnstap__name dnstap__https[] = {DNSTAP_HTTP_PROTOCOLS(DNSTAP__X){0, NULL, NULL}};
static const dnstap__name dnstap__actions[] = {DNSTAP_POLICY_ACTIONS(DNSTAP__X){0, NULL, NULL}};
static const dnstap__name dnstap__matches[] = {DNSTAP_POLICY_MATCHES(DNSTAP__X){0, NULL, NULL}};
#undef DNSTAP__X

static const char *dnstap__name_of(const dnstap__name *names, uint32_t value)
{
    for (; names->name; names++)
        if (names->value == value) return names->name;
    return NULL;
}

static uint32_t dnstap__value_of(const dnstap__name *names, const char *name)
{
    if (!name || !*name) return 0;
    for (; names->name; names++)
        if (strcmp(names->name, name) == 0 || strcmp(names->brief, name) == 0) return names->value;
    return 0;
}

#define DNSTAP__NAMES(what, table)                              \
    DNSTAP_API const char *dnstap_##what##_name(uint32_t value) \
    {                                                           \
        return dnstap__name_of(table, value);                   \
    }                                                           \
    DNSTAP_API uint32_t dnstap_##what##_from(const char *name)  \
    {                                                           \
        return dnstap__value_of(table, name);                   \
    }
DNSTAP__NAMES(message_type, dnstap__types)
DNSTAP__NAMES(socket_family, dnstap__families)
DNSTAP__NAMES(socket_protocol, dnstap__protocols)
DNSTAP__NAMES(http_protocol, dnstap__https)
DNSTAP__NAMES(policy_action, dnstap__actions)
DNSTAP__NAMES(policy_match, dnstap__matches)
#undef DNSTAP__NAMES
#endif

/* ---- >>codec ------------------------------------------------------------------------------ */

/* Messages to payloads, twice, and back. dnstap_encode goes through nanopb's descriptors and is
 * what the encoding is. The ring's encoder is straight-line code for the same bytes, 30 times as
 * fast: dnstap__plan_message checks, and tells how much room the payload may take;
 * dnstap__write_message writes it, once, in field order, and tells how much it took:
 *
 *   identity, version │ extra │ 14, length │ the Message's fields, 1 … 16 │ 15, MESSAGE
 *   `- the tap's, encoded once -'
 *
 * The length is known when the fields are there. Its own size is guessed before, from the sizes of
 * the bytes; fields that were written behind a wrong guess, hardly ever, are moved by a byte.
 * What is rare (a policy, an identity of its own, long addresses) it leaves to the descriptors.
 * The decoder reads with nanopb's primitives, copies nothing, and never hands out a span that does
 * not lie inside the payload. */

/* Bytes fields end at 2^27: the eleven of a message stay below 2^31, protobuf's own limit. */
enum { DNSTAP__BYTES_BITS = 27, DNSTAP__ADDRESS_SIZE = 128 };

/* What a payload holds besides its bytes fields' bytes and the prefix: at most, with 10 bytes for
 * seconds and 4 for a length; and what a Message usually holds of it. */
enum { DNSTAP__OVERHEAD = 81, DNSTAP__OVERHEAD_USUAL = 30 };

/* Wire types. */
enum { DNSTAP__VARINT = 0, DNSTAP__BYTES = 2, DNSTAP__FIXED32 = 5 };

#define DNSTAP__KEY(field, wire) ((uint32_t)dnstap__##field##_tag << 3 | (uint32_t)(wire))
/* A macro that takes a field's name pastes it at once: handed on, it would be replaced where a
 * server has a macro of that name. */
#define DNSTAP__HAS(m, field) ((m)->field || ((m)->present & (1u << dnstap__Message_##field##_tag)))

/* What a tap puts into each message. prefix: identity and version, encoded once. */
typedef struct dnstap__fixed {
    dnstap_bytes identity, version;
    const uint8_t *prefix;
    size_t prefix_size;
    bool full;
} dnstap__fixed;

typedef struct dnstap__plan {
    size_t size;   /* of the payload: at most; when slow, exactly */
    size_t length; /* the expected size of the Message's length */
    bool slow;     /* through nanopb */
} dnstap__plan;

/* Pieces. What writes one returns where it ended. */

#if defined(__GNUC__)
/* Seven bits a byte: bits / 7, rounded up, is (bits * 9 + 64) / 64 for 1 … 32 bits. */
DNSTAP__INLINE size_t dnstap__varint_size(uint32_t v)
{
    return ((size_t)(31 ^ __builtin_clz(v | 1)) * 9 + 73) / 64;
}
#else
DNSTAP__INLINE size_t dnstap__varint_size(uint32_t v)
{
    return 1u + (v >= 1u << 7) + (v >= 1u << 14) + (v >= 1u << 21) + (v >= 1u << 28);
}
#endif

DNSTAP__INLINE uint8_t *dnstap__put_varint(uint8_t *p, uint64_t v)
{
    for (; v >= 0x80; v >>= 7) *p++ = (uint8_t)(v | 0x80);
    *p++ = (uint8_t)v;
    return p;
}

/* Unrolled for what is usual: ports, lengths. */
DNSTAP__INLINE uint8_t *dnstap__put_number(uint8_t *p, uint32_t v)
{
    if (v < 1u << 7) {
        *p++ = (uint8_t)v;
    } else if (v < 1u << 14) {
        *p++ = (uint8_t)(v | 0x80);
        *p++ = (uint8_t)(v >> 7);
    } else if (v < 1u << 21) {
        *p++ = (uint8_t)(v | 0x80);
        *p++ = (uint8_t)(v >> 7 | 0x80);
        *p++ = (uint8_t)(v >> 14);
    } else {
        p = dnstap__put_varint(p, v);
    }
    return p;
}

DNSTAP__INLINE uint8_t *dnstap__put_fixed32(uint8_t *p, uint32_t v)
{
    *p++ = (uint8_t)v;
    *p++ = (uint8_t)(v >> 8);
    *p++ = (uint8_t)(v >> 16);
    *p++ = (uint8_t)(v >> 24);
    return p;
}

DNSTAP__INLINE uint8_t *dnstap__put_bytes(uint8_t *p, dnstap_bytes bytes)
{
    p = dnstap__put_number(p, (uint32_t)bytes.size);
    memcpy(p, bytes.data, bytes.size);
    return p + bytes.size;
}

DNSTAP__INLINE uint8_t *dnstap__put_key(uint8_t *p, uint32_t key)
{
    if (key < 0x80) {
        *p++ = (uint8_t)key;
    } else {
        *p++ = (uint8_t)(key | 0x80);
        *p++ = (uint8_t)(key >> 7);
    }
    return p;
}

/* Encoding through the descriptors. */

#if DNSTAP__HAS_DESCRIPTORS
static bool dnstap__encode_bytes(pb_ostream_t *out, uint32_t tag, dnstap_bytes bytes)
{
    if (!bytes.data) return true;
    return pb_encode_tag(out, PB_WT_STRING, tag) &&
           pb_encode_string(out, (const pb_byte_t *)bytes.data, bytes.size);
}

static bool dnstap__bytes_field(pb_istream_t *in, pb_ostream_t *out, const pb_field_t *field)
{
    if (in) return false; /* dnstap_decode does without the descriptors */
    return dnstap__encode_bytes(out, field->tag, *(const dnstap_bytes *)field->pData);
}

/* NULL: counts only. */
static pb_ostream_t dnstap__output(void *out, size_t size)
{
    pb_ostream_t counting = PB_OSTREAM_SIZING;
    return out ? pb_ostream_from_buffer((pb_byte_t *)out, size) : counting;
}

static void dnstap__fill_policy(dnstap__Policy *to, const dnstap_policy *from)
{
    to->f_type = from->type;
    to->f_rule = from->rule;
    to->f_action = from->action;
    to->has_f_action = from->action != 0;
    to->f_match = from->match;
    to->has_f_match = from->match != 0;
    to->f_value = from->value;
}

#define DNSTAP__FILL(to, from, field)         \
    ((to)->f_##field = (from)->field,         \
     (to)->has_f_##field = (to)->f_##field || \
                           ((from)->present & (1u << dnstap__Message_##field##_tag)))

/* A message as the descriptors want it. */
static void dnstap__fill_message(dnstap__Message *to, const dnstap_message *from)
{
    to->f_type = from->type;
    DNSTAP__FILL(to, from, socket_family);
    DNSTAP__FILL(to, from, socket_protocol);
    to->f_query_address = from->query_address;
    to->f_response_address = from->response_address;
    DNSTAP__FILL(to, from, query_port);
    DNSTAP__FILL(to, from, response_port);
    DNSTAP__FILL(to, from, query_time_sec);
    DNSTAP__FILL(to, from, query_time_nsec);
    to->f_query_message = from->query_message;
    to->f_query_zone = from->query_zone;
    DNSTAP__FILL(to, from, response_time_sec);
    DNSTAP__FILL(to, from, response_time_nsec);
    to->f_response_message = from->response_message;
    if (from->policy) dnstap__fill_policy(&to->f_policy, from->policy);
    to->has_f_policy = from->policy != NULL;
    DNSTAP__FILL(to, from, http_protocol);
}
#undef DNSTAP__FILL

static long dnstap__encode_valid(const dnstap_message *m, void *out, size_t size)
{
    pb_ostream_t stream = dnstap__output(out, size);
    dnstap__Dnstap payload;
    memset(&payload, 0, sizeof payload);
    payload.f_identity = m->identity;
    payload.f_version = m->version;
    payload.f_extra = m->extra;
    payload.has_f_message = true;
    dnstap__fill_message(&payload.f_message, m);
    payload.f_type = dnstap__Dnstap_Type_MESSAGE;
    if (!pb_encode(&stream, &dnstap__Dnstap_msg, &payload)) return DNSTAP_NO_MEMORY;
    return (long)stream.bytes_written;
}
#else
/* The same bytes without them, field by field: counted, and written as far as there is room. */
typedef struct dnstap__emitter {
    uint8_t *out;
    size_t used, size;
} dnstap__emitter;

static void dnstap__emit(dnstap__emitter *e, const void *data, size_t size)
{
    if (size && e->used + size <= e->size) memcpy(e->out + e->used, data, size);
    e->used += size;
}

static void dnstap__emit_varint(dnstap__emitter *e, uint64_t v)
{
    uint8_t bytes[10];
    dnstap__emit(e, bytes, (size_t)(dnstap__put_varint(bytes, v) - bytes));
}

/* key and value: of a number, or the length of what follows. */
static void dnstap__emit_pair(dnstap__emitter *e, uint32_t key, uint64_t v)
{
    dnstap__emit_varint(e, key);
    dnstap__emit_varint(e, v);
}

static void dnstap__emit_bytes(dnstap__emitter *e, uint32_t tag, dnstap_bytes bytes)
{
    if (!bytes.data) return;
    dnstap__emit_pair(e, tag << 3 | DNSTAP__BYTES, bytes.size);
    dnstap__emit(e, bytes.data, bytes.size);
}

static void dnstap__emit_number(dnstap__emitter *e, const dnstap_message *m, uint32_t tag,
                                uint64_t v)
{
    if (v || m->present >> tag & 1) dnstap__emit_pair(e, tag << 3 | DNSTAP__VARINT, v);
}

static void dnstap__emit_fixed32(dnstap__emitter *e, const dnstap_message *m, uint32_t tag,
                                 uint32_t v)
{
    uint8_t bytes[5];
    if (!v && !(m->present >> tag & 1)) return;
    bytes[0] = (uint8_t)(tag << 3 | DNSTAP__FIXED32);
    dnstap__put_fixed32(bytes + 1, v);
    dnstap__emit(e, bytes, sizeof bytes);
}

static void dnstap__emit_policy(dnstap__emitter *e, const dnstap_policy *p)
{
    dnstap__emit_bytes(e, dnstap__Policy_type_tag, p->type);
    dnstap__emit_bytes(e, dnstap__Policy_rule_tag, p->rule);
    if (p->action) dnstap__emit_pair(e, DNSTAP__KEY(Policy_action, DNSTAP__VARINT), p->action);
    if (p->match) dnstap__emit_pair(e, DNSTAP__KEY(Policy_match, DNSTAP__VARINT), p->match);
    dnstap__emit_bytes(e, dnstap__Policy_value_tag, p->value);
}

/* A policy behind its length, which is counted first. */
static void dnstap__emit_sized_policy(dnstap__emitter *e, const dnstap_policy *p)
{
    dnstap__emitter counting = {NULL, 0, 0};
    if (!p) return;
    dnstap__emit_policy(&counting, p);
    dnstap__emit_pair(e, DNSTAP__KEY(Message_policy, DNSTAP__BYTES), counting.used);
    dnstap__emit_policy(e, p);
}

#define DNSTAP__EMIT(e, m, how, field) \
    dnstap__emit_##how(e, m, dnstap__Message_##field##_tag, (m)->field)
#define DNSTAP__EMIT_BYTES(e, m, field) \
    dnstap__emit_bytes(e, dnstap__Message_##field##_tag, (m)->field)

static void dnstap__emit_message(dnstap__emitter *e, const dnstap_message *m)
{
    DNSTAP__EMIT(e, m, number, type);
    DNSTAP__EMIT(e, m, number, socket_family);
    DNSTAP__EMIT(e, m, number, socket_protocol);
    DNSTAP__EMIT_BYTES(e, m, query_address);
    DNSTAP__EMIT_BYTES(e, m, response_address);
    DNSTAP__EMIT(e, m, number, query_port);
    DNSTAP__EMIT(e, m, number, response_port);
    DNSTAP__EMIT(e, m, number, query_time_sec);
    DNSTAP__EMIT(e, m, fixed32, query_time_nsec);
    DNSTAP__EMIT_BYTES(e, m, query_message);
    DNSTAP__EMIT_BYTES(e, m, query_zone);
    DNSTAP__EMIT(e, m, number, response_time_sec);
    DNSTAP__EMIT(e, m, fixed32, response_time_nsec);
    DNSTAP__EMIT_BYTES(e, m, response_message);
    dnstap__emit_sized_policy(e, m->policy);
    DNSTAP__EMIT(e, m, number, http_protocol);
}
#undef DNSTAP__EMIT
#undef DNSTAP__EMIT_BYTES

static long dnstap__encode_valid(const dnstap_message *m, void *out, size_t size)
{
    dnstap__emitter counting = {NULL, 0, 0}, e = {(uint8_t *)out, 0, out ? size : 0};
    dnstap__emit_message(&counting, m);
    dnstap__emit_bytes(&e, dnstap__Dnstap_identity_tag, m->identity);
    dnstap__emit_bytes(&e, dnstap__Dnstap_version_tag, m->version);
    dnstap__emit_bytes(&e, dnstap__Dnstap_extra_tag, m->extra);
    dnstap__emit_pair(&e, DNSTAP__KEY(Dnstap_message, DNSTAP__BYTES), counting.used);
    dnstap__emit_message(&e, m);
    dnstap__emit_pair(&e, DNSTAP__KEY(Dnstap_type, DNSTAP__VARINT), dnstap__Dnstap_Type_MESSAGE);
    return out && e.used > size ? (long)DNSTAP_NO_MEMORY : (long)e.used;
}
#endif

static bool dnstap__too_long(dnstap_bytes bytes)
{
    return bytes.data && bytes.size >> DNSTAP__BYTES_BITS != 0;
}

/* No type, an enumerated value above INT32_MAX, a port above 65,535, nanoseconds not below 1e9.
 * All in one test: what must be small sets none of the high bits. */
static bool dnstap__bad_numbers(const dnstap_message *m)
{
    uint32_t limit = 999999999;
    uint32_t numbers = m->type | m->socket_family | m->socket_protocol | m->http_protocol |
                       m->query_time_nsec | (limit - m->query_time_nsec) | m->response_time_nsec |
                       (limit - m->response_time_nsec);
    return ((numbers >> 31) | ((m->query_port | m->response_port) >> 16)) != 0 ||
           !DNSTAP__HAS(m, type);
}

static bool dnstap__bad_policy(const dnstap_policy *p)
{
    return (p->action | p->match) >> 31 != 0 || dnstap__too_long(p->type) ||
           dnstap__too_long(p->rule) || dnstap__too_long(p->value);
}

static bool dnstap__bad_message(const dnstap_message *m)
{
    return dnstap__bad_numbers(m) || dnstap__too_long(m->query_address) ||
           dnstap__too_long(m->response_address) || dnstap__too_long(m->query_message) ||
           dnstap__too_long(m->response_message) || dnstap__too_long(m->query_zone) ||
           dnstap__too_long(m->identity) || dnstap__too_long(m->version) ||
           dnstap__too_long(m->extra) || (m->policy && dnstap__bad_policy(m->policy));
}

DNSTAP_API long dnstap_encode(const dnstap_message *m, void *out, size_t size)
{
    if (dnstap__bad_message(m)) return DNSTAP_BAD_MESSAGE;
    return dnstap__encode_valid(m, out, size);
}

/* ---- >>encoder ---------------------------------------------------------------------------- */

/* The straight-line code that dnstap_log encodes with. In: a message and what its tap adds; out: a
 * payload in the room that was planned for it, written once, front to back. Always: the same bytes
 * as dnstap_encode's; what it does not cover goes there. */

static size_t dnstap__bytes_room(dnstap_bytes bytes)
{
    return bytes.data ? 1 + dnstap__varint_size((uint32_t)bytes.size) + bytes.size : 0;
}

/* The part of every payload that a tap encodes once. Returns its size; out NULL: the size it would
 * have. */
DNSTAP__APART long dnstap__encode_prefix(dnstap_bytes identity, dnstap_bytes version, uint8_t *out,
                                         size_t size)
{
    size_t need = dnstap__bytes_room(identity) + dnstap__bytes_room(version);
    if (dnstap__too_long(identity) || dnstap__too_long(version)) return DNSTAP_BAD_MESSAGE;
    if (!out) return (long)need;
    if (need > size) return DNSTAP_NO_MEMORY;
    if (identity.data)
        out = dnstap__put_bytes(dnstap__put_key(out, DNSTAP__KEY(Dnstap_identity, DNSTAP__BYTES)),
                                identity);
    if (version.data)
        dnstap__put_bytes(dnstap__put_key(out, DNSTAP__KEY(Dnstap_version, DNSTAP__BYTES)),
                          version);
    return (long)need;
}

/* m as dnstap_encode must see it: with what the tap adds, without what it leaves out. */
static void dnstap__complete(const dnstap__fixed *fixed, const dnstap_message *m,
                             dnstap_message *whole)
{
    *whole = *m;
    if (!m->identity.data) whole->identity = fixed->identity;
    if (!m->version.data) whole->version = fixed->version;
    if (fixed->full) return;
    whole->query_message.data = NULL;
    whole->response_message.data = NULL;
}

/* The exact size, by the descriptors, which will write it then. */
DNSTAP__COLD int dnstap__plan_slow(const dnstap__fixed *fixed, const dnstap_message *m,
                                   dnstap__plan *plan)
{
    dnstap_message whole;
    long n;
    plan->slow = true;
    dnstap__complete(fixed, m, &whole);
    n = dnstap_encode(&whole, NULL, 0);
    if (n < 0) return (int)n;
    plan->size = (size_t)n;
    return DNSTAP_OK;
}

DNSTAP__COLD size_t dnstap__write_slow(const dnstap__fixed *fixed, const dnstap_message *m,
                                       const dnstap__plan *plan, uint8_t *out)
{
    dnstap_message whole;
    long size;
    dnstap__complete(fixed, m, &whole);
    size = dnstap__encode_valid(&whole, out, plan->size);
    DNSTAP_ASSERT(size == (long)plan->size);
    return (size_t)size;
}

/* What the straight-line code does not cover, in one test: it has enumerated values of one byte,
 * and what dnstap_encode refuses is left to it: dnstap__bad_numbers must find no more than this. */
DNSTAP__ONCE bool dnstap__is_slow(const dnstap_message *m, size_t longest)
{
    uint32_t limit = 999999999, ports = m->query_port | m->response_port;
    uint32_t enums = m->type | (m->type - 1) | m->socket_family | m->socket_protocol |
                     m->http_protocol;
    uint32_t nanoseconds = m->query_time_nsec | (limit - m->query_time_nsec) |
                           m->response_time_nsec | (limit - m->response_time_nsec);
    size_t addresses = m->query_address.size | m->response_address.size;
    size_t rare = (size_t)m->policy | (size_t)m->identity.data | (size_t)m->version.data;
    return (rare | (addresses / DNSTAP__ADDRESS_SIZE) | (longest >> DNSTAP__BYTES_BITS) |
            (enums >> 7) | (nanoseconds >> 31) | (ports >> 16)) != 0;
}

/* The room that m's payload needs, into plan. A size counts even where its bytes are absent: that
 * is only room. DNSTAP_OK or DNSTAP_BAD_MESSAGE. */
DNSTAP__ONCE int dnstap__plan_message(const dnstap__fixed *fixed, const dnstap_message *m,
                                      dnstap__plan *plan)
{
    size_t longest = m->query_zone.size | m->extra.size;
    size_t n = m->query_address.size + m->response_address.size + m->query_zone.size;
    if (DNSTAP__LIKELY(fixed->full)) {
        longest |= m->query_message.size | m->response_message.size;
        n += m->query_message.size + m->response_message.size;
    }
    plan->slow = dnstap__is_slow(m, longest);
    if (!DNSTAP__HAS_RARE && plan->slow) return DNSTAP_BAD_MESSAGE;
    if (DNSTAP__UNLIKELY(plan->slow)) return dnstap__plan_slow(fixed, m, plan);
    plan->length = dnstap__varint_size((uint32_t)n + DNSTAP__OVERHEAD_USUAL);
    plan->size = fixed->prefix_size + n + m->extra.size + DNSTAP__OVERHEAD;
    return DNSTAP_OK;
}

/* Writing. */

DNSTAP__INLINE uint8_t *dnstap__put_enum(uint8_t *p, uint32_t v)
{
    *p++ = (uint8_t)v;
    return p;
}

/* Seconds since the epoch are of 5 bytes, from 1978 to 3058: one test, and no loop. */
DNSTAP__INLINE bool dnstap__five_bytes(uint64_t v)
{
    return v - (1u << 28) < ((uint64_t)1 << 35) - (1u << 28);
}

/* Four bytes of seven bits at once, and the fifth. */
DNSTAP__INLINE uint8_t *dnstap__put_seconds(uint8_t *p, uint64_t v)
{
    uint32_t low = (uint32_t)v;
    if (DNSTAP__UNLIKELY(!dnstap__five_bytes(v))) return dnstap__put_varint(p, v);
    p = dnstap__put_fixed32(p, (low & 0x7f) | (low << 1 & 0x7f00) | (low << 2 & 0x7f0000) |
                                   (low << 3 & 0x7f000000) | 0x80808080);
    *p++ = (uint8_t)(v >> 28);
    return p;
}

/* A copy of constant size is two instructions, one of any size a call. */
DNSTAP__INLINE uint8_t *dnstap__put_address(uint8_t *p, dnstap_bytes bytes)
{
    *p++ = (uint8_t)bytes.size;
    if (bytes.size == 4)
        memcpy(p, bytes.data, 4);
    else if (bytes.size == 16)
        memcpy(p, bytes.data, 16);
    else
        memcpy(p, bytes.data, bytes.size);
    return p + bytes.size;
}

#define DNSTAP__PUT(p, m, how, field, wire) \
    (dnstap__put_##how(dnstap__put_key(p, DNSTAP__KEY(Message_##field, wire)), (m)->field))

/* The Message, in field order. */
DNSTAP__ONCE uint8_t *dnstap__put_body(const dnstap__fixed *fixed, const dnstap_message *m,
                                       uint8_t *p)
{
    p = DNSTAP__PUT(p, m, enum, type, DNSTAP__VARINT);
    if (DNSTAP__HAS(m, socket_family)) p = DNSTAP__PUT(p, m, enum, socket_family, DNSTAP__VARINT);
    if (DNSTAP__HAS(m, socket_protocol))
        p = DNSTAP__PUT(p, m, enum, socket_protocol, DNSTAP__VARINT);
    if (m->query_address.data) p = DNSTAP__PUT(p, m, address, query_address, DNSTAP__BYTES);
    if (m->response_address.data) p = DNSTAP__PUT(p, m, address, response_address, DNSTAP__BYTES);
    if (DNSTAP__HAS(m, query_port)) p = DNSTAP__PUT(p, m, number, query_port, DNSTAP__VARINT);
    if (DNSTAP__HAS(m, response_port)) p = DNSTAP__PUT(p, m, number, response_port, DNSTAP__VARINT);
    if (DNSTAP__HAS(m, query_time_sec))
        p = DNSTAP__PUT(p, m, seconds, query_time_sec, DNSTAP__VARINT);
    if (DNSTAP__HAS(m, query_time_nsec))
        p = DNSTAP__PUT(p, m, fixed32, query_time_nsec, DNSTAP__FIXED32);
    if (fixed->full && m->query_message.data)
        p = DNSTAP__PUT(p, m, bytes, query_message, DNSTAP__BYTES);
    if (m->query_zone.data) p = DNSTAP__PUT(p, m, bytes, query_zone, DNSTAP__BYTES);
    if (DNSTAP__HAS(m, response_time_sec))
        p = DNSTAP__PUT(p, m, seconds, response_time_sec, DNSTAP__VARINT);
    if (DNSTAP__HAS(m, response_time_nsec))
        p = DNSTAP__PUT(p, m, fixed32, response_time_nsec, DNSTAP__FIXED32);
    if (fixed->full && m->response_message.data)
        p = DNSTAP__PUT(p, m, bytes, response_message, DNSTAP__BYTES);
    if (DNSTAP__HAS(m, http_protocol)) p = DNSTAP__PUT(p, m, enum, http_protocol, DNSTAP__VARINT);
    return p;
}

/* Of the usual sizes in two overlapping copies, without a call. */
DNSTAP__ONCE void dnstap__put_prefix(const dnstap__fixed *fixed, uint8_t *out)
{
    size_t n = fixed->prefix_size;
    if (DNSTAP__SMALL) {
        memcpy(out, fixed->prefix, n);
    } else if (n >= 32 && n <= 64) {
        memcpy(out, fixed->prefix, 32);
        memcpy(out + n - 32, fixed->prefix + n - 32, 32);
    } else if (n >= 16 && n < 32) {
        memcpy(out, fixed->prefix, 16);
        memcpy(out + n - 16, fixed->prefix + n - 16, 16);
    } else if (n) {
        memcpy(out, fixed->prefix, n);
    }
}

/* The length's size was not as expected: size bytes at from go to to. Returns their new end. By
 * hand: nothing else needs memmove, which is no small function. */
DNSTAP__COLD uint8_t *dnstap__move_body(uint8_t *to, const uint8_t *from, size_t size)
{
    size_t i;
    for (i = 0; to < from && i < size; i++) to[i] = from[i];
    for (i = size; to > from && i > 0; i--) to[i - 1] = from[i - 1];
    return to + size;
}

/* What was written behind p and room for a length of `guess` bytes, up to end, gets its length
 * before it. Returns its new end. */
DNSTAP__INLINE uint8_t *dnstap__put_length(uint8_t *p, size_t guess, uint8_t *end)
{
    uint8_t *body = p + guess;
    size_t size = (size_t)(end - body), length = dnstap__varint_size((uint32_t)size);
    if (DNSTAP__UNLIKELY(length != guess)) end = dnstap__move_body(p + length, body, size);
    dnstap__put_number(p, (uint32_t)size);
    return end;
}

/* What follows extra: the Message and the type. */
DNSTAP__ONCE uint8_t *dnstap__put_message(const dnstap__fixed *fixed, const dnstap_message *m,
                                          const dnstap__plan *plan, uint8_t *p)
{
    p = dnstap__put_key(p, DNSTAP__KEY(Dnstap_message, DNSTAP__BYTES));
    p = dnstap__put_length(p, plan->length, dnstap__put_body(fixed, m, p + plan->length));
    p = dnstap__put_key(p, DNSTAP__KEY(Dnstap_type, DNSTAP__VARINT));
    *p++ = dnstap__Dnstap_Type_MESSAGE;
    return p;
}

/* Writes at out what was planned, of the same m; at most plan->size bytes. Returns how many. */
DNSTAP__ONCE size_t dnstap__write_message(const dnstap__fixed *fixed, const dnstap_message *m,
                                          const dnstap__plan *plan, uint8_t *out)
{
    uint8_t *p = out + fixed->prefix_size;
    if (DNSTAP__HAS_RARE && DNSTAP__UNLIKELY(plan->slow))
        return dnstap__write_slow(fixed, m, plan, out);
    dnstap__put_prefix(fixed, out);
    if (m->extra.data) {
        p = dnstap__put_key(p, DNSTAP__KEY(Dnstap_extra, DNSTAP__BYTES));
        p = dnstap__put_bytes(p, m->extra);
    }
    p = dnstap__put_message(fixed, m, plan, p);
    DNSTAP_ASSERT((size_t)(p - out) <= plan->size);
    return (size_t)(p - out);
}

/* ---- >>decoder ---------------------------------------------------------------------------- */

/* Payloads to messages. In: bytes from anybody; out: a message that borrows from them. Always: a
 * field that is not known is skipped, of one that comes twice the last counts, and nothing is read
 * beyond the payload. */
#if DNSTAP__HAS_READER
/* Decoding. What reads a field returns SOME; NONE: it is not known and was skipped, or there is no
 * more; or an error. */
enum { DNSTAP__NONE = 0, DNSTAP__SOME = 1, DNSTAP__GROUP_DEPTH = 32 };

/* What is left of a payload, or of a message in it. */
typedef struct dnstap__input {
    const uint8_t *p, *end;
} dnstap__input;

static dnstap__input dnstap__input_of(dnstap_bytes bytes)
{
    dnstap__input in;
    in.p = (const uint8_t *)bytes.data;
    in.end = bytes.size ? in.p + bytes.size : in.p;
    return in;
}

/* nanopb's view of it, and back: what nanopb read is gone. */
static pb_istream_t dnstap__stream_of(const dnstap__input *in)
{
    return pb_istream_from_buffer((const pb_byte_t *)in->p, (size_t)(in->end - in->p));
}

static int dnstap__advance(dnstap__input *in, const pb_istream_t *stream, bool ok)
{
    in->p = in->end - stream->bytes_left;
    return ok ? (int)DNSTAP__SOME : (int)DNSTAP_BAD_PAYLOAD;
}

/* Most are of one byte, and not worth a stream; lengths and ports are often of two. */
static int dnstap__read_varint(dnstap__input *in, uint64_t *out)
{
    pb_istream_t stream;
    if (in->end - in->p >= 2 && in->p[1] < 0x80) {
        *out = (in->p[0] & 0x7fu) | (uint32_t)in->p[1] << 7;
        in->p += 2;
        return DNSTAP__SOME;
    }
    stream = dnstap__stream_of(in);
    return dnstap__advance(in, &stream, pb_decode_varint(&stream, out));
}

DNSTAP__INLINE int dnstap__read_uint64(dnstap__input *in, uint64_t *out)
{
    if (in->p == in->end || *in->p >= 0x80) return dnstap__read_varint(in, out);
    *out = *in->p++;
    return DNSTAP__SOME;
}

static int dnstap__read_fixed32(dnstap__input *in, uint32_t *out)
{
    pb_istream_t stream = dnstap__stream_of(in);
    return dnstap__advance(in, &stream, pb_decode_fixed32(&stream, out));
}

static int dnstap__skip_value(dnstap__input *in, uint32_t wire)
{
    pb_istream_t stream = dnstap__stream_of(in);
    return dnstap__advance(in, &stream, pb_skip_field(&stream, (pb_wire_type_t)wire));
}

/* The key of the next field: its number and wire type. */
static int dnstap__next_key(dnstap__input *in, uint32_t *key)
{
    uint64_t v;
    int n;
    if (in->p == in->end) return DNSTAP__NONE;
    n = dnstap__read_uint64(in, &v);
    if (n < 0) return n;
    if (v < 1u << 3 || v > UINT32_MAX) return DNSTAP_BAD_PAYLOAD; /* number 0, or too large */
    *key = (uint32_t)v;
    return DNSTAP__SOME;
}

/* Skips a field whose key was read. nanopb refuses groups; here they are skipped with all that is
 * in them, to a depth that no sender has a reason to reach. */
static int dnstap__skip(dnstap__input *in, uint32_t key)
{
    enum { DNSTAP__GROUP = 3, DNSTAP__GROUP_END = 4 };
    uint32_t open[DNSTAP__GROUP_DEPTH];
    size_t depth = 0;
    for (;;) {
        if ((key & 7) == DNSTAP__GROUP) {
            if (depth == DNSTAP__GROUP_DEPTH) return DNSTAP_BAD_PAYLOAD;
            open[depth++] = key >> 3;
        } else if ((key & 7) == DNSTAP__GROUP_END) {
            if (depth == 0 || open[--depth] != key >> 3) return DNSTAP_BAD_PAYLOAD;
        } else if (dnstap__skip_value(in, key & 7) < 0) {
            return DNSTAP_BAD_PAYLOAD;
        }
        if (depth == 0) return DNSTAP__NONE;
        if (dnstap__next_key(in, &key) <= 0) return DNSTAP_BAD_PAYLOAD;
    }
}

static int dnstap__read_bytes(dnstap__input *in, dnstap_bytes *out)
{
    uint64_t size;
    int n = dnstap__read_uint64(in, &size);
    if (n < 0) return n;
    if (size > (size_t)(in->end - in->p)) return DNSTAP_BAD_PAYLOAD;
    *out = dnstap_bytes_of(in->p, (size_t)size);
    in->p += (size_t)size;
    return DNSTAP__SOME;
}

/* The low 32 bits, as protobuf has it. */
static int dnstap__read_uint32(dnstap__input *in, uint32_t *out)
{
    uint64_t v = 0;
    int n = dnstap__read_uint64(in, &v);
    *out = (uint32_t)v;
    return n;
}

/* Negative ones don't exist: they count as unknown. */
static int dnstap__read_enum(dnstap__input *in, uint32_t *out)
{
    uint32_t v;
    int n = dnstap__read_uint32(in, &v);
    if (n < 0) return n;
    if (v > INT32_MAX) return DNSTAP__NONE;
    *out = v;
    return DNSTAP__SOME;
}

static int dnstap__policy_field(dnstap__input *in, uint32_t key, dnstap_policy *p)
{
    switch (key) {
    case DNSTAP__KEY(Policy_type, DNSTAP__BYTES):
        return dnstap__read_bytes(in, &p->type);
    case DNSTAP__KEY(Policy_rule, DNSTAP__BYTES):
        return dnstap__read_bytes(in, &p->rule);
    case DNSTAP__KEY(Policy_action, DNSTAP__VARINT):
        return dnstap__read_enum(in, &p->action);
    case DNSTAP__KEY(Policy_match, DNSTAP__VARINT):
        return dnstap__read_enum(in, &p->match);
    case DNSTAP__KEY(Policy_value, DNSTAP__BYTES):
        return dnstap__read_bytes(in, &p->value);
    default:
        return dnstap__skip(in, key);
    }
}

/* A message that comes twice is merged: nothing is cleared here. */
static int dnstap__read_policy(dnstap__input *outer, dnstap_policy *p)
{
    dnstap__input in;
    dnstap_bytes bytes;
    uint32_t key;
    int n = dnstap__read_bytes(outer, &bytes);
    if (n < 0) return n;
    in = dnstap__input_of(bytes);
    while ((n = dnstap__next_key(&in, &key)) > 0) {
        n = dnstap__policy_field(&in, key, p);
        if (n < 0) return n;
    }
    return n < 0 ? n : DNSTAP__SOME;
}

/* One field of a Message into m; a policy into *policy. SOME, NONE or an error, as above. */
static int dnstap__message_field(dnstap__input *in, uint32_t key, dnstap_message *m,
                                 dnstap_policy *policy)
{
    switch (key) {
    case DNSTAP__KEY(Message_type, DNSTAP__VARINT):
        return dnstap__read_enum(in, &m->type);
    case DNSTAP__KEY(Message_socket_family, DNSTAP__VARINT):
        return dnstap__read_enum(in, &m->socket_family);
    case DNSTAP__KEY(Message_socket_protocol, DNSTAP__VARINT):
        return dnstap__read_enum(in, &m->socket_protocol);
    case DNSTAP__KEY(Message_query_address, DNSTAP__BYTES):
        return dnstap__read_bytes(in, &m->query_address);
    case DNSTAP__KEY(Message_response_address, DNSTAP__BYTES):
        return dnstap__read_bytes(in, &m->response_address);
    case DNSTAP__KEY(Message_query_port, DNSTAP__VARINT):
        return dnstap__read_uint32(in, &m->query_port);
    case DNSTAP__KEY(Message_response_port, DNSTAP__VARINT):
        return dnstap__read_uint32(in, &m->response_port);
    case DNSTAP__KEY(Message_query_time_sec, DNSTAP__VARINT):
        return dnstap__read_uint64(in, &m->query_time_sec);
    case DNSTAP__KEY(Message_query_time_nsec, DNSTAP__FIXED32):
        return dnstap__read_fixed32(in, &m->query_time_nsec);
    case DNSTAP__KEY(Message_query_message, DNSTAP__BYTES):
        return dnstap__read_bytes(in, &m->query_message);
    case DNSTAP__KEY(Message_query_zone, DNSTAP__BYTES):
        return dnstap__read_bytes(in, &m->query_zone);
    case DNSTAP__KEY(Message_response_time_sec, DNSTAP__VARINT):
        return dnstap__read_uint64(in, &m->response_time_sec);
    case DNSTAP__KEY(Message_response_time_nsec, DNSTAP__FIXED32):
        return dnstap__read_fixed32(in, &m->response_time_nsec);
    case DNSTAP__KEY(Message_response_message, DNSTAP__BYTES):
        return dnstap__read_bytes(in, &m->response_message);
    case DNSTAP__KEY(Message_policy, DNSTAP__BYTES):
        m->policy = policy;
        return dnstap__read_policy(in, policy);
    case DNSTAP__KEY(Message_http_protocol, DNSTAP__VARINT):
        return dnstap__read_enum(in, &m->http_protocol);
    default:
        return dnstap__skip(in, key);
    }
}

static int dnstap__read_message(dnstap__input *outer, dnstap_message *m, dnstap_policy *policy)
{
    dnstap__input in;
    dnstap_bytes bytes;
    uint32_t key;
    int n = dnstap__read_bytes(outer, &bytes);
    if (n < 0) return n;
    in = dnstap__input_of(bytes);
    while ((n = dnstap__next_key(&in, &key)) > 0) {
        n = dnstap__message_field(&in, key, m, policy);
        if (n < 0) return n;
        if (n > 0) m->present |= 1u << (key >> 3);
    }
    return n < 0 ? n : DNSTAP__SOME;
}

/* What an envelope holds besides m. */
typedef struct dnstap__envelope {
    uint32_t type;
    bool has_message;
} dnstap__envelope;

static int dnstap__envelope_field(dnstap__input *in, uint32_t key, dnstap__envelope *e,
                                  dnstap_message *m, dnstap_policy *policy)
{
    switch (key) {
    case DNSTAP__KEY(Dnstap_identity, DNSTAP__BYTES):
        return dnstap__read_bytes(in, &m->identity);
    case DNSTAP__KEY(Dnstap_version, DNSTAP__BYTES):
        return dnstap__read_bytes(in, &m->version);
    case DNSTAP__KEY(Dnstap_extra, DNSTAP__BYTES):
        return dnstap__read_bytes(in, &m->extra);
    case DNSTAP__KEY(Dnstap_message, DNSTAP__BYTES):
        e->has_message = true;
        return dnstap__read_message(in, m, policy);
    case DNSTAP__KEY(Dnstap_type, DNSTAP__VARINT):
        return dnstap__read_enum(in, &e->type);
    default:
        return dnstap__skip(in, key);
    }
}

DNSTAP_API int dnstap_decode(dnstap_message *m, dnstap_policy *policy, const void *payload,
                             size_t size)
{
    dnstap__envelope envelope = {0, false};
    dnstap__input in = dnstap__input_of(dnstap_bytes_of(payload, size));
    uint32_t key;
    int n;
    dnstap_message_start(m, 0);
    memset(policy, 0, sizeof *policy);
    while ((n = dnstap__next_key(&in, &key)) > 0) {
        n = dnstap__envelope_field(&in, key, &envelope, m, policy);
        if (n < 0) return n;
    }
    if (n < 0 || envelope.type != dnstap__Dnstap_Type_MESSAGE) return DNSTAP_BAD_PAYLOAD;
    if (envelope.has_message && !(m->present & DNSTAP__PRESENT(type))) return DNSTAP_BAD_PAYLOAD;
    return DNSTAP_OK;
}
#endif

/* ---- >>dns -------------------------------------------------------------------------------- */

/* A walk over a DNS message (RFC 1035, 4). In: its bytes, from anybody; out: sizes of names and
 * records without compression, and where the OPT record is. Always: nothing outside the bytes is
 * read, pointers lead backwards and are few, and the walk ends after so many steps. */
enum { DNSTAP__NAME_MAX = 255 };
#if DNSTAP__HAS_EXTRA || DNSTAP__HAS_FILTER
enum { DNSTAP__DNS_HEADER = 12, DNSTAP__RECORD_HEADER = 10, DNSTAP__TYPE_OPT = 41 };
enum { DNSTAP__POINTERS_MAX = 126, DNSTAP__STEPS_MAX = 4096 };

static uint32_t dnstap__get16(const uint8_t *p) { return (uint32_t)p[0] << 8 | p[1]; }

typedef struct dnstap__walk {
    const uint8_t *dns;
    size_t size, at;
    unsigned steps; /* that are left */
    bool whole;     /* pointers are followed */
} dnstap__walk;

static void dnstap__start_walk(dnstap__walk *w, const uint8_t *dns, size_t size)
{
    w->dns = dns;
    w->size = size;
    w->at = DNSTAP__DNS_HEADER;
    w->steps = DNSTAP__STEPS_MAX;
    w->whole = true;
}

/* The size, without compression, of the name that the walk has come to, and goes behind. 0: it is
 * not sound, and the walk over. */
static size_t dnstap__walk_name(dnstap__walk *w)
{
    size_t at = w->at, behind = 0, size = 1, pointers = 0;
    uint8_t n;
    for (; at < w->size && (n = w->dns[at]) != 0 && w->steps; w->steps--) {
        if (n < 0x40) {
            at += n + 1u;
            size += n + 1u;
            if (size > DNSTAP__NAME_MAX) return 0;
            continue;
        }
        if (n < 0xc0 || at + 1 >= w->size || ++pointers > DNSTAP__POINTERS_MAX) return 0;
        if (!behind) behind = at + 2;
        if (!w->whole) break;
        at = dnstap__get16(w->dns + at) & 0x3fff;
    }
    if (at >= w->size || !w->steps) return 0;
    w->at = behind ? behind : at + 1;
    return size;
}

/* Where a record's data has names that may be compressed (RFC 3597, 4). */
typedef struct dnstap__names_at {
    uint8_t type, behind, count; /* behind so many bytes */
} dnstap__names_at;

static dnstap__names_at dnstap__names_of(uint32_t type)
{
    static const dnstap__names_at types[] = {
        {2, 0, 1},  {3, 0, 1},  {4, 0, 1},   {5, 0, 1},  {6, 0, 2},  {7, 0, 1},
        {8, 0, 1},  {9, 0, 1},  {12, 0, 1},  {14, 0, 2}, {15, 2, 1}, {17, 0, 2},
        {18, 2, 1}, {21, 2, 1}, {24, 18, 1}, {26, 2, 2}, {30, 0, 1}, {33, 6, 1},
        {36, 2, 1}, {39, 0, 1}, {46, 18, 1}, {0, 0, 0}};
    const dnstap__names_at *at = types;
    while (at->type && at->type != type) at++;
    return *at;
}

/* The size, without compression, of the `size` bytes of a record's data that the walk is at. */
static size_t dnstap__data_size(dnstap__walk *w, uint32_t type, size_t size)
{
    size_t begin = w->at, end = begin + size, from, n;
    dnstap__names_at names = dnstap__names_of(type);
    w->at += names.behind;
    for (; names.count && size; names.count--) {
        from = w->at;
        n = dnstap__walk_name(w);
        if (!n || w->at > end) break;
        size += n - (w->at - from);
    }
    w->at = begin;
    return size;
}

/* The record that the walk is at: its size, without compression. 0: the walk is over. */
static size_t dnstap__walk_record(dnstap__walk *w, size_t *type_at)
{
    size_t name = dnstap__walk_name(w), size, whole;
    if (!name || w->size - w->at < DNSTAP__RECORD_HEADER) return 0;
    *type_at = w->at;
    size = dnstap__get16(w->dns + w->at + 8);
    w->at += DNSTAP__RECORD_HEADER;
    if (size > w->size - w->at) return 0;
    whole = w->whole ? dnstap__data_size(w, dnstap__get16(w->dns + *type_at), size) : size;
    w->at += size;
    return name + DNSTAP__RECORD_HEADER + whole;
}

/* What is in a message of at least a header: its size without compression, as far as it is sound;
 * opt: where the last OPT record among the additional ones has its type; 0: there is none. */
static size_t dnstap__walk_message(dnstap__walk *w, size_t *opt)
{
    const uint8_t *dns = w->dns;
    uint32_t questions = dnstap__get16(dns + 4), additional = dnstap__get16(dns + 10);
    uint32_t records = dnstap__get16(dns + 6) + dnstap__get16(dns + 8) + additional;
    size_t size = DNSTAP__DNS_HEADER, n, at;
    *opt = 0;
    for (; questions; questions--, size += n + 4, w->at += 4)
        if ((n = dnstap__walk_name(w)) == 0) return size;
    for (; records; records--, size += n) {
        if (w->at >= w->size || (n = dnstap__walk_record(w, &at)) == 0) return size;
        if (records <= additional && dnstap__get16(dns + at) == DNSTAP__TYPE_OPT) *opt = at;
    }
    return size;
}

/* The OPT record of a message; NULL: it has none. */
static const uint8_t *dnstap__find_opt(const uint8_t *dns, size_t size)
{
    dnstap__walk w;
    size_t opt;
    if (!dnstap__get16(dns + 10)) return NULL;
    dnstap__start_walk(&w, dns, size);
    w.whole = false;
    dnstap__walk_message(&w, &opt);
    return opt ? dns + opt : NULL;
}

/* The rcode of a message of at least a header, with OPT's part of it, where that can be found. */
static uint32_t dnstap__rcode_of(const uint8_t *dns, size_t size)
{
    const uint8_t *opt = dnstap__find_opt(dns, size);
    return (dns[3] & 15u) | (opt ? (uint32_t)opt[4] << 4 : 0);
}
#endif

#if DNSTAP__HAS_EXTRA || DNSTAP__HAS_DIRECTIVE
/* As CoreDNS writes it; NULL: it has no name. */
static const char *dnstap__rcode_name(uint32_t rcode)
{
    static const char *const from_0[] = {"NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN",
                                         "NOTIMP",  "REFUSED", "YXDOMAIN", "YXRRSET",
                                         "NXRRSET", "NOTAUTH", "NOTZONE",  "DSOTYPENI"};
    static const char *const from_16[] = {"BADVERS", "BADKEY", "BADTIME",  "BADMODE",
                                          "BADNAME", "BADALG", "BADTRUNC", "BADCOOKIE"};
    if (rcode < sizeof from_0 / sizeof *from_0) return from_0[rcode];
    return rcode - 16 < sizeof from_16 / sizeof *from_16 ? from_16[rcode - 16] : NULL;
}
#endif

/* ---- >>extra ------------------------------------------------------------------------------ */

/* What goes along with a message. In: a template, a message, its query's bytes; out: the bytes of
 * extra, written straight into the ring. The template is compiled when the tap opens, into memory
 * of the tap: pieces of text, each with the label behind it. Then, for each message:
 *
 *   dnstap__view_message      the query's question: is there one, how long is its name
 *   dnstap__plan_extra        room for what the labels can become at most
 *   dnstap__write_with_extra  identity, version │ text label text label … │ the Message …
 *                                               `- extra -'
 *
 * Always: DNS bytes are hostile, and what reads them asks before each byte whether it is there, but
 * for a name that was found sound before. A name has at most 255 bytes and 126 pointers, as in
 * CoreDNS, and a walk over a message ends after so many labels and pointers. */
#if DNSTAP__HAS_EXTRA
enum { DNSTAP__EXPANDED_MAX = 4 * DNSTAP__NAME_MAX }; /* of a label: \DDD for each of a name's */

/* X(name, symbol, most bytes); those of a name's own come on top. */
#define DNSTAP__LABELS(X)                \
    X("type", TYPE, 10)                  \
    X("name", NAME, 1)                   \
    X("class", CLASS, 10)                \
    X("proto", PROTO, 3)                 \
    X("size", SIZE, 10)                  \
    X("remote", REMOTE, 52)              \
    X("port", PORT, 10)                  \
    X("local", LOCAL, 52)                \
    X(">id", ID, 5)                      \
    X(">opcode", OPCODE, 2)              \
    X(">do", DO, 5)                      \
    X(">bufsize", BUFSIZE, 5)            \
    X("rcode", RCODE, 9)                 \
    X("rsize", RSIZE, 10)                \
    X("duration", DURATION, 22)          \
    X(">rflags", DASH, 1)                \
    X("", METADATA, DNSTAP_METADATA_MAX) \
    X("", NOTHING, 0)

typedef enum dnstap__label {
#define DNSTAP__X(name, symbol, most) DNSTAP__##symbol,
    DNSTAP__LABELS(DNSTAP__X)
#undef DNSTAP__X
        DNSTAP__LABEL_COUNT
} dnstap__label;

typedef struct dnstap__piece {
    const char *text; /* before the label */
    size_t size;
    const char *name; /* of METADATA */
    dnstap__label label;
} dnstap__piece;

typedef struct dnstap__extra {
    const dnstap__piece *pieces; /* NULL: there is no template */
    size_t count;
    size_t names;       /* pieces with the query's name */
    size_t room, usual; /* bytes of an expansion, but for these: at most; usually */
    void *user;
    long (*metadata)(void *user, const dnstap_message *m, const char *label, char *out,
                     size_t size);
} dnstap__extra;

/* The template. */

static dnstap__label dnstap__label_of(const char *name, size_t size)
{
    static const char *const names[] = {
#define DNSTAP__X(name, symbol, most) name,
        DNSTAP__LABELS(DNSTAP__X)
#undef DNSTAP__X
    };
    int i;
    if (size && *name == '/') return DNSTAP__METADATA;
    for (i = 0; i < DNSTAP__METADATA; i++)
        if (strlen(names[i]) == size && memcmp(names[i], name, size) == 0) return (dnstap__label)i;
    return DNSTAP__NOTHING;
}

/* What is the same in all of the tap's messages is settled here. */
static dnstap__label dnstap__settle_label(dnstap__label label, const dnstap_options *o)
{
    if (label == DNSTAP__METADATA && !o->metadata) return DNSTAP__DASH;
    if (label >= DNSTAP__RCODE && label <= DNSTAP__DURATION && o->coredns_extra)
        return DNSTAP__DASH;
    return label;
}

/* The piece at *at, which moves behind it. A label goes from the last opening brace before the next
 * closing one up to that; where what is between them is none, all so far is text. False: there is
 * no piece left. */
static bool dnstap__next_piece(const dnstap_options *o, const char **at, dnstap__piece *piece)
{
    const char *from, *open, *close;
    dnstap__label label = DNSTAP__NOTHING;
    piece->text = *at;
    piece->name = NULL;
    for (from = *at; !o->extra_raw && (close = strchr(from, '}')) != NULL; from = close + 1) {
        for (open = close; open > from && *open != '{';) open--;
        if (*open == '{') label = dnstap__label_of(open + 1, (size_t)(close - open) - 1);
        if (label == DNSTAP__NOTHING) continue;
        piece->label = dnstap__settle_label(label, o);
        piece->size = (size_t)(open - piece->text);
        piece->name = open + 2;
        *at = close + 1;
        return true;
    }
    piece->label = DNSTAP__NOTHING;
    piece->size = strlen(piece->text);
    *at = piece->text + piece->size;
    return piece->size != 0;
}

static void dnstap__count_piece(dnstap__extra *e, const dnstap__piece *piece)
{
    static const uint8_t most[] = {
#define DNSTAP__X(name, symbol, most) most,
        DNSTAP__LABELS(DNSTAP__X)
#undef DNSTAP__X
    };
    e->count++;
    e->names += piece->label == DNSTAP__NAME;
    e->room += piece->size + most[piece->label];
    e->usual += piece->size + dnstap__min(most[piece->label], 6);
}

/* The sizes, of the user's template. */
static void dnstap__measure_template(dnstap__extra *e, const dnstap_options *o)
{
    const char *at = o->extra ? o->extra : "";
    dnstap__piece piece;
    memset(e, 0, sizeof *e);
    e->metadata = o->metadata;
    e->user = o->user;
    while (dnstap__next_piece(o, &at, &piece)) dnstap__count_piece(e, &piece);
}

/* The pieces, of a copy in the arena, where names of metadata get their end. */
static void dnstap__compile_template(dnstap__extra *e, dnstap__arena *a, const dnstap_options *o)
{
    size_t size = o->extra ? strlen(o->extra) + 1 : 0, i;
    dnstap__piece *pieces;
    const char *at;
    char *copy;
    dnstap__measure_template(e, o);
    pieces = (dnstap__piece *)dnstap__take(a, e->count * sizeof *pieces, sizeof(void *));
    copy = (char *)dnstap__take(a, size, 1);
    if (!e->count || !pieces || !copy) return;
    at = (const char *)memcpy(copy, o->extra, size);
    for (i = 0; i < e->count && dnstap__next_piece(o, &at, &pieces[i]); i++)
        if (pieces[i].label == DNSTAP__METADATA) copy[at - 1 - copy] = '\0';
    DNSTAP_ASSERT(i == e->count && !*at);
    e->pieces = pieces;
}

/* A message, and what is to be known of its query before it is expanded. */
typedef struct dnstap__view {
    const dnstap_message *m;     /* as it is sent: addresses may be cut */
    const dnstap_message *given; /* as it came */
    const uint8_t *dns;          /* NULL: there is no query, or not even a header of it */
    size_t size;
    size_t name_size; /* without compression; 0: there is no sound question */
    uint32_t qtype, qclass;
} dnstap__view;

/* A question may end early, and then has type and class 0, as in CoreDNS. */
static void dnstap__view_message(dnstap__view *v, const dnstap_message *m)
{
    dnstap_bytes query = m->request.data ? m->request : m->query_message;
    dnstap__walk w;
    size_t n, left;
    memset(v, 0, sizeof *v);
    v->m = v->given = m;
    if (!query.data || query.size < DNSTAP__DNS_HEADER) return;
    v->dns = (const uint8_t *)query.data;
    v->size = query.size;
    dnstap__start_walk(&w, v->dns, v->size);
    if (!dnstap__get16(v->dns + 4) || (n = dnstap__walk_name(&w)) == 0) return;
    left = w.size - w.at;
    if (left == 1 || left == 3) return;
    v->name_size = n;
    if (left >= 2) v->qtype = dnstap__get16(w.dns + w.at);
    if (left >= 4) v->qclass = dnstap__get16(w.dns + w.at + 2);
}

/* The view is written as another message says, which has the same DNS bytes or none. */
static void dnstap__view_sent(dnstap__view *v, const dnstap_message *sent) { v->m = sent; }

/* Whether the query's address is the client's and the response's is ours, and not ours and that of
 * a server we ask. */
static bool dnstap__asked_by_client(const dnstap_message *m)
{
    switch (m->type) {
    case DNSTAP_MSG_AUTH_QUERY:
    case DNSTAP_MSG_AUTH_RESPONSE:
    case DNSTAP_MSG_CLIENT_QUERY:
    case DNSTAP_MSG_CLIENT_RESPONSE:
    case DNSTAP_MSG_UPDATE_QUERY:
    case DNSTAP_MSG_UPDATE_RESPONSE:
        return true;
    default:
        return false;
    }
}

static dnstap_bytes dnstap__address_or(const dnstap_message *m, dnstap_bytes given,
                                       dnstap_bytes other)
{
    return given.data || !dnstap__asked_by_client(m) ? given : other;
}

static const char *dnstap__client_protocol(const dnstap_message *m)
{
    uint32_t protocol = m->client_protocol;
    if (!protocol && dnstap__asked_by_client(m)) protocol = m->socket_protocol;
    switch (protocol) {
    case DNSTAP_PROTOCOL_UDP:
    case DNSTAP_PROTOCOL_DNSCryptUDP:
    case DNSTAP_PROTOCOL_DOQ:
        return "udp";
    case DNSTAP_PROTOCOL_TCP:
    case DNSTAP_PROTOCOL_DOT:
    case DNSTAP_PROTOCOL_DOH:
    case DNSTAP_PROTOCOL_DNSCryptTCP:
        return "tcp";
    default:
        return "-";
    }
}

/* Writing: each returns where it ended. */

/* A copy of a few bytes in two overlapping ones of constant size, without a call. */
DNSTAP__INLINE uint8_t *dnstap__put_text(uint8_t *p, const char *text, size_t n)
{
    if (n > 16) {
        memcpy(p, text, n);
    } else if (n >= 8) {
        memcpy(p, text, 8);
        memcpy(p + n - 8, text + n - 8, 8);
    } else if (n >= 4) {
        memcpy(p, text, 4);
        memcpy(p + n - 4, text + n - 4, 4);
    } else if (n) {
        p[0] = (uint8_t)text[0];
        p[n / 2] = (uint8_t)text[n / 2];
        p[n - 1] = (uint8_t)text[n - 1];
    }
    return p + n;
}

static uint8_t *dnstap__put_string(uint8_t *p, const char *s)
{
    while (*s) *p++ = (uint8_t)*s++;
    return p;
}

static uint8_t *dnstap__put_decimal(uint8_t *p, uint32_t v)
{
    char digits[10];
    size_t n = sizeof digits;
    do digits[--n] = (char)('0' + v % 10);
    while (v /= 10);
    while (n < sizeof digits) *p++ = (uint8_t)digits[n++];
    return p;
}

/* "TYPE" and the like before the number of what has no name. */
static uint8_t *dnstap__put_name_or(uint8_t *p, const char *name, const char *prefix, uint32_t v)
{
    return name ? dnstap__put_string(p, name)
                : dnstap__put_decimal(dnstap__put_string(p, prefix), v);
}

/* The names of types, classes and rcodes are those that CoreDNS writes. */
static const char *dnstap__qtype_name(uint32_t type)
{
    static const char *const from_0[] = {
        "None",   "A",     "NS",     "MD",         "MF",      "CNAME",      "SOA",   "MB",
        "MG",     "MR",    "NULL",   NULL,         "PTR",     "HINFO",      "MINFO", "MX",
        "TXT",    "RP",    "AFSDB",  "X25",        "ISDN",    "RT",         NULL,    "NSAP-PTR",
        "SIG",    "KEY",   "PX",     "GPOS",       "AAAA",    "LOC",        "NXT",   "EID",
        "NIMLOC", "SRV",   "ATMA",   "NAPTR",      "KX",      "CERT",       NULL,    "DNAME",
        NULL,     "OPT",   "APL",    "DS",         "SSHFP",   "IPSECKEY",   "RRSIG", "NSEC",
        "DNSKEY", "DHCID", "NSEC3",  "NSEC3PARAM", "TLSA",    "SMIMEA",     NULL,    "HIP",
        "NINFO",  "RKEY",  "TALINK", "CDS",        "CDNSKEY", "OPENPGPKEY", "CSYNC", "ZONEMD",
        "SVCB",   "HTTPS"};
    static const char *const from_99[] = {"SPF", "UINFO", "UID", "GID",   "UNSPEC", "NID",
                                          "L32", "L64",   "LP",  "EUI48", "EUI64"};
    static const char *const from_249[] = {"TKEY",  "TSIG",     "IXFR",   "AXFR", "MAILB",
                                           "MAILA", "ANY",      "URI",    "CAA",  "AVC",
                                           NULL,    "AMTRELAY", "RESINFO"};
    if (type < sizeof from_0 / sizeof *from_0) return from_0[type];
    if (type - 99 < sizeof from_99 / sizeof *from_99) return from_99[type - 99];
    if (type - 249 < sizeof from_249 / sizeof *from_249) return from_249[type - 249];
    if (type == 128) return "NXNAME";
    if (type == 32768) return "TA";
    if (type == 32769) return "DLV";
    return type == 65535 ? "Reserved" : NULL;
}

static const char *dnstap__qclass_name(uint32_t v)
{
    static const char *const names[] = {NULL, "IN", "CS", "CH", "HS"};
    return v < sizeof names / sizeof *names ? names[v] : v == 254 ? "NONE" : NULL;
}

DNSTAP__COLD uint8_t *dnstap__put_escaped(uint8_t *p, uint8_t c)
{
    *p++ = '\\';
    if (c < ' ' || c > '~') {
        *p++ = (uint8_t)('0' + c / 100);
        *p++ = (uint8_t)('0' + c / 10 % 10);
        c = (uint8_t)('0' + c % 10);
    }
    *p++ = c;
    return p;
}

/* The name at `at`, which was found sound. */
static uint8_t *dnstap__put_name(uint8_t *p, const uint8_t *dns, size_t at)
{
    /* a bit for each byte that stands for itself: ! to ~ but for "'().;@\ */
    static const uint32_t plain[8] = {0, 0xf7ffbc7a, 0xeffffffe, 0x7fffffff, 0, 0, 0, 0};
    const uint8_t *begin = p;
    uint8_t n, c;
    while ((n = dns[at++]) != 0) {
        if (n >= 0xc0) {
            at = dnstap__get16(dns + at - 1) & 0x3fff;
            continue;
        }
        for (; n; n--) {
            c = dns[at++];
            if (DNSTAP__UNLIKELY(!(plain[c >> 5] >> (c & 31) & 1)))
                p = dnstap__put_escaped(p, c);
            else
                *p++ = (uint8_t)(c + (((unsigned)c - 'A' < 26u) << 5));
        }
        *p++ = '.';
    }
    if (p == begin) *p++ = '.';
    return p;
}

static uint8_t *dnstap__put_ipv4(uint8_t *p, const uint8_t *ip)
{
    int i;
    uint8_t v;
    for (i = 0; i < 4; i++) {
        v = ip[i];
        if (v >= 100) *p++ = (uint8_t)('0' + v / 100);
        if (v >= 10) *p++ = (uint8_t)('0' + v / 10 % 10);
        *p++ = (uint8_t)('0' + v % 10);
        if (i < 3) *p++ = '.';
    }
    return p;
}

/* The longest run of at least two zero groups of an IPv6 address, the first of several: from *from,
 * so many. */
static int dnstap__zero_groups(const uint8_t *ip, int *from)
{
    int i, run = 0, most = 1;
    for (i = 0; i < 8; i++) {
        run = ip[2 * i] | ip[2 * i + 1] ? 0 : run + 1;
        if (run <= most) continue;
        most = run;
        *from = i + 1 - run;
    }
    return most > 1 ? most : 0;
}

/* As RFC 5952 has it. */
static uint8_t *dnstap__put_ipv6(uint8_t *p, const uint8_t *ip)
{
    int from = 8, zeros = dnstap__zero_groups(ip, &from), i, shift;
    uint32_t v;
    for (i = 0; i < 8; i++) {
        if (i == from) {
            *p++ = ':';
            i += zeros - 1;
            if (i == 7) *p++ = ':';
            continue;
        }
        if (i) *p++ = ':';
        v = dnstap__get16(ip + 2 * i);
        for (shift = v > 0xfff ? 12 : v > 0xff ? 8 : v > 0xf ? 4 : 0; shift >= 0; shift -= 4)
            *p++ = (uint8_t) "0123456789abcdef"[v >> shift & 15];
    }
    return p;
}

static uint8_t *dnstap__put_ip(uint8_t *p, dnstap_bytes address)
{
    const uint8_t *ip = (const uint8_t *)address.data;
    uint32_t scope;
    if (ip && address.size == 4) return dnstap__put_ipv4(p, ip);
    if (!ip || (address.size != 16 && address.size != 20)) return dnstap__put_string(p, "-");
    if (dnstap__is_mapped(ip)) return dnstap__put_ipv4(p, ip + 12);
    *p++ = '[';
    p = dnstap__put_ipv6(p, ip);
    if (address.size == 20) {
        memcpy(&scope, ip + 16, sizeof scope);
        *p++ = '%';
        p = dnstap__put_decimal(p, scope);
    }
    *p++ = ']';
    return p;
}

/* Those that read the query are asked only when it has a header. */

static uint8_t *dnstap__put_port(uint8_t *p, const dnstap_message *m)
{
    if (m->client_address.data) return dnstap__put_decimal(p, m->client_port);
    if (m->query_address.data && dnstap__asked_by_client(m))
        return dnstap__put_decimal(p, m->query_port);
    return dnstap__put_string(p, "-");
}

static uint8_t *dnstap__put_do(uint8_t *p, const dnstap__view *v)
{
    const uint8_t *opt = dnstap__find_opt(v->dns, v->size);
    return dnstap__put_string(p, opt && opt[6] & 0x80 ? "true" : "false");
}

static uint8_t *dnstap__put_bufsize(uint8_t *p, const dnstap__view *v)
{
    const uint8_t *opt;
    uint32_t size;
    if (*dnstap__client_protocol(v->m) == 't') return dnstap__put_string(p, "65535");
    opt = dnstap__find_opt(v->dns, v->size);
    size = opt ? dnstap__get16(opt + 2) : 0;
    return dnstap__put_decimal(p, size < 512 ? 512 : size);
}

static uint8_t *dnstap__put_size(uint8_t *p, const dnstap__view *v)
{
    dnstap__walk w;
    size_t opt;
    dnstap__start_walk(&w, v->dns, v->size);
    return dnstap__put_decimal(p, (uint32_t)dnstap__walk_message(&w, &opt));
}

static uint8_t *dnstap__put_rcode(uint8_t *p, dnstap_bytes response)
{
    const uint8_t *dns = (const uint8_t *)response.data;
    uint32_t rcode;
    if (!dns || response.size < DNSTAP__DNS_HEADER) return dnstap__put_string(p, "-");
    rcode = dnstap__rcode_of(dns, response.size);
    return dnstap__put_name_or(p, dnstap__rcode_name(rcode), "", rcode);
}

/* Seconds and what is of them, as short as may be. */
static uint8_t *dnstap__put_seconds_of(uint8_t *p, uint32_t sec, uint32_t nsec)
{
    uint32_t unit;
    p = dnstap__put_decimal(p, sec);
    if (nsec) *p++ = '.';
    for (unit = 100000000; nsec; nsec %= unit, unit /= 10) *p++ = (uint8_t)('0' + nsec / unit);
    *p++ = 's';
    return p;
}

/* Of more than a century is as good as none. */
static uint8_t *dnstap__put_duration(uint8_t *p, const dnstap_message *m)
{
    uint64_t sec = m->response_time_sec - m->query_time_sec;
    int32_t nsec = (int32_t)m->response_time_nsec - (int32_t)m->query_time_nsec;
    bool back = m->response_time_sec < m->query_time_sec || (sec == 0 && nsec < 0);
    if (!DNSTAP__HAS(m, query_time_sec) || !DNSTAP__HAS(m, response_time_sec))
        return dnstap__put_string(p, "-");
    if (back) {
        sec = 0 - sec;
        nsec = -nsec;
    }
    if (nsec < 0) {
        sec--;
        nsec += 1000000000;
    }
    if (sec > UINT32_MAX) return dnstap__put_string(p, "-");
    if (back) *p++ = '-';
    return dnstap__put_seconds_of(p, (uint32_t)sec, (uint32_t)nsec);
}

static uint8_t *dnstap__put_metadata(uint8_t *p, const dnstap__extra *e, const char *name,
                                     const dnstap_message *m)
{
    long n = (e->metadata)(e->user, m, name, (char *)p, DNSTAP_METADATA_MAX);
    return n < 0 || n > DNSTAP_METADATA_MAX ? dnstap__put_string(p, "-") : p + n;
}

/* What only a query's bytes tell. */
static uint8_t *dnstap__put_of_query(uint8_t *p, dnstap__label label, const dnstap__view *v)
{
    if (!v->dns) return dnstap__put_string(p, "-");
    switch ((int)label) {
    case DNSTAP__TYPE:
        return v->name_size ? dnstap__put_name_or(p, dnstap__qtype_name(v->qtype), "TYPE", v->qtype)
                            : p;
    case DNSTAP__NAME:
        return v->name_size ? dnstap__put_name(p, v->dns, DNSTAP__DNS_HEADER)
                            : dnstap__put_string(p, ".");
    case DNSTAP__CLASS:
        return v->name_size
                   ? dnstap__put_name_or(p, dnstap__qclass_name(v->qclass), "CLASS", v->qclass)
                   : p;
    case DNSTAP__SIZE:
        return dnstap__put_size(p, v);
    case DNSTAP__ID:
        return dnstap__put_decimal(p, dnstap__get16(v->dns));
    case DNSTAP__OPCODE:
        return dnstap__put_decimal(p, v->dns[2] >> 3 & 15);
    case DNSTAP__DO:
        return dnstap__put_do(p, v);
    default:
        return dnstap__put_bufsize(p, v);
    }
}

static uint8_t *dnstap__put_expanded(uint8_t *p, const dnstap__extra *e, const dnstap__piece *piece,
                                     const dnstap__view *v)
{
    const dnstap_message *m = v->m;
    switch (piece->label) {
    case DNSTAP__NOTHING:
        return p;
    case DNSTAP__PROTO:
        return dnstap__put_string(p, dnstap__client_protocol(m));
    case DNSTAP__REMOTE:
        return dnstap__put_ip(p, dnstap__address_or(m, m->client_address, m->query_address));
    case DNSTAP__LOCAL:
        return dnstap__put_ip(p, dnstap__address_or(m, m->local_address, m->response_address));
    case DNSTAP__PORT:
        return dnstap__put_port(p, m);
    case DNSTAP__RCODE:
        return dnstap__put_rcode(p, v->given->response_message);
    case DNSTAP__RSIZE:
        if (!v->given->response_message.data) return dnstap__put_string(p, "-");
        return dnstap__put_decimal(p, (uint32_t)v->given->response_message.size);
    case DNSTAP__DURATION:
        return dnstap__put_duration(p, m);
    case DNSTAP__METADATA:
        return dnstap__put_metadata(p, e, piece->name, v->given);
    case DNSTAP__DASH:
        return dnstap__put_string(p, "-");
    default:
        return dnstap__put_of_query(p, piece->label, v);
    }
}

/* A message in a tap with a template: planned and written like one without, see >>codec. Its own
 * extra counts more than the template. */

/* The room for what the template makes, at most. */
static size_t dnstap__plan_extra(const dnstap__extra *e, const dnstap__view *v)
{
    size_t room = e->room + e->names * 4 * v->name_size;
    if (v->m->extra.data) return 0;
    return 1 + dnstap__varint_size((uint32_t)room) + room;
}

/* The same to the byte, but for what metadata will say. */
DNSTAP__COLD size_t dnstap__measure_extra(const dnstap__extra *e, const dnstap__view *v)
{
    uint8_t label[DNSTAP__EXPANDED_MAX];
    size_t room = 0, i;
    if (v->m->extra.data) return 0;
    for (i = 0; i < e->count; i++) {
        room += e->pieces[i].size;
        if (e->pieces[i].label == DNSTAP__METADATA)
            room += DNSTAP_METADATA_MAX;
        else
            room += (size_t)(dnstap__put_expanded(label, e, &e->pieces[i], v) - label);
    }
    return 1 + dnstap__varint_size((uint32_t)room) + room;
}

/* Its length's size is guessed, like the Message's. */
static uint8_t *dnstap__put_extra(uint8_t *p, const dnstap__extra *e, const dnstap__view *v)
{
    const dnstap__piece *piece = e->pieces, *last = piece + e->count;
    size_t guess = dnstap__varint_size((uint32_t)(e->usual + e->names * v->name_size));
    uint8_t *end;
    p = dnstap__put_key(p, DNSTAP__KEY(Dnstap_extra, DNSTAP__BYTES));
    if (v->m->extra.data) return dnstap__put_bytes(p, v->m->extra);
    end = p + guess;
    for (; piece < last; piece++) {
        end = dnstap__put_text(end, piece->text, piece->size);
        end = dnstap__put_expanded(end, e, piece, v);
    }
    return dnstap__put_length(p, guess, end);
}

DNSTAP__COLD size_t dnstap__write_slow_extra(const dnstap__fixed *fixed, const dnstap__extra *e,
                                             const dnstap__view *v, size_t room, uint8_t *out)
{
    dnstap_message whole;
    long n;
    uint8_t *p;
    dnstap__complete(fixed, v->m, &whole);
    n = dnstap__encode_prefix(whole.identity, whole.version, out, room);
    p = dnstap__put_extra(out + n, e, v);
    whole.identity.data = whole.version.data = whole.extra.data = NULL;
    n = dnstap__encode_valid(&whole, p, room - (size_t)(p - out));
    DNSTAP_ASSERT(n > 0);
    return (size_t)(p + n - out);
}

/* plan->size: all that there is room for, extra's too. */
static size_t dnstap__write_with_extra(const dnstap__fixed *fixed, const dnstap__extra *e,
                                       const dnstap__view *v, const dnstap__plan *plan,
                                       uint8_t *out)
{
    uint8_t *p;
    if (DNSTAP__HAS_RARE && plan->slow)
        return dnstap__write_slow_extra(fixed, e, v, plan->size, out);
    dnstap__put_prefix(fixed, out);
    p = dnstap__put_extra(out + fixed->prefix_size, e, v);
    return (size_t)(dnstap__put_message(fixed, v->m, plan, p) - out);
}
#else
/* There is no template, and no view of a message for one. */
typedef struct dnstap__extra {
    const void *pieces;
    size_t count, names, room, usual;
} dnstap__extra;
typedef char dnstap__view;
enum { DNSTAP__EXPANDED_MAX = 0 };

static void dnstap__measure_template(dnstap__extra *e, const dnstap_options *o)
{
    (void)o;
    memset(e, 0, sizeof *e);
}

static void dnstap__compile_template(dnstap__extra *e, dnstap__arena *a, const dnstap_options *o)
{
    (void)a;
    dnstap__measure_template(e, o);
}
#define dnstap__view_message(view, m) ((void)(*(view) = (m) != NULL))
#define dnstap__view_sent(view, sent) ((void)(sent))
#define dnstap__plan_extra(extra, view) ((void)(view), (size_t)0)
#define dnstap__measure_extra(extra, view) ((void)(view), (size_t)0)
#define dnstap__write_with_extra(fixed, extra, view, plan, out) \
    ((void)(view), dnstap__write_message(fixed, m, plan, out))
#endif

/* ---- >>filter ----------------------------------------------------------------------------- */

/* What is logged, and what of it leaves the process. In: options, and each message before it is
 * encoded; out: what keeps it back, or a copy of it without what is cut. All is compiled when the
 * tap opens: zones to names in wire format, rcodes to what their low bits can be.
 *
 *   dnstap__sift          what keeps the message back, beyond its type
 *   dnstap__cut_message   a copy of the struct with addresses of its own; whether there are client
 *                         subnets in the DNS bytes, which go if that can't be told
 *   dnstap__cut_payload   the subnets, in what was written into the ring and is not published yet
 *
 * Always: the caller's bytes are only read; DNS bytes are hostile, and a walk over them is linear.
 * A thread that logs comes here only when there is something to ask, which the branch in front of
 * templates tells: a tap without filters pays nothing. */
typedef enum dnstap__sieve {
    DNSTAP__BY_TYPE,
    DNSTAP__BY_RCODE,
    DNSTAP__BY_ZONE,
    DNSTAP__BY_SAMPLE,
    DNSTAP__BY_HOOK,
    DNSTAP__SIEVES,                   /* so many; or: none keeps it back */
    DNSTAP__STRIPPED = DNSTAP__SIEVES /* counted behind them */
} dnstap__sieve;

/* What a producer has of its own, beside its ring; unwanted messages there are further ones. */
typedef struct dnstap__tally {
    size_t count[DNSTAP__SIEVES + 1]; /* others read it */
    uint64_t dice;
    uint8_t pad[DNSTAP_CACHE_LINE];
} dnstap__tally;

/* A tap's; constant after open but for the books. */
typedef struct dnstap__filter {
    uint32_t types; /* see dnstap_options; all bits: all */
    bool asks;      /* for more than the type, or cuts */
    bool cuts;
    uint8_t v4, v6;       /* bits of addresses that are kept */
    uint32_t low;         /* the low four bits that a wanted rcode may have */
    uint64_t rcodes;      /* 0: all */
    uint64_t chance;      /* numbers up to this are chosen; 0: all */
    size_t zones_size;    /* 0: all */
    const uint8_t *zones; /* for each a byte, its size, and its name in lower case */
    void *user;
    bool (*hook)(void *user, const dnstap_message *m);
    uint64_t total[DNSTAP__SIEVES + 1]; /* the books, see >>tap */
    size_t seen[DNSTAP__SIEVES + 1];
} dnstap__filter;

/* How many bits an option says are kept of `most`. */
static inline uint8_t dnstap__bits_kept(uint8_t option, uint8_t most)
{
    if (option == DNSTAP_KEEP_NONE) return 0;
    return option ? option : most;
}

static inline bool dnstap__are_bits(const dnstap_options *o)
{
    return dnstap__bits_kept(o->anonymize_v4, 32) <= 32 &&
           dnstap__bits_kept(o->anonymize_v6, 128) <= 128;
}

/* A message without what is cut. */
typedef struct dnstap__cut {
    dnstap_message m;
    uint8_t addresses[4][20]; /* that it points to */
    bool subnets;             /* its DNS bytes have client subnets still to be cut */
    bool stripped;            /* it goes without DNS bytes that it had */
} dnstap__cut;

#if DNSTAP__HAS_FILTER
/* -- names -- */

/* The character at *s of a name in text, which moves behind it. Negative: there is none. */
static int dnstap__name_character(const char **s)
{
    const char *at = *s;
    bool escaped = *at == '\\';
    int c = (unsigned char)at[escaped], i;
    if (c < ' ' || c > '~' || (c == ' ' && !escaped)) return -1;
    at += escaped + 1;
    if (escaped && c >= '0' && c <= '9') {
        for (c -= '0', i = 0; i < 2 && *at >= '0' && *at <= '9'; i++) c = c * 10 + *at++ - '0';
        if (i < 2 || c > 255) return -1;
    }
    *s = at;
    return c;
}

/* A name in text to wire format, in lower case. NULL, or what is wrong with it. */
static const char *dnstap__read_name(const char *s, uint8_t out[DNSTAP__NAME_MAX], size_t *size)
{
    size_t label = 0, n = 1; /* the last label's place; bytes so far */
    int c;
    if (!*s) return "it is empty";
    if (*s == '.' && !s[1]) s++;
    while (*s) {
        if (*s == '.') {
            if (n == label + 1) return "a label is empty";
            out[label] = (uint8_t)(n - label - 1);
            label = n++;
            s++;
            continue;
        }
        if ((c = dnstap__name_character(&s)) < 0)
            return "write \\DDD for what is no ASCII, or xn--";
        if (n - label > 63) return "a label has more than 63 bytes";
        if (n >= DNSTAP__NAME_MAX - 1) return "it has more than 255 bytes";
        out[n++] = dnstap__lower((char)c);
    }
    out[label] = (uint8_t)(n - label - 1);
    if (out[label]) out[n++] = 0;
    *size = n;
    return NULL;
}

/* The name at `at`, which was found sound, without its pointers. */
static void dnstap__flatten_name(uint8_t *out, const uint8_t *dns, size_t at)
{
    uint8_t n;
    while ((n = dns[at]) != 0) {
        if (n >= 0xc0) {
            at = dnstap__get16(dns + at) & 0x3fff;
            continue;
        }
        memcpy(out, dns + at, n + 1u);
        out += n + 1u;
        at += n + 1u;
    }
    *out = 0;
}

/* The question's name, where it is whole, sound, and has no pointers, as nearly all; else NULL. */
DNSTAP__INLINE const uint8_t *dnstap__plain_name(const dnstap_bytes *bytes, size_t *size)
{
    const uint8_t *dns = (const uint8_t *)bytes->data;
    size_t at = DNSTAP__DNS_HEADER, end = dnstap__min(bytes->size, at + DNSTAP__NAME_MAX);
    if (!dns || bytes->size < DNSTAP__DNS_HEADER + 5 || !(dns[4] | dns[5])) return NULL;
    while (at < end && dns[at] - 1u < 0x3f) at += dns[at] + 1u;
    if (at >= end || dns[at] || bytes->size - at < 5) return NULL;
    *size = at + 1 - DNSTAP__DNS_HEADER;
    return dns + DNSTAP__DNS_HEADER;
}

/* The same, in room if it has pointers. */
static const uint8_t *dnstap__question_name(const dnstap_bytes *bytes,
                                            uint8_t room[DNSTAP__NAME_MAX], size_t *size)
{
    const uint8_t *dns = (const uint8_t *)bytes->data, *plain = dnstap__plain_name(bytes, size);
    dnstap__walk w;
    if (plain || !dns || bytes->size < DNSTAP__DNS_HEADER || !dnstap__get16(dns + 4)) return plain;
    dnstap__start_walk(&w, dns, bytes->size);
    *size = dnstap__walk_name(&w);
    if (!*size || w.size - w.at < 4) return NULL;
    dnstap__flatten_name(room, dns, DNSTAP__DNS_HEADER);
    return room;
}

/* Whether the name ends in all of the zone's labels. Backwards: most names differ in the last. */
DNSTAP__INLINE bool dnstap__is_below(const uint8_t *name, size_t size, const uint8_t *zone,
                                     size_t zone_size)
{
    size_t before = size - zone_size, at = 0, i;
    if (size < zone_size) return false;
    for (i = zone_size; i--;)
        if (dnstap__lower((char)name[before + i]) != zone[i]) return false;
    while (at < before) at += name[at] + 1u;
    return at == before;
}

/* -- what is logged -- */

DNSTAP__INLINE bool dnstap__is_in_zones(const dnstap__filter *f, const uint8_t *name, size_t size)
{
    const uint8_t *zone = f->zones, *end = zone + f->zones_size;
    while (zone < end && !dnstap__is_below(name, size, zone + 1, *zone)) zone += *zone + 1u;
    return zone < end;
}

/* A question that is not where it is nearly always, or has pointers. */
DNSTAP__APART bool dnstap__is_odd_wanted(const dnstap__filter *f, const dnstap_bytes *own,
                                         const dnstap_bytes *other, const dnstap_bytes *request)
{
    uint8_t room[DNSTAP__NAME_MAX];
    size_t size = 0;
    const uint8_t *name = dnstap__question_name(own, room, &size);
    if (!name) name = dnstap__question_name(other, room, &size);
    if (!name) name = dnstap__question_name(request, room, &size);
    return name && dnstap__is_in_zones(f, name, size);
}

DNSTAP__APART bool dnstap__is_zone_wanted(const dnstap__filter *f, const dnstap_message *m)
{
    bool response = dnstap_is_response(m->type);
    const dnstap_bytes *own = response ? &m->response_message : &m->query_message;
    const dnstap_bytes *other = response ? &m->query_message : &m->response_message;
    size_t size;
    const uint8_t *name = dnstap__plain_name(own, &size);
    return DNSTAP__LIKELY(name != NULL) ? dnstap__is_in_zones(f, name, size)
                                        : dnstap__is_odd_wanted(f, own, other, &m->request);
}

/* OPT is looked for only when the low bits don't settle it. */
DNSTAP__APART bool dnstap__is_rcode_wanted(const dnstap__filter *f, dnstap_bytes response)
{
    const uint8_t *dns = (const uint8_t *)response.data;
    uint32_t rcode;
    if (!dns || response.size < DNSTAP__DNS_HEADER || !(f->low >> (dns[3] & 15) & 1)) return false;
    rcode = dnstap__rcode_of(dns, response.size);
    return f->rcodes >> (rcode < 63 ? rcode : 63) & 1;
}

/* Numbers in which each bit of the given ones counts (Steele, Lea and Flood, SplitMix). */
static uint64_t dnstap__mix(uint64_t v)
{
    v = (v ^ v >> 30) * 0xbf58476d1ce4e5b9u;
    v = (v ^ v >> 27) * 0x94d049bb133111ebu;
    return v ^ v >> 31;
}

/* One in so many of what has a transaction by that alone, of the rest by the producer's dice: no
 * producer is likelier than another to have its first message chosen, nor its every other one. */
static bool dnstap__is_chosen(const dnstap__filter *f, uint64_t transaction, uint64_t *dice)
{
    uint64_t golden = 0x9e3779b97f4a7c15u;
    if (transaction) return dnstap__mix(transaction + golden) <= f->chance;
    *dice += golden;
    return dnstap__mix(*dice) <= f->chance;
}

/* What keeps m back, beyond its type. */
static dnstap__sieve dnstap__sift(const dnstap__filter *f, const dnstap_message *m, uint64_t *dice)
{
    if (f->rcodes && dnstap_is_response(m->type))
        if (!dnstap__is_rcode_wanted(f, m->response_message)) return DNSTAP__BY_RCODE;
    if (f->zones_size && !dnstap__is_zone_wanted(f, m)) return DNSTAP__BY_ZONE;
    if (f->chance && !dnstap__is_chosen(f, m->transaction, dice)) return DNSTAP__BY_SAMPLE;
    if (f->hook && !(f->hook)(f->user, m)) return DNSTAP__BY_HOOK;
    return DNSTAP__SIEVES;
}

/* -- what leaves the process -- */

/* Clears all but so many bits. */
static void dnstap__keep_bits(uint8_t *p, size_t size, size_t bits)
{
    size_t at = bits / 8;
    if (at >= size) return;
    p[at] = (uint8_t)(p[at] & 0xff00u >> bits % 8);
    memset(p + at + 1, 0, size - at - 1);
}

/* How many bits of an IPv6 address are kept, of which an IPv4 address may be a part. */
static size_t dnstap__bits_of_ipv6(const dnstap__filter *f, const uint8_t ip[16])
{
    static const uint8_t nat64[12] = {0, 0x64, 0xff, 0x9b}; /* RFC 6052 */
    if (dnstap__is_mapped(ip)) return 96u + f->v4;
    if (memcmp(ip, nat64, 12) == 0) return dnstap__min(f->v6, 96u + f->v4);
    if (ip[0] == 0x20 && ip[1] == 2) return dnstap__min(f->v6, 16u + f->v4); /* 6to4: RFC 3056 */
    return f->v6;
}

/* Cuts a copy of the address, which points to it then; one of a wrong length is left out. family 0:
 * not known. */
static void dnstap__cut_address(const dnstap__filter *f, dnstap_bytes *address, uint32_t family,
                                uint8_t copy[20])
{
    size_t size = address->size;
    bool long_one = size == 16 || size == 20;
    if (!address->data) return;
    if (family == DNSTAP_FAMILY_INET && long_one)
        long_one = dnstap__is_mapped((const uint8_t *)address->data);
    if (size != 4 && !long_one) {
        *address = dnstap_bytes_of(NULL, 0);
        return;
    }
    memcpy(copy, address->data, size);
    address->data = copy;
    if (size == 4)
        dnstap__keep_bits(copy, 4, f->v4);
    else
        dnstap__keep_bits(copy, 16, dnstap__bits_of_ipv6(f, copy));
}

/* A client subnet option's data: family, prefix lengths, address (RFC 7871, 6). What is behind the
 * bits that are kept is 0, whatever the prefix says; of an unknown family that is all. */
static void dnstap__cut_subnet(const dnstap__filter *f, uint8_t *data, size_t size)
{
    uint32_t family = dnstap__get16(data);
    uint8_t ip[16] = {0};
    size_t bits = 0;
    memcpy(ip, data + 4, dnstap__min(size - 4, sizeof ip));
    if (family == 1) bits = f->v4;
    if (family == 2) bits = dnstap__bits_of_ipv6(f, ip);
    dnstap__keep_bits(data + 4, size - 4, bits);
}

/* The client subnets among the options at p, cut if p is a copy of ours, to. How many; -1: options
 * that can't be told from each other. */
static int dnstap__cut_options(const dnstap__filter *f, const uint8_t *p, size_t size, uint8_t *to)
{
    enum { DNSTAP__SUBNET = 8, DNSTAP__OLD_SUBNET = 20730 }; /* before it had a number */
    size_t at = 0, n;
    uint32_t code;
    int found = 0;
    for (; size - at >= 4; at += 4 + n) {
        code = dnstap__get16(p + at);
        n = dnstap__get16(p + at + 2);
        if (n > size - at - 4) return -1;
        if ((code != DNSTAP__SUBNET && code != DNSTAP__OLD_SUBNET) || n <= 4) continue;
        if (to) dnstap__cut_subnet(f, to + at + 4, n);
        found++;
    }
    return at == size ? found : -1;
}

/* The same of all OPT records, in whatever section. -1: not all of the message can be walked. */
static int dnstap__cut_dns(const dnstap__filter *f, const uint8_t *dns, size_t size, uint8_t *to)
{
    uint32_t questions, records;
    dnstap__walk w;
    size_t type, n;
    int found = 0, more;
    if (size < DNSTAP__DNS_HEADER) return -(size > 0);
    dnstap__start_walk(&w, dns, size);
    w.whole = false;
    w.steps = UINT32_MAX; /* it goes forwards only */
    questions = dnstap__get16(dns + 4);
    records = dnstap__get16(dns + 6) + dnstap__get16(dns + 8) + dnstap__get16(dns + 10);
    for (; questions; questions--, w.at += 4)
        if (!dnstap__walk_name(&w) || size - w.at < 4) return -1;
    for (; records; records--) {
        if (!dnstap__walk_record(&w, &type)) return -1;
        if (dnstap__get16(dns + type) != DNSTAP__TYPE_OPT) continue;
        n = w.at - type - DNSTAP__RECORD_HEADER;
        type += DNSTAP__RECORD_HEADER;
        more = dnstap__cut_options(f, dns + type, n, to ? to + type : NULL);
        if (more < 0) return -1;
        found += more;
    }
    return w.at == size ? found : -1;
}

static void dnstap__cut_bytes(const dnstap__filter *f, dnstap__cut *c, dnstap_bytes *bytes)
{
    int found = bytes->data ? dnstap__cut_dns(f, (const uint8_t *)bytes->data, bytes->size, NULL)
                            : 0;
    if (found > 0) c->subnets = true;
    if (found >= 0) return;
    *bytes = dnstap_bytes_of(NULL, 0);
    c->stripped = true;
}

/* Fills in c with what may be shown of m; full: with its DNS bytes. */
static void dnstap__cut_message(const dnstap__filter *f, const dnstap_message *m, bool full,
                                dnstap__cut *c)
{
    c->m = *m;
    c->subnets = c->stripped = false;
    dnstap__cut_address(f, &c->m.query_address, m->socket_family, c->addresses[0]);
    dnstap__cut_address(f, &c->m.response_address, m->socket_family, c->addresses[1]);
    dnstap__cut_address(f, &c->m.client_address, 0, c->addresses[2]);
    dnstap__cut_address(f, &c->m.local_address, 0, c->addresses[3]);
    if (!full) return;
    dnstap__cut_bytes(f, c, &c->m.query_message);
    dnstap__cut_bytes(f, c, &c->m.response_message);
}

/* The subnets in a payload that was just made of such a message. */
DNSTAP__COLD void dnstap__cut_payload(const dnstap__filter *f, uint8_t *payload, size_t size)
{
    dnstap_message m;
    dnstap_policy policy;
    const dnstap_bytes *bytes[2];
    int result = dnstap_decode(&m, &policy, payload, size), i;
    DNSTAP_ASSERT(result == DNSTAP_OK);
    (void)result;
    bytes[0] = &m.query_message;
    bytes[1] = &m.response_message;
    for (i = 0; i < 2; i++) {
        const uint8_t *dns = (const uint8_t *)bytes[i]->data;
        if (dns) dnstap__cut_dns(f, dns, bytes[i]->size, payload + (dns - payload));
    }
}

/* -- what options ask for -- */

/* The low bits of rcodes: 16 and 32 end as 0 does, and bit 63 stands for rcodes of each end. */
static uint32_t dnstap__low_rcodes(uint64_t rcodes)
{
    uint32_t low = rcodes >> 63 ? 0xffff : 0;
    for (; rcodes; rcodes >>= 16) low |= (uint32_t)rcodes & 0xffff;
    return low;
}

/* What the options, which were checked, ask for; the names of zones go into the arena. */
static void dnstap__resolve_filter(dnstap__filter *f, dnstap__arena *a, const dnstap_options *o)
{
    const char *const *zone = o->zones;
    uint8_t name[DNSTAP__NAME_MAX], *p;
    size_t size = 0;
    memset(f, 0, sizeof *f);
    f->types = o->types ? o->types : 0xffffffffu;
    f->rcodes = o->rcodes;
    f->low = dnstap__low_rcodes(o->rcodes);
    f->chance = o->sample > 1 ? UINT64_MAX / o->sample : 0;
    f->hook = o->filter;
    f->user = o->user;
    f->v4 = dnstap__bits_kept(o->anonymize_v4, 32);
    f->v6 = dnstap__bits_kept(o->anonymize_v6, 128);
    f->cuts = f->v4 < 32 || f->v6 < 128;
    for (; zone && *zone; zone++, f->zones_size += size + 1) {
        if (dnstap__read_name(*zone, name, &size)) break;
        p = (uint8_t *)dnstap__take(a, size + 1, 1);
        if (!f->zones) f->zones = p;
        if (!p) continue;
        *p = (uint8_t)size;
        memcpy(p + 1, name, size);
    }
    f->asks = f->rcodes || f->zones_size || f->chance || f->hook || f->cuts;
}

/* The filter in the arena, and a tally for each ring; NULL: the options ask for none, or the arena
 * only adds up. */
static dnstap__filter *dnstap__compile_filter(dnstap__arena *a, const dnstap_options *o,
                                              size_t rings, dnstap__tally **tallies)
{
    dnstap__filter filter, *f;
    uint64_t dice;
    size_t i;
    *tallies = NULL;
    dnstap__resolve_filter(&filter, a, o);
    if (!filter.asks && filter.types == 0xffffffffu) return NULL;
    f = (dnstap__filter *)dnstap__take(a, sizeof filter, sizeof(uint64_t));
    *tallies = (dnstap__tally *)dnstap__take(a, rings * sizeof **tallies, sizeof(uint64_t));
    if (!f || !*tallies) return NULL;
    *f = filter;
    memset(*tallies, 0, rings * sizeof **tallies);
    dice = (o->monotonic_ms)(o->user) + (size_t)f;
    for (i = 0; i < rings; i++) (*tallies)[i].dice = dnstap__mix(dice + dnstap__mix(i + 1));
    return f;
}

static int dnstap__check_filter(const dnstap_options *o, dnstap_error *error)
{
    uint8_t name[DNSTAP__NAME_MAX];
    size_t size, count;
    const char *why;
    int result = DNSTAP_OK;
    if (!dnstap__are_bits(o))
        result = dnstap__fail(
            error, DNSTAP_BAD_OPTION, 0,
            "anonymize_v4 is %u, anonymize_v6 %u; give at most 32 and 128 bits to "
            "keep, or DNSTAP_KEEP_NONE",
            (unsigned)o->anonymize_v4, (unsigned)o->anonymize_v6);
    for (count = 0; result == DNSTAP_OK && o->zones && o->zones[count]; count++) {
        why = dnstap__read_name(o->zones[count], name, &size);
        if (why)
            result = dnstap__fail(error, DNSTAP_BAD_OPTION, 0, "zone \"%s\" is no domain name: %s",
                                  o->zones[count], why);
        else if (count == DNSTAP_ZONES_MAX)
            result = dnstap__fail(error, DNSTAP_BAD_OPTION, 0, "zones are more than %d; name fewer",
                                  (int)DNSTAP_ZONES_MAX);
    }
    return result;
}
#else
/* There is no filter, and what asks for one folds away. */
static dnstap__filter *dnstap__compile_filter(dnstap__arena *a, const dnstap_options *o,
                                              size_t rings, dnstap__tally **tallies)
{
    (void)a, (void)o, (void)rings;
    return (dnstap__filter *)(void *)(*tallies = NULL);
}

static int dnstap__check_filter(const dnstap_options *o, dnstap_error *error)
{
    if (!o->types && !o->rcodes && !o->zones && !o->sample && !o->filter && !o->anonymize_v4 &&
        !o->anonymize_v6)
        return DNSTAP_OK;
    return dnstap__fail(error, DNSTAP_UNSUPPORTED, 0,
                        "this build has no filters; leave types, rcodes, zones, sample, filter "
                        "and anonymize out");
}
#define dnstap__read_name(text, out, size) ((void)(text), (void)(out), *(size) = 0, (char *)NULL)
#define dnstap__sift(f, m, dice) ((void)(f), DNSTAP__SIEVES)
#define dnstap__cut_message(f, m, full, cut) ((void)(f))
#define dnstap__cut_payload(f, payload, size) ((void)(f))
#endif

/* ---- >>frame ------------------------------------------------------------------------------ */

/* Bytes come in, events and the control frames to send go out; nothing here reads or writes.
 *
 *   data frame     | length, 4 | payload …                                            |
 *   control frame  | 0, 4 | length, 4 | type, 4 | field 1, 4 | length, 4 | content type |
 *
 * READY, ACCEPT and START carry the content type, STOP and FINISH nothing. The rules are fstrm's
 * (farsightsec.github.io/fstrm): control frames of at most 512 bytes, content types of at most 256.
 * Control frames are understood byte by byte; the reader collects what comes in
 * pieces, and knows from its first bytes how long it will be. */
#define DNSTAP__CONTENT_TYPE_MAX 256u
#define DNSTAP__LETTERS                                                                            \
    'p', 'r', 'o', 't', 'o', 'b', 'u', 'f', ':', 'd', 'n', 's', 't', 'a', 'p', '.', 'D', 'n', 's', \
        't', 'a', 'p'
#define DNSTAP__WITH_TYPE(type)                                                          \
    {                                                                                    \
        0, 0, 0, 0, 0, 0, 0, 34, 0, 0, 0, type, 0, 0, 0, 1, 0, 0, 0, 22, DNSTAP__LETTERS \
    }

/* What we send of each type, static; empty for a type that does not exist. */
static dnstap_bytes dnstap__control_frame(dnstap_control type)
{
    static const uint8_t accept_frame[] = DNSTAP__WITH_TYPE(DNSTAP_CONTROL_ACCEPT);
    static const uint8_t start_frame[] = DNSTAP__WITH_TYPE(DNSTAP_CONTROL_START);
    static const uint8_t ready_frame[] = DNSTAP__WITH_TYPE(DNSTAP_CONTROL_READY);
    static const uint8_t stop_frame[] = {0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, DNSTAP_CONTROL_STOP};
    static const uint8_t finish_frame[] = {0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, DNSTAP_CONTROL_FINISH};

    switch (type) {
    case DNSTAP_CONTROL_ACCEPT:
        return dnstap_bytes_of(accept_frame, sizeof accept_frame);
    case DNSTAP_CONTROL_START:
        return dnstap_bytes_of(start_frame, sizeof start_frame);
    case DNSTAP_CONTROL_STOP:
        return dnstap_bytes_of(stop_frame, sizeof stop_frame);
    case DNSTAP_CONTROL_READY:
        return dnstap_bytes_of(ready_frame, sizeof ready_frame);
    case DNSTAP_CONTROL_FINISH:
        return dnstap_bytes_of(finish_frame, sizeof finish_frame);
    default:
        return dnstap_bytes_of(NULL, 0);
    }
}

/* What is left to send of a control frame of which `sent` bytes went out. */
static dnstap_bytes dnstap__control_rest(dnstap_control type, size_t sent)
{
    dnstap_bytes frame = dnstap__control_frame(type);

    return dnstap_bytes_of((const uint8_t *)frame.data + sent, frame.size - sent);
}

/* A byte of a field: 1, 4 bytes; length, 4 bytes; a content type. */
static int dnstap__field_byte(dnstap_control_frame *c, uint8_t byte)
{
    static const char ours[] = DNSTAP_FRAME_CONTENT_TYPE;

    c->field++;
    if (c->field == 4 && c->word != 1) return DNSTAP_BAD_FRAME;
    if (c->field == 8) {
        if (c->word > DNSTAP__CONTENT_TYPE_MAX) return DNSTAP_BAD_FRAME;
        c->length = (uint16_t)c->word;
        c->same = c->length == sizeof ours - 1;
    }
    if (c->field > 8) c->same = c->same && byte == (uint8_t)ours[c->field - 9];
    if (c->field < 8 || c->field < 8 + c->length) return DNSTAP_AGAIN;
    c->matches = c->matches || c->same;
    c->content_types = c->content_types ? 2 : 1;
    c->field = 0;
    return DNSTAP_AGAIN;
}

/* A byte of a control frame. DNSTAP_OK: that was the last; DNSTAP_AGAIN: more is to come. Behind
 * the handshake only the type counts: what unknown, late or repeated control frames carry means
 * nothing. */
static int dnstap__control_byte(dnstap_control_frame *c, uint8_t byte, bool handshake)
{
    int result = DNSTAP_AGAIN;

    if (c->have == c->size) memset(c, 0, sizeof *c);
    if (!c->have) c->size = 8;
    c->have++;
    c->word = c->word << 8 | byte;
    if (c->have == 4 && c->word) return DNSTAP_BAD_FRAME;
    if (c->have == 8) {
        if (c->word < 4 || c->word > DNSTAP_FRAME_CONTROL_MAX) return DNSTAP_BAD_FRAME;
        c->size = (uint16_t)(8 + c->word);
    }
    if (c->have == 12) c->type = c->word;
    if (c->have > 12 && handshake) result = dnstap__field_byte(c, byte);
    if (result != DNSTAP_AGAIN || c->have < c->size) return result;
    c->matches = c->matches || !c->content_types;
    if (c->field || (c->type == DNSTAP_CONTROL_START && c->content_types > 1))
        return DNSTAP_BAD_FRAME;
    return DNSTAP_OK;
}

DNSTAP_API void dnstap_frame_writer_init(dnstap_frame_writer *w, bool bidirectional)
{
    memset(w, 0, sizeof *w);
    w->bidirectional = bidirectional;
    w->state = bidirectional ? DNSTAP_WRITER_READY : DNSTAP_WRITER_START;
}

/* The type of the last control frame that was whole; 0: there was none. */
static uint32_t dnstap__frame_writer_heard(const dnstap_frame_writer *w)
{
    return w->received.have == w->received.size ? w->received.type : 0;
}

/* The stream has begun: its START is there, and nothing is expected yet. */
static void dnstap__writer_resume(dnstap_frame_writer *w, bool bidirectional)
{
    dnstap_frame_writer_init(w, bidirectional);
    w->state = DNSTAP_WRITER_DATA;
}

DNSTAP_API void dnstap_frame_writer_stop(dnstap_frame_writer *w)
{
    if (w->state == DNSTAP_WRITER_DATA) w->state = DNSTAP_WRITER_STOP;
}

DNSTAP_API dnstap_bytes dnstap_frame_writer_next(const dnstap_frame_writer *w)
{
    switch (w->state) {
    case DNSTAP_WRITER_READY:
        return dnstap__control_rest(DNSTAP_CONTROL_READY, w->sent);
    case DNSTAP_WRITER_START:
        return dnstap__control_rest(DNSTAP_CONTROL_START, w->sent);
    case DNSTAP_WRITER_STOP:
        return dnstap__control_rest(DNSTAP_CONTROL_STOP, w->sent);
    default:
        return dnstap_bytes_of(NULL, 0);
    }
}

DNSTAP_API void dnstap_frame_writer_sent(dnstap_frame_writer *w, size_t size)
{
    if (size < dnstap_frame_writer_next(w).size) {
        w->sent = (uint16_t)(w->sent + size);
        return;
    }
    w->sent = 0;
    switch (w->state) {
    case DNSTAP_WRITER_READY:
        w->state = DNSTAP_WRITER_ACCEPT;
        break;
    case DNSTAP_WRITER_START:
        w->state = DNSTAP_WRITER_DATA;
        break;
    case DNSTAP_WRITER_STOP:
        w->state = w->bidirectional ? DNSTAP_WRITER_FINISH : DNSTAP_WRITER_END;
        break;
    default:
        break;
    }
}

/* A byte from the peer. Of whole control frames, after ACCEPT only FINISH has a meaning. */
static int dnstap__writer_byte(dnstap_frame_writer *w, uint8_t byte)
{
    const dnstap_control_frame *c = &w->received;
    int result = dnstap__control_byte(&w->received, byte, w->state == DNSTAP_WRITER_ACCEPT);

    if (result < 0) return result == DNSTAP_AGAIN ? (int)DNSTAP_OK : result;
    if (w->state == DNSTAP_WRITER_ACCEPT) {
        if (c->type != DNSTAP_CONTROL_ACCEPT || !c->matches) return DNSTAP_BAD_FRAME;
        w->state = DNSTAP_WRITER_START;
        return DNSTAP_OK;
    }
    if (c->type != DNSTAP_CONTROL_FINISH) return DNSTAP_OK;
    w->state = DNSTAP_WRITER_END;
    return DNSTAP_END;
}

DNSTAP_API int dnstap_frame_writer_receive(dnstap_frame_writer *w, const void *data, size_t size)
{
    const uint8_t *p = (const uint8_t *)data;
    int result = DNSTAP_OK;

    for (; size && result == DNSTAP_OK; size--) {
        if (w->state == DNSTAP_WRITER_END) return DNSTAP_END;
        if (w->state == DNSTAP_WRITER_READY || w->state == DNSTAP_WRITER_FAILED ||
            !w->bidirectional)
            result = DNSTAP_BAD_FRAME;
        else
            result = dnstap__writer_byte(w, *p++);
    }
    if (result == DNSTAP_BAD_FRAME) w->state = DNSTAP_WRITER_FAILED;
    return result;
}

#if DNSTAP__HAS_READER
DNSTAP_API void dnstap_frame_reader_init(dnstap_frame_reader *r, void *buffer, size_t size,
                                         bool bidirectional)
{
    memset(r, 0, sizeof *r);
    r->buffer = (uint8_t *)buffer;
    r->size = size;
    r->bidirectional = bidirectional;
    r->state = bidirectional ? DNSTAP_READER_READY : DNSTAP_READER_START;
}

/* How long the frame at p is, as far as its first `have` bytes tell; 0: against the rules. */
static uint64_t dnstap__frame_extent(const uint8_t *p, size_t have, bool data_allowed)
{
    uint32_t length;

    if (have < 4) return 4;
    length = dnstap__get32(p);
    if (length) return data_allowed ? (uint64_t)length + 4 : 0;
    if (have < 8) return 8;
    length = dnstap__get32(p + 4);
    return length <= DNSTAP_FRAME_CONTROL_MAX ? (uint64_t)length + 8 : 0;
}

/* Reads a whole control frame. */
static int dnstap__control_read(dnstap_control_frame *c, const uint8_t *p, size_t size,
                                bool handshake)
{
    int result = DNSTAP_AGAIN;

    memset(c, 0, sizeof *c);
    for (; size && result == DNSTAP_AGAIN; size--)
        result = dnstap__control_byte(c, *p++, handshake);
    return result == DNSTAP_OK ? DNSTAP_OK : DNSTAP_BAD_FRAME;
}

/* A control frame in each state. In DATA all but STOP is ignored, as the protocol asks of unknown
 * types. */
static int dnstap__reader_control(dnstap_frame_reader *r, const dnstap_control_frame *c)
{
    if (r->state == DNSTAP_READER_READY && r->either && c->type == DNSTAP_CONTROL_START) {
        r->state = DNSTAP_READER_START;
        r->bidirectional = false;
    }
    if (r->state == DNSTAP_READER_READY) {
        if (c->type != DNSTAP_CONTROL_READY || !c->matches) return DNSTAP_BAD_FRAME;
        r->owes_accept = true;
        r->state = DNSTAP_READER_START;
    } else if (r->state == DNSTAP_READER_START) {
        if (c->type != DNSTAP_CONTROL_START || !c->matches) return DNSTAP_BAD_FRAME;
        r->state = DNSTAP_READER_DATA;
    } else if (c->type == DNSTAP_CONTROL_STOP) {
        r->owes_finish = r->bidirectional;
        r->state = DNSTAP_READER_END;
    }
    return DNSTAP_OK;
}

/* A whole frame. */
static int dnstap__reader_take(dnstap_frame_reader *r, const uint8_t *p, size_t size,
                               dnstap_frame *frame)
{
    dnstap_control_frame c;
    int result;

    if (dnstap__get32(p)) {
        frame->kind = DNSTAP_FRAME_DATA;
        frame->payload = dnstap_bytes_of(p + 4, size - 4);
        return DNSTAP_OK;
    }
    result = dnstap__control_read(&c, p, size, r->state != DNSTAP_READER_DATA);
    if (result < 0) return result;
    frame->kind = DNSTAP_FRAME_CONTROL;
    frame->control = c.type;
    return dnstap__reader_control(r, &c);
}

/* Collects a frame, or finds it whole in data, where it is not copied. */
static long dnstap__reader_collect(dnstap_frame_reader *r, const uint8_t *p, size_t size,
                                   dnstap_frame *frame)
{
    size_t used = 0, have, n;
    uint64_t whole;
    int result;

    for (;;) {
        have = r->have ? r->have : size;
        whole = dnstap__frame_extent(r->have ? r->buffer : p, have, r->state == DNSTAP_READER_DATA);
        if (!whole) return DNSTAP_BAD_FRAME;
        if (whole > r->size) break;
        if (whole <= have) {
            result = dnstap__reader_take(r, r->have ? r->buffer : p, (size_t)whole, frame);
            if (!r->have) used = (size_t)whole;
            r->have = 0;
            return result < 0 ? result : (long)used;
        }
        if (used == size) return (long)used;
        n = dnstap__min((size_t)whole - r->have, size - used);
        DNSTAP_ASSERT(r->have + n <= r->size);
        memcpy(r->buffer + r->have, p + used, n);
        r->have += n;
        used += n;
    }
    r->skip = whole - 4;
    r->skipped++;
    frame->kind = DNSTAP_FRAME_SKIPPED;
    frame->payload.size = (size_t)r->skip;
    if (!r->have) used = 4;
    r->have = 0;
    return (long)used;
}

DNSTAP_API long dnstap_frame_reader_feed(dnstap_frame_reader *r, const void *data, size_t size,
                                         dnstap_frame *frame)
{
    size_t n;
    long used;

    memset(frame, 0, sizeof *frame);
    if (r->state == DNSTAP_READER_END) return DNSTAP_END;
    if (r->state == DNSTAP_READER_FAILED) return DNSTAP_BAD_FRAME;
    if (!size) return 0;
    if (r->skip) {
        n = r->skip < size ? (size_t)r->skip : size;
        r->skip -= n;
        return (long)n;
    }
    used = dnstap__reader_collect(r, (const uint8_t *)data, size, frame);
    if (used < 0) r->state = DNSTAP_READER_FAILED;
    return used;
}

DNSTAP_API dnstap_bytes dnstap_frame_reader_next(const dnstap_frame_reader *r)
{
    if (r->owes_accept) return dnstap__control_rest(DNSTAP_CONTROL_ACCEPT, r->sent);
    if (r->owes_finish) return dnstap__control_rest(DNSTAP_CONTROL_FINISH, r->sent);
    return dnstap_bytes_of(NULL, 0);
}

DNSTAP_API void dnstap_frame_reader_sent(dnstap_frame_reader *r, size_t size)
{
    if (size < dnstap_frame_reader_next(r).size) {
        r->sent = (uint16_t)(r->sent + size);
        return;
    }
    r->sent = 0;
    if (r->owes_accept)
        r->owes_accept = false;
    else
        r->owes_finish = false;
}

DNSTAP_API int dnstap_frame_reader_eof(const dnstap_frame_reader *r)
{
    if (r->state == DNSTAP_READER_END) return DNSTAP_OK;
    if (r->state != DNSTAP_READER_DATA || r->skip) return DNSTAP_BAD_FRAME;
    return r->have ? DNSTAP_CUT : DNSTAP_END;
}
#endif

/* ---- >>ring ------------------------------------------------------------------------------- */

/* A byte ring of whole, framed records: one producer writes, the service reads. Positions run on
 * without end and are compared by difference; a position's offset is its low bits.
 *
 *            tail                     published
 *   ┌─ … sent │ 0000006b 0a16… │ 000000c7 0a16… │ free …  ─┐   a frame lies in one piece: where
 *   └─────────┴────────────────┴────────────────┴──────────┘   it does not fit, the rest of the lap
 *   0                                            wrap    size   is skipped: wrap says from where
 *
 * One wrap suffices: a second lap can't end before the service has passed the first one's end. A
 * producer that finds its ring empty starts again at the beginning, so that a ring is touched only
 * as far as it is needed and stays in the cache. What it skips so is no loss of room: it counts
 * from `floor`, the new lap's start, until the tail comes there. tail is always a frame's edge.
 * `bytes` counts what was published, without skips: the wake-up's mark is in these. */
typedef struct dnstap__ring {
    uint8_t *data;        /* constant after open: */
    size_t size;          /* a power of two */
    size_t limit;         /* messages */
    bool shared;          /* producers lock it */
    dnstap__tally *tally; /* NULL: without a filter */
    uint8_t pad0[DNSTAP_CACHE_LINE];
    size_t published, wrap, bytes, recorded; /* the producer writes, the service reads */
    size_t unwanted, no_sink, lost_full, lost_large, lost_bad, lost_disconnected;
    size_t floor; /* the producer's own */
    uint8_t pad1[DNSTAP_CACHE_LINE];
    size_t tail, out, wake_at; /* the service writes, the producer reads; out: messages that left */
    size_t seen_bytes, paced_bytes, mark; /* the service's own: what it has looked at; what it had
                                             when it was paced last, and the mark since; >>wake */
    uint8_t pad2[DNSTAP_CACHE_LINE / 2];  /* these do for the rest of it */
    size_t owner, lock, lost_busy;        /* a thread has it; lock and losses of the shared ring */
} dnstap__ring;

/* Adds to a word that only this thread writes and others read. */
DNSTAP__ONCE void dnstap__add(size_t *word, size_t n) { DNSTAP_STORE(word, *word + n); }

/* Counts one in a word that any thread writes. */
static void dnstap__add_shared(size_t *word)
{
    size_t before = DNSTAP_LOAD(word);

    while (!DNSTAP_COMPARE_EXCHANGE(word, &before, before + 1)) {
    }
}

/* Room for size bytes in one piece, or NULL; *end is the position after them. Less may be published
 * in the end. */
DNSTAP__ONCE uint8_t *dnstap__ring_reserve(dnstap__ring *r, size_t size, size_t *end)
{
    size_t tail = DNSTAP_LOAD_ACQUIRE(&r->tail), at = r->published;
    size_t offset = at & (r->size - 1), room = r->size - offset, skip = 0;

    DNSTAP_ASSERT(!(r->size & (r->size - 1)) && size <= r->size);
    DNSTAP_ASSERT(at - tail < 2 * r->size); /* with what was skipped by starting again */
    if (DNSTAP__UNLIKELY(room < size)) skip = room;
    if (DNSTAP__UNLIKELY(at == tail && offset)) r->floor = at + (skip = room);
    if ((ptrdiff_t)(tail - r->floor) >= 0)
        r->floor = tail;
    else
        tail = r->floor - 1; /* one less: this lap must not end before the tail is in it */
    if (DNSTAP__UNLIKELY(at + skip + size - tail > r->size)) return NULL;
    if (DNSTAP__UNLIKELY(r->recorded - DNSTAP_LOAD(&r->out) >= r->limit)) return NULL;
    *end = at + skip + size;
    if (DNSTAP__UNLIKELY(skip)) {
        DNSTAP_STORE(&r->wrap, offset);
        return r->data;
    }
    if (DNSTAP__UNLIKELY(room == size)) DNSTAP_STORE(&r->wrap, r->size);
    return r->data + offset;
}

DNSTAP__ONCE void dnstap__ring_publish(dnstap__ring *r, size_t size, size_t end)
{
    DNSTAP_ASSERT(size > DNSTAP_FRAME_HEADER && end - r->published >= size);
    dnstap__add(&r->recorded, 1);
    DNSTAP_STORE_RELEASE(&r->published, end);
    DNSTAP_STORE_RELEASE(&r->bytes, r->bytes + size);
}

/* The bytes in one piece at *at, of a ring published up to end; *at moves over a skip. */
static size_t dnstap__ring_span(const dnstap__ring *r, size_t *at, size_t end, const uint8_t **data)
{
    size_t mask = r->size - 1, offset = *at & mask, wrap;

    if (*at == end) return 0;
    *data = r->data + offset;
    if (!((*at ^ end) & ~mask)) return end - *at;
    wrap = DNSTAP_LOAD(&r->wrap);
    if (wrap > offset) return wrap - offset;
    *at = (*at | mask) + 1;
    *data = r->data;
    return end - *at;
}

/* The bytes from at to end, without a skip. */
static size_t dnstap__ring_used(const dnstap__ring *r, size_t at, size_t end)
{
    const uint8_t *data;
    size_t used = dnstap__ring_span(r, &at, end, &data);

    return used && used != end - at ? used + (end & (r->size - 1)) : used;
}

/* How many of the n bytes at data are whole frames; the number of these in *frames. */
static size_t dnstap__whole_frames(const uint8_t *data, size_t n, size_t *frames)
{
    size_t done = 0, size;

    for (*frames = 0; n - done >= DNSTAP_FRAME_HEADER; ++*frames) {
        size = DNSTAP_FRAME_HEADER + (size_t)dnstap__get32(data + done);
        if (size > n - done) break;
        done += size;
    }
    return done;
}

/* Gives back all before `tail`, a frame's edge: so many frames. */
static void dnstap__ring_release(dnstap__ring *r, size_t tail, size_t frames)
{
    DNSTAP_ASSERT(tail - r->tail <= DNSTAP_LOAD_ACQUIRE(&r->published) - r->tail);
    DNSTAP_ASSERT(frames <= DNSTAP_LOAD(&r->recorded) - r->out);
    DNSTAP_STORE_RELEASE(&r->out, r->out + frames); /* who reads it sees what was recorded, too */
    DNSTAP_STORE_RELEASE(&r->tail, tail);
}

/* ---- >>transport -------------------------------------------------------------------------- */

/* Stream sockets, which carry bytes for taps and sinks alike: one that connects to an address, or
 * one that was accepted. In: an address or a descriptor; out: a dnstap_transport, whose contract is
 * in the API. Always: nothing blocks, nothing raises SIGPIPE, and the text of the last failure is
 * kept. A further transport is a struct and its functions here, and a row in >>endpoint. */
#if DNSTAP__HAS_SOCKETS || DNSTAP__HAS_FILES
static bool dnstap__would_block(int sys_errno)
{
    return sys_errno == EAGAIN || sys_errno == EINTR ||
           (EWOULDBLOCK != EAGAIN && sys_errno == EWOULDBLOCK);
}

/* Of a descriptor that the program closed: what is said behind the failure. */
static const char *dnstap__closed_by_program(int sys_errno)
{
    bool closed = sys_errno == EBADF || sys_errno == ENOTSOCK;

    return closed ? "; the program closed it, it is opened anew" : "";
}
#endif

#if DNSTAP__HAS_SOCKETS
/* One address, as the socket calls take it. */
typedef union dnstap__ip {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
} dnstap__ip;

typedef union dnstap__address {
    struct sockaddr any;
    dnstap__ip ip;
    struct sockaddr_un local;
} dnstap__address;

/* Linux has unix sockets without a file, whose names begin with a NUL; as texts with an @. */
static bool dnstap__is_abstract(const char *path) { return DNSTAP__HAS_ABSTRACT && *path == '@'; }

static socklen_t dnstap__address_size(const dnstap__address *a)
{
    const char *path = a->local.sun_path;

    if (a->any.sa_family == AF_INET) return sizeof a->ip.v4;
    if (a->any.sa_family == AF_INET6) return sizeof a->ip.v6;
    if (*path) return sizeof a->local;
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(path + 1));
}

static int dnstap__unix_address(dnstap__address *a, const char *endpoint, const char *path,
                                dnstap_error *error)
{
    size_t n = strlen(path);

    memset(a, 0, sizeof *a);
    a->local.sun_family = AF_UNIX;
    if (n >= sizeof a->local.sun_path)
        return dnstap__fail(error, DNSTAP_BAD_OPTION, 0,
                            "%s: path has %lu bytes, a unix socket's at most %lu; shorten it",
                            endpoint, (unsigned long)n,
                            (unsigned long)sizeof a->local.sun_path - 1);
    memcpy(a->local.sun_path, path, n);
    if (dnstap__is_abstract(path)) a->local.sun_path[0] = '\0';
    return DNSTAP_OK;
}

/* Takes a numeric address; false: host is a name. */
static bool dnstap__numeric_address(dnstap__ip *a, const char *host, uint16_t port)
{
    memset(a, 0, sizeof *a);
    if (inet_pton(AF_INET, host, &a->v4.sin_addr) == 1) {
        a->v4.sin_family = AF_INET;
        a->v4.sin_port = htons(port);
        return true;
    }
    if (inet_pton(AF_INET6, host, &a->v6.sin6_addr) == 1) {
        a->v6.sin6_family = AF_INET6;
        a->v6.sin6_port = htons(port);
        return true;
    }
    return false;
}

/* A stream socket. */
typedef struct dnstap__socket {
    int fd;          /* -1: none */
    int send_buffer; /* SO_SNDBUF to ask for; 0: the system's */
    bool connecting;
    bool bare; /* the endpoint was a path alone */
    dnstap__address address;
    char error[DNSTAP__HAS_TEXT ? 128 : 1];
} dnstap__socket;

/* What may have been meant by a path that nobody listens on. */
static const char *dnstap__socket_hint(const dnstap__socket *s, int sys_errno)
{
    struct stat st;

    if (s->address.any.sa_family != AF_UNIX) return "";
    if (!stat(s->address.local.sun_path, &st) && !S_ISSOCK(st.st_mode))
        return "; it is no socket; a file is written with file:// before its path";
    return sys_errno == ENOENT && s->bare ? "; for a file write file:// before its path" : "";
}

static int dnstap__socket_failed(dnstap__socket *s, const char *what, int sys_errno)
{
    const char *closed = dnstap__closed_by_program(sys_errno);

    if (*closed) s->fd = -1;
    dnstap__format(s->error, sizeof s->error, "%s: %s%s", what, strerror(sys_errno),
                   *closed         ? closed
                   : s->connecting ? dnstap__socket_hint(s, sys_errno)
                                   : "");
    errno = sys_errno;
    return DNSTAP_SYSTEM;
}

static int dnstap__socket_again(int code, short events, short *wants)
{
    *wants = events;
    return code;
}

/* No SIGPIPE, where send has no flag for it. */
#ifdef SO_NOSIGPIPE
static void dnstap__socket_quiet(int fd)
{
    int on = 1;

    setsockopt(fd, SOL_SOCKET, SO_NOSIGPIPE, &on, sizeof on);
}
#else
static void dnstap__socket_quiet(int fd) { (void)fd; }
#endif

/* What a socket is set to. A dead host is noticed, and what we send is packed already. */
/* Where nothing is sent, a peer whose machine is gone is noticed within two minutes; where these
 * can't be set, in hours. */
#if defined(TCP_KEEPIDLE) && defined(TCP_KEEPINTVL) && defined(TCP_KEEPCNT)
static void dnstap__socket_keep_alive(int fd)
{
    int on = 1, idle = 60, between = 10, count = 6;

    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &between, sizeof between);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof count);
}
#else
static void dnstap__socket_keep_alive(int fd)
{
    int on = 1;

    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
}
#endif

static void dnstap__socket_tune(const dnstap__socket *s, int family)
{
    int on = 1;

    if (s->send_buffer)
        setsockopt(s->fd, SOL_SOCKET, SO_SNDBUF, &s->send_buffer, sizeof s->send_buffer);
    dnstap__socket_quiet(s->fd);
    if (family == AF_UNIX) return;
    dnstap__socket_keep_alive(s->fd);
    setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

static int dnstap__socket_open(dnstap__socket *s)
{
    s->fd = dnstap__socket_of(s->address.any.sa_family, SOCK_STREAM);
    if (s->fd < 0) return dnstap__socket_failed(s, "socket", errno);
    dnstap__socket_tune(s, s->address.any.sa_family);
    return DNSTAP_OK;
}

/* Connects, without waiting: DNSTAP_AGAIN until the kernel has an answer. */
static int dnstap__socket_start(void *self, short *wants)
{
    dnstap__socket *s = (dnstap__socket *)self;
    struct pollfd p;
    int problem = 0;
    socklen_t size = sizeof problem;

    if (s->fd < 0) {
        if (dnstap__socket_open(s) < 0) return DNSTAP_SYSTEM;
        s->connecting = true;
        if (!connect(s->fd, &s->address.any, dnstap__address_size(&s->address)))
            problem = 0;
        else if (errno == EINPROGRESS || errno == EINTR)
            return dnstap__socket_again(DNSTAP_AGAIN, POLLOUT, wants);
        else
            return dnstap__socket_failed(s, "connect", errno);
    } else if (s->connecting) {
        p.fd = s->fd;
        p.events = POLLOUT;
        if (poll(&p, 1, 0) == 0) return dnstap__socket_again(DNSTAP_AGAIN, POLLOUT, wants);
        if (getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &problem, &size) < 0) problem = errno;
        if (problem) return dnstap__socket_failed(s, "connect", problem);
    }
    s->connecting = false;
    return DNSTAP_OK;
}

static long dnstap__socket_send(void *self, const void *data, size_t size, short *wants)
{
    dnstap__socket *s = (dnstap__socket *)self;
    ssize_t n = dnstap__send_quietly(s->fd, data, size);

    if (n >= 0) return (long)n;
    if (dnstap__would_block(errno)) return dnstap__socket_again(DNSTAP_AGAIN, POLLOUT, wants);
    return dnstap__socket_failed(s, "send", errno);
}

static long dnstap__socket_recv(void *self, void *data, size_t size, short *wants)
{
    dnstap__socket *s = (dnstap__socket *)self;
    ssize_t n = recv(s->fd, data, size, 0);

    if (n > 0) return (long)n;
    if (n == 0) return DNSTAP_END;
    if (dnstap__would_block(errno)) return dnstap__socket_again(DNSTAP_AGAIN, POLLIN, wants);
    return dnstap__socket_failed(s, "recv", errno);
}

static void dnstap__socket_close(void *self) { dnstap__close_fd(&((dnstap__socket *)self)->fd); }

static int dnstap__socket_fd(void *self) { return ((dnstap__socket *)self)->fd; }
static const char *dnstap__socket_error(void *self) { return ((dnstap__socket *)self)->error; }

static dnstap_transport dnstap__socket_transport(dnstap__socket *s)
{
    dnstap_transport t;

    s->fd = -1;
    t.self = s;
    t.start = dnstap__socket_start;
    t.send = dnstap__socket_send;
    t.recv = dnstap__socket_recv;
    t.shut = NULL;
    t.close = dnstap__socket_close;
    t.fd = dnstap__socket_fd;
    t.error = dnstap__socket_error;
    return t;
}
#endif

/* ---- >>file ------------------------------------------------------------------------------- */

/* A file as a transport: in go whole frames, out comes a file of one Frame Streams stream. START is
 * in it once it is up. Always: what is in a regular file is whole frames: a write that fails half
 * way (full disk, file-size limit) is taken back; no signal that a write raises reaches the
 * program. It blocks as long as its file system does.
 *
 * It is opened when the tap is, for later there may be no right to, or no way (chroot). What else
 * can hinder it, another writer or a full disk, is tried again, in the descriptor that is there.
 *
 * Who writes holds two locks. flock(2) goes with the descriptor: it keeps out other taps, of this
 * process too. Forked children share it, so it is taken off before the descriptor is closed, not
 * left to the last of them. The record lock of fcntl(2) goes with the process: it keeps out those
 * that were forked with the same descriptor, and tells others who it is. */
#if DNSTAP__HAS_FILES
enum { DNSTAP__WALK_BLOCKS = 256 }; /* 1 MiB in one step */

typedef struct dnstap__file {
    int fd; /* -1: none */
    bool regular, lockable;
    size_t locker, writer; /* processes: that took flock; that holds all, and may write; 0: none */
    off_t at;              /* regular: the end of its whole frames, as far as they are known */
    dnstap__identity is;
    const char *path;
    dnstap_error problem;
} dnstap__file;

/* It may be better later. */
static bool dnstap__disk_is_full(int sys_errno)
{
    return sys_errno == ENOSPC || sys_errno == EDQUOT;
}

/* A descriptor that the program closed is forgotten: the number may be another's. */
static void dnstap__file_forget(dnstap__file *f)
{
    f->fd = -1;
    f->locker = f->writer = 0;
}

static int dnstap__file_failed(dnstap__file *f, const char *what)
{
    int sys_errno = errno;

    if (sys_errno == EBADF) dnstap__file_forget(f);
    return dnstap__fail(&f->problem, DNSTAP_SYSTEM, sys_errno, "%s: %s%s", what,
                        strerror(sys_errno), dnstap__closed_by_program(sys_errno));
}

static int dnstap__file_is_bad(dnstap__file *f, const char *why)
{
    return dnstap__fail(&f->problem, DNSTAP_BAD_FRAME, 0, "%s", why);
}

/* Whether frames can be written to a file of that kind. */
static int dnstap__file_kind(dnstap__file *f, mode_t mode)
{
    if (S_ISSOCK(mode))
        return dnstap__fail(&f->problem, DNSTAP_SYSTEM, ENXIO,
                            "open: is no file; for a socket use unix://");
    if (!S_ISBLK(mode)) return DNSTAP_OK;
    return dnstap__fail(&f->problem, DNSTAP_BAD_OPTION, 0, "is a disk; give the path of a file");
}

static int dnstap__file_open(dnstap__file *f)
{
    struct stat st;

    f->at = 0;
    f->fd = open(f->path, O_RDWR | O_CREAT | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0644);
    if (f->fd < 0 && errno == ENXIO) return dnstap__file_kind(f, S_IFSOCK);
    if (f->fd < 0 || fstat(f->fd, &st) < 0) return dnstap__file_failed(f, "open");
    dnstap__identify(&f->is, f->fd);
    f->regular = S_ISREG(st.st_mode);
    f->lockable = f->regular || S_ISFIFO(st.st_mode);
    if (S_ISBLK(st.st_mode)) dnstap__close_fd(&f->fd);
    return dnstap__file_kind(f, st.st_mode);
}

/* The process that holds the record lock; 0: none that is known, or this one. */
static long dnstap__file_holder(const dnstap__file *f)
{
    struct flock lock;

    memset(&lock, 0, sizeof lock);
    lock.l_type = F_WRLCK;
    lock.l_whence = SEEK_SET;
    if (fcntl(f->fd, F_GETLK, &lock) < 0 || lock.l_type == F_UNLCK || lock.l_pid < 0) return 0;
    return (long)lock.l_pid;
}

/* false: another descriptor has it. Some network file systems have no locks. */
#ifdef LOCK_EX
static bool dnstap__file_lock(dnstap__file *f)
{
    if (!f->lockable) return true;
    if (flock(f->fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK) return false;
    f->locker = dnstap__process();
    return true;
}

static void dnstap__file_unlock(const dnstap__file *f) { flock(f->fd, LOCK_UN); }
#else
static bool dnstap__file_lock(dnstap__file *f)
{
    f->locker = dnstap__process();
    return true;
}

static void dnstap__file_unlock(const dnstap__file *f) { (void)f; }
#endif

/* false: another process has it. Where flock is made of record locks our own is in the way of
 * this; that no process has it shows so. */
static bool dnstap__file_claim(const dnstap__file *f)
{
    struct flock lock;

    memset(&lock, 0, sizeof lock);
    lock.l_type = F_WRLCK;
    lock.l_whence = SEEK_SET;
    return !f->lockable || fcntl(f->fd, F_SETLK, &lock) == 0 || !dnstap__file_holder(f);
}

static int dnstap__file_in_use(dnstap__file *f)
{
    long holder = dnstap__file_holder(f);

    if (!holder)
        return dnstap__fail(&f->problem, DNSTAP_SYSTEM, EWOULDBLOCK,
                            "another tap has it, or a process forked from one, and must let go "
                            "first; give each tap its own path");
    return dnstap__fail(&f->problem, DNSTAP_SYSTEM, EWOULDBLOCK,
                        "process %lu writes it, and must let go first", (unsigned long)holder);
}

/* What other processes still write into with the same descriptor stays locked. */
static void dnstap__file_close(void *self)
{
    dnstap__file *f = (dnstap__file *)self;
    int fd = f->fd;

    if (!dnstap__leads_to(fd, &f->is))
        fd = -1;
    else if (f->locker == dnstap__process() && !dnstap__file_holder(f))
        dnstap__file_unlock(f);
    dnstap__file_forget(f);
    dnstap__close_fd(&fd);
}

/* Finds where the stream in the file ends: behind its last whole frame, before its STOP; goes on
 * from where it came last time, a step at a time. The reader walks; frames too long for the small
 * buffer are jumped over. DNSTAP_AGAIN: there is more. */
static int dnstap__file_walk(dnstap__file *f, off_t size)
{
    uint8_t buffer[8 + DNSTAP_FRAME_CONTROL_MAX], block[4096];
    dnstap_frame_reader reader;
    dnstap_frame frame;
    off_t at = f->at;
    ssize_t have;
    long used, offset;
    unsigned blocks = 0;

    dnstap_frame_reader_init(&reader, buffer, sizeof buffer, false);
    if (f->at) reader.state = DNSTAP_READER_DATA;
    while ((have = pread(f->fd, block, sizeof block, at)) > 0) {
        for (offset = 0; offset < have; offset += used, at += used) {
            used = dnstap_frame_reader_feed(&reader, block + offset, (size_t)(have - offset),
                                            &frame);
            if (used < 0) return dnstap__file_is_bad(f, "is not dnstap");
            if (reader.state == DNSTAP_READER_END)
                return at + used == size ? DNSTAP_OK
                                         : dnstap__file_is_bad(f, "goes on behind its STOP");
            if (reader.skip) break;
            if (!reader.have) f->at = at + used;
        }
        if (reader.skip) {
            at += (off_t)used;
            if (reader.skip > (uint64_t)(size - at)) break; /* cut; an off_t may not hold it */
            f->at = at += (off_t)reader.skip;
            reader.skip = 0;
        }
        if (++blocks == DNSTAP__WALK_BLOCKS) return DNSTAP_AGAIN;
    }
    if (have < 0) return dnstap__file_failed(f, "read");
    return f->at ? DNSTAP_OK : dnstap__file_is_bad(f, "is not dnstap");
}

/* Looks at what is in a regular file, if that is not known yet; its size in *size. */
static int dnstap__file_check(dnstap__file *f, off_t *size)
{
    struct stat st;

    if (fstat(f->fd, &st) < 0) return dnstap__file_failed(f, "read");
    *size = st.st_size;
    if (f->at > *size) f->at = 0;
    return f->at < *size ? dnstap__file_walk(f, *size) : DNSTAP_OK;
}

/* A write that failed leaves a regular file as it was. */
static int dnstap__file_take_back(dnstap__file *f)
{
    dnstap__file_failed(f, "write");
    if (f->fd >= 0 && ftruncate(f->fd, f->at) < 0) dnstap__file_failed(f, "write, then truncate");
    return DNSTAP_SYSTEM;
}

/* Writes all of data, or leaves a regular file as it was. A pipe may take a part. */
static long dnstap__file_send(void *self, const void *data, size_t size, short *wants)
{
    dnstap__file *f = (dnstap__file *)self;
    const uint8_t *p = (const uint8_t *)data;
    sigset_t before;
    size_t done = 0;
    ssize_t n;

    dnstap__hush(&before);
    do {
        n = f->regular ? pwrite(f->fd, p + done, size - done, f->at + (off_t)done)
                       : write(f->fd, p + done, size - done);
        if (n > 0) done += (size_t)n;
    } while (done < size && (n > 0 || (n < 0 && errno == EINTR)));
    dnstap__unhush(&before, done < size);
    if (done < size && f->regular) return dnstap__file_take_back(f);
    f->at += (off_t)done;
    if (done) return (long)done;
    if (!dnstap__would_block(errno)) return dnstap__file_failed(f, "write");
    *wants = POLLOUT;
    return DNSTAP_AGAIN;
}

/* Makes it ready for frames: behind what a regular file holds, and behind START. */
static int dnstap__file_begin(dnstap__file *f, short *wants)
{
    dnstap_bytes start = dnstap__control_frame(DNSTAP_CONTROL_START);
    off_t size = 0;
    long n = f->regular ? dnstap__file_check(f, &size) : DNSTAP_OK;

    if (n < 0) return (int)n;
    if (f->regular && f->at < size && ftruncate(f->fd, f->at) < 0)
        return dnstap__file_failed(f, "truncate");
    while (f->at < (off_t)start.size) {
        n = dnstap__file_send(f, (const uint8_t *)start.data + f->at, start.size - (size_t)f->at,
                              wants);
        if (n < 0) return (int)n;
    }
    return DNSTAP_OK;
}

/* Whether the path leads to another file than ours by now; where it leads nowhere (chroot), ours
 * is as good as can be. */
static bool dnstap__file_moved(const dnstap__file *f)
{
    struct stat st;

    return stat(f->path, &st) == 0 && (st.st_ino != f->is.inode || st.st_dev != f->is.device);
}

/* Takes what was opened with the tap, else opens it. A file that this process neither opened for
 * itself nor wrote yet may have been rotated while it waited. DNSTAP_AGAIN without wants: a long
 * file is being walked. */
static int dnstap__file_start(void *self, short *wants)
{
    dnstap__file *f = (dnstap__file *)self;
    size_t process = dnstap__process();
    int result;

    *wants = 0;
    if (f->fd >= 0 && !dnstap__leads_to(f->fd, &f->is)) dnstap__file_forget(f);
    if (f->fd >= 0 && f->writer == process) return DNSTAP_OK;
    if (f->fd >= 0 && f->locker != process && dnstap__file_moved(f)) dnstap__file_close(f);
    if (f->fd < 0 && (result = dnstap__file_open(f)) < 0) return result;
    if (!dnstap__file_lock(f)) return dnstap__file_in_use(f);
    if (!dnstap__file_claim(f)) {
        f->locker = 0; /* it is the others' too */
        return dnstap__file_in_use(f);
    }
    result = dnstap__file_begin(f, wants);
    if (result == DNSTAP_OK) f->writer = process;
    if (result == DNSTAP_BAD_FRAME) dnstap__file_close(f);
    return result;
}

/* What open(2) would say of what is there and no regular file: to open it might be noticed. */
static int dnstap__file_try(dnstap__file *f, mode_t mode)
{
    errno = S_ISDIR(mode) ? EISDIR : dnstap__may(f->path, R_OK | W_OK);
    return errno ? dnstap__file_failed(f, "open") : dnstap__file_kind(f, mode);
}

/* What open(2) would say of a new file. A link to nowhere is made where it leads. */
static int dnstap__file_try_new(dnstap__file *f)
{
    char path[DNSTAP__PATH_SIZE], link[1024]; /* longer ones are left for the open itself */
    size_t n = strlen(f->path), at;
    ssize_t length;
    int links = 0;

    if (n >= sizeof path) n = 0;
    memcpy(path, f->path, n);
    path[n] = '\0';
    while (links++ < 40 && (length = readlink(path, link, sizeof link)) > 0) {
        at = *link == '/' || !strrchr(path, '/') ? 0 : (size_t)(strrchr(path, '/') + 1 - path);
        if (length == (ssize_t)sizeof link || at + (size_t)length >= sizeof path) break;
        memcpy(path + at, link, (size_t)length);
        path[at + (size_t)length] = '\0';
        n = at + (size_t)length;
    }
    errno = n && path[n - 1] == '/' ? EISDIR : dnstap__may_make(path);
    return errno ? dnstap__file_failed(f, "open") : DNSTAP_OK;
}

/* What dnstap__file_prepare would refuse, without a trace. What another process writes is not
 * looked into. */
static int dnstap__file_check_path(dnstap__file *f)
{
    struct stat st;
    off_t size = 0;
    int result = DNSTAP_OK;

    if (stat(f->path, &st) < 0)
        return errno == ENOENT ? dnstap__file_try_new(f) : dnstap__file_failed(f, "open");
    if (!S_ISREG(st.st_mode)) return dnstap__file_try(f, st.st_mode);
    f->at = 0;
    f->fd = open(f->path, O_RDWR | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (f->fd < 0) return dnstap__file_failed(f, "open");
    if (!dnstap__file_holder(f)) {
        do result = dnstap__file_check(f, &size);
        while (result == DNSTAP_AGAIN);
    }
    dnstap__close_fd(&f->fd);
    return result;
}

/* When the tap opens: what needs rights, and what is wrong with the path. What may be better later
 * is no error: a full disk, another writer, whose file is not begun anew either. */
static int dnstap__file_prepare(dnstap__file *f, bool overwrite)
{
    int result = dnstap__file_open(f);
    off_t size = 0;

    if (result < 0 && dnstap__disk_is_full(f->problem.sys_errno)) return DNSTAP_OK;
    if (result < 0 || !f->regular || !dnstap__file_lock(f)) return result;
    do result = dnstap__file_check(f, &size);
    while (result == DNSTAP_AGAIN);
    if (result == DNSTAP_OK && overwrite) {
        f->at = 0;
        if (ftruncate(f->fd, 0) < 0) result = dnstap__file_failed(f, "truncate");
    }
    if (result < 0) dnstap__file_close(f);
    return result;
}

/* Who has opened it, and is to write it only after another one, locks nobody out until then. */
static void dnstap__file_yield(dnstap__file *f)
{
    if (f->locker && f->fd >= 0) dnstap__file_unlock(f);
    f->locker = 0;
}

static long dnstap__file_recv(void *self, void *data, size_t size, short *wants)
{
    (void)self, (void)data, (void)size;
    *wants = 0;
    return DNSTAP_AGAIN;
}

static int dnstap__file_fd(void *self)
{
    dnstap__file *f = (dnstap__file *)self;

    return f->regular ? -1 : f->fd;
}

static const char *dnstap__file_error(void *self) { return ((dnstap__file *)self)->problem.text; }

static dnstap_transport dnstap__file_transport(dnstap__file *f, const char *path)
{
    dnstap_transport t;

    dnstap__file_forget(f);
    f->path = path;
    t.self = f;
    t.start = dnstap__file_start;
    t.send = dnstap__file_send;
    t.recv = dnstap__file_recv;
    t.shut = NULL;
    t.close = dnstap__file_close;
    t.fd = dnstap__file_fd;
    t.error = dnstap__file_error;
    return t;
}
#endif

#if DNSTAP__HAS_FILES && DNSTAP__HAS_SINK
/* A file that is read: what a sink opens. A pipe is waited for. */
static int dnstap__input_start(void *self, short *wants)
{
    dnstap__file *f = (dnstap__file *)self;

    *wants = 0;
    f->fd = open(f->path, O_RDONLY | O_NOCTTY | O_CLOEXEC);
    if (f->fd < 0) return dnstap__file_failed(f, "open");
    dnstap__identify(&f->is, f->fd);
    return DNSTAP_OK;
}

static long dnstap__input_recv(void *self, void *data, size_t size, short *wants)
{
    dnstap__file *f = (dnstap__file *)self;
    ssize_t n = read(f->fd, data, size);

    *wants = POLLIN;
    if (n > 0) return (long)n;
    if (n == 0) return DNSTAP_END;
    if (dnstap__would_block(errno)) return DNSTAP_AGAIN;
    return dnstap__fail(&f->problem, DNSTAP_SYSTEM, errno, "%s", strerror(errno));
}

static int dnstap__input_fd(void *self) { return ((dnstap__file *)self)->fd; }

/* The file ends before what has been read of it: somebody cut it, and it will not grow there. */
static bool dnstap__input_shrunk(const dnstap__file *f)
{
    off_t at = f->fd < 0 ? 0 : lseek(f->fd, 0, SEEK_CUR);
    struct stat st;

    return at > 0 && !fstat(f->fd, &st) && st.st_size < at;
}

static dnstap_transport dnstap__input_transport(dnstap__file *f, const char *path)
{
    dnstap_transport t = dnstap__file_transport(f, path);

    t.start = dnstap__input_start;
    t.send = NULL; /* nothing is ever sent to it */
    t.recv = dnstap__input_recv;
    t.fd = dnstap__input_fd;
    return t;
}
#endif

/* ---- >>endpoint --------------------------------------------------------------------------- */

/* From an endpoint's text to a transport. The table says of each kind all that others must know of
 * it: how it is written, what it is like, how it is opened. Taps and sinks ask it, and never which
 * one it is. In: text and options; out: a dnstap__target, then a transport over a medium. Always: a
 * target is of a kind that this build has. */
enum {
    DNSTAP__HOSTED =
        1, /* host and port follow the prefix, and the host may be a name; else a path */
    DNSTAP__SECURE = 2, /* TLS goes over it */
    DNSTAP__GREETS =
        4,             /* READY and ACCEPT, STOP and FINISH, unless options.unidirectional is set */
    DNSTAP__BEGUN = 8, /* START is there once it is up, and STOP has to be in the end */
    DNSTAP__KEEPS =
        16, /* up says little, a send that works does; stays open after one that fails */
    DNSTAP__TIMED = 32,   /* without a descriptor to wait for, it is asked by time */
    DNSTAP__REOPENS = 64, /* dnstap_reopen */
    DNSTAP__LISTENS = 128 /* a sink listens there; else it reads */
};

/* What a transport needs for itself. */
typedef union dnstap__medium {
#if DNSTAP__HAS_SOCKETS
    dnstap__socket socket;
#endif
#if DNSTAP__HAS_FILES
    dnstap__file file;
#endif
    char none;
} dnstap__medium;

struct dnstap__scheme;

typedef struct dnstap__target {
    const struct dnstap__scheme *scheme;
    const char *path; /* inside the endpoint's text; NULL when hosted */
    const char *host; /* "" when not hosted; not inside that text, as it has an end */
    uint16_t port;
} dnstap__target;
/* RFC 1035 §2.3.4: names have at most 253 characters */
enum { DNSTAP__HOST_SIZE = DNSTAP__HAS_ENDPOINT ? 254 : 1 };

/* What a kind's open gets. */
typedef struct dnstap__opening {
    const char *endpoint; /* for texts */
    const dnstap__target *target;
    const dnstap_transport *user; /* options.transport */
    int send_buffer;              /* SO_SNDBUF; 0: the system's */
    bool overwrite;
    bool dry; /* nothing is opened: would it be refused? */
} dnstap__opening;

typedef struct dnstap__scheme {
    const char *prefix; /* NULL: no text leads there */
    const char *lacks;  /* what the build has not, and the way out; NULL: it is all there */
    unsigned is;
    int (*open)(const dnstap__opening *o, dnstap__medium *m, dnstap_transport *out,
                dnstap_error *error);
} dnstap__scheme;

/* What a target of this build can be: for the rest there is no code. */
enum {
    DNSTAP__POSSIBLE = DNSTAP__TIMED | DNSTAP__GREETS | (DNSTAP__HAS_TLS ? DNSTAP__SECURE : 0) |
                       (DNSTAP__HAS_SOCKETS ? DNSTAP__HOSTED | DNSTAP__LISTENS : 0) |
                       (DNSTAP__HAS_FILES ? DNSTAP__BEGUN | DNSTAP__KEEPS | DNSTAP__REOPENS : 0)
};

DNSTAP__INLINE bool dnstap__is(const dnstap__target *target, unsigned what)
{
    if (DNSTAP__HAS_ENDPOINT) return (target->scheme->is & DNSTAP__POSSIBLE & what) != 0;
    return ((DNSTAP__GREETS | DNSTAP__TIMED) & what) != 0; /* options.transport */
}

#if DNSTAP__HAS_SOCKETS
static int dnstap__open_unix(const dnstap__opening *o, dnstap__medium *m, dnstap_transport *out,
                             dnstap_error *error)
{
    *out = dnstap__socket_transport(&m->socket);
    m->socket.bare = o->target->path == o->endpoint;
    return dnstap__unix_address(&m->socket.address, o->endpoint, o->target->path, error);
}

/* Its address comes later, from >>names. */
static int dnstap__open_tcp(const dnstap__opening *o, dnstap__medium *m, dnstap_transport *out,
                            dnstap_error *error)
{
    (void)error;
    *out = dnstap__socket_transport(&m->socket);
    m->socket.send_buffer = o->send_buffer;
    return DNSTAP_OK;
}

/* SO_SNDBUF as the system has it; 0: no socket. */
static int dnstap__send_buffer(const dnstap_transport *t)
{
    int bytes = 0, fd = t->send == dnstap__socket_send ? (t->fd)(t->self) : -1;
    socklen_t size = sizeof bytes;

    if (fd >= 0) getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, &size);
    return bytes;
}
#define DNSTAP__IF_SOCKETS(open) open
#else
static int dnstap__send_buffer(const dnstap_transport *t) { return t ? 0 : -1; }
#define DNSTAP__IF_SOCKETS(open) NULL
#endif

#if DNSTAP__HAS_FILES
static int dnstap__open_file(const dnstap__opening *o, dnstap__medium *m, dnstap_transport *out,
                             dnstap_error *error)
{
    int result;

    *out = dnstap__file_transport(&m->file, o->target->path);
    result = o->dry ? dnstap__file_check_path(&m->file)
                    : dnstap__file_prepare(&m->file, o->overwrite);
    if (result == DNSTAP_OK) return result;
    return dnstap__fail(error, result, m->file.problem.sys_errno, "%s: %s%s", o->endpoint,
                        m->file.problem.text,
                        result == DNSTAP_BAD_FRAME ? "; give another path, or move it away" : "");
}
static void dnstap__yield(dnstap__medium *m, const dnstap__target *target)
{
    if (dnstap__is(target, DNSTAP__REOPENS)) dnstap__file_yield(&m->file);
}
#define DNSTAP__IF_FILES(open) open
#else
static void dnstap__yield(dnstap__medium *m, const dnstap__target *target)
{
    (void)m, (void)target;
}
#define DNSTAP__IF_FILES(open) NULL
#endif

static int dnstap__open_user(const dnstap__opening *o, dnstap__medium *m, dnstap_transport *out,
                             dnstap_error *error)
{
    (void)m, (void)error;
    *out = *o->user;
    return DNSTAP_OK;
}

#define DNSTAP__TLS_LACKS DNSTAP__TEXT("no TLS (DNSTAP_NO_TLS); use tcp://")

/* options.transport, and the same below tls:// */
static const dnstap__scheme dnstap__user_schemes[] = {
    {NULL, NULL, DNSTAP__GREETS | DNSTAP__TIMED, dnstap__open_user},
    {NULL, DNSTAP__HAS_TLS ? NULL : DNSTAP__TLS_LACKS,
     DNSTAP__GREETS | DNSTAP__TIMED | DNSTAP__SECURE, dnstap__open_user}};

/* By hand: a build that reads no endpoints needs no more than this, so that it refuses them. */
static bool dnstap__is_secure(const char *e)
{
    return e[0] == 't' && e[1] == 'l' && e[2] == 's' && e[3] == ':';
}

#if DNSTAP__HAS_ENDPOINT
/* The rest of text behind prefix, or NULL. */
static const char *dnstap__behind(const char *text, const char *prefix)
{
    size_t n = strlen(prefix);

    return strncmp(text, prefix, n) ? NULL : text + n;
}

#define DNSTAP__NO_SOCKETS_TEXT DNSTAP__TEXT("no sockets; set options.transport")
#define DNSTAP__NO_FILES_TEXT DNSTAP__TEXT("no files; set options.transport")
#define DNSTAP__SOCKETS_LACK (DNSTAP__HAS_SOCKETS ? NULL : DNSTAP__NO_SOCKETS_TEXT)
#define DNSTAP__FILES_LACK (DNSTAP__HAS_FILES ? NULL : DNSTAP__NO_FILES_TEXT)
#define DNSTAP__ON_SOCKETS (DNSTAP__GREETS | DNSTAP__TIMED | DNSTAP__LISTENS)

/* clang-format off */
static const dnstap__scheme dnstap__schemes[] = {
    {"unix://", DNSTAP__SOCKETS_LACK, DNSTAP__ON_SOCKETS,
     DNSTAP__IF_SOCKETS(dnstap__open_unix)},
    {"tcp://", DNSTAP__SOCKETS_LACK, DNSTAP__ON_SOCKETS | DNSTAP__HOSTED,
     DNSTAP__IF_SOCKETS(dnstap__open_tcp)},
    {"tls://", DNSTAP__HAS_TLS ? DNSTAP__SOCKETS_LACK : DNSTAP__TLS_LACKS,
     DNSTAP__ON_SOCKETS | DNSTAP__HOSTED | DNSTAP__SECURE, DNSTAP__IF_SOCKETS(dnstap__open_tcp)},
    {"file://", DNSTAP__FILES_LACK, DNSTAP__BEGUN | DNSTAP__KEEPS | DNSTAP__REOPENS,
     DNSTAP__IF_FILES(dnstap__open_file)},
    {NULL, NULL, 0, NULL}};
/* clang-format on */
enum { DNSTAP__UNIX_SCHEME = 0 };

/* The number at text, to its end; -1: it is none, or above `most`. */
static long dnstap__parse_number(const char *text, uint32_t most)
{
    uint64_t number = 0;

    if (!*text) return -1;
    for (; *text; text++) {
        if (*text < '0' || *text > '9') return -1;
        number = number * 10 + (uint64_t)(*text - '0');
        if (number > most) return -1;
    }
    return (long)number;
}

static long dnstap__parse_port(const char *text) { return dnstap__parse_number(text, 65535); }

/* host:port or [address]:port; listens: :port and port 0, too */
static int dnstap__parse_host(dnstap__target *e, char *out, const char *endpoint, const char *text,
                              bool listens, dnstap_error *error)
{
    const char *host = text, *end, *colon;
    long port;

    if (*text == '[') {
        host++;
        end = strchr(host, ']');
        if (!end)
            return dnstap__fail(error, DNSTAP_BAD_OPTION, 0,
                                "%s: no ] behind the address; write it as in tcp://[::1]:6000",
                                endpoint);
        colon = end[1] == ':' ? end + 1 : NULL;
    } else {
        end = colon = strrchr(text, ':');
        if (colon && strchr(text, ':') != colon)
            return dnstap__fail(error, DNSTAP_BAD_OPTION, 0,
                                "%s: write an IPv6 address in brackets, as in tcp://[::1]:6000",
                                endpoint);
    }
    if (!colon)
        return dnstap__fail(error, DNSTAP_BAD_OPTION, 0,
                            "%s: no port; write host:port, as in tcp://127.0.0.1:6000", endpoint);
    if ((end == text && !listens) || (end == host && end != text) ||
        end - host >= DNSTAP__HOST_SIZE)
        return dnstap__fail(error, DNSTAP_BAD_OPTION, 0,
                            "%s: host is empty or longer than 253 characters", endpoint);
    port = dnstap__parse_port(colon + 1);
    if (port < 0 || (!port && !listens))
        return dnstap__fail(error, DNSTAP_BAD_OPTION, 0,
                            "%s: port \"%s\" is not a number from 1 to 65535", endpoint, colon + 1);
    memcpy(out, host, (size_t)(end - host));
    out[end - host] = '\0';
    e->port = (uint16_t)port;
    return DNSTAP_OK;
}

/* The kind that the text begins with; rest: what is behind the prefix. NULL: unknown. */
static const dnstap__scheme *dnstap__scheme_of(const char *endpoint, const char **rest)
{
    const dnstap__scheme *s;

    *rest = endpoint;
    if (*endpoint == '/') return &dnstap__schemes[DNSTAP__UNIX_SCHEME];
    for (s = dnstap__schemes; s->prefix; s++)
        if ((*rest = dnstap__behind(endpoint, s->prefix)) != NULL) return s;
    return NULL;
}

/* Takes a text apart; e->path points into it, e->host is host, of DNSTAP__HOST_SIZE. listens: it
 * says where to, and not whom to ask. */
static int dnstap__parse_endpoint(dnstap__target *e, char *host, const char *endpoint, bool listens,
                                  dnstap_error *error)
{
    const char *rest;

    if (!endpoint || !*endpoint)
        return dnstap__fail(error, DNSTAP_BAD_OPTION, 0,
                            "no endpoint; set options.endpoint, as in unix:///tmp/dnstap.sock");
    e->scheme = dnstap__scheme_of(endpoint, &rest);
    if (!e->scheme)
        return dnstap__fail(error, DNSTAP_BAD_OPTION, 0,
                            "%s: unknown scheme; use unix://, tcp://, tls://, file://, or a path "
                            "that begins with /",
                            endpoint);
    if (dnstap__is(e, DNSTAP__HOSTED))
        return dnstap__parse_host(e, host, endpoint, rest, listens, error);
    if (!*rest) return dnstap__fail(error, DNSTAP_BAD_OPTION, 0, "%s: path is empty", endpoint);
    e->path = rest;
    return DNSTAP_OK;
}
#else
static int dnstap__parse_endpoint(dnstap__target *e, char *host, const char *endpoint, bool listens,
                                  dnstap_error *error)
{
    (void)e, (void)host, (void)endpoint, (void)listens;
    return dnstap__fail(error, DNSTAP_UNSUPPORTED, 0,
                        "this build reads no endpoints; set options.transport");
}
#endif

/* The endpoint's kind, or that of options.transport, if this build has it. */
static int dnstap__find_target(dnstap__target *e, char *host, const dnstap_options *o,
                               dnstap_error *error)
{
    const char *endpoint = o->endpoint;
    const dnstap_transport *user = o->transport;
    bool secure = endpoint && dnstap__is_secure(endpoint);
    int result = DNSTAP_OK;

    memset(e, 0, sizeof *e);
    *host = '\0';
    e->host = host;
    if (!user || secure) result = dnstap__parse_endpoint(e, host, endpoint, o->listen, error);
    if (result < 0) return result;
    if (!DNSTAP__HAS_ENDPOINT) return DNSTAP_OK;
    if (user) e->scheme = &dnstap__user_schemes[secure ? 1 : 0];
    if (!e->scheme->lacks) return DNSTAP_OK;
    return dnstap__fail(error, DNSTAP_UNSUPPORTED, 0, "%s: this build has %s", endpoint,
                        e->scheme->lacks);
}

/* Whether the endpoint's path depends on the working directory. */
static bool dnstap__lies_relative(const dnstap__target *t)
{
    return dnstap__is_relative(t->path) &&
           !(DNSTAP__HAS_ABSTRACT && *t->path == '@' && dnstap__is(t, DNSTAP__LISTENS));
}

/* What relative paths are behind: the working directory, as a daemon will leave it; "" where there
 * are none. */
#if DNSTAP__POSIX
static int dnstap__find_base(char base[DNSTAP__PATH_SIZE], const dnstap__target *t,
                             const dnstap_options *o, dnstap_error *error)
{
    const char *path = dnstap__lies_relative(t) ? o->endpoint : NULL;
    const char *const files[] = {o->ca_file, o->cert_file, o->key_file};
    size_t i;

    for (i = 0; dnstap__is(t, DNSTAP__SECURE) && i < 3; i++)
        if (dnstap__is_relative(files[i])) path = files[i];
    *base = '\0';
    if (!path || dnstap__working_directory(base, DNSTAP__PATH_SIZE)) return DNSTAP_OK;
    return dnstap__fail(error, DNSTAP_SYSTEM, errno,
                        "%s: the working directory, which it is relative to, can't be told: %s; "
                        "give a path that begins with /",
                        path, strerror(errno));
}
#else
static int dnstap__find_base(char base[DNSTAP__PATH_SIZE], const dnstap__target *t,
                             const dnstap_options *o, dnstap_error *error)
{
    (void)t, (void)o, (void)error;
    *base = '\0';
    return DNSTAP_OK;
}
#endif

/* ---- >>names ------------------------------------------------------------------------------ */

/* From a host's name to a list of addresses, which are tried in turn. In: host and port; out: the
 * address in use. A numeric address never is looked up; a name is by options.resolve, else by
 * getaddrinfo in a thread of its own, which owns what it writes, so that nobody waits for it; in
 * builds without threads once, when the tap opens. Always: at < count once there is an address. */
enum { DNSTAP__ADDRESSES = 8 };

#if DNSTAP__HAS_LOOKUP
/* A look-up under way; whoever is done last frees it. */
typedef struct dnstap__lookup {
    size_t left;  /* one of the two has left */
    int finished; /* write end of a pipe: a byte comes at the end */
    int result;   /* of getaddrinfo */
    unsigned count;
    dnstap__ip addresses[DNSTAP__ADDRESSES];
    char host[254];
    uint16_t port;
} dnstap__lookup;
#endif

#if DNSTAP__HAS_SOCKETS
typedef struct dnstap__names {
    const char *host; /* to be looked up; NULL: nothing is */
    uint16_t port;
    int fd;             /* becomes readable when the look-up has ended; -1: none */
    int sys_errno;      /* of a failure, and */
    const char *why;    /* its text */
    unsigned at, count; /* the address in use, of so many */
    dnstap__ip list[DNSTAP__ADDRESSES];
#if DNSTAP__HAS_LOOKUP
    dnstap__lookup *lookup;
#endif
} dnstap__names;

/* getaddrinfo's list as ours; 0: none usable. */
static unsigned dnstap__copy_addresses(dnstap__ip *out, const struct addrinfo *list)
{
    unsigned n = 0;

    for (; list && n < DNSTAP__ADDRESSES; list = list->ai_next) {
        if (list->ai_family != AF_INET && list->ai_family != AF_INET6) continue;
        memset(&out[n], 0, sizeof out[n]);
        memcpy(&out[n++], list->ai_addr, list->ai_addrlen);
    }
    return n;
}

static int dnstap__getaddrinfo(const char *host, uint16_t port, dnstap__ip *out, unsigned *count)
{
    struct addrinfo hints, *list = NULL;
    char service[8];
    int result;

    memset(&hints, 0, sizeof hints);
    hints.ai_socktype = SOCK_STREAM;
    dnstap__print(service, sizeof service, "%u", (unsigned)port);
    result = getaddrinfo(host, service, &hints, &list);
    *count = result ? 0 : dnstap__copy_addresses(out, list);
    if (list) freeaddrinfo(list);
    return result;
}

static int dnstap__names_failed(dnstap__names *n, int code, int sys_errno, const char *why)
{
    n->sys_errno = sys_errno;
    n->why = why;
    return code;
}

static int dnstap__names_ask(dnstap__names *n, const dnstap_options *o)
{
    int result = (o->resolve)(o->user, n->host, n->port, &n->list[0].any, sizeof n->list[0]);

    if (result < 0)
        return dnstap__names_failed(n, result, 0, DNSTAP__TEXT("options.resolve found no address"));
    n->count = 1;
    return DNSTAP_OK;
}

/* The next address, when there is one. */
static bool dnstap__names_next(dnstap__names *n)
{
    if (n->at + 1 >= n->count) return false;
    n->at++;
    return true;
}

/* Points a socket at the address in use. */
static void dnstap__names_aim(const dnstap__names *n, dnstap__medium *m)
{
    if (n->count) m->socket.address.ip = n->list[n->at];
}

static void dnstap__names_first(dnstap__names *n) { n->at = 0; }
#else
typedef struct dnstap__names {
    const char *host, *why;
    int fd, sys_errno;
} dnstap__names;

static bool dnstap__names_next(dnstap__names *n) { return n && false; }
static void dnstap__names_aim(const dnstap__names *n, dnstap__medium *m) { (void)n, (void)m; }
static void dnstap__names_first(dnstap__names *n) { (void)n; }
#endif

#if DNSTAP__HAS_LOOKUP
static void *dnstap__lookup_thread(void *argument)
{
    dnstap__lookup *l = (dnstap__lookup *)argument;
    int finished = l->finished;

    l->result = dnstap__getaddrinfo(l->host, l->port, l->addresses, &l->count);
    if (DNSTAP_EXCHANGE(&l->left, 1)) DNSTAP_FREE(l);
    (void)!write(finished, "", 1); /* the end of the pipe alone a forked child would hide */
    close(finished);
    return NULL;
}

/* Starts the thread, and lets it go. */
static int dnstap__lookup_run(dnstap__names *n, dnstap__lookup *l, const int fds[2])
{
    dnstap__thread thread;
    int result;

    memset(l, 0, sizeof *l);
    memcpy(l->host, n->host, strlen(n->host) + 1);
    l->port = n->port;
    l->finished = fds[1];
    result = dnstap__thread_start(&thread, dnstap__lookup_thread, l);
    if (!result) pthread_detach(thread.id);
    return result;
}

/* DNSTAP_AGAIN: a thread looks the name up, and names->fd will tell; or why it can't. */
static int dnstap__lookup_start(dnstap__names *n)
{
    dnstap__lookup *l = (dnstap__lookup *)DNSTAP_MALLOC(sizeof *l);
    int fds[2], result;

    if (!l)
        return dnstap__names_failed(n, DNSTAP_NO_MEMORY, 0,
                                    DNSTAP__TEXT("no memory to look its name up"));
    if (dnstap__pipe(fds) < 0) {
        DNSTAP_FREE(l);
        return dnstap__names_failed(n, DNSTAP_SYSTEM, errno, DNSTAP__TEXT(strerror(errno)));
    }
    result = dnstap__lookup_run(n, l, fds);
    if (result) {
        close(fds[0]);
        close(fds[1]);
        DNSTAP_FREE(l);
        return dnstap__names_failed(n, DNSTAP_SYSTEM, result, DNSTAP__TEXT(strerror(result)));
    }
    n->lookup = l;
    n->fd = fds[0];
    return DNSTAP_AGAIN;
}

/* Lets go of the look-up. Its descriptor must not be watched any more. */
static void dnstap__names_leave(dnstap__names *n)
{
    if (n->lookup && DNSTAP_EXCHANGE(&n->lookup->left, 1)) DNSTAP_FREE(n->lookup);
    n->lookup = NULL;
    dnstap__close_fd(&n->fd);
}

/* In a forked child the look-up's thread is missing: does its part. */
static void dnstap__names_orphan(dnstap__names *n)
{
    if (n->lookup && !DNSTAP_EXCHANGE(&n->lookup->left, 1)) close(n->lookup->finished);
}

/* The answer is there. */
static int dnstap__lookup_take(dnstap__names *n)
{
    const dnstap__lookup *l = n->lookup;

    if (l->result)
        return dnstap__names_failed(n, DNSTAP_SYSTEM, 0, DNSTAP__TEXT(gai_strerror(l->result)));
    if (!l->count)
        return dnstap__names_failed(n, DNSTAP_SYSTEM, 0, DNSTAP__TEXT("the name has no address"));
    memcpy(n->list, l->addresses, sizeof n->list);
    n->count = l->count;
    return DNSTAP_OK;
}

/* Goes on with the look-up: DNSTAP_OK; DNSTAP_AGAIN: when fd is readable, or soon; or why not. In
 * the end dnstap__names_leave is due. */
static int dnstap__names_step(dnstap__names *n, const dnstap_options *o)
{
    char byte;

    if (o->resolve) return dnstap__names_ask(n, o);
    if (!n->lookup) return dnstap__lookup_start(n);
    if (read(n->fd, &byte, 1) >= 0) return dnstap__lookup_take(n);
    if (dnstap__would_block(errno)) return DNSTAP_AGAIN;
    if (errno == EBADF) n->fd = -1;
    return dnstap__names_failed(n, DNSTAP_SYSTEM, errno,
                                DNSTAP__TEXT("look-up: the program closed its descriptor; it is "
                                             "tried again"));
}
#else
static void dnstap__names_leave(dnstap__names *n) { n->fd = -1; }
static void dnstap__names_orphan(dnstap__names *n) { (void)n; }
#endif

#if DNSTAP__HAS_SOCKETS && !DNSTAP__HAS_LOOKUP
static int dnstap__names_step(dnstap__names *n, const dnstap_options *o)
{
    return o->resolve ? dnstap__names_ask(n, o) : DNSTAP_OK; /* known since the tap was opened */
}
#elif !DNSTAP__HAS_SOCKETS
static int dnstap__names_step(dnstap__names *n, const dnstap_options *o)
{
    return n && o ? DNSTAP_OK : DNSTAP_UNSUPPORTED;
}
#endif

/* Takes a host: what is numeric, or can't be looked up later, is known at once. */
#if DNSTAP__HAS_SOCKETS
static int dnstap__names_open(dnstap__names *n, const dnstap__opening *o, bool hook,
                              dnstap_error *error)
{
    const dnstap__target *t = o->target;
    int result;

    n->port = t->port;
    n->count = dnstap__numeric_address(&n->list[0], t->host, t->port);
    if (n->count) return DNSTAP_OK;
    n->host = t->host;
    if (hook || DNSTAP__HAS_LOOKUP) return DNSTAP_OK;
    result = dnstap__getaddrinfo(t->host, t->port, n->list, &n->count);
    if (!result) return DNSTAP_OK;
    return dnstap__fail(error, DNSTAP_SYSTEM, 0, "%s: %s; names are resolved once in this build",
                        o->endpoint, gai_strerror(result));
}
#else
static int dnstap__names_open(dnstap__names *n, const dnstap__opening *o, bool hook,
                              dnstap_error *error)
{
    return n && o && error && hook ? DNSTAP_UNSUPPORTED : DNSTAP_OK;
}
#endif

/* ---- >>listen ----------------------------------------------------------------------------- */

enum { DNSTAP__ACCEPT_PAUSE_MS = 100 };

/* A socket that listens. In: a target; out: connected descriptors with their peer's name. Always: a
 * unix socket that nobody answers on is replaced, nothing else is ever removed, and in the end only
 * what is ours. */
#if DNSTAP__HAS_SOCKETS
typedef struct dnstap__listener {
    int fd;               /* -1: none */
    const char *endpoint; /* for texts */
    const char *path;     /* of a unix socket that has a file; else NULL */
    uint32_t mode;        /* of that file; 0: the umask's */
    const char *group;    /* NULL: the process's */
    bool dry;             /* nothing is bound or removed: would it be refused? */
    int family;
    uint16_t port;
    dev_t device; /* of that, as it was made; 0: not yet */
    ino_t inode;
    dnstap__identity is; /* what fd leads to */
} dnstap__listener;

/* S_ISVTX, which plain POSIX does not show: in such a folder only owners remove. */
enum { DNSTAP__STICKY = 01000 };

/* Whether the file at path, which st is of, could be removed: 0, or errno. */
static int dnstap__may_remove(const char *path, const struct stat *st)
{
    char folder[DNSTAP__PATH_SIZE];
    uid_t we = geteuid();
    struct stat in;

    dnstap__folder_of(path, folder);
    if (we && !stat(folder, &in) && (in.st_mode & DNSTAP__STICKY) && we != in.st_uid &&
        we != st->st_uid)
        return EPERM;
    return dnstap__may(folder, W_OK | X_OK);
}

/* Whether this process may give a file of its own to the group. */
static bool dnstap__may_give(gid_t group)
{
    gid_t groups[1024];
    int n = getgroups(1024, groups);

    if (!geteuid() || group == getegid() || n < 0) return true;
    while (n > 0)
        if (groups[--n] == group) return true;
    return false;
}

/* Whether a unix socket of that type is refused at the address, as nobody has it. */
static bool dnstap__refused(const dnstap__address *a, int type)
{
    int fd = dnstap__socket_of(AF_UNIX, type);
    bool refused = fd >= 0 && connect(fd, &a->any, dnstap__address_size(a)) < 0 &&
                   errno == ECONNREFUSED;

    dnstap__close_fd(&fd);
    return refused;
}

/* Whether the unix socket at the address may be somebody's: only a refusal says it is not. One of
 * the wrong type is told so without a connection, which whoever listens would notice. */
static bool dnstap__answers(const dnstap__address *a)
{
    return !dnstap__refused(a, SOCK_DGRAM) || !dnstap__refused(a, SOCK_STREAM);
}

static int dnstap__listen_failed(const dnstap__listener *l, const char *what, dnstap_error *error)
{
    return dnstap__fail(error, DNSTAP_SYSTEM, errno, "%s: %s: %s", l->endpoint, what,
                        strerror(errno));
}

/* Makes room for a unix socket: only a stale socket is removed. */
static int dnstap__clear_path(const dnstap__listener *l, const dnstap__address *a,
                              dnstap_error *error)
{
    struct stat st;

    if (lstat(l->path, &st) < 0) return DNSTAP_OK;
    if (!S_ISSOCK(st.st_mode))
        return dnstap__fail(error, DNSTAP_BAD_OPTION, 0,
                            "%s: is a file, not a socket; give another path", l->endpoint);
    if (dnstap__answers(a))
        return dnstap__fail(error, DNSTAP_SYSTEM, EADDRINUSE,
                            "%s: another process listens there; stop it, or give another path",
                            l->endpoint);
    errno = l->dry ? dnstap__may_remove(l->path, &st) : unlink(l->path) < 0 ? errno : 0;
    return errno ? dnstap__listen_failed(l, "remove the stale socket", error) : DNSTAP_OK;
}

/* Where to listen. Of a name's addresses it is the first. */
static int dnstap__listen_address(dnstap__listener *l, const dnstap__target *target,
                                  dnstap__address *a, dnstap_error *error)
{
    unsigned count = 0;
    dnstap__ip list[DNSTAP__ADDRESSES];
    int result;

    if (target->path) {
        result = dnstap__unix_address(a, l->endpoint, target->path, error);
        return result < 0 || !l->path ? result : dnstap__clear_path(l, a, error);
    }
    memset(a, 0, sizeof *a);
    if (dnstap__numeric_address(&a->ip, *target->host ? target->host : "::", target->port))
        return DNSTAP_OK;
    result = dnstap__getaddrinfo(target->host, target->port, list, &count);
    if (!count)
        return dnstap__fail(error, DNSTAP_SYSTEM, 0, "%s: %s; give a numeric address", l->endpoint,
                            result ? gai_strerror(result) : "no address");
    a->ip = list[0];
    return DNSTAP_OK;
}

static void dnstap__listen_options(int fd, int family)
{
    int on = 1, off = 0;

    if (family != AF_UNIX) setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (family == AF_INET6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
}

/* A group by name or number; false: there is none. */
static bool dnstap__find_group(const char *name, gid_t *gid)
{
    const struct group *g = getgrnam(name);
    long number = dnstap__parse_number(name, INT32_MAX);

    *gid = g ? g->gr_gid : (gid_t)number;
    return g || number >= 0;
}

/* Who is to be allowed to connect to a unix socket, if that can be. */
static int dnstap__listener_rights(const dnstap__listener *l, gid_t *gid, dnstap_error *error)
{
    *gid = 0;
    if (!l->path) return DNSTAP_OK;
    if (l->mode > 0777)
        return dnstap__fail(
            error, DNSTAP_BAD_OPTION, 0,
            "%s: socket_mode is more than nine bits; give it in octal, such as 0660", l->endpoint);
    if (l->group && !dnstap__find_group(l->group, gid))
        return dnstap__fail(error, DNSTAP_BAD_OPTION, 0, "%s: there is no group \"%s\"",
                            l->endpoint, l->group);
    errno = EPERM;
    if (l->group && !dnstap__may_give(*gid))
        return dnstap__listen_failed(l, "give it to options.socket_group", error);
    return DNSTAP_OK;
}

/* Allows it. Before it listens: until then nobody can. */
static int dnstap__listener_allow(const dnstap__listener *l, gid_t gid, dnstap_error *error)
{
    if (!l->path) return DNSTAP_OK;
    if (l->group && chown(l->path, (uid_t)-1, gid) < 0)
        return dnstap__listen_failed(l, "give it to options.socket_group", error);
    if (l->mode && chmod(l->path, (mode_t)l->mode) < 0)
        return dnstap__listen_failed(l, "give it options.socket_mode", error);
    return DNSTAP_OK;
}

/* What was bound: the port that the system chose, and the file, to remove only our own. */
static void dnstap__listener_look(dnstap__listener *l)
{
    dnstap__address a;
    socklen_t size = sizeof a;
    struct stat st;

    memset(&a, 0, sizeof a);
    if (l->family == AF_INET && !getsockname(l->fd, &a.any, &size))
        l->port = ntohs(a.ip.v4.sin_port);
    if (l->family == AF_INET6 && !getsockname(l->fd, &a.any, &size))
        l->port = ntohs(a.ip.v6.sin6_port);
    if (!l->path || lstat(l->path, &st)) return;
    l->device = st.st_dev;
    l->inode = st.st_ino;
}

static bool dnstap__bind_at(dnstap__listener *l, const dnstap__address *a)
{
    dnstap__close_fd(&l->fd);
    l->family = a->any.sa_family;
    l->fd = dnstap__socket_of(l->family, SOCK_STREAM);
    dnstap__identify(&l->is, l->fd);
    if (l->fd >= 0) dnstap__listen_options(l->fd, l->family);
    return l->fd >= 0 && !bind(l->fd, &a->any, dnstap__address_size(a));
}

/* All addresses, where it could not be had that those of IPv6 are among them. */
static bool dnstap__without_inet6(const dnstap__target *target, dnstap__address *a)
{
    return !target->path && !*target->host && (errno == EAFNOSUPPORT || errno == EADDRNOTAVAIL) &&
           dnstap__numeric_address(&a->ip, "0.0.0.0", target->port);
}

/* What bind(2) would say of a unix socket's address, which is free by now if it can be freed. */
static int dnstap__listener_check(const dnstap__listener *l, const dnstap__address *a,
                                  dnstap_error *error)
{
    struct stat st;

    if (a->any.sa_family != AF_UNIX) return DNSTAP_OK;
    if (l->path && lstat(l->path, &st) == 0) return DNSTAP_OK;
    if (!l->path)
        errno = dnstap__answers(a) ? EADDRINUSE : 0;
    else if (errno == ENOENT)
        errno = dnstap__may_make(l->path);
    return errno ? dnstap__listen_failed(l, "listen", error) : DNSTAP_OK;
}

/* The file of a unix socket; NULL: it has none. */
static const char *dnstap__listener_path(const dnstap__target *target)
{
    return target->path && !dnstap__is_abstract(target->path) ? target->path : NULL;
}

/* What was borrowed is this one's from now on, and its file is as it wants it. */
static int dnstap__listener_keep(dnstap__listener *l, dnstap__listener *from,
                                 const dnstap__target *target, dnstap_error *error)
{
    gid_t gid;
    int result;

    l->path = dnstap__listener_path(target);
    l->device = from->device;
    l->inode = from->inode;
    from->path = NULL;
    result = dnstap__listener_rights(l, &gid, error);
    return result < 0 ? result : dnstap__listener_allow(l, gid, error);
}

/* Binds and listens, unless the socket is borrowed. endpoint must outlive the listener; on error
 * dnstap__listener_close is due. */
static int dnstap__listener_open(dnstap__listener *l, const dnstap__target *target,
                                 const char *endpoint, dnstap_error *error)
{
    dnstap__address a;
    gid_t gid;
    int result;

    l->endpoint = endpoint;
    l->path = dnstap__listener_path(target);
    result = dnstap__listener_rights(l, &gid, error);
    if (l->fd >= 0) { /* borrowed */
        l->path = NULL;
        return result;
    }
    if (result == DNSTAP_OK) result = dnstap__listen_address(l, target, &a, error);
    if (result == DNSTAP_OK && l->dry) return dnstap__listener_check(l, &a, error);
    if (result < 0) return result;
    if (!dnstap__bind_at(l, &a) && !(dnstap__without_inet6(target, &a) && dnstap__bind_at(l, &a)))
        return dnstap__listen_failed(l, "listen", error);
    dnstap__listener_look(l);
    result = dnstap__listener_allow(l, gid, error);
    if (result < 0) return result;
    return listen(l->fd, 64) < 0 ? dnstap__listen_failed(l, "listen", error) : DNSTAP_OK;
}

static void dnstap__peer_name(const dnstap__listener *l, const dnstap__address *from, char *out,
                              size_t size)
{
    char host[INET6_ADDRSTRLEN] = "";
    dnstap__host_port h;

    if (dnstap__from_sockaddr(&from->any, &h) < 0) {
        dnstap__print(out, size, "%s", l->endpoint);
        return;
    }
    inet_ntop(h.address.size == 4 ? AF_INET : AF_INET6, h.address.data, host, sizeof host);
    dnstap__print(out, size, h.address.size == 4 ? "%s:%u" : "[%s]:%u", host, (unsigned)h.port);
}

/* Whether accept's failure is that of one connection, which is gone: accept(2) of Linux hands out
 * what happened to it on the network, and a firewall's refusal. */
static bool dnstap__lost_before_accept(int sys_errno)
{
    static const int lost[] = {ECONNABORTED, ECONNRESET,  EPROTO,       EPERM,    ENOPROTOOPT,
                               ENETDOWN,     ENETUNREACH, EHOSTUNREACH, ETIMEDOUT};
    size_t i;

    for (i = 0; i < sizeof lost / sizeof *lost; i++)
        if (sys_errno == lost[i]) return true;
    return false;
}

/* The next connection's descriptor, its peer's name in peer. DNSTAP_AGAIN: there is none now;
 * DNSTAP_DISCONNECTED: it is gone again; DNSTAP_SYSTEM: none can be had, for want of descriptors
 * most likely. */
static int dnstap__listener_accept(const dnstap__listener *l, char *peer, size_t size)
{
    dnstap__address from;
    socklen_t length = sizeof from;
    int fd = dnstap__accept(l->fd, &from.any, &length);

    if (fd < 0 && dnstap__would_block(errno)) return DNSTAP_AGAIN;
    if (fd < 0) return dnstap__lost_before_accept(errno) ? DNSTAP_DISCONNECTED : DNSTAP_SYSTEM;
    if (length < sizeof from.any.sa_family) from.any.sa_family = AF_UNIX;
    dnstap__peer_name(l, &from, peer, size);
    return fd;
}

/* A transport over a descriptor that was accepted. send_buffer: as options.writebuffer; 0: the
 * system's. */
static dnstap_transport dnstap__socket_adopt(dnstap__socket *s, int fd, int family, int send_buffer)
{
    dnstap_transport t = dnstap__socket_transport(s);

    s->fd = fd;
    s->connecting = false;
    s->send_buffer = family == AF_UNIX ? 0 : send_buffer;
    dnstap__socket_tune(s, family);
    return t;
}

/* The program closed it: the number may be another's. */
static bool dnstap__listener_lost(const dnstap__listener *l)
{
    return !dnstap__leads_to(l->fd, &l->is);
}

/* Listens with another one's socket, unless that is lost, too; the file remains the lender's. */
static int dnstap__listener_borrow(dnstap__listener *l, const dnstap__listener *from,
                                   dnstap_error *error)
{
    if (dnstap__listener_lost(from)) return DNSTAP_OK;
    *l = *from;
    l->path = NULL;
    l->fd = fcntl(from->fd, F_DUPFD_CLOEXEC, 0);
    return l->fd < 0 ? dnstap__listen_failed(l, "listen", error) : DNSTAP_OK;
}

static void dnstap__listener_close(dnstap__listener *l)
{
    struct stat st;

    if (l->path && l->inode && !lstat(l->path, &st) && st.st_ino == l->inode &&
        st.st_dev == l->device)
        unlink(l->path);
    if (dnstap__listener_lost(l)) l->fd = -1;
    dnstap__close_fd(&l->fd);
}
#else
typedef struct dnstap__listener {
    const char *path;
    int fd;
    bool dry;
} dnstap__listener;

static void dnstap__listener_close(dnstap__listener *l) { l->fd = -1; }
#endif

/* ---- >>x509 ------------------------------------------------------------------------------- */

/* What a certificate says, as far as BearSSL does not tell: names, addresses, dates. In: DER, from
 * anybody; out: spans in it, and texts. Always: nothing outside the given bytes is read, what is
 * malformed ends the walk, and texts hold printable ASCII only. */
#if DNSTAP__HAS_TLS
/* DER: elements of tag, length and bytes, in [at, end). */
typedef struct dnstap__der {
    const uint8_t *at, *end;
} dnstap__der;

/* Takes the next element. False at the end, and for what is malformed. */
static bool dnstap__der_next(dnstap__der *r, unsigned *tag, dnstap__der *inner)
{
    size_t room = (size_t)(r->end - r->at), head = 2, lengths, size;

    if (room < 2) return false;
    *tag = r->at[0];
    size = r->at[1];
    if (size >= 0x80) {
        lengths = size & 0x7f;
        if (lengths < 1 || lengths > 3 || room < 2 + lengths) return false;
        for (size = 0; head < 2 + lengths; head++) size = size << 8 | r->at[head];
    }
    if (size > room - head) return false;
    inner->at = r->at + head;
    inner->end = inner->at + size;
    r->at = inner->end;
    return true;
}

/* Takes the next element if it has this tag. */
static bool dnstap__der_open(dnstap__der *r, unsigned tag, dnstap__der *inner)
{
    dnstap__der look = *r;
    unsigned found = 0;

    if (!dnstap__der_next(&look, &found, inner) || found != tag) return false;
    *r = look;
    return true;
}

static bool dnstap__der_is(const dnstap__der *r, const char *bytes, size_t size)
{
    return (size_t)(r->end - r->at) == size && memcmp(r->at, bytes, size) == 0;
}

/* Copies a string, cut at size, as one of C's. */
static void dnstap__der_print(const dnstap__der *r, char *out, size_t size)
{
    const uint8_t *p = r->at;
    size_t n = 0;

    for (; p < r->end && n + 1 < size; p++) out[n++] = *p ? (char)*p : '?';
    out[n] = '\0';
}

enum {
    DNSTAP__X509_NO_PATH = 255,
    DNSTAP__WHO = 72 /* a name for texts, cut to this */
};

typedef struct dnstap__x509 {
    dnstap__der validity, issuer, subject; /* names: what is in their sequence */
    dnstap__der names;                     /* of subjectAltName, empty without */
    dnstap__der usages;                    /* of extKeyUsage; at is NULL without */
    const uint8_t *issuer_at, *subject_at; /* the same with tag and length */
    const uint8_t *end;                    /* of the certificate */
    uint8_t path;                          /* certificates of CAs that may follow, if it is one */
    bool no_sign;                          /* its key usage forbids to issue others */
    bool critical;                         /* an extension must be understood, and is not */
} dnstap__x509;

/* Those that BearSSL looks at or may ignore: of 2.5.29.n, the n, and two of 1.3.6.1.5.5.7.1. */
static bool dnstap__x509_knows(const dnstap__der *oid)
{
    static const uint8_t ours[] = {9, 14, 15, 17, 18, 19, 31, 32, 35, 46};
    size_t n = (size_t)(oid->end - oid->at);

    if (n == 3 && oid->at[0] == 0x55 && oid->at[1] == 0x1d)
        return memchr(ours, oid->at[2], sizeof ours) != NULL;
    return dnstap__der_is(oid, "\x2b\x06\x01\x05\x05\x07\x01\x01", 8) ||
           dnstap__der_is(oid, "\x2b\x06\x01\x05\x05\x07\x01\x0b", 8);
}

/* RFC 5280, 4.2.1: n is its section's and, by and large, the OID's last number. */
static void dnstap__x509_extension(dnstap__x509 *x, unsigned n, dnstap__der value)
{
    dnstap__der in, is_ca, path;

    if (n == 17 && !dnstap__der_open(&value, 0x30, &x->names)) x->names.end = x->names.at;
    if (n == 37 && !dnstap__der_open(&value, 0x30, &x->usages))
        x->usages.at = x->usages.end = value.at;        /* for nothing */
    if (n == 15 && dnstap__der_open(&value, 0x03, &in)) /* keyCertSign is bit 5 */
        x->no_sign = in.end - in.at < 2 || !(in.at[1] & 4);
    if (n != 19 || !dnstap__der_open(&value, 0x30, &in)) return;
    (void)dnstap__der_open(&in, 0x01, &is_ca);
    if (dnstap__der_open(&in, 0x02, &path) && path.end - path.at == 1) x->path = path.at[0];
}

/* RFC 5280, 4.1.2.9: a sequence of {OID, critical, OCTET STRING}. */
static void dnstap__x509_extensions(dnstap__x509 *x, dnstap__der part)
{
    dnstap__der list, one, oid, critical, value;

    if (!dnstap__der_open(&part, 0x30, &list)) return;
    while (dnstap__der_open(&list, 0x30, &one)) {
        if (!dnstap__der_open(&one, 0x06, &oid)) return;
        if (dnstap__der_open(&one, 0x01, &critical) && !dnstap__der_is(&critical, "", 1) &&
            !dnstap__x509_knows(&oid))
            x->critical = true;
        if (!dnstap__der_open(&one, 0x04, &value)) return;
        if (oid.end - oid.at == 3 && oid.at[0] == 0x55 && oid.at[1] == 0x1d)
            dnstap__x509_extension(x, oid.at[2], value);
    }
}

/* Whether it may be a client's (RFC 5280, 4.2.1.12): for anything, clientAuth,
 * anyExtendedKeyUsage. */
static bool dnstap__x509_is_clients(const dnstap__x509 *x)
{
    dnstap__der usages = x->usages, oid;

    if (!usages.at) return true;
    while (dnstap__der_open(&usages, 0x06, &oid))
        if (dnstap__der_is(&oid, "\x2b\x06\x01\x05\x05\x07\x03\x02", 8) ||
            dnstap__der_is(&oid, "\x55\x1d\x25\x00", 4))
            return true;
    return false;
}

/* Finds the parts of a certificate (RFC 5280, 4.1), which x borrows. False: it is malformed. */
static bool dnstap__x509_open(dnstap__x509 *x, const uint8_t *der, size_t size)
{
    dnstap__der r, certificate, tbs, skip;
    unsigned tag;

    memset(x, 0, sizeof *x);
    x->path = DNSTAP__X509_NO_PATH;
    r.at = der;
    r.end = der + size;
    if (!dnstap__der_open(&r, 0x30, &certificate)) return false;
    x->end = certificate.end;
    if (!dnstap__der_open(&certificate, 0x30, &tbs)) return false;
    (void)dnstap__der_open(&tbs, 0xa0, &skip);              /* version */
    if (!dnstap__der_open(&tbs, 0x02, &skip)) return false; /* serial number */
    if (!dnstap__der_open(&tbs, 0x30, &skip)) return false; /* algorithm */
    x->issuer_at = tbs.at;
    if (!dnstap__der_open(&tbs, 0x30, &x->issuer)) return false;
    if (!dnstap__der_open(&tbs, 0x30, &x->validity)) return false;
    x->subject_at = tbs.at;
    if (!dnstap__der_open(&tbs, 0x30, &x->subject)) return false;
    while (dnstap__der_next(&tbs, &tag, &skip))
        if (tag == 0xa3) dnstap__x509_extensions(x, skip);
    return true;
}

/* ::ffff:a.b.c.d is a.b.c.d. */
static dnstap__der dnstap__x509_address(const uint8_t *address, size_t size)
{
    static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    dnstap__der r;

    r.at = address;
    r.end = address + size;
    if (size == 16 && memcmp(address, mapped, sizeof mapped) == 0) r.at += sizeof mapped;
    return r;
}

/* Whether an iPAddress among the names is this one, of 4 or 16 bytes. */
static bool dnstap__x509_has_address(const dnstap__x509 *x, const uint8_t *address, size_t size)
{
    dnstap__der names = x->names, one, wanted = dnstap__x509_address(address, size);
    unsigned tag;

    while (dnstap__der_next(&names, &tag, &one)) {
        one = dnstap__x509_address(one.at, (size_t)(one.end - one.at));
        if (tag == 0x87 && one.end - one.at == wanted.end - wanted.at &&
            memcmp(one.at, wanted.at, (size_t)(one.end - one.at)) == 0)
            return true;
    }
    return false;
}

/* The next byte of a name that does not depend on the string's type or case; -1: there is none. */
static int dnstap__x509_letter(dnstap__der *r)
{
    while (r->at < r->end && !*r->at) r->at++; /* two bytes a letter, or four */
    if (r->at == r->end) return -1;
    return *r->at >= 'A' && *r->at <= 'Z' ? *r->at++ + 32 : *r->at++;
}

/* Whether two names are the same but for how their strings are written: for texts only. */
static bool dnstap__x509_alike(dnstap__der a, dnstap__der b)
{
    dnstap__der x, y;
    unsigned tag, other;
    int letter;

    while (dnstap__der_next(&a, &tag, &x)) {
        if (!dnstap__der_next(&b, &other, &y)) return false;
        if (tag & 0x20) { /* go on inside of it */
            if (tag != other) return false;
            a.at = x.at;
            b.at = y.at;
            continue;
        }
        do
            if ((letter = dnstap__x509_letter(&x)) != dnstap__x509_letter(&y)) return false;
        while (letter >= 0);
    }
    return !dnstap__der_next(&b, &other, &y);
}

/* The common name: in a name's sets of {OID, string}, the value of 2.5.4.3. */
static void dnstap__x509_common_name(dnstap__der sets, char *out, size_t size)
{
    dnstap__der set, pair, oid, value;
    unsigned tag;

    while (dnstap__der_open(&sets, 0x31, &set))
        while (dnstap__der_open(&set, 0x30, &pair))
            if (dnstap__der_open(&pair, 0x06, &oid) && dnstap__der_is(&oid, "\x55\x04\x03", 3) &&
                dnstap__der_next(&pair, &tag, &value))
                dnstap__der_print(&value, out, size);
}

static void dnstap__x509_print_address(const dnstap__der *r, char *out, size_t size)
{
    static const char hex[] = "0123456789abcdef";
    dnstap__text t = {NULL, 0, 0};
    size_t n = (size_t)(r->end - r->at), i;

    t.out = out;
    t.size = size;
    for (i = 0; i < n; i++) {
        if (i && (n == 4 || i % 2 == 0)) dnstap__text_char(&t, n == 4 ? '.' : ':');
        if (n == 4) {
            dnstap__text_number(&t, r->at[i]);
        } else {
            dnstap__text_char(&t, hex[r->at[i] >> 4]);
            dnstap__text_char(&t, hex[r->at[i] & 15]);
        }
    }
    out[t.used] = '\0';
}

/* Who the certificate is for, for texts: its first name or address, else its common name. */
static void dnstap__x509_who(const uint8_t *der, size_t size, char *out, size_t room)
{
    dnstap__der names, one;
    dnstap__x509 x;
    unsigned tag;

    out[0] = '\0';
    if (!dnstap__x509_open(&x, der, size)) return;
    for (names = x.names; dnstap__der_next(&names, &tag, &one);) {
        if (tag == 0x82) dnstap__der_print(&one, out, room);
        if (tag == 0x87) dnstap__x509_print_address(&one, out, room);
        if (tag == 0x82 || tag == 0x87) return;
    }
    dnstap__x509_common_name(x.subject, out, room);
}

/* Times as text of 14 digits, YYYYMMDDhhmmss, which compare as times do; empty: malformed. */
enum { DNSTAP__STAMP = 15 };

static void dnstap__x509_time(dnstap__der *validity, char out[DNSTAP__STAMP])
{
    dnstap__der time;
    unsigned tag = 0;
    size_t skip;

    memset(out, 0, DNSTAP__STAMP);
    if (!dnstap__der_next(validity, &tag, &time)) return;
    skip = tag == 0x17 ? 2 : 0; /* UTCTime has two digits of the year: 50 and more are 19xx */
    if ((size_t)(time.end - time.at) + skip < DNSTAP__STAMP) return;
    if (skip) memcpy(out, *time.at < '5' ? "20" : "19", 2);
    memcpy(out + skip, time.at, DNSTAP__STAMP - 1 - skip);
    if (strspn(out, "0123456789") != DNSTAP__STAMP - 1) memset(out, 0, DNSTAP__STAMP);
}

static void dnstap__digits(char *out, unsigned v, int n)
{
    while (n--) {
        out[n] = (char)('0' + v % 10);
        v /= 10;
    }
}

/* Seconds since 1970 to the calendar: years from March, so that the leap day is a year's last. */
static void dnstap__unix_stamp(uint64_t now, char out[DNSTAP__STAMP])
{
    uint64_t days = now / 86400 + 719468; /* since 0000-03-01 */
    unsigned second = (unsigned)(now % 86400), era = (unsigned)(days / 146097);
    unsigned day = (unsigned)(days % 146097);
    unsigned year = (day - day / 1460 + day / 36524 - day / 146096) / 365, month;

    day -= 365 * year + year / 4 - year / 100;
    month = (5 * day + 2) / 153;
    day -= (153 * month + 2) / 5;
    year += era * 400 + (month >= 10 ? 1 : 0);
    month = month < 10 ? month + 3 : month - 9;
    dnstap__digits(out, year, 4);
    dnstap__digits(out + 4, month, 2);
    dnstap__digits(out + 6, day + 1, 2);
    dnstap__digits(out + 8, second / 3600, 2);
    dnstap__digits(out + 10, second / 60 % 60, 2);
    dnstap__digits(out + 12, second % 60, 2);
    out[14] = '\0';
}

/* 2026-11-23 from a stamp. */
static void dnstap__stamp_day(const char *stamp, char out[11])
{
    memcpy(out, "0000-00-00", 11);
    if (!stamp[0]) {
        memcpy(out, "unreadable", 11);
        return;
    }
    memcpy(out, stamp, 4);
    memcpy(out + 5, stamp + 4, 2);
    memcpy(out + 8, stamp + 6, 2);
}
#endif

/* ---- >>certificates ----------------------------------------------------------------------- */

/* From PEM and DER to what BearSSL takes: anchors, a chain, a key. In: the bytes of one source
 * after the other; out: a store, in one piece of memory. Always: nothing of a key is left in memory
 * but in the store; a damaged CA costs no other, and says only what its own certificate allows.
 * BearSSL 0.6 has traps, which are named where they are stepped around. */
#if DNSTAP__HAS_TLS
/* Errors beyond BearSSL's: those are below 64, 256 + alert received, 512 + alert sent. */
enum {
    DNSTAP__TLS_EOF = 1001,     /* the connection ended without close_notify */
    DNSTAP__TLS_NO_MATCH,       /* the key is not the certificate's */
    DNSTAP__TLS_ENCRYPTED,      /* the key needs a passphrase */
    DNSTAP__TLS_NOTHING,        /* no object of the kind in the file */
    DNSTAP__TLS_MALFORMED,      /* not PEM, or not what it says it is */
    DNSTAP__TLS_LEAF_TOO_LARGE, /* no room to look for an address in the certificate */
    DNSTAP__TLS_LOWER,          /* the transport below failed */
    DNSTAP__TLS_TOO_DEEP,       /* more certificates below a CA than it allows */
    DNSTAP__TLS_NOT_CLIENTS     /* a certificate made for servers only */
};

enum {
    DNSTAP__TLS_CHAIN = 8,       /* certificates we can show */
    DNSTAP__TLS_FILE = 16 << 20, /* bytes of a file: a system's CAs have a quarter of a million */
    DNSTAP__TLS_PATIENCE = 4000, /* ms for all of what comes through a pipe */
    DNSTAP__TLS_WEAK = 2048 / 8  /* bytes an RSA key must have */
};

/* Why a certificate is of no use as a CA's. */
#define DNSTAP__TLS_FLAWS(X)                                                        \
    X(DNSTAP__TLS_SOUND, "")                                                        \
    X(DNSTAP__TLS_BROKEN, "is malformed or cut off")                                \
    X(DNSTAP__TLS_LIMITED, "is a TRUSTED CERTIFICATE; convert it by openssl x509")  \
    X(DNSTAP__TLS_BAD_KEY, "has a key that is not RSA of 2048 to 4096 bits, P-256," \
                           " P-384 or P-521")                                       \
    X(DNSTAP__TLS_CRITICAL, "has a critical extension that is not understood")      \
    X(DNSTAP__TLS_NO_SIGN, "may not issue others: its key usage lacks keyCertSign") \
    X(DNSTAP__TLS_NO_CA, "is not marked as a CA's: it is v1, or lacks CA:TRUE")
typedef enum dnstap__tls_flaw {
#define DNSTAP__X(name, text) name,
    DNSTAP__TLS_FLAWS(DNSTAP__X)
#undef DNSTAP__X
        DNSTAP__TLS_FLAW_COUNT
} dnstap__tls_flaw;

static const char *dnstap__tls_flaw_text(unsigned flaw)
{
#define DNSTAP__X(name, text) \
    if (flaw == (unsigned)name) return text;
    DNSTAP__TLS_FLAWS(DNSTAP__X)
#undef DNSTAP__X
    return "";
}

/* What an anchor of BearSSL's does not tell of its certificate. It lies right before the bytes of
 * the anchor's name, and so goes wherever the anchor goes. */
typedef struct dnstap__tls_fact {
    char from[DNSTAP__STAMP], to[DNSTAP__STAMP];
    uint8_t path, flaw;
} dnstap__tls_fact;

static const dnstap__tls_fact *dnstap__tls_fact_of(const br_x509_trust_anchor *anchor)
{
    return (const dnstap__tls_fact *)(const void *)(anchor->dn.data - sizeof(dnstap__tls_fact));
}

static bool dnstap__tls_in_time(const dnstap__tls_fact *f, const char *now)
{
    return strcmp(now, f->from) >= 0 && strcmp(now, f->to) <= 0;
}

/* A file as it was when it was read; what is no regular file (a pipe) is read once. */
typedef struct dnstap__tls_stamp {
    uint64_t device, inode, size, seconds, nanoseconds, once;
} dnstap__tls_stamp;

/* What was decoded, in one piece of memory: bytes from below, anchors from above. */
typedef struct dnstap__tls_store {
    dnstap__arena arena;
    br_x509_trust_anchor *anchors; /* those with a flaw, too, for texts */
    size_t anchor_count;
    size_t skipped,
        alone;     /* certificates of no use; of use for themselves only: they are no CA's */
    unsigned flaw; /* of the first that was skipped */
    bool again;    /* files are read anew, beside those in use */
    bool dry;      /* only looked at, and so */
    bool unread;   /* left what can be read but once to whoever is to use it */
    br_x509_certificate chain[DNSTAP__TLS_CHAIN];
    size_t chain_count;
    int key_type; /* BR_KEYTYPE_RSA, BR_KEYTYPE_EC; 0: none */
    union {
        br_rsa_private_key rsa;
        br_ec_private_key ec;
    } key;
    dnstap__tls_stamp stamps[3]; /* of ca_file, cert_file, key_file */
} dnstap__tls_store;

typedef enum dnstap__tls_kind {
    DNSTAP__TLS_CA,
    DNSTAP__TLS_CERT,
    DNSTAP__TLS_KEY
} dnstap__tls_kind;

/* Reads one source, file or block, object by object. Each object's DER is gathered at the arena's
 * end, and what is kept of it takes its place. */
typedef struct dnstap__tls_loader {
    dnstap__tls_store *store;
    dnstap__tls_kind kind;
    const char *source; /* for texts */
    dnstap_error *error;
    size_t mark;      /* where the object begins */
    size_t reach;     /* how far the arena was written */
    size_t taken;     /* objects used */
    uint8_t start[3]; /* of the source: tells DER from PEM */
    size_t start_size;
    size_t matched; /* bytes of a line that begins an object; all of them, too, when it does not */
    bool rule;      /* the line is one with dashes, and its ends count */
    bool der, inside, wanted, damaged;
    br_pem_decoder_context decoder;
} dnstap__tls_loader;

static const char *dnstap__tls_noun(dnstap__tls_kind kind)
{
    return kind == DNSTAP__TLS_KEY ? "private key" : "certificate";
}

static int dnstap__tls_malformed(dnstap__tls_loader *l)
{
    return dnstap__fail(l->error, DNSTAP_TLS, DNSTAP__TLS_MALFORMED,
                        "%s: %s is malformed or cut off%s", l->source, dnstap__tls_noun(l->kind),
                        l->kind == DNSTAP__TLS_KEY ? ", or encrypted; remove the passphrase" : "");
}

static const uint8_t *dnstap__tls_keep(dnstap__tls_store *s, const void *data, size_t size)
{
    uint8_t *copy = (uint8_t *)dnstap__take(&s->arena, size, 1);

    if (copy) memmove(copy, data, size);
    return copy;
}

/* BearSSL's structs point to what they do not change without const. */
static unsigned char *dnstap__tls_keep_bytes(dnstap__tls_store *s, const void *data, size_t size)
{
    const uint8_t *kept = dnstap__tls_keep(s, data, size);
    return (unsigned char *)(uintptr_t)kept;
}

/* Reads a certificate's key. Once an error is there, a further push would write beyond the
 * context (BearSSL 0.6), so it gets one push only. */
static const br_x509_pkey *dnstap__tls_decode(br_x509_decoder_context *d, const uint8_t *der,
                                              size_t size)
{
    br_x509_decoder_init(d, NULL, NULL);
    br_x509_decoder_push(d, der, size);
    return br_x509_decoder_get_pkey(d);
}

static void dnstap__tls_keep_pkey(dnstap__tls_store *s, br_x509_pkey *to, const br_x509_pkey *from)
{
    *to = *from;
    if (from->key_type == BR_KEYTYPE_RSA) {
        to->key.rsa.n = dnstap__tls_keep_bytes(s, from->key.rsa.n, from->key.rsa.nlen);
        to->key.rsa.e = dnstap__tls_keep_bytes(s, from->key.rsa.e, from->key.rsa.elen);
    } else {
        to->key.ec.q = dnstap__tls_keep_bytes(s, from->key.ec.q, from->key.ec.qlen);
    }
}

static void dnstap__tls_skip(dnstap__tls_store *s, dnstap__tls_flaw flaw)
{
    if (!s->skipped++) s->flaw = flaw;
}

static dnstap__tls_flaw dnstap__tls_flaw_of(const dnstap__x509 *x, br_x509_decoder_context *d)
{
    const br_x509_pkey *key = br_x509_decoder_get_pkey(d);
    int code = br_x509_decoder_last_error(d);

    if (!key && code != BR_ERR_X509_UNSUPPORTED && code != BR_ERR_X509_LIMIT_EXCEEDED)
        return DNSTAP__TLS_BROKEN;
    if (!key || (key->key_type == BR_KEYTYPE_RSA && key->key.rsa.nlen < DNSTAP__TLS_WEAK))
        return DNSTAP__TLS_BAD_KEY;
    if (x->critical) return DNSTAP__TLS_CRITICAL;
    if (!br_x509_decoder_isCA(d)) return DNSTAP__TLS_NO_CA;
    return x->no_sign ? DNSTAP__TLS_NO_SIGN : DNSTAP__TLS_SOUND;
}

/* Keeps an anchor in the place of its DER, which x points into. */
static void dnstap__tls_add_anchor(dnstap__tls_store *s, const dnstap__x509 *x,
                                   const dnstap__tls_fact *fact, const br_x509_pkey *key)
{
    size_t size = (size_t)(x->subject.end - x->subject_at);
    uint8_t *kept = (uint8_t *)dnstap__take(&s->arena, sizeof *fact + size, 1);
    br_x509_trust_anchor anchor;

    if (!kept) return;
    memmove(kept + sizeof *fact, x->subject_at, size);
    memcpy(kept, fact, sizeof *fact);
    memset(&anchor, 0, sizeof anchor);
    anchor.dn.data = kept + sizeof *fact;
    anchor.dn.len = size;
    anchor.flags = fact->flaw == DNSTAP__TLS_NO_CA ? 0 : BR_X509_TA_CA;
    if (key) dnstap__tls_keep_pkey(s, &anchor.pkey, key);
    if (s->arena.overflow || s->arena.size - s->arena.used < sizeof anchor) {
        s->arena.overflow = true;
        return;
    }
    s->arena.size -= sizeof anchor;
    s->anchors = (br_x509_trust_anchor *)(void *)(s->arena.base + s->arena.size);
    s->anchors[0] = anchor;
    s->anchor_count++;
}

/* A CA's certificate becomes an anchor; one that is no CA's is trusted for itself. One that can't
 * be used among many is skipped. */
static void dnstap__tls_take_anchor(dnstap__tls_loader *l, const uint8_t *der, size_t size)
{
    dnstap__tls_store *s = l->store;
    dnstap__tls_flaw flaw = DNSTAP__TLS_BROKEN;
    const br_x509_pkey *key = NULL;
    br_x509_decoder_context decoder;
    dnstap__tls_fact fact;
    dnstap__x509 x;

    s->arena.used = l->mark;
    if (dnstap__x509_open(&x, der, size)) {
        key = dnstap__tls_decode(&decoder, der, (size_t)(x.end - der));
        flaw = dnstap__tls_flaw_of(&x, &decoder);
        dnstap__x509_time(&x.validity, fact.from);
        dnstap__x509_time(&x.validity, fact.to);
        if (!fact.from[0] || !fact.to[0]) flaw = DNSTAP__TLS_BROKEN;
    }
    fact.path = x.path;
    fact.flaw = (uint8_t)flaw;
    if (flaw != DNSTAP__TLS_BROKEN) dnstap__tls_add_anchor(s, &x, &fact, key);
    s->alone += flaw == DNSTAP__TLS_NO_CA;
    if (flaw == DNSTAP__TLS_SOUND || flaw == DNSTAP__TLS_NO_CA)
        l->taken++;
    else
        dnstap__tls_skip(s, flaw);
}

static int dnstap__tls_take_certificate(dnstap__tls_loader *l, uint8_t *der, size_t size)
{
    dnstap__tls_store *s = l->store;

    if (s->chain_count == DNSTAP__TLS_CHAIN)
        return dnstap__fail(l->error, DNSTAP_TLS, DNSTAP__TLS_MALFORMED,
                            "%s: more than %d certificates; leave out what is not in the chain",
                            l->source, DNSTAP__TLS_CHAIN);
    s->chain[s->chain_count].data = der;
    s->chain[s->chain_count++].data_len = size;
    l->taken++;
    return DNSTAP_OK;
}

/* BearSSL 0.6 writes up to 24 bytes beyond its context for RSA keys above 4096 bits. */
typedef struct dnstap__tls_key_decoder {
    br_skey_decoder_context context;
    uint8_t spill[32];
} dnstap__tls_key_decoder;

/* Copies what was decoded into the store; key_type stays 0 when there is nothing usable. */
static void dnstap__tls_keep_key(dnstap__tls_store *s, const br_skey_decoder_context *d)
{
    const br_rsa_private_key *rsa = br_skey_decoder_get_rsa(d);
    const br_ec_private_key *ec = br_skey_decoder_get_ec(d);

    if (rsa) {
        s->key.rsa = *rsa;
        s->key.rsa.p = dnstap__tls_keep_bytes(s, rsa->p, rsa->plen);
        s->key.rsa.q = dnstap__tls_keep_bytes(s, rsa->q, rsa->qlen);
        s->key.rsa.dp = dnstap__tls_keep_bytes(s, rsa->dp, rsa->dplen);
        s->key.rsa.dq = dnstap__tls_keep_bytes(s, rsa->dq, rsa->dqlen);
        s->key.rsa.iq = dnstap__tls_keep_bytes(s, rsa->iq, rsa->iqlen);
        s->key_type = BR_KEYTYPE_RSA;
    }
    if (ec && ec->xlen <= 66) {
        s->key.ec = *ec;
        s->key.ec.x = dnstap__tls_keep_bytes(s, ec->x, ec->xlen);
        s->key_type = BR_KEYTYPE_EC;
    }
}

static int dnstap__tls_take_key(dnstap__tls_loader *l, const uint8_t *der, size_t size)
{
    dnstap__tls_key_decoder d;
    dnstap__tls_store *s = l->store;

    br_skey_decoder_init(&d.context);
    br_skey_decoder_push(&d.context, der, size);
    s->arena.used = l->mark;
    dnstap__tls_keep_key(s, &d.context);
    dnstap__wipe(&d, sizeof d);
    if (!s->key_type)
        return dnstap__fail(l->error, DNSTAP_TLS, DNSTAP__TLS_MALFORMED,
                            "%s: private key can't be used; RSA up to 4096 bits and the curves "
                            "P-256, P-384 and P-521 can",
                            l->source);
    l->taken++;
    return DNSTAP_OK;
}

/* An object is complete: its DER is what was gathered since mark. */
static int dnstap__tls_take(dnstap__tls_loader *l)
{
    dnstap__arena *a = &l->store->arena;
    uint8_t *der = a->base + l->mark;
    size_t size = a->used - l->mark;

    if (a->overflow) return DNSTAP_OK; /* told once, at the source's end */
    if (l->kind == DNSTAP__TLS_CERT) return dnstap__tls_take_certificate(l, der, size);
    if (l->kind == DNSTAP__TLS_KEY && !l->taken) return dnstap__tls_take_key(l, der, size);
    if (l->kind == DNSTAP__TLS_KEY) { /* the first key counts */
        a->used = l->mark;
        return DNSTAP_OK;
    }
    dnstap__tls_take_anchor(l, der, size);
    return DNSTAP_OK;
}

static void dnstap__tls_gather(void *loader, const void *data, size_t size)
{
    dnstap__tls_loader *l = (dnstap__tls_loader *)loader;

    (void)dnstap__tls_keep(l->store, data, size);
    if (l->reach < l->store->arena.used) l->reach = l->store->arena.used;
}

/* Whether a PEM object's name is `name`; blanks at the line's end leave the dashes on it. */
static bool dnstap__tls_named(const char *object, const char *name)
{
    size_t n = strlen(name);

    return strncmp(object, name, n) == 0 && (object[n] == '\0' || object[n] == '-');
}

static bool dnstap__tls_wants(dnstap__tls_kind kind, const char *object)
{
    if (kind == DNSTAP__TLS_KEY)
        return dnstap__tls_named(object, "PRIVATE KEY") ||
               dnstap__tls_named(object, "RSA PRIVATE KEY") ||
               dnstap__tls_named(object, "EC PRIVATE KEY");
    return dnstap__tls_named(object, "CERTIFICATE") ||
           dnstap__tls_named(object, "X509 CERTIFICATE");
}

/* A TRUSTED CERTIFICATE says behind its end for what it is not trusted, in a form of OpenSSL's. */
static int dnstap__tls_begin_object(dnstap__tls_loader *l)
{
    const char *name = br_pem_decoder_name(&l->decoder);

    if (l->kind == DNSTAP__TLS_KEY && dnstap__tls_named(name, "ENCRYPTED PRIVATE KEY"))
        return dnstap__fail(l->error, DNSTAP_TLS, DNSTAP__TLS_ENCRYPTED,
                            "%s: private key is encrypted; remove the passphrase, for example with "
                            "openssl pkey",
                            l->source);
    if (l->kind == DNSTAP__TLS_CA && dnstap__tls_named(name, "TRUSTED CERTIFICATE"))
        dnstap__tls_skip(l->store, DNSTAP__TLS_LIMITED);
    l->mark = l->store->arena.used;
    l->wanted = dnstap__tls_wants(l->kind, name);
    br_pem_decoder_setdest(&l->decoder, l->wanted ? dnstap__tls_gather : NULL, l);
    return DNSTAP_OK;
}

/* A chain with a hole is of no use; among CAs and keys there may be good ones. */
static int dnstap__tls_bad_object(dnstap__tls_loader *l)
{
    l->inside = false;
    if (!l->wanted) return DNSTAP_OK;
    l->store->arena.used = l->mark;
    if (l->kind == DNSTAP__TLS_CERT) return dnstap__tls_malformed(l);
    if (l->kind == DNSTAP__TLS_CA) dnstap__tls_skip(l->store, DNSTAP__TLS_BROKEN);
    l->damaged = true;
    return DNSTAP_OK;
}

/* Feeds the decoder inside of an object; what ends is taken. DNSTAP_OK, or the error of a source
 * that is of no use. */
static int dnstap__tls_decode_pem(dnstap__tls_loader *l, const void *bytes, size_t size)
{
    const uint8_t *data = (const uint8_t *)bytes;
    int result = DNSTAP_OK;
    size_t n;

    while (size && l->inside && result == DNSTAP_OK) {
        n = br_pem_decoder_push(&l->decoder, data, size);
        data += n;
        size -= n;
        switch (br_pem_decoder_event(&l->decoder)) {
        case BR_PEM_BEGIN_OBJ:
            result = dnstap__tls_begin_object(l);
            break;
        case BR_PEM_END_OBJ:
            l->inside = false;
            if (l->wanted) result = dnstap__tls_take(l);
            break;
        case BR_PEM_ERROR:
            result = dnstap__tls_bad_object(l);
            break;
        default:
            break;
        }
    }
    return result;
}

static const char dnstap__tls_begins[] = "-----BEGIN ";
enum { DNSTAP__TLS_BEGINS = sizeof dnstap__tls_begins - 1 };

/* Matches one byte of a line's begin. A line that begins an object does so inside of another, too,
 * whose end is missing then: BearSSL's decoder would lose both. */
static int dnstap__tls_match(dnstap__tls_loader *l, uint8_t byte)
{
    int result = DNSTAP_OK;

    if (byte != (uint8_t)dnstap__tls_begins[l->matched]) return DNSTAP_AGAIN;
    if (++l->matched < DNSTAP__TLS_BEGINS) return DNSTAP_OK;
    if (l->inside) result = dnstap__tls_bad_object(l);
    br_pem_decoder_init(&l->decoder);
    l->inside = l->rule = true;
    l->wanted = false;
    if (result < 0) return result;
    return dnstap__tls_decode_pem(l, dnstap__tls_begins, DNSTAP__TLS_BEGINS);
}

/* Feeds PEM. Lines end in LF, CR or both, may be indented, and of any length: BearSSL's decoder
 * wants multiples of four, and is told of those with dashes only. Between objects is text. */
static int dnstap__tls_pem(dnstap__tls_loader *l, const uint8_t *data, size_t size)
{
    int result = DNSTAP_OK;
    size_t n;

    for (; size && result == DNSTAP_OK; data += n, size -= n) {
        n = 1;
        if (!l->matched && (*data == ' ' || *data == '\t')) continue;
        if (l->matched < DNSTAP__TLS_BEGINS) {
            result = dnstap__tls_match(l, *data);
            if (result != DNSTAP_AGAIN) continue;
            l->rule = l->matched > 0;
            result = dnstap__tls_decode_pem(l, "\n", l->rule);
            if (result == DNSTAP_OK)
                result = dnstap__tls_decode_pem(l, dnstap__tls_begins, l->matched);
            l->matched = DNSTAP__TLS_BEGINS;
        }
        for (n = 0; n < size && data[n] != '\n' && data[n] != '\r';) n++;
        if (result == DNSTAP_OK) result = dnstap__tls_decode_pem(l, data, n);
        if (n == size) continue;
        if (result == DNSTAP_OK) result = dnstap__tls_decode_pem(l, "\n", l->rule);
        l->matched = 0;
        l->rule = false;
        n++;
    }
    return result;
}

/* DER is a SEQUENCE of at least 128 bytes, or one that begins with a version: no text begins so. */
static int dnstap__tls_begin_source(dnstap__tls_loader *l)
{
    const uint8_t *p = l->start;

    l->mark = l->store->arena.used;
    l->der = p[0] == 0x30 && ((p[1] > 0x80 && p[1] < 0x84) || p[2] == 0x02);
    if (l->der) dnstap__tls_gather(l, p, sizeof l->start);
    if (l->der || memcmp(p, "\xef\xbb\xbf", 3) == 0) return DNSTAP_OK;
    return dnstap__tls_pem(l, p, sizeof l->start);
}

/* The next bytes of the source. */
static int dnstap__tls_feed(dnstap__tls_loader *l, const void *bytes, size_t size)
{
    const uint8_t *data = (const uint8_t *)bytes;
    int result = DNSTAP_OK;

    while (size && l->start_size < sizeof l->start) {
        l->start[l->start_size++] = *data++;
        size--;
        if (l->start_size == sizeof l->start) result = dnstap__tls_begin_source(l);
    }
    if (!size || result != DNSTAP_OK) return result;
    if (!l->der) return dnstap__tls_pem(l, data, size);
    dnstap__tls_gather(l, data, size);
    return DNSTAP_OK;
}

static int dnstap__tls_feed_end(dnstap__tls_loader *l)
{
    int result = l->der ? dnstap__tls_take(l) : dnstap__tls_pem(l, (const uint8_t *)"\n", 1);
    const char *flaw = dnstap__tls_flaw_text(l->store->flaw);

    if (result == DNSTAP_OK && l->inside) result = dnstap__tls_bad_object(l);
    if (result != DNSTAP_OK) return result;
    if (l->store->arena.overflow)
        return dnstap__fail(l->error, DNSTAP_NO_MEMORY, 0,
                            "%s: does not fit in options.ca_memory; raise it", l->source);
    if (l->taken) return DNSTAP_OK;
    if (l->kind == DNSTAP__TLS_KEY && l->damaged) return dnstap__tls_malformed(l);
    return dnstap__fail(l->error, DNSTAP_TLS, DNSTAP__TLS_NOTHING,
                        "%s: no %s in it that can be used%s%s", l->source,
                        dnstap__tls_noun(l->kind), *flaw ? "; the first " : "", flaw);
}

/* Compares big-endian numbers, which may begin with zeros. */
static bool dnstap__tls_same(const uint8_t *a, size_t a_size, const uint8_t *b, size_t b_size)
{
    for (; a_size && !*a; a_size--) a++;
    for (; b_size && !*b; b_size--) b++;
    return a_size == b_size && memcmp(a, b, a_size) == 0;
}

/* For RSA-4096 BearSSL's default way to the modulus gives 0 on 64-bit machines; i15 works. */
static bool dnstap__tls_rsa_matches(const br_rsa_private_key *key, const br_rsa_public_key *pk)
{
    uint8_t modulus[512];
    size_t n;

    if (key->n_bitlen > 8 * sizeof modulus) return false;
    n = br_rsa_i15_compute_modulus(modulus, key);
    return n && dnstap__tls_same(modulus, n, pk->n, pk->nlen);
}

static bool dnstap__tls_ec_matches(const br_ec_private_key *key, const br_ec_public_key *pk)
{
    uint8_t point[BR_EC_KBUF_PUB_MAX_SIZE];
    size_t n;

    if (key->curve != pk->curve) return false;
    n = br_ec_compute_pub(br_ec_get_default(), NULL, point, key);
    return n && n == pk->qlen && memcmp(point, pk->q, n) == 0;
}

/* Nothing in BearSSL checks that a key belongs to its certificate. */
static int dnstap__tls_check_key(const dnstap__tls_store *s, const char *cert, const char *key,
                                 dnstap_error *error)
{
    br_x509_decoder_context decoder;
    const br_x509_pkey *pk = dnstap__tls_decode(&decoder, s->chain[0].data, s->chain[0].data_len);
    bool matches = false;

    if (!pk)
        return dnstap__fail(error, DNSTAP_TLS, DNSTAP__TLS_MALFORMED,
                            "%s: its first certificate can't be used; RSA up to 4096 bits and the "
                            "curves P-256, P-384 and P-521 can",
                            cert);
    if (pk->key_type == s->key_type)
        matches = s->key_type == BR_KEYTYPE_RSA ? dnstap__tls_rsa_matches(&s->key.rsa, &pk->key.rsa)
                                                : dnstap__tls_ec_matches(&s->key.ec, &pk->key.ec);
    if (matches) return DNSTAP_OK;
    return dnstap__fail(error, DNSTAP_TLS, DNSTAP__TLS_NO_MATCH,
                        "%s: private key is not that of the first certificate in %s", key, cert);
}
#endif

/* ---- >>credentials ------------------------------------------------------------------------ */

/* What the settings and their files give: a `config`, loaded once for all connections, and anew
 * when a file changed. In: settings; out: a store in use, and notes. Always: settings that can't be
 * met are an error when they are loaded; what was loaded stays in use when its files go bad; a
 * store that is not in use holds no key. */
#if DNSTAP__HAS_TLS
/* As tls_output: input and output share one buffer, of tls_input bytes. */
#define DNSTAP__TLS_SHARED ((size_t)-1)

enum {
    DNSTAP__TLS_INPUT = 4096,          /* a tap receives ACCEPT and FINISH, hardly more */
    DNSTAP__TLS_INPUT_MIN = 512 + 325, /* the smallest fragment, and BearSSL's overheads */
    DNSTAP__TLS_OUTPUT_MIN = 512 + 85,
    DNSTAP__TLS_OVERHEAD_OUT = 85,
    DNSTAP__TLS_ANCHORS = 128 * 1024, /* Debian's CA bundle takes 76 KB */
    DNSTAP__TLS_OURS = 32 * 1024,     /* without CAs: our own chain and key */
    DNSTAP__TLS_LEAF = 4096,          /* the peer's own certificate, for addresses and texts */
    DNSTAP__TLS_STEP = 512,           /* bytes of a handshake taken in one step */
    DNSTAP__TLS_DRAIN = 256 * 1024    /* bytes read after a refusal, so that it arrives */
};

#if DNSTAP__HAS_FILES
/* All zero: the file is not there. The time of its last change in any respect (ctime): no tool sets
 * that back. */
static void dnstap__tls_stamp_of(dnstap__tls_stamp *stamp, const char *path)
{
    struct stat s;

    memset(stamp, 0, sizeof *stamp);
    if (!path || stat(path, &s) != 0) return;
    stamp->device = (uint64_t)s.st_dev;
    stamp->inode = (uint64_t)s.st_ino;
    stamp->once = !S_ISREG(s.st_mode);
    if (stamp->once) return;
    stamp->size = (uint64_t)s.st_size;
    stamp->seconds = (uint64_t)s.DNSTAP__CTIME.tv_sec;
    stamp->nanoseconds = (uint64_t)s.DNSTAP__CTIME.tv_nsec;
}

static int dnstap__tls_no_file(dnstap__tls_loader *l, const char *what)
{
    return dnstap__fail(l->error, DNSTAP_SYSTEM, errno, "%s: can't %s it: %s", l->source, what,
                        strerror(errno));
}

/* Whether there is something to read before that time. */
static bool dnstap__tls_await(int fd, uint64_t until)
{
    struct pollfd p;
    uint64_t now = dnstap__clock_ms(NULL);

    p.fd = fd;
    p.events = POLLIN;
    return now < until && poll(&p, 1, (int)(until - now)) != 0;
}

/* Reads to the end. `slow`: it is no regular file, and may have to be waited for. */
static int dnstap__tls_read_file(dnstap__tls_loader *l, int fd, bool slow)
{
    uint64_t until = dnstap__clock_ms(NULL) + DNSTAP__TLS_PATIENCE;
    uint8_t buffer[512];
    size_t total = 0;
    ssize_t n = 1;
    int result = DNSTAP_OK;

    while (result == DNSTAP_OK && n) {
        if (slow && !dnstap__tls_await(fd, until)) {
            result = dnstap__fail(l->error, DNSTAP_SYSTEM, ETIMEDOUT,
                                  "%s: what writes to it did not end in %d ms; give it a file",
                                  l->source, DNSTAP__TLS_PATIENCE);
            break;
        }
        n = read(fd, buffer, sizeof buffer);
        if (n < 0 && errno != EINTR && errno != EAGAIN) result = dnstap__tls_no_file(l, "read");
        if (n <= 0) continue;
        total += (size_t)n;
        result = dnstap__tls_feed(l, buffer, (size_t)n);
        if (result == DNSTAP_OK && total > DNSTAP__TLS_FILE)
            result = dnstap__fail(l->error, DNSTAP_TLS, DNSTAP__TLS_NOTHING,
                                  "%s: more than %d bytes; is that a file of %ss?", l->source,
                                  DNSTAP__TLS_FILE, dnstap__tls_noun(l->kind));
    }
    dnstap__wipe(buffer, sizeof buffer);
    return result;
}

/* Whether what is read is gone, and opening be noticed. */
static bool dnstap__tls_flows(const char *path)
{
    struct stat s;

    return stat(path, &s) == 0 && (S_ISFIFO(s.st_mode) || S_ISCHR(s.st_mode));
}

/* Of such a file: would it open? */
static int dnstap__tls_pass_over(dnstap__tls_loader *l)
{
    errno = dnstap__may(l->source, R_OK);
    if (errno) return dnstap__tls_no_file(l, "open");
    l->store->unread = true;
    l->taken++;
    return DNSTAP_OK;
}

static int dnstap__tls_load_file(dnstap__tls_loader *l)
{
    struct stat s;
    bool slow;
    int result, fd;

    if (l->store->dry && dnstap__tls_flows(l->source)) return dnstap__tls_pass_over(l);
    fd = open(l->source, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) return dnstap__tls_no_file(l, "open");
    slow = fstat(fd, &s) != 0 || !S_ISREG(s.st_mode);
    if (slow && l->store->again)
        result = dnstap__fail(l->error, DNSTAP_TLS, DNSTAP__TLS_NOTHING,
                              "%s: is no regular file, and such are read when the tap opens only",
                              l->source);
    else
        result = dnstap__tls_read_file(l, fd, slow);
    close(fd);
    return result;
}

static bool dnstap__tls_readable(const char *path) { return path && access(path, R_OK) == 0; }

/* Debian and OpenWrt, Fedora, Alpine and the BSDs, openSUSE, older FreeBSD, NetBSD. */
static const char *dnstap__tls_system_bundle(void)
{
    static const char *const places[] = {"/etc/ssl/certs/ca-certificates.crt",
                                         "/etc/pki/tls/certs/ca-bundle.crt",
                                         "/etc/ssl/cert.pem",
                                         "/etc/ssl/ca-bundle.pem",
                                         "/usr/local/share/certs/ca-root-nss.crt",
                                         "/etc/openssl/certs/ca-certificates.crt"};
    const char *named = dnstap__privileged() ? NULL : getenv("SSL_CERT_FILE");
    size_t i;

    if (named && *named) return named;
    for (i = 0; i < sizeof places / sizeof places[0]; i++)
        if (dnstap__tls_readable(places[i])) return places[i];
    return NULL;
}
#else
static void dnstap__tls_stamp_of(dnstap__tls_stamp *stamp, const char *path)
{
    (void)path;
    memset(stamp, 0, sizeof *stamp);
}

static int dnstap__tls_load_file(dnstap__tls_loader *l)
{
    return dnstap__fail(l->error, DNSTAP_UNSUPPORTED, 0,
                        "%s: this build reads no files; use options.ca, cert and key", l->source);
}

static const char *dnstap__tls_system_bundle(void) { return NULL; }
#endif

/* Loads from the file, or else from the block. */
static int dnstap__tls_load_one(dnstap__tls_store *s, dnstap__tls_kind kind, const char *file,
                                const dnstap_bytes *block, dnstap_error *error)
{
    static const char *const blocks[] = {"options.ca", "options.cert", "options.key"};
    dnstap__tls_loader l;
    int result;

    memset(&l, 0, sizeof l);
    l.store = s;
    l.kind = kind;
    l.source = file ? file : blocks[kind];
    l.error = error;
    l.reach = s->arena.used;
    result = file ? dnstap__tls_load_file(&l) : dnstap__tls_feed(&l, block->data, block->size);
    if (result == DNSTAP_OK) result = dnstap__tls_feed_end(&l);
    if (kind == DNSTAP__TLS_KEY && l.reach > s->arena.used)
        dnstap__wipe(s->arena.base + s->arena.used, l.reach - s->arena.used);
    dnstap__wipe(&l, sizeof l);
    return result;
}

/* What TLS is given; what it points to outlives the config. */
typedef struct dnstap__tls_settings {
    const char *endpoint;         /* for texts */
    const char *host;             /* of the endpoint; verified unless server_name is set */
    bool server, skipverify, dry; /* dry: would it be refused? */
    const char *ca_file, *cert_file, *key_file, *server_name;
    dnstap_bytes ca, cert, key;
    const void *anchors;
    size_t anchor_count, ca_memory, input, output;
    void *user; /* of the hooks */
    uint64_t (*unix_time)(void *user);
    bool (*entropy)(void *user, void *out, size_t size);
} dnstap__tls_settings;

/* What options give TLS. */
static dnstap__tls_settings dnstap__tls_settings_of(const dnstap_options *o, const char *host)
{
    dnstap__tls_settings s;

    memset(&s, 0, sizeof s);
    s.endpoint = o->endpoint;
    s.host = host;
    s.server = o->listen;
    s.skipverify = o->skipverify;
    s.ca_file = o->ca_file;
    s.cert_file = o->cert_file;
    s.key_file = o->key_file;
    s.server_name = o->server_name;
    s.ca = o->ca;
    s.cert = o->cert;
    s.key = o->key;
    s.anchors = o->anchors;
    s.anchor_count = o->anchor_count;
    s.ca_memory = o->ca_memory;
    s.input = o->tls_input;
    s.output = o->tls_output;
    s.user = o->user;
    s.unix_time = o->unix_time;
    s.entropy = o->entropy;
    return s;
}

/* Where a client's CAs are by default. */
static const char *dnstap__default_ca(const dnstap_options *o)
{
    bool needed = !o->listen && !o->skipverify && !o->ca_file && !o->ca.data && !o->anchors;

    return needed ? dnstap__tls_system_bundle() : o->ca_file;
}

typedef struct dnstap__tls_config {
    dnstap__tls_settings set;
    char name[256];      /* to be verified; empty: an address, or nothing */
    uint8_t address[16]; /* to be verified, network order */
    size_t address_size; /* 4, 16; 0: none */
    size_t memory_size;  /* of each store */
    uint8_t *memory[2];  /* the second for loading anew; NULL when nothing is a file */
    int current;
    dnstap__tls_store store[2];
    dnstap__tls_stamp refused[3]; /* files that can't be used as they were then; all ones: none */
    int said;                     /* errno of the last that could not be read; 0: none */
    char note[256];               /* to be logged after load and reload; empty: nothing */
} dnstap__tls_config;

static int dnstap__tls_load_identity(dnstap__tls_config *c, dnstap__tls_store *s,
                                     dnstap_error *error)
{
    const dnstap__tls_settings *o = &c->set;
    int result;

    if (!o->cert_file && !o->cert.data) return DNSTAP_OK;
    result = dnstap__tls_load_one(s, DNSTAP__TLS_CERT, o->cert_file, &o->cert, error);
    if (result < 0) return result;
    result = dnstap__tls_load_one(s, DNSTAP__TLS_KEY, o->key_file, &o->key, error);
    if (result < 0 || s->unread) return result;
    return dnstap__tls_check_key(s, o->cert_file ? o->cert_file : "options.cert",
                                 o->key_file ? o->key_file : "options.key", error);
}

/* Whether certificates of the peer are verified: a server asks for one only when it has a CA. */
static bool dnstap__tls_verifies(const dnstap__tls_settings *o)
{
    if (o->skipverify) return false;
    return !o->server || o->ca_file || o->ca.data || o->anchors;
}

/* A CertificateRequest names all CAs, with 16 bits for their size. */
static int dnstap__tls_check_names(const dnstap__tls_config *c, const dnstap__tls_store *s,
                                   dnstap_error *error)
{
    size_t i, size = 0;

    for (i = 0; i < s->anchor_count; i++) size += s->anchors[i].dn.len + 2;
    if (!c->set.server || size <= 60000) return DNSTAP_OK;
    return dnstap__fail(error, DNSTAP_BAD_OPTION, 0,
                        "%s: too many CAs to ask clients by; leave those that sign clients",
                        c->set.ca_file ? c->set.ca_file : "options.ca");
}

static int dnstap__tls_load_anchors(dnstap__tls_config *c, dnstap__tls_store *s,
                                    dnstap_error *error)
{
    const dnstap__tls_settings *o = &c->set;
    int result;

    if (!dnstap__tls_verifies(o)) return DNSTAP_OK;
    if (o->anchors) { /* they are not changed */
        s->anchors = (br_x509_trust_anchor *)(uintptr_t)o->anchors;
        s->anchor_count = o->anchor_count;
    } else {
        result = dnstap__tls_load_one(s, DNSTAP__TLS_CA, o->ca_file, &o->ca, error);
        if (result < 0) return result;
    }
    return dnstap__tls_check_names(c, s, error);
}

/* What the files look like now; a pipe that was read is as it was. */
static void dnstap__tls_look(const dnstap__tls_config *c, dnstap__tls_stamp stamps[3])
{
    const dnstap__tls_stamp *in_use = c->store[c->current].stamps;
    int i;

    dnstap__tls_stamp_of(&stamps[DNSTAP__TLS_CA],
                         dnstap__tls_verifies(&c->set) ? c->set.ca_file : NULL);
    dnstap__tls_stamp_of(&stamps[DNSTAP__TLS_CERT], c->set.cert_file);
    dnstap__tls_stamp_of(&stamps[DNSTAP__TLS_KEY], c->set.key_file);
    for (i = 0; i < 3; i++)
        if (in_use[i].once) stamps[i] = in_use[i];
}

/* Empties a store; nothing of a key stays in its memory. */
static void dnstap__tls_forget(dnstap__tls_config *c, int which)
{
    dnstap__tls_store *s = &c->store[which];

    if (s->arena.base) dnstap__wipe(s->arena.base, s->arena.used);
    memset(s, 0, sizeof *s);
}

static void dnstap__tls_note(dnstap__tls_config *c, const dnstap__tls_store *s)
{
    const char *file = c->set.ca_file ? c->set.ca_file : "options.ca";
    size_t used;

    c->note[0] = '\0';
    if (s->skipped)
        dnstap__format(c->note, sizeof c->note,
                       "%s: certificates in it that are skipped: %lu; the first %s", file,
                       (unsigned long)s->skipped, dnstap__tls_flaw_text(s->flaw));
    used = strlen(c->note);
    if (s->alone)
        dnstap__format(c->note + used, sizeof c->note - used,
                       "%s%s: certificates that are no CA's, and trusted for themselves only: %lu",
                       used ? "; " : "", used ? "there" : file, (unsigned long)s->alone);
}

/* Loads all into one store. A file that changes meanwhile is read again the next time. */
static int dnstap__tls_load_store(dnstap__tls_config *c, int which, dnstap_error *error)
{
    dnstap__tls_store *s = &c->store[which];
    int result;

    dnstap__tls_forget(c, which);
    s->arena.base = c->memory[which];
    s->arena.size = c->memory_size;
    s->again = which != c->current;
    s->dry = c->set.dry;
    dnstap__tls_look(c, s->stamps);
    result = dnstap__tls_load_identity(c, s, error);
    if (result == DNSTAP_OK) result = dnstap__tls_load_anchors(c, s, error);
    if (result == DNSTAP_OK)
        dnstap__tls_note(c, s);
    else
        dnstap__tls_forget(c, which);
    return result;
}

/* Sizes of the record buffers; out 0: shared. A client may send us records of 16 KB. */
static void dnstap__tls_sizes(const dnstap__tls_settings *o, size_t *in, size_t *out)
{
    *in = o->input;
    if (!*in) *in = o->server ? (size_t)BR_SSL_BUFSIZE_INPUT : (size_t)DNSTAP__TLS_INPUT;
    *out = o->output ? o->output : (size_t)BR_SSL_BUFSIZE_OUTPUT;
    if (*out == DNSTAP__TLS_SHARED) *out = 0;
}

/* Carves a config, without loading it; NULL while the arena only adds up. */
static dnstap__tls_config *dnstap__tls_carve_config(dnstap__arena *a, const dnstap__tls_settings *o)
{
    dnstap__tls_config *c = (dnstap__tls_config *)dnstap__take(a, sizeof(dnstap__tls_config),
                                                               sizeof(void *));
    bool cas = dnstap__tls_verifies(o) && !o->anchors, ours = o->cert_file || o->cert.data;
    bool files = o->cert_file || o->key_file || (cas && (o->ca_file || !o->ca.data));
    size_t wanted = o->ca_memory ? o->ca_memory
                                 : (size_t)(cas ? DNSTAP__TLS_ANCHORS : DNSTAP__TLS_OURS);
    size_t size = cas || ours ? wanted & ~(size_t)15 : 0;
    uint8_t *first = (uint8_t *)dnstap__take(a, size, 8);
    uint8_t *second = (uint8_t *)(files ? dnstap__take(a, size, 8) : NULL);

    if (!a->base || a->overflow) return NULL;
    memset(c, 0, sizeof *c);
    c->memory_size = size;
    c->memory[0] = first;
    c->memory[1] = second;
    return c;
}

/* Whom to verify: the name without a trailing dot, or the address. */
static int dnstap__tls_set_name(dnstap__tls_config *c, dnstap_error *error)
{
    const char *name = c->set.server_name ? c->set.server_name : c->set.host;
    size_t n = name ? strlen(name) : 0;

    if (n && name[n - 1] == '.') n--;
    if (c->set.server) return DNSTAP_OK;
    if (n >= sizeof c->name || (!n && !c->set.skipverify))
        return dnstap__fail(error, DNSTAP_BAD_OPTION, 0,
                            "%s: no name to verify the peer by; set options.server_name",
                            c->set.endpoint);
    if (!n) return DNSTAP_OK;
    memcpy(c->name, name, n);
    c->name[n] = '\0';
    c->address_size = dnstap__parse_ip(c->name, c->address);
    if (c->address_size) c->name[0] = '\0';
    return DNSTAP_OK;
}

static int dnstap__tls_check_options(const dnstap__tls_config *c, dnstap_error *error)
{
    const dnstap__tls_settings *o = &c->set;
    bool cert = o->cert_file || o->cert.data, key = o->key_file || o->key.data;
    size_t in, out;
    const char *text = NULL;

    dnstap__tls_sizes(o, &in, &out);
    if (in < DNSTAP__TLS_INPUT_MIN) text = DNSTAP__TEXT("options.tls_input is below 837");
    if (out && out < DNSTAP__TLS_OUTPUT_MIN) text = DNSTAP__TEXT("options.tls_output is below 597");
    if (cert && !key) text = DNSTAP__TEXT("a certificate without key; set options.key_file");
    if (key && !cert) text = DNSTAP__TEXT("a key without certificate; set options.cert_file");
    if (c->set.server && !cert)
        text = DNSTAP__TEXT("a server needs a certificate; set options.cert_file");
    if (o->anchors && !o->anchor_count) text = "options.anchors without anchor_count";
    if (dnstap__tls_verifies(o) && !o->ca_file && !o->ca.data && !o->anchors)
        text = "the system has no CA bundle; set options.ca_file or SSL_CERT_FILE";
    if (!text) return DNSTAP_OK;
    return dnstap__fail(error, DNSTAP_BAD_OPTION, 0, "%s: %s", c->set.endpoint, text);
}

/* Checks the settings and reads the files. */
static int dnstap__tls_load(dnstap__tls_config *c, const dnstap__tls_settings *set,
                            dnstap_error *error)
{
    int result;

    c->set = *set;
    memset(c->refused, 0xff, sizeof c->refused);
    result = dnstap__tls_check_options(c, error);
    if (result == DNSTAP_OK) result = dnstap__tls_set_name(c, error);
    if (result < 0) return result;
    return dnstap__tls_load_store(c, c->current, error);
}

/* Files that changed could not be loaded. What they say will not change unless they do; what has
 * another reason (a right, a descriptor) is tried again each time, and said once. */
static void dnstap__tls_not_renewed(dnstap__tls_config *c, const dnstap__tls_stamp now[3],
                                    const dnstap_error *error)
{
    int why = error->code == DNSTAP_SYSTEM ? error->sys_errno : 0;

    memset(c->refused, 0xff, sizeof c->refused);
    if (!why) memcpy(c->refused, now, sizeof c->refused);
    if (!why || why != c->said)
        dnstap__format(c->note, sizeof c->note, "%s; what was loaded before stays in use",
                       error->text);
    c->said = why;
}

/* Reads the files again if they are neither those in use nor known to be of no use. What can't be
 * used leaves all as it was, and says so in note. Call it before a connection, when no handshake
 * uses the store that is not current. */
static void dnstap__tls_reload(dnstap__tls_config *c)
{
    int before = c->current;
    dnstap__tls_stamp now[3];
    dnstap_error error;

    c->note[0] = '\0';
    if (!c->memory[1]) return;
    dnstap__tls_look(c, now);
    if (memcmp(now, c->store[before].stamps, sizeof now) == 0) {
        c->said = 0;
        return;
    }
    if (memcmp(now, c->refused, sizeof now) == 0) return;
    if (dnstap__tls_load_store(c, 1 - before, &error) < 0) {
        dnstap__tls_not_renewed(c, now, &error);
        return;
    }
    c->current = 1 - before;
    c->said = 0;
}

#else
static const char *dnstap__default_ca(const dnstap_options *o) { return o->ca_file; }
#endif

/* ---- >>verify ----------------------------------------------------------------------------- */

/* Whom a connection trusts, and what is said when it does not. In: a config; out: two classes for
 * BearSSL's engine, one that verifies and one for skipverify; a text for each error. Always:
 * nothing is trusted without an anchor that is valid now, a name and a clock. */
#if DNSTAP__HAS_TLS
/* What users meet, and what to do. The rest is a peer that breaks the protocol. */
#define DNSTAP__TLS_ERRORS(X)                                                                      \
    X(BR_ERR_UNSUPPORTED_VERSION, "peer speaks no TLS 1.2; is that a TLS port?")                   \
    X(BR_ERR_BAD_VERSION, "peer speaks no TLS 1.2; is that a TLS port?")                           \
    X(BR_ERR_BAD_LENGTH, "peer sent what is no TLS record; is that a TLS port?")                   \
    X(BR_ERR_TOO_LARGE, "peer sent a record larger than options.tls_input; set it to 16709")       \
    X(BR_ERR_BAD_MAC, "a record was damaged on its way; look for what tampers with it")            \
    X(BR_ERR_NO_RANDOM, "no entropy; set options.entropy")                                         \
    X(BR_ERR_NO_CLIENT_AUTH, "client showed no certificate; give it one of options.ca_file's")     \
    X(BR_ERR_BAD_SIGNATURE,                                                                        \
      "peer does not have the key of its certificate; give it the right one")                      \
    X(BR_ERR_INVALID_ALGORITHM, "no signature or curve in common; use SHA-2 and P-256")            \
    X(BR_ERR_WRONG_KEY_USAGE, "the certificate's key usage forbids to sign; issue another")        \
    X(BR_ERR_X509_EMPTY_CHAIN, "peer showed no certificate; give it one")                          \
    X(BR_ERR_X509_UNSUPPORTED, "a certificate needs what BearSSL lacks (RSA-PSS, Ed25519, SHA-1);" \
                               " use RSA or P-256 with SHA-256")                                   \
    X(BR_ERR_X509_LIMIT_EXCEEDED, "a key or signature is larger than RSA-4096; use a smaller one") \
    X(BR_ERR_X509_WRONG_KEY_TYPE,                                                                  \
      "signature and issuer's key differ in kind; send the right chain")                           \
    X(BR_ERR_X509_BAD_SIGNATURE, "a certificate's signature is wrong; send the right chain")       \
    X(BR_ERR_X509_TIME_UNKNOWN, "no clock to check certificates by; set options.unix_time")        \
    X(BR_ERR_X509_DN_MISMATCH, "the chain is out of order; send the leaf first, then its issuers") \
    X(BR_ERR_X509_CRITICAL_EXTENSION, "a certificate has a critical extension that BearSSL does"   \
                                      " not know; issue it without, or not critical")              \
    X(BR_ERR_X509_NOT_CA, "a certificate in the chain may not issue others; issue it as a CA's")   \
    X(BR_ERR_X509_FORBIDDEN_KEY_USAGE,                                                             \
      "a certificate's key usage forbids to issue others; add keyCertSign")                        \
    X(BR_ERR_X509_WEAK_PUBLIC_KEY, "an RSA key is smaller than 2048 bits; use a larger one")       \
    X(BR_ERR_RECV_FATAL_ALERT + 40,                                                                \
      "peer found no version, suite or certificate in common;"                                     \
      " it needs TLS 1.2 with ECDHE and AES-GCM or ChaCha20, and may require a certificate")       \
    X(BR_ERR_RECV_FATAL_ALERT + 42, "peer refuses our certificate; its log may say why")           \
    X(BR_ERR_RECV_FATAL_ALERT + 43,                                                                \
      "peer does not support our certificate's kind; use RSA or P-256")                            \
    X(BR_ERR_RECV_FATAL_ALERT + 44, "peer says our certificate is revoked; renew it")              \
    X(BR_ERR_RECV_FATAL_ALERT + 45, "peer says our certificate is expired; check its clock too")   \
    X(BR_ERR_RECV_FATAL_ALERT + 46, "peer refuses our certificate; its log may say why")           \
    X(BR_ERR_RECV_FATAL_ALERT + 48, "peer does not know our certificate's CA; tell it, or send"    \
                                    " the whole chain")                                            \
    X(BR_ERR_RECV_FATAL_ALERT + 51, "peer finds a signature of ours wrong; its log may say more")  \
    X(BR_ERR_RECV_FATAL_ALERT + 70, "peer speaks no TLS 1.2; enable it there")                     \
    X(BR_ERR_RECV_FATAL_ALERT + 112, "peer does not know that name; set options.server_name")      \
    X(BR_ERR_RECV_FATAL_ALERT + 116, "peer requires a certificate; set options.cert_file")         \
    X(BR_ERR_SEND_FATAL_ALERT + 40,                                                                \
      "peer has none of our cipher suites; it needs ECDHE with"                                    \
      " AES-GCM or ChaCha20-Poly1305, and a key of our certificate's kind")                        \
    X(BR_ERR_SEND_FATAL_ALERT + 70, "peer speaks no TLS 1.2; enable it there")                     \
    X(DNSTAP__TLS_EOF, "peer ended without TLS's close_notify; what it sent last may be missing")  \
    X(DNSTAP__TLS_LEAF_TOO_LARGE, "the certificate is larger than 4096 bytes; connect by name, or" \
                                  " use a smaller one")                                            \
    X(DNSTAP__TLS_NOT_CLIENTS,                                                                     \
      "the certificate is not for clients; issue one with clientAuth in its"                       \
      " extended key usage, or without that")                                                      \
    X(DNSTAP__TLS_TOO_DEEP, "the chain is longer than its CA allows (pathLenConstraint); shorten"  \
                            " it, or issue the CA's certificate anew")

static const char *dnstap__tls_text_of(int code)
{
#define DNSTAP__X(value, text) \
    if (code == (value)) return text;
    DNSTAP__TLS_ERRORS(DNSTAP__X)
#undef DNSTAP__X
    if (code >= BR_ERR_SEND_FATAL_ALERT && code < DNSTAP__TLS_EOF)
        return "peer broke the protocol; its log may say more";
    if (code >= BR_ERR_RECV_FATAL_ALERT) return "peer refuses the connection; its log may say why";
    if (code > BR_ERR_X509_OK) return "a certificate is malformed; issue another";
    return "peer broke the protocol; is that a TLS port?";
}

/* The same once data flows, when what the handshake was about is settled. */
static const char *dnstap__tls_late_text_of(int code)
{
    if (code == BR_ERR_TOO_LARGE || code == BR_ERR_BAD_MAC || code == DNSTAP__TLS_EOF)
        return dnstap__tls_text_of(code);
    if (code >= BR_ERR_RECV_FATAL_ALERT && code < BR_ERR_SEND_FATAL_ALERT)
        return "peer ended the running connection; its log may say why";
    return "peer broke the protocol; its log may say more";
}

/* First the vtable, as BearSSL's classes have it. */
typedef struct dnstap__tls_verifier {
    const br_x509_class *vtable;
    union {
        br_x509_minimal_context minimal;
        br_x509_decoder_context decoder;
    } as;
    const dnstap__tls_config *config;
    const dnstap__tls_store *store; /* of the config, that the handshake uses */
    uint64_t now;                   /* the clock at the handshake's begin */
    const br_x509_pkey *key;        /* the leaf's */
    unsigned certificates;          /* complete so far */
    unsigned needed;                /* of these, up to the one that an anchor signed; 0: not yet */
    br_name_element dns; /* tells whether the leaf has names of its own, but for its subject */
    char first;          /* of them, as far as it fits */
    size_t leaf_size;    /* more than fits: it was cut */
    size_t last_size;    /* of the last certificate, behind the leaf's */
    uint8_t leaf[DNSTAP__TLS_LEAF];
} dnstap__tls_verifier;

static dnstap__tls_verifier *dnstap__tls_verifier_of(const br_x509_class **class_)
{
    return (dnstap__tls_verifier *)(void *)class_;
}

static bool dnstap__tls_leaf_fits(const dnstap__tls_verifier *v)
{
    return v->leaf_size && v->leaf_size <= sizeof v->leaf;
}

/* Whether data went behind what is there already: all of it or nothing. */
static void dnstap__tls_keep_part(dnstap__tls_verifier *v, size_t at, size_t *size,
                                  const unsigned char *data, size_t more)
{
    size_t end = at + *size;

    if (end <= sizeof v->leaf && more <= sizeof v->leaf - end) memcpy(v->leaf + end, data, more);
    *size += more;
}

/* The anchor a chain seems to want: by the issuer's name of its first, or else of its last
 * certificate; alike: by one that is the same but for its type of string. Those that are of no use
 * are found, too. */
static const br_x509_trust_anchor *dnstap__tls_wanted(const dnstap__tls_verifier *v, bool alike)
{
    const dnstap__tls_store *s = v->store;
    size_t size[2] = {v->leaf_size, v->last_size}, i, k, at = 0;
    dnstap__der name, issuer;
    dnstap__x509 x;
    bool same;

    for (i = 0; i < 2; at += size[i++]) {
        if (!s || v->config->set.anchors || at + size[i] > sizeof v->leaf) return NULL;
        if (!size[i] || !dnstap__x509_open(&x, v->leaf + at, size[i])) continue;
        issuer.at = x.issuer_at;
        issuer.end = x.issuer.end;
        for (k = 0; k < s->anchor_count; k++) {
            name.at = s->anchors[k].dn.data;
            name.end = name.at + s->anchors[k].dn.len;
            same = dnstap__der_is(&issuer, (const char *)name.at, s->anchors[k].dn.len);
            if (alike ? !same && dnstap__x509_alike(name, issuer) : same) return &s->anchors[k];
        }
    }
    return NULL;
}

/* The verifying class is x509_minimal, which looks at all but addresses: the leaf is kept for
 * these, and for texts. */
static void dnstap__verify_start_chain(const br_x509_class **ctx, const char *name)
{
    dnstap__tls_verifier *v = dnstap__tls_verifier_of(ctx);

    v->certificates = v->needed = 0;
    v->leaf_size = v->last_size = 0;
    v->as.minimal.vtable->start_chain(&v->as.minimal.vtable, name);
}

static void dnstap__verify_start_cert(const br_x509_class **ctx, uint32_t size)
{
    dnstap__tls_verifier *v = dnstap__tls_verifier_of(ctx);

    v->last_size = 0;
    v->as.minimal.vtable->start_cert(&v->as.minimal.vtable, size);
}

static void dnstap__verify_append(const br_x509_class **ctx, const unsigned char *data, size_t size)
{
    dnstap__tls_verifier *v = dnstap__tls_verifier_of(ctx);

    if (v->certificates)
        dnstap__tls_keep_part(v, v->leaf_size, &v->last_size, data, size);
    else
        dnstap__tls_keep_part(v, 0, &v->leaf_size, data, size);
    v->as.minimal.vtable->append(&v->as.minimal.vtable, data, size);
}

static void dnstap__verify_end_cert(const br_x509_class **ctx)
{
    dnstap__tls_verifier *v = dnstap__tls_verifier_of(ctx);

    v->certificates++;
    v->as.minimal.vtable->end_cert(&v->as.minimal.vtable);
    if (!v->needed && v->as.minimal.err == BR_ERR_X509_OK) v->needed = v->certificates;
}

/* Whether the CA that signed the chain allows so many below it (RFC 5280, 4.2.1.9); BearSSL has
 * looked at those in the chain. It is known by its name's hash only: all of that name must. */
static bool dnstap__verify_depth(const dnstap__tls_verifier *v)
{
    const br_x509_minimal_context *m = &v->as.minimal;
    uint8_t hash[br_sha256_SIZE];
    br_sha256_context sha;
    size_t i;

    if (v->needed < 2 || v->config->set.anchors) return true;
    for (i = 0; i < m->trust_anchors_num; i++) {
        if (dnstap__tls_fact_of(&m->trust_anchors[i])->path >= v->needed - 1) continue;
        br_sha256_init(&sha);
        br_sha256_update(&sha, m->trust_anchors[i].dn.data, m->trust_anchors[i].dn.len);
        br_sha256_out(&sha, hash);
        if (memcmp(hash, m->saved_dn_hash, sizeof hash) == 0) return false;
    }
    return true;
}

/* The name or the address: one in subjectAltName. A subject's common name is none (RFC 9525, 2);
 * BearSSL has taken it if there were no others. */
static unsigned dnstap__verify_name(const dnstap__tls_verifier *v)
{
    const dnstap__tls_config *c = v->config;
    dnstap__x509 x;

    if (c->name[0]) return v->dns.status ? 0 : BR_ERR_X509_BAD_SERVER_NAME;
    if (!c->address_size) return 0;
    if (!dnstap__tls_leaf_fits(v)) return DNSTAP__TLS_LEAF_TOO_LARGE;
    if (dnstap__x509_open(&x, v->leaf, v->leaf_size) &&
        dnstap__x509_has_address(&x, c->address, c->address_size))
        return 0;
    return BR_ERR_X509_BAD_SERVER_NAME;
}

/* A client's: BearSSL does not look what a certificate is for. */
static unsigned dnstap__verify_purpose(const dnstap__tls_verifier *v)
{
    dnstap__x509 x;
    bool good;

    if (!dnstap__tls_leaf_fits(v)) return DNSTAP__TLS_LEAF_TOO_LARGE;
    good = dnstap__x509_open(&x, v->leaf, v->leaf_size) && dnstap__x509_is_clients(&x);
    return good ? 0 : (unsigned)DNSTAP__TLS_NOT_CLIENTS;
}

static unsigned dnstap__verify_end_chain(const br_x509_class **ctx)
{
    dnstap__tls_verifier *v = dnstap__tls_verifier_of(ctx);
    unsigned code = v->as.minimal.vtable->end_chain(&v->as.minimal.vtable);
    const br_x509_trust_anchor *anchor;
    char now[DNSTAP__STAMP];

    if (code == BR_ERR_X509_NOT_TRUSTED && (anchor = dnstap__tls_wanted(v, false)) != NULL) {
        dnstap__unix_stamp(v->now, now);
        if (!dnstap__tls_in_time(dnstap__tls_fact_of(anchor), now)) return BR_ERR_X509_EXPIRED;
    }
    if (code) return code;
    if (!dnstap__verify_depth(v)) return DNSTAP__TLS_TOO_DEEP;
    return v->config->set.server ? dnstap__verify_purpose(v) : dnstap__verify_name(v);
}

static const br_x509_pkey *dnstap__verify_get_pkey(const br_x509_class *const *ctx,
                                                   unsigned *usages)
{
    const dnstap__tls_verifier *v = (const dnstap__tls_verifier *)(const void *)ctx;

    return v->as.minimal.vtable->get_pkey(&v->as.minimal.vtable, usages);
}

static const br_x509_class dnstap__verify_class = {
    sizeof(dnstap__tls_verifier), dnstap__verify_start_chain, dnstap__verify_start_cert,
    dnstap__verify_append,        dnstap__verify_end_cert,    dnstap__verify_end_chain,
    dnstap__verify_get_pkey};

/* The class for skipverify reads the leaf's key, and nothing else. */
static void dnstap__skip_start_chain(const br_x509_class **ctx, const char *name)
{
    dnstap__tls_verifier *v = dnstap__tls_verifier_of(ctx);

    (void)name;
    v->certificates = 0;
    v->key = NULL;
    br_x509_decoder_init(&v->as.decoder, NULL, NULL);
}

static void dnstap__skip_start_cert(const br_x509_class **ctx, uint32_t size)
{
    (void)ctx;
    (void)size;
}

/* A push after an error would write beyond the decoder (BearSSL 0.6): ask before each. */
static void dnstap__skip_append(const br_x509_class **ctx, const unsigned char *data, size_t size)
{
    dnstap__tls_verifier *v = dnstap__tls_verifier_of(ctx);
    int code = br_x509_decoder_last_error(&v->as.decoder);

    if (v->certificates || (code && code != BR_ERR_X509_TRUNCATED)) return;
    br_x509_decoder_push(&v->as.decoder, data, size);
}

static void dnstap__skip_end_cert(const br_x509_class **ctx)
{
    dnstap__tls_verifier_of(ctx)->certificates++;
}

static unsigned dnstap__skip_end_chain(const br_x509_class **ctx)
{
    dnstap__tls_verifier *v = dnstap__tls_verifier_of(ctx);

    if (!v->certificates) return BR_ERR_X509_EMPTY_CHAIN;
    v->key = br_x509_decoder_get_pkey(&v->as.decoder);
    return v->key ? 0 : (unsigned)br_x509_decoder_last_error(&v->as.decoder);
}

static const br_x509_pkey *dnstap__skip_get_pkey(const br_x509_class *const *ctx, unsigned *usages)
{
    const dnstap__tls_verifier *v = (const dnstap__tls_verifier *)(const void *)ctx;

    if (usages) *usages = BR_KEYTYPE_KEYX | BR_KEYTYPE_SIGN;
    return v->key;
}

static const br_x509_class dnstap__skip_class = {
    sizeof(dnstap__tls_verifier), dnstap__skip_start_chain, dnstap__skip_start_cert,
    dnstap__skip_append,          dnstap__skip_end_cert,    dnstap__skip_end_chain,
    dnstap__skip_get_pkey};

/* Brings the anchors that can be used now to the front, and counts them. Those of the user's are
 * left alone. */
static size_t dnstap__tls_choose_anchors(const dnstap__tls_verifier *v)
{
    const dnstap__tls_store *s = v->store;
    const dnstap__tls_fact *f;
    br_x509_trust_anchor swap;
    char now[DNSTAP__STAMP];
    size_t i, n = 0;

    if (v->config->set.anchors) return s->anchor_count;
    dnstap__unix_stamp(v->now, now);
    for (i = 0; i < s->anchor_count; i++) {
        f = dnstap__tls_fact_of(&s->anchors[i]);
        if (f->flaw != DNSTAP__TLS_SOUND && f->flaw != DNSTAP__TLS_NO_CA) continue;
        if (!dnstap__tls_in_time(f, now)) continue;
        swap = s->anchors[n];
        s->anchors[n++] = s->anchors[i];
        s->anchors[i] = swap;
    }
    return n;
}

/* Sets up the class for one handshake of the engine, over the anchors that are loaded now. */
static void dnstap__verify_init(dnstap__tls_verifier *v, br_ssl_engine_context *e)
{
    static const unsigned char dns_name[] = {0, 2};
    const dnstap__tls_store *s = &v->config->store[v->config->current];
    br_x509_minimal_context *m = &v->as.minimal;

    v->store = s;
    v->certificates = 0;
    v->leaf_size = v->last_size = 0;
    v->vtable = v->config->set.skipverify ? &dnstap__skip_class : &dnstap__verify_class;
    br_ssl_engine_set_x509(e, &v->vtable);
    if (v->config->set.skipverify) return;
    br_x509_minimal_init(m, &br_sha256_vtable, s->anchors, dnstap__tls_choose_anchors(v));
    br_x509_minimal_set_hash(m, br_sha256_ID, &br_sha256_vtable);
    br_x509_minimal_set_hash(m, br_sha384_ID, &br_sha384_vtable);
    br_x509_minimal_set_hash(m, br_sha512_ID, &br_sha512_vtable);
    br_x509_minimal_set_rsa(m, br_ssl_engine_get_rsavrfy(e));
    br_x509_minimal_set_ecdsa(m, br_ssl_engine_get_ec(e), br_ssl_engine_get_ecdsa(e));
    br_x509_minimal_set_minrsa(m, DNSTAP__TLS_WEAK);
    br_x509_minimal_set_time(m, (uint32_t)(v->now / 86400 + 719528), (uint32_t)(v->now % 86400));
    v->dns.oid = dns_name;
    v->dns.buf = &v->first;
    v->dns.len = 1;
    br_x509_minimal_set_name_elements(m, &v->dns, 1);
}

/* -- what is said -- */

/* False: that was not why. who: before "certificate". */
static bool dnstap__tls_say_dates(const dnstap__tls_verifier *v, dnstap_error *error,
                                  const char *who, const dnstap__tls_fact *f)
{
    char now[DNSTAP__STAMP], from[11], to[11], clock[11];

    dnstap__unix_stamp(v->now, now);
    if (dnstap__tls_in_time(f, now)) return false;
    dnstap__stamp_day(f->from, from);
    dnstap__stamp_day(f->to, to);
    dnstap__stamp_day(now, clock);
    dnstap__fail(error, DNSTAP_TLS, BR_ERR_X509_EXPIRED,
                 "%scertificate is valid from %s to %s, and the clock says %s; renew it, or set "
                 "the clock",
                 who, from, to, clock);
    return true;
}

/* The dates, if they are those of the peer's own certificate or of an anchor; else they are of one
 * between. */
static void dnstap__tls_say_expired(const dnstap__tls_verifier *v, dnstap_error *error)
{
    const br_x509_trust_anchor *anchor = dnstap__tls_wanted(v, false);
    char clock[DNSTAP__STAMP], day[11];
    dnstap__tls_fact f;
    dnstap__x509 x;

    if (dnstap__tls_leaf_fits(v) && dnstap__x509_open(&x, v->leaf, v->leaf_size)) {
        dnstap__x509_time(&x.validity, f.from);
        dnstap__x509_time(&x.validity, f.to);
        if (dnstap__tls_say_dates(v, error, "", &f)) return;
    }
    if (anchor && dnstap__tls_say_dates(v, error, "the CA's ", dnstap__tls_fact_of(anchor))) return;
    dnstap__unix_stamp(v->now, clock);
    dnstap__stamp_day(clock, day);
    dnstap__fail(error, DNSTAP_TLS, BR_ERR_X509_EXPIRED,
                 "a CA's certificate in the chain is not valid on %s; renew it, or set the clock",
                 day);
}

static void dnstap__tls_say_name(const dnstap__tls_verifier *v, dnstap_error *error)
{
    const dnstap__tls_config *c = v->config;
    char who[DNSTAP__WHO] = "", address[48];
    const char *wanted = c->address_size ? address : c->name;
    dnstap__der bytes;
    dnstap__x509 x;
    bool named = true;

    bytes.at = c->address;
    bytes.end = c->address + c->address_size;
    dnstap__x509_print_address(&bytes, address, sizeof address);
    if (dnstap__tls_leaf_fits(v)) {
        dnstap__x509_who(v->leaf, v->leaf_size, who, sizeof who);
        named = !dnstap__x509_open(&x, v->leaf, v->leaf_size) || x.names.at;
    }
    if (named)
        dnstap__fail(error, DNSTAP_TLS, BR_ERR_X509_BAD_SERVER_NAME,
                     "certificate is for \"%s\", not %s\"%s\"; set options.server_name, or fix "
                     "the certificate",
                     who, c->address_size ? "for the address " : "", wanted);
    else
        dnstap__fail(error, DNSTAP_TLS, BR_ERR_X509_BAD_SERVER_NAME,
                     "certificate has no subjectAltName, and its common name \"%s\" is not looked "
                     "at; issue it with %s:%s",
                     who, c->address_size ? "IP" : "DNS", wanted);
}

/* No anchor has signed, but one may have the name that was looked for. */
static void dnstap__tls_say_unknown_ca(const dnstap__tls_verifier *v, dnstap_error *error)
{
    const dnstap__tls_config *c = v->config;
    const char *ca = c->set.ca_file   ? c->set.ca_file
                     : c->set.anchors ? "options.anchors"
                                      : "options.ca";
    const br_x509_trust_anchor *same = dnstap__tls_wanted(v, false);
    const char *peer = c->set.server ? "client's " : "";

    if (dnstap__tls_wanted(v, true))
        dnstap__fail(error, DNSTAP_TLS, BR_ERR_X509_NOT_TRUSTED,
                     "the %scertificate names its CA, which is in %s, in another type of string; "
                     "issue it with the name as the CA has it",
                     peer, ca);
    else if (same && dnstap__tls_fact_of(same)->flaw)
        dnstap__fail(error, DNSTAP_TLS, BR_ERR_X509_NOT_TRUSTED,
                     "the CA of the %scertificate, in %s, %s; issue it anew", peer, ca,
                     dnstap__tls_flaw_text(dnstap__tls_fact_of(same)->flaw));
    else if (same)
        dnstap__fail(error, DNSTAP_TLS, BR_ERR_X509_NOT_TRUSTED,
                     "the CA of the %scertificate is in %s with another key; put the one there "
                     "that signed",
                     peer, ca);
    else
        dnstap__fail(error, DNSTAP_TLS, BR_ERR_X509_NOT_TRUSTED,
                     "%scertificate is of no CA in %s; add its CA there, or have the peer send "
                     "its whole chain",
                     peer, ca);
}

/* What is to be said of a chain that was refused. False: the code says it all. */
static bool dnstap__tls_say_chain(const dnstap__tls_verifier *v, int code, dnstap_error *error)
{
    if (code == BR_ERR_X509_DN_MISMATCH && dnstap__tls_wanted(v, true))
        code = BR_ERR_X509_NOT_TRUSTED;
    if (code == BR_ERR_X509_EXPIRED)
        dnstap__tls_say_expired(v, error);
    else if (code == BR_ERR_X509_BAD_SERVER_NAME)
        dnstap__tls_say_name(v, error);
    else if (code == BR_ERR_X509_NOT_TRUSTED)
        dnstap__tls_say_unknown_ca(v, error);
    else
        return false;
    return true;
}
#endif

/* ---- >>tls -------------------------------------------------------------------------------- */

/* TLS 1.2 by BearSSL, as a transport over any other. In: a config, a started transport, frames;
 * out: a transport. Nothing waits, nothing allocates: contexts, record buffers and certificates are
 * carved from the tap's block.
 *
 *    frames ──► send: one record is sealed ──► lower.send until its ciphertext is out ──► count
 *    replies ◄── recv: records are opened ◄── lower.recv
 *
 * Always: no byte of the user's goes out before the peer is verified; what the peer sends is never
 * trusted to be well formed; every failure leaves a text in `error`. */
#if DNSTAP__HAS_TLS
typedef enum dnstap__tls_state {
    DNSTAP__TLS_IDLE,      /* before start, after close */
    DNSTAP__TLS_HANDSHAKE, /* records go both ways until both sides are satisfied */
    DNSTAP__TLS_REFUSING,  /* our alert goes out */
    DNSTAP__TLS_DRAINING,  /* what the peer still sends is read, else it may never see the alert */
    DNSTAP__TLS_OPEN,      /* data flows */
    DNSTAP__TLS_CLOSING,   /* our close_notify goes out, the peer's is awaited */
    DNSTAP__TLS_CLOSED,    /* both were seen */
    DNSTAP__TLS_CUT,       /* the peer ended without one */
    DNSTAP__TLS_FAILED
} dnstap__tls_state;

typedef struct dnstap__tls {
    const dnstap__tls_config *config;
    dnstap_transport lower;
    dnstap__tls_state state;
    bool partial; /* a record is partly with the lower transport */
    int store;    /* of the config, that the handshake uses */
    size_t taken; /* bytes of the peer's handshake so far: what costs is done with each piece */
    uint8_t *input, *output;
    size_t input_size, output_size;
    size_t sealed; /* bytes of the caller's in the record that goes out */
    size_t step;   /* of REFUSING and DRAINING: bytes of it done */
    uint8_t alert[7];
    dnstap_error error;
    br_ssl_engine_context *engine; /* of ssl */
    union {
        br_ssl_client_context client;
        br_ssl_server_context server;
    } ssl;
    dnstap__tls_verifier verifier;
} dnstap__tls;

/* Carves a connection and its buffers; NULL while the arena only adds up. */
static dnstap__tls *dnstap__tls_carve(dnstap__arena *a, const dnstap__tls_settings *o)
{
    dnstap__tls *t = (dnstap__tls *)dnstap__take(a, sizeof(dnstap__tls), 8);
    uint8_t *input, *output;
    size_t in, out;

    dnstap__tls_sizes(o, &in, &out);
    input = (uint8_t *)dnstap__take(a, in, 8);
    output = (uint8_t *)(out ? dnstap__take(a, out, 8) : NULL);
    if (!a->base || a->overflow) return NULL;
    memset(t, 0, sizeof *t);
    t->input = input;
    t->input_size = in;
    t->output = output;
    t->output_size = out;
    return t;
}

/* Texts tell cause and way out; the tap puts the endpoint before them. All return DNSTAP_TLS. */
static int dnstap__tls_say(dnstap__tls *t, int code, const char *text)
{
    return dnstap__fail(&t->error, DNSTAP_TLS, code, "%s", text);
}

static int dnstap__tls_say_code(dnstap__tls *t, int code)
{
    bool late = t->state == DNSTAP__TLS_OPEN || t->state == DNSTAP__TLS_CLOSING;
    const char *text = late ? dnstap__tls_late_text_of(code) : dnstap__tls_text_of(code);

    if (dnstap__tls_say_chain(&t->verifier, code, &t->error)) return DNSTAP_TLS;
    if (code >= BR_ERR_RECV_FATAL_ALERT && code < BR_ERR_SEND_FATAL_ALERT)
        return dnstap__fail(&t->error, DNSTAP_TLS, code, "%s (alert %d)", text,
                            code - BR_ERR_RECV_FATAL_ALERT);
    return dnstap__fail(&t->error, DNSTAP_TLS, code, "%s (TLS error %d)", text, code);
}

static int dnstap__tls_fail(dnstap__tls *t, int code)
{
    (void)dnstap__tls_say_code(t, code);
    t->state = DNSTAP__TLS_FAILED;
    return DNSTAP_TLS;
}

/* The transport below failed: its text becomes ours, its result too. */
static int dnstap__tls_fail_lower(dnstap__tls *t, int result)
{
    const char *text = t->lower.error ? (t->lower.error)(t->lower.self) : dnstap_strerror(result);
    bool early = t->state == DNSTAP__TLS_HANDSHAKE;

    t->state = DNSTAP__TLS_FAILED;
    return dnstap__fail(&t->error, result, DNSTAP__TLS_LOWER, "%s%s", text,
                        early ? " (in the TLS handshake)" : "");
}

/* -- setting up -- */

/* AES in hardware is several times as fast as ChaCha20, which is several times as fast as AES in
 * software. */
static bool dnstap__tls_fast_aes(void)
{
    return (br_aes_x86ni_ctr_get_vtable() && br_ghash_pclmul_get()) ||
           (br_aes_pwr8_ctr_get_vtable() && br_ghash_pwr8_get());
}

static void dnstap__tls_set_suites(br_ssl_engine_context *e)
{
    static const uint16_t suites[] = {BR_TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
                                      BR_TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
                                      BR_TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
                                      BR_TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
                                      BR_TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
                                      BR_TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
                                      BR_TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
                                      BR_TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256};

    br_ssl_engine_set_suites(e, suites + (dnstap__tls_fast_aes() ? 2 : 0), 6);
}

/* The engine derives the fragment length from the smaller buffer and asks the peer to keep to it;
 * with a small buffer for input it would also send small records. We receive a few bytes only, so
 * then nothing is asked for, and what goes out is as large as its buffer allows. */
static void dnstap__tls_set_buffers(dnstap__tls *t, br_ssl_engine_context *e)
{
    size_t largest = 16384;

    if (!t->output_size) {
        br_ssl_engine_set_buffers_bidi(e, t->input, t->input_size, NULL, 0);
        return;
    }
    br_ssl_engine_set_buffers_bidi(e, t->input, t->input_size, t->output, t->output_size);
    while (largest + DNSTAP__TLS_OVERHEAD_OUT > t->output_size) largest /= 2;
    if (largest <= e->max_frag_len) return;
    e->max_frag_len = (uint16_t)largest;
    e->log_max_frag_len = 14;
}

/* Measured: the portable ChaCha20, which compilers vectorise, is twice as fast as that for SSE2. */
static void dnstap__tls_set_engine(dnstap__tls *t, br_ssl_engine_context *e)
{
    br_ssl_engine_set_versions(e, BR_TLS12, BR_TLS12);
    dnstap__tls_set_suites(e);
    br_ssl_engine_set_hash(e, br_sha256_ID, &br_sha256_vtable);
    br_ssl_engine_set_hash(e, br_sha384_ID, &br_sha384_vtable);
    br_ssl_engine_set_hash(e, br_sha512_ID, &br_sha512_vtable);
    br_ssl_engine_set_prf_sha256(e, &br_tls12_sha256_prf);
    br_ssl_engine_set_prf_sha384(e, &br_tls12_sha384_prf);
    br_ssl_engine_set_default_rsavrfy(e);
    br_ssl_engine_set_default_ecdsa(e);
    br_ssl_engine_set_default_aes_gcm(e);
    br_ssl_engine_set_default_chapol(e);
    br_ssl_engine_set_chacha20(e, &br_chacha20_ct_run);
    br_ssl_engine_set_all_flags(e, BR_OPT_NO_RENEGOTIATION);
    dnstap__tls_set_buffers(t, e);
}

static void dnstap__tls_set_client(dnstap__tls *t)
{
    const dnstap__tls_store *s = &t->config->store[t->config->current];
    br_ssl_client_context *client = &t->ssl.client;

    br_ssl_client_zero(client);
    t->engine = &client->eng;
    dnstap__tls_set_engine(t, t->engine);
    br_ssl_client_set_default_rsapub(client);
    dnstap__verify_init(&t->verifier, t->engine);
    if (s->key_type == BR_KEYTYPE_RSA)
        br_ssl_client_set_single_rsa(client, s->chain, s->chain_count, &s->key.rsa,
                                     br_rsa_pkcs1_sign_get_default());
    if (s->key_type == BR_KEYTYPE_EC)
        br_ssl_client_set_single_ec(client, s->chain, s->chain_count, &s->key.ec, BR_KEYTYPE_SIGN,
                                    0, br_ec_get_default(), br_ecdsa_sign_asn1_get_default());
}

/* No session cache: a resumed session would skip the client's certificate. All CAs are named, those
 * that can't be used now, too: without a name BearSSL would ask for no certificate. */
static void dnstap__tls_set_server(dnstap__tls *t)
{
    const dnstap__tls_store *s = &t->config->store[t->config->current];
    br_ssl_server_context *server = &t->ssl.server;

    br_ssl_server_zero(server);
    t->engine = &server->eng;
    dnstap__tls_set_engine(t, t->engine);
    br_ssl_engine_add_flags(t->engine, BR_OPT_ENFORCE_SERVER_PREFERENCES);
    if (s->key_type == BR_KEYTYPE_RSA)
        br_ssl_server_set_single_rsa(server, s->chain, s->chain_count, &s->key.rsa, BR_KEYTYPE_SIGN,
                                     br_rsa_private_get_default(), br_rsa_pkcs1_sign_get_default());
    else
        br_ssl_server_set_single_ec(server, s->chain, s->chain_count, &s->key.ec, BR_KEYTYPE_SIGN,
                                    0, br_ec_get_default(), br_ecdsa_sign_asn1_get_default());
    if (!dnstap__tls_verifies(&t->config->set)) return;
    dnstap__verify_init(&t->verifier, t->engine);
    br_ssl_server_set_trust_anchor_names_alt(server, s->anchors, s->anchor_count);
}

/* Sets all up and begins the handshake. Everything is new for each connection. */
static int dnstap__tls_begin(dnstap__tls *t)
{
    const dnstap__tls_config *c = t->config;
    const dnstap__tls_settings *o = &c->set;
    uint8_t seed[32];
    int ok;

    memset(&t->error, 0, sizeof t->error);
    t->sealed = 0;
    t->step = 0;
    t->taken = 0;
    t->store = c->current;
    t->partial = false;
    t->verifier.now = (o->unix_time ? o->unix_time : dnstap__unix_time)(o->user);
    if (!t->verifier.now && dnstap__tls_verifies(o))
        return dnstap__tls_fail(t, BR_ERR_X509_TIME_UNKNOWN);
    if (!(o->entropy ? o->entropy : dnstap__entropy)(o->user, seed, sizeof seed))
        return dnstap__tls_fail(t, BR_ERR_NO_RANDOM);
    if (c->set.server)
        dnstap__tls_set_server(t);
    else
        dnstap__tls_set_client(t);
    br_ssl_engine_inject_entropy(t->engine, seed, sizeof seed);
    dnstap__wipe(seed, sizeof seed);
    ok = c->set.server ? br_ssl_server_reset(&t->ssl.server)
                       : br_ssl_client_reset(&t->ssl.client, c->name[0] ? c->name : NULL, 0);
    if (!ok) return dnstap__tls_fail(t, br_ssl_engine_last_error(t->engine));
    t->state = DNSTAP__TLS_HANDSHAKE;
    return DNSTAP_OK;
}

/* -- moving records -- */

static bool dnstap__tls_can(const dnstap__tls *t, unsigned what)
{
    return (br_ssl_engine_current_state(t->engine) & what) != 0;
}

/* Hands ciphertext to the lower transport until there is none, or it takes no more. */
static int dnstap__tls_push(dnstap__tls *t, short *wants)
{
    unsigned char *data;
    size_t size;
    short want = 0;
    long n;

    while (dnstap__tls_can(t, BR_SSL_SENDREC)) {
        data = br_ssl_engine_sendrec_buf(t->engine, &size);
        n = (t->lower.send)(t->lower.self, data, size, &want);
        if (n == DNSTAP_AGAIN) *wants = (short)(*wants | want);
        if (n <= 0) return n ? (int)n : DNSTAP_AGAIN;
        t->partial = (size_t)n < size;
        br_ssl_engine_sendrec_ack(t->engine, (size_t)n);
    }
    return DNSTAP_OK;
}

/* Reads at most `most` bytes of the record that comes in. Returns how many, DNSTAP_END or less. */
static long dnstap__tls_pull(dnstap__tls *t, size_t most, short *wants)
{
    unsigned char *data;
    size_t size;
    short want = 0;
    long n;

    data = br_ssl_engine_recvrec_buf(t->engine, &size);
    n = (t->lower.recv)(t->lower.self, data, dnstap__min(size, most), &want);
    if (n == DNSTAP_AGAIN) *wants = (short)(*wants | want);
    if (n > 0) br_ssl_engine_recvrec_ack(t->engine, (size_t)n);
    return n;
}

/* -- refusing: the peer shall know why -- */

/* RFC 5246, 7.2.2. */
static uint8_t dnstap__tls_alert_for(int code)
{
    if (code == BR_ERR_X509_EXPIRED) return BR_ALERT_CERTIFICATE_EXPIRED;
    if (code == BR_ERR_X509_NOT_TRUSTED) return BR_ALERT_UNKNOWN_CA;
    if (code > BR_ERR_X509_OK && code <= BR_ERR_X509_NOT_TRUSTED) return BR_ALERT_BAD_CERTIFICATE;
    if (code == DNSTAP__TLS_LEAF_TOO_LARGE || code == DNSTAP__TLS_TOO_DEEP ||
        code == DNSTAP__TLS_NOT_CLIENTS)
        return BR_ALERT_BAD_CERTIFICATE;
    return BR_ALERT_HANDSHAKE_FAILURE;
}

/* BearSSL sends no alert when it refuses a certificate. Before our ChangeCipherSpec what we send is
 * in clear, so then we can: a record of its own, if no other is half out. */
static int dnstap__tls_refuse(dnstap__tls *t, int code)
{
    static const uint8_t alert[] = {21, 3, 3, 0, 2, 2};
    bool clear = t->engine->out.vtable == &br_sslrec_out_clear_vtable && !t->partial;

    (void)dnstap__tls_say_code(t, code);
    t->step = 0;
    memcpy(t->alert, alert, sizeof alert);
    t->alert[6] = dnstap__tls_alert_for(code);
    t->state = DNSTAP__TLS_FAILED;
    if (code >= BR_ERR_SEND_FATAL_ALERT) t->state = DNSTAP__TLS_DRAINING; /* it has sent one */
    if (clear && (code < BR_ERR_RECV_FATAL_ALERT || code > DNSTAP__TLS_EOF))
        t->state = DNSTAP__TLS_REFUSING;
    return DNSTAP_TLS;
}

#if DNSTAP__HAS_SOCKETS
static void dnstap__tls_stop_writing(int fd)
{
    if (fd >= 0) (void)shutdown(fd, SHUT_WR);
}
#else
static void dnstap__tls_stop_writing(int fd) { (void)fd; }
#endif

static int dnstap__tls_fd(void *self)
{
    dnstap__tls *t = (dnstap__tls *)self;

    return t->lower.fd ? (t->lower.fd)(t->lower.self) : -1;
}

/* Reads and forgets until the peer ends: closing with bytes unread would reset the connection, and
 * the alert with it. Returns DNSTAP_AGAIN, or the failure that was noted by refuse. */
static int dnstap__tls_drain(dnstap__tls *t, short *wants)
{
    short want = 0;
    long n = 1;

    if (!t->step && t->lower.shut && (t->lower.shut)(t->lower.self, &want) == DNSTAP_AGAIN) {
        *wants = (short)(*wants | want);
        return DNSTAP_AGAIN;
    }
    if (!t->step && !t->lower.shut) dnstap__tls_stop_writing(dnstap__tls_fd(t));
    for (t->step++; n > 0 && t->step<DNSTAP__TLS_DRAIN; t->step += n> 0 ? (size_t)n : 0)
        n = (t->lower.recv)(t->lower.self, t->input, t->input_size, &want);
    *wants = (short)(*wants | want);
    if (n == DNSTAP_AGAIN) return DNSTAP_AGAIN;
    t->state = DNSTAP__TLS_FAILED;
    return DNSTAP_TLS;
}

static int dnstap__tls_send_alert(dnstap__tls *t, short *wants)
{
    long n = 0;

    while (t->step < sizeof t->alert) {
        n = (t->lower.send)(t->lower.self, t->alert + t->step, sizeof t->alert - t->step, wants);
        if (n == DNSTAP_AGAIN) return DNSTAP_AGAIN;
        if (n <= 0) break;
        t->step += (size_t)n;
    }
    t->step = 0;
    t->state = DNSTAP__TLS_DRAINING;
    return dnstap__tls_drain(t, wants);
}

/* -- the transport -- */

/* One step takes at most one piece of the peer's bytes, so that it is a signature or a key exchange
 * long, or one of each. It asks to be called again when more may be there. A peer that refuses us
 * closes: its alert is looked for even when we can't send any more. */
static int dnstap__tls_handshake(dnstap__tls *t, short *wants)
{
    int pushed = dnstap__tls_push(t, wants);
    long n = 0;

    if (dnstap__tls_can(t, BR_SSL_RECVREC)) {
        n = dnstap__tls_pull(t, DNSTAP__TLS_STEP, wants);
        if (n > 0) t->taken += (size_t)n;
        if (n > 0 && pushed == DNSTAP_OK) pushed = dnstap__tls_push(t, wants);
    }
    if (dnstap__tls_can(t, BR_SSL_CLOSED) && br_ssl_engine_last_error(t->engine))
        return dnstap__tls_refuse(t, br_ssl_engine_last_error(t->engine));
    if (n == DNSTAP_END || dnstap__tls_can(t, BR_SSL_CLOSED)) {
        t->state = DNSTAP__TLS_CUT;
        return dnstap__tls_say(
            t, DNSTAP__TLS_EOF,
            "peer closed the connection in the TLS handshake; its log may say why");
    }
    if (pushed < 0 && pushed != DNSTAP_AGAIN) return dnstap__tls_fail_lower(t, pushed);
    if (n < 0 && n != DNSTAP_AGAIN) return dnstap__tls_fail_lower(t, (int)n);
    if (dnstap__tls_can(t, BR_SSL_SENDAPP | BR_SSL_RECVAPP)) {
        t->state = DNSTAP__TLS_OPEN;
        return DNSTAP_OK;
    }
    if (n > 0) *wants = (short)(*wants | DNSTAP_POLLIN);
    return DNSTAP_AGAIN;
}

static int dnstap__tls_start(void *self, short *wants)
{
    dnstap__tls *t = (dnstap__tls *)self;
    int result;

    *wants = 0;
    if (t->state == DNSTAP__TLS_IDLE) {
        result = dnstap__tls_begin(t);
        if (result < 0) return result;
    }
    result = t->state == DNSTAP__TLS_OPEN ? DNSTAP_OK : DNSTAP_TLS;
    if (t->state == DNSTAP__TLS_HANDSHAKE) result = dnstap__tls_handshake(t, wants);
    if (t->state == DNSTAP__TLS_REFUSING) return dnstap__tls_send_alert(t, wants);
    if (t->state == DNSTAP__TLS_DRAINING) return dnstap__tls_drain(t, wants);
    return result;
}

/* The engine has ended: in order, or with an error. */
static int dnstap__tls_ended(dnstap__tls *t)
{
    int code = br_ssl_engine_last_error(t->engine);

    if (code) return dnstap__tls_fail(t, code);
    t->state = DNSTAP__TLS_CLOSED;
    return DNSTAP_END;
}

/* Before and after the time for data. */
static int dnstap__tls_not_open(dnstap__tls *t)
{
    if (t->state == DNSTAP__TLS_CLOSED) return DNSTAP_END;
    return t->error.code ? t->error.code : DNSTAP_TLS;
}

/* A failure below, unless the peer has said goodbye and just did not wait for our answer. */
static int dnstap__tls_broken(dnstap__tls *t, int result)
{
    if (!t->engine->shutdown_recv) return dnstap__tls_fail_lower(t, result);
    t->state = DNSTAP__TLS_CLOSED;
    return DNSTAP_END;
}

/* Seals at most one record. Returns its plain size once all of its ciphertext is out; until then
 * DNSTAP_AGAIN, to be called with the same bytes. */
static long dnstap__tls_send(void *self, const void *data, size_t size, short *wants)
{
    dnstap__tls *t = (dnstap__tls *)self;
    unsigned char *room;
    size_t n;
    int pushed;

    *wants = 0;
    if (t->state != DNSTAP__TLS_OPEN) return dnstap__tls_not_open(t);
    pushed = dnstap__tls_push(t, wants);
    if (!t->sealed && pushed == DNSTAP_OK) {
        room = br_ssl_engine_sendapp_buf(t->engine, &n);
        if (!room && dnstap__tls_can(t, BR_SSL_CLOSED)) return dnstap__tls_ended(t);
        if (!room) { /* with a shared buffer: what comes in goes first */
            *wants = DNSTAP_POLLIN;
            return DNSTAP_AGAIN;
        }
        t->sealed = dnstap__min(n, size);
        memcpy(room, data, t->sealed);
        br_ssl_engine_sendapp_ack(t->engine, t->sealed);
        br_ssl_engine_flush(t->engine, 0);
        pushed = dnstap__tls_push(t, wants);
    }
    if (pushed == DNSTAP_AGAIN) return DNSTAP_AGAIN;
    if (pushed < 0) return dnstap__tls_broken(t, pushed);
    n = t->sealed;
    t->sealed = 0;
    return (long)n;
}

/* Opens records until one has data; bytes are copied out, at most size. */
static long dnstap__tls_recv(void *self, void *data, size_t size, short *wants)
{
    dnstap__tls *t = (dnstap__tls *)self;
    unsigned char *have;
    size_t n;
    long pulled;
    int pushed, rounds;

    *wants = 0;
    if (t->state != DNSTAP__TLS_OPEN) return dnstap__tls_not_open(t);
    for (rounds = 0; rounds < 8; rounds++) { /* a peer that sends empty records gets no more */
        have = br_ssl_engine_recvapp_buf(t->engine, &n);
        if (have) {
            n = dnstap__min(n, size);
            memcpy(data, have, n);
            br_ssl_engine_recvapp_ack(t->engine, n);
            return (long)n;
        }
        *wants = 0;
        pushed = dnstap__tls_push(t, wants);
        if (dnstap__tls_can(t, BR_SSL_CLOSED)) return dnstap__tls_ended(t);
        if (pushed < 0 && pushed != DNSTAP_AGAIN) return dnstap__tls_broken(t, pushed);
        if (!dnstap__tls_can(t, BR_SSL_RECVREC)) return DNSTAP_AGAIN;
        pulled = dnstap__tls_pull(t, t->input_size, wants);
        if (pulled == DNSTAP_AGAIN) return DNSTAP_AGAIN;
        if (pulled == DNSTAP_END) {
            (void)dnstap__tls_fail(t, DNSTAP__TLS_EOF);
            t->state = DNSTAP__TLS_CUT;
            return t->error.code;
        }
        if (pulled < 0) return dnstap__tls_fail_lower(t, (int)pulled);
    }
    *wants = DNSTAP_POLLIN;
    return DNSTAP_AGAIN;
}

/* BearSSL 0.6 keeps unread data at a close and then waits for ever: it is dropped first. */
static void dnstap__tls_goodbye(dnstap__tls *t)
{
    size_t n;

    while (br_ssl_engine_recvapp_buf(t->engine, &n)) br_ssl_engine_recvapp_ack(t->engine, n);
    br_ssl_engine_close(t->engine);
    t->state = DNSTAP__TLS_CLOSING;
}

/* close_notify both ways. DNSTAP_OK, too, when the peer just closes; else DNSTAP_AGAIN. */
static int dnstap__tls_shut(void *self, short *wants)
{
    dnstap__tls *t = (dnstap__tls *)self;
    int pushed, rounds;
    long n;

    *wants = 0;
    if (t->state == DNSTAP__TLS_OPEN) dnstap__tls_goodbye(t);
    for (rounds = 0; t->state == DNSTAP__TLS_CLOSING && rounds < 64; rounds++) {
        *wants = 0;
        pushed = dnstap__tls_push(t, wants);
        if (dnstap__tls_can(t, BR_SSL_CLOSED)) {
            n = dnstap__tls_ended(t);
            return n == DNSTAP_END ? DNSTAP_OK : (int)n;
        }
        if (pushed < 0 && pushed != DNSTAP_AGAIN) return dnstap__tls_fail_lower(t, pushed);
        if (!dnstap__tls_can(t, BR_SSL_RECVREC)) return DNSTAP_AGAIN;
        n = dnstap__tls_pull(t, t->input_size, wants);
        if (n == DNSTAP_AGAIN) return DNSTAP_AGAIN;
        if (n == DNSTAP_END) t->state = DNSTAP__TLS_CUT; /* many peers just close */
        if (n < 0 && n != DNSTAP_END) return dnstap__tls_fail_lower(t, (int)n);
    }
    if (t->state != DNSTAP__TLS_CLOSING) return DNSTAP_OK;
    *wants = DNSTAP_POLLIN;
    return DNSTAP_AGAIN;
}

static void dnstap__tls_close(void *self)
{
    dnstap__tls *t = (dnstap__tls *)self;

    t->state = DNSTAP__TLS_IDLE;
    dnstap__wipe(&t->ssl, sizeof t->ssl);
    (t->lower.close)(t->lower.self);
}

/* At a deadline: what was under way then. */
static const char *dnstap__tls_error(void *self)
{
    dnstap__tls *t = (dnstap__tls *)self;

    if (!t->error.text[0] && t->state == DNSTAP__TLS_HANDSHAKE)
        (void)dnstap__tls_say(t, 0, "no answer to the TLS handshake; is that a TLS port?");
    if (!t->error.text[0] && t->state == DNSTAP__TLS_CLOSING)
        (void)dnstap__tls_say(t, 0, "peer did not end the TLS connection in time");
    return t->error.text;
}

/* Of the peer's certificate, when it was verified: its common name, else what else it is for. */
static void dnstap__tls_subject(const dnstap__tls *t, char *out, size_t size)
{
    const dnstap__tls_verifier *v = &t->verifier;
    char who[DNSTAP__WHO] = "";
    dnstap__x509 x;

    if (dnstap__tls_verifies(&t->config->set) && dnstap__tls_leaf_fits(v) &&
        dnstap__x509_open(&x, v->leaf, v->leaf_size)) {
        dnstap__x509_common_name(x.subject, who, sizeof who);
        if (!who[0]) dnstap__x509_who(v->leaf, v->leaf_size, who, sizeof who);
    }
    dnstap__print(out, size, "%s", who);
}

/* A connection by c over lower, which is started before and closed by this one's close. */
static void dnstap__tls_init(dnstap__tls *t, const dnstap__tls_config *c,
                             const dnstap_transport *lower)
{
    t->config = t->verifier.config = c;
    t->lower = *lower;
    t->state = DNSTAP__TLS_IDLE;
    t->taken = 0;
}

static dnstap_transport dnstap__tls_transport(dnstap__tls *t)
{
    dnstap_transport transport;

    transport.self = t;
    transport.start = dnstap__tls_start;
    transport.send = dnstap__tls_send;
    transport.recv = dnstap__tls_recv;
    transport.shut = dnstap__tls_shut;
    transport.close = dnstap__tls_close;
    transport.fd = dnstap__tls_fd;
    transport.error = dnstap__tls_error;
    return transport;
}
#endif

/* ---- >>tap -------------------------------------------------------------------------------- */

/* What a tap is made of, and its states. Producers, any thread, share with the service only the
 * rings and a few words; the service, one thread at a time, has the rest. In: options; out: the
 * structs, the table of states, and the one function that changes them. Always: a link is inside a
 * frame of at most one ring, `current`, `done` bytes past its tail, and everything before a tail is
 * in the kernel whole; a link that breaks sets done to 0, so that the next one starts with the
 * first frame that was not sent whole. */
enum { DNSTAP__ALIGN = DNSTAP_CACHE_LINE > 16 ? 64 : 16, DNSTAP__SPINS = 1000, DNSTAP__TURNS = 64 };
enum { DNSTAP__BACKOFF_MIN = 100, DNSTAP__BACKOFF_MAX = 10000 };
enum { DNSTAP__REPORT_MS = 10000, DNSTAP__STEADY_MS = 1000, DNSTAP__LONGEST_MS = 1000 };
enum { DNSTAP__STILL_TURNS = 1000000, DNSTAP__CHATTER = 65536, DNSTAP__ACCEPTS = 64 };
enum { DNSTAP__LINES = 20, DNSTAP__ANY = DNSTAP_POLLIN | DNSTAP_POLLOUT };
enum { DNSTAP__BUDGET = 262144, DNSTAP__LOOK_MS = 100, DNSTAP__RUSH = 4 };
enum {
    DNSTAP__MARK = 32768,
    DNSTAP__MARK_MAX = 131072,
    DNSTAP__DENSE = 81920,
    DNSTAP__PACE_MS = 8
};

/* What the service does: values of `sleep`, which producers see, and of `rest`, its own view. */
enum { DNSTAP__AWAKE, DNSTAP__NAP, DNSTAP__ROUND, DNSTAP__LONG };

/* What a state's function returns when it did not fail: there is nothing to do until something
 * happens, or there is more to do now. */
enum { DNSTAP__WAIT = 0, DNSTAP__GO = 1 };

#if !DNSTAP__HAS_TLS
typedef struct dnstap__tls_config dnstap__tls_config;
typedef struct dnstap__tls dnstap__tls;
#endif

/* Where a link is in a ring: before `at`, a frame's edge, all is in its kernel. `frames` were
 * recorded in this ring before it. */
typedef struct dnstap__cursor {
    size_t at, frames;
} dnstap__cursor;

/* One connection: to a sink, or into a file. It knows nothing of how it came about. */
typedef struct dnstap__link {
    dnstap_tap *tap;
    dnstap__cursor *cursors; /* for each ring */
    dnstap_state state;
    uint64_t since;       /* it is in this state */
    uint64_t stuck;       /* STARTED: since when the transport takes nothing; 0: it takes */
    short events;         /* what the transport waits for */
    short ready;          /* what poll has found for it, until it is looked at */
    short watched_events; /* what a foreign loop was told, and of which descriptor; -1: none */
    int watched;
    size_t current, done;              /* see above */
    size_t taken;                      /* bytes that the transport took, ever */
    size_t refused;                    /* bytes past the cursor that it did not take last time */
    dnstap_transport lower, transport; /* the same, but for TLS */
    dnstap_frame_writer writer;
    dnstap__medium medium;
    dnstap__tls *tls; /* NULL: without TLS */
    /* of one that was accepted */
    size_t chatter;    /* bytes that came after START */
    size_t from;       /* frames that were recorded in all rings before it started */
    dnstap_peer *peer; /* what is shown of it; NULL: it was not accepted */
} dnstap__link;

/* What links come from that were accepted. */
typedef struct dnstap__reception {
    dnstap__listener listener;
    uint64_t pause;         /* no descriptors are left: accept again then; 0: none */
    short ready;            /* what poll has found for the listener */
    int watched;            /* by a foreign loop; -1: not */
    uint32_t numbers, turn; /* connections so far; the link that goes first in the next turn */
    uint32_t next;          /* the link that sends first: behind the one that used up a budget */
    uint32_t lines;         /* logged of sinks lately */
    uint64_t quiet_until;   /* their end */
    unsigned steps;         /* handshakes that may cost something in this call */
} dnstap__reception;

/* What opens a link, again and again. */
typedef struct dnstap__dialler {
    dnstap__names names;
    uint64_t retry_at; /* the end of BROKEN */
    unsigned backoff;  /* ms */
    unsigned outage;   /* failures since the last connection */
    uint32_t random;
} dnstap__dialler;

/* Producers count in words, which wrap on small machines: here the sums over all rings go on in 64
 * bits. They are brought up to date often enough that no word wraps twice. */
enum {
    DNSTAP__OUT,
    DNSTAP__RECORDED,
    DNSTAP__UNWANTED,
    DNSTAP__NO_SINK,
    DNSTAP__LOST_FULL,
    DNSTAP__LOST_LARGE,
    DNSTAP__LOST_BUSY,
    DNSTAP__LOST_BAD,
    DNSTAP__LOST_DISCONNECTED,
    DNSTAP__COUNTERS
};
typedef struct dnstap__books {
    uint64_t total[DNSTAP__COUNTERS];
    size_t seen[DNSTAP__COUNTERS]; /* the sums as they were */
} dnstap__books;

/* What others ask of the service. */
typedef struct dnstap__requests {
    size_t close, hurry;
    uint64_t lost;           /* by sinks of a listening tap, before the close was asked for */
    size_t reopen, reopened; /* reopens asked for; those of them that are done */
    uint64_t close_at;
} dnstap__requests;

struct dnstap_tap {
    /* what producers read */
    size_t wants;  /* bit per message type; 0: log nothing */
    size_t direct; /* those logged without more ado: none with a template, filters beyond types */
    size_t sleep;  /* DNSTAP__AWAKE or not */
    size_t max_message;
    uint32_t producers, ring_count; /* behind the producers' rings comes the shared one */
    dnstap__ring *rings;
    dnstap__fixed fixed;
    dnstap__extra extra;
    dnstap__filter *filter; /* NULL: none; see DNSTAP__FILTER */
    size_t enabled, heard;  /* by dnstap_set_enabled; by a sink */
    size_t poller;          /* the thread that polls, or whose loop has the timer */
    size_t calls;           /* wake-up calls made */
    size_t losses;          /* something was dropped since the last report */
    size_t skew;            /* ms by which the clock went back, or stood still */
    dnstap__key key;
    dnstap__requests asked;
    /* the service's own */
    dnstap_options options;
    dnstap__target target;
    dnstap__dialler dial;
    dnstap__reception desk;
    struct pollfd *fds;  /* for the tap's own waits */
    dnstap__link *links; /* of a connecting tap one, of a listening one max_sinks + max_pending */
    uint32_t link_count;
    dnstap__tls_config *tls_config; /* NULL: without TLS */
    dnstap__waker waker;
    dnstap__thread thread;
    int rest;
    uint64_t now, flush_at, report_at, count_at, look_at, reported;
    uint64_t paced_at; /* since when streams are paced; 0: there is a pause */
    size_t calls_seen;
    uint64_t due_at;      /* when a turn is due if nothing happens; 0: not known */
    uint64_t rush_ms;     /* turns of a loop that all logged something, within this millisecond: */
    size_t rush, rush_at; /* how many, and the bytes logged up to the last one */
    int polled;           /* descriptors that poll was to look at; -1: none, nor to wait */
    size_t reopening;     /* reopens that were taken up */
    size_t budget;        /* bytes that this turn may still send */
    size_t opener, owner; /* processes: that opened it; that started or serviced it, 0: none yet */
    dnstap__mutex lock;   /* of `shown`, `books`, and what decides `wants`: held for a copy only */
    dnstap__books books;
    dnstap_status shown;
    dnstap_tap *next;    /* of all taps of the process */
    size_t *told;        /* where a group reads `wants`, too; NULL: nowhere */
    bool grouped;        /* a group tells the foreign loop's timer */
    dnstap__block block; /* all of this */
};

/* Whether it waits for sinks, or tells a loop what to wait for; where a build has none that do, the
 * compiler leaves out what only they need, and the loops over a tap's one link. */
#define DNSTAP__LISTENING_TAP(tap) (DNSTAP__HAS_LISTEN && (tap)->options.listen)
#define DNSTAP__LOOP_HOOK(tap, hook) (DNSTAP__HAS_LOOP && (tap)->options.hook)
#define DNSTAP__LINK_COUNT(tap) (DNSTAP__HAS_LISTEN ? (tap)->link_count : 1u)
/* NULL, too, where a build has none. */
#define DNSTAP__FILTER(tap) (DNSTAP__HAS_FILTER ? (tap)->filter : NULL)

/* The states of a link: what holds in them, how long they last (T: options.timeout_ms, then
 * dnstap__give_up), and which function leads where. Any but IDLE, FINISHED and BROKEN breaks to
 * BROKEN, or, when a name has a further address and the connection had not begun, to CONNECTING.
 *
 *   state       holds                                     lasts     leads to
 *   IDLE        nothing is open, but a file               no time   in_idle: RESOLVING, CONNECTING
 *   RESOLVING   the name's look-up, with its descriptor   T         in_resolving: CONNECTING
 *   CONNECTING  lower, which starts                       T         in_connecting: SECURING
 *   SECURING    lower is up; TLS over it starts           T         in_securing: GREETING
 *   GREETING    transport is up; the writer sends READY,  T         in_greeting: STARTED
 *               gets ACCEPT, sends START
 *   STARTED     the writer is in DATA; rings may be       for ever  in_started: STOPPING
 *               armed
 *   STOPPING    no frame is half out; STOP, FINISH        T         in_stopping: SHUTTING
 *   SHUTTING    the transport's orderly end (TLS's)       T         in_shutting: FINISHED
 *   FINISHED    nothing is open                           no time   in_finished: IDLE, not at close
 *   BROKEN      nothing is open, but a file that keeps    retry_at  in_broken: IDLE
 *
 * A link that is accepted goes from IDLE, a free place, to SECURING (dnstap__welcome), breaks when
 * STARTED lasts T without the sink taking anything, and is free again at FINISHED or BROKEN. */
#define DNSTAP__TO(state) (1u << (state))
static const uint16_t dnstap__ways[DNSTAP_STATE_COUNT] = {
    /* IDLE */ DNSTAP__TO(DNSTAP_RESOLVING) | DNSTAP__TO(DNSTAP_CONNECTING) |
        DNSTAP__TO(DNSTAP_SECURING),
    /* RESOLVING */ DNSTAP__TO(DNSTAP_CONNECTING) | DNSTAP__TO(DNSTAP_BROKEN),
    /* CONNECTING */ DNSTAP__TO(DNSTAP_CONNECTING) | DNSTAP__TO(DNSTAP_SECURING) |
        DNSTAP__TO(DNSTAP_BROKEN),
    /* SECURING */ DNSTAP__TO(DNSTAP_CONNECTING) | DNSTAP__TO(DNSTAP_GREETING) |
        DNSTAP__TO(DNSTAP_BROKEN),
    /* GREETING */ DNSTAP__TO(DNSTAP_CONNECTING) | DNSTAP__TO(DNSTAP_STARTED) |
        DNSTAP__TO(DNSTAP_BROKEN),
    /* STARTED */ DNSTAP__TO(DNSTAP_STOPPING) | DNSTAP__TO(DNSTAP_BROKEN),
    /* STOPPING */ DNSTAP__TO(DNSTAP_SHUTTING) | DNSTAP__TO(DNSTAP_BROKEN),
    /* SHUTTING */ DNSTAP__TO(DNSTAP_FINISHED) | DNSTAP__TO(DNSTAP_BROKEN),
    /* FINISHED */ DNSTAP__TO(DNSTAP_IDLE),
    /* BROKEN */ DNSTAP__TO(DNSTAP_IDLE),
    /* LISTENING: of a tap, never of a link */ 0};
#undef DNSTAP__TO

#if DNSTAP__HAS_TEXT
DNSTAP_API const char *dnstap_state_name(dnstap_state state)
{
#define DNSTAP__X(name, text) \
    if (state == (name)) return text;
    DNSTAP_STATES(DNSTAP__X)
#undef DNSTAP__X
    return "unknown";
}
#else
DNSTAP_API const char *dnstap_state_name(dnstap_state state) { return state ? "" : ""; }
#endif

/* What producers may log: all types that are wanted, while enabled and heard. Under the lock, for
 * both may change. */
static void dnstap__decide_wants(dnstap_tap *tap)
{
    const dnstap__filter *f = DNSTAP__FILTER(tap);
    size_t wants = f ? f->types : 0xffffffffu;

    if (!tap->enabled || !tap->heard) wants = 0;
    DNSTAP_STORE(&tap->wants, wants);
    if (tap->told) DNSTAP_STORE(tap->told, wants);
    DNSTAP_STORE(&tap->direct, tap->extra.pieces || (f && f->asks) ? 0 : wants);
}

DNSTAP_API void dnstap_set_enabled(dnstap_tap *tap, bool enabled)
{
    dnstap__mutex_lock(&tap->lock);
    DNSTAP_STORE(&tap->enabled, enabled);
    dnstap__decide_wants(tap);
    dnstap__mutex_unlock(&tap->lock);
}

#if DNSTAP__HAS_TEXT
static void dnstap__say(dnstap_tap *tap, int level, const char *text)
{
    if (tap->options.log) (tap->options.log)(tap->options.user, level, text);
}
#else
#define dnstap__say(tap, level, text) ((void)(tap), (void)(level), (void)(text))
#endif

/* SO_SNDBUF to ask for. */
static int dnstap__buffer_of(const dnstap_options *o)
{
    return (int)(o->writebuffer << 20 & 0x7fffffffu);
}

static const char *dnstap__where(const dnstap_tap *tap)
{
    return tap->options.endpoint ? tap->options.endpoint : "transport";
}

static void dnstap__disarm(dnstap_tap *tap)
{
    DNSTAP_STORE(&tap->sleep, DNSTAP__AWAKE);
    tap->rest = DNSTAP__AWAKE;
}

/* How many links are in this state. */
static uint32_t dnstap__in_state(const dnstap_tap *tap, dnstap_state state)
{
    uint32_t i, n = 0;

    for (i = 0; i < DNSTAP__LINK_COUNT(tap); i++) n += tap->links[i].state == state;
    return n;
}

/* What a listening tap shows, after a link's state changed. */
static void dnstap__show_sinks(dnstap_tap *tap)
{
    dnstap_state state;

    tap->shown.sinks = dnstap__in_state(tap, DNSTAP_STARTED);
    tap->shown.pending = dnstap__in_state(tap, DNSTAP_SECURING) +
                         dnstap__in_state(tap, DNSTAP_GREETING);
    state = tap->shown.sinks ? DNSTAP_STARTED : DNSTAP_LISTENING;
    if (state != tap->shown.state) tap->shown.state_ms = tap->now;
    tap->shown.state = state;
    tap->heard = tap->shown.sinks > 0;
}

/* The one place that changes state. Nothing is armed but in STARTED. */
static void dnstap__set_state(dnstap__link *l, dnstap_state state)
{
    dnstap_tap *tap = l->tap;

    dnstap__mutex_lock(&tap->lock);
    l->state = state;
    l->since = tap->now;
    if (DNSTAP__LISTENING_TAP(tap)) {
        dnstap__show_sinks(tap);
    } else {
        tap->shown.state = state;
        tap->shown.state_ms = tap->now;
        tap->heard = !tap->options.drop_when_disconnected || state == DNSTAP_STARTED;
    }
    dnstap__decide_wants(tap);
    dnstap__mutex_unlock(&tap->lock);
    l->events = 0;
    l->stuck = 0;
    dnstap__disarm(tap);
}

static int dnstap__enter(dnstap__link *l, dnstap_state state)
{
    DNSTAP_ASSERT(dnstap__ways[l->state] >> state & 1);
    DNSTAP_ASSERT(state != DNSTAP_RESOLVING || l->tap->dial.names.host);
    DNSTAP_ASSERT(state != DNSTAP_STARTED || l->writer.state == DNSTAP_WRITER_DATA);
    DNSTAP_ASSERT(state == DNSTAP_BROKEN || !l->done);
    dnstap__set_state(l, state);
    return DNSTAP__GO;
}

#if DNSTAP__HAS_THREADS
/* All taps of the process, so that a forked child knows which are not its own: there, those that
 * the parent services want nothing, until dnstap_after_fork. It is all that taps have in common. */
static struct {
    dnstap__mutex lock;
    dnstap_tap *first;
    bool watched; /* forks are */
} dnstap__all = {PTHREAD_MUTEX_INITIALIZER, NULL, false};

static void dnstap__before_fork(void) { dnstap__mutex_lock(&dnstap__all.lock); }
static void dnstap__in_parent(void) { dnstap__mutex_unlock(&dnstap__all.lock); }

static void dnstap__in_child(void)
{
    dnstap_tap *tap;

    dnstap__know_process(true);
    for (tap = dnstap__all.first; tap; tap = tap->next) {
        if (!tap->owner) continue; /* it is the child's to start */
        tap->heard = 0;
        DNSTAP_STORE(&tap->wants, 0);
        DNSTAP_STORE(&tap->direct, 0);
        if (tap->told) DNSTAP_STORE(tap->told, 0);
    }
    dnstap__mutex_unlock(&dnstap__all.lock);
}

static void dnstap__enlist(dnstap_tap *tap)
{
    dnstap__mutex_lock(&dnstap__all.lock);
    if (!dnstap__all.watched) {
        dnstap__all.watched = dnstap__at_fork(dnstap__before_fork, dnstap__in_parent,
                                              dnstap__in_child);
        dnstap__know_process(dnstap__all.watched);
    }
    tap->next = dnstap__all.first;
    dnstap__all.first = tap;
    dnstap__mutex_unlock(&dnstap__all.lock);
}

static void dnstap__strike(const dnstap_tap *tap)
{
    dnstap_tap **at = &dnstap__all.first;

    dnstap__mutex_lock(&dnstap__all.lock);
    while (*at && *at != tap) at = &(*at)->next;
    if (*at) *at = tap->next;
    dnstap__mutex_unlock(&dnstap__all.lock);
}

/* Whether a tap of this process has that file open: then it can be written, and to open and close
 * it once more would undo the lock of the process. */
static bool dnstap__writes_here(const char *path)
{
    const dnstap_tap *tap;

    dnstap__mutex_lock(&dnstap__all.lock);
    for (tap = dnstap__all.first; path && tap; tap = tap->next)
        if (dnstap__is(&tap->target, DNSTAP__REOPENS) && strcmp(tap->target.path, path) == 0) break;
    dnstap__mutex_unlock(&dnstap__all.lock);
    return path && tap;
}
#else
static void dnstap__enlist(dnstap_tap *tap) { (void)tap; }
static void dnstap__strike(const dnstap_tap *tap) { (void)tap; }
static bool dnstap__writes_here(const char *path) { return path && false; }
#endif

/* ---- >>wake ------------------------------------------------------------------------------- */

/* Sleep and wake-up, from both sides. In: the rings' marks and `sleep`; out: one call when a
 * message finds the service asleep, none while it is awake.
 *
 * The service arms: it stores each ring's wake_at (what it has looked at, plus a mark for a NAP),
 * exchanges `sleep`, and looks once more. A producer publishes, then loads wake_at; behind it, and
 * with `sleep` not AWAKE, it exchanges `sleep` to AWAKE and makes the one wake-up call. No fence
 * orders its store before its load: the load may be stale while the store is still on its way. A
 * NAP is bounded by the flush time, so nothing is lost. Before a long sleep the look is repeated,
 * still armed, after membarrier(2), which makes every store before it visible and every load after
 * it see the mark; or else after one armed round of the flush time, by when stores are visible.
 * Whatever disarms starts over. tests/unit/test_wake_model.c checks all interleavings, and
 * test_weak_model.c all that memory as weak as ARM's may show.
 *
 * Always: nothing is armed while nothing can be sent; no NAP goes straight into a long sleep. */

/* The wake-up call: the hook, or one write to a descriptor. Not from a forked child that did not
 * call dnstap_after_fork: it shares the descriptor with the process that services. */
static void dnstap__call_service(dnstap_tap *tap)
{
    if (DNSTAP_LOAD_ACQUIRE(&tap->owner) != dnstap__process()) return;
    if (tap->options.wake) {
        (tap->options.wake)(tap->options.user);
    } else if (DNSTAP_LOAD(&tap->waker.in) != SIZE_MAX) {
        dnstap__add_shared(&tap->calls);
        dnstap__waker_call(&tap->waker);
    }
}

/* Whether a thread whose loop has the timer sets that instead of making a call. */
static bool dnstap__has_timer(const dnstap_tap *tap)
{
    return DNSTAP__LOOP_HOOK(tap, timer) && !tap->options.wake;
}

/* A producer went beyond the mark. The thread that polls needs no call: it looks before it does, or
 * its timer is set. */
DNSTAP__COLD void dnstap__wake(dnstap_tap *tap)
{
    bool polls = DNSTAP_LOAD(&tap->poller) == dnstap__self();

    if (DNSTAP_LOAD(&tap->sleep) == DNSTAP__AWAKE || (polls && !dnstap__has_timer(tap))) return;
    if (DNSTAP_EXCHANGE(&tap->sleep, DNSTAP__AWAKE) == DNSTAP__AWAKE) return;
    if (polls)
        (tap->options.timer)(tap->options.user, 0);
    else
        dnstap__call_service(tap);
}

/* The calling thread polls from now on. Whoever did before may have left out a call because of it:
 * so the rings are looked at anew, and armed as after any pause. The timer is one thread's for
 * good, or nobody's: a thread must not set it while another one services. */
static void dnstap__poll_here(dnstap_tap *tap)
{
    size_t before = DNSTAP_LOAD(&tap->poller), self = dnstap__self();

    if (before == self || before == SIZE_MAX) return;
    DNSTAP_STORE(&tap->poller, before && dnstap__has_timer(tap) ? SIZE_MAX : self);
    dnstap__disarm(tap);
}

/* Makes the service look, whatever it does. */
static void dnstap__nudge(dnstap_tap *tap)
{
    DNSTAP_EXCHANGE(&tap->sleep, DNSTAP__AWAKE);
    dnstap__call_service(tap);
}

/* The descriptor is read only when calls were made. */
static void dnstap__take_calls(dnstap_tap *tap)
{
    if (tap->waker.out < 0 || DNSTAP_LOAD(&tap->calls) == tap->calls_seen) return;
    tap->calls_seen += dnstap__waker_take(&tap->waker);
}

/* Whether a ring holds more than its mark. */
static bool dnstap__ready(const dnstap_tap *tap)
{
    uint32_t i;

    for (i = 0; i < tap->ring_count; i++)
        if ((ptrdiff_t)(DNSTAP_LOAD_ACQUIRE(&tap->rings[i].bytes) - tap->rings[i].wake_at) > 0)
            return true;
    return false;
}

/* How much each ring may hold before its producer wakes the service from a nap. A wake-up costs
 * both sides so much (some 30 us together, of switches and of what they put out of the caches) that
 * 128 KiB are better than 32. But a stream so dense as to bring these in a millisecond or so is not
 * to wait that long, and of one that begins it is not known yet. */
static void dnstap__pace(dnstap_tap *tap, int rest)
{
    uint64_t begun = tap->paced_at, elapsed = tap->now - begun;
    dnstap__ring *r;
    bool dense;

    if (rest == DNSTAP__NAP && begun && elapsed < DNSTAP__PACE_MS) return;
    tap->paced_at = rest == DNSTAP__NAP ? tap->now : 0;
    for (r = tap->rings; r < tap->rings + tap->ring_count; r++) {
        dense = !begun || (size_t)(r->seen_bytes - r->paced_bytes) / DNSTAP__DENSE >= elapsed;
        r->mark = dnstap__min(dense ? DNSTAP__MARK : DNSTAP__MARK_MAX, r->size / 4);
        r->paced_bytes = r->seen_bytes;
    }
}

/* Goes to sleep; GO: not yet, something came. */
static int dnstap__arm(dnstap_tap *tap, int rest)
{
    dnstap__ring *r;

    dnstap__pace(tap, rest);
    for (r = tap->rings; r < tap->rings + tap->ring_count; r++)
        DNSTAP_STORE(&r->wake_at, r->seen_bytes + (rest == DNSTAP__NAP ? r->mark : 0));
    DNSTAP_EXCHANGE(&tap->sleep, (size_t)rest);
    tap->rest = rest;
    tap->flush_at = tap->now + (uint64_t)(tap->options.flush_ms > 0 ? tap->options.flush_ms : 1);
    if (rest == DNSTAP__ROUND && dnstap__barrier()) tap->rest = DNSTAP__LONG;
    return dnstap__ready(tap) ? DNSTAP__GO : DNSTAP__WAIT;
}

static bool dnstap__reopen_asked(const dnstap_tap *tap)
{
    return DNSTAP_LOAD(&tap->asked.reopen) != tap->reopening;
}

/* Somebody waits for the service: close, flush or reopen. */
static bool dnstap__asked(const dnstap_tap *tap)
{
    const dnstap__requests *r = &tap->asked;

    return DNSTAP_LOAD(&r->close) || DNSTAP_LOAD(&r->hurry) || dnstap__reopen_asked(tap);
}

/* Whether the rings are to be looked at now. An armed round that ends with nothing new goes on as
 * the long sleep of a system without a barrier, which is capped, without being disarmed. */
static bool dnstap__due(dnstap_tap *tap)
{
    if (tap->rest == DNSTAP__AWAKE || DNSTAP_LOAD(&tap->sleep) == DNSTAP__AWAKE) return true;
    if (dnstap__asked(tap) || dnstap__ready(tap)) return true;
    if (tap->now < tap->flush_at) return false;
    if (tap->rest == DNSTAP__ROUND) tap->flush_at = tap->now + DNSTAP__LONGEST_MS;
    return tap->rest == DNSTAP__NAP;
}

/* When there is something to send next. What was dropped is reported even when nothing moves. */
static uint64_t dnstap__next_flush(const dnstap_tap *tap)
{
    uint32_t i, flowing = 0;

    for (i = 0; i < DNSTAP__LINK_COUNT(tap); i++)
        flowing += tap->links[i].state == DNSTAP_STARTED && !tap->links[i].stuck;
    if (!flowing) return tap->now + DNSTAP__REPORT_MS;
    if (tap->rest == DNSTAP__AWAKE || dnstap__asked(tap) || dnstap__ready(tap)) return tap->now;
    return tap->rest == DNSTAP__LONG ? tap->now + DNSTAP__REPORT_MS : tap->flush_at;
}

/* ---- >>producer --------------------------------------------------------------------------- */

/* What the threads that log do: find the thread's ring, plan, reserve, write, publish, and wake the
 * service when it sleeps behind its mark. In: messages; out: frames in rings, or a cause, counted.
 * Always: nobody is waited for but in a short, bounded spin; each byte is written once; a thread's
 * messages stay in order, and a ring has one writer at a time. */
/* A thread that ends leaves its ring to the next one. */
static void dnstap__hand_back(void *ring)
{
    DNSTAP_STORE_RELEASE(&((dnstap__ring *)ring)->owner, 0);
}

#if DNSTAP__HAS_THREADS
/* A ring for a thread that has none: a free one, but only while the shared ring is empty, which
 * keeps this thread's order; else the shared one. */
DNSTAP__COLD dnstap__ring *dnstap__claim(dnstap_tap *tap)
{
    dnstap__ring *shared = &tap->rings[tap->producers];
    size_t published = DNSTAP_LOAD_ACQUIRE(&shared->published), i, free_ring;

    if (DNSTAP_LOAD_ACQUIRE(&shared->tail) != published) return shared;
    for (i = 0; i < tap->producers; i++) {
        free_ring = 0;
        if (DNSTAP_LOAD(&tap->rings[i].owner)) continue;
        if (!DNSTAP_COMPARE_EXCHANGE(&tap->rings[i].owner, &free_ring, 1)) continue;
        if (!pthread_setspecific(tap->key, &tap->rings[i])) return &tap->rings[i];
        dnstap__hand_back(&tap->rings[i]);
        break;
    }
    return shared;
}

DNSTAP__INLINE dnstap__ring *dnstap__my_ring(const dnstap_tap *tap)
{
    return (dnstap__ring *)pthread_getspecific(tap->key);
}
#else
DNSTAP__INLINE dnstap__ring *dnstap__my_ring(const dnstap_tap *tap) { return tap->rings; }
static dnstap__ring *dnstap__claim(const dnstap_tap *tap) { return tap->rings; }
#endif

DNSTAP__INLINE bool dnstap__wanted(size_t wants, uint32_t type)
{
    return wants >> (type < 31 ? type : 31) & 1;
}

DNSTAP_API bool dnstap_wants(const dnstap_tap *tap, uint32_t type)
{
    return tap && dnstap__wanted(DNSTAP_LOAD(&tap->wants), type);
}

/* Counts a message that a filter kept back. */
DNSTAP__INLINE int dnstap__keep_back(const dnstap__ring *r, dnstap__sieve sieve)
{
    dnstap__add(&r->tally->count[sieve], 1);
    return 0;
}

/* Counts a message that was not recorded, by its cause. */
DNSTAP__COLD int dnstap__refuse(dnstap_tap *tap, dnstap__ring *r, int cause)
{
    bool heard = !tap->options.drop_when_disconnected || DNSTAP__LISTENING_TAP(tap);
    bool lost = !heard && DNSTAP_LOAD(&tap->enabled);

    if (cause == DNSTAP_RING_FULL)
        dnstap__add(&r->lost_full, 1);
    else if (cause == DNSTAP_TOO_LARGE)
        dnstap__add(&r->lost_large, 1);
    else if (cause == DNSTAP_BAD_MESSAGE)
        dnstap__add(&r->lost_bad, 1);
    else if (lost)
        dnstap__add(&r->lost_disconnected, 1);
    else
        dnstap__add(&r->unwanted, 1);
    if (!cause && DNSTAP__LISTENING_TAP(tap) && DNSTAP_LOAD(&tap->enabled))
        dnstap__add(&r->no_sink, 1);
    if (cause || lost) DNSTAP_STORE(&tap->losses, 1);
    return cause || !lost ? cause : DNSTAP_DISCONNECTED;
}

/* The shared ring's lock was not to be had, or there is no ring for such a producer. */
DNSTAP__COLD int dnstap__refuse_busy(dnstap_tap *tap, dnstap__ring *r)
{
    dnstap__add_shared(&r->lost_busy);
    DNSTAP_STORE(&tap->losses, 1);
    return DNSTAP_BUSY;
}

/* A message whose plan is too large: whether it fits in truth. */
DNSTAP__COLD bool dnstap__fits(dnstap_tap *tap, const dnstap_message *m, const dnstap__view *view,
                               dnstap__plan *plan)
{
    if (!DNSTAP__HAS_RARE) return false;
    if ((view || !plan->slow) && dnstap__plan_slow(&tap->fixed, m, plan) < 0) return false;
    if (view) plan->size += dnstap__measure_extra(&tap->extra, view);
    return DNSTAP_FRAME_HEADER + plan->size <= tap->max_message;
}

/* Puts m into the ring; *bytes is what the ring has had then. view: of the same message, when there
 * is a template; else NULL. subnets: the DNS bytes have some, to be cut in the copy. */
DNSTAP__ONCE int dnstap__put_viewed(dnstap_tap *tap, dnstap__ring *r, const dnstap_message *m,
                                    const dnstap__view *view, bool subnets, size_t *bytes)
{
    dnstap__plan plan;
    size_t size, end;
    uint8_t *out;

    if (DNSTAP__UNLIKELY(dnstap__plan_message(&tap->fixed, m, &plan) < 0))
        return dnstap__refuse(tap, r, DNSTAP_BAD_MESSAGE);
    if (view) plan.size += dnstap__plan_extra(&tap->extra, view);
    if (DNSTAP__UNLIKELY(DNSTAP_FRAME_HEADER + plan.size > tap->max_message))
        if (!dnstap__fits(tap, m, view, &plan)) return dnstap__refuse(tap, r, DNSTAP_TOO_LARGE);
    out = dnstap__ring_reserve(r, DNSTAP_FRAME_HEADER + plan.size, &end);
    if (DNSTAP__UNLIKELY(!out)) return dnstap__refuse(tap, r, DNSTAP_RING_FULL);
    size = view ? dnstap__write_with_extra(&tap->fixed, &tap->extra, view, &plan,
                                           out + DNSTAP_FRAME_HEADER)
                : dnstap__write_message(&tap->fixed, m, &plan, out + DNSTAP_FRAME_HEADER);
    DNSTAP_ASSERT(size <= plan.size);
    if (subnets) dnstap__cut_payload(DNSTAP__FILTER(tap), out + DNSTAP_FRAME_HEADER, size);
    dnstap__put32(out, (uint32_t)size);
    dnstap__ring_publish(r, DNSTAP_FRAME_HEADER + size, end - (plan.size - size));
    *bytes = r->bytes;
    return 1;
}

/* A message that goes with a template, or has its addresses cut. */
DNSTAP__APART int dnstap__put_dressed(dnstap_tap *tap, dnstap__ring *r, const dnstap_message *m,
                                      size_t *bytes)
{
    const dnstap__filter *f = DNSTAP__FILTER(tap);
    const dnstap_message *sent = m;
    dnstap__view view;
    dnstap__cut cut;
    int result;

    cut.subnets = cut.stripped = false;
    if (f && f->cuts) {
        dnstap__cut_message(f, m, tap->fixed.full, &cut);
        sent = &cut.m;
    }
    if (tap->extra.count) {
        dnstap__view_message(&view, m);
        dnstap__view_sent(&view, sent);
    }
    result = dnstap__put_viewed(tap, r, sent, tap->extra.count ? &view : NULL, cut.subnets, bytes);
    if (result == 1 && cut.stripped) dnstap__add(&r->tally->count[DNSTAP__STRIPPED], 1);
    return result;
}

/* Whether the message's type is not to be logged; whoever hears. */
DNSTAP__INLINE bool dnstap__is_other_type(const dnstap_tap *tap, const dnstap_message *m)
{
    const dnstap__filter *f = DNSTAP__FILTER(tap);

    return f && !dnstap__wanted(f->types, m->type) && DNSTAP_LOAD(&tap->enabled);
}

/* What is not logged without more ado: what nobody wants, what more is asked of than its type, and
 * what a template goes with. */
DNSTAP__INLINE int dnstap__put_otherwise(dnstap_tap *tap, dnstap__ring *r, const dnstap_message *m,
                                         size_t *bytes)
{
    const dnstap__filter *f = DNSTAP__FILTER(tap);
    dnstap__sieve sieve = DNSTAP__SIEVES;

    if (dnstap__is_other_type(tap, m)) return dnstap__keep_back(r, DNSTAP__BY_TYPE);
    if (!dnstap__wanted(DNSTAP_LOAD(&tap->wants), m->type)) return dnstap__refuse(tap, r, 0);
    if (f) sieve = dnstap__sift(f, m, &r->tally->dice);
    if (sieve != DNSTAP__SIEVES) return dnstap__keep_back(r, sieve);
    return dnstap__put_dressed(tap, r, m, bytes);
}

DNSTAP__INLINE bool dnstap__is_direct(const dnstap_tap *tap, const dnstap_message *m)
{
    return DNSTAP__LIKELY(dnstap__wanted(DNSTAP_LOAD(&tap->direct), m->type));
}

/* Off the hot path. */
static int dnstap__put(dnstap_tap *tap, dnstap__ring *r, const dnstap_message *m, size_t *bytes)
{
    if (dnstap__is_direct(tap, m)) return dnstap__put_viewed(tap, r, m, NULL, false, bytes);
    return DNSTAP__HAS_EXTRA || DNSTAP__HAS_FILTER ? dnstap__put_otherwise(tap, r, m, bytes)
                                                   : dnstap__refuse(tap, r, 0);
}

/* Wakes the service when it sleeps behind its mark, or the ring is full. A call may end a thread
 * that is cancelled: nothing is locked here. */
DNSTAP__ONCE int dnstap__wake_behind(dnstap_tap *tap, const dnstap__ring *r, int result,
                                     size_t bytes)
{
    if (DNSTAP__UNLIKELY(result != 1)) {
        if (result == DNSTAP_RING_FULL) dnstap__wake(tap);
        return result;
    }
    DNSTAP_COMPILER_FENCE(); /* look after publishing */
    if (DNSTAP__UNLIKELY((ptrdiff_t)(bytes - DNSTAP_LOAD(&r->wake_at)) > 0 &&
                         DNSTAP_LOAD(&tap->sleep) != DNSTAP__AWAKE))
        dnstap__wake(tap);
    return result;
}

/* The hot path. The ring is the calling thread's, and the message's type direct. */
DNSTAP__INLINE int dnstap__record(dnstap_tap *tap, dnstap__ring *r, const dnstap_message *m)
{
    size_t bytes = 0;
    int result = dnstap__put_viewed(tap, r, m, NULL, false, &bytes);

    return dnstap__wake_behind(tap, r, result, bytes);
}

/* What is not direct. */
DNSTAP__APART int dnstap__record_otherwise(dnstap_tap *tap, dnstap__ring *r,
                                           const dnstap_message *m)
{
    size_t bytes = 0;
    int result = dnstap__put_otherwise(tap, r, m, &bytes);

    return dnstap__wake_behind(tap, r, result, bytes);
}

/* A payload as it came. */
static int dnstap__put_whole(dnstap_tap *tap, dnstap__ring *r, const dnstap_bytes *payload,
                             size_t *bytes)
{
    size_t size = payload->size, end;
    uint8_t *out;

    if (size > tap->max_message - DNSTAP_FRAME_HEADER)
        return dnstap__refuse(tap, r, DNSTAP_TOO_LARGE);
    out = dnstap__ring_reserve(r, DNSTAP_FRAME_HEADER + size, &end);
    if (!out) return dnstap__refuse(tap, r, DNSTAP_RING_FULL);
    dnstap__put32(out, (uint32_t)size);
    memcpy(out + DNSTAP_FRAME_HEADER, payload->data, size);
    dnstap__ring_publish(r, DNSTAP_FRAME_HEADER + size, end);
    *bytes = r->bytes;
    return 1;
}

#if DNSTAP__HAS_FILTER
/* A payload in a tap that filters. What may hide in one is not sent where addresses are cut: there
 * it is made anew. */
static int dnstap__put_sifted(dnstap_tap *tap, dnstap__ring *r, const dnstap_bytes *payload,
                              size_t *bytes)
{
    const dnstap__filter *f = DNSTAP__FILTER(tap);
    dnstap__sieve sieve;
    dnstap_message m;
    dnstap_policy policy;

    if (dnstap_decode(&m, &policy, payload->data, payload->size) < 0 || !DNSTAP__HAS(&m, type))
        return dnstap__refuse(tap, r, DNSTAP_BAD_MESSAGE);
    if (f->cuts) return dnstap__put(tap, r, &m, bytes);
    if (!dnstap__wanted(f->types, m.type)) return dnstap__keep_back(r, DNSTAP__BY_TYPE);
    sieve = dnstap__sift(f, &m, &r->tally->dice);
    if (sieve != DNSTAP__SIEVES) return dnstap__keep_back(r, sieve);
    return dnstap__put_whole(tap, r, payload, bytes);
}
#else
#define dnstap__put_sifted(tap, r, payload, bytes) dnstap__put_whole(tap, r, payload, bytes)
#endif

static int dnstap__put_payload(dnstap_tap *tap, dnstap__ring *r, const dnstap_bytes *payload,
                               size_t *bytes)
{
    if (!DNSTAP_LOAD(&tap->wants)) return dnstap__refuse(tap, r, 0);
    if (!payload->data || !payload->size) return dnstap__refuse(tap, r, DNSTAP_BAD_MESSAGE);
    if (DNSTAP__FILTER(tap)) return dnstap__put_sifted(tap, r, payload, bytes);
    return dnstap__put_whole(tap, r, payload, bytes);
}

/* What is off the hot path has a message, or a payload: then m is NULL. */
static int dnstap__put_either(dnstap_tap *tap, dnstap__ring *r, const dnstap_message *m,
                              const dnstap_bytes *payload, size_t *bytes)
{
    return m ? dnstap__put(tap, r, m, bytes) : dnstap__put_payload(tap, r, payload, bytes);
}

/* The shared ring: a short spin for its lock. */
DNSTAP__COLD int dnstap__record_shared(dnstap_tap *tap, dnstap__ring *r, const dnstap_message *m,
                                       const dnstap_bytes *payload)
{
    size_t spins = 0, bytes = 0;
    int result;

    while (DNSTAP_LOAD(&r->lock) || DNSTAP_EXCHANGE(&r->lock, 1))
        if (++spins >= DNSTAP__SPINS) return dnstap__refuse_busy(tap, r);
    result = dnstap__put_either(tap, r, m, payload, &bytes);
    DNSTAP_STORE_RELEASE(&r->lock, 0);
    return dnstap__wake_behind(tap, r, result, bytes);
}

/* From a thread that may not have a ring yet. */
DNSTAP__COLD int dnstap__record_any(dnstap_tap *tap, const dnstap_message *m,
                                    const dnstap_bytes *payload)
{
    dnstap__ring *r = dnstap__my_ring(tap);
    size_t bytes = 0;
    int result;

    if (DNSTAP__HAS_THREADS && !r) r = dnstap__claim(tap);
    if (DNSTAP__HAS_THREADS && r->shared) return dnstap__record_shared(tap, r, m, payload);
    result = dnstap__put_either(tap, r, m, payload, &bytes);
    return dnstap__wake_behind(tap, r, result, bytes);
}

/* A thread's key holds a ring of its own, never the shared one. */
DNSTAP__APART int dnstap__log_direct(dnstap_tap *tap, const dnstap_message *m)
{
    dnstap__ring *r = dnstap__my_ring(tap);

    return !DNSTAP__HAS_THREADS || DNSTAP__LIKELY(r != NULL) ? dnstap__record(tap, r, m)
                                                             : dnstap__record_any(tap, m, NULL);
}

DNSTAP__APART int dnstap__log_otherwise(dnstap_tap *tap, const dnstap_message *m)
{
    dnstap__ring *r = dnstap__my_ring(tap);

    if (DNSTAP__HAS_THREADS && DNSTAP__UNLIKELY(!r)) return dnstap__record_any(tap, m, NULL);
    if (dnstap__is_other_type(tap, m)) return dnstap__keep_back(r, DNSTAP__BY_TYPE);
    return dnstap__record_otherwise(tap, r, m);
}

/* Only looks which way to go: what is not to be logged saves no registers for the hot path. */
DNSTAP_API int dnstap_log(dnstap_tap *tap, const dnstap_message *m)
{
    if (DNSTAP__UNLIKELY(!tap)) return 0;
    return dnstap__is_direct(tap, m) ? dnstap__log_direct(tap, m) : dnstap__log_otherwise(tap, m);
}

DNSTAP_API int dnstap_log_payload(dnstap_tap *tap, const void *payload, size_t size)
{
    dnstap_bytes bytes = dnstap_bytes_of(payload, size);

    return tap ? dnstap__record_any(tap, NULL, &bytes) : 0;
}

/* A message of nobody's ring: to the shared one, where there is one. */
DNSTAP__COLD int dnstap__record_stray(dnstap_tap *tap, const dnstap_message *m)
{
    dnstap__ring *r = &tap->rings[tap->ring_count - 1];

    return DNSTAP__HAS_THREADS ? dnstap__record_shared(tap, r, m, NULL)
                               : dnstap__refuse_busy(tap, r);
}

DNSTAP_API int dnstap_log_as(dnstap_tap *tap, uint32_t producer, const dnstap_message *m)
{
    if (DNSTAP__UNLIKELY(!tap)) return 0;
    if (DNSTAP__UNLIKELY(producer >= tap->producers)) return dnstap__record_stray(tap, m);
    if (!dnstap__is_direct(tap, m)) return dnstap__record_otherwise(tap, &tap->rings[producer], m);
    return dnstap__record(tap, &tap->rings[producer], m);
}

/* ---- >>cursors ---------------------------------------------------------------------------- */

/* Where the links are in the rings. In: what is published, and what each link has sent; out: room
 * to producers, and where a new link begins. Always: a ring's tail is its slowest link's cursor, or
 * stays where it is while no link is started; cursors are frames' edges. */

/* Gives back what all have of a ring. */
static void dnstap__release(dnstap_tap *tap, uint32_t ring)
{
    dnstap__ring *r = &tap->rings[ring];
    const dnstap__cursor *slowest = NULL, *c;
    uint32_t i;

    for (i = 0; i < DNSTAP__LINK_COUNT(tap); i++) {
        c = &tap->links[i].cursors[ring];
        if (tap->links[i].state != DNSTAP_STARTED) continue;
        if (!slowest || (ptrdiff_t)(c->at - slowest->at) < 0) slowest = c;
    }
    if (slowest && slowest->at != r->tail)
        dnstap__ring_release(r, slowest->at, slowest->frames - r->out);
}

/* Puts a cursor behind what is published now, counting frames from where the foremost link is. */
static void dnstap__go_ahead(const dnstap_tap *tap, uint32_t ring, dnstap__cursor *c)
{
    const dnstap__ring *r = &tap->rings[ring];
    size_t published = DNSTAP_LOAD_ACQUIRE(&r->published), span, frames;
    const uint8_t *data = NULL;
    const dnstap__link *l;

    for (l = tap->links; l < tap->links + DNSTAP__LINK_COUNT(tap); l++)
        if (l->state == DNSTAP_STARTED && (ptrdiff_t)(l->cursors[ring].at - c->at) > 0)
            *c = l->cursors[ring];
    while ((span = dnstap__ring_span(r, &c->at, published, &data)) > 0) {
        c->at += dnstap__whole_frames(data, span, &frames);
        c->frames += frames;
    }
}

/* Nobody is there to get what the rings still hold: it is given up. */
static void dnstap__empty_rings(dnstap_tap *tap)
{
    uint32_t i;

    for (i = 0; i < tap->ring_count; i++) {
        dnstap__ring *r = &tap->rings[i];
        dnstap__cursor c;

        c.at = r->tail;
        c.frames = r->out;
        dnstap__go_ahead(tap, i, &c);
        if (c.at == r->tail) continue;
        dnstap__mutex_lock(&tap->lock);
        tap->shown.discarded += c.frames - r->out;
        dnstap__mutex_unlock(&tap->lock);
        dnstap__ring_release(r, c.at, c.frames - r->out);
    }
}

/* Where a link begins: that of a connecting tap with the oldest message, one that was accepted with
 * the next one. */
static void dnstap__join(dnstap__link *l)
{
    dnstap_tap *tap = l->tap;
    uint32_t i;

    if (DNSTAP__LISTENING_TAP(tap) && !tap->shown.sinks) dnstap__empty_rings(tap);
    for (i = 0, l->from = 0; i < tap->ring_count; i++) {
        l->cursors[i].at = tap->rings[i].tail;
        l->cursors[i].frames = tap->rings[i].out;
        if (DNSTAP__LISTENING_TAP(tap)) dnstap__go_ahead(tap, i, &l->cursors[i]);
        l->from += l->cursors[i].frames;
    }
}

/* Messages that the link has not got yet, of those recorded so far. */
static size_t dnstap__owed(const dnstap__link *l)
{
    const dnstap_tap *tap = l->tap;
    size_t n = 0;
    uint32_t i;

    for (i = 0; i < tap->ring_count; i++)
        n += DNSTAP_LOAD(&tap->rings[i].recorded) - l->cursors[i].frames;
    return n;
}

/* ---- >>connection ------------------------------------------------------------------------- */

/* A link from IDLE to FINISHED or BROKEN, and round again. In: what the transport says, the time,
 * requests; out: frames from the rings to the transport, states, texts. Each state has a function,
 * which says whether there is more to do now. Always: whatever fails goes through dnstap__break, is
 * counted, and leaves no descriptor watched or open; frames leave in their rings' order, whole. */
static void dnstap__watch(dnstap_tap *tap, int fd, short events)
{
    if (DNSTAP__LOOP_HOOK(tap, watch) && fd >= 0)
        (tap->options.watch)(tap->options.user, fd, events);
}

static void dnstap__unwatch(dnstap__link *l)
{
    dnstap__watch(l->tap, l->watched, 0);
    l->watched = -1;
    l->watched_events = 0;
}

static int dnstap__transport_fd(const dnstap__link *l)
{
    return l->transport.fd ? (l->transport.fd)(l->transport.self) : -1;
}

/* The descriptor that the link waits with; -1: none. */
static int dnstap__link_fd(const dnstap__link *l)
{
    int lookup = DNSTAP__HAS_SOCKETS ? l->tap->dial.names.fd : -1;

    return lookup >= 0 ? lookup : dnstap__transport_fd(l);
}

/* From a file nothing comes, whatever poll says of it. */
static short dnstap__link_events(const dnstap__link *l)
{
    bool hears = l->state == DNSTAP_STARTED && !dnstap__is(&l->tap->target, DNSTAP__BEGUN);

    return (short)(l->events | (hears ? DNSTAP_POLLIN : 0));
}

static void dnstap__disconnect(dnstap__link *l)
{
    dnstap__unwatch(l);
    if (l->transport.close) (l->transport.close)(l->transport.self); /* else it never was used */
    l->done = l->refused = 0;
}

static void dnstap__end_lookup(dnstap__link *l)
{
    if (!DNSTAP__HAS_SOCKETS) return;
    if (l->tap->dial.names.fd >= 0) dnstap__unwatch(l);
    dnstap__names_leave(&l->tap->dial.names);
}

/* owner: whose it is; it and the time make the jitter differ. */
static void dnstap__dialler_init(dnstap__dialler *d, uint64_t now, const void *owner)
{
    d->names.fd = -1;
    d->backoff = DNSTAP__BACKOFF_MIN;
    d->random = (uint32_t)now ^ (uint32_t)((size_t)owner >> 4);
}

/* How long the next attempt waits: not at all after a connection that stood for a second, else
 * 100 ms to 10 s, doubling, less up to a quarter, so that many taps don't come all at once. A sink
 * that takes a message and dies, again and again, must not keep the tap and the log busy. */
static uint64_t dnstap__back_off(dnstap__dialler *d, bool stood)
{
    unsigned wait = d->backoff;

    if (stood) {
        d->backoff = DNSTAP__BACKOFF_MIN;
        return 0;
    }
    d->backoff = (unsigned)dnstap__min(wait * 2u, DNSTAP__BACKOFF_MAX);
    d->random = d->random * 1664525u + 1013904223u;
    return wait - (d->random >> 16) % (wait / 4 + 1);
}

/* What is opened from now on serves all reopens that were asked for. */
static bool dnstap__take_reopen(dnstap_tap *tap)
{
    bool asked = dnstap__reopen_asked(tap);

    tap->reopening = DNSTAP_LOAD(&tap->asked.reopen);
    return asked;
}

/* A file that is not to be had yet stays open, and a regular one that could not be written to, for
 * it is as it was: its path may be out of reach by now (chroot), or another file's (log rotation),
 * which only a reopen may turn to. */
static void dnstap__leave(dnstap__link *l)
{
    dnstap_tap *tap = l->tap;
    bool as_it_was = l->state == DNSTAP_CONNECTING ||
                     (l->state == DNSTAP_STARTED && dnstap__link_fd(l) < 0);
    bool keeps = as_it_was && dnstap__is(&tap->target, DNSTAP__KEEPS);

    if (!keeps || dnstap__take_reopen(tap)) dnstap__disconnect(l);
}

/* Turns to another address of the name, when there is one. */
static bool dnstap__next_address(dnstap__link *l)
{
    if (!dnstap__names_next(&l->tap->dial.names)) return false;
    dnstap__disconnect(l);
    return true;
}

static void dnstap__show_failure(dnstap_tap *tap, const dnstap_error *error)
{
    if (!tap->dial.outage++) dnstap__say(tap, DNSTAP_LOG_WARNING, error->text);
    dnstap__mutex_lock(&tap->lock);
    tap->shown.error = *error;
    tap->shown.error_ms = tap->now;
    tap->shown.failures++;
    dnstap__mutex_unlock(&tap->lock);
}

/* A line about a sink, unless there were too many lately: connections come from anybody. */
static void dnstap__say_of(dnstap__link *l, int level, const char *what, size_t lost)
{
    dnstap_tap *tap = l->tap;
    const char *subject = l->peer->subject;
    char text[400], losses[64] = "";

    if (tap->now >= tap->desk.quiet_until) tap->desk.lines = 0;
    if (!tap->desk.lines) tap->desk.quiet_until = tap->now + DNSTAP__REPORT_MS;
    if (++tap->desk.lines > DNSTAP__LINES) return;
    if (lost) dnstap__format(losses, sizeof losses, "; it lost %lu messages", (unsigned long)lost);
    dnstap__format(text, sizeof text, "%s: sink %s%s%s: %s%s%s", dnstap__where(tap),
                   l->peer->address, *subject ? ", " : "", subject, what, losses,
                   tap->desk.lines == DNSTAP__LINES ? " (no more such lines for some time)" : "");
    dnstap__say(tap, level, text);
}

/* A link that was accepted ends: its place is free, and nobody waits for it any more. */
static int dnstap__part(dnstap__link *l, int code, const char *why)
{
    dnstap_tap *tap = l->tap;
    size_t lost = l->state == DNSTAP_STARTED ? dnstap__owed(l) : 0;
    bool left = code == DNSTAP_END && l->state >= DNSTAP_STARTED;
    dnstap_error error;
    uint32_t i;

    dnstap__fail(&error, code, 0, "%s: sink %s: %s", dnstap__where(tap), l->peer->address, why);
    dnstap__say_of(l, left && !lost ? DNSTAP_LOG_INFO : DNSTAP_LOG_WARNING, why, lost);
    dnstap__mutex_lock(&tap->lock);
    tap->shown.lost += lost;
    tap->shown.refused += l->state < DNSTAP_STARTED;
    tap->shown.failures += !left;
    if (!left) tap->shown.error = error;
    if (!left) tap->shown.error_ms = tap->now;
    dnstap__mutex_unlock(&tap->lock);
    dnstap__disconnect(l);
    dnstap__enter(l, DNSTAP_BROKEN);
    for (i = 0; i < tap->ring_count; i++) dnstap__release(tap, i);
    return DNSTAP__GO;
}

/* An attempt or a connection failed. Only the first failure of an outage is logged. What connects
 * but does not shake hands is the fault of one address: the name's next one follows at once. */
static int dnstap__break(dnstap__link *l, int code, int sys_errno, const char *why)
{
    dnstap_tap *tap = l->tap;
    dnstap_error error;
    bool handshake = l->state == DNSTAP_SECURING || l->state == DNSTAP_GREETING;
    bool stood = l->state == DNSTAP_STARTED && tap->now - l->since >= DNSTAP__STEADY_MS;

    if (DNSTAP__LISTENING_TAP(tap)) return dnstap__part(l, code, why);
    dnstap__fail(&error, code, sys_errno, "%s: %s", dnstap__where(tap), why);
    dnstap__show_failure(tap, &error);
    if (handshake && dnstap__next_address(l)) return dnstap__enter(l, DNSTAP_CONNECTING);
    tap->dial.retry_at = tap->now + dnstap__back_off(&tap->dial, stood);
    dnstap__leave(l);
    return dnstap__enter(l, DNSTAP_BROKEN);
}

static const char *dnstap__why_closed(const dnstap__link *l)
{
    if (l->state == DNSTAP_GREETING)
        return DNSTAP__TEXT(
            "closed by the sink before it accepted; does it take " DNSTAP_FRAME_CONTENT_TYPE "?");
    if (l->tap->options.unidirectional)
        return DNSTAP__TEXT(
            "closed by the sink; does it expect a handshake (options.unidirectional is set)?");
    return DNSTAP__TEXT("closed by the sink");
}

/* The same, with what the transport has to say. */
static int dnstap__break_transport(dnstap__link *l, int code)
{
    int sys_errno = code == DNSTAP_SYSTEM ? errno : 0;
    const char *why = code == DNSTAP_END ? dnstap__why_closed(l) : dnstap_strerror(code);
    const dnstap_transport *t = l->state == DNSTAP_CONNECTING ? &l->lower : &l->transport;

    if (code != DNSTAP_END && t->error) why = (t->error)(t->self);
    return dnstap__break(l, code, sys_errno, why);
}

static const char *dnstap__why_refused(const dnstap__link *l)
{
    uint32_t type = dnstap__frame_writer_heard(&l->writer);

    if (type == DNSTAP_CONTROL_READY || type == DNSTAP_CONTROL_START)
        return DNSTAP__TEXT("it sends dnstap, too; connect a producer to a sink, not to a tap");
    return DNSTAP__TEXT("the sink does not speak Frame Streams with dnstap");
}

static int dnstap__break_stream(dnstap__link *l, int result)
{
    if (result == DNSTAP_BAD_FRAME) return dnstap__break(l, result, 0, dnstap__why_refused(l));
    return dnstap__break_transport(l, result);
}

static bool dnstap__queued(const dnstap_tap *tap)
{
    uint32_t i;

    for (i = 0; i < tap->ring_count; i++)
        if (DNSTAP_LOAD_ACQUIRE(&tap->rings[i].published) != tap->rings[i].tail) return true;
    return false;
}

/* Whether the link is done with, when the tap is being closed. */
static bool dnstap__link_over(const dnstap__link *l)
{
    if (l->state >= DNSTAP_FINISHED) return true;
    return l->state < DNSTAP_STARTED && !dnstap__is(&l->tap->target, DNSTAP__BEGUN);
}

/* Nothing is left that closing must wait for. */
static bool dnstap__over(const dnstap_tap *tap)
{
    uint32_t i;

    if (!DNSTAP_LOAD_ACQUIRE(&tap->asked.close)) return false;
    if (tap->now >= tap->asked.close_at) return true;
    for (i = 0; i < DNSTAP__LINK_COUNT(tap); i++)
        if (!dnstap__link_over(&tap->links[i])) return false;
    return DNSTAP__LISTENING_TAP(tap) || !dnstap__queued(tap);
}

#if DNSTAP__HAS_TLS
/* Whether a handshake uses what would be loaded over. */
static bool dnstap__store_in_use(const dnstap_tap *tap)
{
    const dnstap__link *l;

    for (l = tap->links; l < tap->links + DNSTAP__LINK_COUNT(tap); l++)
        if (l->state == DNSTAP_SECURING && l->tls->store != tap->tls_config->current) return true;
    return false;
}

/* Before a connection: certificates that changed are read again, and notes said. */
static void dnstap__renew_tls(dnstap_tap *tap)
{
    dnstap__tls_config *c = tap->tls_config;

    if (!c || dnstap__store_in_use(tap)) return;
    if (c->note[0]) dnstap__say(tap, DNSTAP_LOG_WARNING, c->note);
    dnstap__tls_reload(c);
    if (c->note[0]) dnstap__say(tap, DNSTAP_LOG_WARNING, c->note);
    c->note[0] = '\0';
    if (!dnstap__store_in_use(tap)) dnstap__tls_forget(c, 1 - c->current);
}

/* Puts TLS over the link's lower transport, if it has TLS. */
static void dnstap__secure(dnstap__link *l)
{
    if (!l->tls) return;
    dnstap__tls_init(l->tls, l->tap->tls_config, &l->lower);
    l->transport = dnstap__tls_transport(l->tls);
}

static size_t dnstap__handshake_bytes(const dnstap__link *l) { return l->tls ? l->tls->taken : 0; }

static void dnstap__show_subject(dnstap__link *l)
{
    char subject[sizeof l->peer->subject];

    if (!l->tls || !DNSTAP__LISTENING_TAP(l->tap)) return;
    dnstap__tls_subject(l->tls, subject, sizeof subject);
    dnstap__mutex_lock(&l->tap->lock);
    memcpy(l->peer->subject, subject, sizeof subject);
    dnstap__mutex_unlock(&l->tap->lock);
}
#else
static void dnstap__renew_tls(dnstap_tap *tap) { (void)tap; }
#if DNSTAP__HAS_SOCKETS
static void dnstap__secure(dnstap__link *l) { (void)l; }
#endif
static size_t dnstap__handshake_bytes(const dnstap__link *l) { return l ? 0 : 1; }
static void dnstap__show_subject(dnstap__link *l) { (void)l; }
#endif

static int dnstap__in_idle(dnstap__link *l)
{
    dnstap__names *names = &l->tap->dial.names;

    dnstap__names_first(names);
    dnstap__renew_tls(l->tap);
    return dnstap__enter(l,
                         DNSTAP__HAS_SOCKETS && names->host ? DNSTAP_RESOLVING : DNSTAP_CONNECTING);
}

static int dnstap__in_resolving(dnstap__link *l)
{
    dnstap__names *names = &l->tap->dial.names;
    int result = dnstap__names_step(names, &l->tap->options);

    l->events = names->fd >= 0 ? DNSTAP_POLLIN : 0;
    if (result == DNSTAP_AGAIN) return DNSTAP__WAIT;
    dnstap__end_lookup(l);
    if (result < 0) return dnstap__break(l, result, names->sys_errno, names->why);
    return dnstap__enter(l, DNSTAP_CONNECTING);
}

/* A long file is being looked through, a step in each turn. */
static bool dnstap__reading(const dnstap__link *l)
{
    return l->state == DNSTAP_CONNECTING && dnstap__is(&l->tap->target, DNSTAP__BEGUN) &&
           !l->events;
}

static int dnstap__in_connecting(dnstap__link *l)
{
    int result = DNSTAP_OK;

    dnstap__names_aim(&l->tap->dial.names, &l->medium);
    if (l->lower.start) result = (l->lower.start)(l->lower.self, &l->events);
    if (result == DNSTAP_AGAIN && dnstap__reading(l)) l->since = l->tap->now; /* no time is lost */
    if (result == DNSTAP_AGAIN) return DNSTAP__WAIT;
    if (result == DNSTAP_OK) return dnstap__enter(l, DNSTAP_SECURING);
    if (dnstap__next_address(l)) return dnstap__enter(l, DNSTAP_CONNECTING);
    return dnstap__break_transport(l, result);
}

static int dnstap__in_securing(dnstap__link *l)
{
    const dnstap_tap *tap = l->tap;
    int result = DNSTAP__HAS_TLS && l->tls ? (l->transport.start)(l->transport.self, &l->events)
                                           : DNSTAP_OK;

    if (result == DNSTAP_AGAIN) return DNSTAP__WAIT;
    if (result < 0) return dnstap__break_transport(l, result);
    dnstap__show_subject(l);
    if (dnstap__is(&tap->target, DNSTAP__BEGUN))
        dnstap__writer_resume(&l->writer, false);
    else
        dnstap_frame_writer_init(&l->writer, dnstap__is(&tap->target, DNSTAP__GREETS) &&
                                                 !tap->options.unidirectional);
    return dnstap__enter(l, DNSTAP_GREETING);
}

/* Hands bytes to the transport. One that takes nothing has enough. */
static long dnstap__send(dnstap__link *l, const void *data, size_t size)
{
    long n = (l->transport.send)(l->transport.self, data, size, &l->events);

    DNSTAP_ASSERT(n <= (long)size);
    if (n > 0) l->taken += (size_t)n;
    return n ? n : (long)DNSTAP_AGAIN;
}

/* Sends the control frame that is due. GO: it is out, or none was due. */
static int dnstap__send_control(dnstap__link *l)
{
    dnstap_bytes due;
    long n;

    while ((due = dnstap_frame_writer_next(&l->writer)).size) {
        n = dnstap__send(l, due.data, due.size);
        if (n == DNSTAP_AGAIN) return DNSTAP__WAIT;
        if (n < 0) return (int)n;
        dnstap_frame_writer_sent(&l->writer, (size_t)n);
    }
    return DNSTAP__GO;
}

/* Takes what the sink sent: control frames only. GO: something came. */
static int dnstap__receive(dnstap__link *l)
{
    uint8_t bytes[DNSTAP__POSIX ? 256 : 64];
    short wants = 0;
    long n = (l->transport.recv)(l->transport.self, bytes, sizeof bytes, &wants);
    int result;

    l->events = (short)(l->events | wants);
    if (n == DNSTAP_AGAIN) return DNSTAP__WAIT;
    if (n < 0) return (int)n;
    if (l->state == DNSTAP_STARTED) l->chatter += (size_t)n;
    result = dnstap_frame_writer_receive(&l->writer, bytes, (size_t)n);
    return result < 0 ? result : DNSTAP__GO;
}

/* The end of an outage. A file's is when something could be written. */
static void dnstap__recover(dnstap_tap *tap)
{
    char text[256];

    if (!tap->dial.outage) return;
    dnstap__format(text, sizeof text, "%s: connected after %u failed attempts", dnstap__where(tap),
                   tap->dial.outage);
    dnstap__say(tap, DNSTAP_LOG_INFO, text);
    tap->dial.outage = 0;
}

static int dnstap__begin(dnstap__link *l)
{
    dnstap_tap *tap = l->tap;

    if (!dnstap__is(&tap->target, DNSTAP__KEEPS)) dnstap__recover(tap);
    if (DNSTAP__LISTENING_TAP(tap)) dnstap__say_of(l, DNSTAP_LOG_INFO, "connected", 0);
    dnstap__join(l);
    dnstap__mutex_lock(&tap->lock);
    tap->shown.send_buffer = dnstap__send_buffer(&l->lower);
    tap->shown.connects++;
    dnstap__mutex_unlock(&tap->lock);
    DNSTAP_STORE_RELEASE(&tap->asked.reopened, tap->reopening);
    return dnstap__enter(l, DNSTAP_STARTED);
}

/* Whether a sink that has shaken hands finds no place. It learns so before START. */
static bool dnstap__crowded(const dnstap__link *l)
{
    const dnstap_tap *tap = l->tap;

    return l->writer.state == DNSTAP_WRITER_START && DNSTAP__LISTENING_TAP(tap) &&
           tap->shown.sinks >= tap->options.max_sinks;
}

static int dnstap__in_greeting(dnstap__link *l)
{
    int result;

    if (dnstap__crowded(l))
        return dnstap__break(l, DNSTAP_NO_PLACE, 0,
                             DNSTAP__TEXT("all places are taken; raise options.max_sinks"));
    result = dnstap__send_control(l);
    if (result > 0 && l->writer.state == DNSTAP_WRITER_ACCEPT) result = dnstap__receive(l);
    if (result < 0) return dnstap__break_stream(l, result);
    if (l->writer.state == DNSTAP_WRITER_DATA) return dnstap__begin(l);
    return result;
}

/* What comes after START: FINISH or the end. A sink that was accepted may chatter a little: what is
 * no frame is forgotten, so that a FINISH behind it is understood when it comes alone. */
static int dnstap__hear(dnstap__link *l)
{
    int result = DNSTAP__WAIT;

    if (!l->stuck) l->events = 0;
    if (l->ready & ~DNSTAP_POLLOUT) result = dnstap__receive(l);
    if (result == DNSTAP_BAD_FRAME && DNSTAP__LISTENING_TAP(l->tap)) {
        dnstap__writer_resume(&l->writer, l->writer.bidirectional);
        result = DNSTAP__WAIT;
    }
    if (DNSTAP__LISTENING_TAP(l->tap) && l->chatter > DNSTAP__CHATTER)
        return dnstap__break(l, DNSTAP_BAD_FRAME, 0,
                             DNSTAP__TEXT("it sends and sends; a sink only receives"));
    return result < 0 ? dnstap__break_stream(l, result) : DNSTAP__WAIT;
}

/* A sink that closes instead of saying FINISH is as good. */
static int dnstap__in_stopping(dnstap__link *l)
{
    int result = dnstap__send_control(l);

    if (result > 0 && l->writer.state == DNSTAP_WRITER_FINISH) result = dnstap__receive(l);
    if (result < 0 && result != DNSTAP_END) return dnstap__break_stream(l, result);
    if (result == DNSTAP_END || l->writer.state == DNSTAP_WRITER_END)
        return dnstap__enter(l, DNSTAP_SHUTTING);
    return result;
}

static int dnstap__in_shutting(dnstap__link *l)
{
    int result = l->transport.shut ? (l->transport.shut)(l->transport.self, &l->events) : DNSTAP_OK;

    if (result == DNSTAP_AGAIN) return DNSTAP__WAIT;
    dnstap__disconnect(l);
    return dnstap__enter(l, DNSTAP_FINISHED);
}

static int dnstap__in_finished(dnstap__link *l)
{
    return dnstap__over(l->tap) ? DNSTAP__WAIT : dnstap__enter(l, DNSTAP_IDLE);
}

/* A tap that is being closed does not wait long, and one that is to turn to its path's file not at
 * all. */
static int dnstap__in_broken(dnstap__link *l)
{
    dnstap__dialler *dial = &l->tap->dial;

    if (DNSTAP__LISTENING_TAP(l->tap)) return dnstap__enter(l, DNSTAP_IDLE);
    if (DNSTAP_LOAD(&l->tap->asked.close) && dial->retry_at > l->since + DNSTAP__BACKOFF_MIN)
        dial->retry_at = l->since + DNSTAP__BACKOFF_MIN;
    if (dnstap__take_reopen(l->tap))
        dnstap__disconnect(l);
    else if (l->tap->now < dial->retry_at)
        return DNSTAP__WAIT;
    return dnstap__enter(l, DNSTAP_IDLE);
}

/* When the state gives up; UINT64_MAX: it does not. An accepted sink must take something. */
static uint64_t dnstap__deadline(const dnstap__link *l)
{
    uint64_t timeout = (uint64_t)l->tap->options.timeout_ms;

    if (l->state == DNSTAP_STARTED && l->stuck && DNSTAP__LISTENING_TAP(l->tap))
        return l->stuck + timeout;
    if (l->state == DNSTAP_IDLE || l->state == DNSTAP_STARTED || l->state >= DNSTAP_FINISHED)
        return UINT64_MAX;
    return l->since + timeout;
}

static int dnstap__give_up(dnstap__link *l)
{
    char text[100];

    dnstap__format(text, sizeof text, "no progress in %d ms while %s", l->tap->options.timeout_ms,
                   dnstap_state_name(l->state));
    dnstap__end_lookup(l);
    if (l->state == DNSTAP_CONNECTING && dnstap__next_address(l))
        return dnstap__enter(l, DNSTAP_CONNECTING);
    if (l->state == DNSTAP_SECURING) return dnstap__break_transport(l, DNSTAP_TIMEOUT);
    return dnstap__break(l, DNSTAP_TIMEOUT, 0, text);
}

/* One state's turn: DNSTAP__GO or DNSTAP__WAIT. */
static int dnstap__step(dnstap__link *l)
{
    if (l->tap->now >= dnstap__deadline(l)) return dnstap__give_up(l);
    if (l->state != DNSTAP_STARTED) l->events = 0;
    switch (l->state) {
    case DNSTAP_IDLE:
        return dnstap__in_idle(l);
    case DNSTAP_RESOLVING:
        return DNSTAP__HAS_SOCKETS ? dnstap__in_resolving(l) : DNSTAP__WAIT;
    case DNSTAP_CONNECTING:
        return dnstap__in_connecting(l);
    case DNSTAP_SECURING:
        return dnstap__in_securing(l);
    case DNSTAP_GREETING:
        return dnstap__in_greeting(l);
    case DNSTAP_STARTED:
        return dnstap__hear(l);
    case DNSTAP_STOPPING:
        return dnstap__in_stopping(l);
    case DNSTAP_SHUTTING:
        return dnstap__in_shutting(l);
    case DNSTAP_FINISHED:
        return dnstap__in_finished(l);
    default:
        return dnstap__in_broken(l);
    }
}

/* ---- >>flow ------------------------------------------------------------------------------- */

/* From the rings to the links that are started. In: what is published; out: bytes to transports.
 * Always: a link inside a frame goes on with that ring; links and rings take turns; no link waits
 * for another, and one that hinders the producers is cut. */

static void dnstap__count_sent(dnstap__link *l, size_t frames, size_t bytes)
{
    dnstap_tap *tap = l->tap;

    dnstap__mutex_lock(&tap->lock);
    tap->shown.sent += frames;
    tap->shown.bytes += bytes;
    if (DNSTAP__HAS_LISTEN && l->peer) l->peer->sent += frames;
    if (DNSTAP__HAS_LISTEN && l->peer) l->peer->bytes += bytes;
    dnstap__mutex_unlock(&tap->lock);
}

/* What the links will surely look at: `bytes` is read before `published`, and before the first link
 * of a round, for what comes between two links is seen by the second only. */
static void dnstap__see(dnstap_tap *tap)
{
    dnstap__ring *r;

    for (r = tap->rings; r < tap->rings + tap->ring_count; r++)
        r->seen_bytes = DNSTAP_LOAD_ACQUIRE(&r->bytes);
}

/* How much of a span, of which `done` bytes are out, is sent now: all, or as much as the turn's
 * budget allows, but never less than what the transport is to be called with again; into a file
 * whole frames, one at least. */
static size_t dnstap__portion(const dnstap__link *l, const uint8_t *data, size_t span)
{
    size_t budget = l->done + l->tap->budget, whole, frames;
    size_t most = l->refused > budget ? l->refused : budget;

    if (span <= most) return span;
    if (!dnstap__is(&l->tap->target, DNSTAP__BEGUN)) return most;
    whole = dnstap__whole_frames(data, most, &frames);
    return whole ? whole : DNSTAP_FRAME_HEADER + (size_t)dnstap__get32(data);
}

/* How many of the n bytes in one piece at the link's cursor are whole frames, and in *frames the
 * number of these. What another link has counted on the same way is not counted again. */
static size_t dnstap__pass(const dnstap__link *l, uint32_t ring, const uint8_t *data, size_t n,
                           size_t *frames)
{
    const dnstap_tap *tap = l->tap;
    const dnstap__cursor *c = &l->cursors[ring], *at = c, *other;
    const dnstap__link *k;
    size_t known, whole;

    if (!DNSTAP__HAS_LISTEN) return dnstap__whole_frames(data, n, frames);
    for (k = tap->links; k < tap->links + DNSTAP__LINK_COUNT(tap); k++) {
        other = &k->cursors[ring];
        if (k->state == DNSTAP_STARTED && other->at - c->at <= n &&
            other->at - c->at > at->at - c->at)
            at = other;
    }
    known = at->at - c->at;
    whole = dnstap__whole_frames(data + known, n - known, frames);
    *frames += at->frames - c->frames;
    return known + whole;
}

/* Sends from a ring what lies in one piece. 0: it holds nothing. */
static long dnstap__send_span(dnstap__link *l, uint32_t ring)
{
    dnstap__ring *r = &l->tap->rings[ring];
    dnstap__cursor *c = &l->cursors[ring];
    const uint8_t *data = NULL;
    size_t span, whole, frames;
    long n;

    span = dnstap__ring_span(r, &c->at, DNSTAP_LOAD_ACQUIRE(&r->published), &data);
    if (!span) return 0;
    DNSTAP_ASSERT(l->done < span);
    span = dnstap__portion(l, data, span);
    n = dnstap__send(l, data + l->done, span - l->done);
    l->refused = n == DNSTAP_AGAIN ? span : 0;
    if (n < 0) return n;
    l->tap->budget -= dnstap__min(l->tap->budget, (size_t)n);
    whole = dnstap__pass(l, ring, data, l->done + (size_t)n, &frames);
    l->done += (size_t)n - whole;
    if (frames) dnstap__recover(l->tap);
    dnstap__count_sent(l, frames, whole); /* before: who waits for the tail reads the count */
    c->at += whole;
    c->frames += frames;
    dnstap__release(l->tap, ring);
    return n;
}

/* Sends until all rings are empty (0) or the transport has enough (negative); a ring that is inside
 * a frame goes first, then they take turns. GO: still more, but the turn's budget is used up, which
 * all links share: a foreign loop is not held up. */
static long dnstap__pump(dnstap__link *l)
{
    const dnstap_tap *tap = l->tap;
    unsigned sends = 0;
    uint32_t empty = 0;
    long n;

    while (empty < tap->ring_count) {
        if (!tap->budget) return DNSTAP__GO;
        n = dnstap__send_span(l, (uint32_t)l->current);
        if (n < 0) return n;
        if (n > 0 && ++sends >= DNSTAP__TURNS) return DNSTAP__GO;
        empty = n ? 0 : empty + 1;
        if (!l->done) l->current = (l->current + 1) % tap->ring_count;
    }
    return 0;
}

/* A file can end at any frame's edge: producers that never pause must not put it off. */
static bool dnstap__may_reopen(const dnstap__link *l)
{
    const dnstap__requests *asked = &l->tap->asked;

    return dnstap__reopen_asked(l->tap) && !DNSTAP_LOAD(&asked->close) && !l->done;
}

/* What a started link has come to. */
typedef enum dnstap__flowing {
    DNSTAP__EMPTY, /* it has all there is */
    DNSTAP__STUCK, /* its transport has enough */
    DNSTAP__MORE,  /* it had its turn */
    DNSTAP__GONE   /* it is not started any more */
} dnstap__flowing;

static dnstap__flowing dnstap__flow_link(dnstap__link *l)
{
    dnstap_tap *tap = l->tap;
    size_t before = l->taken;
    long result;

    l->events = 0;
    result = dnstap__pump(l);
    if (result == DNSTAP_AGAIN) {
        if (!l->stuck || l->taken != before) l->stuck = tap->now ? tap->now : 1;
        return DNSTAP__STUCK;
    }
    if (result < 0) return dnstap__break_transport(l, (int)result), DNSTAP__GONE;
    l->stuck = 0;
    if (result == DNSTAP__GO && !dnstap__may_reopen(l)) return DNSTAP__MORE;
    if (!DNSTAP_LOAD(&tap->asked.close) && !dnstap__take_reopen(tap)) return DNSTAP__EMPTY;
    dnstap_frame_writer_stop(&l->writer);
    return dnstap__enter(l, DNSTAP_STOPPING), DNSTAP__GONE;
}

/* Whether a cursor is further behind in its ring than it may be: in bytes, or by the same share of
 * the messages that the ring may hold, whichever would be full first. What a producer skips when it
 * starts again at its ring's beginning is no lag. */
static bool dnstap__too_far_behind(const dnstap_tap *tap, const dnstap__ring *r,
                                   const dnstap__cursor *c)
{
    size_t max_lag = tap->options.max_lag;
    size_t messages = (size_t)((uint64_t)r->limit * max_lag / r->size);

    return DNSTAP_LOAD(&r->recorded) - c->frames > messages ||
           dnstap__ring_used(r, c->at, DNSTAP_LOAD_ACQUIRE(&r->published)) > max_lag;
}

/* Whether another link is further in a ring in which this one lags by more than it may. */
static bool dnstap__lags(const dnstap__link *l)
{
    const dnstap_tap *tap = l->tap;
    const dnstap__link *other;
    uint32_t i;

    for (i = 0; i < tap->ring_count; i++) {
        if (!dnstap__too_far_behind(tap, &tap->rings[i], &l->cursors[i])) continue;
        for (other = tap->links; other < tap->links + DNSTAP__LINK_COUNT(tap); other++)
            if (other->state == DNSTAP_STARTED &&
                (ptrdiff_t)(other->cursors[i].at - l->cursors[i].at) > 0)
                return true;
    }
    return false;
}

static void dnstap__cut_laggards(dnstap_tap *tap)
{
    dnstap__link *l;

    for (l = tap->links; l < tap->links + DNSTAP__LINK_COUNT(tap); l++)
        if (l->state == DNSTAP_STARTED && l->stuck && dnstap__lags(l))
            dnstap__break(l, DNSTAP_TIMEOUT, 0,
                          DNSTAP__TEXT("too slow: it is behind by more than options.max_lag; raise "
                                       "that, or ring_size"));
}

/* All started links in turn, as far as the budget goes; then sleeps, unless there is more to do, or
 * all are stuck. A stuck one goes on when poll says so, whatever the rings do. */
static int dnstap__flow(dnstap_tap *tap)
{
    uint32_t states[DNSTAP__GONE + 1] = {0, 0, 0, 0}, first = tap->desk.next, i, at;
    uint64_t before = tap->shown.bytes;
    bool due = dnstap__due(tap);
    dnstap__link *l;

    if (due) dnstap__disarm(tap);
    if (due) dnstap__see(tap);
    for (i = 0; i < DNSTAP__LINK_COUNT(tap); i++) {
        at = (first + i) % DNSTAP__LINK_COUNT(tap);
        l = &tap->links[at];
        if (l->state != DNSTAP_STARTED || !(due || (l->stuck && l->ready & ~DNSTAP_POLLIN)))
            continue;
        if (tap->budget) tap->desk.next = (at + 1) % DNSTAP__LINK_COUNT(tap);
        states[tap->budget ? dnstap__flow_link(l) : DNSTAP__MORE]++;
    }
    if (DNSTAP__LINK_COUNT(tap) > 1) dnstap__cut_laggards(tap);
    if (states[DNSTAP__GONE]) return DNSTAP__GO;
    if (!due || states[DNSTAP__MORE] || !states[DNSTAP__EMPTY]) return DNSTAP__WAIT;
    DNSTAP_STORE(&tap->asked.hurry, 0);
    return dnstap__arm(
        tap, tap->shown.bytes != before && tap->options.flush_ms > 0 ? DNSTAP__NAP : DNSTAP__ROUND);
}

/* ---- >>accept ----------------------------------------------------------------------------- */

/* The links of a listening tap. In: connections; out: links in SECURING. Always: there are places
 * for max_sinks that are started and max_pending that are not yet; whoever comes is let in, and
 * when no place is left the oldest that has not shaken hands goes, one in a turn: silent ones keep
 * nobody out. */
#if DNSTAP__HAS_SOCKETS && DNSTAP__HAS_TLS
/* Whether its client's turn to be listened to has not come yet. */
static bool dnstap__unheard(const dnstap__link *l)
{
    return l->state == DNSTAP_SECURING && (!l->tls || l->tls->state == DNSTAP__TLS_IDLE);
}
#elif DNSTAP__HAS_SOCKETS
static bool dnstap__unheard(const dnstap__link *l) { return l->state == DNSTAP_SECURING; }
#endif

#if DNSTAP__HAS_SOCKETS
static int dnstap__open_desk(dnstap_tap *tap, dnstap_error *error)
{
    const dnstap_options *o = &tap->options;
    dnstap__listener *l = &tap->desk.listener;
    int result;

    l->mode = o->socket_mode;
    l->group = o->socket_group;
    result = dnstap__listener_open(l, &tap->target, o->endpoint, error);
    if (result < 0)
        dnstap__listener_close(l);
    else
        tap->shown.port = tap->target.port = l->port;
    return result;
}

/* Another tap's socket is this one's from now on, whose file it is, too. */
static void dnstap__take_desk(dnstap_tap *tap, dnstap_tap *from)
{
    dnstap_error error;

    if (tap->desk.listener.fd < 0 || tap->desk.listener.path) return; /* its own */
    if (dnstap__listener_keep(&tap->desk.listener, &from->desk.listener, &tap->target, &error) < 0)
        dnstap__say(tap, DNSTAP_LOG_WARNING, error.text);
}

/* Listens anew where the program closed the socket; false: it did not. */
static bool dnstap__renew_desk(dnstap_tap *tap)
{
    char text[400];
    dnstap_error error;
    int result;

    if (!dnstap__listener_lost(&tap->desk.listener)) return false;
    dnstap__watch(tap, tap->desk.watched, 0);
    tap->desk.watched = tap->desk.listener.fd = -1;
    result = dnstap__open_desk(tap, &error);
    dnstap__format(text, sizeof text, "%s: the program closed the listening socket; %s",
                   dnstap__where(tap), result < 0 ? error.text : "opened anew");
    if (!tap->desk.pause) dnstap__say(tap, DNSTAP_LOG_WARNING, text);
    tap->desk.pause = result < 0 ? tap->now + DNSTAP__ACCEPT_PAUSE_MS : 0;
    return true;
}

static bool dnstap__pending(const dnstap__link *l)
{
    return l->state == DNSTAP_SECURING || l->state == DNSTAP_GREETING;
}

/* The oldest that is pending, of those that have said something over TLS, or of the others; how
 * many these are. NULL: there is none. */
static dnstap__link *dnstap__oldest(const dnstap_tap *tap, bool spoke, uint32_t *count)
{
    dnstap__link *l, *oldest = NULL;

    for (*count = 0, l = tap->links; l < tap->links + DNSTAP__LINK_COUNT(tap); l++) {
        if (!dnstap__pending(l) || (dnstap__handshake_bytes(l) > 0) != spoke) continue;
        if (!oldest || (int32_t)(l->peer->number - oldest->peer->number) < 0) oldest = l;
        ++*count;
    }
    return oldest;
}

/* Who gives way to a newcomer: the oldest of the silent, or of those that have begun to speak, by
 * which half of the places is with whom. So neither silence nor idle talk takes all of them. */
static dnstap__link *dnstap__who_yields(const dnstap_tap *tap)
{
    uint32_t silent, talking;
    dnstap__link *oldest = dnstap__oldest(tap, false, &silent);
    dnstap__link *talker = dnstap__oldest(tap, true, &talking);

    return silent > talking || !talker ? oldest : talker;
}

/* A place that is free, or is made so. */
static dnstap__link *dnstap__place(dnstap_tap *tap)
{
    dnstap__link *l, *place = NULL;

    for (l = tap->links; l < tap->links + DNSTAP__LINK_COUNT(tap); l++) {
        if (l->state == DNSTAP_BROKEN || l->state == DNSTAP_FINISHED) dnstap__enter(l, DNSTAP_IDLE);
        if (l->state == DNSTAP_IDLE) place = l;
    }
    if (place && tap->shown.pending < tap->options.max_pending) return place;
    place = dnstap__who_yields(tap);
    if (!place) return NULL;
    dnstap__part(place, DNSTAP_NO_PLACE,
                 DNSTAP__TEXT("a newer connection takes its place, as it has not shaken hands; "
                              "raise options.max_pending"));
    dnstap__enter(place, DNSTAP_IDLE);
    return place;
}

static void dnstap__show_peer(dnstap__link *l, const char *address)
{
    dnstap_tap *tap = l->tap;

    dnstap__mutex_lock(&tap->lock);
    memset(l->peer, 0, sizeof *l->peer);
    l->peer->number = ++tap->desk.numbers;
    dnstap__print(l->peer->address, sizeof l->peer->address, "%s", address);
    tap->shown.accepted++;
    dnstap__mutex_unlock(&tap->lock);
}

/* A connection has come: fd is the link's from now on. */
static void dnstap__welcome(dnstap_tap *tap, int fd, const char *address)
{
    dnstap__link *l = dnstap__place(tap);

    if (!l) {
        close(fd);
        return;
    }
    dnstap__renew_tls(tap);
    l->lower = dnstap__socket_adopt(&l->medium.socket, fd, tap->desk.listener.family,
                                    dnstap__buffer_of(&tap->options));
    l->transport = l->lower;
    dnstap__secure(l);
    l->current = l->chatter = 0;
    l->ready = DNSTAP__ANY;
    dnstap__show_peer(l, address);
    dnstap__enter(l, DNSTAP_SECURING);
}

/* Without descriptors there is nothing to accept with: says so once, and tries again soon. */
static void dnstap__rest_from_accepting(dnstap_tap *tap)
{
    char text[256];

    dnstap__format(text, sizeof text, "%s: can't accept: %s; tries again", dnstap__where(tap),
                   strerror(errno));
    if (!tap->desk.pause) dnstap__say(tap, DNSTAP_LOG_WARNING, text);
    tap->desk.pause = tap->now + DNSTAP__ACCEPT_PAUSE_MS;
}

static bool dnstap__accepts(const dnstap_tap *tap)
{
    return DNSTAP__LISTENING_TAP(tap) && tap->now >= tap->desk.pause &&
           !DNSTAP_LOAD(&tap->asked.close);
}

/* Whether one more may come in: into a free place, or for another one, but nobody goes before he
 * was listened to. */
static bool dnstap__has_place(const dnstap_tap *tap, bool first)
{
    uint32_t i;

    if (tap->shown.pending < tap->options.max_pending) return true;
    for (i = 0; first && i < DNSTAP__LINK_COUNT(tap); i++)
        if (dnstap__unheard(&tap->links[i])) return false;
    return first;
}

static void dnstap__accept_all(dnstap_tap *tap)
{
    char address[sizeof tap->links->peer->address];
    unsigned n = 0;
    int fd = DNSTAP_DISCONNECTED;

    if (!tap->desk.ready || !dnstap__accepts(tap)) return;
    while (n < DNSTAP__ACCEPTS && dnstap__has_place(tap, n == 0)) {
        fd = dnstap__listener_accept(&tap->desk.listener, address, sizeof address);
        if (fd == DNSTAP_AGAIN || fd == DNSTAP_SYSTEM) break;
        if (fd >= 0) dnstap__welcome(tap, fd, address);
        n++;
    }
    if (fd != DNSTAP_SYSTEM)
        tap->desk.pause = 0;
    else if (!dnstap__renew_desk(tap))
        dnstap__rest_from_accepting(tap);
    if (fd == DNSTAP_AGAIN || fd == DNSTAP_SYSTEM) tap->desk.ready = 0;
}
#else
static int dnstap__open_desk(dnstap_tap *tap, dnstap_error *error)
{
    (void)tap, (void)error;
    return DNSTAP_UNSUPPORTED;
}

static void dnstap__take_desk(dnstap_tap *tap, const dnstap_tap *from) { (void)tap, (void)from; }
static int dnstap__listener_borrow(dnstap__listener *l, const dnstap__listener *from,
                                   dnstap_error *error)
{
    (void)l, (void)from, (void)error;
    return DNSTAP_UNSUPPORTED;
}
static bool dnstap__renew_desk(dnstap_tap *tap) { return tap && false; }
static bool dnstap__accepts(const dnstap_tap *tap) { return tap && false; }
static void dnstap__accept_all(dnstap_tap *tap) { (void)tap; }
#endif

/* ---- >>service ---------------------------------------------------------------------------- */

/* Turns: what is due now, and when the next one is. In: calls from the tap's own thread or from a
 * foreign loop; out: steps of the link, descriptors and a timeout for that loop, the books,
 * reports. Always: one thread at a time, in the process that owns the tap; a turn is bounded. */
/* The sums over all rings. What is out is read first: it never overtakes what was recorded. */
static void dnstap__sum(const dnstap_tap *tap, size_t sums[DNSTAP__COUNTERS])
{
    const dnstap__ring *r;

    memset(sums, 0, DNSTAP__COUNTERS * sizeof *sums);
    for (r = tap->rings; r < tap->rings + tap->ring_count; r++) {
        sums[DNSTAP__OUT] += DNSTAP_LOAD_ACQUIRE(&r->out);
        sums[DNSTAP__RECORDED] += DNSTAP_LOAD(&r->recorded);
        sums[DNSTAP__UNWANTED] += DNSTAP_LOAD(&r->unwanted);
        sums[DNSTAP__NO_SINK] += DNSTAP_LOAD(&r->no_sink);
        sums[DNSTAP__LOST_FULL] += DNSTAP_LOAD(&r->lost_full);
        sums[DNSTAP__LOST_LARGE] += DNSTAP_LOAD(&r->lost_large);
        sums[DNSTAP__LOST_BUSY] += DNSTAP_LOAD(&r->lost_busy);
        sums[DNSTAP__LOST_BAD] += DNSTAP_LOAD(&r->lost_bad);
        sums[DNSTAP__LOST_DISCONNECTED] += DNSTAP_LOAD(&r->lost_disconnected);
    }
}

/* What filters kept back, which is unwanted, and what they stripped. Under the lock. */
static void dnstap__count_filtered(const dnstap_tap *tap, dnstap_status *s)
{
    dnstap__filter *f = DNSTAP__FILTER(tap);
    size_t sum;
    uint32_t i, k;

    for (k = 0; f && k < sizeof f->total / sizeof *f->total; k++) {
        for (i = 0, sum = 0; i < tap->ring_count; i++)
            sum += DNSTAP_LOAD(&tap->rings[i].tally->count[k]);
        f->total[k] += (size_t)(sum - f->seen[k]);
        f->seen[k] = sum;
        if (k < DNSTAP__SIEVES) s->unwanted += f->total[k];
    }
    if (!f) return;
    s->filtered_type = f->total[DNSTAP__BY_TYPE];
    s->filtered_rcode = f->total[DNSTAP__BY_RCODE];
    s->filtered_zone = f->total[DNSTAP__BY_ZONE];
    s->filtered_sample = f->total[DNSTAP__BY_SAMPLE];
    s->filtered_hook = f->total[DNSTAP__BY_HOOK];
    s->stripped = f->total[DNSTAP__STRIPPED];
}

/* Of a sink that is started: what it was offered, and what it has not got. Under the lock. */
static void dnstap__count_peer(const dnstap__link *l, dnstap_peer *p)
{
    const dnstap_tap *tap = l->tap;
    size_t recorded = 0;
    uint32_t i;

    *p = *l->peer;
    p->state = l->state;
    p->state_ms = l->since;
    if (l->state != DNSTAP_STARTED) {
        p->offered = p->sent;
        return;
    }
    for (i = 0; i < tap->ring_count; i++) recorded += DNSTAP_LOAD(&tap->rings[i].recorded);
    p->behind = (size_t)(recorded - l->from - (size_t)p->sent); /* words may have wrapped */
    p->offered = p->sent + p->behind;
}

static void dnstap__count_peers(const dnstap_tap *tap, dnstap_status *s)
{
    const dnstap__link *l;
    dnstap_peer p;

    for (l = tap->links; l < tap->links + DNSTAP__LINK_COUNT(tap); l++) {
        if (l->state != DNSTAP_STARTED) continue;
        dnstap__count_peer(l, &p);
        s->behind += p.behind;
    }
    s->offered = s->sent + s->lost + s->behind;
}

/* Brings the books up to date, and writes the status from them. Any thread. */
static void dnstap__count(dnstap_tap *tap, dnstap_status *s)
{
    dnstap__books *b = &tap->books;
    const uint64_t *total = b->total;
    size_t sums[DNSTAP__COUNTERS];
    unsigned i;

    dnstap__mutex_lock(&tap->lock);
    dnstap__sum(tap, sums);
    for (i = 0; i < DNSTAP__COUNTERS; i++) {
        b->total[i] += (size_t)(sums[i] - b->seen[i]);
        b->seen[i] = sums[i];
    }
    *s = tap->shown;
    s->recorded = total[DNSTAP__RECORDED];
    s->queued = s->recorded - total[DNSTAP__OUT];
    if (DNSTAP__LISTENING_TAP(tap))
        dnstap__count_peers(tap, s);
    else
        s->sent = total[DNSTAP__OUT] - s->discarded;
    s->no_sink = total[DNSTAP__NO_SINK];
    s->unwanted = total[DNSTAP__UNWANTED];
    dnstap__count_filtered(tap, s);
    s->dropped_full = total[DNSTAP__LOST_FULL];
    s->dropped_large = total[DNSTAP__LOST_LARGE];
    s->dropped_busy = total[DNSTAP__LOST_BUSY];
    s->dropped_bad = total[DNSTAP__LOST_BAD];
    s->dropped_disconnected = total[DNSTAP__LOST_DISCONNECTED];
    dnstap__mutex_unlock(&tap->lock);
    s->dropped = s->dropped_full + s->dropped_large + s->dropped_bad + s->dropped_busy +
                 s->dropped_disconnected;
    s->logged = s->recorded + s->unwanted + s->dropped;
}

static void dnstap__say_dropped(dnstap_tap *tap, const dnstap_status *s)
{
    char text[320];

    dnstap__format(text, sizeof text,
                   "%s: dropped %lu messages (in all: ring full %lu, too large %lu, busy %lu, "
                   "bad %lu, disconnected %lu)",
                   dnstap__where(tap), (unsigned long)(s->dropped - tap->reported),
                   (unsigned long)s->dropped_full, (unsigned long)s->dropped_large,
                   (unsigned long)s->dropped_busy, (unsigned long)s->dropped_bad,
                   (unsigned long)s->dropped_disconnected);
    dnstap__say(tap, DNSTAP_LOG_WARNING, text);
}

/* One line for what was dropped since the last one, at most every 10 s. */
static void dnstap__report(dnstap_tap *tap)
{
    dnstap_status s;
    bool due = tap->now >= tap->report_at && DNSTAP_LOAD(&tap->losses);

    if (!DNSTAP__HAS_TEXT || (!due && tap->now < tap->count_at)) return;
    if (due) DNSTAP_EXCHANGE(&tap->losses, 0);
    dnstap__count(tap, &s);
    tap->count_at = tap->now + DNSTAP__REPORT_MS;
    if (!due || s.dropped == tap->reported) return;
    dnstap__say_dropped(tap, &s);
    tap->reported = s.dropped;
    tap->report_at = tap->now + DNSTAP__REPORT_MS;
}

/* Nothing tells when the transport is ready: it has no descriptor, or did not say what it waits
 * for. Then it is asked every few milliseconds. */
static bool dnstap__blind(const dnstap__link *l)
{
    if (!dnstap__is(&l->tap->target, DNSTAP__TIMED) || l->state == DNSTAP_BROKEN) return false;
    if (dnstap__link_fd(l) < 0) return true;
    if (l->state != DNSTAP_STARTED) return !l->events;
    return l->stuck && !(l->events & DNSTAP_POLLOUT);
}

/* No wake-up call comes through: there was no descriptor for it. */
static bool dnstap__deaf(const dnstap_tap *tap)
{
    return DNSTAP__POSIX && !tap->options.wake && tap->waker.out < 0;
}

/* When a link is due next; UINT64_MAX: when something happens. */
static uint64_t dnstap__link_due(const dnstap__link *l)
{
    const dnstap_tap *tap = l->tap;
    bool idle = l->state == DNSTAP_STARTED && !l->stuck;
    uint64_t at = dnstap__deadline(l), look = tap->now + (idle ? 100u : 5u);

    if (l->state == DNSTAP_IDLE) return DNSTAP__LISTENING_TAP(tap) ? UINT64_MAX : tap->now;
    if (l->state == DNSTAP_FINISHED) return DNSTAP_LOAD(&tap->asked.close) ? UINT64_MAX : tap->now;
    if (l->state == DNSTAP_BROKEN) at = DNSTAP__LISTENING_TAP(tap) ? tap->now : tap->dial.retry_at;
    if (l->state < DNSTAP_STARTED && l->ready) at = tap->now; /* its turn has not come */
    if (dnstap__reading(l)) at = tap->now;
    return at > look && dnstap__blind(l) ? look : at;
}

/* When the service's next turn is due; UINT64_MAX: when something happens. */
static uint64_t dnstap__next_turn(const dnstap_tap *tap)
{
    uint64_t at = UINT64_MAX, due;
    uint32_t i;

    for (i = 0; i < DNSTAP__LINK_COUNT(tap); i++) {
        due = dnstap__link_due(&tap->links[i]);
        if (due < at) at = due;
    }
    due = dnstap__next_flush(tap);
    if (dnstap__in_state(tap, DNSTAP_STARTED) && due < at) at = due;
    if (tap->desk.pause > tap->now && tap->desk.pause < at) at = tap->desk.pause;
    if (dnstap__deaf(tap) && at > tap->now + DNSTAP__LOOK_MS) at = tap->now + DNSTAP__LOOK_MS;
    if (DNSTAP_LOAD_ACQUIRE(&tap->asked.close) && at > tap->asked.close_at)
        at = tap->asked.close_at;
    return at;
}

/* poll's timeout until then. */
static int dnstap__timeout(dnstap_tap *tap)
{
    tap->due_at = tap->owner ? dnstap__next_turn(tap) : 0;
    if (tap->due_at == UINT64_MAX) return -1;
    return tap->due_at <= tap->now ? 0 : (int)(tap->due_at - tap->now);
}

static void dnstap__tell_of_link(dnstap__link *l)
{
    int fd = dnstap__link_fd(l);
    short events = dnstap__link_events(l);

    if (fd == l->watched && events == l->watched_events) return;
    if (fd != l->watched || !events) dnstap__unwatch(l);
    l->watched = events ? fd : -1;
    l->watched_events = events;
    if (events) dnstap__watch(l->tap, fd, events);
}

/* Tells a foreign loop what to wait for. */
static void dnstap__tell_loop(dnstap_tap *tap)
{
    int listener = dnstap__accepts(tap) ? tap->desk.listener.fd : -1;
    uint32_t i;

    for (i = 0; DNSTAP__LOOP_HOOK(tap, watch) && i < DNSTAP__LINK_COUNT(tap); i++)
        dnstap__tell_of_link(&tap->links[i]);
    if (DNSTAP__LOOP_HOOK(tap, watch) && listener != tap->desk.watched) {
        dnstap__watch(tap, tap->desk.listener.fd, listener >= 0 ? DNSTAP_POLLIN : 0);
        tap->desk.watched = listener;
    }
    if (DNSTAP__LOOP_HOOK(tap, timer) && !tap->grouped)
        (tap->options.timer)(tap->options.user, dnstap__timeout(tap));
}

/* The tap's time, of which a clock that goes back, or stands still during a wait, takes nothing. */
static uint64_t dnstap__now(const dnstap_tap *tap)
{
    return (tap->options.monotonic_ms)(tap->options.user) + DNSTAP_LOAD(&tap->skew);
}

static void dnstap__tick(dnstap_tap *tap, uint64_t at_least)
{
    uint64_t now = dnstap__now(tap);

    if (now < at_least) DNSTAP_STORE(&tap->skew, tap->skew + (size_t)(at_least - now));
    tap->now = now < at_least ? at_least : now;
}

/* One link's turn. A step of a TLS handshake that took something may have cost milliseconds: one of
 * them in a call. A link that was accepted has nothing to do until poll says so, or its time. */
static int dnstap__step_link(dnstap__link *l)
{
    dnstap_tap *tap = l->tap;
    size_t before = dnstap__handshake_bytes(l);
    int result;

    if (DNSTAP__LISTENING_TAP(tap) && l->state == DNSTAP_IDLE) return DNSTAP__WAIT;
    if (DNSTAP__LISTENING_TAP(tap) && l->state < DNSTAP_FINISHED && !l->ready &&
        tap->now < dnstap__deadline(l) && !dnstap__blind(l))
        return DNSTAP__WAIT;
    if (DNSTAP__HAS_TLS && l->tls && l->state == DNSTAP_SECURING && !tap->desk.steps)
        return DNSTAP__WAIT;
    result = dnstap__step(l);
    if (dnstap__handshake_bytes(l) != before) tap->desk.steps = 0;
    if (l->state != DNSTAP_STARTED) l->ready = 0;
    if (result == DNSTAP__GO) l->ready = DNSTAP__ANY;
    return result;
}

static int dnstap__steps(dnstap_tap *tap)
{
    int more = DNSTAP__WAIT;
    uint32_t i;

    for (i = 0; i < DNSTAP__LINK_COUNT(tap); i++)
        more |= dnstap__step_link(&tap->links[(tap->desk.turn + i) % DNSTAP__LINK_COUNT(tap)]);
    if (dnstap__in_state(tap, DNSTAP_STARTED))
        more |= dnstap__flow(tap);
    else if (DNSTAP__LISTENING_TAP(tap))
        dnstap__empty_rings(tap);
    for (i = 0; i < DNSTAP__LINK_COUNT(tap); i++)
        if (tap->links[i].state == DNSTAP_STARTED && more == DNSTAP__WAIT) tap->links[i].ready = 0;
    return more;
}

static void dnstap__turn(dnstap_tap *tap)
{
    unsigned steps = 0;

    tap->budget = DNSTAP__BUDGET;
    tap->due_at = 0;
    dnstap__take_calls(tap);
    tap->desk.steps = 1;
    dnstap__accept_all(tap);
    while (!dnstap__over(tap) && dnstap__steps(tap) == DNSTAP__GO && ++steps < DNSTAP__TURNS) {
    }
    dnstap__report(tap);
    tap->desk.turn = (tap->desk.turn + 1) % DNSTAP__LINK_COUNT(tap);
}

/* A wake-up descriptor in place of one that was closed, or that other processes have, too. Calls
 * may be lost with the old one, or still be under way to it: from then on the new one is read in
 * each turn. */
static void dnstap__renew_waker(dnstap_tap *tap)
{
    if (tap->owner) dnstap__watch(tap, tap->waker.out, 0);
    dnstap__waker_close(&tap->waker);
    dnstap__waker_open(&tap->waker); /* when there is none, the tap is deaf */
    if (!tap->owner) return;
    tap->calls_seen--;
    dnstap__watch(tap, tap->waker.out, DNSTAP_POLLIN);
}

/* The program may have closed the descriptor, as code does that makes a daemon. */
static void dnstap__check_waker(dnstap_tap *tap)
{
    char text[256];

    if (tap->options.wake || !dnstap__waker_lost(&tap->waker)) return;
    dnstap__format(text, sizeof text, "%s: the program closed the wake-up descriptor; opened anew",
                   dnstap__where(tap));
    if (!dnstap__deaf(tap)) dnstap__say(tap, DNSTAP_LOG_WARNING, text);
    dnstap__renew_waker(tap);
}

/* The first process that starts or services a tap owns it; nobody does when it has lost its
 * listener in a fork. If it did not open it, others that were forked from the same one may own it,
 * too: they must not take each other's calls. */
DNSTAP__COLD bool dnstap__own(dnstap_tap *tap)
{
    size_t process = dnstap__process();

    if (DNSTAP__LISTENING_TAP(tap) && tap->desk.pause == UINT64_MAX) return false;
    if (!tap->owner) {
        if (DNSTAP__POSIX && process != tap->opener) {
            if (!tap->options.wake) dnstap__renew_waker(tap);
            tap->dial.random ^= (uint32_t)process * 2654435761u;
            dnstap__barrier_open();
        }
        dnstap__check_waker(tap);
        if (dnstap__accepts(tap)) dnstap__renew_desk(tap);
        DNSTAP_STORE_RELEASE(&tap->owner, process);
        dnstap__watch(tap, tap->waker.out, DNSTAP_POLLIN);
    }
    return tap->owner == process;
}

DNSTAP__INLINE bool dnstap__owned(dnstap_tap *tap)
{
    return DNSTAP__LIKELY(tap->owner && tap->owner == dnstap__process()) || dnstap__own(tap);
}

/* A turn in a foreign loop. */
static int dnstap__service(dnstap_tap *tap)
{
    dnstap__turn(tap);
    dnstap__tell_loop(tap);
    return DNSTAP_OK;
}

/* Whether a loop that has hooks may have called because poll has found something: not when there
 * was a cause in the rings, which is as good as armed for. A descriptor is found again. */
static bool dnstap__called_for(dnstap_tap *tap)
{
    if (!DNSTAP__LOOP_HOOK(tap, watch) && !DNSTAP__LOOP_HOOK(tap, timer)) return false;
    return tap->rest == DNSTAP__AWAKE || !dnstap__due(tap);
}

/* What poll would say is not known here: what is up, and who might come, is looked at now and
 * then. */
DNSTAP_API int dnstap_service(dnstap_tap *tap)
{
    dnstap__link *l;
    bool time, look;

    if (!dnstap__owned(tap)) return DNSTAP_UNSUPPORTED;
    if (dnstap__has_timer(tap)) dnstap__poll_here(tap);
    dnstap__tick(tap, tap->now);
    time = tap->now >= tap->look_at;
    look = time || dnstap__called_for(tap);
    for (l = tap->links; l < tap->links + DNSTAP__LINK_COUNT(tap); l++)
        if (look || l->state != DNSTAP_STARTED || l->stuck) l->ready = DNSTAP__ANY;
    if (look) tap->desk.ready = DNSTAP__ANY;
    if (time) {
        tap->look_at = tap->now + DNSTAP__LOOK_MS;
        dnstap__check_waker(tap);
    }
    return dnstap__service(tap);
}

/* ---- >>loops ------------------------------------------------------------------------------ */

/* In whose loop the turns come: yours, told by poll or by hooks, that of the tap's own thread, or
 * that of a call that waits. In: what poll has found, or nothing; out: turns. Always: one thread at
 * a time; a turn in which nothing is due makes no system call. */
#if DNSTAP__POSIX
static int dnstap__add_pollfd(struct pollfd *fds, int n, int max, int fd, short events)
{
    if (n >= max || fd < 0 || !events) return n;
    fds[n].fd = fd;
    fds[n].events = events;
    fds[n].revents = 0;
    return n + 1;
}

static int dnstap__fill_pollfds(dnstap_tap *tap, struct pollfd *fds, int max, int *timeout_ms)
{
    int n = dnstap__add_pollfd(fds, 0, max, tap->waker.out, POLLIN);
    const dnstap__link *l;

    *timeout_ms = dnstap__timeout(tap);
    if (dnstap__accepts(tap)) n = dnstap__add_pollfd(fds, n, max, tap->desk.listener.fd, POLLIN);
    for (l = tap->links; l < tap->links + DNSTAP__LINK_COUNT(tap); l++)
        n = dnstap__add_pollfd(fds, n, max, dnstap__link_fd(l), dnstap__link_events(l));
    tap->polled = n;
    if (n < max || max >= DNSTAP_POLLFDS + (int)DNSTAP__LINK_COUNT(tap)) return n;
    if ((unsigned)*timeout_ms > 5) *timeout_ms = 5; /* what may have found no room */
    tap->due_at = 0;
    return n;
}

/* What poll has found for a descriptor, which come in the order of fill_pollfds; all there may be
 * when it was not asked for it. */
static short dnstap__found(const struct pollfd **next, const struct pollfd *end, int fd)
{
    if (*next == end || (*next)->fd != fd) return DNSTAP__ANY;
    return (*next)++->revents;
}

static void dnstap__take_found(dnstap_tap *tap, const struct pollfd *fds, int n)
{
    const struct pollfd *next = fds, *end = fds + n;
    dnstap__link *l;

    (void)dnstap__found(&next, end, tap->waker.out);
    tap->desk.ready = dnstap__found(&next, end, tap->desk.listener.fd);
    for (l = tap->links; l < tap->links + DNSTAP__LINK_COUNT(tap); l++)
        if (l->state == DNSTAP_STARTED || DNSTAP__LISTENING_TAP(tap))
            l->ready = (short)(l->ready | dnstap__found(&next, end, dnstap__link_fd(l)));
        else
            l->ready = DNSTAP__ANY;
}

/* What was published ever in all rings, in bytes. */
static size_t dnstap__logged(const dnstap_tap *tap)
{
    size_t sum = 0;
    uint32_t i;

    for (i = 0; i < tap->ring_count; i++) sum += DNSTAP_LOAD_ACQUIRE(&tap->rings[i].bytes);
    return sum;
}

/* Whether the loop is so busy that it takes several turns in a millisecond, in each of which
 * something is logged: then poll need not prepare for a wait, nor look at what can wait as long,
 * which costs more than all else in such a turn. It looks in each millisecond, and from time to
 * time where the clock is coarse. */
static bool dnstap__rushes(dnstap_tap *tap)
{
    size_t logged = dnstap__logged(tap);
    bool more = logged != tap->rush_at && tap->now == tap->rush_ms;

    tap->rush = more && tap->rush < DNSTAP__TURNS ? tap->rush + 1 : 0;
    tap->rush_at = logged;
    tap->rush_ms = tap->now;
    return tap->rush > DNSTAP__RUSH && tap->now < tap->due_at && !dnstap__due(tap);
}

DNSTAP_API int dnstap_pollfds(dnstap_tap *tap, struct pollfd *fds, int max, int *timeout_ms)
{
    dnstap__poll_here(tap);
    if (!dnstap__rushes(tap)) return dnstap__fill_pollfds(tap, fds, max, timeout_ms);
    tap->polled = -1;
    *timeout_ms = 0;
    return 0;
}

/* Poll has found nothing of what it was given to look at, and nothing is due. In a rush the rings
 * are looked at before the next poll only. */
static bool dnstap__calm(dnstap_tap *tap, const struct pollfd *fds, int n)
{
    const dnstap__link *l;
    int i;

    if (tap->now >= tap->due_at || DNSTAP__LOOP_HOOK(tap, timer)) return false;
    if (tap->polled < 0 && n == 0) return true;
    if (tap->polled != n) return false;
    for (i = 0; i < n; i++)
        if (fds[i].revents) return false;
    for (l = tap->links; l < tap->links + DNSTAP__LINK_COUNT(tap); l++)
        if (l->ready) return false;
    return !(DNSTAP__LISTENING_TAP(tap) && tap->desk.ready) && !dnstap__due(tap);
}

static void dnstap__take_revents(dnstap_tap *tap, const struct pollfd *fds, int n)
{
    dnstap__take_found(tap, fds, n);
    if (dnstap__deaf(tap) || (n > 0 && fds[0].revents & POLLNVAL)) dnstap__check_waker(tap);
}

DNSTAP_API int dnstap_service_fds(dnstap_tap *tap, const struct pollfd *fds, int n)
{
    if (!dnstap__owned(tap)) return DNSTAP_UNSUPPORTED;
    dnstap__tick(tap, tap->now);
    if (dnstap__calm(tap, fds, n)) return DNSTAP_OK;
    dnstap__take_revents(tap, fds, n);
    return dnstap__service(tap);
}

/* One wait and one turn, of the tap's thread or of a call that waits. */
static void dnstap__wait_and_turn(dnstap_tap *tap, int longest_ms)
{
    int max = DNSTAP_POLLFDS + (int)DNSTAP__LINK_COUNT(tap), timeout, n;
    uint64_t at_least;

    dnstap__tick(tap, tap->now);
    n = dnstap__fill_pollfds(tap, tap->fds, max, &timeout);
    if (timeout < 0 || (longest_ms >= 0 && timeout > longest_ms)) timeout = longest_ms;
    at_least = tap->now + (uint64_t)(timeout > 0 ? timeout : 0);
    if (poll(tap->fds, (nfds_t)n, timeout) != 0) at_least = tap->now; /* it did not wait so long */
    dnstap__tick(tap, at_least);
    dnstap__take_revents(tap, tap->fds, n);
    dnstap__turn(tap);
}
#else
static void dnstap__wait_and_turn(dnstap_tap *tap, int longest_ms)
{
    (void)longest_ms;
    dnstap__tick(tap, tap->now);
    tap->links[0].ready = DNSTAP__ANY;
    dnstap__turn(tap);
}
#endif

/* A clock that stands still ends no wait: after so many turns it is over at close all the same. */
static void dnstap__run(dnstap_tap *tap)
{
    uint64_t before = tap->now;
    unsigned long still = 0;

    while (!dnstap__over(tap)) {
        dnstap__wait_and_turn(tap, -1);
        still = tap->now == before && DNSTAP_LOAD(&tap->asked.close) ? still + 1 : 0;
        before = tap->now;
        if (still >= DNSTAP__STILL_TURNS) return;
    }
}

static void *dnstap__thread_main(void *argument)
{
    dnstap__run((dnstap_tap *)argument);
    return NULL;
}

/* The hooks are for a foreign loop, which would service the tap beside the thread. */
static bool dnstap__has_loop(const dnstap_tap *tap)
{
    return DNSTAP__LOOP_HOOK(tap, watch) || DNSTAP__LOOP_HOOK(tap, timer) || tap->options.wake;
}

DNSTAP_API int dnstap_start(dnstap_tap *tap)
{
    if (!DNSTAP__HAS_THREADS || tap->thread.running || dnstap__has_loop(tap) || !dnstap__owned(tap))
        return DNSTAP_UNSUPPORTED;
    DNSTAP_STORE(&tap->poller, 0); /* no thread of the caller's polls any more */
    return dnstap__thread_start(&tap->thread, dnstap__thread_main, tap) ? DNSTAP_SYSTEM : DNSTAP_OK;
}

/* Asks the service to hurry, and waits a little: a millisecond, or a turn. */
static void dnstap__hurry(dnstap_tap *tap, uint64_t left)
{
    if (!DNSTAP_EXCHANGE(&tap->asked.hurry, 1) && tap->thread.running) dnstap__nudge(tap);
    if (tap->thread.running) {
        dnstap__pause();
    } else {
        dnstap__wait_and_turn(tap, (int)left);
        dnstap__tell_loop(tap); /* what it waited for may be the loop's to wait for from now on */
    }
}

/* Whether the service has passed the target by the end. */
static bool dnstap__passes(dnstap_tap *tap, const size_t *word, size_t target, uint64_t end)
{
    uint64_t now = dnstap__now(tap), waits = end > now ? end - now : 0;

    while ((ptrdiff_t)(DNSTAP_LOAD_ACQUIRE(word) - target) < 0) {
        now = dnstap__now(tap);
        if (now >= end) return false;
        if (tap->thread.running && !waits--) return false; /* the clock stands still */
        dnstap__hurry(tap, end - now);
    }
    return true;
}

DNSTAP_API int dnstap_flush(dnstap_tap *tap, int timeout_ms)
{
    uint64_t end = dnstap__now(tap) + (uint64_t)(timeout_ms > 0 ? timeout_ms : 0);
    size_t reopen = DNSTAP_LOAD(&tap->asked.reopen);
    dnstap__ring *r;

    if (!dnstap__owned(tap)) return DNSTAP_UNSUPPORTED;
    for (r = tap->rings; r < tap->rings + tap->ring_count; r++)
        if (!dnstap__passes(tap, &r->tail, DNSTAP_LOAD_ACQUIRE(&r->published), end))
            return DNSTAP_TIMEOUT;
    return dnstap__passes(tap, &tap->asked.reopened, reopen, end) ? DNSTAP_OK : DNSTAP_TIMEOUT;
}

DNSTAP_API int dnstap_reopen(dnstap_tap *tap)
{
    if (!dnstap__is(&tap->target, DNSTAP__REOPENS)) return DNSTAP_UNSUPPORTED;
    dnstap__add_shared(&tap->asked.reopen);
    dnstap__nudge(tap);
    return DNSTAP_OK;
}

/* What a ring holds is given up. */
static size_t dnstap__discard(dnstap_tap *tap)
{
    size_t discarded = 0;
    uint32_t i;

    for (i = 0; i < tap->ring_count; i++) {
        dnstap__ring *r = &tap->rings[i];

        discarded += r->recorded - r->out;
        DNSTAP_STORE(&r->out, r->recorded);
        DNSTAP_STORE_RELEASE(&r->tail, DNSTAP_LOAD_ACQUIRE(&r->published));
    }
    return discarded;
}

/* A link as it is when a tap opens. */
static void dnstap__link_reset(dnstap__link *l)
{
    l->done = l->refused = 0;
    l->watched = -1;
    dnstap__set_state(l, DNSTAP_IDLE);
}

static void dnstap__disconnect_all(dnstap_tap *tap)
{
    uint32_t i;

    dnstap__end_lookup(&tap->links[0]);
    for (i = 0; i < DNSTAP__LINK_COUNT(tap); i++) dnstap__disconnect(&tap->links[i]);
}

/* Of the parent's threads only the calling one is left. */
static void dnstap__forget_threads(dnstap_tap *tap)
{
    const dnstap__ring *mine = dnstap__my_ring(tap);
    uint32_t i;

    for (i = 0; i < tap->ring_count; i++) {
        tap->rings[i].owner = &tap->rings[i] == mine;
        tap->rings[i].lock = 0;
    }
    tap->thread.running = false;
    dnstap__mutex_open(&tap->lock); /* the parent's service may have held it */
}

/* A forked child can't listen where its parent does: its tap wants nothing. */
static int dnstap__forget_listener(dnstap_tap *tap)
{
    tap->desk.listener.path = NULL;
    dnstap__listener_close(&tap->desk.listener);
    tap->desk.pause = UINT64_MAX; /* for ever */
    return DNSTAP_UNSUPPORTED;
}

DNSTAP_API int dnstap_after_fork(dnstap_tap *tap)
{
    uint32_t i;

    if (tap->owner == dnstap__process()) return DNSTAP_OK;
    tap->options.watch = NULL; /* the loop's kernel object may be the parent's: not a word to it */
    dnstap__forget_threads(tap);
    dnstap__names_orphan(&tap->dial.names);
    dnstap__disconnect_all(tap);
    tap->shown.discarded += dnstap__discard(tap);
    tap->owner = tap->asked.hurry = tap->poller = 0;
    tap->asked.reopen = tap->asked.reopened = tap->reopening = 0;
    tap->opener = dnstap__process();
    tap->calls = tap->calls_seen = 0;
    tap->now = dnstap__now(tap);
    tap->dial.backoff = DNSTAP__BACKOFF_MIN;
    for (i = 0; i < DNSTAP__LINK_COUNT(tap); i++) dnstap__link_reset(&tap->links[i]);
    dnstap__waker_close(&tap->waker);
    dnstap__barrier_open();
    if (DNSTAP__LISTENING_TAP(tap)) return dnstap__forget_listener(tap);
    return tap->options.wake ? DNSTAP_OK : dnstap__waker_open(&tap->waker);
}

/* From `since` until now; a clock may have gone back. */
static uint64_t dnstap__elapsed(uint64_t since, uint64_t now)
{
    return now > since ? now - since : 0;
}

DNSTAP_API void dnstap_get_status(dnstap_tap *tap, dnstap_status *status)
{
    uint64_t now;

    dnstap__count(tap, status);
    now = dnstap__now(tap); /* after what it is compared with */
    status->state_ms = dnstap__elapsed(status->state_ms, now);
    status->error_ms = status->error.code ? dnstap__elapsed(status->error_ms, now) : 0;
}

DNSTAP_API int dnstap_get_peers(dnstap_tap *tap, dnstap_peer *peers, int max)
{
    uint64_t now;
    uint32_t i;
    int n = 0, k;

    dnstap__mutex_lock(&tap->lock);
    for (i = 0; DNSTAP__LISTENING_TAP(tap) && i < DNSTAP__LINK_COUNT(tap) && n < max; i++) {
        const dnstap__link *l = &tap->links[i];

        if (l->state != DNSTAP_IDLE && l->state < DNSTAP_FINISHED)
            dnstap__count_peer(l, &peers[n++]);
    }
    dnstap__mutex_unlock(&tap->lock);
    now = dnstap__now(tap);
    for (k = 0; k < n; k++) peers[k].state_ms = dnstap__elapsed(peers[k].state_ms, now);
    return n;
}

DNSTAP_API void dnstap_get_ring(dnstap_tap *tap, uint32_t ring, size_t *bytes, size_t *messages)
{
    const dnstap__ring *r = &tap->rings[ring < tap->ring_count ? ring : 0];
    size_t tail = DNSTAP_LOAD_ACQUIRE(&r->tail), out = DNSTAP_LOAD_ACQUIRE(&r->out);
    size_t used = dnstap__ring_used(r, tail, DNSTAP_LOAD_ACQUIRE(&r->published));

    *bytes = dnstap__min(used, r->size); /* the ring may have moved on meanwhile */
    *messages = DNSTAP_LOAD(&r->recorded) - out;
}

/* ---- >>open ------------------------------------------------------------------------------- */

/* A tap's beginning. In: options; out: a tap in one block of memory. Always: options are resolved
 * and checked in one place, before anything is opened; the same code adds up the memory and carves
 * it; what fails leaves nothing open, and a text. */

/* Options with their defaults, and what follows from them. */
typedef struct dnstap__setup {
    dnstap_options o;
    dnstap__target target;
    dnstap_bytes identity, version;
    uint32_t ring_count, link_count;
    bool dry;                                /* nothing is opened: would it be refused? */
    const dnstap__listener *lent;            /* whose socket it listens with; NULL: its own */
    char host[DNSTAP__HOST_SIZE];            /* the target's */
    char host_name[DNSTAP__POSIX ? 256 : 1]; /* this machine's */
    char base[DNSTAP__PATH_SIZE];            /* of relative paths */
} dnstap__setup;

/* Room for what is logged, and for names of any length that leave half of the ring to it. */
static size_t dnstap__default_message(const dnstap__setup *s)
{
    size_t names = s->identity.size + s->version.size, size = s->o.full ? 65535 + 1024 : 1024;

    return names <= size / 2 || names > 65535 ? size : size + 2 * names;
}

/* The largest frame. Each message of a size that a tap without a template takes by default is taken
 * with it too, as far as the ring allows that. */
static int dnstap__resolve_max_message(dnstap__setup *s, const dnstap__extra *extra,
                                       dnstap_error *error)
{
    dnstap_options *o = &s->o;
    size_t most = 8 + extra->room + extra->names * DNSTAP__EXPANDED_MAX, half = o->ring_size / 2;

    if (!o->max_message) {
        o->max_message = dnstap__default_message(s);
        if (extra->count && half > o->max_message)
            o->max_message = dnstap__min(o->max_message + most, half);
    }
    if (o->max_message < 64 || o->max_message > half)
        return dnstap__fail(error, DNSTAP_BAD_OPTION, 0,
                            "max_message %lu is not between 64 and half of ring_size %lu; raise "
                            "ring_size or lower max_message",
                            (unsigned long)o->max_message, (unsigned long)o->ring_size);
    if (extra->usual > o->max_message - dnstap__min(o->max_message / 2, 512))
        return dnstap__fail(error, DNSTAP_BAD_OPTION, 0,
                            "extra makes %lu bytes, and max_message %lu has too little room beside "
                            "them; shorten it or raise max_message",
                            (unsigned long)extra->usual, (unsigned long)o->max_message);
    return DNSTAP_OK;
}

/* Defaults and limits of queue, rings and messages, which depend on each other. */
static int dnstap__resolve_sizes(dnstap__setup *s, dnstap_error *error)
{
    dnstap_options *o = &s->o;
    size_t each = o->full ? 512 : 128, messages;
    dnstap__extra extra;

    if (!DNSTAP__HAS_EXTRA && o->extra && *o->extra)
        return dnstap__fail(error, DNSTAP_UNSUPPORTED, 0,
                            "this build has no templates; leave extra out");
    if (o->extra && strlen(o->extra) > DNSTAP_TEMPLATE_MAX)
        return dnstap__fail(error, DNSTAP_BAD_OPTION, 0, "extra has %lu bytes; give at most %d",
                            (unsigned long)strlen(o->extra), (int)DNSTAP_TEMPLATE_MAX);
    dnstap__measure_template(&extra, o);
    each += dnstap__min(extra.usual + extra.names * 32, 512);
    if (!o->queue) o->queue = 1;
    if (o->queue > 4096)
        return dnstap__fail(error, DNSTAP_BAD_OPTION, 0,
                            "queue is %u; give 1 to 4096, in units of 10,000 messages",
                            (unsigned)o->queue);
    messages = (size_t)o->queue * 10000u;
    if (!o->ring_size && messages <= SIZE_MAX / 2 / each)
        o->ring_size = dnstap__power_of_two(messages * each);
    if (!o->ring_size)
        return dnstap__fail(error, DNSTAP_BAD_OPTION, 0,
                            "queue %u needs a larger ring than this machine can address",
                            (unsigned)o->queue);
    if (o->ring_size & (o->ring_size - 1) || o->ring_size > SIZE_MAX / 4)
        return dnstap__fail(error, DNSTAP_BAD_OPTION, 0,
                            "ring_size %lu is not a power of two below %lu",
                            (unsigned long)o->ring_size, (unsigned long)(SIZE_MAX / 4));
    return dnstap__resolve_max_message(s, &extra, error);
}

/* Defaults and limits of the rest. */
static int dnstap__resolve_numbers(dnstap_options *o, dnstap_error *error)
{
    if (!o->producers) o->producers = DNSTAP__HAS_THREADS ? 8 : 1;
    if (DNSTAP__HAS_SOCKETS && !o->writebuffer) o->writebuffer = 1;
    if (!o->flush_ms) o->flush_ms = 100;
    if (!o->timeout_ms) o->timeout_ms = 4000;
    if (!o->monotonic_ms) o->monotonic_ms = dnstap__clock_ms;
    if (o->producers > 1024)
        return dnstap__fail(error, DNSTAP_BAD_OPTION, 0, "producers is %u; give 1 to 1024",
                            (unsigned)o->producers);
    if (o->writebuffer > 1024)
        return dnstap__fail(error, DNSTAP_BAD_OPTION, 0, "writebuffer is %u; give 1 to 1024 MiB",
                            (unsigned)o->writebuffer);
    if (o->timeout_ms < 0)
        return dnstap__fail(error, DNSTAP_BAD_OPTION, 0,
                            "timeout_ms is negative; give milliseconds");
    if (!DNSTAP__HAS_LOOP && (o->watch || o->timer))
        return dnstap__fail(error, DNSTAP_UNSUPPORTED, 0,
                            "this build tells no loop what to wait for; leave watch and timer out");
    if (!DNSTAP__POSIX && o->monotonic_ms == dnstap__clock_ms)
        return dnstap__fail(error, DNSTAP_BAD_OPTION, 0,
                            "this machine has no clock of its own; set options.monotonic_ms");
    return DNSTAP_OK;
}

/* Defaults and limits of a tap that listens. */
static int dnstap__resolve_listen(dnstap__setup *s, dnstap_error *error)
{
    dnstap_options *o = &s->o;

    s->link_count = 1;
    if (!o->listen) return DNSTAP_OK;
    if (!DNSTAP__HAS_LISTEN)
        return dnstap__fail(error, DNSTAP_UNSUPPORTED, 0,
                            "this build has no taps that listen; let it connect");
    if (!o->max_sinks) o->max_sinks = 16;
    if (!o->max_pending) o->max_pending = 8;
    if (!o->max_lag) o->max_lag = o->ring_size / 4 * 3;
    s->link_count = o->max_sinks + o->max_pending;
    if (!dnstap__is(&s->target, DNSTAP__LISTENS))
        return dnstap__fail(error, DNSTAP_BAD_OPTION, 0,
                            "%s: nobody can connect to it; listen on unix://, tcp:// or tls://",
                            o->transport ? "options.transport" : o->endpoint);
    if (o->max_sinks > 1024 || o->max_pending > 1024)
        return dnstap__fail(error, DNSTAP_BAD_OPTION, 0,
                            "max_sinks is %u, max_pending %u; give 1 to 1024",
                            (unsigned)o->max_sinks, (unsigned)o->max_pending);
    if (o->max_lag > o->ring_size)
        return dnstap__fail(error, DNSTAP_BAD_OPTION, 0,
                            "max_lag %lu is more than ring_size %lu; lower it",
                            (unsigned long)o->max_lag, (unsigned long)o->ring_size);
    return DNSTAP_OK;
}

/* All of the setup. Nothing is opened yet; error may be NULL. */
static int dnstap__resolve_options(dnstap__setup *s, const dnstap_options *options,
                                   dnstap_error *error)
{
    const char *version = options->version ? options->version : "dnstap.h-" DNSTAP_VERSION;
    int result;

    memset(s, 0, sizeof *s);
    s->o = *options;
    result = dnstap__find_target(&s->target, s->host, &s->o, error);
    if (result < 0) return result;
    if (dnstap__is(&s->target, DNSTAP__SECURE)) s->o.ca_file = dnstap__default_ca(&s->o);
    if ((result = dnstap__find_base(s->base, &s->target, &s->o, error)) < 0) return result;
    if ((result = dnstap__resolve_numbers(&s->o, error)) < 0) return result;
    if (!s->o.identity) dnstap__host_name(s->host_name, sizeof s->host_name);
    s->identity = dnstap_bytes_of(s->o.identity ? s->o.identity : s->host_name, 0);
    s->identity.size = strlen((const char *)s->identity.data);
    s->version = dnstap_bytes_of(version, strlen(version));
    if ((result = dnstap__resolve_sizes(s, error)) < 0) return result;
    if ((result = dnstap__resolve_listen(s, error)) < 0) return result;
    if ((result = dnstap__check_filter(&s->o, error)) < 0) return result;
    if (s->identity.size + s->version.size > s->o.max_message / 2)
        return dnstap__fail(
            error, DNSTAP_BAD_OPTION, 0,
            "identity and version have %lu bytes, more than half of max_message %lu",
            (unsigned long)(s->identity.size + s->version.size), (unsigned long)s->o.max_message);
    s->ring_count = s->o.producers + (DNSTAP__HAS_THREADS ? 1u : 0u);
    return DNSTAP_OK;
}

/* Puts the copy that was taken in the place of a string of the caller's; NULL: it only added up. */
static void dnstap__replace_string(const char **string, const char *copy)
{
    if (copy) *string = copy;
}

static void dnstap__replace_bytes(dnstap__arena *a, dnstap_bytes *bytes)
{
    dnstap_bytes copy = dnstap__take_bytes(a, *bytes);

    if (copy.data) *bytes = copy;
}

/* The caller's strings and blocks may go when the tap is open, and the working directory change:
 * paths are behind base. t is the endpoint's. */
static void dnstap__take_options(dnstap__arena *a, dnstap_options *o, const dnstap__target *t,
                                 const char *base)
{
    size_t at = DNSTAP__HAS_ENDPOINT && t->path ? (size_t)(t->path - o->endpoint) : 0;
    const char *from = DNSTAP__HAS_ENDPOINT && dnstap__lies_relative(t) ? base : "";

    if (DNSTAP__HAS_ENDPOINT || DNSTAP__HAS_TEXT)
        dnstap__replace_string(&o->endpoint, dnstap__take_path(a, o->endpoint, at, from));
    if (DNSTAP__HAS_LISTEN)
        dnstap__replace_string(&o->socket_group, dnstap__take_string(a, o->socket_group));
    if (!DNSTAP__HAS_TLS) return;
    dnstap__replace_string(&o->ca_file, dnstap__take_path(a, o->ca_file, 0, base));
    dnstap__replace_string(&o->cert_file, dnstap__take_path(a, o->cert_file, 0, base));
    dnstap__replace_string(&o->key_file, dnstap__take_path(a, o->key_file, 0, base));
    dnstap__replace_string(&o->server_name, dnstap__take_string(a, o->server_name));
    dnstap__replace_bytes(a, &o->ca);
    dnstap__replace_bytes(a, &o->cert);
    dnstap__replace_bytes(a, &o->key);
}

#if DNSTAP__HAS_TLS
static void dnstap__layout_tls(dnstap_tap *tap, dnstap__arena *a, const dnstap__setup *s)
{
    dnstap__tls_settings set = dnstap__tls_settings_of(&s->o, s->target.host);
    dnstap__tls_config *config = dnstap__tls_carve_config(a, &set);
    dnstap__tls *tls;
    uint32_t i;

    if (tap && !a->overflow) tap->tls_config = config;
    for (i = 0; i < s->link_count; i++) {
        tls = dnstap__tls_carve(a, &set);
        if (tap && !a->overflow) tap->links[i].tls = tls;
    }
}

static void dnstap__forget_tls(dnstap__tls_config *c)
{
    if (!c) return;
    dnstap__tls_forget(c, 0);
    dnstap__tls_forget(c, 1);
}

static int dnstap__open_tls(dnstap_tap *tap, bool dry, dnstap_error *error)
{
    dnstap__tls_settings set = dnstap__tls_settings_of(&tap->options, tap->target.host);
    int result;

    set.dry = dry;
    result = dnstap__tls_load(tap->tls_config, &set, error);
    if (result == DNSTAP_OK && !DNSTAP__LISTENING_TAP(tap)) dnstap__secure(&tap->links[0]);
    return result;
}
#else
static void dnstap__layout_tls(dnstap_tap *tap, dnstap__arena *a, const dnstap__setup *s)
{
    (void)tap, (void)a, (void)s;
}
static void dnstap__forget_tls(dnstap__tls_config *c) { (void)c; }
static int dnstap__open_tls(dnstap_tap *tap, bool dry, dnstap_error *error)
{
    (void)tap, (void)dry, (void)error;
    return DNSTAP_UNSUPPORTED;
}
#endif

/* The links, with a cursor for each ring, and what poll needs for them. */
static void dnstap__layout_links(dnstap_tap *tap, dnstap__arena *a, const dnstap__setup *s)
{
    uint32_t n = s->link_count, i;
    dnstap__link *links = (dnstap__link *)dnstap__take(a, n * sizeof *links, DNSTAP__ALIGN);
    dnstap__cursor *cursors = (dnstap__cursor *)dnstap__take(
        a, (size_t)n * s->ring_count * sizeof *cursors, sizeof(size_t));
    void *fds = dnstap__take(a, (n + DNSTAP_POLLFDS) * DNSTAP__POLLFD_SIZE, sizeof(size_t));
    dnstap_peer *peers = (dnstap_peer *)(s->o.listen ? dnstap__take(a, n * sizeof *peers, 8)
                                                     : NULL);
    const char *host = dnstap__take_string(a, s->target.host);

    if (!tap || a->overflow) return;
    tap->target = s->target;
    tap->target.host = host;
    memset(links, 0, n * sizeof *links);
    tap->fds = (struct pollfd *)fds;
    tap->links = links;
    tap->link_count = n;
    for (i = 0; i < n; i++) {
        links[i].tap = tap;
        links[i].cursors = cursors + (size_t)i * s->ring_count;
        links[i].peer = peers ? peers + i : NULL;
    }
}

/* What a tap does not change: its options, with identity and version encoded. */
static void dnstap__fill_tap(dnstap_tap *tap, const dnstap__setup *s, uint8_t *prefix,
                             size_t prefix_size)
{
    memset(tap, 0, sizeof *tap);
    tap->ring_count = s->ring_count;
    tap->options = s->o;
    dnstap__encode_prefix(s->identity, s->version, prefix, prefix_size);
    tap->fixed.prefix = prefix;
    tap->fixed.prefix_size = prefix_size;
    tap->fixed.identity = s->identity;
    tap->fixed.version = s->version;
    tap->fixed.full = s->o.full;
}

/* Everything a tap keeps, in one block. Fills in tap unless the arena only adds up, and leaves s as
 * it is. */
static dnstap_tap *dnstap__layout(dnstap__arena *a, dnstap__setup *s)
{
    dnstap_tap *tap = (dnstap_tap *)dnstap__take(a, sizeof *tap, DNSTAP__ALIGN);
    size_t size = s->ring_count * sizeof *tap->rings;
    dnstap__ring *rings = (dnstap__ring *)dnstap__take(a, size, DNSTAP__ALIGN);
    size_t prefix_size = (size_t)dnstap__encode_prefix(s->identity, s->version, NULL, 0);
    uint8_t *prefix = (uint8_t *)dnstap__take(a, prefix_size, 1), *data;
    bool fills = tap && !a->overflow;
    dnstap__extra extra;
    dnstap__filter *filter;
    dnstap__tally *tallies;
    uint32_t i;

    if (fills) dnstap__fill_tap(tap, s, prefix, prefix_size);
    if (DNSTAP__HAS_RARE) dnstap__replace_bytes(a, fills ? &tap->fixed.identity : &s->identity);
    if (DNSTAP__HAS_RARE) dnstap__replace_bytes(a, fills ? &tap->fixed.version : &s->version);
    dnstap__compile_template(&extra, a, &s->o);
    filter = dnstap__compile_filter(a, &s->o, s->ring_count, &tallies);
    dnstap__take_options(a, fills ? &tap->options : &s->o, &s->target, s->base);
    if (fills) tap->extra = extra;
    if (fills) tap->filter = filter;
    if (fills) tap->rings = (dnstap__ring *)memset(rings, 0, size);
    dnstap__layout_links(tap, a, s);
    if (dnstap__is(&s->target, DNSTAP__SECURE)) dnstap__layout_tls(tap, a, s);
    for (i = 0; i < s->ring_count; i++) {
        data = (uint8_t *)dnstap__take(a, s->o.ring_size, DNSTAP__ALIGN);
        if (!data || a->overflow) continue;
        rings[i].data = data;
        rings[i].size = s->o.ring_size;
        rings[i].limit = (size_t)s->o.queue * 10000u;
        rings[i].shared = i == s->o.producers;
        rings[i].tally = tallies ? tallies + i : NULL;
        rings[i].owner = rings[i].shared;
    }
    return a->overflow ? NULL : tap;
}

static size_t dnstap__layout_size(dnstap__setup *s)
{
    dnstap__arena a;

    memset(&a, 0, sizeof a);
    a.size = SIZE_MAX - DNSTAP__ALIGN;
    dnstap__layout(&a, s);
    return a.overflow ? 0 : a.used + DNSTAP__ALIGN; /* the block may begin anywhere */
}

DNSTAP_API size_t dnstap_memory_size(const dnstap_options *options)
{
    dnstap__setup setup;

    if (dnstap__resolve_options(&setup, options, NULL) < 0) return 0;
    return dnstap__layout_size(&setup);
}

/* The endpoint's transport; files are opened. */
static int dnstap__open_link(dnstap_tap *tap, const dnstap__setup *s, dnstap_error *error)
{
    dnstap__link *l = &tap->links[0];
    dnstap__opening o;
    int result;

    o.endpoint = tap->options.endpoint;
    o.target = &tap->target;
    o.user = s->o.transport;
    o.dry = s->dry;
    o.send_buffer = dnstap__buffer_of(&tap->options);
    o.overwrite = tap->options.overwrite;
    if (s->dry && dnstap__writes_here(tap->target.path)) return DNSTAP_OK;
    result = DNSTAP__HAS_ENDPOINT ? (tap->target.scheme->open)(&o, &l->medium, &l->lower, error)
                                  : dnstap__open_user(&o, &l->medium, &l->lower, error);
    l->transport = l->lower;
    if (result == DNSTAP_OK && dnstap__is(&tap->target, DNSTAP__HOSTED))
        result = dnstap__names_open(&tap->dial.names, &o, tap->options.resolve != NULL, error);
    return result;
}

/* What links come from. Certificates first: nothing is bound in vain. */
static int dnstap__open_links(dnstap_tap *tap, const dnstap__setup *s, dnstap_error *error)
{
    int result = DNSTAP_OK;

    if (s->target.path) tap->target.path = tap->options.endpoint + (s->target.path - s->o.endpoint);
    if (s->lent) result = dnstap__listener_borrow(&tap->desk.listener, s->lent, error);
    tap->desk.listener.dry = s->dry;
    if (!DNSTAP__LISTENING_TAP(tap)) result = dnstap__open_link(tap, s, error);
    if (result == DNSTAP_OK && dnstap__is(&tap->target, DNSTAP__SECURE))
        result = dnstap__open_tls(tap, s->dry, error);
    if (result == DNSTAP_OK && DNSTAP__LISTENING_TAP(tap)) result = dnstap__open_desk(tap, error);
    return result;
}

/* No key stays in the tap's memory, which is the caller's again. */
static void dnstap__forget_keys(dnstap_tap *tap)
{
    dnstap__forget_tls(tap->tls_config);
    dnstap__wipe((void *)(uintptr_t)tap->options.key.data, tap->options.key.size);
}

/* What the options don't decide. */
static void dnstap__start_values(dnstap_tap *tap)
{
    const dnstap_options *o = &tap->options;
    uint32_t i;

    tap->producers = o->producers;
    tap->max_message = o->max_message;
    tap->enabled = tap->heard = 1;
    dnstap__waker_none(&tap->waker);
    tap->now = dnstap__now(tap);
    tap->opener = dnstap__process();
    dnstap__dialler_init(&tap->dial, tap->now, tap);
    tap->shown.ring_size = o->ring_size;
    tap->shown.rings = tap->ring_count;
    tap->desk.listener.fd = tap->desk.watched = -1;
    dnstap__mutex_open(&tap->lock);
    for (i = 0; i < DNSTAP__LINK_COUNT(tap); i++) dnstap__link_reset(&tap->links[i]);
}

/* Takes back what was opened. Returns NULL. */
static dnstap_tap *dnstap__not_open(dnstap_tap *tap)
{
    dnstap__waker_close(&tap->waker);
    dnstap__mutex_close(&tap->lock);
    dnstap__disconnect_all(tap);
    dnstap__listener_close(&tap->desk.listener);
    dnstap__forget_keys(tap);
    return NULL;
}

static void dnstap__say_too_much(dnstap_error *error)
{
    dnstap__fail(error, DNSTAP_NO_MEMORY, 0,
                 "these options need more memory than this machine can address; lower ring_size, "
                 "queue, producers, ca_memory or the record buffers");
}

/* Lays a tap out in memory, and opens what it needs. NULL: nothing is left open. */
static dnstap_tap *dnstap__open(void *memory, size_t size, dnstap__setup *s, dnstap_error *error)
{
    dnstap__arena a;
    dnstap_tap *tap;
    size_t need = dnstap__layout_size(s);

    memset(&a, 0, sizeof a);
    if (!need) {
        dnstap__say_too_much(error);
        return NULL;
    }
    if (!memory || size < need) {
        dnstap__fail(error, DNSTAP_NO_MEMORY, 0,
                     "%lu bytes of memory are too few for these options; they need %lu",
                     (unsigned long)size, (unsigned long)need);
        return NULL;
    }
    a.base = (uint8_t *)memory + (DNSTAP__ALIGN - (size_t)memory % DNSTAP__ALIGN) % DNSTAP__ALIGN;
    a.size = size - (size_t)(a.base - (uint8_t *)memory);
    tap = dnstap__layout(&a, s);
    DNSTAP_ASSERT(tap && a.used <= a.size);
    dnstap__start_values(tap);
    if (dnstap__open_links(tap, s, error) < 0 || s->dry) {
        dnstap__mutex_close(&tap->lock);
        dnstap__listener_close(&tap->desk.listener);
        dnstap__forget_keys(tap);
        return NULL;
    }
    if (!s->o.wake && dnstap__waker_open(&tap->waker) < 0) {
        dnstap__fail(error, DNSTAP_SYSTEM, errno, "%s: eventfd: %s", dnstap__where(tap),
                     strerror(errno));
        return dnstap__not_open(tap);
    }
    if (dnstap__key_open(&tap->key, dnstap__hand_back)) {
        dnstap__fail(error, DNSTAP_SYSTEM, EAGAIN,
                     "no thread-specific key is left; close other taps");
        return dnstap__not_open(tap);
    }
    dnstap__barrier_open();
    dnstap__enlist(tap);
    return tap;
}

#if DNSTAP__HAS_TEXT
/* Options that came from text: names the line, and what CoreDNS, which looks later, would do. */
static void dnstap__name_line(const dnstap_options *o, dnstap_error *error)
{
    static const char rest[] = "; CoreDNS would have started";
    char text[sizeof error->text - sizeof rest - 16];

    if (!error || !o->line) return;
    error->line = (int)o->line;
    memcpy(text, error->text, sizeof text);
    text[sizeof text - 1] = '\0';
    dnstap__format(error->text, sizeof error->text, "line %d: ", error->line);
    strcat(error->text, text);
    if (o->coredns && error->code != DNSTAP_UNSUPPORTED && error->code != DNSTAP_NO_MEMORY)
        strcat(error->text, rest);
}
#else
static void dnstap__name_line(const dnstap_options *o, dnstap_error *error)
{
    if (error) error->line = (int)o->line;
}
#endif

/* With a socket that another one listens at, or (NULL) its own. */
static dnstap_tap *dnstap__open_lent(void *memory, size_t size, const dnstap_options *options,
                                     const dnstap__listener *lent, dnstap_error *error)
{
    dnstap__setup setup;
    dnstap_tap *tap = NULL;

    if (error) memset(error, 0, sizeof *error);
    if (dnstap__resolve_options(&setup, options, error) == DNSTAP_OK) {
        setup.lent = lent;
        tap = dnstap__open(memory, size, &setup, error);
    }
    if (!tap) dnstap__name_line(options, error);
    return tap;
}

DNSTAP_API dnstap_tap *dnstap_open_in(void *memory, size_t size, const dnstap_options *options,
                                      dnstap_error *error)
{
    return dnstap__open_lent(memory, size, options, NULL, error);
}

#if DNSTAP__HAS_MALLOC
/* false: there is no such memory. 0 bytes are none, and no error. */
static bool dnstap__take_block(dnstap__block *block, size_t size, dnstap_error *error)
{
    dnstap__block_open(block, size);
    if (!size || block->data) return true;
    dnstap__fail(error, DNSTAP_NO_MEMORY, 0, "no %lu bytes of memory; lower queue or producers",
                 (unsigned long)size);
    return false;
}

/* As dnstap__open_lent. */
static int dnstap__check(const dnstap_options *options, const dnstap__listener *lent,
                         dnstap_error *error)
{
    dnstap__block block;
    dnstap__setup setup;
    dnstap_error found;
    size_t size;

    memset(&found, 0, sizeof found);
    if (dnstap__resolve_options(&setup, options, &found) == DNSTAP_OK) {
        setup.dry = true;
        setup.lent = lent;
        size = dnstap__layout_size(&setup);
        if (dnstap__take_block(&block, size, &found))
            dnstap__open(block.data, size, &setup, &found);
        dnstap__block_close(&block);
    }
    if (found.code) dnstap__name_line(options, &found);
    if (error) *error = found;
    return found.code;
}

DNSTAP_API int dnstap_check(const dnstap_options *options, dnstap_error *error)
{
    return dnstap__check(options, NULL, error);
}

DNSTAP_API dnstap_tap *dnstap_open(const dnstap_options *options, dnstap_error *error)
{
    size_t size = dnstap_memory_size(options); /* 0: dnstap_open_in says why */
    dnstap__block block;
    dnstap_tap *tap;

    if (!dnstap__take_block(&block, size, error)) return NULL;
    tap = dnstap_open_in(block.data, size, options, error);
    if (tap)
        tap->block = block;
    else
        dnstap__block_close(&block);
    return tap;
}
#else
DNSTAP_API dnstap_tap *dnstap_open(const dnstap_options *options, dnstap_error *error)
{
    (void)options;
    dnstap__fail(error, DNSTAP_UNSUPPORTED, 0, "this build has no malloc; use dnstap_open_in");
    return NULL;
}

DNSTAP_API int dnstap_check(const dnstap_options *options, dnstap_error *error)
{
    (void)options;
    return dnstap__fail(error, DNSTAP_UNSUPPORTED, 0, "this build has no malloc to check with");
}
#endif

/* ---- >>close -------------------------------------------------------------------------------- */

/* A tap's end. In: a time; out: what was queued, as far as that suffices, and nothing that is open.
 * Always: it takes no longer than it was given; what could not be sent is counted and told. */
static void dnstap__say_discarded(dnstap_tap *tap, size_t discarded)
{
    char text[256];

    dnstap__format(text, sizeof text, "%s: messages not sent before the close: %lu%s",
                   dnstap__where(tap), (unsigned long)discarded,
                   tap->owner ? "" : "; nobody called dnstap_start or dnstap_service");
    dnstap__say(tap, DNSTAP_LOG_WARNING, text);
}

/* What sinks of a listening tap have lost so far. */
static uint64_t dnstap__lost(dnstap_tap *tap)
{
    uint64_t lost;

    dnstap__mutex_lock(&tap->lock);
    lost = tap->shown.lost;
    dnstap__mutex_unlock(&tap->lock);
    return lost;
}

/* Sinks that have not got all when the time is over. */
static void dnstap__part_all(dnstap_tap *tap)
{
    uint32_t i;

    for (i = 0; i < DNSTAP__LINK_COUNT(tap); i++)
        if (tap->links[i].state == DNSTAP_STARTED)
            dnstap__part(&tap->links[i], DNSTAP_TIMEOUT,
                         DNSTAP__TEXT("did not take all before the close"));
    dnstap__empty_rings(tap);
}

/* From now on the service drains and stops, within the time, or that of a close before. */
static void dnstap__begin_close(dnstap_tap *tap, int timeout_ms)
{
    uint64_t at = dnstap__now(tap) + (uint64_t)(timeout_ms > 0 ? timeout_ms : 0);

    if (!DNSTAP_LOAD(&tap->asked.close)) tap->asked.lost = dnstap__lost(tap);
    if (!DNSTAP_LOAD(&tap->asked.close) || at < tap->asked.close_at) tap->asked.close_at = at;
    DNSTAP_STORE_RELEASE(&tap->asked.close, 1);
}

/* In the process that owns the tap: drains and stops. Whether sinks of a listening tap lost
 * something meanwhile. */
static bool dnstap__finish(dnstap_tap *tap, int timeout_ms)
{
    dnstap__begin_close(tap, timeout_ms);
    if (tap->thread.running) {
        dnstap__nudge(tap);
        dnstap__thread_join(&tap->thread);
    } else {
        dnstap__run(tap);
    }
    dnstap__watch(tap, tap->waker.out, 0);
    dnstap__watch(tap, tap->desk.watched, 0);
    if (DNSTAP__LISTENING_TAP(tap)) dnstap__part_all(tap);
    if (DNSTAP__LOOP_HOOK(tap, timer) && !tap->grouped) (tap->options.timer)(tap->options.user, -1);
    tap->report_at = 0;
    dnstap__report(tap);
    return tap->shown.lost != tap->asked.lost;
}

/* Whether the socket that was listened on ends with this process: not where the tap is another's,
 * nor in a worker of the one that has opened it, who has more of them. */
static bool dnstap__may_end_socket(const dnstap_tap *tap)
{
    size_t process = dnstap__process();

    if (tap->owner && tap->owner != process) return false;
    return tap->opener == process || tap->opener != dnstap__parent();
}

DNSTAP_API int dnstap_close(dnstap_tap *tap, int timeout_ms)
{
    bool lost = false;
    size_t discarded;

    if (!tap) return DNSTAP_OK;
    if (tap->owner == dnstap__process()) {
        lost = dnstap__finish(tap, timeout_ms);
    } else {
        tap->options.watch = NULL; /* the loop may be the owner's */
        dnstap__names_orphan(&tap->dial.names);
    }
    dnstap__strike(tap);
    if (!dnstap__may_end_socket(tap)) tap->desk.listener.path = NULL;
    dnstap__disconnect_all(tap);
    dnstap__listener_close(&tap->desk.listener);
    discarded = dnstap__discard(tap);
    if (discarded && (!tap->owner || tap->owner == dnstap__process()))
        dnstap__say_discarded(tap, discarded);
    dnstap__waker_close(&tap->waker);
    dnstap__key_close(tap->key);
    dnstap__mutex_close(&tap->lock);
    dnstap__forget_keys(tap);
    dnstap__block_close(&tap->block);
    return discarded || lost ? DNSTAP_TIMEOUT : DNSTAP_OK;
}

/* ---- >>metrics ---------------------------------------------------------------------------- */

/* Numbers as OpenMetrics text (github.com/OpenObservability/OpenMetrics). In: a table of samples,
 * and the subjects that have them, each with its numbers in a struct; out: lines. Always: a
 * family's samples stand together, whosever they are, below one head; what names a subject is UTF-8
 * and escaped; no line is cut. A further kind of subject is a struct and a table. */

#if DNSTAP__HAS_METRICS
/* What becomes of a number: it stands there; as so many thousandths; less those of the family's
 * samples above; 1 where it is `which`, else 0. */
enum { DNSTAP__PLAIN, DNSTAP__THOUSANDTHS, DNSTAP__REST, DNSTAP__IS };

/* Samples that only some subjects have. */
enum { DNSTAP__OF_ALL = 0, DNSTAP__OF_LISTENERS = 1 };

/* A family's head, or one of its samples, which follow. */
typedef struct dnstap__metric {
    const char *family; /* NULL: it is a sample */
    const char *type;   /* counter: its samples are called family_total; or gauge */
    const char *unit;   /* the end of family's name; NULL: none */
    const char *help;
    const char *label, *value; /* of a sample, beside the subject's; NULL: none */
    size_t at, size;           /* of its number in the subject's; 0, 0: a head */
    uint16_t kind, which, needs;
} dnstap__metric;

/* Whose samples they are. */
typedef struct dnstap__subject {
    const char *label, *name; /* tap="unix:///…" */
    unsigned ordinal;         /* above 1: the name has others, and this number tells them apart */
    unsigned has;
    const void *numbers;
} dnstap__subject;

static uint64_t dnstap__number_at(const dnstap__metric *m, const void *numbers)
{
    const uint8_t *at = (const uint8_t *)numbers + m->at;
    uint64_t v64 = 0;
    uint32_t v32 = 0;

    DNSTAP_ASSERT(m->size == sizeof v64 || m->size == sizeof v32 || m->family);
    if (m->size == sizeof v64) memcpy(&v64, at, sizeof v64);
    if (m->size == sizeof v32) memcpy(&v32, at, sizeof v32);
    return v64 + v32;
}

static void dnstap__write_number(dnstap__page *p, uint64_t v)
{
    char digits[20];
    size_t n = sizeof digits;

    do digits[--n] = (char)('0' + v % 10);
    while (v /= 10);
    dnstap__write(p, digits + n, sizeof digits - n);
}

static void dnstap__write_value(dnstap__page *p, const dnstap__metric *m, const void *numbers)
{
    uint64_t v = dnstap__number_at(m, numbers);
    const dnstap__metric *above = m;
    unsigned digit;

    if (m->kind == DNSTAP__IS) v = v == m->which;
    while (m->kind == DNSTAP__REST && !above->family) v -= dnstap__number_at(--above, numbers);
    dnstap__write_number(p, m->kind == DNSTAP__THOUSANDTHS ? v / 1000 : v);
    if (m->kind != DNSTAP__THOUSANDTHS || !(v % 1000)) return;
    dnstap__write(p, ".", 1);
    for (digit = 100; digit; digit /= 10) dnstap__write_number(p, v / digit % 10);
}

/* A name from outside as a label's value: what can't be shown is as in other texts. */
static void dnstap__write_label(dnstap__page *p, const char *s)
{
    char shown[4];
    size_t n, i;

    while (*s) {
        n = dnstap__take_shown(&s, shown);
        for (i = 0; i < n; i++) {
            if (shown[i] == '\\' || shown[i] == '"') dnstap__write(p, "\\", 1);
            dnstap__write(p, shown + i, 1);
        }
    }
}

/* The line that ends here stays, or is the first without room. */
static void dnstap__end_line(dnstap__page *p)
{
    dnstap__write(p, "\n", 1);
    if (p->used < p->size) p->whole = p->used;
}

static void dnstap__write_head(dnstap__page *p, const dnstap__metric *m)
{
    const char *keys[] = {"# TYPE ", "# UNIT ", "# HELP "}, *values[3];
    int i;

    values[0] = m->type;
    values[1] = m->unit;
    values[2] = m->help;
    for (i = 0; i < 3; i++) {
        if (!values[i]) continue;
        dnstap__write_string(p, keys[i]);
        dnstap__write_string(p, m->family);
        dnstap__write(p, " ", 1);
        dnstap__write_string(p, values[i]);
        dnstap__end_line(p);
    }
}

static void dnstap__write_sample(dnstap__page *p, const dnstap__metric *family,
                                 const dnstap__metric *m, const dnstap__subject *s)
{
    dnstap__write_string(p, family->family);
    if (*family->type == 'c') dnstap__write_string(p, "_total");
    dnstap__write(p, "{", 1);
    dnstap__write_string(p, s->label);
    dnstap__write(p, "=\"", 2);
    dnstap__write_label(p, s->name);
    if (s->ordinal > 1) dnstap__write_string(p, " #");
    if (s->ordinal > 1) dnstap__write_number(p, s->ordinal);
    if (m->label) {
        dnstap__write_string(p, "\",");
        dnstap__write_string(p, m->label);
        dnstap__write(p, "=\"", 2);
        dnstap__write_string(p, m->value);
    }
    dnstap__write_string(p, "\"} ");
    dnstap__write_value(p, m, s->numbers);
    dnstap__end_line(p);
}

/* All that the table has of the subjects. Returns as dnstap_metrics. */
static long dnstap__write_metrics(const dnstap__metric *table, size_t rows,
                                  const dnstap__subject *subjects, size_t count, char *out,
                                  size_t size)
{
    const dnstap__metric *m, *family = table;
    dnstap__page page;
    size_t i;

    memset(&page, 0, sizeof page);
    page.out = out;
    page.size = out ? size : 0;
    for (m = table; m < table + rows; m++) {
        if (m->family) dnstap__write_head(&page, family = m);
        for (i = 0; i < count && !m->family; i++)
            if (!(m->needs & ~subjects[i].has))
                dnstap__write_sample(&page, family, m, &subjects[i]);
    }
    dnstap__write_string(&page, "# EOF");
    dnstap__end_line(&page);
    if (page.size) out[page.whole] = '\0';
    return (long)page.used;
}

/* -- of taps -- */

/* A tap's numbers: its status, and what its rings hold. */
typedef struct dnstap__figures {
    dnstap_status s;
    uint64_t queued_bytes;
    uint64_t fill; /* of the fullest ring, in thousandths */
} dnstap__figures;

/* clang-format off */
#define DNSTAP__HEAD(family, type, unit, help) \
    {family, type, unit, help, NULL, NULL, 0, 0, 0, 0, 0},
#define DNSTAP__SAMPLE_IN(of, label, value, kind, which, needs, field) \
    {NULL, NULL, NULL, NULL, label, value, offsetof(of, field), sizeof(((of *)0)->field), kind, \
        which, needs},
#define DNSTAP__SAMPLE(label, value, kind, which, needs, field) \
    DNSTAP__SAMPLE_IN(dnstap__figures, label, value, kind, which, needs, field)
#define DNSTAP__ONE(field) DNSTAP__SAMPLE(NULL, NULL, DNSTAP__PLAIN, 0, DNSTAP__OF_ALL, field)
#define DNSTAP__THOUSANDTH(field) \
    DNSTAP__SAMPLE(NULL, NULL, DNSTAP__THOUSANDTHS, 0, DNSTAP__OF_ALL, field)
#define DNSTAP__CAUSE(text, kind, field) \
    DNSTAP__SAMPLE("cause", text, kind, 0, DNSTAP__OF_ALL, field)
#define DNSTAP__LISTENERS(field) \
    DNSTAP__SAMPLE(NULL, NULL, DNSTAP__PLAIN, 0, DNSTAP__OF_LISTENERS, field)
#define DNSTAP__X(name, text) \
    DNSTAP__SAMPLE("state", text, DNSTAP__IS, name, DNSTAP__OF_ALL, s.state)
static const dnstap__metric dnstap__tap_metrics[] = {
    DNSTAP__HEAD("dnstap_logged", "counter", NULL,
        "Messages given to the tap: recorded, unwanted and dropped ones.")
    DNSTAP__ONE(s.logged)
    DNSTAP__HEAD("dnstap_recorded", "counter", NULL,
        "Messages put into a ring: sent, discarded and queued ones.")
    DNSTAP__ONE(s.recorded)
    DNSTAP__HEAD("dnstap_unwanted", "counter", NULL, "Messages not to be logged, by cause.")
    DNSTAP__CAUSE("no_sink", DNSTAP__PLAIN, s.no_sink)
    DNSTAP__CAUSE("type", DNSTAP__PLAIN, s.filtered_type)
    DNSTAP__CAUSE("rcode", DNSTAP__PLAIN, s.filtered_rcode)
    DNSTAP__CAUSE("zone", DNSTAP__PLAIN, s.filtered_zone)
    DNSTAP__CAUSE("sample", DNSTAP__PLAIN, s.filtered_sample)
    DNSTAP__CAUSE("filter", DNSTAP__PLAIN, s.filtered_hook)
    DNSTAP__CAUSE("disabled", DNSTAP__REST, s.unwanted)
    DNSTAP__HEAD("dnstap_dropped", "counter", NULL, "Messages lost before a ring, by cause.")
    DNSTAP__CAUSE("full", DNSTAP__PLAIN, s.dropped_full)
    DNSTAP__CAUSE("large", DNSTAP__PLAIN, s.dropped_large)
    DNSTAP__CAUSE("busy", DNSTAP__PLAIN, s.dropped_busy)
    DNSTAP__CAUSE("bad", DNSTAP__PLAIN, s.dropped_bad)
    DNSTAP__CAUSE("disconnected", DNSTAP__PLAIN, s.dropped_disconnected)
    DNSTAP__HEAD("dnstap_stripped", "counter", NULL,
        "Messages recorded without DNS bytes in which addresses can't be cut.")
    DNSTAP__ONE(s.stripped)
    DNSTAP__HEAD("dnstap_sent", "counter", NULL,
        "Messages handed to the kernel whole; of a tap that listens, once for each sink.")
    DNSTAP__ONE(s.sent)
    DNSTAP__HEAD("dnstap_discarded", "counter", NULL, "Messages that left a ring unsent.")
    DNSTAP__ONE(s.discarded)
    DNSTAP__HEAD("dnstap_sent_bytes", "counter", "bytes", "Bytes of the messages sent.")
    DNSTAP__ONE(s.bytes)
    DNSTAP__HEAD("dnstap_queued", "gauge", NULL, "Messages in the rings.")
    DNSTAP__ONE(s.queued)
    DNSTAP__HEAD("dnstap_queued_bytes", "gauge", "bytes", "Bytes in the rings.")
    DNSTAP__ONE(queued_bytes)
    DNSTAP__HEAD("dnstap_queue_fill_ratio", "gauge", "ratio",
        "How full the fullest ring is, in bytes or messages; at 1 it drops.")
    DNSTAP__THOUSANDTH(fill)
    DNSTAP__HEAD("dnstap_ring_size_bytes", "gauge", "bytes", "Size of each ring.")
    DNSTAP__ONE(s.ring_size)
    DNSTAP__HEAD("dnstap_rings", "gauge", NULL, "Rings: one for each producer, and a shared one.")
    DNSTAP__ONE(s.rings)
    DNSTAP__HEAD("dnstap_connects", "counter", NULL, "Connections on which messages could flow.")
    DNSTAP__ONE(s.connects)
    DNSTAP__HEAD("dnstap_failures", "counter", NULL, "Attempts and connections that failed.")
    DNSTAP__ONE(s.failures)
    DNSTAP__HEAD("dnstap_state", "gauge", NULL, "1 for the state that the tap is in, else 0.")
    DNSTAP_STATES(DNSTAP__X)
    DNSTAP__HEAD("dnstap_state_seconds", "gauge", "seconds", "Time in that state so far.")
    DNSTAP__THOUSANDTH(s.state_ms)
    DNSTAP__HEAD("dnstap_offered", "counter", NULL,
        "Messages to be sent to sinks, once for each: sent, lost and behind.")
    DNSTAP__LISTENERS(s.offered)
    DNSTAP__HEAD("dnstap_lost", "counter", NULL, "Messages that sinks had not got when they went.")
    DNSTAP__LISTENERS(s.lost)
    DNSTAP__HEAD("dnstap_behind", "gauge", NULL, "Messages still to be sent to sinks.")
    DNSTAP__LISTENERS(s.behind)
    DNSTAP__HEAD("dnstap_accepted", "counter", NULL, "Connections of sinks.")
    DNSTAP__LISTENERS(s.accepted)
    DNSTAP__HEAD("dnstap_refused", "counter", NULL,
        "Connections of sinks closed before messages could flow.")
    DNSTAP__LISTENERS(s.refused)
    DNSTAP__HEAD("dnstap_sinks", "gauge", NULL, "Sinks that messages are sent to.")
    DNSTAP__LISTENERS(s.sinks)
    DNSTAP__HEAD("dnstap_sinks_pending", "gauge", NULL, "Sinks that shake hands.")
    DNSTAP__LISTENERS(s.pending)
};
#undef DNSTAP__X
#undef DNSTAP__LISTENERS
#undef DNSTAP__CAUSE
#undef DNSTAP__THOUSANDTH
#undef DNSTAP__ONE
#undef DNSTAP__SAMPLE
/* clang-format on */

/* The ring's fill in thousandths. */
static uint64_t dnstap__fill_of(const dnstap__ring *r, size_t bytes, size_t messages)
{
    uint64_t by_bytes = (uint64_t)bytes * 1000 / r->size;
    uint64_t by_messages = (uint64_t)messages * 1000 / r->limit;

    return by_bytes > by_messages ? by_bytes : by_messages;
}

static void dnstap__take_figures(dnstap_tap *tap, dnstap__figures *f)
{
    size_t bytes, messages;
    uint64_t fill;
    uint32_t i;

    memset(f, 0, sizeof *f);
    dnstap_get_status(tap, &f->s);
    for (i = 0; i < tap->ring_count; i++) {
        dnstap_get_ring(tap, i, &bytes, &messages);
        fill = dnstap__fill_of(&tap->rings[i], bytes, messages);
        if (fill > f->fill) f->fill = fill;
        f->queued_bytes += bytes;
    }
}

static dnstap__subject dnstap__tap_subject(const dnstap_tap *tap, const dnstap__figures *f)
{
    dnstap__subject s;

    s.label = "tap";
    s.name = dnstap__where(tap);
    s.ordinal = 1;
    s.has = tap->options.listen ? DNSTAP__OF_LISTENERS : DNSTAP__OF_ALL;
    s.numbers = f;
    return s;
}

static long dnstap__write_tap_metrics(const dnstap__subject *taps, size_t count, char *out,
                                      size_t size)
{
    return dnstap__write_metrics(dnstap__tap_metrics,
                                 sizeof dnstap__tap_metrics / sizeof *dnstap__tap_metrics, taps,
                                 count, out, size);
}

DNSTAP_API long dnstap_metrics(dnstap_tap *tap, char *out, size_t size)
{
    dnstap__figures figures;
    dnstap__subject subject;

    dnstap__take_figures(tap, &figures);
    subject = dnstap__tap_subject(tap, &figures);
    return dnstap__write_tap_metrics(&subject, 1, out, size);
}
#endif

/* ---- >>sink ------------------------------------------------------------------------------- */

/* The consumer's side: what accepts, dials or reads, and its sources, each with a transport and a
 * frame reader over a buffer of its own. In: bytes; out: decoded messages, and how each source
 * ended. Bytes are read into one block for all; a frame that lies whole in it is handed out where
 * it is, else it is collected in the source's buffer. A frame that receive puts off stays in its
 * source, and so does what was read behind it:
 *
 *   block, all sources'    |…taken| payload        | read, not yet taken |
 *                                   └ copied, once ┐
 *   rest, this source's             | payload      | read, not yet taken |    until it is taken
 *
 * Always: memory is bounded by max_connections and max_frame, and touched as it is used; a source
 * that fails, or waits, costs the others nothing; nothing is fed to the reader of one that waits.
 * Here is what all sources have in common, and how files are read. */
#if DNSTAP__HAS_SINK
enum {
    DNSTAP__BLOCK = 65536,
    DNSTAP__READS = 8,
    DNSTAP__LATER_MS = 20,  /* what was put off is offered again; so are resumes noticed that come
                               from a thread beside a foreign loop */
    DNSTAP__BLIND_MS = 5,   /* what no descriptor tells of */
    DNSTAP__FOLLOW_MS = 200 /* the end of a file that may grow */
};

typedef struct dnstap__source {
    uint32_t number;    /* of its connection; 0: its stream has not begun (connect), or none */
    dnstap_state state; /* as a link's, see >>tap; IDLE: a free place, or a file */
    uint64_t heard;     /* it came into its state, made a step of a handshake, or sent bytes */
    uint64_t began;     /* its stream */
    short events;       /* what its transport waits for */
    dnstap_transport lower, transport; /* the same, but for TLS */
    dnstap__medium medium;
    dnstap__tls *tls; /* NULL: without TLS */
    uint64_t index;   /* data frames so far */
    dnstap_frame_reader reader;
    dnstap_frame frame;   /* that the reader has found, and receive not yet taken; or kind NONE */
    uint64_t offer_at;    /* it was put off until then; 0: it was not */
    const uint8_t *bytes; /* read, and not yet given to the reader: in the block, or in rest */
    size_t left;          /* of them */
    uint8_t *rest;        /* DNSTAP__BLOCK */
    char peer[128], subject[72];
} dnstap__source;

struct dnstap_sink {
    dnstap_sink_options options; /* but for its strings */
    dnstap_options common;       /* what of them a tap has, too, for the rooms above; its strings */
    dnstap__target target;
    char host[DNSTAP__HOST_SIZE]; /* the target's */
    dnstap__listener listener;    /* fd -1: a file, or it connects */
    dnstap__dialler dial;
    dnstap__tls_config *tls; /* NULL: without TLS */
    uint64_t now, skew;      /* a clock that goes back takes nothing of the sink's time */
    uint64_t accept_at;      /* accept has failed: again then; 0: it has not */
    dnstap_sink_status status;
    dnstap__source *sources;
    uint32_t numbers, turn; /* connections so far; the source that goes first */
    unsigned steps;         /* of TLS handshakes, which cost, that are left in this call */
    int file_end;           /* file: how it ended; 0: it did not */
    dnstap_sink_end file_how;
    uint64_t follow_at; /* file: nothing was there; look again then */
    /* its own thread, and what others share with it */
    dnstap__thread thread;
    dnstap__waker waker;
    struct pollfd *fds;       /* its; NULL: there is no thread */
    size_t runner;            /* the thread; 0: there is none */
    size_t stop, resume;      /* asked for */
    size_t owner;             /* the process that services; 0: none yet */
    dnstap__mutex lock;       /* of `shown`, for a copy only */
    dnstap_sink_status shown; /* the status as the thread left it */
    dnstap_message message;
    dnstap_policy policy;
    uint8_t *block;
    void *memory; /* of strings and TLS */
};

static bool dnstap__reads_file(const dnstap_sink *sink)
{
    return !dnstap__is(&sink->target, DNSTAP__LISTENS);
}

/* -1: a free place, or a file that has ended. */
static int dnstap__source_fd(const dnstap__source *s)
{
    return s->transport.fd ? (s->transport.fd)(s->transport.self) : -1;
}

static uint64_t dnstap__sink_now(dnstap_sink *sink)
{
    uint64_t now = (sink->options.monotonic_ms)(sink->options.user) + sink->skew;

    if (now < sink->now) sink->skew += sink->now - now;
    if (now > sink->now) sink->now = now;
    return sink->now;
}

static void dnstap__fill_received(const dnstap__source *s, dnstap_received *out,
                                  dnstap_sink_kind kind)
{
    memset(out, 0, sizeof *out);
    out->kind = kind;
    out->connection = s->number;
    out->peer = s->peer;
    out->subject = s->subject;
    out->index = s->index;
    out->text = "";
}

/* clang-format off */
#define DNSTAP__X(name, text) text,
DNSTAP_API const char *dnstap_sink_end_name(dnstap_sink_end end)
{
    static const char *const names[] = {
        "none", DNSTAP_SINK_CAUSES(DNSTAP__X)
    };

    return (unsigned)end < DNSTAP_SINK_ENDS ? names[(unsigned)end] : "unknown";
}
#undef DNSTAP__X
/* clang-format on */

/* No frame of it has been asked for yet. */
static bool dnstap__is_early(const dnstap_frame_reader *r)
{
    return r->state == DNSTAP_READER_READY || r->state == DNSTAP_READER_START;
}

/* What the peer's end of file means, told apart from a stream that never began. */
static const char *dnstap__end_text(const dnstap_frame_reader *r)
{
    bool silent = !r->have &&
                  r->state == (r->bidirectional ? DNSTAP_READER_READY : DNSTAP_READER_START);

    if (r->skip) return DNSTAP__TEXT("ends inside a frame that is larger than max_frame");
    if (silent) return DNSTAP__TEXT("is empty");
    return dnstap__is_early(r) ? DNSTAP__TEXT("ends before START") : NULL;
}

static dnstap_sink_end dnstap__end_of_file(const dnstap_frame_reader *r)
{
    if (r->state == DNSTAP_READER_END) return DNSTAP_SINK_ENDED_STOP;
    if (dnstap__is_early(r)) return DNSTAP_SINK_ENDED_EARLY;
    return r->have || r->skip ? DNSTAP_SINK_ENDED_CUT : DNSTAP_SINK_ENDED_EOF;
}

/* What an end by anything else is called. */
static dnstap_sink_end dnstap__end_by(const dnstap__source *s, int result)
{
    if (result == DNSTAP_OK) return DNSTAP_SINK_ENDED_STOP;
    if (result == DNSTAP_BAD_FRAME) return DNSTAP_SINK_ENDED_PROTOCOL;
    if (result != DNSTAP_TIMEOUT) return DNSTAP_SINK_ENDED_ERROR;
    return s->state == DNSTAP_STARTED ? DNSTAP_SINK_ENDED_IDLE : DNSTAP_SINK_ENDED_TIMEOUT;
}

static void dnstap__fill_closed(const dnstap__source *s, dnstap_received *out, int result,
                                dnstap_sink_end end, const char *text)
{
    dnstap__fill_received(s, out, DNSTAP_SINK_CLOSED);
    out->result = result;
    out->end = end;
    if (!text && end == DNSTAP_SINK_ENDED_STOP) text = "ended with STOP";
    if (!text && end == DNSTAP_SINK_ENDED_EOF) text = "ends without STOP";
    out->text = text ? text : dnstap_strerror(result);
}

/* What its transport has to say of a failure. */
static const char *dnstap__source_error(const dnstap_transport *t)
{
    return t->error ? (t->error)(t->self) : DNSTAP__TEXT(strerror(errno));
}

/* Counts an end, and keeps it if it is a failure. Returns whether it is. */
static bool dnstap__note_end(dnstap_sink *sink, const dnstap_received *r)
{
    int sys_errno = r->result == DNSTAP_SYSTEM ? errno : 0;

    if (r->connection) {
        sink->status.open--;
        sink->status.ended[r->end]++;
    }
    if (r->result == DNSTAP_OK || r->result == DNSTAP_END) return false;
    sink->status.failed++;
    dnstap__fail(&sink->status.error, r->result, sys_errno, "%s: %s", r->peer, r->text);
    return true;
}

/* -- frames -- */

static bool dnstap__has_frame(const dnstap__source *s)
{
    return s->frame.kind == DNSTAP_FRAME_DATA || s->frame.kind == DNSTAP_FRAME_SKIPPED;
}

/* The next bytes, up to a frame's end. A negative result: the stream's end. */
static int dnstap__feed(dnstap__source *s)
{
    long used = dnstap_frame_reader_feed(&s->reader, s->bytes, s->left, &s->frame);

    DNSTAP_ASSERT(used <= (long)s->left);
    if (used < 0) return s->left = 0, (int)used;
    s->bytes += used;
    s->left -= (size_t)used;
    return DNSTAP_OK;
}

/* The source's frame as it is handed out. */
static void dnstap__fill_frame(dnstap_sink *sink, const dnstap__source *s, dnstap_received *out)
{
    dnstap__fill_received(s, out, DNSTAP_SINK_MESSAGE);
    out->frame = s->frame.payload;
    if (s->frame.kind == DNSTAP_FRAME_SKIPPED) {
        out->kind = DNSTAP_SINK_SKIPPED;
        return;
    }
    out->result = dnstap_decode(&sink->message, &sink->policy, out->frame.data, out->frame.size);
    if (out->result == DNSTAP_OK) out->message = &sink->message;
}

/* It was taken. */
static void dnstap__count_frame(dnstap_sink *sink, dnstap__source *s, const dnstap_received *r)
{
    dnstap_sink_status *to = &sink->status;

    s->index++;
    s->frame.kind = DNSTAP_FRAME_NONE;
    if (s->offer_at) to->put_off--;
    s->offer_at = 0;
    if (r->kind == DNSTAP_SINK_SKIPPED) {
        to->skipped++;
        return;
    }
    to->frames++;
    to->bytes += r->frame.size;
    if (!r->message) to->undecodable++;
}

static int dnstap__hand_out(dnstap_sink *sink, const dnstap_received *received)
{
    return sink->options.receive ? (sink->options.receive)(sink->options.user, received)
                                 : (int)DNSTAP_OK;
}

/* Hands a frame out; false: later. */
static bool dnstap__offer(dnstap_sink *sink, dnstap__source *s)
{
    dnstap_received r;

    dnstap__fill_frame(sink, s, &r);
    if (dnstap__hand_out(sink, &r) != DNSTAP_AGAIN) return dnstap__count_frame(sink, s, &r), true;
    if (!s->offer_at) sink->status.put_off++;
    s->offer_at = sink->now + DNSTAP__LATER_MS;
    return false;
}

/* Whether its frame waits, and not only for this call. */
static bool dnstap__waits(const dnstap_sink *sink, const dnstap__source *s)
{
    return s->offer_at > 1 && sink->now < s->offer_at;
}

/* At the beginning of a call: those who wait have waited, if that was asked for. */
static void dnstap__take_resume(dnstap_sink *sink)
{
    dnstap__source *s;

    if (!DNSTAP_LOAD(&sink->resume) || !DNSTAP_EXCHANGE(&sink->resume, 0)) return;
    for (s = sink->sources; s < sink->sources + sink->options.max_connections; s++)
        if (s->offer_at) s->offer_at = 1; /* at once, whatever the clock says */
}

#if DNSTAP__HAS_FILES
static int dnstap__open_input(dnstap_sink *sink, dnstap_error *error)
{
    dnstap__source *s = &sink->sources[0];
    short wants;

    s->transport = dnstap__input_transport(&s->medium.file, sink->target.path);
    if (sink->options.transport) s->transport = *sink->options.transport;
    if (s->transport.start && (s->transport.start)(s->transport.self, &wants) < 0)
        return dnstap__fail(error, DNSTAP_SYSTEM, errno, "%s: %s", sink->target.path,
                            dnstap__source_error(&s->transport));
    s->number = ++sink->numbers;
    sink->status.connections = sink->status.open = 1;
    dnstap_frame_reader_init(&s->reader, s->reader.buffer, s->reader.size, false);
    dnstap__print(s->peer, sizeof s->peer, "%s", sink->target.path);
    return DNSTAP_OK;
}

/* How the file ended, now and from now on. */
static int dnstap__end_input(dnstap_sink *sink, dnstap_received *received, int result,
                             dnstap_sink_end end, const char *text)
{
    dnstap__source *s = &sink->sources[0];

    dnstap__fill_closed(s, received, result, end, text);
    if (sink->status.open) dnstap__note_end(sink, received);
    sink->file_end = result;
    sink->file_how = end;
    (s->transport.close)(s->transport.self); /* nothing to poll for any more */
    return result == DNSTAP_OK ? DNSTAP_END : result;
}

/* What no descriptor tells of is looked at soon. */
static int dnstap__wait_for_bytes(dnstap_sink *sink)
{
    if (dnstap__source_fd(&sink->sources[0]) < 0) sink->follow_at = sink->now + DNSTAP__BLIND_MS;
    return DNSTAP_AGAIN;
}

/* At the end of a file that may grow. */
static int dnstap__follow(dnstap_sink *sink, dnstap_received *received)
{
    if (!sink->options.transport && dnstap__input_shrunk(&sink->sources[0].medium.file))
        return dnstap__end_input(sink, received, DNSTAP_CUT, DNSTAP_SINK_ENDED_CUT,
                                 "was cut off before where it has been read to");
    sink->follow_at = sink->now + DNSTAP__FOLLOW_MS;
    return DNSTAP_AGAIN;
}

/* One read: DNSTAP_OK; DNSTAP_AGAIN when there is nothing now; else the end. */
static int dnstap__fill_block(dnstap_sink *sink, dnstap_received *received)
{
    dnstap__source *s = &sink->sources[0];
    short wants;
    long n = (s->transport.recv)(s->transport.self, sink->block, DNSTAP__BLOCK, &wants);

    if (n == DNSTAP_END && sink->options.follow) return dnstap__follow(sink, received);
    if (n == DNSTAP_AGAIN) return dnstap__wait_for_bytes(sink);
    if (n == DNSTAP_END)
        return dnstap__end_input(sink, received, dnstap_frame_reader_eof(&s->reader),
                                 dnstap__end_of_file(&s->reader), dnstap__end_text(&s->reader));
    if (n < 0)
        return dnstap__end_input(sink, received, (int)n, DNSTAP_SINK_ENDED_ERROR,
                                 dnstap__source_error(&s->transport));
    s->bytes = sink->block;
    s->left = (size_t)n;
    return DNSTAP_OK;
}

/* Up to the next frame in the block; DNSTAP_AGAIN when there is none; or the end. */
static int dnstap__next_in_block(dnstap_sink *sink, dnstap_received *received)
{
    dnstap__source *s = &sink->sources[0];
    int result;

    while (!dnstap__has_frame(s)) {
        if (s->reader.state == DNSTAP_READER_END)
            return dnstap__end_input(sink, received, DNSTAP_OK, DNSTAP_SINK_ENDED_STOP, NULL);
        if (!s->left) return DNSTAP_AGAIN;
        result = dnstap__feed(s);
        if (result < 0 && result != DNSTAP_END)
            return dnstap__end_input(sink, received, result, dnstap__end_by(s, result), NULL);
    }
    return DNSTAP_OK;
}

DNSTAP_API int dnstap_sink_next(dnstap_sink *sink, dnstap_received *received)
{
    int result;

    if (!dnstap__reads_file(sink) || sink->fds) return DNSTAP_UNSUPPORTED;
    if (!sink->owner) sink->owner = dnstap__process();
    sink->follow_at = 0;
    if (!sink->status.open)
        return dnstap__end_input(sink, received, sink->file_end, sink->file_how, NULL);
    while ((result = dnstap__next_in_block(sink, received)) == DNSTAP_AGAIN) {
        result = dnstap__fill_block(sink, received);
        if (result < 0) return result;
    }
    if (result < 0) return result;
    dnstap__fill_frame(sink, &sink->sources[0], received);
    dnstap__count_frame(sink, &sink->sources[0], received);
    return DNSTAP_OK;
}

/* What is no file but a pipe must not be waited for. */
static bool dnstap__can_read(const dnstap__source *s)
{
    struct pollfd fd;

    fd.fd = dnstap__source_fd(s);
    fd.events = POLLIN;
    return fd.fd < 0 || poll(&fd, 1, 0) > 0;
}

/* One read, and all frames that it ended, as far as they are taken. */
static void dnstap__service_file(dnstap_sink *sink)
{
    dnstap__source *s = &sink->sources[0];
    dnstap_received received;
    int result = DNSTAP_OK;

    if (!sink->status.open || dnstap__waits(sink, s) || sink->now < sink->follow_at) return;
    if (!s->left && !dnstap__has_frame(s))
        result = dnstap__can_read(s) ? dnstap__fill_block(sink, &received) : (int)DNSTAP_AGAIN;
    while (result == DNSTAP_OK) {
        result = dnstap__next_in_block(sink, &received);
        if (result == DNSTAP_OK && !dnstap__offer(sink, s)) return;
    }
    if (result != DNSTAP_AGAIN) dnstap__hand_out(sink, &received);
}

#else
static int dnstap__open_input(dnstap_sink *sink, dnstap_error *error)
{
    return dnstap__fail(error, DNSTAP_UNSUPPORTED, 0, "%s: this build has no files",
                        sink->common.endpoint);
}
static void dnstap__service_file(dnstap_sink *sink) { (void)sink; }

DNSTAP_API int dnstap_sink_next(dnstap_sink *sink, dnstap_received *received)
{
    (void)sink, (void)received;
    return DNSTAP_UNSUPPORTED;
}
#endif
#endif

/* ---- >>sources ---------------------------------------------------------------------------- */

/* A sink's connections. They are in the states of a link, which its table in >>tap allows; what
 * differs is who speaks: in GREETING the peer says READY and START, in STARTED it sends, in
 * STOPPING it has said STOP and gets FINISH. One that is dialled goes from IDLE over RESOLVING and
 * CONNECTING, and waits in BROKEN; one that was accepted begins in SECURING, and its place is free
 * at once when it ends. STARTED lasts as long as no silence is longer than idle_ms, if that is set;
 * each of the others, and each step of GREETING, timeout_ms. In: what transports say, the time;
 * out: events. Always: whatever ends goes through dnstap__drop, and is told, but not each failure
 * of an outage. */
#if DNSTAP__HAS_SINK && DNSTAP__HAS_SOCKETS
static int dnstap__source_enter(dnstap_sink *sink, dnstap__source *s, dnstap_state state)
{
    DNSTAP_ASSERT(dnstap__ways[s->state] >> state & 1);
    s->state = state;
    s->heard = sink->now;
    s->events = 0;
    return DNSTAP__GO;
}

/* When its state gives up; UINT64_MAX: it does not. Silence is an end if that was asked for. */
static uint64_t dnstap__source_end(const dnstap_sink *sink, const dnstap__source *s)
{
    int most = s->state == DNSTAP_STARTED ? sink->options.idle_ms : sink->options.timeout_ms;

    if (s->state == DNSTAP_IDLE || s->state == DNSTAP_BROKEN || most <= 0) return UINT64_MAX;
    if (s->offer_at) return UINT64_MAX; /* it is us who keep it waiting */
    return s->heard + (uint64_t)most;
}

/* Of a name's addresses the next one, while the stream has not begun there. */
static bool dnstap__source_next_address(dnstap_sink *sink, dnstap__source *s)
{
    if (!sink->options.connect || s->state < DNSTAP_CONNECTING || s->state > DNSTAP_GREETING)
        return false;
    if (!dnstap__names_next(&sink->dial.names)) return false;
    (s->transport.close)(s->transport.self);
    return true;
}

/* Nothing of a connection that is over is offered again. */
static void dnstap__forget_bytes(dnstap_sink *sink, dnstap__source *s)
{
    if (s->offer_at) sink->status.put_off--;
    s->offer_at = 0;
    s->left = 0;
    s->frame.kind = DNSTAP_FRAME_NONE;
}

/* Ends a connection or an attempt, and says how. */
static int dnstap__drop_as(dnstap_sink *sink, dnstap__source *s, int result, dnstap_sink_end end,
                           const char *text)
{
    bool stood = s->number && sink->now - s->began >= DNSTAP__STEADY_MS, failed;
    dnstap_received r;

    if (dnstap__source_next_address(sink, s))
        return dnstap__source_enter(sink, s, DNSTAP_CONNECTING);
    dnstap__fill_closed(s, &r, result, end, text);
    failed = dnstap__note_end(sink, &r);
    (s->transport.close)(s->transport.self);
    s->number = 0;
    dnstap__forget_bytes(sink, s);
    dnstap__source_enter(sink, s, DNSTAP_BROKEN);
    if (sink->options.connect)
        sink->dial.retry_at = sink->now + dnstap__back_off(&sink->dial, stood);
    else
        dnstap__source_enter(sink, s, DNSTAP_IDLE);
    if (r.connection || !sink->dial.outage) dnstap__hand_out(sink, &r);
    if (failed) sink->dial.outage++;
    return DNSTAP__WAIT;
}

static int dnstap__drop(dnstap_sink *sink, dnstap__source *s, int result, const char *text)
{
    return dnstap__drop_as(sink, s, result, dnstap__end_by(s, result), text);
}

/* The same, with what the transport has to say. */
static int dnstap__drop_transport(dnstap_sink *sink, dnstap__source *s, int result)
{
    const dnstap_transport *t = s->state == DNSTAP_CONNECTING ? &s->lower : &s->transport;

    return dnstap__drop(sink, s, result, dnstap__source_error(t));
}

#define DNSTAP__IS_TAP "does a tap listen there, and has it a place for one more sink?"

/* The peer has closed. */
static int dnstap__source_closed(dnstap_sink *sink, dnstap__source *s)
{
    bool early = sink->options.connect && s->state == DNSTAP_GREETING;

    return dnstap__drop_as(
        sink, s, dnstap_frame_reader_eof(&s->reader), dnstap__end_of_file(&s->reader),
        early ? "closed before START; " DNSTAP__IS_TAP : dnstap__end_text(&s->reader));
}

/* Its time is over. After STOP that is no loss. */
static int dnstap__source_late(dnstap_sink *sink, dnstap__source *s)
{
    bool greets = sink->options.connect && s->state == DNSTAP_GREETING;
    char text[160];

    dnstap__names_leave(&sink->dial.names);
    if (s->state > DNSTAP_STARTED) return dnstap__drop(sink, s, DNSTAP_OK, NULL);
    if (s->state == DNSTAP_STARTED)
        return dnstap__drop(sink, s, DNSTAP_TIMEOUT,
                            DNSTAP__TEXT("silent for longer than idle_ms"));
    if (s->state == DNSTAP_SECURING) return dnstap__drop_transport(sink, s, DNSTAP_TIMEOUT);
    dnstap__format(text, sizeof text, "no progress in %d ms while %s%s", sink->options.timeout_ms,
                   dnstap_state_name(s->state), greets ? "; " DNSTAP__IS_TAP : "");
    return dnstap__drop(sink, s, DNSTAP_TIMEOUT, text);
}

#if DNSTAP__HAS_TLS
/* What is to be said of certificates, once. */
static void dnstap__tell_note(dnstap_sink *sink)
{
    dnstap_received r;

    if (!sink->tls->note[0]) return;
    memset(&r, 0, sizeof r);
    r.kind = DNSTAP_SINK_NOTE;
    r.peer = sink->common.endpoint;
    r.subject = "";
    r.text = sink->tls->note;
    dnstap__hand_out(sink, &r);
    sink->tls->note[0] = '\0';
}

/* Whether a handshake uses what would be loaded over. */
static bool dnstap__sink_store_in_use(const dnstap_sink *sink)
{
    const dnstap__source *s;

    for (s = sink->sources; s < sink->sources + sink->options.max_connections; s++)
        if (s->state == DNSTAP_SECURING && s->tls->store != sink->tls->current) return true;
    return false;
}

/* Before a connection: certificates that changed are read again. */
static void dnstap__renew_sink(dnstap_sink *sink)
{
    if (!sink->tls || dnstap__sink_store_in_use(sink)) return;
    dnstap__tell_note(sink);
    dnstap__tls_reload(sink->tls);
    dnstap__tell_note(sink);
    if (!dnstap__sink_store_in_use(sink)) dnstap__tls_forget(sink->tls, 1 - sink->tls->current);
}

/* Puts TLS over its lower transport, if it has TLS. */
static void dnstap__secure_source(dnstap_sink *sink, dnstap__source *s)
{
    s->transport = s->lower;
    s->subject[0] = '\0';
    if (!s->tls) return;
    dnstap__tls_init(s->tls, sink->tls, &s->lower);
    s->transport = dnstap__tls_transport(s->tls);
}

/* One step of a TLS handshake that took something may have cost milliseconds: one in a call. */
static int dnstap__source_handshake(dnstap_sink *sink, dnstap__source *s)
{
    size_t before = s->tls->taken;
    int result;

    if (!sink->steps) return DNSTAP_AGAIN;
    result = (s->transport.start)(s->transport.self, &s->events);
    if (s->tls->taken != before) sink->steps = 0;
    if (result == DNSTAP_OK) dnstap__tls_subject(s->tls, s->subject, sizeof s->subject);
    return result;
}
#else
static void dnstap__renew_sink(dnstap_sink *sink) { (void)sink; }
static void dnstap__secure_source(dnstap_sink *sink, dnstap__source *s)
{
    (void)sink;
    s->transport = s->lower;
    s->subject[0] = '\0';
}
static int dnstap__source_handshake(dnstap_sink *sink, dnstap__source *s)
{
    return sink && s ? DNSTAP_UNSUPPORTED : DNSTAP_OK;
}
#endif

/* -- dialling: the end of the wait, names, addresses -- */

static int dnstap__source_dial(dnstap_sink *sink, dnstap__source *s)
{
    if (sink->now < sink->dial.retry_at) return DNSTAP__WAIT;
    if (s->state == DNSTAP_BROKEN) dnstap__source_enter(sink, s, DNSTAP_IDLE);
    dnstap__names_first(&sink->dial.names);
    dnstap__renew_sink(sink);
    return dnstap__source_enter(sink, s,
                                sink->dial.names.host ? DNSTAP_RESOLVING : DNSTAP_CONNECTING);
}

static int dnstap__source_resolve(dnstap_sink *sink, dnstap__source *s)
{
    dnstap__names *names = &sink->dial.names;
    int result = dnstap__names_step(names, &sink->common);

    if (result == DNSTAP_AGAIN) return DNSTAP__WAIT;
    dnstap__names_leave(names);
    if (result == DNSTAP_OK) return dnstap__source_enter(sink, s, DNSTAP_CONNECTING);
    errno = names->sys_errno;
    return dnstap__drop(sink, s, result, names->why);
}

static int dnstap__source_connect(dnstap_sink *sink, dnstap__source *s)
{
    int result;

    dnstap__names_aim(&sink->dial.names, &s->medium);
    result = (s->lower.start)(s->lower.self, &s->events);
    if (result == DNSTAP_AGAIN) return DNSTAP__WAIT;
    if (result == DNSTAP_OK) return dnstap__source_enter(sink, s, DNSTAP_SECURING);
    return dnstap__drop_transport(sink, s, result);
}

/* -- from TLS to FINISH -- */

static int dnstap__source_secure(dnstap_sink *sink, dnstap__source *s)
{
    int result = s->tls ? dnstap__source_handshake(sink, s) : DNSTAP_OK;

    if (result == DNSTAP_AGAIN) return DNSTAP__WAIT;
    if (result < 0) return dnstap__drop_transport(sink, s, result);
    s->index = 0;
    dnstap_frame_reader_init(&s->reader, s->reader.buffer, s->reader.size,
                             !sink->options.unidirectional);
    s->reader.either = !sink->options.bidirectional;
    return dnstap__source_enter(sink, s, DNSTAP_GREETING);
}

/* A new connection: it has its number, and is told of. */
static void dnstap__count_source(dnstap_sink *sink, dnstap__source *s, const char *text)
{
    dnstap_received r;

    s->number = ++sink->numbers;
    s->index = 0;
    sink->status.connections++;
    sink->status.open++;
    dnstap__fill_received(s, &r, DNSTAP_SINK_OPENED);
    r.text = text;
    dnstap__hand_out(sink, &r);
}

/* The stream begins: of a connection that was dialled it is the beginning, of an outage the end. */
static void dnstap__source_begin(dnstap_sink *sink, dnstap__source *s)
{
    char text[64] = "";

    s->began = sink->now;
    dnstap__source_enter(sink, s, DNSTAP_STARTED);
    if (!sink->options.connect) return;
    if (sink->dial.outage)
        dnstap__format(text, sizeof text, "connected after %u failed attempts", sink->dial.outage);
    sink->dial.outage = 0;
    dnstap__count_source(sink, s, text);
}

/* Sends ACCEPT or FINISH as far as it goes. GO: it is out, or none was due. Who has closed after
 * START needs neither, and what is on its way counts: recv tells when that is over. */
static int dnstap__reply(dnstap__source *s)
{
    dnstap_bytes due;
    long n;

    while ((due = dnstap_frame_reader_next(&s->reader)).size) {
        n = (s->transport.send)(s->transport.self, due.data, due.size, &s->events);
        if (n == DNSTAP_AGAIN) return DNSTAP__WAIT;
        if (n <= 0 && dnstap__is_early(&s->reader)) return n ? (int)n : (int)DNSTAP_END;
        dnstap_frame_reader_sent(&s->reader, n > 0 ? (size_t)n : due.size);
    }
    return DNSTAP__GO;
}

/* Gives the reader what was read, and its frames out. DNSTAP_OK; DNSTAP_AGAIN: one was put off;
 * DNSTAP_END: STOP came; or an error. */
static int dnstap__digest(dnstap_sink *sink, dnstap__source *s)
{
    int result;

    while (dnstap__has_frame(s) || s->left) {
        if (dnstap__has_frame(s)) {
            if (!dnstap__offer(sink, s)) return DNSTAP_AGAIN;
            continue;
        }
        result = dnstap__feed(s);
        if (result < 0) return result;
        if (s->state == DNSTAP_GREETING && s->reader.state == DNSTAP_READER_DATA)
            dnstap__source_begin(sink, s);
    }
    return s->reader.state == DNSTAP_READER_END ? DNSTAP_END : DNSTAP_OK;
}

/* The block is the others' next: what of it is not yet taken goes into the source's rest. */
static void dnstap__keep_rest(dnstap_sink *sink, dnstap__source *s)
{
    const uint8_t *payload = (const uint8_t *)s->frame.payload.data, *from = s->bytes;

    if (payload && payload != s->reader.buffer + DNSTAP_FRAME_HEADER) {
        from = payload;
        s->frame.payload.data = s->rest;
    }
    DNSTAP_ASSERT(from >= sink->block && s->bytes + s->left <= sink->block + DNSTAP__BLOCK);
    memcpy(s->rest, from, (size_t)(s->bytes - from) + s->left);
    s->bytes = s->rest + (s->bytes - from);
}

/* What comes of a digest: GO or WAIT. */
static int dnstap__digested(dnstap_sink *sink, dnstap__source *s, int result)
{
    if (result == DNSTAP_AGAIN) return DNSTAP__WAIT;
    if (result == DNSTAP_END) return dnstap__source_enter(sink, s, DNSTAP_STOPPING);
    return result < 0 ? dnstap__drop(sink, s, result, NULL) : DNSTAP__GO;
}

/* What receive has put off, and what was read behind it. The peer was not silent meanwhile. */
static int dnstap__offer_again(dnstap_sink *sink, dnstap__source *s)
{
    if (dnstap__waits(sink, s)) return DNSTAP__WAIT;
    s->heard = sink->now;
    return dnstap__digested(sink, s, dnstap__digest(sink, s));
}

/* One read. GO: more may be there; WAIT: not now. */
static int dnstap__read_source(dnstap_sink *sink, dnstap__source *s)
{
    dnstap_reader_state before = s->reader.state;
    short wants = 0;
    long n = (s->transport.recv)(s->transport.self, sink->block, DNSTAP__BLOCK, &wants);
    int result;

    s->events = (short)(s->events | wants);
    if (n == DNSTAP_END) return dnstap__source_closed(sink, s);
    if (n < 0 && n != DNSTAP_AGAIN) return dnstap__drop_transport(sink, s, (int)n);
    if (n == DNSTAP_AGAIN) return DNSTAP__WAIT;
    s->bytes = sink->block;
    s->left = (size_t)n;
    result = dnstap__digest(sink, s);
    if (result == DNSTAP_AGAIN) dnstap__keep_rest(sink, s);
    if (s->reader.state != before || before == DNSTAP_READER_DATA) s->heard = sink->now;
    if (result != DNSTAP_OK) return dnstap__digested(sink, s, result);
    return s->tls || n == DNSTAP__BLOCK ? DNSTAP__GO : DNSTAP__WAIT;
}

/* What comes, and the answer that it calls for. */
static int dnstap__source_stream(dnstap_sink *sink, dnstap__source *s)
{
    int more = s->offer_at ? dnstap__offer_again(sink, s) : dnstap__read_source(sink, s), result;

    if (s->state != DNSTAP_GREETING && s->state != DNSTAP_STARTED) return more;
    result = dnstap__reply(s);
    return result < 0 ? dnstap__drop_transport(sink, s, result) : more;
}

/* A peer that closes without waiting for FINISH has said STOP all the same. */
static int dnstap__source_stop(dnstap_sink *sink, dnstap__source *s)
{
    int result = dnstap__reply(s);

    if (result == DNSTAP__WAIT) return DNSTAP__WAIT;
    if (result < 0) return dnstap__drop(sink, s, DNSTAP_OK, NULL);
    return dnstap__source_enter(sink, s, DNSTAP_SHUTTING);
}

static int dnstap__source_shut(dnstap_sink *sink, dnstap__source *s)
{
    int result = s->transport.shut ? (s->transport.shut)(s->transport.self, &s->events) : DNSTAP_OK;

    return result == DNSTAP_AGAIN ? DNSTAP__WAIT : dnstap__drop(sink, s, DNSTAP_OK, NULL);
}

/* One state's turn: GO or WAIT. */
static int dnstap__source_step(dnstap_sink *sink, dnstap__source *s)
{
    s->events = 0;
    switch (s->state) {
    case DNSTAP_RESOLVING:
        return dnstap__source_resolve(sink, s);
    case DNSTAP_CONNECTING:
        return dnstap__source_connect(sink, s);
    case DNSTAP_SECURING:
        return dnstap__source_secure(sink, s);
    case DNSTAP_GREETING:
    case DNSTAP_STARTED:
        return dnstap__source_stream(sink, s);
    case DNSTAP_STOPPING:
        return dnstap__source_stop(sink, s);
    case DNSTAP_SHUTTING:
        return dnstap__source_shut(sink, s);
    default:
        return dnstap__source_dial(sink, s);
    }
}

static void dnstap__serve(dnstap_sink *sink, dnstap__source *s)
{
    unsigned steps = 0;
    int more = DNSTAP__GO;

    while (more > 0 && ++steps <= DNSTAP__READS) more = dnstap__source_step(sink, s);
    if (sink->now >= dnstap__source_end(sink, s)) dnstap__source_late(sink, s);
}

/* -- accepting -- */

static dnstap__source *dnstap__free_source(dnstap_sink *sink)
{
    uint32_t i;

    for (i = 0; i < sink->options.max_connections; i++)
        if (sink->sources[i].state == DNSTAP_IDLE) return &sink->sources[i];
    return NULL;
}

/* A connection has come. */
static void dnstap__add_source(dnstap_sink *sink, dnstap__source *s, int fd, const char *peer)
{
    dnstap__renew_sink(sink);
    s->lower = dnstap__socket_adopt(&s->medium.socket, fd, sink->listener.family, 0);
    dnstap__secure_source(sink, s);
    dnstap__print(s->peer, sizeof s->peer, "%s", peer);
    dnstap__source_enter(sink, s, DNSTAP_SECURING);
    dnstap__count_source(sink, s, "");
    dnstap__serve(sink, s);
}

/* Tells of a connection that did not become one of ours. */
static void dnstap__refuse_one(dnstap_sink *sink, int result, const char *peer, const char *text)
{
    dnstap_received r;

    memset(&r, 0, sizeof r);
    r.kind = DNSTAP_SINK_REFUSED;
    r.result = result;
    r.end = result == DNSTAP_NO_PLACE ? DNSTAP_SINK_ENDED_REFUSED : DNSTAP_SINK_NOT_ENDED;
    r.peer = peer;
    r.subject = "";
    r.text = text;
    dnstap__hand_out(sink, &r);
}

/* No descriptors are left: those who connect wait, and so does the listener. */
static void dnstap__accept_later(dnstap_sink *sink)
{
    char text[96];

    dnstap__format(text, sizeof text, "accept: %s", strerror(errno));
    if (!sink->accept_at) dnstap__refuse_one(sink, DNSTAP_SYSTEM, sink->listener.endpoint, text);
    sink->accept_at = sink->now + DNSTAP__ACCEPT_PAUSE_MS;
}

/* False: there is none, or none can be had. */
static bool dnstap__accept_one(dnstap_sink *sink)
{
    dnstap__source *s = dnstap__free_source(sink);
    char peer[sizeof s->peer];
    int fd = dnstap__listener_accept(&sink->listener, peer, sizeof peer);

    if (fd == DNSTAP_SYSTEM) return dnstap__accept_later(sink), false;
    sink->accept_at = 0;
    if (fd < 0) return fd == DNSTAP_DISCONNECTED;
    if (s) return dnstap__add_source(sink, s, fd, peer), true;
    close(fd);
    sink->status.refused++;
    sink->status.ended[DNSTAP_SINK_ENDED_REFUSED]++;
    dnstap__refuse_one(sink, DNSTAP_NO_PLACE, peer, dnstap_strerror(DNSTAP_NO_PLACE));
    return true;
}
#endif

/* ---- >>serve ------------------------------------------------------------------------------ */

/* A sink's life: options and memory, what is listened on, dialled or read, its turns, its end. In:
 * options, calls from a poll loop; out: descriptors and a timeout for it. Always: one thread at a
 * time; a turn is bounded; what fails to open leaves nothing open. */
#if DNSTAP__HAS_SINK
#if DNSTAP__HAS_SOCKETS
static int dnstap__open_dialler(dnstap_sink *sink, dnstap_error *error)
{
    dnstap__source *s = &sink->sources[0];
    dnstap__opening o;
    int result;

    memset(&o, 0, sizeof o);
    o.endpoint = sink->common.endpoint;
    o.target = &sink->target;
    dnstap__print(s->peer, sizeof s->peer, "%s", o.endpoint);
    result = (sink->target.scheme->open)(&o, &s->medium, &s->lower, error);
    if (result < 0) return result;
    dnstap__secure_source(sink, s);
    if (!dnstap__is(&sink->target, DNSTAP__HOSTED)) return DNSTAP_OK;
    return dnstap__names_open(&sink->dial.names, &o, sink->common.resolve != NULL, error);
}

static int dnstap__open_sources(dnstap_sink *sink, dnstap_error *error)
{
    int result;

    if (sink->options.connect) return dnstap__open_dialler(sink, error);
    sink->listener.mode = sink->options.socket_mode;
    sink->listener.group = sink->options.socket_group; /* looked at now only */
    result = dnstap__listener_open(&sink->listener, &sink->target, sink->common.endpoint, error);
    sink->status.port = sink->listener.port;
    return result;
}

static void dnstap__service_sources(dnstap_sink *sink)
{
    uint32_t i, n = sink->options.max_connections, accepts = 0;
    dnstap__source *s;

    sink->steps = 1;
    for (i = 0; i < n; i++) {
        s = &sink->sources[(sink->turn + i) % n];
        if (s->state != DNSTAP_IDLE || sink->options.connect) dnstap__serve(sink, s);
    }
    sink->turn = (sink->turn + 1) % n;
    while (!sink->options.connect && accepts++ < 64 && dnstap__accept_one(sink)) {
    }
}

/* What poll is to wait for: the look-up's end, or what the transport waits for. */
static int dnstap__wait_fd(const dnstap_sink *sink, const dnstap__source *s)
{
    return s->state == DNSTAP_RESOLVING ? sink->dial.names.fd : dnstap__source_fd(s);
}

static short dnstap__wait_events(const dnstap__source *s)
{
    bool hears = s->state <= DNSTAP_STARTED && s->state != DNSTAP_CONNECTING;

    return (short)(s->events | (hears ? POLLIN : 0));
}

/* When a source is due; what no descriptor tells of is looked at soon. */
static uint64_t dnstap__source_due(const dnstap_sink *sink, const dnstap__source *s)
{
    uint64_t at = dnstap__source_end(sink, s), look = sink->now + DNSTAP__BLIND_MS;
    bool blind = dnstap__wait_fd(sink, s) < 0 || !dnstap__wait_events(s);

    if (s->offer_at) return s->offer_at;
    if (s->state == DNSTAP_IDLE || s->state == DNSTAP_BROKEN)
        return sink->options.connect ? sink->dial.retry_at : UINT64_MAX;
    return blind && look < at ? look : at;
}

/* The sources' descriptors, behind the n that are there; *at: when the first is due. Poll tells of
 * a peer that hangs up even if it was not asked: who waits for receive is not shown to it. */
static int dnstap__source_pollfds(const dnstap_sink *sink, struct pollfd *fds, int n, int max,
                                  uint64_t *at)
{
    const dnstap__source *s;
    uint64_t due;

    for (s = sink->sources; s < sink->sources + sink->options.max_connections; s++) {
        if (!s->offer_at)
            n = dnstap__add_pollfd(fds, n, max, dnstap__wait_fd(sink, s), dnstap__wait_events(s));
        due = dnstap__source_due(sink, s);
        if (due < *at) *at = due;
    }
    return n;
}

/* What a sink says goodbye to: over TLS nothing shall look cut. */
static void dnstap__part_source(dnstap__source *s)
{
    short wants = 0;

    if (s->state == DNSTAP_STARTED && s->transport.shut)
        (void)(s->transport.shut)(s->transport.self, &wants);
}
#else
static int dnstap__open_sources(dnstap_sink *sink, dnstap_error *error)
{
    return dnstap__fail(error, DNSTAP_UNSUPPORTED, 0, "%s: this build has no sockets",
                        sink->common.endpoint);
}
static void dnstap__service_sources(dnstap_sink *sink) { (void)sink; }
static void dnstap__part_source(dnstap__source *s) { (void)s; }
static int dnstap__source_pollfds(const dnstap_sink *sink, struct pollfd *fds, int n, int max,
                                  uint64_t *at)
{
    return sink && fds && max && at ? n : 0;
}
#endif

#if DNSTAP__HAS_TLS
/* A producer, or a tap that listens, sends records of any size. */
static dnstap__tls_settings dnstap__sink_tls(const dnstap_sink *sink)
{
    dnstap__tls_settings set = dnstap__tls_settings_of(&sink->common, sink->target.host);

    set.input = BR_SSL_BUFSIZE_INPUT;
    return set;
}

static void dnstap__carve_sink_tls(dnstap_sink *sink, dnstap__arena *a)
{
    dnstap__tls_settings set = dnstap__sink_tls(sink);
    uint32_t i;

    sink->tls = dnstap__tls_carve_config(a, &set);
    for (i = 0; i < sink->options.max_connections; i++)
        sink->sources[i].tls = dnstap__tls_carve(a, &set);
}

static int dnstap__load_sink_tls(dnstap_sink *sink, dnstap_error *error)
{
    dnstap__tls_settings set = dnstap__sink_tls(sink);

    return sink->tls ? dnstap__tls_load(sink->tls, &set, error) : DNSTAP_OK;
}
#else
static void dnstap__carve_sink_tls(dnstap_sink *sink, dnstap__arena *a) { (void)sink, (void)a; }
static int dnstap__load_sink_tls(dnstap_sink *sink, dnstap_error *error)
{
    (void)sink, (void)error;
    return DNSTAP_OK;
}
#endif

/* What lies in one block: TLS, whose size the caller's options say, and strings. */
static void dnstap__carve_sink(dnstap_sink *sink, dnstap__arena *a, const char *base)
{
    if (dnstap__is(&sink->target, DNSTAP__SECURE)) dnstap__carve_sink_tls(sink, a);
    dnstap__take_options(a, &sink->common, &sink->target, base);
}

/* Adds up what is to be carved, and carves it. The path is inside the endpoint. */
static int dnstap__sink_block(dnstap_sink *sink, const char *base)
{
    dnstap_options given = sink->common;
    dnstap__arena a;

    memset(&a, 0, sizeof a);
    a.size = SIZE_MAX;
    dnstap__carve_sink(sink, &a, base);
    sink->common = given;
    sink->memory = DNSTAP_MALLOC(a.used);
    if (!sink->memory) return DNSTAP_NO_MEMORY;
    a.base = (uint8_t *)sink->memory;
    a.size = a.used;
    a.used = 0;
    dnstap__carve_sink(sink, &a, base);
    DNSTAP_ASSERT(!a.overflow && a.used == a.size);
    if (sink->target.path)
        sink->target.path = sink->common.endpoint + (sink->target.path - given.endpoint);
    return DNSTAP_OK;
}

static int dnstap__sink_memory(dnstap_sink *sink, const char *base)
{
    const dnstap_sink_options *o = &sink->options;
    size_t rest = dnstap__reads_file(sink) ? 0
                                           : DNSTAP__BLOCK; /* a file has the block for itself */
    uint32_t i;
    dnstap__source *s;

    sink->block = (uint8_t *)DNSTAP_MALLOC(DNSTAP__BLOCK);
    sink->sources = (dnstap__source *)DNSTAP_MALLOC(o->max_connections * sizeof *sink->sources);
    if (!sink->block || !sink->sources) return DNSTAP_NO_MEMORY;
    memset(sink->sources, 0, o->max_connections * sizeof *sink->sources);
    for (i = 0; i < o->max_connections; i++) {
        s = &sink->sources[i];
        s->reader.size = DNSTAP_FRAME_HEADER + o->max_frame;
        s->reader.buffer = (uint8_t *)DNSTAP_MALLOC(s->reader.size + rest);
        if (!s->reader.buffer) return DNSTAP_NO_MEMORY;
        s->rest = s->reader.buffer + s->reader.size;
    }
    return dnstap__sink_block(sink, base);
}

/* What of the options a tap has, too. */
static void dnstap__sink_common(dnstap_sink *sink)
{
    const dnstap_sink_options *from = &sink->options;
    dnstap_options *to = &sink->common;

    to->endpoint = from->endpoint;
    to->listen = !from->connect;
    to->skipverify = from->skipverify;
    to->ca_file = from->ca_file;
    to->cert_file = from->cert_file;
    to->key_file = from->key_file;
    to->server_name = from->server_name;
    to->user = from->user;
    to->unix_time = from->unix_time;
    to->entropy = from->entropy;
    to->resolve = from->resolve;
}

/* Options with their defaults, and what they lead to. */
static int dnstap__resolve_sink(dnstap_sink *sink, dnstap_error *error)
{
    dnstap_sink_options *o = &sink->options;
    int result;

    if (!o->max_frame) o->max_frame = 1u << 20;
    if (!o->timeout_ms) o->timeout_ms = 4000;
    if (!o->max_connections) o->max_connections = 64;
    if (!o->monotonic_ms) o->monotonic_ms = dnstap__clock_ms;
    if (o->max_frame < 8 + DNSTAP_FRAME_CONTROL_MAX || o->max_frame > 1u << 30)
        return dnstap__fail(error, DNSTAP_BAD_OPTION, 0,
                            "max_frame is %lu; give 520 bytes to 1 GiB",
                            (unsigned long)o->max_frame);
    if (o->max_connections > 4096)
        return dnstap__fail(error, DNSTAP_BAD_OPTION, 0, "max_connections is %u; give 1 to 4096",
                            (unsigned)o->max_connections);
    if (o->unidirectional && o->bidirectional)
        return dnstap__fail(error, DNSTAP_BAD_OPTION, 0,
                            "unidirectional and bidirectional are set; leave out one, or both");
    dnstap__sink_common(sink);
    result = dnstap__find_target(&sink->target, sink->host, &sink->common, error);
    if (result < 0) return result;
    if (dnstap__is(&sink->target, DNSTAP__SECURE))
        sink->common.ca_file = dnstap__default_ca(&sink->common);
    if (o->connect && dnstap__reads_file(sink))
        return dnstap__fail(error, DNSTAP_BAD_OPTION, 0,
                            "%s: a file is read; connect to unix://, tcp:// or tls://",
                            o->endpoint);
    if (o->connect || dnstap__reads_file(sink)) o->max_connections = 1;
    return DNSTAP_OK;
}

/* Options, memory, and what is listened on, dialled or read; certificates first: nothing is bound
 * in vain. What fails is freed by dnstap_sink_close. */
static int dnstap__sink_prepare(dnstap_sink *sink, dnstap_error *error)
{
    char base[DNSTAP__PATH_SIZE] = "";
    int result = dnstap__resolve_sink(sink, error);

    if (result == DNSTAP_OK && !dnstap__reads_file(sink))
        result = dnstap__find_base(base, &sink->target, &sink->common, error);
    if (result < 0) return result;
    if (dnstap__sink_memory(sink, base) < 0)
        return dnstap__fail(
            error, DNSTAP_NO_MEMORY, 0, "no memory for %u connections with frames of %lu bytes",
            (unsigned)sink->options.max_connections, (unsigned long)sink->options.max_frame);
    dnstap__dialler_init(&sink->dial, dnstap__sink_now(sink), sink);
    result = dnstap__load_sink_tls(sink, error);
    if (result < 0) return result;
    if (dnstap__reads_file(sink)) return dnstap__open_input(sink, error);
    return dnstap__open_sources(sink, error);
}

DNSTAP_API dnstap_sink *dnstap_sink_open(const dnstap_sink_options *options, dnstap_error *error)
{
    dnstap_sink *sink = (dnstap_sink *)DNSTAP_MALLOC(sizeof *sink);

    if (error) memset(error, 0, sizeof *error);
    if (!sink) {
        dnstap__fail(error, DNSTAP_NO_MEMORY, 0, "no memory for a sink");
        return NULL;
    }
    memset(sink, 0, sizeof *sink);
    sink->listener.fd = sink->dial.names.fd = -1;
    dnstap__waker_none(&sink->waker);
    dnstap__mutex_open(&sink->lock);
    sink->options = *options;
    if (dnstap__sink_prepare(sink, error) == DNSTAP_OK) return sink;
    dnstap_sink_close(sink);
    return NULL;
}

/* -- turns -- */

static int dnstap__sink_turn(dnstap_sink *sink)
{
    dnstap__sink_now(sink);
    dnstap__take_resume(sink);
    if (!dnstap__reads_file(sink)) {
        dnstap__service_sources(sink);
        return DNSTAP_OK;
    }
    dnstap__service_file(sink);
    return sink->status.open ? DNSTAP_OK : DNSTAP_END;
}

DNSTAP_API int dnstap_sink_service(dnstap_sink *sink)
{
    if (sink->fds) return DNSTAP_UNSUPPORTED;
    if (!sink->owner) sink->owner = dnstap__process();
    return dnstap__sink_turn(sink);
}

/* The file's, unless it is time that it waits for, or nothing at all. */
static int dnstap__file_pollfds(const dnstap_sink *sink, struct pollfd *fds, int max, uint64_t *at)
{
    const dnstap__source *s = &sink->sources[0];
    uint64_t wait = s->offer_at ? s->offer_at : sink->follow_at;
    int n;

    if (!sink->status.open) return 0;
    if (wait > sink->now) return *at = wait, 0;
    n = s->offer_at ? 0 : dnstap__add_pollfd(fds, 0, max, dnstap__source_fd(s), POLLIN);
    if (n == 0) *at = sink->now; /* its transport has no descriptor */
    return n;
}

static int dnstap__socket_pollfds(const dnstap_sink *sink, struct pollfd *fds, int max,
                                  uint64_t *at)
{
    bool pauses = sink->now < sink->accept_at;
    int n = dnstap__add_pollfd(fds, 0, max, pauses ? -1 : sink->listener.fd, POLLIN);

    if (pauses) *at = sink->accept_at;
    return dnstap__source_pollfds(sink, fds, n, max, at);
}

static int dnstap__sink_pollfds(dnstap_sink *sink, struct pollfd *fds, int max, int *timeout_ms)
{
    uint64_t now = dnstap__sink_now(sink), at = UINT64_MAX;
    bool reads = dnstap__reads_file(sink);
    int n = reads ? dnstap__file_pollfds(sink, fds, max, &at)
                  : dnstap__socket_pollfds(sink, fds, max, &at);

    if (sink->status.put_off && DNSTAP_LOAD(&sink->resume)) at = now;
    *timeout_ms = -1;
    if (at != UINT64_MAX) *timeout_ms = at <= now ? 0 : (int)(at - now);
    if (n > 0 || max <= 0 || (reads && !sink->status.open)) return n;
    memset(fds, 0, sizeof *fds);
    fds->fd = -1;
    return 1;
}

DNSTAP_API int dnstap_sink_pollfds(dnstap_sink *sink, struct pollfd *fds, int max, int *timeout_ms)
{
    *timeout_ms = -1;
    return sink->fds ? 0 : dnstap__sink_pollfds(sink, fds, max, timeout_ms);
}

/* -- its own thread -- */

/* The status as others see it. */
static void dnstap__show_sink(dnstap_sink *sink)
{
    dnstap__mutex_lock(&sink->lock);
    sink->shown = sink->status;
    sink->shown.state = sink->options.connect ? sink->sources[0].state : DNSTAP_LISTENING;
    if (dnstap__reads_file(sink))
        sink->shown.state = sink->status.open ? DNSTAP_STARTED : DNSTAP_FINISHED;
    dnstap__mutex_unlock(&sink->lock);
}

static void dnstap__run_sink(dnstap_sink *sink)
{
    int max = (int)sink->options.max_connections + 1, timeout, n, result = DNSTAP_OK;

    while (result == DNSTAP_OK && !DNSTAP_LOAD_ACQUIRE(&sink->stop)) {
        n = dnstap__sink_pollfds(sink, sink->fds, max, &timeout);
        sink->fds[n].fd = sink->waker.out;
        sink->fds[n].events = POLLIN;
        poll(sink->fds, (nfds_t)n + 1, timeout);
        (void)dnstap__waker_take(&sink->waker);
        result = dnstap__sink_turn(sink);
        dnstap__show_sink(sink);
    }
}

static void *dnstap__sink_thread(void *argument)
{
    dnstap_sink *sink = (dnstap_sink *)argument;

    DNSTAP_STORE(&sink->runner, dnstap__self());
    dnstap__run_sink(sink);
    return NULL;
}

DNSTAP_API int dnstap_sink_start(dnstap_sink *sink)
{
    size_t places = (size_t)sink->options.max_connections + 2;

    if (!DNSTAP__HAS_THREADS || sink->fds) return DNSTAP_UNSUPPORTED;
    sink->fds = (struct pollfd *)DNSTAP_MALLOC(places * sizeof *sink->fds);
    if (!sink->fds) return DNSTAP_NO_MEMORY;
    sink->owner = dnstap__process();
    dnstap__show_sink(sink);
    if (dnstap__waker_open(&sink->waker) == DNSTAP_OK &&
        dnstap__thread_start(&sink->thread, dnstap__sink_thread, sink) == 0)
        return DNSTAP_OK;
    dnstap__waker_close(&sink->waker);
    DNSTAP_FREE(sink->fds);
    sink->fds = NULL;
    return DNSTAP_SYSTEM;
}

DNSTAP_API void dnstap_sink_resume(dnstap_sink *sink)
{
    if (!DNSTAP_EXCHANGE(&sink->resume, 1) && sink->fds) dnstap__waker_call(&sink->waker);
}

/* Without a thread, and in it, the status is at hand. */
DNSTAP_API void dnstap_sink_get_status(dnstap_sink *sink, dnstap_sink_status *status)
{
    if (!sink->fds || DNSTAP_LOAD(&sink->runner) == dnstap__self()) dnstap__show_sink(sink);
    dnstap__mutex_lock(&sink->lock);
    *status = sink->shown;
    dnstap__mutex_unlock(&sink->lock);
}

/* -- metrics -- */

#if DNSTAP__HAS_METRICS
/* clang-format off */
#define DNSTAP__ONE(field) \
    DNSTAP__SAMPLE_IN(dnstap_sink_status, NULL, NULL, DNSTAP__PLAIN, 0, DNSTAP__OF_ALL, field)
#define DNSTAP__CAUSE(name, text) \
    DNSTAP__SAMPLE_IN(dnstap_sink_status, "cause", text, DNSTAP__PLAIN, 0, DNSTAP__OF_ALL, \
        ended[name])
#define DNSTAP__X(name, text) \
    DNSTAP__SAMPLE_IN(dnstap_sink_status, "state", text, DNSTAP__IS, name, DNSTAP__OF_ALL, state)
static const dnstap__metric dnstap__sink_metrics[] = {
    DNSTAP__HEAD("dnstap_sink_connections", "counter", NULL,
        "Connections accepted, or begun by the sink; a file is one.")
    DNSTAP__ONE(connections)
    DNSTAP__HEAD("dnstap_sink_ended", "counter", NULL,
        "Connections that ended, by cause; with refused ones, which were none.")
    DNSTAP_SINK_CAUSES(DNSTAP__CAUSE)
    DNSTAP__HEAD("dnstap_sink_open", "gauge", NULL, "Connections that are there.")
    DNSTAP__ONE(open)
    DNSTAP__HEAD("dnstap_sink_put_off", "gauge", NULL,
        "Connections of those that are not read, because a message waits to be taken.")
    DNSTAP__ONE(put_off)
    DNSTAP__HEAD("dnstap_sink_failures", "counter", NULL,
        "Connections, and attempts, that ended with an error.")
    DNSTAP__ONE(failed)
    DNSTAP__HEAD("dnstap_sink_frames", "counter", NULL, "Messages received, undecodable ones too.")
    DNSTAP__ONE(frames)
    DNSTAP__HEAD("dnstap_sink_frame_bytes", "counter", "bytes", "Bytes of these.")
    DNSTAP__ONE(bytes)
    DNSTAP__HEAD("dnstap_sink_undecodable", "counter", NULL, "Messages that are not dnstap.")
    DNSTAP__ONE(undecodable)
    DNSTAP__HEAD("dnstap_sink_skipped", "counter", NULL, "Messages skipped, being too large.")
    DNSTAP__ONE(skipped)
    DNSTAP__HEAD("dnstap_sink_state", "gauge", NULL, "1 for the state that the sink is in, else 0.")
    DNSTAP_STATES(DNSTAP__X)
};
#undef DNSTAP__X
#undef DNSTAP__CAUSE
#undef DNSTAP__ONE
#undef DNSTAP__SAMPLE_IN
#undef DNSTAP__HEAD
/* clang-format on */

DNSTAP_API long dnstap_sink_metrics(dnstap_sink *sink, char *out, size_t size)
{
    dnstap_sink_status status;
    dnstap__subject s;

    memset(&s, 0, sizeof s);
    dnstap_sink_get_status(sink, &status);
    s.label = "sink";
    s.name = sink->common.endpoint;
    s.numbers = &status;
    return dnstap__write_metrics(dnstap__sink_metrics,
                                 sizeof dnstap__sink_metrics / sizeof *dnstap__sink_metrics, &s, 1,
                                 out, size);
}
#endif

/* -- the end -- */

static void dnstap__free_sources(dnstap_sink *sink, bool ours)
{
    dnstap__source *s;
    uint32_t i;

    for (i = 0; sink->sources && i < sink->options.max_connections; i++) {
        s = &sink->sources[i];
        if (ours) dnstap__part_source(s);
        if (s->transport.close) (s->transport.close)(s->transport.self);
        if (s->reader.buffer) DNSTAP_FREE(s->reader.buffer);
    }
    if (sink->sources) DNSTAP_FREE(sink->sources);
}

/* A forked child's copy: the thread, the look-up, and what is said to peers, are its parent's. */
static void dnstap__leave_to_owner(dnstap_sink *sink)
{
    dnstap__names_orphan(&sink->dial.names);
    sink->listener.path = NULL;
    sink->thread.running = false;
}

DNSTAP_API void dnstap_sink_close(dnstap_sink *sink)
{
    bool ours;

    if (!sink) return;
    ours = !sink->owner || sink->owner == dnstap__process();
    if (!ours) dnstap__leave_to_owner(sink);
    if (sink->thread.running) {
        DNSTAP_STORE_RELEASE(&sink->stop, 1);
        dnstap__waker_call(&sink->waker);
        dnstap__thread_join(&sink->thread);
    }
    dnstap__waker_close(&sink->waker);
    dnstap__free_sources(sink, ours);
    dnstap__names_leave(&sink->dial.names);
    dnstap__listener_close(&sink->listener);
    if (sink->fds) DNSTAP_FREE(sink->fds);
    if (sink->block) DNSTAP_FREE(sink->block);
    dnstap__forget_tls(sink->tls);
    if (sink->memory) DNSTAP_FREE(sink->memory);
    dnstap__mutex_close(&sink->lock);
    DNSTAP_FREE(sink);
}
#endif

/* ---- >>words ------------------------------------------------------------------------------ */

#if DNSTAP__HAS_DIRECTIVE
/* Configuration text into words. CoreDNS reads in three steps, and so does this, or else a text
 * could mean one thing here and another there:
 *
 *   dnstap__read_word    cuts the text into words, takes quotes off and puts variables in
 *   dnstap__next         groups words: a directive begins on a line of its own, outside of braces
 *   dnstap__same_line    the plugin's view: is the next word on the line of the one before?
 *
 * Each returns 1: there is a word; 0: there is none; or an error. The third leaves a word of
 * another line unread, for whoever asks next. Memory has the strings that are kept, and behind
 * them the one word in hand; what is not kept is overwritten by the next word. A line is counted
 * from the line breaks in a word as it is *with* its variables, as there. Text is left at its NUL
 * at the latest; each step takes a character, and variables are counted, so that it ends.
 *
 * What is a mistake that CoreDNS swallows goes through dnstap__object as DNSTAP__ODD: an error, or
 * when lenient a warning, and then CoreDNS's way is gone on with: surplus words are skipped, a word
 * behind a block begins another tap, a lone brace may be a value. Only in quotes, or out of a
 * variable, a brace is always a value here, while CoreDNS takes it for a brace.
 *
 * At the end, what CoreDNS sees in an address is what Go's net/url says, which is repeated here. */
enum { DNSTAP__VARIABLES = 100 }; /* in one word; one that names itself has no end */

/* What an objection is: never an error, an error unless lenient, always an error. */
typedef enum dnstap__objection { DNSTAP__WARNING, DNSTAP__ODD, DNSTAP__WRONG } dnstap__objection;

typedef struct dnstap__words {
    dnstap_parse_options how;
    dnstap_error error;
    const char *text, *at; /* all of it, and what is not read yet */
    int at_line, at_column;
    char *memory;
    size_t used, size;
    /* the word */
    char *word;
    size_t length;
    int line, column, last,
        before;  /* last: the line it ends on; before: the same of the last one */
    char brace;  /* it is a brace, without quotes */
    bool starts; /* a directive begins with it */
    bool unread; /* it will be the next one too */
    unsigned variables;
    char shown[48];
    /* groups */
    unsigned depth;
    int brace_line, brace_column; /* of the outermost brace that is open */
    bool skipping;                /* a directive that is not ours */
    /* the tap */
    uint32_t seen; /* bit per property */
    bool ours;     /* has what CoreDNS does not */
} dnstap__words;

/* Hands an objection on, with its place. */
static int dnstap__settle(dnstap__words *w, dnstap__objection objection, dnstap_error *error)
{
    bool fatal = objection == DNSTAP__WRONG || (objection == DNSTAP__ODD && !w->how.lenient);

    error->line = w->line;
    error->column = w->column;
    if (fatal) w->error = *error;
    if (!fatal && w->how.warning) (w->how.warning)(w->how.user, error);
    return fatal ? DNSTAP_BAD_OPTION : DNSTAP_OK;
}

#if DNSTAP__HAS_TEXT
DNSTAP__PRINTF(3, 4)
static int dnstap__object(dnstap__words *w, dnstap__objection objection, const char *format, ...)
{
    dnstap_error error;
    va_list args;
    size_t n;

    dnstap__fail(&error, DNSTAP_BAD_OPTION, 0, "line %d, column %d: ", w->line, w->column);
    n = strlen(error.text);
    va_start(args, format);
    dnstap__vformat(error.text + n, sizeof error.text - n, format, args);
    va_end(args);
    return dnstap__settle(w, objection, &error);
}
#else
#define dnstap__object(w, objection, ...) \
    (DNSTAP__UNSAID(__VA_ARGS__), dnstap__object_code(w, objection))

static int dnstap__object_code(dnstap__words *w, dnstap__objection objection)
{
    dnstap_error error;

    dnstap__fail_code(&error, DNSTAP_BAD_OPTION, 0);
    return dnstap__settle(w, objection, &error);
}
#endif

/* The beginning of s, for a message. */
static const char *dnstap__show_text(dnstap__words *w, const char *s)
{
    dnstap__text t = {NULL, 0, sizeof w->shown};

    t.out = w->shown;
    dnstap__text_cut(&t, s, sizeof w->shown - 1);
    w->shown[t.used] = '\0';
    return w->shown;
}

static const char *dnstap__show(dnstap__words *w) { return dnstap__show_text(w, w->word); }

/* -- words -- */

/* What Go's unicode.IsSpace says. */
static bool dnstap__is_blank(uint32_t c)
{
    if (c <= 0xff) return (c >= 9 && c <= 13) || c == ' ' || c == 0x85 || c == 0xa0;
    return c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 ||
           c == 0x202f || c == 0x205f || c == 0x3000;
}

/* Moves on; a column is a character. */
static void dnstap__move_on(dnstap__words *w, size_t n)
{
    for (; n; n--, w->at++) {
        if (*w->at == '\n') {
            w->at_line++;
            w->at_column = 1;
        } else if (((unsigned char)*w->at & 0xc0) != 0x80) {
            w->at_column++;
        }
    }
}

static int dnstap__no_room(dnstap__words *w)
{
    dnstap__object(w, DNSTAP__WRONG,
                   "the memory given, %lu bytes, is too small; give %lu, and more for the values "
                   "of variables",
                   (unsigned long)w->size, (unsigned long)strlen(w->text) * 5 + 64);
    return w->error.code = DNSTAP_NO_MEMORY;
}

/* Replaces n bytes at `at` of the word, which ends in a NUL, by those of s. */
static int dnstap__splice(dnstap__words *w, char *at, size_t n, const char *s, size_t size)
{
    size_t room = w->size - w->used - w->length;

    DNSTAP_ASSERT(at >= w->word && at + n <= w->word + w->length);
    DNSTAP_ASSERT(room > 0 && w->word == w->memory + w->used);
    if (size >= room + n) return dnstap__no_room(w);
    memmove(at + size, at + n, (size_t)(w->word + w->length + 1 - (at + n)));
    memcpy(at, s, size);
    w->length += size - n;
    return DNSTAP_OK;
}

static int dnstap__append(dnstap__words *w, const char *s, size_t n)
{
    return dnstap__splice(w, w->word + w->length, 0, s, n);
}

/* The next character of the text goes into the word. What is not UTF-8 is U+FFFD to CoreDNS. */
static int dnstap__take_character(dnstap__words *w)
{
    uint32_t c;
    unsigned n = dnstap__character(w->at, &c);
    const char *from = w->at;

    dnstap__move_on(w, n ? n : 1);
    if (!n && w->how.lenient) return dnstap__append(w, "\xef\xbf\xbd", 3);
    return dnstap__append(w, from, n ? n : 1);
}

static int dnstap__read_quoted(dnstap__words *w)
{
    bool escaped = false;
    int result;

    dnstap__move_on(w, 1);
    while (escaped || *w->at != '"') {
        if (!*w->at)
            return dnstap__object(w, DNSTAP__WRONG, "the quote that opens here never ends");
        if (!escaped && *w->at == '\\') {
            escaped = true;
            dnstap__move_on(w, 1);
            continue;
        }
        if (escaped && *w->at != '"' && (result = dnstap__append(w, "\\", 1)) < 0) return result;
        if ((result = dnstap__take_character(w)) < 0) return result;
        escaped = false;
    }
    dnstap__move_on(w, 1);
    return DNSTAP_OK;
}

/* At a # inside a word. To CoreDNS the comment ends with the next blank, not with the line. */
static int dnstap__skip_glued(dnstap__words *w)
{
    const char *ahead;
    uint32_t c;
    unsigned n;

    for (; *w->at; dnstap__move_on(w, n ? n : 1)) {
        n = dnstap__character(w->at, &c);
        if (dnstap__is_blank(c) && c != '\r') break;
    }
    for (ahead = w->at; *ahead && *ahead != '\n'; ahead += n) {
        n = dnstap__character(ahead, &c);
        if (!dnstap__is_blank(c)) break;
    }
    if (!*ahead || *ahead == '\n' || *ahead == '#') return DNSTAP_OK;
    return dnstap__object(w, DNSTAP__ODD,
                          "the # in this word hides what follows up to the next blank only; put a "
                          "blank before it, or quotes around the word");
}

static int dnstap__read_plain(dnstap__words *w)
{
    uint32_t c;
    int result;

    while (*w->at) {
        dnstap__character(w->at, &c);
        if (c == '#') return dnstap__skip_glued(w);
        if (c == '\r') {
            dnstap__move_on(w, 1);
            continue;
        }
        if (dnstap__is_blank(c)) break;
        if ((result = dnstap__take_character(w)) < 0) return result;
    }
    return DNSTAP_OK;
}

/* The value of the variable that is named from `name` to `end`, both inside the word. */
static const char *dnstap__variable(dnstap__words *w, const char *name, char *end)
{
    const char *value;
    char behind = *end;

    *end = '\0';
    value = w->how.variable ? (w->how.variable)(w->how.user, name) : dnstap__environment(name);
    if (!value)
        dnstap__object(w, DNSTAP__WARNING, "variable \"%s\" is not set",
                       dnstap__show_text(w, name));
    *end = behind;
    return value ? value : "";
}

/* Replaces the variables as CoreDNS does: the first, wherever it is named in the word, and again
 * from the beginning; {$} ends it. */
static int dnstap__replace(dnstap__words *w, const char *open, const char *close)
{
    const char *value;
    char *at, *end, *like;
    size_t n;
    int result = DNSTAP_OK;

    while ((at = strstr(w->word, open)) != NULL && (end = strstr(at, close)) != NULL) {
        if (end <= at + 2) break;
        if (++w->variables > DNSTAP__VARIABLES)
            return dnstap__object(w, DNSTAP__WRONG,
                                  "more than %d variables in a word; does one name itself?",
                                  (int)DNSTAP__VARIABLES);
        value = dnstap__variable(w, at + 2, end);
        n = (size_t)(end - at) + strlen(close);
        for (like = w->word + w->length - n; like >= at && result >= 0; like--)
            if (like == at || !memcmp(like, at, n))
                result = dnstap__splice(w, like, n, value, strlen(value));
        if (result < 0) return result;
    }
    return DNSTAP_OK;
}

/* Skips blanks and comments; false: there is no word any more. */
static bool dnstap__find_word(dnstap__words *w)
{
    bool comment = false;
    uint32_t c;
    unsigned n;

    for (; *w->at; dnstap__move_on(w, n ? n : 1)) {
        n = dnstap__character(w->at, &c);
        if (c == '\n') comment = false;
        if (c == '#') comment = true;
        if (!comment && !dnstap__is_blank(c)) return true;
    }
    return false;
}

static int dnstap__read_word(dnstap__words *w)
{
    const char *s;
    bool quoted;
    int result;

    if (!dnstap__find_word(w)) return 0;
    w->before = w->last;
    w->line = w->at_line;
    w->column = w->at_column;
    w->word = w->memory + w->used;
    w->length = w->variables = 0;
    if (w->used == w->size) return dnstap__no_room(w);
    *w->word = '\0';
    quoted = *w->at == '"';
    if ((result = quoted ? dnstap__read_quoted(w) : dnstap__read_plain(w)) < 0) return result;
    w->brace = '\0';
    if (!quoted && (!strcmp(w->word, "{") || !strcmp(w->word, "}"))) w->brace = *w->word;
    if ((result = dnstap__replace(w, "{%", "%}")) < 0) return result;
    if ((result = dnstap__replace(w, "{$", "}")) < 0) return result;
    w->last = w->line;
    for (s = w->word; (s = strchr(s, '\n')) != NULL; s++) w->last++;
    return 1;
}

/* -- groups -- */

/* CoreDNS's directives but ours; in its text they may stand beside ours. */
static const char dnstap__directives[] =
    " root metadata geoip cancel tls proxyproto quic grpc_server https https3 timeouts multisocket "
    "reload nsid bufsize bind debug trace ready health pprof prometheus errors log local dns64 acl "
    "any chaos loadbalance tsig cache rewrite header dnssec autopath minimal template transfer "
    "hosts route53 azure clouddns k8s_external kubernetes file auto secondary etcd loop forward "
    "grpc erratic whoami on sign view nomad ";

static bool dnstap__is_directive(const char *word)
{
    const char *at = dnstap__directives;
    size_t n = strlen(word);

    if (!n || strchr(word, ' ')) return false;
    while ((at = strstr(at + 1, word)) != NULL)
        if (at[-1] == ' ' && at[n] == ' ') return true;
    return false;
}

static int dnstap__refuse_import(dnstap__words *w)
{
    return dnstap__object(w, DNSTAP__WRONG,
                          "import and snippets belong to the host's file; give the directives as "
                          "they are");
}

/* The word begins a directive. 1: ours; 0: another, which is skipped. */
static int dnstap__begin_directive(dnstap__words *w)
{
    w->starts = !strcmp(w->word, "dnstap");
    w->skipping = !w->starts;
    if (w->starts) return 1;
    if (!strcmp(w->word, "import") || *w->word == '(') return dnstap__refuse_import(w);
    if (w->brace == '}') return dnstap__object(w, DNSTAP__WRONG, "\"}\" without its \"{\"");
    if (dnstap__is_directive(w->word))
        return dnstap__object(w, DNSTAP__ODD,
                              "\"%s\" belongs to the host's file; only dnstap is looked at here",
                              dnstap__show(w));
    return dnstap__object(
        w, DNSTAP__WRONG, "unknown directive \"%s\"; expected \"dnstap\"%s", dnstap__show(w),
        w->before ? "; a block opens on its directive's line, with a lone \"{\"" : "");
}

/* Where the word stands between directives and braces. 1: it is one of ours; 0: it is skipped. */
static int dnstap__group(dnstap__words *w)
{
    bool new_line = w->before < w->line;

    w->starts = false;
    if (w->brace == '{' && w->before) {
        if (w->depth++) return !w->skipping;
        w->brace_line = w->line;
        w->brace_column = w->column;
    } else if (new_line && !w->depth) {
        return dnstap__begin_directive(w);
    } else if (w->brace == '}') {
        if (!w->depth) return dnstap__object(w, DNSTAP__WRONG, "\"}\" without its \"{\"");
        w->depth--;
    } else if (new_line && !strcmp(w->word, "import")) {
        return dnstap__refuse_import(w);
    }
    return !w->skipping;
}

static int dnstap__next(dnstap__words *w)
{
    int result = w->unread;

    w->unread = false;
    while (!result) {
        if ((result = dnstap__read_word(w)) <= 0) break;
        result = dnstap__group(w);
    }
    if (result || !w->depth) return result;
    w->line = w->brace_line;
    w->column = w->brace_column;
    return dnstap__object(w, DNSTAP__WRONG, "the \"{\" here has no \"}\"");
}

/* -- the plugin's view -- */

static int dnstap__same_line(dnstap__words *w)
{
    int result = dnstap__next(w);

    w->unread = result > 0 && w->before != w->line;
    return w->unread ? 0 : result;
}

/* The next word of a list, which "{" ends. */
static int dnstap__argument(dnstap__words *w)
{
    int result = dnstap__same_line(w);

    if (result <= 0 || !w->brace) return result;
    w->unread = w->brace == '{';
    if (w->unread) return 0;
    result = dnstap__object(w, DNSTAP__ODD,
                            "CoreDNS takes this \"}\" for one more word; put it on its own line");
    return result < 0 ? result : 1;
}
/* -- what stands behind tcp:// and tls:// -- */

static int dnstap__hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    c = (char)dnstap__lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool dnstap__is_alnum(char c)
{
    return (c >= '0' && c <= '9') || (dnstap__lower(c) >= 'a' && dnstap__lower(c) <= 'z');
}

/* Only such characters, letters, digits and whole escapes (%2F) stand between s and end. */
static bool dnstap__only(const char *s, const char *end, const char *allowed)
{
    for (; s < end; s++) {
        if (*s == '%' &&
            (end - s < 3 || dnstap__hex_digit(s[1]) < 0 || dnstap__hex_digit(s[2]) < 0))
            return false;
        if (allowed && !dnstap__is_alnum(*s) && !strchr(allowed, *s)) return false;
    }
    return true;
}

/* What stands behind tcp:// or tls://, as Go's net/url takes it apart:
 * [user@]host[:port][/path][?query][#fragment] */
typedef struct dnstap__url {
    const char *host, *end; /* with its port */
    bool plain;             /* there is nothing else, and no escape in it */
} dnstap__url;

/* Go's rules for one character of a host; `end` is the host's. */
static bool dnstap__is_host_character(const char *s, const char *end)
{
    if ((unsigned char)*s >= 0x80) return true;
    if (*s != '%') return dnstap__only(s, s + 1, "-_.~!$&'()*+,;=:[]<>\"");
    if (!dnstap__only(s, end, NULL)) return false;
    return dnstap__hex_digit(s[1]) >= 8 || !memcmp(s, "%25", 3); /* of ASCII only % is escaped */
}

/* An IPv6 address, perhaps with a zone. */
static bool dnstap__is_address(const char *s, const char *end)
{
    int colons = 0;

    for (; s < end && *s != '%'; s++) {
        colons += *s == ':';
        if (*s != ':' && *s != '.' && dnstap__hex_digit(*s) < 0) return false;
    }
    return colons >= 2;
}

/* A name or an address, or an address in brackets; the port is a number, empty, or not there. */
static bool dnstap__is_host(const char *s, const char *end)
{
    const char *port = end, *close = NULL, *c;
    bool bracket = s < end && *s == '[';

    for (c = s; c < end; c++) {
        if (!dnstap__is_host_character(c, end) || (*c == '[' && c > s)) return false;
        if (*c == ':') port = c;
        if (*c == ']') close = c;
    }
    if (bracket != (close != NULL)) return false;
    if (close) {
        port = close + 1;
        if (!dnstap__is_address(s + 1, close) || (port < end && *port != ':')) return false;
    }
    for (c = port + 1; c < end; c++)
        if (*c < '0' || *c > '9') return false;
    return true;
}

static bool dnstap__take_url_apart(dnstap__url *u, const char *text)
{
    const char *whole = text + strcspn(text, "#"), *query = text + strcspn(text, "?#"), *c;

    u->host = text;
    u->end = text + strcspn(text, "/?#");
    for (c = text; c < whole; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f) return false;
    for (c = text; c < u->end; c++)
        if (*c == '@') u->host = c + 1;
    u->plain = u->host == text && !*u->end && !memchr(text, '%', (size_t)(u->end - text));
    return (u->host == text || dnstap__only(text, u->host - 1, "-._:~!$&'()*+,;=%@")) &&
           dnstap__is_host(u->host, u->end) && dnstap__only(u->end, query, NULL) &&
           dnstap__only(whole, whole + strlen(whole), NULL);
}
#endif

/* ---- >>values ----------------------------------------------------------------------------- */

#if DNSTAP__HAS_DIRECTIVE
/* What may stand in a block, and how the words behind a property's name become an option. In: the
 * words of its line; out: the option's field, with strings and arrays in the caller's memory, or an
 * objection. One table has all properties: reading looks names up in it, and dnstap_format walks
 * it, so that the two can't part. */

/* Who takes a property. */
enum {
    DNSTAP__COREDNS = 1,     /* CoreDNS has it */
    DNSTAP__DIALLING = 2,    /* taps that connect */
    DNSTAP__LISTENING = 4,   /* taps that listen */
    DNSTAP__SECURED = 8,     /* tls:// */
    DNSTAP__ON_UNIX = 16,    /* unix sockets */
    DNSTAP__BESIDE_FULL = 32 /* it may stand behind full, too */
};

/* What stands behind it: nothing, a word, CERT KEY and for listeners CA, a number up to `most`, an
 * octal number, a duration, or that or "now"; types, rcodes, zones, two numbers of bits. */
enum {
    DNSTAP__FLAG,
    DNSTAP__WORD,
    DNSTAP__FILES,
    DNSTAP__NUMBER,
    DNSTAP__MODE,
    DNSTAP__TIME,
    DNSTAP__PAUSE,
    DNSTAP__TYPES,
    DNSTAP__RCODES,
    DNSTAP__ZONES,
    DNSTAP__BITS
};

typedef struct dnstap__property {
    const char *name;
    size_t at; /* of the option's field; of the first for several */
    uint16_t kind, needs;
    uint32_t most;
} dnstap__property;

/* clang-format off */
#define DNSTAP__AT(field) offsetof(dnstap_options, field)
static const dnstap__property dnstap__properties[] = {
    {"identity", DNSTAP__AT(identity), DNSTAP__WORD, DNSTAP__COREDNS, 0},
    {"version", DNSTAP__AT(version), DNSTAP__WORD, DNSTAP__COREDNS, 0},
    {"extra", DNSTAP__AT(extra), DNSTAP__WORD, DNSTAP__COREDNS, 0},
    {"skipverify", DNSTAP__AT(skipverify), DNSTAP__FLAG, DNSTAP__COREDNS | DNSTAP__SECURED, 0},
    {"tls", DNSTAP__AT(cert_file), DNSTAP__FILES,
        DNSTAP__COREDNS | DNSTAP__LISTENING | DNSTAP__SECURED, 0},
    {"tls_ca", DNSTAP__AT(ca_file), DNSTAP__WORD, DNSTAP__DIALLING | DNSTAP__SECURED, 0},
    {"tls_cert", DNSTAP__AT(cert_file), DNSTAP__FILES, DNSTAP__DIALLING | DNSTAP__SECURED, 0},
    {"tls_name", DNSTAP__AT(server_name), DNSTAP__WORD, DNSTAP__DIALLING | DNSTAP__SECURED, 0},
    {"writebuffer", DNSTAP__AT(writebuffer), DNSTAP__NUMBER, DNSTAP__BESIDE_FULL, 1024},
    {"queue", DNSTAP__AT(queue), DNSTAP__NUMBER, DNSTAP__BESIDE_FULL, 4096},
    {"flush", DNSTAP__AT(flush_ms), DNSTAP__PAUSE, 0, 0},
    {"timeout", DNSTAP__AT(timeout_ms), DNSTAP__TIME, 0, 0},
    {"unidirectional", DNSTAP__AT(unidirectional), DNSTAP__FLAG, 0, 0},
    {"drop_when_disconnected", DNSTAP__AT(drop_when_disconnected), DNSTAP__FLAG,
        DNSTAP__DIALLING, 0},
    {"socket_mode", DNSTAP__AT(socket_mode), DNSTAP__MODE,
        DNSTAP__LISTENING | DNSTAP__ON_UNIX, 0777},
    {"max_sinks", DNSTAP__AT(max_sinks), DNSTAP__NUMBER, DNSTAP__LISTENING, 1024},
    {"types", DNSTAP__AT(types), DNSTAP__TYPES, 0, 31},
    {"rcode", DNSTAP__AT(rcodes), DNSTAP__RCODES, 0, 4095},
    {"zone", DNSTAP__AT(zones), DNSTAP__ZONES, 0, DNSTAP_ZONES_MAX},
    {"sample", DNSTAP__AT(sample), DNSTAP__NUMBER, 0, UINT32_MAX},
    {"anonymize", DNSTAP__AT(anonymize_v4), DNSTAP__BITS, 0, 0}};
#undef DNSTAP__AT
/* clang-format on */
enum { DNSTAP__PROPERTIES = sizeof dnstap__properties / sizeof *dnstap__properties };

/* The word stays in memory. */
static const char *dnstap__keep(dnstap__words *w)
{
    w->used += w->length + 1;
    return w->word;
}

/* The value of a property. A lone brace is none, but for CoreDNS. */
static int dnstap__value(dnstap__words *w, const dnstap__property *p)
{
    int line = w->line, column = w->column, result = dnstap__same_line(w);

    if (result < 0 || (result && !w->brace)) return result;
    if (result && w->how.lenient)
        return dnstap__object(w, DNSTAP__WARNING, "CoreDNS takes this brace for a value");
    w->line = line;
    w->column = column;
    return dnstap__object(w, DNSTAP__WRONG, "\"%s\" needs a value on its line", p->name);
}

/* The word as a number from `least` to `most`, as Go's Atoi has it. */
static int dnstap__take_number(dnstap__words *w, const char *name, uint32_t least, uint32_t most,
                               uint32_t *out)
{
    const char *s = w->word + (*w->word == '+' || *w->word == '-');
    bool good = *s && *w->word != '-';
    uint64_t n = 0;

    for (; *s; s++) {
        good = good && *s >= '0' && *s <= '9';
        if (good && n <= most) n = n * 10 + (uint64_t)(*s - '0');
    }
    if (!good || n < least || n > most)
        return dnstap__object(w, DNSTAP__WRONG, "%s is \"%s\"; expected a number from %u to %u",
                              name, dnstap__show(w), (unsigned)least, (unsigned)most);
    *out = (uint32_t)n;
    return DNSTAP_OK;
}

static int dnstap__take_mode(dnstap__words *w, const dnstap__property *p, uint32_t *out)
{
    const char *s = w->word;
    uint32_t mode = 0;

    for (; *s >= '0' && *s <= '7' && mode <= p->most; s++) mode = mode * 8 + (uint32_t)(*s - '0');
    if (*s || !mode || mode > p->most)
        return dnstap__object(w, DNSTAP__WRONG, "%s is \"%s\"; expected it in octal, such as 0660",
                              p->name, dnstap__show(w));
    *out = mode;
    return DNSTAP_OK;
}

/* Milliseconds of 250ms, 2s, 1m30s, 1h; 0: it is none of that, or does not fit in an int. */
static int dnstap__duration(const char *s)
{
    static const char units[][3] = {"ms", "s", "m", "h"};
    static const uint32_t ms[] = {1, 1000, 60000, 3600000};
    const char *rest;
    uint64_t sum = 0, n;
    size_t i;

    do {
        for (n = 0, rest = s; *rest >= '0' && *rest <= '9' && n <= INT32_MAX; rest++)
            n = n * 10 + (uint64_t)(*rest - '0');
        for (i = 0; i < 3 && !dnstap__behind(rest, units[i]);) i++;
        sum += n * ms[i];
        if (rest == s || !dnstap__behind(rest, units[i]) || sum > INT32_MAX) return 0;
        s = dnstap__behind(rest, units[i]);
    } while (*s);
    return (int)sum;
}

static int dnstap__take_duration(dnstap__words *w, const dnstap__property *p, int *out)
{
    bool pause = p->kind == DNSTAP__PAUSE;

    *out = pause && !strcmp(w->word, "now") ? DNSTAP_FLUSH_NOW : dnstap__duration(w->word);
    if (*out) return DNSTAP_OK;
    return dnstap__object(w, DNSTAP__WRONG,
                          "%s is \"%s\"; expected a duration such as 250ms, 2s or 1m30s%s", p->name,
                          dnstap__show(w), pause ? ", or now" : "");
}

/* -- lists -- */

static bool dnstap__is_word(const char *word, const char *name)
{
    while (*word && dnstap__lower(*word) == dnstap__lower(*name)) word++, name++;
    return !*word && !*name;
}

static const char *dnstap__type_word(uint32_t type, bool brief)
{
    switch (type) {
#define DNSTAP__X(constant, value, name, short_name) \
    case value:                                      \
        return brief ? short_name : name;
        DNSTAP_MESSAGE_TYPES(DNSTAP__X)
#undef DNSTAP__X
    default:
        return NULL;
    }
}

/* The name of a number in a property's list; NULL: it has none. */
static const char *dnstap__list_name(const dnstap__property *p, uint32_t n, bool brief)
{
    return p->kind == DNSTAP__TYPES ? dnstap__type_word(n, brief) : dnstap__rcode_name(n);
}

/* Which number the word is, by a name, in either case, or in digits. */
static int dnstap__take_named(dnstap__words *w, const dnstap__property *p, uint32_t *n)
{
    const char *name;
    uint32_t i;

    if (*w->word >= '0' && *w->word <= '9') return dnstap__take_number(w, p->name, 0, p->most, n);
    for (i = 0; i < 64; i++) {
        *n = i / 2;
        name = dnstap__list_name(p, *n, i % 2);
        if (name && dnstap__is_word(w->word, name)) return DNSTAP_OK;
    }
    return dnstap__object(w, DNSTAP__WRONG, "%s has \"%s\"; expected %s, or a number up to %u",
                          p->name, dnstap__show(w),
                          p->kind == DNSTAP__TYPES ? "CLIENT_QUERY, CQ and the like"
                                                   : "NOERROR, NXDOMAIN and the like",
                          (unsigned)p->most);
}

static int dnstap__take_zone(dnstap__words *w, const dnstap__property *p, uint32_t place)
{
    uint8_t name[DNSTAP__NAME_MAX];
    size_t size;
    const char *why = dnstap__read_name(w->word, name, &size);

    if (why)
        return dnstap__object(w, DNSTAP__WRONG, "%s \"%s\" is no domain name: %s", p->name,
                              dnstap__show(w), why);
    if (place >= p->most)
        return dnstap__object(w, DNSTAP__WRONG, "more than %u zones; name fewer",
                              (unsigned)p->most);
    dnstap__keep(w);
    return DNSTAP_OK;
}

/* How many bits of an address are kept. */
static int dnstap__take_bits(dnstap__words *w, const dnstap__property *p, uint32_t place,
                             dnstap_options *o)
{
    uint8_t *bits[] = {&o->anonymize_v4, &o->anonymize_v6};
    uint32_t n = 0;
    int result;

    if (place > 1)
        return dnstap__object(w, DNSTAP__WRONG, "\"%s\" is one number too many", dnstap__show(w));
    result = dnstap__take_number(w, p->name, 0, place ? 128 : 32, &n);
    *bits[place] = n ? (uint8_t)n : (uint8_t)DNSTAP_KEEP_NONE;
    return result;
}

/* CERT KEY, and for taps that listen [CA]; what is more is surplus. */
static int dnstap__take_file(dnstap__words *w, const dnstap__property *p, uint32_t place,
                             dnstap_options *o)
{
    const char **files[] = {&o->cert_file, &o->key_file, &o->ca_file};

    if (place < (p->needs & DNSTAP__LISTENING ? 3u : 2u)) {
        *files[place] = dnstap__keep(w);
        return DNSTAP_OK;
    }
    return dnstap__object(w, DNSTAP__ODD, "\"%s\" is one file too many", dnstap__show(w));
}

/* The word at this place of a property's list. */
static int dnstap__take_item(dnstap__words *w, const dnstap__property *p, uint32_t place,
                             dnstap_options *o)
{
    uint32_t n = 0;
    int result;

    if (p->kind == DNSTAP__FILES) return dnstap__take_file(w, p, place, o);
    if (p->kind == DNSTAP__ZONES) return dnstap__take_zone(w, p, place);
    if (p->kind == DNSTAP__BITS) return dnstap__take_bits(w, p, place, o);
    result = dnstap__take_named(w, p, &n);
    if (p->kind == DNSTAP__TYPES)
        o->types = (place ? o->types : 0) | 1u << n;
    else
        o->rcodes = (place ? o->rcodes : 0) | (uint64_t)1 << (n < 63 ? n : 63);
    return result;
}

/* The zones, `count` strings one after the other in memory, get their array behind them, before the
 * word that was read ahead. */
static int dnstap__keep_zones(dnstap__words *w, const char *zone, uint32_t count, dnstap_options *o)
{
    size_t align = sizeof(char *) - 1, need = (count + 1) * sizeof(char *);
    size_t skip = (size_t)(0 - (size_t)(w->memory + w->used)) & align;
    size_t word = w->unread ? w->length + 1 : 0;
    const char **array = (const char **)(void *)(w->memory + w->used + skip);
    uint32_t i;

    if (w->size - w->used < skip + need + word) return dnstap__no_room(w);
    memmove(w->memory + w->used + skip + need, w->memory + w->used, word);
    w->used += skip + need;
    if (word) w->word = w->memory + w->used;
    for (i = 0; i < count; i++, zone += strlen(zone) + 1) array[i] = zone;
    array[count] = NULL;
    o->zones = array;
    return DNSTAP_OK;
}

/* All words on the property's line. */
static int dnstap__take_list(dnstap__words *w, const dnstap__property *p, dnstap_options *o)
{
    int line = w->line, column = w->column, result;
    uint32_t n = 0;
    size_t from = w->used;
    bool two = p->kind == DNSTAP__FILES || p->kind == DNSTAP__BITS;

    while ((result = dnstap__argument(w)) > 0)
        if ((result = dnstap__take_item(w, p, n++, o)) < 0) return result;
    if (result < 0) return result;
    if (p->kind == DNSTAP__ZONES && n) return dnstap__keep_zones(w, w->memory + from, n, o);
    if (n >= (two ? 2u : 1u)) return DNSTAP_OK;
    w->line = line;
    w->column = column;
    return dnstap__object(w, DNSTAP__WRONG, "\"%s\" needs %s", p->name,
                          p->kind == DNSTAP__FILES  ? "two files on its line, CERT and KEY"
                          : p->kind == DNSTAP__BITS ? "two numbers on its line, V4BITS and V6BITS"
                                                    : "values on its line");
}

static int dnstap__read_value(dnstap__words *w, const dnstap__property *p, dnstap_options *o)
{
    void *field = (char *)o + p->at;
    int result;

    if (p->kind == DNSTAP__FLAG) {
        *(bool *)field = true;
        return DNSTAP_OK;
    }
    if (p->kind == DNSTAP__FILES || p->kind >= DNSTAP__TYPES) return dnstap__take_list(w, p, o);
    if ((result = dnstap__value(w, p)) < 0) return result;
    if (p->kind == DNSTAP__NUMBER)
        return dnstap__take_number(w, p->name, 1, p->most, (uint32_t *)field);
    if (p->kind == DNSTAP__MODE) return dnstap__take_mode(w, p, (uint32_t *)field);
    if (p->kind != DNSTAP__WORD) return dnstap__take_duration(w, p, (int *)field);
    *(const char **)field = dnstap__keep(w);
    return DNSTAP_OK;
}
#endif

/* ---- >>directive -------------------------------------------------------------------------- */

#if DNSTAP__HAS_DIRECTIVE
/* Words into options, and options into words. What CoreDNS does with endpoints is Go's net/url's
 * doing: what is refused there is refused here, lenient or not. */

/* How many letters must change, come or go to make one of the other (Levenshtein's distance), in
 * either case; b is one of our names. */
static size_t dnstap__distance(const char *a, const char *b)
{
    size_t row[32], n = strlen(b), i, j, diagonal, changed;

    for (j = 0; j <= n; j++) row[j] = j;
    for (i = 0; a[i]; i++) {
        diagonal = row[0]++;
        for (j = 0; j < n; j++) {
            changed = diagonal + (dnstap__lower(a[i]) != dnstap__lower(b[j]));
            diagonal = row[j + 1];
            row[j + 1] = dnstap__min(changed, dnstap__min(diagonal, row[j]) + 1);
        }
    }
    return row[n];
}

static bool dnstap__resembles(const char *word, const char *name)
{
    return strlen(word) < 32 && dnstap__distance(word, name) <= (strlen(name) + 2) / 4;
}

static int dnstap__unknown_property(dnstap__words *w)
{
    const dnstap__property *p = dnstap__properties;

    if (w->brace) return dnstap__object(w, DNSTAP__WRONG, "a block inside the block");
    for (; p < dnstap__properties + DNSTAP__PROPERTIES; p++) {
        if (w->how.lenient && !(p->needs & DNSTAP__COREDNS)) continue;
        if (dnstap__resembles(w->word, p->name))
            return dnstap__object(w, DNSTAP__WRONG, "unknown property \"%s\"; did you mean \"%s\"?",
                                  dnstap__show(w), p->name);
    }
    return dnstap__object(w, DNSTAP__WRONG, "unknown property \"%s\"; %s", dnstap__show(w),
                          w->before == w->line ? "a value with blanks needs quotes"
                          : w->how.lenient
                              ? "CoreDNS has identity, version, extra, skipverify and tls"
                              : "expected identity, version, extra, or another of dnstap.h's");
}

/* Why a property does not go with what the options have so far; NULL: it does. */
static const char *dnstap__misfit(unsigned needs, const dnstap_options *o)
{
    bool local = *o->endpoint == '/' || dnstap__behind(o->endpoint, "unix://") != NULL;

    if ((needs & DNSTAP__LISTENING) && !o->listen) return DNSTAP__TEXT("is for taps that listen");
    if ((needs & DNSTAP__DIALLING) && o->listen) return DNSTAP__TEXT("is for taps that connect");
    if ((needs & DNSTAP__SECURED) && !dnstap__behind(o->endpoint, "tls://"))
        return DNSTAP__TEXT("is for tls:// only");
    if ((needs & DNSTAP__ON_UNIX) && !local) return DNSTAP__TEXT("is for unix sockets only");
    return NULL;
}

/* The word is a property's name; what has no effect in CoreDNS is read, and forgotten. */
static int dnstap__read_property(dnstap__words *w, dnstap_options *o)
{
    const dnstap__property *p = dnstap__properties, *end = p + DNSTAP__PROPERTIES;
    dnstap_options forgotten;
    const char *misfit;
    bool swallowed;

    while (p < end && (w->brace || strcmp(w->word, p->name))) p++;
    if (p == end || (w->how.lenient && !(p->needs & DNSTAP__COREDNS)))
        return dnstap__unknown_property(w);
    if ((misfit = dnstap__misfit(p->needs, o)) != NULL) {
        swallowed = (p->needs & DNSTAP__COREDNS) &&
                    !dnstap__misfit(p->needs & ~(unsigned)DNSTAP__SECURED, o);
        if (dnstap__object(w, swallowed ? DNSTAP__ODD : DNSTAP__WRONG, "\"%s\" %s", p->name,
                           misfit) < 0)
            return DNSTAP_BAD_OPTION;
        o = &forgotten;
    } else if (w->seen >> (p - dnstap__properties) & 1) {
        dnstap__object(w, DNSTAP__WARNING, "\"%s\" is given twice; the last counts", p->name);
    }
    w->seen |= 1u << (p - dnstap__properties);
    w->ours = w->ours || !(p->needs & DNSTAP__COREDNS);
    return dnstap__read_value(w, p, o);
}

/* -- endpoints -- */

/* tcp:// or tls://: CoreDNS dials host and port and looks at nothing else. */
static int dnstap__network_endpoint(dnstap__words *w)
{
    dnstap__url u;
    char *to = w->word + 6;
    const char *from;
    int result;

    if (!dnstap__take_url_apart(&u, to))
        return dnstap__object(w, DNSTAP__WRONG,
                              "\"%s\" is no address; write tcp://HOST:PORT or tls://HOST:PORT",
                              dnstap__show(w));
    if (u.plain) return DNSTAP_OK;
    if ((result = dnstap__object(w, DNSTAP__ODD,
                                 "of \"%s\" only host and port are looked at; leave the rest out",
                                 dnstap__show(w))) < 0)
        return result;
    for (from = u.host; from < u.end; from++, to++) {
        *to = *from;
        if (*from != '%') continue;
        *to = (char)(dnstap__hex_digit(from[1]) << 4 | dnstap__hex_digit(from[2]));
        from += 2;
    }
    *to = '\0';
    w->length = (size_t)(to - w->word);
    return DNSTAP_OK;
}

/* All else is a path, which in options has a scheme, or begins with a slash. */
static int dnstap__path_endpoint(dnstap__words *w, const dnstap_options *o)
{
    const char *path = dnstap__behind(w->word, "unix://");
    bool bare = !path;
    int result = DNSTAP_OK;

    if (bare) path = w->word;
    if (bare && dnstap__behind(path, "file://") && !o->listen && !w->how.lenient) {
        w->ours = true;
        return DNSTAP_OK;
    }
    if (!*path)
        result = dnstap__object(w, DNSTAP__ODD, "the socket's path is empty");
    else if (bare && !strcmp(path, "full"))
        result = dnstap__object(w, DNSTAP__ODD,
                                "expected a socket, not \"full\"; one of that name is ./full");
    else if (bare && path[strcspn(path, ":/")] == ':')
        result = dnstap__object(w, DNSTAP__ODD,
                                "\"%s\" has none of the schemes tcp://, tls://, unix:// and is "
                                "taken for a path; if it is one, write unix://PATH",
                                dnstap__show(w));
    if (result < 0 || !bare || *path == '/') return result;
    return dnstap__splice(w, w->word, 0, "unix://", 7);
}

static int dnstap__take_endpoint(dnstap__words *w, dnstap_options *o)
{
    bool network = dnstap__behind(w->word, "tcp://") || dnstap__behind(w->word, "tls://");
    int result = network ? dnstap__network_endpoint(w) : dnstap__path_endpoint(w, o);

    if (result < 0) return result;
    o->endpoint = dnstap__keep(w);
    return DNSTAP_OK;
}

/* -- directives -- */

static int dnstap__take_full(dnstap__words *w, dnstap_options *o)
{
    o->full = !strcmp(w->word, "full");
    if (o->full) return DNSTAP_OK;
    return dnstap__object(w, DNSTAP__ODD, "expected \"full\" or nothing, not \"%s\"%s",
                          dnstap__show(w),
                          dnstap__is_alnum(*w->word) && dnstap__lower(*w->word) < 'a'
                              ? "; numbers stand behind full, or as queue N in the block"
                              : "");
}

/* The words behind dnstap, but for "listen", by their place. */
static int dnstap__take_argument(dnstap__words *w, int place, dnstap_options *o)
{
    uint32_t ignored;
    int result = DNSTAP_OK;

    if (place == 0) return dnstap__take_endpoint(w, o);
    if (place == 1) return dnstap__take_full(w, o);
    if (place == 2)
        result = dnstap__take_number(w, "writebuffer", 1, 1024,
                                     o->listen ? &ignored : &o->writebuffer);
    if (place == 3)
        result = dnstap__take_number(w, "queue", 1, 4096, o->listen ? &ignored : &o->queue);
    if (result < 0 || (place < 4 && !o->listen)) return result;
    return dnstap__object(w, DNSTAP__ODD, "\"%s\" is a word too many%s", dnstap__show(w),
                          place < 4 ? "; a tap that listens has queue N in its block" : "");
}

static int dnstap__read_arguments(dnstap__words *w, dnstap_options *o)
{
    int line = w->line, column = w->column, place = 0, result;

    while ((result = dnstap__argument(w)) > 0) {
        if (!place && !o->listen && !strcmp(w->word, "listen")) {
            o->listen = true;
            continue;
        }
        if ((result = dnstap__take_argument(w, place++, o)) < 0) return result;
    }
    if (result < 0 || place) return result;
    w->line = line;
    w->column = column;
    return dnstap__object(w, DNSTAP__WRONG, "expected a socket on this line%s",
                          o->listen ? ", behind listen" : "");
}

static int dnstap__read_block(dnstap__words *w, dnstap_options *o)
{
    int result = dnstap__same_line(w);

    if (result <= 0) return result;
    /* all but a brace was an argument */
    while ((result = dnstap__next(w)) > 0 && w->brace != '}')
        if ((result = dnstap__read_property(w, o)) < 0) break;
    return result;
}

static int dnstap__read_tap(dnstap__words *w, dnstap_options *o)
{
    int result = DNSTAP_OK;

    memset(o, 0, sizeof *o);
    if (w->how.defaults) *o = *w->how.defaults;
    if (!o->writebuffer) o->writebuffer = 1;
    if (!o->queue) o->queue = 1;
    o->line = (uint32_t)w->line;
    w->seen = 0;
    w->ours = false;
    if (w->brace)
        result = dnstap__object(w, DNSTAP__ODD, "\"{\" must stand on the directive's line");
    else if (!w->starts)
        result = dnstap__object(w, DNSTAP__ODD,
                                "\"%s\" behind a block begins another dnstap to CoreDNS; begin a "
                                "new line",
                                dnstap__show(w));
    if (result < 0 || (result = dnstap__read_arguments(w, o)) < 0) return result;
    result = dnstap__read_block(w, o);
    o->coredns = !w->ours;
    return result;
}

DNSTAP_API int dnstap_parse(const char *text, void *memory, size_t size, dnstap_options *options,
                            int max, const dnstap_parse_options *how, dnstap_error *error)
{
    dnstap__words w;
    int count = 0, result;

    memset(&w, 0, sizeof w);
    if (how) w.how = *how;
    w.text = text;
    w.at = dnstap__behind(text, "\xef\xbb\xbf") ? text + 3 : text; /* a byte order mark */
    w.at_line = w.at_column = 1;
    w.memory = (char *)memory;
    w.size = memory ? size : 0;
    while ((result = dnstap__next(&w)) > 0) {
        if (count >= max)
            result = dnstap__object(&w, DNSTAP__WRONG, "more than %d taps; there is no room", max);
        else
            result = dnstap__read_tap(&w, &options[count++]);
        if (result < 0) break;
    }
    if (error) *error = w.error;
    return result < 0 ? result : count;
}

/* -- and back -- */

/* Whether something in s would be replaced; the same question as in dnstap__replace. */
static bool dnstap__names_variable(const char *s, const char *open, const char *close)
{
    const char *at = strstr(s, open), *end = at ? strstr(at, close) : NULL;

    return end && end > at + 2;
}

/* In quotes a backslash takes the next character along: an odd one can't stand at the end, nor
 * before a quote. */
static bool dnstap__can_be_quoted(const char *s)
{
    for (; *s; s++)
        if (*s == '\\' && (s[1] == '"' || !*++s)) return false;
    return true;
}

static bool dnstap__can_be_plain(const char *s)
{
    uint32_t c;
    unsigned n;

    if (!*s || *s == '"' || !strcmp(s, "{") || !strcmp(s, "}")) return false;
    for (; *s; s += n ? n : 1) {
        n = dnstap__character(s, &c);
        if (c == '#' || dnstap__is_blank(c)) return false;
    }
    return true;
}

static void dnstap__write_word(dnstap__page *p, const char *s)
{
    bool plain = dnstap__can_be_plain(s);

    dnstap__write(p, " ", 1);
    if (dnstap__names_variable(s, "{%", "%}") || dnstap__names_variable(s, "{$", "}") ||
        !(plain || dnstap__can_be_quoted(s))) {
        p->bad = true;
        return;
    }
    if (!plain) dnstap__write(p, "\"", 1);
    for (; *s; s++) {
        if (!plain && *s == '"') dnstap__write(p, "\\", 1);
        dnstap__write(p, s, 1);
        if (!plain && *s == '\\') dnstap__write(p, ++s, 1);
    }
    if (!plain) dnstap__write(p, "\"", 1);
}

/* A number as the property's word; the default has none. */
static const char *dnstap__number_word(const dnstap__property *p, long n, char *out, size_t size)
{
    unsigned long v = (unsigned long)n;

    if (p->kind == DNSTAP__MODE)
        dnstap__print(out, size, "0%lu%lu%lu", v >> 6, v >> 3 & 7, v & 7);
    else if (p->kind == DNSTAP__NUMBER)
        dnstap__print(out, size, "%lu", v);
    else if (n < 0)
        dnstap__print(out, size, "now");
    else
        dnstap__print(out, size, "%lums", v);
    return n ? out : NULL;
}

/* The words of a property, as far as the options have it; true: they have. */
static bool dnstap__words_of(const dnstap__property *p, const dnstap_options *o, const char **words,
                             char *number, size_t size)
{
    const void *field = (const char *)o + p->at;

    switch (p->kind) {
    case DNSTAP__FLAG:
        return *(const bool *)field;
    case DNSTAP__WORD:
        words[0] = *(const char *const *)field;
        break;
    case DNSTAP__FILES:
        words[0] = o->cert_file;
        words[1] = o->key_file;
        if (p->needs & DNSTAP__LISTENING) words[2] = o->ca_file;
        break;
    case DNSTAP__NUMBER:
    case DNSTAP__MODE:
        words[0] = dnstap__number_word(p, (long)*(const uint32_t *)field, number, size);
        break;
    case DNSTAP__TYPES:
        return o->types != 0;
    case DNSTAP__RCODES:
        return o->rcodes != 0;
    case DNSTAP__ZONES:
        return o->zones && *o->zones;
    case DNSTAP__BITS:
        return o->anonymize_v4 || o->anonymize_v6;
    default:
        words[0] = dnstap__number_word(p, *(const int *)field, number, size);
    }
    return words[0] != NULL;
}

static void dnstap__write_list_number(dnstap__page *page, const char *name, uint32_t n)
{
    char digits[16];

    dnstap__print(digits, sizeof digits, "%u", (unsigned)n);
    dnstap__write_word(page, name ? name : digits);
}

static void dnstap__write_zones(dnstap__page *page, const char *const *zones)
{
    uint8_t name[DNSTAP__NAME_MAX];
    size_t size, i;

    for (i = 0; zones[i]; i++) {
        page->bad = page->bad || i >= DNSTAP_ZONES_MAX || dnstap__read_name(zones[i], name, &size);
        dnstap__write_word(page, zones[i]);
    }
}

/* What a property has besides words of its own. */
static void dnstap__write_list(dnstap__page *page, const dnstap__property *p,
                               const dnstap_options *o)
{
    uint64_t set = p->kind == DNSTAP__TYPES ? o->types : o->rcodes;
    uint32_t n;

    if (p->kind == DNSTAP__ZONES) dnstap__write_zones(page, o->zones);
    if (p->kind == DNSTAP__BITS) {
        dnstap__write_list_number(page, NULL, dnstap__bits_kept(o->anonymize_v4, 32));
        dnstap__write_list_number(page, NULL, dnstap__bits_kept(o->anonymize_v6, 128));
    }
    for (n = 0; n < 64 && (p->kind == DNSTAP__TYPES || p->kind == DNSTAP__RCODES); n++)
        if (set >> n & 1) dnstap__write_list_number(page, dnstap__list_name(p, n, false), n);
}

/* Whether the property says what another has said already. */
static bool dnstap__is_said(const dnstap__property *p, const dnstap_options *o)
{
    const uint32_t *number = (const uint32_t *)(const void *)((const char *)o + p->at);
    bool certificate = p->kind == DNSTAP__FILES || p->at == offsetof(dnstap_options, ca_file);

    if (p->needs & DNSTAP__BESIDE_FULL) return *number == 1 || (o->full && !o->listen);
    if (!certificate || (o->listen && !o->cert_file)) return false;
    return o->listen != ((p->needs & DNSTAP__LISTENING) != 0);
}

static void dnstap__write_property(dnstap__page *page, const dnstap__property *p,
                                   const dnstap_options *o)
{
    const char *words[] = {NULL, NULL, NULL};
    char number[24];
    int i;

    if (dnstap__is_said(p, o) || !dnstap__words_of(p, o, words, number, sizeof number)) return;
    page->bad = page->bad || dnstap__misfit(p->needs, o);
    dnstap__write_string(page, page->block ? "    " : " {\n    ");
    page->block = true;
    dnstap__write_string(page, p->name);
    for (i = 0; i < 3 && words[i]; i++) dnstap__write_word(page, words[i]);
    dnstap__write_list(page, p, o);
    dnstap__write_string(page, "\n");
}

/* Strict reading takes the endpoint, and as it is. */
static bool dnstap__is_spelt_out(const dnstap_options *o)
{
    const char *rest = dnstap__behind(o->endpoint, "tcp://");
    dnstap__url u;

    if (!rest) rest = dnstap__behind(o->endpoint, "tls://");
    if (rest) return dnstap__take_url_apart(&u, rest) && u.plain;
    if (dnstap__behind(o->endpoint, "file://")) return !o->listen;
    rest = dnstap__behind(o->endpoint, "unix://");
    return rest ? *rest : *o->endpoint == '/';
}

DNSTAP_API long dnstap_format(const dnstap_options *o, char *out, size_t size)
{
    char numbers[32] = "";
    dnstap__page page;
    size_t i;

    if (!o->endpoint || !dnstap__is_spelt_out(o) || o->writebuffer > 1024 || o->queue > 4096 ||
        o->flush_ms < DNSTAP_FLUSH_NOW || o->timeout_ms < 0 || o->max_sinks > 1024 ||
        o->socket_mode > 0777 || !o->cert_file != !o->key_file || !dnstap__are_bits(o))
        return DNSTAP_BAD_OPTION;
    memset(&page, 0, sizeof page);
    page.out = out;
    page.size = size;
    dnstap__write_string(&page, o->listen ? "dnstap listen" : "dnstap");
    dnstap__write_word(&page, o->endpoint);
    if (o->full) dnstap__write_string(&page, " full");
    if (o->full && !o->listen && (o->writebuffer > 1 || o->queue > 1))
        dnstap__print(numbers, sizeof numbers, " %u %u",
                      (unsigned)(o->writebuffer ? o->writebuffer : 1),
                      (unsigned)(o->queue ? o->queue : 1));
    dnstap__write_string(&page, numbers);
    for (i = 0; i < DNSTAP__PROPERTIES; i++)
        dnstap__write_property(&page, &dnstap__properties[i], o);
    dnstap__write_string(&page, page.block ? "}\n" : "\n");
    if (page.bad) return DNSTAP_BAD_OPTION;
    if (out && page.used >= size) return DNSTAP_NO_MEMORY;
    if (out) out[page.used] = '\0';
    return (long)page.used;
}
#endif

/* ---- >>group ------------------------------------------------------------------------------ */

/* Taps that are logged to together, and replaced while threads log. In: options or text; out: a
 * roster of taps that producers read, and members that come and go:
 *
 *   a producer, any thread                  who reloads, one thread at a time
 *   ──────────────────────                  ─────────────────────────────────
 *   inside: odd                             the newcomers open: COMING
 *   roster: load                            the roster is exchanged: they are STAYING
 *   each tap of it: its own ring            now, others LEAVING
 *   inside: even                            barrier: stores before it are seen, loads after it see
 *                                           who is odd is waited for until it has changed
 *
 * Then nobody is in the taps that leave, and they are CLOSING: they drain, say STOP, and give their
 * place and memory back, by the service's turns. Two rosters suffice, for the next exchange waits
 * for the end of the one before. Where the system has no barrier, the time in which stores become
 * visible does, see >>wake.
 *
 * Locks, in this order: `reloading` is held by a reload from end to end; `turn` by who services,
 * and when members change; `list` while the roster changes or is read by others than producers, who
 * take none of them. Always: a producer waits for nobody; a member's options are as the caller gave
 * them, texts and blocks copied. */
enum { DNSTAP__PLACES = 3 * DNSTAP_GROUP_MAX, DNSTAP__PATIENCE_MS = 1000, DNSTAP__SLICE_MS = 10 };

/* What producers read: the taps, and for those with a template its text. */
typedef struct dnstap__roster {
    uint32_t count;
    dnstap_tap *taps[DNSTAP_GROUP_MAX];
    const char *texts[DNSTAP_GROUP_MAX];
    uint8_t places[DNSTAP_GROUP_MAX]; /* of the members: not the producers' */
} dnstap__roster;

/* A thread that logs, with a ring of this number in each tap. */
typedef struct dnstap__visitor {
    size_t inside; /* odd: it is in the taps; of strays: so many went in */
    size_t owner;  /* a thread has it; of strays: so many came out */
    size_t seen;   /* the service's own: odd: it is waited for until `inside` is another */
    uint32_t number;
    uint8_t pad[DNSTAP_CACHE_LINE];
} dnstap__visitor;

#define DNSTAP__STRAY UINT32_MAX /* the number of those that have no rings */

/* Memory of the group's. */
typedef struct dnstap__lot {
    dnstap__block block;
    size_t size; /* 0: none */
} dnstap__lot;

typedef enum dnstap__stay {
    DNSTAP__VACANT,
    DNSTAP__COMING,
    DNSTAP__STAYING,
    DNSTAP__LEAVING,
    DNSTAP__CLOSING
} dnstap__stay;

typedef struct dnstap__member {
    dnstap__stay stay;
    dnstap_tap *tap;       /* NULL: not open yet */
    dnstap_options *given; /* its options, as they were given */
    dnstap__lot lot;       /* of all that */
    size_t serial;         /* later ones have larger numbers */
    unsigned ordinal;      /* of those with the same endpoint, from 1 */
    bool late;             /* it came when another one was at its place */
    int first, polled;     /* its descriptors in the last poll */
} dnstap__member;

typedef struct dnstap__grace {
    size_t round;       /* its lowest bit says which strays to wait for */
    bool pending;       /* threads may be in the roster before */
    bool settled;       /* all they stored before the exchange is seen; else by: */
    uint64_t settle_at; /* the system's clock */
} dnstap__grace;

struct dnstap_group {
    size_t roster; /* a pointer to what producers read */
    size_t round;  /* as the grace's */
    size_t top;    /* places that may be in use, in: */
    size_t wants[DNSTAP__PLACES];
    dnstap__visitor *visitors, strays[2];
    uint32_t visitor_count;
    dnstap__key key;
    size_t stop; /* the thread's end is asked for */
    size_t off;  /* dnstap_group_set_enabled */
    dnstap__roster rosters[2];
    dnstap__member members[DNSTAP__PLACES];
    dnstap__grace grace;
    size_t serial;
    size_t opener, owner; /* processes, as a tap's */
    bool unsent;          /* a member closed before it had sent all */
    dnstap__mutex reloading, turn, list;
    dnstap__waker waker;
    dnstap__thread thread;
    dnstap__lot poll, next_poll; /* descriptors for our own waits; larger ones for the next */
    uint8_t *memory;             /* the caller's, or NULL: each piece is allocated */
    size_t memory_size, floor;   /* floor: what the group takes of it */
    dnstap__block block;         /* of the group itself */
#if DNSTAP__HAS_METRICS
    dnstap__figures figures[DNSTAP_GROUP_MAX]; /* for metrics, under `list`: too much for a stack */
#endif
};

/* -- producers -- */

DNSTAP__INLINE const dnstap__roster *dnstap__roster_of(const dnstap_group *g)
{
    size_t roster = DNSTAP_LOAD_ACQUIRE(&g->roster);

    return (const dnstap__roster *)roster;
}

#if DNSTAP__HAS_THREADS
/* A thread that ends, wherever it is, leaves its number to the next one. */
static void dnstap__visitor_left(void *visitor)
{
    dnstap__visitor *v = (dnstap__visitor *)visitor;

    if (v->number == DNSTAP__STRAY) {
        dnstap__add_shared(&v->owner);
        return;
    }
    DNSTAP_STORE_RELEASE(&v->inside, v->inside + (v->inside & 1));
    DNSTAP_STORE_RELEASE(&v->owner, 0);
}

/* A number's next thread may come after one that was ended inside. The reload's barrier makes the
 * order of the two what it is here. */
DNSTAP__INLINE const dnstap__roster *dnstap__go_in(const dnstap_group *g, dnstap__visitor *v)
{
    DNSTAP_STORE(&v->inside, (v->inside + 1) | 1);
    DNSTAP_COMPILER_FENCE();
    return dnstap__roster_of(g);
}

DNSTAP__INLINE void dnstap__come_out(dnstap__visitor *v)
{
    DNSTAP_STORE_RELEASE(&v->inside, v->inside + 1);
}

DNSTAP__INLINE dnstap__visitor *dnstap__visitor_of(const dnstap_group *g)
{
    return (dnstap__visitor *)pthread_getspecific(g->key);
}
#else
static void dnstap__visitor_left(void *visitor) { (void)visitor; }
DNSTAP__INLINE const dnstap__roster *dnstap__go_in(const dnstap_group *g, dnstap__visitor *v)
{
    (void)v;
    return dnstap__roster_of(g);
}
DNSTAP__INLINE void dnstap__come_out(dnstap__visitor *v) { (void)v; }
DNSTAP__INLINE dnstap__visitor *dnstap__visitor_of(const dnstap_group *g) { return g->visitors; }
#endif

/* One tap that recorded it is what counts, else the first that dropped it. */
DNSTAP__INLINE int dnstap__log_to(const dnstap__roster *roster, uint32_t number,
                                  const dnstap_message *m)
{
    int result = 0, one;
    uint32_t i;

    for (i = 0; i < roster->count; i++) {
        one = dnstap_log_as(roster->taps[i], number, m);
        if (one == 1 || !result) result = one;
    }
    return result;
}

/* The same with templates as they stand. */
DNSTAP__APART int dnstap__log_texts(const dnstap__roster *roster, uint32_t number,
                                    const dnstap_message *m)
{
    dnstap_message raw = *m;
    int result = 0, one;
    uint32_t i;

    for (i = 0; i < roster->count; i++) {
        if (!m->extra.data) raw.extra = dnstap_bytes_of(roster->texts[i], 0);
        if (!m->extra.data && raw.extra.data) raw.extra.size = strlen(roster->texts[i]);
        one = dnstap_log_as(roster->taps[i], number, &raw);
        if (one == 1 || !result) result = one;
    }
    return result;
}

#if DNSTAP__HAS_THREADS
/* Of a thread without a number. Those that come in after the exchange count elsewhere, so that the
 * count of those before comes to its end. The key tells of a thread that ends meanwhile. */
DNSTAP__COLD int dnstap__log_stray(dnstap_group *g, const dnstap_message *m, bool raw)
{
    dnstap__visitor *v = NULL;
    const dnstap__roster *roster;
    size_t round;
    int result;

    do {
        if (v) dnstap__add_shared(&v->owner);
        round = DNSTAP_LOAD_ACQUIRE(&g->round);
        v = &g->strays[round & 1];
        dnstap__add_shared(&v->inside);
        DNSTAP_COMPILER_FENCE();
    } while (DNSTAP_LOAD_ACQUIRE(&g->round) != round);
    pthread_setspecific(g->key, v);
    roster = dnstap__roster_of(g);
    result = (raw ? dnstap__log_texts : dnstap__log_to)(roster, DNSTAP__STRAY, m);
    pthread_setspecific(g->key, NULL);
    dnstap__add_shared(&v->owner);
    return result;
}

/* Whether what was logged without a number has left all rings: only then a thread may get one,
 * which keeps its order. */
static bool dnstap__may_have_number(const dnstap__roster *roster)
{
    const dnstap__ring *shared;
    uint32_t i;

    for (i = 0; i < roster->count; i++) {
        shared = &roster->taps[i]->rings[roster->taps[i]->producers];
        if (DNSTAP_LOAD_ACQUIRE(&shared->tail) != DNSTAP_LOAD_ACQUIRE(&shared->published))
            return false;
    }
    return true;
}

/* A number for a thread that has none; NULL: there is none for it. */
DNSTAP__COLD dnstap__visitor *dnstap__admit(dnstap_group *g)
{
    dnstap__visitor *v;
    size_t nobody;
    bool may;

    for (v = g->visitors; v < g->visitors + g->visitor_count; v++) {
        nobody = 0;
        if (DNSTAP_LOAD(&v->owner)) continue;
        if (!DNSTAP_COMPARE_EXCHANGE(&v->owner, &nobody, 1)) continue;
        may = dnstap__may_have_number(dnstap__go_in(g, v));
        dnstap__come_out(v);
        if (may && !pthread_setspecific(g->key, v)) return v;
        dnstap__visitor_left(v);
        break;
    }
    return NULL;
}
#else
static int dnstap__log_stray(const dnstap_group *g, const dnstap_message *m, bool raw)
{
    return (raw ? dnstap__log_texts : dnstap__log_to)(dnstap__roster_of(g), DNSTAP__STRAY, m);
}
static dnstap__visitor *dnstap__admit(const dnstap_group *g) { return g->visitors; }
#endif

DNSTAP__INLINE int dnstap__log_inside(const dnstap_group *g, dnstap__visitor *v,
                                      const dnstap_message *m)
{
    int result = dnstap__log_to(dnstap__go_in(g, v), v->number, m);

    dnstap__come_out(v);
    return result;
}

DNSTAP__COLD int dnstap__log_newcomer(dnstap_group *g, const dnstap_message *m)
{
    dnstap__visitor *v = dnstap__admit(g);

    return v ? dnstap__log_inside(g, v, m) : dnstap__log_stray(g, m, false);
}

DNSTAP_API int dnstap_group_log(dnstap_group *g, const dnstap_message *m)
{
    dnstap__visitor *v;

    if (DNSTAP__UNLIKELY(!g)) return 0;
    v = dnstap__visitor_of(g);
    return DNSTAP__LIKELY(v != NULL) ? dnstap__log_inside(g, v, m) : dnstap__log_newcomer(g, m);
}

DNSTAP_API int dnstap_group_log_raw(dnstap_group *g, const dnstap_message *m)
{
    dnstap__visitor *v = g ? dnstap__visitor_of(g) : NULL;
    int result;

    if (!g) return 0;
    if (!v) v = dnstap__admit(g);
    if (!v) return dnstap__log_stray(g, m, true);
    result = dnstap__log_texts(dnstap__go_in(g, v), v->number, m);
    dnstap__come_out(v);
    return result;
}

DNSTAP_API int dnstap_group_log_as(dnstap_group *g, uint32_t producer, const dnstap_message *m)
{
    if (DNSTAP__UNLIKELY(!g)) return 0;
    if (DNSTAP__UNLIKELY(producer >= g->visitor_count)) return dnstap__log_stray(g, m, false);
    return dnstap__log_inside(g, &g->visitors[producer], m);
}

DNSTAP_API bool dnstap_group_wants(const dnstap_group *g, uint32_t type)
{
    size_t i, wants = 0;

    for (i = 0; g && i < DNSTAP_LOAD(&g->top); i++) wants |= DNSTAP_LOAD(&g->wants[i]);
    return dnstap__wanted(wants, type);
}

/* -- who may still be inside -- */

#if DNSTAP__HAS_THREADS
/* Whom to wait for: all that is stored in the rosters' users before is seen by now. */
static void dnstap__look_inside(dnstap_group *g)
{
    dnstap__visitor *v;

    g->grace.settled = true;
    for (v = g->visitors; v < g->visitors + g->visitor_count; v++)
        v->seen = DNSTAP_LOAD_ACQUIRE(&v->inside);
}

/* Strays that came out are counted first: they never overtake those that went in. */
static bool dnstap__all_came_out(dnstap_group *g)
{
    const dnstap__visitor *strays = &g->strays[g->grace.round & 1];
    size_t out = DNSTAP_LOAD_ACQUIRE(&strays->owner);
    dnstap__visitor *v;

    for (v = g->visitors; v < g->visitors + g->visitor_count; v++) {
        if ((v->seen & 1) && DNSTAP_LOAD_ACQUIRE(&v->inside) == v->seen) return false;
        v->seen = 0;
    }
    return DNSTAP_LOAD_ACQUIRE(&strays->inside) == out;
}
#else
static void dnstap__look_inside(dnstap_group *g) { g->grace.settled = true; }
static bool dnstap__all_came_out(const dnstap_group *g) { return g->grace.settled; }
#endif

/* The roster was exchanged. */
static void dnstap__begin_grace(dnstap_group *g)
{
    g->grace.round = g->round;
    DNSTAP_STORE_RELEASE(&g->round, g->round + 1);
    g->grace.pending = true;
    g->grace.settled = false;
    if (dnstap__barrier())
        dnstap__look_inside(g);
    else
        g->grace.settle_at = dnstap__clock_ms(NULL) + DNSTAP__LOOK_MS;
}

/* Whether nobody is in a roster but the one that is there. */
static bool dnstap__grace_is_over(dnstap_group *g)
{
    if (!g->grace.pending) return true;
    if (!g->grace.settled && dnstap__clock_ms(NULL) < g->grace.settle_at) return false;
    if (!g->grace.settled) dnstap__look_inside(g);
    g->grace.pending = !dnstap__all_came_out(g);
    return !g->grace.pending;
}

/* ---- >>members ------------------------------------------------------------------------------ */

/* Who is in a group: their memory, their options, their coming and going. In: options; out: members
 * with a tap each. Always: options are kept as the caller gave them, texts and blocks copied, so
 * that those of a reload can be compared with them; a place is vacant, or its memory is its own. */
/* Where a lot may begin in the caller's memory: behind the group, or behind another lot. */
static size_t dnstap__end_of_lot(const dnstap_group *g, const dnstap__lot *p)
{
    size_t end = p->size ? (size_t)((uint8_t *)p->block.data - g->memory) + p->size : g->floor;

    return (end + DNSTAP__ALIGN - 1) & ~(size_t)(DNSTAP__ALIGN - 1);
}

/* All lots there may be; NULL behind the last. */
static const dnstap__lot *dnstap__lot_at(const dnstap_group *g, size_t i)
{
    if (i < DNSTAP__PLACES) return &g->members[i].lot;
    return i == DNSTAP__PLACES ? &g->poll : i == DNSTAP__PLACES + 1 ? &g->next_poll : NULL;
}

static bool dnstap__is_free(const dnstap_group *g, size_t at, size_t size)
{
    const dnstap__lot *p;
    size_t i;

    if (at > g->memory_size || size > g->memory_size - at) return false;
    for (i = 0; (p = dnstap__lot_at(g, i)) != NULL; i++)
        if (p->size && at < dnstap__end_of_lot(g, p) &&
            at + size > (size_t)((uint8_t *)p->block.data - g->memory))
            return false;
    return true;
}

/* The first place in the caller's memory that is large enough; SIZE_MAX: there is none. */
static size_t dnstap__first_fit(const dnstap_group *g, size_t size)
{
    const dnstap__lot *p;
    size_t i, at, best = SIZE_MAX;

    for (i = 0; (p = dnstap__lot_at(g, i)) != NULL; i++) {
        at = dnstap__end_of_lot(g, p);
        if (at < best && dnstap__is_free(g, at, size)) best = at;
    }
    return best;
}

#if DNSTAP__HAS_MALLOC
static void dnstap__allocate(dnstap__block *b, size_t size) { dnstap__block_open(b, size); }
#else
static void dnstap__allocate(dnstap__block *b, size_t size) { b->data = size ? NULL : b->data; }
#endif

static int dnstap__open_lot(const dnstap_group *g, dnstap__lot *p, size_t size, dnstap_error *error)
{
    size_t at = SIZE_MAX;

    memset(p, 0, sizeof *p);
    if (g->memory)
        at = dnstap__first_fit(g, size);
    else
        dnstap__allocate(&p->block, size);
    if (at != SIZE_MAX) p->block.data = g->memory + at;
    if (!p->block.data)
        return dnstap__fail(error, DNSTAP_NO_MEMORY, 0, "no %lu bytes of memory%s",
                            (unsigned long)size,
                            g->memory ? "; give the group more" : "; lower queue or producers");
    p->size = size;
    return DNSTAP_OK;
}

static void dnstap__close_lot(const dnstap_group *g, dnstap__lot *p)
{
    if (!g->memory) dnstap__block_close(&p->block);
    memset(p, 0, sizeof *p);
}

/* -- options as they were given -- */

static const size_t dnstap__texts_given[] = {
    offsetof(dnstap_options, endpoint),    offsetof(dnstap_options, identity),
    offsetof(dnstap_options, version),     offsetof(dnstap_options, extra),
    offsetof(dnstap_options, ca_file),     offsetof(dnstap_options, cert_file),
    offsetof(dnstap_options, key_file),    offsetof(dnstap_options, server_name),
    offsetof(dnstap_options, socket_group)};
static const size_t dnstap__blocks_given[] = {
    offsetof(dnstap_options, ca), offsetof(dnstap_options, cert), offsetof(dnstap_options, key)};
enum {
    DNSTAP__TEXTS_GIVEN = sizeof dnstap__texts_given / sizeof(size_t),
    DNSTAP__BLOCKS_GIVEN = sizeof dnstap__blocks_given / sizeof(size_t)
};

static const char **dnstap__text_given(dnstap_options *o, size_t i)
{
    return (const char **)(void *)((char *)o + dnstap__texts_given[i]);
}

static dnstap_bytes *dnstap__block_given(dnstap_options *o, size_t i)
{
    return (dnstap_bytes *)(void *)((char *)o + dnstap__blocks_given[i]);
}

/* The list of zones, whose last is NULL. */
static const char *const *dnstap__take_zones(dnstap__arena *a, const char *const *zones)
{
    size_t count = 0, i;
    const char **copy;

    while (zones && zones[count]) count++;
    copy = (const char **)(zones ? dnstap__take(a, (count + 1) * sizeof *copy, sizeof *copy)
                                 : NULL);
    for (i = 0; zones && i <= count; i++) {
        const char *zone = dnstap__take_string(a, zones[i]);

        if (copy) copy[i] = zone;
    }
    return copy;
}

/* A copy, with all that it points to. */
static dnstap_options *dnstap__take_given(dnstap__arena *a, const dnstap_options *options)
{
    dnstap_options copy = *options;
    void *given = dnstap__take(a, sizeof copy, sizeof(uint64_t)), *transport;
    size_t i;

    for (i = 0; i < DNSTAP__TEXTS_GIVEN; i++)
        *dnstap__text_given(&copy, i) = dnstap__take_string(a, *dnstap__text_given(&copy, i));
    for (i = 0; i < DNSTAP__BLOCKS_GIVEN; i++)
        *dnstap__block_given(&copy, i) = dnstap__take_bytes(a, *dnstap__block_given(&copy, i));
    copy.zones = dnstap__take_zones(a, copy.zones);
    transport = copy.transport ? dnstap__take(a, sizeof *copy.transport, sizeof(uint64_t)) : NULL;
    if (transport) memcpy(transport, copy.transport, sizeof *copy.transport);
    copy.transport = (const dnstap_transport *)transport;
    if (given) memcpy(given, &copy, sizeof copy);
    return (dnstap_options *)given;
}

static bool dnstap__same_text(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

static bool dnstap__same_transport(const dnstap_transport *a, const dnstap_transport *b)
{
    return a && b ? memcmp(a, b, sizeof *a) == 0 : a == b;
}

static bool dnstap__same_zones(const char *const *a, const char *const *b)
{
    size_t i = 0;

    if (!a || !b) return a == b;
    while (a[i] && dnstap__same_text(a[i], b[i])) i++;
    return !a[i] && !b[i];
}

static bool dnstap__same_bytes(const dnstap_bytes *a, const dnstap_bytes *b)
{
    if (!a->data || !b->data) return a->data == b->data;
    return a->size == b->size && !(a->size && memcmp(a->data, b->data, a->size));
}

/* Whether nothing differs but where in a text they stand: first what is pointed to, then the rest
 * as bytes. */
static bool dnstap__same_options(const dnstap_options *a, const dnstap_options *b)
{
    dnstap_options x, y;
    bool same = dnstap__same_transport(a->transport, b->transport) &&
                dnstap__same_zones(a->zones, b->zones);
    size_t i;

    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    for (i = 0; i < DNSTAP__TEXTS_GIVEN; i++) {
        same = same && dnstap__same_text(*dnstap__text_given(&x, i), *dnstap__text_given(&y, i));
        *dnstap__text_given(&x, i) = *dnstap__text_given(&y, i) = NULL;
    }
    for (i = 0; i < DNSTAP__BLOCKS_GIVEN; i++) {
        same = same && dnstap__same_bytes(dnstap__block_given(&x, i), dnstap__block_given(&y, i));
        memset(dnstap__block_given(&x, i), 0, sizeof(dnstap_bytes));
        memset(dnstap__block_given(&y, i), 0, sizeof(dnstap_bytes));
    }
    x.transport = y.transport = NULL;
    x.zones = y.zones = NULL;
    x.line = y.line = 0;
    x.coredns = y.coredns = false;
    return same && !memcmp(&x, &y, sizeof x);
}

/* Whether only one of them can be at work: they listen at the same place, write the same file, or
 * have the same transport. */
static bool dnstap__same_place(const dnstap_options *a, const dnstap_options *b)
{
    char host[DNSTAP__HOST_SIZE], other_host[DNSTAP__HOST_SIZE];
    dnstap__target t, other;

    if (a->transport || b->transport)
        return a->transport && dnstap__same_transport(a->transport, b->transport);
    if (a->listen != b->listen || dnstap__find_target(&t, host, a, NULL) < 0 ||
        dnstap__find_target(&other, other_host, b, NULL) < 0)
        return false;
    if (!a->listen && !(dnstap__is(&t, DNSTAP__REOPENS) && dnstap__is(&other, DNSTAP__REOPENS)))
        return false;
    if (t.path || other.path) return dnstap__same_text(t.path, other.path);
    return t.port == other.port && !strcmp(host, other_host);
}

/* -- members -- */

/* Whether there is an older one at its place that has come at least so far. */
static bool dnstap__has_elder(const dnstap_group *g, const dnstap__member *m, dnstap__stay stay)
{
    const dnstap__member *other;

    if (m->given->listen) return false;
    for (other = g->members; other < g->members + DNSTAP__PLACES; other++)
        if (other->stay >= stay && other->serial < m->serial &&
            dnstap__same_place(m->given, other->given))
            return true;
    return false;
}

/* Whether an older one has to end before it may begin. */
static bool dnstap__is_held_up(const dnstap_group *g, const dnstap__member *m)
{
    return dnstap__has_elder(g, m, DNSTAP__LEAVING);
}

static bool dnstap__is_serviced(const dnstap_group *g, const dnstap__member *m)
{
    return m->stay >= DNSTAP__STAYING && !dnstap__is_held_up(g, m);
}

/* Closes what is open of it, and gives its place and memory back. What it could not send is
 * discarded, and dnstap_close tells so. */
static void dnstap__dismiss(dnstap_group *g, dnstap__member *m)
{
    if (dnstap_close(m->tap, 0) != DNSTAP_OK) g->unsent = true;
    if (m->given) dnstap__wipe((void *)(uintptr_t)m->given->key.data, m->given->key.size);
    dnstap__close_lot(g, &m->lot);
    memset(m, 0, sizeof *m);
}

/* Whether producers see it is told by its tap, see dnstap__decide_wants. */
static void dnstap__tell_wants(dnstap_tap *tap, size_t *wants)
{
    dnstap__mutex_lock(&tap->lock);
    tap->told = wants;
    dnstap__decide_wants(tap);
    dnstap__mutex_unlock(&tap->lock);
}

/* What is under way goes on: who can't have visitors any more begins to close, and who has closed
 * gives way. In a process that does not own the group nothing is sent. */
static void dnstap__progress(dnstap_group *g)
{
    bool over = dnstap__grace_is_over(g);
    dnstap__member *m;

    for (m = g->members; m < g->members + DNSTAP__PLACES; m++) {
        if (m->stay == DNSTAP__LEAVING && over) {
            m->stay = DNSTAP__CLOSING;
            dnstap__begin_close(m->tap, m->tap->options.timeout_ms);
        }
        if (m->stay == DNSTAP__CLOSING &&
            (g->owner != dnstap__process() || (!dnstap__is_held_up(g, m) && dnstap__over(m->tap))))
            dnstap__dismiss(g, m);
    }
}

/* ---- >>reload ------------------------------------------------------------------------------- */

/* From the taps there are to those that are wanted. In: options; out: a new roster, and members
 * that leave. Always: nothing is touched before all that can be checked was, and nothing of what is
 * there changes before all that comes is open; who services waits for no file, and for no name but
 * one to listen on. */
/* From what there is to what is wanted. */
typedef struct dnstap__change {
    const dnstap_options *options;
    int count;
    dnstap__member *members[DNSTAP_GROUP_MAX]; /* that stays for it, or comes */
} dnstap__change;

static bool dnstap__member_chosen(const dnstap__change *c, const dnstap__member *m)
{
    int i;

    for (i = 0; i < c->count; i++)
        if (c->members[i] == m) return true;
    return false;
}

/* Who stays. */
static void dnstap__choose(dnstap_group *g, dnstap__change *c)
{
    dnstap__member *m;
    int i;

    for (i = 0; i < c->count; i++)
        for (m = g->members; m < g->members + DNSTAP__PLACES && !c->members[i]; m++)
            if (m->stay == DNSTAP__STAYING && !dnstap__member_chosen(c, m) &&
                dnstap__same_options(m->given, &c->options[i]))
                c->members[i] = m;
}

/* Whose socket these options are to get, when he goes. */
static dnstap__member *dnstap__lender(dnstap_group *g, const dnstap__change *c,
                                      const dnstap_options *o)
{
    dnstap__member *m;

    for (m = g->members; o->listen && m < g->members + DNSTAP__PLACES; m++)
        if (m->stay == DNSTAP__STAYING && !dnstap__member_chosen(c, m) &&
            dnstap__same_place(m->given, o))
            return m;
    return NULL;
}

static const dnstap__listener *dnstap__lent(dnstap_group *g, const dnstap__change *c,
                                            const dnstap_options *o)
{
    const dnstap__member *m = dnstap__lender(g, c, o);

    return m ? &m->tap->desk.listener : NULL;
}

#if DNSTAP__HAS_MALLOC
/* What would be refused is, before anything is touched. */
static int dnstap__check_change(dnstap_group *g, const dnstap__change *c, dnstap_error *error)
{
    const dnstap_options *o;
    int i, result = DNSTAP_OK;

    for (i = 0; i < c->count && result == DNSTAP_OK; i++) {
        o = &c->options[i];
        if (c->members[i]) continue;
        if (o->listen) dnstap__mutex_lock(&g->turn);
        result = dnstap__check(o, dnstap__lent(g, c, o), error);
        if (o->listen) dnstap__mutex_unlock(&g->turn);
    }
    return result;
}
#else
static int dnstap__check_change(dnstap_group *g, const dnstap__change *c, dnstap_error *error)
{
    return g && c && error ? DNSTAP_OK : DNSTAP_BAD_OPTION;
}
#endif

/* A vacant place; if need be that of the one that closes longest, whose time is over then. NULL:
 * all wait for threads to come out. */
static dnstap__member *dnstap__find_place(dnstap_group *g)
{
    dnstap__member *m, *oldest = NULL;

    for (m = g->members; m < g->members + DNSTAP__PLACES; m++) {
        if (m->stay == DNSTAP__VACANT) return m;
        if (m->stay == DNSTAP__CLOSING && (!oldest || m->serial < oldest->serial)) oldest = m;
    }
    if (oldest) dnstap__dismiss(g, oldest);
    return oldest;
}

/* Its number among those with the same endpoint. */
static unsigned dnstap__ordinal(const dnstap_group *g, const dnstap__change *c,
                                const dnstap_options *o)
{
    const dnstap__member *m = g->members;
    unsigned ordinal = 1;

    while (m < g->members + DNSTAP__PLACES) {
        if (m->stay != DNSTAP__VACANT && dnstap__member_chosen(c, m) && m->ordinal == ordinal &&
            dnstap__same_text(m->given->endpoint, o->endpoint)) {
            ordinal++;
            m = g->members;
        } else {
            m++;
        }
    }
    return ordinal;
}

/* Its memory: the options, and behind them room for the tap. */
static dnstap_options *dnstap__layout_member(dnstap__arena *a, const dnstap_options *o, void **tap,
                                             size_t *tap_size)
{
    dnstap_options *given = dnstap__take_given(a, o);

    *tap_size = dnstap_memory_size(o); /* 0: opening says why */
    *tap = dnstap__take(a, *tap_size, 1);
    return a->overflow ? NULL : given;
}

DNSTAP__COLD size_t dnstap__member_size(const dnstap_options *o)
{
    dnstap__arena a;
    size_t tap_size;
    void *tap;

    memset(&a, 0, sizeof a);
    a.size = SIZE_MAX - DNSTAP__ALIGN;
    dnstap__layout_member(&a, o, &tap, &tap_size);
    return a.overflow ? 0 : a.used;
}

static dnstap__arena dnstap__member_arena(const dnstap__member *m)
{
    dnstap__arena a;

    memset(&a, 0, sizeof a);
    a.base = (uint8_t *)m->lot.block.data;
    a.size = m->lot.size;
    return a;
}

/* Takes a place and memory for the options. */
static int dnstap__admit_member(dnstap_group *g, dnstap__change *c, int i, dnstap_error *error)
{
    dnstap__member *m = dnstap__find_place(g);
    size_t tap_size;
    dnstap__arena a;
    void *tap;
    int result;

    if (!m) return dnstap__fail(error, DNSTAP_AGAIN, 0, "removed taps are still in use");
    result = dnstap__open_lot(g, &m->lot, dnstap__member_size(&c->options[i]), error);
    if (result < 0) return result;
    a = dnstap__member_arena(m);
    m->given = dnstap__layout_member(&a, &c->options[i], &tap, &tap_size);
    m->ordinal = dnstap__ordinal(g, c, m->given);
    m->serial = ++g->serial;
    m->late = dnstap__has_elder(g, m, DNSTAP__STAYING);
    m->stay = DNSTAP__COMING;
    c->members[i] = m;
    return DNSTAP_OK;
}

static int dnstap__open_member(dnstap_group *g, dnstap__change *c, int i, dnstap_error *error)
{
    dnstap__member *m = c->members[i];
    const dnstap_options *o = &c->options[i];
    dnstap__arena a = dnstap__member_arena(m);
    size_t tap_size;
    void *tap;

    if (g->thread.running && (o->watch || o->timer || o->wake))
        return dnstap__fail(error, DNSTAP_BAD_OPTION, 0,
                            "watch, timer and wake are for a loop of your own, and the group has a "
                            "thread");
    dnstap__layout_member(&a, o, &tap, &tap_size);
    if (o->listen) dnstap__mutex_lock(&g->turn);
    m->tap = dnstap__open_lent(tap, tap_size, o, dnstap__lent(g, c, o), error);
    if (o->listen) dnstap__mutex_unlock(&g->turn);
    if (!m->tap) return error->code;
    if (m->late) dnstap__yield(&m->tap->links[0].medium, &m->tap->target);
    m->tap->grouped = true;
    if (DNSTAP_LOAD(&g->off)) dnstap_set_enabled(m->tap, false);
    return DNSTAP_OK;
}

/* Room for the descriptors of all members and newcomers. Our own thread takes it when it comes back
 * from poll. */
static int dnstap__open_poll(dnstap_group *g, dnstap_error *error)
{
    size_t n = 1, i;
    const dnstap__member *m;

    for (m = g->members; m < g->members + DNSTAP__PLACES; m++)
        if (m->tap) n += DNSTAP_POLLFDS + m->tap->link_count;
    i = n * DNSTAP__POLLFD_SIZE;
    if (i <= g->poll.size || i <= g->next_poll.size) return DNSTAP_OK;
    dnstap__close_lot(g, &g->next_poll);
    return dnstap__open_lot(g, &g->next_poll, i, error);
}

/* All that come get their memory. */
static int dnstap__admit_change(dnstap_group *g, dnstap__change *c, dnstap_error *error)
{
    int i, result = DNSTAP_OK;

    dnstap__mutex_lock(&g->turn);
    for (i = 0; i < c->count && result == DNSTAP_OK; i++)
        if (!c->members[i]) result = dnstap__admit_member(g, c, i, error);
    dnstap__mutex_unlock(&g->turn);
    return result;
}

/* They open, those first whose place may be somebody else's; meanwhile the others are serviced. */
static int dnstap__open_change(dnstap_group *g, dnstap__change *c, dnstap_error *error)
{
    int i, result = dnstap__admit_change(g, c, error);

    for (i = 0; i < c->count && result == DNSTAP_OK; i++)
        if (!c->members[i]->tap && c->options[i].listen)
            result = dnstap__open_member(g, c, i, error);
    for (i = 0; i < c->count && result == DNSTAP_OK; i++)
        if (!c->members[i]->tap) result = dnstap__open_member(g, c, i, error);
    return result;
}

static void dnstap__undo_change(dnstap_group *g)
{
    dnstap__member *m;

    for (m = g->members; m < g->members + DNSTAP__PLACES; m++)
        if (m->stay == DNSTAP__COMING) dnstap__dismiss(g, m);
}

/* The roster that is not read gets the change, and is. */
static void dnstap__exchange_roster(dnstap_group *g, const dnstap__change *c)
{
    dnstap__roster *r = &g->rosters[dnstap__roster_of(g) == g->rosters];
    int i;

    r->count = (uint32_t)c->count;
    for (i = 0; i < c->count; i++) {
        r->taps[i] = c->members[i]->tap;
        r->texts[i] = c->members[i]->given->extra;
        if (r->texts[i] && !*r->texts[i]) r->texts[i] = NULL;
        r->places[i] = (uint8_t)(c->members[i] - g->members);
    }
    DNSTAP_EXCHANGE(&g->roster, (size_t)r);
}

/* A new tap listens from now on where an old one did. */
static void dnstap__hand_over(dnstap_group *g, const dnstap__change *c)
{
    dnstap__member *m, *lender;

    for (m = g->members; m < g->members + DNSTAP__PLACES; m++) {
        if (m->stay != DNSTAP__COMING) continue;
        lender = dnstap__lender(g, c, m->given);
        if (lender) dnstap__take_desk(m->tap, lender->tap);
    }
}

/* From now on it is as the options say. */
static void dnstap__commit(dnstap_group *g, const dnstap__change *c)
{
    dnstap__member *m;
    size_t i, top = 0;

    dnstap__hand_over(g, c);
    dnstap__mutex_lock(&g->list);
    dnstap__exchange_roster(g, c);
    for (i = 0; i < DNSTAP__PLACES; i++) {
        m = &g->members[i];
        if (m->stay == DNSTAP__STAYING && !dnstap__member_chosen(c, m)) {
            dnstap__tell_wants(m->tap, NULL);
            DNSTAP_STORE(&g->wants[i], 0);
            m->stay = DNSTAP__LEAVING;
        } else if (m->stay == DNSTAP__COMING) {
            dnstap__tell_wants(m->tap, &g->wants[i]);
            m->stay = DNSTAP__STAYING;
        }
        if (m->stay == DNSTAP__STAYING) top = i + 1;
    }
    DNSTAP_STORE(&g->top, top);
    dnstap__mutex_unlock(&g->list);
    dnstap__begin_grace(g);
}

/* Waits until the other roster has no readers: no time, as a rule. */
static bool dnstap__await_grace(dnstap_group *g)
{
    int patience = DNSTAP__PATIENCE_MS;
    bool over;

    for (;;) {
        dnstap__mutex_lock(&g->turn);
        over = dnstap__grace_is_over(g);
        if (over) dnstap__progress(g);
        dnstap__mutex_unlock(&g->turn);
        if (over || !patience--) return over;
        dnstap__pause();
    }
}

/* Makes the loop or the thread look at the members anew. */
static void dnstap__nudge_group(dnstap_group *g)
{
    const dnstap__roster *r = dnstap__roster_of(g);

    if (DNSTAP_LOAD(&g->waker.in) != SIZE_MAX) dnstap__waker_call(&g->waker);
    if (r->count && r->taps[0]->options.wake) dnstap__nudge(r->taps[0]);
}

static int dnstap__reload(dnstap_group *g, dnstap__change *c, dnstap_error *error)
{
    int result;

    dnstap__mutex_lock(&g->turn);
    dnstap__choose(g, c);
    dnstap__mutex_unlock(&g->turn);
    result = dnstap__check_change(g, c, error);
    if (result < 0) return result;
    if (!dnstap__await_grace(g))
        return dnstap__fail(error, DNSTAP_AGAIN, 0,
                            "a thread has been inside the group since the last reload; try again");
    result = dnstap__open_change(g, c, error);
    dnstap__mutex_lock(&g->turn);
    if (result == DNSTAP_OK) result = dnstap__open_poll(g, error);
    if (result == DNSTAP_OK)
        dnstap__commit(g, c);
    else
        dnstap__undo_change(g);
    dnstap__progress(g);
    dnstap__mutex_unlock(&g->turn);
    dnstap__nudge_group(g);
    return result;
}

DNSTAP_API int dnstap_group_reload(dnstap_group *g, const dnstap_options *options, int count,
                                   dnstap_error *error)
{
    dnstap_error why;
    dnstap__change c;
    int result;

    memset(&why, 0, sizeof why);
    memset(&c, 0, sizeof c);
    c.options = options;
    c.count = count;
    if (count < 0 || count > DNSTAP_GROUP_MAX) {
        result = dnstap__fail(&why, DNSTAP_BAD_OPTION, 0, "%d taps; a group has at most %d", count,
                              (int)DNSTAP_GROUP_MAX);
    } else if (g->owner && g->owner != dnstap__process()) {
        result = dnstap__fail(&why, DNSTAP_UNSUPPORTED, 0,
                              "the group is another process's; call dnstap_group_after_fork");
    } else {
        dnstap__mutex_lock(&g->reloading);
        result = dnstap__reload(g, &c, &why);
        dnstap__mutex_unlock(&g->reloading);
    }
    if (error) *error = why;
    return result;
}

/* ---- >>together ----------------------------------------------------------------------------- */

/* A group's turns, its status, its beginning and end. In: calls from a foreign loop or our thread;
 * out: turns of the members, and what they have counted. Always: one thread at a time services. */
/* One timer for all of them: that of the first that has one. */
static void dnstap__tell_timer(dnstap_group *g, int timeout)
{
    const dnstap__member *m;

    for (m = g->members; m < g->members + DNSTAP__PLACES; m++) {
        if (m->stay != DNSTAP__STAYING || !m->tap->options.timer) continue;
        (m->tap->options.timer)(m->tap->options.user, timeout);
        return;
    }
}

static int dnstap__sooner(int a, int b) { return a < 0 || (b >= 0 && b < a) ? b : a; }

/* poll's timeout until the next turn. */
static int dnstap__group_timeout(const dnstap_group *g)
{
    const dnstap__member *m;
    int timeout = g->grace.pending ? 1 : -1;

    for (m = g->members; m < g->members + DNSTAP__PLACES; m++)
        if (dnstap__is_serviced(g, m)) timeout = dnstap__sooner(timeout, dnstap__timeout(m->tap));
    return timeout;
}

/* Behind a turn of all members. */
static void dnstap__end_turn(dnstap_group *g)
{
    if (g->waker.out >= 0) dnstap__waker_take(&g->waker);
    dnstap__progress(g);
    dnstap__tell_timer(g, dnstap__group_timeout(g));
}

/* As dnstap__owned, of a tap. */
static bool dnstap__group_owned(dnstap_group *g)
{
    if (!g->owner) {
        if (g->opener != dnstap__process() || dnstap__waker_lost(&g->waker)) {
            dnstap__waker_close(&g->waker);
            dnstap__waker_open(&g->waker);
        }
        g->owner = dnstap__process();
    }
    return g->owner == dnstap__process();
}

DNSTAP_API int dnstap_group_service(dnstap_group *g)
{
    dnstap__member *m;
    int result;

    dnstap__mutex_lock(&g->turn);
    result = dnstap__group_owned(g) ? DNSTAP_OK : DNSTAP_UNSUPPORTED;
    for (m = g->members; m < g->members + DNSTAP__PLACES && result == DNSTAP_OK; m++)
        if (dnstap__is_serviced(g, m)) dnstap_service(m->tap);
    if (result == DNSTAP_OK) dnstap__end_turn(g);
    dnstap__mutex_unlock(&g->turn);
    return result;
}

#if DNSTAP__POSIX
DNSTAP_API int dnstap_group_pollfds(dnstap_group *g, struct pollfd *fds, int max, int *timeout_ms)
{
    dnstap__member *m;
    int n, timeout;

    dnstap__mutex_lock(&g->turn);
    n = dnstap__add_pollfd(fds, 0, max, g->waker.out, POLLIN);
    *timeout_ms = g->grace.pending ? 1 : -1;
    for (m = g->members; m < g->members + DNSTAP__PLACES; m++) {
        m->first = n;
        m->polled = 0;
        if (!dnstap__is_serviced(g, m)) continue;
        n += m->polled = dnstap_pollfds(m->tap, fds + n, max - n, &timeout);
        *timeout_ms = dnstap__sooner(*timeout_ms, timeout);
    }
    dnstap__mutex_unlock(&g->turn);
    return n;
}

/* Who has come since the poll has none of its descriptors. */
DNSTAP_API int dnstap_group_service_fds(dnstap_group *g, const struct pollfd *fds, int n)
{
    dnstap__member *m;
    int result;

    dnstap__mutex_lock(&g->turn);
    result = dnstap__group_owned(g) ? DNSTAP_OK : DNSTAP_UNSUPPORTED;
    for (m = g->members; m < g->members + DNSTAP__PLACES && result == DNSTAP_OK; m++) {
        if (m->polled > n - m->first) m->polled = 0;
        if (dnstap__is_serviced(g, m))
            dnstap_service_fds(m->tap, fds + (m->polled ? m->first : 0), m->polled);
        m->polled = 0;
    }
    if (result == DNSTAP_OK) dnstap__end_turn(g);
    dnstap__mutex_unlock(&g->turn);
    return result;
}

/* Larger room for descriptors, where a reload has left it. */
static void dnstap__take_poll(dnstap_group *g)
{
    dnstap__mutex_lock(&g->turn);
    if (g->next_poll.size) {
        dnstap__close_lot(g, &g->poll);
        g->poll = g->next_poll;
        memset(&g->next_poll, 0, sizeof g->next_poll);
    }
    dnstap__mutex_unlock(&g->turn);
}

/* One wait and one turn, of the group's thread or of a close. */
static void dnstap__group_round(dnstap_group *g, int longest_ms)
{
    struct pollfd *fds;
    int n, timeout;

    dnstap__take_poll(g);
    fds = (struct pollfd *)g->poll.block.data;
    n = dnstap_group_pollfds(g, fds, (int)(g->poll.size / sizeof *fds), &timeout);
    poll(fds, (nfds_t)n, longest_ms < 0 ? timeout : dnstap__sooner(timeout, longest_ms));
    dnstap_group_service_fds(g, fds, n);
}
#else
static void dnstap__group_round(dnstap_group *g, int longest_ms)
{
    (void)longest_ms;
    dnstap_group_service(g);
}
#endif

static void *dnstap__group_main(void *argument)
{
    dnstap_group *g = (dnstap_group *)argument;

    while (!DNSTAP_LOAD_ACQUIRE(&g->stop)) dnstap__group_round(g, -1);
    return NULL;
}

DNSTAP_API int dnstap_group_start(dnstap_group *g)
{
    const dnstap__member *m;
    bool loop = !DNSTAP__HAS_THREADS || g->thread.running || !dnstap__group_owned(g);

    for (m = g->members; m < g->members + DNSTAP__PLACES; m++) {
        if (m->stay != DNSTAP__STAYING) continue;
        loop = loop || dnstap__has_loop(m->tap) || !dnstap__owned(m->tap);
        DNSTAP_STORE(&m->tap->poller, 0);
    }
    if (loop) return DNSTAP_UNSUPPORTED;
    return dnstap__thread_start(&g->thread, dnstap__group_main, g) ? DNSTAP_SYSTEM : DNSTAP_OK;
}

DNSTAP_API int dnstap_group_reopen(dnstap_group *g)
{
    const dnstap__roster *r;
    int result = DNSTAP_UNSUPPORTED;
    uint32_t i;

    dnstap__mutex_lock(&g->list);
    r = dnstap__roster_of(g);
    for (i = 0; i < r->count; i++)
        if (dnstap_reopen(r->taps[i]) == DNSTAP_OK) result = DNSTAP_OK;
    dnstap__mutex_unlock(&g->list);
    return result;
}

DNSTAP_API void dnstap_group_set_enabled(dnstap_group *g, bool enabled)
{
    const dnstap__roster *r;
    uint32_t i;

    dnstap__mutex_lock(&g->list);
    DNSTAP_STORE(&g->off, !enabled);
    r = dnstap__roster_of(g);
    for (i = 0; i < r->count; i++) dnstap_set_enabled(r->taps[i], enabled);
    dnstap__mutex_unlock(&g->list);
}

/* The first tap's time, or the system's. */
static uint64_t dnstap__group_now(dnstap_group *g)
{
    const dnstap__roster *r;
    uint64_t now;

    dnstap__mutex_lock(&g->list);
    r = dnstap__roster_of(g);
    now = r->count ? dnstap__now(r->taps[0]) : dnstap__clock_ms(NULL);
    dnstap__mutex_unlock(&g->list);
    return now;
}

/* A slice of a flush, of those that are not done yet. */
static int dnstap__flush_slice(dnstap_group *g, bool *done, uint64_t end)
{
    int result = DNSTAP_OK, one, i, slice;
    uint64_t now;

    dnstap__mutex_lock(&g->turn);
    for (i = 0; i < DNSTAP__PLACES; i++) {
        dnstap__member *m = &g->members[i];

        if (m->stay != DNSTAP__STAYING || done[i]) continue;
        now = dnstap__group_now(g);
        slice = now + DNSTAP__SLICE_MS < end ? (int)DNSTAP__SLICE_MS
                : end > now                  ? (int)(end - now)
                                             : 0;
        one = DNSTAP_TIMEOUT;
        if (!dnstap__is_held_up(g, m))
            one = dnstap_flush(m->tap, slice);
        else if (slice)
            dnstap__pause();
        done[i] = one == DNSTAP_OK;
        if (one != DNSTAP_OK && result != DNSTAP_UNSUPPORTED) result = one;
    }
    dnstap__mutex_unlock(&g->turn);
    return result;
}

/* Each in turn, for a slice of the time: who gets nothing away does not hold up the others. */
DNSTAP_API int dnstap_group_flush(dnstap_group *g, int timeout_ms)
{
    uint64_t end = dnstap__group_now(g) + (uint64_t)(timeout_ms > 0 ? timeout_ms : 0);
    bool done[DNSTAP__PLACES] = {false};
    int result;

    do {
        result = dnstap_group_service(g);
        if (result == DNSTAP_OK) result = dnstap__flush_slice(g, done, end);
    } while (result == DNSTAP_TIMEOUT && dnstap__group_now(g) < end);
    if (result != DNSTAP_UNSUPPORTED) dnstap_group_service(g);
    return result;
}

/* -- status -- */

static dnstap__member *dnstap__member_at(dnstap_group *g, const dnstap__roster *r, uint32_t i)
{
    return &g->members[r->places[i]];
}

DNSTAP_API int dnstap_group_get_status(dnstap_group *g, dnstap_group_tap *taps, int max)
{
    const dnstap__member *m;
    const dnstap__roster *r;
    int n;

    dnstap__mutex_lock(&g->list);
    r = dnstap__roster_of(g);
    for (n = 0; n < max && n < (int)r->count; n++) {
        m = dnstap__member_at(g, r, (uint32_t)n);
        dnstap_get_status(m->tap, &taps[n].status);
        if (m->ordinal > 1)
            dnstap__format(taps[n].name, sizeof taps[n].name, "%s #%u", dnstap__where(m->tap),
                           m->ordinal);
        else
            dnstap__format(taps[n].name, sizeof taps[n].name, "%s", dnstap__where(m->tap));
    }
    dnstap__mutex_unlock(&g->list);
    return n;
}

#if DNSTAP__HAS_METRICS
DNSTAP_API long dnstap_group_metrics(dnstap_group *g, char *out, size_t size)
{
    dnstap__subject subjects[DNSTAP_GROUP_MAX];
    const dnstap__roster *r;
    uint32_t i;
    long length;

    dnstap__mutex_lock(&g->list);
    r = dnstap__roster_of(g);
    for (i = 0; i < r->count; i++) {
        dnstap__take_figures(r->taps[i], &g->figures[i]);
        subjects[i] = dnstap__tap_subject(r->taps[i], &g->figures[i]);
        subjects[i].ordinal = dnstap__member_at(g, r, i)->ordinal;
    }
    length = dnstap__write_tap_metrics(subjects, r->count, out, size);
    dnstap__mutex_unlock(&g->list);
    return length;
}
#endif

/* -- beginning and end -- */

/* As many as the largest options.producers. */
static uint32_t dnstap__visitors_for(const dnstap_options *options, int count)
{
    uint32_t n = DNSTAP__HAS_THREADS ? 8 : 1;
    int i;

    for (i = 0; i < count; i++)
        if (options[i].producers > n) n = options[i].producers;
    return n;
}

/* The group without its members. */
static dnstap_group *dnstap__layout_group(dnstap__arena *a, uint32_t visitors)
{
    dnstap_group *g = (dnstap_group *)dnstap__take(a, sizeof *g, DNSTAP__ALIGN);
    dnstap__visitor *all = (dnstap__visitor *)dnstap__take(a, visitors * sizeof *all,
                                                           DNSTAP__ALIGN);
    uint32_t i;

    if (!g || a->overflow) return NULL;
    memset(g, 0, sizeof *g);
    memset(all, 0, visitors * sizeof *all);
    for (i = 0; i < visitors; i++) all[i].number = i;
    g->strays[0].number = g->strays[1].number = DNSTAP__STRAY;
    g->visitors = all;
    g->visitor_count = visitors;
    g->roster = (size_t)&g->rosters[0];
    return g;
}

static size_t dnstap__group_size(const dnstap_options *options, int count)
{
    dnstap__arena a;

    memset(&a, 0, sizeof a);
    a.size = SIZE_MAX - DNSTAP__ALIGN;
    dnstap__layout_group(&a, dnstap__visitors_for(options, count));
    return a.used;
}

DNSTAP_API size_t dnstap_group_memory_size(const dnstap_options *options, int count)
{
    size_t fds = 1;
    dnstap__setup s;
    dnstap__arena a;
    int i;

    if (count < 0 || count > DNSTAP_GROUP_MAX) return 0;
    memset(&a, 0, sizeof a);
    a.size = SIZE_MAX - DNSTAP__ALIGN;
    dnstap__take(&a, dnstap__group_size(options, count), DNSTAP__ALIGN);
    for (i = 0; i < count; i++) {
        if (dnstap__resolve_options(&s, &options[i], NULL) < 0) return 0;
        fds += DNSTAP_POLLFDS + s.link_count;
        dnstap__take(&a, dnstap__member_size(&options[i]), DNSTAP__ALIGN);
    }
    dnstap__take(&a, fds * DNSTAP__POLLFD_SIZE, DNSTAP__ALIGN);
    return a.overflow ? 0 : a.used + DNSTAP__ALIGN; /* the block may begin anywhere */
}

static void dnstap__open_locks(dnstap_group *g)
{
    dnstap__mutex_open(&g->reloading);
    dnstap__mutex_open(&g->turn);
    dnstap__mutex_open(&g->list);
}

/* All that is not a member's. */
static void dnstap__take_down(dnstap_group *g)
{
    dnstap__close_lot(g, &g->poll);
    dnstap__close_lot(g, &g->next_poll);
    dnstap__waker_close(&g->waker);
    dnstap__mutex_close(&g->reloading);
    dnstap__mutex_close(&g->turn);
    dnstap__mutex_close(&g->list);
}

/* In memory that has room for it; as far as it can be, members' is taken from `whole` bytes of it,
 * 0: of none. */
static dnstap_group *dnstap__open_group(void *memory, size_t size, bool whole,
                                        const dnstap_options *options, int count,
                                        dnstap_error *error)
{
    dnstap__arena a;
    dnstap_group *g;

    memset(&a, 0, sizeof a);
    a.base = (uint8_t *)memory + (DNSTAP__ALIGN - (size_t)memory % DNSTAP__ALIGN) % DNSTAP__ALIGN;
    a.size = size - (size_t)(a.base - (uint8_t *)memory);
    g = dnstap__layout_group(&a, dnstap__visitors_for(options, count));
    DNSTAP_ASSERT(g);
    g->floor = a.used;
    g->memory = whole ? a.base : NULL;
    g->memory_size = a.size;
    g->opener = dnstap__process();
    dnstap__open_locks(g);
    dnstap__barrier_open();
    if (dnstap__waker_open(&g->waker) < 0) {
        dnstap__fail(error, DNSTAP_SYSTEM, errno, "group: eventfd: %s", strerror(errno));
    } else if (dnstap__key_open(&g->key, dnstap__visitor_left)) {
        dnstap__fail(error, DNSTAP_SYSTEM, EAGAIN,
                     "no thread-specific key is left; close other taps");
    } else if (dnstap_group_reload(g, options, count, error) == DNSTAP_OK) {
        return g;
    } else {
        dnstap__key_close(g->key);
    }
    dnstap__take_down(g);
    return NULL;
}

DNSTAP_API dnstap_group *dnstap_group_open_in(void *memory, size_t size,
                                              const dnstap_options *options, int count,
                                              dnstap_error *error)
{
    size_t need = count < 0 || count > DNSTAP_GROUP_MAX ? 0 : dnstap__group_size(options, count);

    if (error) memset(error, 0, sizeof *error);
    if (memory && need && size >= need + DNSTAP__ALIGN)
        return dnstap__open_group(memory, size, true, options, count, error);
    dnstap__fail(error, need ? DNSTAP_NO_MEMORY : DNSTAP_BAD_OPTION, 0,
                 need ? "%lu bytes are too few for a group" : "%lu taps are too many for a group",
                 (unsigned long)(need ? size : (size_t)count));
    return NULL;
}

#if DNSTAP__HAS_MALLOC
DNSTAP_API dnstap_group *dnstap_group_open(const dnstap_options *options, int count,
                                           dnstap_error *error)
{
    dnstap__block block;
    dnstap_group *g;
    size_t size;

    if (count < 0 || count > DNSTAP_GROUP_MAX)
        return dnstap_group_open_in(NULL, 0, options, count, error);
    size = dnstap__group_size(options, count) + DNSTAP__ALIGN;
    if (error) memset(error, 0, sizeof *error);
    if (!dnstap__take_block(&block, size, error)) return NULL;
    g = dnstap__open_group(block.data, size, false, options, count, error);
    if (g)
        g->block = block;
    else
        dnstap__block_close(&block);
    return g;
}
#else
DNSTAP_API dnstap_group *dnstap_group_open(const dnstap_options *options, int count,
                                           dnstap_error *error)
{
    (void)options, (void)count;
    dnstap__fail(error, DNSTAP_UNSUPPORTED, 0,
                 "this build has no malloc; use dnstap_group_open_in");
    return NULL;
}
#endif

#if DNSTAP__HAS_DIRECTIVE && DNSTAP__HAS_MALLOC
/* The options that text describes, and their strings in a block. As dnstap_parse. */
static int dnstap__parse_taps(const char *text, const dnstap_parse_options *how,
                              dnstap_options *options, dnstap__block *strings, dnstap_error *error)
{
    size_t size = 3 * strlen(text) + 64;
    int result = DNSTAP_NO_MEMORY, tries;

    memset(strings, 0, sizeof *strings);
    for (tries = 0; tries < 8 && result == DNSTAP_NO_MEMORY; tries++, size *= 4) {
        dnstap__block_close(strings); /* variables made it longer */
        if (!dnstap__take_block(strings, size, error)) return DNSTAP_NO_MEMORY;
        result = dnstap_parse(text, strings->data, size, options, DNSTAP_GROUP_MAX, how, error);
    }
    return result;
}

DNSTAP_API dnstap_group *dnstap_group_open_text(const char *text, const dnstap_parse_options *how,
                                                dnstap_error *error)
{
    dnstap_options options[DNSTAP_GROUP_MAX];
    dnstap__block strings;
    dnstap_group *g = NULL;
    int count = dnstap__parse_taps(text, how, options, &strings, error);

    if (count >= 0) g = dnstap_group_open(options, count, error);
    dnstap__block_close(&strings);
    return g;
}

DNSTAP_API int dnstap_group_reload_text(dnstap_group *g, const char *text,
                                        const dnstap_parse_options *how, dnstap_error *error)
{
    dnstap_options options[DNSTAP_GROUP_MAX];
    dnstap__block strings;
    int result = dnstap__parse_taps(text, how, options, &strings, error);

    if (result >= 0) result = dnstap_group_reload(g, options, result, error);
    dnstap__block_close(&strings);
    return result;
}
#endif

#if DNSTAP__HAS_THREADS
/* Of the parent's threads only the calling one is left, and it is in no tap. */
static void dnstap__forget_visitors(dnstap_group *g)
{
    const dnstap__visitor *mine = dnstap__visitor_of(g);
    dnstap__visitor *v;

    for (v = g->visitors; v < g->visitors + g->visitor_count; v++) {
        v->inside = v->seen = 0;
        v->owner = v == mine;
    }
    g->strays[0].owner = g->strays[0].inside;
    g->strays[1].owner = g->strays[1].inside;
}
#else
static void dnstap__forget_visitors(dnstap_group *g) { g->grace.pending = false; }
#endif

DNSTAP_API int dnstap_group_after_fork(dnstap_group *g)
{
    dnstap__member *m;
    int result = DNSTAP_OK, one;

    if (g->owner == dnstap__process()) return DNSTAP_OK;
    dnstap__open_locks(g);
    dnstap__forget_visitors(g);
    g->thread.running = false;
    g->owner = 0;
    g->opener = dnstap__process();
    dnstap__waker_close(&g->waker);
    if (dnstap__waker_open(&g->waker) < 0) result = DNSTAP_SYSTEM;
    for (m = g->members; m < g->members + DNSTAP__PLACES; m++) {
        if (m->stay == DNSTAP__LEAVING || m->stay == DNSTAP__CLOSING) dnstap__dismiss(g, m);
        if (m->stay != DNSTAP__STAYING) continue;
        one = dnstap_after_fork(m->tap);
        if (result == DNSTAP_OK) result = one;
    }
    return result;
}

/* Nobody logs any more: all begin to close, those that do already by the same end at the latest. */
static void dnstap__begin_end(dnstap_group *g, int timeout_ms)
{
    dnstap__member *m;

    g->grace.pending = false;
    for (m = g->members; m < g->members + DNSTAP__PLACES; m++) {
        if (m->stay < DNSTAP__STAYING) continue;
        dnstap__begin_close(m->tap, timeout_ms);
        m->stay = DNSTAP__CLOSING;
    }
}

/* How many are not closed yet. */
static int dnstap__left(const dnstap_group *g)
{
    int i, n = 0;

    for (i = 0; i < DNSTAP__PLACES; i++) n += g->members[i].stay != DNSTAP__VACANT;
    return n;
}

DNSTAP_API int dnstap_group_close(dnstap_group *g, int timeout_ms)
{
    uint64_t now = dnstap__clock_ms(NULL), end = now + (uint64_t)(timeout_ms > 0 ? timeout_ms : 0);
    dnstap__member *m;
    bool unsent;

    if (!g) return DNSTAP_OK;
    if (g->owner == dnstap__process() && g->thread.running) {
        DNSTAP_STORE_RELEASE(&g->stop, 1);
        dnstap__waker_call(&g->waker);
        dnstap__thread_join(&g->thread);
    }
    g->unsent = false;
    dnstap__begin_end(g, timeout_ms);
    for (; g->owner == dnstap__process() && dnstap__left(g) && now < end;
         now = dnstap__clock_ms(NULL))
        dnstap__group_round(g, (int)(end - now));
    for (m = g->members; m < g->members + DNSTAP__PLACES; m++)
        if (m->stay != DNSTAP__VACANT) dnstap__dismiss(g, m);
    unsent = g->unsent;
    dnstap__key_close(g->key);
    dnstap__take_down(g);
    dnstap__block_close(&g->block);
    return unsent ? DNSTAP_TIMEOUT : DNSTAP_OK;
}

#ifdef __cplusplus
}
#endif
#endif /* DNSTAP_IMPLEMENTATION */

/* ---- >>changes ----------------------------------------------------------------------------
 *
 * 0.1.0
 *   Added: messages, codec, Frame Streams, taps over unix, tcp, tls and files, sinks; options from
 *   and to configuration text; metrics; groups of taps, which reload.
 *   Added: sinks have a thread of their own (dnstap_sink_start), follow files that grow, tell apart
 *   who greets and who does not, and tell and count how each connection ended.
 *   Added: filters (types, rcodes, zones, samples, a function), and addresses cut to so many bits;
 *   the text of a configuration needs five times its length of memory, not three.
 *   Changed: options.receive of a sink returns DNSTAP_OK, or DNSTAP_AGAIN: later.
 *
 * ---- >>license ----------------------------------------------------------------------------
 *
 * MIT No Attribution
 *
 * Copyright 2026 the dnstap.h authors
 *
 * Permission is hereby granted, free of charge, to any person obtaining a copy of this software and
 * associated documentation files (the "Software"), to deal in the Software without restriction,
 * including without limitation the rights to use, copy, modify, merge, publish, distribute,
 * sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is
 * furnished to do so.
 *
 * THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT
 * NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND
 * NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM,
 * DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
 * OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
 */
