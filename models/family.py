"""The contract between the loop and every family: Recipe, Stream, Stage, Family, Group.

The loop owns device, precision, ranks, clock, logging, checkpoints and resume. A family owns its networks, its
optimisers and their alternation, and asks for data through `draw(stream)` as often as a step needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn

Batch = dict[str, Any]
"""Field name -> tensor (images float32 `B 3 H W` in [-1, 1], label maps int64 `B H W`), plus `"index"`: int64 `B`, the
sample's position in the data set's key order, the same on every worker, and where a stream drew them `"crop"`: float64
`B 3` (scale, top, left). Batches of a table's rows have its columns and `"row"`: int64 `B`, the row's number."""

Draw = Callable[[str], Batch]
"""`draw(stream)`: this rank's share of the stream's next global batch. Each call counts as one draw."""

Match = Callable[[Tensor, Tensor], Tensor]
"""`match(queries Q D, pool P D) -> int64 Q`: the exact nearest pool row (squared Euclidean) of each query, ties to the
lower row; the pipeline's search."""

Table = dict[str, Tensor]
"""A named set of tensors with equal first dimensions, the same on every worker, checkpointed by the loop. Rows that
stand for samples have a column `"index"`: int64, their positions."""

Tables = Mapping[str, Table]
"""Stage -> what it harvested, or what its last `refresh` returned."""


@dataclass(frozen=True)
class Recipe:
    """What is trained. Frozen, logged, saved beside the weights; may not change on resume, but for the stages' lengths,
    which may grow. Each family subclasses it with the paper's values as defaults."""

    LENGTHS: ClassVar[tuple[str, ...]] = ()
    """Names of the fields that are lengths."""

    seed: int = 0
    """Root of every random generator of the run."""
    size: int = 256
    """Height of the training crop, pixels."""
    aspect: int = 1
    """Its width over its height."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            least = 1 if field.name in ("size", "aspect") or field.name.endswith("batch") else 0
            for number in value if isinstance(value, tuple) else (value,):
                if isinstance(number, int | float) and not least <= number < float("inf"):
                    raise ValueError(f"--{field.name.replace('_', '-')} {value}: give at least {least}, and finite")

    @property
    def frame(self) -> tuple[int, int]:
        """(height, width) of a training picture, pixels."""
        return self.size, self.size * self.aspect


@dataclass(frozen=True)
class PerceptualRecipe(Recipe):
    """A recipe with a VGG: the loop loads the weights that the job names, and hands it to `build`."""

    perceptual_net: Literal["vgg16", "vgg19"] = "vgg16"
    """Network of the style descriptors and of perceptual losses."""
    perceptual_layers: tuple[str, ...] = ("relu1_2", "relu2_2", "relu3_2", "relu4_2", "relu5_2")
    """Its layers, activations after ReLU."""
    perceptual_preprocessing: Literal["imagenet", "caffe", "none"] = "imagenet"
    """What its weights were trained for: torchvision's, or the original ones' (BGR, 0-255, mean subtracted); `none`:
    RGB in [-1, 1] as it is."""
    perceptual_pooling: Literal["max", "average"] = "max"
    """Between its blocks."""


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
    """Equally likely scales: a sample is resized (bicubic; label maps nearest) so that its shortest side is
    round(scale * recipe.size), then a random square of recipe.size is cut. `(1.0,)`: only larger ones are cropped."""
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


class Group:
    """The data-parallel group. Alone it does nothing; with torch.distributed initialised it spans all ranks.

    Not DDP's wrapper: with several forwards and backwards per step that is silently wrong. Gradients are averaged just
    before each optimiser step instead, and statistics over the batch are taken over `gather(x)`.
    """

    def __init__(self, bucket_bytes: int = 32 << 20, alone: bool = False) -> None:
        """`alone`: this process only, though a group is there (one rank loads a model: nobody would answer it)."""
        self.on = not alone and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
        self.rank: int = dist.get_rank() if self.on else 0
        self.world: int = dist.get_world_size() if self.on else 1
        self.bucket_bytes = bucket_bytes

    def share(self, net: nn.Module) -> None:
        """Broadcast rank 0's parameters and buffers of `net` to all ranks, in place."""
        if self.on:
            with torch.no_grad():
                for tensor in [*net.parameters(), *net.buffers()]:
                    dist.broadcast(tensor.data, 0)

    def average(self, params: Iterable[nn.Parameter]) -> None:
        """Replace each gradient by its mean over the ranks, in flattened buckets. Call it before `optimiser.step()`.

        A parameter without a gradient on this rank counts as zero, so that all ranks send the same buckets.
        """
        if not self.on:
            return
        bucket: list[nn.Parameter] = []
        size = 0
        for p in params:
            if not p.requires_grad:
                continue
            if p.grad is None:
                p.grad = torch.zeros_like(p)
            if bucket and (size + p.numel() * p.element_size() > self.bucket_bytes or p.dtype != bucket[0].dtype):
                self._reduce(bucket)
                bucket, size = [], 0
            bucket.append(p)
            size += p.numel() * p.element_size()
        if bucket:
            self._reduce(bucket)

    def _reduce(self, bucket: Sequence[nn.Parameter]) -> None:
        grads = [p.grad for p in bucket if p.grad is not None]
        flat = torch.cat([g.reshape(-1) for g in grads])
        dist.all_reduce(flat)
        flat /= self.world
        start = 0
        for g in grads:
            g.copy_(flat[start : start + g.numel()].view_as(g))
            start += g.numel()

    def gather(self, x: Tensor) -> Tensor:
        """All ranks' `x`, concatenated along dimension 0 in rank order (= the order of the global batch).

        Differentiable: the gradient that reaches a rank's `x` is the sum over all ranks' losses, so that with
        `average` the step equals that of one worker with the whole batch.
        """
        return _Gather.apply(x, self) if self.on else x  # type: ignore[no-untyped-call]

    def mean(self, values: Mapping[str, float]) -> dict[str, float]:
        """Scalars averaged over the ranks, for the log."""
        if not self.on:
            return dict(values)
        flat = torch.tensor([values[k] for k in sorted(values)], dtype=torch.float64)
        if dist.get_backend() == "nccl":
            flat = flat.cuda()
        dist.all_reduce(flat)
        return dict(zip(sorted(values), (flat / self.world).tolist(), strict=True))


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Group) -> Tensor:
        ctx.group, ctx.rows = group, x.shape[0]
        x = x.contiguous()  # the collective sees memory, not strides: channels-last would be refused
        parts = [torch.empty_like(x) for _ in range(group.world)]
        dist.all_gather(parts, x)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        grad = grad.contiguous()
        dist.all_reduce(grad)
        start = ctx.group.rank * ctx.rows
        return grad[start : start + ctx.rows], None


