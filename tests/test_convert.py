"""Released weights as a run: the same weights, samples from it, clear refusals."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import models
from jobs import convert, sample
from models import munit, pix2pix
from models.common import released
from models.family import Family
from models.group import Group
from models.munit import released as munit_released
from pipeline.runs.sampler import open_run
from tests.models.test_released import written


def ready(family: str, seed: int = 7) -> Family:
    module = models.load(family)
    net: Family = module.build(dataclasses.replace(module.PRESETS["tiny"], seed=seed), Group())
    return net


def call(family: str, files: dict[str, Path], output: Path) -> str:
    parsed = convert.command_line(convert.Config, models.load(family).PRESETS["tiny"])
    given = {"files": {name: str(path) for name, path in files.items()}, "output": str(output)}
    return convert.convert(family, parsed(recipe=models.load(family).PRESETS["tiny"], **given))


@pytest.fixture
def generator(tmp_path: Path) -> Path:
    source = ready("pix2pix")
    assert isinstance(source, pix2pix.Pix2Pix)
    torch.save(written(source.generator, released.unet(4)), tmp_path / "latest_net_G.pth")
    return tmp_path / "latest_net_G.pth"


def test_the_run_has_the_released_weights_and_draws_samples(generator: Path, tmp_path: Path) -> None:
    path = call("pix2pix", {"G": generator}, tmp_path / "run")
    assert path == str(tmp_path / "run" / "weights.pt")
    own, wanted = open_run(str(tmp_path / "run")).family, ready("pix2pix")
    fresh = ready("pix2pix", seed=models.load("pix2pix").PRESETS["tiny"].seed)
    for name in wanted.state_dict():
        source = wanted if name.startswith("generator.") else fresh  # D was not given
        assert torch.equal(own.state_dict()[name], source.state_dict()[name]), name

    (tmp_path / "in").mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)).save(tmp_path / "in/a.png")
    out = str(tmp_path / "out")
    [sheet] = sample.run(sample.Config(run=str(tmp_path / "run"), inputs=str(tmp_path / "in"), output=out, count=2))
    assert Path(sheet).stat().st_size > 0


def test_munit_s_two_domains(tmp_path: Path) -> None:
    source = ready("munit")
    assert isinstance(source, munit.MUNIT)
    table = munit_released.generator(source.recipe)
    states = {domain: written(getattr(source, f"generator_{domain}"), table) for domain in "ab"}
    torch.save(states, tmp_path / "gen.pt")
    call("munit", {"gen": tmp_path / "gen.pt"}, tmp_path / "run")
    own = open_run(str(tmp_path / "run")).family.state_dict()
    wanted = {name: value for name, value in source.state_dict().items() if name.startswith("generator_")}
    assert len(wanted) > 20 and all(torch.equal(own[name], value) for name, value in wanted.items())
    torch.save({"a": states["a"]}, tmp_path / "half.pt")
    with pytest.raises(ValueError, match="gen has no domain 'b': is it MUNIT's"):
        call("munit", {"gen": tmp_path / "half.pt"}, tmp_path / "other")


def test_what_does_not_fit(generator: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="step: no released weights are known"):
        call("step", {"G": generator}, tmp_path / "run")
    for files in ({}, {"D": generator}, {"G": generator, "E": generator}):
        with pytest.raises(ValueError, match=r"--files .*: give G; known: G, D"):
            call("pix2pix", files, tmp_path / "run")
    with pytest.raises(ValueError, match="the released weights lack"):
        call("bicyclegan", {"G": generator}, tmp_path / "run")
    (tmp_path / "text.pth").write_text("404")
    with pytest.raises(ValueError, match=r"text\.pth is no file of torch\.save"):
        call("pix2pix", {"G": tmp_path / "text.pth"}, tmp_path / "run")
    with pytest.raises(FileNotFoundError, match="gone"):
        call("pix2pix", {"G": tmp_path / "gone.pth"}, tmp_path / "run")
    assert not (tmp_path / "run").exists()  # nothing is left of a failed one
    call("pix2pix", {"G": generator}, tmp_path / "run")
    with pytest.raises(ValueError, match="holds a run: name another folder"):
        call("pix2pix", {"G": generator}, tmp_path / "run")


def test_every_released_family_is_named() -> None:
    there = {p.parent.name for p in Path(models.__file__).parent.glob("*/released.py")} - {"common"}
    assert there == {"pix2pix", "pix2pixhd", "bicyclegan", "munit"}
    assert all(name in str(convert.__doc__).lower() for name in there)
