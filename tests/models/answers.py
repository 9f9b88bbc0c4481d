"""From the outputs of a model to an answer that people can check."""

import numpy as np


def top_k(probabilities, k):
    """Indices of the largest values, largest first."""
    return [int(i) for i in np.argsort(probabilities, kind="stable")[::-1][:k]]


def ctc_text(probabilities, alphabet):
    """Greedy CTC (Graves et al. 2006): the best class of each step, repeats merged, blanks (class 0) dropped."""
    text, last = [], 0
    for index in probabilities.argmax(-1):
        if index not in (0, last):
            text.append(alphabet[index - 1])
        last = index
    return "".join(text)


def yolox_boxes(rows, extent=416, strides=(8, 16, 32), at_least=0.1, overlap=0.45):
    """Boxes and scores, best first, of [cells, 6] rows (x, y, w, h, objectness, class), after non-maximum suppression.

    Ge et al. 2021: the centre is an offset from the cell, in cells; the extents are exponentials, in cells.
    """
    cells, scale = [], []
    for stride in strides:
        n = extent // stride
        y, x = np.mgrid[:n, :n]
        cells.append(np.stack([x, y], -1).reshape(-1, 2))
        scale.append(np.full((n * n, 1), stride))
    cells, scale = np.concatenate(cells), np.concatenate(scale)
    centre, size = (rows[:, :2] + cells) * scale, np.exp(rows[:, 2:4]) * scale
    boxes, scores = np.concatenate([centre - size / 2, centre + size / 2], 1), rows[:, 4] * rows[:, 5]
    kept = []
    for i in np.argsort(scores)[::-1]:
        if scores[i] < at_least:
            break
        if all(_iou(boxes[i], boxes[j]) < overlap for j in kept):
            kept.append(i)
    return [(boxes[i].tolist(), float(scores[i])) for i in kept]


def _iou(a, b):
    inner = np.prod(np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0))
    return inner / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - inner)


def best_face(scores, boxes, cells=16, anchors=2, extent=128):
    """Score and centre (as fractions of the picture) of the best anchor of BlazeFace's first layer.

    Bazarevsky et al. 2019: two anchors a cell of a 16 x 16 grid; offsets are in pixels of the 128 x 128 input.
    """
    scores, boxes = scores.reshape(-1), boxes.reshape(-1, boxes.shape[-1])
    best = int(scores.argmax())
    row, column = divmod(best // anchors, cells)
    centre = [(c + 0.5) / cells + boxes[best, i] / extent for i, c in enumerate((column, row))]
    return float(1 / (1 + np.exp(-scores[best]))), [float(c) for c in centre]


def psnr(a, b):
    """Peak signal-to-noise ratio in dB of two 8-bit pictures."""
    error = np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2)
    return float(10 * np.log10(255.0 ** 2 / error)) if error else float("inf")
