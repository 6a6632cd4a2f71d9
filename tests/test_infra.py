"""The manifests name what there is; the lab's hosts are apart (needs root and Linux's network tools)."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tyro
import yaml

from jobs import run, train

REPOSITORY = Path(__file__).parent.parent
INFRA = REPOSITORY / "infra"


def documents(name: str) -> list[Any]:
    return list(yaml.safe_load_all((INFRA / name).read_text()))


def test_the_cluster_manifest_fits_the_pinned_ray_and_the_jobs_options() -> None:
    [job] = documents("kuberay.yaml")
    pinned = re.search(r"^ray==(\S+)$", (REPOSITORY / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned and job["spec"]["rayClusterSpec"]["rayVersion"] == pinned[1]
    words = shlex.split(job["spec"]["entrypoint"])
    assert words[:5] == ["python", "-m", "jobs.run", "step", "demo"]
    config: Any = tyro.cli(train.command_line(run.Config, train.preset("step", "demo")), args=words[5:])
    [group] = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    assert config.run.workers == config.workers == group["replicas"]
    for part in (job["spec"]["rayClusterSpec"]["headGroupSpec"], group):
        [container] = part["template"]["spec"]["containers"]
        given = {entry["name"]: entry for entry in container["env"]}
        assert given["RAY_AUTH_MODE"]["value"] == "token"
        assert "secretKeyRef" in given["RAY_AUTH_TOKEN"]["valueFrom"]  # never the token itself


def test_the_tracking_manifest_fits_the_cluster_s() -> None:
    _, deployment, service = documents("mlflow.yaml")
    [job] = documents("kuberay.yaml")
    name, port = service["metadata"]["name"], service["spec"]["ports"][0]["port"]
    assert f"--tracking http://{name}:{port}" in job["spec"]["entrypoint"]
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    assert any(f"{name}:*" in argument for argument in container["args"])  # other Host names are answered with 403


def test_the_image_copies_what_the_package_is_made_of() -> None:
    copied = re.findall(r"^COPY (.+) \S+$", (INFRA / "Containerfile").read_text(), re.MULTILINE)
    assert {"models", "pipeline", "jobs"} <= {word for line in copied for word in line.split()}
    for line in copied:
        assert all((REPOSITORY / word).exists() for word in line.split())


@pytest.mark.slow
def test_the_lab_runs_the_whole_job_and_survives_a_lost_host(tmp_path: Path) -> None:
    if not os.environ.get("VARIEGATE_LAB"):
        pytest.skip("three minutes, and it makes network namespaces: set VARIEGATE_LAB=1")
    if os.geteuid() != 0 or not shutil.which("ip") or not shutil.which("unshare"):
        pytest.skip("the lab needs root, iproute2 and util-linux")
    line = [sys.executable, str(INFRA / "lab.py"), "--kill", "--logs", str(tmp_path / "logs"), "--"]
    line += shlex.split("python -m jobs.run step tiny --crops 4 --weights random --run.workers 2")
    line += ["--generator-images", "8000", "--generator-constant", "8", "--run.checkpoint-every", "20"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "host two killed" in done.stdout and "host two started again" in done.stdout


def test_the_installation_says_what_it_does_before_each_slow_step() -> None:
    done = subprocess.run(["make", "-nB", "install"], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    slow = [i for i, line in enumerate(lines) if " -m venv " in line or "/pip install " in line]
    told = [lines[i - 1] for i in slow]
    assert [re.sub(r'echo "Install (\d of \d): .*"', r"\1", line) for line in told] == ["1 of 3", "2 of 3", "3 of 3"]
