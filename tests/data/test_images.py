"""Reading and judging images."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from compsrt_basicsr.data.images import (
    ImageError,
    check_images,
    good_images,
    image_key,
    list_images,
    read_image,
    unique_names,
)
from compsrt_basicsr.errors import CompSRTError

PIXELS = np.random.default_rng(0).integers(0, 256, (10, 14, 3), dtype=np.uint8)


def encoded(**arguments) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, **arguments)
    return buffer.getvalue()


@pytest.mark.parametrize('suffix', ['.png', '.bmp', '.tif', '.TIFF', '.webp'])
def test_lossless_formats_give_their_pixels(tmp_path, suffix):
    path = tmp_path / f'a{suffix}'
    Image.fromarray(PIXELS).save(path, **({'lossless': True} if suffix == '.webp' else {}))
    np.testing.assert_array_equal(read_image(list_images(tmp_path)[0]), PIXELS)


def test_jpeg_is_read(tmp_path):
    (tmp_path / 'a.jpg').write_bytes(encoded(format='jpeg', quality=100, subsampling=0))
    error = read_image(tmp_path / 'a.jpg').astype(int) - PIXELS
    assert abs(error).max() <= 4  # rounding of the colour transform and of the DCT at quality 100


@pytest.mark.parametrize('mode,shape', [('L', (10, 14)), ('1', (10, 14)), ('P', (10, 14, 3))])
def test_grey_stays_grey_and_palettes_become_rgb(tmp_path, mode, shape):
    Image.fromarray(PIXELS).convert(mode).save(tmp_path / 'a.png')
    image = read_image(tmp_path / 'a.png')
    assert image.shape == shape
    assert image.dtype == np.uint8


@pytest.mark.parametrize('suffix', ['.png', '.jpg', '.webp', '.tif'])
def test_exif_orientation_is_honoured(tmp_path, suffix):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    Image.fromarray(PIXELS).save(tmp_path / f'a{suffix}', exif=exif)
    assert read_image(tmp_path / f'a{suffix}').shape == (14, 10, 3)


@pytest.mark.parametrize(
    'arguments',
    [
        {'format': 'png'},
        {'format': 'jpeg'},
        {'format': 'jpeg', 'progressive': True},
        {'format': 'bmp'},
        {'format': 'tiff'},
        {'format': 'webp'},
    ],
    ids=str,
)
def test_a_cut_file_is_refused_or_complete(tmp_path, arguments):
    """However much is missing, no half-decoded image comes through."""
    data, path = encoded(**arguments), tmp_path / 'a.png'
    path.write_bytes(data)
    whole = read_image(path)
    refused = 0
    lengths = [*range(0, len(data) - 40, 37), *range(len(data) - 40, len(data))]
    for length in lengths:
        path.write_bytes(data[:length])
        try:
            np.testing.assert_array_equal(read_image(path), whole)
        except ImageError:
            refused += 1
    assert refused >= len(lengths) - 20  # the last 20 bytes of a PNG are checksums and the end mark


@pytest.mark.parametrize(
    'name,pixels,reason',
    [
        ('rgba.png', np.dstack([PIXELS, PIXELS[..., :1]]), 'alpha channel'),
        ('grey16.png', PIXELS[..., 0].astype(np.uint16), '8 bits'),
        ('rgb16.png', PIXELS.astype(np.uint16), '8 bits'),
        ('grey16.tif', PIXELS[..., 0].astype(np.uint16), '8 bits'),
        ('rgb16.tif', PIXELS.astype(np.uint16), '8 bits'),
    ],
)
def test_alpha_and_deep_images_are_refused(tmp_path, name, pixels, reason):
    cv2.imwrite(str(tmp_path / name), pixels)
    with pytest.raises(ImageError, match=reason):
        read_image(tmp_path / name)


def test_other_kinds_are_refused(tmp_path):
    image = Image.fromarray(PIXELS)
    image.convert('CMYK').save(tmp_path / 'cmyk.jpg')
    image.convert('LA').save(tmp_path / 'la.png')
    image.convert('P').save(tmp_path / 'p.png', transparency=0)
    image.convert('P').save(tmp_path / 'gif.png', format='gif')
    image.save(tmp_path / 'two.tif', save_all=True, append_images=[image])
    (tmp_path / 'text.png').write_text('no image')
    reasons = check_images(list_images(tmp_path), 1)
    expected = {
        'cmyk.jpg': 'CMYK',
        'gif.png': 'GIF',
        'la.png': 'alpha',
        'p.png': 'alpha',
        'text.png': 'known format',
        'two.tif': 'several images',
    }
    assert reasons.keys() == expected.keys()
    for name, word in expected.items():
        assert word in reasons[name]


def test_small_images_are_bad(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / 'a.png')
    assert check_images([tmp_path / 'a.png'], 10) == {}
    assert '14x10' in check_images([tmp_path / 'a.png'], 11)['a.png']


def test_all_bad_images_are_named_or_left_out(tmp_path):
    paths = [tmp_path / name for name in ('a.png', 'b.png', 'c.png')]
    bad = {'a.png': 'is damaged', 'c.png': 'has an alpha channel'}
    with pytest.raises(CompSRTError, match=r'(?s)2 of 3 .*--skip-bad.*a\.png is damaged.*c\.png has an alpha'):
        good_images(paths, bad, skip_bad=False)
    assert good_images(paths, bad, skip_bad=True) == [paths[1]]
    with pytest.raises(CompSRTError, match='1 of 1'):
        good_images(paths[:1], bad, skip_bad=True)


def test_only_images_of_the_folder_are_listed_by_name(tmp_path):
    for name in ('b.PNG', 'a.jpg', '.hidden.png', 'notes.txt'):
        (tmp_path / name).touch()
    (tmp_path / 'sub.png').mkdir()
    assert [path.name for path in list_images(tmp_path)] == ['a.jpg', 'b.PNG']


def test_missing_and_empty_folders_are_named(tmp_path):
    with pytest.raises(CompSRTError, match='holds no image'):
        list_images(tmp_path)
    with pytest.raises(CompSRTError, match='not a folder'):
        list_images(tmp_path / 'missing')


def test_keys_are_ascii_without_dots_and_collisions_are_named(tmp_path):
    assert image_key(tmp_path / 'my dog.v1 é-2.png') == 'my_dog_v1__-2'
    with pytest.raises(CompSRTError, match=r'`a b\.png` and `a\.b\.jpg`.*`a_b`'):
        unique_names([tmp_path / 'a b.png', tmp_path / 'c.png', tmp_path / 'a.b.jpg'], image_key)
