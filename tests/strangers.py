"""Two networks with random weights that read texts about different subjects, and their modules."""

import numpy as np

from tests import factory
from unbraid import Vocabulary, decompose

SUBJECTS = {
    "travel": ["book", "a", "flight", "to", "rome", "and", "a", "hotel", "near", "the", "old", "harbour", "please"],
    "court": ["the", "jury", "said", "that", "no", "judge", "would", "accept", "such", "evidence", "yesterday"],
}
STEPS = 6


def texts(subject, count=120, seed=0):
    """Make texts of random words of a subject."""
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(SUBJECTS[subject], rng.integers(4, 9))) for _ in range(count)]


def network(subject, words=None, **settings):
    """Make a network with a vocabulary, of the words of its subject by default."""
    vocabulary = Vocabulary.from_words(SUBJECTS[subject] if words is None else words, steps=STEPS)
    made = factory.network(labels=[f"{subject} {n}" for n in range(3)], **settings)
    return made.with_vocabulary(vocabulary)


def numbered():
    """Decompose a network whose classes are the numbers 0 to 2; return the modules, 200 inputs and their labels."""
    made = factory.network(seed=3)
    x = np.random.default_rng(0).integers(1, 100, (200, 4))
    y = made.predict_index(x)
    y[:6] = [0, 0, 1, 1, 2, 2]
    return decompose(made, (x, y)), x, y


def parts(subject, words=None, domain=True, **settings):
    """Decompose such a network on texts of its subject."""
    made = network(subject, words, **settings)
    sample = texts(subject)
    labels = made.predict_index(sample) if not made.io.many_outputs else np.zeros((len(sample), STEPS), int)
    if not made.io.many_outputs:
        labels[:6] = [0, 0, 1, 1, 2, 2]
    else:
        labels[:, 1], labels[:, 2] = 1, 2
    return decompose(made, (sample, labels), domain=domain)
