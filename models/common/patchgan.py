"""A multi-scale, conditional patch discriminator with a minibatch-deviation channel (StEP's; pix2pixHD's kin)."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from models.common.blocks import EqualisedConv, InstanceNorm
from models.group import Group

SLOPE = 0.2
DEVIATION_EPS = 1e-8


def minibatch_deviation(x: Float[Tensor, "b c h w"], group: Group) -> Float[Tensor, ""]:
    """Mean over channels and positions of the standard deviation over the *global* batch: one number.

    sqrt(population variance + 1e-8), as in Karras et al. 2018 (section 3). Over all ranks: with rank-local statistics
    two workers would not take the step that one takes.
    """
    everyone = group.gather(x)
    return torch.sqrt(everyone.var(0, correction=0) + DEVIATION_EPS).mean()


class PatchScale(nn.Module):
    """One scale. Convolutions 4x4: stride 2 (no norm), `layers - 1` more of stride 2 with twice the width and instance
    norm, the deviation channel, stride 1 with twice the width and instance norm, stride 1 to one logit; leaky ReLU 0.2
    after each but the last."""

    def __init__(self, channels: int, width: int, layers: int, generator: torch.Generator) -> None:
        super().__init__()
        widths = [width << i for i in range(layers + 1)]
        self.first = EqualisedConv(channels, width, 4, generator, stride=2)
        self.down = nn.ModuleList(EqualisedConv(a, b, 4, generator, stride=2) for a, b in pairwise(widths[:-1]))
        self.down_norms = nn.ModuleList(InstanceNorm(w) for w in widths[1:-1])
        self.wide = EqualisedConv(widths[-2] + 1, widths[-1], 4, generator)
        self.wide_norm = InstanceNorm(widths[-1])
        self.logit = EqualisedConv(widths[-1], 1, 4, generator)

    def forward(self, x: Float[Tensor, "b c h w"], group: Group) -> Float[Tensor, "b 1 h2 w2"]:
        x = F.leaky_relu(self.first(x), SLOPE)
        for conv, norm in zip(self.down, self.down_norms, strict=True):
            x = F.leaky_relu(norm(conv(x)), SLOPE)
        deviation = minibatch_deviation(x, group).expand(x.shape[0], 1, x.shape[2], x.shape[3])
        x = F.leaky_relu(self.wide_norm(self.wide(torch.cat([x, deviation], 1))), SLOPE)
        logit: Tensor = self.logit(x)
        return logit.to(self.logit.weight.dtype)  # losses in full precision under autocast


class PatchDiscriminator(nn.Module):
    """`scales` copies of PatchScale, each on a picture half as wide as the one before (2x2 mean)."""

    def __init__(self, channels: int, width: int, layers: int, scales: int, generator: torch.Generator) -> None:
        super().__init__()
        self.scales = nn.ModuleList(PatchScale(channels, width, layers, generator) for _ in range(scales))

    def forward(
        self, image: Float[Tensor, "b c h w"], condition: Float[Tensor, "b d h w"], group: Group
    ) -> list[Float[Tensor, "b 1 h2 w2"]]:
        """Logit maps of image and condition (concatenated in this order), finest scale first."""
        x = torch.cat([image, condition], 1)
        logits = []
        for i, scale in enumerate(self.scales):
            if i:
                x = F.avg_pool2d(x, 2)
            logits.append(scale(x, group))
        return logits


def smallest_side(layers: int, scales: int) -> int:
    """The least picture side on which no instance norm sees a single position (2x2 at the coarsest scale)."""
    return 2 << (layers + scales - 1)
