"""Games of one score a sample: three elementwise functions each, and the term that averages them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from models.gans.terms import Losses, Round, Seen, Term

Fn = Callable[[Tensor], Tensor]


class ScoreRule(NamedTuple):
    """What is minimised, of each sample's score: the critic's loss on real and fake ones, the generator's on fakes."""

    real: Fn
    fake: Fn
    generator: Fn


def minimax() -> ScoreRule:
    """-log D(x), -log(1 - D(G)), for G log(1 - D(G)), D the sigmoid of the score (Goodfellow et al. 2014, eq. 1)."""
    return ScoreRule(lambda s: F.softplus(-s), F.softplus, lambda s: -F.softplus(s))


def nonsaturating() -> ScoreRule:
    """As `minimax`, but G minimises -log D(G) (Goodfellow et al. 2014, section 3)."""
    return minimax()._replace(generator=lambda s: F.softplus(-s))


def least_squares(a: float = 0.0, b: float = 1.0, c: float = 1.0) -> ScoreRule:
    """(s - b)^2 / 2, (s - a)^2 / 2, (s - c)^2 / 2 on linear scores (Mao et al. 2017, eq. 2). With (0, 1, 1) at
    equilibrium: s = 1/2, the critic's loss 1/4, the generator's 1/8."""
    return ScoreRule(
        lambda s: 0.5 * (s - b).square(), lambda s: 0.5 * (s - a).square(), lambda s: 0.5 * (s - c).square()
    )


def wasserstein() -> ScoreRule:
    """-f(x), f(G), -f(G): the critic's loss is minus its estimate of W_1 (Arjovsky et al. 2017, eq. 3)."""
    return ScoreRule(lambda s: -s, lambda s: s, lambda s: -s)


def hinge_energy(margin: float) -> ScoreRule:
    """e, [margin - e]^+ of each sample, and for G e (Zhao et al. 2017, eqs. 1 and 2). At the Nash equilibrium the
    critic's loss is `margin`. The margin is in the units of the energy: see `AutoEncoder`.

    Raises:
        ValueError: the margin is not positive.
    """
    if margin <= 0:
        raise ValueError(f"--margin {margin}: give more than 0")
    return ScoreRule(lambda e: e, lambda e: F.relu(margin - e), lambda e: e)


class Adversarial(Term):
    """The mean of a rule over the samples. Logged: `critic/real`, `critic/fake`, `generator/fake`."""

    def __init__(self, rule: ScoreRule, head: str = "score", measure: str = "", threshold: float | None = 0.0) -> None:
        """
        Args:
            measure: name under which minus the critic's loss is logged (`wasserstein`, or an f-GAN's bound); none: not.
            threshold: scores above it mean real, for the log's `critic/accuracy`; None: they have no such meaning.
        """
        super().__init__()
        self.rule, self.head, self.measure, self.threshold = rule, head, measure, threshold
        self.heads = frozenset({head})

    def critic(self, seen: Seen, round: Round) -> Losses:
        real, fake = seen.real[self.head], seen.fake[self.head]
        return {"real": self.rule.real(real).mean(), "fake": self.rule.fake(fake).mean()}

    def generator(self, seen: Seen, round: Round) -> Losses:
        return {"fake": self.rule.generator(seen.fake[self.head]).mean()}

    def watch(self, seen: Seen, round: Round) -> dict[str, Tensor]:
        real, fake = seen.real[self.head], seen.fake[self.head]
        found = {f"{self.head}/real": real.mean(), f"{self.head}/fake": fake.mean()}
        if self.threshold is not None:
            right = (real > self.threshold).double().mean() + (fake <= self.threshold).double().mean()
            found["critic/accuracy"] = right / 2
        return found

    def after(self, critic: Losses, generator: Losses) -> Losses:
        return {self.measure: -(critic["real"] + critic["fake"])} if self.measure else {}
