"""Reading and writing images: what a file holds stays, and no half-written file is ever seen."""

from __future__ import annotations

import itertools
import resource
from dataclasses import replace

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from compsrt_basicsr.data.images import ImageError
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.inference import image_io
from compsrt_basicsr.inference.image_io import ImageFile, format_error, image_size, read_image_file, write_image_file
from compsrt_basicsr.inference.io_16bit import write_tiff

COLOUR = np.random.default_rng(0).integers(0, 256, (6, 9, 3)).astype(np.uint8)
ALPHA = np.arange(54, dtype=np.uint8).reshape(6, 9) * 4
DEEP = np.random.default_rng(1).integers(0, 2**16, (6, 9, 4)).astype(np.uint16)


def sample(mode):
    values = {'L': COLOUR[:, :, 0], 'LA': np.dstack([COLOUR[:, :, 0], ALPHA]), 'RGB': COLOUR,
              'RGBA': np.dstack([COLOUR, ALPHA])}[mode]  # fmt: skip
    return Image.fromarray(values, mode)


TURNED = sample('RGB').rotate(180)


def deep_tiff(path, values, **options):
    if not options:
        with path.open('wb') as stream:
            return write_tiff(stream, values, None)
    tifffile.imwrite(path, np.ascontiguousarray(values.squeeze()), **options)


def there_and_back(path):
    """What is read, after writing it again."""
    first = read_image_file(path)
    again = path.with_name('again_' + path.name)
    write_image_file(again, first)
    second = read_image_file(again)
    with Image.open(path) as a, Image.open(again) as b:
        assert a.format == b.format
    assert (second.format, second.colour, second.exif, second.lossless) == (
        first.format, first.colour, first.exif, first.lossless)  # fmt: skip
    return first.values, second.values


@pytest.mark.parametrize(
    ('name', 'mode'),
    [*itertools.product(['a.png', 'a.tif', 'a.webp'], ['L', 'LA', 'RGB', 'RGBA']), ('a.bmp', 'L'), ('a.bmp', 'RGB')],
)
def test_lossless_formats_keep_all(tmp_path, name, mode):
    image = sample(mode)
    image.save(tmp_path / name, **({'lossless': True, 'exact': True} if name == 'a.webp' else {}))
    first, second = there_and_back(tmp_path / name)
    expected = np.array(image if name != 'a.webp' else image.convert('RGBA' if 'A' in mode else 'RGB'))
    assert np.array_equal(first, expected if expected.ndim == 3 else expected[:, :, None])
    assert np.array_equal(first, second)


@pytest.mark.parametrize(('name', 'mode', 'channels'), [('a.jpg', 'L', 1), ('a.jpg', 'RGB', 3), ('a.webp', 'RGBA', 4)])
def test_lossy_formats_keep_the_kind(tmp_path, name, mode, channels):
    sample(mode).save(tmp_path / name)
    first, second = there_and_back(tmp_path / name)
    assert first.shape == second.shape == (6, 9, channels)


@pytest.mark.parametrize('name', ['a.png', 'a.tif'])
@pytest.mark.parametrize('channels', [1, 3, 4])
def test_sixteen_bits_stay(tmp_path, name, channels):
    stored = DEEP[:, :, :channels]
    cv2.imwrite(str(tmp_path / name), stored if channels == 1 else stored[:, :, [2, 1, 0, 3][:channels]])
    first, second = there_and_back(tmp_path / name)
    assert np.array_equal(first, stored)
    assert np.array_equal(second, stored)


def test_sixteen_bits_of_grey_with_alpha(tmp_path):
    write_image_file(tmp_path / 'a.png', ImageFile(DEEP[:, :, :2], 'png'))
    for values in there_and_back(tmp_path / 'a.png'):
        assert np.array_equal(values, DEEP[:, :, :2])


