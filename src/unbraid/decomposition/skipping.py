"""Classes that get no module because the sample has too few examples of them."""

from __future__ import annotations

from unbraid.config import DecompositionConfig
from unbraid.data.targets import Label, Targets
from unbraid.decomposition.sampling import missing_classes, module_classes
from unbraid.errors import quoted, warn_caller

NAMED = 5  # number of labels in the warning


def skipped_labels(targets: Targets, config: DecompositionConfig) -> list[Label]:
    """Return the labels of the classes that get no module, with a warning that names them.

    Raises:
        DataError: no class has enough examples.
    """
    made = set(module_classes(targets, config))
    skipped = [targets.labels[j] for j in missing_classes(targets, config) if j not in made]
    if skipped:
        shown = ", ".join(
            str(label) if isinstance(label, int) else repr(quoted(label, 60)) for label in skipped[:NAMED]
        )
        more = f" and {len(skipped) - NAMED} more" if len(skipped) > NAMED else ""
        warn_caller(
            f"{len(skipped)} of {len(skipped) + len(made)} classes get no module, with fewer than two of the given "
            f"examples: {shown}{more}. Give examples of them, or pass missing='error' to refuse such samples.",
        )
    return skipped
