"""Layers of the question-answering networks. First weights come from a passed generator, dropout masks from another."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


class Masks:
    """The dropout masks of one step, drawn on the CPU: the same on any device, and for any number of workers, since
    each draws the whole global batch's and takes its own rows."""

    def __init__(self, generator: torch.Generator, rank: int = 0, world: int = 1) -> None:
        self.generator, self.rank, self.world = generator, rank, world

    def __call__(self, x: Tensor, share: float) -> Tensor:
        """`x` with about `share` of its numbers set to 0 and the others divided by 1 - share."""
        rows = len(x)
        drawn = torch.rand((rows * self.world, *x.shape[1:]), generator=self.generator)
        kept = drawn[self.rank * rows : (self.rank + 1) * rows] >= share
        return x * kept.to(x.device, x.dtype) / (1 - share)


def dropout(x: Tensor, share: float, masks: Masks | None) -> Tensor:
    """No masks: no dropout."""
    return x if masks is None or not share else masks(x, share)


def start(net: nn.Module, generator: torch.Generator, edge: float = 0.0) -> None:
    """Draw all weights anew, evenly from (-edge, edge). 0: from (-1 / sqrt(n), 1 / sqrt(n)) with n the inputs of a
    linear layer, or the hidden units of an LSTM, and word vectors from N(0, 1): PyTorch's usual ones."""
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.Embedding) and not edge:
                module.weight.normal_(generator=generator)
                continue
            inputs = getattr(module, "in_features", getattr(module, "hidden_size", 0))
            bound = edge or (1 / math.sqrt(inputs) if inputs else 0.0)
            for parameter in module.parameters(recurse=False):
                parameter.uniform_(-bound, bound, generator=generator)


def linear(inputs: int, outputs: int, bias: bool = True) -> nn.Linear:
    """Without first weights (`start` draws them): the usual ones would move the global random state."""
    return nn.utils.skip_init(nn.Linear, inputs, outputs, bias=bias)  # type: ignore[no-untyped-call, no-any-return]


def embedding(words: int, width: int) -> nn.Embedding:
    """As `linear`. A linear layer on one-hot words, without a bias."""
    return nn.utils.skip_init(nn.Embedding, words, width)  # type: ignore[no-untyped-call, no-any-return]


def lstm(inputs: int, hidden: int, both_ways: bool = False) -> nn.LSTM:
    """One layer, as `linear` (`skip_init` does not know recurrent layers)."""
    net = nn.LSTM(inputs, hidden, batch_first=True, bidirectional=both_ways, device="meta")
    return net.to_empty(device="cpu")


def run(
    net: nn.LSTM, x: Float[Tensor, "b t i"], lengths: Int[Tensor, " b"]
) -> tuple[Float[Tensor, "b t h"], Float[Tensor, "d b h"], Float[Tensor, "d b h"]]:
    """(outputs, 0 behind each row's end; hidden; cell: at each row's own end, d directions). The backward direction
    begins there too, so that what fills a row changes nothing."""
    packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
    out, (hidden, cell) = net(packed)
    return pad_packed_sequence(out, batch_first=True, total_length=x.shape[1])[0], hidden, cell
