"""Lightning: two lines, the import and the callback. Random pictures stand for yours.

Start a server first (``concept-monitor up``), or don't: without one the training goes on with a single warning.
"""

import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader, TensorDataset

from cm_client.examples.resnet8 import ResNet8
from cm_client.integrations.lightning import ConceptMonitorCallback


class Classifier(pl.LightningModule):
    """An ordinary LightningModule; nothing in it knows of the monitor."""

    def __init__(self) -> None:
        super().__init__()
        self.model = ResNet8(classes=10)

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
        """One batch: pictures and labels."""
        loss = torch.nn.functional.cross_entropy(self.model(batch[0]), batch[1])
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """SGD."""
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)


def main() -> None:
    """Fit for one epoch, watched."""
    data = DataLoader(TensorDataset(torch.rand(320, 3, 32, 32), torch.randint(0, 10, (320,))), batch_size=32)
    trainer = pl.Trainer(
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        log_every_n_steps=1,
        callbacks=[ConceptMonitorCallback(probe_size=128)],
    )
    trainer.fit(Classifier(), data)


if __name__ == "__main__":
    main()
