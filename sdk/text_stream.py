"""Tokens to text as they come, ended by stop strings.

Text is given as soon as no later token can change it. What comes out in pieces is, joined, what decoding all tokens
at once gives: exactly so where every token stands for bytes (byte-level BPE). Other decoders are taken to depend on no
more than the token before, and a fallback to bytes on the bytes beside it, as long as these are UTF-8.
"""

from collections.abc import Sequence
from typing import Final, Protocol

from tasuki.sdk.errors import InputError

MAX_STOPS: Final = 16
MAX_STOP_LENGTH: Final = 256
_UNKNOWN: Final = "\ufffd"
# A character has at most so many bytes that are not its last.
_UNFINISHED: Final = 3
# Tokens before one that its text may depend on: a first space is left out, and may be a token.
_AROUND: Final = 2


class Decoding(Protocol):
    """What turns ids into text. With `joins`, pieces of whole characters are the text of their ids when joined; ids in
    `skipped` have no part in a text.
    """

    joins: bool
    skipped: frozenset[int]

    def decode(self, ids: Sequence[int], /) -> str:
        """The text of `ids`."""

    def piece(self, token: int, /) -> str:
        """The text of one of them."""


class TextStream:
    """The text of one sequence of tokens, in pieces.

    The text ends where one of the strings `stop` begins: the first to be complete, of several the longest. Raises
    InputError for stop strings that can't be used.
    """

    def __init__(self, decoding: Decoding, stop: Sequence[str] = ()) -> None:
        if isinstance(stop, str) or len(stop) > MAX_STOPS:
            raise InputError(f"stop is a list of at most {MAX_STOPS} texts")
        for text in stop:
            if not (isinstance(text, str) and 1 <= len(text) <= MAX_STOP_LENGTH):
                raise InputError(f"a stop text is a str of 1 to {MAX_STOP_LENGTH} characters")
        self._decoding = decoding
        self._stop = tuple(stop)
        self._beginnings = frozenset(text[:length] for text in self._stop for length in range(1, len(text)))
        self._longest = max(map(len, self._stop), default=0)
        # Tokens whose text may still change, after one that gives them their surroundings.
        self._window: list[int] = []
        # The characters of the window's text that are known.
        self._known = 0
        self._whole = True
        self._held = ""
        self.stopped = False

    def push(self, token: int) -> str:
        """The text that is certain after one more token; mostly its own. Nothing comes after a stop string."""
        if token in self._decoding.skipped:
            return ""
        if self._whole and self._decoding.joins:
            new = self._decoding.piece(token)
            if _UNKNOWN not in new:
                if new:
                    self._window, self._known = [token], len(new)
                return self._until_stop(new) if self._stop else new
        window = self._window
        window.append(token)
        text = self._decoding.decode(window)
        self._whole = not text.endswith(_UNKNOWN)
        if not self._whole and not self._decoding.joins:
            new = ""  # a decoder of bytes may write U+FFFD for all bytes beside those that are no UTF-8
        elif not self._whole:
            certain = len(text) - min(len(text) - len(text.rstrip(_UNKNOWN)), _UNFINISHED)
            new = text[self._known : certain]
            self._known = max(self._known, certain)
        else:
            new, self._known = text[self._known :], len(text)
            around = self._decoding.decode(window[-_AROUND:])
            if self._decoding.joins or _UNKNOWN not in around:
                self._window, self._known = window[-_AROUND:], len(around)
        return self._until_stop(new) if self._stop else new

    def end(self) -> str:
        """What was held back, when no token comes any more."""
        text = "" if self.stopped else self._decoding.decode(self._window)[self._known :]
        found = self._until_stop(text) if self._stop else text
        if not self.stopped:
            found += self._held
        self._window, self._known, self._held = [], 0, ""
        return found

    def _until_stop(self, new: str) -> str:
        if self.stopped:
            return ""
        text = self._held + new
        ends = [(at + len(stop), at) for stop in self._stop if (at := text.find(stop)) >= 0]
        if ends:
            self.stopped, self._held = True, ""
            return text[: min(ends)[1]]
        for length in range(min(self._longest - 1, len(text)), 0, -1):
            if text[-length:] in self._beginnings:
                self._held = text[-length:]
                return text[:-length]
        self._held = ""
        return text
