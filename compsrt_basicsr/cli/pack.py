"""`compsrt pack`, `compsrt unpack` and `compsrt size`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from compsrt_basicsr.errors import CompSRTError

if TYPE_CHECKING:
    from compsrt_basicsr.packing.size import Account

FILE = click.Path(path_type=Path)
CODECS = ('plain', 'mask', 'rans')


class _Codec(click.Choice):
    """The codecs that are written; the one of earlier versions is refused in a sentence of its own."""

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Returns the codec, or fails as a wrong usage."""
        if value == 'zstd':
            self.fail('zstd is no longer written: use rans, whose files are smaller.', param, ctx)
        return super().convert(value, param, ctx)


@click.command()
@click.argument('model')
@click.option('-o', '--out', type=FILE, required=True, help='File to write, NAME.safetensors.')
@click.option(
    '--codec',
    type=_Codec(CODECS),
    default='rans',
    show_default=True,
    help='plain: b bits for each code; mask: one bit for each, b for those that are kept; rans: entropy coded.',
)
@click.option(
    '--rest', type=click.Choice(('fp16', 'fp32')), default='fp16', show_default=True, help='All that is not quantized.'
)
@click.option('--force', is_flag=True, help='Replace a file that exists.')
def pack(model: str, out: Path, codec: str, rest: str, force: bool) -> None:
    """Pack MODEL, a quantized checkpoint or a name of the zoo, into one small file without pickle.

    It holds the codes of the weights, bit for bit, with architecture and quantization, so that it loads without an
    option file. The file is read back and compared before it is put in place.
    """
    from compsrt_basicsr.checkpoints.load import load_network
    from compsrt_basicsr.packing.packed import save_packed

    _may_write(out, force)
    loaded = load_network(model)
    save_packed(loaded.network, out, codec, rest)
    click.echo(f'Packed {model} into {out}: {out.stat().st_size:,} bytes.')


@click.command()
@click.argument('model')
@click.option('-o', '--out', type=FILE, required=True, help='Checkpoint to write, NAME.pth.')
@click.option('--force', is_flag=True, help='Replace a file that exists.')
def unpack(model: str, out: Path, force: bool) -> None:
    """Turn MODEL, a packed file or a name of the zoo, into a checkpoint for `basicsr test` and `basicsr train`.

    Its weights are what the codes stand for; that they give the same codes again is checked.
    """
    from compsrt_basicsr.checkpoints.find import find_file
    from compsrt_basicsr.checkpoints.save import check_checkpoint_name, save_checkpoint
    from compsrt_basicsr.checkpoints.unpack import unpacked_state
    from compsrt_basicsr.packing.packed import load_packed

    check_checkpoint_name(out)
    _may_write(out, force)
    save_checkpoint(unpacked_state(load_packed(find_file(model))), out)
    click.echo(f'Unpacked {model} into {out}: {out.stat().st_size:,} bytes, with the same codes.')


@click.command()
@click.argument('models', metavar='MODEL...', nargs=-1, required=True)
def size(models: tuple[str, ...]) -> None:
    """Show what the file of each MODEL stores and what the formulas say that it needs.

    MODEL is a packed file, a quantized checkpoint, a full-precision SwinIR or a name of the zoo.
    """
    from compsrt_basicsr.checkpoints.size import measure_size

    for number, model in enumerate(models):
        account = measure_size(model)
        click.echo(f'{"" if number == 0 else chr(10)}{model}: {account.form}')
        click.echo(size_table(account))
        if account.bits is not None:
            click.echo(paper_line(account))
        if account.wide:
            click.echo(wide_line(account))


def size_table(account: Account) -> str:
    """Returns the parts and their sum as a table."""
    from tabulate import tabulate

    parts = [(part.name, part.parameters, part.theoretical, part.measured) for part in account.parts]
    parts.append(('total', account.parameters, account.theoretical, account.measured))
    rows = [
        [
            name,
            f'{count:,}' if count else '',
            f'{round(theory):,}',
            _bits(theory, count),
            f'{real:,}',
            _bits(real, count),
        ]
        for name, count, theory, real in parts
    ]
    headers = ['part', 'parameters', 'theory, bytes', 'bits each', 'file, bytes', 'bits each']
    return tabulate(rows, headers, colalign=('left', *['right'] * 5), disable_numparse=True)


def paper_line(account: Account) -> str:
    """Returns the account of the paper for the quantized weights."""
    formula = 'b (1 - p) + 1' if account.pruned else 'b'
    pruned = f', p = {account.pruned:.1%} zero' if account.pruned else ', nothing pruned'
    return f'b = {account.bits}{pruned}; by the paper {formula} = {account.paper_bits:.2f} bits for a quantized weight.'


def wide_line(account: Account) -> str:
    """Returns how far a network of the paper range is from b bits."""
    return (
        f'{account.wide} of {account.tensors} weight tensors have more than 2^b = {2 ** (account.bits or 0)} levels: '
        f'a code needs {account.width:.2f} bits, so this is not a {account.bits}-bit network and cannot be packed.'
    )


def _bits(size: float, parameters: int) -> str:
    return f'{8 * size / parameters:.2f}' if parameters else ''


def _may_write(out: Path, force: bool) -> None:
    if out.exists() and not force:
        raise CompSRTError(f'`{out}` exists: give another name, or --force to replace it.')
    if not out.parent.is_dir():
        raise CompSRTError(f'The folder `{out.parent}` does not exist: make it first.')
