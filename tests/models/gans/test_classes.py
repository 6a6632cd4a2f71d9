"""catGAN's entropies, both SGANs, ACGAN's and infoGAN's terms, against loops and known optima."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from models.common.seeds import seeded
from models.gans.figures import majority_error
from models.gans.objectives.classes import (
    Categories,
    ClassTerm,
    FakeClass,
    FeatureMatching,
    ImplicitFake,
    conditional_entropy,
    marginal_entropy,
)
from models.gans.objectives.codes import Information, continuous_information, discrete_information
from models.gans.terms import Random, Round, Seen, Side
from models.group import Group

GROUP, K = Group(), 4


def logits(name: str, columns: int = K, rows: int = 6) -> Tensor:
    return torch.randn(rows, columns, generator=seeded("logits", name), dtype=torch.float64) * 2


def round_of(y: Tensor | None = None, labelled: Tensor | None = None, **parts: Tensor) -> Round:
    nothing = torch.empty(0)
    side = None if labelled is None else Side(nothing, labelled)
    return Round(Side(nothing, y), Side(nothing), Random(seeded(0), GROUP), GROUP, side, parts)


def softmax(row: list[float]) -> list[float]:
    top = [math.exp(v) for v in row]
    return [v / sum(top) for v in top]


def entropy(p: list[float]) -> float:
    return -sum(v * math.log(v) for v in p)


def test_entropies_of_a_loop() -> None:
    x = logits("x")
    each = [softmax(row) for row in x.tolist()]
    mean = [sum(p[k] for p in each) / len(each) for k in range(K)]
    assert float(conditional_entropy(x)) == pytest.approx(sum(map(entropy, each)) / len(each), rel=1e-12)
    assert float(marginal_entropy(x, GROUP)) == pytest.approx(entropy(mean), rel=1e-12)
    # Of the mean, not the mean of them.
    assert float(marginal_entropy(x, GROUP)) > float(conditional_entropy(x)) + 0.3


def test_entropies_near_one_hot_stay_finite() -> None:
    x = (torch.eye(K) * 300).requires_grad_()
    for value in (conditional_entropy(x), marginal_entropy(x, GROUP)):
        (g,) = torch.autograd.grad(value, x)
        assert bool(value.isfinite()) and bool(g.isfinite().all())
    assert float(conditional_entropy(x).detach()) == pytest.approx(0, abs=1e-6)
    assert float(marginal_entropy(x, GROUP).detach()) == pytest.approx(math.log(K))


def total(losses: dict[str, Tensor]) -> float:
    return float(torch.stack(list(losses.values())).sum())


def test_catgans_values() -> None:
    """All logits equal: the critic's objective is log K; at its best 2 log K; the generator's best is -log K."""
    flat, sure = torch.zeros(K, K, dtype=torch.float64), torch.eye(K, dtype=torch.float64) * 100
    term = Categories()
    assert -total(term.critic(Seen({"logits": flat}, {"logits": flat}, {}), round_of())) == pytest.approx(math.log(K))
    best = term.critic(Seen({"logits": sure}, {"logits": flat}, {}), round_of())
    assert -total(best) == pytest.approx(2 * math.log(K), abs=1e-9)
    generator = term.generator(Seen({}, {"logits": sure}, {}), round_of())
    assert total(generator) == pytest.approx(-math.log(K), abs=1e-9)
    # The generator's first term is minus the marginal entropy: all fakes of one class are not good.
    one = torch.zeros(K, K, dtype=torch.float64)
    one[:, 0] = 100
    assert total(term.generator(Seen({}, {"logits": one}, {}), round_of())) == pytest.approx(0, abs=1e-9)


def test_catgan_has_no_fake_class_and_weighs_labels() -> None:
    y = torch.tensor([0, 3, 1, 2, 2, 0])
    seen = Seen({"logits": logits("real")}, {"logits": logits("fake")}, {"logits": logits("labelled")})
    plain, with_labels = Categories(), Categories(0.3)
    a, b = plain.critic(seen, round_of()), with_labels.critic(seen, round_of(labelled=y))
    wanted = -sum(math.log(softmax(row)[k]) for row, k in zip(logits("labelled").tolist(), y.tolist(), strict=True)) / 6
    assert float(b["labelled"]) == pytest.approx(0.3 * wanted) and a.keys() == b.keys() - {"labelled"}
    assert with_labels.generator(seen, round_of()).keys() == {"marginal", "fake"}
    assert not plain.labelled and with_labels.labelled
    shown = plain.watch(seen, round_of())
    assert float(shown["confidence/fake"]) == pytest.approx(
        sum(max(softmax(row)) for row in logits("fake").tolist()) / 6
    )


def test_odenas_sgan_is_the_likelihood_of_both_halves() -> None:
    real, fake, y = logits("real", K + 1), logits("fake", K + 1), torch.tensor([0, 3, 1, 2, 2, 0])
    found = FakeClass().critic(Seen({"logits": real}, {"logits": fake}, {}), round_of(y))
    rows = zip([*real.tolist(), *fake.tolist()], [*y.tolist(), *[K] * 6], strict=True)
    assert total(found) == pytest.approx(-sum(math.log(softmax(r)[k]) for r, k in rows) / 12, rel=1e-12)
    # The generator maximises its share of the same: the saturating form.
    g = FakeClass().generator(Seen({}, {"logits": fake}, {}), round_of())
    assert total(g) == pytest.approx(sum(math.log(softmax(r)[K]) for r in fake.tolist()) / 6)
    # A softmax before it (a common slip) would give another number.
    twice = FakeClass().critic(Seen({"logits": real.softmax(1)}, {"logits": fake.softmax(1)}, {}), round_of(y))
    assert abs(total(twice) - total(found)) > 0.1


def test_labels_that_are_missing_are_an_error() -> None:
    seen = Seen({"logits": logits("r", K + 1)}, {"logits": logits("f", K + 1)}, {})
    for y in (None, torch.tensor([0, 1, -1, 2, 2, 0])):
        with pytest.raises(ValueError, match="--objective sgan: it needs the class of every sample"):
            FakeClass().critic(seen, round_of(y))


def test_salimans_sgan_has_a_fake_logit_of_zero() -> None:
    """Equal to K + 1 classes with the last logit fixed at 0."""
    real, fake, lab, y = logits("real"), logits("fake"), logits("labelled"), torch.tensor([0, 3, 1, 2, 2, 0])
    found = ImplicitFake().critic(Seen({"logits": real}, {"logits": fake}, {"logits": lab}), round_of(labelled=y))
    p_fake = [[softmax([*row, 0.0])[K] for row in rows.tolist()] for rows in (real, fake)]
    assert float(found["real"]) == pytest.approx(-0.5 * sum(math.log(1 - p) for p in p_fake[0]) / 6)
    assert float(found["fake"]) == pytest.approx(-0.5 * sum(math.log(p) for p in p_fake[1]) / 6)
    wanted = -sum(math.log(softmax(r)[k]) for r, k in zip(lab.tolist(), y.tolist(), strict=True)) / 6
    assert float(found["labelled"]) == pytest.approx(wanted)  # of the K classes: no mass on the fake one


def test_feature_matching_compares_means_and_moves_only_the_fakes() -> None:
    real, fake = logits("a").requires_grad_(), logits("b").requires_grad_()
    [loss] = FeatureMatching().generator(Seen({"features": real}, {"features": fake}, {}), round_of()).values()
    wanted = sum((a - b) ** 2 for a, b in zip(real.mean(0).tolist(), fake.mean(0).tolist(), strict=True)) / K
    assert float(loss.detach()) == pytest.approx(wanted)
    moved = torch.autograd.grad(loss, [real, fake], allow_unused=True)
    assert moved[0] is None and float(moved[1].abs().max()) > 0


def test_acgans_class_term_is_of_fakes_too() -> None:
    real, fake = logits("real"), logits("fake")
    y, c = torch.tensor([0, 3, 1, 2, 2, 0]), torch.tensor([1, 1, 0, 3, 2, 2])

    def ce(x: Tensor, k: Tensor) -> float:
        return -sum(math.log(softmax(r)[i]) for r, i in zip(x.tolist(), k.tolist(), strict=True)) / len(k)

    term, seen = ClassTerm(), Seen({"logits": real}, {"logits": fake}, {})
    found = term.critic(seen, round_of(y, **{"class": c}))
    assert float(found["class_real"]) == pytest.approx(ce(real, y))
    assert float(found["class_fake"]) == pytest.approx(ce(fake, c))
    # G maximises L_C: it minimises the same cross-entropy, of the classes that it was given.
    assert total(term.generator(seen, round_of(y, **{"class": c}))) == pytest.approx(ce(fake, c))
    assert ClassTerm(1.0, 0.0, 0.1).critic(seen, round_of(y, **{"class": c})).keys() == {"class_real"}


def test_discrete_information_is_at_most_log_k() -> None:
    y = torch.arange(1000) % 10
    assert float(discrete_information(torch.zeros(1000, 10), y)) == pytest.approx(0, abs=1e-6)
    sure = torch.nn.functional.one_hot(y, 10) * 50.0
    assert float(discrete_information(sure, y)) == pytest.approx(math.log(10), abs=1e-5)
    # Of the codes that were drawn: any other labels give less than nothing.
    assert float(discrete_information(sure, (y + 1) % 10)) < -10


def test_continuous_information_is_a_gaussians() -> None:
    code, mean = logits("code", 2), logits("mean", 2)
    wanted = 0.0
    for a, b in zip(code.tolist(), mean.tolist(), strict=True):
        wanted += sum(
            -0.5 * (x - m) ** 2 - 0.5 * math.log(2 * math.pi) + math.log(2) for x, m in zip(a, b, strict=True)
        )
    assert float(continuous_information(mean, code)) == pytest.approx(wanted / 6)


def test_information_is_in_both_losses_with_gradient() -> None:
    q, y, code = logits("q", K + 2).requires_grad_(), torch.tensor([0, 3, 1, 2, 2, 0]), logits("code", 2)
    term = Information(K, 0.5, 0.1)
    seen, around = Seen({}, {"q": q}, {}), round_of(**{"class": y, "code": code})
    for losses in (term.critic(seen, around), term.generator(seen, around)):
        (g,) = torch.autograd.grad(torch.stack(list(losses.values())).sum(), q, retain_graph=True)
        assert float(g.abs().min()) > 0
        assert float(losses["information_discrete"].detach()) == pytest.approx(
            -0.5 * float(discrete_information(q[:, :K], y).detach())
        )
    assert float(term.watch(seen, around)["information/discrete"].detach()) <= math.log(K)
    with pytest.raises(ValueError, match="--information-weight"):
        Information(K, 0)


def test_clusters_take_the_majority_class() -> None:
    clusters, classes = torch.tensor([0, 0, 0, 1, 1, 2]), torch.tensor([5, 5, 1, 1, 1, 3])
    assert majority_error(clusters, classes, clusters, classes) == pytest.approx(1 / 6)
    # Cluster 2 has no sample to be matched on: counted as wrong.
    assert majority_error(clusters, classes, clusters[:5], classes[:5]) == pytest.approx(2 / 6)
