"""Things by name: encoders, heads, indexes, losses, oracles, strategies."""

from importlib.metadata import entry_points

from imgsearch_utils.study import nearest


class Registry(dict):
    """Names -> things. ``@registry.register("name")`` adds one; ``registry.find("name")`` returns
    it or refuses.

    Packages outside the core add things too: their modules, which register on import, are named in
    pyproject.toml as entry points of the group ``imgsearch_utils.<wings>``. They are imported when
    a name is asked for that is not known yet, or by ``load_wings``.
    """

    def __init__(self, kind: str, wings: str = ""):
        super().__init__()
        self.kind, self.wings = kind, wings

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

    def load_wings(self) -> None:
        """Import what other packages add."""
        group, self.wings = self.wings, ""
        if group:
            for entry_point in entry_points(group=f"imgsearch_utils.{group}"):
                entry_point.load()

    def find(self, name: str):
        """Return what is registered under `name`; ValueError with the nearest name otherwise."""
        if name not in self:
            self.load_wings()
        if name not in self:
            raise ValueError(f"no {self.kind} is called {name}. {nearest(name, self)}")
        return self[name]
