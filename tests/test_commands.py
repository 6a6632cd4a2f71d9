"""The list of commands, what an unknown word gets, and long help in groups."""

import dataclasses
import io
import os
import re
import signal
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import tyro

import jobs
import models
from jobs import __main__ as menu
from jobs import command, run, train

REPOSITORY = Path(__file__).parent.parent


def test_every_job_is_listed_once_with_a_line() -> None:
    jobs = {p.stem for p in (REPOSITORY / "jobs").glob("[!_]*.py") if '__name__ == "__main__"' in p.read_text()}
    jobs |= {p.parent.name for p in (REPOSITORY / "jobs").glob("*/__main__.py")}
    listed = [name for commands in menu.COMMANDS.values() for name in commands]
    assert sorted(listed) == sorted(jobs)
    lines = menu.listing().splitlines()
    for name in listed:
        [line] = [line for line in lines if re.match(rf"  {name} ", line)]
        assert 20 < len(line) <= 100


def test_the_list_needs_no_torch() -> None:
    """It answers within a second: nothing heavy is imported for it."""
    check = "import sys; from jobs import __main__ as m; m.main([]); assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", check], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0 and "  shard " in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("shrad", "no command 'shrad': did you mean shard?"),
        ("xyz", "no command 'xyz': choose one of shard, describe"),
        ("bench style_indx", "no bench 'style-indx': did you mean style-index?"),
        ("study encodr", "no study 'encodr': did you mean encoder?"),
    ],
)
def test_an_unknown_word_names_the_nearest(words: str, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        menu.main(words.split())
    assert ended.value.code == 2 and hint in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["bench", "study"])
def test_benches_and_studies_are_listed_with_their_first_lines(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    menu.main([kind])
    said = capsys.readouterr().out
    for path in (REPOSITORY / "jobs" / kind).glob("[!_]*.py"):
        first = path.read_text().split('"""')[1].splitlines()[0]
        assert re.search(rf"  {path.stem.replace('_', '-')} +{re.escape(first)}", said), path


def test_a_command_of_the_script_is_the_job(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["variegate"])
    monkeypatch.delitem(sys.modules, "jobs.verify", raising=False)
    with pytest.raises(SystemExit) as ended:
        menu.main(["verify", "--help"])
    assert ended.value.code in (0, None)
    assert "usage: python -m jobs.verify" in capsys.readouterr().out
    scripts = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["scripts"]
    assert EntryPoint("variegate", scripts["variegate"], "console_scripts").load() is menu.main


class Terminal(io.StringIO):
    encoding = "utf-8"  # type: ignore[assignment]

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("describe --data d --output o --workers -1", "error: --workers -1, --threads 1: give at least 0, 1\n"),
        ("describe --data d --output o --gpus -1", "error: --gpus -1.0: give 0 or more\n"),
        ("describe --data d --output o --size -1", "error: --batch 16, --size -1: at least 1 and 0\n"),
        ("describe --data d --output o --workers two", "error: --workers: invalid literal"),
        ("describe --output o", "error: Missing from python -m jobs.describe:\n  --data STR\n"),
        ("describe --data d --output o --wrokers 1", "error: Unrecognized options: --wrokers, 1\n"),
        ("neighbours certain --descriptors d --output o", "error: "),
        ("evaluate --run r --data d --output o --protocol other", "error: invalid choice 'other' for"),
        ("verify /there/is/nothing/of/this/name" + "/longer" * 20, "error: /there/is/nothing/of/this/name"),
        ("train step huge", "error: step has no preset 'huge': choose one of "),
        ("shrad", "error: no command 'shrad': did you mean shard?\n"),
    ],
)
def test_every_error_begins_alike_and_has_no_box(
    line: str, told: str, terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["variegate", *line.split()])
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.delitem(sys.modules, f"jobs.{line.split()[0]}", raising=False)
    if terminal:
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setattr(sys, "stdout", Terminal())
    with pytest.raises(SystemExit) as ended:
        menu.main()
    said = capsys.readouterr()
    assert ended.value.code == (1 if line.startswith("verify") else 2) and said.out == ""
    assert said.err.startswith(told) and not set("│╭╰─\x1b") & set(said.err), said.err
    assert "Error parsing" not in said.err and os.environ["COLUMNS"] == "60"
    if line.startswith("verify"):
        assert "/longer" * 20 in said.err


SLOW = "import time\nprint('loading', flush=True)\ntime.sleep(60)\n"


@pytest.mark.parametrize("words", ["jobs.verify nowhere", "jobs verify nowhere", "jobs.bench cost"])
def test_ctrl_c_while_a_command_loads_is_one_line(words: str, tmp_path: Path) -> None:
    (tmp_path / "tyro.py").write_text(SLOW)  # is found before the library, and takes long to load
    process = subprocess.Popen(
        [sys.executable, "-m", *words.split()],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # where the tests run in the background
    )
    assert process.stdout is not None and process.stdout.readline() == "loading\n"
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert (process.returncode, told) == (130, "interrupted\n")


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("python -m jobs.shard --source demo", True),
        ("python -X dev -m jobs shard", True),
        ("python3 /venv/bin/variegate shard", True),
        ("python -m pytest tests/test_jobs.py", False),
        ("python -m jobsite", False),
        ("python notebook.py jobs.shard", False),
        ("python -c pass", False),
        ("python -m", False),
        ("python", False),
    ],
)
def test_signals_are_left_alone_by_a_library(line: str, wanted: bool) -> None:
    assert jobs._commands(line.split()) is wanted
    before = signal.getsignal(signal.SIGINT)
    jobs.loaded()
    assert signal.getsignal(signal.SIGINT) is before


