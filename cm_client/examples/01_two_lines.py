"""The shortest example: a model, a loop, and the two lines that watch it. Runs in seconds on drawn pictures.

Start a server first (``concept-monitor up``), or don't: without one the training goes on with a single warning.
"""

import torch

import cm_client
from cm_client.examples.demo_data import load_demo_data
from cm_client.examples.resnet8 import ResNet8

STEPS = 30


def main() -> None:
    """Train a small network for a few steps, watched."""
    torch.manual_seed(0)
    data = load_demo_data("generated")
    pictures = torch.tensor(data.images).permute(0, 3, 1, 2).float() / 255
    labels = torch.tensor(data.labels)
    model = ResNet8(classes=len(data.class_names))
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)

    monitor = cm_client.watch(model)

    for start in range(0, 64 * STEPS, 64):
        loss = torch.nn.functional.cross_entropy(model(pictures[start : start + 64]), labels[start : start + 64])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        monitor.log(loss=float(loss.detach()))
        if start % 640 == 0:
            print(f"step {start // 64:3d}  loss {float(loss.detach()):.3f}")
    monitor.finish()


if __name__ == "__main__":
    main()
