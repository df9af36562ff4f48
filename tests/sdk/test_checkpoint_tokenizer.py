"""Artifacts with a checkpoint's own tokenizer: what the package `tokenizers` makes of `tokenizer.json`."""

import importlib
import sys
from typing import Any

import artifact_kit as kit
import numpy as np
import pytest

from tasuki.converter import pack
from tasuki.sdk import artifact
from tasuki.sdk.errors import ArtifactCorrupt, MissingExtra

PIECES = {"[CLS]": 0, "[PAD]": 1, "[SEP]": 2, "[UNK]": 3, "turn": 4, "on": 5, "##ly": 6, "é": 7}


def made(tokens: int = 8, pad: int = 1, **settings: Any) -> artifact.Artifact:
    """An artifact with a BERT-like tokenizer whose padding is not 0, as RoBERTa's."""
    library = importlib.import_module("tokenizers")
    tokenizer = library.Tokenizer(library.models.WordPiece(PIECES, unk_token="[UNK]"))
    tokenizer.normalizer = library.normalizers.BertNormalizer(lowercase=True, strip_accents=False)
    tokenizer.pre_tokenizer = library.pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = library.processors.BertProcessing(("[SEP]", 2), ("[CLS]", 0))
    if settings:  # what the checkpoint was trained with; the artifact's own length counts
        tokenizer.enable_padding(**settings)
        tokenizer.enable_truncation(3)
    return packed(tokenizer.to_str().encode(), tokens, pad)


def packed(description: bytes, tokens: int = 8, pad: int = 1) -> artifact.Artifact:
    parts = {artifact.TOKENIZER_JSON: description, artifact.MOMENT: kit.parts()[artifact.MOMENT]}
    return artifact.parse(pack.pack(kit.MODEL, parts, kit.about(tokens=tokens, pad=pad)))


def test_ids_are_padded_and_cut_with_the_special_tokens_kept() -> None:
    found = made()
    assert (found.vocabulary, found.pad) == ((), 1)
    tokenizer = found.tokenizer()
    assert tokenizer.tokens == 8
    assert tokenizer.encode("Turn only é?").tolist() == [0, 4, 5, 6, 7, 3, 2, 1]
    assert tokenizer.encode("").tolist() == [0, 2, 1, 1, 1, 1, 1, 1]
    cut = tokenizer.encode("turn " * 50)
    assert cut.tolist() == [0, 4, 4, 4, 4, 4, 4, 2]
    assert cut.dtype == np.int32
    assert tokenizer.encode("on \ud800 \0 on").tolist() == [0, 5, 3, 5, 2, 1, 1, 1]


def test_the_length_is_the_artifacts_and_not_the_checkpoints() -> None:
    tokenizer = made(length=5, pad_id=3, direction="left").tokenizer()
    assert tokenizer.encode("turn on on on").tolist() == [0, 4, 5, 5, 5, 2, 1, 1]


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found = made()
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(MissingExtra, match=r"tasuki\[tokenizers\]"):
        found.tokenizer()


@pytest.mark.parametrize("description", [b"", b"{}", b"\xff", b"[" * 10_000, b'{"model":{"type":"WordPiece"}}'])
def test_descriptions_that_are_none(description: bytes) -> None:
    with pytest.raises(ArtifactCorrupt, match="tokenizer"):
        packed(description).tokenizer()


def test_fewer_tokens_than_special_ones() -> None:
    with pytest.raises(ArtifactCorrupt, match=r"tokenizer\.json"):
        made(tokens=1).tokenizer()
