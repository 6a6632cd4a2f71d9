"""Figures of fidelity and diversity, as pure functions of images, features and codes.

Images are float `B C H W` in [-1, 1]; PSNR, SSIM and pixel distances round them to the 8 bits that a saved picture has.
A distance is a function of two such batches that gives one number a pair, `B`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor

Distance = Callable[[Tensor, Tensor], Tensor]

BLOCK = 1024
"""Rows of a distance matrix that are held at once."""
SSIM_WINDOW = 11
"""Side of SSIM's window, pixels."""


def as_bytes(images: Tensor) -> Tensor:
    """[-1, 1] -> whole numbers 0..255 in float32: round(127.5 + 127.5 x), clipped (StEP's evaluation)."""
    return (images.float() * 127.5 + 127.5).round().clamp(0, 255)


class Features(Protocol):
    """A VGG, or what stands for it."""

    name: str
    layers: tuple[str, ...]

    def __call__(self, images: Tensor, /) -> dict[str, Tensor]:
        """RGB `B 3 H W` in [-1, 1] -> layer -> activations."""


def psnr(images: Tensor, targets: Tensor) -> float:
    """Peak signal-to-noise ratio in dB on 8-bit values: 10 log10(255^2 / MSE) of each image, averaged over the images
    (not the ratio of the averaged error). Infinite where a pair is equal."""
    return float(psnr_each(images, targets).mean())


def psnr_each(images: Tensor, targets: Tensor) -> Tensor:
    """float64 `B`: PSNR of each image, as `psnr`."""
    from torchmetrics.functional.image import peak_signal_noise_ratio  # slow to import, as below

    _same(images, targets)
    # reduction "elementwise_mean" would average too, but hides that it is per image only by dim
    each: Tensor = peak_signal_noise_ratio(
        as_bytes(images), as_bytes(targets), data_range=255.0, reduction="none", dim=(1, 2, 3)
    )
    return each.double()


