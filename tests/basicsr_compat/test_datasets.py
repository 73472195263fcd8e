"""Data sets of every type: pairs that do not fit, folders that do not match, images that do not decode."""

import copy
import pickle

import cv2
import numpy as np
import pytest
import torch
from basicsr.data import build_dataset
from conftest import write_lmdb
from torch.utils.data import DataLoader

from compsrt_basicsr.basicsr_compat.datasets import check_metrics
from compsrt_basicsr.errors import CompSRTError

PSNR = {'psnr': {'type': 'calculate_psnr', 'crop_border': 2}}
TRAINING = {'phase': 'train', 'gt_size': 16, 'use_hflip': False, 'use_rot': False}


def picture(height, width):
    return np.random.default_rng(height * width).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def folders(tmp_path):
    """Returns a function that writes images `{'a.png': (height, width)}` to gt and lq, and gives the options."""

    def write(gt, lq, **options):
        for side, images in (('gt', gt), ('lq', lq)):
            (tmp_path / side).mkdir(exist_ok=True)
            for name, size in images.items():
                file = tmp_path / side / name
                file.write_bytes(size) if isinstance(size, bytes) else cv2.imwrite(str(file), picture(*size))
        return {
            'name': 'Mine',
            'type': 'PairedImageDataset',
            'dataroot_gt': str(tmp_path / 'gt'),
            'dataroot_lq': str(tmp_path / 'lq'),
            'io_backend': {'type': 'disk'},
            'phase': 'val',
            'scale': 2,
            **options,
        }

    return write


def message(options):
    """The sentence with which a data set is refused."""
    with pytest.raises(CompSRTError, match='`Mine`') as caught:
        build_dataset(options)
    return str(caught.value)


@pytest.mark.parametrize('kind', ['PairedImageDataset', 'RealESRGANPairedDataset'])
@pytest.mark.parametrize('listed', [False, True])
@pytest.mark.parametrize(
    ('gt', 'lq', 'words'),
    [
        ((32, 32), (8, 8), ['GT 32x32', 'LR 8x8', '4 times', '`scale`']),
        ((12, 16), (24, 32), ['exchange', '`dataroot_gt`', '`dataroot_lq`']),
        ((33, 32), (17, 16), ['crop GT', 'compsrt data lr']),
        ((34, 32), (16, 16), ['GT 32x34', 'LR 16x16']),
        ((32, 40), (16, 16), ['GT 40x32']),
    ],
)
def test_pairs_that_do_not_fit_the_scale(folders, tmp_path, kind, listed, gt, lq, words):
    sound = {'a.png': (32, 32)}, {'a.png': (16, 16)}
    options = folders({**sound[0], 'b.png': gt}, {**sound[1], 'b.png': lq}, type=kind)
    if listed:
        (tmp_path / 'list.txt').write_text('b.png (1,1,3)\n' if kind == 'PairedImageDataset' else 'b.png, b.png\n')
        options['meta_info_file' if kind == 'PairedImageDataset' else 'meta_info'] = str(tmp_path / 'list.txt')
    text = message(options)
    assert 'b.png' in text and all(word in text for word in words), text


def test_pairs_in_lmdbs_are_checked(tmp_path, folders):
    options = folders({}, {}, io_backend={'type': 'lmdb'})
    options['dataroot_gt'] = str(write_lmdb(tmp_path / 'gt.lmdb', [picture(32, 32), picture(32, 32)]))
    options['dataroot_lq'] = str(write_lmdb(tmp_path / 'lq.lmdb', [picture(16, 16), picture(8, 8)]))
    assert '`1` in `' in message(options)


@pytest.mark.parametrize(('gt', 'scale'), [((32, 33), 2), ((33, 33), 2), ((50, 49), 3), ((67, 66), 4), ((16, 16), 1)])
def test_a_remainder_of_less_than_the_scale_is_cropped(folders, gt, scale):
    """As BasicSR's benchmarks need."""
    dataset = build_dataset(folders({'a.png': gt}, {'a.png': (16, 16)}, scale=scale))
    assert tuple(dataset[0]['gt'].shape) == (3, 16 * scale, 16 * scale)
    assert dataset.sizes == [('a.png', 16 * scale, 16 * scale)]


def test_orientation_in_the_metadata_is_heeded(folders, tmp_path):
    """OpenCV turns the image; its header does not say so."""
    from PIL import Image

    options = folders({'a.jpg': (32, 48)}, {})
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(picture(24, 16)).save(tmp_path / 'lq/a.jpg', exif=exif)  # 16x24 when turned
    assert tuple(build_dataset(options)[0]['lq'].shape) == (3, 16, 24)


