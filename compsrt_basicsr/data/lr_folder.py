"""Write a folder of low-resolution images."""

from __future__ import annotations

from pathlib import Path

from compsrt_basicsr.data.bicubic import downscale, mod_crop
from compsrt_basicsr.data.images import (
    check_images,
    good_images,
    list_images,
    read_image,
    unique_names,
)
from compsrt_basicsr.data.lmdb_writer import encode_png
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.utils.atomic_write import atomic_path
from compsrt_basicsr.utils.journal import Journal
from compsrt_basicsr.utils.lock import locked
from compsrt_basicsr.utils.progress import SILENT, Progress

_COMPRESS_LEVEL = 9  # of PNG: small files


def write_lr_folder(
    folder: Path,
    out: Path,
    scale: int,
    *,
    skip_bad: bool = False,
    force: bool = False,
    progress: Progress = SILENT,
) -> tuple[list[Path], dict[str, str]]:
    """Writes `{stem}x{scale}.png` for each image of a folder, cropped to a multiple of `scale` first.

    Grey images stay grey. Each file appears only when it is complete. Called again after an interruption, it goes on.

    Args:
        folder: the high-resolution images; subfolders are not read.
        out: folder for the results; created if missing.
        scale: the factor, at least 2.
        skip_bad: leave out images that cannot be used instead of refusing.
        force: replace results that exist.
        progress: display of the work.

    Returns:
        The files written, by this call or the interrupted one, and why images were left out, by file name.

    Raises:
        CompSRTError: if images are unusable, names collide, or results exist and `force` is false.
        Busy: if another process writes images of this scale into `out`.
        OSError: if a result cannot be written, as on a full disk.
    """
    if scale < 2:
        raise CompSRTError(f'`scale` must be at least 2, got {scale}.')
    if out.resolve() == folder.resolve():
        raise CompSRTError(f'`{out}` holds the high-resolution images; give another folder for the results.')
    sources = list_images(folder)
    owners = unique_names(sources, lambda path: f'{path.stem}x{scale}.png')
    with locked(out / f'.x{scale}.lock', f'`{out}`'):
        return _write(sources, owners, out, scale, skip_bad, force, progress)


def _write(
    sources: list[Path],
    owners: dict[str, Path],
    out: Path,
    scale: int,
    skip_bad: bool,
    force: bool,
    progress: Progress,
) -> tuple[list[Path], dict[str, str]]:
    journal = Journal(out, {'command': 'lr', 'scale': scale})
    done = {name for name, path in owners.items() if journal.has(out / name, path)}
    existing = [name for name in owners if name not in done and (out / name).exists()]
    if existing and not force:
        raise CompSRTError(
            f'Results exist already ({len(existing)} of {len(owners)}), the first is `{out / existing[0]}`; '
            'give --force to write them again, or another folder.'
        )
    bad = check_images(sources, scale, progress)
    good = set(good_images(sources, bad, skip_bad))
    written = []
    for name, path in progress.track([item for item in owners.items() if item[1] in good], 'write', 'image'):
        if name not in done:
            data = encode_png(downscale(mod_crop(read_image(path), scale), scale), _COMPRESS_LEVEL)
            with atomic_path(out / name) as temporary:
                temporary.write_bytes(data)
                journal.add(out / name, temporary, path)
        written.append(out / name)
    journal.finish()
    return written, bad
