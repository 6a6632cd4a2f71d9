"""The GAN studies: their closed forms, and each once from end to end at a size of seconds."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

import models.gans
from jobs.study import gans, gans_exact, gans_labels, gans_mnist, gans_random
from jobs.study.games import circles, equilibria, lines, mixture
from jobs.study.games import digits as digits_of
from jobs.study.games.masses import point_masses
from models.common.seeds import seeded
from models.gans.objectives.divergences import DIVERGENCES
from models.gans.rules import OBJECTIVES
from models.gans.terms import Random
from models.group import Group
from pipeline.evaluation.coverage import ModeFigures
from pipeline.runs import checkpoint


@pytest.mark.parametrize("name", sorted(mixture.PUBLISHED))
def test_the_mixture_gives_the_published_table(name: str) -> None:
    """All 15 numbers of f-GAN's table 3 (mean, deviation, divergence) to 0.001."""
    assert mixture.optimum(name) == pytest.approx(mixture.PUBLISHED[name], abs=1e-3)


def test_the_divergences_of_two_gaussians_in_closed_form(monkeypatch: pytest.MonkeyPatch) -> None:
    """KL(N(a, s) || N(b, t)) = log(t / s) + (s^2 + (a - b)^2) / (2 t^2) - 1/2, and the reverse."""
    monkeypatch.setattr(mixture, "MEANS", (1.0, 1.0))
    monkeypatch.setattr(mixture, "DEVIATIONS", (1.5, 1.5))

    def kl(a: float, s: float, b: float, t: float) -> float:
        return math.log(t / s) + (s**2 + (a - b) ** 2) / (2 * t**2) - 0.5

    for name, wanted in (("kl", kl(1, 1.5, 0, 2)), ("reverse-kl", kl(0, 2, 1, 1.5))):
        assert mixture.divergence(DIVERGENCES[name], 0.0, 2.0) == pytest.approx(wanted, abs=1e-6)
    both = kl(1, 1.5, 0, 2) + kl(0, 2, 1, 1.5)
    assert mixture.divergence(DIVERGENCES["jeffrey"], 0.0, 2.0) == pytest.approx(both, abs=1e-6)


def test_a_trained_critic_between_two_point_masses() -> None:
    gap, slope = point_masses(1.0, 1.0, 400, 0)
    assert gap == pytest.approx(1.5, rel=0.03) and slope == pytest.approx(1.5, rel=0.03)


def test_the_exact_study_runs(tmp_path: Path) -> None:
    short = gans_exact.Config(
        ("kl",),
        steps=8,
        batch=32,
        penalty_settings=((1.0, 1.0),),
        penalty_steps=20,
        information_steps=10,
        equilibrium_steps=10,
        gammas=(0.5,),
        circles_inner=(0.3,),
        circles_seeds=(0,),
        circles_steps=5,
        lines=(0.0, 1.0),
        lines_steps=10,
        folder=str(tmp_path),
    )
    found = gans_exact.run(short)
    assert {"fgan_max_error", "wgan_gp_max_error", "information_bound", "lines/1.0/wasserstein"} <= found.keys()
    assert {
        "lsgan_max_error",
        "ebgan_error",
        "began_max_error",
        "circles_error/0.3/0",
        "circles_solved/0.3",
    } <= found.keys()
    assert all(np.isfinite(list(found.values())))
    # Nothing is fitted after eight steps: the figures can fail.
    assert found["fgan_max_error"] > 0.1 and found["ebgan_error"] > 0.1
    assert {p.name for p in tmp_path.iterdir()} == {"lines.png", "circles.png"}


def test_the_closed_forms_of_the_lines_by_counting() -> None:
    """W_1, TV and JS of two histograms on a grid, one a translate of the other."""
    for theta in (-2, 0, 3):
        p, q = np.eye(9)[3], np.eye(9)[3 + theta]
        wanted = lines.closed_forms(theta)
        assert np.abs(np.cumsum(p - q)).sum() == wanted["wasserstein"]
        assert np.abs(p - q).sum() / 2 == wanted["total-variation"]
        m = (p + q) / 2
        parts = [(a[a > 0] * np.log(a[a > 0] / m[a > 0])).sum() / 2 for a in (p, q)]
        assert sum(parts) == pytest.approx(wanted["jensen-shannon"])
        assert (wanted["kl"] == math.inf) == bool((q[p > 0] == 0).any())