@pytest.mark.parametrize('name', ['a.png', 'a.jpg', 'a.tif', 'a.webp', 'deep.png', 'deep.tif'])
@pytest.mark.parametrize('orientation', range(1, 9))
def test_orientation_is_applied_and_forgotten(tmp_path, name, orientation):
    """Every orientation against its definition: which corner of the stored image is the upper left one."""
    stored = np.zeros((16, 32, 3), np.uint8)
    stored[:8, :8] = 250  # the corner of row 0 and column 0
    stored[:8, 8:16] = 120  # beside it along row 0
    path = tmp_path / name
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = orientation, 'Maker'
    if name == 'deep.tif':
        tifffile.imwrite(path, stored.astype(np.uint16) * 257, photometric='rgb',
                         extratags=[(0x0112, 'H', 1, orientation, True)])  # fmt: skip
    elif name == 'deep.png':
        write_image_file(
            path, ImageFile(stored.astype(np.uint16) * 257, 'png', exif=exif.tobytes().removeprefix(b'Exif\0\0'))
        )
    else:
        Image.fromarray(stored).save(path, exif=exif)
    first = read_image_file(path)
    row, column = {1: (0, 0), 2: (0, -1), 3: (-1, -1), 4: (-1, 0), 5: (0, 0), 6: (0, -1), 7: (-1, -1), 8: (-1, 0)}[
        orientation
    ]
    turned = orientation > 4
    assert first.values.shape[:2] == ((32, 16) if turned else (16, 32))
    top = first.values[:, :, 0] / np.iinfo(first.values.dtype).max
    inner_row, inner_column = (4 if row == 0 else -5), (4 if column == 0 else -5)
    step = 8 if (row if turned else column) == 0 else -8
    beside = (inner_row + step, inner_column) if turned else (inner_row, inner_column + step)
    assert abs(top[inner_row, inner_column] - 250 / 255) < 0.04
    assert abs(top[beside] - 120 / 255) < 0.04
    write_image_file(tmp_path / ('again_' + name), first)
    assert read_image_file(tmp_path / ('again_' + name)).values.shape == first.values.shape
    if 'tif' not in name:
        with Image.open(tmp_path / ('again_' + name)) as image:
            assert dict(image.getexif()) == {0x010F: 'Maker'}


@pytest.mark.parametrize('name', ['a.png', 'a.jpg', 'a.tif', 'a.webp'])
def test_colour_profile_stays(tmp_path, name):
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()
    sample('RGB').save(tmp_path / name, icc_profile=profile)
    there_and_back(tmp_path / name)
    assert read_image_file(tmp_path / name).colour.icc == profile


def test_palettes_and_transparent_colours(tmp_path):
    flat = Image.fromarray(np.array([[0, 1], [1, 2]], np.uint8), 'P')
    flat.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    flat.save(tmp_path / 'p.png')
    assert read_image_file(tmp_path / 'p.png').values.tolist() == [
        [[255, 0, 0], [0, 255, 0]],
        [[0, 255, 0], [0, 0, 255]],
    ]
    flat.save(tmp_path / 't.png', transparency=1)
    assert read_image_file(tmp_path / 't.png').values[:, :, 3].tolist() == [[255, 0], [0, 255]]
    Image.fromarray(np.array([[7, 8]], np.uint8)).save(tmp_path / 'l.png', transparency=8)
    assert read_image_file(tmp_path / 'l.png').values.tolist() == [[[7, 255], [8, 0]]]
    Image.fromarray(np.array([[True, False]])).save(tmp_path / 'b.png')
    assert read_image_file(tmp_path / 'b.png').values.tolist() == [[[255], [0]]]


