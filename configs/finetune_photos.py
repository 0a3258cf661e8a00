"""Fine-tuning real photographs from public weights: defects of solar cells, from MobileNetV2.

    python -m experiments.pretrained.fetch mobilenet_v2 elpv
    tljax --config finetune_photos --workdir runs/finetune_photos

The 2,624 electroluminescence photographs of ELPV, 100 labels a class, 128 pixels. Batch statistics
stay ImageNet's, the rate is low and the gradient clipped: at 0.005 without clipping it diverges.
The head alone, on features that are computed once: train = (("heads/**", 1.0), ("**", 0.0)) and no
flips. About 5 minutes on two cores.
Expected: balanced accuracy (`per_class_accuracy`) 0.74 to 0.82 on 1,050 other photographs, and 0.93
to 1.00 on the 200 that it has seen.
"""

from tljax.configs import tasks
from tljax.experiment import blank


def get_config():
    config = blank()
    config.method = "fine-tuning of public weights"
    config.family = "fine-tuning"
    tasks.cells(config, size=128)
    config.start = (("heads/**", "fresh"), ("**", tasks.weights("mobilenet_v2")))
    config.train = (("heads/**", 4.0), ("**", 1.0))
    config.freeze_statistics = True
    config.terms.label = dict(term="cross_entropy", stream="target")
    config.optimizer = {**tasks.sgd(0.002), "clip": 1.0}
    config.steps = 350
    config.evaluate_every = config.checkpoint_every = 350
    return config
