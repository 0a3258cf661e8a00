"""Zero-shot learning of two-digit numbers: 20 of the 100 pairs are never shown.

An image shows two real digits side by side; a class is a pair, its 20 attributes say which digit
stands left and which right. A network learns compatibility with the seen pairs; the factor of
calibrated stacking is chosen on ten pairs held out of a first phase.

Expected: accuracy on unseen pairs above 0.97, harmonic mean 0.93 to 0.98 with and without
calibration, in about 20 s on two cores; RESULTS.md has the intervals.
"""

from tljax.experiment import blank

# Two pairs of every left digit and of every right one, so that each digit is seen elsewhere.
UNSEEN = tuple(sorted(10 * i + (i + shift) % 10 for i in range(10) for shift in (0, 3)))
HELD_OUT = tuple(10 * i + (i + 6) % 10 for i in range(10))
SEEN = tuple(i for i in range(100) if i not in UNSEEN)
FIRST = tuple(i for i in SEEN if i not in HELD_OUT)


def get_config():
    config = blank()
    config.method = "zero-shot: pairs of digits"
    config.family = "zero-shot"

    pairs = dict(data="pairs")
    config.streams.seen = dict(pairs, split="train[:80%]", classes=SEEN, batch=64)
    config.streams.first = dict(pairs, split="train[:80%]", classes=FIRST, batch=64)
    config.tables.digits = dict(data="pair_digits")

    judged = dict(pairs, head="embed", readout="compatibility", table="digits")
    config.evaluate.unseen = dict(
        judged, split="test", classes=UNSEEN, unseen=UNSEEN, among="unseen"
    )
    config.evaluate.generalised = dict(judged, split="test", unseen=UNSEEN, calibrate="validation")
    # Seen pairs alone: what the first phase did not see stands in for the unseen ones.
    config.evaluate.validation = dict(
        judged, split="train[80%:]", classes=SEEN, unseen=HELD_OUT, phase="calibrate"
    )

    config.network.trunk = dict(name="cnn", channels=(16, 32))
    config.network.heads.embed = dict(name="mlp", hidden=(64,), outputs=20)

    config.phases = ("calibrate", "fit")
    config.calibrate = dict(
        flow=("first",),
        terms=dict(compatibility=dict(stream="first", head="embed", table="digits")),
    )
    # All seen pairs, from the start.
    config.fit = dict(
        flow=("seen",),
        start=(("**", "fresh"),),
        terms=dict(compatibility=dict(stream="seen", head="embed", table="digits")),
    )
    config.steps = 600
    config.optimizer = dict(
        name="sgd", learning_rate=0.03, momentum=0.9, schedule=dict(name="cosine")
    )
    return config
