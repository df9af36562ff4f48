/** @file
 * Storage in memory that start-up leaves alone, with the rules of NOR flash. It survives a reset, not a loss of power:
 * for boards whose memory map has no flash that the processor can write. */
#ifndef TSK_RAM_STORAGE_H
#define TSK_RAM_STORAGE_H

#include "tsk_port.h"

#define TSK_RAM_STORAGE_BYTES 65536u
#define TSK_RAM_STORAGE_SECTOR 4096u

/** As tsk_port_storage. After power-on it holds anything: erase before the first use. */
int32_t tsk_ram_storage(tsk_storage_t what, uint32_t offset, void *data, size_t size);

#endif
