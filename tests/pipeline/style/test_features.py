"""Features as fields of a data set: equal to the network's own, resumable, and what trains and answers from them."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from jobs import evaluate, features, shard
from models import vqa
from models.common import squeezenet
from models.common.vgg import VGG
from pipeline.data import decode
from pipeline.data.shards import DataSet
from pipeline.data.tensors import pictures_to_tensor
from pipeline.runs import checkpoint
from pipeline.style.features import FeatureOptions, FeatureReader, Features
from pipeline.training.job import Job, Run
from pipeline.training.loop import fit

OPTIONS = FeatureOptions(net="vgg19", layer="relu2_1", pool=2, size=32)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, inline: Any) -> tuple[str, str]:
    """Shapes, and the same with features by a random VGG-19."""
    from pipeline.artifacts import pool

    root = tmp_path_factory.mktemp("features")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool, "each", inline)
        given = {"count": "12", "held_out": "8"}
        shard.run(shard.Config(source="shapes", option=given, output=str(root / "data"), workers=1))
        config = features.Config(data=str(root / "data"), output=str(root / "out"), weights="random", features=OPTIONS)
        features.run(config)
    return str(root / "data"), str(root / "out")


def test_they_are_the_network_s_own(made: tuple[str, str]) -> None:
    plain, with_features = DataSet(made[0], "val"), DataSet(made[1], "val")
    net = VGG("vgg19", ("relu2_1",)).random(0)
    for position in range(3):
        there = with_features.sample(position)
        image = decode.stretch(plain.image(position, "image"), 32, 32, False)
        wanted = torch.max_pool2d(net(pictures_to_tensor([image]))["relu2_1"], 2)[0].permute(1, 2, 0).numpy()
        assert there["grid"].shape == (8, 8, 128)
        np.testing.assert_allclose(there["grid"], wanted, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(there["vector"], wanted.mean((0, 1)), rtol=1e-4, atol=1e-6)
        for name in ("question", "answers", "question_type"):
            assert there[name] == plain.sample(position)[name]
        assert np.array_equal(there["image"], plain.image(position, "image"))


def test_the_same_command_writes_nothing_and_other_weights_are_refused(made: tuple[str, str], no_ray: None) -> None:
    config = features.Config(data=made[0], output=made[1], weights="random", features=OPTIONS)
    before = DataSet(made[1]).fingerprint
    assert features.run(config)["fingerprint"] == before
    other = FeatureOptions(net="vgg19", layer="relu1_2", pool=2, size=32)
    with pytest.raises(ValueError, match=made[1]):
        features.run(features.Config(data=made[0], output=made[1], weights="random", features=other))


def test_what_cannot_be_computed_is_refused(made: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="--size 16, --pool 2: relu5_4 pooled needs 32 pixels or more"):
        FeatureOptions(size=16)
    with pytest.raises(ValueError, match="--layer relu9_9: vgg19 has relu1_1"):
        FeatureOptions(layer="relu9_9")
    with pytest.raises(ValueError, match="--pool 0: give at least 1"):
        FeatureOptions(pool=0)
    with pytest.raises(ValueError, match="squeezenet1_1 has fire2"):
        FeatureOptions(net="squeezenet1_1", layer="relu5_4")
    net = VGG("vgg19", ("relu2_1",)).random(0)
    with pytest.raises(ValueError, match="--field photo: no whole pictures"):
        Features(made[0], ["train"], FeatureOptions(field="photo", layer="relu2_1"), net)
    with pytest.raises(ValueError, match="has a field grid already"):
        Features(made[1], ["train"], OPTIONS, net)


def test_pictures_that_cannot_be_decoded_are_told(
    tmp_path: Path, no_ray: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """jobs.shard looks at headers alone."""
    (tmp_path / "in").mkdir()
    for i in range(4):
        sink = io.BytesIO()
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (32, 32, 3), np.uint8)).save(sink, "PNG")
        content = bytearray(sink.getvalue())
        if i == 0:
            content[len(content) // 2] ^= 255
        (tmp_path / "in" / f"{i}.png").write_bytes(content)
    data, out = str(tmp_path / "data"), str(tmp_path / "out")
    shard.run(shard.Config(source=str(tmp_path / "in"), output=data, workers=0))
    capsys.readouterr()
    options = FeatureOptions(field="target", layer="relu2_1", size=32)
    features.run(features.Config(data=data, output=out, weights="random", features=options, max_bad_share=0.5))
    told = capsys.readouterr().out
    assert "1 bad samples: the rows with a reason" in told and "3 samples with features" in told


@pytest.mark.parametrize("preset", ["tiny", "tiny-bow-q"])
def test_a_run_on_them_is_trained_and_evaluated(made: tuple[str, str], tmp_path: Path, preset: str) -> None:
    quiet = Run(workers=0, threads=1, checkpoint_every=2, log_every=4, evaluate_every=4, evaluate_images=8)
    job = Job("vqa", vqa.PRESETS[preset], made[1], str(tmp_path / "run"), run=quiet)
    fit(job)
    family, _ = checkpoint.restore(job.output)
    assert isinstance(family, vqa.Answerers) and len(family.answers) >= 4
    if preset == "tiny":
        assert list((tmp_path / "run" / "pictures").rglob("*.png"))  # attention on the images
    found = evaluate.run(evaluate.Config(run=job.output, data=made[1], output=str(tmp_path / "figures")))
    assert 0 <= float(found["vqa_overall"]) <= 100 and "vqa_yes/no" in found
    if preset == "tiny":
        other = FeatureOptions(net="vgg19", layer="relu2_2", pool=2, size=32)  # as wide
        given = {"data": made[0], "output": str(tmp_path / "other"), "weights": "random", "features": other}
        features.run(features.Config(**given, workers=0))
        told = r"other: grid is of vgg19 relu2_2, .*; the run was trained on vgg19 relu2_1, pool 2, size 32"
        with pytest.raises(ValueError, match=told):
            config = evaluate.Config(run=job.output, data=given["output"], output=str(tmp_path / "f"), weights="random")
            evaluate.run(config)


def test_squeezenet_has_the_checkpoint_s_names_and_sizes(real_data: Path) -> None:
    before = torch.get_rng_state()
    net = squeezenet.SqueezeNet("fire9")
    assert torch.equal(before, torch.get_rng_state())
    state = torch.load(real_data / "weights" / "squeezenet1_1" / "squeezenet1_1_caffe.pth", weights_only=True)
    net.load(state)
    assert set(net.state_dict()) == {key for key in state if key.startswith("features.")}
    out = net(torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0)) * 2 - 1)["fire9"]
    assert out.shape == (1, 512, 13, 13) and 0.1 < float(out.mean()) < 10
    with pytest.raises(ValueError, match="is missing in the checkpoint"):
        net.load({})


def test_a_picture_that_comes_again_is_computed_once(made: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    computed = []

    def counted(net: Any, pool: int, pictures: torch.Tensor) -> torch.Tensor:
        computed.append(1)
        return torch.zeros(1, 1, 1, 1)

    monkeypatch.setattr("pipeline.style.features.grid", counted)
    monkeypatch.setattr("pipeline.style.features.KEPT", 2)
    reader = FeatureReader(made[0], OPTIONS, VGG("vgg19", ("relu2_1",)).random(0), {"image": "image.png"})
    pictures = {"train/0": b"a", "train/1": b"b", "train/2": b"c"}
    monkeypatch.setattr(DataSet, "member", lambda _, position, __: pictures[f"train/{position}"])
    monkeypatch.setattr(DataSet, "image", lambda *_: np.zeros((32, 32, 3), np.uint8))
    for path, so_far in (("0", 1), ("0", 1), ("1", 2), ("0", 2), ("2", 3), ("0", 3), ("1", 4)):
        reader(f"train/{path}", "grid")
        assert len(computed) == so_far
