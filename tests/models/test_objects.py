"""Objects of maps: lists and areas against loops, edits by hand."""

import numpy as np
import pytest
import torch

from models.common import objects
from models.common.seeds import seeded

LABELS = torch.tensor([[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 2], [2, 2, 2, 2]])
IDS = torch.tensor([[7, 7, 7, 7], [7, 9, 9, 7], [7, 9, 9, 3], [3, 3, 3, 3]])


def test_listed_by_a_loop() -> None:
    labels = torch.randint(0, 3, (9, 12), generator=seeded(0))
    ids = torch.randint(0, 6, (9, 12), generator=seeded(1)) * 1001
    found = {one.id: one for one in objects.listed(labels, ids)}
    assert set(found) == set(ids.unique().tolist())
    for one in found.values():
        pixels = [(i, j) for i, j in np.ndindex(9, 12) if ids[i, j] == one.id]
        rows, columns = zip(*pixels, strict=True)
        top, left = min(rows), min(columns)
        assert one.pixels == len(pixels) and one.kind == int(labels[pixels[len(pixels) // 2]])
        assert one.box == (top, left, max(rows) - top + 1, max(columns) - left + 1)
    sizes = [one.pixels for one in objects.listed(labels, ids)]
    assert sizes == sorted(sizes, reverse=True)


def test_edits() -> None:
    labels, ids = LABELS, IDS
    changed, same = objects.change_class(labels, ids, 9, 2)
    assert changed[1:3, 1:3].unique().tolist() == [2] and torch.equal(same, ids) and int(labels[1, 1]) == 1
    gone, gone_ids = objects.remove(labels, ids, 9)
    assert 9 not in gone_ids and 1 not in gone
    assert all(int(gone[i, j]) == {7: 0, 3: 2}[int(gone_ids[i, j])] for i in range(4) for j in range(4))
    assert int(gone_ids[1, 1]) == 7 and int(gone_ids[2, 2]) == 3  # what lies beside it
    place = torch.zeros(4, 4, dtype=torch.bool)
    place[0, :2] = True
    more, more_ids = objects.add(labels, ids, place, 1)
    assert more[0].tolist() == [1, 1, 0, 0] and more_ids[0].tolist() == [10, 10, 7, 7]
    for call, message in [
        (lambda: objects.remove(labels, ids, 8), "no object 8: there are 3, 7, 9$"),
        (lambda: objects.change_class(labels, torch.arange(30).view(5, 6), 31, 0), "there are 0, 1, .*, 19, ...$"),
        (lambda: objects.remove(labels, torch.ones_like(ids), 1), "object 1 is all there is"),
        (lambda: objects.add(labels, ids, place & False, 1), "covers no pixel"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()
