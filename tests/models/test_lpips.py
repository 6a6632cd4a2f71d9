"""LPIPS against a version in plain functions and loops, and under its name with the official weights only."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from models.common import lpips

NETS = ("alex", "vgg", "squeeze")
BACKBONE_SIZES = {"alex": 2_469_696, "vgg": 14_714_688, "squeeze": 722_496}
"""Parameters of torchvision's `features` (its published totals less the classifiers)."""


def _convolutions(net: str, p: dict[str, Tensor], x: Tensor) -> list[Tensor]:
    """The compared activations, layer by layer as the papers' tables have them."""

    def conv(x: Tensor, i: str, **how: int) -> Tensor:
        return F.conv2d(x, p[f"features.{i}.weight"], p[f"features.{i}.bias"], **how).clamp(min=0)

    def fire(x: Tensor, i: int) -> Tensor:
        s = conv(x, f"{i}.squeeze")
        return torch.cat([conv(s, f"{i}.expand1x1"), conv(s, f"{i}.expand3x3", padding=1)], 1)

    out = []
    if net == "alex":
        out.append(conv(x, "0", stride=4, padding=2))
        out.append(conv(F.max_pool2d(out[-1], 3, 2), "3", padding=2))
        out.append(conv(F.max_pool2d(out[-1], 3, 2), "6", padding=1))
        out.append(conv(out[-1], "8", padding=1))
        out.append(conv(out[-1], "10", padding=1))
    elif net == "vgg":
        for block in ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28)):
            for i in block:
                x = conv(x, str(i), padding=1)
            out.append(x)
            x = F.max_pool2d(x, 2)
    else:
        out.append(conv(x, "0", stride=2))
        x = fire(fire(F.max_pool2d(out[-1], 3, 2, ceil_mode=True), 3), 4)
        out.append(x)
        x = fire(fire(F.max_pool2d(x, 3, 2, ceil_mode=True), 6), 7)
        out.append(x)
        x = F.max_pool2d(x, 3, 2, ceil_mode=True)
        for i in (9, 10, 11, 12):
            x = fire(x, i)
            out.append(x)
    return out


def _naive(net: str, version: str, p: dict[str, Tensor], linear: list[Tensor], x: Tensor, y: Tensor) -> float:
    """One pair, place by place, in float64; the scaling only in version 0.1."""
    p = {k: v.double() for k, v in p.items()}

    def prepare(image: Tensor) -> Tensor:
        image = image.double()
        if version == "0.0":
            return image[None]
        rows = [(image[c] - s) / d for c, (s, d) in enumerate(((-0.030, 0.458), (-0.088, 0.448), (-0.188, 0.450)))]
        return torch.stack(rows)[None]

    total = 0.0
    pairs = zip(_convolutions(net, p, prepare(x)), _convolutions(net, p, prepare(y)), linear, strict=True)
    for a, b, w in pairs:
        height, width = a.shape[2:]
        for i in range(height):
            for j in range(width):
                u, v = a[0, :, i, j], b[0, :, i, j]
                gap = u / (u.norm() + 1e-10) - v / (v.norm() + 1e-10)
                total += float((w.double() * gap * gap).sum()) / (height * width)
    return total


def _made(net: str, seed: int = 0) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Random weights with the files' names and shapes."""
    g = torch.Generator().manual_seed(seed)
    backbone = {}
    for key, tensor in lpips.LPIPS(net, "0.1").features.state_dict(prefix="features.").items():  # type: ignore[arg-type]
        fan_in = max(1, tensor[0].numel())
        backbone[key] = torch.randn(tensor.shape, generator=g) * (2 / fan_in) ** 0.5
    linear = {f"lin{i}.model.1.weight": torch.rand(1, w, 1, 1, generator=g) for i, w in enumerate(lpips.WIDTHS[net])}
    return backbone, linear


def _pair(size: int, seed: int = 1) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    x, y = torch.rand(2, 2, 3, size, size, generator=g) * 2 - 1
    return x, y


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("version", ["0.0", "0.1"])
def test_equals_the_naive_loop(net: str, version: str) -> None:
    backbone, linear = _made(net)
    model = lpips.LPIPS(net, version).take({**backbone, "classifier.1.weight": torch.zeros(3)}, linear)  # type: ignore[arg-type]
    x, y = (v[: 1 if net == "vgg" else 2] for v in _pair(36))  # vgg keeps the full size: many places to loop over
    rows = [w.view(-1) for w in linear.values()]
    expected = [_naive(net, version, backbone, rows, x[i], y[i]) for i in range(len(x))]
    assert model(x, y).tolist() == pytest.approx(expected, rel=1e-4)
    assert model(x, x).tolist() == [0.0] * len(x)
    other = "0.1" if version == "0.0" else "0.0"
    assert _naive(net, other, backbone, rows, x[0], y[0]) != pytest.approx(expected[0], rel=1e-3)


