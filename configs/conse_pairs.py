"""ConSE (Norouzi et al. 2014): zero-shot from any classifier of seen classes, without training.

The pairs of zero_shot_pairs.py. The first phase is an ordinary classifier of the seen pairs; what
it says of an unseen pair is a mixture of seen ones, whose embeddings are averaged.

Expected: accuracy on unseen pairs above 0.9 with the ten best seen classes, in about 40 s on two
cores; RESULTS.md has the intervals.
"""

from tljax.experiment import blank

UNSEEN = tuple(sorted(10 * i + (i + shift) % 10 for i in range(10) for shift in (0, 3)))
SEEN = tuple(i for i in range(100) if i not in UNSEEN)


def get_config():
    config = blank()
    config.method = "ConSE"
    config.family = "zero-shot"

    pairs = dict(data="pairs")
    config.streams.seen = dict(pairs, split="train", classes=SEEN, batch=64)
    config.tables.digits = dict(data="pair_digits")
    judged = dict(pairs, split="test", head="label", unseen=UNSEEN)
    conse = dict(judged, readout="conse", table="digits", top=10)
    config.evaluate.unseen = dict(conse, classes=UNSEEN, among="unseen")
    config.evaluate.generalised = dict(conse)
    config.evaluate.seen = dict(pairs, split="test", head="label", classes=SEEN)

    config.network.trunk = dict(name="cnn", channels=(16, 32))
    config.network.heads.label = dict(name="mlp", hidden=(128,))

    config.terms.label = dict(term="cross_entropy", stream="seen", smoothing=0.0)
    config.steps = 1500
    config.optimizer = dict(
        name="sgd", learning_rate=0.05, momentum=0.9, schedule=dict(name="cosine")
    )
    return config
