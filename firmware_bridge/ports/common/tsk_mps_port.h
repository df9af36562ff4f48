/** @file
 * The five functions on any of Arm's MPS boards: their devices are the same, but for places and the clock. A port.c says
 * where they are (PORT_UART, a tsk_uart_t *) and how fast it is (PORT_HERTZ), and includes this file, once. */
#include "tsk_clock.h"
#include "tsk_port.h"
#include "tsk_ram_storage.h"
#include "tsk_status.h"
#include "tsk_uart.h"

int32_t tsk_port_read(void *buffer, size_t size, uint32_t timeout_ms) {
    return tsk_uart_read(PORT_UART, PORT_HERTZ, buffer, size, timeout_ms);
}

int32_t tsk_port_write(const void *buffer, size_t size) {
    return tsk_uart_write(PORT_UART, PORT_HERTZ, buffer, size);
}

uint32_t tsk_port_milliseconds(void) {
    return tsk_clock_milliseconds(PORT_HERTZ);
}

/** The board has no source that is fit for keys. */
int32_t tsk_port_entropy(void *buffer, size_t size) {
    (void)buffer;
    (void)size;
    return TSK_E_IO;
}

/** Survives a reset, not a loss of power. */
int32_t tsk_port_storage(tsk_storage_t what, uint32_t offset, void *data, size_t size) {
    return tsk_ram_storage(what, offset, data, size);
}
