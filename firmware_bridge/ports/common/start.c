/** @file
 * What runs before main: memory, the floating-point unit, and Helium where the core has it. */
#include <stdint.h>

#include "tsk_port.h"

/** The linker script's symbols; only their addresses mean something. */
extern uint32_t tsk_link_data_load[], tsk_link_data_start[], tsk_link_data_end[];
extern uint32_t tsk_link_bss_start[], tsk_link_bss_end[], tsk_link_stack_top[];

extern int main(void);
extern void tsk_clock_wrap(void);
void tsk_start(void);

/** Coprocessor Access Control Register: bits 20 to 23 open the floating-point unit and Helium. */
#define CPACR (*(volatile uint32_t *)0xE000ED88u)
#define CPACR_FLOAT (0xFu << 20)

/** An exception that nobody expects: says so, and stops. */
static void stop(void) {
    static const char words[] = "tsk fault\n";

    (void)tsk_port_write(words, sizeof words - 1);
    for (;;) {
    }
}

void tsk_start(void) {
    const uint32_t *from = tsk_link_data_load;

    CPACR |= CPACR_FLOAT;
    __asm volatile("dsb\n isb" ::: "memory");
    /* Volatile: so that the compiler puts no call of memcpy and memset here, which nobody else may need. */
    for (volatile uint32_t *to = tsk_link_data_start; to < tsk_link_data_end;) {
        *to++ = *from++;
    }
    for (volatile uint32_t *to = tsk_link_bss_start; to < tsk_link_bss_end;) {
        *to++ = 0;
    }
    (void)main();
    for (;;) {
    }
}

/** The first sixteen entries of the vector table; no device interrupt is used. */
typedef struct {
    const uint32_t *stack;
    void (*handler[15])(void);
} tsk_vectors_t;

__attribute__((section(".tsk_vectors"), used)) static const tsk_vectors_t vectors = {
    tsk_link_stack_top,
    {
        tsk_start, /* Reset */
        stop,      /* NMI */
        stop,      /* HardFault */
        stop,      /* MemManage */
        stop,      /* BusFault */
        stop,      /* UsageFault */
        stop,      /* SecureFault */
        stop, stop, stop,
        stop,          /* SVCall */
        stop, stop,    /* DebugMonitor */
        stop,          /* PendSV */
        tsk_clock_wrap /* SysTick */
    }};
