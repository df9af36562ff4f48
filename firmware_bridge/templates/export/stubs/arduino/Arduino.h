/* What the exported example takes of Arduino's header of this name: enough to compile it, nothing to run. */
#ifndef ARDUINO_H
#define ARDUINO_H
#include <stddef.h>
#include <stdint.h>
class Line {
  public:
    void begin(unsigned long baud);
    size_t println(const char *words);
    size_t write(const uint8_t *bytes, size_t count);
};
extern Line Serial;
void delay(unsigned long ms);
void setup(void);
void loop(void);
#endif
