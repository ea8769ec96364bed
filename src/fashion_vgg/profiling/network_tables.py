"""A network's parts as a table, several networks side by side, and all of it as JSON."""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from operator import attrgetter
from typing import Any

from fashion_vgg.profiling.layers import Part, blocks
from fashion_vgg.profiling.step_memory import StepMemory
from fashion_vgg.runs.table import Table

COLUMNS = ("parameters", "multiply-adds", "field", "stride", "forward MB", "backward MB")


@dataclass(frozen=True)
class Network:
    """A described network.

    Attributes:
        name: what tells it from others.
        size: of an image: channels, height and width.
        batch_size: images a step.
        layers: its parts, one for each layer.
        step: the memory of a training step, estimated.
        measured: the same in bytes, measured; None where nobody asked.
    """

    name: str
    size: tuple[int, int, int]
    batch_size: int
    layers: list[Part]
    step: StepMemory
    measured: int | None = None


def single(network: Network, by_layer: bool = False) -> Table:
    """The seed's rows of output shapes, and what each part costs."""
    parts = network.layers if by_layer else blocks(network.layers)
    rows = [[part.name, part.kind, f"output shape: {list(part.output_shape)}", *_costs(part)] for part in parts]
    rows.append(["", "in all", "", *_totals(parts)])
    header = ["", "", "", *COLUMNS]
    return Table(header, rows) if by_layer else Table(header[1:], [row[1:] for row in rows])


def side_by_side(networks: Sequence[Network], by_layer: bool = False) -> Table:
    """A column for each network; the rows are what its parts cost, by kind of cost."""
    columns = [network.layers if by_layer else blocks(network.layers, whole_head=True) for network in networks]
    name = _name_and_kind if by_layer else attrgetter("name")
    names = sorted({name(part) for parts in columns for part in parts}, key=_place)
    costs = [{name(part): _costs(part) for part in parts} | {"in all": _totals(parts)} for parts in columns]
    rows: list[list[str]] = []
    for column, title in enumerate(COLUMNS):
        cells = [[name, *(cost[name][column] if name in cost else "" for cost in costs)] for name in (*names, "in all")]
        used = [row for row in cells if any(cell not in ("", "0", "0.0") for cell in row[1:])]
        rows += [["" if index else title, *row] for index, row in enumerate(used)]
    rows.append(["step MB", "estimated", *(_megabytes(network.step.peak) for network in networks)])
    if all(network.measured for network in networks):
        rows.append(["", "measured", *(_megabytes(network.measured or 0) for network in networks)])
    return Table(["", "", *(network.name for network in networks)], rows)


def explained(network: Network) -> str:
    """What the columns mean, and the memory of a step."""
    step = network.step
    lines = [
        "field, stride: pixels of the image that a unit depends on, and from one unit to the next.",
        f"forward, backward: what the forward pass of {network.batch_size:,} images leaves for the backward pass, and "
        "the gradients that this holds.",
        f"A training step in float32, estimated: {_megabytes(step.peak)} MB at the peak of its backward pass, of which "
        f"weights {_megabytes(step.weights)}, optimizer {_megabytes(step.optimizer)}.",
    ]
    if network.measured:
        lines.append(f"Measured: {_megabytes(network.measured)} MB.")
    return "\n".join(lines)


def content(network: Network) -> dict[str, Any]:
    """Everything, for JSON, in bytes."""
    return {
        "network": network.name,
        "size": network.size,
        "batch_size": network.batch_size,
        "parameters": sum(part.parameters for part in network.layers),
        "multiply_adds": sum(part.multiply_adds for part in network.layers),
        "step_bytes": asdict(network.step) | {"measured": network.measured},
        "layers": [asdict(part) for part in network.layers],
    }


def _name_and_kind(part: Part) -> str:
    return f"{part.name} {part.kind}"  # layers of two kinds have nothing to compare


def _place(name: str) -> tuple[bool, list[int], str]:
    """The blocks come first, in the order of their numbers, the head last."""
    return name.startswith("head"), [int(number) for number in re.findall(r"\.(\d+)", name)], name


def _costs(part: Part) -> list[str]:
    counts = [f"{part.parameters:,}", f"{part.multiply_adds:,}", f"{part.receptive_field:,}"]
    stride = f"{part.stride:,}" if part.stride else ""
    return [*counts, stride, _megabytes(part.forward_bytes), _megabytes(part.backward_bytes)]


def _totals(parts: Sequence[Part]) -> list[str]:
    """The backward pass holds the gradients of one part at a time."""
    parameters, multiply_adds = sum(part.parameters for part in parts), sum(part.multiply_adds for part in parts)
    forward, backward = sum(part.forward_bytes for part in parts), max(part.backward_bytes for part in parts)
    return [f"{parameters:,}", f"{multiply_adds:,}", "", "", _megabytes(forward), _megabytes(backward)]


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f}"
