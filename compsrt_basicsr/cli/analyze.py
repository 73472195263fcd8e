"""`compsrt analyze`: the tensors of a model before and after a transform."""

from __future__ import annotations

from pathlib import Path

import click

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.utils.progress import TERMINAL

PATH = click.Path(path_type=Path)


@click.command()
@click.argument('model')
@click.option('-o', '--out', type=PATH, required=True, help='Folder for the results.')
@click.option('--data', type=PATH, help='LR images, a folder or an LMDB; also analyses the activations.')
@click.option(
    '--transform',
    'transforms',
    multiple=True,
    help='auto (exact Hadamard), padded, dct or random, compared with none; may be repeated.  [default: all]',
)
@click.option('--patches', type=int, default=16, show_default=True, help='Number of patches of the images.')
@click.option('--patch-size', type=int, default=64, show_default=True, help='Side of a patch in pixels.')
@click.option('--sample', type=int, default=5000, show_default=True, help='Values that the normality tests use.')
@click.option('--seed', type=int, default=0, show_default=True, help='Seed of patches, samples, random transform.')
@click.option('--report/--no-report', default=True, help='Write report.md and its figures.', show_default=True)
@click.option('--force', is_flag=True, help='Replace an existing analysis.')
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

    MODEL is a checkpoint, a packed file or a name of the zoo. Each weight and activation that is or would be quantized
    is measured with and without the transform: range, moments, mass near zero, normality, quantization error. Tests
    across tensors show whether the claims about the transform hold.

    OUT gets analysis.json, analysis.csv, report.md and figures.
    """
    from compsrt_basicsr.study.analysis.settings import TRANSFORMS, AnalysisSettings

    settings = AnalysisSettings(transforms or TRANSFORMS, patches, patch_size, seed, sample)
    _check_place(out, force)
    from compsrt_basicsr.checkpoints.load import load_network
    from compsrt_basicsr.study.analysis.files import remove_record, write_files
    from compsrt_basicsr.study.analysis.run import analyze as run
    from compsrt_basicsr.study.analysis.tables import claims_table, gains_table, skipped_tensors
    from compsrt_basicsr.utils.lock import locked

    with locked(out / '.analyze.lock', f'`{out}`'):
        _check_place(out, force)  # again: another call may just have finished
        found = run(load_network(model), settings, data, TERMINAL)
        if found['tests']:
            click.echo(f'{claims_table(found)}\n\n{gains_table(found)}\n')
        for sentence in (found['model']['note'], *skipped_tensors(found)):
            if sentence:
                click.echo(sentence)
        if data is None:
            click.echo('Only weights were analysed: give LR images by --data to analyse activations.')
        remove_record(out)  # it is written last, so that only a complete analysis has one
        written = []
        if report:
            from compsrt_basicsr.study.analysis.report import write_report

            written = write_report(found, out)
        written = [*write_files(found, out), *written]
        click.echo(f'Wrote {", ".join(path.name for path in written)} to {out}.')


def _check_place(out: Path, force: bool) -> None:
    from compsrt_basicsr.study.analysis.files import JSON

    if out.exists() and not out.is_dir():
        raise CompSRTError(f'`{out}` is a file: give a folder for the results.')
    if (out / JSON).exists() and not force:
        raise CompSRTError(f'`{out}` holds an analysis: give another folder, or --force to replace it.')
