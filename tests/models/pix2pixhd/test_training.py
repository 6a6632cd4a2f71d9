"""pix2pixHD's step against the released code's written out, its stages, its clusters, its edits, what it refuses."""

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from models import pix2pixhd
from models.common import objects
from models.common.padding import pad
from models.common.pyramid import halve
from models.common.seeds import seeded
from models.common.vgg import VGG
from models.group import Group
from models.pix2pixhd import Pix2PixHD
from models.pix2pixhd.clusters import OBJECTS, Clusters
from models.pix2pixhd.instances import edges, pooled
from models.pix2pixhd.training import discriminator, generator
from tests.models.translation import Data

TINY = pix2pixhd.PRESETS["tiny"]


def family(stage: str = "joint", **change: Any) -> Pix2PixHD:
    recipe = dataclasses.replace(TINY, **change)
    vgg = VGG("vgg19", recipe.perceptual_layers, "none").random(0) if recipe.perceptual_layers else None
    own = pix2pixhd.build(recipe, Group(), vgg)
    own.enter(stage)
    return own


def doubled(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.double() if value.is_floating_point() else value for name, value in batch.items()}


def reference_step(own: Pix2PixHD, batch: dict[str, Tensor], stage: str, wrong: str = "") -> None:
    r, lsgan = own.recipe, torch.nn.functional.mse_loss
    labels, ids, y = batch["input"], batch["instances"], batch["target"]
    if stage == "global":
        labels, ids, y = labels[:, ::2, ::2], ids[:, ::2, ::2], halve(y)
    hot = torch.nn.functional.one_hot(labels, r.labels).permute(0, 3, 1, 2).double()
    layout = torch.cat([hot, edges(ids).double()], 1)
    features = pooled(own.encoder(y), ids)
    whole = torch.cat([layout, features], 1)
    fake = own.generator.coarse(whole) if stage == "global" else own.generator(whole)
    critics = list(own.discriminator.critics)[1 if stage == "global" else 0 :]
    seen = torch.cat([layout, features], 1) if wrong == "features to D" else layout

    def judge(picture: Tensor) -> list[list[Tensor]]:
        x, found = torch.cat([seen, picture], 1), []
        for critic in critics:
            found.append(critic(x))
            x = halve(x)
        return found

    made, real = judge(fake), judge(y)
    loss = y.new_zeros(())
    for m, t in zip(made, real, strict=True):
        loss = loss + lsgan(m[-1], torch.ones_like(m[-1]))
        for f, g in zip(m[:-1], t[:-1], strict=True):
            weight = 10 * 4 / (r.discriminator_layers + 1) / (1 if wrong == "summed scales" else len(critics))
            loss = loss + weight * (f - g.detach()).abs().mean()
    vgg = own.perceptual.vgg
    loss = loss + 10 / 32 * (vgg(fake)["relu1_1"] - vgg(y)["relu1_1"]).abs().mean()

    heads = [*own.generator.enhancers.parameters(), *own.generator.heads.parameters()]
    coarse = list(own.generator.coarse.parameters())
    trained = {"global": coarse, "enhancer": heads, "joint": coarse[:-2] + heads}[stage] + list(
        own.encoder.parameters()
    )
    opt_g = torch.optim.Adam(trained, r.rate, (0.5, 0.999))
    opt_d = torch.optim.Adam([p for critic in critics for p in critic.parameters()], r.rate, (0.5, 0.999))
    loss.backward()
    opt_g.step()
    opt_d.zero_grad()
    picture = fake.detach()
    d_loss = y.new_zeros(())
    for m, t in zip(judge(picture), judge(y), strict=True):
        d_loss = d_loss + 0.5 * (lsgan(m[-1], torch.zeros_like(m[-1])) + lsgan(t[-1], torch.ones_like(t[-1])))
    d_loss.backward()
    opt_d.step()


@pytest.mark.parametrize(
    ("stage", "wrong"), [("global", ""), ("enhancer", ""), ("joint", ""), ("joint", "summed scales")]
)
def test_step_is_the_released_codes(stage: str, wrong: str) -> None:
    own, twin = family(stage).double(), family(stage).double()
    own.enter(stage)
    before = [p.detach().clone() for p in own.parameters()]
    batch = doubled(Data(own, stage)("pairs"))
    own.update(lambda _: batch, 0)
    reference_step(twin, batch, stage, wrong)
    pairs = list(zip(own.named_parameters(), twin.parameters(), before, strict=True))
    apart = max(float((p.detach() - q.detach()).abs().max()) for (_, p), q, _ in pairs)
    assert (apart < 1e-8) == (not wrong), apart
    moved = {name.split(".")[1] for (name, p), _, old in pairs if not torch.equal(p.detach(), old)}
    fixed = {name for (name, p), _, old in pairs if torch.equal(p.detach(), old)}
    assert ("coarse" in moved) == (stage != "enhancer") and ("enhancers" in moved) == (stage != "global")
    assert any(name.startswith("generator.coarse.head") for name in fixed) == (stage != "global")
    assert any(name.startswith("discriminator.critics.0") for name in fixed) == (stage == "global")


