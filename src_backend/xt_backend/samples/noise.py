"""Randomness addressed by absolute position, so that any window of a slide comes out the same."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import fft

__all__ = ["Window", "hash01", "periodic_noise", "scatter", "smoothstep", "value_noise"]

Float = npt.NDArray[np.float32]

_GOLDEN = 0x9E3779B97F4A7C15
_MASK64 = (1 << 64) - 1
# Standard deviation of a cubic B-spline surface over uniform random nodes.
_SPLINE_STD = 0.139


@dataclass(frozen=True)
class Window:
    """A rectangle of the slide in level-0 px; it may reach beyond the slide."""

    x0_px: int
    y0_px: int
    width_px: int
    height_px: int

    def grown(self, margin_px: int) -> Window:
        """The window with a margin on all four sides."""
        return Window(
            self.x0_px - margin_px,
            self.y0_px - margin_px,
            self.width_px + 2 * margin_px,
            self.height_px + 2 * margin_px,
        )

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width), the shape of its arrays."""
        return (self.height_px, self.width_px)


def _mixed(value: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The finaliser of splitmix64."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


def hash01(
    salt: int, column: npt.NDArray[np.int64], row: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """Uniform numbers in [0, 1) that depend on nothing but salt, column and row.

    Args:
        salt: Names the stream.
        column: (n,) or broadcastable.
        row: (n,) or broadcastable.
    """
    seed = np.full(1, (salt * _GOLDEN + 0x632BE59BD9B4E019) & _MASK64, np.uint64)
    first = _mixed(np.asarray(column).astype(np.int64).view(np.uint64) + seed)
    both = _mixed(first + np.asarray(row).astype(np.int64).view(np.uint64) * np.uint64(_GOLDEN))
    return np.asarray((both >> np.uint64(11)).astype(np.float64) * 2.0**-53)


def smoothstep(low: float | Float, high: float | Float, value: Float) -> Float:
    """0 below `low`, 1 above `high`, an S-curve between."""
    t = np.asarray((value - low) / (high - low), np.float32)
    np.clip(t, 0.0, 1.0, out=t)
    s = 3.0 - 2.0 * t
    s *= t
    s *= t
    return np.asarray(s, np.float32)


@lru_cache(maxsize=64)
def _spline_taps(start: int, count: int, cell: int) -> tuple[int, npt.NDArray[np.int64], Float]:
    """First node, (count,) node offsets and (4, count) cubic B-spline weights of one axis."""
    position = np.arange(start, start + count, dtype=np.float64) / cell
    base = np.floor(position).astype(np.int64)
    t = position - base
    weights = np.stack(
        [
            (1 - t) ** 3 / 6,
            (3 * t**3 - 6 * t**2 + 4) / 6,
            (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6,
            t**3 / 6,
        ]
    )
    first = int(base[0]) - 1
    return first, base - 1 - first, weights.astype(np.float32)


def value_noise(salt: int, cell_px: int, window: Window) -> Float:
    """Smooth noise without period, zero mean and about unit variance.

    Args:
        salt: Names the stream.
        cell_px: Distance of the random nodes; features are about twice as wide.
        window: Where.

    Returns:
        (height, width) float32.
    """
    x_first, x_node, x_weight = _spline_taps(window.x0_px, window.width_px, cell_px)
    y_first, y_node, y_weight = _spline_taps(window.y0_px, window.height_px, cell_px)
    columns = np.arange(x_first, x_first + int(x_node[-1]) + 4, dtype=np.int64)
    rows = np.arange(y_first, y_first + int(y_node[-1]) + 4, dtype=np.int64)
    nodes = hash01(salt, columns[None, :], rows[:, None])
    nodes = ((nodes - 0.5) / _SPLINE_STD).astype(np.float32)
    across = sum(nodes[:, x_node + k] * x_weight[k] for k in range(4))
    out = np.zeros(window.shape, np.float32)
    for k in range(4):
        out += np.asarray(across)[y_node + k] * y_weight[k][:, None]
    return out


def scatter(
    salt: int, spacing_px: int, window: Window, jitter: float = 0.8
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Points of a jittered grid that lie in the window.

    Args:
        salt: Names the stream.
        spacing_px: One point per square of this side.
        window: Where.
        jitter: Share of the square over which its point may move.

    Returns:
        x (n,) and y (n,) in level-0 px, and (3, n) uniform numbers to decide things with.
    """
    columns = np.arange(
        window.x0_px // spacing_px - 1, (window.x0_px + window.width_px) // spacing_px + 2
    )
    rows = np.arange(
        window.y0_px // spacing_px - 1, (window.y0_px + window.height_px) // spacing_px + 2
    )
    column, row = (a.ravel() for a in np.meshgrid(columns, rows))
    draws = np.stack([hash01(salt * 8 + k, column, row) for k in range(5)])
    # Every other row is shifted by half, which hides the grid.
    x = (column + 0.5 * (row % 2) + 0.25 + jitter * (draws[0] - 0.5)) * spacing_px
    y = (row + 0.5 + jitter * (draws[1] - 0.5)) * spacing_px
    inside = (
        (x >= window.x0_px)
        & (x < window.x0_px + window.width_px)
        & (y >= window.y0_px)
        & (y < window.y0_px + window.height_px)
    )
    return x[inside], y[inside], draws[2:, inside]


def periodic_noise(
    rng: np.random.Generator, period_px: int, wavelength_px: float, octaves: float = 0.7
) -> Float:
    """Band-limited noise that wraps around, zero mean, unit variance.

    Args:
        rng: Source.
        period_px: Side of the square.
        wavelength_px: Centre of the band.
        octaves: Width of the band (standard deviation of the log-normal ring).

    Returns:
        (period, period) float32.
    """
    fy = fft.fftfreq(period_px).astype(np.float32)[:, None]
    fx = fft.rfftfreq(period_px).astype(np.float32)[None, :]
    frequency = np.sqrt(fx * fx + fy * fy)
    frequency[0, 0] = 1.0
    gain = np.square(np.log2(frequency * np.float32(wavelength_px)))
    gain = np.exp(gain * np.float32(-0.5 / octaves**2)) / np.sqrt(frequency)
    gain[0, 0] = 0.0
    spectrum = fft.rfft2(rng.standard_normal((period_px, period_px), np.float32)) * gain
    out = fft.irfft2(spectrum, s=(period_px, period_px))
    return np.asarray(out / out.std(), np.float32)
