/* GATHER and EMBEDDING_LOOKUP. */
#include <string.h>

#include "tsk_kernels.h"

int tsk_gather_plain(const tsk_gather_t *p, const void *table, const int32_t *ids, void *y, int32_t rows) {
    const char *from = table;
    char *to = y;
    for (int32_t o = 0; o < p->outer; o++, from += p->count * p->row_bytes) {
        for (int32_t r = 0; r < rows; r++, to += p->row_bytes) {
            if (ids[r] < 0 || ids[r] >= p->count) {
                return TSK_E_INDEX;
            }
            memcpy(to, from + ids[r] * p->row_bytes, (size_t)p->row_bytes);
        }
    }
    return TSK_OK;
}
