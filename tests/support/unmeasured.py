"""A worker's contender that can't be measured."""

from benchmarks.support.workers import Built, NotMeasured, Sample


def build() -> Built:
    def refuse(repeat: int) -> Sample:
        raise NotMeasured("too slow")

    return Built({"b": refuse}, {})
