"""The layers of the open image in napari: found by what they say of themselves, not by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any

import numpy as np
from napari.layers import Image, Labels, Layer
from napari.utils.colormaps import Colormap, DirectLabelColormap
from numpy.typing import NDArray

from napari_protoseg.plugin.class_colors import class_features, label_colors
from napari_protoseg.schema import ClassSchema, TissueClass

KEY = "protoseg"
"""Under which the metadata of a layer says what it is."""


class Role(Enum):
    """What a layer shows of the open image."""

    IMAGE = "image"
    CLASS_MAP = "class map"
    PROTOTYPE_MAP = "prototype map"
    MASK = "mask"


def role_of(layer: Layer) -> Role | None:
    """Return what a layer is for this plugin, or None where it is a person's own.

    One that napari has made of such a layer, of another kind, says the same of itself, and is a
    person's own: labels of a class map, a channel of the image.
    """
    said = layer.metadata.get(KEY)
    role = said.get("role") if isinstance(said, Mapping) else None
    if not isinstance(role, Role):
        return None  # of another program
    if role is Role.MASK:
        return role if isinstance(layer, Labels) else None
    is_kind = isinstance(layer, Image) and layer.rgb == (role is Role.IMAGE)
    return role if is_kind else None


def class_of(layer: Layer) -> int | None:
    """Return the class id of a layer with a class map."""
    said = layer.metadata.get(KEY)
    return said.get("class_id") if isinstance(said, Mapping) else None


def rename(layer: Layer, name: str) -> None:
    """Give a layer a new name, unless a person has given it one."""
    said = layer.metadata[KEY]
    if layer.name == said.get("named", layer.name):
        layer.name = shown_name(name)
        # napari may have made the name a unique one; a copy of the layer keeps what is said here.
        layer.metadata = layer.metadata | {KEY: {**said, "named": layer.name}}


def fit_contrast(layer: Image, values: NDArray[np.float32]) -> None:
    """Let the contrast limits of a layer follow its values, unless a person has set them."""
    said, limits = layer.metadata[KEY], tuple(layer.contrast_limits)
    low, high = limits_of(values)
    if limits == said.get("limits", limits):
        limits = low, high
        layer.metadata = layer.metadata | {KEY: {**said, "limits": limits}}
    layer.contrast_limits_range = min(low, limits[0]), max(high, limits[1])
    layer.contrast_limits = limits


def disown(layer: Layer) -> None:
    """Make a layer of this plugin a person's own."""
    layer.metadata = {key: said for key, said in layer.metadata.items() if key != KEY}


def own_layers(layers: Any) -> Iterator[Layer]:
    """Return those layers of a viewer that this plugin has made."""
    return (layer for layer in list(layers) if role_of(layer) is not None)


def image_layer(pixels: NDArray[np.uint8], name: str) -> Image:
    """Return a layer of the image itself, ``(H, W, 3)``, RGB."""
    return Image(pixels, rgb=True, name=shown_name(name), metadata={KEY: {"role": Role.IMAGE}})


def class_map_layer(values: NDArray[np.float32], of_class: TissueClass) -> Image:
    """Return a layer of a class map, ``(H, W)`` in 0..1, from clear to the class's colour."""
    return Image(
        values,
        name=map_name(of_class),
        colormap=class_colormap(of_class),
        contrast_limits=(0.0, 1.0),
        blending="translucent",
        opacity=0.7,
        visible=False,
        metadata={KEY: {"role": Role.CLASS_MAP, "class_id": of_class.id}},
    )


def map_name(of_class: TissueClass) -> str:
    """Return what the layer of a class map is called."""
    return shown_name(f"Map of {of_class.name}")


def shown_name(name: str) -> str:
    """Return a name for a layer as napari's tooltips show it, which take "<" for HTML."""
    return name.replace("<", "\N{SINGLE LEFT-POINTING ANGLE QUOTATION MARK}")


def prototype_map_layer(values: NDArray[np.float32], name: str) -> Image:
    """Return a layer of where a prototype is, ``(H, W)``, unbounded."""
    return Image(
        values,
        name=shown_name(name),
        colormap="viridis",
        contrast_limits=limits_of(values),
        blending="translucent",
        opacity=0.7,
        metadata={KEY: {"role": Role.PROTOTYPE_MAP}},
    )


def mask_layer(mask: NDArray[np.uint8], schema: ClassSchema, opacity: float) -> Labels:
    """Return an editable layer of a mask, ``(H, W)``, in the colours of the classes."""
    layer = Labels(
        mask,
        name="Mask",
        colormap=label_colormap(schema),
        features=class_features(schema),
        opacity=opacity,
        metadata={KEY: {"role": Role.MASK}},
    )
    layer.selected_label = schema.ids[0]
    return layer


def class_colormap(of_class: TissueClass) -> Colormap:
    """Return a colormap from clear to the colour of a class."""
    red, green, blue = (int(of_class.color[k : k + 2], 16) / 255 for k in (1, 3, 5))
    return Colormap([[red, green, blue, 0.0], [red, green, blue, 1.0]], name=of_class.name)


def label_colormap(schema: ClassSchema) -> DirectLabelColormap:
    """Return the colours of the classes; clear where there is none."""
    return DirectLabelColormap(color_dict=label_colors(schema))


def limits_of(values: NDArray[np.float32]) -> tuple[float, float]:
    """Return contrast limits over all values; napari wants the upper one above the lower."""
    low, high = float(values.min()), float(values.max())
    return low, max(high, low + 1e-6)
