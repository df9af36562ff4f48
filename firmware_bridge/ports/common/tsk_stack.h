/** @file
 * How deep the stack got, by painting it: for images that measure. */
#ifndef TSK_STACK_H
#define TSK_STACK_H

#include <stdint.h>

/** Paint what is free below the caller, down to the end of the data, but TSK_STACK_PAINTED bytes at most. */
#define TSK_STACK_PAINTED 65536u
void tsk_stack_paint(void);

/** Bytes from the stack's top to the deepest word whose paint is gone. */
uint32_t tsk_stack_peak(void);

#endif
