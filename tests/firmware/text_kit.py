"""C of the text runtime as a shared library of this machine, for ctypes."""

import atexit
import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from tasuki.firmware_bridge.boards import PORTS
from tasuki.firmware_bridge.build import Generated
from tasuki.firmware_bridge.image import RUNTIME, runtime_sources

_BUILD = Path(__file__).parents[2] / "build" / "firmware-text"
_FLAGS = ("-std=c99", "-O1", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-pedantic", "-fPIC")
_NO_PORT = """
#include "tsk_port.h"
int32_t tsk_port_read(void *buffer, size_t size, uint32_t timeout_ms) {
    (void)buffer, (void)size, (void)timeout_ms;
    return -5;
}
int32_t tsk_port_write(const void *buffer, size_t size) {
    (void)buffer, (void)size;
    return -5;
}
uint32_t tsk_port_milliseconds(void) {
    return 0;
}
"""
_INCLUDE = (RUNTIME / "include", RUNTIME / "src", PORTS)


def fresh_folder() -> Path:
    """An empty folder that is there until the tests end."""
    made = tempfile.mkdtemp(prefix="tasuki-text-")
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return Path(made)


@functools.cache
def library(*names: str, code: str = "") -> ctypes.CDLL:
    """The runtime's files `names` (``tsk_tokenizer``) and `code`, C of the test's own."""
    sources = [RUNTIME / "src" / f"{name}.c" for name in names]
    runtime = (path.read_bytes() for path in sorted(RUNTIME.glob("*/*.[ch]")))
    content = b"\0".join([code.encode(), " ".join(names).encode(), *runtime])
    out = (fresh_folder() if code else _BUILD) / f"{hashlib.sha256(content).hexdigest()[:24]}.so"
    if not out.exists():
        _BUILD.mkdir(parents=True, exist_ok=True)
        extra = out.with_suffix(".c")
        extra.write_text(code or "typedef int nothing;\n")
        includes = [f"-I{folder}" for folder in _INCLUDE]
        made = out.with_suffix(f".{os.getpid()}")
        subprocess.run(["cc", *_FLAGS, *includes, "-shared", "-o", made, *sources, extra], check=True)
        made.rename(out)
    return ctypes.CDLL(str(out))


def flat(values: bytes) -> ctypes.Array[ctypes.c_uint8]:
    """`values` as memory that ends where they end."""
    return (ctypes.c_uint8 * max(1, len(values))).from_buffer_copy(values or b"\0")


def generated_library(made: Generated, code: str) -> ctypes.CDLL:
    """What was generated, the whole runtime and `code` of the test's own; what a board would give does nothing."""
    folder = fresh_folder()
    out = folder / "model.so"
    for name, content in {**made.files, "test.c": (code + _NO_PORT).encode()}.items():
        (folder / name).write_bytes(content)
    sources = [*folder.glob("*.c"), *runtime_sources()]
    includes = [f"-I{path}" for path in (folder, *_INCLUDE)]
    subprocess.run(["cc", *_FLAGS, *includes, "-shared", "-o", out, *sources], check=True)
    return ctypes.CDLL(str(out))
