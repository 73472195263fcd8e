"""`compsrt reproduce`: a row of the published table, from scratch."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument('row')
@click.option('--pruned', is_flag=True, help='With 40% of the weights pruned (4 and 3 bits).')
@click.option('--paper', is_flag=True, help='With the published formula, which does not clamp codes.')
@click.option('--dry-run', is_flag=True, help='Show the steps with sizes and times, and do nothing.')
@click.option('--name', help="Name of the run; the row's own by default.")
@click.option('--teacher', help='Weights of the teacher, a file or a name of the zoo; the official ones by default.')
@click.option('--train', 'training_set', default='DF2K', show_default=True, help='Data set to train on.')
@click.option('--test', 'test_sets', multiple=True, help='Data set to test on; may be repeated. All five by default.')
@click.option('--data', default='datasets', show_default=True, help='Folder of the data sets.')
@click.option('--accept-terms', is_flag=True, help='You accept the terms of data sets that ask for it.')
@click.option('--gpus', type=click.IntRange(0), help='GPUs to train on; all by default.')
@click.option('--force', 'forced', multiple=True, help='Another value of an option, as for --force_yml.')
def reproduce(
    row: str,
    pruned: bool,
    paper: bool,
    dry_run: bool,
    name: str | None,
    teacher: str | None,
    training_set: str,
    test_sets: tuple[str, ...],
    data: str,
    accept_terms: bool,
    gpus: int | None,
    forced: tuple[str, ...],
) -> None:
    """Reproduce a ROW of the published table, such as x2-w4a4, on this machine.

    Fetch the teacher and the data, train, test, and write the row beside the published one to reproduce/NAME/row.md and
    row.json. Give the same command again after an interruption: it skips what is complete and goes on with the rest.
    """
    from compsrt_basicsr.study.published import TEST_SETS
    from compsrt_basicsr.study.reproduce.reproduction import Reproduction
    from compsrt_basicsr.study.reproduce.request import Request, check_test_sets
    from compsrt_basicsr.study.reproduce.setting import Setting
    from compsrt_basicsr.utils.progress import TERMINAL

    request = Request.of(
        Setting.parse(row, pruned=pruned, paper=paper),
        name=name,
        teacher=teacher,
        training_set=training_set,
        test_sets=check_test_sets(test_sets or TEST_SETS),
        data=data,
        forced=forced,
    )
    reproduction = Reproduction(request, Path(), gpus, accept_terms)
    click.echo(reproduction.plan())
    if not dry_run:
        row_file = reproduction.run(TERMINAL, click.echo)
        click.echo(row_file.read_text(encoding='utf-8'), nl=False)
