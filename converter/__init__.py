"""Build machine: distils a teacher into a small student and packs it as one full-int8 `.tflite` artifact."""
