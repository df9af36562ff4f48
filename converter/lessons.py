"""From texts to a lesson: what a student reads, its labels, and what the teacher says, of new texts too."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tasuki.converter import augment, teacher, vocabulary
from tasuki.converter.assemble import targets
from tasuki.converter.bert_reader import Counter
from tasuki.converter.graph import Floats
from tasuki.converter.recipe import Recipe
from tasuki.converter.student import StudentShape
from tasuki.converter.teacher import Teacher, TeacherHead
from tasuki.converter.texts import Texts
from tasuki.converter.training import Lesson
from tasuki.sdk.console import Progress
from tasuki.sdk.errors import TextsInvalid
from tasuki.sdk.tokenizer import UNKNOWN_PIECE, Tokenizer

Slots = Mapping[str, Sequence[str]]
_NO_LABEL: Final = -1
# Of the new texts, how many keep their label: the others mean something of which only the teacher knows.
_KEPT: Final = 0.5
_READS: Final = "teacher reads"


@dataclass(frozen=True)
class Taught:
    """Texts, the numbers of their labels int32 [n] (-1: none), and the teacher's embeddings and logits."""

    texts: tuple[str, ...]
    targets: NDArray[np.int32]
    embeddings: Floats
    logits: Floats


@dataclass(frozen=True)
class School:
    """A teacher with a head for `labels`, its own or one fitted on labelled texts."""

    teacher: Teacher
    labels: tuple[str, ...]
    head: TeacherHead | None

    def teach(self, texts: Texts, progress: Progress, phase: str, numbers: NDArray[np.int32] | None = None) -> Taught:
        """What the teacher says of `texts`; `numbers` are their labels' where `texts` does not have them."""
        numbers = _numbers(texts, self.labels) if numbers is None else numbers
        embeddings, logits = self.teacher.read(texts.texts, _counter(progress, phase))
        return Taught(texts.texts, numbers, embeddings, self.head.logits(embeddings) if self.head else logits)


def open_school(who: Teacher, train: Texts, validation: Texts, progress: Progress) -> tuple[School, Taught, Taught]:
    """The school, and what is taught of `train` and `validation`.

    A teacher without labels gets a head, which only labelled texts can give. Raises TextsInvalid: neither the teacher
    nor the texts have labels, or the texts have one that the teacher's head has not.
    """
    if not who.labels and train.labels is None:
        raise TextsInvalid(
            f"neither the texts nor the teacher {who.name} have labels: give labelled texts, or a teacher with a head"
        )
    labels = who.labels or tuple(sorted(set(train.labels or ())))
    numbers = [_numbers(texts, labels) for texts in (train, validation)]
    read = [
        who.read(texts.texts, _counter(progress, phase))
        for texts, phase in ((train, _READS), (validation, f"{_READS} held-out texts"))
    ]
    head = None
    if not who.labels:
        progress("teacher's head", 0, 1, "")
        head = teacher.fit_head(read[0][0], numbers[0], len(labels))
        progress("teacher's head", 1, 1, "")
    found = [
        Taught(texts.texts, each, embeddings, head.logits(embeddings) if head else logits)
        for texts, each, (embeddings, logits) in zip((train, validation), numbers, read, strict=True)
    ]
    return School(who, labels, head), found[0], found[1]


def invent(school: School, known: Taught, slots: Slots, recipe: Recipe, progress: Progress) -> Taught | None:
    """What the teacher says of new texts made from the `known` ones; None if none are wanted or can be made."""
    given = len(known.texts)
    count = min(max(recipe.texts - given, round(recipe.extra * given)), round(recipe.growth * given))
    if count <= 0:
        return None
    rng = random.Random(f"invent {recipe.seed}")  # noqa: S311  (no secret)
    names = [str(number) for number in known.targets]
    new, kept = augment.augment(known.texts, names, round(_KEPT * count), rng, slots)
    near = augment.neighbours(known.texts, school.teacher.pieces, school.teacher.table)
    more = augment.blend((*known.texts, *new), count - len(new), rng, near)
    numbers = np.array([*map(int, kept), *[_NO_LABEL] * len(more)], np.int32)
    return school.teach(Texts((*new, *more)), progress, f"{_READS} new texts", numbers) if len(numbers) else None


def lesson(
    school: School, parts: Sequence[Taught], pieces: Sequence[str], shape: StudentShape, heads: int, progress: Progress
) -> Lesson:
    """`parts`, one after the other, as a student with the vocabulary `pieces` reads them; `heads` of relations or 0."""
    tokenizer = Tokenizer(pieces, shape.tokens)
    texts = [text for part in parts for text in part.texts]
    ids = np.stack([tokenizer.encode(text) for text in texts])
    relations = np.zeros((len(texts), heads, shape.tokens, shape.tokens), np.float16)
    same = np.zeros(ids.shape, np.bool_)
    if heads and school.teacher.relate:
        told = school.teacher.relate(texts, heads, _counter(progress, "teacher relates"))
        for row, (names, products) in enumerate(told):
            n = len(names)
            mine = [pieces[i] for i in ids[row] if i]
            if 0 < n <= shape.tokens and names == mine and UNKNOWN_PIECE not in mine:
                relations[row, :, :n, :n], same[row, :n] = products, True
    return Lesson(
        ids,
        np.concatenate([part.targets for part in parts]),
        np.concatenate([part.logits for part in parts]),
        np.concatenate([part.embeddings for part in parts]),
        relations,
        same,
    )


def first_weights(who: Teacher, pieces: Sequence[str], width: int) -> Floats:
    """First embeddings of a student's pieces, float32 [pieces, width]."""
    return 0.5 * vocabulary.embeddings(pieces, width, who.pieces, who.table)


def _counter(progress: Progress, phase: str) -> Counter:
    return lambda done, total: progress(phase, done, total, "")


def _numbers(texts: Texts, labels: Sequence[str]) -> NDArray[np.int32]:
    if texts.labels is None:
        return np.full(len(texts.texts), _NO_LABEL, np.int32)
    return targets(texts.labels, labels).astype(np.int32)
