"""The bytes of compressed tables: an independent decoder reads the same from them, and nothing breaks the decoder."""

import importlib.util
import json
import tracemalloc
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import compression_oracle
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from test_compression import SETTINGS, SHAPES, TABLES, Floats, metric, uneven

from tasuki.sdk import compression, entropy
from tasuki.sdk.compression import Setting
from tasuki.sdk.errors import Refusal, Refused
from tasuki.sdk.metric import Metric

FOLDER = Path(__file__).parents[1] / "vectors"
VECTORS: dict[str, Any] = json.loads((FOLDER / "codec-2.json").read_text())
ROWS, COLUMNS = VECTORS["rows"], VECTORS["columns"]
MOMENT = np.frombuffer(bytes.fromhex(VECTORS["moment"]), "<f4").reshape(COLUMNS, COLUMNS)
REASONS = {reason.word: reason for reason in Refusal}
LEVELS = SHAPES.flatmap(
    lambda shape: hnp.arrays(np.int16, shape, elements=st.integers(-2, 2) | st.integers(-128, 128))
).map(lambda levels: np.where(levels.any(1)[:, None], levels, 1).astype(np.int16))


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_codec_vectors", FOLDER / "make_codec_vectors.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def outcome(data: bytes, rows: int, columns: int, measured: Metric | None) -> Floats | None:
    """What the library reads, or None where it refuses. Its norm is a number, too."""
    try:
        table, norm = compression.measured(data, rows, columns, measured)
        assert np.isfinite(table).all()
        assert np.isfinite(norm)
        return table
    except Refused as refused:
        if refused.reason not in (Refusal.MALFORMED, Refusal.NOT_FINITE):
            raise
        return None


def expected(data: bytes, rows: int, columns: int, measured: Metric | None) -> NDArray[np.float64] | None:
    """The same by the independent decoder."""
    try:
        moment = None if measured is None else measured.moment.astype(float).tolist()
        return np.array(compression_oracle.decode(data, rows, columns, moment))
    except compression_oracle.Wrong:
        return None


def agree(data: bytes, rows: int, columns: int, measured: Metric | None) -> bool:
    """Both refuse, or both read the same. Whether it was read."""
    found, wanted = outcome(data, rows, columns, measured), expected(data, rows, columns, measured)
    assert (found is None) == (wanted is None)
    if found is None or wanted is None:
        return False
    difference = compression.norm((found - wanted).astype(np.float32), measured)
    assert difference <= 1e-5 * compression.norm(wanted.astype(np.float32), measured) + 1e-37
    return True


def test_the_library_still_makes_these_bytes(script: ModuleType) -> None:
    assert script.text(script.build()) == (FOLDER / "codec-2.json").read_text()


@pytest.mark.parametrize("row", VECTORS["tables"], ids=lambda row: row["bytes"][:12])
def test_the_vectors_decode_to_their_tables(row: dict[str, Any]) -> None:
    data = bytes.fromhex(row["bytes"])
    found = compression.decompress(data, ROWS, COLUMNS, Metric(MOMENT))
    assert np.allclose(found, row["table"], rtol=1e-4, atol=1e-6)
    assert agree(data, ROWS, COLUMNS, Metric(MOMENT)) is True


@pytest.mark.parametrize("row", VECTORS["refused"], ids=lambda row: row["what"])
def test_the_vectors_that_are_wrong_are_refused(row: dict[str, Any]) -> None:
    data = bytes.fromhex(row["bytes"])
    with pytest.raises(Refused) as caught:
        compression.decompress(data, ROWS, COLUMNS, Metric(MOMENT))
    assert caught.value.reason == REASONS[row["reason"]]
    assert expected(data, ROWS, COLUMNS, Metric(MOMENT)) is None


@given(TABLES, SETTINGS, st.integers(0, 99))
def test_an_independent_decoder_reads_the_same(table: Floats, setting: Setting, seed: int) -> None:
    measured = metric(table.shape[1])
    assert agree(compression.compress(table, setting, measured, seed), *table.shape, measured) is True


@given(LEVELS)
@example(np.ones((1, 1), np.int16))
@example(np.full((3, 5), -128, np.int16))
def test_levels_come_back_as_they_were(levels: NDArray[np.int16]) -> None:
    tail, data = entropy.pack(levels)
    assert (entropy.unpack(data, tail, *levels.shape) == levels).all()
    assert np.array_equal(compression_oracle.levels(data, tail, *levels.shape), levels)
    # No other tail is shorter, and there is none where no level needs it.
    assert (tail == entropy.FLAT) == (np.abs(levels).max() == 1)


@given(st.binary(max_size=60), st.integers(0, 7), st.integers(1, 4), st.integers(1, 20))
def test_levels_have_one_encoding_for_each_tail(data: bytes, tail: int, rows: int, columns: int) -> None:
    try:
        levels = entropy.unpack(data, tail, rows, columns).astype(np.int16)
    except Refused:
        return
    assert levels.any(1).all()
    best, shortest = entropy.pack(levels)
    assert len(shortest) <= len(data)
    if best == tail:
        assert shortest == data


