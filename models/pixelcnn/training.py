"""How PixelCNN is trained: by exact likelihood, one step a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from models.common.average import Average
from models.common.seeds import seeded
from models.family import Batch, Draw, Facts, Family, Stage, Stream
from models.group import Group
from models.pixelcnn.conditional import Conditional
from models.pixelcnn.encoder import of_channels
from models.pixelcnn.heads import levels_of, scaled
from models.pixelcnn.recipe import Config, check
from models.pixelcnn.sampling import sample, uniforms

if TYPE_CHECKING:
    from collections.abc import Mapping


class PixelCNN(Family):
    """The network and its averages. Evaluated, asked for likelihoods and sampled with the averages."""

    recipe: Config
    samplers: tuple[str, ...] = ("prior",)

    def __init__(self, recipe: Config, group: Group, facts: Facts) -> None:
        super().__init__()
        check(recipe)
        self.recipe, self.group = recipe, group
        self.classes = facts.classes("class") if recipe.condition == "class" else 0
        self.reads = READS[recipe.condition]  # type: ignore[misc]  # by the recipe
        self.net = Conditional(recipe, facts)
        self.average = Average(self.net, recipe.average_decay, warm_up=True)
        group.share(self)
        self.optimisers = {}

    @property
    def averaged(self) -> Conditional:
        """The network with the averaged weights."""
        assert isinstance(self.average.net, Conditional)
        return self.average.net

    @property
    def stages(self) -> list[Stage]:
        return [Stage("main", self.recipe.images, self.recipe.batch)]

    def streams(self, stage: str) -> dict[str, Stream]:
        fields = ("target", *(name for name in self.reads if name != "target"))
        return {"pictures": Stream(batch=self.recipe.batch, fields=fields, keep=_labelled if self.classes else None)}

    def parts(self, stage: str) -> tuple[str, ...]:
        return ("net.", "average.")

    def enter(self, stage: str) -> None:
        self.optimisers = {"main": optimiser(self.recipe, self.net)}

    def update(self, draw: Draw, images: int) -> dict[str, Tensor]:
        """One step on -ln p / (C H W)."""
        batch = draw("pictures")
        x = self.levels(batch, images)
        bits = self.net.model.bits(self.net(x, self.given(self.net, batch, x))).mean()
        bits.backward()  # type: ignore[no-untyped-call]
        take_step(self, images)
        self.average.update(self.net)
        return {"bits_per_dim": bits.detach()}

    # Data ------------------------------------------------------------------------------------------------------------

    def levels(self, batch: Batch, seen: int = -1) -> Int[Tensor, "b c h w"]:
        """The targets as the model's levels; `seen`: pictures seen so far, for a new binarisation each time.

        Raises:
            ValueError: values that are not those of 8 bits.
        """
        # A GPU would have to be waited for at each step: there the first step's pictures stand for all.
        x = levels_of(batch["target"], 256, check=seen <= 0 or batch["target"].device.type == "cpu")
        if self.recipe.binarise:
            seed = self.recipe.seed
            drawn = [
                torch.rand(x.shape[1:], generator=seeded(seed, "binarise", seen, index))
                for index in batch["index"].tolist()
            ]
            return (x > 255 * torch.stack(drawn).to(x.device)).long()
        return x * self.recipe.levels // 256

    def given(self, net: Conditional, batch: Batch, x: Int[Tensor, "b c h w"] | None = None) -> Tensor | None:
        """h of each row: its class as a one-hot vector, its `code`, its picture's own code, or None. `x`: the targets'
        levels, where they are there already."""
        dtype = self.net.model.dtype
        if self.recipe.condition == "class":
            ids = batch["class"]
            looked_at = ids.device.type == "cpu" or not torch.is_grad_enabled()
            if looked_at and len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < self.classes:
                raise ValueError(f"class {int(ids.min())} to {int(ids.max())}: the model knows 0-{self.classes - 1}")
            return nn.functional.one_hot(ids, self.classes).to(dtype)
        if self.recipe.condition == "array":
            found: Tensor = batch["code"]
            return found.to(dtype)
        return None

    def pictures(self, x: Int[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return scaled(x, self.recipe.levels)

    def draw_pictures(
        self,
        h: Tensor | None,
        uniform: Float[Tensor, "b c h w"],
        temperature: float = 1.0,
        known: Bool[Tensor, "b 1 h w"] | None = None,
        given: Int[Tensor, "b c h w"] | None = None,
    ) -> Float[Tensor, "b c h w"]:
        """A picture for each row of `uniform`, by the averaged weights; arguments as `sampling.sample`."""
        net = self.averaged
        with torch.no_grad():
            return self.pictures(sample(net.model, uniform, net.condition(h), temperature, known, given))

    # Abilities -------------------------------------------------------------------------------------------------------

    def dimensions(self) -> int:
        """C H W."""
        return self.net.model.dimensions

    @torch.no_grad()
    def log_prob(self, batch: Batch) -> Float[Tensor, " b"]:
        """float64: ln p of each target given its condition, nats. Binarised targets: of one drawing, by the index."""
        net = self.averaged
        x = self.levels(batch)
        found: Tensor = net(x, self.given(net, batch, x))
        return found.double()

    @torch.no_grad()
    def sample(self, given: Batch, count: int, generator: torch.Generator, sampler: str = "") -> Tensor:
        """`B count C H W` in [-1, 1]."""
        h = self.given(self.averaged, given)
        rows = len(given[self.reads[0]] if self.reads else given["index"])
        uniform = uniforms(self.net.model, rows * count, generator)
        drawn = self.draw_pictures(_each(h, count), uniform)
        return drawn.view(rows, count, *drawn.shape[1:])

    @torch.no_grad()
    def complete(self, batch: Batch, known: Bool[Tensor, "b h w"], generator: torch.Generator) -> Tensor:
        """The targets with what is not known drawn anew, each pixel from those before it in raster order: exact where
        what is known comes first (an upper part); elsewhere later known pixels are kept, but not looked ahead to."""
        x, h = self.levels(batch), self.given(self.averaged, batch)
        return self.draw_pictures(h, uniforms(self.net.model, len(x), generator), known=known[:, None], given=x)

    def evaluate(self, batch: Batch) -> dict[str, float]:
        nats = self.log_prob(batch)
        return {"bits_per_dim": float(self.net.model.bits(nats).mean()), "nats": float(-nats.mean())}

    @torch.no_grad()
    def preview(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Each row's picture, a sample, with a vector one of half way to the next row's (by the same uniform numbers),
        and its upper half completed."""
        x, h = self.levels(batch), self.given(self.averaged, batch)
        uniform = uniforms(self.net.model, len(x), generator)
        found = {"target": self.pictures(x), "sample": self.draw_pictures(h, uniform)}
        if h is not None:
            found["half_way_to_next"] = self.draw_pictures((h + h.roll(-1, 0)) / 2, uniform)
        known = torch.zeros_like(x[:, :1], dtype=torch.bool)
        known[:, :, : x.shape[2] // 2] = True
        found["completed"] = self.draw_pictures(h, uniform, known=known, given=x)
        return found


class AutoEncoder(PixelCNN):
    """The PixelCNN auto-encoder (van den Oord et al., NeurIPS 2016, section 2.4): h is the encoder's code of the
    picture itself, and the decoder may leave to it what is far apart, and model itself what is near."""

    def given(self, net: Conditional, batch: Batch, x: Int[Tensor, "b c h w"] | None = None) -> Tensor:
        assert net.encoder is not None
        dtype = self.net.model.dtype
        # Of the levels, not of the picture: a binarised picture's code must not know its grey values.
        code: Tensor = net.encoder(scaled(self.levels(batch) if x is None else x, self.recipe.levels, dtype))
        return code

    def codes(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        """The codes of pictures in [-1, 1], RGB or grey."""
        target = of_channels(images, self.recipe.channels)
        with torch.no_grad():
            return self.given(self.averaged, {"target": target, "index": torch.arange(len(images))})

    @torch.no_grad()
    def generate(self, given: Batch, code: Float[Tensor, "b d"]) -> Float[Tensor, "b c h w"]:
        """A decoding of each code, all by the same uniform numbers: they differ by their codes alone."""
        model = self.net.model
        if code.ndim != 2 or code.shape[1] != self.recipe.code:
            raise ValueError(f"codes of {tuple(code.shape[1:])}: the model's have {self.recipe.code} numbers")
        uniform = uniforms(model, 1, seeded(self.recipe.seed, "decode")).expand(len(code), -1, -1, -1)
        return self.draw_pictures(code, uniform)

    def reconstruct(self, batch: Batch) -> Float[Tensor, "b c h w"]:
        """One decoding of each target's own code."""
        return self.generate(batch, self.given(self.averaged, batch).detach())

    @torch.no_grad()
    def evaluate(self, batch: Batch) -> dict[str, float]:
        """Beside the likelihood with the picture's own code the one with another picture's: the gap says how much the
        decoder uses it (a strong decoder may do without)."""
        found = super().evaluate(batch)
        net, x = self.averaged, self.levels(batch)
        code = self.given(net, batch, x)
        other = float(net.model.bits(net(x, code.roll(1, 0))).mean())
        return {**found, "bits_per_dim_other_code": other, "code_gap": other - found["bits_per_dim"]}

    def preview(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """And two more decodings of the same code."""
        found = super().preview(batch, generator)
        code = self.given(self.averaged, batch).detach()
        for number in (2, 3):
            found[f"sample_{number}"] = self.draw_pictures(
                code, uniforms(self.net.model, len(batch["index"]), generator)
            )
        return found


READS: Mapping[str, tuple[str, ...]] = {"none": (), "class": ("class",), "array": ("code",), "own": ("target",)}
"""Condition -> the fields that it is made of."""


def optimiser(recipe: Config, net: nn.Module) -> torch.optim.Optimizer:
    if recipe.optimiser == "adam":
        return torch.optim.Adam(net.parameters(), lr=0.0, betas=(0.9, recipe.beta2), fused=True)
    return torch.optim.RMSprop(net.parameters(), lr=0.0, alpha=0.95, eps=1e-8)


def rate(recipe: Config, images: int) -> float:
    """The learning rate of the step after `images` pictures."""
    r = recipe
    rise = min(1.0, (images + r.batch) / r.rate_rise) if r.rate_rise else 1.0
    fall = min(1.0, max(0, r.images - images) / r.rate_fall) if r.rate_fall else 1.0
    return r.rate * r.rate_decay ** (images // r.batch) * min(rise, fall)


def take_step(family: Family, images: int) -> None:
    """The optimiser's step on the gradients that are there, averaged over the group."""
    recipe, main = family.recipe, family.optimisers["main"]
    assert isinstance(recipe, Config)
    family.group.average(main.param_groups[0]["params"])
    main.param_groups[0]["lr"] = rate(recipe, images)
    main.step()
    main.zero_grad()


def _labelled(row: Mapping[str, int]) -> bool:
    return row["class_value"] >= 0


def _each(h: Tensor | None, count: int) -> Tensor | None:
    return None if h is None else h.repeat_interleave(count, 0)
