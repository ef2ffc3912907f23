"""Mutation of JSON by its structure."""

import json
from copy import deepcopy

from tests.fuzz import values

DEPTHS = (20, 60, 99, 101, 300, 1_500, 30_000)


class Raw(str):
    """JSON text that is written as it is."""

    __slots__ = ()


def write(tree):
    """JSON of a tree that may hold :class:`Raw`."""
    raw = []

    def marked(node):
        if isinstance(node, Raw):
            raw.append(node)
            return f"raw-json-{len(raw) - 1}-"
        if isinstance(node, dict):
            return {key: marked(value) for key, value in node.items()}
        return [marked(value) for value in node] if isinstance(node, list) else node

    text = json.dumps(marked(tree))
    for number in reversed(range(len(raw))):
        text = text.replace(f'"raw-json-{number}-"', raw[number])
    return text


def nodes(tree):
    """Every (container, key or position) below the root."""
    found, todo = [], [tree]
    while todo:
        node = todo.pop()
        keys = list(node) if isinstance(node, dict) else range(len(node))
        for key in keys:
            found.append((node, key))
            if isinstance(node[key], dict | list):
                todo.append(node[key])
    return found


def pool(trees):
    """Field name -> the values that it has in valid files."""
    found = {}
    for tree in trees:
        for container, key in nodes(tree):
            seen = found.setdefault(key if isinstance(container, dict) else "", [])
            if len(seen) < 40 and container[key] not in seen:
                seen.append(container[key])
    return found


def mutate(rng, tree, known=None, times=None):
    """Change a tree in place, at one to a few nodes.

    Args:
        rng: random.Random.
        tree: lists and dicts.
        known: of :func:`pool`: valid values that fields get in place of their own.
        times: number of changes; None: mostly one.

    Returns:
        the tree, or what replaces all of it.
    """
    for _ in range(times or rng.choice([1, 1, 1, 2, 2, 3, 5])):
        if not isinstance(tree, dict | list) or rng.random() < 0.005:
            return values.other(rng)
        found = nodes(tree)
        if not found:
            return values.other(rng)
        container, key = rng.choice(found)
        (change,) = rng.choices(CHANGES, WEIGHTS)
        change(rng, container, key, found, known or {})
    return tree


def _known(rng, container, key, found, known):
    valid = known.get(key if isinstance(container, dict) else "", [])
    container[key] = deepcopy(rng.choice(valid)) if valid else values.number(rng)


def _boundary(rng, container, key, found, known):
    old = container[key]
    if isinstance(old, str):
        container[key] = values.string(rng, old)
    elif isinstance(old, bool) or old is None:
        container[key] = values.other(rng)
    elif isinstance(old, int | float):
        container[key] = values.number(rng, old)
    elif old:
        _delete(rng, old, rng.choice(list(old) if isinstance(old, dict) else range(len(old))), found, known)


def _type(rng, container, key, found, known):
    container[key] = values.other(rng)


def _string(rng, container, key, found, known):
    container[key] = values.string(rng, container[key] if isinstance(container[key], str) else "")


def _swap(rng, container, key, found, known):
    other, place = rng.choice(found)
    copied = deepcopy(other[place]), deepcopy(container[key])
    container[key] = copied[0]
    if rng.random() < 0.5 and (place in other if isinstance(other, dict) else place < len(other)):
        other[place] = copied[1]


def _delete(rng, container, key, found, known):
    del container[key]


def _add(rng, container, key, found, known):
    if isinstance(container, list):
        container.insert(rng.randrange(len(container) + 1), deepcopy(container[key]))
    else:
        container[rng.choice([*map(str, list(known)[:40]), *values.STRINGS[:50]])] = values.other(rng)


def _rename(rng, container, key, found, known):
    if isinstance(container, dict):
        new = rng.choice(list(container)) if rng.random() < 0.4 else values.string(rng, key)
        items = [(new if name == key else name, value) for name, value in container.items()]
        container.clear()
        container.update(items)
    else:
        rng.shuffle(container)


def _repeat_key(rng, container, key, found, known):
    old = container[key]
    if isinstance(old, dict) and old:
        name = rng.choice(list(old))
        pairs = [*old.items(), (name, values.other(rng) if rng.random() < 0.5 else old[name])]
        container[key] = Raw("{" + ", ".join(f"{json.dumps(k)}: {write(v)}" for k, v in pairs) + "}")
    else:
        container[key] = Raw(
            rng.choice(["9" * 4_000, "9" * 5_000, "-" + "1" * 20_000, "1e400", "1" + "0" * 400 + ".5"])
        )


def _deep(rng, container, key, found, known):
    depth, opening = rng.choice(DEPTHS), rng.choice([("[", "]"), ('{"a":', "}")])
    container[key] = Raw(opening[0] * depth + write(container[key]) + opening[1] * depth)


def _long(rng, container, key, found, known):
    count = rng.choice([100, 1_001, 5_000, 20_000])
    if isinstance(container[key], dict):
        container[key] = {f"{n}": 0 for n in range(count)}
    elif isinstance(container[key], list) and container[key] and rng.random() < 0.5:
        container[key] = Raw("[" + ",".join([write(container[key][0])[:200]] * min(count, 5_000)) + "]")
    else:
        container[key] = [0] * count


CHANGES = [_known, _boundary, _type, _string, _swap, _delete, _add, _rename, _repeat_key, _deep, _long]
WEIGHTS = [26, 26, 8, 6, 9, 9, 5, 4, 3, 2, 2]
