"""``fashion-vgg export``: a run's weights alone, as `safetensors`, with a SHA-256 beside them."""

from functools import partial
from pathlib import Path

from omegaconf import DictConfig

from fashion_vgg.checkpoints import resume
from fashion_vgg.config.app import command
from fashion_vgg.training.build import build_network


@command("export", prepare=partial(resume.arguments, key="weights"))
def main(cfg: DictConfig) -> None:
    import torch

    from fashion_vgg.checkpoints import weights

    path = weights.file_of(Path(cfg.weights))
    with torch.device("meta"):
        net = build_network(cfg)
    to = Path(cfg.to) if cfg.to else path.with_name("weights.safetensors")
    beside = weights.publish(weights.fitting(weights.load(path), net), to)
    print(f"{to}\n{beside}")


if __name__ == "__main__":
    main()
