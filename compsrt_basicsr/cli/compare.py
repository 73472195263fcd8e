"""`compsrt compare`: networks side by side on one image."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from compsrt_basicsr.cli.common import choose_device, device_option, execution_option
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.inference.tiling import TILE
from compsrt_basicsr.utils.atomic_write import write_bytes, write_text
from compsrt_basicsr.utils.plain_json import json_text
from compsrt_basicsr.utils.progress import PIXELS, TERMINAL
from compsrt_basicsr.utils.text import counted

if TYPE_CHECKING:
    from compsrt_basicsr.study.compare.results import Comparison

FILE = click.Path(path_type=Path)
RESERVED = ('bicubic', 'teacher', 'HR')  # labels of the other columns


@click.command()
@click.argument('image', type=FILE)
@click.argument('models', nargs=-1, required=True)
@click.option('-o', '--out', type=FILE, required=True, help='The figure: .png, .svg or .pdf.')
@click.option('--teacher', help='Full-precision network, shown before the models.')
@click.option('--label', 'labels', multiple=True, help='Name of a model in the figure, once for each model.')
@click.option('--lr', type=FILE, help='The small image.  [default: IMAGE, reduced bicubically]')
@click.option('--region', 'regions', multiple=True, metavar='X,Y,W,H', help='Detail to show, in pixels of IMAGE.')
@click.option(
    '--find',
    'count',
    type=click.IntRange(1),
    default=2,
    show_default=True,
    help='Number of details to find without --region.',
)
@click.option(
    '--region-size', 'side', type=int, default=64, show_default=True, help='Side of a found detail, in pixels.'
)
@click.option('--dpi', type=click.IntRange(20, 1200), default=300, show_default=True, help='Pixels per inch.')
@click.option('--tile', type=int, default=TILE, show_default=True, help='See `compsrt upscale`.')
@device_option
@execution_option
def compare(
    image: Path,
    models: tuple[str, ...],
    out: Path,
    teacher: str | None,
    labels: tuple[str, ...],
    lr: Path | None,
    regions: tuple[str, ...],
    count: int,
    side: int,
    dpi: int,
    tile: int,
    device: str | None,
    execution: str,
) -> None:
    """Draw details of IMAGE, an original, as bicubic interpolation and MODELS restore them.

    MODELS are checkpoints, packed files or names of the zoo, all of one scale. The details, and maps of their error,
    are those where the errors of the networks differ most, unless --region chooses them. The tables, and a JSON file
    beside the figure, also show the sharpness of each result, compared with the original and the teacher: the energy
    of its gradient, and the share of its spectrum that the small image cannot hold.
    """
    from compsrt_basicsr.inference.upscale import UpscaleSettings
    from compsrt_basicsr.study.compare.figure import check_figure_file, draw, error_limit
    from compsrt_basicsr.study.compare.regions import parse_region
    from compsrt_basicsr.study.compare.report import details_table, to_json, whole_table
    from compsrt_basicsr.study.compare.run import RegionChoice, load_contenders, make_pair, read_rgb, run_comparison
    from compsrt_basicsr.version import __version__

    check_figure_file(out)
    if out.exists() and any(file and file.exists() and out.samefile(file) for file in (image, lr)):
        raise CompSRTError(f'The figure would replace its input `{out}`: give it another name.')
    choice = RegionChoice(tuple(map(parse_region, regions)), count, side)
    names = choose_labels(models, labels)
    original = read_rgb(image)
    contenders = load_contenders(models, names, teacher, choose_device(device), execution)
    pair = make_pair(image, original, contenders[0].model.scale, lr)
    pixels = len(contenders) * pair.small.shape[0] * pair.small.shape[1]
    with TERMINAL.start('compare', pixels, PIXELS) as bar:
        found = run_comparison(pair, contenders, choice, UpscaleSettings(tile=tile), bar.update)
    about = {'version': __version__, 'error_limit': error_limit(found)}
    record = out.with_suffix('.json')
    write_bytes(out, draw(found, out.suffix.lower(), dpi))
    text = json_text(to_json(found, about), indent=2)
    write_text(record, text)
    click.echo(f'{whole_table(found)}\n\n{_regions_line(found, count)}\n\n{details_table(found)}\n')
    click.echo(f'Wrote {out} and {record}.')


def choose_labels(models: tuple[str, ...], labels: tuple[str, ...]) -> list[str]:
    """Returns the given labels, or the names of the models without folder and suffix.

    Raises:
        CompSRTError: if their number is not that of the models, or one would label two columns.
    """
    if labels and len(labels) != len(models):
        raise CompSRTError(f'{len(labels)} `--label` for {counted(len(models), "model")}: give one for each, or none.')
    from compsrt_basicsr.checkpoints.find import short_name

    chosen = list(labels or (short_name(model) for model in models))
    if blank := next((label for label in chosen if not label.strip()), None):
        raise CompSRTError(f'`--label` {blank!r} is blank: give letters.')
    counts = Counter([*chosen, *RESERVED])
    if double := next((label for label in chosen if counts[label] > 1), None):
        raise CompSRTError(f'`{double}` would label two columns: give each model its own `--label`.')
    return chosen


def _regions_line(found: Comparison, count: int) -> str:
    from compsrt_basicsr.study.compare.report import region_name

    places = ', '.join(f'{region_name(number)} {region}' for number, region in enumerate(found.regions))
    few = f' (there was no room for {count})' if found.found and len(found.regions) < count else ''
    return f'Regions (X,Y,W,H), {"where errors differ most" if found.found else "as chosen"}: {places}{few}'
