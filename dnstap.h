#ifndef DNSTAP_H_INCLUDED
#define DNSTAP_H_INCLUDED

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DNSTAP_VERSION "0.1.0"

struct sockaddr;
struct timespec;
struct pollfd;

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
#define DNSTAP_RESULTS(X)                                                                         \
    X(DNSTAP_OK, 0, "success")                                                                    \
    X(DNSTAP_AGAIN, -1, "would block; call again when it is ready")                               \
    X(DNSTAP_END, -2, "end of stream")                                                            \
    X(DNSTAP_RING_FULL, -3, "ring full; raise options.queue or options.ring_size")                \
    X(DNSTAP_TOO_LARGE, -4, "message larger than options.max_message; raise it")                  \
    X(DNSTAP_BUSY, -5, "threads beyond options.producers wait for one ring; raise producers")     \
    X(DNSTAP_BAD_OPTION, -6, "option refused")                                                    \
    X(DNSTAP_BAD_MESSAGE, -7, "message can't be encoded; its type, a port or a time is wrong")    \
    X(DNSTAP_BAD_PAYLOAD, -8, "payload is not dnstap")                                            \
    X(DNSTAP_BAD_FRAME, -9, "not Frame Streams, or against its rules")                            \
    X(DNSTAP_NO_MEMORY, -10, "memory given or allocated is too small")                            \
    X(DNSTAP_SYSTEM, -11, "a system call failed")                                                 \
    X(DNSTAP_TLS, -12, "TLS failed")                                                              \
    X(DNSTAP_TIMEOUT, -13, "no progress before the deadline")                                     \
    X(DNSTAP_UNSUPPORTED, -14, "left out of this build")                                          \
    X(DNSTAP_DISCONNECTED, -15, "not connected, and options.drop_when_disconnected is set")       \
    X(DNSTAP_CUT, -16, "stream ends inside a frame")

typedef enum dnstap_result {
#define DNSTAP__X(name, value, text) name = value,
    DNSTAP_RESULTS(DNSTAP__X)
#undef DNSTAP__X
    DNSTAP_RESULT_LAST = -16
} dnstap_result;

/* What went wrong, on what, and what to do. */
typedef struct dnstap_error {
    int code;         /* a dnstap_result */
    int sys_errno;    /* errno; with DNSTAP_TLS BearSSL's error; else 0 */
    int line, column; /* in configuration text, from 1; else 0 */
    char text[256];
} dnstap_error;

/* The result's text, never NULL. Any thread. */
DNSTAP_API const char *dnstap_strerror(int result);

/* ---- >>message ---------------------------------------------------------------------------- */

/* Borrowed bytes. data NULL: absent; DNSTAP_EMPTY: present and empty. */
typedef struct dnstap_bytes {
    const void *data;
    size_t size;
} dnstap_bytes;
#define DNSTAP_EMPTY {"", 0}

/* The schema's enumerations: X(name, number, short name). Numbers a newer schema adds may be used
 * as they are, up to INT32_MAX. */
#define DNSTAP_MESSAGE_TYPES(X)     \
    X(MSG, AUTH_QUERY, 1, "AQ")          \
    X(MSG, AUTH_RESPONSE, 2, "AR")       \
    X(MSG, RESOLVER_QUERY, 3, "RQ")      \
    X(MSG, RESOLVER_RESPONSE, 4, "RR")   \
    X(MSG, CLIENT_QUERY, 5, "CQ")        \
    X(MSG, CLIENT_RESPONSE, 6, "CR")     \
    X(MSG, FORWARDER_QUERY, 7, "FQ")     \
    X(MSG, FORWARDER_RESPONSE, 8, "FR")  \
    X(MSG, STUB_QUERY, 9, "SQ")          \
    X(MSG, STUB_RESPONSE, 10, "SR")      \
    X(MSG, TOOL_QUERY, 11, "TQ")         \
    X(MSG, TOOL_RESPONSE, 12, "TR")      \
    X(MSG, UPDATE_QUERY, 13, "UQ")       \
    X(MSG, UPDATE_RESPONSE, 14, "UR")
