"""Small networks of kinds that the shared models are not: depthwise blocks, fire modules, attention, and audio.

Shapes: images are (n, 3, 32, 32), spectrograms (n, 1, 49, 10); each returns (n, 10) logits.
"""

from __future__ import annotations

from torch import Tensor, cat, nn


def convolution(
    inputs: int, outputs: int, size: int = 3, stride: int = 1, groups: int = 1, padding: int | None = None
) -> nn.Module:
    """Convolution, batch normalisation, ReLU6."""
    padding = size // 2 if padding is None else padding
    layer = nn.Conv2d(inputs, outputs, size, stride, padding, groups=groups, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.ReLU6())


class InvertedResidual(nn.Module):
    """MobileNetV2's block: widen, depthwise, narrow without an activation."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = inputs * expansion
        narrow = nn.Sequential(nn.Conv2d(width, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
        self.body = nn.Sequential(convolution(inputs, width, 1), convolution(width, width, 3, stride, width), narrow)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.residual else self.body(x)


def mobilenet() -> nn.Module:
    """MobileNetV2 for 32 x 32, 10 blocks."""
    layers, inputs = [convolution(3, 16, stride=2)], 16
    for outputs, stride, expansion, count in ((16, 1, 1, 1), (24, 1, 4, 2), (40, 2, 4, 3), (64, 2, 4, 3), (96, 1, 4, 1)):
        for number in range(count):
            layers.append(InvertedResidual(inputs, outputs, stride if number == 0 else 1, expansion))
            inputs = outputs
    head = [convolution(inputs, 256, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(256, 10)]
    return nn.Sequential(*layers, *head)


class Fire(nn.Module):
    """SqueezeNet's module: a squeeze, two expansions side by side, joined. No batch normalisation, biases throughout."""

    def __init__(self, inputs: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = nn.Sequential(nn.Conv2d(inputs, squeezed, 1), nn.ReLU())
        self.one = nn.Sequential(nn.Conv2d(squeezed, expanded, 1), nn.ReLU())
        self.three = nn.Sequential(nn.Conv2d(squeezed, expanded, 3, padding=1), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        squeezed = self.squeeze(x)
        return cat([self.one(squeezed), self.three(squeezed)], 1)


def squeezenet() -> nn.Module:
    """SqueezeNet 1.1 for 32 x 32, six fire modules; its classifier is a convolution."""
    body = [nn.Conv2d(3, 48, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), Fire(48, 16, 32), Fire(64, 16, 32), nn.MaxPool2d(2)]
    body += [Fire(64, 24, 64), Fire(128, 24, 64), nn.MaxPool2d(2), Fire(128, 32, 96), Fire(192, 32, 96)]
    network = nn.Sequential(*body, nn.Conv2d(192, 10, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    for layer in (one for one in network.modules() if isinstance(one, nn.Conv2d)):  # no normalisation makes up for PyTorch's
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        nn.init.zeros_(layer.bias)
    return network


class Attention(nn.Module):
    """Multi-head self-attention with one projection for queries, keys and values. (n, tokens, width) both ways."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.joint, self.out = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        tokens, width = x.shape[1:]
        parts = self.joint(x).reshape(-1, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        weights = (parts[0] @ parts[1].transpose(-2, -1) * (width // self.heads) ** -0.5).softmax(-1)
        return self.out((weights @ parts[2]).transpose(1, 2).reshape(-1, tokens, width))


class Block(nn.Module):
    """A transformer's block, normalised before."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.before, self.attention, self.between = nn.LayerNorm(width), Attention(width, heads), nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.before(x))
        return x + self.mlp(self.between(x))


class ConvTransformer(nn.Module):
    """Two convolutions to 8 x 8 tokens (which a plain ViT needs far more data to do without), four blocks, mean of the tokens."""

    def __init__(self, width: int = 96, heads: int = 4, depth: int = 4) -> None:
        super().__init__()
        self.stem = nn.Sequential(convolution(3, 48, stride=2), convolution(48, width, stride=2))
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.stem(x).flatten(2).transpose(1, 2)
        return self.head(self.norm(self.blocks(tokens)).mean(1))


def audio() -> nn.Module:
    """DS-CNN (small) of "Hello Edge" for 49 frames of 10 coefficients."""
    layers = [convolution(1, 64, 5, 2)]
    for _ in range(4):
        layers += [convolution(64, 64, 3, 1, 64), convolution(64, 64, 1)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
