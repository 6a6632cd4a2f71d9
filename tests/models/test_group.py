"""The data-parallel group by itself: two processes with known numbers."""

from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from models.group import Group
from tests.ranks import on_two_ranks


def weights(group: Group, x: Tensor) -> Tensor:
    """This rank's own weights of the gathered rows in its loss."""
    return torch.arange(2.0 * x.numel(), dtype=x.dtype).view(-1, x.shape[1]) * (10 if group.rank else 1)


def averaged(group: Group) -> list[Tensor | None]:
    """Gradients after `average`: two kinds of numbers, one missing on rank 1, one that is not trained."""
    params = [nn.Parameter(torch.zeros(3, dtype=kind)) for kind in (torch.float32, torch.float32, torch.float64)]
    params += [nn.Parameter(torch.zeros(2, 2)), nn.Parameter(torch.zeros(1), requires_grad=False)]
    for i, p in enumerate(params[:-1]):
        p.grad = torch.full_like(p, float(i + 1 if group.rank == 0 else 10 * (i + 1)))
    if group.rank == 1:
        params[1].grad = None
    group.average(params)
    return [p.grad for p in params]


def shared(group: Group) -> dict[str, Tensor]:
    net = nn.BatchNorm1d(2)
    with torch.no_grad():
        for value in [*net.parameters(), *net.buffers()]:
            value.fill_(3 + group.rank)
    group.share(net)
    return net.state_dict()


def worker(rank: int) -> dict[str, Any]:
    group = Group()
    x = (torch.arange(6.0).view(3, 2) + 100 * rank).requires_grad_()
    gathered = group.gather(x.t().contiguous().t())  # not contiguous in memory
    (gathered * weights(group, x)).sum().backward()
    names = ("b", "a") if rank else ("a", "b")  # the order in which a rank happens to name them
    return {
        "gathered": gathered.detach(),
        "grad": x.grad,
        "averaged": averaged(group),
        "averaged in small buckets": averaged(Group(bucket_bytes=1)),
        "shared": shared(group),
        "mean": group.mean({name: float(ord(name) + rank) for name in names}),
    }


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return on_two_ranks(tmp_path_factory.mktemp("group"), worker)


def test_gathered_rows_are_in_the_order_of_ranks_and_get_the_gradients_of_all_losses(found: Any) -> None:
    rows = torch.arange(6.0).view(3, 2)
    total = 11 * torch.arange(12.0).view(6, 2)  # rank 1's weights are ten times rank 0's
    for rank in range(2):
        assert torch.equal(found[rank]["gathered"], torch.cat([rows, rows + 100]))
        assert torch.equal(found[rank]["grad"], total[3 * rank : 3 * rank + 3])


@pytest.mark.parametrize("name", ["averaged", "averaged in small buckets"])
def test_gradients_become_their_means_and_a_missing_one_counts_as_zero(found: Any, name: str) -> None:
    for rank in range(2):
        *trained, still = found[rank][name]
        assert [float(g.unique()) for g in trained] == [5.5, 1.0, 16.5, 22.0]
        assert [g.dtype for g in trained] == [torch.float32, torch.float32, torch.float64, torch.float32]
        assert still is None


def sent(group: Group, patch: pytest.MonkeyPatch, without: tuple[int, ...]) -> list[tuple[torch.dtype, list[float]]]:
    """The buckets that a rank sends, as (type, values), where the parameters `without` have no gradient. The other rank
    has the same gradients."""
    found: list[tuple[torch.dtype, list[float]]] = []

    def all_reduce(flat: Tensor) -> None:
        found.append((flat.dtype, flat.tolist()))
        flat.mul_(2)

    patch.setattr(dist, "all_reduce", all_reduce)
    kinds = torch.float32, torch.float32, torch.float64, torch.float64, torch.float32
    params = [nn.Parameter(torch.zeros(i + 1, dtype=kind)) for i, kind in enumerate(kinds)]
    for i, p in enumerate(params):
        p.grad = None if i in without else torch.full_like(p, i + 1.0)
    group.on, group.world = True, 2
    group.average([*params, nn.Parameter(torch.zeros(9), requires_grad=False)])
    for i, p in enumerate(params):
        assert p.grad is not None and p.grad.dtype == kinds[i]
        assert p.grad.tolist() == [0.0 if i in without else i + 1.0] * (i + 1)
    return found


def test_each_bucket_holds_numbers_of_one_type(monkeypatch: pytest.MonkeyPatch) -> None:
    """`torch.cat` of two types would give the wider one: the same values, sent in twice the bytes."""
    assert sent(Group(), monkeypatch, ()) == [
        (torch.float32, [1.0, 2.0, 2.0]),
        (torch.float64, [3.0] * 3 + [4.0] * 4),
        (torch.float32, [5.0] * 5),
    ]


@pytest.mark.parametrize("bucket_bytes", [1, 16, 1 << 20])
@pytest.mark.parametrize("without", [(1,), (0, 2), (3, 4), (0, 1, 2, 3, 4)])
def test_what_is_sent_has_one_form_whichever_gradients_are_missing(
    monkeypatch: pytest.MonkeyPatch, without: tuple[int, ...], bucket_bytes: int
) -> None:
    """A rank that left one out would wait for ever, or add the gradients of other parameters."""
    all_of_them = sent(Group(bucket_bytes), monkeypatch, ())
    some = sent(Group(bucket_bytes), monkeypatch, without)
    assert [(kind, len(values)) for kind, values in some] == [(kind, len(values)) for kind, values in all_of_them]


def test_rank_0s_parameters_and_buffers_are_shared(found: Any) -> None:
    for rank in range(2):
        assert found[rank]["shared"].keys() == nn.BatchNorm1d(2).state_dict().keys()
        assert all(bool((value == 3).all()) for value in found[rank]["shared"].values())


def test_scalars_are_averaged_by_name(found: Any) -> None:
    assert found[0]["mean"] == found[1]["mean"] == {"a": ord("a") + 0.5, "b": ord("b") + 0.5}
