"""How MUNIT is trained, and what it can then be asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from models.common.adversarial import (
    COLLAPSED,
    IGNORED,
    WON,
    balance,
    discriminator_least_squares,
    generator_least_squares,
    spread,
)
from models.common.critics import MultiScale, PatchCritic, logits
from models.common.graph import PICTURE, Call, Graph
from models.common.layers import Live, initialise, normal
from models.common.optimise import adam, parameters, scalars
from models.common.padding import at_any_size
from models.common.perceptual import Perceptual
from models.common.schedule import step_decay
from models.common.seeds import seeded
from models.common.stepwise import Move, Step, Stepwise
from models.family import Batch, Draw, Stage, Stream
from models.group import Group
from models.munit.networks import Generator
from models.munit.recipe import Config

DEVIATION = 0.02
SHOWN = 4
"""Samples of each input on a sheet."""


class MUNIT(Stepwise):
    """For each of two domains, A (`input`) and B (`target`), a generator and a discriminator. `state_dict()`: all four.
    It is asked for translations from A to B."""

    samplers = ("prior",)
    signs = (WON, COLLAPSED, IGNORED)
    recipe: Config

    def __init__(self, recipe: Config, group: Group, perceptual: nn.Module | None = None) -> None:
        super().__init__()
        check(recipe, perceptual)
        self.recipe, self.group, r = recipe, group, recipe
        self.generator_a, self.generator_b = generator(r), generator(r)
        self.discriminator_a, self.discriminator_b = discriminator(r), discriminator(r)
        for name in "ab":
            getattr(self, f"generator_{name}").draw(seeded(r.seed, "generator", name))
            critic = getattr(self, f"discriminator_{name}")
            initialise(critic, seeded(r.seed, "discriminator", name), normal(DEVIATION))
        if r.perceptual_layers:
            factors = [1.0] * len(r.perceptual_layers)
            self.perceptual = Perceptual(perceptual, r.perceptual_layers, factors, normalise=F.instance_norm)
        group.share(self)
        self.reads = ("target",) if r.pairing == "classes" else ("input",)  # type: ignore[misc]
        self.optimisers = {}

    # Training --------------------------------------------------------------------------------------------------------

    @property
    def stages(self) -> list[Stage]:
        return [Stage("train", self.recipe.images, self.recipe.batch)]

    def streams(self, stage: str) -> dict[str, Stream]:
        r = self.recipe

        def stream(*fields: str, keep: Callable[[Mapping[str, Any]], bool] | None = None) -> Stream:
            return Stream(batch=r.batch, fields=fields, augment=r.augment, flip=r.flip, keep=keep)

        if r.pairing == "paired":
            return {"pairs": stream("input", "target")}
        if r.pairing == "unpaired":
            return {"a": stream("input"), "b": stream("target")}
        return {
            "a": stream("target", keep=lambda row: row["class_value"] == 0),
            "b": stream("target", keep=lambda row: row["class_value"] == 1),
        }

    def parts(self, stage: str) -> tuple[str, ...]:
        return ("generator_a.", "generator_b.", "discriminator_a.", "discriminator_b.")

    def enter(self, stage: str) -> None:
        if stage != "train":
            raise ValueError(f"no stage {stage!r}: MUNIT has one, train")
        r = self.recipe
        self.optimisers = {
            name: adam(self._trained(name), (r.beta1, r.beta2), r.weight_decay)
            for name in ("generator", "discriminator")
        }

    def _trained(self, name: str) -> list[nn.Parameter]:
        return parameters(getattr(self, f"{name}_a"), getattr(self, f"{name}_b"))

    def step(self, draw: Draw, images: int) -> Step:
        """D's step on translations with fresh styles; then G's through the D that has moved, with new styles. The
        contents are those of one pass: G does not move in between."""
        r = self.recipe
        a, b = self._draw(draw)
        live = Live(seeded(r.seed, "noise", images), self.group)
        # The released code steps its schedule before each iteration, so the first of them counts as one.
        rate = r.rate * step_decay(images // r.batch + 1, r.halve_steps, 0.5)
        first_a, first_b, style_a, style_b = (live.rows((len(a), r.code)).to(a) for _ in range(4))
        content_a, content_b = self.generator_a.content(a), self.generator_b.content(b)

        with torch.no_grad():
            fake_a = self.generator_a.decoder(content_b, first_a)
            fake_b = self.generator_b.decoder(content_a, first_b)
        real_a, real_b = self._judge("a", a), self._judge("b", b)
        found_a, found_b = self._judge("a", fake_a), self._judge("b", fake_b)
        d_loss = discriminator_least_squares(real_a, found_a) + discriminator_least_squares(real_b, found_b)
        trained = self._trained("discriminator")
        yield [Move("discriminator", torch.autograd.grad(r.gan_weight * d_loss, trained), rate)]

        terms = self._terms((a, b), (content_a, content_b), (style_a, style_b))
        loss = torch.stack(list(terms.values())).sum()
        yield [Move("generator", torch.autograd.grad(loss, self._trained("generator")), rate)]
        right = balance([*real_a, *real_b], [*found_a, *found_b], 0.5)
        return scalars(rate=rate, loss=loss, **terms, discriminator=d_loss, discriminator_right=right)

    def _draw(self, draw: Draw) -> tuple[Tensor, Tensor]:
        if self.recipe.pairing == "paired":
            batch = draw("pairs")
            return batch["input"], batch["target"]
        field = "target" if self.recipe.pairing == "classes" else "input"
        return draw("a")[field], draw("b")["target"]

    def _terms(
        self, pictures: tuple[Tensor, Tensor], contents: tuple[Tensor, Tensor], styles: tuple[Tensor, Tensor]
    ) -> dict[str, Tensor]:
        """G's terms, weighted (equations 2-5 and the released code's cycle). No side of a comparison is held fixed."""
        r, (a, b), (content_a, content_b), (style_a, style_b) = self.recipe, pictures, contents, styles
        gen_a, gen_b = self.generator_a, self.generator_b
        own_a, own_b = gen_a.style(a), gen_b.style(b)
        drawn_a, drawn_b = gen_a.decoder(content_b, style_a), gen_b.decoder(content_a, style_b)
        content_b2, content_a2 = gen_a.content(drawn_a), gen_b.content(drawn_b)
        gan = generator_least_squares(self._judge("a", drawn_a)) + generator_least_squares(self._judge("b", drawn_b))
        image = l1(gen_a.decoder(content_a, own_a), a) + l1(gen_b.decoder(content_b, own_b), b)
        terms = {
            "gan": r.gan_weight * gan,
            "image": r.image_weight * image,
            "style": r.style_weight * (l1(gen_a.style(drawn_a), style_a) + l1(gen_b.style(drawn_b), style_b)),
            "content": r.content_weight * (l1(content_a2, content_a) + l1(content_b2, content_b)),
        }
        if r.cycle_weight:
            back_a, back_b = gen_a.decoder(content_a2, own_a), gen_b.decoder(content_b2, own_b)
            terms["cycle"] = r.cycle_weight * (l1(back_a, a) + l1(back_b, b))
        if r.pair_weight:
            terms["pair"] = r.pair_weight * l1(gen_b.decoder(content_a, own_b), b)
        if r.perceptual_layers:  # each translation beside the picture that it was made from
            terms["perceptual"] = r.perceptual_weight * (self.perceptual(drawn_a, b) + self.perceptual(drawn_b, a))
        return terms

    def _judge(self, domain: str, picture: Tensor) -> list[Tensor]:
        return logits(getattr(self, f"discriminator_{domain}")(picture))

    # Use -------------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def codes(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """B's styles of pictures."""
        style: Tensor = self.generator_b.style(images)
        return style

    @torch.no_grad()
    def generate(self, given: Batch, code: Float[Tensor, "b d"]) -> Float[Tensor, "b 3 h w"]:
        """B's picture with the content of A's and the style `code`, at any size."""
        if code.shape[1] != self.recipe.code:
            raise ValueError(f"a code of {code.shape[1]} entries: this run's have {self.recipe.code} (--code)")
        return at_any_size(
            lambda x: self.generator_b.decoder(self.generator_a.content(x), code),
            given[self.reads[0]],
            1 << self.recipe.downs,
        )

    @torch.no_grad()
    def sample(self, given: Batch, count: int, generator: torch.Generator, sampler: str = "") -> Tensor:
        self.chosen_sampler(sampler)
        x = given[self.reads[0]]
        codes = torch.randn(len(x), count, self.recipe.code, generator=generator).to(x)
        return torch.stack([self.generate(given, codes[:, k]) for k in range(count)], 1)

    def graph(self, given: Batch, generator: torch.Generator) -> Graph:
        """From A's picture and a style of B's to B's picture."""
        field, content, decoder = self.reads[0], self.generator_a.content, self.generator_b.decoder
        inputs = {field: given[field], "style": torch.randn(len(given[field]), self.recipe.code, generator=generator)}
        ranges = {field: PICTURE, "style": "N(0, 1), or a style that was read from a picture", "picture": PICTURE}
        call = Call(lambda x, style: decoder(content(x), style), content, decoder)
        return Graph(call, inputs, ranges, multiple=1 << self.recipe.downs)

    def reconstruct(self, batch: Batch) -> Tensor:
        """The input in the style of its target."""
        return self.generate(batch, self.codes(batch["target"]))

    def preview(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Input, target, the input in the target's style, in random styles."""
        drawn = self.sample(batch, SHOWN, generator)
        samples = {f"sample {i + 1}": drawn[:, i] for i in range(SHOWN)}
        shown = {"input": batch[self.reads[0]], "target": batch["target"], "target's style": self.reconstruct(batch)}
        return {**shown, **samples}

    @torch.no_grad()
    def evaluate(self, batch: Batch) -> dict[str, float]:
        """`rebuilt`: L1 of B's pictures through B's auto-encoder; where samples are pairs, `l1` of the input in its
        target's style; `diversity`: the mean L1 distance of two samples of an input (0: the style is ignored); `spread`
        (`adversarial.spread`)."""
        y, gen = batch["target"], self.generator_b
        rebuilt = at_any_size(lambda x: gen.decoder(gen.content(x), gen.style(y)), y, 1 << self.recipe.downs)
        drawn = self.sample(batch, 2, seeded(self.recipe.seed, "evaluate"))
        found = {"rebuilt": l1(rebuilt, y), "diversity": l1(drawn[:, 0], drawn[:, 1])}
        if self.recipe.pairing == "paired":
            found = {"l1": l1(self.reconstruct(batch), y), **found}
        apart = {"spread": spread(drawn[:, 0], y)} if len(y) > 1 else {}
        return {name: float(value) for name, value in found.items()} | apart


def l1(x: Tensor, y: Tensor) -> Float[Tensor, ""]:
    """Mean absolute difference."""
    return (x - y).abs().mean()


def generator(recipe: Config) -> Generator:
    """One domain's, its weights 0."""
    r = recipe
    return Generator(3, r.code, r.width, r.downs, r.blocks, r.style_downs, r.hidden)


def discriminator(recipe: Config) -> MultiScale:
    """One domain's, its weights 0: 4 x 4 of stride 2, the width doubling, no norm, 1 x 1 at the end."""
    r = recipe
    widths = [r.discriminator_width << i for i in range(r.discriminator_layers)]
    strides = [2] * r.discriminator_layers
    return MultiScale(
        [
            PatchCritic(3, widths, strides, head_kernel=1, norm="none", padding_mode="reflect")
            for _ in range(r.discriminator_scales)
        ]
    )


def check(recipe: Config, perceptual: nn.Module | None = None) -> None:
    """Refuse sizes that do not fit together, before anything is built.

    Raises:
        ValueError: naming the option, its value and what to do.
    """
    r = recipe
    if perceptual is not None and r.perceptual_layers:
        there: Sequence[str] = getattr(perceptual, "layers", ())
        if missing := [name for name in r.perceptual_layers if name not in there]:
            raise ValueError(f"--perceptual-layers {' '.join(missing)}: not among the VGG's ({' '.join(there)})")
    if r.pair_weight and r.pairing != "paired":
        raise ValueError(f"--pair-weight {r.pair_weight:g}: needs --pairing paired, this is {r.pairing}")
    if r.code < 1:
        raise ValueError(f"--code {r.code}: give at least 1")
    if r.halve_steps < 1:
        raise ValueError(f"--halve-steps {r.halve_steps}: give at least 1")
    if r.size % (1 << r.downs):
        raise ValueError(f"--size {r.size}: must be a multiple of {1 << r.downs}, G halves it {r.downs} times")
    # Mirroring by one pixel needs two, at each layer's input and at the coarsest scale of D.
    if r.size >> max(r.style_downs - 1, r.downs) < 2 or r.size < 4:
        raise ValueError(f"--size {r.size}: too small for --style-downs {r.style_downs} and --downs {r.downs}")
    if r.size >> (r.discriminator_scales - 1 + r.discriminator_layers - 1) < 2:
        raise ValueError(
            f"--size {r.size}: too small for --discriminator-layers {r.discriminator_layers} at "
            f"--discriminator-scales {r.discriminator_scales}"
        )
