"""Hugging Face's Trainer: two lines, the import and the callback. Random pictures stand for yours.

Start a server first (``concept-monitor up``), or don't: without one the training goes on with a single warning.
"""

import tempfile

import torch
from transformers import Trainer, TrainingArguments, ViTConfig, ViTForImageClassification

from cm_client.integrations.hf_trainer import ConceptMonitorCallback


class Pictures(torch.utils.data.Dataset):
    """What the Trainer takes: dictionaries with ``pixel_values`` and ``labels``."""

    def __len__(self) -> int:
        return 160

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        generator = torch.Generator().manual_seed(index)
        return {"pixel_values": torch.rand(3, 32, 32, generator=generator), "labels": torch.tensor(index % 10)}


def main() -> None:
    """Train a small ViT for one epoch, watched."""
    config = ViTConfig(
        image_size=32, patch_size=8, hidden_size=64, num_hidden_layers=4, num_attention_heads=4, intermediate_size=128
    )
    config.num_labels = 10
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            num_train_epochs=1,
            per_device_train_batch_size=16,
            logging_steps=1,
            save_strategy="no",
            report_to=[],
        )
        trainer = Trainer(
            ViTForImageClassification(config),
            arguments,
            train_dataset=Pictures(),
            callbacks=[ConceptMonitorCallback(probe_size=64)],
        )
        trainer.train()


if __name__ == "__main__":
    main()
