"""Every architecture of spandrel, small and with random weights: recognised, compressed, packed, loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import spandrel
import torch
from hostile_files import CHANGES, absurd, outcome, record, record_outcome
from spandrel_networks import LARGE, NETWORKS, REFUSED, built, compressed, images
from torch import Tensor, nn

from compsrt_basicsr.archs.build_limit import BuildLimit, Stored
from compsrt_basicsr.archs.rebuild import check_run, rebuild
from compsrt_basicsr.archs.spandrel_arch import build_spandrel, load_spandrel
from compsrt_basicsr.checkpoints.load import load_network
from compsrt_basicsr.config.calibration import CalibrationConfig
from compsrt_basicsr.config.quant import QuantConfig
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.packing.packed import read_packed, save_packed
from compsrt_basicsr.quant.calibrate import calibrate
from compsrt_basicsr.quant.convert import quantize_
from compsrt_basicsr.quant.structure import trace

EXTRA = ('AdaCode', 'FeMaSR', 'M3SNet', 'MIRNet2', 'MPRNet', 'Restormer', 'SRFormer', 'CodeFormer', 'DDColor', 'MAT')
ON_META = ('GFPGAN', 'CodeFormer', 'RestoreFormer', 'LaMa')
CODEBOOKS = ('AdaCode', 'FeMaSR')  # the nearest entry jumps; AdaCode is made of the layers of FeMaSR, and as large


def cases() -> list[Any]:
    return [pytest.param(key, marks=pytest.mark.integration if key in LARGE else ()) for key in NETWORKS]


@pytest.fixture(autouse=True)
def _extra(request: pytest.FixtureRequest) -> None:
    values = getattr(getattr(request.node, 'callspec', None), 'params', {})
    if values.get('key') in EXTRA:
        pytest.importorskip('spandrel_extra_arches')


def run(network: nn.Module, image: Tensor) -> Tensor:
    with torch.no_grad():
        return network(image)


def test_every_architecture_has_a_network() -> None:
    known = {str(entry.architecture.id) for entry in spandrel.MAIN_REGISTRY.architectures()}
    assert known - {key.partition('.')[0] for key in NETWORKS} <= REFUSED.keys()
    assert len(NETWORKS) >= 35


@pytest.mark.parametrize('key', cases())
def test_weights_tell_architecture_and_arguments(key: str) -> None:
    network = built(key)
    again = load_spandrel(network.model.state_dict())
    assert (again.arch, again.arguments) == (network.arch, network.arguments)


@pytest.mark.parametrize('key', [case for case in cases() if case.values != CODEBOOKS[:1]])
def test_compressed_networks_come_back_from_their_packed_file(key: str, tmp_path: Path) -> None:
    network = built(key)
    x = images(network)
    kept = x.clone()
    student = compressed(network, tmp_path)
    expected, result = run(network, x), run(student, x)
    assert torch.equal(x, kept)  # some networks work in place
    error = (result - expected).square().mean().sqrt() / (expected.max() - expected.min())
    assert error < (0.05 if key in CODEBOOKS else 0.01)
    save_packed(student, tmp_path / 'packed.safetensors', codec='plain', rest='fp32')
    (tmp_path / 'weights.pth').unlink()
    loaded = load_network(tmp_path / 'packed.safetensors')
    assert torch.equal(run(loaded.network, x), result)


@pytest.mark.parametrize('key', REFUSED)
def test_networks_for_other_purposes_are_refused(key: str) -> None:
    arguments, word = REFUSED[key]
    with torch.device('meta' if key in ON_META else 'cpu'), pytest.raises(CompSRTError, match=word) as error:
        build_spandrel(key, arguments)
    assert key in str(error.value) and '\n' not in str(error.value)


@pytest.mark.parametrize('key', ['Compact', 'SAFMN'])
def test_absurd_arguments_of_a_small_file_are_refused_quickly_or_run(key: str) -> None:
    network = built(key)
    stored = Stored.of(network.state_dict())
    for arguments in absurd(network.arguments):
        record_outcome(record(network, arguments), stored)


@pytest.mark.parametrize(
    ('key', 'changes'),
    [
        ('ESRGAN', {'num_blocks': 2**14}),
        ('ESRGAN', {'num_filters': 2**13}),
        ('OmniSR', {'block_num': 2**14}),
        ('DCTLSA', {'num_modules': 2**14}),
        ('SwinIR', {'depths': [2**14, 2**14]}),
        ('SwinIR', {'window_size': 2**14}),
        ('RCAN', {'n_resgroups': 257}),
    ],
)
def test_networks_far_larger_than_the_file_are_refused(key: str, changes: dict[str, Any]) -> None:
    network = built(key)
    with pytest.raises(CompSRTError, match='than the file'):
        rebuild(record(network, {**network.arguments, **changes}), Stored.of(network.state_dict()))


def test_arguments_that_fail_on_the_first_image_are_refused() -> None:
    network = built('DITN')
    wrong = record(network, {**network.arguments, 'patch_size': 7})
    with pytest.raises(CompSRTError, match='DITN'):
        check_run(rebuild(wrong, Stored.of(network.state_dict())), wrong)


@pytest.mark.parametrize(
    'ask', [lambda: torch.eye(2**13), lambda: torch.kron(torch.ones(2**6, 2**6), torch.ones(2**7, 2**7))]
)
def test_limit_knows_identities_and_kronecker_products(ask: Any) -> None:
    with pytest.raises(CompSRTError, match='far larger'), BuildLimit(Stored(1, 1, 1)):
        ask()


def test_limit_knows_the_size_of_convolutions_and_products() -> None:
    x, weight = torch.zeros(1, 64, 100, 100), torch.zeros(64, 64, 1, 1)
    with BuildLimit(Stored(1, 1, 1)):
        assert nn.functional.conv2d(x, weight).shape == x.shape
        assert nn.functional.conv_transpose2d(x, weight, stride=2).shape == (1, 64, 199, 199)
        with pytest.raises(CompSRTError, match='far larger'):
            torch.zeros(2**13, 1) @ torch.zeros(1, 2**13)
        with pytest.raises(CompSRTError, match='far larger'):
            nn.functional.conv_transpose2d(x, weight, stride=50)


class Shared(nn.Module):
    """A convolution and a norm with two names that run twice, a weight of two layers, and an empty layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.a = nn.Conv2d(8, 8, 3, padding=1)
        self.b = self.a
        self.norm = nn.GroupNorm(2, 8)
        self.norms = nn.ModuleList([self.norm])
        self.c, self.d = nn.Conv1d(8, 8, 1), nn.Conv1d(8, 8, 1)
        self.d.weight = self.c.weight
        self.empty = nn.Conv2d(0, 8, 1)
        self.last = nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norms[0](self.b(self.norm(self.a(self.first(x)))))
        return self.last(self.d(self.c(x.flatten(2))).view_as(x))


