"""Networks of 8-bit integers, made after the training from what the values before each convolution range over.

Each convolution reads activations and weights rounded to at most 256 steps::

    before:  values ─────────────> convolution      after:  values / s ─ rounded ─> convolution
             weights ───────────────┘                       weights × s ─ rounded ───┘

What is rounded on both sides OpenVINO does with integers. Maps before a convolution may differ a hundredfold, most of
all where a skip is joined, so that one step for all would erase the small ones: each map is divided by its own largest
value s, and the weights that read it are multiplied by that. Weights have one step for each output channel. 0 is exact
on both sides. Where maps are joined, pooled or enlarged by copying for convolutions alone, they are rounded before
that. Convolutions of 1×1, as shortcuts and heads are, stay in float32: they do the least work for each value that would
be rounded, and nothing comes after a head to even out its rounding.

References
----------
Jacob et al. 2018, CVPR, "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference",
section 2.1 (equation 1: value = scale × (step − zero)) and 3. Nagel et al. 2019, ICCV, "Data-Free Quantization Through
Weight Equalization and Bias Correction", section 4.1, for moving scales of channels from activations to weights.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np

Range = list[list[float]]
"""Smallest and largest value of each map of one tensor: two lists."""

_OUTPUT_AXIS = {"Convolution": 0, "ConvolutionBackpropData": 1}
"""Axis of output channels in the weights of the operations that are done with 8 bits; input channels are the other."""
_MAPS_AXIS = 1


def watch_ranges(graph: Any) -> Any:
    """Return an `openvino.Model` that answers with smallest and largest values before each convolution.

    Parameters
    ----------
    graph
        `openvino.Model` for inputs of a fixed shape; it is used up.

    Returns
    -------
    openvino.Model
        Two arrays ``(maps,)`` for each tensor that `make_eight_bit` rounds, in its order.
    """
    openvino, opset = importlib.import_module("openvino"), importlib.import_module("openvino.opset13")
    outputs = []
    for tensor in _Places(graph).tensors:
        axes = np.array([i for i in range(len(tensor.get_partial_shape())) if i != _MAPS_AXIS], np.int64)
        outputs += [opset.reduce_min(tensor, axes).output(0), opset.reduce_max(tensor, axes).output(0)]
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
    scales = [scale_of(one) for one in ranges]
    signed = places.joined([min(low) < 0 for low, _ in ranges])
    for tensor, readers, scale, has_sign in zip(places.tensors, places.readers, scales, signed, strict=True):
        # 256 steps of which 0 is one: from 0 to 1, or from -128 to 127 of 127.
        low, high = np.float32(-128 / 127 if has_sign else 0), np.float32(1)
        shape = [1] * len(tensor.get_partial_shape())
        shape[_MAPS_AXIS] = -1
        wide = scale.reshape(shape)
        rounded = opset.fake_quantize(tensor, low * wide, high * wide, low, high, 256).output(0)
        for reader in readers:
            reader.replace_source_output(rounded)
    for operation, read in zip(places.convolutions, places.read, strict=True):
        output_axis = _OUTPUT_AXIS[operation.get_type_name()]
        weights = np.asarray(operation.input_value(1).get_node().get_data(), np.float32)
        shape = [1] * weights.ndim
        shape[1 - output_axis] = -1
        weights = weights * np.concatenate([scales[i] for i in read]).reshape(shape)
        others = tuple(axis for axis in range(weights.ndim) if axis != output_axis)
        top = np.abs(weights).max(axis=others, keepdims=True)
        top[top == 0] = 1
        rounded = opset.fake_quantize(opset.constant(weights), -top, top, -top, top, 255).output(0)
        operation.input(1).replace_source_output(rounded)


def scale_of(seen: Range) -> np.ndarray:
    """Return what each map is divided by, float32 ``(maps,)``: its largest absolute value.

    Maps with next to nothing in them are divided by a hundredth of the largest of all: values that were not seen here
    but are elsewhere are not cut at once.
    """
    largest = np.abs(np.asarray(seen, np.float32)).max(0)
    scale: np.ndarray = np.maximum(largest, np.float32(0.01) * largest.max() or np.float32(1))
    return scale


class _Places:
    """Where a graph is to be rounded.

    Attributes
    ----------
    convolutions
        Operations whose weights are constants.
    read
        For each convolution, which tensors make up what it reads, in the order of its channels.
    tensors
        Outputs of operations to be rounded, each once, in the order of the graph.
    readers
        For each tensor, the inputs of operations that are given what is rounded; others keep what it was.
    """

    def __init__(self, graph: Any) -> None:
        passes = importlib.import_module("openvino.passes")
        manager = passes.Manager()
        manager.register_pass(passes.ConstantFolding())  # weights that are computed from constants
        manager.run_passes(graph)
        self.convolutions = [one for one in graph.get_ordered_ops() if _is_eight_bit(one)]
        self.tensors: list[Any] = []
        self.readers: list[list[Any]] = []
        self._index: dict[tuple[str, int], int] = {}
        self._seen: set[tuple[str, int]] = set()
        self.read = [self._trace(operation.input(0)) for operation in self.convolutions]

    def joined(self, signed: Sequence[bool]) -> list[bool]:
        """Return which tensors get steps below 0: those that have values there, and those joined with one."""
        result, changed = list(signed), True
        while changed:
            changed = False
            for group in self.read:
                if any(result[i] for i in group) and not all(result[i] for i in group):
                    changed = True
                    for i in group:
                        result[i] = True
        return result

    def _trace(self, reader: Any) -> list[int]:
        """Return the tensors that an input of an operation is merely an arrangement of."""
        output = reader.get_source_output()
        operation = output.get_node()
        if _arranges(operation) and _for_convolutions(output):
            n_inputs = operation.get_input_size() if operation.get_type_name() == "Concat" else 1
            return [one for i in range(n_inputs) for one in self._trace(operation.input(i))]
        key = (operation.get_name(), output.get_index())
        if key not in self._index:
            self._index[key] = len(self.tensors)
            self.tensors.append(output)
            self.readers.append([])
        edge = (reader.get_node().get_name(), reader.get_index())
        if edge not in self._seen:
            self._seen.add(edge)
            self.readers[self._index[key]].append(reader)
        return [self._index[key]]


def _is_eight_bit(operation: Any) -> bool:
    """Say whether an operation is to be done with 8 bits: a convolution of more than a pixel, by constant weights."""
    if operation.get_type_name() not in _OUTPUT_AXIS:
        return False
    weights = operation.input_value(1).get_node()
    return weights.get_type_name() == "Constant" and max(operation.input_value(1).get_shape()[2:]) > 1


def _arranges(operation: Any) -> bool:
    """Say whether an operation only joins maps, picks the largest of neighbours or copies pixels."""
    kind = operation.get_type_name()
    if kind == "Concat":
        return int(operation.get_attributes()["axis"]) == _MAPS_AXIS
    return kind == "MaxPool" or (kind == "Interpolate" and operation.get_attributes()["mode"] == "nearest")


def _for_convolutions(output: Any) -> bool:
    """Say whether nothing but convolutions reads an output, be it rearranged."""
    for reader in output.get_target_inputs():
        operation = reader.get_node()
        if _is_eight_bit(operation) and reader.get_index() == 0:
            continue
        if not (_arranges(operation) and all(_for_convolutions(one) for one in operation.outputs())):
            return False
    return True
