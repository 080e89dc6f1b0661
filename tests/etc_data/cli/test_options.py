import click
import pytest

from etc_data.cli.options import SizeType, hide_secrets, human_bytes, make_codec, printable
from etc_data.codecs import JpegCodec, PngCodec


@pytest.mark.parametrize(
    ("text", "size"),
    [("224", (224, 224)), ("224x112", (224, 112)), ("32×48", (32, 48)), ("999999", (999999, 999999))],
)
def test_size_is_one_side_or_height_and_width(text, size):
    assert SizeType().convert(text, None, None) == size


@pytest.mark.parametrize(
    "text",
    ["", "0", "-1", "16.5", "16x", "x16", "16x16x16", "0x16", " 16", "1e3", "1000000", "١٦", "a"],
)
def test_what_is_no_size_is_refused(text):
    with pytest.raises(
        click.BadParameter, match="is no size; give pixels such as 224, or HEIGHTxWIDTH"
    ):
        SizeType().convert(text, None, None)


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (2**40, "1.0 TiB"), (2**51, "2048.0 TiB")],
)
def test_bytes_are_told_as_people_read_them(count, text):
    assert human_bytes(count) == text


def test_lossless_goes_before_quality():
    assert make_codec(90, "4:2:0", lossless=False) == JpegCodec(quality=90, subsampling="4:2:0")
    assert isinstance(make_codec(90, "4:2:0", lossless=True), PngCodec)


@pytest.mark.parametrize(
    "text", ["it begins with ETC-SECRET-KEY-1", "ETC-SECRET-KEY-1-…", "key 139628425f"]
)
def test_what_is_no_key_is_shown(text):
    assert hide_secrets(text) == text


@pytest.mark.parametrize("shown", ["ETC-SECRET-KEY-1-{}", "a/{}b", "etc-secret-key-1-{}", "'{}'"])
def test_key_lines_are_hidden_wherever_they_stand(key_line, shown):
    text = shown.format(key_line if "ETC" not in shown.upper() else key_line[17:])
    assert key_line[20:30] not in hide_secrets(text)


def test_sealed_key_lines_are_hidden_too():
    line = "ETC-SECRET-KEY-1-SCRYPT-17-" + "ABCDEFGH" * 15
    assert hide_secrets(f"no {line} here") == "no ETC-SECRET-KEY-… here"


def test_control_characters_are_shown_not_sent():
    assert printable("a\x1b[1m\x07\x7f\x9b\n") == r"a\x1b[1m\x07\x7f\x9b\x0a"
    assert printable("Größe 鍵 – ×") == "Größe 鍵 – ×"
