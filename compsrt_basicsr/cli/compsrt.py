"""The command `compsrt`."""

from __future__ import annotations

import atexit
import gc

import click

from compsrt_basicsr.cli.common import LazyGroup
from compsrt_basicsr.version import __version__

SUBCOMMANDS = {
    'analyze': ('compsrt_basicsr.cli.analyze:analyze', 'Compare distributions before and after a transform.'),
    'bench': ('compsrt_basicsr.cli.bench:bench', 'Measure latency, memory, and where the time goes.'),
    'compare': (
        'compsrt_basicsr.cli.compare:compare',
        'Draw networks side by side on an image, with figures of merit.',
    ),
    'compress': (
        'compsrt_basicsr.cli.compress:compress',
        'Make a small file of any network, with a report of what it cost.',
    ),
    'data': ('compsrt_basicsr.cli.data:data', 'Get data sets, make training LMDBs and low-resolution images.'),
    'export': ('compsrt_basicsr.cli.export:export', 'Make an ONNX file, compared with torch.'),
    'methods': (
        'compsrt_basicsr.cli.methods:methods',
        'Show the quantization methods and the options that each sets.',
    ),
    'pack': ('compsrt_basicsr.cli.pack:pack', 'Pack a quantized checkpoint into a small file.'),
    'report': ('compsrt_basicsr.cli.report:report', 'Make tables and figures from the runs of a sweep.'),
    'reproduce': ('compsrt_basicsr.cli.reproduce:reproduce', 'From nothing to a row of the published table.'),
    'size': ('compsrt_basicsr.cli.pack:size', 'Show what a file stores, part by part.'),
    'sweep': ('compsrt_basicsr.cli.sweep:sweep', 'Train and test every combination of options in a sweep file.'),
    'unpack': ('compsrt_basicsr.cli.pack:unpack', 'Turn a packed file into a checkpoint.'),
    'upscale': ('compsrt_basicsr.cli.upscale:upscale', 'Upscale images.'),
    'zoo': ('compsrt_basicsr.cli.zoo:zoo', 'List, download, verify and publish weights.'),
}
RENAMED = {'grid': 'sweep'}


@click.group(cls=LazyGroup, lazy=SUBCOMMANDS, renamed=RENAMED, context_settings={'help_option_names': ['-h', '--help']})
@click.version_option(__version__, prog_name='compsrt')
def main() -> None:
    """Low-bit quantized super-resolution for BasicSR: the work around training."""
    atexit.register(gc.freeze)  # the process ends: its last garbage collection would take up to half a second


if __name__ == '__main__':
    from compsrt_basicsr.cli import start

    start.compsrt()
