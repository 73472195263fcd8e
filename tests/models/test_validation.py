"""Validation: the numbers, files and images of BasicSR's own, and the metrics of each image."""

import json
import logging
from pathlib import Path

import cv2
import numpy as np
import pytest
from basicsr.data import build_dataset
from basicsr.models import build_model
from basicsr.models.sr_model import SRModel
from torch.utils.data import DataLoader

from compsrt_basicsr.errors import CompSRTError

PSNR = {'type': 'calculate_psnr', 'crop_border': 2}


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    """BasicSR's logger, as a command would have set it up."""
    from basicsr.utils import logger

    monkeypatch.setitem(logger.initialized_logger, 'basicsr', True)
    monkeypatch.setattr(logging.getLogger('basicsr'), 'level', logging.ERROR)


@pytest.fixture
def model(stock_options, tmp_path):
    """A full-precision network as a test would load it, with two metrics of equal options."""
    options = stock_options
    options.update(model_type='CompSRTPretrainModel', dist=False, rank=0, world_size=1, num_gpu=0, is_train=False)
    options['path'].update(results_root=str(tmp_path), visualization=str(tmp_path / 'images'))
    options['val'] = {'metrics': {'psnr': PSNR, 'same': dict(PSNR)}, 'suffix': None}
    return build_model(options)


def loader(options, name='TinyVal', **changes):
    dataset = build_dataset({**options['datasets']['val'], 'name': name, 'phase': 'val', 'scale': 2, **changes})
    return DataLoader(dataset, batch_size=1)


def written(folder):
    return {path.relative_to(folder): cv2.imread(str(path)) for path in Path(folder).rglob('*.png')}


@pytest.mark.parametrize('is_train', [False, True])
@pytest.mark.parametrize('suffix', [None, 'end'])
def test_numbers_files_and_images_are_basicsrs(model, tmp_path, is_train, suffix):
    model.opt['is_train'], model.opt['val']['suffix'] = is_train, suffix
    results = []
    for number, validate in enumerate((SRModel.nondist_validation, type(model).nondist_validation)):
        model.best_metric_results = {}
        model.opt['path']['visualization'] = str(tmp_path / str(number))
        validate(model, loader(model.opt), 'now', None, True)
        results.append((model.metric_results, model.best_metric_results, written(tmp_path / str(number))))
    (theirs, their_best, their_images), (mine, my_best, my_images) = results
    assert mine == theirs and my_best == their_best
    assert len(my_images) == 6 and my_images.keys() == their_images.keys()
    assert all(np.array_equal(my_images[path], their_images[path]) for path in my_images)


def test_each_image_of_each_data_set(model, tmp_path):
    """The mean of the images is the result; a second set and one metric under two names change nothing."""
    for name in ('One', 'Two'):
        model.nondist_validation(loader(model.opt, name), 'test', None, False)
    means = json.loads((tmp_path / 'metrics.json').read_text())
    details = json.loads((tmp_path / 'test_details.json').read_text())
    assert means['One'] == means['Two'] and set(means) == set(details) == {'One', 'Two'}
    assert details['One'] == details['Two'] and details['One']['levels'] == {}
    images = details['One']['images']
    assert list(images) == list('012345')
    assert all(values['psnr'] == values['same'] for values in images.values())
    assert len({values['psnr'] for values in images.values()}) == 6
    mean = np.mean([values['psnr'] for values in images.values()])
    assert means['One']['test']['psnr'] == pytest.approx(mean, rel=1e-14)  # six float64, added in another order


def test_files_of_one_name_stay_apart(model):
    class Namesakes(list):
        dataset = loader(model.opt).dataset

    found = [dict(item, lq_path=[path]) for item, path in zip(loader(model.opt), ('a/x.png', 'b/y.png', 'c/x.png'))]
    images = model.validate_images(Namesakes(found), 'test', None, True)
    assert list(images) == ['x', 'y', 'x#2']
    saved = {path.stem for path in written(model.opt['path']['visualization'])}
    assert saved == {f'{name}_tiny' for name in images}


def test_images_of_two_sets_stay_apart_in_training(model):
    """BasicSR keeps them by the names of the images alone."""
    model.opt['is_train'] = True
    model.opt['datasets']['val_2'] = model.opt['datasets']['val']
    for name in ('One', 'Two'):
        model.validate_images(loader(model.opt, name), 4, None, True)
    saved = written(model.opt['path']['visualization'])
    assert len(saved) == 12 and {path.parts[0] for path in saved} == {'One', 'Two'}


def strictly_read(file):
    """Reads JSON, in which NaN and Infinity have no place."""
    return json.loads(file.read_text(), parse_constant=lambda name: pytest.fail(f'{name} in {file.name}'))


@pytest.mark.parametrize(
    ('value', 'word'), [(float('inf'), 'infinite'), (float('nan'), 'undefined'), (None, 'undefined')]
)
def test_metrics_that_are_not_finite(model, tmp_path, monkeypatch, value, word):
    """Such as PSNR where the result is the ground truth, and NIQE of an image of one color."""
    images, warnings = [], []

    def measure(found, how):
        images.append(found)
        if len(images) == 3 and value is None:
            raise np.linalg.LinAlgError('SVD did not converge')
        return value if len(images) == 3 else 30.0

    monkeypatch.setattr('compsrt_basicsr.models.validation.calculate_metric', measure)
    monkeypatch.setattr(logging.getLogger('basicsr'), 'warning', warnings.append)
    model.opt['val']['metrics'] = {'psnr': PSNR}
    model.nondist_validation(loader(model.opt), 'test', None, False)
    assert strictly_read(tmp_path / 'metrics.json') == {'TinyVal': {'test': {'psnr': None}}}
    kept = strictly_read(tmp_path / 'test_details.json')['TinyVal']['images']
    assert [values['psnr'] for values in kept.values()] == [30.0, 30.0, None, 30.0, 30.0, 30.0]
    assert len(warnings) == 1 and all(text in warnings[0] for text in ('`psnr`', word, '`TinyVal`', '`2`'))
    best = model.best_metric_results['TinyVal']['psnr']['val']
    assert best == (float('inf') if word == 'infinite' else float('-inf'))


def test_damaged_results_are_named(model, tmp_path):
    (tmp_path / 'metrics.json').write_text('{"TinyVal": ')
    with pytest.raises(CompSRTError, match=r'metrics\.json'):
        model.nondist_validation(loader(model.opt), 'test', None, False)


def test_without_metrics(model, tmp_path):
    model.opt['val']['metrics'] = None
    model.nondist_validation(loader(model.opt), 'test', None, False)
    assert json.loads((tmp_path / 'metrics.json').read_text()) == {'TinyVal': {'test': {}}}
    assert json.loads((tmp_path / 'test_details.json').read_text())['TinyVal']['images'] == {}