#define DNSTAP_SOCKET_FAMILIES(X) X(FAMILY, INET, 1, "") X(FAMILY, INET6, 2, "")
#define DNSTAP_SOCKET_PROTOCOLS(X)  \
    X(PROTOCOL, UDP, 1, "")         \
    X(PROTOCOL, TCP, 2, "")         \
    X(PROTOCOL, DOT, 3, "")         \
    X(PROTOCOL, DOH, 4, "")         \
    X(PROTOCOL, DNSCryptUDP, 5, "") \
    X(PROTOCOL, DNSCryptTCP, 6, "") \
    X(PROTOCOL, DOQ, 7, "")
#define DNSTAP_HTTP_PROTOCOLS(X) X(HTTP, HTTP1, 1, "") X(HTTP, HTTP2, 2, "") X(HTTP, HTTP3, 3, "")
#define DNSTAP_POLICY_ACTIONS(X) \
    X(ACTION, NXDOMAIN, 1, "")   \
    X(ACTION, NODATA, 2, "")     \
    X(ACTION, PASS, 3, "")       \
    X(ACTION, DROP, 4, "")       \
    X(ACTION, TRUNCATE, 5, "")   \
    X(ACTION, LOCAL_DATA, 6, "")
#define DNSTAP_POLICY_MATCHES(X) \
    X(MATCH, QNAME, 1, "")       \
    X(MATCH, CLIENT_IP, 2, "")   \
    X(MATCH, RESPONSE_IP, 3, "") \
    X(MATCH, NS_NAME, 4, "")     \
    X(MATCH, NS_IP, 5, "")

/* DNSTAP_MSG_CLIENT_QUERY, DNSTAP_FAMILY_INET, DNSTAP_PROTOCOL_UDP, DNSTAP_HTTP_HTTP2,
 * DNSTAP_ACTION_DROP, DNSTAP_MATCH_QNAME … */
enum {
#define DNSTAP__X(kind, name, value, brief) DNSTAP_##kind##_##name = value,
    DNSTAP_MESSAGE_TYPES(DNSTAP__X)
    DNSTAP_SOCKET_FAMILIES(DNSTAP__X)
    DNSTAP_SOCKET_PROTOCOLS(DNSTAP__X)
    DNSTAP_HTTP_PROTOCOLS(DNSTAP__X)
    DNSTAP_POLICY_ACTIONS(DNSTAP__X)
    DNSTAP_POLICY_MATCHES(DNSTAP__X)
#undef DNSTAP__X
    DNSTAP_ENUMS_LAST = 0
};

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
    uint32_t type;                                 /* DNSTAP_MSG_…, required */
    uint32_t present;                              /* see above */
    uint32_t socket_family;                        /* DNSTAP_FAMILY_… */
    uint32_t socket_protocol;                      /* DNSTAP_PROTOCOL_… */
    uint32_t http_protocol;                        /* DNSTAP_HTTP_…, with DOH only */
    uint32_t query_port, response_port;            /* at most 65,535 */
    uint32_t query_time_nsec, response_time_nsec;  /* below 1e9 */
    uint64_t query_time_sec, response_time_sec;    /* since 1970, UTC */
    dnstap_bytes query_address, response_address;  /* 4 or 16 bytes, by family */
    dnstap_bytes query_message, response_message;  /* DNS wire format */
    dnstap_bytes query_zone;                       /* name in wire format */
    const dnstap_policy *policy;                   /* NULL: absent */
    dnstap_bytes identity, version, extra;         /* absent: the tap's */
} dnstap_message;

/* Clears m and sets its type; faster than `= {0}` with gcc. */
DNSTAP_API void dnstap_message_start(dnstap_message *m, uint32_t type);

/* Set address, port, family and protocol from an AF_INET or AF_INET6 address, which must live as
 * long as m. An IPv4-mapped address becomes INET with 4 bytes. DNSTAP_BAD_MESSAGE, and m as it
 * was: another family, or not that of the other address. */
DNSTAP_API int dnstap_set_query_address(dnstap_message *m, const struct sockaddr *address,
                                        uint32_t protocol);
DNSTAP_API int dnstap_set_response_address(dnstap_message *m, const struct sockaddr *address,
                                           uint32_t protocol);