@given(st.binary(max_size=80), st.integers(1, 12), st.integers(1, 20), st.booleans())
@example(b"", 1, 1, False)
@example(b"\x70\x3f\x80\x80", 1, 1, False)
def test_any_bytes_are_a_table_or_refused(data: bytes, rows: int, columns: int, plain: bool) -> None:
    agree(data, rows, columns, None if plain else metric(columns))


@given(st.integers(0, 127), st.integers(0x3F00, 0x4100), st.binary(min_size=1, max_size=40))
def test_any_bytes_behind_a_good_beginning_are_a_table_or_refused(first: int, scale: int, rest: bytes) -> None:
    agree(bytes([first & 0x77]) + scale.to_bytes(2, "big") + rest, 4, 6, metric(6))


@given(TABLES, SETTINGS, st.data())
def test_altered_bytes_are_a_table_or_refused(table: Floats, setting: Setting, data: st.DataObject) -> None:
    measured = metric(table.shape[1])
    made = bytearray(compression.compress(table, setting, measured, 1))
    for _ in range(data.draw(st.integers(1, 3))):
        made[data.draw(st.integers(0, len(made) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    agree(bytes(made), *table.shape, measured)


@given(TABLES, SETTINGS, st.binary(min_size=1, max_size=3), st.data())
def test_nothing_may_follow_or_be_missing(table: Floats, setting: Setting, more: bytes, drawn: st.DataObject) -> None:
    measured = metric(table.shape[1])
    data = compression.compress(table, setting, measured, 1)
    assert outcome(data + bytes(len(more)), *table.shape, measured) is None
    agree(data + more, *table.shape, measured)
    agree(data[: drawn.draw(st.integers(0, len(data) - 1))], *table.shape, measured)


def test_every_single_altered_bit_of_a_real_size_is_survived() -> None:
    table, measured = uneven(27, 97), metric(97, 300)
    data, _ = compression.auto(table, 178, measured, 0, 1e3)
    outcomes = []
    for bit in range(8 * len(data)):
        altered = bytearray(data)
        altered[bit // 8] ^= 128 >> bit % 8
        outcomes.append(outcome(bytes(altered), 27, 97, measured))
    kept = [found for found in outcomes if found is not None]
    assert all(np.isfinite(found).all() for found in kept)
    # Signs and low bits make other tables; most of the front does not fit any more.
    assert 0 < len(kept) < len(outcomes)


def peak(data: bytes, rows: int, columns: int) -> int:
    """The bytes that decoding holds at its peak, beside those of the table itself."""
    compression.decompress(b"\0", rows, columns, None)
    tracemalloc.start()
    try:
        with suppress(Refused):
            compression.decompress(data, rows, columns, None)
        return tracemalloc.get_traced_memory()[1] - 4 * rows * columns
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("filler", [0x00, 0x55, 0xFF])
def test_memory_is_bounded_by_the_bytes_and_the_table(filler: int) -> None:
    """At most 500 bytes for each of the message and 20 for each number, whatever the bytes say."""
    rows, columns, length = 512, 512, 20_000
    data = b"\x00\x3f\x80" + b"\xff" * (rows // 8) + bytes([filler]) * length
    assert peak(data, rows, columns) < 500 * length + 20 * rows * columns


def test_the_largest_table_of_few_bytes_takes_what_a_table_takes() -> None:
    assert peak(b"\0", 4096, 4096) < 1 << 20
    one = b"\x70\x3f\x80" + b"\x80" + bytes(511) + b"\x80\x00\x00"
    assert peak(one, 4096, 4096) < 1 << 24


def test_a_longer_table_than_any_is_not_even_read() -> None:
    with pytest.raises(Refused, match="longer"):
        compression.decompress(bytes(4 * 3 * 5 + 12), 3, 4, None)


@pytest.mark.parametrize("basis", ["whitened", "plain"])
@pytest.mark.parametrize("kept", ["rows", "top", "random"])
def test_the_largest_scale_overflows_nothing(basis: compression.Basis, kept: compression.Sparsity) -> None:
    table = uneven(3, 30)
    data = compression.compress(table, Setting(basis, kept, 0.2), metric(30), 0)
    largest = data[:1] + b"\x5f\x7f" + data[3:]
    found = outcome(largest, 3, 30, metric(30))
    assert found is not None
    assert np.abs(found).max() > 2.0**60


def test_whitened_bytes_need_a_metric() -> None:
    table = uneven(3, 4)
    data = compression.compress(table, Setting("whitened", "top"), metric(4), 0)
    with pytest.raises(Refused, match="metric"):
        compression.decompress(data, 3, 4, None)


def test_bytes_are_close_to_the_entropy_of_their_levels() -> None:
    """Within 12% of an ideal coder that knows each row's frequencies for 7 bits a row; a sign is a bit."""
    spent = ideal = 0.0
    for seed in range(20):
        lengths = np.random.default_rng(seed).exponential(1, (27, 1))
        levels = np.rint(np.random.default_rng(seed).standard_normal((27, 97)) * lengths * 0.7).astype(np.int16)
        levels = levels[levels.any(1)]
        spent += 8 * len(entropy.pack(levels)[1])
        for row in np.abs(levels):
            counts = np.unique(row, return_counts=True)[1]
            ideal += -(counts * np.log2(counts / len(row))).sum() + np.count_nonzero(row) + 7
    assert ideal < spent < 1.12 * ideal
