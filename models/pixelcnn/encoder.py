"""The encoder of both auto-encoders."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from models.pixelcnn.convolutions import weights


def of_channels(images: Float[Tensor, "b c h w"], channels: int) -> Float[Tensor, "b d h w"]:
    """Pictures in [-1, 1] as a model of `channels` channels reads them: RGB as grey (ITU-R 601 luma, rounded to 8 bits)
    for one of 1 channel, grey as RGB for one of 3."""
    if images.shape[1] == channels:
        return images
    if channels == 3:
        return images.expand(-1, 3, -1, -1)
    luma = (images * images.new_tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)
    return ((luma + 1) * 127.5).round() / 127.5 - 1


class Encoder(nn.Module):
    """Pictures -> codes: 3x3 convolutions, each but the first halving the sides and doubling the channels down to 4
    pixels or fewer, ReLUs, and a linear layer. Without batch norm, as the decoder: a code depends on its picture
    alone."""

    def __init__(
        self, channels: int, features: int, code: int, size: tuple[int, int], generator: torch.Generator
    ) -> None:
        super().__init__()
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        width, (h, w) = features, size
        self._add(channels, width, generator)
        while min(h, w) > 4:
            self._add(width, 2 * width, generator)
            width, h, w = 2 * width, -(-h // 2), -(-w // 2)
        self.last = weights(code, width * h * w, generator=generator)
        self.last_bias = nn.Parameter(torch.zeros(code))

    def _add(self, inputs: int, outputs: int, generator: torch.Generator) -> None:
        # He et al., ICCV 2015, eq. 10: a ReLU halves the variance.
        self.weights.append(weights(outputs, inputs, 3, 3, generator=generator, gain=2**0.5))
        self.biases.append(nn.Parameter(torch.zeros(outputs)))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        for number, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = F.relu(F.conv2d(x, weight, bias, stride=2 if number else 1, padding=1))
        return F.linear(x.flatten(1), self.last, self.last_bias)
