"""A scikit-learn classifier made of modules. Needs the extra ``sklearn``.

Shapes: N examples, T timesteps, D inputs, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np

from unbraid.config import DecompositionConfig
from unbraid.data.targets import Label, whole_numbers
from unbraid.data.texts import is_text
from unbraid.decomposition.decompose import decompose
from unbraid.errors import ConfigError, DataError, MissingPackage, quoted, wrong_object
from unbraid.modules.compose import compose
from unbraid.modules.composition import Composition
from unbraid.networks.inputs import leaves
from unbraid.networks.network import Network

try:
    from scipy.sparse import issparse
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.utils import Tags
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data
except ImportError as _missing:
    raise MissingPackage(
        f"unbraid.sklearn needs scikit-learn 1.6 or newer ({_missing}): pip install 'scikit-learn>=1.6'."
    ) from None

__all__ = ["DecomposedClassifier", "InputError", "InputTypeError"]

Model = Network | Composition
SETTINGS = ("strategy", "keep", "max_loss", "refine", "head", "samples_per_class", "seed")  # of a decomposition


class InputError(DataError, ValueError):
    """Inputs or labels do not fit. It is also a ValueError, which tools of scikit-learn expect."""


class InputTypeError(DataError, TypeError):
    """X is of a wrong type. It is also a TypeError, which tools of scikit-learn expect."""


class DecomposedClassifier(ClassifierMixin, BaseEstimator):
    """A composition of modules as a scikit-learn classifier.

    :meth:`fit` decomposes a trained network on the examples and composes the modules. A composition is calibrated on
    them instead. The network itself is never trained or changed; pass a function to train one for each fit, as
    cross-validation needs it.

    Args:
        network: a trained Network, a Composition, or a function ``(X, y) -> Network or Composition``. It must have one
            decision per example. Its labels are those of y, or numbers of y count them. A network without names has the
            sorted labels of y.
        strategy: as for :func:`unbraid.decompose`, and so are the other settings of a decomposition. None: the default.
        keep: share of the hidden units to keep, in (0, 1].
        max_loss: in place of ``keep``, the tolerated loss on a held-out fifth of the examples, in [0, 1).
        refine: number of gradient steps of distillation.
        head: ``softmax``, ``fitted`` or ``mean``.
        samples_per_class: largest number of examples for each class.
        seed: seed of the sampling.
        calibrate: whether to calibrate the vote on the examples of :meth:`fit`. None: only a given composition of
            several networks.
        referee: whether to fit a referee on them, for a given composition of several networks.

    Attributes:
        classes_: the sorted labels of y, (K,).
        composition_: the fitted composition. Its modules can be saved, evaluated and replaced.
        n_features_in_: number of columns of X, if X was an array.
        feature_names_in_: names of the columns of X, if X was a DataFrame with text as names.

    Example:
        >>> from unbraid.demo.small import small_examples, small_network
        >>> from unbraid.sklearn import DecomposedClassifier
        >>> network = small_network()
        >>> x, y = small_examples(network)
        >>> model = DecomposedClassifier(network, keep=0.25).fit(x, y)
        >>> model.predict_proba(x).shape, model.classes_.tolist()
        ((120, 3), ['banking', 'travel', 'weather'])
        >>> model.composition_["travel"].retention().nodes
        0.25
    """

    def __init__(
        self,
        network: Model | Callable[[Any, Any], Model] | None = None,
        *,
        strategy: str | None = None,
        keep: float | None = None,
        max_loss: float | None = None,
        refine: int | None = None,
        head: Literal["softmax", "fitted", "mean"] | None = None,
        samples_per_class: int | None = None,
        seed: int = 0,
        calibrate: bool | None = None,
        referee: bool = False,
    ) -> None:
        self.network = network
        self.strategy = strategy
        self.keep = keep
        self.max_loss = max_loss
        self.refine = refine
        self.head = head
        self.samples_per_class = samples_per_class
        self.seed = seed
        self.calibrate = calibrate
        self.referee = referee

    def fit(self, X: Any, y: Any) -> DecomposedClassifier:
        """Decompose the network on examples, or calibrate the composition.

        Args:
            X: inputs as the network reads them: numbers (N, D) or (N, T, D), word indices (N, T), or texts if it has a
                vocabulary. Several inputs are a tuple or a dict of arrays.
            y: labels (N,), names or numbers.

        Returns:
            the classifier itself.

        Raises:
            InputError: inputs or labels that do not fit, or fewer than two classes.
            ConfigError: a setting out of range.
            ArgumentError: ``network`` is something else.
        """
        X, y = self._examples(X, y)
        classes = np.unique(y)
        if len(classes) < 2:
            raise InputError(
                f"y has {len(classes)} class ({quoted(classes.tolist(), 60)}), expected at least 2 classes."
            )
        given: Any = self.network
        model = _checked(given(X, y) if callable(given) and not isinstance(given, Model) else given)
        places = _places(model.labels, classes)
        named = [model.labels[place] for place in places]
        labels = np.asarray(named, dtype=object)[np.searchsorted(classes, y)].tolist()
        with _as_input_errors():
            composition = self._composed(model, _as_weights(X, model), labels, named)
        self.classes_, self.composition_ = classes, composition
        self._columns = [composition.labels.index(label) if label in composition else None for label in named]
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Predict labels (N,), of the kind that y had in :meth:`fit`.

        Args:
            X: inputs, as for :meth:`fit`.

        Raises:
            InputError: inputs that do not fit.
            NotFittedError: :meth:`fit` was not called.
        """
        check_is_fitted(self)
        X = self._inputs(X, reset=False)
        with _as_input_errors():
            found = self.composition_.predict_index(_as_weights(X, self.composition_), allowed=self._allowed())
        places = {column: place for place, column in enumerate(self._columns) if column is not None}
        return self.classes_[[places[column] for column in found.tolist()]]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Compute the probability of each class, (N, K) in the order of ``classes_``; each row sums to 1.

        A class that had a single example in :meth:`fit` has no module, and the probability 0.

        Args:
            X: inputs, as for :meth:`fit`.

        Raises:
            InputError: inputs that do not fit.
            NotFittedError: :meth:`fit` was not called.
        """
        check_is_fitted(self)
        X = self._inputs(X, reset=False)
        with _as_input_errors():
            x = _as_weights(X, self.composition_)
            shares = self.composition_.predict_proba(x, allowed=self._allowed()).astype(np.float64)
        found = np.zeros((len(shares), len(self.classes_)))
        for place, column in enumerate(self._columns):
            if column is not None:
                found[:, place] = shares[:, column]
        return found / found.sum(1, keepdims=True)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags

    def _allowed(self) -> np.ndarray:
        """Return which labels of the composition occurred in y, (K,)."""
        return np.isin(np.arange(len(self.composition_.labels)), [c for c in self._columns if c is not None])

    def _composed(self, model: Model, X: Any, y: list[Label], named: list[Label]) -> Composition:
        if isinstance(model, Composition):
            if self.referee:
                return model.with_referee(X, y)
            several = len({module.parent_sha256 for module in model.modules_by_label.values()}) > 1
            wanted = several if self.calibrate is None else self.calibrate
            return model.with_calibration(X, y) if wanted else model
        given = {name: getattr(self, name) for name in SETTINGS}
        settings = {name: value for name, value in given.items() if value is not None}
        parts = decompose(
            model, (X, y), config=DecompositionConfig.of(**settings, classes=tuple(named)), progress=False
        )
        sample = (X, y) if self.calibrate or self.referee else None
        return compose(parts, sample=sample, calibrate=self.calibrate or None, referee=self.referee)

    def _examples(self, X: Any, y: Any) -> tuple[Any, np.ndarray]:
        if y is None:
            raise InputError("fit requires y to be passed, but the target y is None: give one label for each example.")
        X = self._inputs(X, reset=True)
        try:
            y = column_or_1d(y, warn=True)
            check_classification_targets(y)
        except (ValueError, TypeError) as error:
            raise InputError(f"y: {error}") from None
        count = _count(X)
        if count != len(y):
            raise InputError(f"X has {count} examples and y {len(y)} labels: expected one label for each example.")
        return X, y

    def _inputs(self, X: Any, reset: bool) -> Any:
        """Check inputs; arrays and tables as scikit-learn does it."""
        if issparse(X):
            raise InputError("X is a sparse array, and sparse input is not supported: pass X.toarray().")
        if is_text(X) or isinstance(X, Mapping | tuple):
            return X
        try:
            return validate_data(self, X, reset=reset, allow_nd=True)
        except ValueError as error:
            raise InputError(str(error)) from None
        except TypeError as error:
            raise InputTypeError(str(error)) from None


@contextmanager
def _as_input_errors() -> Iterator[None]:
    """Raise a DataError of the block as an InputError."""
    try:
        yield
    except InputError:
        raise
    except DataError as error:
        raise InputError(str(error)) from None


def _checked(model: Any) -> Model:
    if not isinstance(model, Network | Composition):
        advice = "make one with unbraid.load(path) or Network.from_torch, or pass a function that returns one"
        raise wrong_object(model, "network", "a Network or a Composition", advice)
    many = model.io.many_outputs if isinstance(model, Network) else model.many_outputs
    if model.task != "classification" or many:
        found = "at each timestep" if many else f"of {model.task}"
        raise ConfigError(
            f"network= decides {found}, expected one class per example: use unbraid.decompose and unbraid.compose."
        )
    return model


def _places(labels: Sequence[Label], classes: np.ndarray) -> list[int]:
    """Return the position of each class of y among the labels of a model.

    Raises:
        InputError: a class that the model does not have.
    """
    by_text = {str(label): place for place, label in enumerate(labels)}
    texts = [str(value) for value in classes.tolist()]
    if all(text in by_text for text in texts):
        return [by_text[text] for text in texts]
    if list(labels) == list(range(len(labels))) and len(labels) == len(classes):
        return list(range(len(classes)))
    numbers, names = whole_numbers(classes), not any(isinstance(label, int) for label in labels)
    if numbers is not None and names and numbers[0] >= 0 and numbers[-1] < len(labels):
        return [int(number) for number in numbers]
    unknown = [text for text in texts if text not in by_text]
    raise InputError(
        f"y has the class {quoted(unknown[0], 60)!r}, and the network the labels {quoted(list(labels)[:9])}: pass "
        "labels of the network."
    )


def _as_weights(X: Any, model: Model) -> Any:
    """Convert an array of floats to the type of the weights; scikit-learn computes in float64, networks in float32."""
    if not isinstance(X, np.ndarray) or X.dtype.kind != "f":
        return X
    network = model if isinstance(model, Network) else next(iter(model.modules_by_label.values())).parent
    return X.astype(str(network.head.weight.dtype).removeprefix("torch."))


def _count(X: Any) -> int:
    found = leaves(X) if isinstance(X, Mapping | tuple) else [X]
    return len(found[0]) if found else 0
