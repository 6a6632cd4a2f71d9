"""Three hosts on one Linux machine: a Ray head and two workers, an S3 store and an MLflow server, one job over them.

    sudo .venv/bin/python infra/lab.py --kill -- python -m jobs.run step demo --weights random --run.workers 2

Each host is a network namespace (its own address on a bridge) with a mount namespace of its own, in which /tmp and this
folder are empty but for the virtual environment: the hosts share nothing but the store. The job's `--output` is
s3://lab/run and its tracking server is the lab's, unless the line gives them. `--kill` ends one worker host, all its
processes at once, in the middle of training, and starts it again 20 s later. Needs root, iproute2 and util-linux.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shlex
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
BINARIES = REPOSITORY / ".venv" / "bin"
BRIDGE, NETWORK = "vglab", "10.77.0"
STORE, TRACKING = f"http://{NETWORK}.1:9000", f"http://{NETWORK}.1:5000"
HOSTS = {"head": f"{NETWORK}.10", "one": f"{NETWORK}.11", "two": f"{NETWORK}.12"}
GCS, DASHBOARD = 6379, 8265
KEYS = {"AWS_ACCESS_KEY_ID": "lab", "AWS_SECRET_ACCESS_KEY": "lab", "AWS_DEFAULT_REGION": "us-east-1"}

# In the new mount namespace: /tmp empty, and of the repository only the virtual environment.
SECLUDE = """
set -e
mount --make-rprivate /
mkdir -p /run/vglab-venv
mount --bind {venv} /run/vglab-venv
mount -t tmpfs tmpfs /tmp
mkdir -p {repository}
mount -t tmpfs tmpfs {repository}
mkdir {venv}
mount --move /run/vglab-venv {venv}
exec "$@"
"""


def command(*words: str) -> None:
    subprocess.run(words, check=True)


@contextmanager
def network() -> Iterator[None]:
    """A bridge at .1, and a namespace `vglab-HOST` with `eth0` on it for each host.

    One interface name everywhere: gloo asks for the interface by name (GLOO_SOCKET_IFNAME).
    """
    try:
        command("ip", "link", "add", BRIDGE, "type", "bridge")
        command("ip", "address", "add", f"{NETWORK}.1/24", "dev", BRIDGE)
        command("ip", "link", "set", BRIDGE, "up")
        for host, address in HOSTS.items():
            space, cable = f"{BRIDGE}-{host}", f"vg-{host}"
            command("ip", "netns", "add", space)
            command("ip", "link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", space)
            command("ip", "link", "set", cable, "master", BRIDGE, "up")
            command("ip", "-n", space, "address", "add", f"{address}/24", "dev", "eth0")
            command("ip", "-n", space, "link", "set", "eth0", "up")
            command("ip", "-n", space, "link", "set", "lo", "up")
        yield
    finally:
        for host in HOSTS:
            subprocess.run(["ip", "netns", "delete", f"{BRIDGE}-{host}"], stderr=subprocess.DEVNULL)
        subprocess.run(["ip", "link", "delete", BRIDGE], stderr=subprocess.DEVNULL)


class Lab:
    """The running hosts. `environment` is what every one of them has."""

    def __init__(self, logs: Path) -> None:
        self.logs = logs
        self.stack = ExitStack()
        self.environment = {
            **os.environ,
            **KEYS,
            "PATH": f"{BINARIES}:{os.environ['PATH']}",
            "AWS_ENDPOINT_URL": STORE,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
            "GLOO_SOCKET_IFNAME": "eth0",
            # A host that is gone is dead after about 10 s.
            "RAY_health_check_initial_delay_ms": "1000",
            "RAY_health_check_period_ms": "1000",
            "RAY_health_check_timeout_ms": "2000",
            "RAY_health_check_failure_threshold": "3",
        }
        self.environment.pop("RAY_ADDRESS", None)

    def start(self, name: str, words: list[str], **more: str) -> subprocess.Popen[bytes]:
        """A process group of its own with its output in `logs/NAME.log`."""
        with open(self.logs / f"{name}.log", "ab") as log:
            return subprocess.Popen(
                words, stdout=log, stderr=log, env={**self.environment, **more}, start_new_session=True
            )

    def services(self) -> None:
        """The object store and the tracking server, at .1."""
        data = self.logs / "mlflow"
        data.mkdir()
        self._keep(self.start("s3", [str(BINARIES / "moto_server"), "-H", f"{NETWORK}.1", "-p", "9000"]))
        server = [str(BINARIES / "mlflow"), "server", "--host", f"{NETWORK}.1", "--port", "5000", "--workers", "1"]
        server += ["--backend-store-uri", f"sqlite:///{data}/mlflow.db", "--artifacts-destination", str(data / "files")]
        server += ["--allowed-hosts", f"localhost:*,127.0.0.1:*,{NETWORK}.1:*"]
        self._keep(self.start("mlflow", server, MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false"))
        wait_for("the object store", lambda: answers(STORE))
        wait_for("the tracking server", lambda: answers(f"{TRACKING}/health"))
        urllib.request.urlopen(urllib.request.Request(f"{STORE}/lab", method="PUT"), timeout=10).close()

    def host(self, name: str) -> subprocess.Popen[bytes]:
        """Start Ray on a host. The head computes nothing: what is trained is trained on the two others."""
        address = HOSTS[name]
        ray = [str(BINARIES / "ray"), "start", "--block", f"--node-ip-address={address}", "--disable-usage-stats"]
        if name == "head":
            ray += ["--head", f"--port={GCS}", "--num-cpus=0", "--dashboard-host=0.0.0.0"]
            ray += [f"--dashboard-port={DASHBOARD}"]
        else:
            ray += [f"--address={HOSTS['head']}:{GCS}", "--num-cpus=1"]
        process = self.start(name, self.within(name, ray))
        self._keep(process)
        return process

    def within(self, host: str, words: list[str]) -> list[str]:
        script = SECLUDE.format(repository=REPOSITORY, venv=BINARIES.parent)
        # With its own process namespace a host dies whole when its first process is killed.
        apart = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        return ["ip", "netns", "exec", f"{BRIDGE}-{host}", *apart, "bash", "-c", script, "host", *words]

    def submit(self, words: list[str]) -> subprocess.Popen[bytes]:
        """`ray job submit --working-dir .`, from the head."""
        ray = [str(BINARIES / "ray"), "job", "submit", f"--address=http://{HOSTS['head']}:{DASHBOARD}"]
        process = subprocess.Popen(
            ["ip", "netns", "exec", f"{BRIDGE}-head", *ray, "--working-dir", ".", "--", *words],
            cwd=REPOSITORY,
            env=self.environment,
            start_new_session=True,
        )
        self._keep(process)
        return process

    def _keep(self, process: subprocess.Popen[bytes]) -> None:
        self.stack.callback(end, process)


def end(process: subprocess.Popen[bytes], how: int = signal.SIGTERM) -> None:
    if process.poll() is None:
        os.killpg(process.pid, how)
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=2).close()
    except urllib.error.HTTPError:
        return True  # an answer all the same
    except OSError:
        return False
    return True


def wait_for(what: str, there: Callable[[], bool], seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not there():
        if time.monotonic() > until:
            raise TimeoutError(f"{what} is not there after {seconds:.0f} s")
        time.sleep(0.5)


def training(output: str) -> dict[str, object]:
    """progress.json of the run: stage, images, of."""
    import s3fs

    store = s3fs.S3FileSystem(
        key=KEYS["AWS_ACCESS_KEY_ID"],
        secret=KEYS["AWS_SECRET_ACCESS_KEY"],
        endpoint_url=STORE,
        use_listings_cache=False,
    )
    try:
        found: dict[str, object] = json.loads(store.cat_file(f"{output}/train/progress.json"))
    except (OSError, ValueError):
        return {}
    return found


def middle(output: str) -> bool:
    """Whether the generator stage is between a quarter and its end."""
    at = training(output)
    return at.get("stage") == "generator" and 4 * int(str(at["images"])) > int(str(at["of"]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kill", action="store_true", help="kill a worker host in the middle of training")
    parser.add_argument("--hold", action="store_true", help="leave everything running after the job, until Ctrl-C")
    parser.add_argument("--logs", default="", help="folder for the logs; none: a temporary one, named at the start")
    parser.add_argument("words", nargs=argparse.REMAINDER, help="-- then the job's command line")
    given = parser.parse_args()
    words = [w for w in given.words if w != "--"] or shlex.split("python -m jobs.run step demo --run.workers 2")
    output = words[words.index("--output") + 1] if "--output" in words else "s3://lab/run"
    words += [] if "--output" in words else ["--output", output]
    words += [] if "--tracking" in words else ["--tracking", TRACKING]
    if os.geteuid() != 0:
        print("error: the lab needs root (network namespaces)", file=sys.stderr)
        return 2
    logs = Path(given.logs or tempfile.mkdtemp(prefix="vglab-"))
    logs.mkdir(parents=True, exist_ok=True)
    print(f"logs: {logs}", flush=True)
    lab, began = Lab(logs), time.monotonic()

    def say(what: str) -> None:
        print(f"[lab {time.monotonic() - began:.0f} s] {what}", flush=True)

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with network(), lab.stack:
        lab.services()
        lab.host("head")
        wait_for("the head", lambda: answers(f"http://{HOSTS['head']}:{DASHBOARD}/api/version"))
        workers = {name: lab.host(name) for name in ("one", "two")}
        say(f"up: {', '.join(f'{n} {a}' for n, a in HOSTS.items())}; {STORE}; {TRACKING}")
        say(shlex.join(words))
        job = lab.submit(words)
        if given.kill:
            while job.poll() is None and not middle(output):
                time.sleep(1)
            if job.poll() is None:
                end(workers["two"], signal.SIGKILL)
                say(f"host two killed at {training(output)}")
                time.sleep(20)
                lab.host("two")
                say("host two started again")
        code = job.wait()
        say(f"the job ended with {code}")
        while given.hold:
            time.sleep(1)
    return code


if __name__ == "__main__":
    raise SystemExit(main())
