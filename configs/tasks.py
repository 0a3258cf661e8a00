"""What several configs share, once: the data, evaluations, network and optimiser of a task.

Each function fills in a config of `tljax.experiment.blank()`; a config file then changes what is
special of it. Loaded as `tljax.configs.tasks`, wherever a config file is started from.
"""

import os
from collections.abc import Mapping
from typing import Any

from tljax.models.checkpoints import CHECKPOINTS

COLOUR_DIGITS = dict(data="digits", size=16, channels=3)
PHOTOGRAPHS = (dict(name="photographs", strength=0.7),)
GARMENTS = dict(data="idx:/usr/share/datasets/fashion-mnist")
# A view moves and turns a digit at random.
VIEWS = (dict(name="affine", degrees=15.0, scale=0.15, shear=0.15, shift=0.1),)

# Pairs of digits, the class 10 · left + right. Two pairs of every left digit and of every right one
# are unseen, so that each digit is seen elsewhere.
UNSEEN = tuple(sorted(10 * i + (i + shift) % 10 for i in range(10) for shift in (0, 3)))
HELD_OUT = tuple(10 * i + (i + 6) % 10 for i in range(10))
SEEN = tuple(i for i in range(100) if i not in UNSEEN)
FIRST = tuple(i for i in SEEN if i not in HELD_OUT)


def cache() -> str:
    """Where `experiments.pretrained.fetch` puts public weights and photographs."""
    usual = os.path.join(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "tljax")
    return os.path.expanduser(os.environ.get("TLJAX_CACHE", usual))


def weights(name: str) -> str:
    """The origin of a checkpoint of `tljax.models.checkpoints`."""
    return f"weights:{os.path.join(cache(), os.path.basename(CHECKPOINTS[name].member))}"


def pictures(
    config: Any,
    data: str,
    batch: int,
    *,
    stream: str = "target",
    train: str = "train",
    test: str = "test",
    mean: Any = None,
    std: Any = None,
    **fields: Any,
) -> None:
    """Photographs as 224 × 224 pixels: random crops and flips in training, the middle in a test.

    `train` and `test` are splits of the data; "" leaves that out. Without a mean and a deviation of
    the channels they are ImageNet's.
    """
    seen = dict(name="standardise_channels", mean=mean, std=std) if mean else dict(name="imagenet")
    shown = dict(data=data, channels=3, transforms=(seen,), **fields)
    crop = dict(name="random_resized_crop", size=224, flip=0.5)
    middle = dict(name="resize_crop", resize=256, size=224)
    if train:
        config.streams[stream] = dict(**shown, split=train, view=crop, batch=batch)
    if test:
        config.evaluate[stream] = dict(shown, split=test, view=middle, labelled=True)


def cells(config: Any, size: int, labels: int = 100) -> None:
    """Photographs of solar cells, whole or with a defect, as ImageNet's networks see them."""
    config.data_dir = cache()
    elpv = dict(data="folder:elpv", size=size, channels=3)
    seen = (dict(name="imagenet"),)
    config.network.trunk = dict(name="mobilenet_v2")
    config.network.heads.label = dict(name="linear")
    flips = (dict(name="flip"), *seen)
    config.streams.target = dict(**elpv, per_class=labels, transforms=flips, batch=20)
    config.evaluate.test = dict(**elpv, split="test", transforms=seen)
    config.figures = False


def sgd(learning_rate: float, schedule: str = "cosine") -> dict[str, Any]:
    """SGD with momentum. "inverse" is the schedule of Ganin & Lempitsky 2015, section 4."""
    numbers = dict(gamma=10.0, power=0.75) if schedule == "inverse" else {}
    return dict(
        name="sgd",
        learning_rate=learning_rate,
        momentum=0.9,
        schedule=dict(name=schedule, **numbers),
    )


def adam(learning_rate: float) -> dict[str, Any]:
    """Adam with a cosine schedule."""
    return dict(name="adam", learning_rate=learning_rate, schedule=dict(name="cosine"))


def adamw(learning_rate: float) -> dict[str, Any]:
    """As transformers are fine-tuned: AdamW with a warm-up, a cosine schedule and clipping."""
    return dict(adam(learning_rate), name="adamw", warmup=0.1, clip=1.0)


def texts(config: Any, reads: Mapping[str, Any], batch: int, tests: Mapping[str, str]) -> None:
    """A stream, a test and a head on the pooled tokens for each task of text.

    Args:
      config: filled in.
      reads: task -> its data and length.
      batch: of each stream.
      tests: task -> the split that judges it, where that is not `test`.
    """
    config.network.heads = {}
    for name, read in reads.items():
        config.streams[name] = dict(read, batch=batch)
        config.evaluate[name] = dict(read, split=tests.get(name, "test"), head=name)
        config.network.heads[name] = dict(name="linear")
        config.terms[name] = dict(term="cross_entropy", stream=name, head=name)


