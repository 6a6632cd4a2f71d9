"""Games with classes: catGAN, SGAN (Odena's; Salimans et al.'s), ACGAN's class term."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

from models.gans.terms import Losses, Round, Seen, Side, Term
from models.group import Group


def conditional_entropy(logits: Tensor) -> Tensor:
    """Mean over the samples of H[p(y | x)], nats; p the softmax of `logits` `B K`."""
    log_p = logits.log_softmax(1)
    return -(log_p.exp() * log_p).sum(1).mean()


def marginal_entropy(logits: Tensor, group: Group) -> Tensor:
    """H of the mean over the whole batch of p(y | x), nats: log K where the classes are used alike."""
    log_p = group.gather(logits).log_softmax(1)
    log_mean = log_p.logsumexp(0) - math.log(len(log_p))
    return -(log_mean.exp() * log_mean).sum()


def classes_of(side: Side | None, option: str) -> Tensor:
    """The side's labels.

    Raises:
        ValueError: there are none, or some are missing.
    """
    if side is None or side.y is None or bool((side.y < 0).any()):
        raise ValueError(f"--objective {option}: it needs the class of every sample; shard the data with labels")
    return side.y


class Categories(Term):
    """catGAN (Springenberg 2016, eqs. 7 and 9).

    The critic has one output a class and none for fakes. It is sure of each real sample, uses all classes alike, and is
    unsure of fakes: minimises -H[mean p(x)] + mean H[p(x)] - mean H[p(G)]. The generator minimises
    -H[mean p(G)] + mean H[p(G)]. With labels: + weight * cross-entropy, critic alone. The mean is the batch's: a batch
    much larger than the number of classes is wanted.
    """

    heads = frozenset({"logits"})

    def __init__(self, weight: float = 0.0) -> None:
        """
        Args:
            weight: of the labelled samples' cross-entropy; 0: unsupervised.
        """
        super().__init__()
        self.weight, self.labelled = weight, weight > 0

    def critic(self, seen: Seen, round: Round) -> Losses:
        real, fake = seen.real["logits"], seen.fake["logits"]
        found = {
            "marginal": -marginal_entropy(real, round.group),
            "real": conditional_entropy(real),
            "fake": -conditional_entropy(fake),
        }
        if self.labelled:
            y = classes_of(round.labelled, "catgan")
            found["labelled"] = self.weight * F.cross_entropy(seen.labelled["logits"], y)
        return found

    def generator(self, seen: Seen, round: Round) -> Losses:
        logits = seen.fake["logits"]
        return {"marginal": -marginal_entropy(logits, round.group), "fake": conditional_entropy(logits)}

    def watch(self, seen: Seen, round: Round) -> dict[str, Tensor]:
        return {f"confidence/{n}": h["logits"].softmax(1).amax(1).mean() for n, h in seen._asdict().items() if h}


class FakeClass(Term):
    """SGAN as published (Odena 2016, algorithm 1): the last of N + 1 classes is FAKE. The critic minimises the negative
    log-likelihood of the real samples' classes and of FAKE over both halves of the batch; the generator maximises it.
    No unlabelled samples take part."""

    heads = frozenset({"logits"})

    def critic(self, seen: Seen, round: Round) -> Losses:
        real, fake = seen.real["logits"], seen.fake["logits"]
        count = len(real) + len(fake)
        labels = classes_of(round.real, "sgan")
        return {
            "real": F.cross_entropy(real, labels, reduction="sum") / count,
            "fake": -fake.log_softmax(1)[:, -1].sum() / count,
        }

    def generator(self, seen: Seen, round: Round) -> Losses:
        return {"fake": seen.fake["logits"].log_softmax(1)[:, -1].mean()}


class ImplicitFake(Term):
    """SGAN of Salimans et al. 2016 (section 5), released code: K logits, FAKE's fixed to 0. With Z = logsumexp of the
    K: cross-entropy of labelled samples + (mean(softplus(Z) - Z) of real ones + mean softplus(Z) of fakes) / 2."""

    heads = frozenset({"logits"})
    labelled = True

    def critic(self, seen: Seen, round: Round) -> Losses:
        real, fake = seen.real["logits"].logsumexp(1), seen.fake["logits"].logsumexp(1)
        y = classes_of(round.labelled, "salimans")
        return {
            "labelled": F.cross_entropy(seen.labelled["logits"], y),
            "real": 0.5 * F.softplus(-real).mean(),  # softplus(z) - z
            "fake": 0.5 * F.softplus(fake).mean(),
        }


class FeatureMatching(Term):
    """The generator's loss of Salimans et al. 2016 (section 3.1): mean squared difference of the batch's mean features;
    of the means over all workers."""

    heads = frozenset({"features"})
    compares = True

    def generator(self, seen: Seen, round: Round) -> Losses:
        real, fake = (round.group.gather(h["features"].mean(0, keepdim=True)).mean(0) for h in (seen.real, seen.fake))
        return {"features": (real.detach() - fake).square().mean()}


class ClassTerm(Term):
    """ACGAN's L_C (Odena et al. 2017, eq. 3): cross-entropy of the class, of real and of fake samples, each with its
    weight. The paper's weights are all 1; 0 for the critic's fakes is what many implementations do instead."""

    heads = frozenset({"logits"})

    def __init__(self, real: float = 1.0, fake: float = 1.0, generator: float = 1.0) -> None:
        super().__init__()
        self.weights = real, fake, generator

    def critic(self, seen: Seen, round: Round) -> Losses:
        found = {"class_real": self.weights[0] * F.cross_entropy(seen.real["logits"], classes_of(round.real, "acgan"))}
        if self.weights[1]:
            found["class_fake"] = self.weights[1] * self._of_fakes(seen, round)
        return found

    def generator(self, seen: Seen, round: Round) -> Losses:
        return {"class_fake": self.weights[2] * self._of_fakes(seen, round)}

    def _of_fakes(self, seen: Seen, round: Round) -> Tensor:
        return F.cross_entropy(seen.fake["logits"], round.parts["class"])
