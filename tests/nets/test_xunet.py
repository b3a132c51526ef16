from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import nn

from cristae.errors import UsageError
from cristae.learn.fit import Schedule, Watch, fit
from cristae.learn.objective import outputs_of
from cristae.nets.contract import Build
from cristae.nets.fractal import PAGANO, PUBLISHED, Attention, CEECUnit, ConvNorms, FractalUnit, Fusion
from cristae.nets.losses import loss_of
from cristae.nets.multitask import multitask_loss
from cristae.nets.registry import NETWORKS, build_network
from cristae.nets.tanimoto import tanimoto_attention
from cristae.nets.xunet import CrispSigmoid, Plan, PyramidPooling, UpStep, XUNet, build_ceecnet_v1

UNITS = {
    "fractalresnet": FractalUnit,
    "ceecnet_v1": lambda n, heads, definition: CEECUnit(n, heads, definition, fuse=False),
    "ceecnet_v2": lambda n, heads, definition: CEECUnit(n, heads, definition, fuse=True),
}


def _count(network: nn.Module) -> int:
    return sum(value.numel() for value in network.parameters())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("fractalresnet", 17_656_559),
        ("ceecnet_v1", 34_116_749),
        ("ceecnet_v2", 58_363_567),
        ("fractalresnet_pagano", 406_843),
        ("ceecnet_v1_pagano", 741_309),
        ("ceecnet_v2_pagano", 1_189_095),
    ],
)
def test_full_size_parameter_counts(name: str, expected: int) -> None:
    with torch.device("meta"):
        assert _count(build_network(name, Build(1, 1, "full"))) == expected


@pytest.mark.parametrize(
    ("name", "levels", "heads", "millions"),
    [
        ("fractalresnet", 4, 4, 1.39),
        ("ceecnet_v1", 4, 4, 2.55),
        ("ceecnet_v2", 4, 4, 4.18),
        ("fractalresnet", 6, 4, 18.2),
        ("ceecnet_v1", 6, 4, 34.7),
        ("ceecnet_v2", 6, 4, 59.0),
    ],
)
def test_the_port_in_other_sizes(name: str, levels: int, heads: int, millions: float) -> None:
    with torch.device("meta"):
        network = XUNet(1, 1, UNITS[name], Plan(32, levels, heads, definition=PAGANO))
    assert _count(network) / 1e6 == pytest.approx(millions, abs=0.006 if millions < 10 else 0.06)


@pytest.mark.parametrize(("name", "n_biases"), [("fractalresnet", 2384), ("ceecnet_v1", 5728), ("ceecnet_v2", 9072)])
def test_biases_before_normalisations(name: str, n_biases: int) -> None:
    with torch.device("meta"):
        network = build_network(f"{name}_pagano", Build(1, 1, "full"))
    chains = [module for module in network.modules() if isinstance(module, nn.Sequential)]
    followed = [a for chain in chains for a, b in pairwise(chain) if isinstance(b, nn.GroupNorm)]
    biases = [c.bias for c in followed if isinstance(c, nn.Conv2d) and c.bias is not None]
    assert sum(bias.numel() for bias in biases) == n_biases


def test_small_sizes_and_multiples() -> None:
    assert build_ceecnet_v1(Build(1, 1, "full")).multiple == 256
    for name in UNITS:
        for suffix in ("", "_pagano"):
            small = NETWORKS[name + suffix](Build(1, 1))
            assert isinstance(small, XUNet) and small.multiple == 64 and 3e5 < _count(small) < 3e6


@pytest.mark.parametrize("base_width", [4, 12])
@pytest.mark.parametrize("name", ["fractalresnet", "ceecnet_v2_pagano"])
def test_other_widths(name: str, base_width: int) -> None:
    network = build_network(name, Build(2, 3, base_width=base_width))
    assert isinstance(network, XUNet) and network.first[0].out_channels == base_width
    assert network(torch.randn(1, 2, 64, 64)).shape == (1, 3, 64, 64)
    assert network.head.out_channels == 3


@pytest.mark.parametrize("unit", list(UNITS))
@pytest.mark.parametrize("definition", [PUBLISHED, PAGANO])
def test_units_keep_the_shape_and_begin_without_attention(unit: str, definition: object) -> None:
    torch.manual_seed(0)
    made = UNITS[unit](16, 2, definition)
    features = torch.randn(2, 16, 16, 24)
    before = made(features)
    assert before.shape == features.shape
    attentions = [module for module in made.modules() if isinstance(module, Attention)]
    assert len(attentions) == {"fractalresnet": 1, "ceecnet_v1": 3, "ceecnet_v2": 9}[unit]
    for attention in attentions:
        nn.init.normal_(attention.query[0].weight)  # the strength is 0: it changes nothing
    assert torch.equal(made(features), before)
    for attention in attentions:
        nn.init.ones_(attention.strength)
        assert not torch.allclose(made(features), before)
        nn.init.zeros_(attention.strength)


