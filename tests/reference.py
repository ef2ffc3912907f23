"""The oracle of the tests: the algorithms of the paper as slow, literal loops in NumPy with float64.

It is written from the description of the method (Imtiaz et al. 2023), not from the library. It computes one example,
one timestep, one gate and one node at a time. Nodes are removed by zeros in copies of the weights. If the description
leaves a choice, the following is checked:

- Nodes with d < 0 are removed, smallest d first, until removed / total >= cap. Equal d are in the order of layers, then
  of nodes.
- "All layers sorted together" means all layers with the same rule, the same gate and, if unrolled, the same T.
- At a masked timestep nothing changes, and nothing is removed: state and output are kept.
- The row of the next layer at the last step, in the authors' code, belongs to the last step that the layer reads. It is
  step 0 for a reversed layer.
"""

import math
from dataclasses import dataclass, field, replace

import numpy as np

GATE_NAMES = {"rnn": ["h"], "lstm": ["i", "f", "g", "o"], "gru": ["r", "z", "n"]}
CANDIDATES = {"h", "g", "n"}


# --- a network as plain arrays ------------------------------------------------------------------------------------


@dataclass
class Gate:
    """W (H, D), U (H, H) and the two biases (H,) of one gate."""

    W: np.ndarray
    U: np.ndarray
    b: np.ndarray
    b_recurrent: np.ndarray


@dataclass
class Layer:
    """One direction of a recurrent layer, or a dense layer (one "gate" named h, without U)."""

    name: str
    gates: dict[str, Gate]
    cell: object = None
    activation: str = "tanh"
    reverse: bool = False

    @property
    def units(self):
        return len(next(iter(self.gates.values())).b)

    @property
    def rectified(self):
        return self.activation == "relu"


@dataclass
class Stage:
    kind: str
    spec: object
    layers: list[Layer] = field(default_factory=list)
    table: np.ndarray | None = None


@dataclass
class Plain:
    stages: list[Stage]
    W: np.ndarray
    b: np.ndarray
    output: str

    @property
    def layers(self):
        """Return the layers of ``layers="recurrent"``: recurrent layers and dense layers after the first of them.

        Without a recurrent layer, they are all dense layers.
        """
        found = []
        alone = all(stage.kind != "recurrent" for stage in self.stages)
        for stage in self.stages:
            if stage.kind == "recurrent" or (stage.kind == "dense" and (found or alone)):
                found += stage.layers
        return found


def plain(network):
    """Copy the numbers of a Network of the library, gate by gate."""
    weights = {name: value.numpy().astype(np.float64) for name, value in network.weights().items()}
    stages = []
    for number, spec in enumerate(network.spec.stages):
        prefix = f"body.stages.{number}."
        stage = Stage(spec.type, spec)
        if spec.type == "embedding":
            stage.table = weights[prefix + "weight"]
        elif spec.type == "dense":
            gate = Gate(weights[prefix + "weight"], np.zeros((0, 0)), weights[prefix + "bias"], np.zeros(0))
            stage.layers = [Layer(spec.name, {"h": gate}, activation=spec.activation)]
        elif spec.type == "recurrent":
            names = [spec.name]
            if spec.bidirectional:
                names = [spec.name + ".forward", spec.name + ".backward"]
            for name, part, reverse in zip(
                names, ["forward", "backward"], [spec.reverse, not spec.reverse], strict=False
            ):
                gates = {}
                for g, gate_name in enumerate(GATE_NAMES[spec.cell.kind]):
                    rows = slice(g * spec.units, (g + 1) * spec.units)
                    own = prefix + part + "_layer."
                    gates[gate_name] = Gate(
                        weights[own + "weight_ih"][rows],
                        weights[own + "weight_hh"][rows],
                        weights[own + "bias_ih"][rows],
                        weights[own + "bias_hh"][rows],
                    )
                stage.layers.append(Layer(name, gates, spec.cell, spec.cell.activation, reverse))
        stages.append(stage)
    return Plain(stages, weights["head.weight"], weights["head.bias"], network.spec.output)


# --- forward ------------------------------------------------------------------------------------------------------


