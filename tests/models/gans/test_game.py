"""Steppers: who steps when, on which weights and on what data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.common.seeds import seeded
from models.gans.game import Game, Latent, alternating, bursts, every, simultaneous
from models.gans.objectives.penalties import ClipWeights
from models.gans.objectives.scores import Adversarial, wasserstein
from models.gans.terms import Heads, Random, Side
from models.group import Group

GROUP = Group()


class Maker(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.tensor([1.0], dtype=torch.float64))

    def forward(self, z: Tensor) -> Tensor:
        return z * self.theta


class Critic(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([0.5], dtype=torch.float64))

    def forward(self, x: Tensor, y: Tensor | None, random: Random) -> Heads:
        return {"score": (x * self.w)[:, 0]}


def game(log: list[str], **changes: Any) -> Game:
    g, c = Maker(), Critic()
    optimisers = [torch.optim.SGD(net.parameters(), lr=0.1) for net in (g, c)]
    for name, optimiser in zip(("G", "D"), optimisers, strict=True):
        optimiser.register_step_post_hook(lambda *_, name=name: log.append(name))
    options: dict[str, Any] = {"terms": [Adversarial(wasserstein())], **changes}
    return Game(g, c, Latent(1), options.pop("terms"), optimisers[0], optimisers[1], GROUP, **options)


def deals(log: list[str]) -> Callable[[], tuple[Side, Side | None]]:
    def deal() -> tuple[Side, Side | None]:
        log.append("data")
        return Side(torch.full((4, 1), 3.0 + len(log), dtype=torch.float64)), None

    return deal


def random(step: int = 0) -> Random:
    return Random(seeded("step", step), GROUP)


def test_alternating_makes_all_critic_steps_first_on_fresh_data() -> None:
    log: list[str] = []
    alternating(game(log, schedule=every(3)), deals(log), 0, 4, random())
    assert log == ["data", "D", "data", "D", "data", "D", "G"]


def test_the_alternating_generator_meets_the_new_critic_the_simultaneous_one_the_old() -> None:
    """theta moves by rate * w * mean(z), w before or after its own step."""
    moved = {}
    for name, stepper in (("alternating", alternating), ("simultaneous", simultaneous)):
        log: list[str] = []
        played = game(log)
        w = float(played.critic.w.detach())  # type: ignore[arg-type]
        stepper(played, deals(log), 0, 4, random())
        draws = random()
        z = [draws.normal(4, 1).double() for _ in range(2)]
        new_w = w + 0.1 * float(4.0 - z[0].mean())  # real is 4 at the first draw
        assert float(played.critic.w.detach()) == pytest.approx(new_w, rel=1e-6)  # type: ignore[arg-type]
        moved[name] = (float(played.generator.theta.detach()) - 1) / (0.1 * float(z[1].mean()))  # type: ignore[arg-type]
        assert moved[name] == pytest.approx(new_w if name == "alternating" else w, rel=1e-6)
    assert moved["alternating"] != pytest.approx(moved["simultaneous"], rel=0.05)


def test_bursts_are_wgans() -> None:
    schedule = bursts(5)
    assert [schedule(s) for s in (0, 24, 25, 499, 500, 501, 1000)] == [100, 100, 5, 5, 100, 5, 100]


def test_constraints_run_after_each_critic_step() -> None:
    log: list[str] = []
    played = game(log, constraints=[ClipWeights(0.01)])
    alternating(played, deals(log), 0, 4, random())
    assert float(played.critic.w.detach()) == pytest.approx(0.01)  # type: ignore[arg-type]


def test_values_for_the_log() -> None:
    log: list[str] = []
    found = simultaneous(game(log), deals(log), 0, 4, random())
    assert {"critic/loss", "generator/loss", "critic/real", "critic/fake", "generator/fake", "spread"} <= found.keys()
    assert float(found["critic/loss"]) == pytest.approx(float(found["critic/real"] + found["critic/fake"]))
    assert all(not value.requires_grad for value in found.values())


def test_two_terms_may_not_share_a_name() -> None:
    with pytest.raises(AssertionError, match="both name a loss"):
        simultaneous(game([], terms=[Adversarial(wasserstein())] * 2), deals([]), 0, 4, random())


def test_latents_have_noise_a_class_and_codes_in_this_order() -> None:
    latent = Latent(3, normal=False, classes=4, codes=2)
    z, parts = latent.draw(500, Random(seeded("z"), GROUP))
    assert z.shape == (500, latent.width) == (500, 9)
    assert -1 <= float(z[:, :3].min()) < -0.9 and 0.9 < float(z[:, :3].max()) < 1
    assert torch.equal(z[:, 3:7].argmax(1), parts["class"]) and torch.equal(z[:, 3:7].sum(1), torch.ones(500))
    assert torch.bincount(parts["class"]).min() > 90
    assert torch.equal(z[:, 7:], parts["code"]) and float(parts["code"].std()) == pytest.approx(0.577, abs=0.03)
    y = torch.tensor([2] * 5)
    assert torch.equal(latent.draw(5, Random(seeded("z"), GROUP), y)[1]["class"], y)


def test_workers_draw_their_rows_of_the_whole() -> None:
    class Half(Group):
        def __init__(self, rank: int) -> None:
            super().__init__()
            self.rank, self.world = rank, 2

    latent = Latent(3, classes=4, codes=2)
    whole, parts = latent.draw(6, Random(seeded("z"), GROUP))
    halves = [latent.draw(3, Random(seeded("z"), Half(rank))) for rank in (0, 1)]
    assert torch.equal(torch.cat([z for z, _ in halves]), whole)
    assert torch.equal(torch.cat([p["class"] for _, p in halves]), parts["class"])
