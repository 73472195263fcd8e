"""First-order costs of layers, and the layers that get more bits."""

from __future__ import annotations

from fnmatch import fnmatchcase

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_networks import pictures, tiny_quantized
from torch import nn

from compsrt_basicsr.archs.compsrt_net_arch import quantize_network_
from compsrt_basicsr.archs.spandrel_arch import build_spandrel
from compsrt_basicsr.compression.inventory import patterns_of
from compsrt_basicsr.compression.sensitivity import Cost, costs, greatest_within
from compsrt_basicsr.config.calibration import CalibrationConfig
from compsrt_basicsr.config.quant import QuantConfig
from compsrt_basicsr.quant.calibrate import calibrate
from compsrt_basicsr.quant.observation import observing
from compsrt_basicsr.quant.quantizer import quantizers

DCTLSA = {'in_nc': 3, 'nf': 10, 'num_modules': 6, 'out_nc': 3, 'upscale': 2, 'num_head': 5}


def dctlsa() -> nn.Module:
    torch.manual_seed(0)
    network = build_spandrel('DCTLSA', DCTLSA).eval()
    config = QuantConfig(quantize_convs=True, quantize_products=True, quantize_head_tail=True, act_granularity='token')
    quantize_network_(network, config, {'type': 'spandrel', 'arch': 'DCTLSA', 'args': DCTLSA})
    return network


def alone(network: nn.Module, name: str, images: torch.Tensor) -> float:
    """Mean squared error with only one layer quantized."""
    with torch.no_grad(), observing(network, lambda quantizer, x: None):
        exact = network(images)
        for key, quantizer in quantizers(network).items():
            if key.startswith((f'{name}.weight', f'{name}.act', f'{name}.quant_products.')):
                quantizer.observer = None
        return float((network(images) - exact).square().mean())


def test_estimates_are_near_what_each_layer_costs_alone() -> None:
    network, images = dctlsa(), pictures(32, 32, seed=1)
    calibrate(network, images, CalibrationConfig(candidates=20), progress=False)
    network.requires_grad_(False)
    found = costs(network, images)
    assert len({cost.name for cost in found}) == len(found)
    measured = [alone(network, cost.name, images) for cost in found[:9]]
    ratios = torch.tensor([cost.error for cost in found[:9]]) / torch.tensor(measured)
    assert 0.5 < float(ratios.log().mean().exp()) < 2
    assert measured[0] > 0.5 * max(measured)
    assert all(quantizer.observer is None for quantizer in quantizers(network).values())


def test_a_swinir_is_measured_by_attention_and_layer() -> None:
    network = tiny_quantized()
    images = pictures(32, 32, seed=1)
    calibrate(network, images, CalibrationConfig(candidates=20), progress=False)
    names = {cost.name for cost in costs(network, images)}
    assert {name.rpartition('.')[2] for name in names} >= {'attn', 'fc1', 'fc2'}
    assert not any('qkv' in name for name in names)


@given(
    st.dictionaries(st.sampled_from('abcdefgh'), st.tuples(st.floats(0, 1), st.integers(1, 100)), min_size=1),
    st.floats(0, 400),
)
def test_the_chosen_layers_fit_and_none_that_fits_costs_more(layers: dict[str, tuple[float, int]], most: float) -> None:
    found = [Cost(name, error) for name, (error, _) in layers.items()]
    counts = {name: count for name, (_, count) in layers.items()}
    chosen = greatest_within(found, counts, most)
    left = most - sum(counts[name] for name in chosen)
    assert left >= 0
    assert all(counts[name] > left for name in counts if name not in chosen and layers[name][0] > 0)


@given(st.sets(st.tuples(st.integers(0, 2), st.integers(0, 2), st.sampled_from(['fc1', 'fc2', 'conv'])), min_size=2))
def test_patterns_match_the_chosen_layers_alone(layers: set[tuple[int, int, str]]) -> None:
    names = sorted(f'body.{i}.block{j}.{name}' for i, j, name in layers)
    chosen, others = names[::2], names[1::2]
    patterns = patterns_of(chosen, others)
    assert len(patterns) <= len(chosen)
    assert all(any(fnmatchcase(name, pattern) for pattern in patterns) for name in chosen)
    assert not any(fnmatchcase(name, pattern) for name in others for pattern in patterns)


def test_one_pattern_serves_all_siblings() -> None:
    assert patterns_of(['a.0.fc', 'a.1.fc'], ['a.0.conv']) == ['a.*.fc']


@pytest.mark.parametrize('most', [0, 4])
def test_layers_without_cost_are_not_chosen(most: int) -> None:
    assert greatest_within([Cost('a', 0.0)], {'a': 1}, most) == []
