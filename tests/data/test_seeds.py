import torch

from fashion_vgg.data.seeds import derive_seed, reseed


def test_derived_seeds_have_32_bits_and_differ() -> None:
    # Pairs whose sums or lower bits are equal, too.
    pairs = [(seed, step) for seed in (0, 1, 4096, 2**20, 2**32 - 1) for step in range(200)]
    seeds = {derive_seed(*pair) for pair in pairs}
    assert len(seeds) == len(pairs)
    assert all(0 <= seed < 2**32 for seed in seeds)
    assert derive_seed(1, 2) == derive_seed(1, 2)


def test_reseed_matches_torchs_manual_seed() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    reseed(7, torch.device("cpu"))
    assert torch.equal(torch.rand(3), expected)
