"""Layer transfer: copy layers from the source, and train only some of them on the target.

The task of finetune.py. Which layers is two lists of patterns; other choices are
`experiments/which_layers`. Here all layers are copied and the first convolution alone moves: what
suits inputs that look different and mean the same. About 15 s on two cores.

Expected: target accuracy 0.85 to 0.93; RESULTS.md has the interval.
"""

from tljax.experiment import blank


def get_config():
    config = blank()
    config.method = "layer transfer"
    config.family = "fine-tuning"

    # 800 labelled digits, black on white as they are; then five of each class of 400 others.
    digits = dict(data="digits", size=16)
    invert = (dict(name="invert"),)
    config.streams.source = dict(digits, split="train[:800]", batch=64)
    config.streams.target = dict(
        digits, split="train[800:1200]", per_class=5, batch=50, transforms=invert
    )
    # Digits that no stream holds, in both inks.
    config.evaluate.target = dict(digits, split="train[1400:]", transforms=invert)
    config.evaluate.source = dict(digits, split="train[1400:]")
    config.evaluate.source_before = dict(digits, split="train[1400:]", phase="source")

    # Four layers: two convolutions in the trunk, a dense layer and the output in the head.
    config.network.trunk = dict(name="cnn", channels=(16, 32))
    config.network.heads.label = dict(name="mlp", hidden=(64,))

    config.phases = ("source", "target")
    sgd = dict(name="sgd", momentum=0.9, nesterov=True, schedule=dict(name="cosine"))
    config.source = dict(
        flow=("source",),
        terms=dict(label=dict(term="cross_entropy", stream="source")),
        optimizer=dict(sgd, learning_rate=0.05),
        steps=600,
    )
    config.target = dict(
        flow=("target",),
        terms=dict(label=dict(term="cross_entropy", stream="target")),
        # Copied: everything. Head only would be train = (("heads/**", 1.0), ("**", 0.0)); the first
        # n layers copied, the rest new: start = (("trunk/**", "source"), ("**", "fresh")).
        start=(("**", "source"),),
        train=(("trunk/conv_0/**", 1.0), ("**", 0.0)),
        optimizer=dict(sgd, learning_rate=0.05),  # tuned in experiments/few_shot
        steps=400,
    )
    config.evaluate_every = 200
    config.checkpoint_every = 200
    return config
