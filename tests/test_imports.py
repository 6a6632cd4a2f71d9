"""The house rules: jobs -> pipeline -> models, families apart from each other, models on torch alone."""

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
MODELS_MAY_USE = {"torch", "numpy", "jaxtyping", "models", *sys.stdlib_module_names}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write the import in full"
            found |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_models_use_torch_numpy_and_jaxtyping_only() -> None:
    for path in (ROOT / "models").rglob("*.py"):
        assert not {i for i in imports(path) if i.split(".")[0] not in MODELS_MAY_USE}, path


def test_pipeline_does_not_import_jobs() -> None:
    for path in (ROOT / "pipeline").rglob("*.py"):
        assert not {i for i in imports(path) if i.split(".")[0] == "jobs"}, path


def test_families_do_not_import_each_other() -> None:
    for path in (ROOT / "models").glob("*/*.py"):
        own = {path.parent.name, "common", "family", "group", "abilities"}
        used = {i.split(".")[1] for i in imports(path) if i.startswith("models.")}
        assert used <= own, path
