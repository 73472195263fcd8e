"""Write LMDBs in the layout that BasicSR reads: data.mdb and meta_info.txt.

They are written without LMDB's lock file, a sparse map whose first use kills the process where the disk is full.
"""

from __future__ import annotations

import errno
import mmap
import os
import struct
from pathlib import Path

import cv2
import lmdb
import numpy as np

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.utils.atomic_write import atomic_path
from compsrt_basicsr.utils.disk_space import free_bytes
from compsrt_basicsr.utils.out_of_memory import is_out_of_memory

COMPRESS_LEVEL = 1  # PNG level of BasicSR's own LMDBs
FIRST_MAP_SIZE = 64 * 2**20  # bytes; doubles whenever it is full


def encode_png(image: np.ndarray, compress_level: int = COMPRESS_LEVEL) -> bytes:
    """Returns an image as the bytes of a PNG file.

    Args:
        image: uint8 (H, W), or (H, W, 3) in the order red, green, blue.
        compress_level: 0 (fast) to 9 (small).
    """
    stored = image[..., ::-1] if image.ndim == 3 else image  # OpenCV's order is blue, green, red
    _, data = cv2.imencode('.png', np.ascontiguousarray(stored), [cv2.IMWRITE_PNG_COMPRESSION, compress_level])
    return data.tobytes()


class LmdbWriter:
    """An LMDB to which entries are added in batches. What was committed survives a killed process.

    Args:
        path: folder of the LMDB; created if missing, else continued.
        map_size: bytes reserved at first, in address space only.

    Raises:
        CompSRTError: if `path` holds no usable LMDB.
    """

    def __init__(self, path: Path, map_size: int = FIRST_MAP_SIZE) -> None:
        self.path = path
        self.pending_bytes = 0
        self._pending: list[tuple[bytes, bytes]] = []
        path.mkdir(parents=True, exist_ok=True)
        _remove_stillborn(path / 'data.mdb')
        try:
            self._env = lmdb.open(str(path), map_size=map_size, readahead=False, lock=False)
        except lmdb.DiskError as error:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        except lmdb.Error as error:
            if is_out_of_memory(error):
                raise
            raise CompSRTError(
                f'`{path}` cannot be opened as an LMDB ({error}); start again with --restart.'
            ) from error

    def __enter__(self) -> LmdbWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        """Returns the number of committed entries."""
        return int(self._env.stat()['entries'])

    @property
    def map_size(self) -> int:
        """Bytes reserved now."""
        return int(self._env.info()['map_size'])

    def put(self, key: str, value: bytes) -> None:
        """Keeps an entry for the next `commit`; an entry with the same key is replaced."""
        self._pending.append((key.encode('ascii'), value))
        self.pending_bytes += len(value)

    def commit(self) -> None:
        """Stores all pending entries, or none of them if it fails.

        Raises:
            OSError: ENOSPC if the disk is full; earlier commits are kept.
            CompSRTError: if LMDB fails for another reason.
        """
        while True:
            try:
                with self._env.begin(write=True) as txn:
                    for key, value in self._pending:
                        txn.put(key, value)
                break
            except lmdb.MapFullError:
                self._env.set_mapsize(2 * self.map_size)
            except lmdb.Error as error:
                if is_out_of_memory(error):
                    raise
                # LMDB reports a write that a full disk cut short as an input/output error
                if isinstance(error, lmdb.DiskError) or free_bytes(self.path) < self.pending_bytes:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path)) from error
                raise CompSRTError(
                    f'Writing `{self.path}` failed ({error}); give the same command again to resume.'
                ) from error
        self._pending.clear()
        self.pending_bytes = 0

    def keys(self) -> set[str]:
        """Returns the keys of all committed entries."""
        with self._env.begin() as txn, txn.cursor() as cursor:
            return {key.decode('ascii') for key in cursor.iternext(values=False)}

    def write_meta_info(self) -> None:
        """Writes meta_info.txt from the committed entries: one line `key.png (height,width,channels) 1` each."""
        with (
            self._env.begin(buffers=True) as txn,
            txn.cursor() as cursor,
            atomic_path(self.path / 'meta_info.txt') as partial,
            partial.open('w', encoding='ascii', newline='\n') as file,
        ):
            for key, value in cursor:
                height, width, channels = png_shape(value)
                file.write(f'{bytes(key).decode("ascii")}.png ({height},{width},{channels}) {COMPRESS_LEVEL}\n')

    def close(self) -> None:
        """Closes the LMDB; entries that were not committed are dropped."""
        self._env.close()


def _remove_stillborn(file: Path) -> None:
    """Removes a data file that a full disk cut short when it was made: LMDB starts with two pages and needs both."""
    if file.is_file() and file.stat().st_size < 2 * mmap.PAGESIZE:
        file.unlink()


def png_shape(data: bytes | memoryview) -> tuple[int, int, int]:
    """Returns height, width and channels from the header of a PNG file without palette."""
    width, height, _, colour_type = struct.unpack('>IIBB', bytes(data[16:26]))
    return height, width, {0: 1, 2: 3, 4: 2, 6: 4}[colour_type]
