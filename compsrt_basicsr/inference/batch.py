"""Upscale many images: decide which file becomes which, and continue when one image fails."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from compsrt_basicsr.checkpoints.load import LoadedNetwork
from compsrt_basicsr.data.images import ImageError, list_images
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.inference.image_io import FORMATS, format_error, image_size, read_image_file, write_image_file
from compsrt_basicsr.inference.upscale import Advance, UpscaleSettings, check_settings, upscale
from compsrt_basicsr.utils.journal import Journal
from compsrt_basicsr.utils.out_of_memory import is_out_of_memory

_HOPELESS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)  # later images would fail as well


@dataclass(frozen=True)
class ImageTask:
    """One image to upscale.

    Attributes:
        source: the image.
        target: the result.
        height: of the source in pixels.
        width: of the source in pixels.
    """

    source: Path
    target: Path
    height: int
    width: int

    @property
    def pixels(self) -> int:
        """Number of pixels of the source."""
        return self.height * self.width


@dataclass
class Plan:
    """What a command is to do.

    Attributes:
        tasks: images with a sound header, in the order given.
        errors: a sentence for each input that cannot be used.
        format: key of `FORMATS` for all results, or None for that of each input.
    """

    tasks: list[ImageTask] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    format: str | None = None

    @property
    def pixels(self) -> int:
        """Number of pixels of all sources."""
        return sum(task.pixels for task in self.tasks)

    @property
    def longest(self) -> int:
        """Longest side of all sources in pixels, 0 without any."""
        return max((max(task.height, task.width) for task in self.tasks), default=0)


def make_plan(inputs: Sequence[Path], out: Path, file_format: str | None = None, suffix: str = '') -> Plan:
    """Decides which images are upscaled to which names; reads headers only and writes nothing.

    Args:
        inputs: images and folders; of a folder, all images in it except hidden ones and those in subfolders. A link
            counts like a file.
        out: folder for the results.
        file_format: key of `FORMATS` for all results; None: that of each input.
        suffix: put between an image's name and its extension.

    Raises:
        CompSRTError: if two results would have one name, a result would replace an input, `out` is a file, or `suffix`
            cannot be part of a file name.
    """
    if Path(f'x{suffix}').name != f'x{suffix}':
        raise CompSRTError(f'`--suffix {suffix}` must be a part of a file name: give one without `/`.')
    if out.exists() and not out.is_dir():
        raise CompSRTError(f'`{out}` is a file; give a folder for the results.')
    plan = Plan(format=file_format)
    sources = _sources(inputs, plan.errors)
    targets = _targets(sources, out, file_format, suffix)
    for source, target in zip(sources, targets):
        try:
            height, width = image_size(source)
        except CompSRTError as error:
            plan.errors.append(str(error))
        else:
            plan.tasks.append(ImageTask(source, target, height, width))
    return plan


def _sources(inputs: Sequence[Path], errors: list[str]) -> list[Path]:
    """Returns all images, each once, however often it is given."""
    found: dict[Path, Path] = {}
    for path in inputs:
        try:
            images = list_images(path) if path.is_dir() else [path]
        except CompSRTError as error:
            errors.append(str(error))
            continue
        for image in images:
            found.setdefault(_place(image), image)
    return list(found.values())


def _place(path: Path) -> Path:
    """Returns folder and name without links in the folder; a link itself is an image of its own."""
    return path.parent.resolve() / path.name


def _targets(sources: Sequence[Path], out: Path, file_format: str | None, suffix: str) -> list[Path]:
    owners: dict[Path, Path] = {}
    folders = {source.parent.resolve() for source in sources}
    if out.resolve() in folders and not suffix:
        raise CompSRTError(f'`{out}` holds images to upscale: give another folder for the results, or a --suffix.')
    taken = {place for source in sources for place in (_place(source), source.resolve())}
    for source in sources:
        extension = FORMATS[file_format].extension if file_format else source.suffix
        target = out / f'{source.stem}{suffix}{extension}'
        if target in owners:
            raise CompSRTError(
                f'`{owners[target]}` and `{source}` would both be written to `{target}`: rename one of them, or '
                'upscale them into separate folders.'
            )
        if target.resolve() in taken or _place(target) in taken:
            raise CompSRTError(f'The result of `{source}` would replace `{target}`, another input: change --suffix.')
        owners[target] = source
    return list(owners)


def run_plan(
    plan: Plan,
    model: LoadedNetwork,
    settings: UpscaleSettings,
    *,
    force: bool = False,
    journal: Journal | None = None,
    report: Callable[[str], object] = lambda sentence: None,
    warn: Callable[[str], object] = lambda sentence: None,
    advance: Advance = lambda pixels: None,
) -> list[Path]:
    """Upscales all images. One that fails is reported, and the others continue.

    Args:
        plan: from `make_plan`.
        model: the network.
        settings: tile and arithmetic.
        force: replace results that exist.
        journal: of the command, whose results of an interrupted call are kept.
        report: receives a sentence for each failure.
        warn: receives a sentence for each piece of metadata that a result lacks.
        advance: receives how many more pixels of the sources are done, failed ones included.

    Returns:
        The files written, by this call or the interrupted one.

    Raises:
        CompSRTError: if the settings do not fit the model.
        OSError: if nothing more can be written, as on a full disk.
    """
    check_settings(model, settings)
    written = []
    for sentence in plan.errors:
        report(sentence)
    for task in plan.tasks:
        done = 0

        def count(pixels: int) -> None:
            nonlocal done
            done += pixels
            advance(pixels)

        try:
            if journal is not None and journal.has(task.target, task.source):
                lost = []
            else:
                lost = _run(task, plan.format, model, settings, force, journal, count)
        except ImageError as error:
            report(str(error))
        except CompSRTError as error:
            report(f'`{task.source}` cannot be upscaled: {error}')
        except Exception as error:
            if is_out_of_memory(error):
                report(f'`{task.source}` and its result need more memory than is free: cut the image into parts.')
                advance(task.pixels - done)
                continue
            if not isinstance(error, (OSError, ValueError)):
                raise
            if isinstance(error, OSError) and error.errno in _HOPELESS:
                raise OSError(error.errno, error.strerror, str(task.target)) from error  # not the temporary file
            report(f'`{task.target}` could not be written ({getattr(error, "strerror", None) or error}).')
        else:
            written.append(task.target)
            for what in lost:
                warn(lost_sentence(task.target, what))
        advance(task.pixels - done)
    if journal is not None and len(written) == len(plan.tasks) and not plan.errors:
        journal.finish()
    return written


def _run(
    task: ImageTask,
    file_format: str | None,
    model: LoadedNetwork,
    settings: UpscaleSettings,
    force: bool,
    journal: Journal | None,
    count: Advance,
) -> list[str]:
    """Upscales an image; returns what of its metadata is lost."""
    _check_free(task.target, force)
    image = read_image_file(task.source)
    key = file_format or image.format
    height, width = (length * model.scale for length in image.values.shape[:2])
    reason = format_error(image, key, height, width)
    if reason:
        raise CompSRTError(f'it {reason}.')
    upscaled = replace(image, values=upscale(model, image.values, settings, count), format=key)
    task.target.parent.mkdir(parents=True, exist_ok=True)

    def note(temporary: Path) -> None:
        if journal is not None:
            journal.add(task.target, temporary, task.source)

    try:
        return write_image_file(task.target, upscaled, replace=force, written=note)
    except FileExistsError:
        _check_free(task.target, force)
        raise


def lost_sentence(target: Path, what: str) -> str:
    """Returns the sentence for metadata that `write_image_file` could not keep."""
    return f'`{target}` lacks {what}.'


def _check_free(target: Path, force: bool) -> None:
    if target.is_dir():
        raise CompSRTError(f'`{target}` is a folder; give another one for the results.')
    if target.exists() and not force:
        raise CompSRTError(f'`{target}` exists; give --force to replace it, or another folder.')
