"""A `.tflite` becomes a plan of kernel calls: read, check, lower and fuse, plan the memory."""
