"""The student's vocabulary: the teacher's, pruned; and first embeddings taken from the teacher's."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from tasuki.converter.graph import Floats
from tasuki.sdk.tokenizer import PAD_PIECE, UNKNOWN_PIECE, Tokenizer

_SINGLES = "abcdefghijklmnopqrstuvwxyz0123456789"


def prune(texts: Sequence[str], size: int, known: Sequence[str]) -> list[str]:
    """At most `size` of the teacher's `known` pieces: single characters (so that no ASCII word is unknown, nor one of
    the texts' letters), then pieces of `texts`, then the first of the others.
    """
    usable = [p for p in known if p.removeprefix("##").isalnum() and p == p.lower()]
    whole = [PAD_PIECE, UNKNOWN_PIECE, *usable]
    tokenizer = Tokenizer(whole, 64)
    counts = Counter(i for text in texts for i in tokenizer.pieces(text.encode("utf-8", "replace")))
    wanted = [PAD_PIECE, UNKNOWN_PIECE, *_SINGLES, *(f"##{c}" for c in _SINGLES)]
    wanted += [whole[i] for i, _ in sorted(counts.items(), key=lambda entry: (-entry[1], entry[0])) if i > 1]
    wanted += [piece for piece in usable if piece.isascii() and len(piece.removeprefix("##")) > 2]
    return list(dict.fromkeys(wanted))[:size]


def embeddings(pieces: Sequence[str], width: int, known: Sequence[str], table: Floats) -> Floats:
    """First embeddings, float32 [pieces, width]: the teacher's rows on their `width` main axes (PCA), unit variance.

    So a piece that the training text never holds still means about what it meant to the teacher. Pieces that the
    teacher does not have, pad and unknown start as nothing, and so do axes that it does not have.
    """
    number = {piece: i for i, piece in enumerate(known)}
    found = [row for row, piece in enumerate(pieces) if row > 1 and piece in number]
    rows = table[[number[pieces[row]] for row in found]]
    rows = rows - rows.mean(0)
    _, _, axes = np.linalg.svd(rows, full_matrices=False)
    projected = rows @ axes[:width].T
    first = np.zeros((len(pieces), width), np.float32)
    first[found, : projected.shape[1]] = projected / max(float(projected.std()), 1e-9)
    return first