def test_attention_is_one_plus_strength_times_normalised_values() -> None:
    torch.manual_seed(0)
    for definition in (PUBLISHED, PAGANO):
        attention = Attention(8, ConvNorms(definition, 2))
        nn.init.constant_(attention.strength, 0.3)
        one, other = torch.randn(2, 2, 8, 12, 12).unbind()
        query, key, value = (
            torch.sigmoid(part(source))
            for part, source in ((attention.query, one), (attention.key, other), (attention.value, other))
        )
        inner = attention.norm(tanimoto_attention(query, key, value, 5, definition.product))
        assert torch.allclose(attention(one, other), 1 + 0.3 * inner)
        assert attention.query[0].groups == 2
        assert (attention.query[0].bias is not None) == definition.bias


def test_groups_meet_only_where_they_should() -> None:
    unit = CEECUnit(32, 4, PUBLISHED, fuse=True)
    groups = {name: module.groups for name, module in unit.named_modules() if isinstance(module, nn.Conv2d)}
    assert {value for name, value in groups.items() if name.startswith("collect")} == {1}
    assert {value for name, value in groups.items() if not name.startswith("collect")} == {4}
    assert isinstance(unit.collect, Fusion)


def test_pyramid_pooling_sees_the_largest_of_each_block() -> None:
    torch.manual_seed(0)
    pooling = PyramidPooling(2, 4, 3, ConvNorms(PUBLISHED))
    features = torch.randn(1, 2, 8, 16)
    parts = [features]
    for k, level in enumerate(pooling.levels):
        enlarged = torch.empty_like(features)
        for y in range(2**k):
            for x in range(2**k):
                block = (..., slice(y * 8 >> k, (y + 1) * 8 >> k), slice(x * 16 >> k, (x + 1) * 16 >> k))
                enlarged[block] = features[block].amax((2, 3), keepdim=True)
        parts.append(level(enlarged))
    assert torch.allclose(pooling(features), pooling.join(torch.cat(parts, 1)), atol=1e-5)


def test_up_steps_may_enlarge_after_the_convolution() -> None:
    torch.manual_seed(0)
    step = UpStep(8, ConvNorms(PUBLISHED))
    below, skip = torch.randn(2, 16, 6, 6), torch.randn(2, 8, 12, 12)
    large = nn.functional.interpolate(below, scale_factor=2.0, mode="nearest")
    assert torch.allclose(step(below, skip), step.join(torch.cat((step.reduce(large), skip), 1)), atol=1e-5)
    assert [UpStep(8, ConvNorms(d)).reduce[0].out_channels for d in (PUBLISHED, PAGANO)] == [4, 8]


def test_the_crisp_sigmoid_is_steeper_than_a_plain_one() -> None:
    crisp, logits = CrispSigmoid(), torch.linspace(-3, 3, 7)
    assert torch.allclose(crisp(logits), torch.sigmoid(logits / (0.01 + 1 / (1 + torch.tensor(-1.0).exp()))))


def test_the_mask_sees_boundary_and_distance_and_the_boundary_the_distance() -> None:
    network = build_ceecnet_v1(Build(1, 1))
    found = network.outputs(torch.randn(1, 1, 64, 64))
    assert set(found) == {"logits", "boundary", "distance"}
    assert all(found[name].min() >= 0 and found[name].max() <= 1 for name in ("boundary", "distance"))
    distance, boundary = network.tasks.distance[-1].weight, network.tasks.boundary[-1].weight
    mask = network.tasks.mask[-1].weight
    for seen, made_from in (("logits", {distance, boundary, mask}), ("boundary", {distance, boundary})):
        gradients = torch.autograd.grad(
            found[seen].sum(), (distance, boundary, mask), retain_graph=True, allow_unused=True
        )
        assert {w for w, g in zip((distance, boundary, mask), gradients, strict=True) if g is not None} == made_from
    assert network.head is network.tasks.mask[-1]


def test_the_depth_of_the_loss_may_be_set() -> None:
    network = build_ceecnet_v1(Build(1, 2))
    assert network.loss_depth == 0
    outputs = {name: value.detach() for name, value in network.outputs(torch.randn(1, 1, 64, 64)).items()}
    target = (torch.rand(1, 2, 64, 64) > 0.5).float()
    for depth in (0, 10):
        network.loss_depth = depth
        expected = multitask_loss(outputs, target, torch.ones_like(target), depth)
        assert network.loss(outputs, target, torch.ones_like(target)).item() == expected.item()


@pytest.mark.parametrize("name", list(UNITS))
def test_the_training_sets_the_depth_of_the_loss(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = build_network(name, Build(1, 1, base_width=4))
    image, depths = torch.randn(1, 1, 64, 64), []
    target = (torch.rand(1, 1, 64, 64) > 0.5).float()

    def step(one: nn.Module, n: int) -> torch.Tensor:
        assert isinstance(one, XUNet)
        depths.append(one.loss_depth)
        return loss_of(one, outputs_of(one, image), target, torch.ones_like(target), 1.0)

    watch = Watch(lambda *_, **__: None, lambda _: None, lambda _: None)
    schedule = Schedule(3, 1e-3, loss_depth=(0, 10, 20))
    _, state = fit(network, step, lambda _: {}, schedule, tmp_path / "c", watch)
    assert depths == [0, 10, 20]
    assert state.history[-1]["loss"] > 0.5  # far from perfect: the deeper, the nearer to 1


def test_too_narrow_is_refused() -> None:
    with pytest.raises(UsageError, match="at least 4"):
        build_ceecnet_v1(Build(1, 1, base_width=3))
