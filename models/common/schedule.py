"""Learning-rate schedules as factors of the first rate."""


def linear_decay(epoch: float, constant: float, fall: float) -> float:
    """1 until `constant`, then down by 1 / fall for each epoch more, never below 0.

    pix2pix's PyTorch code in its n-th epoch (from 1): epoch = n, constant = 100, fall = 101, so that the 200th still
    runs at 1/101. pix2pixHD's: epoch = n - 1, constant = 100, fall = 100, so that the 200th runs at 1/100.
    """
    if epoch <= constant:
        return 1.0
    return max(0.0, 1.0 - (epoch - constant) / fall)


def step_decay(step: int, every: int, factor: float) -> float:
    """factor^(step // every)."""
    return float(factor ** (step // every))
