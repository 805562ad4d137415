/* Shows dnstap.h in firmware: no operating system, no malloc, no sockets. A sensor asks for a name
 * and logs each query over the board's second serial port, at whose other end is whatever reads
 * dnstap. Build and run in QEMU: make firmware
 *
 * With FIRMWARE_TLS the same goes through TLS, with a certificate of its own: firmware_tls.h. The
 * implementation of dnstap.h is in a unit of its own, tap.c, so that what it takes can be told. */
#include "dnstap.h"

#include "board.h"
#include <string.h>

enum { MESSAGES = 1000, RING = 4096 };

#ifdef FIRMWARE_TLS
#include "firmware_tls.h"
#else
enum { MEMORY = RING + 1408 };
#define SECURITY
#endif

/* ---- what the tap needs of the board ---- */

static long wire_send(void *self, const void *data, size_t size, short *wants)
{
    const uint8_t *p = (const uint8_t *)data;
    size_t n = 0;

    (void)self;
    *wants = 0; /* it is asked again at the next service */
    while (n < size && board_put(BOARD_WIRE, p[n])) n++;
    return n ? (long)n : DNSTAP_AGAIN;
}

static long wire_recv(void *self, void *data, size_t size, short *wants)
{
    uint8_t *p = (uint8_t *)data;
    size_t n = 0;

    (void)self;
    *wants = 0;
    while (n < size && board_get(BOARD_WIRE, &p[n])) n++;
    return n ? (long)n : DNSTAP_AGAIN;
}

static void wire_close(void *self) { (void)self; }

static uint64_t clock_ms(void *user)
{
    (void)user;
    return board_ms();
}

/* Constant, in flash; the library copies none of it but what it changes. */
static const dnstap_transport wire = {.send = wire_send, .recv = wire_recv, .close = wire_close};
static const dnstap_options options = {.transport = &wire,
                                       .monotonic_ms = clock_ms,
                                       .identity = "meter-7",
                                       .version = "1.0",
                                       .full = true,
                                       .ring_size = RING,
                                       .max_message = RING / 2,
                                       SECURITY};

/* ---- the sensor ---- */

/* id and flags · one question · meter.example. · TXT IN */
static uint8_t query[] = "\0\0\1\0"
                         "\0\1\0\0\0\0\0\0"
                         "\5meter\7example\0"
                         "\0\20\0\1";
static const uint8_t me[4] = {192, 0, 2, 7}, resolver[4] = {192, 0, 2, 53};

/* Adds to *spent what dnstap_log takes, and looking at the clock. */
static int log_query(dnstap_tap *tap, uint32_t number, uint64_t *spent)
{
    dnstap_message m;
    uint64_t since;
    int result;

    query[0] = (uint8_t)(number >> 8);
    query[1] = (uint8_t)number;
    dnstap_message_start(&m, DNSTAP_MSG_STUB_QUERY);
    dnstap_set_query_ip(&m, me, sizeof me, 40000, DNSTAP_PROTOCOL_UDP);
    dnstap_set_response_ip(&m, resolver, sizeof resolver, 53, DNSTAP_PROTOCOL_UDP);
    m.query_time_sec = 1700000000 + number;
    m.query_time_nsec = number;
    m.query_message = dnstap_bytes_of(query, sizeof query - 1);
    since = board_ns();
    result = dnstap_log(tap, &m);
    if (result == 1) *spent += board_ns() - since;
    return result;
}

/* The firmware's loop: does its work, and services the tap. */
static uint64_t work(dnstap_tap *tap)
{
    uint64_t spent = 0, look = board_ns();
    uint32_t logged = 0;

    look = board_ns() - look;

    while (logged < MESSAGES) { /* a full ring has room after a turn */
        if (log_query(tap, logged, &spent) == 1) logged++;
        dnstap_service(tap);
    }
    return spent - look * MESSAGES;
}

static void say(const char *what, uint32_t number)
{
    board_say(what);
    board_say_number(number);
    board_say("\n");
}

int main(void)
{
    static uint64_t memory[MEMORY / sizeof(uint64_t)];
    dnstap_error error;
    dnstap_tap *tap;
    uint64_t spent;
    int result;

    tap = dnstap_open_in(memory, sizeof memory, &options, &error);
    if (!tap) {
        say("not opened: ", (uint32_t)-error.code);
        say("bytes needed: ", (uint32_t)dnstap_memory_size(&options));
        return 1;
    }
    spent = work(tap);
    result = dnstap_close(tap, 5000);
    say("memory of the tap beyond the ring, bytes: ",
        (uint32_t)(dnstap_memory_size(&options) - RING));
    say("most of the stack, bytes: ", (uint32_t)board_stack_used());
    say("instructions a message: ", (uint32_t)spent / MESSAGES);
    say(result == DNSTAP_OK ? "all sent: " : "not all sent of: ", MESSAGES);
    return result != DNSTAP_OK;
}