/* Set seconds and nanoseconds, as present even where they are 0. */
DNSTAP_API void dnstap_set_query_time(dnstap_message *m, const struct timespec *time);
DNSTAP_API void dnstap_set_response_time(dnstap_message *m, const struct timespec *time);

/* {data, size}; data NULL: absent. */
DNSTAP_API dnstap_bytes dnstap_bytes_of(const void *data, size_t size);

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

/* ---- >>codec ------------------------------------------------------------------------------ */

/* Encodes m as a dnstap payload, without frame. Returns its size; out NULL: the size it would
 * have. DNSTAP_BAD_MESSAGE: no type, an enumerated value above INT32_MAX, a port above 65,535,
 * nanoseconds above 999,999,999. DNSTAP_NO_MEMORY: size is too small. Any thread. */
DNSTAP_API long dnstap_encode(const dnstap_message *m, void *out, size_t size);

/* Decodes a payload; m borrows from it, and m->policy points to policy when there is one. Unknown
 * fields are skipped, of duplicates the last counts, bit 1 of m->present is clear when the payload
 * holds no message. DNSTAP_BAD_PAYLOAD: not protobuf, a required field is missing, or not of type
 * MESSAGE. Any thread. */
DNSTAP_API int dnstap_decode(dnstap_message *m, dnstap_policy *policy, const void *payload,
                             size_t size);

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

