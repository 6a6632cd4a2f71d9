"""Questions about images with ten people's answers: VQA v1 and v2 in their official JSON, plain or gzipped.

    python -m jobs.shard --source vqa:FOLDER --option train QUESTIONS.json,ANNOTATIONS.json \
        val QUESTIONS.json,ANNOTATIONS.json images train2014 --output /data/vqa

Fields: question, answers, question_type, answer_type; image, where a folder of them is given (an image is found by the
number that its name ends in: COCO_train2014_000000000009.jpg is image 9); choices, where the questions have some (v1).
A question without annotation or image, or whose id occurs twice, is a row with its reason.
"""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, ClassVar

from pipeline.artifacts import storage
from pipeline.data import decode, kinds
from pipeline.data.samples import Entry, Field, Reader, Source

BUILT_IN = False
_NUMBER = re.compile(r"(\d+)\.[^.]+$")


@dataclass(frozen=True)
class Options:
    """Which files hold what, below the folder."""

    train: str = ""
    """QUESTIONS,ANNOTATIONS of the training split."""
    val: str = ""
    test: str = ""
    images: str = ""
    """Folder of the images, of all splits; none: questions without images."""

    ADDED: ClassVar[tuple[str, ...]] = ()


def open_source(place: str, options: Options) -> Source:
    return Questions(place, options)


def read_only(place: str, options: Options) -> Reader:
    return partial(_read, place)


class Questions:
    """The questions of one folder."""

    def __init__(self, root: str, options: Options) -> None:
        """Raises ValueError: no files named, none there, not VQA's JSON, or annotations of another split."""
        self.root, self.folder = root, options.images
        named = {split: getattr(options, split) for split in ("train", "val", "test") if getattr(options, split)}
        if not named:
            raise ValueError("--option train: name the questions' and the annotations' file, separated by a comma")
        self.splits = {split: _joined(root, split, files) for split, files in named.items()}

    @cached_property
    def pictures(self) -> dict[int, str]:
        """Image number -> its file below the root."""
        if not self.folder:
            return {}
        there = storage.listing(storage.join(self.root, self.folder))
        found = {}
        for path in sorted(there):
            match = _NUMBER.search(path)
            if match and path.lower().endswith(decode.EXTENSIONS):
                found[int(match[1])] = f"{self.folder}/{path}"
        if not found:
            raise ValueError(f"--option images {self.folder}: no image there whose name ends in a number")
        return found

    @cached_property
    def types(self) -> dict[str, tuple[str, ...]]:
        """Names of the question types and answer types, sorted."""
        rows = [a for _, annotations in self.splits.values() for a in annotations.values()]
        return {name: tuple(sorted({str(a[name]) for a in rows})) for name in ("question_type", "answer_type")}

    @cached_property
    def chosen(self) -> bool:
        """Whether questions have choices."""
        return any("multiple_choices" in q for questions, _ in self.splits.values() for q in questions)

    @cached_property
    def left_out(self) -> list[str]:
        """Images without a question."""
        asked = {q["image_id"] for questions, _ in self.splits.values() for q in questions}
        return [path for number, path in self.pictures.items() if number not in asked]

    @property
    def fields(self) -> dict[str, Field]:
        found = {"question": Field("question", kind="tokens"), "answers": Field("answers", kind="answers")}
        found |= {name: Field(name, kind="class", names=names) for name, names in self.types.items()}
        if self.folder:
            found["image"] = Field("image")
        if self.chosen:
            found["choices"] = Field("choices", kind="answers")
        return found

    def samples(self) -> dict[str, list[Entry]]:
        ids = Counter(q["question_id"] for questions, _ in self.splits.values() for q in questions)
        return {
            split: [self._entry(q, annotations.get(q["question_id"]), ids) for q in questions]
            for split, (questions, annotations) in self.splits.items()
        }

    def _entry(self, question: dict[str, Any], annotation: dict[str, Any] | None, ids: Counter[int]) -> Entry:
        number, problem = question["question_id"], ""
        files = {"question": kinds.named("tokens").write(str(question["question"])).decode()}
        if annotation is None:
            problem = "no annotation of this question"
        else:
            given = [str(one["answer"]) for one in annotation.get("answers", [])]
            files["answers"] = kinds.named("answers").write(given).decode()
            for name, names in self.types.items():
                files[name] = str(names.index(str(annotation[name])))
        if self.folder:
            files["image"] = self.pictures.get(question["image_id"], "")
            if not files["image"]:
                problem = problem or f"no image {question['image_id']}"
        if self.chosen:
            files["choices"] = kinds.named("answers").write(question.get("multiple_choices", [])).decode()
        if ids[number] > 1:
            problem = "its question id occurs more than once"
        return Entry(f"question {number}", files, problem=problem)

    @property
    def reader(self) -> Reader:
        return partial(_read, self.root)


def _read(root: str, path: str, member: str) -> bytes:
    return storage.read(storage.join(root, path)) if member == "image" else path.encode()


def _joined(root: str, split: str, files: str) -> tuple[list[dict[str, Any]], dict[int, dict[str, Any]]]:
    """The questions, and question id -> annotation."""
    names = [part.strip() for part in files.split(",")]
    if len(names) != 2 or not all(names):
        raise ValueError(f"--option {split} {files}: wanted QUESTIONS,ANNOTATIONS")
    questions = _rows(root, names[0], "questions", ("question_id", "image_id", "question"))
    rows = _rows(root, names[1], "annotations", ("question_id", "answers", "question_type", "answer_type"))
    annotations = {row["question_id"]: row for row in rows}
    ids = {q["question_id"] for q in questions}
    if strangers := [number for number in annotations if number not in ids]:
        raise ValueError(
            f"--option {split}: {len(strangers)} of {len(annotations)} annotations in {names[1]} are of questions that "
            f"{names[0]} has not, such as {strangers[0]}: are they of another split?"
        )
    return questions, annotations


def _rows(root: str, name: str, key: str, wanted: tuple[str, ...]) -> list[dict[str, Any]]:
    path = storage.join(root, name)
    if not storage.exists(path):
        raise ValueError(f"--source {path}: there is no such file")
    data = storage.read(path)
    try:
        rows = json.loads(gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data)[key]
        missing = {column for row in rows for column in wanted if column not in row}
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise ValueError(f"--source {path}: not VQA's JSON with a list {key!r} ({error})") from error
    if missing or not rows:
        raise ValueError(f"--source {path}: {key} without {min(missing) if missing else 'any row'}")
    found: list[dict[str, Any]] = rows
    return found
