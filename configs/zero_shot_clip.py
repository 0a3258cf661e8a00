"""Zero-shot classification by CLIP: pictures against sentences about their classes; no training.

    tljax --config zero_shot_clip --workdir runs/clip --config.data_dir=DIR

DIR/clip has `model.safetensors` and `tokenizer.json` of openai/clip-vit-base-patch32 (MIT), and
DIR/pictures has test/CLASS/*.jpg. Sentences need the extra `text`. About 1 s for 50 pictures on two
cores; here it is run on tiny folders and random weights only.
Expected: by Radford et al. 2021, table 11, ViT-B/32, 0.913 on CIFAR-10, 0.651 on CIFAR-100, 0.870
on Oxford-IIIT Pets, 0.632 on ImageNet, the last with eighty sentences a class.
"""

from tljax.configs import tasks
from tljax.experiment import blank


def get_config():
    config = blank()
    config.method = "CLIP"
    config.family = "zero-shot"
    config.network.trunk = dict(name="vit", variant="base", patch=32, gelu="quick", epsilon=1e-5)
    image = dict(pre_norm=True, patch_bias=False, norm="pooled", projection=512, resize="plain")
    config.network.trunk.update(image)
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    # No step is taken; of the stream the network has the shape of its inputs.
    tasks.pictures(config, "folder:pictures", 50, train="test", mean=mean, std=std, labelled=False)
    config.evaluate.target.update(head="", readout="cosine", table="words")
    sentences = ("a photo of a {}.", "a blurry photo of a {}.", "a photo of the large {}.")
    config.tables.words = dict(data="prompts:clip", like="target", templates=sentences)
    config.start = (("**", "weights:clip/model.safetensors"),)
    config.steps = 0
    return config
