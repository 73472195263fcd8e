"""What importing costs: what the package and its commands import, and that the order of imports does not matter."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKED = ROOT / 'compsrt_basicsr/hub/swinir_light_x2_house_w2a2.safetensors'
SLOW = {'torch', 'torchvision', 'basicsr', 'cv2', 'scipy', 'matplotlib', 'requests', 'tensorboard', 'PIL', 'onnx'}
LIBRARIES = SLOW | {'numpy', 'pydantic', 'yaml', 'tqdm', 'tabulate', 'safetensors', 'lmdb'}
NOT_FOR_INFERENCE = {'basicsr', 'torchvision', 'torch._dynamo', 'sympy', 'scipy', 'cv2', 'matplotlib', 'tensorboard',
                     'requests', 'yaml'}  # fmt: skip

# Runs a command as `python -m` does and adds the names of all imported modules to its standard error.
PROBE = """
import atexit, json, runpy, sys
module, *sys.argv[1:] = sys.argv[1:]
atexit.register(lambda: print(json.dumps(sorted(sys.modules)), file=sys.stderr))
runpy.run_module(module, run_name='__main__', alter_sys=True)
"""
# Forks for each JSON string of code that it reads, since importing torch and torchvision takes seconds.
SERVER = """
import json, os, sys, traceback
import cv2, scipy.ndimage, torch, torchvision
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        status = 1
        try:
            exec(compile(json.loads(line), '<fresh>', 'exec'), {'__name__': '__main__'})
            status = 0
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""

Fresh = Callable[[str], None]


