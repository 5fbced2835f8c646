"""Benchmarks: each file measures one thing and writes rows; `tables.py` puts them into READMEs."""
