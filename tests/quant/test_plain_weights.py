"""Networks prepared for quantization compute what they did: plain weights, folded batch norms."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, spectral_norm, weight_norm

from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.quant.prepare import fold_batch_norms_, make_weights_plain_
from compsrt_basicsr.quant.structure import trace


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def conv(inputs: int = 6, outputs: int = 6, **options: object) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, **options)  # type: ignore[arg-type]


WRAPPED = {
    'weight norm': parametrizations.weight_norm,
    'spectral norm': parametrizations.spectral_norm,
    'orthogonal': parametrizations.orthogonal,
    'older weight norm': weight_norm,
    'older spectral norm': spectral_norm,
}


@pytest.mark.filterwarnings('ignore:`torch.nn.utils.weight_norm`')
@pytest.mark.parametrize('form', WRAPPED)
def test_parametrized_weights_become_plain_parameters(form: str) -> None:
    network = nn.Sequential(WRAPPED[form](conv(3)), WRAPPED[form](conv()), conv(6, 3))
    image = torch.rand(1, 3, 8, 8)
    network(image)  # a step of the power iteration of spectral norm
    network.eval()
    expected = network(image)
    make_weights_plain_(network)
    assert set(network.state_dict()) == {f'{i}.{part}' for i in range(3) for part in ('weight', 'bias')}
    assert all(isinstance(layer.weight, nn.Parameter) for layer in network)
    assert not any(parametrize.is_parametrized(layer) for layer in network)
    assert torch.allclose(network(image), expected, atol=1e-6)


class Normed(nn.Module):
    """Batch norms that can be folded (`a`), and others: output used twice, not after a convolution, run twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.a, self.b, self.c = conv(3), conv(bias=False), conv(), conv()
        self.norm_a, self.norm_b, self.norm_c, self.norm_d = (nn.BatchNorm2d(6) for _ in range(4))
        self.last = conv(6, 3)
        for norm in (self.norm_a, self.norm_b, self.norm_c, self.norm_d):
            norm.running_mean = torch.randn(6)
            norm.running_var = torch.rand(6) + 0.1
            nn.init.normal_(norm.weight)
            nn.init.normal_(norm.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x = self.norm_a(self.a(x))
        y = self.b(x)
        x = self.norm_b(y) + y
        x = self.norm_c(torch.relu(x))
        for _ in range(2):
            x = self.norm_d(self.c(x))
        return self.last(x)


def test_only_batch_norms_that_alone_read_one_convolution_are_folded() -> None:
    network = Normed().eval()
    image = torch.rand(1, 3, 16, 16)
    expected = network(image)
    folds = trace(network, 3, (16, 24)).structure.folds
    assert folds == (('a', 'norm_a'),)
    fold_batch_norms_(network, folds)
    assert isinstance(network.norm_a, nn.Identity) and isinstance(network.a.bias, nn.Parameter)
    assert torch.allclose(network(image), expected, rtol=1e-4, atol=1e-4)


def test_folding_names_layers_that_do_not_fit() -> None:
    with pytest.raises(CompSRTError, match='norm_a'):
        fold_batch_norms_(Normed(), [('norm_a', 'a')])
    with pytest.raises(CompSRTError, match='nowhere'):
        fold_batch_norms_(Normed(), [('nowhere', 'norm_a')])
