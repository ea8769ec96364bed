import torch

from fashion_vgg.training.step_seeds import reseed


def test_reseed_matches_torchs_manual_seed() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    reseed(7, torch.device("cpu"))
    assert torch.equal(torch.rand(3), expected)