def test_no_forward_is_done_twice() -> None:
    own, calls = family(), {"generator": 0, "discriminator": 0, "encoder": 0}
    for name in calls:
        getattr(own, name).register_forward_hook(lambda *_, name=name: calls.update({name: calls[name] + 1}))  # type: ignore[misc]
    own.update(Data(own, "joint"), 0)
    assert calls == {"generator": 1, "discriminator": 2, "encoder": 1}


def test_feature_matching_weight_is_five_for_two_scales() -> None:
    """10 * 4 / (3 + 1) / 2 for each layer; 3.33 for three scales."""
    for scales, wanted in [(2, 5.0), (3, 10 / 3)]:
        r = dataclasses.replace(pix2pixhd.PRESETS["paper"], discriminator_scales=scales)
        assert r.feature_weight * 4 / (r.discriminator_layers + 1) / scales == pytest.approx(wanted)


def test_sizes_of_the_papers_networks() -> None:
    with torch.device("meta"):
        sizes = {
            name: [
                sum(p.numel() for p in make(pix2pixhd.PRESETS[name]).parameters())
                for make in (generator, discriminator)
            ]
            for name in ("paper", "features", "1024p")
        }
        head = sum(p.numel() for p in generator(pix2pixhd.PRESETS["1024p"]).coarse.head.parameters())
    assert sizes["paper"] == [182_546_755, 5_603_202] and sizes["features"] == [182_556_163, 5_603_202]
    assert sizes["1024p"] == [182_857_059 + head, 8_404_803]


def test_learning_rates_and_stages() -> None:
    own = family("global", epoch=8, global_constant_epochs=100, global_decay_epochs=100)
    data = Data(own, "global")
    for epoch, factor in [(0, 1), (100, 1), (101, 0.99), (199, 0.01)]:
        assert float(own.update(data, epoch * 8)["rate"]) == pytest.approx(2e-4 * factor), epoch
    assert [stage.name for stage in own.stages] == ["global", "enhancer", "joint"]
    assert [stage.name for stage in family("global", enhancers=0).stages] == ["global"]
    with pytest.raises(ValueError, match="no stage 'joint': choose one of global"):
        family("joint", enhancers=0)


# Objects -------------------------------------------------------------------------------------------------------------


def test_8_and_16_bit_instance_maps_give_the_same_features() -> None:
    own = family()
    batch = Data(own, "joint").batch(("input", "instances", "target"), 2)
    small = torch.randint(0, 200, (2, 8, 8), generator=seeded(0)).repeat_interleave(4, 1).repeat_interleave(4, 2)
    table = torch.randperm(30_000, generator=seeded(1))[:200] + 1000
    pictures = [
        own.reconstruct({**batch, "instances": ids})
        for ids in (small.to(torch.uint8), small.to(torch.int16), table[small].to(torch.int32), small)
    ]
    assert all(torch.equal(pictures[0], other) for other in pictures[1:])
    one = own.reconstruct({**batch, "instances": torch.zeros_like(small)})
    assert not torch.allclose(one, pictures[0])


def test_harvest_and_clusters() -> None:
    own = family(least_area=0.0)
    data = Data(own, "joint")
    batches = [data.batch(("input", "instances", "target"), 4) for _ in range(3)]
    assert own.harvest("enhancer", batches) is None
    table = own.harvest("joint", batches)
    assert table is not None and {name: tuple(v.shape) for name, v in table.items()} == {
        "feature": (12, OBJECTS, 2),
        "class": (12, OBJECTS),
        "share": (12, OBJECTS),
    }
    # A row by hand: an object's feature is E's mean over it.
    means = own.encoder(batches[1]["target"]).detach()
    where = batches[1]["instances"][2] == batches[1]["instances"][2, 5, 9]
    wanted = means[2][:, where].mean(1)
    row = 6
    nearest = (table["feature"][row] - wanted).abs().sum(1).argmin()
    torch.testing.assert_close(table["feature"][row, nearest], wanted)
    assert float(table["share"][row, nearest]) == pytest.approx(float(where.double().mean()))
    assert int(table["class"][row, nearest]) == int(batches[1]["input"][2, 5, 9])

    own.adopt("joint", table)
    assert own.clusters.counts.tolist() == [3] * 5  # three clusters of each of the five classes
    again = family(least_area=0.0)
    again.load_state_dict(own.state_dict())
    given = {name: batches[0][name] for name in own.reads}
    assert torch.equal(own.sample(given, 2, seeded(1)), again.sample(given, 2, seeded(1)))
    drawn = own.sample(given, 2, seeded(1))
    assert not torch.allclose(drawn[:, 0], drawn[:, 1])


