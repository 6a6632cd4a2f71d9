"""BicycleGAN's losses and its step, against the released code's order written out."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from models import bicyclegan
from models.bicyclegan import BicycleGAN
from models.bicyclegan.losses import divergence, encoded
from models.bicyclegan.training import discriminator, encoder, generator
from models.common.layers import Live
from models.common.seeds import seeded
from models.group import Group
from tests.models.translation import Data

TINY = bicyclegan.PRESETS["tiny"]
NETS = ("generator", "encoder", "discriminator", "discriminator2")


def family(**change: Any) -> BicycleGAN:
    own = bicyclegan.build(dataclasses.replace(TINY, **change), Group())
    own.enter("train")
    return own


def test_divergence_by_a_loop_and_by_integration() -> None:
    mean, logvar = (torch.randn(3, 4, generator=seeded(i), dtype=torch.float64) for i in (0, 1))
    total = 0.0
    for m, v in zip(mean.flatten().tolist(), logvar.flatten().tolist(), strict=True):
        x = np.linspace(-30, 30, 60_001)
        p = np.exp(-((x - m) ** 2) / (2 * math.exp(v))) / math.sqrt(2 * math.pi * math.exp(v))
        log_q = -(x**2) / 2 - math.log(2 * math.pi) / 2
        log_p = -((x - m) ** 2) / (2 * math.exp(v)) - math.log(2 * math.pi * math.exp(v)) / 2
        total += float((p * (log_p - log_q)).sum() * (x[1] - x[0]))
    assert float(divergence(mean, logvar)) == pytest.approx(
        total, rel=1e-6
    )  # the sum, not the mean over three pictures
    torch.testing.assert_close(divergence(mean.repeat(2, 1), logvar.repeat(2, 1)), 2 * divergence(mean, logvar))
    noise = torch.randn(3, 4, generator=seeded(2), dtype=torch.float64)
    torch.testing.assert_close(encoded(mean, logvar, noise), mean + logvar.exp().sqrt() * noise)


def lsgan(scales: list[list[Tensor]], target: float) -> Tensor:
    return torch.stack([torch.nn.functional.mse_loss(s[-1], torch.full_like(s[-1], target)) for s in scales]).sum()


def reference_step(own: BicycleGAN, batch: dict[str, Tensor], wrong: str = "") -> None:
    """G and E first: one backward of the main losses, a second of the latent regression with E frozen; one step of
    both; then D and D2 on the pictures from before."""
    r = own.recipe
    nets = {name: getattr(own, name) for name in NETS}
    optimisers = {name: torch.optim.Adam(net.parameters(), r.rate, (0.5, 0.999)) for name, net in nets.items()}
    x, y, y2 = batch["input"][0::2], batch["target"][0::2], batch["target"][1::2]
    live = Live(seeded(r.seed, "noise", 0), Group())
    mean, logvar = own.encoder(y)
    noise, random = (live.rows(mean.shape).double() for _ in range(2))
    z = mean + torch.exp(0.5 * logvar) * noise
    inputs = x if wrong != "second input" else batch["input"][1::2]
    both = torch.stack([x, inputs], 1).flatten(0, 1)
    pictures = own.generator(both, torch.stack([z, random], 1).flatten(0, 1), live)
    fake, drawn = pictures[0::2], pictures[1::2]
    latent_mean = own.encoder(drawn)[0]
    d2 = own.discriminator if wrong == "one discriminator" else own.discriminator2
    kl = -0.5 * (1 + logvar - mean**2 - logvar.exp()).sum()
    if wrong == "mean divergence":
        kl = kl / mean.numel()
    main = lsgan(own.discriminator(fake), 1) + lsgan(d2(drawn), 1) + 10 * (fake - y).abs().mean() + 0.01 * kl
    latent = 0.5 * (latent_mean - random).abs().mean()
    main.backward(retain_graph=True)
    own.encoder.requires_grad_(wrong == "encoder learns")
    latent.backward()
    own.encoder.requires_grad_(True)
    for name in ("generator", "encoder"):
        optimisers[name].step()
    for name, real, made in (("discriminator", y, fake), ("discriminator2", y2, drawn)):
        if wrong == "same real":
            real = y
        optimisers[name].zero_grad()
        (lsgan(nets[name](made.detach()), 0) + lsgan(nets[name](real), 1)).backward()
        optimisers[name].step()


def distance(a: BicycleGAN, b: BicycleGAN) -> float:
    pairs = zip(a.parameters(), b.parameters(), strict=True)
    return max(float((p.detach() - q.detach()).abs().max()) for p, q in pairs)


@pytest.mark.parametrize(
    "wrong", ["", "encoder learns", "mean divergence", "same real", "second input", "one discriminator"]
)
def test_step_is_the_released_codes(wrong: str) -> None:
    own, twin = family().double(), family().double()
    own.enter("train")
    batch = Data(own, "train", dtype=torch.float64)("pairs")
    own.update(lambda _: batch, 0)
    reference_step(twin, batch, wrong)
    assert (distance(own, twin) < 1e-8) == (not wrong), distance(own, twin)


def test_the_latent_regression_gives_the_encoder_no_gradient() -> None:
    own = family(gan_weight=0, gan2_weight=0, l1_weight=0, kl_weight=0)
    seen: dict[str, float] = {}
    for name, optimiser in own.optimisers.items():
        optimiser.register_step_pre_hook(
            lambda o, *_, name=name: seen.update(
                {name: float(sum(p.grad.abs().sum() for p in o.param_groups[0]["params"]))}
            )  # type: ignore[misc]
        )
    own.update(Data(own, "train"), 0)
    assert seen["encoder"] == 0 and seen["generator"] > 0 and seen["discriminator"] > 0


def test_no_forward_is_done_twice() -> None:
    own = family()
    calls = dict.fromkeys(NETS, 0)
    for name in NETS:
        getattr(own, name).register_forward_hook(lambda *_, name=name: calls.update({name: calls[name] + 1}))  # type: ignore[misc]
    own.update(Data(own, "train"), 0)
    assert calls == {"generator": 1, "encoder": 2, "discriminator": 2, "discriminator2": 2}


def test_sizes_of_the_papers_networks() -> None:
    with torch.device("meta"):
        sizes = {
            name: [sum(p.numel() for p in make(recipe).parameters()) for make in (generator, discriminator, encoder)]
            for name, recipe in bicyclegan.PRESETS.items()
        }
    assert sizes["paper"] == [54_794_627, 3_458_978, 2_590_032]
    assert sizes["edges2shoes"][0] == 54_792_579 and sizes["input-only"][0] == 54_417_795


def test_first_weights_are_fifty_times_smaller_than_glorots() -> None:
    own = bicyclegan.build(dataclasses.replace(TINY, width=32), Group())
    weight = own.generator.downs[2].weight.detach()
    fan_in, fan_out = weight[0].numel(), weight[:, 0].numel()
    assert float(weight.std()) == pytest.approx(0.02 * math.sqrt(2 / (fan_in + fan_out)), rel=0.03)
    assert not torch.equal(own.discriminator.critics[0].head.weight, own.discriminator2.critics[0].head.weight)  # type: ignore[union-attr]


def test_use_is_without_dropout_and_noise() -> None:
    own = family()
    data = Data(own, "train")
    own.update(data, 0)
    batch = data.batch(("input", "target"), 4)
    torch.testing.assert_close(own.codes(batch["target"]), own.encoder(batch["target"])[0].detach())
    assert torch.equal(own.reconstruct(batch), own.reconstruct(batch))
    x = {"input": batch["input"]}
    torch.testing.assert_close(own.generate(x, own.codes(batch["target"])), own.reconstruct(batch))
    z = torch.randn(4, 2, 3, generator=seeded(5))
    torch.testing.assert_close(own.sample(x, 2, seeded(5))[:, 1], own.generate(x, z[:, 1]))
    with pytest.raises(ValueError, match=r"a code of 5 entries: this run's have 3 \(--code\)"):
        own.generate(x, torch.zeros(4, 5))


def test_learning_rates() -> None:
    own = family(epoch=10, constant_epochs=200, decay_epochs=200)
    for images, factor in [(0, 1), (1999, 1), (2000, 200 / 201), (3999, 1 / 201)]:
        assert float(own.update(Data(own, "train"), images)["rate"]) == pytest.approx(2e-4 * factor)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch": 3}, "--batch 3: must be even"),
        ({"code": 0}, "--code 0: give at least 1"),
        ({"size": 40}, "--size 40: must be a multiple of 16"),
        ({"discriminator_layers": 3}, "--size 16: too small for --discriminator-layers 3 at --discriminator-scales 2"),
        ({"encoder_depth": 4}, "--size 16: too small for --encoder-depth 4"),
    ],
)
def test_refusals(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        family(**change)


def test_codes_come_to_matter() -> None:
    """One input with a dark and a bright target: after some steps the codes say which."""
    own = family(rate=5e-3, dropped=(), batch=4, width=8, encoder_width=8, gan_weight=0, gan2_weight=0)
    x = Data(own, "train").batch(("input",), 1)["input"].expand(4, 3, 16, 16)
    y = torch.tensor([-0.8, -0.8, 0.8, 0.8]).view(4, 1, 1, 1).expand(4, 3, 16, 16)
    batch = {"input": x, "target": y}
    for i in range(40):
        own.update(lambda _: batch, i)
    rebuilt = own.reconstruct(batch).mean((1, 2, 3))
    assert float(rebuilt[0]) < -0.4 and float(rebuilt[2]) > 0.4
