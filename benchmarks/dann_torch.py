"""configs/dann.py in plain PyTorch: the peer that tljax is timed against."""

import argparse
import copy
import json
import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tljax.data import sources

LAYOUTS = {"channels last": torch.channels_last, "channels first": torch.contiguous_format}


class Numbers(NamedTuple):
    """What `benchmarks.dann` reads from the config for both sides."""

    seed: int
    steps: int
    batch: int
    channels: tuple[int, ...]  # of convolutions; (): dense layers instead
    dense: tuple[int, ...]
    hidden: int
    size: int
    learning_rate: float
    momentum: float
    weight: float  # of the domain term
    gamma: float  # of λ and of the learning rate, as in the paper
    power: float
    decay: float
    strength: float


class ReverseGradient(torch.autograd.Function):
    """The identity, whose gradient is multiplied by −`scale`."""

    @staticmethod
    def forward(ctx, x: Tensor, scale: float) -> Tensor:
        ctx.scale = scale
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * -ctx.scale, None


class Pixels(nn.Module):
    """Images as rows, in the order they have in memory, which needs no copy."""

    def forward(self, images: Tensor) -> Tensor:
        return images.movedim(1, -1).flatten(1)


class DANN(nn.Module):
    """A trunk of convolutions or dense layers, and a head each for label and domain."""

    def __init__(self, numbers: Numbers):
        super().__init__()
        layers, inputs = [], 3
        for width in numbers.channels:
            layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.MaxPool2d(2), nn.ReLU()]
            inputs = width
        features = inputs * (numbers.size // 2 ** len(numbers.channels)) ** 2
        for i, width in enumerate(numbers.dense):
            layers += [*([] if i else [Pixels()]), nn.Linear(features, width), nn.ReLU()]
            features = width
        self.trunk = nn.Sequential(*layers, nn.Flatten())
        self.label, self.domain = (
            nn.Sequential(
                nn.Linear(features, numbers.hidden), nn.ReLU(), nn.Linear(numbers.hidden, outputs)
            )
            for outputs in (10, 1)
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
                nn.init.zeros_(module.bias)


class Training:
    """A model, its average, and what moves them."""

    def __init__(self, numbers: Numbers, step: int = 0, layout: str = "channels last"):
        self.numbers, self.step, self.layout = numbers, step, LAYOUTS[layout]
        self.model = DANN(numbers).to(memory_format=self.layout)
        self.averaged = copy.deepcopy(self.model)
        self.parameters = list(self.model.parameters())
        self.averages = list(self.averaged.parameters())
        self.optimizer = torch.optim.SGD(
            self.parameters, numbers.learning_rate, momentum=numbers.momentum, fused=True
        )
        self.domains = torch.cat((torch.ones(numbers.batch, 1), torch.zeros(numbers.batch, 1)))
        self.total = torch.zeros(())  # of the losses; read by who wants to know

    def update(self, source: Tensor, labels: Tensor, target: Tensor) -> None:
        """One step on images `[batch, 3, height, width]` in [0, 1]."""
        n, model, progress = self.numbers, self.model, self.step / self.numbers.steps
        rate = n.learning_rate * (1 + n.gamma * progress) ** -n.power
        self.optimizer.param_groups[0]["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        images = torch.cat((source, target)).contiguous(memory_format=self.layout)
        z = model.trunk(images)
        backwards = ReverseGradient.apply(z, math.tanh(0.5 * n.gamma * progress))
        loss = F.cross_entropy(model.label(z[: n.batch]), labels)
        domain = F.binary_cross_entropy_with_logits(model.domain(backwards), self.domains)
        loss = loss + n.weight * domain
        loss.backward()
        self.optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(self.averages, self.parameters, 1 - n.decay)
            self.total += loss
        self.step += 1


class Digits:
    """The digits and photographs of the config, in memory as `[n, height, width, 3]`."""

    def __init__(self, numbers: Numbers):
        from sklearn.datasets import load_sample_images

        self.size, self.batch = numbers.size, numbers.batch
        self.source, self.labels = self.load("train[:600]")
        self.target, _ = self.load("train[600:1200]")
        photographs = torch.stack([torch.tensor(each) for each in load_sample_images().images])
        halves = (numbers.strength * photographs.float() / 255).split(320, dim=2)
        # Every crop there is, as a view: `crops[photograph, top, left]` reads one.
        self.crops, self.held_out = (
            half.contiguous().unfold(1, self.size, 1).unfold(2, self.size, 1).movedim(3, -1)
            for half in halves
        )

    def load(self, split: str) -> tuple[Tensor, Tensor]:
        table = sources.load("digits", split, size=self.size, channels=3)
        return torch.tensor(table.input).float() / 255, torch.tensor(table.label).long()

    def draw(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """(source images, their labels, target images over fresh crops); steps go up from 0."""
        at = step % (len(self.source) // self.batch)
        if at == 0:
            self.orders = [torch.randperm(len(each)) for each in (self.source, self.target)]
        first, second = (order[at * self.batch :][: self.batch] for order in self.orders)
        target = paste(self.target[second], self.crops)
        return self.source[first].movedim(-1, 1), self.labels[first], target


def paste(images: Tensor, crops: Tensor) -> Tensor:
    """`images` over random crops, image + (1 − image) · crop, with channels in front."""
    at = [torch.randint(room, (len(images),)) for room in crops.shape[:3]]
    return torch.lerp(crops[tuple(at)], torch.ones(()), images).movedim(-1, 1)


def main() -> None:
    """Trains and prints the accuracy on the target."""
    parser = argparse.ArgumentParser()
    parser.add_argument("numbers", type=lambda text: Numbers(**json.loads(text)))
    parser.add_argument("threads", type=int)
    parser.add_argument("layout", choices=LAYOUTS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.numbers.seed)
    digits, training = Digits(options.numbers), Training(options.numbers, layout=options.layout)
    for step in range(options.numbers.steps):
        training.update(*digits.draw(step))
    images, labels = digits.load("train[1400:]")
    with torch.inference_mode():
        z = training.averaged.trunk(paste(images, digits.held_out))
        right = training.averaged.label(z).argmax(-1) == labels
    print(json.dumps({"accuracy": float(right.float().mean())}))


if __name__ == "__main__":
    main()
