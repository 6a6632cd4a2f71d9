"""The family through the pipeline: every objective trains, stops and resumes bit for bit, samples without its data set;
what does not fit is refused; a collapsed run says so."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from jobs import sample, shard
from models import gans
from models.common.seeds import seeded
from models.family import Batch, Facts
from models.gans.rules import OBJECTIVES
from models.gans.training import LONG
from models.group import Group
from pipeline.runs import checkpoint
from pipeline.training.job import Job, Run
from pipeline.training.loop import fit
from pipeline.training.trainer import Stopped

QUIET = Run(workers=0, threads=1, checkpoint_every=3, log_every=4, evaluate_every=6, evaluate_images=8)
TINY = dataclasses.replace(gans.PRESETS["tiny"], classes=10, size=28, channels=1, width=4, batch=8, generator_batch=8)
POINTS = dataclasses.replace(gans.PRESETS["ring"], batch=8, generator_batch=8, images=64, size=24, classes=8)


def small(objective: str, **changes: Any) -> gans.Config:
    """A recipe of pictures for the objective."""
    recipe = dataclasses.replace(TINY, objective=objective, images=64, critic_norm="layer", **changes)
    if gans.rules(recipe).energy_error:
        recipe = dataclasses.replace(recipe, network="perceptron", critic_widths=(16, 8), generator_widths=(16,))
    return recipe


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, inline: Any) -> dict[str, str]:
    """A small MNIST with labels, one with two labels a class, points."""
    from pipeline.artifacts import pool

    root = tmp_path_factory.mktemp("sets")
    random = np.random.default_rng(0)
    classes = (np.arange(60) % 10).astype(np.uint8)
    pictures = (random.integers(0, 60, (60, 28, 28)) + 20 * classes[:, None, None]).clip(0, 255).astype(np.uint8)
    np.savez(root / "m.npz", x_train=pictures, y_train=classes, x_test=pictures[:20], y_test=classes[:20])
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool, "each", inline)
        for name, source, option in (
            ("labelled", f"idx:{root}/m.npz", {"held_out": "20"}),
            ("few", f"idx:{root}/m.npz", {"held_out": "20", "labelled": "2"}),
            ("points", "points", {"count": "64", "held_out": "16"}),
        ):
            found[name] = str(root / name)
            shard.run(shard.Config(source=source, option=option, output=found[name], shard_size=16, workers=1))
    return found


def job(recipe: gans.Config, data: str, output: Path, **changes: Any) -> Job:
    return dataclasses.replace(Job("gans", recipe, data, str(output), run=QUIET), **changes)


def logged(folder: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line["values"] for line in lines if "game/critic/loss" in line.get("values", {})]


PLAYED = {
    "wgan": "game/wasserstein",
    "dragan": "game/critic/penalty",
    "ebgan-pt": "game/energy/fake",
    "began": "game/m_global",
    "catgan": "game/confidence/fake",
    "sgan": "game/critic/real",
    "salimans": "game/critic/labelled",
    "acgan": "game/critic/class_fake",
    "infogan": "game/information/discrete",
    "fgan-jeffrey": "game/bound",
}
"""Objective -> its own measure's name in the log."""


@pytest.mark.parametrize("objective", sorted(PLAYED))
def test_it_trains_and_resumes_bit_for_bit(objective: str, data: dict[str, str], tmp_path: Path) -> None:
    recipe = small(objective, codes=1, input_noise=0.1, labelled_batch=8)
    used = data["few" if gans.rules(recipe).labels == "some" else "labelled"]
    fit(job(recipe, used, tmp_path / "whole"))
    values = logged(tmp_path / "whole")
    assert len(values) == 2 and PLAYED[objective] in values[0]
    assert all(np.isfinite(list(line.values())).all() for line in values)
    with pytest.raises(Stopped):
        fit(job(recipe, used, tmp_path / "stopped", stop_after=4))
    fit(job(recipe, used, tmp_path / "stopped"))
    whole, stopped = ((tmp_path / n / "weights.pt").read_bytes() for n in ("whole", "stopped"))
    assert whole == stopped
    # k, the averages and the optimisers' moments are part of it.
    state = checkpoint.load(str(tmp_path / "whole" / "weights.pt"))["family"]
    assert ("terms.0.k" in state) == (objective == "began") and "stuck" in state


