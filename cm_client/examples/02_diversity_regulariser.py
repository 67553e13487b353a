"""Training towards neurons that cover more concepts: the paper's Eq. 3–4 as one more term of the loss.

Once, before any training (no encoder runs in the loop):

    concept-monitor embed generated --out image-embeddings

then ``python 02_diversity_regulariser.py image-embeddings``. The words come out of the same folder; with a server
running, ``text_embeddings()`` asks it instead. Watching is independent of the term, and shows what it does.
"""

import sys
from pathlib import Path

import torch

import cm_client
from cm_client.examples.demo_data import load_demo_data
from cm_client.examples.resnet8 import ResNet8
from cm_client.regularizer import ConceptDiversity, ImageEmbeddings, LayerOutput, text_embeddings

STEPS = 30
# T must suit the encoder: the server's own choice is in its reports. The paper's 0.01 is for CLIP and cos_cubed.
TEMPERATURE = 0.1


def main(folder: str = "image-embeddings") -> None:
    """Train a small network for a few steps, with the term."""
    if not Path(folder, "index.json").exists():
        sys.exit(f"no embeddings in {folder!r}: run `concept-monitor embed generated --out {folder}` first")
    words = text_embeddings(path=folder)
    embeddings = ImageEmbeddings(folder, words)

    torch.manual_seed(0)
    data = load_demo_data("generated")
    pictures = torch.tensor(data.images).permute(0, 3, 1, 2).float() / 255
    labels = torch.tensor(data.labels)
    model = ResNet8(classes=len(data.class_names))
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)

    diversity = ConceptDiversity(words, temperature=TEMPERATURE)
    layer4 = LayerOutput(model, "layer4")
    monitor = cm_client.watch(model)

    for step in range(STEPS):
        ids = torch.randint(len(embeddings), (64,))
        loss = torch.nn.functional.cross_entropy(model(pictures[ids]), labels[ids])
        term = diversity(layer4.take(), embeddings[ids])
        optimiser.zero_grad()
        (loss + term).backward()
        optimiser.step()
        monitor.log(loss=loss, diversity_term=term)
        if step % 10 == 0:
            print(f"step {step:3d}  loss {float(loss.detach()):.3f}  d_anchor of the batch {float(term.detach()):.3f}")
    monitor.finish()


if __name__ == "__main__":
    main(*sys.argv[1:2])
