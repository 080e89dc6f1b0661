"""Attacks on encrypted models, over weights that were really trained, fine-tuned and encrypted."""

import copy
from functools import lru_cache

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import etc_data.torchvision_cpu  # noqa: F401

# isort: split
from timm.models.convmixer import ConvMixer
from timm.models.vision_transformer import VisionTransformer

from etc_data.audit.aligned import AlignedTiles
from etc_data.audit.evidence import Ciphertexts, EncryptedModel
from etc_data.audit.jigsaw import solve_aligned
from etc_data.audit.judgment import Owner, judge
from etc_data.audit.model_alone import RowMatchingAttack, scheme_left, to_common_key
from etc_data.audit.model_base import BaseWeightsAttack
from etc_data.audit.model_keys import closeness_of_positions, keys_against, plan_of_keys
from etc_data.audit.model_rows import embedding_rows, match_rows
from etc_data.audit.topology import TopologyAttack
from etc_data.cipher import Cipher
from etc_data.codecs import JpegCodec, decode
from etc_data.errors import ModelError
from etc_data.keys import SecretKey
from etc_data.models import encrypt_model, load_encrypted_model, save_encrypted_model
from etc_data.models.patch_embedding import find_patch_embedding
from etc_data.models.patch_keys import PatchKeys
from etc_data.operations import ScrambleBlocks, ScrambleSubBlocks
from etc_data.schemes import Scheme

HALF = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
KEY = SecretKey(bytes(range(32)))


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def make(kind, seed):
    torch.manual_seed(seed)
    if kind == "convmixer":
        return ConvMixer(48, 2, 5, 8, num_classes=10)
    return VisionTransformer(
        img_size=32, patch_size=8, embed_dim=64, depth=2, num_heads=2, num_classes=10
    )


def train(model, images, labels, steps, learning_rate):
    random = np.random.default_rng(0)
    optimizer = torch.optim.AdamW(model.train().parameters(), learning_rate)
    losses = []
    for _ in range(steps):
        batch = random.integers(len(images), size=64)
        values = torch.from_numpy(images[batch].transpose(0, 3, 1, 2).astype(np.float32)) / 127.5 - 1
        loss = F.cross_entropy(model(values), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-10:]) < np.mean(losses[:10])
    return model.eval()


@pytest.fixture(scope="module")
def cifar(pictures, cifar_images):
    """1,000 images uint8 [1000, 32, 32, 3] and their labels."""
    labels = np.load(pictures / "cifar10" / "labels.npz")["y_train"][1000:2000]
    return cifar_images("train_01", 1000), torch.from_numpy(labels.astype(np.int64))


@pytest.fixture(scope="module")
def trained(cifar):
    """trained("vit") gives weights, the victim's that were fine-tuned from them, and unrelated ones."""
    images, labels = cifar

    @lru_cache
    def networks(kind):
        base = train(make(kind, 0), images[:500], labels[:500], 80, 5e-3)
        victim = train(copy.deepcopy(base), images[500:], labels[500:], 40, 5e-3)
        return base, victim, train(make(kind, 1), images[:500], labels[:500], 40, 5e-3)

    return networks


@pytest.fixture(scope="module")
def queries(small_photos):
    """Plain photos that no network has seen."""
    return small_photos[:40]


def encrypted_model(victim, queries, scheme, form="compact", normalization=HALF, base=None):
    cipher = Cipher(scheme, KEY, key_scope="dataset")
    model = encrypt_model(victim, cipher, image_size=32, form=form, **normalization)
    return cipher, EncryptedModel(model, cipher.encrypt(queries), base)


def finding_of(attack, cipher, evidence, plain):
    return judge(attack, attack.run(evidence), cipher.scheme, "dataset", Owner(cipher, plain[:4]))


# -- against base weights --------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["compact", "dense"])
@pytest.mark.parametrize(
    ("kind", "scheme"),
    [
        ("vit", "ind-8"),
        ("vit", "shuffle-ind-8"),
        ("vit", "etc-8"),
        ("vit", "adaptive-8"),
        ("vit", "pe"),
        ("convmixer", "ind-8/4"),
        ("convmixer", "shuffle-com-8"),
        ("convmixer", "flip-8"),
    ],
)
def test_the_weights_before_fine_tuning_give_the_key(trained, queries, kind, scheme, form):
    base, victim, _ = trained(kind)
    cipher, evidence = encrypted_model(victim, queries, scheme, form, base=base)
    finding = finding_of(BaseWeightsAttack(), cipher, evidence, queries)
    assert finding.success
    assert finding.scores["values"] > 0.95
    assert finding.scores["ssim"] > 0.9
    assert finding.scores["likeness"] < 0.999  # fine-tuning has moved the rows
    assert finding.scores["times_chance"] > BaseWeightsAttack.criteria[1].at_least


