"""State of the page of review: image by image, masks are looked at, corrected, accepted."""

from __future__ import annotations

from pathlib import Path

from psygnal import Signal

from napari_protoseg.errors import ProjectError
from napari_protoseg.jobs.apply import AppliedModel, ApplyModel, apply_model
from napari_protoseg.jobs.make_masks import MadeMasks, make_masks
from napari_protoseg.jobs.models import model_at_hand, newest_trained_round
from napari_protoseg.jobs.recipes import chosen_recipe
from napari_protoseg.masks.prediction import learn_margin
from napari_protoseg.masks.recipe import Background, Recipe
from napari_protoseg.project.records import ImageRecord, Origin, ReviewStatus
from napari_protoseg.review.edited_mask import Block, PixelOrigin
from napari_protoseg.workbench.bank_page import BankState
from napari_protoseg.workbench.image_maps import ImageMaps
from napari_protoseg.workbench.open_image import OpenImage
from napari_protoseg.workbench.page import PageState
from napari_protoseg.workbench.review_list import ReviewFilter, ReviewItem, ReviewList
from napari_protoseg.workbench.session import Session

_EDITED = {
    False: "each edit is saved at once, the mask as you go on",
    True: "what you do is kept in memory, and not saved yet",
}
"""What becomes of edits, by whether they are held up."""


