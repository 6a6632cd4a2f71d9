"""jobs.bench gpu: with PyTorch alone, on torch's CPU by its number; without a card it says so."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from jobs.bench import gpu
from jobs.bench.card import loop, rates, steps, works

ROOT = Path(__file__).parents[1]
ALONE = """
import runpy, sys
for name in ("ray", "webdataset", "faiss", "mlflow", "tyro", "pydantic", "torchmetrics"):
    sys.modules[name] = None
sys.argv = ["gpu", *sys.argv[1:]]
runpy.run_module("jobs.bench.gpu", run_name="__main__", alter_sys=True)
"""


def test_all_parts_on_a_machine_with_pytorch_alone(tmp_path: Path) -> None:
    words = "--device cpu:0 --tiny 1 --side 64 --size 32 --batches 2 --steps 1 --crops 2 --describe 2 --n 60 --d 50"
    asked = [sys.executable, "-c", ALONE, *words.split(), "--folder", str(tmp_path), "--hows", "bf16, channels last"]
    ended = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout.splitlines()[-1])
    assert set(found) == {"bench", "device", "torch", "rates", *gpu.PARTS}
    rows = {name: hows["bf16, channels last"] for name, hows in found["training"].items()}
    names = ("step encoder", "step generator", "step finetune", "imle step", "imle search")
    assert list(rows) == [f"{name}, batch 2" for name in names]
    assert all(row["images_per_second"] > 0 and row["share_of_bf16"] > 0 for row in rows.values()), rows
    assert found["ranks"]["two_ranks_off"] < 1e-5  # Adam divides rounding by small gradients
    assert all(found["search"][kind]["same_bytes"] is True for kind in ("fp32", "tf32", "bf16"))
    assert found["search"]["same_distances"] is True
    described = found["descriptors"]
    assert described["fp32"]["relative_difference"] < 1e-6 < described["bf16"]["relative_difference"] < 0.02
    assert "pydantic" in found["loop"]["left_out"]


def test_the_loop_and_its_feed() -> None:
    found = loop.measured(torch.device("cpu"), 32, 2, 4, 2, tiny=True)
    assert found["feed_images_per_second"] > 0 and 0 < found["loop_overhead"] < 1
    assert found["loop_images_per_second"] < found["updates_images_per_second"]


def test_operations_are_counted_as_the_convolutions_have_them() -> None:
    """The search of IMLE's tiny preset: no gradients, one forward pass of G a candidate and none of a VGG."""
    device = torch.device("cpu")
    [work] = [make() for name, make in works.each(0, 2, device, tiny=True) if name == "imle search"]
    counted = 0

    def count(module: Any, _: object, out: torch.Tensor) -> None:
        nonlocal counted
        counted += 2 * out.numel() * module.weight[0].numel()

    for module in work.family.modules():
        if getattr(module, "weight", torch.empty(0)).ndim == 4:
            module.register_forward_hook(count)
    work.call()
    wanted = counted
    found = steps.measured(lambda: work, device, 1, 1e12, steps.How())
    assert work.images == works.SEARCHED
    assert found["tflop_per_image"] * work.images * 1e12 == wanted > 10**7


def test_every_step_is_built_at_paper_size() -> None:
    built = {name: make() for name, make in works.each(256, 2, torch.device("cpu"))}
    assert {name: work.images for name, work in built.items()} == {
        **dict.fromkeys(("step encoder", "step generator", "step finetune", "imle step"), 2),
        "imle search": works.SEARCHED,
    }


def watched(method: Callable[..., Any], name: tuple[str, str], called: set[tuple[str, str]]) -> Callable[..., Any]:
    def call(*given: Any) -> Any:
        called.add(name)
        return method(*given)

    return call


def test_what_is_compiled_is_called() -> None:
    for name, make in works.each(0, 2, torch.device("cpu"), tiny=True):
        work, called = make(), set[tuple[str, str]]()
        for net, method in work.compiled:
            setattr(net, method, watched(getattr(net, method), (type(net).__name__, method), called))
        work.call()
        parts = {
            "step encoder": {("StyleEncoder", "moments")},
            "step generator": {
                ("StyleEncoder", "moments"),
                ("Generator", "forward"),
                ("PatchDiscriminator", "forward"),
                ("VGG", "forward"),
            },
            "imle step": {("Generator", "pictures"), ("NoiseEncoder", "forward")},
        }
        parts |= {"step finetune": parts["step generator"], "imle search": parts["imle step"]}
        assert called == parts[name], name


def test_what_fails_is_said_and_the_other_rows_go_on() -> None:
    def broken() -> works.Work:
        raise RuntimeError("out of memory\nand a long trace")

    found = steps.measured(broken, torch.device("cpu"), 1, 1e12, steps.How())
    assert found == {"failed": "RuntimeError: out of memory"}


def test_a_rate_is_operations_over_the_median_second(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 1.0, 0.0, 2.0, 0.0, 9.0])
    monkeypatch.setattr(rates.time, "perf_counter", lambda: next(clock))
    assert rates.seconds(torch.device("cpu"), lambda: None, rounds=3, warm=0) == 2.0


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_card_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        gpu.run(gpu.Config())
    assert ended.value.code == 2 and "--device cuda: PyTorch" in capsys.readouterr().err
    with pytest.raises(ValueError, match="--only trainin: choose among training; loop;"):
        gpu.Config(only=("trainin",))
