/** @file
 * Time from SysTick on the processor's clock. It interrupts only when its 24 bits wrap, so it costs next to nothing. */
#ifndef TSK_CLOCK_H
#define TSK_CLOCK_H

#include <stdint.h>

/** Ticks between two interrupts. */
#define TSK_CLOCK_PERIOD(hertz) (0xFFFFFFu / ((hertz) / 1000u) * ((hertz) / 1000u))

/** Milliseconds since the first call; wraps after 49 days. `hertz` is the processor's clock, the same at each call. */
uint32_t tsk_clock_milliseconds(uint32_t hertz);

/** Ticks of the processor's clock since the first call. Needs no 64-bit division. */
uint64_t tsk_clock_ticks(uint32_t hertz);

/** SysTick's handler. */
void tsk_clock_wrap(void);

#endif