typedef struct dnstap_frame_writer {
    dnstap_writer_state state;
    bool bidirectional;
    uint16_t sent;  /* bytes of the control frame that is going out */
    uint16_t have;  /* bytes of `control` received */
    uint8_t control[8 + DNSTAP_FRAME_CONTROL_MAX];
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

/* The side that receives data. */
typedef enum dnstap_reader_state {
    DNSTAP_READER_READY,  /* the peer sends READY (bidirectional) */
    DNSTAP_READER_START,  /* the peer sends START */
    DNSTAP_READER_DATA,   /* the peer sends data frames, then STOP */
    DNSTAP_READER_END,    /* STOP came; what follows is not read */
    DNSTAP_READER_FAILED  /* the peer broke the rules: close */
} dnstap_reader_state;

typedef struct dnstap_frame_reader {
    dnstap_reader_state state;
    bool bidirectional, owes_accept, owes_finish;
    uint16_t sent;       /* bytes of the control frame that is going out */
    uint8_t *buffer;     /* the caller's, for frames that come in pieces */
    size_t size, have;   /* of buffer */
    uint64_t skip;       /* bytes of an oversize frame still to come */
    uint64_t skipped;    /* oversize frames so far */
} dnstap_frame_reader;

typedef enum dnstap_frame_kind {
    DNSTAP_FRAME_NONE,    /* more bytes are needed */
    DNSTAP_FRAME_CONTROL, /* a control frame: its type is in `control` */
    DNSTAP_FRAME_DATA,    /* a data frame: payload, until the next call */
    DNSTAP_FRAME_SKIPPED  /* a frame larger than the buffer: payload.size is its length */
} dnstap_frame_kind;

typedef struct dnstap_frame {
    dnstap_frame_kind kind;
    uint32_t control;     /* dnstap_control, or an unknown type that was ignored */
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

/* ---- >>transport -------------------------------------------------------------------------- */

/* How bytes travel. Nothing in it blocks. start brings the connection up, step by step; send
 * returns how many bytes reached the kernel, or the next transport, entirely (1 … size); recv how
 * many came. All may return DNSTAP_AGAIN, with POLLIN and POLLOUT in *wants for what to wait for,
 * or an error; send is called again with the same bytes after AGAIN; recv returns DNSTAP_END at
 * the peer's end. close may be called in any state, and start again after it. error is a text for
 * the last failure. */
typedef struct dnstap_transport {
    void *self;
    int (*start)(void *self, short *wants);
    long (*send)(void *self, const void *data, size_t size, short *wants);
    long (*recv)(void *self, void *data, size_t size, short *wants);
    int (*shut)(void *self, short *wants);       /* orderly end, before close; may be NULL */
    void (*close)(void *self);
    int (*fd)(void *self);                       /* -1 or NULL: none, service by time */
    const char *(*error)(void *self);            /* may be NULL */
} dnstap_transport;

/* ---- >>tap -------------------------------------------------------------------------------- */

#define DNSTAP_FLUSH_NOW (-1)
#define DNSTAP_LOG_ERROR 1
#define DNSTAP_LOG_WARNING 2
#define DNSTAP_LOG_INFO 3

/* Zeroed is the default. Strings and blocks are copied when the tap opens. */
typedef struct dnstap_options {
    const char *endpoint;   /* unix:///path, /path, tcp://host:port, tls://host:port, file:///path */
    const char *identity;   /* NULL: host name; "": present and empty */
    const char *version;    /* NULL: dnstap.h-<version>; "": present and empty */
    bool full;              /* log the DNS messages too */
    bool unidirectional;    /* no handshake, as in files */
    bool drop_when_disconnected; /* drop while there is no connection; default: keep in the ring */
    bool overwrite;         /* file: begin anew; default: append */
    uint32_t producers;     /* threads that log with a ring of their own; default 8, 1 without threads */
    uint32_t queue;         /* messages a ring may hold, in units of 10,000, to 4096; default 1 */
    size_t ring_size;       /* bytes of a ring, a power of two; default: 512 (without full 128) a message */
    size_t max_message;     /* largest frame; default 66,559 with full, else 1,024 */
    uint32_t writebuffer;   /* SO_SNDBUF of tcp and tls, in MiB, to 1024; default 1 */
    int flush_ms;           /* a busy stream is packed so long; default 100; DNSTAP_FLUSH_NOW */
    int timeout_ms;         /* for each waiting step of a connection; default 4,000 */
    /* tls */
    bool skipverify;          /* don't verify the peer */
    const char *ca_file;      /* PEM; default: SSL_CERT_FILE, or the system's bundle */
    const char *cert_file;    /* PEM chain, leaf first: shown to the peer */
    const char *key_file;     /* PEM key of cert_file */
    const char *server_name;  /* verified instead of the endpoint's host */
    dnstap_bytes ca, cert, key; /* the same in memory, PEM or DER */
    const void *anchors;      /* or br_x509_trust_anchor[], which must outlive the tap */
    size_t anchor_count;
    size_t ca_memory;         /* bytes for decoded CAs and certificates; default 128 KiB */
    size_t tls_input;         /* record buffer for what is received; default 4,096, at least 837 */
    size_t tls_output;        /* for what is sent; default 16,469 (full records), at least 597 */
    /* hooks; user is theirs; called from service and its thread only, but for wake */
    void *user;
    void (*log)(void *user, int level, const char *text); /* DNSTAP_LOG_…; default: nowhere */
    uint64_t (*monotonic_ms)(void *user);                  /* default: CLOCK_MONOTONIC */
    uint64_t (*unix_time)(void *user);                     /* seconds, 0: unknown; default: time */
    bool (*entropy)(void *user, void *out, size_t size);   /* default: the system's */
    int (*resolve)(void *user, const char *host, uint16_t port, struct sockaddr *out, size_t room);
    void (*watch)(void *user, int fd, short events); /* poll events; 0: forget it, before its close */
    void (*timer)(void *user, int ms); /* call dnstap_service in so many ms; -1: no need */
    void (*wake)(void *user);          /* any thread: call dnstap_service soon; default: a descriptor */
    const dnstap_transport *transport; /* instead of endpoint's */
} dnstap_options;

typedef struct dnstap_tap dnstap_tap;

/* Checks the options and does all that needs privileges: binds, opens files, reads keys. Connects
 * nothing, starts no thread; an unreachable sink is no error. NULL on error. */
DNSTAP_API dnstap_tap *dnstap_open(const dnstap_options *options, dnstap_error *error);
/* The same in the caller's memory, of dnstap_memory_size(options) bytes (0: options are bad), which
 * must live until dnstap_close. */
DNSTAP_API dnstap_tap *dnstap_open_in(void *memory, size_t size, const dnstap_options *options,
                                      dnstap_error *error);
DNSTAP_API size_t dnstap_memory_size(const dnstap_options *options);
/* Starts a thread that services the tap, all signals blocked in it. */
DNSTAP_API int dnstap_start(dnstap_tap *tap);
/* Delivers what is queued, says STOP, waits for FINISH, and frees all, in at most timeout_ms.
 * DNSTAP_OK; DNSTAP_TIMEOUT: some messages were discarded. No other thread may be in the tap. In a
 * process that does not own the tap (neither started nor serviced it) nothing is sent. */
DNSTAP_API int dnstap_close(dnstap_tap *tap, int timeout_ms);
/* Waits until all that was logged so far is sent; DNSTAP_TIMEOUT. Not from a producer that must
 * not wait. Services the tap where no thread of its own does. */
DNSTAP_API int dnstap_flush(dnstap_tap *tap, int timeout_ms);
/* In the child, after a fork with a started tap: drops inherited connections and queued messages,
 * so that the child may start and log on its own. */
DNSTAP_API int dnstap_after_fork(dnstap_tap *tap);
/* File: end it, and go on in what is at its path now (log rotation). Any thread. */
DNSTAP_API int dnstap_reopen(dnstap_tap *tap);

/* Logs m. Any thread; never blocks, never allocates. 1: recorded; 0: not wanted; negative: why it
 * was dropped, which is counted and may be ignored. */
DNSTAP_API int dnstap_log(dnstap_tap *tap, const dnstap_message *m);
/* The same for a caller who numbers his threads 0 … producers - 1. One form for a tap, not both. */
DNSTAP_API int dnstap_log_as(dnstap_tap *tap, uint32_t producer, const dnstap_message *m);
/* Whether a message of this type would be logged: one load. */
DNSTAP_API bool dnstap_wants(const dnstap_tap *tap, uint32_t type);
DNSTAP_API void dnstap_set_enabled(dnstap_tap *tap, bool enabled);

/* In your own loop, one thread at a time: fills at most max descriptors, returns how many (at most
 * DNSTAP_POLLFDS), and the timeout for poll in ms. Call it right before each poll, and
 * dnstap_service after. */
enum { DNSTAP_POLLFDS = 4 };
DNSTAP_API int dnstap_pollfds(dnstap_tap *tap, struct pollfd *fds, int max, int *timeout_ms);
DNSTAP_API int dnstap_service(dnstap_tap *tap);

#define DNSTAP_STATES(X)                                                      \
    X(DNSTAP_IDLE, "idle")              /* nothing to do yet */               \
    X(DNSTAP_RESOLVING, "resolving")    /* looking the host's name up */      \
    X(DNSTAP_CONNECTING, "connecting")  /* the transport starts */            \
    X(DNSTAP_SECURING, "securing")      /* the TLS handshake */               \
    X(DNSTAP_GREETING, "greeting")      /* READY sent, ACCEPT awaited */      \
    X(DNSTAP_STARTED, "started")        /* messages flow */                   \
    X(DNSTAP_STOPPING, "stopping")      /* STOP sent, FINISH awaited */       \
    X(DNSTAP_SHUTTING, "shutting")      /* the transport's orderly end */     \
    X(DNSTAP_FINISHED, "finished")      /* ended in order */                  \
    X(DNSTAP_BROKEN, "broken")          /* waits before the next attempt */
typedef enum dnstap_state {
#define DNSTAP__X(name, text) name,
    DNSTAP_STATES(DNSTAP__X)
#undef DNSTAP__X
    DNSTAP_STATE_COUNT
} dnstap_state;
DNSTAP_API const char *dnstap_state_name(dnstap_state state);

/* Counters since open, pointer-wide inside: on 32-bit machines they wrap at 2^32. While no thread
 * is in log or service, logged = recorded + unwanted + dropped, dropped is the sum of its causes,
 * and recorded = sent + discarded + queued. */
typedef struct dnstap_status {
    dnstap_state state;
    uint64_t state_ms;         /* for so long */
    uint64_t logged, recorded, unwanted, dropped, queued;
    uint64_t sent, discarded;  /* handed to the kernel whole; given up by close or after a fork */
    uint64_t dropped_full, dropped_large, dropped_busy, dropped_bad, dropped_disconnected;
    uint64_t bytes;            /* of frames sent */
    uint64_t connects;         /* connections that reached STARTED */
    uint64_t failures;         /* attempts and connections that failed */
    uint64_t error_ms;         /* since the last error */
    dnstap_error error;        /* the last error; code 0: none yet */
    size_t ring_size;          /* bytes of each ring */
    uint32_t rings;            /* producers', and the shared one */
    int send_buffer;           /* SO_SNDBUF as the system has it; 0: no socket */
} dnstap_status;
/* Any thread. */
DNSTAP_API void dnstap_get_status(dnstap_tap *tap, dnstap_status *status);
/* Fill of ring 0 … status.rings - 1: bytes used, and messages. Any thread. */
DNSTAP_API void dnstap_get_ring(dnstap_tap *tap, uint32_t ring, size_t *bytes, size_t *messages);

/* ---- >>sink ------------------------------------------------------------------------------- */

typedef enum dnstap_sink_kind {
    DNSTAP_SINK_OPENED,  /* a connection was accepted, or the file opened */
    DNSTAP_SINK_MESSAGE, /* a frame; message is NULL when it can't be decoded: result says why */
    DNSTAP_SINK_SKIPPED, /* a frame larger than max_frame; frame.size is its length */
    DNSTAP_SINK_CLOSED   /* result: DNSTAP_OK after STOP, DNSTAP_END without, DNSTAP_CUT, … */
} dnstap_sink_kind;

/* What a sink hands out; all of it is borrowed until the callback returns, or until the next
 * dnstap_sink_next. */
typedef struct dnstap_received {
    dnstap_sink_kind kind;
    int result;
    const dnstap_message *message;
    dnstap_bytes frame;       /* the payload as it came */
    uint64_t index;           /* of the frame in its stream, from 0 */
    uint32_t connection;      /* number of the connection, from 1 */
    const char *peer;         /* the connection's other end, as far as it has a name */
    const char *text;         /* CLOSED with an error: what happened */
} dnstap_received;

typedef struct dnstap_sink_options {
    const char *endpoint;     /* unix:///path and /path, tcp://host:port listen; file:///path is read */
    uint32_t max_connections; /* more are closed at once; default 64 */
    size_t max_frame;         /* larger frames are skipped and counted; default 1 MiB */
    int timeout_ms;           /* for each step of a handshake; default 4,000 */
    bool unidirectional;      /* sockets: no handshake */
    void *user;
    void (*receive)(void *user, const dnstap_received *received);
    uint64_t (*monotonic_ms)(void *user);
} dnstap_sink_options;

typedef struct dnstap_sink dnstap_sink;

typedef struct dnstap_sink_status {
    uint64_t connections, open;        /* accepted so far; of those still there */
    uint64_t frames, bytes;            /* data frames */
    uint64_t skipped, undecodable;     /* frames too large; payloads that are not dnstap */
    uint64_t failed;                   /* connections that ended with an error */
} dnstap_sink_status;

/* Listens or opens the file. A unix socket nobody answers on is replaced; one in use, or another
 * kind of file, is an error. NULL on error. */
DNSTAP_API dnstap_sink *dnstap_sink_open(const dnstap_sink_options *options, dnstap_error *error);
/* In a poll loop, one thread at a time; at most max_connections + 1 descriptors. */
DNSTAP_API int dnstap_sink_pollfds(dnstap_sink *sink, struct pollfd *fds, int max, int *timeout_ms);
DNSTAP_API int dnstap_sink_service(dnstap_sink *sink);
/* File: the next frame. DNSTAP_OK with received filled in; DNSTAP_END, DNSTAP_CUT or an error
 * after the last, with received->text. */
DNSTAP_API int dnstap_sink_next(dnstap_sink *sink, dnstap_received *received);
DNSTAP_API void dnstap_sink_get_status(const dnstap_sink *sink, dnstap_sink_status *status);
DNSTAP_API void dnstap_sink_close(dnstap_sink *sink);

#ifdef __cplusplus
}
#endif
#endif /* DNSTAP_H_INCLUDED */

/* ==== Stop here if you only want the API. =================================================== */
