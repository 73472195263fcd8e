"""The whole way on a few photographs: SwinIR-light x2 compressed to 4 bits, tested, and shown beside its teacher.

    python scripts/demo.py [--output demo_output] [--quick]

Needs no network and no data: the photographs come inside scikit-image, the full-precision weights inside this package.
Every step is one of the real commands (`compsrt data prepare`, `basicsr train`, `basicsr test`) with a shipped option
file; `commands.log` in the output folder holds each of them, to be repeated there, with all that it printed. About
seven minutes on two cores; `--quick` goes the same way in a minute or two, on so little that its figures mean nothing.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from demo_commands import CommandFailedError, Commands
from demo_comparison import draw_comparison
from demo_pictures import write_pictures
from demo_report import make_table, write_results
from demo_runs import RECIPES, Budget, prepare, test, test_teacher, train

FULL = Budget(iterations=55, batch=4, lr_patch=32, calibration_patches=16, test_side=256)
QUICK = Budget(iterations=2, batch=1, lr_patch=16, calibration_patches=1, test_side=64)
STEPS = 2 + 1 + 3 * len(RECIPES)  # data, the teacher's test, and for each recipe one training and two tests


def main() -> int:
    """Runs the demo and returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--output', type=Path, default=Path('demo_output'), help='folder for all that it writes')
    parser.add_argument('--quick', action='store_true', help='check that every step runs; the figures mean nothing')
    args = parser.parse_args()
    try:
        run(args.output.resolve(), QUICK if args.quick else FULL)
    except CommandFailedError as error:
        sys.stderr.write(f'Error: {error}\n')
        return 1
    except KeyboardInterrupt:
        sys.stderr.write('\nInterrupted.\n')
        return 130
    return 0


def run(output: Path, budget: Budget) -> None:
    """Goes all the way and leaves pictures, table and figures in `output`."""
    replace_folder(output)
    commands = Commands(output, STEPS)
    write_pictures(output / 'pictures', budget.test_side)
    data = prepare(commands)
    results = [test_teacher(commands, data)]
    for recipe in RECIPES:
        models = train(commands, recipe, data, budget)
        results += [test(commands, recipe, stage, file, data) for stage, file in models.items()]

    table = make_table(results)
    (output / 'table.md').write_text(table + '\n', encoding='utf-8')
    write_results(output / 'results.json', results, budget, commands.elapsed())
    draw_comparison(output / 'comparison.png', results, output / 'pictures/test')
    print(f'\n{table}\n\n{output}: comparison.png (look at it), table.md, results.json, commands.log')


def replace_folder(output: Path) -> None:
    """Makes the output folder, or empties the one of an earlier demo.

    Raises:
        CommandFailedError: the folder holds something else.
    """
    if output.exists() and any(output.iterdir()) and not (output / Commands.LOG).exists():
        raise CommandFailedError(f'{output} holds something else than an earlier demo: give another --output.')
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True, exist_ok=True)


if __name__ == '__main__':
    sys.exit(main())
