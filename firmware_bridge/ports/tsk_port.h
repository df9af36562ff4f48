/** @file
 * What a board gives: five functions and a linker script. A port is one short file that defines them. */
#ifndef TSK_PORT_H
#define TSK_PORT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Read up to `size` bytes from the serial line, waiting at most `timeout_ms` for the first.
 * @return how many were read, 0 if none came in time, or TSK_E_IO. */
int32_t tsk_port_read(void *buffer, size_t size, uint32_t timeout_ms);

/** Write all `size` bytes to the serial line. @return TSK_OK or TSK_E_IO. */
int32_t tsk_port_write(const void *buffer, size_t size);

/** Milliseconds since the start; wraps after 49 days. */
uint32_t tsk_port_milliseconds(void);

/** Fill `buffer` from the board's entropy source. @return TSK_OK, or TSK_E_IO if it has none that is fit for keys. */
int32_t tsk_port_entropy(void *buffer, size_t size);

/** What tsk_port_storage does. */
typedef enum {
    TSK_STORAGE_READ,  /**< copy `size` bytes at `offset` to `data` */
    TSK_STORAGE_WRITE, /**< copy `data` to `offset`; the bytes there must be erased */
    TSK_STORAGE_ERASE, /**< set `size` bytes at `offset`, a whole number of sectors, to 0xFF; `data` is ignored */
    TSK_STORAGE_SIZE,  /**< @return how many bytes there are; everything else is ignored */
    TSK_STORAGE_SECTOR /**< @return the bytes of a sector; everything else is ignored */
} tsk_storage_t;

/** Storage that survives a reset. @return TSK_OK (or the number asked for), TSK_E_ARGUMENT or TSK_E_IO. */
int32_t tsk_port_storage(tsk_storage_t what, uint32_t offset, void *data, size_t size);

#ifdef __cplusplus
}
#endif

#endif
