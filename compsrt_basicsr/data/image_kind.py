"""What an opened image file really stores, which Pillow's mode does not show."""

from __future__ import annotations

import numpy as np
from PIL.ImageFile import ImageFile as OpenedImage
from PIL.TiffImagePlugin import TiffImageFile

_BITS, _PHOTOMETRIC, _SAMPLES, _PLANAR, _EXTRA_SAMPLES, _SAMPLE_FORMAT = 258, 262, 277, 284, 338, 339  # TIFF tags
_BASE_SAMPLES = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3, 8: 3}  # by photometric interpretation: bands that make the colour
_PREMULTIPLIED = 1
_ALPHA = (_PREMULTIPLIED, 2, 999)  # ExtraSamples that mean alpha; 999 is what Corel Draw wrote


def raw_mode(image: OpenedImage) -> str:
    """Returns how the file stores a pixel, such as 'RGB;16B'; known until the image is decoded."""
    if not image.tile:
        return ''
    arguments = image.tile[0][3]
    return str(arguments if isinstance(arguments, str) else (arguments or ('',))[0])


def bits_per_channel(image: OpenedImage) -> int:
    """Returns the bits per channel of the file. Pillow reads 16-bit RGB as mode RGB and drops the low bytes."""
    if isinstance(image, TiffImageFile):
        return int(np.max(image.tag_v2.get(_BITS, 1)))
    if image.format in ('BMP', 'DIB'):
        return 8  # their `;16` means 16 bits per pixel
    return 16 if ';16' in raw_mode(image) or image.mode.startswith('I') else 8


def band_error(image: OpenedImage) -> str | None:
    """Returns why the bands of a file are not what Pillow makes of them, as the end of a sentence; None if they are.

    Only TIFF files can have bands that are neither colour nor alpha, such as infrared; Pillow drops them or takes them
    for alpha. A fourth band of which nothing is said is alpha, as for all other programs: OpenCV writes it like that.
    """
    if not isinstance(image, TiffImageFile):
        return None
    tags = image.tag_v2
    if set(np.atleast_1d(tags.get(_SAMPLE_FORMAT, 1)).tolist()) - {1, 4}:
        return 'stores signed or floating-point values'
    samples = int(tags.get(_SAMPLES, 1))
    extra = samples - _BASE_SAMPLES.get(int(tags.get(_PHOTOMETRIC, 1)), samples)
    kinds = tuple(np.atleast_1d(tags.get(_EXTRA_SAMPLES, 2)).tolist())
    if extra > 1 or (extra == 1 and kinds[0] not in _ALPHA):
        return 'has a band that is neither colour nor alpha (by its tag ExtraSamples), such as infrared'
    if extra == 1 and tags.get(_PLANAR, 1) == 2 and (kinds[0] == _PREMULTIPLIED or samples == 2):
        return 'stores alpha in a rare way (in a separate plane, multiplied in or beside grey)'
    return None


def is_plain_16bit_tiff(image: TiffImageFile) -> bool:
    """Tells whether OpenCV decodes this kind of TIFF with more than 8 bits."""
    tags = image.tag_v2
    bits = np.atleast_1d(tags.get(_BITS, 1))
    is_premultiplied = np.atleast_1d(tags.get(_EXTRA_SAMPLES, 0))[0] == _PREMULTIPLIED
    is_usual = tags.get(_PLANAR, 1) == 1 and tags.get(_PHOTOMETRIC, 1) in (1, 2)
    return bool(is_usual and set(bits.tolist()) == {16} and len(bits) != 2 and not is_premultiplied)
