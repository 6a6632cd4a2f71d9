"""Questions about images with ten people's answers: VQA v1 and v2 in their official JSON, plain or gzipped.

    python -m jobs.shard --source vqa:FOLDER --option train QUESTIONS.json,ANNOTATIONS.json \
        val QUESTIONS.json,ANNOTATIONS.json images train2014 --output /data/vqa

Fields: question, answers, question_type, answer_type; image, where a folder of them is given (an image is found by the
number that its name ends in: COCO_train2014_000000000009.jpg is image 9); choices, where the questions have some (v1).
A question without annotation or image, whose id occurs twice, or that is not as the format has it, is a row with its
reason.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
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
        joined = {split: _joined(root, split, files) for split, files in named.items()}
        self.splits = {split: (questions, annotations) for split, (questions, annotations, _) in joined.items()}
        self.repeated = {number for *_, several in joined.values() for number in several}
        """Questions with several annotations."""

    @cached_property
    def pictures(self) -> dict[int, list[str]]:
        """Image number -> its files below the root; there should be one."""
        if not self.folder:
            return {}
        there = storage.listing(storage.join(self.root, self.folder))
        found: dict[int, list[str]] = {}
        for path in sorted(there):
            match = _NUMBER.search(path)
            if match and path.lower().endswith(decode.EXTENSIONS):
                found.setdefault(int(match[1]), []).append(f"{self.folder}/{path}")
        if not found:
            raise ValueError(f"--option images {self.folder}: no image there whose name ends in a number")
        return found

    @cached_property
    def types(self) -> dict[str, tuple[str, ...]]:
        """Names of the question types and answer types, sorted."""
        rows = [a for _, annotations in self.splits.values() for a in annotations.values()]
        return {
            name: tuple(sorted({a[name] for a in rows if isinstance(a[name], str)}))
            for name in ("question_type", "answer_type")
        }

    @cached_property
    def chosen(self) -> bool:
        """Whether questions have choices."""
        return any("multiple_choices" in q for questions, _ in self.splits.values() for q in questions)

    @cached_property
    def left_out(self) -> list[str]:
        """Images without a question."""
        asked = {q["image_id"] for questions, _ in self.splits.values() for q in questions}
        return [path for number, paths in self.pictures.items() if number not in asked for path in paths]

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
        number = question["question_id"]
        try:
            if ids[number] > 1:
                raise ValueError("its question id occurs more than once")
            if number in self.repeated:
                raise ValueError("it has more than one annotation")
            if annotation is None:
                raise ValueError("no annotation of this question")
            return Entry(f"question {number}", self._files(question, annotation))
        except ValueError as error:
            return Entry(f"question {number}", {}, problem=str(error))

    def _files(self, question: dict[str, Any], annotation: dict[str, Any]) -> dict[str, str]:
        """What each field is read from. Raises ValueError: the reason why the question is a bad row."""
        if not isinstance(question["question"], str):
            raise ValueError("its question is no text")
        texts = {"question": ("tokens", question["question"]), "answers": ("answers", _answers(annotation))}
        if self.chosen:
            choices = question.get("multiple_choices")
            if not isinstance(choices, list) or not all(isinstance(one, str) for one in choices):
                raise ValueError("its multiple_choices are no list of texts")
            texts["choices"] = "answers", choices
        try:
            files = {name: kinds.named(kind).write(value).decode() for name, (kind, value) in texts.items()}
        except UnicodeEncodeError as error:
            raise ValueError(f"a text of it is no valid Unicode ({error.reason})") from error
        for name, names in self.types.items():
            if annotation[name] not in names:
                raise ValueError(f"its {name} is no text")
            files[name] = str(names.index(annotation[name]))
        if self.folder:
            there = self.pictures.get(question["image_id"], [])
            if len(there) != 1:
                several = f": {', '.join(there[:3])} end in that number" if there else ""
                raise ValueError(f"no image {question['image_id']}{several}")
            [files["image"]] = there
        return files

    @property
    def reader(self) -> Reader:
        return partial(_read, self.root)


def _read(root: str, path: str, member: str) -> bytes:
    return storage.read(storage.join(root, path)) if member == "image" else path.encode()


def _is_id(value: object) -> bool:
    return isinstance(value, int | str)


def _answers(annotation: dict[str, Any]) -> list[str]:
    """What people said."""
    given = annotation["answers"]
    if not isinstance(given, list) or not all(isinstance(one, dict) and "answer" in one for one in given):
        raise ValueError("its answers are no list of objects with an answer")
    return [str(one["answer"]) for one in given]


def _joined(root: str, split: str, files: str) -> tuple[list[dict[str, Any]], dict[int, dict[str, Any]], set[int]]:
    """The questions, question id -> annotation, and the ids that have several."""
    names = [part.strip() for part in files.split(",")]
    if len(names) != 2 or not all(names):
        raise ValueError(f"--option {split} {files}: wanted QUESTIONS,ANNOTATIONS")
    questions = _rows(root, names[0], "questions", ("question_id", "image_id", "question"))
    rows = _rows(root, names[1], "annotations", ("question_id", "answers", "question_type", "answer_type"))
    annotations = {row["question_id"]: row for row in rows}
    several = {number for number, count in Counter(row["question_id"] for row in rows).items() if count > 1}
    ids = {q["question_id"] for q in questions}
    if strangers := [number for number in annotations if number not in ids]:
        raise ValueError(
            f"--option {split}: {len(strangers)} of {len(annotations)} annotations in {names[1]} are of questions that "
            f"{names[0]} has not, such as {strangers[0]}: are they of another split?"
        )
    return questions, annotations, several


def _rows(root: str, name: str, key: str, wanted: tuple[str, ...]) -> list[dict[str, Any]]:
    path = storage.join(root, name)
    if not storage.exists(path):
        raise ValueError(f"--source {path}: there is no such file")
    data = storage.read(path)
    try:
        rows = json.loads(gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data)[key]
        missing = {column for row in rows for column in wanted if column not in row}
        odd = {column for row in rows for column in wanted if column.endswith("_id") and not _is_id(row.get(column))}
    except (ValueError, KeyError, TypeError, OSError, EOFError, zlib.error, RecursionError) as error:
        raise ValueError(f"--source {path}: not VQA's JSON with a list {key!r} ({error})") from error
    if odd - missing:
        raise ValueError(f"--source {path}: {key} with a {min(odd - missing)} that is neither a number nor a text")
    if missing or not rows:
        raise ValueError(f"--source {path}: {key} without {min(missing) if missing else 'any row'}")
    found: list[dict[str, Any]] = rows
    return found
