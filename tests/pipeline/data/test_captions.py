"""Images with several sentences, in both lists' forms."""

import json
from pathlib import Path

import pytest
from PIL import Image

from pipeline.data.sources import captions


def _list(folder: Path, text: str, images: int = 3) -> str:
    (folder / "images").mkdir()
    for i in range(images):
        Image.new("RGB", (8, 8)).save(folder / "images" / f"{i}.jpg")
    (folder / "captions.txt").write_text(text)
    return str(folder / "captions.txt")


def test_captions_of_both_lists(tmp_path: Path) -> None:
    for name, text in (
        ("flickr8k", 'image,caption\n0.jpg,A dog , running .\n0.jpg,"Two, dogs"\n7.jpg,A cat\n'),
        ("flickr30k", "0.jpg#0\tA dog , running .\n0.jpg#1\tTwo, dogs\n7.jpg#0\tA cat\n"),
    ):
        (tmp_path / name).mkdir()
        source = captions.Captions(_list(tmp_path / name, text), captions.Options())
        first, second = source.samples()["train"]
        assert json.loads(first.files["caption"]) == ["A dog , running .", "Two, dogs"] and not first.problem
        assert second.problem == "no such image" and source.left_out == ["1.jpg", "2.jpg"]


def test_captions_are_split_in_the_lists_order(tmp_path: Path) -> None:
    path = _list(tmp_path, "image,caption\n" + "".join(f"{i}.jpg,text\n" for i in range(3)))
    found = captions.Captions(path, captions.Options(splits="1,1,1")).samples()
    assert [found[s][0].source for s in ("train", "val", "test")] == ["0.jpg", "1.jpg", "2.jpg"]
    with pytest.raises(ValueError, match="the list has 3 images"):
        captions.Captions(path, captions.Options(splits="2,1,1"))
    with pytest.raises(ValueError, match="train needs at least one image"):
        captions.Captions(path, captions.Options(splits="0,1,1"))
    with pytest.raises(ValueError, match="wanted three numbers"):
        captions.Captions(path, captions.Options(splits="half"))


def test_a_sentence_ends_with_its_line(tmp_path: Path) -> None:
    """A stray quotation mark swallows no lines; a line of another form is a row; a byte order mark is no name."""
    text = '\ufeffImage, caption\n0.jpg,"an unclosed quote\n1.jpg,"says ""hi"", twice"\n'
    text += '\nno separator\n2.jpg,a\u2028"cat\n'
    source = captions.Captions(_list(tmp_path, text), captions.Options())
    assert source.sentences == {
        "0.jpg": ['"an unclosed quote'],
        "1.jpg": ['says "hi", twice'],
        "2.jpg": ['a\u2028"cat'],
    }
    assert [entry.problem for entry in source.samples()["train"]] == [
        *("", "", ""),
        "neither NAME,SENTENCE nor NAME#0<tab>SENTENCE",
    ]
    assert source.samples()["train"][3].source == "line 5" and not source.left_out
