"""Instance maps: their edges, means of features over each instance, and cluster centres of such means."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from models.common.objects import numbered


def edges(ids: Int[Tensor, "b h w"]) -> Float[Tensor, "b 1 h w"]:
    """1 at both pixels wherever two of the four neighbours belong to different instances, else 0 (section 3.4)."""
    rows, columns = ids[:, 1:] != ids[:, :-1], ids[:, :, 1:] != ids[:, :, :-1]
    found = torch.zeros(ids.shape, dtype=torch.bool, device=ids.device)
    found[:, 1:] |= rows
    found[:, :-1] |= rows
    found[:, :, 1:] |= columns
    found[:, :, :-1] |= columns
    return found[:, None].float()


def instance_means(
    features: Float[Tensor, "b f h w"], ids: Int[Tensor, "b h w"]
) -> tuple[Float[Tensor, "n f"], Int[Tensor, "b h w"]]:
    """(mean of the features over each instance, which row of it each pixel has). Differentiable."""
    place, count = numbered(ids)
    flat, where = features.movedim(1, -1).flatten(0, 2), place.flatten()
    sums = flat.new_zeros(count, flat.shape[1]).index_add(0, where, flat)
    return sums / torch.bincount(where, minlength=count)[:, None], place


def pooled(features: Float[Tensor, "b f h w"], ids: Int[Tensor, "b h w"]) -> Float[Tensor, "b f h w"]:
    """Each pixel has the mean over its instance (section 3.4's instance-wise average pooling)."""
    means, place = instance_means(features, ids)
    return means[place].movedim(-1, 1)


def k_means(
    points: Float[Tensor, "n f"], clusters: int, generator: torch.Generator, rounds: int = 100
) -> Float[Tensor, "k f"]:
    """Centres of min(clusters, n) clusters: k-means++ (Arthur & Vassilvitskii, SODA 2007), then Lloyd's steps until no
    point changes its centre, at most `rounds`. Fewer centres where fewer points differ."""
    chosen = [points[int(torch.randint(len(points), (1,), generator=generator))]]
    while len(chosen) < min(clusters, len(points)):
        nearest = torch.cdist(points, torch.stack(chosen)).square().amin(1).double().cpu()
        if not bool((nearest > 0).any()):
            break
        chosen.append(points[int(torch.multinomial(nearest, 1, generator=generator))])
    centres = torch.stack(chosen)
    last = torch.full((len(points),), -1, device=points.device)
    for _ in range(rounds):
        nearest = (points[:, None] - centres).square().sum(2).argmin(1)
        if torch.equal(nearest, last):
            break
        last = nearest
        sizes = torch.bincount(nearest, minlength=len(centres))
        sums = torch.zeros_like(centres).index_add(0, nearest, points)
        centres = torch.where(sizes[:, None] > 0, sums / sizes.clamp_min(1)[:, None], centres)
    return centres
