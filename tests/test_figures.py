from __future__ import annotations

import matplotlib as mpl
import pytest
from matplotlib.figure import Figure

from cristae.figures import figure_bytes, save_figure
from cristae.palette import PLAIN


def drawn(off: float = 0.0, layout: str | None = None) -> Figure:
    """Two lines that are clipped by their axes, which are off by so much of the figure."""
    figure = Figure(figsize=(4, 3), layout=layout)
    for place in (0.1, 0.6):
        axes = figure.add_axes((0.1 + off, place - off, 0.8 + off, 0.3)) if layout is None else figure.add_subplot()
        axes.plot([0, 1], [place, 2])
    return figure


@pytest.mark.parametrize("kind", ["svg", "png"])
def test_last_bits_of_a_layout_do_not_show(kind):
    with mpl.rc_context(PLAIN):
        one, other = drawn(), drawn(off=1e-13)
        assert [a.get_position().bounds for a in one.axes] != [a.get_position().bounds for a in other.axes]
        assert figure_bytes(one, kind) == figure_bytes(other, kind) != figure_bytes(drawn(off=0.01), kind)


def test_a_layout_is_made_before_it_is_settled(tmp_path):
    with mpl.rc_context(PLAIN):
        figure = drawn(layout="constrained")
        before = figure.axes[0].get_position().bounds
        save_figure(figure, tmp_path / "a.svg", tmp_path / "a.png")
        assert figure.axes[0].get_position().bounds != before
        save_figure(figure, tmp_path / "b.svg", tmp_path / "b.png")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert b"clipPath" in (tmp_path / "a.svg").read_bytes() and (tmp_path / "a.png").read_bytes()[1:4] == b"PNG"
