"""What was measured, and what may be concluded from it."""

import statistics
from dataclasses import dataclass, field

# Results further than this from the reference, relative to its largest value, are wrong: no ratio is reported. In 32-bit
# floats, Winograd's convolutions come to 6e-4 on deep networks.
ERROR_MOST = 1e-3


@dataclass
class Engine:
    """One engine on one model: the median of every turn in milliseconds, or why there is none."""

    failed: str | None = None
    rounds: list = field(default_factory=list)
    error: float | None = None
    version: str | None = None
    prepare_s: float | None = None
    load_ms: float | None = None
    peak_bytes: int | None = None

    def ms(self):
        """The median over the turns."""
        return statistics.median(self.rounds) if self.rounds else None

    def spread(self):
        """Half the distance between the quartiles of the turns, relative to the median."""
        if len(self.rounds) < 4:
            return None
        low, _, high = statistics.quantiles(self.rounds, n=4)
        return (high - low) / 2 / self.ms()

    def counts(self):
        """Whether it ran and its results are right. A NaN is not."""
        return bool(self.rounds) and self.error is not None and self.error <= ERROR_MOST


@dataclass
class Measurement:
    """One model with a number of threads. `engines` holds Kiln first, then its peers."""

    model: str
    threads: int
    batch: int
    macs: int | None
    engines: dict
    # What no engine can be faster than at the peaks of this machine, where they are known.
    limit_ms: float | None = None

    def best_peer(self):
        """The fastest peer whose results are right."""
        peers = {n: e for n, e in self.engines.items() if n != "kiln" and e.counts()}
        return min(peers, key=lambda n: peers[n].ms()) if peers else None

    def ratio(self, peer=None):
        """Kiln's time over that of a peer, the best if none is named; below 1 Kiln is faster. None where either gives
        wrong results or none."""
        peer = peer or self.best_peer()
        if peer is None or not self.engines["kiln"].counts() or not self.engines[peer].counts():
            return None
        return self.engines["kiln"].ms() / self.engines[peer].ms()

    def share_of_limit(self):
        """How much of Kiln's time the limit is."""
        kiln = self.engines["kiln"]
        return self.limit_ms / kiln.ms() if self.limit_ms and kiln.counts() else None

    def summary(self):
        """For machines: what the report says."""
        return {"ms": {n: e.ms() for n, e in self.engines.items()}, "best_peer": self.best_peer(), "ratio": self.ratio()}
