"""The keys of an answer as models write them: in another case, or with other names from their training."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

ALIASES: Mapping[str, tuple[str, ...]] = {
    "box": ("bbox_2d", "box_2d", "bbox", "box2d", "bounding_box", "boundingbox", "coordinates"),
    "type": ("label", "category"),
    "mentions": ("mention",),
    "frame": ("frame_id", "frame_index", "frame_number"),
}
"""Other names of keys; they are read only if the key itself is missing."""

_CORNERS = (
    ("x0", "y0", "x1", "y1"),
    ("x1", "y1", "x2", "y2"),
    ("xmin", "ymin", "xmax", "ymax"),
    ("x_min", "y_min", "x_max", "y_max"),
    ("left", "top", "right", "bottom"),
)
"""Names of the edges of a box: left, top, right, bottom."""


def spelled(row: Mapping[Any, Any], names: Collection[str]) -> dict[Any, Any]:
    """`row` with the keys `names` in the right spelling; a key that is already right is never replaced."""
    if all(key in names for key in row):
        return dict(row)
    found = {key: value for key, value in row.items() if key in names}
    lower = {name.lower(): name for name in names}
    for name in names:
        lower |= {alias: name for alias in ALIASES.get(name, ()) if alias not in lower}
    rest: dict[Any, Any] = {}
    for key, value in row.items():
        if key in names:
            continue
        meant = lower.get(key.strip().lower()) if isinstance(key, str) else None
        if meant is None or meant in found:
            rest[key] = value
        else:
            found[meant] = value
    return found | rest


def four(value: Any) -> Any:
    """A box as a list of four numbers, if it is two corners or an object of edges; else unchanged."""
    if isinstance(value, list | tuple):
        if len(value) == 1 and isinstance(value[0], list | tuple):
            return four(value[0])
        if len(value) == 2 and all(isinstance(corner, list | tuple) and len(corner) == 2 for corner in value):
            return [*value[0], *value[1]]
        if len(value) == 2 and all(isinstance(corner, dict) and {"x", "y"} <= corner.keys() for corner in value):
            return [value[0]["x"], value[0]["y"], value[1]["x"], value[1]["y"]]
        return value
    if isinstance(value, dict):
        low = {str(key).lower(): number for key, number in value.items()}
        for names in _CORNERS:
            if all(name in low for name in names):
                return [low[name] for name in names]
    return value
