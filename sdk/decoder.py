"""A causal model with the keys and values of one text (SPEC.md, "Causal models").

The cache is the memory of the input tensors of `decode`: an interpreter does not write to its inputs, so a new token's
keys and values are copied to their slot, and nothing else is. Slots that wait for a token hold zeros. `prefill` has
inputs of its own where it takes more than one token at a time; it is given a copy of the cache.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tasuki.sdk import decoder_checks
from tasuki.sdk.decoder_checks import Details
from tasuki.sdk.errors import ArtifactCorrupt, InputError, TextTooLong
from tasuki.sdk.runtime import Floats, Model, Options, Output, open_interpreter

# A chunk costs about as much as a quarter of its tokens one by one (SmolLM2-135M, 16 tokens, x86-64).
_WORTH: Final = 4

_ALL: Final = slice(None)

View = Callable[[], NDArray[Any]]
Ids = Sequence[int] | NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Rows:
    """What the model gives for n tokens that follow each other, as it gives it: [n, d] and [n, V]."""

    raw_features: NDArray[Any]
    raw_logits: NDArray[Any]
    grids: tuple[Output, Output]

    def features(self) -> Floats:
        """float32 [n, d]. Raises ArtifactCorrupt."""
        return self.grids[0].real(self.raw_features)

    def logits(self) -> Floats:
        """float32 [n, V]; row i is for what follows token i. Raises ArtifactCorrupt."""
        return self.grids[1].real(self.raw_logits)


class Decoder:
    """One text at a time: tokens in, features and logits of what follows out. Not thread-safe: the caller has a lock.

    `fields` is the checked manifest that the model has to agree with, None for a model without one. `context` is the
    most tokens of a text, `chunk` the tokens that `prefill` takes at once; `grids` are those of features and logits,
    `width` and `vocabulary` their numbers. Raises ArtifactCorrupt, MissingExtra, InputError for a delegate.
    """

    def __init__(self, model: Model, fields: Mapping[str, Any] | None = None, options: Options | None = None) -> None:
        self.runtime, self._interpreter = open_interpreter(model, options or Options())
        # The interpreter reads the flatbuffer in place.
        self._model = model
        try:
            self._interpreter.allocate_tensors()
            inputs, outputs = self._signature("decode")
            decoder_checks.first(self._interpreter, inputs, outputs)
            self.chunk = decoder_checks.pair(inputs, outputs, *self._signature("prefill"))
            self._names = [name for name in inputs if name not in ("ids", "position")]
            self.context = int(inputs[self._names[0]]["shape"][2])
            self.grids = (Output(outputs["features"]), Output(outputs["logits"]))
            self.width, self.vocabulary = (output.width for output in self.grids)
            if fields is not None:
                decoder_checks.agrees(fields, self._interpreter, inputs, outputs, self.chunk)
        except (ValueError, RuntimeError, KeyError, IndexError, TypeError) as error:
            raise ArtifactCorrupt(f"{self.runtime} can't decode with the model: {error}") from None
        view = self._interpreter.tensor
        self._pad = 0 if fields is None else int(fields["pad"])
        self._ids, self._place = view(inputs["ids"]["index"]), view(inputs["position"]["index"])
        self._features, self._logits = view(outputs["features"]["index"]), view(outputs["logits"]["index"])
        self._caches: list[tuple[View, View]] = [
            (view(inputs[name]["index"]), view(outputs[name]["index"])) for name in self._names
        ]
        self._invoke = self._interpreter.invoke
        self._at = {name: int(inputs[name]["index"]) for name in self._names}
        self._clear(0, self.context)
        self._read: list[int] = []
        # So many tokens from the start came in whole chunks, as they would if the text was read again.
        self._whole = 0
        self._last: Rows | None = None
        self._fresh = False
        # Counts what takes tokens back: who goes on with a text can see that it is still the same.
        self.begun = 0

    @property
    def position(self) -> int:
        """How many tokens of the text have been read."""
        return len(self._read)

    @property
    def tokens(self) -> tuple[int, ...]:
        """The tokens that have been read."""
        return tuple(self._read)

    def restart(self) -> None:
        """Begin another text; nothing of the one before stays in the cache."""
        self.truncate(0)

    def truncate(self, position: int) -> None:
        """Take back all tokens from `position` on. Raises InputError if there are fewer."""
        if not 0 <= position <= len(self._read):
            raise InputError(f"{len(self._read)} tokens have been read: they can't be cut at {position}")
        self._clear(position, len(self._read))
        del self._read[position:]
        self._whole = min(self._whole, position - position % self.chunk)
        self._last, self._fresh = None, False
        self.begun += 1

    def resume(self, ids: Ids) -> int:
        """Begin a text of the tokens `ids`, keep what it has in common with the one before, and say how many tokens.

        At least the last of `ids` is left to read. What comes after is what reading all of `ids` gives, to the bit.
        """
        most, kept = min(len(ids) - 1, self._whole), 0
        while kept < most and self._read[kept] == ids[kept]:
            kept += 1
        kept -= kept % self.chunk
        self.truncate(kept)
        return kept

    def feed(self, ids: Ids) -> None:
        """Read the tokens `ids` after those before.

        Raises InputError for no token, TextTooLong where they don't fit (nothing is read then), ArtifactCorrupt.
        """
        for part in self._parts(ids):
            self._run(part)

    def advance(self, token: int) -> None:
        """Read one more token. Raises as `feed`."""
        at = len(self._read)
        if not (0 <= token < self.vocabulary and at < self.context):
            self._check((token,))
        self._fresh, self._last = False, None
        self._ids()[0, 0] = token
        self._place()[0] = at
        try:
            self._invoke()
        except (ValueError, RuntimeError) as error:
            raise ArtifactCorrupt(f"{self.runtime} can't run the model: {error}") from None
        # Views are let go of at once: the interpreter does not run while there is one.
        slot = (_ALL, _ALL, slice(at, at + 1))
        for cache, new in self._caches:
            cache()[slot] = new()
        self._read.append(token)
        self._fresh = True
        if self.chunk == 1:
            self._whole = at + 1

    def step(self, token: int) -> Floats:
        """Read one more token, and give the logits float32 [V] of what follows it. Raises as `feed`."""
        self.advance(token)
        return self.logits()

    def rows(self, ids: Ids) -> Iterator[Rows]:
        """Read the tokens `ids`, and give what the model gives after each, in parts. Raises as `feed`.

        Tokens are read as the parts are taken.
        """
        for part in self._parts(ids):
            self._run(part)
            yield self._last or Rows(self._features().copy(), self._logits().copy(), self.grids)

    def logits(self) -> Floats:
        """float32 [V] of what follows the last token. Raises InputError before there is one, ArtifactCorrupt."""
        return self.grids[1].real(self._end(self._logits, None if self._last is None else self._last.raw_logits))

    def features(self) -> Floats:
        """float32 [d] of the last token. Raises as `logits`."""
        return self.grids[0].real(self._end(self._features, None if self._last is None else self._last.raw_features))

    def best(self) -> int:
        """The token of the highest logit after the last token, the lowest id of several. Raises as `logits`."""
        if self.grids[1].dtype == np.float32:
            return int(self.logits().argmax())
        if self._fresh and self._last is None:
            return int(self._logits().argmax())
        return int(self._end(self._logits, None if self._last is None else self._last.raw_logits).argmax())

    def constant(self, index: int) -> tuple[Mapping[str, Any], NDArray[Any]]:
        """What the runtime says of the constant tensor `index` of the first subgraph, and a copy of its values.

        Raises ArtifactCorrupt if there is none.
        """
        try:
            (about,) = [d for d in self._interpreter.get_tensor_details() if int(d["index"]) == index]
            return about, self._interpreter.get_tensor(index)
        except (ValueError, RuntimeError) as error:
            raise ArtifactCorrupt(f"the model has no constant tensor {index}: {error}") from None

    def _clear(self, begin: int, end: int) -> None:
        """Zeros for slots that are masked: int16 kernels give a masked slot a share of e^-10 of the largest."""
        for cache, _ in self._caches:
            cache()[:, :, begin:end] = 0

    def _end(self, view: View, kept: NDArray[Any] | None) -> NDArray[Any]:
        """The last token's row: a view, that must be gone before the interpreter runs again."""
        if not self._fresh:
            raise InputError("no token has been read since the text began or was cut")
        rows = view() if kept is None else kept
        found: NDArray[Any] = rows[-1]
        return found

    def _check(self, ids: Ids) -> None:
        if len(ids) and (min(ids) < 0 or max(ids) >= self.vocabulary):
            raise InputError(f"tokens are from 0 to {self.vocabulary - 1}, not {min(ids)} to {max(ids)}")
        if len(self._read) + len(ids) > self.context:
            raise TextTooLong(
                f"{len(ids):,} tokens after {len(self._read):,}: the model's context has {self.context:,}"
            )

    def _parts(self, ids: Ids) -> Iterator[list[int]]:
        """`ids` as they are read: in chunks, and what is left one by one if it is little."""
        self._check(ids)
        left = [int(token) for token in ids]
        end = len(left) - len(left) % self.chunk
        if (len(left) - end) * _WORTH > self.chunk > 1:
            end = len(left)
        for at in range(0, end, self.chunk):
            yield left[at : at + self.chunk]
        for token in left[end:]:
            yield [token]

    def _run(self, part: list[int]) -> None:
        if len(part) == 1:
            self.advance(part[0])
        else:
            self._prefill(part)

    def _prefill(self, part: list[int]) -> None:
        at, count = len(self._read), len(part)
        self._fresh, self._last = False, None
        ids = np.full((1, self.chunk), self._pad, np.int32)
        ids[0, :count] = part
        caches = {name: self._interpreter.get_tensor(index) for name, index in self._at.items()}
        try:
            # Not kept: `invoke` refuses to run while a runner is there.
            runner = self._interpreter.get_signature_runner("prefill")
            found = runner(ids=ids, position=np.array([at], np.int32), **caches)
            del runner
        except (ValueError, RuntimeError) as error:
            raise ArtifactCorrupt(f"{self.runtime} can't run the model: {error}") from None
        for name, (cache, _) in zip(self._names, self._caches, strict=True):
            cache()[:, :, at : at + count] = found[name][:, :, :count]
        self._read += part
        if at == self._whole and count == self.chunk:
            self._whole += count
        self._last = Rows(found["features"][:count], found["logits"][:count], self.grids)
        self._fresh = True

    def _signature(self, name: str) -> tuple[Details, Details]:
        runner = self._interpreter.get_signature_runner(name)
        return runner.get_input_details(), runner.get_output_details()
