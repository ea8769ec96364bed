"""A network's parts as a table, several networks side by side, and all of it as JSON."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fashion_vgg.anatomy.parts import Part, blocks
from fashion_vgg.anatomy.step import StepMemory
from fashion_vgg.reporting.table import Table

COLUMNS = ("parameters", "multiply-adds", "field", "stride", "forward MB", "backward MB")


@dataclass(frozen=True)
class Network:
    """A described network.

    Attributes:
        label: its overrides.
        size: of an image: channels, height and width.
        batch_size: images a step.
        layers: its parts, one for each layer.
        step: the memory of a training step, estimated.
        measured: the same in bytes, measured; None where nobody asked.
    """

    label: str
    size: tuple[int, int, int]
    batch_size: int
    layers: list[Part]
    step: StepMemory
    measured: int | None = None

    def parts(self, by_layer: bool) -> list[Part]:
        """A part for each block, or for each layer."""
        return self.layers if by_layer else blocks(self.layers)


def single(network: Network, by_layer: bool = False) -> Table:
    """The seed's rows of output shapes, and what each part costs."""
    parts = network.parts(by_layer)
    rows = [
        (part.name if by_layer else "", part.kind, f"output shape: {list(part.output_shape)}", *_costs(part))
        for part in parts
    ]
    rows.append(("", "in all", "", *_costs(total(parts))))
    header = ("", "", "", *COLUMNS)
    used = [column for column in range(len(header)) if any(row[column] for row in rows)]
    return Table([header[column] for column in used], [[row[column] for column in used] for row in rows])


def side_by_side(networks: Sequence[Network], by_layer: bool = False) -> Table:
    """A column for each network; its rows are the costs, each part by part."""
    parts = [{part.name: part for part in network.parts(by_layer)} for network in networks]
    names = list(dict.fromkeys(name for network in parts for name in network))
    totals = [total(list(network.values())) for network in parts]
    rows: list[list[str]] = []
    for column, title in enumerate(COLUMNS):
        for name in names:
            cells = [_costs(network[name])[column] if name in network else "" for network in parts]
            if any(cell not in ("", "0", "0.0") for cell in cells):
                rows.append([title, name, *cells])
        rows.append([title, "in all", *(_costs(part)[column] for part in totals)])
    rows.append(["a step, GB", "estimated", *(f"{network.step.peak / 1e9:.2f}" for network in networks)])
    if any(network.measured for network in networks):
        rows.append(["a step, GB", "measured", *(f"{(network.measured or 0) / 1e9:.2f}" for network in networks)])
    for before, row in zip(rows[-2::-1], rows[:0:-1], strict=True):
        row[0] = "" if row[0] == before[0] else row[0]
    return Table(["", "", *(network.label for network in networks)], rows)


def total(parts: Sequence[Part]) -> Part:
    """What the whole network costs; the backward pass holds the gradients of one layer at a time."""
    return Part(
        name="in all",
        kind="",
        kernel=None,
        output_shape=parts[-1].output_shape,
        parameters=sum(part.parameters for part in parts),
        multiply_adds=sum(part.multiply_adds for part in parts),
        receptive_field=parts[-1].receptive_field,
        stride=parts[-1].stride,
        forward_bytes=sum(part.forward_bytes for part in parts),
        backward_bytes=max(part.backward_bytes for part in parts),
    )


def explained(network: Network) -> str:
    """What the columns mean, and the memory of a step."""
    step = network.step
    lines = [
        "field, stride: pixels of the image that a unit depends on, and between two neighbouring units.",
        f"forward, backward: what {network.batch_size:,} images leave for the backward pass, and the gradients it holds "
        "at a layer, in float32.",
        f"A training step on them: {step.peak / 1e9:.2f} GB at its peak, estimated: weights {step.weights / 1e9:.2f}, "
        f"optimizer {step.optimizer / 1e9:.2f}, forward {step.forward / 1e9:.2f}, the rest gradients.",
    ]
    if network.measured:
        lines.append(f"Measured: {network.measured / 1e9:.2f} GB.")
    return "\n".join(lines)


def as_json(networks: Sequence[Network]) -> str:
    """Everything, in bytes; a list where there are several."""
    content = [_content(network) for network in networks]
    return json.dumps(content if len(content) > 1 else content[0], indent=2)


def _content(network: Network) -> dict[str, Any]:
    return {
        "network": network.label,
        "size": network.size,
        "batch_size": network.batch_size,
        "layers": [asdict(part) for part in network.layers],
        "parameters": sum(part.parameters for part in network.layers),
        "multiply_adds": sum(part.multiply_adds for part in network.layers),
        "step_bytes": asdict(network.step) | {"measured": network.measured},
    }


def _costs(part: Part) -> tuple[str, ...]:
    return (
        f"{part.parameters:,}",
        f"{part.multiply_adds:,}",
        f"{part.receptive_field:,}",
        f"{part.stride:,}" if part.stride else "",
        f"{part.forward_bytes / 1e6:,.1f}",
        f"{part.backward_bytes / 1e6:,.1f}",
    )
