"""The baselines' channels against loops and closed forms."""

import math

import pytest
import torch

from models.vqa.layers import Masks, dropout, start
from models.vqa.networks import Answerer, BagOfWords, Classifier, Concatenation, Picture, Product, Recurrent

PAD, UNKNOWN = 0, 1


def _seed(number: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def test_bag_of_words_counts_common_words_and_openers() -> None:
    net = BagOfWords(3, [[2, 5], [3], [4]])  # ids 2, 3, 4 are counted; openers by place
    tokens = torch.tensor([[2, 3, 2, 5], [5, UNKNOWN, 4, PAD], [6, PAD, PAD, PAD]])
    assert net.width == 3 + 3 * 2
    found = net(tokens, torch.tensor([4, 3, 1]), None)
    assert found.tolist() == [
        [2, 1, 0, 1, 0, 1, 0, 0, 0],
        [0, 0, 1, 0, 1, 0, 0, 1, 0],
        [0, 0, 0, 0, 0, 0, 0, 0, 0],
    ]
    short = net(torch.tensor([[2]]), torch.tensor([1]), None)  # shorter than the places
    assert short.tolist() == [[1, 0, 0, 1, 0, 0, 0, 0, 0]]


def test_the_paper_s_widths() -> None:
    assert BagOfWords(1000, [list(range(2, 12))] * 3).width == 1030
    assert Recurrent(20, 300, 512, 1, 0.0).width == 1024
    assert Recurrent(20, 200, 512, 2, 0.5).width == 2048


def test_recurrent_is_cell_and_hidden_of_each_layer_at_the_text_s_own_end() -> None:
    net = Recurrent(9, 3, 4, 2, 0.5)
    start(net, _seed(), 0.5)
    tokens, lengths = torch.tensor([[2, 3, 4], [5, 0, 0]]), torch.tensor([3, 1])
    found = net(tokens, lengths, None)
    for row in range(2):
        x = torch.tanh(net.embed(tokens[row : row + 1, : lengths[row]]))
        ends = []
        for layer in net.layers:
            # Gates in PyTorch's order: input, forget, cell, output.
            hidden = cell = torch.zeros(4)
            outputs = []
            for step in x[0]:
                gates = layer.weight_ih_l0 @ step + layer.bias_ih_l0 + layer.weight_hh_l0 @ hidden + layer.bias_hh_l0
                i, f, g, o = gates.chunk(4)
                cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
                hidden = o.sigmoid() * cell.tanh()
                outputs.append(hidden)
            x = torch.stack(outputs)[None]
            ends += [cell, hidden]
        torch.testing.assert_close(found[row], torch.cat(ends))


def test_product_multiplies_what_either_side_became() -> None:
    net = Product(3, 2, 4, False, 0.5)
    start(net, _seed(), 0.5)
    q, v = torch.randn(2, 3, generator=_seed(1)), torch.randn(2, 2, generator=_seed(2))
    assert net.question is not None
    wanted = torch.tanh(q @ net.question.weight.T + net.question.bias)
    wanted = wanted * torch.tanh(v @ net.image.weight.T + net.image.bias)
    torch.testing.assert_close(net(q, v, None), wanted)
    direct = Product(4, 2, 4, True, 0.0)
    start(direct, _seed(), 0.5)
    own = torch.randn(2, 4, generator=_seed(3))
    torch.testing.assert_close(direct(own, v, None), own * torch.tanh(v @ direct.image.weight.T + direct.image.bias))
    with pytest.raises(ValueError, match="--joint 5"):
        Product(4, 2, 5, True, 0.0)


def test_norm_i_has_unit_length() -> None:
    x = torch.tensor([[3.0, 4.0]])
    assert Picture(2, True)(x).tolist() == [pytest.approx([0.6, 0.8])]
    assert Picture(2, False)(x).tolist() == [[3, 4]]


def test_an_answerer_of_both_channels() -> None:
    question, image = BagOfWords(3, []), Picture(2, False)
    net = Answerer(question, image, Concatenation(3, 2), Classifier(5, (6, 6), 4, 0.5, False))
    start(net, _seed(), 0.5)
    tokens, lengths, v = torch.tensor([[2, 3]]), torch.tensor([2]), torch.tensor([[1.0, 2.0]])
    x = torch.tensor([[1.0, 1, 0, 1, 2]])
    for layer in net.classifier.hidden:
        x = torch.tanh(x @ layer.weight.T + layer.bias)
    torch.testing.assert_close(net(tokens, lengths, v)[0], x @ net.classifier.out.weight.T + net.classifier.out.bias)
    blind = Answerer(question, None, None, Classifier(3, (), 4, 0.5, True))
    start(blind, _seed())
    assert blind(tokens, lengths, None)[0].shape == (1, 4)


def test_dropout_keeps_the_mean_and_is_the_generator_s() -> None:
    x = torch.ones(200, 500)
    found = dropout(x, 0.5, Masks(_seed(3)))
    assert sorted(set(found.flatten().tolist())) == [0, 2]
    assert abs(float(found.mean()) - 1) < 4 / math.sqrt(x.numel())
    torch.testing.assert_close(found, dropout(x, 0.5, Masks(_seed(3))), rtol=0, atol=0)
    assert not torch.equal(found, dropout(x, 0.5, Masks(_seed(4))))
    assert dropout(x, 0.5, None) is x


def test_workers_take_their_rows_of_one_mask() -> None:
    x = torch.ones(4, 3, 5)
    whole = Masks(_seed(3))(x, 0.5)
    parts = [Masks(_seed(3), rank, 2)(x[:2], 0.5) for rank in range(2)]
    assert torch.equal(torch.cat(parts), whole) and 0 < float(whole.mean()) < 2


def test_weights_and_masks_leave_the_global_random_state_alone() -> None:
    before = torch.get_rng_state()
    question = Recurrent(9, 3, 4, 2, 0.5)
    net = Answerer(question, None, None, Classifier(question.width, (5,), 4, 0.5, True))
    start(net, _seed(5))
    net(torch.tensor([[2, 3]]), torch.tensor([2]), None, Masks(_seed(6)))[0].sum().backward()
    assert torch.equal(before, torch.get_rng_state())
    again = Answerer(Recurrent(9, 3, 4, 2, 0.5), None, None, Classifier(question.width, (5,), 4, 0.5, True))
    start(again, _seed(5))
    for (name, a), b in zip(net.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b), name
        assert 0 < float(a.detach().std()) < 2, name


def test_released_initialisation_is_even_within_its_edge() -> None:
    net = Recurrent(50, 30, 40, 1, 0.5)
    start(net, _seed(), 0.08)
    for name, weight in net.named_parameters():
        assert 0.07 < float(weight.detach().abs().max()) <= 0.08, name
        assert abs(float(weight.detach().std()) - 0.08 / math.sqrt(3)) < 0.005, name
