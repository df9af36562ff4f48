"""A model's C file from its lowered programs."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from tasuki.firmware_bridge.compiler.ir import Graph
from tasuki.firmware_bridge.compiler.program import Loop, Plan, Port, Program
from tasuki.firmware_bridge.emit import naming, vectors
from tasuki.firmware_bridge.emit.c_calls import Calls, Constants, origin
from tasuki.firmware_bridge.emit.c_form import Block, Function, Parameter, Place, Unit
from tasuki.firmware_bridge.emit.literals import C_TYPES, shape_text


def unit(
    graphs: Sequence[Graph],
    programs: Sequence[Program],
    plans: Sequence[Plan],
    limits: Mapping[str, int] = MappingProxyType({}),
) -> Unit:
    """The C of `programs`, which `graphs` became; what is the same in two of them stands there once.

    `limits` says of inputs, by name, that they have fewer values than their tables have rows.

    Raises ModelUnsupported for a constant that C can't hold, and ValueError for a step that is not as the header says.
    """
    names, macros = naming.Names(), naming.Names()
    ports = [_ports(graph, program, macros, limits) for graph, program in zip(graphs, programs, strict=True)]
    for name in sorted({parameter.name for pair in ports for side in pair for parameter in side}):
        names.take(name)
    constants = Constants(names)
    functions = tuple(
        _function(graph, program, plan, names, constants, inputs, outputs)
        for graph, program, plan, (inputs, outputs) in zip(graphs, programs, plans, ports, strict=True)
    )
    return Unit(tuple(constants.arrays.values()), tuple(constants.structs.values()), functions)


def _ports(
    graph: Graph, program: Program, macros: naming.Names, limits: Mapping[str, int]
) -> tuple[tuple[Parameter, ...], tuple[Parameter, ...]]:
    """The parameters for the inputs and the outputs of a program."""
    names = naming.Names()

    def parameter(port: Port, rows: int | None, kind: str) -> Parameter:
        name = names.take(naming.identifier(port.name, kind))
        macro = macros.take(f"TSK_{program.name}_{name}".upper())
        count = int(np.prod(port.shape, dtype=np.int64))
        values = f"{port.type.name} {shape_text(port.shape)}" + (f", 0 to {rows - 1}" if rows else "")
        tensor = naming.comment(port.name)
        return Parameter(name, macro, C_TYPES[port.type], count, values, tensor, port.scale, port.zero)

    inputs = zip(program.inputs, graph.inputs, strict=True)
    return (
        tuple(parameter(port, limits.get(port.name) or vectors.bound(graph, number), "in") for port, number in inputs),
        tuple(parameter(port, None, "out") for port in program.outputs),
    )


def _function(
    graph: Graph, program: Program, plan: Plan, names: naming.Names, constants: Constants,
    inputs: tuple[Parameter, ...], outputs: tuple[Parameter, ...],
) -> Function:  # fmt: skip
    """The function of one program."""
    buffers = {buffer.number: buffer for buffer in program.buffers}
    places = {
        number: Place(
            names.take(f"at_{naming.identifier(buffers[number].name, 'buffer')}_{number}"), offset,
            f"{buffers[number].bytes} bytes: {naming.comment(buffers[number].name)}",
        )
        for number, offset in sorted(plan.offsets.items(), key=lambda item: (item[1], item[0]))
    }  # fmt: skip
    ports = zip((*program.inputs, *program.outputs), (*inputs, *outputs), strict=True)
    calls = Calls(constants, buffers, places, {port.buffer: p.name for port, p in ports}, plan.scratch)
    blocks: list[Block] = []
    for part in program.body:
        loop = part if isinstance(part, Loop) else Loop(1, 1, (part,))
        made = tuple(calls.call(step, loop, origin(graph, step)) for step in loop.steps)
        if blocks and blocks[-1].rows == blocks[-1].tile and loop.rows == loop.tile:
            blocks[-1] = Block((*blocks[-1].calls, *made))
        else:
            blocks.append(Block(made, loop.rows, loop.tile))
    macro = f"TSK_{program.name}".upper()
    return Function(program.name, macro, plan.arena, inputs, outputs, tuple(places.values()), tuple(blocks))
