from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torchvision import transforms

from fashion_vgg.data import fashion_mnist
from fashion_vgg.data.datamodule import FashionMNISTDataModule, to_input
from fashion_vgg.errors import UserError


def make(data_root: Path, **settings: Any) -> FashionMNISTDataModule:
    datamodule = FashionMNISTDataModule(str(data_root), **({"image_size": 224, "batch_size": 128} | settings))
    datamodule.setup("fit")
    return datamodule


def order(datamodule: FashionMNISTDataModule, epoch: int) -> list[int]:
    sampler: Any = datamodule.train_dataloader().sampler
    sampler.set_epoch(epoch)
    return torch.cat(list(sampler)).tolist()


@pytest.mark.parametrize("size", [28, 32, 96, 224])
def test_a_batch_equals_the_seeds_transforms_to_the_last_bit(data_root: Path, size: int, tmp_path: Path) -> None:
    datamodule = make(data_root, image_size=size)
    seeds = transforms.Compose([transforms.ToPILImage(), transforms.Resize(size), transforms.ToTensor()])
    images, labels = next(iter(datamodule.val_dataloader()))
    assert (images.shape, images.dtype) == ((128, 28, 28), torch.uint8)  # what travels to the device
    batch, _ = datamodule.on_after_batch_transfer((images, labels), 0)
    assert batch.dtype == torch.float32
    assert torch.equal(batch, torch.stack([seeds(image) for image in images]))


def test_a_network_of_colours_gets_equal_channels_normalised(data_root: Path) -> None:
    """As torchvision's own transforms for its weights do it, with one mean and deviation for the three channels."""
    datamodule = make(data_root, image_size=32, channels=3, mean=0.449, std=0.226)
    theirs = transforms.Compose(
        [
            *(transforms.ToPILImage(), transforms.Resize(32), transforms.Grayscale(3), transforms.ToTensor()),
            transforms.Normalize([0.449] * 3, [0.226] * 3),
        ]
    )
    images, labels = next(iter(datamodule.val_dataloader()))
    batch, _ = datamodule.on_after_batch_transfer((images, labels), 0)
    torch.testing.assert_close(batch, torch.stack([theirs(image) for image in images]), rtol=1e-6, atol=1e-6)


