"""Short requests with their intents, made from templates: text examples that need no download."""

from __future__ import annotations

import random
from collections.abc import Sequence

from unbraid.errors import ConfigError, quoted

TEMPLATES = {
    "travel": ["book a {way} to {city}", "i want to go to {city} {day}", "is there a {way} to {city} {day}"],
    "weather": ["will it {sky} in {city} {day}", "is it going to {sky} {day}", "do i need an umbrella in {city} {day}"],
    "music": ["play {song} again", "put on {song} {day}", "i would like {song}"],
    "balance": ["how much money is in my {account}", "how much is left in my {account} {day}", "show my {account}"],
    "transfer": ["send {sum} to {person}", "i want to pay {person} {sum} {day}", "move {sum} to my {account}"],
    "card": ["i lost my {card} card in {city}", "block my {card} card", "order a new {card} card {day}"],
}
SLOTS = {
    "way": ["train", "flight", "bus", "ferry"],
    "city": ["paris", "oslo", "rome", "lima"],
    "day": ["today", "tomorrow", "on sunday", "next week"],
    "sky": ["rain", "snow", "be sunny"],
    "song": ["some jazz", "that song", "the radio", "my list"],
    "account": ["account", "savings", "savings account"],
    "sum": ["ten euros", "fifty euros", "some money"],
    "person": ["ana", "tom", "my sister", "the landlord"],
    "card": ["credit", "debit", "bank"],
}


def make_intents(intents: Sequence[str], count: int = 600, seed: int = 0) -> tuple[list[str], list[str]]:
    """Make random requests of some intents.

    Args:
        intents: names of intents, from ``travel``, ``weather``, ``music``, ``balance``, ``transfer``, ``card``.
        count: N, the number of requests.
        seed: seed of the choices; equal seeds give equal requests.

    Returns:
        the N requests in lower case, and the intent of each. The same request can occur more than once.

    Raises:
        ConfigError: an unknown intent.

    Example:
        >>> texts, labels = make_intents(["travel", "music"], count=3)
        >>> texts[0], labels[0]
        ('put on the radio on sunday', 'music')
    """
    for intent in intents:
        if intent not in TEMPLATES:
            raise ConfigError(f"unknown intent {quoted(intent)!r}: use some of {', '.join(TEMPLATES)}.")
    rng = random.Random(seed)
    labels = [rng.choice(list(intents)) for _ in range(count)]
    return [
        rng.choice(TEMPLATES[label]).format(**{slot: rng.choice(words) for slot, words in SLOTS.items()})
        for label in labels
    ], labels