# Keras's definitions of its activations, by the names of this library.
SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772
ACTIVATIONS = {
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "relu": lambda x: np.maximum(x, 0),
    "linear": lambda x: x,
    "hard_sigmoid": lambda x: np.minimum(1, np.maximum(0, x / 6 + 0.5)),
    "hard_sigmoid_keras2": lambda x: np.minimum(1, np.maximum(0, 0.2 * x + 0.5)),
    "softmax": lambda x: np.exp(x) / np.exp(x).sum(),
    "log_softmax": lambda x: x - np.log(np.exp(x).sum()),
    "elu": lambda x: np.where(x > 0, x, np.exp(x) - 1),
    "selu": lambda x: SELU_SCALE * np.where(x > 0, x, SELU_ALPHA * (np.exp(x) - 1)),
    "gelu": lambda x: x * 0.5 * (1 + np.array([math.erf(value / math.sqrt(2)) for value in x])),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "mish": lambda x: x * np.tanh(np.log(1 + np.exp(x))),
    "softplus": lambda x: np.log(1 + np.exp(x)),
    "softsign": lambda x: x / (1 + np.abs(x)),
    "relu6": lambda x: np.minimum(6, np.maximum(x, 0)),
    "relu1": lambda x: np.minimum(1, np.maximum(x, 0)),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.2 * x),
    "leaky_relu_0.01": lambda x: np.where(x > 0, x, 0.01 * x),
    "leaky_relu_0.1": lambda x: np.where(x > 0, x, 0.1 * x),
    "leaky_relu_0.3": lambda x: np.where(x > 0, x, 0.3 * x),
    "hard_silu": lambda x: x * np.minimum(1, np.maximum(0, x / 6 + 0.5)),
    "hard_tanh": lambda x: np.minimum(1, np.maximum(-1, x)),
    "log_sigmoid": lambda x: -np.log(1 + np.exp(-x)),
    "exponential": np.exp,
}


def activate(name, x):
    return ACTIVATIONS[name](x)


def one_step(cell, gates, x, h, c):
    """Compute the next h and c, and the value of each gate."""

    def before(name):
        gate = gates[name]
        return gate.W @ x + gate.b + gate.U @ h + gate.b_recurrent

    if cell.kind == "rnn":
        h = activate(cell.activation, before("h"))
        return h, c, {"h": h}
    if cell.kind == "lstm":
        i = activate(cell.gate_activation, before("i"))
        f = activate(cell.gate_activation, before("f"))
        g = activate(cell.activation, before("g"))
        o = activate(cell.gate_activation, before("o"))
        c = f * c + i * g
        return o * activate(cell.activation, c), c, {"i": i, "f": f, "g": g, "o": o}
    r = activate(cell.gate_activation, before("r"))
    z = activate(cell.gate_activation, before("z"))
    own = gates["n"]
    if cell.reset_after:
        n = activate(cell.activation, own.W @ x + own.b + r * (own.U @ h + own.b_recurrent))
    else:
        n = activate(cell.activation, own.W @ x + own.b + own.U @ (r * h) + own.b_recurrent)
    return (1 - z) * n + z * h, c, {"r": r, "z": z, "n": n}


@dataclass
class Removed:
    """Removed nodes or gates of a module: layer -> booleans, True for removed; (H,), (G, H), (T, H) or (T, G, H)."""

    gone: dict[str, np.ndarray]
    unrolled: bool = False
    by_gates: bool = False
    release_edges: bool = False

    def gate_axis(self, layer):
        return self.by_gates and len(layer.gates) > 1

    def leaves_states(self, layer):
        """Whether only those edges of an unrolled node are removed that the authors' code removes."""
        return self.unrolled and self.release_edges and not self.gate_axis(layer)

    def at(self, layer, t):
        """Return the booleans of a layer at one timestep, (H,) or (G, H)."""
        mask = self.gone[layer.name]
        return mask[t] if mask.ndim == (3 if self.gate_axis(layer) else 2) else mask


@dataclass
class Signal:
    """Values (F,) or (T, F); which of these features exist, in the same shape; which timesteps count, (T,) or None."""

    values: np.ndarray
    present: np.ndarray
    valid: list[bool] | None = None


