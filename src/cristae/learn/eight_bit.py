"""Networks of 8-bit integers, made after the training from what the values before each convolution range over.

Each convolution reads activations and weights rounded to 256 and 255 steps::

    before:  values ──────────────> convolution          after:  values ─ rounded ─> convolution
             weights ────────────────┘                           weights ─ rounded ───┘

OpenVINO does what is rounded on both sides with integers. Weights are rounded for each output channel by itself,
symmetrically; activations for a whole tensor, with 0 exact. Maps that are joined before a convolution share their
steps, so that they are joined as integers. A map that is pooled or enlarged by copying first is rounded before that.

References
----------
Jacob et al. 2018, CVPR, "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference",
section 2.1 and 3 (equation 1: value = scale × (step − zero)).
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np

Range = tuple[float, float]
"""Smallest and largest value."""

_CHANNEL_AXIS = {"Convolution": 0, "ConvolutionBackpropData": 1}
"""Axis of output channels in the weights of the operations that are done with 8 bits."""


def watch_ranges(graph: Any) -> Any:
    """Return an `openvino.Model` that answers with the smallest and the largest value before each convolution.

    Parameters
    ----------
    graph
        `openvino.Model`; it is used up.

    Returns
    -------
    openvino.Model
        Two scalars for each tensor that `make_eight_bit` rounds, in its order.
    """
    openvino, opset = importlib.import_module("openvino"), importlib.import_module("openvino.opset13")
    outputs = []
    for place in _Places(graph).tensors:
        axes = np.arange(len(place.get_partial_shape()), dtype=np.int64)
        outputs += [opset.reduce_min(place, axes).output(0), opset.reduce_max(place, axes).output(0)]
    return openvino.Model(outputs, graph.get_parameters())


def make_eight_bit(graph: Any, ranges: Sequence[Range]) -> None:
    """Round what convolutions read to 8 bits, in place.

    Parameters
    ----------
    graph
        `openvino.Model` of the same network as the ranges.
    ranges
        One for each tensor, as the graph of `watch_ranges` found them.
    """
    opset = importlib.import_module("openvino.opset13")
    places = _Places(graph)
    for place, seen in zip(places.tensors, places.shared(ranges), strict=True):
        readers = list(place.get_target_inputs())
        low, high = (np.float32(value) for value in with_zero(*seen))
        rounded = opset.fake_quantize(place, low, high, low, high, 256).output(0)
        for reader in readers:
            reader.replace_source_output(rounded)
    for operation in places.convolutions:
        weights = operation.input_value(1)
        values = np.asarray(weights.get_node().get_data(), np.float32)
        kept = _CHANNEL_AXIS[operation.get_type_name()]
        others = tuple(axis for axis in range(values.ndim) if axis != kept)
        top = np.abs(values).max(axis=others, keepdims=True)
        top[top == 0] = 1
        rounded = opset.fake_quantize(weights, -top, top, -top, top, 255).output(0)
        operation.input(1).replace_source_output(rounded)


def with_zero(low: float, high: float) -> Range:
    """Return the smallest range around `low`, `high` and 0 of which 0 is one of 256 steps, 255 of equal length."""
    low, high = min(low, 0.0), max(high, 0.0)
    if low == high:
        return 0.0, 1.0
    if low == 0 or high == 0:
        return low, high
    zero = min(max(round(-low * 255 / (high - low)), 1), 254)
    step = max(-low / zero, high / (255 - zero))
    return -step * zero, step * (255 - zero)


class _Places:
    """Where a graph is to be rounded.

    Attributes
    ----------
    convolutions
        Operations whose weights are constants.
    tensors
        Outputs of operations to be rounded, each once, in the order of the graph.
    """

    def __init__(self, graph: Any) -> None:
        passes = importlib.import_module("openvino.passes")
        manager = passes.Manager()
        manager.register_pass(passes.ConstantFolding())  # weights that are computed from constants
        manager.run_passes(graph)
        self.convolutions = [
            operation
            for operation in graph.get_ordered_ops()
            if operation.get_type_name() in _CHANNEL_AXIS
            and operation.input_value(1).get_node().get_type_name() == "Constant"
        ]
        self._groups: list[list[int]] = []
        index: dict[tuple[str, int], int] = {}
        self.tensors: list[Any] = []
        for operation in self.convolutions:
            group = []
            for output in _origins(operation.input_value(0)):
                key = (output.get_node().get_name(), output.get_index())
                if key not in index:
                    index[key] = len(self.tensors)
                    self.tensors.append(output)
                group.append(index[key])
            self._groups.append(group)

    def shared(self, ranges: Sequence[Range]) -> list[Range]:
        """Return ranges where tensors that are joined before a convolution have one that holds them all."""
        result, changed = list(ranges), True
        while changed:
            changed = False
            for group in self._groups:
                whole = (min(result[i][0] for i in group), max(result[i][1] for i in group))
                for i in group:
                    changed |= result[i] != whole
                    result[i] = whole
        return result


def _origins(output: Any) -> list[Any]:
    """Return the tensors that `output` is merely an arrangement of."""
    operation = output.get_node()
    kind = operation.get_type_name()
    if kind == "Concat":
        return [one for i in range(operation.get_input_size()) for one in _origins(operation.input_value(i))]
    copied = kind == "Interpolate" and operation.get_attributes().get("mode") == "nearest"
    return _origins(operation.input_value(0)) if kind == "MaxPool" or copied else [output]
