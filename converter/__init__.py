"""Build machine: distils a teacher into a small student and packs it as one full-int8 `.tflite` artifact."""

import os

# Before TensorFlow is imported: no start-up chatter, and the same sums on every x86 machine.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