def weights_at(layer, t, removed, present):
    """Return the weights of a layer at a timestep, with zeros for removed nodes and gates."""
    gates = {n: Gate(g.W.copy(), g.U.copy(), g.b.copy(), g.b_recurrent.copy()) for n, g in layer.gates.items()}
    for gate in gates.values():
        for feature in range(len(present)):
            if not present[feature]:
                gate.W[:, feature] = 0  # the row of a node that the layer before has lost
    if removed is None:
        return gates
    mask = removed.at(layer, t)
    for g, gate in enumerate(gates.values()):
        for node in range(layer.units):
            if removed.gate_axis(layer):
                if mask[g][node]:
                    gate.W[node, :] = gate.U[node, :] = gate.b[node] = gate.b_recurrent[node] = 0
            elif mask[node]:
                gate.W[node, :] = gate.b[node] = 0
                if layer.cell is None:
                    continue
                gate.b_recurrent[node] = 0
                if removed.leaves_states(layer):
                    for other in range(layer.units):
                        if mask[other]:
                            gate.U[node, other] = 0
                else:
                    gate.U[node, :] = 0
                    gate.U[:, node] = 0
    return gates


def run_layer(layer, signal, removed=None, initial=None):
    """Run one direction of a layer over one example, step by step.

    Returns the outputs (T, H) in the order of the inputs, which of them exist, the state after the last step read,
    which nodes of the state exist, and the values of the gates by timestep (None for a step that does not count).
    """
    steps = len(signal.values)
    h = np.zeros(layer.units) if initial is None else initial[0]
    c = np.zeros(layer.units) if initial is None or len(initial) < 2 else initial[1]
    here = np.ones(layer.units, bool)
    outputs, present, gate_values = [None] * steps, [None] * steps, [None] * steps
    order = list(reversed(range(steps))) if layer.reverse else list(range(steps))
    for t in order:
        if signal.valid is None or signal.valid[t]:
            gates = weights_at(layer, t, removed, signal.present[t])
            h, c, gate_values[t] = one_step(layer.cell, gates, signal.values[t], h, c)
            if removed is not None and not removed.gate_axis(layer):
                gone = removed.at(layer, t)
                here = ~gone
                if removed.leaves_states(layer):
                    here = np.ones(layer.units, bool)
                elif removed.unrolled:
                    h, c = np.where(gone, 0, h), np.where(gone, 0, c)
        if t == order[-1] and removed is not None and removed.leaves_states(layer):
            here = ~removed.at(layer, t)
        outputs[t], present[t] = h, here
    return np.array(outputs), np.array(present), (h, c), here, gate_values


def run_dense(layer, values, present, removed, t):
    gate = weights_at(layer, t, removed, present)["h"]
    here = np.ones(layer.units, bool) if removed is None else ~removed.at(layer, t)
    return activate(layer.activation, gate.W @ values + gate.b), here


def merge(kind, parts):
    (a, a_here), (b, b_here) = parts
    if kind == "concat":
        return np.concatenate([a, b], -1), np.concatenate([a_here, b_here], -1)
    a, b = np.where(a_here, a, 0), np.where(b_here, b, 0)
    value = {"sum": a + b, "mul": a * b, "ave": (a + b) / 2}[kind]
    return value, np.ones(value.shape, bool)


def forward(net, x, removed=None):
    """Run the network, or with ``removed`` one module, on one example.

    Returns the scores of the output layer (C,) or (T, C), its inputs, and for each layer a list over timesteps of
    (value (H,), gates, whether it counts).
    """
    seen = {}
    signal = Signal(np.asarray(x, np.float64), np.ones(np.shape(x), bool))
    for stage in net.stages:
        signal = _stage(stage, signal, removed, seen, x)
    scores, many = [], signal.values.ndim == 2
    rows = signal.values if many else signal.values[None]
    here = signal.present if many else signal.present[None]
    features = np.where(here, rows, 0)  # the zeroed row of the output layer, seen from its other side
    for row in features:
        scores.append(net.W @ row + net.b)
    return (np.array(scores), features, seen) if many else (scores[0], features[0], seen)


