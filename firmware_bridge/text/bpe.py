"""A `tokenizer.json` of byte-level BPE as the tables of `tsk_bpe.h`; what there is no C for is refused by name."""

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tasuki.sdk.errors import ArtifactCorrupt, ModelUnsupported

NONE: Final = 0xFFFF
MAX_VOCABULARY: Final = 0xFFFF
MAX_TEXT_BYTES: Final = 0xFFFF
# Options of the model that change what comes out, and the values that the C has.
_OPTIONS: Final[Mapping[str, tuple[Any, ...]]] = {
    "dropout": (None, 0, 0.0), "unk_token": (None,), "continuing_subword_prefix": (None, ""),
    "end_of_word_suffix": (None, ""), "byte_fallback": (None, False), "ignore_merges": (None, False),
}  # fmt: skip


@dataclass(frozen=True)
class Tables:
    """The fields of `tsk_bpe_t`. `merges` are left, right and id, sorted; `ranks` is None where the ids are as good.

    `letters` are the ids of the 256 bytes, `NONE` for a byte without. `pieces` are the bytes of each id, none for a
    special token.
    """

    merges: Sequence[tuple[int, int, int]]
    ranks: Sequence[int] | None
    letters: Sequence[int]
    pieces: Sequence[bytes]
    digits: bool

    @property
    def offsets(self) -> list[int]:
        """Where the pieces begin in their text, and where the last ends."""
        found = [0]
        for piece in self.pieces:
            found.append(found[-1] + len(piece))
        return found

    @property
    def size(self) -> int:
        """What they take in flash; an array in C has one element at least."""
        offsets, ranks = self.offsets, self.ranks or ()
        small = len(ranks) + len(self.letters) + len(offsets)
        return 6 * max(1, len(self.merges)) + 2 * small + max(1, offsets[-1])


def tables(description: bytes, vocabulary: int) -> Tables:
    """The tables of the `tokenizer.json` `description` for a model with `vocabulary` ids.

    Raises ModelUnsupported, ArtifactCorrupt.
    """
    try:
        about = json.loads(description)
        model = about["model"]
        _need(model.get("type") == "BPE", f"its model is {model.get('type')}, not BPE")
        for option, values in _OPTIONS.items():
            _need(model.get(option) in values, f"its model has {option} {model.get(option)!r}")
        _need(about.get("normalizer") is None, "it has a normaliser")
        decoder = (about.get("decoder") or {}).get("type")
        _need(decoder == "ByteLevel", f"its decoder is {decoder}, not ByteLevel")
        ids: dict[str, int] = model["vocab"]
        merges = [tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in model["merges"]]
        return _made(ids, merges, _special(about), vocabulary, _digits(about.get("pre_tokenizer")))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ArtifactCorrupt(f"tokenizer.json can't be used: {error!r}") from None


def byte_names() -> dict[str, int]:
    """How byte-level tokenizers write bytes: those that can be printed as themselves, the others from U+0100 on."""
    printed = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = (byte for byte in range(256) if byte not in printed)
    return {chr(byte): byte for byte in printed} | {chr(256 + place): byte for place, byte in enumerate(others)}


def _made(
    ids: Mapping[str, int], merges: Sequence[tuple[str, ...]], special: frozenset[int], vocabulary: int, digits: bool
) -> Tables:
    _need(vocabulary <= MAX_VOCABULARY, f"it has {vocabulary:,} ids, and there is room for {MAX_VOCABULARY:,}")
    if not all(type(number) is int and 0 <= number < vocabulary for number in ids.values()):
        raise ValueError(f"an id is not in 0 to {vocabulary - 1}")
    names = byte_names()
    pieces = [b""] * vocabulary
    for token, number in ids.items():
        if number not in special:
            plain = all(letter in names for letter in token)
            pieces[number] = bytes(names[letter] for letter in token) if plain else token.encode()
    total = sum(map(len, pieces))
    _need(total <= MAX_TEXT_BYTES, f"its tokens have {total:,} bytes, and there is room for {MAX_TEXT_BYTES:,}")
    # Of a pair that is there twice, the last counts.
    ranked = {(ids[a], ids[b]): (rank, ids[a + b]) for rank, (a, b) in enumerate(merges)}
    _need(len(ranked) <= MAX_VOCABULARY, f"it has {len(ranked):,} merges, and there is room for {MAX_VOCABULARY:,}")
    joined = [(*pair, made) for pair, (_, made) in sorted(ranked.items())]
    by_rank = [made for _, made in sorted(ranked.values())]
    ordered = all(before < after for before, after in itertools.pairwise(by_rank))
    places = {rank: place for place, rank in enumerate(sorted(rank for rank, _ in ranked.values()))}
    ranks = None if ordered else [places[rank] for _, (rank, _) in sorted(ranked.items())]
    letters = sorted(names, key=names.__getitem__)
    return Tables(joined, ranks, [ids.get(letter, NONE) for letter in letters], pieces, digits)


def _special(about: Mapping[str, Any]) -> frozenset[int]:
    """The special tokens, which are no text. Others that were added would be found in a text before all else."""
    for added in about.get("added_tokens", ()):
        _need(added["special"] is True, f"the added token {added['content']!r} is not special")
    return frozenset(added["id"] for added in about.get("added_tokens", ()))


def _digits(about: Mapping[str, Any] | None) -> bool:
    """Whether digits are single. Raises ModelUnsupported for another pre-tokenizer than ByteLevel with its expression,
    alone or after Digits.
    """
    steps = [] if about is None else about["pretokenizers"] if about["type"] == "Sequence" else [about]
    kinds = [step["type"] for step in steps]
    _need(kinds in (["ByteLevel"], ["Digits", "ByteLevel"]), f"its pre-tokenizer is {' and '.join(kinds) or 'missing'}")
    last = steps[-1]
    _need(last.get("use_regex", True) is True, "its ByteLevel does not split words")
    _need(last.get("add_prefix_space") is False, "its ByteLevel adds a space")
    if kinds[0] != "Digits":
        return False
    _need(steps[0].get("individual_digits") is True, "its Digits keeps runs of digits together")
    return True


def _need(holds: bool, what: str) -> None:
    if not holds:
        raise ModelUnsupported(
            f"the artifact's tokenizer.json can't become C: {what}. There is C for byte-level BPE as in SmolLM2"
        )
