"""The open image on napari's canvas: its layers follow the workbench, and what is drawn is kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from napari.layers import Image, Labels, Layer
from numpy.typing import NDArray
from psygnal import Signal, SignalInstance

from napari_protoseg.plugin.class_colors import class_features
from napari_protoseg.plugin.layers import (
    Role,
    class_colormap,
    class_map_layer,
    class_of,
    disown,
    fit_contrast,
    image_layer,
    label_colormap,
    map_name,
    mask_layer,
    own_layers,
    prototype_map_layer,
    rename,
    role_of,
    shown_name,
)
from napari_protoseg.plugin.strokes import Strokes
from napari_protoseg.review.edited_mask import Block
from napari_protoseg.schema import IGNORE, ClassSchema
from napari_protoseg.workbench.workbench import Workbench

_DRAWS_NOTHING = ("pan_zoom", "transform", "pick")
"""Modes of a labels layer in which the mouse changes no pixel."""


class Canvas:
    """Shows the open image of a workbench in a viewer.

    A layer that a person deletes stays away until the next image is opened or `restore` is
    called, the mask also until a class is picked to draw with; one that is renamed, hidden or
    recoloured, or whose contrast a person has set, stays so. Copies of images and maps follow like
    these; a copy of the mask takes its place where that is deleted and the copy is like it, and is
    else a person's own layer, as it is as soon as another image is open.

    Parameters
    ----------
    viewer
        Its other layers are left alone.
    bench
        Whose image it is.
    """

    class_changed = Signal()
    """Another class is drawn with, or there is nothing to draw on."""
    opacity_changed = Signal()
    """The mask is clearer or stronger than before, or is another layer."""
    pointed = Signal()
    """The mouse points somewhere else."""

    def __init__(self, viewer: Any, bench: Workbench) -> None:
        self._viewer = viewer
        self._bench = bench
        self._mask: Labels | None = None
        self._strokes: Strokes | None = None
        self._mode = "pan_zoom"
        self._opacity = 0.5
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
        viewer.layers.events.removed.connect(self._take_copy)
        viewer.cursor.events.position.connect(self._tell_pointed)

    @property
    def bench(self) -> Workbench:
        """Whose image is shown."""
        return self._bench

    @property
    def picked_class(self) -> int | None:
        """The class id that is drawn with, 0 to erase; None where there is nothing to draw on."""
        return None if self._mask is None else int(self._mask.selected_label)

    @property
    def mask_opacity(self) -> float:
        """How strong the mask is, 0..1; where none is shown, that of the next one."""
        return self._opacity if self._mask is None else float(self._mask.opacity)

    def close(self, *, with_layers: bool = True, keeps_mask: bool = False) -> None:
        """Let go of viewer and workbench.

        Parameters
        ----------
        with_layers
            Take the layers away too; not where the viewer itself is closed.
        keeps_mask
            Leave the mask behind, as a layer of the person's own that says what it is.
        """
        for signal, slot in self._listens:
            signal.disconnect(slot, missing_ok=True)
        self._listens.clear()
        self._viewer.layers.events.removed.disconnect(self._take_copy)
        self._viewer.cursor.events.position.disconnect(self._tell_pointed)
        if keeps_mask:
            self._leave_mask()
        self._draw_on(None)
        if with_layers:
            self._clear()

    def restore(self) -> None:
        """Bring back the layers that were deleted; what was drawn is on them."""
        self._bring_mask_back()
        self._show_pixels()
        self._lacks_maps = True
        self._show_maps()

    def pick_class(self, class_id: int) -> None:
        """Draw with a class from now on: with the brush, unless another tool is in hand."""
        mask = self._mask
        if mask is None:
            return
        self._bring_mask_back()
        self._viewer.layers.selection.active = mask
        mask.selected_label = class_id
        if not mask.editable and self._mode in _DRAWS_NOTHING:
            self._mode = "paint"  # as soon as the next image is there
        elif mask.editable and mask.mode in _DRAWS_NOTHING:
            mask.mode = "paint"

    def set_mask_opacity(self, opacity: float) -> None:
        """Make the mask clearer (0) or stronger (1), also that of the next image."""
        self._opacity = opacity
        if self._mask is not None:
            self._mask.opacity = opacity

    def undo(self) -> None:
        """Undo what was done last to the mask, where it is shown."""
        if self._mask in self._viewer.layers:
            self._bench.opened.undo()

    def redo(self) -> None:
        """Redo what was undone last, where the mask is shown."""
        if self._mask in self._viewer.layers:
            self._bench.opened.redo()

    def in_view(self) -> Block | None:
        """Return the rows and columns of the mask that are seen; None where it is not shown."""
        mask = self._mask
        if mask is None or mask not in self._viewer.layers:
            return None
        (top, left), (bottom, right) = mask.corner_pixels.tolist()
        return slice(top, bottom + 1), slice(left, right + 1)

    def pointed_pixel(self) -> tuple[int, int] | None:
        """Return row and column that the mouse points at; None where no mask is shown."""
        mask = self._mask
        if mask is None or mask not in self._viewer.layers:
            return None
        row, column = mask.world_to_data(self._viewer.cursor.position)[-2:]
        return round(float(row)), round(float(column))

    def _tell_pointed(self) -> None:
        self.pointed.emit()

    def _draw_on(self, layer: Labels | None) -> None:
        """Take what is drawn on a layer for the mask from now on."""
        if self._mask is not None:
            self._mask.events.selected_label.disconnect(self._tell_class)
            self._mask.events.opacity.disconnect(self._follow_opacity)
        if self._strokes is not None:
            self._strokes.close()
        self._mask, self._strokes = layer, None
        self._bench.opened.drawn = None
        if layer is not None:
            # Kept with its layer, so that what was drawn outlives a layer that a person deletes.
            self._bench.opened.drawn = lambda: _class_ids(layer.data)
            self._strokes = Strokes(layer, self._bench.opened)
            layer.events.selected_label.connect(self._tell_class)
            layer.events.opacity.connect(self._follow_opacity)
            self._follow_opacity()
        self.class_changed.emit()

    def _follow_opacity(self) -> None:
        """Keep what was chosen in napari's own controls, or here, for the next mask."""
        self._opacity = self.mask_opacity
        self.opacity_changed.emit()

    def _tell_class(self) -> None:
        self.class_changed.emit()

    def _take_copy(self, event: Any) -> None:
        """Draw on a copy of the mask where the mask itself was deleted."""
        mask = self._mask
        if mask is None or event.value is not mask:
            return
        same = None
        for copy in self._all(Role.MASK):
            if same is None and np.array_equal(copy.data, mask.data):
                same = copy
            else:
                disown(copy)  # of the mask as it was before: a person's own
        if isinstance(same, Labels):
            self._draw_on(same)

    def _bring_mask_back(self) -> None:
        if self._mask is not None and self._mask not in self._viewer.layers:
            self._viewer.add_layer(self._mask)

    def _leave_mask(self) -> None:
        image = self._bench.opened.image
        if self._mask is None or image is None:
            return
        self._bring_mask_back()
        self._mask.name = shown_name(f"unsaved mask of {image.path.name}")
        disown(self._mask)

    def _hold_brush(self) -> None:
        """Let nobody draw on the mask of the image before while another one is read."""
        if self._mask is not None and self._mask.editable:
            self._mode = self._mask.mode
            self._mask.editable = False

    def _free_brush(self, layer: Labels) -> None:
        layer.editable = self._can_draw
        if layer.editable:
            layer.mode = self._mode

    @property
    def _can_draw(self) -> bool:
        project = self._bench.session.project
        return project is None or not project.is_read_only

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
        name = opened.image.path.name
        if self._one(Role.IMAGE) is None:
            self._viewer.add_layer(image_layer(opened.pixels, name))
            self._viewer.layers.move(len(self._viewer.layers) - 1, 0)
        for layer in self._all(Role.IMAGE):
            layer.data = opened.pixels
            rename(layer, name)

    def _put_mask(self) -> None:
        """Show the mask of another image."""
        mask, schema = self._bench.opened.mask, self._schema()
        assert mask is not None
        assert schema is not None
        layer = self._mask if self._mask in self._viewer.layers else None
        for copy in self._all(Role.MASK):
            if copy is not layer:
                disown(copy)  # of an image before
        if layer is None:
            layer = mask_layer(mask.copy(), schema, self._opacity)
            layer.editable = self._can_draw
            self._viewer.add_layer(layer)
        else:
            # A new layer would do as well, but costs half a second.
            self._fill(layer, mask)
        self._viewer.layers.selection.active = layer
        self._draw_on(layer)

    def _show_mask(self, block: Block) -> None:
        """Let what has changed enter the layer: it stays the same array."""
        opened, layer, strokes = self._bench.opened, self._mask, self._strokes
        mask = opened.mask
        if mask is None or opened.drawn is None or layer is None or strokes is None:
            return  # the image that is open is not shown yet
        if layer.data.shape == mask.shape:
            strokes.enter(mask, block)
        else:  # a person or another plugin has put something else there
            self._fill(layer, mask)
            opened.session.say("The mask layer was not of the size of its image: it was put back.")

    def _fill(self, layer: Labels, mask: NDArray[np.uint8]) -> None:
        """Give a layer that is drawn on other data, and the tool that was in hand."""
        self._hold_brush()
        layer.data = mask.copy()
        self._free_brush(layer)

    def _show_maps(self) -> None:
        maps, schema = self._bench.maps, self._schema()
        if schema is None:
            return
        classes = {known.id: known for known in schema.classes}
        mask = self._bench.opened.mask
        nothing = np.zeros((1, 1) if mask is None else mask.shape, dtype=np.float32)
        shown = self._all(Role.CLASS_MAP)
        for layer in shown:
            layer.data = maps.class_maps.get(class_of(layer) or 0, nothing)
        lacking = maps.class_maps.keys() - {class_of(layer) for layer in shown}
        for class_id, values in maps.class_maps.items():
            if class_id in lacking & classes.keys() and self._lacks_maps:
                layer = class_map_layer(values, classes[class_id])
                self._below_mask(layer)
                rename(layer, map_name(classes[class_id]))
        self._lacks_maps = self._lacks_maps and not maps.class_maps
        self._show_prototype(nothing)

    def _show_prototype(self, nothing: NDArray[np.float32]) -> None:
        maps, shown = self._bench.maps, self._all(Role.PROTOTYPE_MAP)
        if maps.prototype is None:
            for layer in shown:
                self._viewer.layers.remove(layer)
            return
        seen = maps.prototype_map
        values = nothing if seen is None else seen
        name = f"Prototype {self._bench.bank.title_of(maps.prototype)}"
        if not shown and seen is not None:
            shown = [prototype_map_layer(values, name)]
            self._below_mask(shown[0])
        for layer in shown:
            assert isinstance(layer, Image)
            layer.data = values
            fit_contrast(layer, values)
            rename(layer, name)

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
                rename(layer, map_name(of_class))

    def _below_mask(self, layer: Layer) -> None:
        mask = self._one(Role.MASK)
        place = len(self._viewer.layers) if mask is None else self._viewer.layers.index(mask)
        active = self._viewer.layers.selection.active
        self._viewer.layers.insert(place, layer)
        self._viewer.layers.selection.active = active  # a new layer must not take the brush away

    def _clear(self) -> None:
        self._draw_on(None)
        # From the top. From below, each removal gives the lowest layer left another blending, and a
        # window that is then docked has crashed in software rendering.
        for layer in reversed(list(own_layers(self._viewer.layers))):
            self._viewer.layers.remove(layer)

    def _schema(self) -> ClassSchema | None:
        project = self._bench.session.project
        return None if project is None else project.schema

    def _one(self, role: Role) -> Layer | None:
        return next(iter(self._all(role)), None)

    def _all(self, role: Role) -> list[Layer]:
        return [layer for layer in own_layers(self._viewer.layers) if role_of(layer) is role]


def _class_ids(drawn: Any) -> NDArray[np.uint8]:
    """Return what is drawn, also on a layer that napari was told to convert to larger numbers."""
    values = np.asarray(drawn)
    if values.dtype == np.uint8:
        return values
    ids = values.astype(np.uint8)
    ids[ids != values] = IGNORE  # cut to eight bits it would pass for another class
    return ids
