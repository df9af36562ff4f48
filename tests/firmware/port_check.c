/* Uses each of the port's functions as tsk_port.h allows, says what came, then echoes. Each line is a word and a number. */
#include <stdint.h>
#include <string.h>

#include "tsk_port.h"
#include "tsk_status.h"

static void say(const char *word, int32_t number) {
    char line[40];
    size_t at = strlen(word);
    uint32_t rest = number < 0 ? 0u - (uint32_t)number : (uint32_t)number;
    char digits[10];
    size_t count = 0;

    memcpy(line, word, at);
    line[at++] = ' ';
    if (number < 0) {
        line[at++] = '-';
    }
    do {
        digits[count++] = (char)('0' + rest % 10u);
        rest /= 10u;
    } while (rest > 0);
    while (count > 0) {
        line[at++] = digits[--count];
    }
    line[at++] = '\n';
    (void)tsk_port_write(line, at);
}

static void storage(void) {
    const int32_t size = tsk_port_storage(TSK_STORAGE_SIZE, 0, NULL, 0);
    const int32_t sector = tsk_port_storage(TSK_STORAGE_SECTOR, 0, NULL, 0);
    uint8_t bytes[3] = {0, 0, 0};
    uint8_t first[3] = {0x5A, 0xF0, 0x01};
    uint8_t second[3] = {0xFF, 0x3C, 0xFF};

    say("size", size);
    say("sector", sector);
    say("read", tsk_port_storage(TSK_STORAGE_READ, (uint32_t)sector, bytes, 3));
    say("kept", bytes[0] == 0x5A && bytes[1] == 0x30 && bytes[2] == 0x01);
    say("erase", tsk_port_storage(TSK_STORAGE_ERASE, (uint32_t)sector, NULL, (size_t)sector));
    (void)tsk_port_storage(TSK_STORAGE_READ, 2u * (uint32_t)sector - 3u, bytes, 3);
    say("erased", bytes[0] == 0xFF && bytes[1] == 0xFF && bytes[2] == 0xFF);
    say("write", tsk_port_storage(TSK_STORAGE_WRITE, (uint32_t)sector, first, 3));
    (void)tsk_port_storage(TSK_STORAGE_WRITE, (uint32_t)sector, second, 3);
    (void)tsk_port_storage(TSK_STORAGE_READ, (uint32_t)sector, bytes, 3);
    /* A write only clears bits, as that of flash. */
    say("written", bytes[0] == 0x5A && bytes[1] == 0x30 && bytes[2] == 0x01);
    say("end", tsk_port_storage(TSK_STORAGE_READ, (uint32_t)size - 3u, bytes, 3));
    say("beyond", tsk_port_storage(TSK_STORAGE_READ, (uint32_t)size - 2u, bytes, 3));
    say("huge", tsk_port_storage(TSK_STORAGE_WRITE, 4u, first, SIZE_MAX));
    say("crooked", tsk_port_storage(TSK_STORAGE_ERASE, 1u, NULL, (size_t)sector));
    say("null", tsk_port_storage(TSK_STORAGE_READ, 0, NULL, 1));
}

int main(void) {
    uint8_t bytes[16] = {0};
    uint32_t before;
    uint32_t sum = 0;

    storage();
    say("entropy", tsk_port_entropy(bytes, sizeof bytes));
    for (size_t i = 0; i < sizeof bytes; i++) {
        sum += bytes[i];
    }
    say("random", sum > 0);
    before = tsk_port_milliseconds();
    say("silence", tsk_port_read(bytes, sizeof bytes, 50u));
    say("waited", (int32_t)(tsk_port_milliseconds() - before));
    for (;;) {
        const int32_t got = tsk_port_read(bytes, sizeof bytes, 1000u);

        if (got < 0) {
            return 0;
        }
        (void)tsk_port_write(bytes, (size_t)got);
    }
}
