"""The costs of networks as tables and as JSON."""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fashion_vgg.profiling.layers import LayerCost, by_block, total
from fashion_vgg.profiling.memory import StepMemory
from fashion_vgg.runs.table import Table

COLUMNS = ("parameters", "multiply-adds", "field", "stride", "saved MB", "gradients MB")


@dataclass(frozen=True)
class NetworkCost:
    """The cost of a network."""

    name: str  # in tables and pictures
    size: tuple[int, int, int]  # channels, height and width of an image
    batch_size: int
    layers: list[LayerCost]
    step: StepMemory  # estimated
    measured: int | None = None  # bytes of a step


def single(network: NetworkCost, by_layer: bool = False) -> Table:
    """A row per block, or per layer: its output shape, as the book prints it, and its costs."""
    costs = network.layers if by_layer else by_block(network.layers)
    rows = [[cost.name, cost.kind, f"output shape: {list(cost.output_shape)}", *_cells(cost)] for cost in costs]
    rows.append(["", "total", "", *_total_cells(costs)])
    first = 0 if by_layer else 1  # blocks follow each other in the order of their names
    return Table(["", "", "", *COLUMNS][first:], [row[first:] for row in rows])


def side_by_side(networks: Sequence[NetworkCost], by_layer: bool = False) -> Table:
    """A column per network; the rows are the costs of its blocks, grouped by the kind of cost."""
    tables = []
    for network in networks:
        costs = network.layers if by_layer else by_block(network.layers, whole_head=True)
        # Layers of different kinds are not compared.
        cells = {f"{cost.name} {cost.kind}" if by_layer else cost.name: _cells(cost) for cost in costs}
        tables.append(cells | {"total": _total_cells(costs)})
    names = sorted({name for table in tables for name in table}, key=_position)
    rows: list[list[str]] = []
    for column, title in enumerate(COLUMNS):
        lines = [[name, *(table[name][column] if name in table else "" for table in tables)] for name in names]
        used = [line for line in lines if any(cell not in ("", "0", "0.0") for cell in line[1:])]
        rows += [[title if line is used[0] else "", *line] for line in used]
    rows.append(["step MB", "estimated", *(_megabytes(network.step.peak) for network in networks)])
    if all(network.measured for network in networks):
        rows.append(["", "measured", *(_megabytes(network.measured or 0) for network in networks)])
    return Table(["", "", *(network.name for network in networks)], rows)


def explanation(network: NetworkCost) -> str:
    """What the columns of `single` mean, and the memory of a training step."""
    step = network.step
    text = (
        "field, stride: receptive field and effective stride of an output unit, in pixels of the image.\n"
        f"saved, gradients: activations of {network.batch_size:,} images saved for the backward pass, and gradients of "
        "the layer's input and output.\n"
        f"A training step in float32 needs about {_megabytes(step.peak)} MB at its peak, including "
        f"{_megabytes(step.weights)} MB of weights, {_megabytes(step.optimizer)} MB of optimizer state."
    )
    return f"{text}\nMeasured: {_megabytes(network.measured)} MB." if network.measured else text


def to_dict(network: NetworkCost) -> dict[str, Any]:
    """For JSON; memory is in bytes."""
    return {
        "network": network.name,
        "size": network.size,
        "batch_size": network.batch_size,
        "parameters": sum(cost.parameters for cost in network.layers),
        "multiply_adds": sum(cost.multiply_adds for cost in network.layers),
        "step_bytes": asdict(network.step) | {"measured": network.measured},
        "layers": [asdict(cost) for cost in network.layers],
    }


def _position(name: str) -> tuple[str, list[int], str]:
    """Sorts blocks by their numbers, then the head and the total."""
    return name.partition(".")[0], [int(number) for number in re.findall(r"\.(\d+)", name)], name


def _cells(cost: LayerCost) -> list[str]:
    counts = [f"{cost.parameters:,}", f"{cost.multiply_adds:,}", f"{cost.receptive_field:,}"]
    stride = f"{cost.stride:,}" if cost.stride else ""
    return [*counts, stride, _megabytes(cost.saved_bytes), _megabytes(cost.gradient_bytes)]


def _total_cells(costs: Sequence[LayerCost]) -> list[str]:
    """Receptive field and stride are not summed."""
    parameters, multiply_adds, _, _, *memory = _cells(total("total", costs))
    return [parameters, multiply_adds, "", "", *memory]


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f}"
