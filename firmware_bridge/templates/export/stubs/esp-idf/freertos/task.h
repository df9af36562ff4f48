/* What the exported example takes of FreeRTOS as ESP-IDF has it: enough to compile it, nothing to run. */
#ifndef FREERTOS_TASK_H
#define FREERTOS_TASK_H
#include "freertos/FreeRTOS.h"
void vTaskDelay(TickType_t ticks);
void app_main(void);
#endif
