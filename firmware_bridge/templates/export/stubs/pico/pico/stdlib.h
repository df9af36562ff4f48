/* What the exported example takes of the Pico SDK's header of this name: enough to compile it, nothing to run. */
#ifndef PICO_STDLIB_H
#define PICO_STDLIB_H
#include <stdbool.h>
#include <stdint.h>
bool stdio_init_all(void);
void sleep_ms(uint32_t ms);
#endif
