"""The small tokenizer of the `mcu` tiers: bytes in, piece ids out, the same on any machine (SPEC.md, "Tokenizer")."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

PAD: Final = 0
UNKNOWN: Final = 1
PAD_PIECE: Final = "[PAD]"
UNKNOWN_PIECE: Final = "[UNK]"
# Longer words are one unknown piece; bounds the work per byte of text.
MAX_WORD_BYTES: Final = 64
# Words whose pieces are remembered: some hundred kilobytes at most.
_REMEMBERED: Final = 2048
_LOWER: Final = bytes(b + 32 if 65 <= b <= 90 else b for b in range(256))
_APOSTROPHE: Final = b"'"
# Every byte that is not part of a word separates words.
_SEPARATORS: Final = bytes(b if 48 <= b <= 57 or 97 <= b <= 122 or b >= 128 else 32 for b in _LOWER)


class Tokenizer:
    """Greedy longest match over a fixed vocabulary (WordPiece, Schuster and Nakajima 2012), on bytes.

    `vocabulary` lists the pieces by id; id 0 is ``[PAD]``, id 1 ``[UNK]``; pieces that continue a word start with
    ``##``. `tokens` is the length of every encoding.
    """

    def __init__(self, vocabulary: Sequence[str], tokens: int) -> None:
        if list(vocabulary[:2]) != [PAD_PIECE, UNKNOWN_PIECE]:
            raise ValueError("the vocabulary must start with [PAD] and [UNK]")
        self.tokens = tokens
        self._first: dict[bytes, int] = {}
        self._later: dict[bytes, int] = {}
        for number, piece in enumerate(vocabulary[2:], start=2):
            if piece.startswith("##") and len(piece) > 2:
                self._later[piece[2:].encode()] = number
            else:
                self._first[piece.encode()] = number
        self._known: dict[bytes, list[int]] = {}
        self._longest = max((len(p) for p in (*self._first, *self._later)), default=1)

    def encode(self, text: str) -> NDArray[np.int32]:
        """Ids of `text`, int32 [tokens], padded with 0 and cut at the end. Lone surrogates become ``?``."""
        ids = np.zeros(self.tokens, np.int32)
        pieces = self.pieces(text.encode("utf-8", "replace"))
        ids[: len(pieces)] = pieces
        return ids

    def pieces(self, text: bytes) -> list[int]:
        """Ids of the UTF-8 bytes `text`, at most `tokens` of them."""
        found: list[int] = []
        for word in text.translate(_LOWER).replace(_APOSTROPHE, b"").translate(_SEPARATORS).split():
            pieces = self._known.get(word)
            found.extend(self._remembered(word) if pieces is None else pieces)
            if len(found) >= self.tokens:
                break
        return found[: self.tokens]

    def _remembered(self, word: bytes) -> list[int]:
        pieces = self._split(word)
        if len(word) <= MAX_WORD_BYTES:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[word] = pieces
        return pieces

    def _split(self, word: bytes) -> list[int]:
        if len(word) > MAX_WORD_BYTES:
            return [UNKNOWN]
        found: list[int] = []
        start, table = 0, self._first
        while start < len(word):
            for end in range(min(len(word), start + self._longest), start, -1):
                number = table.get(word[start:end])
                if number is not None:
                    break
            else:
                return [*found, UNKNOWN]
            found.append(number)
            start, table = end, self._later
        return found
