"""An exponential moving average of a network's weights."""

import copy

import torch
from torch import Tensor, nn


class Average(nn.Module):
    """A copy of `net` whose weights follow it: w <- decay w + (1 - decay) w_net, once per `update`.

    Args:
        warm_up: use min(decay, (1 + t) / (10 + t)) at update t = 0, 1, ..., so that short runs are not averages of
            their first steps.
    """

    count: Tensor

    def __init__(self, net: nn.Module, decay: float, warm_up: bool = False) -> None:
        super().__init__()
        self.net = copy.deepcopy(net).eval().requires_grad_(False)
        self.decay, self.warm_up = decay, warm_up
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def update(self, net: nn.Module) -> None:
        """Move towards the weights of `net`."""
        decay = self.decay
        if self.warm_up:
            t = int(self.count)
            decay = min(decay, (1 + t) / (10 + t))
        torch._foreach_lerp_(list(self.net.parameters()), list(net.parameters()), 1 - decay)
        self._copy_buffers(net)
        self.count += 1

    @torch.no_grad()
    def restart(self, net: nn.Module) -> None:
        """Take the weights of `net` as they are."""
        torch._foreach_copy_(list(self.net.parameters()), list(net.parameters()))
        self._copy_buffers(net)
        self.count.zero_()

    def _copy_buffers(self, net: nn.Module) -> None:
        for mine, other in zip(self.net.buffers(), net.buffers(), strict=True):
            mine.copy_(other)
