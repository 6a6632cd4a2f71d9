"""A folder of inputs: what cannot be used is left out, with its name and the reason."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobs import sample
from pipeline.artifacts import storage
from tests.pipeline.data.test_folder import encoded, noise, write
from tests.pipeline.runs import test_package

run_folder = test_package.run_folder


def test_bad_inputs_are_named_and_left_out(
    run_folder: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write(tmp_path / "in", "a.png", "b/c.png")
    (tmp_path / "in/d.png").write_bytes(b"text")
    (tmp_path / "in/e.png").symlink_to("e.png")
    (tmp_path / "in/f.png").write_bytes(encoded(noise(8, 8))[:-20])
    config = sample.Config(run=run_folder, inputs=str(tmp_path / "in"), output=str(tmp_path / "out"), count=1)
    [sheet, *_] = sample.run(config)
    assert Path(sheet).exists()
    rows = json.loads((tmp_path / "out/skipped.json").read_text())
    assert [row["source"] for row in rows] == ["d.png", "e.png", "f.png"]
    told = capsys.readouterr().err
    assert "3 left out" in told
    for row, reason in zip(rows, ("not an image", "levels of symbolic links", "truncated"), strict=True):
        assert reason in row["error"] and f"{row['source']}: {row['error']}" in told
    for name in ("d", "e", "f"):
        (tmp_path / f"in/{name}.png").unlink()
    sample.run(config)
    assert not (tmp_path / "out/skipped.json").exists()  # of the call before
    (tmp_path / "in/a.png").write_bytes(b"text")
    storage.remove(str(tmp_path / "in/b"))
    with pytest.raises(ValueError, match=r"none of its images can be used; a\.png: not an image"):
        sample.run(config)
