"""Distillation: teachers, lessons, losses, early stopping, resuming, and what is refused."""

import itertools
import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from teacher_kit import PIECES, RECIPE, SHAPE, data, silent, texts, toy, with_head
from test_bert_reader import made_up

from tasuki.converter import distil, homes, lessons, losses, student, teacher, training, vocabulary
from tasuki.converter.bert_reader import BertReader
from tasuki.converter.families import Checkpoint
from tasuki.converter.texts import Texts
from tasuki.sdk.errors import CheckpointUnsupported, ConversionError, TextsInvalid
from tasuki.sdk.tokenizer import Tokenizer


class Interrupted(Exception):
    pass


def same(first: distil.Student, second: distil.Student) -> bool:
    return all((value == second.weights[name]).all() for name, value in first.weights.items())


@pytest.fixture(scope="module")
def trained() -> distil.Student:
    return distil.distil(toy(), data(), SHAPE, RECIPE, silent)


# The whole way


def test_it_learns_and_repeats_bit_for_bit(trained: distil.Student) -> None:
    recipe = replace(RECIPE, epochs=10, rate=1e-2, dropped_words=0.0)
    taught = distil.distil(toy(), data(500), SHAPE, recipe, silent)
    assert taught.figures["student_float"]["held_out"] > 0.9
    assert taught.figures["teacher"]["held_out"] > 0.7
    assert same(trained, distil.distil(toy(), data(), SHAPE, RECIPE, silent))
    assert not same(trained, distil.distil(toy(), data(), SHAPE, replace(RECIPE, seed=1), silent))


def test_an_interrupted_run_ends_in_the_same_weights(trained: distil.Student, tmp_path: Path) -> None:
    whole = distil.distil(toy(), data(700), SHAPE, RECIPE, silent)
    for epoch in range(1, RECIPE.epochs + 1):
        # 21 steps an epoch; progress is told at each 20th step.
        def after(phase: str, done: int, total: int, note: str, limit: int = 21 * epoch) -> None:
            if phase == "student learns" and limit < done < total:
                raise Interrupted

        try:
            found = distil.distil(toy(), data(700), SHAPE, RECIPE, after, tmp_path)
        except Interrupted:
            assert (tmp_path / ".training.npz").is_file()
    assert same(whole, found)
    assert not list(tmp_path.iterdir())


def test_a_standing_of_another_training_is_left_alone(tmp_path: Path) -> None:
    def stop(phase: str, done: int, total: int, note: str) -> None:
        if phase == "student learns" and done > 40:
            raise Interrupted

    with pytest.raises(Interrupted):
        distil.distil(toy(), data(700), SHAPE, RECIPE, stop, tmp_path)
    other = replace(RECIPE, seed=4)
    found = distil.distil(toy(), data(700), SHAPE, other, silent, tmp_path)
    assert same(found, distil.distil(toy(), data(700), SHAPE, other, silent))


def test_a_damaged_standing_is_named(tmp_path: Path) -> None:
    (tmp_path / ".training.npz").write_bytes(b"PK half of it")
    with pytest.raises(ConversionError, match=r"\.training\.npz"):
        distil.distil(toy(), data(), SHAPE, RECIPE, silent, tmp_path)


def test_the_best_epoch_comes_back_and_patience_ends() -> None:
    wild = replace(RECIPE, epochs=40, patience=0.05, rate=0.3)
    found = distil.distil(toy(), data(), SHAPE, wild, silent)
    assert found.figures["epochs"] < 40
    assert found.figures["epochs"] == found.figures["best_epoch"] + 2


def test_unlabelled_texts_are_labelled_by_the_teacher() -> None:
    bare = data()
    bare = replace(bare, **{role: Texts(getattr(bare, role).texts) for role in ("train", "validation", "held_out")})
    found = distil.distil(with_head(), bare, SHAPE, replace(RECIPE, epochs=25, rate=1e-2), silent)
    assert found.labels == ("dim", "off", "on")
    assert found.held_out.labels == data().held_out.labels
    assert distil.accuracy(found, data().held_out) > 0.9


def test_a_student_teaches(trained: distil.Student) -> None:
    found = distil.distil(distil.of_student(trained), data(), SHAPE, RECIPE, silent)
    assert found.labels == trained.labels


def test_labels_that_do_not_fit() -> None:
    bare = data()
    bare = replace(bare, train=Texts(bare.train.texts), validation=Texts(bare.validation.texts))
    with pytest.raises(TextsInvalid, match="neither the texts nor the teacher toy"):
        distil.distil(toy(), bare, SHAPE, RECIPE, silent)
    odd = replace(data(), train=Texts(data().train.texts, ("boil",) * len(data().train.texts)))
    with pytest.raises(TextsInvalid, match="'boil', which the model's head has not"):
        distil.distil(with_head(), odd, SHAPE, RECIPE, silent)
    one = replace(odd, validation=Texts(("boil the kitchen",), ("boil",)))
    with pytest.raises(TextsInvalid, match="same label"):
        distil.distil(toy(), one, SHAPE, RECIPE, silent)
    with pytest.raises(ConversionError, match="do not fill one batch of 500"):
        distil.distil(toy(), data(), SHAPE, replace(RECIPE, batch=500), silent)


