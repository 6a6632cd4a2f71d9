"""Dual Attention Networks, equation by equation, against loops over places and steps."""

from typing import TypeVar

import pytest
import torch
from torch import Tensor

from models.vqa.attention import Attention, Matching, Reasoning, Steps
from models.vqa.layers import start
from models.vqa.losses import MARGIN, matching_loss, negatives

HIDDEN, REGIONS, WIDTH, WORDS, STEPS = 6, 5, 4, 11, 2


Net = TypeVar("Net", bound=torch.nn.Module)


def _net(net: Net) -> Net:
    start(net, torch.Generator().manual_seed(0), 0.5)
    return net.double()


def _inputs() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    tokens = torch.tensor([[3, 4, 5, 6], [7, 8, 0, 0], [9, 0, 0, 0]])
    regions = torch.randn(3, REGIONS, WIDTH, generator=generator, dtype=torch.float64)
    return tokens, torch.tensor([4, 2, 1]), regions


def _attend(net: Attention, places: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
    """One row by a loop: places `N W`, memory `M`."""
    scores = []
    for place in places:
        h = torch.tanh(net.place.weight @ place + net.place.bias)
        h = h * torch.tanh(net.memory.weight @ memory + net.memory.bias)
        scores.append(net.score.weight[0] @ h + net.score.bias[0])
    weights = torch.stack(scores).exp() / torch.stack(scores).exp().sum()
    return sum((w * p for w, p in zip(weights, places, strict=True)), torch.zeros(())), weights


def _vectors(net: Steps, row: int, shared: bool) -> tuple[list[Tensor], list[Tensor], Tensor, Tensor]:
    """v(0..K), u(0..K) and the last attentions of one row by loops; `shared`: r-DAN's one memory."""
    tokens, lengths, regions = _inputs()
    long, v = int(lengths[row]), regions[row]
    out, _ = net.words.lstm(net.words.embed(tokens[row : row + 1, :long]))
    u = out[0, :, :HIDDEN] + out[0, :, HIDDEN:]

    def project(step: int, x: Tensor) -> Tensor:
        layer = net.project[step]
        assert isinstance(layer, torch.nn.Linear)
        return torch.tanh(layer.weight @ x + layer.bias)

    vs, us = [project(0, v.mean(0))], [u.mean(0)]
    memory_v, memory_u = (vs[0] * us[0],) * 2 if shared else (vs[0], us[0])
    alpha = beta = torch.zeros(())
    for step in range(1, STEPS + 1):
        see, read = net.see[step - 1], net.read[step - 1]
        assert isinstance(see, Attention) and isinstance(read, Attention)
        seen, alpha = _attend(see, v, memory_v)
        text, beta = _attend(read, u, memory_u)
        vs.append(project(step, seen))
        us.append(text)
        if shared:
            memory_v = memory_u = memory_v + vs[-1] * us[-1]
        else:
            memory_v, memory_u = memory_v + vs[-1], memory_u + us[-1]
    return vs, us, alpha, beta


def test_reasoning_equals_the_loop() -> None:
    net = _net(Reasoning(WORDS, WIDTH, HIDDEN, STEPS, 7, 0.5))
    scores, maps = net(*_inputs())
    for row in range(3):
        vs, us, alpha, beta = _vectors(net, row, shared=True)
        memory = sum((v * u for v, u in zip(vs, us, strict=True)), torch.zeros(()))  # m(K)
        torch.testing.assert_close(scores[row], net.answer.weight @ memory + net.answer.bias, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(maps.image[row, -1], alpha, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(maps.text[row, -1, : len(beta)], beta, rtol=1e-10, atol=1e-12)


def test_matching_equals_the_loop_and_its_similarity_is_a_sum_over_steps() -> None:
    net = _net(Matching(WORDS, WIDTH, HIDDEN, STEPS, 0.5))
    tokens, lengths, regions = _inputs()
    z_v, z_u = net.image(regions)[0], net.text(tokens, lengths)[0]
    assert z_v.shape == z_u.shape == (3, (STEPS + 1) * HIDDEN)
    for row in range(3):
        vs, us, _, _ = _vectors(net, row, shared=False)
        torch.testing.assert_close(z_v[row], torch.cat(vs), rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(z_u[row], torch.cat(us), rtol=1e-10, atol=1e-12)
        total = torch.stack([v @ u for v, u in zip(vs, us, strict=True)]).sum()  # S = sum of s(k)
        torch.testing.assert_close(total, z_v[row] @ z_u[row], rtol=1e-10, atol=1e-12)


def test_attention_sums_to_one_over_words_that_are_there() -> None:
    net = _net(Reasoning(WORDS, WIDTH, HIDDEN, STEPS, 7, 0.5))
    tokens, lengths, regions = _inputs()
    _, maps = net(tokens, lengths, regions)
    assert maps.image.shape == (3, STEPS, REGIONS) and maps.text.shape == (3, STEPS, 4)
    torch.testing.assert_close(maps.image.sum(2), torch.ones(3, STEPS, dtype=torch.float64))
    torch.testing.assert_close(maps.text.sum(2), torch.ones(3, STEPS, dtype=torch.float64))
    assert float(maps.text[1, :, 2:].detach().abs().max()) == 0
    assert bool((maps.image > 0).all()) and bool((maps.image.std(2) > 1e-4).all())  # not even by construction


def test_each_step_has_weights_of_its_own() -> None:
    net = _net(Reasoning(WORDS, WIDTH, HIDDEN, STEPS, 7, 0.5))
    places = [p.data_ptr() for p in net.parameters()]
    assert len(set(places)) == len(places)
    attention = WIDTH * HIDDEN + HIDDEN + HIDDEN * HIDDEN + HIDDEN + HIDDEN + 1
    assert sum(p.numel() for p in net.see.parameters()) == STEPS * attention
    assert len(net.project) == STEPS + 1
    scores = net(*_inputs())[0].detach()
    for part in (net.see, net.read):
        for step in range(STEPS):
            for name, changed in part[step].named_parameters():
                if name == "score.bias":
                    continue  # softmax does not see it
                with torch.no_grad():
                    changed[0] += 0.25
                assert float((net(*_inputs())[0].detach() - scores).abs().max()) > 1e-9, (step, name)
                with torch.no_grad():
                    changed[0] -= 0.25


def test_padding_changes_nothing() -> None:
    net = _net(Reasoning(WORDS, WIDTH, HIDDEN, STEPS, 7, 0.5))
    tokens, lengths, regions = _inputs()
    together = net(tokens, lengths, regions)[0]
    for row in range(3):
        alone = net(tokens[row : row + 1, : lengths[row]], lengths[row : row + 1], regions[row : row + 1])[0]
        torch.testing.assert_close(alone[0], together[row], rtol=1e-10, atol=1e-12)


def test_both_hinges_at_the_paper_s_margin() -> None:
    assert MARGIN == 100
    image, text = torch.tensor([[10.0, 0.0]]), torch.tensor([[20.0, 0.0]])  # S = 200
    far = torch.tensor([[0.0, 1.0]])  # S = 0 with either: 100 - 200 + 0 < 0
    near_image, near_text = torch.tensor([[8.0, 0.0]]), torch.tensor([[13.0, 0.0]])  # S = 160 and 130
    assert matching_loss(image, text, far, far).tolist() == [0]
    assert matching_loss(image, text, near_image, far).tolist() == [60]
    assert matching_loss(image, text, far, near_text).tolist() == [30]
    assert matching_loss(image, text, near_image, near_text).tolist() == [90]
    assert matching_loss(image, text, near_image, near_text, 50.0).tolist() == [10]


def test_wrong_pairs_are_of_other_images_and_all_of_them() -> None:
    images = torch.tensor([4, 4, 7, 9])
    drawn = torch.stack([negatives(images, torch.Generator().manual_seed(i)) for i in range(300)])
    assert bool((images[drawn] != images).all())
    assert sorted(set(drawn[:, 0].tolist())) == [2, 3]
    assert sorted(set(drawn[:, 2].tolist())) == [0, 1, 3]
    counts = torch.bincount(drawn[:, 2], minlength=4)
    assert all(70 < int(counts[i]) < 130 for i in (0, 1, 3))  # 100 each, give or take 3.7 deviations


def test_a_batch_of_one_image_has_no_wrong_pairs() -> None:
    with pytest.raises(ValueError, match="no wrong pairs"):
        negatives(torch.tensor([3, 3]), torch.Generator())
