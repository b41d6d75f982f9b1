"""What a person has set in napari's Preferences, in the window."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("napari")

from napari.settings import get_plugin_settings

from napari_protoseg.plugin.settings import PLUGIN
from napari_protoseg.training.devices import describe_device
from napari_protoseg.workbench.workbench import Workbench


def test_a_change_in_the_preferences_is_followed_at_once(user: Any, bench: Workbench):
    chosen = get_plugin_settings(PLUGIN).workbench
    user.page("Training")
    assert user.text("device") == describe_device(bench.session.device)
    before = user.text("device")
    try:
        chosen.person, chosen.device, chosen.cache_gigabytes = "Ada", "mps", 2
        assert bench.session.settings().device == "mps"
        assert bench.session.settings().cache_bytes == 2 * 2**30
        assert bench.session.person == "Ada"
        assert "mps" in user.text("device").casefold()
        chosen.device = "auto"
        assert user.text("device") == before
    finally:
        chosen.person, chosen.device, chosen.cache_gigabytes = "", "auto", 4
