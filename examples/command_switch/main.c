/* A switch that understands text: "turn on the kitchen light" on the serial line closes it. The answer is what was
 * understood, and how the switch stands. */
#include <string.h>

#include "model_text.h"
#include "tsk_port.h"

/* Stands in for an output pin: on your board, write to the register of a GPIO port instead. */
static volatile int pin;

static int say(const char *words) {
    return tsk_port_write(words, strlen(words));
}

/* A line of text has come. */
static int obey(void *memory, const char *text, size_t bytes) {
    const uint32_t began = tsk_port_milliseconds();
    tsk_answer_t answer;
    int status = tsk_model_classify(memory, text, bytes, &answer);

    if (status != TSK_OK) {
        return status; /* tsk_serve answers with its name */
    }
    if (answer.sure && answer.label == TSK_MODEL_LABEL_TURN_ON) {
        pin = 1;
    }
    if (answer.sure && answer.label == TSK_MODEL_LABEL_TURN_OFF) {
        pin = 0;
    }
    status = tsk_serve_answer(&answer, began);
    return status == TSK_OK ? say(pin ? "switch\ton\n" : "switch\toff\n") : status;
}

int main(void) {
    static tsk_model_text_t memory;

    if (tsk_model_check(&memory) != TSK_OK) {
        return 1;
    }
    return tsk_serve("command switch", obey, &memory) != TSK_OK;
}
