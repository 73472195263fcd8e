"""`compsrt bench`: time and memory of a model."""

from __future__ import annotations

from pathlib import Path

import click

from compsrt_basicsr.utils.plain_json import json_text
from compsrt_basicsr.utils.text import counted

FILE = click.Path(path_type=Path)


@click.command()
@click.argument('model')
@click.option(
    '--size', 'sizes', type=int, multiple=True, default=(64, 128), show_default=True, help='LR side in pixels.'
)
@click.option('--mode', 'modes', multiple=True, help='fp32, bf16, fake or integer; all that the model has by default.')
@click.option('--rivals', is_flag=True, help='Measure torch.compile, ONNX Runtime and OpenVINO (fp32, bf16, int8) too.')
@click.option('--threads', type=int, multiple=True, default=(1,), show_default=True, help='CPU threads.')
@click.option('--device', 'devices', multiple=True, default=('cpu',), show_default=True, help='cpu, cuda, cuda:1 ...')
@click.option('--rounds', type=click.IntRange(1), default=5, show_default=True, help='Rounds; the modes alternate.')
@click.option('--json', 'json_file', type=FILE, help='Write all numbers to this file.')
@click.option('--png', type=FILE, help='Draw a figure to this file.')
def bench(
    model: str,
    sizes: tuple[int, ...],
    modes: tuple[str, ...],
    rivals: bool,
    threads: tuple[int, ...],
    devices: tuple[str, ...],
    rounds: int,
    json_file: Path | None,
    png: Path | None,
) -> None:
    """Measure latency and peak memory of MODEL, and profile its layers.

    MODEL is a checkpoint, a packed file or a name of the zoo. --size, --mode, --threads and --device may be repeated.
    fp32 and bf16 are the same architecture in full precision, fake is fake quantization, integer computes the products
    on integer codes. --rivals adds what others would run instead, in full precision or in int8 by NNCF; --mode takes
    their names too. Compare only times of one call: the load of the machine differs between calls.
    """
    import torch

    from compsrt_basicsr.checkpoints.load import load_network
    from compsrt_basicsr.study.bench.hardware import hardware
    from compsrt_basicsr.study.bench.modes import INTEGER, MODES, modes_of, own_mode
    from compsrt_basicsr.study.bench.peak import code_peak, float_peak
    from compsrt_basicsr.study.bench.profile import profile_kernels, profile_layers, runs_in_kernels
    from compsrt_basicsr.study.bench.report import draw, lead_lines, peak_line, profile_table, timing_table, to_json
    from compsrt_basicsr.study.bench.timing import measure
    from compsrt_basicsr.utils.atomic_write import write_text
    from compsrt_basicsr.utils.progress import TERMINAL
    from compsrt_basicsr.version import __version__

    loaded = load_network(model)
    chosen = modes_of(loaded, modes, rivals)
    found = measure(loaded, chosen, sizes, threads, devices, rounds, TERMINAL)

    torch.set_num_threads(threads[0])
    image = torch.rand(1, loaded.channels, sizes[0], sizes[0])
    profiles = {}
    for mode in [mode for mode in chosen if mode in MODES]:
        network = own_mode(loaded, mode)
        if mode != INTEGER:
            profiles[mode] = profile_layers(network, image)
        elif threads[0] == 1 and runs_in_kernels(network):
            profiles[mode] = profile_kernels(network, image)

    click.echo(timing_table(found))
    peaks = [{'threads': count, 'float32': float_peak(count), 'codes': code_peak(count)} for count in threads]
    click.echo('\n' + '\n'.join([*lead_lines(found), *map(peak_line, peaks)]))
    if profiles:
        click.echo(f'\nProfile at {sizes[0]}x{sizes[0]}, {counted(threads[0], "thread")}:\n')
        click.echo(profile_table(profiles))
    about = {'model': loaded.source, 'rounds': rounds, 'peaks': peaks, 'version': __version__, **hardware()}
    if json_file:
        write_text(json_file, json_text(to_json(found, profiles, about), indent=2))
    if png:
        draw(found, profiles, f'{Path(model).name or model}, {about["processor"]}', png)
