"""State of the page of the prototype bank."""

from __future__ import annotations

from dataclasses import dataclass

from napari_protoseg.bank.bank import Prototype
from napari_protoseg.encoders.registry import DEFAULT_ENCODER, KNOWN_MODELS, licence_of
from napari_protoseg.errors import BankError
from napari_protoseg.jobs.bank import BankRequest, BuiltBank, build_project_bank, latest_bank
from napari_protoseg.jobs.chain import bank_standing
from napari_protoseg.project.folder import Project
from napari_protoseg.project.records import ImageRecord, Split
from napari_protoseg.schema import TissueClass
from napari_protoseg.workbench.image_maps import ImageMaps
from napari_protoseg.workbench.kept_standing import KeptStanding
from napari_protoseg.workbench.page import PageState
from napari_protoseg.workbench.session import Session


@dataclass(frozen=True)
class Card:
    """What the page shows of a prototype.

    Parameters
    ----------
    index
        Its row in the bank.
    title
        Name of its class, and its number within it from 1.
    tissue_class
        Its class.
    prototype
        What the bank knows of it.
    crops
        Its members that are images of the project, the most similar first.
    """

    index: int
    title: str
    tissue_class: TissueClass
    prototype: Prototype
    crops: tuple[ImageRecord, ...]


def classes_without_image(project: Project) -> tuple[str, ...]:
    """Return the names of the classes that no training image is known to hold."""
    present = project.present_classes(Split.TRAIN)
    return tuple(known.name for known in project.schema.classes if known.id not in present)