def _stage(stage, signal, removed, seen, x):
    values, present, valid = signal.values, signal.present, signal.valid
    if stage.kind == "embedding":
        rows = np.array([stage.table[int(word)] for word in x])
        valid = [int(word) != 0 for word in x] if stage.spec.mask_zero else None
        return Signal(rows, np.ones(rows.shape, bool), valid)
    if stage.kind == "masking":
        valid = [bool(any(v != np.float32(stage.spec.value) for v in step)) for step in values]
        return Signal(np.array([s if ok else 0 * s for s, ok in zip(values, valid, strict=True)]), present, valid)
    if stage.kind == "flatten":
        return Signal(values.reshape(-1), present.reshape(-1))
    if stage.kind == "repeat":
        return Signal(np.array([values] * stage.spec.times), np.array([present] * stage.spec.times))
    if stage.kind == "activation":
        if values.ndim == 1:
            return Signal(activate(stage.spec.activation, values), present, valid)
        return Signal(np.array([activate(stage.spec.activation, v) for v in values]), present, valid)
    if stage.kind == "dense":
        (layer,) = stage.layers
        own = removed if removed is not None and layer.name in removed.gone else None  # others are whole
        if values.ndim == 1:
            # behind a layer without sequences: its one step
            one = replace_steps(own, layer)
            value, here = run_dense(layer, values, present, one, 0)
            seen[layer.name] = [(value, {"h": value}, True)]
            return Signal(value, here)
        done = [run_dense(layer, values[t], present[t], own, t) for t in range(len(values))]
        seen[layer.name] = [(v, {"h": v}, valid is None or valid[t]) for t, (v, _) in enumerate(done)]
        return Signal(np.array([v for v, _ in done]), np.array([h for _, h in done]), valid)
    assert stage.kind == "recurrent"
    parts = []
    for layer in stage.layers:
        outputs, exist, (h, _), here, gates = run_layer(layer, signal, removed)
        seen[layer.name] = [(outputs[t], gates[t], gates[t] is not None) for t in range(len(outputs))]
        parts.append((outputs, exist) if stage.spec.sequences else (h, here))
    if len(parts) == 2:
        value, here = merge(stage.spec.merge, parts)
        if stage.spec.sequences and valid is not None:  # as Keras has it: zero where no step counts
            value = np.array([v if ok else 0 * v for v, ok in zip(value, valid, strict=True)])
    else:
        value, here = parts[0]
        if stage.spec.reverse and stage.spec.sequences:  # as Keras has it: in the order of reading
            value, here = value[::-1], here[::-1]
    return Signal(value, here, valid if stage.spec.sequences else None)


def replace_steps(removed, layer):
    if removed is None or removed.gone[layer.name].ndim == 1:
        return removed
    return replace(removed, gone={layer.name: removed.gone[layer.name][-1]})


# --- statistics ---------------------------------------------------------------------------------------------------


def median(values):
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def central_tendency(values):
    size = [abs(v) for v in values]
    centre = median(size)
    mad = median([abs(v - centre) for v in size])
    inside = [v for v in size if mad == 0 or abs(v - centre) / mad < 2]
    return math.fsum(inside) / len(inside)


def active_rate(values):
    return sum(1 for v in values if v > 0) / len(values)


def open_rate(values):
    return sum(1 for v in values if v >= 0.5) / len(values)


def remove_logistic(positive, negative, cap, overrun):
    """Decide which nodes are removed: a list of booleans. A statistic of None means that nothing was observed."""
    total = len(positive)
    d = [None if p is None or n is None else p - n for p, n in zip(positive, negative, strict=True)]
    order = sorted((i for i in range(total) if d[i] is not None), key=lambda i: d[i])
    gone = [False] * total
    for i in order:
        if not d[i] < 0:
            break
        within = sum(gone) / total < cap
        if not within and (overrun is None or not d[order[0]] / d[i] < overrun):
            break
        gone[i] = True
    return gone


def remove_rectified_paper(positive, negative, cap):
    total = len(positive)
    gone = [False] * total
    for i in range(total):  # concern identification
        if positive[i] is not None and positive[i] == 0 and sum(gone) / total < cap:
            gone[i] = True
    for i in range(total):  # tangling identification
        if gone[i] and negative[i] is not None and negative[i] > 0:
            gone[i] = False
    return gone


