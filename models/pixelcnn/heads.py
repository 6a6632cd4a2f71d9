"""What the network's outputs at a pixel mean: a distribution of its channels, each given the earlier ones.

Levels are integers 0 ... L - 1. `outputs`: numbers a pixel; `ordered`: whether the outputs of channel c are made from
the channels before c (so the network keeps the channels' order), or from earlier pixels alone.
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

LEAST_LOG_SCALE = -7.0
"""Floor of the mixture's log-scales. Source: PixelCNN++, released code."""


class Head(Protocol):
    """A distribution of one pixel's channels."""

    outputs: int
    ordered: bool
    levels: int

    def log_prob(self, outputs: Float[Tensor, "b p h w"], x: Int[Tensor, "b c h w"]) -> Float[Tensor, "b h w"]:
        """ln p of each pixel, all its channels together, nats."""
        ...

    def given(self, outputs: Float[Tensor, "b p"], x: Int[Tensor, "b c"], channel: int) -> Float[Tensor, "b l"]:
        """ln p of every level of `channel`, given those of the channels before it in `x`."""
        ...


class Softmax(nn.Module):
    """A free distribution over the levels of each channel (van den Oord et al., ICML 2016, section 3.2)."""

    def __init__(self, channels: int, levels: int) -> None:
        super().__init__()
        self.channels, self.levels = channels, levels
        self.outputs, self.ordered = channels * levels, channels > 1

    def log_prob(self, outputs: Float[Tensor, "b p h w"], x: Int[Tensor, "b c h w"]) -> Float[Tensor, "b h w"]:
        logits = outputs.permute(0, 2, 3, 1).reshape(-1, self.levels)  # B C*L H W -> B*H*W*C L, each softmax in a row
        targets = x.permute(0, 2, 3, 1)
        return -F.cross_entropy(logits, targets.flatten(), reduction="none").view(targets.shape).sum(3)

    def given(self, outputs: Float[Tensor, "b p"], x: Int[Tensor, "b c"], channel: int) -> Float[Tensor, "b l"]:
        return outputs.view(-1, self.channels, self.levels)[:, channel].log_softmax(1)


class Bernoulli(nn.Module):
    """Two levels, one logit a channel."""

    levels = 2

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.outputs, self.ordered = channels, channels > 1

    def log_prob(self, outputs: Float[Tensor, "b p h w"], x: Int[Tensor, "b c h w"]) -> Float[Tensor, "b h w"]:
        return F.logsigmoid(torch.where(x == 1, outputs, -outputs)).sum(1)

    def given(self, outputs: Float[Tensor, "b p"], x: Int[Tensor, "b c"], channel: int) -> Float[Tensor, "b l"]:
        one = outputs[:, channel]
        return F.logsigmoid(torch.stack([-one, one], 1))


class Mixture(nn.Module):
    """Discretised logistic mixture (Salimans et al., ICLR 2017, eq. 1-3): whole pixels; one component for all channels
    of a pixel; the means of later channels move with the earlier channels' values.

    P(x) = sigma(a) - sigma(b), where a and b are the upper and lower edge of the level's bin, standardised; open at
    both ends. ln P is computed as ln sigma(a) + ln sigma(-b) + ln(1 - e^(b - a)), which is exact, where the released
    code replaces small masses by the density: the masses of all levels sum to 1.
    """

    def __init__(self, channels: int, levels: int, components: int) -> None:
        super().__init__()
        self.channels, self.levels, self.components = channels, levels, components
        self.pairs = channels * (channels - 1) // 2
        self.outputs, self.ordered = components * (1 + 2 * channels + self.pairs), False

    def log_prob(self, outputs: Float[Tensor, "b p h w"], x: Int[Tensor, "b c h w"]) -> Float[Tensor, "b h w"]:
        weights, means, scales, coefficients = self._split(outputs)  # each B K ... H W
        total = weights.log_softmax(1)
        for c in range(self.channels):
            mean = self._mean(means, coefficients, x, c)
            total = total + self._mass(x[:, None, c], mean, scales[:, :, c])
        return total.logsumexp(1)

    def given(self, outputs: Float[Tensor, "b p"], x: Int[Tensor, "b c"], channel: int) -> Float[Tensor, "b l"]:
        weights, means, scales, coefficients = self._split(outputs)
        total = weights.log_softmax(1)
        for c in range(channel):  # which component it is, as far as the earlier channels say
            total = total + self._mass(x[:, None, c], self._mean(means, coefficients, x, c), scales[:, :, c])
        mean = self._mean(means, coefficients, x, channel)
        levels = torch.arange(self.levels, device=x.device)
        masses = self._mass(levels, mean[..., None], scales[:, :, channel, None])  # B K L
        return (total[..., None] + masses).logsumexp(1).log_softmax(1)

    def _split(self, outputs: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Weights B K, means B K C, log-scales B K C, coefficients B K C(C-1)/2, each with the pixels' dimensions."""
        numbers = torch.unflatten(outputs, 1, (self.components, -1))
        sizes = [1, self.channels, self.channels, self.pairs]
        weights, means, scales, coefficients = torch.split(numbers, sizes, 2)
        return weights[:, :, 0], means, scales.clamp(min=LEAST_LOG_SCALE), coefficients.tanh()

    def _mean(self, means: Tensor, coefficients: Tensor, x: Tensor, channel: int) -> Tensor:
        """Eq. 3: green's mean moves with red, blue's with red and green."""
        mean = means[:, :, channel]
        first = channel * (channel - 1) // 2
        for c in range(channel):
            mean = mean + coefficients[:, :, first + c] * scaled(x[:, None, c], self.levels, mean.dtype)
        return mean

    def _mass(self, x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
        half, inverse = 1 / (self.levels - 1), torch.exp(-log_scale)
        away = scaled(x, self.levels, mean.dtype) - mean
        upper, lower = inverse * (away + half), inverse * (away - half)
        below = torch.where(x == self.levels - 1, 0.0, F.logsigmoid(upper))
        above = torch.where(x == 0, 0.0, F.logsigmoid(-lower))
        inside = torch.log(-torch.expm1(-2 * half * inverse))
        return below + above + torch.where((x == 0) | (x == self.levels - 1), 0.0, inside)


def scaled(x: Int[Tensor, "*any"], levels: int, dtype: torch.dtype = torch.float32) -> Float[Tensor, "*any"]:
    """Levels 0 ... L - 1 -> [-1, 1]."""
    return x.to(dtype) * (2 / (levels - 1)) - 1


def levels_of(pictures: Float[Tensor, "b c h w"], levels: int, check: bool = True) -> Int[Tensor, "b c h w"]:
    """[-1, 1] -> levels 0 ... L - 1, the inverse of `scaled` for any rounding on the way.

    Rounded, not truncated: of the 256 values that 8 bits can have, 63 come back one too low from float32 when
    truncated.

    Args:
        check: whether the values are looked at; a GPU waits for it.

    Raises:
        ValueError: a value that is none of the L levels, by more than a float's rounding.
    """
    exact = (pictures.float() + 1) * ((levels - 1) / 2)
    x = exact.round()
    if not check:
        return x.long()
    off = (exact - x).abs()
    wrong = ~((off < 1e-2) & (x >= 0) & (x < levels))
    if bool(wrong.any()):
        value = float(exact[wrong][0])
        raise ValueError(
            f"pictures: {value:g} is not one of the integers 0-{levels - 1} that the model knows; give pictures of "
            f"{levels} levels, scaled to [-1, 1], and not resized or blended after that"
        )
    return x.long()
