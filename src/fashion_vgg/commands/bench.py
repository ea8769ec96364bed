"""``fashion-vgg bench``: the speed of the book's loop, a bare loop and Trainer.fit, and the hardware limit."""

import json
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from fashion_vgg import atomic
from fashion_vgg.checkpoints import run_folder
from fashion_vgg.config import validation
from fashion_vgg.config.app import CONF
from fashion_vgg.config.error_messages import reported_errors
from fashion_vgg.errors import UserError

# torch is imported late, as in `train`.
if TYPE_CHECKING:
    import torch

    from fashion_vgg.profiling.timing import Benchmark


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="bench")
@reported_errors("bench")
def main(cfg: DictConfig) -> None:
    with run_folder.removed_if_refused(Path(HydraConfig.get().runtime.output_dir)):
        bench(cfg)


def bench(cfg: DictConfig) -> None:
    validation.check(cfg)
    from fashion_vgg.data import download
    from fashion_vgg.profiling import bench_report
    from fashion_vgg.profiling.timing import Benchmark
    from fashion_vgg.runs import summary
    from fashion_vgg.training import allocator, build

    build.check_components(cfg)
    allocator.keep_freed_memory()
    device = choose_device(cfg)
    environment = summary.environment(device, list(HydraConfig.get().overrides.task))
    print(bench_report.title(cfg, environment), flush=True)
    download.fetch(cfg.data.root)
    benchmark = Benchmark(device, cfg.bench.rounds, cfg.bench.block_seconds)
    content = (grow if cfg.bench.growth else compare)(cfg, benchmark) | environment
    folder = Path(cfg.output_dir)
    atomic.write(folder / "bench.json", json.dumps(content, indent=2) + "\n")
    with atomic.writing(folder / "bench.png") as file:
        bench_report.plot(content).savefig(file, format="png", dpi=150)
    print(f"\n{bench_report.report(content)}\n\nResults are in {folder}: bench.json, bench.png")


def choose_device(cfg: DictConfig) -> "torch.device":
    """The device that the Trainer would use; UserError if there are several, or one is not a CPU or an NVIDIA GPU."""
    import torch

    if cfg.trainer.devices not in (1, "auto") or cfg.trainer.num_nodes != 1:
        raise UserError("bench measures one device: leave out trainer.devices and trainer.num_nodes.")
    found = torch.accelerator.current_accelerator(check_available=True) if cfg.trainer.accelerator != "cpu" else None
    if found and found.type != "cuda":
        raise UserError(f"bench measures CPUs and NVIDIA GPUs, but not {found.type}: add trainer=cpu.")
    return torch.device("cuda", 0) if found else torch.device("cpu")


def compare(cfg: DictConfig, benchmark: "Benchmark") -> dict[str, Any]:
    """Time the loops in alternating rounds, then checkpoints and the preprocessing of the data."""
    from fashion_vgg.profiling import memory, overhead
    from fashion_vgg.profiling.loops import BareLoop, ReferenceLoop, TrainerLoop

    root, device = Path(cfg.data.root).expanduser(), benchmark.device
    loops = ReferenceLoop(root, cfg.bench.reference_loop, device), BareLoop(cfg, device), TrainerLoop(cfg, device)
    second, further = second_precision(cfg), []
    if second:
        in_second: Any = OmegaConf.merge(cfg, {"trainer": {"precision": second}})
        further = [TrainerLoop(in_second, device)]
        further[0].name += f", {second}"
    book, bare, trainer, *_ = benchmark.measure(*loops, *further)
    with memory.own_process() as process:
        data = process.submit(overhead.preprocessing_cost, root, cfg.bench.reference_loop.image_size).result()
    pairs = {"bare_over_book": (bare, book), "trainer_over_book": (trainer, book), "trainer_over_bare": (trainer, bare)}
    return {
        **benchmark.to_dict(),
        "ratios": {name: fast.speedup_over(slow) for name, (fast, slow) in pairs.items()},
        "checkpoint_cost": overhead.checkpoint_cost(cfg, median(trainer.step_seconds)),
        "data": data,
    }


def second_precision(cfg: DictConfig) -> str | None:
    """The precision in which Trainer.fit is timed once more, if any."""
    from fashion_vgg.training import precision

    second: str | None = cfg.bench.second_precision
    if second == "auto":
        second = precision.choose(cfg.trainer.accelerator)
        if second == "32-true":
            print("bfloat16 is not faster on this machine, and not timed; bench.second_precision=bf16-mixed times it.")
    return second if second != cfg.trainer.precision else None


def grow(cfg: DictConfig, benchmark: "Benchmark") -> dict[str, Any]:
    """Time the bare loop at each batch size and at each image size, one after another to save memory."""
    from fashion_vgg.profiling.loops import BareLoop

    for key, value in [(key, value) for key, values in cfg.bench.growth.items() for value in values]:
        loop = BareLoop(OmegaConf.merge(cfg, {key: value}), benchmark.device)  # type: ignore[arg-type]
        loop.name = f"{key}={value}"
        benchmark.measure(loop)
    return benchmark.to_dict()
