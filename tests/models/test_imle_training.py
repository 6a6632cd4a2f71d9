"""Conditional IMLE's distance and search against loops, its steps, its workers."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from models import imle
from models.common.seeds import seeded
from models.common.vgg import VGG
from models.family import Batch, Table
from models.group import Group
from models.imle import IMLE, noise_seed
from models.imle.distance import MaskedDistance
from tests.ranks import on_two_ranks

TINY = imle.PRESETS["tiny"]
LAYERS = ("relu1_2", "relu2_1")


def family(group: Group | None = None, **change: Any) -> IMLE:
    own = imle.build(dataclasses.replace(TINY, **change), group or Group())
    own.enter("imle")
    return own


def no_match(queries: Tensor, pool: Tensor) -> Tensor:
    raise AssertionError("the conditional search needs no index")


class Data:
    """Ten pairs; draws count, and a rank gets its share of each."""

    def __init__(self, rank: int = 0, world: int = 1, batch: int = 4) -> None:
        self.rank, self.world, self.batch, self.count = rank, world, batch, 0
        self.tables: dict[str, Table] = {}
        flat = torch.rand(2, 10, 3, 1, 1, generator=seeded("data"), dtype=torch.float64) * 2 - 1
        self.input, self.target = flat + 0.1 * torch.randn(2, 10, 3, 16, 16, generator=seeded("n"), dtype=torch.float64)

    def __call__(self, stream: str) -> Batch:
        self.count += 1
        generator = seeded(stream, self.count)
        part = self.batch // self.world
        mine = slice(self.rank * part, (self.rank + 1) * part)
        table = self.tables.get("imle") if stream == "pairs" else None
        count = len(table["index"]) if table else 10
        rows = torch.randint(0, count, (self.batch,), generator=generator)[mine]
        index = table["index"][rows] if table else rows
        crop = torch.tensor([1.0, 0.5, 0.5], dtype=torch.float64).expand(len(index), 3)
        extra = {"row": rows, **{k: v[rows] for k, v in table.items()}} if table else {}
        pictures = {"input": self.input[index], "target": self.target[index]}
        return {"index": index, "crop": crop, **extra, **{k: v.to(self.kind) for k, v in pictures.items()}}

    kind = torch.float32


# The distance --------------------------------------------------------------------------------------------------------


def test_distance_against_a_loop() -> None:
    vgg = VGG("vgg19", LAYERS, pooling="average").random(0)
    distance = MaskedDistance(vgg, LAYERS, paper=False)
    distance.factors.copy_(torch.tensor([0.5, 2.0, 3.0]))
    x, y = (torch.rand(2, 3, 8, 16, generator=seeded(k)) * 2 - 1 for k in (0, 1))
    mask = torch.rand(2, 1, 8, 16, generator=seeded(2))
    got = distance.total(distance.features(x), distance.features(y), mask)
    for i in range(2):
        wanted = 0.0
        sides = {"pixels": 1, "relu1_2": 1, "relu2_1": 2}
        layers = [("pixels", 127.5 * x, 127.5 * y)] + [(n, vgg(x)[n], vgg(y)[n]) for n in LAYERS]
        for factor, (name, a, b) in zip((0.5, 2.0, 3.0), layers, strict=True):
            side, total = sides[name], 0.0
            c, h, w = a.shape[1:]
            for row in range(h):
                for column in range(w):
                    block = mask[i, 0, side * row : side * row + side, side * column : side * column + side]
                    apart = (a[i, :, row, column] - b[i, :, row, column]).abs().double().sum()
                    total += float(block.double().mean()) * float(apart)
            wanted += factor * total / (c * h * w)  # over all elements, not over the mask's sum
        assert float(got[i]) == pytest.approx(wanted, rel=1e-5)


def test_distances_are_summed_in_full_precision_under_autocast() -> None:
    distance = MaskedDistance(VGG("vgg19", LAYERS).random(0), LAYERS, paper=False)
    distance.factors.copy_(torch.tensor([0.5, 2.0, 3.0]))
    got, wanted = (distance.features(torch.rand(3, 3, 8, 8, generator=seeded(k)) * 2 - 1) for k in (0, 1))
    sketches = [distance.sketch(features, 60) for features in (got, wanted)]
    plain = distance.total(got, wanted), distance.sketched(*sketches)
    with torch.autocast("cpu", torch.bfloat16):
        for a, b in zip(plain, (distance.total(got, wanted), distance.sketched(*sketches)), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-6, atol=0)


def test_sketches_of_as_many_numbers_as_features_keep_the_masked_distance() -> None:
    distance = MaskedDistance(VGG("vgg19", LAYERS).random(0), LAYERS, paper=False)
    distance.factors.copy_(torch.tensor([0.5, 2.0, 3.0]))
    got, wanted = (distance.features(torch.rand(2, 3, 8, 16, generator=seeded(k)) * 2 - 1) for k in (0, 1))
    mask = torch.rand(2, 1, 8, 16, generator=seeded(2))
    numbers = 3 * max(layer[0].numel() for layer in got)  # each feature has an entry of its own
    found = distance.sketched(distance.sketch(got, numbers, mask), distance.sketch(wanted, numbers, mask))
    small = mask.view(2, 1, 4, 2, 8, 2).mean((3, 5))
    total = torch.zeros(2)
    for factor, a, b, m in zip((0.5, 2.0, 3.0), got, wanted, (mask, mask, small), strict=True):
        total += factor * (m * (a - b)).square().mean((1, 2, 3)).sqrt()
    torch.testing.assert_close(found, total, rtol=1e-5, atol=0)


def test_no_gradient_reaches_the_picture_compared_with() -> None:
    distance = MaskedDistance(None, (), paper=False)
    x, y = (torch.rand(2, 3, 8, 8, generator=seeded(k)).requires_grad_() for k in (0, 1))
    distance.distances(x, y).sum().backward()
    assert x.grad is not None and y.grad is None


def test_papers_factors_and_calibrated_ones() -> None:
    paper = MaskedDistance(None, ("relu1_2", "relu2_2", "relu3_2", "relu4_2", "relu5_2"), paper=True)
    assert paper.calibrated
    assert paper.factors.tolist() == pytest.approx([1, 1 / 1.4, 1 / 1.8, 1 / 1.3, 1 / 2.2, 16.129], rel=1e-4)
    own = MaskedDistance(VGG("vgg19", LAYERS).random(0), LAYERS, paper=False)
    assert not own.calibrated
    x, y = (torch.rand(6, 3, 8, 8, generator=seeded(k)) * 2 - 1 for k in (0, 1))
    own.calibrate(own.distances(x, y), 1.0)
    assert (own.distances(x, y).mean(0) * own.factors).tolist() == pytest.approx([1.0, 1.0, 1.0], rel=1e-5)


# The search ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("search_batch", [1, 3, 4, 9])
def test_search_against_a_double_loop(search_batch: int) -> None:
    own, data = family(samples=9, search_batch=search_batch), Data()
    batch = data("set")
    seeds = [noise_seed(0, 20, i) for i in batch["index"].tolist()]
    found = own.search(batch, seeds)
    for i, seed in enumerate(seeds):
        distances = []
        for candidate in range(9):
            z = torch.randn(2, 16, 16, generator=seeded(seed, candidate))[None]
            x = batch["input"][i : i + 1]
            with torch.no_grad():
                fake = own.generator(x, own.encoder(x, z))
            distances.append(float((127.5 * (fake - batch["target"][i : i + 1])).abs().double().mean()))
        assert int(found["candidate"][i]) == min(range(9), key=lambda j: distances[j])
        assert float(found["distance"][i]) == pytest.approx(min(distances), rel=1e-5)
        assert found["runners_up"][i].tolist() == pytest.approx(sorted(distances)[1:5], rel=1e-5)


def test_search_computes_a_targets_features_once_and_keeps_no_losers(monkeypatch: pytest.MonkeyPatch) -> None:
    own, data = family(samples=12, search_batch=3), Data()
    batch, calls = data("set"), []
    features = MaskedDistance.features
    monkeypatch.setattr(MaskedDistance, "features", lambda self, x: calls.append(len(x)) or features(self, x))
    own.search({k: v[:2] for k, v in batch.items()}, [1, 2])
    assert calls == [1, 3, 3, 3, 3] * 2


def test_search_ties_missing_runners_up_and_not_a_number() -> None:
    own, data = family(samples=3), Data()
    batch = data("set")
    with torch.no_grad():
        own.generator.rgb.weight.zero_()
        found = own.search(batch, [5] * 4)
        assert found["candidate"].tolist() == [[0]] * 4  # all alike: the first
        assert found["runners_up"][:, 2:].isinf().all() and found["runners_up"][:, :2].isfinite().all()
        own.generator.rgb.weight.fill_(float("nan"))
        with pytest.raises(FloatingPointError, match="candidate 0 of seed 5"):
            own.search(batch, [5] * 4)


def test_refresh_gives_a_pair_that_comes_twice_other_candidates() -> None:
    own, data = family(set_size=12), Data()
    table = own.refresh(data, {}, no_match, 40)
    assert len(table["index"]) == 12 and data.count == 3
    seen: dict[int, int] = {}
    for index, seed in zip(table["index"].tolist(), table["seed"].tolist(), strict=True):
        assert seed == noise_seed(0, 40, index, seen.get(index, 0))
        seen[index] = seen.get(index, 0) + 1
    assert max(seen.values()) > 1 and len(set(table["seed"].tolist())) == 12


def measured(own: IMLE, batch: Batch, i: int, seed: int, candidate: int) -> float:
    """The distance of one candidate, by the plainest way."""
    z = torch.randn(2, 16, 16, generator=seeded(seed, candidate))[None]
    with torch.no_grad():
        x = batch["input"][i : i + 1]
        fake = own.generator(x, own.encoder(x, z))
    return float((127.5 * (fake - batch["target"][i : i + 1])).abs().double().mean())


def test_rejection_against_a_loop() -> None:
    """Each pair's nearest candidate at epsilon or beyond; where all are nearer, the furthest, and the count says so."""
    data = Data()
    batch = data("set")
    every = [[measured(family(), batch, i, 7, c) for c in range(9)] for i in range(4)]
    epsilon = sum(sorted(every[0])[2:4]) / 2
    found = family(samples=9, epsilon=epsilon).search(batch, [7] * 4)
    kinds = set()
    for i, distances in enumerate(every):
        allowed = sorted(d for d in distances if d >= epsilon)
        wanted = allowed[0] if allowed else max(distances)
        assert float(found["distance"][i]) == pytest.approx(wanted, rel=1e-5)
        assert int(found["candidate"][i, 0]) == distances.index(wanted)
        assert int(found["rejected"][i]) == 9 - len(allowed)
        assert int(found["all_rejected"][i]) == (not allowed)
        following = [*allowed[1:5], *[float("inf")] * 4][:4]
        assert found["runners_up"][i].tolist() == pytest.approx(following, rel=1e-5)
        kinds.add("all" if not allowed else "some" if len(allowed) < 9 else "none")
    assert kinds == {"all", "some"}
    everything = family(samples=9, epsilon=1e6).search(batch, [7] * 4)
    assert everything["candidate"][:, 0].tolist() == [d.index(max(d)) for d in every]
    assert everything["rejected"].tolist() == [9] * 4 and everything["runners_up"].isinf().all()
    assert family(samples=9).search(batch, [7] * 4)["rejected"].tolist() == [0] * 4


