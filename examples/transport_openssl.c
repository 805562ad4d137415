/* Shows TLS 1.3, which BearSSL has not, by OpenSSL as a transport of your own. Build (libssl-dev):
 * make build/transport_openssl
 *   cc -I. -DDNSTAP_NO_TLS -o build/transport_openssl examples/transport_openssl.c \
 *       -lprotobuf-nanopb -lpthread -lssl -lcrypto
 *
 *   build/transport_openssl HOST PORT CA.pem [COUNT]     logs COUNT (1) messages to what is there
 *
 * Whoever listens must show a certificate for HOST by a CA in CA.pem. */
#define _DEFAULT_SOURCE
#define DNSTAP_IMPLEMENTATION
#include "dnstap.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

typedef struct secure {
    char *host;
    struct addrinfo *address;
    SSL_CTX *context;
    SSL *ssl; /* NULL: no connection */
    int fd;   /* -1: closed */
    char error[160];
} secure;

/* What OpenSSL says about a call that has returned `result`: what to wait for, or why it failed. */
static int explain(secure *s, int result, short *wants)
{
    int saved = errno, why = SSL_get_error(s->ssl, result);
    unsigned long code = ERR_get_error();
    long verified = SSL_get_verify_result(s->ssl);
    *wants = 0;
    if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE) {
        *wants = why == SSL_ERROR_WANT_READ ? DNSTAP_POLLIN : DNSTAP_POLLOUT;
        return DNSTAP_AGAIN;
    }
    if (why == SSL_ERROR_ZERO_RETURN) return DNSTAP_END;
    if (verified != X509_V_OK)
        snprintf(s->error, sizeof s->error, "%s", X509_verify_cert_error_string(verified));
    else if (code)
        ERR_error_string_n(code, s->error, sizeof s->error);
    else
        snprintf(s->error, sizeof s->error, "%s",
                 saved ? strerror(saved) : "closed without TLS's end");
    return DNSTAP_TLS;
}

static int failed(secure *s, int sys_errno)
{
    snprintf(s->error, sizeof s->error, "%s", strerror(sys_errno));
    return DNSTAP_SYSTEM;
}

/* A connection on its way, and TLS to go over it. */
static int begin(secure *s)
{
    const struct addrinfo *a = s->address;
    s->fd = socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (s->fd < 0) return failed(s, errno);
    if (connect(s->fd, a->ai_addr, a->ai_addrlen) < 0 && errno != EINPROGRESS) {
        return failed(s, errno);
    }
    s->ssl = SSL_new(s->context);
    if (!s->ssl || !SSL_set_fd(s->ssl, s->fd) || !SSL_set1_host(s->ssl, s->host) ||
        !SSL_set_tlsext_host_name(s->ssl, s->host)) {
        return failed(s, ENOMEM);
    }
    SSL_set_connect_state(s->ssl);
    return DNSTAP_OK;
}

/* Called until it returns something else than DNSTAP_AGAIN: first TCP's handshake, then TLS's. */
static int secure_start(void *self, short *wants)
{
    secure *s = (secure *)self;
    struct sockaddr_storage peer;
    socklen_t size = sizeof peer, length = sizeof(int);
    int result = s->fd < 0 ? begin(s) : DNSTAP_OK, problem = 0;
    *wants = DNSTAP_POLLOUT;
    if (result < 0) return result;
    if (getpeername(s->fd, (struct sockaddr *)&peer, &size) < 0) {
        getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &problem, &length);
        return problem ? failed(s, problem) : DNSTAP_AGAIN;
    }
    ERR_clear_error();
    result = SSL_connect(s->ssl);
    return result == 1 ? DNSTAP_OK : explain(s, result, wants);
}

static long secure_send(void *self, const void *data, size_t size, short *wants)
{
    secure *s = (secure *)self;
    int n;
    ERR_clear_error();
    n = SSL_write(s->ssl, data, size < 16384 ? (int)size : 16384); /* a record at most */
    return n > 0 ? n : explain(s, n, wants);
}

static long secure_recv(void *self, void *data, size_t size, short *wants)
{
    secure *s = (secure *)self;
    int n;
    ERR_clear_error();
    n = SSL_read(s->ssl, data, size < 16384 ? (int)size : 16384);
    return n > 0 ? n : explain(s, n, wants);
}

static int secure_shut(void *self, short *wants)
{
    secure *s = (secure *)self;
    int result;
    ERR_clear_error();
    result = SSL_shutdown(s->ssl);
    return result >= 0 ? DNSTAP_OK : explain(s, result, wants);
}

static void secure_close(void *self)
{
    secure *s = (secure *)self;
    SSL_free(s->ssl);
    if (s->fd >= 0) close(s->fd);
    s->ssl = NULL;
    s->fd = -1;
}

static int secure_fd(void *self) { return ((secure *)self)->fd; }

static const char *secure_error(void *self) { return ((secure *)self)->error; }

static void note(void *user, int level, const char *text)
{
    (void)user, (void)level;
    fprintf(stderr, "%s\n", text);
}

/* What costs time and memory is done before the tap opens: the name's address, the CAs. */
static bool prepare(secure *s, char **argv)
{
    struct addrinfo hints = {0};
    hints.ai_socktype = SOCK_STREAM;
    s->host = argv[1];
    s->fd = -1;
    s->context = SSL_CTX_new(TLS_client_method());
    if (getaddrinfo(argv[1], argv[2], &hints, &s->address) != 0) {
        return fprintf(stderr, "%s: no such host or port\n", argv[1]), false;
    }
    if (!s->context || !SSL_CTX_load_verify_file(s->context, argv[3])) {
        return fprintf(stderr, "%s: no certificate can be read there\n", argv[3]), false;
    }
    SSL_CTX_set_min_proto_version(s->context, TLS1_3_VERSION);
    SSL_CTX_set_verify(s->context, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_mode(s->context, SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    return true;
}

int main(int argc, char **argv)
{
    static secure s;
    dnstap_transport transport = {&s,          secure_start, secure_send, secure_recv,
                                  secure_shut, secure_close, secure_fd,   secure_error};
    dnstap_options options = {0};
    dnstap_error error;
    long count = argc > 4 ? atol(argv[4]) : 1, i;
    int result;
    if (argc < 4) return fprintf(stderr, "usage: %s HOST PORT CA.pem [COUNT]\n", argv[0]), 2;
    if (!prepare(&s, argv)) return 1;
    signal(SIGPIPE, SIG_IGN); /* OpenSSL writes without MSG_NOSIGNAL */
    options.transport = &transport;
    options.full = true;
    options.log = note;
    dnstap_tap *tap = dnstap_open(&options, &error);
    if (!tap) return fprintf(stderr, "%s\n", error.text), 1;
    dnstap_start(tap);
    for (i = 0; i < count; i++) {
        dnstap_message m;
        dnstap_message_start(&m, DNSTAP_MSG_STUB_QUERY);
        m.query_message = dnstap_bytes_of("\x12\x34\1\0\0\1\0\0\0\0\0\0\0\0\2\0\1", 17);
        dnstap_log(tap, &m);
    }
    result = dnstap_close(tap, 10000);
    freeaddrinfo(s.address);
    SSL_CTX_free(s.context);
    return result < 0;
}
