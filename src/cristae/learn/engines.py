"""Engines: what runs a trained network. PyTorch anywhere, or OpenVINO on CPUs, where it is faster.

An engine maps images to probabilities, and knows nothing of tiles or volumes. OpenVINO is an extra
(``pip install cristae[openvino]``) that is imported only when one of its engines is made. It takes over a network by
following it once on a small image. That goes wrong where a network does something else for another size, so what comes
out is compared with PyTorch at a second size before it is used::

    network ──follow at A──> graph ──> at size B: equal to PyTorch? ──> compiled once for each size asked for
                                        no: follow at each size anew
"""

from __future__ import annotations

import copy
import importlib
import math
import threading
import warnings
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from cristae.errors import ResourceError
from cristae.learn.eight_bit import Range, make_eight_bit, watch_ranges
from cristae.nets.pair import Pair

EngineName = Literal["auto", "torch", "openvino", "openvino-int8"]

Engine = Callable[[Tensor], Tensor]
"""Maps images ``(n, channels, y, x)``, float32, to probabilities ``(n, maps, y, x)``, float32, 0–1."""

AGREEMENT = 1 / 255
"""Largest difference of a probability from PyTorch's: what rounding to uint8 may make of it in any case."""
_USE_TORCH = "use --set predict.engine=torch"
_ABSENT = (
    "OpenVINO is not installed; install it with: pip install 'cristae[openvino]' (or use --set predict.engine=torch)"
)
_SIDE = 64
"""Networks are followed on images with sides of at least this."""


class Probabilities(nn.Module):
    """A network as engines run it: from images to probabilities.

    Parameters
    ----------
    network
        Gives logits.
    disagreement
        Whether a `cristae.nets.pair.Pair` also says how far its networks are apart, a map more for each class.
    """

    def __init__(self, network: nn.Module, disagreement: bool = False) -> None:
        super().__init__()
        self.network, self.disagreement = network, disagreement and isinstance(network, Pair)

    def forward(self, image: Tensor) -> Tensor:
        """Map ``(n, channels, y, x)`` to probabilities ``(n, maps, y, x)``, float32."""
        if self.disagreement:
            each: Tensor = self.network.probabilities(image)  # type: ignore[operator]
            return torch.cat((each.mean(0), each.amax(0) - each.amin(0)), dim=1)
        return torch.sigmoid(self.network(image).float())


