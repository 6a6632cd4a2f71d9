"""What a whole job (jobs.run) is put together from: its parts, and the artifacts that a family's stages need."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from jobs import describe, features, neighbours
from models.family import FieldSpec
from pipeline.artifacts import storage
from pipeline.data.samples import Field
from pipeline.neighbours.options import Exact
from pipeline.style.descriptors import DescribeOptions
from pipeline.style.features import MADE
from pipeline.tracking.journal import Tracker


@dataclass(frozen=True)
class Parts:
    """What the parts of one whole job share."""

    config: Any
    root: str
    uri: str | None
    parent: Tracker
    tags: dict[str, str]
    elsewhere: Mapping[str, str] = field(default_factory=dict)
    """Parts that lie in another folder than that of their name."""

    def folder(self, name: str) -> str:
        return self.elsewhere.get(name) or storage.join(self.root, name)

    def do(self, name: str, job: Callable[[Any, Tracker], Any], options: Any) -> Any:
        """One job, tracked below the parent run."""
        with Tracker(self.folder(name), self.uri, name, name, self.parent.as_parent, self.tags) as tracker:
            tracker.parameters(asdict(options))
            return job(options, tracker)


def _neighbours(parts: Parts) -> str:
    """Descriptors and the neighbour lists of them; returns the lists' folder."""
    config, recipe = parts.config, parts.config.recipe
    data, styles, lists = (parts.folder(name) for name in ("data", "descriptors", "neighbours"))
    options = DescribeOptions(
        net=recipe.perceptual_net,
        layers=recipe.perceptual_layers,
        preprocessing=recipe.perceptual_preprocessing,
        pooling=recipe.perceptual_pooling,
        precision=config.precision,
    )
    described = describe.Config(
        data=data, output=styles, weights=config.weights, describe=options, workers=config.workers
    )
    parts.do("descriptors", describe.run, described)
    search = Exact(near=config.near, far=config.far, workers=config.workers)
    near = neighbours.Config(descriptors=styles, data=data, output=lists, search=search)
    parts.do("neighbours", neighbours.run, near)
    return lists


MAKERS: dict[str, Callable[[Parts], str]] = {"neighbours": _neighbours}
"""Artifact that a stage needs -> how it is made of the data set."""


def with_features(parts: Parts) -> str:
    """The data set with features of its pictures (jobs.features); returns its folder."""
    config, folder = parts.config, parts.folder("features")
    made = features.Config(
        data=parts.folder("data"),
        output=folder,
        weights=config.weights,
        features=config.grid_features,
        workers=config.workers,
    )
    parts.do("features", features.run, made)
    return folder


def needs_features(wanted: Mapping[str, FieldSpec], there: Mapping[str, Field]) -> bool:
    """Whether a family reads features that a source does not have."""
    return any(name in wanted and name not in there for name in MADE)


def of_source(wanted: Mapping[str, FieldSpec], there: Mapping[str, Field]) -> dict[str, FieldSpec]:
    """What a source must have so that a family can be trained on it: the fields that the family reads, with the
    pictures in place of their features where the source has none."""
    if not needs_features(wanted, there):
        return dict(wanted)
    return {"image": FieldSpec("image"), **{name: spec for name, spec in wanted.items() if name not in MADE}}
