"""The pages: links that lead somewhere, commands that are all named, the table of families as the code has it."""

import re
from pathlib import Path

import pytest

import models
from models import __main__ as families
from pipeline.data import sources

REPOSITORY = Path(__file__).parent.parent
PAGES = [
    REPOSITORY / "README.md",
    *(page for top in ("infra", "jobs", "models", "pipeline") for page in (REPOSITORY / top).rglob("README.md")),
]
MAY_BE_MISSING = {"infra/measurements/pictures/demo.png"}


def anchors(page: Path) -> set[str]:
    """The names of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith("http"):
            continue
        path, _, heading = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        if there.is_relative_to(REPOSITORY) and str(there.relative_to(REPOSITORY)) in MAY_BE_MISSING:
            continue
        assert there.exists(), f"{page}: {target}"
        if heading:
            assert heading in anchors(there), f"{page}: {target}"


def test_the_first_page_is_short() -> None:
    assert len((REPOSITORY / "README.md").read_text().splitlines()) <= 130


def test_every_command_bench_and_study_is_named() -> None:
    jobs = {p.stem for p in (REPOSITORY / "jobs").glob("[!_]*.py") if '__name__ == "__main__"' in p.read_text()}
    named = re.findall(r"^\| *[a-z]* *\| `(\w+)", (REPOSITORY / "jobs" / "README.md").read_text(), re.MULTILINE)
    assert sorted(named) == sorted({*jobs, "bench", "study"})
    measured = (REPOSITORY / "infra" / "measurements" / "README.md").read_text()
    measured += (REPOSITORY / "pipeline" / "neighbours" / "README.md").read_text()
    measured += "".join(page.read_text() for page in (REPOSITORY / "models").glob("*/README.md"))
    for kind in ("bench", "study"):
        for path in (REPOSITORY / "jobs" / kind).glob("[!_]*.py"):
            assert f"jobs.{kind} {path.stem.replace('_', '-')}" in measured, path


def test_every_source_is_named() -> None:
    page = (REPOSITORY / "jobs" / "README.md").read_text()
    assert [name for name in sources.names() if f"`{name}" not in page and name != "folder"] == []


def test_every_measured_table_has_machine_date_and_command() -> None:
    """Each section of the page of measurements, and each below `## Measured` of a family's page."""
    measured = (REPOSITORY / "infra" / "measurements" / "README.md").read_text().split("\n## ")[1:]
    for page in (REPOSITORY / "models").glob("*/README.md"):
        measured += page.read_text().partition("\n## Measured\n")[2].split("\n### ")[1:]
    assert len(measured) > 10
    for part in measured:
        assert re.search(r"\*20\d\d-\d\d-\d\d; \d+ cores", part), part[:60]
        assert re.search(r"`make demo`|jobs\.(bench|study|run|train|describe|evaluate) ?", part), part[:60]


def test_the_table_of_families_is_what_the_code_says() -> None:
    page = families.PAGE.read_text()
    assert page == families.replaced(page), "python -m models --write"
    for name in models.names():
        if (families.PAGE.parent / name).is_dir():
            [line] = [line for line in page.splitlines() if re.match(rf"\| \[?{name}\W", line)]
            assert models.load(name).SUMMARY in line and "https://" in line
            for preset in models.load(name).PRESETS:
                assert preset in line


@pytest.mark.parametrize(
    ("docstring", "wanted"),
    [
        ("A: A Title.\n\nOne, Two, CVPR 2021. https://x.org/1\n\nMore.", "[A: A Title](https://x.org/1), CVPR 2021"),
        ("A: A\nTitle.\n\nOne, NeurIPS\n2017. https://x.org/1.", "[A: A Title](https://x.org/1), NeurIPS 2017"),
        ("Two.\n\nOne (https://x.org/1), Other (https://x.org/2).", "Two, [1](https://x.org/1), [2](https://x.org/2)"),
        ("None at all.", "None at all"),
    ],
)
def test_the_paper_is_read_from_the_docstring(docstring: str, wanted: str) -> None:
    assert families.paper(docstring) == wanted
