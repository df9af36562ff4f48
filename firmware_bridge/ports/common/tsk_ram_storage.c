#include "tsk_ram_storage.h"

#include <string.h>

#include "tsk_status.h"

/** Outside .bss: what a reset finds here stays. */
__attribute__((section(".noinit"))) static uint8_t region[TSK_RAM_STORAGE_BYTES];

int32_t tsk_ram_storage(tsk_storage_t what, uint32_t offset, void *data, size_t size) {
    const uint8_t *from = data;

    if (what == TSK_STORAGE_SIZE) {
        return (int32_t)sizeof region;
    }
    if (what == TSK_STORAGE_SECTOR) {
        return (int32_t)TSK_RAM_STORAGE_SECTOR;
    }
    if (offset > sizeof region || size > sizeof region - offset || (data == NULL && what != TSK_STORAGE_ERASE)) {
        return TSK_E_ARGUMENT;
    }
    switch (what) {
    case TSK_STORAGE_READ:
        memcpy(data, region + offset, size);
        return TSK_OK;
    case TSK_STORAGE_WRITE:
        for (size_t i = 0; i < size; i++) {
            region[offset + i] &= from[i]; /* as flash: a write only clears bits */
        }
        return TSK_OK;
    case TSK_STORAGE_ERASE:
        if (offset % TSK_RAM_STORAGE_SECTOR != 0 || size % TSK_RAM_STORAGE_SECTOR != 0) {
            return TSK_E_ARGUMENT;
        }
        memset(region + offset, 0xFF, size);
        return TSK_OK;
    default:
        return TSK_E_ARGUMENT;
    }
}
