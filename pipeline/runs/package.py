"""A trained run as an MLflow model: this code, a recipe and a state dict; nothing is pickled.

    model = mlflow.pyfunc.load_model("models:/variegate-facades/1")   # anywhere the project is installed
    model.predict(images, params={"count": 4, "sampler": "mapper", "seed": 0})

`pipeline.runs.serving` says what `images` may be, and what comes back.
"""

from __future__ import annotations

import warnings
from pathlib import Path

from pipeline.artifacts import storage
from pipeline.artifacts.scratch import Scratch
from pipeline.runs import checkpoint
from pipeline.runs.serving import Server

with warnings.catch_warnings():
    warnings.simplefilter("ignore", UserWarning)  # MLflow's own chat types warn while they are imported
    from mlflow.models import ModelSignature
    from mlflow.pyfunc import PythonModel, save_model
    from mlflow.types.schema import ParamSchema, ParamSpec


def save(run: str, output: str) -> None:
    """Write the finished run in folder `run` (local or remote) as an MLflow model folder `output` (local, new).

    Raises:
        ValueError: the run is not finished, or `output` is there already.
    """
    if Path(output).exists():
        raise ValueError(f"{output} exists already: a model folder is written once")
    checkpoint.restore(run)  # not finished, or damaged: said before anything is written
    with Scratch("model") as folder:
        for name in ("recipe.json", "weights.pt", "weights.json"):
            (Path(folder) / name).write_bytes(storage.read(storage.join(run, name)))
        facts = storage.read_json(storage.join(folder, "recipe.json"))
        params = [ParamSpec("count", "long", 1), ParamSpec("seed", "long", 0), ParamSpec("sampler", "string", "")]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # advice: give an example of the input
            save_model(
                path=output,
                python_model=str(Path(__file__).with_name("served.py")),
                artifacts={"run": folder},
                signature=ModelSignature(params=ParamSchema(params)),
                pip_requirements=["variegate"],
                metadata={"family": facts["family"], "inputs": facts["inputs"]},
            )


class Model(Server, PythonModel):  # type: ignore[misc]
    """What `mlflow.pyfunc.load_model` gives back."""
