"""The convolutional auto-encoder with squared error that the PixelCNN auto-encoder is compared with (van den Oord et
al., NeurIPS 2016, section 3.4): one picture a code, the mean of all that could be meant."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from models.common.average import Average
from models.common.seeds import seeded
from models.family import Batch, Draw, Family, Stage, Stream
from models.group import Group
from models.pixelcnn.conditions import Upsampler
from models.pixelcnn.encoder import Encoder, of_channels
from models.pixelcnn.recipe import Config, check
from models.pixelcnn.training import optimiser, take_step


class SquaredAutoEncoder(Family):
    """The same encoder, a deconvolutional decoder."""

    recipe: Config
    reads = ("target",)

    def __init__(self, recipe: Config, group: Group) -> None:
        super().__init__()
        check(recipe)
        self.recipe, self.group, r = recipe, group, recipe
        generator = seeded(r.seed, "model")
        self.net = nn.Sequential(
            Encoder(r.channels, r.encoder_features, r.code, r.frame, generator),
            Upsampler(r.code, r.encoder_features, r.channels, r.frame, generator),
        )
        self.average = Average(self.net, r.average_decay, warm_up=True)
        group.share(self)
        self.optimisers = {}

    @property
    def averaged(self) -> nn.Sequential:
        """Encoder and decoder with the averaged weights."""
        assert isinstance(self.average.net, nn.Sequential)
        return self.average.net

    @property
    def stages(self) -> list[Stage]:
        return [Stage("main", self.recipe.images, self.recipe.batch)]

    def streams(self, stage: str) -> dict[str, Stream]:
        return {"pictures": Stream(batch=self.recipe.batch, fields=("target",))}

    def parts(self, stage: str) -> tuple[str, ...]:
        return ("net.", "average.")

    def enter(self, stage: str) -> None:
        self.optimisers = {"main": optimiser(self.recipe, self.net)}

    def update(self, draw: Draw, images: int) -> dict[str, Tensor]:
        """One step on the mean squared error of pictures in [-1, 1]."""
        target = draw("pictures")["target"]
        error = (self.net(target) - target).square().mean()
        error.backward()
        take_step(self, images)
        self.average.update(self.net)
        return {"squared_error": error.detach()}

    @torch.no_grad()
    def evaluate(self, batch: Batch) -> dict[str, float]:
        return {"squared_error": float((self.averaged(batch["target"]) - batch["target"]).square().mean())}

    def preview(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        return {"target": batch["target"], "reconstruction": self.reconstruct(batch)}

    @torch.no_grad()
    def codes(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        """The codes of pictures in [-1, 1], RGB or grey."""
        found: Tensor = self.averaged[0](of_channels(images, self.recipe.channels))
        return found

    @torch.no_grad()
    def generate(self, given: Batch, code: Float[Tensor, "b d"]) -> Float[Tensor, "b c h w"]:
        """The picture of each code."""
        found: Tensor = self.averaged[1](code)
        return found.clamp(-1, 1)

    def reconstruct(self, batch: Batch) -> Float[Tensor, "b c h w"]:
        """The picture of each target's code."""
        return self.generate(batch, self.codes(batch["target"]))
