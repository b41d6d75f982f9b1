"""The table of pathology encoders: how each is built, fed, and licensed, and where it is had.

All are vision transformers of timm. None is shipped or downloaded: a person gets the weights file
from its publisher, who names its tensors in one of the ways that `tensor_names` reads.

Sources: the model cards, configurations and code of the publishers, and Trident
(github.com/mahmoodlab/TRIDENT) for the magnification, 20x, which is 0.5 micrometres per pixel.
"""

from __future__ import annotations

from collections.abc import Mapping

from napari_protoseg.encoders.records import KnownModel, Publication, permissive, restricted

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)
_CLASS_TOKEN = "class token"

PATHOLOGY_ENCODERS: Mapping[str, KnownModel] = {
    "hibou-b": KnownModel(
        permissive("Apache-2.0", "HistAI"),
        architecture="vit_base_patch14_reg4_dinov2",
        # Of SwiGLU with 2048 channels: gate and value of 4096 for 768.
        arguments={"img_size": 224, "init_values": 1e-5, "mlp_ratio": 5.33334},
        gated_mlp=True,
        mean=(0.7068, 0.5755, 0.722),
        std=(0.195, 0.2316, 0.1816),
        publication=Publication(
            title="Hibou-B",
            page="huggingface.co/histai/hibou-b",
            file="model.safetensors",
            gated=False,
            parameters=86,
            side=224,
            patch=14,
            width=768,
            prefix_tokens=5,
            micrometres_per_pixel=0.5,
            embedding=_CLASS_TOKEN,
        ),
    ),
    "h-optimus-0": KnownModel(
        permissive("Apache-2.0", "Bioptimus"),
        architecture="vit_giant_patch14_reg4_dinov2",
        arguments={"img_size": 224, "init_values": 1e-5},
        mean=(0.707223, 0.578729, 0.703617),
        std=(0.211883, 0.230117, 0.177517),
        publication=Publication(
            title="H-optimus-0",
            page="huggingface.co/bioptimus/H-optimus-0",
            file="pytorch_model.bin",
            gated=True,
            parameters=1135,
            side=224,
            patch=14,
            width=1536,
            prefix_tokens=5,
            micrometres_per_pixel=0.5,
            embedding=_CLASS_TOKEN,
        ),
    ),
    "uni": KnownModel(
        restricted("CC-BY-NC-ND-4.0, gated", "Mahmood Lab"),
        architecture="vit_large_patch16_224",
        arguments={"img_size": 224, "init_values": 1e-5},
        mean=_IMAGENET_MEAN,
        std=_IMAGENET_STD,
        publication=Publication(
            title="UNI",
            page="huggingface.co/MahmoodLab/UNI",
            file="pytorch_model.bin",
            gated=True,
            parameters=303,
            side=224,
            patch=16,
            width=1024,
            prefix_tokens=1,
            micrometres_per_pixel=0.5,
            embedding=_CLASS_TOKEN,
        ),
    ),
    "conch": KnownModel(
        restricted("CC-BY-NC-ND-4.0, gated", "Mahmood Lab"),
        architecture="vit_base_patch16_224",
        arguments={"img_size": 448},
        # OpenAI's, of CLIP.
        mean=(0.48145466, 0.4578275, 0.40821073),
        std=(0.26862954, 0.26130258, 0.27577711),
        publication=Publication(
            title="CONCH",
            page="huggingface.co/MahmoodLab/CONCH",
            file="pytorch_model.bin",
            gated=True,
            parameters=86,
            side=448,
            patch=16,
            width=768,
            prefix_tokens=1,
            micrometres_per_pixel=0.5,
            embedding="pooled by attention; that layer is not read",
        ),
    ),
    "phikon": KnownModel(
        restricted("Owkin non-commercial licence", "Owkin"),
        architecture="vit_base_patch16_224",
        arguments={"img_size": 224},
        norm_epsilon=1e-12,
        mean=_IMAGENET_MEAN,
        std=_IMAGENET_STD,
        publication=Publication(
            title="Phikon",
            page="huggingface.co/owkin/phikon",
            file="model.safetensors or pytorch_model.bin",
            gated=False,
            parameters=86,
            side=224,
            patch=16,
            width=768,
            prefix_tokens=1,
            micrometres_per_pixel=0.5,
            embedding=_CLASS_TOKEN,
        ),
    ),
    "virchow2": KnownModel(
        restricted("CC-BY-NC-ND-4.0, gated", "Paige"),
        architecture="vit_huge_patch14_224",
        arguments={"img_size": 224, "init_values": 1e-5, "reg_tokens": 4, "mlp_ratio": 5.3375},
        gated_mlp=True,
        mean=_IMAGENET_MEAN,
        std=_IMAGENET_STD,
        publication=Publication(
            title="Virchow2",
            page="huggingface.co/paige-ai/Virchow2",
            file="model.safetensors or pytorch_model.bin",
            gated=True,
            parameters=631,
            side=224,
            patch=14,
            width=1280,
            prefix_tokens=5,
            micrometres_per_pixel=0.5,
            embedding="class token and mean of the patches' tokens, joined",
        ),
    ),
}
