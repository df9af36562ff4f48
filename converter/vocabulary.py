"""The student's vocabulary: the teacher's, pruned; and first embeddings taken from the teacher's."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tasuki.converter import teacher
from tasuki.sdk.tokenizer import PAD_PIECE, UNKNOWN_PIECE, Tokenizer

Floats = NDArray[np.float32]
_SINGLES = "abcdefghijklmnopqrstuvwxyz0123456789"


def prune(texts: Sequence[str], size: int) -> list[str]:
    """`size` pieces: single characters (so that no ASCII word is unknown), pieces of `texts`, then frequent others."""
    usable = [p for p in teacher.word_pieces() if p.isascii() and p.removeprefix("##").isalnum() and p == p.lower()]
    whole = [PAD_PIECE, UNKNOWN_PIECE, *usable]
    tokenizer = Tokenizer(whole, 64)
    counts = Counter(i for text in texts for i in tokenizer.pieces(text.encode()))
    wanted = [PAD_PIECE, UNKNOWN_PIECE, *_SINGLES, *(f"##{c}" for c in _SINGLES)]
    wanted += [whole[i] for i, _ in sorted(counts.items(), key=lambda entry: (-entry[1], entry[0])) if i > 1]
    wanted += [piece for piece in usable if len(piece.removeprefix("##")) > 2]
    return list(dict.fromkeys(wanted))[:size]


def embeddings(pieces: Sequence[str], width: int) -> Floats:
    """First embeddings, float32 [pieces, width]: the teacher's rows on their `width` main axes (PCA), unit variance.

    So a piece that the training text never holds still means about what it meant to the teacher.
    """
    table = teacher.weights()["embeddings.word_embeddings.weight"]
    number = {piece: i for i, piece in enumerate(teacher.word_pieces())}
    rows = table[[number[piece] for piece in pieces]]
    rows = rows - rows.mean(0)
    _, _, axes = np.linalg.svd(rows, full_matrices=False)
    projected = rows @ axes[:width].T
    # Pad and unknown start as nothing.
    projected[:2] = 0.0
    return np.asarray(projected / projected.std(), np.float32)
