"""Packed files of whole networks: the same codes, the same output, and no way to hurt the reader."""

import dataclasses
import json
import math
import random
import resource
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
import zstandard
from tiny_networks import TINY, pictures, ready, tiny_edsr, tiny_quantized, tiny_swinir

from compsrt_basicsr.archs.compsrt_net_arch import CompSRTNet
from compsrt_basicsr.checkpoints.load import load_network
from compsrt_basicsr.checkpoints.unpack import unpacked_state
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.packing import container
from compsrt_basicsr.packing.codecs import CODECS
from compsrt_basicsr.packing.contents import Contents, collect
from compsrt_basicsr.packing.decode import decode
from compsrt_basicsr.packing.encode import encode
from compsrt_basicsr.packing.grids import code_of_zero, read_grid, set_grid
from compsrt_basicsr.packing.index import Index
from compsrt_basicsr.packing.packed import load_packed, read_packed, save_packed
from compsrt_basicsr.packing.size import measure_packed
from compsrt_basicsr.quant.layers import QuantizedLayer
from compsrt_basicsr.quant.quantizer import Quantizer, quantizers

PAPER = {'code_range': 'paper', 'transform': 'padded'}
NETWORKS = {
    'strict': tiny_quantized,
    'w2a3': lambda: tiny_quantized({'weight_bits': 2, 'act_bits': 3}),
    'w8': lambda: tiny_quantized({'weight_bits': 8}),
    'channels': lambda: tiny_quantized({'granularity': 'channel', 'weight_bits': 3}),
    'quantize_convs': lambda: tiny_quantized({'quantize_convs': True, 'quantize_head_tail': True}),
    'random': lambda: tiny_quantized({'transform': 'random', 'transform_seed': 3}),
    'paper': lambda: tiny_quantized(PAPER),
    'paper channels': lambda: tiny_quantized({**PAPER, 'transform': 'none', 'granularity': 'channel'}),
    'compsrt': lambda: tiny_quantized({'method': 'compsrt', 'weight_bits': 2}),
    'edsr': tiny_edsr,
    'edsr channels': lambda: tiny_edsr(granularity='channel', weight_bits=5),
}


def layers(network):
    return {name: m for name, m in network.named_modules() if isinstance(m, QuantizedLayer)}


def with_rounded_rest(network):
    """The checkpoint with the same fp16 rest."""
    names = collect(network).rest
    state = {k: v.half().float() if k in names else v for k, v in network.state_dict().items()}
    network.load_state_dict(state)
    return network


@pytest.mark.parametrize('codec', ['plain', 'rans'])
@pytest.mark.parametrize('name', NETWORKS)
def test_same_codes_and_same_output(tmp_path, name, codec):
    network = NETWORKS[name]()
    save_packed(network, tmp_path / 'x', codec)
    packed = load_packed(tmp_path / 'x')
    for layer_name, layer in layers(network).items():
        assert torch.equal(layers(packed)[layer_name].weight_codes(), layer.weight_codes())
    with torch.no_grad():
        assert torch.equal(packed(pictures()), with_rounded_rest(network)(pictures()))


def test_rest_in_fp32_gives_the_output_of_the_checkpoint(tmp_path):
    network = tiny_quantized()
    save_packed(network, tmp_path / 'x', rest='fp32')
    with torch.no_grad():
        assert torch.equal(load_packed(tmp_path / 'x')(pictures()), network(pictures()))


def test_files_are_the_same_every_time_and_load_without_options(tmp_path):
    for name in ('a.safetensors', 'b.safetensors'):
        save_packed(tiny_quantized(), tmp_path / name)
    assert (tmp_path / 'a.safetensors').read_bytes() == (tmp_path / 'b.safetensors').read_bytes()
    loaded = load_network(tmp_path / 'a.safetensors')
    assert (loaded.scale, loaded.multiple, loaded.channels, loaded.kind) == (2, 8, 3, 'quantized')


def test_packing_what_was_packed_gives_the_same_file(tmp_path):
    save_packed(tiny_quantized(), tmp_path / 'a')
    save_packed(load_packed(tmp_path / 'a'), tmp_path / 'b')
    assert (tmp_path / 'a').read_bytes() == (tmp_path / 'b').read_bytes()


