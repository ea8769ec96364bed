"""Muon: SGD with momentum whose updates of hidden layers are orthogonalized.

Jordan et al. (2024), "Muon: An optimizer for hidden layers in neural networks"
(https://kellerjordan.github.io/posts/muon). `torch.optim.Muon` takes no convolutions.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


class Muon(Optimizer):
    """SGD with Nesterov momentum, in which the update of a hidden layer's weights becomes an orthogonal matrix.

    Hidden layers are all weights of two or more dimensions but the last, which are the output layer's. A convolution's
    weights form a matrix of one row per filter. All other parameters are updated as by `torch.optim.SGD`.

    Args:
        params: the parameters of a network, in the order of its layers.
        lr: learning rate.
        hidden_lr_factor: the learning rate of the hidden layers as a multiple of ``lr``.
        momentum: Nesterov momentum.
        weight_decay: coefficient of the L2 penalty.
        orthogonalization_precision: the Trainer's precision. In ``bf16-mixed`` the updates are orthogonalized in
            bfloat16, as in `torch.optim.Muon`; otherwise in the weights' type, since a processor without bfloat16
            units multiplies it a hundred times more slowly.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float,
        hidden_lr_factor: float = 1.0,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        orthogonalization_precision: str = "32-true",
    ) -> None:
        settings = {"lr": lr, "hidden_lr_factor": hidden_lr_factor, "momentum": momentum, "weight_decay": weight_decay}
        if any(value < 0 for value in settings.values()):
            raise ValueError(f"Invalid settings of Muon, {settings}: none may be negative.")
        super().__init__(params, settings)
        weights = [each for group in self.param_groups for each in group["params"] if each.ndim >= 2]
        self._hidden = {id(each) for each in weights[:-1]}
        self._dtype = torch.bfloat16 if orthogonalization_precision.startswith("bf16") else None

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)
        return loss

    def _update(self, parameter: Tensor, group: dict[str, Any]) -> None:
        gradient, state = parameter.grad, self.state[parameter]
        assert gradient is not None  # noqa: S101
        if group["weight_decay"]:
            gradient = gradient.add(parameter, alpha=group["weight_decay"])
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        momentum = state["momentum_buffer"].mul_(group["momentum"]).add_(gradient)
        update = gradient.add(momentum, alpha=group["momentum"])
        if id(parameter) in self._hidden:
            update = orthogonalize(update, self._dtype or update.dtype).mul_(group["hidden_lr_factor"])
        parameter.add_(update, alpha=-group["lr"])


def orthogonalize(weights: Tensor, dtype: torch.dtype) -> Tensor:
    """Replace weights ``(out, in)`` or ``(out, in, H, W)`` by a semi-orthogonal matrix of ``out`` rows close to them.

    If there are more rows than columns, the result is multiplied by the square root of their ratio, as in Muon. The
    matrix products are those of ``dtype``.
    """
    filters = weights.movedim(1, -1)  # in channels-last memory, flattening it is a view
    matrix = newton_schulz(filters.flatten(1).to(dtype))
    scale = max(1.0, matrix.shape[0] / matrix.shape[1]) ** 0.5
    return matrix.mul_(scale).to(weights.dtype).view(filters.shape).movedim(-1, 1)


def newton_schulz(matrix: Tensor, steps: int = 5) -> Tensor:
    """Move the singular values of a matrix close to 1, to between 0.7 and 1.2.

    A quintic iteration with Muon's coefficients, whose slope at zero is as steep as possible.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    transposed = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if transposed else matrix
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T.contiguous() if transposed else x
