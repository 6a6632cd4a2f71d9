"""Released weights: networks with the released structure and names, written here from nn's layers, make the same
pictures before and after their state dicts are read."""

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models import bicyclegan, munit, pix2pix, pix2pixhd
from models.bicyclegan import released as bicyclegan_released
from models.common import released
from models.common.seeds import seeded
from models.group import Group
from models.munit import released as munit_released
from models.pix2pix import released as pix2pix_released
from models.pix2pixhd import released as pix2pixhd_released


def drawn(net: nn.Module, seed: int = 0) -> nn.Module:
    generator = seeded("released", seed)
    for p in net.parameters():
        p.data = torch.randn(p.shape, generator=generator) * 0.2
    return net.eval()


def written(net: nn.Module, table: released.Table) -> dict[str, Tensor]:
    """A network's weights under their released names."""
    return {
        f"{table[name.rpartition('.')[0]]}.{name.rpartition('.')[2]}": value for name, value in net.state_dict().items()
    }


def picture(channels: int, side: int = 32, rows: int = 1) -> Tensor:
    return torch.rand(rows, channels, side, side, generator=seeded("picture")) * 2 - 1


def same(found: Tensor, wanted: Tensor) -> None:
    assert float(wanted.detach().std()) > 1e-3
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


class Block(nn.Module):
    """pix2pix's nested block: outside at the left and the right, the next block in the middle."""

    def __init__(self, levels: int, i: int, channels: int, width: int, make: Any, bias: bool, up_first: bool) -> None:
        super().__init__()
        self.outer, self.up_first = i == 0, up_first
        inner = i == levels - 1
        wide, before = width * min(1 << i, 8), channels if i == 0 else width * min(1 << (i - 1), 8)
        down = nn.Conv2d(before, wide, 4, 2, 1, bias=bias)
        up = nn.ConvTranspose2d(wide * (1 if inner else 2), 3 if i == 0 else before, 4, 2, 1, bias=bias or i == 0)
        left = [down] if i == 0 else [nn.LeakyReLU(0.2), down] if inner else [nn.LeakyReLU(0.2), down, make(wide)]
        right = [nn.ReLU(), up, nn.Tanh()] if i == 0 else [nn.ReLU(), up, make(before)]
        middle = [] if inner else [Block(levels, i + 1, channels, width, make, bias, up_first)]
        self.model = nn.Sequential(*left, *middle, *right)

    def forward(self, x: Tensor) -> Tensor:
        y = self.model(x)
        return y if self.outer else torch.cat([y, x] if self.up_first else [x, y], 1)


class Nested(nn.Module):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__()
        self.model = Block(*arguments, **options)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.model(x)
        return out


def batch_norm(width: int) -> nn.Module:
    return nn.BatchNorm2d(width)


def instance_norm(width: int) -> nn.Module:
    return nn.InstanceNorm2d(width)


class Sequence(nn.Module):
    """A released network that is one list called `model` (or `net`)."""

    def __init__(self, layers: list[nn.Module], name: str = "model") -> None:
        super().__init__()
        self.name = name
        setattr(self, name, nn.Sequential(*layers))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = getattr(self, self.name)(x)
        return out


class Residual(nn.Module):
    def __init__(self, width: int, make: Any, bias: bool, dropout: bool) -> None:
        super().__init__()
        drop = [nn.Dropout(0.5)] if dropout else []
        first = [nn.ReflectionPad2d(1), nn.Conv2d(width, width, 3, bias=bias), make(width), nn.ReLU(), *drop]
        self.conv_block = nn.Sequential(
            *first, nn.ReflectionPad2d(1), nn.Conv2d(width, width, 3, bias=bias), make(width)
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.conv_block(x)
        return out


def residual_layers(
    channels: int, outputs: int, width: int, downs: int, blocks: int, make: Any, bias: bool, dropout: bool
) -> list[nn.Module]:
    layers: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(channels, width, 7, bias=bias), make(width), nn.ReLU()]
    for i in range(downs):
        layers += [nn.Conv2d(width << i, width << i + 1, 3, 2, 1, bias=bias), make(width << i + 1), nn.ReLU()]
    layers += [Residual(width << downs, make, bias, dropout) for _ in range(blocks)]
    for i in range(downs, 0, -1):
        up = nn.ConvTranspose2d(width << i, width << i - 1, 3, 2, 1, 1, bias=bias)
        layers += [up, make(width << i - 1), nn.ReLU()]
    return [*layers, nn.ReflectionPad2d(3), nn.Conv2d(width, outputs, 7), nn.Tanh()]


