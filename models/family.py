"""The contract between the loop and every family: Recipe, FieldSpec, ArtifactSpec, Facts, Stream, Stage, Family.

The loop owns device, precision, ranks, clock, logging, checkpoints and resume. A family owns its networks, its
optimisers and their alternation, and asks for data through `draw(stream)` as often as a step needs. `models.abilities`
says what a trained family can be asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from models.group import Group

Batch = dict[str, Any]
"""Field name -> tensors, by the field's kind (`KINDS`); plus `"index"`: int64 `B`, the sample's position in the data
set's key order, the same on every worker, and where a stream drew them `"crop"`: float64 `B 3` (scale, top, left).
Batches of a table's rows have its columns and `"row"`: int64 `B`, the row's number."""

KINDS = {
    "image": "float32 `B C H W` in [-1, 1], C = 3 (RGB) or 1 (grey)",
    "labels": "int64 `B H W`: class ids",
    "instances": "int64 `B H W`: object ids, up to 32 bits",
    "class": "int64 `B`: the sample's class; -1 where it has none",
    "tokens": "int64 `B T`: word numbers, 0 behind the end, 1 for unknown words; with `NAME_length`: int64 `B`",
    "answers": "float32 `B K`: how many people gave answer k of the vocabulary",
    "array": "float32 `B ...`: numbers in place of pixels (features of another network)",
}
"""Kind of field -> its form in a batch."""

Draw = Callable[[str], Batch]
"""`draw(stream)`: this rank's share of the stream's next global batch. Each call counts as one draw."""

Match = Callable[[Tensor, Tensor], Tensor]
"""`match(queries Q D, pool P D) -> int64 Q`: the exact nearest pool row (squared Euclidean) of each query, ties to the
lower row; the pipeline's search."""

Pause = Callable[[], None]
"""`pause()`: call it every few seconds within long work, equally often on every rank. It may raise to end the work: the
loop then goes on later from before it."""


def no_pause() -> None:
    """The `Pause` of work that nobody interrupts."""


Table = dict[str, Tensor]
"""A named set of tensors with equal first dimensions, the same on every worker, checkpointed by the loop. Rows that
stand for samples have a column `"index"`: int64, their positions."""

Tables = Mapping[str, Table]
"""Stage -> what it harvested, or what its last `refresh` returned."""


@dataclass(frozen=True)
class FieldSpec:
    """A field that a family reads, and how. The family's `fields(recipe)` names them; the data set is checked against
    it before anything is built."""

    kind: str
    """One of `KINDS`."""
    required: bool = True
    """Whether the family cannot be trained on data without it."""
    channels: int = 3
    """Of an image: 3 (RGB), or 1 (grey: ITU-R 601 luma; a grey picture's own values)."""
    length: int = 0
    """Of tokens: words kept at most; 0: all."""


@dataclass(frozen=True)
class ArtifactSpec:
    """An artifact of the training set that a family uses. The family's `artifacts(recipe)` maps the option that names
    it (`neighbours`, `rarity`, `matches`, `features`) to one of these."""

    purpose: str
    """What it is for, in the words of an error message: "the triplets of stage encoder"."""
    needed_by: tuple[str, ...] = ()
    """Stages that cannot be trained without it; none: it is optional."""


@dataclass(frozen=True)
class Facts:
    """What is known of the training set before a family is built, saved with the run: numbers of classes,
    vocabularies. JSON values only."""

    samples: int = 0
    fields: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Field -> facts of its kind: `{"kind": "class", "classes": 10, "names": [...]}`,
    `{"kind": "tokens", "words": [...]}` (most frequent first; word number = place + 2), `{"kind": "answers",
    "answers": [...]}`, `{"kind": "array", "shape": [...], "rms": 1.0}` (root mean square of the numbers)."""

    def classes(self, name: str) -> int:
        """Number of classes of a field.

        Raises:
            ValueError: the data set has no such field of kind class.
        """
        found = self.fields.get(name, {}).get("classes")
        if found is None:
            raise ValueError(f"the data set has no classes in a field {name!r}")
        return int(found)


@dataclass(frozen=True)
class Recipe:
    """What is trained. Frozen, logged, saved beside the weights. It may not change on resume, except that the stages'
    lengths may grow. Each family subclasses it with the paper's values as defaults."""

    LENGTHS: ClassVar[tuple[str, ...]] = ()
    """Names of the fields that are lengths."""
    SCALED: ClassVar[tuple[str, ...]] = ()
    """Names of the fields that `stretched` multiplies; none: the lengths."""

    seed: int = 0
    """Root of every random generator of the run."""
    size: int = 256
    """Height of the training crop, pixels."""
    aspect: int = 1
    """Width of the training crop over its height."""
    fit: Literal["cover", "stretch", "pad"] = "cover"
    """How a picture becomes a training crop. `cover`: its shortest side is resized and the rest cut off. `stretch`:
    both sides are resized and the aspect changes. `pad`: its longest side is resized and the rest mirrored."""

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            least = 1 if one.name in ("size", "aspect") or one.name.endswith("batch") else 0
            for number in value if isinstance(value, tuple) else (value,):
                if isinstance(number, int | float) and not least <= number < float("inf"):
                    raise ValueError(f"--{one.name.replace('_', '-')} {value}: give at least {least}, and finite")

    def stretched(self, factor: float) -> Self:
        """The same training, `factor` times as long, its schedule with it. A length of 0 stays 0, others are at
        least 1."""
        longer: dict[str, Any] = {}
        for name in self.SCALED or self.LENGTHS:
            length = getattr(self, name)
            longer[name] = max(1, round(length * factor)) if length else 0
        return replace(self, **longer)

    @property
    def frame(self) -> tuple[int, int]:
        """(height, width) of a training picture, pixels."""
        return self.size, self.size * self.aspect

    @property
    def candidates(self) -> dict[str, Any]:
        """What the candidates of a nearest-sample search are a function of, beside their seeds: part of the identity of
        matches. Empty for families that search for none."""
        return {}


