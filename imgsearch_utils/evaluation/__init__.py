"""In: a run's models, and who judges results: grades, classes or an oracle. Out: how well each
ranks the images, with examples, and baselines that need no network.
"""