def remove_rectified_release(positive, negative, cap):
    total = len(positive)
    d = [None if p is None or n is None else p - n for p, n in zip(positive, negative, strict=True)]
    gone = [False] * total
    for i in sorted((i for i in range(total) if d[i] is not None), key=lambda i: d[i]):
        if d[i] <= -0.5 and sum(gone) / total < cap:
            gone[i] = True
    return gone


# --- choosing examples --------------------------------------------------------------------------------------------


def sample_first(y, classes, m, padding=None):
    """Sample as the authors' code: class -> (rows of positives, rows of negatives), each a list per output timestep."""
    y = np.asarray(y)
    columns = y[:, None] if y.ndim == 1 else y
    modules = [j for j in range(classes) if j != padding]
    wanted = math.ceil(m / (len(modules) - 1))
    chosen = {}
    for j in modules:
        positives, negatives = [], []
        for t in range(columns.shape[1]):
            yes, no = [], []
            for row in range(len(columns)):
                label = columns[row, t]
                if label == j and len(yes) < m:
                    yes.append(row)
                if label not in (j, -1, padding) and len(no) < wanted:
                    no.append(row)
            positives.append(yes)
            negatives.append(no)
        chosen[j] = (positives, negatives)
    return chosen


# --- identification -----------------------------------------------------------------------------------------------


def identify(net, seen, chosen, config):
    """Compute the kept nodes of each class: class -> layer -> booleans.

    Args:
        net: plain network.
        seen: row -> third result of :func:`forward`.
        chosen: class -> (positive rows, negative rows), each a list per output timestep (one list for one output).
        config: settings of the library.
    """
    unrolled, each = config.mode == "unrolled", config.gates == "each"
    kept = {j: {} for j in chosen}
    judged = [(layer, gate) for layer in net.layers for gate in _viewed(layer, each)]
    gone = {}
    for j, (positive, negative) in chosen.items():
        pools = {}
        for layer, gate in judged:
            steps = _steps(seen, layer)
            rule = _rule(layer, gate, each)
            own = layer.name if config.scope == "layer" else None
            key = (rule, gate, steps if unrolled else None, own)
            pools.setdefault(key, []).append((layer, gate))
        for (rule, _, steps, _), members in pools.items():
            for t in range(steps) if unrolled else [None]:
                nodes = [(layer, gate, node) for layer, gate in members for node in range(layer.units)]
                pos = [_statistic(rule, seen, positive, n, t, config) for n in nodes]
                neg = [_statistic(rule, seen, negative, n, t, config) for n in nodes]
                if rule != "active":
                    found = remove_logistic(pos, neg, config.max_removed, config.overrun)
                elif config.relu == "paper":
                    found = remove_rectified_paper(pos, neg, config.max_removed)
                else:
                    found = remove_rectified_release(pos, neg, config.max_removed)
                for (layer, gate, node), is_gone in zip(nodes, found, strict=True):
                    gone[j, layer.name, gate, node, t] = is_gone
    for j in chosen:
        for layer in net.layers:
            gates = _viewed(layer, each)
            times = range(_steps(seen, layer)) if unrolled else [None]
            mask = np.array(
                [[[not gone[j, layer.name, g, n, t] for n in range(layer.units)] for g in gates] for t in times]
            )
            if len(gates) == 1:
                mask = mask[:, 0]
            one_step_dense = layer.cell is None and mask.shape[0] == 1
            kept[j][layer.name] = mask[0] if not unrolled or one_step_dense else mask
    return kept


def _steps(seen, layer):
    first = seen[0] if isinstance(seen, list) else next(iter(seen.values()))
    return len(first[layer.name])


def _viewed(layer, each):
    return list(layer.gates) if each else ["h"]


def _rule(layer, gate, each):
    if each and layer.cell is not None and gate not in CANDIDATES:
        return "open"
    return "active" if layer.rectified else "tendency"


def _statistic(rule, seen, rows, node, t, config):
    values = _observed(seen, rows, node, t, config)
    if not values:
        return None
    return {"tendency": central_tendency, "active": active_rate, "open": open_rate}[rule](values)