def test_rejection_is_counted_in_the_log() -> None:
    own, data = family(epsilon=1e6), Data()
    data.tables["imle"] = own.refresh(data, {}, no_match, 0)
    logged = own.update(data, 0)
    assert (logged["rejected"], logged["all_rejected"]) == (TINY.samples, 1.0)
    # Between two searches a sample comes nearer than epsilon: that is no rejection.
    own, data = family(epsilon=1e-3, adaptive_gamma=0.5), Rows()
    data.tables["imle"] = own.refresh(data, {}, no_match, 0)
    data.tables["imle"]["distance"].fill_(0)
    assert own.update(data, 0)["all_rejected"] == 0


def test_identical_targets_and_candidates_find_the_first() -> None:
    own, data = family(samples=6), Data()
    batch = data("set")
    batch["input"], batch["target"] = (batch[name][:1].expand(4, -1, -1, -1) for name in ("input", "target"))
    found = own.search(batch, [3] * 4)
    for name, column in found.items():
        assert (column == column[:1]).all(), name
    assert float(found["distance"].max()) < float(found["runners_up"].min())


@pytest.mark.parametrize("rerank", [1, 3, 12])
def test_projected_search_measures_what_it_nominates(rerank: int) -> None:
    """It decides by exact distances among the `rerank` nearest sketches; all nominated: the exact search's choice."""
    data = Data()
    batch = data("set")
    own = family(samples=12, search="projected", rerank=rerank, projection=600, search_batch=5)
    found, exact = own.search(batch, [2] * 4), family(samples=12).search(batch, [2] * 4)
    for i in range(4):
        each = [measured(own, batch, i, 2, c) for c in range(12)]
        chosen = int(found["candidate"][i, 0])
        assert float(found["distance"][i]) == pytest.approx(each[chosen], rel=1e-5)
        assert int(found["runners_up"][i].isfinite().sum()) == min(4, rerank - 1)
        assert each[chosen] <= sorted(each)[12 - rerank] * (1 + 1e-6)
    if rerank == 12:
        assert torch.equal(found["candidate"], exact["candidate"])
    if rerank == 3:  # a sketch of 600 numbers ranks as the whole does, nearly: chance would miss half
        assert float((found["distance"] / exact["distance"]).max()) < 1.02


