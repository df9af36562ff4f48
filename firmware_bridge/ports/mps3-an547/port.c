/** @file
 * Arm MPS3 with application note 547: Cortex-M55 at 32 MHz, in its Secure state. */
#define PORT_UART ((tsk_uart_t *)0x59303000u)
#define PORT_HERTZ 32000000u

#include "tsk_mps_port.h"
