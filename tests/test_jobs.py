"""The commands as a user gives them: those of the pages, the whole job on S3, kill -9, what stops before it begins."""

import errno
import importlib
import re
import runpy
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from jobs import command
from jobs.study import modes
from models.common.vgg import VGG
from pipeline.artifacts import artifact
from pipeline.data.palettes import KNOWN
from pipeline.data.tensors import to_tensor

REPOSITORY = Path(__file__).parent.parent
SMALL = (
    "--size 16 --encoder-width 4 --generator-width 4 --generator-blocks 1 --discriminator-width 4 "
    "--discriminator-scales 1 --encoder-images 12 --generator-images 8 --finetune-images 8 --mapper-epochs 6 "
    "--generator-constant 8 --finetune-constant 8 --perceptual-pairs 8 --batch 4"
)


FIRST, IMLE, MANY = "README.md", "models/imle/README.md", "pipeline/neighbours/README.md"
PAGES = sorted(
    str(p.relative_to(REPOSITORY))
    for top in ("infra", "jobs", "models", "pipeline")
    for p in (REPOSITORY / top).rglob("README.md")
)
LEADING = {"jobs.run": 2, "jobs.train": 2, "jobs.neighbours": 1}
"""Words of a command before its options: family and preset, method."""


def section(page: str, title: str = "") -> str:
    """The text of one of a page's sections; of the whole page without a title."""
    text = (REPOSITORY / page).read_text()
    return text.split(f"\n## {title}\n")[1].split("\n## ")[0] if title else text


def lines_of(page: str, title: str = "") -> list[str]:
    """The `python -m jobs.NAME ...` lines of a page's section, continuation lines joined."""
    joined = section(page, title).replace("\\\n", " ")
    return [line.split("#")[0].strip() for line in joined.splitlines() if line.startswith("    python -m jobs.")]


def photographs(folder: Path, train: int = 8) -> str:
    """Side-by-side pictures (4 are `val`), the right sides in colours of the facades' palette; a VGG-19 to relu3_1."""
    colours = np.array(KNOWN["facades"].colours, np.uint8)
    for split, count in (("train", train), ("val", 4)):
        (folder / split).mkdir(parents=True)
        for i in range(count):
            random = np.random.default_rng([count, i])
            pixels = Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8))
            left = np.asarray(pixels.resize((32, 32), Image.Resampling.BICUBIC))
            right = colours[random.integers(0, 12, (4, 4))].repeat(8, 0).repeat(8, 1)
            Image.fromarray(np.concatenate([left, right], 1)).save(folder / split / f"{i}.png")
    vgg = VGG("vgg19", ("relu3_1",)).random(0)
    torch.save({f"features.{k.removeprefix('features.')}": v for k, v in vgg.state_dict().items()}, folder / "v.pth")
    return str(folder)


def run_lines(
    lines: list[str],
    folder: Path,
    extra: dict[str, str],
    patch: pytest.MonkeyPatch,
    said: pytest.CaptureFixture[str],
    pictures: int = 8,
) -> None:
    """In this order; only folders are replaced, and the options in `extra` (by job) added."""
    source = photographs(folder / "photographs", pictures)
    for line in lines:
        words = shlex.split(line.replace("PHOTOS", source).replace("vgg19.pth", f"{source}/v.pth"))
        words = [word.replace("/data/", f"{folder}/data/") for word in words] + shlex.split(extra.get(words[2], ""))
        patch.setattr(sys, "argv", words[2:])
        patch.delitem(sys.modules, words[2], raising=False)  # runpy warns of one that another test imported
        try:
            runpy.run_module(words[2], run_name="__main__", alter_sys=True)
        except SystemExit as ended:
            assert ended.code in (0, None), f"{line}\n{said.readouterr().err}"


