"""What leases are seen by. Every hit that was taken was used, given back, has expired, was lost, or is held."""

from __future__ import annotations

from mixer_py.instruments import Registry


class LeaseMetrics:
    """The cells, looked up once.

    Attributes:
        granted: times that more hits were taken.
        refused: times that fewer were left.
        failed: times that the store did not answer.
        no_room: counters that got no lease because too many have one.
        taken: hits charged ahead.
        used: those that answered a charge.
        given_back: those that went back.
        expired: those that were over before they were used, and could not go back.
        lost: those whose return the store did not confirm.
        answered_here: charges met from what was held.
        answered_by_store: charges that the shared store was asked for.
        counters: of which hits are held now.
    """

    def __init__(self, registry: Registry) -> None:
        """Declares `mixer_leases_total`, `mixer_leased_hits_total`, `mixer_lease_answers_total`, `mixer_leases`."""
        leases = registry.counter("mixer_leases_total", "Times that hits were to be taken ahead.", ("outcome",))
        hits = registry.counter("mixer_leased_hits_total", "Hits taken ahead, and what became of them.", ("fate",))
        answers = registry.counter("mixer_lease_answers_total", "Charges by what they were met from.", ("source",))
        self.granted = leases.labels("granted")
        self.refused = leases.labels("refused")
        self.failed = leases.labels("failed")
        self.no_room = leases.labels("no_room")
        self.taken = hits.labels("taken")
        self.used = hits.labels("used")
        self.given_back = hits.labels("given_back")
        self.expired = hits.labels("expired")
        self.lost = hits.labels("lost")
        self.answered_here = answers.labels("lease")
        self.answered_by_store = answers.labels("store")
        self.counters = registry.gauge("mixer_leases", "Counters of which hits are held.").labels()
