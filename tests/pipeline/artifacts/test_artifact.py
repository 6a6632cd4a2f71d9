"""A part that is not what was published is found by the job's own command, and made again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.artifacts import artifact


def make(folder: str, numbers: range = range(3)) -> artifact.Card | None:
    """What every job does: the parts that are missing, then the card. None where there was nothing to do."""
    if artifact.begin(folder, "things", 1, {"of": "x"}, {}) is not None:
        return None
    for number in numbers:
        if number not in artifact.done_parts(folder):
            artifact.publish_part(folder, number, pa.table({"value": list(range(number, number + 500))}))
    return artifact.finish(folder, numbers, {})


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("damage", [cut, flip])
@pytest.mark.parametrize("name", ["00001.parquet", "00001.json"])
@pytest.mark.parametrize("finished", [True, False])
def test_a_damaged_part_is_made_again(
    tmp_path: Path, damage: Callable[[Path], None], name: str, finished: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    card = make(str(tmp_path))
    before = {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in tmp_path.iterdir()}
    assert make(str(tmp_path)) is None and capsys.readouterr().out == ""
    if not finished:  # killed before the card
        (tmp_path / "card.json").unlink()
    damage(tmp_path / name)
    assert make(str(tmp_path)) == card
    assert "00001.parquet is not what its done-marker names: it is made again" in capsys.readouterr().out
    after = {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in tmp_path.iterdir()}
    assert {n: data for n, (data, _) in after.items()} == {n: data for n, (data, _) in before.items()}
    written = {n for n in after if after[n][1] != before[n][1]}
    assert written == {"00001.parquet", "00001.json", "card.json"}
    assert make(str(tmp_path)) is None


def test_another_request_is_refused_by_a_few_short_differences(tmp_path: Path) -> None:
    """What both have comes first; long values are cut, and what is left is counted."""
    artifact.begin(str(tmp_path), "things", 1, {"of": "x"}, {"same": 1, "long": "a" * 200, "old": 1})
    wanted = {"same": 1, "long": "b" * 200, "new": 1, "newer": 1, "newest": 1}
    with pytest.raises(ValueError, match="holds another things") as error:
        artifact.begin(str(tmp_path), "things", 1, {"of": "y"}, wanted)
    told = str(error.value).partition("things: ")[2].partition(". Nothing")[0].split("; ")
    assert [one.partition(" is ")[0] for one in told] == [
        *("inputs.of", "options.long", "options.new", "options.newer", "and 2 more")
    ]
    assert told[0] == "inputs.of is 'x' there, 'y' wanted"
    assert told[1] == f"options.long is '{'a' * 66}... there, '{'b' * 66}... wanted"


def test_the_content_hash_depends_on_the_order_of_the_parts(tmp_path: Path) -> None:
    tables = [pa.table({"value": [k]}) for k in range(2)]
    found = []
    for name, order in (("a", (0, 1)), ("b", (1, 0)), ("c", (0, 1))):
        folder = str(tmp_path / name)
        assert artifact.begin(folder, "things", 1, {"of": name}, {}) is None
        for number, which in enumerate(order):
            artifact.publish_part(folder, number, tables[which])
        found.append(artifact.finish(folder, range(2), {})["content"])
    assert found[0] == found[2] != found[1]
