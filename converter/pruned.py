"""A part of a byte-level BPE tokenizer: fewer tokens, every text still encodable, every token still one of the
whole.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, pre_tokenizers

from tasuki.sdk.errors import ConversionError


@dataclass(frozen=True)
class Pruned:
    """`tokenizer` is the content of a ``tokenizer.json``; `kept` int32 [size] gives each id's id in the whole one.

    `start` is the id that a text begins with; the tokenizer adds it as a special token.
    """

    tokenizer: bytes
    kept: NDArray[np.int32]
    start: int

    def load(self) -> Tokenizer:
        return Tokenizer.from_buffer(self.tokenizer)


def prune(tokenizer: bytes, texts: Sequence[str], size: int, start: int, special: Sequence[int] = ()) -> Pruned:
    """The `size` tokens that `texts` need most: all bytes that the whole one has, the ids `start` and `special`, and
    frequent pieces.

    A token comes with the parts that it is merged from, so the smaller tokenizer arrives at it by the same merges. Ids
    keep their order. Raises ConversionError if the tokenizer is no byte-level BPE, or `size` too small.
    """
    about: dict[str, Any] = json.loads(tokenizer)
    if about["model"]["type"] != "BPE":
        raise ConversionError(f"the tokenizer is {about['model']['type']}, and only byte-level BPE can be pruned")
    ids: dict[str, int] = about["model"]["vocab"]
    merges = [tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in about["model"]["merges"]]
    made_of: dict[str, tuple[str, str]] = {}
    for left, right in merges:
        made_of.setdefault(left + right, (left, right))
    names = {number: token for token, number in ids.items()}
    # Sorted: the library gives the bytes in another order each time.
    kept = {names[number] for number in (start, *special)} | {
        c for c in pre_tokenizers.ByteLevel.alphabet() if c in ids
    }
    if len(kept) > size:
        raise ConversionError(f"a vocabulary of {size} has no place for {len(kept)} bytes and special tokens")
    for token in _by_need(Tokenizer.from_buffer(tokenizer), texts, made_of):
        wanted = _with_parts(token, made_of) - kept
        if len(kept) + len(wanted) <= size:
            kept |= wanted
    order = sorted(kept, key=ids.__getitem__)
    about["model"]["vocab"] = vocabulary = {token: number for number, token in enumerate(order)}
    about["model"]["merges"] = [list(m) for m in merges if m[0] in kept and m[1] in kept and "".join(m) in kept]
    about["added_tokens"] = [
        {**added, "id": vocabulary[added["content"]]} for added in about["added_tokens"] if added["content"] in kept
    ]
    about["truncation"] = about["padding"] = None
    about["post_processor"] = _starting(names[start], vocabulary[names[start]])
    content = json.dumps(about, ensure_ascii=False, separators=(",", ":")).encode()
    return Pruned(content, np.array([ids[token] for token in order], np.int32), vocabulary[names[start]])


def _starting(token: str, number: int) -> dict[str, Any]:
    """The post-processor that begins each text with `token`."""
    first = {"SpecialToken": {"id": token, "type_id": 0}}
    single, second = [first, {"Sequence": {"id": "A", "type_id": 0}}], [{"Sequence": {"id": "B", "type_id": 1}}]
    named = {token: {"id": token, "ids": [number], "tokens": [token]}}
    return {"type": "TemplateProcessing", "single": single, "pair": single + second, "special_tokens": named}


def _by_need(whole: Tokenizer, texts: Sequence[str], made_of: dict[str, tuple[str, str]]) -> list[str]:
    """Tokens by how often they or what contains them occur, the most frequent first; ties by name."""
    counts: Counter[str] = Counter()
    for encoding in whole.encode_batch(list(texts), add_special_tokens=False):
        counts.update(encoding.tokens)
    need: Counter[str] = Counter()
    for token, count in counts.items():
        for part in _with_parts(token, made_of):
            need[part] += count
    return sorted((token for token in need if token in made_of), key=lambda token: (-need[token], token))


def _with_parts(token: str, made_of: dict[str, tuple[str, str]]) -> set[str]:
    found, left = {token}, [token]
    while left:
        for part in made_of.get(left.pop(), ()):
            if part not in found:
                found.add(part)
                left.append(part)
    return found
