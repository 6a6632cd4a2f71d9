"""How pix2pix is trained, and what it can then be asked for."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from models.common import colour
from models.common.adversarial import COLLAPSED, GAMES, WON, balance, spread
from models.common.critics import PatchCritic, patch_critic
from models.common.graph import PICTURE, Call, Graph, class_ids
from models.common.layers import Dropout, Live, initialise, normal
from models.common.onehot import one_hot, traced_one_hot
from models.common.optimise import adam, parameters, scalars
from models.common.padding import at_any_size
from models.common.resnet import ResnetGenerator
from models.common.schedule import linear_decay
from models.common.seeds import seeded
from models.common.stepwise import Move, Step, Stepwise
from models.common.unet import UNet
from models.family import Batch, Draw, Stage, Stream
from models.group import Group
from models.pix2pix.recipe import Config

DEVIATION = 0.02
SHOWN = 3
"""Samples of each input on a sheet."""


class Pix2Pix(Stepwise):
    """G and D. `state_dict()`: both, with the running statistics of their batch norms."""

    signs = (WON, COLLAPSED)
    recipe: Config

    def __init__(self, recipe: Config, group: Group) -> None:
        super().__init__()
        check(recipe)
        self.recipe, self.group, r = recipe, group, recipe
        self.generator = generator(r)
        self.discriminator = discriminator(r)
        for name, net in (("generator", self.generator), ("discriminator", self.discriminator)):
            initialise(net, seeded(r.seed, name), normal(DEVIATION))
        group.share(self)
        self.reads = ("target",) if r.condition == "lightness" else ("input",)  # type: ignore[misc]
        self.samplers = ("prior",) if r.code else ("dropout",)
        self.optimisers = {}

    # Training --------------------------------------------------------------------------------------------------------

    @property
    def stages(self) -> list[Stage]:
        r = self.recipe
        return [Stage("train", r.epoch * (r.constant_epochs + r.decay_epochs), r.batch)]

    def streams(self, stage: str) -> dict[str, Stream]:
        r = self.recipe
        fields = tuple(dict.fromkeys((*self.reads, "target")))
        return {"pairs": Stream(fields=fields, batch=r.batch, augment=r.augment, flip=r.flip)}

    def parts(self, stage: str) -> tuple[str, ...]:
        return ("generator.", "discriminator.")

    def enter(self, stage: str) -> None:
        if stage != "train":
            raise ValueError(f"no stage {stage!r}: pix2pix has one, train")
        betas = (self.recipe.beta1, self.recipe.beta2)
        self.optimisers = {
            "generator": adam(parameters(self.generator), betas),
            "discriminator": adam(parameters(self.discriminator), betas),
        }

    def step(self, draw: Draw, images: int) -> Step:
        """G once; D's step on its picture; then G's step through the D that has moved, with the same picture."""
        r, game = self.recipe, GAMES[self.recipe.game]
        batch = draw("pairs")
        condition, target = self._seen(batch), self._wanted(batch)
        live = Live(seeded(r.seed, "noise", images), self.group)
        rate = r.rate * linear_decay(images // r.epoch + 1, r.constant_epochs, r.decay_epochs + 1)
        fake = self._run(condition, live)

        real_logits = self._judge(condition, target, live)
        fake_logits = self._judge(condition, fake.detach(), live)
        d_loss = game.discriminator(real_logits, fake_logits)
        yield [Move("discriminator", torch.autograd.grad(d_loss, parameters(self.discriminator)), rate)]

        gan = game.generator(self._judge(condition, fake, live))
        l1 = (fake - target).abs().mean()
        loss = r.gan_weight * gan + r.l1_weight * l1
        yield [Move("generator", torch.autograd.grad(loss, parameters(self.generator)), rate)]
        right = balance(real_logits, fake_logits, game.middle)
        return scalars(rate=rate, loss=loss, gan=gan, l1=l1, discriminator=d_loss, discriminator_right=right)

    def _seen(self, batch: Batch) -> Float[Tensor, "b c h w"]:
        """What G gets."""
        if self.recipe.condition == "lightness":
            return colour.split(batch["target"])[0]
        if self.recipe.condition == "labels":
            return one_hot(batch["input"], self.recipe.labels, next(self.generator.parameters()).dtype)
        x: Tensor = batch["input"]
        return x

    def _wanted(self, batch: Batch) -> Float[Tensor, "b o h w"]:
        """What G should make: the target, or its a and b."""
        target: Tensor = batch["target"]
        return colour.split(target)[1] if self.recipe.condition == "lightness" else target

    def _judge(self, condition: Tensor, picture: Tensor, live: Live) -> list[Tensor]:
        x = torch.cat([condition, picture], 1) if self.recipe.conditional else picture
        found: list[Tensor] = self.discriminator(x, live)
        return found[-1:]

    def _run(self, condition: Tensor, live: Live | None) -> Float[Tensor, "b o h w"]:
        if not self.recipe.code:
            out: Tensor = self.generator(condition, live=live)
            return out
        if live is None:
            raise ValueError(
                "--eval-mode with --code: noise at the input is drawn anew each time; leave one of them out"
            )
        z = live.rows((len(condition), self.recipe.code)).to(condition)
        picture: Tensor = self.generator(condition, z, live)
        return picture

    # Use -------------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def sample(self, given: Batch, count: int, generator: torch.Generator, sampler: str = "") -> Tensor:
        """`B count 3 H W` in [-1, 1], of any size. Each picture is normalised by its own statistics, as at batch 1."""
        self.chosen_sampler(sampler)
        live = None if self.recipe.eval_mode else Live(generator, None)
        condition = self._seen(given)

        def once(x: Tensor) -> Tensor:
            return self._run(x, live)

        made = [at_any_size(once, condition, self.generator.multiple) for _ in range(count)]
        if self.recipe.condition == "lightness":
            made = [colour.join(condition, ab) for ab in made]
        return torch.stack(made, 1)

    def graph(self, given: Batch, generator: torch.Generator) -> Graph:
        """From what a sample is of (a photograph for colourisation) to the picture, without dropout."""
        r, field = self.recipe, self.reads[0]
        live = None if r.eval_mode else Live(None, None)

        def picture(x: Tensor, *code: Tensor) -> Tensor:
            if r.condition == "labels":
                x = traced_one_hot(x, r.labels, next(self.generator.parameters()).dtype)
            if r.condition != "lightness":
                out: Tensor = self.generator(x, *code, live=live)
                return out
            lightness, _ = colour.split(x)
            return colour.join(lightness, self.generator(lightness, *code, live=live))

        inputs, ranges = {field: given[field]}, {field: PICTURE, "picture": PICTURE}
        ranges |= {"grey": {field: "[-1, 1], grey"}, "labels": {field: class_ids(r.labels)}}.get(r.condition, {})
        if r.code:
            inputs["code"] = torch.randn(len(given[field]), r.code, generator=generator)
            ranges["code"] = "N(0, 1)"
        dropped = any(isinstance(layer, Dropout) and layer.rate for layer in self.generator.modules())
        note = "without dropout, which samples have: one picture for each input" if live and dropped else ""
        return Graph(Call(picture, self.generator), inputs, ranges, multiple=self.generator.multiple, note=note)

    def preview(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Input, truth, samples."""
        drawn = self.sample(batch, SHOWN, generator)
        condition = self._seen(batch) if self.recipe.condition == "lightness" else batch["input"]
        samples = {f"sample {i + 1}": drawn[:, i] for i in range(SHOWN)}
        return {"input": condition, "truth": batch["target"], **samples}

    def evaluate(self, batch: Batch) -> dict[str, float]:
        """Of one sample of each input: L1; `spread`, how much the pictures of different inputs differ, as a share of
        how much their targets do (0: the generator has collapsed)."""
        fake = self.sample(batch, 1, seeded(self.recipe.seed, "evaluate"))[:, 0]
        target = batch["target"]
        found = {"l1": float((fake - target).abs().mean())}
        if len(target) > 1:
            found["spread"] = spread(fake, target)
        return found