def test_circles_lie_at_their_radii() -> None:
    x, y = circles.circles(2000, 0.3, seeded(0))
    for number, radius in enumerate((1.0, 0.3)):
        apart = x[y == number].norm(dim=1)
        assert float(apart.square().mean().sqrt()) == pytest.approx(math.hypot(radius, circles.NOISE), rel=0.01)
        assert float(apart.std()) == pytest.approx(circles.NOISE, rel=0.1)


@pytest.mark.parametrize(
    ("inner", "reach", "apart"), [(0.3, circles.REACH, True), (0.5, circles.REACH, False), (0.3, 5, False)]
)
def test_what_grows_fastest_tells_circles_apart(inner: float, reach: float, apart: bool) -> None:
    """The leading eigenfunction of the critic's first kernel, weighted as Var f(x) - E f(G)^2: inner against outer for
    the study's setting, a cut through both with a larger inner circle or a wide kernel."""
    drawn = seeded("growth")
    x, y = circles.circles(400, inner, drawn)
    points = torch.cat([x, torch.randn(400, 2, generator=drawn)]).double()
    kernel = (-torch.cdist(points, points).square() / (2 * reach**2)).exp()
    weights = torch.zeros(800, 800, dtype=torch.float64)
    weights[:400, :400] = (torch.eye(400) - 1 / 400) / 400
    weights[400:, 400:] = -torch.eye(400) / 400
    values, vectors = torch.linalg.eig(kernel @ weights)
    f = vectors[:400, values.real.argmax()].real
    together = float(torch.corrcoef(torch.stack([f, y.double()]))[0, 1].abs())
    assert together > 0.95 if apart else together < 0.6


def test_waves_are_features_of_a_gaussian_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """2 mean cos(w a + b) cos(w b + b) -> exp(-|a - b|^2 / (2 REACH^2))."""
    monkeypatch.setattr(circles, "FEATURES", 100_000)
    x = torch.tensor([[0.0, 0.0], [0.3, 0.0], [0.2, -0.5], [2.0, 1.0]])
    found = circles.Waves(seeded("waves"))(x, None, Random(seeded(0), Group())).detach()
    wanted = (-torch.cdist(x, x).square() / (2 * circles.REACH**2)).exp()
    assert torch.allclose(2 * found @ found.T / 100_000, wanted, atol=0.02)


def test_began_keeps_its_ratio() -> None:
    """With a k off its bounds; the closed form of k holds to rounding."""
    found = equilibria.balances(400, (0.7,), 0)
    assert 0 < found["began/0.7/least_k"] <= found["began/0.7/k"] <= found["began/0.7/greatest_k"] < 1
    assert found["began_max_residual"] < 1e-6 and found["began_max_error"] < 0.15


def test_the_modes_study_runs_and_trains_no_run_twice(tmp_path: Path, no_ray: None) -> None:
    config = gans.Config(("ring",), objectives=("lsgan", "sgan"), seeds=(0,), steps=3, count=160, folder=str(tmp_path))
    first = gans.run(config)
    weights = tmp_path / "ring-sgan-0" / "weights.pt"
    made = weights.stat().st_mtime_ns
    again = gans.run(config)
    assert weights.stat().st_mtime_ns == made and again == first
    assert 0 <= first["ring/lsgan/captured"] <= 8 and (tmp_path / "ring.png").exists()
    with pytest.raises(ValueError, match="--objectives nosuch: choose among minimax"):
        gans.run(dataclasses.replace(config, objectives=("nosuch",)))
    assert json.loads((tmp_path / "ring-lsgan-0" / "run.json").read_text())["name"] == "ring-lsgan-0"


def test_every_run_of_the_table_is_a_recipe_that_fits() -> None:
    from models.gans import check

    for layout in ("ring", "grid"):
        for objective in gans.SETTINGS:
            check(gans.recipe_of(layout, objective, 10, 0))
    assert {n for n in OBJECTIVES if not n.startswith("fgan-")} - gans.SETTINGS.keys() == {"lsgan-pearson", "salimans"}


