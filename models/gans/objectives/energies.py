"""Games of an auto-encoder's reconstruction error: BEGAN's equilibrium, EBGAN's pulling-away term."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from models.gans.terms import Losses, Round, Seen, Term
from models.group import Group


def pull_away(codes: Tensor, group: Group) -> Tensor:
    """1 / (N (N - 1)) sum over i != j of cos(S_i, S_j)^2 (Zhao et al. 2017, eq. 3), over the whole batch.

    Args:
        codes: `B S`, encoder outputs before any normalisation.
    """
    s = F.normalize(group.gather(codes), dim=1)
    n = len(s)
    squares = (s @ s.T).square()
    return (squares.sum() - squares.diagonal().sum()) / (n * (n - 1))


class PullAway(Term):
    """weight * `pull_away` of the fakes' codes, in the generator's loss alone."""

    heads = frozenset({"code"})

    def __init__(self, weight: float = 0.1) -> None:
        super().__init__()
        if weight <= 0:
            raise ValueError(f"--pull-away-weight {weight}: give more than 0")
        self.weight = weight

    def generator(self, seen: Seen, round: Round) -> Losses:
        return {"pull_away": self.weight * pull_away(seen.fake["code"], round.group)}


def proportional(k: Tensor, rate: float, gamma: float, real: Tensor, fake: Tensor) -> Tensor:
    """k + rate (gamma real - fake), kept in [0, 1] (Berthelot et al. 2017, section 3.4)."""
    return (k + rate * (gamma * real - fake)).clamp(0, 1)


def global_measure(gamma: float, real: Tensor, fake: Tensor) -> Tensor:
    """M = L(x) + |gamma L(x) - L(G)| (Berthelot et al. 2017, section 3.4.1)."""
    return real + (gamma * real - fake).abs()


class Equilibrium(Term):
    """BEGAN: the critic minimises L(x) - k L(G(z_D)), the generator L(G(z_G)); k keeps L(G) / L(x) at gamma.

    k follows the generator step's fakes; `m_global` is of the k before. Energies are means over a picture's pixels:
    `rate` is 0.001 for those.
    """

    heads = frozenset({"energy"})
    k: Tensor

    def __init__(self, gamma: float = 0.5, rate: float = 1e-3) -> None:
        super().__init__()
        if not 0 < gamma <= 1:
            raise ValueError(f"--gamma {gamma}: give a number above 0 and up to 1")
        self.gamma, self.rate = gamma, rate
        self.register_buffer("k", torch.zeros((), dtype=torch.float64))

    def critic(self, seen: Seen, round: Round) -> Losses:
        return {
            "real": seen.real["energy"].mean(),
            "fake": -self.k.to(seen.fake["energy"]) * seen.fake["energy"].mean(),
        }

    def generator(self, seen: Seen, round: Round) -> Losses:
        return {"fake": seen.fake["energy"].mean()}

    def after(self, critic: Losses, generator: Losses) -> Losses:
        real, fake = critic["real"], generator["fake"]
        found = {"m_global": global_measure(self.gamma, real, fake), "balance": fake / real}
        self.k.copy_(proportional(self.k, self.rate, self.gamma, real, fake))
        return {**found, "k": self.k.clone()}
