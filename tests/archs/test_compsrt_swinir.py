"""CompSRTSwinIR: where the quantizers sit, equality with BasicSR's SwinIR, checkpoints, presets, arguments."""

import math
import re

import pytest
import torch
from basicsr.archs import build_network
from basicsr.utils.registry import ARCH_REGISTRY
from tiny_networks import TINY
from tiny_networks import tiny_swinir as teacher

from compsrt_basicsr.archs.compsrt_swinir_arch import CompSRTSwinIR
from compsrt_basicsr.archs.state_dicts import check_fit
from compsrt_basicsr.archs.swinir_attention import SoftmaxNumerator, row_sums
from compsrt_basicsr.config.calibration import CalibrationConfig
from compsrt_basicsr.config.quant import QuantConfig
from compsrt_basicsr.errors import CompSRTError
from compsrt_basicsr.quant.calibrate import calibrate
from compsrt_basicsr.quant.code_usage import counting_codes, summarize
from compsrt_basicsr.quant.functional.affine import fake_quantize
from compsrt_basicsr.quant.quantizer import quantizers
from compsrt_basicsr.quant.record import decode_record

CONVOLUTIONS = [{}, {'quantize_convs': True}, {'quantize_convs': True, 'quantize_head_tail': True}]
TRANSFORMS = ('auto', 'padded', 'dct', 'random', 'none')


def student(quant=None, **changes):
    return CompSRTSwinIR(**{**TINY, **changes}, quant=quant).eval()


def pictures(*size, seed=0):
    return torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(seed))


def calibrated(quant=None, **changes):
    network = student(quant, **changes)
    network.load_state_dict(teacher(**changes).state_dict())
    calibrate(network, pictures(16, 16), CalibrationConfig(candidates=20), progress=False)
    return network


def observed(network, x):
    for quantizer in quantizers(network).values():
        quantizer.observer = lambda q, t: None
    try:
        with torch.no_grad():
            return network(x)
    finally:
        for quantizer in quantizers(network).values():
            quantizer.observer = None


@pytest.fixture(scope='module')
def light():
    """SwinIR-light x2, built once."""
    return build_network({'type': 'compsrt_swinir_light_x2_w4a4'})


def test_light_has_384_quantizers(light):
    """24 blocks with six linear layers (weight and input each) and four operands."""
    names = list(quantizers(light))
    assert len(names) == len(set(names)) == 384
    block = 'layers.3.residual_group.blocks.5'
    inside = {name.removeprefix(f'{block}.') for name in names if name.startswith(f'{block}.')}
    linears = ['attn.qkv.q', 'attn.qkv.k', 'attn.qkv.v', 'attn.proj', 'mlp.fc1', 'mlp.fc2']
    assert inside == {f'{name}.{kind}_quantizer' for name in linears for kind in ('weight', 'act')} | {
        f'attn.{operand}_quantizer' for operand in ('q', 'k', 'v', 'attn')
    }
    assert all(name == quantizer.name for name, quantizer in quantizers(light).items())


def test_light_has_the_published_parameters(light):
    """910,152 at x2 and 4 numbers for each quantizer, 691,200 weights quantized."""
    own = sum(p.numel() for n, p in light.named_parameters() if 'quantizer' not in n)
    assert own == 910_152
    assert sum(p.numel() for p in light.parameters()) - own == 4 * 384
    quantized = [m for m in light.modules() if hasattr(m, 'transformed_weight')]
    assert sum(m.weight.numel() for m in quantized) == 691_200


def test_light_is_exact(light):
    """Orders 60 and 120 have Hadamard matrices, the head size 10 a conference matrix: nothing is padded."""
    attention = light.layers[0].residual_group.blocks[0].attn
    assert attention.qkv.transform.kind == attention.proj.transform.kind == 'hadamard'
    assert attention.head_transform.kind == 'conference'
    assert all(getattr(m, 'projection', None) is None for m in light.modules())


