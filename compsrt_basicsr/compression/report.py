"""The report of a compression: JSON, and the same as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from compsrt_basicsr.compression.quality import Quality, mean
from compsrt_basicsr.compression.sensitivity import Cost

_SHOWN = 8  # layers


@dataclass
class Report:
    """What a compression made, and what it cost.

    Attributes:
        model, scheme, effort, version: what was asked for, and by which version it was made.
        images: where they come from, how many calibrated, which were held out.
        sizes: bytes, by file.
        low_bit_share: share of the multiplications both of whose operands are quantized.
        shares: of the multiplications, by the bits of their operands.
        quality: by held-out image.
        levels: by bit width, the number of quantizers and the most levels that one of them uses.
        latency: median seconds of the networks in torch, with the conditions; `engines` has those of each file for an
            engine, and of the export of the full-precision network that was timed alternately with it.
        licence, origin: of the weights; None where they are not known.
        training: iterations, seconds, and the PSNR against the float network on calibration patches; None without.
        sensitivity: the layers that cost most; empty where that was not measured.
        missing: by engine, why its file could not be made.
        seconds: of the whole command.
    """

    model: str
    scheme: str
    effort: str
    version: str
    images: dict[str, Any]
    sizes: dict[str, int]
    low_bit_share: float
    shares: Mapping[str, float]
    quality: Sequence[Quality]
    levels: Mapping[int, tuple[int, int]]
    latency: dict[str, Any]
    licence: str | None
    origin: str | None
    training: dict[str, Any] | None = None
    sensitivity: Sequence[Cost] = ()
    missing: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def missing_lines(self) -> list[str]:
        """A sentence for each file that could not be made."""
        return [f'There is no file for {engine}: {reason}' for engine, reason in self.missing.items()]

    @property
    def to_float(self) -> float:
        """Mean PSNR in dB against the full-precision network."""
        return mean([each.to_float for each in self.quality]) or 0.0

    def to_json(self) -> dict[str, Any]:
        """Returns plain data."""
        levels = [
            {'bits': bits, 'quantizers': count, 'most_levels': most} for bits, (count, most) in self.levels.items()
        ]
        before, after = (mean([getattr(each, side) for each in self.quality]) for side in ('before', 'after'))
        means = {'to_float': self.to_float, 'before': before, 'after': after}
        data = {**asdict(self), 'mean': means, 'levels': levels}
        data['sensitivity'] = [asdict(cost) for cost in self.sensitivity[:_SHOWN]]
        return data

    def to_markdown(self) -> str:
        """Returns the report for readers."""
        parts = [
            f'# {self.model}, {self.scheme}',
            self._summary(),
            '## Quality',
            f'Measured on images that were not used for calibration, from {self.images["origin"]}.',
            self._quality_table(),
            '![Details in full precision, quantized, and their difference](report.png)',
            '## Files',
            _table(['file', 'bytes'], [[name, f'{size:,}'] for name, size in self.sizes.items()]),
            *self.missing_lines,
            '## Latency',
            self._latency_line(),
            *self._engine_table(),
        ]
        if self.sensitivity:
            rows = [[f'`{cost.name}`', f'{cost.error:.2e}'] for cost in self.sensitivity[:_SHOWN]]
            parts += ['## Layers that cost most', _table(['quantized alone', 'squared error of the output'], rows)]
        return '\n\n'.join(parts) + '\n'

    def to_text(self) -> str:
        """Returns the main results for a terminal."""
        from tabulate import tabulate

        rows = [
            *([name, f'{size:,} bytes'] for name, size in self.sizes.items()),
            ['images', self.images['origin']],
            *self._results(),
            *self._engine_lines(),
        ]
        return tabulate([row for row in rows if row[1]], tablefmt='plain', disable_numparse=True)

    def _results(self) -> list[list[str]]:
        before, after = (mean([getattr(each, side) for each in self.quality]) for side in ('before', 'after'))
        originals = '' if before is None else f'{_decibels(before)} dB before, {_decibels(after)} dB after'
        levels = ', '.join(f'{most} of {2**bits}' for bits, (_, most) in self.levels.items())
        return [
            ['PSNR against full precision', f'{self.to_float:.2f} dB'],
            ['PSNR-Y against originals', originals],
            ['multiplications', ', '.join(f'{share:.1%} {bits}' for bits, share in self.shares.items())],
            ['most levels of a quantizer', levels],
            ['training', self._training_line()],
        ]

    def _summary(self) -> str:
        rows = [
            ['effort', self.effort],
            *self._results(),
            ['calibrated on', f'{self.images["calibration"]} images'],
            ['licence', self.licence or 'not stated'],
            ['origin', self.origin or 'not stated'],
            ['made by', f'compsrt {self.version} in {self.seconds:.0f} s'],
        ]
        return _table(['', ''], [row for row in rows if row[1]])

    def _training_line(self) -> str:
        if self.training is None:
            return ''
        chosen = 'used' if self.training['used'] else 'not used, for the calibrated network is nearer'
        return (
            f'{self.training["iterations"]:,} iterations in {self.training["seconds"]:.0f} s, {chosen}: '
            f'{self.training["calibrated"]:.2f} dB calibrated, {self.training["trained"]:.2f} dB trained, '
            'on calibration patches'
        )

    def _quality_table(self) -> str:
        rows = [[x.name, _decibels(x.to_float), _decibels(x.before), _decibels(x.after)] for x in self.quality]
        means = [mean([getattr(x, side) for x in self.quality]) for side in ('to_float', 'before', 'after')]
        rows.append(['mean', *map(_decibels, means)])
        heads = ['image', 'dB against full precision', 'PSNR-Y full precision', 'PSNR-Y quantized']
        if means[1] is None:
            rows, heads = [row[:2] for row in rows], heads[:2]
        return _table(heads, rows)

    def _latency_line(self) -> str:
        latency = self.latency
        where = latency.get('gpu') or f'{latency["threads"]} of {latency["processor"]}'
        return (
            f'In torch, on {where}, for {latency["side"]}x{latency["side"]} LR '
            f'pixels: {latency["before"]:.3f} s before, {latency["after"]:.3f} s after, by {latency["execution"]}.'
        )

    def _engine_table(self) -> list[str]:
        rows = [
            [
                file,
                engine['engine'],
                f'{engine["before"]:.3f}',
                f'{engine["after"]:.3f}',
                f'{engine["int8_layers"]} of {engine["layers"]}',
            ]
            for file, engine in self.latency['engines'].items()
        ]
        heads = ['file', 'engine', 's, full precision', 's, quantized', 'layers in 8 bits']
        slower = [file for file, engine in self.latency['engines'].items() if engine['slower']]
        lines = [f'`{file}` takes longer than the export of the full-precision network.' for file in slower]
        return [_table(heads, rows), *lines] if rows else []

    def _engine_lines(self) -> list[list[str]]:
        return [
            [
                engine['engine'],
                f'{engine["before"]:.3f} s in full precision, {engine["after"]:.3f} s quantized'
                + (', slower than full precision' if engine['slower'] else ''),
            ]
            for engine in self.latency['engines'].values()
        ]


def _decibels(value: float | None) -> str:
    return '' if value is None else f'{value:.2f}'


def _table(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    from tabulate import tabulate

    return tabulate(rows, heads, tablefmt='github', disable_numparse=True)
