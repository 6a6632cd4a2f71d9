"""The C library's memory while training on a CPU."""

from __future__ import annotations

import ctypes

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
"""From glibc's malloc.h."""
LARGEST = 32 << 20
"""Bytes; glibc takes no larger threshold for memory of its own pages."""
STEP = 64 << 20
"""Bytes by which the heap grows."""


def keep_freed() -> bool:
    """Keep what a step's tensors free for the next step's, in this process; returns whether the C library can.

    Of the free memory at the end of its heap, glibc keeps at most 64 MB and hands the rest back to the system. A step
    frees more than that, and the system clears the same pages again for each step. Blocks above 32 MB are not affected.
    The process stays about as large as its largest step made it, after training too.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # another C library than glibc
        return False
    return all(mallopt(*one) for one in ((M_MMAP_THRESHOLD, LARGEST), (M_TRIM_THRESHOLD, -1), (M_TOP_PAD, STEP)))