def test_a_type_whose_files_are_unknown_is_checked_as_it_is_read(folders):
    from basicsr.utils.registry import DATASET_REGISTRY

    class Odd(torch.utils.data.Dataset):
        def __init__(self, opt):
            self.opt = opt

        def __len__(self):
            return 1

        def __getitem__(self, index):
            return {'lq': torch.zeros(3, 8, 8), 'gt': torch.zeros(3, 32, 32), 'lq_path': 'x.png'}

    DATASET_REGISTRY._obj_map['Odd'] = Odd
    try:
        with pytest.raises(CompSRTError, match=r'x\.png.*`Mine`.*32x32'):
            build_dataset(folders({}, {}, type='Odd'))[0]
    finally:
        del DATASET_REGISTRY._obj_map['Odd']


def test_items_and_attributes_are_those_of_basicsr(folders):
    from basicsr.data.paired_image_dataset import PairedImageDataset

    options = folders({'a.png': (32, 32), 'b.png': (40, 32)}, {'a.png': (16, 16), 'b.png': (20, 16)})
    theirs, mine = PairedImageDataset(copy.deepcopy(options)), build_dataset(options)
    assert mine.paths == theirs.paths and mine.opt['name'] == 'Mine' and len(mine) == 2
    assert all(torch.equal(mine[i][side], theirs[i][side]) for i in (0, 1) for side in ('lq', 'gt'))
    assert pickle.loads(pickle.dumps(mine))[1]['lq_path'] == theirs[1]['lq_path']
    assert len(list(DataLoader(mine, batch_size=1))) == 2
    with pytest.raises(AttributeError):
        mine.nothing  # noqa: B018


NAMES = {
    'template': (['a', 'b'], ['ax2', 'bx2'], ["filename_tmpl: '{}x2'"]),
    'prefix': (['a', 'b'], ['LR_a', 'LR_b'], ["filename_tmpl: 'LR_{}'"]),
    'one missing': (['a', 'b', 'c'], ['a', 'b'], ['`c.png`', 'filename_tmpl']),
    'one more': (['a', 'b'], ['a', 'b', 'c'], ['`c.png`']),
    'other names': (['woman', 'head'], ['frau', 'kopf'], ['`head.png`', '`frau.png`', 'filename_tmpl']),
}


@pytest.mark.parametrize('kind', ['PairedImageDataset', 'RealESRGANPairedDataset'])
@pytest.mark.parametrize('phase', ['val', 'train'])
@pytest.mark.parametrize('case', NAMES)
def test_folders_that_do_not_match(folders, kind, phase, case):
    gt, lq, words = NAMES[case]
    images = {f'{name}.png': (32, 32) for name in gt}, {f'{name}.png': (16, 16) for name in lq}
    text = message(folders(*images, type=kind, phase=phase))
    assert all(word in text for word in words), text


def test_the_template_that_is_named_pairs_the_images(folders):
    options = folders({'a.png': (32, 32)}, {'ax2.png': (16, 16)})
    assert len(build_dataset({**options, 'filename_tmpl': '{}x2'})) == 1


@pytest.mark.parametrize('sides', [('gt',), ('lq',), ('gt', 'lq')])
def test_files_that_are_no_images_are_named(folders, tmp_path, sides):
    options = folders({'a.png': (32, 32)}, {'a.png': (16, 16)})
    for side in sides:
        (tmp_path / side / 'Thumbs.db').write_bytes(b'x')
    assert 'Thumbs.db' in message(options)


@pytest.mark.parametrize('phase', ['val', 'train'])
@pytest.mark.parametrize(('kind', 'sides'), [('PairedImageDataset', 2), ('SingleImageDataset', 2)])
def test_empty_folders(folders, phase, kind, sides):
    assert 'dataroot_lq' in message(folders({}, {}, type=kind, phase=phase))


@pytest.mark.parametrize('kind', ['PairedImageDataset', 'SingleImageDataset', 'RealESRGANPairedDataset'])
def test_missing_folder(folders, tmp_path, kind):
    options = folders({}, {}, type=kind)
    (tmp_path / 'lq').rmdir()
    assert str(tmp_path / 'lq') in message(options)


def test_missing_options(folders):
    assert '`meta_info`' in message(folders({'a.png': (32, 32)}, {}, type='RealESRGANDataset', phase='train'))
    without = folders({'a.png': (32, 32)}, {'a.png': (16, 16)})
    del without['io_backend']
    assert '`io_backend`' in message(without)
    assert '`use_rot`' in message_of_item(folders({}, {}, phase='train', gt_size=16, use_hflip=False))
    assert 'Did you mean `PairedImageDataset`' in message({**without, 'type': 'PairedImagesDataset'})


