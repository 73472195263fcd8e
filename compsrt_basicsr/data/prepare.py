"""Make BasicSR's LMDBs from a folder of high-resolution images.

Every image is cropped to a multiple of the least common multiple of the scales, so that one HR LMDB serves all of them.
The low-resolution image is made from that whole crop before the sub-images are cut. The borders of a sub-image
therefore contain information from its neighbours, as when a whole test image is reduced.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from compsrt_basicsr.data import prepare_state
from compsrt_basicsr.data.bicubic import downscale, mod_crop
from compsrt_basicsr.data.images import (
    check_images,
    good_images,
    image_key,
    list_images,
    read_image,
    unique_names,
)
from compsrt_basicsr.data.lmdb_writer import FIRST_MAP_SIZE, LmdbWriter, encode_png
from compsrt_basicsr.data.prepare_settings import PrepareSettings, window_corners
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.utils.disk_space import free_bytes, is_disk_full
from compsrt_basicsr.utils.lock import locked
from compsrt_basicsr.utils.progress import SILENT, Progress

COMMIT_BYTES = 64 * 2**20  # a killed run loses at most this much work


@dataclass(frozen=True)
class PrepareResult:
    """What `prepare` made.

    Attributes:
        outputs: LMDB folder by scale (1 = HR).
        images: how many images were used.
        entries: how many entries each LMDB has.
        skipped: why images were left out, by file name.
    """

    outputs: dict[int, Path]
    images: int
    entries: int
    skipped: dict[str, str]


def entries(key: str, image: np.ndarray, settings: PrepareSettings) -> Iterator[tuple[str, int, np.ndarray]]:
    """Yields the key, scale (1 = HR) and pixels of every entry that one image gives.

    Args:
        key: the image's key; sub-images get the suffix `_s001` and so on.
        image: uint8 (H, W), or (H, W, 3) in the order red, green, blue.
        settings: what to make.

    Yields:
        Key, scale, and uint8 (h, w, 3).
    """
    if image.ndim == 2:
        image = np.repeat(image[..., None], 3, axis=2)  # BasicSR trains on three channels
    whole = mod_crop(image, settings.multiple)
    for scale in (*settings.scales, 1):
        scaled = downscale(whole, scale) if scale > 1 else whole
        if not settings.crop:
            yield key, scale, scaled
            continue
        side = settings.crop // scale
        height, width = scaled.shape[:2]
        corners = window_corners(height, width, side, settings.step // scale)
        for number, (top, left) in enumerate(corners, start=1):
            yield f'{key}_s{number:03d}', scale, scaled[top : top + side, left : left + side]


def prepare(
    folder: Path,
    out: Path,
    settings: PrepareSettings,
    *,
    skip_bad: bool = False,
    force: bool = False,
    restart: bool = False,
    progress: Progress = SILENT,
    commit_bytes: int = COMMIT_BYTES,
    map_size: int = FIRST_MAP_SIZE,
) -> PrepareResult:
    """Makes one HR LMDB and one LR LMDB per scale from the images of a folder.

    Called again after it was killed, it resumes where it stopped. The LMDBs appear under their names only when all of
    them are complete.

    Args:
        folder: the images; subfolders are not read.
        out: folder for the LMDBs; created if missing.
        settings: what to make.
        skip_bad: leave out images that cannot be used instead of refusing.
        force: replace LMDBs that exist.
        restart: discard an unfinished run instead of resuming it.
        progress: display of the work.
        commit_bytes: bytes of PNG data after which the work is committed.
        map_size: first LMDB map size in bytes.

    Raises:
        CompSRTError: if images are unusable, names collide, output exists, an unfinished run has other settings or
            images, or the disk is full.
        Busy: if another process makes these LMDBs.
    """
    sources = list_images(folder)
    owners = unique_names(sources, image_key)
    with _full_disk_is_resumable(out), locked(out / f'.{settings.stem}.lock', f'`{settings.outputs(out)[1]}`'):
        state = prepare_state.open_state(out, settings, sources, force=force, restart=restart)
        if state.bad is None:
            state.bad = check_images(sources, settings.crop or settings.multiple, progress)
        good = set(good_images(sources, state.bad, skip_bad))
        if state.stage == prepare_state.WRITING:
            state.save()
            with ExitStack() as stack:
                writers = {s: stack.enter_context(LmdbWriter(path, map_size)) for s, path in state.partials.items()}
                todo = [(key, path) for key, path in owners.items() if path in good]
                _write(todo, writers, settings, progress, commit_bytes)
                for writer in writers.values():
                    writer.write_meta_info()
            state.stage = prepare_state.FINISHING
            state.save()
        state.finish()
    with (state.outputs[1] / 'meta_info.txt').open(encoding='ascii') as file:
        count = sum(1 for _ in file)
    return PrepareResult(state.outputs, len(good), count, state.bad)


def _write(
    todo: Sequence[tuple[str, Path]],
    writers: dict[int, LmdbWriter],
    settings: PrepareSettings,
    progress: Progress,
    commit_bytes: int,
) -> None:
    """Writes the images that are missing.

    A batch holds whole images and reaches the HR LMDB last, so an image in the HR LMDB is complete everywhere.
    """
    done = writers[1].keys()

    def commit() -> None:
        for scale in sorted(writers, reverse=True):
            writers[scale].commit()

    for key, path in progress.track(todo, 'write', 'image'):
        if (f'{key}_s001' if settings.crop else key) in done:
            continue
        for entry_key, scale, image in entries(key, read_image(path), settings):
            writers[scale].put(entry_key, encode_png(image))
        if sum(writer.pending_bytes for writer in writers.values()) >= commit_bytes:
            commit()
    commit()


@contextmanager
def _full_disk_is_resumable(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if not is_disk_full(error):
            raise
        free = free_bytes(out) // 2**20
        raise CompSRTError(
            f'The disk that holds `{out}` is full ({free} MiB left); free some space and give the same command again: '
            'it resumes where it stopped.'
        ) from error
