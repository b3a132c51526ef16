"""Pictures: what is where, what hides what, what shines through, in whatever order it is given."""

from __future__ import annotations

import numpy as np
import pytest

from cristae.rendering.camera import Camera, fit
from cristae.rendering.scale_bar import add_scale_bar, round_length
from cristae.rendering.scene import Plane, bounds, solid, take_picture
from cristae.rendering.shade import Look
from meshing_solids import ball, mesh_of

RED, BLUE = (0.9, 0.1, 0.1), (0.1, 0.1, 0.9)
FLAT = Look(shade=0, outlines=False, haze=0)
FRONT = Camera((0.0, 0.0, 0.0), 200.0, (64, 48))


def at(place, radius=20.0):
    vertices, faces = mesh_of(ball((23, 23, 23), (11, 11, 11), 9).astype(np.int32), n_steps=3)
    return (vertices - 11) * (radius / 9) + place, faces


def picture(solids, planes=(), camera=FRONT, look=FLAT, samples=1):
    return take_picture(solids, planes, camera, look, samples).astype(int)


def is_red(found, x, y) -> bool:
    return found[y, x, 0] > 1.5 * found[y, x, 2]


def test_without_turning_a_scene_looks_as_slices_do() -> None:
    # 200 nm are 48 pixels: a ball at x = 50, y = 25 lies 12 pixels right of and 6 below the middle.
    found = picture([solid([at((50.0, 25.0, 0.0))], [RED])])
    rows, columns = np.nonzero((found < 250).any(axis=2))
    assert (columns.mean(), rows.mean()) == pytest.approx((43.5, 29.5), abs=0.5)
    assert len(rows) == pytest.approx(np.pi * (20 * 48 / 200) ** 2, rel=0.1)


def test_what_is_nearer_hides_what_is_farther_in_any_order() -> None:
    near, far = solid([at((0.0, 0.0, -40.0))], [RED]), solid([at((0.0, 0.0, 40.0), 35.0)], [BLUE])
    one, other = picture([near, far]), picture([far, near])
    np.testing.assert_array_equal(one, other)
    assert is_red(one, 32, 24)
    assert not is_red(one, 32, 17)


def test_transparent_things_in_any_order_look_the_same() -> None:
    shells = [solid([at((0.0, 0.0, z), 30.0)], [colour], 0.3) for z, colour in ((-50.0, RED), (0.0, BLUE), (50.0, RED))]
    np.testing.assert_array_equal(picture(shells), picture(shells[::-1]))
    joined = solid([at((0.0, 0.0, z), 30.0) for z in (50.0, -50.0, 0.0)], [RED, RED, BLUE], 0.3)
    np.testing.assert_array_equal(picture([joined]), picture(shells))


def test_glass_lets_what_is_inside_be_seen_and_opaque_does_not() -> None:
    inside = solid([at((0.0, 0.0, 0.0), 15.0)], [RED])
    through = picture([inside, solid([at((0.0, 0.0, 0.0), 60.0)], [BLUE], 0.15)])
    hidden = picture([inside, solid([at((0.0, 0.0, 0.0), 60.0)], [BLUE], 1.0)])
    assert is_red(through, 32, 24)
    assert not is_red(hidden, 32, 24)
    # The rim of a shell is denser than its middle.
    shell = picture([solid([at((0.0, 0.0, 0.0), 60.0)], [BLUE], 0.15)])
    assert shell[24, 32 - 13, 0] < shell[24, 32, 0] < 255


def test_layers_do_not_depend_on_bands(monkeypatch) -> None:
    shells = [solid([at((0.0, 10.0, z), 60.0)], [BLUE], 0.2) for z in (-20.0, 20.0)]
    whole = picture(shells)
    monkeypatch.setattr("cristae.rendering.scene.BAND", 7)
    np.testing.assert_array_equal(picture(shells), whole)


def test_a_half_turn_shows_the_other_side() -> None:
    pair = [solid([at((0.0, 0.0, -40.0))], [RED]), solid([at((0.0, 0.0, 40.0))], [BLUE])]
    assert is_red(picture(pair), 32, 24)
    back = Camera((0.0, 0.0, 0.0), 200.0, (64, 48), azimuth=180.0)
    assert not is_red(picture(pair, camera=back), 32, 24)
    above = Camera((0.0, 0.0, 0.0), 200.0, (64, 48), elevation=80.0)
    high = [solid([at((0.0, -40.0, 0.0))], [RED]), solid([at((0.0, 40.0, 0.0))], [BLUE])]
    assert is_red(picture(high, camera=above), 32, 24)


@pytest.mark.parametrize("turn", [(0.0, 0.0), (30.0, 20.0), (200.0, -60.0)])
def test_axes_are_right_handed_and_square(turn) -> None:
    axes = Camera((0.0, 0.0, 0.0), 1.0, (4, 4), *turn).axes
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(axes) == pytest.approx(1)


def test_rays_meet_what_is_projected_there() -> None:
    for distance in (None, 300.0):
        camera = Camera((5.0, 6.0, 7.0), 100.0, (40, 30), 25.0, 15.0, distance)
        points, directions = camera.rays()
        depth = 20.0 if distance is None else 320.0
        seen = camera.project((points + depth * directions).reshape(-1, 3)).reshape(30, 40, 3)
        across, along = np.meshgrid(np.arange(40) + 0.5, np.arange(30) + 0.5)
        np.testing.assert_allclose(seen, np.stack([across, along, np.full_like(across, depth)], axis=2), atol=0.01)


