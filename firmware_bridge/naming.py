"""Names and words of a model made safe for C. Tensors are called whatever the file says, so no name is trusted."""

import re
from typing import Final

from tasuki.sdk.errors import FirmwareError

MAX_NAME: Final = 31
MAX_COMMENT: Final = 200
_BUILD_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,23}")
# Keywords of C and C++, macros of the old dialects, and what the emitted code itself declares or includes.
_RESERVED: Final = frozenset(
    """
    alignas alignof and and_eq asm auto bitand bitor bool break case catch char class compl complex const constexpr
    const_cast continue decltype default delete do double dynamic_cast else enum explicit export extern false float for
    friend goto if imaginary inline int long mutable namespace new noexcept not not_eq nullptr operator or or_eq private
    protected public register reinterpret_cast restrict return short signed sizeof static static_assert static_cast
    struct switch template this thread_local throw true try typedef typeid typename typeof union unsigned using virtual
    void volatile wchar_t while xor xor_eq unix linux i386 arm main errno stdin stdout stderr
    arena at row rows status memcmp memcpy memset memmove
    int8_t int16_t int32_t int64_t uint8_t uint16_t uint32_t uint64_t intptr_t uintptr_t size_t ptrdiff_t
    """.split()  # noqa: SIM905
)
# The model's header is `<name>.h`: system headers that would be shadowed, and files that Windows can't have.
_HEADERS: Final = frozenset(
    """
    assert complex ctype errno fenv float inttypes iso646 limits locale math setjmp signal stdalign stdarg stdatomic
    stdbool stddef stdint stdio stdlib stdnoreturn string tgmath threads time uchar wchar wctype
    alloca endian features malloc memory newlib poll reent sched strings unistd aux con nul prn
    """.split()  # noqa: SIM905
)


def build_name(name: str) -> str:
    """`name` itself if it can be part of C names. Raises FirmwareError."""
    if not _BUILD_NAME.fullmatch(name) or name.startswith("tsk") or name in _RESERVED | _HEADERS:
        raise FirmwareError(
            f"{name!r} can't be a model's name in C: use up to 24 of a-z, 0-9 and _, beginning with a letter, "
            "no word or header of C, and not tsk…"
        )
    return name


def identifier(text: str, fallback: str) -> str:
    """A C name of [a-z0-9_] from what a tensor is called: ``serving_default_ids:0`` becomes ``ids``.

    Of a path it takes as many parts from the end as fit: ``a/b/dense_1/MatMul`` becomes ``b_dense_1_matmul``.
    """
    parts = re.split(r"[^a-z0-9]+", text.split(";")[-1].split(":")[0].lower().removeprefix("serving_default_"))
    word = ""
    for part in reversed([part for part in parts if part]):
        if word and len(part) + 1 + len(word) > MAX_NAME:
            break
        word = f"{part}_{word}".strip("_")
    word = word[-MAX_NAME:].strip("_")
    if not word or not word[0].isalpha():
        word = f"{fallback}_{word}"[:MAX_NAME].strip("_") if word else fallback
    return f"{word}_" if word in _RESERVED or word.startswith("tsk") else word


def comment(text: str) -> str:
    """`text` for a comment: one line, ASCII, and nothing that could end the comment or continue the line."""
    plain = re.sub(r"[^A-Za-z0-9 _.,:;+=()\[\]{}<>%&'#@^~!-]", "_", " ".join(text.split()))
    return plain if len(plain) <= MAX_COMMENT else f"{plain[: MAX_COMMENT - 3]}..."


def markdown(text: str) -> str:
    """`text` for a table or line of Markdown: no markup of its own."""
    return re.sub(r"[^A-Za-z0-9 _.,:;+=()/%'@-]", "_", " ".join(text.split()))[:MAX_COMMENT]


class Names:
    """Hands out names that are not taken yet."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def take(self, name: str) -> str:
        """`name`, or with the first number from 2 on that makes it new."""
        found, number = name, 2
        while found.lower() in self._taken:
            found, number = f"{name}_{number}", number + 1
        self._taken.add(found.lower())
        return found
