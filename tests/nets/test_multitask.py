import cv2
import numpy as np
import pytest
import torch

from cristae.nets.multitask import boundary_of, distance_of, multitask_loss
from cristae.nets.tanimoto import tanimoto_loss


def _square() -> np.ndarray:
    mask = np.zeros((48, 48), bool)
    mask[12:36, 12:36] = True
    return mask


def _disc(shape: tuple[int, int], centre: tuple[float, float], radius: float) -> np.ndarray:
    y, x = np.ogrid[: shape[0], : shape[1]]
    disc: np.ndarray = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 <= radius**2
    return disc


def _everywhere(mask: np.ndarray) -> np.ndarray:
    return np.ones(mask.shape, bool)


def test_the_band_of_a_square_is_one_pixel_outside_and_two_inside() -> None:
    mask = _square()
    band, weight = boundary_of(mask, _everywhere(mask))
    assert weight.all()
    assert list(np.flatnonzero(band[24])) == list(np.flatnonzero(band[:, 24])) == [11, 12, 13, 34, 35, 36]
    # The papers' recipe has the same band right and below, and the whole band one pixel off left and above.
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    published = cv2.dilate(cv2.Canny(mask.astype(np.uint8), 0, 1), cross)
    assert list(np.flatnonzero(published[24])) == [10, 11, 12, 34, 35, 36]


def test_the_band_turns_with_the_mask() -> None:
    mask = _disc((64, 60), (30, 26), 17)
    band = boundary_of(mask, _everywhere(mask)).values
    turned = boundary_of(np.ascontiguousarray(mask[::-1].T), _everywhere(mask.T)).values
    assert (turned == band[::-1].T).all()
    inside = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    outside = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    assert (band[(inside == 1) | (outside == 1)] == 1).all()
    assert (band[(inside >= 3) | (outside >= 2)] == 0).all()


def test_the_edge_of_a_crop_is_no_outline() -> None:
    mask = np.zeros((20, 20), bool)
    mask[:, :10] = True
    band = boundary_of(mask, _everywhere(mask)).values
    assert (band == np.isin(np.arange(20), (8, 9, 10))).all()
    for value in (False, True):
        assert not boundary_of(np.full((8, 8), value), np.ones((8, 8), bool)).values.any()


def test_distances_are_those_to_the_background_over_the_largest_of_the_object() -> None:
    mask = _square()
    distance, weight = distance_of(mask, _everywhere(mask))
    assert weight.all()
    assert distance[~mask].max() == 0
    assert distance[24, 12:24] == pytest.approx(np.arange(1, 13) / 12)
    assert distance.max() == 1


def test_every_object_has_its_own_largest_distance() -> None:
    shape = (64, 96)
    large, small = _disc(shape, (30, 30), 25), _disc(shape, (50, 80), 5)
    distance = distance_of(large | small, np.ones(shape, bool)).values
    alone = distance_of(small, np.ones(shape, bool)).values
    assert distance[large].max() == 1 and distance[small].max() == 1
    assert (distance[small] == alone[small]).all()