def test_user_texts_are_divided(tmp_path: Path) -> None:
    said = texts(3, 300)
    file = tmp_path / "home.csv"
    rows = [f"{text},{label}" for text, label in zip(said.texts, said.labels or (), strict=True)]
    file.write_text("\n".join(["text,label", *rows]))
    found = distil.find_data(file, 7)
    parts = [set(part.texts) for part in (found.train, found.validation, found.held_out)]
    assert found.name == "home"
    assert set.union(*parts) == set(said.texts)
    assert sum(map(len, parts)) == 300
    assert min(map(len, parts)) >= 20
    file.write_text("\n".join(["text,label", *rows[:41]]))
    with pytest.raises(TextsInvalid, match="too few"):
        distil.find_data(file, 7)


# The folder


def test_the_folder_gives_it_back(trained: distil.Student, tmp_path: Path) -> None:
    distil.save(trained, tmp_path)
    found = distil.load(tmp_path)
    assert same(trained, found)
    assert replace(found, weights={}, figures={}) == replace(trained, weights={}, figures={})
    assert dict(found.figures) == json.loads(json.dumps(trained.figures))
    assert distil.find_teacher(tmp_path).labels == trained.labels


@pytest.mark.parametrize("name", ["student.npz", "student.json", "texts.jsonl"])
def test_a_damaged_folder_is_refused(trained: distil.Student, tmp_path: Path, name: str) -> None:
    distil.save(trained, tmp_path)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-20])
    with pytest.raises(ConversionError, match="holds no student"):
        distil.load(tmp_path)


def test_weights_that_do_not_fit_are_refused(trained: distil.Student, tmp_path: Path) -> None:
    for change in ({"logits.b": np.zeros(2, np.float32)}, {"pieces": np.full_like(trained.weights["pieces"], np.nan)}):
        distil.save(replace(trained, weights={**trained.weights, **change}), tmp_path)
        with pytest.raises(ConversionError, match="missing, of another shape, or not finite"):
            distil.load(tmp_path)


# Teachers


def checkpoint(labels: tuple[str, ...] = (), distilled: bool = False, seed: int = 0) -> Checkpoint:
    return made_up(labels, distilled, seed)


def test_a_decoder_or_other_pieces_are_refused() -> None:
    found = checkpoint()
    with pytest.raises(CheckpointUnsupported, match="a decoder"):
        BertReader(replace(found, config=None))  # type: ignore[arg-type]
    model = json.dumps({**json.loads(found.tokenizer), "model": {"type": "WordLevel", "vocab": {"a": 0},
                                                                "unk_token": "a"}})  # fmt: skip
    with pytest.raises(CheckpointUnsupported, match="WordLevel"):
        teacher.of_checkpoint(replace(found, tokenizer=model.encode()))


def test_a_checkpoint_teaches_with_relations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASUKI_CACHE", str(tmp_path))
    recipe = replace(RECIPE, relation=1.0, alike=1.0, epochs=1)
    found = distil.distil(teacher.of_checkpoint(checkpoint()), data(), SHAPE, recipe, silent)
    without = distil.distil(teacher.of_checkpoint(checkpoint()), data(), SHAPE, replace(recipe, relation=0.0), silent)
    assert not same(found, without)


def test_relations_are_of_the_same_pieces_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASUKI_CACHE", str(tmp_path))
    who = teacher.of_checkpoint(checkpoint())
    said = Texts(("dim the hall lamp", "dim the zeppelin"), ("a", "b"))
    school, taught, _ = lessons.open_school(who, said, said, silent)
    pieces = ["[PAD]", "[UNK]", "dim", "the", "hall", "lamp"]
    shape = replace(SHAPE, vocabulary=len(pieces), labels=2)
    found = lessons.lesson(school, [taught], pieces, shape, 2, silent)
    assert found.same.sum(1).tolist() == [4, 0]
    assert found.relations.shape == (2, 2, 8, 8)
    np.testing.assert_allclose(found.relations[0], found.relations[0].transpose(0, 2, 1), atol=1e-2)
    assert not found.relations[1].any()


def test_the_heads_of_two_labels_and_of_a_missing_one() -> None:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((60, 4)).astype(np.float32)
    for used in ([0, 2], [0, 1, 3]):
        numbers = np.array(used, np.int32)[np.argmax(rows[:, : len(used)], 1)]
        head = teacher.fit_head(rows, numbers, 4)
        assert (head.logits(rows).argmax(1) == numbers).mean() > 0.85


# Lessons and vocabulary


def test_new_texts_keep_labels_only_where_they_mean_the_same() -> None:
    school, train, _ = lessons.open_school(toy(), data().train, data().validation, silent)
    recipe = replace(RECIPE, texts=400, growth=1.0)
    found = lessons.invent(school, train, {"place": ("kitchen", "hall", "sauna")}, recipe, silent)
    assert found is not None
    assert len(found.texts) == len(found.targets) == len(found.logits) == 160
    assert not set(found.texts) & set(train.texts)
    assert 0.4 < (found.targets == -1).mean() < 0.6
    again = lessons.invent(school, train, {"place": ("kitchen", "hall", "sauna")}, recipe, silent)
    assert again is not None
    assert again.texts == found.texts
    assert lessons.invent(school, train, {}, replace(recipe, growth=0.0), silent) is None


