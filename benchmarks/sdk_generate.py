"""What generation costs beside a bare decode loop: the same tokens, in turn, on one thread."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tasuki.sdk import artifact, generate
from tasuki.sdk.errors import TasukiError
from tasuki.sdk.generate import TextModel
from tasuki.sdk.runtime import Options, open_interpreter

PROMPTS = ("hello there", "how was your", "I like to")
SAMPLED = {"temperature": 0.8, "top_k": 40, "top_p": 0.9}


class WaysDiffer(TasukiError):
    """Generation and the loop gave other tokens, so their times say nothing."""


def run(path: Path, prompts: Sequence[str] = PROMPTS, tokens: int = 48, rounds: int = 60) -> dict[str, Any]:
    """Figures of the causal artifact at `path`, `tokens` tokens (or what the context has left) after each prompt.

    `generate_ratio` is the median time of greedy generation, piece by piece, over that of a loop on the interpreter
    that copies keys and values in place and takes the highest logit, without text; `sampled_ratio` that of sampled
    generation over the same loop. Both read the prompt. The ways take turns within every round.
    """
    model = generate.text_model(artifact.load(path))
    bare = Bare(artifact.load(path).model)
    texts = [model.ids(prompt) for prompt in prompts]
    spent: dict[str, list[float]] = {"bare": [], "generate": [], "sampled": []}
    made = 0
    for turn in range(rounds + 1):
        for prompt, ids in zip(prompts, texts, strict=True):
            first = [*model.first, *ids]
            found, fast = _timed(_generated, model, prompt, tokens, {})
            same, slow = _timed(bare.greedy, first, len(found))
            sampled, drawn = _timed(_generated, model, prompt, tokens, SAMPLED)
            if same != found:
                raise WaysDiffer(f"the loop gives {same} after {prompt!r}, generation {found}")
            if turn:
                made += len(found)
                # Of each token that is read; a sampled text may end sooner.
                for name, seconds, ended in (
                    ("bare", slow, found),
                    ("generate", fast, found),
                    ("sampled", drawn, sampled),
                ):
                    spent[name].append(seconds / (len(first) + max(len(ended), 1) - 1))
    median = {name: float(np.median(seconds)) for name, seconds in spent.items()}
    return {
        "generate_ratio": median["generate"] / median["bare"],
        "sampled_ratio": median["sampled"] / median["bare"],
        "bare_tokens_per_second": 1 / median["bare"],
        "generate_tokens_per_second": 1 / median["generate"],
        "sampled_tokens_per_second": 1 / median["sampled"],
        "tokens": made,
    }


class Bare:
    """The loop that somebody would write for this model: decode, in place."""

    def __init__(self, model: Any) -> None:
        _, self.interpreter = open_interpreter(model, Options())
        self._model = model
        self.interpreter.allocate_tensors()
        runner = self.interpreter.get_signature_runner("decode")
        inputs, outputs = runner.get_input_details(), runner.get_output_details()
        view = self.interpreter.tensor
        self.ids, self.position = view(inputs["ids"]["index"]), view(inputs["position"]["index"])
        self.logits = view(outputs["logits"]["index"])
        self.caches = [
            (view(inputs[name]["index"]), view(outputs[name]["index"]))
            for name in inputs
            if name not in ("ids", "position")
        ]

    def greedy(self, prompt: Sequence[int], count: int) -> list[int]:
        """`count` tokens after `prompt`."""
        found: list[int] = []
        token = 0
        for at in range(len(prompt) + count - 1):
            token = prompt[at] if at < len(prompt) else token
            self.ids()[0, 0] = token
            self.position()[0] = at
            self.interpreter.invoke()
            for cache, new in self.caches:
                cache()[:, :, at] = new()[:, :, 0]
            if at >= len(prompt) - 1:
                token = int(self.logits()[0].argmax())
                found.append(token)
        return found


def _generated(model: TextModel, prompt: str, tokens: int, wanted: dict[str, Any]) -> list[int]:
    # Nothing is kept of the prompt: the loop keeps nothing either.
    model.decoder.restart()
    made = generate.generate(model, prompt, max_tokens=tokens, **wanted)
    for _ in made:
        pass
    return list(made.ids)


def _timed(action: Callable[..., list[int]], *arguments: Any) -> tuple[list[int], float]:
    began = time.perf_counter()
    found = action(*arguments)
    return found, time.perf_counter() - began
