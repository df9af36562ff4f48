/** @file
 * Arm MPS2 with application note 505: Cortex-M33 at 20 MHz, in its Secure state. */
#define PORT_UART ((tsk_uart_t *)0x50200000u)
#define PORT_HERTZ 20000000u

#include "tsk_mps_port.h"
