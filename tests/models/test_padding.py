"""Pictures of any size: grown to a multiple and cut back."""

import pytest
import torch

from models.common.padding import at_any_size, pad
from models.common.seeds import seeded


def test_mirrored_and_cut_back() -> None:
    x = torch.randn(2, 3, 5, 8, generator=seeded(0))
    grown = pad(x, 4)
    assert grown.shape == (2, 3, 8, 8) and torch.equal(grown[:, :, :5], x)
    assert torch.equal(grown[:, :, 5:], x[:, :, [3, 2, 1]])
    assert pad(x[:, :, :4], 4).shape == (2, 3, 4, 8) and pad(grown, 4) is grown
    assert torch.equal(at_any_size(lambda y: 2 * y, x, 16), 2 * x)


@pytest.mark.parametrize("side", [1, 2, 3])
def test_small_pictures_repeat_their_last_row(side: int) -> None:
    x = torch.randn(1, 1, side, 4, generator=seeded(0))
    grown = pad(x, 8)
    assert grown.shape == (1, 1, 8, 8) and torch.equal(grown[0, 0, -1, :4], x[0, 0, -1])


def test_ids_stay_exact() -> None:
    ids = torch.tensor([[[2**31 - 1, 5], [7, 2**31 - 2]]])
    grown = pad(ids, 3)
    assert grown.dtype == torch.int64 and grown.shape == (1, 3, 3) and torch.equal(grown[:, :2, :2], ids)
    assert set(grown.unique().tolist()) == set(ids.unique().tolist())
