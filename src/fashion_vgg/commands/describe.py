"""``fashion-vgg describe``: the book's table of output shapes with the costs of each layer, as text or a picture."""

import json
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig

from fashion_vgg import atomic
from fashion_vgg.config import validation
from fashion_vgg.config.app import CONF, in_sweep
from fashion_vgg.config.error_messages import reported_errors
from fashion_vgg.errors import UserError

if TYPE_CHECKING:
    from fashion_vgg.profiling.network_tables import NetworkCost

OUTPUT_KEYS = ("layers=", "measure=", "format=", "picture=")


class Job(NamedTuple):
    """A described network, its configuration, and the overrides that name it in a multirun."""

    cfg: DictConfig
    network: "NetworkCost"
    overrides: list[str]
    multirun: bool


_jobs: list[Job] = []


@contextmanager
def shown_together() -> Iterator[None]:
    """Show all networks of a multirun at its end, also if one of them has a mistake."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["FASHION_VGG_SCRATCH"] = folder  # for the files that Hydra writes in a multirun
        try:
            yield
        finally:
            if _jobs:
                show(_jobs)


@shown_together()
@hydra.main(version_base="1.3", config_path=str(CONF), config_name="describe")
@reported_errors("describe")
def main(cfg: DictConfig) -> None:
    validation.check(cfg)
    if in_sweep() and "Basic" not in HydraConfig.get().launcher._target_:
        raise UserError("hydra/launcher: describe compares networks in one process: leave the launcher out.")
    if cfg.picture and not (folder := Path(cfg.picture).expanduser().absolute().parent).is_dir():
        raise UserError(f"picture={cfg.picture}: there is no folder {folder}.")
    overrides = [word for word in HydraConfig.get().overrides.task if not word.startswith(OUTPUT_KEYS)]
    _jobs.append(Job(cfg, describe(cfg), overrides, in_sweep()))


def describe(cfg: DictConfig) -> "NetworkCost":
    """The cost of the network; UserError if torch rejects the image size, the batch or the optimizer's settings."""
    import torch

    from fashion_vgg.profiling import layers, memory
    from fashion_vgg.profiling.network_tables import NetworkCost

    with torch.device("meta"):  # shapes only: no weights, no arithmetic
        net = instantiate(cfg.model)
    size = (cfg.in_channels, cfg.image_size, cfg.image_size)
    try:
        costs = layers.layer_costs(net, size, cfg.batch_size)
    except (ValueError, RuntimeError) as error:
        raise UserError(f"batch_size={cfg.batch_size}: {str(error).splitlines()[0].removesuffix('.')}.") from error
    try:
        step = memory.estimate(net, costs, instantiate(cfg.optimizer))
    except (TypeError, ValueError) as error:
        raise UserError(f"optimizer: {error}") from error
    device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    measured = memory.measure(cfg, size, device) if cfg.measure else None
    return NetworkCost(HydraConfig.get().runtime.choices["model"], size, cfg.batch_size, costs, step, measured)


def show(jobs: Sequence[Job]) -> None:
    """Print the networks, and draw them, as the configuration of the last one asks."""
    from fashion_vgg.profiling.network_tables import explanation, side_by_side, single, to_dict

    cfg, multirun, networks = jobs[-1].cfg, jobs[-1].multirun, with_distinct_names(jobs)
    if cfg.format == "json":
        content = [to_dict(network) for network in networks]
        print(json.dumps(content if multirun else content[0], indent=2))
    else:
        table = side_by_side(networks, cfg.layers) if multirun else single(networks[0], cfg.layers)
        print(table.markdown() if cfg.format == "markdown" else table.text())
    if cfg.format == "table" and not multirun:
        print(f"\n{explanation(networks[0])}")
    if cfg.picture:
        from fashion_vgg.profiling import network_plot

        path = Path(cfg.picture).expanduser()
        with atomic.writing(path) as file:
            network_plot.draw(networks).savefig(file, format=path.suffix[1:], dpi=150)


def with_distinct_names(jobs: Sequence[Job]) -> list["NetworkCost"]:
    """The networks, each named by the overrides that not all of them share; a group's option by the option."""
    shared = set.intersection(*(set(job.overrides) for job in jobs)) if len(jobs) > 1 else set()
    distinct = [[word for word in job.overrides if word not in shared] for job in jobs]
    names = [" ".join(re.sub("^(model|experiment)=", "", word) for word in words) for words in distinct]
    return [replace(job.network, name=name or job.network.name) for job, name in zip(jobs, names, strict=True)]
