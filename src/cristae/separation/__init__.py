"""Cells: telling touching ones apart, and finding them between labelled slices."""
