from itertools import chain
from typing import Any

import pytest
import torch
from torch.utils.data import TensorDataset

from fashion_vgg.data.loader import BatchSampler, stratified_split

LABELS = torch.arange(10).repeat(6_000)[torch.randperm(60_000, generator=torch.Generator().manual_seed(0))]


def sampler(
    images: int = 1_000, processes: int = 1, rank: int = 0, shuffle: bool = True, **settings: Any
) -> BatchSampler:
    settings = {"batch_size": 21, "seed": 3, "num_replicas": processes, "rank": rank, "shuffle": shuffle} | settings
    return BatchSampler(TensorDataset(torch.arange(images)), **settings)


def order(batches: BatchSampler, epoch: int = 0) -> list[int]:
    batches.set_epoch(epoch)
    return torch.cat(list(batches)).tolist()


def test_order_depends_on_seed_and_epoch_only() -> None:
    places = [(seed, epoch) for seed in (0, 1, 2, 4096, 2**31) for epoch in range(3)]
    orders = [order(sampler(seed=seed), epoch) for seed, epoch in places]
    assert len(set(map(tuple, orders))) == len(places)
    torch.manual_seed(99)
    used = sampler(seed=1)
    assert [order(used, epoch) for epoch in (1, 0)] == [orders[places.index((1, epoch))] for epoch in (1, 0)]


@pytest.mark.parametrize("processes", [1, 2, 7])
def test_processes_train_on_equal_numbers_of_different_images(processes: int) -> None:
    shares = []
    for rank in range(processes):
        batches = sampler(1_005, processes, rank)
        assert len(batches) == len(list(batches))
        shares.append(order(batches))
    assert {len(share) for share in shares} == {1_005 // processes}
    assert len(set(chain(*shares))) == 1_005 // processes * processes


@pytest.mark.parametrize("processes", [1, 2, 3, 7])
def test_processes_evaluate_every_image_once(processes: int) -> None:
    shares = [order(sampler(1_005, processes, rank, shuffle=False)) for rank in range(processes)]
    assert sorted(chain(*shares)) == list(range(1_005))


def test_processes_share_the_batches_of_a_single_process() -> None:
    first, second = (list(sampler(processes=2, rank=rank, batch_size=64)) for rank in range(2))
    for whole, *halves in zip(sampler(batch_size=128), first, second, strict=True):
        assert torch.equal(torch.stack(halves, dim=1).flatten(), whole)


def test_a_resumed_epoch_skips_the_batches_that_are_done() -> None:
    done = [0]
    batches = sampler(1_003, processes=2, rank=1, batches_done=lambda: done[0])
    whole = list(batches)
    for done[0] in range(len(whole)):
        remaining = list(batches)
        assert len(remaining) == len(whole) - done[0]
        assert all(torch.equal(a, b) for a, b in zip(remaining, whole[done[0] :], strict=True))


@pytest.mark.parametrize("val_size", [0, 10, 5_003, 10_000])
def test_validation_split_is_stratified_fixed_and_disjoint(val_size: int) -> None:
    train, val = stratified_split(LABELS, val_size, seed=0)
    assert (len(train), len(val)) == (60_000 - val_size, val_size)
    assert torch.equal(torch.cat([train, val]).sort().values, torch.arange(60_000))
    counts = LABELS[val].bincount(minlength=10)
    assert counts.max() - counts.min() <= 1
    assert all(map(torch.equal, stratified_split(LABELS, val_size, seed=0), (train, val)))
    assert not val_size or not torch.equal(stratified_split(LABELS, val_size, seed=1)[1], val)
