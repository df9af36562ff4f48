"""The vocabulary layer outside of the model against the logits that the model gives."""

import causal_kit as kit
import numpy as np
import pytest

from tasuki.sdk.decoder import Decoder
from tasuki.sdk.errors import ArtifactCorrupt, NotAvailable
from tasuki.sdk.features import Grid
from tasuki.sdk.vocabulary_layer import VocabularyLayer, token_examples


def opened(which: str) -> tuple[Decoder, VocabularyLayer]:
    found = kit.read(which)
    decoder = Decoder(found.model, found.manifest)
    return decoder, VocabularyLayer(decoder, found.vocabulary_layer, found.vocabulary_bias)


@pytest.mark.parametrize("which", ["student", "published", "wide"])
def test_logits_of_kept_features_are_the_models(which: str) -> None:
    decoder, layer = opened(which)
    ids = np.random.default_rng(0).integers(0, decoder.vocabulary, decoder.context).tolist()
    rows = list(decoder.rows(ids))
    wanted = np.concatenate([row.logits() for row in rows])
    found = layer.logits(np.concatenate([row.features() for row in rows]))
    assert (found.dtype, found.shape) == (np.float32, wanted.shape)
    grid = decoder.grids[1]
    limits = np.iinfo(grid.dtype)
    low, high = (grid.real(np.array([limit], grid.dtype))[0] for limit in (limits.min, limits.max))
    assert np.abs(np.clip(found, low, high) - wanted).max() <= 1.01 * grid.scale
    # What is rounded was not rounded before.
    assert len(np.unique(found)) > len(np.unique(wanted)) or which == "wide"


def test_without_a_place_there_is_no_layer() -> None:
    decoder, _ = opened("student")
    with pytest.raises(NotAvailable, match="convert"):
        VocabularyLayer(decoder, None)


@pytest.mark.parametrize("where", ["nowhere", "pieces", "bias", "input"])
def test_other_tensors_are_no_layer(where: str) -> None:
    found = kit.read("student")
    decoder, _ = opened("student")
    assert found.vocabulary_layer is not None
    assert found.vocabulary_bias is not None
    index = {"nowhere": 10**5, "bias": found.vocabulary_bias, "input": 0}.get(where)
    if index is None:
        with pytest.raises(ArtifactCorrupt, match="bias"):
            VocabularyLayer(decoder, found.vocabulary_layer, found.vocabulary_layer)
    else:
        with pytest.raises(ArtifactCorrupt):
            VocabularyLayer(decoder, index)


@pytest.mark.parametrize("which", ["student", "published"])
@pytest.mark.parametrize("count", [0, 1, 2, 9, kit.CONTEXT, kit.CONTEXT + 1, 70])
def test_every_token_is_an_example_once(which: str, count: int) -> None:
    decoder, layer = opened(which)
    ids = np.random.default_rng(count).integers(2, decoder.vocabulary, count).tolist()
    first = [0] if which == "student" else []
    found = token_examples(decoder, ids, first)
    assert found.targets.tolist() == ids[1 - len(first) :]
    assert found.targets.dtype == np.int32
    assert found.raw.shape == (len(found.targets), decoder.width)
    assert found.features().dtype == np.float32
    if 0 < count <= kit.CONTEXT - 1:
        decoder.restart()
        rows = np.concatenate([row.raw_features for row in decoder.rows([*first, *ids][:-1])] or [found.raw])
        np.testing.assert_array_equal(found.raw, rows[: len(found.raw)])
    # As they are kept: nothing is lost.
    grid = Grid((found.grid,))
    if len(found.raw):
        kept = [grid.pack((row,)) for row in found.raw]
        np.testing.assert_array_equal(grid.unpack([k[0] for k in kept], [k[1] for k in kept]), found.features())
        assert np.isfinite(layer.logits(found.features())).all()
