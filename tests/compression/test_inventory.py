"""What would be quantized: also of networks whose modules compute with weights themselves."""

from __future__ import annotations

from compsrt_basicsr.archs.spandrel_arch import build_spandrel
from compsrt_basicsr.checkpoints.load import FULL_PRECISION, LoadedNetwork
from compsrt_basicsr.compression.inventory import layer_names, make_student, take_inventory, traced

SWIN2SR = {'embed_dim': 8, 'depths': [1], 'num_heads': [2], 'window_size': 4, 'img_size': 8, 'mlp_ratio': 2}


def test_products_with_weights_by_the_code_of_a_module_are_listed_as_float() -> None:
    network = build_spandrel('Swin2SR', SWIN2SR).eval()
    record = {'arch': 'spandrel', 'args': {'arch': 'Swin2SR', 'args': network.arguments}, 'quant': None}
    loaded = LoadedNetwork(network, network.scale, network.multiple, 3, FULL_PRECISION, 'x.pth', record)
    tracing = traced(loaded)
    functional = [name for name in tracing.multiplications if name.endswith('.functional')]
    assert functional and not set(functional) & set(layer_names(tracing))
    student = make_student(loaded, (8, 8), tracing)
    inventory = take_inventory(network, student.network, tracing, ())
    parts = [part for part in inventory.parts if part.kind == 'functional']
    assert [part.name for part in parts] == [name.removesuffix('.functional') for name in functional]
    assert all(part.bits is None and part.multiplications > 0 for part in parts)
    assert 0 < inventory.low_bit_share < 1
