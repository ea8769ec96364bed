"""``fashion-vgg describe``: the seed's table of output shapes, what each part costs, and a picture of it."""

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig

from fashion_vgg import atomic
from fashion_vgg.assemble import network
from fashion_vgg.compose import command
from fashion_vgg.errors import UserError

if TYPE_CHECKING:
    from fashion_vgg.anatomy.tables import Network

_OF_THE_OUTPUT = ("layers=", "measure=", "format=", "picture=")
_described: list[tuple[DictConfig, "Network"]] = []


@contextmanager
def shown_together() -> Iterator[None]:
    """Several networks, as -m makes them, are shown beside each other when the last one is described."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["FASHION_VGG_SCRATCH"] = folder  # where Hydra records a sweep
        yield
    if _described:
        show(_described[-1][0], [described for _, described in _described])


@command("describe", around=shown_together)
def main(cfg: DictConfig) -> None:
    _described.append((cfg, describe(cfg)))


def describe(cfg: DictConfig) -> "Network":
    """The network of a configuration.

    Raises:
        UserError: its image size does not fit, or torch refuses the batch.
    """
    import torch

    from fashion_vgg.anatomy import parts, step
    from fashion_vgg.anatomy.tables import Network

    with torch.device("meta"):  # shapes alone: no weights are drawn, no arithmetic is done
        net = network(cfg.model)
    size = (cfg.in_channels, cfg.image_size, cfg.image_size)
    try:
        layers = parts.layers(net, size, cfg.batch_size)
    except ValueError as error:
        raise UserError(f"batch_size={cfg.batch_size}: {error}.") from error
    device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    return Network(
        name=name_of(HydraConfig.get().overrides.task),
        size=size,
        batch_size=cfg.batch_size,
        layers=layers,
        step=step.estimate(net, layers, instantiate(cfg.optimizer)),
        measured=step.measure(cfg, size, device) if cfg.measure else None,
    )


def name_of(overrides: Iterable[str]) -> str:
    """What the command line says of the network; a group's option stands for itself."""
    about = [word.removeprefix("model=").removeprefix("experiment=") for word in overrides]
    return " ".join(word for word in about if not word.startswith(_OF_THE_OUTPUT)) or "vgg11"


def show(cfg: DictConfig, networks: list["Network"]) -> None:
    """Print what was found as the configuration says, and draw it."""
    from fashion_vgg.anatomy import tables

    alone = len(networks) == 1
    match cfg.format:
        case "json":
            print(tables.as_json(networks))
        case "table" if alone:
            print(f"{tables.single(networks[0], cfg.layers).text()}\n\n{tables.explained(networks[0])}")
        case _:
            table = tables.single(networks[0], cfg.layers) if alone else tables.side_by_side(networks, cfg.layers)
            print(table.markdown() if cfg.format == "markdown" else table.text())
    if cfg.picture:
        from fashion_vgg.anatomy import picture

        path = Path(cfg.picture).expanduser()
        with atomic.writing(path) as file:
            picture.draw(networks).savefig(file, format=path.suffix[1:] or "png", dpi=150)


if __name__ == "__main__":
    main()
