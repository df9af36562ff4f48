"""A part of a WordPiece tokenizer (the BERT family), and the checkpoint that goes with it: fewer embeddings, the same
answers where all pieces of a text were kept.

What was dropped falls back to smaller pieces: with a kept word come all single characters of its script, at the start
and inside of a word, so a word becomes ``[UNK]`` only where the whole tokenizer says so too, or where it has a
character of another script.
"""

import json
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from tasuki.converter.families import BertConfig, Checkpoint
from tasuki.sdk.errors import CheckpointUnsupported, ConversionError, TextsInvalid

_TABLE: Final = "embeddings.word_embeddings.weight"


@dataclass(frozen=True)
class Fallback:
    """What pruning does to texts: shares (0 to 1) of their pieces that are the unknown one, before and after, and by
    how much they have more pieces than before (0.1: a tenth).
    """

    unknown_before: float
    unknown: float
    longer: float


def prune(checkpoint: Checkpoint, texts: Sequence[str], size: int) -> Checkpoint:
    """At most `size` pieces: special tokens, the characters of the scripts of `texts` and of ASCII, frequent pieces.

    The padding's id becomes 0, the others keep their order. Raises CheckpointUnsupported if the tokenizer is no
    WordPiece, ConversionError if `size` has no room for special tokens and characters, TextsInvalid without texts.
    """
    if not any(text.strip() for text in texts):
        raise TextsInvalid("there is no text to choose the vocabulary by; give some, unlabelled ones will do")
    config, about = checkpoint.config, _description(checkpoint)
    assert isinstance(config, BertConfig)  # noqa: S101  (_description has looked)
    ids, prefix = _ids(about), about["model"]["continuing_subword_prefix"]
    names = {number: piece for piece, number in ids.items()}
    if config.pad not in names:
        raise ConversionError(f"tokenizer.json has no piece with the id {config.pad}, which config.json calls padding")
    counts = _counts(checkpoint.tokenizer, texts)
    kept = {added["content"] for added in about["added_tokens"]} | {about["model"]["unk_token"], names[config.pad]}
    kept = ((kept | _framing(about)) & set(ids)) | _characters(ids, prefix, counts)
    if len(kept) > size:
        raise ConversionError(
            f"a vocabulary of {size} has no room for the {len(kept)} special tokens and single characters of the "
            f"texts' scripts: take at least {len(kept)}"
        )
    # First what can't be spelled with the characters, then what is frequent.
    wanted = sorted(
        set(counts) & set(ids), key=lambda piece: (_spelled(piece, prefix, kept), -counts[piece], ids[piece])
    )
    for piece in wanted:
        if len(kept) < size:
            kept.add(piece)
    order = sorted(kept, key=lambda piece: (ids[piece] != config.pad, ids[piece]))
    number = {piece: row for row, piece in enumerate(order)}
    table = checkpoint.tensors[_TABLE][np.array([ids[piece] for piece in order])]
    return replace(
        checkpoint,
        config=replace(config, vocabulary=len(order), pad=0),
        tensors={**checkpoint.tensors, _TABLE: table},
        tokenizer=_renumbered(about, number),
    )


def kept_ids(whole: Checkpoint, pruned: Checkpoint) -> NDArray[np.int32]:
    """For each id of the pruned tokenizer that of the whole one, int32 [size]."""
    before, after = _ids(_description(whole)), _ids(_description(pruned))
    return np.array([before[piece] for piece in sorted(after, key=after.__getitem__)], np.int32)


def fallback(whole: Checkpoint, pruned: Checkpoint, texts: Sequence[str]) -> Fallback:
    """What the pruned tokenizer makes of `texts`."""
    unknown = _description(whole)["model"]["unk_token"]
    before, after = (_counts(found.tokenizer, texts) for found in (whole, pruned))
    pieces, now = max(before.total(), 1), max(after.total(), 1)
    return Fallback(before[unknown] / pieces, after[unknown] / now, now / pieces - 1)


