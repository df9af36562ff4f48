/** @file
 * Arm MPS2 with application note 386: Cortex-M4F at 25 MHz. */
#define PORT_UART ((tsk_uart_t *)0x40004000u)
#define PORT_HERTZ 25000000u

#include "tsk_mps_port.h"
