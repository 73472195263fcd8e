"""`compsrt export`: writes a network as an ONNX file that has been compared with torch."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.utils.out_of_memory import is_out_of_memory
from compsrt_basicsr.utils.progress import TERMINAL

if TYPE_CHECKING:
    from compsrt_basicsr.checkpoints.load import LoadedNetwork
    from compsrt_basicsr.onnx.check import Comparison, Sample
    from compsrt_basicsr.onnx.generic import EngineFile

PATH = click.Path(path_type=Path)
SET5 = Path('datasets/Set5')  # where `compsrt data get Set5` puts it
_OLDEST = '1.20'  # onnx with 2-bit types


@click.command()
@click.argument('model')
@click.option('-o', '--out', type=PATH, required=True, help='The ONNX file.')
@click.option(
    '--benchmark',
    type=PATH,
    help='Folder of original images, or with them in HR: compare the PSNR too.  [default: datasets/Set5, if it exists]',
)
@click.option('--images', type=PATH, help='Folder of more images to compare the results on.')
@click.option('--pictures', 'old_images', type=PATH, hidden=True)
@click.option('--half', is_flag=True, help='Round all that is not quantized to float16, for a smaller file.')
@click.option(
    '--exact',
    is_flag=True,
    help='Fake-quantize activations too, as torch does; such a file is slower than one in full precision.',
)
@click.option('--force', is_flag=True, help='Replace a file that exists.')
def export(
    model: str,
    out: Path,
    benchmark: Path | None,
    images: Path | None,
    old_images: Path | None,
    half: bool,
    exact: bool,
    force: bool,
) -> None:
    """Export MODEL, a network that `compsrt upscale` takes, to ONNX.

    The file takes images of any height and width. It has operators of the ONNX standard only. Weights are codes of 2, 4
    or 8 bits, which ONNX Runtime unpacks once; layers run in 8 bits where their grids allow it, and otherwise in
    floating point. ONNX Runtime and torch upscale synthetic images and the given ones; if the results differ, no file
    is written and the exit status is 1.
    """
    if old_images:
        click.echo('`--pictures` is now `--images`.', err=True)
    _check_packages()
    _check_place(out, force)
    from compsrt_basicsr.checkpoints.find import find_file
    from compsrt_basicsr.checkpoints.load import load_network
    from compsrt_basicsr.inference.execution import FAKE, choose_execution
    from compsrt_basicsr.onnx.generic import export_generic
    from compsrt_basicsr.onnx.model import round_rest_

    loaded = load_network(model)
    choose_execution(loaded, FAKE)
    if half:
        round_rest_(loaded.network)
    given = _samples(loaded, benchmark, images or old_images)
    made = export_generic(loaded, out, exact=exact, images=given, progress=TERMINAL)
    click.echo(_table(made.comparisons, made.smooth))
    click.echo(_quality(made.comparisons))
    click.echo(f'Wrote {out}: {_kind(made, loaded)}.')
    click.echo(f'{made.size:,} bytes; the checkpoint has {find_file(loaded.source).stat().st_size:,}.')


def _check_packages() -> None:
    """Raises CompSRTError, with the command to run, if a package is missing or too old."""
    line = f"`python -m pip install 'onnx>={_OLDEST}' onnxruntime`"
    try:
        import onnx
        import onnxruntime  # noqa: F401
    except ImportError as error:
        if is_out_of_memory(error):
            raise
        raise CompSRTError(f'`compsrt export` needs onnx and onnxruntime ({error}): {line}.') from error
    if not hasattr(onnx.TensorProto, 'UINT2'):
        raise CompSRTError(f'onnx {onnx.__version__} is too old for `compsrt export`: {line}.')


def _check_place(out: Path, force: bool) -> None:
    if out.is_dir() or not out.parent.is_dir():
        raise CompSRTError(f'`{out}` is no place for a file: give a name in a folder that exists.')
    if out.exists() and not force:
        raise CompSRTError(f'`{out}` exists: give another name, or --force to replace it.')


def _samples(loaded: LoadedNetwork, benchmark: Path | None, images: Path | None) -> list[Sample]:
    """Returns the given images."""
    from compsrt_basicsr.archs.rebuild import Geometry
    from compsrt_basicsr.onnx import check as onnx_check

    shape = Geometry(loaded.scale, loaded.multiple, loaded.channels)
    if benchmark is None and SET5.is_dir() and shape.scale > 1 and shape.channels in (1, 3):
        benchmark = SET5
    given = [] if images is None else list(onnx_check.image_samples(images, shape))
    given += [] if benchmark is None else list(onnx_check.benchmark_samples(benchmark, shape))
    return given


def _quality(found: Sequence[Comparison]) -> str:
    from compsrt_basicsr.onnx import check as onnx_check

    if quality := onnx_check.mean_quality(found):
        return (
            f'\nMean PSNR-Y: torch {quality[0]:.4f} dB, ONNX Runtime {quality[1]:.4f} dB, '
            f'difference {onnx_check.quality_loss(found):.4f} dB.'
        )
    return '\nPSNR against originals was not compared: that needs --benchmark.'


def _table(found: Sequence[Comparison], smooth: Sequence[Comparison]) -> str:
    """Returns a row for each image; `smooth`, without rounding, covers the first of them."""
    from tabulate import tabulate

    heads = {
        'image': [c.name for c in found],
        'size': [f'{c.width}x{c.height}' for c in found],
        'dB between': [_decibels(c.psnr) for c in found],
        'grey levels': [f'{c.largest:.4f}' for c in found],
    }
    if smooth:
        heads['dB without rounding'] = [_decibels(c.psnr) for c in smooth]
    for index, side in enumerate(('torch', 'ONNX')):
        if any(c.quality for c in found):
            heads[f'PSNR-Y {side}'] = [f'{c.quality[index]:.4f}' if c.quality else '' for c in found]
    align = ['left'] + ['right'] * (len(heads) - 1)
    return tabulate(heads, headers='keys', disable_numparse=True, colalign=align)


def _decibels(psnr: float) -> str:
    return 'equal' if math.isinf(psnr) else f'{psnr:.1f}'


def _kind(made: EngineFile, loaded: LoadedNetwork) -> str:
    """Describes the opset, what runs in how many bits, and how the weights are stored."""
    import onnx

    from compsrt_basicsr.onnx.weights import reasons_for_floats
    from compsrt_basicsr.quant.layers import quantized_layers

    model = onnx.load(made.file)
    kinds = {onnx.TensorProto.DataType.Name(constant.data_type) for constant in model.graph.initializer}
    codes = sorted(kinds & {'UINT2', 'UINT4', 'UINT8', 'INT8'}) if made.layers else []
    weights = f'quantized weights as {" and ".join(codes)}' if codes else 'weights as floats'
    reasons = [reason for layer in quantized_layers(loaded.network).values() for reason in reasons_for_floats(layer)]
    floats = [f'{count} of {len(reasons)} as floats: {reason}' for reason, count in Counter(reasons).items() if reason]
    activations = {
        'int8': [f'{made.int8_layers} of {made.layers} quantized layers run in 8 bits'],
        'weight-only': ['activations in floating point'],
        'exact': ['activations fake-quantized'],
        'float': [],
    }
    return ', '.join([f'opset {model.opset_import[0].version}', weights, *floats, *activations[made.kind]])
