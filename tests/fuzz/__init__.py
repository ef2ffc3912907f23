"""A seeded fuzzer of every reader: ``python -m tests.fuzz --inputs 20000 --seed 1``.

An input is a file or folder that is made from a small valid one by structure-aware mutation. Input ``index`` of a seed
is the same on every machine, whatever the order and the number of processes.
"""