class BankState(PageState):
    """Builds the bank, shows its prototypes, mutes them.

    Parameters
    ----------
    session
        What all pages share.
    maps
        What the model at hand sees in the open image.
    """

    def __init__(self, session: Session, maps: ImageMaps) -> None:
        super().__init__(session)
        self._maps = maps
        self.request = BankRequest()
        self.bank: BuiltBank | None = None
        self.cards: tuple[Card, ...] = ()
        self.muted: frozenset[int] = frozenset()
        self._standing = KeptStanding(session, bank_standing)
        for signal in (
            session.opened,
            session.bank_changed,
            session.images_changed,
            session.schema_changed,
        ):
            signal.connect(self._standing.outdate)
        session.opened.connect(self._load)
        session.bank_changed.connect(self._load)
        session.images_changed.connect(self.changed.emit)
        session.schema_changed.connect(self._load)
        session.task_changed.connect(self.changed.emit)
        session.current_changed.connect(self.changed.emit)
        maps.changed.connect(self.changed.emit)

    def needs(self) -> str | None:
        """Return why a bank cannot be built now; None where it can."""
        if self.session.project is None:
            return "Open a project first."
        if (reason := self.session.cannot_write()) is not None:
            return reason
        missing = classes_without_image(self.session.project)
        if missing:
            return f"Label images first: no training image is known to hold {', '.join(missing)}."
        if self.request.encoder != DEFAULT_ENCODER and self.request.encoder_weights is None:
            return self._missing_weights()
        return None

    def standing(self) -> str:
        """Say why the newest bank is out of date, and which classes are muted as a whole."""
        words = [self._standing.words()]
        if silent := ", ".join(self._silent_classes()):
            words.append(f"All prototypes of {silent} are muted: they find nothing of it.")
        return " ".join(words).strip()

    def build(self) -> None:
        """Build a bank as `request` says.

        Raises
        ------
        BankError
            It cannot be built now.
        """
        reason = self.needs()
        if reason is not None:
            raise BankError(reason.rstrip("."), where="prototype bank", remedy="Then build it.")
        session = self.session
        job = build_project_bank(
            session.require_project(),
            self.request,
            device=session.device,
            now=session.now(),
            cache_bytes=session.settings().cache_bytes,
        )
        session.run("Build bank", job, self._built)

    def set_muted(self, index: int, muted: bool) -> None:
        """Mute a prototype, or let it take part again; maps and masks follow, the bank stays."""
        if self.bank is None:
            return
        wanted = self.muted | {index} if muted else self.muted - {index}
        self.session.require_project().set_muted_prototypes(self.bank.version, wanted)
        self.muted = wanted
        self.changed.emit()
        self.session.muted_changed.emit()

    def title_of(self, index: int | None) -> str:
        """Return the title of a prototype; its number where the bank has no such card."""
        return next((card.title for card in self.cards if card.index == index), f"{index}")

    def open_crop(self, image: ImageRecord) -> None:
        """Open the image that a crop was taken from; errors as `Session.show`."""
        self.session.show(self.session.require_project().image(image.known_id))

    @property
    def encoders(self) -> tuple[str, ...]:
        """Names of the encoders that are offered."""
        return tuple(name for name, known in KNOWN_MODELS.items() if known.architecture)

    @property
    def licence(self) -> str:
        """What may be done with the weights of the chosen encoder, as a sentence."""
        return licence_of(self.request.encoder).notice

    @property
    def mapped(self) -> int | None:
        """The prototype whose map is shown on the open image, or None."""
        return self._maps.prototype

    def map_needs(self, card: Card) -> str | None:
        """Return why a prototype cannot be shown on an image now; None where it can.

        Where no image is open, its nearest one is opened for it.
        """
        opens_one = self.session.current is None and bool(card.crops)
        return None if opens_one else self.maps_need()

    def show_card(self, card: Card, shown: bool) -> None:
        """Show where the prototype of a card is, or no prototype; errors as `show_map`.

        Raises
        ------
        ProjectError
            No image is open, and the one to open is not in the project any more.
        """
        if shown and self.session.current is None and card.crops:
            self.open_crop(card.crops[0])
        self.show_map(card.index if shown else None)

    def maps_need(self) -> str | None:
        """Return why no prototype can be shown on an image now; None where one can."""
        if self.session.current is None:
            return "Open an image first: click a crop."
        if self.bank is not None and self._maps.bank_version not in (None, self.bank.version):
            return f"The maps of the open image are of bank {self._maps.bank_version}."
        return None

    def show_map(self, index: int | None) -> None:
        """Show where a prototype is in the open image, or none.

        Raises
        ------
        BankError
            There is nothing to show it on.
        """
        reason = self.maps_need()
        if reason is not None:
            raise BankError(reason.rstrip("."), where="prototype map", remedy="Then show it.")
        self._maps.choose(index)

    def _missing_weights(self) -> str:
        name = self.request.encoder
        published = KNOWN_MODELS[name].publication if name in KNOWN_MODELS else None
        chosen = f"Choose a file with the weights of {name}, among the options"
        return f"{chosen}." if published is None else f"{chosen}: {published.source}."

    def _built(self, bank: BuiltBank | None) -> None:
        if bank is None:
            self.session.say("Stopped. What was encoded is kept, so that the next try is shorter.")
        else:
            self.session.say(f"Bank {bank.version} has {len(bank.bank.prototypes)} prototypes.")
            self.session.bank_changed.emit()

    def _silent_classes(self) -> list[str]:
        """Return the names of the classes whose prototypes are all muted."""
        heard = {card.tissue_class.id for card in self.cards if card.index not in self.muted}
        classes = {card.tissue_class.id: card.tissue_class.name for card in self.cards}
        return [name for number, name in classes.items() if number not in heard]

    def _load(self) -> None:
        self.bank, self.cards, self.muted = None, (), frozenset()
        if self.session.project is not None and self.session.project.latest_bank() is not None:
            self.session.attempt(self._read)
        self.changed.emit()

    def _read(self) -> None:
        project = self.session.require_project()
        newest, _ = latest_bank(project)
        if not project.schema.extends(newest.bank.schema):
            return  # `standing` says so
        self.bank = newest
        self.muted = project.muted_prototypes(self.bank.version)
        images = {image.content_hash: image for image in project.images()}
        classes = {c.id: c for c in project.schema.classes}
        cards: list[Card] = []
        for index, prototype in enumerate(self.bank.bank.prototypes):
            of_class = classes[prototype.class_id]
            number = 1 + sum(card.tissue_class == of_class for card in cards)
            crops = tuple(images[member] for member in prototype.members if member in images)
            cards.append(Card(index, f"{of_class.name} {number}", of_class, prototype, crops))
        self.cards = tuple(cards)
