"""How pix2pixHD is trained: the global network, its enhancers with it fixed, all together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from models.common.adversarial import COLLAPSED, GAMES, WON, balance, feature_matching, spread
from models.common.critics import MultiScale, Scales, logits, patch_critic
from models.common.graph import PICTURE, Call, Graph, class_ids
from models.common.layers import initialise, normal
from models.common.objects import Maps
from models.common.onehot import check_ids, one_hot, traced_one_hot
from models.common.optimise import adam, parameters, scalars
from models.common.padding import pad
from models.common.perceptual import Perceptual
from models.common.pyramid import pyramid
from models.common.resnet import ResnetGenerator
from models.common.schedule import linear_decay
from models.common.seeds import seeded
from models.common.stepwise import Move, Step, Stepwise
from models.family import Batch, Draw, Stage, Stream, Table
from models.group import Group
from models.pix2pixhd.clusters import Clusters, rows_of_objects
from models.pix2pixhd.instances import edges, pooled
from models.pix2pixhd.networks import Generator
from models.pix2pixhd.recipe import Config

DEVIATION, HALF = 0.02, 0.5
"""Of the first weights; D's loss is halved (which under Adam changes nothing)."""
SHOWN = 3
"""Samples of each input on a sheet."""


class Pix2PixHD(Stepwise):
    """G, D and, with features, E and the clusters. `state_dict()`: all of them; the perceptual VGG is not in it."""

    signs = (WON, COLLAPSED)
    recipe: Config

    def __init__(self, recipe: Config, group: Group, perceptual: nn.Module | None) -> None:
        super().__init__()
        check(recipe, perceptual)
        self.recipe, self.group, r = recipe, group, recipe
        self.generator, self.discriminator = generator(r), discriminator(r)
        nets: dict[str, nn.Module] = {"generator": self.generator, "discriminator": self.discriminator}
        if r.features:
            nets["encoder"] = self.encoder = encoder(r)
            self.clusters = Clusters(max(1, r.labels), r.clusters, r.features)
        for name, net in nets.items():
            initialise(net, seeded(r.seed, name), normal(DEVIATION), uniform_biases=True)
        self.perceptual = Perceptual(perceptual, r.perceptual_layers, r.perceptual_factors, torch.abs)
        group.share(self)
        self.stage = ""
        self.reads = ("input", "instances") if r.instances else ("input",)  # type: ignore[misc]
        self.samplers = ("clusters",) if r.features else ("only",)
        self.optimisers = {}

    # Stages ----------------------------------------------------------------------------------------------------------

    @property
    def stages(self) -> list[Stage]:
        r = self.recipe
        found = [Stage("global", r.epoch * (r.global_constant_epochs + r.global_decay_epochs), r.batch)]
        if r.enhancers:
            found.append(Stage("enhancer", r.epoch * r.enhancer_epochs, r.batch))
            found.append(Stage("joint", r.epoch * (r.joint_constant_epochs + r.joint_decay_epochs), r.batch))
        return found

    def streams(self, stage: str) -> dict[str, Stream]:
        r = self.recipe
        return {"pairs": Stream(fields=(*self.reads, "target"), batch=r.batch, augment=r.augment, flip=r.flip)}

    def parts(self, stage: str) -> tuple[str, ...]:
        whole = ("generator.", "discriminator.", "encoder.", "clusters.")
        return ("generator.coarse.", "discriminator.", "encoder.", "clusters.") if stage == "global" else whole

    def enter(self, stage: str) -> None:
        """Fresh Adam states, D's too (the released code keeps D's when it frees the global network)."""
        if stage not in (names := [one.name for one in self.stages]):
            raise ValueError(f"no stage {stage!r}: choose one of {', '.join(names)}")
        self.stage = stage
        betas = (self.recipe.beta1, self.recipe.beta2)
        self.optimisers = {
            "generator": adam(self._trained(), betas),
            "discriminator": adam(parameters(*self._critics()), betas),
        }

    def _trained(self) -> list[nn.Parameter]:
        """G's weights that this stage trains, and E's. The global network's last convolution serves it alone."""
        own = self.generator
        read = [self.encoder] if self.recipe.features else []
        if self.stage == "global":
            return parameters(own.coarse, *read)
        added = parameters(own.enhancers, own.heads, *read)
        if self.stage == "enhancer":
            return added
        head = set(own.coarse.head.parameters())
        return [p for p in own.coarse.parameters() if p not in head] + added

    def _critics(self) -> list[nn.Module]:
        """D's scales that see this stage's pictures: those that trained the global network stay at its sizes."""
        return list(self.discriminator.critics)[self._halvings :]

    @property
    def _halvings(self) -> int:
        """Times this stage's pictures are smaller than the recipe's."""
        return self.recipe.enhancers if self.stage == "global" else 0

    # Training --------------------------------------------------------------------------------------------------------

    def step(self, draw: Draw, images: int) -> Step:
        """One pass: both losses see the picture from before G's step, and D's answers serve both."""
        r, game = self.recipe, GAMES[self.recipe.game]
        batch = self._reduced(draw("pairs"))
        layout, target = self._layout(batch), batch["target"]
        fake = self._picture(layout, self._features(batch))
        made, real = self._judge(layout, fake), self._judge(layout, target)

        d_loss = HALF * game.discriminator(logits(real), logits(made))
        gan = game.generator(logits(made))
        matching = r.feature_weight * 4 / (r.discriminator_layers + 1) * feature_matching(real, made)
        terms = {"gan": gan, "features": matching}
        if r.perceptual_layers:
            terms["perceptual"] = r.perceptual_weight * self.perceptual(fake, target)
        loss = torch.stack(list(terms.values())).sum()

        rate = self._rate(images)
        yield [  # D's gradients first: the other pass frees the graph
            Move("discriminator", torch.autograd.grad(d_loss, parameters(*self._critics()), retain_graph=True), rate),
            Move("generator", torch.autograd.grad(loss, self._trained()), rate),
        ]
        right = balance(logits(real), logits(made), game.middle)
        return scalars(rate=rate, loss=loss, **terms, discriminator=d_loss, discriminator_right=right)

    def _rate(self, images: int) -> float:
        """It falls at the end of each epoch after the constant ones, by the same step."""
        r = self.recipe
        constant, fall = {
            "global": (r.global_constant_epochs, r.global_decay_epochs),
            "enhancer": (r.enhancer_epochs, 1),
            "joint": (r.joint_constant_epochs, r.joint_decay_epochs),
        }[self.stage]
        return r.rate * linear_decay(images // r.epoch, constant, max(1, fall))

    def _reduced(self, batch: Batch) -> Batch:
        """At this stage's size: pictures by the average pyramid, ids by taking every second pixel."""
        steps = self._halvings
        if not steps:
            return batch
        every = 1 << steps
        smaller = {name: value for name, value in batch.items() if value.ndim < 3}
        smaller |= {name: value[:, ::every, ::every] for name, value in batch.items() if value.ndim == 3}
        return smaller | {name: pyramid(x, steps + 1)[-1] for name, x in batch.items() if x.ndim == 4}

    def _layout(self, batch: Batch) -> Float[Tensor, "b c h w"]:
        """What D sees beside the picture: classes or a picture, and the objects' edges."""
        r, given = self.recipe, batch["input"]
        dtype = next(self.generator.parameters()).dtype
        layout = one_hot(given, r.labels, dtype) if r.condition == "labels" else given
        if not r.instances:
            return layout
        ids = self._ids(batch)
        return torch.cat([layout, edges(ids).to(dtype)], 1)

    def _ids(self, batch: Batch) -> Int[Tensor, "b h w"]:
        """The objects; without a map of them each class's area, or the whole picture."""
        given: Tensor = batch["input"]
        if not self.recipe.instances:
            whole = torch.zeros(given.shape[0], *given.shape[-2:], dtype=torch.int64, device=given.device)
            return given if self.recipe.condition == "labels" else whole
        return self._instances(batch)

    @staticmethod
    def _instances(batch: Batch) -> Int[Tensor, "b h w"]:
        given: Tensor = batch["input"]
        if "instances" not in batch:
            raise ValueError("no field 'instances': give one, or train with --no-instances")
        ids: Tensor = batch["instances"]
        if ids.shape != (given.shape[0], *given.shape[-2:]):
            there, here = (" x ".join(map(str, x.shape[-2:])) for x in (ids, given))
            raise ValueError(f"the map of instances is {there}, the input {here}")
        return ids

    def _features(self, batch: Batch) -> Float[Tensor, "b f h w"] | None:
        """E's features of the target, their mean over each object."""
        return pooled(self.encoder(batch["target"]), self._ids(batch)) if self.recipe.features else None

    def _picture(self, layout: Tensor, features: Tensor | None) -> Float[Tensor, "b 3 h w"]:
        net = self.generator.coarse if self.stage == "global" else self.generator
        out: Tensor = net(layout if features is None else torch.cat([layout, features], 1))
        return out

    def _judge(self, layout: Tensor, picture: Tensor) -> Scales:
        found: Scales = self.discriminator(torch.cat([layout, picture], 1), skip=self._halvings)
        return found

    # Harvest ---------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def harvest(self, stage: str, batches: Iterable[Batch]) -> Table | None:
        """With features, after the last stage: of each sample its largest objects' features, classes and areas
        (`N OBJECTS ...`; class -1 where there are fewer)."""
        if not self.recipe.features or stage != self.stages[-1].name:
            return None
        self.stage = stage
        found = [
            rows_of_objects(self.encoder(batch["target"]), self._classes(batch), self._ids(batch))
            for batch in map(self._reduced, batches)
        ]
        return {name: torch.cat([part[name] for part in found]).cpu() for name in found[0]}

    def _classes(self, batch: Batch) -> Int[Tensor, "b h w"]:
        return batch["input"] if self.recipe.condition == "labels" else torch.zeros_like(self._ids(batch))

    def adopt(self, stage: str, table: Table) -> None:
        """Cluster the features of each class."""
        self.clusters.fit(table, self.recipe.least_area, self.recipe.seed)

    # Use -------------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def sample(self, given: Batch, count: int, generator: torch.Generator, sampler: str = "") -> Tensor:
        """At any size. With features, each object's are a cluster's centre, drawn anew for each sample; 0 for a class
        without clusters, and for all before the clusters are made. Without features all samples are alike."""
        self.chosen_sampler(sampler)
        batch, (height, width) = self._padded(given), given["input"].shape[-2:]
        layout = self._layout(batch)
        drawn = []
        for _ in range(count):
            features = None
            if self.recipe.features:
                features = self.clusters.drawn(self._classes(batch), self._ids(batch), generator).to(layout)
            drawn.append(self._picture(layout, features)[..., :height, :width])
        return torch.stack(drawn, 1)

    def object_maps(self, given: Batch) -> Maps:
        """
        Raises:
            ValueError: a run on pictures, class ids that it does not know, or no map of objects.
        """
        if self.recipe.condition != "labels":
            raise ValueError(f"--condition {self.recipe.condition}: only runs on label maps have objects to edit")
        [labels] = given["input"]
        check_ids(labels, self.recipe.labels)
        return labels, self._instances(given)[0]

    def styles(self) -> tuple[int, ...]:
        """All 0 without features, and before the clusters are made at the end of the last stage."""
        r = self.recipe
        return tuple(self.clusters.counts.tolist()) if r.features else (0,) * max(1, r.labels)

    @torch.no_grad()
    def picture_of(
        self, labels: Int[Tensor, "h w"], ids: Int[Tensor, "h w"], seed: int, styles: Mapping[int, int]
    ) -> Float[Tensor, "3 h w"]:
        """At any size. Without a map of objects in training a class's objects share a style, as there."""
        height, width = labels.shape
        batch = self._padded({"input": labels[None], "instances": ids[None]})
        layout, features = self._layout(batch), None
        if self.recipe.features:
            groups = ids if self.recipe.instances else labels
            features = pad(self.clusters.chosen(labels, ids, groups, seed, styles), self._multiple).to(layout)
        elif styles:
            raise ValueError("this run has no styles: train one with features (--features 3)")
        return self._picture(layout, features)[0, :, :height, :width]

    def graph(self, given: Batch, generator: torch.Generator) -> Graph:
        """From the maps to the picture. With features, input `style` is at each pixel the number of a style of the
        pixel's class, the same all over an object."""
        r, net, dtype = self.recipe, self.generator, next(self.generator.parameters()).dtype

        def picture(x: Tensor, *more: Tensor) -> Tensor:
            parts = [traced_one_hot(x, r.labels, dtype) if r.condition == "labels" else x]
            if r.instances:
                parts.append(edges(more[0]).to(dtype))
            if r.features:
                kind = x if r.condition == "labels" else torch.zeros_like(more[-1])
                parts.append(self.clusters.centres[kind, more[-1]].movedim(-1, 1))
            out: Tensor = net(torch.cat(parts, 1))
            return out

        inputs = {name: given[name] for name in self.reads}
        ranges = {"input": class_ids(r.labels) if r.condition == "labels" else PICTURE, "picture": PICTURE}
        if r.instances:
            ranges["instances"] = "ids of objects"
        if r.features:
            inputs["style"] = self.clusters.numbers(self._classes(given), self._ids(given), generator)
            counts = ", ".join(map(str, self.styles()))
            ranges["style"] = f"from 0, below the number of styles of the pixel's class: {counts} (0: give 0)"
        call = Call(picture, net, self.clusters) if r.features else Call(picture, net)
        return Graph(call, inputs, ranges, multiple=net.multiple)

    @property
    def _multiple(self) -> int:
        return self.generator.coarse.multiple if self.stage == "global" else self.generator.multiple

    def _padded(self, given: Batch) -> Batch:
        return {name: pad(given[name], self._multiple) for name in self.reads}

    @torch.no_grad()
    def reconstruct(self, batch: Batch) -> Tensor:
        """With E's features of the target; without features, the one picture there is."""
        return self._picture(self._layout(batch), self._features(batch))

    @torch.no_grad()
    def preview(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Input, truth, the target's own features where there are any, samples."""
        batch = self._reduced(batch)
        shown = {"input": batch["input"], "truth": batch["target"]}
        if self.recipe.features:
            shown["own features"] = self.reconstruct(batch)
        drawn = self.sample(batch, SHOWN if self.recipe.features else 1, generator)
        return {**shown, **{f"sample {i + 1}": drawn[:, i] for i in range(drawn.shape[1])}}

    @torch.no_grad()
    def evaluate(self, batch: Batch) -> dict[str, float]:
        """Of the reconstruction, at the stage's size: L1, the perceptual distance where there is a VGG, `spread`
        (`adversarial.spread`)."""
        batch = self._reduced(batch)
        picture = self.reconstruct(batch)
        found = {"l1": float((picture - batch["target"]).abs().mean())}
        if self.perceptual.present:
            found["perceptual"] = float(self.perceptual(picture, batch["target"]))
        if len(picture) > 1:
            found["spread"] = spread(picture, batch["target"])
        return found


def channels(recipe: Config) -> int:
    """Of the layout: classes or a picture, and the edges."""
    return (recipe.labels if recipe.condition == "labels" else 3) + (1 if recipe.instances else 0)


def generator(recipe: Config) -> Generator:
    """G, its weights 0."""
    r = recipe
    return Generator(channels(r) + r.features, r.width, r.downs, r.blocks, r.enhancers, r.enhancer_blocks)


def encoder(recipe: Config) -> ResnetGenerator:
    """E, its weights 0."""
    return ResnetGenerator(3, recipe.features, recipe.encoder_width, recipe.encoder_downs, 0, "instance")


def discriminator(recipe: Config) -> MultiScale:
    """D, its weights 0: all scales alike."""
    r = recipe
    return MultiScale(
        [
            patch_critic(channels(r) + 3, r.discriminator_width, r.discriminator_layers, "instance", padding=2)
            for _ in range(r.discriminator_scales + r.enhancers)
        ]
    )


def check(recipe: Config, perceptual: nn.Module | None = None) -> None:
    """Refuse sizes that do not fit together, before anything is built.

    Raises:
        ValueError: naming the option, its value and what to do.
    """
    r = recipe
    if (r.condition == "labels") != (r.labels > 0):
        raise ValueError(f"--labels {r.labels}: the number of classes, with --condition labels and only then")
    if len(r.perceptual_factors) != len(r.perceptual_layers) and r.perceptual_layers:
        raise ValueError(
            f"--perceptual-factors {' '.join(map(str, r.perceptual_factors))}: one for each of "
            f"--perceptual-layers {' '.join(r.perceptual_layers)}"
        )
    if r.discriminator_layers < 1 or r.discriminator_scales < 1:
        raise ValueError("--discriminator-layers and --discriminator-scales: give at least 1")
    multiple = 1 << (max(r.downs, r.encoder_downs if r.features else 0) + r.enhancers)
    if r.size % multiple:
        raise ValueError(f"--size {r.size}: must be a multiple of {multiple}, with {r.enhancers} enhancers")
    if r.size >> (r.downs + r.enhancers) < 2:
        raise ValueError(f"--size {r.size}: too small for --downs {r.downs} and --enhancers {r.enhancers}")
    side = r.size >> (r.discriminator_scales + r.enhancers - 1)
    with torch.device("meta"):
        [critic, *_] = discriminator(r).critics
    if side < 2 or critic.map_side(side) < 1:  # type: ignore[operator]
        raise ValueError(
            f"--size {r.size}: too small for --discriminator-layers {r.discriminator_layers} at "
            f"{r.discriminator_scales + r.enhancers} scales"
        )
    if perceptual is not None and r.perceptual_layers:
        there: Sequence[str] = getattr(perceptual, "layers", ())
        if missing := [name for name in r.perceptual_layers if name not in there]:
            raise ValueError(f"--perceptual-layers {' '.join(missing)}: not among the VGG's ({' '.join(there)})")
