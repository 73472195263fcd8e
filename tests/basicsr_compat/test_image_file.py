"""BasicSR's images are written atomically."""

import errno
import os

import basicsr.models.sr_model
import cv2
import numpy as np
import pytest

from compsrt_basicsr.basicsr_compat.image_file import imwrite
from compsrt_basicsr.errors import CompSRTError

IMAGE = np.random.default_rng(0).integers(0, 255, (9, 7, 3), np.uint8)


def test_basicsr_writes_the_bytes_that_opencv_does(tmp_path):
    assert basicsr.models.sr_model.imwrite is imwrite
    imwrite(IMAGE, str(tmp_path / 'new/a.png'))
    cv2.imwrite(str(tmp_path / 'b.png'), IMAGE)
    assert (tmp_path / 'new/a.png').read_bytes() == (tmp_path / 'b.png').read_bytes()


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, 'fsync', full)
    with pytest.raises(OSError) as caught:
        imwrite(IMAGE, str(tmp_path / 'a.png'))
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(tmp_path / 'a.png'))
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_format_is_named(tmp_path):
    with pytest.raises(CompSRTError, match='xyz'):
        imwrite(IMAGE, str(tmp_path / 'a.xyz'))
