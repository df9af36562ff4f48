"""A causal model's text code: tokenizer, cache and sampler as constants, and the model called token by token."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tasuki.firmware_bridge.compiler.program import Program
from tasuki.firmware_bridge.text import bpe
from tasuki.firmware_bridge.text.c_code import Code, code
from tasuki.sdk.artifact import Artifact
from tasuki.sdk.decoder import Decoder
from tasuki.sdk.errors import ModelUnsupported
from tasuki.sdk.runtime import Model, open_interpreter


def generate(artifact: Artifact, program: Program, name: str) -> Code:
    """The files and sizes of a causal model; `program` is the signature ``decode``.

    Raises ModelUnsupported, ArtifactCorrupt.
    """
    if artifact.tokenizer_json is None:
        raise ModelUnsupported("the causal model has a vocab.txt, and there is C for a tokenizer.json only")
    decoder = Decoder(artifact.model, artifact.manifest)
    if decoder.chunk != 1:
        raise ModelUnsupported(
            f"`prefill` takes {decoder.chunk} tokens at once; there is C for models that read one, as `tasuki distil "
            "--tier mcu-large` makes them"
        )
    inputs, outputs = _names(artifact.model)
    for port in (*program.inputs, *program.outputs):
        if port.type not in (np.int8, np.int32):
            raise ModelUnsupported(f"{port.name} is {port.type}, and causal models in C are int8 throughout")
    caches = [name for name in inputs if name not in ("ids", "position")]
    _, heads, context, width = program.inputs[inputs.index(caches[0])].shape
    tables = bpe.tables(artifact.tokenizer_json, artifact.logits)
    values = {
        "tables": tables,
        "logits": program.outputs[outputs.index("logits")],
        "vocabulary": artifact.logits,
        "start": artifact.manifest.get("start", -1),
        "stops": artifact.manifest.get("stop", []),
        "features": artifact.features,
        "caches": len(caches),
        "heads": heads,
        "context": context,
        "width": width,
        "arguments": ["m->arena", *_arguments(inputs, caches, "cache"), *_arguments(outputs, caches, "fresh")],
    }
    made = code("causal", name, [("tokenizer", tables.size)], **values)
    return replace(made, limits={program.inputs[inputs.index("position")].name: context})


def _arguments(names: Sequence[str], caches: Sequence[str], member: str) -> list[str]:
    """What stands for each input or output in the call of the model."""
    known = {"ids": "&token", "position": "&position", "features": "m->features", "logits": "m->logits"}
    return [known[name] if name in known else f"m->{member}[{caches.index(name)}]" for name in names]


def _names(model: Model) -> tuple[list[str], list[str]]:
    """What the signature ``decode`` calls the model's inputs and outputs, in the model's order."""
    _, interpreter = open_interpreter(model)
    interpreter.allocate_tensors()
    runner = interpreter.get_signature_runner("decode")
    found = []
    for named, ordered in (
        (runner.get_input_details(), interpreter.get_input_details()),
        (runner.get_output_details(), interpreter.get_output_details()),
    ):
        by_index = {int(about["index"]): name for name, about in named.items()}
        found.append([by_index[int(about["index"])] for about in ordered])
    return found[0], found[1]