def test_small_objects_and_missing_classes() -> None:
    clusters = Clusters(3, 4, 2)
    table = {
        "feature": torch.tensor([[[1.0, 2.0], [5.0, 5.0], [9.0, 9.0]]]),
        "class": torch.tensor([[0, 0, -1]]),
        "share": torch.tensor([[0.5, 1 / 64, 0.9]]),
    }
    clusters.fit(table, 1 / 64, 0)
    assert clusters.counts.tolist() == [1, 0, 0] and clusters.centres[0, 0].tolist() == [1, 2]
    labels = torch.tensor([[[0, 1], [0, 2]]])
    found = clusters.drawn(labels, labels, seeded(0))
    assert found[0, :, 0, 0].tolist() == [1, 2] and not found[0, :, :, 1].any()  # a defined value: 0


def test_each_centre_is_drawn_alike_and_each_object_its_own() -> None:
    clusters = Clusters(1, 4, 1)
    clusters.centres[0, :3, 0], clusters.counts[0] = torch.tensor([1.0, 2.0, 3.0]), 3
    ids = torch.arange(3000).view(1, 50, 60)
    found = clusters.drawn(torch.zeros_like(ids), ids, seeded(0))
    counts = [int((found == value).sum()) for value in (1, 2, 3)]
    assert sum(counts) == 3000 and all(abs(count - 1000) < 110 for count in counts)


def test_chosen_styles() -> None:
    labels = torch.tensor([[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 2], [2, 2, 2, 2]])
    ids = torch.tensor([[7, 7, 7, 7], [7, 9, 9, 7], [7, 9, 9, 3], [3, 3, 3, 3]])
    clusters = Clusters(3, 4, 1)
    clusters.centres[:, :2, 0], clusters.counts[:] = torch.tensor([[1.0, 2], [3, 4], [5, 6]]), 2
    styled = clusters.chosen(labels, ids, ids, 0, {9: 1, 3: 0})[0, 0]
    assert styled[ids == 9].unique().tolist() == [4] and styled[ids == 3].unique().tolist() == [5]
    assert styled[ids == 7].unique().tolist()[0] in (1, 2)
    # One group, one style; groups of their own have all of a class's alike often.
    many = torch.arange(400).view(20, 20)
    zeros = torch.zeros_like(many)
    assert len(clusters.chosen(zeros, many, zeros, 0, {}).unique()) == 1
    own = clusters.chosen(zeros, many, many, 0, {})
    assert 150 < int((own == 1).sum()) < 250
    assert int((clusters.chosen(zeros, many, many, 0, {5: 0, 6: 1}) != own).sum()) <= 2
    for styles, message in [
        ({9: 2}, "object 9 is of class 1, which has the styles 0 to 1: no style 2"),
        ({9: -1}, "no style -1"),
        ({8: 0}, "no object 8: there are 3, 7, 9"),
    ]:
        with pytest.raises(ValueError, match=message):
            clusters.chosen(labels, ids, ids, 0, styles)
    clusters.counts[1] = 0
    with pytest.raises(ValueError, match="object 9 is of class 1, which has no styles: no style 0"):
        clusters.chosen(labels, ids, ids, 0, {9: 0})
    clusters.counts[:] = 0
    with pytest.raises(ValueError, match="no styles yet"):
        clusters.chosen(labels, ids, ids, 0, {9: 0})


def with_styles(**change: Any) -> tuple[Pix2PixHD, dict[str, Tensor]]:
    own = family(**change)
    own.clusters.centres.normal_(generator=seeded(0))
    own.clusters.counts.fill_(3)
    batch = Data(own, "joint").batch(own.reads, 1)
    return own, batch


