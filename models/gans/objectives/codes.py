"""infoGAN's information term."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

from models.gans.terms import Losses, Round, Seen, Term

LOG_2PI = math.log(2 * math.pi)


def discrete_information(logits: Tensor, y: Tensor) -> Tensor:
    """E log Q(c | x) + H(c) <= I(c; x), nats, for c uniform over the K columns of `logits` `B K`: at most log K."""
    return math.log(logits.shape[1]) - F.cross_entropy(logits, y)


def continuous_information(mean: Tensor, code: Tensor) -> Tensor:
    """E log Q(c | x) + H(c), nats, summed over the codes `B C`: c ~ U(-1, 1), so H = log 2 each; Q a Gaussian of
    deviation 1, as in the released code. Below 0 for any Q of this width: right up to a constant."""
    log_q = -0.5 * ((code - mean).square() + LOG_2PI)
    return log_q.sum(1).mean() + code.shape[1] * math.log(2)


class Information(Term):
    """-weight * L_I, in both players' losses (Chen et al. 2016, eq. 6; released code): the head `q` is trained by the
    critic's optimiser, with the trunk that it shares.

    The first `classes` columns of `q` are the logits of the discrete code, the rest the means of the continuous ones.
    """

    heads = frozenset({"q"})

    def __init__(self, classes: int, weight: float = 1.0, continuous_weight: float = 1.0) -> None:
        super().__init__()
        if weight <= 0:
            raise ValueError(f"--information-weight {weight}: give more than 0")
        self.classes, self.weight, self.continuous_weight = classes, weight, continuous_weight

    def _parts(self, seen: Seen, round: Round) -> dict[str, Tensor]:
        q, found = seen.fake["q"], {}
        if self.classes:
            found["discrete"] = discrete_information(q[:, : self.classes], round.parts["class"])
        if "code" in round.parts and round.parts["code"].shape[1]:
            found["continuous"] = continuous_information(q[:, self.classes :], round.parts["code"])
        return found

    def _losses(self, seen: Seen, round: Round) -> Losses:
        weights = {"discrete": self.weight, "continuous": self.continuous_weight}
        return {f"information_{k}": -weights[k] * v for k, v in self._parts(seen, round).items()}

    def critic(self, seen: Seen, round: Round) -> Losses:
        return self._losses(seen, round)

    def generator(self, seen: Seen, round: Round) -> Losses:
        return self._losses(seen, round)

    def watch(self, seen: Seen, round: Round) -> dict[str, Tensor]:
        return {f"information/{k}": v for k, v in self._parts(seen, round).items()}