def ssim(images: Tensor, targets: Tensor) -> float:
    """Structural similarity on 8-bit values: Gaussian window 11, sigma 1.5, k 0.01 and 0.03, each channel by itself;
    averaged over all windows that lie within the image (Wang et al. 2004), and over the images.

    Raises:
        ValueError: a side is smaller than the window.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    _same(images, targets)
    if min(images.shape[2:]) < SSIM_WINDOW:
        raise ValueError(f"SSIM needs at least {SSIM_WINDOW} x {SSIM_WINDOW} pixels, not {tuple(images.shape[2:])}")
    _, each = structural_similarity_index_measure(
        as_bytes(images), as_bytes(targets), data_range=255.0, reduction="none", sigma=1.5, return_full_image=True
    )
    edge = SSIM_WINDOW // 2  # torchmetrics pads by reflection, and averages the edges too
    return float(each[..., edge:-edge, edge:-edge].double().mean())


def pixel_distance(images: Tensor, targets: Tensor) -> Tensor:
    """`B`: mean absolute difference (L1) of the 8-bit values, 0-255."""
    _same(images, targets)
    return (as_bytes(images) - as_bytes(targets)).abs().mean((1, 2, 3))


def perceptual_distance(vgg: Features, images: Tensor, targets: Tensor) -> Tensor:
    """`B`: sum over the VGG's layers of mean_hw sum_c (f(x) - f(y))^2, f of unit length over the channels.

    LPIPS' form without fitted weights: it is not LPIPS, and goes by `perceptual_name`.
    """
    _same(images, targets)
    total = torch.zeros(len(images), device=images.device)
    with torch.no_grad():
        of_images, of_targets = vgg(images), vgg(targets)
    for layer in vgg.layers:
        a, b = (f / (f.square().sum(1, keepdim=True).sqrt() + 1e-10) for f in (of_images[layer], of_targets[layer]))
        total += (a - b).square().sum(1).mean((1, 2))
    return total


def perceptual_name(vgg: Features, weights: str) -> str:
    """`vgg_perceptual-vgg19-relu1_2-relu3_1-1a2b3c4d`: `weights` is their sha256, or `random:SEED`, kept as it is."""
    mark = weights.replace(":", "") if weights.startswith("random") else weights[:8]
    return "-".join(["vgg_perceptual", vgg.name, *vgg.layers, mark])


@dataclass(frozen=True)
class Diversity:
    """How different the samples of one input are, and over what it was taken."""

    mean: float
    """Mean distance over all pairs of all inputs."""
    inputs: int
    samples: int
    """Samples of each input."""
    pairs: int
    """Distances that were averaged."""


Pairs = Literal["consecutive", "disjoint", "all"]


def diversity(samples: Iterable[Tensor], distance: Distance, pairs: Pairs = "consecutive") -> Diversity:
    """Mean distance between the samples (`S C H W`) of one input, over the inputs.

    `consecutive` is BicycleGAN's protocol: 100 inputs x 20 samples, the 19 neighbouring pairs of each: 1,900 distances.
    `disjoint` pairs the first sample with the second, the third with the fourth, ...: no sample counts twice, so the
    distances are independent and for their number tell the mean most exactly. Conditional IMLE's protocol is
    reported as 40 pairs for each of 100 inputs (the paper's text was not checked): here of 80 samples, 4,000 distances.

    Raises:
        ValueError: no input, fewer than two samples, an odd number for `disjoint`, or inputs with different numbers.
    """
    total, count, inputs, size = 0.0, 0, 0, 0
    for row in samples:
        size = size or len(row)
        if len(row) != size or size < 2:
            raise ValueError(
                f"diversity wants the same number of samples, 2 or more, of each input: {size}, {len(row)}"
            )
        if pairs == "disjoint" and size % 2:
            raise ValueError(f"diversity over disjoint pairs wants an even number of samples: {size}")
        if pairs == "consecutive":
            first, second = torch.arange(size - 1), torch.arange(1, size)
        elif pairs == "disjoint":
            first, second = torch.arange(0, size, 2), torch.arange(1, size, 2)
        else:
            first, second = torch.triu_indices(size, size, 1)
        each = distance(row[first], row[second])
        total, count, inputs = total + float(each.double().sum()), count + len(each), inputs + 1
    if not inputs:
        raise ValueError("diversity of no input")
    return Diversity(total / count, inputs, size, count)


def precision_recall(real: Tensor, fake: Tensor, k: int = 3) -> tuple[float, float]:
    """Improved precision and recall (Kynkäänniemi et al. 2019, eq. 1-2) of features `N D` and `M D`.

    Precision: share of fakes within the ball of at least one real, whose radius is the distance to its k-th nearest
    other real. Recall: the same the other way round. Distances are float64 and computed directly, not by products.

    Raises:
        ValueError: not more than k rows on a side.
    """
    return covered(fake, real, k), covered(real, fake, k)


def _distances(a: Tensor, b: Tensor) -> Tensor:
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


def covered(points: Tensor, centres: Tensor, k: int = 3) -> float:
    """Share of `points` (`N D`) within the ball of at least one of `centres` (`M D`), whose radius is the distance to
    its k-th nearest other centre; in blocks, in float64.

    Raises:
        ValueError: no point, or not more than k centres.
    """
    if len(points) == 0 or len(centres) <= k:
        raise ValueError(f"balls with k = {k} need more centres than that and a point: {len(centres)}, {len(points)}")
    points, centres = points.double(), centres.double()
    radii = []
    for start in range(0, len(centres), BLOCK):
        block = _distances(centres[start : start + BLOCK], centres)
        rows = torch.arange(len(block))
        block[rows, rows + start] = math.inf  # a point is not its own neighbour; an equal one is
        radii.append(block.kthvalue(k, dim=1).values)
    radius = torch.cat(radii)
    inside = [(_distances(points[i : i + BLOCK], centres) <= radius).any(1).sum() for i in range(0, len(points), BLOCK)]
    return float(torch.stack(inside).sum()) / len(points)


def agreement(labels: Tensor, wanted: Tensor) -> tuple[float, float]:
    """(accuracy, mIoU) of label ids `N H W` against those wanted, from one confusion matrix over all pixels.

    Accuracy: share of the pixels with the wanted id. mIoU: mean over the classes that occur in `wanted` of
    (pixels of the class in both) / (pixels of the class in either).
    """
    _same(labels, wanted)
    classes = 1 + int(torch.maximum(labels.max(), wanted.max()))
    pairs = wanted.long() * classes + labels.long()
    confusion = torch.bincount(pairs.flatten(), minlength=classes * classes).view(classes, classes).double()
    both, there = confusion.diagonal(), confusion.sum(1)
    overlap = both / (there + confusion.sum(0) - both)
    return float(both.sum() / there.sum()), float(overlap[there > 0].mean())


def frechet_distance(real: Tensor, fake: Tensor) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) of features `N D`, `M D` (Heusel et al. 2017, eq. 6), in float64.

    Not FID unless the features are Inception's. It is biased upwards for few rows: compare equal counts only.

    Raises:
        ValueError: fewer than two rows on a side, or of different widths.
    """
    if min(len(real), len(fake)) < 2 or real.shape[1] != fake.shape[1]:
        raise ValueError(f"wanted N D and M D with N, M >= 2, got {tuple(real.shape)} and {tuple(fake.shape)}")
    real, fake = real.double(), fake.double()
    c1, c2 = torch.cov(real.T).reshape(real.shape[1], -1), torch.cov(fake.T).reshape(real.shape[1], -1)
    # The eigenvalues of C1 C2 are those of the symmetric C1^(1/2) C2 C1^(1/2): real, and not negative but for rounding.
    values, vectors = torch.linalg.eigh(c1)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    cross = torch.linalg.eigvalsh(root @ c2 @ root).clamp(min=0).sqrt().sum()
    gap = (real.mean(0) - fake.mean(0)).square().sum()
    return max(0.0, float(gap + c1.trace() + c2.trace() - 2 * cross))


def own_code_share(distances: Tensor) -> float:
    """Share of pairs in which an image is rebuilt better with its own code than with another's. Chance: 0.5.

    `distances`: `N N`, entry (i, j) between target i and its reconstruction with the code of image j. Ties are half.
    """
    n = len(distances)
    if distances.shape != (n, n) or n < 2:
        raise ValueError(f"wanted a square of at least 2 x 2 distances, got {tuple(distances.shape)}")
    own = distances.diagonal()[:, None]
    wins = (own < distances).double() + 0.5 * (own == distances).double()
    return float((wins.sum() - wins.diagonal().sum()) / (n * (n - 1)))


def code_recovery(codes: Tensor, recovered: Tensor) -> float:
    """Share of the recoveries E(G(x, z)) `B K D` whose nearest code, among the K of their input, is the one they were
    made with.

    Chance: 1 / K. A code that ties with another does not count, so equal codes cannot score.
    """
    _same(codes, recovered)
    apart = _distances(recovered.double(), codes.double())  # B K K: recovery, code
    own = apart.diagonal(dim1=1, dim2=2)[..., None]
    others = apart + torch.diag(torch.full((codes.shape[1],), math.inf, dtype=torch.float64))
    return float((own[..., 0] < others.min(2).values).double().mean())


def triplet_accuracy(anchor: Tensor, positive: Tensor, negative: Tensor) -> float:
    """Share of triplets (codes `N D` each) with the positive nearer to the anchor than the negative; ties are half."""
    _same(anchor, positive)
    _same(anchor, negative)
    near = (anchor.double() - positive.double()).square().sum(1)
    far = (anchor.double() - negative.double()).square().sum(1)
    return float(((near < far).double() + 0.5 * (near == far).double()).mean())


def rank_correlation(a: Tensor, b: Tensor) -> float:
    """Spearman's rank correlation of two lists (for example code distances and style distances); ties share the mean of
    their ranks.

    Raises:
        ValueError: different lengths, fewer than two, or a list of equal values, which has no ranks.
    """
    from scipy.stats import spearmanr

    x, y = (np.asarray(v.detach().double().cpu()).reshape(-1) for v in (a, b))
    if len(x) != len(y) or len(x) < 2:
        raise ValueError(f"wanted two lists of one length, 2 or more, got {len(x)} and {len(y)}")
    if x.min() == x.max() or y.min() == y.max():
        raise ValueError("rank correlation of a list whose values are all equal")
    return float(spearmanr(x, y).statistic)


def own_label_share(vectors: Tensor, labels: Sequence[str], k: int = 5) -> tuple[float, float]:
    """(share of the k nearest others that have the anchor's label, that share by chance), over rows `N D`.

    Raises:
        ValueError: counts that disagree, or k not below N.
    """
    n = len(vectors)
    if len(labels) != n or not 0 < k < n:
        raise ValueError(f"--closest {k}: wanted 1 to N - 1 neighbours of {n} rows, with {len(labels)} labels")
    ids = torch.tensor(np.unique(np.asarray(labels), return_inverse=True)[1])
    vectors, hits = vectors.double(), 0
    for start in range(0, n, BLOCK):
        block = _distances(vectors[start : start + BLOCK], vectors)
        rows = torch.arange(len(block))
        block[rows, rows + start] = math.inf
        near = block.argsort(dim=1, stable=True)[:, :k]  # ties: the lower row
        hits += int((ids[near] == ids[rows + start][:, None]).sum())
    counts = torch.bincount(ids).double()
    return hits / (n * k), float((counts * (counts - 1)).sum() / (n * (n - 1)))


def _same(a: Tensor, b: Tensor) -> None:
    if a.shape != b.shape or len(a) == 0:
        raise ValueError(f"wanted two batches of one shape, not empty: {tuple(a.shape)} and {tuple(b.shape)}")
