"""Baselines without a network on a data set, the table by type, which answers are confused."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest

from jobs import shard
from pipeline.data.shards import DataSet
from pipeline.evaluation import answers, priors
from pipeline.evaluation.vqa import Truth, report
from pipeline.tracking import drawn


def _questions(folder: Path, name: str, rows: list[tuple[str, str, str]], first: int) -> str:
    """Files of rows (question, its type, its answer)."""
    ids = range(first, first + len(rows))
    asked = [{"question_id": i, "image_id": i, "question": row[0]} for i, row in zip(ids, rows, strict=True)]
    given = [
        {
            "question_id": i,
            "answers": [{"answer": row[2], "answer_id": k} for k in range(10)],
            "question_type": row[1],
            "answer_type": "other",
        }
        for i, row in zip(ids, rows, strict=True)
    ]
    (folder / f"{name}-q.json").write_text(json.dumps({"questions": asked}))
    (folder / f"{name}-a.json").write_text(json.dumps({"annotations": given}))
    return f"{name}-q.json,{name}-a.json"


def test_baselines_of_a_data_set(tmp_path: Path, no_ray: None) -> None:
    train = [
        ("how many?", "how", "no"),
        ("how far?", "how", "no"),
        ("how old?", "how", "no"),
        ("is the dog big?", "is", "yes"),
        ("is the dog old?", "is", "yes"),
        ("is the dog there?", "is", "yes"),
        ("is the dog out?", "is", "yes"),
        ("is the dog in?", "is", "yes"),
        ("what color is the sky?", "what", "blue"),
        ("what color is the cat?", "what", "black"),
        ("what color is a cat?", "what", "black"),
    ]
    val = [("what color is the big cat?", "what", "black"), ("is the sky big?", "is", "yes"), ("xyz", "how", "2")]
    option = {"train": _questions(tmp_path, "t", train, 0), "val": _questions(tmp_path, "v", val, 50)}
    root = str(tmp_path / "data")
    (tmp_path / "source").mkdir()
    for path in tmp_path.glob("*.json"):
        path.rename(tmp_path / "source" / path.name)
    shard.run(shard.Config(source=f"vqa:{tmp_path / 'source'}", option=option, output=root, workers=1))
    found = answers.baselines(DataSet(root), DataSet(root, "val"), 3)
    assert found["prior"] == ["yes"] * 3 and found["prior_per_type"] == ["black", "yes", "no"]
    assert set(found["random"]) <= {"yes", "no", "blue", "black"}
    assert found["nearest"][0] == "black"  # of 4: two are black, one blue
    assert found["nearest"][2] == "yes"  # no word of it is known: the prior


def test_nearest_questions_equal_a_loop_over_bags() -> None:
    known = [["what", "is", "this"], ["is", "this", "red"], ["how", "many", "many", "dogs"], ["is", "it"]]
    asked = [["is", "this", "blue"], ["many", "dogs"]]
    places, similarities = priors.neighbours(known, asked, 4)
    names = sorted({word for words in known for word in words})

    def unit(words: list[str]) -> np.ndarray:
        counts = np.array([float(words.count(name)) for name in names])
        return np.asarray(counts / np.linalg.norm(counts))

    for row, words in enumerate(asked):
        wanted = [float(unit(words) @ unit(other)) for other in known]
        assert places[row].tolist() == sorted(range(4), key=lambda i: (-round(wanted[i], 6), i))
        np.testing.assert_allclose(similarities[row], [wanted[i] for i in places[row]], atol=1e-6)


def test_the_table_has_a_row_for_each_type() -> None:
    truths = [
        Truth(i, tuple(["yes"] * 10), kind, group)
        for i, (kind, group) in enumerate((("is", "yes/no"), ("is", "yes/no"), ("what", "other")))
    ]
    reports = {
        "run": report({0: "yes", 1: "no", 2: "yes"}, truths),
        "prior": report(dict.fromkeys(range(3), "no"), truths),
    }
    rows = list(csv.reader(io.StringIO(answers.table(reports, truths))))
    assert rows == [
        ["kind", "group", "questions", "run", "prior"],
        ["all", "", "3", "66.67", "0.0"],
        ["answer_type", "yes/no", "2", "50.0", "0.0"],
        ["answer_type", "other", "1", "100.0", "0.0"],
        ["question_type", "is", "2", "50.0", "0.0"],
        ["question_type", "what", "1", "100.0", "0.0"],
    ]


def test_confusions_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[tuple[np.ndarray, list[str]]] = []
    monkeypatch.setattr(drawn, "matrix", lambda counts, names, title: kept.append((counts, names)))
    wanted, said = ["yes", "yes", "yes", "no", "no", "red"], ["yes", "no", "blue", "no", "yes", "red"]
    answers.confusion(wanted, said, most=2)
    [(counts, names)] = kept
    assert names == ["yes", "no", "others"]
    assert counts.tolist() == [[1, 1, 1], [1, 1, 0], [0, 0, 1]]


def test_an_answer_without_a_majority_is_the_first_of_the_most_frequent() -> None:
    assert answers.given_most(["b", "a", "b", "a", "c"]) == "a"
    assert answers.given_most(["x"]) == "x"
