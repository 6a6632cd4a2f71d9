"""Losses of question answering and of matching: pure functions of tensors."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

MARGIN = 100.0
"""Of m-DAN's loss (Nam et al., section 4.1)."""


def matching_loss(
    image: Float[Tensor, "b z"],
    text: Float[Tensor, "b z"],
    other_image: Float[Tensor, "b z"],
    other_text: Float[Tensor, "b z"],
    margin: float = MARGIN,
) -> Float[Tensor, " b"]:
    """max(0, m - S(v, u) + S(v-, u)) + max(0, m - S(v, u) + S(v, u-)) of each pair, S the inner product (Nam et al.,
    section 3.4): one wrong image and one wrong text a pair."""

    def similarity(a: Tensor, b: Tensor) -> Tensor:
        return (a * b).sum(1)

    right = similarity(image, text)
    wrong_image = (margin - right + similarity(other_image, text)).clamp(min=0)
    return wrong_image + (margin - right + similarity(image, other_text)).clamp(min=0)


def negatives(images: Int[Tensor, " b"], generator: torch.Generator) -> Int[Tensor, " b"]:
    """For each row of a batch another row, drawn evenly from those of other images (`images`: their ids): a text of the
    same image is no wrong one.

    Raises:
        ValueError: a row has none, since all are of one image.
    """
    other = images[:, None] != images  # B B
    if not bool(other.any(1).all()):
        raise ValueError("a batch of texts of one image has no wrong pairs: make --batch larger")
    return torch.multinomial(other.double().cpu(), 1, generator=generator)[:, 0].to(images.device)


def answer_loss(scores: Float[Tensor, "b k"], counts: Float[Tensor, "b k"]) -> tuple[Tensor, Tensor]:
    """(sum of the cross-entropies with each question's most frequent answer, questions that have one): `counts` of the
    people who gave each answer of the vocabulary; questions without any of them do not count."""
    known = counts.sum(1) > 0
    losses = F.cross_entropy(scores, counts.argmax(1), reduction="none")
    return (losses * known).sum(), known.sum()


def agreement(scores: Float[Tensor, "b k"], counts: Float[Tensor, "b k"], people: int = 10) -> Float[Tensor, " b"]:
    """VQA's accuracy of the best-scored answer by the counts alone, without the official normalisation: n of `people`
    gave it, mean over the leave-one-out sets of min(n' / 3, 1). In [0, 1]."""
    n = counts.gather(1, scores.argmax(1, keepdim=True))[:, 0]
    one_less = ((n - 1) / 3).clamp(0, 1)
    return (n * one_less + (people - n) * (n / 3).clamp(max=1)) / people
