"""What files say of their colours: kept where the format can hold it, named where not."""

from __future__ import annotations

import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from compsrt_basicsr.data.images import read_image
from compsrt_basicsr.inference.colour import Colour
from compsrt_basicsr.inference.image_io import ImageFile, read_image_file, write_image_file
from compsrt_basicsr.inference.io_16bit import insert_png_chunks

VALUES = {
    8: np.random.default_rng(0).integers(0, 256, (6, 9, 3)).astype(np.uint8),
    16: np.random.default_rng(0).integers(0, 2**16, (6, 9, 3)).astype(np.uint16),
}
SRGB_POINTS = struct.pack('>8I', 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
WIDE_POINTS = struct.pack('>8I', 31270, 32900, 70800, 29200, 17000, 79700, 13100, 4600)
LINEAR, GAMMA_22 = struct.pack('>I', 100000), struct.pack('>I', 45455)
HDR = {b'cICP': bytes([9, 16, 0, 1]), b'mDCV': bytes(range(24)), b'cLLI': struct.pack('>II', 10_000_000, 4_000_000)}
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()


def chunks_of(path):
    """All chunks before the pixels, by an independent reader."""
    data, at, found = path.read_bytes(), 8, {}
    while (name := data[at + 4 : at + 8]) != b'IDAT':
        (length,) = struct.unpack('>I', data[at : at + 4])
        content = data[at + 8 : at + 8 + length]
        assert struct.unpack('>I', data[at + 8 + length : at + 12 + length]) == (zlib.crc32(name + content),)
        found[name] = content
        at += 12 + length
    return found


def png(path, bits, chunks):
    write_image_file(path, ImageFile(VALUES[bits], 'png'), replace=True)
    with path.open('r+b') as stream:
        insert_png_chunks(stream, chunks)
    return path


@pytest.mark.parametrize('bits', [8, 16])
@pytest.mark.parametrize(
    'chunks',
    [
        {b'gAMA': LINEAR},
        {b'gAMA': LINEAR, b'cHRM': WIDE_POINTS},
        {b'sRGB': b'\1', b'gAMA': GAMMA_22, b'cHRM': SRGB_POINTS},
        HDR,
    ],
)
def test_png_chunks_stay(tmp_path, bits, chunks):
    image = read_image_file(png(tmp_path / 'a.png', bits, chunks))
    assert np.array_equal(image.values, VALUES[bits]), 'no reader applies them'
    larger = replace(image, values=image.values.repeat(2, 0).repeat(2, 1))
    assert write_image_file(tmp_path / 'b.png', larger) == []
    found = chunks_of(tmp_path / 'b.png')
    del found[b'IHDR']
    assert found == chunks
    assert np.array_equal(read_image_file(tmp_path / 'b.png').values, larger.values)
    with Image.open(tmp_path / 'b.png') as again:
        again.load()
        assert again.info.get('gamma') == (pytest.approx(int.from_bytes(chunks[b'gAMA'], 'big') / 1e5)
                                           if b'gAMA' in chunks else None)  # fmt: skip
        assert again.info.get('srgb') == (1 if b'sRGB' in chunks else None)


@pytest.mark.parametrize('bits', [8, 16])
def test_a_profile_stays_with_the_chunks_that_follow_it(tmp_path, bits):
    source = ImageFile(VALUES[bits], 'png', Colour(PROFILE, {b'gAMA': LINEAR, b'cHRM': WIDE_POINTS}))
    write_image_file(tmp_path / 'a.png', source)
    image = read_image_file(tmp_path / 'a.png')
    assert image.colour == source.colour
    for key in ('tiff',) if bits == 16 else ('jpeg', 'webp', 'tiff'):
        assert write_image_file(tmp_path / key, replace(image, format=key)) == [], 'the profile says more'
        with Image.open(tmp_path / key) as again:
            assert again.info['icc_profile'] == PROFILE


@pytest.mark.parametrize('key', ['jpeg', 'webp', 'tiff', 'bmp'])
@pytest.mark.parametrize(
    ('colour', 'names'),
    [
        (Colour(chunks={b'gAMA': LINEAR, b'cHRM': WIDE_POINTS}), 'gAMA, cHRM'),
        (Colour(chunks={b'gAMA': GAMMA_22, b'cHRM': WIDE_POINTS}), 'cHRM'),
        (Colour(chunks={b'gAMA': GAMMA_22, b'cHRM': SRGB_POINTS}), None),
        (Colour(chunks={b'sRGB': b'\0', b'gAMA': LINEAR}), None),
        (Colour(chunks={b'cICP': bytes([1, 13, 0, 1])}), None),
        (Colour(chunks=HDR), 'cICP, mDCV, cLLI'),
    ],
)
def test_what_other_formats_lose_is_named(tmp_path, key, colour, names):
    lost = write_image_file(tmp_path / 'a', ImageFile(VALUES[8], key, colour))
    assert len(lost) == (names is not None)
    if names:
        assert f'({names})' in lost[0]


@pytest.mark.parametrize('bits', [8, 16])
def test_tiff_tags_stay(tmp_path, bits):
    white, primaries = (3127, 10000, 3290, 10000), (64, 100, 33, 100, 21, 100, 71, 100, 15, 100, 6, 100)
    curve = tuple(int(n) for n in np.linspace(0, 65535, 2**bits))
    tags = [(318, 5, 2, white, True), (319, 5, 6, primaries, True), (301, 3, len(curve), curve, True)]
    tifffile.imwrite(tmp_path / 'a.tif', VALUES[bits], photometric='rgb', extratags=tags, metadata=None)
    image = read_image_file(tmp_path / 'a.tif')
    assert write_image_file(tmp_path / 'b.tif', image) == []
    with tifffile.TiffFile(tmp_path / 'b.tif') as file:
        found = file.pages[0].tags
        assert (found[318].value, found[319].value, tuple(found[301].value)) == (white, primaries, curve)
        assert np.array_equal(file.asarray(), VALUES[bits])
    (lost,) = write_image_file(tmp_path / 'b.png', replace(image, format='png'))
    assert 'WhitePoint' in lost and 'PrimaryChromaticities' in lost and 'TransferFunction' in lost


def bmp(path, kind, rest=b'', endpoints=bytes(48)):
    """A BMP with a header of version 5."""
    pixels = b''.join(row[:, ::-1].tobytes().ljust(28, b'\0') for row in VALUES[8][::-1])
    header = struct.pack('<IiiHHIIiiII4I4s', 124, 9, 6, 1, 24, 0, len(pixels), 0, 0, 0, 0, 0, 0, 0, 0, kind[::-1])
    header += endpoints + struct.pack('<IIII', 4, 124 + len(pixels), len(rest), 0)
    path.write_bytes(struct.pack('<2sIII', b'BM', 138 + len(pixels) + len(rest), 0, 138) + header + pixels + rest)
    return path


def test_bmp_headers(tmp_path):
    image = read_image_file(bmp(tmp_path / 'a.bmp', b'MBED', PROFILE))
    assert np.array_equal(image.values, VALUES[8])
    assert image.colour.icc == PROFILE
    assert len(write_image_file(tmp_path / 'b.bmp', image)) == 1, 'BMP files are written without a profile'
    assert write_image_file(tmp_path / 'b.png', replace(image, format='png')) == []
    assert read_image_file(tmp_path / 'b.png').colour.icc == PROFILE
    for kind, endpoints, losses in (
        (b'sRGB', bytes(48), 0),
        (bytes(4), bytes(48), 0),
        (bytes(4), bytes(range(48)), 1),
        (b'LINK', bytes(48), 1),
    ):
        image = read_image_file(bmp(tmp_path / 'a.bmp', kind, endpoints=endpoints))
        assert len(write_image_file(tmp_path / 'b.png', replace(image, format='png'), replace=True)) == losses


@pytest.mark.parametrize('bits', [8, 16])
@pytest.mark.parametrize(
    'chunks',
    [
        {b'gAMA': b'\0'},
        {b'cHRM': bytes(31)},
        {b'iCCP': b'ICC\0\7nonsense'},
        {b'iCCP': b'ICC\0\0' + zlib.compress(PROFILE)[:-9] + b'nonsense!'},
        {b'zTXt': b'text\0\0' + zlib.compress(bytes(2**21))},
        {b'pHYs': b'\0'},
    ],
)
def test_damaged_chunks_leave_the_image_sound(tmp_path, bits, chunks):
    path = png(tmp_path / 'a.png', bits, {b'gAMA': LINEAR, **chunks})
    image = read_image_file(path)
    assert np.array_equal(image.values, VALUES[bits])
    assert len(image.damaged) == 1
    if b'gAMA' not in chunks:
        assert image.colour.chunks == {b'gAMA': LINEAR}, 'what is sound is kept'
    write_image_file(tmp_path / 'b.png', image)
    assert read_image_file(tmp_path / 'b.png').damaged == ()
    if bits == 8:
        assert np.array_equal(read_image(path), VALUES[8])


def test_a_wrong_checksum_of_a_colour_chunk(tmp_path):
    path = png(tmp_path / 'a.png', 8, {b'gAMA': LINEAR})
    data = bytearray(path.read_bytes())
    data[33 + 8 + 4] ^= 1
    path.write_bytes(data)
    image = read_image_file(path)
    assert np.array_equal(image.values, VALUES[8])
    assert 'gAMA' in image.damaged[0] and image.colour.chunks == {}


def test_a_large_profile_stays(tmp_path):
    profile = np.random.default_rng(0).bytes(2**20 + 1)
    for key in ('png', 'jpeg', 'webp', 'tiff'):
        path = tmp_path / f'a.{key}'
        assert write_image_file(path, ImageFile(VALUES[8], key, Colour(profile))) == []
        image = read_image_file(path)
        assert image.colour.icc == profile and image.damaged == ()
    huge = Colour(bytes(255 * 65519 + 1))
    assert 'colour profile' in write_image_file(tmp_path / 'b.jpg', ImageFile(VALUES[8], 'jpeg', huge))[0]
