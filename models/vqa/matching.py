"""Matching as a family: m-DAN, images and sentences in one space."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from models.common.seeds import seeded
from models.family import Batch, Draw, Facts, Family, Stage, Stream
from models.group import Group
from models.vqa.attention import Matching
from models.vqa.layers import Masks, start
from models.vqa.losses import matching_loss, negatives
from models.vqa.networks import FIRST
from models.vqa.recipe import Config
from models.vqa.steps import optimiser, step
from models.vqa.training import pictured, regions


class Matcher(Family):
    """Embeds images (`grid`) and sentences (`caption`); similarity is the inner product."""

    recipe: Config
    reads = ("grid", "caption")
    embedded = ("grid", "caption")

    def __init__(self, recipe: Config, group: Group, facts: Facts) -> None:
        super().__init__()
        self.recipe, self.group = recipe, group
        words = FIRST + len(facts.fields["caption"]["words"])
        width = int(facts.fields["grid"]["shape"][-1])
        self.net = Matching(words, width, recipe.hidden, recipe.steps, recipe.dropout)
        start(self.net, seeded(recipe.seed, "weights"), recipe.uniform)
        group.share(self)
        self.optimisers = {}

    @property
    def stages(self) -> list[Stage]:
        return [Stage("main", self.recipe.questions, self.recipe.batch)]

    def parts(self, stage: str) -> tuple[str, ...]:
        return ("net.",)

    def streams(self, stage: str) -> dict[str, Stream]:
        return {"pairs": Stream(batch=self.recipe.batch, fields=self.reads)}

    def enter(self, stage: str) -> None:
        self.optimisers = {"main": optimiser(self.recipe, self.net.parameters())}

    def update(self, draw: Draw, images: int) -> dict[str, Tensor]:
        batch, group, seed = draw("pairs"), self.group, self.recipe.seed
        caption = F.pad(batch["caption"], (0, self.recipe.longest - batch["caption"].shape[1]))
        masks = Masks(seeded(seed, "dropout", images), group.rank, group.world)
        z_v, _ = self.net.image(regions(batch["grid"]), masks)
        z_u, _ = self.net.text(caption, batch["caption_length"], masks)
        all_v, all_u, index = group.gather(z_v), group.gather(z_u), group.gather(batch["index"])
        other = negatives(index, seeded(seed, "negatives", images))
        own = slice(group.rank * len(z_v), (group.rank + 1) * len(z_v))
        wrong = other.to(z_v.device)[own]
        loss = matching_loss(z_v, z_u, all_v[wrong], all_u[wrong], self.recipe.margin).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        step(self.recipe, group, self.optimisers["main"], list(self.net.parameters()), images)
        return {"loss": loss.detach(), "similarity": (z_v * z_u).detach().sum(1).mean()}

    @torch.no_grad()
    def embed(self, batch: Batch, field: str) -> Tensor:
        """z of the images or of the sentences: `B (K + 1) hidden`.

        Raises:
            ValueError: neither `grid` nor `caption`.
        """
        if field not in self.embedded:
            raise ValueError(f"field {field}: m-DAN embeds {' and '.join(self.embedded)}")
        if field == "grid":
            return self.net.image(regions(batch["grid"]))[0]
        return self.net.text(batch["caption"], batch["caption_length"])[0]

    @torch.no_grad()
    def judge(self, batches: Iterable[Batch]) -> dict[str, float]:
        """Recall at 1, 5 and 10 among all held-out samples, both ways, each with its first sentence."""
        sides: dict[str, list[Tensor]] = {name: [] for name in self.embedded}
        for batch in batches:
            for name, kept in sides.items():
                kept.append(self.embed(batch, name).double())
        v, u = (torch.cat(sides[name]) for name in self.embedded)
        found: dict[str, float] = {}
        for way, scores in (("caption_of_image", v @ u.T), ("image_of_caption", u @ v.T)):
            rank = (scores > scores.diagonal()[:, None]).sum(1) + 1
            found |= {f"recall{k}_{way}": float((rank <= k).double().mean()) for k in (1, 5, 10)}
        return found

    @torch.no_grad()
    def evaluate(self, batch: Batch) -> dict[str, float]:
        """`loss`: with each row's next one as the wrong pair; nothing for a single row."""
        if len(batch["index"]) < 2:
            return {}
        v, u = (self.embed(batch, name) for name in self.embedded)
        return {"loss": float(matching_loss(v, u, v.roll(1, 0), u.roll(1, 0), self.recipe.margin).mean())}

    @torch.no_grad()
    def attention(self, given: Batch) -> dict[str, Tensor]:
        """Weights of `grid` and of `caption`."""
        _, seen = self.net.image(regions(given["grid"]))
        _, read = self.net.text(given["caption"], given["caption_length"])
        return {"grid": seen.reshape(*seen.shape[:2], *given["grid"].shape[1:3]), "caption": read}

    @torch.no_grad()
    def preview(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """As `pictured`."""
        return pictured(batch, self.attention(batch), "caption") if "image" in batch else {}