def test_buffers_of_other_types_come_back(tmp_path):
    network = tiny_edsr()
    network.register_buffer('steps', torch.tensor([2**40, -1]))
    network.register_buffer('flag', torch.tensor(True))
    contents = collect(network)
    again = decode(*encode(contents, 'plain', 'fp16'), 10_000)
    for name in ('steps', 'flag'):
        assert (
            torch.equal(again.rest[name], contents.rest[name]) and again.rest[name].dtype == contents.rest[name].dtype
        )


# Files of earlier versions, written by version 0.1.0: EDSR at 4 bits, and pruned by 40% in strict and in paper range

GOLDEN = sorted((Path(__file__).parent / 'golden').glob('*.safetensors'))


@pytest.mark.parametrize('file', GOLDEN, ids=lambda file: file.stem)
def test_files_of_earlier_versions_load(file):
    with torch.no_grad():
        assert load_packed(file)(pictures()).isfinite().all()
    assert all(layer.fixed_codes is not None for layer in layers(load_packed(file)).values())


@pytest.mark.parametrize('file', [file for file in GOLDEN if file.stem != 'zstd'], ids=lambda file: file.stem)
def test_what_is_written_does_not_change(file, tmp_path):
    """All arrays are equal byte for byte; the record may have options that earlier versions lacked."""
    metadata, arrays, _ = container.read(file)
    save_packed(load_packed(file), tmp_path / 'x', metadata['codec'], metadata['rest'])
    written, again, _ = container.read(tmp_path / 'x')
    assert {name: array.tobytes() for name, array in again.items()} == {n: a.tobytes() for n, a in arrays.items()}
    assert list(again) == list(arrays)
    fixed = {'format', 'version', 'codec', 'rest'}
    assert {key: written[key] for key in fixed} == {key: metadata[key] for key in fixed}


def test_all_codecs_give_the_same_codes():
    """Of the same network, zstd included."""
    first, *others = (layers(load_packed(file)) for file in GOLDEN if file.stem in ('plain', 'rans', 'zstd'))
    assert len(others) == 2
    for other in others:
        assert all(torch.equal(other[name].weight_codes(), layer.weight_codes()) for name, layer in first.items())


def test_a_file_that_cannot_be_written_is_a_sentence(tmp_path):
    with pytest.raises(CompSRTError, match='Could not write'):
        save_packed(tiny_edsr(), tmp_path / 'nowhere' / 'x')


# Unpacking


@pytest.mark.parametrize('name', [name for name in NETWORKS if name != 'paper'])
def test_unpacked_checkpoint_has_the_same_codes_and_output(tmp_path, name):
    save_packed(NETWORKS[name](), tmp_path / 'x')
    packed = load_packed(tmp_path / 'x')
    torch.save({'params': unpacked_state(packed)}, tmp_path / 'x.pth')
    loaded = load_network(tmp_path / 'x.pth').network
    assert all(layer.fixed_codes is None for layer in layers(loaded).values())
    for layer_name, layer in layers(packed).items():
        assert torch.equal(layers(loaded)[layer_name].weight_codes(), layer.weight_codes())
    with torch.no_grad():
        assert torch.equal(loaded(pictures()), packed(pictures()))


def test_padded_transforms_are_not_unpacked(tmp_path):
    save_packed(tiny_quantized(PAPER), tmp_path / 'x')
    with pytest.raises(CompSRTError, match='padded transform'):
        unpacked_state(load_packed(tmp_path / 'x'))


def test_codes_that_do_not_come_out_the_same_are_reported(tmp_path):
    """As when the weight was changed behind the codes."""
    network = tiny_quantized({'transform': 'random'})
    save_packed(network, tmp_path / 'x')
    packed = load_packed(tmp_path / 'x')
    layer = packed.layers[0].residual_group.blocks[0].mlp.fc1
    layer.weight.add_(1.0)
    with pytest.raises(CompSRTError, match=r'blocks\.0\.mlp\.fc1` does not give its codes again'):
        unpacked_state(packed)


# What is refused


def test_full_precision_and_uncalibrated_networks(tmp_path):
    with pytest.raises(CompSRTError, match='is not quantized'):
        save_packed(tiny_swinir(), tmp_path / 'x')
    network = tiny_quantized()
    quantizer = network.layers[0].residual_group.blocks[1].attn.k_quantizer
    quantizer.is_calibrated = False
    with pytest.raises(CompSRTError, match=r'blocks\.1\.attn\.k_quantizer` is not calibrated'):
        save_packed(network, tmp_path / 'x')
    assert not any(tmp_path.iterdir())