def test_shared_tensors_are_stored_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from compsrt_basicsr.basicsr_compat.swinir import ARCH_REGISTRY
    from compsrt_basicsr.packing import contents

    monkeypatch.setitem(ARCH_REGISTRY._obj_map, 'Shared', Shared)
    torch.manual_seed(0)
    from compsrt_basicsr.archs.compsrt_net_arch import CompSRTNet

    student = CompSRTNet({'type': 'Shared'}, {'quantize_convs': True, 'weight_bits': 8, 'act_bits': 8}).eval()
    x = torch.rand(1, 3, 8, 8)
    calibrate(student, x, CalibrationConfig(method='minmax'), progress=False)
    save_packed(student, tmp_path / 'packed.safetensors', rest='fp32')
    read = read_packed(tmp_path / 'packed.safetensors')
    assert [layer.name for layer in read.layers] == ['a']
    assert not any(name.startswith(('b.', 'norms.')) or name == 'd.weight' for name in read.rest)
    assert torch.equal(run(contents.restore(read), x), run(student, x))
    older = {**read.rest, 'norms.0.weight': read.rest['norm.weight'], 'd.weight': read.rest['c.weight']}
    assert torch.equal(run(contents.restore(contents.replace(read, rest=older)), x), run(student, x))


def test_layers_without_channels_stay() -> None:
    network = Shared()
    chosen = quantize_(network, QuantConfig(quantize_convs=True, quantize_head_tail=True))
    assert chosen == ['first', 'a', 'last']


class ForLargeImages(nn.Module):
    """Has a layer for large images only, and a function that nothing quantizes."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.large = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1)
        self.table = nn.Parameter(torch.randn(8, 3, 2, 2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        if x.shape[-1] > 20:
            x = self.large(x)
        return nn.functional.conv_transpose2d(x, weight=self.table, stride=2)


def test_multiplications_that_nothing_quantizes_are_counted() -> None:
    found = trace(ForLargeImages(), 3, (16, 24))
    assert found.multiplications == {'first': 256 * 24, '.functional': 256 * 8 * 3 * 4}
    assert found.structure.unused == ('large',)


@pytest.mark.parametrize('key', ['ESRGAN', 'SwinIR'])
@pytest.mark.parametrize('change', CHANGES)
def test_hostile_weights_are_refused_or_run(key: str, change: str) -> None:
    """A few of the cases of hostile_files.py, which tries all architectures."""
    outcomes = [outcome(changed) for changed in CHANGES[change](dict(built(key).model.state_dict()))]
    assert change in ('extreme_values', 'other_types') or outcomes.count('runs') <= len(outcomes) // 3
