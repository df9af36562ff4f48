#include "tsk_clock.h"

/** SysTick's registers. */
#define CONTROL (*(volatile uint32_t *)0xE000E010u)
#define RELOAD (*(volatile uint32_t *)0xE000E014u)
#define VALUE (*(volatile uint32_t *)0xE000E018u)
#define CONTROL_ON 1u
#define CONTROL_RUN 7u /* on, with its interrupt, on the processor's clock */

static volatile uint32_t wraps;

void tsk_clock_wrap(void) {
    wraps++;
}

/** Whole periods, and the ticks of the one that runs. Starts the timer at the first call. */
static uint32_t now(uint32_t hertz, uint32_t *ticks) {
    const uint32_t period = TSK_CLOCK_PERIOD(hertz);
    uint32_t before, value;

    if ((CONTROL & CONTROL_ON) == 0) {
        RELOAD = period - 1;
        VALUE = 0;
        CONTROL = CONTROL_RUN;
    }
    do {
        before = wraps;
        value = VALUE;
    } while (before != wraps);
    *ticks = value == 0 ? 0 : period - value;
    return before;
}

uint32_t tsk_clock_milliseconds(uint32_t hertz) {
    const uint32_t each = hertz / 1000u;
    uint32_t ticks;
    const uint32_t periods = now(hertz, &ticks);

    return periods * (TSK_CLOCK_PERIOD(hertz) / each) + ticks / each;
}

uint64_t tsk_clock_ticks(uint32_t hertz) {
    uint32_t ticks;
    const uint32_t periods = now(hertz, &ticks);

    return (uint64_t)periods * TSK_CLOCK_PERIOD(hertz) + ticks;
}