@given(st.lists(st.text("abé ß日ł", max_size=12), min_size=1), st.integers(80, 300))
def test_no_letter_that_the_teacher_has_is_unknown(said: list[str], size: int) -> None:
    known = ["[PAD]", "[UNK]", "[CLS]", *"abé日ł", *(f"##{c}" for c in "abé日ł"), "ab", "##日日"]
    said = [text.replace("ß", "") for text in said]
    pieces = vocabulary.prune(said, size, known)
    assert len(pieces) == len(set(pieces)) <= size
    assert all(1 not in Tokenizer(pieces, 64).pieces(word.encode()) for word in ("abba", "42", "zz"))
    if size > 100:
        assert all(1 not in Tokenizer(pieces, 64).pieces(text.encode()) for text in said)


def test_first_embeddings_are_the_teachers_main_axes() -> None:
    table = toy().table
    pieces = ["[PAD]", "[UNK]", "z", *PIECES[2:]]
    found = vocabulary.embeddings(pieces, 64, PIECES, table)
    assert not found[:3].any()
    rows = table[2:] - table[2:].mean(0)
    ratio = (found[3:] @ found[3:].T) / (rows @ rows.T)
    np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-2)


# Losses


def test_losses_vanish_where_the_student_is_the_teacher() -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal((3, 5, 8)).astype(np.float32)
    products = np.stack([losses.products(v, 2) for v in values])
    real = np.arange(5)[None] < np.array([[5], [3], [0]])
    assert abs(float(losses.relation(tf.constant(values), products, real))) < 1e-5
    assert float(losses.relation(tf.constant(values[:, ::-1]), products, real)) > 0.01
    unit = values[:, 0] / np.linalg.norm(values[:, 0], axis=1, keepdims=True)
    assert float(losses.alike(unit, unit)) < 1e-9
    assert float(losses.feature(unit, unit)) == 0


def test_places_that_are_not_real_have_no_part_in_relations() -> None:
    rng = np.random.default_rng(1)
    first = rng.standard_normal((1, 5, 8)).astype(np.float32)
    second = first.copy()
    second[:, 3:] = 9
    products, real = losses.products(first[0], 2)[None], np.arange(5)[None] < 3
    assert float(losses.relation(tf.constant(second), products, real)) == pytest.approx(0, abs=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 6), st.integers(2, 5), st.integers(0, 99))
def test_hard_and_soft_are_cross_entropies(count: int, labels: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits, wanted = rng.standard_normal((2, count, labels)).astype(np.float32)
    targets = rng.integers(-1, labels, count).astype(np.int32)
    logs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    known = targets >= 0
    expected = -logs[known, targets[known]].mean() if known.any() else 0.0
    assert float(losses.hard(logits, targets)) == pytest.approx(expected, abs=1e-5)
    shares = np.exp(wanted) / np.exp(wanted).sum(1, keepdims=True)
    assert float(losses.soft(logits, wanted, 1.0)) == pytest.approx(-(shares * logs).sum(1).mean(), abs=1e-5)


def test_labels_alone_is_the_same_training_without_a_teacher() -> None:
    recipe = RECIPE.labels_only()
    assert recipe.losses() == {"hard": 1.0, "soft": 0.0, "feature": 0.0, "alike": 0.0, "relation": 0.0}
    assert {**asdict(recipe), **RECIPE.losses()} == asdict(RECIPE)
    # What the teacher says then makes no difference.
    school, train, validation = lessons.open_school(toy(), data().train, data().validation, silent)
    pieces = vocabulary.prune(train.texts, 200, PIECES)
    shape = replace(SHAPE, vocabulary=len(pieces), labels=3)
    learn, hold = (lessons.lesson(school, [part], pieces, shape, 0, silent) for part in (train, validation))
    start = student.initial(shape, lessons.first_weights(school.teacher, pieces, shape.width), 0)
    other = replace(learn, logits=-learn.logits, embeddings=learn.embeddings[::-1].copy())
    found = [training.train(shape, start, each, hold, recipe, silent).weights for each in (learn, other)]
    assert all((value == found[1][name]).all() for name, value in found[0].items())


@pytest.mark.slow
def test_the_standard_texts_share_no_template_with_what_is_held_out() -> None:
    parts = homes.split(1000, 4)
    templates = [{c.template for c in role} for role in (parts.public, parts.validation, parts.unseen)]
    found = distil.smart_home(parts)
    assert set(found.validation.texts) | set(found.held_out.texts) == {c.text for c in parts.validation}
    assert not set(found.validation.texts) & set(found.held_out.texts)
    assert found.tests["unseen"].texts == tuple(c.text for c in parts.unseen)
    assert all(not a & b for a, b in itertools.combinations(templates, 2))
