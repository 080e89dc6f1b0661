import io
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etc_data.errors import DamagedShardError
from etc_data.shards.files import HashingFile
from etc_data.shards.tar import SampleTar, list_samples

SAMPLES = [
    [
        ("train-000000000.cls", b"7"),
        ("train-000000000.jpg", b"j" * 700),
        ("train-000000000.json", b"{}"),
    ],
    [
        ("train-000000001.cls", b"12"),
        ("train-000000001.jpg", b""),
        ("train-000000001.json", b"{" * 512),
    ],
    [("train-000000004.json", b"null"), ("train-000000004.png", b"p" * 1024)],
]


def archive(samples=SAMPLES) -> bytes:
    file = io.BytesIO()
    tar = SampleTar(HashingFile(file))
    for members in samples:
        tar.add(members)
    tar.close()
    return file.getvalue()


def rewritten(members, **fields) -> bytes:
    """The archive that Python's tarfile writes of (name, content) pairs."""
    file = io.BytesIO()
    form = fields.pop("format", tarfile.USTAR_FORMAT)
    with tarfile.open(fileobj=file, mode="w", format=form) as tar:
        for name, content in members:
            header = tarfile.TarInfo(name)
            header.size, header.mode = len(content), 0o644
            for field, value in fields.items():
                setattr(header, field, value)
            tar.addfile(header, io.BytesIO(content))
    return file.getvalue()


def listed(data: bytes):
    return list_samples(io.BytesIO(data), "s.tar")


# --- writing ----------------------------------------------------------------------------------


def test_archive_is_what_tarfile_writes():
    assert archive() == rewritten([member for members in SAMPLES for member in members])


@pytest.mark.parametrize("count", [0, 1, 5, 6, 7, 40])
def test_archive_is_padded_as_tarfile_pads(count):
    samples = [[(f"train-{i:09d}.jpg", bytes(i)), (f"train-{i:09d}.json", b"{}")] for i in range(count)]
    data = archive(samples)
    assert data == rewritten([member for members in samples for member in members])
    assert len(data) % 10_240 == 0
    assert len(listed(data)) == count


def test_headers_tell_nothing_of_the_host():
    with tarfile.open(fileobj=io.BytesIO(archive())) as tar:
        for header in tar:
            assert (header.mtime, header.uid, header.gid, header.mode) == (0, 0, 0, 0o644)
            assert (header.uname, header.gname, header.linkname, header.pax_headers) == ("", "", "", {})
            assert header.isreg()


# --- reading ----------------------------------------------------------------------------------


def test_samples_are_read_back():
    data = archive()
    places = listed(data)
    samples = [place.read(io.BytesIO(data)) for place in places]
    assert [sample.key for sample in samples] == [
        "train-000000000",
        "train-000000001",
        "train-000000004",
    ]
    assert [sample.label for sample in samples] == [7, 12, -1]
    assert [sample.image for sample in samples] == [b"j" * 700, b"", b"p" * 1024]
    assert [sample.info for sample in samples] == [b"{}", b"{" * 512, b"null"]
    assert places[0].read_image_and_label(io.BytesIO(data)) == (b"j" * 700, 7)


def test_reading_begins_at_the_front_wherever_the_file_stands():
    file = io.BytesIO(archive())
    file.seek(5000)
    assert len(list_samples(file, "s.tar")) == 3


JPG, JSON = ("train-000000000.jpg", b"j"), ("train-000000000.json", b"{}")


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([JPG], "sample train-000000000 has the members jpg"),
        ([JSON], "sample train-000000000 has the members json"),
        ([JPG, JSON, ("train-000000000.png", b"")], "has the members jpg, json, png"),
        ([JPG, JPG, JSON], "member 'train-000000000.jpg' occurs twice"),
        ([JPG, JSON, ("train-000000001.jpg", b""), JSON], "has the members jpg"),
        ([JPG, JSON, ("a-000000001.jpg", b""), ("a-000000001.json", b""), JPG, JSON], "not adjacent"),
        ([("readme", b"")], "member 'readme' belongs to no sample"),
        ([("train-000000000.jpg.txt", b"")], "belongs to no sample"),
        ([("train-000000000.exe", b"")], "belongs to no sample"),
        ([("../../etc/passwd.jpg", b"")], "belongs to no sample"),
        ([("./train-000000000.jpg", b"")], "belongs to no sample"),
        ([("train-000000000.jpg\n", b"")], "belongs to no sample"),
        ([("träin-000000000.jpg", b"")], "belongs to no sample"),
        ([("train-00000000٣.jpg", b"")], "belongs to no sample"),
    ],
)
def test_members_that_make_no_samples_are_refused(members, message):
    with pytest.raises(DamagedShardError, match=message):
        listed(rewritten(members))


@pytest.mark.parametrize(
    "fields",
    [
        {"type": tarfile.DIRTYPE},
        {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"},
        {"type": tarfile.LNKTYPE, "linkname": "x"},
        {"type": tarfile.FIFOTYPE},
        {"type": tarfile.CONTTYPE},
        {"format": tarfile.GNU_FORMAT},
        {"format": tarfile.PAX_FORMAT, "pax_headers": {"comment": "x"}},
    ],
)
def test_members_of_another_kind_are_refused(fields):
    with pytest.raises(DamagedShardError, match="no member begins at byte 0"):
        listed(rewritten([JPG, JSON], **fields))


@pytest.mark.parametrize("label", [b"", b"x", b"-1", b"1.0", b" 1", b"1_0", b"9" * 19, "٣".encode()])
def test_label_that_is_no_number_is_refused(label):
    data = archive([[("train-000000000.cls", label), JPG, JSON]])
    (place,) = listed(data)
    for read in (place.read, place.read_image_and_label):
        with pytest.raises(DamagedShardError, match="the label is no number"):
            read(io.BytesIO(data))


def test_file_that_shrinks_while_it_is_read_is_noticed():
    data = archive()
    places = listed(data)
    with pytest.raises(DamagedShardError, match="cut short while it was read"):
        places[-1].read(io.BytesIO(data[:6000]))


def test_archive_cut_at_any_block_is_refused():
    data = archive()
    end = data.rstrip(b"\0")
    for length in range(0, len(end), 512):
        with pytest.raises(DamagedShardError, match="is no whole tar archive"):
            listed(data[:length])


def test_negative_and_oversized_lengths_are_refused():
    for size in (b"\x80" + (2**60).to_bytes(11), b"\xff" * 12, b"-0000001000\0", b"0000_000001\0"):
        header = bytearray(archive()[:512])
        header[124:136] = size
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
        with pytest.raises(DamagedShardError, match="no member begins at byte 0"):
            listed(bytes(header) + archive()[512:])


@settings(deadline=None, max_examples=300, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 10_239), st.binary(min_size=1, max_size=12)), min_size=1))
def test_damaged_archives_raise_nothing_else(changes):
    data = bytearray(archive())
    for place, content in changes:
        data[place : place + len(content)] = content
    try:
        for place in listed(bytes(data)):
            place.read(io.BytesIO(bytes(data)))
    except DamagedShardError:
        pass


@settings(deadline=None, max_examples=200, derandomize=True)
@given(st.binary(max_size=3000))
def test_no_archive_at_all_raises_nothing_else(data):
    if data[:512] != bytes(512):
        with pytest.raises(DamagedShardError):
            listed(data)
