"""The table of all kinds of graph layers that have no hidden units to remove: class in Keras -> kind."""

from __future__ import annotations

from unbraid.networks.graph.adapter import ADAPTED
from unbraid.networks.graph.attention import ATTENTION
from unbraid.networks.graph.convolution import CONVOLUTION
from unbraid.networks.graph.elementwise import ELEMENTWISE
from unbraid.networks.graph.kind import Kind
from unbraid.networks.graph.merging import MERGING
from unbraid.networks.graph.operations import OPERATIONS
from unbraid.networks.graph.own import OWN, OWN_KIND
from unbraid.networks.graph.recurrence import CONVOLUTIONAL

KINDS: dict[str, Kind] = {
    **ADAPTED,
    **ELEMENTWISE,
    **CONVOLUTION,
    **MERGING,
    **ATTENTION,
    **CONVOLUTIONAL,
    **OPERATIONS,
    OWN: OWN_KIND,
}
