"""One id per cell through the volume: regions of single slices, their ids arbitrary, become objects.

Kernels: planes of ids in, planes of ids and tables out. `follow` is the whole way; `find_tracks` and `relabelled` are
its two halves. Paper: Machireddy et al. (2023), "Tracking".
"""

from cristae.tracking.follow import Slices, TrackSettings, find_tracks, follow, relabelled, relabeller
from cristae.tracking.links import REASONS, Tracks

__all__ = ["REASONS", "Slices", "TrackSettings", "Tracks", "find_tracks", "follow", "relabelled", "relabeller"]
