"""The commands of ``protoseg``: options in, jobs driven, results out."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from napari_protoseg import __version__
from napari_protoseg.bank.bank import BankConfig
from napari_protoseg.cli.again import again
from napari_protoseg.cli.care import backup, check, relocate
from napari_protoseg.cli.classes import classes as class_commands
from napari_protoseg.cli.encoder_table import encoder_table
from napari_protoseg.cli.ended_round import tell_ended_round
from napari_protoseg.cli.opening import opened_to_read, opened_to_write
from napari_protoseg.cli.options import (
    AsJson,
    Classes,
    DeviceName,
    EncoderWeights,
    Labels,
    Out,
    ProjectArgument,
    Quiet,
    class_names,
    cluster_numbers,
    said,
)
from napari_protoseg.cli.second_stage import segment, write_network
from napari_protoseg.cli.terminal import Terminal
from napari_protoseg.encoders.registry import DEFAULT_ENCODER
from napari_protoseg.evaluation.protocol import Background as BackgroundCount
from napari_protoseg.evaluation.protocol import ImageLabels, MaskCodes, Protocol
from napari_protoseg.evaluation.table import table
from napari_protoseg.jobs.bank import BankRequest, build_project_bank
from napari_protoseg.jobs.demo import DemoRequest, run_demo
from napari_protoseg.jobs.evaluate import evaluate_masks
from napari_protoseg.jobs.export import export_project
from napari_protoseg.jobs.export_plan import Exportable, ExportFormat
from napari_protoseg.jobs.info import describe_encoders, describe_program, describe_project
from napari_protoseg.jobs.muted import with_muted_of_project
from napari_protoseg.jobs.new import NewProject, new_project
from napari_protoseg.jobs.predict import predict_images
from napari_protoseg.jobs.preparation import TrainRequest
from napari_protoseg.jobs.recipes import recipe_of
from napari_protoseg.jobs.train import resume_training, train_project
from napari_protoseg.masks.recipe import SEGMENTATION, Background, LabelCondition, Recipe
from napari_protoseg.project.folder import Project
from napari_protoseg.project.records import Stage
from napari_protoseg.storage import write_atomically
from napari_protoseg.training.config import (
    PRESETS,
    RELEASED,
    Compat,
    Matching,
    Preset,
    TrainingConfig,
)
from napari_protoseg.training.devices import choose_device

application = typer.Typer(
    name="protoseg",
    help="Pixel masks of tissue from image-level labels.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

for _command in (check, backup, relocate):
    application.command()(_command)
application.add_typer(class_commands, name="classes")


def _now() -> datetime:
    return datetime.now(UTC)


@application.command()
def new(
    project: ProjectArgument,
    images: Annotated[Path, typer.Option(help="Folder of images.")],
    labels: Labels = None,
    classes: Classes = None,
    schema: Annotated[Path | None, typer.Option(help="Class schema, a JSON file.")] = None,
    masks: Annotated[
        Path | None,
        typer.Option(help="Folder of true masks, named as their images; these are validated on."),
    ] = None,
    case_pattern: Annotated[
        str | None, typer.Option(help="Regular expression over the name; its group is the case.")
    ] = None,
    mpp: Annotated[
        str | None, typer.Option(help="Micrometres per pixel, or a regular expression for it.")
    ] = None,
    split: Annotated[
        Path | None, typer.Option(help="Table with the columns file and split.")
    ] = None,
    quiet: Quiet = False,
    json: AsJson = False,
) -> None:
    """Make a project of a folder of images with image-level labels."""
    terminal = Terminal(quiet=quiet, as_json=json)
    with terminal.errors():
        request = NewProject(
            folder=project,
            images=images,
            labels=labels,
            classes=class_names(classes),
            schema_file=schema,
            masks=masks,
            case_pattern=case_pattern,
            micrometres_per_pixel=mpp,
            split=split,
        )
        made = terminal.run(new_project(request, now=_now()))
    lines = [
        *made.report.lines(),
        f"Project {made.folder}: {made.training} images to train on, {made.validation} to "
        f"validate on, {made.masks} with a mask.",
        f"Next: protoseg bank {project}",
    ]
    record = {
        "project": made.folder,
        "training": made.training,
        "validation": made.validation,
        "masks": made.masks,
        "report": made.report.model_dump(mode="json"),
    }
    terminal.result("\n".join(lines), record)


@application.command()
def bank(
    context: typer.Context,
    project: ProjectArgument,
    clusters: Annotated[
        str, typer.Option(help="Prototypes of each class: one number, or one for each class.")
    ] = "3",
    members: Annotated[int, typer.Option(min=1, help="Images that make a prototype.")] = 20,
    encoder: Annotated[
        str, typer.Option(help="Encoder: one that `protoseg encoders` lists, or a name of timm.")
    ] = DEFAULT_ENCODER,
    encoder_weights: EncoderWeights = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    device: DeviceName = None,
    quiet: Quiet = False,
    json: AsJson = False,
) -> None:
    """Cluster the images of each class into prototypes."""
    numbers = cluster_numbers(clusters)
    terminal = Terminal(quiet=quiet, as_json=json)
    with terminal.errors(), opened_to_write(terminal, project) as opened:
        request = BankRequest(
            config=BankConfig(clusters=numbers, members=members, seed=seed),
            encoder=encoder,
            encoder_weights=encoder_weights,
        )
        built = terminal.run(
            build_project_bank(opened, request, device=choose_device(device), now=_now())
        )
    if built is None:
        terminal.leave(f"What was encoded is kept; go on with: {again(context)}")
    schema = built.bank.schema
    names = dict(zip(schema.ids, schema.names, strict=True))
    prototypes = built.bank.prototypes
    lines = [f"{names[p.class_id]}: {p.size} images, cohesion {p.cohesion:.2f}" for p in prototypes]
    lines += [f"Bank {built.version}: {built.path}", f"Next: protoseg train {project}"]
    record = {
        "version": built.version,
        "path": built.path,
        "prototypes": [
            {"class": names[p.class_id], "size": p.size, "cohesion": p.cohesion} for p in prototypes
        ],
        "notices": built.bank.notices,
    }
    terminal.result("\n".join(lines), record)


@application.command()
def train(
    context: typer.Context,
    project: ProjectArgument,
    preset: Annotated[
        Preset,
        typer.Option(help="quick: seconds; standard; paper: the released configuration."),
    ] = Preset.STANDARD,
    resume: Annotated[bool, typer.Option(help="Go on with a stopped training.")] = False,
    epochs: Annotated[int | None, typer.Option(min=1)] = None,
    batch_size: Annotated[int | None, typer.Option(min=1)] = None,
    backbone: Annotated[str | None, typer.Option(help="Backbone, such as resnet50.")] = None,
    backbone_weights: Annotated[
        Path | None, typer.Option(help="Weights file of the backbone.")
    ] = None,
    encoder_weights: EncoderWeights = None,
    matching: Annotated[
        Matching | None, typer.Option(help="Way to the features of a pair.")
    ] = None,
    compat: Annotated[Compat | None, typer.Option(help="Form of the losses.")] = None,
    seed: Annotated[int | None, typer.Option(min=0)] = None,
    device: DeviceName = None,
    quiet: Quiet = False,
    json: AsJson = False,
) -> None:
    """Train on the image-level labels and the newest bank."""
    terminal = Terminal(quiet=quiet, as_json=json)
    chosen = {
        "epochs": epochs,
        "batch_size": batch_size,
        "backbone": backbone,
        "matching": matching,
        "compat": compat,
        "seed": seed,
    }
    given = {name: value for name, value in chosen.items() if value is not None}
    if compat is Compat.REFERENCE:
        given = {**RELEASED, **given}
    if resume and (given or backbone_weights or encoder_weights or preset is not Preset.STANDARD):
        raise typer.BadParameter("--resume takes up all options of the stopped training.")
    if preset is Preset.QUICK and backbone_weights is not None:
        raise typer.BadParameter("--preset quick trains no network: it has no backbone.")
    with terminal.errors(), opened_to_write(terminal, project) as opened:
        where = choose_device(device)
        if resume:
            job = resume_training(opened, device=where, now=_now)
        else:
            request = TrainRequest(
                preset=preset,
                config=_training_config(preset, given),
                encoder_weights=encoder_weights,
                backbone_weights=backbone_weights,
            )
            job = train_project(opened, request, device=where, now=_now)
        ended = terminal.run(job)
    next_command = f"protoseg export {project} --format png --out masks"
    tell_ended_round(terminal, context, ended, next_command=next_command)


application.command()(segment)


@application.command()
def predict(
    context: typer.Context,
    project: ProjectArgument,
    out: Out,
    model: Annotated[
        Stage,
        typer.Option(help="prototypes: the trained one; segmentation: of the second stage."),
    ] = Stage.PROTOTYPES,
    images: Annotated[
        Path | None, typer.Option(help="Folder of images; the project's own by default.")
    ] = None,
    labels: Annotated[
        LabelCondition | None,
        typer.Option(
            help="Which classes a mask may use; as the recipe says, else given, "
            "or predicted with --model segmentation."
        ),
    ] = None,
    label_file: Labels = None,
    recipe: Annotated[Path | None, typer.Option(help="Mask recipe, a JSON file.")] = None,
    background: Annotated[
        Background | None, typer.Option(help="Which pixels stay unlabelled.")
    ] = None,
    device: DeviceName = None,
    quiet: Quiet = False,
    json: AsJson = False,
) -> None:
    """Write the masks of images, with the record of how they came about."""
    if label_file is not None and images is None:
        raise typer.BadParameter("--label-file needs --images; the project has its own labels.")
    terminal = Terminal(quiet=quiet, as_json=json)
    with terminal.errors(), opened_to_read(terminal, project) as opened:
        updates = {"labels": labels, "background": background}
        used = _recipe(opened, recipe, model).model_copy(
            update={name: value for name, value in updates.items() if value is not None}
        )
        if label_file is not None and used.labels is not LabelCondition.GIVEN:
            raise typer.BadParameter(
                f"--label-file is for given labels; these masks are made with {used.labels} ones."
            )
        written = terminal.run(
            predict_images(
                opened,
                images,
                out,
                used,
                stage=model,
                label_file=label_file,
                device=choose_device(device),
                now=_now(),
            )
        )
    if written is None:
        terminal.leave(f"Nothing was written; predict again with: {again(context)}")
    terminal.result(
        f"{written.images} masks in {written.folder}",
        {"folder": written.folder, "images": written.images},
    )


@application.command()
def evaluate(
    predictions: Annotated[Path, typer.Option(help="Folder of predicted masks.")],
    masks: Annotated[Path, typer.Option(help="Folder of true masks, with the same names.")],
    classes: Annotated[str, typer.Option(help="Class names, comma separated, in order.")],
    labels: Labels = None,
    mask_codes: Annotated[
        MaskCodes,
        typer.Option(help="Values of the true masks: positions in --classes, or class ids."),
    ] = MaskCodes.ZERO_BASED,
    background: Annotated[
        BackgroundCount, typer.Option(help="Whether true background counts.")
    ] = BackgroundCount.IGNORE,
    json: Annotated[Path | None, typer.Option(help="Write the figures to this file.")] = None,
    quiet: Quiet = False,
) -> None:
    """Compare predicted with true masks, beside two trivial predictions."""
    terminal = Terminal(quiet=quiet)
    with terminal.errors():
        protocol = Protocol(
            labels=ImageLabels.UNSTATED, background=background, mask_codes=mask_codes
        )
        figures = terminal.run(
            evaluate_masks(predictions, masks, class_names(classes) or (), labels, protocol)
        )
        if json is not None:
            write_atomically(json, figures.to_json())
    terminal.result(table(figures), {})
    if terminal.stopped:
        terminal.leave(f"These are the figures of {figures.images} of {figures.images_in_all}.")


@application.command()
def export(
    context: typer.Context,
    project: ProjectArgument,
    out: Annotated[
        Path, typer.Option(help="A new or empty folder; of onnx a folder, or a file .onnx.")
    ],
    format: Annotated[  # noqa: A002
        Exportable,
        typer.Option(help="Masks as png, masks for training, or the segmentation network as onnx."),
    ],
    recipe: Annotated[Path | None, typer.Option(help="Mask recipe, a JSON file.")] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier export in --out.")
    ] = False,
    device: DeviceName = None,
    quiet: Quiet = False,
    json: AsJson = False,
) -> None:
    """Write the masks of the project's images, or the network that segments without labels."""
    terminal = Terminal(quiet=quiet, as_json=json)
    if format is Exportable.ONNX:
        if recipe is not None:
            raise typer.BadParameter("--recipe is of masks; a network has none.")
        write_network(terminal, project, out, overwrite=overwrite)
        return
    with terminal.errors(), opened_to_read(terminal, project) as opened:
        written = terminal.run(
            export_project(
                opened,
                ExportFormat(format.value),
                out,
                _recipe(opened, recipe),
                overwrite=overwrite,
                device=choose_device(device),
                now=_now(),
            )
        )
    if written is None:
        terminal.leave(f"The masks made so far are kept; go on with: {again(context)}")
    terminal.result(
        f"{written.images} masks in {written.folder}",
        {"folder": written.folder, "images": written.images},
    )


