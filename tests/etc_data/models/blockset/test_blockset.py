"""Order-free models: what they must not see, what they must, and where they run."""

import pytest
import timm
import torch

from etc_data import Cipher, SecretKey
from etc_data.errors import GeometryError, ImageError, ModelError
from etc_data.models.block_stem import BlockStem

KEY = SecretKey(bytes(range(32)))
INVARIANT = ["tiny_b16_64", "tiny_b8_64", "small_b16_64", "bag_b16_64", "bag_b8_64"]
LEARNED = ["learned_tiny_b16_64", "learned_tiny_b8_64"]
CLOSE = {"atol": 2e-5, "rtol": 1e-4}


def block_size(name):
    return int(name.split("_b")[1].split("_")[0])


def cut(images, size):
    """Returns the blocks [B, N, 3, size, size] of images [B, 3, H, W]."""
    blocks = images.unfold(2, size, size).unfold(3, size, size)
    return blocks.permute(0, 2, 3, 1, 4, 5).flatten(1, 2)


def joined(blocks, rows):
    """Returns the image [B, 3, H, W] of blocks [B, N, 3, size, size], in `rows` rows."""
    return torch.cat([torch.cat(list(row.unbind(1)), -1) for row in blocks.chunk(rows, 1)], -2)


@torch.no_grad()
def answers(model, images):
    return model(images)


@pytest.mark.parametrize("name", INVARIANT + LEARNED)
def test_no_arrangement_of_the_blocks_changes_the_logits(name, ready, photos, normalized):
    model, size = ready(f"etc_blockset_{name}"), block_size(name)
    images = normalized(photos)
    blocks = cut(images, size)
    expected = answers(model, images)
    assert expected.std(0).min() > 1e-3  # photos get different answers
    for seed in range(3):
        order = torch.randperm(blocks.shape[1], generator=torch.Generator().manual_seed(seed))
        for rows in (64 // size, 96 // size):
            shuffled = joined(blocks[:, order], rows)
            assert not torch.equal(shuffled, images)
            torch.testing.assert_close(answers(model, shuffled), expected, **CLOSE)


@pytest.mark.parametrize("name", INVARIANT)
def test_no_etc_key_changes_the_logits_of_invariant_models(name, ready, photos, normalized):
    model = ready(f"etc_blockset_{name}")
    expected = answers(model, normalized(photos))
    for _ in range(3):
        key = SecretKey.generate()
        cipher = Cipher(f"etc-{block_size(name)}", key, key_scope="image")
        nonces = [cipher.new_nonce() for _ in photos]
        encrypted = cipher.encrypt(photos, nonce=nonces)
        torch.testing.assert_close(answers(model, normalized(encrypted)), expected, **CLOSE)


def test_states_change_the_logits_of_a_model_that_must_learn_them(ready, photos, normalized):
    model = ready("etc_blockset_learned_tiny_b16_64")
    encrypted = Cipher("ind-16", KEY).encrypt(photos)
    expected = answers(model, normalized(photos))
    assert (answers(model, normalized(encrypted)) - expected).abs().max() > 1e-2


def test_invariant_models_see_what_etc_does_not_do(ready, photos, normalized):
    model = ready("etc_blockset_tiny_b16_64")
    expected = answers(model, normalized(photos))
    for scheme in ("shuffle-com-16", "ind-16/8", "etc-8"):
        encrypted = Cipher(scheme, KEY).encrypt(photos)
        assert (answers(model, normalized(encrypted)) - expected).abs().max() > 1e-2, scheme


def test_other_normalizations_break_the_invariance(ready, photos, normalized):
    model = ready("etc_blockset_tiny_b16_64")
    encrypted = Cipher("etc-16", KEY).encrypt(photos)
    expected = answers(model, normalized(photos) + 0.1)
    assert (answers(model, normalized(encrypted) + 0.1) - expected).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["tiny_b16_64", "learned_tiny_b8_64"])
def test_stem_never_looks_across_a_border_of_blocks(name, ready, photos, normalized):
    stem, size = ready(f"etc_blockset_{name}").patch_embed, block_size(name)
    images = normalized(photos)
    with torch.no_grad():
        together = stem(images)
        for number, block in enumerate(cut(images, size).unbind(1)):
            torch.testing.assert_close(stem(block)[:, 0], together[:, number], **CLOSE)


def test_bag_gives_the_mean_of_what_it_says_to_every_block(ready, photos, normalized):
    model = ready("etc_blockset_bag_b16_64")
    images = normalized(photos)
    blocks = cut(images, 16)
    per_block = answers(model, blocks.flatten(0, 1)).unflatten(0, blocks.shape[:2])
    torch.testing.assert_close(per_block.mean(1), answers(model, images), **CLOSE)
    assert per_block.std(1).min() > 1e-3


