"""A tool that a test needs: where it is missing the test fails and says how to install it."""

import importlib
import sys
from typing import Any

import pytest

# Triton crashes in a process that has loaded TensorFlow, and PyTorch does without it on a processor.
sys.modules["triton"] = None  # type: ignore[assignment]


def need(module: str, extra: str = "oracle") -> Any:
    """The module; fails the test if the packages of `extra` are not installed."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        pytest.fail(f"{error.name} is not installed: pip install -e '.[{extra}]'")