def test_projected_search_goes_on_where_all_nominated_are_rejected() -> None:
    batch = Data()("set")
    every = sorted(measured(family(), batch, 0, 7, c) for c in range(12))
    one = {name: value[:1] for name, value in batch.items()}
    own = family(samples=12, search="projected", rerank=2, projection=600, epsilon=(every[5] + every[6]) / 2)
    assert float(own.search(one, [7])["distance"]) >= own.recipe.epsilon
    all_rejected = family(samples=12, search="projected", rerank=5, epsilon=1e6).search(one, [7])
    assert float(all_rejected["distance"]) == pytest.approx(every[-1], rel=1e-5) and int(all_rejected["rejected"]) == 12


LEVELS: dict[str, Any] = {"level_samples": (5, 3, 4), "noise_encoder": False}


def test_levels_are_searched_one_after_the_other() -> None:
    """Against a greedy loop over whole pictures; 12 partial ones stand for 60."""
    own, data = family(**LEVELS, search_batch=2), Data()
    batch = data("set")
    found = own.search(batch, [11, 12, 13, 14])
    refined: list[int] = []
    for number, level in enumerate(own.generator.levels):
        level.register_forward_pre_hook(lambda _, given, n=number: refined.extend([n] * len(given[0])))
    own.search(batch, [11, 12, 13, 14])
    assert [refined.count(n) for n in range(3)] == [4 * 5, 4 * 3, 4 * 4]  # each candidate costs its own level alone
    for i, seed in enumerate((11, 12, 13, 14)):
        chosen = [0, 0, 0]
        for level, count in enumerate((5, 3, 4)):
            side = 4 << level
            wanted = torch.nn.functional.adaptive_avg_pool2d(batch["target"][i : i + 1], side)
            distances = []
            for candidate in range(count):
                trial = torch.tensor([[*chosen[:level], candidate, *chosen[level + 1 :]]])
                z = own.noise(torch.tensor([seed]), trial, (16, 16))
                assert [tuple(one.shape) for one in z] == [(1, 2, 4, 4), (1, 2, 8, 8), (1, 2, 16, 16)]
                with torch.no_grad():
                    fake = own.pictures(batch["input"][i : i + 1], z)[level]
                distances.append(float((127.5 * (fake - wanted)).abs().double().mean()))
            chosen[level] = min(range(count), key=lambda j: distances[j])
        assert found["candidate"][i].tolist() == chosen
        assert float(found["distance"][i]) == pytest.approx(min(distances), rel=1e-5)
        assert found["runners_up"][i, :3].tolist() == pytest.approx(sorted(distances)[1:], rel=1e-5)
    with pytest.raises(ValueError, match="--samples 3: this run searches level by level"):
        own.search(batch, [1] * 4, 3)


