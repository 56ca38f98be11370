"""Networks on the Hugging Face hub; needs ``huggingface_hub`` (the extra ``hub``).

The mixin's own loader is not used: a folder holds one file of :func:`pdegcnn.save`, and nothing is unpickled.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from pdegcnn._typing import Device
from pdegcnn.io import load, save

try:
    from huggingface_hub import ModelHubMixin, hf_hub_download
except ImportError as error:
    raise ImportError(f"pdegcnn.io.hub needs huggingface_hub: pip install 'pdegcnn[hub]' ({error})") from error

FILE = "model.safetensors"


class HubModel(nn.Module, ModelHubMixin, library_name="pdegcnn"):
    """A network of :mod:`pdegcnn.models` with ``save_pretrained``, ``from_pretrained`` and ``push_to_hub``.

    Args:
        model: the network.

    Raises:
        TypeError: if ``model`` is not an ``nn.Module``.
    """

    def __init__(self, model: nn.Module) -> None:
        if not isinstance(model, nn.Module):
            raise TypeError(f"model: expected a torch.nn.Module, got {type(model).__name__}")
        super().__init__()
        self.model = model

    def forward(self, *inputs: Any) -> Any:
        """Return what the network gives."""
        return self.model(*inputs)

    def _save_pretrained(self, save_directory: Path) -> None:
        save(self.model, Path(save_directory) / FILE)

    @classmethod
    def _from_pretrained(cls, *, model_id: str, map_location: Device = None, **options: Any) -> HubModel:
        folder = Path(model_id)
        if folder.is_dir():
            return cls(load(folder / FILE, map_location))
        wanted = ("revision", "cache_dir", "force_download", "token", "local_files_only")
        found = hf_hub_download(model_id, FILE, **{k: options[k] for k in wanted if k in options})
        return cls(load(found, map_location))
