"""``fashion-vgg bench``: the seed's loop, a bare loop and Trainer.fit side by side, against the hardware's limit."""

import json
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from fashion_vgg import atomic
from fashion_vgg.config.app import command
from fashion_vgg.errors import UserError
from fashion_vgg.training.allocator import keep_freed_memory
from fashion_vgg.training.build import check_components

# torch is imported late, as in `train`.
if TYPE_CHECKING:
    import torch


@command("bench")
def main(cfg: DictConfig) -> None:
    check_components(cfg)
    from fashion_vgg.data import fashion_mnist
    from fashion_vgg.profiling import bench_plots, bench_tables
    from fashion_vgg.runs import summary

    keep_freed_memory()
    device = chosen_device(cfg)
    environment = summary.environment(device, list(HydraConfig.get().overrides.task))
    print(bench_tables.title(cfg, environment), flush=True)
    fashion_mnist.fetch(Path(cfg.data.root).expanduser())
    content = (grow if cfg.bench.growth else compare)(cfg, device) | environment
    folder = Path(cfg.output_dir)
    bench_plots.save(content, folder / "bench.png")
    atomic.write(folder / "bench.json", json.dumps(content, indent=2) + "\n")
    print(f"\n{bench_tables.table(content)}\n\nIn {folder}: bench.json, bench.png")


def chosen_device(cfg: DictConfig) -> "torch.device":
    """The one device that the Trainer would train on.

    Raises:
        UserError: there are to be several, or it is neither a CPU nor an NVIDIA GPU.
    """
    import torch

    if cfg.trainer.devices not in (1, "auto") or cfg.trainer.num_nodes != 1:
        raise UserError("bench measures one device: leave out trainer.devices and trainer.num_nodes.")
    found = torch.accelerator.current_accelerator(check_available=True) if cfg.trainer.accelerator != "cpu" else None
    if found and found.type != "cuda":
        raise UserError(f"bench measures CPUs and NVIDIA GPUs, and not this {found.type}: add trainer=cpu.")
    return torch.device("cuda", 0) if found else torch.device("cpu")


def compare(cfg: DictConfig, device: "torch.device") -> dict[str, Any]:
    """The three loops in alternating rounds, and the data's way in the seed's manner and in ours."""
    from fashion_vgg.profiling import checkpoint_cost, input_pipeline, rounds
    from fashion_vgg.profiling.loops import BareLoop, Loop, ReferenceLoop, TrainerLoop

    root = Path(cfg.data.root).expanduser()
    loops: list[Loop] = [
        ReferenceLoop(root, cfg.bench.seed_loop, device),
        BareLoop(cfg, device),
        TrainerLoop(cfg, device),
    ]
    results = rounds.measure(loops, cfg.bench.rounds, cfg.bench.block_seconds, device)
    seeds, bare, trainer = results.loops
    return {
        **results.to_dict(),
        "ratios": {
            "bare_over_seed": bare.times_faster(seeds),
            "trainer_over_seed": trainer.times_faster(seeds),
            "trainer_over_bare": trainer.times_faster(bare),
        },
        "guards": checkpoint_cost.cost(cfg, median(trainer.step_seconds)),
        "data": input_pipeline.compare(root, cfg.bench.seed_loop.image_size),
    }


def grow(cfg: DictConfig, device: "torch.device") -> dict[str, Any]:
    """The bare loop at each batch size, and at each image size, one after another to need less memory."""
    from fashion_vgg.profiling import rounds
    from fashion_vgg.profiling.loops import BareLoop

    loops = [
        BareLoop(OmegaConf.merge(cfg, {key: value}), device, name=f"{key}={value}")  # type: ignore[arg-type]
        for key, values in cfg.bench.growth.items()
        for value in values
    ]
    measured = [rounds.measure([loop], cfg.bench.rounds, cfg.bench.block_seconds, device) for loop in loops]
    return rounds.joined(measured).to_dict()


if __name__ == "__main__":
    main()
