"""The data-parallel group: what a family uses in place of DistributedDataParallel."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


class Group:
    """The data-parallel group. Alone it does nothing; with torch.distributed initialised it spans all ranks.

    Not DDP's wrapper: with several forwards and backwards per step that is silently wrong. Gradients are averaged just
    before each optimiser step instead, and statistics over the batch are taken over `gather(x)`.
    """

    def __init__(self, bucket_bytes: int = 32 << 20, alone: bool = False, accumulate: int = 1) -> None:
        """
        Args:
            alone: this process only, though a group is there (one rank loads a model: nobody would answer it).
            accumulate: micro-batches that a step takes one after the other, for families that can
                (`Family.accumulates`).
        """
        self.on = not alone and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
        self.rank: int = dist.get_rank() if self.on else 0
        self.world: int = dist.get_world_size() if self.on else 1
        self.bucket_bytes = bucket_bytes
        self.accumulate, self.turn = accumulate, 0
        """Micro-batches of a step, and which of them is being taken."""

    @property
    def pieces(self) -> int:
        """Pieces that a global batch is cut into: each rank's micro-batches."""
        return self.world * self.accumulate

    @property
    def piece(self) -> int:
        """Which of them is being taken, in the order of the global batch."""
        return self.rank * self.accumulate + self.turn

    def share(self, net: nn.Module) -> None:
        """Broadcast rank 0's parameters and buffers of `net` to all ranks, in place."""
        if self.on:
            with torch.no_grad():
                for tensor in [*net.parameters(), *net.buffers()]:
                    dist.broadcast(tensor.data, 0)

    def average(self, params: Iterable[nn.Parameter]) -> None:
        """Replace each gradient by its mean over the ranks, in flattened buckets. Call it before `optimiser.step()`.

        A parameter without a gradient on this rank counts as zero, so that all ranks send the same buckets.
        """
        if not self.on:
            return
        bucket: list[nn.Parameter] = []
        size = 0
        for p in params:
            if not p.requires_grad:
                continue
            if p.grad is None:
                p.grad = torch.zeros_like(p)
            if bucket and (size + p.numel() * p.element_size() > self.bucket_bytes or p.dtype != bucket[0].dtype):
                self._reduce(bucket)
                bucket, size = [], 0
            bucket.append(p)
            size += p.numel() * p.element_size()
        if bucket:
            self._reduce(bucket)

    def _reduce(self, bucket: Sequence[nn.Parameter]) -> None:
        grads = [p.grad for p in bucket if p.grad is not None]
        flat = torch.cat([g.reshape(-1) for g in grads])
        dist.all_reduce(flat)
        flat /= self.world
        start = 0
        for g in grads:
            g.copy_(flat[start : start + g.numel()].view_as(g))
            start += g.numel()

    def gather(self, x: Tensor) -> Tensor:
        """All ranks' `x`, concatenated along dimension 0 in rank order (= the order of the global batch).

        Differentiable: the gradient that reaches a rank's `x` is the sum over all ranks' losses, so that with
        `average` the step equals that of one worker with the whole batch.
        """
        return _Gather.apply(x, self) if self.on else x  # type: ignore[no-untyped-call]

    def mean(self, values: Mapping[str, float]) -> dict[str, float]:
        """Scalars averaged over the ranks, for the log."""
        if not self.on:
            return dict(values)
        flat = torch.tensor([values[k] for k in sorted(values)], dtype=torch.float64)
        if dist.get_backend() == "nccl":
            flat = flat.cuda()
        dist.all_reduce(flat)
        return dict(zip(sorted(values), (flat / self.world).tolist(), strict=True))


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Group) -> Tensor:
        ctx.group, ctx.rows = group, x.shape[0]
        x = x.contiguous()  # the collective sees memory, not strides: channels-last would be refused
        parts = [torch.empty_like(x) for _ in range(group.world)]
        dist.all_gather(parts, x)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        grad = grad.contiguous()
        dist.all_reduce(grad)
        start = ctx.group.rank * ctx.rows
        return grad[start : start + ctx.rows], None
