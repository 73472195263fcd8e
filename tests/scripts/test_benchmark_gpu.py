"""The benchmark for GPUs, as far as a CPU can run it."""

import sys

import pytest
import torch
from conftest import ROOT
from tiny_networks import tiny_quantized

from compsrt_basicsr.checkpoints.load import load_network

sys.path.insert(0, str(ROOT / 'scripts'))

import benchmark_gpu as script
from execution_tables import gpu_table


@pytest.mark.parametrize(('rows', 'k', 'n'), [((3, 5), 60, 60), ((40,), 64, 16), ((2,), 7, 1)])
def test_product_of_bytes_is_exact_at_any_size(rows, k, n):
    """Padded as GPUs want it."""
    generator = torch.Generator().manual_seed(k)
    codes = torch.randint(0, 256, (*rows, k), generator=generator)
    weight = torch.randint(-128, 128, (n, k), generator=generator)
    expected = (codes @ weight.T).float()
    assert torch.equal(script.bytes_product(codes.float(), weight.to(torch.int8)), expected)
    assert torch.equal(script.bytes_product(codes.float(), weight.float()), expected)


def test_variants_compute_the_same(tmp_path, no_kernels, monkeypatch):
    """Integer codes as fake quantization but for moved codes; one that fails is left out, with its reason."""
    torch.save({'params': tiny_quantized().state_dict()}, tmp_path / 'x.pth')
    model = load_network(tmp_path / 'x.pth')
    taken = []
    monkeypatch.setattr(script, 'bytes_product', lambda a, w: taken.append(w) or script._float_product(a, w))
    names = ('fp32', 'fake', 'integer', 'int8', 'none')
    with torch.no_grad():
        rows, failed = script.measure(model, 'cpu', [16], 2, names)
    assert [row['variant'] for row in rows] == ['fp32', 'fake', 'integer', 'int8']
    assert list(failed) == ['none, 16x16'] and taken
    assert all(len(row['seconds']) == 2 and row['multiplications'] > 0 for row in rows)
    assert all(row['psnr'] is None or row['psnr'] > 30 for row in rows)
    assert rows[3]['psnr'] is not None

    about = {'command': 'x', 'gpu': 'none', 'torch': '2', 'failed': failed}
    assert gpu_table({**about, 'rows': rows}).count('16×16') == 4


def test_without_a_gpu_one_sentence_says_so(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.setattr(sys, 'argv', ['benchmark_gpu.py'])
    with pytest.raises(SystemExit, match=r'GPU.*\.$'):
        script.main()
