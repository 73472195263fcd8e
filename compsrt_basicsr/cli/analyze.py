"""`compsrt analyze`: what a transform does to the distributions of a model's tensors."""

from __future__ import annotations

from pathlib import Path

import click

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.utils.progress import TERMINAL

PATH = click.Path(path_type=Path)


@click.command()
@click.argument('model')
@click.option('-o', '--out', type=PATH, required=True, help='Folder for the results.')
@click.option('--data', type=PATH, help='LR pictures, a folder or an LMDB: analyse the activations too.')
@click.option(
    '--transform',
    'transforms',
    multiple=True,
    help='auto (exact Hadamard), padded, dct or random, compared with none; several times for several.  [default: all]',
)
@click.option('--patches', type=int, default=16, show_default=True, help='How many patches of the pictures.')
@click.option('--patch-size', type=int, default=64, show_default=True, help='Their side in pixels.')
@click.option('--sample', type=int, default=5000, show_default=True, help='Values that tests of normality see.')
@click.option('--seed', type=int, default=0, show_default=True, help='Of patches, samples and the random transform.')
@click.option('--report/--no-report', default=True, help='Make report.html and the figures.', show_default=True)
@click.option('--force', is_flag=True, help='Replace an analysis that is there.')
def analyze(
    model: str,
    out: Path,
    data: Path | None,
    transforms: tuple[str, ...],
    patches: int,
    patch_size: int,
    sample: int,
    seed: int,
    report: bool,
    force: bool,
) -> None:
    """Compare the distributions of MODEL's tensors before and after a transform.

    MODEL is a checkpoint, a packed file or a name of the zoo. Each weight and activation that is quantized, or would
    be, is measured as it is and transformed: range, moments, mass near zero, normality, error of quantization. Tests
    across tensors say whether what is claimed of the transform holds.

    OUT gets analysis.json, analysis.csv and a report.
    """
    from compsrt_basicsr.study.analysis.settings import TRANSFORMS, AnalysisSettings

    settings = AnalysisSettings(transforms or TRANSFORMS, patches, patch_size, seed, sample)
    _check_place(out, force)
    from compsrt_basicsr.checkpoints.load import load_network
    from compsrt_basicsr.study.analysis.files import write_files
    from compsrt_basicsr.study.analysis.run import analyze as run
    from compsrt_basicsr.study.analysis.summary import claims, faults, gains

    found = run(load_network(model), settings, data, TERMINAL)
    written = write_files(found, out)
    if found['tests']:
        click.echo(f'{claims(found)}\n\n{gains(found)}\n')
    for sentence in (found['model']['note'], *faults(found)):
        if sentence:
            click.echo(sentence)
    if data is None:
        click.echo('Only weights were analysed: activations need LR pictures, by --data.')
    if report:
        from compsrt_basicsr.study.analysis.report import write_report

        written += write_report(found, out)
    click.echo(f'Wrote {", ".join(path.name for path in written)} to {out}.')


def _check_place(out: Path, force: bool) -> None:
    from compsrt_basicsr.study.analysis.files import JSON

    if out.exists() and not out.is_dir():
        raise CompSRTError(f'`{out}` is a file: give a folder for the results.')
    if (out / JSON).exists() and not force:
        raise CompSRTError(f'`{out}` holds an analysis: give another folder, or --force to replace it.')
