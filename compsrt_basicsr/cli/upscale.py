"""`compsrt upscale`: upscale images with a network."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from compsrt_basicsr.cli.common import choose_device, device_option, execution_option
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.utils.journal import Journal
from compsrt_basicsr.utils.progress import PIXELS, TERMINAL
from compsrt_basicsr.utils.text import counted
from compsrt_basicsr.utils.threads import THREADS

if TYPE_CHECKING:
    from compsrt_basicsr.checkpoints.load import LoadedNetwork
    from compsrt_basicsr.inference.upscale import UpscaleSettings


@click.command()
@click.argument('model')
@click.argument('inputs', nargs=-1, metavar='INPUTS...', type=click.Path(path_type=Path))
@click.option('-o', '--out', type=click.Path(path_type=Path), required=True, help='Folder for the results.')
@click.option('--scale', type=int, help='Refuse a model of another scale.')
@click.option(
    '--tile',
    type=int,
    help='Largest side in pixels that the network sees at once; 0: whole images.  [default: 128 to 512, by the memory]',
)
@device_option
@click.option('--dtype', type=click.Choice(['float32', 'bf16', 'fp16']), default='float32', show_default=True)
@execution_option
@click.option('--format', 'file_format', type=click.Choice(['png', 'jpeg', 'webp', 'tiff', 'bmp']),
              help='Format of the results.  [default: that of each image]')  # fmt: skip
@click.option('--suffix', default='', help='Put after the names: `--suffix _x2` makes a.png a_x2.png.')
@click.option('--force', is_flag=True, help='Replace results that exist.')
def upscale(
    model: str,
    inputs: tuple[Path, ...],
    out: Path,
    scale: int | None,
    tile: int | None,
    device: str | None,
    dtype: str,
    execution: str,
    file_format: str | None,
    suffix: str,
    force: bool,
) -> None:
    """Upscale images: INPUTS are files or folders, MODEL is a checkpoint, a packed file or a name of the zoo.

    Reads PNG, JPEG, WebP, TIFF and BMP. Grey, alpha, 16 bits per channel and the description of colours are kept, EXIF
    orientation is applied. An image that cannot be upscaled is reported, and the others continue; the exit status is
    then 1. Metadata that a result cannot hold is reported too. Give the same command again after an interruption: it
    goes on. A line says how the model computes: by default the fastest way, with a thread for each free core.
    """
    if not inputs:
        raise CompSRTError(f'Only `{model}` is given: `compsrt upscale` takes images after a model{_such_as(scale)}.')
    from compsrt_basicsr.checkpoints.find import find_file
    from compsrt_basicsr.checkpoints.load import load_network
    from compsrt_basicsr.inference.batch import make_plan, run_plan
    from compsrt_basicsr.inference.upscale import UpscaleSettings

    plan = make_plan(inputs, out, file_format, suffix)
    settings = UpscaleSettings(dtype=dtype) if tile is None else UpscaleSettings(tile=tile, dtype=dtype)
    loaded = load_network(model, choose_device(device))
    if scale not in (None, loaded.scale):
        raise CompSRTError(
            f'`{model}` upscales by {loaded.scale}, not {scale}: give a model of that scale{_such_as(scale)}.'
        )
    file = find_file(loaded.source).stat()
    journal = Journal(
        out,
        {
            'command': 'upscale',
            'model': [loaded.source, file.st_size, file.st_mtime_ns],
            'settings': {**asdict(settings), 'tile': tile},
            'execution': execution,
            'device': device,
            'format': file_format,
            'suffix': suffix,
        },
    )
    settings = _prepare(loaded, settings, execution, plan.longest, tile is None)
    failed = 0

    def report(sentence: str) -> None:
        nonlocal failed
        failed += 1
        TERMINAL.write(f'Failed: {sentence}')

    def warn(sentence: str) -> None:
        TERMINAL.write(f'Warning: {sentence}')

    def advance(pixels: int) -> None:
        bar.update(pixels)
        THREADS.choose_again()

    with TERMINAL.start('upscale', plan.pixels, PIXELS) as bar:
        written = run_plan(
            plan, loaded, settings, force=force, journal=journal, report=report, warn=warn, advance=advance
        )
    if written:
        click.echo(f'Wrote {counted(len(written), "image")} to {out}.')
    if failed:
        raise CompSRTError(f'{failed} of {counted(failed + len(written), "input")} failed; the lines above say why.')


def _such_as(scale: int | None) -> str:
    """Returns the packed models that come with the package, of a scale or of all, after `, such as `."""
    from compsrt_basicsr.hub.catalog import PACKAGE
    from compsrt_basicsr.hub.index import read_index

    fitting = [e.name for e in read_index(PACKAGE).values() if e.kind == 'packed' and scale in (None, e.scale)]
    return f', such as {" or ".join(f"`{name}`" for name in fitting)}' if fitting else ''


def _prepare(
    loaded: LoadedNetwork, settings: UpscaleSettings, execution: str, longest: int, choose_tile: bool
) -> UpscaleSettings:
    """Chooses how the model computes and, if asked for, the size of tiles; says so in one line."""
    from compsrt_basicsr.checkpoints.load import QUANTIZED
    from compsrt_basicsr.inference.execution import choose_execution, way
    from compsrt_basicsr.inference.tile_size import fitting_tile
    from compsrt_basicsr.inference.upscale import check_settings, device_of

    check_settings(loaded, settings)
    chosen = choose_execution(loaded, execution)
    if choose_tile:
        settings = replace(settings, tile=fitting_tile(loaded, longest, settings.dtype))
    how = way(loaded.kind == QUANTIZED, chosen, settings.dtype)
    has_tiles = 0 < settings.tile < longest
    tiles = f'in tiles of {settings.tile} pixels' if has_tiles else 'without tiles'
    device = device_of(loaded)
    where = THREADS.text() if device.type == 'cpu' else f'on {device}'
    TERMINAL.write(f'Computing {how}, {tiles}, {where}.')
    return settings
