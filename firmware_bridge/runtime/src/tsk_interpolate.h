/** @file
 * Functions of one int16 by a table, with a straight line between its entries. */
#ifndef TSK_INTERPOLATE_H
#define TSK_INTERPOLATE_H

#include <stdint.h>

/** `table` [513] has the values at -32768, -32640, ... 32640 and at 32767. */
static inline int32_t tsk_interpolate(const int16_t *table, int32_t x) {
    const int16_t *entry = table + 256 + (x >> 7);
    return entry[0] + (((entry[1] - entry[0]) * (x & 0x7F) + 64) >> 7);
}

#endif
