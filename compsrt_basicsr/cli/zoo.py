"""`compsrt zoo`: the models that can be named."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from compsrt_basicsr.errors import CompSRTError

if TYPE_CHECKING:
    from compsrt_basicsr.zoo.catalog import Located


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

    from compsrt_basicsr.zoo.catalog import models

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
    """Show everything that is known of a model."""
    from compsrt_basicsr.zoo.card import render_card
    from compsrt_basicsr.zoo.catalog import find

    located = find(name)
    place = located.path if located.is_here else f'not here yet; `compsrt zoo download {located.entry.name}`'
    click.echo(render_card(located.entry, {'on this machine': place}), nl=False)


@zoo.command()
@click.argument('names', nargs=-1, required=True)
def download(names: tuple[str, ...]) -> None:
    """Download models, unless they are here, and verify them."""
    from compsrt_basicsr.fetch.progress import byte_bar
    from compsrt_basicsr.zoo.catalog import find

    for located in [find(name) for name in names]:
        path = located.fetch(byte_bar)
        told = 'as published' if located.entry.sha256 else 'recorded here: none was published'
        click.echo(f'{located.entry.name}: {path} (SHA-256 {told})')


@zoo.command()
@click.argument('names', nargs=-1)
def verify(names: tuple[str, ...]) -> None:
    """Compare models with their checksums: those NAMED, or all that are here."""
    from compsrt_basicsr.zoo.catalog import find, models

    chosen = [find(name) for name in names] or [located for located in models().values() if located.is_here]
    faults = 0
    for located in chosen:
        try:
            if not located.is_here:
                raise CompSRTError(f'not here; `compsrt zoo download {located.entry.name}` fetches it.')
            located.check()
        except CompSRTError as error:
            faults += 1
            click.echo(f'{located.entry.name}: {error}')
        else:
            click.echo(f'{located.entry.name}: ok')
    if faults:
        raise CompSRTError(f'{faults} of {len(chosen)} models are missing or altered.')


@zoo.command()
@click.argument('name')
def path(name: str) -> None:
    """Print where the file of a model is."""
    from compsrt_basicsr.zoo.catalog import find

    located = find(name)
    if not located.is_here:
        raise CompSRTError(
            f'`{located.entry.name}` is not on this machine: `compsrt zoo download {located.entry.name}` fetches it, '
            f'or put the file at `{located.path}`.'
        )
    click.echo(located.path)
