"""The family: recipes, conditions, training, workers, resume, abilities."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from models import abilities, pixelcnn
from models.common.seeds import seeded
from models.family import Batch, Facts, Family
from models.group import Group
from tests.ranks import on_two_ranks

FACTS = Facts(16, {"class": {"kind": "class", "classes": 3}, "code": {"kind": "array", "shape": [5]}})
TINY = pixelcnn.PRESETS["tiny"]
CONDITIONS: dict[str, pixelcnn.Config] = {
    "none": TINY,
    "class": replace(TINY, condition="class"),
    "located": pixelcnn.PRESETS["tiny-class"],
    "array": replace(TINY, condition="array"),
    "own": pixelcnn.PRESETS["tiny-autoencoder"],
    "binary": replace(pixelcnn.PRESETS["tiny-autoencoder"], levels=2, binarise=True, head="bernoulli"),
    "rgb": pixelcnn.PRESETS["tiny-rgb"],
    "squared": pixelcnn.PRESETS["tiny-squared"],
}


class Share:
    """This rank's rows of each global batch."""

    def __init__(self, recipe: pixelcnn.Config, rank: int = 0, world: int = 1, dtype: torch.dtype = torch.float32):
        self.recipe, self.rank, self.world, self.dtype, self.count = recipe, rank, world, dtype, 0

    def __call__(self, stream: str) -> Batch:
        self.count += 1
        r, generator = self.recipe, seeded(stream, self.count)
        grey = torch.randint(0, 256, (r.batch, r.channels, *r.frame), generator=generator)
        whole = {
            "target": (grey.to(self.dtype) / 127.5 - 1),
            "class": torch.randint(0, 3, (r.batch,), generator=generator),
            "code": torch.randn(r.batch, 5, generator=generator).to(self.dtype),
            "index": torch.randint(0, 16, (r.batch,), generator=generator),
        }
        return {name: value.chunk(self.world)[self.rank] for name, value in whole.items()}


def built(recipe: pixelcnn.Config, group: Group | None = None) -> Any:
    family = pixelcnn.build(recipe, group or Group(), None, FACTS)
    family.enter("main")
    return family


def train(family: Family, draw: Share, steps: int, first: int = 0) -> list[float]:
    losses = []
    for i in range(first, first + steps):
        found = family.update(draw, i * draw.recipe.batch)
        losses.append(float(next(iter(found.values()))))
    return losses


@pytest.mark.parametrize("name", CONDITIONS)
def test_a_run_that_is_cut_goes_on_bit_for_bit(name: str) -> None:
    recipe = CONDITIONS[name]
    whole, draw = built(recipe), Share(recipe)
    train(whole, draw, 6)
    first, draw = built(recipe), Share(recipe)
    train(first, draw, 3)
    second = built(recipe)
    second.load_state_dict(first.state_dict())
    second.load_training_state(first.training_state())
    train(second, draw, 3, 3)
    a, b = whole.state_dict(), second.state_dict()
    assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("name", CONDITIONS)
def test_it_learns(name: str) -> None:
    """To say one batch by heart: what it gives at first is what it takes at random."""
    recipe = replace(CONDITIONS[name], binarise=False, batch=2)
    family, batch = built(recipe), Share(recipe)("pictures")
    losses = [float(next(iter(family.update(lambda _: batch, 0).values()))) for _ in range(60)]
    assert losses[-1] < 0.75 * losses[0], losses[::10]
    if name != "squared":
        assert losses[0] == pytest.approx(math.log2(recipe.levels), rel=0.35)


def gradients(group: Group) -> dict[str, Any]:
    found = {}
    for name, recipe in CONDITIONS.items():
        family = pixelcnn.build(recipe, group, None, FACTS).double()
        family.enter("main")
        kept: list[Tensor] = []
        parameters = family.optimisers["main"].param_groups[0]["params"]

        def keep(*_: Any, kept: list[Tensor] = kept, parameters: list[Tensor] = parameters) -> None:
            kept.append(torch.cat([p.grad.reshape(-1).clone() for p in parameters if p.grad is not None]))

        family.optimisers["main"].register_step_pre_hook(keep)
        train(family, Share(recipe, group.rank, group.world, torch.float64), 5)
        found[name] = kept
    return found


def worker(_: int) -> dict[str, Any]:
    return gradients(Group())


