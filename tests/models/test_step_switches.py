"""StEP's loss switches: each term against a loop, the step's gradients against plain autograd, nothing where all are
off."""

import dataclasses
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from models import step
from models.common.layers import Live
from models.common.seeds import seeded
from models.common.vgg import VGG
from models.family import Batch
from models.group import Group
from models.step import StEP, switches
from models.step.losses import discriminator_loss, generator_loss

TINY = step.PRESETS["tiny"]
WEIGHTS: dict[str, Any] = {
    "pixel_weight": 2.0,
    "kl_weight": 0.3,
    "code_recon_weight": 1.5,
    "random_code_weight": 0.7,
    "random_gan_weight": 0.6,
    "swapped_gan_weight": 0.8,
    "cycle_weight": 0.4,
    "cycle_gan_weight": 0.9,
}


def family(**change: Any) -> StEP:
    recipe = dataclasses.replace(TINY, **change)
    made = step.build(recipe, Group(), VGG("vgg19", recipe.perceptual_layers).random(0)).double()
    made.perceptual.factors.fill_(3.0)
    return made


def pairs(stream: str = "pairs") -> Batch:
    generator = seeded("switches")
    return {n: torch.rand(4, 3, 16, 16, generator=generator).double() * 2 - 1 for n in ("input", "target")}


def test_two_rows_change_places() -> None:
    rows = torch.arange(12.0).reshape(4, 3)
    assert switches.other(rows).tolist() == [rows[i].tolist() for i in (1, 0, 3, 2)]


def test_kl_against_a_loop() -> None:
    mean, logvar = (torch.randn(5, 3, generator=seeded(i), dtype=torch.float64) for i in range(2))
    total = 0.0
    for m, v in zip(mean.flatten().tolist(), logvar.flatten().tolist(), strict=True):
        total += 0.5 * (math.exp(v) + m * m - 1 - v)
    assert float(switches.kl(mean, logvar)) == pytest.approx(total / 5)
    assert float(switches.kl(torch.zeros(2, 8), torch.zeros(2, 8))) == 0


@pytest.mark.parametrize("vae", [False, True])
@pytest.mark.parametrize("stage", ["generator", "finetune"])
@pytest.mark.parametrize("name", [*WEIGHTS, "all"])
def test_the_step_against_plain_autograd(name: str, stage: str, vae: bool) -> None:
    weights = WEIGHTS if name == "all" else {name: WEIGHTS[name]}
    own, twin = family(vae=vae, **weights), family(vae=vae, **weights)
    w = {**dict.fromkeys(WEIGHTS, 0.0), **weights}
    x, y = pairs()["input"], pairs()["target"]
    live = Live(seeded(0, stage, 0), Group())
    mean, logvar = twin.encoder.moments(y)
    if stage == "generator":
        mean, logvar = mean.detach(), logvar.detach()
    spread = torch.exp(logvar / 2)
    z = mean + spread * (live.rows((4, 8)).double() if vae else 1)
    fake, swap = twin.generator(x, z), [1, 0, 3, 2]
    swapped = twin.generator(x, z[swap])
    cycle = twin.generator(x, twin.encoder(swapped[swap]))
    needs_noise = w["random_gan_weight"] or w["random_code_weight"]
    noise = live.rows((4, 8)).double() if needs_noise else torch.zeros(4, 8).double()
    random = twin.generator(x, noise)

    def judge(picture: Tensor) -> list[Tensor]:
        found: list[Tensor] = twin.discriminator(picture, x, Group())
        return found

    extras = [(swapped, w["swapped_gan_weight"]), (random, w["random_gan_weight"]), (cycle, w["cycle_gan_weight"])]
    g_loss = generator_loss(judge(fake)) + 0.02 * twin.perceptual(fake, y) + 0.01 * z.square().mean()
    d_loss = discriminator_loss(judge(y), judge(fake.detach()))
    for picture, weight in extras:
        g_loss = g_loss + weight * generator_loss(judge(picture))
        d_loss = d_loss + weight * discriminator_loss(judge(y), judge(picture.detach()))
    g_loss = g_loss + w["pixel_weight"] * (fake - y).abs().mean()
    g_loss = g_loss + w["kl_weight"] * 0.5 * (mean**2 + logvar.exp() - 1 - logvar).sum() / 4
    g_loss = g_loss + w["code_recon_weight"] * (twin.encoder(fake) - z.detach()).abs().mean()
    g_loss = g_loss + w["random_code_weight"] * (twin.encoder(random) - noise).abs().mean()
    g_loss = g_loss + w["cycle_weight"] * twin.perceptual(cycle, y)
    trained = [*twin.generator.parameters(), *(twin.encoder.parameters() if stage == "finetune" else ())]
    grads = torch.autograd.grad(g_loss, trained)
    d_grads = torch.autograd.grad(d_loss, list(twin.discriminator.parameters()))

    seen: dict[str, list[Tensor]] = {}
    own.enter(stage)
    own._step = lambda moves, rate: seen.update({n: list(g) for n, (_, g) in moves.items()})  # type: ignore[method-assign]
    got = own.update(pairs, 0)
    assert float(got["loss"]) == pytest.approx(float(g_loss.detach()), rel=1e-10)
    assert float(got["discriminator"]) == pytest.approx(float(d_loss.detach()), rel=1e-10)
    for mine, theirs in zip([*seen["main"], *seen["discriminator"]], [*grads, *d_grads], strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-8, atol=1e-11)
    plain = family(vae=vae)  # the switch does something
    plain.enter(stage)
    plain._step = lambda moves, rate: None  # type: ignore[method-assign]
    assert float(plain.update(pairs, 0)["loss"]) != pytest.approx(float(g_loss.detach()), rel=1e-6)