def noise(count: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Random pixels, by us and by the seed's transforms."""
    images = torch.randint(256, (count, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(size))
    seeds = transforms.Compose([transforms.ToPILImage(), transforms.Resize(size), transforms.ToTensor()])
    return to_input(images, size), torch.stack([seeds(image) for image in images])


@pytest.mark.parametrize("size", [14, 28, *range(32, 257, 32)])
@pytest.mark.parametrize("count", [1, 30])
def test_any_number_of_images_is_resized_as_pil_does_it(size: int, count: int) -> None:
    assert torch.equal(*noise(count, size))


@pytest.mark.parametrize("size", [20, 27, 225, 288])
def test_at_an_odd_size_few_pixels_differ_and_by_one_byte_at_most(size: int) -> None:
    ours, seeds = noise(30, size)
    difference = (ours - seeds).abs()
    assert difference.max() < 1.001 / 255
    assert (difference > 0).double().mean() < 0.05


def test_an_epoch_trains_on_every_image_once_in_the_seeds_batches(data_root: Path) -> None:
    datamodule = make(data_root)
    batches = list(datamodule.train_dataloader())
    assert [len(labels) for _, labels in batches] == [128] * 468 + [96]
    assert sorted(order(datamodule, 0)) == list(range(60_000))
    assert torch.cat([labels for _, labels in batches]).bincount().tolist() == [6_000] * 10


def test_images_and_labels_stay_together(data_root: Path) -> None:
    datamodule = make(data_root, seed=5)
    images, labels = next(iter(datamodule.train_dataloader()))
    first = order(datamodule, 0)[:128]
    assert torch.equal(images, datamodule.train_set.tensors[0][first])
    assert torch.equal(labels, datamodule.train_set.tensors[1][first])


def test_the_order_is_a_function_of_seed_and_epoch_alone(data_root: Path) -> None:
    datamodule, again, other = make(data_root, seed=1), make(data_root, seed=1), make(data_root, seed=2)
    torch.manual_seed(0)
    first, second = order(datamodule, 0), order(datamodule, 1)
    torch.manual_seed(99)
    assert order(again, 1) == second
    assert order(again, 0) == first
    assert first != second
    assert order(other, 0) != first


def test_no_epoch_of_one_seed_has_the_order_of_another_seeds(data_root: Path) -> None:
    orders = [tuple(order(make(data_root, seed=seed), epoch)) for seed in range(3) for epoch in range(3)]
    assert len(set(orders)) == 9


def test_making_and_reading_a_loader_leaves_the_random_state_alone(data_root: Path) -> None:
    datamodule = make(data_root)
    before = torch.get_rng_state()
    next(iter(datamodule.train_dataloader()))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("val_size", [10, 5_003, 10_000])
def test_the_validation_split_is_stratified_fixed_and_disjoint(data_root: Path, val_size: int) -> None:
    datamodule, another_seed = make(data_root, val_size=val_size), make(data_root, val_size=val_size, seed=9)
    counts = datamodule.val_set.tensors[1].bincount()
    assert int(counts.sum()) == val_size
    assert counts.max() - counts.min() <= 1
    assert len(datamodule.train_set) == 60_000 - val_size
    for split in ("train_set", "val_set"):
        assert torch.equal(getattr(datamodule, split).tensors[0], getattr(another_seed, split).tensors[0])
    together = torch.cat([datamodule.train_set.tensors[0], datamodule.val_set.tensors[0]]).flatten(1)
    everything = make(data_root).train_set.tensors[0].flatten(1)
    assert torch.equal(together.float().mean(0), everything.float().mean(0))
    assert torch.equal(hashes(together).sort().values, hashes(everything).sort().values)


def test_images_are_augmented_in_training_alone(data_root: Path) -> None:
    datamodule = make(data_root, image_size=28, flip=1.0)
    datamodule.trainer = process(0, 1)
    batch = datamodule.test_set[:5]
    plain = to_input(batch[0], 28)
    for training, expected in ((True, plain.flip(3)), (False, plain)):
        datamodule.trainer.training = training
        assert torch.equal(datamodule.on_after_batch_transfer(batch, 0)[0], expected)


def process(rank: int, processes: int) -> Any:
    """As much of a Trainer as a data module asks of one of several processes."""
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    return SimpleNamespace(world_size=processes, global_rank=rank, strategy=strategy, training=False)


def hashes(images: torch.Tensor) -> torch.Tensor:
    weights = torch.randint(2**40, (images.shape[1],), generator=torch.Generator().manual_seed(0))
    return images.long() @ weights


def test_without_a_split_everything_trains_and_the_test_set_is_scored(data_root: Path) -> None:
    datamodule = make(data_root)
    assert datamodule.eval_stage == "test"
    assert len(datamodule.train_set) == 60_000
    labels = torch.cat([labels for _, labels in datamodule.val_dataloader()])
    assert torch.equal(labels, fashion_mnist.load(data_root, "test")[1])
    assert make(data_root, val_size=100).eval_stage == "val"


@pytest.mark.parametrize("processes", [2, 7])
def test_processes_train_on_as_many_images_each_and_on_none_twice(data_root: Path, processes: int) -> None:
    shares = []
    for rank in range(processes):
        datamodule = make(data_root, batch_size=21 * processes)
        datamodule.trainer = process(rank, processes)
        loader = datamodule.train_dataloader()
        batches: Any = list(loader.sampler)
        assert len(loader) == len(batches)
        shares.append(torch.cat(batches))
    assert {len(share) for share in shares} == {60_000 // processes}
    assert len(torch.cat(shares).unique()) == 60_000 // processes * processes


@pytest.mark.parametrize("world_size", [2, 3, 7])
def test_processes_score_every_test_image_once(data_root: Path, world_size: int) -> None:
    seen = []
    for rank in range(world_size):
        datamodule = make(data_root, batch_size=21 * world_size)
        datamodule.trainer = process(rank, world_size)
        seen += torch.cat(list(datamodule.test_dataloader().sampler)).tolist()
    assert sorted(seen) == list(range(10_000))


def test_processes_share_the_batch_of_one(data_root: Path) -> None:
    whole = next(iter(make(data_root).train_dataloader()))
    shares = []
    for rank in range(2):
        datamodule = make(data_root)
        datamodule.trainer = process(rank, 2)
        shares.append(next(iter(datamodule.train_dataloader()))[1])
    assert [len(share) for share in shares] == [64, 64]
    assert torch.equal(torch.stack(shares, dim=1).flatten(), whole[1])


def test_a_batch_that_cannot_be_shared_is_refused(data_root: Path) -> None:
    datamodule = make(data_root, batch_size=128)
    datamodule.trainer = process(0, 3)
    with pytest.raises(UserError, match="batch_size=128 cannot be shared equally by 3 processes: use a multiple of 3"):
        datamodule.train_dataloader()


def test_loader_processes_give_the_same_batches(data_root: Path) -> None:
    datamodule, with_workers = make(data_root, batch_size=6_000), make(data_root, batch_size=6_000, num_workers=2)
    for (images, labels), (others, other_labels) in zip(
        datamodule.train_dataloader(), with_workers.train_dataloader(), strict=True
    ):
        assert torch.equal(images, others)
        assert torch.equal(labels, other_labels)


def test_bytes_are_resized_not_floats() -> None:
    images = torch.randint(256, (4, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    pixels = to_input(images, 56) * 255
    torch.testing.assert_close(pixels, pixels.round(), atol=1e-4, rtol=0)