def test_two_workers_take_the_steps_of_one(tmp_path: Path) -> None:
    two = on_two_ranks(tmp_path, worker)[0]
    for name, one in gradients(Group()).items():
        assert len(one) == 5
        for a, b in zip(one, two[name], strict=True):
            assert float((a - b).abs().max() / a.abs().max()) < 1e-9, name


def test_what_it_can_be_asked_for() -> None:
    everyone = {"draws samples", "gives a likelihood", "completes a picture"}
    codes = {"reconstructs a target from its own code", "encodes and decodes a style"}
    assert set(abilities.can(built(TINY))) == everyone
    assert set(abilities.can(built(CONDITIONS["own"]))) == everyone | codes
    assert set(abilities.can(built(CONDITIONS["squared"]))) == codes


@pytest.mark.parametrize("name", [name for name in CONDITIONS if name != "squared"])
def test_abilities(name: str) -> None:
    recipe = CONDITIONS[name]
    family, batch = built(recipe), Share(recipe)("pictures")
    train(family, Share(recipe), 2)
    nats = family.log_prob(batch)
    assert nats.dtype == torch.float64 and torch.equal(nats, family.log_prob(batch))
    figures = family.evaluate(batch)
    assert figures["nats"] == pytest.approx(-float(nats.mean()))
    assert figures["bits_per_dim"] == pytest.approx(-float(nats.mean()) / math.log(2) / family.dimensions(), rel=1e-5)
    given = {field: batch[field] for field in (*family.reads, "index")}
    drawn = family.sample(given, 3, seeded(1))
    assert drawn.shape == (4, 3, recipe.channels, 8, 8)
    assert torch.equal(drawn, family.sample(given, 3, seeded(1))) and not torch.equal(drawn[:, 0], drawn[:, 1])
    known = torch.zeros(4, 8, 8, dtype=torch.bool)
    known[:, :4] = True
    levels = family.levels(batch)
    whole = family.complete(batch, known, seeded(2))
    assert torch.equal(whole[:, :, :4], family.pictures(levels)[:, :, :4])
    assert not torch.equal(whole[:, :, 4:], family.pictures(levels)[:, :, 4:])
    sheet = family.preview(batch, seeded(3))
    assert {"target", "sample", "completed"} <= sheet.keys()
    assert all(x.shape == (4, recipe.channels, 8, 8) and float(x.abs().max()) <= 1 for x in sheet.values())
    assert ("half_way_to_next" in sheet) == (name not in ("none", "rgb"))


def test_a_class_changes_what_is_likely() -> None:
    recipe = replace(CONDITIONS["class"], batch=3)
    family, batch = built(recipe), Share(recipe)("pictures")
    batch["class"] = torch.arange(3)
    for _ in range(60):
        family.update(lambda _: batch, 0)
    own = family.log_prob(batch)
    other = family.log_prob({**batch, "class": batch["class"].roll(1)})
    assert bool((own - other > 5).all()), (own, other)
    with pytest.raises(ValueError, match="the model knows 0-2"):
        family.log_prob({**batch, "class": torch.tensor([0, 1, 3])})


def test_an_auto_encoder_uses_its_code() -> None:
    recipe = replace(CONDITIONS["own"], batch=4)
    family, batch = built(recipe), Share(recipe)("pictures")
    for _ in range(80):
        family.update(lambda _: batch, 0)
    found = family.evaluate(batch)
    assert found["code_gap"] > 0.05
    assert found["bits_per_dim_other_code"] == pytest.approx(found["bits_per_dim"] + found["code_gap"])
    code = family.codes(batch["target"])
    assert torch.equal(family.generate({}, code), family.reconstruct(batch))
    same = family.generate({}, code[:1].expand(2, -1))
    assert torch.equal(same[0], same[1])  # the same uniform numbers for all codes
    with pytest.raises(ValueError, match="the model's have 3 numbers"):
        family.generate({}, code[:, :2])


def test_binarisation_is_drawn_anew_in_training_and_alike_when_held_out() -> None:
    family = built(CONDITIONS["binary"])
    batch = Share(family.recipe)("pictures")
    batch["index"] = torch.tensor([3, 5, 5, 7])
    held = family.levels(batch)
    assert torch.equal(held, family.levels(batch)) and set(held.unique().tolist()) == {0, 1}
    assert not torch.equal(family.levels(batch, 0), family.levels(batch, 4))
    part = {name: value[2:] for name, value in batch.items()}
    assert torch.equal(held[2:], family.levels(part))  # by the sample, whatever it is batched with
    ends = {"target": torch.tensor([-1.0, 1.0]).view(2, 1, 1, 1).expand(2, 1, 8, 8), "index": torch.arange(2)}
    assert family.levels(ends).flatten(1).float().mean(1).tolist() == [0, 1]
    grey = {"target": torch.full((200, 1, 8, 8), 2 * 51 / 255 - 1), "index": torch.arange(200)}
    assert float(family.levels(grey).float().mean()) == pytest.approx(0.2, abs=5 * math.sqrt(0.16 / 12800))