def _observed(seen, rows, node, t, config):
    """Collect the values of one node (of one gate) that count, at timestep t, or at all timesteps for None."""
    layer, gate, n = node
    each = config.gates == "each"
    steps = _steps(seen, layer)
    if t is not None:
        times = [t]
    elif len(rows) == 1 and config.observed == "last":
        times = [steps - 1]
    else:
        times = range(steps)
    values = []
    for s in times:
        for row in rows[s if len(rows) > 1 else 0]:
            hidden, gates, counts = seen[row][layer.name][s]
            if counts:
                values.append(gates[gate][n] if each else hidden[n])
    return values


# --- modules and votes --------------------------------------------------------------------------------------------


def channel(net, j, head="mean", padding=None, idle=False):
    """Return the output columns of a module: (weights, biases), the dominant column first; idle columns are 0."""
    if net.output == "sigmoid":
        if len(net.b) == 1:
            sign = 1 if j == 1 else -1
            return [sign * net.W[0]], [sign * net.b[0]]
        return [net.W[j]], [net.b[j]]
    others = [c for c in range(len(net.b)) if c != j]
    if head == "softmax":
        return [net.W[c] for c in [j, *others]], [net.b[c] for c in [j, *others]]
    others = [c for c in others if c != padding]
    weight = sum(net.W[c] for c in others) / len(others)
    bias = sum(net.b[c] for c in others) / len(others)
    extra = len(others) - 1 if idle else 0
    return [net.W[j], weight] + [0 * weight] * extra, [net.b[j], bias] + [0.0] * extra


def dominant_probability(head, features):
    """Compute the probability of the dominant column: a softmax over the columns, or a sigmoid for one column."""
    weights, biases = head
    if features.ndim == 2:
        return np.array([dominant_probability(head, f) for f in features])
    scores = [float(w @ features + b) for w, b in zip(weights, biases, strict=True)]
    if len(scores) == 1:
        return 1 / (1 + math.exp(-scores[0]))
    return math.exp(scores[0] - max(scores)) / sum(math.exp(s - max(scores)) for s in scores)


def run_module(net, j, x, removed, **channeling):
    """Compute P(dominant) of one module for one example, a number or (T,)."""
    _, features, _ = forward(net, x, removed)
    return dominant_probability(channel(net, j, **channeling), features)


def class_ratio(counts, total, own, words):
    """Mean over the words of log P(word | class) - log P(word). A class has ten more words, spread as in all texts.

    Args:
        counts: word -> number of occurrences in all texts.
        total: number of all words.
        own: word -> number of occurrences in texts of the class.
        words: the words of the text.
    """
    in_class = 0
    for word in own:
        in_class += own[word]
    log, number = 0.0, 0
    for word in words:
        everywhere = (counts.get(word, 0) + 0.5) / (total + 0.5 * (len(counts) + 1))
        in_this = (own.get(word, 0) + 10 * everywhere) / (in_class + 10)
        log += math.log(in_this) - math.log(everywhere)
        number += 1
    return log / number if number else 0.0


def unigram(counts, total, others, words):
    """Log density of one text under the word counts of a parent, add-half over the words of all parents.

    Args:
        counts: word -> number of occurrences, of this parent.
        total: number of all words of this parent.
        others: list of the word counts of all parents.
        words: the words of the text.
    """
    union = set()
    for each in others:
        for word in each:
            union.add(word)
    rest = total
    for word in counts:
        rest -= counts[word]
    whole = 0.0
    for word in union:
        whole += counts.get(word, 0) + 0.5
    whole += rest + 0.5
    log = 0.0
    for word in words:
        found = counts.get(word, 0) if word in union else rest
        log += math.log((found + 0.5) / whole)
    return log


def vote_with_domain(margins, logs, parents):
    """Winner of one input: log P(class | x, parent) + log P(x | parent); classes of one parent compare margins.

    Args:
        margins: one number for each module.
        logs: log density of the input for each parent, divided by the temperature.
        parents: number of the parent of each module.
    """
    best = {}
    for place, parent in enumerate(parents):
        if parent not in best or margins[place] > margins[best[parent]]:
            best[parent] = place
    winner, highest = None, -math.inf
    for parent, place in best.items():
        score = -math.log1p(math.exp(-margins[place])) if margins[place] > -700 else margins[place]
        score += logs[parent]
        if winner is None or score > highest:
            winner, highest = place, score
    return winner, highest


