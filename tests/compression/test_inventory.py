"""What would be quantized: also of networks whose modules compute with weights themselves."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from compsrt_basicsr.archs.spandrel_arch import build_spandrel
from compsrt_basicsr.basicsr_compat.swinir import ARCH_REGISTRY
from compsrt_basicsr.checkpoints.load import FULL_PRECISION, LoadedNetwork
from compsrt_basicsr.compression.inventory import (
    WITH_WEIGHTS,
    Inventory,
    inventory_table,
    make_student,
    take_inventory,
    traced,
)

SWIN2SR = {'embed_dim': 8, 'depths': [1], 'num_heads': [2], 'window_size': 4, 'img_size': 8, 'mlp_ratio': 2}


def inventory_of(network: Any, record: dict[str, Any], bits: tuple[int, int]) -> Inventory:
    loaded = LoadedNetwork(network.eval(), 1, 4, 3, FULL_PRECISION, 'x.pth', {**record, 'quant': None})
    tracing = traced(loaded)
    return take_inventory(network, make_student(loaded, bits, tracing).network, tracing, ())


def test_a_layer_whose_weight_the_code_of_a_module_uses_is_a_layer() -> None:
    network = build_spandrel('Swin2SR', SWIN2SR)
    record = {'arch': 'spandrel', 'args': {'arch': 'Swin2SR', 'args': network.arguments}}
    inventory = inventory_of(network, record, (4, 8))
    (qkv,) = (part for part in inventory.parts if part.name.endswith('.qkv'))
    assert qkv.kind == 'linear' and qkv.bits == (4, 8)
    assert qkv.before == 8 * qkv.after == 4 * 8 * 24
    assert inventory.low_bit_share == 1


class Own(nn.Module):
    """Multiplies with weights of its own, in a way that is quantized and in one that is not."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 1)
        self.table, self.kernel = nn.Parameter(torch.randn(8, 8)), nn.Parameter(torch.randn(8, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = (self.first(x).movedim(1, -1) @ self.table).movedim(-1, 1)
        return nn.functional.conv_transpose2d(x, self.kernel)


def test_weights_of_no_layer_have_their_bits_or_are_float(monkeypatch: Any) -> None:
    monkeypatch.setitem(ARCH_REGISTRY._obj_map, 'Own', Own)
    inventory = inventory_of(Own(), {'arch': 'Own', 'args': {}}, (3, 5))
    found = {part.kind: part.bits for part in inventory.parts if part.multiplications}
    assert found == {'conv 1x1': (8, 8), WITH_WEIGHTS: (3, 5), 'functional': None}
    assert inventory.low_bit_share == 88 / 112
    assert 'w3a5' in inventory_table(inventory)