@pytest.mark.parametrize("kind", ["vit", "convmixer"])
def test_unrelated_weights_give_nothing(trained, queries, kind):
    _, victim, unrelated = trained(kind)
    cipher, evidence = encrypted_model(victim, queries, "ind-8", base=unrelated)
    finding = finding_of(BaseWeightsAttack(), cipher, evidence, queries)
    assert not finding.success
    assert finding.scores["values"] < 0.1
    assert finding.scores["ssim"] < 0.3
    assert finding.scores["times_chance"] < 1.25


def test_scrambling_stands_where_the_positions_were_trained_anew(trained, queries):
    base, victim, unrelated = trained("vit")
    base = copy.deepcopy(base)
    with torch.no_grad():
        base.pos_embed.copy_(unrelated.pos_embed)
    cipher, evidence = encrypted_model(victim, queries, "etc-8", base=base)
    finding = finding_of(BaseWeightsAttack(), cipher, evidence, queries)
    assert not finding.success
    assert finding.scores["times_chance"] > 1.5
    assert finding.scores["values"] < 0.3
    assert finding.scores["position_likeness"] < 0.5


@pytest.mark.parametrize("form", ["compact", "dense"])
def test_a_file_and_uneven_normalization_change_nothing(trained, queries, form, tmp_path):
    base, victim, _ = trained("vit")
    _, evidence = encrypted_model(victim, queries, "etc-8", form, IMAGENET, base)
    save_encrypted_model(evidence.model, tmp_path / "encrypted.safetensors")
    model = load_encrypted_model(tmp_path / "encrypted.safetensors", base)
    restoration = BaseWeightsAttack(shown=40).run(EncryptedModel(model, evidence.queries, base))
    assert np.array_equal(restoration.images, queries)


def test_base_weights_must_be_there_and_fit(trained, queries):
    _, victim, _ = trained("convmixer")
    _, evidence = encrypted_model(victim, queries, "ind-8")
    with pytest.raises(ModelError, match="no base weights"):
        BaseWeightsAttack().run(evidence)
    for other in (ConvMixer(48, 2, 5, 4, num_classes=10), ConvMixer(32, 2, 5, 8, num_classes=10)):
        with pytest.raises(ModelError, match="one architecture"):
            BaseWeightsAttack().run(EncryptedModel(evidence.model, evidence.queries, other))


# -- without base weights --------------------------------------------------------------------------


@pytest.mark.parametrize("normalization", [HALF, IMAGENET], ids=["half", "imagenet"])
@pytest.mark.parametrize("form", ["compact", "dense"])
@pytest.mark.parametrize(
    ("kind", "scheme"),
    [("vit", "etc-8"), ("vit", "shuffle-ind-8"), ("convmixer", "ind-8/4"), ("convmixer", "flip-8")],
)
def test_all_patches_fall_to_the_key_of_one(trained, queries, kind, scheme, form, normalization):
    victim = trained(kind)[1]
    cipher, evidence = encrypted_model(victim, queries, scheme, form, normalization)
    source = find_patch_embedding(victim, (32, 32)).source
    keys = PatchKeys.of_plan(cipher.plan(32, 32), source)
    count = len(keys.order)
    first = PatchKeys(
        keys.patch_order, keys.order[:1].repeat(count, 0), keys.negated[:1].repeat(count, 0)
    )
    wanted = plan_of_keys(first, source, 32, 32).apply(queries)
    assert np.array_equal(to_common_key(evidence).apply(evidence.queries), wanted)