def test_fewer_levels_divide_the_256_evenly() -> None:
    family = built(replace(TINY, levels=4, size=16))
    picture = torch.arange(256).view(1, 1, 16, 16) / 127.5 - 1
    assert torch.bincount(family.levels({"target": picture}).flatten()).tolist() == [64] * 4
    with pytest.raises(ValueError, match="is not one of the integers 0-255"):
        family.levels({"target": picture + 0.003})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"normalisation": "batch"}, "--normalisation batch: .* no likelihood"),
        ({"kernel": 4}, "--kernel 4: give an odd number"),
        ({"first_kernel": 1}, "--first-kernel 1: give an odd number"),
        ({"channels": 2}, "--channels 2"),
        ({"levels": 300}, "--levels 300"),
        ({"head": "bernoulli"}, "--head bernoulli is for --levels 2, not 16"),
        ({"binarise": True}, "--binarise is for --levels 2"),
        ({"network": "plain"}, "--dilations 1 2: the plain network has none"),
        ({"channels": 3}, "--features 8: must be a multiple of 3"),
        ({"decoder": "squared"}, "--decoder squared is for --condition own"),
        ({"features": 0}, "--features 0: give at least 1"),
        ({"dilations": ()}, "--dilations: give at least one"),
    ],
)
def test_recipes_that_do_not_fit(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pixelcnn.check(replace(TINY, **changes))


def test_conditions_that_the_data_do_not_have() -> None:
    with pytest.raises(ValueError, match="no classes in a field 'class'"):
        pixelcnn.build(CONDITIONS["class"], Group())
    for shape in ([], [2, 3], [4, 7, 8]):
        facts = Facts(1, {"code": {"kind": "array", "shape": shape}})
        with pytest.raises(ValueError, match=r"the field 'code' has shape .* a map of 8 x 8"):
            pixelcnn.build(CONDITIONS["array"], Group(), None, facts)
    with pytest.raises(ValueError, match="--located: there is no condition"):
        pixelcnn.build(replace(TINY, located=True), Group())
    family: Any = pixelcnn.build(
        CONDITIONS["array"], Group(), None, Facts(1, {"code": {"kind": "array", "shape": [4, 8, 8]}})
    )
    assert family.net.model.net.sizes.maps == 4
    batch = {**Share(TINY)("pictures"), "code": torch.zeros(4, 4, 8, 8)}
    assert family.log_prob(batch).shape == (4,)
    with pytest.raises(ValueError, match="condition: a map of 4 x 3 x 8 x 8, wanted 4 x 4 x 8 x 8"):
        family.log_prob({**batch, "code": torch.zeros(4, 3, 8, 8)})


def test_the_located_condition_differs_from_place_to_place() -> None:
    family = built(CONDITIONS["located"])
    condition = family.net.condition(torch.eye(3))
    assert condition.vector is None and condition.map.shape == (3, 4, 8, 8)
    assert float(condition.map.detach().std((2, 3)).min()) > 0.01


@pytest.mark.parametrize("name", ["own", "squared"])
def test_codes_of_grey_pictures_in_rgb_and_of_coloured_ones(name: str) -> None:
    family, batch = built(CONDITIONS[name]), Share(CONDITIONS[name])("pictures")
    grey = batch["target"]
    assert torch.allclose(family.codes(grey.expand(-1, 3, -1, -1)), family.codes(grey), atol=1e-5)
    red = torch.full((1, 3, 8, 8), -1.0)
    red[:, 0] = 1  # luma 0.299 x 255 = 76.2
    assert torch.allclose(family.codes(red), family.codes(torch.full((1, 1, 8, 8), 76 / 127.5 - 1)), atol=1e-5)


def test_averages_are_what_is_evaluated() -> None:
    family = built(TINY)
    batch = Share(TINY)("pictures")
    train(family, Share(TINY), 3)
    before = family.evaluate(batch)
    with torch.no_grad():
        for p in family.net.parameters():
            p.add_(1)
    assert family.evaluate(batch) == before
