"""The translation families alike: two workers are one, a resumed run is the whole one, what they are asked for."""

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import models
from models.abilities import DrawsSamples, EncodesStyle, Reconstructs
from models.common.seeds import seeded
from models.family import Recipe
from models.group import Group
from tests.models.translation import Data, built, check_resume, largest_error, train, two_workers

FAMILIES = ("pix2pix", "bicyclegan", "flow", "munit", "pix2pixhd")


def cases() -> dict[str, Recipe]:
    """Tiny recipes, wide enough that rounding is not magnified, and variants that meet other code."""
    tiny = {name: models.load(name).PRESETS["tiny"] for name in FAMILIES}
    change = dataclasses.replace
    return {
        **tiny,
        "pix2pix/lightness": change(tiny["pix2pix"], condition="lightness", game="hinge"),
        "pix2pix/labels": change(
            tiny["pix2pix"], condition="labels", labels=5, game="lsgan", norm="instance", dropped=()
        ),
        "pix2pix/resnet": change(tiny["pix2pix"], generator="resnet", blocks=1),
        "pix2pix/noise": change(tiny["pix2pix"], code=3, dropped=(), conditional=False),
        "bicyclegan/grey": change(
            tiny["bicyclegan"],
            condition="grey",
            code_in="input",
            conditional=True,
            encoder="conv",
            upsampling="bilinear",
        ),
        "munit/paired": change(tiny["munit"], pairing="paired", cycle_weight=10.0),
        "munit/perceptual": change(tiny["munit"], perceptual_layers=("relu1_2",)),
        "munit/classes": change(tiny["munit"], pairing="classes"),
        "pix2pixhd/image": change(
            tiny["pix2pixhd"],
            condition="image",
            labels=0,
            instances=False,
            features=0,
            enhancers=0,
            perceptual_layers=(),
        ),
    }


CASES = cases()
FIXED = ("pix2pix/labels", "pix2pixhd", "pix2pixhd/image")
"""Without noise: no dropout; no clusters before the harvest; no features."""


class Apart(Group):
    """The wrong version: statistics, noise and sums over this rank's share alone."""

    def __init__(self) -> None:
        super().__init__()
        self.rank, self.world = 0, 1

    def gather(self, x: Tensor) -> Tensor:
        return x

    def average(self, params: Iterable[nn.Parameter]) -> None:
        Group().average(params)

    def mean(self, values: Mapping[str, float]) -> dict[str, float]:
        return Group().mean(values)


@pytest.fixture(scope="module")
def one() -> dict[str, dict[str, dict[str, object]]]:
    return {name: train(name.split("/")[0], recipe, Group()) for name, recipe in CASES.items()}


def test_two_workers_equal_one(one: dict[str, dict[str, dict[str, object]]], tmp_path: Path) -> None:
    two = two_workers(CASES, tmp_path)
    errors = {name: largest_error(steps, two[name]) for name, steps in one.items()}
    assert max(error for stages in errors.values() for error in stages.values()) < 1e-9, errors


def test_the_comparison_sees_statistics_of_one_rank(
    one: dict[str, dict[str, dict[str, object]]], tmp_path: Path
) -> None:
    wrong = {name: CASES[name] for name in ("pix2pix", "pix2pix/labels", "bicyclegan")}
    two = two_workers(wrong, tmp_path, Apart)
    errors = {name: max(largest_error(one[name], two[name]).values()) for name in wrong}
    assert errors["pix2pix"] > 1e-4 and errors["bicyclegan"] > 1e-4  # noise and the divergence's sum
    assert errors["pix2pix/labels"] < 1e-9  # instance norm: no statistics over the batch


@pytest.mark.parametrize("name", CASES)
def test_a_resumed_run_is_the_whole_one(name: str, tmp_path: Path) -> None:
    check_resume(name.split("/")[0], CASES[name], tmp_path)


@pytest.mark.parametrize("name", CASES)
def test_what_it_is_asked_for(name: str) -> None:
    family = built(name.split("/")[0], CASES[name])
    assert isinstance(family, DrawsSamples)
    for stage in family.stages:
        assert stage.images >= stage.batch
        family.enter(stage.name)
        data = Data(family, stage.name)
        before = torch.random.get_rng_state()
        for i in range(2):
            found = family.update(data, i * stage.batch)
            assert "loss" in found and all(v.ndim == 0 and not v.requires_grad for v in found.values())
        assert torch.equal(before, torch.random.get_rng_state())
        state = {key: value.clone() for key, value in family.state_dict().items()}
        batch = data.batch(tuple(data.specs), 3)
        figures = family.evaluate(batch)
        shown = family.preview(batch, seeded(0))
        assert figures and all(isinstance(v, float) for v in figures.values()) and figures == family.evaluate(batch)
        assert len(shown) >= 3 and all(len(column) == 3 for column in shown.values())
        given = {field: batch[field] for field in (*family.reads, "index")}
        for sampler in ("", *family.samplers):
            drawn = family.sample(given, 2, seeded(1), sampler)
            assert drawn.shape == (3, 2, 3, *family.recipe.frame) and float(drawn.abs().max()) <= 1
            assert not drawn.requires_grad and torch.equal(drawn, family.sample(given, 2, seeded(1), sampler))
            assert not torch.equal(drawn[:, 0], drawn[:, 1]) or name in FIXED
        if isinstance(family, Reconstructs):
            assert family.reconstruct(batch).shape == batch["target"].shape
        if isinstance(family, EncodesStyle):
            codes = family.codes(batch["target"])
            torch.testing.assert_close(family.generate(given, codes), family.reconstruct(batch))
        with pytest.raises(ValueError, match="--sampler nosuch"):
            family.sample(given, 1, seeded(0), "nosuch")
        after = family.state_dict()
        assert all(torch.equal(value, after[key]) for key, value in state.items())  # looking changes nothing
        assert torch.equal(before, torch.random.get_rng_state())
    with pytest.raises(ValueError, match="no stage 'nosuch'"):
        family.enter("nosuch")


