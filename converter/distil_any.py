"""`tasuki distil`: which teacher, texts and size are meant, and the training that they ask for."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from tasuki.converter import build, causal_texts, chat, distil_causal, student_folder, teacher, tiers
from tasuki.converter import distil as distilling
from tasuki.converter.causal_texts import Corpus
from tasuki.converter.causal_train import CausalRecipe
from tasuki.converter.data import SMART_HOME, find_data
from tasuki.converter.families import Checkpoint, LlamaConfig
from tasuki.converter.open_checkpoint import open_checkpoint
from tasuki.converter.teacher import Teacher
from tasuki.converter.texts import read_texts
from tasuki.sdk.console import Progress
from tasuki.sdk.errors import ConversionError

CHAT: Final = "chat"


@dataclass(frozen=True)
class Wanted:
    """What the caller asks for; None: the standard. `fit` is a budget as `tiers.parse_budget` takes it."""

    teacher: str
    data: str | None = None
    text_column: str = "text"
    label_column: str = "label"
    tier: str | None = None
    fit: str | None = None
    name: str | None = None
    epochs: int | None = None
    seed: int = 0
    split_seed: int = 0
    quick: bool = False


def distil(wanted: Wanted, out: Path, progress: Progress) -> dict[str, Any]:
    """Train a student into the folder `out`; its figures. Raises ConversionError with its kinds, InputError."""
    if distil_causal.is_causal(Path(wanted.teacher)):
        raise ConversionError(f"{wanted.teacher} is a causal student of ours; a causal teacher is a checkpoint or GGUF")
    if student_folder.is_student(Path(wanted.teacher)):
        return _classifier(distilling.of_student(student_folder.load(Path(wanted.teacher))), wanted, out, progress)
    found, origin = open_checkpoint(wanted.teacher)
    if isinstance(found.config, LlamaConfig):
        return _causal(found, origin, wanted, out, progress)
    return _classifier(teacher.of_checkpoint(found, origin), wanted, out, progress)


def _classifier(who: Teacher, wanted: Wanted, out: Path, progress: Progress) -> dict[str, Any]:
    data = find_data(
        wanted.data or SMART_HOME, wanted.split_seed, build.recipe(quick=wanted.quick).per_template,
        wanted.text_column, wanted.label_column,
    )  # fmt: skip
    labels = len(who.labels or set(data.train.labels or ("", "")))
    tier = wanted.tier or "mcu"
    budget = tiers.parse_budget(wanted.fit) if wanted.fit else tiers.Budget()
    shape = tiers.fit(tier, labels, budget.ram, budget.flash) if wanted.fit else tiers.default(tier, labels)
    recipe = build.recipe(wanted.seed, wanted.quick)
    recipe = replace(recipe, epochs=wanted.epochs or recipe.epochs)
    trained = distilling.distil(who, data, shape, recipe, progress, out, tier)
    student_folder.save(replace(trained, name=wanted.name or trained.name), out)
    return {"task": "classify", "tier": tier, "labels": labels, **trained.figures}


def _causal(
    found: Checkpoint, origin: Mapping[str, str] | None, wanted: Wanted, out: Path, progress: Progress
) -> dict[str, Any]:
    tier = wanted.tier or "mcu-large"
    budget = tiers.parse_budget(wanted.fit) if wanted.fit else tiers.Budget()
    shape = tiers.fit(tier, 2, budget.ram, budget.flash, "causal") if wanted.fit else tiers.default(tier, 2, "causal")
    corpus, texts = _corpus(wanted)
    recipe = CausalRecipe(seed=wanted.seed).sized(shape)
    recipe = replace(recipe, epochs=wanted.epochs or recipe.epochs, windows=64 if wanted.quick else recipe.windows)
    sources = (dict(origin) if origin else distil_causal.source_of(found), *texts)
    lesson = distil_causal.prepare(found, corpus, recipe, progress)
    trained = distil_causal.learn(lesson, recipe, progress, out, sources)
    distil_causal.save(trained, out)
    return {"task": "causal", "tier": tier, **trained.figures}


def _corpus(wanted: Wanted) -> tuple[Corpus, tuple[Mapping[str, str], ...]]:
    if wanted.data in (None, CHAT):
        return chat.conversations(wanted.split_seed), (chat.ORIGIN,)
    texts = read_texts(str(wanted.data), wanted.text_column, wanted.label_column)
    return causal_texts.divide(texts, wanted.split_seed), ()
