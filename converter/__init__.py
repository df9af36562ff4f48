"""Build machine: distils a teacher into a small student and packs it as one full-int8 `.tflite` artifact."""

import os

# Before TensorFlow is imported: errors only.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
