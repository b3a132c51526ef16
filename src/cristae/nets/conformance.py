"""What every network has to keep to, for tests of those of cristae and those of others.

>>> from cristae.nets.conformance import check_network
>>> from cristae.nets.resunet import build_resunet
>>> check_network(build_resunet)
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import cast

import torch
from torch import Generator, Tensor, nn

from cristae.nets.contract import Build, Constructor, OwnHeads, OwnOutputs
from cristae.nets.losses import loss_of

_LEAST = 64
"""Inputs have sides of at least this, so that the deepest features of no network are a single pixel."""


def check_network(constructor: Constructor, size: str = "small") -> None:
    """Assert that a network keeps to what cristae asks of it (`cristae.nets.contract.Network`).

    It is built with one channel and one class, and with three and five. It has to take inputs of several sizes, return
    finite logits of their size, the same for an image whatever else is in the batch and whatever was asked before, give
    every parameter a gradient, be the same again from the same seed and from its saved weights, and leave its input as
    it is. The loss, of its own or of outputs of its own, has to be a finite number that no ignored pixel changes. If it
    says itself how a class begins anew, all that it draws has to come from the generator that it is given.

    Parameters
    ----------
    constructor
        What the entry point names.
    size
        ``small`` or ``full``.

    Raises
    ------
    AssertionError
        At the first promise that is broken; the message names it.
    """
    for n_channels, n_classes in ((1, 1), (3, 5)):
        torch.manual_seed(1)
        build = Build(n_channels, n_classes, "full" if size == "full" else "small", tile_px=_LEAST)
        network = constructor(build)
        multiple = getattr(network, "multiple", None)
        assert isinstance(multiple, int), f"expected `multiple` to be a whole number, got {multiple!r}"
        assert multiple >= 1, f"expected `multiple` to be at least 1, got {multiple}"
        side = -(-_LEAST // multiple) * multiple
        _check_same_again(constructor, build, network)
        _check_training(network, build, side)
        _check_answers(network, build, (side, side + multiple), f"{n_channels} channels, {n_classes} classes")
        if isinstance(network, OwnHeads):
            _check_anew(network, n_classes - 1)


def _check_same_again(constructor: Constructor, build: Build, network: nn.Module) -> None:
    torch.manual_seed(1)
    again = constructor(build).state_dict()
    for name, value in network.state_dict().items():
        assert torch.equal(again[name], value), f"the same seed gave other weights in {name}"
    places = [value.data_ptr() for value in again.values() if value.numel()]
    assert len(set(places)) == len(places), "two entries of state_dict share their memory: it cannot be saved"


def _check_training(network: nn.Module, build: Build, side: int) -> None:
    """Check shapes and gradients in training mode, and the loss where it is the network's own."""
    network.train()
    image = torch.rand(2, build.n_channels, side, side)
    target = (torch.rand(2, build.n_classes, side, side) > 0.6).float()
    if isinstance(network, OwnOutputs):
        whole = hasattr(network, "loss") or hasattr(network, "combined")
        assert whole, "it has `outputs`, but neither `loss` nor `combined`"
        outputs = network.outputs(image)
        _check_loss(network, outputs, target)
    else:
        outputs = {"logits": network(image)}
        found, expected = tuple(outputs["logits"].shape), tuple(target.shape)
        assert found == expected, f"expected logits {expected}, got {found}"
    loss_of(network, outputs, target, torch.ones_like(target), 1.0).backward()  # type: ignore[no-untyped-call]
    for name, value in network.named_parameters():
        assert value.grad is not None, f"parameter {name} has no gradient: it is not used"
        assert torch.isfinite(value.grad).all(), f"the gradient of {name} is not finite"
    network.zero_grad(set_to_none=True)


def _check_loss(network: nn.Module, outputs: Mapping[str, Tensor], target: Tensor) -> None:
    """Check that the loss is a number, and that it leaves out what nobody looked at."""
    assert "logits" in outputs, f"expected `logits` among the outputs, got {', '.join(outputs)}"
    fixed = {name: value.detach() for name, value in outputs.items()}
    seen = torch.ones_like(target)
    seen[..., : target.shape[-1] // 3] = 0
    other = torch.where(seen > 0, target, 1 - target)
    loss = loss_of(network, fixed, target, seen, 1.0)
    assert loss.ndim == 0, f"expected the loss to be one number, got shape {tuple(loss.shape)}"
    assert torch.isfinite(loss), f"expected a finite loss, got {float(loss)}"
    assert torch.equal(loss, loss_of(network, fixed, other, seen, 1.0)), "ignored pixels change the loss"
    for name, value in (("all pixels are ignored", 0 * seen), ("no pixel is ignored", torch.ones_like(seen))):
        for truth in (torch.zeros_like(target), torch.ones_like(target), target):
            loss = loss_of(network, fixed, truth, value, 1.0)
            assert torch.isfinite(loss), f"the loss is not finite where {name}"


@torch.no_grad()
def _check_answers(network: nn.Module, build: Build, sides: tuple[int, int], what: str) -> None:
    """Check the logits in evaluation mode."""
    network.eval()
    image = torch.randn(2, build.n_channels, *sides)
    before = image.clone()
    logits = cast(Tensor, network(image))
    expected = (2, build.n_classes, *sides)
    assert logits.shape == expected, f"{what}: expected logits {expected}, got {tuple(logits.shape)}"
    assert torch.isfinite(logits).all(), f"{what}: logits are not finite"
    assert torch.equal(image, before), f"{what}: the network changed its input"
    assert not torch.equal(logits[0], logits[1]), f"{what}: two images got the same logits"
    _same(network(image[:1]), logits[:1], f"{what}: logits depend on the other images of a batch")
    _same(network(image), logits, f"{what}: the same image got other logits when asked again")
    if isinstance(network, OwnOutputs):
        _same(network.outputs(image)["logits"], logits, f"{what}: `outputs` has other logits than a call")
    plain = network(torch.zeros_like(image))
    assert torch.isfinite(plain).all(), f"{what}: logits of an image of one grey value are not finite"
    torch.manual_seed(2)
    other = copy.deepcopy(network)
    other.load_state_dict(network.state_dict())
    _same(other(image), logits, f"{what}: logits are others after saving and loading")


def _check_anew(network: nn.Module, index: int) -> None:
    states = []
    for seed in (3, 4):  # of the global generator
        one = copy.deepcopy(network)
        assert isinstance(one, OwnHeads)
        torch.manual_seed(seed)
        one.make_undecided(index, Generator().manual_seed(1))
        states.append(one.state_dict())
    for name, value in states[0].items():
        assert torch.equal(states[1][name], value), f"a class that began anew got other weights in {name} the next time"
    assert any(not torch.equal(states[0][name], value) for name, value in network.state_dict().items()), (
        "a class that was to begin anew has its old weights"
    )


def _same(found: Tensor, expected: Tensor, message: str) -> None:
    largest = float((found - expected).abs().max())
    assert largest <= 1e-4 * (1 + float(expected.abs().max())), f"{message} (by {largest:g})"
