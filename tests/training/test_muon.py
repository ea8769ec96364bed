"""The optimizer against torch's: `torch.optim.Muon` for matrices, `torch.optim.SGD` for the rest."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils._python_dispatch import TorchDispatchMode

from fashion_vgg.training import Muon
from fashion_vgg.training.muon import newton_schulz
from tests.helpers import composed

# torch's Newton-Schulz runs in bfloat16, whose rounding is 2**-8; each of its 15 products sums rounded values.
BFLOAT16 = 15 * 2**-8

OUTPUT_LAYER = nn.Parameter(torch.ones(2, 2))


def trained(parameter: nn.Parameter, optimizer: Optimizer, to_parameter: Callable[[Tensor], Tensor]) -> Tensor:
    """The parameter after five steps with the same random gradients, matrices of 8 x 27."""
    generator = torch.Generator().manual_seed(1)
    for _ in range(5):
        parameter.grad = to_parameter(torch.randn(8, 27, generator=generator))
        optimizer.step()
    return parameter.detach()


@pytest.mark.parametrize("precision", ["bf16-mixed", "32-true"])
@pytest.mark.parametrize(
    ("shape", "memory_format"),
    [
        ((8, 27), torch.contiguous_format),
        ((8, 3, 3, 3), torch.contiguous_format),
        ((8, 3, 3, 3), torch.channels_last),  # another order of a filter's values, which does not change the result
    ],
)
def test_hidden_layers_move_as_in_torchs_muon(
    shape: tuple[int, ...], memory_format: torch.memory_format, precision: str
) -> None:
    start = torch.randn(8, 27, generator=torch.Generator().manual_seed(0))
    matrix = nn.Parameter(start.clone())
    theirs = trained(
        matrix, torch.optim.Muon([matrix], lr=0.02, momentum=0.8, weight_decay=0.0, nesterov=True), lambda g: g
    )
    filters = nn.Parameter(start.view(shape).clone(memory_format=memory_format))
    settings: Any = {"lr": 0.05, "hidden_lr_factor": 0.4, "momentum": 0.8, "orthogonalization_precision": precision}
    optimizer = Muon([filters, OUTPUT_LAYER], **settings)
    ours = trained(filters, optimizer, lambda g: g.view(shape))
    moved = theirs - start
    assert moved.norm() > 0.1
    assert (ours.reshape(8, 27) - theirs).norm() < BFLOAT16 * moved.norm()


@pytest.mark.parametrize("shape", [(5,), (4, 6)])
def test_biases_and_the_output_layer_move_as_in_sgd(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    start, gradients = torch.randn(shape, generator=generator), torch.randn(4, *shape, generator=generator)
    settings: Any = {"lr": 0.1, "momentum": 0.8, "weight_decay": 0.01}
    results = []
    for make in (lambda p: Muon(p, **settings), lambda p: torch.optim.SGD(p, nesterov=True, **settings)):
        parameter = nn.Parameter(start.clone())
        optimizer = make([parameter])
        for gradient in gradients:
            parameter.grad = gradient.clone()
            optimizer.step()
        results.append(parameter.detach())
    assert not torch.equal(results[0], start)
    torch.testing.assert_close(*results)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_the_trainers_precision_is_that_of_the_orthogonalization(precision: str) -> None:
    cfg = composed("train", "optimizer=muon", f"trainer.precision={precision}")
    products: list[torch.dtype] = []

    class Products(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = func(*args, **(kwargs or {}))
            if func in (torch.ops.aten.mm.default, torch.ops.aten.addmm.default):
                products.append(result.dtype)
            return result

    hidden = nn.Parameter(torch.ones(3, 2))
    hidden.grad = torch.ones(3, 2)
    optimizer = instantiate(cfg.optimizer)([hidden, OUTPUT_LAYER])
    with Products():
        optimizer.step()
    assert products == 15 * [torch.float32 if precision == "32-true" else torch.bfloat16]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(16, 40), (40, 16)])
def test_the_singular_values_become_almost_one(shape: tuple[int, int], dtype: torch.dtype) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    assert values.max() > 2 * values.min()
    result = newton_schulz(matrix.to(dtype)).float()
    # Between 0.7 and 1.2 by Muon's description, and rounding.
    assert torch.linalg.svdvals(result).min() > 0.68
    assert torch.linalg.svdvals(result).max() < 1.22
    # The singular vectors stay: in their basis the result is diagonal.
    rotated = left.T @ result @ right.T
    assert (rotated - rotated.diagonal().diag()).norm() < BFLOAT16 * rotated.norm()


def test_a_frozen_parameter_stays() -> None:
    frozen, other = nn.Parameter(torch.ones(2), requires_grad=False), nn.Parameter(torch.ones(2))
    optimizer = Muon([frozen, other], lr=0.1, weight_decay=0.1)
    other.grad = torch.ones(2)
    optimizer.step()
    assert torch.equal(frozen, torch.ones(2))
    assert not torch.equal(other, torch.ones(2))


def test_a_negative_setting_is_refused() -> None:
    with pytest.raises(ValueError, match="none may be negative"):
        Muon([nn.Parameter(torch.ones(1))], lr=-0.1)
