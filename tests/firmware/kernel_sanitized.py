"""Recorded kernel calls again, in a program with AddressSanitizer and UndefinedBehaviorSanitizer.

Every array gets memory of exactly its size, so that one byte read or written outside stops the program.
"""

import ctypes
import struct
import subprocess
from collections.abc import Sequence
from typing import Any

import numpy as np
from firmware.kernel_kit import At, Call, Compiler, build, fill, kernels, sources
from numpy.typing import NDArray

_FLAGS = ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer")
_PROGRAM = """
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tsk_kernels.h"

static void get(void *to, size_t size) {
    if (size > 0 && fread(to, 1, size, stdin) != size) {
        exit(9);
    }
}

static int32_t number(void) {
    int32_t value;
    get(&value, sizeof(value));
    return value;
}

/* kernel, or -1; arrays: size, bytes; struct: size, bytes; pointers in it: place, array; operands: array, offset; the
 * first written operand; rows. Then the status and the arrays of what is written go out. */
int main(void) {
    for (int32_t kernel = number(); kernel >= 0; kernel = number()) {
        const int32_t count = number();
        char **arrays = malloc(sizeof(char *) * (size_t)(count + 1));
        int32_t *sizes = malloc(sizeof(int32_t) * (size_t)(count + 1));
        for (int32_t n = 0; n < count; n++) {
            sizes[n] = number();
            arrays[n] = malloc((size_t)sizes[n]);
            get(arrays[n], (size_t)sizes[n]);
        }
        const size_t bytes = (size_t)number();
        char *p = malloc(bytes);
        get(p, bytes);
        for (int32_t left = number(); left > 0; left--) {
            const int32_t place = number();
            memcpy(p + place, &arrays[number()], sizeof(char *));
        }
        const int32_t operands = number();
        char *x[8];
        int32_t owner[8];
        for (int32_t n = 0; n < operands; n++) {
            owner[n] = number();
            x[n] = arrays[owner[n]];
            x[n] += number();
        }
        const int32_t written = number(), last = number(), rows = number();
        int32_t status = 0;
        switch (kernel) {
@CASES@
        default: return 8;
        }
        fwrite(&status, sizeof(status), 1, stdout);
        for (int32_t n = written; n < last; n++) {
            fwrite(arrays[owner[n]], 1, (size_t)sizes[owner[n]], stdout);
        }
        for (int32_t n = 0; n < count; n++) {
            free(arrays[n]);
        }
        free(arrays);
        free(sizes);
        free(p);
    }
    return 0;
}
"""


def replay(calls: Sequence[Call], rounding: str, compiler: Compiler = "cc") -> int:
    """Asserts that the calls made with `rounding` give the same again, and touch nothing else; how many there were."""
    mine = [call for call in calls if call.rounding == rounding]
    flags = (*_FLAGS, f"-DTSK_ROUNDING={int(rounding == 'single')}")
    program = build(".exe", compiler, flags, sources(), _PROGRAM.replace("@CASES@", _cases()))
    given = b"".join(map(_message, mine)) + struct.pack("<i", -1)
    done = subprocess.run([program], input=given, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()[-4000:]
    place = 0
    for call in mine:
        wanted = struct.pack("<i", call.status or 0) + b"".join(call.wrote)
        found = done.stdout[place : place + len(wanted)]
        assert found == wanted, f"{call.kernel} gives other bits with the sanitizers"
        place += len(wanted)
    assert place == len(done.stdout)
    return len(mine)


def _cases() -> str:
    lines = []
    for number, kernel in enumerate(kernels().values()):
        arguments = ["(const void *)p"]
        operand = 0
        for role in kernel.arguments:
            if role == "rows":
                arguments.append("rows")
            else:
                arguments.append(f"{'(const void *)' if role == 'read' else '(void *)'}x[{operand}]")
                operand += 1
        status = "status = " if kernel.status else ""
        lines.append(f"        case {number}: {status}tsk_{kernel.name}_plain({', '.join(arguments)}); break;")
    return "\n".join(lines)


def _message(call: Call) -> bytes:
    kernel = kernels()[call.kernel]
    arrays: list[NDArray[Any]] = []

    def number(array: NDArray[Any]) -> int:
        for n, known in enumerate(arrays):
            if known is array:
                return n
        arrays.append(array)
        return len(arrays) - 1

    pointers = [
        (getattr(kernel.struct, name).offset, number(call.params[name]))
        for name, kind, *_ in kernel.struct._fields_
        if kind is ctypes.c_void_p and call.params[name] is not None
    ]
    scratch = (At(np.zeros(call.scratch, np.int8)),) if "scratch" in kernel.arguments else ()
    reads, writes = iter(call.reads), iter(call.writes)
    rest = {"read": reads, "write": writes, "scratch": iter(scratch)}
    order = [role for role in kernel.arguments if role != "rows"]
    operands = [next(rest[role]) for role in order]
    first = order.index("write")
    places = [(number(x.array), x.offset * x.array.itemsize) for x in operands]
    filled = fill(kernel.struct, call.params)
    numbers = [list(kernels()).index(call.kernel), len(arrays)]
    parts = [struct.pack("<2i", *numbers)]
    for array in arrays:
        parts += [struct.pack("<i", array.nbytes), array.tobytes()]
    parts += [struct.pack("<i", ctypes.sizeof(filled)), bytes(filled), struct.pack("<i", len(pointers))]
    parts += [struct.pack("<2i", *pair) for pair in pointers]
    parts += [struct.pack("<i", len(places)), *(struct.pack("<2i", *pair) for pair in places)]
    parts.append(struct.pack("<3i", first, first + len(call.writes), 0 if call.rows is None else call.rows))
    return b"".join(parts)
