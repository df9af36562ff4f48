"""The cached decoder against a plain run that sets every input anew, for one token at a time and for chunks."""

import copy
from typing import Any

import causal_kit as kit
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasuki.sdk.decoder import Decoder
from tasuki.sdk.errors import ArtifactCorrupt, InputError, TextTooLong
from tasuki.sdk.runtime import load_interpreter

KINDS = ["student", "published", "wide"]


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def decoder(kind: str) -> Decoder:
    found = kit.read(kind)
    return Decoder(found.model, found.manifest)


def ids_of(decoder: Decoder, count: int, seed: int = 0) -> list[int]:
    return np.random.default_rng(seed).integers(0, decoder.vocabulary, count).tolist()


def plain(model: bytes, ids: list[int], signature: str, chunk: int) -> tuple[np.ndarray, np.ndarray]:
    """Raw features and logits of all `ids`, by one signature, every input given anew."""
    interpreter = load_interpreter()[1](model_content=model)
    runner = interpreter.get_signature_runner(signature)
    caches = {
        name: np.full(about["shape"], 77 if about["dtype"] is np.int8 else 0, about["dtype"])
        for name, about in runner.get_input_details().items()
        if name not in ("ids", "position")
    }
    features, logits = [], []
    for at in range(0, len(ids), chunk):
        part = ids[at : at + chunk]
        padded = np.array([part + [0] * (chunk - len(part))], np.int32)
        found = runner(ids=padded, position=np.array([at], np.int32), **caches)
        for name, cache in caches.items():
            cache[:, :, at : at + len(part)] = found[name][:, :, : len(part)]
        features.append(found["features"][: len(part)])
        logits.append(found["logits"][: len(part)])
    return np.concatenate(features), np.concatenate(logits)


def taken(decoder: Decoder, ids: list[int]) -> tuple[np.ndarray, np.ndarray]:
    rows = list(decoder.rows(ids))
    return np.concatenate([r.raw_features for r in rows]), np.concatenate([r.raw_logits for r in rows])


def test_token_by_token_is_what_decode_gives(decoder: Decoder, kind: str) -> None:
    ids = ids_of(decoder, kit.CONTEXT)
    features, logits = plain(kit.read(kind).model, ids, "decode", 1)
    decoder.restart()
    for at, token in enumerate(ids):
        found = decoder.step(token)
        np.testing.assert_array_equal(found, decoder.grids[1].real(logits[at]))
        np.testing.assert_array_equal(decoder.features(), decoder.grids[0].real(features[at]))
        assert decoder.best() == int(logits[at].argmax()) == int(found.argmax())
    assert decoder.position == decoder.context == kit.CONTEXT
    assert decoder.tokens == tuple(ids)


def test_chunk_by_chunk_is_what_prefill_gives(decoder: Decoder, kind: str) -> None:
    ids = ids_of(decoder, kit.CONTEXT - 3, 1)
    assert decoder.chunk == (1 if kind == "student" else kit.CHUNK)
    wanted = plain(kit.read(kind).model, ids, "prefill", decoder.chunk)
    decoder.restart()
    for found, exact in zip(taken(decoder, ids), wanted, strict=True):
        np.testing.assert_array_equal(found, exact)
    assert decoder.best() == int(wanted[1][-1].argmax())
    np.testing.assert_array_equal(decoder.logits(), decoder.grids[1].real(wanted[1][-1]))
    np.testing.assert_array_equal(decoder.features(), decoder.grids[0].real(wanted[0][-1]))


@pytest.mark.parametrize("which", KINDS)
@given(st.data())
@settings(max_examples=40, deadline=None)
def test_what_is_kept_of_another_text_changes_nothing(which: str, data: st.DataObject) -> None:
    reused, fresh = shared(which), shared(which, 1)
    tokens = st.lists(st.integers(0, 3), min_size=1, max_size=kit.CONTEXT)
    fresh.restart()
    for _ in range(3):
        ids = data.draw(tokens)
        kept = reused.resume(ids)
        assert kept < len(ids)
        assert kept % reused.chunk == 0
        reused.feed(ids[kept:])
        more = ids_of(reused, data.draw(st.integers(0, kit.CONTEXT - len(ids))), 3)
        fresh.restart()
        fresh.feed(ids)
        np.testing.assert_array_equal(reused.logits(), fresh.logits())
        for token in more:
            np.testing.assert_array_equal(reused.step(token), fresh.step(token))


_SHARED: dict[tuple[str, int], Decoder] = {}


def shared(which: str, number: int = 0) -> Decoder:
    if (which, number) not in _SHARED:
        found = kit.read(which)
        _SHARED[which, number] = Decoder(found.model, found.manifest)
    return _SHARED[which, number]


