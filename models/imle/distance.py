"""The masked perceptual distance of conditional IMLE (Li et al., ICCV 2019, as its released code has it):

    d(y, g) = sum_l lambda_l mean over (c, h, w) of M_l |Phi_l(y) - Phi_l(g)|,

Phi_0 the pixels in 0-255, the others VGG activations, M_l the rarity mask shrunk by area averaging to the layer's size.
The mean is over all elements, not over the mask's sum. One mask a picture. The same distance searches and trains.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from models.common.perceptual import Perceptual
from models.common.sketch import count_sketch

PIXELS = "pixels"
HALF_RANGE = 127.5
"""Pixels in [-1, 1] times this: differences in units of 0-255."""
PAPER_FACTORS = {
    PIXELS: 1.0,
    "relu1_2": 1 / 1.4,
    "relu2_2": 1 / 1.8,
    "relu3_2": 1 / 1.3,
    "relu4_2": 1 / 2.2,
    "relu5_2": 10 / 0.62,
}
"""lambda_l for Caffe's VGG-19 with average pooling: inverses of the mean distances late in CRN's training."""


class MaskedDistance(Perceptual):
    """lambda_l are the `factors`: given, or found by `calibrate` from random training pairs (0: not known yet)."""

    def __init__(self, vgg: nn.Module | None, layers: Sequence[str], paper: bool) -> None:
        """`layers` of the VGG; none: pixels alone, with factor 1 (no VGG is needed)."""
        every = (PIXELS, *layers)
        if not layers:
            factors = [1.0]
        elif paper:
            factors = [PAPER_FACTORS[name] for name in every]
        else:
            factors = [0.0] * len(every)
        super().__init__(vgg, every, factors)

    def features(self, x: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """Phi_l of pictures in [-1, 1], pixels first.

        Raises:
            ValueError: built without the VGG that the layers are of.
        """
        found = [x * HALF_RANGE]
        if len(self.layers) > 1:
            activations = self.vgg(x)
            found += [activations[name] for name in self.layers[1:]]
        return found

    def compare(
        self, got: Sequence[Tensor], wanted: Sequence[Tensor], mask: Float[Tensor, "k 1 h w"] | None = None
    ) -> Float[Tensor, "b l"]:
        """Mean absolute difference a picture and layer, without factors. `wanted` (and `mask`) may be of one picture:
        it is compared with each of `got`."""
        kept = self.factors.dtype  # differences of bfloat16 activations are summed in full precision
        terms = []
        for mine, other in zip(got, wanted, strict=True):
            apart = (mine.to(kept) - other.to(kept)).abs()
            terms.append((apart if mask is None else apart * _shrunk(mask, apart)).mean((1, 2, 3)))
        return torch.stack(terms, 1)

    def distances(self, x: Float[Tensor, "b 3 h w"], y: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b l"]:
        """Of pairs of pictures, without factors or mask; no gradient to y."""
        with torch.no_grad():
            wanted = self.features(y)
        return self.compare(self.features(x), wanted)

    def total(
        self, got: Sequence[Tensor], wanted: Sequence[Tensor], mask: Float[Tensor, "k 1 h w"] | None = None
    ) -> Float[Tensor, " b"]:
        """d a picture."""
        return (self.compare(got, wanted, mask) * self.factors).sum(1)  # a product of matrices would be autocast

    def sketch(
        self, features: Sequence[Tensor], numbers: int, mask: Float[Tensor, "k 1 h w"] | None = None
    ) -> list[Float[Tensor, "b n"]]:
        """The features of each layer in an equal share of `numbers` numbers, with which `sketched` compares."""
        share = max(1, numbers // len(features))
        found = []
        for number, layer in enumerate(features):
            weighed = layer.to(self.factors.dtype)
            if mask is not None:
                weighed = weighed * _shrunk(mask, layer)
            found.append(count_sketch(weighed, share, number) / layer[0].numel() ** 0.5)
        return found

    def sketched(self, got: Sequence[Tensor], wanted: Sequence[Tensor]) -> Float[Tensor, " b"]:
        """An estimate of sum_l lambda_l (mean of (M_l (Phi_l(y) - Phi_l(g)))^2)^(1/2) from sketches: a sketch keeps
        Euclidean distances, not d's sums of absolute values; the two rank alike, not the same."""
        norms = torch.stack([torch.linalg.vector_norm(a - b, dim=1) for a, b in zip(got, wanted, strict=True)], 1)
        return (norms * self.factors).sum(1)


def _shrunk(mask: Float[Tensor, "k 1 h w"], like: Tensor) -> Tensor:
    side = mask.shape[2] // like.shape[2]
    return F.avg_pool2d(mask, side) if side > 1 else mask
