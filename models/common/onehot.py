"""Label maps as channels."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def check_ids(labels: Tensor, classes: int) -> None:
    """Raises ValueError: an id outside 0 ... classes - 1."""
    least, most = int(labels.min()), int(labels.max())
    if least < 0 or most >= classes:
        raise ValueError(f"class id {least if least < 0 else most} in a label map, but --labels {classes}: raise it")


def one_hot(labels: Int[Tensor, "b h w"], classes: int, dtype: torch.dtype = torch.float32) -> Float[Tensor, "b c h w"]:
    """A channel for each class.

    Raises:
        ValueError: an id outside 0 ... classes - 1.
    """
    check_ids(labels, classes)
    channels = torch.zeros(labels.shape[0], classes, *labels.shape[1:], dtype=dtype, device=labels.device)
    return channels.scatter_(1, labels[:, None].long(), 1.0)


def traced_one_hot(labels: Int[Tensor, "b h w"], classes: int, dtype: torch.dtype) -> Float[Tensor, "b c h w"]:
    """The same in a graph that is exported, where no value can be looked at: ids beyond the classes are 0 in all."""
    places = torch.arange(classes, device=labels.device)[:, None, None]
    return (labels[:, None] == places).to(dtype)
