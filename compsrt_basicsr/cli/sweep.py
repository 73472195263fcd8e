"""`compsrt sweep`: many runs from one file."""

from __future__ import annotations

from pathlib import Path

import click

from compsrt_basicsr.cli.common import EXIT_ERROR
from compsrt_basicsr.utils.text import counted

# Where an earlier version put the runs of a sweep, and under which names.
_OLD_FOLDER, _OLD_NAMES = 'grids', {'packaged_x2': 'house_x2'}


@click.command()
@click.argument('sweep_file', metavar='SWEEP.yml', type=click.Path(path_type=Path))
@click.option('-o', '--out', type=click.Path(path_type=Path), help='Folder of the runs; sweeps/NAME by default.')
@click.option('--data', type=click.Path(path_type=Path), default=Path(), help='Where the paths in `datasets` start.')
@click.option('--jobs', type=click.IntRange(1), default=1, show_default=True, help='Runs at the same time.')
@click.option('--threads', type=click.IntRange(1), default=1, show_default=True, help='Threads of each run.')
@click.option('--executor', type=click.Choice(('local', 'slurm')), default='local', show_default=True)
@click.option('--only', 'patterns', multiple=True, metavar='AXIS=PATTERN[,...]', help='Only runs that match.')
@click.option('--dry-run', is_flag=True, help='List the runs and which are finished, and do nothing.')
def sweep(
    sweep_file: Path,
    out: Path | None,
    data: Path,
    jobs: int,
    threads: int,
    executor: str,
    patterns: tuple[str, ...],
    dry_run: bool,
) -> None:
    """Train and test every combination of the axes in SWEEP.yml; write a JSON record for each run.

    Give the same command again to go on: finished runs are skipped, interrupted ones continue. A run whose options have
    changed is a new run. Failed runs are listed at the end and in failed.json. `compsrt report` makes tables and
    figures from the records.
    """
    from compsrt_basicsr.config.sweep import TRAIN
    from compsrt_basicsr.study.sweep.data import DataSets
    from compsrt_basicsr.study.sweep.job import SweepJob
    from compsrt_basicsr.study.sweep.option_files import check_run
    from compsrt_basicsr.study.sweep.read_record import is_done
    from compsrt_basicsr.study.sweep.runs import Run, choose, expand
    from compsrt_basicsr.study.sweep.schedule import FAILED, check_slurm, run_jobs
    from compsrt_basicsr.study.sweep.spec import read_sweep
    from compsrt_basicsr.utils.progress import TERMINAL

    spec = read_sweep(sweep_file)
    runs = choose(expand(spec), patterns)
    folder = (out or _default_folder(sweep_file.stem)).resolve()
    sets = DataSets(spec.options.datasets, data, folder / 'data')
    has_training_set = TRAIN in spec.options.datasets
    check_slurm(spec.options.slurm)
    for run in runs:
        check_run(run, has_training_set)

    def job_of(run: Run) -> SweepJob:
        tests = {name: sets.pair(name, run.scale) for name in spec.options.test_sets}
        training_set = sets.pair(TRAIN, run.scale) if has_training_set and run.trains else None
        return SweepJob(run, spec.name, folder, training_set, tests, threads)

    listed = [job_of(run) for run in runs]
    if dry_run:
        for job in listed:
            click.echo(f'{"finished" if is_done(job.record, job.run) else "to do   "}  {job.run.label}')
        click.echo(f'{counted(len(listed), "run")} in {folder}')
        return
    scales = {run.scale for run in runs}
    sets.check(scales)
    for name, images in sets.ready(scales, TERMINAL).items():
        click.echo(f'Left out of {name}: ' + '; '.join(f'{image} {why}' for image, why in images.items()))
    failed = run_jobs(listed, at_once=jobs, executor=executor, slurm=spec.options.slurm, report=click.echo)
    if failed:
        click.echo(f'{len(failed)} of {counted(len(listed), "run")} failed; {folder / FAILED} says why:', err=True)
        for job in failed:
            click.echo(f'  {job.run.label}', err=True)
        raise click.exceptions.Exit(EXIT_ERROR)
    finished = 'The run is' if len(listed) == 1 else f'All {len(listed):,} runs are'
    click.echo(f'{finished} finished: compsrt report {folder}')


def _default_folder(name: str) -> Path:
    """Returns the folder of a sweep's runs: `sweeps/NAME`, or the one that an earlier version began."""
    folder, old = Path('sweeps', name), Path(_OLD_FOLDER, _OLD_NAMES.get(name, name))
    if folder.exists() or not old.is_dir():
        return folder
    click.echo(f'Continuing in `{old}`, where an earlier version began; new sweeps go to `{folder.parent}/`.', err=True)
    return old
