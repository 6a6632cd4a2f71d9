"""Weights at the start: signals keep their size through the depth; the learning rate's rise and fall."""

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models import pixelcnn
from models.common.seeds import seeded
from models.family import Facts
from models.pixelcnn import networks
from models.pixelcnn.conditional import Conditional
from models.pixelcnn.conditions import NOTHING
from models.pixelcnn.heads import scaled
from models.pixelcnn.training import rate

P = pixelcnn.PRESETS
# The papers' depths and kernels, fewer features.
RECIPES = {
    "mnist": P["mnist"],
    "imagenet32": replace(P["imagenet32"], features=48, head_features=24, layers=15),
    "mixture": replace(P["cifar10-mixture"], features=48, head_features=24),
    "cifar10": replace(P["cifar10"], features=48, head_features=24),
    "mnist-plain": P["mnist-plain"],
}


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4, 5)])
def test_a_level_is_read_as_its_value_and_its_own_numbers(shape: tuple[int, ...]) -> None:
    """Against a loop over pixels and channels; whole images, and a single pixel of each as the cached sampler has."""
    read = networks.Levels(7, 2, seeded("levels"))
    x = torch.randint(0, 7, shape, generator=seeded("pictures"))
    found = read(x, torch.float32)
    assert found.shape == (2, 9, *shape[2:])
    assert read.table is not None
    for at in itertools.product(*map(range, shape)):
        b, c, rest = at[0], at[1], at[2:]
        wanted = torch.cat([torch.tensor([int(x[at]) / 3 - 1]), read.table[x[at]]])
        assert torch.allclose(found[(b, slice(3 * c, 3 * c + 3), *rest)], wanted, atol=1e-6)
    plain = networks.Levels(7, 0, seeded("levels"))
    assert torch.equal(plain(x, torch.float32), scaled(x, 7)) and not list(plain.parameters())


@pytest.mark.parametrize("embedding", [0, 3])
def test_grey_activations_and_their_gradients_lie_channels_last(embedding: int) -> None:
    """Which makes a step on a CPU nearly twice as fast in bfloat16; what is computed is the same either way."""
    model = Conditional(replace(P["tiny"], embedding=embedding), Facts()).model
    last: list[bool] = []

    def look(y: Tensor) -> None:
        last.append(y.is_contiguous(memory_format=torch.channels_last))

    def keep(_: nn.Module, __: Any, out: Tensor) -> None:
        look(out)
        out.register_hook(look)

    assert isinstance(model.net, networks.Gated)
    for layer in model.net.parts:
        layer.rows.register_forward_hook(keep)
        layer.beside.register_forward_hook(keep)
    model.log_prob(torch.zeros(2, 1, 8, 8, dtype=torch.int64)).sum().backward()  # type: ignore[no-untyped-call]
    assert len(last) > 2 * len(model.net.parts) and all(last)


def test_the_gate_s_gain() -> None:
    """E tanh^2 E sigmoid^2 by Gauss and Hermite's quadrature."""
    z, weight = np.polynomial.hermite_e.hermegauss(100)
    weight = weight / weight.sum()
    wanted = ((weight * np.tanh(z) ** 2).sum() * (weight / (1 + np.exp(-z)) ** 2).sum()) ** -0.5
    assert pytest.approx(wanted, rel=1e-4) == networks.GATED


def sizes(recipe: pixelcnn.Config, x: Tensor) -> dict[str, list[float]]:
    """Root mean squares through the depth: `rows`, the vertical stack's before its gate; `line`, the horizontal
    stack's, or the plain network's between its blocks; `head`, the head's numbers."""
    model = Conditional(recipe, Facts()).model
    found: dict[str, list[float]] = {"rows": [], "line": [], "head": []}

    def keep(name: str, part: nn.Module) -> None:
        def hook(_: nn.Module, __: Any, out: Any) -> None:
            y = out[-1] if isinstance(out, tuple) else out
            found[name].append(float(y.square().mean().sqrt()))

        part.register_forward_hook(hook)

    if isinstance(model.net, networks.Gated):
        for layer in model.net.parts:
            keep("rows", layer.rows)
            keep("line", layer)
    else:
        keep("line", model.net.first)
        for block in model.net.parts:
            keep("line", block)
    keep("head", model.net.output)
    with torch.no_grad():
        model(x, NOTHING)
    return found


def strokes(recipe: pixelcnn.Config) -> Tensor:
    """Levels that are the darkest or the brightest: mean square 1, which the weights are for."""
    x = torch.rand(4, recipe.channels, *recipe.frame, generator=seeded("strokes")) < 0.2
    return x.long() * (recipe.levels - 1)


@pytest.mark.parametrize("name", RECIPES)
def test_signals_stay_within_a_factor_of_2_over_the_depth(name: str) -> None:
    found = sizes(RECIPES[name], strokes(RECIPES[name]))
    for stack in ("rows", "line"):
        values = found[stack]
        if values:
            assert max(values) / min(values) < 2 and 0.6 < values[0] < 1.3, (stack, values)
    assert found["head"][0] < 0.3


def test_without_the_gate_s_gain_they_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "GATED", 1.0)
    found = sizes(RECIPES["mnist"], strokes(RECIPES["mnist"]))
    assert found["rows"][-1] < found["rows"][0] / 20


def test_the_rate_rises_and_falls() -> None:
    recipe = replace(P["mnist"], batch=10, images=1000, rate=2.0, rate_decay=1.0, rate_rise=100, rate_fall=400)
    assert [rate(recipe, n) for n in (0, 40, 90, 500, 600, 800, 990)] == pytest.approx([0.2, 1, 2, 2, 2, 1, 0.05])
    plain = replace(recipe, rate_rise=0, rate_fall=0, rate_decay=0.5)
    assert [rate(plain, n) for n in (0, 10, 30)] == [2, 1, 0.25]
    with pytest.raises(ValueError, match="--rate-rise 700, --rate-fall 400: more than --images 1000"):
        pixelcnn.check(replace(recipe, rate_rise=700))
    with pytest.raises(ValueError, match=r"--beta2 1\.0"):
        pixelcnn.check(replace(recipe, beta2=1.0))
