"""Benchmarks: ratios of paired runs against bare baselines on the same server stack.

`python -m benchmarks` (`make bench`) prints a table and writes benchmarks/RESULTS.md. Absolute
figures say little about another machine; ratios of runs that alternate say a lot. So each figure
is the median of at least five pairs, a run of ours beside a run of the baseline. Server, baselines,
upstream and client are processes of their own, and a figure is void when the client or the
upstream was the bottleneck.
"""
