"""Makes `tsk_unicode.h`: which characters are letters, numbers and white space to the pre-tokenizers of `tokenizers`.

    python -m tasuki.firmware_bridge.text.unicode > firmware_bridge/runtime/src/tsk_unicode.h

What the package does is asked of the package: its tables are of other versions of Unicode than Python's.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from tokenizers import pre_tokenizers

from tasuki.firmware_bridge.text.c_code import integers

OTHER: Final = 0
LETTER: Final = 1
NUMBER: Final = 2
SPACE: Final = 3
# A number to `Digits`, but not to the expression of `ByteLevel`, whose tables are older.
DIGIT: Final = 4
_SURROGATES: Final = range(0xD800, 0xE000)
_PART: Final = 20_000
_HEADER: Final = """\
/* Letters, numbers and white space as the package `tokenizers` knows them, as ranges of code points: how many
 * there are since the last range, then (length - 1) * 4 + class - 1. Both are in groups of 7 bits, the lowest
 * first, the last without its upper bit. Made by tasuki.firmware_bridge.text.unicode. */
#ifndef TSK_UNICODE_H
#define TSK_UNICODE_H

#include <stdint.h>

enum {{ OTHER = 0, LETTER = 1, NUMBER = 2, SPACE = 3, DIGIT = 4 }};

static const uint8_t character_ranges[{bytes}] = {{
{table}
}};

#endif
"""


def classes(wanted: Sequence[int]) -> list[int]:
    """The class of each code point, as the installed package sees it."""
    expression = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    letters = _joined(expression, wanted, "a{}!")
    numbers = _joined(expression, wanted, "1{}!")
    rest = [point for point in wanted if not letters[point] and not numbers[point]]
    others = _joined(expression, rest, "!{}a")
    digits = _alone(wanted)
    found = []
    for point in wanted:
        kind = LETTER if letters[point] else NUMBER if numbers[point] else OTHER if others[point] else SPACE
        found.append(DIGIT if kind == OTHER and point in digits else kind)
        if (kind == NUMBER) > (point in digits):
            raise ValueError(f"U+{point:04X} is a number to ByteLevel and not to Digits")
    return found


def encoded(kinds: Sequence[int]) -> bytes:
    """The ranges of equal class among all code points: what is between two, then the length and class of one.

    Both are in groups of 7 bits, the lowest first, the last without its upper bit: characters since the last range,
    and ``(length - 1) * 4 + class - 1``.
    """
    found, last = bytearray(), 0
    for begin, end, kind in _ranges(kinds):
        found += _groups(begin - last) + _groups((end - begin - 1) * 4 + kind - 1)
        last = end
    return bytes(found)


def _ranges(kinds: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    begin = 0
    for at in range(1, len(kinds) + 1):
        if at == len(kinds) or kinds[at] != kinds[begin]:
            if kinds[begin] != OTHER:
                yield begin, at, kinds[begin]
            begin = at


def _groups(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])


def _joined(splitter: pre_tokenizers.PreTokenizer, wanted: Sequence[int], form: str) -> dict[int, bool]:
    """Whether each point belongs to the piece of what stands before it in `form`, which ends with another piece."""
    found: dict[int, bool] = {}
    for part in _parts(wanted):
        begins = {begin for _, (begin, _) in splitter.pre_tokenize_str("".join(form.format(chr(p)) for p in part))}
        found |= {point: 3 * place + 1 not in begins for place, point in enumerate(part)}
    return found


def _alone(wanted: Sequence[int]) -> set[int]:
    splitter = pre_tokenizers.Digits(individual_digits=True)
    return {
        ord(piece)
        for part in _parts(wanted)
        for piece, _ in splitter.pre_tokenize_str("".join(f"aa{chr(p)}" for p in part) + "aa")
        if len(piece) == 1
    }


def _parts(wanted: Sequence[int]) -> Iterator[Sequence[int]]:
    return (wanted[at : at + _PART] for at in range(0, len(wanted), _PART))


def points() -> list[int]:
    """Every code point that is a character's."""
    return [point for point in range(sys.maxunicode + 1) if point not in _SURROGATES]


def header(kinds: Mapping[int, int]) -> str:
    """The header's text; `kinds` has the class of each of `points`."""
    table = encoded([kinds.get(point, OTHER) for point in range(sys.maxunicode + 1)])
    return _HEADER.format(bytes=len(table), table=integers(table))


if __name__ == "__main__":
    sys.stdout.write(header(dict(zip(points(), classes(points()), strict=True))))
