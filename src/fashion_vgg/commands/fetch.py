"""``fashion-vgg fetch``: put Fashion-MNIST where `train` looks for it, and check every file."""

from pathlib import Path

from omegaconf import DictConfig

from fashion_vgg.config.app import command


@command("fetch")
def main(cfg: DictConfig) -> None:
    from fashion_vgg.data import fashion_mnist

    root = Path(cfg.data.root).expanduser()
    fashion_mnist.fetch(root)
    splits: tuple[fashion_mnist.Split, ...] = ("train", "test")
    for split in splits:
        images, _ = fashion_mnist.load(root, split)
        print(f"{split}: {len(images):,} images in {fashion_mnist.find(root)}")


if __name__ == "__main__":
    main()
