"""Title, description, license and scores that a user adds to a saved folder."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from unbraid.data.targets import Label
from unbraid.errors import wrong_object


@dataclass(frozen=True)
class About:
    """Title, description, license and scores for the model card of a saved folder.

    Attributes:
        title: heading of the card.
        description: a few sentences.
        license: identifier of the license on model hubs, such as ``cc-by-4.0``.
        scores: name -> figure or plain value, stored in the folder.
        recipe: text of the recipe that made the folder.
        skipped: labels of the classes that got no module, of a decomposition.
    """

    title: str | None = None
    description: str | None = None
    license: str | None = None
    scores: Mapping[str, Any] = field(default_factory=dict)
    recipe: str | None = None
    skipped: tuple[Label, ...] = ()

    def changed(self, license: str | None, scores: Mapping[str, Any] | None) -> About:
        """Return a copy with another license and other scores; None keeps the old value.

        Raises:
            ArgumentError: ``license`` is not text, or ``scores`` is not a mapping.
        """
        for value, name, kind, expected in (
            (license, "license", str, "text, as 'cc-by-4.0'"),
            (scores, "scores", Mapping, "a mapping of names to figures"),
        ):
            if value is not None and not isinstance(value, kind):
                raise wrong_object(value, name, expected)
        return dataclasses.replace(
            self, license=license or self.license, scores=self.scores if scores is None else scores
        )


NOTHING = About()
