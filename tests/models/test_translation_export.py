"""The generators go through torch.export, and the exported program makes the same pictures."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import models
from models.common.seeds import seeded
from tests.models.translation import built


class Translate(nn.Module):
    """MUNIT's translation as one module."""

    def __init__(self, a: Any, b: Any) -> None:
        super().__init__()
        self.content, self.decoder = a.content, b.decoder

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        out: Tensor = self.decoder(self.content(x), z)
        return out


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=seeded(*shape))


@pytest.mark.parametrize("name", ["pix2pix", "bicyclegan", "munit", "pix2pixhd", "flow"])
def test_exported_program(name: str) -> None:
    family: Any = built(name, models.load(name).PRESETS["tiny"]).eval()
    net, inputs = {
        "pix2pix": lambda: (family.generator, (noise(1, 3, 16, 16),)),
        "bicyclegan": lambda: (family.generator, (noise(1, 3, 16, 16), noise(1, 3))),
        "munit": lambda: (Translate(family.generator_a, family.generator_b).eval(), (noise(1, 3, 16, 16), noise(1, 3))),
        "pix2pixhd": lambda: (family.generator, (noise(1, 8, 32, 32),)),
        "flow": lambda: (family.generator, (noise(1, 3, 16, 16), torch.tensor([0.3]), noise(1, 3, 16, 16))),
    }[name]()
    program = torch.export.export(net, inputs)
    other = tuple(x.flip(-1) for x in inputs)
    with torch.no_grad():
        torch.testing.assert_close(program.module()(*other), net(*other), rtol=1e-4, atol=1e-4)