def patch_layers(channels: int, width: int, layers: int, make: Any, bias: bool, padding: int = 1) -> list[nn.Module]:
    found: list[nn.Module] = [nn.Conv2d(channels, width, 4, 2, padding), nn.LeakyReLU(0.2)]
    for i in range(1, layers + 1):
        conv = nn.Conv2d(width << i - 1, width << i, 4, 2 if i < layers else 1, padding, bias=bias)
        found += [conv, make(width << i), nn.LeakyReLU(0.2)]
    return [*found, nn.Conv2d(width << layers, 1, 4, 1, padding)]


@pytest.mark.parametrize("norm", ["batch", "instance"])
@pytest.mark.parametrize("kind", ["unet", "resnet"])
def test_pix2pix(kind: str, norm: str) -> None:
    make, bias = (batch_norm, False) if norm == "batch" else (instance_norm, True)
    recipe = dataclasses.replace(
        pix2pix.PRESETS["tiny"], generator=kind, norm=norm, blocks=2, size=32, levels=5, discriminator_layers=2
    )
    theirs = Nested(5, 0, 3, 4, make, bias, False)
    other = Sequence(residual_layers(3, 3, 4, 2, 2, make, bias, True))
    g = drawn(theirs if kind == "unet" else other)
    d = drawn(Sequence(patch_layers(6, 4, 2, make, bias)), 1)
    own = pix2pix.build(recipe, Group()).eval()
    pix2pix_released.load(own, {"G": g.state_dict(), "D": d.state_dict()})
    same(own.generator(picture(3), live=None), g(picture(3)))
    same(own.discriminator(picture(6))[-1], d(picture(6)))
    wrong = {name: value for name, value in d.state_dict().items() if name != "model.0.bias"}
    with pytest.raises(ValueError, match=r"the released weights lack model\.0\.bias, which is convs\.0\.bias here"):
        pix2pix_released.load(own, {"D": wrong})
    with pytest.raises(ValueError, match=r"1 released weights have no place here, such as model\.99\.weight"):
        pix2pix_released.load(own, {"D": {**d.state_dict(), "model.99.weight": torch.zeros(1)}})
    with pytest.raises(ValueError, match=r"model\.0\.weight is \(1,\), convs\.0\.weight here"):
        pix2pix_released.load(own, {"D": {**d.state_dict(), "model.0.weight": torch.zeros(1)}})


def test_pixel_gan() -> None:
    layers = [nn.Conv2d(6, 4, 1), nn.LeakyReLU(0.2), nn.Conv2d(4, 8, 1, bias=False), nn.BatchNorm2d(8)]
    d = drawn(Sequence([*layers, nn.LeakyReLU(0.2), nn.Conv2d(8, 1, 1, bias=False)], "net"))
    own = pix2pix.build(dataclasses.replace(pix2pix.PRESETS["tiny"], discriminator_layers=0), Group()).eval()
    pix2pix_released.load(own, {"D": d.state_dict()})
    same(own.discriminator(picture(6))[-1], d(picture(6)))


class WithCode(nn.Module):
    """BicycleGAN's nested block, the code joined at each level."""

    def __init__(self, levels: int, i: int, channels: int, width: int, code: int) -> None:
        super().__init__()
        self.i = i
        inner = i == levels - 1
        wide, before = width * min(1 << i, 8), channels if i == 0 else width * min(1 << (i - 1), 8)
        down = nn.Conv2d(before + code, wide, 4, 2, 1)
        up = nn.ConvTranspose2d(wide * (1 if inner else 2), 3 if i == 0 else before, 4, 2, 1)
        norm = [] if i == 0 or inner else [instance_norm(wide)]
        self.down = nn.Sequential(*([nn.LeakyReLU(0.2)] if i else []), down, *norm)
        self.submodule = None if inner else WithCode(levels, i + 1, channels, width, code)
        self.up = nn.Sequential(nn.ReLU(), up, instance_norm(before) if i else nn.Tanh())

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        y = self.down(torch.cat([x, z[:, :, None, None].expand(-1, -1, *x.shape[2:])], 1))
        y = self.up(y if self.submodule is None else self.submodule(y, z))
        return torch.cat([y, x], 1) if self.i else y


