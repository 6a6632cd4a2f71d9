"""A trained run as a registered model: no pickle in it, and a fresh process draws the same samples."""

import base64
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import models
from models.group import Group
from pipeline.artifacts import storage
from pipeline.data import decode
from pipeline.runs import checkpoint, package
from pipeline.tracking import sending
from pipeline.tracking.journal import Tracker

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A finished run of StEP's tiny preset, untrained but for a gaussian of codes."""
    folder = str(tmp_path_factory.mktemp("train"))
    module = models.load("step")
    recipe = module.PRESETS["tiny"]
    family = module.build(recipe, Group(), None)
    codes = torch.randn(32, recipe.code, generator=torch.Generator().manual_seed(0))
    family.adopt("finetune", {"code": codes})
    facts = {"family": "step", "recipe": checkpoint.recipe_json(recipe), "inputs": {"weights": "random:0"}}
    storage.publish_json(storage.join(folder, "recipe.json"), facts)
    checkpoint.publish(storage.join(folder, "weights"), {"family": family.state_dict()}, facts)
    return folder


@pytest.fixture(scope="module")
def model_folder(run_folder: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = str(tmp_path_factory.mktemp("model") / "model")
    package.save(run_folder, folder)
    return folder


def _images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)


def _load(folder: str) -> Any:
    import mlflow

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's advice on type hints
        return mlflow.pyfunc.load_model(folder)


def test_the_model_holds_no_pickle(model_folder: str) -> None:
    names = sorted(str(p.relative_to(model_folder)) for p in Path(model_folder).rglob("*") if p.is_file())
    assert not [n for n in names if n.endswith((".pkl", ".pickle", ".joblib"))], names
    weights = next(n for n in names if n.endswith("weights.pt"))
    assert torch.load(Path(model_folder) / weights, weights_only=True)


def test_arrays_files_and_tables_give_the_same_samples(model_folder: str) -> None:
    import pandas as pd

    model, images = _load(model_folder), _images()
    params = {"count": 3, "sampler": "gaussian", "seed": 5}
    arrays = model.predict(images, params=params)
    assert arrays.shape == (2, 3, 16, 16, 3)
    assert arrays.dtype == np.uint8
    text = [base64.b64encode(decode.to_png(image)).decode() for image in images]
    for given in (text, [decode.to_png(image) for image in images], pd.DataFrame({"image": text})):
        out = model.predict(given, params=params)
        assert np.array_equal([[decode.pixels(base64.b64decode(x)) for x in row] for row in out], arrays)
    alone = model.predict(images[1:], params=params)
    assert np.array_equal(alone[0], arrays[1]), "an image's samples do not depend on its neighbours"
    assert not np.array_equal(model.predict(images, params={**params, "seed": 6}), arrays)


def test_each_image_has_noise_of_its_own(model_folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = _load(model_folder)
    family, seeds = model.unwrap_python_model().run.family, []
    draw = family.sample

    def sample(x: Any, count: int, generator: torch.Generator, sampler: str) -> Any:
        seeds.append(generator.initial_seed())
        return draw(x, count, generator, sampler)

    monkeypatch.setattr(family, "sample", sample)
    images = _images()[[0, 1, 0]]
    model.predict(images, params={"sampler": "gaussian"})
    assert seeds[0] == seeds[2] != seeds[1]


def test_wrong_input_is_named(model_folder: str, tmp_path: Path) -> None:
    import pandas as pd

    model = _load(model_folder)
    for given, message in (
        (_images().astype(np.float32), "uint8 N H W 3"),
        (["not base64!"], "image 0 is not base64"),
        ([], "no image"),
        (pd.DataFrame({"picture": ["x"]}), "column 'image'"),
        ([3], "image 0 is a int"),
    ):
        with pytest.raises(ValueError, match=message):
            model.predict(given)
    with pytest.raises(ValueError, match="count 65"):
        model.predict(_images(), params={"count": 65})
    with pytest.raises(ValueError, match=r"no run of jobs\.train"):
        package.save(str(tmp_path), str(tmp_path / "out"))
    with pytest.raises(ValueError, match="exists already"):
        package.save(str(tmp_path), model_folder)


@pytest.mark.slow
def test_registered_and_opened_in_a_fresh_process(model_folder: str, tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    with Tracker(str(tmp_path / "run"), uri, "train", "tiny") as tracker:
        tracker.model(model_folder, "variegate-tiny")
    versions = sending.connect(uri).search_model_versions("name = 'variegate-tiny'")
    assert [(v.version, v.run_id) for v in versions] in ([(1, tracker.run_id)], [("1", tracker.run_id)])
    script = (
        "import sys, numpy as np, mlflow; mlflow.set_tracking_uri(sys.argv[1]);"
        "model = mlflow.pyfunc.load_model('models:/variegate-tiny/1');"
        "np.save(sys.argv[2], model.predict(np.load(sys.argv[3]), params={'count': 2, 'sampler': 'gaussian'}))"
    )
    np.save(tmp_path / "in.npy", _images())
    command = [sys.executable, "-c", script, uri, str(tmp_path / "out.npy"), str(tmp_path / "in.npy")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    here = _load(model_folder).predict(_images(), params={"count": 2, "sampler": "gaussian"})
    assert np.array_equal(np.load(tmp_path / "out.npy"), here)
    facts = json.loads((Path(model_folder) / "artifacts").glob("*/recipe.json").__next__().read_text())
    assert facts["family"] == "step"
