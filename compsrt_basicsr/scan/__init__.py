"""The selective scan of state-space networks (Mamba, arXiv 2312.00752) as pure functions.

| module      | form                                                                             |
|-------------|----------------------------------------------------------------------------------|
| `reference` | one step after the other, as the equations say; slow                             |
| `chunked`   | torch operations on all chunks at once, on any device, with its own gradient     |
| `cpp`       | C++ kernel for the CPU, with its own gradient                                    |
| `cuda`      | the kernel of the package mamba_ssm, where it is installed                       |
| `dispatch`  | `selective_scan`, which chooses                                                  |

All take the same arguments. For each of B sequences, L steps, D channels and S states,

    dt_l = softplus(delta_l + bias)
    h_l  = exp(dt_l A) h_(l-1) + dt_l u_l B_l,   h_0 = 0
    y_l  = sum_S h_l C_l + D u_l

with u, delta, y (B, L, D); A (D, S), at most 0; B, C (B, L, S), shared by the channels; D (the skip) and bias (D,).
"""