def test_what_is_behind_the_eye_is_not_drawn() -> None:
    camera = Camera((0.0, 0.0, 0.0), 200.0, (64, 48), distance_nm=100.0)
    assert (picture([solid([at((0.0, 0.0, -150.0))], [RED])], camera=camera) == 255).all()
    assert (picture([solid([at((0.0, 0.0, 0.0))], [RED])], camera=camera) < 255).any()


def test_an_image_plane_shows_its_pixels_where_they_lie() -> None:
    grey = np.zeros((40, 60), np.uint8)
    grey[30:, :20] = 200
    for axis, camera in ((2, FRONT), (0, Camera((0.0, 0.0, 0.0), 200.0, (64, 48), azimuth=90.0))):
        plane = Plane(axis, 0.0, grey, (-59.0, -39.0), (2.0, 2.0))
        found = picture([], [plane], camera)
        shown = (found < 250).any(axis=2)
        bright = shown & (found > 150).all(axis=2)
        assert bright.any()
        u, v = (a for a in range(3) if a != axis)
        place = np.zeros(3)
        place[u], place[v] = -40.0, 30.0
        x, y, _ = camera.project(place[None])[0]
        assert bright[int(y), int(x)]
        place[u], place[v] = 40.0, -30.0
        x, y, _ = camera.project(place[None])[0]
        assert shown[int(y), int(x)]
        assert not bright[int(y), int(x)]


def test_a_plane_cuts_through_objects() -> None:
    plane = Plane(2, 0.0, np.full((50, 50), 128, np.uint8), (-98.0, -98.0), (4.0, 4.0))
    found = picture([solid([at((0.0, 0.0, 0.0), 30.0)], [RED])], [plane])
    assert is_red(found, 32, 24)  # the half before the plane
    behind = picture([solid([at((0.0, 0.0, 60.0), 30.0)], [RED])], [plane])
    assert not is_red(behind, 32, 24)


def test_everything_fits_from_every_view() -> None:
    points = bounds([solid([at((100.0, -30.0, 10.0), 40.0), at((0.0, 0.0, 0.0), 10.0)], [RED, BLUE])], [])
    views = [(float(turn), 25.0) for turn in range(0, 360, 15)]
    camera = fit(points, (80, 60), views)
    for azimuth, elevation in views:
        seen = Camera(camera.target, camera.height_nm, camera.size, azimuth, elevation).project(points)
        assert (seen[:, :2] >= 0).all()
        assert (seen[:, :2] <= (80, 60)).all()


def test_crevices_are_darker_and_outlines_dark() -> None:
    touching = [solid([at((-19.0, 0.0, 0.0)), at((19.0, 0.0, 0.0))], [RED, RED])]
    camera = Camera((0.0, 0.0, 0.0), 100.0, (96, 72))
    plain = picture(touching, camera=camera)
    shaded = picture(touching, camera=camera, look=Look(shade=1, outlines=False, haze=0, reach_px=14))
    lines = picture(touching, camera=camera, look=Look(shade=0, outlines=True, haze=0))
    drawn = (plain < 250).any(axis=2)
    lost = (plain - shaded).sum(axis=2)
    assert lost[drawn].min() >= 0
    assert lost[30:42, 44:52].mean() > 3 * lost[30:42, 28:36].mean()
    assert (lines[~drawn] == 255).all()
    assert lines[drawn].mean() < plain[drawn].mean()


def test_more_samples_make_edges_soft() -> None:
    one, many = (picture([solid([at((0.0, 0.0, 0.0))], [RED])], samples=n) for n in (1, 3))
    assert len(np.unique(many.reshape(-1, 3), axis=0)) > len(np.unique(one.reshape(-1, 3), axis=0))


def test_an_empty_scene_is_background() -> None:
    assert (picture([]) == 255).all()
    dark = picture([], look=Look(background=(0.0, 0.5, 1.0)))
    assert (dark == (0, 128, 255)).all()
    assert bounds([], []).shape == (2, 3)


@pytest.mark.parametrize(
    ("most", "expected"),
    [(999.0, (500.0, "500 nm")), (1000.0, (1000.0, "1 µm")), (4800.0, (2000.0, "2 µm")), (0.7, (0.5, "0.5 nm"))],
)
def test_scale_bars_have_round_lengths(most, expected) -> None:
    length, words = round_length(most)
    assert length == pytest.approx(expected[0])
    assert words == expected[1]


def test_a_length_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="above 0 nm"):
        round_length(0.0)


@pytest.mark.parametrize("ground", [255, 0])
def test_the_scale_bar_is_as_long_as_it_says(ground) -> None:
    plain = np.full((240, 320, 3), ground, np.uint8)
    found = add_scale_bar(plain, 10.0)  # a fifth of 3200 nm are 640: the bar says 500 nm and has 50 pixels
    drawn = np.abs(found.astype(int) - ground).max(axis=2) > 128
    assert drawn[-12].sum() == 50
    assert (plain == ground).all()


def test_inside_and_outside_of_a_surface_are_lit_alike() -> None:
    vertices, faces = at((0.0, 0.0, 0.0))
    one, other = (picture([solid([(vertices, turned)], [RED])]) for turned in (faces, faces[:, ::-1]))
    # Turned triangles have turned normals, and show their insides.
    assert np.abs(one - other).mean() < 1
