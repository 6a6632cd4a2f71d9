"""Pictures of any size through networks that take multiples of some number of pixels."""

from collections.abc import Callable

import torch.nn.functional as F
from jaxtyping import Shaped
from torch import Tensor


def pad(x: Shaped[Tensor, "b *c h w"], multiple: int) -> Shaped[Tensor, "b *c h2 w2"]:
    """Grown at the bottom and the right to the next multiples: mirrored, or by the last row or column where there is
    too little to mirror. Works for pictures `b c h w` and for maps of ids `b h w`."""
    height, width = x.shape[-2:]
    down, right = -height % multiple, -width % multiple
    if not down and not right:
        return x
    mode = "reflect" if down < height and right < width else "replicate"
    flat = x if x.ndim == 4 else x[:, None]
    whole = flat if flat.is_floating_point() else flat.double()  # ids of up to 32 bits are exact in float64
    grown = F.pad(whole, (0, right, 0, down), mode=mode).to(x.dtype)
    return grown if x.ndim == 4 else grown[:, 0]


def at_any_size(net: Callable[[Tensor], Tensor], x: Tensor, multiple: int) -> Tensor:
    """net(x padded), cut back to the size of x."""
    return net(pad(x, multiple))[..., : x.shape[-2], : x.shape[-1]]
