"""Texts of a causal model: written on, piece by piece, and scored.

A model reads one text at a time, so a `TextModel` is for one thread at a time: the caller has a lock, which `generate`
can be given. Generations may be left unfinished or interleaved: one whose text was replaced reads it again.
"""

import contextlib
import math
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from tasuki.sdk.artifact import Artifact
from tasuki.sdk.checkpoint_tokenizer import TextTokenizer
from tasuki.sdk.classifier import MAX_TEXT_BYTES
from tasuki.sdk.decoder import Decoder
from tasuki.sdk.errors import ArtifactForeign, EmptyText, InputError, NotAvailable, TextTooLong
from tasuki.sdk.runtime import Floats, Options
from tasuki.sdk.sampling import Sampler
from tasuki.sdk.text_stream import TextStream
from tasuki.sdk.text_windows import windows

# What an adapter makes of the features float32 [d] and the logits float32 [V] of a token: new logits float32 [V].
Adapt = Callable[[Floats, Floats], Floats]


@dataclass(frozen=True)
class TextModel:
    """A causal model with its tokenizer. `start` is the id that a text begins with (None where it is inside the model,
    and there is none to give), `stops` are the ids that end one.
    """

    decoder: Decoder
    tokenizer: TextTokenizer
    start: int | None
    stops: frozenset[int]

    @property
    def first(self) -> tuple[int, ...]:
        """What is read before the ids of a text."""
        return () if self.start is None else (self.start,)

    def ids(self, text: str, special: bool = False) -> list[int]:
        """The ids of `text` without `first`. Control characters stay, lone surrogates become ``?``.

        With `special`, the name of a special token in the text is that token. Raises InputError, TextTooLong (above 64
        KiB of UTF-8), ArtifactCorrupt.
        """
        if not isinstance(text, str):
            raise InputError(f"the text is {type(text).__name__}, not str")
        size = len(text.encode("utf-8", "surrogatepass"))
        if size > MAX_TEXT_BYTES:
            raise TextTooLong(f"the text has {size:,} bytes, at most {MAX_TEXT_BYTES:,}: give less of it")
        return self.tokenizer.encode(text, special)


def text_model(artifact: Artifact, options: Options | None = None) -> TextModel:
    """The artifact's model, ready to read. Raises ArtifactForeign for another task, NotAvailable for one without a
    checkpoint's tokenizer, MissingExtra, ArtifactCorrupt, InputError.
    """
    if artifact.task != "causal":
        raise ArtifactForeign(f"the artifact's task is {artifact.task}, and text comes from a causal one")
    if artifact.tokenizer_json is None:
        raise NotAvailable("this version can't turn the tokens of a vocab.txt into text: convert with tokenizer.json")
    fields = artifact.manifest
    return TextModel(
        Decoder(artifact.model, fields, options),
        TextTokenizer(artifact.tokenizer_json, artifact.logits),
        fields.get("start"),
        frozenset(fields.get("stop", ())),
    )


class Generation(Iterator[str]):
    """A text as it comes, in pieces. After the last piece `reason` says why it ended.

    `stop`: the model gave an id that ends a text, or a stop text appeared; `length`: as many tokens as were wanted;
    `context`: no more fit. None while there is more to come. `close` ends it early.
    """

    def __init__(
        self, model: TextModel, prompt: Sequence[int], most: int, sampler: Sampler, stream: TextStream,
        adapt: Adapt | None, lock: AbstractContextManager[object],
    ) -> None:  # fmt: skip
        self.reason: str | None = None
        self._ids: list[int] = []
        self._given: list[str] = []
        self._lock = lock
        self._pieces = self._run(model, prompt, most, sampler, stream, adapt)

    @property
    def text(self) -> str:
        """All pieces so far."""
        return "".join(self._given)

    @property
    def ids(self) -> tuple[int, ...]:
        """The tokens so far, those of a stop text too, but not the id that ended the text."""
        return tuple(self._ids)

    @property
    def tokens(self) -> int:
        """How many `ids` there are."""
        return len(self._ids)

    def __next__(self) -> str:
        with self._lock:
            return next(self._pieces)

    def close(self) -> None:
        """End it; nothing more comes."""
        with self._lock:
            self._pieces.close()

    def _run(
        self, model: TextModel, prompt: Sequence[int], most: int, sampler: Sampler, stream: TextStream,
        adapt: Adapt | None,
    ) -> Generator[str, None, None]:  # fmt: skip
        decoder, stops, ids, given = model.decoder, model.stops, self._ids, self._given
        _read(decoder, prompt, ids)
        begun, at = decoder.begun, len(prompt)
        greedy = adapt is None and not sampler.temperature
        while True:
            token = decoder.best() if greedy else sampler.pick(_logits(decoder, adapt))
            if token in stops:
                self.reason = "stop"
                break
            ids.append(token)
            piece = stream.push(token)
            if piece:
                given.append(piece)
                yield piece
            if stream.stopped:
                self.reason = "stop"
                return
            if len(ids) == most or at == decoder.context:
                self.reason = "length" if len(ids) == most else "context"
                break
            if decoder.begun != begun or decoder.position != at:
                _read(decoder, prompt, ids[:-1])
                begun = decoder.begun
            decoder.advance(token)
            at += 1
        piece = stream.end()
        if stream.stopped:
            self.reason = "stop"
        if piece:
            given.append(piece)
            yield piece


