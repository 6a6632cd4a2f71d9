"""Bad input to the translation families, from the user's files to the first step: a clear error that names it, or it
simply works."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import models
from jobs import run as job
from jobs import sample, shard
from models.common.unet import UNet
from models.family import Recipe
from models.group import Group
from pipeline.data.images import Images
from pipeline.data.shards import DataSet
from pipeline.evaluation.setting import Options
from pipeline.runs import checkpoint
from pipeline.training.job import Job, Run
from pipeline.training.loop import fit
from tests.models.translation import Data, built

RUN = Run(workers=0, threads=1, checkpoint_every=100, log_every=4, evaluate_every=100, evaluate_images=2)
Picture = Callable[[np.random.Generator], np.ndarray]


def colour(height: int = 16, width: int = 16) -> Picture:
    return lambda random: random.integers(0, 256, (height, width, 3), dtype=np.uint8)


def grey(height: int = 16, width: int = 16, dtype: Any = np.uint8) -> Picture:
    return lambda random: random.integers(0, np.iinfo(dtype).max + 1, (height, width), dtype=dtype)


def ids(most: int, side: int = 16, dtype: Any = np.uint8) -> Picture:
    return lambda random: random.integers(0, most, (side, side)).astype(dtype)


def put(root: Path, count: int = 8, extension: str = "png", **folders: Picture) -> Path:
    for split in ("train", "val"):
        for name, make in folders.items():
            place = root / split / name
            place.mkdir(parents=True, exist_ok=True)
            for i in range(count):
                random = np.random.default_rng((i, *name.encode()))
                Image.fromarray(make(random)).save(place / f"{i}.{extension}")
    return root


def data(source: Path, **options: Any) -> str:
    output = str(source.parent / "data")
    shard.run(shard.Config(source=str(source), output=output, workers=0, **options))
    return output


def recipe(family: str, **changes: Any) -> Any:
    """One step of the tiny preset, a picture at a time; pix2pixHD without VGG, one stage."""
    one: dict[str, Any] = {"epoch": 4, "constant_epochs": 1, "decay_epochs": 0}
    if family in ("munit", "flow"):
        one = {"images": 4}
    if family == "pix2pixhd":
        lengths = {"global_constant_epochs": 1, "global_decay_epochs": 0}
        one = {"epoch": 4, "size": 16, "enhancers": 0, "perceptual_layers": (), "features": 0, **lengths}
    return replace(models.load(family).PRESETS["tiny"], **{**one, **changes})


def train(family: str, own: Recipe, folder: str) -> dict[str, torch.Tensor]:
    output = str(Path(folder).parent / "run")
    fit(Job(family, own, folder, output, run=RUN))
    found: dict[str, torch.Tensor] = checkpoint.load(f"{output}/weights.pt")["family"]
    assert all(bool(value.isfinite().all()) for value in found.values())
    return found


# Sizes ---------------------------------------------------------------------------------------------------------------


def test_pairs_of_different_sizes(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"8 of 16.*--max-bad-share.*\n.*sizes differ: input 16 x 16, target 16 x 18"):
        put(tmp_path / "s" / "good", input=colour(), target=colour())
        source = put(tmp_path / "s" / "good", input=colour(), target=colour())
        for split in ("train", "val"):
            for i in range(4):
                Image.fromarray(colour(18, 16)(np.random.default_rng(i))).save(source / split / "target" / f"{i}.png")
        data(source)


@pytest.mark.parametrize("family", ["pix2pix", "bicyclegan", "munit", "pix2pixhd", "flow"])
def test_odd_sizes_train_and_are_drawn_at_their_own_size(family: str, tmp_path: Path) -> None:
    source = put(tmp_path / "s", input=colour(17, 13), target=colour(17, 13))
    own = recipe(family)
    if family == "pix2pixhd":
        own = replace(own, condition="image", labels=0, instances=False)
    train(family, own, data(source))
    odd = tmp_path / "odd"
    odd.mkdir()
    Image.fromarray(colour(19, 23)(np.random.default_rng(0))).save(odd / "a.png")
    config = sample.Config(
        run=str(tmp_path / "run"), inputs=str(odd), output=str(tmp_path / "out"), count=1, files=True
    )
    sample.run(config)
    files = [p for p in (tmp_path / "out").rglob("*.png") if p.parent != tmp_path / "out"]
    assert files and all(Image.open(path).size[0] > 0 for path in files)


def test_side_by_side_pictures_of_an_odd_width(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    Image.fromarray(colour(8, 15)(np.random.default_rng(0))).save(tmp_path / "s" / "a.png")
    with pytest.raises(ValueError, match="15 pixels wide: two halves side by side need an even width"):
        data(tmp_path / "s", input_side="left")


# Colours -------------------------------------------------------------------------------------------------------------


def mixed(random: np.random.Generator) -> np.ndarray:
    made = (colour(), grey(), grey(dtype=np.uint16))
    return made[int(random.integers(3))](random)


@pytest.mark.parametrize("condition", ["image", "grey"])
def test_grey_colour_and_sixteen_bits_mixed(condition: str, tmp_path: Path) -> None:
    folder = data(put(tmp_path / "s", input=mixed, target=mixed))
    found = train("pix2pix", recipe("pix2pix", condition=condition), folder)
    assert found["generator.downs.0.weight"].shape[1] == (1 if condition == "grey" else 3)


def test_sixteen_bits_and_one_channel_reach_the_family_as_they_are(tmp_path: Path) -> None:
    """The whole range of 16 bits maps to [-1, 1]; a grey picture keeps its values as one channel and as three."""
    ramp = np.linspace(0, 65535, 256).round().astype(np.uint16).reshape(16, 16)
    folder = data(put(tmp_path / "s", 1, input=lambda _: ramp, target=lambda _: (ramp // 257).astype(np.uint8)))
    for channels in (1, 3):
        specs = {
            name: replace(spec, channels=channels)
            for name, spec in models.load("pix2pix").fields(recipe("pix2pix")).items()
        }
        batch = Images(DataSet(folder), specs=specs).centred([0], ["input", "target"], (16, 16))
        assert batch["input"].shape == (1, channels, 16, 16)
        wanted = torch.from_numpy(ramp.astype(np.float64)) / 65535 * 2 - 1
        assert float((batch["input"][0] - wanted).abs().max()) <= 1 / 255 + 1e-6  # half a level of 8 bits
        assert float((batch["input"] - batch["target"]).abs().max()) <= 2 / 255 + 1e-6
        assert float(batch["input"].min()) == -1 and float(batch["input"].max()) == 1


# Label and instance maps ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["pix2pix", "pix2pixhd"])
def test_ids_beyond_the_class_count(family: str, tmp_path: Path) -> None:
    def late(random: np.random.Generator) -> np.ndarray:
        found = ids(4)(random)
        found[0, 0] = 7
        return found

    folder = data(put(tmp_path / "s", labels=late, target=colour(), instances=ids(3)))
    own = recipe(family, condition="labels", labels=4)
    with pytest.raises(ValueError, match="class id 7 in a label map, but --labels 4: raise it"):
        train(family, own, folder)


def test_a_data_set_without_instance_maps(tmp_path: Path) -> None:
    folder = data(put(tmp_path / "s", labels=ids(5), target=colour()))
    with pytest.raises(ValueError, match="has no field 'instances', only input, target"):
        train("pix2pixhd", recipe("pix2pixhd"), folder)
    train("pix2pixhd", recipe("pix2pixhd", instances=False), folder)


def test_an_instance_map_that_is_missing_or_of_another_size(tmp_path: Path) -> None:
    source = put(tmp_path / "s", labels=ids(5), target=colour(), instances=ids(3))
    (source / "train/instances/3.png").unlink()
    Image.fromarray(ids(3, 18)(np.random.default_rng(0))).save(source / "train/instances/4.png")
    with pytest.raises(ValueError, match="2 of 16 samples are bad") as error:
        data(source)
    assert "no instances of this name" in str(error.value)
    assert "sizes differ: input 16 x 16, instances 18 x 18, target 16 x 16" in str(error.value)


def test_instance_maps_of_any_depth_are_alike(tmp_path: Path) -> None:
    found = []
    for dtype in (np.uint8, np.uint16, np.int32):
        source = put(tmp_path / dtype.__name__ / "s", labels=ids(5), target=colour())
        put(source, extension="tif", instances=ids(200, dtype=dtype))  # PNG has no 32 bits
        folder = data(source)
        found.append(Images(DataSet(folder)).centred(range(8), ["instances"], (16, 16))["instances"])
        train("pix2pixhd", recipe("pix2pixhd"), folder)
    assert found[0].dtype == torch.int64 and len(found[0].unique()) > 150  # 8 bits are not read as v / 255
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


@pytest.mark.parametrize("family", ["pix2pix", "pix2pixhd"])
def test_pictures_of_one_class(family: str, tmp_path: Path) -> None:
    folder = data(put(tmp_path / "s", labels=ids(1), target=colour(), instances=ids(1)))
    train(family, recipe(family, condition="labels", labels=5), folder)


def test_painted_maps_are_not_taken_for_ids(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a label map has one channel, this has 3"):
        data(put(tmp_path / "s", labels=colour(), target=colour()))


# Pairs, codes, norms -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["pix2pix", "bicyclegan", "munit", "pix2pixhd", "flow"])
def test_a_set_without_pairs_for_a_family_that_needs_them(family: str, tmp_path: Path) -> None:
    folder = data(put(tmp_path / "s", dark=colour(), light=colour()))  # two folders of pictures, no input/ and target/
    with pytest.raises(ValueError, match="has no field 'input', only target"):
        train(family, recipe(family), folder)


def test_two_sets_without_pairs_are_for_munit(tmp_path: Path) -> None:
    folder = data(put(tmp_path / "s", dark=colour(), light=colour()), layout="classes")
    train("munit", recipe("munit", pairing="classes"), folder)
    one = data(put(tmp_path / "one" / "s", dark=colour()), layout="classes")
    with pytest.raises(ValueError, match="--pairing classes: the data set has 1 class; two domains are needed"):
        train("munit", recipe("munit", pairing="classes"), one)


def test_a_side_that_has_no_partner(tmp_path: Path) -> None:
    source = put(tmp_path / "s", input=colour(), target=colour())
    (source / "train/target/2.png").rename(source / "train/target/two.png")
    with pytest.raises(ValueError, match="2 of 17 samples are bad") as error:
        data(source)
    assert "no target of this name" in str(error.value) and "no input of this name" in str(error.value)


@pytest.mark.parametrize("family", ["bicyclegan", "munit"])
@pytest.mark.parametrize("entries", [2, 4])
def test_a_code_of_the_wrong_length(family: str, entries: int) -> None:
    own = built(family, models.load(family).PRESETS["tiny"])
    batch = Data(own, "train").batch(("input",), 2)
    with pytest.raises(ValueError, match=rf"a code of {entries} entries: this run's have 3 \(--code\)"):
        own.generate(batch, torch.zeros(2, entries))  # type: ignore[operator]


def test_a_network_given_another_code() -> None:
    net = UNet(3, 3, levels=2, width=4, norm="instance", code=3)
    for z in (None, torch.zeros(1, 2)):
        with pytest.raises(ValueError, match="for a generator built with 3"):
            net(torch.zeros(1, 3, 8, 8), z)


def test_batch_norm_at_one_pixel() -> None:
    """What the sizes allow never comes to it; the norm itself refuses."""
    module = models.load("pix2pix")
    tiny = replace(module.PRESETS["tiny"], batch=1)
    with pytest.raises(ValueError, match="--size 4: the residual blocks would see 1 x 1; raise it"):
        module.check(replace(tiny, generator="resnet", size=4, discriminator_layers=0))
    smallest = [
        replace(tiny, size=8, levels=3),
        replace(tiny, size=4, levels=2, discriminator_layers=0),
        replace(tiny, size=8, generator="resnet", blocks=1),
    ]
    for own in smallest:
        family = module.build(own, Group())
        family.enter("train")
        assert float(family.update(Data(family, "train"), 0)["loss"]) > 0
    from models.common.layers import Live
    from models.common.norms import norm_layer
    from models.common.seeds import seeded

    with pytest.raises(ValueError, match=r"batch 1 at 1 x 1.*--norm instance"):
        norm_layer("batch", 2)(torch.zeros(1, 2, 1, 1), Live(seeded(0), Group()))


# Micro-batches -------------------------------------------------------------------------------------------------------


def test_micro_batches_that_do_not_divide_the_batch(tmp_path: Path) -> None:
    folder = data(put(tmp_path / "s", input=colour(), target=colour()))
    cases: list[tuple[str, Any, int, str]] = [
        ("flow", recipe("flow"), 3, "batch 4 of stream 'pairs' is not divisible by 1 workers x 3"),
        ("bicyclegan", recipe("bicyclegan"), 4, "not divisible by 1 workers x 4 in units of 2"),
    ]
    for family, own, count, message in cases:
        with pytest.raises(ValueError, match=f"--run.accumulate {count}: .*{message}"):
            fit(Job(family, own, folder, str(tmp_path / family), run=replace(RUN, accumulate=count)))
    imle = Job("imle", models.load("imle").PRESETS["tiny"], folder, str(tmp_path / "imle"))
    with pytest.raises(ValueError, match=r"--run\.accumulate 2: family imle takes its batches whole"):
        fit(replace(imle, run=replace(RUN, accumulate=2)))
    with pytest.raises(ValueError, match=r"--run\.accumulate 0: at least 1"):
        replace(RUN, accumulate=0)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_micro_batches_and_precision_through_the_loop(precision: Any, tmp_path: Path) -> None:
    folder = data(put(tmp_path / "s", input=colour(), target=colour()))
    # At times near 0: near 1 the loss divides by (1 - t)^2, the rounding too.
    found, own = {}, recipe("flow", images=16, times=(3.0, 0.1))
    for count in (1, 2):
        output = str(tmp_path / str(count))
        run = replace(RUN, precision=precision, accumulate=count)
        fit(Job("flow", own, folder, output, run=run))
        found[count] = checkpoint.load(f"{output}/weights.pt")["family"]
    for key, value in found[1].items():
        torch.testing.assert_close(value, found[2][key], rtol=0, atol=1e-6 if precision == "fp32" else 2e-3)


def test_the_loop_runs_bfloat16_without_autocasts_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With it G would be trained by D's weights from before its step."""
    from models.flow import Flow

    seen = []
    step = Flow.step

    def watched(self: Flow, draw: Any, images: int) -> Any:
        seen.append((torch.is_autocast_enabled("cpu"), torch.is_autocast_cache_enabled()))
        return step(self, draw, images)

    monkeypatch.setattr(Flow, "step", watched)
    folder = data(put(tmp_path / "s", input=colour(), target=colour()))
    fit(Job("flow", recipe("flow"), folder, str(tmp_path / "run"), run=replace(RUN, precision="bf16")))
    assert seen == [(True, False)]


