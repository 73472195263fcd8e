"""`compsrt zoo`: the models that can be named."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.utils.text import counted

if TYPE_CHECKING:
    from compsrt_basicsr.hub.catalog import Located


@click.group()
def zoo() -> None:
    """Weights by name: list, download, verify, publish.

    Option files and commands take `zoo://NAME` wherever they take a weight file, and download it when it is needed.
    Files are kept in $COMPSRT_HOME, or in the platform's cache folder. $COMPSRT_OFFLINE=1 forbids the network.
    $COMPSRT_ZOO adds zoos: folders or https addresses, separated by spaces.
    """


@zoo.command('list')
@click.option('--kind', type=click.Choice(['teacher', 'quantized', 'packed']), help='Only models of this kind.')
@click.option('--scale', type=int, help='Only models of this scale.')
def list_models(kind: str | None, scale: int | None) -> None:
    """List all models."""
    from tabulate import tabulate

    from compsrt_basicsr.hub.catalog import models

    rows = [
        _row(located)
        for located in models().values()
        if kind in (None, located.entry.kind) and scale in (None, located.entry.scale)
    ]
    if not rows:
        raise CompSRTError('No model of that kind and scale: give others, or none to see all.')
    click.echo(tabulate(rows, ['name', 'kind', 'scale', 'bits', 'MB', 'Set5 (dB)', 'file'], disable_numparse=True))


def _row(located: Located) -> list[str]:
    entry = located.entry
    psnr = (entry.quality or {}).get('Set5', {}).get('psnr')
    return [
        entry.name,
        entry.kind,
        f'x{entry.scale}',
        entry.bits,
        '' if entry.size is None else f'{entry.size / 1e6:.2f}',
        '' if psnr is None else f'{psnr:.2f}',
        'here' if located.is_here else 'to download',
    ]


@zoo.command()
@click.argument('name')
def show(name: str) -> None:
    """Show everything that is known about a model."""
    from compsrt_basicsr.hub.card import render_card
    from compsrt_basicsr.hub.catalog import find

    located = find(name)
    place = located.path if located.is_here else f'not here yet; `compsrt zoo download {located.entry.name}`'
    click.echo(render_card(located.entry, {'on this machine': place}), nl=False)


@zoo.command()
@click.argument('names', nargs=-1, required=True)
def download(names: tuple[str, ...]) -> None:
    """Download models, unless they are here, and verify them."""
    from compsrt_basicsr.hub.catalog import find
    from compsrt_basicsr.utils.progress import TERMINAL

    for located in [find(name) for name in names]:
        path = located.fetch(TERMINAL)
        status = 'as published' if located.entry.sha256 else 'recorded here: none was published'
        click.echo(f'{located.entry.name}: {path} (SHA-256 {status})')


@zoo.command()
@click.argument('names', nargs=-1)
def verify(names: tuple[str, ...]) -> None:
    """Compare models with their checksums: those NAMED, or all that are here."""
    from compsrt_basicsr.hub.catalog import find, models

    chosen = [find(name) for name in names] or [located for located in models().values() if located.is_here]
    failed = 0
    for located in chosen:
        try:
            if not located.is_here:
                raise CompSRTError(f'not here; `compsrt zoo download {located.entry.name}` fetches it.')
            located.check()
        except CompSRTError as error:
            failed += 1
            click.echo(f'{located.entry.name}: {error}')
        else:
            click.echo(f'{located.entry.name}: ok')
    if failed:
        raise CompSRTError(f'Missing or altered: {failed} of {counted(len(chosen), "model")}.')


@zoo.command()
@click.argument('name')
def path(name: str) -> None:
    """Print where the file of a model is."""
    from compsrt_basicsr.hub.catalog import find

    located = find(name)
    if not located.is_here:
        raise CompSRTError(
            f'`{located.entry.name}` is not on this machine: `compsrt zoo download {located.entry.name}` fetches it, '
            f'or put the file at `{located.path}`.'
        )
    click.echo(located.path)


@zoo.command()
@click.argument('model', metavar='FILE')
@click.option('--name', required=True, help='Name of the model: letters, digits, `_`, `.` and `-`.')
@click.option('--to', 'folder', type=click.Path(path_type=Path), help='Zoo folder; the local zoo by default.')
@click.option('--metrics', 'metrics', type=click.Path(path_type=Path), multiple=True, help="A test run's metrics.json.")
@click.option('--protocol', help='How the metrics were measured; by default as in the shipped option files.')
@click.option('--licence', default='not stated', help='Terms of the weights.')
@click.option('--origin', default='not stated', help='Who made them, and from what.')
@click.option('--citation', default='', help='What to cite.')
@click.option('--notes', default='', help='What else a user should know.')
@click.option('--force', is_flag=True, help='Replace a model of the same name.')
def add(
    model: str,
    name: str,
    folder: Path | None,
    metrics: tuple[Path, ...],
    protocol: str | None,
    licence: str,
    origin: str,
    citation: str,
    notes: str,
    force: bool,
) -> None:
    """Publish the weights FILE in a zoo folder, which others can use by its path or from any web server.

    The file is loaded first, so that nothing is published that does not work. Its card is written from what the file
    and the runs named with --metrics recorded.
    """
    from compsrt_basicsr.checkpoints.describe import architecture_line, card_rows
    from compsrt_basicsr.checkpoints.find import find_file
    from compsrt_basicsr.checkpoints.load import load_network
    from compsrt_basicsr.hub.catalog import asked_before, local_zoo
    from compsrt_basicsr.hub.entry import Entry
    from compsrt_basicsr.hub.publish import publish, read_quality
    from compsrt_basicsr.packing.container import is_packed

    file = find_file(model)
    loaded = load_network(file)
    quant = loaded.record['quant'] or {}
    quality = {dataset: values for one in metrics for dataset, values in read_quality(one).items()}
    usual = f'Y channel, border {loaded.scale}, symmetric padding' if quality else ''
    entry = Entry(
        name=name,
        kind='packed' if is_packed(file) else 'quantized' if quant else 'teacher',
        file=file.name,
        scale=loaded.scale,
        architecture=architecture_line(loaded),
        weight_bits=quant.get('weight_bits'),
        act_bits=quant.get('act_bits'),
        licence=licence,
        origin=origin,
        citation=citation,
        quality=quality or None,
        protocol=usual if protocol is None else protocol,
        notes=notes,
    )
    target = folder or local_zoo()
    published = publish(file, entry, target, details=card_rows(loaded), force=force)
    click.echo(
        f'{target / published.file} ({published.size:,} bytes), card {name}.md, listed in {target / "index.yml"}.'
    )
    if (earlier := asked_before(name, target)) is not None:
        click.echo(f'On this machine, `{name}` is still that of {earlier}, which is asked first.', err=True)
