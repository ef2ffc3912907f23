"""Decode translations word by word, with a greedy or a beam search, for many sentences at once.

Shapes: N sentences, S source words, B hypotheses per sentence, R words of the output layer.
"""

from __future__ import annotations

import torch
from torch import Tensor

from unbraid.errors import ConfigError
from unbraid.networks.encoder_decoder import States
from unbraid.translation.language_model import LanguageModel

LONGEST = 50  # most words of a translation by default
Sentences = list[list[int]]  # target indices of each sentence, without tags


def decode(model: LanguageModel, source: Tensor, longest: int | None = None, beam: int = 1) -> Sentences:
    """Translate sentences.

    Args:
        model: the language model.
        source: word indices (N, S), padded with 0.
        longest: largest number of words of a translation, at least 1; 50 by default.
        beam: number of hypotheses per sentence, at least 1; 1 is greedy decoding.

    Returns:
        the target indices of each translation.

    Raises:
        ConfigError: ``beam`` or ``longest`` below 1.
    """
    steps = LONGEST if longest is None else longest
    if beam < 1 or steps < 1:
        raise ConfigError(f"beam={beam} and longest={steps}: expected integers of at least 1.")
    if model.longest is not None:
        steps = min(steps, model.longest)
    with torch.inference_mode():
        states = model.body.encode(source)
        return _greedy(model, states, steps) if beam == 1 else _beam(model, states, steps, beam)


def _greedy(model: LanguageModel, states: States, steps: int) -> Sentences:
    count = len(states[0][0])
    found: Sentences = [[] for _ in range(count)]
    active = torch.arange(count, device=model.words.device)
    token = torch.full_like(active, model.tag.start)
    for position in range(steps):
        scores, states = model.scores(token, states, position)
        token = model.words[scores.argmax(-1)]
        going = ~torch.isin(token, model.ends)
        if not going.all():  # finished sentences are not computed further
            active, token, states = active[going], token[going], _rows(states, going)
        if len(active) == 0:
            break
        for row, word in zip(active.tolist(), token.tolist(), strict=True):
            found[row].append(word)
    return found


def _beam(model: LanguageModel, states: States, steps: int, beam: int) -> Sentences:
    """Return the hypothesis with the highest mean log probability per word; the last token counts."""
    count, device = len(states[0][0]), model.words.device
    states = _rows(states, torch.arange(count, device=device).repeat_interleave(beam))
    token = torch.full((count * beam,), model.tag.start, device=device)
    total = torch.full((count, beam), -torch.inf, device=device)
    total[:, 0] = 0  # at first there is one hypothesis per sentence
    history = torch.zeros(count, beam, 0, dtype=torch.long, device=device)
    best = torch.full((count,), -torch.inf, device=device)
    found: Sentences = [[] for _ in range(count)]
    base = torch.arange(count, device=device).unsqueeze(1) * beam
    for position in range(steps):
        scores, states = model.scores(token, states, position)
        sums = (total.view(-1, 1) + torch.log_softmax(scores, -1)).view(count, -1)
        total, at = sums.topk(min(2 * beam, sums.shape[1]), dim=1)  # enough, even if half of them end
        parent, word = at // len(model.words), model.words[at % len(model.words)]
        ended = torch.isin(word, model.ends)
        last = position + 1 == steps
        mean = (total / (position + 1)).masked_fill(~(ended | last), -torch.inf)
        top, place = mean.max(1)
        for row in torch.nonzero(top > best).flatten().tolist():
            k = int(place[row])
            own = history[row, parent[row, k]].tolist()
            found[row] = own if ended[row, k] else [*own, int(word[row, k])]
        best = torch.maximum(best, top)
        total, order = total.masked_fill(ended, -torch.inf).topk(beam, dim=1)
        parent, word = parent.gather(1, order), word.gather(1, order)
        history = torch.cat([history.gather(1, parent.unsqueeze(-1).expand(-1, -1, position)), word.unsqueeze(-1)], -1)
        token, states = word.flatten(), _rows(states, (base + parent).flatten())
        if (total[:, 0] / steps <= best).all():  # no hypothesis can become better than this
            break
    return found


def _rows(states: States, rows: Tensor) -> States:
    return tuple(tuple(part[rows] for part in state) for state in states)
