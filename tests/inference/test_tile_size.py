"""Tiles are as large as half of the free memory allows."""

import pytest
from test_upscale import Nearest, model

from compsrt_basicsr.inference import tile_size
from compsrt_basicsr.inference.tile_size import LARGEST, fitting_tile, memory_of, needed
from compsrt_basicsr.inference.tiling import TILE
from compsrt_basicsr.utils.process_memory import free_bytes, resident

MB = 10**6


@pytest.fixture
def machine(monkeypatch):
    """Returns a function that sets what is free and what the two trials use, in MB."""

    def set_(free, small, large):
        trials = dict(zip(tile_size._TRIALS, (small, large)))
        monkeypatch.setattr(tile_size, 'free_memory', lambda device: None if free is None else free * MB)
        monkeypatch.setattr(tile_size, 'memory_of', lambda model, side, dtype: trials[side] and trials[side] * MB)

    return set_


@pytest.mark.parametrize(
    ('free', 'small', 'large', 'expected'),
    [
        (16_000, 25, 100, LARGEST),  # 1,600 MB
        (3_000, 25, 100, 384),  # 900 MB
        (1_000, 25, 100, TILE),  # 400 MB
        (300, 25, 100, 128),
        (100, 25, 100, 128),  # nothing fits
        (16_000, 25, 400, TILE),  # four times the area, sixteen times the memory: 6,400 MB at 256 pixels
        (None, 25, 100, TILE),
        (16_000, None, 100, TILE),
    ],
)
def test_largest_tile_that_fits(machine, free, small, large, expected):
    machine(free, small, large)
    assert fitting_tile(model(Nearest()), 3000) == expected


def test_small_images_need_no_measurement(monkeypatch):
    monkeypatch.setattr(tile_size, 'memory_of', None)
    assert fitting_tile(model(Nearest()), TILE) == TILE


def test_memory_never_shrinks_with_the_tile():
    assert needed(512, [100, 100]) == 1600  # the trials hid in memory that was there already


class Hungry(Nearest):
    """Holds 500 more numbers for each pixel at its peak."""

    def forward(self, x):
        return super().forward(x) + x.new_ones(500, *x.shape[-2:]).max()


@pytest.mark.skipif(resident('VmHWM') is None, reason='only Linux tells')
def test_memory_of_a_run_is_measured():
    """500 numbers of 4 bytes for each of 128x128 pixels, also where the C library keeps the memory of runs before."""
    network, expected = model(Hungry()), 500 * 4 * 128**2
    used = [memory_of(network, side, 'float32') for side in (128, 64, 128)]
    assert used == pytest.approx([expected, expected / 4, expected], rel=0.5)


def test_limits_of_containers_count(tmp_path):
    def write(name, text):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    assert free_bytes(tmp_path) is None
    write('proc/meminfo', 'MemTotal: 9000 kB\nMemAvailable:    8000 kB\n')
    assert free_bytes(tmp_path) == 8_192_000
    (tmp_path / 'proc/meminfo').write_bytes(b'Name: caf\xe9\nMemAvailable:    8000 kB\n')  # of no encoding
    assert free_bytes(tmp_path) == 8_192_000
    write('proc/self/cgroup', '0::/own\n')
    write('sys/fs/cgroup/own/memory.max', '5000000\n')
    write('sys/fs/cgroup/own/memory.current', '4000000\n')
    write('sys/fs/cgroup/own/memory.stat', 'anon 1\ninactive_file 500000\n')
    assert free_bytes(tmp_path) == 1_500_000
    write('sys/fs/cgroup/own/memory.max', 'max\n')
    assert free_bytes(tmp_path) == 8_192_000
