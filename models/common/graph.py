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
    """Sides of pictures `B C H W` and of maps of ids `B H W` are multiples of this; 0: only those of the examples."""
    note: str = ""
    """How its pictures differ from the family's samples; empty: not at all."""

    @property
    def step(self) -> int:
        """`multiple`, if the exported file can take any multiple from twice that on; 0: it takes the examples' sides.
        Examples with a side of one multiple cannot be traced for others: it becomes 1 within the network."""
        sides = [side for x in self.inputs.values() if x.ndim > 2 for side in x.shape[-2:]]
        return self.multiple if self.multiple and min(sides) >= 2 * self.multiple else 0


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