def test_paper_quantizers_that_exceed_their_bits_are_named(tmp_path):
    """A weight by its codes, an activation by what its bounds allow."""
    network = tiny_quantized(PAPER)
    attention = network.layers[0].residual_group.blocks[1].attn
    attention.proj.weight_quantizer.scale_offset.fill_(-0.9 * float(attention.proj.weight_quantizer.grid()[0]))
    attention.v_quantizer.scale_offset.fill_(-0.5 * float(attention.v_quantizer.grid()[0]))
    with pytest.raises(CompSRTError, match='exceed b bits') as error:
        save_packed(network, tmp_path / 'x')
    assert '2 of 32 quantizers' in str(error.value)
    assert 'attn.proj.weight_quantizer` (' in str(error.value)
    assert 'attn.v_quantizer` (31 levels instead of 16)' in str(error.value)


def test_quantizers_beyond_those_that_are_named_are_counted(tmp_path):
    """Eight are named, of 32."""
    network = tiny_quantized(PAPER)
    for quantizer in quantizers(network).values():
        quantizer.scale_offset.fill_(-0.9 * float(quantizer.grid()[0]))
    with pytest.raises(CompSRTError, match='exceed b bits') as error:
        save_packed(network, tmp_path / 'x')
    text = str(error.value)
    assert text.startswith('32 of 32 quantizers') and text.count('levels instead of 16)') == 8
    assert 'and 24 more quantizers' in text


@pytest.mark.parametrize(
    ('arguments', 'text'),
    [
        ({'codec': 'zstd'}, 'no longer written'),
        ({'rest': 'fp61'}, '`rest` must be'),
        ({'codec': 'mask'}, 'not pruned: use `rans`'),
    ],
)
def test_arguments(tmp_path, arguments, text):
    with pytest.raises(CompSRTError, match=text):
        save_packed(tiny_quantized(), tmp_path / 'x', **arguments)


def test_numbers_beyond_fp16(tmp_path):
    network = tiny_quantized()
    network.conv_first.bias[3] = 1e5
    with pytest.raises(CompSRTError, match=r'`conv_first\.bias` has numbers beyond the range of fp16'):
        save_packed(network, tmp_path / 'x')
    save_packed(network, tmp_path / 'x', rest='fp32')


# Pruned networks


def pruned_contents(code_range):
    """Contents with masks, whose pruned codes are those of zero, as the pruning of a network leaves them."""
    generator = torch.Generator().manual_seed(0)
    contents = collect(tiny_quantized({'code_range': code_range, 'transform': 'none', 'granularity': 'channel'}))
    grids, pruned = dict(contents.grids), []
    for layer in contents.layers:
        keep, codes, rows = torch.rand(layer.codes.shape, generator=generator) > 0.4, [], 0
        for name, block in zip(layer.quantizers, layer.codes.chunk(len(layer.quantizers))):
            quantizer = Quantizer(layer.bits, code_range, len(block), name)
            set_grid(quantizer, grids[name])
            mask = keep[rows : rows + len(block)]
            codes.append(torch.where(mask, block, code_of_zero(quantizer)))
            rows += len(block)
            assert torch.equal(read_grid(quantizer), grids[name])
        pruned.append(dataclasses.replace(layer, codes=torch.cat(codes), keep=keep))
    return Contents(contents.record, pruned, grids, contents.rest)


@pytest.mark.parametrize('codec', CODECS)
@pytest.mark.parametrize('code_range', ['strict', 'paper'])
def test_pruned_codes_and_masks(codec, code_range):
    """The mask is exact where it is stored; elsewhere it is what has the code of zero."""
    contents = pruned_contents(code_range)
    metadata, arrays = encode(contents, codec, 'fp16')
    assert ('masks' in arrays) == (codec == 'mask' or code_range == 'paper')
    again = decode(metadata, arrays, 10**6)
    for before, after in zip(contents.layers, again.layers):
        assert torch.equal(before.codes.int(), after.codes.int())
        if 'masks' in arrays:
            assert torch.equal(before.keep, after.keep)
        else:
            assert not (after.keep & ~before.keep).any()


def test_mask_stores_kept_codes_only():
    contents = pruned_contents('strict')
    arrays = encode(contents, 'mask', 'fp16')[1]
    kept, total = (
        sum(int(layer.keep.sum()) for layer in contents.layers),
        sum(x.keep.numel() for x in contents.layers),
    )
    blocks = sum(len(layer.quantizers) for layer in contents.layers)
    assert kept * 4 / 8 <= arrays['codes'].nbytes <= kept * 4 / 8 + blocks
    assert total / 8 <= arrays['masks'].nbytes <= total / 8 + len(contents.layers)


