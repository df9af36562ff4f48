/* What moves elements and does not compute: copies between strides, constants, updates of a slice, choices. */
#include <string.h>

#include "tsk_kernels.h"

/** `count` elements of `size` bytes; steps are in bytes. A constant size makes each memcpy a load and a store. */
static void move_line(char *to, int32_t to_step, const char *from, int32_t from_step, int32_t count, int32_t size) {
    switch (size) {
    case 1:
        for (; count > 0; count--, to += to_step, from += from_step) {
            *to = *from;
        }
        break;
    case 2:
        for (; count > 0; count--, to += to_step, from += from_step) {
            memcpy(to, from, 2);
        }
        break;
    case 4:
        for (; count > 0; count--, to += to_step, from += from_step) {
            memcpy(to, from, 4);
        }
        break;
    default:
        for (; count > 0; count--, to += to_step, from += from_step) {
            memcpy(to, from, 8);
        }
        break;
    }
}

/** The next index of the outer dimensions, the last fastest; `from` and `to` follow. 0 after the last. */
static int turn(const tsk_copy_t *p, int32_t dimensions, int32_t *index, const char **from, char **to) {
    for (int32_t d = dimensions - 1; d >= 0; d--) {
        *from += p->x_stride[d] * p->size;
        *to += p->y_stride[d] * p->size;
        if (++index[d] < p->shape[d]) {
            return 1;
        }
        *from -= p->shape[d] * p->x_stride[d] * p->size;
        *to -= p->shape[d] * p->y_stride[d] * p->size;
        index[d] = 0;
    }
    return 0;
}

void tsk_copy_plain(const tsk_copy_t *p, const void *x, void *y) {
    int32_t index[TSK_MAX_DIMENSIONS] = {0};
    const char *from = x;
    char *to = y;
    /* The last dimensions that are dense on both sides are one run of bytes. */
    int32_t outer = TSK_MAX_DIMENSIONS, run = 1;
    for (; outer > 0; outer--) {
        const int32_t d = outer - 1;
        if (p->shape[d] != 1 && (p->x_stride[d] != run || p->y_stride[d] != run)) {
            break;
        }
        run *= p->shape[d];
    }
    if (run > 1 || outer == 0) {
        do {
            memcpy(to, from, (size_t)(run * p->size));
        } while (turn(p, outer, index, &from, &to));
    } else {
        outer--;
        do {
            move_line(to, p->y_stride[outer] * p->size, from, p->x_stride[outer] * p->size, p->shape[outer], p->size);
        } while (turn(p, outer, index, &from, &to));
    }
}

void tsk_fill_plain(const tsk_fill_t *p, void *y) {
    move_line(y, p->size, (const char *)&p->value, 0, p->count, p->size);
}

void tsk_update_slice_plain(const tsk_update_slice_t *p, const void *update, const int32_t *start, void *y) {
    tsk_copy_t copy = {.size = p->size, .shape = {1, 1, 1, 1, 1, 1}};
    int32_t x_stride = 1, y_stride = 1, offset = 0;
    for (int32_t d = p->dimensions - 1; d >= 0; d--) {
        const int32_t last = p->shape[d] - p->update[d];
        const int32_t first = start[d] < 0 ? 0 : start[d] > last ? last : start[d];
        offset += first * y_stride;
        copy.shape[d] = p->update[d];
        copy.x_stride[d] = x_stride;
        copy.y_stride[d] = y_stride;
        x_stride *= p->update[d];
        y_stride *= p->shape[d];
    }
    tsk_copy_plain(&copy, update, (char *)y + offset * p->size);
}

void tsk_select_plain(const tsk_select_t *p, const uint8_t *condition, const void *a, const void *b, void *y,
                      int32_t rows) {
    char *to = y;
    for (int32_t r = 0; r < rows; r++) {
        for (int32_t c = 0; c < p->columns; c++, to += p->size) {
            const char *from = condition[r * p->condition_row + c * p->condition_column]
                                   ? (const char *)a + (r * p->a_row + c * p->a_column) * p->size
                                   : (const char *)b + (r * p->b_row + c * p->b_column) * p->size;
            move_line(to, 0, from, 0, 1, p->size);
        }
    }
}
