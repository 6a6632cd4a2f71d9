"""A network and its head together: a distribution over whole images, with its exact likelihood."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from models.pixelcnn.conditions import NOTHING, Condition
from models.pixelcnn.heads import Head
from models.pixelcnn.networks import Gated, Levels, Plain

BATCH_NORMS = (nn.modules.batchnorm._BatchNorm,)


class Model(nn.Module):
    """p(x | h) = product over pixels, in raster order, of the head's distribution."""

    def __init__(self, net: Gated | Plain, head: Head, size: tuple[int, int], generator: torch.Generator) -> None:
        """`size`: height and width of the images; `generator`: of the levels' embedding, where the net has one."""
        super().__init__()
        self.net, self.head, self.size = net, head, size
        self.read = Levels(head.levels, net.sizes.embedding, generator)
        refuse_batch_norm(self)

    @property
    def channels(self) -> int:
        return self.net.sizes.channels

    @property
    def dimensions(self) -> int:
        """Numbers of an image: C H W."""
        return self.channels * self.size[0] * self.size[1]

    @property
    def dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def forward(self, x: Int[Tensor, "b c h w"], condition: Condition = NOTHING) -> Float[Tensor, "b p h w"]:
        """The head's numbers at every pixel."""
        self.check(x, condition)
        # Channels last: convolutions of few channels and the head's softmax are faster.
        read = self.read(x, self.dtype).to(memory_format=torch.channels_last)
        outputs: Tensor = self.net(read, condition)
        return outputs

    def log_prob(
        self, x: Int[Tensor, "b c h w"], condition: Condition = NOTHING, check: bool = True
    ) -> Float[Tensor, " b"]:
        """ln p of each image, nats; `bits` makes bits per dimension of it.

        Args:
            x: levels 0 ... L - 1 (`heads.levels_of` makes them of pictures).
            check: whether the levels are looked at; a GPU waits for it.

        Raises:
            ValueError: images or a condition that are not the model's.
        """
        if check:
            self.check_levels(x)
        outputs = self(x, condition).to(self.dtype)  # under autocast: only the network in bfloat16
        return self.head.log_prob(outputs, x.long()).sum((1, 2))

    def bits(self, log_prob: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Nats an image -> bits per dimension: -ln p / (ln 2 C H W)."""
        return -log_prob / (math.log(2) * self.dimensions)

    def check(self, x: Tensor, condition: Condition) -> None:
        """Raises ValueError where the images' shape and type or the condition are not the model's."""
        if x.is_floating_point():
            raise ValueError(f"images: give integer levels 0-{self.head.levels - 1}, not {x.dtype}")
        if tuple(x.shape[1:]) != (self.channels, *self.size):
            raise ValueError(
                f"images: {' x '.join(map(str, x.shape[1:]))} (channels, height, width), the model is of "
                f"{self.channels} x {self.size[0]} x {self.size[1]}"
            )
        self.check_condition(condition, len(x))

    def check_levels(self, x: Tensor) -> None:
        """Raises ValueError where a level is not one of the model's."""
        if len(x) and not 0 <= int(x.min()) <= int(x.max()) < self.head.levels:
            raise ValueError(
                f"images: levels {int(x.min())} to {int(x.max())}, the model's are 0-{self.head.levels - 1}"
            )

    def check_condition(self, condition: Condition, batch: int) -> None:
        """Raises ValueError where a condition is missing, not wanted, or of another shape."""
        s = self.net.sizes
        for name, given, wanted in (
            ("vector", condition.vector, (s.vector,)),
            ("map", condition.map, (s.maps, *self.size)),
        ):
            if not wanted[0] and given is not None:
                raise ValueError(f"condition: the model knows no {name}, leave it out")
            if wanted[0] and given is None:
                raise ValueError(f"condition: the model needs a {name} of {' x '.join(map(str, wanted))}")
            if given is not None and tuple(given.shape) != (batch, *wanted):
                raise ValueError(
                    f"condition: a {name} of {' x '.join(map(str, given.shape))}, "
                    f"wanted {' x '.join(map(str, (batch, *wanted)))}"
                )


def refuse_batch_norm(net: nn.Module) -> None:
    """Raises ValueError where `net` has a batch norm anywhere."""
    for name, module in net.named_modules():
        if isinstance(module, BATCH_NORMS):
            raise ValueError(
                f"{name}: batch norm makes the probability of an image depend on later pixels and on the batch: it "
                "would be no likelihood; leave it out"
            )
