"""What an answer costs beside the model alone: both sides in one run, in turns, so that ratios are fair.

The reference is what anybody would write by hand: the artifact's own tokenizer, then `set_tensor`, `invoke` and
`get_tensor` of the logits. `predict` is the same and the rest of an answer: the text checked, the label found, and its
probability. Which comes first changes with every block.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from tasuki.sdk import artifact
from tasuki.sdk.adapter import Head
from tasuki.sdk.artifact import Artifact
from tasuki.sdk.classifier import Classifier, checked_text
from tasuki.sdk.runtime import load_interpreter
from tasuki.sdk.scorer import Scorer

CALLS: Final = 4000
# The sides take turns in blocks: a program has one interpreter, whose weights stay in the processor's cache. The first
# calls of each block, which find the other side's there, are not counted.
_BLOCK: Final = 50
_WARM_UP: Final = 10
Answer = Callable[[str], Any]


def predict_ratio(
    path: Path, answers: Mapping[str, Answer], texts: Sequence[str], calls: int = CALLS
) -> dict[str, Any]:
    """Median microseconds of `calls` calls of each side, and `ratio`, by the names of `answers`, to the reference.

    `texts` are taken in turn. `bare` is the reference, `tokenise` its tokenizer alone, `tokenise_share` their quotient.
    Nothing is pinned to a processor: the run order makes up for what the machine does meanwhile.
    """
    parts = artifact.load(path)
    encode = parts.tokenizer().encode
    sides: dict[str, Answer] = {"bare": _bare(parts), "tokenise": encode, **answers}
    names = list(sides)
    spent: dict[str, list[int]] = {name: [] for name in names}
    for block in range(-(-calls // _BLOCK)):
        first = block % len(names)
        for name in (*names[first:], *names[:first]):
            side = sides[name]
            for turn in range(_WARM_UP + _BLOCK):
                text = texts[turn % len(texts)]
                began = time.perf_counter_ns()
                side(text)
                taken = time.perf_counter_ns() - began
                if turn >= _WARM_UP:
                    spent[name].append(taken)
    medians = {name: float(np.median(taken)) / 1e3 for name, taken in spent.items()}
    return {
        "calls": calls,
        "microseconds": medians,
        "tokenise_share": medians["tokenise"] / medians["bare"],
        "ratio": {name: medians[name] / medians["bare"] for name in answers},
    }


def answers(path: Path, seed: int = 0) -> dict[str, Answer]:
    """The quick path without a device: with no adapter, with a local one, and with a fleet's and its gate.

    The heads are random, of seed `seed`: how long they take does not depend on their numbers.
    """
    parts = artifact.load(path, mapped=True)
    classifier, rng = Classifier(parts), np.random.default_rng(seed)
    weight = 0.1 * rng.standard_normal((len(parts.labels), parts.features))
    head = Head(parts.labels, weight.astype(np.float32), rng.standard_normal(len(parts.labels)).astype(np.float32))
    base, grid, temperature = classifier.base, classifier.grid, parts.temperature
    scorers = {
        "base": Scorer(base, grid, temperature),
        "local": Scorer(base, grid, temperature, head),
        "fleet": Scorer(base, grid, temperature, head, temperature),
    }
    return {name: _answer(classifier, scorer) for name, scorer in scorers.items()}


def _answer(classifier: Classifier, scorer: Scorer) -> Answer:
    run, wanted = classifier.run, scorer.needs_features
    return lambda text: scorer(run(checked_text(text), wanted))


def _bare(parts: Artifact) -> Answer:
    _, interpreter = load_interpreter()
    made = interpreter(model_content=parts.model, num_threads=1)
    made.allocate_tensors()
    given = made.get_input_details()[0]["index"]
    wanted = made.get_output_details()[parts.outputs.logits]["index"]
    encode = parts.tokenizer().encode

    def run(text: str) -> Any:
        made.set_tensor(given, encode(text)[None])
        made.invoke()
        return made.get_tensor(wanted)

    return run