@dataclass(frozen=True)
class PerceptualRecipe(Recipe):
    """A recipe with a VGG: the loop loads the weights that the job names, and hands it to `build`."""

    perceptual_net: Literal["vgg16", "vgg19"] = "vgg16"
    """Network of the style descriptors and of perceptual losses."""
    perceptual_layers: tuple[str, ...] = ("relu1_2", "relu2_2", "relu3_2", "relu4_2", "relu5_2")
    """Its layers, activations after ReLU."""
    perceptual_preprocessing: Literal["imagenet", "caffe", "none"] = "imagenet"
    """Input that its weights were trained for: `imagenet`, torchvision's; `caffe`, that of the original weights (BGR,
    0-255, mean subtracted); `none`: RGB in [-1, 1] as it is."""
    perceptual_pooling: Literal["max", "average"] = "max"
    """Pooling between its blocks."""
    perceptual_pools: int = 4
    """Poolings: after the first so many blocks. MUNIT's code leaves out the fourth."""


@dataclass(frozen=True)
class Stream:
    """One named flow of global batches within a stage."""

    batch: int
    """Global batch size, samples (or triplets): split evenly between the workers."""
    fields: tuple[str, ...] = ()
    """Sample fields wanted, e.g. `("input", "target")`; for triplets, the one field the three images are taken from."""
    source: Literal["samples", "triplets", "table"] = "samples"
    """`samples`: decoded images. `triplets`: (anchor, positive, negative) by the neighbour artifact. `table`: rows of
    `table`; with `fields`, those of the samples at its `"index"`, cut at its `"crop"`."""
    table: str = ""
    """Stage that made the table: an earlier one's harvest, or this one's latest refresh."""
    order: Literal["epoch", "fixed", "weighted"] = "epoch"
    """`epoch`: a fresh permutation each epoch, batches run across its end. `fixed`: one permutation, cut to a multiple
    of the batch, for every epoch. `weighted`: with replacement, by `weights`."""
    weights: Tensor | None = None
    """For `weighted`, float64, not negative, any scale, on the CPU: `N`, or `C N` (place p of the stream is drawn by
    row p mod C); None: all alike."""
    keep: Callable[[Mapping[str, Any]], bool] | None = None
    """Filter over a sample's index row (labelled only, one domain only); None keeps all."""
    augment: tuple[float, ...] = (1.0,)
    """Equally likely scales: a sample is resized (bicubic; label and instance maps nearest) to scale * the recipe's
    frame, by the recipe's `fit`, then a random frame is cut. `(1.0,)`: only larger ones are cropped."""
    flip: float = 0.0
    """Probability that a sample is mirrored left to right, all its fields alike."""
    unit: int = 1
    """Samples that are never split between workers (BicycleGAN: 2)."""


@dataclass(frozen=True)
class Stage:
    """One stretch of training with its own optimisers."""

    name: str
    images: int
    """Length: images seen (the leading stream's batch size x steps). 0: the stage is not entered, only harvested."""
    batch: int
    """Global batch size that one `update` counts as."""
    refresh_every: int = 0
    """Steps between two `refresh` calls, the first one before step 0; 0: never."""


@dataclass(frozen=True)
class Sign:
    """A logged figure that tells early that training goes wrong: its mean over the last thousand steps lies beyond a
    limit."""

    figure: str
    """A scalar of `update`, or `held_out/NAME` for one of `evaluate`."""
    says: str
    """What it means and what to do, in the words of the warning."""
    above: float = float("inf")
    """It is a sign where the mean is larger."""
    below: float = float("-inf")
    """It is a sign where the mean is smaller."""


