"""A game: two networks, what each minimises, and the order in which they step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.gans.terms import Constraint, Heads, Losses, Penalty, Random, Round, Schedule, Seen, Side, Term
from models.group import Group

Deal = Callable[[], tuple[Side, Side | None]]
"""This rank's share of the next real batch, and of the labelled one where the game has it."""


@dataclass(frozen=True)
class Latent:
    """What a generator starts from: `noise` numbers, a class as one of `classes`, `codes` numbers ~ U(-1, 1)."""

    noise: int
    normal: bool = True
    """Whether the noise is N(0, 1), or U(-1, 1)."""
    classes: int = 0
    codes: int = 0

    @property
    def width(self) -> int:
        """Columns of what `draw` returns."""
        return self.noise + self.classes + self.codes

    def draw(
        self, rows: int, random: Random, y: Tensor | None = None, code: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """`rows width`, and its parts with a meaning. The class is `y` and the codes are `code` (`rows codes`) where
        those are given, or any."""
        noise = random.normal(rows, self.noise) if self.normal else random.uniform(rows, self.noise) * 2 - 1
        columns, parts = [noise], dict[str, Tensor]()
        if self.classes:
            parts["class"] = random.integers(rows, self.classes) if y is None else y.cpu()
            columns.append(F.one_hot(parts["class"], self.classes).to(noise))
        if self.codes:
            parts["code"] = random.uniform(rows, self.codes) * 2 - 1 if code is None else code.cpu().float()
            columns.append(parts["code"])
        return torch.cat(columns, 1), parts


def every(count: int) -> Schedule:
    """`count` critic steps before each generator step."""
    return lambda step: count


def bursts(count: int, long: int = 100, first: int = 25, period: int = 500) -> Schedule:
    """`long` critic steps for the `first` generator steps and each `period`th, else `count` (WGAN, released code)."""
    return lambda step: long if step < first or step % period == 0 else count


@dataclass
class Game:
    """Networks, losses and optimisers. The generator maps `B width` to samples; the critic is a `terms.Critic`."""

    generator: nn.Module
    critic: nn.Module
    latent: Latent
    terms: Sequence[Term]
    generator_optimiser: torch.optim.Optimizer
    critic_optimiser: torch.optim.Optimizer
    group: Group
    penalties: Sequence[Penalty] = ()
    constraints: Sequence[Constraint] = ()
    schedule: Schedule = field(default_factory=lambda: every(1))
    conditional: bool = False
    """Fakes are made for the classes of the real batch beside them, rather than for any."""

    def fakes(self, real: Side | None, rows: int, random: Random) -> tuple[Side, dict[str, Tensor]]:
        """`rows` fakes with their classes, and the parts of their latents."""
        given = next(self.generator.parameters())
        z, parts = self.latent.draw(rows, random, real.y if self.conditional and real is not None else None)
        parts = {k: v.to(given.device) if v.dtype == torch.int64 else v.to(given) for k, v in parts.items()}
        return Side(self.generator(z.to(given)), parts.get("class")), parts

    def see(self, side: Side | None, random: Random) -> Heads:
        """The critic's heads; none without a side."""
        return {} if side is None else self.critic(side.x, side.y, random)

    def critic_losses(self, deal: Deal, random: Random) -> tuple[Losses, Seen, Round]:
        """On fresh real samples and fresh fakes, which carry no graph."""
        real, labelled = deal()
        with torch.no_grad():
            fake, parts = self.fakes(real, len(real.x), random)
        round = Round(real, fake, random, self.group, labelled, parts)
        seen = Seen(self.see(real, random), self.see(fake, random), self.see(labelled, random))
        found: Losses = {}
        for term in self.terms:
            found = _joined(found, term.critic(seen, round))
        for penalty in self.penalties:
            found = _joined(found, penalty(self.critic, round))
        return found, seen, round

    def generator_losses(self, deal: Deal, rows: int, random: Random) -> Losses:
        """On fresh fakes; real samples are drawn for terms that compare, and for their classes."""
        real: Side | None = None
        compares = any(term.compares for term in self.terms)
        if compares or self.conditional:
            real, _ = deal()
            rows = len(real.x)
        fake, parts = self.fakes(real, rows, random)
        round = Round(real or fake, fake, random, self.group, None, parts)
        with torch.no_grad():
            compared = self.see(real, random) if compares else {}
        seen = Seen(compared, self.see(fake, random), {})
        found: Losses = {}
        for term in self.terms:
            found = _joined(found, term.generator(seen, round))
        return found

    def apply(self, optimiser: torch.optim.Optimizer, gradients: Sequence[Tensor]) -> None:
        """One step on the mean of all workers' gradients."""
        params = parameters(optimiser)
        for p, gradient in zip(params, gradients, strict=True):
            p.grad = gradient.contiguous()
        self.group.average(params)
        optimiser.step()
        optimiser.zero_grad()

    def constrain(self) -> None:
        """After a critic step."""
        for constraint in self.constraints:
            constraint(self.critic)

    @torch.no_grad()
    def settle(self, critic: Losses, generator: Losses, watched: Losses) -> Losses:
        """Let the terms renew what they remember. All values for the log, over all ranks: `critic/...` and
        `generator/...` are the losses, with their sums `loss`, the rest as the terms name it."""
        named = {f"critic/{k}": v for k, v in critic.items()} | {f"generator/{k}": v for k, v in generator.items()}
        named |= watched
        values = self.group.gather(torch.stack([v.detach().double() for v in named.values()])[None]).mean(0)
        all_values = dict(zip(named, values, strict=True))
        losses = [
            {k: all_values[f"{side}/{k}"] for k in of} for side, of in (("critic", critic), ("generator", generator))
        ]
        sums = {
            f"{side}/loss": torch.stack(list(of.values())).sum()
            for side, of in zip(("critic", "generator"), losses, strict=True)
        }
        for term in self.terms:
            all_values |= term.after(losses[0], losses[1])
        return {**sums, **all_values}

    @torch.no_grad()
    def watch(self, seen: Seen, round: Round) -> dict[str, Tensor]:
        """What the terms log, and `spread`: the fakes' mean deviation over the batch, 0 if all are equal."""
        found = {"spread": round.group.gather(round.fake.x).std(0, correction=0).mean()}
        for term in self.terms:
            found |= term.watch(seen, round)
        return found


def parameters(optimiser: torch.optim.Optimizer) -> list[nn.Parameter]:
    """All that an optimiser steps."""
    return [p for settings in optimiser.param_groups for p in settings["params"]]


def gradients(losses: Losses, optimiser: torch.optim.Optimizer) -> tuple[Tensor, ...]:
    """Of the losses' sum, with respect to what the optimiser steps."""
    return torch.autograd.grad(torch.stack(list(losses.values())).sum(), parameters(optimiser))


def _joined(a: Losses, b: Losses) -> Losses:
    assert not a.keys() & b.keys(), f"two terms of one game both name a loss {sorted(a.keys() & b.keys())}"
    return a | b


Stepper = Callable[[Game, Deal, int, int, Random], Losses]
"""`stepper(game, deal, step, rows, random)`: generator step number `step`, on `rows` fakes of this rank, and the
critic's that belong to it. Returns scalars for the log (`Game.settle`)."""


def alternating(game: Game, deal: Deal, step: int, rows: int, random: Random) -> Losses:
    """`game.schedule(step)` critic steps, then the generator's, which meets the critic as those left it."""
    for _ in range(game.schedule(step)):
        critic, seen, round = game.critic_losses(deal, random)
        watched = game.watch(seen, round)
        game.apply(game.critic_optimiser, gradients(critic, game.critic_optimiser))
        game.constrain()
    generator = game.generator_losses(deal, rows, random)
    game.apply(game.generator_optimiser, gradients(generator, game.generator_optimiser))
    return game.settle(critic, generator, watched)


def simultaneous(game: Game, deal: Deal, step: int, rows: int, random: Random) -> Losses:
    """Both step on gradients at the same weights (Nowozin et al. 2016, algorithm 1; BEGAN). No schedule."""
    critic, seen, round = game.critic_losses(deal, random)
    generator = game.generator_losses(deal, rows, random)
    ours = gradients(critic, game.critic_optimiser), gradients(generator, game.generator_optimiser)
    watched = game.watch(seen, round)
    game.apply(game.critic_optimiser, ours[0])
    game.apply(game.generator_optimiser, ours[1])
    game.constrain()
    return game.settle(critic, generator, watched)
