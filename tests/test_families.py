"""Every family keeps the contract: presets, stages, streams, a `tiny` run in memory that resumes bit for bit."""

import dataclasses

import pytest
import torch

import models
from models.family import KINDS, Batch, Recipe
from models.group import Group
from pipeline.data import kinds
from pipeline.training.inputs import LOADERS


def test_an_unknown_family_is_named_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"no family 'nosuch': choose one of .*step"):
        models.load("nosuch")


@pytest.mark.parametrize("name", models.names())
def test_presets_are_frozen_recipes_with_documented_fields(name: str) -> None:
    module = models.load(name)
    assert "tiny" in module.PRESETS and len(module.PRESETS) > 1
    for recipe in module.PRESETS.values():
        assert isinstance(recipe, Recipe)
        assert dataclasses.fields(recipe)
        with pytest.raises(dataclasses.FrozenInstanceError):
            recipe.seed = 1  # type: ignore[misc]
        assert set(recipe.LENGTHS) <= {f.name for f in dataclasses.fields(recipe)}


@pytest.mark.parametrize("name", models.names())
def test_a_recipe_is_stretched_with_its_schedule(name: str) -> None:
    module = models.load(name)
    for recipe in module.PRESETS.values():
        assert recipe.stretched(1) == recipe
    tiny = module.PRESETS["tiny"]
    once, longer = module.build(tiny, Group()).stages, module.build(tiny.stretched(2), Group()).stages
    lengths = [(a.images, b.images) for a, b in zip(once, longer, strict=True)]
    assert all(b in (a, 2 * a) for a, b in lengths) and any(b == 2 * a > 0 for a, b in lengths)


@pytest.mark.parametrize("name", models.names())
def test_what_the_jobs_ask_of_a_module(name: str) -> None:
    module = models.load(name)
    tiny = module.PRESETS["tiny"]
    module.check(tiny, None)
    assert module.SUMMARY and {spec.kind for spec in module.fields(tiny).values()} <= KINDS.keys()
    assert set(module.artifacts(tiny)) <= LOADERS.keys()
    with pytest.raises(ValueError, match="--batch 0: give at least 1"):
        dataclasses.replace(tiny, batch=0)
    with pytest.raises(ValueError, match=r"--rate -0\.5: give at least 0"):
        dataclasses.replace(tiny, rate=-0.5)


@pytest.mark.parametrize("name", models.names())
def test_building_leaves_global_randomness_alone(name: str) -> None:
    module = models.load(name)
    before = torch.random.get_rng_state()
    first = module.build(module.PRESETS["tiny"], Group(), None).state_dict()
    second = module.build(module.PRESETS["tiny"], Group(), None).state_dict()
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(first[k], second[k]) for k in first)


def test_every_kind_of_field_has_its_file() -> None:
    assert {kinds.named(name).read_as for name in kinds.names()} == KINDS.keys()


def test_alone_the_group_changes_nothing() -> None:
    group = Group()
    x = torch.ones(2, 3, requires_grad=True)
    assert group.gather(x) is x and group.world == 1
    batch: Batch = {"x": x}
    assert group.mean({"a": 2.0}) == {"a": 2.0} and batch
