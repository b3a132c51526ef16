import math

import pytest
import torch
from torch import Tensor, nn

from cristae.nets.contract import Build
from cristae.nets.senformer import (
    FULL,
    SMALL,
    ClassAttention,
    DecoderBlock,
    Learner,
    Pyramid,
    SenFormer,
    SenFormerSizes,
    Variant,
    build_senformer,
    build_senformer_pagano,
    build_senformer_shared,
    merged,
)
from cristae.nets.swin import SwinSizes

TINY = SenFormerSizes(SwinSizes(8, (1, 1, 1, 1), 1, 4), 16, 2, 2)


def _count(module: nn.Module) -> int:
    return sum(value.numel() for value in module.parameters())


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (build_senformer, 163_098_858),
        (build_senformer_pagano, 163_102_954),
        (build_senformer_shared, 79_018_218),
    ],
)
def test_parameter_counts_are_the_published_ones(build, expected: int) -> None:  # type: ignore[no-untyped-def]
    with torch.device("meta"):
        assert _count(build(Build(1, 1, "full"))) == expected


def test_parameter_counts_of_the_parts() -> None:
    with torch.device("meta"):
        network = SenFormer(1, 1)
        assert _count(network.backbone) == 48_835_530
        assert _count(network.neck) == 13_354_272
        assert [_count(learner) for learner in network.learners] == [25_227_264] * 4
        assert _count(DecoderBlock(512, 8)) == 4_204_032
        more = SenFormer(1, 3)
    assert _count(more) - _count(network) == 4 * 4 * 512  # four embeddings for each of the four learners


def test_sizes() -> None:
    with torch.device("meta"):
        assert build_senformer(Build(1, 1, "small", 24)).backbone.sizes.heads == 3
        small, full = (build_senformer(Build(1, 1, size)).backbone.sizes for size in ("small", "full"))  # type: ignore[arg-type]
        assert (small, full) == (SMALL.swin, FULL.swin)
        odd = build_senformer(Build(1, 1, "full", 100)).backbone.sizes
        assert (odd.width, odd.heads) == (100, 2)
        assert 500_000 < _count(build_senformer(Build(1, 1))) < 3_000_000


def test_attention_is_that_of_pytorch() -> None:
    torch.manual_seed(0)
    own, other = ClassAttention(12, 3), nn.MultiheadAttention(12, 3, batch_first=True)
    with torch.no_grad():
        for part in own.children():
            nn.init.normal_(part.bias)  # type: ignore[arg-type]
        parts = (own.query, own.key, own.value)
        other.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
        other.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
        other.out_proj.load_state_dict(own.proj.state_dict())
    queries, tokens = torch.randn(2, 4, 12), torch.randn(2, 30, 12)
    assert torch.allclose(own(queries, tokens), other(queries, tokens, tokens)[0], atol=1e-5)


def test_the_merged_logit_is_that_of_summed_probabilities() -> None:
    differences = 3 * torch.randn(2, 4, 3, 5, 5, dtype=torch.float64)
    total = torch.sigmoid(differences).sum(1)
    pair = torch.stack((4 - total, total)).clamp(min=1e-15).log()  # as published: logarithms of clamped sums
    assert torch.allclose(torch.sigmoid(merged(differences)), pair.softmax(0)[1])
    assert torch.allclose(torch.sigmoid(merged(differences)), total / 4)
    assert torch.allclose(merged(-differences), -merged(differences))


def test_learners_that_are_sure_and_wrong_still_get_a_gradient() -> None:
    differences = torch.tensor([-1e4, -200.0, -90.0, -300.0]).view(1, 4, 1, 1, 1).requires_grad_()
    logit = merged(differences)
    logit.sum().backward()
    assert logit.item() == pytest.approx(-90 - math.log(4))
    assert differences.grad.flatten().tolist() == pytest.approx([0, 0, 1, 0])  # type: ignore[union-attr]
    assert merged(torch.full((1, 4, 1, 1, 1), 1e30)).isfinite().all()


def test_a_class_and_its_background_are_a_softmax_of_two_maps() -> None:
    torch.manual_seed(0)
    learner = Learner(3, TINY, shared=False)
    nn.init.normal_(learner.embeddings)
    features = torch.randn(2, 5, 7, 16)
    tokens = learner.norm_features(features).flatten(1, 2)
    embeddings = learner.embeddings.expand(2, -1, -1)
    for block in learner.blocks:
        embeddings = block(embeddings, tokens)
    maps = (tokens @ learner.norm(embeddings).transpose(1, 2)).transpose(1, 2).view(2, 6, 5, 7)
    found = torch.sigmoid(learner(features))
    for k in range(3):
        assert torch.allclose(found[:, k], maps[:, 2 * k : 2 * k + 2].softmax(1)[:, 1], atol=1e-5)


def test_a_class_of_its_own_has_a_loss_of_its_own() -> None:
    torch.manual_seed(0)
    network = SenFormer(1, 2, TINY)
    outputs = network.outputs(torch.randn(1, 1, 64, 64))
    assert outputs["learners"].shape == (1, 4, 2, 16, 16)
    target = torch.ones(1, 2, 64, 64)
    weight = torch.ones_like(target)
    weight[:, 1] = 0
    grads = torch.autograd.grad(network.loss(outputs, target, weight), list(outputs.values()))
    assert (grads[0][:, 0] != 0).all() and (grads[0][:, 1] == 0).all()
    assert (grads[1][:, :, 0] != 0).all() and (grads[1][:, :, 1] == 0).all()