@pytest.mark.parametrize("net", NETS)
def test_backbone_sizes_are_the_published_ones(net: str) -> None:
    model = lpips.LPIPS(net, "0.1")  # type: ignore[arg-type]
    assert sum(p.numel() for p in model.features.parameters()) == BACKBONE_SIZES[net]
    assert not any(p.requires_grad for p in model.parameters())


def test_gradients_reach_the_images() -> None:
    model = lpips.LPIPS("squeeze", "0.1").take(*_made("squeeze"))
    x, y = _pair(32)
    x.requires_grad_(True)
    model(x, y).sum().backward()
    assert x.grad is not None
    assert float(x.grad.abs().sum()) > 0


def _save(folder: Path, net: str) -> tuple[str, str]:
    backbone, linear = _made(net)
    paths = str(folder / "backbone.pth"), str(folder / "linear.pth")
    torch.save(backbone, paths[0])
    torch.save(linear, paths[1])
    return paths


def test_only_the_official_weights_carry_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone, linear = _save(tmp_path, "squeeze")
    model = lpips.open_lpips("squeeze", "0.1", backbone, linear)
    assert model.name.startswith("uncalibrated_squeeze_v0.1_")
    digests = {p: lpips._read(p, "", "")[1] for p in (backbone, linear)}
    with monkeypatch.context() as only:
        only.setitem(lpips.LINEAR, ("0.1", "squeeze"), digests[linear][:16])
        assert lpips.open_lpips("squeeze", "0.1", backbone, linear).name.startswith("uncalibrated"), (
            "the backbone differs"
        )
    monkeypatch.setitem(lpips.BACKBONES, "squeeze", (f"squeezenet1_1-{digests[backbone][:8]}.pth",))
    assert lpips.open_lpips("squeeze", "0.1", backbone, linear).name.startswith("uncalibrated"), "linear layers differ"
    monkeypatch.setitem(lpips.LINEAR, ("0.1", "squeeze"), digests[linear][:16])
    assert lpips.open_lpips("squeeze", "0.1", backbone, linear).name == "lpips_v0.1_squeeze"
    assert lpips.open_lpips("squeeze", "0.0", backbone, linear).name.startswith("uncalibrated"), "another version's"


def test_missing_and_wrong_files_say_where_to_get_them(tmp_path: Path) -> None:
    backbone, linear = _save(tmp_path, "squeeze")
    gone = str(tmp_path / "gone.pth")
    with pytest.raises(
        ValueError, match=r"alexnet-owt-7be5be79.pth: there is no file .*gone.pth; get it from https://down"
    ):
        lpips.open_lpips("alex", "0.1", gone, linear)
    with pytest.raises(
        ValueError, match=r"linear layers v0.0/squeeze.pth: there is no file .*gone.pth; get it from http"
    ):
        lpips.open_lpips("squeeze", "0.0", backbone, gone)
    (tmp_path / "text.pth").write_text("404: not found")
    with pytest.raises(ValueError, match=r"text\.pth is no file of torch\.save"):
        lpips.open_lpips("squeeze", "0.1", str(tmp_path / "text.pth"), linear)
    with pytest.raises(ValueError, match=r"features.0.weight has shape \(64, 3, 3, 3\), wanted \(64, 3, 11, 11\)"):
        lpips.open_lpips("alex", "0.1", backbone, linear)
    with pytest.raises(ValueError, match="linear layers want"):
        lpips.LPIPS("squeeze", "0.1").take(_made("squeeze")[0], _made("alex")[1])
    with pytest.raises(ValueError, match="at least 32 pixels"):
        lpips.LPIPS("alex", "0.1")(torch.zeros(1, 3, 16, 64), torch.zeros(1, 3, 16, 64))


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("version", ["0.0", "0.1"])
def test_the_official_linear_layers_load_and_are_known(real_data: Path, net: str, version: str) -> None:
    path = str(real_data / f"weights/lpips_linear/v{version}/{net}.pth")
    state, digest = lpips._read(path, "", "")
    assert digest.startswith(lpips.LINEAR[version, net])
    model = lpips.LPIPS(net, version).take(_made(net)[0], state)  # type: ignore[arg-type]
    assert torch.equal(model.get_buffer("weight0"), state["lin0.model.1.weight"].view(-1))


def test_a_real_backbone_tells_a_shift_from_another_picture(real_data: Path) -> None:
    backbone = str(real_data / "weights/squeezenet1_1/squeezenet1_1_caffe.pth")
    model = lpips.open_lpips("squeeze", "0.1", backbone, str(real_data / "weights/lpips_linear/v0.1/squeeze.pth"))
    assert model.name.startswith("uncalibrated_squeeze_v0.1_"), "Caffe's weights are not those it was fitted to"
    from skimage import data

    cat = torch.from_numpy(data.chelsea()[60:188, 150:280].copy()).permute(2, 0, 1).float() / 127.5 - 1
    cup = torch.from_numpy(data.coffee()[100:228, 200:328].copy()).permute(2, 0, 1).float() / 127.5 - 1
    here, shifted = cat[None, :, :, :128], cat[None, :, :, 2:]
    assert float(model(here, shifted)) < 0.5 * float(model(here, cup[None]))
