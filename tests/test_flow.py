"""Laws of flow: known shifts are found, nothing moves in a static stack, ids never mix."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from cristae.flow import PRESETS, Dis, Farneback, dense_flow
from cristae.warping import compose, forward_backward_error, warp_labels, warp_map, warp_points

METHODS = {**PRESETS, "dis half": Dis(reduction=2), "dis fast": Dis("fast"), "released third": Farneback(reduction=3)}
SHAPE = (200, 231)


def texture(shape=SHAPE, seed=0):
    """A smooth pattern twice as wide as asked for, so that shifted views of it need no border."""
    noise = np.random.default_rng(seed).normal(size=(2 * shape[0], 2 * shape[1]))
    smooth = ndimage.gaussian_filter(noise, 2.5) + ndimage.gaussian_filter(noise, 8) * 3
    smooth -= smooth.min()
    return smooth * (255 / smooth.max())


def views(dy, dx, shape=SHAPE):
    """Target and source where each pixel of the target comes from dy, dx further."""
    whole = texture(shape)
    y, x = np.mgrid[: shape[0], : shape[1]] + np.array([[[40.0]], [[40.0]]])
    planes = [ndimage.map_coordinates(whole, [y + a, x + b], order=3) for a, b in ((dy, dx), (0, 0))]
    target, source = (np.clip(np.rint(plane), 0, 255).astype(np.uint8) for plane in planes)
    return target, source


def constant(dy, dx, shape=SHAPE):
    return np.stack([np.full(shape, dy, np.float32), np.full(shape, dx, np.float32)])


INNER = np.s_[:, 25:-25, 25:-25]


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("shift", [(3, -5), (0.4, 1.7), (-6.25, 2.5)])
def test_known_shifts_are_found(name, shift):
    flow = dense_flow(*views(*shift), METHODS[name])
    assert flow.dtype == np.float32 and flow.shape == (2, *SHAPE)
    error = np.hypot(*(flow - constant(*shift))[INNER])
    assert np.median(error) < 0.15
    assert np.quantile(error, 0.95) < 0.5


@pytest.mark.parametrize("name", METHODS)
def test_nothing_moves_in_a_static_stack(name):
    image = views(0, 0)[0]
    flow = dense_flow(image, image, METHODS[name])
    assert not flow.any()
    labels = np.random.default_rng(1).integers(0, 9, SHAPE).astype(np.int32)
    assert np.array_equal(warp_labels(labels, flow), labels)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (8, 40), (16, 400), (63, 5)])
def test_small_and_thin_planes_have_a_finite_flow(name, shape):
    random = np.random.default_rng(2)
    target, source = (random.integers(0, 256, shape).astype(np.uint8) for _ in range(2))
    flow = dense_flow(target, source, METHODS[name])
    assert flow.shape == (2, *shape)
    assert np.isfinite(flow).all()


@pytest.mark.parametrize("name", METHODS)
def test_flow_does_not_depend_on_threads_or_memory_layout(name):
    target, source = views(2, 3)
    expected = dense_flow(target, source, METHODS[name])
    threads = cv2.getNumThreads()
    try:
        for n in (1, 2, 5):
            cv2.setNumThreads(n)
            strided = np.asfortranarray(target), np.repeat(source, 2, axis=1)[:, ::2]
            assert np.array_equal(dense_flow(*strided, METHODS[name]), expected)
    finally:
        cv2.setNumThreads(threads)


def test_windows_of_30_and_31_px_are_the_same():
    planes = views(1, 2)
    even, odd, wider = (dense_flow(*planes, Farneback(window=window, gaussian=True)) for window in (30, 31, 32))
    assert np.array_equal(even, odd)
    assert not np.array_equal(odd, wider)
    even, odd = (dense_flow(*planes, Farneback(window=window)) for window in (30, 31))
    assert np.abs(even - odd).max() < 0.05  # the box is the same too, but divided by another number


def test_levels_of_the_paper_are_capped():
    planes = views(1, 2, (512, 512))
    flows = [dense_flow(*planes, Farneback(scale=0.2, levels=levels, iterations=1)) for levels in (0, 1, 2, 6)]
    assert not np.array_equal(flows[0], flows[1])
    assert np.array_equal(flows[1], flows[2])
    assert np.array_equal(flows[1], flows[3])


def test_presets_say_what_the_paper_and_its_code_do():
    assert PRESETS["machireddy2023"] == Farneback(5, 0.2, 30, 3, 5, 1.1, gaussian=True)
    assert PRESETS["released"] == Farneback(3, 0.5, 15, 3, 5, 1.2)
    with pytest.raises(TypeError):
        PRESETS["mine"] = Dis()


@given(st.tuples(*[st.floats(-6, 6, width=32)] * 4))
@settings(max_examples=20)
def test_shifts_compose_by_adding(shifts):
    a, b, c, d = shifts
    total = compose(constant(a, b, (9, 11)), constant(c, d, (9, 11)))
    assert np.allclose(total, constant(a + c, b + d, (9, 11)), atol=1e-5)


def test_composing_looks_up_the_second_flow_where_the_first_leads():
    then = np.random.default_rng(3).normal(size=(2, 20, 30)).astype(np.float32)
    total = compose(constant(2, -3, (20, 30)), then)
    assert np.allclose(total[:, :-2, 3:], then[:, 2:, :-3] + np.array([2, -3])[:, None, None], atol=1e-6)
    assert np.allclose(total[0, -1], 2 + then[0, -1, np.maximum(np.arange(30) - 3, 0)], atol=1e-6)  # the border goes on
    nothing = np.zeros_like(then)
    assert np.array_equal(compose(nothing, then), then)
    assert np.array_equal(compose(then, nothing), then)


def test_forward_backward_error_tells_matched_from_vanished():
    target, source = views(2, 3)
    vanished = np.zeros(SHAPE, bool)
    vanished[50:100, 60:130] = True
    target[vanished] = texture(SHAPE, seed=7)[: SHAPE[0], : SHAPE[1]][vanished].astype(np.uint8)
    method = PRESETS["dis"]
    error = forward_backward_error(dense_flow(target, source, method), dense_flow(source, target, method))
    assert error.dtype == np.float32 and error.shape == SHAPE
    kept = ~ndimage.binary_dilation(vanished, iterations=20)[25:-25, 25:-25]
    assert np.median(error[25:-25, 25:-25][kept]) < 0.2
    assert np.median(error[vanished]) > 1


@given(st.data())
def test_warped_labels_are_ids_of_the_source_next_to_where_the_flow_leads(data):
    shape = data.draw(hnp.array_shapes(min_dims=2, max_dims=2, max_side=8))
    flow = data.draw(hnp.arrays(np.float32, (2, *shape), elements=st.floats(-12, 12, width=32)))
    dtype = data.draw(st.sampled_from([np.uint8, np.int32, np.uint32, np.int64, np.uint64]))
    top = np.iinfo(dtype).max
    labels = data.draw(hnp.arrays(dtype, shape, elements=st.sampled_from([0, 1, top - 1, top])))
    warped = warp_labels(labels, flow)
    assert warped.dtype == labels.dtype
    for y, x in np.ndindex(shape):
        where = (np.array([y, x], np.float32) + flow[:, y, x]).astype(np.float32)
        near = np.clip(where, 0, np.array(shape, np.float32) - 1)
        row, column = np.floor(near + np.float32(0.5)).astype(int)
        assert warped[y, x] == labels[row, column]


def test_neighbouring_ids_above_24_bits_stay_apart():
    labels = (2**24 + np.arange(35).reshape(5, 7)).astype(np.uint32)
    warped = warp_labels(labels, constant(1, 2, (5, 7)))
    assert np.array_equal(warped[:-1, :-2], labels[1:, 2:])
    assert np.array_equal(warped[-1, -2:], labels[[-1, -1], [-1, -1]])  # outside: the nearest pixel of the border


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_warped_maps_are_interpolated(dtype):
    ramp = (np.arange(20)[:, None] * 8 + np.arange(10) * 4).astype(dtype)
    warped = warp_map(ramp, constant(0.5, 1.25, ramp.shape))
    assert warped.dtype == dtype
    assert np.array_equal(warped[:-1, :-2], (ramp[:-1, :-2] + 9).astype(dtype))
    assert np.array_equal(warp_map(ramp, constant(0, 0, ramp.shape)), ramp)
    assert warped[-1, -1] == ramp[-1, -1]


def test_points_land_where_their_label_goes():
    y, x = np.mgrid[:80, :90].astype(np.float32)
    flow = np.stack([4 + 2 * np.sin(x / 9), -3 + 2 * np.cos(y / 11)]).astype(np.float32)
    points = np.array([[20, 30], [40.5, 61.25], [50, 22]])
    landed = warp_points(points, flow)
    for point, (row, column) in zip(points, landed, strict=True):
        moved = [ndimage.map_coordinates(part, [[row], [column]], order=1)[0] for part in flow]
        back = np.array([row, column]) + moved
        assert np.allclose(back, point, atol=0.02)
        disc = np.hypot(y - point[0], x - point[1]) < 6
        assert warp_labels(disc, flow)[round(row), round(column)]
    assert np.allclose(warp_points(points, constant(3, -2)), points - [3, -2])
    assert warp_points(np.zeros((0, 2)), flow).shape == (0, 2)


def test_a_flow_that_holds_no_number_reads_inside_the_plane():
    broken = np.full((2, 6, 6), np.nan, np.float32)
    labels = np.arange(36, dtype=np.int32).reshape(6, 6)
    assert (warp_labels(labels, broken) == 0).all()
    assert (warp_labels(labels, np.full_like(broken, np.inf)) == 35).all()
    assert np.isnan(compose(broken, broken)).all()


def test_wrong_arrays_are_refused():
    image, flow = np.zeros((8, 9), np.uint8), constant(0, 0, (8, 9))
    method = PRESETS["dis"]
    for target, source in ((image, image[:-1]), (image.astype(np.float32), image), (image[0], image[0])):
        with pytest.raises(ValueError):
            dense_flow(target, source, method)
    for function, plane, wrong in (
        (warp_labels, image.astype(np.float32), flow),
        (warp_labels, image, flow[:, 1:]),
        (warp_labels, image, flow.astype(np.float64)),
        (warp_map, image.astype(np.int32), flow),
        (warp_points, np.zeros((3, 3)), flow),
        (compose, flow, flow[:, 1:]),
    ):
        with pytest.raises(ValueError):
            function(plane, wrong)
    for settings_ in (dict(scale=1), dict(window=0), dict(levels=-1), dict(reduction=0)):
        with pytest.raises(ValueError):
            Farneback(**settings_)
    for settings_ in (dict(preset="slow"), dict(reduction=0)):
        with pytest.raises(ValueError):
            Dis(**settings_)
