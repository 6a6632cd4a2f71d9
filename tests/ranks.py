"""Two processes of one gloo group on this machine."""

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

# Ranks are forked from a process that has imported these: a fresh interpreter takes seconds to import torch.
IMPORTED = [f"models.{name}" for name in ("step", "imle", "gans", "pixelcnn")]
mp.set_forkserver_preload(["pytest", "torch.distributed", "torch._dynamo", "pipeline.training.loop", *IMPORTED])


def on_two_ranks(folder: Path, work: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What `work(rank, *arguments)` returns on each rank, by files in `folder`; tensors, numbers, and lists and
    dictionaries of them."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    mp.start_processes(_rank, (port, str(folder), work, arguments), nprocs=2, start_method="forkserver")
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


def _rank(rank: int, port: int, folder: str, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    torch.save(work(rank, *arguments), Path(folder) / f"{rank}.pt")
    dist.barrier()  # one that leaves while the other still works makes gloo abort now and then
    dist.destroy_process_group()
