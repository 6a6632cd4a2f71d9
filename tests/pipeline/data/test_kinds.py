"""Each kind of field against what it says: reading, batching, facts; and bad members as errors with a reason."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage

from models.family import KINDS, FieldSpec
from pipeline.data import kinds
from pipeline.data.kinds.tokens import words


def batch(kind: str, values: list[Any], facts: dict[str, Any], choices: list[float] | None = None, **spec: Any) -> Any:
    return kinds.named(kind).batch("f", values, FieldSpec(kind, **spec), facts, choices or [0.0] * len(values))


def test_an_unknown_kind_is_named_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="no kind of field 'sound': choose one of answers, array, class"):
        kinds.named("sound")
    assert {kinds.named(name).read_as for name in kinds.names()} == KINDS.keys()


def test_every_8_bit_value_survives_as_an_integer() -> None:
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    picture = grey[:, :, None].repeat(3, 2)
    colour = batch("image", [picture], {})["f"]
    one = batch("image", [picture], {}, channels=1)["f"]
    assert colour.shape == (1, 3, 16, 16) and one.shape == (1, 1, 16, 16)
    for x in (colour[0, 0], one[0, 0]):  # truncating would give 63 of the values one too low
        assert ((x + 1) * 127.5).round().to(torch.int64).flatten().tolist() == list(range(256))
    luma = batch("image", [np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)], {}, channels=1)["f"]
    assert ((luma + 1) * 127.5).round().flatten().tolist() == [76, 150, 29]  # ITU-R 601: 0.299, 0.587, 0.114


def test_connected_components_are_numbered_and_corners_do_not_connect() -> None:
    kind = kinds.named("connected_components")
    ids = np.array([[1, 1, 0], [0, 1, 1], [1, 0, 1]], np.uint8)
    assert kind.seen(ids).tolist() == [[0, 0, 1], [2, 0, 0], [3, 4, 0]]
    assert kind.read_as == "instances" and kind.nearest


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (13, 17), (40, 40)])
def test_connected_components_are_scipys_class_by_class(shape: tuple[int, int]) -> None:
    labels = np.random.default_rng(shape).integers(0, 2, shape)
    wanted, count = np.zeros(shape, np.int64), 0
    for kind in (0, 1):
        found, more = ndimage.label(labels == kind)
        wanted += np.where(found > 0, found + count, 0)
        count += more
    got = kinds.named("connected_components").seen(labels)
    pairs = np.unique(np.stack([got.ravel(), wanted.ravel()], 1), axis=0)
    assert len(pairs) == count == len(np.unique(got)) and got.flat[0] == 0
    firsts = [int((got.ravel() == k).nonzero()[0][0]) for k in range(count)]
    assert firsts == sorted(firsts)


def test_instances_of_any_depth_keep_their_ids() -> None:
    small, large = np.array([[0, 255]], np.uint8), np.array([[24_000, 65_535]], np.int64)
    assert batch("instances", [small], {})["f"].tolist() == [[[0, 255]]]
    assert batch("instances", [large], {})["f"].tolist() == [[[24_000, 65_535]]]
    assert kinds.named("instances").nearest and not kinds.named("image").nearest


def test_classes() -> None:
    kind = kinds.named("class")
    assert [kind.read(kind.write(value)) for value in (0, 9, -1)] == [0, 9, -1]
    facts = kind.facts([0, 2, 2, -1], ())
    assert facts == {"classes": 3, "names": [], "counts": [1, 0, 2], "labelled": 3}
    named = kind.facts([0], ("cat", "dog"))
    assert named["classes"] == 2 and kind.parse("dog", named) == 1 and kind.shown(torch.tensor(1), named) == "dog"
    assert batch("class", [1, -1], facts)["f"].tolist() == [1, -1]
    for wrong in (b"", b"two", b"-2", b"\xff"):
        with pytest.raises(ValueError, match="class"):
            kind.read(wrong)
    with pytest.raises(ValueError, match="class 5: the data set has 2"):
        kind.parse("5", named)


def test_words_are_numbered_by_frequency_then_by_letters() -> None:
    kind = kinds.named("tokens")
    facts = kind.facts([["the dog"], ["the cat", "don't stop"], ["the dog!"]], ())
    assert facts["words"] == ["the", "dog", "!", "cat", "don't", "stop"] and facts["counts"][:2] == [3, 2]
    found = batch("tokens", [["the bird"], ["dog"]], facts)
    assert found["f"].tolist() == [[2, 1], [3, 0]] and found["f_length"].tolist() == [2, 1]
    cut = batch("tokens", [["the dog the dog"]], facts, length=3)
    assert cut["f"].tolist() == [[2, 3, 2]]
    assert kind.shown(found["f"][0], facts) == "the ?"


def test_one_of_several_texts_is_taken_by_the_samples_number() -> None:
    kind = kinds.named("tokens")
    texts = ["a", "b", "c"]
    facts = kind.facts([texts], ())
    seen = [batch("tokens", [texts], facts, [choice])["f"].item() - 2 for choice in (0.0, 0.34, 0.67, 0.999)]
    assert seen == [0, 1, 2, 2]
    assert kind.read(kind.write(texts)) == texts and kind.read(kind.write("[odd] text")) == ["[odd] text"]


def test_words_of_any_language() -> None:
    assert words("Où est l'été? 42_x") == ["où", "est", "l'été", "?", "42", "x"]
    assert words("什么 颜色") == ["什么", "颜色"]
    assert words("क्या यह कुत्ता है?") == ["क्या", "यह", "कुत्ता", "है", "?"]
    assert words("مُحَمَّد") == ["مُحَمَّد"]
    assert words("Cafe\u0301 l'e\u0301te\u0301") == words("Café l'été") == ["café", "l'été"]
    for wrong in (b"", b"   ", b"\xff\xfe", b'["", "a"]', b"[]"):
        with pytest.raises(ValueError, match="text"):
            kinds.named("tokens").read(wrong)


def test_answers_are_counted_over_the_vocabulary() -> None:
    kind = kinds.named("answers")
    facts = kind.facts([["yes"] * 6 + ["no"] * 4, ["no"] * 10, ["yes"] * 3, ["2"]], ())
    assert facts["answers"] == ["yes", "2", "no"] and facts["counts"] == [2, 1, 1]
    even = [["yes", "no", "no", "yes"], ["no", "yes"]]  # as many of each: by letters, whoever was asked first
    assert kind.facts(even, ())["answers"] == ["no"]
    counts = batch("answers", [["yes", "yes", "2", "maybe"]], facts, length=2)["f"]
    assert counts.tolist() == [[2.0, 1.0]]
    assert kind.shown(counts[0], facts) == "yes" and kind.shown(torch.zeros(3), facts) == "?"
    for wrong in (b"yes", b"[]", b"[1]", b"{}"):
        with pytest.raises(ValueError, match="answers are"):
            kind.read(wrong)


def test_arrays_are_read_without_pickles() -> None:
    kind = kinds.named("array")
    value = np.arange(6, dtype=np.float64).reshape(2, 3)
    assert kind.read(kind.write(value)).tolist() == value.tolist()
    assert batch("array", [kind.read(kind.write(value))], {})["f"].dtype == torch.float32
    import io

    for wrong in (np.array([{"a": 1}], object), np.array(["text"]), np.array([1.0, np.nan])):
        sink = io.BytesIO()
        np.save(sink, wrong, allow_pickle=True)
        with pytest.raises(ValueError, match=r"npy|real numbers|NaN"):
            kind.read(sink.getvalue())
    with pytest.raises(ValueError, match="different shapes"):
        batch("array", [np.zeros(2), np.zeros(3)], {})
