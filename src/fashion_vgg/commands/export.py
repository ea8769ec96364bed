"""``fashion-vgg export``: write a trained network as `safetensors`, for ONNX Runtime, or for `torch.export.load`."""

import hashlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
from omegaconf import DictConfig

from fashion_vgg.checkpoints import run_folder
from fashion_vgg.config import validation
from fashion_vgg.config.app import CONF
from fashion_vgg.config.error_messages import reported_errors
from fashion_vgg.errors import UserError
from fashion_vgg.inference import sources

if TYPE_CHECKING:
    from torch import Tensor

    from fashion_vgg.inference.export import Check

NAMES = {"safetensors": "weights.safetensors", "onnx": "model.onnx", "torch_export": "model.pt2"}
IMAGES = 256
"""Of the test set, on which an exported network is compared."""


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="export")
@reported_errors("export")
def main(cfg: DictConfig) -> None:
    validation.check(cfg)
    if cfg.preprocess and cfg.format == "safetensors":
        raise UserError("preprocess=true does not fit format=safetensors, which holds only weights.")
    source = sources.find(cfg.weights)
    from fashion_vgg.inference import export, model_card, predictor

    output = output_file(cfg, source)
    net, card = predictor.load_network(source)
    print(model_card.origin(card), file=sys.stderr)
    check = export.write(net, card, lambda: test_images(cfg), output, cfg.format, cfg.preprocess)
    print(report(output, check))


def output_file(cfg: DictConfig, source: Path) -> Path:
    """The new file, by default in the run's folder; UserError without its folder, or for another format's name."""
    name = NAMES[cfg.format]
    if cfg.to is None:
        return Path(name) if source == sources.SPEEDRUN else run_folder.folder_of(source) / name  # not into the package
    output = Path(cfg.to).expanduser()
    folder = output if cfg.to.endswith("/") or output.is_dir() else output.absolute().parent
    if not folder.is_dir():
        raise UserError(f"to={cfg.to}: there is no folder {folder}.")
    for other, usual in NAMES.items():
        if output.suffix == Path(usual).suffix and other != cfg.format:
            raise UserError(f"to={cfg.to} does not fit format={cfg.format}: add format={other}, or name another file.")
    return output / name if output.is_dir() else output


def test_images(cfg: DictConfig) -> "Tensor":
    """The first images of the test set, uint8 ``(N, 28, 28)``."""
    from fashion_vgg.data import download, fashion_mnist

    return fashion_mnist.load(download.fetch(cfg.data.root), "test")[0][:IMAGES]


def report(output: Path, check: "Check | None") -> str:
    """The file, its size and SHA-256, and how it compares with the network."""
    content = output.read_bytes()
    lines = [f"{output}: {len(content) / 1e6:.1f} MB, SHA-256 {hashlib.sha256(content).hexdigest()}"]
    if check:
        lines += [
            f"Largest difference from the network's logits on {IMAGES} test images: {check.difference:.1e}",
            f"{check.images_per_sec:,.0f} images/s, the network in PyTorch {check.network_images_per_sec:,.0f}",
        ]
    return "\n".join(lines)
