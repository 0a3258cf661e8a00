"""ConSE (Norouzi et al. 2014): zero-shot from any classifier of seen classes, without training.

    tljax --config conse_pairs --workdir runs/conse_pairs

The pairs of zero_shot_pairs.py. The classifier is an ordinary one of the seen pairs; what it says
of an unseen pair is a mixture of seen ones, whose embeddings are averaged. The factor of calibrated
stacking is chosen on ten pairs held out of a first phase. About 20 s on two cores.
Expected: accuracy on unseen pairs above 0.9 with the ten best seen classes; among all pairs hardly
any is called unseen before calibration. RESULTS.md has the intervals.
"""

from tljax.configs import tasks
from tljax.experiment import blank


def get_config():
    config = blank()
    config.method = "ConSE"
    config.family = "zero-shot"
    # `top`: how many of the seen classes are averaged.
    readout = dict(head="label", readout="conse", top=10)
    tasks.pairs(config, readout, "label", dict(term="cross_entropy"), learning_rate=0.1)
    config.network.heads.label = dict(name="mlp", hidden=(64,))
    return config
