"""Accelerate: two lines, the import and the tracker. Random pictures stand for yours.

Start a server first (``concept-monitor up``), or don't: without one the training goes on with a single warning.
"""

import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader, TensorDataset

from cm_client.examples.resnet8 import ResNet8
from cm_client.integrations.accelerate import ConceptMonitorTracker


def main() -> None:
    """Train for one epoch, watched."""
    model = ResNet8(classes=10)
    accelerator = Accelerator(log_with=ConceptMonitorTracker(model, probe_size=128))
    accelerator.init_trackers("example", config={"lr": 0.05})
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    data = DataLoader(TensorDataset(torch.rand(320, 3, 32, 32), torch.randint(0, 10, (320,))), batch_size=32)
    model, optimiser, data = accelerator.prepare(model, optimiser, data)
    for step, (pictures, labels) in enumerate(data, start=1):
        loss = torch.nn.functional.cross_entropy(model(pictures), labels)
        optimiser.zero_grad()
        accelerator.backward(loss)
        optimiser.step()
        accelerator.log({"loss": loss.item()}, step=step)
    accelerator.end_training()


if __name__ == "__main__":
    main()
