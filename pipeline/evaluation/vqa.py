"""The official accuracy of visual question answering, with its quirks.

Source: GT-Vision-Lab/VQA, PythonEvaluationTools (Antol et al., ICCV 2015, section 4.3; Goyal et al., CVPR 2017). A
prediction is compared with each set of nine of a question's ten answers: three matches are enough. Ten answers of which
n match give 0, 0.3, 0.6, 0.9 and, from n = 4 on, 1; min(n / 3, 1) would give 0.333 and 0.667.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
"""Taken out in this order. Apostrophes, colons and periods are not among them."""
COMMA_BETWEEN_DIGITS = re.compile(r"\d,\d")
PERIOD = re.compile(r"\.(?!\d)")
"""The official look-behind is mistyped and never fails, so that only what follows the period counts: "3.5" stays."""
PERIODS = 32
"""Periods deleted at most: the official code passes a flag, re.UNICODE, where `re.sub` takes its count."""
_TO_TEN = "zero one two three four five six seven eight nine ten"
NUMBERS = {"none": "0", **{word: str(number) for number, word in enumerate(_TO_TEN.split())}}
ARTICLES = frozenset(("a", "an", "the"))
_APOSTROPHES = """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've
    he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've needn't not've
    o'clock oughtn't shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd
    someone'd've someone'll someone's something'd something'd've something'll that's there'd there'd've there're there's
    they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's what've when's
    where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't would've wouldn't wouldn't've
    y'all y'all'll y'all'd've you'd you'd've you'll you're you've
"""


def _without_one(word: str) -> list[str]:
    """The word with each of its apostrophes left out in turn."""
    return [word[:i] + word[i + 1 :] for i, letter in enumerate(word) if letter == "'"]


CONTRACTIONS = {
    **{wrong: right for right in _APOSTROPHES.split() for wrong in _without_one(right)},
    # Not regular in the official table, one of them the wrong way round.
    "somebody'd": "somebodyd",
    "ow's'at": "'ow's'at",
    "'ows'at": "'ow's'at",
    "'ow'sat": "'ow's'at",
}
"""The official table, without its entries that change nothing or begin with a capital (words are lower-case here)."""


def normalise(text: str) -> str:
    """The official normal form of an answer: punctuation, case, numbers to ten, articles, contractions.

    Whether a sign is deleted or replaced by a space depends on the whole text: deleted if that sign stands beside a
    space anywhere, or if any comma stands between two digits ("yellow,black, blue" -> "yellowblack blue").
    """
    deleting = COMMA_BETWEEN_DIGITS.search(text) is not None
    cleaned = text
    for sign in PUNCTUATION:
        beside_space = sign + " " in text or " " + sign in text
        cleaned = cleaned.replace(sign, "" if deleting or beside_space else " ")
    cleaned = PERIOD.sub("", cleaned, count=PERIODS)
    words = (NUMBERS.get(word, word) for word in cleaned.lower().split())
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES)


def _trim(text: str) -> str:
    return text.replace("\n", " ").replace("\t", " ").strip()


def accuracy(prediction: str, answers: Sequence[str]) -> float:
    """In [0, 1]: the mean over the leave-one-out sets of `answers` of min(matches / 3, 1).

    Nothing is normalised where all answers are the same string: then "Yes" does not match "yes".

    Raises:
        ValueError: no answers.
    """
    if not answers:
        raise ValueError("a question without answers has no accuracy: leave it out and count it")
    prediction, answers = _trim(prediction), [_trim(answer) for answer in answers]
    if len(set(answers)) > 1:
        prediction, answers = normalise(prediction), [normalise(answer) for answer in answers]
    matches = [answer == prediction for answer in answers]
    total = sum(matches)
    return sum(min((total - match) / 3, 1) for match in matches) / len(answers)


@dataclass(frozen=True)
class Truth:
    """What is known of one question."""

    question: int
    """Its id."""
    answers: tuple[str, ...]
    """As people gave them: ten in VQA."""
    question_type: str
    """One of the 65 openings ("how many"), or "none of the above"."""
    answer_type: str
    """"yes/no", "number" or "other"."""
    choices: tuple[str, ...] = ()
    """Of the multiple-choice task, 18; none in VQA v2."""


@dataclass(frozen=True)
class Accuracies:
    """Percentages, rounded to two places as the official code does."""

    overall: float
    by_answer_type: dict[str, float]
    by_question_type: dict[str, float]
    each: dict[int, float]
    """Question id -> its percentage."""


def report(predictions: Mapping[int, str], truths: Iterable[Truth]) -> Accuracies:
    """The official figures of `predictions` (question id -> answer).

    Raises:
        ValueError: no questions, an id twice, a question without a prediction, or a prediction for none of them
            (annotations of another split).
    """
    truths = list(truths)
    ids = Counter(truth.question for truth in truths)
    if not ids:
        raise ValueError("no questions to judge")
    if twice := [question for question, count in ids.items() if count > 1]:
        raise ValueError(f"{len(twice)} question ids occur more than once, such as {twice[0]}")
    if missing := [question for question in ids if question not in predictions]:
        raise ValueError(f"{len(missing)} of {len(ids)} questions have no prediction, such as {missing[0]}")
    if strange := [question for question in predictions if question not in ids]:
        raise ValueError(
            f"{len(strange)} predictions are for other questions, such as {strange[0]}: are the annotations of another "
            "split?"
        )
    each = {truth.question: accuracy(predictions[truth.question], truth.answers) for truth in truths}

    def means(groups: Mapping[int, str]) -> dict[str, float]:
        found: dict[str, list[float]] = {}
        for question, group in groups.items():
            found.setdefault(group, []).append(each[question])
        return {group: _percent(found[group]) for group in sorted(found)}

    return Accuracies(
        _percent(list(each.values())),
        means({truth.question: truth.answer_type for truth in truths}),
        means({truth.question: truth.question_type for truth in truths}),
        {question: _percent([value]) for question, value in each.items()},
    )


def _percent(values: Sequence[float]) -> float:
    return round(100 * sum(values) / len(values), 2)


def choose(scores: Mapping[str, float], choices: Sequence[str]) -> str:
    """Multiple choice: the best-scored of `choices` (the first one, if none has a score).

    Raises:
        ValueError: no choices.
    """
    if not choices:
        raise ValueError("a question without choices: the multiple-choice task is of VQA v1 only")
    return max(choices, key=lambda choice: scores.get(choice, float("-inf")))
