"""Whole games played to their equilibria, where losses take known values whatever the data."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from jobs.study.games.players import Affine, adam_game, perceptron
from models.common.seeds import seeded
from models.gans.game import Latent, alternating, simultaneous
from models.gans.networks.critic import AutoEncoder
from models.gans.networks.layers import Chain, lecun, linear
from models.gans.networks.perceptron import Maker
from models.gans.objectives.energies import Equilibrium
from models.gans.objectives.scores import Adversarial, hinge_energy, least_squares
from models.gans.terms import Losses, Random, Side, Term
from models.group import Group

MARGIN = 1.0
"""EBGAN's."""
RATE = 2e-3
"""Of both players of LSGAN and EBGAN; it falls evenly to a hundredth over the game."""
BATCH = 256
LATE = 0.1
"""Share of the steps, at the end, whose losses are averaged."""
K_RATE = 3e-2
"""BEGAN's lambda_k: thirty times the paper's, for short games."""
BALANCE_RATE = 1e-3
"""Of BEGAN's players, all along: k follows them."""
BALANCE_BATCH = 128
BALANCE_LATE = 0.75
"""As `LATE`, of BEGAN: long against k's swings."""
INPUTS, CODE, WIDTH = 8, 4, 64
"""BEGAN's numbers of a sample, its code's, and the hidden layers' of both players."""


def equilibria(steps: int, gammas: Sequence[float], seed: int) -> dict[str, float]:
    """Means over the last steps of each game.

    - LSGAN (0, 1, 1), data N(2, 1/4), a generator of two numbers: critic 1/4, generator 1/8;
    - EBGAN, the same: the critic's loss is the margin, 1;
    - BEGAN: see `balances`.
    """
    found = _pair(Adversarial(least_squares()), perceptron(1, (64, 64), "tanh", seeded(seed, "lsgan")), steps, seed)
    figures = {"lsgan/critic": found["critic/loss"], "lsgan/generator": found["generator/loss"]}
    print(f"LSGAN: critic {figures['lsgan/critic']:.4f} (0.25), generator {figures['lsgan/generator']:.4f} (0.125)")
    critic = _auto_encoder(1, 64, 1, nn.Tanh, "norm", seeded(seed, "ebgan"))
    found = _pair(Adversarial(hinge_energy(MARGIN), "energy", threshold=None), critic, steps, seed)
    figures["ebgan/critic"] = found["critic/loss"]
    print(f"EBGAN: critic {figures['ebgan/critic']:.4f} ({MARGIN:g})", flush=True)
    figures["lsgan_max_error"] = max(abs(figures["lsgan/critic"] - 1 / 4), abs(figures["lsgan/generator"] - 1 / 8))
    figures["ebgan_error"] = abs(figures["ebgan/critic"] - MARGIN)
    return figures | balances(steps, gammas, seed)


def balances(steps: int, gammas: Sequence[float], seed: int) -> dict[str, float]:
    """BEGAN's balance: the mean energies of fakes and data have ratio gamma, while k stays within (0, 1).

    Over n steps without clipping k moves by lambda_k times the sum of gamma L(x) - L(G). So the ratio of the means is
    gamma - (k's move) / (lambda_k n mean L(x)): exactly, which `began_max_residual` measures, and k's move is bounded.
    Where k rests at 0 the critic does not oppose the fakes, and nothing sets the ratio: so it is with data of one
    number, as an auto-encoder copies any number. Here the code is narrower than the data, N(0, 1) in `INPUTS`
    dimensions: data keep an energy, and the generator could go below it.
    """
    figures, errors, residuals = dict[str, float](), [0.0], [0.0]
    for gamma in gammas:
        drawn = seeded(seed, "began")
        critic = _auto_encoder(INPUTS, WIDTH, CODE, nn.ELU, "mean", drawn)
        maker = Maker(INPUTS, (WIDTH, WIDTH), (INPUTS,), drawn, bounded=False)
        game = adam_game(maker, critic, Equilibrium(gamma, K_RATE), Latent(INPUTS), (BALANCE_RATE, BALANCE_RATE))

        def deal(drawn: torch.Generator = drawn) -> tuple[Side, None]:
            return Side(torch.randn(BALANCE_BATCH, INPUTS, generator=drawn)), None

        random, late, ks = Random(drawn, Group()), list[Losses](), [0.0]
        for step in range(steps):
            found = simultaneous(game, deal, step, BALANCE_BATCH, random)
            ks.append(float(found["k"]))
            late.append(found)
        late, ks = late[-round(BALANCE_LATE * steps) :], ks[-round(BALANCE_LATE * steps) - 1 :]
        means, least, greatest = _means(late), min(ks), max(ks)
        ratio = means["generator/fake"] / means["critic/real"]
        wanted = gamma - (ks[-1] - ks[0]) / (K_RATE * len(late) * means["critic/real"])
        figures |= {f"began/{gamma}/ratio": ratio, f"began/{gamma}/k": means["k"]}
        figures |= {f"began/{gamma}/least_k": least, f"began/{gamma}/greatest_k": greatest}
        print(f"BEGAN gamma {gamma}: ratio {ratio:.4f}, k {means['k']:.4f} ({least:.4f} to {greatest:.4f})", flush=True)
        errors.append(abs(ratio / gamma - 1))
        residuals.append(abs(ratio - wanted))
    return {**figures, "began_max_error": max(errors), "began_max_residual": max(residuals)}


def _auto_encoder(
    inputs: int, width: int, code: int, act: type[nn.Module], error: str, drawn: torch.Generator
) -> AutoEncoder:
    encoder = Chain([linear(inputs, width, drawn, lecun), act(), linear(width, code, drawn, lecun)])
    decoder = nn.Sequential(linear(code, width, drawn, lecun), act(), linear(width, inputs, drawn, lecun))
    return AutoEncoder(encoder, decoder, error)


def _pair(term: Term, critic: nn.Module, steps: int, seed: int) -> dict[str, float]:
    """Mean losses of a game of `critic` and N(mean, deviation^2) on N(2, 1/4)."""
    drawn = seeded(seed, "equilibrium")
    game = adam_game(Affine(), critic, term, Latent(1), (RATE, RATE))

    def deal() -> tuple[Side, None]:
        return Side(2 + 0.5 * torch.randn(BATCH, 1, generator=drawn)), None

    random, late = Random(drawn, Group()), list[Losses]()
    for step in range(steps):
        for optimiser in (game.critic_optimiser, game.generator_optimiser):
            optimiser.param_groups[0]["lr"] = RATE * (1 - 0.99 * step / steps)
        found = alternating(game, deal, step, BATCH, random)
        if step >= (1 - LATE) * steps:
            late.append(found)
    return _means(late)


def _means(late: Sequence[Losses]) -> dict[str, float]:
    means: dict[str, Tensor] = {k: torch.stack([one[k].double() for one in late]).mean() for k in late[0]}
    return {k: float(v) for k, v in means.items()}