class ReviewState(PageState):
    """Lists images with the state of their masks; steps through them; makes masks.

    Parameters
    ----------
    session
        What all pages share.
    opened, maps
        The open image, and what the model at hand sees in it.
    bank
        The prototypes whose maps can be shown.
    """

    listed = Signal()
    """Other images are listed, or their states have changed."""
    stands_otherwise = Signal()
    """Only `state_of_current` says something else: somebody has begun to draw, or saving hangs."""

    def __init__(
        self, session: Session, opened: OpenImage, maps: ImageMaps, bank: BankState
    ) -> None:
        super().__init__(session)
        self.opened = opened
        self.maps = maps
        self.bank = bank
        self._listing = ReviewFilter.ALL
        self._images: ReviewList | None = None
        for signal in (
            session.opened,
            session.images_changed,
            session.masks_changed,
            session.bank_changed,
            session.reviewed,
        ):
            signal.connect(self._outdate)
        opened.went_ahead.connect(self.stands_otherwise.emit)
        for signal in (
            opened.loaded,
            maps.changed,
            maps.began,
            session.current_changed,
            session.model_changed,
            session.recipe_changed,
            session.schema_changed,
            session.task_changed,
            bank.changed,
        ):
            signal.connect(self.changed.emit)

    def needs(self) -> str | None:
        """Return why there is nothing to review; None where there is."""
        if self.session.project is None:
            return "Open a project first."
        if (reason := self.session.read_only()) is not None:
            return reason
        if not self.images.all:
            return "The project has no images yet: add some on Labels."
        if self.session.project.latest_bank() is None:
            return "Build a prototype bank to see class maps here; masks can be drawn without one."
        return None

    @property
    def images(self) -> ReviewList:
        """The images as they stand now; read from the project when they are asked for."""
        if self._images is None:
            self._images = ReviewList()
            if self.session.project is not None:
                self.session.attempt(self._read)
        return self._images

    @property
    def current(self) -> ReviewItem | None:
        """The open image, as it stands in review."""
        current = self.session.current
        return None if current is None else self.images.item(current.id)

    def is_edited(self, item: ReviewItem) -> bool:
        """Tell whether it is the open image, and its mask was edited since it was stored."""
        current = self.session.current
        is_open = current is not None and current.id == item.image.id
        return is_open and self.opened.is_ahead and (item.mask is not None or self.opened.has_mask)

    def state_of(self, item: ReviewItem) -> str:
        """Say how a mask stands, edits included; nothing is read for it."""
        if not self.is_edited(item):
            return item.state()
        if item.mask is not None:
            return f"{item.state()}, edited since"
        return "edited" if item.status is None else f"{item.status.value}, edited"

    def state_of_current(self) -> str:
        """Say how the mask of the open image stands, and which model the maps are of.

        Where the image could not be read, neither is known to be so: say what can be done.
        """
        item = self.current
        if item is None:
            return ""
        if self.session.is_current_unread:
            return "It could not be read. Find images on Labels finds images that were moved."
        sight = self.maps.sight
        if self.is_edited(item):
            words = f"{self.state_of(item)}: {_EDITED[self.opened.is_held_up]}"
        elif item.mask is None and sight is not None:
            words = f"{item.state()} by {sight.key}; stored once accepted, corrected or saved"
        else:
            words = item.state()
        if self.maps.source:
            maps = f"Maps of {self.maps.source}."
        elif self.maps.is_looking:
            maps = "Its maps are being made."
        else:
            maps = "No maps yet." if item.is_proposed else "No model yet."
        return f"{words[0].upper()}{words[1:]}. {maps}"

    def show_listing(self, listing: ReviewFilter) -> None:
        """List the images that fit now."""
        self._listing = listing
        self._outdate()

    def open_row(self, row: int) -> None:
        """Open a listed image; errors as `Session.show`."""
        self.session.show(self.images[row].image)

    def step(self, by: int) -> None:
        """Open the next listed image (1) or the one before (-1).

        Raises
        ------
        ProjectError, StorageError
            No project is open, or the open image cannot be saved and stays open.
        """
        self.session.require_project()
        current = self.session.current
        neighbour = self.images.neighbour(None if current is None else current.id, by)
        if neighbour is not None:
            self.session.show(neighbour)
        elif self.images.all:
            self.session.say("That was the last image." if by > 0 else "This is the first image.")
        else:
            self.session.say("The project has no images yet: add some on Labels.")

    def save(self) -> None:
        """Save the mask of the open image as it is seen.

        Raises
        ------
        ProjectError, StorageError
            No image is open, it has no mask, or it cannot be saved.
        """
        self._save_whole(self._require_image("save"), "save")
        self.session.say("The mask is saved.")

    def mark(self, status: ReviewStatus) -> None:
        """Say something of the mask of the open image, save it, and open the next.

        Raises
        ------
        ProjectError, StorageError
            No image is open, it has no mask to accept, or cannot be saved; it stays open.
        """
        image = self._require_image(f"mark as {status.value}")
        if status is ReviewStatus.ACCEPTED:
            self._save_whole(image, "accept")
        else:
            self.opened.save()
        self.session.require_project().set_review_status(image.known_id, status)
        self.session.reviewed.emit()
        self.step(1)

    def release(self, block: Block) -> None:
        """Give pixels of the open mask back to the model, which sets them anew if it is at hand.

        Parameters
        ----------
        block
            Rows and columns in which all are given back that this person has set, and all that
            were imported.

        Raises
        ------
        ProjectError
            No image is open.
        """
        self._require_image("give pixels back")
        count = self.opened.release(block)
        if not count:
            self.session.say("Nothing in view is yours, or imported: nothing was given back.")
            return
        sight = self.maps.sight
        is_set_anew = sight is not None and self.opened.propose(sight, anew=True)
        pixels = "1 pixel is" if count == 1 else f"{count:,} pixels are"
        undo = "Ctrl+Z, twice, takes it back" if is_set_anew else "Ctrl+Z takes it back"
        self.session.say(f"{pixels} the model's again; {undo}.")
        self.changed.emit()

    def origin_at(self, row: int, column: int) -> str:
        """Say who has set a pixel of the open mask, and when."""
        found = self.opened.origin_of(row, column)
        return "" if found is None else _words_of(found)

    def unmark(self) -> None:
        """Take back what was said of the mask of the open image."""
        image = self._require_image("unmark")
        self.session.require_project().set_review_status(image.known_id, None)
        self.session.reviewed.emit()

    def set_background(self, background: Background) -> None:
        """Choose which pixels stay unlabelled; the margin starts where Otsu's method finds it."""
        margin = None
        if background is Background.MARGIN and self.maps.sight is not None:
            margin = round(learn_margin([self.maps.sight.prediction.class_maps[0]]), 2)
        self._change(background=background, margin=margin)

    def set_margin(self, margin: float) -> None:
        """Choose how high the highest class map must be for a pixel to get a class, 0..1."""
        self._change(margin=margin)

    def masks_need(self) -> str | None:
        """Return why masks cannot be made now; None where they can."""
        if self.session.project is None:
            return "Open a project first."
        if (reason := self.session.cannot_write()) is not None:
            return reason
        if newest_trained_round(self.session.project) is None:
            return "Train first."
        return None

    def make_masks(self) -> None:
        """Make the masks of all images that were not accepted, with the newest round.

        Raises
        ------
        ProjectError
            They cannot be made now.
        """
        reason = self.masks_need()
        if reason is not None:
            raise ProjectError(reason.rstrip("."), where="review", remedy="Then make masks.")
        session = self.session
        job = make_masks(
            session.require_project(), session.recipe, device=session.device, now=session.now()
        )
        session.run("Make masks", job, self._made, stores=[session.masks_changed])

    def apply_needs(self, images: Path | None, model_project: Path | None) -> str | None:
        """Return why a model cannot be applied to `images` now; None where it can."""
        if self.session.project is None:
            return "Open a project first."
        if (reason := self.session.cannot_write()) is not None:
            return reason
        if images is None:
            return "Choose a folder of images."
        return self.masks_need() if model_project is None else None

    def apply(
        self,
        images: Path,
        model_project: Path | None = None,
        labels: Path | None = None,
        pixel_size: str | None = None,
    ) -> None:
        """Add the images of a folder, and make their masks by a model of this or another project.

        Parameters
        ----------
        images
            Their folder.
        model_project
            Folder of the project whose model it is; None for this one.
        labels
            Table of image-level labels; None to take them from names or folders.
        pixel_size
            Micrometres per pixel, or a regular expression over the file name; None where the files
            or the table tell.

        Raises
        ------
        ProjectError
            No project is open, or a task is under way.
        """
        session = self.session
        request = ApplyModel(
            images=images,
            model_project=model_project,
            labels=labels,
            micrometres_per_pixel=pixel_size,
        )
        project = session.require_project()
        job = apply_model(
            project,
            request,
            chosen_recipe(project),
            device=session.device,
            now=session.now(),
        )
        stores = [session.images_changed, session.masks_changed]
        session.run("Apply model", job, self._applied, stores=stores)

    def _change(self, **changes: object) -> None:
        self.session.set_recipe(Recipe.model_validate(self.session.recipe.model_dump() | changes))

    def _require_image(self, verb: str) -> ImageRecord:
        current = self.session.current
        if current is None or self.opened.image is None:
            raise ProjectError("no image is open", where=verb, remedy="Open one from the list.")
        return current

    def _save_whole(self, image: ImageRecord, verb: str) -> None:
        if not self.opened.save_whole():
            raise ProjectError(
                f"there is no mask to {verb} yet",
                where=image.path.name,
                remedy="Draw one, wait until a model has proposed one, or redo what was undone.",
            )

    def _made(self, made: MadeMasks | None) -> None:
        if made is None:
            self.session.say("Stopped. The masks that were made until then are stored.")
        else:
            self.session.say(f"{made.made} masks are made.")
        self.session.masks_changed.emit()

    def _applied(self, applied: AppliedModel | None) -> None:
        if applied is None:
            self.session.say("Stopped. The images are in the project, and masks made until then.")
        else:
            words = f"{applied.added} images added, {applied.predicted} masks made."
            if applied.unlabelled:
                words += (
                    f" {applied.unlabelled} have no image-level labels: banks and trainings leave "
                    "them out until they are labelled."
                )
            self.session.say(words)
        self.session.images_changed.emit()
        self.session.masks_changed.emit()

    def _outdate(self) -> None:
        self._images = None
        self.listed.emit()
        self.changed.emit()

    def _read(self) -> None:
        project = self.session.require_project()
        states, masks = project.review_states(), project.mask_summaries()
        proposes = model_at_hand(project) is not None
        images = project.images()
        self._images = ReviewList(images, states, masks, self._listing, proposes=proposes)


def _words_of(found: PixelOrigin) -> str:
    """Say who has set a pixel, and when."""
    by_whom = found.person or "a person"
    of_round = "" if found.round_id is None else f" of round {found.round_id}"
    words = {
        Origin.NONE: "set by nobody",
        Origin.MODEL: f"set by the model{of_round}",
        Origin.PERSON: f"set by {by_whom}",
        Origin.IMPORTED: f"imported by {by_whom}",
        Origin.PROPAGATED: f"spread from what {by_whom} has set",
    }[found.origin]
    if found.time is None or found.origin is Origin.NONE:
        return words
    return f"{words}, {found.time.astimezone():%Y-%m-%d %H:%M}"
