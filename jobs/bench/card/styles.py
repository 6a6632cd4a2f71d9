"""Style descriptors on a device: images a second and the share of its bf16 rate."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from jobs.bench.card.rates import seconds
from models.common.vgg import VGG
from pipeline.style.descriptors import STEP_LAYERS, Describer


def measured(device: torch.device, size: int, batch: int, peak: float) -> dict[str, Any]:
    """VGG-19 to relu5_2, channels last, Grams included; the pictures lie on the device. Beside the speed how far the
    vectors are from the CPU's float32, relative to their length."""
    x = torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with FlopCounterMode(display=False) as counter:  # here: it does not know a GPU's products with sums in float32
        wanted = Describer(VGG("vgg19", STEP_LAYERS).random(0))(x[:2])
    operations = counter.get_total_flops() / len(x[:2])
    found: dict[str, Any] = {"size": size, "batch": batch, "gflop_per_image": operations / 1e9}
    for precision in ("bf16", "fp32"):
        describer = Describer(VGG("vgg19", STEP_LAYERS).random(0), (), precision, str(device))
        off = (describer(x[:2]).cpu() - wanted).norm(dim=1) / wanted.norm(dim=1)
        there = x.to(device)
        taken = seconds(device, lambda d=describer, x=there: d(x))  # type: ignore[misc]
        found[precision] = {
            "images_per_second": batch / taken,
            "share_of_bf16": batch * operations / taken / peak,
            "relative_difference": float(off.max()),
        }
    return found
