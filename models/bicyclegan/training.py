"""How BicycleGAN is trained, and what it can then be asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from models.bicyclegan.losses import divergence, encoded
from models.bicyclegan.networks import Code, ConvEncoder, ResnetEncoder
from models.bicyclegan.recipe import Config
from models.common.adversarial import (
    COLLAPSED,
    IGNORED,
    WON,
    balance,
    discriminator_least_squares,
    generator_least_squares,
    spread,
)
from models.common.critics import MultiScale, logits, patch_critic
from models.common.graph import PICTURE, Call, Graph
from models.common.layers import Live, initialise, xavier
from models.common.optimise import adam, parameters, scalars
from models.common.padding import at_any_size
from models.common.schedule import linear_decay
from models.common.seeds import seeded
from models.common.stepwise import Move, Step, Stepwise
from models.common.unet import UNet
from models.family import Batch, Draw, Stage, Stream
from models.group import Group

GAIN = 0.02
"""Of Glorot's normal: the released code's, which makes the first weights fifty times smaller than Glorot's."""
SHOWN = 4
"""Samples of each input on a sheet."""


class BicycleGAN(Stepwise):
    """G, E, D (on pictures made with encoded codes) and D2 (with random ones). `state_dict()`: all four."""

    samplers = ("prior",)
    signs = (WON, replace(WON, figure="discriminator2_right"), COLLAPSED, IGNORED)
    recipe: Config

    def __init__(self, recipe: Config, group: Group) -> None:
        super().__init__()
        check(recipe)
        self.recipe, self.group, r = recipe, group, recipe
        self.generator = generator(r)
        self.encoder = encoder(r)
        self.discriminator, self.discriminator2 = discriminator(r), discriminator(r)
        for name, net in self.named_children():
            initialise(net, seeded(r.seed, name), xavier(GAIN))
        group.share(self)
        self.optimisers = {}

    # Training --------------------------------------------------------------------------------------------------------

    @property
    def stages(self) -> list[Stage]:
        r = self.recipe
        return [Stage("train", r.epoch * (r.constant_epochs + r.decay_epochs), r.batch)]

    def streams(self, stage: str) -> dict[str, Stream]:
        r = self.recipe
        return {"pairs": Stream(fields=("input", "target"), batch=r.batch, augment=r.augment, flip=r.flip, unit=2)}

    def parts(self, stage: str) -> tuple[str, ...]:
        return ("generator.", "encoder.", "discriminator.", "discriminator2.")

    def enter(self, stage: str) -> None:
        if stage != "train":
            raise ValueError(f"no stage {stage!r}: BicycleGAN has one, train")
        betas = (self.recipe.beta1, self.recipe.beta2)
        self.optimisers = {name: adam(parameters(net), betas) for name, net in self.named_children()}

    def step(self, draw: Draw, images: int) -> Step:
        """All gradients from one pass of each network, then all four move. The released code moves G and E first and
        then D and D2 on the pictures from before: their losses do not see that, so it is the same step."""
        r, batch = self.recipe, draw("pairs")
        live = Live(seeded(r.seed, "noise", images), self.group)
        rate = r.rate * linear_decay(images // r.epoch + 1, r.constant_epochs, r.decay_epochs + 1)
        # Of each two samples the first is encoded; the second only gives its target to D2.
        (x, y), (x2, y2) = ((batch["input"][i::2], batch["target"][i::2]) for i in (0, 1))

        mean, logvar = self.encoder(y)
        noise, random = (live.rows(mean.shape).to(mean) for _ in range(2))
        codes = torch.stack([encoded(mean, logvar, noise), random], 1)
        # Both pictures are of the first input; neighbouring rows, so that ranks divide them as they divide samples.
        pictures = self.generator(x.repeat_interleave(2, 0), codes.flatten(0, 1), live)
        own, drawn = pictures[0::2], pictures[1::2]

        own_logits, drawn_logits = self._judge(x, own), self._judge2(x, drawn)
        real_logits, real2_logits = self._judge(x, y), self._judge2(x2, y2)
        d_losses = {
            "discriminator": discriminator_least_squares(real_logits, own_logits),
            "discriminator2": discriminator_least_squares(real2_logits, drawn_logits),
        }
        gan, gan2 = generator_least_squares(own_logits), generator_least_squares(drawn_logits)
        l1 = (own - y).abs().mean()
        # A sum over the batch: times the number of pieces, so that the mean of the gradients is the whole batch's.
        kl = divergence(mean, logvar) * self.group.pieces
        latent = (self._reread(drawn)[0] - random).abs().mean()
        loss = r.gan_weight * gan + r.gan2_weight * gan2 + r.l1_weight * l1 + r.kl_weight * kl
        loss = loss + r.latent_weight * latent

        yield self._moves(loss, d_losses, rate)
        return scalars(
            rate=rate,
            loss=loss,
            gan=gan,
            gan2=gan2,
            l1=l1,
            kl=kl,
            latent=latent,
            **d_losses,
            discriminator_right=balance(real_logits, own_logits, 0.5),
            discriminator2_right=balance(real2_logits, drawn_logits, 0.5),
        )

    def _moves(self, loss: Tensor, d_losses: Mapping[str, Tensor], rate: float) -> list[Move]:
        found = [
            Move(name, torch.autograd.grad(value, parameters(getattr(self, name)), retain_graph=True), rate)
            for name, value in d_losses.items()
        ]
        g, e = parameters(self.generator), parameters(self.encoder)
        grads = torch.autograd.grad(loss, [*g, *e])
        return [*found, Move("generator", grads[: len(g)], rate), Move("encoder", grads[len(g) :], rate)]

    def _judge(self, condition: Tensor, picture: Tensor) -> list[Tensor]:
        return logits(self.discriminator(self._judged(condition, picture)))

    def _judge2(self, condition: Tensor, picture: Tensor) -> list[Tensor]:
        return logits(self.discriminator2(self._judged(condition, picture)))

    def _judged(self, condition: Tensor, picture: Tensor) -> Tensor:
        return torch.cat([condition, picture], 1) if self.recipe.conditional else picture

    def _reread(self, picture: Tensor) -> Code:
        """E of a picture, as if its weights were constants: the latent regression trains G alone."""
        weights = {name: p.detach() for name, p in self.encoder.named_parameters()}
        found: Code = torch.func.functional_call(self.encoder, weights, (picture,))
        return found

    # Use -------------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def codes(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """E's means: no noise is added when the network is used."""
        mean: Tensor = self.encoder(images)[0]
        return mean

    @torch.no_grad()
    def generate(self, given: Batch, code: Float[Tensor, "b d"]) -> Float[Tensor, "b 3 h w"]:
        """Without dropout, at any size."""
        if code.shape[1] != self.recipe.code:
            raise ValueError(f"a code of {code.shape[1]} entries: this run's have {self.recipe.code} (--code)")
        return at_any_size(lambda x: self.generator(x, code), given["input"], self.generator.multiple)

    @torch.no_grad()
    def sample(self, given: Batch, count: int, generator: torch.Generator, sampler: str = "") -> Tensor:
        self.chosen_sampler(sampler)
        codes = torch.randn(len(given["input"]), count, self.recipe.code, generator=generator).to(given["input"])
        return torch.stack([self.generate(given, codes[:, k]) for k in range(count)], 1)

    def graph(self, given: Batch, generator: torch.Generator) -> Graph:
        """From input and code to the picture."""
        inputs = {
            "input": given["input"],
            "code": torch.randn(len(given["input"]), self.recipe.code, generator=generator),
        }
        seen = "[-1, 1], grey" if self.recipe.condition == "grey" else PICTURE
        ranges = {"input": seen, "code": "N(0, 1)", "picture": PICTURE}
        return Graph(Call(self.generator.forward, self.generator), inputs, ranges, multiple=self.generator.multiple)

    def reconstruct(self, batch: Batch) -> Tensor:
        return self.generate(batch, self.codes(batch["target"]))

    def preview(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Input, truth, the target's own code, random codes."""
        drawn = self.sample(batch, SHOWN, generator)
        samples = {f"sample {i + 1}": drawn[:, i] for i in range(SHOWN)}
        return {"input": batch["input"], "truth": batch["target"], "own code": self.reconstruct(batch), **samples}

    def evaluate(self, batch: Batch) -> dict[str, float]:
        """L1 of the reconstruction; `diversity`, the mean L1 distance of two samples of an input (0: G ignores z);
        `code_error`, |E(G(x, z)) - z|, about 0.8 where the code is lost; `spread` (`adversarial.spread`)."""
        generator = seeded(self.recipe.seed, "evaluate")
        x, y = batch["input"], batch["target"]
        z = torch.randn(len(x), self.recipe.code, generator=generator).to(x)
        first, second = self.generate(batch, z), self.sample(batch, 1, generator)[:, 0]
        found = {
            "l1": float((self.reconstruct(batch) - y).abs().mean()),
            "diversity": float((first - second).abs().mean()),
            "code_error": float((self.codes(first) - z).abs().mean()),
        }
        return found | ({"spread": spread(first, y)} if len(y) > 1 else {})


def generator(recipe: Config) -> UNet:
    """G, its weights 0."""
    r = recipe
    return UNet(channels(r), 3, r.levels, r.width, "instance", True, r.dropped, r.code, r.code_in, r.upsampling)


def channels(recipe: Config) -> int:
    """Of the input."""
    return 1 if recipe.condition == "grey" else 3


def encoder(recipe: Config) -> ResnetEncoder | ConvEncoder:
    """E, its weights 0."""
    make = ResnetEncoder if recipe.encoder == "resnet" else ConvEncoder
    return make(3, recipe.code, recipe.encoder_width, recipe.encoder_depth)


def discriminator(recipe: Config) -> MultiScale:
    """D or D2, its weights 0."""
    r = recipe
    seen = 3 + (channels(r) if r.conditional else 0)
    widths = [max(1, r.discriminator_width >> i) for i in range(r.discriminator_scales)]
    return MultiScale([patch_critic(seen, width, r.discriminator_layers, "instance") for width in widths])


def check(recipe: Config, perceptual: nn.Module | None = None) -> None:
    """Refuse sizes that do not fit together, before anything is built.

    Raises:
        ValueError: naming the option, its value and what to do.
    """
    r = recipe
    if r.batch % 2:
        raise ValueError(f"--batch {r.batch}: must be even, the first of each two samples is encoded")
    if r.code < 1:
        raise ValueError(f"--code {r.code}: give at least 1")
    if r.size % (1 << r.levels):
        raise ValueError(f"--size {r.size}: must be a multiple of {1 << r.levels}, G halves it {r.levels} times")
    if r.size >> r.levels < 1 or r.size < 2 << r.levels - 1:
        raise ValueError(f"--size {r.size}: too small for --levels {r.levels}")
    with torch.device("meta"):
        [critic, *_] = discriminator(r).critics
    side = r.size
    for _ in range(1, r.discriminator_scales):
        side = (side + 1) // 2
    # The last normalised layer has one row and column more than the map of logits.
    if critic.map_side(side) < 1:  # type: ignore[operator]
        raise ValueError(
            f"--size {r.size}: too small for --discriminator-layers {r.discriminator_layers} at "
            f"--discriminator-scales {r.discriminator_scales}"
        )
    if r.size >> r.encoder_depth < 2:
        raise ValueError(f"--size {r.size}: too small for --encoder-depth {r.encoder_depth}")
