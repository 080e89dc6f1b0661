import numpy as np
import pytest

from etc_data import Cipher, SecretKey
from etc_data.cli.contact_sheet import Cell, describe_psnr, draw_sheet, psnr, round_trip

KEY = SecretKey(bytes(32))


def picture(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack([y, x, y + x], axis=-1).astype(np.uint8)


def test_sheet_has_room_for_the_widest_and_the_highest_of_each_column_and_row():
    rows = [
        [Cell(picture(20, 100)), Cell(picture(40, 60))],
        [Cell(picture(30, 80)), Cell(None), Cell(picture(10, 10))],
    ]
    sheet = draw_sheet(rows)
    assert sheet.size == (100 + 60 + 10 + 4 * 12, 40 + 30 + 3 * 12)
    assert np.array_equal(np.asarray(sheet)[12:32, 12:112], picture(20, 100))
    assert np.array_equal(np.asarray(sheet)[12:52, 124:184], picture(40, 60))


def test_captions_stand_below_their_pictures():
    bare = draw_sheet([[Cell(picture(20, 100))]])
    sheet = draw_sheet([[Cell(picture(20, 100), ("one", "two"))]])
    assert sheet.height == bare.height + 2 * 16
    below = np.asarray(sheet)[32:]
    assert (below < 100).any()


def test_long_caption_widens_its_column():
    assert draw_sheet([[Cell(picture(10, 10), ("a long caption " * 5,))]]).width > 200


@pytest.mark.parametrize(
    ("scheme", "extension"), [("etc-16", "jpg"), ("vit-16/8", "png"), ("pe", "png")]
)
def test_round_trip_takes_jpeg_where_the_scheme_suits_it(scheme, extension):
    plain = picture(64, 96)
    trip = round_trip(plain, Cipher(scheme, KEY), quality=90)
    assert trip.codec.extension == extension
    assert trip.encrypted.shape == trip.decrypted.shape == plain.shape
    assert trip.psnr == psnr(plain, trip.decrypted)
    assert trip.psnr > 30
    assert (trip.psnr == np.inf) == (extension == "png")
    assert not np.array_equal(trip.encrypted, plain)


def test_psnr_of_one_gray_level_everywhere_is_48_db():
    plain = picture(16, 16)
    assert psnr(plain, plain + np.uint8(1)) == pytest.approx(20 * np.log10(255))
    assert psnr(plain, plain) == np.inf


def test_psnr_is_described_as_people_read_it():
    assert describe_psnr(np.inf) == "exact"
    assert describe_psnr(42.345) == "42.3 dB"
