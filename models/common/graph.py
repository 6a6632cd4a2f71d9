"""What `jobs.export` writes: a generator as a module of tensors alone."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

PICTURE = "[-1, 1], RGB"
"""Values of a picture, in words."""


@dataclass(frozen=True)
class Graph:
    """A generator to be exported: in evaluation mode, the same output for the same inputs."""

    module: nn.Module
    inputs: Mapping[str, Tensor]
    """Name -> examples, the batch first, in the order of the module's arguments."""
    ranges: Mapping[str, str]
    """Name of each input and of the output -> its values, in words."""
    output: str = "picture"
    multiple: int = 0
    """Pictures `B C H W` and maps of ids `B H W` may have any sides that are multiples of this; 0: only those of the
    examples."""
    note: str = ""
    """How its pictures differ from the family's samples; empty: not at all."""


class Call(nn.Module):
    """`call` as a module that holds the weights of `nets`."""

    def __init__(self, call: Callable[..., Tensor], *nets: nn.Module) -> None:
        super().__init__()
        self.call, self.nets = call, nn.ModuleList(nets)

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.call(*inputs)


def class_ids(classes: int) -> str:
    """Values of a label map, in words."""
    return f"class ids, 0 to {classes - 1}"