def test_a_common_beginning_is_not_read_again() -> None:
    decoder = shared("student")
    decoder.restart()
    decoder.feed([0, 5, 6, 7, 8])
    assert decoder.resume([0, 5, 6, 9]) == 3
    assert decoder.tokens == (0, 5, 6)
    decoder.feed([9])
    assert decoder.resume([0, 5]) == 1
    chunked = shared("published")
    chunked.restart()
    ids = list(range(2, 2 + 2 * kit.CHUNK + 1))
    chunked.feed(ids)
    # Whole chunks only, and none that was read token by token.
    assert chunked.resume([*ids[: kit.CHUNK + 2], 99, 98]) == kit.CHUNK
    chunked.restart()
    for token in ids:
        chunked.advance(token)
    assert chunked.resume(ids) == 0


def test_tokens_can_be_taken_back(decoder: Decoder) -> None:
    ids = ids_of(decoder, 10, 4)
    decoder.restart()
    wanted = [decoder.step(token) for token in ids]
    decoder.truncate(4)
    with pytest.raises(InputError, match="no token"):
        decoder.logits()
    for token, logits in zip(ids[4:], wanted[4:], strict=True):
        np.testing.assert_array_equal(decoder.step(token), logits)
    begun = decoder.begun
    for wrong in (-1, 11):
        with pytest.raises(InputError):
            decoder.truncate(wrong)
    assert (decoder.begun, decoder.position) == (begun, 10)


def test_nothing_of_a_text_stays_in_the_cache(decoder: Decoder) -> None:
    decoder.restart()
    decoder.feed(ids_of(decoder, kit.CONTEXT, 9))
    decoder.truncate(5)
    for view, _ in decoder._caches:
        assert view()[:, :, :5].any()
        assert not view()[:, :, 5:].any()
    decoder.restart()
    assert not any(view().any() for view, _ in decoder._caches)


def test_nothing_is_written_past_the_context(decoder: Decoder) -> None:
    ids = ids_of(decoder, kit.CONTEXT, 5)
    decoder.restart()
    decoder.feed(ids[:-2])
    with pytest.raises(TextTooLong, match=str(kit.CONTEXT)):
        decoder.feed([1, 2, 3])
    assert decoder.tokens == tuple(ids[:-2])
    decoder.feed(ids[-2:])
    caches = [view().copy() for view, _ in decoder._caches]
    for full in (lambda: decoder.advance(1), lambda: decoder.step(1), lambda: next(decoder.rows([1]))):
        with pytest.raises(TextTooLong):
            full()
    for before, (view, _) in zip(caches, decoder._caches, strict=True):
        np.testing.assert_array_equal(before, view())


@pytest.mark.parametrize("wrong", [-1, 10**6])
def test_what_is_no_token_is_refused(decoder: Decoder, wrong: int) -> None:
    decoder.restart()
    for call in (lambda: decoder.feed([0, wrong]), lambda: decoder.step(wrong), lambda: list(decoder.rows([wrong]))):
        with pytest.raises(InputError, match="tokens are from 0"):
            call()
    assert decoder.position == 0


def test_rows_may_be_left_in_the_middle(decoder: Decoder) -> None:
    ids = ids_of(decoder, 2 * kit.CHUNK, 6)
    decoder.restart()
    reading = decoder.rows(ids)
    next(reading)
    reading.close()
    assert decoder.position == decoder.chunk
    decoder.feed(ids[decoder.chunk :])
    half = decoder.logits()
    decoder.restart()
    decoder.feed(ids)
    np.testing.assert_array_equal(half, decoder.logits())


def test_the_model_need_not_be_in_memory(decoder: Decoder, kind: str, tmp_path: Any) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(
        {"student": kit.student, "published": kit.published, "wide": lambda: kit.published("int16")}[kind]()
    )
    ids = ids_of(decoder, 9, 7)
    decoder.restart()
    decoder.feed(ids)
    other = Decoder(path)
    other.feed(ids)
    np.testing.assert_array_equal(other.logits(), decoder.logits())


CHANGES = {
    "context": lambda m: m.update(tokens=kit.CONTEXT + 8),
    "layers": lambda m: m["cache"].update(layers=5),
    "head width": lambda m: m["cache"].update(width=m["cache"]["width"] + 1),
    "features": lambda m: m["features"][0].update(width=m["features"][0]["width"] + 1),
    "output of the features": lambda m: m["features"][0].update(output=0),
    "logits": lambda m: m["logits"].update(width=m["logits"]["width"] - 1),
    "output of the logits": lambda m: m["logits"].update(output=1),
    "chunk": lambda m: m["shapes"].update({"prefill.ids": [1, 9]}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_another_manifest_than_the_models_is_refused(change: str, kind: str) -> None:
    found = kit.read(kind)
    fields = copy.deepcopy(dict(found.manifest))
    CHANGES[change](fields)
    with pytest.raises(ArtifactCorrupt, match="the manifest's"):
        Decoder(found.model, fields)


def test_a_classifier_is_no_decoder(tiny_artifact: Any) -> None:
    from tasuki.sdk import artifact

    with pytest.raises(ArtifactCorrupt, match="can't decode"):
        Decoder(artifact.load(tiny_artifact).model)


@pytest.mark.parametrize("data", [b"", b"\x1c\0\0\0TFL3" + bytes(64)])
def test_bytes_that_are_no_model(data: bytes) -> None:
    with pytest.raises(ArtifactCorrupt):
        Decoder(data)
