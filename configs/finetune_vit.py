"""Fine-tuning a vision transformer, by what may move: all, the head, LoRA, the head and then all.

    tljax --config finetune_vit:lora --workdir runs/vit_lora   # or :full, :head, :lp_ft

ViT-B/16 of ImageNet-21k on Oxford-IIIT Pets from TFDS, with 1,000 labels as VTAB-1k has them;
weights come by the extra `hub`. Meant for an accelerator; here it is run on tiny folders only.
Expected: with 1,000 labels (Jia et al. 2022, table of VTAB-1k): 0.869 by full fine-tuning, 0.863 by
the head alone; 0.90 by LoRA in later tables. With all labels 0.944 (Dosovitskiy et al. 2021).
"""

from tljax.configs import tasks
from tljax.experiment import blank


def get_config(way="full"):
    config = blank()
    config.method = "fine-tuning of a vision transformer"
    config.family = "fine-tuning"
    config.network.trunk = dict(name="vit", variant="base")
    config.network.heads.label = dict(name="linear")
    tasks.pictures(config, "tfds:oxford_iiit_pet", batch=64, mean=(0.5,) * 3, std=(0.5,) * 3)
    config.streams.target.per_class = 27  # of 37 classes
    config.start = (("heads/**", "fresh"), ("**", "timm:vit_base_patch16_224.augreg_in21k"))
    config.terms.label = dict(term="cross_entropy", stream="target")
    rates = {"full": 1e-4, "head": 1e-3, "lora": 1e-3, "lp_ft": 1e-4}
    config.optimizer = tasks.adamw(rates[way])
    config.optimizer.weight_decay = 1e-4
    config.update(steps=1500, evaluate_every=500, checkpoint_every=500, log_every=50)
    if way == "head":
        config.train = (("heads/**", 1.0), ("**", 0.0))
    if way == "lora":
        config.adapters = dict(lora=dict(name="lora", only=("trunk/**/qkv/kernel",), rank=8))
        config.start = (("adapters/**", "fresh"), *config.start)
        config.train = (("adapters/**", 1.0), ("heads/**", 1.0), ("**", 0.0))
    if way == "lp_ft":
        config.phases, start = ("probe", "all"), config.start
        head = dict(solver="softmax", stream="target", head="label", penalty=10.0)
        config["probe"] = dict(steps=0, terms={}, start=start[1:], prepare=dict(readout=head))
        config["all"] = dict(start=(("**", "probe"),))
    return config