class TorchEngine:
    """A network run by PyTorch.

    Parameters
    ----------
    network
        In evaluation mode; it is copied.
    device
        Where it is run; images have to be there.
    disagreement
        See `Probabilities`.
    """

    def __init__(self, network: nn.Module, device: torch.device, disagreement: bool = False) -> None:
        # Channels last is faster on CPUs, but only if weights and images both are.
        self._layout = torch.channels_last if device.type == "cpu" else torch.contiguous_format
        self.network = folded(network).to(memory_format=self._layout)  # type: ignore[call-overload]
        self._run, self.device = Probabilities(self.network, disagreement).eval(), device

    @torch.inference_mode()
    def __call__(self, image: Tensor) -> Tensor:
        """Return probabilities."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            found: Tensor = self._run(image.contiguous(memory_format=self._layout))
        return found


class OpenVinoEngine:
    """A network run by OpenVINO on the CPU, in float32 unless `eight_bit` is asked for. Threads may share it.

    Parameters
    ----------
    network
        On the CPU, in evaluation mode; it is copied.
    n_channels
        Of its input.
    disagreement
        See `Probabilities`.

    Raises
    ------
    ResourceError
        If OpenVINO is not installed, cannot take the network, or makes something else of it than PyTorch.
    """

    def __init__(self, network: nn.Module, n_channels: int, disagreement: bool = False) -> None:
        self._core = load_openvino().Core()
        self._run = Probabilities(_with_plain_norms(folded(network)), disagreement).eval()
        self._ranges: list[Range] | None = None
        self._begin()
        self._graph: Any = None
        self.difference = self._take_over(n_channels)
        """Largest difference of a float32 probability from PyTorch's."""

    def __call__(self, image: Tensor) -> Tensor:
        """Return probabilities."""
        shape = tuple(image.shape)
        with self._lock:
            if shape not in self._compiled:
                graph = self._graph_for(shape)
                if self._ranges is not None:
                    make_eight_bit(graph, self._ranges)
                self._compiled[shape] = self._compile(graph)
        # A compiled network is for all threads, a request for one.
        requests: dict[tuple[int, ...], Any] = self._own.__dict__.setdefault("requests", {})
        if shape not in requests:
            requests[shape] = self._compiled[shape].create_infer_request()
        return torch.from_numpy(requests[shape].infer([_array(image)], share_inputs=True)[0])

    def calibrate(self, images: Sequence[Tensor]) -> list[Range]:
        """Return the range of maps before each convolution: the mean over `images` of smallest and largest value.

        Parameters
        ----------
        images
            Tiles like those to be predicted, all of one shape.

        Returns
        -------
        list of Range
            For `eight_bit`.
        """
        graph = self._graph_for(tuple(images[0].shape))
        watched = self._compile(watch_ranges(graph))
        seen = [[value.ravel() for value in watched([_array(image)]).values()] for image in images]
        means = [np.mean(values, axis=0).tolist() for values in zip(*seen, strict=True)]
        return [[low, high] for low, high in zip(means[::2], means[1::2], strict=True)]

    def eight_bit(self, ranges: Sequence[Range]) -> OpenVinoEngine:
        """Return an engine for the same network whose convolutions are done with 8 bits; `ranges` from `calibrate`."""
        engine = copy.copy(self)
        engine._ranges = list(ranges)
        engine._begin()
        return engine

    def _begin(self) -> None:
        self._compiled: dict[tuple[int, ...], Any] = {}
        self._lock, self._own = threading.Lock(), threading.local()

    def _take_over(self, n_channels: int) -> float:
        """Follow the network, and return the largest difference of its probabilities from PyTorch's."""
        multiple = int(getattr(self._run.network, "multiple", 1))
        side = -(-_SIDE // multiple) * multiple
        largest = int(getattr(self._run.network, "largest", side + 2 * multiple))
        side = min(side, largest)
        # Drawn here and not by a global generator: nothing else may depend on the engine.
        shape = (1, n_channels, min(side + multiple, largest), min(side + 2 * multiple, largest))
        image = torch.from_numpy(np.random.default_rng(0).standard_normal(shape, np.float32))
        try:
            self._graph = self._follow((1, n_channels, side, side))
            try:
                found = self._difference(image)
            except RuntimeError:  # the size that it was followed with is part of it
                found = math.inf
            if not found <= AGREEMENT:  # it does something else for another size
                self._graph = None
                found = self._difference(image)
        except Exception as error:  # whatever a network of someone else runs into
            raise ResourceError(f"OpenVINO cannot run this network ({_line(error)}); {_USE_TORCH}") from error
        if not found <= AGREEMENT:
            raise ResourceError(f"OpenVINO's probabilities differ from PyTorch's by up to {found:.3g}; {_USE_TORCH}")
        return found

    def _difference(self, image: Tensor) -> float:
        """Return the largest difference from PyTorch on an image, both in float32."""
        graph = self._graph_for(tuple(image.shape))
        with torch.inference_mode():
            expected = self._run(image).numpy()
        found = self._compile(graph)([_array(image)])[0]
        return float(np.abs(found - expected).max())

    def _graph_for(self, shape: tuple[int, ...]) -> Any:
        """Return a graph of its own for images of one shape."""
        graph = self._follow(shape) if self._graph is None else self._graph.clone()
        graph.reshape(list(shape))
        return graph

    def _follow(self, shape: tuple[int, ...]) -> Any:
        """Return the graph of what the network does with an image of this shape."""
        # Not `openvino.convert_model`, which reports its use over the network where it can.
        frontend = importlib.import_module("openvino.frontend").FrontEndManager().load_by_framework("pytorch")
        decoder = importlib.import_module("openvino.frontend.pytorch.ts_decoder").TorchScriptPythonDecoder
        with torch.inference_mode(False), torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # following is deprecated in PyTorch, and warns of sizes; those are checked
            followed = decoder(self._run, example_input=torch.zeros(shape), trace_kwargs={"check_trace": False})
        return frontend.convert(frontend.load(followed))

    def _compile(self, graph: Any) -> Any:
        options = {
            "INFERENCE_PRECISION_HINT": "f32",  # else bfloat16 or float16 where the processor has them
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,  # two processes would be pinned to the same cores
        }
        return self._core.compile_model(graph, "CPU", options)


def resolve_engine(wish: EngineName, device: torch.device) -> EngineName:
    """Return the engine that a wish means on this machine.

    Parameters
    ----------
    wish
        ``auto`` is ``openvino`` where it is installed and the device is the CPU, else ``torch``.
    device
        Of the prediction.

    Raises
    ------
    ResourceError
        If OpenVINO is asked for and not installed, or for a device that it does not run on.
    """
    if wish == "auto":
        return "openvino" if device.type == "cpu" and openvino_version() else "torch"
    if wish != "torch":
        if not openvino_version():
            raise ResourceError(_ABSENT)
        if device.type != "cpu":
            raise ResourceError(f"{wish} runs on the CPU; add --set predict.device=cpu, or take predict.engine=torch")
    return wish


def describe_engine(name: EngineName) -> str:
    """Return an engine with its version, as manifests keep it."""
    return f"{name} {torch.__version__ if name == 'torch' else openvino_version()}"


def openvino_version() -> str:
    """Return the version of OpenVINO that is installed, or nothing."""
    try:
        return version("openvino")
    except PackageNotFoundError:
        return ""


def load_openvino() -> Any:
    """Import and return OpenVINO.

    Raises
    ------
    ResourceError
        If it is not installed.
    """
    try:
        return importlib.import_module("openvino")
    except ImportError as error:
        raise ResourceError(_ABSENT) from error


def folded(network: nn.Module) -> nn.Module:
    """Return a copy with every batch normalisation that follows a convolution worked into its weights.

    In evaluation mode both are linear maps; one pass over the features less each time. A network in training mode is
    refused (AssertionError), for its normalisation depends on the batch.
    """
    network = copy.deepcopy(network)
    for chain in (module for module in network.modules() if isinstance(module, nn.Sequential)):
        for i, (first, second) in enumerate(pairwise(chain)):
            if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                chain[i], chain[i + 1] = fuse_conv_bn_eval(first, second), nn.Identity()
    return network


class _GroupNorm(nn.Module):
    """What `torch.nn.GroupNorm` computes, in other words."""

    def __init__(self, norm: nn.GroupNorm) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(n, c, y, x)`` to the same shape."""
        n, c, y, x = features.shape
        groups = features.reshape(n, self.norm.num_groups, c // self.norm.num_groups, y, x)
        centred = groups - groups.mean((2, 3, 4), keepdim=True)
        scale = (centred.square().mean((2, 3, 4), keepdim=True) + self.norm.eps).rsqrt()
        normal = (centred * scale).reshape(n, c, y, x)
        if not self.norm.affine:
            return normal
        return normal * self.norm.weight[:, None, None] + self.norm.bias[:, None, None]


def _with_plain_norms(network: nn.Module) -> nn.Module:
    """Replace group normalisations in place.

    OpenVINO 2026.4 crashes on the sum of two that have different numbers of groups, as TransUNet's encoder has them.
    """
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.GroupNorm):
                setattr(module, name, _GroupNorm(child))
    return network


def _array(image: Tensor) -> np.ndarray:
    return np.ascontiguousarray(image.numpy(), np.float32)


def _line(error: Exception) -> str:
    """Return the first line of a message that may be pages long."""
    lines = [line.strip() for line in str(error.__cause__ or error).splitlines() if line.strip()]
    return lines[0][:200] if lines else type(error).__name__
