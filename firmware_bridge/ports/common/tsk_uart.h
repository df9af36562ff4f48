/** @file
 * Arm's CMSDK UART, which every MPS board has: polled, no interrupt. */
#ifndef TSK_UART_H
#define TSK_UART_H

#include <stddef.h>
#include <stdint.h>

#define TSK_UART_BAUD 115200u

/** The registers, in their order. */
typedef struct {
    volatile uint32_t data, state, control, interrupt, divider;
} tsk_uart_t;

/** As tsk_port_read; `hertz` is the clock of the UART and of the processor. */
int32_t tsk_uart_read(tsk_uart_t *uart, uint32_t hertz, void *buffer, size_t size, uint32_t timeout_ms);

/** As tsk_port_write. */
int32_t tsk_uart_write(tsk_uart_t *uart, uint32_t hertz, const void *buffer, size_t size);

#endif
