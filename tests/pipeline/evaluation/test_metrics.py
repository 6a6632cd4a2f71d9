"""Each metric against a naive loop or a closed form, both ways: it must rise and it must fall where it should."""

import itertools
import math

import numpy as np
import pytest
import scipy.linalg
import scipy.stats
import torch
from skimage.metrics import structural_similarity
from torch import Tensor

from models.common.vgg import VGG
from pipeline.evaluation import metrics


def _images(count: int, seed: int, side: int = 16) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def _normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_psnr_is_the_mean_of_each_images_own() -> None:
    x = _images(3, 0)
    y = x.clone()
    for i, noise in enumerate((0.02, 0.2, 1.0)):
        y[i] += noise * _images(1, 5)[0]
    a, b = (np.clip(np.round(v.numpy() * 127.5 + 127.5), 0, 255) for v in (x, y))
    each = [10 * math.log10(255**2 / np.mean((a[i] - b[i]) ** 2)) for i in range(3)]
    assert metrics.psnr(x, y) == pytest.approx(np.mean(each), rel=1e-5)
    pooled = 10 * math.log10(255**2 / np.mean((a - b) ** 2))
    assert abs(pooled - np.mean(each)) > 1, "the case tells the two apart"
    assert metrics.psnr(x, x) == math.inf
    whole = metrics.as_bytes(x) / 127.5 - 1
    assert metrics.psnr(whole, whole + 0.003) == math.inf, "what 8 bits cannot show does not count"


@pytest.mark.parametrize("size", [11, 32])
def test_ssim_equals_scikit_image(size: int) -> None:
    """The second image differs most near its edge, so windows that reach beyond it would show; 11: a single window."""
    x, noise = _images(2, 0, size), _images(2, 1, size)
    noise[..., 2:-2, 2:-2] *= 0.1
    y = (x + noise).clamp(-1, 1)
    a, b = (metrics.as_bytes(v).permute(0, 2, 3, 1).numpy() for v in (x, y))
    each = []
    for i in range(2):
        _, full = structural_similarity(
            a[i], b[i], data_range=255, channel_axis=2, gaussian_weights=True, sigma=1.5,
            use_sample_covariance=False, full=True,
        )  # fmt: skip
        each.append(full[5 : size - 5, 5 : size - 5].mean())
    assert metrics.ssim(x, y) == pytest.approx(np.mean(each), rel=1e-5)
    assert metrics.ssim(x, x) == pytest.approx(1.0)
    assert metrics.ssim(x, -x) < 0


def test_ssim_of_less_than_a_window_is_refused() -> None:
    with pytest.raises(ValueError, match=r"at least 11 x 11 pixels, not \(10, 16\)"):
        metrics.ssim(torch.zeros(1, 3, 10, 16), torch.zeros(1, 3, 10, 16))


def test_perceptual_distance_equals_the_loop_and_has_its_own_name() -> None:
    vgg = VGG("vgg16", ("relu1_2", "relu2_1")).random(3)
    x, y = _images(2, 0, 8), _images(2, 1, 8)
    expected = []
    for i in range(2):
        total = 0.0
        for name in vgg.layers:
            a, b = vgg(x[i : i + 1])[name][0], vgg(y[i : i + 1])[name][0]
            for h, w in itertools.product(range(a.shape[1]), range(a.shape[2])):
                u, v = a[:, h, w], b[:, h, w]
                total += float((u / (u.norm() + 1e-10) - v / (v.norm() + 1e-10)).square().sum()) / a[0].numel()
        expected.append(total)
    assert metrics.perceptual_distance(vgg, x, y).tolist() == pytest.approx(expected, rel=1e-4)
    assert metrics.perceptual_name(vgg, "ab" * 32) == "vgg_perceptual-vgg16-relu1_2-relu2_1-abababab"
    assert metrics.perceptual_name(vgg, "random:3").endswith("-random3")


def _mean_gap(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).abs().mean((1, 2, 3))


def test_diversity_by_bicyclegans_protocol() -> None:
    seen = []

    def count(a: Tensor, b: Tensor) -> Tensor:
        seen.append(len(a))
        return _mean_gap(a, b)

    result = metrics.diversity((_images(20, i, 4) for i in range(100)), count)
    assert (result.inputs, result.samples, result.pairs, sum(seen)) == (100, 20, 1900, 1900)
    loop = [float((s[j] - s[j + 1]).abs().mean()) for s in (_images(20, i, 4) for i in range(100)) for j in range(19)]
    assert result.mean == pytest.approx(np.mean(loop), rel=1e-5)


