"""The training loop on two processes of one machine, without Ray."""

import importlib
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import models
from pipeline.runs import checkpoint
from pipeline.training import loop
from pipeline.training.job import Job
from pipeline.training.loop import FAMILIES
from tests.ranks import on_two_ranks


def fit_on_two_ranks(job: Job, folder: str) -> None:
    """In place of the loop's `_fit_on_ray`: the same worker, without the processes around it that Ray Train starts."""
    recipe, known = checkpoint.recipe_json(job.recipe), os.environ.get(FAMILIES, "")
    assert on_two_ranks(Path(folder), _train, replace(job, recipe=None), recipe, known) == [None, None]


def _train(_: int, job: Job, recipe: dict[str, Any], known: str) -> Any:
    os.environ[FAMILIES] = known
    importlib.reload(models)  # imported before it was known where other families lie
    return loop._work_on_ray({"job": job, "recipe": recipe})
