"""Find out what is wrong here: `mixer doctor`. Every examination looks at real things and changes none of them.

Not for: what stands in the configuration's files alone, which is `mixer validate`.
"""