def _loss(learners: list[list[float]], target: list[float], weight: list[float], variant: Variant = "pagano") -> float:
    maps = torch.tensor(learners).view(1, len(learners), 1, 1, -1)
    outputs = {"logits": merged(maps), "learners": maps}
    truth, seen = (torch.tensor(values, dtype=torch.float32).view(1, 1, 1, -1) for values in (target, weight))
    return SenFormer(1, 1, TINY, variant).loss(outputs, truth, seen).item()


def test_the_loss_by_hand() -> None:
    # Two learners give the class 3/4 and 1/4 at the first pixel, 1/2 and 9/10 at the second, which is background.
    a, b = math.log(3), math.log(9)
    maps = [[a, 0.0], [-a, b]]
    together = -(math.log(0.5) + math.log(0.3)) / 2
    alone = -(math.log(0.75) + math.log(0.5) + math.log(0.25) + math.log(0.1)) / 4
    assert _loss(maps, [1, 0], [1, 1]) == pytest.approx(together + alone)
    first = -math.log(0.5) - (math.log(0.75) + math.log(0.25)) / 2
    assert _loss(maps, [1, 0], [1, 0]) == pytest.approx(first)
    assert _loss(maps, [1, 1], [1, 0]) == pytest.approx(first)
    assert _loss(maps, [1, 0], [0, 0]) == 0


def test_ours_adds_the_dice_of_the_vote() -> None:
    a, b = math.log(3), math.log(9)
    maps = [[a, 0.0], [-a, b]]
    for target, weight, dice in (
        ([1.0, 0.0], [1.0, 1.0], 2 * 0.5 / (0.25 + 0.49 + 1)),
        ([1.0, 0.0], [1.0, 0.0], 2 * 0.5 / (0.25 + 1)),
    ):
        published = _loss(maps, target, weight)
        assert _loss(maps, target, weight, "unshared") - published == pytest.approx(1 - dice, abs=1e-4)
        assert _loss(maps, target, weight, "shared") - published == pytest.approx(1 - dice, abs=1e-4)


def test_shared_blocks_are_one_block_again_and_again() -> None:
    torch.manual_seed(0)
    shared, apart = Learner(1, TINY, shared=True), Learner(1, TINY, shared=False)
    assert (len(shared.blocks), len(apart.blocks)) == (1, 2)
    for block in apart.blocks:
        block.load_state_dict(shared.blocks[0].state_dict())
    apart.load_state_dict({k: v for k, v in shared.state_dict().items() if "blocks" not in k}, strict=False)
    features = torch.randn(1, 4, 4, 16)
    assert torch.equal(shared(features), apart(features))


def test_each_scale_hears_of_the_coarser_ones_alone() -> None:
    torch.manual_seed(0)
    neck = Pyramid([3, 3, 3], TINY, ring=False)
    features = [torch.randn(1, 3, 16 // 2**i, 16 // 2**i) for i in range(3)]
    before = neck(features)
    features[1] = features[1] + 1
    after = neck(features)
    assert [torch.equal(*pair) for pair in zip(before, after, strict=True)] == [False, False, True]
    assert all(block.shift == 0 for block in neck.blocks)


def test_the_released_pyramid_grows_by_a_ring() -> None:
    with torch.device("meta"):
        network = build_senformer_pagano(Build(1, 1, "full"))
        image = torch.empty(1, 1, 256, 256)
        features = network.neck(network.backbone(image))
        assert [tuple(one.shape[1:3]) for one in features] == [(66, 66), (34, 34), (18, 18), (10, 10)]
        outputs = network.outputs(image)
    assert outputs["logits"].shape == (1, 1, 256, 256)
    assert outputs["learners"].shape == (1, 4, 1, 64, 64)


def test_the_ring_is_cut_off_where_it_was_put_on() -> None:
    torch.manual_seed(0)
    network = SenFormer(1, 1, TINY, "pagano").eval()
    image = torch.randn(1, 1, 64, 64)
    features = network.neck(network.backbone(image))
    finest = network.learners[0](features[0])
    assert torch.equal(network.outputs(image)["learners"][:, 0], finest[..., 1:-1, 1:-1])


def _descent(network: SenFormer, n_updates: int) -> list[float]:
    generator = torch.Generator().manual_seed(0)
    target = torch.zeros(2, 1, 64, 64)
    target[0, :, 16:48, 8:40] = target[1, :, 20:60, 24:56] = 1
    image = target + 0.3 * torch.randn(target.shape, generator=generator)
    optimiser = torch.optim.AdamW(network.parameters(), 3e-3)
    losses = []
    for _ in range(n_updates):
        optimiser.zero_grad()
        loss = network.loss(network.outputs(image), target, torch.ones_like(target))
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


def test_embeddings_that_start_at_zero_as_published_learn() -> None:
    torch.manual_seed(0)
    network = SenFormer(1, 1, TINY)
    for learner in network.learners:
        nn.init.zeros_(learner.embeddings)  # type: ignore[arg-type]
    first = network.outputs(torch.randn(2, 1, 64, 64))
    assert (first["logits"].abs() < 1e-5).all()  # a class and its background are the same
    losses = _descent(network, 30)
    assert 2 * math.log(2) < losses[0] < 2 * math.log(2) + 1  # undecided, and some Dice
    assert losses[-1] < 0.5 * losses[0]


def test_published_weights_go_to_the_encoder() -> None:
    network, other = SenFormer(1, 1, TINY), SenFormer(3, 1, TINY)
    tensors: dict[str, Tensor] = other.backbone.state_dict()
    network.load_encoder(tensors)
    name = "layers.3.blocks.0.attn.qkv.weight"
    assert torch.equal(network.backbone.state_dict()[name], tensors[name])
