"""Whether a claim of StEP holds, by the figures of the arms."""

from __future__ import annotations

import statistics
from typing import Any

from jobs.study.claims.arms import REMOVED

MATCHES = 0.1
"""dB that count as equal, in a claim that something is as good as something else."""
DIFFER = "seconds differ"
"""A verdict on the same CPU-seconds, where they were not."""
SECONDS = 0.1
"""Share by which CPU-seconds that count as the same may differ."""
Figures = dict[str, dict[int, dict[str, float]]]
"""Arm -> seed -> figures."""


def verdicts(name: str, found: Figures) -> dict[str, Any]:
    """Claim -> its verdict and the differences in PSNR (`db`) and perceptual distance (`vgg`), a number a seed. Of
    losses left out the differences alone."""

    def apart(arm: str, *others: str, figure: str = "psnr") -> list[float]:
        seeds = [seed for seed in found[arm] if all(seed in found[other] for other in others)]
        return [found[arm][seed][figure] - max(found[other][seed][figure] for other in others) for seed in seeds]

    def told(claim: str, what: str, said: str, **differences: list[float]) -> dict[str, Any]:
        shown = "; ".join(f"{', '.join(f'{v:+.2f}' for v in values)} {unit}" for unit, values in differences.items())
        print(f"{name}/{claim}: {what}: {shown}{said and ': '}{said}", flush=True)
        made = {f"{name}/{claim}/{unit}": [round(v, 4) for v in values] for unit, values in differences.items()}
        return {f"{name}/{claim}": said, **made} if said else made

    def paid(*arms: str) -> bool:
        """In the mean: the work of a seed is that of another, and seconds vary with what else the machine does."""
        wanted = statistics.mean(one["cpu_seconds_with_encoder"] for one in found["stage2"].values())
        spent = [statistics.mean(one["cpu_seconds"] for one in found[arm].values()) for arm in arms]
        return all(abs(seconds / wanted - 1) <= SECONDS for seconds in spent)

    made: dict[str, Any] = {}
    a, b, d = apart("stage2", "bicyclegan", "munit"), apart("stage3", "stage2_more"), apart("stage2", "joint")
    said = said_of([v > -MATCHES for v in a]) if paid("bicyclegan", "munit") else DIFFER
    made |= told("claim_a", "stage2 - bicyclegan or munit", said, db=a)
    made |= told("claim_b", "stage3 - stage2_more", said_of([v > 0 for v in b]), db=b)
    c, control = apart("foreign", "stage2"), apart("foreign", "random")
    said = said_of([v > -MATCHES and least > 0 for v, least in zip(c, control, strict=True)])
    made |= told("claim_c", "foreign - stage2; - random", said, db=c, db_to_random=control)
    made |= told("claim_d", "stage2 - joint", said_of([v > 0 for v in d]) if paid("joint") else DIFFER, db=d)
    for arm in found:
        if (switch := arm.removeprefix("switch-")) == arm:
            continue
        changes = {"db": apart("stage3", arm), "vgg": apart("stage3", arm, figure="vgg_perceptual")}
        if switch in REMOVED:
            made |= told(f"without/{switch}", f"stage3 - without {switch}", "", **changes)
        else:
            said = said_of([v > -MATCHES for v in changes["db"]])
            made |= told(f"claim_e/{switch}", f"stage3 - with {switch}", said, **changes)
    return made


def said_of(held: list[bool]) -> str:
    """Of the seeds."""
    return "holds" if all(held) else "not" if not any(held) else "seeds disagree"
