"""In: pictures or vectors in shards (tar, Parquet, a saved data set). Out: a folder of pictures, or
a .npy, with a labels.csv.

A wing: the core finds its command by entry point.
"""
