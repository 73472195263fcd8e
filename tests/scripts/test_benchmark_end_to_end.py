"""The benchmark from file to file: what it makes, measures and reads."""

import sys

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

sys.path.insert(0, str(ROOT / 'scripts'))

import benchmark_end_to_end as script


def test_a_photograph_of_any_size(tmp_path):
    small = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    Image.fromarray(small).save(tmp_path / 'a.png')
    made = script.photograph(tmp_path / 'a.png', 12, 4)
    assert made.shape == (4, 12, 3)
    assert np.array_equal(made[:, :7], small[:4]) and np.array_equal(made[:, 7:], small[:4, :1:-1])


def test_the_tile_that_the_command_says():
    assert script.chosen_tile('Computing in float32, in tiles of 384 pixels, with 2 threads.\n') == 384
    assert script.chosen_tile('Computing in float32, without tiles, with 2 threads.\n') == 0


@pytest.mark.skipif(sys.platform != 'linux', reason='needs the counters of Linux')
def test_memory_is_that_of_the_process_alone():
    """Not that of the one that starts it, which holds torch."""
    done = script.run(['-c', 'import sys; x = bytearray(50_000_000); sys.stderr.write("x")'], 1)
    assert 0 < done.memory < 120_000_000 and done.seconds > 0 and done.text == 'x'
    with pytest.raises(SystemExit):
        script.run(['-c', 'raise SystemExit(1)'], 1)


def test_tiles_by_hand_are_seamless(tmp_path):
    """A model that repeats each pixel gives the image, twice as large."""
    openvino = pytest.importorskip('openvino')
    image = openvino.op.Parameter(openvino.Type.f32, openvino.PartialShape([1, 3, -1, -1]))
    twice = openvino.opset13.interpolate(image, np.array([2.0, 2.0], np.float32), 'nearest', 'scales', axes=[2, 3],
                                         coordinate_transformation_mode='asymmetric', nearest_mode='floor')  # fmt: skip
    openvino.save_model(openvino.Model([twice], [image], 'twice'), tmp_path / 'twice.xml')
    values = np.random.default_rng(0).integers(0, 256, (99, 130, 3), dtype=np.uint8)
    Image.fromarray(values).save(tmp_path / 'a.png')
    script.by_hand(tmp_path / 'twice.xml', tmp_path / 'a.png', tmp_path / 'b.png', 80)
    assert np.array_equal(np.asarray(Image.open(tmp_path / 'b.png')), values.repeat(2, 0).repeat(2, 1))
