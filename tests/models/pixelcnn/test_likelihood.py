"""The likelihood is one: it sums to 1 over all images, and no number sees its own or a later pixel."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from models.common.seeds import seeded
from models.pixelcnn.conditions import NOTHING, Condition
from models.pixelcnn.convolutions import Beside, Ordered
from models.pixelcnn.model import Model, refuse_batch_norm

Make = Callable[..., Model]
CASES = [("bernoulli", 1, 2, (3, 3), 512), ("bernoulli", 3, 2, (2, 2), 4096), ("softmax", 1, 4, (2, 2), 256)]
HEADS = [("softmax", 1), ("softmax", 3), ("bernoulli", 1), ("bernoulli", 3), ("mixture", 1), ("mixture", 3)]


def every(channels: int, levels: int, size: tuple[int, int]) -> Tensor:
    """All images there are."""
    count = channels * size[0] * size[1]
    return torch.tensor(list(itertools.product(range(levels), repeat=count))).view(-1, channels, *size)


@pytest.mark.parametrize("embedding", [0, 2])
@pytest.mark.parametrize("kind", ["gated", "plain"])
@pytest.mark.parametrize(("head", "channels", "levels", "size", "count"), [*CASES, ("mixture", 3, 4, (1, 2), 4096)])
def test_probabilities_of_all_images_sum_to_1(
    make: Make, kind: str, head: str, channels: int, levels: int, size: tuple[int, int], count: int, embedding: int
) -> None:
    model = make(kind, head, channels, levels, size, vector=2, embedding=embedding)
    x = every(channels, levels, size)
    assert len(x) == count
    vector = torch.randn(1, 2, generator=seeded(1)).double().expand(count, -1)
    with torch.no_grad():
        total = float(model.log_prob(x, Condition(vector)).exp().sum())
    assert total == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("kind", ["gated", "plain"])
def test_a_first_layer_that_sees_its_own_pixel_sums_to_something_else(make: Make, kind: str) -> None:
    model = make(kind, "bernoulli", 1, 2, (3, 3))
    first = model.net.layers[0] if kind == "gated" else model.net.first
    first.beside = Beside(1, len(first.beside.bias), 5, 1, seeded(1), first=False).double()  # mask B
    with torch.no_grad():
        total = float(model.log_prob(every(1, 2, (3, 3))).exp().sum())
    assert abs(total - 1) > 0.01


def unseen(model: Model, condition: Condition = NOTHING) -> tuple[int, int]:
    """(outputs' channels that see what they must not, pairs of a pixel and an earlier one that it does not see), by the
    gradient of each of the head's numbers. Where channels are ordered, it may see its pixel's earlier ones."""
    channels, (h, w) = model.channels, model.size
    x = torch.rand(1, model.net.sizes.inputs, h, w, generator=seeded(2), dtype=torch.float64) * 2 - 1
    jacobian = torch.autograd.functional.jacobian(lambda x: model.net(x, condition), x, vectorize=True)
    sees = jacobian[0, :, :, :, 0].abs() > 0  # P H W I H W
    sees = sees.unflatten(3, (channels, -1)).any(4)  # any of the numbers that stand for a channel: P H W C H W
    groups = model.net.sizes.groups
    sees = sees.unflatten(0, (groups, -1)).any(1)  # by any number of the channel: G H W C H W
    sees = sees.permute(1, 2, 0, 4, 5, 3).reshape(h * w, groups, h * w, channels)
    at = torch.arange(h * w)
    earlier = (at[None] < at[:, None])[:, None, :, None]  # the other pixel comes before
    same = (at[None] == at[:, None])[:, None, :, None]
    before = (torch.arange(channels)[None] < torch.arange(groups)[:, None])[None, :, None]
    allowed = earlier | (same & before) if groups > 1 else earlier.expand_as(sees)
    return int((sees & ~allowed).sum()), int((allowed & ~sees).sum())


@pytest.mark.parametrize("condition", ["none", "vector", "map", "embedding"])
@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize(("head", "channels"), HEADS)
@pytest.mark.parametrize("kind", ["gated", "plain"])
def test_nothing_sees_its_own_or_a_later_pixel_or_channel(
    make: Make, condition_for: Any, kind: str, head: str, channels: int, kernel: int, condition: str
) -> None:
    options = {"vector": {"vector": 3}, "map": {"maps": 2}, "embedding": {"embedding": 2}}.get(condition, {})
    model = make(kind, head, channels, 3, (4, 5), kernel=kernel, first_kernel=kernel, **options)
    leaks, _ = unseen(model, condition_for(model, 1))
    assert leaks == 0


def test_dilated_layers_do_not_leak_and_see_everything(make: Make) -> None:
    assert unseen(make(size=(6, 6), layers=4, dilations=(1, 2))) == (0, 0)


def test_the_gradient_finds_leaks(make: Make) -> None:
    """Mask B in the first layer; a 1x1 convolution of the output without the channels' order; one of the residual's."""
    model = make("gated", "softmax", 1, 3, (3, 4))
    model.net.layers[0].beside = Beside(1, 12, 5, 1, seeded(1), first=False).double()
    assert unseen(model)[0] == 12
    for part, name, width in (("output", "hidden", 6), ("layer", "residual", 6)):
        model = make("gated", "softmax", 3, 3, (3, 4))
        inside = model.net.output if part == "output" else model.net.layers[1]
        setattr(inside, name, Ordered(width, width, 1, seeded(1)).double())
        assert unseen(model)[0] > 0, name


def test_blind_spot_of_the_plain_network(make: Make) -> None:
    """322 of the 2016 pairs at 8 x 8 for 3 x 3 filters, however deep; the gated one sees all at 8 layers, and lacks 696
    at 4 for want of depth."""
    # Wide: at one pixel all ReLUs of a small network may be off.
    options: dict[str, Any] = {"size": (8, 8), "first_kernel": 3, "kernel": 3, "features": 12, "hidden": 24}
    assert unseen(make("plain", layers=12, **options)) == (0, 322)
    assert unseen(make("gated", layers=7, **options)) == (0, 0)
    assert unseen(make("gated", layers=3, **options)) == (0, 696)


def test_a_vector_reaches_the_first_pixel_and_both_stacks_of_every_layer(make: Make) -> None:
    model = make("gated", vector=3)
    vector = torch.randn(2, 3, generator=seeded(3)).double()
    x = torch.zeros(2, 1, 5, 5, dtype=torch.int64)
    outputs = model(x, Condition(vector))
    assert not torch.allclose(outputs[0, :, 0, 0], outputs[1, :, 0, 0])
    outputs[0, :, -1, -1].square().sum().backward()
    for layer in model.net.layers:
        for shift in (layer.beside_shift, layer.rows_shift):
            if shift is not None:  # all but the last layer's vertical stack, whose features nobody reads
                assert float(shift.vector.grad.abs().min()) > 0
    assert [layer.rows_shift is None for layer in model.net.layers] == [False, False, True]


def test_a_map_changes_the_outputs_where_it_changes_and_not_in_rows_above(make: Make) -> None:
    model = make("gated", maps=2)
    x = torch.zeros(1, 1, 5, 5, dtype=torch.int64)
    maps = torch.randn(1, 2, 5, 5, generator=seeded(4)).double()
    changed = maps.clone()
    changed[0, :, 2, 3] += 1
    apart = (model(x, Condition(None, maps)) - model(x, Condition(None, changed))).abs().amax(1)[0] > 0
    assert not apart[:2].any() and apart[2, 3] and not apart.all()


def test_bits_per_dimension(make: Make) -> None:
    """A uniform distribution over 4 levels costs 2 bits a number."""
    model = make("plain", "softmax", 3)
    for p in model.net.output.out.parameters():
        torch.nn.init.zeros_(p)
    x = torch.zeros(2, 3, 5, 5, dtype=torch.int64)
    nats = model.log_prob(x)
    assert nats.tolist() == pytest.approx([-75 * math.log(4)] * 2)
    assert model.bits(nats).tolist() == pytest.approx([2.0, 2.0])


def test_what_is_not_the_models_is_refused(make: Make) -> None:
    model, x = make("gated"), torch.zeros(2, 1, 5, 5, dtype=torch.int64)
    for wrong, message in (
        (x.float(), "give integer levels 0-3, not torch.float32"),
        (x[:, :, 1:], "1 x 4 x 5 .* the model is of 1 x 5 x 5"),
        (x + 4, "levels 4 to 4, the model's are 0-3"),
    ):
        with pytest.raises(ValueError, match=message):
            model.log_prob(wrong)
    with pytest.raises(ValueError, match="the model knows no vector"):
        model.log_prob(x, Condition(torch.zeros(2, 3).double()))
    with pytest.raises(ValueError, match="the model needs a vector of 3"):
        make("gated", vector=3).log_prob(x)
    with pytest.raises(ValueError, match="a vector of 2 x 4, wanted 2 x 3"):
        make("gated", vector=3).log_prob(x, Condition(torch.zeros(2, 4).double()))
    with pytest.raises(ValueError, match="a map of 2 x 1 x 4 x 5, wanted 2 x 1 x 5 x 5"):
        make("gated", maps=1).log_prob(x, Condition(None, torch.zeros(2, 1, 4, 5).double()))


def test_batch_norm_is_refused(make: Make) -> None:
    model = make("gated")
    model.net.layers[1].residual = torch.nn.Sequential(torch.nn.Conv2d(6, 6, 1), torch.nn.BatchNorm2d(6))
    with pytest.raises(ValueError, match=r"layers\.1\.residual\.1: batch norm"):
        Model(model.net, model.head, model.size, seeded(0))
    refuse_batch_norm(make("plain"))


@pytest.mark.parametrize(("head", "channels"), HEADS)
@pytest.mark.parametrize("kind", ["gated", "plain"])
def test_a_batch_of_no_images_has_no_likelihoods(make: Make, kind: str, head: str, channels: int) -> None:
    model = make(kind, head, channels, 2)
    assert model.log_prob(torch.zeros(0, channels, 5, 5, dtype=torch.int64)).shape == (0,)
