from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torchvision import transforms

from fashion_vgg.data import FashionMNISTDataModule, fashion_mnist
from fashion_vgg.data.transforms import resize_batch
from fashion_vgg.errors import UserError


def make(data_root: Path, rank: int = 0, processes: int = 1, **settings: Any) -> FashionMNISTDataModule:
    datamodule = FashionMNISTDataModule(str(data_root), **({"image_size": 224, "batch_size": 128} | settings))
    datamodule.setup("fit")
    if processes > 1:
        datamodule.trainer = trainer(rank, processes)
    return datamodule


def trainer(rank: int = 0, processes: int = 1) -> Any:
    """The attributes of a Trainer that the data module reads."""
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    return SimpleNamespace(world_size=processes, global_rank=rank, strategy=strategy, training=False)


@pytest.mark.parametrize("size", [28, 32, 96, 224])
def test_a_batch_is_bit_identical_to_the_books_transforms(data_root: Path, size: int) -> None:
    datamodule = make(data_root, image_size=size)
    book = transforms.Compose([transforms.ToPILImage(), transforms.Resize(size), transforms.ToTensor()])
    images, labels = next(iter(datamodule.val_dataloader()))
    assert (images.shape, images.dtype) == ((128, 28, 28), torch.uint8)  # bytes are transferred to the device
    batch, _ = datamodule.on_after_batch_transfer((images, labels), 0)
    assert batch.dtype == torch.float32
    assert torch.equal(batch, torch.stack([book(image) for image in images]))


def test_repeated_normalized_channels_match_torchvisions_transforms(data_root: Path) -> None:
    datamodule = make(data_root, image_size=32, channels=3, mean=0.449, std=0.226)
    reference = transforms.Compose(
        [
            *(transforms.ToPILImage(), transforms.Resize(32), transforms.Grayscale(3), transforms.ToTensor()),
            transforms.Normalize([0.449] * 3, [0.226] * 3),
        ]
    )
    images, labels = next(iter(datamodule.val_dataloader()))
    batch, _ = datamodule.on_after_batch_transfer((images, labels), 0)
    torch.testing.assert_close(batch, torch.stack([reference(image) for image in images]), rtol=1e-6, atol=1e-6)


def test_an_epoch_has_the_books_batches_and_every_image_once(data_root: Path) -> None:
    batches = list(make(data_root).train_dataloader())
    assert [len(labels) for _, labels in batches] == [128] * 468 + [96]
    assert torch.cat([labels for _, labels in batches]).bincount().tolist() == [6_000] * 10


def test_images_and_labels_stay_together(data_root: Path) -> None:
    datamodule = make(data_root, seed=5)
    loader: Any = datamodule.train_dataloader()
    images, labels = next(iter(loader))
    first = next(iter(loader.sampler))
    stored, stored_labels = fashion_mnist.load(data_root, "train")
    assert torch.equal(images, stored[first])
    assert torch.equal(labels, stored_labels[first])


def test_the_loader_leaves_the_global_random_state_unchanged(data_root: Path) -> None:
    datamodule = make(data_root)
    before = torch.get_rng_state()
    next(iter(datamodule.train_dataloader()))
    assert torch.equal(torch.get_rng_state(), before)


def test_images_are_augmented_in_training_only(data_root: Path) -> None:
    datamodule = make(data_root, image_size=28, flip=1.0)
    datamodule.trainer = trainer()
    batch = datamodule.test_set[:5]
    plain = resize_batch(batch[0], 28)
    for training, expected in ((True, plain.flip(3)), (False, plain)):
        datamodule.trainer.training = training
        assert torch.equal(datamodule.on_after_batch_transfer(batch, 0)[0], expected)


def test_the_validation_split_does_not_depend_on_the_seed(data_root: Path) -> None:
    datamodule, other_seed = (make(data_root, val_size=5_003, seed=seed) for seed in (0, 9))
    assert datamodule.eval_stage == "val"
    assert (len(datamodule.train_set), len(datamodule.val_set)) == (54_997, 5_003)
    for split in ("train_set", "val_set"):
        assert torch.equal(getattr(datamodule, split).tensors[0], getattr(other_seed, split).tensors[0])
    together = torch.cat([datamodule.train_set.tensors[0], datamodule.val_set.tensors[0]])
    assert torch.equal(together.sum(0), fashion_mnist.load(data_root, "train")[0].sum(0))
    labels = torch.cat([labels for _, labels in datamodule.val_dataloader()])
    assert torch.equal(labels, datamodule.val_set.tensors[1])
    assert labels.bincount().max() - labels.bincount().min() == 1


def test_without_a_validation_split_the_test_set_is_evaluated(data_root: Path) -> None:
    datamodule = make(data_root)
    assert datamodule.eval_stage == "test"
    assert len(datamodule.train_set) == 60_000
    labels = torch.cat([labels for _, labels in datamodule.val_dataloader()])
    assert torch.equal(labels, fashion_mnist.load(data_root, "test")[1])


def test_processes_share_the_batch_of_a_single_process(data_root: Path) -> None:
    whole = next(iter(make(data_root).train_dataloader()))
    halves = [next(iter(make(data_root, rank, processes=2).train_dataloader())) for rank in range(2)]
    for index in range(2):
        assert torch.equal(torch.stack([half[index] for half in halves], dim=1).flatten(0, 1), whole[index])


def test_processes_that_cannot_share_the_batch_are_an_error(data_root: Path) -> None:
    with pytest.raises(UserError, match="batch_size=128 cannot be shared equally by 3 processes: use a multiple of 3"):
        make(data_root, processes=3).train_dataloader()


def test_worker_processes_load_the_same_batches(data_root: Path) -> None:
    datamodule, with_workers = make(data_root, batch_size=6_000), make(data_root, batch_size=6_000, num_workers=2)
    for one, other in zip(datamodule.train_dataloader(), with_workers.train_dataloader(), strict=True):
        assert all(map(torch.equal, one, other))