def test_points_train_and_are_drawn(data: dict[str, str], tmp_path: Path) -> None:
    recipe = dataclasses.replace(POINTS, objective="wgan-gp")
    fit(job(recipe, data["points"], tmp_path))
    [sheet] = [p for p in tmp_path.rglob("*preview*") if p.suffix == ".png"][:1] or [None]
    assert sheet is not None
    sample.run(sample.Config(run=str(tmp_path), output=str(tmp_path / "out"), count=2, limit=1, files=True))
    made = np.asarray(Image.open(next((tmp_path / "out" / "prior").iterdir())))
    assert made.shape[:2] == (24, 24) and made.min() < 60 and made.max() == 255
    best = checkpoint.best(str(tmp_path))
    assert "game" in best  # by the sliced Wasserstein distance


def test_classes_are_sampled_from_a_checkpoint_alone(data: dict[str, str], tmp_path: Path) -> None:
    fit(job(small("acgan"), data["labelled"], tmp_path / "run"))
    out = tmp_path / "out"
    sample.run(sample.Config(run=str(tmp_path / "run"), output=str(out), given={"class": "3"}, count=2, files=True))
    assert sorted(p.name for p in (out / "prior").iterdir()) == ["3-0.png", "3-1.png"]
    fit(job(dataclasses.replace(small("lsgan"), conditional=True), data["labelled"], tmp_path / "cond"))
    sample.run(sample.Config(run=str(tmp_path / "cond"), output=str(tmp_path / "c"), count=1, files=True))
    assert len(list((tmp_path / "c" / "prior").iterdir())) == 10  # a row for each class


def built(recipe: gans.Config, facts: Facts | None = None) -> gans.GANs:
    family = gans.build(recipe, Group(), None, facts)
    family.enter("game")
    return family


def test_samples_depend_on_the_generator_and_the_class_alone() -> None:
    family = built(small("acgan"))
    given: Batch = {"index": torch.arange(3), "class": torch.tensor([1, 1, 2])}
    a, b = (family.sample(given, 2, seeded("draw")) for _ in range(2))
    assert torch.equal(a, b) and a.shape == (3, 2, 1, 28, 28) and family.reads == ("class",)
    with pytest.raises(ValueError, match="a class from 0 to 9 is wanted"):
        family.sample({**given, "class": torch.tensor([1, 10, 0])}, 1, seeded("draw"))
    assert built(small("infogan")).reads == () and built(small("lsgan")).reads == ()


def test_conditional_fakes_have_the_real_batchs_classes() -> None:
    family = built(dataclasses.replace(small("lsgan"), conditional=True))
    y = torch.tensor([4, 7, 7, 0, 1, 2, 3, 9])
    batch = {"target": torch.rand(8, 1, 28, 28), "class": y}
    seen: list[torch.Tensor] = []
    inner = family.critic.forward

    def spy(x: torch.Tensor, labels: torch.Tensor, random: Any) -> Any:
        seen.append(labels)
        return inner(x, labels, random)

    family.critic.forward = spy  # type: ignore[method-assign, assignment]
    family.update(lambda stream: batch, 0)
    assert len(seen) == 3 and all(torch.equal(labels, y) for labels in seen)  # real, fake, the generator's


def test_a_generator_step_leaves_the_critic_and_the_other_way_round() -> None:
    family = built(small("nonsaturating"))
    batch = {"target": torch.rand(8, 1, 28, 28)}
    moved = {}
    for name in ("critic", "generator"):
        optimiser = family.optimisers[name]
        before = {k: v.clone() for k, v in family.state_dict().items() if "norm" not in k}
        optimiser.register_step_post_hook(
            lambda *_, name=name, before=before: moved.setdefault(
                name, {k.split(".")[0] for k, v in family.named_parameters() if k in before and (v != before[k]).any()}
            )
        )
    family.update(lambda stream: batch, 0)
    assert moved["critic"] == {"critic"} and moved["generator"] == {"critic", "generator"}


