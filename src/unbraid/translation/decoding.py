"""Saying a translation word by word: greedily or with a beam, many sentences at once, the state carried along.

Shapes: N sentences, S source words, B hypotheses a sentence, R words that can be said.
"""

from __future__ import annotations

import torch
from torch import Tensor

from unbraid.errors import ConfigError
from unbraid.networks.encoder_decoder import States
from unbraid.translation.language_model import Voice

LONGEST = 50  # words of a translation, where nothing else limits it
Sentences = list[list[int]]  # target indices of each sentence, tags left out


def decode(voice: Voice, source: Tensor, longest: int | None = None, beam: int = 1) -> Sentences:
    """Translate.

    Args:
        voice: who speaks.
        source: word indices (N, S), padded with 0.
        longest: most words of a translation, at least 1.
        beam: hypotheses a sentence; 1 takes the likeliest word at each step.

    Returns:
        the words of each translation.

    Raises:
        ConfigError: ``beam`` or ``longest`` below 1.
    """
    steps = LONGEST if longest is None else longest
    if beam < 1 or steps < 1:
        raise ConfigError(f"beam={beam} and longest={steps}: expected whole numbers from 1 on.")
    if voice.longest is not None:
        steps = min(steps, voice.longest)
    with torch.inference_mode():
        states = voice.body.encode(source)
        return _greedy(voice, states, steps) if beam == 1 else _beam(voice, states, steps, beam)


def _greedy(voice: Voice, states: States, steps: int) -> Sentences:
    count = len(states[0][0])
    said: Sentences = [[] for _ in range(count)]
    active = torch.arange(count, device=voice.words.device)
    token = torch.full_like(active, voice.tag.start)
    for position in range(steps):
        scores, states = voice.scores(token, states, position)
        token = voice.words[scores.argmax(-1)]
        going = ~torch.isin(token, voice.ends)
        if not going.all():  # what is finished is not computed any more
            active, token, states = active[going], token[going], _rows(states, going)
        if len(active) == 0:
            break
        for row, word in zip(active.tolist(), token.tolist(), strict=True):
            said[row].append(word)
    return said


def _beam(voice: Voice, states: States, steps: int, beam: int) -> Sentences:
    """The hypothesis of the highest mean log-probability a word, its last token included."""
    count, device = len(states[0][0]), voice.words.device
    states = _rows(states, torch.arange(count, device=device).repeat_interleave(beam))
    token = torch.full((count * beam,), voice.tag.start, device=device)
    total = torch.full((count, beam), -torch.inf, device=device)
    total[:, 0] = 0  # all hypotheses are one at first
    history = torch.zeros(count, beam, 0, dtype=torch.long, device=device)
    best = torch.full((count,), -torch.inf, device=device)
    found: Sentences = [[] for _ in range(count)]
    base = torch.arange(count, device=device).unsqueeze(1) * beam
    for position in range(steps):
        scores, states = voice.scores(token, states, position)
        sums = (total.view(-1, 1) + torch.log_softmax(scores, -1)).view(count, -1)
        total, at = sums.topk(min(2 * beam, sums.shape[1]), dim=1)  # enough, even if half of them end
        parent, word = at // len(voice.words), voice.words[at % len(voice.words)]
        ended = torch.isin(word, voice.ends)
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
        if (total[:, 0] / steps <= best).all():  # no hypothesis can get better than this any more
            break
    return found


def _rows(states: States, rows: Tensor) -> States:
    return tuple(tuple(part[rows] for part in state) for state in states)
