"""The patch discriminator: size, maps, and the deviation over the batch."""

import math

import numpy as np
import pytest
import torch

from models.common.patchgan import PatchDiscriminator, minibatch_deviation, smallest_side
from models.common.seeds import seeded
from models.group import Group


def test_published_size_and_maps() -> None:
    net = PatchDiscriminator(6, 32, 3, 3, seeded(0))
    assert sum(p.numel() for p in net.parameters()) == 2_102_307
    with torch.no_grad():
        maps = net(torch.zeros(1, 3, 256, 256), torch.zeros(1, 3, 256, 256), Group())
    assert [tuple(m.shape) for m in maps] == [(1, 1, 32, 32), (1, 1, 16, 16), (1, 1, 8, 8)]


def test_deviation_is_one_number_over_the_batch() -> None:
    x = torch.randn(4, 2, 3, 3, generator=seeded(0), dtype=torch.float64)
    wanted = np.mean(
        [math.sqrt(x[:, c, i, j].numpy().var() + 1e-8) for c, i, j in np.ndindex(2, 3, 3)]  # population variance
    )
    assert float(minibatch_deviation(x, Group())) == pytest.approx(wanted, rel=1e-12)
    same = x[:1].expand(4, -1, -1, -1)
    assert float(minibatch_deviation(same, Group())) == pytest.approx(1e-4, rel=1e-6)


def test_deviation_joins_a_picture_with_its_batch() -> None:
    net = PatchDiscriminator(6, 4, 3, 1, seeded(0)).double()
    x = torch.randn(2, 3, 16, 16, generator=seeded(1), dtype=torch.float64)
    together = net(x, x, Group())[0][0]
    alone = net(x[:1], x[:1], Group())[0][0]
    assert not torch.allclose(together, alone)


def test_condition_matters() -> None:
    net = PatchDiscriminator(6, 4, 3, 2, seeded(0))
    x = torch.randn(2, 3, 32, 32, generator=seeded(1))
    one, other = net(x, x, Group()), net(x, x.flip(0), Group())
    assert all(not torch.allclose(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(("layers", "scales"), [(3, 1), (3, 2), (2, 3)])
def test_smallest_side_runs_and_half_of_it_does_not(layers: int, scales: int) -> None:
    net = PatchDiscriminator(6, 2, layers, scales, seeded(0))
    side = smallest_side(layers, scales)
    net(torch.zeros(1, 3, side, side), torch.zeros(1, 3, side, side), Group())
    with pytest.raises(ValueError, match="more than 1 spatial"):
        net(torch.zeros(1, 3, side // 2, side // 2), torch.zeros(1, 3, side // 2, side // 2), Group())
