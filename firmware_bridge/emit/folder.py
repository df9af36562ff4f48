"""A folder of C with everything that it needs: whole or not at all, and never in the place of something else."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tasuki.firmware_bridge.emit.header import PORT, RUNTIME
from tasuki.firmware_bridge.semantics.fixed_point import Rounding
from tasuki.sdk.errors import FirmwareError

# What a folder of ours has: figures for programs, its layout, and the SHA-256 of each of our files.
FACTS: Final = "firmware.json"
ROUNDINGS: Final[Mapping[str, Rounding]] = {"tflm": "tflm", "single": "single"}
_CONFIG: Final = "runtime/include/tsk_config.h"
_DEFAULT: Final = b"#define TSK_ROUNDING TSK_ROUNDING_%s\n"
# What may be lost: the image, and what compilers make.
_REMADE: Final = ("image/", "build/")
_DO: Final = "move it, or choose another --out"
# Files that an error names.
_NAMED: Final = 3


def runtime_files(rounding: str = "tflm") -> dict[str, bytes]:
    """The runtime's headers and sources by their path in a generated folder; `rounding` is what is compiled by default.

    Raises FirmwareError for another rounding than ``tflm`` and ``single``.
    """
    if rounding not in ROUNDINGS:
        raise FirmwareError(f"the rounding {rounding!r} is neither of {', '.join(ROUNDINGS)}")
    found = {f"runtime/{path.relative_to(RUNTIME).as_posix()}": path for path in RUNTIME.glob("*/*.[ch]")}
    found["runtime/include/tsk_port.h"] = PORT
    files = {name: found[name].read_bytes() for name in sorted(found)}
    files[_CONFIG] = files[_CONFIG].replace(_DEFAULT % b"TFLM", _DEFAULT % rounding.upper().encode())
    return files


def write(files: Mapping[str, bytes], folder: str | Path) -> None:
    """Put generated `files` and the runtime that they are for into `folder`, as `place` does."""
    rounding = json.loads(files[FACTS])["rounding"]
    place({**runtime_files(rounding), **files}, folder)


def place(files: Mapping[str, bytes], folder: str | Path, layout: str = "build") -> None:
    """Put `files`, whose names may have sub-folders, into `folder`: made, or replaced if nothing of it can be missed.

    One of the files is FACTS, which records `layout` and the SHA-256 of every other file but those in `image/`. A
    folder of the same layout is replaced if each recorded file is as recorded or gone, and nothing else is there but
    what is made anew: `image/`, `build/` and the static library. They are written beside it first: whatever happens,
    there is the old folder or the new one. Of a symlink the folder that it leads to is meant.

    Raises FirmwareError for a folder with anything else, or of another layout, and if it can't be written.
    """
    digests = {name: hashlib.sha256(files[name]).hexdigest() for name in sorted(files) if _is_recorded(name)}
    facts = {**json.loads(files[FACTS]), "layout": layout, "files": digests}
    listed = {**files, FACTS: json.dumps(facts, indent=2, sort_keys=True).encode() + b"\n"}
    temporary = None
    try:
        real = Path(folder).resolve()
        _check_ours(real, Path(folder), layout)
        real.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{real.name}-", dir=real.parent))
        for name, content in listed.items():
            path = temporary / "new" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        if real.exists():
            real.rename(temporary / "old")
        (temporary / "new").rename(real)
    except (OSError, RuntimeError) as error:  # RuntimeError: symlinks in a circle
        if temporary is not None and (temporary / "old").exists() and not real.exists():
            (temporary / "old").rename(real)
        reason = getattr(error, "strerror", None) or error
        raise FirmwareError(f"{folder} can't be written: {reason}") from None
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def _is_recorded(name: str) -> bool:
    return name != FACTS and not name.startswith("image/")


def _check_ours(real: Path, called: Path, layout: str) -> None:
    """Nothing there, an empty folder, or one of ours in which nobody has changed or added anything."""
    if not real.exists() or (real.is_dir() and not any(real.iterdir())):
        return
    try:
        facts = json.loads((real / FACTS).read_bytes())
        digests = dict(facts["files"]) if facts["made_by"] == "tasuki" else {}
        before, remade = facts["layout"], {FACTS, f"lib{facts['name']}.a"}
    except (OSError, ValueError, TypeError, KeyError):
        digests, before, remade = {}, None, set()
    if not digests:
        raise FirmwareError(f"{called} is there and was not made by `tasuki firmware`: {_DO}")
    if before != layout:
        raise FirmwareError(f"{called} has the layout {before!r}, not {layout!r}: {_DO}")
    lost = []
    for path in sorted(real.rglob("*")):
        name = path.relative_to(real).as_posix()
        if (path.is_dir() and not path.is_symlink()) or name in remade or name.startswith(_REMADE):
            continue
        if name not in digests:
            lost.append(f"{name} (not Tasuki's)")
        elif path.is_symlink() or hashlib.sha256(path.read_bytes()).hexdigest() != digests[name]:
            lost.append(f"{name} (changed)")
    if lost:
        more = f" and {len(lost) - _NAMED} more" if len(lost) > _NAMED else ""
        raise FirmwareError(f"{called} would lose {', '.join(lost[:_NAMED])}{more}: {_DO}")