def _description(checkpoint: Checkpoint) -> dict[str, Any]:
    """The content of ``tokenizer.json``. Raises CheckpointUnsupported if it is no WordPiece of the BERT family."""
    about: dict[str, Any] = json.loads(checkpoint.tokenizer)
    model = about["model"]
    kind = model.get("type", "WordPiece" if "continuing_subword_prefix" in model else "of no known type")
    if not isinstance(checkpoint.config, BertConfig) or kind != "WordPiece":
        raise CheckpointUnsupported(
            f"tokenizer.json: the model is {kind}; only WordPiece, of the BERT family, is pruned here"
        )
    return about


def _ids(about: dict[str, Any]) -> dict[str, int]:
    """The id of each piece; added tokens may be in no vocabulary."""
    return {**about["model"]["vocab"], **{added["content"]: added["id"] for added in about["added_tokens"]}}


def _spelled(piece: str, prefix: str, kept: set[str]) -> bool:
    """Whether smaller pieces of `kept` give the same characters."""
    inside = piece.startswith(prefix) and len(piece) > len(prefix)
    bare = piece[len(prefix) :] if inside else piece
    return all((c if n == 0 and not inside else prefix + c) in kept for n, c in enumerate(bare))


def _counts(tokenizer: bytes, texts: Sequence[str]) -> Counter[str]:
    made = Tokenizer.from_buffer(tokenizer)
    made.no_padding()
    made.no_truncation()
    counts: Counter[str] = Counter()
    for encoding in made.encode_batch(list(texts), add_special_tokens=False):
        counts.update(encoding.tokens)
    return counts


def _characters(ids: Iterable[str], prefix: str, counts: Counter[str]) -> set[str]:
    """The single characters among `ids`, with and without `prefix`, of ASCII and of the scripts of the pieces seen."""
    scripts = {_script(c) for piece in counts for c in piece.removeprefix(prefix)}
    found = set()
    for piece in ids:
        bare = piece[len(prefix) :] if piece.startswith(prefix) and len(piece) > len(prefix) else piece
        # Of scripts with thousands of characters only those that are there.
        if len(bare) == 1 and (
            bare.isascii() or (_script(bare) in scripts and (_script(bare) not in _LARGE or piece in counts))
        ):
            found.add(piece)
    return found


# Scripts of which nobody needs all characters.
_LARGE: Final = frozenset({"CJK", "HANGUL"})


def _script(character: str) -> str:
    """The first word of the character's Unicode name, which is its script for letters."""
    return unicodedata.name(character, "unnamed").split(" ")[0].split("-")[0]


def _renumbered(about: dict[str, Any], number: dict[str, int]) -> bytes:
    """The content of ``tokenizer.json`` with the pieces of `number` only."""
    about["model"]["vocab"] = number
    about["added_tokens"] = [
        {**added, "id": number[added["content"]]} for added in about["added_tokens"] if added["content"] in number
    ]
    about["truncation"] = about["padding"] = None
    if about.get("post_processor"):
        about["post_processor"] = _processor(about["post_processor"], number)
    return json.dumps(about, ensure_ascii=False, separators=(",", ":")).encode()


def _framing(about: dict[str, Any]) -> set[str]:
    """The tokens that are put around a text, which need not be among the added ones."""
    return _named(about.get("post_processor") or {})


def _named(found: dict[str, Any]) -> set[str]:
    if "processors" in found:
        return {piece for part in found["processors"] for piece in _named(part)}
    named = {piece for token in (found.get("special_tokens") or {}).values() for piece in token["tokens"]}
    return named | {found[end][0] for end in ("sep", "cls") if end in found}


def _processor(found: dict[str, Any], number: dict[str, int]) -> dict[str, Any]:
    """A post-processor with the new ids; raises CheckpointUnsupported if it is of a kind that may hold others."""
    match found.get("type"):
        case "TemplateProcessing":
            named = {
                name: {**token, "ids": [number[t] for t in token["tokens"]]}
                for name, token in found["special_tokens"].items()
            }
            return {**found, "special_tokens": named}
        case "BertProcessing" | "RobertaProcessing":
            return {**found, **{part: [found[part][0], number[found[part][0]]] for part in ("sep", "cls")}}
        case "Sequence":
            return {**found, "processors": [_processor(part, number) for part in found["processors"]]}
        case "ByteLevel":
            return found
    raise CheckpointUnsupported(
        f"tokenizer.json: post_processor is {found.get('type')!r}; supported: TemplateProcessing, BertProcessing"
    )
