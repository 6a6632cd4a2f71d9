"""Whole games played to their equilibria, where losses take known values whatever the data."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from jobs.study.games.players import Affine, adam_game, perceptron
from models.common.seeds import seeded
from models.gans.game import Latent, Stepper, alternating, simultaneous
from models.gans.networks.critic import AutoEncoder
from models.gans.networks.layers import Chain, lecun, linear
from models.gans.objectives.energies import Equilibrium
from models.gans.objectives.scores import Adversarial, hinge_energy, least_squares
from models.gans.terms import Losses, Random, Side, Term
from models.group import Group

MARGIN = 1.0
"""EBGAN's."""
K_RATE = 1e-2
"""BEGAN's lambda_k: ten times the paper's, for short games."""
RATE = 2e-3
"""Of both players; it falls evenly to a hundredth over the game."""
BATCH = 256


def equilibria(steps: int, gammas: Sequence[float], seed: int) -> dict[str, float]:
    """Data N(2, 1/4), a generator of two numbers: means over the last tenth of each game.

    - LSGAN (0, 1, 1): critic 1/4, generator 1/8;
    - EBGAN: the critic's loss is the margin, 1;
    - BEGAN: energies of fakes and data have ratio gamma.
    """
    found = _played(Adversarial(least_squares()), perceptron(1, (64, 64), "tanh", seeded(seed, "lsgan")), steps, seed)
    figures = {"lsgan/critic": found["critic/loss"], "lsgan/generator": found["generator/loss"]}
    print(f"LSGAN: critic {figures['lsgan/critic']:.4f} (0.25), generator {figures['lsgan/generator']:.4f} (0.125)")
    critic = _auto_encoder("norm", seeded(seed, "ebgan"))
    found = _played(Adversarial(hinge_energy(MARGIN), "energy", threshold=None), critic, steps, seed)
    figures["ebgan/critic"] = found["critic/loss"]
    print(f"EBGAN: critic {figures['ebgan/critic']:.4f} ({MARGIN:g})", flush=True)
    errors = [0.0]
    for gamma in gammas:
        critic = _auto_encoder("mean", seeded(seed, "began"))
        found = _played(Equilibrium(gamma, K_RATE), critic, steps, seed, simultaneous)
        ratio = found["generator/fake"] / found["critic/real"]
        figures |= {f"began/{gamma}/ratio": ratio, f"began/{gamma}/k": found["k"]}
        print(f"BEGAN gamma {gamma}: ratio {ratio:.4f}, k {found['k']:.4f}", flush=True)
        errors.append(abs(ratio - gamma))
    figures["lsgan_max_error"] = max(abs(figures["lsgan/critic"] - 1 / 4), abs(figures["lsgan/generator"] - 1 / 8))
    figures["ebgan_error"] = abs(figures["ebgan/critic"] - MARGIN)
    figures["began_max_error"] = max(errors)
    return figures


def _auto_encoder(error: str, drawn: torch.Generator) -> AutoEncoder:
    encoder = Chain([linear(1, 64, drawn, lecun), nn.Tanh(), linear(64, 1, drawn, lecun)])
    decoder = nn.Sequential(linear(1, 64, drawn, lecun), nn.Tanh(), linear(64, 1, drawn, lecun))
    return AutoEncoder(encoder, decoder, error)


def _played(term: Term, critic: nn.Module, steps: int, seed: int, stepper: Stepper = alternating) -> dict[str, float]:
    """The log's values, means over the last tenth."""
    drawn = seeded(seed, "equilibrium")
    game = adam_game(Affine(), critic, term, Latent(1), (RATE, RATE))

    def deal() -> tuple[Side, None]:
        return Side(2 + 0.5 * torch.randn(BATCH, 1, generator=drawn)), None

    random, late = Random(drawn, Group()), list[Losses]()
    for step in range(steps):
        for optimiser in (game.critic_optimiser, game.generator_optimiser):
            optimiser.param_groups[0]["lr"] = RATE * (1 - 0.99 * step / steps)
        found = stepper(game, deal, step, BATCH, random)
        if step >= 0.9 * steps:
            late.append(found)
    means: dict[str, Tensor] = {k: torch.stack([one[k].double() for one in late]).mean() for k in late[0]}
    return {k: float(v) for k, v in means.items()}
