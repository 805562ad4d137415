/* The board: start-up, clock, serial ports, and a way to end. Registers are as in ARM's application
 * note AN385 and the CMSDK's UART. No operating system, no interrupt but the clock's. */
#include "board.h"

enum { CLOCK_HZ = 25000000, TICK = CLOCK_HZ / 1000, STACK_PAINT = 0x5A, PAINTED = 32 * 1024 };

/* ---- start-up ------------------------------------------------------------------------------- */

extern uint32_t data_start[], data_end[], data_source[], bss_start[], bss_end[], stack_top[];
int main(void);
void board_start(void);
void board_fault(void);
void board_tick(void);

static volatile uint32_t ticks;

/* Exceptions 0 to 15; no device raises an interrupt here. */
__attribute__((section(".vectors"), used)) static const void *const vectors[16] = {
    stack_top,   board_start, board_fault, board_fault, board_fault, board_fault,
    board_fault, NULL,        NULL,        NULL,        NULL,        board_fault,
    board_fault, NULL,        board_fault, board_tick,
};

#define REGISTER(address) (*(volatile uint32_t *)(address))
#define SYSTICK_CONTROL REGISTER(0xE000E010)
#define SYSTICK_RELOAD REGISTER(0xE000E014)
#define SYSTICK_VALUE REGISTER(0xE000E018)

static volatile uint32_t *uart(int port)
{
    return (volatile uint32_t *)(port == BOARD_CONSOLE ? 0x40004000u : 0x40005000u);
}
enum { UART_DATA, UART_STATE, UART_CONTROL, UART_BAUD = 4 }; /* words */
enum { UART_FULL = 1, UART_READY = 2, UART_BOTH_WAYS = 3 };

void board_start(void)
{
    uint8_t *paint = (uint8_t *)stack_top - PAINTED;
    const uint32_t *from = data_source;
    uint32_t *to;
    int port;

    while (paint < (uint8_t *)__builtin_frame_address(0) - 64) *paint++ = STACK_PAINT;
    for (to = data_start; to < data_end;) *to++ = *from++;
    for (to = bss_start; to < bss_end;) *to++ = 0;
    for (port = BOARD_CONSOLE; port <= BOARD_WIRE; port++) {
        uart(port)[UART_BAUD] = 16;
        uart(port)[UART_CONTROL] = UART_BOTH_WAYS;
    }
    SYSTICK_RELOAD = TICK - 1;
    SYSTICK_VALUE = 0;
    SYSTICK_CONTROL = 7; /* the processor's clock, an interrupt, on */
    board_exit(main());
}

void board_fault(void)
{
    board_say("fault\n");
    board_exit(1);
}

/* By semihosting: QEMU ends, with the status (SYS_EXIT_EXTENDED). */
void board_exit(int status)
{
    uint32_t reason[2] = {0x20026, (uint32_t)status};
    register uint32_t call __asm__("r0") = 0x20;
    register const uint32_t *argument __asm__("r1") = reason;

    __asm__ volatile("bkpt 0xab" : "+r"(call) : "r"(argument) : "memory");
    for (;;) {
    }
}

size_t board_stack_used(void)
{
    const uint8_t *top = (const uint8_t *)stack_top, *p = top - PAINTED;

    while (p < top && *p == STACK_PAINT) p++;
    return (size_t)(top - p);
}

/* ---- clock ---------------------------------------------------------------------------------- */

void board_tick(void) { ticks++; }

uint64_t board_ms(void) { return ticks; }

uint64_t board_ns(void)
{
    uint32_t before, value;

    do {
        before = ticks;
        value = SYSTICK_VALUE;
    } while (before != ticks);
    return ((uint64_t)before * TICK + (TICK - 1 - value)) * (1000000000 / CLOCK_HZ);
}

/* ---- serial ports --------------------------------------------------------------------------- */

bool board_put(int port, uint8_t byte)
{
    if (uart(port)[UART_STATE] & UART_FULL) return false;
    uart(port)[UART_DATA] = byte;
    return true;
}

bool board_get(int port, uint8_t *byte)
{
    if (!(uart(port)[UART_STATE] & UART_READY)) return false;
    *byte = (uint8_t)uart(port)[UART_DATA];
    return true;
}

void board_say(const char *text)
{
    for (; *text; text++) {
        while (!board_put(BOARD_CONSOLE, (uint8_t)*text)) {
        }
    }
}

void board_say_number(uint32_t number)
{
    char text[11], *p = text + sizeof text - 1;

    *p = '\0';
    do {
        *--p = (char)('0' + number % 10);
        number /= 10;
    } while (number);
    board_say(p);
}