def test_crops_full_of_foreground_or_background() -> None:
    for shape in ((8, 8), (9, 7)):
        looked_at = np.ones(shape, bool)
        distance, weight = distance_of(looked_at, looked_at)
        assert weight.all() and distance.max() == 1 and distance[0] == pytest.approx(1 / ((min(shape) + 1) // 2))
        distance, weight = distance_of(~looked_at, looked_at)
        assert weight.all() and not distance.any()


def test_what_is_known_near_ignored_pixels_is_true_whatever_they_are() -> None:
    generator = np.random.default_rng(0)
    for _ in range(30):
        mask = cv2.GaussianBlur(generator.standard_normal((40, 40)), (0, 0), 3) > 0
        looked_at = cv2.GaussianBlur(generator.standard_normal((40, 40)), (0, 0), 4) > -0.07
        for made in (boundary_of, distance_of):
            values, weight = made(mask, looked_at)
            assert not weight[~looked_at].any() and not values[weight == 0].any()
            for other in (np.zeros_like(mask), np.ones_like(mask), generator.random(mask.shape) > 0.5):
                truth = made(np.where(looked_at, mask, other), np.ones_like(mask)).values
                assert np.allclose(values[weight > 0], truth[weight > 0])
                assert (made(np.where(looked_at, mask, other), looked_at)[0] == values).all()


def test_only_the_surroundings_of_ignored_pixels_are_left_out() -> None:
    mask = _square()
    looked_at = _everywhere(mask)
    looked_at[:, 40:] = False  # far from the square
    weight = boundary_of(mask, looked_at).weight
    assert weight[:, :38].all() and not weight[:, 40:].any()
    assert (distance_of(mask, looked_at).weight == looked_at).all()
    looked_at[:, 30:] = False  # through it: background stays, the distance of the square goes
    assert (distance_of(mask, looked_at).weight == (looked_at & ~mask)).all()
    weight = boundary_of(mask, looked_at).weight
    assert weight[:, :28].all() and weight[12, 29]


def _outputs(*shape: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    found = {name: torch.rand(*shape, generator=generator) for name in ("logits", "boundary", "distance")}
    return found | {"logits": 4 * found["logits"] - 2}


def test_the_loss_is_the_mean_of_three() -> None:
    mask = torch.from_numpy(_square())[None, None].float()
    weight = torch.ones_like(mask)
    outputs = _outputs(*mask.shape)
    looked_at = np.ones((48, 48), bool)
    boundary, distance = (
        torch.from_numpy(made(_square(), looked_at).values)[None, None] for made in (boundary_of, distance_of)
    )
    for depth in (0, 10):
        parts = (
            tanimoto_loss(torch.sigmoid(outputs["logits"]), mask, weight, depth),
            tanimoto_loss(outputs["boundary"], boundary, weight, depth),
            tanimoto_loss(outputs["distance"], distance, weight, depth),
        )
        assert multitask_loss(outputs, mask, weight, depth).item() == pytest.approx(sum(parts).item() / 3)
    perfect = {"logits": 40 * (mask - 0.5), "boundary": boundary, "distance": distance}
    # Distances are fractions: the coefficient of equal maps is 1 for them, too, where that of Dice would not be.
    assert multitask_loss(perfect, mask, weight).item() == pytest.approx(0, abs=1e-5)


def test_fractions_are_foreground_from_a_half_up() -> None:
    mask = torch.from_numpy(_square())[None, None].float()
    outputs, weight = _outputs(*mask.shape), torch.ones_like(mask)
    fractions = torch.where(mask > 0, 0.5, 0.49)
    whole, part = (multitask_loss(outputs, target, weight) for target in (mask, fractions))
    segmentation = [tanimoto_loss(torch.sigmoid(outputs["logits"]), target, weight) for target in (mask, fractions)]
    assert (3 * whole - segmentation[0]).item() == pytest.approx((3 * part - segmentation[1]).item(), abs=1e-6)
    assert segmentation[0].item() != pytest.approx(segmentation[1].item())


def test_classes_have_maps_of_their_own_and_unseen_ones_are_left_out() -> None:
    target = torch.zeros(2, 2, 48, 48)
    target[0, 0], target[1, 1] = torch.from_numpy(_square()).float(), torch.from_numpy(_disc((48, 48), (20, 20), 9))
    outputs, weight = _outputs(*target.shape), torch.ones_like(target)
    alone = [
        multitask_loss({k: v[:, c : c + 1] for k, v in outputs.items()}, target[:, c : c + 1], weight[:, c : c + 1])
        for c in (0, 1)
    ]
    assert multitask_loss(outputs, target, weight).item() == pytest.approx(sum(alone).item() / 2)
    weight[:, 1] = 0
    assert multitask_loss(outputs, target, weight).item() == pytest.approx(alone[0].item())


def test_shapes_are_followed_on_the_meta_device() -> None:
    target = torch.empty(2, 3, 16, 16, device="meta")
    outputs = {name: torch.empty_like(target, requires_grad=True) for name in ("logits", "boundary", "distance")}
    multitask_loss(outputs, target, torch.empty_like(target), 10).backward()  # type: ignore[no-untyped-call]
    assert all(value.grad is not None for value in outputs.values())
