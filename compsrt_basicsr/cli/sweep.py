"""`compsrt grid`: many runs from one file."""

from __future__ import annotations

from pathlib import Path

import click

from compsrt_basicsr.cli.common import EXIT_FAULT


@click.command()
@click.argument('grid_file', metavar='GRID.yml', type=click.Path(path_type=Path))
@click.option('-o', '--out', type=click.Path(path_type=Path), help='Folder of the runs; grids/NAME by default.')
@click.option('--data', type=click.Path(path_type=Path), default=Path(), help="Where the grid's data paths start.")
@click.option('--jobs', type=click.IntRange(1), default=1, show_default=True, help='Runs at once.')
@click.option('--threads', type=click.IntRange(1), default=1, show_default=True, help='Threads of each run.')
@click.option('--executor', type=click.Choice(('local', 'slurm')), default='local', show_default=True)
@click.option('--only', 'patterns', multiple=True, metavar='AXIS=PATTERN[,...]', help='Only runs that match.')
@click.option('--dry-run', is_flag=True, help='List the runs and which are finished, and do nothing.')
def grid(
    grid_file: Path,
    out: Path | None,
    data: Path,
    jobs: int,
    threads: int,
    executor: str,
    patterns: tuple[str, ...],
    dry_run: bool,
) -> None:
    """Run every combination of the axes of GRID.yml: train, test, and one JSON a run.

    Runs that are finished are passed over, and those that were cut off go on where they stopped, when the same command
    is given again; a run whose options changed is another run. Failures are named at the end and in failed.json.
    `compsrt report` makes tables and figures of the JSON files.
    """
    from compsrt_basicsr.study.sweep.data import DataSets
    from compsrt_basicsr.study.sweep.job import Job
    from compsrt_basicsr.study.sweep.option_files import check_run
    from compsrt_basicsr.study.sweep.record import is_done
    from compsrt_basicsr.study.sweep.runs import choose, expand
    from compsrt_basicsr.study.sweep.schedule import FAILED, check_slurm, grid_folder, run_jobs
    from compsrt_basicsr.study.sweep.spec import TRAIN, read_grid
    from compsrt_basicsr.utils.progress import TERMINAL

    spec = read_grid(grid_file)
    runs = choose(expand(spec), patterns, spec)
    folder = grid_folder(grid_file, out)
    sets = DataSets(spec.datasets, data, folder / 'data')
    own = TRAIN in spec.datasets
    check_slurm(spec.slurm)
    for run in runs:
        check_run(run, own)

    def job(run):
        tests = {name: sets.pair(name, run.scale) for name in spec.test_sets}
        training_set = sets.pair(TRAIN, run.scale) if own and run.trains else None
        return Job(run, spec.name, folder, training_set, tests, threads)

    listed = [job(run) for run in runs]
    if dry_run:
        for one in listed:
            click.echo(f'{"finished" if is_done(one.record, one.run) else "to do   "}  {one.run.label}')
        click.echo(f'{len(listed)} runs in {folder}')
        return
    scales = {run.scale for run in runs}
    sets.check(scales)
    for name, pictures in sets.ready(scales, TERMINAL).items():
        click.echo(f'Left out of {name}: ' + '; '.join(f'{picture} {why}' for picture, why in pictures.items()))
    failed = run_jobs(listed, at_once=jobs, executor=executor, slurm=spec.slurm, report=click.echo)
    if failed:
        click.echo(f'{len(failed)} of {len(listed)} runs failed; {folder / FAILED} says why:', err=True)
        for one in failed:
            click.echo(f'  {one.run.label}', err=True)
        raise click.exceptions.Exit(EXIT_FAULT)
    click.echo(f'All {len(listed)} runs are finished: compsrt report {folder}')