class Family(nn.Module):
    """One method. Built by its module's `build(recipe, group, perceptual, facts)`; driven by the loop in this order for
    each stage: `enter`, then `refresh` when due and `update` until the stage's images are seen, then `harvest`.

    `state_dict()` (weights, EMA averages, buffers) plus `training_state()` (optimisers, schedules) is the whole state:
    loading both reproduces the run bit for bit on the CPU.
    """

    recipe: Recipe
    group: Group
    optimisers: dict[str, torch.optim.Optimizer]
    """Name -> optimiser of the current stage, made by `enter`."""
    accumulates: ClassVar[bool] = False
    """Whether `update` takes its batch in `group.accumulate` micro-batches."""
    signs: ClassVar[tuple[Sign, ...]] = ()
    """Figures by which the loop warns early that training goes wrong."""

    @property
    def stages(self) -> list[Stage]:
        """The stages in the order they are trained. Ask again before each stage: a later one's length may follow from
        the harvest before it (StEP's mapper: epochs over the codes), and is 0 until that is adopted."""
        raise NotImplementedError

    def parts(self, stage: str) -> tuple[str, ...]:
        """Prefixes of the `state_dict` entries that `stage` trains first: what `--start STAGE FILE` takes over."""
        raise NotImplementedError

    def take(self, artifact: str, table: Table) -> None:
        """An artifact of the training set that the job names (`rarity`, `matches`), its rows by position; before the
        first stage and again on resume. It is part of the run's identity, not of its state."""
        raise ValueError(f"--{artifact}: this family has no use for it")

    def enter(self, stage: str) -> None:
        """Say what trains, make fresh optimisers. Starts from the raw (not averaged) weights of the stage before; may
        begin a network anew. On resume the loop loads the state after it."""
        raise NotImplementedError

    def streams(self, stage: str) -> dict[str, Stream]:
        """The streams that `update` of this stage draws from; the first is the leading one."""
        raise NotImplementedError

    def update(self, draw: Draw, images: int) -> dict[str, Tensor]:
        """One generator step with everything that belongs to it; `images` = images seen in this stage so far (for
        schedules). Returns scalars for the log, as tensors that are left on the device (this rank's; the loop reads
        them at log steps and averages them over ranks and steps)."""
        raise NotImplementedError

    def refresh(self, draw: Draw, tables: Tables, match: Match, step: int, pause: Pause = no_pause) -> Table | None:
        """Renew the family's matches (IMLE), before step `step`. Draws count like those of `update`. A table returned
        is this stage's from now on, for its `table` streams; it must be the same on every rank. Long work calls
        `pause()`; until its last call of it, it changes nothing of the family's state."""
        return None

    def harvest(self, stage: str, batches: Iterable[Batch]) -> Table | None:
        """After a stage: one row a sample, computed from whole batches of the data set in key order (style codes), in
        the order they come. The loop splits batches between the ranks and joins the rows. None: nothing to harvest."""
        return None

    def adopt(self, stage: str, table: Table) -> None:
        """Take the joined harvest of `stage` (fit the gaussian of codes, ...): kept in buffers."""

    def training_state(self) -> dict[str, Any]:
        """Optimisers and the like of the current stage: tensors, numbers, strings, lists and dicts only. Rank 0's is
        kept for all. Here: the optimisers' states (rates are set at each step, from the recipe); a family with more
        extends it."""
        return {"adam": {name: optimiser.state_dict()["state"] for name, optimiser in self.optimisers.items()}}

    def load_training_state(self, state: dict[str, Any]) -> None:
        """The inverse of `training_state`, after `enter` of the same stage."""
        for name, optimiser in self.optimisers.items():
            settings = optimiser.state_dict()["param_groups"]
            optimiser.load_state_dict({"state": state["adam"][name], "param_groups": settings})

    # What follows runs on rank 0 alone, with the averaged weights: no `group.gather` in it.

    def evaluate(self, batch: Batch) -> dict[str, float]:
        """Means over a held-out batch; the first figure decides which checkpoint of the stage is best (lower is
        better). Empty in a stage that has none."""
        return {}

    def preview(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Column -> pictures `B C H W` in [-1, 1] or label ids `B H W`: a row a sample, for a sheet to look at while
        the current stage trains. Empty in a stage that makes no pictures."""
        return {}

    reads: ClassVar[tuple[str, ...]] = ("input",)
    """Fields that its abilities want in `given`; () for methods without an input, which take the number of rows from
    `given["index"]`."""

    samplers: tuple[str, ...] = ()
    """Ways to draw samples, by name, of a family that draws them; the first is the default."""

    def chosen_sampler(self, name: str) -> str:
        """The way to draw of this name; empty: the default.

        Raises:
            ValueError: there is none; the message lists those there are.
        """
        if name and name not in self.samplers:
            raise ValueError(f"--sampler {name}: choose one of {', '.join(self.samplers)}")
        return name or self.samplers[0]
