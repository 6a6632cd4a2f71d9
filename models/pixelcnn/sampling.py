"""Drawing images: one uniform number a channel of a pixel decides its level, so that samples are a function of them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from models.pixelcnn.cached import Naive, Steps, cached
from models.pixelcnn.conditions import NOTHING, Condition
from models.pixelcnn.model import Model


def uniforms(model: Model, count: int, generator: torch.Generator) -> Float[Tensor, "b c h w"]:
    """What `sample` draws `count` images with; `generator` is a CPU generator."""
    return torch.rand(count, model.channels, *model.size, generator=generator)


@torch.no_grad()
def sample(
    model: Model,
    uniform: Float[Tensor, "b c h w"],
    condition: Condition = NOTHING,
    temperature: float = 1.0,
    known: Bool[Tensor, "b 1 h w"] | None = None,
    given: Int[Tensor, "b c h w"] | None = None,
    steps: Callable[[Model, Tensor, Condition], Steps] = cached,
) -> Int[Tensor, "b c h w"]:
    """Draw an image for each row of `uniform`: levels 0 ... L - 1.

    Args:
        uniform: numbers in [0, 1), each deciding one channel of one pixel by the inverse of its distribution function.
        temperature: ln p is divided by it at every step; below 1 samples are more typical and less varied.
        known: pixels that keep their level of `given`. What is drawn at a pixel knows of the given pixels before it in
            raster order, not of those after it: exact for the completion of a lower part.
        steps: `cached`, or `naive` (the same by whole passes, hundreds of times slower).

    Raises:
        ValueError: a temperature that is not positive, or shapes or a condition that are not the model's.
    """
    if not 0 < temperature < float("inf"):
        raise ValueError(f"--temperature {temperature}: give a positive number")
    if (known is None) != (given is None):
        raise ValueError("completion: give both the known pixels' places and their levels")
    x = torch.zeros(uniform.shape, dtype=torch.int64, device=model.device)
    uniform = uniform.to(x.device)
    model.check(x, condition)
    skip: set[tuple[int, int]] = set()  # known in every image
    if known is not None and given is not None:
        model.check(given, condition)
        model.check_levels(given)
        if known.shape != (len(x), 1, *model.size):
            raise ValueError(
                f"completion: the known pixels' places are {tuple(known.shape)}, the images {tuple(x.shape)}"
            )
        known = known.to(x.device)
        given = given.to(x.device).long()
        x = torch.where(known, given, x)
        skip = {(r, c) for r, c in known.all(0)[0].nonzero().tolist()}
    head, along = model.head, steps(model, x, condition)
    for r in range(model.size[0]):
        along.row(x, r)
        for c in range(model.size[1]):
            outputs = along.pixel(x, r, c)
            for channel in range(0 if (r, c) not in skip else model.channels, model.channels):
                if channel and head.ordered:
                    outputs = along.pixel(x, r, c)
                level = choose(head.given(outputs, x[:, :, r, c], channel), uniform[:, channel, r, c], temperature)
                if known is not None:
                    level = torch.where(known[:, 0, r, c], x[:, channel, r, c], level)
                x[:, channel, r, c] = level
            along.put(x, r, c)
    return x


def naive(model: Model, like: Tensor, condition: Condition) -> Naive:
    """For `sample`'s `steps`: the whole network for every channel of every pixel."""
    return Naive(model, condition)


def choose(log_p: Float[Tensor, "b l"], uniform: Float[Tensor, " b"], temperature: float = 1.0) -> Int[Tensor, " b"]:
    """The level in whose share of [0, 1) `uniform` falls, shares in the order of the levels."""
    shares = (log_p / temperature).softmax(1).cumsum(1)
    return (shares <= uniform[:, None]).sum(1).clamp(max=log_p.shape[1] - 1)


def between(one: Float[Tensor, " d"], other: Float[Tensor, " d"], steps: int) -> Float[Tensor, "steps d"]:
    """Vectors on the straight line from `one` to `other`, both included. With the same uniform numbers for all of them,
    the samples change with the condition alone."""
    t = torch.linspace(0, 1, steps, device=one.device, dtype=one.dtype)[:, None]
    return one + t * (other - one)
