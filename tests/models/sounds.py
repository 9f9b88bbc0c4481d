"""A synthetic voice: pulses at the pitch of a voice through the resonances of a mouth (Fant 1960).

It stands in for recorded speech: a voice-activity detector takes it for one, and it needs no file.
"""

import numpy as np

RATE = 16_000
# Frequency and bandwidth in Hz of the first three formants (Peterson and Barney 1952, averages of men).
VOWELS = {"a": ((730, 90), (1090, 110), (2440, 160)), "i": ((270, 60), (2290, 100), (3010, 150)),
          "u": ((300, 60), (870, 90), (2240, 140))}


def vowel(name, pitch, seconds):
    """A vowel of peak 1, its pitch wavering by 2 %."""
    time = np.arange(int(seconds * RATE)) / RATE
    phase = np.cumsum(pitch * (1 + 0.02 * np.sin(2 * np.pi * 4 * time))) / RATE
    signal = np.diff(np.floor(phase), prepend=0.0)
    for frequency, bandwidth in VOWELS[name]:
        signal = _resonator(signal, frequency, bandwidth)
    return signal / np.abs(signal).max()


def _resonator(signal, frequency, bandwidth):
    radius = np.exp(-np.pi * bandwidth / RATE)
    a1, a2 = 2 * radius * np.cos(2 * np.pi * frequency / RATE), -radius * radius
    out, last, before = np.empty_like(signal), 0.0, 0.0
    for i, value in enumerate(signal):
        last, before = value + a1 * last + a2 * before, last
        out[i] = last
    return out


def voice_between_silences():
    """A quarter of a second of silence, three vowels, silence."""
    vowels = [0.3 * vowel(n, p, 0.2) for n, p in (("a", 120), ("i", 130), ("u", 115))]
    return np.concatenate([np.zeros(4000), *vowels, np.zeros(3000)]).astype(np.float32)


def frames(signal, step=512, context=64):
    """[T, 576]: each 512 new samples after the 64 before them."""
    padded = np.pad(signal, (context, 0))
    return np.stack([padded[k * step:k * step + step + context] for k in range(len(signal) // step)])
