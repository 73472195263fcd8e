"""MambaIRv2-light from its equations, loop by loop in NumPy, and the golden file that it makes.

    python tests/archs/mambairv2_golden.py

writes `mambairv2_light_tiny.npz` beside this file: the output of `plain_network` for `TINY`, `weights` and `image`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.signal import correlate
from scipy.special import erf, expit

FILE = Path(__file__).with_name('mambairv2_light_tiny.npz')
TINY = {
    'upscale': 2,
    'embed_dim': 12,
    'd_state': 3,
    'depths': [2, 1],
    'num_heads': [2, 3],
    'window_size': 4,
    'inner_rank': 4,
    'num_tokens': 5,
    'mlp_ratio': 1.5,
    'routing': 'argmax',
}


def weights(shapes):
    """Values for the weights of a network, {name: shape}, large enough that each of them shows in the output."""
    draw = np.random.default_rng(7)
    values = {}
    for name in sorted(shapes):
        value = draw.normal(size=shapes[name]) * 0.4
        values[name] = value + 1 if name.endswith(('norm.weight', 'scale1', 'scale2')) else value
    return values


def image():
    """An image of which neither side is a multiple of the window."""
    return np.random.default_rng(8).random((3, 7, 10))


def _norm(x, w, name):
    mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(var + 1e-5) * w[f'{name}.weight'] + w[f'{name}.bias']


def _linear(x, w, name):
    return x @ w[f'{name}.weight'].T + w[f'{name}.bias']


def _gelu(x):
    return x * (1 + erf(x / np.sqrt(2))) / 2


def _conv(x, w, name):
    """A convolution of (H, W, C) with zero padding; depthwise if the weight has one input channel."""
    kernel = w[f'{name}.weight']
    side = kernel.shape[-1] // 2
    x = np.pad(x, ((side, side), (side, side), (0, 0)))
    each = [
        sum(correlate(x[..., o if kernel.shape[1] == 1 else i], k, 'valid') for i, k in enumerate(kernel[o]))
        for o in range(len(kernel))
    ]
    return np.stack(each, -1) + w[f'{name}.bias']


def _attention(x, w, name, heads, window, shift):
    """Every pixel attends to those of its window that were its neighbours before the shift."""
    height, width, channels = x.shape
    qkv = np.roll(_linear(x, w, f'{name}.wqkv'), (-shift, -shift), (0, 1))
    region = np.zeros((height, width), int)
    if shift:
        region += 3 * (np.arange(height) >= height - window)[:, None] + (np.arange(width) >= width - window)
        region += 3 * (np.arange(height) >= height - shift)[:, None] + (np.arange(width) >= width - shift)
    table, size = w[f'{name}.win_mhsa.relative_position_bias_table'], channels // heads
    result = np.zeros_like(x)
    for top in range(0, height, window):
        for left in range(0, width, window):
            places = [(y, z) for y in range(top, top + window) for z in range(left, left + window)]
            for head in range(heads):
                q, k, v = (
                    np.array([qkv[p][part * channels + head * size :][:size] for p in places]) for part in range(3)
                )
                logits = q @ k.T / np.sqrt(size)
                for i, a in enumerate(places):
                    for j, b in enumerate(places):
                        logits[i, j] += table[
                            (a[0] - b[0] + window - 1) * (2 * window - 1) + a[1] - b[1] + window - 1, head
                        ]
                        logits[i, j] -= 100 * (region[a] != region[b])
                share = np.exp(logits - logits.max(-1, keepdims=True))
                out = share / share.sum(-1, keepdims=True) @ v
                for p, value in zip(places, out):
                    result[p][head * size :][:size] = value
    return np.roll(_linear(result, w, f'{name}.win_mhsa.proj'), (shift, shift), (0, 1))


def _mlp(x, w, name):
    x = _gelu(_linear(x, w, f'{name}.fc1'))
    half = x.shape[-1] // 2
    gate = _conv(_norm(x[..., half:], w, f'{name}.sg.norm'), w, f'{name}.sg.conv')
    return _linear(x[..., :half] * gate, w, f'{name}.fc2')


def _scan(x, prompt, w, name):
    """h_l = exp(dt_l A) h_(l-1) + dt_l u_l B_l, y_l = C_l h_l + D u_l, token by token."""
    rank, states = w[f'{name}.dt_projs_weight'].shape[-1], w[f'{name}.A_logs'].shape[1]
    decay, state = -np.exp(w[f'{name}.A_logs']), np.zeros_like(w[f'{name}.A_logs'])
    result = []
    for u, added in zip(x, prompt):
        parts = w[f'{name}.x_proj_weight'][0] @ u
        dt = np.log1p(np.exp(w[f'{name}.dt_projs_weight'][0] @ parts[:rank] + w[f'{name}.dt_projs_bias'][0]))
        state = np.exp(dt[:, None] * decay) * state + (dt * u)[:, None] * parts[rank : rank + states]
        result.append(state @ (parts[rank + states :] + added) + w[f'{name}.Ds'] * u)
    return np.array(result)


def _attentive_scan(x, w, layer):
    name = f'{layer}.assm'
    prompts = w[f'{name}.embeddingB.weight'] @ w[f'{layer}.embeddingA.weight']
    chosen = _linear(_gelu(_linear(x, w, f'{name}.route.0')), w, f'{name}.route.2').argmax(-1).ravel()
    order = sorted(range(len(chosen)), key=lambda token: chosen[token])
    z = x @ w[f'{name}.in_proj.0.weight'][:, :, 0, 0].T + w[f'{name}.in_proj.0.bias']
    z = (z * expit(_conv(z, w, f'{name}.CPE.0'))).reshape(len(chosen), -1)
    y = _scan(z[order], prompts[chosen], w, f'{name}.selectiveScan')
    result = np.zeros((len(chosen), x.shape[-1]))
    result[order] = _linear(_norm(y, w, f'{name}.out_norm'), w, f'{name}.out_proj')
    return result.reshape(x.shape)


def _layer(x, w, name, heads, window, shift):
    u = _attention(_norm(x, w, f'{name}.norm1'), w, name, heads, window, shift) + x
    t = x * w[f'{name}.scale1'] + _mlp(_norm(u, w, f'{name}.norm2'), w, f'{name}.convffn1') + u
    v = _attentive_scan(_norm(t, w, f'{name}.norm3'), w, name) + t
    return t * w[f'{name}.scale2'] + _mlp(_norm(v, w, f'{name}.norm4'), w, f'{name}.convffn2') + v


def plain_network(picture, w, depths, num_heads, window_size, upscale, **_):
    """Maps (3, H, W) to (3, upscale H, upscale W)."""
    _, height, width = picture.shape
    x = np.concatenate([picture, picture[:, ::-1]], 1)[:, : -(-height // window_size) * window_size]
    x = np.concatenate([x, x[:, :, ::-1]], 2)[:, :, : -(-width // window_size) * window_size]
    mean = np.array([0.4488, 0.4371, 0.4040])
    first = _conv(x.transpose(1, 2, 0) - mean, w, 'conv_first')
    t = _norm(first, w, 'patch_embed.norm')
    for group, (depth, heads) in enumerate(zip(depths, num_heads)):
        inner = t
        for index in range(depth):
            shift = window_size // 2 * (index % 2)
            name = f'layers.{group}.residual_group.layers.{index}'
            inner = _layer(inner, w, name, heads, window_size, shift)
        t = _conv(inner, w, f'layers.{group}.conv') + t
    y = _conv(_conv(_norm(t, w, 'norm'), w, 'conv_after_body') + first, w, 'upsample.0')
    rows, columns, _ = y.shape
    y = y.reshape(rows, columns, 3, upscale, upscale).transpose(2, 0, 3, 1, 4).reshape(3, rows * upscale, -1)
    return (y + mean[:, None, None])[:, : height * upscale, : width * upscale]


if __name__ == '__main__':
    from compsrt_basicsr.archs.mambairv2_light_arch import MambaIRv2Light

    shapes = {name: value.shape for name, value in MambaIRv2Light(**TINY).named_parameters()}
    np.savez_compressed(FILE, output=plain_network(image(), weights(shapes), **TINY).astype(np.float32))
