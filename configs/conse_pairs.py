"""ConSE (Norouzi et al. 2014): zero-shot from any classifier of seen classes, without training.

The pairs of zero_shot_pairs.py. The classifier is an ordinary one of the seen pairs; what it says
of an unseen pair is a mixture of seen ones, whose embeddings are averaged. The factor of calibrated
stacking is chosen on ten pairs held out of a first phase.

Expected: accuracy on unseen pairs above 0.9 with the ten best seen classes, in about 20 s on two
cores; among all pairs hardly any is called unseen before calibration. RESULTS.md has the intervals.
"""

from tljax.experiment import blank

# Two pairs of every left digit and of every right one, so that each digit is seen elsewhere.
UNSEEN = tuple(sorted(10 * i + (i + shift) % 10 for i in range(10) for shift in (0, 3)))
HELD_OUT = tuple(10 * i + (i + 6) % 10 for i in range(10))
SEEN = tuple(i for i in range(100) if i not in UNSEEN)
FIRST = tuple(i for i in SEEN if i not in HELD_OUT)


def get_config():
    config = blank()
    config.method = "ConSE"
    config.family = "zero-shot"

    pairs = dict(data="pairs")
    config.streams.seen = dict(pairs, split="train[:80%]", classes=SEEN, batch=64)
    config.streams.first = dict(pairs, split="train[:80%]", classes=FIRST, batch=64)
    config.tables.digits = dict(data="pair_digits")

    # `top`: how many of the seen classes are averaged.
    conse = dict(pairs, head="label", readout="conse", table="digits", top=10)
    config.evaluate.unseen = dict(
        conse, split="test", classes=UNSEEN, unseen=UNSEEN, among="unseen"
    )
    config.evaluate.generalised = dict(conse, split="test", unseen=UNSEEN, calibrate="validation")
    # Seen pairs alone: what the first phase did not see stands in for the unseen ones.
    config.evaluate.validation = dict(
        conse, split="train[80%:]", classes=SEEN, unseen=HELD_OUT, phase="calibrate"
    )

    config.network.trunk = dict(name="cnn", channels=(16, 32))
    config.network.heads.label = dict(name="mlp", hidden=(64,))

    config.phases = ("calibrate", "fit")
    config.calibrate = dict(
        flow=("first",), terms=dict(label=dict(term="cross_entropy", stream="first"))
    )
    # All seen pairs, from the start.
    config.fit = dict(
        flow=("seen",),
        start=(("**", "fresh"),),
        terms=dict(label=dict(term="cross_entropy", stream="seen")),
    )
    config.steps = 600
    config.optimizer = dict(
        name="sgd", learning_rate=0.1, momentum=0.9, schedule=dict(name="cosine")
    )
    return config
