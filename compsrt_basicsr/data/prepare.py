"""Turning a folder of high-resolution pictures into BasicSR's LMDBs, or into a folder of low-resolution pictures.

Every picture is cropped to a multiple of the least common multiple of the scales, so that one HR LMDB serves all of
them. The low-resolution picture is made from that whole crop, and only then are the windows cut: at their borders they
hold what their neighbours hold, as when a whole test picture is reduced.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from compsrt_basicsr.data import prepare_job
from compsrt_basicsr.data.bicubic import downscale, mod_crop
from compsrt_basicsr.data.lmdb_writer import FIRST_MAP_SIZE, LmdbWriter, encode_png
from compsrt_basicsr.data.pictures import (
    check_pictures,
    good_pictures,
    list_pictures,
    picture_key,
    read_picture,
    unique_names,
)
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.utils.atomic_write import write_bytes
from compsrt_basicsr.utils.disk_space import free_bytes, is_disk_full
from compsrt_basicsr.utils.progress import SILENT, Progress

COMMIT_BYTES = 64 * 2**20  # a killed run loses at most this much work


@dataclass(frozen=True)
class PrepareSettings:
    """What decides the content of the LMDBs.

    Attributes:
        name: start of the LMDBs' names; ASCII letters, digits, `-` and `_`.
        scales: factors of at least 2; kept sorted, each once.
        crop: side of the square HR sub-images in pixels, a multiple of every scale; 0 keeps whole pictures.
        step: distance between sub-images in pixels, a multiple of every scale; a last one ends at the border;
            0 when `crop` is 0.

    Raises:
        CompSRTError: a value is out of its range.
    """

    name: str
    scales: tuple[int, ...]
    crop: int = 480
    step: int = 240

    def __post_init__(self):
        object.__setattr__(self, 'scales', tuple(sorted(set(self.scales))))
        if not self.crop:
            object.__setattr__(self, 'step', 0)  # means nothing then, so it must not keep a run from going on
        if not re.fullmatch('[A-Za-z0-9_-]+', self.name):
            raise CompSRTError(f'`name` may hold ASCII letters, digits, `-` and `_` only, got `{self.name}`.')
        if not self.scales or self.scales[0] < 2:
            raise CompSRTError(f'`scale` must be at least 2, got {list(self.scales)}.')
        if self.crop < 0 or (self.crop and self.step < 1):
            raise CompSRTError(
                f'`crop` must be 0 or more and `step` at least 1, got crop {self.crop} and step {self.step}.'
            )
        if self.crop and (self.crop % self.multiple or self.step % self.multiple):
            raise CompSRTError(
                f'`crop` and `step` must divide by every scale, so by {self.multiple}, '
                f'got crop {self.crop} and step {self.step}.'
            )

    @property
    def multiple(self) -> int:
        """Least common multiple of the scales: the sides of every HR crop divide by it."""
        return math.lcm(*self.scales)

    @property
    def stem(self) -> str:
        """Start of the working files' names."""
        return f'{self.name}_sub' if self.crop else self.name

    def outputs(self, out: Path) -> dict[int, Path]:
        """Returns the folder of each LMDB by scale; scale 1 is the high resolution."""
        tail = '_sub.lmdb' if self.crop else '.lmdb'
        parts = {1: 'HR', **{scale: f'LRx{scale}' for scale in self.scales}}
        return {scale: out / f'{self.name}_{part}{tail}' for scale, part in parts.items()}


@dataclass(frozen=True)
class PrepareResult:
    """What `prepare` made: the LMDB of each scale (1 = HR), counts, and why pictures were left out, by file name."""

    outputs: dict[int, Path]
    pictures: int
    entries: int
    skipped: dict[str, str]


def window_corners(height: int, width: int, crop: int, step: int) -> list[tuple[int, int]]:
    """Returns the top left corners of the sub-images, row by row, as BasicSR's extract_subimages with threshold 0."""

    def starts(length: int) -> list[int]:
        found = list(range(0, length - crop + 1, step))
        return found if found[-1] + crop == length else [*found, length - crop]

    return [(top, left) for top in starts(height) for left in starts(width)]


