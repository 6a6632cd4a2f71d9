"""The rules of the house: who may import whom, what lies where, how long a job may be."""

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
MODELS_MAY_USE = {"torch", "numpy", "jaxtyping", "models", *sys.stdlib_module_names}
ORDER = (
    {"artifacts", "search"},
    {"data"},
    {"style", "runs", "tracking"},
    {"neighbours"},
    {"training"},
    {"evaluation"},
)
"""The rooms of pipeline: each imports itself and earlier ones, and none beside it."""
MOST_LINES = 200


def imports(path: Path) -> set[str]:
    """Modules and names that a file imports, those for types alone included."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write the import in full"
            found |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@cache
def graph() -> dict[str, set[str]]:
    """Module -> the modules of ours that it imports."""
    paths = {module(path): path for top in ("models", "pipeline", "jobs") for path in (ROOT / top).rglob("*.py")}
    return {name: (imports(path) & paths.keys()) - {name} for name, path in paths.items()}


def circles(edges: dict[str, set[str]]) -> set[frozenset[str]]:
    """Groups of modules each of which leads to all others of its group."""

    def reached(start: str) -> set[str]:
        found: set[str] = set()
        waiting = [start]
        while waiting:
            new = edges[waiting.pop()] - found
            found |= new
            waiting += new
        return found

    ahead = {name: reached(name) for name in edges}
    return {frozenset(b for b in ahead[a] if a in ahead[b]) for a in edges if a in ahead[a]}


def wrong_rooms(edges: dict[str, set[str]]) -> Iterator[str]:
    """Imports of pipeline that go up or sideways."""
    height = {room: number for number, level in enumerate(ORDER) for room in level}
    for name, used in edges.items():
        here = name.split(".")
        for other in used:
            there = other.split(".")
            inside = here[0] == there[0] == "pipeline" and len(here) > 1 and len(there) > 1
            if inside and here[1] != there[1] and height[there[1]] >= height[here[1]]:
                yield f"{name} imports {other}"


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


def test_rooms_import_earlier_ones_only() -> None:
    assert set().union(*ORDER) == {path.name for path in (ROOT / "pipeline").iterdir() if is_room(path)}
    assert not list(wrong_rooms(graph()))
    made = {"pipeline.data.a": {"pipeline.style.b", "pipeline.data.c", "pipeline.search.d"}, "pipeline.runs.e": set()}
    made["pipeline.runs.e"] = {"pipeline.tracking.f", "models.family"}
    assert sorted(wrong_rooms(made)) == [
        "pipeline.data.a imports pipeline.style.b",
        "pipeline.runs.e imports pipeline.tracking.f",
    ]


def test_no_files_import_each_other() -> None:
    found = [sorted(circle) for circle in circles(graph())]
    assert not found, f"these import each other: {found}"
    made = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": {"e"}, "e": set[str]()}
    assert circles(made) == {frozenset("abc")}


def is_room(path: Path) -> bool:
    return path.is_dir() and path.name != "__pycache__"


def test_pipeline_holds_rooms_each_said_in_a_sentence() -> None:
    pipeline = ROOT / "pipeline"
    assert {p.name for p in pipeline.iterdir() if not is_room(p)} - {"__pycache__"} == {"__init__.py"}
    for room in filter(is_room, pipeline.iterdir()):
        said = ast.get_docstring(ast.parse((room / "__init__.py").read_text())) or ""
        assert said.endswith(".") and "\n" not in said and ". " not in said, f"{room}: say the room in one sentence"


def test_no_job_is_long() -> None:
    long = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "jobs").rglob("*.py")
        if len(path.read_text().splitlines()) > MOST_LINES
    }
    assert not long, f"more than {MOST_LINES} lines: {sorted(long)}"