# A whole job: before hours of work ------------------------------------------------------------------------------------


def whole(family: str, source: Path, **given: Any) -> Path:
    """`jobs.run`; the folder of its output, which is there only where work was begun."""
    output = source.parent / "output"
    made: dict[str, Any] = {"weights": "random", "tracking": "off", "workers": 0, "run": RUN, **given}
    recipe = models.load(family).PRESETS["tiny"]
    options = job.train.command_line(job.Config, recipe)(recipe=recipe, source=str(source), output=str(output), **made)
    job.run(family, options)
    return output


def test_weights_that_only_the_evaluation_needs_are_missed_at_once(tmp_path: Path) -> None:
    source = put(tmp_path / "source", input=colour(), target=colour())
    with pytest.raises(ValueError, match=r"--weights .*none\.pth: no such file"):
        whole("pix2pix", source, weights=str(tmp_path / "none.pth"))
    assert not (tmp_path / "output").exists()


def test_labels_without_instance_maps_get_the_hint_that_helps(tmp_path: Path) -> None:
    source = put(tmp_path / "source", labels=ids(4, 32), target=colour(32, 32))
    with pytest.raises(ValueError, match="give --connected-components, or add a folder instances/"):
        whole("pix2pixhd", source)
    with pytest.raises(ValueError, match=r"images side by side: give --input-side left or right"):
        whole("pix2pix", put(tmp_path / "images", target=colour()), layout="images")