def test_diversity_over_all_pairs() -> None:
    rows = [_images(4, i, 4) for i in range(3)]
    result = metrics.diversity(rows, _mean_gap, pairs="all")
    loop = [float((s[i] - s[j]).abs().mean()) for s in rows for i, j in itertools.combinations(range(4), 2)]
    assert result.pairs == len(loop) == 18
    assert result.mean == pytest.approx(np.mean(loop), rel=1e-5)
    assert metrics.diversity([rows[0][:1].repeat(3, 1, 1, 1)], _mean_gap).mean == 0
    with pytest.raises(ValueError, match="same number of samples"):
        metrics.diversity([rows[0], rows[1][:2]], _mean_gap)
    with pytest.raises(ValueError, match="no input"):
        metrics.diversity([], _mean_gap)


def test_diversity_over_disjoint_pairs() -> None:
    """Conditional IMLE's protocol: 40 pairs of each of 100 inputs."""
    seen = []

    def count(a: Tensor, b: Tensor) -> Tensor:
        seen.append(len(a))
        return _mean_gap(a, b)

    result = metrics.diversity((_images(80, i, 4) for i in range(100)), count, pairs="disjoint")
    assert (result.inputs, result.samples, result.pairs, sum(seen)) == (100, 80, 4000, 4000)
    loop = [
        float((s[2 * j] - s[2 * j + 1]).abs().mean())
        for s in (_images(80, i, 4) for i in range(100))
        for j in range(40)
    ]
    assert result.mean == pytest.approx(np.mean(loop), rel=1e-5)
    with pytest.raises(ValueError, match="even number of samples: 3"):
        metrics.diversity([_images(3, 0, 4)], _mean_gap, pairs="disjoint")


def test_pixel_distance_is_of_8_bit_values() -> None:
    a, b = torch.full((2, 3, 4, 4), -1.0), torch.full((2, 3, 4, 4), -1.0)
    b[0, :, :2] = 1.0
    b[1] += 0.003  # what 8 bits cannot show
    assert metrics.pixel_distance(a, b).tolist() == [127.5, 0.0]


def test_agreement_equals_the_double_loop() -> None:
    wanted = torch.from_numpy(np.random.default_rng(0).integers(0, 4, (3, 6, 7)))
    labels = torch.where(
        _normal(3, 6, 7) > 0.3, torch.from_numpy(np.random.default_rng(1).integers(0, 6, (3, 6, 7))), wanted
    )
    right, both, either = 0, dict.fromkeys(range(6), 0), dict.fromkeys(range(6), 0)
    for w, g in zip(wanted.flatten().tolist(), labels.flatten().tolist(), strict=True):
        right += w == g
        for c in range(6):
            both[c] += w == g == c
            either[c] += c in (w, g)
    assert set(labels.flatten().tolist()) > set(range(4)), "ids that are read but never wanted: no class of the mean"
    expected = np.mean([both[c] / either[c] for c in range(4)])
    assert metrics.agreement(labels, wanted) == pytest.approx((right / wanted.numel(), expected))
    assert metrics.agreement(wanted, wanted) == (1.0, 1.0)
    assert metrics.agreement(wanted + 1, wanted)[0] == 0
    with pytest.raises(ValueError, match="one shape"):
        metrics.agreement(labels[:1], wanted)


def _naive_covered(points: Tensor, centres: Tensor, k: int) -> float:
    inside = 0
    for p in points:
        hit = False
        for i, c in enumerate(centres):
            others = sorted(math.dist(c, o) for j, o in enumerate(centres) if j != i)
            hit = hit or math.dist(p, c) <= others[k - 1]
        inside += hit
    return inside / len(points)


@pytest.mark.parametrize("k", [1, 3])
def test_precision_and_recall_equal_the_loop(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    real, fake = _normal(40, 3), _normal(30, 3, seed=1) * 0.6 + 0.8
    real[1] = real[0]  # an equal row is a neighbour, at distance 0
    monkeypatch.setattr(metrics, "BLOCK", 7)
    precision, recall = metrics.precision_recall(real, fake, k)
    assert precision == _naive_covered(fake, real, k)
    assert recall == _naive_covered(real, fake, k)
    assert precision != recall
    assert metrics.covered(real[:5], fake, k) == _naive_covered(real[:5], fake, k)


def test_a_ball_holds_its_edge() -> None:
    centres = torch.tensor([[0.0, 0.0], [2.0, 0.0]])  # each ball of radius 2
    points = torch.tensor([[-2.0, 0.0], [-2.25, 0.0], [2.0, 2.0], [1.0, 2.0]])
    assert metrics.covered(points, centres, 1) == 0.5


def test_precision_falls_with_bad_and_recall_with_few_kinds() -> None:
    real = _normal(200, 4)
    assert min(metrics.precision_recall(real, _normal(200, 4, seed=1))) > 0.7
    precision, recall = metrics.precision_recall(real, _normal(200, 4, seed=1) * 0.05)
    assert precision > 0.95
    assert recall < 0.05
    assert metrics.precision_recall(real, _normal(200, 4, seed=1) + 50) == (0.0, 0.0)
    with pytest.raises(ValueError, match="k = 3"):
        metrics.precision_recall(real, real[:3])


def test_frechet_distance_equals_the_matrix_root() -> None:
    mix = _normal(5, 5, seed=9)
    a, b = _normal(60, 5), _normal(80, 5, seed=1) @ mix + 0.5
    c1, c2 = np.cov(a.numpy().T), np.cov(b.numpy().T)
    root = scipy.linalg.sqrtm(c1 @ c2).real
    expected = np.sum((a.numpy().mean(0) - b.numpy().mean(0)) ** 2) + np.trace(c1 + c2 - 2 * root)
    assert metrics.frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)
    assert metrics.frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    assert metrics.frechet_distance(a, a + 2) == pytest.approx(5 * 4)
    few = _normal(4, 30)  # fewer rows than columns: singular covariances
    assert metrics.frechet_distance(few, few) == pytest.approx(0, abs=1e-6)


