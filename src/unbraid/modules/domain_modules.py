"""The domain evidence of the parents of a composition. Shapes: N examples, T timesteps, K modules, P parents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from unbraid.data.targets import Label
from unbraid.errors import ConfigError, DataError, quoted
from unbraid.modules.domain.evidence import Densities, Domain, comparable
from unbraid.modules.domain.views import numbers_read, reads_words, words_given, words_read
from unbraid.modules.module import ConcernModule
from unbraid.modules.running import JointModules


class DomainModules(JointModules):
    """Modules, and what the inputs of their parents look like.

    Args:
        modules: label -> module.
        domain: whether the vote uses the evidence where all parents have a kind of it in common.
    """

    def __init__(self, modules: Mapping[Label, ConcernModule], domain: bool) -> None:
        super().__init__(modules)
        self.domain = checked_domain(domain)
        self._cached: tuple[list[Domain], Densities] | None = None

    @property
    def domains(self) -> dict[str, Domain | None]:
        """Digest of each parent -> its evidence, that of its first module with evidence; None without."""
        found: dict[str, Domain | None] = {}
        for module in self.modules_by_label.values():
            if found.get(module.parent_sha256) is None:
                found[module.parent_sha256] = module.domain
        return found

    @property
    def uses_domain(self) -> bool:
        """Whether the vote uses domain evidence.

        That is so for classes of several parents with different evidence of one kind, unless it is switched off.
        """
        return self.densities is not None

    @property
    def separates_parents(self) -> bool:
        """Whether the vote uses domain evidence that differs for each parent."""
        return self.uses_domain and len(set(self.domain_parents)) == len(self.domains)

    @property
    def densities(self) -> Densities | None:
        """Log densities under the domain of each parent; None if the vote does not use them."""
        if not self.domain or self.task != "classification":
            return None
        found = comparable(list(self.domains.values()))
        if found is None:
            return None
        distinct = list({domain.key: domain for domain in found}.values())
        if len(distinct) < 2 or (distinct[0].words is not None and not all(map(reads_words, self._networks))):
            return None
        if self._cached is None or self._cached[0] != distinct:
            self._cached = (distinct, Densities(distinct))
        return self._cached[1]

    @property
    def _networks(self) -> list[Any]:
        return [module.parent for module in self.modules_by_label.values()]

    @property
    def domain_parents(self) -> list[int]:
        """For each module the number of its evidence, (K,). Parents with equal evidence have one number."""
        domains = self.domains
        numbers: dict[str | None, int] = {}
        found = [domains[module.parent_sha256] for module in self.modules_by_label.values()]
        keys = [None if domain is None else domain.key for domain in found]
        return [numbers.setdefault(key, len(numbers)) for key in keys]

    def domain_logs(self, x: Any) -> np.ndarray | None:
        """Compute the evidence of inputs for each number of :attr:`domain_parents`; None if the vote does not use it.

        Texts are compared word by word. Where all parents have one vocabulary, these are the words that it has, so that
        texts and their indices have equal results. Otherwise they are all words of the texts.

        Args:
            x: N inputs, as for :meth:`unbraid.Composition.margins`.

        Returns:
            log densities divided by the temperature, floats (N, P).

        Raises:
            DataError: the inputs are not those of the networks.
        """
        densities = self.densities
        if densities is None:
            return None
        if densities.of_words and self.needs_text:
            self.check_text(x)
            return densities.logs(words_given(x))
        network, inputs = self._networks[0], self._groups[0].checked(x)
        read = words_read(network, inputs) if densities.of_words else numbers_read(network, inputs)
        if read is None:
            raise DataError(
                "domain evidence compares numbers, and the inputs are no single array of numbers: call "
                "without_domain() first."
            )
        return densities.logs(read)

    def _logs_by_module(self, x: Any) -> np.ndarray | None:
        """Compute :meth:`domain_logs` for the parent of each module, (N, K)."""
        logs = self.domain_logs(x)
        return None if logs is None else logs[:, self.domain_parents]


def checked_domain(domain: Any) -> bool:
    """Return the setting ``domain``; raise ConfigError for other values than True and False."""
    if not isinstance(domain, bool | np.bool_):
        raise ConfigError(f"domain={quoted(repr(domain), 40)}: expected True or False.")
    return bool(domain)
