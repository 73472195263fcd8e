"""`compsrt report`: tables and figures from the runs of a grid."""

from __future__ import annotations

from pathlib import Path

import click

from compsrt_basicsr.cli.common import EXIT_FAULT


@click.command()
@click.argument('folders', metavar='FOLDER...', nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option('-o', '--out', type=click.Path(path_type=Path), help='Folder of the report; FOLDER/report by default.')
@click.option('--method', 'methods', multiple=True, help='Only rows that match, and full precision: `compsrt, part=*`.')
@click.option('--reference', help='Method that the others are compared with; compsrt where it is there.')
@click.option('--allow-mixed', is_flag=True, help='Separate tables of runs of unlike protocol instead of refusing.')
@click.option('--no-figures', is_flag=True, help='Tables alone; matplotlib is not needed then.')
def report(
    folders: tuple[Path, ...],
    out: Path | None,
    methods: tuple[str, ...],
    reference: str | None,
    allow_mixed: bool,
    no_figures: bool,
) -> None:
    """Make report.md, CSV tables and figures of the finished runs in FOLDER, which `compsrt grid` wrote.

    Several folders make one report.

    The published numbers stand beside the measured ones. The reference is compared with every other method at the same
    scale and bits, picture by picture: Wilcoxon, sign test, bootstrap interval, d_z, Holm. Damaged files are named and
    left out, with exit status 1.
    """
    from compsrt_basicsr.study.sweep.collect import read_folders
    from compsrt_basicsr.study.sweep.page import source_of, write_report

    records, faults = read_folders(folders, methods)
    file = write_report(
        records,
        out or folders[0] / 'report',
        source=source_of([str(folder) for folder in folders], methods),
        reference=reference,
        allow_mixed=allow_mixed,
        figures=not no_figures,
    )
    click.echo(f'{len(records)} runs: {file}')
    for fault in faults:
        click.echo(f'Left out: {fault}', err=True)
    if faults:
        raise click.exceptions.Exit(EXIT_FAULT)
