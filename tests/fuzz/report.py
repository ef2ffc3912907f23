"""The table of outcomes, and the findings, equal ones merged."""

from tests.fuzz.outcomes import ALL

SHOWN = 3  # inputs that are named for a finding


def summary(seed, outcomes):
    """All of a run as plain values, the same for the same inputs in any order."""
    outcomes = sorted(outcomes, key=lambda o: o.index)
    readers = {}
    for outcome in outcomes:
        counts = readers.setdefault(outcome.kind, dict.fromkeys(ALL, 0))
        counts[outcome.outcome] += 1
    return {
        "seed": seed,
        "inputs": len(outcomes),
        "readers": dict(sorted(readers.items())),
        "findings": merged(outcomes),
    }


def merged(outcomes):
    """Findings by outcome, type and frame, the most frequent first."""
    found = {}
    for o in outcomes:
        if o.is_finding:
            entry = found.setdefault((o.outcome, o.what, o.where), {"count": 0, "inputs": [], "message": o.message})
            entry["count"] += 1
            entry["inputs"] = [*entry["inputs"], o.index][:SHOWN]
    keys = ("outcome", "what", "where")
    listed = [{**dict(zip(keys, key, strict=True)), **entry} for key, entry in found.items()]
    return sorted(listed, key=lambda f: (-f["count"], f["inputs"]))


def text(found):
    """The same for people."""
    names = [name for name in ALL if any(counts[name] for counts in found["readers"].values())]
    width = max(len(reader) for reader in found["readers"])
    lines = ["  ".join([" " * width, *names])]
    for reader, counts in found["readers"].items():
        lines.append("  ".join([reader.ljust(width), *(str(counts[name]).rjust(len(name)) for name in names)]))
    lines.append(f"{found['inputs']} inputs of seed {found['seed']}, {len(found['findings'])} different findings")
    for f in found["findings"]:
        lines.append(f"{f['count']:5} {f['outcome']}: {f['what']} in {f['where'] or '-'}: {f['message'][:90]!r}")
        lines.append(f'      make fuzz ARGS="--seed {found["seed"]} --only {f["inputs"][0]}"')
    return "\n".join(lines)
