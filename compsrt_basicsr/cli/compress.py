"""`compsrt compress`: any super-resolution network to a small file, with a report of what it cost."""

from __future__ import annotations

from pathlib import Path

import click

from compsrt_basicsr.cli.common import choose_device, device_option

FILE = click.Path(path_type=Path)


@click.command()
@click.argument('model')
@click.option('-o', '--out', type=FILE, help='Folder for the results.')
@click.option('--list', 'only_list', is_flag=True, help='Show what would be quantized, and do nothing.')
@click.option('--scheme', default='w8a8', show_default=True, help='Bits of weights and activations, 2 to 8.')
@click.option(
    '--effort',
    type=click.Choice(['seconds', 'minutes', 'best']),
    default='seconds',
    show_default=True,
    help='Calibration alone; a training of at most 15 minutes; one of 4,000 iterations.',
)
@click.option('--data', type=FILE, help='Folder of images.  [default: photographs that scikit-image ships]')
@click.option(
    '--mixed',
    type=click.FloatRange(0, 1),
    default=0.125,
    show_default=True,
    metavar='SHARE',
    help='Share of the multiplications that may have 8 bits, where they help most.',
)
@click.option('--keep-float', 'keep', multiple=True, metavar='PATTERN', help='Layers that stay in full precision.')
@click.option(
    '--target', 'targets', default='packed', show_default=True, help='Files to write: packed, onnx, openvino.'
)
@click.option('--min-psnr', 'least', type=float, metavar='DB', help='Fail below this PSNR against full precision.')
@device_option
@click.option('--licence', help="Terms of the weights.  [default: the zoo's]")
@click.option('--origin', help="Who made the weights, and where they are.  [default: the zoo's]")
@click.option('--force', is_flag=True, help='Replace the results of another compression.')
def compress(
    model: str,
    out: Path | None,
    only_list: bool,
    scheme: str,
    effort: str,
    mixed: float,
    data: Path | None,
    keep: tuple[str, ...],
    targets: str,
    least: float | None,
    device: str | None,
    licence: str | None,
    origin: str | None,
    force: bool,
) -> None:
    """Compress MODEL, a super-resolution network in full precision, into the folder OUT.

    MODEL is a weight file of any network that spandrel or this package knows, a name of the zoo, or an option file with
    `network_g` and `path.pretrain_network_g`. OUT gets the packed file, the recipe as an option file, a report, and
    the files of other targets. After an interruption, the same command goes on with its training.
    """
    from compsrt_basicsr.compression.scheme import mixed_line, parse_scheme
    from compsrt_basicsr.compression.targets import engines_of, parse_targets

    if out is None and not only_list:
        raise click.UsageError('Missing option `-o`: give a folder for the results, or --list.')
    bits = parse_scheme(scheme)
    wanted = parse_targets(targets)
    from compsrt_basicsr.compression.inventory import inventory_table
    from compsrt_basicsr.compression.run import Compression, Request
    from compsrt_basicsr.utils.progress import TERMINAL

    chosen = choose_device(device)
    request = Request(
        model, scheme, effort, out or Path(), data, keep, wanted, least, licence, origin, force, mixed, chosen
    )
    compression = Compression(request, TERMINAL, click.echo)
    if only_list:
        click.echo(inventory_table(compression.inventory()))
        if line := mixed_line(bits, engines_of(wanted), mixed):
            click.echo(line)
        return
    report = compression.run()
    click.echo(report.to_text())
    compression.check(report)