def message_of_item(options):
    with pytest.raises(CompSRTError, match='`Mine`') as caught:
        build_dataset(options)[0]
    return str(caught.value)


def test_lists_are_checked(folders, tmp_path):
    listed = tmp_path / 'list.txt'
    listed.write_text('a.png (32,32,3)\ngone.png (32,32,3)\n')
    options = folders({'a.png': (32, 32)}, {'a.png': (16, 16)}, meta_info_file=str(listed))
    for phase in ('val', 'train'):
        text = message({**options, 'phase': phase})
        assert 'gone.png' in text and str(listed) in text
    assert 'absent.txt' in message({**options, 'meta_info_file': 'absent.txt'})
    listed.write_text('')
    assert str(listed) in message(options)
    listed.write_text('a.png\n')
    assert 'two names' in message({**options, 'type': 'RealESRGANPairedDataset', 'meta_info': str(listed)})


@pytest.mark.parametrize('kind', ['PairedImageDataset', 'RealESRGANPairedDataset', 'SingleImageDataset'])
def test_broken_images_are_named(folders, tmp_path, kind):
    whole = cv2.imencode('.png', picture(16, 16))[1].tobytes()
    options = folders({'a.png': (32, 32)}, {'a.png': b'no image'}, type=kind)
    assert 'lq/a.png` cannot be decoded' in message(options)
    options = folders({'a.png': (32, 32)}, {'a.png': (16, 16)}, type=kind)
    dataset = build_dataset(options)
    (tmp_path / 'lq/a.png').write_bytes(whole[:40])  # since it was checked
    with pytest.raises(CompSRTError, match=r'`Mine`.*lq/a\.png` cannot be decoded'):
        dataset[0]
    (tmp_path / 'lq/a.png').unlink()
    with pytest.raises(CompSRTError, match=r'`Mine`.*lq/a\.png` cannot be read'):
        dataset[0]


def test_a_program_error_keeps_its_traceback(folders, monkeypatch):
    dataset = build_dataset(folders({'a.png': (32, 32)}, {'a.png': (16, 16)}))
    monkeypatch.setattr(type(dataset.dataset), '__getitem__', lambda *_: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        dataset[0]


def refused(dataset, metrics):
    with pytest.raises(CompSRTError, match='`Mine`') as caught:
        check_metrics(dataset, metrics)
    return str(caught.value)


SMALLEST = [  # metric, border, the smallest side of SSIM and PSNR; NIQE needs two blocks of 96
    ('calculate_psnr', 0, (1, 1)),
    ('calculate_psnr', 2, (5, 5)),
    ('calculate_ssim', 0, (11, 11)),
    ('calculate_ssim', 3, (17, 17)),
    ('calculate_niqe', 0, (96, 192)),
    ('calculate_niqe', 0, (192, 96)),
    ('calculate_niqe', 4, (104, 200)),
]


@pytest.mark.parametrize(('kind', 'border', 'size'), SMALLEST)
def test_the_smallest_image_of_a_metric(folders, kind, border, size):
    """The metric has a value there, and one pixel less is refused."""
    from basicsr.metrics import calculate_metric

    how = {'type': kind, 'crop_border': border}
    compared = {'img': picture(*size)} | ({} if kind == 'calculate_niqe' else {'img2': 255 - picture(*size)})
    assert np.isfinite(calculate_metric(compared, how))
    dataset = build_dataset(folders({'a.png': size}, {'a.png': size}, scale=1))
    check_metrics(dataset, {'mine': how})
    dataset.sizes[0] = ('a.png', size[0] - 1, size[1])
    text = refused(dataset, {'mine': how})
    assert '`a.png`' in text and '`val.metrics.mine`' in text and kind in text


def test_a_metric_with_a_reference_needs_a_ground_truth(folders):
    dataset = build_dataset(folders({}, {'a.png': (200, 200)}, type='SingleImageDataset', scale=1))
    assert '`val.metrics.psnr`' in refused(dataset, PSNR)
    check_metrics(dataset, {'niqe': {'type': 'calculate_niqe', 'crop_border': 0}})


def test_metrics_of_tensors_are_refused(folders):
    dataset = build_dataset(folders({'a.png': (32, 32)}, {'a.png': (16, 16)}))
    with pytest.raises(CompSRTError, match='use `calculate_ssim`'):
        check_metrics(dataset, {'ssim': {'type': 'calculate_ssim_pt', 'crop_border': 0}})