def channels(recipe: Config) -> tuple[int, int]:
    """Of what G sees and makes."""
    seen = {"image": 3, "grey": 1, "labels": recipe.labels, "lightness": 1}[recipe.condition]
    return seen, 2 if recipe.condition == "lightness" else 3


def generator(recipe: Config) -> UNet | ResnetGenerator:
    """G, its weights 0."""
    r, (seen, made) = recipe, channels(recipe)
    if r.generator == "resnet":
        return ResnetGenerator(seen, made, r.width, 2, r.blocks, r.norm, r.block_dropout)
    return UNet(seen, made, r.levels, r.width, r.norm, r.skips, r.dropped, r.code)


def discriminator(recipe: Config) -> PatchCritic:
    """D, its weights 0."""
    r, (seen, made) = recipe, channels(recipe)
    return patch_critic(made + (seen if r.conditional else 0), r.discriminator_width, r.discriminator_layers, r.norm)


def check(recipe: Config, perceptual: nn.Module | None = None) -> None:
    """Refuse sizes that do not fit together, before anything is built.

    Raises:
        ValueError: naming the option, its value and what to do.
    """
    r = recipe
    if (r.condition == "labels") != (r.labels > 0):
        raise ValueError(f"--labels {r.labels}: the number of classes, with --condition labels and only then")
    if r.code and r.generator == "resnet":
        raise ValueError(f"--code {r.code}: the residual generator takes no noise vector; use the U-Net")
    if r.code and r.eval_mode:
        raise ValueError(f"--code {r.code} --eval-mode: the noise is drawn anew each time; leave one of them out")
    with torch.device("meta"):
        multiple, critic = generator(r).multiple, discriminator(r)
    if r.size % multiple:
        halves = multiple.bit_length() - 1
        raise ValueError(f"--size {r.size}: must be a multiple of {multiple}, G halves it {halves} times")
    if critic.map_side(r.size) < 1:
        raise ValueError(f"--size {r.size}: too small for --discriminator-layers {r.discriminator_layers}")
    # The U-Net's and D's norms see at least 2 x 2: neither the innermost level nor the map of logits has one.
    if r.generator == "resnet" and r.size == multiple:
        raise ValueError(f"--size {r.size}: the residual blocks would see 1 x 1; raise it")