def generate(
    model: TextModel,
    prompt: str,
    *,
    max_tokens: int = 256,
    stop: Sequence[str] = (),
    temperature: float = 0.0,
    top_k: int = 0,
    top_p: float = 1.0,
    seed: int = 0,
    adapt: Adapt | None = None,
    special: bool = False,
    lock: AbstractContextManager[object] | None = None,
) -> Generation:
    """Write on from `prompt`: an iterator of pieces of text. The same arguments give the same text.

    At most `max_tokens` tokens are made, up to one of the texts `stop`, which is not given. `temperature`, `top_k`,
    `top_p` and `seed` are those of `sampling.Sampler`. What the prompt has in common with the text before is not read
    again. With `special`, names of special tokens in the prompt are those tokens: never for text of others. `lock` is
    held while a piece is made, and let go of between pieces.

    Raises InputError; TextTooLong if the prompt does not fit the context; EmptyText if there is nothing to begin with;
    ArtifactCorrupt.
    """
    if type(max_tokens) is not int or max_tokens < 1:
        raise InputError(f"max_tokens is {max_tokens!r}, and it must be a whole number from 1")
    sampler = Sampler(temperature, top_k, top_p, seed)
    stream = TextStream(model.tokenizer, stop)
    ids = [*model.first, *model.ids(prompt, special)]
    if not ids:
        raise EmptyText("the prompt is empty, and the model has no start token to write on from")
    if len(ids) > model.decoder.context:
        raise TextTooLong(
            f"the prompt has {len(ids) - len(model.first):,} tokens, and"
            f" {model.decoder.context - len(model.first):,} fit the model's context: give its end only"
        )
    return Generation(model, ids, max_tokens, sampler, stream, adapt, lock or contextlib.nullcontext())


class Score(NamedTuple):
    """How unlikely the model finds a text: `nats` is the sum of `per_token`, -log p of each token after those before.

    `tokens` is how many were scored: all of the text where it begins with a start id, else all but the first.
    """

    tokens: int
    nats: float
    per_token: tuple[float, ...]

    @property
    def perplexity(self) -> float:
        """exp of the mean; infinite where that is no float."""
        mean = self.nats / self.tokens
        return math.exp(mean) if mean < 700 else math.inf


def score(model: TextModel, text: str, adapt: Adapt | None = None, special: bool = False) -> Score:
    """Score `text`, in `windows` if it is longer than the context. Raises as `generate`, but for a long text."""
    ids = model.ids(text, special)
    found: list[float] = []
    for window in windows(len(ids), model.decoder.context, len(model.first)):
        prompt = [*model.first, *ids[window.begin : window.end]]
        found += _losses(model.decoder, prompt, ids[window.target : window.end + 1], adapt)
    if not found:
        raise EmptyText("the text has no token that follows another")
    return Score(len(found), math.fsum(found), tuple(found))


def _losses(decoder: Decoder, prompt: Sequence[int], targets: Sequence[int], adapt: Adapt | None) -> list[float]:
    """-log p of `targets`, which follow the last tokens of `prompt`."""
    decoder.restart()
    found: list[float] = []
    left = len(prompt) - len(targets)
    for rows in decoder.rows(prompt):
        logits = rows.logits()
        if adapt is not None:
            logits = np.stack([_adapted(adapt, *row) for row in zip(rows.features(), logits, strict=True)])
        skipped = min(left, len(logits))
        left -= skipped
        exact = logits[skipped:].astype(np.float64)
        exact -= exact.max(-1, keepdims=True)
        follow = targets[len(found) : len(found) + len(exact)]
        found += (np.log(np.exp(exact).sum(-1)) - exact[np.arange(len(exact)), list(follow)]).tolist()
    return found


def _read(decoder: Decoder, prompt: Sequence[int], ids: Sequence[int]) -> None:
    """Read `prompt` and the tokens that followed, as they were the first time, so that the rounding is the same."""
    decoder.feed(prompt[decoder.resume(prompt) :])
    for token in ids:
        decoder.advance(token)


def _logits(decoder: Decoder, adapt: Adapt | None) -> Floats:
    return decoder.logits() if adapt is None else _adapted(adapt, decoder.features(), decoder.logits())


def _adapted(adapt: Adapt, features: Floats, logits: Floats) -> Floats:
    found = adapt(features, logits)
    if found.shape != logits.shape:
        raise InputError(f"the adapter gives logits {list(found.shape)}, and the model has {list(logits.shape)}")
    return found
