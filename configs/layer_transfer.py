"""Layer transfer: copy layers from the source, and train only some of them on the target.

The task of finetune.py. Which layers is two lists of patterns; other choices are
`experiments/which_layers`. Here all layers are copied and the first convolution alone moves: what
suits inputs that look different and mean the same. About 15 s on two cores.

Expected: target accuracy 0.90 to 0.98, source accuracy afterwards near zero; RESULTS.md has the
intervals.
"""

from tljax.experiment import blank


def get_config():
    config = blank()
    config.method = "layer transfer"
    config.family = "fine-tuning"

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
        # The source model is sure and wrong of the other ink: unclipped, the first gradients throw
        # it far from where it was, and units die. The rate is tuned in experiments/few_shot.
        optimizer=dict(sgd, learning_rate=0.5, clip=1.0),
        steps=400,
    )
    config.evaluate_every = 200
    config.checkpoint_every = 200
    return config
