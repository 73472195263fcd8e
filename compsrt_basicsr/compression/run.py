"""All of a compression: images, calibration, training, packed file, measurements, report."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from compsrt_basicsr.checkpoints.load import LoadedNetwork, load_network
from compsrt_basicsr.checkpoints.save import save_checkpoint
from compsrt_basicsr.compression import recipe as recipes
from compsrt_basicsr.compression.distil import distil, iterations_within
from compsrt_basicsr.compression.figure import report_image
from compsrt_basicsr.compression.images import Images, calibration_patches, choose_images
from compsrt_basicsr.compression.inventory import (
    Inventory,
    has_kernels,
    layer_names,
    make_student,
    patterns_of,
    raisable,
    take_inventory,
    traced,
)
from compsrt_basicsr.compression.latency import ROUNDS, latency_of
from compsrt_basicsr.compression.quality import levels_used, psnr, qualities, results_on
from compsrt_basicsr.compression.report import Report
from compsrt_basicsr.compression.scheme import (
    CALIBRATION,
    PATCH,
    PATCHES,
    RAISED_BITS,
    computes_in_engines,
    parse_scheme,
    quant_options,
)
from compsrt_basicsr.compression.sensitivity import Cost, costs, greatest_within
from compsrt_basicsr.compression.source import Source, load_source
from compsrt_basicsr.compression.targets import ENGINES, PACKED, check_targets, engines_of, export, remove_files
from compsrt_basicsr.config.calibration import CalibrationConfig
from compsrt_basicsr.errors import CompSRTError, first_line
from compsrt_basicsr.hub.checksum import sha256_of
from compsrt_basicsr.inference.execution import AUTO, FAKE, choose_execution
from compsrt_basicsr.packing.packed import save_packed
from compsrt_basicsr.quant.calibrate import calibrate
from compsrt_basicsr.utils.atomic_write import write_bytes, write_text
from compsrt_basicsr.utils.out_of_memory import memory_for
from compsrt_basicsr.utils.plain_json import json_text
from compsrt_basicsr.utils.progress import SILENT, Progress
from compsrt_basicsr.utils.text import counted
from compsrt_basicsr.utils.torch_io import read_checkpoint
from compsrt_basicsr.version import __version__

EFFORTS = ('seconds', 'minutes', 'best')
REPORT, REQUEST = 'report.json', 'request.json'
_MINUTES = 15 * 60.0  # seconds of `--effort minutes`, all in all
_AFTER = 45.0  # of them for what comes after the training
_BEST = 4000  # iterations, as published
_CPU = torch.device('cpu')
_NAMED = 5  # layers in the message of `--min-psnr`
_COMPARED = 4  # one of so many calibration patches compares the trained with the calibrated network
_SENSITIVITY_PATCHES, _SENSITIVITY_SIDE = 2, 48
_PROBED = 4  # patches of the calibration that sensitivities are measured after

Say = Callable[[str], None]


@dataclass(frozen=True)
class Request:
    """What is asked for.

    Attributes:
        model, scheme, effort: see `compsrt compress`.
        out: folder of the results.
        data: folder of images; None: photographs of scikit-image.
        keep: name patterns of what stays in floating point.
        targets: files to write.
        least: PSNR in dB against the full-precision network that must be reached; None: any.
        licence, origin: of the weights, where the zoo does not know them.
        force: whether OUT may hold another compression, which is replaced.
        mixed: share of the multiplications that may have 8 bits, or floating point in engines that compute in 8 bits,
            where it helps most.
        device: where the networks run.
    """

    model: str
    scheme: str
    effort: str
    out: Path
    data: Path | None = None
    keep: tuple[str, ...] = ()
    targets: tuple[str, ...] = (PACKED,)
    least: float | None = None
    licence: str | None = None
    origin: str | None = None
    force: bool = False
    mixed: float = 0.0
    device: torch.device = _CPU


class Compression:
    """One compression.

    Args:
        request: what is asked for.
        progress: display of the work.
        say: takes lines about what is done.

    Raises:
        CompSRTError: if the model or an option cannot be used, or OUT holds something else.
    """

    def __init__(self, request: Request, progress: Progress = SILENT, say: Say = lambda line: None) -> None:
        self._start = time.monotonic()
        self.request, self.progress, self.say = request, progress, say
        self.bits = parse_scheme(request.scheme)
        self.raised: tuple[str, ...] = ()
        self.source: Source = load_source(request.model, request.licence, request.origin)
        self.name = recipes.run_name(self.source, request.scheme)
        check_targets(request.targets, self.source.loaded)
        self.tracing = traced(self.source.loaded)
        self.calibration = CALIBRATION
        self.student = self._new_student()

    def inventory(self) -> Inventory:
        """Lists what would be quantized, and what not."""
        spared = self.raised if computes_in_engines(self.bits, self._engines) else ()
        network, student = self.source.loaded.network, self.student.network
        return take_inventory(network, student, self.tracing, self.request.keep, spared)

    def run(self) -> Report:
        """Does all of it; OUT has the packed file as soon as the network is calibrated.

        Raises:
            CompSRTError: if a step fails.
        """
        request, out = self.request, self.request.out
        images = choose_images(request.data, self.source.loaded.scale)
        patches = self._patches(images)
        goes_on = self._begin()
        for model in (self.source.loaded, self.student):
            model.network.to(request.device)
        patches = patches.to(request.device)
        if goes_on:
            self.student = load_network(out / recipes.CALIBRATED, request.device)
        else:
            self._raise_bits(patches)
            self._calibrate(patches)
        inventory = self.inventory()
        self._pack(self.student)
        training = None
        if request.effort == EFFORTS[0]:
            self._write_recipe(images, patches, recipes.training_of(self.student.multiple))
        else:
            self.say(f'Calibrated, and packed as {self._packed.name}; an interruption from here on keeps it.')
            self.student, training = self._train(images, patches, goes_on)
            self._pack(self.student)
        return self._measure(images, inventory, training)

    def check(self, report: Report) -> None:
        """Checks that the result reaches `least`, else the report gets the layers that cost most, and lacks no file.

        Raises:
            CompSRTError: if it is missed, or a file for an engine could not be made.
        """
        missed = self._missed(report)
        if found := [*report.missing_lines, *([missed] if missed else [])]:
            raise CompSRTError(' '.join(found))

    def _missed(self, report: Report) -> str:
        least = self.request.least
        if least is None or report.to_float >= least:
            return ''
        choose_execution(self.student, FAKE)
        report.sensitivity = self._costs(read_checkpoint(self.request.out / recipes.PATCHES)['lq'])
        self._write(report)
        total = sum(cost.error for cost in report.sensitivity) or 1.0
        named = ', '.join(f'`{cost.name}` ({cost.error / total:.0%})' for cost in report.sensitivity[:_NAMED])
        return (
            f'`{self._packed}` is at {report.to_float:.2f} dB of the full-precision network, --min-psnr asks for '
            f'{least:g}: spare the layers that cost most with --keep-float, of the summed errors {named}, or give '
            'more bits or a greater --effort.'
        )

    @property
    def _engines(self) -> tuple[str, ...]:
        return engines_of(self.request.targets)

    def _new_student(self) -> LoadedNetwork:
        return make_student(self.source.loaded, self.bits, self.tracing, self.request.keep, self._engines, self.raised)

    @property
    def _packed(self) -> Path:
        return self.request.out / f'{self.name}.safetensors'

    def _patches(self, images: Images) -> Tensor:
        multiple = self.source.loaded.multiple
        largest = max(min(image.small.shape[:2]) for image in images.calibration)
        side = min(-(-PATCH // multiple) * multiple, largest // multiple * multiple)
        if side < multiple or side < 1:
            raise CompSRTError(
                f'The images are too small for the network, which takes multiples of {multiple} pixels: give larger '
                'ones with --data.'
            )
        return calibration_patches(images, PATCHES, side, self.source.loaded.channels)

    def _begin(self) -> bool:
        """Prepares OUT; returns whether it holds a calibrated network of the same request, to go on with."""
        request, out = self.request, self.request.out
        mine = json_text(self._identity(), indent=1)
        file = out / REQUEST
        if out.exists() and not out.is_dir():
            raise CompSRTError(f'`{out}` is a file: give a folder with -o.')
        theirs = file.read_text(encoding='utf-8') if file.is_file() else None
        if theirs == mine:
            kept = [out / name for name in (recipes.CALIBRATED, recipes.RECIPE)]
            return request.effort != EFFORTS[0] and all(file.is_file() for file in kept)
        if out.exists() and any(out.iterdir()) and not (theirs is not None and request.force):
            what = 'another compression (see `request.json` there)' if theirs is not None else 'other files'
            more = ', or --force to replace it' if theirs is not None else ''
            raise CompSRTError(f'`{out}` holds {what}: give another folder{more}.')
        if theirs is not None:
            recipes.clear(out, (REPORT, 'report.md', 'report.png'))
        out.mkdir(parents=True, exist_ok=True)
        write_text(file, mine)
        return False

    def _identity(self) -> dict[str, Any]:
        request = self.request
        return {
            'model': sha256_of(self.source.file),
            'scheme': request.scheme.lower(),
            'effort': request.effort,
            'data': None if request.data is None else str(request.data.resolve()),
            'keep_float': list(request.keep),
            'targets': list(request.targets),
            'mixed': request.mixed,
            'version': __version__,
        }

    def _raise_bits(self, patches: Tensor) -> None:
        """Gives 8 bits, or in engines floating point, to the layers where it helps most, as far as `mixed` allows."""
        names = raisable(self.source.loaded, self.tracing)
        most = self.request.mixed * sum(self.tracing.multiplications.values())
        in_engines = computes_in_engines(self.bits, self._engines)
        if not most or (self.bits == (RAISED_BITS, RAISED_BITS) and not in_engines):
            return
        config = CalibrationConfig.from_opt({**self.calibration, 'reconstruct': False})
        calibrate(self.student.network, patches[:_PROBED], config, self.progress is not SILENT)
        layers = layer_names(self.tracing)
        ends = () if in_engines else {layers[0], layers[-1]}  # these have 8 bits anyway
        counts = {name: count for name, count in names.items() if name not in ends}
        chosen = greatest_within(self._costs(patches), counts, most)
        self.raised = tuple(patterns_of(chosen, [name for name in names if name not in chosen]))
        self.student = self._new_student()

    def _calibrate(self, patches: Tensor) -> None:
        """Calibrates the student: with reconstruction, or without it where a layer cannot be refitted."""
        config = CalibrationConfig.from_opt(self.calibration)
        try:
            calibrate(self.student.network, patches, config, self.progress is not SILENT)
        except CompSRTError as error:
            if not config.reconstruct:
                raise
            self.say(f'Calibrating again without refitting the layers: {first_line(error).partition(": check ")[0]}.')
            self.student = self._new_student()
            self.calibration = {**self.calibration, 'reconstruct': False}
            plain = CalibrationConfig.from_opt(self.calibration)
            calibrate(self.student.network, patches, plain, self.progress is not SILENT)

    def _pack(self, model: LoadedNetwork) -> None:
        known = {'licence': self.source.licence, 'origin': self.source.origin}
        about = {key: value for key, value in known.items() if value}
        try:
            save_packed(model.network, self._packed, about=about)
        except CompSRTError as error:
            if 'fp16' not in str(error):
                raise
            save_packed(model.network, self._packed, rest='fp32', about=about)

    def _write_recipe(self, images: Images, patches: Tensor, training: recipes.Training) -> Path:
        is_ours = has_kernels(self.source.loaded)
        names = layer_names(self.tracing)
        quant = quant_options(self.bits, names, self.request.keep, self._engines, is_ours, self.raised)
        options = recipes.recipe(self.source, self.name, quant, self.calibration, training, self.request.out)
        scale = self.source.loaded.scale
        recipes.write_data(images.calibration, patches, scale, training.patch * scale, self.request.out)
        return recipes.write_recipe(options, self.request.out)

    def _train(self, images: Images, patches: Tensor, goes_on: bool) -> tuple[LoadedNetwork, dict[str, Any]]:
        """Trains; returns the better network of the trained and the calibrated one on calibration patches."""
        out, teacher = self.request.out, self.source.loaded.network
        is_short = self.request.effort == EFFORTS[1]
        file = out / recipes.RECIPE
        training = recipes.training_of(self.student.multiple, _BEST)
        if not goes_on:
            if is_short:
                batch = recipes.example_batch(patches, training)
                count = iterations_within(self._left() - _AFTER, self.student.network, teacher, batch)
                training = recipes.training_of(self.student.multiple, min(count, _BEST))
            state = {name: value.cpu() for name, value in self.student.network.state_dict().items()}
            save_checkpoint(state, out / recipes.CALIBRATED)
            file = self._write_recipe(images, patches, training)
        count = recipes.iterations_of(file)
        self.say(f'Training for {counted(count, "iteration")}; {file} is the recipe.')
        start = time.monotonic()
        seconds = max(self._left() - _AFTER, 1) if is_short else None
        weights = distil(out, self.name, file, count, seconds, self.progress, self.request.device)
        trained = load_network(weights, self.request.device)
        near = {name: self._nearness(x, patches) for name, x in (('calibrated', self.student), ('trained', trained))}
        used = near['trained'] >= near['calibrated']
        last = weights.stem.rpartition('_')[2]
        done = int(last) if last.isdigit() else count
        about = {'iterations': done, 'seconds': time.monotonic() - start, 'used': used, **near}
        return (trained if used else self.student), about

    def _left(self) -> float:
        return _MINUTES - (time.monotonic() - self._start)

    @torch.no_grad()
    def _nearness(self, model: LoadedNetwork, patches: Tensor) -> float:
        """Returns the PSNR against the full-precision network, in dB."""
        patches = patches[::_COMPARED]
        networks = model.network, self.source.loaded.network
        results = [network(patches).clamp(0, 1).cpu().numpy() for network in networks]
        return psnr(results[0], results[1])

    def _measure(self, images: Images, inventory: Inventory, training: dict[str, Any] | None) -> Report:
        request, source = self.request, self.source
        packed = load_network(self._packed, request.device)
        levels = levels_used(packed, images.held_out[:1])
        execution = choose_execution(packed, AUTO)
        before = results_on(source.loaded, images.held_out, self.progress)
        after = results_on(packed, images.held_out, self.progress)
        sizes = {f'{source.file.name} (full precision)': source.file.stat().st_size}
        sizes[self._packed.name] = self._packed.stat().st_size
        latency = latency_of(source.loaded, packed, execution, request.device)
        held_out = [image.name for image in images.held_out]
        report = Report(
            model=source.name,
            scheme=request.scheme.lower(),
            effort=request.effort,
            version=__version__,
            images={'origin': images.origin, 'calibration': len(images.calibration), 'held_out': held_out},
            sizes=sizes,
            low_bit_share=inventory.low_bit_share,
            shares=inventory.shares,
            quality=qualities(images.held_out, before, after, source.loaded.scale),
            levels=levels,
            latency=latency,
            licence=source.licence,
            origin=source.origin,
            training=training,
        )
        figure = report_image(images.held_out, before, after, source.loaded.scale > 1)
        write_bytes(request.out / 'report.png', figure)
        self._write(report)
        self._export(packed, report)
        return report

    def _export(self, packed: LoadedNetwork, report: Report) -> None:
        """Makes the files for engines; the report, which is complete but for them, gets each of them, or why not."""
        stem, source = self.request.out / self.name, self.source.loaded
        remove_files(stem, tuple(ENGINES))
        for model in (packed, source):
            model.network.cpu()
        choose_execution(packed, FAKE)  # what files compute
        for target in self._engines:
            try:
                with memory_for(f'The file for {ENGINES[target]}', f'leave `{target}` out of --target'):
                    made, engine = export(packed, target, stem, source, report.latency['side'], ROUNDS)
                report.sizes[made.file.name] = made.size
                report.latency['engines'][made.file.name] = engine
            except CompSRTError as error:
                report.missing[ENGINES[target]] = str(error)
                remove_files(stem, (target,))
            self._write(report)

    def _write(self, report: Report) -> None:
        report.seconds = time.monotonic() - self._start
        write_text(self.request.out / REPORT, json_text(report.to_json(), indent=2))
        write_text(self.request.out / 'report.md', report.to_markdown())

    def _costs(self, patches: Tensor) -> list[Cost]:
        """Returns what each layer of the student costs alone."""
        multiple = self.student.multiple
        side = min(-(-_SENSITIVITY_SIDE // multiple) * multiple, patches.shape[-1])
        return costs(self.student.network, patches[:_SENSITIVITY_PATCHES, :, :side, :side].to(self.request.device))