def test_the_linear_decay_ends_at_nothing() -> None:
    family = built(dataclasses.replace(small("nonsaturating"), linear_decay=True, images=80))
    batch = {"target": torch.rand(8, 1, 28, 28)}
    rates = []
    for images in (0, 40, 72):
        family.update(lambda stream: batch, images)
        rates.append(family.optimisers["generator"].param_groups[0]["lr"] / family.recipe.generator_rate)
    assert rates == pytest.approx([1, 0.5, 0.1])


def test_a_collapsed_run_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    family = built(small("nonsaturating"))
    found = {"spread": torch.tensor(0.5), "critic/accuracy": torch.tensor(1.0)}
    for _ in range(LONG):
        said = family._collapsed(found)
    assert float(said) == 1
    batch = {"target": torch.rand(8, 1, 28, 28), "index": torch.arange(8)}
    family.judge([batch])
    assert "nonsaturating: looks collapsed for 500 steps" in capsys.readouterr().out
    assert float(family._collapsed({**found, "critic/accuracy": torch.tensor(0.9)})) == 0
    assert int(family.stuck) == 0
    family._collapsed({"spread": torch.tensor(0.0)})
    assert int(family.stuck) == 1


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"objective": "nosuch"}, "--objective nosuch: choose one of acgan, began"),
        ({"objective": "wgan", "clip": 0.0}, "--clip 0"),
        ({"objective": "wgan-gp", "penalty_weight": 0.0, "critic_norm": "none"}, "--penalty-weight 0"),
        ({"objective": "wgan-gp", "critic_norm": "batch"}, "--critic-norm batch: wgan-gp penalises each sample"),
        ({"objective": "ebgan", "margin": 0.0, "network": "perceptron"}, "--margin 0"),
        ({"objective": "ebgan", "network": "dcgan"}, "--network dcgan: objective ebgan needs perceptron or began"),
        ({"objective": "lsgan", "network": "began", "size": 32}, "--network began: objective lsgan needs perceptron"),
        ({"objective": "sgan", "classes": 1}, "--classes 1: sgan needs at least 2"),
        ({"network": "resnet"}, "--size 28: the ResNet is for 32"),
        ({"form": "points"}, "--network dcgan: points need --network perceptron"),
        ({"size": 30}, "--size 30: give 4 to 7 times a power of two"),
        ({"channels": 2}, "--channels 2: 1"),
        ({"critic_activation": "swish"}, "--critic-activation swish: choose one of relu"),
        ({"noise": 0}, "--noise 0, --critic-steps 1: give at least 1"),
        ({"aspect": 2}, "--aspect 2"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        gans.check(dataclasses.replace(TINY, **changes))


def test_data_that_do_not_fit_are_refused(data: dict[str, str], tmp_path: Path) -> None:
    known = {"class": {"classes": 10, "labelled": 20}}
    with pytest.raises(ValueError, match="--classes 4: the data set has 10"):
        built(dataclasses.replace(small("sgan"), classes=4), Facts(60, known))
    with pytest.raises(ValueError, match="--batch 8: the data set has 5 samples"):
        built(small("lsgan"), Facts(5, {}))
    with pytest.raises(ValueError, match="--labelled-batch 100: the data set has 20 labels"):
        built(small("salimans", labelled_batch=100), Facts(60, known))
    with pytest.raises(ValueError, match="has no field 'target'"):
        fit(job(small("sgan"), data["points"], tmp_path))


def test_every_preset_fits_and_every_objective_has_a_row() -> None:
    for recipe in gans.PRESETS.values():
        gans.check(recipe)
    named = {recipe.objective for recipe in gans.PRESETS.values()}
    assert {n for n in OBJECTIVES if not n.startswith("fgan-")} - named == {"lsgan-pearson"}


def test_the_unsupervised_error_is_of_matched_clusters() -> None:
    """Logits that name each class by another number: no errors once matched, all wrong before."""
    family = built(small("catgan", label_weight=0.0))
    y = torch.arange(40) % 10
    logits = torch.nn.functional.one_hot((y + 3) % 10, 10).float()
    assert family._errors(logits, y) == {"error": 0}
    few = built(small("catgan", labelled_batch=8))
    assert few._errors(logits, y) == {"error": 1}
    assert few._errors(logits, torch.full_like(y, -1)) == {}


def test_codes_are_asked_for_and_swept() -> None:
    family = built(small("infogan", codes=2))
    given: Batch = {"index": torch.arange(2), "code": torch.tensor([[3.0, 0.5, -1.0], [4.0, 0.5, -1.0]])}
    z: list[torch.Tensor] = []
    family.average.net.register_forward_pre_hook(lambda net, args: z.append(args[0]))
    made = family.sample(given, 3, seeded("codes"))
    noise = family.recipe.noise
    assert made.shape == (2, 3, 1, 28, 28)
    assert z[0][:, noise : noise + 10].argmax(1).tolist() == [3, 3, 3, 4, 4, 4]
    assert z[0][:, -2:].tolist() == [[0.5, -1.0]] * 6 and len(z[0][:, :noise].unique(dim=0)) == 6
    sweeps = family.sweeps()
    assert sweeps["discrete"][:, 0].tolist() == list(range(10)) and not sweeps["discrete"][:, 1:].any()
    assert sweeps["continuous-2"][:, 2].tolist() == pytest.approx([-2 + i / 2 for i in range(9)])
    assert not sweeps["continuous-2"][:, :2].any()
    for wrong in ([10.0, 0, 0], [1.5, 0, 0], [-1.0, 0, 0], [1.0, 0]):
        with pytest.raises(ValueError, match="give a whole number below 10, a number, in training from"):
            family.check_code(wrong)
    plain = built(small("lsgan"))
    assert plain.sweeps() == {}
    with pytest.raises(ValueError, match="--code: objective lsgan has no codes"):
        plain.check_code([0.0])


@pytest.mark.parametrize("objective", ["lsgan", "acgan", "infogan"])
def test_a_walk_keeps_class_and_codes_and_begins_and_ends_at_latents(objective: str) -> None:
    family = built(small(objective, codes=1))
    given: Batch = {"index": torch.arange(2), "class": torch.tensor([7, 2])}
    z: list[torch.Tensor] = []
    family.average.net.register_forward_pre_hook(lambda net, args: z.append(args[0]))
    walked = family.walk(given, 5, seeded("walk"))
    assert walked.shape == (2, 5, 1, 28, 28) and len(z) == 5
    noise = family.recipe.noise
    assert all(torch.equal(one[:, noise:], z[0][:, noise:]) for one in z)
    if objective == "acgan":
        assert z[0][:, noise : noise + 10].argmax(1).tolist() == [7, 2]
    middle = (z[0][:, :noise] + z[4][:, :noise]) / math.sqrt(2)  # as long as other latents, not shrunken
    torch.testing.assert_close(z[2][:, :noise], middle)


def test_codes_from_a_checkpoint_alone(data: dict[str, str], tmp_path: Path) -> None:
    fit(job(small("infogan", codes=1), data["labelled"], tmp_path / "run"))
    asked = sample.Config(run=str(tmp_path / "run"), output=str(tmp_path / "out"), count=2, limit=1, code=(3.0, -0.5))
    made = {Path(path).stem for path in sample.run(asked)}
    assert made == {"samples-prior", "walk", "sweep-discrete", "sweep-continuous-1"}
    first = (tmp_path / "out" / "samples-prior.png").read_bytes()
    sample.run(dataclasses.replace(asked, output=str(tmp_path / "again")))
    assert (tmp_path / "again" / "samples-prior.png").read_bytes() == first
    sample.run(dataclasses.replace(asked, output=str(tmp_path / "other"), code=(4.0, -0.5)))
    assert (tmp_path / "other" / "samples-prior.png").read_bytes() != first
    with pytest.raises(ValueError, match=r"--code 11 0: give a whole number below 10"):
        sample.run(dataclasses.replace(asked, code=(11.0, 0.0)))
