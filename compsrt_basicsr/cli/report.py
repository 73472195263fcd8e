"""`compsrt report`: tables and figures from the runs of a sweep."""

from __future__ import annotations

from pathlib import Path

import click

from compsrt_basicsr.cli.common import EXIT_ERROR
from compsrt_basicsr.utils.text import counted


@click.command()
@click.argument('folders', metavar='FOLDER...', nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option('-o', '--out', type=click.Path(path_type=Path), help='Folder of the report; FOLDER/report by default.')
@click.option('--method', 'methods', multiple=True, help='Only rows that match, and full precision: `compsrt, part=*`.')
@click.option('--reference', help='Method with which the others are compared; compsrt by default, if it was run.')
@click.option('--allow-mixed', is_flag=True, help='Make separate tables for runs of several protocols.')
@click.option('--no-figures', is_flag=True, help='Make tables only; matplotlib is then not needed.')
def report(
    folders: tuple[Path, ...],
    out: Path | None,
    methods: tuple[str, ...],
    reference: str | None,
    allow_mixed: bool,
    no_figures: bool,
) -> None:
    """Make report.md, CSV tables and figures from the finished runs in FOLDER, which `compsrt sweep` wrote.

    Several folders make one report. Published values stand beside the measured ones. The reference is compared with
    every other method at the same scale and bits, image by image: Wilcoxon test, sign test, bootstrap interval, d_z,
    Holm's adjustment. Damaged records are listed and left out; the exit status is then 1.
    """
    from compsrt_basicsr.study.sweep.collect import read_folders
    from compsrt_basicsr.study.sweep.page import source_of, write_report

    records, errors = read_folders(folders, methods)
    file = write_report(
        records,
        out or folders[0] / 'report',
        source=source_of([str(folder) for folder in folders], methods),
        reference=reference,
        allow_mixed=allow_mixed,
        figures=not no_figures,
    )
    click.echo(f'{counted(len(records), "run")}: {file}')
    for error in errors:
        click.echo(f'Left out: {error}', err=True)
    if errors:
        raise click.exceptions.Exit(EXIT_ERROR)