def test_levels_train_and_sample() -> None:
    """A step's loss is the sum of the levels' distances, each of its own picture; each level's noise shows."""
    own, data = family(**LEVELS), Data()
    data.tables["imle"] = own.refresh(data, {}, no_match, 0)
    count = data.count
    rows = data("pairs")
    data.count = count
    with torch.no_grad():
        fakes = own.pictures(rows["input"], own.noise(rows["seed"], rows["candidate"], (16, 16)))
    apart = [
        127.5 * (fake - torch.nn.functional.adaptive_avg_pool2d(rows["target"], 4 << level)).abs().mean()
        for level, fake in enumerate(fakes)
    ]
    assert own.update(data, 0)["loss"] == pytest.approx(float(sum(apart)), rel=1e-5)
    assert float(apart[-1]) == pytest.approx(float(rows["distance"].mean()), rel=1e-5)
    assert all(p.grad is None for p in own.encoder.parameters())
    x = rows["input"][:1]
    base = own.noise(torch.tensor([1]), torch.tensor([[0, 0, 0]]), (16, 16))
    for level in range(3):
        other = own.noise(torch.tensor([1]), torch.tensor([[int(level == k) for k in range(3)]]), (16, 16))
        assert [not torch.equal(a, b) for a, b in zip(base, other, strict=True)] == [level == k for k in range(3)]
        assert not torch.equal(own.picture(x, base), own.picture(x, other))
    drawn = own.sample(rows, 2, seeded(1))
    assert drawn.shape == (4, 2, 3, 16, 16) and not torch.equal(drawn[:, 0], drawn[:, 1])


