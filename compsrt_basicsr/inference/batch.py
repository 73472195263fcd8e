"""Enlarging many pictures: what goes where, and going on when one of them is broken."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from compsrt_basicsr.checkpoints.load import LoadedNetwork
from compsrt_basicsr.data.pictures import PictureError, list_pictures
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.inference.picture_io import FORMATS, format_fault, picture_size, read_picture, write_picture
from compsrt_basicsr.inference.upscale import Advance, UpscaleSettings, check_settings, upscale

_HOPELESS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)  # no later picture would fare better


@dataclass(frozen=True)
class Job:
    """One picture to enlarge.

    Attributes:
        source, target: where it is, and where the result goes.
        pixels: of the source.
    """

    source: Path
    target: Path
    pixels: int


@dataclass
class Plan:
    """What a command is to do.

    Attributes:
        jobs: pictures whose header is sound, in the order given.
        faults: a sentence for each input that cannot be used.
        format: key of `FORMATS` for all results, or None for that of each input.
    """

    jobs: list[Job] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    format: str | None = None

    @property
    def pixels(self) -> int:
        """Of all sources together."""
        return sum(job.pixels for job in self.jobs)


def make_plan(inputs: Sequence[Path], out: Path, file_format: str | None = None, suffix: str = '') -> Plan:
    """Decides what is enlarged and under which names; reads headers only and writes nothing.

    Args:
        inputs: pictures and folders; of a folder all pictures in it, hidden ones and subfolders left out.
        out: folder for the results.
        file_format: key of `FORMATS` for all results; None: that of each input.
        suffix: put between a picture's name and its extension.

    Raises:
        CompSRTError: two results would have one name, a result would replace an input, `out` is a file, or `suffix` is
            no part of a file name.
    """
    if Path(f'x{suffix}').name != f'x{suffix}':
        raise CompSRTError(f'`--suffix {suffix}` must be a part of a file name: give one without `/`.')
    if out.exists() and not out.is_dir():
        raise CompSRTError(f'`{out}` is a file; give a folder for the results.')
    plan = Plan(format=file_format)
    sources = _sources(inputs, plan.faults)
    targets = _targets(sources, out, file_format, suffix)
    for source, target in zip(sources, targets):
        try:
            height, width = picture_size(source)
        except CompSRTError as error:
            plan.faults.append(str(error))
        else:
            plan.jobs.append(Job(source, target, height * width))
    return plan


def _sources(inputs: Sequence[Path], faults: list[str]) -> list[Path]:
    """All pictures, each once."""
    found: dict[Path, Path] = {}
    for path in inputs:
        try:
            pictures = list_pictures(path) if path.is_dir() else [path]
        except CompSRTError as error:
            faults.append(str(error))
            continue
        for picture in pictures:
            found.setdefault(picture.resolve(), picture)
    return list(found.values())


def _targets(sources: Sequence[Path], out: Path, file_format: str | None, suffix: str) -> list[Path]:
    owners: dict[Path, Path] = {}
    folders = {source.parent.resolve() for source in sources}
    if out.resolve() in folders and not suffix:
        raise CompSRTError(f'`{out}` holds pictures to enlarge: give another folder for the results, or a --suffix.')
    taken = {source.resolve() for source in sources}
    for source in sources:
        extension = FORMATS[file_format].extension if file_format else source.suffix
        target = out / f'{source.stem}{suffix}{extension}'
        if target in owners:
            raise CompSRTError(
                f'`{owners[target]}` and `{source}` would both be written to `{target}`: rename one of them, or '
                'enlarge them into folders of their own.'
            )
        if target.resolve() in taken:
            raise CompSRTError(f'The result of `{source}` would replace `{target}`, another input: change --suffix.')
        owners[target] = source
    return list(owners)


def run_plan(
    plan: Plan,
    model: LoadedNetwork,
    settings: UpscaleSettings,
    *,
    force: bool = False,
    report: Callable[[str], object] = lambda sentence: None,
    advance: Advance = lambda pixels: None,
) -> list[Path]:
    """Enlarges all pictures; one that fails is reported and the others go on.

    Args:
        plan: from `make_plan`.
        model: the network.
        settings: tile and arithmetic.
        force: replace results that exist.
        report: told a sentence for each failure.
        advance: told how many more pixels of the sources are done, failed ones included.

    Returns:
        The files written.

    Raises:
        CompSRTError: settings that do not fit the model.
        OSError: nothing more can be written, as on a full disk.
    """
    check_settings(model, settings)
    written = []
    for fault in plan.faults:
        report(fault)
    for job in plan.jobs:
        done = 0

        def count(pixels: int) -> None:
            nonlocal done
            done += pixels
            advance(pixels)

        try:
            _run(job, plan.format, model, settings, force, count)
        except PictureError as error:
            report(str(error))
        except CompSRTError as error:
            report(f'`{job.source}` cannot be enlarged: {error}')
        except MemoryError:
            report(f'`{job.source}` and its result do not fit into memory; cut it into parts.')
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno in _HOPELESS:
                error.filename = str(job.target)  # not the hidden file beside it
                raise
            report(f'`{job.target}` could not be written ({getattr(error, "strerror", None) or error}).')
        else:
            written.append(job.target)
        advance(job.pixels - done)
    return written


def _run(
    job: Job, file_format: str | None, model: LoadedNetwork, settings: UpscaleSettings, force: bool, count: Advance
) -> None:
    _check_free(job.target, force)
    picture = read_picture(job.source)
    key = file_format or picture.format
    height, width = (length * model.scale for length in picture.values.shape[:2])
    fault = format_fault(picture, key, height, width)
    if fault:
        raise CompSRTError(f'it {fault}.')
    enlarged = replace(picture, values=upscale(model, picture.values, settings, count), format=key)
    job.target.parent.mkdir(parents=True, exist_ok=True)
    try:
        write_picture(job.target, enlarged, replace=force)
    except FileExistsError:
        _check_free(job.target, force)
        raise


def _check_free(target: Path, force: bool) -> None:
    if target.is_dir():
        raise CompSRTError(f'`{target}` is a folder; give another one for the results.')
    if target.exists() and not force:
        raise CompSRTError(f'`{target}` exists; give --force to replace it, or another folder.')
