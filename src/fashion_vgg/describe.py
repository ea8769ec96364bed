"""``fashion-vgg describe``: the seed's table of output shapes, with parameters and multiply-adds."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from hydra.utils import instantiate
from omegaconf import DictConfig

from fashion_vgg.compose import command

if TYPE_CHECKING:
    from fashion_vgg.vgg import VGG


class Row(NamedTuple):
    """A part of a network: a block, or a layer."""

    name: str
    kind: str
    output_shape: tuple[int, ...]
    parameters: int
    multiply_adds: int


@command("describe")
def main(cfg: DictConfig) -> None:
    import torch

    with torch.device("meta"):  # shapes alone: no weights are drawn, no arithmetic is done
        net = instantiate(cfg.model)
    size = (1, cfg.in_channels, cfg.image_size, cfg.image_size)
    print(table(describe(net, size, by_layer=cfg.layers), by_layer=cfg.layers))


def describe(net: "VGG", size: tuple[int, ...], by_layer: bool = False) -> list[Row]:
    """The rows of the seed's loop over the network's parts, for one input of ``size`` on the network's device.

    With ``by_layer`` there is a row for each layer of a block, not one for the block.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    parts = {
        name: module
        for name, module in net.named_modules()
        if (not list(module.children()) if by_layer else name.count(".") == 1)
    }
    shapes: dict[str, tuple[int, ...]] = {}
    for name, module in parts.items():
        module.register_forward_hook(lambda _, __, output, name=name: shapes.update({name: tuple(output.shape)}))
    device = next(net.parameters()).device
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net.eval()(torch.empty(size, device=device))  # a batch norm in training takes no single number
    operations = counter.get_flop_counts()  # two for each multiply-add
    return [
        Row(
            name=name,
            kind=type(module).__name__,
            output_shape=shapes[name],
            parameters=sum(parameter.numel() for parameter in module.parameters()),
            multiply_adds=sum(operations.get(f"{type(net).__name__}.{name}", {}).values()) // 2,
        )
        for name, module in parts.items()
    ]


def table(rows: Iterable[Row], by_layer: bool = False) -> str:
    """The rows as lines of text, and a line of totals."""
    rows = list(rows)
    total = Row("", "", (), sum(row.parameters for row in rows), sum(row.multiply_adds for row in rows))
    left = [(row.name if by_layer else "", row.kind, f"output shape: {list(row.output_shape)}") for row in rows]
    cells = [
        ("", "", "", "parameters", "multiply-adds"),
        *((*texts, f"{row.parameters:,}", f"{row.multiply_adds:,}") for texts, row in zip(left, rows, strict=True)),
        ("", "in all", "", f"{total.parameters:,}", f"{total.multiply_adds:,}"),
    ]
    widths = [max(len(row[column]) for row in cells) for column in range(5)]
    return "\n".join(
        "  ".join(
            f"{cell:>{width}}" if column > 2 else f"{cell:<{width}}"
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            if width
        ).rstrip()
        for row in cells
    )


if __name__ == "__main__":
    main()