@pytest.mark.parametrize("name", FAMILIES)
def test_pictures_of_any_size(name: str) -> None:
    family = built(name, CASES[name])
    assert isinstance(family, DrawsSamples)
    data = Data(family, family.stages[-1].name)
    batch = data.batch(tuple(data.specs), 2)
    for height, width in ((13, 11), (16, 5), (33, 20)):
        given = {}
        for field in family.reads:
            grown = batch[field].repeat(*[1] * (batch[field].ndim - 2), 3, 3)
            given[field] = grown[..., :height, :width]
        assert family.sample(given, 1, seeded(0)).shape == (2, 1, 3, height, width)


@pytest.mark.parametrize("name", FAMILIES)
def test_presets(name: str) -> None:
    """All fit together; every generator of the small ones has at most three million parameters."""
    module = models.load(name)
    assert {"paper", "small", "tiny"} <= module.PRESETS.keys()
    for preset, recipe in module.PRESETS.items():
        module.check(recipe, None)
        if preset.startswith("small"):
            family = built(name, recipe)
            nets = [net for key, net in family.named_children() if key.startswith("generator")]
            assert nets and recipe.size == 128
            assert all(sum(p.numel() for p in net.parameters()) <= 3_000_000 for net in nets)


@pytest.mark.parametrize("name", CASES)
def test_bfloat16(name: str) -> None:
    """As the loop runs it: convolutions in bfloat16, weights and losses in float32, the loss near that of float32."""
    found = {}
    for precision in ("fp32", "bf16"):
        family = built(name.split("/")[0], CASES[name])
        for stage in family.stages:
            family.enter(stage.name)
            kinds = set()
            hooks = [
                module.register_forward_hook(lambda _, args, out, kinds=kinds: kinds.add(out.dtype))
                for module in family.modules()
                if isinstance(module, nn.Conv2d)
            ]
            data = Data(family, stage.name)
            for i in range(2):  # flow's last layer is 0 in the first
                with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16", cache_enabled=False):
                    scalars = family.update(data, i * stage.batch)
            for hook in hooks:
                hook.remove()
            assert kinds == {torch.bfloat16 if precision == "bf16" else torch.float32}
            assert all(value.dtype in (torch.float32, torch.float64) for value in scalars.values())
            assert all(value.dtype != torch.bfloat16 for value in family.state_dict().values())
            assert all(bool(p.isfinite().all()) for p in family.parameters())
            found[precision, stage.name] = float(scalars["loss"])
    for stage in family.stages:
        assert found["bf16", stage.name] == pytest.approx(found["fp32", stage.name], rel=0.05)
        assert found["bf16", stage.name] != found["fp32", stage.name]


@pytest.mark.parametrize("cached", [False, True])
def test_in_bfloat16_the_generator_meets_the_discriminator_that_has_moved(cached: bool) -> None:
    """Autocast's cache holds D's weights from before its step: the loop runs without it."""
    gans = {}
    for precision in ("fp32", "bf16"):
        family = built("pix2pix", dataclasses.replace(CASES["pix2pix"], rate=0.05, game="lsgan"))
        family.enter("train")
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16", cache_enabled=cached):
            scalars = family.update(Data(family, "train"), 0)
        gans[precision] = float(scalars["gan"])
    assert (abs(gans["bf16"] / gans["fp32"] - 1) < 0.1) == (not cached), gans


@pytest.mark.parametrize("name", CASES)
def test_signs_are_figures_that_there_are(name: str) -> None:
    family = built(name.split("/")[0], CASES[name])
    family.enter(family.stages[0].name)
    data = Data(family, family.stages[0].name)
    logged = family.update(data, 0).keys()
    looked = {f"held_out/{figure}" for figure in family.evaluate(data.batch(tuple(data.specs), 2))}
    assert {sign.figure for sign in family.signs} <= logged | looked
    assert bool(family.signs) == (name != "flow")  # no adversary there


@pytest.mark.parametrize(
    ("name", "size", "multiple"),
    [("pix2pix", 24, 16), ("bicyclegan", 24, 16), ("munit", 17, 2), ("pix2pixhd", 30, 4), ("flow", 17, 2)],
)
def test_a_training_size_that_does_not_fit_is_refused_by_its_multiple(name: str, size: int, multiple: int) -> None:
    recipe = dataclasses.replace(CASES[name], size=size)
    with pytest.raises(ValueError, match=f"--size {size}: must be a multiple of {multiple},"):
        models.load(name).check(recipe, None)
