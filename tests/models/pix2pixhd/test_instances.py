"""Instance maps: edges, means and clusters against loops."""

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans

from models.common.objects import objects
from models.common.onehot import one_hot
from models.common.seeds import seeded
from models.pix2pixhd.instances import edges, instance_means, k_means, pooled


def test_edges_of_a_small_object() -> None:
    ids = torch.zeros(1, 6, 6, dtype=torch.int64)
    ids[0, 2:4, 2:4] = 7
    found = edges(ids)[0, 0]
    assert int(found.sum()) == 12  # the object's four pixels and its eight neighbours, not the corners
    wanted = torch.zeros(6, 6)
    wanted[2:4, 1:5], wanted[1:5, 2:4] = 1, 1
    assert torch.equal(found, wanted)


def test_edges_by_a_loop() -> None:
    ids = torch.randint(0, 3, (2, 5, 7), generator=seeded(0))
    found = edges(ids)
    assert found.shape == (2, 1, 5, 7)
    for b, i, j in np.ndindex(2, 5, 7):
        around = [(i + di, j + dj) for di, dj in ((0, 1), (1, 0), (0, -1), (-1, 0))]
        differs = any(ids[b, r, c] != ids[b, i, j] for r, c in around if 0 <= r < 5 and 0 <= c < 7)
        assert float(found[b, 0, i, j]) == differs


def test_means_are_of_each_instance_of_each_picture() -> None:
    ids = torch.randint(0, 4, (2, 5, 6), generator=seeded(0)) * 1001
    features = torch.randn(2, 3, 5, 6, generator=seeded(1), dtype=torch.float64, requires_grad=True)
    out = pooled(features, ids)
    for b, i, j in np.ndindex(2, 5, 6):
        same = ids[b] == ids[b, i, j]  # not the same id in the other picture
        torch.testing.assert_close(out[b, :, i, j], features[b][:, same].mean(1))
    weight = torch.randn(out.shape, generator=seeded(2), dtype=torch.float64)
    (grad,) = torch.autograd.grad((out * weight).sum(), features)
    for b, i, j in np.ndindex(2, 5, 6):
        same = ids[b] == ids[b, i, j]
        torch.testing.assert_close(grad[b, :, i, j], weight[b][:, same].mean(1))
    means, place = instance_means(features, ids)
    assert means.shape == (len(torch.unique(ids[0])) + len(torch.unique(ids[1])), 3)
    torch.testing.assert_close(means[place].movedim(-1, 1), out)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_any_bit_depth_gives_the_same(dtype: torch.dtype) -> None:
    ids = torch.randint(0, 200, (1, 8, 8), generator=seeded(0))
    features = torch.randn(1, 3, 8, 8, generator=seeded(1))
    wide = {0: 26_000}  # the same partition with ids beyond 8 bits
    large = torch.tensor([[wide.get(int(v), int(v) * 150 + 24_000) for v in row] for row in ids[0]])[None]
    assert torch.equal(pooled(features, ids.to(dtype)), pooled(features, large))
    assert torch.equal(edges(ids.to(dtype)), edges(large))


def test_one_hot_names_an_id_beyond_the_classes() -> None:
    labels = torch.tensor([[[0, 2], [1, 1]]])
    assert torch.equal(one_hot(labels, 3)[0, :, 0, 1], torch.tensor([0.0, 0.0, 1.0]))
    assert torch.equal(one_hot(labels, 3).sum(1), torch.ones(1, 2, 2))
    with pytest.raises(ValueError, match="class id 2 in a label map, but --labels 2"):
        one_hot(labels, 2)
    with pytest.raises(ValueError, match="class id -1 in a label map"):
        one_hot(labels - 1, 3)


def test_objects_by_a_loop() -> None:
    labels = torch.randint(0, 5, (2, 6, 7), generator=seeded(0))
    ids = torch.randint(0, 3, (2, 6, 7), generator=seeded(1))
    classes, shares, pictures = objects(labels, ids)
    _, place = instance_means(torch.zeros(2, 1, 6, 7), ids)
    seen = 0
    for b in range(2):
        for value in torch.unique(ids[b]).tolist():
            where = (ids[b] == value).nonzero()
            middle = where[len(where) // 2]
            row = int(place[b, where[0, 0], where[0, 1]])
            assert int(classes[row]) == int(labels[b, middle[0], middle[1]]) and int(pictures[row]) == b
            assert float(shares[row]) == pytest.approx(len(where) / 42)
            seen += 1
    assert seen == len(classes)


def test_k_means_is_as_good_as_scikit_learns() -> None:
    centres = torch.randn(4, 3, generator=seeded(0), dtype=torch.float64) * 5
    points = centres.repeat_interleave(30, 0) + 0.3 * torch.randn(120, 3, generator=seeded(1), dtype=torch.float64)
    found = k_means(points, 4, seeded(2))
    inertia = float(torch.cdist(points, found).square().amin(1).sum())
    best = KMeans(4, n_init=10, random_state=0).fit(points.numpy())
    assert inertia == pytest.approx(best.inertia_, rel=1e-6)
    order = torch.cdist(found, torch.from_numpy(best.cluster_centers_)).argmin(1)
    assert sorted(order.tolist()) == [0, 1, 2, 3]
    assert torch.equal(found, k_means(points, 4, seeded(2)))


def test_k_means_of_few_points() -> None:
    points = torch.tensor([[0.0], [0.0], [3.0]])
    assert sorted(k_means(points, 10, seeded(0)).flatten().tolist()) == [0, 3]
    assert k_means(points[:1], 10, seeded(0)).tolist() == [[0]]
    # Two blobs and one centre: the mean of all.
    torch.testing.assert_close(k_means(points, 1, seeded(0)), points.mean(0, keepdim=True))
