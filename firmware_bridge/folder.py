"""A folder of C with everything that it needs: whole or not at all, and never in the place of something else."""

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tasuki.firmware_bridge.header import RUNTIME
from tasuki.firmware_bridge.semantics.fixed_point import Rounding
from tasuki.sdk.errors import FirmwareError

# What a folder of ours has: figures for programs, and which files are ours.
FACTS: Final = "firmware.json"
ROUNDINGS: Final[Mapping[str, Rounding]] = {"tflm": "tflm", "single": "single"}
_CONFIG: Final = "runtime/include/tsk_config.h"
_DEFAULT: Final = b"#define TSK_ROUNDING TSK_ROUNDING_%s\n"
_COMPILED: Final = (".o", ".a")
_PORT: Final = Path(__file__).parent / "ports" / "tsk_port.h"


def runtime_files(rounding: str = "tflm") -> dict[str, bytes]:
    """The runtime's headers and sources by their path in a generated folder; `rounding` is what is compiled by default.

    Raises FirmwareError for another rounding than ``tflm`` and ``single``.
    """
    if rounding not in ROUNDINGS:
        raise FirmwareError(f"the rounding {rounding!r} is neither of {', '.join(ROUNDINGS)}")
    found = {f"runtime/{path.relative_to(RUNTIME).as_posix()}": path for path in RUNTIME.glob("*/*.[ch]")}
    found["runtime/include/tsk_port.h"] = _PORT
    files = {name: found[name].read_bytes() for name in sorted(found)}
    files[_CONFIG] = files[_CONFIG].replace(_DEFAULT % b"TFLM", _DEFAULT % rounding.upper().encode())
    return files


def write(files: Mapping[str, bytes], folder: str | Path) -> None:
    """Put generated `files` and the runtime that they are for into `folder`, as `place` does."""
    rounding = json.loads(files[FACTS])["rounding"]
    place({**runtime_files(rounding), **files}, folder)


def place(files: Mapping[str, bytes], folder: str | Path) -> None:
    """Put `files`, whose names may have sub-folders, into `folder`: made, or replaced if all in it is ours.

    One of the files is FACTS, which lists them all, so that the next time nothing is lost that somebody else put there.
    They are written beside it first: whatever happens, there is the old folder or the new one.

    Raises FirmwareError for a folder that Tasuki did not make or that has other files, and if it can't be written.
    """
    folder = Path(folder)
    facts = {**json.loads(files[FACTS]), "files": sorted(files)}
    listed = {**files, FACTS: json.dumps(facts, indent=2, sort_keys=True).encode() + b"\n"}
    temporary = None
    try:
        _check_ours(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        for name, content in listed.items():
            path = temporary / "new" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        if folder.exists():
            folder.rename(temporary / "old")
        (temporary / "new").rename(folder)
    except OSError as error:
        if temporary is not None and (temporary / "old").exists() and not folder.exists():
            (temporary / "old").rename(folder)
        raise FirmwareError(f"{folder} can't be written: {error.strerror or error}") from None
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def _check_ours(folder: Path) -> None:
    """Nothing there, an empty folder, or one with our files alone; what a compiler makes of them may be lost."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    try:
        facts = json.loads((folder / FACTS).read_bytes())
        known = set(facts["files"]) if facts["made_by"] == "tasuki" else set()
    except (OSError, ValueError, TypeError, KeyError):
        known = set()
    if not known:
        raise FirmwareError(f"{folder} is there and was not made by `tasuki firmware`: name another, or remove it")
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not path.is_dir() and name not in known and path.suffix not in _COMPILED:
            raise FirmwareError(f"{folder} has {name}, which Tasuki did not make: move it away, or name another folder")
