"""`compsrt data get` and `compsrt data check`: the data sets of the catalog."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from compsrt_basicsr.cli.common import EXIT_ERROR
from compsrt_basicsr.cli.data import FOLDER, option_lines
from compsrt_basicsr.utils.progress import TERMINAL

if TYPE_CHECKING:
    from compsrt_basicsr.data.catalog import Dataset
    from compsrt_basicsr.data.check import Report
    from compsrt_basicsr.data.get import Step

_OUT = click.option('-o', '--out', type=FOLDER, default='datasets', show_default=True, help='Folder of the data sets.')
_SCALES = click.option(
    '--scale', 'scales', type=int, multiple=True, default=(2, 3, 4), show_default=True, help='Factor; several allowed.'
)


@click.command()
@click.argument('names', nargs=-1)
@_OUT
@_SCALES
@click.option('--from', 'source', type=FOLDER, help='Take the one data set named from this archive or folder.')
@click.option('--accept-terms', is_flag=True, help='Accept the terms of the data sets, which you have read.')
@click.option('--skip-lmdb', is_flag=True, help='Get the images only.')
@click.option('--keep-archives/--remove-archives', default=True, show_default=True, help='Whether archives stay.')
@click.option('--force', is_flag=True, help='Replace LMDBs that exist.')
@click.option('--restart', is_flag=True, help='Discard unfinished LMDBs instead of resuming them.')
@click.option('--dry-run', is_flag=True, help='Only list what would be done, and how large it is.')
def get(
    names: tuple[str, ...],
    out: Path,
    scales: tuple[int, ...],
    source: Path | None,
    accept_terms: bool,
    skip_lmdb: bool,
    keep_archives: bool,
    force: bool,
    restart: bool,
    dry_run: bool,
) -> None:
    """Download the data sets NAMES, check them, and make their LMDBs. Without NAMES, list the known data sets.

    What is there is kept. Give the same command again to resume one that was interrupted. DF2K is DIV2K and Flickr2K.
    """
    from compsrt_basicsr.data.catalog import find, load_catalog

    catalog = load_catalog()
    if not names:
        click.echo(_listing(catalog.values()))
        return
    from compsrt_basicsr.data import get as work

    datasets = find(names, catalog)
    for dataset in datasets:
        click.echo(f'Terms of {dataset.name}: {dataset.licence} ({dataset.terms})')
    if dry_run:
        steps = work.plan(
            names, out, scales, source=source, accept_terms=accept_terms, lmdb=not skip_lmdb, catalog=catalog
        )
        click.echo(_plan_text(steps, out))
        return
    ready = work.ensure(
        names,
        out,
        scales,
        source=source,
        accept_terms=accept_terms,
        lmdb=not skip_lmdb,
        catalog=catalog,
        keep_archives=keep_archives,
        force=force,
        restart=restart,
        progress=TERMINAL,
        report=click.echo,
    )
    for item in ready:
        click.echo(f'{item.name}: complete.' if item.pairs else f'{item.name}: the images are in {item.images}.')
    for item in ready:
        _echo_options(item.name, item.pairs)


@click.command()
@click.argument('names', nargs=-1)
@_OUT
@_SCALES
@click.option('--deep', is_flag=True, help='Decode every image and every entry of the LMDBs.')
def check(names: tuple[str, ...], out: Path, scales: tuple[int, ...], deep: bool) -> None:
    """Show which of the data sets NAMES are complete, missing or corrupt, and the option lines to use.

    Without NAMES, check all data sets that are there. The exit status is 1 if a data set in NAMES is missing, or
    anything is corrupt.
    """
    from compsrt_basicsr.data import check as work
    from compsrt_basicsr.data.catalog import find, load_catalog

    catalog = load_catalog()
    datasets = find(names, catalog) if names else list(catalog.values())
    reports = []
    for dataset in datasets:
        asked = work.asked_or_present(dataset, out, scales, bool(names))
        report = work.check(dataset, out, asked, deep=deep, progress=TERMINAL)
        if names or report.there:
            reports.append(report)
    if not reports:
        click.echo(f'{out} holds none of the data sets {", ".join(catalog)}.')
    for report in reports:
        click.echo(_state(report, out))
    for report in reports:
        _echo_options(report.dataset.name, report.pairs)
    if not all(report.complete for report in reports):
        click.get_current_context().exit(EXIT_ERROR)


def _state(report: Report, out: Path) -> str:
    """Returns the lines of `check` for one data set."""
    name = report.dataset.name
    lines = []
    if report.pairs:
        scales = ', '.join(f'x{scale}' for scale in report.pairs)
        kept = '' if report.kept else '; the images themselves are not kept'
        lines.append(f'{name}: complete for {scales}{kept}')
    elif report.kept and not report.image_errors:
        lines.append(f'{name}: the images are there')
    lines += [f'{name}: CORRUPT, {out / name / "HR"} {error}' for error in report.image_errors]
    lines += [f'{name}: CORRUPT for x{scale}, {error}' for scale, found in report.corrupt.items() for error in found]
    if report.missing:
        scales = ', '.join(f'x{scale}' for scale in report.missing)
        command = f'compsrt data get {name} -o {shlex.quote(str(out))}'
        command += ''.join(f' --scale {scale}' for scale in report.missing)
        lines.append(f'{name}: MISSING for {scales}; give `{command}`')
    return '\n'.join(lines)


def _listing(datasets: Iterable[Dataset]) -> str:
    """Returns the table of known data sets."""
    rows = [
        [dataset.name, dataset.role, dataset.count, dataset.title, 'no, see --from' if dataset.addressless else 'yes']
        for dataset in datasets
    ]
    return _table(rows, ['name', 'role', 'images', 'title', 'download'])


def _table(rows: list[list[Any]], headers: list[str]) -> str:
    from tabulate import tabulate

    return '\n'.join(line.rstrip() for line in tabulate(rows, headers, disable_numparse=True).splitlines())


def _plan_text(steps: list[Step], out: Path) -> str:
    """Returns the plan as a table, with the space it needs and the space that is free."""
    from compsrt_basicsr.utils.disk_space import free_bytes, size_text

    rows = []
    for step in steps:
        size = 'done' if step.done else size_text(step.bytes) if step.bytes else 'unknown'
        rows.append([step.dataset, step.kind, size, str(step.target)])
    here = out.absolute()
    while not here.exists():
        here = here.parent
    lines = [
        _table(rows, ['data set', 'step', 'about', 'makes']),
        f'About {size_text(sum(step.bytes for step in steps))} will be written; '
        f'{size_text(free_bytes(here))} are free where {out} is.',
        *(step.obstacle for step in steps if step.obstacle),
    ]
    return '\n'.join(lines)


def _echo_options(name: str, pairs: dict[int, tuple[Path, Path]]) -> None:
    for scale, (gt, lq) in sorted(pairs.items()):
        click.echo(f'\nOptions of {name} for scale {scale}:\n')
        click.echo(option_lines(gt, lq))
