"""The open image on napari's canvas: its layers follow the workbench, and what is drawn is kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from napari.layers import Image, Labels, Layer
from psygnal import SignalInstance

from napari_protoseg.plugin.class_colors import class_features
from napari_protoseg.plugin.layers import (
    KEY,
    Role,
    class_colormap,
    class_map_layer,
    class_of,
    image_layer,
    label_colormap,
    limits_of,
    mask_layer,
    own_layers,
    prototype_map_layer,
    role_of,
)
from napari_protoseg.schema import ClassSchema
from napari_protoseg.workbench.workbench import Workbench


class Canvas:
    """Shows the open image of a workbench in a viewer.

    A layer that a person deletes stays away until the next image is opened or `restore` is
    called; one that is renamed, hidden or recoloured stays so.

    Parameters
    ----------
    viewer
        Its other layers are left alone.
    bench
        Whose image it is.
    """

    def __init__(self, viewer: Any, bench: Workbench) -> None:
        self._viewer = viewer
        self._bench = bench
        self._mask: Labels | None = None
        self._mode = "pan_zoom"
        self._lacks_maps = True
        self._listens: list[tuple[SignalInstance, Callable[..., Any]]] = []
        opened, session = bench.opened, bench.session
        for signal, slot in (
            (session.current_changed, self._hold_brush),
            (opened.loaded, self._show_image),
            (opened.mask_changed, self._show_mask),
            (bench.maps.changed, self._show_maps),
            (session.schema_changed, self._show_classes),
        ):
            signal.connect(slot)
            self._listens.append((signal, slot))

    @property
    def bench(self) -> Workbench:
        """Whose image is shown."""
        return self._bench

    def close(self, *, with_layers: bool = True) -> None:
        """Let go of viewer and workbench.

        Parameters
        ----------
        with_layers
            Take the layers away too; not where the viewer itself is closed.
        """
        for signal, slot in self._listens:
            signal.disconnect(slot, missing_ok=True)
        self._listens.clear()
        self._bench.opened.drawn = None
        if with_layers:
            self._clear()
        self._mask = None

    def restore(self) -> None:
        """Bring back the layers that were deleted; what was drawn is on them."""
        mask = self._mask
        if mask is not None and mask not in self._viewer.layers:
            self._viewer.add_layer(mask)
        self._show_pixels()
        self._lacks_maps = True
        self._show_maps()

    def pick_class(self, class_id: int) -> None:
        """Draw with a class from now on."""
        if self._mask is not None:
            self._viewer.layers.selection.active = self._mask
            self._mask.selected_label = class_id

    def set_mask_opacity(self, opacity: float) -> None:
        """Make the mask clearer (0) or stronger (1)."""
        if self._mask is not None:
            self._mask.opacity = opacity

    def _hold_brush(self) -> None:
        """Let nobody draw on the mask of the image before while another one is read."""
        if self._mask is not None and self._mask.editable:
            self._mode = self._mask.mode
            self._mask.editable = False

    def _show_image(self) -> None:
        """Show another image."""
        opened = self._bench.opened
        if opened.pixels is None or opened.mask is None or self._schema() is None:
            self._clear()
            return
        before = self._one(Role.IMAGE)
        is_new = before is None or before.data.shape != opened.pixels.shape
        self._show_pixels()
        self._put_mask()
        self._lacks_maps = True
        self._show_maps()
        if is_new:
            self._viewer.reset_view()

    def _show_pixels(self) -> None:
        opened = self._bench.opened
        if opened.pixels is None or opened.image is None:
            return
        layer = self._one(Role.IMAGE)
        name = opened.image.path.name
        if layer is None:
            self._viewer.add_layer(image_layer(opened.pixels, name))
            self._viewer.layers.move(len(self._viewer.layers) - 1, 0)
        else:
            layer.data = opened.pixels
            if layer.name == layer.metadata[KEY].get("named"):
                layer.name = name
        layer = self._one(Role.IMAGE)
        assert layer is not None
        layer.metadata[KEY]["named"] = layer.name

    def _put_mask(self) -> None:
        """Show the mask of another image, with nothing to undo yet."""
        mask, schema = self._bench.opened.mask, self._schema()
        assert mask is not None
        assert schema is not None
        layer = self._one(Role.MASK)
        if isinstance(layer, Labels):
            self._hold_brush()
            layer.data = mask.copy()
            # That it was not editable empties the history, without which the next undo would write
            # pixels of the image before; a new layer would do so too, and cost half a second.
            layer.editable = True
            layer.mode = self._mode
        else:
            layer = mask_layer(mask.copy(), schema)
            self._viewer.add_layer(layer)
        self._viewer.layers.selection.active = layer
        self._mask = layer
        # Kept with its layer, so that what was drawn outlives a layer that a person deletes.
        self._bench.opened.drawn = lambda: np.array(layer.data, dtype=np.uint8)

    def _show_mask(self) -> None:
        """Write what has changed into the layer, so that it can be undone like a stroke."""
        mask, layer = self._bench.opened.mask, self._mask
        if mask is None or layer is None or layer.data.shape != mask.shape:
            return
        changed = np.nonzero(layer.data != mask)
        if changed[0].size:
            layer.data_setitem(changed, mask[changed])

    def _show_maps(self) -> None:
        maps, schema = self._bench.maps, self._schema()
        if schema is None:
            return
        classes = {known.id: known for known in schema.classes}
        shown = {class_of(layer): layer for layer in self._all(Role.CLASS_MAP)}
        for class_id, values in maps.class_maps.items():
            if class_id in shown:
                shown.pop(class_id).data = values
            elif class_id in classes and self._lacks_maps:
                self._below_mask(class_map_layer(values, classes[class_id]))
        self._lacks_maps = self._lacks_maps and not maps.class_maps
        mask = self._bench.opened.mask
        for layer in shown.values():  # of another image
            layer.data = np.zeros((1, 1) if mask is None else mask.shape, dtype=np.float32)
        self._show_prototype()

    def _show_prototype(self) -> None:
        values, layer = self._bench.maps.prototype_map, self._one(Role.PROTOTYPE_MAP)
        if values is None:
            if layer is not None:
                self._viewer.layers.remove(layer)
            return
        name = self._bench.bank.title_of(self._bench.maps.prototype)
        if isinstance(layer, Image):
            layer.data = values
            layer.contrast_limits_range = layer.contrast_limits = limits_of(values)
            layer.name = f"Prototype {name}"
        else:
            self._below_mask(prototype_map_layer(values, f"Prototype {name}"))

    def _show_classes(self) -> None:
        """Follow the names and colours of the classes."""
        schema = self._schema()
        if schema is None:
            return
        if self._mask is not None:
            self._mask.colormap = label_colormap(schema)
            self._mask.features = class_features(schema)
        classes = {known.id: known for known in schema.classes}
        for layer in self._all(Role.CLASS_MAP):
            of_class = classes.get(class_of(layer) or 0)
            if of_class is not None and isinstance(layer, Image):
                layer.colormap = class_colormap(of_class)

    def _below_mask(self, layer: Layer) -> None:
        mask = self._one(Role.MASK)
        place = len(self._viewer.layers) if mask is None else self._viewer.layers.index(mask)
        active = self._viewer.layers.selection.active
        self._viewer.layers.insert(place, layer)
        self._viewer.layers.selection.active = active  # a new layer must not take the brush away

    def _clear(self) -> None:
        for layer in own_layers(self._viewer.layers):
            self._viewer.layers.remove(layer)
        self._mask = None

    def _schema(self) -> ClassSchema | None:
        project = self._bench.session.project
        return None if project is None else project.schema

    def _one(self, role: Role) -> Layer | None:
        return next(iter(self._all(role)), None)

    def _all(self, role: Role) -> list[Layer]:
        return [layer for layer in own_layers(self._viewer.layers) if role_of(layer) is role]
