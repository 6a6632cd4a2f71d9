"""Three digits as one picture."""

from tests.pipeline.data import test_idx
from tests.pipeline.data.test_idx import DIGITS, opened, pixels

npz = test_idx.npz


def test_stacked_digits_are_what_their_class_says(npz: str) -> None:
    source = opened("stacked_mnist", npz, count=400, held_out=5)
    listed = source.samples()
    assert {split: len(entries) for split, entries in listed.items()} == {"train": 400, "val": 5}
    for split, name in (("train", "train"), ("val", "test")):
        for entry in listed[split][:20]:
            picture, spelt = pixels(source, entry), f"{int(entry.files['class']):03d}"
            for channel, digit in enumerate(spelt):
                same = (DIGITS[f"x_{name}"] == picture[:, :, channel]).all((1, 2))
                assert DIGITS[f"y_{name}"][same].tolist() == [int(digit)]
    assert len({e.files["class"] for e in listed["train"]}) > 250  # of 1000, drawn 400 times: 330 expected
    assert len(source.fields["class"].names) == 1000
