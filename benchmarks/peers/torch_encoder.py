"""The same work in PyTorch with transformers: embedding batches, and steps of fine-tuning."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModel

# One side of the whole pipeline imports nothing of ours.
if TYPE_CHECKING:
    from tsds_jax.encoders.tokens import Batch


def on_cores(threads: int) -> None:
    """Let PyTorch use so many threads, as XLA does by itself."""
    torch.set_num_threads(threads)


def load(folder: Path | str) -> torch.nn.Module:
    """The encoder of a Hugging Face folder, ready to embed."""
    return AutoModel.from_pretrained(str(folder), attn_implementation="sdpa").eval()


def with_weights(settings: dict[str, Any], weights: dict[str, np.ndarray]) -> torch.nn.Module:
    """An encoder of these settings without its pooler, with all weights given by their names, ready to embed."""
    config = AutoConfig.for_model(**settings)
    model = AutoModel.from_config(config, attn_implementation="sdpa", add_pooling_layer=False)
    # Copies: PyTorch warns of arrays that may not be written to.
    model.load_state_dict({name: torch.from_numpy(np.array(weight)) for name, weight in weights.items()})
    return model.eval()


def tensors(batch: "Batch", device: str = "cpu") -> dict[str, torch.Tensor]:
    """A batch as the model's arguments."""
    return {name: torch.from_numpy(array).long().to(device) for name, array in batch._asdict().items()}


def mean_pooled(model: Callable[..., Any], given: dict[str, torch.Tensor]) -> torch.Tensor:
    """The mean of the last hidden states over what is no padding: [rows, width]."""
    hidden = model(**given).last_hidden_state
    weights = given["attention_mask"][..., None].to(hidden.dtype)
    return (hidden * weights).sum(1) / weights.sum(1).clamp(min=1)


def embed(model: torch.nn.Module, batches: "Iterable[Batch]") -> list[np.ndarray]:
    """Vectors of each batch, float32 [rows, width]."""
    with torch.inference_mode():
        return [mean_pooled(model, tensors(batch)).numpy() for batch in batches]


def product(left: np.ndarray, right: np.ndarray) -> Callable[[], torch.Tensor]:
    """The product of two matrices, to be called."""
    one, other = torch.from_numpy(left), torch.from_numpy(right)
    return lambda: one @ other


class Training(torch.nn.Module):
    """An encoder, mean pooling, dropout and a linear head, and AdamW behind clipping: what a step needs.

    As in ours, biases and norms do not decay.
    """

    def __init__(self, folder: Path | str, classes: int, rate: float, decay: float, clip: float) -> None:
        """Load the encoder; the head is drawn from N(0, 0.02), with zero biases."""
        super().__init__()
        self.encoder = load(folder)
        # Its pooler is of no use, and would get no gradient.
        self.encoder.pooler = None
        self.dropout = torch.nn.Dropout(self.encoder.config.hidden_dropout_prob)
        self.head = torch.nn.Linear(self.encoder.config.hidden_size, classes)
        torch.nn.init.normal_(self.head.weight, std=0.02)
        torch.nn.init.zeros_(self.head.bias)
        self.train()
        weights = list(self.parameters())
        self.clip = clip
        self.optimizer = torch.optim.AdamW(
            [
                {"params": [one for one in weights if one.ndim > 1], "weight_decay": decay},
                {"params": [one for one in weights if one.ndim == 1], "weight_decay": 0.0},
            ],
            lr=rate,
        )

    def take_head(self, kernel: np.ndarray, bias: np.ndarray) -> None:
        """Have this head: a map ``[width, classes]`` and its bias."""
        with torch.no_grad():
            self.head.weight.copy_(torch.from_numpy(kernel.T.copy()))
            self.head.bias.copy_(torch.from_numpy(bias.copy()))

    def step(self, batch: "Batch", labels: np.ndarray) -> float:
        """One step; its loss."""
        logits = self.head(self.dropout(mean_pooled(self.encoder, tensors(batch))))
        loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels).long())
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters(), self.clip)
        self.optimizer.step()
        return loss.item()
