"""SqueezeNet 1.1 as a feature extractor (Iandola et al., arXiv 1602.07360; version 1.1 is its authors' later release).

The state dict has torchvision's names ("features.0.weight", "features.3.squeeze.weight", ...).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from models.common.lpips import squeezenet

LAYERS = {f"fire{number}": place for number, place in zip(range(2, 10), (3, 4, 6, 7, 9, 10, 11, 12), strict=True)}
"""Layer -> its place in `features`."""
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class SqueezeNet(nn.Module):
    """The first layers, up to `layer`; frozen (gradients still flow to the image)."""

    mean: Tensor
    std: Tensor

    def __init__(self, layer: str = "fire9") -> None:
        """Weights are zero until `load`.

        Raises:
            ValueError: no such layer.
        """
        super().__init__()
        if layer not in LAYERS:
            raise ValueError(f"--layer {layer}: squeezenet1_1 has {', '.join(LAYERS)}")
        self.layer = layer
        with torch.device("meta"):  # the usual first weights would move the global random state
            parts = squeezenet()[: LAYERS[layer] + 1]
        self.features = nn.Sequential(*parts).to_empty(device="cpu")
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(DEVIATION).view(1, 3, 1, 1), persistent=False)
        for p in self.parameters():
            nn.init.zeros_(p)
        self.eval().requires_grad_(False)

    def load(self, state: Mapping[str, Tensor]) -> SqueezeNet:
        """Take the layers from `state`; deeper ones and the classifier are left aside.

        Raises:
            ValueError: a wanted tensor is missing or of another shape.
        """
        for key, mine in self.state_dict().items():
            if key not in state or state[key].shape != mine.shape:
                found = f"is {tuple(state[key].shape)}" if key in state else "is missing"
                raise ValueError(f"--weights: {key} {found} in the checkpoint, wanted {tuple(mine.shape)}")
            mine.copy_(state[key])
        return self

    def forward(self, x: Float[Tensor, "B 3 H W"]) -> dict[str, Float[Tensor, "B C h w"]]:
        """RGB in [-1, 1] -> the layer's activations after ReLU, at 1/16 of the side from fire6 on."""
        return {self.layer: self.features(((x + 1) / 2 - self.mean) / self.std)}
