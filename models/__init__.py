"""ConvMixer and ViT classifiers whose patch embedding accepts encrypted images."""

# Imported for their names in timm's registry: timm.create_model("etc_convmixer_256_8_p4", ...).
from etc_data.models import adaptive_convmixer as _adaptive_convmixer  # noqa: F401
from etc_data.models import blockset as _blockset  # noqa: F401
from etc_data.models import convmixer as _convmixer  # noqa: F401
from etc_data.models import ele_adaptation as _ele_adaptation  # noqa: F401
from etc_data.models import le_adaptation as _le_adaptation  # noqa: F401
from etc_data.models import pyramidnet as _pyramidnet  # noqa: F401
from etc_data.models import small_resnet as _small_resnet  # noqa: F401
from etc_data.models import vit as _vit  # noqa: F401
from etc_data.models.encrypted_files import (
    load_encrypted_model,
    read_model_info,
    save_encrypted_model,
)
from etc_data.models.model_encryption import decrypt_model, encrypt_model
from etc_data.models.penalties import penalty
from etc_data.models.permutation_report import report_permutation
from etc_data.models.public_facts import ModelInfo, check_same_key, model_info

__all__ = [
    "ModelInfo",
    "check_same_key",
    "decrypt_model",
    "encrypt_model",
    "load_encrypted_model",
    "model_info",
    "penalty",
    "read_model_info",
    "report_permutation",
    "save_encrypted_model",
]
