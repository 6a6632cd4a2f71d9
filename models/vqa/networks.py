"""The baselines of Antol et al. (ICCV 2015, section 5.2): a channel for the question, one for the image, a classifier.

Each takes a step's dropout masks last: None in evaluation.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from models.vqa.layers import Masks, dropout, embedding, linear, lstm, run

FIRST = 2
"""Number of the most frequent word: 0 stands for no word, 1 for unknown ones (`models.family.KINDS`)."""


class BagOfWords(nn.Module):
    """BoW Q: how often each of the `common` most frequent words occurs, and which of the most frequent first, second
    and third words the question begins with: 1,000 + 3 x 10 numbers in the paper. Nothing is trained here."""

    openers: Tensor

    def __init__(self, common: int, openers: Sequence[Sequence[int]]) -> None:
        """`openers`: ids of the words looked for at each of the first places."""
        super().__init__()
        widest = max((len(row) for row in openers), default=0)
        filled = [[*row, *[-1] * (widest - len(row))] for row in openers]  # -1: no word
        self.register_buffer("openers", torch.tensor(filled, dtype=torch.int64).view(len(filled), widest))
        self.common = common
        self.width = common + self.openers.numel()

    def forward(
        self, tokens: Int[Tensor, "b t"], lengths: Int[Tensor, " b"], masks: Masks | None
    ) -> Float[Tensor, "b w"]:
        places = tokens - FIRST
        counted = (places >= 0) & (places < self.common)
        counts = torch.zeros(len(tokens), self.common, device=tokens.device)
        counts.scatter_add_(1, places.clamp(0, self.common - 1), counted.float())
        first = F.pad(tokens, (0, max(0, len(self.openers) - tokens.shape[1])))[:, : len(self.openers)]  # B places
        opens = (first[:, :, None] == self.openers).flatten(1).float()
        return torch.cat([counts, opens], 1)


class Recurrent(nn.Module):
    """LSTM Q: word vectors (a linear layer on one-hot words, tanh), LSTM layers, and [cell; hidden] of each layer at
    the question's end: 1,024 numbers for one layer of 512, 2,048 for two."""

    def __init__(self, words: int, width: int, hidden: int, layers: int, share: float) -> None:
        """`share`: of numbers dropped, of the word vectors before tanh and between layers; the paper has 0, the
        released code 0.5."""
        super().__init__()
        self.embed = embedding(words, width)
        self.layers = nn.ModuleList(lstm(width if i == 0 else hidden, hidden) for i in range(layers))
        self.share = share
        self.width = 2 * hidden * layers

    def forward(
        self, tokens: Int[Tensor, "b t"], lengths: Int[Tensor, " b"], masks: Masks | None
    ) -> Float[Tensor, "b w"]:
        x = torch.tanh(dropout(self.embed(tokens), self.share, masks))
        ends: list[Tensor] = []
        for number, layer in enumerate(self.layers):
            assert isinstance(layer, nn.LSTM)
            x = dropout(x, self.share if number else 0.0, masks)
            x, hidden, cell = run(layer, x, lengths)
            ends += [cell[0], hidden[0]]
        return torch.cat(ends, 1)


class Picture(nn.Module):
    """I: an image's vector as it is (VGG's last hidden layer, 4,096 numbers); norm I: l2-normalised."""

    def __init__(self, width: int, normalised: bool) -> None:
        super().__init__()
        self.width, self.normalised = width, normalised

    def forward(self, image: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        return F.normalize(image, dim=1) if self.normalised else image


class Concatenation(nn.Module):
    """BoW Q + I: one behind the other."""

    def __init__(self, question: int, image: int) -> None:
        super().__init__()
        self.width = question + image

    def forward(self, question: Tensor, image: Tensor, masks: Masks | None) -> Float[Tensor, "b w"]:
        return torch.cat([question, image], 1)


class Product(nn.Module):
    """LSTM Q + I: both through a linear layer and tanh to `joint` numbers, multiplied. The paper gives the one-layer
    LSTM's 1,024 numbers no layer of their own: `direct`."""

    def __init__(self, question: int, image: int, joint: int, direct: bool, share: float) -> None:
        """`share`: of numbers dropped before either layer; the paper has 0, the released code 0.5.

        Raises:
            ValueError: `direct`, and the question has not `joint` numbers.
        """
        super().__init__()
        if direct and question != joint:
            raise ValueError(f"--joint {joint}: without a layer of its own the question's {question} numbers must do")
        self.question = None if direct else linear(question, joint)
        self.image = linear(image, joint)
        self.share = share
        self.width = joint

    def forward(
        self, question: Float[Tensor, "b q"], image: Float[Tensor, "b i"], masks: Masks | None
    ) -> Float[Tensor, "b w"]:
        if self.question is not None:
            question = torch.tanh(self.question(dropout(question, self.share, masks)))
        return question * torch.tanh(self.image(dropout(image, self.share, masks)))


class Classifier(nn.Module):
    """Hidden layers, each a linear one, tanh and dropout, then one number for each answer (before softmax)."""

    def __init__(self, inputs: int, hidden: Sequence[int], answers: int, share: float, first: bool) -> None:
        """`first`: dropout of the inputs too."""
        super().__init__()
        widths = [inputs, *hidden]
        self.hidden = nn.ModuleList(linear(a, b) for a, b in pairwise(widths))
        self.out = linear(widths[-1], answers)
        self.share, self.first = share, first

    def forward(self, x: Float[Tensor, "b i"], masks: Masks | None) -> Float[Tensor, "b k"]:
        if self.first:
            x = dropout(x, self.share, masks)
        for layer in self.hidden:
            x = dropout(torch.tanh(layer(x)), self.share, masks)
        out: Tensor = self.out(x)
        return out


class Answerer(nn.Module):
    """A baseline: its channels, their fusion where there are both, the classifier."""

    def __init__(
        self,
        question: BagOfWords | Recurrent | None,
        image: Picture | None,
        fusion: Concatenation | Product | None,
        classifier: Classifier,
    ) -> None:
        super().__init__()
        self.question, self.image, self.fusion, self.classifier = question, image, fusion, classifier

    def forward(
        self,
        tokens: Int[Tensor, "b t"],
        lengths: Int[Tensor, " b"],
        image: Float[Tensor, "b d"] | None,
        masks: Masks | None = None,
    ) -> tuple[Float[Tensor, "b k"], None]:
        """Scores of the answers (before softmax), and no attention. `image` may be None where the baseline is blind."""
        channels: list[Tensor] = []
        if self.question is not None:
            channels.append(self.question(tokens, lengths, masks))
        if self.image is not None:
            channels.append(self.image(image))
        joined = channels[0] if self.fusion is None else self.fusion(*channels, masks)
        return self.classifier(joined, masks), None
