"""What a person has set in napari's Preferences, under ProtoSeg."""

from __future__ import annotations

from collections.abc import Callable

from napari.settings import get_plugin_settings

from napari_protoseg.workbench.session import Settings

PLUGIN = "napari-protoseg"


def read_settings() -> Settings:
    """Return the settings as they stand now."""
    chosen = get_plugin_settings(PLUGIN).workbench
    return Settings(
        device=chosen.device, person=chosen.person, cache_gigabytes=chosen.cache_gigabytes
    )


def follow_settings(heard: Callable[[], object]) -> Callable[[], None]:
    """Call `heard` after each change of a setting; return what ends that."""
    events = get_plugin_settings(PLUGIN).workbench.events

    def tell(event: object) -> None:
        heard()

    events.connect(tell)

    def end() -> None:
        events.disconnect(tell)

    return end
