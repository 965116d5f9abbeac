"""The files that a composition would read, found without composing."""

from collections.abc import Sequence

from lmrun.config import command_line, composition, recipes
from lmrun.config.documents import read
from lmrun.config.hydra_session import PRIMARY
from lmrun.config.places import Places


def footprint(overrides: Sequence[str], places: Places) -> dict[str, str]:
    """``kind name`` → digest of each file of `Composed.files`, at a tenth of the cost."""
    line = command_line.read(overrides, places)
    taken = recipes.walk(line.recipes, places)
    primary = read(places.configs / f"{PRIMARY}.yaml", "", places)
    chosen = composition.choices_of(primary, taken, line)
    options = {
        f"{group}/{choices[-1].option}": places.option_file(group, choices[-1].option)
        for group, choices in chosen.items()
        if choices
    }
    found = {f"defaults {PRIMARY}": primary.digest}
    found |= {
        f"option {name}": read(path, name.partition("/")[0], places).digest
        for name, path in options.items()
    }
    return found | {f"recipe {name}": document.digest for name, document in taken.items()}