@pytest.fixture
def digits(tmp_path: Path) -> str:
    """A small set in MNIST's form."""
    random = np.random.default_rng(0)
    y = (np.arange(5600) % 10).astype(np.uint8)
    x = (random.integers(0, 60, (5600, 28, 28)) + 20 * y[:, None, None]).clip(0, 255).astype(np.uint8)
    np.savez(tmp_path / "m.npz", x_train=x, y_train=y, x_test=x[:40], y_test=y[:40])
    return str(tmp_path / "m.npz")


@pytest.mark.long
def test_the_study_of_digits_runs(digits: str, tmp_path: Path, no_ray: None) -> None:
    config = gans_mnist.Config(
        digits,
        ("infogan", "ebgan", "catgan"),
        ("salimans",),
        share=0.002,
        classifier_steps=5,
        folder=str(tmp_path / "out"),
    )
    found = gans_mnist.run(config)
    assert 0 <= found["salimans/error_100_labels"] <= 1 and found["infogan/frechet"] > 0
    assert "infogan/asked" not in found  # its codes have no names
    assert 0 <= found["catgan/error_without_labels"] <= 1
    assert (tmp_path / "out" / "mnist.png").exists()
    weights = tmp_path / "out" / "ebgan-0" / "weights.pt"
    made = weights.stat().st_mtime_ns
    again = gans_mnist.run(config)
    assert weights.stat().st_mtime_ns == made and again["ebgan/frechet"] == found["ebgan/frechet"]
    with pytest.raises(ValueError, match="--labels lsgan: choose among catgan, sgan, salimans"):
        gans_mnist.run(dataclasses.replace(config, labels=("lsgan",)))


@pytest.mark.long
def test_the_study_of_labels_runs(digits: str, tmp_path: Path, no_ray: None) -> None:
    config = gans_labels.Config(digits, each=(2,), seeds=(0,), steps=3, folder=str(tmp_path / "out"))
    found = gans_labels.run(config)
    assert {"20/cnn", "20/sgan", "20/sgan_spread"} <= found.keys()
    start = models.gans.build(digits_of.recipe_of("sgan", 3, digits_of.LABELS["sgan"][1], 0), Group())
    for kind, still in (("cnn", True), ("sgan", False)):
        family, _ = checkpoint.restore(str(tmp_path / "out" / f"{kind}-2-0"))
        pairs = zip(family.generator.parameters(), start.generator.parameters(), strict=True)
        assert all(bool((a == b).all()) for a, b in pairs) == still


def test_every_recipe_of_digits_fits() -> None:
    from models.gans import check

    for table in (digits_of.SETTINGS, digits_of.LABELS):
        for name, (steps, changes) in table.items():
            check(digits_of.recipe_of(name, steps, changes, 0))


def test_random_architectures_are_counted_at_each_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run counts from its number of modes and its quality down."""
    found = {
        ("nonsaturating", 0): ModeFigures(8, 0.5, 0.0),
        ("wgan-gp", 0): ModeFigures(4, 0.9, 0.0),
        ("nonsaturating", 1): ModeFigures(8, 0.49, 0.0),
        ("wgan-gp", 1): ModeFigures(6, 0.6, 0.0),
    }
    monkeypatch.setattr(gans_random, "trained", lambda objective, _, layout, number, steps: found[objective, number])
    figures = gans_random.run(gans_random.Config(architectures=2, steps=1))
    names = ("gan", "wgan_gp", "both", "neither")
    counts = {bar: [figures[f"{bar}/0.5/{name}"] for name in names] for bar in (2, 4, 6, 8)}
    assert counts == {2: [0, 1, 1, 0], 4: [0, 1, 1, 0], 6: [1, 1, 0, 0], 8: [1, 0, 0, 1]}
    assert [figures[f"8/0.1/{name}"] for name in names] == [2, 0, 0, 0]


def test_a_random_architecture_is_trained_with_each_objectives_own_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    built = []
    build = models.gans.build
    monkeypatch.setattr(models.gans, "build", lambda recipe, group: built.append(recipe) or build(recipe, group))
    for objective in gans_random.OBJECTIVES:
        gans_random.trained(objective, gans_random.architecture(3), "ring", 3, 2)
    assert gans_random.architecture(3) == gans_random.architecture(3) != gans_random.architecture(4)
    for recipe in built:
        assert all(getattr(recipe, name) == value for name, value in gans_random.architecture(3).items())
    assert [recipe.critic_steps for recipe in built] == [1, 5]
    assert [recipe.objective for recipe in built] == list(gans_random.OBJECTIVES)
