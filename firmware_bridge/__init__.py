"""Cortex-M: the artifact as C99 (to come)."""