def test_a_run_of_no_pictures_is_refused(tmp_path: Path) -> None:
    made = data(put(tmp_path / "source", input=colour(), target=colour()))
    none = replace(models.load("pix2pix").PRESETS["tiny"], epoch=0)
    with pytest.raises(ValueError, match="nothing would be trained: --constant-epochs 1, --decay-epochs 1, --epoch 0"):
        fit(Job("pix2pix", none, made, str(tmp_path / "run"), run=RUN))
    assert not (tmp_path / "run" / "weights.pt").exists()


def test_the_share_of_bad_samples_can_be_raised(tmp_path: Path) -> None:
    source = put(tmp_path / "source", input=colour(), target=colour())
    (source / "train" / "target" / "3.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"--max-bad-share 0\.01"):
        whole("pix2pix", source)
    assert (whole("pix2pix", source, max_bad_share=0.2) / "evaluation" / "evaluation.json").exists()


def test_the_evaluation_has_options_of_its_own_but_for_the_weights(tmp_path: Path) -> None:
    source = put(tmp_path / "source", input=colour(), target=colour())
    made = whole("pix2pix", source, evaluation=Options(sheet=0)) / "evaluation"
    assert (made / "evaluation.json").exists() and not list(made.glob("*.png"))
    with pytest.raises(ValueError, match=r"--evaluation\.weights random: give --weights"):
        whole("pix2pix", source, evaluation=Options(weights="random"))
