"""The table of families, in Markdown, from their code: python -m models

With `--write` it replaces the table in this folder's README.md. A test compares the two.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from models import load, names

PAGE = Path(__file__).parent / "README.md"
BEGIN, END = "<!-- families: made by python -m models --write -->\n", "<!-- end of families -->\n"
SHEETS = PAGE.parent.parent / "infra" / "measurements" / "first-sheets.json"
"""What `python -m jobs.bench first-sheet --write` leaves."""
HEAD = (
    "| family | paper | what it is for | presets | artifacts | command | first sheet |\n|---|---|---|---|---|---|---|\n"
)


def paper(docstring: str) -> str:
    """The paper as a family's docstring names it: the title in its first paragraph, the authors, the venue and the
    address in its second. Several addresses are numbered."""
    title, _, rest = docstring.strip().partition("\n\n")
    title = " ".join(title.split()).rstrip(".")
    source = " ".join(rest.partition("\n\n")[0].split())
    links = re.findall(r"https?://[^\s,;)]+", source)
    venue = re.search(r"[A-Z]\w+ \d{4}(?=\. https?://)", source)
    if len(links) != 1:
        return ", ".join([title, *(f"[{i}]({link})" for i, link in enumerate((one.rstrip(".") for one in links), 1))])
    return f"[{title}]({links[0].rstrip('.')})" + (f", {venue[0]}" if venue else "")


def row(name: str) -> str:
    """A family's line of the table. The artifacts and the command are those of its first preset."""
    module = load(name)
    used = module.artifacts(next(iter(module.PRESETS.values())))
    needed = {artifact: spec for artifact, spec in used.items() if spec.needed_by}
    artifacts = [f"{artifact} (stage {', '.join(spec.needed_by)})" for artifact, spec in needed.items()]
    artifacts += [f"{artifact} (optional)" for artifact in used if artifact not in needed]
    options = "".join(f" --{artifact} DIR" for artifact in needed)
    return (
        f"| {_linked(name)} | {paper(str(module.__doc__))} | {module.SUMMARY} | {', '.join(module.PRESETS)} "
        f"| {'; '.join(artifacts) or 'none'} "
        f"| `python -m jobs.train {name} {next(iter(module.PRESETS))} --data DIR{options} --output DIR` "
        f"| {_first_sheet(name)} |\n"
    )


def _first_sheet(name: str) -> str:
    """CPU seconds of preset `tiny`; a dash where they were not measured."""
    seconds = json.loads(SHEETS.read_text())["cpu_seconds"].get(name) if SHEETS.exists() else None
    return "–" if seconds is None else f"{seconds:.0f} s"


def _linked(name: str) -> str:
    """The name, with its page where it has one."""
    return f"[{name}]({name}/README.md)" if (PAGE.parent / name / "README.md").exists() else name


def table() -> str:
    """All families of this folder."""
    return HEAD + "".join(row(name) for name in names() if (PAGE.parent / name).is_dir())


def replaced(page: str) -> str:
    """The text of README.md with the table as it should be."""
    before, _, rest = page.partition(BEGIN)
    return before + BEGIN + table() + END + rest.partition(END)[2]


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        PAGE.write_text(replaced(PAGE.read_text()))
    else:
        print(table(), end="")
