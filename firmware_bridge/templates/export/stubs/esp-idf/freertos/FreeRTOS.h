/* What the exported example takes of FreeRTOS as ESP-IDF has it: enough to compile it, nothing to run. */
#ifndef FREERTOS_H
#define FREERTOS_H
#include <stdint.h>
typedef uint32_t TickType_t;
#define pdMS_TO_TICKS(ms) ((TickType_t)(ms) / 10U)
#endif
