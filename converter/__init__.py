"""Build machine: distils a teacher into a small student and packs it as one full-int8 `.tflite` artifact."""

import os

# Before TensorFlow is imported: errors only, and one thread. With more, sums over a batch are added in the order in
# which threads end, and a training does not repeat.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["TF_NUM_INTRAOP_THREADS"] = "1"
os.environ["TF_NUM_INTEROP_THREADS"] = "1"
