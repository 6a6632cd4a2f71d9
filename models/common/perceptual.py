"""The perceptual loss: squared or absolute differences of VGG activations, each layer with its own factor.

A factor belongs to one set of weights: those published with a paper hold for its VGG alone (StEP's for Caffe's VGG-16,
fed BGR 0-255, whose activations are tens to hundreds). For other weights, `calibrate` sets each layer's factor so that
random training pairs give a stated value.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Perceptual(nn.Module):
    """sum over layers of factor_l * mean(measure(phi_l(x) - phi_l(y))); `measure` is the square, or `torch.abs`.
    `normalise` is applied to the activations first (MUNIT: instance norm, which takes a domain's look out of them).

    The VGG is held beside the module tree: it follows `.to()`, but is no part of `state_dict()`, which has the factors
    only (0: not calibrated yet). Gradients flow to x; none to y and none to the VGG's weights.
    """

    factors: Tensor

    def __init__(
        self,
        vgg: nn.Module | None,
        layers: Sequence[str],
        factors: Sequence[float],
        measure: Callable[[Tensor], Tensor] = torch.square,
        normalise: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.measure, self.normalise = measure, normalise
        self.layers = tuple(layers)
        self.register_buffer("factors", torch.tensor(list(factors)))
        self._beside = (vgg.eval().requires_grad_(False),) if vgg is not None else ()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        for vgg in self._beside:
            vgg._apply(fn)  # type: ignore[no-untyped-call]
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]

    @property
    def present(self) -> bool:
        """Whether there is a VGG to compute with."""
        return bool(self._beside)

    @property
    def vgg(self) -> nn.Module:
        """Raises ValueError where it was built without one."""
        for vgg in self._beside:
            return vgg
        raise ValueError("perceptual=None: this stage needs the VGG of the perceptual loss; pass one to build()")

    @property
    def calibrated(self) -> bool:
        """Whether the factors are known: set at the start, or found by `calibrate`, or loaded."""
        return bool((self.factors > 0).all())

    def distances(self, x: Float[Tensor, "b 3 h w"], y: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b l"]:
        """mean(measure(phi_l(x) - phi_l(y))) per image and layer, without factors; x, y in [-1, 1].

        Raises:
            ValueError: built without a VGG.
        """
        vgg = self.vgg
        with torch.no_grad():
            wanted = vgg(y)
        got = vgg(x)
        kept = self.factors.dtype  # squares of bfloat16 activations are summed in full precision
        pairs = ((got[name].to(kept), wanted[name].to(kept)) for name in self.layers)
        if self.normalise is not None:
            pairs = ((self.normalise(ours), self.normalise(theirs)) for ours, theirs in pairs)
        differences = (ours - theirs for ours, theirs in pairs)
        return torch.stack([self.measure(d).mean((1, 2, 3)) for d in differences], 1)

    def forward(self, x: Float[Tensor, "b 3 h w"], y: Float[Tensor, "b 3 h w"]) -> Float[Tensor, ""]:
        total: Tensor = (self.distances(x, y).mean(0) * self.factors).sum()
        return total

    def calibrate(self, distances: Float[Tensor, "p l"], value: float) -> None:
        """Set the factors so that each layer's term is `value` on average over these pairs.

        Args:
            distances: `self.distances` of random training pairs, all ranks' together.

        Raises:
            ValueError: a layer sees no difference between the pairs (identical pictures).
        """
        means = distances.detach().mean(0)
        if not bool((means > 0).all()):
            blind = [name for name, mean in zip(self.layers, means.tolist(), strict=True) if not mean > 0]
            raise ValueError(f"the training pairs do not differ in {', '.join(blind)}: are all pictures the same?")
        self.factors.copy_(value / means)

    def named_factors(self) -> dict[str, float]:
        """Layer -> factor, for the log and the card."""
        return dict(zip(self.layers, self.factors.tolist(), strict=True))


def gradient_ratio(first: Tensor, second: Tensor) -> Tensor:
    """|first| / |second| of two gradients with respect to the same picture; finite also where the second is 0."""
    least = torch.finfo(second.dtype).tiny ** 0.5
    ratio: Tensor = torch.linalg.vector_norm(first) / torch.linalg.vector_norm(second).clamp_min(least)
    return ratio
