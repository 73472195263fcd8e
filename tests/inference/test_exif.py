"""EXIF data that is wrong does not make an image unusable; sound tags stay."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from compsrt_basicsr.data.images import check_images, read_image
from compsrt_basicsr.inference.image_io import ImageFile, read_image_file, write_image_file

MAKE, ORIENTATION, X_RESOLUTION, IMAGE_WIDTH, EXIF, GPS = 0x010F, 0x0112, 0x011A, 0x0100, 0x8769, 0x8825
PIXELS = np.random.default_rng(0).integers(0, 256, (16, 24, 3)).astype(np.uint8)
MAKER = (MAKE, 2, 4, b'abc\0')


def entry(tag, kind, number, value):
    return struct.pack('<HHI', tag, kind, number) + value


def exif(entries, tail=b''):
    """EXIF data of entries (tag, type, count, four bytes)."""
    listed = sorted(entries)
    return b'II*\0' + struct.pack('<IH', 8, len(listed)) + b''.join(entry(*e) for e in listed) + bytes(4) + tail


def jpeg(path, content, marker=0xE1, start=b'Exif\0\0'):
    stream = io.BytesIO()
    Image.fromarray(PIXELS).save(stream, 'JPEG', quality=95)
    data, segment = stream.getvalue(), start + content
    path.write_bytes(data[:2] + bytes([0xFF, marker]) + struct.pack('>H', len(segment) + 2) + segment + data[2:])
    return path


@pytest.fixture(scope='module')
def decoded(tmp_path_factory):
    return read_image(jpeg(tmp_path_factory.mktemp('jpeg') / 'a.jpg', b'', 0xFE, b''))


WRONG = {
    'negative resolution': ((X_RESOLUTION, 10, 1, struct.pack('<I', 50)), struct.pack('<ii', -1, 1)),
    'resolution by zero': ((X_RESOLUTION, 10, 1, struct.pack('<I', 50)), struct.pack('<ii', -1, 0)),
    'text for a number': ((IMAGE_WIDTH, 2, 4, b'abc\0'), b''),
    'a directory beyond the end': ((EXIF, 4, 1, struct.pack('<I', 2**31)), b''),
    'a directory of the wrong type': ((GPS, 2, 4, b'abc\0'), b''),
}


@pytest.mark.parametrize('turned', [1, 6])
@pytest.mark.parametrize('wrong', WRONG)
def test_one_wrong_tag(tmp_path, decoded, wrong, turned):
    bad, tail = WRONG[wrong]
    entries = [MAKER, (ORIENTATION, 3, 1, struct.pack('<I', turned)), bad]
    path = jpeg(tmp_path / 'a.jpg', exif(entries, tail))
    expected = np.rot90(decoded, -1) if turned == 6 else decoded
    assert check_images([path], 1) == {}
    assert np.array_equal(read_image(path), expected)
    image = read_image_file(path)
    assert np.array_equal(image.values, expected)
    for key in ('jpeg', 'png', 'webp'):
        write_image_file(tmp_path / key, ImageFile(image.values, key, exif=image.exif))
        with Image.open(tmp_path / key) as again:
            kept = again.getexif()
            assert kept[MAKE] == 'abc' and ORIENTATION not in kept


def test_the_wrong_tag_is_named(tmp_path):
    path = jpeg(tmp_path / 'a.jpg', exif([MAKER, (X_RESOLUTION, 5, 1, struct.pack('<I', 50)), (0x0100, 2, 4, b'abc\0')],
                                         struct.pack('<II', 72, 1)))  # fmt: skip
    (lost,) = write_image_file(tmp_path / 'b.jpg', read_image_file(path))
    assert 'ImageWidth' in lost and 'XResolution' not in lost
    with Image.open(tmp_path / 'b.jpg') as again:
        assert again.getexif()[X_RESOLUTION] == 72


@pytest.mark.parametrize(
    ('marker', 'start'),
    [
        (0xE1, b'Exif\0\0'),
        (0xE1, b'http://ns.adobe.com/xap/1.0/\0'),
        (0xE2, b'ICC_PROFILE\0'),
        (0xE2, b'MPF\0'),
        (0xEC, b'Ducky'),
        (0xED, b'Photoshop 3.0\0'),
        (0xEE, b'Adobe'),
        (0xE0, b'JFIF\0'),
    ],
)
@pytest.mark.parametrize(
    'content', [b'', b'\0', b'\xff\xfe\xfd', b'8BIM\x03\xed\0\0\0\0\0\x63', b'II*\0\x08\0\0\0\xff\xff']
)
def test_broken_segments_leave_the_image_sound(tmp_path, decoded, marker, start, content):
    path = jpeg(tmp_path / 'a.jpg', content, marker, start)
    assert np.array_equal(read_image(path), decoded)
    image = read_image_file(path)
    assert np.array_equal(image.values, decoded)
    write_image_file(tmp_path / 'b.jpg', image)
    assert read_image_file(tmp_path / 'b.jpg').damaged == ()


TAGS = st.one_of(st.integers(0, 65535), st.sampled_from([256, 257, 258, 274, 282, 306, 700, 34675, EXIF, GPS, 0xA005]))
VALUES = st.one_of(st.binary(min_size=4, max_size=4), st.integers(0, 80).map(lambda n: struct.pack('<I', n)))
ENTRIES = st.tuples(
    TAGS.filter(lambda tag: tag not in (MAKE, ORIENTATION)),
    st.integers(0, 14),
    st.sampled_from([0, 1, 1, 2, 3, 300, 2**32 - 1]),
    VALUES,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(ENTRIES, max_size=5, unique_by=lambda e: e[0]), st.binary(max_size=60))
def test_any_tags(tmp_path, decoded, entries, tail):
    """Whatever EXIF data says, the pixels are read, a sound tag stays, and what is written is sound."""
    path = jpeg(tmp_path / 'a.jpg', exif([MAKER, *entries], tail))
    assert np.array_equal(read_image(path), decoded)
    image = read_image_file(path)
    assert np.array_equal(image.values, decoded)
    for key in ('jpeg', 'png', 'webp'):
        write_image_file(tmp_path / key, ImageFile(image.values, key, exif=image.exif), replace=True)
        again = read_image_file(tmp_path / key)
        assert again.damaged == () and again.values.shape == decoded.shape
        with Image.open(tmp_path / key) as opened:
            assert opened.getexif().get(MAKE) == 'abc' or image.damaged, 'Pillow may give up behind a bad tag'


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from([269, 270, 282, 283, 296, 301, 305, 306, 315, 316, 318, 319, 700, 33723, 34377, 34675, EXIF, GPS]),
    st.integers(0, 14),
    st.sampled_from([0, 1, 2, 3, 300, 2**32 - 1]),
    VALUES,
)  # fmt: skip
def test_any_tag_of_a_tiff(tmp_path, tag, kind, number, value):
    """The directory gets one more tag, and moves to the end of the file."""
    stream = io.BytesIO()
    Image.fromarray(PIXELS).save(stream, 'TIFF')
    data = stream.getvalue()
    (at,) = struct.unpack_from('<I', data, 4)
    (count,) = struct.unpack_from('<H', data, at)
    entries = [data[at + 2 + 12 * i : at + 14 + 12 * i] for i in range(count)]
    entries = sorted([*entries, entry(tag, kind, number, value)], key=lambda e: struct.unpack_from('<H', e))
    directory = struct.pack('<H', len(entries)) + b''.join(entries) + bytes(4)
    (tmp_path / 'a.tif').write_bytes(data[:4] + struct.pack('<I', len(data)) + data[8:] + directory)
    assert np.array_equal(read_image(tmp_path / 'a.tif'), PIXELS)
    image = read_image_file(tmp_path / 'a.tif')
    assert np.array_equal(image.values, PIXELS)
    write_image_file(tmp_path / 'b.tif', image, replace=True)
    assert np.array_equal(read_image_file(tmp_path / 'b.tif').values, PIXELS)


def test_exif_too_long_for_a_jpeg(tmp_path):
    made = Image.Exif()
    made[MAKE] = 'a' * 70000
    data = made.tobytes().removeprefix(b'Exif\0\0')
    (lost,) = write_image_file(tmp_path / 'a.jpg', ImageFile(PIXELS, 'jpeg', exif=data))
    assert 'EXIF' in lost and read_image_file(tmp_path / 'a.jpg').exif is None
    assert write_image_file(tmp_path / 'a.png', ImageFile(PIXELS, 'png', exif=data)) == []
