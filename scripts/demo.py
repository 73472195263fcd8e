"""Demo: compresses SwinIR-light x2 to 4 bits, tests it, and compares it with its full-precision teacher.

    python scripts/demo.py [--output demo_output] [--quick]

Needs neither network access nor data: the photographs come with scikit-image, the full-precision weights with this
package. Each step runs a real command (`compsrt data prepare`, `basicsr train`, `basicsr test`) with a shipped option
file. `commands.log` in the output folder lists the commands with their output; they can be repeated in that folder.
Takes about seven minutes on two cores. `--quick` runs all steps in a minute or two, without meaningful figures.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from demo_commands import CommandFailedError, Commands
from demo_comparison import draw_comparison
from demo_images import write_images
from demo_report import make_table, write_results
from demo_runs import RECIPES, Budget, prepare, test, test_teacher, train

FULL = Budget(iterations=55, batch=4, lr_patch=32, calibration_patches=16, test_side=256)
QUICK = Budget(iterations=2, batch=1, lr_patch=16, calibration_patches=1, test_side=64)
STEPS = 2 + 1 + 3 * len(RECIPES)  # two data sets, the teacher's test, and per recipe one training and two tests


def main() -> int:
    """Runs the demo and returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--output', type=Path, default=Path('demo_output'), help='folder for all results')
    parser.add_argument('--quick', action='store_true', help='only check that every step runs')
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
    """Runs all steps and writes images, table and figures to `output`."""
    replace_folder(output)
    commands = Commands(output, STEPS)
    write_images(output / 'images', budget.test_side)
    data = prepare(commands)
    results = [test_teacher(commands, data)]
    for recipe in RECIPES:
        models = train(commands, recipe, data, budget)
        results += [test(commands, recipe, stage, file, data) for stage, file in models.items()]

    table = make_table(results)
    (output / 'table.md').write_text(table + '\n', encoding='utf-8')
    write_results(output / 'results.json', results, budget, commands.elapsed())
    draw_comparison(output / 'comparison.png', results, output / 'images/test')
    print(f'\n{table}\n\nSee comparison.png, table.md, results.json and commands.log in {output}.')


def replace_folder(output: Path) -> None:
    """Creates the output folder, or empties that of an earlier demo.

    Raises:
        CommandFailedError: if the folder contains other files.
    """
    if output.exists() and any(output.iterdir()) and not (output / Commands.LOG).exists():
        raise CommandFailedError(f'{output} contains files that are not from a demo: choose another --output.')
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True, exist_ok=True)


if __name__ == '__main__':
    sys.exit(main())