def test_matrices_that_were_trained_apart_still_match(trained, cifar, queries):
    images, labels = cifar
    base, victim, _ = trained("vit")
    cipher, evidence = encrypted_model(victim, queries, "etc-8", "dense", base=base)
    train(evidence.model, cipher.encrypt(images[:500]), labels[:500], 40, 1e-3)
    rows = embedding_rows(find_patch_embedding(evidence.model, (32, 32)))
    assert keys_against(rows, rows[0])[1] < 0.999  # no longer one matrix under several keys
    finding = finding_of(BaseWeightsAttack(), cipher, evidence, queries)
    assert finding.success
    assert finding.scores["values"] > 0.95


@pytest.mark.parametrize(("scheme", "without"), [("ind-8", 0.7), ("ind-8/4", 0.2)])
def test_one_query_and_the_model_are_enough_for_small_common_keys(trained, queries, scheme, without):
    victim = trained("convmixer")[1]
    cipher, evidence = encrypted_model(victim, queries[:1], scheme)
    finding = finding_of(RowMatchingAttack(), cipher, evidence, queries)
    assert finding.success
    assert finding.scores["values"] == 1
    assert finding.scores["key_space_bits_left"] < 31 < finding.scores["key_space_bits"]
    topology = TopologyAttack().run(Ciphertexts(cipher.scheme, "dataset", evidence.queries))
    owner = Owner(cipher, queries[:1])
    no_model = judge(TopologyAttack(), topology, cipher.scheme, "dataset", owner)
    assert no_model.scores["values"] < without


def test_shuffled_values_fall_to_the_statistics_of_many_queries(trained, small_photos):
    victim = trained("vit")[1]
    cipher, evidence = encrypted_model(victim, small_photos, "shuffle-ind-8")
    assert finding_of(RowMatchingAttack(), cipher, evidence, small_photos).scores["values"] > 0.95
    few = EncryptedModel(evidence.model, evidence.queries[:1])
    finding = finding_of(RowMatchingAttack(), cipher, few, small_photos)
    assert not finding.success
    assert finding.scores["values"] < 0.1


# -- scrambled blocks without base weights: a jigsaw of blocks in one state -------------------------


@pytest.fixture(scope="module")
def served(photos):
    """A transformer trained on 36 photos of 128 px, that serves queries by etc-16; and its cipher."""
    torch.manual_seed(0)
    model = VisionTransformer(
        img_size=128, patch_size=16, embed_dim=64, depth=2, num_heads=2, num_classes=10
    )
    labels = torch.arange(40) // 4
    train(model, np.delete(photos, slice(None, None, 10), 0), labels[np.arange(40) % 10 != 0], 60, 3e-3)
    cipher = Cipher("etc-16", KEY, key_scope="dataset")
    return encrypt_model(model, cipher, image_size=128, **HALF), cipher


def findings_of_single_queries(model, cipher, plain, coded=None):
    queries = cipher.encrypt(plain)
    if coded is not None:
        queries = np.stack([coded(query) for query in queries])
    for number in range(len(plain)):
        one = slice(number, number + 1)
        yield finding_of(RowMatchingAttack(), cipher, EncryptedModel(model, queries[one]), plain[one])


@pytest.mark.parametrize(("quality", "least"), [(None, 0.8), (95, 0.7)])
def test_one_query_of_scrambled_blocks_is_put_together(served, photos, quality, least):
    coded = None
    if quality is not None:
        codec = JpegCodec(quality=quality)
        coded = lambda query: decode(codec.encode(query))  # noqa: E731
    findings = list(findings_of_single_queries(*served, photos[:30:10], coded))
    assert all(finding.success for finding in findings)
    assert np.mean([finding.scores["joins"] for finding in findings]) > least
    assert np.mean([finding.scores["visible_joins"] for finding in findings]) > least


def test_a_few_queries_are_put_together_whole(served, photos):
    model, cipher = served
    evidence = EncryptedModel(model, cipher.encrypt(photos[::8]))
    finding = finding_of(RowMatchingAttack(), cipher, evidence, photos[::8])
    assert finding.success
    assert finding.scores["values"] == finding.scores["joins"] == 1


def test_a_model_under_another_key_is_no_help(served, photos):
    model, _ = served
    other = Cipher("etc-16", SecretKey(bytes(32)), key_scope="dataset")
    for finding in findings_of_single_queries(model, other, photos[:20:10]):
        assert not finding.success
        assert finding.scores["joins"] < 0.1
        assert finding.scores["visible_joins"] < 0.2
        assert finding.scores["best_buddies"] < RowMatchingAttack.criteria[1].at_least


