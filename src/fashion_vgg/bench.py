"""``fashion-vgg bench``: the seed's loop, a bare loop and Trainer.fit side by side, against the hardware's limit."""

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from fashion_vgg import atomic
from fashion_vgg.allocator import keep_freed_memory
from fashion_vgg.assemble import check_parts, quieten_lightning
from fashion_vgg.compose import command
from fashion_vgg.errors import UserError

# torch is imported late, as in `train`.
if TYPE_CHECKING:
    import torch

    from fashion_vgg.data import FashionMNISTDataModule


@command("bench")
def main(cfg: DictConfig) -> None:
    check_parts(cfg)
    import lightning as L

    from fashion_vgg import summary
    from fashion_vgg.benchmark import figures, tables

    keep_freed_memory()
    quieten_lightning()
    L.seed_everything(cfg.seed, workers=True, verbose=False)
    device = chosen_device(cfg)
    environment = summary.environment(device, list(HydraConfig.get().overrides.task))
    print(tables.title(cfg, environment), flush=True)
    datamodule = prepared(cfg)
    content = (grow if cfg.bench.growth else compare)(cfg, datamodule, device) | environment
    folder = Path(cfg.output_dir)
    figures.save(content, folder / "bench.png")
    atomic.write(folder / "bench.json", json.dumps(content, indent=2) + "\n")
    print(f"\n{tables.table(content)}\n\nIn {folder}: bench.json, bench.png")


def chosen_device(cfg: DictConfig) -> "torch.device":
    """The one device that the Trainer would train on.

    Raises:
        UserError: there are to be several.
    """
    import torch

    if cfg.trainer.devices not in (1, "auto") or cfg.trainer.num_nodes != 1:
        raise UserError("bench measures one device: leave out trainer.devices and trainer.num_nodes.")
    wants_gpu = cfg.trainer.accelerator != "cpu"
    return torch.device("cuda", 0) if wants_gpu and torch.cuda.is_available() else torch.device("cpu")


def prepared(cfg: DictConfig) -> "FashionMNISTDataModule":
    """The data module with its images in memory."""
    datamodule: FashionMNISTDataModule = instantiate(cfg.data)
    datamodule.prepare_data()
    datamodule.setup("fit")
    return datamodule


def compare(cfg: DictConfig, datamodule: "FashionMNISTDataModule", device: "torch.device") -> dict[str, Any]:
    """The three loops in alternating rounds, and the data's way in both."""
    from fashion_vgg import fashion_mnist
    from fashion_vgg.benchmark import data_path, rounds
    from fashion_vgg.benchmark.loops import BareLoop, SeedLoop, TrainerLoop

    with tempfile.TemporaryDirectory() as plain:
        fashion_mnist.unpack(datamodule.root, Path(plain))
        results = rounds.measure(
            [
                SeedLoop(Path(plain), cfg.bench.seed_loop, device),
                BareLoop(cfg, datamodule, device),
                TrainerLoop(cfg, datamodule, device),
            ],
            cfg.bench.rounds,
            cfg.bench.block_seconds,
            device,
        )
        data = data_path.compare(Path(plain), datamodule, cfg.bench.seed_loop.image_size)
    seeds, bare, trainer = results.loops
    ratios = {
        "bare_over_seed": bare.times_faster(seeds),
        "trainer_over_seed": trainer.times_faster(seeds),
        "trainer_over_bare": trainer.times_faster(bare),
    }
    return {**results.to_dict(), "ratios": ratios, "data": data}


def grow(cfg: DictConfig, datamodule: "FashionMNISTDataModule", device: "torch.device") -> dict[str, Any]:
    """The bare loop at each batch size, and at each image size."""
    from fashion_vgg.benchmark import rounds
    from fashion_vgg.benchmark.loops import BareLoop

    loops = [
        BareLoop(OmegaConf.merge(cfg, {key: value}), datamodule, device, name=f"{key}={value}")  # type: ignore[arg-type]
        for key, values in cfg.bench.growth.items()
        for value in values
    ]
    return rounds.measure(loops, cfg.bench.rounds, cfg.bench.block_seconds, device).to_dict()


if __name__ == "__main__":
    main()
