"""Letters, numbers and white space in C: those of the package `tokenizers`, by every code point."""

import ctypes
import functools
import re
import sys

import pytest
from firmware.text_kit import compiled

from tasuki.firmware_bridge.target.image import RUNTIME
from tasuki.firmware_bridge.text import unicode

_POINTS = unicode.points()
# The function is static: the file is made a part of the test's own.
_CODE = """
#include "tsk_bpe.c"
void classify_all(uint8_t *classes, int32_t count);
void classify_all(uint8_t *classes, int32_t count) {
    for (int32_t point = 0; point < count; point++) {
        classes[point] = (uint8_t)classify(point);
    }
}
"""


@functools.cache
def _in_c() -> list[int]:
    found = (ctypes.c_uint8 * (sys.maxunicode + 1))()
    compiled(_CODE, [RUNTIME / "src" / "tsk_utf8.c"]).classify_all(found, len(found))
    return list(found)


def test_where_classes_change_they_change_in_the_package_too() -> None:
    known = _in_c()
    edges = {p for edge in range(1, len(known)) if known[edge] != known[edge - 1] for p in (edge - 1, edge, edge + 1)}
    looked_at = sorted(edges.intersection(_POINTS) | set(range(0x3000)))
    found = unicode.classes(looked_at)
    assert [f"U+{p:04X}" for p, kind in zip(looked_at, found, strict=True) if known[p] != kind] == []


@pytest.mark.slow
def test_every_code_point() -> None:
    kinds = dict(zip(_POINTS, unicode.classes(_POINTS), strict=True))
    known = _in_c()
    assert [f"U+{point:04X}" for point, kind in kinds.items() if known[point] != kind] == []
    assert unicode.header(kinds) == (RUNTIME / "src" / "tsk_unicode.h").read_text()


def test_ranges_are_written_as_the_header_says() -> None:
    kinds = [unicode.OTHER] * 200 + [unicode.LETTER] * 300 + [unicode.SPACE] + [unicode.OTHER] + [unicode.DIGIT] * 2
    assert unicode.encoded(kinds) == bytes([0x80 | 200 & 127, 1, 0x80 | (299 * 4 & 127), 299 * 4 >> 7, 0, 2, 1, 7])
    header = (RUNTIME / "src" / "tsk_unicode.h").read_text()
    named = dict(re.findall(r"(\w+) = (\d)", header))
    assert {name: int(value) for name, value in named.items()} == {
        name: getattr(unicode, name) for name in ("OTHER", "LETTER", "NUMBER", "SPACE", "DIGIT")
    }
