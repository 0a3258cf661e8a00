"""Fine-tuning: digits, then digits in inverted ink with five labels a class.

Expected: target accuracy 0.80 to 0.92, source accuracy afterwards near zero, in about 15 s on two
cores; RESULTS.md has the intervals, of this and of what keeps the source.
"""

from tljax.experiment import blank


def get_config():
    config = blank()
    config.method = "fine-tuning"
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
        optimizer=dict(sgd, learning_rate=0.01),  # tuned in experiments/few_shot
        steps=400,
    )
    config.evaluate_every = 200
    config.checkpoint_every = 200
    return config
