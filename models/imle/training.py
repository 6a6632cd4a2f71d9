"""How conditional IMLE is trained: search the nearest of m candidates of each pair, then train on those for a while."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from models.common.average import Average
from models.common.seeds import seeded
from models.family import Batch, Draw, Family, Group, Match, Stage, Stream, Table, Tables
from models.imle.distance import HALF_RANGE, PAPER_FACTORS, PIXELS, MaskedDistance
from models.imle.networks import BASE, Generator, NoiseEncoder

if TYPE_CHECKING:
    from models.imle import Config

RUNNERS_UP = 4
"""Distances kept of each search beside the winner's."""
EVALUATED = 8
"""Samples of each held-out input in `evaluate`."""


class IMLE(Family):
    """Generator and noise encoder. `state_dict()`: both, their averages, the distance's factors; not the VGG."""

    recipe: Config
    noisy: Tensor

    def __init__(self, recipe: Config, group: Group, perceptual: nn.Module | None) -> None:
        super().__init__()
        check(recipe, perceptual)
        self.recipe, self.group, r = recipe, group, recipe
        channels = r.labels if r.condition == "labels" else 3
        self.generator = Generator(channels, r.noise, r.widths, seeded(r.seed, "generator"))
        self.encoder = NoiseEncoder(channels, r.noise, seeded(r.seed, "encoder"), r.encoder_width)
        self.average_generator = Average(self.generator, r.average_decay, r.average_warm_up)
        self.average_encoder = Average(self.encoder, r.average_decay, r.average_warm_up)
        self.distance = MaskedDistance(perceptual, r.perceptual_layers, r.perceptual_factors == "paper")
        # Whether the weights know noise: after `crn` alone they do not, and its channels would be untrained.
        self.register_buffer("noisy", torch.ones((), dtype=torch.int64))
        group.share(self)
        self.stage = ""
        self.optimisers: dict[str, torch.optim.Adam] = {}
        self.rarity: Table = {}
        self.matches: Table = {}

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
            # Section 4, data set: places of S take turns between the largest classes, each picture by its rarity there.
            largest = self.rarity["classes"][0, : r.rarity_classes]
            drawn = replace(drawn, order="weighted", weights=self.rarity["rarity"][:, largest].T.contiguous())
        return {"pairs": chosen, "set": drawn}

    def take(self, artifact: str, table: Table) -> None:
        """`rarity`: what data set and loss are re-balanced by. `matches`: trained on in place of own searches."""
        if artifact == "matches":
            self.matches = table
            return
        if artifact != "rarity" or self.recipe.condition != "labels":
            raise ValueError(f"--{artifact}: conditional IMLE re-balances label maps (--condition labels) by rarity")
        if table["rarity"].shape[1] != self.recipe.labels:
            raise ValueError(f"--rarity: of {table['rarity'].shape[1]} classes, --labels is {self.recipe.labels}")
        self.rarity = table

    def mask(self, batch: Batch) -> Float[Tensor, "b 1 h w"] | None:
        """Section 4, loss: each pixel's weight is its class's in this picture, the rarest class's is 1."""
        if not self.rarity or not self.recipe.rarity_mask:
            return None
        ids = batch["input"].clamp(max=self.recipe.labels - 1)
        weights = self.rarity["mask"][batch["index"].cpu()].to(ids.device)  # B C
        return weights.gather(1, ids.flatten(1)).view(len(ids), 1, *ids.shape[1:])

    def parts(self, stage: str) -> tuple[str, ...]:
        return ("generator.", "encoder.", "average_generator.", "average_encoder.", "distance.")

    def enter(self, stage: str) -> None:
        """Fresh Adam states. `settle` begins with a fresh noise encoder too: against overfitting, says the released
        code, which does so after six of its sixteen rounds, with a tenth of the rate from then on."""
        r, self.stage = self.recipe, stage
        self.noisy.fill_(int(stage != "crn"))
        if stage == "settle" and r.imle_images:
            fresh = NoiseEncoder(self.encoder.condition, r.noise, seeded(r.seed, "encoder", stage), r.encoder_width)
            self.encoder.load_state_dict(fresh.state_dict())
            self.average_encoder.restart(self.encoder)
        if stage == "imle" and r.crn_images:
            self.generator.open_noise(seeded(r.seed, "generator", stage))
            self.average_generator.restart(self.generator)
        params = [*self.generator.parameters(), *(self.encoder.parameters() if self._encodes else ())]
        self.optimisers = {"main": torch.optim.Adam(params, lr=0.0, betas=(0.9, 0.999), eps=1e-8, fused=True)}

    @property
    def _encodes(self) -> bool:
        """Whether the noise encoder takes part: not where there is no noise."""
        return self.recipe.noise_encoder and bool(self.noisy)

    def picture(self, x: Float[Tensor, "b c h w"], z: Float[Tensor, "b n h w"]) -> Float[Tensor, "b 3 h w"]:
        """The raw networks' outputs for conditions and raw noise."""
        out: Tensor = self.generator(x, self.encoder(x, z) if self._encodes else z * self.noisy)
        return out

    # One step --------------------------------------------------------------------------------------------------------

    def update(self, draw: Draw, images: int) -> dict[str, float]:
        """One Adam step on pairs with their chosen noise (in `crn`: with none)."""
        r = self.recipe
        if not self.distance.calibrated:
            self._calibrate(draw)
        batch = draw("pairs")
        x, y = self.condition(batch["input"]), batch["target"]
        if self.stage == "crn":
            z = x.new_zeros(len(x), r.noise, *x.shape[2:])
        else:
            z = self.noise(batch["seed"], batch["candidate"], x.shape[2:])
            if r.jitter:
                moved = torch.stack([_normal(z.shape[1:], r.seed, "jitter", images, int(k)) for k in batch["row"]])
                z = z + r.jitter * moved.to(z)
        fake = self.picture(x, z)
        with torch.no_grad():
            wanted = self.distance.features(y)
        apart = self.distance.compare(self.distance.features(fake), wanted, self.mask(batch))
        terms = apart.mean(0) * self.distance.factors
        loss = terms.sum()
        params = self.optimisers["main"].param_groups[0]["params"]
        for p, grad in zip(params, torch.autograd.grad(loss, params), strict=True):
            p.grad = grad.contiguous()
        self.group.average(params)
        rate = r.settle_rate if self.stage == "settle" else r.rate
        self.optimisers["main"].param_groups[0]["lr"] = rate
        self.optimisers["main"].step()
        self.optimisers["main"].zero_grad()
        self.average_generator.update(self.generator)
        self.average_encoder.update(self.encoder)
        values = torch.cat([terms.detach().double(), loss.detach().double()[None]]).tolist()
        names = [f"distance_{name}" for name in self.distance.layers]
        return {"loss": values[-1], **dict(zip(names, values[:-1], strict=True))}

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
    def refresh(self, draw: Draw, tables: Tables, match: Match, step: int) -> Table:
        """Fill the set S with `set_size` pairs and find each one's nearest candidate; a rank searches its own share."""
        r, rows, seen = self.recipe, list[Table](), dict[int, int]()
        if self.matches:
            return self.matches
        if not self.distance.calibrated:
            self._calibrate(draw)
        for _ in range(r.set_size // r.set_batch):
            batch = draw("set")
            # A pair that is drawn twice gets other candidates: its place among its own draws is part of the seed.
            order = self.group.gather(batch["index"]).tolist()
            times = []
            for index in order:
                times.append(seen.get(index, 0))
                seen[index] = times[-1] + 1
            first = self.group.rank * len(batch["index"])
            own = zip(batch["index"].tolist(), times[first : first + len(batch["index"])], strict=True)
            seeds = [noise_seed(r.seed, step, index, time) for index, time in own]
            kept = {name: batch[name] for name in ("index", "crop")}
            found = self.search(batch, seeds)
            rows.append({k: self.group.gather(v).cpu() for k, v in {**kept, **found}.items()})
        return {name: torch.cat([part[name] for part in rows]) for name in rows[0]}

    @torch.no_grad()
    def search(self, batch: Batch, seeds: Sequence[int], samples: int = 0) -> Table:
        """The nearest of `samples` (none: the recipe's) candidates to each target. Of a candidate its distance is kept
        and nothing else, so that memory does not grow with their number; the target's features are computed once.

        Returns columns `seed`, `candidate` (int64 `B`), `distance` (float32 `B`), `runners_up` (float32 `B 4`:
        ascending, infinite where there are fewer). Ties go to the lower candidate.

        Raises:
            FloatingPointError: the generator gives what is not finite.
        """
        r = self.recipe
        count = samples or r.samples
        masks, winners, lists = self.mask(batch), [], []
        for i, seed in enumerate(seeds):
            x = self.condition(batch["input"][i : i + 1])
            wanted = self.distance.features(batch["target"][i : i + 1])
            mask = None if masks is None else masks[i : i + 1]
            parts = []
            for start in range(0, count, r.search_batch):
                candidates = torch.arange(start, min(start + r.search_batch, count))
                z = self.noise(torch.full_like(candidates, seed), candidates, x.shape[2:]).to(x)
                fake = self.picture(x.expand(len(z), -1, -1, -1), z)
                parts.append(self.distance.total(self.distance.features(fake), wanted, mask).float())
            every = torch.cat(parts).cpu()
            if not bool(every.isfinite().all()):
                raise FloatingPointError(
                    f"candidate {int((~every.isfinite()).nonzero()[0])} of seed {seed}: not finite"
                )
            order = every.argsort(stable=True)
            winners.append(order[0])
            lists.append(F.pad(every[order[: RUNNERS_UP + 1]], (0, max(0, RUNNERS_UP + 1 - count)), value=torch.inf))
        ranked = torch.stack(lists)
        return {
            "seed": torch.tensor(list(seeds)),
            "candidate": torch.stack(winners),
            "distance": ranked[:, 0].contiguous(),
            "runners_up": ranked[:, 1:].contiguous(),
        }

    def noise(
        self, seeds: Int[Tensor, " b"], candidates: Int[Tensor, " b"], size: Sequence[int]
    ) -> Float[Tensor, "b n h w"]:
        """Raw noise N(0, 1) of candidates: a function of seed and candidate alone, drawn on the CPU."""
        shape = (self.recipe.noise, *size)
        drawn = [_normal(shape, s, c) for s, c in zip(seeds.tolist(), candidates.tolist(), strict=True)]
        return torch.stack(drawn).to(next(self.generator.parameters()))

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

    # State -----------------------------------------------------------------------------------------------------------

    def training_state(self) -> dict[str, Any]:
        return {"adam": {name: optimiser.state_dict()["state"] for name, optimiser in self.optimisers.items()}}

    def load_training_state(self, state: dict[str, Any]) -> None:
        for name, optimiser in self.optimisers.items():
            settings = optimiser.state_dict()["param_groups"]
            optimiser.load_state_dict({"state": state["adam"][name], "param_groups": settings})

    # Use -------------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def sample(self, given: Batch, count: int, generator: torch.Generator, sampler: str = "") -> Tensor:
        if sampler and sampler not in self.samplers:
            raise ValueError(f"--sampler {sampler}: choose one of {', '.join(self.samplers)}")
        x = self.condition(given["input"])
        drawn = []
        for _ in range(count):
            z = torch.randn(len(x), self.recipe.noise, *x.shape[2:], generator=generator).to(x) * self.noisy
            code = self.average_encoder.net(x, z) if self._encodes else z
            drawn.append(self.average_generator.net(x, code).clamp(-1, 1))
        return torch.stack(drawn, 1)

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
    digest = hashlib.sha256(repr((seed, "noise", step, index, time)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def check(recipe: Config, perceptual: nn.Module | None) -> None:
    """Refuse what does not fit together, before anything is built.

    Raises:
        ValueError: naming the option, its value and what to do.
    """
    r = recipe
    height = BASE << (len(r.widths) - 1)
    if r.size != height:
        raise ValueError(f"--size {r.size}: {len(r.widths)} --widths refine from {BASE} to {height}")
    if r.samples < 1 or r.refresh_steps < 1:
        raise ValueError(f"--samples {r.samples}, --refresh-steps {r.refresh_steps}: give at least 1")
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