@pytest.mark.parametrize('scale', [2, 3, 4])
@pytest.mark.parametrize('bits', [4, 3, 2])
def test_presets(scale, bits):
    name = f'compsrt_swinir_light_x{scale}_w{bits}a{bits}'
    assert name in ARCH_REGISTRY
    small = build_network({'type': name, 'depths': [1], 'num_heads': [6]})
    assert (small.upscale, small.quant_config.weight_bits, small.quant_config.act_bits) == (scale, bits, bits)
    assert small.quant_config.code_range == 'strict'
    assert small.embed_dim == 60 and small.window_size == 8
    assert {q.bits for q in quantizers(small).values()} == {bits}
    with pytest.raises(TypeError, match='embed_dims'):
        ARCH_REGISTRY.get(name)(embed_dims=12)


def test_presets_take_quantization_of_their_own():
    network = build_network(
        {'type': 'compsrt_swinir_light_x2_w3a3', 'depths': [1], 'num_heads': [6], 'quant': {'act_bits': 8}}
    )
    assert (network.quant_config.weight_bits, network.quant_config.act_bits) == (3, 8)


@pytest.mark.parametrize('transform', TRANSFORMS)
@pytest.mark.parametrize('size', [(16, 16), (24, 16), (8, 40)], ids=str)
def test_observed_network_equals_basicsrs_swinir(transform, size):
    """Plain and shifted windows, at img_size and elsewhere; 1e-5: float32 in another order."""
    base = teacher()
    assert base.layers[0].residual_group.blocks[1].shift_size > 0
    network = student({'transform': transform})
    network.load_state_dict(base.state_dict())
    x = pictures(*size)
    with torch.no_grad():
        assert torch.allclose(observed(network, x), base(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    'changes',
    [
        {'upsampler': 'pixelshuffle'},
        {'upsampler': 'nearest+conv', 'upscale': 4},
        {'upsampler': 'nearest+conv', 'upscale': 2},
        {'upsampler': '', 'upscale': 1},
        {'resi_connection': '3conv'},
        {'ape': True},
        {'qkv_bias': False},
        {'qk_scale': 0.5},
        {'patch_norm': False},
        {'depths': (1, 2), 'num_heads': (2, 3)},
        {'img_range': 255.0},
    ],
    ids=str,
)
@pytest.mark.parametrize('quant', [{}, {'quantize_convs': True, 'quantize_head_tail': True}], ids=str)
def test_variants_equal_basicsrs_swinir(changes, quant):
    base = teacher(**changes)
    network = student(quant, **changes)
    network.load_state_dict(base.state_dict())
    x = pictures(16, 16)
    with torch.no_grad():
        expected = base(x)
    assert torch.allclose(observed(network, x), expected, rtol=0, atol=1e-5 * max(1, float(expected.abs().max())))


def test_what_convs_and_head_tail_add():
    counts = [len(quantizers(student(q))) for q in CONVOLUTIONS]
    assert counts == [32, 32 + 2 * 2, 32 + 2 * 4]  # RSTB and conv_after_body; conv_first and upsample


@pytest.mark.parametrize('pattern', ['*.qkv', '*blocks.0.attn.proj'])
def test_a_linear_inside_an_attention_cannot_be_left_out(pattern):
    """Its operands are quantized with it, so the pattern would have no effect."""
    with pytest.raises(CompSRTError, match=r'`.*blocks\.0\.attn\.(qkv|proj)` alone'):
        student({'exclude': [pattern]})


def test_exclude_reaches_attention():
    network = student({'exclude': '*blocks.0*'})
    assert len(quantizers(network)) == 16
    assert all('blocks.1' in name for name in quantizers(network))


@pytest.mark.parametrize('code_range', ['strict', 'paper'])
@pytest.mark.parametrize('transform', TRANSFORMS)
def test_eight_bits_are_near_full_precision(transform, code_range):
    """SQNR of the image above 30 dB: 8 bits per operand, through two blocks.

    The published search sees 12 of 16 coefficients, and its bounds clip the others: above 25 dB.
    """
    network = calibrated({'weight_bits': 8, 'act_bits': 8, 'transform': transform, 'code_range': code_range})
    x = pictures(16, 16)
    with torch.no_grad():
        reference, result = teacher()(x), network(x)
    least = 25 if (transform, code_range) == ('padded', 'paper') else 30
    assert 10 * torch.log10(reference.square().mean() / (reference - result).square().mean()) > least
    assert not torch.equal(reference, result)


@pytest.mark.parametrize('bits', [2, 3])
def test_code_usage_after_calibration(bits):
    network = calibrated({'weight_bits': bits, 'act_bits': bits})
    with counting_codes(network) as counts, torch.no_grad():
        network(pictures(24, 16, seed=1) * 3)
    assert len(counts) == 32 and all(count.used >= 1 for count in counts.values())
    assert summarize(counts) == {'levels_max': 2**bits, 'levels_over': 0}


@pytest.mark.parametrize('granularity', ['tensor', 'channel'])
def test_every_trained_parameter_gets_a_gradient(granularity):
    """In strict range all four of every quantizer, and every weight."""
    network = calibrated({'weight_bits': 3, 'act_bits': 3, 'granularity': granularity})
    with torch.no_grad():
        for quantizer in quantizers(network).values():
            quantizer.lower.add_(0.1)  # some values are below each grid
    network.train()(pictures(16, 16)).square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
        if name != 'norm.bias':
            assert parameter.grad.any(), name


# Checkpoints


@pytest.mark.parametrize('img_size', [16, 32, 48])
@pytest.mark.parametrize('prefix', ['', 'module.'])
def test_full_precision_checkpoint_of_any_img_size(img_size, prefix):
    state = {prefix + key: value for key, value in teacher(img_size=img_size).state_dict().items()}
    assert any(key.endswith('attn_mask') for key in state)
    network = student()
    network.load_state_dict(state, strict=True)
    assert torch.equal(network.conv_first.weight, state[f'{prefix}conv_first.weight'])
    assert not any(q.is_calibrated for q in quantizers(network).values())


@pytest.mark.parametrize('quant', [{}, {'code_range': 'paper', 'transform': 'padded'}, {'granularity': 'channel'}])
def test_round_trip(quant, tmp_path):
    """Saved, and loaded at another img_size: bit-identical output."""
    first = calibrated(quant)
    torch.save(first.state_dict(), tmp_path / 'net.pth')
    state = torch.load(tmp_path / 'net.pth', weights_only=True)
    assert not [key for key in state if key.endswith(('attn_mask', 'relative_position_index', 'matrix', 'projection'))]
    second = student(quant, img_size=32)
    second.load_state_dict(state)
    x = pictures(24, 24)
    with torch.no_grad():
        assert torch.equal(first(x), second(x))


def one_sentence(error):
    text = str(error.value)
    return '\n' not in text and text.endswith('.')


@pytest.mark.parametrize(
    ('changes', 'text'),
    [
        ({'upscale': 4}, 'another scale: x4, the network is x2'),
        ({'depths': (3,)}, r'does not fit CompSRTSwinIR: .*blocks\.2.* is not in the network .*more'),
        ({'depths': (1,)}, r'blocks\.1.* is missing .*check embed_dim, depths'),
        ({'embed_dim': 24}, r'is \(24, 3, 3, 3\), not \(12, 3, 3, 3\)'),
        ({'num_heads': (3,)}, 'relative_position_bias_table'),
        ({'upsampler': 'pixelshuffle'}, 'does not fit'),
    ],
)
def test_checkpoint_of_another_network(changes, text):
    with pytest.raises(CompSRTError, match=text) as error:
        student().load_state_dict(teacher(**changes).state_dict())
    assert one_sentence(error)


@pytest.mark.parametrize(('mine', 'theirs'), [(2, 3), (2, 4), (4, 2), (3, 2)])
def test_checkpoint_of_another_scale_with_a_tail_of_several_steps(mine, theirs):
    network = teacher(upsampler='pixelshuffle', upscale=mine)
    with pytest.raises(CompSRTError, match=f'another scale: x{theirs}, the network is x{mine}'):
        check_fit(teacher(upsampler='pixelshuffle', upscale=theirs).state_dict(), network)


@pytest.mark.parametrize(
    ('mine', 'theirs', 'text'),
    [
        ({'weight_bits': 4}, {'weight_bits': 3}, 'weight_bits 3 in the checkpoint, 4 in the options'),
        ({}, {'transform': 'dct'}, "transform 'dct' in the checkpoint, 'auto' in the options"),
        ({}, {'code_range': 'paper'}, "code_range 'paper' in the checkpoint"),
        ({}, {'granularity': 'channel'}, "granularity 'channel' in the checkpoint"),
    ],
)
def test_checkpoint_of_another_quantization(mine, theirs, text):
    with pytest.raises(CompSRTError, match=text) as error:
        student(mine).load_state_dict(calibrated(theirs).state_dict())
    assert one_sentence(error)


def test_record_holds_what_rebuilds_the_network():
    network = calibrated({'weight_bits': 3})
    record = decode_record(network.quant_record.json)
    again = build_network({'type': record['arch'], **record['args'], 'quant': record['quant']})
    again.load_state_dict(network.state_dict())
    x = pictures(16, 16)
    with torch.no_grad():
        assert torch.equal(again.eval()(x), network(x))


def test_damaged_record_is_one_sentence():
    state = calibrated().state_dict()
    state['quant_record.json'] = state['quant_record.json'][:-5]
    with pytest.raises(CompSRTError, match='quantization record'):
        student().load_state_dict(state)


# Checkpoints of the authors' code and of 2DQuant

PAPER = {'code_range': 'paper', 'weight_bits': 4, 'act_bits': 4}
OPERANDS = {'q': 'q_quantizer', 'k': 'k_quantizer', 'v': 'v_quantizer', 'a': 'attn_quantizer'}


def foreign_state(offsets, bits=4):
    """A state dict with the keys of method.md §5, from a full-precision network and random bounds."""
    generator = torch.Generator().manual_seed(1)

    def quantizer(prefix, low, high):
        jitter = torch.rand(2, generator=generator) * 0.1
        state[f'{prefix}.lower_bound'] = torch.tensor([low]) - jitter[:1]
        state[f'{prefix}.upper_bound'] = torch.tensor([high]) + jitter[1:]
        state[f'{prefix}.n_bit'] = torch.tensor([float(bits)])
        if offsets:
            state[f'{prefix}.alpha'] = torch.randn(1, generator=generator) * 0.01
            state[f'{prefix}.beta_Z'] = torch.randn(1, generator=generator) * 0.01

    state = {}
    for key, value in teacher().state_dict().items():
        if match := re.fullmatch(r'(.*\.qkv)\.(weight|bias)', key):
            for part, third in zip('qkv', value.chunk(3)):
                state[f'{match[1]}.{part}.{match[2]}'] = third.clone()
        else:
            state[key] = value
    for block in (0, 1):
        root = f'layers.0.residual_group.blocks.{block}'
        for linear in ('attn.qkv.q', 'attn.qkv.k', 'attn.qkv.v', 'attn.proj', 'mlp.fc1', 'mlp.fc2'):
            quantizer(f'{root}.{linear}.weight_quantizer', -0.4, 0.4)
            quantizer(f'{root}.{linear}.act_quantizer', -2.0, 2.0)
        for operand in 'qkv':
            quantizer(f'{root}.attn.mymodule_{operand}', -1.0, 1.0)
        quantizer(f'{root}.attn.mymodule_a', 0.0, 0.2)
    return state


def published(x, state, prefix):
    """The published formula, in float64, from the foreign keys."""
    lower, upper, bits = (float(state[f'{prefix}.{part}']) for part in ('lower_bound', 'upper_bound', 'n_bit'))
    scale = (upper - lower) / (2**bits - 1) + float(state.get(f'{prefix}.alpha', 0.0))
    zero = lower + float(state.get(f'{prefix}.beta_Z', 0.0))
    return scale * torch.round((x.double().clip(lower, upper) - zero) / scale) + zero


@pytest.mark.parametrize(('offsets', 'transform'), [(True, 'padded'), (False, 'none')])
def test_foreign_checkpoint_computes_the_published_formula(offsets, transform):
    """Checked for each quantizer on its input; float32 may only flip codes on the boundary of two steps."""
    state = foreign_state(offsets)
    network = student({**PAPER, 'transform': transform})
    network.load_state_dict(state, strict=True)
    assert all(q.is_calibrated for q in quantizers(network).values())
    seen = {}
    for name, quantizer in quantizers(network).items():
        quantizer.register_forward_hook(lambda m, inputs, y, name=name: seen.__setitem__(name, (inputs[0], y)))
    with torch.no_grad():
        network(pictures(16, 16))
    assert len(seen) == 32
    for name, (x, y) in seen.items():
        foreign = name
        for letter, operand in OPERANDS.items():
            foreign = re.sub(rf'attn\.{operand}$', f'attn.mymodule_{letter}', foreign)
        error = (y.double() - published(x, state, foreign)).abs()
        assert (error > 1e-5).float().mean() < 1e-3, name


def test_foreign_fused_weight_is_the_three_parts():
    state = foreign_state(True)
    network = student({**PAPER, 'transform': 'padded'})
    network.load_state_dict(state)
    assert torch.equal(
        network.layers[0].residual_group.blocks[1].attn.qkv.weight,
        dict(teacher().named_parameters())['layers.0.residual_group.blocks.1.attn.qkv.weight'],
    )


@pytest.mark.parametrize(
    ('offsets', 'quant', 'text'),
    [
        (True, {}, r'code_range: paper` and `quant\.transform: padded'),
        (False, {}, r'code_range: paper` and `quant\.transform: none'),
        (True, {'code_range': 'paper', 'transform': 'none'}, r'authors: .*transform: padded'),
        (False, {'code_range': 'paper', 'transform': 'padded'}, r'2DQuant checkpoint: .*transform: none'),
        (True, {'code_range': 'paper', 'transform': 'padded', 'act_bits': 3}, 'has 4 bits in the checkpoint, 3 in'),
    ],
)
def test_foreign_checkpoint_refused_with_the_remedy(offsets, quant, text):
    with pytest.raises(CompSRTError, match=text) as error:
        student(quant).load_state_dict(foreign_state(offsets))
    assert one_sentence(error)


def test_foreign_checkpoint_of_another_depth():
    state = {k: v for k, v in foreign_state(True).items() if 'blocks.1.mlp.fc2.weight' not in k}
    with pytest.raises(CompSRTError, match=r'blocks\.1\.mlp\.fc2\.weight is missing'):
        student({**PAPER, 'transform': 'padded'}).load_state_dict(state)


# Arguments


@pytest.mark.parametrize(
    ('changes', 'text'),
    [
        ({'upscale': 5}, '`upscale` must be one of 1, 2, 3, 4, 8, got 5'),
        ({'upsampler': 'pixelshufle'}, '`upsampler` must be one of'),
        ({'upsampler': 'nearest+conv', 'upscale': 3}, '`upscale` 3 does not fit'),
        ({'resi_connection': '2conv'}, '`resi_connection` must be'),
        ({'depths': (2, 2)}, '`depths` has 2 groups, `num_heads` 1'),
        ({'num_heads': (5,)}, '`embed_dim` 12 must be divisible by each of `num_heads`'),
        ({'num_heads': (0,)}, r'`num_heads\[0\]` must be'),
        ({'use_checkpoint': True}, '`use_checkpoint` must be false'),
        ({'img_size': 8}, '`img_size` 8 must be larger than `window_size` 8'),
        ({'upscale': 5, 'resi_connection': '2conv'}, '`upscale` .* `resi_connection`'),
        ({'depths': (2, 2), 'img_size': 8}, '`depths` .* `img_size`'),
        ({'quant': {'weight_bits': 9}}, '`weight_bits`'),
        ({'quant': {'include': 'nothing'}}, 'CompSRTSwinIR .*nothing'),
        ({'quant': {'transform': 'hadamard'}, 'embed_dim': 18}, 'order 18'),
    ],
)
def test_arguments_are_checked(changes, text):
    with pytest.raises(CompSRTError, match=text):
        CompSRTSwinIR(**{**TINY, **changes})


def test_typos_are_type_errors():
    with pytest.raises(TypeError, match='embed_dims'):
        CompSRTSwinIR(embed_dims=12)


def test_quant_may_be_a_config():
    assert student(QuantConfig(weight_bits=2)).quant_config.weight_bits == 2


def test_half_precision_autocast():
    """bfloat16 autocast gives a finite and similar output; 20 dB: 8 bits of bfloat16 through two blocks."""
    network = calibrated({'weight_bits': 8, 'act_bits': 8})
    x = pictures(16, 16)
    with torch.no_grad():
        reference = network(x)
        with torch.autocast('cpu', torch.bfloat16):
            result = network(x).float()
    assert torch.isfinite(result).all()
    assert 10 * math.log10(float(reference.square().mean() / (reference - result).square().mean())) > 20


class TestDeferredSoftmax:
    """`softmax: deferred` quantizes exp(logit - largest) and divides the product by the sum of the quantized row."""

    QUANT = {'softmax': 'deferred', 'attention_transform': False}

    def test_equals_the_softmax_without_quantization(self):
        network, x = student(self.QUANT), pictures(16, 24)
        network.load_state_dict(teacher().state_dict())
        assert torch.allclose(observed(network, x), teacher().eval()(x), atol=1e-5)

    def test_rows_sum_to_one_and_the_operand_has_its_bits(self):
        """If all values v are 1, the output of the attention is 1 for any grid of the numerators."""
        network = calibrated({**self.QUANT, 'weight_bits': 2, 'act_bits': 2})
        attention = network.layers[0].residual_group.blocks[0].attn
        attention.v_quantizer.register_forward_hook(lambda module, inputs, y: torch.ones_like(y))
        attention.proj.forward = lambda x: x
        result = attention(torch.randn(3, 64, TINY['embed_dim']))
        assert torch.allclose(result, torch.ones_like(result), atol=1e-5)
        with counting_codes(network) as counts:
            network(pictures(16, 16))
        assert summarize(counts)['levels_max'] <= 4

    def test_has_a_smaller_error_than_normalized_softmax(self):
        """With rows of equal logits and rows with one large logit, a common step is coarse for the former."""
        logits = torch.cat([torch.zeros(64, 64), 8 * torch.eye(64)])
        exact, numerator = logits.softmax(-1), SoftmaxNumerator()(logits)
        normalized = fake_quantize(exact, torch.tensor(1 / 15), torch.tensor(0.0), 16)
        deferred = fake_quantize(numerator, torch.tensor(1 / 15), torch.tensor(0.0), 16)
        deferred = deferred / row_sums(deferred)
        assert ((deferred - exact) ** 2).sum() < 0.1 * ((normalized - exact) ** 2).sum()

    def test_divisor_of_a_degenerate_grid_is_at_least_a_tenth(self):
        assert row_sums(torch.full((2, 64), -1.0)).eq(0.1).all()

    def test_trains(self):
        network = calibrated(self.QUANT).train()
        network(pictures(16, 16)).square().mean().backward()
        quantizer = network.layers[0].residual_group.blocks[0].attn.attn_quantizer
        assert all(p.grad.isfinite().all() and p.grad.abs().sum() > 0 for p in quantizer.parameters())

    def test_padded_attention_is_refused(self):
        with pytest.raises(CompSRTError, match='attention_transform: false'):
            student({'softmax': 'deferred', 'transform': 'padded'})
        student({'softmax': 'deferred', 'transform': 'padded', 'attention_transform': False})
