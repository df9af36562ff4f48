"""Compressed tables: small error, bounded norm, no bias where none is promised, and bytes that say what they are."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from tasuki.sdk import compression, lattice, quantise, sparsity
from tasuki.sdk.compression import BITS, Setting
from tasuki.sdk.errors import InputError
from tasuki.sdk.metric import Metric

Floats = NDArray[np.float32]
SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 21))
# Not below the smallest scale, 2^-126.
NUMBERS = st.floats(-(2.0**20), 2.0**20, width=32).map(lambda value: value if abs(value) > 2.0**-60 else 0.0)
TABLES = SHAPES.flatmap(lambda shape: hnp.arrays(np.float32, shape, elements=NUMBERS))
ONE_SCALE = st.just(0) | st.integers(1, 21)
SETTINGS = st.one_of(
    st.builds(
        Setting,
        st.sampled_from(("whitened", "plain")),
        st.sampled_from(("top", "random")),
        st.floats(0.01, 1),
        st.sampled_from(BITS),
        ONE_SCALE,
        st.sampled_from(("nearest", "stochastic")),
    ),
    st.builds(
        Setting,
        st.sampled_from(("whitened", "plain")),
        st.just("dense"),
        st.just(1.0),
        st.sampled_from(BITS),
        ONE_SCALE,
        st.sampled_from(("nearest", "stochastic")),
    ),
    st.builds(Setting, st.sampled_from(("whitened", "plain")), st.just("rows"), st.floats(0.001, 1)),
    st.builds(Setting, st.just("whitened"), st.just("worth"), st.floats(0.01, 1), st.sampled_from(BITS), ONE_SCALE),
)


def metric(columns: int, texts: int = 12) -> Metric:
    """Of `texts` random texts: singular before the ridge where there are fewer than columns."""
    x = np.random.default_rng(columns).standard_normal((texts, columns)).astype(np.float32)
    return Metric(x.T @ x / np.float32(texts))


def uneven(rows: int, columns: int, seed: int = 0) -> Floats:
    """A table as homes make them: a few long rows, many short ones."""
    rng = np.random.default_rng(seed)
    return np.asarray(rng.standard_normal((rows, columns)) * rng.exponential(1, (rows, 1)) ** 2, np.float32)


def back(data: bytes, table: Floats) -> Floats:
    return compression.decompress(data, table.shape[0], table.shape[1], metric(table.shape[1]))


@given(TABLES, SETTINGS, st.integers(0, sparsity.MAX_SEED))
def test_every_setting_gives_a_finite_table_of_the_same_shape_and_the_same_bytes_again(
    table: Floats, setting: Setting, seed: int
) -> None:
    data = compression.compress(table, setting, metric(table.shape[1]), seed)
    again = back(data, table)
    assert again.shape == table.shape
    assert again.dtype == np.float32
    assert np.isfinite(again).all()
    assert compression.compress(table, setting, metric(table.shape[1]), seed) == data
    assert len(data) <= 4 * table.shape[0] * (table.shape[1] + 1) + 11


@given(TABLES, st.sampled_from(("whitened", "plain")), st.sampled_from(("rows", "top", "worth", "dense")), ONE_SCALE)
def test_the_nearest_levels_never_make_a_table_longer(
    table: Floats, basis: compression.Basis, kept: compression.Sparsity, block: int
) -> None:
    measured = metric(table.shape[1]) if basis == "whitened" else None
    for bits in BITS:
        data = compression.compress(table, Setting(basis, kept, 1.0, bits, block), measured, 0)
        decoded = compression.decompress(data, table.shape[0], table.shape[1], measured)
        before = compression.norm(table, measured)
        assert compression.norm(decoded, measured) <= before * (1 + 1e-5)
        # A projection (but for its scale's rounding) takes away what it holds.
        assert compression.norm(table - decoded, measured) <= before * (1 + 1e-5)


@given(TABLES)
def test_dense_8_bits_are_exact_to_half_a_level_of_the_row(table: Floats) -> None:
    setting = Setting("plain", "dense", 1.0, 8, table.shape[1])
    decoded = compression.decompress(compression.compress(table, setting, None, 0), *table.shape, None)
    # Half a level, and what the scale's fit and its rounding to 1/17 do to 128 levels.
    peaks = np.abs(table).max(1, keepdims=True)
    lost = peaks < np.abs(table).max() * 2.0**-16
    assert (np.abs(table - decoded) <= np.where(lost, peaks, peaks * (0.5 / 128 + 1 / 16))).all()


@pytest.mark.parametrize("rows_columns", [(27, 97), (64, 129)])
def test_more_bytes_err_less_in_the_metric_of_logits(rows_columns: tuple[int, int]) -> None:
    table, measured = uneven(*rows_columns), metric(rows_columns[1], 300)
    lost = []
    for bits_per_number in (0.25, 0.5, 1.0, 2.0, 4.0):
        budget = int(bits_per_number * table.size / 8)
        data, _ = compression.auto(table, budget, measured, 0, 1e6)
        assert len(data) <= budget
        lost.append(
            compression.norm(table - back_of(data, table, measured), measured) / compression.norm(table, measured)
        )
    assert lost == sorted(lost, reverse=True)
    # Squared, a bit a number leaves less than a fifth of what there was, and four bits a thousandth.
    assert lost[2] ** 2 < 0.1
    assert lost[4] ** 2 < 1e-3


def back_of(data: bytes, table: Floats, measured: Metric | None) -> Floats:
    return compression.decompress(data, table.shape[0], table.shape[1], measured)


def test_the_whitened_basis_errs_less_than_the_plain_one_where_features_depend_on_each_other() -> None:
    table, columns = uneven(20, 40), 40
    rng = np.random.default_rng(3)
    x = (rng.standard_normal((200, columns)) @ rng.standard_normal((columns, columns))).astype(np.float32)
    measured = Metric(x.T @ x / np.float32(200))
    whitened, _ = compression.auto(table, 120, measured, 0, 1e6)
    plain, _ = compression.auto(table, 120, None, 0, 1e6)
    errors = [compression.norm(table - back_of(data, table, measured), measured) for data in (whitened, plain)]
    assert errors[0] ** 2 < 0.8 * errors[1] ** 2


def test_rows_fit_in_their_share_and_err_less_in_a_larger_one() -> None:
    table, measured = uneven(27, 97), metric(97, 300)
    lost = []
    for share in (0.0005, 0.002, 0.01, 0.02, 0.04, 0.08, 0.16):
        data = compression.compress(table, Setting("whitened", "rows", share), measured, 0)
        assert len(data) <= max(1, share * 4 * table.size)
        lost.append(compression.norm(table - back_of(data, table, measured), measured))
    assert lost == sorted(lost, reverse=True)
    assert lost[0] == compression.norm(table, measured)
    assert lost[-1] < 0.05 * lost[0]


def test_the_books_are_those_of_the_lattice_and_of_the_code() -> None:
    """What is known of them: lengths, inner products and distances (Conway and Sloane 1999, 4.8 and 2.12)."""
    eight, sixteen = lattice.EIGHT[0].astype(int), lattice.SIXTEEN.astype(int)
    roots = eight[:240]
    assert (np.square(roots).sum(1) == 8).all()
    assert (np.square(eight[240:]).sum(1) == 16).all()
    # Each root of E8 has 56 neighbours at 60 degrees, 126 at 90, 56 at 120 and its opposite.
    products, counts = np.unique(roots @ roots[100], return_counts=True)
    assert dict(zip(products.tolist(), counts.tolist(), strict=True)) == {-8: 1, -4: 56, 0: 126, 4: 56, 8: 1}
    # The distances of the Nordstrom-Robinson code: 112 words at 6, 30 at 8, 112 at 10, one at 16.
    distances, counts = np.unique((sixteen != sixteen[77]).sum(1), return_counts=True)
    assert dict(zip(distances.tolist(), counts.tolist(), strict=True)) == {0: 1, 6: 112, 8: 30, 10: 112, 16: 1}


@pytest.mark.parametrize(("kind", "left"), [(1, 0.574), (2, 0.318), (3, 0.102), (4, 0.035), (5, 0.0131)])
def test_words_leave_what_they_should_of_normal_rows(kind: int, left: float) -> None:
    values = np.random.default_rng(kind).standard_normal((40, 800))
    coded = lattice.pack(values, np.full(40, kind), 1.2)
    order, words = lattice.unpack(coded, 40, 800)
    assert (order == np.arange(40)).all()
    rest = values - 1.2 * words
    assert len(coded) == lattice.size(np.full(40, kind), 800)
    assert np.isclose(np.square(rest).mean(), left, rtol=0.07)


def test_auto_takes_coefficients_alone_where_few_hold_most() -> None:
    spikes = np.zeros((20, 60), np.float32)
    spikes[::3, ::20] = uneven(7, 3)
    assert compression.auto(spikes, 60, None, 0, 1e3)[1].sparsity == "worth"
    assert compression.auto(uneven(20, 60), 60, None, 0, 1e3)[1].sparsity == "rows"


def test_what_is_worth_its_bits_errs_less_than_the_largest_in_as_many_bytes() -> None:
    better = []
    for seed in range(5):
        table, measured = uneven(27, 97, seed), metric(97, 400)
        found = []
        for kept in ("top", "worth"):
            fitting = [
                data
                for keep in np.linspace(0.02, 0.4, 60)
                if len(data := compression.compress(table, Setting("whitened", kept, keep, 4), measured, 0)) <= 200
            ]
            found.append(min(compression.norm(table - back_of(data, table, measured), measured) for data in fitting))
        better.append(found[1] < found[0])
    assert sum(better) >= 4


@given(TABLES, st.integers(1, 189))
def test_the_largest_leave_out_at_most_their_share(table: Floats, count: int) -> None:
    values = table.astype(np.float64)
    kept = sparsity.top(values, count)
    left = np.square(np.where(kept, 0, values)).sum()
    assert kept.sum() == min(count, np.count_nonzero(values))
    assert left <= (1 - min(count, values.size) / values.size) * np.square(values).sum() * (1 + 1e-12)


@given(st.integers(1, 40), st.integers(0, sparsity.MAX_SEED), st.data())
def test_drawn_columns_are_different_ascending_and_the_same_for_a_part_of_the_rows(
    columns: int, seed: int, data: st.DataObject
) -> None:
    count = data.draw(st.integers(1, columns))
    chosen = sparsity.draw(np.arange(7), columns, count, seed)
    assert chosen.shape == (7, count)
    assert (np.diff(chosen, axis=1) > 0).all()
    assert chosen.min() >= 0
    assert chosen.max() < columns
    assert (sparsity.draw(np.array([2, 5]), columns, count, seed) == chosen[[2, 5]]).all()


def test_every_column_is_drawn_as_often_as_any_other() -> None:
    drawn = np.zeros(12)
    for seed in range(400):
        np.add.at(drawn, sparsity.draw(np.arange(10), 12, 3, seed), 1)
    # 4,000 draws of 3 in 12: 1,000 each, and a standard deviation of 27.
    assert np.abs(drawn - 1000).max() < 5 * 27


def estimates(setting: Setting, table: Floats, tries: int) -> NDArray[np.float64]:
    decoded = [
        compression.decompress(compression.compress(table, setting, None, seed), *table.shape, None)
        for seed in range(tries)
    ]
    return np.asarray(decoded, np.float64)


@pytest.mark.parametrize(
    "setting",
    [
        Setting("plain", "random", 0.25, 8, 0, "stochastic"),
        Setting("plain", "random", 0.5, 2, 4, "stochastic"),
        Setting("plain", "dense", 1.0, 1, 0, "stochastic"),
        Setting("plain", "dense", 1.0, 4, 5, "stochastic"),
    ],
    ids=lambda setting: f"{setting.sparsity}-{setting.bits}",
)
def test_drawing_and_rounding_by_chance_have_no_bias(setting: Setting) -> None:
    # No number is so small that chance may never pick it.
    table, tries = np.copysign(np.abs(uneven(3, 20)) % 1 + 0.5, uneven(3, 20)), 2000
    found = estimates(setting, table, tries)
    error = found.mean(0) - table
    # Of the mean, in each of the 60 numbers; 5 standard deviations are missed once in a million.
    deviation = found.std(0) / np.sqrt(tries)
    assert (np.abs(error) <= 5 * deviation + 1e-5 * np.abs(table)).all()
    assert deviation.max() > 0


def test_rounding_to_the_nearest_has_a_bias_which_the_test_above_would_see() -> None:
    table = uneven(3, 20)
    found = estimates(Setting("plain", "dense", 1.0, 1), table, 2)
    assert np.abs(found.mean(0) - table).max() > 0.1


@given(TABLES, st.floats(2.0**-10, 2.0**10), st.integers(1, 200), st.booleans())
def test_what_auto_sends_fits_and_is_never_above_the_bound(
    table: Floats, bound: float, budget: int, plain: bool
) -> None:
    measured = None if plain else metric(table.shape[1])
    data, setting = compression.auto(table, budget, measured, 0, bound)
    decoded = back_of(data, table, measured)
    assert len(data) <= budget
    assert compression.norm(decoded, measured) <= bound
    if data != b"\0":
        assert compression.compress(compression.clip(table, bound, measured), setting, measured, 0) == data


@given(TABLES, st.floats(2.0**-10, 2.0**10))
def test_a_clipped_table_keeps_its_direction(table: Floats, bound: float) -> None:
    measured = metric(table.shape[1])
    clipped, before = compression.clip(table, bound, measured), compression.norm(table, measured)
    assert compression.norm(clipped, measured) <= bound
    if before <= 0.999 * bound:
        assert clipped is table
    else:
        assert np.allclose(clipped * (before / bound), table, rtol=2e-3, atol=1e-30)


def test_the_gateway_measures_no_more_than_the_bound() -> None:
    """Admission takes the moment without the ridge, so a clipped table passes it."""
    table, measured = 100 * uneven(6, 9), metric(9)
    data, _ = compression.auto(table, 400, measured, 0, 5.0)
    decoded = back_of(data, table, measured).astype(np.float64)
    seen = np.sqrt(np.einsum("ci,ij,cj->", decoded, measured.moment.astype(np.float64), decoded))
    assert 4 < seen <= 5


@given(SHAPES, SETTINGS)
def test_a_table_of_zeros_is_one_byte(shape: tuple[int, int], setting: Setting) -> None:
    table = np.zeros(shape, np.float32)
    assert compression.compress(table, setting, metric(shape[1]), 3) == b"\0"
    assert compression.auto(table, 50, metric(shape[1]), 3, 1.0)[0] == b"\0"
    assert not back(b"\0", table).any()


@pytest.mark.parametrize("shape", [(1, 4096), (4096, 1), (1, 1), (40, 4096)])
def test_the_largest_and_the_smallest_tables_go_and_come_back(shape: tuple[int, int]) -> None:
    table = uneven(*shape)
    settings = [Setting("plain", "top", 0.1, 4), Setting("plain", "dense", 1.0, 8, shape[1])]
    # One number takes more than 4 bytes.
    settings += [Setting("plain", "rows", 0.5)] if table.size > 1 else []
    for setting in settings:
        data = compression.compress(table, setting, None, 0)
        decoded = compression.decompress(data, *shape, None)
        assert compression.norm(table - decoded, None) < compression.norm(table, None)
        assert compression.compress(table, setting, None, 0) == data


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -(2.0**64)])
def test_numbers_that_are_none_or_too_large_are_not_sent(value: float) -> None:
    table = uneven(3, 4)
    table[1, 2] = value
    for setting in (Setting("plain"), Setting("plain", "dense", 1.0, 4, 0, "stochastic"), Setting("whitened")):
        with pytest.raises(InputError):
            compression.compress(table, setting, metric(4), 0)
    with pytest.raises(InputError):
        compression.auto(table if not np.isfinite(value) else np.full((2, 2), np.nan, np.float32), 99, None, 0, 1.0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"basis": "eigen"},
        {"sparsity": "some"},
        {"rounding": "up"},
        {"bits": 3},
        {"keep": 0.0},
        {"keep": 1.5},
        {"keep": float("nan")},
        {"sparsity": "dense", "keep": 0.5},
        {"sparsity": "worth", "rounding": "stochastic"},
        {"sparsity": "rows", "rounding": "stochastic"},
        {"block": -1},
        {"block": 5000},
    ],
    ids=str,
)
def test_settings_that_are_none_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        Setting(**wrong)


def test_what_does_not_fit_is_refused() -> None:
    table = uneven(3, 4)
    for call in (
        lambda: compression.compress(table, Setting(), None, 0),
        lambda: compression.compress(table, Setting(), metric(5), 0),
        lambda: compression.compress(table, Setting(), metric(4), -1),
        lambda: compression.compress(table, Setting(), metric(4), 1 << 32),
        lambda: compression.compress(table[0], Setting(), metric(4), 0),
        lambda: compression.compress(np.zeros((1, 4097), np.float32), Setting("plain"), None, 0),
        lambda: compression.decompress(b"\0", 0, 4, None),
        lambda: compression.decompress(b"\0", 3, 4097, None),
        lambda: compression.decompress(b"\0", 3, 4, metric(5)),
        lambda: compression.auto(table, 0, None, 0, 1.0),
        lambda: compression.clip(table, 0.0, None),
        lambda: compression.clip(table, float("inf"), None),
        lambda: compression.norm(table, Metric(np.full((4, 4), np.nan, np.float32))),
        lambda: compression.norm(table, Metric(-np.eye(4, dtype=np.float32))),
        lambda: compression.norm(table, Metric(np.zeros((4, 3), np.float32))),
        lambda: sparsity.draw(np.arange(2), 4, 5, 0),
    ):
        with pytest.raises(InputError):
            call()


@given(TABLES, SETTINGS)
def test_the_norm_that_comes_with_a_table_is_the_table_s(table: Floats, setting: Setting) -> None:
    measured = metric(table.shape[1])
    data = compression.compress(table, setting, measured, 0)
    decoded, norm = compression.measured(data, table.shape[0], table.shape[1], measured)
    assert (decoded == back(data, table)).all()
    assert np.isclose(norm, compression.norm(decoded, measured), rtol=1e-4, atol=1e-30)


def test_the_whitened_length_is_the_change_of_logits() -> None:
    """On the very texts of which the moment is, but for the ridge."""
    rng = np.random.default_rng(5)
    x = rng.standard_normal((50, 6)).astype(np.float32)
    table = uneven(4, 6)
    changes = np.square(x.astype(np.float64) @ table.T.astype(np.float64)).sum(1).mean()
    ridge = 1e-3 * np.square(table.astype(np.float64)).sum()
    assert np.isclose(compression.norm(table, Metric(x.T @ x / np.float32(50))) ** 2, changes + ridge, rtol=1e-5)


@given(st.floats(2.0**-126, 2.0**63), st.floats(2.0**-17, 1))
def test_scales_round_to_their_side_and_by_little(value: float, share: float) -> None:
    down, up = quantise.scale(quantise.scale_down(value)), quantise.scale(quantise.scale_up(value))
    assert value * (1 - 2.0**-7) <= down <= value <= up <= value * (1 + 2.0**-7)
    part = np.array([[share * value]])
    low, high = (float(quantise.SHARES[int(found[0, 0])]) for found in
                 (quantise.shares_down(part, value), quantise.shares_up(part, value)))  # fmt: skip
    assert high >= share * (1 - 1e-12)
    assert low <= max(share * (1 + 1e-12), float(quantise.SHARES[-1]))
    assert high <= low * (1 + 1 / 16) * (1 + 1e-12)
