"""Networks that an evaluation trains once and keeps, with what they were trained on; another one is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from pipeline.artifacts import storage
from pipeline.runs import checkpoint

Facts = dict[str, Any]


def keep(path: str, name: str, make: Callable[[], tuple[nn.Module, Facts]]) -> None:
    """Make the network and save it in `path` (a .pt file) beside its facts (.json), unless it is there."""
    if not storage.exists(_marker(path)):
        net, facts = make()
        checkpoint.publish(path.removesuffix(".pt"), {name: net.state_dict()}, facts)


def there(path: str, name: str) -> None:
    """Raises ValueError: no network was kept in `path`."""
    if not storage.exists(_marker(path)):
        raise ValueError(f"--{name} {path}: none is there; name the {name}.pt of an evaluation")


def load(path: str, name: str, wanted: Facts, remedy: str) -> tuple[dict[str, Tensor], Facts]:
    """(state dict, facts) of the one in `path`.

    Raises:
        ValueError: its facts differ from those wanted; the message names each difference.
    """
    facts: Facts = storage.read_json(_marker(path))
    if different := [f"{k} is {facts.get(k)} there, {v} wanted" for k, v in wanted.items() if facts.get(k) != v]:
        raise ValueError(f"{path} is another {name}: {'; '.join(different)}. {remedy}")
    state: dict[str, Tensor] = checkpoint.read(path)[name]
    return state, facts


def _marker(path: str) -> str:
    return path.removesuffix(".pt") + ".json"