class Family(nn.Module):
    """One method. Built by its module's `build(recipe, group)`; driven by the loop in this order for each stage:
    `enter`, then `refresh` when due and `update` until the stage's images are seen, then `harvest`.

    `state_dict()` (weights, EMA averages, buffers) plus `training_state()` (optimisers, tables, schedules) is the whole
    state: loading both reproduces the run bit for bit on the CPU.
    """

    recipe: Recipe
    group: Group

    @property
    def stages(self) -> list[Stage]:
        """The stages in the order they are trained. Ask again before each stage: a later one's length may follow from
        the harvest before it (StEP's mapper: epochs over the codes), and is 0 until that is adopted."""
        raise NotImplementedError

    def parts(self, stage: str) -> tuple[str, ...]:
        """Prefixes of the `state_dict` entries that `stage` trains first: what `--from STAGE=CHECKPOINT` takes over."""
        raise NotImplementedError

    def take(self, artifact: str, table: Table) -> None:
        """An artifact of the training set that the job names (`rarity`), its rows by position; before the first stage
        and again on resume. It is part of the run's identity, not of its state."""
        raise ValueError(f"--{artifact}: this family has no use for it")

    def enter(self, stage: str) -> None:
        """Say what trains, make fresh optimisers. Starts from the raw (not averaged) weights of the stage before; may
        begin a network anew. On resume the loop loads the state after it."""
        raise NotImplementedError

    def streams(self, stage: str) -> dict[str, Stream]:
        """The streams that `update` of this stage draws from; the first is the leading one."""
        raise NotImplementedError

    def update(self, draw: Draw, images: int) -> dict[str, float]:
        """One generator step with everything that belongs to it; `images` = images seen in this stage so far (for
        schedules). Returns scalars for the log (this rank's; the loop averages them)."""
        raise NotImplementedError

    def refresh(self, draw: Draw, tables: Tables, match: Match, step: int) -> Table | None:
        """Renew the family's matches (IMLE), before step `step`. Draws count like those of `update`. A table returned
        is this stage's from now on, for its `table` streams; it must be the same on every rank."""
        return None

    def harvest(self, stage: str, batches: Iterable[Batch]) -> Table | None:
        """After a stage: one row a sample, computed from whole batches of the data set in key order (style codes), in
        the order they come. The loop splits batches between the ranks and joins the rows. None: nothing to harvest."""
        return None

    def adopt(self, stage: str, table: Table) -> None:
        """Take the joined harvest of `stage` (fit the gaussian of codes, ...): kept in buffers."""

    def training_state(self) -> dict[str, Any]:
        """Optimisers and the like of the current stage: tensors, numbers, strings, lists and dicts only. Rank 0's is
        kept for all."""
        raise NotImplementedError

    def load_training_state(self, state: dict[str, Any]) -> None:
        """The inverse of `training_state`, after `enter` of the same stage."""
        raise NotImplementedError

    # What follows runs on rank 0 alone, with the averaged weights: no `group.gather` in it.

    def evaluate(self, batch: Batch) -> dict[str, float]:
        """Means over a held-out batch; the first figure decides which checkpoint of the stage is best (lower is
        better). Empty in a stage that has none."""
        return {}

    def preview(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Column -> pictures `B 3 H W` in [-1, 1] or label ids `B H W`: a row a sample, for a sheet to look at while
        the current stage trains. Empty in a stage that makes no pictures."""
        return {}

    reads: ClassVar[tuple[str, ...]] = ("input",)
    """Fields that `sample`, `generate` and `transfer` want in `given`; () for methods without an input, which take the
    number of rows from `given["index"]`."""
    samplers: ClassVar[tuple[str, ...]] = ("prior",)
    """Ways to draw codes, by name; the first is the default."""

    def sample(self, given: Batch, count: int, generator: torch.Generator, sampler: str = "") -> Tensor:
        """`B count 3 H W` in [-1, 1]: `count` outputs for each row of `given`. `generator` is a CPU generator."""
        raise NotImplementedError

    def reconstruct(self, batch: Batch) -> Tensor | None:
        """`B 3 H W`: the output with the target's own code, or None where the method has none."""
        return None

    def codes(self, images: Tensor) -> Tensor | None:
        """`B D`: the style codes of pictures `B 3 H W`, or None where the method has none."""
        return None

    def generate(self, given: Batch, code: Tensor) -> Tensor | None:
        """`B 3 H W`: the output for given codes `B D`, or None where the method has none."""
        return None

    def transfer(self, given: Batch, style: Tensor) -> Tensor | None:
        """`B 3 H W`: the output in the style of the images `style` (`B 3 H W`), or None where the method has none."""
        return None