def test_pairs_are_kept_together_where_codes_are_swapped() -> None:
    for change, unit in (
        ({}, 1),
        ({"pixel_weight": 1.0}, 1),
        ({"swapped_gan_weight": 1.0}, 2),
        ({"cycle_weight": 1.0}, 2),
    ):
        made = step.build(dataclasses.replace(TINY, **change), Group())
        assert made.streams("generator")["pairs"].unit == unit
    with pytest.raises(ValueError, match="--batch 3: codes are swapped in pairs, give an even number"):
        step.check(dataclasses.replace(TINY, batch=3, cycle_gan_weight=1.0), None)


def test_a_variational_encoder_is_used_by_its_mean() -> None:
    plain, vae = family(), family(vae=True)
    y = pairs()["target"]
    mean, logvar = vae.encoder.moments(y)
    assert torch.equal(vae.codes(y), mean.detach())
    assert torch.equal(plain.codes(y), (mean + torch.exp(logvar / 2)).detach())


@pytest.mark.parametrize("vae", [False, True])
def test_the_encoder_s_step_against_plain_autograd(vae: bool) -> None:
    """A variational E draws its codes in its own training too: otherwise nothing would say how far around the mean."""
    own, twin = family(vae=vae, kl_weight=0.3), family(vae=vae, kl_weight=0.3)
    names = ("anchor", "positive", "negative")
    batch = {n: torch.rand(2, 3, 16, 16, generator=seeded(n)).double() * 2 - 1 for n in names}
    live, codes, kl = Live(seeded(0, "encoder", 8), Group()), [], []
    for name in names:
        mean, logvar = twin.encoder.moments(batch[name])
        codes.append(mean + torch.exp(logvar / 2) * (live.rows((2, 8)).double() if vae else 1))
        kl.append(0.5 * (mean**2 + logvar.exp() - 1 - logvar).sum(1))
    a, p, n = codes
    triplet = ((a - p).square().sum(1) - (a - n).square().sum(1) + TINY.margin).clamp(min=0).mean()
    loss = triplet + TINY.code_weight * sum(z.square().mean() for z in codes) + 0.3 * torch.cat(kl).mean()
    grads = torch.autograd.grad(loss, list(twin.encoder.parameters()))
    seen: list[Tensor] = []
    own.enter("encoder")
    own._step = lambda moves, rate: seen.extend(moves["main"][1])  # type: ignore[method-assign]
    got = own.update(lambda stream: batch, 8)
    assert float(got["loss"]) == pytest.approx(float(loss.detach()), rel=1e-10)
    for mine, theirs in zip(seen, grads, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-8, atol=1e-11)
    assert max(float(g.abs().max()) for g in seen) > 0


def test_without_its_encoder_the_finetune_stage_is_the_generator_stage() -> None:
    """But for its own random numbers, which this recipe draws none of."""
    lengths = {"images": 8, "constant": 2}
    for stage, other in (("generator", "finetune"), ("finetune", "generator")):
        own = {f"{stage}_{name}": value for name, value in lengths.items()}
        others = {f"{other}_{name}": 10 * value for name, value in lengths.items()}
        made = family(finetune_encoder=False, **own, **others)
        before = [p.clone() for p in made.encoder.parameters()]
        made.enter(stage)
        for images in (0, 4):
            got = made.update(pairs, images)
        assert all(torch.equal(p, q) for p, q in zip(made.encoder.parameters(), before, strict=True))
        weights = torch.cat([p.flatten() for p in made.generator.parameters()])
        if stage == "generator":
            first, rate = weights, float(got["rate"])
    assert torch.equal(weights, first) and float(got["rate"]) == rate < made.recipe.rate
