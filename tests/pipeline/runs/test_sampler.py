"""A folder of inputs: what cannot be used is left out, with its name and the reason."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from jobs import evaluate, sample
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
    styled = replace(config, styles=config.inputs, output=str(tmp_path / "styled"))
    sample.run(styled)
    assert json.loads((tmp_path / "styled/skipped-styles.json").read_text()) == rows
    assert f"--styles {config.inputs}: 3 left out" in capsys.readouterr().err
    for name in ("d", "e", "f"):
        (tmp_path / f"in/{name}.png").unlink()
    sample.run(config)
    assert not (tmp_path / "out/skipped.json").exists()  # of the call before
    (tmp_path / "in/a.png").write_bytes(b"text")
    storage.remove(str(tmp_path / "in/b"))
    with pytest.raises(ValueError, match=r"--inputs .*: none of its images can be used; a\.png: not an image"):
        sample.run(config)
    write(tmp_path / "good", "a.png")
    with pytest.raises(ValueError, match=r"--styles .*: none of its images can be used; a\.png: not an image"):
        sample.run(replace(styled, inputs=str(tmp_path / "good")))


def test_an_output_that_is_read_or_a_file_is_refused(run_folder: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for job, more in ((sample, {"inputs": str(tmp_path)}), (evaluate, {"data": str(tmp_path)})):
        with pytest.raises(ValueError, match=r"--output .*/file is a file: name a folder"):
            job.run(job.Config(run=run_folder, output=str(tmp_path / "file"), **more))
        with pytest.raises(ValueError, match="is the folder of --run: name another one"):
            job.run(job.Config(run=run_folder, output=f"{run_folder}/", **more))
    with pytest.raises(ValueError, match="is the folder of --data: name another one"):
        sample.run(sample.Config(run=run_folder, data=str(tmp_path), output=str(tmp_path)))
