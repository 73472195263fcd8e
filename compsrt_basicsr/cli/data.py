"""`compsrt data`: data sets, training LMDBs and low-resolution images."""

from __future__ import annotations

from pathlib import Path

import click

from compsrt_basicsr.cli.common import LazyGroup
from compsrt_basicsr.utils.progress import TERMINAL
from compsrt_basicsr.utils.text import counted

FOLDER = click.Path(path_type=Path)
SUBCOMMANDS = {
    'get': ('compsrt_basicsr.cli.data_sets:get', 'Download data sets and make their LMDBs.'),
    'check': ('compsrt_basicsr.cli.data_sets:check', 'Show which data sets are complete, missing or corrupt.'),
}


@click.group(cls=LazyGroup, lazy=SUBCOMMANDS)
def data() -> None:
    """Get data sets, make training LMDBs and low-resolution images.

    Low-resolution images are those of MATLAB's imresize, bit for bit. PNG, JPEG, BMP, TIFF and WebP files are read,
    8 bits per channel, grey or RGB; subfolders are not searched.
    """


@data.command()
@click.argument('folder', type=FOLDER)
@click.option('-o', '--out', type=FOLDER, required=True, help='Folder for the LMDBs.')
@click.option('--name', required=True, help='Start of their names: NAME_HR_sub.lmdb, NAME_LRx2_sub.lmdb ...')
@click.option('--scale', 'scales', type=int, multiple=True, required=True, help='Factor; may be given several times.')
@click.option('--crop', type=int, default=480, show_default=True, help='Side of HR sub-images; 0: whole images.')
@click.option('--step', type=int, default=240, show_default=True, help='Distance between HR sub-images.')
@click.option('--skip-bad', is_flag=True, help='Leave out images that cannot be used, and list them.')
@click.option('--force', is_flag=True, help='Replace LMDBs that exist, once the new ones are complete.')
@click.option('--restart', is_flag=True, help='Discard an unfinished run instead of resuming it.')
def prepare(
    folder: Path,
    out: Path,
    name: str,
    scales: tuple[int, ...],
    crop: int,
    step: int,
    skip_bad: bool,
    force: bool,
    restart: bool,
) -> None:
    """Make BasicSR LMDBs from the images in FOLDER.

    All scales share one HR LMDB: images are cropped to a multiple of every scale. Give the same command again to resume
    a run that was interrupted.
    """
    from compsrt_basicsr.data.prepare import prepare as run
    from compsrt_basicsr.data.prepare_settings import PrepareSettings

    result = run(
        folder,
        out,
        PrepareSettings(name, scales, crop, step),
        skip_bad=skip_bad,
        force=force,
        restart=restart,
        progress=TERMINAL,
    )
    _echo_skipped(result.skipped)
    entries = counted(result.entries, 'entry', 'entries')
    click.echo(f'Stored {entries} from {counted(result.images, "image")} in each LMDB.')
    for scale in sorted(result.outputs)[1:]:
        click.echo(f'\nOptions of the dataset for scale {scale}:\n')
        click.echo(option_lines(result.outputs[1], result.outputs[scale]))


@data.command()
@click.argument('folder', type=FOLDER)
@click.option('-o', '--out', type=FOLDER, required=True, help='Folder for the results.')
@click.option('--scale', type=int, required=True, help='Factor.')
@click.option('--skip-bad', is_flag=True, help='Leave out images that cannot be used, and list them.')
@click.option('--force', is_flag=True, help='Replace results that exist.')
def lr(folder: Path, out: Path, scale: int, skip_bad: bool, force: bool) -> None:
    """Write the low-resolution image {name}x{scale}.png of every image in FOLDER."""
    from compsrt_basicsr.data.lr_folder import write_lr_folder

    written, skipped = write_lr_folder(folder, out, scale, skip_bad=skip_bad, force=force, progress=TERMINAL)
    _echo_skipped(skipped)
    click.echo(f'Wrote {counted(len(written), "image")} to {out}.')


def option_lines(gt: Path, lq: Path) -> str:
    """Returns the YAML lines that make a BasicSR dataset read a pair of LMDBs."""
    import yaml

    options = {'dataroot_gt': str(gt), 'dataroot_lq': str(lq), 'io_backend': {'type': 'lmdb'}}
    return yaml.safe_dump(options, sort_keys=False, width=10**6, allow_unicode=True)


def _echo_skipped(skipped: dict[str, str]) -> None:
    for name, reason in skipped.items():
        click.echo(f'Left out: {name} {reason}.')
