"""Random generators named by what they are for, so that nothing reads or moves the global random state."""

import hashlib

import torch


def seeded(*parts: int | str) -> torch.Generator:
    """A CPU generator whose seed is a function of `parts` alone, e.g. `seeded(recipe.seed, "mapper", step)`."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
