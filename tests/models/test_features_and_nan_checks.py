"""Feature taps, and the naming of the module where a training goes wrong."""

import pytest
import torch
from torch import nn

from compsrt_basicsr.config.calibration import CalibrationConfig
from compsrt_basicsr.config.quant import QuantConfig
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.models.features import FeatureTap
from compsrt_basicsr.models.nan_checks import check_is_due, require_finite, require_finite_parameters
from compsrt_basicsr.quant.calibrate import calibrate
from compsrt_basicsr.quant.convert import quantize_
from compsrt_basicsr.quant.quantizer import quantizers


class Nested(nn.Module):
    """Groups of groups, as in SwinIR's `layers.N.residual_group.blocks.M`."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(
            nn.ModuleDict({'group': nn.Linear(4, 4), 'inner': nn.Sequential(nn.Linear(4, 4))}) for _ in range(2)
        )

    def forward(self, x):
        for layer in self.layers:
            x = layer['inner'](layer['group'](x))
        return x


def test_tap_collects_what_matches_in_order():
    network, x = Nested(), torch.randn(3, 4)
    tap = FeatureTap(network, 'layers.*.group')
    network(x)
    first, second = tap.take()
    assert torch.equal(first, network.layers[0]['group'](x))
    assert second.shape == (3, 4)
    tap.take()  # of the call in the line before
    assert tap.take() == []


def test_star_is_one_part_of_a_name():
    """`layers.*.group` must not match `layers.0.inner.group`, nor `layers.*` the insides of a layer."""
    network = Nested()
    tap = FeatureTap(network, 'layers.*.inner')
    network(torch.randn(3, 4))
    assert len(tap.take()) == 2


def test_features_are_float32():
    network = Nested()
    tap = FeatureTap(network, 'layers.*.group')
    with torch.autocast('cpu', torch.bfloat16):
        network(torch.randn(3, 4))
    assert {f.dtype for f in tap.take()} == {torch.float32}


def test_gradients_flow_through_a_tap():
    network = Nested()
    tap = FeatureTap(network, 'layers.0.group')
    network(torch.randn(3, 4))
    tap.take()[0].sum().backward()
    assert network.layers[0]['group'].weight.grad.any()
    assert network.layers[1]['group'].weight.grad is None


@pytest.mark.parametrize('pattern', ['layer.*.group', 'layers.*.group.*', 'layers.*.Group', 'nothing'])
def test_no_match_is_an_error(pattern):
    with pytest.raises(CompSRTError, match=r'No module of Nested matches `train\.feature_opt\.modules`'):
        FeatureTap(Nested(), pattern)


@pytest.fixture
def trained():
    """A calibrated network of three quantized linears after one backward pass, its input, loss and parameters."""
    torch.manual_seed(0)
    network = nn.Sequential(*(nn.Linear(4, 4) for _ in range(3)))
    quantize_(network, QuantConfig(quantize_head_tail=True))
    x = torch.randn(9, 4)
    calibrate(network, x, CalibrationConfig(), progress=False)
    loss = network(x).square().sum()
    loss.backward()
    return network, x, loss, list(network.parameters())


def test_finite_training_goes_on(trained):
    require_finite(*trained, 7)
    network, x, loss, _ = trained
    require_finite(network, x, loss, [], 7)


@pytest.mark.parametrize('where', ['0.act_quantizer', '1.weight_quantizer', '2.act_quantizer'])
@pytest.mark.parametrize('part', ['lower', 'upper', 'scale_offset', 'zero_offset'])
@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_broken_parameter_names_its_quantizer(trained, where, part, value):
    network, x, loss, parameters = trained
    with torch.no_grad():
        getattr(quantizers(network)[where], part).fill_(value)
    name = where.replace('.', r'\.')
    with pytest.raises(CompSRTError, match=f'stopped at iteration 7: NaN or infinity in quantizer `{name}`'):
        require_finite(network, x, loss * float('nan'), parameters, 7)


def test_broken_weight_names_the_quantizer_that_reads_it(trained):
    network, x, loss, parameters = trained
    with torch.no_grad():
        network[1].weight[0, 0] = float('nan')
    with pytest.raises(CompSRTError, match=r'in quantizer `1\.weight_quantizer`'):
        require_finite(network, x, loss * float('nan'), parameters, 7)
    assert all(not q._forward_hooks for q in quantizers(network).values())


def test_broken_gradient_names_its_quantizer(trained):
    """Where every value is finite, the last quantizer is named: backward runs from the end."""
    network, x, loss, parameters = trained
    for name in ('0.act_quantizer', '1.act_quantizer'):
        quantizers(network)[name].upper.grad.fill_(float('inf'))
    with pytest.raises(CompSRTError, match=r'the gradient of quantizer `1\.act_quantizer`'):
        require_finite(network, x, loss, parameters, 7)


def test_broken_loss_alone(trained):
    network, x, loss, parameters = trained
    with pytest.raises(CompSRTError, match='in the loss, though every quantizer is finite'):
        require_finite(network, x, loss * float('inf'), parameters, 7)


def test_layer_of_a_full_precision_network():
    """Without quantizers the layer is named: by a parameter of its own, or by its gradient."""
    torch.manual_seed(0)
    network, x = Nested(), torch.randn(3, 4)
    network(x).square().sum().backward()
    parameters = list(network.parameters())
    require_finite(network, x, network(x), parameters, 7)
    network.layers[1]['group'].bias.grad[0] = float('nan')
    with pytest.raises(CompSRTError, match=r'the gradient of layer `layers\.1\.group`'):
        require_finite(network, x, network(x), parameters, 7)
    with torch.no_grad():
        network.layers[0]['inner'][0].weight[0, 0] = float('inf')
    with pytest.raises(CompSRTError, match=r'in layer `layers\.0\.inner\.0`'):
        require_finite(network, x, network(x), parameters, 7)


@pytest.mark.parametrize(('device', 'due'), [('cpu', {1, 2, 3, 4, 5, 6}), ('cuda', {3, 4, 6})])
def test_when_a_check_is_due(device, due):
    """On a GPU, where a check waits for it, only when the loop logs or saves."""
    logger = {'print_freq': 3, 'save_checkpoint_freq': 4}
    assert {i for i in range(1, 7) if check_is_due(logger, torch.device(device), i)} == due


@pytest.mark.parametrize('value', [float('nan'), -float('inf')])
def test_broken_parameters_are_not_saved(trained, value):
    network = trained[0]
    require_finite_parameters(network, 7)
    with torch.no_grad():
        network[1].act_quantizer.upper.fill_(value)
    with pytest.raises(CompSRTError, match=r'Nothing was saved at iteration 7: `1\.act_quantizer\.upper` is NaN'):
        require_finite_parameters(network, 7)