@application.command()
def info(
    project: Annotated[
        Path | None, typer.Argument(help="Project folder.", metavar="[PROJECT]")
    ] = None,
    quiet: Quiet = False,
    json: AsJson = False,
) -> None:
    """Say what is installed here, and what a project holds."""
    terminal = Terminal(quiet=quiet, as_json=json)
    with terminal.errors():
        record = describe_program(__version__)
        if project is not None:
            with opened_to_read(terminal, project) as opened:
                record |= describe_project(opened)
    lines = [f"{name}: {_spoken(value)}" for name, value in record.items()]
    terminal.result("\n".join(lines), record)


@application.command()
def encoders(quiet: Quiet = False, json: AsJson = False) -> None:
    """List the known encoders: sizes, licences, and where their weights are to be had."""
    known = describe_encoders()
    Terminal(quiet=quiet, as_json=json).result(encoder_table(known), {"encoders": known})


@application.command()
def demo(
    out: Annotated[Path, typer.Option(help="A new or empty folder.")] = Path("demo"),
    data: Annotated[
        Path | None, typer.Option(help="Folder of sample data; made here by default.")
    ] = None,
    generator_seed: Annotated[
        int | None, typer.Option(min=0, help="Seed of sample data to make.")
    ] = None,
    compare: Annotated[bool, typer.Option(help="Also train a plain class activation map.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of bank and training.")] = 0,
    device: DeviceName = None,
    quiet: Quiet = False,
    json: AsJson = False,
) -> None:
    """Run the main job on the sample data, and show what came of it."""
    if data is not None and generator_seed is not None:
        raise typer.BadParameter("--generator-seed is of data to make; --data names what is there.")
    terminal = Terminal(quiet=quiet, as_json=json)
    with terminal.errors():
        request = DemoRequest(
            out=out, data=data, generator_seed=generator_seed, compare=compare, seed=seed
        )
        shown = terminal.run(run_demo(request, device=choose_device(device), now=_now))
    if shown is None:
        terminal.leave(
            f"A training that had begun goes on with: protoseg train {out / 'project'} --resume. "
            "To begin anew, choose another --out."
        )
    terminal.result(shown.text(), shown.record())


def _spoken(value: object) -> object:
    """Return what a person reads of a value: of a list or a mapping its items, a line each."""
    if value is None:
        return "none"
    if isinstance(value, dict):
        value = [f"{name}: {of}" for name, of in value.items()]
    if isinstance(value, list):
        return "".join(f"\n  {item}" for item in value) or "nothing"
    return value


def _training_config(preset: Preset, given: dict[str, Any]) -> TrainingConfig:
    """Return the configuration of a preset with what was given instead."""
    if preset is Preset.QUICK and set(given) - {"seed"}:
        raise typer.BadParameter("--preset quick trains no network: it takes --seed alone.")
    try:
        return TrainingConfig.model_validate(PRESETS[preset].model_dump() | given)
    except ValidationError as error:
        raise typer.BadParameter(said(error)) from error


def _recipe(project: Project, file: Path | None, stage: Stage = Stage.PROTOTYPES) -> Recipe:
    """Return the recipe in a file as it stands; without one, that of the project as it is now."""
    if file is not None:
        return Recipe.read(file)
    if stage is Stage.SEGMENTATION:
        return SEGMENTATION
    return with_muted_of_project(project, recipe_of(project))