def spans(config: Any, name: str) -> None:
    """Makes a task of `texts` one of spans: a head on each token."""
    config.evaluate[name].update(layer="tokens", readout="span")
    config.terms[name].term = "span"


def mels(config: Any, rate: int, **fields: Any) -> None:
    """Log-mels of 25 ms every 10 ms as the stem `mel`, and four convolutions over frames."""
    window = rate // 40
    size = dict(window=window, hop=rate // 100, n_fft=1 << (window - 1).bit_length(), mels=40)
    config.network.stems.mel = dict(name="log_mel", rate=rate, **size, **fields)
    config.network.trunk = dict(name="cnn1d", channels=(64, 64, 64, 64), strides=(1, 2, 2, 1))


def network(config: Any) -> None:
    """Two convolutions, and a head of one hidden layer."""
    config.network.trunk = dict(name="cnn", channels=(16, 32))
    config.network.heads.label = dict(name="mlp", hidden=(128,))


def supervised(config: Any, learning_rate: float) -> None:
    """`network` under cross entropy on the source, by SGD with the inverse schedule."""
    network(config)
    config.terms.label = dict(term="cross_entropy", weight=1.0, stream="source", smoothing=0.0)
    config.optimizer = sgd(learning_rate, "inverse")


def adversarial(config: Any, terms: Any = None) -> None:
    """DANN's discriminator, and its term among `terms`, the config's own if left out.

    The gradient that reaches the trunk is reversed by scale · ramp(progress, gamma): the paper's λ
    and γ = 10.
    """
    config.network.heads.domain = dict(name="mlp", hidden=(128,), outputs=1)
    terms = config.terms if terms is None else terms
    terms.domain = dict(term="domain_adversarial", weight=1.0, scale=1.0, gamma=10.0)


def photographs(config: Any) -> None:
    """The streams and evaluations of digits to digits over photographs."""
    # 600 labelled digits, and 600 others without labels over fresh crops of photographs.
    config.streams.source = dict(COLOUR_DIGITS, split="train[:600]", batch=64)
    target = dict(COLOUR_DIGITS, split="train[600:1200]", transforms=PHOTOGRAPHS)
    config.streams.target = dict(target, labelled=False, batch=64)
    # Digits that no stream holds, over the halves of the photographs that training never shows.
    config.evaluate.target = dict(COLOUR_DIGITS, split="train[1400:]", transforms=PHOTOGRAPHS)
    config.evaluate.source = dict(COLOUR_DIGITS, split="train[1400:]")


def digits_shift(config: Any, steps: int = 800, average: float = 0.994) -> None:
    """`photographs`, learnt from the source's labels alone.

    Args:
      config: filled in.
      steps: 800 are 85 epochs of the source, the budget of experiments/adaptation.
      average: what is judged is the mean over about a fifth of the run: 0.994 is 170 steps.
    """
    photographs(config)
    supervised(config, learning_rate=0.02)  # the rate is tuned in experiments/domain_shift
    config.update(steps=steps, average=average)


def inverted_digits(config: Any, learning_rate: float) -> None:
    """Grey digits, then digits in inverted ink with five labels a class; everything moves.

    Args:
      config: filled in, with the phases `source` and `target`.
      learning_rate: of the phase `target`; tuned in experiments/few_shot.
    """
    # 800 labelled digits, white ink on black; then five of each class of 400 others in the other
    # ink. With pixels from -1 to 1 that is a change of sign. A batch is all 50 labels.
    digits = dict(data="digits", size=16)
    grey = (dict(name="standardise", mean=0.5, std=0.5),)
    inverted = (dict(name="invert"), *grey)
    config.streams.source = dict(digits, split="train[:800]", transforms=grey, batch=64)
    config.streams.target = dict(
        digits, split="train[800:1200]", per_class=5, transforms=inverted, batch=50
    )
    # Digits that no stream holds, in both inks.
    test = dict(digits, split="train[1400:]")
    config.evaluate.target = dict(test, transforms=inverted)
    config.evaluate.source = dict(test, transforms=grey)
    config.evaluate.source_before = dict(test, transforms=grey, phase="source")

    # Four layers: two convolutions in the trunk, a dense layer and the output in the head.
    config.network.trunk = dict(name="cnn", channels=(16, 32))
    config.network.heads.label = dict(name="mlp", hidden=(256,))

    config.phases = ("source", "target")
    config.source = dict(
        flow=("source",),
        terms=dict(label=dict(term="cross_entropy", stream="source")),
        optimizer=dict(sgd(0.05), nesterov=True),
        steps=600,
    )
    config.target = dict(
        flow=("target",),
        terms=dict(label=dict(term="cross_entropy", stream="target")),
        # The source model is sure and wrong of the other ink: unclipped, the first gradients throw
        # it far from where it was, and units die.
        optimizer=dict(sgd(learning_rate), nesterov=True, clip=1.0),
        steps=400,
    )
    config.update(evaluate_every=200, checkpoint_every=200)


def few_and_many(config: Any, few: dict[str, Any], many: dict[str, Any]) -> None:
    """Multitask: two labels a class of the digits `few`, with 800 other digits `many`.

    Args:
      config: filled in.
      few, many: fields of their streams.
    """
    config.streams.target = dict(few, split="train[800:1200]", per_class=2, batch=20)
    config.streams.source = dict(many, split="train[:800]", batch=64)
    config.evaluate.target = dict(few, split="train[1400:]")
    # Tasks share all but their last layer: 20 labels alone would not train a layer of their own.
    config.network.trunk = dict(name="mlp", features=(128, 64))
    config.network.heads.label = dict(name="linear")
    config.terms.label = dict(term="cross_entropy", weight=1.0, stream="target")
    config.steps = 1000


def pairs(
    config: Any, readout: dict[str, Any], name: str, term: dict[str, Any], learning_rate: float
) -> None:
    """Two-digit numbers, 20 of the 100 never shown; calibrated stacking's factor is chosen first.

    Args:
      config: filled in, with the phases `calibrate` and `fit`.
      readout: fields of every evaluation.
      name, term: the term of both phases, but for its stream.
      learning_rate: of both phases.
    """
    config.streams.seen = dict(data="pairs", split="train[:80%]", classes=SEEN, batch=64)
    config.streams.first = dict(data="pairs", split="train[:80%]", classes=FIRST, batch=64)
    config.tables.digits = dict(data="pair_digits")

    judged = dict(readout, data="pairs", table="digits")
    config.evaluate.unseen = dict(
        judged, split="test", classes=UNSEEN, unseen=UNSEEN, among="unseen"
    )
    config.evaluate.generalised = dict(judged, split="test", unseen=UNSEEN, calibrate="validation")
    # Seen pairs alone: what the first phase did not see stands in for the unseen ones.
    config.evaluate.validation = dict(
        judged, split="train[80%:]", classes=SEEN, unseen=HELD_OUT, phase="calibrate"
    )
    config.network.trunk = dict(name="cnn", channels=(16, 32))

    config.phases = ("calibrate", "fit")
    config.calibrate = dict(flow=("first",), terms={name: dict(term, stream="first")})
    # All seen pairs, from the start.
    start = (("**", "fresh"),)
    config.fit = dict(flow=("seen",), start=start, terms={name: dict(term, stream="seen")})
    config.steps = 600
    config.optimizer = sgd(learning_rate)


def self_taught(config: Any, penalty: float) -> None:
    """1,000 unlabelled digits, then a softmax regression on frozen features of ten labelled ones.

    Args:
      config: filled in, with the phase `read` and without `represent`, which comes before it.
      penalty: of the softmax regression.
    """
    # The digits as they come, 8×8: enlarged ones cost four times as much and serve no better.
    digits = dict(data="digits", size=8)
    config.streams.source = dict(digits, split="train[:1000]", labelled=False, batch=128)
    # train[1200:1400] is left for choosing settings.
    config.streams.target = dict(digits, split="train[1000:1200]", per_class=1, batch=10)
    config.evaluate.target = dict(digits, split="train[1400:]")
    config.network.heads.label = dict(name="linear")

    config.phases = ("represent", "read")
    # Nothing is trained: a closed fit on frozen features. Instead of `prepare`, terms and steps
    # with train=(("trunk/**", 0.1), ("**", 1.0)) would fine-tune.
    softmax = dict(stream="target", head="label", penalty=penalty)
    config.read = dict(flow=("target",), terms={}, steps=0, prepare=dict(softmax=softmax))


def simclr(config: Any, stream: str, temperature: float, steps: int) -> None:
    """The phase `represent` of SimCLR: `stream` twice in every step, each time another view."""
    config.streams[stream].transforms = VIEWS
    config.streams.view = dict(of=stream, transforms=VIEWS)
    config.network.trunk = dict(name="cnn", channels=(32, 64))
    config.network.heads.projection = dict(name="mlp", hidden=(128,), outputs=64)
    agree = dict(term="nt_xent", first=stream, second="view", temperature=temperature)
    config.represent = dict(
        flow=(stream, "view"), terms=dict(agree=agree), optimizer=adam(1e-3), steps=steps
    )


def clusters(config: Any, batch: int) -> None:
    """897 digits to cluster, after SimCLR on them and 900 others; no label of either is read.

    Args:
      config: filled in, with the phase `represent`.
      batch: of the stream `target`.
    """
    # The digits as they come, 8×8: enlarged ones cost four times as much and cluster no better.
    digits = dict(data="digits", size=8)
    config.streams.both = dict(digits, labelled=False, split="train", batch=128)
    config.streams.target = dict(digits, labelled=False, split="train[900:]", batch=batch)
    config.evaluate.target = dict(digits, split="train[900:]", head="cluster", readout="clusters")
    simclr(config, "both", temperature=0.5, steps=600)
