"""TIFF bands that are neither colour nor alpha are refused by every reader, never dropped or taken for alpha."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import tifffile
from PIL import Image

from compsrt_basicsr.data.images import ImageError, read_image
from compsrt_basicsr.inference.image_io import image_size, read_image_file

COLOURS = {'minisblack': 1, 'rgb': 3, 'separated': 4}
ALPHA = ([], [1], [2])
OTHER = ([0], [0, 0], [0, 2], [2, 0], [1, 0], [2, 2])


def write(path, bits, planar, colour, extra):
    channels = COLOURS[colour] + len(extra)
    values = np.random.default_rng(0).integers(1, 2**bits, (6, 9, channels)).astype(f'uint{bits}')
    stored = values if channels > 1 else values[:, :, 0]
    if planar == 'separate' and channels > 1:
        stored = np.ascontiguousarray(values.transpose(2, 0, 1))
    tifffile.imwrite(
        path, stored, photometric=colour, planarconfig=planar if channels > 1 else None, extrasamples=extra or None,
        metadata=None,
    )  # fmt: skip
    return values


@pytest.mark.parametrize('bits', [8, 16])
@pytest.mark.parametrize('planar', ['contig', 'separate'])
@pytest.mark.parametrize('colour', COLOURS)
@pytest.mark.parametrize('extra', OTHER)
def test_other_bands_are_refused(tmp_path, bits, planar, colour, extra):
    write(tmp_path / 'a.tif', bits, planar, colour, extra)
    for read in (read_image, read_image_file, image_size):
        with pytest.raises(ImageError):
            read(tmp_path / 'a.tif')


@pytest.mark.parametrize('bits', [8, 16])
@pytest.mark.parametrize('planar', ['contig', 'separate'])
@pytest.mark.parametrize(('colour', 'extra'), itertools.product(COLOURS, ALPHA))
def test_colour_and_alpha_are_kept_or_refused(tmp_path, bits, planar, colour, extra):
    """Whatever is read is what was stored; premultiplied alpha is divided out, so that only its alpha is compared."""
    values = write(tmp_path / 'a.tif', bits, planar, colour, extra)
    found = []
    for read in (read_image, lambda path: read_image_file(path).values):
        try:
            found.append(np.atleast_3d(read(tmp_path / 'a.tif')))
        except ImageError:
            continue
    for image in found:
        kept = slice(-1, None) if extra == [1] else slice(None)
        assert image.dtype == values.dtype
        assert np.array_equal(image[:, :, kept], values[:, :, kept])
    if planar == 'contig' and colour == 'rgb' and extra != [1]:
        assert found, 'the usual kinds are read'


def test_the_band_is_named(tmp_path):
    write(tmp_path / 'a.tif', 8, 'contig', 'rgb', [0])
    with pytest.raises(ImageError, match='ExtraSamples'):
        read_image_file(tmp_path / 'a.tif')


@pytest.mark.parametrize('kind', ['int8', 'int16', 'float32'])
def test_signed_and_floating_values_are_refused(tmp_path, kind):
    tifffile.imwrite(tmp_path / 'a.tif', np.full((6, 9), -3, kind), metadata=None)
    for read in (read_image, read_image_file):
        with pytest.raises(ImageError):
            read(tmp_path / 'a.tif')


@pytest.mark.parametrize('transparent', [False, True])
def test_a_palette_with_another_band(tmp_path, transparent):
    """Pillow calls both `P`; the second band lies behind the index of each pixel."""
    palette = np.arange(768, dtype=np.uint16).reshape(3, 256)
    index = np.random.default_rng(0).integers(0, 256, (6, 9)).astype(np.uint8)
    Image.fromarray(index, 'P').save(tmp_path / 'plain.tif')
    assert read_image_file(tmp_path / 'plain.tif').values.shape == (6, 9, 3)
    tifffile.imwrite(
        tmp_path / 'a.tif', np.dstack([index, index]), photometric='minisblack', planarconfig='contig',
        extrasamples=[2 if transparent else 0], extratags=[(320, 'H', 768, palette.ravel(), True)], metadata=None,
    )  # fmt: skip
    with tifffile.TiffFile(tmp_path / 'a.tif', mode='r+') as file:
        file.pages[0].tags[262].overwrite(3)
    if transparent:
        image = read_image_file(tmp_path / 'a.tif').values
        assert image.shape == (6, 9, 4) and np.array_equal(image[:, :, 3], index)
    else:
        for read in (read_image, read_image_file):
            with pytest.raises(ImageError, match='ExtraSamples'):
                read(tmp_path / 'a.tif')
