"""Optimisers of families with several networks: gradients are taken first, averaged over the ranks, then applied."""

from collections.abc import Sequence
from itertools import chain

import torch
from torch import Tensor, nn

from models.group import Group


def parameters(*nets: nn.Module) -> list[nn.Parameter]:
    """Those of all networks, in order."""
    return list(chain.from_iterable(net.parameters() for net in nets))


def adam(params: Sequence[nn.Parameter], betas: tuple[float, float], weight_decay: float = 0.0) -> torch.optim.Adam:
    """Adam whose rate is set at each step (`move`); `weight_decay` times the weight is added to the gradient."""
    return torch.optim.Adam(params, lr=0.0, betas=betas, eps=1e-8, weight_decay=weight_decay, fused=True)


def move(
    group: Group,
    optimiser: torch.optim.Optimizer,
    params: Sequence[nn.Parameter],
    grads: Sequence[Tensor],
    rate: float,
    clip: float = 0.0,
) -> None:
    """One step: the gradients' mean over the ranks, at learning rate `rate`. `clip`: largest norm of that mean over all
    parameters together, which is shortened to it (Pascanu, Mikolov, Bengio, ICML 2013, section 3.2); 0: any."""
    for p, grad in zip(params, grads, strict=True):
        # Fused Adam walks memory: gradient and weight must lie alike.
        p.grad = grad if grad.stride() == p.stride() else torch.empty_like(p).copy_(grad)
    group.average(params)
    if clip:  # into new tensors: autograd may hand out one twice
        found = [p.grad for p in params if p.grad is not None]
        shorter = torch._foreach_mul(found, (clip / nn.utils.get_total_norm(found)).clamp(max=1))
        for p, grad in zip(params, shorter, strict=True):
            p.grad = grad
    for settings in optimiser.param_groups:
        settings["lr"] = rate
    optimiser.step()
    optimiser.zero_grad()


def scalars(**values: Tensor | float) -> dict[str, Tensor]:
    """Numbers for the log: tensors are left where they are, numbers (a learning rate) become float64 ones."""
    return {
        name: value.detach() if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)
        for name, value in values.items()
    }
