"""What the benchmarks of whole detectors share: workloads, models, and a process for each model.

Every measured model lives in a process of its own (:mod:`worker`), so that its peak memory is its
own and that models of two hosts, or of two Python installations, can be measured in turn
(:mod:`driver`).
"""
