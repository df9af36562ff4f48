"""Where figures come from: what every benchmark prints beside them."""

import platform
import subprocess
import time
from pathlib import Path
from typing import Any


def stamp(began: float, seed: int) -> dict[str, Any]:
    """`commit`, `machine`, `seed`, and the `seconds` since `began` (``time.monotonic()``)."""
    return {
        "commit": _commit(),
        "machine": f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}",
        "seed": seed,
        "seconds": round(time.monotonic() - began, 1),
    }


def _commit() -> str:
    done = subprocess.run(
        ["git", "rev-parse", "--short=12", "HEAD"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or "unknown"
