"""The page: one HTML file with its style, its scripts and its numbers inside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from compsrt_basicsr.study.analysis.report import contrasts, words
from compsrt_basicsr.study.analysis.report.labels import (
    NORMALITY,
    at_label,
    kind_label,
    listed,
    measure_label,
    number,
    p_number,
    percent,
    probability,
    tensor_label,
    transform_label,
)
from compsrt_basicsr.study.analysis.report.verdicts import LEVEL, VERDICTS, claims, find, nearest_eps, verdict
from compsrt_basicsr.study.analysis.tensors import distinct
from compsrt_basicsr.version import __version__

_TEMPLATES = Path(__file__).with_name('templates')
_STYLES, _SCRIPTS = ('page.css', 'charts.css'), ('svg.js', 'charts.js', 'page.js')
_SHOWN = ('min', 'max', 'range', 'std', 'kurtosis', 'crest', 'outliers', 'incoherence', 'near_abs', 'near_rel')


def page(analysis: Mapping[str, Any]) -> str:
    """The text of report.html.

    What comes from the analysis is escaped where it stands in HTML, and in the embedded JSON `<`, `>`, `&` and `'`
    are written as `\\u003c` and so on, so that no name can end the script that holds it.

    Args:
        analysis: what analysis.json holds.
    """
    import jinja2  # a dependency of torch
    from markupsafe import Markup, escape

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters['subscript'] = lambda text: Markup(escape(text).replace('d_z', Markup('d<sub>z</sub>')))
    environment.policies['json.dumps_kwargs'] = {'separators': (',', ':'), 'allow_nan': False}
    return environment.get_template('page.html').render(
        version=__version__,
        styles=[Markup(_text(name)) for name in _STYLES],
        scripts=[Markup(_text(name)) for name in _SCRIPTS],
        data=embedded(analysis),
        **_about(analysis),
        **_summary(analysis),
        tests=[_test_row(test) for test in _weights_first(analysis['tests'])],
        correlations=[_correlation_row(row) for row in _weights_first(analysis['mechanism'])],
    )


def _weights_first(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return sorted(rows, key=lambda row: row['kind'], reverse=True)


def _text(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding='utf-8')


def embedded(analysis: Mapping[str, Any]) -> dict[str, Any]:
    """What the scripts of the page draw: less than the analysis holds, since a page must open quickly."""
    tests = analysis['tests']
    return {
        'transforms': [{'name': name, 'label': transform_label(name)} for name in analysis['transforms']],
        'kinds': {name: kind_label(name) for name in words.kinds(analysis)},
        'eps': {name: analysis[f'eps_{name[5:]}'] for name in ('near_abs', 'near_rel')},
        'eps_shown': {
            name: analysis[f'eps_{name[5:]}'].index(nearest_eps(tests, name))
            for name in ('near_abs', 'near_rel')
            if nearest_eps(tests, name) is not None
        },
        'level': LEVEL,
        'tensors': [_tensor(tensor) for tensor in analysis['tensors'] if not tensor['skipped']],
        'sweeps': [
            {key: test[key] for key in ('kind', 'transform', 'measure', 'at', 'mean', 'low', 'high', 'holm_p')}
            for test in tests
            if test['measure'] in ('near_abs', 'near_rel')
        ],
        'correlations': [
            {key: row[key] for key in ('kind', 'transform', 'predictor', 'at', 'bits', 'n', 'rho', 'low', 'high')}
            for row in analysis['mechanism']
            if not row['given']
        ],
    }


def _tensor(tensor: Mapping[str, Any]) -> dict[str, Any]:
    return {
        'name': tensor['name'],
        'label': tensor_label(tensor),
        'kind': tensor['kind'],
        'role': tensor['role'],
        'depth': tensor['depth'],
        'twin': bool(tensor['same_as']),
        'by': {
            transform: {
                **{name: entry[name] for name in _SHOWN},
                'sqnr': {bits: error['sqnr'] for bits, error in entry['quant'].items()},
                'counts': entry['histogram']['counts'],
                'edges': entry['histogram']['edges'],
            }
            for transform, entry in tensor['by_transform'].items()
        },
    }


def _about(analysis: Mapping[str, Any]) -> dict[str, Any]:
    tensors, model, data, settings = (analysis[name] for name in ('tensors', 'model', 'data', 'settings'))
    seed = f'seed {settings["seed"]}'
    different = len(distinct(tensors))
    analysed = sum(not tensor['skipped'] for tensor in tensors)
    facts = {
        'Model': f'{model["source"]}, ×{model["scale"]}, {model["parameters"]:,} parameters, {model["kind"]}',
        'Architecture': model['architecture'],
        'Pictures': 'none: weights only'
        if data is None
        else f'{data["patches"]} patches of {data["patch_size"]}×{data["patch_size"]} pixels from {data["source"]}',
        'Tensors': f'{analysed} of {len(tensors)} analysed, {different} of them different: identical ones count once',
        'Samples': f'{seed}; tests of normality on {settings["sample"]:,} values of each tensor',
    }
    if 'auto' in analysis['transforms']:
        facts['Exact Hadamard'] = _exact(settings['auto_is'])
    return {
        'source': model['source'],
        'facts': facts,
        'note': model['note'],
        'skipped': [tensor for tensor in tensors if tensor['skipped']],
        'outlier': f'{settings["outlier"]:g}',
    }


def _exact(by_order: Mapping[str, str]) -> str:
    """Which matrix stands for the exact Hadamard at which order: none has order 10."""
    orders: dict[str, list[str]] = {}
    for order, name in by_order.items():
        orders.setdefault(name, []).append(order)
    labels = {'hadamard': 'Hadamard matrix', 'conference': 'conference matrix', 'dct': 'DCT'}
    return '; '.join(f'{labels.get(name, name)} at order {listed(found)}' for name, found in orders.items())


def _summary(analysis: Mapping[str, Any]) -> dict[str, Any]:
    tests = analysis['tests']
    led = claims(tests)
    rows = []
    for kind in words.kinds(analysis):
        for transform in analysis['transforms']:
            found = [find(tests, kind, transform, claim.measure, claim.at) for claim in led]
            if any(found):
                cells = [None if test is None else {'verdict': verdict(test), **_evidence(test)} for test in found]
                rows.append({'kind': kind_label(kind), 'transform': transform_label(transform), 'cells': cells})
    return {
        'lead': words.lead(analysis),
        'mechanism': words.mechanism(analysis),
        'claims': led,
        'details': [(claim.noun, words.details(analysis, claim)) for claim in led],
        'verdicts': rows,
        'legend': VERDICTS,
        'level': f'{LEVEL:g}',
        'disagreements': contrasts.disagreements(analysis),
        'sensitivity': contrasts.sensitivity(analysis),
    }


def _evidence(test: Mapping[str, Any]) -> dict[str, str]:
    return {'share': percent(test['share']), 'd_z': number(test['d_z'], 2), 'p': probability(test['holm_p'])}


def _test_row(test: Mapping[str, Any]) -> dict[str, Any]:
    """Cells as (text, what is sorted by), and what the filters compare."""
    found = verdict(test)
    return {
        'filters': {
            'tensors': kind_label(test['kind']),
            'transform': transform_label(test['transform']),
            'measures': _family(test['measure']),
        },
        'cells': [
            _word(kind_label(test['kind'])),
            _word(transform_label(test['transform'])),
            _word(measure_label(test['measure'])),
            (at_label(test['measure'], test['at']), test['at'] if test['at'] is not None else -1),
            _word('grows' if test['alternative'] == 'greater' else 'falls'),
            _word(f'{found.sign} {found.text}'),
            (str(test['n']), test['n']),
            (percent(test['share']), test['share']),
            (f'{number(test["mean"], 2)} [{number(test["low"], 2)}, {number(test["high"], 2)}]', test['mean']),
            (number(test['d_z'], 2), _finite(test['d_z'])),
            (p_number(test['wilcoxon_p']), test['wilcoxon_p']),
            (p_number(test['holm_p']), test['holm_p']),
            (p_number(test['holm_sign_p']), test['holm_sign_p']),
        ],
    }


def _correlation_row(row: Mapping[str, Any]) -> dict[str, Any]:
    given = listed([measure_label(name) for name in row['given']]) if row['given'] else 'nothing'
    return {
        'filters': {
            'tensors': kind_label(row['kind']),
            'transform': transform_label(row['transform']),
            'bits': str(row['bits']),
            'correlation': 'partial' if row['given'] else 'plain',
        },
        'cells': [
            _word(kind_label(row['kind'])),
            _word(transform_label(row['transform'])),
            _word(measure_label(row['predictor'])),
            (at_label(row['predictor'], row['at']), row['at'] if row['at'] is not None else -1),
            _word(given),
            (f'{row["bits"]} bits', row['bits']),
            (str(row['n']), row['n']),
            (number(row['rho'], 2), row['rho']),
            (f'[{number(row["low"], 2)}, {number(row["high"], 2)}]', row['low']),
            (p_number(row['p']), row['p']),
        ],
    }


def _family(measure: str) -> str:
    if measure in NORMALITY:
        return 'normality'
    return {'near_abs': 'near zero', 'near_rel': 'near zero', 'sqnr': 'quantization error'}.get(
        measure, 'size and tails'
    )


def _word(text: str) -> tuple[str, str]:
    return text, text


def _finite(value: float | None) -> float:
    return 1e9 if value is None else value
