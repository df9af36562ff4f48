"""Cortex-M: the artifact as C99, with the bits of TensorFlow Lite Micro."""
