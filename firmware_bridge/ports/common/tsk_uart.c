#include "tsk_uart.h"

#include "tsk_clock.h"
#include "tsk_status.h"

#define STATE_TRANSMIT_FULL 1u
#define STATE_RECEIVE_FULL 2u
#define CONTROL_BOTH_WAYS 3u

static void uart_enable(tsk_uart_t *uart, uint32_t hertz) {
    if (uart->control != CONTROL_BOTH_WAYS) {
        uart->divider = hertz / TSK_UART_BAUD;
        uart->control = CONTROL_BOTH_WAYS;
    }
}

int32_t tsk_uart_read(tsk_uart_t *uart, uint32_t hertz, void *buffer, size_t size, uint32_t timeout_ms) {
    const uint32_t began = tsk_clock_milliseconds(hertz);
    uint8_t *to = buffer;
    size_t done = 0;

    uart_enable(uart, hertz);
    while (done < size) {
        if (uart->state & STATE_RECEIVE_FULL) {
            to[done++] = (uint8_t)uart->data;
        } else if (done > 0 || tsk_clock_milliseconds(hertz) - began >= timeout_ms) {
            break;
        }
    }
    return (int32_t)done;
}

int32_t tsk_uart_write(tsk_uart_t *uart, uint32_t hertz, const void *buffer, size_t size) {
    const uint8_t *from = buffer;

    uart_enable(uart, hertz);
    for (size_t i = 0; i < size; i++) {
        while (uart->state & STATE_TRANSMIT_FULL) {
        }
        uart->data = from[i];
    }
    return TSK_OK;
}
