"""VQA's JSON as a source: what it holds, and what it says of bad input."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from jobs import shard
from pipeline.data.shards import DataSet, facts_of, read_index
from pipeline.data.sources import vqa


def _write(folder: Path, questions: list[dict[str, Any]], annotations: list[dict[str, Any]]) -> vqa.Options:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "q.json").write_text(json.dumps({"questions": questions}))
    (folder / "a.json.gz").write_bytes(gzip.compress(json.dumps({"annotations": annotations}).encode()))
    return vqa.Options(train="q.json,a.json.gz")


def _question(number: int, text: str = "is it?", image: int = 9, **more: Any) -> dict[str, Any]:
    return {"question_id": number, "image_id": image, "question": text, **more}


def _annotation(number: int, *answers: str) -> dict[str, Any]:
    given = [{"answer": a, "answer_id": i} for i, a in enumerate(answers or ("yes",) * 10)]
    return {"question_id": number, "answers": given, "question_type": "is it", "answer_type": "yes/no"}


def test_questions_with_images_and_choices_become_samples(tmp_path: Path, no_ray: None) -> None:
    root = tmp_path / "source"
    _write(root, [_question(90, multiple_choices=["yes", "no"])], [_annotation(90, *["yes"] * 7, *["no"] * 3)])
    (root / "pictures").mkdir()
    for name, mode in (("COCO_train2014_000000000009.png", "CMYK"), ("COCO_train2014_000000000025.jpg", "L")):
        image = Image.new(mode, (40, 30))
        image.save(root / "pictures" / name, "JPEG")
    given = {"train": "q.json,a.json.gz", "images": "pictures"}
    output = str(tmp_path / "data")
    shard.run(shard.Config(source=f"vqa:{root}", option=given, output=output, workers=1))
    data = DataSet(output)
    found = data.sample(0)
    assert found["question"] == ["is it?"] and found["choices"] == ["yes", "no"] and found["image"].shape == (30, 40, 3)
    assert found["answers"] == ["yes"] * 7 + ["no"] * 3
    assert facts_of(data).fields["answer_type"]["names"] == ["yes/no"]
    source = vqa.Questions(str(root), vqa.Options(**given))
    assert source.left_out == ["pictures/COCO_train2014_000000000025.jpg"]


def test_bad_questions_are_rows_with_a_reason(tmp_path: Path, no_ray: None) -> None:
    root = tmp_path / "source"
    questions = [_question(1), _question(2), _question(2), _question(3, " "), _question(4, "¿Qué color es?")]
    _write(root, questions, [_annotation(number) for number in (2, 3, 4)])
    output = str(tmp_path / "data")
    options = {"train": "q.json,a.json.gz"}
    shard.run(shard.Config(source=f"vqa:{root}", option=options, output=output, workers=1, max_bad_share=1.0))
    rows = {row["source"]: row["error"] for row in read_index(output, "train", 0).to_pylist()}
    assert rows["question 1"] == "no annotation of this question"
    assert rows["question 2"] == "its question id occurs more than once"
    assert "a text without a word" in rows["question 3"]
    assert not rows["question 4"] and DataSet(output).sample(0)["question"] == ["¿Qué color es?"]


def test_a_question_without_its_image(tmp_path: Path) -> None:
    _write(tmp_path, [_question(1, image=9), _question(2, image=10)], [_annotation(1), _annotation(2)])
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "pictures" / "9.png")
    source = vqa.Questions(str(tmp_path), vqa.Options(train="q.json,a.json.gz", images="pictures"))
    assert [entry.problem for entry in source.samples()["train"]] == ["", "no image 10"]


def test_images_of_any_mode_and_size_become_samples(tmp_path: Path, no_ray: None) -> None:
    root = tmp_path / "source"
    made = [("1", (7, 5)), ("L", (1, 1)), ("LA", (30, 2)), ("P", (9, 9)), ("RGBA", (4, 60)), ("I;16", (8, 8))]
    made += [("RGB", (300, 20)), ("CMYK", (16, 16))]
    _write(root, [_question(i, image=i) for i in range(8)], [_annotation(i) for i in range(8)])
    (root / "pictures").mkdir()
    for i, (mode, size) in enumerate(made):
        Image.new(mode, size).save(root / "pictures" / f"a_{i}.{'jpg' if mode == 'CMYK' else 'png'}")
    (root / "pictures" / "a_6.png").write_bytes(b"not a picture")
    given = {"train": "q.json,a.json.gz", "images": "pictures"}
    output = str(tmp_path / "data")
    shard.run(shard.Config(source=f"vqa:{root}", option=given, output=output, workers=1, max_bad_share=0.2))
    data = DataSet(output)
    found = {data.row(i)["source"]: data.image(i, "image").shape for i in range(len(data))}
    assert found == {f"question {i}": (size[1], size[0], 3) for i, (_, size) in enumerate(made) if i != 6}
    [bad] = [row for row in read_index(output, "train", 0).to_pylist() if row["status"] != "ok"]
    assert bad["source"] == "question 6" and bad["error"]


def test_texts_of_any_script_become_words(tmp_path: Path, no_ray: None) -> None:
    root = tmp_path / "source"
    texts = ["¿Qué color es?", "これは何ですか", "Сколько собак?", "كم عدد الكلاب؟", "Où est-ce? 🐕"]
    questions = [_question(i, text) for i, text in enumerate(texts)]
    _write(root, questions, [_annotation(i, *["sí"] * 6, *["да"] * 4) for i in range(len(texts))])
    output = str(tmp_path / "data")
    shard.run(shard.Config(source=f"vqa:{root}", option={"train": "q.json,a.json.gz"}, output=output, workers=1))
    data = DataSet(output)
    facts = facts_of(data)
    assert [data.sample(i)["question"] for i in range(len(data))] == [[text] for text in texts]
    assert {"qué", "собак", "これは何ですか", "où"} <= set(facts.fields["question"]["words"])
    assert facts.fields["answers"]["answers"] == ["sí"]


def test_what_is_not_as_the_format_has_it_is_a_row(tmp_path: Path) -> None:
    """One question of each kind of fault beside a good one; nothing is turned into words that nobody wrote."""
    texts: list[Any] = ["is it?", None, 17, "\ud83d", "is it?", "is it?", "is it?", "is it?", "is it?", "is it?"]
    questions = [_question(i, text, multiple_choices=["yes"]) for i, text in enumerate(texts)]
    annotations = [_annotation(i) for i in range(len(texts))]
    annotations[4]["answers"] = ["yes"] * 10
    annotations[5]["answers"] = [{"answer_id": 1}]
    annotations[6]["answers"] = None
    annotations[7]["question_type"] = None
    questions[8]["multiple_choices"] = None
    options = _write(tmp_path, questions, [*annotations, _annotation(9, "cat")])
    source = vqa.Questions(str(tmp_path), options)
    entries = source.samples()["train"]
    objects = "its answers are no list of objects with an answer"
    assert [entry.problem for entry in entries] == [
        "",
        "its question is no text",
        "its question is no text",
        "a text of it is no valid Unicode (surrogates not allowed)",
        objects,
        objects,
        objects,
        "its question_type is no text",
        "its multiple_choices are no list of texts",
        "it has more than one annotation",
    ]
    assert source.types["question_type"] == ("is it",)
    assert not any(entry.files for entry in entries if entry.problem)


def test_two_images_of_one_number(tmp_path: Path) -> None:
    _write(tmp_path, [_question(1, image=9), _question(2, image=10)], [_annotation(1), _annotation(2)])
    (tmp_path / "pictures").mkdir()
    for name in ("a_9", "b_00009", "a_10"):
        Image.new("RGB", (8, 8)).save(tmp_path / "pictures" / f"{name}.png")
    source = vqa.Questions(str(tmp_path), vqa.Options(train="q.json,a.json.gz", images="pictures"))
    told = "no image 9: pictures/a_9.png, pictures/b_00009.png end in that number"
    assert [entry.problem for entry in source.samples()["train"]] == [told, ""]


def test_damaged_files_are_named(tmp_path: Path) -> None:
    options = _write(tmp_path, [_question(1)], [_annotation(1)])
    whole = (tmp_path / "a.json.gz").read_bytes()
    middle = len(whole) // 2
    for damaged in (whole[:-20], whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :], whole[:12]):
        (tmp_path / "a.json.gz").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"a\.json\.gz: not VQA's JSON"):
            vqa.Questions(str(tmp_path), options)
    (tmp_path / "a.json.gz").write_text("[" * 100_000)
    with pytest.raises(ValueError, match=r"a\.json\.gz: not VQA's JSON"):
        vqa.Questions(str(tmp_path), options)
    for number in ([1], None, 1.5):
        options = _write(tmp_path, [{**_question(1), "question_id": number}], [_annotation(1)])
        with pytest.raises(ValueError, match=r"q\.json: questions with a question_id that is neither"):
            vqa.Questions(str(tmp_path), options)


def test_files_that_do_not_belong_together(tmp_path: Path) -> None:
    options = _write(tmp_path, [_question(1)], [_annotation(7)])
    with pytest.raises(ValueError, match=r"1 of 1 annotations in a\.json\.gz are of questions that q\.json has not"):
        vqa.Questions(str(tmp_path), options)
    with pytest.raises(ValueError, match="wanted QUESTIONS,ANNOTATIONS"):
        vqa.Questions(str(tmp_path), vqa.Options(train="q.json"))
    with pytest.raises(ValueError, match="no such file"):
        vqa.Questions(str(tmp_path), vqa.Options(train="q.json,b.json"))
    with pytest.raises(ValueError, match="not VQA's JSON with a list 'annotations'"):
        vqa.Questions(str(tmp_path), vqa.Options(train="q.json,q.json"))
    with pytest.raises(ValueError, match="name the questions' and the annotations' file"):
        vqa.Questions(str(tmp_path), vqa.Options())


def test_the_official_subset(real_data: Path) -> None:
    root = real_data / "vqa_v2_subset"
    named = {s: f"vqa_questions_{n}.gzip,vqa_annotatons_{n}.gzip" for s, n in (("val", "valid"), ("test", "test"))}
    source = vqa.Questions(str(root), vqa.Options(**named))
    assert {split: len(entries) for split, entries in source.samples().items()} == {"val": 8977, "test": 2962}
    assert len(source.types["question_type"]) == 65 and not any(e.problem for e in source.samples()["test"])
