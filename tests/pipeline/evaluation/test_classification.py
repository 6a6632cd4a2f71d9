"""The classifier that judges samples: it learns what can be learnt, is kept, reads stacked channels; the measures of
whole sets against loops and known answers, through a trained run."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from jobs import evaluate, shard
from models import gans
from models.common.classifier import Classifier
from models.common.seeds import seeded
from models.family import FieldSpec
from pipeline.artifacts import storage
from pipeline.data.images import Images
from pipeline.data.shards import DataSet
from pipeline.evaluation import classification, coverage
from pipeline.evaluation.classification import Reader
from pipeline.training.job import Job, Run
from pipeline.training.loop import fit

FRAME = (28, 28)


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory, inline: Any) -> dict[str, str]:
    """Pictures of four classes, a bright quarter each, with noise; points."""
    from pipeline.artifacts import pool

    root = tmp_path_factory.mktemp("sets")
    random = np.random.default_rng(0)
    y = (np.arange(160) % 4).astype(np.uint8)
    x = random.integers(0, 120, (160, 28, 28)).astype(np.uint8)
    for picture, label in zip(x, y, strict=True):
        top, left = 14 * (label // 2), 14 * (label % 2)
        picture[top : top + 14, left : left + 14] += 100
    np.savez(root / "m.npz", x_train=x, y_train=y, x_test=x[:20], y_test=y[:20])
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool, "each", inline)
        for name, source, option in (
            ("pictures", f"idx:{root}/m.npz", {"held_out": "40"}),
            ("few", f"idx:{root}/m.npz", {"held_out": "40", "labelled": "2"}),
            ("points", "points", {"count": "400", "held_out": "16"}),
        ):
            found[name] = str(root / name)
            shard.run(shard.Config(source=source, option=option, output=found[name], shard_size=64, workers=1))
    return found


def images(sets: dict[str, str], name: str, split: str = "train", channels: int = 1) -> Images:
    specs = {"target": FieldSpec("image", channels=channels), "class": FieldSpec("class")}
    return Images(DataSet(sets[name], split), specs=specs)


def test_it_learns_and_is_kept(sets: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "classifier.pt")
    reader, facts = classification.kept(path, images(sets, "pictures"), FRAME, 12, 0)
    held_out = images(sets, "pictures", "val").centred(range(40), ["target", "class"], FRAME)
    assert classification.accuracy(reader, held_out["target"], held_out["class"]) > 0.9
    fresh = Reader(Classifier(1, 4, seeded(5)).eval(), "")
    assert classification.accuracy(fresh, held_out["target"], held_out["class"]) < 0.6
    monkeypatch.setattr(classification, "train", None)
    again, _ = classification.kept(path, images(sets, "pictures"), FRAME, 12, 0)
    assert again.mark == reader.mark == facts["sha256"][:8]
    assert classification.given(path, FRAME)[0].mark == reader.mark
    with pytest.raises(ValueError, match=r"another classifier: steps is 12 there, 13 wanted\. Remove it"):
        classification.kept(path, images(sets, "pictures"), FRAME, 13, 0)
    with pytest.raises(ValueError, match=r"another classifier: frame is \[28, 28\] there, \[32, 32\] wanted"):
        classification.given(path, (32, 32))
    with pytest.raises(ValueError, match=r"--classifier .*none is there"):
        classification.given(str(tmp_path / "no.pt"), FRAME)


def test_it_is_trained_on_known_classes_alone(sets: dict[str, str], tmp_path: Path) -> None:
    few = images(sets, "few")
    assert sum(y >= 0 for y in few.data.column("class")) == 8
    reader, facts = classification.kept(str(tmp_path / "c.pt"), few, FRAME, 2, 0)  # cross-entropy refuses -1
    assert facts["classes"] == 4
    y = torch.tensor([0, -1, 1])
    known = classification.accuracy(reader, torch.rand(3, 1, 28, 28, generator=seeded(0)), y)
    assert known in (0, 0.5, 1)


def test_channels_spell_a_number() -> None:
    reader = Reader(Classifier(1, 4, seeded(0)).eval(), "")
    x = torch.randn(6, 3, 28, 28, generator=seeded(1)) * 4
    features = reader.features(x)
    each = [reader.net(x[:, i : i + 1]).softmax(1) for i in range(3)]
    found = reader.probabilities(features)
    assert features.shape == (6, 3 * reader.net.width) and found.shape == (6, 64)
    for a in range(4):
        for b in range(4):
            wanted = each[0][:, a] * each[1][:, b] * each[2][:, 3]
            torch.testing.assert_close(found[:, 16 * a + 4 * b + 3].float(), wanted.detach())
    with pytest.raises(ValueError, match="reads 3 channels, the pictures have 1"):
        Reader(Classifier(3, 4, seeded(0)).eval(), "").features(x[:, :1])


def test_large_pictures_are_read_small() -> None:
    """Means over whole blocks; the shorter side counts; small ones stay as they are."""
    x = torch.randn(2, 3, 64, 128, generator=seeded(2))
    blocks = x.unfold(2, 2, 2).unfold(3, 2, 2).mean((4, 5))
    torch.testing.assert_close(classification.shrunk(x), blocks)
    small = x[:, :, :32, :100]
    assert torch.equal(classification.shrunk(small), small)
    reader = Reader(Classifier(3, 4, seeded(0)).eval(), "")
    torch.testing.assert_close(reader.features(x), reader.features(blocks))


def test_figures_of_known_sets(sets: dict[str, str]) -> None:
    net = classification.train(images(sets, "pictures"), 4, FRAME, 60, 0)
    reader = Reader(net, "0a1b2c3d")
    held_out = images(sets, "pictures", "val").centred(range(40), ["target", "class"], FRAME)
    x, y = held_out["target"], held_out["class"]
    same = classification.figures(reader, x, x, y)
    assert all(name.startswith("classifier-0a1b2c3d_") for name in same)
    same = {name.partition("_")[2]: value for name, value in same.items()}
    assert same["frechet"] == pytest.approx(0, abs=1e-6) and same["coverage_k5"] == same["precision_k3"] == 1
    assert same["classes_captured"] == 4 and same["classes_reverse_kl"] == pytest.approx(0, abs=0.02)
    assert same["asked"] > 0.9 and 2.5 < same["inception_score_10"] <= 4
    one = x[y == 2][:1].repeat(40, 1, 1, 1)
    collapsed = {k.partition("_")[2]: v for k, v in classification.figures(reader, x, one, None).items()}
    assert collapsed["classes_captured"] == 1 and collapsed["classes_reverse_kl"] == pytest.approx(math.log(4))
    assert collapsed["inception_score_10"] == pytest.approx(1) and collapsed["coverage_k5"] < 0.6
    assert collapsed["frechet"] > 0.01 and "asked" not in collapsed


def test_centres_are_the_classes_means() -> None:
    random = np.random.default_rng(0)
    wanted = np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 5.0]])
    y = np.arange(6000) % 3
    points = wanted[y] + 0.2 * random.standard_normal((6000, 2))
    points, y = np.concatenate([points, [[99.0, 99.0]]]), np.append(y, -1)
    centres, deviation = coverage.centres_of(points, y)
    assert np.abs(centres - wanted).max() < 0.02 and deviation == pytest.approx(0.2, rel=0.03)
    # Few samples: unbiased, as divided by N - M.
    found = [coverage.centres_of(random.standard_normal((4, 2)), np.array([0, 0, 1, 1]))[1] ** 2 for _ in range(2000)]
    assert float(np.mean(found)) == pytest.approx(1, abs=0.06)


QUIET = Run(workers=0, threads=1, checkpoint_every=100, log_every=4, evaluate_every=100, evaluate_images=8)


def test_the_measures_of_a_run_of_pictures(sets: dict[str, str], tmp_path: Path) -> None:
    recipe = dataclasses.replace(
        gans.PRESETS["tiny"], objective="acgan", classes=4, size=28, channels=1, width=4, batch=8, generator_batch=8
    )
    fit(Job("gans", recipe, sets["pictures"], str(tmp_path / "run"), run=QUIET))
    options: dict[str, Any] = {"weights": "random", "net": "vgg19", "layers": ("relu1_1",), "inputs": 2, "samples": 2}
    config = evaluate.Config(
        run=str(tmp_path / "run"), data=sets["pictures"], output=str(tmp_path / "e"), classifier_steps=12, **options
    )
    found = evaluate.run(config)
    [accuracy] = [name for name in found if name.endswith("_accuracy")]
    mark = accuracy.removesuffix("_accuracy")
    assert float(found[accuracy]) > 0.9
    assert float(found[f"prior/{mark}_frechet"]) > 0 and 0 <= float(found[f"prior/{mark}_asked"]) <= 1
    notes = storage.read_json(str(tmp_path / "e" / "evaluation.json"))
    assert notes["classifier"]["steps"] == 12 and notes["classifier"]["sha256"].startswith(mark.partition("-")[2])
    given = dataclasses.replace(config, output=str(tmp_path / "f"), classifier=str(tmp_path / "e" / "classifier.pt"))
    assert evaluate.run(given)[f"prior/{mark}_frechet"] == found[f"prior/{mark}_frechet"]
    without = evaluate.run(dataclasses.replace(config, output=str(tmp_path / "g"), classifier_steps=0))
    assert not any("classifier" in name for name in without) and not (tmp_path / "g" / "classifier.pt").exists()


def test_the_modes_of_a_run_of_points(sets: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = dataclasses.replace(gans.PRESETS["ring"], batch=8, generator_batch=8, images=8, size=24, classes=8)
    fit(Job("gans", recipe, sets["points"], str(tmp_path / "run"), run=QUIET))
    config = evaluate.Config(run=str(tmp_path / "run"), data=sets["points"], output=str(tmp_path / "e"))
    assert evaluate.run(config)["modes"] == 8

    def half(self: Any, rows: int, generator: torch.Generator, y: Any = None, code: Any = None) -> Tensor:
        """Exactly on the first four of the ring's centres."""
        angle = torch.arange(rows) % 4 * (math.pi / 4)
        return torch.stack([angle.cos(), angle.sin()], 1)

    monkeypatch.setattr(gans.GANs, "draws", half)
    found = evaluate.run(dataclasses.replace(config, output=str(tmp_path / "f")))
    assert found["modes_captured"] == 4 and found["modes_high_quality"] == 1
    assert found["modes_reverse_kl"] == pytest.approx(math.log(2))
