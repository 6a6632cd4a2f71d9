"""StEP's losses against loops, its stages' steps, its state, and what it answers."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from models import step
from models.common.seeds import seeded
from models.common.vgg import VGG
from models.family import Batch, Table
from models.group import Group
from models.step import StEP
from models.step.losses import code_penalty, discriminator_loss, generator_loss, linear_decay, mapper_loss, triplet_loss
from models.step.training import codes_found

TINY = step.PRESETS["tiny"]
CODES = 18


def family(**change: Any) -> StEP:
    recipe = dataclasses.replace(TINY, **change)
    return step.build(recipe, Group(), VGG("vgg19", recipe.perceptual_layers).random(0))


def nearest(queries: Tensor, pool: Tensor) -> Tensor:
    return torch.cdist(queries.double(), pool.double()).argmin(1)


def no_draw(stream: str) -> Batch:
    raise AssertionError("the mapper draws nothing while it matches")


def table() -> Table:
    return {"code": torch.randn(CODES, 8, generator=seeded("codes")) * 0.3 + 1}


class Data:
    """Draws by number: the same data set for every run that counts the same draws."""

    def __init__(self, count: int = 0) -> None:
        self.count = count

    def __call__(self, stream: str) -> Batch:
        self.count += 1
        generator = seeded(stream, self.count)

        def pictures() -> Tensor:
            flat = torch.rand(4, 3, 1, 1, generator=generator) * 2 - 1
            return (flat + 0.3 * torch.randn(4, 3, 16, 16, generator=generator)).clamp(-1, 1)

        if stream == "triplets":
            return {"anchor": pictures(), "positive": pictures(), "negative": pictures()}
        if stream == "codes":
            index = torch.randint(0, CODES, (4,), generator=generator)
            return {"code": table()["code"][index], "row": index}
        return {"input": pictures(), "target": pictures()}


# Losses --------------------------------------------------------------------------------------------------------------


def check_triplet(loss: Callable[[Tensor, Tensor, Tensor, float], Tensor]) -> None:
    a, p, n = (torch.randn(12, 8, generator=seeded(i), dtype=torch.float64) * 0.2 for i in range(3))
    total = 0.0
    for i in range(12):
        near = sum(float(a[i, d] - p[i, d]) ** 2 for d in range(8))
        far = sum(float(a[i, d] - n[i, d]) ** 2 for d in range(8))
        total += max(near - far + 0.1, 0.0)
    assert total > 0
    assert float(loss(a, p, n, 0.1)) == pytest.approx(total / 12, rel=1e-12)


def test_triplet_loss() -> None:
    check_triplet(triplet_loss)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda a, p, n, m: torch.relu((a - p).norm(dim=1) - (a - n).norm(dim=1) + m).mean(),  # rooted
        lambda a, p, n, m: ((a - p).square().sum(1) - (a - n).square().sum(1) + m).mean(),  # no hinge
        lambda a, p, n, m: torch.relu((a - p).square().mean(1) - (a - n).square().mean(1) + m).mean(),  # mean over d
        lambda a, p, n, m: torch.relu((a - n).square().sum(1) - (a - p).square().sum(1) + m).mean(),  # swapped
        lambda a, p, n, m: torch.relu((a - p).square().sum(1) - (a - n).square().sum(1) + m).sum(),  # sum over batch
    ],
)
def test_the_check_sees_wrong_triplet_losses(wrong: Callable[[Tensor, Tensor, Tensor, float], Tensor]) -> None:
    with pytest.raises(AssertionError):
        check_triplet(wrong)


def test_code_penalty_and_mapper_loss() -> None:
    a, b = (torch.randn(5, 8, generator=seeded(i), dtype=torch.float64) for i in range(2))
    wanted = sum(v * v for v in a.reshape(-1).tolist()) / 40 + sum(v * v for v in b.reshape(-1).tolist()) / 40
    assert float(code_penalty(a, b)) == pytest.approx(wanted, rel=1e-12)
    squares = sum((x - y) ** 2 for x, y in zip(a.reshape(-1).tolist(), b.reshape(-1).tolist(), strict=True))
    assert float(mapper_loss(a, b)) == pytest.approx(squares / 2, rel=1e-12)


@pytest.mark.parametrize(
    ("images", "wanted"),
    [(0, 1), (150_000, 1), (200_000, 1 - 50 / 110), (250_000, 1 - 100 / 110), (300_000, 1 - 100 / 110)],
)
def test_linear_decay(images: int, wanted: float) -> None:
    assert linear_decay(images, 150_000, 250_000, 1.1) == pytest.approx(wanted, rel=1e-12)


# Steps ---------------------------------------------------------------------------------------------------------------


def test_encoder_step_is_adam_on_the_stated_loss() -> None:
    own, data = family(), Data()
    twin = family().encoder
    batch = Data()("triplets")
    a, p, n = (twin(batch[k]) for k in ("anchor", "positive", "negative"))
    loss = triplet_loss(a, p, n, 0.1) + 0.01 * code_penalty(a, p, n)
    adam = torch.optim.Adam(twin.parameters(), lr=1e-3, betas=(0.0, 0.99), eps=1e-8)
    loss.backward()
    adam.step()
    own.enter("encoder")
    got = own.update(data, 0)
    assert got["loss"] == pytest.approx(float(loss.detach()), rel=1e-6)
    for mine, theirs in zip(own.encoder.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=2e-5)
    averaged = own.average_encoder.net.parameters()
    assert all(torch.equal(x, y) for x, y in zip(own.encoder.parameters(), averaged, strict=True))


@pytest.mark.parametrize("stage", ["generator", "finetune"])
def test_generator_step_against_separate_passes(stage: str) -> None:
    """Plain autograd on each full loss by itself, from the same weights: gradients of both come before either step."""
    own, twin = family().double(), family().double()
    data = Data()
    for model in (own, twin):
        model.perceptual.factors.fill_(3.0)
    batch = {k: v.double() for k, v in Data()("pairs").items()}

    x, y = batch["input"], batch["target"]
    z = twin.encoder(y)
    if stage == "generator":
        z = z.detach()
    fake = twin.generator(x, z)
    d_loss = discriminator_loss(twin.discriminator(y, x, Group()), twin.discriminator(fake.detach(), x, Group()))
    g_gan = generator_loss(twin.discriminator(fake, x, Group()))
    g_loss = g_gan + 0.02 * twin.perceptual(fake, y) + 0.01 * z.square().mean()
    trained = [*twin.generator.parameters(), *(twin.encoder.parameters() if stage == "finetune" else ())]
    grads = torch.autograd.grad(g_loss, trained)
    d_grads = torch.autograd.grad(d_loss, list(twin.discriminator.parameters()))

    seen: dict[str, list[Tensor]] = {}
    own.enter(stage)
    step_of = own._step

    def listen(moves: Any, rate: float) -> None:
        seen.update({name: [g.clone() for g in gradients] for name, (_, gradients) in moves.items()})
        step_of(moves, rate)

    own._step = listen  # type: ignore[method-assign]
    frozen = [p.clone() for p in own.encoder.parameters()]
    got = own.update(lambda name: {k: v.double() for k, v in data(name).items()}, 0)
    assert got["loss"] == pytest.approx(float(g_loss.detach()), rel=1e-12)
    assert got["discriminator"] == pytest.approx(float(d_loss.detach()), rel=1e-12)
    for mine, theirs in zip(seen["main"], grads, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-12)
    for mine, theirs in zip(seen["discriminator"], d_grads, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-12)
    still = all(torch.equal(a, b) for a, b in zip(frozen, own.encoder.parameters(), strict=True))
    assert still == (stage == "generator")
    by_gan = torch.autograd.grad(generator_loss(twin.discriminator(fake, x, Group())), fake, retain_graph=True)[0]
    by_perceptual = torch.autograd.grad(0.02 * twin.perceptual(fake, y), fake)[0]
    assert got["perceptual_to_gan_gradient"] == pytest.approx(float(by_perceptual.norm() / by_gan.norm()), rel=1e-9)


def test_perceptual_factors_come_from_random_training_pairs() -> None:
    own, data = family(perceptual_pairs=8), Data()
    own.enter("generator")
    scalars = own.update(data, 0)
    a, b, c = (Data(i)("pairs")["target"] for i in range(3))
    pairs = torch.cat([own.perceptual.distances(a, b), own.perceptual.distances(b, c)])
    assert data.count == 4  # three draws for eight pairs, one for the step
    factor = own.perceptual_card()["relu1_2"]
    assert float(pairs.mean()) * factor == pytest.approx(TINY.perceptual_value, rel=1e-5)
    assert scalars["perceptual_factor_relu1_2"] == pytest.approx(factor)
    own.update(data, 4)
    assert data.count == 5 and own.perceptual_card()["relu1_2"] == factor


def test_learning_rates() -> None:
    own = family(generator_images=100, generator_constant=60, finetune_images=100, finetune_constant=20)
    own.adopt("finetune", table())
    data = Data()
    for stage, images, wanted in [
        ("generator", 60, 1e-3),
        ("generator", 82, 1e-3 * 0.5),
        ("finetune", 20, 1e-3),
        ("finetune", 64, 1e-3 * 0.5),
        ("mapper", 16 * 49, 1e-2),
        ("mapper", 16 * 50, 0.7e-2),
        ("mapper", 16 * 100, 0.49e-2),
    ]:
        own.enter(stage)
        if stage == "mapper":
            own.refresh(no_draw, {"finetune": table()}, nearest, 0)
        assert own.update(data, images)["rate"] == pytest.approx(wanted, rel=1e-9), (stage, images)
        assert all(o.param_groups[0]["lr"] == pytest.approx(wanted) for o in own.optimisers.values())


@pytest.mark.parametrize(
    ("stage", "moving", "decay"), [("encoder", "e", 0.0), ("generator", "g", 0.999), ("finetune", "ge", 0.999)]
)
def test_averages_follow_the_steps(stage: str, moving: str, decay: float) -> None:
    """In stage encoder the average is E itself."""
    own, data = family(), Data()
    nets = {"g": (own.generator, own.average_generator.net), "e": (own.encoder, own.average_encoder.net)}
    before = {name: [p.clone() for p in average.parameters()] for name, (_, average) in nets.items()}
    own.enter(stage)
    own.update(data, 0)
    for name, (raw, average) in nets.items():
        moved = 0.0
        for was, now, weight in zip(before[name], average.parameters(), raw.parameters(), strict=True):
            wanted = decay * was + (1 - decay) * weight.detach()
            torch.testing.assert_close(now, wanted, rtol=1e-5, atol=1e-8)
            moved += float((weight.detach() - was).abs().sum())
        assert (moved > 0) == (name in moving)


# Mapper --------------------------------------------------------------------------------------------------------------


def test_matches_are_the_nearest_mapped_noise() -> None:
    own = family()
    own.adopt("finetune", table())
    own.enter("mapper")
    own.refresh(no_draw, {"finetune": table()}, nearest, 40)
    generator = seeded(0, "mapper", 40)
    noise = torch.randn(10 * CODES, 8, generator=generator)
    moved = 0.01 * torch.randn(CODES, 8, generator=generator)
    mapped = own.mapper(noise).detach().numpy()
    for i, code in enumerate(table()["code"].numpy()):  # for each code the nearest sample, not the other way round
        best = min(range(10 * CODES), key=lambda j: float(((mapped[j] - code) ** 2).sum()))
        assert own.matched is not None
        torch.testing.assert_close(own.matched[i], noise[best] + moved[i])
    first = own.matched
    own.refresh(no_draw, {"finetune": table()}, nearest, 60)
    assert not torch.equal(first, own.matched)


def test_mapper_stage_counts_epochs_of_whole_batches() -> None:
    own = family()
    assert own.stages[3].images == 0
    own.adopt("finetune", table())
    stage = own.stages[3]  # 18 codes, batch 4: 4 steps an epoch
    assert (stage.images, stage.batch, stage.refresh_every) == (10 * 16, 4, 20)
    few = family(mapper_batch=64)
    few.adopt("finetune", table())
    assert few.stages[3].batch == CODES and few.streams("mapper")["codes"].batch == CODES


def test_mapper_learns_the_codes() -> None:
    own, data = family(), Data()
    own.adopt("finetune", table())
    own.enter("mapper")
    losses = []
    for i in range(200):
        if i % 20 == 0:
            own.refresh(no_draw, {"finetune": table()}, nearest, i)
        losses.append(own.update(data, 4 * i)["loss"])
    assert np.mean(losses[-20:]) < 0.25 * np.mean(losses[:5])


def test_gaussian_has_the_codes_mean_and_covariance() -> None:
    own = family()
    codes = table()["code"] @ torch.randn(8, 8, generator=seeded("mix"))
    own.adopt("finetune", {"code": codes})
    torch.testing.assert_close(own.code_factor @ own.code_factor.T, torch.cov(codes.T), rtol=1e-4, atol=1e-5)
    drawn = own.draw_codes(40_000, seeded(5), "gaussian")
    scale = float(torch.cov(codes.T).diagonal().max())
    assert float((drawn.mean(0) - codes.mean(0)).abs().max()) < 0.03 * scale**0.5
    assert float((torch.cov(drawn.T) - torch.cov(codes.T)).abs().max()) < 0.03 * scale


def test_refusals() -> None:
    own = family()
    with pytest.raises(ValueError, match="no codes yet"):
        own.sample({"input": torch.zeros(1, 3, 16, 16)}, 1, seeded(0))
    own.adopt("finetune", table())
    with pytest.raises(ValueError, match="--sampler uniform"):
        own.draw_codes(1, seeded(0), "uniform")
    with pytest.raises(ValueError, match="no stage 'joint'"):
        own.enter("joint")
    own.enter("mapper")
    with pytest.raises(ValueError, match="refresh"):
        own.update(Data(), 0)
    with pytest.raises(ValueError, match="harvests"):
        own.refresh(no_draw, {}, nearest, 0)
    with pytest.raises(ValueError, match="at least 2"):
        own.adopt("finetune", {"code": torch.zeros(1, 8)})


# State, answers ------------------------------------------------------------------------------------------------------


def run(own: StEP, data: Data, stage: str, start: int, steps: int) -> None:
    for i in range(start, start + steps):
        if stage == "mapper" and i % 4 == 0:
            own.refresh(no_draw, {"finetune": table()}, nearest, i)
        own.update(data, i * 4)


@pytest.mark.parametrize("stage", ["encoder", "generator", "finetune", "mapper"])
@pytest.mark.parametrize("weights_first", [False, True])
def test_three_steps_saved_and_three_more_are_six(stage: str, weights_first: bool, tmp_path: Any) -> None:
    whole, data = family(), Data()
    whole.adopt("finetune", table())
    whole.enter(stage)
    run(whole, data, stage, 0, 6)

    half, data = family(), Data()
    half.adopt("finetune", table())
    half.enter(stage)
    run(half, data, stage, 0, 3)
    torch.save([half.state_dict(), half.training_state()], tmp_path / "state.pt")
    weights, training = torch.load(tmp_path / "state.pt", weights_only=True)
    rest, data = family(), Data(data.count)
    if weights_first:
        rest.load_state_dict(weights)
    rest.enter(stage)
    if not weights_first:
        rest.load_state_dict(weights)
    rest.load_training_state(training)
    run(rest, data, stage, 3, 3)

    a, b = whole.state_dict(), rest.state_dict()
    assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
    x, y = whole.training_state()["adam"], rest.training_state()["adam"]
    assert all(torch.equal(v, y[n][i][k]) for n in x for i in x[n] for k, v in x[n][i].items())


def test_stages_start_from_the_raw_weights() -> None:
    own, data = family(), Data()
    own.enter("generator")
    run(own, data, "generator", 0, 2)
    before = {k: v.clone() for k, v in own.state_dict().items()}
    own.enter("finetune")
    assert all(torch.equal(v, before[k]) for k, v in own.state_dict().items())
    assert not own.optimisers["main"].state and not own.optimisers["discriminator"].state


def test_harvest_and_answers() -> None:
    own, data = family(), Data()
    batches = [data("pairs") for _ in range(3)]
    assert own.harvest("generator", batches) is None
    harvested = own.harvest("finetune", batches)
    assert harvested is not None and harvested["code"].shape == (12, 8)
    torch.testing.assert_close(harvested["code"][4:8], own.codes(batches[1]["target"]))
    own.adopt("finetune", harvested)
    x, y = {"input": batches[0]["input"]}, batches[0]["target"]
    torch.testing.assert_close(own.generate(x, own.codes(y)), own.reconstruct(batches[0]))
    for sampler in ("", "mapper", "gaussian"):
        drawn = own.sample(x, 3, seeded(1), sampler)
        assert drawn.shape == (4, 3, 3, 16, 16) and float(drawn.abs().max()) <= 1
        codes = own.draw_codes(12, seeded(1), sampler)
        torch.testing.assert_close(
            drawn[2, 1], own.generate({"input": x["input"][2:3]}, codes[7:8])[0], atol=1e-4, rtol=0
        )
    assert not torch.equal(own.sample(x, 1, seeded(1)), own.sample(x, 1, seeded(1), "gaussian"))
    own.enter("encoder")
    assert own.evaluate(batches[0]) == {} and own.preview(batches[0], seeded(1)) == {}
    own.enter("generator")
    assert own.evaluate(batches[0]).keys() == {"l1", "own_code_wins", "code_found"}
    own.update(data, 0)
    assert "perceptual" in own.evaluate(batches[0])
    shown = own.preview(batches[0], seeded(1))
    assert list(shown) == ["input", "truth", "own code", *(f"code of row {i}" for i in range(1, 5))]
    torch.testing.assert_close(shown["code of row 2"][1], shown["own code"][1])
    own.enter("mapper")
    shown = own.preview(batches[0], seeded(1))
    torch.testing.assert_close(shown["sample 3"], own.sample(x, 4, seeded(1))[:, 2])


def test_codes_found_counts_exact_answers() -> None:
    wanted = torch.randn(12, 8, generator=seeded(0))
    assert codes_found(wanted, wanted) == 1.0
    assert codes_found(wanted.roll(-1, 0), wanted) == 0.0
    by_chance = np.mean(
        [codes_found(torch.randn(50, 8, generator=seeded(i)), wanted.repeat(5, 1)[:50]) for i in range(5)]
    )
    assert by_chance < 0.4


def test_all_presets_build() -> None:
    for name, recipe in step.PRESETS.items():
        assert step.build(recipe, Group()).stages[0].name == "encoder", name
