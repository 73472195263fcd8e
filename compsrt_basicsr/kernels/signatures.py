"""The functions of a kernel library and their types."""

from __future__ import annotations

import ctypes

_P, _I, _L, _F = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64, ctypes.c_float
SIGNATURES = {
    'cs_product': (None, (_P, _P, _I, _I, _I, _P)),
    'cs_linear_new': (_P, (_I, _I, _I, _P, _P, _P, _P, _P)),
    'cs_linear_run': (None, (_P, _P, _P, _L, _L, _L)),
    'cs_linear_run_planes': (None, (_P, _P, _P, _L, _L, _L)),
    'cs_linear_free': (None, (_P,)),
    'cs_attention_new': (_P, (_P, _P, _I, _I, _F, _P, _P, _P, _I)),
    'cs_attention_run': (None, (_P, _P, _P, _P, _L, _L, _L)),
    'cs_attention_free': (None, (_P,)),
    'cs_block_new': (_P, (_P, _P, _P, _P, _P, _F, _F, _I, _I)),
    'cs_block_run': (None, (_P, _P, _P, _I, _I, _L, _L)),
    'cs_block_free': (None, (_P,)),
    'cs_convolution_new': (_P, (_I, _I, _P, _P)),
    'cs_convolution_run': (None, (_P, _P, _P, _I, _I, _L, _L)),
    'cs_convolution_free': (None, (_P,)),
    'cs_products_run': (None, (*[_P] * 4, *[_I] * 5, _P, _I, _P, _L, _L)),
    'cs_softmax_run': (None, (*[_P] * 5, *[_I] * 4, _F, _P, _I, _P, _L, _L)),
    'cs_scan': (None, (*[_P] * 7, _L, _I, _I, _I, _P, _P, _L, _L)),
    'cs_scan_gradient': (None, (*[_P] * 7, _L, _I, _I, _I, *[_P] * 8, _L, _L)),
    'cs_learned_grids': (None, (*[_P] * 5, _L, _F, _F, _P, _P)),
    'cs_strict_units': (_L, (_P,)),
    'cs_strict_run': (None, (_P, _P, _P, _L, _L)),
    'cs_strict_gradient': (None, (*[_P] * 5, _L, _L)),
    'cs_strict_sums': (None, (_P, _P, _P, _P)),
    'cs_fake_attention_units': (_L, (_P,)),
    'cs_fake_attention_weights': (None, (_P, _P, _L, _L)),
    'cs_fake_attention_run': (None, (_P, _P, _L, _L)),
    'cs_fake_attention_gradient': (None, (_P, _P, _L, _L)),
    'cs_feedback': (None, (*[_P] * 5, _L, _I, _P, _L, _L)),
    'cs_peaks': (None, (_P, _P, _P, _L, _F, _L, _L)),
    'cs_peaks_gradient': (None, (*[_P] * 4, _L, _L, _L)),
    'cs_peak': (_L, (_L,)),
    'cs_lanes': (_I, ()),
}


def bind(library: ctypes.CDLL) -> ctypes.CDLL:
    """Declares the argument types of the functions in a kernel library.

    Raises:
        AttributeError: if the library lacks a function.
    """
    for name, (result, arguments) in SIGNATURES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library