def test_the_six_commands_for_one_s_own_images_and_the_library(
    ray_cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first page's commands as they stand; then the library page goes on from their folders."""
    lines = lines_of(FIRST, "Your own images")
    assert [shlex.split(line)[2].removeprefix("jobs.") for line in lines] == [
        *("shard", "describe", "neighbours", "train", "sample", "evaluate")
    ]
    # On Ray: shard and train. The others are in tests of their own.
    extra = {"jobs.train": SMALL, "jobs.describe": "--workers 0", "jobs.neighbours": "--workers 0"}
    run_lines(lines, tmp_path, extra, monkeypatch, capsys, pictures=16)
    assert (tmp_path / "data" / "samples" / "samples-mapper.png").exists()
    assert (tmp_path / "data" / "figures" / "evaluation.json").exists()

    code = section("jobs/README.md", "As a library").split("```python\n")[1].split("```")[0]
    assert 15 <= sum(bool(line.strip()) for line in code.splitlines()) <= 25
    source = tmp_path / "photographs"
    Image.new("RGB", (40, 30), "red").save(tmp_path / "photo.png")
    for name, path in {"PHOTOS": source, "vgg19.pth": source / "v.pth", "photo.png": tmp_path / "photo.png"}.items():
        code = code.replace(f'"{name}"', f'"{path}"')
    parts = sorted((tmp_path / "data").glob("*/*.parquet"))
    written = [part.stat().st_mtime_ns for part in parts]
    found: dict[str, Any] = {}
    exec(code.replace('"/data/', f'"{tmp_path}/data/'), found)
    assert [part.stat().st_mtime_ns for part in parts] == written and len(written) >= 2  # nothing is made again
    lists, samples = found["lists"], found["samples"]
    assert len(lists) == 16 and all(len(near) == 5 for near in lists["near"])
    assert all(place not in near for place, near in enumerate(lists["near"]))
    assert [(x.shape, x.dtype) for x in samples] == [((16, 16, 3), np.uint8)] * 4
    assert any((samples[0] != other).any() for other in samples[1:])


SMALL_IMLE = (
    "--size 16 --widths 8 8 8 --noise 2 --encoder-width 4 --imle-images 16 --settle-images 8 --samples 2 --set-size 8 "
    "--refresh-steps 8 --perceptual-pairs 16"
)


def test_the_commands_of_conditional_imle(
    ray_cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = lines_of(IMLE, "Usage")
    assert len(lines) == 5
    extra = {"jobs.train": f"{SMALL_IMLE} --run.workers 0"} | {
        f"jobs.{n}": "--workers 0" for n in ("shard", "rarity", "match")
    }
    run_lines(lines, tmp_path, extra, monkeypatch, capsys)
    assert (tmp_path / "data" / "matches" / "card.json").exists()
    assert list((tmp_path / "data" / "imle" / "pictures").glob("settle-preview-*.png"))  # label maps are shown too


def test_the_commands_for_many_images(
    ray_cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = lines_of(MANY, "Many images")
    assert len(lines) == 7
    extra = {"jobs.neighbours": "--near 2 --far 3 --workers 0", "jobs.describe": "--workers 0"}
    run_lines(lines, tmp_path, extra, monkeypatch, capsys, pictures=24)
    said = capsys.readouterr().out
    assert said.count("plan: index search of 24 images") == 2 and "a pca for 24 images" in said
    notes = artifact.load_card(str(tmp_path / "data" / "close"))["notes"]
    assert notes["recall_near2"] == 1 and notes["far_certified_share"] == 1
    notes = artifact.load_card(str(tmp_path / "data" / "balanced"))["notes"]
    assert notes["far_most_frequent_share"] <= 0.5 and notes["certified_share"] == 1


def quoted(page: str) -> list[str]:
    """The commands within a page's text and tables that have options; `python -m` may be left out there."""
    found = re.findall(r"`(?:python -m )?(jobs\.\w+ [^`]*--[^`]*)`", section(page))
    return [f"python -m {' '.join(line.split())}" for line in found]


@pytest.mark.parametrize("line", sorted({line for page in [FIRST, *PAGES] for line in lines_of(page) + quoted(page)}))
def test_the_pages_options_exist(
    line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each --option of the line stands in the help of its command."""
    words = shlex.split(line)
    with pytest.raises(SystemExit) as ended:
        if words[2] in ("jobs.bench", "jobs.study"):
            module = importlib.import_module(f"{words[2]}.{words[3].replace('-', '_')}")
            command.main(module.Config, module.run, module.__doc__, ["--help"])
        else:
            leading = [word for word in words[3 : 3 + LEADING.get(words[2], 0)] if not word.startswith("-")]
            monkeypatch.setattr(sys, "argv", [words[2], *leading, "--help"])
            monkeypatch.delitem(sys.modules, words[2], raising=False)
            runpy.run_module(words[2], run_name="__main__", alter_sys=True)
    assert ended.value.code in (0, None)
    said = capsys.readouterr().out
    for option in re.findall(r"--[a-z][\w.-]*", line):
        assert option in said, option


@pytest.mark.parametrize(
    "line",
    [
        "jobs.train imle tiny --data d --output o --epsilon -1",
        "jobs.match --run r --data d --output o --workers -1",
    ],
)
def test_a_number_out_of_range_is_one_clear_line(line: str) -> None:
    done = subprocess.run([sys.executable, "-m", *line.split()], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == "" and done.stderr.startswith("error: --"), done.stderr
    assert "at least" in done.stderr.splitlines()[0]


def test_a_full_disk_names_the_output_and_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    @dataclass(frozen=True)
    class Config:
        output: str = "/somewhere/full"

    def fails(config: Config) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(SystemExit) as ended:
        command.main(Config, fails, "", [])
    told = capsys.readouterr().err
    assert ended.value.code == 1 and "/somewhere/full" in told and "the same command again" in told


def test_known_truth_counts_a_colouring_and_not_the_average_of_all() -> None:
    ids = modes.layout(3)
    truths = to_tensor([colours[ids] for colours in modes.COLOURINGS])
    mean = truths.mean(0, keepdim=True)
    some = modes.measure(truths[[0, 2, 2]], ids)
    assert (some["coverage"], some["colourings"], some["on_a_colouring"]) == (0, 2, 1)
    assert some["on_a_rare_one"] == pytest.approx(2 / 3)
    every = modes.measure(torch.cat([truths, mean]), ids)
    assert (every["coverage"], every["colourings"], every["on_a_colouring"]) == (1, 4, 0.8)
    assert modes.measure(mean.expand(2, -1, -1, -1), ids)["colourings"] == 0
    apart = [(a - b).square().mean() for i, a in enumerate(truths) for b in truths[:i]]
    uneven = [(a - b).square().mean() for i, a in enumerate(truths[[0, 0, 1]]) for b in truths[[0, 0, 1]][:i]]
    assert modes.measure(truths, ids)["diversity"] == pytest.approx(1)
    assert some["diversity"] != pytest.approx(1)
    got = modes.measure(truths[[0, 0, 1]], ids)["diversity"]
    assert got == pytest.approx(float(sum(uneven) / 3 / (sum(apart) / 6)), rel=1e-5)


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        ("m5", (5, True, 0)),
        ("m20-plain", (20, False, 0)),
        ("m20-plain-balanced", (20, False, 0)),
        ("crn", (20, True, 160)),
    ],
)
def test_known_truth_kinds(kind: str, wanted: tuple[int, bool, int]) -> None:
    recipe = modes.recipe_of(kind, 10, 0)
    assert (recipe.samples, recipe.noise_encoder, recipe.crn_images) == wanted
    assert recipe.imle_images == (0 if kind == "crn" else 160)
    with pytest.raises(ValueError, match=f"--kinds {kind}x"):
        modes.recipe_of(kind + "x", 10, 0)
