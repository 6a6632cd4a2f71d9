"""The family: a recipe's game, trained on the pipeline's streams, sampled, watched and judged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

import models.gans.assembly as assembly
import models.gans.views as views
from models.common.average import Average
from models.common.graph import PICTURE, Call, Graph
from models.common.seeds import seeded
from models.family import Batch, Draw, Facts, Family, Stage, Stream
from models.gans.figures import majority_error, sliced_wasserstein
from models.gans.game import Game, bursts, every
from models.gans.recipe import Config
from models.gans.rules import rules
from models.gans.terms import Heads, Random, Side
from models.group import Group

STAGE = "game"
LONG = 500
"""Steps after which what looks collapsed is called so."""
COLUMNS = 5
"""Pictures of a kind in a sheet's row."""
SWEEP = 9
"""Values of a continuous code in a sweep."""


class GANs(Family):
    """Generator, critic, what the terms remember, and the generator's average."""

    recipe: Config
    samplers = ("prior",)
    stuck: Tensor

    def __init__(self, recipe: Config, group: Group, facts: Facts) -> None:
        super().__init__()
        assembly.check(recipe)
        self.recipe, self.group = recipe, group
        self.rules = rules(recipe)
        self._check(facts)
        self.latent = assembly.latent(recipe)
        self.generator = assembly.generator(recipe, group)
        self.critic = assembly.critic(recipe, self.rules, group)
        self.terms = nn.ModuleList(self.rules.terms)
        self.average = Average(self.generator, recipe.average_decay)
        # Steps in a row that looked collapsed: all fakes alike, or the critic always right or always wrong.
        self.register_buffer("stuck", torch.zeros((), dtype=torch.int64))
        group.share(self)
        self.reads = ("class",) if self._given_class else ()  # type: ignore[misc]
        self.optimisers = {}

    @property
    def _given_class(self) -> bool:
        """Whether samples are asked for by their class (infoGAN's discrete code has no name)."""
        return self.latent.classes > 0 and self.recipe.objective != "infogan"

    def _check(self, facts: Facts) -> None:
        """Raises ValueError: the data set does not fit the recipe."""
        r, known = self.recipe, facts.fields.get("class", {})
        needs = self.rules.labels != "none" or r.conditional
        if needs and known and int(known["classes"]) != r.classes:
            raise ValueError(f"--classes {r.classes}: the data set has {known['classes']}")
        for option, size in (("batch", r.batch), ("generator_batch", r.generator_batch)):
            if facts.samples and facts.samples < size:
                raise ValueError(f"--{option.replace('_', '-')} {size}: the data set has {facts.samples} samples")
        if self.rules.labels == "some" and known.get("labelled", r.labelled_batch) < r.labelled_batch:
            raise ValueError(f"--labelled-batch {r.labelled_batch}: the data set has {known['labelled']} labels")

    @property
    def stages(self) -> list[Stage]:
        return [Stage(STAGE, self.recipe.images, self.recipe.batch)]

    def parts(self, stage: str) -> tuple[str, ...]:
        return ("generator.", "critic.", "terms.", "average.")

    def streams(self, stage: str) -> dict[str, Stream]:
        r = self.recipe
        labelled = Stream(r.labelled_batch, (r.field, "class"), keep=_has_class)
        if self.rules.labels == "all" or r.conditional:
            return {"real": Stream(r.batch, (r.field, "class"), keep=_has_class)}
        real = {"real": Stream(r.batch, (r.field,))}
        return {**real, "labelled": labelled} if self.rules.labels == "some" else real

    def enter(self, stage: str) -> None:
        """Fresh optimisers; Adam, RMSprop or plain gradient descent."""
        r = self.recipe
        self.optimisers = {
            name: _optimiser(r, net) for name, net in (("generator", self.generator), ("critic", self.critic))
        }
        self.game = Game(
            self.generator,
            self.critic,
            self.latent,
            self.rules.terms,
            self.optimisers["generator"],
            self.optimisers["critic"],
            self.group,
            self.rules.penalties,
            self.rules.constraints,
            bursts(r.critic_steps) if r.bursts else every(r.critic_steps),
            r.conditional,
        )

    def update(self, draw: Draw, images: int) -> dict[str, Tensor]:
        """One generator step with the critic's that belong to it."""
        r, step = self.recipe, images // self.recipe.batch
        left = 1 - images / r.images if r.linear_decay else 1.0
        for name, rate in (("critic", r.rate), ("generator", r.generator_rate)):
            self.optimisers[name].param_groups[0]["lr"] = rate * max(left, 0.0)
        random = Random(seeded(r.seed, STAGE, step), self.group)

        def deal() -> tuple[Side, Side | None]:
            labelled = self._side(draw("labelled")) if self.rules.labels == "some" else None
            return self._side(draw("real")), labelled

        rows = r.generator_batch // self.group.world
        found = self.rules.stepper(self.game, deal, step, rows, random)
        self.average.update(self.generator)
        return {**found, "collapsed": self._collapsed(found)}

    def _side(self, batch: Batch) -> Side:
        return Side(batch[self.recipe.field], batch.get("class"))

    @torch.no_grad()
    def _collapsed(self, found: Mapping[str, Tensor]) -> Tensor:
        """1 once all fakes have been alike, or the critic always right or always wrong, for `LONG` steps."""
        now = found["spread"] < 1e-3
        if "critic/accuracy" in found:
            sure = found["critic/accuracy"]
            now = now | (sure > 1 - 1e-6) | (sure < 1e-6)
        self.stuck.copy_(torch.where(now, self.stuck + 1, torch.zeros_like(self.stuck)))
        return (self.stuck >= LONG).double()

    # Use -------------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def draws(
        self, rows: int, generator: torch.Generator, y: Tensor | None = None, code: Tensor | None = None
    ) -> Tensor:
        """`rows ...` samples of the averaged generator, of the classes `y` or any, with the continuous codes `code` or
        any."""
        z, _ = self.latent.draw(rows, self._random(generator), y, code)
        return self._made(z)

    @torch.no_grad()
    def _made(self, z: Tensor) -> Tensor:
        net = self.average.net
        made: Tensor = net(z.to(next(net.parameters())))
        return made if self.recipe.form == "points" else made.clamp(-1, 1)

    def _random(self, generator: torch.Generator) -> Random:
        return Random(generator, Group(alone=True))

    def sample(self, given: Batch, count: int, generator: torch.Generator, sampler: str = "") -> Tensor:
        """Pictures; of a family of points, each is a cloud of `views.CLOUD` of them, drawn."""
        self.chosen_sampler(sampler)
        rows, each = len(given["index"]), views.CLOUD if self.recipe.form == "points" else 1
        y, code = self._asked(given, count * each)
        made = self.draws(rows * count * each, generator, y, code)
        if self.recipe.form == "points":
            return torch.stack([views.clouds(p, self.recipe.size) for p in made.view(rows, count, each, 2)])
        return made.view(rows, count, *made.shape[1:])

    def graph(self, given: Batch, generator: torch.Generator) -> Graph:
        """From the latent (noise, then the class as one of them, then codes) to the averaged generator's picture."""
        r, latent, net = self.recipe, self.latent, self.average.net
        if r.form == "points":
            raise ValueError("--form points: this generator makes points, and only pictures are exported")
        y = given["class"] if self._given_class else None
        z, _ = latent.draw(len(given["index"]), self._random(generator), y)
        parts = [f"{latent.noise} of {'N(0, 1)' if latent.normal else 'U(-1, 1)'}"]
        parts += [f"a class as one of {latent.classes}"] if latent.classes else []
        parts += [f"{latent.codes} of U(-1, 1)"] if latent.codes else []
        made = PICTURE if r.channels == 3 else "[-1, 1], grey"
        call = Call(lambda z: net(z).clamp(-1, 1), net)
        return Graph(call, {"latent": z}, {"latent": ", then ".join(parts), "picture": made})

    def _asked(self, given: Batch, times: int) -> tuple[Tensor | None, Tensor | None]:
        """The class and the continuous codes of each row, `times` over."""
        if "code" in given:
            for one in given["code"].tolist():
                self.check_code(one)
            code, discrete = given["code"].repeat_interleave(times, 0), self.latent.classes > 0
            return code[:, 0].long() if discrete else None, code[:, int(discrete) :]
        if not self._given_class:
            return None, None
        y: Tensor = given["class"].repeat_interleave(times)
        if bool(((y < 0) | (y >= self.recipe.classes)).any()):
            raise ValueError(f"a class from 0 to {self.recipe.classes - 1} is wanted")
        return y, None

    def check_code(self, code: Sequence[float]) -> None:
        """The number of infoGAN's discrete code where it has one, then its continuous ones."""
        kinds, codes = self.latent.classes if self._has_codes else 0, self.latent.codes
        if not kinds + codes:
            raise ValueError(f"--code: objective {self.recipe.objective} has no codes")
        discrete = [f"a whole number below {kinds}"] if kinds else []
        wanted = ", ".join([*discrete, *["a number, in training from -1 to 1"] * codes])
        wrong = bool(kinds) and (not code or code[0] != int(code[0]) or not 0 <= code[0] < kinds)
        if wrong or len(code) != bool(kinds) + codes:
            raise ValueError(f"--code {' '.join(f'{c:g}' for c in code)}: give {wanted}")

    @property
    def _has_codes(self) -> bool:
        return self.recipe.objective == "infogan"

    def sweeps(self) -> dict[str, Tensor]:
        """Each value of infoGAN's discrete code, and nine of each continuous one from -2 to 2 (trained: -1 to 1)."""
        if not self._has_codes:
            return {}
        kinds, width = self.latent.classes, bool(self.latent.classes) + self.latent.codes
        found = {}
        if kinds:
            found["discrete"] = torch.zeros(kinds, width)
            found["discrete"][:, 0] = torch.arange(kinds)
        for i in range(self.latent.codes):
            codes = torch.zeros(SWEEP, width)
            codes[:, width - self.latent.codes + i] = torch.linspace(-2, 2, SWEEP)
            found[f"continuous-{i + 1}"] = codes
        return found

    @torch.no_grad()
    def walk(self, given: Batch, steps: int, generator: torch.Generator) -> Tensor:
        """Of points: clouds whose latents all walk. A row's class and codes stay the same along it."""
        rows, each = len(given["index"]), views.CLOUD if self.recipe.form == "points" else 1
        random, (y, code) = self._random(generator), self._asked(given, each)
        first, parts = self.latent.draw(rows * each, random, y, code)
        second, _ = self.latent.draw(rows * each, random, parts.get("class"), parts.get("code"))
        made, noise = list[Tensor](), self.latent.noise
        for share in torch.linspace(0, 1, steps).tolist():
            between = views.between(first[:, :noise], second[:, :noise], share, self.latent.normal)
            made.append(self._made(torch.cat([between, first[:, noise:]], 1)))
        if self.recipe.form == "pictures":
            return torch.stack(made, 1)
        clouds = torch.stack(made).view(steps, rows, each, 2).transpose(0, 1)
        return torch.stack([views.clouds(p, self.recipe.size) for p in clouds])

    @torch.no_grad()
    def preview(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Samples at a noise that stays the same over the run; row by row the next class. Then a walk: of a continuous
        code from -1 to 1 where there is one, else from one latent to another. Points: the cloud over the data, and the
        critic's surface."""
        rows = len(batch["index"])
        if self.recipe.form == "points":
            fakes = self.draws(rows * views.CLOUD, generator).view(rows, views.CLOUD, 2)
            near = batch["points"]
            return {
                "samples": views.clouds(fakes, self.recipe.size, near),
                "critic": views.surface(self._value, self.recipe.size, near).expand(rows, -1, -1, -1),
            }
        y = torch.arange(rows) % self.latent.classes if self.latent.classes else None
        each = None if y is None else y.repeat_interleave(COLUMNS)
        z, _ = self.latent.draw(rows * COLUMNS, self._random(generator), each)
        made = self._made(z).unflatten(0, (rows, COLUMNS))  # type: ignore[no-untyped-call]
        if self.latent.codes:
            z = z.view(rows, COLUMNS, -1)[:, :1].repeat(1, COLUMNS, 1)
            z[:, :, self.latent.noise + self.latent.classes] = torch.linspace(-1, 1, COLUMNS)
            walked = self._made(z.flatten(0, 1)).unflatten(0, (rows, COLUMNS))  # type: ignore[no-untyped-call]
        else:
            given = {"index": batch["index"], **({} if y is None else {"class": y})}
            walked = self.walk(given, COLUMNS, generator)
        name = "code" if self.latent.codes else "walk"
        found = {"data": batch["target"]} if "target" in batch else {}
        found |= {f"sample {i + 1}": made[:, i] for i in range(COLUMNS)}
        return found | {f"{name} {i + 1}": walked[:, i] for i in range(COLUMNS)}

    @torch.no_grad()
    def heads(self, x: Tensor, y: Tensor | None = None) -> Heads:
        """The critic's, in evaluation mode: no noise, no dropout."""
        self.critic.eval()
        try:
            found: Heads = self.critic(x, y, self._random(torch.Generator()))
        finally:
            self.critic.train()
        return found

    def _value(self, x: Tensor) -> Tensor:
        """One number a sample: its score or energy, or how sure the critic is of a class."""
        found = self.heads(x, torch.zeros(len(x), dtype=torch.int64) if self.recipe.conditional else None)
        for name in ("score", "energy"):
            if name in found:
                return found[name]
        return found["logits"].softmax(1).amax(1)

    @torch.no_grad()
    def judge(self, batches: Iterable[Batch]) -> dict[str, float]:
        """Of all held-out samples: `error`, the share of wrong classes (objectives with classes; catGAN without labels:
        after each cluster took the majority class of the first half, on the second); `sliced_wasserstein`, of as many
        fakes. The first one decides which checkpoint is best."""
        r, real, classes, logits = self.recipe, list[Tensor](), list[Tensor](), list[Tensor]()
        for batch in batches:
            real.append(batch[r.field])
            classes.append(batch.get("class", torch.full((len(batch["index"]),), -1)).cpu())
            if self.rules.logits:
                logits.append(self.heads(batch[r.field])["logits"][:, : r.classes].cpu())
        x, y = torch.cat(real).flatten(1), torch.cat(classes)
        found = self._errors(torch.cat(logits), y) if logits else {}
        given = y if self._given_class and bool((y >= 0).all()) else None
        fakes = self.draws(len(x), seeded(r.seed, "judge"), given).flatten(1)
        if bool(self.stuck >= LONG):
            print(
                f"{r.objective}: looks collapsed for {int(self.stuck)} steps (see critic/accuracy and spread)",
                flush=True,
            )
        return {**found, "sliced_wasserstein": sliced_wasserstein(x, fakes.to(x), seeded(r.seed, "directions"))}

    def _errors(self, logits: Tensor, y: Tensor) -> dict[str, float]:
        known = y >= 0
        if not bool(known.any()):
            return {}
        guesses, y = logits[known].argmax(1), y[known]
        if self.rules.labels == "none":
            half = len(y) // 2
            return {"error": majority_error(guesses[half:], y[half:], guesses[:half], y[:half])} if half else {}
        return {"error": float((guesses != y).double().mean())}


def _has_class(row: Mapping[str, Any]) -> bool:
    return bool(row["class_value"] >= 0)


def _optimiser(r: Config, net: nn.Module) -> torch.optim.Optimizer:
    params = list(net.parameters())
    if r.optimiser == "adam":
        return torch.optim.Adam(params, lr=0.0, betas=(r.beta1, r.beta2))
    if r.optimiser == "rmsprop":
        return torch.optim.RMSprop(params, lr=0.0)
    return torch.optim.SGD(params, lr=0.0)