def vote(probabilities):
    """Return the index of the largest probability; the first one of equal values."""
    best = 0
    for k in range(len(probabilities)):
        if probabilities[k] > probabilities[best]:
            best = k
    return best


# --- encoder-decoder ----------------------------------------------------------------------------------------------


@dataclass
class Translator:
    """Two stacks of layers with their embeddings; nodes of the layers ``taken`` can be removed."""

    source: np.ndarray
    masked: bool
    encoder: list[Layer]
    target: np.ndarray
    decoder: list[Layer]
    taken: list[Layer]
    W: np.ndarray
    b: np.ndarray

    @property
    def layers(self):
        return self.taken


def plain_translator(network):
    """Copy the numbers of an encoder-decoder Network of the library, gate by gate."""
    weights = {name: value.numpy().astype(np.float64) for name, value in network.weights().items()}
    sides = {}
    for side, specs in (("encoder", network.spec.encoder), ("decoder", network.spec.decoder)):
        sides[side] = []
        for number, spec in enumerate(specs):
            own = f"body.{side}.{number}."
            gates = {}
            for g, gate_name in enumerate(GATE_NAMES[spec.cell.kind]):
                rows = slice(g * spec.units, (g + 1) * spec.units)
                gates[gate_name] = Gate(
                    weights[own + "weight_ih"][rows],
                    weights[own + "weight_hh"][rows],
                    weights[own + "bias_ih"][rows],
                    weights[own + "bias_hh"][rows],
                )
            sides[side].append(Layer(spec.name, gates, spec.cell, spec.cell.activation, spec.reverse))
    taken = [*(sides["encoder"] if network.spec.encoder_too else []), *sides["decoder"]]
    return Translator(
        weights["body.source.weight"],
        network.spec.source.mask_zero,
        sides["encoder"],
        weights["body.target.weight"],
        sides["decoder"],
        taken,
        weights["head.weight"],
        weights["head.bias"],
    )


def teach(net, source, target, removed=None):
    """Run one sentence pair with teacher forcing, up to the first padding.

    Returns the scores (T, V) of its words, and for each layer a list over all timesteps of (value (H,), gates, whether
    it counts). Padding never counts.
    """
    seen = {}
    taken = {layer.name for layer in net.taken}
    rows = np.array([net.source[word] for word in source])
    signal = Signal(rows, np.ones(rows.shape, bool), [word != 0 for word in source] if net.masked else None)
    states = []
    for layer in net.encoder:
        own = removed if layer.name in taken else None
        outputs, here, state, left, gates = run_layer(layer, signal, own)
        seen[layer.name] = [(outputs[t], gates[t], bool(source[t] != 0)) for t in range(len(source))]
        states.append([np.where(left, part, 0) for part in state])
        signal = Signal(outputs, here, signal.valid)
    words = [word for word in target if word != 0]
    rows = np.array([net.target[word] for word in words])
    signal = Signal(rows, np.ones(rows.shape, bool))
    for layer, state in zip(net.decoder, states, strict=True):
        outputs, here, _, _, gates = run_layer(layer, signal, removed, state)
        nothing = [(np.full(layer.units, np.nan), None, False)] * (len(target) - len(words))
        seen[layer.name] = [(outputs[t], gates[t], True) for t in range(len(words))] + nothing
        signal = Signal(outputs, here)
    features = np.where(signal.present, signal.values, 0)
    return np.array([net.W @ row + net.b for row in features]), seen


def say(net, source, start, banned, ends, longest, removed=None):
    """Decode greedily; the whole prefix is computed again for each word."""
    words = []
    for _ in range(longest):
        scores, _ = teach(net, source, [start, *words], removed)
        best = None
        for word in range(len(net.b)):
            if word not in banned and (best is None or scores[-1][word] > scores[-1][best]):
                best = word
        if best in ends:
            break
        words.append(best)
    return words
