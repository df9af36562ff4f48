"""The seam to the interpreter with one that gives what the test says: depths, types, and what a file may not do."""

from typing import Any

import numpy as np
import pytest

from tasuki.sdk import runtime
from tasuki.sdk.errors import ArtifactCorrupt
from tasuki.sdk.runtime import Body, Outputs


def output(name: str, values: Any, kind: type, scale: float = 0.0, zero: int = 0) -> dict[str, Any]:
    found = np.array(values, kind)
    return {"name": name, "index": name, "shape": found.shape, "dtype": kind, "quantization": (scale, zero),
            "values": found}  # fmt: skip


OUTPUTS = [
    output("logits", [[-128, 127]], np.int8, 0.5, -1),
    output("deep", [[1000, -32768, 32767]], np.int16, 0.25),
    output("shallow", [[7, 8]], np.int8, 2.0, 7),
    output("plain", [[0.5, -1.5]], np.float32),
]


class FakeInterpreter:
    outputs = OUTPUTS
    input_ = {"index": 0, "shape": np.array([1, 4]), "dtype": np.int32}  # noqa: RUF012
    fails = False

    def __init__(self, model_content: bytes, num_threads: int) -> None:
        pass

    def allocate_tensors(self) -> None:
        pass

    def get_input_details(self) -> list[dict[str, Any]]:
        return [self.input_]

    def get_output_details(self) -> list[dict[str, Any]]:
        return self.outputs

    def set_tensor(self, index: int, ids: Any) -> None:
        assert ids.shape == (1, 4)

    def invoke(self) -> None:
        if self.fails:
            raise RuntimeError("gather index out of bounds")

    def get_tensor(self, name: str) -> Any:
        return next(o["values"] for o in self.outputs if o["name"] == name)


def use(monkeypatch: pytest.MonkeyPatch, **other: Any) -> None:
    made = type("Interpreter", (FakeInterpreter,), other)
    monkeypatch.setattr(runtime, "load_interpreter", lambda: ("fake", made))


IDS = np.zeros(4, np.int32)


def test_features_of_all_depths_come_joined_and_dequantised(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch)
    body = Body(b"", Outputs((2, 1, 3), 0))
    assert (body.widths, body.shape, body.tokens) == ((2, 3, 2), (7, 2), 4)
    features, logits = body.run(IDS)
    np.testing.assert_array_equal(features, [0, 2, 250, -8192, 8191.75, 0.5, -1.5])
    np.testing.assert_array_equal(logits, [-63.5, 64])
    assert features.dtype == logits.dtype == np.float32


@pytest.mark.parametrize(
    "wrong",
    [
        output("x", [[1, 2]], np.int8, 0.0),
        output("x", [[1, 2]], np.int8, np.nan),
        output("x", [[1, 2]], np.int16, np.inf),
        output("x", [[1, 2]], np.int8, -1.0),
        output("x", [[1, 2]], np.int32, 1.0),
        output("x", [[1, 2]], np.float64),
        output("x", [[[1, 2]]], np.int8, 1.0),
        output("x", [[1], [2]], np.int8, 1.0),
    ],
)
def test_outputs_that_no_artifact_has(monkeypatch: pytest.MonkeyPatch, wrong: dict[str, Any]) -> None:
    use(monkeypatch, outputs=[wrong, *OUTPUTS])
    with pytest.raises(ArtifactCorrupt, match="output x"):
        Body(b"", Outputs((0,), 1))


def test_an_output_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch)
    with pytest.raises(ArtifactCorrupt):
        Body(b"", Outputs((0, 9), 1))


@pytest.mark.parametrize("wrong", [{"shape": np.array([2, 4])}, {"shape": np.array([4])}, {"dtype": np.float32}])
def test_inputs_that_no_artifact_has(monkeypatch: pytest.MonkeyPatch, wrong: dict[str, Any]) -> None:
    use(monkeypatch, input_={**FakeInterpreter.input_, **wrong})
    with pytest.raises(ArtifactCorrupt, match="input"):
        Body(b"", Outputs((2,), 0))


def test_a_model_that_fails_or_gives_no_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, fails=True)
    with pytest.raises(ArtifactCorrupt, match="out of bounds"):
        Body(b"", Outputs((2,), 0)).run(IDS)
    use(monkeypatch, outputs=[output("x", [[np.nan, 1]], np.float32), *OUTPUTS])
    with pytest.raises(ArtifactCorrupt, match="not finite"):
        Body(b"", Outputs((0,), 1)).run(IDS)