def test_positions_of_neighbors_draw_blocks_together(photos):
    """A smooth position embedding, as of a transformer trained for long, against one that is none."""
    place = np.stack(np.divmod(np.arange(256), 16), axis=1)
    waves = place[:, :, None] / 2.0 ** np.arange(1, 8)
    smooth = np.concatenate([np.sin(waves), np.cos(waves)], axis=1).reshape(256, -1)
    joins = []
    for positions in (smooth, np.random.default_rng(0).permutation(smooth)):
        scores = []
        for photo in photos[:6]:
            coded = decode(JpegCodec(quality=75).encode(photo))
            tiles = AlignedTiles.of(coded[None], 8, 10.0)
            tiles = tiles.drawn_together(closeness_of_positions(positions))
            found = solve_aligned(tiles, 16, 16).tile_at
            scores.append(np.mean(found[:, 1:] == found[:, :-1] + 1))
        joins.append(np.mean(scores))
    assert joins[0] > joins[1] + 0.1


@pytest.mark.parametrize("scheme", ["etc-16", "ind-16", "ind-16/8"])
def test_patches_smaller_than_blocks_change_nothing(trained, small_photos, scheme):
    """Each block of 16 pixels is turned with its four patches of 8."""
    cipher, evidence = encrypted_model(trained("vit")[1], small_photos[:5], scheme)
    for number in range(4):
        one = EncryptedModel(evidence.model, evidence.queries[number : number + 1])
        finding = finding_of(RowMatchingAttack(), cipher, one, small_photos[number : number + 1])
        assert finding.success
        assert finding.scores["joins"] > 0.6
    assert finding_of(RowMatchingAttack(), cipher, evidence, small_photos).scores["values"] == 1


def test_what_is_left_has_common_draws_where_blocks_are_patches():
    assert scheme_left(Scheme.preset("ind-16/8"), (16, 16)).steps == Scheme.preset("com-16/8").steps
    assert scheme_left(Scheme.preset("ind-8"), (16, 16)) == Scheme.preset("ind-8")


def test_patches_smaller_than_blocks_are_tiles_that_moved():
    states = Scheme.preset("com-8").steps
    etc, ind = (scheme_left(Scheme.preset(name), (8, 8)).steps for name in ("etc-16", "ind-16/8"))
    assert set(etc) == {*states, ScrambleBlocks(8)}
    assert set(ind) == {*states, ScrambleSubBlocks(16, "independent", 8)}


# -- the parts -------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["ind-8/4", "etc-8", "shuffle-ind-8", "adaptive-8", "pe"])
def test_a_plan_of_keys_is_the_plan_that_the_keys_are_of(trained, scheme):
    plan = Cipher(scheme, KEY, key_scope="dataset").plan(32, 32)
    source = find_patch_embedding(trained("vit")[0], (32, 32)).source
    again = plan_of_keys(PatchKeys.of_plan(plan, source), source, 32, 32)
    for found, wanted in zip(again.value_index(), plan.value_index(), strict=True):
        assert np.array_equal(found, wanted)


def test_rows_are_the_weights_themselves(trained):
    model = trained("convmixer")[0]
    embedding = find_patch_embedding(model, (32, 32))
    rows = embedding_rows(embedding)
    weight = embedding.layer.weight.detach().flatten(1).T.numpy()
    assert rows.shape == (16, 192, 48)
    assert np.abs(rows - weight).max() < 1e-6
    keys, likeness = keys_against(rows, rows[0])
    assert likeness == pytest.approx(1)
    assert keys.common and keys.in_place and not keys.negated.any()


@pytest.mark.parametrize(("noise", "right"), [(0.5, 1.0), (8.0, 0.0)])
def test_matching_stands_noise_of_half_the_weights_size(trained, noise, right):
    rows = embedding_rows(find_patch_embedding(trained("vit")[0], (32, 32)))[0]
    random = np.random.default_rng(0)
    order, sign = random.permutation(len(rows)), random.choice([-1, 1], len(rows))
    seen = sign[:, None] * rows[order] + noise * rows.std() * random.normal(size=rows.shape)
    match = match_rows(seen, rows)
    found = (match.order == order) & (match.negated == (sign < 0))
    assert found.mean() == pytest.approx(right, abs=0.1)
