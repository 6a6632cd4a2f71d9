"""The forward and backward passes that each translation family's step is made of, and the step as their bare sum.

`PASSES` says which they are; one `update` is watched by forward hooks and must make exactly these. The bare side then
makes the same calls with the same tensors, each by itself (forward, backward, graph freed), and the optimisers' steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from models.family import Draw, Family

W, I, WI = "weights", "inputs", "weights inputs"  # noqa: E741
"""What a backward pass computes the gradient of."""

Pass = tuple[str, tuple[str, ...]]
"""A network called, and its backward passes."""


def both(name: str, *backward: str) -> list[Pass]:
    """The same in both domains of MUNIT."""
    return [(name.replace("*", domain), backward) for domain in "ab"]


PASSES: dict[str, list[Pass]] = {
    "flow": [("generator", (W,))],
    "pix2pix": [
        ("generator", (W,)),
        ("discriminator", (W,)),  # of the truth
        ("discriminator", (W,)),  # of the picture, for D
        ("discriminator", (I,)),  # of the same picture, for G, after D's step
    ],
    "bicyclegan": [
        ("encoder", (W,)),
        ("generator", (WI,)),
        ("discriminator", (W, I)),  # of the pictures: one pass serves D and G
        ("discriminator2", (W, I)),
        ("discriminator", (W,)),
        ("discriminator2", (W,)),
        ("encoder", (I,)),  # the latent regression
    ],
    "munit": [
        *both("generator_*.content", W),
        *both("generator_*.decoder"),  # D's pictures, with styles of their own
        *both("discriminator_*", W),
        *both("discriminator_*", W),
        *both("generator_*.style", W),
        *both("generator_*.decoder", WI),
        *both("generator_*.content", WI),
        *both("discriminator_*", I),
        *both("generator_*.decoder", WI),
        *both("generator_*.style", WI),
    ],
    "pix2pixhd": [
        ("generator.coarse", (W,)),
        ("discriminator", (W, I)),
        ("discriminator", (W,)),
        ("perceptual.vgg", ()),  # of the truth
        ("perceptual.vgg", (I,)),
    ],
}
"""Family -> the passes of a step of its first stage, in their order; presets without options that add to them."""


@dataclass
class Call:
    """A pass with its arguments."""

    net: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    backward: tuple[str, ...]

    def __call__(self) -> None:
        with torch.set_grad_enabled(bool(self.backward)):
            args = [_leaf(x) for x in self.args]
            kwargs = {name: _leaf(x) for name, x in self.kwargs.items()}
            out = [x for x in _tensors(self.net(*args, **kwargs)) if x.requires_grad]
        inputs = [x for x in _tensors([args, kwargs]) if x.requires_grad]
        for number, wanted in enumerate(self.backward, start=1):
            targets = [*(self.net.parameters() if "weights" in wanted else ()), *(inputs if "inputs" in wanted else ())]
            ones = [torch.ones_like(x) for x in out]
            torch.autograd.backward(out, ones, retain_graph=number < len(self.backward), inputs=targets)


def _leaf(x: Any) -> Any:
    return x.detach().requires_grad_(x.requires_grad) if isinstance(x, Tensor) else x


def _tensors(value: Any) -> Iterable[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _tensors(one)


def record(family: Family, name: str, draw: Draw) -> list[Call]:
    """One `update`, watched.

    Raises:
        RuntimeError: it makes other passes than `PASSES` says.
    """
    found: list[tuple[str, Call]] = []
    hooks = []
    for net in sorted({net for net, _ in PASSES[name]}):
        module = family
        for word in net.split("."):
            module = getattr(module, word)

        def watch(module: nn.Module, args: Any, kwargs: Any, _: Any, net: str = net) -> None:
            found.append((net, Call(module, args, kwargs, ())))

        hooks.append(module.register_forward_hook(watch, with_kwargs=True))
    family.update(draw, 0)
    for hook in hooks:
        hook.remove()
    made, wanted = [net for net, _ in found], [net for net, _ in PASSES[name]]
    if made != wanted:
        raise RuntimeError(f"{name}'s step passes through {made}; PASSES says {wanted}")
    calls = []
    for (_, call), (_, backward) in zip(found, PASSES[name], strict=True):
        needs = any("inputs" in one for one in backward)
        call.args = tuple(_kept(x, needs) for x in call.args)
        call.kwargs = {key: _kept(x, needs) for key, x in call.kwargs.items()}
        call.backward = backward
        calls.append(call)
    return calls


def _kept(x: Any, needs: bool) -> Any:
    """A tensor without its graph; whether its gradient was wanted is kept."""
    return x.detach().requires_grad_(needs and x.requires_grad) if isinstance(x, Tensor) else x


def bare(family: Family, calls: list[Call]) -> Callable[[], None]:
    """The step as the sum of its passes and its optimisers' steps (at rate 0: the weights stay)."""

    def run() -> None:
        for call in calls:
            call()
        for optimiser in family.optimisers.values():
            for settings in optimiser.param_groups:
                settings["lr"] = 0.0
            optimiser.step()
            optimiser.zero_grad()

    return run
