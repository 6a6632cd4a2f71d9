"""Dual Attention Networks (Nam, Ha, Kim, CVPR 2017, arXiv 1611.00471): K steps of visual and textual attention.

Equation numbers in words: h = tanh(W v) * tanh(W_m m), attention = softmax(W_h h), context = weighted sum. Every step
has weights of its own. A step's dropout masks come last: None in evaluation.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from models.vqa.layers import Masks, dropout, embedding, linear, lstm, run


class Words(nn.Module):
    """u_t: word vectors through a bidirectional LSTM, forward + backward hidden state (section 3.1)."""

    def __init__(self, words: int, hidden: int, share: float) -> None:
        super().__init__()
        self.embed = embedding(words, hidden)
        self.lstm = lstm(hidden, hidden, both_ways=True)
        self.share = share

    def forward(
        self, tokens: Int[Tensor, "b t"], lengths: Int[Tensor, " b"], masks: Masks | None
    ) -> Float[Tensor, "b t h"]:
        """0 behind each text's end."""
        out, _, _ = run(self.lstm, dropout(self.embed(tokens), self.share, masks), lengths)
        forward, backward = out.chunk(2, dim=2)
        return forward + backward


def present(tokens: Int[Tensor, "b t"], lengths: Int[Tensor, " b"]) -> Bool[Tensor, "b t"]:
    """Which places of the padded rows hold a word."""
    return torch.arange(tokens.shape[1], device=tokens.device) < lengths[:, None].to(tokens.device)


class Attention(nn.Module):
    """One step's attention over places (regions or words) by a memory (eqs. 3 to 5 and 7 to 9 of the paper's section
    3.2): the weights, which sum to 1, and the weighted sum."""

    def __init__(self, width: int, memory: int, hidden: int, share: float) -> None:
        super().__init__()
        self.place = linear(width, hidden)
        self.memory = linear(memory, hidden)
        self.score = linear(hidden, 1)
        self.share = share

    def forward(
        self,
        places: Float[Tensor, "b n w"],
        memory: Float[Tensor, "b m"],
        there: Bool[Tensor, "b n"] | None,
        masks: Masks | None,
    ) -> tuple[Float[Tensor, "b w"], Float[Tensor, "b n"]]:
        """`there`: places that count; None: all do."""
        h = torch.tanh(self.place(places)) * torch.tanh(self.memory(memory))[:, None]  # B N H
        scores = self.score(dropout(h, self.share, masks))[..., 0]
        if there is not None:
            scores = scores.masked_fill(~there, -torch.inf)
        weights = scores.softmax(1)
        return (weights[:, None] @ places)[:, 0], weights


class Maps(NamedTuple):
    """What each step looked at."""

    image: Float[Tensor, "b k n"]
    text: Float[Tensor, "b k t"]


class Steps(nn.Module):
    """What r-DAN and m-DAN share: the first vectors, and the attentions of each step.

    v(0) = tanh(P(0) mean_n v_n), u(0) = mean_t u_t; v(k) = tanh(P(k) sum_n alpha_n v_n), u(k) = sum_t alpha_t u_t.
    """

    def __init__(self, words: int, regions: int, hidden: int, steps: int, share: float) -> None:
        """`regions`: width of a region's vector; `words`: ids of the vocabulary."""
        super().__init__()
        self.words = Words(words, hidden, share)
        self.project = nn.ModuleList(linear(regions, hidden) for _ in range(steps + 1))
        self.see = nn.ModuleList(Attention(regions, hidden, hidden, share) for _ in range(steps))
        self.read = nn.ModuleList(Attention(hidden, hidden, hidden, share) for _ in range(steps))

    def first_image(self, regions: Float[Tensor, "b n d"]) -> Float[Tensor, "b h"]:
        return torch.tanh(self.project[0](regions.mean(1)))

    def first_text(self, u: Float[Tensor, "b t h"], lengths: Int[Tensor, " b"]) -> Float[Tensor, "b h"]:
        return u.sum(1) / lengths[:, None].to(u)  # u is 0 behind the end

    def look(
        self, step: int, regions: Float[Tensor, "b n d"], memory: Float[Tensor, "b h"], masks: Masks | None
    ) -> tuple[Float[Tensor, "b h"], Float[Tensor, "b n"]]:
        """Step `step` (from 1): v(k) and its attention."""
        context, weights = self.see[step - 1](regions, memory, None, masks)
        return torch.tanh(self.project[step](context)), weights


class Reasoning(Steps):
    """r-DAN: one memory that both attentions read, m(0) = v(0) * u(0), m(k) = m(k-1) + v(k) * u(k); answers by a single
    linear layer on m(K)."""

    def __init__(self, words: int, regions: int, hidden: int, steps: int, answers: int, share: float) -> None:
        super().__init__(words, regions, hidden, steps, share)
        self.answer = linear(hidden, answers)
        self.share = share

    def forward(
        self,
        tokens: Int[Tensor, "b t"],
        lengths: Int[Tensor, " b"],
        regions: Float[Tensor, "b n d"],
        masks: Masks | None = None,
    ) -> tuple[Float[Tensor, "b a"], Maps]:
        """Scores of the answers (before softmax), and what was looked at."""
        u, there = self.words(tokens, lengths, masks), present(tokens, lengths)
        memory = self.first_image(regions) * self.first_text(u, lengths)
        seen: list[Tensor] = []
        read: list[Tensor] = []
        for step in range(1, len(self.see) + 1):
            v, alpha = self.look(step, regions, memory, masks)
            text, beta = self.read[step - 1](u, memory, there, masks)
            memory = memory + v * text
            seen.append(alpha)
            read.append(beta)
        scores: Tensor = self.answer(dropout(memory, self.share, masks))
        return scores, Maps(torch.stack(seen, 1), torch.stack(read, 1))


class Matching(Steps):
    """m-DAN: a memory for each side, the sum of its own vectors so far, so that images and texts are encoded apart;
    their similarity is S = sum over k = 0 ... K of v(k) . u(k), the inner product of the joined vectors z."""

    def image(
        self, regions: Float[Tensor, "b n d"], masks: Masks | None = None
    ) -> tuple[Float[Tensor, "b z"], Float[Tensor, "b k n"]]:
        """z_v = [v(0); ...; v(K)], and what was looked at."""
        found, maps = [self.first_image(regions)], []
        memory = found[0]
        for step in range(1, len(self.see) + 1):
            v, weights = self.look(step, regions, memory, masks)
            memory = memory + v
            found.append(v)
            maps.append(weights)
        return torch.cat(found, 1), torch.stack(maps, 1)

    def text(
        self, tokens: Int[Tensor, "b t"], lengths: Int[Tensor, " b"], masks: Masks | None = None
    ) -> tuple[Float[Tensor, "b z"], Float[Tensor, "b k t"]]:
        """z_u = [u(0); ...; u(K)], and what was read."""
        u, there = self.words(tokens, lengths, masks), present(tokens, lengths)
        found, maps = [self.first_text(u, lengths)], []
        memory = found[0]
        for attention in self.read:
            text, weights = attention(u, memory, there, masks)
            memory = memory + text
            found.append(text)
            maps.append(weights)
        return torch.cat(found, 1), torch.stack(maps, 1)