class AllLevels(nn.Module):
    def __init__(self, *arguments: Any) -> None:
        super().__init__()
        self.model = WithCode(*arguments)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        out: Tensor = self.model(x, z)
        return out


class ReleasedBlock(nn.Module):
    def __init__(self, a: int, b: int) -> None:
        super().__init__()
        pooled = nn.Sequential(nn.Conv2d(a, b, 3, 1, 1), nn.AvgPool2d(2))
        norms = [instance_norm(a), nn.LeakyReLU(0.2)]
        self.conv = nn.Sequential(*norms, nn.Conv2d(a, a, 3, 1, 1), instance_norm(a), nn.LeakyReLU(0.2), pooled)
        self.shortcut = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(a, b, 1))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x) + self.shortcut(x)
        return out


class ReleasedEncoder(nn.Module):
    def __init__(self, layers: list[nn.Module], width: int, code: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(*layers)
        self.fc, self.fcVar = (nn.Sequential(nn.Linear(width, code)) for _ in range(2))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.conv(x).flatten(1)
        return self.fc(y), self.fcVar(y)


@pytest.mark.parametrize("code_in", ["all", "input"])
def test_bicyclegan(code_in: str) -> None:
    encoder = "resnet" if code_in == "all" else "conv"
    recipe = dataclasses.replace(
        bicyclegan.PRESETS["tiny"], code_in=code_in, encoder=encoder, size=32, encoder_depth=2, discriminator_layers=2
    )
    g = drawn(AllLevels(4, 0, 3, 4, 3) if code_in == "all" else Nested(4, 0, 6, 4, instance_norm, True, True))
    first = nn.Conv2d(3, 4, 4, 2, 1)
    if encoder == "resnet":
        blocks = [ReleasedBlock(4, 8), ReleasedBlock(8, 12)]
        e = drawn(ReleasedEncoder([first, *blocks, nn.LeakyReLU(0.2), nn.AvgPool2d(4)], 12, 3), 1)
    else:
        second = [nn.Conv2d(4, 8, 4, 2, 1), instance_norm(8), nn.LeakyReLU(0.2), nn.AvgPool2d(8)]
        e = drawn(ReleasedEncoder([first, nn.LeakyReLU(0.2), *second], 8, 3), 1)
    d = nn.Module()
    for i, width in enumerate((4, 2)):
        d.add_module(f"model{i}", nn.Sequential(*patch_layers(3, width, 2, instance_norm, True)))
    drawn(d, 2)
    own = bicyclegan.build(recipe, Group()).eval()
    bicyclegan_released.load(own, {"G": g.state_dict(), "E": e.state_dict(), "D": d.state_dict()})
    x, z = picture(3), torch.randn(1, 3, generator=seeded(5))
    joined = torch.cat([x, z[:, :, None, None].expand(-1, -1, 32, 32)], 1)
    same(own.generator(x, z), g(x, z) if code_in == "all" else g(joined))
    for mine, wanted in zip(own.encoder(x), e(x), strict=True):
        same(mine, wanted)
    half = nn.functional.avg_pool2d(x, 3, 2, 1, count_include_pad=False)
    found = own.discriminator(x)
    same(found[0][-1], d.model0(x))
    same(found[1][-1], d.model1(half))


def test_pix2pixhd() -> None:
    recipe = dataclasses.replace(
        pix2pixhd.PRESETS["tiny"], blocks=2, enhancer_blocks=2, downs=2, encoder_downs=2, discriminator_layers=2
    )
    channels = 5 + 1 + 2
    whole = residual_layers(channels, 3, 8, 2, 2, instance_norm, True, False)
    g = nn.Module()
    g.model = nn.Sequential(*whole[:-3])
    front: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(channels, 4, 7), instance_norm(4), nn.ReLU()]
    g.model1_1 = nn.Sequential(*front, nn.Conv2d(4, 8, 3, 2, 1), instance_norm(8), nn.ReLU())
    blocks: list[nn.Module] = [Residual(8, instance_norm, True, False) for _ in range(2)]
    back = [nn.ConvTranspose2d(8, 4, 3, 2, 1, 1), instance_norm(4), nn.ReLU()]
    g.model1_2 = nn.Sequential(*blocks, *back, nn.ReflectionPad2d(3), nn.Conv2d(4, 3, 7), nn.Tanh())
    drawn(g)
    e = drawn(Sequence(residual_layers(3, 2, 4, 2, 0, instance_norm, True, False)), 1)
    d = nn.Module()
    for scale in range(2):
        layers = patch_layers(9, 4, 2, instance_norm, True, 2)
        for j, part in enumerate((layers[:2], layers[2:5], layers[5:8], layers[8:])):
            d.add_module(f"scale{scale}_layer{j}", nn.Sequential(*part))
    drawn(d, 2)
    own = pix2pixhd.build(recipe, Group())
    pix2pixhd_released.load(own, {"G": g.state_dict(), "D": d.state_dict(), "E": e.state_dict()})
    x, y = picture(channels), picture(9)
    half = nn.functional.avg_pool2d(x, 3, 2, 1, count_include_pad=False)
    same(own.generator(x), g.model1_2(g.model1_1(x) + g.model(half)))
    same(own.encoder(picture(3)), e(picture(3)))
    coarse = nn.functional.avg_pool2d(y, 3, 2, 1, count_include_pad=False)
    for place, (scale, seen) in enumerate(((1, y), (0, coarse))):  # scale0 is the coarsest
        for j in range(4):
            seen = getattr(d, f"scale{scale}_layer{j}")(seen)
            same(own.discriminator(y)[place][j], seen)


