"""Names and words of a model made safe for C. Tensors are called whatever the file says, so no name is trusted."""

import functools
import re
from typing import Final

from tasuki.firmware_bridge.emit.header import PORT, RUNTIME
from tasuki.sdk.errors import FirmwareError

MAX_NAME: Final = 40
MAX_COMMENT: Final = 200
_BUILD_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,23}")
# Comments and strings of C.
_WORDS: Final = re.compile(r'/\*.*?\*/|"[^"\n]*"', re.DOTALL)
# What the names of a model's own files and functions end with: `lamp_text` beside `lamp` would be both.
_ENDINGS: Final = ("_text", "_selftest", "_serve")
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
    if name.endswith(_ENDINGS):
        raise FirmwareError(
            f"{name!r} can't be a model's name in C: those that end in {', '.join(_ENDINGS)} are of a model's own "
            "files; choose another"
        )
    taken = next((word for word in _runtime() if word.startswith(f"tsk_{name}_")), None)
    if taken:
        raise FirmwareError(f"{name!r} can't be a model's name in C: the runtime has {taken}; choose another")
    return name


@functools.cache
def _runtime() -> tuple[str, ...]:
    """All names of C that the runtime and the port declare, in order."""
    code = (_WORDS.sub("", path.read_text("utf-8")) for path in (*RUNTIME.glob("*/*.h"), PORT))
    return tuple(sorted({word for text in code for word in re.findall(r"\btsk_\w+", text)}))


def identifier(text: str, fallback: str) -> str:
    """A C name of [a-z0-9_] from what a tensor is called: ``serving_default_ids:0`` becomes ``ids``.

    ``a/b/dense_1/MatMul`` becomes ``a_b_dense_1_matmul``. Where that is too long, words before the last two are left
    out, the longest first, but none with a number: layer and kind tell tensors apart.
    """
    found = re.split(r"[^a-z0-9]+", text.split(";")[-1].split(":")[0].lower().removeprefix("serving_default_"))
    parts = [part for part in found if part]
    if not parts or not parts[0][0].isalpha():
        parts.insert(0, fallback)
    while len("_".join(parts)) > MAX_NAME:
        spare = [place for place, part in enumerate(parts[:-2]) if part.isalpha() and part != fallback]
        if not spare:
            break
        del parts[max(spare, key=lambda place: (len(parts[place]), place))]
        if not parts[0][0].isalpha():
            parts.insert(0, fallback)
    word = "_".join(parts)
    if len(word) > MAX_NAME:
        word = f"{fallback}_{word[len(fallback) + 1 - MAX_NAME :].strip('_')}"
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