@pytest.fixture(scope='module')
def fresh() -> Iterator[Fresh]:
    """Returns a function that runs code in a process which has imported torch, but nothing of BasicSR or ours."""
    server = subprocess.Popen(
        [sys.executable, '-c', SERVER], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert server.stdin and server.stdout

    def run(code: str) -> None:
        server.stdin.write(json.dumps(dedent(code)) + '\n')
        server.stdin.flush()
        assert server.stdout.readline().strip() == '0', code

    yield run
    server.stdin.close()
    server.wait()


def modules_of(run_command: Callable, *command: object) -> tuple[set[str], int]:
    """The modules that a command has imported when it ends, and its exit status."""
    result = run_command(['python', '-c', PROBE, *command], ROOT)
    return set(json.loads(result.stderr.splitlines()[-1])), result.returncode


def test_importing_the_package_imports_no_library(run_command):
    result = run_command(['python', '-c', 'import compsrt_basicsr, sys; print(*sys.modules)'], ROOT)
    assert LIBRARIES.isdisjoint(result.stdout.split())


@pytest.mark.parametrize(
    ('command', 'status'),
    [
        ('--help', 0),
        ('--version', 0),
        ('upscale --help', 0),
        ('methods', 0),
        ('zoo list', 0),
        (f'size {PACKED}', 0),
        ('no-such-command', 2),
        ('upscale', 2),
        ('upscale model image.png --out out --tile many', 2),
        ('data no-such-command', 2),
        ('pack model --out file --codec none', 2),
        ('grid', 2),
    ],
)
def test_compsrt_answers_without_torch(run_command, command, status):
    found, returned = modules_of(run_command, 'compsrt_basicsr.cli.compsrt', *command.split())
    assert (found & SLOW, returned) == (set(), status)


@pytest.mark.parametrize(
    ('command', 'status'),
    [('--help', 0), ('--version', 0), ('train --help', 0), ('', 2), ('tarin', 2), ('train', 2), ('test -opt', 2)],
)
def test_basicsr_answers_without_torch(run_command, command, status):
    found, returned = modules_of(run_command, 'compsrt_basicsr', *command.split())
    assert (found & LIBRARIES, returned) == (set(), status)


def test_upscale_imports_no_more_than_inference_needs(run_command, tmp_path):
    from PIL import Image

    Image.new('RGB', (16, 16)).save(tmp_path / 'image.png')
    command = ('upscale', PACKED, tmp_path / 'image.png', '--out', tmp_path / 'out')
    found, status = modules_of(run_command, 'compsrt_basicsr.cli.compsrt', *command)
    assert (found & NOT_FOR_INFERENCE, status) == (set(), 0)
    assert 'basicsr.archs.swinir_arch' in found


@pytest.mark.parametrize(
    'first',
    [
        'import compsrt_basicsr.packing.contents',
        'from compsrt_basicsr.archs.compsrt_swinir_arch import CompSRTSwinIR',
        'import compsrt_basicsr.checkpoints.load',
        'import compsrt_basicsr.losses.distillation_loss',
        'import compsrt_basicsr.models.compsrt_model',
        'import compsrt_basicsr.basicsr_compat.exact_resume',
        'import compsrt_basicsr.onnx.check',
        'import compsrt_basicsr.study.compare.results',
    ],
)
def test_any_module_can_be_the_first_import(fresh: Fresh, first: str):
    if 'onnx' in first:
        pytest.importorskip('onnxruntime')
    fresh(f"""
        {first}
        import basicsr.train
        from compsrt_basicsr.basicsr_compat.parse_options import parse_options
        assert basicsr.train.parse_options.__wrapped__ is parse_options
        """)


def test_a_script_that_calls_register(fresh: Fresh):
    fresh("""
        import warnings
        warnings.simplefilter('error', DeprecationWarning)
        warnings.filterwarnings('ignore', category=DeprecationWarning, module='basicsr|scipy|torch|distutils')
        import compsrt_basicsr
        compsrt_basicsr.register()
        from basicsr.train import train_pipeline
        from basicsr.utils.registry import ARCH_REGISTRY, LOSS_REGISTRY, MODEL_REGISTRY
        assert 'CompSRTSwinIR' in ARCH_REGISTRY and 'CompSRTModel' in MODEL_REGISTRY
        assert 'FeatureDistillationLoss' in LOSS_REGISTRY
        import sys
        before = len(sys.modules)
        compsrt_basicsr.register()
        assert len(sys.modules) == before
        assert compsrt_basicsr.import_hook.BasicSRFinder not in sys.meta_path
        """)


@pytest.mark.parametrize(
    'use', ['from basicsr.train import train_pipeline', 'from basicsr.archs import build_network', 'import basicsr']
)
def test_a_script_that_only_imports_the_package(fresh: Fresh, use: str):
    """As scripts did before `register` existed: all is registered, and a warning points at their line."""
    fresh(f"""
        import warnings
        import compsrt_basicsr
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter('always')
            {use}
        (warning,) = [w for w in caught if 'compsrt_basicsr.register()' in str(w.message)]
        assert (warning.category, warning.filename) == (DeprecationWarning, '<fresh>')
        import basicsr.train
        from basicsr.utils.registry import ARCH_REGISTRY, MODEL_REGISTRY
        assert 'CompSRTSwinIR' in ARCH_REGISTRY and 'CompSRTModel' in MODEL_REGISTRY
        assert basicsr.train.parse_options.__module__.startswith('compsrt_basicsr.')
        """)


def test_basicsr_may_come_first(fresh: Fresh):
    """Other plugins bring the module that torchvision lacks, too."""
    fresh("""
        import sys, types
        from torchvision.transforms import functional
        name = 'torchvision.transforms.functional_tensor'
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].rgb_to_grayscale = functional.rgb_to_grayscale
        from basicsr.train import train_pipeline
        import compsrt_basicsr
        compsrt_basicsr.register()
        from basicsr.utils.registry import MODEL_REGISTRY
        assert 'CompSRTModel' in MODEL_REGISTRY
        assert sys.modules['basicsr.train'].parse_options.__module__.startswith('compsrt_basicsr.')
        """)


def test_basicsr_is_whole_after_swinir_was_imported_alone(fresh: Fresh):
    fresh("""
        import sys
        from compsrt_basicsr.basicsr_compat.swinir import ARCH_REGISTRY, SwinIR
        assert 'basicsr' not in sys.modules and 'SwinIR' in ARCH_REGISTRY and 'EDSR' not in ARCH_REGISTRY
        import basicsr
        assert basicsr.archs.swinir_arch.SwinIR is SwinIR is ARCH_REGISTRY.get('SwinIR')
        assert basicsr.utils.registry.ARCH_REGISTRY is ARCH_REGISTRY and 'EDSR' in ARCH_REGISTRY
        assert basicsr.archs.arch_util.torchvision.__version__
        assert callable(basicsr.utils.get_root_logger) and basicsr.ops.dcn
        """)


def test_architectures_of_basicsr_are_found_when_needed(fresh: Fresh):
    fresh("""
        import sys
        from compsrt_basicsr.archs.rebuild import geometry
        assert 'basicsr' not in sys.modules
        record = {'arch': 'EDSR', 'args': {'num_in_ch': 3, 'num_out_ch': 3, 'upscale': 2}}
        assert geometry(record).scale == 2
        """)
