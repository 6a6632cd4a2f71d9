"""The objectives: one row each. A new one is its functions in `objectives`, a row here, and their test."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from models.gans.game import Stepper, alternating, simultaneous
from models.gans.objectives.classes import Categories, ClassTerm, FakeClass, FeatureMatching, ImplicitFake
from models.gans.objectives.codes import Information
from models.gans.objectives.divergences import DIVERGENCES, Divergence, weighted_jensen_shannon
from models.gans.objectives.energies import Equilibrium, PullAway
from models.gans.objectives.penalties import ClipWeights, GradientPenalty, Perturb, interpolate
from models.gans.objectives.scores import (
    Adversarial,
    ScoreRule,
    hinge_energy,
    least_squares,
    minimax,
    nonsaturating,
    wasserstein,
)
from models.gans.terms import Constraint, Penalty, Term

if TYPE_CHECKING:
    from models.gans.recipe import Config


@dataclass(frozen=True)
class Rules:
    """What an objective plays by."""

    terms: Sequence[Term]
    penalties: Sequence[Penalty] = ()
    constraints: Sequence[Constraint] = ()
    stepper: Stepper = alternating
    labels: Literal["none", "all", "some"] = "none"
    """Whose classes it needs: of no real sample, of each, of those in a stream of their own."""
    classes: bool = False
    """Whether the generator is given a class."""
    logits: int = 0
    """Outputs of the critic's head `logits`."""
    energy_error: str = ""
    """For critics that are auto-encoders: how they measure (`networks.critic.AutoEncoder`)."""

    @property
    def heads(self) -> frozenset[str]:
        """The critic's heads that the terms look at."""
        return frozenset().union(*(term.heads for term in self.terms))


def _score(rule: ScoreRule, threshold: float = 0.0) -> Rules:
    return Rules([Adversarial(rule, threshold=threshold)])


def _divergence(d: Divergence, heuristic: bool) -> Rules:
    term = Adversarial(d.rule(heuristic), measure="bound", threshold=d.threshold)
    return Rules([term], stepper=simultaneous)


def _wasserstein(c: Config, penalised: bool) -> Rules:
    terms = [Adversarial(wasserstein(), measure="wasserstein", threshold=None)]
    if penalised:
        return Rules(terms, penalties=[GradientPenalty(interpolate, c.penalty_weight)])
    return Rules(terms, constraints=[ClipWeights(c.clip)])


def _energy(c: Config, extra: Sequence[Term] = ()) -> Rules:
    return Rules([Adversarial(hinge_energy(c.margin), "energy", threshold=None), *extra], energy_error="norm")


OBJECTIVES: dict[str, Callable[[Config], Rules]] = {
    "minimax": lambda c: _score(minimax()),
    "nonsaturating": lambda c: _score(nonsaturating()),
    "lsgan": lambda c: _score(least_squares(), 0.5),
    "lsgan-pearson": lambda c: _score(least_squares(-1.0, 1.0, 0.0)),
    "wgan": lambda c: _wasserstein(c, penalised=False),
    "wgan-gp": lambda c: _wasserstein(c, penalised=True),
    "dragan": lambda c: Rules(
        [Adversarial(nonsaturating())], penalties=[GradientPenalty(Perturb(c.radius), c.penalty_weight)]
    ),
    "ebgan": lambda c: _energy(c),
    "ebgan-pt": lambda c: _energy(c, [PullAway(c.pull_away_weight)]),
    "began": lambda c: Rules([Equilibrium(c.gamma, c.k_rate)], stepper=simultaneous, energy_error="mean"),
    "catgan": lambda c: Rules(
        [Categories(c.label_weight)], labels="some" if c.label_weight else "none", logits=c.classes
    ),
    "sgan": lambda c: Rules([FakeClass()], labels="all", logits=c.classes + 1),
    "salimans": lambda c: Rules([ImplicitFake(), FeatureMatching()], labels="some", logits=c.classes),
    "acgan": lambda c: Rules(
        [
            Adversarial(nonsaturating()),
            ClassTerm(c.class_weight, c.class_weight * c.fake_class_weight, c.class_weight),
        ],
        labels="all",
        classes=True,
        logits=c.classes,
    ),
    "infogan": lambda c: Rules(
        [Adversarial(nonsaturating()), Information(c.classes, c.information_weight, c.continuous_weight)],
        classes=c.classes > 0,
    ),
    **{f"fgan-{name}": lambda c, d=d: _divergence(d, False) for name, d in DIVERGENCES.items()},  # type: ignore[misc]
    **{f"fgan-{name}-heuristic": lambda c, d=d: _divergence(d, True) for name, d in DIVERGENCES.items()},  # type: ignore[misc]
    "fgan-weighted-jensen-shannon": lambda c: _divergence(weighted_jensen_shannon(c.pi), False),
    "fgan-weighted-jensen-shannon-heuristic": lambda c: _divergence(weighted_jensen_shannon(c.pi), True),
}
"""Name -> what it plays by, with a recipe's numbers."""


def rules(recipe: Config) -> Rules:
    """The recipe's objective.

    Raises:
        ValueError: there is none of this name, or a number that it cannot take.
    """
    if recipe.objective not in OBJECTIVES:
        raise ValueError(f"--objective {recipe.objective}: choose one of {', '.join(sorted(OBJECTIVES))}")
    return OBJECTIVES[recipe.objective](recipe)
