/* All that firmware.c wants of the machine: ARM's mps2-an385 (a Cortex-M3), as QEMU plays it. Port
 * this file and the linker script, and the rest runs on another board. */
#ifndef BOARD_H_INCLUDED
#define BOARD_H_INCLUDED

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { BOARD_CONSOLE, BOARD_WIRE }; /* the serial ports: for people, and for dnstap */

/* Milliseconds since it was started. */
uint64_t board_ms(void);

/* Nanoseconds, which QEMU with -icount shift=0 makes instructions: to measure with. */
uint64_t board_ns(void);

/* What a serial port takes or has at the moment, without waiting. */
bool board_put(int port, uint8_t byte);
bool board_get(int port, uint8_t *byte);

/* Text, or a number, to the console. Waits. */
void board_say(const char *text);
void board_say_number(uint32_t number);

/* The most bytes of stack that were ever in use. */
size_t board_stack_used(void);

/* Ends the run; status as main's. */
void board_exit(int status);

#endif
