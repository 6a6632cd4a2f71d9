"""Small models of every kind."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from models.common.seeds import seeded
from models.pixelcnn.conditions import Condition
from models.pixelcnn.heads import Bernoulli, Head, Mixture, Softmax
from models.pixelcnn.model import Model
from models.pixelcnn.networks import Gated, Plain, Sizes

Make = Callable[..., Model]


def made(
    kind: str = "gated",
    head: str = "softmax",
    channels: int = 1,
    levels: int = 4,
    size: tuple[int, int] = (5, 5),
    hidden: int = 6,
    **options: Any,
) -> Model:
    """A model in double precision with random weights (biases too: zero ones would hide what they do)."""
    heads: dict[str, Callable[[], Head]] = {
        "softmax": lambda: Softmax(channels, levels),
        "bernoulli": lambda: Bernoulli(channels),
        "mixture": lambda: Mixture(channels, levels, 2),
    }
    chosen = heads[head]()
    given = {"features": 6, "layers": 2, "first_kernel": 5, "kernel": 3, "dilations": (1,), "head": hidden}
    sizes = Sizes(
        channels=channels, outputs=chosen.outputs, groups=channels if chosen.ordered else 1, **{**given, **options}
    )
    net = (Gated if kind == "gated" else Plain)(sizes, seeded(0, kind))
    generator = seeded(0, "biases")
    with torch.no_grad():
        for name, p in net.named_parameters():
            if name.endswith("bias"):
                p.copy_(torch.randn(p.shape, generator=generator) * 0.3)
    return Model(net, chosen, size, seeded(0, "levels")).double()


def conditioned(model: Model, batch: int) -> Condition:
    """A random condition of the model's kind."""
    s, generator = model.net.sizes, seeded(0, "condition")
    vector = torch.randn(batch, s.vector, generator=generator).double() if s.vector else None
    maps = torch.randn(batch, s.maps, *model.size, generator=generator).double() if s.maps else None
    return Condition(vector, maps)


@pytest.fixture
def make() -> Make:
    return made


@pytest.fixture
def condition_for() -> Callable[[Model, int], Condition]:
    return conditioned
