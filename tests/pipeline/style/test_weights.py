"""Weights by file, name and URL: checked, cached, refused."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch

from pipeline.style import weights
from pipeline.style.weights import load_weights
from tests.pipeline.style.test_descriptors import LAYERS, net


class TestWeights:
    def saved(self, path: Path, value: object) -> str:
        torch.save(value, path)
        return str(path)

    def test_file_and_hash(self, tmp_path: Path) -> None:
        path = self.saved(tmp_path / "w.pth", net().state_dict())
        digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
        network, origin = load_weights(path, "vgg16", LAYERS, sha256=digest[:12])
        assert torch.equal(network.state_dict()["features.0.weight"], net().state_dict()["features.0.weight"])
        assert origin.identity == digest and origin.name == "w.pth"
        with pytest.raises(ValueError, match=f"sha256 is {digest}, --weights-sha256 says 00"):
            load_weights(path, "vgg16", LAYERS, sha256="00")
        named = self.saved(tmp_path / "vgg16-00000000.pth", net().state_dict())
        with pytest.raises(ValueError, match="its name says 00000000"):
            load_weights(named, "vgg16", LAYERS)

    def test_what_is_no_checkpoint(self, tmp_path: Path) -> None:
        (tmp_path / "text.pth").write_text("not a checkpoint")
        for path in (
            str(tmp_path / "text.pth"),
            self.saved(tmp_path / "list.pth", [1, 2]),
            self.saved(tmp_path / "code.pth", {"a": Path("x")}),
            str(tmp_path / "absent.pth"),
        ):
            with pytest.raises(ValueError, match=f"--weights .*{Path(path).name}"):
                load_weights(path, "vgg16", LAYERS)

    def test_random_is_by_name_only(self) -> None:
        _, origin = load_weights("random", "vgg16", LAYERS, seed=5)
        assert origin.random and origin.identity == "random:5" and "RANDOM" in str(origin)

    def test_url_is_checked_cached_and_given_up(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        import functools
        import threading
        from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        monkeypatch.setattr(weights, "TIMEOUT", 0.5)
        monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *_: None)
        self.saved(tmp_path / "w.pth", net().state_dict())
        handler = functools.partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
        with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            url = f"http://127.0.0.1:{server.server_port}/w.pth"
            with pytest.raises(ValueError, match="--weights-sha256 says 00"):
                load_weights(url, "vgg16", LAYERS, sha256="00")
            assert not (tmp_path / "cache").exists()  # nothing wrong is kept
            _, origin = load_weights(url, "vgg16", LAYERS)
            server.shutdown()
        _, again = load_weights(url, "vgg16", LAYERS)  # the server is gone
        assert origin == again
        with pytest.raises(ValueError, match="cannot be downloaded"):
            load_weights(url + "x", "vgg16", LAYERS)


def test_weights_that_are_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(b"hi")
    with pytest.raises(ValueError, match=r"w\.pth is no file of torch\.save that holds tensors alone$"):
        weights.load_weights(str(tmp_path / "w.pth"), "vgg19", ("relu1_2",))
