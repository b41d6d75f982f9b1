"""The workspaces of `tiny_project`."""

from tiny_project import (  # noqa: F401
    banked,
    banked_workspace,
    both_stages,
    both_stages_workspace,
    made,
    made_workspace,
    trained,
    trained_workspace,
)