# -- names and sizes ----------------------------------------------------------------------------


def test_every_name_says_its_blocks_and_its_input():
    names = timm.list_models("etc_blockset_*")
    assert len(names) == 5 * 2 * 4
    for name in names:
        cfg = timm.get_pretrained_cfg(name)
        size = int(name.rsplit("_", 1)[1])
        assert cfg.input_size == (3, size, size)
        assert cfg.mean == cfg.std == (0.5, 0.5, 0.5)


@pytest.mark.parametrize("image_size", [32, 64, 128, 224])
def test_weights_fit_every_image_size(image_size, ready, tmp_path):
    model = ready("etc_blockset_bag_b16_64")
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    name = f"etc_blockset_bag_b16_{image_size}"
    other = timm.create_model(name, checkpoint_path=str(tmp_path / "weights.pth")).eval()
    image = torch.rand(1, 3, image_size, image_size) * 2 - 1
    assert torch.equal(answers(other, image), answers(model, image))


def test_width_and_depth_are_those_of_the_vit():
    for kind, vit in (("tiny", "vit_tiny_patch16_224"), ("small", "vit_small_patch16_224")):
        blocks = timm.create_model(f"etc_blockset_{kind}_b16_224").blocks
        expected = timm.create_model(vit).blocks
        assert [p.shape for p in blocks.parameters()] == [p.shape for p in expected.parameters()]


@pytest.mark.parametrize("shape", [(64, 72), (40, 64)])
def test_image_off_the_grid_is_refused(shape, ready):
    model = ready("etc_blockset_bag_b16_64")
    with pytest.raises(GeometryError, match=f"image of {shape[0]}×{shape[1]} pixels.* block size 16"):
        model(torch.zeros(1, 3, *shape))
    with pytest.raises(GeometryError, match=f"image of {shape[0]}×{shape[1]} pixels"):
        timm.create_model("etc_blockset_bag_b16_64", img_size=shape)


def test_what_would_break_the_model_is_refused():
    with pytest.raises(TypeError, match="pos_embed"):
        timm.create_model("etc_blockset_tiny_b16_64", pos_embed="learn")
    with pytest.raises(ImageError, match="images of 1 channels; EtC blocks have 3"):
        timm.create_model("etc_blockset_tiny_b16_64", in_chans=1)
    with pytest.raises(ModelError, match="cannot pad"):
        timm.create_model("etc_blockset_tiny_b16_64", dynamic_img_pad=True)
    with pytest.raises(GeometryError, match="blocks of 12 pixels; the stem takes multiples of 8"):
        BlockStem(patch_size=12, img_size=24)


# -- where they run -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tiny_b8_32", "learned_tiny_b8_32", "bag_b8_32"])
def test_every_weight_is_trained(name, photos, normalized):
    model = timm.create_model(f"etc_blockset_{name}", depth=2, drop_path_rate=0.1)
    torch.nn.functional.cross_entropy(model(normalized(photos)), torch.arange(4)).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_classifier_features_and_precision_as_with_any_timm_model(ready, photos, normalized):
    images = normalized(photos)
    features = timm.create_model("etc_blockset_tiny_b16_64", depth=3, features_only=True)
    assert [tuple(f.shape) for f in features(images)] == [(4, 192, 4, 6)] * 3
    model = ready("etc_blockset_tiny_b16_64", num_classes=3, depth=2)
    assert answers(model, images).shape == (4, 3)
    assert answers(model.bfloat16(), images.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("name", ["tiny_b8_32", "bag_b16_32"])
def test_exported_program_answers_alike_for_every_batch(name, ready, photos, normalized):
    model = ready(f"etc_blockset_{name}", depth=2)
    images = normalized(photos)
    batch = torch.export.Dim("batch")
    program = torch.export.export(model, (images[:2],), dynamic_shapes=({0: batch},))
    torch.testing.assert_close(answers(program.module(), images), answers(model, images), **CLOSE)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tiny_b16_64", "learned_tiny_b8_64", "bag_b16_64"])
def test_onnx_answers_alike(name, ready, photos, normalized, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model = ready(f"etc_blockset_{name}", depth=2)
    images = normalized(photos)
    file = tmp_path / "model.onnx"
    dynamic = ({0: torch.export.Dim("batch")},)
    torch.onnx.export(model, (images[:2],), file, dynamo=True, dynamic_shapes=dynamic, verbose=False)
    session = runtime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    torch.testing.assert_close(torch.from_numpy(logits), answers(model, images), **CLOSE)


@pytest.mark.slow
def test_compiled_model_answers_alike(ready, photos, normalized):
    model = ready("etc_blockset_tiny_b16_64", depth=1)
    images = normalized(photos)
    compiled = torch.compile(model, fullgraph=True)
    torch.testing.assert_close(answers(compiled, images), answers(model, images), **CLOSE)
