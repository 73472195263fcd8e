"""For tools that look for a setup.py; pyproject.toml says everything."""

from setuptools import setup

from setuptools import find_packages, setup

HERE = pathlib.Path(__file__).parent
VERSION = re.search(r"__version__ = '([^']+)'", (HERE / 'compsrt_basicsr/version.py').read_text()).group(1)

setup(
    name='compsrt_basicsr',
    version=VERSION,
    description='CompSRT for BasicSR: low-bit quantization of SwinIR-light in the Hadamard domain',
    long_description=(HERE / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='MIT',
    python_requires='>=3.10,<3.13',
    packages=find_packages(include=['compsrt_basicsr', 'compsrt_basicsr.*']),
    package_data={
        'compsrt_basicsr.data': ['*.yml'],
        'compsrt_basicsr.integer': ['kernels/*.h', 'kernels/*.cpp'],
        'compsrt_basicsr.study': ['*.csv'],
        'compsrt_basicsr.hub': ['*.safetensors', '*.md', '*.yml'],
    },
    install_requires=[
        'basicsr==1.4.2',
        'torch>=2.6',
        'torchvision',
        'opencv-python',
        'lmdb',
        'pyyaml',
        'addict',
        'numpy',
        'Pillow',
        'scipy<2',  # BasicSR 1.4.2 imports scipy.ndimage.filters, which SciPy 2 removes
        'safetensors',
        'zstandard',
        'constriction',
        'tqdm',
        'click',
        'tabulate',
        'submitit',
        'requests',
        'filelock',
        'platformdirs',
    ],
    extras_require={
        'onnx': ['onnx>=1.20', 'onnxruntime'],
        'figures': ['matplotlib'],
        'test': ['pytest', 'pytest-timeout', 'hypothesis', 'ruff', 'onnx>=1.20', 'onnxruntime', 'matplotlib'],
        'demo': ['scikit-image', 'matplotlib'],
    },
    entry_points={
        'console_scripts': [
            'basicsr = compsrt_basicsr.cli.basicsr:main',
            'compsrt = compsrt_basicsr.cli.compsrt:main',
        ]
    },
)