def entries(key: str, picture: np.ndarray, settings: PrepareSettings) -> Iterator[tuple[str, int, np.ndarray]]:
    """Yields the key, scale (1 = HR) and pixels of everything one picture gives.

    Args:
        key: the picture's key; sub-images get `_s001` and so on behind it.
        picture: uint8 (H, W), or (H, W, 3) in the order red, green, blue.
        settings: what to make.
    """
    if picture.ndim == 2:
        picture = np.repeat(picture[..., None], 3, axis=2)  # BasicSR trains on three channels
    whole = mod_crop(picture, settings.multiple)
    for scale in (*settings.scales, 1):
        image = downscale(whole, scale) if scale > 1 else whole
        if not settings.crop:
            yield key, scale, image
            continue
        side = settings.crop // scale
        corners = window_corners(*image.shape[:2], side, settings.step // scale)
        for number, (top, left) in enumerate(corners, start=1):
            yield f'{key}_s{number:03d}', scale, image[top : top + side, left : left + side]


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
    """Makes one HR LMDB and one LR LMDB per scale from the pictures of a folder.

    A run that was killed goes on where it stopped when it is given again. The LMDBs appear under their names only
    when all of them are complete.

    Args:
        folder: the pictures; subfolders are not read.
        out: folder for the LMDBs; made if missing.
        settings: what to make.
        skip_bad: leave out pictures that cannot be used instead of refusing.
        force: replace LMDBs that exist.
        restart: throw an unfinished run away instead of going on with it.
        progress: display of the work.
        commit_bytes: bytes of PNG data after which the work is committed.
        map_size: first LMDB map size in bytes.

    Raises:
        CompSRTError: unusable pictures, names that collide, existing output, an unfinished run with other settings or
            pictures, or a full disk.
    """
    sources = list_pictures(folder)
    owners = unique_names(sources, picture_key)
    out.mkdir(parents=True, exist_ok=True)
    with _full_disk_is_resumable(out):
        job = prepare_job.open_job(out, settings, sources, force=force, restart=restart)
        if job.bad is None:
            job.bad = check_pictures(sources, settings.crop or settings.multiple, progress)
        good = set(good_pictures(sources, job.bad, skip_bad))
        if job.stage == prepare_job.WRITING:
            job.save()
            with ExitStack() as stack:
                writers = {s: stack.enter_context(LmdbWriter(path, map_size)) for s, path in job.partials.items()}
                todo = [(key, path) for key, path in owners.items() if path in good]
                _write(todo, writers, settings, progress, commit_bytes)
                for writer in writers.values():
                    writer.write_meta_info()
            job.stage = prepare_job.FINISHING
            job.save()
        job.finish()
    with (job.outputs[1] / 'meta_info.txt').open(encoding='ascii') as file:
        count = sum(1 for _ in file)
    return PrepareResult(job.outputs, len(good), count, job.bad)


def _write(
    todo: Sequence[tuple[str, Path]],
    writers: dict[int, LmdbWriter],
    settings: PrepareSettings,
    progress: Progress,
    commit_bytes: int,
) -> None:
    """Writes the pictures that are missing.

    A batch holds whole pictures and reaches the HR LMDB last, so a picture in the HR LMDB is complete everywhere.
    """
    done = writers[1].keys()

    def commit() -> None:
        for scale in sorted(writers, reverse=True):
            writers[scale].commit()

    for key, path in progress.track(todo, 'write', 'image'):
        if (f'{key}_s001' if settings.crop else key) in done:
            continue
        for entry_key, scale, image in entries(key, read_picture(path), settings):
            writers[scale].put(entry_key, encode_png(image))
        if sum(writer.pending_bytes for writer in writers.values()) >= commit_bytes:
            commit()
    commit()


def write_lr_folder(
    folder: Path,
    out: Path,
    scale: int,
    *,
    skip_bad: bool = False,
    force: bool = False,
    progress: Progress = SILENT,
) -> tuple[list[Path], dict[str, str]]:
    """Writes `{stem}x{scale}.png` for each picture of a folder, cropped to a multiple of `scale` first.

    Grey pictures stay grey. Each file appears only when it is complete.

    Returns:
        The files written, and why pictures were left out, by file name.

    Raises:
        CompSRTError: unusable pictures, names that collide, existing files without `force`, or a full disk.
    """
    if scale < 2:
        raise CompSRTError(f'`scale` must be at least 2, got {scale}.')
    if out.resolve() == folder.resolve():
        raise CompSRTError(f'`{out}` holds the high-resolution pictures; give another folder for the results.')
    sources = list_pictures(folder)
    owners = unique_names(sources, lambda path: f'{path.stem}x{scale}.png')
    existing = [name for name in owners if (out / name).exists()]
    if existing and not force:
        raise CompSRTError(
            f'{len(existing)} of the results exist already, the first is `{out / existing[0]}`; '
            'give --force to write them again, or another folder.'
        )
    bad = check_pictures(sources, scale, progress)
    good = set(good_pictures(sources, bad, skip_bad))
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for name, path in progress.track([item for item in owners.items() if item[1] in good], 'write', 'image'):
        written.append(out / name)
        write_bytes(written[-1], encode_png(downscale(mod_crop(read_picture(path), scale), scale), 9))
    return written, bad


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
            'it goes on where it stopped.'
        ) from error
