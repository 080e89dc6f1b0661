import numpy as np
import pytest
from PIL import Image

from etc_data import Cipher, Scheme, SecretKey
from etc_data.audit.ejps import JigsawAttack
from etc_data.audit.evidence import Ciphertexts
from etc_data.audit.judgment import Owner, judge
from etc_data.codecs import JpegCodec, decode
from etc_data.errors import SchemeError
from etc_data.operations import (
    NegativePositive,
    RotateFlip,
    ScrambleBlocks,
    ScrambleSubBlocks,
    ShuffleColorComponents,
)
from etc_data.sources.images import resize_to

ATTACK = JigsawAttack(most_images=3)
SHUFFLED_ONLY = Scheme((ScrambleBlocks(16),))
COMMON_SUB_BLOCKS = Scheme(
    (
        ScrambleBlocks(16),
        RotateFlip(16, "common", 8),
        NegativePositive(16, "common", 8),
        ShuffleColorComponents(16, "common", 8),
        ScrambleSubBlocks(16, "common", 8),
    )
)


@pytest.fixture(scope="module")
def three(photos):
    return photos[[3, 12, 30]]


def coded(quality):
    return lambda image: decode(JpegCodec(quality=quality).encode(image))


def test_a_picture_that_is_only_shuffled_comes_back_whole(find, three):
    finding = find(ATTACK, three[:1], SHUFFLED_ONLY, "image")
    assert finding.scores["dc"] == finding.scores["nc"] == finding.scores["lc"] == 1


@pytest.mark.parametrize("scheme", ["com-16", "com-16/8"])
@pytest.mark.parametrize("quality", [None, 85])
def test_a_common_key_falls_whole(find, three, scheme, quality):
    finding = find(ATTACK, three, scheme, "image", coded=quality and coded(quality))
    assert finding.success
    assert finding.scores["values"] == 1


@pytest.mark.parametrize(
    ("scheme", "least"), [("ind-16", 0.9), ("ind-16/8", 0.5), ("etc-16", 0.7), (COMMON_SUB_BLOCKS, 0.7)]
)
def test_independent_keys_and_scrambled_blocks_fall_without_jpeg(find, three, scheme, least):
    finding = find(ATTACK, three, scheme, "image")
    assert finding.success
    assert finding.scores["nc"] > least
    assert finding.scores["lc"] > 0.5


def test_blocks_that_stay_in_place_fall_with_jpeg_too(find, three):
    finding = find(ATTACK, three, "ind-16", "image", coded=coded(85))
    assert finding.scores["nc"] > 0.6


@pytest.mark.parametrize(("scheme", "falls"), [("etc-16", True), ("etc-8", False)])
def test_the_attacker_sees_himself_whether_it_worked(three, scheme, falls):
    cipher = Cipher(scheme, SecretKey(bytes(32)))
    encrypted = np.stack([coded(95)(image) for image in cipher.encrypt(three[:2])])
    restoration = ATTACK.run(Ciphertexts(cipher.scheme, "dataset", encrypted, "jpeg 95 4:4:4"))
    finding = judge(ATTACK, restoration, cipher.scheme, "dataset")
    assert finding.criterion.score == "best_buddies"
    assert finding.success == falls


@pytest.mark.parametrize("scheme", ["ind-16", "ind-16/8"])
def test_the_papers_own_setting_falls(find, small_photos, scheme):
    """CIFAR-10 enlarged to 224 pixels, as in lin2024 Figs. 12 and 13; there ind-16/8 withstood EJPS."""
    image = np.asarray(resize_to(Image.fromarray(small_photos[4]), 224, 224))
    finding = find(JigsawAttack(most_images=1), image[None], scheme, "image", coded=coded(95))
    assert finding.scores["nc"] > 0.8


@pytest.mark.parametrize(("scheme", "readable"), [("ind-16/8", True), ("etc-8", False)])
def test_the_criteria_agree_with_the_eye(find, photos, scheme, readable):
    """At JPEG 85, few joins are true either way; but of ind-16/8 one knows what the photos show."""
    finding = find(JigsawAttack(), photos[[9, 21, 24, 27]], scheme, "image", coded=coded(85))
    shown, seen_by_attacker = ATTACK.criteria
    assert finding.criterion == shown
    assert finding.scores["nc"] < 0.4
    assert (finding.scores["ssim"] > 0.5) == readable
    assert finding.success == readable
    assert (finding.scores["best_buddies"] >= seen_by_attacker.at_least) == readable
    if not readable:
        assert finding.scores["visible_joins"] < shown.at_least - 0.1


def test_a_wrong_block_size_finds_nothing(three):
    """The attacker who takes an etc-16 image, cropped by half a block, for one on the grid."""
    cipher = Cipher("etc-16", SecretKey(bytes(32)))
    cropped = np.ascontiguousarray(cipher.encrypt(three)[:, 8:-8, 8:-8])
    restoration = ATTACK.run(Ciphertexts(cipher.scheme, "dataset", cropped))
    owner = Owner(cipher, three[:, 8:-8, 8:-8])
    finding = judge(ATTACK, restoration, cipher.scheme, "dataset", owner)
    assert finding.scores["ssim"] < 0.3


def test_no_further_image_is_begun_when_the_time_is_spent(three):
    cipher = Cipher("ind-16", SecretKey(bytes(32)))
    evidence = Ciphertexts(cipher.scheme, "dataset", cipher.encrypt(three))
    restoration = JigsawAttack(most_images=3, seconds=0).run(evidence)
    assert restoration.cost["images"] == len(restoration.own_decryptions) == 1
    again = restoration.own_decryptions[0].apply(cipher.encrypt(three[0]))
    assert np.array_equal(again, restoration.images[0])


def test_noise_of_a_few_tiles_is_not_called_assembled():
    noise = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), np.uint8)
    for scheme in ("etc-16", "ind-16/8"):
        cipher = Cipher(scheme, SecretKey(bytes(32)))
        for image in cipher.encrypt(noise)[:, None]:
            restoration = ATTACK.run(Ciphertexts(cipher.scheme, "dataset", image))
            assert not judge(ATTACK, restoration, cipher.scheme, "dataset").success


@pytest.mark.parametrize("scheme", ["shuffle-com-16", "le-4", "pe", "etc-1"])
def test_schemes_without_edges_are_refused(photos, scheme):
    with pytest.raises(SchemeError, match="needs tiles with edges"):
        ATTACK.run(Ciphertexts(Scheme.preset(scheme), "image", photos[:1]))
