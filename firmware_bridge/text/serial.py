"""The host's side of the serial line in text mode: lines out, answers in (SPEC.md, "Serial line, text mode")."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

from tasuki.sdk.errors import BoardSilent

# The bytes of a line before its line feed, if the image was not built for more.
MAX_LINE_BYTES: Final = 256
# Why a line is not answered, in words.
ERRORS: Final[Mapping[str, str]] = {
    "text": "there is nothing to read in it",
    "long": f"it has more than {MAX_LINE_BYTES} bytes, which TSK_SERVE_LINE of the build sets",
    "full": "it has more tokens than the context", "selftest": "the self-test failed",
    "model": "the model could not be run",
}  # fmt: skip
ENDINGS: Final = ("stop", "length", "context")
_ESCAPE: Final = re.compile(r"\\(?:x([0-9a-f]{2})|(.))")
_PLAIN: Final = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\"}


class Line(Protocol):
    """The serial line. Both raise BoardSilent."""

    def write(self, data: bytes, /) -> None:
        """Send `data`."""

    def read_line(self) -> str:
        """One line without its end."""


@dataclass(frozen=True)
class Labelled:
    """A classifier's answer; one that is not `sure` should not be acted on alone."""

    label: str
    confidence: float
    sure: bool
    milliseconds: int

    def __str__(self) -> str:
        return f"{self.label} {self.confidence:.4f} {'sure' if self.sure else 'unsure'}, {self.milliseconds} ms"


@dataclass(frozen=True)
class Written:
    """What a causal model wrote, and why it ended: one of `ENDINGS`."""

    text: str
    ending: str
    tokens: int
    milliseconds: int

    def __str__(self) -> str:
        return f"{self.text!r} ({self.ending} after {self.tokens} tokens, {self.milliseconds} ms)"


@dataclass(frozen=True)
class Failed:
    """The line was not answered, and why: one of `ERRORS`."""

    error: str

    def __str__(self) -> str:
        return f"error: {self.error} ({ERRORS[self.error]})"


Answer: TypeAlias = Labelled | Written | Failed


def greet(line: Line) -> None:
    """Wait for the first line of a board: that it is ready for text. Raises BoardSilent if its self-test failed."""
    said = line.read_line()
    if not said.startswith("ready\t"):
        raise BoardSilent(f"the board is not ready: it said {said!r}")


def encode(text: str) -> bytes:
    """The line that asks `text`; its line feeds become spaces, and lone surrogates ``?``."""
    return text.encode("utf-8", "replace").replace(b"\n", b" ") + b"\n"


def ask(line: Line, texts: Sequence[str]) -> list[Answer]:
    """Send all `texts` and read what is answered to each.

    Only for a line that holds back what the board can't take yet, as an emulator's does: on a real one, ask one text at
    a time. Raises BoardSilent for no answer, or none of those that there are.
    """
    line.write(b"".join(map(encode, texts)))
    return [read(line) for _ in texts]


def read(line: Line) -> Answer:
    """The answer that comes next. Raises BoardSilent."""
    said = line.read_line()
    kind, _, rest = said.partition("\t")
    parts = rest.split("\t")
    if kind in ("sure", "unsure") and len(parts) == 3 and _is_number(parts[1]) and parts[2].isdecimal():
        return Labelled(parts[0], float(parts[1]), kind == "sure", int(parts[2]))
    if kind == "text":
        return _ended(_unescaped(rest), line.read_line())
    if kind == "error" and rest in ERRORS:
        return Failed(rest)
    raise BoardSilent(f"the board says {said!r}, which is no answer")


def _ended(text: str, said: str) -> Answer:
    parts = said.split("\t")
    if len(parts) == 4 and parts[0] == "done" and parts[1] in ENDINGS and parts[2].isdecimal() and parts[3].isdecimal():
        return Written(text, parts[1], int(parts[2]), int(parts[3]))
    if len(parts) == 2 and parts[0] == "error" and parts[1] in ERRORS:
        return Failed(parts[1])
    raise BoardSilent(f"the board ends a text with {said!r}")


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(lambda found: chr(int(found[1], 16)) if found[1] else _PLAIN.get(found[2], found[2]), text)


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[01]\.[0-9]{4}", text) is not None
