"""In: a run. Out: what notebooks 01 to 05 do, a module each, and the pipeline that runs them one
after another.
"""
