"""The pulling-away term against a loop, BEGAN's controller against its closed form, energies that are not detached."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from models.common.seeds import seeded
from models.gans.networks.critic import AutoEncoder
from models.gans.networks.layers import Chain, linear
from models.gans.objectives.energies import Equilibrium, PullAway, pull_away
from models.gans.terms import Random, Round, Seen, Side
from models.group import Group

GROUP = Group()
NOTHING = Round(Side(torch.empty(0)), Side(torch.empty(0)), Random(seeded(0), GROUP), GROUP)


def codes() -> Tensor:
    return torch.randn(6, 5, generator=seeded("codes"), dtype=torch.float64) * 3


def loop(s: Tensor) -> float:
    rows, total = s.tolist(), 0.0
    for i, a in enumerate(rows):
        for j, b in enumerate(rows):
            if i != j:
                dot = sum(x * y for x, y in zip(a, b, strict=True))
                total += dot**2 / (sum(x * x for x in a) * sum(y * y for y in b))
    return total / (len(rows) * (len(rows) - 1))


def test_pull_away_is_the_mean_squared_cosine_of_pairs() -> None:
    assert float(pull_away(codes(), GROUP)) == pytest.approx(loop(codes()), rel=1e-12)
    alike = torch.tensor([[1.0, 2.0], [2.0, 4.0], [-3.0, -6.0]])
    assert float(pull_away(alike, GROUP)) == pytest.approx(1)  # opposite codes count as alike: the cosine is squared
    assert float(pull_away(torch.eye(4) * 7, GROUP)) == pytest.approx(0)  # with the diagonal it would be 1/4 or 1/3


@pytest.mark.parametrize(
    "wrong",
    [
        lambda s: (nn.functional.normalize(s) @ nn.functional.normalize(s).T).fill_diagonal_(0).sum() / 30,  # no square
        lambda s: (nn.functional.normalize(s) @ nn.functional.normalize(s).T).square().mean(),  # with the diagonal
        lambda s: (
            (nn.functional.normalize(s, dim=0) @ nn.functional.normalize(s, dim=0).T)  # over the batch
            .square()
            .fill_diagonal_(0)
            .sum()
            / 30
        ),
    ],
)
def test_the_check_sees_wrong_versions(wrong: object) -> None:
    assert float(wrong(codes())) != pytest.approx(loop(codes()), rel=1e-2)  # type: ignore[operator]


def test_pull_away_is_the_generators_alone() -> None:
    term, seen = PullAway(0.1), Seen({"code": codes()}, {"code": codes()}, {})
    assert term.critic(seen, NOTHING) == {}
    assert float(term.generator(seen, NOTHING)["pull_away"]) == pytest.approx(0.1 * loop(codes()))
    with pytest.raises(ValueError, match="--pull-away-weight 0"):
        PullAway(0)


def tensor(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


@pytest.mark.parametrize(("real", "fake", "steps"), [(0.2, 0.05, 300), (0.2, 0.15, 300), (2.0, 0.1, 2000)])
def test_the_controllers_closed_form(real: float, fake: float, steps: int) -> None:
    """Constant energies: k_t = clip(t rate (gamma L_x - L_g))."""
    term = Equilibrium(0.5, 1e-3)
    for _ in range(steps):
        # The critic's own fakes have another energy: they do not move k.
        found = term.after({"real": tensor(real), "fake": tensor(-99.0)}, {"fake": tensor(fake)})
    wanted = min(max(steps * 1e-3 * (0.5 * real - fake), 0.0), 1.0)
    assert float(term.k) == pytest.approx(wanted, abs=1e-12) and float(found["k"]) == float(term.k)
    assert float(found["m_global"]) == pytest.approx(real + abs(0.5 * real - fake))
    assert float(found["balance"]) == pytest.approx(fake / real)


def test_k_weighs_the_critics_fakes_and_starts_at_none() -> None:
    term = Equilibrium()
    seen = Seen({"energy": torch.tensor([1.0, 3.0])}, {"energy": torch.tensor([4.0, 6.0], requires_grad=True)}, {})
    assert float(term.critic(seen, NOTHING)["fake"].detach()) == 0 and float(term.k) == 0
    term.k.fill_(0.25)
    losses = term.critic(seen, NOTHING)
    assert float(losses["fake"].detach()) == -1.25 and float(losses["real"]) == 2
    assert float(term.generator(seen, NOTHING)["fake"].detach()) == 5
    assert list(term.state_dict()) == ["k"] and not term.k.requires_grad
    term.after({"real": losses["real"].detach()}, {"fake": tensor(0.5)})
    assert term.k.grad_fn is None


@pytest.mark.parametrize("gamma", [0.0, 1.5])
def test_a_gamma_that_is_none_is_refused(gamma: float) -> None:
    with pytest.raises(ValueError, match="--gamma"):
        Equilibrium(gamma)


def encoder(error: str) -> AutoEncoder:
    drawn = seeded("auto-encoder")
    flat = Chain([nn.Flatten(), linear(12, 4, drawn)])
    return AutoEncoder(flat, nn.Sequential(nn.Tanh(), linear(4, 12, drawn), nn.Unflatten(1, (3, 2, 2))), error).double()


def test_energies_are_a_samples_norm_or_mean() -> None:
    x = torch.randn(5, 3, 2, 2, generator=seeded("x"), dtype=torch.float64)
    for error in ("norm", "mean"):
        net = encoder(error)
        found = net(x, None, NOTHING.random)
        for i in range(5):
            apart = (found["picture"][i] - x[i]).detach().flatten().tolist()
            norm, mean = sum(v * v for v in apart) ** 0.5, sum(map(abs, apart)) / len(apart)
            assert float(found["energy"][i].detach()) == pytest.approx(norm if error == "norm" else mean, rel=1e-9)


def test_a_fake_moves_its_energy_both_ways() -> None:
    """d energy / dx by differences: through the reconstruction and as its target, neither detached."""
    x = torch.randn(1, 3, 2, 2, generator=seeded("x"), dtype=torch.float64, requires_grad=True)
    net = encoder("norm")
    assert torch.autograd.gradcheck(lambda v: net(v, None, NOTHING.random)["energy"], (x,))
