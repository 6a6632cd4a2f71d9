"""The segmenter: what colour tells it learns, what nothing tells it does not; the same again; never of other data."""

from pathlib import Path

import numpy as np
import pytest
import torch

from jobs import shard
from models.common.seeds import seeded
from models.common.segmenter import Segmenter
from pipeline.artifacts import storage
from pipeline.data import decode
from pipeline.data.images import Images
from pipeline.data.shards import DataSet
from pipeline.evaluation import metrics, segmentation
from pipeline.runs import checkpoint

FRAME = (16, 16)
COLOURS = np.array([(200, 60, 60), (60, 190, 70), (70, 80, 220)], np.uint8)


def toy(folder: Path, shuffled: bool = False, seed: int = 0, count: int = 24) -> str:
    """Label maps of 4 x 4 blocks, photographs in their class's colour and noise; `shuffled`: in another map's."""
    for split in ("train", "val"):
        random = np.random.default_rng([seed, split == "val"])
        maps = [random.integers(0, 3, (4, 4), dtype=np.uint8).repeat(4, 0).repeat(4, 1) for _ in range(count)]
        for side in ("labels", "target"):
            (folder / "source" / split / side).mkdir(parents=True)
        for i, ids in enumerate(maps):
            photograph = COLOURS[maps[i - 1] if shuffled else ids] + random.integers(0, 30, (16, 16, 3), dtype=np.uint8)
            (folder / "source" / split / "labels" / f"{i:02d}.png").write_bytes(decode.to_png(ids))
            (folder / "source" / split / "target" / f"{i:02d}.png").write_bytes(decode.to_png(photograph))
    shard.run(shard.Config(source=str(folder / "source"), output=str(folder / "data"), workers=0))
    return str(folder / "data")


@pytest.fixture
def data(tmp_path: Path, no_ray: None) -> str:
    return toy(tmp_path)


def held_out(net: Segmenter, root: str) -> tuple[float, float]:
    pairs = Images(DataSet(root, "val")).centred(range(24), ("input", "target"), FRAME)
    return metrics.agreement(segmentation.read_labels(net, pairs["target"]), pairs["input"])


def test_what_colour_tells_is_learnt(data: str) -> None:
    images = Images(DataSet(data))
    assert segmentation.count_classes(images) == 3
    accuracy, overlap = held_out(segmentation.train(images, 3, FRAME, 40, 0), data)
    assert accuracy > 0.95 and overlap > 0.9
    assert held_out(Segmenter(3, seeded(0)).eval(), data)[0] < 0.6


def test_shuffled_labels_are_not_learnt(tmp_path: Path, no_ray: None) -> None:
    root = toy(tmp_path, shuffled=True)
    accuracy, overlap = held_out(segmentation.train(Images(DataSet(root)), 3, FRAME, 40, 0), root)
    assert accuracy < 0.5 and overlap < 0.4


def test_training_depends_on_its_seed_alone(data: str) -> None:
    def weights(seed: int) -> torch.Tensor:
        net = segmentation.train(Images(DataSet(data)), 3, FRAME, 3, seed)
        return torch.cat([p.detach().flatten() for p in net.parameters()])

    state = torch.get_rng_state()
    first = weights(0)
    torch.rand(5)
    assert torch.equal(first, weights(0)) and not torch.equal(first, weights(1))
    torch.set_rng_state(state)


def test_mirrored_pairs_stay_aligned() -> None:
    labels = torch.arange(8).expand(20, 8, 8).contiguous()
    pictures = labels[:, None].expand(-1, 3, -1, -1) / 7.0
    moved, ids = segmentation.augmented(pictures, labels, seeded(0))
    flipped = ids[:, 0, 0] == 7
    assert 0 < int(flipped.sum()) < 20
    assert torch.equal(ids[~flipped], labels[~flipped]) and torch.equal(ids[flipped], labels[flipped].flip(2))
    assert ((moved[:, :, :, -1] > moved[:, :, :, 0]).all((1, 2)) != flipped).all(), "the picture is mirrored with them"
    assert not torch.allclose(moved[~flipped], pictures[~flipped]), "colours are changed"


def test_a_kept_segmenter_is_not_trained_again(data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "out" / "segmenter.pt")
    net, facts = segmentation.kept(path, DataSet(data), FRAME, 2, 0)
    monkeypatch.setattr(segmentation, "train", None)
    for again, told in (
        segmentation.kept(path, DataSet(data), FRAME, 2, 0),
        segmentation.given(path, DataSet(data), FRAME),
    ):
        assert told == facts and facts["classes"] == 3
        assert all(torch.equal(a, b) for a, b in zip(net.parameters(), again.parameters(), strict=True))
    with pytest.raises(ValueError, match=r"another segmenter: steps is 2 there, 3 wanted\. Remove it"):
        segmentation.kept(path, DataSet(data), FRAME, 3, 0)


def test_a_segmenter_of_other_data_is_refused(data: str, tmp_path: Path) -> None:
    path = str(tmp_path / "out" / "segmenter.pt")
    segmentation.kept(path, DataSet(data), FRAME, 1, 0)
    other = DataSet(toy(tmp_path / "other", seed=1))
    for read in (lambda: segmentation.given(path, other, FRAME), lambda: segmentation.kept(path, other, FRAME, 1, 0)):
        with pytest.raises(ValueError, match=r"another segmenter: dataset is \w+ there, \w+ wanted"):
            read()
    with pytest.raises(ValueError, match=r"frame is \[16, 16\] there, \[8, 8\] wanted"):
        segmentation.given(path, DataSet(data), (8, 8))
    with pytest.raises(ValueError, match=r"--segmenter .*none is there"):
        segmentation.given(str(tmp_path / "no.pt"), DataSet(data), FRAME)
    with pytest.raises(ValueError, match="no 'family' entry"):
        checkpoint.load(path)
    storage.publish(path, storage.read(path)[:-1])
    with pytest.raises(ValueError, match="damaged"):
        segmentation.given(path, DataSet(data), FRAME)


def test_any_size_and_few_weights() -> None:
    net = Segmenter(12, seeded(0))
    assert net(torch.zeros(2, 3, 20, 44)).shape == (2, 12, 20, 44)
    assert 100_000 < sum(p.numel() for p in net.parameters()) < 300_000
