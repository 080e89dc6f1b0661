import numpy as np
import pytest
from PIL import Image

from etc_data.audit.evidence import Ciphertexts
from etc_data.audit.topology import TopologyAttack
from etc_data.cipher import Cipher
from etc_data.codecs import JpegCodec, decode
from etc_data.keys import SecretKey
from etc_data.schemes import Scheme
from etc_data.shards import write_shards

ATTACK = TopologyAttack(shown=4)


@pytest.mark.parametrize("scheme", ["etc-16", "ind-16", "com-16", "ind-16/8", "com-16/8", "etc-8"])
def test_forty_images_under_one_key_are_restored(find, photos, scheme):
    finding = find(ATTACK, photos, scheme)
    assert finding.success
    assert finding.scores["joins"] > 0.95
    assert finding.scores["ssim"] > 0.9


@pytest.mark.parametrize("scheme", ["etc-16", "ind-16/8"])
def test_a_key_per_image_withstands_it(find, photos, scheme):
    finding = find(ATTACK, photos, scheme, "image")
    assert not finding.success
    assert finding.scores["joins"] < 0.1
    assert finding.scores["smoothness"] < 0.4


@pytest.mark.parametrize("quality", [95, 75])
def test_jpeg_does_not_hide_the_edges(find, photos, quality):
    codec = JpegCodec(quality=quality)
    finding = find(ATTACK, photos, "etc-16", coded=lambda image: decode(codec.encode(image)))
    assert finding.scores["joins"] > 0.95
    assert finding.scores["ssim"] > 0.9


@pytest.mark.parametrize("scheme", ["flip-4", "adaptive-4", "pe", "etc-4"])
def test_small_images_are_restored_whole(find, small_photos, scheme):
    finding = find(ATTACK, small_photos, scheme)
    assert finding.success
    assert finding.scores["values"] > 0.95


def test_pixelwise_encryption_with_a_key_per_image_withstands_it(find, small_photos):
    finding = find(ATTACK, small_photos, "pe", "image")
    assert not finding.success
    assert finding.scores["values"] < 0.2


def test_high_halves_alone_give_the_picture(find, small_photos):
    finding = find(ATTACK, small_photos[:100], "le-4")
    assert finding.success
    assert finding.scores["ssim"] > 0.9


def test_values_of_a_block_that_fills_the_image_are_not_there_for_want_of_borders(find, small_photos):
    corners = small_photos[:, :8, :8].copy()
    few = find(ATTACK, corners[:2], "shuffle-com-8")
    assert few.scores["joins"] < 0.2
    assert not few.success
    assert find(ATTACK, corners, "shuffle-com-8").success


def test_shuffled_pixels_are_laid_out_and_assembled(find, photos):
    assert find(ATTACK, photos, "adaptive-pixel-8").scores["ssim"] > 0.9


def test_pictures_come_in_the_owners_orientation_only_through_the_judge(photos):
    cipher = Cipher("etc-16", SecretKey(bytes(range(32))))
    encrypted = cipher.encrypt(photos)
    restoration = ATTACK.run(Ciphertexts(cipher.scheme, "dataset", encrypted))
    assert restoration.decryption is not None
    again = restoration.decryption.apply(encrypted[:4])
    assert np.array_equal(again, restoration.images)
    assert restoration.cost == {"images": len(photos)}


def test_images_of_two_sizes_are_attacked_at_the_more_frequent_one(photos):
    evidence = Ciphertexts(
        Scheme.preset("etc-16"), "dataset", [photos[0, :64], *photos[1:4], photos[4, :64]]
    )
    assert evidence.take(5).shape == (3, 128, 128, 3)


def test_shards_are_attacked_as_they_lie(photos, tmp_path):
    (tmp_path / "in" / "class").mkdir(parents=True)
    for number, photo in enumerate(photos):
        Image.fromarray(photo).save(tmp_path / "in" / "class" / f"{number}.png")
    cipher = Cipher("etc-16", SecretKey(bytes(range(32))))
    write_shards(tmp_path / "in", tmp_path / "out", cipher, size=96)
    evidence = Ciphertexts.from_shards(tmp_path / "out")
    assert evidence.codec.startswith("jpeg 95")
    found = TopologyAttack(most_images=20, shown=2).run(evidence)
    assert found.observations["smoothness"] > 0.7
    assert found.cost == {"images": 20}