def test_an_edit_leaves_the_other_objects_features_as_they_are() -> None:
    own, batch = with_styles()
    labels, ids = own.object_maps(batch)
    assert torch.equal(labels, batch["input"][0]) and torch.equal(ids, batch["instances"][0])
    one = int(ids[16, 16])
    pictures = [own.picture_of(labels, ids, 0, {one: choice}) for choice in (0, 0, 1)]
    assert torch.equal(pictures[0], pictures[1]) and not torch.allclose(pictures[0], pictures[2])
    seen: list[Tensor] = []
    own.generator.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    for maps in ((labels, ids), objects.remove(labels, ids, one), objects.change_class(labels, ids, one, 4)):
        own.picture_of(*maps, 0, {})
    others = ids != one
    for after in seen[1:]:
        assert torch.equal(after[0, -2:, others], seen[0][0, -2:, others])
    assert not torch.equal(seen[1][0, -2:, ~others], seen[0][0, -2:, ~others])


def test_a_picture_of_maps_is_a_sample_with_these_features_at_any_size() -> None:
    own, batch = with_styles()
    labels, ids = (x[:, :30] for x in own.object_maps(batch))
    made = own.picture_of(labels, ids, 0, {})
    features = own.clusters.chosen(labels, ids, ids, 0, {})
    batch = {name: pad(batch[name][..., :30], 4) for name in own.reads}
    whole = torch.cat([own._layout(batch), pad(features, 4)], 1)
    with torch.no_grad():
        torch.testing.assert_close(made, own.generator(whole)[0, :, :, :30])


def test_trained_without_a_map_of_objects_classes_share_styles() -> None:
    own, batch = with_styles(instances=False)
    with pytest.raises(ValueError, match="no field 'instances'"):
        own.object_maps(batch)
    ids = torch.arange(batch["input"][0].numel()).view_as(batch["input"][0])
    labels, same = own.object_maps({**batch, "instances": ids[None]})
    assert torch.equal(labels, batch["input"][0]) and torch.equal(same, ids)
    seen: list[Tensor] = []
    own.generator.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    own.picture_of(labels, ids, 0, {})
    assert all(len(seen[0][0, -1, labels == kind].unique()) == 1 for kind in labels.unique().tolist())
    with pytest.raises(ValueError, match="no styles: train one with features"):
        family(features=0).picture_of(labels, ids, 0, {0: 0})
    pictures = family(condition="image", labels=0, features=0, instances=False)
    with pytest.raises(ValueError, match="--condition image: only runs on label maps have objects"):
        pictures.object_maps({"input": torch.zeros(1, 3, 32, 32)})
    with pytest.raises(ValueError, match="class id 5 in a label map, but --labels 5"):
        own.object_maps({"input": torch.full((1, 32, 32), 5)})
    with pytest.raises(ValueError, match="no field 'instances'"):
        family().object_maps({"input": labels[None]})


# Bad input -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": 0}, "--labels 0: the number of classes"),
        ({"condition": "image"}, "--labels 5: the number of classes"),
        ({"perceptual_factors": (1.0, 2.0)}, "--perceptual-factors 1.0 2.0: one for each of"),
        ({"size": 30}, "--size 30: must be a multiple of 4, with 1 enhancers"),
        ({"size": 32, "downs": 4}, "--size 32: too small for --downs 4 and --enhancers 1"),
        ({"discriminator_scales": 0}, "give at least 1"),
        ({"discriminator_scales": 5}, "too small for --discriminator-layers 1 at 6 scales"),
    ],
)
def test_refusals(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        family(**change)


def test_bad_batches_are_named() -> None:
    own = family()
    batch = Data(own, "joint").batch(("input", "instances", "target"), 4)
    cases = [
        ({"input": batch["input"] + 1}, "class id 5 in a label map, but --labels 5"),
        ({"instances": batch["instances"][:, :16]}, "the map of instances is 16 x 32, the input 32 x 32"),
    ]
    for change, message in cases:
        with pytest.raises(ValueError, match=message):
            own.update(lambda _, change=change: {**batch, **change}, 0)  # type: ignore[misc]
    with pytest.raises(ValueError, match="no field 'instances'"):
        own.update(lambda _: {name: batch[name] for name in ("input", "target")}, 0)
    without = pix2pixhd.build(TINY, Group(), None)
    without.enter("global")
    with pytest.raises(ValueError, match="needs the VGG of the perceptual loss"):
        without.update(lambda _: batch, 0)
    same = {**batch, "input": torch.zeros_like(batch["input"]), "instances": torch.zeros_like(batch["instances"])}
    assert float(own.update(lambda _: same, 0)["loss"]) > 0  # one class, one object
