/** @file
 * A POSIX process in the place of a board: the serial line is standard input and output, storage a file. */
#define _POSIX_C_SOURCE 200809L /* NOLINT: POSIX reserves this name for programs to define */

#include "tsk_port.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "tsk_status.h"

#define STORAGE_BYTES 65536u
#define STORAGE_SECTOR 4096u

int32_t tsk_port_read(void *buffer, size_t size, uint32_t timeout_ms) {
    struct pollfd wait = {STDIN_FILENO, POLLIN, 0};
    const int found = poll(&wait, 1, timeout_ms > INT32_MAX ? INT32_MAX : (int)timeout_ms);
    ssize_t done;

    if (found == 0 || (found < 0 && errno == EINTR)) {
        return 0;
    }
    if (found < 0) {
        return TSK_E_IO;
    }
    done = read(STDIN_FILENO, buffer, size);
    return done > 0 ? (int32_t)done : TSK_E_IO; /* the end of the input is a line that was cut */
}

int32_t tsk_port_write(const void *buffer, size_t size) {
    const char *from = buffer;

    while (size > 0) {
        const ssize_t done = write(STDOUT_FILENO, from, size);

        if (done <= 0) {
            return TSK_E_IO;
        }
        from += done;
        size -= (size_t)done;
    }
    return TSK_OK;
}

uint32_t tsk_port_milliseconds(void) {
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint32_t)((uint64_t)now.tv_sec * 1000u + (uint64_t)now.tv_nsec / 1000000u);
}

/** Read or write all `size` bytes of a file. */
static int32_t transfer(int file, int writes, uint8_t *data, size_t size) {
    while (size > 0) {
        const ssize_t done = writes ? write(file, data, size) : read(file, data, size);

        if (done <= 0) {
            return TSK_E_IO;
        }
        data += done;
        size -= (size_t)done;
    }
    return TSK_OK;
}

int32_t tsk_port_entropy(void *buffer, size_t size) {
    const int file = open("/dev/urandom", O_RDONLY);
    int32_t status;

    if (file < 0) {
        return TSK_E_IO;
    }
    status = transfer(file, 0, buffer, size);
    (void)close(file);
    return status;
}

/** The file that TASUKI_STORAGE names, made erased when it is not there. @return its descriptor, or negative. */
static int storage_open(void) {
    const char *named = getenv("TASUKI_STORAGE");
    const int file = open(named != NULL ? named : "tasuki-storage.bin", O_RDWR | O_CREAT, 0600);
    struct stat about;
    uint8_t erased[256];

    if (file < 0 || fstat(file, &about) != 0 || about.st_size == (off_t)STORAGE_BYTES) {
        return file;
    }
    memset(erased, 0xFF, sizeof erased);
    for (size_t i = 0; i < STORAGE_BYTES / sizeof erased; i++) {
        if (transfer(file, 1, erased, sizeof erased) != TSK_OK) {
            (void)close(file);
            return -1;
        }
    }
    return file;
}

/** Set `size` bytes, or write them as flash does: a write only clears bits. */
static int32_t storage_put(int file, uint32_t offset, const uint8_t *data, size_t size) {
    uint8_t chunk[256] = {0};
    int32_t status = TSK_OK;

    while (size > 0 && status == TSK_OK) {
        const size_t part = size < sizeof chunk ? size : sizeof chunk;

        if (data == NULL) {
            memset(chunk, 0xFF, part);
        } else {
            status = lseek(file, (off_t)offset, SEEK_SET) < 0 ? TSK_E_IO : transfer(file, 0, chunk, part);
            for (size_t i = 0; i < part && status == TSK_OK; i++) {
                chunk[i] &= data[i];
            }
            data += part;
        }
        if (status == TSK_OK) {
            status = lseek(file, (off_t)offset, SEEK_SET) < 0 ? TSK_E_IO : transfer(file, 1, chunk, part);
        }
        offset += (uint32_t)part;
        size -= part;
    }
    return status == TSK_OK && fsync(file) != 0 ? TSK_E_IO : status;
}

int32_t tsk_port_storage(tsk_storage_t what, uint32_t offset, void *data, size_t size) {
    int32_t status;
    int file;

    if (what == TSK_STORAGE_SIZE) {
        return (int32_t)STORAGE_BYTES;
    }
    if (what == TSK_STORAGE_SECTOR) {
        return (int32_t)STORAGE_SECTOR;
    }
    if (offset > STORAGE_BYTES || size > STORAGE_BYTES - offset || (data == NULL && what != TSK_STORAGE_ERASE) ||
        (what == TSK_STORAGE_ERASE && (offset % STORAGE_SECTOR != 0 || size % STORAGE_SECTOR != 0))) {
        return TSK_E_ARGUMENT;
    }
    file = storage_open();
    if (file < 0) {
        return TSK_E_IO;
    }
    if (what == TSK_STORAGE_READ) {
        status = lseek(file, (off_t)offset, SEEK_SET) < 0 ? TSK_E_IO : transfer(file, 0, data, size);
    } else {
        status = storage_put(file, offset, what == TSK_STORAGE_WRITE ? data : NULL, size);
    }
    (void)close(file);
    return status;
}
