"""Things by name: encoders, heads, indexes, losses, oracles, strategies."""

from imgsearch_utils.study import nearest


class Registry(dict):
    """Names -> things. ``@registry.register("name")`` adds one; ``registry.find("name")`` returns
    it or refuses.
    """

    def __init__(self, kind: str):
        super().__init__()
        self.kind = kind

    def register(self, name: str):
        """Return a decorator that stores what it decorates under `name`; a name given twice raises
        ValueError.
        """

        def add(thing):
            if name in self:
                raise ValueError(
                    f"the {self.kind} {name} is registered already; choose another name"
                )
            self[name] = thing
            return thing

        return add

    def find(self, name: str):
        """Return what is registered under `name`; ValueError with the nearest name otherwise."""
        if name not in self:
            raise ValueError(f"no {self.kind} is called {name}. {nearest(name, self)}")
        return self[name]