@pytest.mark.parametrize('codec', CODECS)
@pytest.mark.parametrize(
    'quant',
    [{}, PAPER, {'granularity': 'channel', 'weight_bits': 3}, {'granularity': 'channel', 'prune_pattern': 'channel'}],
    ids=str,
)
def test_pruned_network(tmp_path, codec, quant):
    network = tiny_quantized({'prune_ratio': 0.4, **quant})
    save_packed(network, tmp_path / 'x', codec)
    packed = load_packed(tmp_path / 'x')
    for name, layer in layers(network).items():
        assert torch.equal(layers(packed)[name].weight_codes(), layer.weight_codes())
        weights = zip(layer.quantized_weights(), layers(packed)[name].quantized_weights())
        assert all(torch.equal(mine, theirs) for mine, theirs in weights)
        assert (~layers(packed)[name].keep_mask).float().mean() >= 0.35
    with torch.no_grad():
        assert torch.equal(packed(pictures()), with_rounded_rest(network)(pictures()))


@pytest.mark.parametrize('codec', ['mask', 'rans'])
def test_pruned_network_unpacks(tmp_path, codec):
    save_packed(tiny_quantized({'prune_ratio': 0.4}), tmp_path / 'x', codec)
    packed = load_packed(tmp_path / 'x')
    torch.save({'params': unpacked_state(packed)}, tmp_path / 'x.pth')
    loaded = load_network(tmp_path / 'x.pth').network
    with torch.no_grad():
        assert torch.equal(loaded(pictures()), packed(pictures()))


# Hostile files


@pytest.fixture(scope='module')
def small(tmp_path_factory):
    """A packed file of a small network."""
    path = tmp_path_factory.mktemp('packed') / 'small.safetensors'
    save_packed(tiny_edsr(), path)
    return path


def refused(path):
    with pytest.raises(CompSRTError) as error:
        load_network(path)
    assert str(error.value).isprintable() and path.name in str(error.value)
    return str(error.value)


def test_every_byte_of_the_header_and_random_ones_of_the_rest(small, tmp_path):
    data = small.read_bytes()
    header = 8 + int.from_bytes(data[:8], 'little')
    noise = random.Random(0)
    bad = tmp_path / 'bad.safetensors'
    for position in [*range(header), *noise.sample(range(header, len(data)), 200)]:
        bad.write_bytes(data[:position] + bytes([data[position] ^ noise.randrange(1, 256)]) + data[position + 1 :])
        refused(bad)
    for length in noise.sample(range(len(data)), 50):
        bad.write_bytes(data[:length])
        refused(bad)


def signed(metadata, arrays):
    """A file with a right checksum, whatever it holds."""
    kept = {key: value for key, value in metadata.items() if key not in ('format', 'version', 'sha256')}
    return container.to_bytes(kept, arrays)


