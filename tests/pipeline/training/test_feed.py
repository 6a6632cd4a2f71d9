"""Order: the same global batches for any number of workers, every sample once an epoch, resume at any draw."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from models.family import Stream
from pipeline.data.images import Images, whole_batches
from pipeline.data.order import global_batch, permutation
from pipeline.data.tensors import fit, to_tensor
from pipeline.training.feed import Feed, Sources, join_rows
from pipeline.training.triplets import Triplets

SIZE = 8


class Data:
    """Images whose red channel is their position."""

    root, split, fingerprint = "memory", "train", "f" * 64

    def __init__(self, n: int = 10, side: int = SIZE) -> None:
        self.n, self.side = n, side
        plain = SimpleNamespace(kind="image", member="target", half="")
        self.fields = {"input": plain, "target": plain}
        self.keys = [f"{i:09d}" for i in range(n)]
        self.reads = 0

    def __len__(self) -> int:
        return self.n

    def row(self, i: int) -> dict[str, Any]:
        return {"key": self.keys[i], "label": "even" if i % 2 == 0 else "odd"}

    def value(self, i: int, field: str) -> np.ndarray:
        return self.image(i, field)

    def image(self, i: int, field: str) -> np.ndarray:
        self.reads += 1
        noise = np.random.default_rng(i).integers(0, 255, (self.side, self.side, 3), dtype=np.uint8)
        noise[..., 0] = i
        return noise


def feed(stream: Stream, rank: int = 0, world: int = 1, counts: dict[str, int] | None = None, **sources: Any) -> Feed:
    images = Images(sources.pop("data", None) or Data(), 1 << 20)  # type: ignore[arg-type]
    return Feed(Sources(images, **sources), {"s": stream}, "stage", 3, (SIZE, SIZE), counts, rank, world)


def draws(stream: Stream, count: int, **kw: Any) -> list[dict[str, Any]]:
    f = feed(stream, **kw)
    try:
        return [f.draw("s") for _ in range(count)]
    finally:
        f.close()


def test_every_sample_comes_once_an_epoch_and_batches_run_across_its_end() -> None:
    stream, members = Stream(batch=4), np.arange(10)
    flat = np.concatenate([global_batch(stream, members, d, "w") for d in range(10)])
    for epoch in range(4):
        assert sorted(flat[epoch * 10 : (epoch + 1) * 10]) == list(range(10))
    assert flat[:10].tolist() != flat[10:20].tolist()


def test_the_permutation_is_the_published_algorithms_for_ever() -> None:
    # Philox's raw output is fixed by its definition: a change here breaks every resumed run.
    assert permutation(8, 0, "stage", "stream").tolist() == permutation(8, 0, "stage", "stream").tolist()
    assert sorted(permutation(1000, 1).tolist()) == list(range(1000))
    assert permutation(8, 0).tolist() != permutation(8, 1).tolist()


@pytest.mark.parametrize("source", ["samples", "triplets"])
@pytest.mark.parametrize("world", [2, 4])
def test_workers_split_the_same_global_batches(source: Any, world: int) -> None:
    table = SimpleNamespace(
        keys=[],
        near=np.array([[(i + 1) % 10, (i + 2) % 10] for i in range(10)]),
        card={},
        far=np.array([[(i + 5) % 10, (i + 6) % 10] for i in range(10)]),
    )
    extra = {"triplets": Triplets(table)} if source == "triplets" else {}  # type: ignore[arg-type]
    stream = Stream(batch=8, source=source, fields=("target",), augment=(1.0, 1.5), flip=0.5)
    alone = draws(stream, 5, data=Data(side=12), **extra)
    parts = [draws(stream, 5, rank=r, world=world, data=Data(side=12), **extra) for r in range(world)]
    for number, whole in enumerate(alone):
        for name, value in whole.items():
            joined = torch.cat([parts[r][number][name] for r in range(world)])
            assert torch.equal(joined, value), (number, name)


def test_resume_goes_on_at_the_next_draw_without_reading_what_was_seen() -> None:
    stream = Stream(batch=4, fields=("target",))
    whole = draws(stream, 7)
    data = Data()
    rest = draws(stream, 2, counts={"s": 5}, data=data)
    for a, b in zip(whole[5:], rest, strict=True):
        assert torch.equal(a["target"], b["target"])
    assert data.reads <= 4 * 5  # two draws and what is prepared ahead, not the five before


def test_fixed_order_repeats_one_permutation_cut_to_whole_batches() -> None:
    stream, members = Stream(batch=4, order="fixed"), np.arange(10)
    epochs = [np.concatenate([global_batch(stream, members, 2 * e + k, "w") for k in range(2)]) for e in range(3)]
    assert len(set(epochs[0].tolist())) == 8
    assert all((e == epochs[0]).all() for e in epochs)
    with pytest.raises(ValueError, match="larger than the 3 rows"):
        global_batch(stream, np.arange(3), 0, "w")


def test_weighted_order_follows_its_weights() -> None:
    weights = torch.tensor([0.0, 1.0, 3.0, 0.0], dtype=torch.float64)
    stream = Stream(batch=1000, order="weighted", weights=weights)
    counts = np.bincount(np.concatenate([global_batch(stream, np.arange(4), d, "w") for d in range(20)]), minlength=4)
    assert counts[0] == counts[3] == 0
    assert abs(counts[2] / counts.sum() - 0.75) < 4 * np.sqrt(0.75 * 0.25 / counts.sum())


def test_weights_may_differ_from_place_to_place() -> None:
    weights = torch.eye(3, 5, dtype=torch.float64)  # place p can only be sample p mod 3
    stream = Stream(batch=4, order="weighted", weights=weights)
    flat = np.concatenate([global_batch(stream, np.arange(5), d, "w") for d in range(6)])
    assert (flat == np.arange(24) % 3).all()
    members = np.array([4, 1])  # a filter's: weights are by position
    weights = torch.tensor([9.0, 1.0, 9.0, 9.0, 3.0], dtype=torch.float64)
    drawn = global_batch(Stream(batch=1000, order="weighted", weights=weights), members, 0, "w")
    assert set(drawn.tolist()) == {1, 4} and abs((drawn == 4).mean() - 0.75) < 4 * np.sqrt(0.75 * 0.25 / 1000)
    assert set(global_batch(Stream(batch=1000, order="weighted"), members, 0, "w").tolist()) == {1, 4}
    even = Stream(batch=1000, order="weighted")
    counts = np.bincount(np.concatenate([global_batch(even, np.arange(4), d, "w") for d in range(20)]), minlength=4)
    assert np.abs(counts / 20_000 - 0.25).max() < 4 * np.sqrt(0.25 * 0.75 / 20_000)


def test_a_tables_rows_bring_their_samples_cut_where_the_table_says() -> None:
    index, places = torch.tensor([7, 2, 7]), torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.9, 0.9], [1.0, 0.5, 0.5]])
    tables = {"stage": {"index": index, "crop": places.double(), "seed": torch.tensor([70, 20, 71])}}
    stream = Stream(batch=4, source="table", table="stage", order="weighted", fields=("target",))
    f = feed(stream, data=Data(side=20), tables=tables)
    rows = set()
    for _ in range(5):
        batch = f.draw("s")
        rows |= set(batch["row"].tolist())
        for k, row in enumerate(batch["row"].tolist()):
            assert int(batch["seed"][k]) == int(tables["stage"]["seed"][row])
            whole = Data(side=20).image(int(index[row]), "target")
            wanted = fit(whole, (SIZE, SIZE), *places[row, :1].tolist(), tuple(places[row, 1:].tolist()), False)  # type: ignore[arg-type]
            assert torch.equal(batch["target"][k], to_tensor([wanted])[0])
    assert rows == {0, 1, 2}
    tables["stage"] = {"index": index[:1], "crop": places[:1].double(), "seed": torch.tensor([5])}
    f.renew()  # without it three prepared draws of the old table would come
    assert f.draw("s")["seed"].tolist() == [5] * 4
    f.close()
    with pytest.raises(ValueError, match="needs the table of stage 'other'"):
        draws(Stream(batch=4, source="table", table="other"), 1)


def test_a_filter_keeps_its_samples_only() -> None:
    [batch] = draws(Stream(batch=4, fields=("target",), keep=lambda row: row["label"] == "odd"), 1)
    assert all(i % 2 == 1 for i in batch["index"].tolist())
    with pytest.raises(ValueError, match="keeps no sample"):
        draws(Stream(batch=4, keep=lambda row: False), 1)


def test_a_batch_that_the_workers_cannot_share_is_refused() -> None:
    with pytest.raises(ValueError, match="batch 6 of stream 's' is not divisible by 4 workers"):
        feed(Stream(batch=6), world=4)
    with pytest.raises(ValueError, match="in units of 2"):
        feed(Stream(batch=6, unit=2), world=2)


def test_input_and_target_are_cut_at_the_same_place() -> None:
    class Same(Data):
        def image(self, i: int, field: str) -> np.ndarray:
            return super().image(i, "any")

    batches = draws(Stream(batch=5, fields=("input", "target")), 4, data=Same(side=20))
    assert all(torch.equal(b["input"], b["target"]) for b in batches)
    corners = {b["target"][k, 1, 0, 0].item() for b in batches for k in range(5)}
    assert len(corners) > 10  # and not always at the same place
    assert len(torch.cat([b["crop"][:, 1:].flatten() for b in batches]).unique()) == 4 * 5 * 2  # another in each draw


def test_a_share_of_the_samples_is_mirrored_left_to_right_all_fields_alike() -> None:
    class Mixed(Data):
        """A picture, and a label map with the same numbers."""

        def __init__(self) -> None:
            super().__init__()
            self.fields = {**self.fields, "input": SimpleNamespace(kind="labels", member="input", half="")}

        def image(self, i: int, field: str) -> np.ndarray:
            picture = super().image(i, "target")
            return picture[..., 1].astype(np.int64) if field == "input" else picture

    batches = draws(Stream(batch=10, fields=("input", "target"), flip=0.2), 60, data=Mixed())
    mirrored = 0
    for batch in batches:
        for k, position in enumerate(batch["index"].tolist()):
            ids, picture = batch["input"][k], batch["target"][k]
            whole = torch.from_numpy(Mixed().image(position, "input"))
            assert torch.equal(((picture[1] + 1) * 127.5).round().long(), ids)
            turned = torch.equal(ids, whole.flip(1))
            assert turned or torch.equal(ids, whole)
            mirrored += turned
    assert abs(mirrored / 600 - 0.2) < 4 * np.sqrt(0.2 * 0.8 / 600)


def test_triplets_follow_the_neighbour_artifact_and_cut_each_image_by_itself() -> None:
    lists = np.arange(10)[:, None]  # each image its own neighbour: all three differ by their cuts alone
    table = SimpleNamespace(keys=[], near=lists, far=lists, card={})
    stream = Stream(batch=10, source="triplets", fields=("target",))
    extra = {"triplets": Triplets(table), "data": Data(side=20)}  # type: ignore[arg-type]
    one, same, other = (draws(stream, 1, sampler=s, **extra)[0] for s in ("a", "a", "b"))
    assert torch.equal(one["index"], same["index"]) and torch.equal(one["negative"], same["negative"])
    assert not torch.equal(one["index"], other["index"])
    roles = [one[name].flatten(1) for name in ("anchor", "positive", "negative")]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert int((roles[a] == roles[b]).all(1).sum()) <= 2


def test_fit_takes_the_centre_and_enlarges_what_is_too_small() -> None:
    image = np.arange(10 * 12, dtype=np.uint8).reshape(10, 12, 1).repeat(3, 2)
    assert (fit(image, (4, 4), 1.0, (0.5, 0.5), False) == image[3:7, 4:8]).all()
    assert (fit(image, (4, 8), 1.0, (0.5, 0.5), False) == image[3:7, 2:10]).all()
    assert fit(image[:3, :3], (4, 4), 1.0, (0.5, 0.5), False).shape == (4, 4, 3)
    assert set(np.unique(fit(image, (6, 6), 2.0, (0.9, 0.1), True))) <= set(
        np.unique(image)
    )  # nearest invents no value
    ids = np.array([[0, 65535], [300, 7]])  # 16-bit ids, which Pillow cannot resize
    assert (fit(ids, (4, 4), 1.0, (0.5, 0.5), True) == ids.repeat(2, 0).repeat(2, 1)).all()


def test_an_image_flatter_than_the_frame_covers_it() -> None:
    wide = np.zeros((10, 40, 3), np.uint8)
    wide[:, 20:] = 255
    cut = fit(wide, (20, 40), 1.0, (0.5, 0.5), False)  # enlarged twice, then the middle half
    assert cut.shape == (20, 40, 3) and (cut[:, :18] == 0).all() and (cut[:, 22:] == 255).all()
    assert fit(wide, (20, 40), 1.5, (0.0, 0.99), False).shape == (20, 40, 3)


def test_the_cache_stays_within_its_bytes() -> None:
    data = Data()
    images = Images(data, 3 * SIZE * SIZE * 3)  # type: ignore[arg-type]
    for i in [0, 1, 2, 0, 3, 0, 3, 2]:
        images(i, "target")
    assert data.reads == 4 and images.free >= 0
    images(1, "target")
    assert data.reads == 5  # it was the least recently used when 3 came


def test_values_are_in_minus_one_to_one() -> None:
    x = to_tensor([np.array([[[0, 127, 255]]], dtype=np.uint8)])
    assert x.flatten().tolist() == pytest.approx([-1.0, 127 / 127.5 - 1, 1.0], abs=1e-7)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_harvested_rows_come_back_in_key_order(world: int) -> None:
    images = Images(Data(), 1 << 20)  # type: ignore[arg-type]
    parts = [
        {"i": torch.cat([b["index"] for b in whole_batches(images, 3, (SIZE, SIZE), r, world)])} for r in range(world)
    ]
    assert join_rows(parts, 10, 3)["i"].tolist() == list(range(10))
    with pytest.raises(ValueError, match="one row a sample"):
        join_rows([*parts[:-1], {"i": torch.cat([parts[-1]["i"], torch.zeros(1, dtype=torch.int64)])}], 10, 3)


def test_batches_for_a_gpu_lie_in_page_locked_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    locked: list[Any] = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: locked.append(self) or self)
    for pinned in (False, True):
        f = Feed(
            Sources(Images(Data(), 1 << 20)),
            {"s": Stream(batch=4, fields=("target",))},
            "stage",
            3,
            (SIZE, SIZE),
            pinned=pinned,
        )  # type: ignore[arg-type]
        batch = f.draw("s")
        f.close()
        assert all(any(one is value for one in locked) == pinned for value in batch.values() if torch.is_tensor(value))
