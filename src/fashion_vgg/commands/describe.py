"""``fashion-vgg describe``: the seed's table of output shapes, what each part costs, and a picture of it."""

import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig

from fashion_vgg import atomic
from fashion_vgg.config.app import command, in_sweep
from fashion_vgg.errors import UserError
from fashion_vgg.training.build import check_optimizer, network

if TYPE_CHECKING:
    from fashion_vgg.profiling.network_tables import Network

_OF_THE_OUTPUT = ("layers=", "measure=", "format=", "picture=")


@dataclass(frozen=True)
class Described:
    """A network, the configuration it is of, and the overrides that this came from."""

    cfg: DictConfig
    network: "Network"
    overrides: list[str]
    one_of_several: bool


_described: list[Described] = []


@contextmanager
def shown_together() -> Iterator[None]:
    """Several networks, as -m makes them, are shown beside each other at the end, even if a mistake is among them."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["FASHION_VGG_SCRATCH"] = folder  # where Hydra records a sweep
        try:
            yield
        finally:
            if _described:
                show(_described)


@command("describe", around=shown_together)
def main(cfg: DictConfig) -> None:
    if in_sweep() and "Basic" not in HydraConfig.get().launcher._target_:
        raise UserError(
            "hydra/launcher: describe shows its networks together, from one process: leave the launcher out."
        )
    if cfg.picture and not (folder := Path(cfg.picture).expanduser().absolute().parent).is_dir():
        raise UserError(f"picture={cfg.picture}: there is no folder {folder}.")
    words = [word for word in HydraConfig.get().overrides.task if not word.startswith(_OF_THE_OUTPUT)]
    _described.append(Described(cfg, describe(cfg), words, in_sweep()))


def describe(cfg: DictConfig) -> "Network":
    """The network of a configuration.

    Raises:
        UserError: its image size does not fit, or torch refuses the batch or the optimizer's settings.
    """
    import torch

    from fashion_vgg.profiling import layers, step_memory
    from fashion_vgg.profiling.network_tables import Network

    with torch.device("meta"):  # shapes alone: no weights are drawn, no arithmetic is done
        net = network(cfg.model)
    check_optimizer(cfg)
    size = (cfg.in_channels, cfg.image_size, cfg.image_size)
    try:
        parts = layers.layers(net, size, cfg.batch_size)
    except (ValueError, RuntimeError) as error:
        raise UserError(f"batch_size={cfg.batch_size}: {str(error).splitlines()[0].removesuffix('.')}.") from error
    device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    return Network(
        name=HydraConfig.get().runtime.choices["model"],
        size=size,
        batch_size=cfg.batch_size,
        layers=parts,
        step=step_memory.estimate(net, parts, instantiate(cfg.optimizer)),
        measured=step_memory.measure(cfg, size, device) if cfg.measure else None,
    )


def show(described: Sequence[Described]) -> None:
    """Print what was found as the last one's configuration says, and draw it."""
    from fashion_vgg.profiling import network_tables

    cfg, networks = described[-1].cfg, named_apart(described)
    alone = None if described[-1].one_of_several else networks[0]
    match cfg.format:
        case "json":
            content = [network_tables.content(network) for network in networks]
            print(json.dumps(content[0] if alone else content, indent=2))
        case "table" if alone:
            print(f"{network_tables.single(alone, cfg.layers).text()}\n\n{network_tables.explained(alone)}")
        case _:
            table = (
                network_tables.single(alone, cfg.layers) if alone else network_tables.side_by_side(networks, cfg.layers)
            )
            print(table.markdown() if cfg.format == "markdown" else table.text())
    if cfg.picture:
        from fashion_vgg.profiling import network_plot

        path = Path(cfg.picture).expanduser()
        with atomic.writing(path) as file:
            network_plot.draw(networks).savefig(file, format=path.suffix[1:], dpi=150)


def named_apart(described: Sequence[Described]) -> list["Network"]:
    """The networks, each under those of its overrides that not all have; a group's option stands for itself."""
    common = set.intersection(*(set(each.overrides) for each in described))
    networks = []
    for each in described:
        own = [word for word in each.overrides if len(described) == 1 or word not in common]
        name = " ".join(word.removeprefix("model=").removeprefix("experiment=") for word in own)
        networks.append(replace(each.network, name=name or each.network.name))
    return networks


if __name__ == "__main__":
    main()