def test_frechet_distance_of_one_feature_is_closed() -> None:
    a, b = _normal(50, 1), 3 * _normal(50, 1, seed=1) + 1
    expected = (a.mean() - b.mean()) ** 2 + (a.std() - b.std()) ** 2
    assert metrics.frechet_distance(a, b) == pytest.approx(float(expected))


def test_own_code_share() -> None:
    d = torch.tensor([[1.0, 2.0, 3.0], [5.0, 4.0, 3.0], [6.0, 6.0, 6.0]])
    # row 0: two wins; row 1: one win, one loss; row 2: two ties
    assert metrics.own_code_share(d) == pytest.approx((2 + 1 + 1) / 6)
    assert metrics.own_code_share(torch.ones(4, 4)) == 0.5, "a generator that ignores its code is at chance"
    assert metrics.own_code_share(1 - torch.eye(4)) == 1.0
    assert metrics.own_code_share(torch.eye(4)) == 0.0


def test_code_recovery_equals_the_loop() -> None:
    codes = _normal(6, 10, 3)
    recovered = codes + 0.8 * _normal(6, 10, 3, seed=1)
    hits = 0
    for b in range(6):
        for i in range(10):
            distances = [math.dist(recovered[b, i], codes[b, j]) for j in range(10)]
            hits += distances[i] == min(distances)
    assert metrics.code_recovery(codes, recovered) == pytest.approx(hits / 60)
    assert 0.1 < hits / 60 < 1
    assert metrics.code_recovery(codes, codes) == 1
    ignored = codes[:, :1].expand(6, 10, 3)  # E(G(x, z)) whatever z was
    assert metrics.code_recovery(codes, ignored) == pytest.approx(0.1)
    assert metrics.code_recovery(ignored, codes) == 0, "equal codes cannot be told apart"


def test_triplet_accuracy() -> None:
    a = torch.zeros(4, 2)
    near = torch.tensor([[1.0, 0], [1, 0], [2, 0], [1, 0]])
    far = torch.tensor([[2.0, 0], [2, 0], [1, 0], [0, 1]])
    assert metrics.triplet_accuracy(a, near, far) == (1 + 1 + 0 + 0.5) / 4


def test_rank_correlation_equals_the_loop() -> None:
    a = _normal(50)
    b = (a + _normal(50, seed=1)).round()  # many ties
    ranks = [[sum(y < x for y in v) + (sum(y == x for y in v) + 1) / 2 for x in v] for v in (a.tolist(), b.tolist())]
    assert metrics.rank_correlation(a, b) == pytest.approx(np.corrcoef(*ranks)[0, 1], abs=1e-12)
    assert metrics.rank_correlation(a, a.exp()) == pytest.approx(1)
    assert metrics.rank_correlation(a, -a) == pytest.approx(-1)
    with pytest.raises(ValueError, match="all equal"):
        metrics.rank_correlation(a, torch.ones(50))


def test_own_label_share_equals_the_loop() -> None:
    vectors = _normal(30, 2)
    labels = ["a"] * 12 + ["b"] * 10 + ["c"] * 8
    vectors[:12] += 2
    vectors[5] = vectors[20]  # an equal row of another label is nearest, the row itself is not counted
    hits = same = 0
    for i in range(30):
        order = sorted((math.dist(vectors[i], vectors[j]), j) for j in range(30) if j != i)
        hits += sum(labels[j] == labels[i] for _, j in order[:5])
        same += sum(labels[j] == labels[i] for j in range(30) if j != i)
    assert metrics.own_label_share(vectors, labels, 5) == pytest.approx((hits / 150, same / (30 * 29)))
    with pytest.raises(ValueError, match="--closest 30"):
        metrics.own_label_share(vectors, labels, 30)
