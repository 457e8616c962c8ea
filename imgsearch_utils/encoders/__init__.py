"""In: pictures. Out: one vector an image by a frozen encoder, kept with what made it.

Encoders by name, the back ends that their networks run on, and the vectors of a whole collection.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs={"encoder": ["Encoder"]})
