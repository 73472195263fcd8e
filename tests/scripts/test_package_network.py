"""The index of the package after a network is put into it."""

import sys

import pytest
from conftest import ROOT

from compsrt_basicsr.hub.catalog import PACKAGE
from compsrt_basicsr.hub.index import INDEX, parse_index, read_index

sys.path.insert(0, str(ROOT / 'scripts'))

import package_network as script

TEXT = (PACKAGE / INDEX).read_text(encoding='utf-8')
PACKED = [name for name, entry in read_index(PACKAGE).items() if entry.kind == 'packed']


@pytest.mark.parametrize('name', PACKED)
def test_an_entry_is_replaced_in_its_place(name: str):
    entry = read_index(PACKAGE)[name].model_copy(update={'size': 1, 'notes': 'Smaller: "one" byte.'})
    text = script.replace_entry(TEXT, entry)
    after = parse_index(text, 'index.yml')
    assert after == {**read_index(PACKAGE), name: entry} and list(after) == list(read_index(PACKAGE))
    assert text.startswith(TEXT[: TEXT.index('format:')]) and max(map(len, text.splitlines())) <= 200


def test_a_new_entry_stands_before_the_public_models():
    entry = read_index(PACKAGE)[PACKED[0]].model_copy(update={'name': 'new_x2', 'file': 'new_x2.safetensors'})
    names = list(parse_index(script.replace_entry(TEXT, entry), 'index.yml'))
    assert names.index('new_x2') == names.index('swinir_light_x2') - 1


def test_the_origin_names_the_command():
    record = {
        'sweep': 'pruning_x2', 'axes': {'pruning': 'p40', 'bits': '4', 'seed': '7'}, 'seed': 7,
        'settings': {'datasets': {'train': ['train/BSDS200/*', 'train/Photos/*']}},
        'quant': {'weight_bits': 4, 'prune_ratio': 0.4},
        'protocol': {'teacher': 'zoo://t', 'iterations': 300, 'batch': 4, 'lr_patch': 32},
    }  # fmt: skip
    assert script.origin_of(record) == (
        'zoo://t at 4 bits, 40% pruned, in strict range, calibrated and distilled for 300 iterations (batch 4, '
        'LR 32x32, seed 7, on train/BSDS200/*, train/Photos/*) by `compsrt sweep options/sweeps/pruning_x2.yml --only '
        'pruning=p40,bits=4,seed=7`, and packed'
    )