@pytest.mark.parametrize(
    ('name', 'make', 'reason'),
    [
        ('a.gif', lambda path: sample('RGB').save(path), 'is a GIF file'),
        ('a.tif', lambda path: sample('RGB').save(path, save_all=True, append_images=[sample('L')]), 'several'),
        ('a.png', lambda path: sample('RGB').save(path, save_all=True, append_images=[TURNED]), 'several'),
        ('grey_alpha.tif', lambda path: deep_tiff(path, DEEP[:, :, :2]), 'rare way|no image'),
        ('a.tif', lambda path: deep_tiff(path, DEEP[:, :, :1], photometric='miniswhite'), 'rare way'),
        ('a.tif', lambda path: deep_tiff(path, DEEP.T[:3], photometric='rgb', planarconfig='separate'), 'rare way'),
        ('a.tif', lambda path: deep_tiff(path, DEEP, photometric='rgb', extrasamples=['assocalpha']), 'rare way'),
        ('a.jpg', lambda path: sample('RGB').convert('CMYK').save(path), 'colour model CMYK'),
        ('a.tif', lambda path: sample('L').convert('F').save(path), 'more than 16 bits'),
        ('a.png', lambda path: path.write_bytes(b''), 'no image of a known format'),
        ('a.jpg', lambda path: path.write_text('hello'), 'no image of a known format'),
    ],
)
def test_what_is_refused(tmp_path, name, make, reason):
    make(tmp_path / name)
    for look in (image_size, read_image_file):
        with pytest.raises(ImageError, match=reason):
            look(tmp_path / name)


@pytest.mark.parametrize(
    ('name', 'deep'), [('a.png', False), ('a.png', True), ('a.tif', False), ('a.tif', True), ('a.jpg', False)]
)
def test_a_truncated_file_is_refused(tmp_path, name, deep):
    noise = np.random.default_rng(0).integers(0, 65536, (64, 64, 3)).astype(np.uint16 if deep else np.uint8)
    cv2.imwrite(str(tmp_path / name), noise)
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(ImageError):
        read_image_file(tmp_path / name)


def test_missing_file(tmp_path):
    with pytest.raises(CompSRTError, match='does not exist; check the path'):
        image_size(tmp_path / 'a.png')


@pytest.mark.parametrize(
    ('values', 'key', 'reason'),
    [
        (np.zeros((1, 1, 4), np.uint8), 'jpeg', 'alpha channel, which JPEG'),
        (np.zeros((1, 1, 2), np.uint8), 'bmp', 'alpha channel, which BMP'),
        (np.zeros((1, 1, 3), np.uint16), 'webp', '16 bits per channel, which WEBP'),
        (np.zeros((1, 8192, 3), np.uint8), 'webp', 'would become 16384x2'),
    ],
)
def test_what_a_format_cannot_hold(values, key, reason):
    height, width = (2 * length for length in values.shape[:2])
    error = format_error(ImageFile(values, key), key, height, width)
    assert reason in error and '--format png' in error
    assert format_error(ImageFile(values, 'png'), 'png', height, width) is None


@pytest.mark.parametrize('key', ['png', 'tiff'])
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_a_full_disk_leaves_nothing(tmp_path, dtype, key):
    """The system itself refuses to let the file grow past its limit."""
    values = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(dtype)
    path = tmp_path / 'a.png'
    write_image_file(path, ImageFile(values[:2, :2], key))
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(OSError, match='too large'):
            write_image_file(path, ImageFile(values, key), replace=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [p.name for p in tmp_path.iterdir()] == ['a.png']
    assert path.read_bytes() == before


def test_an_interrupted_write_leaves_nothing(tmp_path, monkeypatch):
    """While a file is written its name is free; broken off, it never appears."""

    def broken_off(stream, image):
        stream.write(b'half')
        stream.flush()
        assert [p.name[0] for p in tmp_path.iterdir()] == ['.']
        raise KeyboardInterrupt

    monkeypatch.setattr(image_io, '_encode', broken_off)
    with pytest.raises(KeyboardInterrupt):
        write_image_file(tmp_path / 'a.png', ImageFile(COLOUR, 'png'))
    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_stays(tmp_path):
    path = tmp_path / 'a.png'
    path.write_text('mine')
    new = ImageFile(COLOUR, 'png')
    with pytest.raises(FileExistsError):
        write_image_file(path, new)
    assert path.read_text() == 'mine'
    write_image_file(path, replace(new, values=COLOUR[:3]), replace=True)
    assert image_size(path) == (3, 9)
    assert [p.name for p in tmp_path.iterdir()] == ['a.png']