def test_preset_chimle_has_430_partial_pictures() -> None:
    recipe = imle.PRESETS["chimle"]
    imle.check(recipe, None)
    assert sum(recipe.level_samples) == 430
    with torch.device("meta"):
        own = imle.networks.Generator(12, 5, recipe.widths, torch.Generator(), 4)
    assert [head.weight.shape[1] for head in own.rgb_before] == [1024, 1024, 512]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"level_samples": (3, 0)}, "--level-samples 3 0: at least 1 each"),
        ({"level_samples": (3, 3, 3, 3)}, "at most one for each of the 3 --widths"),
        ({"level_samples": (3, 3)}, "goes with --no-noise-encoder"),
        ({"level_samples": (3, 3), "noise_encoder": False, "epsilon": 1.0}, "--search exact and --epsilon 0"),
        ({"level_samples": (3, 3), "noise_encoder": False, "search": "projected"}, "--search exact"),
        ({**LEVELS, "perceptual_layers": ("relu4_1",)}, "4 pixels, are too small for VGG's block 4"),
        ({"samples": 0}, "--samples 0"),
        ({"noise": 0}, "--noise 0"),
        ({"rerank": 0}, "--rerank 0"),
        ({"epsilon": float("inf")}, "--epsilon inf"),
        ({"adaptive_gamma": 1.0}, "--adaptive-gamma 1.0"),
    ],
)
def test_what_does_not_fit_together_is_refused(change: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        family(**change)


class Rows(Data):
    """The table's rows too, four at a time, in order."""

    at = 0

    def __call__(self, stream: str) -> Batch:
        if stream != "rows":
            return super().__call__(stream)
        table = self.tables["imle"]
        rows = (torch.arange(4) + self.at) % len(table["index"])
        self.at += 4
        index = table["index"][rows]
        found: Batch = {"row": rows, **{k: v[rows] for k, v in table.items()}}
        return {**found, "input": self.input[index].float(), "target": self.target[index].float()}


def test_adaptive_thresholds_against_a_loop() -> None:
    """Distances are set by hand (a shift of all pictures), so that each rule decides somewhere."""
    recipe: dict[str, Any] = {"adaptive_gamma": 0.25, "adaptive_staleness": 2, "adaptive_force": 4, "set_size": 12}
    own, data = family(**recipe), Rows()
    assert list(own.streams("imle")) == ["pairs", "set", "rows"] and own.streams("imle")["rows"].order == "fixed"
    data.tables["imle"] = own.refresh(data, {}, no_match, 0)
    first = data.tables["imle"]
    torch.testing.assert_close(first["threshold"], 0.75 * first["distance"])
    wanted = [
        {name: first[name][i].tolist() for name in ("index", "time", "seed", "candidate", "threshold", "age")}
        for i in range(12)
    ]
    shifts, kinds = (0.6, -1.2, 0.6, 0.6, -0.6, 0.3), set()
    for refresh, shift in enumerate(shifts, 1):
        with torch.no_grad():
            own.generator.rgb.bias += shift
        step = 4 * refresh
        picture: Batch = {"input": data.input.float(), "target": data.target.float()}
        for row in wanted:
            now = measured(own, picture, row["index"], row["seed"], row["candidate"][0])
            row["age"] += 1
            row["distance"] = now
            if row["age"] >= 4 or (row["age"] >= 2 and now < row["threshold"]):
                kinds.add("forced" if row["age"] >= 4 else "near")
                row["seed"] = noise_seed(0, step, row["index"], row["time"])
                each = [measured(own, picture, row["index"], row["seed"], c) for c in range(TINY.samples)]
                row |= {"age": 0, "threshold": 0.75 * now, "distance": min(each), "candidate": [each.index(min(each))]}
            elif now < row["threshold"]:
                kinds.add("too soon")
        data.tables["imle"] = own.refresh(data, data.tables, no_match, step)
        for i, row in enumerate(wanted):
            for name, value in row.items():
                assert data.tables["imle"][name][i].tolist() == pytest.approx(value, rel=1e-4), (refresh, i, name)
    assert kinds == {"forced", "near", "too soon"}
    count = data.count
    wanted_age = float(data("pairs")["age"].double().mean())
    data.count = count
    assert own.update(data, 0)["searches_ago"] == wanted_age
    with pytest.raises(ValueError, match="--matches and --adaptive-gamma"):
        own.take("matches", {})


# Steps ---------------------------------------------------------------------------------------------------------------


def test_training_uses_the_chosen_noise() -> None:
    """The loss of a step is the distance that the search found for its rows: same noise, same distance."""
    own, data = family(), Data()
    data.tables["imle"] = own.refresh(data, {}, no_match, 0)
    count = data.count
    rows = data("pairs")
    data.count = count
    scalars = own.update(data, 0)
    assert scalars["loss"] == pytest.approx(float(rows["distance"].mean()), rel=1e-5)
    assert own.optimisers["main"].param_groups[0]["lr"] == TINY.rate
    # Jitter changes the noise: the same rows have another loss.
    moved, again = family(jitter=0.5), Data()
    again.tables["imle"] = data.tables["imle"]
    again.count = count
    assert moved.update(again, 0)["loss"] != pytest.approx(float(scalars["loss"]), rel=1e-4)


def test_training_moves_the_nearest_sample_towards_its_target() -> None:
    own, data = family(set_size=32), Data()
    everything: Batch = {"input": data.input.float(), "target": data.target.float(), "index": torch.arange(10)}
    before = own.search(everything, list(range(10)))["distance"].mean()
    for step in range(200):
        if step % 20 == 0:
            data.tables["imle"] = own.refresh(data, {}, no_match, step)
        own.update(data, 4 * step)
    assert float(own.search(everything, list(range(10)))["distance"].mean() / before) < 0.5  # measured: 0.40


def test_settle_starts_with_a_fresh_encoder_and_a_tenth_of_the_rate() -> None:
    own, data = family(), Data()
    data.tables["imle"] = own.refresh(data, {}, no_match, 0)
    own.update(data, 0)
    generator = {k: v.clone() for k, v in own.generator.state_dict().items()}
    encoder = own.encoder.out.weight.detach().clone()
    own.enter("settle")
    assert not torch.equal(own.encoder.out.weight, encoder)
    assert all(torch.equal(v, generator[k]) for k, v in own.generator.state_dict().items())
    assert not own.optimisers["main"].state
    own.update(data, 0)
    assert own.optimisers["main"].param_groups[0]["lr"] == TINY.settle_rate


def test_crn_has_no_noise_and_imle_after_it_draws_the_noise_weights_anew() -> None:
    own, data = family(crn_images=8), Data()
    own.enter("crn")
    before = own.encoder.out.weight.detach().clone()
    own.update(data, 0)
    assert torch.equal(own.encoder.out.weight, before)  # the noise encoder takes no part
    batch = data("set")
    drawn = own.sample(batch, 2, seeded(1))
    assert torch.equal(drawn[:, 0], drawn[:, 1])  # nor do the noise channels, which are untrained
    again = family(crn_images=8)
    again.load_state_dict(own.state_dict())  # nor after a restart
    assert torch.equal(again.sample(batch, 1, seeded(2))[:, 0], drawn[:, 0])
    weight = own.generator.levels[0].first.weight.detach().clone()  # type: ignore[union-attr]
    own.enter("imle")
    after = own.generator.levels[0].first.weight  # type: ignore[union-attr]
    assert torch.equal(after[:, :-2], weight[:, :-2]) and not torch.equal(after[:, -2:], weight[:, -2:])


def test_rarity_weighs_the_pixels_and_chooses_the_pairs() -> None:
    own = family(condition="labels", labels=3, other=False, rarity_classes=2)
    rarity = torch.rand(10, 3, generator=seeded("r"), dtype=torch.float64)
    mask = torch.tensor([[1.0, 0.25, 0.5]]).repeat(10, 1)
    own.take("rarity", {"rarity": rarity, "mask": mask, "classes": torch.tensor([2, 0, 1]).expand(10, 3)})
    drawn = own.streams("imle")["set"]
    assert drawn.order == "weighted" and drawn.weights is not None
    assert torch.equal(drawn.weights, torch.stack([rarity[:, 2], rarity[:, 0]]))  # the two largest classes in turn
    rarity[:, 0] = 0  # a class that occurs nowhere is not drawn by
    assert torch.equal(own.streams("imle")["set"].weights, rarity[:, 2:].T)  # type: ignore[arg-type]
    own.matches = {"index": torch.arange(10)}
    assert torch.equal(own.streams("imle")["pairs"].weights, rarity[:, 2:].T)  # type: ignore[arg-type]
    assert own.streams("settle")["pairs"].weights is None
    data = Data()
    ids = torch.randint(0, 3, (4, 16, 16), generator=seeded("ids"))
    batch: Batch = {**data("set"), "input": ids}
    weights = own.mask(batch)
    assert weights is not None and weights.shape == (4, 1, 16, 16)
    assert float(weights[1, 0, 3, 5]) == [1.0, 0.25, 0.5][int(ids[1, 3, 5])]
    found = own.search(batch, [7] * 4)
    z = own.noise(found["seed"], found["candidate"], (16, 16))
    with torch.no_grad():
        apart = (127.5 * (own.picture(own.condition(ids), z) - batch["target"]).abs() * weights).mean((1, 2, 3))
    torch.testing.assert_close(found["distance"], apart)  # searched with the mask
    with pytest.raises(ValueError, match="of 3 classes, --labels is 4"):
        family(condition="labels", labels=4).take("rarity", own.rarity)
    with pytest.raises(ValueError, match="re-balances label maps"):
        family().take("rarity", own.rarity)


def test_conditions() -> None:
    own = family(condition="labels", labels=4, other=True)
    x = own.condition(torch.tensor([[[0, 3], [255, 1]]]))
    assert x.shape == (1, 4, 2, 2) and x.argmax(1).tolist() == [[[0, 3], [3, 1]]] and float(x.sum()) == 4
    with pytest.raises(ValueError, match="--labels 4: an input has the label id 255"):
        family(condition="labels", labels=4, other=False).condition(torch.tensor([[[0, 255]]]))
    with pytest.raises(ValueError, match="--condition labels: the data set's inputs are pictures"):
        own.condition(torch.zeros(1, 3, 4, 4))
    with pytest.raises(ValueError, match="--condition image: the data set's inputs are label ids"):
        family().condition(torch.zeros(1, 4, 4, dtype=torch.int64))


def test_samples_differ_and_repeat() -> None:
    own, data = family(), Data()
    batch = data("set")
    drawn = own.sample(batch, 3, seeded(1))
    assert drawn.shape == (4, 3, 3, 16, 16) and float(drawn.abs().max()) <= 1
    assert torch.equal(drawn, own.sample(batch, 3, seeded(1))) and not torch.equal(drawn[:, 0], drawn[:, 1])
    assert own.evaluate(batch).keys() == {"nearest", "mean", "spread"}
    assert list(own.preview(batch, seeded(1))) == ["input", "truth", *(f"sample {i}" for i in range(1, 6))]


# Workers -------------------------------------------------------------------------------------------------------------


def train(group: Group) -> dict[str, Any]:
    own = family(group).double()
    data = Data(group.rank, group.world)
    data.kind = torch.float64  # type: ignore[assignment]
    data.tables["imle"] = own.refresh(data, {}, no_match, 0)
    losses = [float(group.mean(own.update(data, 4 * i))["loss"]) for i in range(5)]
    grads = torch.cat([p.detach().reshape(-1) for p in own.generator.parameters()])
    return {"table": data.tables["imle"], "losses": losses, "weights": grads}


def worker(_: int) -> dict[str, Any]:
    return train(Group())


def test_two_workers_find_the_same_matches_and_take_the_same_steps(tmp_path: Path) -> None:
    one = train(Group())
    for two in on_two_ranks(tmp_path, worker):
        for name, column in one["table"].items():
            torch.testing.assert_close(two["table"][name], column, rtol=1e-9, atol=0)
        assert two["losses"] == pytest.approx(one["losses"], rel=1e-9)
        torch.testing.assert_close(two["weights"], one["weights"], rtol=1e-7, atol=1e-9)
