"""pix2pix's step as one would write it at first: standard layers, `backward()`, Adam as it comes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


class Down(nn.Sequential):
    def __init__(self, inputs: int, outputs: int, norm: bool, first: bool = False) -> None:
        layers: list[nn.Module] = [] if first else [nn.LeakyReLU(0.2)]
        layers.append(nn.Conv2d(inputs, outputs, 4, 2, 1, bias=False))
        super().__init__(*layers, *([nn.BatchNorm2d(outputs)] if norm else []))


class Up(nn.Sequential):
    def __init__(self, inputs: int, outputs: int, dropout: bool) -> None:
        layers = [nn.ReLU(), nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=False), nn.BatchNorm2d(outputs)]
        super().__init__(*layers, *([nn.Dropout(0.5)] if dropout else []))


class Generator(nn.Module):
    """The U-Net of 8 levels: 54,413,955 weights."""

    def __init__(self) -> None:
        super().__init__()
        widths = [64, 128, 256, 512, 512, 512, 512, 512]
        self.downs = nn.ModuleList([Down(3, 64, norm=False, first=True)])
        for i in range(1, 8):
            self.downs.append(Down(widths[i - 1], widths[i], norm=i < 7))
        self.ups = nn.ModuleList([Up(512, 512, True)])
        for i in range(1, 7):
            self.ups.append(Up(2 * widths[7 - i], widths[6 - i], i < 3))
        self.last = nn.Sequential(nn.ReLU(), nn.ConvTranspose2d(128, 3, 4, 2, 1), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for down in self.downs:
            x = down(x)
            skips.append(x)
        skips.pop()
        for up in self.ups:
            x = torch.cat([skips.pop(), up(x)], 1)
        out: Tensor = self.last(x)
        return out


def discriminator() -> nn.Module:
    """The PatchGAN of 70 pixels: 2,768,705 weights."""
    layers: list[nn.Module] = [nn.Conv2d(6, 64, 4, 2, 1), nn.LeakyReLU(0.2)]
    for inputs, outputs, stride in ((64, 128, 2), (128, 256, 2), (256, 512, 1)):
        layers += [nn.Conv2d(inputs, outputs, 4, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Conv2d(512, 1, 4, 1, 1))


def stepper(x: Tensor, y: Tensor) -> Callable[[], None]:
    """A step of D and one of G on the pair `B 3 256 256`, in [-1, 1]."""
    with torch.random.fork_rng():
        net, critic = Generator(), discriminator()
        for layer in [*net.modules(), *critic.modules()]:
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.normal_(layer.weight, 0.0, 0.02)
    g_adam = torch.optim.Adam(net.parameters(), 2e-4, (0.5, 0.999))
    d_adam = torch.optim.Adam(critic.parameters(), 2e-4, (0.5, 0.999))
    cross_entropy = nn.BCEWithLogitsLoss()

    def judged(picture: Tensor, real: bool) -> Tensor:
        logits = critic(torch.cat([x, picture], 1))
        found: Tensor = cross_entropy(logits, torch.full_like(logits, float(real)))
        return found

    def step() -> None:
        fake = net(x)
        critic.requires_grad_(True)
        d_adam.zero_grad()
        ((judged(fake.detach(), False) + judged(y, True)) * 0.5).backward()  # type: ignore[no-untyped-call]
        d_adam.step()
        critic.requires_grad_(False)
        g_adam.zero_grad()
        (judged(fake, True) + 100 * (fake - y).abs().mean()).backward()
        g_adam.step()

    return step
