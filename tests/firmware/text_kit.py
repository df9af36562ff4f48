"""C of the text runtime as a shared library of this machine, for ctypes."""

import atexit
import ctypes
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from firmware import host_kit
from firmware.kernel_kit import FLAGS, includes

from tasuki.firmware_bridge.build import Generated
from tasuki.firmware_bridge.emit.header import RUNTIME
from tasuki.firmware_bridge.target import boards


def fresh_folder() -> Path:
    """An empty folder that is there until the tests end."""
    made = tempfile.mkdtemp(prefix="tasuki-text-")
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return Path(made)


def flat(values: bytes) -> ctypes.Array[ctypes.c_uint8]:
    """`values` as memory that ends where they end."""
    return (ctypes.c_uint8 * max(1, len(values))).from_buffer_copy(values or b"\0")


def compiled(code: str, sources: Sequence[Path] = ()) -> ctypes.CDLL:
    """`code` of the test's own with `sources`, and nothing of it kept."""
    folder = fresh_folder()
    (folder / "test.c").write_text(code)
    out = folder / "test.so"
    subprocess.run(
        ["cc", *FLAGS, "-fPIC", *includes(), "-shared", "-o", out, folder / "test.c", *sources], check=True
    )  # fmt: skip
    return ctypes.CDLL(str(out))


def generated_library(made: Generated, code: str) -> ctypes.CDLL:
    """What was generated, the runtime, this machine's port, and `code` of the test's own."""
    line = [RUNTIME / "src" / "tsk_serve.c", boards.get("host").port / "port.c"]
    files = {**made.files, "test.c": code.encode(), **{path.name: path.read_bytes() for path in line}}
    return ctypes.CDLL(str(host_kit.compile_c(files, "shared")))
