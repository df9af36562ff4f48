"""From text to the answer on a chip: tables for the tokenizer, the labels, the adapter and the sampler in C."""

from collections.abc import Sequence

from tasuki.firmware_bridge.compiler.program import Program
from tasuki.firmware_bridge.text import causal, classify
from tasuki.firmware_bridge.text.c_code import Code, render
from tasuki.firmware_bridge.text.learned import Learned, learned
from tasuki.sdk.artifact import Artifact
from tasuki.sdk.errors import ModelUnsupported

__all__ = ["Code", "Learned", "application", "generate", "learned"]


def generate(artifact: Artifact, programs: Sequence[Program], name: str, adapter: Learned | None = None) -> Code:
    """``{name}_text.h`` and ``.c``: the artifact's text in and its answer out, above ``tsk_{name}_invoke``; and
    ``{name}_serve.c``, which answers on the serial line.

    `programs` are the model's, the first subgraph first; `name` is its name in C. `adapter` is what a device has
    learned, for the task `classify`. Raises ModelUnsupported for a tokenizer or output that there is no C for,
    ArtifactCorrupt.
    """
    if artifact.task == "classify":
        return classify.generate(artifact, programs[0], name, adapter)
    if adapter is not None:
        raise ModelUnsupported("what a device has learned can be built in for classifiers only, not for causal models")
    return causal.generate(artifact, programs[0], name)


def application(name: str) -> bytes:
    """``main.c`` of the application that answers on the serial line, for the model `name`."""
    return render("main.c", name=name)
