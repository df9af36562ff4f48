"""The task `causal`: text written on and scored by a body and the adapter of its vocabulary layer."""

import threading
from collections.abc import Sequence

import numpy as np

from tasuki.sdk import causal_learner, generate
from tasuki.sdk.adapter import Floats, Head
from tasuki.sdk.artifact import Artifact
from tasuki.sdk.cache import Example, digest
from tasuki.sdk.causal_learner import Spoken, TextLesson
from tasuki.sdk.features import Grid
from tasuki.sdk.generate import Adapt, Generation, Score
from tasuki.sdk.prediction import Verdict
from tasuki.sdk.runtime import Options
from tasuki.sdk.vocabulary_layer import VocabularyLayer, token_examples
from tasuki.sdk.wanted import Wanted


class CausalTask:
    """A causal model that learns. Thread-safe: calls wait for one another, a text as it comes lets go between tokens.

    Raises as `generate.text_model` and `VocabularyLayer` do.
    """

    def __init__(self, parts: Artifact, options: Options, wanted: Wanted) -> None:
        self.wanted = wanted
        self._kind = wanted.make()
        self.temperature = 1.0
        self._model = generate.text_model(parts, options)
        self._grid = Grid((self._model.decoder.grids[0],))
        self._lock = threading.RLock()
        self._parts = parts
        self._layer: VocabularyLayer | None = None
        self._now = Spoken(None, Verdict("base", "no examples yet"))
        self._adapt: Adapt | None = None

    @property
    def runtime(self) -> str:
        """Name of the interpreter's package."""
        return self._model.decoder.runtime

    @property
    def verdict(self) -> Verdict:
        """Who speaks, and why."""
        return self._now.verdict

    @property
    def own_labels(self) -> tuple[str, ...]:
        """None: tokens are not added on a device."""
        return ()

    def generate(self, prompt: str, **wanted: object) -> Generation:
        """See `tasuki.sdk.generate.generate`."""
        return generate.generate(self._model, prompt, adapt=self._adapt, lock=self._lock, **wanted)  # type: ignore[arg-type]

    def score(self, text: str) -> Score:
        """See `tasuki.sdk.generate.score`."""
        with self._lock:
            return generate.score(self._model, text, self._adapt)

    def example(self, text: str, label: str, keep_text: bool) -> Example:
        """What is kept of the checked `text`: features of its tokens, and what followed each."""
        with self._lock:
            found = token_examples(self._model.decoder, self._model.ids(text), self._model.first)
        if self._grid.exact:
            features, scale = found.raw.tobytes(), 1.0
        else:
            features, scale = _packed(found.features())
        targets = found.targets.astype("<i4").tobytes()
        return Example(digest(text), text if keep_text else None, label, features, b"", scale, 1.0, targets)

    def reset(self, examples: Sequence[Example]) -> None:
        """Nothing is known beside the examples."""

    def fit(self, examples: Sequence[Example], fleet: Head | None) -> None:
        """Refit on `examples`, and speak with the outcome from now on; there is no fleet's adapter."""
        del fleet
        if not examples:
            self._now, self._adapt = Spoken(None, Verdict("base", "no examples yet")), None
            return
        with self._lock:
            if self._layer is None:
                decoder = self._model.decoder
                self._layer = VocabularyLayer(decoder, self._parts.vocabulary_layer, self._parts.vocabulary_bias)
            layer = self._layer
        spoken = causal_learner.learn(
            self._kind, layer.vocabulary, layer.logits, self._lesson(examples), self._now.local
        )
        self._now, self._adapt = spoken, self._adapter(spoken)

    def _adapter(self, spoken: Spoken) -> Adapt | None:
        if spoken.local is None or spoken.verdict.answers != "local":
            return None
        weight, bias, project = spoken.local.weight, spoken.local.bias, self._kind.project

        def adapt(features: Floats, logits: Floats) -> Floats:
            return np.asarray(logits + weight @ project(features[None])[0] + bias, np.float32)

        return adapt

    def _lesson(self, examples: Sequence[Example]) -> TextLesson:
        width = self._grid.width
        codes = [np.frombuffer(e.features, np.int8).reshape(-1, width).astype(np.float32) for e in examples]
        if self._grid.exact:
            rows = [(code - self._grid.zeros) * self._grid.scales for code in codes]
        else:
            rows = [code * np.float32(e.scale) for code, e in zip(codes, examples, strict=True)]
        targets = [np.frombuffer(e.targets, "<i4").astype(np.intp) for e in examples]
        return TextLesson(
            np.concatenate(rows).astype(np.float32),
            np.concatenate(targets),
            np.repeat(np.arange(len(examples)), [len(one) for one in targets]),
        )


def _packed(features: Floats) -> tuple[bytes, float]:
    """Codes and one scale for all tokens of a text: symmetric int8."""
    scale = float(np.abs(features).max(initial=0.0)) / 127
    if not scale > 0:
        return bytes(features.size), 1.0
    return np.clip(np.rint(features / np.float32(scale)), -127, 127).astype(np.int8).tobytes(), scale
