#include "tsk_stack.h"

#define PAINT 0xA5C35A3Cu
/** Words below this file's own frame that are left alone. */
#define MARGIN 16

extern uint32_t tsk_link_end[], tsk_link_stack_top[];

/** Where the paint ends below. */
static uint32_t *floor_of(uint32_t *top) {
    const uint32_t words = TSK_STACK_PAINTED / sizeof(uint32_t);

    return (uint32_t)(top - tsk_link_end) > words ? top - words : tsk_link_end;
}

void tsk_stack_paint(void) {
    uint32_t *const from = floor_of(tsk_link_stack_top);
    const uint32_t *const to = (uint32_t *)__builtin_frame_address(0) - MARGIN;

    for (volatile uint32_t *word = from; word < to; word++) {
        *word = PAINT;
    }
}

uint32_t tsk_stack_peak(void) {
    const uint32_t *word = floor_of(tsk_link_stack_top);

    while (word < tsk_link_stack_top && *word == PAINT) {
        word++;
    }
    return (uint32_t)((uintptr_t)tsk_link_stack_top - (uintptr_t)word);
}
