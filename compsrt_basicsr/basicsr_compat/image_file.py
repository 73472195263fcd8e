"""BasicSR's `imwrite`: a file has its name only when it is complete."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.utils.atomic_write import write_bytes


def imwrite(img: np.ndarray, file_path: str, params: Sequence[int] | None = None, auto_mkdir: bool = True) -> None:
    """Writes an image, atomically.

    Args:
        img: (H, W) or (H, W, 3) in the order blue, green, red.
        file_path: The file; its suffix chooses the format.
        params: Of `cv2.imwrite`.
        auto_mkdir: Whether a missing folder is made.

    Raises:
        CompSRTError: If OpenCV does not know the format.
        OSError: If the file cannot be written, as on a full disk.
    """
    file = Path(file_path)
    if auto_mkdir:
        file.absolute().parent.mkdir(parents=True, exist_ok=True)
    if not cv2.haveImageWriter(file.name):
        raise CompSRTError(f'OpenCV cannot write `{file}`: give images another suffix, such as .png.')
    data = cv2.imencode(file.suffix, img, params or [])[1]
    write_bytes(file, data.tobytes())
