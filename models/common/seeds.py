"""Random generators named by what they are for, so that nothing reads or moves the global random state."""

import hashlib

import torch


def seed_of(*parts: int | str) -> int:
    """A seed (63 bits) that is a function of `parts` alone."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def seeded(*parts: int | str) -> torch.Generator:
    """A CPU generator whose seed is `seed_of(*parts)`, e.g. `seeded(recipe.seed, "mapper", step)`."""
    return torch.Generator().manual_seed(seed_of(*parts))