@pytest.mark.parametrize('codec', ['plain', 'rans'])
def test_altered_arrays_with_a_right_checksum(tmp_path, codec):
    """No file that anyone can make raises anything but a sentence; one with other weights may load."""
    path = tmp_path / 'bad.safetensors'
    save_packed(tiny_edsr(), path, codec)
    metadata, arrays, _ = container.read(path)
    noise = random.Random(1)
    refusals = 0
    for _ in range(150):
        changed = dict(arrays)
        name = noise.choice(list(changed))
        raw = bytearray(changed[name].tobytes())
        if noise.random() < 0.3:
            raw = raw[: noise.randrange(len(raw)) // changed[name].itemsize * changed[name].itemsize]
        else:
            raw[noise.randrange(len(raw))] ^= noise.randrange(1, 256)
        changed[name] = np.frombuffer(bytes(raw), changed[name].dtype)
        path.write_bytes(signed(metadata, changed))
        try:
            load_packed(path)
        except CompSRTError:
            refusals += 1
    assert refusals > 75


def hostile_index(**changes):
    def change(metadata, arrays):
        index = Index.from_array(arrays['index'], 10**6)
        values = {name: make(getattr(index, name)) for name, make in changes.items()}
        return metadata, {**arrays, 'index': dataclasses.replace(index, **values).to_array()}

    return change


def layer(**changes):
    return lambda found: [dataclasses.replace(found[0], **changes), *found[1:]]


def raw_index(data):
    return lambda metadata, arrays: (metadata, {**arrays, 'index': np.frombuffer(data, np.uint8)})


def without(*names):
    return lambda metadata, arrays: (metadata, {k: v for k, v in arrays.items() if k not in names})


def record(text):
    return lambda metadata, arrays: ({**metadata, 'record': text}, arrays)


@pytest.mark.parametrize(
    'change',
    [
        *[without(name) for name in ('index', 'codes', 'tables', 'grids', 'rest', 'rest_codes')],
        lambda metadata, arrays: ({**metadata, 'codec': 'lzma'}, arrays),
        lambda metadata, arrays: ({**metadata, 'rest': 'fp8'}, arrays),
        lambda metadata, arrays: ({k: v for k, v in metadata.items() if k != 'codec'}, arrays),
        lambda metadata, arrays: ({**metadata, 'codec': 3, 'record': None}, arrays),
        record('{'),
        record('[]'),
        record('{"quant": 3}'),
        record('{"quant": {"code_range": "loose"}}'),
        record('[' * 50_000),
        record('{"arch": "CompSRTSwinIR", "args": {"embed_dim": 1000000000}, "quant": {}}'),
        record('{"arch": "CompSRTSwinIR", "args": {"depths": [10000], "num_heads": [6]}, "quant": {}}'),
        record('{"arch": "CompSRTSwinIR", "args": {}, "quant": {}}'),
        record('{"arch": "VGGFeatureExtractor", "args": {"layer_name_list": ["conv1_1"]}, "quant": {}}'),
        raw_index(b''),
        raw_index(b'no zlib'),
        raw_index(zlib.compress(b'[' * 2**25)),
        raw_index(zlib.compress(bytes(2**28))),
        raw_index(zlib.compress(b'{}')),
        hostile_index(crc32=lambda crc: crc ^ 1),
        hostile_index(quantizers=lambda found: [(found[0][0], 2**32), *found[1:]]),
        hostile_index(quantizers=lambda found: [found[0], *found]),
        hostile_index(quantizers=lambda found: [('x', 1), *found[1:]]),
        hostile_index(layers=layer(shape=(2**31, 2**31))),
        hostile_index(layers=layer(shape=(2**12, 2**12))),
        hostile_index(layers=layer(shape=(8, -8, 3, 3))),
        hostile_index(layers=layer(shape=(8, 8, 0, 3))),
        hostile_index(layers=layer(shape=(8, 8.0, 3, 3))),
        hostile_index(layers=layer(shape=(8, 72))),
        hostile_index(layers=layer(quantizers=())),
        hostile_index(layers=layer(quantizers=(99,))),
        hostile_index(layers=layer(quantizers=(-1,))),
        hostile_index(layers=layer(quantizers=(0, 0, 0))),
        hostile_index(layers=layer(quantizers=(1,))),
        hostile_index(layers=layer(bits=9)),
        hostile_index(layers=layer(bits=True)),
        hostile_index(layers=layer(bits=5)),
        hostile_index(layers=layer(pruned=True)),
        hostile_index(layers=layer(name='conv_first')),
        hostile_index(layers=lambda found: found[:-1]),
        hostile_index(layers=lambda found: []),
        hostile_index(rest=lambda found: [(found[0][0], (2**32,) * 8), *found[1:]]),
        hostile_index(rest=lambda found: found[1:]),
        hostile_index(rest=lambda found: [('x', found[0][1]), *found[1:]]),
        hostile_index(rest=lambda found: [(found[0][0], found[0][1][::-1]), *found[1:]]),
        hostile_index(exact=lambda found: [('x', 'int64', (2**32,) * 8)]),
        hostile_index(exact=lambda found: [('x', 'object', (1,))]),
    ],
)
def test_hostile_contents_with_a_right_checksum(small, tmp_path, change):
    metadata, arrays, _ = container.read(small)
    bad = tmp_path / 'bad.safetensors'
    bad.write_bytes(signed(*change(metadata, arrays)))
    refused(bad)


def zstd_codes(*layers, quantizers=1):
    """A file of some kilobytes whose layers have many codes, all 0, behind a right checksum."""
    count = sum(math.prod(entry[2]) for entry in layers)
    names = [[f'q{number}', 1] for number in range(quantizers)]
    index = {'quantizers': names, 'layers': layers, 'rest': [], 'exact': [], 'crc32': zlib.crc32(bytes(count))}
    return {
        'grids': np.tile(np.array([1, 0], np.float32), quantizers),
        'codes': np.frombuffer(zstandard.compress(bytes(count)), np.uint8),
        'index': np.frombuffer(zlib.compress(json.dumps(index).encode(), 9), np.uint8),
    }


@pytest.mark.parametrize(
    'arrays',
    [
        lambda: zstd_codes(['w', 2, [200_000, 1], [0] * 200_000, True]),
        lambda: zstd_codes(['w', 2, [10**6, 1], [0] * 10**6, False]),
        lambda: zstd_codes(*[[f'w{number}', 2, [1, 1], [0], True] for number in range(50_000)]),
        lambda: (
            zstd_codes(['w', 2, [1, 1], [0], False]) | {'index': np.frombuffer(zlib.compress(bytes(2**28)), np.uint8)}
        ),
        lambda: {
            **zstd_codes(),
            'index': np.frombuffer(zlib.compress(b'{"quantizers":[' + b'[],' * 2**20 + b'[]]}'), np.uint8),
        },
    ],
)
def test_many_blocks_in_a_tiny_file_are_refused_at_once(tmp_path, arrays):
    metadata = {'codec': 'zstd', 'rest': 'fp16', 'record': '{"arch":"CompSRTNet","args":{},"quant":{}}'}
    (tmp_path / 'bad.safetensors').write_bytes(signed(metadata, arrays()))
    refused_at_once(tmp_path / 'bad.safetensors')


def refused_at_once(path):
    start, memory = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(path)
    assert time.process_time() - start < 3  # they took 17 to 121 seconds
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 2**18  # KiB: a quarter of a GiB


def small_record(**base):
    return record(json.dumps({'arch': 'CompSRTNet', 'args': {'base': base}, 'quant': {'quantize_convs': True}}))


IMAGES = {'num_in_ch': 3, 'num_out_ch': 3}


@pytest.mark.parametrize(
    'change',
    [
        small_record(type='RCAN', num_group=16384, num_block=16384, num_feat=1, squeeze_factor=1, **IMAGES),
        small_record(type='RCAN', num_group=20, num_block=20, num_feat=1, squeeze_factor=1, **IMAGES),
        small_record(type='EDSR', num_block=16384, num_feat=1, **IMAGES),
        small_record(type='RRDBNet', num_block=16384, num_feat=1, num_grow_ch=1, **IMAGES),
        small_record(type='SRVGGNetCompact_basicsr', num_conv=16384, num_feat=1, **IMAGES),
        small_record(type='ECBSR', num_block=16384, num_channel=1, with_idt=False, act_type='relu', scale=2, **IMAGES),
        small_record(type='ECBSR', num_block=1, num_channel=16384, with_idt=False, act_type='relu', scale=2, **IMAGES),
        small_record(type='RIDNet', in_channels=3, mid_channels=16, out_channels=3, num_block=16384),
        small_record(type='MSRResNet', num_block=16384, num_feat=1, **IMAGES),
        small_record(type='EDSR', upscale=2**14, num_feat=1, num_block=1, **IMAGES),
        small_record(type='SwinIR', depths=[4096] * 1000, num_heads=[1] * 1000, embed_dim=1),
        small_record(type='SwinIR', depths=[0] * 1024, num_heads=[1] * 1024, embed_dim=1),
        small_record(type='SwinIR', depths=[1], num_heads=[1], embed_dim=1, img_size=16384, window_size=2),
        small_record(type='SwinIR', depths=[1], num_heads=[60], embed_dim=60, img_size=64, window_size=53),
        small_record(type='SwinIR', depths=[2], num_heads=[1], embed_dim=2, mlp_ratio=2047.5),
        record(
            '{"arch":"CompSRTSwinIR","args":{"depths":[2],"num_heads":[1],"embed_dim":1,"mlp_ratio":4095},'
            '"quant":{"transform":"random"}}'
        ),
    ],
)
def test_networks_beyond_the_file_are_refused_at_once(small, tmp_path, change):
    metadata, arrays, _ = container.read(small)
    (tmp_path / 'bad.safetensors').write_bytes(signed(*change(metadata, arrays)))
    refused_at_once(tmp_path / 'bad.safetensors')


EDSR_BASE = {'type': 'EDSR', 'num_feat': 8, 'num_block': 1, 'upscale': 2, **IMAGES}


@pytest.mark.parametrize(
    ('name', 'value'),
    [
        *[('img_range', value) for value in ('', None, 0, -1.0, [1], 10**400, float('nan'), True)],
        *[('res_scale', value) for value in ('x', None, [])],
        *[('rgb_mean', value) for value in (0.5, [0.5], ['a', 'b', 'c'], None)],
        *[('upscale', value) for value in (2.0, '2', True, 0, 32)],
        ('num_in_ch', 1),
        ('nonsense\x1b[2J', 1),
    ],
)
def test_arguments_that_fail_on_the_first_image_are_refused(small, tmp_path, name, value):
    """The record is that of the file but for one argument; BasicSR builds most of these networks."""
    metadata, arrays, _ = container.read(small)
    change = small_record(**{**EDSR_BASE, 'img_range': 1.0, name: value})
    (tmp_path / 'bad.safetensors').write_bytes(signed(*change(metadata, arrays)))
    refused(tmp_path / 'bad.safetensors')


@pytest.mark.parametrize(
    ('name', 'value'),
    [
        ('qk_scale', 'x'),
        ('img_range', ''),
        ('drop_rate', 2),
        ('upsampler', ''),
        ('upscale', 3),
        ('use_checkpoint', True),
        ('window_size', 8.0),
        ('img_size', [16, 16, 16]),
    ],
)
def test_arguments_of_swinir_that_fail_on_the_first_image_are_refused(tmp_path, name, value):
    """As above, for BasicSR's SwinIR, which CompSRTNet quantizes."""
    torch.manual_seed(0)
    base = {'type': 'SwinIR', **TINY}
    save_packed(ready(CompSRTNet(base, {})), tmp_path / 'good.safetensors')
    assert load_network(tmp_path / 'good.safetensors').scale == 2
    metadata, arrays, _ = container.read(tmp_path / 'good.safetensors')
    changed = {**json.loads(metadata['record']), 'args': {'base': {**base, name: value}}}
    (tmp_path / 'bad.safetensors').write_bytes(signed({**metadata, 'record': json.dumps(changed)}, arrays))
    refused(tmp_path / 'bad.safetensors')


@pytest.mark.parametrize('kind', [np.uint32, np.int32, np.uint8, np.float16])
@pytest.mark.parametrize('name', ['grids', 'codes', 'tables', 'rest', 'rest_codes', 'rest_tables', 'index'])
def test_arrays_of_other_types_are_refused(small, tmp_path, name, kind):
    metadata, arrays, _ = container.read(small)
    if arrays[name].dtype == kind:
        return
    size = arrays[name].nbytes // np.dtype(kind).itemsize * np.dtype(kind).itemsize
    changed = {**arrays, name: np.frombuffer(arrays[name].tobytes()[:size], kind)}
    (tmp_path / 'bad.safetensors').write_bytes(signed(metadata, changed))
    refused(tmp_path / 'bad.safetensors')
    with pytest.raises(CompSRTError):
        measure_packed(tmp_path / 'bad.safetensors')


@pytest.mark.parametrize('place', ['sha256', 'record', 'codec', 'index'])
def test_half_surrogates_are_refused(small, tmp_path, place):
    data = small.read_bytes()
    start = 8 + int.from_bytes(data[:8], 'little')
    header = json.loads(data[8:start])
    metadata, arrays, _ = container.read(small)
    bad = tmp_path / 'bad.safetensors'
    if place == 'sha256':
        header['__metadata__']['sha256'] = '\ud800'
        text = json.dumps(header).encode()
        bad.write_bytes(len(text).to_bytes(8, 'little') + text + data[start:])
    elif place == 'index':
        bad.write_bytes(signed(*hostile_index(layers=layer(name='\ud800'))(metadata, arrays)))
    else:
        bad.write_bytes(signed({**metadata, place: '{"arch":"\ud800"}'}, arrays))
    refused(bad)


def test_the_test_above_changes_what_it_says(small, tmp_path):
    """The same way with no change gives a file that loads."""
    metadata, arrays, _ = container.read(small)
    good = tmp_path / 'good.safetensors'
    good.write_bytes(signed(*hostile_index(rest=list)(metadata, arrays)))
    assert good.read_bytes() == small.read_bytes()
    assert len(quantizers(load_packed(good))) == len(read_packed(good).grids)
