"""How conditional IMLE is trained: search the nearest of m candidates of each pair, then train on those for a while."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from models.common.average import Average
from models.common.graph import PICTURE, Call, Graph, class_ids
from models.common.onehot import traced_one_hot
from models.common.optimise import adam, move, parameters
from models.common.seeds import seed_of, seeded
from models.family import Batch, Draw, Family, Match, Pause, Stage, Stream, Table, Tables, no_pause
from models.group import Group
from models.imle.distance import HALF_RANGE, PAPER_FACTORS, PIXELS, MaskedDistance
from models.imle.networks import BASE, Generator, NoiseEncoder, label_pyramid
from models.imle.recipe import Config
from models.imle.search import level_by_level, nearest

EVALUATED = 8
"""Samples of each held-out input in `evaluate`."""


class IMLE(Family):
    """Generator and noise encoder. `state_dict()`: both, their averages, the distance's factors; not the VGG."""

    samplers = ("prior",)
    recipe: Config
    noisy: Tensor

    def __init__(self, recipe: Config, group: Group, perceptual: nn.Module | None) -> None:
        super().__init__()
        check(recipe, perceptual)
        self.recipe, self.group, r = recipe, group, recipe
        channels = r.labels if r.condition == "labels" else 3
        self.generator = Generator(channels, r.noise, r.widths, seeded(r.seed, "generator"), self._heads)
        self.encoder = NoiseEncoder(channels, r.noise, seeded(r.seed, "encoder"), r.encoder_width)
        self.average_generator = Average(self.generator, r.average_decay, r.average_warm_up)
        self.average_encoder = Average(self.encoder, r.average_decay, r.average_warm_up)
        self.distance = MaskedDistance(perceptual, r.perceptual_layers, r.perceptual_factors == "paper")
        # Whether the weights know noise: after `crn` alone they do not, and its channels would be untrained.
        self.register_buffer("noisy", torch.ones((), dtype=torch.int64))
        group.share(self)
        self.stage = ""
        self.optimisers = {}
        self.rarity: Table = {}
        self.matches: Table = {}

    @property
    def _heads(self) -> int:
        """Levels with noise and a picture of their own."""
        return max(1, len(self.recipe.level_samples))

    # Stages ----------------------------------------------------------------------------------------------------------

    @property
    def stages(self) -> list[Stage]:
        r = self.recipe
        return [
            Stage("crn", r.crn_images, r.batch),
            Stage("imle", r.imle_images, r.batch, r.refresh_steps),
            Stage("settle", r.settle_images, r.batch, r.refresh_steps),
        ]

    def streams(self, stage: str) -> dict[str, Stream]:
        r, fields = self.recipe, ("input", "target")
        pairs = Stream(batch=r.batch, fields=fields, augment=r.augment)
        if stage == "crn":
            return {"pairs": pairs}
        chosen = Stream(source="table", table=stage, order="weighted", batch=r.batch, fields=fields)
        drawn = Stream(batch=r.set_batch, fields=fields, augment=r.augment)
        if self.rarity and r.rarity_classes:
            # The data set's: places of S take turns between the largest classes, each picture by its rarity there.
            weights = self.rarity["rarity"][:, self.rarity["classes"][0, : r.rarity_classes]].T
            weights = weights[weights.sum(1) > 0].contiguous()  # a class may occur nowhere
            drawn = replace(drawn, order="weighted", weights=weights)
            if self.matches and stage == "imle":  # their rows are all pictures, not a set drawn by rarity
                chosen = replace(chosen, weights=weights)
        if not r.adaptive_gamma:
            return {"pairs": chosen, "set": drawn}
        return {"pairs": chosen, "set": drawn, "rows": replace(chosen, order="fixed", batch=r.set_batch)}

    def take(self, artifact: str, table: Table) -> None:
        """`rarity`: what data set and loss are re-balanced by. `matches`: trained on in stage `imle`, in place of own
        searches (`settle` has another encoder, for which they are none)."""
        if artifact == "matches":
            if self.recipe.adaptive_gamma:
                raise ValueError("--matches and --adaptive-gamma: thresholds belong to searches within training")
            self.matches = table
            return
        if artifact != "rarity" or self.recipe.condition != "labels":
            raise ValueError(f"--{artifact}: conditional IMLE re-balances label maps (--condition labels) by rarity")
        if table["rarity"].shape[1] != self.recipe.labels:
            raise ValueError(f"--rarity: of {table['rarity'].shape[1]} classes, --labels is {self.recipe.labels}")
        self.rarity = table

    def mask(self, batch: Batch) -> Float[Tensor, "b 1 h w"] | None:
        """The loss' re-balancing: each pixel's weight is its class's in this picture, the rarest class's is 1."""
        if not self.rarity or not self.recipe.rarity_mask:
            return None
        ids = batch["input"].clamp(max=self.recipe.labels - 1)
        weights = self.rarity["mask"][batch["index"].cpu()].to(ids.device)  # B C
        return weights.gather(1, ids.flatten(1)).view(len(ids), 1, *ids.shape[1:])

    def parts(self, stage: str) -> tuple[str, ...]:
        return ("generator.", "encoder.", "average_generator.", "average_encoder.", "distance.", "noisy")

    def enter(self, stage: str) -> None:
        """Fresh Adam states. Weights that were trained without noise get it now. `settle` begins with a fresh noise
        encoder too: against overfitting, says the released code, which does so after six of its sixteen rounds, with a
        tenth of the rate from then on."""
        r, self.stage = self.recipe, stage
        if stage != "crn" and not bool(self.noisy):
            self.generator.open_noise(seeded(r.seed, "generator", "imle"))
            self.average_generator.restart(self.generator)
        self.noisy.fill_(int(stage != "crn"))
        if stage == "settle":
            fresh = NoiseEncoder(self.encoder.condition, r.noise, seeded(r.seed, "encoder", stage), r.encoder_width)
            self.encoder.load_state_dict(fresh.state_dict())
            self.average_encoder.restart(self.encoder)
        trained = (self.generator, self.encoder) if self._encodes else (self.generator,)
        self.optimisers = {"main": adam(parameters(*trained), (0.9, 0.999))}

    @property
    def _encodes(self) -> bool:
        """Whether the noise encoder takes part: not where there is no noise."""
        return self.recipe.noise_encoder and bool(self.noisy)

    def pictures(
        self, x: Float[Tensor, "b c h w"], z: Sequence[Float[Tensor, "b n h w"]]
    ) -> list[Float[Tensor, "b 3 h w"]]:
        """The raw networks' outputs for conditions and raw noise: one a level with noise of its own, coarse to fine."""
        return self.generator.pictures(x, [self.encoder(x, one) if self._encodes else one * self.noisy for one in z])

    def picture(self, x: Float[Tensor, "b c h w"], z: Sequence[Float[Tensor, "b n h w"]]) -> Float[Tensor, "b 3 h w"]:
        """The finest of them."""
        return self.pictures(x, z)[-1]

    # One step --------------------------------------------------------------------------------------------------------

    def update(self, draw: Draw, images: int) -> dict[str, Tensor]:
        """One Adam step on pairs with their chosen noise (in `crn`: with none)."""
        r = self.recipe
        if not self.distance.calibrated:
            self._calibrate(draw)
        batch = draw("pairs")
        x = self.condition(batch["input"])
        if self.stage == "crn":
            z = [x.new_zeros(len(x), r.noise, *size) for size in self._sizes(x.shape[2:])]
        else:
            z = self.noise(batch["seed"], batch["candidate"], x.shape[2:])
            if r.jitter:
                z = [one + r.jitter * self._moved(one, level, images, batch["row"]) for level, one in enumerate(z)]
        mask = self.mask(batch)
        masks = [None] * self._heads if mask is None else label_pyramid(mask, self._heads)
        apart: Tensor | float = 0.0
        for fake, y, m in zip(self.pictures(x, z), label_pyramid(batch["target"], self._heads), masks, strict=True):
            with torch.no_grad():
                wanted = self.distance.features(y)
            apart = self.distance.compare(self.distance.features(fake), wanted, m) + apart
        assert isinstance(apart, Tensor)
        terms = apart.mean(0) * self.distance.factors
        loss = terms.sum()
        params = self.optimisers["main"].param_groups[0]["params"]
        rate = r.settle_rate if self.stage == "settle" else r.rate
        move(self.group, self.optimisers["main"], params, torch.autograd.grad(loss, params), rate)
        self.average_generator.update(self.generator)
        self.average_encoder.update(self.encoder)
        named = zip(self.distance.layers, terms.detach(), strict=True)
        found = {"loss": loss.detach(), **{f"distance_{name}": term for name, term in named}}
        if "rejected" in batch and r.epsilon:
            found |= {name: batch[name].double().mean() for name in ("rejected", "all_rejected")}
        if "age" in batch:
            found["searches_ago"] = batch["age"].double().mean()
        return found

    @torch.no_grad()
    def _calibrate(self, draw: Draw) -> None:
        """lambda_l = 1 / mean distance of random training pairs at that layer."""
        stream = "pairs" if self.stage == "crn" else "set"
        found: list[Tensor] = []
        last = draw(stream)["target"]
        while sum(map(len, found)) * self.group.world < self.recipe.perceptual_pairs:
            target = draw(stream)["target"]
            found.append(self.distance.distances(last, target))
            last = target
        self.distance.calibrate(self.group.gather(torch.cat(found)), 1.0)

    # Search ----------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def refresh(self, draw: Draw, tables: Tables, match: Match, step: int, pause: Pause = no_pause) -> Table:
        """Fill the set S with `set_size` pairs and find each one's nearest candidate; a rank searches its own share.
        With adaptive thresholds S stays, and only the pairs that are due are searched again."""
        if self.matches and self.stage == "imle":
            return self.matches
        calibrated = self.distance.calibrated
        if not calibrated:
            self._calibrate(draw)
        try:
            if self.recipe.adaptive_gamma and self.stage in tables:
                return self._renew(draw, tables[self.stage], step, pause)
            return self._fill(draw, step, pause)
        except BaseException:
            if not calibrated:
                self.distance.factors.zero_()  # the run goes on from before this call, with the same draws
            raise

    def _fill(self, draw: Draw, step: int, pause: Pause) -> Table:
        """The set S anew."""
        r, parts, seen = self.recipe, list[Table](), dict[int, int]()
        for _ in range(r.set_size // r.set_batch):
            batch = draw("set")
            # A pair that is drawn twice gets other candidates: its place among its own draws is part of the seed.
            order = self.group.gather(batch["index"]).tolist()
            times = []
            for index in order:
                times.append(seen.get(index, 0))
                seen[index] = times[-1] + 1
            first = self.group.rank * len(batch["index"])
            batch["time"] = torch.tensor(times[first : first + len(batch["index"])])
            found = {
                **{name: batch[name] for name in ("index", "crop")},
                **self.search(batch, self._seeds(batch, step), pause=pause),
            }
            if r.adaptive_gamma:
                age = torch.zeros_like(found["seed"])
                found |= {"time": batch["time"], "age": age, "threshold": (1 - r.adaptive_gamma) * found["distance"]}
            parts.append({k: self._gather(v) for k, v in found.items()})
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def _renew(self, draw: Draw, last: Table, step: int, pause: Pause) -> Table:
        """Adaptive IMLE (Aghabozorgi, Peng, Li, ICML 2023), as its released code has it: a pair is searched again when
        its chosen sample has come nearer than its threshold tau and `adaptive_staleness` refreshes have passed, or
        after `adaptive_force` in any case; tau is then (1 - gamma) times the distance before that search. (The first
        tau is of the first match's own distance; there it comes from codes that were never matched.)"""
        r, table = self.recipe, {name: column.clone() for name, column in last.items()}
        for _ in range(r.set_size // r.set_batch):
            batch = draw("rows")
            row = {name: batch[name].cpu() for name in ("row", *last)}
            now, age = self._distances(batch), row["age"] + 1
            due = ((now < row["threshold"]) & (age >= r.adaptive_staleness)) | (age >= r.adaptive_force)
            found = {**{name: row[name].clone() for name in last}, "distance": now, "age": age}
            if bool(due.any()):
                some = {name: value[due] for name, value in batch.items()}
                searched = self.search(some, self._seeds(some, step), pause=pause)
                tau = (1 - r.adaptive_gamma) * now[due]
                for name, column in {**searched, "threshold": tau, "age": torch.zeros_like(age[due])}.items():
                    found[name][due] = column
            for _ in range(len(due) - int(due.sum())):
                pause()  # equally often on every rank
            rows = self._gather(row["row"])
            for name, column in found.items():
                table[name][rows] = self._gather(column)
        return table

    def _gather(self, column: Tensor) -> Tensor:
        """All ranks' rows, on the CPU; what gathers on GPUs wants it there."""
        return self.group.gather(column.to(self.noisy.device)).cpu()

    def _distances(self, batch: Batch) -> Float[Tensor, " b"]:
        """Of each row's chosen sample now; one pair at a time, as in a search, so that no batch size shows."""
        masks, found = self.mask(batch), []
        z = self.noise(batch["seed"], batch["candidate"], batch["target"].shape[2:])
        for i in range(len(batch["index"])):
            fake = self.picture(self.condition(batch["input"][i : i + 1]), [one[i : i + 1] for one in z])
            wanted = self.distance.features(batch["target"][i : i + 1])
            mask = None if masks is None else masks[i : i + 1]
            found.append(self.distance.total(self.distance.features(fake), wanted, mask))
        return torch.cat(found).float().cpu()

    def _seeds(self, batch: Batch, step: int) -> list[int]:
        """`settle` counts its steps on from those of `imle`: its candidates are others."""
        r = self.recipe
        first = r.imle_images // r.batch if self.stage == "settle" else 0
        pairs = zip(batch["index"].tolist(), batch["time"].tolist(), strict=True)
        return [noise_seed(r.seed, first + step, index, time) for index, time in pairs]

    @torch.no_grad()
    def search(self, batch: Batch, seeds: Sequence[int], samples: int = 0, pause: Pause = no_pause) -> Table:
        """The nearest of `samples` (none: the recipe's) candidates to each target, one pair at a time, `pause` after
        each.

        Returns columns `seed` (int64 `B`), `candidate` (int64 `B L`: one number a level, ordinarily L = 1), `distance`
        (float32 `B`), `runners_up` (float32 `B 4`: ascending, infinite where there are fewer), `rejected` and
        `all_rejected` (int64 `B`).

        Raises:
            ValueError: a number of samples for a search level by level.
            FloatingPointError: the generator gives what is not finite.
        """
        r, masks, found = self.recipe, self.mask(batch), []
        if samples and r.level_samples:
            raise ValueError(f"--samples {samples}: this run searches level by level, by --level-samples")
        for i, seed in enumerate(seeds):
            x = self.condition(batch["input"][i : i + 1])
            target, mask = batch["target"][i : i + 1], None if masks is None else masks[i : i + 1]
            if r.level_samples:
                found.append(level_by_level(self, x, target, mask, seed))
            else:
                found.append(nearest(self, x, target, mask, seed, samples or r.samples))
            pause()
        return {
            "seed": torch.tensor(list(seeds)),
            "candidate": torch.tensor([list(one.candidate) for one in found]),
            "distance": torch.tensor([one.distance for one in found]),
            "runners_up": torch.stack([one.runners_up for one in found]),
            "rejected": torch.tensor([one.rejected for one in found]),
            "all_rejected": torch.tensor([int(one.all_rejected) for one in found]),
        }

    def search_by(self, how: str, samples: int) -> int:
        if samples and self.recipe.level_samples:
            raise ValueError(f"--samples {samples}: this run searches level by level, by its own --level-samples")
        if how not in ("", "exact", "projected"):
            raise ValueError(f"--search {how}: exact or projected")
        search: Any = how or self.recipe.search
        self.recipe = replace(self.recipe, search=search)
        check(self.recipe, None)
        return samples or (0 if self.recipe.level_samples else self.recipe.samples)

    def search_seed(self, step: int, index: int) -> int:
        return noise_seed(self.recipe.seed, step, index)

    @torch.no_grad()
    def found(self, batch: Batch, table: Table) -> Tensor:
        x = self.condition(batch["input"])
        return self.picture(x, self.noise(table["seed"], table["candidate"], x.shape[2:])).clamp(-1, 1)

    # Noise and condition ---------------------------------------------------------------------------------------------

    def _sizes(self, size: Sequence[int]) -> list[tuple[int, ...]]:
        """(height, width) of the noise of each level, coarse to fine."""
        return [tuple(side >> k for side in size) for k in range(self._heads - 1, -1, -1)]

    def noise(
        self, seeds: Int[Tensor, " b"], candidates: Int[Tensor, "b l"], size: Sequence[int]
    ) -> list[Float[Tensor, "b n h w"]]:
        """Raw noise N(0, 1) of candidates, a map a level: a function of seed, candidate and level alone."""
        return [self.level_noise(seeds, candidates[:, level], level, size) for level in range(self._heads)]

    def level_noise(
        self, seeds: Int[Tensor, " b"], candidates: Int[Tensor, " b"], level: int, size: Sequence[int]
    ) -> Float[Tensor, "b n h w"]:
        """One level's, for pictures of `size`; drawn on the CPU."""
        shape = (self.recipe.noise, *self._sizes(size)[level])
        own = ("level", level) if level else ()
        drawn = [_normal(shape, s, c, *own) for s, c in zip(seeds.tolist(), candidates.tolist(), strict=True)]
        return torch.stack(drawn).to(next(self.generator.parameters()))

    def _moved(self, z: Float[Tensor, "b n h w"], level: int, images: int, rows: Tensor) -> Float[Tensor, "b n h w"]:
        """Fresh N(0, 1), for each row of the table its own."""
        own = ("level", level) if level else ()
        drawn = [_normal(z.shape[1:], self.recipe.seed, "jitter", self.stage, images, int(k), *own) for k in rows]
        return torch.stack(drawn).to(z)

    def condition(self, x: Tensor) -> Float[Tensor, "b c h w"]:
        """The generator's condition: label ids as one-hot channels, or the picture as it is.

        Raises:
            ValueError: ids that the recipe has no channel for, or an input of the other kind.
        """
        r = self.recipe
        if (r.condition == "labels") != (x.ndim == 3):
            kind = "label ids" if x.ndim == 3 else "pictures"
            raise ValueError(f"--condition {r.condition}: the data set's inputs are {kind}")
        if r.condition == "image":
            return x
        if r.other:
            x = x.clamp(max=r.labels - 1)
        elif int(x.max()) >= r.labels:
            raise ValueError(f"--labels {r.labels}: an input has the label id {int(x.max())}")
        dtype = next(self.generator.parameters()).dtype
        return F.one_hot(x, r.labels).movedim(-1, 1).to(dtype)

    # Use -------------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def sample(self, given: Batch, count: int, generator: torch.Generator, sampler: str = "") -> Tensor:
        self.chosen_sampler(sampler)
        x = self.condition(given["input"])
        drawn = []
        for _ in range(count):
            shapes = [(len(x), self.recipe.noise, *size) for size in self._sizes(x.shape[2:])]
            z = [torch.randn(shape, generator=generator).to(x) * self.noisy for shape in shapes]
            codes = [self.average_encoder.net(x, one) if self._encodes else one for one in z]
            drawn.append(self.average_generator.net(x, *codes).clamp(-1, 1))
        return torch.stack(drawn, 1)

    def graph(self, given: Batch, generator: torch.Generator) -> Graph:
        """From input and raw noise, a map a level, to the averaged generator's picture."""
        r, x = self.recipe, given["input"]
        net, encoder = self.average_generator.net, self.average_encoder.net
        noisy, encodes = int(self.noisy), self._encodes

        def picture(x: Tensor, *z: Tensor) -> Tensor:
            if r.condition == "labels":
                x = traced_one_hot(x.clamp(max=r.labels - 1) if r.other else x, r.labels, next(net.parameters()).dtype)
            out: Tensor = net(x, *(encoder(x, one) if encodes else one * noisy for one in z))
            return out.clamp(-1, 1)

        inputs, ranges = {"input": x}, {"input": class_ids(r.labels) if r.condition == "labels" else PICTURE}
        for level, size in enumerate(self._sizes(x.shape[-2:])):
            name = f"noise{level}" if self._heads > 1 else "noise"
            inputs[name], ranges[name] = torch.randn(len(x), r.noise, *size, generator=generator), "N(0, 1)"
        call = Call(picture, net, encoder) if encodes else Call(picture, net)
        return Graph(call, inputs, {**ranges, "picture": PICTURE})

    @torch.no_grad()
    def preview(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        drawn = self.sample(batch, 5 if self.noisy else 1, generator)
        samples = {f"sample {i + 1}": drawn[:, i] for i in range(drawn.shape[1])}
        return {"input": batch["input"], "truth": batch["target"], **samples}

    @torch.no_grad()
    def evaluate(self, batch: Batch) -> dict[str, float]:
        """`nearest`: smallest of `EVALUATED` samples' distances to the truth; `mean`: their mean; `spread`: mean
        absolute difference of two samples, 0-255."""
        if not self.distance.calibrated:
            return {}
        generator = seeded(self.recipe.seed, "evaluate", int(batch["index"][0]))
        drawn = self.sample(batch, EVALUATED, generator)
        wanted = self.distance.features(batch["target"])
        each = torch.stack([self.distance.total(self.distance.features(d), wanted) for d in drawn.unbind(1)], 1)
        spread = (drawn[:, 1:] - drawn[:, :-1]).abs().mean() * HALF_RANGE
        return {"nearest": float(each.amin(1).mean()), "mean": float(each.mean()), "spread": float(spread)}


def _normal(shape: Iterable[int], *parts: int | str) -> Tensor:
    return torch.randn(tuple(shape), generator=seeded(*parts))


def noise_seed(seed: int, step: int, index: int, time: int = 0) -> int:
    """The seed of all candidates of sample `index`, searched at `step`; `time`: how often it came before in the set."""
    return seed_of(seed, "noise", step, index, time)


def check(recipe: Config, perceptual: nn.Module | None) -> None:
    """Refuse what does not fit together, before anything is built.

    Raises:
        ValueError: naming the option, its value and what to do.
    """
    r = recipe
    height = BASE << (len(r.widths) - 1)
    if r.size != height:
        raise ValueError(f"--size {r.size}: {len(r.widths)} --widths refine from {BASE} to {height}")
    for name in ("noise", "samples", "refresh_steps", "rerank", "projection"):
        if getattr(r, name) < 1:
            raise ValueError(f"--{name.replace('_', '-')} {getattr(r, name)}: give at least 1")
    if not 0 <= r.adaptive_gamma < 1:
        raise ValueError(f"--adaptive-gamma {r.adaptive_gamma}: from 0 (off) to below 1")
    if r.level_samples:
        _check_levels(r)
    if r.set_size < 1 or r.set_size % r.set_batch:
        raise ValueError(f"--set-size {r.set_size} is not a multiple of --set-batch {r.set_batch}")
    if r.perceptual_factors == "paper":
        named = [PIXELS, *r.perceptual_layers]
        if missing := [name for name in named if name not in PAPER_FACTORS]:
            raise ValueError(f"--perceptual-layers {' '.join(missing)}: the paper has no factor for it; calibrate")
        caffe = getattr(perceptual, "preprocessing", "") == "caffe" and getattr(perceptual, "name", "") == "vgg19"
        if perceptual is not None and not caffe:
            raise ValueError("--perceptual-factors paper: they hold for Caffe's VGG-19 alone; use calibrated")
    if perceptual is not None:
        layers: Sequence[str] = getattr(perceptual, "layers", ())
        if missing := [name for name in r.perceptual_layers if name not in layers]:
            raise ValueError(f"--perceptual-layers {' '.join(missing)}: not among the VGG's ({' '.join(layers)})")


def _check_levels(r: Config) -> None:
    option = f"--level-samples {' '.join(map(str, r.level_samples))}"
    if min(r.level_samples) < 1 or len(r.level_samples) > len(r.widths):
        raise ValueError(f"{option}: at least 1 each, and at most one for each of the {len(r.widths)} --widths")
    if r.noise_encoder or r.epsilon or r.search != "exact":
        raise ValueError(f"{option}: goes with --no-noise-encoder, --search exact and --epsilon 0")
    deepest = max((int(name[4]) for name in r.perceptual_layers), default=1)
    coarsest = r.size >> (len(r.level_samples) - 1)
    if coarsest < 1 << (deepest - 1):
        raise ValueError(f"{option}: its coarsest pictures, {coarsest} pixels, are too small for VGG's block {deepest}")
