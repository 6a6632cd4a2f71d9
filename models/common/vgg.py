"""VGG-16 and VGG-19 feature extractors (Simonyan & Zisserman, "Very Deep Convolutional Networks for Large-Scale Image
Recognition", ICLR 2015, table 1, columns D and E) and their Gram matrices (Gatys, Ecker & Bethge, CVPR 2016, eq. 3).

The state dict has torchvision's names ("features.0.weight", ...), so its checkpoints load as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

Name = Literal["vgg16", "vgg19"]
Preprocessing = Literal["imagenet", "caffe", "none"]
Pooling = Literal["max", "average"]

WIDTHS = (64, 128, 256, 512, 512)
"""Channels of the five blocks, between which the side is halved."""
DEPTHS: dict[str, tuple[int, ...]] = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
"""Convolutions in each block."""


def table(name: Name) -> dict[str, tuple[int, int, int]]:
    """Layer -> (index of its convolution within `features`, channels in, channels out), shallow to deep."""
    if name not in DEPTHS:
        raise ValueError(f"--net {name}: choose one of {', '.join(DEPTHS)}")
    layers: dict[str, tuple[int, int, int]] = {}
    index, before = 0, 3
    for block, (width, depth) in enumerate(zip(WIDTHS, DEPTHS[name], strict=True), start=1):
        for conv in range(1, depth + 1):
            layers[f"relu{block}_{conv}"] = (index, before, width)
            index, before = index + 2, width  # the convolution and its ReLU
        index += 1  # the pooling
    return layers


def channels(name: Name, layer: str) -> int:
    """Width of `layer`. Raises ValueError where the network has no such layer."""
    known = table(name)
    if layer not in known:
        raise ValueError(f"--layers {layer}: {name} has {', '.join(known)}")
    return known[layer][2]


class VGG(nn.Module):
    """The first layers of a VGG, only as deep as the deepest wanted one; its weights are frozen (gradients still flow
    to the image).

    Zero padding 1, pooling 2 x 2. `preprocessing` turns RGB in [-1, 1] into what the weights were trained for:
    `imagenet`: [0, 1], minus mean, over deviation (torchvision); `caffe`: BGR in 0-255 minus mean (the original);
    `none`: as it is (pix2pixHD's code).
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        name: Name,
        layers: Sequence[str],
        preprocessing: Preprocessing = "imagenet",
        pooling: Pooling = "max",
        pools: int = 4,
    ) -> None:
        """Weights are zero until `load` or `random`. `pools`: poolings, after the first so many blocks.

        Raises:
            ValueError: unknown network, layer, preprocessing or pooling, no layer, or one named twice.
        """
        super().__init__()
        if not layers or len(set(layers)) != len(layers):
            raise ValueError(f"--layers {','.join(layers)}: name at least one layer, each once")
        if preprocessing not in get_args(Preprocessing):
            raise ValueError(f"--preprocessing {preprocessing}: choose one of {', '.join(get_args(Preprocessing))}")
        if pooling not in get_args(Pooling):
            raise ValueError(f"--pooling {pooling}: choose max or average")
        for layer in layers:
            channels(name, layer)
        self.name, self.layers, self.preprocessing = name, tuple(layers), preprocessing
        last = max(table(name)[layer][0] for layer in layers)
        pool: type[nn.MaxPool2d] | type[nn.AvgPool2d] = nn.MaxPool2d if pooling == "max" else nn.AvgPool2d
        self.features = nn.Sequential()
        self._out: dict[int, str] = {}  # index of a ReLU -> its layer
        for layer, (index, before, width) in table(name).items():
            if index > last:
                break
            if len(self.features) < index:
                self.features.append(pool(2) if int(layer[4]) <= pools + 1 else nn.Identity())
            # skip_init: the usual one would draw from the global random generator.
            self.features.append(nn.utils.skip_init(nn.Conv2d, before, width, 3, padding=1))  # type: ignore[no-untyped-call]
            self.features.append(nn.ReLU())
            self._out[index + 1] = layer
        mean, std = {
            "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
            "caffe": ((103.939, 116.779, 123.68), (1.0, 1.0, 1.0)),
            "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
        }[preprocessing]
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)
        for p in self.parameters():
            nn.init.zeros_(p)
        self.requires_grad_(False)

    def load(self, state: Mapping[str, Tensor]) -> VGG:
        """Take the convolutions from `state` (torchvision's names; deeper ones and the classifier are left aside).

        Raises:
            ValueError: a wanted layer is missing (the message names what there is) or of another shape.
        """
        wanted = self.state_dict()
        if missing := [key for key in wanted if key not in state]:
            have = [
                layer
                for layer, (index, _, _) in table(self.name).items()
                if f"features.{index}.weight" in state and f"features.{index}.bias" in state
            ]
            raise ValueError(
                f"--layers {','.join(self.layers)}: the {self.name} checkpoint lacks {missing[0]}; "
                f"it has {', '.join(have) or 'no layer of this network'}"
            )
        for key, there in wanted.items():
            if state[key].shape != there.shape:
                raise ValueError(
                    f"--net {self.name}: {key} is {tuple(state[key].shape)} in the checkpoint, "
                    f"{tuple(there.shape)} in the network; is it of another network?"
                )
        self.load_state_dict({key: state[key] for key in wanted})
        return self

    def random(self, seed: int) -> VGG:
        """Seeded He initialisation (He et al., ICCV 2015, eq. 10: deviation sqrt(2 / fan in)); biases are zero."""
        for index, module in enumerate(self.features):
            if isinstance(module, nn.Conv2d):
                # A generator of its own for each layer: the shallow ones are the same however deep the network is cut.
                generator = torch.Generator().manual_seed(seed * 1000 + index)
                draw = torch.randn(module.weight.shape, generator=generator)
                module.weight.data.copy_(draw * (2 / (9 * module.in_channels)) ** 0.5)
        return self

    def forward(self, x: Float[Tensor, "B 3 H W"]) -> dict[str, Float[Tensor, "B C h w"]]:
        """RGB in [-1, 1] -> layer -> activations after the ReLU, at 1, 1/2, 1/4, 1/8, 1/16 of the side."""
        if self.preprocessing == "imagenet":
            x = (x + 1) / 2
        elif self.preprocessing == "caffe":
            x = (x.flip(1) + 1) * 127.5
        x = (x - self.mean) / self.std
        x = x.to(next(self.features.parameters()).dtype)  # `features` alone may be made half precision
        out: dict[str, Tensor] = {}
        for index, module in enumerate(self.features):
            x = module(x)
            if self._out.get(index) in self.layers:
                out[self._out[index]] = x
        return {layer: out[layer] for layer in self.layers}


def gram(f: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C C"]:
    """G = F F^T / (C H W), F the activations as C x HW: mean products of channels, independent of the image's size but
    for the layer's border."""
    b, c, h, w = f.shape
    flat = f.reshape(b, c, h * w)  # B C HW
    return flat @ flat.transpose(1, 2) / (c * h * w)