def test_munit_names_and_shapes() -> None:
    """Every name as the released configuration has them; the shapes tell which is which."""
    recipe = munit.PRESETS["paper"]
    with torch.device("meta"):
        net = munit.training.generator(recipe)
        critic = munit.training.discriminator(recipe)
    table = munit_released.generator(recipe)
    shapes = {
        f"{table[name.rpartition('.')[0]]}.{name.rpartition('.')[2]}": tuple(p.shape)
        for name, p in net.named_parameters()
    }
    assert len(shapes) == len(dict(net.named_parameters()))
    wanted = {
        "enc_style.model.0.conv.weight": (64, 3, 7, 7),
        "enc_style.model.4.conv.weight": (256, 256, 4, 4),
        "enc_style.model.6.weight": (8, 256, 1, 1),
        "enc_content.model.2.conv.bias": (256,),
        "enc_content.model.3.model.3.model.1.conv.weight": (256, 256, 3, 3),
        "dec.model.0.model.0.model.0.conv.weight": (256, 256, 3, 3),
        "dec.model.2.conv.weight": (128, 256, 5, 5),
        "dec.model.4.norm.gamma": (64,),
        "dec.model.5.conv.weight": (3, 64, 7, 7),
        "mlp.model.2.fc.weight": (4096, 256),
    }
    assert wanted.items() <= shapes.items()
    named = munit_released.discriminator(recipe)
    found = {named[name.rpartition(".")[0]] for name, _ in critic.named_parameters()}
    assert found == {f"cnns.{s}.{i}.conv" for s in range(3) for i in range(4)} | {f"cnns.{s}.4" for s in range(3)}


def test_munit_round_trip_leaves_aside_the_dummy_statistics() -> None:
    recipe = munit.PRESETS["tiny"]
    source, own = (munit.build(dataclasses.replace(recipe, seed=seed), Group()) for seed in (1, 2))
    table = munit_released.generator(recipe)
    states = {}
    for domain in "ab":
        states[domain] = written(getattr(source, f"generator_{domain}"), table)
        states[domain]["dec.model.0.model.0.model.0.norm.running_mean"] = torch.zeros(8)
    munit_released.load(own, {"gen": states})
    for domain in "ab":
        a, b = (getattr(family, f"generator_{domain}").state_dict() for family in (source, own))
        assert all(torch.equal(a[name], b[name]) for name in a)


def test_tables_name_each_layer_once() -> None:
    for table in (released.unet(8), released.resnet(4, 9, False), released.resnet(2, 6, True), released.patch(3)):
        assert len(set(table.values())) == len(table)
    assert released.unet(8)["downs.7"] == "model.model.1.model.3.model.3.model.3.model.3.model.3.model.3.model.1"
    assert released.patch(3)["head"] == "model.11" and released.resnet(2, 9, False)["head"] == "model.26"
