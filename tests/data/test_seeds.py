import torch
from torch.utils.data import TensorDataset

from fashion_vgg.data.datamodule import BatchSampler
from fashion_vgg.data.seeds import reseed, seed_at


def test_places_that_a_cpu_would_take_for_one_differ() -> None:
    """It knows the lower 32 bits of a seed alone."""
    places = [(seed, step) for seed in (0, 1, 4096, 2**20, 2**32 - 1) for step in range(200)]
    seeds = {seed_at(*place) for place in places}
    assert len(seeds) == len(places)
    assert all(0 <= seed < 2**32 for seed in seeds)
    assert seed_at(1, 2) == seed_at(1, 2)


def test_the_orders_of_any_two_seeds_and_epochs_differ() -> None:
    data = TensorDataset(torch.arange(1000))
    orders = set()
    for seed in (0, 1, 4096, 2**31):
        batches = BatchSampler(data, 100, processes=1, rank=0, shuffle=True, seed=seed)
        for epoch in range(3):
            batches.set_epoch(epoch)
            orders.add(tuple(torch.cat(list(batches)).tolist()))
    assert len(orders) == 12


def test_an_epoch_goes_on_after_the_batches_that_are_done() -> None:
    data, done = TensorDataset(torch.arange(1003)), [0]
    batches = BatchSampler(data, 100, processes=2, rank=1, shuffle=True, seed=3, batches_done=lambda: done[0])
    whole = list(batches)
    for done[0] in range(len(whole)):
        rest = list(batches)
        assert len(rest) == len(whole) - done[0]
        assert all(torch.equal(a, b) for a, b in zip(rest, whole[done[0] :], strict=True))


def test_a_step_draws_what_torchs_own_seeding_gives() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    reseed(7, torch.device("cpu"))
    assert torch.equal(torch.rand(3), expected)