ONE_CORE = """
import os, time
import torch
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # two threads on one core, as beside other work
torch.set_num_threads(2)
x = torch.ones(2, 64, 1000)
x.exp()
began = time.process_time()
for _ in range(50):
    x.exp()
print(time.process_time() - began)
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_threads_of_commands_do_not_spin_while_they_wait() -> None:
    """Spinning takes milliseconds an operation: a hundred times as long."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("OMP_")}
    seconds = [
        float(subprocess.check_output([sys.executable, "-c", first + ONE_CORE], cwd=REPOSITORY, env=environment))
        for first in ("", "import jobs")
    ]
    assert seconds[1] < seconds[0] / 5


def test_the_users_own_policy_of_waiting_is_kept() -> None:
    for given, wanted in (({"OMP_WAIT_POLICY": "active"}, "active"), ({}, "passive")):
        environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"} | given
        line = "import jobs, os; print(os.environ['OMP_WAIT_POLICY'])"
        found = subprocess.check_output([sys.executable, "-c", line], cwd=REPOSITORY, env=environment, text=True)
        assert found.strip() == wanted


def test_ctrl_c_after_loading_is_for_the_work(capsys: pytest.CaptureFixture[str]) -> None:
    @dataclasses.dataclass(frozen=True)
    class Config:
        pass

    def work(config: Config) -> None:
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        raise KeyboardInterrupt("saved")

    old = signal.signal(signal.SIGINT, jobs._end)
    try:
        with pytest.raises(SystemExit) as ended:
            command.main(Config, work, "", [])
    finally:
        signal.signal(signal.SIGINT, old)
    assert ended.value.code == 130 and capsys.readouterr().err == "interrupted: saved\n"


def option_groups(said: str) -> dict[str, str]:
    """Option -> title of the box it stands in."""
    found, title = {}, ""
    for line in said.splitlines():
        if match := re.match(r"(?:╭─)? ((?:[\w-]+ )?options)\b", line):
            title = match[1]
        elif match := re.match(r"[│ ] +(--[a-z][\w.-]*)", line):
            found[match[1]] = title
    return found


def test_the_help_of_a_recipe_is_in_groups_with_its_docstrings(capsys: pytest.CaptureFixture[str]) -> None:
    recipe = train.preset("step", "demo")
    with pytest.raises(SystemExit):
        tyro.cli(train.command_line(run.Config, recipe), args=["--help"])
    said = capsys.readouterr().out
    group = option_groups(said)
    wanted = {"--encoder-images": "encoder options", "--finetune-constant": "finetune options"}
    wanted |= {"--mapper-epochs": "mapper options", "--perceptual-net": "perceptual options"}
    wanted |= {"--size": "recipe options", "--code-weight": "code options", "--code": "recipe options"}
    wanted |= {"--run.workers": "run options", "--source": "options"}
    assert {option: group.get(option) for option in wanted} == wanted
    assert "Entries of the style code z." in said and "Root of every random generator" in said  # inherited too
    assert "(default: 8)" in said and "if used" not in said
    titles = list(group.values())
    assert max(titles.count(title) for title in set(titles)) <= 22


@pytest.mark.parametrize("family", models.names())
def test_no_field_of_a_recipe_is_called_like_an_option_of_a_job(family: str) -> None:
    own = {f.name for job in (run.Config, train.Config) for f in dataclasses.fields(job)}
    assert not own & {f.name for f in dataclasses.fields(models.load(family).Config)}


@pytest.mark.parametrize("family", models.names())
def test_grouped_options_give_the_preset_and_what_is_changed(family: str) -> None:
    for recipe in models.load(family).PRESETS.values():
        kind: Any = train.command_line(run.Config, recipe)
        assert tyro.cli(kind, args=["--output", "x"]).recipe == recipe
        length, longer = recipe.LENGTHS[0], getattr(recipe, recipe.LENGTHS[0]) + 1  # in a group of its own, often
        words = ["--seed", "7", f"--{length.replace('_', '-')}", str(longer)]
        changed = tyro.cli(kind, args=["--output", "x", *words]).recipe
        assert (changed.seed, getattr(changed, length)) == (7, longer) and type(changed) is type(recipe)
        assert {n for n, v in vars(recipe).items() if v != getattr(changed, n)} <= {"seed", length}


def test_the_command_to_give_again_holds_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["prog.py", "--tracking", "https://me:secret@host:5000/x", "--output=s3://key:secret@bucket/a b", "a@b"]
    monkeypatch.setattr(sys, "argv", words)
    given = command.given()
    assert "secret" not in given and given.endswith("--tracking https://host:5000/x '--output=s3://bucket/a b' a@b")
