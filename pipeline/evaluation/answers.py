"""What stands beside a run's answers: the baselines without a network, a table by type, which answers are confused."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from models.common.seeds import seeded
from pipeline.data.kinds.tokens import words
from pipeline.data.shards import DataSet
from pipeline.evaluation import priors
from pipeline.evaluation.vqa import Accuracies, Truth
from pipeline.tracking import drawn

NEAREST = 4
"""Training questions that the nearest-neighbour baseline looks at."""


def given_most(answers: Sequence[str]) -> str:
    """The answer that most people gave; of equally frequent ones the first in alphabetical order."""
    return Counter(sorted(answers)).most_common(1)[0][0]


def baselines(training: DataSet, data: DataSet, count: int, seed: int = 0) -> dict[str, list[str]]:
    """Baseline -> its answers to the first `count` questions of `data` (Antol et al., section 5.2).

    `random`: of the 1,000 most frequent training answers. `prior`: the most frequent one. `prior_per_type`: of the
    question's type, where the data set has types. `nearest`: the most frequent answer of the most similar training
    questions, or where there are features of images (`vector`) the answer of that one of them whose image is most
    similar; the prior where no question has a word in common with it.
    """
    answers = [given_most(one) for one in training.column("answers")]
    most = priors.prior(answers)
    guesses = priors.random_answers(priors.top_answers(answers, 1000), count, seeded(seed, "random"))
    found = {"random": guesses, "prior": [most] * count}
    if "question_type" in data.fields:
        # The numbers of types are of the whole data set.
        by_type = priors.type_priors(list(map(str, training.column("question_type"))), answers)
        found["prior_per_type"] = [by_type.get(str(kind), most) for kind in data.column("question_type")[:count]]
    k = min(NEAREST, len(answers))
    known, asked = ([words(texts[0]) for texts in some.column("question")] for some in (training, data))
    places, similarities = priors.neighbours(known, asked[:count], k)
    if "vector" in data.fields:
        places, similarities = _of_nearest_image(training, data, torch.from_numpy(places)), similarities[:, :1]
    found["nearest"] = [
        priors.neighbours_answer([answers[i] for i in row], values) if values[0] > 0 else most
        for row, values in zip(places.tolist(), similarities.tolist(), strict=True)
    ]
    return found


def _of_nearest_image(training: DataSet, data: DataSet, places: Tensor) -> np.ndarray:
    """`Q 1`: of the neighbours `Q k` the one whose image is most similar."""
    needed, rows = torch.unique(places, return_inverse=True)
    known = torch.stack([torch.from_numpy(training.value(int(i), "vector")) for i in needed])
    own = torch.stack([torch.from_numpy(data.value(i, "vector")) for i in range(len(places))])
    found: np.ndarray = needed[priors.nearest_images(rows, own, known)][:, None].numpy()
    return found


def table(reports: Mapping[str, Accuracies], truths: Sequence[Truth]) -> str:
    """Accuracies in % as CSV: a row for all questions, each answer type and each question type, with the number of
    questions; a column for each of `reports`."""
    groups = [("all", "", len(truths), [one.overall for one in reports.values()])]
    for kind in ("answer_type", "question_type"):
        counts = Counter(getattr(truth, kind) for truth in truths)
        for group, count in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])):
            values = [getattr(one, f"by_{kind}")[group] for one in reports.values()]
            groups.append((kind, group, count, values))
    sink = io.StringIO()
    out = csv.writer(sink, lineterminator="\n")
    out.writerow(["kind", "group", "questions", *reports])
    out.writerows([kind, group, count, *values] for kind, group, count, values in groups)
    return sink.getvalue()


def confusion(wanted: Sequence[str], said: Sequence[str], most: int = 16) -> Image.Image:
    """Which answers are given in place of which: a row for each of the `most` most frequent answers of people, the rest
    in a last one; columns alike; in each cell the number of questions, shaded by its share of the row."""
    counts = Counter(wanted)
    names = sorted(counts, key=lambda name: (-counts[name], name))[:most]
    places = {name: i for i, name in enumerate(names)}
    cells = torch.zeros(len(names) + 1, len(names) + 1, dtype=torch.int64)
    for right, given in zip(wanted, said, strict=True):
        cells[places.get(right, -1), places.get(given, -1)] += 1
    return drawn.matrix(
        cells.numpy(), [*names, "others"], "Answers: what people say (rows), what the network says (columns)"
    )
