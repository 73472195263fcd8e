"""Time and memory of upscaling a large photograph, from file to file: our command, torch and OpenVINO.

    python scripts/benchmark_end_to_end.py [--data FILE] [--size 4000x3000] [--threads 2] [--rounds 3]

`compsrt upscale` with the packaged 4-bit file, the same command with the network in full precision, and OpenVINO by
hand: the network in full precision, exported before, in the same tiles. Each run is a process of its own; they
alternate. The photograph is FILE, or one of scikit-image, mirrored to the size. At 12 megapixels a round takes about
half an hour on two cores without VNNI. Writes docs/results/end_to_end.json; `python scripts/make_results.py` writes it
into docs/upscaling.md.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tabulate import tabulate

from compsrt_basicsr.utils.atomic_write import write_text
from compsrt_basicsr.utils.plain_json import json_text
from compsrt_basicsr.utils.process_memory import resident
from compsrt_basicsr.utils.text import counted
from compsrt_basicsr.version import __version__

ROOT = Path(__file__).resolve().parents[1]
FULL, QUANTIZED = 'swinir_light_x2_house', 'swinir_light_x2_house_w4a4_p40'
OURS, TORCH, OPENVINO = 'compsrt upscale, 4 bits', 'compsrt upscale, full precision', 'OpenVINO by hand, full precision'
WAYS = (OURS, TORCH, OPENVINO)


class Done(NamedTuple):
    """A process that has ended: its seconds, its peak memory in bytes (0 outside of Linux), its text on stderr."""

    seconds: float
    memory: int
    text: str


def photograph(data: Path | None, width: int, height: int) -> np.ndarray:
    """Returns a photograph of a size, (height, width, 3) uint8, mirrored at its borders where it is smaller."""
    from compsrt_basicsr.compression.images import choose_images
    from compsrt_basicsr.data.images import read_image

    image = read_image(data) if data else choose_images(None, 2).calibration[0].original
    image = np.atleast_3d(image)[:height, :width, :3]
    more = [(0, height - image.shape[0]), (0, width - image.shape[1]), (0, 0)]
    return np.ascontiguousarray(np.pad(image, more, mode='symmetric'))


def run(words: list[str], threads: int) -> Done:
    """Runs a command of this Python to its end.

    Raises:
        SystemExit: if it fails.
    """
    environment = {**os.environ, 'OMP_NUM_THREADS': str(threads), 'PYTHONPATH': str(ROOT)}
    with tempfile.TemporaryFile('w+') as errors:
        start = time.perf_counter()
        process = subprocess.Popen([sys.executable, *words], env=environment, stdout=subprocess.DEVNULL, stderr=errors)
        memory = 0
        while process.poll() is None:
            memory = max(memory, resident('VmHWM', process.pid) or 0)  # its usage would count what started it
            time.sleep(0.02)
        seconds = time.perf_counter() - start
        errors.seek(0)
        text = errors.read()
    if process.returncode:
        raise SystemExit(f'{" ".join(words)}\n{text}')
    return Done(seconds, memory, text)


def words_of(way: str, photo: Path, out: Path, tile: int | None, model: Path) -> list[str]:
    """Returns the command of a way."""
    if way == OPENVINO:
        return [__file__, '--by-hand', str(model), '--tile', str(tile), str(photo), str(out / photo.name)]
    tiles = ['--tile', str(tile)] if tile is not None else []
    network = QUANTIZED if way == OURS else FULL
    return ['-m', 'compsrt_basicsr.cli.compsrt', 'upscale', network, str(photo), '-o', str(out), '--force', *tiles]


def by_hand(model: Path, photo: Path, result: Path, tile: int) -> None:
    """Upscales a photograph with an OpenVINO model, whose input has the size of a tile."""
    import openvino
    from PIL import Image

    from compsrt_basicsr.inference.tiling import OVERLAP, tiles

    options = {'INFERENCE_NUM_THREADS': int(os.environ['OMP_NUM_THREADS']), 'INFERENCE_PRECISION_HINT': 'f32'}
    network = openvino.Core().compile_model(str(model), 'CPU', options)
    image = np.array(Image.open(photo).convert('RGB'))
    height, width = image.shape[:2]
    padded = np.pad(image, [(0, -height % 8), (0, -width % 8), (0, 0)], mode='symmetric')
    upscaled = np.empty((2 * height, 2 * width, 3), np.uint8)
    for part in tiles(height, width, tile, OVERLAP, 8):
        rows, columns = part.rows, part.columns
        seen = padded[rows.start : rows.stop, columns.start : columns.stop].astype(np.float32) / 255
        values = next(iter(network(seen.transpose(2, 0, 1)[None]).values()))[0].transpose(1, 2, 0)
        kept = [slice(2 * (s.keep_start - s.start), 2 * (s.keep_stop - s.start)) for s in (rows, columns)]
        place = [slice(2 * s.keep_start, 2 * s.keep_stop) for s in (rows, columns)]
        upscaled[tuple(place)] = (values[tuple(kept)].clip(0, 1) * 255).round()
    Image.fromarray(upscaled).save(result)


def chosen_tile(text: str) -> int:
    """Returns the tile that the command has chosen, as its line says; 0 for none."""
    found = re.search(r'in tiles of (\d+) pixels', text)
    return int(found[1]) if found else 0


def difference(one: Path, other: Path) -> float:
    """Returns the PSNR between two images, in dB; infinity, which JSON has not, if they are equal."""
    from PIL import Image

    from compsrt_basicsr.compression.quality import psnr

    Image.MAX_IMAGE_PIXELS = None
    first, second = (np.asarray(Image.open(file)).astype(np.float32) / 255 for file in (one, other))
    return psnr(first, second)


def measure(photo: Path, folder: Path, threads: int, rounds: int, ways: tuple[str, ...]) -> list[dict[str, Any]]:
    """Runs all ways alternately; returns a row for each."""
    from compsrt_basicsr.checkpoints.load import load_network
    from compsrt_basicsr.onnx.generic import export_generic

    model = folder / 'model.xml'
    if OPENVINO in ways:
        export_generic(load_network(FULL), model, 'openvino')
    found: dict[str, list[Done]] = {way: [] for way in ways}
    tile = None
    for number in range(rounds):
        for way in ways:
            out = folder / str(ways.index(way))
            out.mkdir(exist_ok=True)
            done = run(words_of(way, photo, out, tile, model), threads)
            if tile is None:
                tile = chosen_tile(done.text)
            found[way].append(done)
            sys.stderr.write(f'{number + 1}: {way}: {done.seconds:.1f} s, {done.memory / 1e9:.2f} GB\n')
    results = {way: folder / str(ways.index(way)) / photo.name for way in ways}
    return [
        {
            'way': way,
            'tile': tile,
            'seconds': [round(done.seconds, 2) for done in dones],
            'memory': max(done.memory for done in dones),
            'psnr': None if way == TORCH else difference(results[way], results[TORCH]),
            'line': next((line for line in dones[0].text.splitlines() if line.startswith('Computing')), ''),
        }
        for way, dones in found.items()
    ]


def table(record: dict[str, Any]) -> str:
    """Returns the record as Markdown."""
    ours = statistics.median(record['rows'][0]['seconds'])
    rows = []
    for row in record['rows']:
        seconds = statistics.median(row['seconds'])
        near = '–' if row['way'] == TORCH else 'equal' if row['psnr'] is None else f'{row["psnr"]:.1f}'
        rows.append([row['way'], f'{seconds:.0f}', f'{seconds / ours:.2f}', f'{row["memory"] / 1e9:.2f}', near])
    heads = ['', 'seconds', 'times ours', 'peak memory (GB)', 'PSNR to torch (dB)']
    instructions = ', '.join(record['instructions'])
    tiles = f'tiles of {tile} pixels' if (tile := record['rows'][0]['tile']) else 'no tiles'
    machine = (
        f'{record["width"]}×{record["height"]} pixels ×2, {tiles}, {counted(record["threads"], "thread")}, '
        f'{record["processor"]} ({instructions}), torch {record["torch"]}, '
        f'medians of {counted(len(record["rows"][0]["seconds"]), "round")}.'
    )
    made = tabulate(rows, heads, 'github', disable_numparse=True, colalign=('left', *['right'] * 4))
    return f'Command: `{record["command"]}`\n\n{machine}\n\n{made}'


def main() -> None:
    """Measures, or upscales by hand in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--data', type=Path, help='the photograph')
    parser.add_argument('--size', default='4000x3000', help='width x height in pixels')
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('-o', '--out', type=Path, default=ROOT / 'docs/results/end_to_end.json')
    parser.add_argument('--by-hand', type=Path, metavar='MODEL', help=argparse.SUPPRESS)
    parser.add_argument('--tile', type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument('files', nargs='*', type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.by_hand:
        by_hand(args.by_hand, *args.files, args.tile)
        return
    from PIL import Image

    from compsrt_basicsr.study.bench.hardware import hardware
    from compsrt_basicsr.study.bench.rivals import check_packages

    check_packages(['openvino'])
    width, height = map(int, args.size.split('x'))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        photo = folder / 'photo.png'
        Image.fromarray(photograph(args.data, width, height)).save(photo)
        small = folder / 'small.png'
        Image.fromarray(photograph(args.data, 32, 32)).save(small)
        run(words_of(OURS, small, folder / 'warm', 0, folder), args.threads)  # compiles the kernels
        rows = measure(photo, folder, args.threads, args.rounds, WAYS)
    options = [f'--size {args.size}', f'--threads {args.threads}', f'--rounds {args.rounds}']
    record: dict[str, Any] = {
        'command': ' '.join(['python scripts/benchmark_end_to_end.py', *options]),
        'width': width,
        'height': height,
        'threads': args.threads,
        'version': __version__,
        **hardware(),
        'rows': rows,
    }
    write_text(args.out, json_text(record, indent=2))
    print(table(record))


if __name__ == '__main__':
    main()
