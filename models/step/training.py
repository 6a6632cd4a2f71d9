"""How StEP is trained: encoder, generator, finetune, mapper; and what it can then be asked for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from models.common.average import Average
from models.common.graph import PICTURE, Call, Graph
from models.common.layers import Live
from models.common.optimise import adam, move, parameters, scalars
from models.common.patchgan import PatchDiscriminator, smallest_side
from models.common.perceptual import Perceptual, gradient_ratio
from models.common.seeds import seeded
from models.family import Batch, Draw, Family, Match, Pause, Stage, Stream, Table, Tables, no_pause
from models.group import Group
from models.step.losses import (
    code_penalty,
    discriminator_loss,
    generator_loss,
    linear_decay,
    mapper_loss,
    triplet_loss,
)
from models.step.networks import DOWNS, Generator, Mapper, StyleEncoder
from models.step.recipe import Config
from models.step.switches import further_pictures, further_terms, judged, kl, swaps_codes, training_code

CAFFE_FACTORS = tuple(0.1**2 * weight for weight in (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0))
"""The reconstruction term in the released code: weights 1/32 ... 1, activations times 0.1 before squaring."""
CANDIDATES = 10


class StEP(Family):
    """E, G, D and M with their stages. `state_dict()`: raw weights, averages of E and G, the perceptual factors, the
    codes' mean and Cholesky factor, the number of codes; the perceptual VGG is not in it."""

    samplers = ("mapper", "gaussian")
    recipe: Config
    rows: Tensor
    code_mean: Tensor
    code_factor: Tensor

    def __init__(self, recipe: Config, group: Group, perceptual: nn.Module | None) -> None:
        super().__init__()
        check(recipe, perceptual)
        self.recipe, self.group, r = recipe, group, recipe
        self.encoder = StyleEncoder(r.encoder_width, r.code, seeded(r.seed, "encoder"), r.vae)
        self.generator = Generator(r.generator_width, r.generator_blocks, r.code, seeded(r.seed, "generator"))
        self.discriminator = PatchDiscriminator(
            6, r.discriminator_width, r.discriminator_layers, r.discriminator_scales, seeded(r.seed, "discriminator")
        )
        self.mapper = Mapper(r.code, r.mapper_width, seeded(r.seed, "mapper"))
        self.average_encoder = Average(self.encoder, r.average_decay, r.average_warm_up)
        self.average_generator = Average(self.generator, r.average_decay, r.average_warm_up)
        layers = r.perceptual_layers
        self.perceptual = Perceptual(perceptual, layers, [0.0] * len(layers) if r.perceptual_value else CAFFE_FACTORS)
        self.register_buffer("rows", torch.zeros((), dtype=torch.int64))
        self.register_buffer("code_mean", torch.zeros(r.code))
        self.register_buffer("code_factor", torch.zeros(r.code, r.code))
        group.share(self)
        self.stage = ""
        self.optimisers = {}
        self.matched: Tensor | None = None

    # Stages ----------------------------------------------------------------------------------------------------------

    @property
    def stages(self) -> list[Stage]:
        r = self.recipe
        batch, steps = self._mapper_batch, self._mapper_epoch_steps
        return [
            Stage("encoder", r.encoder_images, r.encoder_batch),
            Stage("generator", r.generator_images, r.batch),
            Stage("finetune", r.finetune_images, r.batch),
            Stage("mapper", r.mapper_epochs * steps * batch, batch, r.mapper_refresh_epochs * steps),
        ]

    @property
    def _mapper_batch(self) -> int:
        return min(self.recipe.mapper_batch, int(self.rows)) or self.recipe.mapper_batch

    @property
    def _mapper_epoch_steps(self) -> int:
        """Steps of one epoch over the codes, which are cut to a multiple of the batch."""
        return int(self.rows) // self._mapper_batch

    def streams(self, stage: str) -> dict[str, Stream]:
        r = self.recipe
        if stage == "encoder":
            return {"triplets": Stream(source="triplets", fields=("target",), batch=r.encoder_batch)}
        if stage == "mapper":
            return {"codes": Stream(source="table", table="finetune", order="fixed", batch=self._mapper_batch)}
        unit = 2 if swaps_codes(r) else 1
        return {"pairs": Stream(fields=("input", "target"), batch=r.batch, augment=r.augment, unit=unit)}

    def parts(self, stage: str) -> tuple[str, ...]:
        encoder = ("encoder.", "average_encoder.")
        generator = ("generator.", "discriminator.", "average_generator.", "perceptual.")
        codes = ("mapper.", "rows", "code_mean", "code_factor")
        return {"encoder": encoder, "generator": generator, "finetune": encoder + generator, "mapper": codes}[stage]

    def enter(self, stage: str) -> None:
        """Fresh Adam states; everything else goes on from the raw weights (D's too)."""
        self.stage = stage
        self.matched = None
        trained: dict[str, Sequence[nn.Module]] = {
            "encoder": [self.encoder],
            "generator": [self.generator],
            "finetune": [self.generator, self.encoder],
            "mapper": [self.mapper],
        }
        if stage not in trained:
            raise ValueError(f"no stage {stage!r}: choose one of {', '.join(trained)}")
        betas = (0.5, 0.999) if stage == "mapper" else (self.recipe.beta1, self.recipe.beta2)
        self.optimisers = {"main": adam(parameters(*trained[stage]), betas)}
        if stage in ("generator", "finetune"):
            self.optimisers["discriminator"] = adam(parameters(self.discriminator), betas)

    def update(self, draw: Draw, images: int) -> dict[str, Tensor]:
        if self.stage == "encoder":
            return self._update_encoder(draw, images)
        if self.stage == "mapper":
            return self._update_mapper(draw, images)
        return self._update_generator(draw, images)

    def _update_encoder(self, draw: Draw, images: int) -> dict[str, Tensor]:
        batch, r = draw("triplets"), self.recipe
        # No statistics over the batch in E: one pass over the three thirds is the same as three passes.
        moments = self.encoder.moments(torch.cat([batch["anchor"], batch["positive"], batch["negative"]]))
        live = Live(seeded(r.seed, "encoder", images), self.group)
        thirds = zip(*(moment.chunk(3) for moment in moments), strict=True)
        a, p, n = (training_code(r, mean, logvar, live) for mean, logvar in thirds)
        triplet, penalty = triplet_loss(a, p, n, r.margin), code_penalty(a, p, n)
        loss = triplet + r.code_weight * penalty
        if r.kl_weight:
            loss = loss + r.kl_weight * kl(*moments)
        self._step({"main": (list(self.encoder.parameters()), _gradients(loss, self.encoder))}, r.encoder_rate)
        self.average_encoder.restart(self.encoder)  # no average in this stage, but sampling and harvest ask for it
        right = ((a - p).square().sum(1) < (a - n).square().sum(1)).to(a.dtype).mean()
        return scalars(loss=loss, triplet=triplet, code_penalty=penalty, triplets_right=right)

    def _update_generator(self, draw: Draw, images: int) -> dict[str, Tensor]:
        """One forward pass; the gradients of G (and E) and of D are both taken from it before either moves."""
        r, last = self.recipe, self.stage == "finetune"
        tuned = last and r.finetune_encoder
        if not self.perceptual.calibrated:
            self._calibrate(draw)
        batch = draw("pairs")
        x, y = batch["input"], batch["target"]
        live = Live(seeded(r.seed, self.stage, images), self.group)
        with torch.set_grad_enabled(tuned):
            moments = self.encoder.moments(y)
            z = training_code(r, *moments, live)
        fake = self.generator(x, z)
        more = further_pictures(r, self.generator, self.encoder, x, z, live)
        fake_logits = self.discriminator(fake, x, self.group)
        real_logits = self.discriminator(y, x, self.group)
        d_loss = discriminator_loss(real_logits, fake_logits)
        extra = further_terms(r, self.encoder, self.perceptual, more, fake, y, z, moments)
        for name, (picture, weight) in judged(r, more).items():
            found = self.discriminator(picture, x, self.group)
            d_loss = d_loss + weight * discriminator_loss(real_logits, found)
            extra[f"gan_{name}"] = weight * generator_loss(found)
        gan, penalty = generator_loss(fake_logits), code_penalty(z)
        perceptual = r.perceptual_weight * self.perceptual(fake, y)

        d_params = list(self.discriminator.parameters())
        d_grads = torch.autograd.grad(d_loss, d_params, retain_graph=True)
        # Taken at the picture, where the two terms meet: their sizes can be compared, and one pass through G suffices.
        (by_gan,) = torch.autograd.grad(gan, fake)
        (by_perceptual,) = torch.autograd.grad(perceptual, fake)
        ends, weights = [fake], [by_gan + by_perceptual]
        if tuned:
            ends, weights = [*ends, penalty], [*weights, torch.full_like(penalty, r.code_weight)]
        moving = [term for term in extra.values() if term.requires_grad]  # E's own divergence stands still with E
        ends, weights = [*ends, *moving], [*weights, *map(torch.ones_like, moving)]
        params = [
            p for net in ([self.generator, self.encoder] if tuned else [self.generator]) for p in net.parameters()
        ]
        grads = torch.autograd.grad(ends, params, weights)

        constant, total = (
            (r.finetune_constant, r.finetune_images) if last else (r.generator_constant, r.generator_images)
        )
        rate = r.rate * linear_decay(images, constant, total, r.decay_stretch)
        self._step({"main": (params, grads), "discriminator": (d_params, d_grads)}, rate)
        self.average_generator.update(self.generator)
        if tuned:
            self.average_encoder.update(self.encoder)
        return scalars(
            loss=sum(extra.values(), gan + perceptual + r.code_weight * penalty),
            **extra,
            gan=gan,
            discriminator=d_loss,
            perceptual=perceptual,
            code_penalty=penalty,
            perceptual_to_gan_gradient=gradient_ratio(by_perceptual, by_gan),
            rate=rate,
            **{
                f"perceptual_factor_{name}": f
                for name, f in zip(r.perceptual_layers, self.perceptual.factors, strict=True)
            },
        )

    @torch.no_grad()
    def _calibrate(self, draw: Draw) -> None:
        """Set the perceptual factors from pairs of unrelated targets: each draw's against the next draw's."""
        found: list[Tensor] = []
        last = draw("pairs")["target"]
        while sum(map(len, found)) * self.group.world < self.recipe.perceptual_pairs:
            target = draw("pairs")["target"]
            found.append(self.perceptual.distances(last, target))
            last = target
        self.perceptual.calibrate(self.group.gather(torch.cat(found)), self.recipe.perceptual_value)

    def _update_mapper(self, draw: Draw, images: int) -> dict[str, Tensor]:
        if self.matched is None:
            raise ValueError("the mapper has no matches yet: refresh() comes before update()")
        batch, r = draw("codes"), self.recipe
        code = batch["code"].to(self.code_mean)
        mapped = self.mapper(self.matched[batch["row"].to(self.matched.device)])
        # A sum, not a mean: times the number of ranks, so that the average of the gradients is the whole batch's sum.
        loss = mapper_loss(mapped, code) * self.group.world
        epoch = images // (self._mapper_epoch_steps * self._mapper_batch)
        rate = r.mapper_rate * r.mapper_decay ** (epoch // r.mapper_decay_epochs)
        self._step({"main": (list(self.mapper.parameters()), _gradients(loss, self.mapper))}, rate)
        return scalars(loss=loss, rate=rate)

    def _step(self, moves: dict[str, tuple[Sequence[nn.Parameter], Sequence[Tensor]]], rate: float) -> None:
        """Average the gradients over the ranks and move; all gradients are there before the first network moves."""
        for name, (params, grads) in moves.items():
            move(self.group, self.optimisers[name], params, grads, rate)

    # Harvest and matches ---------------------------------------------------------------------------------------------

    def harvest(self, stage: str, batches: Iterable[Batch]) -> Table | None:
        """After finetune: `{"code": N d}`, the averaged E's codes of the targets."""
        if stage != "finetune":
            return None
        return {"code": torch.cat([self.codes(batch["target"]).cpu() for batch in batches])}

    @torch.no_grad()
    def adopt(self, stage: str, table: Table) -> None:
        """Keep the codes' number, mean and Cholesky factor of the covariance (for the gaussian sampler)."""
        code = table["code"].double()
        n = len(code)
        if n < 2:
            raise ValueError(f"{n} codes: the mapper and the gaussian need at least 2 pictures")
        covariance = code.T.cov()
        # Fewer pictures than dimensions, or a dead one, leave it singular: a thousandth of a millionth of its size.
        ridge = 1e-9 * covariance.diagonal().mean().clamp_min(1e-12) * torch.eye(code.shape[1], dtype=torch.float64)
        self.rows.fill_(n)
        self.code_mean.copy_(code.mean(0))
        self.code_factor.copy_(torch.linalg.cholesky(covariance + ridge))

    @torch.no_grad()
    def refresh(self, draw: Draw, tables: Tables, match: Match, step: int, pause: Pause = no_pause) -> None:
        """For each code the nearest of `mapper_pool` x N mapped noise vectors; that vector, slightly moved, is kept."""
        if "finetune" not in tables:
            raise ValueError("the mapper stage needs the codes that the finetune stage harvests")
        r, code = self.recipe, tables["finetune"]["code"].float()
        generator = seeded(r.seed, "mapper", step)
        noise = torch.randn(r.mapper_pool * len(code), r.code, generator=generator)
        mapped = self.mapper(noise.to(self.code_mean)).float().cpu()
        nearest = match(code.cpu(), mapped)
        moved = noise[nearest] + r.mapper_noise * torch.randn(code.shape, generator=generator)
        self.matched = moved.to(self.code_mean)

    # State -----------------------------------------------------------------------------------------------------------

    def training_state(self) -> dict[str, Any]:
        state = super().training_state()
        return state if self.matched is None else {**state, "matched": self.matched}

    def load_training_state(self, state: dict[str, Any]) -> None:
        super().load_training_state(state)
        self.matched = state["matched"].to(self.code_mean).clone() if "matched" in state else None

    def perceptual_card(self) -> dict[str, float]:
        """Layer -> factor of the perceptual loss, for the card; 0 before the rescaling."""
        return self.perceptual.named_factors()

    # Use -------------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def codes(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """The averaged E's codes of pictures in [-1, 1]."""
        z: Tensor = self.average_encoder.net(images)
        return z

    @torch.no_grad()
    def generate(self, given: Batch, code: Float[Tensor, "b d"]) -> Float[Tensor, "b 3 h w"]:
        """The averaged G's pictures, in [-1, 1]."""
        out: Tensor = self.average_generator.net(given["input"], code)
        return out

    @torch.no_grad()
    def draw_codes(self, count: int, generator: torch.Generator, sampler: str = "") -> Float[Tensor, "n d"]:
        """`count` random codes: `mapper` (M of noise; also the default) or `gaussian` (fitted to the training codes).

        Raises:
            ValueError: no such sampler, or no codes harvested yet.
        """
        sampler = self.chosen_sampler(sampler)
        if not int(self.rows):
            raise ValueError(f"--sampler {sampler}: no codes yet; train the finetune stage to its end first")
        noise = torch.randn(count, self.recipe.code, generator=generator).to(self.code_mean)
        drawn: Tensor = self.mapper(noise) if sampler == "mapper" else self.code_mean + noise @ self.code_factor.T
        return drawn

    @torch.no_grad()
    def sample(self, given: Batch, count: int, generator: torch.Generator, sampler: str = "") -> Tensor:
        input = given["input"]
        codes = self.draw_codes(len(input) * count, generator, sampler).view(len(input), count, -1)
        net = self.average_generator.net
        features = net.content(input)  # type: ignore[operator]  # the input's part does not depend on the code
        return torch.stack([net.decoder(features, codes[:, k]) for k in range(count)], 1)  # type: ignore[operator]

    def graph(self, given: Batch, generator: torch.Generator) -> Graph:
        """From input and code to the averaged G's picture."""
        x, net = given["input"], self.average_generator.net
        shape = len(x), self.recipe.code
        code = self.draw_codes(len(x), generator) if int(self.rows) else torch.randn(shape, generator=generator)
        ranges = {"input": PICTURE, "code": "a style code of the encoder or the mapper", "picture": PICTURE}
        return Graph(Call(net.forward, net), {"input": x, "code": code}, ranges)

    def reconstruct(self, batch: Batch) -> Tensor:
        return self.generate(batch, self.codes(batch["target"]))

    @torch.no_grad()
    def preview(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Input, truth, the target's own code; then the codes of other rows, in the mapper stage random samples."""
        if self.stage == "encoder":
            return {}
        x, y = batch["input"], batch["target"]
        shown = {"input": x, "truth": y, "own code": self.reconstruct(batch)}
        if self.stage == "mapper":
            drawn = self.sample(batch, 4, generator)
            return {**shown, **{f"sample {i + 1}": drawn[:, i] for i in range(4)}}
        others, z = range(min(4, len(x))), self.codes(y)
        return {**shown, **{f"code of row {i + 1}": self.generate(batch, z[i : i + 1].expand_as(z)) for i in others}}

    @torch.no_grad()
    def evaluate(self, batch: Batch) -> dict[str, float]:
        """Where pictures are made: L1 and perceptual distance of the reconstruction; `own_code_wins`: share of targets
        nearer (RMS) to it than to the picture with the next target's code (chance 0.5); `code_found`: share of
        E(G(x, z)), z another target's code, nearest to their z among the batch's codes, ten at most."""
        if self.stage not in ("generator", "finetune"):
            return {}
        x, y = batch["input"], batch["target"]
        z = self.codes(y)
        own = self.generate(batch, z)
        found = {"l1": float((own - y).abs().mean())}
        if self.perceptual.present and self.perceptual.calibrated:
            found["perceptual"] = float(self.perceptual(own, y))
        if len(x) > 1:
            other = self.generate(batch, z.roll(1, 0))
            wins = (own - y).square().mean((1, 2, 3)) < (other - y).square().mean((1, 2, 3))
            found["own_code_wins"] = float(wins.double().mean())
            found["code_found"] = codes_found(self.codes(other), z.roll(1, 0))
        return found


def codes_found(seen: Float[Tensor, "b d"], wanted: Float[Tensor, "b d"]) -> float:
    """Share of rows of `seen` whose nearest among ten rows of `wanted`, their own and the next nine, is their own."""
    b = len(wanted)
    offsets = torch.arange(min(CANDIDATES, b), device=wanted.device)
    candidates = wanted[(torch.arange(b, device=wanted.device)[:, None] + offsets) % b]  # B 10 d, own first
    nearest = (candidates - seen[:, None]).square().sum(2).argmin(1)
    return float((nearest == 0).double().mean())


def _gradients(loss: Tensor, net: nn.Module) -> Sequence[Tensor]:
    return torch.autograd.grad(loss, list(net.parameters()))


def check(recipe: Config, perceptual: nn.Module | None) -> None:
    """Refuse sizes and factors that do not fit together, before anything is built.

    Raises:
        ValueError: naming the option, its value and what to do.
    """
    r = recipe
    if r.size % (1 << DOWNS):
        raise ValueError(f"--size {r.size}: must be a multiple of {1 << DOWNS}, G halves it {DOWNS} times")
    least = max(smallest_side(r.discriminator_layers, r.discriminator_scales), 2 << DOWNS)
    if r.size < least:
        raise ValueError(f"--size {r.size}: at least {least} with --discriminator-scales {r.discriminator_scales}")
    if swaps_codes(r) and r.batch % 2:
        raise ValueError(f"--batch {r.batch}: codes are swapped in pairs, give an even number")
    if r.perceptual_value < 0:
        raise ValueError(f"--perceptual-value {r.perceptual_value}: 0 for the paper's factors, or above")
    if not r.perceptual_value and len(r.perceptual_layers) != len(CAFFE_FACTORS):
        raise ValueError(
            f"--perceptual-layers {' '.join(r.perceptual_layers)}: the paper's factors are for five layers; "
            "set --perceptual-value above 0 to rescale these"
        )
    if perceptual is None:
        return
    caffe = getattr(perceptual, "preprocessing", "") == "caffe" and getattr(perceptual, "name", "") == "vgg16"
    if not r.perceptual_value and not caffe:
        raise ValueError(
            "--perceptual-value 0: the paper's factors hold for Caffe's VGG-16 (BGR, 0-255) alone; "
            "with other weights set it above 0, and each layer is rescaled to that value"
        )
    layers: Sequence[str] = getattr(perceptual, "layers", ())
    missing = [name for name in r.perceptual_layers if name not in layers]
    if missing:
        raise ValueError(f"--perceptual-layers {' '.join(missing)}: not among the VGG's ({' '.join(layers)})")
