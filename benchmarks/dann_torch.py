"""configs/dann.py in plain PyTorch: the peer that `benchmarks.dann` times tljax against.

`python -m benchmarks.dann_torch` trains all 2,500 steps and prints the accuracy on the target.
"""

import argparse
import copy
import json
import math
import os

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tljax.data import sources

STEPS, BATCH, SIZE = 2500, 64, 16
LEARNING_RATE, MOMENTUM, GAMMA, POWER, DECAY, STRENGTH = 0.03, 0.9, 10.0, 0.75, 0.998, 0.7


class ReverseGradient(torch.autograd.Function):
    """The identity, whose gradient is multiplied by −`scale`."""

    @staticmethod
    def forward(ctx, x: Tensor, scale: float) -> Tensor:
        ctx.scale = scale
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * -ctx.scale, None


class DANN(nn.Module):
    """A trunk of two convolutions, and a head each for label and domain."""

    def __init__(self, channels=(16, 32), hidden: int = 128, size: int = SIZE, classes: int = 10):
        super().__init__()
        layers, inputs = [], 3
        for width in channels:
            layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.MaxPool2d(2), nn.ReLU()]
            inputs = width
        self.trunk = nn.Sequential(*layers, nn.Flatten())
        features = channels[-1] * (size // 2 ** len(channels)) ** 2
        self.label, self.domain = (
            nn.Sequential(nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, outputs))
            for outputs in (classes, 1)
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
                nn.init.zeros_(module.bias)


def ramp(progress: float) -> float:
    """λ of the paper: 2 / (1 + exp(−γ·p)) − 1."""
    return math.tanh(0.5 * GAMMA * progress)


class Training:
    """A model and all that moves with it, a batch at a time."""

    def __init__(self, model: DANN, steps: int = STEPS, batch: int = BATCH):
        self.model = model.to(memory_format=torch.channels_last)
        self.steps, self.step = steps, 0
        self.parameters = list(model.parameters())
        self.averaged = copy.deepcopy(model)
        self.averages = list(self.averaged.parameters())
        self.optimizer = torch.optim.SGD(
            self.parameters, LEARNING_RATE, momentum=MOMENTUM, fused=True
        )
        self.domains = torch.cat((torch.ones(batch, 1), torch.zeros(batch, 1)))
        self.total = torch.zeros(())  # of the losses, to be read when somebody wants to know

    def loss(self, source: Tensor, labels: Tensor, target: Tensor, scale: float) -> Tensor:
        """Cross-entropy on the source plus that of the discriminator behind the reversal."""
        z = self.model.trunk(torch.cat((source, target)))
        label = F.cross_entropy(self.model.label(z[: len(source)]), labels)
        domain = self.model.domain(ReverseGradient.apply(z, scale))
        return label + F.binary_cross_entropy_with_logits(domain, self.domains)

    def update(self, source: Tensor, labels: Tensor, target: Tensor) -> None:
        """One step on images `[batch, 3, height, width]` in [0, 1]."""
        progress = self.step / self.steps
        self.optimizer.param_groups[0]["lr"] = LEARNING_RATE * (1 + GAMMA * progress) ** -POWER
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss(source, labels, target, ramp(progress))
        loss.backward()
        self.optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(self.averages, self.parameters, 1 - DECAY)
            self.total += loss.detach()
        self.step += 1


class Digits:
    """The digits and photographs of configs/dann.py, in memory as `[n, height, width, 3]`."""

    def __init__(self):
        from sklearn.datasets import load_sample_images

        self.source, self.labels = _load("train[:600]")
        self.target, _ = _load("train[600:1200]")
        photographs = torch.stack([torch.tensor(each) for each in load_sample_images().images])
        halves = (STRENGTH * photographs.float() / 255).split(320, dim=2)
        # Every crop there is, as a view: `crops[photograph, top, left]` reads one.
        self.crops, self.held_out = (
            half.contiguous().unfold(1, SIZE, 1).unfold(2, SIZE, 1).permute(0, 1, 2, 4, 5, 3)
            for half in halves
        )

    def batch(self, step: int, size: int = BATCH) -> tuple[Tensor, Tensor, Tensor]:
        """(source images, their labels, target images over fresh crops); steps go up from 0."""
        at = step % (len(self.source) // size)
        if at == 0:
            self.orders = [torch.randperm(len(each)) for each in (self.source, self.target)]
        first, second = (order[at * size : (at + 1) * size] for order in self.orders)
        target = paste(self.target[second], self.crops)
        # Stored height, width, channels, these are "channels last", the faster layout on a CPU.
        return self.source[first].movedim(-1, 1), self.labels[first], target.movedim(-1, 1)


def paste(images: Tensor, crops: Tensor) -> Tensor:
    """`images` over random crops: image + (1 − image) · crop."""
    at = [torch.randint(room, (len(images),)) for room in crops.shape[:3]]
    return torch.lerp(crops[tuple(at)], torch.ones(()), images)


def _load(split: str) -> tuple[Tensor, Tensor]:
    table = sources.load("digits", split, size=SIZE, channels=3)
    return torch.tensor(table.images).float() / 255, torch.tensor(table.labels).long()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    digits, training = Digits(), Training(DANN(), options.steps)
    for step in range(options.steps):
        training.update(*digits.batch(step))
    images, labels = _load("train[1400:]")
    with torch.inference_mode():
        pasted = paste(images, digits.held_out).movedim(-1, 1)
        model = training.averaged
        accuracy = (model.label(model.trunk(pasted)).argmax(-1) == labels).float().mean()
    print(json.dumps({"accuracy": float(accuracy)}))


if __name__ == "__main__":
    main()
