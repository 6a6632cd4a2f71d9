"""The cached sampler is the naive one, faster; completion, temperature, interpolation."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from models.common.seeds import seeded
from models.pixelcnn.cached import Naive, cached
from models.pixelcnn.model import Model
from models.pixelcnn.sampling import between, choose, naive, sample, uniforms

Make = Callable[..., Model]
HEADS = [("softmax", 1), ("softmax", 3), ("bernoulli", 1), ("mixture", 1), ("mixture", 3)]
CONDITIONS: dict[str, dict[str, int]] = {
    "none": {},
    "vector": {"vector": 3},
    "map": {"maps": 2},
    "both": {"vector": 3, "maps": 2},
    "embedding": {"embedding": 2},
}


@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize(("head", "channels"), HEADS)
@pytest.mark.parametrize(
    ("kind", "kernels"), [("gated", (7, 5)), ("gated", (3, 3)), ("plain", (7, 3)), ("plain", (3, 5))]
)
def test_cached_outputs_and_samples_are_the_naive_ones(
    make: Make, condition_for: Any, kind: str, kernels: tuple[int, int], head: str, channels: int, condition: str
) -> None:
    options = {**CONDITIONS[condition], "first_kernel": kernels[0], "kernel": kernels[1]}
    if kind == "gated" and kernels[1] == 3:
        options |= {"layers": 3, "dilations": (2, 1)}  # type: ignore[dict-item]
    model = make(kind, head, channels, 4, (5, 6), **options).float()
    vector, maps = condition_for(model, 3)
    given = type(condition_for(model, 3))(
        None if vector is None else vector.float(), None if maps is None else maps.float()
    )
    uniform = uniforms(model, 3, seeded(5))
    x = sample(model, uniform, given)
    assert torch.equal(x, sample(model, uniform, given, steps=naive))
    assert len(x.unique()) > 1
    with torch.no_grad():
        fast, slow = cached(model, x, given), Naive(model, given)
        for r in range(5):
            fast.row(x, r)
            for c in range(6):
                assert torch.allclose(fast.pixel(x, r, c), slow.pixel(x, r, c), rtol=0, atol=1e-5)
                fast.put(x, r, c)


def test_samples_have_the_models_probabilities(make: Make) -> None:
    """40,000 images of two pixels of four levels, against their likelihoods (5 standard deviations)."""
    model = make("gated", "softmax", 1, 4, (1, 2))
    x = sample(model, uniforms(model, 40_000, seeded(6)))
    every = torch.cartesian_prod(torch.arange(4), torch.arange(4)).view(16, 1, 1, 2)
    with torch.no_grad():
        p = model.log_prob(every).exp()
    found = torch.bincount(x[:, 0, 0, 0] * 4 + x[:, 0, 0, 1], minlength=16) / len(x)
    assert ((found - p).abs() < 5 * (p * (1 - p) / len(x)).sqrt()).all()
    assert float((p - 1 / 16).abs().max()) > 0.02  # a uniform sampler would be seen


def test_a_level_is_drawn_by_its_share_of_the_unit_interval() -> None:
    log_p = torch.tensor([0.5, 0.25, 0.25]).log().expand(5, -1)
    assert choose(log_p, torch.tensor([0.0, 0.499, 0.5, 0.75, 0.9999999])).tolist() == [0, 0, 1, 2, 2]
    cold = choose(log_p, torch.tensor([0.0, 0.79, 0.81, 0.95, 1.0]), 0.5)  # 4 : 1 : 1
    assert cold.tolist() == [0, 1, 1, 2, 2]


def test_completion_keeps_what_is_given_and_draws_the_rest(make: Make) -> None:
    model = make("gated", "softmax", 3, 4, (4, 4))
    uniform = uniforms(model, 2, seeded(7))
    whole = sample(model, uniform)
    known = torch.zeros(2, 1, 4, 4, dtype=torch.bool)
    known[:, :, :2] = True  # the upper half, and of one image a pixel more
    known[0, :, 3, 1] = True
    given = whole.clone()
    given[:, :, 2:] = 3  # must not be looked at where it is not known
    given[0, :, 3, 1] = 1
    for steps in (cached, naive):
        found = sample(model, uniform, known=known, given=given, steps=steps)
        assert torch.equal(found[1], whole[1])  # the same uniform numbers go on as the whole image did
        assert found[0, :, 3, 1].tolist() == [1, 1, 1] and torch.equal(found[0, :, :3], whole[0, :, :3])
    with pytest.raises(ValueError, match="give both"):
        sample(model, uniform, known=known)
    with pytest.raises(ValueError, match="known pixels' places are"):
        sample(model, uniform, known=known[:, :, 1:], given=given)


def test_temperature(make: Make) -> None:
    model = make("gated", "softmax", 1, 4, (4, 4))
    uniform = uniforms(model, 64, seeded(8))
    with torch.no_grad():
        nats = [float(model.log_prob(sample(model, uniform, temperature=t)).mean()) for t in (0.3, 1.0, 3.0)]
    assert nats[0] > nats[1] > nats[2]
    for wrong in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="--temperature"):
            sample(model, uniform, temperature=wrong)


def test_the_straight_line_between_two_vectors() -> None:
    found = between(torch.zeros(2), torch.tensor([1.0, 2.0]), 5)
    assert found.tolist() == [[0, 0], [0.25, 0.5], [0.5, 1], [0.75, 1.5], [1, 2]]
